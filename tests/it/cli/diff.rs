//! `diff`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{User, json};

/// A user with two snapshots of `src`; returns their ids.
fn two_snapshots() -> (User, String, String) {
    let user = User::new();
    let src = user.home().join("src");
    fs::create_dir_all(src.join("same/deep")).unwrap();
    fs::create_dir_all(src.join("gone")).unwrap();
    fs::write(src.join("same/deep/file"), "same").unwrap();
    fs::write(src.join("gone/file"), "bye\n").unwrap();
    fs::write(src.join("text"), "one\ntwo\nthree\n").unwrap();
    fs::write(src.join("binary"), b"\0\x01").unwrap();
    fs::write(src.join("mode"), "m").unwrap();
    fs::write(src.join("turns"), "file").unwrap();
    std::os::unix::fs::symlink("text", src.join("link")).unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    fs::remove_dir_all(src.join("gone")).unwrap();
    fs::write(src.join("text"), "one\n2\n\x1b[2Jthree\n").unwrap();
    fs::write(src.join("binary"), b"\0\x02").unwrap();
    fs::set_permissions(src.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(src.join("turns")).unwrap();
    fs::create_dir(src.join("turns")).unwrap();
    fs::write(src.join("turns/new"), "new\n").unwrap();
    fs::remove_file(src.join("link")).unwrap();
    std::os::unix::fs::symlink("binary", src.join("link")).unwrap();
    user.ok("at store backup src");
    let ids: Vec<String> = json(&user.ok("-json at store ls"))
        .iter()
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    (user, ids[0].clone(), ids[1].clone())
}

#[test]
fn folders_show_paths_and_files_show_lines() {
    let (user, old, new) = two_snapshots();
    let root = user.home().canonicalize().unwrap().join("src");
    let root = root.to_str().unwrap();
    let listed = user.ok(&format!("at store diff {old} {new}")).replace(root, "");
    assert_eq!(
        listed,
        "M  /binary  (content)\nD  /gone/\nD  /gone/file\nM  /link  (target)\nM  /mode  (mode)\n\
         M  /text  (content)\nM  /turns/  (kind)\nA  /turns/new\n"
    );
    assert!(user.ok(&format!("at store diff -l {old} {new}")).starts_with(&format!("M  {root}/  (time)\n")));
    assert_eq!(user.ok(&format!("at store diff {new} latest")), "");
    assert_eq!(user.ok(&format!("at store diff {old}:same {new}:same")), "");
    assert_eq!(user.ok(&format!("at store diff -l {old}:same/deep/file {new}:same/deep/file")), "");

    let text = user.ok(&format!("at store diff {old}:text {new}:text")).replace(root, "");
    let (short, later) = (&old[..8], &new[..8]);
    let hunk = "@@ -1,3 +1,3 @@\n one\n-two\n-three\n+2\n+\x1b[2Jthree\n";
    assert_eq!(text, format!("--- {short}:/text\n+++ {later}:/text\n{hunk}"));
    let binary = user.ok(&format!("at store diff {old}:binary {new}:binary")).replace(root, "");
    assert_eq!(binary, format!("binary files {short}:/binary and {later}:/binary differ\n"));
    // Files of different names, and of one snapshot.
    let other = user.ok(&format!("at store diff {old}:same/deep/file {new}:mode"));
    assert!(other.contains("\n-same\n\\ No newline at end of file\n+m\n"), "{other}");

    let all = user.ok(&format!("at store diff -recursive {old} {new}")).replace(root, "");
    assert!(all.contains(&format!("--- {short}:/gone/file\n+++ /dev/null\n@@ -1 +0,0 @@\n-bye\n")), "{all}");
    assert!(all.contains(&format!("--- /dev/null\n+++ {later}:/turns/new\n@@ -0,0 +1 @@\n+new\n")), "{all}");
    assert!(all.contains(hunk), "{all}");
}

#[test]
fn json_shapes_are_pinned() {
    let (user, old, new) = two_snapshots();
    let root = user.home().canonicalize().unwrap().join("src");
    let lines = json(&user.ok(&format!("-json at store diff -recursive {old} {new}")));
    let of = |name: &str, kind: &str| {
        let path = root.join(name);
        lines
            .iter()
            .find(|line| line["path"] == path.to_str().unwrap() && line["type"] == kind)
            .cloned()
            .unwrap()
    };
    assert_eq!(
        of("text", "change"),
        serde_json::json!({
            "type": "change", "change": "modified", "path": root.join("text"), "kind": "file",
            "aspects": ["content", "time"], "old_size": 14, "new_size": 16
        })
    );
    assert_eq!(of("gone", "change")["change"], "removed");
    assert_eq!(
        of("turns/new", "diff"),
        serde_json::json!({"type": "diff", "path": root.join("turns/new"), "text": "@@ -0,0 +1 @@\n+new\n"})
    );
    assert!(of("binary", "diff")["reason"].as_str().unwrap().starts_with("binary files"));
}

#[test]
fn what_is_missing_is_named() {
    let (user, old, _) = two_snapshots();
    for (line, code, said) in [
        ("at store diff latest", 64, "NEW"),
        ("at store diff latest:nothing latest:text", 1, "no such path"),
        ("at store diff ffffffffffff latest", 1, "no snapshot matches"),
    ] {
        let ran = user.run(line);
        assert!(ran.code == code && ran.stderr.contains(said), "{line}: {ran:?}");
    }
    let ran = user.run(&format!("at store diff {old}:same latest:text"));
    assert!(ran.code == 0 && ran.stdout.contains("(kind)"), "{ran:?}");
}
