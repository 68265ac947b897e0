//! Stores, snapshots and archives through the command line.

use std::fs;

use super::{User, json, packfiles};

/// A user with a small tree in `src`.
fn user() -> User {
    let user = User::new();
    let src = user.home().join("src");
    fs::create_dir_all(src.join("sub/deep")).unwrap();
    fs::write(src.join("hello"), "hello\n").unwrap();
    fs::write(src.join("empty"), "").unwrap();
    fs::write(src.join("sub/big"), (0..400_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    fs::write(src.join("sub/deep/odd \x1b name"), "odd").unwrap();
    std::os::unix::fs::symlink("hello", src.join("link")).unwrap();
    user
}

#[test]
fn a_backup_is_listed_read_and_checked() {
    let mut user = user();
    user.set("PLAKAR_TAGS", "always");
    let created = user.ok("at ./store create -plaintext");
    assert_eq!(created, "created a plaintext store at ./store (native profile)\n");
    let told = user.ok("at ./store backup -tag nightly,x -name mine -job j src");
    assert!(told.starts_with("snapshot ") && told.contains("4 files"), "{told}");
    let again = user.ok("at ./store backup src");
    assert!(again.contains("(4 unchanged)"), "{again}");

    let list = json(&user.ok("-json at store ls"));
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["tags"], serde_json::json!(["nightly", "x", "always"]));
    assert_eq!((list[0]["name"].as_str(), list[0]["job"].as_str()), (Some("mine"), Some("j")));
    assert_eq!(
        list[0]["sources"][0]["root"],
        user.home().canonicalize().unwrap().join("src").to_str().unwrap()
    );
    assert_eq!(json(&user.ok("-json at store ls -tag nightly")), list[..1]);
    assert_eq!(json(&user.ok("-json at store ls -tag !nightly")), list[1..]);
    assert_eq!(json(&user.ok("-json at store ls -latest")), list[1..]);
    assert_eq!(user.ok("at store ls -before 1d"), "");
    assert_eq!(user.ok("at store ls -since 1h").lines().count(), 2);

    let id = list[0]["id"].as_str().unwrap();
    let table = user.ok("at store ls -tags");
    assert!(table.lines().next().unwrap().contains(&format!("  {}  ", &id[..8])), "{table}");
    assert!(table.lines().next().unwrap().ends_with("nightly,x,always"), "{table}");
    assert!(user.ok("at store ls -uuid").contains(id));

    let entries = user.ok(&format!("at store ls {}", &id[..6]));
    assert_eq!(entries.lines().count(), 4);
    assert!(entries.contains("link -> hello") && entries.contains("drwx"), "{entries}");
    assert!(user.ok("at store ls latest:sub/deep").contains("odd \\x1b name"));
    let all = json(&user.ok("-json at store ls -recursive latest"));
    assert_eq!(all.iter().filter(|entry| entry["kind"] == "file").count(), 4);

    assert_eq!(user.ok("at store cat latest:hello latest:./sub/../hello latest:empty"), "hello\nhello\n");
    let big = user.command(["at", "store", "cat", "latest:sub/big"]).output().unwrap().stdout;
    assert_eq!(big, fs::read(user.home().join("src/sub/big")).unwrap());
    for (line, said) in [
        ("at store cat latest:sub", "not a regular file"),
        ("at store cat latest:link", "it is a link to hello"),
        ("at store cat latest:nothing", "no such path"),
        ("at store cat ffffffffffff:hello", "no snapshot matches"),
        ("at store ls zz", "no snapshot matches"),
        ("at store ls latest:nothing", "no such path"),
    ] {
        let ran = user.run(line);
        assert!(ran.code == 1 && ran.stderr.contains(said), "{line}: {ran:?}");
    }

    assert!(user.ok("at store check").contains("checked 2 snapshots"));
    assert!(user.ok("at store verify latest:sub").contains("no damage"));
    assert!(user.ok("at store check -fast").contains("no damage"));
    assert_eq!(user.ok("-quiet at store check"), "");
    assert!(user.ok("at store info").contains("snapshots       2"));
    assert!(user.ok("at store info latest").contains("CommandLine"));
}

#[test]
fn one_thing_in_a_snapshot_can_be_described() {
    let user = user();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    let told = |line: &str| -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        user.ok(line).lines().map(words).collect()
    };
    let file = told("at store info latest:hello");
    for line in ["kind file", "size 6 B", "chunks 1"] {
        assert!(file.iter().any(|told| told == line), "{line}: {file:?}");
    }
    assert!(file.iter().any(|line| line.starts_with("mode -rw")), "{file:?}");
    assert!(file.iter().any(|line| line.starts_with("object ") && line.len() == 7 + 64), "{file:?}");
    let link = told("at store info latest:link");
    assert!(link.contains(&"target hello".to_owned()), "{link:?}");
    let folder = told("at store info latest:sub");
    assert!(folder.contains(&"kind folder".to_owned()), "{folder:?}");
    assert!(folder.iter().any(|line| line.starts_with("total size ")), "{folder:?}");
    let file = &json(&user.ok("-json at store info latest:hello"))[0];
    let metadata = std::fs::metadata(user.home().join("src/hello")).unwrap();
    assert_eq!((file["type"].as_str(), file["size"].as_u64()), (Some("entry_info"), Some(6)));
    assert_eq!(file["inode"].as_u64(), Some(std::os::unix::fs::MetadataExt::ino(&metadata)));
    assert_eq!(file["metadata"].as_array().map(Vec::len), Some(0));
    assert!(told("at store info latest:/").contains(&"path /".to_owned()));
    let ran = user.run("at store info latest:nothing");
    assert!(ran.code == 1 && ran.stderr.contains("no such path") && ran.stdout.is_empty(), "{ran:?}");
}

