//! What `stat` tells of an entry.

use std::time::SystemTime;

use crate::base::Timestamp;
use crate::format::entry::{Entry, Mode};

/// The types that a file system knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    /// A folder.
    Folder,
    /// A regular file, and whatever has no type of its own.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A character device, without its numbers: snapshots do not record them.
    CharDevice,
    /// A block device, likewise.
    BlockDevice,
}

impl FileKind {
    /// Returns the type that a mode tells.
    pub fn of(mode: Mode) -> Self {
        match mode {
            mode if mode.is_dir() => Self::Folder,
            mode if mode.is_symlink() => Self::Symlink,
            mode if mode.is_pipe() => Self::Pipe,
            mode if mode.is_socket() => Self::Socket,
            mode if mode.is_char_device() => Self::CharDevice,
            mode if mode.is_device() => Self::BlockDevice,
            _ => Self::File,
        }
    }
}

/// What `stat` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// The number of the file, unique in the mount.
    pub number: u64,
    /// The type.
    pub kind: FileKind,
    /// Bytes of content, or of a link's text.
    pub size: u64,
    /// Permission bits, set-id and sticky bits included.
    pub permissions: u16,
    /// Names of the file, at least 1.
    pub links: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The last modification.
    pub modified: SystemTime,
}

/// Who owns what is recorded with numbers that this system cannot express: nobody.
const NOBODY: u32 = 65_534;

impl Attributes {
    /// Describes an entry.
    pub fn of(number: u64, entry: &Entry) -> Self {
        let (info, kind) = (&entry.info, FileKind::of(entry.info.mode));
        let size = match kind {
            FileKind::Symlink => entry.symlink_target.len() as u64,
            FileKind::File => u64::try_from(info.size).unwrap_or(0),
            _ => 0,
        };
        let least = if kind == FileKind::Folder { 2 } else { 1 };
        Self {
            number,
            kind,
            size,
            permissions: u16::try_from(info.mode.to_unix() & 0o7777).expect("twelve bits"),
            links: u32::from(info.links).max(least),
            uid: u32::try_from(info.uid).unwrap_or(NOBODY),
            gid: u32::try_from(info.gid).unwrap_or(NOBODY),
            modified: time(info.modified),
        }
    }

    /// Describes a folder that no snapshot records, owned by whoever mounted.
    pub(super) fn of_folder(number: u64, owner: (u32, u32), modified: Timestamp) -> Self {
        Self {
            number,
            kind: FileKind::Folder,
            size: 0,
            permissions: 0o755,
            links: 2,
            uid: owner.0,
            gid: owner.1,
            modified: time(modified),
        }
    }
}

/// Returns a time as the system takes it; no time at all is that of 1970.
fn time(time: Timestamp) -> SystemTime {
    let known = if time == Timestamp::ZERO { None } else { time.to_system() };
    known.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::FileInfo;

    #[test]
    fn modes_times_and_sizes_are_those_recorded() {
        let mut info = FileInfo::new("x", Mode::from_unix(0o104_750));
        (info.size, info.uid, info.gid, info.links) = (77, 12, u64::MAX, 3);
        info.modified = Timestamp { secs: -5, nanos: 7 };
        let found = Attributes::of(9, &Entry::new("/", info.clone()));
        assert_eq!((found.kind, found.permissions, found.size), (FileKind::File, 0o4750, 77));
        assert_eq!((found.number, found.uid, found.gid, found.links), (9, 12, NOBODY, 3));
        assert_eq!(Timestamp::from(found.modified), Timestamp { secs: -5, nanos: 7 });
        (info.mode, info.size, info.links, info.modified) =
            (Mode::from_unix(0o040_700), -4, 0, Timestamp::ZERO);
        let found = Attributes::of(9, &Entry::new("/", info.clone()));
        assert_eq!((found.kind, found.size, found.links), (FileKind::Folder, 0, 2));
        assert_eq!(found.modified, SystemTime::UNIX_EPOCH);
        info.mode = Mode::from_unix(0o120_777);
        let mut entry = Entry::new("/", info);
        entry.symlink_target = "over/there".into();
        assert_eq!(Attributes::of(9, &entry).size, 10);
    }
}
