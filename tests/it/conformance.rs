//! One contract, all backends: what every [`Storage`] must do.
//!
//! A backend that can be written passes [`writable`], which makes fresh places; a read-only one passes
//! [`readable`] on a place that holds what [`Sample`] says.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use plakar::base::{Cancel, Id};
use plakar::connector::{Body, ErrorKind, Kind, Storage};
use plakar::connectors::fs::FsStore;
use plakar::connectors::memory::{Counted, Faulty, MemoryStore};
use plakar::connectors::ptar::PtarStore;
use plakar::connectors::sqlite::SqliteStore;

const KINDS: [Kind; 3] = [Kind::Packfile, Kind::State, Kind::Lock];

/// What a read-only place holds: resources of 1 byte or more.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) config: Vec<u8>,
    pub(crate) resources: Vec<(Kind, Id, Vec<u8>)>,
}

/// Runs every test a writable backend must pass. `make` returns a fresh place, without a store, each time.
pub(crate) fn writable(make: &dyn Fn() -> Box<dyn Storage>) {
    nothing_is_there_before_creation(&*make());
    creation_happens_once(&*make());
    config_is_compared_and_replaced(&*make());
    resources_round_trip(&*make());
    packfiles_and_states_are_never_replaced(&*make());
    locks_are_replaced(&*make());
    no_lock_is_read_that_no_lock_can_be(&*make());
    spooled_bodies_round_trip(&*make());
    deletion_is_idempotent(&*make());
    ids_are_spread_and_listed_completely(&*make());
    putting_while_listing(&*make());
    a_put_is_visible_whole_or_not_at_all(&*make());
    one_id_from_many_threads(&*make());
    ranges_from_many_threads(&*make());
    callers_may_write_from_within_a_listing(&*make());
}

/// Runs every test a place that holds `sample`, and can only be read, must pass.
pub(crate) fn readable(store: &dyn Storage, sample: &Sample) {
    assert_eq!(store.config().unwrap(), sample.config);
    for kind in KINDS {
        let wanted: Vec<_> = sample.resources.iter().filter(|(k, ..)| *k == kind).collect();
        let mut listed = list(store, kind);
        listed.sort_unstable();
        let mut expected: Vec<_> = wanted.iter().map(|(_, id, bytes)| (*id, bytes.len() as u64)).collect();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{kind:?}");
        for (_, id, bytes) in wanted {
            check_reads(store, kind, *id, bytes);
        }
    }
}

/// Returns the bytes of an archive whose sections hold noise, and what reading it must show.
pub(crate) fn archive() -> (Vec<u8>, Sample) {
    let sections = [content(1, 300), content(2, 500_000), content(3, 7000)];
    let mut bytes = b"_PLATAR_\0\0\x01\0".to_vec();
    let mut trailer = Vec::new();
    for section in &sections {
        trailer.extend((bytes.len() as i64).to_le_bytes());
        trailer.extend((section.len() as i64).to_le_bytes());
        bytes.extend_from_slice(section);
    }
    bytes.extend(trailer);
    let fixed = |hex: &str| Id::from_hex(format!("{hex}{}", "0".repeat(32))).unwrap();
    let [config, packfile, state] = sections;
    let resources = vec![
        (Kind::Packfile, fixed("000102030405060708090a0b0c0d0e0f"), packfile),
        (Kind::State, fixed("0f0e0d0c0b0a09080706050403020100"), state),
    ];
    (bytes, Sample { config, resources })
}

fn id(number: usize) -> Id {
    // Spread over the shards, as MACs are.
    let mut bytes = [0; 32];
    bytes[0] = u8::try_from(number.wrapping_mul(167) & 0xff).unwrap();
    bytes[24..].copy_from_slice(&(number as u64).to_le_bytes());
    Id(bytes)
}

fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at.wrapping_mul(31) ^ number.wrapping_mul(17)) & 0xff).unwrap()).collect()
}

fn list(store: &dyn Storage, kind: Kind) -> Vec<(Id, u64)> {
    let mut listed = Vec::new();
    store.list(kind, &mut |l| listed.push((l.id, l.size))).unwrap();
    listed
}

