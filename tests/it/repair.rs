//! Repair: lost states are made up for, dangling tree values get their entries.

use std::sync::Arc;

use plakar::base::Id;
use plakar::connector::{Body, Kind, Storage};
use plakar::connectors::memory::MemoryStore;
use plakar::format::blob::BlobType;
use plakar::format::state::Delete;
use plakar::format::wrapper::HEADER_LEN;
use plakar::snapshot::{
    CheckOptions, MaintenanceOptions, RepairOptions, RepairReport, Tally, check, list, maintain, repair,
};
use plakar::store::{Changes, Error, Exclusive, PackReader, Repository, remove_snapshots};

use crate::cli::memory_dir;
use crate::engine::{Shared, assert_clean, assert_restores, back_up, create, kinds, reopen};

fn run(repository: &Arc<Repository>, apply: bool) -> RepairReport {
    repair(repository, &RepairOptions { apply, ..RepairOptions::default() }, &Tally::default()).unwrap()
}

fn ids(store: &MemoryStore, kind: Kind) -> Vec<Id> {
    let mut ids = Vec::new();
    store.list(kind, &mut |listed| ids.push(listed.id)).unwrap();
    ids.sort();
    ids
}

fn open(store: &Arc<MemoryStore>) -> Arc<Repository> {
    reopen(Arc::new(Shared::new(store)))
}

/// A store of two snapshots of one tree.
fn store(kind: usize) -> (Arc<MemoryStore>, tempfile::TempDir) {
    let folder = memory_dir();
    std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
    for number in 0..60 {
        let place = ["a", "a/b", "."][number % 3];
        std::fs::write(folder.path().join(format!("{place}/file {number}")), number.to_string()).unwrap();
    }
    let store = Arc::new(MemoryStore::new());
    let repository = create(Arc::new(Shared::new(&store)), &kinds()[kind].1);
    back_up(&repository, folder.path());
    std::fs::write(folder.path().join("later"), "later").unwrap();
    back_up(&open(&store), folder.path());
    (store, folder)
}

#[test]
fn lost_states_are_made_up_for() {
    for kind in 0..4 {
        let (store, folder) = store(kind);
        assert_eq!(run(&open(&store), true).adopted_count, 0, "nothing to repair");
        for state in ids(&store, Kind::State) {
            store.delete(Kind::State, state).unwrap();
        }
        let repository = open(&store);
        assert_eq!(list(&repository).0.len(), 0);
        let planned = run(&repository, false);
        assert_eq!((planned.snapshots.len(), ids(&store, Kind::State).len()), (2, 0));
        let done = run(&repository, true);
        assert_eq!((done.snapshots, done.adopted_count), (planned.snapshots, planned.adopted_count));
        let repository = open(&store);
        assert_clean(&repository);
        assert_restores(&repository, 1, folder.path());
        assert_eq!(run(&repository, true).adopted_count, 0);
    }
}

#[test]
fn a_damaged_state_is_replaced_and_maintenance_runs_again() {
    let (store, folder) = store(0);
    let first = list(&open(&store)).0[0].id;
    remove_snapshots(&open(&store), &[first]).unwrap();
    for state in ids(&store, Kind::State) {
        let mut bytes = store.get(Kind::State, state).unwrap();
        bytes[40] ^= 1;
        store.overwrite(Kind::State, state, &bytes);
    }
    let options = MaintenanceOptions { apply: true, ..MaintenanceOptions::default() };
    let maintained = maintain(&open(&store), &options, &Tally::default());
    assert!(matches!(maintained, Err(Error::Incomplete(_))), "{maintained:?}");
    let done = run(&open(&store), true);
    assert_eq!((done.damaged_states.len(), done.dropped_states, done.snapshots.len()), (3, 3, 2));
    let repository = open(&store);
    assert_clean(&repository);
    assert_restores(&repository, 1, folder.path());
    maintain(&repository, &options, &Tally::default()).unwrap();
}

#[test]
fn one_damaged_state_leaves_what_was_removed_removed() {
    let (store, _folder) = store(0);
    let (first, second) = {
        let (found, _) = list(&open(&store));
        (found[0].id, found[1].id)
    };
    remove_snapshots(&open(&store), &[first]).unwrap();
    let mut bytes = store.get(Kind::State, second).unwrap();
    bytes[40] ^= 1;
    store.overwrite(Kind::State, second, &bytes);
    let done = run(&open(&store), true);
    assert_eq!(done.snapshots, [second]);
    let live: Vec<Id> = list(&open(&store)).0.iter().map(|info| info.id).collect();
    assert_eq!(live, [second]);
    assert_clean(&open(&store));
}

