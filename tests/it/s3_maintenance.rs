//! Removal, pruning, maintenance and repair of stores in buckets: on every server there is, killed anywhere, and
//! against a server that fails now and then or for good.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plakar::base::{Id, Timestamp};
use plakar::connector::{Kind, Storage};
use plakar::connectors::memory::{Counted, Faulty};
use plakar::connectors::s3::S3Store;
use plakar::snapshot::{MaintenanceOptions, MaintenanceReport, RepairOptions, Tally, list, maintain, repair};
use plakar::store::{CreateOptions, Error, NoPassphrase, OpenOptions, Repository, remove_snapshots};

use crate::cli::User;
use crate::engine::{assert_clean, assert_restores, back_up};
use crate::s3_bed::Bed;
use crate::s3server::{self, Action, Fault, Storm};

const DAY: i64 = 24 * 3600;

fn storage(bed: &Bed, prefix: &str) -> S3Store {
    S3Store::new(bed.options(prefix, &[])).unwrap()
}

fn open(storage: impl Storage + 'static) -> Arc<Repository> {
    try_open(storage).unwrap()
}

fn try_open(storage: impl Storage + 'static) -> Result<Arc<Repository>, plakar::store::OpenError> {
    Repository::open(Arc::new(storage), &mut NoPassphrase, &OpenOptions::default())
}

fn options(days: i64) -> MaintenanceOptions {
    let now = Timestamp::now();
    MaintenanceOptions {
        apply: true,
        now: Some(Timestamp { secs: now.secs + days * DAY, ..now }),
        fold_above: Some(2),
        ..MaintenanceOptions::default()
    }
}

fn run(bed: &Bed, prefix: &str, days: i64) -> MaintenanceReport {
    maintain(&open(storage(bed, prefix)), &options(days), &Tally::default()).unwrap()
}

/// A store of four snapshots, the first two removed; what is in the folder is what the last one has.
fn plant(bed: &Bed, prefix: &str, folder: &Path) {
    let options = CreateOptions { packfile_size: Some(60_000), ..CreateOptions::default() };
    Repository::create(&storage(bed, prefix), &options).unwrap();
    let mut made: Vec<Id> = Vec::new();
    for number in 0..4_u8 {
        let mut noise = vec![0; 150_000];
        blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut noise);
        fs::write(folder.join("changing"), &noise).unwrap();
        fs::write(folder.join(format!("file {number}")), &noise[..20_000]).unwrap();
        made.push(back_up(&open(storage(bed, prefix)), folder).snapshot);
    }
    remove_snapshots(&open(storage(bed, prefix)), &made[..2]).unwrap();
}

fn ids(storage: &S3Store, kind: Kind) -> Vec<Id> {
    let mut ids = Vec::new();
    storage.list(kind, &mut |listed| ids.push(listed.id)).unwrap();
    ids
}

fn forget_locks(storage: &S3Store) {
    ids(storage, Kind::Lock).into_iter().for_each(|id| storage.delete(Kind::Lock, id).unwrap());
}

fn assert_whole(bed: &Bed, prefix: &str, folder: &Path) {
    let repository = open(storage(bed, prefix));
    assert_eq!(list(&repository).0.len(), 2);
    assert_clean(&repository);
    assert_restores(&repository, 1, folder);
}

#[test]
fn space_in_a_bucket_returns_and_states_become_few() {
    Bed::each(|bed| {
        let folder = crate::cli::memory_dir();
        plant(bed, "store", folder.path());
        let stored = |kind: &str| bed.keys().iter().filter(|key| key.starts_with(kind.as_bytes())).count();
        let (packs, states) = (stored("store/packfiles/"), stored("store/states/"));
        let marked = run(bed, "store", 0);
        assert!(marked.folded_count as usize > states && !marked.fates.is_empty(), "{marked:?}");
        assert!(stored("store/packfiles/") >= packs, "nothing goes before its time");
        assert_whole(bed, "store", folder.path());
        let swept = run(bed, "store", 8);
        assert!(swept.freed_bytes > 300_000 && swept.deleted_states > 0, "{swept:?}");
        assert!(stored("store/packfiles/") < packs);
        run(bed, "store", 16);
        assert!(stored("store/states/") <= 2, "{}", stored("store/states/"));
        assert_eq!(stored("store/locks/"), 0);
        assert_whole(bed, "store", folder.path());
    });
}

