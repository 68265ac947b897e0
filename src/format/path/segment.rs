//! Segments of S3 keys as names, and back.
//!
//! A segment is its own name, unless that would be no name (empty, `.`, `..`, a NUL in it), would be read as an
//! escaped one (it begins with `%~`), or is taken by a folder. Then the name is `%~` followed by the segment, with
//! `%`, NUL, and the dots of `.` and `..` percent-encoded; where that is taken by a folder too, another `%~` stands in
//! front. The rule is injective: a name that begins with `%~` comes from exactly one segment, any other name from
//! itself. What is left over, `%~` and a `%` that begins none of these, names the folder of old versions.

use std::borrow::Cow;

use crate::base::RawString;

/// What an escaped name begins with.
const MARK: &[u8] = b"%~";

/// The folder at the top of the tree that holds old versions of objects; no segment has this name.
pub const VERSIONS_FOLDER: &str = "%~%versions";

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
    let name = encode(segment, matches!(segment, b"." | b".."));
    if collides && needs_escape(segment) { marked(&name) } else { name }
}

/// Returns the name that a file gets because a folder has its name (which may be an escaped one).
pub fn escape_collision(name: &[u8]) -> RawString {
    if name.starts_with(MARK) { marked(name) } else { escape_segment(name, true) }
}

fn marked(name: &[u8]) -> RawString {
    [MARK, name].concat().into()
}

/// Returns the absolute path of a key, as it is while nothing collides with it.
pub fn key_path(key: &[u8]) -> RawString {
    let mut path = Vec::with_capacity(key.len() + 2);
    for segment in key.split(|&byte| byte == b'/') {
        path.push(b'/');
        path.extend_from_slice(&escape_segment(segment, false));
    }
    path.into()
}

/// Returns the name of the folder that holds the old versions of one key, below [`VERSIONS_FOLDER`].
pub fn escape_key(key: &[u8]) -> RawString {
    encode(key, false)
}

fn encode(bytes: &[u8], dots: bool) -> RawString {
    let mut name = MARK.to_vec();
    for &byte in bytes {
        match byte {
            b'%' => name.extend_from_slice(b"%25"),
            0 => name.extend_from_slice(b"%00"),
            b'/' => name.extend_from_slice(b"%2F"),
            b'.' if dots => name.extend_from_slice(b"%2E"),
            _ => name.push(byte),
        }
    }
    name.into()
}

/// Returns the segment that a name stands for; `None` when what follows `%~` is not what escaping produces.
pub fn unescape_segment(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(rest) = name.strip_prefix(MARK) else { return Some(Cow::Borrowed(name)) };
    if rest.starts_with(MARK) {
        // A file whose escaped name is that of a folder.
        return unescape_segment(rest).filter(|segment| escape_segment(segment, false).as_bytes() == rest);
    }
    let segment = decode(rest)?;
    // Only the canonical spelling counts, so that two names never mean one key.
    let collides = !needs_escape(&segment);
    (!segment.contains(&b'/') && escape_segment(&segment, collides).as_bytes() == name)
        .then_some(Cow::Owned(segment))
}

/// Returns the key whose old versions a folder below [`VERSIONS_FOLDER`] holds.
pub fn unescape_key(name: &[u8]) -> Option<Vec<u8>> {
    let key = decode(name.strip_prefix(MARK)?)?;
    (escape_key(&key).as_bytes() == name).then_some(key)
}

fn decode(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_first_chunk::<2>()?;
        bytes.push(match digits {
            b"25" => b'%',
            b"00" => 0,
            b"2F" => b'/',
            b"2E" => b'.',
            _ => return None,
        });
        rest = tail;
    }
    Some(bytes)
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
            (b".", true, b"%~%~%2E"),
            (b"", true, b"%~%~"),
            (b"%~x", true, b"%~%~%25~x"),
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
        for name in [
            "%~%~a",
            "%~%~%~",
            "%~%",
            "%~%2",
            "%~%41",
            "%~%2e",
            "%~a%2E",
            "%~%2E%2E%2E",
            "%~a%2Fb",
            VERSIONS_FOLDER,
        ] {
            assert_eq!(unescape_segment(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn keys_become_folders_of_versions() {
        for (key, name) in [(&b"a/b"[..], &b"%~a%2Fb"[..]), (b"", b"%~"), (b"../%\0", b"%~..%2F%25%00")] {
            assert_eq!(escape_key(key).as_bytes(), name);
            assert_eq!(unescape_key(name).unwrap(), key);
        }
        for name in ["a", "%~%2E", "%~%2f", VERSIONS_FOLDER] {
            assert_eq!(unescape_key(name.as_bytes()), None, "{name}");
        }
    }
}
