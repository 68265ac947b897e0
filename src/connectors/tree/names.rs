//! Names and paths on a server.

use percent_encoding::percent_decode_str;

/// The most names in one folder: a listing without an end must end somewhere.
pub(in crate::connectors) const MOST_NAMES: usize = 4_000_000;
/// The most bytes of one listing: that of names by SFTP, that of lines by FTP.
pub(in crate::connectors) const MOST_BYTES: usize = 256 << 20;
/// The longest name, in bytes. File systems have at most 4032, and most have 255.
const LONGEST_NAME: usize = 4 << 10;
/// The longest path that is followed, in bytes.
const LONGEST: usize = 32 << 10;

/// Reads a URL's path: percent-encoding undone, empty and `.` parts left out. One that begins with `/~/` is relative
/// to the folder after the login (the home folder), and so has no slash in front.
pub(in crate::connectors) fn url_path(path: &str) -> Result<Vec<u8>, &'static str> {
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    let (home, rest) = match decoded.strip_prefix(b"/~") {
        Some(rest) if rest.is_empty() || rest[0] == b'/' => (true, rest),
        _ => (false, &decoded[..]),
    };
    let parts: Vec<&[u8]> =
        rest.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err("the path must not hold '..'");
    }
    let joined = parts.join(&b'/');
    Ok(if home { joined } else { [b"/", &joined[..]].concat() })
}

/// Says why a name cannot be one of something in a folder.
pub(super) fn fault(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("an empty name"),
        b"." | b".." => Some("a name that leads out of the folder"),
        _ if name.contains(&b'/') => Some("a name with a slash"),
        _ if name.len() > LONGEST_NAME => Some("a name that is too long"),
        _ if name.contains(&0) => Some("a name with a NUL"),
        _ => None,
    }
}

/// Says why a path below a root cannot be used on a Windows server: there it leads elsewhere, or to another name.
pub(in crate::connectors) fn fault_on_windows(below: &[u8]) -> Option<&'static str> {
    if below.contains(&b'\\') {
        return Some("the server's system takes a backslash for a slash");
    }
    if below.contains(&b':') {
        return Some("the server's system has no names with a colon");
    }
    let cut = |name: &[u8]| matches!(name.last(), Some(b'.' | b' '));
    below.split(|byte| *byte == b'/').any(cut).then_some("the server's system has no names that end so")
}

/// Returns whether a path is longer than any that is followed.
pub(super) fn is_too_long(path: &[u8]) -> bool {
    path.len() > LONGEST
}

/// Returns the path of a name in a folder.
pub(in crate::connectors) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if folder.ends_with(b"/") || folder.is_empty() { b"" } else { b"/" };
    [folder, slash, name].concat()
}

/// Splits a path into its folder and its name. The folder of what lies in the root is `/`, of a name alone empty.
pub(in crate::connectors) fn parent(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_together_and_taken_apart() {
        for (folder, name, path) in
            [("/", "a", "/a"), ("/a", "b", "/a/b"), ("", "a", "a"), ("a/b", "c", "a/b/c")]
        {
            assert_eq!(join(folder.as_bytes(), name.as_bytes()), path.as_bytes());
            assert_eq!(parent(path.as_bytes()), (folder.as_bytes(), name.as_bytes()));
        }
    }

    #[test]
    fn windows_has_fewer_names() {
        for path in ["a\\b", "..\\x", "a/b:c", "a/.. /b", "a/b.", "..."] {
            assert!(fault_on_windows(path.as_bytes()).is_some(), "{path}");
        }
        for path in ["", "/a/b", "a.b/c d", ".x", "ü"] {
            assert!(fault_on_windows(path.as_bytes()).is_none(), "{path}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_at_fault() {
        assert!(fault(&[b'x'; LONGEST_NAME + 1]).is_some());
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
            assert!(fault(name).is_some());
        }
        for name in [&b"..."[..], b"\xff", b"a\nb", b" "] {
            assert!(fault(name).is_none());
        }
    }
}