#[test]
fn maintenance_of_a_bucket_killed_anywhere_goes_on() {
    Bed::each(|bed| {
        let mut budget = 0;
        loop {
            let folder = crate::cli::memory_dir();
            let prefix = format!("killed {budget}");
            plant(bed, &prefix, folder.path());
            let mut finished = true;
            // In the middle of marking and folding, then in the middle of sweeping.
            for days in [0, 8, 16] {
                let faulty = Faulty::new(storage(bed, &prefix), Counted::Writes, budget).landing();
                let done = maintain(&open(faulty), &options(days), &Tally::default());
                finished &= done.is_ok();
                forget_locks(&storage(bed, &prefix));
                assert_whole(bed, &prefix, folder.path());
            }
            run(bed, &prefix, 24);
            run(bed, &prefix, 32);
            run(bed, &prefix, 40);
            assert_whole(bed, &prefix, folder.path());
            assert!(ids(&storage(bed, &prefix), Kind::State).len() <= 2);
            if finished {
                assert!(budget > 10, "it takes {budget} writes only");
                break;
            }
            // The first ones are the ones that differ; a real server takes its time.
            budget += match (&bed.server, budget) {
                (Some(_), 0..6) => 1,
                (Some(_), _) => 5,
                (None, _) => 9,
            };
        }
    });
}

#[test]
fn repair_of_a_bucket_makes_up_for_states_that_are_lost() {
    Bed::each(|bed| {
        let folder = crate::cli::memory_dir();
        plant(bed, "store", folder.path());
        run(bed, "store", 0);
        run(bed, "store", 8);
        // The state that all others were folded into is gone.
        let place = storage(bed, "store");
        for state in ids(&place, Kind::State) {
            place.delete(Kind::State, state).unwrap();
        }
        let repository = open(storage(bed, "store"));
        assert_eq!(list(&repository).0.len(), 0);
        let options = RepairOptions { apply: true, ..RepairOptions::default() };
        let done = repair(&repository, &options, &Tally::default()).unwrap();
        assert!(done.adopted_count > 0 && done.unreadable.is_empty(), "{done:?}");
        assert_whole(bed, "store", folder.path());
        run(bed, "store", 9);
        assert_whole(bed, "store", folder.path());
    });
}

#[test]
fn the_commands_work_on_a_bucket() {
    Bed::each(|bed| {
        let user = User::new();
        user.ok(&format!(
            "store add b {} access_key={} secret_access_key={} use_tls=false region={}",
            bed.location("store"),
            bed.access_key,
            bed.secret,
            bed.region
        ));
        fs::create_dir(user.home().join("data")).unwrap();
        user.ok("at @b create -plaintext");
        for day in 1..=5 {
            fs::write(user.home().join("data/file"), format!("content {day}").repeat(5000)).unwrap();
            user.ok(&format!("at @b backup -force-timestamp 2024-01-0{day}T10:00:00Z data"));
        }
        assert!(user.ok("at @b rm -before 2024-01-02 -apply").contains("removed 1 snapshot"));
        assert!(user.ok("at @b prune -apply -per-year 1").contains("removed 3 snapshots"));
        let planned = user.ok("at @b maintenance -grace 0 -fold-above 3");
        assert!(planned.contains("-apply does it") && planned.contains("would fold"), "{planned}");
        for _ in 0..3 {
            user.ok("at @b maintenance -apply -grace 0 -fold-above 3");
        }
        user.ok("at @b repair -apply");
        user.ok("at @b check");
        assert_eq!(user.ok("at @b ls").lines().count(), 1);
        user.ok("at @b restore -to out latest");
        assert_eq!(fs::read(user.home().join("out/file")).unwrap(), b"content 5".repeat(5000));
        let states = bed.keys().iter().filter(|key| key.starts_with(b"store/states/")).count();
        assert!(states <= 3, "{states}");
    });
}

