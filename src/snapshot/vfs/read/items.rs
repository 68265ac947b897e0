//! Scans of the trees of attributes and errors.

use std::fmt;
use std::marker::PhantomData;

use crate::base::Id;
use crate::format;
use crate::format::blob::BlobType;
use crate::format::error_item::ErrorItem;
use crate::format::xattr::XattrItem;
use crate::snapshot::tree::{Tree, TreeKind};
use crate::store::blob::{BlobSource, Result};

/// A record that a tree's values name.
pub trait Item: Sized {
    /// The type of its blobs.
    const KIND: BlobType;
    /// Decodes it.
    fn decode(bytes: &[u8]) -> format::Result<Self>;
}

impl Item for XattrItem {
    const KIND: BlobType = BlobType::XATTR_ENTRY;
    fn decode(bytes: &[u8]) -> format::Result<Self> {
        Self::decode(bytes)
    }
}

impl Item for ErrorItem {
    const KIND: BlobType = BlobType::ERROR_ENTRY;
    fn decode(bytes: &[u8]) -> format::Result<Self> {
        Self::decode(bytes)
    }
}

/// Streams the items of a tree in its order. An item that cannot be read is an error, and the iterator goes on
/// behind it; it ends after an error of the tree itself.
pub struct Items<'a, S: ?Sized, T> {
    source: &'a S,
    tree: Tree<'a, S>,
    /// The last key, from which the next step goes on: the cursor cannot be kept beside its tree.
    page: std::vec::IntoIter<Id>,
    last: Option<Vec<u8>>,
    done: bool,
    item: PhantomData<T>,
}

/// Keys read at once.
const PAGE: usize = 256;

impl<S: ?Sized, T> fmt::Debug for Items<'_, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Items({:?})", self.tree)
    }
}

impl<'a, S: BlobSource + ?Sized, T: Item> Items<'a, S, T> {
    pub(super) fn open(source: &'a S, kind: TreeKind, root: &Id) -> Result<Self> {
        let tree = Tree::open(source, kind, root)?;
        Ok(Self { source, tree, page: Vec::new().into_iter(), last: None, done: false, item: PhantomData })
    }

    fn next_page(&mut self) -> Result<()> {
        let mut cursor = self.tree.range(self.last.as_deref().unwrap_or_default())?;
        let mut page = Vec::new();
        let mut last = None;
        while page.len() < PAGE {
            let Some((key, id)) = cursor.next()? else {
                self.done = true;
                break;
            };
            if self.last.as_deref() != Some(key) {
                page.push(id);
                last = Some(key.to_vec());
            }
        }
        self.last = last;
        self.page = page.into_iter();
        Ok(())
    }
}

impl<S: BlobSource + ?Sized, T: Item> Iterator for Items<'_, S, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.len() == 0 {
            if self.done {
                return None;
            }
            if let Err(error) = self.next_page() {
                self.done = true;
                return Some(Err(error));
            }
        }
        let id = self.page.next()?;
        Some(self.source.get(T::KIND, &id).and_then(|bytes| Ok(T::decode(&bytes)?)))
    }
}
