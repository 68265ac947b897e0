//! What hostile storage, a hostile neighbour or a hostile archive may try (FORMAT.md, native profile, threats).

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plakar::base::{Id, Timestamp};
use plakar::connector::{Kind, Storage};
use plakar::connectors::fs::FsStore;
use plakar::connectors::memory::MemoryStore;
use plakar::connectors::ptar::PtarStore;
use plakar::crypto::seal::Item;
use plakar::format::blob::BlobType;
use plakar::format::config::{Config, set_sum};
use plakar::format::lock::Lock;
use plakar::format::ptar::{Layout, STATE_ID, TRAILER_LEN};
use plakar::format::tree::{Node, Root};
use plakar::format::version::Version;
use plakar::format::wrapper::{self, HEADER_LEN, Resource};
use plakar::snapshot::{SyncOptions, Tally, list, sync};
use plakar::store::blob::{BlobSink, Lane};
use plakar::store::{CheckpointPolicy, CreateOptions, Repository, Writer};

use crate::cli::{Ran, User};
use crate::damage::{Bench, flip, resources};
use crate::engine::{assert_clean, assert_restores, kinds, look, noise, reopen};

/// Every file of a store that a writer could have put, locks included.
fn everything(store: &Path) -> Vec<PathBuf> {
    let mut all = [resources(store, "packfiles"), resources(store, "states")].concat();
    all.extend(fs::read_dir(store.join("locks")).into_iter().flatten().map(|file| file.unwrap().path()));
    all.sort();
    all
}

fn back_up(user: &User, store: &str, source: &Path) -> Ran {
    user.run_args(["at", store, "backup", source.to_str().unwrap()])
}

#[test]
fn a_swapped_config_is_refused_and_nothing_is_written() {
    let bench = Bench::new();
    let (user, source) = (bench.user(), bench.path("source"));
    let store = bench.copy(&user);
    user.ok("at store ls");
    let genuine = fs::read(store.join("CONFIG")).unwrap();
    let [native, plaintext] = [0, 1].map(|kind| {
        let place = user.home().join(format!("other {kind}"));
        // A weak key derivation and the very passphrase: whoever knows it could do no better.
        let mut options = kinds()[kind].1.clone();
        options.passphrase = options.passphrase.map(|_| crate::engine::PASSPHRASE.to_owned().into());
        Repository::create(&FsStore::new(&place), &options).unwrap();
        fs::read(place.join("CONFIG")).unwrap()
    });
    let before = everything(&store);
    for (what, config) in [("plaintext", plaintext), ("another key", native)] {
        fs::write(store.join("CONFIG"), config).unwrap();
        for ran in [back_up(&user, "store", &source), user.run("at store ls"), user.run("at store check")] {
            assert_eq!(ran.code, 77, "{what}: {ran:#?}");
            assert!(ran.stderr.contains("is not the one seen before"), "{what}: {ran:#?}");
        }
        assert_eq!(user.run("ptar -plaintext -o x.ptar -k store").code, 77);
        assert!(!user.home().join("x.ptar").exists());
        assert_eq!(everything(&store), before, "{what}");
    }
    fs::write(store.join("CONFIG"), genuine).unwrap();
    user.ok("at store ls");

    // What is remembered says that a newer CONFIG was here, or another of this generation.
    let pins = user.home().join(".local/share/plakar/pins");
    let pin = fs::read_dir(&pins).unwrap().map(|file| file.unwrap().path());
    let pin = pin.into_iter().find(|path| path.extension().is_some_and(|end| end == "json")).unwrap();
    let text = fs::read_to_string(&pin).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (field, value) in [("generation", serde_json::json!(2)), ("config_digest", serde_json::json!("00"))] {
        let mut changed = json.clone();
        changed[field] = value;
        fs::write(&pin, changed.to_string()).unwrap();
        let ran = back_up(&user, "store", &source);
        assert!(ran.code == 77 && ran.stderr.contains("rolled back"), "{field}: {ran:#?}");
        assert_eq!(everything(&store), before, "{field}");
    }
    fs::write(&pin, text).unwrap();
    assert_eq!(back_up(&user, "store", &source).code, 0);
}

