//! `config`, `store`, `source` and `destination`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use super::{Ran, User};

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
    assert_eq!(user.ok("store import -config x.ini b:c"), "c:\n  location: /srv/b\n");
    assert_eq!(user.ok("store show"), "c:\n  location: /srv/c\n".replace("srv/c", "srv/b"));
    let mut child = user.command(["source", "import"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"{\"j\": {\"location\": \"/j\"}}").unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(user.ok("source").contains("location: /j"));
    assert_eq!(user.run("store import -config x.ini a:c").code, 64);
    assert_eq!(user.run("store import -rclone").code, 64);
    assert_eq!(user.run("store import -config http://127.0.0.1:1/x").code, 1);
    assert_eq!(user.run("store import -config missing").code, 1);
}

#[test]
fn errors_say_what_to_type() {
    let user = User::new();
    user.ok("store add mystore s3://s3.fr-par.scw.cloud/b");
    for (line, code, said) in [
        ("store add mystore /x", 64, "plakar store set mystore KEY=VALUE"),
        ("store set mystor use_tls=true", 64, "did you mean @mystore?"),
        ("source set mystore use_tls=true", 64, "@mystore is a store"),
        ("store set mystore secret_acess_key=x", 64, "did you mean secret_access_key?"),
        ("store set mystore port=x", 64, "a port number from 1 to 65535"),
        ("store sett mystore a=b", 64, "did you mean 'plakar store set'?"),
        ("config repositry create x", 64, "did you mean 'config repository'?"),
        ("store set mystore", 64, "usage: plakar store set NAME KEY=VALUE"),
        ("store add x gopher://h/x", 64, "unknown location scheme gopher:"),
        ("store ping nothing", 64, "no store is called @nothing"),
        ("source ping nothing", 64, "no source is called @nothing"),
        ("store show nothing", 64, "no store is called @nothing"),
        ("store rm nothing", 64, "no store is called @nothing"),
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

/// A web server that answers every request with what `answer` makes of its path; returns its authority.
fn web(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = Vec::new();
            let mut buffer = [0; 4096];
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => asked.extend_from_slice(&buffer[..n]),
                }
            }
            let asked = String::from_utf8_lossy(&asked).into_owned();
            let path = asked.split(' ').nth(1).unwrap_or("/").to_owned();
            let _ = stream.write_all(answer(&path).as_bytes());
        }
    });
    authority
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

#[test]
fn imports_take_urls() {
    let user = User::new();
    let authority = web(|path| match path {
        "/s.yml" => ok(
            "version: v1.0.0\nstores:\n  web:\n    location: s3://h.example/b\n    secret_access_key: hunter2\n",
        ),
        "/moved" => redirect("/s.yml"),
        "/round" => redirect("/round"),
        "/file" => redirect("file:///etc/passwd"),
        "/huge" => "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_owned(),
        "/endless" => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "#".repeat(5 << 20)),
        "/html" => ok("<html>"),
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
    });
    let ran = user.run(&format!("store import -config http://me:hunter2@{authority}/moved"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout, "web:\n  location: s3://h.example/b\n  secret_access_key: '********'\n");
    assert!(ran.stderr.contains("not protected on its way") && !ran.stderr.contains("hunter2"), "{ran:?}");
    assert!(user.ok("store show -secrets web").contains("hunter2"));
    let before = fs::read(user.config("stores.yml")).unwrap();
    for (path, code, said) in [
        ("/none", 1, "404"),
        ("/round", 1, "redirects"),
        ("/file", 1, "neither http nor https"),
        ("/huge", 1, "longer than"),
        ("/endless", 1, "longer than"),
        ("/html", 64, "is not a map"),
        ("/s.yml", 64, "-overwrite replaces it"),
    ] {
        let ran = user.run(&format!("store import -config http://me:hunter2@{authority}{path}"));
        assert!(ran.code == code && ran.stderr.contains(said), "{path}: {ran:?}");
        assert!(!ran.stderr.contains("hunter2") && ran.stdout.is_empty(), "{path}: {ran:?}");
    }
    assert_eq!(fs::read(user.config("stores.yml")).unwrap(), before);
    user.ok(&format!("store import -overwrite -config http://{authority}/s.yml"));
}

