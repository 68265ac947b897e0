//! Owner, mode, times and attributes, by descriptor.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, fsetxattr, futimens, utimensat,
};
#[cfg(target_os = "linux")]
use rustix::fs::{OFlags, fstat, openat};
use rustix::io::Errno;

use crate::base::Timestamp;
use crate::connector::{Metadata, Xattr};
use crate::format::entry::{self, FileInfo};

/// A thing whose metadata is set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Handle<'a> {
    /// A file or folder, open.
    Open(BorrowedFd<'a>),
    /// Anything, opened as a place only (`O_PATH`): links, pipes, devices.
    #[cfg(target_os = "linux")]
    Place(BorrowedFd<'a>),
    /// Anything, by its name in a folder, where nothing can be opened as a place only.
    #[cfg(not(target_os = "linux"))]
    Named(BorrowedFd<'a>, &'a OsStr),
}

impl Handle<'_> {
    fn chown(self, owner: Option<Uid>, group: Option<Gid>) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fchown(fd, owner, group),
            #[cfg(target_os = "linux")]
            Self::Place(fd) => chownat(fd, c"", owner, group, AtFlags::EMPTY_PATH),
            #[cfg(not(target_os = "linux"))]
            Self::Named(folder, name) => chownat(folder, name, owner, group, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn chmod(self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            #[cfg(target_os = "linux")]
            Self::Place(fd) => chmodat(rustix::fs::CWD, magic(fd), mode, AtFlags::empty()),
            #[cfg(not(target_os = "linux"))]
            Self::Named(folder, name) => chmodat(folder, name, mode, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set_times(self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => futimens(fd, times),
            #[cfg(target_os = "linux")]
            Self::Place(fd) => utimensat(fd, c"", times, AtFlags::EMPTY_PATH),
            #[cfg(not(target_os = "linux"))]
            Self::Named(folder, name) => utimensat(folder, name, times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            #[cfg(target_os = "linux")]
            Self::Place(fd) => rustix::fs::setxattr(magic(fd), name, value, XattrFlags::empty()),
            #[cfg(not(target_os = "linux"))]
            Self::Named(..) => Err(Errno::NOTSUP),
        }
    }
}

/// Something that was just made under a temporary name and cannot be opened like a file.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(super) struct Made(OwnedFd);

#[cfg(target_os = "linux")]
impl Made {
    /// Takes hold of it; what happens to its name does not matter after that.
    pub(super) fn open(folder: &OwnedFd, name: &OsStr) -> Result<(Self, Stat), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(folder, name, flags, Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok((Self(fd), stat))
    }

    /// Returns a handle for its metadata.
    pub(super) fn handle(&self) -> Handle<'_> {
        Handle::Place(self.0.as_fd())
    }
}

/// Something that was just made under a temporary name and cannot be opened like a file.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) struct Made<'a>(&'a OwnedFd, &'a OsStr);

#[cfg(not(target_os = "linux"))]
impl<'a> Made<'a> {
    /// Looks at it. Its name, which is random, stands for it.
    pub(super) fn open(folder: &'a OwnedFd, name: &'a OsStr) -> Result<(Self, Stat), Errno> {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((Self(folder, name), stat))
    }

    /// Returns a handle for its metadata.
    pub(super) fn handle(&self) -> Handle<'_> {
        Handle::Named(self.0.as_fd(), self.1)
    }
}

/// Returns the path that leads to what a descriptor stands for, and nowhere else.
#[cfg(target_os = "linux")]
fn magic(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Who restores, and what of the metadata.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    /// Whether owners can be given away, and everything else set.
    root: bool,
    uid: Uid,
    skip_permissions: bool,
}

impl Rights {
    pub(super) fn of_process(skip_permissions: bool) -> Self {
        let uid = rustix::process::geteuid();
        Self { root: uid.is_root(), uid, skip_permissions }
    }

    /// Returns the rights of a process that is not root's, whoever runs the test.
    #[cfg(test)]
    pub(super) fn without_root(uid: Uid, skip_permissions: bool) -> Self {
        Self { root: false, uid, skip_permissions }
    }

    /// Returns whether the process may make devices.
    pub(super) fn root(self) -> bool {
        self.root
    }

    /// Sets owner, attributes, mode and times, in this order: a change of owner clears bits of the mode and
    /// capabilities, a change of either disturbs no time. Adds what could not be set to `missing`, and the
    /// metadata of S3 objects that found no room to `homeless`.
    pub(super) fn apply<'m>(
        self,
        handle: Handle<'_>,
        info: &FileInfo,
        xattrs: &[Xattr],
        metadata: &'m [Metadata],
        homeless: &mut Vec<&'m Metadata>,
    ) -> Vec<String> {
        let mut missing = Vec::new();
        let owned = !self.skip_permissions && self.restore_owner(handle, info, &mut missing);
        for xattr in xattrs {
            if self.skip_permissions && !xattr.name.starts_with(b"user.") {
                continue;
            }
            let privileged = xattr.name.starts_with(b"security.") && !(owned && self.root);
            if privileged || !is_known(&xattr.name) || handle.set_xattr(&xattr.name, &xattr.value).is_err() {
                missing.push(format!("extended attribute {}", xattr.name.lossy()));
            }
        }
        for metadata in metadata.iter().filter(|metadata| metadata.key.starts_with(b"s3.")) {
            if handle.set_xattr(&[b"user.", metadata.key.as_bytes()].concat(), &metadata.value).is_err() {
                homeless.push(metadata);
            }
        }
        if !self.skip_permissions && !info.mode.is_symlink() {
            self.restore_mode(handle, info.mode, owned, &mut missing);
        }
        // "No time" is not a time to set.
        if info.modified != Timestamp::ZERO && handle.set_times(&times_of(info.modified)).is_err() {
            missing.push("modification time".into());
        }
        missing
    }

    /// Returns whether the owner is now the recorded one.
    fn restore_owner(self, handle: Handle<'_>, info: &FileInfo, missing: &mut Vec<String>) -> bool {
        let (Some(uid), Some(gid)) = (number(info.uid), number(info.gid)) else {
            missing.push("owner".into());
            return false;
        };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let owner = if self.root { Some(uid) } else { None };
        // Folders that nobody described and objects of a bucket have no owner: nothing is missing then.
        let nobody = info.uid == 0 && info.gid == 0 && info.user.is_empty() && info.group.is_empty();
        if nobody && !self.root {
            return false;
        }
        if !self.root && uid != self.uid {
            missing.push("owner".into());
            return false;
        }
        let done = handle.chown(owner, Some(gid)).is_ok();
        if !done {
            missing.push(if self.root { "owner" } else { "group" }.into());
        }
        done
    }

    fn restore_mode(self, handle: Handle<'_>, mode: entry::Mode, owned: bool, missing: &mut Vec<String>) {
        let mut bits = mode.to_unix() & 0o7777;
        if bits & 0o6000 != 0 && !(owned && self.root) {
            bits &= 0o1777;
            missing.push("set-id bits".into());
        }
        if handle.chmod(Mode::from_raw_mode(raw(bits))).is_err() {
            missing.push("mode".into());
        }
    }
}