#[test]
fn an_archive_has_one_name() {
    let user = user();
    let ran = user.run("ptar -plaintext -o x.ptar -o secret_access_key=hunter2 src");
    assert!(ran.code == 64 && ran.stderr.contains("given 2 times"), "{ran:?}");
    assert!(ran.stderr.contains("destination add") && !ran.stderr.contains("hunter2"), "{ran:?}");
    for name in ["x.ptar", "secret_access_key=hunter2"] {
        assert!(!user.home().join(name).exists(), "{name}");
    }
    user.ok("ptar -plaintext -o x.ptar src");
}

#[test]
fn compressed_files_can_be_shown_expanded() {
    use std::io::Write as _;
    let user = user();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"zipped").unwrap();
    fs::write(user.home().join("src/x.gz"), gzip.finish().unwrap()).unwrap();
    fs::write(user.home().join("src/x.zst"), zstd::encode_all(&b"zstandard"[..], 1).unwrap()).unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    let shown = user.ok("at store cat -decompress latest:x.gz latest:x.zst latest:hello");
    assert_eq!(shown, "zippedzstandardhello\n");
}

#[test]
fn a_dry_run_stores_nothing() {
    let user = user();
    user.ok("at store create -plaintext");
    let told = user.ok("at store backup -dry-run -ignore deep src");
    assert!(
        told.contains("src/hello\n") && !told.contains("odd") && told.contains("would back up"),
        "{told}"
    );
    assert_eq!(user.ok("at store ls"), "");
    assert!(packfiles(user.home().join("store")).is_empty());
}

