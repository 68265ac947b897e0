//! What servers say of their files: the facts of MLSD and MLST, the lines of LIST.

use std::time::SystemTime;

use suppaftp::list::{ListParser, PosixPexQuery};

use super::session::{bytes, text};
use super::unix;
use crate::base::{RawString, Timestamp};
use crate::format::entry::{FileInfo, Mode};

/// One thing in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// Its metadata, the name included.
    pub(super) info: FileInfo,
    /// Whether the server told the permissions.
    pub(super) permissions: bool,
    /// Where a symbolic link leads.
    pub(super) target: Option<RawString>,
}

/// Reads a line of MLSD (RFC 3659, 7.2). `None` for the folder itself and its parent; an error where the line is none.
pub(super) fn facts(line: &[u8]) -> Result<Option<Line>, ()> {
    let (line, kind) = parse(line)?;
    Ok((kind == Of::Entry).then_some(line))
}

/// Reads the line of MLST. What was asked for may be called the listed folder, or its parent: Pure-FTPd says so of the
/// root.
pub(super) fn one(line: &[u8]) -> Result<Line, ()> {
    parse(line).map(|(line, _)| line)
}

/// What a line is about.
#[derive(PartialEq, Eq)]
enum Of {
    /// Something in the folder.
    Entry,
    /// The folder, or its parent.
    Folder,
}

fn parse(line: &[u8]) -> Result<(Line, Of), ()> {
    let line = line.strip_prefix(b" ").unwrap_or(line);
    // A space ends the facts; the name may hold anything.
    let at = line.iter().position(|byte| *byte == b' ').ok_or(())?;
    let (facts, name) = (&line[..at], &line[at + 1..]);
    let facts = std::str::from_utf8(facts).map_err(drop)?;
    let mut kind = None;
    let (mut mode, mut size, mut modified, mut uid, mut gid) = (None, 0, Timestamp::ZERO, 0, 0);
    let (mut user, mut group) = (RawString::new(), RawString::new());
    for fact in facts.split(';').filter(|fact| !fact.is_empty()) {
        let (fact, value) = fact.split_once('=').ok_or(())?;
        match fact.to_ascii_lowercase().as_str() {
            "type" => kind = Some(value),
            "size" | "sizd" => size = value.parse::<i64>().ok().filter(|size| *size >= 0).ok_or(())?,
            "modify" => modified = time(value).ok_or(())?,
            "unix.mode" => mode = u32::from_str_radix(value, 8).ok(),
            "unix.uid" => uid = value.parse().unwrap_or(0),
            "unix.gid" => gid = value.parse().unwrap_or(0),
            "unix.owner" | "unix.ownername" => user = value.into(),
            "unix.group" | "unix.groupname" => group = value.into(),
            _ => {}
        }
    }
    let kind = kind.ok_or(())?;
    let lower = kind.to_ascii_lowercase();
    let mut target = None;
    let bits = mode.unwrap_or(if lower.ends_with("dir") { 0o755 } else { 0o644 }) & 0o7777;
    let of = if matches!(lower.as_str(), "cdir" | "pdir") { Of::Folder } else { Of::Entry };
    let unix_type = match lower.as_str() {
        "dir" | "cdir" | "pdir" => 0o040_000,
        "file" => 0o100_000,
        other if other.starts_with("os.unix=s") && other.contains("link") => {
            // Some say that it is a link, and leave out where it leads.
            target =
                kind.split_once(':').map(|(_, target)| RawString::from(target)).filter(|t| !t.is_empty());
            0o120_000
        }
        // Devices and whatever else there is: shown, not read.
        _ => 0o170_000,
    };
    let info = FileInfo {
        size,
        modified,
        uid,
        gid,
        links: 1,
        user,
        group,
        ..FileInfo::new(name, Mode::from_unix(unix_type | bits))
    };
    Ok((Line { info, permissions: mode.is_some(), target }, of))
}

/// Reads `YYYYMMDDHHMMSS`, with a fraction or without, in UTC.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let digits = text.get(..14).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let part = |from: usize, to: usize| digits.get(from..to).and_then(|part| part.parse::<i8>().ok());
    let year = digits.get(..4)?.parse::<i16>().ok()?;
    // A leap second is the one before it here.
    let second = part(12, 14)?.min(59);
    let date =
        jiff::civil::DateTime::new(year, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, second, 0);
    let zoned = date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_secs(zoned.timestamp().as_second()))
}

/// Spells a time as `MFMT` takes it.
pub(super) fn spell(time: Timestamp) -> Option<String> {
    let time = jiff::Timestamp::from_second(time.secs).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y%m%d%H%M%S").to_string())
}

