//! Flags, help, suggestions and exit codes.

use std::io::Read as _;
use std::process::Stdio;

use super::User;

#[test]
fn usage_errors_exit_64_and_name_the_culprit() {
    let user = User::new();
    for (line, said) in [
        ("bakcup", "did you mean 'backup'?"),
        ("ls -recursiv", "did you mean -recursive?"),
        ("ls --no-such-flag", "'ls' has no flag -no-such-flag"),
        ("-tag x ls", "put -tag after the command"),
        ("at", "'at' needs a store"),
        ("at /x", "no command was given"),
        ("restore -to", "the flag -to needs a value: DIR"),
        ("-at /x ls", "'at' takes no dash"),
        ("at=/x ls", "plakar at STORE COMMAND"),
        ("diff latest", "'diff' needs NEW"),
        ("diff latest", "plakar [at STORE] diff [FLAGS] OLD NEW"),
        ("locate", "'locate' needs PATTERN"),
        ("mount", "'mount' needs -to DIR"),
        ("version extra", "'version' does not take the argument 'extra'"),
        ("restore at /x", "'at STORE' stands before the command: plakar at /x restore"),
        ("-memory 3 version", "at least 32MiB are needed"),
        ("-memory lots version", "'lots' is not a size"),
        ("-concurrency 0 version", "'0' is not a number of at least 1"),
        ("create -compression brotli", "zstd, zstd:LEVEL, lz4, gzip or none"),
        ("create -no-compression -compression lz4", "cannot be used with"),
        ("ptar /etc", "-o"),
        ("cat", "SNAPSHOT:PATH"),
        ("version -quiet=perhaps", "is true or false, not perhaps"),
        ("help bakcup", "did you mean 'plakar help backup'?"),
    ] {
        let ran = user.run(line);
        assert!(ran.code == 64 && ran.stderr.contains(said) && ran.stdout.is_empty(), "{line}: {ran:?}");
        assert!(ran.stderr.starts_with("plakar: ") && !ran.stderr.contains("--"), "{line}: {}", ran.stderr);
    }
}

/// What users of restic, of borg and of upstream type: each is told what does it here.
const HABITS: &[(&str, &str)] = &[
    ("init", "'create' makes a store"),
    ("snapshots", "'ls' lists"),
    ("list", "'ls' lists"),
    ("forget -keep-daily 7", "'prune' removes snapshots by rules, 'rm'"),
    ("delete abc", "'rm' removes"),
    ("extract", "'restore' brings"),
    ("dump latest /etc", "'cat' prints files, 'archive' writes"),
    ("stats", "'info' describes"),
    ("copy", "'sync' copies"),
    ("clone to /x", "'sync' copies"),
    ("compact", "'maintenance' gives space back"),
    ("cleanup", "'maintenance' gives space back"),
    ("export-tar", "'archive' writes"),
    ("import-tar", "backup tar:FILE"),
    ("unlock", "no lock has to be broken"),
    ("tag", "'dup' makes one"),
    ("rewrite", "'dup' makes one"),
    ("umount /mnt", "plakar help mount"),
    ("agent", "no agent is needed"),
    ("login", "no account is needed"),
    ("services", "cron or a systemd timer"),
    ("scheduler", "cron or a systemd timer"),
    ("help init", "'create' makes a store"),
    ("backup -n .", "did you mean -dry-run?"),
    ("rm -n abc", "without -apply it only shows"),
    ("prune --dry-run", "without -apply it only shows"),
    ("restore --target /x", "did you mean -to?"),
    ("restore -t /x", "did you mean -to?"),
    ("ls -R", "did you mean -recursive?"),
    ("--repo /x ls", "the store stands before the command: plakar at STORE"),
    ("-r /x ls", "the store stands before the command: plakar at STORE"),
    ("backup -repo=/x .", "the store stands before the command: plakar at STORE"),
    ("backup -v .", "-trace storage logs"),
    ("restore -verify", "what is read is verified"),
    ("backup -verify", "did you mean -check?"),
    ("ls -password-file x", "did you mean -keyfile?"),
    ("ls -p secret", "-keyfile PATH, or PLAKAR_PASSPHRASE"),
    ("create -encryption none", "-plaintext"),
    ("restore -include x", "SNAPSHOT:PATH restores a part"),
    ("prune -keep-daily 7", "-days 7 -per-day 1"),
];

