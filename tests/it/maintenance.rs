//! Maintenance: no live snapshot ever loses a blob, and the space of dead ones returns.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plakar::base::{Id, Timestamp};
use plakar::connector::{self, Body, ErrorKind, Kind, Listed, Storage};
use plakar::connectors::fs::FsImporter;
use plakar::connectors::memory::{Counted, Faulty, MemoryStore};
use plakar::snapshot::{
    BackupOptions, CheckOptions, Fate, MaintenanceOptions, MaintenanceReport, Tally, backup, check, list,
    maintain,
};
use plakar::store::{
    Changes, CheckpointPolicy, CreateOptions, Error, Exclusive, Repository, remove_snapshots,
};

use crate::cli::memory_dir;
use crate::engine::{Shared, assert_clean, assert_restores, back_up, kinds, look, reopen};
use crate::folding::{Client, view};

const DAY: i64 = 24 * 3600;

/// A store in memory, and a folder to back up.
struct Bed {
    store: Arc<MemoryStore>,
    folder: tempfile::TempDir,
}

impl Bed {
    fn new(kind: usize, packfile_size: u64) -> Self {
        let store = Arc::new(MemoryStore::new());
        let options = CreateOptions { packfile_size: Some(packfile_size), ..kinds()[kind].1.clone() };
        Repository::create(store.as_ref(), &options).unwrap();
        let folder = memory_dir();
        fs::create_dir(folder.path().join("source")).unwrap();
        Self { store, folder }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn write(&self, name: &str, seed: u64, length: usize) {
        let path = self.source().join(name);
        fs::write(&path, content(seed, length)).unwrap();
        // What attributes name is to be kept as well; a folder that takes none has none to lose.
        let flags = rustix::fs::XattrFlags::empty();
        let _ = rustix::fs::setxattr(&path, "user.seed", &content(seed ^ 0x4d, 500), flags);
    }

    fn open(&self) -> Arc<Repository> {
        reopen(Arc::new(Shared::new(&self.store)))
    }

    fn back_up(&self) -> Id {
        back_up(&self.open(), &self.source()).snapshot
    }

    fn rm(&self, id: Id) {
        remove_snapshots(&self.open(), &[id]).unwrap();
    }

    fn stored(&self) -> u64 {
        self.store.stored_bytes(Kind::Packfile)
    }

    fn packs(&self) -> Vec<Id> {
        let mut ids = Vec::new();
        self.store.list(Kind::Packfile, &mut |listed| ids.push(listed.id)).unwrap();
        ids.sort_unstable();
        ids
    }

    /// What a killed run leaves behind it is not waited for.
    fn forget_locks(&self) {
        forget_locks(self.store.as_ref());
    }
}

/// Takes all locks away, as who takes them for stale does.
pub(crate) fn forget_locks(storage: &dyn Storage) {
    let mut ids = Vec::new();
    storage.list(Kind::Lock, &mut |listed| ids.push(listed.id)).unwrap();
    ids.iter().for_each(|id| storage.delete(Kind::Lock, *id).unwrap());
}

pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn options(days: i64) -> MaintenanceOptions {
    let now = Timestamp::now();
    MaintenanceOptions {
        apply: true,
        now: Some(Timestamp { secs: now.secs + days * DAY, ..now }),
        ..MaintenanceOptions::default()
    }
}

fn run(bed: &Bed, days: i64) -> MaintenanceReport {
    maintain(&bed.open(), &options(days), &Tally::default()).unwrap()
}

#[test]
fn space_returns_after_the_grace_period() {
    for kind in 0..4 {
        let bed = Bed::new(kind, 1 << 20);
        bed.write("a", 1, 3_000_000);
        let first = bed.back_up();
        fs::remove_file(bed.source().join("a")).unwrap();
        bed.write("b", 2, 200_000);
        bed.back_up();
        let full = bed.stored();
        assert_eq!(run(&bed, 0).fates, [], "everything is needed");
        bed.rm(first);
        let before = (bed.packs(), bed.store.stored_bytes(Kind::State));
        let plan = MaintenanceOptions { apply: false, ..options(0) };
        let planned = maintain(&bed.open(), &plan, &Tally::default()).unwrap();
        assert_eq!((bed.packs(), bed.store.stored_bytes(Kind::State)), before, "a plan changes nothing");
        let done = run(&bed, 0);
        assert_eq!(planned.fates, done.fates);
        assert!(done.of(Fate::Coloured).1 > 3_000_000 && done.freed_bytes == 0, "{done:?}");
        assert!(bed.stored() >= full);
        let waiting = run(&bed, 6);
        assert_eq!(waiting.of(Fate::Waiting).0, done.of(Fate::Coloured).0 + done.of(Fate::Repacked).0);
        let swept = run(&bed, 8);
        let coloured = |report: &MaintenanceReport| report.of(Fate::Coloured).1 + report.of(Fate::Repacked).1;
        assert_eq!(swept.freed_bytes, coloured(&done));
        assert!(bed.stored() < full - 2_900_000, "{} bytes are left of {full}", bed.stored());
        assert_eq!(run(&bed, 9).fates, [], "nothing is left to do");
        let repository = bed.open();
        assert_clean(&repository);
        assert_restores(&repository, 0, &bed.source());
    }
}

#[test]
fn what_is_mostly_garbage_is_copied() {
    for kind in [0, 3] {
        let bed = Bed::new(kind, 64 << 20);
        for number in 0..30 {
            bed.write(&format!("file {number}"), number, 100_000);
        }
        let first = bed.back_up();
        for number in 4..30 {
            fs::remove_file(bed.source().join(format!("file {number}"))).unwrap();
        }
        bed.back_up();
        bed.rm(first);
        let little = MaintenanceOptions { max_repack: 1000, ..options(0) };
        assert_eq!(maintain(&bed.open(), &little, &Tally::default()).unwrap().of(Fate::Repacked).0, 0);
        let done = run(&bed, 0);
        assert!(done.of(Fate::Repacked).0 >= 1, "{done:?}");
        assert!((400_000..700_000).contains(&done.copied_bytes), "{done:?}");
        assert_clean(&bed.open());
        assert!(run(&bed, 8).freed_bytes > 3_000_000);
        // In upstream's profile two packfiles of a few hundred kilobytes carry a megabyte of padding each.
        assert!(
            bed.stored() < if kind == 0 { 700_000 } else { 4_000_000 },
            "{} bytes are left",
            bed.stored()
        );
        let repository = bed.open();
        assert_clean(&repository);
        assert_restores(&repository, 0, &bed.source());
        // And a backup finds what was copied.
        let again = back_up(&repository, &bed.source());
        assert!(again.stats.stored_bytes < 50_000, "{again:?}");
        assert_eq!(run(&bed, 9).of(Fate::Repacked).0, 0, "what was copied is not copied again");
    }
}

/// Backs up into two copies of a store, and puts what the second got into the first: two writers that did not see each
/// other store the same.
fn twice(bed: &Bed) -> [Id; 2] {
    let apart = Arc::new(MemoryStore::clone(&bed.store));
    let first = bed.back_up();
    let second = back_up(&reopen(Arc::new(Shared::new(&apart))), &bed.source()).snapshot;
    for kind in [Kind::Packfile, Kind::State] {
        apart
            .list(kind, &mut |listed| {
                let bytes = apart.get(kind, listed.id).unwrap();
                bed.store.put(kind, listed.id, Body::Bytes(&bytes)).unwrap();
            })
            .unwrap();
    }
    [first, second]
}

#[test]
fn what_two_writers_stored_is_kept_once() {
    for kind in 0..4 {
        let bed = Bed::new(kind, 300_000);
        for number in 0..20 {
            bed.write(&format!("file {number}"), number, 100_000);
        }
        let [first, second] = twice(&bed);
        let double = bed.stored();
        let repository = bed.open();
        assert_eq!(list(&repository).0.len(), 2);
        // Whole packfiles die, next to nothing is copied.
        let done = run(&bed, 0);
        assert!(done.of(Fate::Coloured).1 > 1_500_000, "{done:?}");
        assert!(done.copied_bytes < 700_000 && done.needed_bytes < 2_300_000, "{done:?}");
        assert_clean(&bed.open());
        let swept = run(&bed, 8);
        assert!(swept.freed_bytes > 1_900_000 && bed.stored() < double - 1_800_000, "{swept:?}");
        // Which packfile holds what is chance: one that lost most of it may still be copied.
        let rest = run(&bed, 9);
        assert!(rest.copied_bytes < 400_000 && rest.of(Fate::Coloured).0 == 0, "{rest:?}");
        for id in [first, second] {
            let repository = bed.open();
            assert_clean(&repository);
            assert_restores(&repository, 0, &bed.source());
            bed.rm(id);
        }
        for days in [10, 18, 26] {
            run(&bed, days);
        }
        assert_eq!(bed.stored(), 0);
    }
}

#[test]
fn of_two_copies_one_is_kept_though_both_their_packfiles_go() {
    // Few large files beside garbage, so that packfiles of either writer are repacked, and of one wholly dead.
    for size in [200_000, 450_000, 1_000_000, 64 << 20] {
        let bed = Bed::new(1, size);
        for number in 0..20 {
            bed.write(&format!("file {number}"), number, 90_000);
        }
        let both = twice(&bed);
        for number in [0, 1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 19] {
            fs::remove_file(bed.source().join(format!("file {number}"))).unwrap();
        }
        bed.back_up();
        both.into_iter().for_each(|id| bed.rm(id));
        let done = run(&bed, 0);
        assert!(done.of(Fate::Repacked).0 + done.of(Fate::Coloured).0 > 1, "{done:?}");
        let repository = bed.open();
        // Everything has a live copy: nothing is to be revived.
        assert_eq!(run(&bed, 1).of(Fate::Revived), (0, 0));
        assert!(back_up(&repository, &bed.source()).stats.stored_bytes < 50_000);
        run(&bed, 8);
        run(&bed, 16);
        assert!(bed.stored() < 600_000, "{size}: {}", bed.stored());
        assert_clean(&bed.open());
    }
}

/// Damages what lies in a packfile; the lengths stay.
fn rot(store: &MemoryStore, pack: Id) {
    let mut bytes = store.get(Kind::Packfile, pack).unwrap();
    let end = bytes.len() - 20_000;
    bytes[1000..end].iter_mut().step_by(5000).for_each(|byte| *byte ^= 0x55);
    store.overwrite(Kind::Packfile, pack, &bytes);
}

/// Asserts that no snapshot lacks anything, though there may be damaged copies beside whole ones.
fn assert_unhurt(repository: &Repository) {
    let report = check(repository, None, &CheckOptions::default(), &Tally::default()).unwrap();
    let hurt: Vec<_> = report.damage.iter().filter(|damage| damage.hurt_count > 0).collect();
    assert!(hurt.is_empty(), "{hurt:?}");
}

/// Damages each of some packfiles in a store of its own, of which everything is whole elsewhere, and maintains that
/// store without a grace period until everything coloured is gone; returns the reports of the first runs.
fn rot_each(bed: &Bed, packs: &[Id]) -> Vec<MaintenanceReport> {
    let mut reports = Vec::new();
    for pack in packs {
        let store = Arc::new(MemoryStore::clone(&bed.store));
        rot(&store, *pack);
        let open = || reopen(Arc::new(Shared::new(&store)));
        assert_unhurt(&open());
        for days in 0..4 {
            let without = MaintenanceOptions { grace: Duration::ZERO, ..options(days) };
            let done = maintain(&open(), &without, &Tally::default()).unwrap();
            assert_unhurt(&open());
            if days == 0 {
                reports.push(done);
            }
        }
        assert_restores(&open(), 0, &bed.source());
    }
    reports
}

/// Returns the packfiles that hold contents, each with its fate by plan.
fn planned(bed: &Bed) -> Vec<(Id, Option<Fate>)> {
    let plan = MaintenanceOptions { apply: false, ..options(0) };
    let plan = maintain(&bed.open(), &plan, &Tally::default()).unwrap();
    let fate = |id: &Id| plan.fates.iter().find(|pack| pack.id == *id).map(|pack| pack.fate);
    let large = |id: &Id| bed.store.size(Kind::Packfile, *id).unwrap() > 250_000;
    bed.packs().into_iter().filter(large).map(|id| (id, fate(&id))).collect()
}

#[test]
fn a_whole_copy_is_not_given_up_for_a_damaged_one() {
    let bed = Bed::new(1, 300_000);
    for number in 0..20 {
        bed.write(&format!("file {number}"), number, 100_000);
    }
    twice(&bed);
    let staying: Vec<Id> =
        planned(&bed).into_iter().filter(|(_, fate)| fate.is_none()).map(|(id, _)| id).collect();
    let reports = rot_each(&bed, &staying);
    let kept = reports.iter().filter(|done| done.of(Fate::Kept).0 > 0 && done.of(Fate::Damaged).0 == 1);
    assert!(kept.count() > 0, "{reports:?}");
}

#[test]
fn a_whole_copy_is_not_given_up_when_copying_the_other_fails() {
    let bed = Bed::new(1, 1_000_000);
    for number in 0..20 {
        bed.write(&format!("file {number}"), number, 90_000);
    }
    let both = twice(&bed);
    for number in (0..20).filter(|number| ![3, 6, 15, 17].contains(number)) {
        fs::remove_file(bed.source().join(format!("file {number}"))).unwrap();
    }
    bed.back_up();
    both.into_iter().for_each(|id| bed.rm(id));
    let repacked: Vec<Id> = planned(&bed)
        .into_iter()
        .filter(|(_, fate)| *fate == Some(Fate::Repacked))
        .map(|(id, _)| id)
        .collect();
    let reports = rot_each(&bed, &repacked);
    assert!(reports.iter().any(|done| done.of(Fate::Kept).0 > 0), "{reports:?}");
}

#[test]
fn no_more_is_copied_than_is_allowed() {
    let bed = Bed::new(1, 250_000);
    for number in 0..40 {
        bed.write(&format!("file {number:02}"), number, 50_000);
    }
    let first = bed.back_up();
    for number in (0..40).filter(|number| number % 4 != 0) {
        fs::remove_file(bed.source().join(format!("file {number:02}"))).unwrap();
    }
    bed.back_up();
    bed.rm(first);
    let all = maintain(
        &bed.open(),
        &MaintenanceOptions { apply: false, max_repack: u64::MAX, ..options(0) },
        &Tally::default(),
    )
    .unwrap();
    assert!(all.of(Fate::Repacked).0 > 4, "{all:?}");
    let mut runs = 0;
    let (mut copied, mut repacked) = (0, 0);
    loop {
        let limit = MaintenanceOptions { max_repack: 120_000, ..options(0) };
        let done = maintain(&bed.open(), &limit, &Tally::default()).unwrap();
        assert!(done.copied_bytes <= 120_000, "{done:?}");
        assert_clean(&bed.open());
        if done.of(Fate::Repacked).0 == 0 {
            break;
        }
        runs += 1;
        copied += done.copied_bytes;
        repacked += done.of(Fate::Repacked).0;
    }
    assert!(runs > 1 && repacked >= all.of(Fate::Repacked).0, "{runs} runs");
    assert!(copied >= all.copied_bytes, "{copied} of {}", all.copied_bytes);
    run(&bed, 8);
    assert_restores(&bed.open(), 0, &bed.source());
}

#[test]
fn a_coloured_packfile_that_is_needed_comes_back() {
    let bed = Bed::new(0, 1 << 20);
    bed.write("a", 1, 300_000);
    bed.back_up();
    let repository = bed.open();
    let mut exclusive = Exclusive::acquire(&repository, true, false).unwrap();
    let mut changes = Changes::new(repository.spills()).unwrap();
    bed.packs().into_iter().for_each(|id| changes.colour_packfile(id, 0));
    exclusive.commit(changes).unwrap();
    drop(exclusive);
    assert_clean(&bed.open());
    let done = run(&bed, 0);
    assert_eq!(done.of(Fate::Revived).0, bed.packs().len() as u64);
    assert_eq!(run(&bed, 30).fates, []);
    let repository = bed.open();
    assert_clean(&repository);
    assert!(
        back_up(&repository, &bed.source()).stats.stored_bytes < 50_000,
        "it is deduplicated against again"
    );
}

#[test]
fn what_no_state_knows_goes_when_it_is_old() {
    let bed = Bed::new(0, 100_000);
    bed.write("a", 1, 10_000);
    bed.back_up();
    let known = bed.packs();
    bed.write("b", 2, 1_000_000);
    // Killed before its state is put.
    let faulty = Faulty::new(Shared::new(&bed.store), Counted::Writes, 3);
    let importer = FsImporter::builder().place(bed.source()).build().unwrap();
    backup(&reopen(Arc::new(faulty)), &importer, &BackupOptions::default(), &Tally::default()).unwrap_err();
    bed.forget_locks();
    let strangers = bed.packs().len() - known.len();
    assert!(strangers > 0);
    assert_eq!(run(&bed, 1).of(Fate::Young).0, strangers as u64);
    // However short the grace period is: it may be of a run that is under way, and whose lock was lost.
    for hours in [0, 23, 25] {
        let now = Timestamp::now();
        let short = MaintenanceOptions {
            apply: false,
            grace: Duration::ZERO,
            now: (hours > 0).then_some(Timestamp { secs: now.secs + hours * 3600, ..now }),
            ..MaintenanceOptions::default()
        };
        let plan = maintain(&bed.open(), &short, &Tally::default()).unwrap();
        let fate = if hours < 24 { Fate::Young } else { Fate::Coloured };
        assert_eq!(plan.of(fate).0, strangers as u64, "{hours}: {plan:?}");
    }
    assert_eq!(run(&bed, 8).of(Fate::Coloured).0, strangers as u64);
    assert_eq!(run(&bed, 9).of(Fate::Waiting).0, strangers as u64);
    assert_eq!(run(&bed, 16).of(Fate::Swept).0, strangers as u64);
    assert_eq!(bed.packs(), known);
    assert_clean(&bed.open());
}

#[test]
fn a_clock_that_is_behind_makes_no_grace_period_shorter() {
    let bed = Bed::new(0, 100_000);
    bed.write("a", 1, 300_000);
    let id = bed.back_up();
    bed.rm(id);
    let folding = |days| MaintenanceOptions { fold_above: Some(1), ..options(days) };
    let maintain = |days| maintain(&bed.open(), &folding(days), &Tally::default()).unwrap();
    let marked = maintain(-100);
    assert!(marked.of(Fate::Coloured).0 > 1 && marked.folded_count > 1, "{marked:?}");
    for days in [0, 6] {
        let done = maintain(days);
        assert_eq!(done.of(Fate::Waiting), marked.of(Fate::Coloured));
        assert_eq!((done.deleted_states, done.waiting_states > 0), (0, true), "{done:?}");
    }
    let swept = maintain(8);
    assert_eq!(swept.of(Fate::Swept), marked.of(Fate::Coloured));
    assert!(swept.deleted_states > 0, "{swept:?}");
}

#[test]
fn a_recent_checkpoint_is_spared() {
    let bed = Bed::new(0, 100_000);
    for number in 0..10 {
        bed.write(&format!("file {number}"), number, 100_000);
    }
    std::thread::sleep(Duration::from_millis(100));
    let importer = FsImporter::builder().place(bed.source()).build().unwrap();
    let often = CheckpointPolicy { bytes: 1, interval: Duration::from_secs(1000) };
    let checkpointing = BackupOptions { checkpoints: often, ..BackupOptions::default() };
    let faulty = Faulty::new(Shared::new(&bed.store), Counted::Writes, 14);
    backup(&reopen(Arc::new(faulty)), &importer, &checkpointing, &Tally::default()).unwrap_err();
    bed.forget_locks();
    let spared = run(&bed, 1);
    assert!(spared.of(Fate::Spared).0 > 0 && spared.of(Fate::Coloured).0 == 0, "{spared:?}");
    // Also when the states that brought them are folded.
    let folding = MaintenanceOptions { fold_above: Some(1), ..options(1) };
    assert!(maintain(&bed.open(), &folding, &Tally::default()).unwrap().folded_count > 1);
    assert_eq!(run(&bed, 1).of(Fate::Spared), spared.of(Fate::Spared));
    assert!(run(&bed, 8).of(Fate::Coloured).0 >= spared.of(Fate::Spared).0);
    run(&bed, 30);
    run(&bed, 60);
    assert_eq!(bed.stored(), 0);
}

#[test]
fn nothing_is_touched_where_something_is_missing() {
    let bed = Bed::new(0, 100_000);
    bed.write("a", 1, 300_000);
    let first = bed.back_up();
    bed.write("b", 2, 300_000);
    bed.back_up();
    bed.rm(first);
    let whole = MemoryStore::clone(&bed.store);
    let tries = |store: MemoryStore, apply: bool| {
        let store = Arc::new(store);
        let before = store.stored_bytes(Kind::State);
        let options = MaintenanceOptions { apply, ..options(30) };
        let result = maintain(&reopen(Arc::new(Shared::new(&store))), &options, &Tally::default());
        assert!(result.is_ok() || store.stored_bytes(Kind::State) == before);
        result
    };
    for apply in [false, true] {
        let without = bed.packs().into_iter().map(|pack| {
            let store = MemoryStore::clone(&whole);
            store.delete(Kind::Packfile, pack).unwrap();
            tries(store, apply)
        });
        let errors: Vec<Error> = without.filter_map(Result::err).collect();
        assert!(errors.len() >= 2 && errors.iter().all(Error::is_damage), "{errors:?}");
        let mut states = Vec::new();
        whole.list(Kind::State, &mut |listed| states.push(listed.id)).unwrap();
        for state in states {
            let store = MemoryStore::clone(&whole);
            let mut bytes = store.get(Kind::State, state).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            store.overwrite(Kind::State, state, &bytes);
            assert!(matches!(tries(store, apply), Err(Error::Incomplete(_))));
        }
    }
    let repository = bed.open();
    let held = Exclusive::acquire(&repository, true, false).unwrap();
    assert!(matches!(maintain(&bed.open(), &options(0), &Tally::default()), Err(Error::Locked { .. })));
    drop(held);
    run(&bed, 0);
}

/// A store as upstream 1.0 leaves it: made of the parts of an archive that it wrote.
fn old_store() -> MemoryStore {
    use plakar::format::ptar::{Layout, TRAILER_LEN};
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/upstream/v1.0.6.ptar");
    let bytes = fs::read(&path).unwrap();
    let trailer: [u8; TRAILER_LEN] = *bytes.last_chunk().unwrap();
    let layout = Layout::parse(&trailer, bytes.len() as u64).unwrap();
    let part =
        |section: plakar::format::ptar::Section| &bytes[section.offset as usize..section.end() as usize];
    let store = MemoryStore::new();
    store.create(part(layout.config)).unwrap();
    store.put(Kind::State, Id([1; 32]), Body::Bytes(part(layout.state))).unwrap();
    // The state calls the packfile by an id of its own.
    let archive = crate::interop::open(plakar::connectors::ptar::PtarStore::open(&path, true).unwrap());
    let packfile = archive.catalogue().pack_id(0);
    store.put(Kind::Packfile, packfile, Body::Bytes(part(layout.packfile))).unwrap();
    store
}

#[test]
fn old_states_ask_for_an_upgrade() {
    let store = Arc::new(old_store());
    let open = || crate::interop::open_with(Arc::new(Shared::new(&store)), crate::interop::PASSPHRASE);
    let snapshots = list(&open()).0.len();
    assert!(snapshots > 0 && open().catalogue().only_old_states());
    let plan = MaintenanceOptions { apply: false, ..options(30) };
    assert!(maintain(&open(), &plan, &Tally::default()).unwrap().needs_upgrade);
    assert!(matches!(maintain(&open(), &options(30), &Tally::default()), Err(Error::OldStates)));
    let gone: Vec<Id> = list(&open()).0.iter().map(|info| info.id).collect();
    remove_snapshots(&open(), &gone).unwrap();
    assert!(open().catalogue().only_old_states(), "a removal alone is no upgrade");
    let upgrade = |days| MaintenanceOptions { upgrade: true, ..options(days) };
    assert!(maintain(&open(), &upgrade(0), &Tally::default()).unwrap().of(Fate::Coloured).0 == 1);
    assert!(!open().catalogue().only_old_states());
    assert!(maintain(&open(), &options(8), &Tally::default()).unwrap().of(Fate::Swept).0 == 1);
    assert_eq!(store.stored_bytes(Kind::Packfile), 0);
}

/// A store that holds on to what is of one kind.
#[derive(Debug)]
pub(crate) struct Immutable(pub(crate) Shared, pub(crate) Kind);

impl Storage for Immutable {
    fn location(&self) -> String {
        self.0.location()
    }
    fn create(&self, config: &[u8]) -> connector::Result<()> {
        self.0.create(config)
    }
    fn config(&self) -> connector::Result<Vec<u8>> {
        self.0.config()
    }
    fn replace_config(&self, expected: &[u8], new: &[u8]) -> connector::Result<()> {
        self.0.replace_config(expected, new)
    }
    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> connector::Result<()> {
        self.0.list(kind, each)
    }
    fn size(&self, kind: Kind, id: Id) -> connector::Result<u64> {
        self.0.size(kind, id)
    }
    fn get(&self, kind: Kind, id: Id) -> connector::Result<Vec<u8>> {
        self.0.get(kind, id)
    }
    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> connector::Result<()> {
        self.0.read_range(kind, id, offset, length, consume)
    }
    fn spool(&self) -> connector::Result<fs::File> {
        self.0.spool()
    }
    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> connector::Result<()> {
        self.0.put(kind, id, body)
    }
    fn delete(&self, kind: Kind, id: Id) -> connector::Result<()> {
        if kind == self.1 {
            return Err(connector::Error::new(ErrorKind::Denied, "delete", id.to_hex()));
        }
        self.0.delete(kind, id)
    }
    fn is_remote(&self) -> bool {
        // The ways of remote stores are gone as well.
        true
    }
}

#[test]
fn what_may_not_be_deleted_is_reported_and_tried_again() {
    let bed = Bed::new(0, 1 << 20);
    bed.write("a", 1, 300_000);
    let first = bed.back_up();
    bed.rm(first);
    let packs = bed.packs();
    let locked = || reopen(Arc::new(Immutable(Shared::new(&bed.store), Kind::Packfile)));
    for (days, fate) in [(0, Fate::Coloured), (8, Fate::Held), (9, Fate::Held)] {
        let done = maintain(&locked(), &options(days), &Tally::default()).unwrap();
        assert_eq!(done.of(fate).0, packs.len() as u64, "{done:?}");
        assert_eq!(done.freed_bytes, 0);
    }
    assert_eq!(bed.packs(), packs);
    assert_eq!(run(&bed, 10).of(Fate::Leftover).0, packs.len() as u64);
    assert_eq!(bed.stored(), 0);
}

/// SplitMix64, so that a run can be repeated.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }
}

