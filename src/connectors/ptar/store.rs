//! An archive as a read-only store.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::{At, RangeFile};
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::archive::{Archive, ArchiveBytes};
use crate::connectors::container::{self, HEAD, TRAILER};

/// A `.ptar` file, opened as a store that holds one packfile and one state.
pub type PtarStore = Archive<LocalFile>;

/// The file of an archive on a local disk, mapped where that may be.
#[derive(Debug)]
pub struct LocalFile {
    path: PathBuf,
    file: RangeFile,
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
        let file = LocalFile { path, file };
        let length = usize::try_from(layout.config.length).expect("at most 32 KiB, as was checked");
        let config = file.read_all(layout.config.offset, length)?;
        Ok(Self::new(file, layout, config, modified))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.bytes().path
    }
}

impl ArchiveBytes for LocalFile {
    fn target(&self) -> String {
        self.path.display().to_string()
    }

    fn read(&self, offset: u64, length: usize, consume: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.file.with_range(offset, length, consume).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::new(ErrorKind::Changed, "read", self.target())
                .detail("the archive was cut short while it was read"),
            _ => Error::io("read", self.target(), error),
        })
    }

    fn is_remote(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::Id;
    use crate::connector::{Body, Kind, Storage as _};
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