#[test]
fn a_deleted_state_is_missed() {
    let bench = Bench::new();
    let user = bench.user();
    let store = bench.copy(&user);
    assert_eq!(user.ok("at store ls").lines().count(), 2);
    fs::remove_file(resources(&store, "states").last().unwrap()).unwrap();
    for _ in 0..2 {
        let ran = user.run("at store ls");
        assert!(ran.code == 0 && ran.stderr.contains("1 state seen before is gone"), "{ran:#?}");
        let ran = user.run("at store check");
        assert!(ran.code == 65 && ran.stdout.contains("it was there before and is gone"), "{ran:#?}");
    }
    // A backup warns, too, and does not make it forgotten.
    let ran = back_up(&user, "store", &bench.path("source"));
    assert!(ran.code == 0 && ran.stderr.contains("is gone"), "{ran:#?}");
    assert_eq!(user.run("at store check").code, 65);
    assert_eq!(user.run("-accept-missing at store check").code, 0);
    let ran = user.run("at store ls");
    assert!(ran.code == 0 && ran.stderr.is_empty(), "{ran:#?}");
}

/// Copies what is in a folder, whatever is there already.
fn copy_states(from: &[(PathBuf, Vec<u8>)]) {
    from.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
}

/// Folding is the one way in which a state may go. Only who has the key can say that it was folded.
#[test]
fn only_states_that_were_folded_may_go_and_none_of_them_comes_back() {
    let bench = Bench::new();
    let user = bench.user();
    let store = bench.copy(&user);
    let source = bench.path("source");
    for number in 0..4 {
        fs::write(source.join(format!("more {number}")), number.to_string()).unwrap();
        assert_eq!(back_up(&user, "store", &source).code, 0);
    }
    let kept = user.ok("at store ls");
    let removed = kept.split_whitespace().nth(1).unwrap().to_owned();
    user.ok(&format!("at store rm -apply {removed}"));
    let shown = user.ok("at store ls");
    let old: Vec<(PathBuf, Vec<u8>)> =
        resources(&store, "states").into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    // Another machine folds them, without waiting.
    let other = User::new();
    let mut other = other;
    for (name, value) in user.variables() {
        other.set(name, value);
    }
    let path = store.to_str().unwrap();
    let ran = other.run_args(["at", path, "maintenance", "-apply", "-grace", "0", "-fold-above", "2"]);
    assert!(ran.code == 0 && ran.stdout.contains("folded"), "{ran:#?}");
    let folded = resources(&store, "states");
    assert!(folded.len() == 1, "{folded:?}");
    let whole = (folded[0].clone(), fs::read(&folded[0]).unwrap());
    for who in [&user, &other] {
        let ran = who.run_args(["at", path, "ls"]);
        assert!(ran.code == 0 && ran.stderr.is_empty() && ran.stdout == shown, "{ran:#?}");
        assert_eq!(who.run_args(["at", path, "check"]).code, 0);
    }
    // What was folded is put back, all of it or some: the snapshot that was removed stays removed.
    for some in [&old[..], &old[..2]] {
        copy_states(some);
        for who in [&user, &other, &{
            let mut new = User::new();
            user.variables().for_each(|(name, value)| new.set(name, value));
            new
        }] {
            let ran = who.run_args(["at", path, "ls"]);
            assert!(ran.code == 0 && ran.stderr.is_empty() && ran.stdout == shown, "{ran:#?}");
        }
        old.iter().for_each(|(path, _)| drop(fs::remove_file(path)));
    }
    // The store is set back to what was before the folding: that is noticed, though all states are authentic.
    fs::remove_file(&whole.0).unwrap();
    copy_states(&old);
    for who in [&user, &other] {
        let ran = who.run_args(["at", path, "ls"]);
        assert!(ran.stderr.contains("1 state seen before is gone"), "{ran:#?}");
        assert_eq!(who.run_args(["at", path, "check"]).code, 65);
    }
    // Another state under the name of the folding one, or that one under another name, is none.
    old.iter().for_each(|(path, _)| fs::remove_file(path).unwrap());
    fs::write(&whole.0, &old[0].1).unwrap();
    let ran = user.run("at store ls");
    assert!(ran.code == 65 && ran.stderr.contains("is damaged"), "{ran:#?}");
    fs::remove_file(&whole.0).unwrap();
    fs::write(&old[0].0, &whole.1).unwrap();
    let ran = user.run("at store ls");
    assert!(ran.code == 65 && ran.stderr.contains("is damaged"), "{ran:#?}");
    // And without a word about folding, a state that goes is missed.
    fs::remove_file(&old[0].0).unwrap();
    copy_states(&[whole]);
    assert_eq!(user.run("at store check").code, 0);
    assert_eq!(back_up(&user, "store", &source).code, 0);
    let after = resources(&store, "states");
    let newest = after.iter().find(|path| **path != folded[0]).unwrap();
    fs::remove_file(newest).unwrap();
    let ran = user.run("at store ls");
    assert!(ran.stderr.contains("1 state seen before is gone"), "{ran:#?}");
}

