//! Archives whose destination fails once: a run that lost bytes never ends well, however short the failure was.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plakar::base::{Id, Timestamp};
use plakar::connector::{
    self, ArchiveSink, Change, Content, ContentInfo, ErrorKind, Importer, Record, Result, SourceInfo, Work,
};
use plakar::connectors::fs::FsImporter;
use plakar::connectors::memory::MemoryStore;
use plakar::format::blob::BlobType;
use plakar::format::entry::{Entry, FileInfo, Mode};
use plakar::snapshot::{
    ArchiveExport, BackupOptions, Counter, Event, Monitor, Problem, SyncOptions, Tally, backup_into,
    commit_archive, list,
};
use plakar::store::blob::{BlobSink as _, Lane};
use plakar::store::{ArchiveKind, ArchiveWriter, Error};

use crate::engine::{back_up, create, kinds, noise};

/// What a sink in memory came to.
#[derive(Debug, Default)]
struct Fate {
    failed: AtomicBool,
    committed: AtomicBool,
}

/// A sink that fails one write, the first one past so many bytes, and takes everything after it.
#[derive(Debug)]
struct FailsOnce {
    left: u64,
    fate: Arc<Fate>,
}

impl FailsOnce {
    fn new(left: u64) -> (Box<Self>, Arc<Fate>) {
        let fate = Arc::new(Fate::default());
        (Box::new(Self { left, fate: Arc::clone(&fate) }), fate)
    }
}

impl Write for FailsOnce {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 && !self.fate.failed.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = if self.left == 0 { bytes.len() } else { bytes.len().min(self.left as usize) };
        self.left = self.left.saturating_sub(taken as u64);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ArchiveSink for FailsOnce {
    fn commit(self: Box<Self>) -> Result<()> {
        self.fate.committed.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// A source of one large file, whose connection breaks when that of the sink does.
#[derive(Debug)]
struct BreaksToo {
    fate: Arc<Fate>,
    read: AtomicU64,
}

/// More than is read before the first chunk is cut.
const LARGE: usize = 24 << 20;

struct Broken {
    rest: io::Cursor<Vec<u8>>,
    fate: Arc<Fate>,
}

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(100_000);
        match self.rest.read(&mut buffer[..most])? {
            0 => {
                while !self.fate.failed.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(io::ErrorKind::ConnectionReset.into())
            }
            read => Ok(read),
        }
    }
}

impl Content for Broken {
    fn size_hint(&self) -> Option<u64> {
        Some(2 * LARGE as u64)
    }

    fn finish(self: Box<Self>) -> Result<ContentInfo> {
        Ok(ContentInfo::default())
    }
}

impl Importer for BreaksToo {
    fn source(&self) -> SourceInfo {
        SourceInfo { kind: "fs".into(), origin: "host".into(), root: "/".into() }
    }

    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        for (path, mode, size) in
            [("/", Mode::dir(0o755), 0), ("/large", Mode::from_unix(0o100_644), 2 * LARGE as i64)]
        {
            let info = FileInfo { size, ..FileInfo::new(path.trim_start_matches('/'), mode) };
            let _ = emit(Record {
                path: path.into(),
                info: Ok(info),
                symlink_target: None,
                metadata: Vec::new(),
                locator: Vec::new(),
            });
        }
        Ok(())
    }

    fn compare(&self, _: &Record, _: &Entry, _: Timestamp) -> Change {
        Change::Content
    }

    fn open(&self, _: &Record) -> Result<Box<dyn Content>> {
        self.read.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Broken { rest: io::Cursor::new(noise(LARGE)), fate: Arc::clone(&self.fate) }))
    }

    fn work(&self) -> Work {
        Work::Local
    }
}

fn is_the_sinks(error: &Error) -> bool {
    matches!(error, Error::Elsewhere(connector::Error { kind: ErrorKind::Full, .. }))
}

#[test]
fn a_failure_of_the_destination_is_told_although_the_source_fails_with_it() {
    for (name, options) in kinds().into_iter().take(2) {
        let folder = tempfile::tempdir().unwrap();
        let (sink, fate) = FailsOnce::new(4 << 20);
        let archive = ArchiveWriter::create(ArchiveKind::New(&options), sink, folder.path()).unwrap();
        let source = BreaksToo { fate: Arc::clone(&fate), read: AtomicU64::new(0) };
        let (tally, backup) = (Tally::default(), BackupOptions::default());
        let error = backup_into(&archive, &source, &backup, &tally).unwrap_err();
        assert!(is_the_sinks(&error), "{name}: {error}");
        assert_eq!(source.read.load(Ordering::SeqCst), 1, "{name}");
        assert!(archive.commit().is_err(), "{name}");
        assert!(!fate.committed.load(Ordering::SeqCst), "{name}");
    }
}

