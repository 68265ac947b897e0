//! Folding of states: everyone sees what they saw before, few states are read, and nothing is lost on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use plakar::base::{Id, Timestamp};
use plakar::connector::{Kind, Storage};
use plakar::connectors::memory::{Counted, Faulty, MemoryStore};
use plakar::crypto::seal::Item;
use plakar::format::state::{Coloured, Delete, StateEntry, StateReader};
use plakar::format::wrapper::{self, Resource};
use plakar::snapshot::{MaintenanceOptions, MaintenanceReport, Tally, list, maintain};
use plakar::store::{CreateOptions, OpenOptions, Repository, WithPassphrase, remove_snapshots};

use crate::cli::memory_dir;
use crate::engine::{PASSPHRASE, Shared, assert_clean, back_up, create, kinds, reopen};
use crate::lapse::put_state;
use crate::maintenance::Dice;

const DAY: i64 = 24 * 3600;

fn options(days: i64, above: usize) -> MaintenanceOptions {
    let now = Timestamp::now();
    MaintenanceOptions {
        apply: true,
        now: Some(Timestamp { secs: now.secs + days * DAY, ..now }),
        fold_above: Some(above),
        ..MaintenanceOptions::default()
    }
}

fn fold(store: &Arc<MemoryStore>, days: i64, above: usize) -> MaintenanceReport {
    maintain(&reopen(Arc::new(Shared::new(store))), &options(days, above), &Tally::default()).unwrap()
}

fn states(store: &MemoryStore) -> Vec<Id> {
    let mut ids = Vec::new();
    store.list(Kind::State, &mut |listed| ids.push(listed.id)).unwrap();
    ids
}

fn store(kind: usize) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let options = CreateOptions { packfile_size: Some(1 << 20), ..kinds()[kind].1.clone() };
    create(Arc::new(Shared::new(&store)), &options);
    store
}

/// Backs up a new file a few times, removing some of the snapshots.
fn history(store: &Arc<MemoryStore>, backups: u32) {
    let folder = memory_dir();
    for number in 0..backups {
        fs::write(folder.path().join(format!("file {number}")), format!("content {number}")).unwrap();
        let done = back_up(&reopen(Arc::new(Shared::new(store))), folder.path());
        if number % 3 == 0 {
            remove_snapshots(&reopen(Arc::new(Shared::new(store))), &[done.snapshot]).unwrap();
        }
    }
}

/// Runs maintenance without folding until nothing is left to do, so that folding is all that is done next.
fn settle(store: &Arc<MemoryStore>, day: &mut i64) {
    loop {
        let options = MaintenanceOptions { fold_above: None, ..options(*day, 0) };
        let repository = reopen(Arc::new(Shared::new(store)));
        let done = maintain(&repository, &options, &Tally::default()).unwrap();
        if done.fates.is_empty() {
            return;
        }
        *day += 8;
    }
}

/// A client with a cache of its own.
pub(crate) struct Client(tempfile::TempDir);

impl Client {
    pub(crate) fn new() -> Self {
        Self(memory_dir())
    }

    pub(crate) fn open(&self, storage: Arc<dyn Storage>) -> Arc<Repository> {
        let options = OpenOptions {
            cache_dir: Some(self.0.path().join("cache")),
            data_dir: Some(self.0.path().join("data")),
            ..OpenOptions::default()
        };
        struct Given(WithPassphrase);
        impl plakar::store::Unlock for Given {
            fn passphrase(
                &mut self,
                attempt: u32,
            ) -> Result<Option<plakar::crypto::Secret>, Box<dyn std::error::Error + Send + Sync>>
            {
                self.0.passphrase(attempt)
            }
        }
        let secret = plakar::crypto::Secret::from(PASSPHRASE.to_owned());
        Repository::open(storage, &mut Given(WithPassphrase(secret)), &options).unwrap()
    }

    /// Opens, and returns how many reads that took, listings and CONFIG included.
    fn count(&self, store: &Arc<MemoryStore>) -> (Arc<Repository>, u64) {
        let counted = Arc::new(Faulty::new(Shared::new(store), Counted::Reads, u64::MAX));
        let repository = self.open(Arc::clone(&counted) as Arc<dyn Storage>);
        (repository, counted.spent())
    }
}

