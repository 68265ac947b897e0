//! Looking up the entries of the previous snapshot for records that come in an order of their own.

use std::cmp::Ordering;
use std::fmt;

use crate::base::RawString;
use crate::format::path::{is_clean, name, parent};
use crate::store::blob::{BlobSource, Result};

use super::children::{Child, Children};
use super::view::Vfs;

/// Folders open at once, the ancestors of the one used last not counted.
const FOLDERS: usize = 32;
/// Folders open at once in any case: no path of any system has as many.
const DEEPEST: usize = 4096;
/// Content of dirpacks held by all of them together, bytes.
const HELD_BYTES: usize = 32 << 20;
/// Children that a folder remembers behind its stream, for names that come out of order.
const FEW: usize = 64;

/// Finds previous entries while a source is walked or listed.
///
/// Records come folder by folder, or in the raw order of keys, where `a-`, `a.` stand between `a` and `a/…`; in
/// both, the names of one folder ascend, however many folders come in between. So each folder has a cursor that
/// streams through its dirpack once, the folders used last are kept open, and so are all ancestors of the current
/// one, to which every walk comes back; a name that does not ascend, such as an escaped one, is looked up in the tree.
/// Memory is bounded, whatever the size of a folder.
pub struct ParentCursor<'t, 'a, S: ?Sized> {
    vfs: &'t Vfs<'a, S>,
    /// The open folders, the one used last at the end.
    open: Vec<Folder<'t, 'a, S>>,
    tree_lookups: u64,
}

struct Folder<'t, 'a, S: ?Sized> {
    path: RawString,
    children: Children<'t, 'a, S>,
    started: bool,
    /// The child that the stream stands at; `None` at its end.
    at: Option<Child>,
    /// The name of the child before that.
    last: Option<RawString>,
    /// The children that were passed, while they are few.
    passed: Option<Vec<Child>>,
    /// Whether a child, or the rest of them, could not be read.
    damaged: bool,
}

impl<S: ?Sized> fmt::Debug for ParentCursor<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParentCursor({} folders of {:?})", self.open.len(), self.vfs)
    }
}

impl<'t, 'a, S: BlobSource + ?Sized> ParentCursor<'t, 'a, S> {
    /// Starts on the previous snapshot's view.
    pub fn new(vfs: &'t Vfs<'a, S>) -> Self {
        Self { vfs, open: Vec::new(), tree_lookups: 0 }
    }

    /// Returns how many look-ups had to go through the tree.
    pub fn tree_lookups(&self) -> u64 {
        self.tree_lookups
    }

    /// Returns the previous entry of a path; `None` when there was none. What is damaged counts as not there, so
    /// that it is backed up anew; an error means that the store could not be read.
    pub fn entry(&mut self, path: &[u8]) -> Result<Option<Child>> {
        let found = match self.look_up(path) {
            Err(error) if error.is_damage() => return Ok(None),
            other => other?,
        };
        match found {
            Found::Child(child) => Ok(Some(*child)),
            Found::Nothing => Ok(None),
            Found::Passed => {
                self.tree_lookups += 1;
                match self.vfs.child(path) {
                    Err(error) if error.is_damage() => Ok(None),
                    other => other,
                }
            }
        }
    }

    fn look_up(&mut self, path: &[u8]) -> Result<Found> {
        if path == b"/" || !is_clean(path) {
            return Ok(Found::Passed);
        }
        self.folder(parent(path))?.find(name(path))
    }

    /// Returns the cursor of a folder, opening it when necessary.
    fn folder(&mut self, path: &[u8]) -> Result<&mut Folder<'t, 'a, S>> {
        if let Some(at) = self.open.iter().rposition(|folder| folder.path.as_bytes() == path) {
            self.open[at..].rotate_left(1);
        } else {
            let children = self.vfs.children(path)?;
            let folder = Folder {
                path: path.into(),
                children,
                started: false,
                at: None,
                last: None,
                passed: Some(Vec::new()),
                damaged: false,
            };
            self.close_some(path);
            self.open.push(folder);
        }
        Ok(self.open.last_mut().expect("one was found or opened"))
    }

    /// Makes room for another folder: closes the one used longest ago that is no ancestor of it.
    fn close_some(&mut self, path: &[u8]) {
        if self.open.len() >= FOLDERS {
            match self.open.iter().position(|folder| !is_within(path, &folder.path)) {
                Some(at) => drop(self.open.remove(at)),
                None if self.open.len() >= DEEPEST => drop(self.open.remove(0)),
                None => {}
            }
        }
        let mut held = 0;
        for folder in self.open.iter_mut().rev() {
            held += folder.children.held_bytes();
            if held > HELD_BYTES {
                folder.children.release();
            }
        }
    }
}

/// Returns whether a path is a folder or lies below it.
fn is_within(path: &[u8], folder: &[u8]) -> bool {
    folder == b"/" || path.strip_prefix(folder).is_some_and(|rest| rest.first().is_none_or(|c| *c == b'/'))
}

enum Found {
    Child(Box<Child>),
    Nothing,
    /// The stream is past the name already, or cannot be trusted to hold it.
    Passed,
}

impl<S: BlobSource + ?Sized> Folder<'_, '_, S> {
    fn find(&mut self, wanted: &[u8]) -> Result<Found> {
        if !std::mem::replace(&mut self.started, true) {
            self.step()?;
        }
        let nothing = |damaged| if damaged { Found::Passed } else { Found::Nothing };
        if self.last.as_ref().is_some_and(|last| last.as_bytes() >= wanted) {
            let Some(passed) = &self.passed else { return Ok(Found::Passed) };
            let found = passed.binary_search_by(|child| child.entry.info.name.as_bytes().cmp(wanted));
            return Ok(found.map_or(nothing(self.damaged), |at| Found::Child(Box::new(passed[at].clone()))));
        }
        while let Some(child) = &self.at {
            match child.entry.info.name.as_bytes().cmp(wanted) {
                Ordering::Less => self.step()?,
                Ordering::Equal => return Ok(Found::Child(Box::new(child.clone()))),
                Ordering::Greater => break,
            }
        }
        Ok(nothing(self.damaged))
    }

    /// Goes to the next child that can be read.
    fn step(&mut self) -> Result<()> {
        if let Some(child) = self.at.take() {
            self.last = Some(child.entry.info.name.clone());
            self.passed = self.passed.take().filter(|passed| passed.len() < FEW);
            if let Some(passed) = &mut self.passed {
                passed.push(child);
            }
        }
        loop {
            match self.children.next().transpose() {
                Ok(child) => {
                    self.at = child;
                    return Ok(());
                }
                Err(error) if error.is_damage() => self.damaged = true,
                Err(error) => return Err(error),
            }
        }
    }
}
