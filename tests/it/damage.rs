//! Damage and denial, each with a declared outcome: an exit code and a phrase of what is said.
//!
//! The matrix is {delete, truncate, flip a bit} x {every part of a store and of an archive} x {ls, check, restore,
//! backup}, each cell seen by a user who never saw the store before: no cache, no pin.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plakar::connectors::fs::FsStore;
use plakar::crypto::Secret;
use plakar::store::{CreateOptions, KdfChoice, Repository};

use crate::cli::{Ran, User, memory_dir};
use crate::engine::{PASSPHRASE, look, noise};

/// The name of the large file.
const BIG: &str = "big";

/// A store of two snapshots and an archive of them, made once and copied for every trial.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { folder: memory_dir() };
        let source = bench.path("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("sub/small"), "small").unwrap();
        let options = CreateOptions {
            passphrase: Some(Secret::from(PASSPHRASE.to_owned())),
            kdf: KdfChoice::weak_for_tests(),
            ..CreateOptions::default()
        };
        Repository::create(&FsStore::new(bench.path("store")), &options).unwrap();
        let user = bench.user();
        bench.ok(&user, &["at", "STORE", "backup", "SOURCE"]);
        fs::write(source.join(BIG), noise(1 << 20)).unwrap();
        bench.ok(&user, &["at", "STORE", "backup", "SOURCE"]);
        bench.ok(&user, &["ptar", "-same-key", "-o", "ARCHIVE", "-k", "STORE"]);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn user(&self) -> User {
        let mut user = User::in_memory();
        user.set("PLAKAR_PASSPHRASE", PASSPHRASE);
        user
    }

    /// Runs a command line in which `STORE`, `SOURCE` and `ARCHIVE` stand for the originals.
    fn ok(&self, user: &User, args: &[&str]) {
        let args = args.iter().map(|arg| match *arg {
            "STORE" => self.path("store").into_os_string(),
            "SOURCE" => self.path("source").into_os_string(),
            "ARCHIVE" => self.path("x.ptar").into_os_string(),
            other => other.into(),
        });
        let ran = user.run_args(args);
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    /// A fresh copy of the store in a user's home, under the name `store`.
    pub(crate) fn copy(&self, user: &User) -> PathBuf {
        let to = user.home().join("store");
        assert!(Command::new("cp").arg("-a").arg(self.path("store")).arg(&to).status().unwrap().success());
        to
    }
}

/// The files of one kind of a store, oldest first.
pub(crate) fn resources(store: &Path, kind: &str) -> Vec<PathBuf> {
    let shards = fs::read_dir(store.join(kind)).unwrap().map(|shard| shard.unwrap().path());
    let mut found: Vec<PathBuf> = shards
        .filter(|shard| shard.is_dir())
        .flat_map(|shard| fs::read_dir(shard).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>())
        .collect();
    found.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    found
}

fn largest(files: Vec<PathBuf>) -> PathBuf {
    files.into_iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Harm {
    Delete,
    Truncate,
    Flip,
}

/// Where in a file it is harmed.
#[derive(Clone, Copy, Debug)]
enum Spot {
    /// The middle of the whole file, or of a blob area that fills most of it.
    Middle,
    /// Behind the blob area.
    Index,
    Footer,
    /// The last bytes.
    Trailer,
}

pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn harm(path: &Path, harm: Harm, spot: Spot) {
    let bytes = fs::read(path).unwrap();
    // The footer's length stands in front of the 32 bytes of the trailer.
    let footer = || {
        let end = bytes.len() - 36;
        end - u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize
    };
    let at = match spot {
        Spot::Middle => bytes.len() / 2,
        Spot::Index => footer() - 8,
        Spot::Footer => footer() + 8,
        Spot::Trailer => bytes.len() - 10,
    };
    match harm {
        Harm::Delete => fs::remove_file(path).unwrap(),
        Harm::Truncate => fs::write(path, &bytes[..at]).unwrap(),
        Harm::Flip => flip(path, at),
    }
}

/// What a command is to do: exit code, and a phrase of either stream.
type Outcome = (i32, &'static str);

/// What is harmed, where, how, and the outcomes of ls, check, restore and backup.
type Row = (&'static str, Spot, Harm, [Outcome; 4]);

const SNAPSHOT: Outcome = (0, "snapshot ");
const RESTORED: Outcome = (0, "restored snapshot ");
const LISTED: Outcome = (0, "/source");

const STORE_ROWS: [Row; 19] = {
    use Harm::{Delete, Flip, Truncate};
    use Spot::{Footer, Index, Middle, Trailer};
    const NO_STORE: Outcome = (66, "there is no store");
    const CONFIG: Outcome = (65, "CONFIG is damaged");
    const STATE: Outcome = (65, "damaged: state");
    const WARNED: Outcome = (0, "cannot be used");
    // Listed is what can be read, restored nothing that may be older than what was asked for.
    const PART: Outcome = (65, "cannot be used");
    const OLDER: Outcome = (65, "the latest snapshot cannot be told");
    const PACK: Outcome = (65, "damaged: packfile");
    [
        ("CONFIG", Middle, Delete, [NO_STORE; 4]),
        ("CONFIG", Middle, Truncate, [CONFIG; 4]),
        ("CONFIG", Middle, Flip, [CONFIG; 4]),
        ("CONFIG", Trailer, Flip, [CONFIG; 4]),
        // Who never saw the state cannot miss it: the older snapshot is what there is.
        ("state", Middle, Delete, [LISTED, (0, "no damage"), RESTORED, SNAPSHOT]),
        ("state", Middle, Truncate, [PART, STATE, OLDER, WARNED]),
        ("state", Middle, Flip, [PART, STATE, OLDER, WARNED]),
        ("state", Trailer, Flip, [PART, STATE, OLDER, WARNED]),
        // The content of the large file: everything else is elsewhere.
        ("data", Middle, Delete, [LISTED, PACK, (1, BIG), SNAPSHOT]),
        ("data", Middle, Truncate, [LISTED, (65, BIG), (1, BIG), SNAPSHOT]),
        ("data", Middle, Flip, [LISTED, (65, BIG), (1, BIG), SNAPSHOT]),
        // Only a check reads what stands behind the blobs: states say where those are.
        ("data", Index, Truncate, [LISTED, PACK, RESTORED, SNAPSHOT]),
        ("data", Index, Flip, [LISTED, PACK, RESTORED, SNAPSHOT]),
        ("data", Footer, Truncate, [LISTED, PACK, RESTORED, SNAPSHOT]),
        ("data", Footer, Flip, [LISTED, PACK, RESTORED, SNAPSHOT]),
        ("data", Trailer, Truncate, [LISTED, PACK, RESTORED, SNAPSHOT]),
        ("data", Trailer, Flip, [LISTED, PACK, RESTORED, SNAPSHOT]),
        // Headers and trees of the newest snapshot.
        ("metadata", Middle, Delete, [(65, "cannot be read"), PACK, OLDER, SNAPSHOT]),
        ("metadata", Trailer, Flip, [LISTED, PACK, RESTORED, SNAPSHOT]),
    ]
};

const ARCHIVE_ROWS: [Row; 6] = {
    use Harm::{Delete, Flip, Truncate};
    use Spot::{Middle, Trailer};
    const NOTHING: Outcome = (66, "x.ptar");
    const CUT: Outcome = (65, "the archive is incomplete");
    const BROKEN: Outcome = (65, "is damaged");
    const READ_ONLY: Outcome = (64, "archives are never changed");
    [
        ("archive", Middle, Delete, [NOTHING; 4]),
        ("archive", Middle, Truncate, [CUT; 4]),
        // The middle is the large file's.
        ("archive", Middle, Flip, [LISTED, (65, BIG), (1, BIG), READ_ONLY]),
        ("archive", Trailer, Truncate, [CUT; 4]),
        ("archive", Trailer, Flip, [CUT; 4]),
        ("state of the archive", Middle, Flip, [BROKEN; 4]),
    ]
};

#[test]
fn the_matrix() {
    let bench = Bench::new();
    let mut wrong = Vec::new();
    for (what, spot, how, outcomes) in STORE_ROWS.into_iter().chain(ARCHIVE_ROWS) {
        let user = bench.user();
        let place = if what.contains("archive") {
            let place = user.home().join("x.ptar");
            fs::copy(bench.path("x.ptar"), &place).unwrap();
            place
        } else {
            bench.copy(&user)
        };
        let packs = || resources(&place, "packfiles");
        let newest_data = || largest(packs());
        match what {
            "CONFIG" => harm(&place.join("CONFIG"), how, spot),
            "state" => harm(resources(&place, "states").last().unwrap(), how, spot),
            "data" => harm(&newest_data(), how, spot),
            "metadata" => {
                let data = newest_data();
                let rest: Vec<_> = packs().into_iter().filter(|pack| *pack != data).collect();
                harm(rest.last().unwrap(), how, spot);
            }
            "state of the archive" => {
                let length = fs::metadata(&place).unwrap().len() as usize;
                flip(&place, length - 48 - 100);
            }
            _ => harm(&place, how, spot),
        }
        let (place, source) = (place.into_os_string(), bench.path("source").into_os_string());
        let commands: [&[_]; 4] = [
            &["ls".into()],
            &["check".into()],
            &["restore".into(), "-to".into(), "out".into()],
            &["backup".into(), source],
        ];
        for (command, (code, phrase)) in commands.into_iter().zip(outcomes) {
            let mut args = vec!["at".into(), place.clone()];
            args.extend_from_slice(command);
            let ran = user.run_args(&args);
            if ran.code != code || !(ran.stdout.contains(phrase) || ran.stderr.contains(phrase)) {
                wrong.push(format!(
                    "{how:?} {what} {spot:?}, {:?}: not {code} {phrase:?} but {ran:#?}",
                    command[0]
                ));
            }
            if ran.stderr.contains("panicked") {
                wrong.push(format!("{how:?} {what} {spot:?}: a panic"));
            }
        }
        // Whatever a restore put under a final name is right.
        let expected = look(&bench.path("source"));
        if user.home().join("out").exists() {
            for (path, found) in look(&user.home().join("out")) {
                if found.4 != expected[&path].4 {
                    wrong.push(format!("{how:?} {what} {spot:?}: {} is wrong", path.escape_ascii()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whatever hides the latest snapshot: what asks for the latest fails, names what is damaged and how to go on, and an
/// older one is there for whoever names it.
#[test]
fn an_older_snapshot_is_never_taken_for_the_latest() {
    let bench = Bench::new();
    for kind in ["states", "packfiles"] {
        let user = bench.user();
        let store = bench.copy(&user);
        let ids: Vec<String> = user
            .ok("at store ls -uuid")
            .lines()
            .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
            .collect();
        let data = largest(resources(&store, "packfiles"));
        let newest = resources(&store, kind).into_iter().rfind(|file| *file != data).unwrap();
        let length = fs::metadata(&newest).unwrap().len() as usize;
        fs::write(&newest, vec![0; length]).unwrap();
        fs::remove_dir_all(user.home().join(".cache")).unwrap();
        for line in [
            "restore -to out",
            "restore -to out latest",
            "restore -to out -latest",
            "restore -to out :sub",
            "ls latest",
            "cat latest:sub/small",
            "info latest",
            "check -latest",
        ] {
            let ran = user.run(&format!("at store {line}"));
            let hidden = if kind == "states" { "state " } else { &format!("snapshot {}", &ids[1][..8]) };
            assert!(
                ran.code == 65
                    && ran.stderr.contains("the latest snapshot cannot be told")
                    && ran.stderr.contains(hidden)
                    && ran.stderr.contains(&format!("later than snapshot {}", &ids[0][..8]))
                    && ran.stderr.contains("name a snapshot by its id"),
                "{kind}, {line}: {ran:#?}"
            );
            assert!(!user.home().join("out").exists(), "{kind}, {line}");
        }
        let listed = user.run("at store ls");
        assert!(listed.code == 65 && listed.stdout.contains(&ids[0][..8]), "{kind}: {listed:#?}");
        user.ok(&format!("at store restore -to out {}", ids[0]));
        assert!(user.home().join("out/sub/small").exists());
        // A new backup is the latest beyond doubt: it was begun after everything that is damaged was written.
        let source = bench.path("source");
        assert_eq!(user.run_args(["at", "store", "backup", source.to_str().unwrap()]).code, 0);
        user.ok("at store info latest");
        if kind == "states" {
            user.ok("at store restore -to again latest");
            assert_eq!(look(&user.home().join("again")), look(&source));
        }
    }
}

#[test]
fn a_deleted_packfile_is_made_up_for_by_the_next_backup() {
    let bench = Bench::new();
    let user = bench.user();
    let store = bench.copy(&user);
    user.ok("at store ls");
    let source = bench.path("source");
    fs::remove_file(largest(resources(&store, "packfiles"))).unwrap();
    assert_eq!(user.run_args(["at", "store", "backup", source.to_str().unwrap()]).code, 0);
    user.ok("at store restore -to out latest");
    assert_eq!(look(&user.home().join("out")), look(&source));
}

#[test]
fn passphrases_stores_and_words_that_are_wrong() {
    let bench = Bench::new();
    let mut user = bench.user();
    bench.copy(&user);
    for (line, code, said) in [
        ("at nowhere ls", 66, "there is no store"),
        ("at nowhere backup store", 66, "there is no store"),
        ("at nowhere.ptar ls", 66, "nowhere.ptar"),
        ("at store ls -colour", 64, "has no flag -colour"),
        ("at store bakup .", 64, "did you mean 'backup'?"),
        ("store add s s3://h/b colour=blue", 64, "known options are"),
        ("store add s s3://h/b acess_key=x", 64, "did you mean access_key?"),
        ("at s3://127.0.0.1:1/b ls", 1, "network"),
        ("at store sync to nowhere", 66, "there is no store"),
        ("ptar -plaintext -o y.ptar -k nowhere", 66, "there is no store"),
    ] {
        if line.contains("s3://127") {
            user.set("AWS_ACCESS_KEY_ID", "a");
            user.set("AWS_SECRET_ACCESS_KEY", "b");
        }
        let ran = user.run(line);
        assert!(ran.code == code && ran.stderr.contains(said), "{line}: {ran:#?}");
    }
    assert!(!user.home().join("y.ptar").exists());
    user.set("PLAKAR_PASSPHRASE", "wrong");
    for line in ["ls", "check", "backup .", "restore -to out", "info"] {
        let ran = user.run(&format!("at store {line}"));
        assert!(ran.code == 77 && ran.stderr.contains("does not open it"), "{line}: {ran:#?}");
    }
    assert!(!user.home().join("out").exists());
}

#[test]
fn nobody_is_asked_where_there_is_nobody() {
    let bench = Bench::new();
    let user = User::in_memory();
    bench.copy(&user);
    for line in [
        "at store ls",
        "at store backup .",
        "at other create",
        "ptar -o x.ptar .",
        "ptar -o x.ptar -k store",
        "at store sync to store2",
    ] {
        for shell in
            ["exec \"$0\" \"$@\" <&-", "exec \"$0\" \"$@\" </dev/null", "echo secret | \"$0\" \"$@\""]
        {
            // A session of its own has no terminal that could be opened past standard input.
            let mut command = Command::new("setsid");
            command.args(["-w", "sh", "-c", shell, env!("CARGO_BIN_EXE_plakar")]);
            command.args(line.split(' ')).current_dir(user.home()).env_clear();
            command.env("HOME", user.home()).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
            let ran = Ran::from(command.output().unwrap());
            let hinted = ran.stderr.contains("-keyfile") || ran.stderr.contains("PLAKAR_PASSPHRASE");
            assert!(ran.code == 77 && hinted, "{line}, {shell}: {ran:#?}");
        }
    }
    assert!(!user.home().join("x.ptar").exists() && !user.home().join("other/CONFIG").exists());
}

/// The program as somebody who may not read everything: root runs it as nobody.
fn unprivileged(user: &User, args: &[&str]) -> Option<Command> {
    let mut command = user.command(args);
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(user.home(), fs::Permissions::from_mode(0o777)).unwrap();
        // The program itself may lie where nobody gets.
        let program = user.home().join("plakar");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_plakar"), &program).unwrap();
        }
        let mut dropped = Command::new("setpriv");
        dropped.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program).args(args);
        dropped.current_dir(user.home()).stdin(Stdio::null()).env_clear();
        for (name, value) in command.get_envs() {
            dropped.env(name, value.unwrap());
        }
        let works = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "true"]).output();
        if !works.is_ok_and(|output| output.status.success()) {
            println!("not run: setpriv cannot drop privileges here");
            return None;
        }
        command = dropped;
    }
    Some(command)
}

#[test]
fn an_unreadable_file_is_named_and_the_rest_is_kept() {
    let user = User::in_memory();
    let source = user.home().join("source");
    fs::create_dir_all(source.join("closed")).unwrap();
    fs::write(source.join("open"), "open").unwrap();
    fs::write(source.join("secret"), "secret").unwrap();
    fs::write(source.join("closed/inside"), "inside").unwrap();
    fs::set_permissions(source.join("secret"), fs::Permissions::from_mode(0)).unwrap();
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0)).unwrap();
    let run =
        |args: &[&str]| unprivileged(&user, args).map(|mut command| Ran::from(command.output().unwrap()));
    let Some(ran) = run(&["at", "store", "create", "-plaintext"]) else { return };
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = run(&["at", "store", "backup", "source"]).unwrap();
    assert_eq!(ran.code, 1, "{ran:#?}");
    let said = [ran.stdout.as_str(), &ran.stderr].concat();
    assert!(said.contains("source/secret") && said.contains("source/closed"), "{ran:#?}");
    assert!(ran.stdout.contains("snapshot ") && said.contains("2 paths"), "{ran:#?}");
    let ran = run(&["at", "store", "cat", "latest:open"]).unwrap();
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "open"));
    assert_eq!(run(&["at", "store", "check"]).unwrap().code, 0);
    let ran = run(&["ptar", "-plaintext", "-o", "x.ptar", "source"]).unwrap();
    assert!(ran.code == 1 && ran.stderr.contains("secret"), "{ran:#?}");
    assert_eq!(run(&["at", "x.ptar", "check"]).unwrap().code, 0);
    // A second run does not take what was not read for unchanged.
    let ran = run(&["at", "store", "backup", "source"]).unwrap();
    assert_eq!(ran.code, 1, "{ran:#?}");
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

/// A small file system, gone when dropped.
struct Small(PathBuf);

impl Small {
    /// Mounts it with options of tmpfs, such as `size=3m` or `nr_inodes=10`.
    fn mount(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at);
        if command.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        println!("not run on a full file system: tmpfs cannot be mounted here");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What a folder cannot take the place of, for want of room for one, is still there.
#[test]
fn a_file_goes_only_once_the_folder_that_replaces_it_is_there() {
    let user = User::in_memory();
    let home = user.home();
    fs::create_dir_all(home.join("source/name/below")).unwrap();
    user.ok("at ./store create -plaintext");
    user.ok("at ./store backup source");
    let Some(_mounted) = Small::mount(home.join("few"), "nr_inodes=3") else { return };
    // The root, the target and the file: no inode is left.
    fs::create_dir(home.join("few/out")).unwrap();
    fs::write(home.join("few/out/name"), "precious").unwrap();
    let ran = user.run("at ./store restore -to few/out");
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("name") && ran.stderr.contains("space"), "{ran:#?}");
    assert_eq!(fs::read_to_string(home.join("few/out/name")).unwrap(), "precious");
    let names = fs::read_dir(home.join("few/out")).unwrap().count();
    assert_eq!(names, 1, "nothing temporary is left");
}

/// A user with a source that holds a small file and two of 4 MiB.
fn full_source(user: &User) {
    let source = user.home().join("source");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("a small one"), "small").unwrap();
    for (name, number) in [("b", 1_u8), ("c", 2)] {
        let mut bytes = noise(4 << 20);
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(2).wrapping_add(number));
        fs::write(source.join(name), bytes).unwrap();
    }
}

/// Nothing but whole files under final names.
fn assert_whole_or_absent(target: &Path, source: &Path) {
    let expected = look(source);
    for (path, found) in if target.exists() { look(target) } else { std::collections::BTreeMap::default() } {
        let name = String::from_utf8(path.clone()).unwrap();
        let expected = expected.get(&path).unwrap_or_else(|| panic!("{name} is left behind"));
        assert_eq!(found.4, expected.4, "{name}");
    }
}

/// Runs all that writes, through `run`, where 3 MB is the most there is room for, and expects clear failures.
fn fill_up(user: &User, place: &str, run: &dyn Fn(&[&str]) -> Ran) {
    let home = user.home();
    let (store, archive, out) = (format!("{place}/store"), format!("{place}/x.ptar"), format!("{place}/out"));
    let complain = |what: &str, ran: &Ran| {
        assert_eq!(ran.code, 1, "{what}: {ran:#?}");
        let said = [ran.stdout.as_str(), &ran.stderr].concat();
        assert!(said.contains("space") || said.contains("File too large"), "{what}: {ran:#?}");
    };
    user.ok(&format!("at {store} create -plaintext"));
    fs::create_dir_all(home.join("little")).unwrap();
    fs::write(home.join("little/x"), "x").unwrap();
    user.ok(&format!("at {store} backup little"));

    complain("backup", &run(&["at", &store, "backup", "source"]));
    assert_eq!(user.ok(&format!("at {store} ls")).lines().count(), 1);
    assert!(user.ok(&format!("at {store} check")).contains("no damage"));
    assert_eq!(user.ok(&format!("at {store} cat latest:x")), "x");

    complain("ptar", &run(&["ptar", "-plaintext", "-o", &archive, "source"]));
    let left: Vec<_> =
        fs::read_dir(home.join(place)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["store"], "nothing is left of the archive");

    complain("restore", &run(&["at", "whole", "restore", "-to", &out]));
    assert_whole_or_absent(&home.join(&out), &home.join("source"));
    fs::remove_dir_all(home.join(&out)).unwrap();
    // There is room again, and the store is as good as ever.
    user.ok(&format!("at {store} backup little"));
    user.ok(&format!("at {store} check"));
}

#[test]
fn a_full_file_system() {
    let user = User::in_memory();
    full_source(&user);
    user.ok("at whole create -plaintext");
    user.ok("at whole backup source");
    let Some(_small) = Small::mount(user.home().join("small"), "size=5m") else { return };
    fill_up(&user, "small", &|args| user.run_args(args));
}

#[test]
fn a_limit_on_the_size_of_files() {
    let user = User::in_memory();
    full_source(&user);
    user.ok("at whole create -plaintext");
    user.ok("at whole backup source");
    fs::create_dir(user.home().join("limited")).unwrap();
    fill_up(&user, "limited", &|args| {
        let plain = user.command(args);
        let mut command = Command::new("prlimit");
        command.arg("--fsize=3000000").arg(plain.get_program()).args(plain.get_args());
        command.env_clear().current_dir(user.home()).stdin(Stdio::null());
        command.envs(plain.get_envs().map(|(name, value)| (name, value.unwrap())));
        let output = command.output().unwrap();
        assert!(output.status.code().is_some(), "{args:?}: killed: {:?}", output.status);
        Ran::from(output)
    });
}

#[test]
fn names_full_of_control_characters_never_reach_the_terminal() {
    let user = User::in_memory();
    let source = user.home().join("source");
    fs::create_dir_all(&source).unwrap();
    let names: [&[u8]; 6] = [
        b"new\nline \x1b[2J",
        b"bell\x07 tab\t cr\r del\x7f",
        "c1 \u{9b}31m".as_bytes(),
        "bidi \u{202e}gpj.exe \u{200b}".as_bytes(),
        b"not utf-8 \xff\xfe\x9b",
        b"folder \x1b]0;x\x07",
    ];
    for name in &names[..5] {
        fs::write(source.join(std::ffi::OsStr::from_bytes(name)), noise(1000)).unwrap();
    }
    let folder = source.join(std::ffi::OsStr::from_bytes(names[5]));
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("\x1b[31m\n", folder.join("link")).unwrap();
    let harmless = |line: &str, ran: &Ran| {
        for text in [&ran.stdout, &ran.stderr] {
            let bad = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}".contains(c);
            assert!(!text.contains(bad), "{line}: {text:?}");
        }
    };
    let run = |line: &str, code: i32| {
        let ran = user.run(line);
        assert_eq!(ran.code, code, "{line}: {ran:#?}");
        harmless(line, &ran);
        ran
    };
    run("at store create -plaintext", 0);
    run("at store backup source", 0);
    assert_eq!(run("at store ls latest", 0).stdout.lines().count(), 6);
    let listed = run("at store ls -recursive latest", 0).stdout;
    assert_eq!(listed.lines().filter(|line| line.contains("new\\nline")).count(), 1, "{listed}");
    run("-json at store ls -recursive latest", 0);
    run("at store ls -l latest", 0);
    run("at store restore -to out latest", 0);
    assert_eq!(look(&user.home().join("out")), look(&source));
    run("at store restore -no-overwrite -to out latest", 1);
    run("-json at store restore -no-overwrite -to out latest", 1);
    run("ptar -plaintext -o x.ptar source", 0);
    run("at store check", 0);
    let pack = largest(resources(&user.home().join("store"), "packfiles"));
    fs::remove_file(&pack).unwrap();
    run("at store check", 65);
    run("-json at store check", 65);
    let ran = user.run("at store restore -to out2 latest");
    assert_ne!(ran.code, 0);
    harmless("restore", &ran);
    let ran = user.run_args(["at", "store", "cat", "latest:no\x1bthing"]);
    harmless("cat", &ran);
    let ran = user.run_args(["at", "store", "backup", "no\x1bthing"]);
    harmless("backup", &ran);
}
