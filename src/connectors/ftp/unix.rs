//! Lines of LIST as Unix servers write them, like `ls -l`: no standard says so, and nearly all do.

use super::listing::Line;
use crate::base::{RawString, Timestamp};
use crate::format::entry::{FileInfo, Mode};

/// How far a time without a year may lie ahead of this machine's: clocks differ, and nobody says in which zone it is.
const AHEAD: i64 = 2 * 86_400;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Reads a line: type and permissions, links, owner, group, size, month, day, time or year, then one space and the
/// name, which may begin and end with spaces. `None` where it is no such line.
pub(super) fn line(line: &[u8], now: jiff::Timestamp) -> Option<Line> {
    let mut rest = line;
    let mut field = || {
        let from = rest.iter().position(|byte| *byte != b' ')?;
        let trimmed = &rest[from..];
        let end = trimmed.iter().position(|byte| *byte == b' ')?;
        rest = &trimmed[end..];
        Some(&trimmed[..end])
    };
    let mode = mode(field()?)?;
    number(field()?)?;
    let (owner, group) = (field()?, field()?);
    let size = i64::try_from(number(field()?)?).ok()?;
    let (month, day, clock) = (field()?, field()?, field()?);
    let modified = time(month, day, clock, now)?;
    let name = rest.strip_prefix(b" ").filter(|name| !name.is_empty())?;
    let (name, target) = if mode.is_symlink() { split_link(name, size) } else { (name, None) };
    let (uid, user) = id_or_name(owner);
    let (gid, group) = id_or_name(group);
    // How many names a file has is of no use where nobody tells which ones.
    let info = FileInfo { size, modified, uid, gid, user, group, links: 1, ..FileInfo::new(name, mode) };
    Some(Line { info, permissions: true, target })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()
}

fn id_or_name(field: &[u8]) -> (u64, RawString) {
    number(field).map_or_else(|| (0, RawString::from(field)), |id| (id, RawString::new()))
}

/// Reads `-rwxr-x--T` and the like; a mark of further permissions may follow.
fn mode(field: &[u8]) -> Option<Mode> {
    let (kind, rest) = field.split_first()?;
    let bits: &[u8; 9] = rest.first_chunk()?;
    if !matches!(&rest[9..], b"" | b"+" | b"." | b"@") {
        return None;
    }
    let unix_type = match kind {
        b'-' => 0o100_000,
        b'd' => 0o040_000,
        b'l' => 0o120_000,
        b'p' => 0o010_000,
        b's' => 0o140_000,
        b'b' => 0o060_000,
        b'c' => 0o020_000,
        _ => return None,
    };
    let mut mode = 0;
    for (at, byte) in bits.iter().enumerate() {
        let bit = 0o400 >> at;
        let special = [0o4000, 0o2000, 0o1000][at / 3];
        mode |= match (at % 3, byte) {
            (_, b'-') => 0,
            (0, b'r') | (1, b'w') | (2, b'x') => bit,
            (2, b's') if at < 8 => bit | special,
            (2, b'S') if at < 8 => special,
            (2, b't') if at == 8 => bit | special,
            (2, b'T') if at == 8 => special,
            _ => return None,
        };
    }
    Some(Mode::from_unix(unix_type | mode))
}

/// Reads `Nov 21 10:39`, of this year or the last one, or `Nov 21 2019`.
fn time(month: &[u8], day: &[u8], clock: &[u8], now: jiff::Timestamp) -> Option<Timestamp> {
    let month = std::str::from_utf8(month).ok()?.to_ascii_lowercase();
    let month = i8::try_from(MONTHS.iter().position(|name| *name == month)? + 1).ok()?;
    let day = i8::try_from(number(day)?).ok()?;
    let at = |year: i16, hour: i8, minute: i8| {
        let date = jiff::civil::DateTime::new(year, month, day, hour, minute, 0, 0).ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
    };
    let Some(colon) = clock.iter().position(|byte| *byte == b':') else {
        return at(i16::try_from(number(clock)?).ok()?, 0, 0).map(Timestamp::from_secs);
    };
    let hour = i8::try_from(number(&clock[..colon])?).ok()?;
    let minute = i8::try_from(number(&clock[colon + 1..])?).ok()?;
    let this = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    // The 29th of February may be eight years ago.
    let years = (0..=8).filter_map(|ago| at(this - ago, hour, minute));
    years.into_iter().find(|time| *time <= now.as_second() + AHEAD).map(Timestamp::from_secs)
}

