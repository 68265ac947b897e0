//! Folders as paths, with what the standard library has everywhere.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::base::sys;

/// A folder, by its path.
#[derive(Debug)]
pub(in super::super) struct Folder(PathBuf);

impl Folder {
    /// Returns another handle on the same folder.
    #[expect(clippy::unnecessary_wraps, reason = "a descriptor can fail to be duplicated")]
    pub(in super::super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.clone()))
    }
}

/// Opens a folder, to name things in it and to synchronise it.
pub(in super::super) fn open_folder(path: &Path) -> io::Result<Folder> {
    if fs::metadata(path)?.is_dir() {
        Ok(Folder(std::path::absolute(path)?))
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

/// Fails: there are no files without a name here.
pub(in super::super) fn unnamed(_: &Folder) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails: no file without a name can be given one here.
pub(in super::super) fn link(_: &File, _: &Folder, _: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes the names in a folder durable.
pub(in super::super) fn sync(folder: &Folder) -> io::Result<()> {
    sys::sync_folder(&folder.0)
}

/// A file in the making. Dropped before [`place`](Self::place), it is gone.
#[derive(Debug)]
pub(in super::super) struct Pending {
    path: PathBuf,
    /// Closed before the file is removed or renamed: an open file keeps its name on Windows.
    file: Option<File>,
}

impl Pending {
    /// Creates an empty file in a folder, under the given temporary name.
    pub(in super::super) fn create(folder: Folder, temporary: OsString) -> io::Result<Self> {
        let path = folder.0.join(temporary);
        let file = sys::private_file().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self { path, file: Some(file) })
    }

    /// Returns the file, to write to.
    pub(in super::super) fn file(&self) -> &File {
        self.file.as_ref().expect("it is closed only by what consumes this")
    }

    /// Synchronises the file and gives it its name in `into`, replacing what has it if `replace` says so, else
    /// failing with `AlreadyExists`. The folder's own synchronisation is left to the caller.
    pub(in super::super) fn place(mut self, into: &Folder, name: &OsStr, replace: bool) -> io::Result<()> {
        self.file().sync_all()?;
        self.file = None;
        let target = into.0.join(name);
        if replace {
            return fs::rename(&self.path, &target);
        }
        // A hard link fails where the name is taken; what is left under the old name goes with `self`.
        match fs::hard_link(&self.path, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) if fs::symlink_metadata(&target).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
            // No hard links (FAT): having looked is the best there is.
            Err(_) => fs::rename(&self.path, &target),
            Ok(()) => Ok(()),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.file = None;
        // After a rename there is nothing; a failure leaves a name that says it is temporary.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_appears_whole_and_replaces_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let into = open_folder(dir.path()).unwrap();
        let pending = |text: &str| {
            let pending = Pending::create(into.try_clone().unwrap(), "t".into()).unwrap();
            pending.file().write_all(text.as_bytes()).unwrap();
            pending
        };
        let read = || fs::read_to_string(dir.path().join("file")).unwrap();
        pending("one").place(&into, "file".as_ref(), false).unwrap();
        assert_eq!(read(), "one");
        let error = pending("two").place(&into, "file".as_ref(), false).unwrap_err();
        assert_eq!((error.kind(), read().as_str()), (io::ErrorKind::AlreadyExists, "one"));
        pending("three").place(&into, "file".as_ref(), true).unwrap();
        assert_eq!(read(), "three");
        drop(pending("four"));
        sync(&into).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
        assert!(
            unnamed(&into).is_err()
                && link(&File::open(dir.path().join("file")).unwrap(), &into, "x".as_ref()).is_err()
        );
        assert!(open_folder(&dir.path().join("file")).is_err());
    }
}