#[test]
fn names_of_other_programs_are_translated() {
    let user = User::new();
    for (line, said) in HABITS {
        let ran = user.run(line);
        let hint =
            ran.stderr.lines().find_map(|line| line.trim_start().strip_prefix("hint: ")).unwrap_or_default();
        assert!(ran.code == 64 && hint.contains(said), "{line}: {ran:?}");
        assert!(!hint.contains("--"), "{line}: {hint}");
    }
}

#[test]
fn what_is_not_there_yet_says_so() {
    let user = User::new();
    let ran = user.run("ui");
    assert!(ran.code == 1 && ran.stderr.contains("is not available yet"), "{ran:?}");
    assert_eq!(user.run("at /x ui -some -flags x").code, 1);
}

#[test]
fn help_is_everywhere() {
    let user = User::new();
    let overview = user.ok("help");
    assert!(overview.starts_with("usage: plakar") && overview.lines().count() <= 23);
    for line in ["-h", "--help", "-help"] {
        assert_eq!(user.ok(line), overview);
    }
    let backup = user.ok("help backup");
    assert!(backup.contains("-tag TAGS") && backup.contains("plakar at @scw_store backup"));
    assert_eq!(user.ok("backup -h"), backup);
    assert_eq!(user.ok("at /x backup . --help"), backup);
    let bare = user.run("");
    assert_eq!((bare.code, bare.stdout), (64, overview));
    assert_eq!(user.run("help ui").code, 1);
}

#[test]
fn help_lists_the_options_of_places() {
    let user = User::new();
    let source = user.ok("help source");
    for told in [
        "Options of every source",
        "Options of s3",
        "Options of sftp",
        "use_tls=true|false",
        "data_class=TEXT",
    ] {
        assert!(source.contains(told), "{told}: {source}");
    }
    let store = user.ok("store -h");
    assert!(store.contains("object_lock=TEXT") && !store.contains("versions=TEXT"), "{store}");
    let s3 = user.ok("help s3");
    assert!(s3.starts_with("s3: a bucket") && s3.contains("as a source or a destination"), "{s3}");
    assert!(s3.contains("versions=TEXT") && !s3.contains("ssh_config"), "{s3}");
    let told = super::json(&user.ok("-json help s3"));
    let options = told[0]["options"].as_array().unwrap();
    // What help names is taken, and what is not taken is not named.
    for option in options.iter().filter(|option| option["role"] == "source") {
        if option["form"] == "true or false" {
            let name = option["name"].as_str().unwrap();
            user.ok(&format!("source add {name} s3://host/bucket {name}=true"));
        }
    }
    assert_eq!(user.run("help s4").code, 64);
    assert!(user.run("help s4").stderr.contains("did you mean 'plakar help s3'?"));
}

#[test]
fn version_lists_what_is_built_in() {
    let user = User::new();
    let text = user.ok("version");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(concat!("plakar/v", env!("CARGO_PKG_VERSION"))));
    assert_eq!(lines.next(), Some(""));
    for label in ["importers: ", "exporters: ", "klosets: "] {
        assert!(lines.next().unwrap().starts_with(label));
    }
    assert_eq!(user.ok("--version"), text);
    let json: serde_json::Value = serde_json::from_str(&user.ok("version -json")).unwrap();
    assert_eq!(json["type"], "version");
    assert!(json["klosets"].is_array());
}

#[test]
fn json_errors_are_objects_and_silence_is_silent() {
    let user = User::new();
    let ran = user.run("ls -jsn -json");
    let error: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((error["type"].as_str(), error["exit_code"].as_u64()), (Some("error"), Some(64)));
    assert_eq!(error["message"], "'ls' has no flag -jsn");
    let ran = user.run("-silent store rm nothing");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (64, "", ""));
    let ran = user.run("-quiet store rm nothing");
    assert!(ran.code == 64 && !ran.stderr.is_empty());
}

