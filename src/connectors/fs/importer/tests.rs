use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::*;
use crate::base::{Id, Timestamp};
use crate::connector::{Change, ErrorKind, Importer, Metadata, Record, Xattr};
use crate::format::entry::{Entry, Mode};

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}

fn scan(importer: &FsImporter) -> Vec<Record> {
    let mut records = Vec::new();
    importer
        .scan(&mut |record| {
            records.push(record);
            ControlFlow::Continue(())
        })
        .unwrap();
    records
}

/// Returns the paths of records below a folder, relative to it; errors are marked.
fn below(dir: &Path, records: &[Record]) -> Vec<String> {
    let prefix = format!("{}/", dir.display());
    let mark = |record: &Record| if record.info.is_err() { "!" } else { "" };
    let text = |record: &Record| record.path.escape_ascii().to_string();
    records.iter().filter_map(|r| Some(format!("{}{}", text(r).strip_prefix(&prefix)?, mark(r)))).collect()
}

fn find<'a>(records: &'a [Record], path: &Path) -> &'a Record {
    records.iter().find(|record| record.path.as_bytes() == path.as_os_str().as_bytes()).unwrap()
}

fn entry_of(record: &Record) -> Entry {
    let info = record.info.as_ref().unwrap().clone();
    let mut entry = Entry::new("/", info);
    entry.symlink_target = record.symlink_target.clone().unwrap_or_default();
    entry.metadata = record.metadata.clone();
    if entry.info.mode.is_regular() {
        entry.object = Id([1; 32]);
    }
    entry
}

fn open_error(importer: &FsImporter, record: &Record) -> ErrorKind {
    importer.open(record).err().unwrap().kind
}

fn read(importer: &FsImporter, record: &Record) -> Vec<u8> {
    let mut content = importer.open(record).unwrap();
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).unwrap();
    content.finish().unwrap();
    bytes
}

