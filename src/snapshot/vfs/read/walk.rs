//! Walking a view depth first.

use std::fmt;

use crate::base::RawString;
use crate::format::path::depth;
use crate::store::blob::{BlobSource, Error, Result};

use super::children::{Child, Children};
use super::view::Vfs;

/// Folders within folders at most: more than any system takes as a path.
const MAX_DEPTH: usize = 8192;
/// Content of dirpacks held by all open folders together; beyond it the outer ones are read again later.
const HELD_BYTES: usize = 32 << 20;

/// A step of a walk.
#[expect(clippy::large_enum_variant, reason = "most steps are entries; a box for each would cost more")]
#[derive(Clone, PartialEq, Debug)]
pub enum Visit {
    /// An entry; a folder comes before what is in it.
    Entry(Child),
    /// The end of a folder, by its path: everything below it was visited.
    Left(RawString),
}

/// What could not be visited, and why. The walk goes on with the rest.
#[derive(Debug, thiserror::Error)]
#[error("cannot list \"{}\"", folder.escape_ascii())]
pub struct WalkError {
    /// The folder whose list, or one child in it, could not be read.
    pub folder: RawString,
    /// Why.
    #[source]
    pub source: Error,
}

/// Streams everything below a path, folder by folder, siblings in byte order.
pub struct Walk<'t, 'a, S: ?Sized> {
    vfs: &'t Vfs<'a, S>,
    first: Option<Child>,
    /// The folder visited last, if it is to be entered.
    entering: Option<RawString>,
    stack: Vec<Children<'t, 'a, S>>,
}

impl<S: ?Sized> fmt::Debug for Walk<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Walk({} levels of {:?})", self.stack.len(), self.vfs)
    }
}

impl<'t, 'a, S: BlobSource + ?Sized> Walk<'t, 'a, S> {
    pub(super) fn start(vfs: &'t Vfs<'a, S>, start: &[u8]) -> Result<Self> {
        let first = vfs.child(start)?.ok_or_else(|| Error::NoPath { path: start.to_vec() })?;
        Ok(Self { vfs, first: Some(first), entering: None, stack: Vec::new() })
    }

    /// Leaves out what is in the folder that was visited last. It gets no [`Visit::Left`].
    pub fn skip_folder(&mut self) {
        self.entering = None;
    }

    fn visit(&mut self, child: Child) -> Visit {
        self.entering = child.is_dir().then(|| child.path());
        Visit::Entry(child)
    }

    fn enter(&mut self, folder: RawString) -> Result<(), WalkError> {
        let fail = |source| WalkError { folder: folder.clone(), source };
        if depth(&folder) > MAX_DEPTH {
            return Err(fail(Error::malformed("the tree", "folders are nested too deeply")));
        }
        let children = self.vfs.children(&folder).map_err(fail)?;
        let mut held = 0;
        for open in self.stack.iter_mut().rev() {
            held += open.held_bytes();
            if held > HELD_BYTES {
                open.release();
            }
        }
        self.stack.push(children);
        Ok(())
    }
}

impl<S: BlobSource + ?Sized> Iterator for Walk<'_, '_, S> {
    type Item = Result<Visit, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(self.visit(first)));
        }
        if let Some(folder) = self.entering.take()
            && let Err(error) = self.enter(folder)
        {
            return Some(Err(error));
        }
        let open = self.stack.last_mut()?;
        match open.next() {
            Some(Ok(child)) => Some(Ok(self.visit(child))),
            Some(Err(source)) => Some(Err(WalkError { folder: open.folder().clone(), source })),
            None => {
                let folder = open.folder().clone();
                self.stack.pop();
                Some(Ok(Visit::Left(folder)))
            }
        }
    }
}
