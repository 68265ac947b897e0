//! `check` and `cat -highlight`: flags that upstream has.

use ed25519_dalek::{Signer as _, SigningKey};
use plakar::base::Id;
use plakar::connectors::fs::FsStore;
use plakar::format::blob::BlobType;
use plakar::format::snapshot::Identity;
use plakar::snapshot::list;
use plakar::store::blob::{BlobSink as _, BlobSource as _, Lane};
use plakar::store::{CheckpointPolicy, Writer};

use super::User;
use crate::damage::{flip, resources};

/// A user with a store `s` that holds one snapshot of `src`.
fn user() -> User {
    let user = User::in_memory();
    std::fs::create_dir(user.home().join("src")).unwrap();
    std::fs::write(user.home().join("src/a.rs"), "fn main() {}\n").unwrap();
    user.ok("at ./s create -plaintext");
    user.ok("at ./s backup src");
    user
}

/// Adds a signed snapshot to the store, with a signature that fits or does not.
fn sign(user: &User, number: u8, fits: bool) -> String {
    let storage = FsStore::new(user.home().join("s"));
    let repository = crate::interop::open(storage);
    let mut header = list(&repository).0.remove(0).header;
    let id = Id([number; 32]);
    let key = SigningKey::from_bytes(&[7; 32]);
    header.identifier = id;
    header.identity = Identity { identifier: [1; 16], public_key: key.verifying_key().to_bytes().to_vec() };
    let bytes = header.encode();
    let mut signature = key.sign((*repository).mac(&bytes).as_bytes()).to_bytes();
    signature[40] ^= u8::from(!fits);
    let writer = Writer::open(&repository, id, CheckpointPolicy::default(), None).unwrap();
    writer.put_as(BlobType::SIGNATURE, id, &signature, Lane::Tree).unwrap();
    writer.put_as(BlobType::SNAPSHOT, id, &bytes, Lane::Tree).unwrap();
    writer.commit().unwrap();
    id.to_hex()
}

#[test]
fn signatures_are_verified_unless_that_is_not_wanted() {
    let user = user();
    let good = sign(&user, 0xaa, true);
    user.ok("at ./s check");
    user.ok(&format!("at ./s check {}", &good[..8]));
    let bad = sign(&user, 0xbb, false);
    let ran = user.run("at ./s check");
    assert!(ran.code == 65 && ran.stdout.contains("it does not fit the header"), "{ran:?}");
    assert!(user.ok("at ./s check -no-verify").contains("checked 3 snapshots"));
    // A snapshot that is named is found without its signature, too.
    let ran = user.run(&format!("at ./s check {}", &bad[..8]));
    assert!(ran.code == 65 && ran.stderr.contains("signature"), "{ran:?}");
    user.ok(&format!("at ./s check -no-verify {}", &bad[..8]));
    assert!(user.ok("at ./s verify -fast -no-verify -since 1d").contains("checked 3 snapshots"));
}

#[test]
fn highlighting_is_accepted_and_changes_no_byte() {
    let user = user();
    let ran = user.run("at ./s cat -highlight latest:a.rs");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "fn main() {}\n", ""));
}

#[test]
fn a_damaged_state_is_found_where_the_cache_knows_what_it_said() {
    let user = user();
    std::fs::write(user.home().join("src/b.rs"), "later").unwrap();
    user.ok("at ./s backup src");
    user.ok("at ./s check");
    let latest = user.ok("at ./s ls").lines().last().unwrap().to_owned();
    let newest = resources(&user.home().join("s"), "states").pop().unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap().to_owned();
    let whole = std::fs::read(&newest).unwrap();
    let harm = || flip(&newest, whole.len() / 2);
    for (line, phrase) in [
        ("at ./s check", format!("damaged: state {name}")),
        ("at ./s check -fast", format!("damaged: state {name}")),
        ("at ./s repair", "1 damaged state".to_owned()),
        ("at ./s maintenance", format!("state {}", &name[..8])),
        ("at ./s maintenance -apply -grace 0", format!("state {}", &name[..8])),
    ] {
        // The cache knows the state as it was.
        std::fs::write(&newest, &whole).unwrap();
        user.ok("at ./s check");
        harm();
        let ran = user.run(line);
        assert_eq!(ran.code, 65, "{line}: {ran:?}");
        assert!(ran.stdout.contains(&phrase) || ran.stderr.contains(&phrase), "{line}: {ran:?}");
        if line.contains("check") {
            // What is lost with it is named, and others are told from then on.
            let hurt = ran.stdout.lines().find_map(|line| line.trim().strip_prefix("hurts ")).unwrap();
            assert!(latest.contains(&hurt[..8]), "{hurt} in {latest}");
            assert!(user.run("at ./s ls").stderr.contains("cannot be used"));
        }
    }
    user.ok("at ./s repair -apply");
    assert!(user.ok("at ./s check").contains("checked 2 snapshots"));
}

#[test]
fn only_states_that_verified_are_missed() {
    let user = user();
    user.ok("at ./s ls");
    // Rubbish that somebody put there: told, and not missed when it is gone.
    let rubbish = user.home().join("s/states/ab").join(format!("ab{}", "0".repeat(62)));
    std::fs::write(&rubbish, "rubbish of some length, which is no state at all, whatever its name says")
        .unwrap();
    assert!(user.run("at ./s ls").stderr.contains("cannot be used"));
    user.ok("at ./s backup src");
    std::fs::remove_file(&rubbish).unwrap();
    let ran = user.run("at ./s ls");
    assert!(ran.code == 0 && ran.stderr.is_empty(), "{ran:?}");
    // One that verified once is missed, though it was damaged before it went.
    let state = resources(&user.home().join("s"), "states").pop().unwrap();
    let length = usize::try_from(state.metadata().unwrap().len()).unwrap();
    flip(&state, length - 3);
    assert!(user.run("at ./s ls").stderr.contains("cannot be used"));
    std::fs::remove_file(&state).unwrap();
    assert!(user.run("at ./s ls").stderr.contains("seen before is gone"));
}

#[test]
fn a_damaged_state_of_an_archive_that_was_seen_before_is_found() {
    let user = user();
    user.ok("ptar -plaintext -o x.ptar src");
    user.ok("at ./x.ptar check");
    let path = user.home().join("x.ptar");
    let whole = std::fs::read(&path).unwrap();
    // Behind the packfile, which begins the archive, comes the state: its header is the second of its kind.
    let mut magic = whole.windows(8).enumerate().filter(|(_, bytes)| bytes == b"_KLOSET_").map(|(at, _)| at);
    let state = magic.next_back().unwrap();
    flip(&path, state + 70);
    for line in ["at ./x.ptar check", "at ./x.ptar check -fast", "at ./x.ptar check latest"] {
        let ran = user.run(line);
        assert!(ran.code == 65 && ran.stderr.contains("state"), "{line}: {ran:?}");
    }
}