#[test]
fn what_is_ignored_is_left_out() {
    let user = user();
    fs::write(user.home().join("rules"), "# comment\nempty\n").unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup -exclude deep -excludes rules src");
    let entries = json(&user.ok("-json at store ls -recursive latest"));
    let names: Vec<&str> =
        entries.iter().map(|e| e["path"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["hello", "link", "sub", "big"]);
}

#[test]
fn an_unreadable_path_makes_the_run_partial() {
    let user = user();
    user.ok("at store create -plaintext");
    let ran = user.run("at store backup missing");
    assert!(ran.code == 1 && ran.stderr.contains("missing"), "{ran:?}");
    assert_eq!(user.run("at store backup @nothing").code, 64);
    assert_eq!(user.run("at store backup -force-timestamp soon src").code, 64);
    user.ok("at store backup -force-timestamp 2001-02-03T04:05:06Z src");
    assert!(user.ok("at store ls").starts_with("2001-02-03T04:05:06Z"));
}

#[test]
fn the_default_store_is_found() {
    let mut user = user();
    assert_eq!(user.run("ls").code, 66);
    user.ok("create -plaintext");
    assert!(user.home().join(".plakar/CONFIG").exists());
    user.ok("at ./other create -plaintext");
    user.ok("store add other ./other");
    user.ok("at @other backup src");
    assert_eq!(user.ok("ls"), "");
    user.ok("store default other");
    assert_eq!(user.ok("ls").lines().count(), 1);
    user.set("PLAKAR_REPOSITORY", ".plakar");
    assert_eq!(user.ok("ls"), "");
}

#[test]
fn creating_twice_or_nowhere_fails() {
    let user = user();
    user.ok("at store create -plaintext");
    let ran = user.run("at store create -plaintext");
    assert!(ran.code == 1 && ran.stderr.contains("there is a store at store already"), "{ran:?}");
    let ran = user.run("at src create -plaintext");
    assert!(ran.code == 1 && fs::read(user.home().join("src/hello")).unwrap() == b"hello\n", "{ran:?}");
    let ran = user.run("at nothing ls");
    assert!(ran.code == 66 && ran.stderr.contains("create"), "{ran:?}");
    assert!(user.run("at nothing.ptar ls").code != 0);
    assert_eq!(user.run("at gopher://h/x ls").code, 64);
}

#[test]
fn passphrases_come_from_where_they_may() {
    let mut user = user();
    let ran = user.run("at store create");
    assert!(ran.code == 77 && ran.stderr.contains("-keyfile"), "nobody is asked: {ran:?}");
    fs::write(user.home().join("key"), "correct horse\n").unwrap();
    fs::write(user.home().join("wrong"), "incorrect horse\n").unwrap();
    user.ok("-keyfile key at store create");
    let ran = user.run("at store ls");
    assert!(ran.code == 77 && ran.stderr.contains("not a terminal"), "{ran:?}");
    let ran = user.run("at store ls -keyfile wrong");
    assert!(
        ran.code == 77 && ran.stderr.contains("wrong passphrase") && ran.stderr.contains("key file wrong"),
        "{ran:?}"
    );
    assert_eq!(user.run("at store ls -keyfile missing").code, 1);
    user.ok("at store backup src -keyfile key");

    user.ok("store add s ./store");
    assert_eq!(
        user.run_args(["store", "set", "s", "passphrase_cmd", "cat key; test -z \"$PLAKAR_PASSPHRASE\""])
            .code,
        0
    );
    user.set("PLAKAR_PASSPHRASE", "never used: the store's own comes first");
    assert_eq!(user.ok("at @s ls").lines().count(), 1);
    user.ok("store unset s passphrase_cmd");
    let ran = user.run("at @s ls");
    assert!(ran.code == 77 && ran.stderr.contains("PLAKAR_PASSPHRASE does not open it"), "{ran:?}");
    assert!(!ran.stderr.contains("never used"));
    user.set("PLAKAR_PASSPHRASE", "correct horse");
    user.ok("at @s ls");
}

#[test]
fn a_plaintext_store_in_place_of_an_encrypted_one_is_refused() {
    let user = user();
    user.ok("at store create -plaintext");
    fs::write(user.home().join("key"), "correct horse\n").unwrap();
    let ran = user.run("-keyfile key at store backup src");
    assert!(ran.code == 77 && ran.stderr.contains("not encrypted"), "{ran:?}");
    assert!(packfiles(user.home().join("store")).is_empty());
    assert_eq!(user.run("-keyfile key at other create -plaintext").code, 64);
}

#[test]
fn damage_is_found_named_and_65() {
    let user = user();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    for file in packfiles(user.home().join("store")) {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    let ran = user.run("at store check");
    assert!(ran.code == 65 && ran.stdout.contains("damaged"), "{ran:?}");
    let ran = user.run("-json at store check");
    let lines = json(&ran.stdout);
    assert!(lines.iter().any(|line| line["type"] == "damage"));
    assert_eq!(lines.last().unwrap()["type"], "summary");
    fs::write(user.home().join("store/CONFIG"), b"nonsense").unwrap();
    let ran = user.run("at store ls");
    assert!(matches!(ran.code, 65 | 78) && !ran.stderr.contains("Error"), "{ran:?}");
}

#[test]
fn archives_are_written_read_and_imported() {
    let user = user();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    let told = user.ok("ptar -plaintext -o all.ptar -k store");
    assert!(told.contains("1 snapshot") && told.contains("wrote the plaintext archive all.ptar"), "{told}");
    let id = json(&user.ok("-json at store ls"))[0]["id"].clone();
    assert_eq!(json(&user.ok("-json at ./all.ptar ls"))[0]["id"], id, "ids are kept");
    assert_eq!(user.ok("at all.ptar cat latest:hello"), "hello\n");
    user.ok("at all.ptar check");

    let ran = user.run("ptar -plaintext -o all.ptar src");
    assert!(ran.code == 1 && ran.stderr.contains("-overwrite"), "{ran:?}");
    user.ok("ptar -plaintext -overwrite -o all.ptar src");
    assert_ne!(json(&user.ok("-json at all.ptar ls"))[0]["id"], id);

    let output = user.command(["ptar", "-plaintext", "-o", "-", "src"]).output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"_PLATAR_"));
    fs::write(user.home().join("piped"), &output.stdout).unwrap();
    assert_eq!(user.ok("at ptar:piped cat latest:hello"), "hello\n");

    user.ok("at copy create -plaintext");
    assert!(user.ok("at copy sync from all.ptar").contains("1 snapshot"));
    assert!(user.ok("at copy sync from store").contains("1 snapshot"));
    assert!(user.ok("at copy sync with store").contains("there already"));
    assert_eq!(user.ok("at store ls").lines().count(), 2);
    user.ok("at copy check");
    assert_eq!(user.run("at copy sync to copy").code, 64);
    assert_ne!(user.run("at copy sync to all.ptar").code, 0);
    let ran = user.run("at all.ptar backup src");
    assert!(ran.code == 64 && ran.stderr.contains("plakar ptar -o"), "{ran:?}");
    assert_eq!(user.run("at all.ptar create -plaintext").code, 64);
}

