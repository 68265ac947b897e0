//! What an interrupted restore left: files under its temporary names, which nobody else uses.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};

/// Returns what the temporary names of a restore with this number begin with.
pub(super) fn prefix(number: u64) -> String {
    format!(".plakar-{number:016x}")
}

/// Removes the temporary files of one restore from a folder. What cannot be removed stays: its name says what it is.
pub(super) fn remove(folder: impl AsFd, prefix: &str) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(opened) = openat(&folder, ".", flags, Mode::empty()) else { return };
    let Ok(entries) = Dir::new(opened) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_bytes();
        let own = name.strip_prefix(prefix.as_bytes()).is_some_and(|rest| {
            rest.strip_prefix(b"-")
                .and_then(|rest| rest.strip_suffix(b".tmp"))
                .is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
        });
        if own {
            let _ = unlinkat(&folder, OsStr::from_bytes(name), AtFlags::empty());
        }
    }
}
