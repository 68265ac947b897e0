//! A second reader, which shares nothing with this program, accepts what this program writes.
//!
//! The reader is a Python program beside the repository. It needs packages of its own; the interpreter that has them
//! is named by `PLAKAR_TEST_PYTHON`. Where one of the three is missing the tests say that they were not run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::User;

const PASSPHRASE: &str = "correct horse battery staple";
const MODULES: &str = "import argon2, blake3, cryptography, lz4.frame, msgpack, zstandard";

/// The interpreter and the program, if both are here.
struct Reader {
    python: String,
    program: PathBuf,
}

impl Reader {
    fn find() -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/tools/kloset_read.py");
        if !program.is_file() {
            println!("not run: {} is not there", program.display());
            return None;
        }
        let python = std::env::var("PLAKAR_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
        match Command::new(&python).args(["-c", MODULES]).output() {
            Ok(output) if output.status.success() => Some(Self { python, program }),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                println!("not run: {python}: {}", why.lines().last().unwrap_or("it failed"));
                None
            }
            Err(error) => {
                println!("not run: {python}: {error}");
                None
            }
        }
    }

    /// Verifies a store or an archive, and returns what the reader said.
    fn verify(&self, place: &Path) -> Result<String, String> {
        let output = Command::new(&self.python)
            .arg(&self.program)
            .arg(place)
            .args(["--passphrase", PASSPHRASE, "--verify"])
            .output()
            .unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}

/// A tree with a bit of everything: empty, small, repeated and chunked files, odd names, links, modes.
fn plant(tree: &Path) {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    fs::create_dir_all(tree.join("sub/deeper/empty")).unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    fs::write(tree.join("hello.txt"), "hello\n").unwrap();
    fs::write(tree.join("sub/again.txt"), "hello\n").unwrap();
    fs::write(tree.join("sub/na\u{ef}ve name"), "odd").unwrap();
    fs::write(tree.join("sub/zeros"), vec![0; 3_000_000]).unwrap();
    let mut noise = vec![0; 6_000_000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::write(tree.join("sub/deeper/noise"), &noise).unwrap();
    for number in 0..300 {
        fs::write(tree.join(format!("sub/deeper/{number}.txt")), format!("number {number}\n")).unwrap();
    }
    fs::set_permissions(tree.join("hello.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("hello.txt", tree.join("link")).unwrap();
}

/// Writes a store and an archive, with the given flags, and has the reader verify both.
fn round(flags: &str) {
    let Some(reader) = Reader::find() else { return };
    let mut user = User::new();
    user.set("PLAKAR_PASSPHRASE", PASSPHRASE);
    let tree = user.home().join("tree");
    plant(&tree);
    user.ok(&format!("at ./store create {flags}"));
    user.ok("at ./store backup ./tree");
    fs::write(tree.join("new.txt"), "a second snapshot\n").unwrap();
    user.ok("at ./store backup ./tree");
    fold(&reader, &user);
    user.ok(&format!("ptar {flags} -o folder.ptar ./tree"));
    user.ok(&format!("ptar {flags} -o store.ptar -k ./store"));
    for place in ["store", "folder.ptar", "store.ptar"] {
        let path = user.home().join(place);
        let said =
            reader.verify(&path).unwrap_or_else(|said| panic!("{place} written with {flags:?}: {said}"));
        println!("{place}: {}", said.lines().last().unwrap_or_default());
    }
    refuses_damage(&reader, &user.home().join("folder.ptar"));
}

/// Folds the states of a store, some of which take things back: the reader accepts what is left with those that were
/// folded, and without them.
fn fold(reader: &Reader, user: &User) {
    let removed = user.ok("at ./store ls").split_whitespace().nth(1).unwrap().to_owned();
    user.ok("at ./store backup ./tree");
    user.ok(&format!("at ./store rm -apply {removed}"));
    user.ok("at ./store maintenance -apply -grace 0 -no-fold");
    user.ok("at ./store maintenance -apply -grace 0 -no-fold");
    let store = user.home().join("store");
    let before = reader.verify(&store).unwrap();
    user.ok("at ./store maintenance -apply -fold-above 1");
    let states = || crate::damage::resources(&store, "states").len();
    let all = states();
    let said = reader.verify(&store).unwrap_or_else(|said| panic!("while they stay: {said}"));
    assert_eq!(said.lines().last(), before.lines().last());
    user.ok("at ./store maintenance -apply -grace 0 -fold-above 1");
    assert!(states() == 1 && all > 4, "{all}");
    let said = reader.verify(&store).unwrap_or_else(|said| panic!("when they are gone: {said}"));
    assert_eq!(said.lines().last(), before.lines().last());
}

/// The reader is worth something only when it refuses an archive with one changed bit.
fn refuses_damage(reader: &Reader, archive: &Path) {
    let mut bytes = fs::read(archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(archive, bytes).unwrap();
    assert!(reader.verify(archive).is_err(), "a changed bit is refused");
}

#[test]
fn reader_accepts_upstreams_profile_encrypted() {
    round("-profile plakar");
}

#[test]
fn reader_accepts_upstreams_profile_in_the_clear() {
    round("-profile plakar -plaintext");
}

#[test]
fn reader_accepts_our_own_profile_in_the_clear() {
    round("-plaintext");
}

/// A bucket with old versions, delete markers and every kind of metadata.
fn bucket() -> crate::s3server::S3Server {
    let server = crate::s3server::S3Server::new();
    server.make_bucket("source");
    server.keep_versions("source");
    for key in ["a", "a/b", "a/", "x//y", "../up", "%~m", "deep/er/k"] {
        for n in 0..3 {
            let object =
                crate::s3server::Object::new(format!("{key} {n}")).header("x-amz-meta-n", "1").tag("a", "b");
            server.insert("source", key, object);
        }
    }
    server
}

#[test]
fn reader_accepts_a_bucket_with_its_versions() {
    use crate::s3server::{ACCESS_KEY, SECRET_KEY};
    let Some(reader) = Reader::find() else { return };
    let server = bucket();
    let mut user = User::new();
    user.set("PLAKAR_PASSPHRASE", PASSPHRASE);
    user.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
    user.set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let url = format!("s3://{}/source", server.authority());
    for (store, flags) in [("plakar", "-profile plakar -plaintext"), ("plain", "-plaintext")] {
        user.ok(&format!("at ./{store} create {flags}"));
        let line = format!("at ./{store} backup -o use_tls=false -o versions=all -o acl=true {url}");
        user.ok(&line);
        for key in ["a", "deep/er/k"] {
            server.insert("source", key, crate::s3server::Object::new("newest"));
        }
        user.ok(&line);
        let said = reader.verify(&user.home().join(store)).unwrap_or_else(|said| panic!("{store}: {said}"));
        println!("{store}: {}", said.lines().last().unwrap_or_default());
        user.ok(&format!("at ./{store} check"));
        user.ok(&format!("ptar -o {store}.ptar -k ./{store} -plaintext"));
        reader
            .verify(&user.home().join(format!("{store}.ptar")))
            .unwrap_or_else(|said| panic!("{store}: {said}"));
    }
}