#[test]
fn swapped_blobs_never_come_out_as_one_another() {
    let bench = Bench::new();
    let user = bench.user();
    let store = bench.copy(&user);
    let source = user.home().join("pair");
    fs::create_dir(&source).unwrap();
    let [one, two] = [1_u8, 2].map(|number| {
        let mut bytes = noise(100_000);
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(number));
        fs::write(source.join(format!("file {number}")), &bytes).unwrap();
        bytes
    });
    assert_eq!(back_up(&user, "store", &source).code, 0);
    let places = {
        let repository = reopen(Arc::new(FsStore::new(&store)));
        [one, two].map(|content| {
            let id = repository.keys().id(&content);
            repository.catalogue().find_any(BlobType::CHUNK, &id).unwrap()[0]
        })
    };
    assert_eq!(places[0].length, places[1].length);
    // They may lie in one packfile or in two.
    let spots = places.map(|place| {
        let hex = place.packfile.to_hex();
        let start = usize::try_from(place.offset).unwrap() + HEADER_LEN;
        (store.join("packfiles").join(&hex[..2]).join(&hex), start..start + place.length as usize)
    });
    let copies = spots.clone().map(|(pack, range)| fs::read(pack).unwrap()[range].to_vec());
    for ((pack, range), copy) in spots.into_iter().zip(copies.into_iter().rev()) {
        let mut bytes = fs::read(&pack).unwrap();
        bytes[range].copy_from_slice(&copy);
        fs::write(&pack, bytes).unwrap();
    }

    let ran = user.run("at store restore -to out latest");
    assert!(ran.code == 1 && ran.stderr.contains("file 1") && ran.stderr.contains("file 2"), "{ran:#?}");
    assert!(!user.home().join("out/file 1").exists() && !user.home().join("out/file 2").exists());
    assert_ne!(user.run_args(["at", "store", "cat", "latest:file 1"]).code, 0);
    let ran = user.run("at store check");
    assert!(ran.code == 65 && ran.stdout.contains("file 1") && ran.stdout.contains("file 2"), "{ran:#?}");
}

#[test]
fn states_under_other_names_and_from_other_places_are_refused() {
    let bench = Bench::new();
    let archive = fs::read(bench.path("x.ptar")).unwrap();
    let trailer = archive.last_chunk::<TRAILER_LEN>().unwrap();
    let layout = Layout::parse(trailer, archive.len() as u64).unwrap();
    let range = |start: u64, end: u64| usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
    let foreign = archive[range(layout.state.offset, layout.state.end())].to_vec();
    for (what, name, rename) in [
        ("renamed", Id([7; 32]), true),
        ("the archive's under its own name", STATE_ID, false),
        ("the archive's under another", Id([8; 32]), false),
    ] {
        let user = bench.user();
        let store = bench.copy(&user);
        let states = resources(&store, "states");
        let newest = states.last().unwrap();
        let bytes = if rename { fs::read(newest).unwrap() } else { foreign.clone() };
        if rename {
            fs::remove_file(newest).unwrap();
        }
        let hex = name.to_hex();
        fs::write(store.join("states").join(&hex[..2]).join(&hex), bytes).unwrap();
        let ran = user.run("at store ls");
        let lines = if rename { 1 } else { 2 };
        assert!(ran.code == 65 && ran.stderr.contains(&hex[..8]), "{what}: {ran:#?}");
        assert_eq!(ran.stdout.lines().count(), lines, "{what}");
        assert_eq!(user.run("at store check").code, 65, "{what}");
    }
    // And the other way round: a state of the store in the archive's place.
    let user = bench.user();
    let store = bench.copy(&user);
    let state = fs::read(resources(&store, "states").last().unwrap()).unwrap();
    let mut forged = archive[range(0, layout.state.offset)].to_vec();
    forged.extend_from_slice(&state);
    let lengths = (layout.config.length, layout.packfile.length, state.len() as u64);
    forged.extend_from_slice(&Layout::new(lengths.0, lengths.1, lengths.2).encode_trailer());
    fs::write(user.home().join("forged.ptar"), forged).unwrap();
    let ran = user.run("at forged.ptar ls");
    assert!(ran.code == 65 && ran.stderr.contains("is damaged"), "{ran:#?}");
}