/// Everything a catalogue answers, in short.
pub(crate) fn view(repository: &Repository) -> (Vec<Id>, usize, usize, blake3::Hash) {
    let catalogue = repository.catalogue();
    let mut packs = BTreeMap::new();
    for ordinal in 0..catalogue.pack_count() {
        let id = catalogue.pack_id(ordinal);
        let known = catalogue.known_packs().any(|known| known == id);
        if known {
            packs.insert(id, catalogue.is_live_pack(id));
        }
    }
    let mut blobs = BTreeSet::new();
    catalogue
        .each_blob(&mut |kind, id| {
            blobs.insert((kind.0, *id));
        })
        .unwrap();
    let mut places = Vec::new();
    for (kind, id) in blobs {
        let mut found: Vec<_> = catalogue
            .find_any(plakar::format::blob::BlobType(kind), &id)
            .unwrap()
            .into_iter()
            .map(|place| (place.packfile, place.offset, place.length))
            .collect();
        found.sort_unstable();
        if !found.is_empty() {
            places.push((kind, id, found));
        }
    }
    let all = format!("{:?}", (catalogue.journals(), &packs, &places));
    (catalogue.snapshots(), packs.len(), places.len(), blake3::hash(all.as_bytes()))
}

/// Entries by what they are keyed by, and the packfiles that are known.
#[derive(PartialEq)]
struct Aggregated(BTreeMap<Vec<u8>, Vec<u8>>, BTreeSet<Id>);

impl std::fmt::Debug for Aggregated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} entries, {} packfiles", self.0.len(), self.1.len())
    }
}

/// What states add up to for a reader that knows no folding: locations, packfiles and colours. Among states without an
/// order it takes any.
fn naive(store: &Arc<MemoryStore>, dice: &mut Dice) -> Aggregated {
    let repository = reopen(Arc::new(Shared::new(store)));
    let mut all: BTreeMap<Id, (Id, Vec<StateEntry>)> = BTreeMap::new();
    for id in states(store) {
        let bytes = store.get(Kind::State, id).unwrap();
        let parts = wrapper::split(&bytes, Resource::State).unwrap();
        let plain = repository.encoding().decode(Item::state(id), parts.payload, 1 << 28, "a state").unwrap();
        let mut reader = StateReader::new(&plain[..], parts.version).unwrap();
        let parent = reader.parent();
        all.insert(id, (parent, reader.by_ref().map(Result::unwrap).collect()));
    }
    let mut done = BTreeSet::new();
    let (mut insertions, mut colours, mut packs) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    while done.len() < all.len() {
        let ready: Vec<Id> = all
            .iter()
            .filter(|(id, (parent, _))| {
                !done.contains(*id) && (done.contains(parent) || !all.contains_key(parent))
            })
            .map(|(id, _)| *id)
            .collect();
        let id = ready[dice.below(ready.len() as u64) as usize];
        done.insert(id);
        for entry in &all[&id].1 {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            match entry {
                StateEntry::Location(l) => {
                    insertions.entry((l.kind.0, l.id, l.packfile)).or_insert(bytes);
                }
                StateEntry::Coloured(c) => {
                    colours.entry((c.kind, c.id)).or_insert(bytes);
                }
                StateEntry::Packfile(p) => drop(packs.insert(p.packfile)),
                StateEntry::Delete(d) if d.is_packfile() => {
                    packs.remove(&d.packfile);
                    insertions.retain(|(_, _, pack), _| *pack != d.packfile);
                }
                StateEntry::Delete(d) if d.is_colour() => drop(colours.remove(&(d.resource, d.id))),
                StateEntry::Delete(d) => drop(insertions.remove(&(d.resource, d.id, d.packfile))),
                StateEntry::Folding(_) | StateEntry::Folded(_) => {}
            }
        }
    }
    // A location in a packfile that is not known is ignored by every reader.
    insertions.retain(|(_, _, pack), _| packs.contains(pack));
    let mut everything = BTreeMap::new();
    for ((kind, a, b), bytes) in insertions {
        everything.insert([&[2, kind], &a.0[..], &b.0[..]].concat(), bytes);
    }
    for ((kind, id), bytes) in colours {
        everything.insert([&[3, kind], &id.0[..]].concat(), bytes);
    }
    Aggregated(everything, packs)
}

