//! How a restore treats its destination.

use std::fs::{self, DirBuilder};
use std::io;
use std::path::PathBuf;

use super::FsExporter;
use crate::base::At;
use crate::connector::Result;
pub use crate::connectors::existing::Existing;

/// Collects how an [`FsExporter`] restores.
#[derive(Clone, Debug)]
pub struct FsExporterBuilder {
    path: PathBuf,
    pub(super) existing: Existing,
    pub(super) equal: bool,
    pub(super) skip_permissions: bool,
    pub(super) devices: bool,
}

impl FsExporterBuilder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, existing: Existing::Replace, equal: false, skip_permissions: false, devices: false }
    }

    /// Chooses what happens to existing things. Existing folders are always entered; their metadata is set only
    /// with [`Existing::Replace`].
    #[must_use]
    pub fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// Leaves files alone that have the right size, time and mode, and links that have the right target.
    #[must_use]
    pub fn detect_equal(mut self, equal: bool) -> Self {
        self.equal = equal;
        self
    }

    /// Leaves out owner, mode, access lists and security attributes: what is made gets the defaults of whoever
    /// restores.
    #[must_use]
    pub fn skip_permissions(mut self, skip: bool) -> Self {
        self.skip_permissions = skip;
        self
    }

    /// Allows root to make devices, where the snapshot knows their numbers (metadata `unix.rdev`).
    #[must_use]
    pub fn devices(mut self, devices: bool) -> Self {
        self.devices = devices;
        self
    }

    /// Opens the root, creating it if it is missing.
    pub fn build(self) -> Result<FsExporter> {
        let path = &self.path;
        let fresh = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).create(path).at("create", path)?;
                true
            }
            Err(error) => Err(error).at("open", path)?,
        };
        FsExporter::open(self.path.clone(), self, fresh)
    }
}