/// Encodes a native CONFIG whose checksum is right and whose MAC cannot be: nobody without the key makes one.
fn forge(config: &Config) -> Vec<u8> {
    let mut payload = config.encode_payload();
    let header = wrapper::header(Resource::Config, Resource::Config.version());
    let covered = [&header[..], &payload[..payload.len() - 32]].concat();
    set_sum(&mut payload, blake3::hash(&covered).as_bytes());
    [&header[..], &payload, &[0; 32]].concat()
}

#[test]
fn a_hostile_config_costs_nothing() {
    let bench = Bench::new();
    let user = bench.user();
    let store = bench.copy(&user);
    let bytes = fs::read(store.join("CONFIG")).unwrap();
    let genuine = Config::decode_payload(wrapper::split(&bytes, Resource::Config).unwrap().payload).unwrap();
    type Change = fn(&mut Config);
    fn kdf(config: &mut Config) -> &mut plakar::format::config::Argon2id {
        let native = config.encryption.as_mut().unwrap().native.as_mut().unwrap();
        native.slots[0].kdf.argon2id.as_mut().unwrap()
    }
    let changes: [(&str, Change); 12] = [
        ("m = 4 TiB", |config| kdf(config).memory = u32::MAX),
        ("t = 2^32", |config| kdf(config).time = u32::MAX),
        ("t = 0", |config| kdf(config).time = 0),
        ("p = 255", |config| kdf(config).threads = 255),
        ("a key of 4 GiB", |config| kdf(config).key_len = u32::MAX),
        ("ChunkSize 0", |config| config.encryption.as_mut().unwrap().chunk_size = 0),
        ("ChunkSize -1", |config| config.encryption.as_mut().unwrap().chunk_size = -1),
        ("ChunkSize 2^62", |config| config.encryption.as_mut().unwrap().chunk_size = 1 << 62),
        ("a million slots", |config| {
            let native = config.encryption.as_mut().unwrap().native.as_mut().unwrap();
            native.slots = vec![native.slots[0].clone(); 1_000_000];
        }),
        ("17 slots", |config| {
            let native = config.encryption.as_mut().unwrap().native.as_mut().unwrap();
            native.slots = vec![native.slots[0].clone(); 17];
        }),
        ("MaxSize < MinSize", |config| (config.chunking.max, config.chunking.min) = (1, 1 << 20)),
        ("chunks of 4 GiB", |config| config.chunking.max = u32::MAX),
    ];
    let limited = |line: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--as=1500000000", "--cpu=5", env!("CARGO_BIN_EXE_plakar")]).args(line.split(' '));
        command.current_dir(user.home()).env_clear().env("HOME", user.home());
        command.env("PLAKAR_PASSPHRASE", crate::engine::PASSPHRASE).stdin(Stdio::null());
        Ran::from(command.output().unwrap())
    };
    assert_eq!(limited("at store ls").code, 0, "the limits leave room for honest work");
    for (what, change) in changes {
        let mut config = genuine.clone();
        change(&mut config);
        fs::write(store.join("CONFIG"), forge(&config)).unwrap();
        // No pin: a user who comes for the first time.
        let _ = fs::remove_dir_all(user.home().join(".local"));
        let ran = limited("at store ls");
        assert!(ran.code == 65 && ran.stderr.contains("CONFIG"), "{what}: {ran:#?}");
    }
    let size = fs::OpenOptions::new().write(true).open(store.join("CONFIG")).unwrap();
    size.set_len(40 << 30).unwrap();
    let ran = limited("at store ls");
    assert!(matches!(ran.code, 1 | 65) && !ran.stderr.contains("panicked"), "{ran:#?}");
}

