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