#[test]
fn reports_folder_by_folder_in_byte_order() {
    let (_dir, dir) = temporary();
    for folder in ["b/c", "a", "b-", "empty"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for file in ["a/1", "b/z", "b/c/deep", "b-/x", "B", "b.txt"] {
        fs::write(dir.join(file), file).unwrap();
    }
    fs::write(dir.join(OsStr::from_bytes(b"\xff\n\\")), "x").unwrap();
    let importer = FsImporter::builder().place(&dir).origin("here").build().unwrap();
    let source = importer.source();
    assert_eq!((source.kind.as_str(), source.origin.as_str()), ("fs", "here"));
    assert_eq!(source.root.as_bytes(), dir.as_os_str().as_bytes());
    let records = scan(&importer);
    let wanted =
        ["B", "a", "b", "b-", "b.txt", "empty", "\\xff\\n\\\\", "a/1", "b/c", "b/z", "b/c/deep", "b-/x"];
    assert_eq!(below(&dir, &records), wanted);
    // The root and its ancestors come first, with their own metadata.
    let depth = dir.components().count();
    assert_eq!(records[0].path, "/");
    assert_eq!(records[0].info.as_ref().unwrap().name, "/");
    assert_eq!(records[0].info.as_ref().unwrap().inode, fs::metadata("/").unwrap().ino());
    assert_eq!(records[depth - 1].path.as_bytes(), dir.as_os_str().as_bytes());
    assert_eq!(records.len(), depth + wanted.len());
    assert_eq!(read(&importer, find(&records, &dir.join("b/c/deep"))), b"b/c/deep");
    let name = find(&records, &dir.join("b/c/deep")).info.as_ref().unwrap().name.clone();
    assert_eq!(name, "deep");
}

#[test]
fn metadata_is_that_of_lstat() {
    let (_dir, dir) = temporary();
    let file = dir.join("file");
    fs::write(&file, "12345").unwrap();
    fs::hard_link(&file, dir.join("other")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o4750)).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    symlink(OsStr::from_bytes(b"no/where\xfe"), dir.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    let records = scan(&FsImporter::builder().place(&dir).build().unwrap());
    let info = find(&records, &file).info.as_ref().unwrap();
    let stat = fs::metadata(&file).unwrap();
    assert_eq!((info.size, info.links), (5, 2));
    assert_eq!(info.mode, Mode(0o750).with(Mode::SETUID));
    assert_eq!(info.modified, Timestamp { secs: 1_700_000_000, nanos: 123_456_789 });
    assert_eq!((info.device, info.inode), (stat.dev(), stat.ino()));
    assert_eq!((info.uid, info.gid), (u64::from(stat.uid()), u64::from(stat.gid())));
    let me = uzers::get_user_by_uid(stat.uid()).unwrap();
    assert_eq!(info.user.as_bytes(), me.name().as_bytes());
    let link = find(&records, &dir.join("link"));
    assert_eq!(link.symlink_target.as_ref().unwrap().as_bytes(), b"no/where\xfe");
    assert!(link.info.as_ref().unwrap().mode.is_symlink());
    assert!(find(&records, &dir.join("pipe")).info.as_ref().unwrap().mode.is_pipe());
    assert!(find(&records, &dir.join("socket")).info.as_ref().unwrap().mode.is_socket());
}

#[test]
fn places_reached_through_links_keep_the_name_they_were_given() {
    let (_dir, dir) = temporary();
    fs::create_dir_all(dir.join("real/sub")).unwrap();
    fs::write(dir.join("real/sub/file"), "x").unwrap();
    fs::write(dir.join("real/other"), "y").unwrap();
    symlink("real", dir.join("link")).unwrap();
    symlink("real/other", dir.join("file")).unwrap();
    let records = scan(&FsImporter::builder().place(dir.join("link")).build().unwrap());
    assert_eq!(below(&dir, &records), ["link", "link/other", "link/sub", "link/sub/file"]);
    assert!(find(&records, &dir.join("link")).info.as_ref().unwrap().mode.is_dir());
    let importer = FsImporter::builder().place(dir.join("file")).build().unwrap();
    assert_eq!(importer.source().root.as_bytes(), dir.as_os_str().as_bytes());
    let records = scan(&importer);
    assert_eq!(below(&dir, &records), ["file"]);
    assert_eq!(read(&importer, find(&records, &dir.join("file"))), b"y");
    // Below the place, links are links.
    let importer = FsImporter::builder().place(&dir).build().unwrap();
    let records = scan(&importer);
    assert!(find(&records, &dir.join("link")).info.as_ref().unwrap().mode.is_symlink());
    assert_eq!(open_error(&importer, find(&records, &dir.join("file"))), ErrorKind::Changed);
}

#[test]
fn several_places_share_their_common_folder() {
    let (_dir, dir) = temporary();
    for folder in ["a/x", "b", "c"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
        fs::write(dir.join(folder).join("f"), "").unwrap();
    }
    fs::write(dir.join("single"), "").unwrap();
    let places = ["b", "single", "a/x"].map(|place| dir.join(place));
    let builder = places.iter().fold(FsImporter::builder(), FsImporterBuilder::place);
    let importer = builder.build().unwrap();
    assert_eq!(importer.source().root.as_bytes(), dir.as_os_str().as_bytes());
    assert_eq!(below(&dir, &scan(&importer)), ["a", "b", "single", "a/x", "a/x/f", "b/f"]);
}

#[test]
fn patterns_are_relative_to_the_root() {
    let (_dir, dir) = temporary();
    for folder in ["keep/cache", "cache/deep", "sub/top"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
        fs::write(dir.join(folder).join("a.log"), "").unwrap();
        fs::write(dir.join(folder).join("b.txt"), "").unwrap();
    }
    fs::create_dir(dir.join("top")).unwrap();
    let ignore_file = dir.join("ignore");
    fs::write(&ignore_file, "# comment\n*.log\n/ignore\n").unwrap();
    let importer = FsImporter::builder()
        .place(&dir)
        .ignore_file(&ignore_file)
        .exclude("cache/")
        .exclude("/top")
        .exclude("!keep/cache/")
        .build()
        .unwrap();
    let wanted = ["keep", "sub", "keep/cache", "keep/cache/b.txt", "sub/top", "sub/top/b.txt"];
    assert_eq!(below(&dir, &scan(&importer)), wanted);
    let bad = FsImporter::builder().place(&dir).exclude("a{").build();
    assert_eq!(bad.unwrap_err().kind, ErrorKind::Invalid);
    let missing = FsImporter::builder().place(&dir).ignore_file(dir.join("none")).build();
    assert_eq!(missing.unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn what_vanishes_is_an_error_for_its_path_only() {
    let (_dir, dir) = temporary();
    fs::create_dir_all(dir.join("a")).unwrap();
    fs::create_dir_all(dir.join("b")).unwrap();
    fs::write(dir.join("c"), "c").unwrap();
    fs::write(dir.join("d"), "d").unwrap();
    let importer = FsImporter::builder().place(&dir).build().unwrap();
    let mut records = Vec::new();
    importer
        .scan(&mut |record| {
            if record.path.ends_with(b"/a") && record.info.is_ok() {
                fs::remove_dir(dir.join("a")).unwrap();
                fs::remove_file(dir.join("c")).unwrap();
            }
            records.push(record);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(below(&dir, &records), ["a", "b", "c!", "d", "a!"]);
    let error = find(&records, &dir.join("c")).info.as_ref().unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    fs::remove_file(dir.join("d")).unwrap();
    assert_eq!(open_error(&importer, find(&records, &dir.join("d"))), ErrorKind::NotFound);
}

#[test]
fn a_receiver_may_break_off() {
    let (_dir, dir) = temporary();
    (0..10).for_each(|n| fs::write(dir.join(n.to_string()), "").unwrap());
    let importer = FsImporter::builder().place(&dir).build().unwrap();
    let mut count = 0;
    importer
        .scan(&mut |_| {
            count += 1;
            if count == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(count, 5);
}

#[test]
fn a_tree_deeper_than_any_path_is_walked_and_read() {
    let (_dir, dir) = temporary();
    let depth = 220;
    let name = "d".repeat(40);
    let mut at = rustix::fs::open(&dir, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    for level in 0..depth {
        for sibling in ["file", "z"] {
            let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            let file = File::from(rustix::fs::openat(&at, sibling, flags, mode).unwrap());
            file.write_all_at(level.to_string().as_bytes(), 0).unwrap();
            let attribute = rustix::fs::fsetxattr(&file, "user.level", b"x", rustix::fs::XattrFlags::empty());
            attribute.unwrap();
        }
        rustix::fs::mkdirat(&at, "after", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        rustix::fs::mkdirat(&at, &*name, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        rustix::fs::mkdirat(&at, "zlast", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, &*name, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
    }
    let importer = FsImporter::builder().place(&dir).build().unwrap();
    let records = scan(&importer);
    assert!(records.iter().all(|record| record.info.is_ok()));
    assert_eq!(records.len(), depth * 5 + dir.components().count());
    let deepest = records.iter().filter(|r| r.path.ends_with(b"/file")).max_by_key(|r| r.path.len()).unwrap();
    assert!(deepest.path.len() > 2 * 4096);
    assert_eq!(read(&importer, deepest), (depth - 1).to_string().as_bytes());
    let wanted = [Xattr { name: "user.level".into(), value: b"x".to_vec() }];
    assert_eq!(importer.xattrs(deepest).unwrap(), wanted);
    // The standard library cannot remove what it cannot name.
    assert!(std::process::Command::new("rm").arg("-rf").arg(dir.join(&name)).status().unwrap().success());
}

#[test]
fn a_link_that_leads_nowhere_has_attributes_of_its_own() {
    let (_dir, dir) = temporary();
    let (lost, kept, file) = (dir.join("lost"), dir.join("kept"), dir.join("file"));
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::symlink("nowhere", &lost).unwrap();
    std::os::unix::fs::symlink("file", &kept).unwrap();
    rustix::fs::setxattr(&file, "user.a", b"x", rustix::fs::XattrFlags::empty()).unwrap();
    for (place, count) in [(&lost, 0), (&kept, 1)] {
        let importer = FsImporter::builder().place(place).build().unwrap();
        let records = scan(&importer);
        let record = find(&records, place);
        assert_eq!(record.info.as_ref().unwrap().mode.is_symlink(), count == 0);
        assert_eq!(importer.xattrs(record).unwrap().len(), count, "{}", place.display());
    }
}

#[test]
fn attributes_are_sorted_and_those_of_s3_become_metadata() {
    let (_dir, dir) = temporary();
    let file = dir.join("file");
    fs::write(&file, "x").unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    let large = vec![9; 1000];
    set(&file, "user.zeta", b"");
    set(&file, "user.alpha", &large);
    set(&file, "user.s3.key", b"k\xff");
    set(&dir.join("folder"), "user.s3.key", b"folder/");
    let names = |xattrs: Vec<Xattr>| -> Vec<String> {
        xattrs.iter().map(|x| format!("{}={}", x.name.lossy(), x.value.len())).collect()
    };
    let importer = FsImporter::builder().place(&dir).build().unwrap();
    let records = scan(&importer);
    let record = find(&records, &file);
    assert_eq!(names(importer.xattrs(record).unwrap()), ["user.alpha=1000", "user.zeta=0"]);
    assert_eq!(record.metadata, [Metadata { key: "s3.key".into(), value: b"k\xff".to_vec() }]);
    let folder = find(&records, &dir.join("folder"));
    assert_eq!(folder.metadata, [Metadata { key: "s3.key".into(), value: b"folder/".to_vec() }]);
    let plain = FsImporter::builder().place(&dir).s3_metadata(false).build().unwrap();
    let records = scan(&plain);
    let record = find(&records, &file);
    let wanted = ["user.alpha=1000", "user.s3.key=2", "user.zeta=0"];
    assert_eq!(names(plain.xattrs(record).unwrap()), wanted);
    assert!(record.metadata.is_empty());
}

#[test]
fn device_numbers_are_recorded_on_request() {
    let place = || FsImporter::builder().place("/dev/null");
    let plain = scan(&place().build().unwrap());
    let record = find(&plain, Path::new("/dev/null"));
    assert!(record.metadata.is_empty() && record.info.as_ref().unwrap().mode.is_char_device());
    let extended = scan(&place().extended_metadata(true).build().unwrap());
    let value = fs::metadata("/dev/null").unwrap().rdev().to_le_bytes().to_vec();
    let wanted = [Metadata { key: "unix.rdev".into(), value }];
    assert_eq!(find(&extended, Path::new("/dev/null")).metadata, wanted);
}

#[test]
fn comparing_reads_only_what_changed() {
    let (_dir, dir) = temporary();
    let file = dir.join("file");
    fs::write(&file, "12345").unwrap();
    let old = SystemTime::now() - Duration::from_hours(1);
    let set_time = |time| File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    set_time(old);
    let future = Timestamp::from(SystemTime::now() + Duration::from_mins(1));
    let importer = || FsImporter::builder().place(&dir);
    let look = |importer: &FsImporter| {
        let records = scan(importer);
        records.into_iter().find(|record| record.path.ends_with(b"/file")).unwrap()
    };
    let first = importer().build().unwrap();
    let before = entry_of(&look(&first));
    assert_eq!(first.compare(&look(&first), &before, future), Change::Same);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(first.compare(&look(&first), &before, future), Change::MetadataOnly);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(first.compare(&look(&first), &before, future), Change::Same);

    // What was modified since the previous snapshot began is read again, whatever it looks like.
    let start = Timestamp::from(old - Duration::from_secs(5));
    assert_eq!(first.compare(&look(&first), &before, start), Change::Content);
    // So is what was written and given its old time back: the system knows.
    let start = Timestamp::from(old + Duration::from_mins(30));
    assert_eq!(first.compare(&look(&first), &before, start), Change::Content);
    let trusting = importer().ignore_ctime(true).build().unwrap();
    assert_eq!(trusting.compare(&look(&trusting), &before, start), Change::Same);

    let mut unread = before.clone();
    unread.object = Id::ZERO;
    assert_eq!(first.compare(&look(&first), &unread, future), Change::Content);
    let mut other = before.clone();
    other.info.inode += 1;
    assert_eq!(first.compare(&look(&first), &other, future), Change::Content);
    fs::write(&file, "123456").unwrap();
    set_time(old);
    assert_eq!(first.compare(&look(&first), &before, future), Change::Content);
    fs::remove_file(&file).unwrap();
    symlink("x", &file).unwrap();
    let link = look(&first);
    assert_eq!(first.compare(&link, &before, future), Change::MetadataOnly);
    let mut moved = entry_of(&link);
    assert_eq!(first.compare(&link, &moved, future), Change::Same);
    moved.symlink_target = "y".into();
    assert_eq!(first.compare(&link, &moved, future), Change::MetadataOnly);
}

#[test]
fn a_folder_that_cannot_be_listed_is_an_entry_and_an_error() {
    // A folder that not even root can list: the network of a process that ended and was not waited for.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    while !fs::read_to_string(process.join("stat")).unwrap().contains(") Z ") {
        std::thread::sleep(Duration::from_millis(1));
    }
    let importer = FsImporter::builder().place(process.join("net")).build().unwrap();
    let records = scan(&importer);
    assert_eq!(below(&process, &records), ["net", "net!"]);
    assert!(records.last().unwrap().info.as_ref().unwrap_err().to_string().starts_with("cannot list /proc/"));
    child.wait().unwrap();
}

#[test]
fn a_folder_that_was_moved_away_is_reported() {
    let (_dir, dir) = temporary();
    let deep = (0..80).fold(dir.join("top"), |path, _| path.join("d"));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir_all(dir.join("top/z/inside")).unwrap();
    let importer = FsImporter::builder().place(&dir).build().unwrap();
    let mut records = Vec::new();
    importer
        .scan(&mut |record| {
            if record.path.as_bytes() == deep.as_os_str().as_bytes() {
                fs::rename(dir.join("top/d"), dir.join("away")).unwrap();
            }
            records.push(record);
            ControlFlow::Continue(())
        })
        .unwrap();
    let last = records.last().unwrap();
    assert_eq!(last.path.as_bytes(), dir.join("top").as_os_str().as_bytes());
    assert_eq!(last.info.as_ref().unwrap_err().kind, ErrorKind::Changed);
}
