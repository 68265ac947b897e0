//! Files that upstream plakar wrote: opened, listed, checked and compared with their manifests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plakar::connector::Storage;
use plakar::connectors::{fs::FsStore, ptar::PtarStore};
use plakar::crypto::Secret;
use plakar::format::entry::Entry;
use plakar::snapshot::vfs::read::{Vfs, Visit};
use plakar::snapshot::{CheckOptions, SnapshotInfo, Tally, check, list};
use plakar::store::{OpenOptions, Repository, WithPassphrase};
use sha2::Digest as _;

/// What everything encrypted among the fixtures opens with.
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

/// The folder with upstream's larger files. It stands beside the repository, and not everywhere.
pub(crate) fn shared_fixtures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("not run: {} is not there", folder.display());
    None
}

pub(crate) fn open(storage: impl Storage + 'static) -> Arc<Repository> {
    open_with(Arc::new(storage), PASSPHRASE)
}

pub(crate) fn open_with(storage: Arc<dyn Storage>, passphrase: &str) -> Arc<Repository> {
    try_open(storage, passphrase).unwrap()
}

pub(crate) fn try_open(
    storage: Arc<dyn Storage>,
    passphrase: &str,
) -> Result<Arc<Repository>, plakar::store::OpenError> {
    struct Maybe(WithPassphrase);
    impl plakar::store::Unlock for Maybe {
        fn passphrase(
            &mut self,
            attempt: u32,
        ) -> Result<Option<Secret>, Box<dyn std::error::Error + Send + Sync>> {
            self.0.passphrase(attempt)
        }
    }
    let secret = Secret::from(passphrase.to_owned());
    Repository::open(storage, &mut Maybe(WithPassphrase(secret)), &OpenOptions::default())
}

pub(crate) fn unpack(archive: &Path, into: &Path) {
    let status =
        std::process::Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(into).status().unwrap();
    assert!(status.success(), "tar {}", archive.display());
}

/// One line of a manifest: type, permissions, size, seconds, digest or target.
type Line = (String, String, String, String, String);

fn manifest(path: &Path) -> BTreeMap<String, Line> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let parts: Vec<&str> = line.splitn(6, '\t').map(str::trim_end).collect();
        let [kind, mode, size, time, digest, path] = parts[..] else { panic!("{line:?}") };
        (path.to_owned(), (kind.into(), mode.into(), size.into(), time.into(), digest.into()))
    };
    text.lines().map(line).collect()
}

/// The same of a snapshot, below its backed-up root.
fn listing(repository: &Repository, info: &SnapshotInfo) -> BTreeMap<String, Line> {
    let source = info.header.source().unwrap();
    let root = source.importer.directory.clone();
    let vfs = Vfs::open(repository, source).unwrap();
    let mut lines = BTreeMap::new();
    for visit in vfs.walk(&root).unwrap() {
        let Visit::Entry(child) = visit.unwrap() else { continue };
        let path = child.path();
        let Some(below) = path.strip_prefix(root.as_bytes()).filter(|below| !below.is_empty()) else {
            continue;
        };
        let below = String::from_utf8(below[1..].to_vec()).unwrap();
        lines.insert(below, line_of(&vfs, &child.entry));
    }
    assert_eq!(vfs.take_faults().len(), 0);
    lines
}

fn line_of(vfs: &Vfs<'_, Repository>, entry: &Entry) -> Line {
    let info = &entry.info;
    let (kind, size, digest) = if info.mode.is_dir() {
        ("d", "-".to_owned(), "-".to_owned())
    } else if info.mode.is_symlink() {
        ("l", "-".to_owned(), format!("-> {}", entry.symlink_target.lossy()))
    } else {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut vfs.open_object(&entry.object).unwrap(), &mut content).unwrap();
        let digest = plakar::base::Id(sha2::Sha256::digest(&content).into()).to_hex();
        ("f", info.size.to_string(), digest)
    };
    let mode = format!("{:04o}", info.mode.to_unix() & 0o7777);
    (kind.into(), mode, size, info.modified.secs.to_string(), digest)
}

fn assert_whole(repository: &Repository) {
    for fast in [false, true] {
        let options = CheckOptions { fast, ..CheckOptions::default() };
        let report = check(repository, None, &options, &Tally::default()).unwrap();
        assert_eq!(report.damage, [], "fast: {fast}");
    }
}

fn assert_manifests(repository: &Repository, manifests: &[PathBuf]) {
    let (snapshots, failed) = list(repository);
    assert!(failed.is_empty());
    assert_eq!(snapshots.len(), manifests.len());
    for (info, path) in snapshots.iter().zip(manifests) {
        let (found, expected) = (listing(repository, info), manifest(path));
        assert_eq!(found.len(), expected.len());
        for (name, line) in &expected {
            assert_eq!(found.get(name), Some(line), "{name} in {}", path.display());
        }
    }
    assert_whole(repository);
}