#[test]
fn dangling_tree_values_get_their_entries() {
    for kind in [0, 2] {
        let (store, folder) = store(kind);
        let repository = open(&store);
        let mut exclusive = Exclusive::acquire(&repository, true, false).unwrap();
        let mut changes = Changes::new(repository.spills()).unwrap();
        let mut gone = 0;
        let catalogue = repository.catalogue();
        for pack in ids(&store, Kind::Packfile) {
            let size = store.size(Kind::Packfile, pack).unwrap();
            for record in PackReader::new(&repository).index(pack, size).unwrap().records {
                // Entries of folders that stand in no dirpack stay: of the root, that is.
                if record.kind == BlobType::VFS_ENTRY && !is_root(&repository, &record.id) {
                    assert!(catalogue.has(record.kind, &record.id).unwrap());
                    changes.delete(Delete::location(record.kind, record.id, pack));
                    gone += 1;
                }
            }
        }
        exclusive.commit(changes).unwrap();
        drop(exclusive);
        assert!(gone > 60);
        let repository = open(&store);
        let fast = CheckOptions { fast: true, ..CheckOptions::default() };
        let checked = check(&repository, None, &fast, &Tally::default()).unwrap();
        assert!(!checked.damage.is_empty());
        let options = MaintenanceOptions { apply: true, ..MaintenanceOptions::default() };
        let maintained = maintain(&repository, &options, &Tally::default());
        assert!(
            matches!(maintained, Err(Error::Missing { kind: BlobType::VFS_ENTRY, .. })),
            "{maintained:?}"
        );
        let planned = run(&repository, false);
        assert_eq!((planned.entry_count, planned.lost_entry_count), (gone, 0));
        assert_eq!(run(&repository, true).entry_count, gone);
        let repository = open(&store);
        assert_clean(&repository);
        assert_restores(&repository, 1, folder.path());
        maintain(&repository, &options, &Tally::default()).unwrap();
    }
}

fn is_root(repository: &Repository, id: &Id) -> bool {
    use plakar::store::blob::BlobSource;
    let bytes = repository.get(BlobType::VFS_ENTRY, id).unwrap();
    plakar::format::entry::Entry::decode(&bytes).unwrap().info.name == "/"
}

#[test]
fn what_cannot_be_read_is_told_and_left_alone() {
    let (store, _folder) = store(0);
    let pack = ids(&store, Kind::Packfile)[0];
    let mut bytes = store.get(Kind::Packfile, pack).unwrap();
    let end = bytes.len() - 40;
    bytes[end] ^= 1;
    let stranger = Id([7; 32]);
    store.put(Kind::Packfile, stranger, Body::Bytes(&bytes)).unwrap();
    let done = run(&open(&store), true);
    assert_eq!((done.unreadable.len(), done.adopted_count), (1, 0));
    assert_eq!(done.unreadable[0].0, stranger);
    assert!(ids(&store, Kind::Packfile).contains(&stranger));
    assert_clean(&open(&store));
}

/// Damages a blob of a kind, chunks being those of files; returns its id and its packfile, which holds others.
fn harm(store: &Arc<MemoryStore>, kind: BlobType) -> (Id, Id) {
    let repository = open(store);
    let mut best: Option<(usize, Id, Id, u64)> = None;
    for pack in ids(store, Kind::Packfile) {
        let size = store.size(Kind::Packfile, pack).unwrap();
        let mut records = PackReader::new(&repository).index(pack, size).unwrap().records;
        records.retain(|record| record.kind != BlobType::RANDOM);
        let alone = records.iter().all(|record| record.kind == BlobType::CHUNK);
        let found = records.iter().find(|record| record.kind == kind && (kind != BlobType::CHUNK || alone));
        if let Some(record) = found
            && best.as_ref().is_none_or(|(count, ..)| *count < records.len())
        {
            best = Some((records.len(), pack, record.id, record.offset + u64::from(record.length) / 2));
        }
    }
    let (count, pack, id, middle) = best.expect("a blob of this kind");
    assert!(count > 1);
    let mut bytes = store.get(Kind::Packfile, pack).unwrap();
    bytes[HEADER_LEN + usize::try_from(middle).unwrap()] ^= 4;
    store.overwrite(Kind::Packfile, pack, &bytes);
    (id, pack)
}

fn damage(store: &Arc<MemoryStore>) -> usize {
    check(&open(store), None, &CheckOptions::default(), &Tally::default()).unwrap().damage.len()
}

