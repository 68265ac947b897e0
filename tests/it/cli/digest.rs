//! `digest`.

use std::fs;

use sha2::Digest as _;

use super::{User, hex, json, packfiles};

#[test]
fn digests_are_those_of_other_programs() {
    let user = User::new();
    let src = user.home().join("src");
    fs::create_dir_all(src.join("sub")).unwrap();
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(src.join("big"), &big).unwrap();
    fs::write(src.join("empty"), "").unwrap();
    fs::write(src.join("sub/odd\nname"), "hello").unwrap();
    std::os::unix::fs::symlink("big", src.join("link")).unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    let root = src.canonicalize().unwrap();
    let root = root.to_str().unwrap();
    let sha = |bytes: &[u8]| hex(&sha2::Sha256::digest(bytes));
    assert_eq!(
        user.ok("at store digest -hashing SHA256 latest"),
        format!(
            "SHA256 ({root}/big) = {}\nSHA256 ({root}/empty) = {}\nSHA256 ({root}/sub/odd\\nname) = {}\n",
            sha(&big),
            sha(b""),
            sha(b"hello")
        )
    );
    assert_eq!(
        user.ok("at store digest latest:big"),
        format!("BLAKE3 ({root}/big) = {}\n", blake3::hash(&big).to_hex())
    );
    let lines = json(&user.ok("-json at store digest latest:big latest:sub"));
    assert_eq!(
        lines[0],
        serde_json::json!({
            "type": "digest", "snapshot": lines[0]["snapshot"], "path": format!("{root}/big"),
            "algorithm": "BLAKE3", "digest": blake3::hash(&big).to_hex().to_string(), "size": big.len()
        })
    );
    assert_eq!((lines.len(), lines[1]["size"].as_u64()), (3, Some(5)));
    assert_eq!((lines[2]["type"].as_str(), lines[2]["files"].as_u64()), (Some("summary"), Some(2)));
    assert_eq!(user.run("at store digest -hashing MD5 latest").code, 64);
    assert_eq!(user.run("at store digest").code, 64);

    // A damaged content has no digest.
    for pack in packfiles(user.home().join("store")) {
        let mut bytes = fs::read(&pack).unwrap();
        if bytes.len() > 1 << 20 {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&pack, bytes).unwrap();
        }
    }
    let ran = user.run("at store digest latest");
    assert!(ran.code == 65 && !ran.stdout.contains("/big)") && ran.stdout.contains("/empty)"), "{ran:?}");
}

#[test]
fn upstreams_archives_have_the_digests_of_their_manifests() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/upstream");
    for version in ["v1.0.6", "v1.1.4"] {
        let user = User::new();
        let archive = folder.join(format!("{version}.ptar")).to_str().unwrap().to_owned();
        let manifest = fs::read_to_string(folder.join(format!("{version}.tsv"))).unwrap();
        let ran = user.run_args(["-json", "at", &archive, "digest", "-hashing", "SHA256", "latest"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let mut found: Vec<(String, String)> = json(&ran.stdout)
            .iter()
            .filter(|line| line["type"] == "digest")
            .map(|line| {
                let path = line["path"].as_str().unwrap().strip_prefix("/srv/dataset/").unwrap();
                (path.to_owned(), line["digest"].as_str().unwrap().to_owned())
            })
            .collect();
        let mut wanted: Vec<(String, String)> = manifest
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>())
            .filter(|fields| fields[0] == "f")
            .map(|fields| (fields[5].to_owned(), fields[4].to_owned()))
            .collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{version}");
        // Those of 1.0.x have types in their index only.
        let texts = user.run_args(["at", &archive, "find", "-content-type", "text/plain", "latest"]);
        assert!(texts.code == 0 && texts.stdout.contains("/a/b/c/deep.txt\n"), "{texts:?}");
    }
}
