//! What people see, held to snapshots: help, tables, errors. `INSTA_UPDATE=always` writes them anew; with `CI` set a
//! difference is a failure and nothing is written.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::{User, json, packfiles};

/// A user with a store of two snapshots of `src`, made at known times of files of known times.
fn user() -> User {
    let mut user = User::in_memory();
    user.set("PLAKAR_TAGS", "nightly");
    let src = user.home().join("src");
    fs::create_dir_all(src.join("folder/below")).unwrap();
    for (name, content) in [
        ("a file", "one\ntwo\nthree\n".to_owned()),
        ("日本語", "wide".to_owned()),
        ("odd \x1b[2J name", String::new()),
        ("folder/large", "x".repeat(123_456)),
        ("folder/below/deep", "deep\n".to_owned()),
    ] {
        fs::write(src.join(name), content).unwrap();
    }
    std::os::unix::fs::symlink("a file", src.join("link")).unwrap();
    age(&src);
    user.ok("at ./s create -plaintext");
    user.ok("at ./s backup -force-timestamp 2024-01-01T10:00:00Z -name first src");
    fs::write(src.join("a file"), "one\n2\nthree\nfour\n").unwrap();
    fs::remove_file(src.join("日本語")).unwrap();
    fs::write(src.join("new"), "new").unwrap();
    age(&src);
    std::thread::sleep(Duration::from_millis(100));
    user.ok("at ./s backup -force-timestamp 2024-01-03T10:00:00Z -tag b src");
    user
}

/// Gives everything in a folder one time and one mode.
fn age(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (kind, path) = (entry.file_type().unwrap(), entry.path());
        if kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            age(&path);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(if kind.is_dir() { 0o755 } else { 0o644 }))
            .unwrap();
        File::open(&path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    }
}

/// Takes out what only this run knows: ids and places.
fn settled(user: &User, text: &str) -> String {
    let home = user.home().canonicalize().unwrap();
    let mut text = text.replace(home.to_str().unwrap(), "~");
    for line in json(&user.run("-json at ./s ls").stdout) {
        if let Some(id) = line["id"].as_str() {
            text = text.replace(id, &"0".repeat(64)).replace(&id[..8], "00000000");
        }
    }
    text
}

/// What differs from run to run, as patterns: ids, durations, rates, owners.
const FILTERS: [(&str, &str); 10] = [
    (r"packfiles/[0-9a-f]{2}/", "packfiles/<xx>/"),
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<uuid>"),
    (r" +\d+(\.\d)? m?s\b", " <time>"),
    (r" \([0-9.]+ ([KMG]i)?B/s\)", " (<rate>)"),
    (r"([-dl][-rwx]{9}) \S+ +\S+( +)", "$1 <user> <group>$2"),
    // What a folder's own size is, the file system decides; a link's time cannot be set here.
    (r"(d[-rwx]{9} <user> <group>) +[0-9.]+ ([KMG]i)?B", "$1 <size>"),
    (r"\d{4}-\d\d-\d\dT[0-9:]+Z l", "<time> l"),
    (r"\d+\.\d\d:1", "<ratio>"),
    (r"snapshot [0-9a-f]{8}\b", "snapshot 00000000"),
];
/// Sizes, where they differ, too.
const SIZES: (&str, &str) = (r" *\b\d[0-9.]* ([KMG]i)?B\b", " <size>");
/// Ids of any length.
const IDS: (&str, &str) = (r"\b[0-9a-f]{8,64}\b", "<id>");
/// Points in time.
const TIMES: (&str, &str) = (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "<time>");

/// Compares with a snapshot, `more` patterns taken out besides the usual.
fn pin(name: &str, text: &str, more: &[(&str, &str)]) {
    let filters: Vec<(&str, &str)> = FILTERS.iter().chain(more).copied().collect();
    insta::with_settings!({ filters => filters }, { insta::assert_snapshot!(name, text) });
}

