//! Key slots: added, changed and removed, and never the last.

use std::sync::Arc;

use plakar::connector::{Kind, Storage};
use plakar::connectors::fs::FsStore;
use plakar::connectors::memory::MemoryStore;
use plakar::crypto::Secret;
use plakar::crypto::slots::RecoveryKey;
use plakar::store::{
    KdfChoice, OpenError, OpenOptions, Repository, SlotChange, SlotsError, UnlockError, WithPassphrase,
    change_slots, slots,
};

use crate::cli::User;
use crate::engine::{PASSPHRASE, Shared, kinds};

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn open(
    store: &Arc<MemoryStore>,
    passphrase: &str,
    data: &tempfile::TempDir,
) -> Result<Arc<Repository>, OpenError> {
    let options = OpenOptions { data_dir: Some(data.path().to_owned()), ..OpenOptions::default() };
    Repository::open(Arc::new(Shared::new(store)), &mut WithPassphrase(secret(passphrase)), &options)
}

fn labels(repository: &Repository) -> Vec<String> {
    slots(repository).into_iter().map(|slot| slot.label).collect()
}

#[test]
fn slots_come_and_go_but_never_the_one_in_use() {
    let store = Arc::new(MemoryStore::new());
    let data = tempfile::tempdir().unwrap();
    Repository::create(store.as_ref(), &kinds()[0].1).unwrap();
    let weak = KdfChoice::weak_for_tests();
    let first = open(&store, PASSPHRASE, &data).unwrap();
    let remove =
        |repository: &Arc<Repository>, label| change_slots(repository, &SlotChange::Remove { label });
    assert!(matches!(remove(&first, "main"), Err(SlotsError::Last(_))));
    assert!(matches!(remove(&first, "other"), Err(SlotsError::Unknown(_))));

    let laptop = secret("the passphrase of a laptop");
    let add = SlotChange::AddPassphrase { label: "laptop", passphrase: &laptop, kdf: weak };
    let original = store.config().unwrap();
    change_slots(&first, &add).unwrap();
    assert!(matches!(change_slots(&first, &add), Err(SlotsError::Taken(_))));
    let key = RecoveryKey::random();
    change_slots(&first, &SlotChange::AddRecovery { label: "paper", key: &key }).unwrap();

    let second = open(&store, "the passphrase of a laptop", &data).unwrap();
    assert_eq!(labels(&second), ["main", "laptop", "paper"]);
    let opened: Vec<bool> = slots(&second).iter().map(|slot| slot.opened).collect();
    assert_eq!(opened, [false, true, false]);
    assert!(matches!(remove(&second, "laptop"), Err(SlotsError::InUse(_))));
    // What was forgotten is replaced with the help of the recovery key.
    let third = open(&store, &key.encode(), &data).unwrap();
    let new = secret("another one");
    let replace = |label| SlotChange::Replace { label, passphrase: &new, kdf: weak };
    assert!(matches!(change_slots(&third, &replace("paper")), Err(SlotsError::Recovery(_))));
    change_slots(&third, &replace("main")).unwrap();
    remove(&third, "laptop").unwrap();
    for gone in [PASSPHRASE, "the passphrase of a laptop"] {
        let error = open(&store, gone, &data).unwrap_err();
        assert!(matches!(error, OpenError::Unlock { source: UnlockError::WrongPassphrase, .. }), "{error:?}");
    }
    let fourth = open(&store, "another one", &data).unwrap();
    assert_eq!(labels(&fourth), ["main", "paper"]);
    assert_eq!(fourth.config().encryption.as_ref().unwrap().native.as_ref().unwrap().generation, 5);
    remove(&fourth, "paper").unwrap();
    assert!(matches!(remove(&fourth, "main"), Err(SlotsError::Last(_))));
    // The old CONFIG, put back, is refused by whoever saw the new one.
    store.overwrite_config(Some(&original));
    assert!(matches!(open(&store, PASSPHRASE, &data), Err(OpenError::Pin(_))));
    let mut locks = 0;
    store.list(Kind::Lock, &mut |_| locks += 1).unwrap();
    assert_eq!(locks, 0);
}

#[test]
fn labels_and_numbers_have_bounds() {
    let store = Arc::new(MemoryStore::new());
    let data = tempfile::tempdir().unwrap();
    Repository::create(store.as_ref(), &kinds()[0].1).unwrap();
    let repository = open(&store, PASSPHRASE, &data).unwrap();
    let key = RecoveryKey::random();
    let add = |label: &str| change_slots(&repository, &SlotChange::AddRecovery { label, key: &key });
    for label in ["", "a\nb", &"x".repeat(65)] {
        assert!(matches!(add(label), Err(SlotsError::Label)), "{label:?}");
    }
    for number in 1..16 {
        add(&format!("paper {number}")).unwrap();
    }
    assert!(matches!(add("one too many"), Err(SlotsError::Full)));
    assert_eq!(labels(&open(&store, PASSPHRASE, &data).unwrap()).len(), 16);
    for kind in 1..4 {
        let store = Arc::new(MemoryStore::new());
        Repository::create(store.as_ref(), &kinds()[kind].1).unwrap();
        let repository = crate::engine::reopen(Arc::new(Shared::new(&store)));
        let change = SlotChange::AddRecovery { label: "paper", key: &key };
        assert!(matches!(change_slots(&repository, &change), Err(SlotsError::None(_))), "{kind}");
    }
}

#[test]
fn the_command_line_changes_keys() {
    let mut user = User::in_memory();
    let place = user.home().join("s");
    Repository::create(&FsStore::new(&place), &kinds()[0].1).unwrap();
    user.set("PLAKAR_PASSPHRASE", PASSPHRASE);
    let list = user.ok("at ./s key list");
    assert!(list.starts_with("main  passphrase  2") && list.contains("opened the store just now"), "{list}");
    let key = user.ok("at ./s key add -recovery");
    assert!(key.starts_with("PKR1-") && key.lines().count() == 1, "{key}");
    let nobody = user.run("at ./s key passwd");
    assert!(nobody.code == 77 && nobody.stderr.contains("-new-keyfile"), "{nobody:?}");
    for line in [
        "key rm main",
        "key rm nope",
        "key add -label main -recovery",
        "key foo",
        "key rm",
        "key list -recovery",
    ] {
        assert_ne!(user.run(&format!("at ./s {line}")).code, 0, "{line}");
    }
    assert!(!user.run("at ./s key rm main").stderr.contains(PASSPHRASE));
    // By the recovery key alone.
    let mut paper = User::in_memory();
    paper.set("PLAKAR_PASSPHRASE", key.trim());
    paper.set("PLAKAR_NEW_PASSPHRASE", "a new one");
    let at = format!("at {}", place.display());
    let told = paper.ok(&format!("{at} key passwd"));
    assert!(told.contains("changed the key slot 'main'"), "{told}");
    assert_eq!(user.run("at ./s ls").code, 77, "the old passphrase is no good any more");
    paper.set("PLAKAR_PASSPHRASE", "a new one");
    paper.ok(&format!("{at} key rm recovery"));
    let left = paper.ok(&format!("{at} key list -json"));
    let left: serde_json::Value = serde_json::from_str(left.trim()).unwrap();
    assert_eq!((left["label"].as_str(), left["kind"].as_str()), (Some("main"), Some("passphrase")));
}
