//! What the standard library has no words for: folders opened as places, paths of any length, and extended
//! attributes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// The file at the root of a restore that holds the metadata of S3 objects for which attributes had no room.
pub(super) const SIDECAR: &str = ".plakar-s3-metadata.jsonl";
/// What the names of attributes that carry an S3 object's metadata begin with: `user.s3.key` is `s3.key`.
pub(super) const S3_ATTRIBUTES: &[u8] = b"user.s3.";
/// The longest path handed to the kernel in one piece, in bytes; Linux takes up to 4095, others up to 1023.
const PATH_PIECE: usize = if cfg!(target_os = "linux") { 4000 } else { 1000 };
/// The longest list of names, and the longest value, that Linux allows, in bytes.
const MAX_XATTR: usize = 64 << 10;

/// Opens something only as a place to go on from.
#[cfg(target_os = "linux")]
pub(super) const PLACE: OFlags = OFlags::PATH;
/// Opens something only as a place to go on from.
#[cfg(not(target_os = "linux"))]
pub(super) const PLACE: OFlags = OFlags::RDONLY;
/// Leaves the time of the last access as it is, where a file's owner may ask for that.
#[cfg(target_os = "linux")]
pub(super) const NO_TRACE: OFlags = OFlags::NOATIME;
/// Leaves the time of the last access as it is: nobody may ask for that here.
#[cfg(not(target_os = "linux"))]
pub(super) const NO_TRACE: OFlags = OFlags::empty();
/// What is said of an attribute that is not there.
#[cfg(not(target_vendor = "apple"))]
const NO_ATTRIBUTE: Errno = Errno::NODATA;
/// What is said of an attribute that is not there.
#[cfg(target_vendor = "apple")]
const NO_ATTRIBUTE: Errno = Errno::NOATTR;

/// Opens a path of any length. The flags are those of the last step; steps before it may follow links.
pub(super) fn open_long(path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    with_short(path, |at, rest| Ok(openat(at, rest, flags | OFlags::CLOEXEC, Mode::empty())?))
}

/// Calls `run` with a folder and a path below it that together are `path` and short enough for the kernel.
fn with_short<T>(
    path: &[u8],
    run: impl FnOnce(std::os::fd::BorrowedFd<'_>, &[u8]) -> io::Result<T>,
) -> io::Result<T> {
    let mut folder: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > PATH_PIECE {
        // The last slash within the piece; a path without one has a name nobody could have made.
        let cut = rest[..PATH_PIECE].iter().rposition(|c| *c == b'/').filter(|cut| *cut > 0);
        let cut = cut.ok_or(Errno::NAMETOOLONG)?;
        let flags = PLACE | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let at = folder.as_ref().map_or(CWD, AsFd::as_fd);
        folder = Some(openat(at, &rest[..cut], flags, Mode::empty())?);
        rest = &rest[cut + 1..];
    }
    run(folder.as_ref().map_or(CWD, AsFd::as_fd), rest)
}

/// Calls `run` with a path that names the same file and is short enough for the kernel.
#[cfg(target_os = "linux")]
pub(super) fn with_short_path<T>(path: &[u8], run: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd as _;
    if path.len() <= PATH_PIECE {
        return run(path);
    }
    with_short(
        path,
        |at, rest| run(&[format!("/proc/self/fd/{}/", at.as_raw_fd()).as_bytes(), rest].concat()),
    )
}

/// Calls `run` with a path. No path leads through a descriptor here: one that is too long for the kernel is an error.
#[cfg(not(target_os = "linux"))]
pub(super) fn with_short_path<T>(path: &[u8], run: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
    run(path)
}

/// Lists the names of a file's extended attributes; none where the file system has no such thing.
///
/// `list` is the system call: it fills a buffer and returns how much it filled.
pub(super) fn xattr_names(
    mut list: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> io::Result<Vec<Vec<u8>>> {
    // Most files have none: the first question costs no allocation.
    let mut small = [0; 256];
    let split = |filled: &[u8]| {
        filled.split(|c| *c == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
    };
    match list(&mut small) {
        Ok(filled) => Ok(split(&small[..filled])),
        Err(Errno::NOTSUP | Errno::NOSYS) => Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; MAX_XATTR];
            let filled = list(&mut large)?;
            Ok(split(&large[..filled]))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads the value of an extended attribute; `None` when it is gone. `get` is the system call.
pub(super) fn xattr_value(
    mut get: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> io::Result<Option<Vec<u8>>> {
    let mut size = 256;
    loop {
        let mut value = vec![0; size];
        match get(&mut value) {
            Ok(filled) => {
                value.truncate(filled);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if size < MAX_XATTR => size = MAX_XATTR,
            Err(NO_ATTRIBUTE) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
