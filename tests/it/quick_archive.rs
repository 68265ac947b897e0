//! What it takes to look into an archive that is far away, counted in requests and bytes.

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek as _, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use plakar::base::{Cancel, Id, Timestamp};
use plakar::connector::{
    ArchiveSink, Change, Content, ContentInfo, Importer, Record, Result, SourceInfo, Storage, Work,
};
use plakar::connectors::http::{HttpArchive, Patience};
use plakar::connectors::ptar::PtarStore;
use plakar::format::blob::BlobType;
use plakar::format::entry::{Entry, FileInfo, Mode};
use plakar::format::quick;
use plakar::snapshot::vfs::read::Vfs;
use plakar::snapshot::{BackupOptions, CheckOptions, Tally, backup_into, check, list};
use plakar::store::blob::Lane;
use plakar::store::{ArchiveKind, ArchiveWriter, CreateOptions, Profile, Repository, Session as _};

use crate::cli::User;
use crate::engine::{PASSPHRASE, assert_clean, kinds, reopen};
use crate::http_archive::{Habits, Web};

/// Folders of so many files each.
#[derive(Debug)]
struct Many {
    folders: usize,
    files: usize,
}

impl Many {
    fn content(path: &[u8]) -> Vec<u8> {
        [b"content of ", path].concat()
    }
}

struct Bytes(Cursor<Vec<u8>>);

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Content for Bytes {
    fn size_hint(&self) -> Option<u64> {
        Some(self.0.get_ref().len() as u64)
    }

    fn finish(self: Box<Self>) -> Result<ContentInfo> {
        Ok(ContentInfo::default())
    }
}

impl Importer for Many {
    fn source(&self) -> SourceInfo {
        SourceInfo { kind: "fs".into(), origin: "host".into(), root: "/srv/data".into() }
    }

    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        let mut each = |path: String, mode: Mode| {
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            let size = if mode.is_dir() { 0 } else { Self::content(path.as_bytes()).len() as i64 };
            let modified = Timestamp { secs: 1_700_000_000, nanos: 0 };
            let info = FileInfo { size, modified, links: 1, ..FileInfo::new(name.as_str(), mode) };
            emit(Record {
                path: path.as_str().into(),
                info: Ok(info),
                symlink_target: None,
                metadata: Vec::new(),
                locator: Vec::new(),
            })
        };
        let _ = each("/srv/data".into(), Mode::dir(0o755));
        for folder in 0..self.folders {
            let _ = each(format!("/srv/data/folder {folder:05}"), Mode::dir(0o755));
            for file in 0..self.files {
                let _ = each(
                    format!("/srv/data/folder {folder:05}/a file {file:05}.txt"),
                    Mode::from_unix(0o100_644),
                );
            }
        }
        Ok(())
    }

    fn compare(&self, _: &Record, _: &Entry, _: Timestamp) -> Change {
        Change::Content
    }

    fn open(&self, record: &Record) -> Result<Box<dyn Content>> {
        Ok(Box::new(Bytes(Cursor::new(Self::content(&record.path)))))
    }

    fn work(&self) -> Work {
        Work::Local
    }
}

/// A file that keeps zeros as holes.
#[derive(Debug)]
struct Sparse(File);