#[test]
fn a_hostile_archive_is_refused() {
    let bench = Bench::new();
    let user = bench.user();
    let genuine = fs::read(bench.path("x.ptar")).unwrap();
    let head = genuine.len() - TRAILER_LEN;
    let numbers: Vec<u64> =
        genuine[head..].as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)).collect();
    let length = genuine.len() as u64;
    let mut cases: Vec<(String, Vec<u64>)> = Vec::new();
    for field in 0..6 {
        for value in [0, 1, numbers[field] - 1, numbers[field] + 1, length, u64::MAX, u64::MAX - 15, 1 << 63]
        {
            let mut changed = numbers.clone();
            changed[field] = value;
            if changed != numbers {
                cases.push((format!("field {field} = {value}"), changed));
            }
        }
    }
    // Overlapping sections whose lengths add up all the same.
    cases.push(("overlap".into(), [12, numbers[1], 12, numbers[3], numbers[4], numbers[5]].to_vec()));
    cases.push(("swapped".into(), [2, 3, 0, 1, 4, 5].map(|field| numbers[field]).to_vec()));
    for (what, changed) in cases {
        let mut bytes = genuine.clone();
        let trailer: Vec<u8> = changed.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes[head..].copy_from_slice(&trailer);
        let path = user.home().join("hostile.ptar");
        fs::write(&path, bytes).unwrap();
        let error = PtarStore::open(&path, true).expect_err(&what);
        assert!(error.to_string().contains("incomplete"), "{what}: {error}");
    }
    for extra in [1_usize, 48, 4096] {
        let path = user.home().join("longer.ptar");
        fs::write(&path, [&genuine[..], &vec![0; extra]].concat()).unwrap();
        assert_eq!(user.run("at longer.ptar ls").code, 65, "{extra} bytes appended");
    }
}

#[test]
fn a_poisoned_cache_changes_nothing() {
    let bench = Bench::new();
    let user = bench.user();
    bench.copy(&user);
    let source = bench.path("source");
    let listed = user.ok("at store ls -recursive latest");
    let cache = user.home().join(".cache/plakar/kloset");
    let stores: Vec<PathBuf> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(stores.len(), 1);
    assert_eq!(fs::metadata(&stores[0]).unwrap().permissions().mode() & 0o777, 0o700);
    for position in [0.0_f64, 0.1, 0.5, 0.9, 1.0] {
        let files: Vec<PathBuf> =
            fs::read_dir(&stores[0]).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 2, "{files:?}");
        for file in files {
            let length = fs::metadata(&file).unwrap().len();
            let at = ((length - 1) as f64 * position) as usize;
            flip(&file, at);
        }
        assert_eq!(user.ok("at store ls -recursive latest"), listed, "{position}");
    }
    for file in fs::read_dir(&stores[0]).unwrap() {
        fs::write(file.unwrap().path(), b"short").unwrap();
    }
    assert_eq!(back_up(&user, "store", &source).code, 0);
    user.ok("at store check");
    user.ok("at store restore -to out latest");
    assert_eq!(look(&user.home().join("out")), look(&source));
    // A folder that others may enter, or that is a link, is not used.
    let moved = user.home().join("moved");
    fs::rename(&stores[0], &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &stores[0]).unwrap();
    let before = look(&moved);
    assert_eq!(back_up(&user, "store", &source).code, 0);
    user.ok("at store check");
    assert_eq!(look(&moved), before, "nothing is written through a link");
}

