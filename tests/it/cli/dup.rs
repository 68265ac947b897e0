//! `dup`.

use std::fs;

use super::{User, json, packfiles};

#[test]
fn a_duplicate_is_a_snapshot_of_its_own() {
    let user = User::new();
    let src = user.home().join("src");
    fs::create_dir_all(&src).unwrap();
    fs::write(src.join("big"), (0..500_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup -tag old,x -name mine -job nightly src");
    let bytes = || -> u64 {
        packfiles(user.home().join("store")).iter().map(|pack| fs::metadata(pack).unwrap().len()).sum()
    };
    let before = bytes();
    let told = user.ok("at store dup -tag keep -tag more -name kept latest");
    assert!(told.starts_with("snapshot ") && told.contains("is a duplicate of"), "{told}");
    assert!(bytes() - before < 100_000, "no content is copied");

    let list = json(&user.ok("-json at store ls"));
    assert_eq!(list.len(), 2);
    assert_ne!(list[0]["id"], list[1]["id"]);
    assert!(list[1]["timestamp"].as_str() > list[0]["timestamp"].as_str());
    assert_eq!(list[1]["tags"], serde_json::json!(["keep", "more"]));
    assert_eq!((list[1]["name"].as_str(), list[1]["job"].as_str()), (Some("kept"), Some("nightly")));
    assert_eq!(list[1]["sources"], list[0]["sources"]);
    assert_eq!(user.ok(&format!("at store diff -l {} latest", list[0]["id"].as_str().unwrap())), "");
    assert!(user.ok("at store check").contains("no damage"));

    let lines = json(&user.ok("-json at store dup latest"));
    assert_eq!(lines[0]["type"], "committed");
    assert_eq!(
        lines[1],
        serde_json::json!({
            "type": "summary", "command": "dup", "original": list[1]["id"], "snapshot": lines[0]["snapshot"]
        })
    );
    assert_eq!(json(&user.ok("-json at store ls"))[2]["tags"], list[1]["tags"]);
    // The next backup of the source takes a duplicate for what it is: the same.
    assert!(user.ok("at store backup src").contains("(1 unchanged)"));

    for (line, code, said) in [
        ("at store dup", 64, "SNAPSHOT"),
        ("at store dup latest:big", 64, "cannot be duplicated"),
        ("at store dup latest ffffffffffff", 1, "no snapshot matches"),
    ] {
        let ran = user.run(line);
        assert!(ran.code == code && ran.stderr.contains(said), "{line}: {ran:?}");
    }
    assert_eq!(json(&user.ok("-json at store ls")).len(), 4, "a wrong name makes none");
}
