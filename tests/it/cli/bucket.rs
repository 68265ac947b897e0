//! Buckets through the command line, on a server of ours: as the documents of upstream have it typed.

use super::User;
use crate::s3server::{ACCESS_KEY, Action, Fault, Object, S3Server, SECRET_KEY};

/// A server with a source bucket full of odd objects, and two empty ones.
fn server() -> S3Server {
    let server = S3Server::new();
    for bucket in ["source", "kloset", "target"] {
        server.make_bucket(bucket);
    }
    let put = |key: &str, object: Object| server.insert("source", key, object);
    put(
        "plain.txt",
        Object::new("hello\n").header("content-type", "text/plain").header("x-amz-meta-colour", "blue"),
    );
    put("empty", Object::new(""));
    put("marker/", Object::new(""));
    put("a", Object::new("beside"));
    put("a/b", Object::new("below"));
    put("spaced + plus %41 ünïcode", Object::new("odd").header("cache-control", "no-cache"));
    put("double//slash", Object::new("slashes"));
    put("tagged", Object::new("t").tag("k", "v").tag("team", "blue"));
    put("big", Object::new((0..700_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()));
    server
}

fn assert_same(server: &S3Server, to: &str) {
    let keys = server.keys("source");
    assert_eq!(server.keys(to), keys);
    for key in keys {
        let (a, b) = (server.object("source", &key).unwrap(), server.object(to, &key).unwrap());
        let name = String::from_utf8_lossy(&key);
        assert_eq!(a.body, b.body, "{name}");
        for header in ["content-type", "cache-control", "x-amz-meta-colour"] {
            assert_eq!(a.get(header), b.get(header), "{name} {header}");
        }
        assert_eq!(a.tags, b.tags, "{name}");
    }
}

/// Configures store, source and destination in the syntax of v1.0.2.
fn configure(user: &User, server: &S3Server) {
    for (kind, name, bucket) in [
        ("repository", "scw_store", "kloset"),
        ("remote", "scw_src", "source"),
        ("remote", "scw_dst", "target"),
    ] {
        user.ok(&format!("config {kind} create {name}"));
        user.ok(&format!("config {kind} set {name} location s3://{}/{bucket}", server.authority()));
        user.ok(&format!("config {kind} set {name} access_key {ACCESS_KEY}"));
        user.ok(&format!("config {kind} set {name} secret_access_key {SECRET_KEY}"));
        user.ok(&format!("config {kind} set {name} use_tls false"));
    }
}

#[test]
fn a_bucket_goes_into_a_store_into_an_archive_and_back_into_a_bucket() {
    let server = server();
    let mut user = User::new();
    user.set("PLAKAR_PASSPHRASE", "correct horse battery staple");
    configure(&user, &server);
    user.ok("at @scw_store create");
    let told = user.ok("at @scw_store backup @scw_src");
    assert!(told.contains("9 files") && told.contains("@scw_src"), "{told}");
    assert!(user.ok("at @scw_store ls").contains("s3://"));
    for line in ["rm latest", "prune -days 1"] {
        let origin = format!("{}/source", server.authority());
        assert!(user.ok(&format!("at @scw_store {line}")).contains(&format!("  s3://{origin}")), "{line}");
        let plan = super::json(&user.ok(&format!("at @scw_store {line} -json"))).swap_remove(0);
        assert_eq!((&plan["root"], plan["source"].as_str()), (&"/".into(), Some(&*format!("s3://{origin}"))));
    }
    let listed = user.ok("at @scw_store ls latest");
    assert!(listed.contains("plain.txt"), "{listed}");
    assert_eq!(user.ok("at @scw_store cat latest:plain.txt"), "hello\n");
    let ran = user.run("ptar -o ./export.ptar -k @scw_store");
    assert!(
        ran.code == 0 && ran.stderr.contains("opens the store, and will open the archive, too"),
        "{ran:?}"
    );
    user.ok("at ./export.ptar restore -to @scw_dst");
    assert_same(&server, "target");
    user.ok("at @scw_store verify latest");
    let again = user.ok("at @scw_store backup @scw_src");
    assert!(again.contains("(9 unchanged)"), "{again}");
    let ran = user.run("-slot nosuch at @scw_store ls");
    assert!(ran.code == 64 && ran.stderr.contains("no key slot 'nosuch'; there is only 'main'"), "{ran:?}");
    let all = server.keys("kloset");
    let secret = |object: &Object| object.body.windows(6).any(|window| window == b"hello\n");
    assert!(all.iter().all(|key| !secret(&server.object("kloset", key).unwrap())), "the store is encrypted");
}

#[test]
fn what_is_recorded_of_an_object_is_shown() {
    let server = server();
    let user = User::new();
    configure(&user, &server);
    user.ok("at ./s create -plaintext");
    user.ok("at ./s backup -o tags=true @scw_src");
    let told = |path: &str| user.ok(&format!("at ./s info latest:{path}"));
    let plain = told("plain.txt");
    for (key, value) in [
        ("kind", "file"),
        ("s3.key", "plain.txt"),
        ("s3.content-type", "text/plain"),
        ("s3.meta.colour", "blue"),
    ] {
        let said = plain.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        assert_eq!(said, Some(value), "{plain}");
    }
    let tags = told("tagged");
    assert!(
        tags.lines().any(|line| line.starts_with("s3.tags ") && line.ends_with("k=v&team=blue")),
        "{tags}"
    );
    let object = &super::json(&user.ok("-json at ./s info latest:plain.txt"))[0];
    let colour = serde_json::json!({ "key": "s3.meta.colour", "value": "blue" });
    assert!(object["metadata"].as_array().unwrap().contains(&colour), "{object}");
}

#[test]
fn direct_urls_and_environment_credentials_work() {
    let server = server();
    let mut user = User::new();
    user.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
    user.set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    user.ok("at ./my-store create -plaintext");
    let url = |bucket: &str| format!("s3://{}/{bucket}", server.authority());
    user.ok(&format!("at ./my-store backup -o use_tls=false {}", url("source")));
    user.ok(&format!("destination add t {} use_tls=false", url("target")));
    user.ok("at ./my-store restore -to @t latest");
    assert_same(&server, "target");
    user.ok("at ./my-store restore -to folder latest");
    assert_eq!(std::fs::read_to_string(user.home().join("folder/a/b")).unwrap(), "below");
}

#[test]
fn failures_of_a_server_are_told_apart() {
    let server = server();
    let user = User::new();
    configure(&user, &server);
    let ran = user.run("at @scw_store ls");
    assert!(ran.code == 66 && ran.stderr.contains("there is no store"), "{ran:?}");
    assert!(ran.stderr.contains("make one: plakar at @scw_store create"), "{ran:?}");
    let ran = user.run("at @scw_store:below sync to @scw_store");
    assert!(ran.code == 66 && ran.stderr.contains("plakar at @scw_store:below create"), "{ran:?}");
    user.ok("at @scw_store create -plaintext");
    let ran = user.run("at @scw_store ls");
    assert!(
        ran.code == 0 && ran.stdout.is_empty() && ran.stderr.contains("holds no snapshot yet"),
        "{ran:?}"
    );
    user.ok("store set scw_store secret_access_key=wrong");
    let ran = user.run("at @scw_store ls");
    assert!(ran.code == 77 && !ran.stderr.contains(SECRET_KEY), "{ran:?}");
    user.ok(&format!("store set scw_store secret_access_key={SECRET_KEY}"));
    server.inject(Fault::on("GetObject", Action::status(403, "AccessDenied")));
    let ran = user.run("at @scw_store ls");
    assert!(ran.code == 77 && !ran.stderr.contains("X-Amz-Signature"), "{ran:?}");
    server.clear_faults();
    user.ok("at @scw_store ls");
    for line in
        ["store ping scw_store", "source ping scw_src", "destination ping scw_dst", "store check scw_store"]
    {
        assert!(user.run(line).code == 0, "{line}: {:?}", user.run(line));
    }
}

#[test]
fn a_source_that_is_not_there_is_no_damage_of_the_store() {
    let server = server();
    let user = User::new();
    configure(&user, &server);
    user.ok("at ./store create -plaintext");
    let keys = format!("access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false");
    for (name, path) in [("bucket", "nobucket"), ("prefix", "source/nothinghere")] {
        user.ok(&format!("source add {name} s3://{}/{path} {keys}", server.authority()));
        for line in [format!("at ./store backup @{name}"), format!("ptar -plaintext -o x.ptar @{name}")] {
            let ran = user.run(&line);
            assert_eq!(ran.code, 1, "{line}: {ran:?}");
            assert!(!ran.stderr.contains("damaged") && ran.stderr.contains("source ping"), "{line}: {ran:?}");
        }
    }
}

#[test]
fn an_unreachable_server_is_no_damage() {
    let user = User::new();
    user.ok("store add s s3://127.0.0.1:1/bucket access_key=a secret_access_key=hunter2 use_tls=false");
    let ran = user.run("at @s ls");
    assert!(ran.code == 1 && !ran.stderr.contains("hunter2") && !ran.stderr.contains("Signature"), "{ran:?}");
    assert!(ran.stderr.contains("network"), "{}", ran.stderr);
}

#[test]
fn versions_come_back_as_of_a_time_and_the_bucket_is_described() {
    let server = server();
    server.keep_versions("source");
    let user = User::new();
    configure(&user, &server);
    let old = Object { modified: 1_700_000_000_000, ..Object::new("the old state") };
    server.insert("source", "history", old);
    server.insert("source", "history", Object::new("the new state"));
    server.insert("source", "skip.tmp", Object::new("x"));
    user.ok("at ./kept create -plaintext");
    user.ok("at ./kept backup -o versions=all -ignore *.tmp @scw_src");
    let info = user.ok("at ./kept info latest");
    let info: Vec<String> =
        info.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in ["bucket source", "bucket owner owner-1", "versioning Enabled", "versions kept all"] {
        assert!(info.iter().any(|told| told == line), "{line}: {info:?}");
    }
    user.ok("at ./kept restore -to now latest");
    let read = |path: &str| std::fs::read_to_string(user.home().join(path));
    assert_eq!(read("now/history").unwrap(), "the new state");
    assert!(!user.home().join("now/%~%versions").exists() && read("now/skip.tmp").is_err());
    user.ok("at ./kept restore -as-of 2024-01-01 -to then latest");
    assert_eq!(read("then/history").unwrap(), "the old state");
    assert!(read("then/plain.txt").is_err(), "it came later");

    let ran = user.run("at ./kept restore -o versions=all -to @scw_dst latest");
    assert!(ran.code != 0 && ran.stderr.contains("versioning is off"), "{ran:?}");
    server.keep_versions("target");
    user.ok("at ./kept restore -o versions=all -to @scw_dst latest");
    let bodies = |bucket: &str| -> Vec<Vec<u8>> {
        server.versions(bucket, "history").iter().map(|version| version.body.to_vec()).collect()
    };
    assert_eq!(bodies("target"), bodies("source"));
    let ran = user.run("at ./kept restore -as-of 2024-01-01 -o versions=all -to @scw_dst latest");
    assert_eq!(ran.code, 64, "{ran:?}");
    user.ok("at ./kept restore -no-overwrite -to s3://nowhere -h");
}
