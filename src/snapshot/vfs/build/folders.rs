//! Folders in the order of a walk: their summaries, children first.

use std::cmp::Ordering;

use crate::base::sort::{KeyOrder, Reversed, Sorter};
use crate::base::spill::SpillDir;
use crate::base::{Id, PathError};
use crate::format::blob::BlobType;
use crate::format::summary::Summary;
use crate::snapshot::tree::TreeKind;
use crate::store::blob::{Batch, BlobSink, Lane, Result};

use super::builder::{BuildOptions, Descending};
use super::dirpack::DirpackWriter;

/// The order of a depth-first walk: a folder, then all below it, siblings by bytes. As bytes, but with the slash
/// below all others; a NUL never occurs in a path.
#[derive(Clone, Copy, Debug)]
struct WalkOrder;

impl KeyOrder for WalkOrder {
    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        match a.iter().zip(b).find(|(a, b)| a != b) {
            Some((a, b)) => rank(*a).cmp(&rank(*b)),
            None => a.len().cmp(&b.len()),
        }
    }
}

/// There is such a folder: `tag`.
const FOLDER: u8 = 0;
/// It has children: `tag ‖ object of the dirpack ‖ summary`.
const CHILDREN: u8 = 1;
/// A child of it has an error: `tag`.
const ERROR: u8 = 2;

/// Collects what is known of folders.
#[derive(Debug)]
pub(super) struct FolderSorter(Sorter<WalkOrder>);

/// A folder whose subfolders are still to come.
struct Open {
    path: Vec<u8>,
    summary: Summary,
    errors: u64,
    dirpack: Option<Id>,
}

impl FolderSorter {
    pub(super) fn new(spills: &SpillDir, memory: usize) -> Self {
        Self(Sorter::new(WalkOrder, spills, memory))
    }

    /// Notes a folder.
    pub(super) fn add_folder(&mut self, path: &[u8]) -> Result<(), PathError> {
        self.0.push(path, &[FOLDER])
    }

    /// Notes the dirpack of a folder and what was counted of its direct children.
    pub(super) fn add_children(
        &mut self,
        path: &[u8],
        object: Id,
        summary: &Summary,
    ) -> Result<(), PathError> {
        self.0.push_parts(path, &[&[CHILDREN], object.as_bytes(), &summary.encode()])
    }

    /// Counts an error item of a direct child.
    pub(super) fn add_error(&mut self, path: &[u8]) -> Result<(), PathError> {
        self.0.push(path, &[ERROR])
    }

    /// Finishes all summaries and stores them; returns that of `/`, the dirpacks and the summaries by folder.
    pub(super) fn finish<S: BlobSink + ?Sized>(
        self,
        sink: &S,
        options: &BuildOptions,
    ) -> Result<(Summary, Descending, Descending)> {
        let index = || Sorter::new(Reversed(TreeKind::INDEX.order), &options.spills, options.memory / 8);
        let mut closing = Closing {
            batch: Batch::new(sink),
            empty: DirpackWriter::new(sink),
            empty_dirpack: None,
            dirpacks: index(),
            summaries: index(),
            stack: Vec::new(),
            root: Summary::default(),
        };
        let mut sorted = self.0.finish()?;
        while let Some((path, value)) = sorted.next()? {
            closing.enter(path)?;
            if let Some(folder) = closing.stack.last_mut() {
                folder.take(value)?;
            }
        }
        while !closing.stack.is_empty() {
            closing.close()?;
        }
        closing.batch.flush()?;
        closing.empty.flush()?;
        Ok((closing.root, closing.dirpacks, closing.summaries))
    }
}

impl Open {
    fn take(&mut self, value: &[u8]) -> Result<()> {
        match value.split_first() {
            Some((&CHILDREN, rest)) => {
                if let Some((object, summary)) = rest.split_first_chunk::<32>() {
                    self.dirpack = Some(Id(*object));
                    self.summary.directory = Summary::decode(summary)?.directory;
                }
            }
            Some((&ERROR, _)) => self.errors += 1,
            _ => {}
        }
        Ok(())
    }
}

/// The walk: a stack of open folders.
struct Closing<'a, S: ?Sized> {
    batch: Batch<'a, S>,
    empty: DirpackWriter<'a, S>,
    empty_dirpack: Option<Id>,
    dirpacks: Descending,
    summaries: Descending,
    stack: Vec<Open>,
    root: Summary,
}

impl<S: BlobSink + ?Sized> Closing<'_, S> {
    /// Closes the folders that do not hold `path` and opens it, unless it is open.
    fn enter(&mut self, path: &[u8]) -> Result<()> {
        while let Some(top) = self.stack.last() {
            if top.path == path {
                return Ok(());
            }
            if is_below(path, &top.path) {
                break;
            }
            self.close()?;
        }
        let path = path.to_vec();
        self.stack.push(Open { path, summary: Summary::default(), errors: 0, dirpack: None });
        Ok(())
    }

    /// Finishes the innermost folder and merges it into the one above.
    fn close(&mut self) -> Result<()> {
        let Some(Open { path, mut summary, errors, dirpack }) = self.stack.pop() else { return Ok(()) };
        summary.finish(errors);
        let id = self.batch.put(BlobType::SUMMARY, &summary.encode(), Lane::Metadata)?;
        self.summaries.push(&path, id.as_bytes())?;
        let dirpack = match dirpack.or(self.empty_dirpack) {
            Some(id) => id,
            None => *self.empty_dirpack.insert(self.empty.finish()?),
        };
        self.dirpacks.push(&path, dirpack.as_bytes())?;
        match self.stack.last_mut() {
            Some(above) => above.summary.merge_child(&summary),
            None => self.root = summary,
        }
        Ok(())
    }
}

/// Returns whether a path lies in a folder, at any depth.
fn is_below(path: &[u8], folder: &[u8]) -> bool {
    folder == b"/" || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_walk() {
        let mut paths = ["/a-", "/a", "/", "/a/b/c", "/a/b", "/a/b-", "/b", "/a\x01", "/a/c"];
        paths.sort_by(|a, b| WalkOrder.compare(a.as_bytes(), b.as_bytes()));
        assert_eq!(paths, ["/", "/a", "/a/b", "/a/b/c", "/a/b-", "/a/c", "/a\x01", "/a-", "/b"]);
        assert!(is_below(b"/a/b", b"/a") && is_below(b"/a", b"/") && !is_below(b"/ab", b"/a"));
    }
}
