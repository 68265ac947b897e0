//! `config`, `store`, `source` and `destination`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::User;

#[test]
fn the_commands_of_three_generations_write_the_same_files() {
    let mut written = Vec::new();
    for lines in [
        // v1.0.2
        "config repository create scw_store
         config repository set scw_store location s3://s3.nl-ams.scw.cloud/myscw-bucket
         config repository set scw_store access_key SCWKEY
         config repository set scw_store secret_access_key hunter2
         config repository set scw_store use_tls false
         config repository default scw_store
         config remote create scw_src
         config remote set scw_src location s3://s3.nl-ams.scw.cloud/other-bucket",
        // v1.0.3
        "config store create scw_store
         config store set scw_store type s3
         config store unset scw_store type
         config store set scw_store location s3://s3.nl-ams.scw.cloud/myscw-bucket
         config store set scw_store access_key SCWKEY
         config store set scw_store secret_access_key hunter2
         config store set scw_store use_tls false
         config store default @scw_store
         config source create scw_src
         config source set scw_src uri s3://s3.nl-ams.scw.cloud/other-bucket
         config destination create scw_src
         config destination set scw_src location s3://s3.nl-ams.scw.cloud/other-bucket",
        // newer
        "store add scw_store location=s3://s3.nl-ams.scw.cloud/myscw-bucket access_key=SCWKEY use_tls=true
         store set scw_store secret_access_key=hunter2 use_tls=false
         store default scw_store
         source add scw_src s3://s3.nl-ams.scw.cloud/other-bucket
         destination add scw_src s3://s3.nl-ams.scw.cloud/other-bucket",
    ] {
        let user = User::new();
        lines.lines().for_each(|line| assert_eq!(user.ok(line), ""));
        let read = |name: &str| fs::read_to_string(user.config(name)).unwrap();
        written.push([read("stores.yml"), read("sources.yml"), read("destinations.yml")]);
    }
    assert_eq!(written[0], written[1]);
    assert_eq!(written[0], written[2]);
    assert_eq!(
        written[0][0],
        "version: v1.0.0\ndefault: scw_store\nstores:\n  scw_store:\n    access_key: SCWKEY\n    location: \
         s3://s3.nl-ams.scw.cloud/myscw-bucket\n    secret_access_key: hunter2\n    use_tls: 'false'\n"
    );
}

#[test]
fn secrets_are_shown_on_request_only() {
    let user = User::new();
    user.ok("store add s s3://h.example/b access_key=AKIA secret_access_key=hunter2 passphrase=hunter2");
    user.ok("source add f sftp://me:hunter2@h.example/x");
    for line in ["config", "-json config", "store", "store show s", "source show", "-json source show f"] {
        let shown = user.ok(line);
        assert!(!shown.contains("hunter2") && shown.contains("********"), "{line}: {shown}");
        assert!(shown.contains("h.example"), "{line}: {shown}");
    }
    assert!(user.ok("store show -secrets s").contains("secret_access_key: hunter2"));
    assert!(user.ok("config -secrets").contains("sftp://me:hunter2@h.example/x"));
    let json = user.ok("-json store show -secrets");
    let entry: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((entry["type"].as_str(), entry["name"].as_str()), (Some("store"), Some("s")));
    assert_eq!(entry["options"]["passphrase"], "hunter2");
    // Nor are they repeated when they are typed wrongly.
    let ran = user.run("store set s use_tls=hunter hunter2");
    assert_eq!(ran.code, 64);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
}

#[test]
fn files_and_folder_are_private_whatever_the_umask() {
    let user = User::new();
    let mut shell = std::process::Command::new("/bin/sh");
    shell.env_clear().env("HOME", user.home());
    shell.arg("-c").arg(format!("umask 0; {} store add s /srv/s", env!("CARGO_BIN_EXE_plakar")));
    assert!(shell.status().unwrap().success());
    let mode = |name: &str| fs::metadata(user.config(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("stores.yml"), mode("")), (0o600, 0o700));
    fs::set_permissions(user.config("stores.yml"), fs::Permissions::from_mode(0o644)).unwrap();
    let ran = user.run("store show");
    assert!(ran.stderr.contains("others can read") && ran.code == 0, "{}", ran.stderr);
    user.ok("store set s passphrase=x");
    assert_eq!(mode("stores.yml"), 0o600);
    let left = fs::read_dir(user.config("")).unwrap().count();
    assert_eq!(left, 1, "no temporary file stays");
}