/// A store beside the model of it: which snapshots are live, and what each restores to.
struct Trial {
    bed: Bed,
    dice: Dice,
    live: BTreeMap<Id, crate::engine::Look>,
    /// A client with a cache and pins.
    warm: Client,
    /// How far the clock of maintenance is ahead, in days.
    days: i64,
    log: Vec<String>,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let bed = Bed::new(dice.below(4) as usize, 20_000 + dice.below(100_000));
        Self { bed, dice, live: BTreeMap::new(), warm: Client::new(), days: 0, log: Vec::new() }
    }

    fn change_source(&mut self) {
        for _ in 0..=self.dice.below(4) {
            let name = format!("file {}", self.dice.below(8));
            if self.dice.below(3) == 0 {
                let _ = fs::remove_file(self.bed.source().join(name));
            } else {
                // Few seeds, so that contents come again.
                let (seed, length) = (self.dice.below(6), [0, 10, 3000, 40_000][self.dice.below(4) as usize]);
                self.bed.write(&name, seed, length);
            }
        }
    }

    fn storage(&mut self, killed: bool) -> Arc<dyn Storage> {
        let shared = Shared::new(&self.bed.store);
        if !killed {
            return Arc::new(shared);
        }
        let faulty = Faulty::new(shared, Counted::Writes, self.dice.below(12));
        Arc::new(if self.dice.below(2) == 0 { faulty.landing() } else { faulty })
    }

    fn backup(&mut self, killed: bool) {
        self.change_source();
        let repository = reopen(self.storage(killed));
        let done = try_backup(&repository, &self.bed.source());
        self.after_backup(done.as_ref().ok().copied(), killed);
    }

    /// A killed run may have put its state all the same.
    fn after_backup(&mut self, done: Option<Id>, killed: bool) {
        let source = look(&self.bed.source());
        if let Some(id) = done {
            self.live.insert(id, source);
        } else if killed {
            for info in list(&self.bed.open()).0 {
                self.live.entry(info.id).or_insert_with(|| source.clone());
            }
        }
    }

    fn remove(&mut self) {
        let count = self.dice.below(3) as usize;
        let gone: Vec<Id> = self.live.keys().copied().take(count).collect();
        for id in gone {
            self.bed.rm(id);
            self.live.remove(&id);
        }
    }

    fn maintenance_options(&mut self) -> MaintenanceOptions {
        self.days += [0, 0, 3, 8][self.dice.below(4) as usize];
        let max_repack = [0, 30_000, 1 << 30][self.dice.below(3) as usize];
        let fold_above = [None, Some(0), Some(3), Some(12)][self.dice.below(4) as usize];
        MaintenanceOptions { max_repack, fold_above, ..options(self.days) }
    }

    fn maintenance(&mut self, killed: bool) {
        let options = self.maintenance_options();
        let repository = reopen(self.storage(killed));
        let done = maintain(&repository, &options, &Tally::default());
        assert!(killed || done.is_ok(), "{done:?}");
    }

    /// A backup beside maintenance: either may find the other's lock, and both may succeed.
    fn both(&mut self) {
        self.change_source();
        let options = self.maintenance_options();
        let (first, second) = (self.bed.open(), self.bed.open());
        let source = self.bed.source();
        let (saved, maintained) = std::thread::scope(|scope| {
            let backup = scope.spawn(|| try_backup(&first, &source));
            let maintained = maintain(&second, &options, &Tally::default());
            (backup.join().unwrap(), maintained)
        });
        for error in [saved.as_ref().err(), maintained.as_ref().err()].into_iter().flatten() {
            assert!(matches!(error, Error::Locked { .. }), "{error:?}");
        }
        self.after_backup(saved.ok(), false);
    }

    /// Two backups that do not see each other, and store the same.
    fn unseen(&mut self) {
        self.change_source();
        let source = look(&self.bed.source());
        for id in twice(&self.bed) {
            self.live.insert(id, source.clone());
        }
    }

    fn step(&mut self) {
        let dice = self.dice.below(13);
        self.log.push(format!("{dice} on day {}", self.days));
        match dice {
            0..3 => self.backup(false),
            3 => self.backup(true),
            4..6 => self.remove(),
            6..9 => self.maintenance(false),
            9 => self.maintenance(true),
            10 => self.unseen(),
            _ => self.both(),
        }
        self.bed.forget_locks();
        self.verify();
    }

    fn verify(&mut self) {
        let repository = self.bed.open();
        let (found, failed) = list(&repository);
        assert!(failed.is_empty(), "{failed:?}");
        let ids: std::collections::BTreeSet<Id> = found.iter().map(|info| info.id).collect();
        assert_eq!(ids, self.live.keys().copied().collect());
        assert_clean(&repository);
        // Who keeps a cache, and looks now and then only, sees the same.
        if self.dice.below(2) == 0 {
            let warm = self.warm.open(Arc::new(Shared::new(&self.bed.store)));
            assert_eq!(view(&warm), view(&repository));
            assert!(warm.take_warnings().is_empty());
        }
    }

    fn restore_all(&self) {
        let repository = self.bed.open();
        for (number, info) in list(&repository).0.iter().enumerate() {
            let target = self.bed.folder.path().join(format!("restored {number}"));
            let exporter = plakar::connectors::fs::FsExporter::builder(&target).build().unwrap();
            let options = plakar::snapshot::RestoreOptions::default();
            plakar::snapshot::restore(&repository, info, None, &exporter, &options, &Tally::default())
                .unwrap();
            let contents = |look: &crate::engine::Look| -> Vec<(Vec<u8>, Vec<u8>)> {
                look.iter().map(|(path, facts)| (path.clone(), facts.4.clone())).collect()
            };
            assert_eq!(contents(&look(&target)), contents(&self.live[&info.id]));
        }
    }
}

