//! The file an archive is written to.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::base::{At, sys};
use crate::connector::{ArchiveSink, Error, ErrorKind, Result, WriteFault};
use crate::connectors::place::{self, Folder, Pending};

/// How much of the archive's name a temporary name repeats, in bytes: names may be 255 bytes long.
const REPEATED: usize = 200;

/// An archive in the making beside its final name, mode 0600.
///
/// It appears whole with [`commit`](ArchiveSink::commit); dropped without, or killed, it leaves nothing. Where the
/// file system has no unnamed files, its temporary name is `.<name>.<random>.tmp`. Every write is a system call:
/// write large pieces, or buffer them.
#[derive(Debug)]
pub struct ArchiveFile {
    path: PathBuf,
    name: OsString,
    folder: Folder,
    pending: Pending,
    overwrite: bool,
    fault: WriteFault,
}

impl ArchiveFile {
    /// Begins an archive.
    ///
    /// Fails with `Exists` when something has the name, unless `overwrite` allows to replace it; what is neither a
    /// regular file nor a symbolic link (a folder, a device) is never replaced.
    pub fn create(path: impl Into<PathBuf>, overwrite: bool) -> Result<Self> {
        let path = path.into();
        let target = || path.display().to_string();
        let name = path.file_name().map(OsStr::to_owned).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "create", target()).detail("it does not name a file")
        })?;
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("create", target(), error)),
            Ok(there) if !there.is_file() && !there.is_symlink() => {
                return Err(Error::new(ErrorKind::Exists, "create", target())
                    .detail("something that is not a file has this name"));
            }
            Ok(_) if !overwrite => {
                return Err(Error::new(ErrorKind::Exists, "create", target())
                    .detail("the file exists; -overwrite replaces it"));
            }
            Ok(_) => {}
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = place::open_folder(parent).at("open", parent)?;
        let digits = place::random_digits().at("create", &path)?;
        let repeated = &name.as_encoded_bytes()[..name.len().min(REPEATED)];
        let temporary = [b".", repeated, b".", digits.as_bytes(), b".tmp"].concat();
        let temporary = sys::os_part(&temporary).into_owned();
        let working = folder.try_clone().at("open", parent)?;
        let pending = Pending::create(working, temporary).at("create", &path)?;
        Ok(Self { path, name, folder, pending, overwrite, fault: WriteFault::default() })
    }

    fn check(&self) -> Result<()> {
        self.fault.check(self.path.display())
    }
}

impl Write for ArchiveFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check().map_err(io::Error::other)?;
        self.fault.note(self.pending.file().write(bytes))
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.check().map_err(io::Error::other)?;
        self.fault.note(self.pending.file().write_vectored(parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ArchiveSink for ArchiveFile {
    fn commit(self: Box<Self>) -> Result<()> {
        self.check()?;
        let Self { path, name, folder, pending, overwrite, .. } = *self;
        pending.place(&folder, &name, overwrite).at("create", &path)?;
        Ok(place::sync(&folder).at("synchronise", &path)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn count(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    fn write(path: &Path, overwrite: bool, text: &str) -> Result<()> {
        let mut file = Box::new(ArchiveFile::create(path, overwrite)?);
        file.write_all(text.as_bytes()).unwrap();
        file.flush().unwrap();
        file.commit()
    }

    #[test]
    fn appears_whole_on_commit_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n".repeat(250));
        let mut file = ArchiveFile::create(&path, false).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(count(dir.path()), 0);
        write(&path, false, "whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(count(dir.path()), 1);
    }

    #[test]
    fn after_a_write_that_failed_there_is_no_archive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ptar");
        let mut file = Box::new(ArchiveFile::create(&path, false).unwrap());
        file.write_all(b"half").unwrap();
        file.fault.note::<()>(Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert!(file.write(b"more").is_err());
        assert!(file.write_vectored(&[io::IoSlice::new(b"more")]).is_err());
        assert!(file.commit().unwrap_err().to_string().contains("not whole"));
        assert_eq!(count(dir.path()), 0);
    }

    #[test]
    fn an_existing_file_is_replaced_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ptar");
        write(&path, true, "one").unwrap();
        assert_eq!(ArchiveFile::create(&path, false).unwrap_err().kind, ErrorKind::Exists);
        let mut dropped = ArchiveFile::create(&path, true).unwrap();
        dropped.write_all(b"never").unwrap();
        drop(dropped);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(&path, true, "two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(count(dir.path()), 1);
    }

    #[test]
    fn a_name_taken_meanwhile_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ptar");
        let late = Box::new(ArchiveFile::create(&path, false).unwrap());
        fs::write(&path, "first").unwrap();
        assert_eq!(late.commit().unwrap_err().kind, ErrorKind::Exists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn folders_and_devices_are_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path(), Path::new("/dev/null"), Path::new("/")] {
            assert!(ArchiveFile::create(path, true).is_err());
        }
        let link = dir.path().join("link");
        let target = dir.path().join("target");
        fs::write(&target, "kept").unwrap();
        symlink(&target, &link).unwrap();
        assert_eq!(ArchiveFile::create(&link, false).unwrap_err().kind, ErrorKind::Exists);
        write(&link, true, "new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
        let nowhere = ArchiveFile::create(dir.path().join("none/x"), false).unwrap_err();
        assert_eq!(nowhere.kind, ErrorKind::NotFound);
    }
}
