//! Renaming where answers get lost and where servers do not replace: nothing is deleted before the new file has its
//! name.

use super::export::{Standing, Target};
use super::names::{join, parent};
use crate::base::Printable;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::place::random_digits;

/// How much of a name the one it is put aside under repeats, in bytes: names may be 255 bytes long.
const REPEATED: usize = 200;

/// What became of a rename: the error, and whether it may have been done all the same, because a connection was lost.
pub(in crate::connectors) type Attempt = Result<(), (Error, bool)>;

/// What renaming takes.
pub(in crate::connectors) struct Steps<'a> {
    /// Renames.
    pub(in crate::connectors) attempt: &'a dyn Fn(&[u8], &[u8]) -> Attempt,
    /// Looks at a path; `None` where nothing is.
    pub(in crate::connectors) look: &'a dyn Fn(&[u8]) -> Result<Option<Standing>>,
    /// Removes a file.
    pub(in crate::connectors) remove: &'a dyn Fn(&[u8]) -> Result<()>,
}

impl Steps<'_> {
    /// Renames a file of `size` bytes, where that is known. An attempt whose answer was lost counts when the old name
    /// is gone and the new one has such a file.
    pub(in crate::connectors) fn rename(&self, from: &[u8], to: &[u8], size: Option<u64>) -> Result<()> {
        let Err((error, uncertain)) = (self.attempt)(from, to) else { return Ok(()) };
        if uncertain && error.kind != ErrorKind::Cancelled && self.is_done(from, to, size) {
            return Ok(());
        }
        Err(error)
    }

    fn is_done(&self, from: &[u8], to: &[u8], size: Option<u64>) -> bool {
        let there = |there: Standing| !there.mode.is_dir() && size.is_none_or(|size| size == there.size);
        matches!((self.look)(from), Ok(None)) && matches!((self.look)(to), Ok(Some(found)) if there(found))
    }

    /// The same, replacing a file that has the name. Where the server does not replace by itself, that file is put
    /// aside, and deleted last: a server that does not rename, or stops to, takes nothing away.
    ///
    /// Fails without having changed anything, or says where the old file is.
    pub(in crate::connectors) fn replace(&self, from: &[u8], to: &[u8], size: Option<u64>) -> Result<()> {
        let Err(error) = self.rename(from, to, size) else { return Ok(()) };
        if matches!(error.kind, ErrorKind::Transport | ErrorKind::Cancelled)
            || !matches!((self.look)(from), Ok(Some(_)))
        {
            return Err(error);
        }
        let old = match (self.look)(to) {
            Ok(Some(old)) if !old.mode.is_dir() => old,
            _ => return Err(error),
        };
        let aside = aside(to)?;
        if let Err(refused) = self.rename(to, &aside, Some(old.size)) {
            // The connection may be what is gone: then nobody knows.
            let unknown = matches!(refused.kind, ErrorKind::Transport | ErrorKind::Cancelled);
            return Err(if unknown { left(refused, "may be", &aside) } else { error });
        }
        if let Err(error) = self.rename(from, to, size) {
            return Err(match self.rename(&aside, to, Some(old.size)) {
                Ok(()) => error,
                Err(_) => left(error, "is", &aside),
            });
        }
        (self.remove)(&aside).map_err(|error| left(error, "was replaced, and is still", &aside))
    }
}

/// Puts a folder where a file or a link stands: that is put aside first, deleted last, and put back where no folder can
/// be made. Returns what is left to do where it could not be deleted.
///
/// Fails without having changed anything, or says where the file is.
pub(super) fn by_folder(target: &dyn Target, path: &[u8]) -> Result<Option<String>> {
    let aside = aside(path)?;
    if let Err(refused) = target.rename(path, &aside, false) {
        if matches!(refused.kind, ErrorKind::Transport | ErrorKind::Cancelled) {
            return Err(left(refused, "may be", &aside));
        }
        let said = refused.detail.as_deref().unwrap_or("no reason given");
        let why = format!(
            "a file has the name of this folder, and the server does not rename it out of the way ({said}): it stays"
        );
        return Err(Error::new(refused.kind, "create", shown(path)).detail(why));
    }
    let made = target.make_folder(path).and_then(|made| {
        let taken =
            || Error::new(ErrorKind::Exists, "create", shown(path)).detail("something has this name already");
        if made { Ok(()) } else { Err(taken()) }
    });
    if let Err(error) = made {
        return Err(match target.rename(&aside, path, false) {
            Ok(()) => error,
            Err(_) => left(error, "is", &aside),
        });
    }
    let kept = |error: Error| {
        let said = error.detail.map_or_else(String::new, |said| format!(" ({said})"));
        format!("deleting the file that had the name: it is {} now{said}", shown(&aside))
    };
    Ok(target.remove(&aside).err().map(kept))
}

/// Returns the name that what stands at a path is put aside under.
fn aside(path: &[u8]) -> Result<Vec<u8>> {
    let (folder, name) = parent(path);
    let digits = random_digits().map_err(|error| Error::io("rename to", shown(path), error))?;
    let repeated = &name[..name.len().min(REPEATED)];
    Ok(join(folder, &[b".", repeated, b".", digits.as_bytes(), b".old"].concat()))
}

fn left(error: Error, how: &str, aside: &[u8]) -> Error {
    let said = error.detail.as_ref().map_or_else(String::new, |said| format!("{said}; "));
    error.detail(format!("{said}the file that had the name {how} {}", shown(aside)))
}

