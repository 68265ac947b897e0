//! Groups of snapshots whose headers do not tell everything: streams, as older versions and upstream named them.

use std::io::{Cursor, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use plakar::base::Timestamp;
use plakar::connector::{Change, Content, ContentInfo, Importer, Record, Result, SourceInfo, Work};
use plakar::connectors::memory::MemoryStore;
use plakar::format::entry::{Entry, FileInfo, Mode};
use plakar::snapshot::retention::GroupBy;
use plakar::snapshot::{BackupOptions, Tally, backup, list};

use crate::engine::{create, kinds};

/// A stream of some origin that holds a few things; those that end in a slash are folders.
#[derive(Debug)]
struct Stream(&'static str, &'static str, &'static [&'static str]);

struct Bytes(Cursor<&'static [u8]>);

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Content for Bytes {
    fn size_hint(&self) -> Option<u64> {
        None
    }

    fn finish(self: Box<Self>) -> Result<ContentInfo> {
        Ok(ContentInfo::default())
    }
}

impl Importer for Stream {
    fn source(&self) -> SourceInfo {
        SourceInfo { kind: self.0.into(), origin: self.1.into(), root: "/".into() }
    }

    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        for path in self.2 {
            let mode = if path.ends_with('/') { Mode::dir(0o755) } else { Mode::from_unix(0o100_600) };
            let path = path.trim_end_matches('/');
            let name = path.rsplit('/').next().unwrap_or_default();
            let modified = Timestamp::from_secs(1_700_000_000);
            let info = FileInfo { links: 1, modified, ..FileInfo::new(name, mode) };
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
        Ok(Box::new(Bytes(Cursor::new(b"a dump"))))
    }

    fn work(&self) -> Work {
        Work::Local
    }
}

/// Returns the groups of snapshots of some streams, as numbers: equal for those of one group.
fn groups(by: &GroupBy, streams: &[Stream]) -> Vec<usize> {
    let repository = create(Arc::new(MemoryStore::default()), &kinds()[1].1);
    for stream in streams {
        backup(&repository, stream, &BackupOptions::default(), &Tally::default()).unwrap();
    }
    let (found, failed) = list(&repository);
    assert!(found.len() == streams.len() && failed.is_empty());
    let keys: Vec<Vec<u8>> = found.iter().map(|info| by.key(repository.as_ref(), info)).collect();
    keys.iter().map(|key| keys.iter().position(|first| first == key).unwrap()).collect()
}

#[test]
fn a_stream_without_a_name_is_known_by_its_file() {
    let streams = [
        Stream("stdin", "host", &["/photos.sql"]),
        Stream("stdin", "host", &["/accounts.sql"]),
        Stream("stdin", "host", &["/photos.sql"]),
        Stream("stdin", "other", &["/photos.sql"]),
        Stream("stdin", "host", &["/db/photos.sql"]),
        Stream("stdin", "host:photos.sql", &["/photos.sql"]),
        Stream("stdin", "host:db/photos.sql", &["/db/photos.sql"]),
    ];
    assert_eq!(groups(&GroupBy::default(), &streams), [0, 1, 0, 3, 4, 0, 4]);
    assert_eq!(groups(&"host".parse().unwrap(), &streams), [0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(groups(&GroupBy::NONE, &streams), [0; 7]);
}

#[test]
fn an_archive_that_came_by_a_pipe_is_known_by_its_top() {
    let streams = [
        Stream("tar", "host:-", &["/photos/", "/photos/a"]),
        Stream("tar", "host:-", &["/photos/", "/photos/a", "/photos/b"]),
        Stream("tar", "host:-", &["/accounts/", "/accounts/a"]),
        Stream("tar", "host:-", &["/var/lib/mysql/", "/var/lib/mysql/a"]),
        Stream("tar", "host:-", &["/var/lib/pgsql/", "/var/lib/pgsql/a"]),
        Stream("tar", "host:-", &["/var/lib/mysql/", "/var/lib/pgsql/"]),
        Stream("tar", "host:/srv/x.tar", &["/a"]),
        Stream("tar", "host:/srv/x.tar", &["/b"]),
    ];
    assert_eq!(groups(&GroupBy::default(), &streams), [0, 0, 2, 3, 4, 5, 6, 6]);
}