/// Puts blobs of 700 kB until one fails; returns the number of that.
fn put_until_it_fails(archive: &ArchiveWriter, contents: &[Vec<u8>], lane: Lane) -> usize {
    let failed = contents.iter().position(|content| archive.put(BlobType::CHUNK, content, lane).is_err());
    failed.expect("the sink fails")
}

fn contents() -> Vec<Vec<u8>> {
    let noise = noise(10 * 700_000);
    noise.chunks(700_000).map(<[u8]>::to_vec).collect()
}

#[test]
fn nothing_follows_a_write_that_failed() {
    let contents = contents();
    for (name, options) in kinds() {
        let folder = tempfile::tempdir().unwrap();
        let (sink, fate) = FailsOnce::new(2 << 20);
        let archive = ArchiveWriter::create(ArchiveKind::New(&options), sink, folder.path()).unwrap();
        let failed = put_until_it_fails(&archive, &contents, Lane::Data);
        // The same once more is not known: it never arrived. And nothing else is taken, wherever it goes.
        for (content, lane) in [(&contents[failed], Lane::Data), (&contents[9], Lane::Tree)] {
            let again = archive.put(BlobType::CHUNK, content, lane).unwrap_err();
            assert!(matches!(again, Error::Aborted), "{name}: {again}");
        }
        assert!(archive.commit().is_err(), "{name}");
        assert!(!fate.committed.load(Ordering::SeqCst), "{name}");
    }
}

#[test]
fn a_blob_that_cannot_be_made_ends_the_archive() {
    use plakar::store::Session as _;

    let folder = tempfile::tempdir().unwrap();
    let (sink, fate) = FailsOnce::new(u64::MAX);
    let archive = ArchiveWriter::create(ArchiveKind::New(&kinds()[0].1), sink, folder.path()).unwrap();
    let id = archive.mac(b"lost");
    let mut encode = |_: &mut Vec<u8>| Err(Error::Missing { kind: BlobType::CHUNK, id });
    let error = archive.put_encoded(BlobType::CHUNK, id, Lane::Data, &mut encode).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    // Whoever has its content now would be told that it is there.
    assert!(archive.put(BlobType::CHUNK, b"lost", Lane::Data).is_err());
    assert!(archive.commit().is_err());
    assert!(!fate.committed.load(Ordering::SeqCst));
}

/// Keeps which snapshots were told to be committed.
#[derive(Debug, Default)]
struct Told {
    tally: Tally,
    committed: Mutex<Vec<Id>>,
}

impl Monitor for Told {
    fn count(&self, counter: Counter, amount: u64) {
        self.tally.count(counter, amount);
    }

    fn problem(&self, problem: &Problem) {
        self.tally.problem(problem);
    }

    fn event(&self, event: &Event<'_>) {
        if let Event::Committed { snapshot } = event {
            self.committed.lock().unwrap().push(*snapshot);
        }
    }
}

/// A sink whose name is taken when it is to be committed.
#[derive(Debug)]
struct Taken;

impl Write for Taken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ArchiveSink for Taken {
    fn commit(self: Box<Self>) -> Result<()> {
        Err(connector::Error::new(ErrorKind::Exists, "create", "x.ptar"))
    }
}

#[test]
fn snapshots_are_committed_with_their_archive_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("file"), "content").unwrap();
    let store = create(Arc::new(MemoryStore::new()), &kinds()[0].1);
    let packed = back_up(&store, &tree).snapshot;
    let importer = FsImporter::builder().place(&tree).build().unwrap();
    let (whole, _) = FailsOnce::new(u64::MAX);
    let sinks: [(Box<dyn ArchiveSink>, bool); 2] = [(Box::new(Taken), false), (whole, true)];
    for (sink, ends_well) in sinks {
        let archive = ArchiveWriter::create(ArchiveKind::New(&kinds()[0].1), sink, folder.path()).unwrap();
        let (told, options) = (Told::default(), SyncOptions::default());
        ArchiveExport::new(&archive, &options, &told).add(&store, &list(&store).0).unwrap();
        let made = backup_into(&archive, &importer, &BackupOptions::default(), &told).unwrap().snapshot;
        assert_eq!(*told.committed.lock().unwrap(), [], "the archive is not there yet");
        assert_eq!(commit_archive(archive, &told).is_ok(), ends_well);
        let expected = if ends_well { vec![packed, made] } else { Vec::new() };
        assert_eq!(*told.committed.lock().unwrap(), expected);
    }
}