fn try_backup(repository: &Arc<Repository>, source: &Path) -> Result<Id, Error> {
    let importer = FsImporter::builder().place(source).build().unwrap();
    let often = CheckpointPolicy { bytes: 30_000, interval: Duration::from_secs(1000) };
    let options = BackupOptions { checkpoints: often, ..BackupOptions::default() };
    backup(repository, &importer, &options, &Tally::default()).map(|report| report.snapshot)
}

/// Random sequences of backup, removal and maintenance, killed now and then or side by side, against a model.
#[test]
fn no_live_snapshot_ever_loses_a_blob() {
    let given = std::env::var("PLAKAR_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let mut seeds = Dice(given.unwrap_or_else(|| getrandom::u64().unwrap()));
    println!("PLAKAR_TEST_SEED={}", seeds.0);
    let begun = Instant::now();
    for round in 0..40 {
        let mut trial = Trial::new(seeds.next());
        for _ in 0..25 {
            let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trial.step()));
            assert!(stepped.is_ok(), "round {round}: {:?}", trial.log);
        }
        trial.restore_all();
        // In the end space returns: nothing is left of what nobody keeps.
        let all: Vec<Id> = trial.live.keys().copied().collect();
        all.into_iter().for_each(|id| trial.bed.rm(id));
        for days in [0, 8, 16, 24] {
            let folding = MaintenanceOptions { fold_above: Some(2), ..options(trial.days + days) };
            maintain(&trial.bed.open(), &folding, &Tally::default()).unwrap();
        }
        let mut states = 0;
        trial.bed.store.list(Kind::State, &mut |_| states += 1).unwrap();
        assert!(states <= 4, "round {round}: {states} states: {:?}", trial.log);
        assert_eq!(trial.bed.stored(), 0, "round {round}: {:?}", trial.log);
        if begun.elapsed() > Duration::from_secs(8) && round >= 2 {
            break;
        }
    }
}