#[test]
fn two_stores_with_one_identity_do_not_mix() {
    let bench = Bench::new();
    let user = bench.user();
    let first = bench.copy(&user);
    let second = user.home().join("twin");
    assert!(Command::new("cp").arg("-a").arg(&first).arg(&second).status().unwrap().success());
    let sources = [1_u8, 2].map(|number| {
        let source = user.home().join(format!("source {number}"));
        fs::create_dir(&source).unwrap();
        let mut bytes = noise(300_000);
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(number));
        fs::write(source.join("own"), &bytes).unwrap();
        source
    });
    // Each store learns what the other has, and is then given the same: it must not think that it is there.
    for (store, source) in [("store", 0), ("twin", 1), ("twin", 0), ("store", 1), ("store", 0), ("twin", 1)] {
        assert_eq!(back_up(&user, store, &sources[source]).code, 0);
        let ran = user.run(&format!("at {store} check"));
        assert_eq!(ran.code, 0, "{store} {source}: {ran:#?}");
        let out = user.home().join("out");
        user.ok(&format!("at {store} restore -to out latest"));
        assert_eq!(look(&out), look(&sources[source]), "{store} {source}");
        fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn a_snapshot_id_stands_for_one_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "genuine").unwrap();
    let made = |options: &CreateOptions| {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
        crate::engine::create(storage, options)
    };
    let (genuine, target, hostile) = (made(&kinds()[0].1), made(&kinds()[0].1), made(&kinds()[1].1));
    crate::engine::back_up(&genuine, folder.path());
    let info = list(&genuine).0[0].clone();
    let copy =
        |from: &Repository| sync(from, &target, &list(from).0, &SyncOptions::default(), &Tally::default());
    assert_eq!(copy(&genuine).unwrap().copied, [info.id]);
    // The same id, another snapshot.
    let mut header = info.header.clone();
    header.name = "evil twin".into();
    let writer = Writer::open(&hostile, info.id, CheckpointPolicy::default(), None).unwrap();
    writer.put_header_anew(&header.encode()).unwrap();
    writer.commit().unwrap();
    hostile.refresh_after_commit().unwrap();
    assert_eq!(list(&hostile).0[0].id, info.id);
    let error = copy(&hostile).unwrap_err();
    assert!(matches!(error, plakar::store::Error::Collision { id } if id == info.id), "{error}");
    assert_eq!(list(&target).0.len(), 1);
    assert_clean(&target);
    assert_restores(&target, 0, folder.path());
}

#[test]
fn a_plaintext_store_seen_for_the_first_time_gets_nothing_secret() {
    // A passphrase in the environment says that encryption is expected, if not where.
    let mut user = User::in_memory();
    fs::create_dir(user.home().join("source")).unwrap();
    fs::write(user.home().join("source/file"), "secret").unwrap();
    Repository::create(&FsStore::new(user.home().join("store")), &kinds()[1].1).unwrap();
    user.set("PLAKAR_PASSPHRASE", "correct horse");
    let ran = user.run("at store backup source");
    assert!(ran.code == 77 && ran.stderr.contains("not encrypted"), "{ran:#?}");
    assert_eq!(everything(&user.home().join("store")), Vec::<PathBuf>::new());
    // One's own, made and pinned as plaintext, is another matter.
    user.ok("at own create -plaintext");
    user.ok("at own backup source");
}

/// Writes a lock of another host, with this time inside.
fn put_lock(repository: &Repository, store: &Path, id: Id, exclusive: bool, timestamp: Timestamp) -> PathBuf {
    let lock = Lock { version: Version::V1_0_0, timestamp, hostname: "elsewhere".into(), exclusive };
    let mut bytes = wrapper::header(Resource::Lock, Version::V1_0_0).to_vec();
    repository.encoding().encode(Item::lock(id), &lock.encode(), &mut bytes).unwrap();
    let trailer = repository.keys().trailers().mac(&bytes);
    bytes.extend_from_slice(trailer.as_bytes());
    let path = store.join("locks").join(id.to_hex());
    fs::write(&path, bytes).unwrap();
    path
}

fn age(path: &Path, by: Duration) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}

