//! Keys and the paths they get in a snapshot's tree.
//!
//! A key is cut at its slashes; each segment becomes a name by the one injective rule of
//! [`format::path`](crate::format::path) (FORMAT.md, "Names of S3 objects").
//!
//! An object `a` beside a folder `a` (there is a key `a/b`) gets a marked name too, but only whoever has seen all
//! keys can know that: the names made here are the plain ones, and the build of the tree renames what collides.

use crate::base::RawString;
pub(super) use crate::format::path::key_path as path_of;
use crate::format::path::{VERSIONS_FOLDER, escape_key, escape_segment, unescape_segment};

/// Returns the path of a version that is not what stands at its key's path.
pub(super) fn version_path(key: &[u8], id: &[u8]) -> RawString {
    [b"/", VERSIONS_FOLDER.as_bytes(), b"/", &escape_key(key), b"/", &escape_segment(id, false)]
        .concat()
        .into()
}

/// Returns the key that a path relative to some root stands for, if `key` is an object's own key and ends in those
/// segments; so a key restored below another prefix, or a part of a snapshot, keeps its exact spelling.
pub(super) fn tail_of(key: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    let segments: Vec<&[u8]> = key.split(|&byte| byte == b'/').collect();
    let tail = &segments[segments.len().checked_sub(names.len())?..];
    let same = names.iter().zip(tail).all(|(name, segment)| is_name_of(name, segment));
    same.then(|| tail.join(&b'/'))
}

/// Returns whether a name is that of a segment.
fn is_name_of(name: &[u8], segment: &[u8]) -> bool {
    unescape_segment(name).is_some_and(|found| *found == *segment)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn documented_names() {
        let cases: [(&[u8], &[u8]); 10] = [
            (b"a/b.txt", b"/a/b.txt"),
            (b"a/", b"/a/%~"),
            (b"a//b", b"/a/%~/b"),
            (b"/a", b"/%~/a"),
            (b"./..", b"/%~%2E/%~%2E%2E"),
            (b"...", b"/..."),
            (b"a%b", b"/a%b"),
            (b"%~a%", b"/%~%25~a%25"),
            (b"a\0b.", b"/%~a%00b."),
            (b"/", b"/%~/%~"),
        ];
        for (key, path) in cases {
            assert_eq!(path_of(key).as_bytes(), path, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn the_key_comes_back_from_any_root() {
        assert_eq!(tail_of(b"p/a//b", b"a/%~/b").unwrap(), b"a//b");
        assert_eq!(tail_of(b"p/a/", b"p/a/%~").unwrap(), b"p/a/");
        assert_eq!(tail_of(b"a", b"%~a").unwrap(), b"a");
        assert_eq!(tail_of(b"a/", b"a/%~%~").unwrap(), b"a/");
        assert_eq!(tail_of(b"a", b"b"), None);
        assert_eq!(tail_of(b"a", b"x/a"), None);
    }

    proptest! {
        #[test]
        fn escaping_is_injective_and_clean(keys in proptest::collection::hash_set("[a.%~/2E\u{0}]{0,8}", 1..40)) {
            let paths: HashSet<RawString> = keys.iter().map(|key| path_of(key.as_bytes())).collect();
            prop_assert_eq!(paths.len(), keys.len());
            for key in &keys {
                let path = path_of(key.as_bytes());
                let names: Vec<&[u8]> = path[1..].split(|&byte| byte == b'/').collect();
                prop_assert!(names.iter().all(|n| !matches!(*n, b"" | b"." | b"..") && !n.contains(&0)));
                prop_assert_eq!(tail_of(key.as_bytes(), &path[1..]).unwrap(), key.as_bytes());
            }
        }
    }
}