fn range(store: &dyn Storage, kind: Kind, id: Id, offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut seen = None;
    let result = store.read_range(kind, id, offset, length, &mut |bytes| {
        assert!(seen.is_none(), "a range is passed once");
        seen = Some(bytes.to_vec());
    });
    assert_eq!(result.is_ok(), seen.is_some());
    if let Err(error) = result {
        assert_eq!(error.kind, ErrorKind::Protocol, "{error}");
    }
    seen
}

fn check_reads(store: &dyn Storage, kind: Kind, id: Id, bytes: &[u8]) {
    assert_eq!(store.size(kind, id).unwrap(), bytes.len() as u64);
    assert_eq!(store.get(kind, id).unwrap(), bytes);
    let len = bytes.len();
    for (from, to) in [(0, len), (0, 1), (len - 1, len), (len / 3, len / 2), (len, len), (0, 0)] {
        assert_eq!(range(store, kind, id, from as u64, to - from).unwrap(), bytes[from..to], "{from}..{to}");
    }
    for (offset, length) in
        [(0, len + 1), (len as u64, 1), (len as u64 + 1, 0), (u64::MAX, 1), (1, usize::MAX)]
    {
        assert_eq!(range(store, kind, id, offset, length), None, "{offset}+{length}");
    }
}

fn nothing_is_there_before_creation(store: &dyn Storage) {
    assert_eq!(store.config().unwrap_err().kind, ErrorKind::NotFound);
    assert!(!store.is_read_only());
    assert!(!store.location().is_empty());
}

