//! `restore` to folders.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::User;

/// A user with a store that holds two snapshots of `src` and one of `other`.
fn user() -> User {
    let user = User::new();
    let src = user.home().join("src");
    fs::create_dir_all(src.join("sub/deep")).unwrap();
    fs::create_dir_all(user.home().join("other")).unwrap();
    fs::write(src.join("hello"), "old\n").unwrap();
    fs::write(src.join("sub/deep/x"), "x").unwrap();
    fs::set_permissions(src.join("sub/deep/x"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("hello", src.join("link")).unwrap();
    fs::write(user.home().join("other/file"), "other").unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup -tag first src");
    fs::write(src.join("hello"), "new and longer\n").unwrap();
    user.ok("at store backup src");
    user
}

#[test]
fn the_content_of_the_root_lands_in_the_folder() {
    let user = user();
    let told = user.ok("at store restore -to out");
    assert!(told.starts_with("restored snapshot ") && told.contains("2 files"), "{told}");
    let out = user.home().join("out");
    assert_eq!(fs::read_to_string(out.join("hello")).unwrap(), "new and longer\n");
    assert_eq!(fs::read_link(out.join("link")).unwrap().to_str(), Some("hello"));
    let (a, b) = (
        fs::metadata(out.join("sub/deep/x")).unwrap(),
        fs::metadata(user.home().join("src/sub/deep/x")).unwrap(),
    );
    assert_eq!((a.mode(), a.mtime_nsec()), (b.mode(), b.mtime_nsec()));
    user.ok("at store restore -to part latest:sub");
    assert!(user.home().join("part/deep/x").exists());
    user.ok("at store restore -to file latest:sub/deep/x");
    assert_eq!(fs::read_to_string(user.home().join("file/x")).unwrap(), "x");
    user.ok("at store restore -tag first -to first");
    assert_eq!(fs::read_to_string(user.home().join("first/hello")).unwrap(), "old\n");
    let ran = user.run("-json at store restore -to out2 latest");
    let summary: serde_json::Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((summary["command"].as_str(), summary["files"].as_u64()), (Some("restore"), Some(2)));
}

#[test]
fn without_a_destination_a_new_folder_is_made() {
    let user = user();
    user.ok("at store restore latest");
    let made =
        fs::read_dir(user.home()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let made: Vec<String> = made.filter(|name| name.starts_with("plakar-2")).collect();
    assert_eq!(made.len(), 1);
    assert!(user.home().join(&made[0]).join("hello").exists());
}

#[test]
fn existing_files_are_replaced_left_or_refused() {
    let user = user();
    let hello = user.home().join("out/hello");
    user.ok("at store restore -to out");
    fs::write(&hello, "mine").unwrap();
    let told = user.ok("at store restore -skip-existing -to out");
    assert!(told.contains("left as they are"), "{told}");
    assert_eq!(fs::read_to_string(&hello).unwrap(), "mine");
    let ran = user.run("at store restore -no-overwrite -to out");
    assert!(ran.code == 1 && ran.stdout.contains("partly restored"), "{ran:?}");
    assert_eq!(fs::read_to_string(&hello).unwrap(), "mine");
    user.ok("at store restore -to out");
    assert_eq!(fs::read_to_string(&hello).unwrap(), "new and longer\n");
    assert_eq!(user.run("at store restore -skip-existing -no-overwrite -to out").code, 64);
    assert_eq!(user.run("at store restore -folder-markers -to out").code, 64);
    let ran = user.run("at store restore -o colour=red -to out");
    assert!(ran.code == 64 && ran.stderr.contains("no option colour"), "{ran:?}");
    assert_eq!(user.run("at store restore -o colour=red").code, 64);
}

#[test]
fn an_empty_store_has_nothing_to_restore() {
    let user = User::new();
    user.ok("at store create -plaintext");
    let ran = user.run("at store restore -to out");
    assert!(ran.code == 1 && ran.stderr.contains("the store holds no snapshot yet"), "{ran:?}");
    assert!(!user.home().join("out").exists());
}

#[test]
fn several_sources_must_be_told_apart() {
    let user = user();
    user.ok("at store backup other");
    let ran = user.run("at store restore -to out");
    assert_eq!(ran.code, 64);
    for said in ["/src", "/other", "several sources"] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    assert!(!user.home().join("out/file").exists());
    let ran = user.run("at store restore -root src -to out");
    assert_eq!(ran.code, 1, "a root is absolute: {ran:?}");
    let root = user.home().canonicalize().unwrap().join("other");
    let ran = user.run_args(["at", "store", "restore", "-root", root.to_str().unwrap(), "-to", "out"]);
    assert!(ran.code == 0 && ran.stderr.contains("restoring snapshot"), "{ran:?}");
    assert!(user.home().join("out/file").exists());
    let ran = user.run("at store restore -latest -to out2");
    assert!(ran.code == 0 && user.home().join("out2/file").exists(), "{ran:?}");
}

#[test]
fn a_destination_may_have_a_name() {
    let user = user();
    user.ok("destination add d ./named");
    user.ok("at store restore -to @d latest");
    user.ok("at store restore -to @d:below latest");
    assert!(user.home().join("named/hello").exists() && user.home().join("named/below/hello").exists());
    let ran = user.run("at store restore -to @store latest");
    assert!(ran.code == 64 && ran.stderr.contains("no destination is called @store"), "{ran:?}");
    assert_eq!(user.run("at store restore -to ftp://h/x latest").code, 1);
}

#[test]
fn names_of_one_file_are_not_linked_to_a_file_that_was_left_alone() {
    let user = user();
    let source = user.home().join("linked");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), "of the snapshot").unwrap();
    for name in ["b", "c"] {
        fs::hard_link(source.join("a"), source.join(name)).unwrap();
    }
    user.ok("at store backup linked");
    let out = user.home().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("a"), "mine").unwrap();
    user.ok("at store restore -skip-existing -to out latest");
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(
        (read("a"), read("b"), read("c")),
        ("mine".into(), "of the snapshot".into(), "of the snapshot".into())
    );
    fs::write(out.join("b"), "changed").unwrap();
    assert_eq!(read("c"), "changed", "the others are one file still");
}