static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(ZEROS.len())];
        if bytes == &ZEROS[..bytes.len()] {
            self.0.seek(SeekFrom::Current(bytes.len() as i64))?;
        } else {
            self.0.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ArchiveSink for Sparse {
    fn commit(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Writes an archive of many files behind `blocks` blobs of 64 MiB that nothing refers to.
fn write(path: &Path, options: &CreateOptions, blocks: usize, many: &Many, snapshots: usize) {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    let folder = path.parent().unwrap();
    let archive = ArchiveWriter::create(ArchiveKind::New(options), Box::new(Sparse(file)), folder).unwrap();
    for block in 0..blocks {
        let mut id = [0xee; 32];
        id[..8].copy_from_slice(&(block as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let mut encode = |out: &mut Vec<u8>| {
            *out = vec![0; 64 << 20];
            Ok(64 << 20)
        };
        archive.put_encoded(BlobType::CHUNK, Id(id), Lane::Data, &mut encode).unwrap();
    }
    for _ in 0..snapshots {
        let done = backup_into(&archive, many, &BackupOptions::default(), &Tally::default()).unwrap();
        assert_eq!(done.error_count, 0);
    }
    archive.commit().unwrap();
}

fn open(web: &Web) -> Arc<Repository> {
    let archive: Arc<dyn Storage> =
        Arc::new(HttpArchive::open(&web.url(), Patience::default(), Cancel::new()).unwrap());
    reopen(archive)
}

/// What was sent since the last look: requests, those for the beginning with CONFIG apart, and bytes.
fn cost(web: &Web, what: &str) -> (usize, usize) {
    let requests = web.requests();
    let others = requests.iter().filter(|request| !request.starts_with("GET bytes=0-")).count();
    let sent = web.sent();
    println!("{what}: {others} requests of {sent} bytes: {requests:?}");
    (others, sent)
}

/// Lists the first folder; returns how many children it has.
fn first_folder(repository: &Repository) -> usize {
    let (snapshots, failed) = list(repository);
    assert!(failed.is_empty());
    let vfs = Vfs::open(repository, snapshots[0].header.source().unwrap()).unwrap();
    let root = vfs.child(b"/srv/data").unwrap().unwrap();
    assert!(root.is_dir());
    vfs.children(b"/srv/data").unwrap().map(Result::unwrap).count()
}

/// Reads the first byte of a file.
fn first_byte(repository: &Repository, path: &str) -> u8 {
    let (snapshots, _) = list(repository);
    let vfs = Vfs::open(repository, snapshots[0].header.source().unwrap()).unwrap();
    let entry = vfs.entry(path.as_bytes()).unwrap().unwrap();
    let mut byte = [0];
    vfs.open_object(&entry.object).unwrap().read_exact(&mut byte).unwrap();
    byte[0]
}

/// Reads the last bytes of a file.
fn file_end(path: &Path, bytes: &mut [u8]) {
    let mut file = File::open(path).unwrap();
    file.seek(SeekFrom::End(-(bytes.len() as i64))).unwrap();
    file.read_exact(bytes).unwrap();
}

#[test]
fn a_large_archive_far_away_opens_in_few_requests() {
    let folder = crate::cli::memory_dir();
    let many = Many { folders: 1000, files: 100 };
    let path = folder.path().join("large.ptar");
    write(&path, &kinds()[0].1, 160, &many, 1);
    let file = File::open(&path).unwrap();
    let total = file.metadata().unwrap().len();
    assert!(total > 10_000_000_000, "{total}");
    let web = Web::of_file(file);

    let mut trailer = [0; 48];
    file_end(&path, &mut trailer);
    let state = i64::from_le_bytes(trailer[40..].try_into().unwrap());
    println!("{total} bytes, of which the state section has {state}");

    // One sitting: the list of snapshots, the first folder, the first byte of a file.
    let far = open(&web);
    assert_eq!(list(&far).0.len(), 1);
    let (requests, listed) = cost(&web, "snapshots");
    assert!(requests <= 2 && listed <= 256 << 10, "{requests} {listed}");
    assert_eq!(first_folder(&far), 1000);
    let (requests, folder_bytes) = cost(&web, "first folder");
    assert!(requests <= 3, "{requests}");
    assert_eq!(first_byte(&far, "/srv/data/folder 00617/a file 00042.txt"), b'c');
    let (requests, file_bytes) = cost(&web, "first byte");
    assert!(requests <= 4, "{requests}");
    assert!(listed + folder_bytes + file_bytes <= 4 << 20, "{}", listed + folder_bytes + file_bytes);

    // A file at once, as a process of its own would: no more than the list and four.
    let far = open(&web);
    assert_eq!(first_byte(&far, "/srv/data/folder 00007/a file 00099.txt"), b'c');
    let (requests, sent) = cost(&web, "a file at once");
    assert!(requests <= 2 + 4 && sent <= 4 << 20, "{requests} {sent}");

    // What is not there is not looked for in vain.
    let (snapshots, _) = list(&far);
    let vfs = Vfs::open(far.as_ref(), snapshots[0].header.source().unwrap()).unwrap();
    assert!(vfs.entry(b"/srv/data/none").unwrap().is_none());
}

/// Returns the footer of an archive's quick index, and where in the file that begins.
fn footer(bytes: &[u8]) -> Option<(quick::Footer, usize)> {
    // The table at the end of the file, and the MAC at the end of the state.
    let at = bytes.len() - 48 - 32 - quick::FOOTER_LEN;
    quick::Footer::decode(bytes[at..].first_chunk().unwrap()).map(|footer| (footer, at))
}

const SMALL: Many = Many { folders: 3, files: 40 };

#[test]
fn every_kind_of_archive_is_whole_with_and_without_a_quick_index() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in kinds() {
        let path = folder.path().join(format!("{name}.ptar"));
        write(&path, &options, 0, &SMALL, 2);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(footer(&bytes).is_some(), options.profile == Profile::Native, "{name}");
        let opened = reopen(Arc::new(PtarStore::open(&path, true).unwrap()));
        assert_eq!(list(&opened).0.len(), 2, "{name}");
        assert_eq!(first_folder(&opened), 3);
        assert_eq!(first_byte(&opened, "/srv/data/folder 00002/a file 00039.txt"), b'c');
        assert_clean(&opened);
        // Far away, opened through the index first, then through the state.
        let far = open(&Web::new(bytes, Habits::default()));
        assert_eq!(first_folder(&far), 3);
        assert_clean(&far);
        assert_eq!(first_folder(&far), 3);
    }
    // Without compression there is nothing that every reader would pass over.
    let plain = CreateOptions { compression: Some(plakar::codec::Compression::None), ..kinds()[1].1.clone() };
    let path = folder.path().join("none.ptar");
    write(&path, &plain, 0, &SMALL, 1);
    assert!(footer(&fs::read(&path).unwrap()).is_none());
    assert_clean(&reopen(Arc::new(PtarStore::open(&path, true).unwrap())));
}

#[test]
fn a_quick_index_is_believed_only_as_far_as_it_verifies() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in &kinds()[..2] {
        let path = folder.path().join(format!("{name}.ptar"));
        write(&path, options, 0, &SMALL, 1);
        let whole = fs::read(&path).unwrap();
        let (parts, at) = footer(&whole).unwrap();
        let (root, copies) = (parts.root as usize, parts.copies as usize);
        let spoil = |offset: usize| {
            let mut bytes = whole.clone();
            bytes[offset] ^= 0x40;
            fs::write(&path, bytes).unwrap();
            PtarStore::open(&path, true).unwrap()
        };
        let file = "/srv/data/folder 00001/a file 00007.txt";
        // In the root or the footer: the state is read, and found damaged.
        for offset in [at, at + 30, at - 1, at - root] {
            let result = crate::interop::try_open(Arc::new(spoil(offset)), PASSPHRASE);
            assert!(result.is_err(), "{name} {offset}");
        }
        // In the copies or the places: snapshots are listed; what leads on is not there.
        for offset in [at - root - 1, at - root - copies, at - root - copies - 1] {
            let opened = reopen(Arc::new(spoil(offset)));
            let (snapshots, _) = list(&opened);
            let error = Vfs::open(opened.as_ref(), snapshots[0].header.source().unwrap()).unwrap_err();
            assert!(error.is_damage(), "{name} {offset}: {error}");
        }
        // In the state itself: everything can still be read, and a check says what is wrong.
        let state = usize::try_from(parts.total()).unwrap();
        let opened = reopen(Arc::new(spoil(at + quick::FOOTER_LEN - state - 10)));
        assert_eq!((first_folder(&opened), first_byte(&opened, file)), (3, b'c'), "{name}");
        let checked = check(&opened, None, &CheckOptions::default(), &Tally::default());
        assert!(checked.is_err_and(|error| error.is_damage()), "{name}");
    }
}

#[test]
fn archives_of_upstream_cost_their_state() {
    let folder = tempfile::tempdir().unwrap();
    let many = Many { folders: 20, files: 100 };
    for (name, options) in &kinds()[2..] {
        let path = folder.path().join(format!("{name}.ptar"));
        write(&path, options, 0, &many, 1);
        let web = Web::new(fs::read(&path).unwrap(), Habits::default());
        let far = open(&web);
        assert_eq!(list(&far).0.len(), 1);
        let (requests, listed) = cost(&web, &format!("{name}: snapshots"));
        // The end, the state in pieces of 4 MiB, the header.
        assert!(requests <= 3 && listed < 1 << 20, "{requests} {listed}");
        assert_eq!(first_folder(&far), 20);
        let (requests, _) = cost(&web, &format!("{name}: first folder"));
        assert!(requests <= 8, "{requests}");
        assert_eq!(first_byte(&far, "/srv/data/folder 00007/a file 00099.txt"), b'c');
        let (requests, _) = cost(&web, &format!("{name}: first byte"));
        assert!(requests <= 8, "{requests}");
    }
}

#[test]
fn the_command_line_reads_an_archive_on_a_web_server() {
    let mut user = User::new();
    user.set("PLAKAR_PASSPHRASE", "correct horse battery staple");
    let tree = user.home().join("tree/sub");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("hello.txt"), "hello\n").unwrap();
    user.ok("ptar -o x.ptar tree");
    let web = Web::of_file(File::open(user.home().join("x.ptar")).unwrap());
    let url = web.url();
    for at in [url.clone(), format!("ptar+{url}")] {
        assert!(user.ok(&format!("at {at} ls")).contains("tree"));
        assert!(user.ok(&format!("at {at} ls -recursive latest")).contains("sub/hello.txt"));
        assert_eq!(user.ok(&format!("at {at} cat latest:sub/hello.txt")), "hello\n");
        user.ok(&format!("at {at} check"));
        let to = user.home().join("out");
        user.ok(&format!("at {at} restore -to {}", to.display()));
        assert_eq!(fs::read_to_string(to.join("sub/hello.txt")).unwrap(), "hello\n");
        fs::remove_dir_all(to).unwrap();
    }
    assert!(web.requests().iter().all(|request| request.starts_with("GET bytes=")), "there is no HEAD");
    let ran = user.run(&format!("at {} ls", url.replace("127.0.0.1", "127.0.0.1:1/none")));
    assert_ne!(ran.code, 0);
}
