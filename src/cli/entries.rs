//! Entries as `ls`, `find` and `diff` show them.

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::dates;
use crate::base::{Printable, Timestamp};
use crate::format::entry::{Entry, Mode};
use crate::ui::{Colour, Output, OutputError, units};

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

/// Lines that are aligned with one another at most: a listing of millions is held in parts.
const ALIGNED: usize = 256;

/// Entries as `ls -l` shows them: time, mode, owner, group, size, name. Must be flushed at the end.
#[derive(Debug)]
pub(crate) struct LongLines<'a> {
    output: &'a Output,
    rows: Vec<([String; 5], String, Option<Colour>)>,
}

impl<'a> LongLines<'a> {
    /// Begins without lines.
    pub(crate) fn new(output: &'a Output) -> Self {
        Self { output, rows: Vec::new() }
    }

    /// Adds an entry under a name of the caller's, which is printable already.
    pub(crate) fn push(&mut self, entry: &Entry, name: &str) -> Result<(), OutputError> {
        let info = &entry.info;
        let owner = |name: &[u8], number: u64| if name.is_empty() { number.to_string() } else { shown(name) };
        let cells = [
            dates::rfc3339(Timestamp { nanos: 0, ..info.modified }),
            mode(info.mode),
            owner(&info.user, info.uid),
            owner(&info.group, info.gid),
            units::bytes(u64::try_from(info.size).unwrap_or(0)),
        ];
        let target = target(entry).map(|target| format!(" -> {target}")).unwrap_or_default();
        let colour = match info.mode {
            mode if mode.is_dir() => Some(Colour::Bold),
            mode if mode.is_symlink() => Some(Colour::Dim),
            _ => None,
        };
        self.rows.push((cells, format!("{name}{target}"), colour));
        if self.rows.len() == ALIGNED { self.flush() } else { Ok(()) }
    }

    /// Prints what was added.
    pub(crate) fn flush(&mut self) -> Result<(), OutputError> {
        let rows = std::mem::take(&mut self.rows);
        let widths: [usize; 5] =
            std::array::from_fn(|i| rows.iter().map(|(cells, ..)| cells[i].width()).max().unwrap_or(0));
        for (cells, name, colour) in rows {
            let mut line = String::new();
            for (i, cell) in cells.iter().enumerate() {
                let pad = " ".repeat(widths[i] - cell.width());
                // Sizes are numbers, the others text.
                let (before, after) = if i == 4 { (pad.as_str(), "") } else { ("", pad.as_str()) };
                line.extend([before, cell.as_str(), after, " "]);
            }
            // The name ends the line as it is, blanks at its end included.
            match colour {
                Some(colour) => {
                    let name = self.output.style().paint(colour, name);
                    self.output.line(format_args!("{line}{name}"))?;
                }
                None => self.output.line(format_args!("{line}{name}"))?,
            }
        }
        Ok(())
    }
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
    use crate::format::entry::FileInfo;
    use crate::ui::Loudness;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let output = Output::to(std::io::sink(), std::io::sink(), Loudness::Normal, false, false);
        let mut lines = LongLines::new(&output);
        let mut entry = Entry::new("/", FileInfo::new("a", Mode::regular(0o644)));
        (entry.info.user, entry.info.size) = ("somebody".into(), 5000);
        lines.push(&entry, "a").unwrap();
        assert_eq!(lines.rows[0].0[2..], ["somebody", "0", "4.88 KiB"]);
        (0..ALIGNED).for_each(|_| lines.push(&entry, "b").unwrap());
        assert_eq!(lines.rows.len(), 1, "a full part was printed");
        lines.flush().unwrap();
        assert!(lines.rows.is_empty());
    }

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
