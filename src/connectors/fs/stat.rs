//! What `stat` says, in types that do not depend on the system.

use rustix::fs::Stat;

use crate::base::Timestamp;

/// The facts of a file that this connector uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Type and permissions.
    pub(super) mode: u32,
    /// The length in bytes.
    pub(super) size: i64,
    /// The last change of the content.
    pub(super) modified: Timestamp,
    /// The last change of anything, set by the system alone.
    pub(super) changed: Timestamp,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// How many names the file has.
    pub(super) links: u64,
    /// The number of the device that the file is.
    pub(super) rdev: u64,
}

impl From<&Stat> for Facts {
    #[cfg(target_os = "linux")]
    fn from(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode,
            size: stat.st_size,
            modified: Timestamp {
                secs: stat.st_mtime,
                nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            changed: Timestamp { secs: stat.st_ctime, nanos: u32::try_from(stat.st_ctime_nsec).unwrap_or(0) },
            device: stat.st_dev,
            inode: stat.st_ino,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink,
            rdev: stat.st_rdev,
        }
    }

    /// The fields are narrower, or signed, elsewhere.
    #[cfg(not(target_os = "linux"))]
    fn from(stat: &Stat) -> Self {
        let device = |number: i64| number.cast_unsigned();
        Self {
            mode: u32::from(stat.st_mode),
            size: stat.st_size,
            modified: Timestamp {
                secs: stat.st_mtime,
                nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            changed: Timestamp { secs: stat.st_ctime, nanos: u32::try_from(stat.st_ctime_nsec).unwrap_or(0) },
            device: device(i64::from(stat.st_dev)),
            inode: stat.st_ino,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: u64::from(stat.st_nlink),
            rdev: device(i64::from(stat.st_rdev)),
        }
    }
}