#[test]
fn other_readers_and_warm_clients_see_what_they_saw() {
    let mut dice = Dice(getrandom::u64().unwrap());
    println!("seed {}", dice.0);
    for kind in 0..4 {
        let (store, mut day) = (store(kind), 0);
        let (warm, stale) = (Client::new(), Client::new());
        history(&store, 5);
        stale.open(Arc::new(Shared::new(&store)));
        for round in 0..3 {
            // Colours, deletes, packfiles that go: all that a state can say.
            history(&store, 4);
            settle(&store, &mut day);
            let repository = reopen(Arc::new(Shared::new(&store)));
            let live = repository.catalogue().known_packs().next().unwrap();
            put_state(&repository, &[StateEntry::Coloured(Coloured::packfile(live, 5))]);
            repository.reload().unwrap();
            put_state(&repository, &[StateEntry::Delete(Delete::packfile_colour(live))]);
            let look = || reopen(Arc::new(Shared::new(&store)));
            let (before, wide) = (view(&look()), naive(&store, &mut dice));
            if round < 2 {
                warm.open(Arc::new(Shared::new(&store)));
            }
            let done = fold(&store, day, 4);
            assert!(done.fates.is_empty() && done.folded_count > 4, "{done:?}");
            // Those that were folded are still there: read by others beside the one that took their place, or not.
            let see = |dice: &mut Dice| {
                assert_eq!(naive(&store, dice), wide, "kind {kind}");
                assert_eq!(view(&look()), before, "kind {kind}");
                let repository = warm.open(Arc::new(Shared::new(&store)));
                assert_eq!(view(&repository), before, "kind {kind}");
                assert!(repository.take_warnings().is_empty());
            };
            see(&mut dice);
            day += 8;
            let swept = fold(&store, day, 4);
            assert_eq!((swept.folded_count, swept.waiting_states), (0, 0), "{swept:?}");
            assert!(swept.deleted_states >= done.folded_count && states(&store).len() <= 4);
            (0..4).for_each(|_| see(&mut dice));
            let repository = stale.open(Arc::new(Shared::new(&store)));
            assert_eq!(view(&repository), before, "kind {kind}");
            assert!(repository.take_warnings().is_empty());
            assert_clean(&look());
        }
    }
}

/// A store of a thousand states.
fn thousand() -> (Arc<MemoryStore>, i64) {
    let (store, mut day) = (store(0), 0);
    history(&store, 3);
    settle(&store, &mut day);
    let repository = reopen(Arc::new(Shared::new(&store)));
    for number in states(&store).len()..1000 {
        let mut id = Id::ZERO;
        id.0[..8].copy_from_slice(&number.to_le_bytes());
        put_state(&repository, &[StateEntry::Coloured(Coloured::snapshot(id, number as i64))]);
    }
    (store, day)
}

#[test]
fn a_cold_client_of_a_thousand_states_reads_few() {
    let (store, day) = thousand();
    let (warm, other) = (Client::new(), Client::new());
    let (known, before) = warm.count(&store);
    assert!(before >= 1000, "{before}");
    let rows = known.catalogue().row_count();
    let done = fold(&store, day, 64);
    assert_eq!(done.folded_count, 1000);
    assert_eq!(states(&store).len(), 1001, "they stay for a grace period");
    let (cold, reads) = Client::new().count(&store);
    assert!(reads <= 8, "{reads} reads");
    // Who knew them all reads one more, and keeps the tables that there are.
    assert_eq!(rows, warm.open(Arc::new(Shared::new(&store))).catalogue().row_count());
    assert_eq!(view(&warm.open(Arc::new(Shared::new(&store)))), view(&cold));
    assert_eq!(fold(&store, day + 1, 64).waiting_states, 1000);
    let done = fold(&store, day + 8, 64);
    assert_eq!((done.deleted_states, done.folded_count), (1000, 0), "{done:?}");
    assert_eq!(states(&store).len(), 1);
    let (repository, reads) = warm.count(&store);
    assert!(reads <= 4, "{reads} reads");
    assert!(repository.take_warnings().is_empty(), "a pin knows what was folded");
    assert_eq!(view(&repository), view(&other.open(Arc::new(Shared::new(&store)))));
}

#[test]
fn what_is_large_is_not_written_again_for_what_is_small() {
    let store = store(0);
    let folder = memory_dir();
    for number in 0..600 {
        fs::write(folder.path().join(number.to_string()), format!("content {number}")).unwrap();
    }
    back_up(&reopen(Arc::new(Shared::new(&store))), folder.path());
    let large = states(&store)[0];
    for _ in 0..8 {
        history(&store, 1);
    }
    let mut day = 0;
    settle(&store, &mut day);
    let done = fold(&store, day, 10);
    assert_eq!(done.folded_count + 1, done.state_count, "{done:?}");
    fold(&store, day + 8, 10);
    assert!(states(&store).len() == 2 && states(&store).contains(&large));
    assert_clean(&reopen(Arc::new(Shared::new(&store))));
    // And when what is small has grown, it is.
    for number in 0..600 {
        fs::write(folder.path().join(number.to_string()), format!("other {number}")).unwrap();
    }
    back_up(&reopen(Arc::new(Shared::new(&store))), folder.path());
    fold(&store, day + 9, 2);
    fold(&store, day + 17, 2);
    assert_eq!(states(&store).len(), 1);
    assert_clean(&reopen(Arc::new(Shared::new(&store))));
}