fn creation_happens_once(store: &dyn Storage) {
    store.create(b"first").unwrap();
    assert_eq!(store.create(b"second").unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(store.config().unwrap(), b"first");
    for kind in KINDS {
        assert_eq!(list(store, kind), []);
        assert_eq!(store.get(kind, id(1)).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(store.size(kind, id(1)).unwrap_err().kind, ErrorKind::NotFound);
        let missing = store.read_range(kind, id(1), 0, 0, &mut |_| panic!("nothing to pass"));
        assert_eq!(missing.unwrap_err().kind, ErrorKind::NotFound);
    }
}

fn config_is_compared_and_replaced(store: &dyn Storage) {
    store.create(b"one").unwrap();
    store.replace_config(b"one", b"two, which is longer").unwrap();
    assert_eq!(store.config().unwrap(), b"two, which is longer");
    assert_eq!(store.replace_config(b"one", b"three").unwrap_err().kind, ErrorKind::Changed);
    assert_eq!(store.config().unwrap(), b"two, which is longer");
}

fn resources_round_trip(store: &dyn Storage) {
    store.create(b"c").unwrap();
    for kind in KINDS {
        for (number, len) in [(1, 1), (2, 100_000), (3, 3_000_000)] {
            let bytes = content(number, len);
            store.put(kind, id(number), Body::Bytes(&bytes)).unwrap();
            check_reads(store, kind, id(number), &bytes);
        }
        let mut listed = list(store, kind);
        listed.sort_unstable_by_key(|(_, size)| *size);
        assert_eq!(listed, [(id(1), 1), (id(2), 100_000), (id(3), 3_000_000)]);
    }
}

fn packfiles_and_states_are_never_replaced(store: &dyn Storage) {
    store.create(b"c").unwrap();
    for kind in [Kind::Packfile, Kind::State] {
        store.put(kind, id(1), Body::Bytes(b"first")).unwrap();
        store.put(kind, id(1), Body::Bytes(b"second, longer")).unwrap();
        assert_eq!(store.get(kind, id(1)).unwrap(), b"first");
        let mut spool = store.spool().unwrap();
        spool.write_all(b"third").unwrap();
        store.put(kind, id(1), Body::Spool { file: &spool, length: 5 }).unwrap();
        check_reads(store, kind, id(1), b"first");
    }
}

fn locks_are_replaced(store: &dyn Storage) {
    store.create(b"c").unwrap();
    for bytes in [&b"first"[..], b"second, longer", b"3"] {
        store.put(Kind::Lock, id(1), Body::Bytes(bytes)).unwrap();
        check_reads(store, Kind::Lock, id(1), bytes);
        assert_eq!(list(store, Kind::Lock), [(id(1), bytes.len() as u64)]);
    }
}

fn no_lock_is_read_that_no_lock_can_be(store: &dyn Storage) {
    store.create(b"c").unwrap();
    let most = usize::try_from(Kind::Lock.most_whole()).unwrap();
    let mut spool = store.spool().unwrap();
    spool.write_all(&vec![7; most + 1]).unwrap();
    for (number, length, read) in [(1, most, true), (2, most + 1, false)] {
        let body = Body::Spool { file: &spool, length: length as u64 };
        // Where it is not even taken, nothing is left to be read.
        if let Err(error) = store.put(Kind::Lock, id(number), body) {
            assert!(!read, "{error}");
            continue;
        }
        match store.get(Kind::Lock, id(number)) {
            Ok(bytes) => assert!(read && bytes.len() == length, "{length}"),
            Err(error) => {
                assert!(!read && error.kind == ErrorKind::Protocol, "{error:?}");
                assert!(error.to_string().contains(&id(number).to_hex()), "{error}");
            }
        }
    }
}

fn spooled_bodies_round_trip(store: &dyn Storage) {
    store.create(b"c").unwrap();
    let bytes = content(5, 2_500_000);
    let spool_of = |mut file: File| {
        file.write_all(&bytes).unwrap();
        file
    };
    let own = spool_of(store.spool().unwrap());
    let foreign = spool_of(tempfile::tempfile().unwrap());
    for (number, file) in [&own, &own, &foreign].into_iter().enumerate() {
        store.put(Kind::Packfile, id(number), Body::Spool { file, length: bytes.len() as u64 }).unwrap();
        check_reads(store, Kind::Packfile, id(number), &bytes);
    }
    store.put(Kind::State, id(9), Body::Spool { file: &own, length: 1000 }).unwrap();
    check_reads(store, Kind::State, id(9), &bytes[..1000]);
    check_reads(store, Kind::Packfile, id(0), &bytes);
}

fn deletion_is_idempotent(store: &dyn Storage) {
    store.create(b"c").unwrap();
    for kind in KINDS {
        store.delete(kind, id(1)).unwrap();
        store.put(kind, id(1), Body::Bytes(b"gone soon")).unwrap();
        check_reads(store, kind, id(1), b"gone soon");
        store.delete(kind, id(1)).unwrap();
        store.delete(kind, id(1)).unwrap();
        assert_eq!(store.get(kind, id(1)).unwrap_err().kind, ErrorKind::NotFound);
        let read = store.read_range(kind, id(1), 0, 1, &mut |_| panic!("it is gone"));
        assert_eq!(read.unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(list(store, kind), []);
        store.put(kind, id(1), Body::Bytes(b"back again")).unwrap();
        check_reads(store, kind, id(1), b"back again");
    }
}

fn ids_are_spread_and_listed_completely(store: &dyn Storage) {
    store.create(b"c").unwrap();
    let mut wanted: Vec<_> = (0..300).map(id).collect();
    for id in &wanted {
        store.put(Kind::State, *id, Body::Bytes(b"s")).unwrap();
    }
    let mut listed: Vec<_> = list(store, Kind::State).into_iter().map(|(id, _)| id).collect();
    listed.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(listed, wanted);
    assert_eq!(list(store, Kind::Packfile), []);
}

fn putting_while_listing(store: &dyn Storage) {
    store.create(b"c").unwrap();
    (0..50).for_each(|n| store.put(Kind::State, id(n), Body::Bytes(b"1234")).unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (50..150).for_each(|n| store.put(Kind::State, id(n), Body::Bytes(b"1234")).unwrap());
            done.store(true, Ordering::SeqCst);
        });
        loop {
            let last = done.load(Ordering::SeqCst);
            let listed = list(store, Kind::State);
            assert!(listed.iter().all(|(_, size)| *size == 4), "a partial resource was listed");
            assert!((0..50).all(|n| listed.contains(&(id(n), 4))), "an old resource was not listed");
            if last {
                assert_eq!(listed.len(), 150);
                break;
            }
        }
    });
}