/// Takes a link's name from where it leads. Either may hold an arrow: the length of the second is the link's size.
fn split_link(name: &[u8], size: i64) -> (&[u8], Option<RawString>) {
    const ARROW: &[u8] = b" -> ";
    let mut arrows =
        name.windows(ARROW.len()).enumerate().filter(|(_, part)| *part == ARROW).map(|(at, _)| at);
    let fits = |at: &usize| i64::try_from(name.len() - at - ARROW.len()) == Ok(size);
    let first = arrows.clone().next();
    match arrows.find(fits).or(first) {
        Some(at) => (
            &name[..at],
            Some(RawString::from(&name[at + ARROW.len()..])).filter(|target| !target.is_empty()),
        ),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noon of the 3rd of January 2026.
    fn now() -> jiff::Timestamp {
        "2026-01-03T12:00:00Z".parse().unwrap()
    }

    fn read(text: &str) -> Line {
        line(text.as_bytes(), now()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn names_keep_their_spaces() {
        for name in [" lead", "trail ", "a  b", " ", "Jan 02 2020 x", "a -> b"] {
            let line = read(&format!("-rw-r--r--    1 1000     users          42 Jan 02  2020 {name}"));
            assert_eq!((&*line.info.name, line.target), (name.as_bytes(), None));
        }
        let odd = line(b"-rw-r--r--    1 0 0 1 Jan 02  2020 \xff\xe9", now()).unwrap();
        assert_eq!(&*odd.info.name, b"\xff\xe9");
    }

    #[test]
    fn links_are_cut_where_their_size_says() {
        for (text, size, name, target) in [
            ("l -> a/b", 3, "l", "a/b"),
            ("l -> m -> x", 1, "l -> m", "x"),
            ("l -> m -> x", 6, "l", "m -> x"),
        ] {
            let line = read(&format!("lrwxrwxrwx 1 0 0 {size} Jan 02  2020 {text}"));
            assert_eq!((&*line.info.name, line.target), (name.as_bytes(), Some(target.into())), "{text}");
        }
        assert_eq!(read("lrwxrwxrwx 1 0 0 3 Jan 02  2020 l").target, None);
    }

    #[test]
    fn times_without_a_year_are_past() {
        for (said, meant) in [
            ("Jan 03 11:59", "2026-01-03T11:59:00Z"),
            // A zone ahead of ours, or a clock.
            ("Jan 04 23:00", "2026-01-04T23:00:00Z"),
            ("Dec 31 23:59", "2025-12-31T23:59:00Z"),
            ("Jun 30 00:00", "2025-06-30T00:00:00Z"),
            ("Feb 29 10:00", "2024-02-29T10:00:00Z"),
            ("Feb 29  2020", "2020-02-29T00:00:00Z"),
        ] {
            let meant: jiff::Timestamp = meant.parse().unwrap();
            let line = read(&format!("-rw-r--r-- 1 0 0 1 {said} x"));
            assert_eq!(line.info.modified.secs, meant.as_second(), "{said}");
        }
    }

    #[test]
    fn modes_and_types() {
        for (said, mode) in [
            ("-rwsr-Sr-T", 0o107_744),
            ("drwxrwxrwt", 0o041_777),
            ("prw-r--r--", 0o010_644),
            ("crw-rw----+", 0o020_660),
        ] {
            let line = read(&format!("{said} 1 0 0 1 Jan 02  2020 x"));
            assert_eq!(line.info.mode, Mode::from_unix(mode), "{said}");
        }
        for nonsense in [
            "",
            "-rw-r--r--",
            "drwx 1 0 0 1 Jan 02 2020 x",
            "-rw-r--r-- 1 0 0 x Jan 02 2020 x",
            "-rw-r--r-- 1 0 0 1 Foo 02 2020 x",
            "-rw-r--r-- 1 0 0 1 Jan 02 2020 ",
            "-rw-r--r-- 1 0 0 1 Jan 32 2020 x",
            "-rw-r--r-- 1 0 0 99999999999999999999 Jan 02 2020 x",
            "04-27-20  09:09AM       <DIR>          data",
        ] {
            assert!(line(nonsense.as_bytes(), now()).is_none(), "{nonsense}");
        }
    }
}