#[test]
fn a_fold_killed_anywhere_leaves_a_whole_store() {
    let (whole, mut day) = (store(3), 0);
    history(&whole, 6);
    settle(&whole, &mut day);
    let expected = view(&reopen(Arc::new(Shared::new(&whole))));
    for landing in [false, true] {
        for budget in 0.. {
            let store = Arc::new(MemoryStore::clone(&whole));
            let faulty = |budget| {
                let faulty = Faulty::new(Shared::new(&store), Counted::Writes, budget);
                Arc::new(if landing { faulty.landing() } else { faulty })
            };
            let first = maintain(&reopen(faulty(budget)), &options(day, 2), &Tally::default());
            assert_eq!(view(&reopen(Arc::new(Shared::new(&store)))), expected);
            forget_locks(&store);
            let second = maintain(&reopen(faulty(budget)), &options(day + 8, 2), &Tally::default());
            assert_eq!(view(&reopen(Arc::new(Shared::new(&store)))), expected);
            forget_locks(&store);
            if first.is_ok() && second.is_ok() {
                assert_eq!(states(&store).len(), 1);
                break;
            }
            fold(&store, day + 20, 2);
            fold(&store, day + 40, 2);
            assert_eq!(states(&store).len(), 1, "after {budget} writes");
            let repository = reopen(Arc::new(Shared::new(&store)));
            assert_eq!(view(&repository), expected);
            assert_clean(&repository);
        }
    }
}

fn forget_locks(store: &MemoryStore) {
    let mut ids = Vec::new();
    store.list(Kind::Lock, &mut |listed| ids.push(listed.id)).unwrap();
    ids.iter().for_each(|id| store.delete(Kind::Lock, *id).unwrap());
}

#[test]
fn states_that_go_after_they_were_listed_are_looked_for_again() {
    let (store, mut day) = (store(0), 0);
    history(&store, 6);
    settle(&store, &mut day);
    let expected = view(&reopen(Arc::new(Shared::new(&store))));
    let (once, inner) = (AtomicBool::new(false), Arc::clone(&store));
    let hooked = Shared::new(&store).after_listing(move |kind| {
        if kind == Kind::State && !once.swap(true, Ordering::SeqCst) {
            // Without a grace period: what is folded goes at once.
            let now = MaintenanceOptions { grace: std::time::Duration::ZERO, ..options(day, 2) };
            let done = maintain(&reopen(Arc::new(Shared::new(&inner))), &now, &Tally::default()).unwrap();
            assert!(done.deleted_states > 5, "{done:?}");
        }
    });
    let repository = reopen(Arc::new(hooked));
    assert_eq!(view(&repository), expected);
    assert!(repository.take_warnings().is_empty());
    assert_eq!(list(&repository).1.len(), 0);
}

#[test]
fn what_takes_something_back_after_a_folded_parent_is_folded_before_that_goes() {
    let (store, mut day) = (store(3), 0);
    history(&store, 6);
    settle(&store, &mut day);
    // Somebody who had not seen the fold puts a state whose parent is folded.
    let before = reopen(Arc::new(Shared::new(&store)));
    fold(&store, day, 2);
    let known = before.catalogue().known_packs().next().unwrap();
    put_state(&before, &[StateEntry::Delete(Delete::packfile_colour(known))]);
    // None that was folded goes, though it is time: the new state has to be folded first.
    let unfolded = MaintenanceOptions { fold_above: None, ..options(day + 8, 0) };
    let repository = reopen(Arc::new(Shared::new(&store)));
    let kept = maintain(&repository, &unfolded, &Tally::default()).unwrap();
    assert!(kept.deleted_states == 0 && kept.waiting_states > 0, "{kept:?}");
    let done = fold(&store, day + 8, 64);
    assert!(done.folded_count == 2 && done.deleted_states > 0, "though there are few: {done:?}");
    fold(&store, day + 16, 64);
    assert_eq!(states(&store).len(), 1);
    assert_clean(&reopen(Arc::new(Shared::new(&store))));
}

/// A storage that lets nobody delete states.
#[test]
fn where_states_may_not_be_deleted_they_stay_and_are_not_read() {
    let (store, mut day) = (store(0), 0);
    history(&store, 6);
    settle(&store, &mut day);
    let held = || reopen(Arc::new(crate::maintenance::Immutable(Shared::new(&store), Kind::State)));
    let expected = view(&held());
    assert!(maintain(&held(), &options(day, 2), &Tally::default()).unwrap().folded_count > 2);
    let count = states(&store).len();
    for days in [8, 9] {
        let done = maintain(&held(), &options(day + days, 2), &Tally::default()).unwrap();
        assert_eq!((done.held_states, done.deleted_states), (count as u64 - 1, 0), "{done:?}");
    }
    assert_eq!(states(&store).len(), count);
    assert_eq!(view(&held()), expected);
    let (_, reads) = Client::new().count(&store);
    assert!(reads <= 8, "{reads} reads");
    // Whoever may, does.
    assert_eq!(fold(&store, day + 10, 2).deleted_states, count as u64 - 1);
}
