//! Segments of S3 keys as names, and back.
//!
//! A segment is its own name, unless that would be no name (empty, `.`, `..`, a NUL in it), would be read as an
//! escaped one (it begins with `%~`), or is taken by a folder. Then the name is `%~` followed by the segment, with
//! `%`, NUL, and the dots of `.` and `..` percent-encoded. The rule is injective: a name that begins with `%~` comes
//! from exactly one segment, any other name from itself.

use std::borrow::Cow;

use crate::base::RawString;

/// What an escaped name begins with.
const MARK: &[u8] = b"%~";

/// Returns whether a segment cannot be its own name, collisions apart.
pub fn needs_escape(segment: &[u8]) -> bool {
    matches!(segment, b"" | b"." | b"..") || segment.starts_with(MARK) || segment.contains(&0)
}

/// Returns the name of a segment. `collides` says that a folder of that name stands beside it (an object `a` beside
/// objects below `a/`); it is never set for a segment that is a folder itself.
pub fn escape_segment(segment: &[u8], collides: bool) -> RawString {
    if !collides && !needs_escape(segment) {
        return segment.into();
    }
    let dots = matches!(segment, b"." | b"..");
    let mut name = MARK.to_vec();
    for &byte in segment {
        match byte {
            b'%' => name.extend_from_slice(b"%25"),
            0 => name.extend_from_slice(b"%00"),
            b'.' if dots => name.extend_from_slice(b"%2E"),
            _ => name.push(byte),
        }
    }
    name.into()
}

/// Returns the segment that a name stands for; `None` when what follows `%~` is not what escaping produces.
pub fn unescape_segment(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(mut rest) = name.strip_prefix(MARK) else { return Some(Cow::Borrowed(name)) };
    let mut segment = Vec::with_capacity(rest.len());
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            segment.push(byte);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_first_chunk::<2>()?;
        segment.push(match digits {
            b"25" => b'%',
            b"00" => 0,
            b"2E" => b'.',
            _ => return None,
        });
        rest = tail;
    }
    // Only the canonical spelling counts, so that two names never mean one key.
    (escape_segment(&segment, true).as_bytes() == name).then_some(Cow::Owned(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_become_names() {
        for (segment, collides, name) in [
            (&b"a"[..], false, &b"a"[..]),
            (b"a", true, b"%~a"),
            (b"", false, b"%~"),
            (b".", false, b"%~%2E"),
            (b"..", false, b"%~%2E%2E"),
            (b"...", false, b"..."),
            (b".", true, b"%~%2E"),
            (b"a.b", true, b"%~a.b"),
            (b"%", false, b"%"),
            (b"%", true, b"%~%25"),
            (b"%~x", false, b"%~%25~x"),
            (b"a\0%", false, b"%~a%00%25"),
            (b"\xff", false, b"\xff"),
        ] {
            assert_eq!(escape_segment(segment, collides).as_bytes(), name);
            assert_eq!(unescape_segment(name).unwrap(), segment);
        }
    }

    #[test]
    fn only_the_canonical_spelling_is_read() {
        for name in ["%~%", "%~%2", "%~%41", "%~%2e", "%~a%2E", "%~%2E%2E%2E"] {
            assert_eq!(unescape_segment(name.as_bytes()), None, "{name}");
        }
    }
}