fn steps(folder: &Path) -> Vec<PathBuf> {
    (1..=3).map(|step| folder.join(format!("manifest-store-step{step}.tsv"))).collect()
}

#[test]
fn vector_archives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors");
    for name in ["plain.ptar", "encrypted.ptar"] {
        let repository = open(PtarStore::open(folder.join(name), true).unwrap());
        let (snapshots, _) = list(&repository);
        let [info] = &snapshots[..] else { panic!("{} snapshots", snapshots.len()) };
        let vfs = Vfs::open(repository.as_ref(), info.header.source().unwrap()).unwrap();
        let mut paths = Vec::new();
        for visit in vfs.walk(b"/").unwrap() {
            if let Visit::Entry(child) = visit.unwrap() {
                paths.push(child.path().escape_ascii().to_string());
            }
        }
        assert_eq!(paths, ["/", "/dir", "/dir/bad\\xff", "/dir/empty", "/hello.txt", "/link", "/old"]);
        assert_whole(&repository);
    }
}

#[test]
fn upstream_plain_archives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/upstream");
    for version in ["v1.0.6", "v1.1.4"] {
        let repository = open(PtarStore::open(folder.join(format!("{version}.ptar")), true).unwrap());
        assert_manifests(&repository, &[folder.join(format!("{version}.tsv"))]);
    }
}

#[test]
fn upstream_1_1_4_archives() {
    let Some(folder) = shared_fixtures().map(|folder| folder.join("v1.1.4")) else { return };
    let repository = open(PtarStore::open(folder.join("encrypted.ptar"), true).unwrap());
    assert_manifests(&repository, &[folder.join("manifest-ptar.tsv")]);
    let repository = open(PtarStore::open(folder.join("multi-plain.ptar"), true).unwrap());
    assert_manifests(&repository, &steps(&folder));
}

#[test]
fn upstream_1_1_4_store() {
    let Some(folder) = shared_fixtures().map(|folder| folder.join("v1.1.4")) else { return };
    let temporary = tempfile::tempdir().unwrap();
    unpack(&folder.join("store-plain.tar.gz"), temporary.path());
    let repository = open(FsStore::new(store_in(temporary.path())));
    assert_manifests(&repository, &steps(&folder));
}

#[test]
fn upstream_1_0_6_store() {
    let Some(folder) = shared_fixtures().map(|folder| folder.join("v1.0.6")) else { return };
    let temporary = tempfile::tempdir().unwrap();
    unpack(&folder.join("store-encrypted.tar.gz"), temporary.path());
    let repository = open(FsStore::new(store_in(temporary.path())));
    assert!(repository.catalogue().only_old_states());
    assert_manifests(&repository, &steps(&folder));
}

#[test]
fn upstream_archive_of_a_bucket() {
    let Some(folder) = shared_fixtures().map(|folder| folder.join("v1.1.4-s3")) else { return };
    let repository = open(PtarStore::open(folder.join("from-s3-store.ptar"), true).unwrap());
    assert_eq!(list(&repository).0.len(), 2);
    assert_whole(&repository);
}

/// Extends a store that upstream made: what was there stays as it was, what comes is as upstream's CONFIG asks.
fn assert_extends(root: &Path, manifests: &[PathBuf], old_states: bool) {
    let repository = open(FsStore::new(root));
    let tree = tempfile::tempdir().unwrap();
    super::engine::make_tree(tree.path());
    super::engine::back_up(&repository, tree.path());
    let again = super::engine::back_up(&repository, tree.path());
    assert_eq!(again.read_bytes, 0);
    let repository = open(FsStore::new(root));
    assert_eq!(repository.catalogue().only_old_states(), old_states);
    assert_whole(&repository);
    let (snapshots, _) = list(&repository);
    assert_eq!(snapshots.len(), manifests.len() + 2);
    for (info, path) in snapshots.iter().zip(manifests) {
        assert_eq!(listing(&repository, info), manifest(path), "{}", path.display());
    }
    super::engine::assert_restores(&repository, manifests.len() + 1, tree.path());
}

#[test]
fn upstream_stores_are_extended() {
    let Some(folder) = shared_fixtures() else { return };
    for (version, name, old_states) in
        [("v1.1.4", "store-plain.tar.gz", false), ("v1.0.6", "store-encrypted.tar.gz", true)]
    {
        let temporary = tempfile::tempdir().unwrap();
        unpack(&folder.join(version).join(name), temporary.path());
        assert_extends(&store_in(temporary.path()), &steps(&folder.join(version)), old_states);
    }
}

/// Returns the folder that holds CONFIG: the unpacked one, or the one folder in it.
pub(crate) fn store_in(folder: &Path) -> PathBuf {
    if folder.join("CONFIG").exists() {
        return folder.to_owned();
    }
    let inner = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    store_in(&inner)
}
