//! What an interrupted restore left: files under its temporary names, which nobody else uses.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};

use crate::connectors::place::is_of_restore;

/// Removes the temporary files of one restore from a folder. What cannot be removed stays: its name says what it is.
pub(super) fn remove(folder: impl AsFd, prefix: &str) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(opened) = openat(&folder, ".", flags, Mode::empty()) else { return };
    let Ok(entries) = Dir::new(opened) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_bytes();
        if is_of_restore(name, prefix) {
            let _ = unlinkat(&folder, OsStr::from_bytes(name), AtFlags::empty());
        }
    }
}