#[test]
fn tables() {
    let user = user();
    let see = |line: &str| settled(&user, &user.ok(line));
    pin("ls", &see("at ./s ls"), &[]);
    pin("ls_tags_uuid", &see("at ./s ls -tags -uuid"), &[]);
    pin("ls_snapshot", &see("at ./s ls -since 2024-01-02 -before 2024-01-04"), &[]);
    let first = json(&user.ok("-json at ./s ls"))[0]["id"].as_str().unwrap().to_owned();
    pin("ls_l", &see(&format!("at ./s ls -l {first}")), &[]);
    pin("ls_recursive", &see(&format!("at ./s ls -recursive {first}")), &[]);
    pin("diff", &see(&format!("at ./s diff {first} latest")), &[]);
    pin("diff_recursive", &see(&format!("at ./s diff -recursive {first} latest")), &[]);
    pin("find", &see("at ./s find -type f -name *e*"), &[]);
    pin("find_l", &see("at ./s find -l -size +1K"), &[]);
    pin("prune", &see("at ./s prune -per-day 1 -before 2024-02-01"), &[]);
    pin("rm", &see("at ./s rm -before 2024-01-02"), &[]);
    pin("maintenance", &see("at ./s maintenance"), &[SIZES]);
    pin("check", &see("at ./s check"), &[]);
    pin("restore", &see("at ./s restore -to ./out latest"), &[]);
    user.ok("store add backups ./s passphrase=hunter2");
    user.ok("store default backups");
    pin("store_show", &see("store show"), &[]);
    pin("config", &see("config"), &[]);
}

#[test]
fn facts_and_summaries() {
    let user = user();
    pin("backup", &settled(&user, &user.ok("at ./s backup -force src")), &[SIZES]);
    let lines = |text: String, of: &[&str]| -> String {
        let kept = text.lines().filter(|line| !of.iter().any(|name| line.starts_with(name)));
        kept.collect::<Vec<_>>().join("\n")
    };
    // What the machine is called is its own business.
    let told = settled(&user, &user.ok("at ./s info latest"));
    let own = [
        "timestamp",
        "source",
        "Hostname",
        "Username",
        "OperatingSystem",
        "Architecture",
        "Client",
        "Command",
    ];
    pin("info_snapshot", &lines(told, &own), &[SIZES]);
    let told = settled(&user, &user.ok("at ./s info"));
    pin("info", &lines(told, &["created", "location"]), &[SIZES]);
    let key = user.home().join("key");
    fs::write(&key, "five random words are good").unwrap();
    user.ok("-keyfile key at ./e create");
    let told = user.ok("-keyfile key at ./e key list");
    pin("key_list", &told, &[TIMES]);
}

#[test]
fn errors() {
    let user = user();
    let mut told = String::new();
    let see = |lines: &[&str], told: &mut String| {
        for line in lines {
            let ran = user.run(line);
            assert_ne!(ran.code, 0, "{line}: {ran:?}");
            let said = settled(&user, &ran.stderr);
            write!(told, "$ plakar {line}\n{said}[{}]\n\n", ran.code).unwrap();
        }
    };
    see(
        &[
            "bakcup",
            "ls -recursiv",
            "help rstore",
            "restore -to",
            "-memory lots ls",
            "at ./nothing ls",
            "at s4://bucket ls",
            "at @nobody ls",
            "at ./s ls zz",
            "at ./s cat latest:nothing",
            "at ./s cat latest:folder",
            "at ./s restore -to s3://x/y -o colour=blue latest",
            "at ./s prune",
            "at ./s rm",
            "at ./s find -size big",
            "at ./s sync to ./s",
            "store set nobody a=b",
            "store add x",
            "at ./s create -plaintext",
            "at ./enc create",
            "-keyfile missing at ./s ls",
        ],
        &mut told,
    );
    for file in packfiles(user.home().join("s")) {
        fs::remove_file(file).unwrap();
    }
    see(&["at ./s cat latest:new"], &mut told);
    fs::write(user.home().join("s/CONFIG"), "nonsense").unwrap();
    see(&["at ./s ls"], &mut told);
    for debug in ["Error {", "Os {", "Some(", "None", "\\\"", "kind: ", "Err("] {
        assert!(!told.contains(debug), "{debug}: {told}");
    }
    pin("errors", &told, &[IDS]);
}

#[test]
fn help() {
    let user = User::in_memory();
    let listed: serde_json::Value = serde_json::from_str(&user.ok("-json help")).unwrap();
    let names = listed["commands"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap());
    let names: Vec<String> = names.map(str::to_owned).chain(["json".to_owned()]).collect();
    for width in [80, 40] {
        let mut user = User::in_memory();
        user.set("COLUMNS", &width.to_string());
        insta::assert_snapshot!(format!("help_{width}"), user.ok("help"));
        for name in &names {
            let text = user.ok(&format!("help {name}"));
            // The global flags are the same for all.
            let (own, rest) = text.split_once("\nGlobal flags\n").unwrap_or((&text, ""));
            let examples = rest.split_once("\nExamples\n").map(|(_, examples)| examples).unwrap_or_default();
            if width == 80 {
                insta::assert_snapshot!(format!("help_{name}"), format!("{own}\nExamples\n{examples}"));
            }
            let long = own.lines().find(|line| line.chars().count() > width);
            assert_eq!(long, None, "help {name}");
        }
    }
}

