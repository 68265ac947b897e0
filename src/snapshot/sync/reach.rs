//! Every blob that a snapshot refers to.

use crate::base::Id;
use crate::format::blob::BlobType;
use crate::format::object::Object;
use crate::format::snapshot::{Header, Source};
use crate::format::xattr::XattrItem;
use crate::store::blob::{BlobSource, Lane};
use crate::store::{Error, KnownSet, Repository};

use super::super::tree::{Tree, TreeKind};

/// Passes blobs to `each`, every one once per `seen`. Tree nodes come before what they point to; the header comes
/// last, so that what arrives in this order is never referred to before it is there. With each comes its lane: a
/// chunk's type alone does not tell a file's content from a folder's list.
pub(super) struct Reach<'a> {
    pub(super) repository: &'a Repository,
    pub(super) seen: &'a KnownSet,
    pub(super) each: &'a mut dyn FnMut(BlobType, Id, Lane) -> Result<(), Error>,
}

impl Reach<'_> {
    pub(super) fn snapshot(&mut self, header: &Header) -> Result<(), Error> {
        for source in header.sources() {
            self.source(source)?;
        }
        if header.identity.is_signed() {
            self.one(BlobType::SIGNATURE, header.identifier)?;
        }
        self.one(BlobType::SNAPSHOT, header.identifier).map(drop)
    }

    fn source(&mut self, source: &Source) -> Result<(), Error> {
        self.tree(TreeKind::VFS, source.root.root, &mut |reach, id| reach.entry(id))?;
        self.tree(TreeKind::XATTRS, source.root.xattrs, &mut |reach, id| {
            if reach.one(BlobType::XATTR_ENTRY, id)? {
                let item = XattrItem::decode(&reach.repository.get(BlobType::XATTR_ENTRY, &id)?)?;
                reach.object(item.object, Lane::Metadata)?;
            }
            Ok(())
        })?;
        self.tree(TreeKind::ERRORS, source.root.errors, &mut |reach, id| {
            reach.one(BlobType::ERROR_ENTRY, id).map(drop)
        })?;
        for index in source.indexes.iter().flatten() {
            match index.name.as_bytes() {
                b"dirpack" => self.tree(TreeKind::INDEX, index.value, &mut |reach, id| reach.dirpack(id))?,
                b"summary" => self.tree(TreeKind::INDEX, index.value, &mut |reach, id| {
                    reach.one(BlobType::SUMMARY, id).map(drop)
                })?,
                _ => self.tree(TreeKind::INDEX, index.value, &mut |_, _| Ok(()))?,
            }
        }
        Ok(())
    }

    fn one(&mut self, kind: BlobType, id: Id) -> Result<bool, Error> {
        let lane = match kind {
            BlobType::OBJECT | BlobType::VFS_ENTRY | BlobType::XATTR_ENTRY | BlobType::ERROR_ENTRY => {
                Lane::Metadata
            }
            _ => Lane::Tree,
        };
        self.one_of(kind, id, lane)
    }

    fn one_of(&mut self, kind: BlobType, id: Id, lane: Lane) -> Result<bool, Error> {
        if id.is_zero() || !self.seen.insert(kind, id)? {
            return Ok(false);
        }
        (self.each)(kind, id, lane)?;
        Ok(true)
    }

    fn tree(
        &mut self,
        kind: TreeKind,
        root: Id,
        value: &mut dyn FnMut(&mut Self, Id) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if !self.one(kind.root, root)? {
            return Ok(());
        }
        let tree = Tree::open(self.repository, kind, &root)?;
        tree.nodes(|id| self.one(kind.node, id).map(drop))?;
        let mut cursor = tree.scan()?;
        while let Some((_, id)) = cursor.next()? {
            value(self, id)?;
        }
        Ok(())
    }

    fn entry(&mut self, id: Id) -> Result<(), Error> {
        // A value that dangles is an index fault only: the dirpack has the entry.
        if !self.repository.has(BlobType::VFS_ENTRY, &id)? || !self.one(BlobType::VFS_ENTRY, id)? {
            return Ok(());
        }
        let entry = crate::format::entry::Entry::decode(&self.repository.get(BlobType::VFS_ENTRY, &id)?)?;
        self.object(entry.object, Lane::Data)
    }

    /// A dirpack: its object, its chunks, and the contents of the entries in it.
    fn dirpack(&mut self, id: Id) -> Result<(), Error> {
        if !self.object_is_new(id, Lane::Metadata)? {
            return Ok(());
        }
        let reader = super::super::vfs::read::ObjectReader::open(self.repository, &id)?;
        let mut frames = crate::format::dirpack::FrameReader::new(reader);
        while let Some(frame) = frames.next_frame()? {
            let entry = crate::format::entry::Entry::decode(frame.entry)?;
            self.object(entry.object, Lane::Data)?;
        }
        Ok(())
    }

    fn object(&mut self, id: Id, chunks: Lane) -> Result<(), Error> {
        self.object_is_new(id, chunks).map(drop)
    }

    fn object_is_new(&mut self, id: Id, chunks: Lane) -> Result<bool, Error> {
        if !self.one(BlobType::OBJECT, id)? {
            return Ok(false);
        }
        let object = Object::decode(&self.repository.get(BlobType::OBJECT, &id)?)?;
        for chunk in &object.chunks {
            self.one_of(BlobType::CHUNK, chunk.id, chunks)?;
        }
        Ok(true)
    }
}