#[test]
fn a_server_that_fails_now_and_then_is_borne() {
    for seed in 0..4 {
        let bed = Bed::own(s3server::Options::default());
        let folder = crate::cli::memory_dir();
        plant(&bed, "store", folder.path());
        bed.own_server().storm(Some(Storm::new(seed, 50, Duration::ZERO)));
        for days in [0, 8, 16] {
            run(&bed, "store", days);
        }
        bed.own_server().storm(None);
        assert_whole(&bed, "store", folder.path());
        assert!(ids(&storage(&bed, "store"), Kind::State).len() <= 2);
    }
}

#[test]
fn a_server_that_fails_for_good_is_named_and_nothing_is_lost() {
    let is_of = |kind: &'static str, op: &'static str| {
        move |seen: &crate::s3server::Seen| {
            seen.op == op && String::from_utf8_lossy(&seen.key).contains(&format!("/{kind}/"))
        }
    };
    for (op, kind) in [
        ("PutObject", "states"),
        ("PutObject", "packfiles"),
        ("GetObject", "states"),
        ("GetObject", "packfiles"),
        ("DeleteObject", "packfiles"),
        ("DeleteObject", "states"),
    ] {
        let bed = Bed::own(s3server::Options::default());
        let folder = crate::cli::memory_dir();
        plant(&bed, "store", folder.path());
        let mut failed = 0;
        for days in [0, 8, 16] {
            let fault = Fault::when(is_of(kind, op), Action::status(500, "InternalError"));
            bed.own_server().inject(fault);
            let done = try_open(storage(&bed, "store")).map_err(|error| error.to_string()).and_then(|open| {
                let done = maintain(&open, &options(days), &Tally::default());
                done.map_err(|error| {
                    assert!(matches!(error, Error::Connector(_)), "{op} {kind}: {error:?}");
                    error.to_string()
                })
            });
            failed += usize::from(done.is_err());
            if let Err(error) = done {
                assert!(error.contains(kind) || error.contains("500"), "{op} {kind}: {error}");
            }
            bed.own_server().clear_faults();
            forget_locks(&storage(&bed, "store"));
            assert_whole(&bed, "store", folder.path());
        }
        assert!(failed > 0, "{op} {kind}");
        for days in [24, 32, 40] {
            run(&bed, "store", days);
        }
        assert_whole(&bed, "store", folder.path());
        assert!(ids(&storage(&bed, "store"), Kind::State).len() <= 2, "{op} {kind}");
    }
}

#[test]
fn a_key_that_may_not_delete_maintains_as_far_as_it_may() {
    let bed = Bed::own(s3server::Options::default());
    let folder = crate::cli::memory_dir();
    plant(&bed, "store", folder.path());
    let key =
        s3server::Key::only("writer-secret", &["GetObject", "PutObject", "ListObjectsV2", "HeadObject"]);
    bed.own_server().set_key("WRITER", key);
    let writer = || S3Store::new(bed.options_as("WRITER", "writer-secret", "store", &[])).unwrap();
    for days in [0, 8] {
        let done = maintain(&open(writer()), &options(days), &Tally::default()).unwrap();
        assert_eq!((done.deleted_states, done.freed_bytes), (0, 0), "{done:?}");
        assert!(days == 0 || done.held_states > 0, "{done:?}");
        assert_whole(&bed, "store", folder.path());
    }
    // The states are still there, and cost nothing but room.
    bed.own_server().reset_counters();
    open(writer());
    let states = bed.own_server().counters();
    let read =
        states.targets.iter().filter(|target| target.starts_with("GET") && target.contains("/states/"));
    assert!(read.count() <= 8, "{:?}", states.targets);
}