#[test]
fn an_archive_has_a_passphrase_of_its_own() {
    let mut user = user();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    assert_eq!(user.run("ptar -o x.ptar -k store").code, 77);
    assert!(!user.home().join("x.ptar").exists());
    user.set("PLAKAR_PASSPHRASE", "correct horse");
    user.ok("ptar -o x.ptar -k store");
    assert_eq!(user.ok("at x.ptar ls").lines().count(), 1);
    user.set("PLAKAR_PASSPHRASE", "incorrect horse");
    assert_eq!(user.run("at x.ptar ls").code, 77);
}

#[test]
fn a_store_does_not_swallow_itself() {
    let user = user();
    user.ok("at ./src/store create -plaintext");
    user.ok("at src/store backup src");
    let entries = user.ok("at src/store ls -recursive latest");
    assert!(entries.contains("hello") && !entries.contains("CONFIG"), "{entries}");
}

#[test]
fn a_signal_ends_the_run_before_anything_is_committed() {
    let user = user();
    std::fs::write(user.home().join("key"), "correct horse").unwrap();
    user.ok("-keyfile key at store create");
    user.ok("store add s ./store");
    // The signal comes while the passphrase is being fetched: a moment that lasts.
    let command = "touch begun; while test ! -e go; do sleep 0.01; done; cat key";
    assert_eq!(user.run_args(["store", "set", "s", "passphrase_cmd", command]).code, 0);
    let mut child = user.command(["at", "@s", "backup", "src"]);
    let child =
        child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !user.home().join("begun").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    fs::write(user.home().join("go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.contains("cancelled")), (Some(1), true), "{stderr}");
    assert_eq!(user.ok("at @s ls"), "");
}

/// Snapshots that are damaged stay behind and are named; the others are copied, also what they share with those.
#[test]
fn a_damaged_snapshot_does_not_keep_the_others_from_being_copied() {
    let user = User::new();
    user.ok("at ./store create -plaintext");
    let source = user.home().join("source");
    fs::create_dir_all(&source).unwrap();
    let noise = |seed: u8| {
        let mut bytes = vec![0; 300 << 10];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    };
    fs::write(source.join("z lost"), noise(1)).unwrap();
    user.ok("at ./store backup source");
    let first = packfiles(user.home().join("store"));
    fs::write(source.join("a shared"), noise(2)).unwrap();
    user.ok("at ./store backup source");
    fs::remove_file(source.join("z lost")).unwrap();
    user.ok("at ./store backup source");
    let data = first.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(data).unwrap();
    bytes[150 << 10] ^= 1;
    fs::write(data, bytes).unwrap();

    user.ok("at ./new create -plaintext");
    let ran = user.run("at ./new sync from ./store");
    assert_eq!(ran.code, 65, "{ran:#?}");
    assert_eq!(ran.stderr.matches("was not copied").count(), 2, "{ran:#?}");
    assert!(ran.stderr.contains("z lost") && ran.stdout.contains("2 snapshots not copied"), "{ran:#?}");
    assert_eq!(user.ok("at ./new ls").lines().count(), 1);
    user.ok("at ./new check");
    user.ok("at ./new restore -to out");
    assert_eq!(fs::read(user.home().join("out/a shared")).unwrap(), noise(2));

    // An archive is whole or not made.
    let ran = user.run("ptar -plaintext -o x.ptar -k ./store");
    assert!(ran.code == 65 && ran.stderr.contains("sync from"), "{ran:#?}");
    assert!(!user.home().join("x.ptar").exists());
    user.ok("ptar -plaintext -o x.ptar -k ./new");
}
