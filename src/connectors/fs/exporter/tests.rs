use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::base::{RawString, Timestamp};
use crate::connector::{
    ContentSource, Error, ErrorKind, Exporter, Importer, Item, Metadata, Outcome, Record, Result, Xattr,
};
use crate::connectors::fs::FsImporter;
use crate::format::entry::{Entry, FileInfo, Mode};

/// A destination below a temporary folder, with a place outside that must stay as it is.
struct Target {
    _dir: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
}

impl Target {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        Self { _dir: dir, root, outside }
    }

    fn exporter(&self) -> FsExporter {
        FsExporter::builder(&self.root).build().unwrap()
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.root.join(path)).unwrap()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn entry(mode: Mode) -> Entry {
    let mut info = FileInfo::new("x", mode);
    info.modified = Timestamp { secs: 1_600_000_000, nanos: 987_654_321 };
    info.uid = u64::from(rustix::process::geteuid().as_raw());
    info.gid = u64::from(rustix::process::getegid().as_raw());
    Entry::new("/", info)
}

fn link_to(target: &[u8]) -> Entry {
    let mut entry = entry(Mode::SYMLINK.with(Mode(0o777)));
    entry.symlink_target = target.into();
    entry
}

fn put(exporter: &FsExporter, path: impl AsRef<[u8]>, text: &str) -> Result<Outcome> {
    put_entry(exporter, path, &entry(Mode::regular(0o644)), text)
}

fn put_entry(exporter: &FsExporter, path: impl AsRef<[u8]>, entry: &Entry, text: &str) -> Result<Outcome> {
    let path = RawString::from(path.as_ref());
    exporter.file(&Item { path: &path, entry, xattrs: &[] }, &text.as_bytes().to_vec())
}

fn folder(exporter: &FsExporter, path: impl AsRef<[u8]>) -> Result<Outcome> {
    let path = RawString::from(path.as_ref());
    exporter.folder(&Item { path: &path, entry: &entry(Mode::dir(0o755)), xattrs: &[] })
}

fn special(exporter: &FsExporter, path: &str, entry: &Entry) -> Result<Outcome> {
    exporter.special(&Item { path: &path.into(), entry, xattrs: &[] })
}

fn hard_link(exporter: &FsExporter, path: &str, first: &str) -> Result<Outcome> {
    let entry = entry(Mode::regular(0o644));
    exporter.hard_link(&Item { path: &path.into(), entry: &entry, xattrs: &[] }, &first.into())
}

fn scan(place: &Path) -> (FsImporter, Vec<Record>) {
    let importer = FsImporter::builder().place(place).extended_metadata(true).build().unwrap();
    let mut records = Vec::new();
    importer
        .scan(&mut |record| {
            records.push(record);
            ControlFlow::Continue(())
        })
        .unwrap();
    (importer, records)
}

/// Restores a tree from the disk, as an engine would restore it from a snapshot. Returns outcomes by path.
fn copy(from: &Path, exporter: &dyn Exporter) -> BTreeMap<String, Outcome> {
    let (importer, records) = scan(from);
    let prefix = from.as_os_str().as_bytes();
    let mut outcomes = BTreeMap::new();
    let mut folders = Vec::new();
    let mut links = BTreeMap::new();
    for record in &records {
        let Some(path) = record.path.strip_prefix(prefix) else { continue };
        let path = RawString::from(path.strip_prefix(b"/").unwrap_or(path));
        let xattrs = importer.xattrs(record).unwrap();
        let mut entry = Entry::new("/", record.info.as_ref().unwrap().clone());
        entry.symlink_target = record.symlink_target.clone().unwrap_or_default();
        entry.metadata.clone_from(&record.metadata);
        let item = Item { path: &path, entry: &entry, xattrs: &xattrs };
        let mode = entry.info.mode;
        let outcome = if mode.is_dir() {
            folders.push((path.clone(), entry.clone(), xattrs.clone()));
            exporter.folder(&item)
        } else if !mode.is_regular() {
            exporter.special(&item)
        } else if let Some(first) = links.get(&entry.info.inode) {
            exporter.hard_link(&item, first)
        } else {
            links.insert(entry.info.inode, path.clone());
            let mut content = importer.open(record).unwrap();
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            exporter.file(&item, &bytes)
        };
        outcomes.insert(path.escape_ascii().to_string(), outcome.unwrap());
    }
    for (path, entry, xattrs) in folders.iter().rev() {
        let item = Item { path, entry, xattrs };
        let outcome = exporter.finish_folder(&item).unwrap();
        if outcome != Outcome::Restored {
            outcomes.insert(format!("{} finished", path.escape_ascii()), outcome);
        }
    }
    exporter.finish().unwrap();
    outcomes
}