const RCLONE: &str = "\
[scw]
type = s3
provider = Scaleway
region = fr-par
endpoint = s3.fr-par.scw.cloud
acl = private
access_key_id = SCWX
secret_access_key = hunter2

[box]
type = sftp
host = h.example
user = me
pass = OseWqZNuj6TchCO-SpLtUud8qRugPWs

[photos]
type = alias
remote = scw:photos/2024

[gd]
type = drive
";

#[test]
fn imports_take_the_remotes_of_rclone() {
    let mut user = User::new();
    let ran = user.run("source import -rclone");
    assert!(ran.code == 64 && ran.stderr.contains("rclone/rclone.conf"), "{ran:?}");
    fs::create_dir_all(user.home().join(".config/rclone")).unwrap();
    fs::write(user.home().join(".config/rclone/rclone.conf"), RCLONE).unwrap();
    // One, with a bucket and another name.
    let ran = user.run("source import -rclone scw:bucket/x as mine");
    assert_eq!(
        ran.stdout,
        "mine:\n  access_key: SCWX\n  endpoint: s3.fr-par.scw.cloud\n  location: s3://bucket/x\n  region: fr-par\n  secret_access_key: '********'\n"
    );
    assert!(ran.stderr.contains("left out acl") && !ran.stderr.contains("hunter2"), "{ran:?}");
    assert_eq!(user.ok("source check mine"), "");
    // All of them: what is not supported is named and left out.
    let ran = user.run("source import -rclone");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("left out gd: remotes of type drive are not supported"), "{ran:?}");
    assert!(ran.stderr.contains("still to be set: plakar source set scw location=s3://BUCKET"), "{ran:?}");
    assert!(ran.stderr.contains("rclone keeps pass obscured") && !ran.stderr.contains("OseWq"), "{ran:?}");
    let shown = user.ok("source show");
    assert!(
        shown.contains("location: s3://photos/2024") && shown.contains("location: sftp://me@h.example/"),
        "{shown}"
    );
    let ran = user.run("source check scw");
    assert!(ran.code == 64 && ran.stderr.contains("plakar source set scw location=LOCATION"), "{ran:?}");
    user.ok("source set scw location=s3://later");
    user.ok("source check scw");
    // What was asked for by name has to work, all of it.
    let before = fs::read(user.config("sources.yml")).unwrap();
    for (line, code, said) in [
        ("source import -rclone scw:b as new gd", 64, "type drive"),
        ("source import -rclone scw:b as new scww:b", 64, "did you mean scw?"),
        ("source import -rclone scw:b", 64, "already"),
        ("source import -rclone scw:b as new box:relative as other", 64, "begin with a slash"),
        ("source import -rclone scw:b as", 64, "'as' needs a name"),
    ] {
        let ran = user.run(line);
        assert!(ran.code == code && ran.stderr.contains(said), "{line}: {ran:?}");
        assert_eq!(fs::read(user.config("sources.yml")).unwrap(), before, "{line}");
    }
    // A file that holds nothing of use, one that is encrypted, and one named by the environment.
    fs::write(user.home().join("gd.conf"), "[gd]\ntype = drive\n").unwrap();
    let ran = user.run("source import -rclone -config gd.conf");
    assert!(ran.code == 1 && ran.stderr.contains("nothing was imported"), "{ran:?}");
    let text = "# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nAAAA\n";
    fs::write(user.home().join("secret.conf"), text).unwrap();
    user.set("RCLONE_CONFIG", "secret.conf");
    let ran = user.run("store import -rclone");
    assert!(ran.code == 64 && ran.stderr.contains("rclone config show |"), "{ran:?}");
}

