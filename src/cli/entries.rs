//! Entries as `ls`, `find` and `diff` show them.

use serde::Serialize;

use super::dates;
use crate::base::{Printable, Timestamp};
use crate::format::entry::{Entry, Mode};
use crate::ui::units;

/// Spells a foreign string.
pub(crate) fn shown(text: impl AsRef<[u8]>) -> String {
    Printable::new(text.as_ref()).to_string()
}

/// An entry as a JSON object of type `entry`.
#[derive(Serialize, Debug)]
pub(crate) struct EntryLine {
    r#type: &'static str,
    snapshot: String,
    path: String,
    kind: &'static str,
    mode: u32,
    size: i64,
    modified: String,
    uid: u64,
    gid: u64,
    user: String,
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

impl EntryLine {
    /// Describes an entry of a snapshot, which is named by its whole id.
    pub(crate) fn new(snapshot: &str, entry: &Entry) -> Self {
        let info = &entry.info;
        Self {
            r#type: "entry",
            snapshot: snapshot.to_owned(),
            path: shown(entry.path()),
            kind: kind(info.mode),
            mode: info.mode.to_unix() & 0o7777,
            size: info.size,
            modified: dates::rfc3339(info.modified),
            uid: info.uid,
            gid: info.gid,
            user: shown(&info.user),
            group: shown(&info.group),
            target: target(entry),
            content_type: Some(shown(&entry.content_type)).filter(|kind| !kind.is_empty()),
        }
    }
}

/// Formats an entry as `ls` does, with a name of the caller's, which is printable already.
pub(crate) fn long_line(entry: &Entry, name: &str) -> String {
    let info = &entry.info;
    let owner = |name: &[u8], number: u64| if name.is_empty() { number.to_string() } else { shown(name) };
    let size = units::bytes(u64::try_from(info.size).unwrap_or(0));
    let time = dates::rfc3339(Timestamp { nanos: 0, ..info.modified });
    let target = target(entry).map(|target| format!(" -> {target}")).unwrap_or_default();
    format!(
        "{time:<20} {} {:>8} {:>8} {size:>9} {name}{target}",
        mode(info.mode),
        owner(&info.user, info.uid),
        owner(&info.group, info.gid),
    )
}

/// Returns where a symbolic link leads.
pub(crate) fn target(entry: &Entry) -> Option<String> {
    entry.info.mode.is_symlink().then(|| shown(&entry.symlink_target))
}

/// Names the kind of an entry.
pub(crate) fn kind(mode: Mode) -> &'static str {
    match mode {
        mode if mode.is_dir() => "folder",
        mode if mode.is_symlink() => "link",
        mode if mode.is_regular() => "file",
        mode if mode.is_pipe() => "pipe",
        mode if mode.is_socket() => "socket",
        mode if mode.is_device() => "device",
        _ => "other",
    }
}

/// Formats a mode as `ls -l` does.
pub(crate) fn mode(mode: Mode) -> String {
    let first = match mode {
        mode if mode.is_dir() => 'd',
        mode if mode.is_symlink() => 'l',
        mode if mode.is_pipe() => 'p',
        mode if mode.is_socket() => 's',
        mode if mode.is_char_device() => 'c',
        mode if mode.is_device() => 'b',
        _ => '-',
    };
    let special = [(Mode::SETUID, 's', 'S'), (Mode::SETGID, 's', 'S'), (Mode::STICKY, 't', 'T')];
    let mut text = String::from(first);
    for (shift, (bit, with, without)) in [6, 3, 0].into_iter().zip(special) {
        let bits = mode.permissions() >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode.has(bit), bits & 1 != 0) {
            (true, true) => with,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_like_those_of_ls() {
        for (bits, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o041_777, "drwxrwxrwt"),
            (0o104_755, "-rwsr-xr-x"),
            (0o102_644, "-rw-r-Sr--"),
            (0o120_777, "lrwxrwxrwx"),
            (0o010_600, "prw-------"),
            (0o020_620, "crw--w----"),
            (0o060_660, "brw-rw----"),
        ] {
            assert_eq!(mode(Mode::from_unix(bits)), text);
        }
    }
}
