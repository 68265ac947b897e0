//! Walking two views side by side.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use crate::base::RawString;
use crate::format::path::{depth, parent};
use crate::store::blob::{BlobSource, Error, Result};

use super::super::super::tree::differing;
use super::children::{Child, Children};
use super::view::Vfs;
use super::walk::WalkError;

/// Folders within folders at most, as in a walk of one view.
const MAX_DEPTH: usize = 8192;
/// Content of dirpacks held by all open folders together; beyond it the outer ones are read again later.
const HELD_BYTES: usize = 32 << 20;

/// Folders that are remembered because something differs in them or below: some megabytes of paths.
const REMEMBERED: usize = 1 << 16;

/// What stands at one place of two views.
#[expect(clippy::large_enum_variant, reason = "it lives for one step; a box for each would cost more")]
#[derive(Clone, PartialEq, Debug)]
pub enum Pair {
    /// Only the left view has it.
    Left(Child),
    /// Only the right view has it.
    Right(Child),
    /// Both have it; the entries may be equal.
    Both(Child, Child),
}

/// Streams everything below a folder of one view and a folder of another, paired by what lies at the same place
/// below them: folder by folder, siblings in byte order, as [`Walk`](super::Walk) does. The two folders themselves
/// are not among it.
///
/// Folders whose lists are one object are read once, and only the folders in them are visited; those below which no
/// list differs are not visited at all.
pub struct PairWalk<'t, 'a, S: ?Sized> {
    left: &'t Vfs<'a, S>,
    right: &'t Vfs<'a, S>,
    /// Whether equal lists mean equal folders.
    trusting: bool,
    /// The folders below which something may differ, and those whose own lists do; nothing where that is not known.
    differing: Option<HashSet<RawString>>,
    entering: Option<(Option<RawString>, Option<RawString>)>,
    stack: Vec<Open<'t, 'a, S>>,
}

impl<S: ?Sized> fmt::Debug for PairWalk<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairWalk({} levels of {:?} and {:?})", self.stack.len(), self.left, self.right)
    }
}

/// A folder that is there on one side or on both.
struct Open<'t, 'a, S: ?Sized> {
    left: Side<'t, 'a, S>,
    right: Side<'t, 'a, S>,
    /// The left folder's list is the right one's.
    same: bool,
}

/// One side of a folder: its list, and the next child of it.
struct Side<'t, 'a, S: ?Sized> {
    children: Option<Children<'t, 'a, S>>,
    ahead: Option<Child>,
}

impl<S: BlobSource + ?Sized> Side<'_, '_, S> {
    /// Makes sure that the next child is known, if there is one.
    fn look(&mut self) -> Result<(), WalkError> {
        if self.ahead.is_some() {
            return Ok(());
        }
        let Some(children) = &mut self.children else { return Ok(()) };
        match children.next() {
            Some(Ok(child)) => self.ahead = Some(child),
            Some(Err(source)) => return Err(WalkError { folder: children.folder().clone(), source }),
            None => self.children = None,
        }
        Ok(())
    }

    fn release_beyond(&mut self, held: &mut usize) {
        if let Some(children) = &mut self.children {
            *held += children.held_bytes();
            if *held > HELD_BYTES {
                children.release();
            }
        }
    }
}

impl<'t, 'a, S: BlobSource + ?Sized> PairWalk<'t, 'a, S> {
    /// Starts below two folders. `trusting` says that whatever the lists of folders do not show (the values of
    /// extended attributes) is equal in both views, so that folders with equal lists are equal.
    pub fn start(left: (&'t Vfs<'a, S>, &[u8]), right: (&'t Vfs<'a, S>, &[u8]), trusting: bool) -> Self {
        let entering = Some((Some(left.1.into()), Some(right.1.into())));
        Self { left: left.0, right: right.0, trusting, differing: None, entering, stack: Vec::new() }
    }

    /// Compares the indexes of dirpacks first, so that folders that are equal with all that is below them are passed
    /// over. That costs next to nothing where the indexes share their nodes, and a fraction of the lists where they do
    /// not. Where too much differs to be remembered, every folder is visited.
    pub fn skipping(mut self) -> Result<Self, WalkError> {
        let (true, Some((Some(left), Some(right)))) = (self.trusting, &self.entering) else {
            return Ok(self);
        };
        let (Some(before), Some(after)) = (self.left.dirpacks(), self.right.dirpacks()) else {
            return Ok(self);
        };
        if left != right {
            return Ok(self);
        }
        let (mut found, mut many) = (HashSet::new(), false);
        differing(before, after, &mut |path| {
            // Whoever has to be entered to get there is among them, too.
            let mut folder = path;
            while found.insert(RawString::from(folder)) && folder != b"/" {
                folder = parent(folder);
            }
            many = found.len() > REMEMBERED;
            !many
        })
        .map_err(|source| WalkError { folder: left.clone(), source })?;
        self.differing = (!many).then_some(found);
        Ok(self)
    }