#[test]
fn what_is_damaged_in_a_packfile_is_stored_again_by_the_next_backup() {
    for kind in 0..4 {
        // Trees of a snapshot that differ from those of the next are not stored again: nobody has them any more.
        for blob in [BlobType::CHUNK, BlobType::OBJECT] {
            let (store, folder) = store(kind);
            let (lost, pack) = harm(&store, blob);
            std::thread::sleep(std::time::Duration::from_millis(100));
            // A backup alone relies on what is there.
            back_up(&open(&store), folder.path());
            assert!(damage(&store) > 0);
            let planned = run(&open(&store), false);
            assert_eq!(
                (planned.damaged_packs.as_slice(), planned.stuck_packs.as_slice()),
                ([pack].as_slice(), [].as_slice())
            );
            assert_eq!(planned.lost_blobs, [(blob, lost)]);
            let done = run(&open(&store), true);
            assert_eq!(done.lost_blobs, planned.lost_blobs);
            assert_eq!((done.bad_location_count, done.moved_count), (1, planned.moved_count));
            assert!(done.moved_count > 0, "what is whole is copied");
            let again = run(&open(&store), true);
            assert!(again.damaged_packs.is_empty() && again.given_up_count == done.lost_blobs.len() as u64);
            // The files did not change, and are read again where that is needed.
            back_up(&open(&store), folder.path());
            let repository = open(&store);
            assert_clean(&repository);
            for number in 1..4 {
                assert_restores(&repository, number, folder.path());
            }
            let options = MaintenanceOptions {
                apply: true,
                grace: std::time::Duration::ZERO,
                ..MaintenanceOptions::default()
            };
            maintain(&open(&store), &options, &Tally::default()).unwrap();
            maintain(&open(&store), &options, &Tally::default()).unwrap();
            assert!(!ids(&store, Kind::Packfile).contains(&pack), "it is gone in the end");
            assert_clean(&open(&store));
            assert_eq!(run(&open(&store), true).given_up_count, 0);
        }
    }
}

#[test]
fn another_copy_of_what_is_damaged_stays_usable() {
    let (store, folder) = store(0);
    let (lost, pack) = harm(&store, BlobType::CHUNK);
    let damaged = store.get(Kind::Packfile, pack).unwrap();
    // Stored again while its packfile is out of sight, which then comes back.
    store.delete(Kind::Packfile, pack).unwrap();
    back_up(&open(&store), folder.path());
    store.put(Kind::Packfile, pack, Body::Bytes(&damaged)).unwrap();
    let repository = open(&store);
    assert_eq!(repository.catalogue().find(BlobType::CHUNK, &lost).unwrap().len(), 2);
    let done = run(&repository, true);
    assert_eq!((done.damaged_packs.as_slice(), done.lost_blobs.len()), ([pack].as_slice(), 0));
    let places = open(&store).catalogue().find(BlobType::CHUNK, &lost).unwrap();
    assert!(places.len() == 1 && places[0].packfile != pack);
    assert_clean(&open(&store));
    assert_restores(&open(&store), 1, folder.path());
}

#[test]
fn a_header_that_cannot_be_read_is_not_given_up() {
    let (store, _folder) = store(0);
    let (_, pack) = harm(&store, BlobType::SNAPSHOT);
    let before = ids(&store, Kind::Packfile);
    let done = run(&open(&store), true);
    assert_eq!(
        (done.stuck_packs.as_slice(), done.bad_location_count, done.moved_count),
        ([pack].as_slice(), 0, 0)
    );
    assert_eq!(done.lost_blobs.len(), 1);
    assert_eq!(before.len(), ids(&store, Kind::Packfile).len());
    assert_eq!(open(&store).catalogue().snapshots().len(), 2, "it is listed still");
}

#[test]
fn a_packfile_that_is_gone_is_named() {
    let (store, folder) = store(0);
    let (_, pack) = harm(&store, BlobType::CHUNK);
    store.delete(Kind::Packfile, pack).unwrap();
    let done = run(&open(&store), true);
    assert_eq!((done.missing_packs.as_slice(), done.damaged_packs.len()), ([pack].as_slice(), 0));
    back_up(&open(&store), folder.path());
    let options = MaintenanceOptions { apply: true, ..MaintenanceOptions::default() };
    maintain(&open(&store), &options, &Tally::default()).unwrap();
    assert_clean(&open(&store));
    assert!(run(&open(&store), true).missing_packs.is_empty());
}