#[test]
fn a_passphrase_may_begin_with_a_dash_or_hold_anything() {
    let user = User::new();
    user.ok("config store create s");
    for secret in ["-dash", "--two=dashes", "a=b", "-json", " spaced: #'\" ", "é\u{202e}"] {
        if secret == "-json" {
            // A flag is a flag: '--' makes it a value.
            assert_eq!(user.run_args(["config", "store", "set", "s", "--", "passphrase", secret]).code, 0);
        } else {
            assert_eq!(
                user.run_args(["config", "store", "set", "s", "passphrase", secret]).code,
                0,
                "{secret}"
            );
        }
        let json: serde_json::Value = serde_json::from_str(&user.ok("-json store show -secrets")).unwrap();
        assert_eq!(json["options"]["passphrase"], secret);
    }
    assert!(user.ok("store show -secrets").contains("\\u{202e}"));
}

#[test]
fn upstreams_files_are_migrated() {
    let user = User::new();
    fs::create_dir_all(user.config("")).unwrap();
    let old = "default-repo: mine\nrepositories:\n  mine:\n    location: /srv/mine\nremotes:\n  bucket:\n    location: s3://h/b\n";
    fs::write(user.config("plakar.yml"), old).unwrap();
    let ran = user.run("config");
    assert_eq!(
        ran.stdout,
        "default: mine\nstores:\n  mine:\n    location: /srv/mine\nsources:\n  bucket:\n    location: s3://h/b\ndestinations:\n  bucket:\n    location: s3://h/b\n"
    );
    assert!(ran.stderr.contains("migrated"), "{}", ran.stderr);
    assert!(user.config("stores.yml").exists() && user.config("plakar.yml").exists());
    assert_eq!(user.run("config").stderr, "");
}

#[test]
fn imports_take_files_and_pipes() {
    let user = User::new();
    fs::write(user.home().join("x.ini"), "[a]\nlocation=/srv/a\n[b]\nlocation=/srv/b\n").unwrap();
    user.ok("store import -config x.ini b:c");
    assert_eq!(user.ok("store show"), "c:\n  location: /srv/c\n".replace("srv/c", "srv/b"));
    let mut child = user.command(["source", "import"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"{\"j\": {\"location\": \"/j\"}}").unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(user.ok("source").contains("location: /j"));
    assert_eq!(user.run("store import -config x.ini a:c").code, 64);
    assert_eq!(user.run("store import -rclone").code, 64);
    assert_eq!(user.run("store import -config http://127.0.0.1:1/x").code, 64);
    assert_eq!(user.run("store import -config missing").code, 1);
}

#[test]
fn errors_say_what_to_type() {
    let user = User::new();
    user.ok("store add mystore s3://s3.fr-par.scw.cloud/b");
    for (line, code, said) in [
        ("store add mystore /x", 64, "plakar store set mystore KEY=VALUE"),
        ("store set mystor use_tls=true", 66, "did you mean @mystore?"),
        ("source set mystore use_tls=true", 64, "@mystore is a store"),
        ("store set mystore secret_acess_key=x", 64, "did you mean secret_access_key?"),
        ("store set mystore port=x", 64, "a port number from 1 to 65535"),
        ("store sett mystore a=b", 64, "did you mean 'plakar store set'?"),
        ("config repositry create x", 64, "did you mean 'config repository'?"),
        ("store set mystore", 64, "usage: plakar store set NAME KEY=VALUE"),
        ("store add x gopher://h/x", 64, "unknown location scheme gopher:"),
        ("store rm nothing", 66, "no store is called @nothing"),
    ] {
        let ran = user.run(line);
        assert!(ran.code == code && ran.stderr.contains(said) && ran.stdout.is_empty(), "{line}: {ran:?}");
    }
}

#[test]
fn a_broken_file_is_named_and_kept() {
    let user = User::new();
    fs::create_dir_all(user.config("")).unwrap();
    fs::write(user.config("stores.yml"), "version: v1.0.0\nstores: [oops\n").unwrap();
    let ran = user.run("store add x /x");
    assert!(ran.code == 64 && ran.stderr.contains("stores.yml") && ran.stderr.contains("line"), "{ran:?}");
    fs::write(user.config("stores.yml"), "version: v7.0.0\n").unwrap();
    assert_eq!(user.run("store add x /x").code, 78);
    assert_eq!(fs::read_to_string(user.config("stores.yml")).unwrap(), "version: v7.0.0\n");
}

#[test]
fn the_folder_can_be_chosen() {
    let mut user = User::new();
    user.ok("store add -configdir elsewhere s /s");
    assert!(user.home().join("elsewhere/stores.yml").exists());
    let xdg = user.home().join("xdg").to_str().unwrap().to_owned();
    user.set("XDG_CONFIG_HOME", &xdg);
    user.ok("store add s /s");
    assert!(user.home().join("xdg/plakar/stores.yml").exists());
}
