//! Objects of a bucket that were files once: their mode, owner and time stand in their user metadata.

use std::borrow::Cow;

use crate::base::Timestamp;
use crate::format::entry::{Entry, Mode};

/// Returns an entry as the file that an object says it was, and whether set-id bits are missing: `mtime`, `mode`,
/// `uid` and `gid` of its user metadata, in rclone's spelling. Whoever may write to the bucket chose them, so they
/// give away no set-id bit. An entry that came from a file system (its link count tells) knows better already.
pub(super) fn as_file(entry: &Entry) -> (Cow<'_, Entry>, bool) {
    if entry.info.links != 0 || entry.metadata("s3.key").is_none() {
        return (Cow::Borrowed(entry), false);
    }
    let text = |name: &str| {
        let value = entry.metadata(format!("s3.meta.{name}"))?;
        std::str::from_utf8(value).ok().map(str::trim)
    };
    let mode = text("mode").and_then(|text| u32::from_str_radix(text, 8).ok());
    let mode = mode.filter(|mode| matches!(mode & 0o170_000, 0 | 0o100_000));
    let number = |name| text(name).and_then(|text| text.parse::<u32>().ok());
    let (time, uid, gid) = (text("mtime").and_then(time_of), number("uid"), number("gid"));
    if mode.is_none() && time.is_none() && uid.is_none() && gid.is_none() {
        return (Cow::Borrowed(entry), false);
    }
    let mut out = entry.clone();
    if let Some(mode) = mode {
        out.info.mode = Mode::regular(mode);
    }
    if let Some(time) = time {
        out.info.modified = time;
    }
    if let (Some(uid), Some(gid)) = (uid, gid) {
        (out.info.uid, out.info.gid) = (u64::from(uid), u64::from(gid));
    }
    (Cow::Owned(out), mode.is_some_and(|mode| mode & 0o6000 != 0))
}

/// Reads seconds since 1970 with a fraction of any length.
fn time_of(text: &str) -> Option<Timestamp> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|c| c.is_ascii_digit()) {
        return None;
    }
    let secs: i64 = whole.parse().ok()?;
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, nanos) => Timestamp { secs, nanos },
        (true, 0) => Timestamp { secs: -secs, nanos: 0 },
        // Before 1970 the fraction counts towards the epoch in decimal, and away from it in a time.
        (true, nanos) => Timestamp { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{CustomMetadata, FileInfo};

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, secs, nanos) in [
            ("1700000000.123456789", 1_700_000_000, 123_456_789),
            ("1700000000", 1_700_000_000, 0),
            ("-1.5", -2, 500_000_000),
            ("-3", -3, 0),
            ("0.0000000019", 0, 1),
        ] {
            assert_eq!(time_of(text), Some(Timestamp { secs, nanos }), "{text}");
        }
        for text in ["", "-", "1.x", "1e3", ".5", "99999999999999999999", "2026-01-01T00:00:00Z"] {
            assert_eq!(time_of(text), None, "{text}");
        }
    }

    #[test]
    fn only_objects_are_described_and_no_set_id_bit_is_given() {
        let mut entry = Entry::new("/", FileInfo::new("x", Mode::regular(0o700)));
        let add = |entry: &mut Entry, key: &str, value: &str| {
            entry.metadata.push(CustomMetadata { key: key.into(), value: value.into() });
        };
        add(&mut entry, "s3.meta.mode", "104751");
        add(&mut entry, "s3.meta.uid", "7");
        add(&mut entry, "s3.meta.gid", "8");
        assert!(matches!(as_file(&entry), (Cow::Borrowed(_), false)), "not from a bucket");
        add(&mut entry, "s3.key", "x");
        let (file, missing) = as_file(&entry);
        assert_eq!(
            (file.info.mode, file.info.uid, file.info.gid, missing),
            (Mode::regular(0o751), 7, 8, true)
        );
        entry.info.links = 1;
        assert!(matches!(as_file(&entry), (Cow::Borrowed(_), false)), "a file knows better");
    }
}
