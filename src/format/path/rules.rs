//! Joining, checking and comparing paths.

use std::cmp::Ordering;

use crate::base::RawString;
use crate::format::entry::Entry;
use crate::format::error::{Error, Result};

/// Joins a folder's path and a name: `/` and `a` give `/a`.
pub fn join(parent: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> RawString {
    let (parent, name) = (parent.as_ref(), name.as_ref());
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    if parent != b"/" {
        path.extend_from_slice(parent);
    }
    path.push(b'/');
    path.extend_from_slice(name);
    path.into()
}

/// Returns where the last component begins, and the slash before it.
fn last_slash(path: &[u8]) -> Option<usize> {
    path.iter().rposition(|&byte| byte == b'/')
}

/// Returns the path of the folder that holds `path`: `/` for `/a` and for `/` itself.
pub fn parent(path: &[u8]) -> &[u8] {
    match last_slash(path) {
        Some(0) => &path[..1],
        Some(at) => &path[..at],
        None => b"",
    }
}

/// Returns the last component of a path; `/` for the root.
pub fn name(path: &[u8]) -> &[u8] {
    match last_slash(path) {
        _ if path == b"/" => path,
        Some(at) => &path[at + 1..],
        None => path,
    }
}

/// Counts the slashes of a path: 1 for `/` and for `/a`, 2 for `/a/b`.
pub fn depth(path: &[u8]) -> usize {
    path.iter().map(|&byte| usize::from(byte == b'/')).sum()
}

/// Compares two keys of a tree in byte order: the errors and all index trees.
pub fn compare_bytes(a: &[u8], b: &[u8]) -> Ordering {
    a.cmp(b)
}

/// Compares two keys of a tree in path order: by depth, then by bytes. The file system tree and the tree of
/// extended attributes are in this order.
pub fn compare_path_order(a: &[u8], b: &[u8]) -> Ordering {
    depth(a).cmp(&depth(b)).then_with(|| a.cmp(b))
}

/// Checks one name below a folder: not empty, not `.` or `..`, no slash, no NUL.
pub fn check_name(name: &[u8]) -> Result<()> {
    let fault = match name {
        b"" => "an empty name",
        b"." | b".." => "a name of dots",
        _ if name.contains(&b'/') => "a slash in a name",
        _ if name.contains(&0) => "a NUL in a name",
        _ => return Ok(()),
    };
    Err(Error::malformed("path", format!("{fault}: \"{}\"", name.escape_ascii())))
}

/// Returns whether a path is absolute and clean: `/`, or components that each are a valid name.
pub fn is_clean(path: &[u8]) -> bool {
    match path.split_first() {
        Some((b'/', [])) => true,
        Some((b'/', rest)) => rest.split(|&byte| byte == b'/').all(|name| check_name(name).is_ok()),
        _ => false,
    }
}

/// Checks the name and the parent of an entry. No name from a snapshot may be used before this.
pub fn check_entry(entry: &Entry) -> Result<()> {
    if entry.is_root() {
        return Ok(());
    }
    check_name(&entry.info.name)?;
    if is_clean(&entry.parent) {
        Ok(())
    } else {
        let detail = format!("a parent that is not a clean path: \"{}\"", entry.parent.escape_ascii());
        Err(Error::malformed("path", detail))
    }
}

/// Checks an entry read from the dirpack of `folder`, which must be a clean path: its parent is that folder, and
/// it is not the root.
pub fn check_child(entry: &Entry, folder: &[u8]) -> Result<()> {
    check_name(&entry.info.name)?;
    if entry.parent.as_bytes() == folder {
        Ok(())
    } else {
        let (parent, folder) = (entry.parent.escape_ascii(), folder.escape_ascii());
        Err(Error::malformed("path", format!("an entry of \"{parent}\" in the folder \"{folder}\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{FileInfo, Mode};

    #[test]
    fn joining_and_splitting() {
        for (folder, last, path) in [("/", "a", "/a"), ("/a", "b", "/a/b"), ("/a/b", "c d", "/a/b/c d")] {
            assert_eq!(join(folder, last), path);
            assert_eq!(parent(path.as_bytes()), folder.as_bytes());
            assert_eq!(name(path.as_bytes()), last.as_bytes());
        }
        assert_eq!((parent(b"/"), name(b"/")), (&b"/"[..], &b"/"[..]));
    }

    #[test]
    fn the_two_orders() {
        let mut keys = ["/old", "/dir/empty", "/", "/hello.txt", "/dir", "/link"];
        keys.sort_by(|a, b| compare_path_order(a.as_bytes(), b.as_bytes()));
        assert_eq!(keys, ["/", "/dir", "/hello.txt", "/link", "/old", "/dir/empty"]);
        assert_eq!(compare_bytes(b"/a/b", b"/b"), Ordering::Less);
        assert_eq!(compare_path_order(b"/a/b", b"/b"), Ordering::Greater);
        assert_eq!(compare_path_order(b"/\xff", b"/a"), Ordering::Greater);
    }

    #[test]
    fn names_and_parents_are_checked() {
        let entry = |parent: &str, name: &str| Entry::new(parent, FileInfo::new(name, Mode(0)));
        for (parent, name) in
            [("/", "/"), ("", "/"), ("/", "a"), ("/a/b", "c"), ("/C:/Users", "x\n"), ("/", "..a")]
        {
            check_entry(&entry(parent, name)).unwrap();
        }
        for (parent, name) in [
            ("/", ""),
            ("/", "."),
            ("/", ".."),
            ("/", "a/b"),
            ("/", "a\0"),
            ("", "a"),
            ("a", "b"),
            ("/a/", "b"),
            ("//a", "b"),
            ("/a/../b", "c"),
            ("/a/./b", "c"),
            ("/a\0b", "c"),
            ("/a", "/"),
        ] {
            assert!(check_entry(&entry(parent, name)).is_err(), "{parent:?} {name:?}");
        }
        check_child(&entry("/a", "b"), b"/a").unwrap();
        assert!(check_child(&entry("/a", "b"), b"/").is_err());
        assert!(check_child(&entry("/", "/"), b"/").is_err());
    }
}
