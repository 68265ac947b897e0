//! An archive as a read-only store.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::base::{At, Id, RangeFile};
use crate::connector::{Body, Error, ErrorKind, Kind, Listed, Result, Storage};
use crate::connectors::container::{self, HEAD, TRAILER};
use crate::format::ptar::{Layout, Section};

/// A `.ptar` file, opened as a store that holds one packfile and one state.
#[derive(Debug)]
pub struct PtarStore {
    path: PathBuf,
    file: RangeFile,
    modified: Option<SystemTime>,
    layout: Layout,
}

impl PtarStore {
    /// Opens an archive and checks its container: magic, version, and sections that tile the file.
    ///
    /// `mmap` allows mapping it. Fails with `NotFound`, with `Invalid` when the file is no archive, and with
    /// `Protocol` when it was cut short.
    pub fn open(path: impl Into<PathBuf>, mmap: bool) -> Result<Self> {
        let path = path.into();
        let target = path.display().to_string();
        let file = File::open(&path).at("open", &path)?;
        let metadata = file.metadata().at("read", &path)?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::Invalid, "open", target).detail("it is not a regular file"));
        }
        let total = metadata.len();
        let modified = metadata.modified().ok();
        let file = RangeFile::open(file, total, mmap).at("open", &path)?;
        if total < HEAD + TRAILER {
            let head = file.read(0, usize::try_from(total.min(8)).expect("at most 8")).at("read", &path)?;
            return Err(container::no_archive(&head, &target));
        }
        let head = file.read(0, 12).at("read", &path)?;
        let trailer = file.read(total - TRAILER, 48).at("read", &path)?;
        let layout = container::parse(&head, &trailer, total, &target)?;
        Ok(Self { path, file, modified, layout })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(
        &self,
        section: Section,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let at = container::locate(section, offset, length, &self.location())?;
        self.file.with_range(at, length, consume).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::new(ErrorKind::Changed, "read", self.location())
                .detail("the archive was cut short while it was read"),
            _ => Error::io("read", self.location(), error),
        })
    }

    fn read_all(&self, section: Section) -> Result<Vec<u8>> {
        let length = usize::try_from(section.length)
            .map_err(|_| Error::new(ErrorKind::Full, "read", self.location()))?;
        let mut out = Vec::new();
        self.read(section, 0, length, &mut |bytes| out.extend_from_slice(bytes))?;
        Ok(out)
    }
}

impl Storage for PtarStore {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn create(&self, _config: &[u8]) -> Result<()> {
        Err(container::read_only("create", &self.location()))
    }

    fn config(&self) -> Result<Vec<u8>> {
        self.read_all(self.layout.config)
    }

    fn replace_config(&self, _expected: &[u8], _new: &[u8]) -> Result<()> {
        Err(container::read_only("replace CONFIG of", &self.location()))
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        if let Some((id, size)) = container::listed(&self.layout, kind) {
            each(Listed { id, size, modified: self.modified, tag: None });
        }
        Ok(())
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        Ok(container::find(&self.layout, kind, id, &self.location())?.length)
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        self.read_all(container::find(&self.layout, kind, id, &self.location())?)
    }

    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let section = container::find(&self.layout, kind, id, &self.location())?;
        self.read(section, offset, length, consume)
    }

    fn spool(&self) -> Result<File> {
        Err(container::read_only("write to", &self.location()))
    }

    fn put(&self, _kind: Kind, _id: Id, _body: Body<'_>) -> Result<()> {
        Err(container::read_only("write to", &self.location()))
    }

    fn delete(&self, _kind: Kind, _id: Id) -> Result<()> {
        Err(container::read_only("delete from", &self.location()))
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn is_archive(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::format::ptar::{PACKFILE_ID, STATE_ID};

    fn archive() -> Vec<u8> {
        let mut bytes = b"_PLATAR_\0\0\x01\0".to_vec();
        for (value, len) in [(1_u8, 100), (2, 70_000), (3, 50)] {
            bytes.extend(std::iter::repeat_n(value, len));
        }
        for number in [12_i64, 100, 112, 70_000, 70_112, 50] {
            bytes.extend(number.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn presents_one_packfile_and_one_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ptar");
        fs::write(&path, archive()).unwrap();
        for mmap in [true, false] {
            let store = PtarStore::open(&path, mmap).unwrap();
            assert!(store.is_archive() && store.is_read_only() && !store.is_remote());
            assert_eq!(store.config().unwrap(), [1; 100]);
            assert_eq!(store.get(Kind::State, STATE_ID).unwrap(), [3; 50]);
            assert_eq!(store.get(Kind::State, Id::ZERO).unwrap_err().kind, ErrorKind::NotFound);
            assert_eq!(store.size(Kind::Packfile, Id([9; 32])).unwrap(), 70_000);
            let mut seen: Vec<u8> = Vec::new();
            store.read_range(Kind::Packfile, Id([8; 32]), 69_990, 10, &mut |b| seen.extend(b)).unwrap();
            assert_eq!(seen, [2; 10]);
            let past = store.read_range(Kind::Packfile, Id::ZERO, 69_990, 11, &mut |_| panic!());
            assert_eq!(past.unwrap_err().kind, ErrorKind::Protocol);
            for (kind, ids) in
                [(Kind::Packfile, vec![PACKFILE_ID]), (Kind::State, vec![STATE_ID]), (Kind::Lock, vec![])]
            {
                let mut listed = Vec::new();
                store.list(kind, &mut |l| listed.push(l.id)).unwrap();
                assert_eq!(listed, ids);
            }
            let put = store.put(Kind::State, Id::ZERO, Body::Bytes(b"")).unwrap_err();
            assert_eq!(put.kind, ErrorKind::ReadOnly);
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ptar");
        assert_eq!(PtarStore::open(&path, true).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(PtarStore::open(dir.path(), true).unwrap_err().kind, ErrorKind::Invalid);
        let whole = archive();
        for len in 1..whole.len() {
            if len > 70 && len < whole.len() - 60 {
                continue;
            }
            fs::write(&path, &whole[..len]).unwrap();
            let error = PtarStore::open(&path, true).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Protocol, "{len}");
            assert!(error.to_string().contains("incomplete"), "{error}");
        }
        for other in [&b""[..], b"PK\x03\x04", &vec![0; 100_000]] {
            fs::write(&path, other).unwrap();
            let error = PtarStore::open(&path, true).unwrap_err();
            assert!(error.to_string().contains("not a .ptar"), "{error}");
        }
    }

    #[test]
    fn an_archive_cut_short_under_the_reader_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ptar");
        fs::write(&path, archive()).unwrap();
        let store = PtarStore::open(&path, true).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(5000).unwrap();
        assert_eq!(store.get(Kind::State, STATE_ID).unwrap_err().kind, ErrorKind::Changed);
    }
}