#[test]
fn requests_to_a_store_can_be_traced() {
    let user = User::new();
    user.ok("at store create -plaintext");
    let ran = user.run("-trace storage at store ls");
    assert!(ran.code == 0 && ran.stdout.is_empty(), "{ran:?}");
    for said in ["trace: storage: get CONFIG at ", "trace: storage: list states at "] {
        assert!(ran.stderr.lines().any(|line| line.starts_with(said)), "{said}: {}", ran.stderr);
    }
    let told = user.ok("-json at store ls -trace=all");
    assert!(super::json(&told).iter().all(|line| line["type"] == "notice"), "{told}");
    assert_eq!(user.run("-trace storge at store ls").code, 64);
}

#[test]
fn time_is_told() {
    let ran = User::new().run("-time version");
    assert!(ran.stderr.starts_with("time: "), "{ran:?}");
}

#[test]
fn control_characters_do_not_come_back() {
    let user = User::new();
    for args in [
        vec!["\x1b[2J"],
        vec!["ls", "-\x1b[2J"],
        vec!["store", "\x1b[2J"],
        vec!["store", "add", "\x1b[2J", "/x"],
        vec!["store", "add", "x", "gopher://\x1b"],
        vec!["-memory", "\x1b[2J", "ls"],
        vec!["help", "\x1b[2J"],
        vec!["-keyfile", "\x1b", "store", "show", "\u{9b}2J"],
    ] {
        let ran = user.run_args(&args);
        assert_ne!(ran.code, 0, "{args:?}");
        assert!(!ran.stderr.contains(['\x1b', '\u{9b}']), "{args:?}: {:?}", ran.stderr);
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let user = User::new();
    let mut child = user.command(["help"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let user = User::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = user.command(["help"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("plakar: cannot write to standard output\n  because: "), "{stderr}");
}

#[test]
fn a_store_named_behind_the_command_is_pointed_out() {
    let user = User::new();
    user.ok("at ./s create -plaintext");
    let hint = "hint: 'at STORE' stands before the command: plakar at ./s ";
    for (line, code) in [("ls at ./s", 66), ("backup at ./s .", 66), ("create at ./s", 64)] {
        let ran = user.run(line);
        assert!(ran.code == code && ran.stderr.contains(hint), "{line}: {ran:?}");
    }
    // What is there may be meant.
    std::fs::create_dir(user.home().join("at")).unwrap();
    let ran = user.run("backup at ./missing");
    assert!(ran.code == 66 && !ran.stderr.contains("stands before"), "{ran:?}");
    let ran = user.run("at ./s ls at ./s");
    assert!(ran.code == 1 && !ran.stderr.contains("stands before"), "{ran:?}");
}

#[test]
fn nothing_configured_is_said() {
    let user = User::new();
    for (line, said) in [
        ("store", "no store is configured; plakar store add NAME LOCATION makes one"),
        ("source show", "no source is configured; plakar source add NAME LOCATION makes one"),
        (
            "config destination",
            "no destination is configured; plakar destination add NAME LOCATION makes one",
        ),
    ] {
        let ran = user.run(line);
        assert!(ran.code == 0 && ran.stdout.is_empty() && ran.stderr.contains(said), "{line}: {ran:?}");
        assert_eq!(user.ok(&format!("-json {line}")), "");
    }
}

/// Runs a line with the home folder that a service may have.
fn at_home(user: &User, home: &str, line: &str) -> super::Ran {
    super::Ran::from(user.command(line.split_whitespace()).env("HOME", home).output().unwrap())
}

#[test]
fn a_home_that_is_none_keeps_nobody_from_using_a_store() {
    let user = User::new();
    user.ok("at ./s create -plaintext");
    std::fs::create_dir(user.home().join("src")).unwrap();
    std::fs::write(user.home().join("src/file"), "x").unwrap();
    let file = user.home().join("src/file");
    for home in ["/dev/null", file.to_str().unwrap(), "/proc/self/nothing"] {
        let ran = at_home(&user, home, "at ./s backup -quiet src");
        assert_eq!(ran.code, 0, "{home}: {ran:?}");
        let told: Vec<&str> =
            ran.stderr.lines().filter(|line| line.contains("this store cannot be remembered")).collect();
        assert!(told.len() == 1 && told[0].contains("-datadir"), "{home}: {ran:?}");
        let ran = at_home(&user, home, "at ./s ls");
        assert!(ran.code == 0 && !ran.stdout.is_empty(), "{home}: {ran:?}");
        let ran = at_home(&user, home, "store add n ./s");
        assert!(ran.code != 0 && ran.stderr.contains("cannot create "), "{home}: {ran:?}");
    }
    let datadir = user.home().join("data");
    let ran = at_home(&user, "/dev/null", &format!("at ./s ls -datadir {}", datadir.display()));
    assert!(ran.code == 0 && ran.stderr.is_empty() && datadir.join("pins").is_dir(), "{ran:?}");
}

#[test]
fn a_refused_passphrase_is_told_with_the_other_ways() {
    let mut user = User::new();
    let key = user.home().join("key");
    std::fs::write(&key, "five random words are good\n").unwrap();
    user.ok("at ./s create -keyfile key");
    std::fs::write(&key, "others\n").unwrap();
    let ran = user.run("at ./s ls -keyfile key");
    let hint = "hint: the key file key does not open it; other ways are PLAKAR_PASSPHRASE and a prompt\n";
    assert!(ran.code == 77 && ran.stderr.ends_with(hint), "{ran:?}");
    user.set("PLAKAR_PASSPHRASE", "others");
    let ran = user.run("at ./s ls");
    let hint = "hint: PLAKAR_PASSPHRASE does not open it; other ways are -keyfile PATH and a prompt\n";
    assert!(ran.code == 77 && ran.stderr.ends_with(hint), "{ran:?}");
}

/// What people of Plakar type, by command: all of it is known, as a flag with a value or as a switch.
const FLAGS: &[(&str, &str)] = &[
    ("create", "plaintext no-encryption no-compression compression hashing weak-passphrase profile"),
    (
        "backup",
        "tag name category environment perimeter job ignore ignore-file exclude excludes check dry-run no-xattr \
         force-timestamp force recheck retrieve o",
    ),
    (
        "ls",
        "uuid recursive tags l before since latest name category environment perimeter job tag root group-by minutes \
         hours days weeks months years per-minute per-hour per-day per-week per-month per-year",
    ),
    ("cat", "decompress highlight"),
    (
        "restore",
        "to rebase skip-permissions skip-existing no-overwrite folder-markers as-of retrieval-tier retrieval-days \
         no-wait before latest tag",
    ),
    ("check", "fast no-verify before tag"),
    ("verify", "fast"),
    ("ptar", "plaintext no-encryption no-compression overwrite hashing profile same-key size-hint o k"),
    ("sync", "before tag peer-keyfile"),
    ("archive", "format output rebase"),
    ("mount", "to"),
    ("server", "listen allow-delete"),
    ("rm", "before apply"),
    ("prune", "days per-day apply"),
    ("maintenance", "apply max-repack"),
    ("repair", "apply"),
    ("diff", "recursive"),
    ("locate", "snapshot"),
    ("store", "secrets config overwrite rclone"),
    (
        "version",
        "concurrency cpu memory configdir cachedir datadir json keyfile quiet silent stdio time trace no-progress \
         no-mmap accept-missing slot",
    ),
];

#[test]
fn the_flags_of_upstream_are_known() {
    let user = User::new();
    for (command, flags) in FLAGS {
        for flag in flags.split_whitespace() {
            let value = user.run(&format!("{command} -{flag}=1 -h"));
            assert!(
                value.code == 0 && value.stdout.contains("usage: "),
                "{command} -{flag}: {}",
                value.stderr
            );
        }
    }
}