#[test]
fn quiet_leaves_results_and_silent_only_those() {
    let user = user();
    for line in [
        "at ./s backup src",
        "at ./s check",
        "at ./s restore -to ./o latest",
        "ptar -plaintext -overwrite -o x.ptar -k ./s",
        "ptar -plaintext -overwrite -o x.ptar src",
        "at ./s archive -overwrite -output x.tar latest",
        "at ./s maintenance",
        "at ./s repair",
        "at ./s dup latest",
    ] {
        let ran = user.run(line);
        assert!(ran.code == 0 && !ran.stdout.is_empty(), "{line}: {ran:?}");
        for flag in ["-quiet", "-silent"] {
            let ran = user.run(&format!("{flag} {line}"));
            assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""), "{flag} {line}");
        }
    }
    // Results stay; what was asked for stays with -quiet.
    for flag in ["-quiet", "-silent"] {
        let ran = user.run(&format!("{flag} at ./s digest latest:new"));
        assert!(ran.stdout.starts_with("BLAKE3 (") && ran.stderr.is_empty(), "{ran:?}");
        assert!(!user.ok(&format!("{flag} at ./s rm latest")).contains("would remove"));
        assert_eq!(user.ok(&format!("{flag} at ./s ls")), user.ok("at ./s ls"));
    }
    assert!(user.run("-quiet -time version").stderr.starts_with("time: "));
    assert_eq!(user.run("-silent -time version").stderr, "");
    // Errors are told unless everything is to be silent; the exit code says it all the same.
    let ran = user.run("-quiet at ./s backup src missing");
    assert!(ran.code != 0 && !ran.stderr.is_empty(), "{ran:?}");
    let ran = user.run("-silent at ./s ls zz");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
}

#[test]
fn colours_are_for_those_who_want_them() {
    let user = user();
    assert!(!user.ok("at ./s ls latest").contains('\x1b'));
    for (variables, coloured) in [
        (&[("CLICOLOR_FORCE", "1")][..], true),
        (&[("CLICOLOR_FORCE", "0")], false),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&[("CLICOLOR_FORCE", "1"), ("CLICOLOR", "0")], true),
    ] {
        let mut command = user.command(["at", "./s", "ls", "latest"]);
        command.envs(variables.iter().copied());
        let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert_eq!(out.contains("\x1b[1mfolder\x1b[0m"), coloured, "{variables:?}: {out:?}");
        assert!(out.contains("odd \\x1b[2J name"), "{out:?}");
    }
}

#[test]
fn a_reader_that_leaves_early_hears_nothing() {
    let user = user();
    let program = env!("CARGO_BIN_EXE_plakar");
    for line in [
        "at ./s ls",
        "at ./s ls -recursive latest",
        "-json at ./s ls -recursive latest",
        "at ./s cat latest:folder/large",
        "-json at ./s cat latest:folder/large",
        "at ./s find",
        "at ./s digest latest",
        "at ./s diff -recursive latest latest",
        "at ./s prune -per-day 1",
        "at ./s check",
        "-json at ./s check",
        "at ./s backup -force src",
        "at ./s archive -format tar -output - latest",
        "ptar -plaintext -o - src",
        "help",
        "completions bash",
    ] {
        let mut shell = std::process::Command::new("bash");
        // The reader is gone before anything is written.
        shell.args(["-c", &format!("{program} {line} | true; echo ${{PIPESTATUS[0]}}")]);
        shell.env_clear().env("HOME", user.home()).env("PATH", "/usr/bin:/bin").current_dir(user.home());
        let ran = super::Ran::from(shell.output().unwrap());
        let quiet =
            ran.stderr.lines().all(|line| line.starts_with("digested ") || line.starts_with("wrote "));
        assert!(quiet, "{line}: {ran:?}");
        // Half an archive is no archive, whoever stopped reading it.
        let code = if line.contains(" - ") { "1" } else { "0" };
        assert_eq!(ran.stdout.trim(), code, "{line}: {ran:?}");
    }
}

/// Returns the source files of the floors that people see.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_text_for_people_is_spelt_as_a_debugger_would() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 300);
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut debug = false;
        for line in text.lines().take_while(|line| !line.contains("#[cfg(test)]")) {
            if line.starts_with("impl") {
                debug = line.contains("Debug for");
            }
            let spelt = line.contains(":?}") || line.contains(":#?}");
            let assertion = line.contains("assert");
            if spelt && !debug && !assertion && !line.trim_start().starts_with("//") {
                wrong.push(format!("{}: {}", file.display(), line.trim()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
