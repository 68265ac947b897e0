//! Folders as descriptors, and files without names where Linux has them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::temporary::copy;

/// A folder that is open.
pub(in super::super) type Folder = OwnedFd;

/// Owner may read and write, nobody else anything.
const PRIVATE: Mode = Mode::from_raw_mode(0o600);

/// Opens a folder, to name things in it and to synchronise it.
pub(in super::super) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Creates a file without a name in a folder; fails where the file system has no such files.
#[cfg(target_os = "linux")]
pub(in super::super) fn unnamed(folder: &Folder) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(File::from(openat(folder, c".", flags, PRIVATE)?))
}

/// Fails: only Linux has files without a name that can be given one.
#[cfg(not(target_os = "linux"))]
pub(in super::super) fn unnamed(_: &Folder) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes the names in a folder durable.
pub(in super::super) fn sync(folder: &Folder) -> io::Result<()> {
    Ok(rustix::fs::fsync(folder)?)
}

/// Gives an unnamed file a name that is not in use. Fails with `AlreadyExists` when it is, and with any other
/// error where the file cannot be linked there (another file system, for one): copy it then.
#[cfg(target_os = "linux")]
pub(in super::super) fn link(file: &File, into: &Folder, name: &OsStr) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    // The way that needs no privilege; where /proc is not mounted, the one that does.
    let magic = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(rustix::fs::CWD, magic, into, name, AtFlags::SYMLINK_FOLLOW) {
        Err(Errno::NOENT) => Ok(linkat(file, c"", into, name, AtFlags::EMPTY_PATH)?),
        other => Ok(other?),
    }
}

/// Fails: only Linux gives names to files that have none.
#[cfg(not(target_os = "linux"))]
pub(in super::super) fn link(_: &File, _: &Folder, _: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A file in the making. Dropped before [`place`](Self::place), it is gone.
#[derive(Debug)]
pub(in super::super) struct Pending {
    folder: OwnedFd,
    temporary: OsString,
    file: File,
    named: bool,
}

impl Pending {
    /// Creates an empty file, mode 0600, in a folder, using the given name only where a file must have one.
    pub(in super::super) fn create(folder: OwnedFd, temporary: OsString) -> io::Result<Self> {
        match unnamed(&folder) {
            Ok(file) => Ok(Self { folder, temporary, file, named: false }),
            Err(_) => Self::create_named(folder, temporary),
        }
    }

    fn create_named(folder: OwnedFd, temporary: OsString) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&folder, &*temporary, flags, PRIVATE)?);
        Ok(Self { folder, temporary, file, named: true })
    }

    /// Returns the file, to write to.
    pub(in super::super) fn file(&self) -> &File {
        &self.file
    }

    /// Synchronises the file and gives it its name in `into`, replacing what has it if `replace` says so, else
    /// failing with `AlreadyExists`. The folder's own synchronisation is left to the caller.
    pub(in super::super) fn place(mut self, into: &Folder, name: &OsStr, replace: bool) -> io::Result<()> {
        self.file.sync_all()?;
        if !self.named {
            let placed = if replace {
                link(&self.file, &self.folder, &self.temporary)
            } else {
                link(&self.file, into, name)
            };
            match placed {
                Ok(()) if !replace => return Ok(()),
                Ok(()) => self.named = true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                // Unnamed files that cannot be linked (a seccomp filter, /proc missing): start again with a name.
                Err(_) => self = self.copy()?,
            }
        }
        if replace {
            renameat(&self.folder, &*self.temporary, into, name)?;
        } else {
            rename_new(self.folder.as_fd(), &self.temporary, into.as_fd(), name)?;
        }
        self.named = false;
        Ok(())
    }

    fn copy(&self) -> io::Result<Self> {
        let folder = self.folder.try_clone()?;
        let named = Self::create_named(folder, self.temporary.clone())?;
        copy(&self.file, &named.file, self.file.metadata()?.len())?;
        named.file.sync_all()?;
        Ok(named)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.named {
            // Nothing to be done about a failure here: the name says that it is temporary.
            let _ = unlinkat(&self.folder, &*self.temporary, AtFlags::empty());
        }
    }
}

/// Renames to a name that is not in use.
fn rename_new(from: BorrowedFd<'_>, old: &OsStr, into: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match renameat_with(from, old, into, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {}
        other => return Ok(other?),
    }
    match linkat(from, old, into, name, AtFlags::empty()) {
        Ok(()) => Ok(unlinkat(from, old, AtFlags::empty())?),
        Err(Errno::EXIST) => Err(Errno::EXIST.into()),
        // Neither way exists (some network file systems): looking first is the best there is.
        Err(_) if rustix::fs::statat(into, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() => {
            Err(Errno::EXIST.into())
        }
        Err(_) => Ok(renameat(from, old, into, name)?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn both(path: &Path) -> [Pending; 2] {
        let folder = || open_folder(path).unwrap();
        [
            Pending::create(folder(), "t1".into()).unwrap(),
            Pending::create_named(folder(), "t2".into()).unwrap(),
        ]
    }

    #[test]
    fn a_file_appears_whole_and_replaces_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let into = open_folder(dir.path()).unwrap();
        for (index, pending) in both(dir.path()).into_iter().enumerate() {
            let name = format!("file{index}");
            pending.file().write_all(b"one").unwrap();
            assert!(!dir.path().join(&name).exists());
            pending.place(&into, name.as_ref(), false).unwrap();
            assert_eq!(fs::read(dir.path().join(&name)).unwrap(), b"one");
            let mode = fs::metadata(dir.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        for pending in both(dir.path()) {
            pending.file().write_all(b"two").unwrap();
            let error = pending.place(&into, "file0".as_ref(), false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(dir.path().join("file0")).unwrap(), b"one");
        }
        for (pending, text) in both(dir.path()).into_iter().zip(["three", "four"]) {
            pending.file().write_all(text.as_bytes()).unwrap();
            pending.place(&into, "file0".as_ref(), true).unwrap();
            assert_eq!(fs::read(dir.path().join("file0")).unwrap(), text.as_bytes());
        }
        assert_eq!(names(dir.path()), ["file0", "file1"]);
    }

    #[test]
    fn what_is_dropped_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        for pending in both(dir.path()) {
            pending.file().write_all(b"lost").unwrap();
        }
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_copy_that_lacks_bytes_fails() {
        let (mut from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all(&[1; 5000]).unwrap();
        copy(&from, &to, 5000).unwrap();
        assert_eq!(to.metadata().unwrap().len(), 5000);
        assert_eq!(copy(&from, &to, 5001).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
