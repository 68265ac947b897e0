//! Folders below the root, by descriptor.

use std::ffi::OsStr;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use lru::LruCache;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::fs::sys;

/// How many folders stay open.
const OPEN_FOLDERS: NonZeroUsize = NonZeroUsize::new(128).expect("not zero");
/// How often a look-up is tried again that a rename elsewhere disturbed.
#[cfg(target_os = "linux")]
const TRIES: usize = 8;
/// The longest name of most file systems, in bytes.
pub(super) const MAX_NAME: usize = 255;

/// Where one item goes: a folder and a name in it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: &'a OsStr,
}

/// Splits a path into parent and name, checking that no component can lead anywhere but down.
pub(super) fn split(path: &[u8]) -> Result<(&[u8], &OsStr)> {
    let clean = path.split(|c| *c == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    if !clean || path.contains(&0) {
        return Err(Error::new(ErrorKind::Invalid, "restore", String::from_utf8_lossy(path))
            .detail("the path is not one below the destination"));
    }
    let (parent, name) = match path.iter().rposition(|c| *c == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    Ok((parent, OsStr::from_bytes(name)))
}

/// The root of a restore, and the folders below it that were used lately.
#[derive(Debug)]
pub(super) struct Tree {
    root: Arc<OwnedFd>,
    open: Mutex<LruCache<Vec<u8>, Arc<OwnedFd>>>,
    /// Cleared when the kernel turns out not to have `openat2`, or a filter forbids it.
    at_once: AtomicBool,
}

impl Tree {
    /// Opens the root; links on the way to it are the user's own.
    pub(super) fn open(path: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Self { root, open: Mutex::new(LruCache::new(OPEN_FOLDERS)), at_once: AtomicBool::new(true) })
    }

    /// Makes every look-up go one component at a time.
    #[cfg(test)]
    pub(super) fn step_by_step(&self) {
        self.at_once.store(false, Ordering::Relaxed);
    }

    /// Returns the root.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Returns what tells the root from every other folder, those that had its name before or will have it included:
    /// device, inode, time of birth, and where `path` leads. `None` where the file system knows no time of birth: it
    /// may give a new folder the inode of one that was removed.
    pub(super) fn identity(&self, path: &Path) -> Option<Vec<u8>> {
        let facts = File::from(self.root.try_clone().ok()?).metadata().ok()?;
        let birth = facts.created().ok()?.duration_since(UNIX_EPOCH).ok().filter(|birth| !birth.is_zero())?;
        let mut identity = facts.dev().to_le_bytes().to_vec();
        identity.extend_from_slice(&facts.ino().to_le_bytes());
        identity.extend_from_slice(&birth.as_nanos().to_le_bytes());
        identity.extend_from_slice(std::fs::canonicalize(path).ok()?.as_os_str().as_bytes());
        Some(identity)
    }

    /// Finds the folder that an item goes to.
    pub(super) fn place<'a>(&self, path: &'a [u8]) -> Result<Place<'a>> {
        let (parent, name) = split(path)?;
        let folder = self.folder(parent).map_err(|error| blocked("enter", parent, error))?;
        Ok(Place { folder, name })
    }

    /// Opens a folder itself, for its metadata.
    pub(super) fn open_folder(&self, path: &[u8]) -> Result<OwnedFd> {
        let place = self.place(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&*place.folder, place.name, flags, Mode::empty()).map_err(|error| blocked("open", path, error))
    }

    /// Lets go of a folder that will not be needed again.
    pub(super) fn forget(&self, path: &[u8]) {
        self.cache().pop(path);
    }

    fn cache(&self) -> MutexGuard<'_, LruCache<Vec<u8>, Arc<OwnedFd>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a folder by its path, split and checked before.
    fn folder(&self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(folder) = self.cache().get(path) {
            return Ok(Arc::clone(folder));
        }
        let (known, base) = self.nearest(path);
        let rest = &path[known..];
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        let found = Arc::new(self.descend(base.as_fd(), rest)?);
        self.cache().put(path.to_vec(), Arc::clone(&found));
        Ok(found)
    }

    /// Returns the deepest open folder on the way to a path, and the length of its own path.
    fn nearest(&self, path: &[u8]) -> (usize, Arc<OwnedFd>) {
        let mut cache = self.cache();
        let cuts = path.iter().enumerate().rev().filter(|(_, c)| **c == b'/').map(|(at, _)| at);
        for cut in cuts {
            if let Some(folder) = cache.get(&path[..cut]) {
                return (cut, Arc::clone(folder));
            }
        }
        (0, Arc::clone(&self.root))
    }

    /// Lets the kernel resolve a path below a folder; `None` where it cannot.
    #[cfg(target_os = "linux")]
    fn descend_at_once(&self, base: BorrowedFd<'_>, rest: &[u8]) -> Option<Result<OwnedFd, Errno>> {
        use rustix::fs::ResolveFlags;
        let flags = sys::PLACE | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            match rustix::fs::openat2(base, rest, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::TOOBIG) => {
                    self.at_once.store(false, Ordering::Relaxed);
                    return None;
                }
                // Longer than any path may be: step by step it works.
                Err(Errno::NAMETOOLONG) => return None,
                other => return Some(other),
            }
        }
        None
    }

    /// No other system resolves a path that way.
    #[cfg(not(target_os = "linux"))]
    fn descend_at_once(&self, _: BorrowedFd<'_>, _: &[u8]) -> Option<Result<OwnedFd, Errno>> {
        self.at_once.store(false, Ordering::Relaxed);
        None
    }

    fn descend(&self, base: impl AsFd, rest: &[u8]) -> Result<OwnedFd, Errno> {
        if rest.contains(&b'/')
            && self.at_once.load(Ordering::Relaxed)
            && let Some(found) = self.descend_at_once(base.as_fd(), rest)
        {
            return found;
        }
        let flags = sys::PLACE | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at: Option<OwnedFd> = None;
        for name in rest.split(|c| *c == b'/') {
            let from = at.as_ref().map_or(base.as_fd(), AsFd::as_fd);
            at = Some(openat(from, name, flags | OFlags::NOFOLLOW, Mode::empty())?);
        }
        at.ok_or(Errno::NOENT)
    }
}

/// Returns the error of a folder that could not be opened below the root.
fn blocked(op: &'static str, path: &[u8], error: Errno) -> Error {
    let path = String::from_utf8_lossy(path);
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV => Error::new(ErrorKind::Exists, op, path)
            .detail("something that is not a folder stands in the way")
            .because(std::io::Error::from(error)),
        _ => Error::io(op, path, error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_down_or_nowhere() {
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b"] {
            assert_eq!(split(bad.as_bytes()).unwrap_err().kind, ErrorKind::Invalid, "{bad:?}");
        }
        assert_eq!(split(b"a").unwrap(), (&b""[..], OsStr::new("a")));
        assert_eq!(split(b"a/b/...").unwrap(), (&b"a/b"[..], OsStr::new("...")));
    }
}