/// Reads a line of LIST, as Unix and as Windows servers write it. `None` for lines that describe nothing; an error
/// where a line is not understood.
pub(super) fn long_line(line: &[u8]) -> Result<Option<Line>, ()> {
    if line.is_empty() || line.starts_with(b"total ") {
        return Ok(None);
    }
    if let Some(line) = unix::line(line, jiff::Timestamp::now()) {
        return Ok((!matches!(&*line.info.name, b"." | b"..")).then_some(line));
    }
    let spelt = text(line);
    let file = ListParser::parse_posix(&spelt).or_else(|_| ListParser::parse_dos(&spelt)).map_err(drop)?;
    let name = bytes(file.name());
    if matches!(&name[..], b"." | b"..") {
        return Ok(None);
    }
    let is_posix = line.first().is_some_and(|byte| !byte.is_ascii_digit());
    let bit = |is: bool, bit: u32| if is { bit } else { 0 };
    let mut bits = 0;
    for (who, shift) in [(PosixPexQuery::Owner, 6), (PosixPexQuery::Group, 3), (PosixPexQuery::Others, 0)] {
        bits |= bit(file.can_read(who), 4 << shift);
        bits |= bit(file.can_write(who), 2 << shift);
        bits |= bit(file.can_execute(who), 1 << shift);
    }
    if !is_posix {
        bits = if file.is_directory() { 0o755 } else { 0o644 };
    }
    let unix_type = if file.is_directory() {
        0o040_000
    } else if file.is_symlink() {
        0o120_000
    } else {
        0o100_000
    };
    let mut words = spelt.split_whitespace().skip(2);
    let mut owner = || RawString::from(bytes(words.next().filter(|_| is_posix).unwrap_or("")));
    let is_name = |name: &RawString| !name.iter().all(u8::is_ascii_digit);
    let (user, group) = (owner(), owner());
    let modified = file.modified();
    let info = FileInfo {
        size: i64::try_from(file.size()).map_err(drop)?,
        modified: if modified == SystemTime::UNIX_EPOCH { Timestamp::ZERO } else { modified.into() },
        uid: u64::from(file.uid().unwrap_or(0)),
        gid: u64::from(file.gid().unwrap_or(0)),
        links: 1,
        user: Some(user).filter(is_name).unwrap_or_default(),
        group: Some(group).filter(is_name).unwrap_or_default(),
        ..FileInfo::new(name, Mode::from_unix(unix_type | bits))
    };
    let target = file.symlink().map(|target| RawString::from(bytes(&target.to_string_lossy())));
    Ok(Some(Line { info, permissions: is_posix, target }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_facts(line: &str) -> Line {
        facts(line.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn facts_are_read() {
        let line = of_facts(
            "type=file;size=42;modify=20200102030405.678;UNIX.mode=0640;UNIX.uid=7;UNIX.gid=8;  a b; c",
        );
        assert_eq!((line.info.name.as_bytes(), line.info.size), (&b" a b; c"[..], 42));
        assert_eq!((line.info.mode, line.info.uid, line.info.gid), (Mode::regular(0o640), 7, 8));
        assert_eq!((line.info.modified, line.permissions), (Timestamp::from_secs(1_577_934_245), true));
        let folder = of_facts("Type=dir;Modify=19700101000001; \u{e9}");
        assert_eq!((folder.info.mode, folder.permissions), (Mode::dir(0o755), false));
        let link = of_facts("type=OS.unix=slink:/x;unix.mode=0777; l");
        assert!(link.info.mode.is_symlink() && link.target == Some("/x".into()));
        for line in ["type=cdir; .", "type=pdir; ..", " Type=pdir;unix.mode=0755; /"] {
            assert_eq!(facts(line.as_bytes()), Ok(None));
            assert_eq!(one(line.as_bytes()).unwrap().info.mode, Mode::dir(0o755));
        }
        let link = of_facts("type=OS.unix=slink:;size=7; l");
        assert!(link.info.mode.is_symlink() && link.target.is_none());
        assert_eq!(spell(Timestamp::from_secs(1_577_934_245)).unwrap(), "20200102030405");
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "",
            "x",
            "size=1; x",
            "type=file;size=-1; x",
            "type=file;size=99999999999999999999; x",
            "type=file;modify=2020; x",
            "type=file;modify=20209902030405; x",
            "type; x",
            "\u{0}\u{ff}",
        ] {
            assert_eq!(facts(line.as_bytes()), Err(()), "{line}");
        }
        for line in ["x", "drwx", "-rw-r--r-- 1 0 0 x Jan 1 2020 x"] {
            assert_eq!(long_line(line.as_bytes()), Err(()), "{line}");
        }
    }

    #[test]
    fn long_lines_are_read() {
        let line = |text: &str| long_line(text.as_bytes()).unwrap().unwrap();
        let file = line("-rw-r-----    1 1000     users          42 Jan 02  2020 a b.txt");
        assert_eq!((file.info.name.as_bytes(), file.info.size), (&b"a b.txt"[..], 42));
        assert_eq!((file.info.mode, file.info.uid), (Mode::regular(0o640), 1000));
        assert_eq!((&*file.info.user, &*file.info.group), (&b""[..], &b"users"[..]));
        assert!(line("drwxr-xr-x    2 ftp      ftp          4096 Jan 02  2020 d").info.mode.is_dir());
        let link = line("lrwxrwxrwx    1 0        0               3 Jan 02  2020 l -> a/b");
        assert_eq!((link.info.name.as_bytes(), link.target), (&b"l"[..], Some("a/b".into())));
        let windows = line("04-27-20  09:09AM       <DIR>          data");
        assert!(windows.info.mode.is_dir() && !windows.permissions);
        assert_eq!(long_line(b"total 3"), Ok(None));
        let odd = long_line(b"-rw-r--r--    1 0 0 1 Jan 02  2020 \xff\xe9").unwrap().unwrap();
        assert_eq!(odd.info.name.as_bytes(), b"\xff\xe9");
    }
}
