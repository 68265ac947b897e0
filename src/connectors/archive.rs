//! An archive (`.ptar`) as a store that holds one packfile and one state, wherever its bytes lie.

use std::fmt;
use std::fs::File;
use std::time::SystemTime;

use super::container;
use crate::base::Id;
use crate::connector::{Body, Kind, Listed, Result, Storage};
use crate::format::ptar::Layout;

/// The file of an archive, one version of it.
pub trait ArchiveBytes: fmt::Debug + Send + Sync {
    /// Returns the location for people and errors, without secrets.
    fn target(&self) -> String;

    /// Passes `length` bytes from `offset` on to `consume`; they may lie in a map. Fails with `Changed` when the file
    /// is another by now.
    fn read(&self, offset: u64, length: usize, consume: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Reads a range that is wanted once, and as a whole.
    fn read_all(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.read(offset, length, &mut |bytes| out.extend_from_slice(bytes))?;
        Ok(out)
    }

    /// Returns whether each read is a request to somewhere else.
    fn is_remote(&self) -> bool;
}

/// An archive, opened as a store.
#[derive(Debug)]
pub struct Archive<B> {
    bytes: B,
    layout: Layout,
    /// CONFIG: small, and read with the layout.
    config: Vec<u8>,
    modified: Option<SystemTime>,
}

impl<B: ArchiveBytes> Archive<B> {
    /// Takes a file whose layout was read, with its CONFIG.
    pub(super) fn new(bytes: B, layout: Layout, config: Vec<u8>, modified: Option<SystemTime>) -> Self {
        Self { bytes, layout, config, modified }
    }

    /// Returns the file.
    pub(super) fn bytes(&self) -> &B {
        &self.bytes
    }

    fn refuse<T>(&self, op: &'static str) -> Result<T> {
        Err(container::read_only(op, &self.location()))
    }
}

impl<B: ArchiveBytes> Storage for Archive<B> {
    fn location(&self) -> String {
        self.bytes.target()
    }

    fn create(&self, _config: &[u8]) -> Result<()> {
        self.refuse("create")
    }

    fn config(&self) -> Result<Vec<u8>> {
        Ok(self.config.clone())
    }

    fn replace_config(&self, _expected: &[u8], _new: &[u8]) -> Result<()> {
        self.refuse("replace CONFIG of")
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        if let Some((id, size)) = container::listed(&self.layout, kind) {
            each(Listed { id, size, modified: self.modified, tag: None });
        }
        Ok(())
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        Ok(container::find(&self.layout, kind, id, &self.location())?.length)
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        let section = container::find(&self.layout, kind, id, &self.location())?;
        let length = container::whole_length(kind, section.length, &self.location())?;
        self.bytes.read_all(section.offset, length)
    }

    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let target = self.location();
        let section = container::find(&self.layout, kind, id, &target)?;
        self.bytes.read(container::locate(section, offset, length, &target)?, length, consume)
    }

    fn spool(&self) -> Result<File> {
        self.refuse("write to")
    }

    fn put(&self, _kind: Kind, _id: Id, _body: Body<'_>) -> Result<()> {
        self.refuse("write to")
    }

    fn delete(&self, _kind: Kind, _id: Id) -> Result<()> {
        self.refuse("delete from")
    }

    fn is_remote(&self) -> bool {
        self.bytes.is_remote()
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn is_archive(&self) -> bool {
        true
    }
}