#[test]
fn a_lock_blocks_while_it_lives_and_no_time_makes_it_live_for_ever() {
    let bench = Bench::new();
    let user = bench.user();
    let store = bench.copy(&user);
    let repository = reopen(Arc::new(FsStore::new(&store)));
    let source = bench.path("source");
    let (now, hour) = (Timestamp::now(), Duration::from_hours(1));
    let in_an_age = Timestamp { secs: now.secs + 3_000_000_000, nanos: 0 };
    for (what, time, age_of_file, blocks) in [
        ("a live one", now, Duration::ZERO, true),
        (
            "a live one, by a clock that goes before",
            Timestamp { secs: now.secs + 600, ..now },
            Duration::ZERO,
            true,
        ),
        ("a live one, by a clock that is wrong", in_an_age, Duration::ZERO, true),
        ("one of an hour ago", Timestamp { secs: now.secs - 3600, ..now }, hour, false),
        ("one of an hour ago, by a clock that is wrong", in_an_age, hour, false),
        ("one that was released by overwriting it", Timestamp::EPOCH, Duration::ZERO, false),
    ] {
        let path = put_lock(&repository, &store, Id([3; 32]), true, time);
        age(&path, age_of_file);
        let path_of = source.to_str().unwrap();
        let ran = user.run_args(["at", "store", "backup", "-lock-wait", "0", path_of]);
        if blocks {
            assert!(ran.code == 75 && ran.stderr.contains("locked by elsewhere"), "{what}: {ran:#?}");
            assert_eq!(user.run("at store ls").code, 0, "{what}: reading needs no lock");
            fs::remove_file(&path).unwrap();
        } else {
            assert_eq!(ran.code, 0, "{what}: {ran:#?}");
            assert!(!path.exists(), "{what}: it was swept");
        }
    }
    // One that goes away meanwhile is waited for.
    let path = put_lock(&repository, &store, Id([3; 32]), true, now);
    let mut command = user.command(["at", "store", "backup", source.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while !said.contains("waiting up to") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert!(said.contains("locked by elsewhere for maintenance"), "{said}");
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    fs::remove_file(&path).unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    // Others that write do not stand in the way, whatever their clocks say.
    let path = put_lock(&repository, &store, Id([3; 32]), false, in_an_age);
    assert_eq!(back_up(&user, "store", &source).code, 0);
    assert!(path.exists());
}

/// Its length says how much is to be read, and that is what whoever put it there wants.
#[test]
fn a_file_of_a_tebibyte_among_the_locks_stops_no_backup() {
    let bench = Bench::new();
    let user = bench.user();
    let store = bench.copy(&user);
    let id = Id([3; 32]);
    let path = store.join("locks").join(id.to_hex());
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(back_up(&user, "store", &bench.path("source")).code, 0);
    let error = FsStore::new(&store).get(Kind::Lock, id).unwrap_err();
    assert!(error.to_string().contains(&id.to_hex()), "{error}");
    // It may be a newer program's: maintenance waits for it, and says which it is.
    let ran = user.run("at store maintenance -apply");
    assert!(ran.code != 0 && ran.stderr.contains(&id.to_hex()), "{ran:#?}");
    let left: Vec<_> = fs::read_dir(store.join("locks")).unwrap().collect();
    assert_eq!(left.len(), 1, "only that one is left");
}

#[test]
fn ten_thousand_locks_and_garbage_are_borne() {
    let bench = Bench::new();
    let user = bench.user();
    let store = bench.copy(&user);
    let repository = reopen(Arc::new(FsStore::new(&store)));
    let garbage: [&[u8]; 4] = [b"", b"x", &[0; 300], b"_KLOSET_ and nothing behind it"];
    for number in 0..10_000_u64 {
        let id = Id(*blake3::hash(&number.to_le_bytes()).as_bytes());
        let kind = usize::try_from(number % 8).unwrap();
        match garbage.get(kind) {
            Some(bytes) => fs::write(store.join("locks").join(id.to_hex()), bytes).unwrap(),
            None => drop(put_lock(&repository, &store, id, false, Timestamp::now())),
        }
    }
    // A genuine one under another's name is garbage, too: its name is bound to it.
    let genuine = put_lock(&repository, &store, Id([3; 32]), true, Timestamp::now());
    fs::rename(&genuine, store.join("locks").join(Id([4; 32]).to_hex())).unwrap();
    let source = bench.path("source");
    assert_eq!(back_up(&user, "store", &source).code, 0);
    let left = fs::read_dir(store.join("locks")).unwrap().count();
    assert_eq!(left, 10_001, "what cannot be read may be a newer program's, and what lives is another's");
    assert_clean(&repository);
}

#[test]
fn a_snapshot_of_bottomless_trees_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let storage: Arc<dyn Storage> = Arc::new(FsStore::new(&store));
    let repository = crate::engine::create(Arc::clone(&storage), &kinds()[0].1);
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    crate::engine::back_up(&repository, &source);
    let genuine = list(&repository).0[0].clone();
    let mut user = User::in_memory();
    user.set("PLAKAR_PASSPHRASE", crate::engine::PASSPHRASE);
    let put = |writer: &Writer, kind, bytes: &[u8]| BlobSink::put(writer, kind, bytes, Lane::Tree).unwrap();
    // One child a level, thousands of levels; two, and 2^60 ways to the bottom; and a node that says it is
    // its own child, which nobody but a liar can write: its name is the MAC of what it holds.
    for (name, wide, levels, named) in [
        ("deep", false, 3_000, None),
        ("wide", true, 60, None),
        ("its own child", true, 1, Some(Id([9; 32]))),
    ] {
        let mut header = genuine.header.clone();
        header.identifier = Id(*blake3::hash(name.as_bytes()).as_bytes());
        let writer = Writer::open(&repository, header.identifier, CheckpointPolicy::default(), None).unwrap();
        let leaf = Node { keys: vec!["/a".into()], values: vec![Id([1; 32])], ..Node::default() };
        let mut top = put(&writer, BlobType::TREE_NODE, &leaf.encode());
        for _ in 0..levels {
            let below = named.unwrap_or(top);
            let node = if wide {
                Node { keys: vec!["/m".into()], pointers: vec![below, below], ..Node::default() }
            } else {
                Node { pointers: vec![below], ..Node::default() }
            };
            top = match named {
                Some(id) => {
                    writer.put_as(BlobType::TREE_NODE, id, &node.encode(), Lane::Tree).unwrap();
                    id
                }
                None => put(&writer, BlobType::TREE_NODE, &node.encode()),
            };
        }
        let root = put(&writer, BlobType::TREE_ROOT, &Root::new(top).encode());
        header.sources.as_mut().unwrap()[0].root.root = root;
        writer.put_header_anew(&header.encode()).unwrap();
        writer.commit().unwrap();
        repository.refresh_after_commit().unwrap();
        let id = header.identifier.to_hex();
        let limited = |line: &str| {
            let mut command = Command::new("prlimit");
            command.args(["--as=1500000000", "--cpu=20", env!("CARGO_BIN_EXE_plakar"), "at"]).arg(&store);
            command.args(line.split(' ')).arg(&id).current_dir(user.home()).env_clear();
            command.env("HOME", user.home()).env("PLAKAR_PASSPHRASE", crate::engine::PASSPHRASE);
            Ran::from(command.stdin(Stdio::null()).output().unwrap())
        };
        let ran = limited("check");
        assert_eq!(ran.code, 65, "{name}: {ran:#?}");
        for line in ["ls -recursive", "restore -to out"] {
            let ran = limited(line);
            // Folders have lists of their own, so that a broken tree need not keep anything from being read.
            assert!(
                matches!(ran.code, 0 | 1 | 65) && !ran.stderr.contains("panicked"),
                "{name} {line}: {ran:#?}"
            );
        }
        fs::remove_dir_all(user.home().join("out")).ok();
        assert!(!back_up(&user, store.to_str().unwrap(), &source).stderr.contains("panicked"), "{name}");
    }
}

/// What compresses to a few KiB and opens to gigabytes is damage, and whoever reads it says the same.
#[cfg(target_os = "linux")]
#[test]
fn a_chunk_that_no_writer_cuts_is_damage_to_all() {
    const MOST: usize = 64 << 20;
    let user = User::in_memory();
    fs::create_dir(user.home().join("src")).unwrap();
    for (length, sound) in [(MOST, true), (MOST + 1, false)] {
        let name = if sound { "good" } else { "bad" };
        user.ok(&format!("at {name} create -plaintext"));
        user.ok(&format!("at {name} backup src"));
        user.ok(&format!("at copy-of-{name} create -plaintext"));
        let storage: Arc<dyn Storage> = Arc::new(FsStore::new(user.home().join(name)));
        let repository = crate::interop::open_with(storage, "");
        let announced = u32::try_from(length).unwrap();
        let id = crate::mount_tree::lie(&repository, &vec![0; length], &[("zeros", announced)]).to_hex();
        for line in [
            format!("at {name} check {id}"),
            format!("at {name} check -fast {id}"),
            format!("at {name} restore -to out-{name} {id}:/"),
            format!("at {name} sync {id} to ./copy-of-{name}"),
            format!("at {name} cat {id}:/zeros"),
        ] {
            let ran = user.run(&line);
            let told = ran.stderr.contains("64 MiB") || ran.stdout.contains("64 MiB");
            assert_eq!((ran.code == 0, told), (sound, !sound), "{line}: {}", ran.stderr);
            assert!(sound || !line.contains("check") || ran.code == 65, "{line}: {}", ran.code);
        }
        let file = fs::metadata(user.home().join(format!("out-{name}/zeros")));
        assert_eq!(file.map(|file| file.len()).ok(), sound.then_some(length as u64));
    }
}
