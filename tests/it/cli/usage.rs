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
        ("restore -to", "the flag -to needs a DIR"),
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
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (66, "", ""));
    let ran = user.run("-quiet store rm nothing");
    assert!(ran.code == 66 && !ran.stderr.is_empty());
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