/// Returns a number of an owner; 2^32-1 means "leave it" to the kernel and is nobody's.
fn number(id: u64) -> Option<u32> {
    u32::try_from(id).ok().filter(|id| *id != u32::MAX)
}

/// Returns whether attributes of a class are restored. Others (`trusted.`, other kinds of `system.`) steer the
/// kernel, and no snapshot of ours holds them.
fn is_known(name: &[u8]) -> bool {
    [&b"user."[..], b"security.", b"system.posix_acl_"].iter().any(|class| name.starts_with(class))
}

/// Returns the times to set: the modification, not the access.
fn times_of(modified: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.secs, tv_nsec: i64::from(modified.nanos) },
    }
}

/// Returns a handle for something open.
pub(super) fn open(fd: &impl AsFd) -> Handle<'_> {
    Handle::Open(fd.as_fd())
}

/// Returns permissions in the width that the system's calls take.
#[cfg(not(target_vendor = "apple"))]
fn raw(bits: u32) -> rustix::fs::RawMode {
    bits
}

/// Returns permissions in the width that the system's calls take.
#[cfg(target_vendor = "apple")]
fn raw(bits: u32) -> rustix::fs::RawMode {
    rustix::fs::RawMode::try_from(bits).expect("permissions are 12 bits")
}