fn shown(path: &[u8]) -> String {
    Printable::new(path).to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use super::*;
    use crate::format::entry::Mode;

    /// A server: files with their contents, and what it does not do.
    #[derive(Default)]
    struct Server {
        files: RefCell<BTreeMap<Vec<u8>, &'static str>>,
        replaces: bool,
        /// Answers of which the connection breaks off, by number of the rename from 1 on; the rename is done.
        lost: Vec<u32>,
        /// Renames that are refused.
        refused: Vec<u32>,
        /// From which rename on no connection can be made.
        gone: Option<u32>,
        keeps: bool,
        renames: Cell<u32>,
    }

    impl Server {
        fn with(files: &[(&str, &'static str)]) -> Self {
            let files = files.iter().map(|(name, content)| (name.as_bytes().to_vec(), *content)).collect();
            Self { files: RefCell::new(files), ..Self::default() }
        }

        fn once(&self, from: &[u8], to: &[u8]) -> Result<()> {
            let number = self.renames.get() + 1;
            self.renames.set(number);
            if self.gone.is_some_and(|gone| number >= gone) {
                return Err(Error::new(ErrorKind::Transport, "rename to", "x"));
            }
            let mut files = self.files.borrow_mut();
            let taken = !self.replaces && files.contains_key(to);
            if self.refused.contains(&number) || taken || !files.contains_key(from) {
                return Err(Error::new(ErrorKind::Io, "rename to", "x").detail("as played"));
            }
            let content = files.remove(from).unwrap();
            files.insert(to.to_vec(), content);
            if self.lost.contains(&number) {
                return Err(Error::new(ErrorKind::Transport, "rename to", "x"));
            }
            Ok(())
        }

        fn replace(&self) -> Result<()> {
            let attempt = |from: &[u8], to: &[u8]| match self.once(from, to) {
                Err(error) if error.kind == ErrorKind::Transport => {
                    self.once(from, to).map_err(|error| (error, true))
                }
                other => other.map_err(|error| (error, false)),
            };
            let look = |path: &[u8]| {
                let found = self.files.borrow().get(path).copied();
                let mode = Mode::regular(0o644);
                Ok(found.map(|content| Standing {
                    mode,
                    permissions: true,
                    size: content.len() as u64,
                    modified: None,
                }))
            };
            let remove = |path: &[u8]| {
                if self.keeps {
                    return Err(Error::new(ErrorKind::Denied, "delete", "x"));
                }
                self.files.borrow_mut().remove(path).unwrap();
                Ok(())
            };
            let steps = Steps { attempt: &attempt, look: &look, remove: &remove };
            steps.replace(b"/d/tmp", b"/d/name", Some(4))
        }

        fn contents(&self) -> Vec<&'static str> {
            let mut all: Vec<_> = self.files.borrow().values().copied().collect();
            all.sort_unstable();
            all
        }

        fn named(&self) -> Option<&'static str> {
            self.files.borrow().get(&b"/d/name"[..]).copied()
        }
    }

    const BOTH: [(&str, &str); 2] = [("/d/tmp", "new!"), ("/d/name", "old")];

    #[test]
    fn a_server_that_does_not_replace_is_helped() {
        for lost in [vec![], vec![2], vec![3], vec![4], vec![2, 4], vec![3, 5]] {
            let server = Server { lost: lost.clone(), ..Server::with(&BOTH) };
            server.replace().unwrap();
            assert_eq!((server.named(), server.contents()), (Some("new!"), vec!["new!"]), "{lost:?}");
        }
    }

    #[test]
    fn a_rename_whose_answer_was_lost_was_done() {
        for replaces in [true, false] {
            let files = if replaces { &BOTH[..] } else { &BOTH[..1] };
            let server = Server { replaces, lost: vec![1], ..Server::with(files) };
            server.replace().unwrap();
            assert_eq!((server.named(), server.contents()), (Some("new!"), vec!["new!"]));
        }
        // The temporary file is gone, and what has the name is another one: that is nothing to be touched.
        let server = Server::with(&BOTH[1..]);
        assert!(server.replace().is_err());
        assert_eq!(server.contents(), ["old"]);
    }

    #[test]
    fn a_server_that_renames_nothing_keeps_its_files() {
        let server = Server { refused: (1..100).collect(), ..Server::with(&BOTH) };
        assert_eq!(server.replace().unwrap_err().kind, ErrorKind::Io);
        assert_eq!((server.named(), server.contents()), (Some("old"), vec!["new!", "old"]));
    }

    #[test]
    fn what_was_put_aside_comes_back() {
        let server = Server { refused: vec![3], ..Server::with(&BOTH) };
        assert_eq!(server.replace().unwrap_err().detail.as_deref(), Some("as played"));
        assert_eq!((server.named(), server.contents()), (Some("old"), vec!["new!", "old"]));
        // Or the error says where it is.
        for server in [
            Server { refused: vec![3, 4], ..Server::with(&BOTH) },
            Server { gone: Some(3), ..Server::with(&BOTH) },
            Server { keeps: true, ..Server::with(&BOTH) },
        ] {
            let error = server.replace().unwrap_err();
            assert_eq!(server.contents(), ["new!", "old"]);
            let files = server.files.borrow();
            let (aside, _) = files.iter().find(|(_, content)| **content == "old").unwrap();
            assert!(error.to_string().contains(&shown(aside)), "{error}");
        }
    }
}
