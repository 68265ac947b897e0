//! `kill -9` at random moments of `backup` and `ptar`: nothing that was committed is hurt, nothing stands half-written
//! under a final name, and the next run succeeds.
//!
//! The moments are drawn over the duration of an undisturbed run of the same data, and of less where a run was faster
//! than that. The seed is printed;
//! `PLAKAR_TEST_SEED` repeats it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plakar::connector::Storage;
use plakar::connectors::fs::FsStore;
use plakar::connectors::ptar::PtarStore;
use plakar::crypto::Secret;
use plakar::format::wrapper::{self, Resource};
use plakar::snapshot::list;
use plakar::store::{CreateOptions, KdfChoice, Repository};

use crate::cli::{User, memory_dir};
use crate::engine::{PASSPHRASE, assert_clean, assert_restores, noise, reopen};

/// How often each command is killed.
const KILLS: u32 = 10;

/// SplitMix64, so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let given = std::env::var("PLAKAR_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| getrandom::u64().unwrap());
        println!("PLAKAR_TEST_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// A folder with a source, and a store of one snapshot to begin each trial with.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = memory_dir();
        let source = folder.path().join("source");
        fs::create_dir_all(source.join("many")).unwrap();
        fs::write(source.join("first"), "here from the beginning").unwrap();
        let bench = Self { folder };
        // No command line makes a store whose key is derived in no time.
        let options = CreateOptions {
            passphrase: Some(Secret::from(PASSPHRASE.to_owned())),
            kdf: KdfChoice::weak_for_tests(),
            packfile_size: Some(2 << 20),
            ..CreateOptions::default()
        };
        Repository::create(&FsStore::new(bench.path("template")), &options).unwrap();
        let user = bench.user();
        let template = bench.path("template");
        let ran = user.run_args(["at", text(&template), "backup", text(&source)]);
        assert_eq!(ran.code, 0, "{ran:?}");
        for number in 0_u32..1000 {
            fs::write(source.join(format!("many/{number:04}")), number.to_le_bytes().repeat(50)).unwrap();
        }
        for number in 0_u32..12 {
            let mut bytes = noise(1 << 20);
            bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(number as u8));
            fs::write(source.join(format!("large {number}")), bytes).unwrap();
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn user(&self) -> User {
        let mut user = User::in_memory();
        user.set("PLAKAR_PASSPHRASE", PASSPHRASE);
        user
    }

    /// A fresh copy of the template under a name of its own.
    fn store(&self, name: &str) -> PathBuf {
        let to = self.path(name);
        let copied = Command::new("cp").arg("-a").arg(self.path("template")).arg(&to).status().unwrap();
        assert!(copied.success());
        to
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs to the end; returns how long it took.
fn measure(mut command: Command) -> Duration {
    let begun = Instant::now();
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    begun.elapsed()
}

/// Runs and kills; returns whether the run was faster.
fn kill_after(mut command: Command, delay: Duration) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap().success()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Whatever bears a final name is whole to its last byte.
fn assert_complete(store: &Path, repository: &Repository) {
    for (kind, resource) in
        [("packfiles", Resource::Packfile), ("states", Resource::State), ("locks", Resource::Lock)]
    {
        for file in files(&store.join(kind)) {
            let name = file.file_name().unwrap().to_str().unwrap();
            if name.starts_with("tmp.") {
                continue;
            }
            assert_eq!(name.len(), 64, "{}", file.display());
            let bytes = fs::read(&file).unwrap();
            let parts = wrapper::split(&bytes, resource).unwrap();
            assert_eq!(
                repository.keys().trailers().mac(parts.signed).0,
                parts.trailer.0,
                "{}",
                file.display()
            );
        }
    }
    for entry in fs::read_dir(store).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = ["CONFIG", "packfiles", "states", "locks"].contains(&name.as_str());
        assert!(known || name.starts_with("tmp."), "{name}");
    }
}

fn open_store(path: &Path) -> Arc<Repository> {
    let repository = reopen(Arc::new(FsStore::new(path)) as Arc<dyn Storage>);
    let warnings = repository.take_warnings();
    assert!(warnings.is_empty(), "{warnings:?}");
    repository
}

#[test]
fn a_killed_backup_leaves_a_store_that_is_whole() {
    let (bench, mut dice) = (Bench::new(), Dice::new());
    let source = bench.path("source");
    let command = |user: &User, store: &Path| user.command(["at", text(store), "backup", text(&source)]);
    let mut whole = measure(command(&bench.user(), &bench.store("measured")));
    println!("undisturbed: {whole:?}");
    let mut killed = 0;
    for number in 0..KILLS * 3 {
        if number >= KILLS && killed > 0 {
            break;
        }
        let (mut user, store) = (bench.user(), bench.store(&format!("store {number}")));
        let temporary = bench.path(&format!("temporary {number}"));
        fs::create_dir(&temporary).unwrap();
        user.set("TMPDIR", text(&temporary));
        let delay = dice.up_to(whole);
        let ended = kill_after(command(&user, &store), delay);
        killed += u32::from(!ended);
        if ended {
            whole = whole * 3 / 4;
        }
        println!("{delay:?}: ended {ended}");
        // What spilled had no name.
        assert_eq!(files(&temporary), [] as [PathBuf; 0]);
        {
            let repository = open_store(&store);
            let (snapshots, failed) = list(&repository);
            assert!(failed.is_empty());
            assert!(snapshots.len() == 1 || snapshots.len() == 2, "{delay:?}");
            assert!(!ended || snapshots.len() == 2);
            assert_clean(&repository);
            assert_complete(&store, &repository);
        }
        // The same user: whatever the dead run left in their cache is there, too.
        let ran = Ran::of(command(&user, &store));
        assert_eq!(ran.0, 0, "{delay:?}: {}", ran.1);
        let repository = open_store(&store);
        let last = list(&repository).0.len() - 1;
        assert_restores(&repository, last, &source);
        assert_complete(&store, &repository);
        fs::remove_dir_all(&store).unwrap();
    }
    assert!(killed > 0, "no run was caught");
}

#[test]
fn a_killed_ptar_leaves_no_archive_or_a_whole_one() {
    let (bench, mut dice) = (Bench::new(), Dice::new());
    let (source, store) = (bench.path("source"), bench.store("store"));
    measure(bench.user().command(["at", text(&store), "backup", text(&source)]));
    let archive = bench.path("x.ptar");
    let from_store = ["ptar", "-same-key", "-o", text(&archive), "-k", text(&store)];
    let from_folder = ["ptar", "-plaintext", "-o", text(&archive), text(&source)];
    for (way, args) in [("-k", &from_store[..]), ("folder", &from_folder[..])] {
        let mut whole = measure(bench.user().command(args));
        println!("{way} undisturbed: {whole:?}");
        fs::remove_file(&archive).unwrap();
        let mut killed = 0;
        for number in 0..KILLS * 2 {
            if number >= KILLS / 2 && killed > 0 {
                break;
            }
            let (user, delay) = (bench.user(), dice.up_to(whole));
            let ended = kill_after(user.command(args), delay);
            killed += u32::from(!ended);
            if ended {
                whole = whole * 3 / 4;
            }
            println!("{delay:?}: ended {ended}");
            assert!(!ended || archive.exists());
            if archive.exists() {
                assert_clean(&open_archive(&archive));
                fs::remove_file(&archive).unwrap();
            }
            let ran = Ran::of(user.command(args));
            assert_eq!(ran.0, 0, "{way} {delay:?}: {}", ran.1);
            let opened = open_archive(&archive);
            assert_clean(&opened);
            assert_restores(&opened, list(&opened).0.len() - 1, &source);
            fs::remove_file(&archive).unwrap();
        }
        assert!(killed > 0, "{way}: no run was caught");
    }
    let repository = open_store(&store);
    assert_clean(&repository);
}

fn open_archive(path: &Path) -> Arc<Repository> {
    let repository = reopen(Arc::new(PtarStore::open(path, true).unwrap()));
    assert!(repository.take_warnings().is_empty());
    repository
}

/// An exit code and what was said.
struct Ran(i32, String);

impl Ran {
    fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let text =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        Self(output.status.code().expect("it was not killed"), text)
    }
}