/// Describes everything below a folder that a restore must bring back.
fn describe(place: &Path) -> Vec<String> {
    let (importer, records) = scan(place);
    let prefix = place.as_os_str().as_bytes();
    let inside = records.iter().filter_map(|record| Some((record.path.strip_prefix(prefix)?, record)));
    inside
        .map(|(path, record)| {
            let info = record.info.as_ref().unwrap();
            let size = if info.mode.is_dir() { 0 } else { info.size };
            let file = Path::new(std::ffi::OsStr::from_bytes(&record.path));
            let content = if info.mode.is_regular() { fs::read(file).unwrap() } else { Vec::new() };
            format!(
                "{} {:o} {}:{} {size} {:?} links {} {:?} {:?} {:?} {:016x}",
                path.escape_ascii(),
                info.mode.to_unix(),
                info.uid,
                info.gid,
                info.modified,
                info.links,
                record.symlink_target,
                importer.xattrs(record).unwrap(),
                record.metadata,
                twox_hash::XxHash32::oneshot(0, &content),
            )
        })
        .collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let source = tempfile::tempdir().unwrap();
    let base = source.path().canonicalize().unwrap().join("base");
    fs::create_dir_all(base.join("a/b/c")).unwrap();
    fs::create_dir(base.join("empty")).unwrap();
    for name in ["plain", "a/one", "a/b/two", "a/b/c/three"] {
        fs::write(base.join(name), name.repeat(1000)).unwrap();
    }
    fs::write(base.join("a/nothing"), "").unwrap();
    fs::hard_link(base.join("plain"), base.join("a/b/again")).unwrap();
    let sparse = File::create(base.join("sparse")).unwrap();
    sparse.set_len(30_000_000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"island", 12_345_678).unwrap();
    symlink("../no/where", base.join("a/link")).unwrap();
    symlink("/", base.join("slash")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, base.join("pipe"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(base.join(path), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("plain", "user.colour", b"\x00\xff");
    set("a", "user.folder", b"yes");
    set("a/one", "user.s3.key", b"raw/\xff");
    if is_root() {
        set("a/link", "security.note", b"on a link");
        for (path, owner) in [("plain", 1234), ("a/b", 99), ("slash", 77), ("pipe", 5)] {
            std::os::unix::fs::lchown(base.join(path), Some(owner), Some(owner + 1)).unwrap();
        }
        fs::set_permissions(base.join("plain"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(base.join("a/b"), fs::Permissions::from_mode(0o2775)).unwrap();
    }
    fs::set_permissions(base.join("empty"), fs::Permissions::from_mode(0o1555)).unwrap();
    // Last, because making things changes the times of folders.
    for (number, path) in
        ["a/link", "plain", "sparse", "pipe", "a/b/c", "a/b", "a", "empty", ""].iter().enumerate()
    {
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 1 },
            last_modification: rustix::fs::Timespec { tv_sec: -5 + number as i64, tv_nsec: 123_456_789 },
        };
        let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, base.join(path), &times, nofollow).unwrap();
    }
    let target = Target::new();
    let outcomes = copy(&base, &target.exporter());
    assert!(outcomes.values().all(|outcome| *outcome == Outcome::Restored), "{outcomes:?}");
    let root = target.root.canonicalize().unwrap();
    assert_eq!(describe(&root), describe(&base));
    let sparse = fs::metadata(root.join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "holes stay holes");
    let one = fs::metadata(root.join("plain")).unwrap();
    assert_eq!(one.ino(), fs::metadata(root.join("a/b/again")).unwrap().ino());

    // Again, over what is there: nothing has to be done.
    let again = FsExporter::builder(&target.root).detect_equal(true).build().unwrap();
    let outcomes = copy(&base, &again);
    assert!(
        outcomes.iter().all(|(path, o)| *o == Outcome::Equal || path == "pipe" || path.ends_with("finished"))
    );
    let outcomes = copy(&base, &target.exporter());
    assert_eq!(outcomes["plain"], Outcome::Restored);
    let mut seen = describe(&root);
    let mut wanted = describe(&base);
    // The root was not empty any more, so it kept its own times.
    seen.remove(0);
    wanted.remove(0);
    assert_eq!(seen, wanted);
}

#[test]
fn names_of_every_kind_arrive_or_are_refused() {
    let target = Target::new();
    let exporter = target.exporter();
    let long = "n".repeat(255);
    let good: [&[u8]; 12] = [
        b"...",
        b"..a",
        b"a..",
        b" ",
        b"\n",
        b"\\",
        b"-rf",
        b"\xff\xfe",
        b"\x1b[31m",
        "naïve".as_bytes(),
        b"C:",
        long.as_bytes(),
    ];
    for name in good {
        assert_eq!(put(&exporter, name, "x").unwrap(), Outcome::Restored, "{}", name.escape_ascii());
    }
    let bad: [&[u8]; 12] = [
        b"",
        b"/",
        b"/etc/passwd",
        b"..",
        b".",
        b"../outside/x",
        b"a/../../outside/x",
        b"./x",
        b"x/",
        b"a//b",
        b"nul\0",
        b"a/.",
    ];
    for name in bad {
        assert_eq!(
            put(&exporter, name, "x").unwrap_err().kind,
            ErrorKind::Invalid,
            "{}",
            name.escape_ascii()
        );
        if !name.is_empty() {
            assert_eq!(folder(&exporter, name).unwrap_err().kind, ErrorKind::Invalid);
        }
        let path = RawString::from(name);
        let item = Item { path: &path, entry: &link_to(b"x"), xattrs: &[] };
        assert!(exporter.special(&item).is_err());
        assert!(exporter.hard_link(&item, &"...".into()).is_err());
        assert!(hard_link(&exporter, "fresh", &String::from_utf8_lossy(name)).is_err());
    }
    assert!(matches!(put(&exporter, "n".repeat(256), "x").unwrap(), Outcome::Unsupported(_)));
    assert!(matches!(folder(&exporter, "n".repeat(256)).unwrap(), Outcome::Unsupported(_)));
    assert_eq!(fs::read_dir(&target.root).unwrap().count(), good.len());
    assert_eq!(fs::read_dir(&target.outside).unwrap().count(), 0);
}

#[test]
fn links_in_the_way_are_never_followed() {
    for at_once in [true, false] {
        let target = Target::new();
        let exporter = target.exporter();
        if !at_once {
            exporter.tree().step_by_step();
        }
        folder(&exporter, "real").unwrap();
        symlink(&target.outside, target.root.join("link")).unwrap();
        symlink(&target.outside, target.root.join("real/link")).unwrap();
        symlink("real", target.root.join("inner")).unwrap();
        fs::create_dir(target.outside.join("deep")).unwrap();
        for path in ["link/x", "real/link/x", "inner/x", "link/deep/x", "real/link/deep/x"] {
            assert_eq!(put(&exporter, path, "x").unwrap_err().kind, ErrorKind::Exists, "{path}");
            assert_eq!(folder(&exporter, path).unwrap_err().kind, ErrorKind::Exists, "{path}");
            assert!(special(&exporter, path, &link_to(b"x")).is_err());
            assert!(hard_link(&exporter, path, "real").is_err());
        }
        fs::write(target.outside.join("secret"), "secret").unwrap();
        assert!(hard_link(&exporter, "stolen", "link/secret").is_err());
        symlink(target.outside.join("secret"), target.root.join("to-secret")).unwrap();
        assert_eq!(hard_link(&exporter, "stolen", "to-secret").unwrap_err().kind, ErrorKind::Changed);
        // In its own place a link is replaced, not written through.
        assert_eq!(put(&exporter, "to-secret", "new").unwrap(), Outcome::Restored);
        assert_eq!(folder(&exporter, "link").unwrap(), Outcome::Restored);
        assert_eq!(put(&exporter, "link/x", "inside").unwrap(), Outcome::Restored);
        let item = Item { path: &"real/link".into(), entry: &entry(Mode::dir(0o700)), xattrs: &[] };
        assert!(exporter.finish_folder(&item).is_err());
        assert_eq!(fs::read(target.outside.join("secret")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(&target.outside).unwrap().count(), 2);
        assert_eq!(fs::read_dir(target.outside.join("deep")).unwrap().count(), 0);
        assert_eq!(target.names("link"), ["x"]);
    }
}

#[test]
fn a_link_that_appears_during_the_restore_leads_nowhere() {
    for at_once in [true, false] {
        let target = Target::new();
        let exporter = target.exporter();
        if !at_once {
            exporter.tree().step_by_step();
        }
        folder(&exporter, "a").unwrap();
        folder(&exporter, "a/b").unwrap();
        fs::create_dir(target.outside.join("b")).unwrap();
        fs::write(target.outside.join("b/own"), "own").unwrap();
        let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (mut restored, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (a, away, link) =
                    (target.root.join("a"), target.root.join("away"), target.root.join("l"));
                while !stop.load(Ordering::Relaxed) {
                    symlink(&target.outside, &link).unwrap();
                    fs::rename(&a, &away).unwrap();
                    fs::rename(&link, &a).unwrap();
                    std::thread::yield_now();
                    fs::remove_file(&a).unwrap();
                    fs::rename(&away, &a).unwrap();
                    swaps.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
            });
            let begun = std::time::Instant::now();
            for number in 0.. {
                let both = restored > 0 && refused > 0;
                if number >= 2000 && (both || begun.elapsed().as_secs() > 30) {
                    break;
                }
                // Without the open folders every look-up goes all the way.
                exporter.tree().forget(b"a");
                exporter.tree().forget(b"a/b");
                let path = format!("a/b/{number}");
                let outcomes = [
                    put(&exporter, &path, "x"),
                    special(&exporter, &format!("{path}l"), &link_to(b"/etc")),
                    folder(&exporter, format!("{path}d")),
                    hard_link(&exporter, &format!("{path}h"), &path),
                ];
                for outcome in outcomes {
                    match outcome {
                        Ok(_) => restored += 1,
                        Err(error) => {
                            assert!(
                                matches!(error.kind, ErrorKind::Exists | ErrorKind::NotFound),
                                "{error:?}"
                            );
                            refused += 1;
                        }
                    }
                }
                let item = Item { path: &"a/b".into(), entry: &entry(Mode::dir(0o700)), xattrs: &[] };
                drop(exporter.finish_folder(&item));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let outside: Vec<_> = fs::read_dir(target.outside.join("b")).unwrap().collect();
        assert_eq!(outside.len(), 1, "something was written outside");
        assert_ne!(fs::metadata(target.outside.join("b")).unwrap().mtime(), 1_600_000_000);
        assert!(restored > 0 && refused > 0 && swaps.into_inner() > 0, "{restored} {refused}");
    }
}

#[test]
fn existing_things_are_replaced_kept_or_refused() {
    let target = Target::new();
    put(&target.exporter(), "file", "old").unwrap();
    fs::create_dir(target.root.join("folder")).unwrap();
    fs::write(target.root.join("folder/inside"), "").unwrap();
    symlink("file", target.root.join("link")).unwrap();
    let with = |existing| FsExporter::builder(&target.root).existing(existing).build().unwrap();
    let skip = with(Existing::Skip);
    for path in ["file", "folder", "link"] {
        assert_eq!(put(&skip, path, "new").unwrap(), Outcome::Skipped);
        assert_eq!(special(&skip, path, &link_to(b"x")).unwrap(), Outcome::Skipped);
        assert_eq!(put(&with(Existing::Fail), path, "new").unwrap_err().kind, ErrorKind::Exists);
    }
    assert_eq!(folder(&skip, "folder").unwrap(), Outcome::Equal);
    assert_eq!(folder(&skip, "file").unwrap(), Outcome::Skipped);
    assert_eq!(folder(&with(Existing::Fail), "link").unwrap_err().kind, ErrorKind::Exists);
    let before = fs::metadata(target.root.join("folder")).unwrap().mtime();
    let item = Item { path: &"folder".into(), entry: &entry(Mode::dir(0o700)), xattrs: &[] };
    assert_eq!(skip.finish_folder(&item).unwrap(), Outcome::Skipped);
    assert_eq!(fs::metadata(target.root.join("folder")).unwrap().mtime(), before);
    assert_eq!(put(&skip, "fresh", "new").unwrap(), Outcome::Restored);
    assert_eq!(target.read("file"), b"old");

    let replace = with(Existing::Replace);
    assert_eq!(put(&replace, "folder", "new").unwrap_err().kind, ErrorKind::Exists);
    assert!(special(&replace, "folder", &link_to(b"x")).is_err());
    assert_eq!(put(&replace, "link", "new").unwrap(), Outcome::Restored);
    assert_eq!(target.read("file"), b"old");
    assert_eq!(put(&replace, "file", "new").unwrap(), Outcome::Restored);
    assert_eq!(target.read("file"), b"new");
    assert_eq!(target.names(""), ["file", "folder", "fresh", "link"]);
    assert_eq!(target.names("folder"), ["inside"]);
}

#[test]
fn two_entries_with_one_name_do_not_overwrite_each_other() {
    let target = Target::new();
    let exporter = target.exporter();
    put(&exporter, "one", "first").unwrap();
    let error = put(&exporter, "one", "second").unwrap_err();
    assert!(error.to_string().contains("another entry"), "{error}");
    assert!(special(&exporter, "one", &link_to(b"x")).is_err());
    assert!(folder(&exporter, "one").is_err());
    // What a file system that ignores case shows: one file under both names.
    fs::hard_link(target.root.join("one"), target.root.join("ONE")).unwrap();
    assert_eq!(put(&exporter, "ONE", "second").unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(target.read("one"), b"first");
    assert_eq!(target.names(""), ["ONE", "one"]);
    // A folder may be named twice; by two names only if that is said.
    assert_eq!(folder(&exporter, "f").unwrap(), Outcome::Restored);
    assert_eq!(folder(&exporter, "f").unwrap(), Outcome::Equal);
    let key = exporter.tree().open_folder(b"f").unwrap();
    fs::rename(target.root.join("f"), target.root.join("F")).unwrap();
    drop(key);
    assert!(matches!(folder(&exporter, "F").unwrap(), Outcome::Partly(_)));
    // Another restore may replace what this one made.
    put(&target.exporter(), "one", "third").unwrap();
    assert_eq!(target.read("one"), b"third");
}

#[test]
fn of_threads_that_want_one_name_one_gets_it() {
    let target = Target::new();
    let exporter = target.exporter();
    let wins = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (exporter, wins) = (&exporter, &wins);
            scope.spawn(move || {
                for number in 0..50 {
                    match put(exporter, format!("{number}"), &format!("{thread}")) {
                        Ok(_) => drop(wins.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => assert_eq!(error.kind, ErrorKind::Exists),
                    }
                }
            });
        }
    });
    assert_eq!(wins.into_inner(), 50);
    assert_eq!(target.names("").len(), 50);
}

#[test]
fn a_failed_file_leaves_nothing() {
    #[derive(Debug)]
    struct Broken(u64);
    impl ContentSource for Broken {
        fn size(&self) -> u64 {
            self.0
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            buffer.fill(1);
            if offset + buffer.len() as u64 == self.0 {
                return Err(Error::new(ErrorKind::Transport, "read", "far away"));
            }
            Ok(())
        }
        fn boundaries(&self) -> Vec<u64> {
            vec![0]
        }
    }
    let target = Target::new();
    let exporter = target.exporter();
    put(&exporter, "kept", "old").unwrap();
    for size in [1, 2 << 20, 30 << 20] {
        for path in ["fresh", "kept"] {
            let entry = entry(Mode::regular(0o644));
            let item = Item { path: &path.into(), entry: &entry, xattrs: &[] };
            assert_eq!(exporter.file(&item, &Broken(size)).unwrap_err().kind, ErrorKind::Transport);
        }
    }
    assert_eq!(target.names(""), ["kept"]);
    assert_eq!(target.read("kept"), b"old");
    assert_eq!(put(&exporter, "nowhere/x", "").unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn hard_links_replace_others_and_spare_themselves() {
    let target = Target::new();
    let exporter = target.exporter();
    put(&exporter, "first", "content").unwrap();
    fs::write(target.root.join("other"), "other").unwrap();
    assert_eq!(hard_link(&exporter, "second", "first").unwrap(), Outcome::Restored);
    assert_eq!(hard_link(&exporter, "second", "first").unwrap(), Outcome::Equal);
    assert_eq!(hard_link(&exporter, "other", "first").unwrap(), Outcome::Restored);
    assert_eq!(fs::metadata(target.root.join("first")).unwrap().nlink(), 3);
    put(&exporter, "last", "content").unwrap();
    assert_eq!(hard_link(&exporter, "last", "first").unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(hard_link(&exporter, "x", "missing").unwrap_err().kind, ErrorKind::NotFound);
    let skip = FsExporter::builder(&target.root).existing(Existing::Skip).build().unwrap();
    assert_eq!(hard_link(&skip, "last", "first").unwrap(), Outcome::Skipped);
    assert_eq!(target.names(""), ["first", "last", "other", "second"]);
}

#[test]
fn what_needs_rights_is_left_out_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("x")).unwrap();
    let me = rustix::process::geteuid();
    let plain = metadata::Rights::without_root(me, false);
    let mut info = entry(Mode(0o755).with(Mode::SETUID).with(Mode::SETGID)).info;
    let mode = || file.metadata().unwrap().permissions().mode() & 0o7777;
    let apply = |rights: metadata::Rights, info: &FileInfo, xattrs: &[Xattr]| {
        rights.apply(metadata::open(&file), info, xattrs, &[], &mut Vec::new())
    };
    assert_eq!(apply(plain, &info, &[]), ["set-id bits"]);
    assert_eq!(mode(), 0o755);
    info.uid += 1;
    assert_eq!(apply(plain, &info, &[]), ["owner", "set-id bits"]);
    info.uid = 1 << 40;
    assert_eq!(apply(plain, &info, &[]), ["owner", "set-id bits"]);
    // Neither capabilities without the owner, nor what steers the kernel, ever.
    let xattr = |name: &str| Xattr { name: name.into(), value: b"x".to_vec() };
    let xattrs = [xattr("security.capability"), xattr("trusted.overlay.opaque"), xattr("user.fine")];
    let missing = apply(plain, &info, &xattrs);
    assert!(missing.contains(&"extended attribute security.capability".to_owned()), "{missing:?}");
    assert!(missing.contains(&"extended attribute trusted.overlay.opaque".to_owned()), "{missing:?}");
    assert!(!missing.iter().any(|what| what.contains("user.fine")), "{missing:?}");
    info.mode = Mode(0o400);
    let skipping = metadata::Rights::without_root(me, true);
    assert_eq!(apply(skipping, &info, &xattrs), Vec::<String>::new());
    assert_eq!(mode(), 0o755);
    assert_eq!(file.metadata().unwrap().mtime(), 1_600_000_000);
    // No time is no time to set.
    info.modified = Timestamp::ZERO;
    apply(skipping, &info, &[]);
    assert_eq!(file.metadata().unwrap().mtime(), 1_600_000_000);
}

#[test]
fn devices_and_sockets() {
    let target = Target::new();
    let mut device = entry(Mode(0o640).with(Mode::DEVICE).with(Mode::CHAR_DEVICE));
    let unsupported = |exporter: &FsExporter, entry: &Entry| {
        matches!(special(exporter, "x", entry).unwrap(), Outcome::Unsupported(_))
    };
    assert!(unsupported(&target.exporter(), &device));
    assert!(unsupported(&target.exporter(), &entry(Mode::SOCKET)));
    assert!(unsupported(&target.exporter(), &entry(Mode::IRREGULAR)));
    assert!(unsupported(&target.exporter(), &link_to(b"")));
    let willing = FsExporter::builder(&target.root).devices(true).build().unwrap();
    assert!(unsupported(&willing, &device));
    let number = rustix::fs::makedev(1, 3);
    device.metadata.push(Metadata { key: "unix.rdev".into(), value: number.to_le_bytes().to_vec() });
    assert!(unsupported(&target.exporter(), &device));
    assert_eq!(target.names(""), Vec::<String>::new());
    match special(&willing, "null", &device) {
        Ok(Outcome::Unsupported(_)) => assert!(!is_root()),
        // A container may keep even its root from making devices.
        Err(error) => assert_eq!(error.kind, ErrorKind::Denied),
        other => {
            assert_eq!(other.unwrap(), Outcome::Restored);
            let made = fs::symlink_metadata(target.root.join("null")).unwrap();
            assert!(made.file_type().is_char_device());
            assert_eq!((made.rdev(), made.mode() & 0o7777), (number, 0o640));
            assert_eq!(made.mtime(), 1_600_000_000);
        }
    }
}

#[test]
fn the_metadata_of_objects_goes_to_attributes_or_to_the_sidecar() {
    let target = Target::new();
    let exporter = target.exporter();
    let mut object = entry(Mode::regular(0o644));
    let metadata = |key: &str, value: Vec<u8>| Metadata { key: key.into(), value };
    object.metadata = vec![
        metadata("s3.key", b"raw\xff".to_vec()),
        metadata("s3.huge", vec![b'h'; 100_000]),
        metadata("unix.rdev", vec![0; 8]),
    ];
    assert_eq!(put_entry(&exporter, "object", &object, "x").unwrap(), Outcome::Restored);
    let (_, records) = scan(&target.root.canonicalize().unwrap());
    let record = records.iter().find(|record| record.path.ends_with(b"/object")).unwrap();
    let read: Vec<&str> = record.metadata.iter().map(|item| item.key.as_str().unwrap()).collect();
    assert_eq!(read, ["s3.huge", "s3.key"], "both are read back");
    assert!(record.metadata[0] == object.metadata[1] && record.metadata[1] == object.metadata[0]);
    assert!(
        records.iter().all(|record| !record.path.ends_with(b".jsonl")),
        "the sidecar is no file of its own"
    );
    let sidecar = fs::read_to_string(target.root.join(".plakar-s3-metadata.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(&sidecar).unwrap();
    assert_eq!(line["path"], "object");
    assert_eq!(line["metadata"][0]["key"], "s3.huge");
    assert_eq!(line["metadata"].as_array().unwrap().len(), 1);
}

#[test]
fn the_roots_own_metadata_is_set_only_if_it_was_nobodys() {
    let target = Target::new();
    let finish = |exporter: &FsExporter| {
        let item = Item { path: &"".into(), entry: &entry(Mode::dir(0o711)), xattrs: &[] };
        exporter.folder(&item).unwrap();
        exporter.finish_folder(&item).unwrap()
    };
    let mode = || fs::metadata(&target.root).unwrap().permissions().mode() & 0o777;
    assert_eq!(finish(&target.exporter()), Outcome::Restored);
    assert_eq!(mode(), 0o711);
    fs::set_permissions(&target.root, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(target.root.join("mine"), "").unwrap();
    assert_eq!(finish(&target.exporter()), Outcome::Skipped);
    assert_eq!(mode(), 0o755);
    let file = FsExporter::builder(target.root.join("mine")).build();
    assert!(file.is_err());
}

#[test]
fn permissions_can_be_left_to_the_defaults() {
    let target = Target::new();
    let exporter = FsExporter::builder(&target.root).skip_permissions(true).build().unwrap();
    fs::write(target.root.join("reference"), "").unwrap();
    let default = fs::metadata(target.root.join("reference")).unwrap().mode();
    let mut foreign = entry(Mode(0o4701));
    foreign.info.uid = 4321;
    assert_eq!(put_entry(&exporter, "x", &foreign, "x").unwrap(), Outcome::Restored);
    let made = fs::metadata(target.root.join("x")).unwrap();
    assert_eq!((made.mode(), made.uid()), (default, rustix::process::geteuid().as_raw()));
    assert_eq!((made.mtime(), made.mtime_nsec()), (1_600_000_000, 987_654_321));
}

#[test]
fn a_tree_deeper_than_any_path_is_restored() {
    let target = Target::new();
    let exporter = target.exporter();
    let mut path = String::new();
    let name = "d".repeat(100);
    for _ in 0..60 {
        path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        folder(&exporter, &path).unwrap();
    }
    assert!(path.len() > 4096);
    // Nothing is open any more: the way is found again.
    (0..60).for_each(|depth| exporter.tree().forget(&path.as_bytes()[..100 + depth * 101]));
    assert_eq!(put(&exporter, format!("{path}/file"), "deep").unwrap(), Outcome::Restored);
    let item = Item { path: &path.as_str().into(), entry: &entry(Mode::dir(0o700)), xattrs: &[] };
    assert_eq!(exporter.finish_folder(&item).unwrap(), Outcome::Restored);
    assert!(std::process::Command::new("rm").arg("-rf").arg(&target.root).status().unwrap().success());
}