#[test]
fn many_writers_lose_nothing() {
    let user = User::new();
    user.ok("store add s s3://h/b");
    let children: Vec<_> = (0..12)
        .map(|n| {
            let name = format!("n{n}");
            let args = if n % 2 == 0 {
                vec!["store", "add", &name, "/srv/x"]
            } else {
                vec!["source", "add", &name, "/srv/x"]
            };
            user.command(args).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let count = |what: &str| user.ok(what).matches("location:").count();
    assert_eq!((count("store"), count("source")), (7, 6));
}

#[test]
fn what_people_write_into_the_files_stays() {
    let user = User::new();
    user.ok("store add a /srv/a");
    let text = "# mine\nversion: v1.0.0\nstores:\n  # the attic\n  a:\n    location: /srv/a # old disk\nowner: {name: me}\n";
    fs::write(user.config("stores.yml"), text).unwrap();
    user.ok("store add b /srv/b");
    user.ok("store default b");
    assert_eq!(
        fs::read_to_string(user.config("stores.yml")).unwrap(),
        "# mine\nversion: v1.0.0\ndefault: b\nstores:\n  # the attic\n  a:\n    location: /srv/a # old disk\n  b:\n    location: /srv/b\nowner:\n  name: me\n"
    );
    // A mistake is shown where it is, and nothing is written over it.
    for (text, said) in [
        ("version: v1.0.0\nstores:\n  a:\n    location: 'x\n", "line"),
        ("version: v1.0.0\nstores:\n  a:\n   - x\n", "a is not a map of options"),
        ("version: v1.0.0\nstores:\n  a: {}\n  a: {}\n", "duplicate"),
    ] {
        fs::write(user.config("stores.yml"), text).unwrap();
        let ran = user.run("store add c /srv/c");
        assert!(ran.code == 64 && ran.stderr.contains(said) && ran.stderr.contains("stores.yml"), "{ran:?}");
        assert_eq!(fs::read_to_string(user.config("stores.yml")).unwrap(), text);
    }
}

#[test]
fn a_folder_that_others_can_write_is_pointed_out() {
    let user = User::new();
    user.ok("store add a /srv/a");
    fs::set_permissions(user.config(""), fs::Permissions::from_mode(0o777)).unwrap();
    let ran = user.run("store");
    assert!(ran.code == 0 && ran.stderr.contains("others can write to"), "{ran:?}");
}

#[test]
fn an_import_that_waits_can_be_stopped() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", silent.local_addr().unwrap());
    let user = User::new();
    for args in [vec!["store", "import"], vec!["store", "import", "-config", &url]] {
        let mut command = user.command(args);
        let child = command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(400));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let stdin = child.stdin.take();
        let ran = Ran::from(child.wait_with_output().unwrap());
        drop(stdin);
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran:?}");
        assert!(!user.config("stores.yml").exists());
    }
}

#[test]
fn places_of_any_kind_answer_a_ping() {
    let user = User::new();
    fs::create_dir(user.home().join("data")).unwrap();
    user.ok("store add here ./store");
    assert_eq!(user.run("store ping here").code, 0);
    user.ok("source add data ./data");
    user.ok("source ping data");
    user.ok("source add gone ./gone");
    assert_eq!(user.run("source ping gone").code, 1);
    user.ok("source add closed s3://127.0.0.1:1/b access_key=a secret_access_key=hunter2 use_tls=false");
    user.ok("destination add closed s3://127.0.0.1:1/b access_key=a secret_access_key=hunter2 use_tls=false");
    for what in ["source", "destination"] {
        let ran = user.run(&format!("{what} ping closed"));
        assert!(ran.code == 1 && ran.stderr.contains("127.0.0.1:1"), "{ran:?}");
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    }
    user.ok("destination add gone ./gone");
    let ran = user.run("destination ping gone");
    assert!(
        ran.code == 0 && ran.stderr.contains("not there yet") && !user.home().join("gone").exists(),
        "{ran:?}"
    );
}