    /// Returns whether nothing differs below two folders, as far as lists tell.
    fn is_same(&self, left: &RawString, right: &RawString) -> Result<bool, Error> {
        let same =
            left == right && self.differing.as_ref().is_some_and(|differing| !differing.contains(left));
        // A folder without a list of its own is none that the indexes could tell about.
        Ok(same && self.left.dirpack(left)?.is_some())
    }

    fn enter(&mut self, left: Option<RawString>, right: Option<RawString>) -> Result<(), WalkError> {
        let folder = left.as_ref().or(right.as_ref()).cloned().unwrap_or_default();
        let fail = |source| WalkError { folder: folder.clone(), source };
        if depth(&folder) > MAX_DEPTH {
            return Err(fail(Error::malformed("the tree", "folders are nested too deeply")));
        }
        let same = match (&left, &right) {
            (Some(left), Some(right)) if self.trusting && left == right => {
                let list = self.left.dirpack(left).map_err(fail)?;
                list.is_some() && list == self.right.dirpack(right).map_err(fail)?
            }
            _ => false,
        };
        let open = |vfs: &'t Vfs<'a, S>, path: &Option<RawString>| {
            let children = path.as_ref().map(|path| vfs.children(path)).transpose().map_err(fail)?;
            Ok(Side { children, ahead: None })
        };
        let left = open(self.left, &left.filter(|_| !same))?;
        let opened = Open { left, right: open(self.right, &right)?, same };
        let mut held = 0;
        for open in self.stack.iter_mut().rev() {
            open.left.release_beyond(&mut held);
            open.right.release_beyond(&mut held);
        }
        self.stack.push(opened);
        Ok(())
    }

    /// Takes the next pair of the innermost folder; nothing at its end.
    fn step(&mut self) -> Result<Option<Pair>, WalkError> {
        let Some(open) = self.stack.last_mut() else { return Ok(None) };
        loop {
            open.left.look()?;
            open.right.look()?;
            if open.same {
                match open.right.ahead.take() {
                    Some(child) if child.is_dir() => return Ok(Some(Pair::Both(child.clone(), child))),
                    Some(_) => continue,
                    None => return Ok(None),
                }
            }
            let order = match (&open.left.ahead, &open.right.ahead) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(left), Some(right)) => left.entry.info.name.cmp(&right.entry.info.name),
            };
            let left = if order.is_le() { open.left.ahead.take() } else { None };
            let right = if order.is_ge() { open.right.ahead.take() } else { None };
            return Ok(match (left, right) {
                (Some(left), Some(right)) => Some(Pair::Both(left, right)),
                (Some(left), None) => Some(Pair::Left(left)),
                (None, right) => right.map(Pair::Right),
            });
        }
    }
}

impl<S: BlobSource + ?Sized> Iterator for PairWalk<'_, '_, S> {
    type Item = Result<Pair, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((left, right)) = self.entering.take()
            && let Err(error) = self.enter(left, right)
        {
            return Some(Err(error));
        }
        while !self.stack.is_empty() {
            match self.step() {
                Ok(Some(pair)) => {
                    let folder = |child: &Child| child.is_dir().then(|| child.path());
                    let entering = match &pair {
                        Pair::Left(left) => (folder(left), None),
                        Pair::Right(right) => (None, folder(right)),
                        Pair::Both(left, right) => (folder(left), folder(right)),
                    };
                    if let (Some(left), Some(right)) = &entering {
                        match self.is_same(left, right) {
                            Ok(true) => return Some(Ok(pair)),
                            Ok(false) => {}
                            Err(source) => {
                                return Some(Err(WalkError { folder: left.clone(), source }));
                            }
                        }
                    }
                    self.entering = (entering.0.is_some() || entering.1.is_some()).then_some(entering);
                    return Some(Ok(pair));
                }
                Ok(None) => drop(self.stack.pop()),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}