fn a_put_is_visible_whole_or_not_at_all(store: &dyn Storage) {
    store.create(b"c").unwrap();
    let bytes = content(1, 1_000_000);
    for kind in KINDS {
        for number in 0..4 {
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    store.put(kind, id(number), Body::Bytes(&bytes)).unwrap();
                    done.store(true, Ordering::SeqCst);
                });
                loop {
                    let last = done.load(Ordering::SeqCst);
                    match store.get(kind, id(number)) {
                        Ok(seen) => assert!(seen == bytes, "{} of {} bytes", seen.len(), bytes.len()),
                        Err(error) => {
                            assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
                            assert!(!last, "a finished put was not visible");
                        }
                    }
                    if last {
                        break;
                    }
                }
            });
        }
    }
    // A body that breaks off must not appear.
    let mut spool = tempfile::tempfile().unwrap();
    spool.write_all(&bytes).unwrap();
    let broken = Body::Spool { file: &spool, length: bytes.len() as u64 + 1 };
    assert!(store.put(Kind::Packfile, id(77), broken).is_err());
    assert_eq!(store.get(Kind::Packfile, id(77)).unwrap_err().kind, ErrorKind::NotFound);
    assert!(list(store, Kind::Packfile).iter().all(|(listed, _)| *listed != id(77)));
}

fn one_id_from_many_threads(store: &dyn Storage) {
    store.create(b"c").unwrap();
    let bytes = content(1, 200_000);
    for kind in KINDS {
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| store.put(kind, id(1), Body::Bytes(&bytes)).unwrap())));
        });
        check_reads(store, kind, id(1), &bytes);
        assert_eq!(list(store, kind).len(), 1);
    }
}

fn ranges_from_many_threads(store: &dyn Storage) {
    store.create(b"c").unwrap();
    let count = 80;
    for number in 0..count {
        store.put(Kind::Packfile, id(number), Body::Bytes(&content(number, 5000))).unwrap();
    }
    let reads = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let reads = &reads;
            scope.spawn(move || {
                for step in 0..200 {
                    let number = (thread * 53 + step * 29) % count;
                    let from = (step * 37) % 4000;
                    let wanted = &content(number, 5000)[from..from + 900];
                    store
                        .read_range(Kind::Packfile, id(number), from as u64, 900, &mut |bytes| {
                            assert_eq!(bytes, wanted);
                            // Another range from within: no lock may be held meanwhile.
                            let other = id((number + 1) % count);
                            store.read_range(Kind::Packfile, other, 0, 1, &mut |_| {}).unwrap();
                            reads.fetch_add(1, Ordering::SeqCst);
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(reads.into_inner(), 800);
}

fn callers_may_write_from_within_a_listing(store: &dyn Storage) {
    store.create(b"c").unwrap();
    (0..20).for_each(|n| store.put(Kind::Lock, id(n), Body::Bytes(b"stale")).unwrap());
    store.list(Kind::Lock, &mut |listed| store.delete(Kind::Lock, listed.id).unwrap()).unwrap();
    assert_eq!(list(store, Kind::Lock), []);
}

/// Returns a function that makes fresh places below a folder.
fn places<S: Storage + 'static>(
    dir: &tempfile::TempDir,
    make: impl Fn(std::path::PathBuf) -> S,
) -> impl Fn() -> Box<dyn Storage> {
    let count = AtomicUsize::new(0);
    move || Box::new(make(dir.path().join(count.fetch_add(1, Ordering::SeqCst).to_string())))
}

#[test]
fn memory() {
    writable(&|| Box::new(MemoryStore::new()));
}

#[test]
fn faulty_with_an_endless_budget() {
    writable(&|| Box::new(Faulty::new(MemoryStore::new(), Counted::Everything, u64::MAX)));
}

#[test]
fn folder() {
    let dir = tempfile::tempdir().unwrap();
    writable(&places(&dir, FsStore::new));
}

#[test]
fn folder_without_mmap() {
    let dir = tempfile::tempdir().unwrap();
    writable(&places(&dir, |path| FsStore::new(path).with_mmap(false)));
}

#[test]
fn folder_on_a_file_system_in_memory() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    writable(&places(&dir, FsStore::new));
}

#[test]
fn database() {
    let dir = tempfile::tempdir().unwrap();
    writable(&places(&dir, |path| SqliteStore::new(path, None, Cancel::new())));
}

#[test]
fn archive_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ptar");
    let (bytes, sample) = archive();
    std::fs::write(&path, bytes).unwrap();
    for mmap in [true, false] {
        readable(&PtarStore::open(&path, mmap).unwrap(), &sample);
    }
}
