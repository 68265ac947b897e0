//! Which parts of the file system were asked for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::base::{At, RawString};
use crate::connector::{Error, ErrorKind, Result};

/// A folder on the way to what was asked for, or a thing that was asked for.
///
/// Links on the way, and a link that was itself asked for, are followed: the snapshot has the folder under the
/// name that was given, and no entry below a link.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Whether everything below was asked for.
    pub(super) whole: bool,
    /// Otherwise: what was asked for below, by name.
    pub(super) children: BTreeMap<Vec<u8>, Selection>,
}

impl Selection {
    /// Builds the tree of several places, and returns it with the longest common ancestor that is a folder.
    pub(super) fn of(places: &[PathBuf]) -> Result<(Self, RawString)> {
        let mut selection = Self::default();
        let mut common: Option<PathBuf> = None;
        for place in places {
            let path = absolute(place)?;
            let is_folder = fs::symlink_metadata(&path).at("read", &path)?.is_dir() || path.is_dir();
            selection.add(&path);
            let folder = if is_folder { &*path } else { path.parent().unwrap_or(&path) };
            common = Some(match common {
                None => folder.to_owned(),
                Some(so_far) => shared(&so_far, folder),
            });
        }
        let root = common.ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "read", "the source").detail("no path was given")
        })?;
        Ok((selection, tree_path(&root)))
    }

    /// Returns whether a path was asked for, or lies on the way to one that was.
    pub(super) fn contains(&self, path: &[u8]) -> bool {
        let mut at = self;
        for name in path.split(|c| *c == b'/').filter(|name| !name.is_empty()) {
            match at.children.get(name) {
                Some(child) if !at.whole => at = child,
                _ => return false,
            }
        }
        true
    }

    fn add(&mut self, path: &Path) {
        let mut at = self;
        for name in path.components().filter_map(name_of) {
            if at.whole {
                return;
            }
            at = at.children.entry(name.to_vec()).or_default();
        }
        at.whole = true;
        at.children.clear();
    }
}

fn name_of(component: Component<'_>) -> Option<&[u8]> {
    match component {
        Component::Normal(name) => Some(name.as_encoded_bytes()),
        Component::Prefix(drive) => Some(drive.as_os_str().as_encoded_bytes()),
        _ => None,
    }
}

/// Returns a path as the snapshot's tree spells it: with slashes, a drive being a folder.
fn tree_path(path: &Path) -> RawString {
    let names: Vec<&[u8]> = path.components().filter_map(name_of).collect();
    [b"/".as_slice(), &names.join(&b'/')].concat().into()
}

fn shared(a: &Path, b: &Path) -> PathBuf {
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// Makes a path absolute without `.` and `..`; only a `..` makes it look at links.
#[cfg(unix)]
fn absolute(path: &Path) -> Result<PathBuf> {
    let joined = if path.is_absolute() {
        path.to_owned()
    } else {
        std::env::current_dir().at("find", path)?.join(path)
    };
    let mut clean = PathBuf::from("/");
    for component in joined.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean = clean.canonicalize().at("find", &clean)?;
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// Makes a path absolute. `..` is resolved by its spelling, as Windows does itself.
#[cfg(not(unix))]
fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path).at("find", path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dir: &Path, places: &[&str]) -> (Selection, String) {
        let places: Vec<_> = places.iter().map(|place| dir.join(place)).collect();
        let (selection, root) = Selection::of(&places).unwrap();
        let root = root.as_str().unwrap().strip_prefix(dir.to_str().unwrap()).unwrap().to_owned();
        (selection, root)
    }

    #[test]
    fn the_root_is_the_longest_common_folder() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("a/b/c")).unwrap();
        fs::create_dir_all(dir.join("a/bc")).unwrap();
        fs::write(dir.join("a/file"), "").unwrap();
        for (places, root) in [
            (&["a/b"][..], "/a/b"),
            (&["a/b", "a/b/c"], "/a/b"),
            (&["a/b/c", "a/b"], "/a/b"),
            (&["a/b", "a/bc"], "/a"),
            (&["a/file"], "/a"),
            (&["a/file", "a/b/c"], "/a"),
            (&["a/./b/../bc//"], "/a/bc"),
        ] {
            assert_eq!(of(&dir, places).1, root, "{places:?}");
        }
        assert_eq!(Selection::of(&[]).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(Selection::of(&[dir.join("none")]).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn what_is_on_the_way_is_contained_and_what_lies_below_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("a/b/c")).unwrap();
        let (selection, _) = of(&dir, &["a/b/c", "a/b"]);
        let contains = |path: &str| selection.contains(dir.join(path).as_os_str().as_encoded_bytes());
        assert!(contains("") && contains("a") && contains("a/b"));
        assert!(!contains("a/b/c") && !contains("b"));
    }
}
