//! How a tree is read.

use std::path::{Path, PathBuf};

use ignore::gitignore::Gitignore;

use super::FsImporter;
use crate::base::{RawString, sys};
use crate::connector::Result;
use crate::connectors::patterns;

/// Collects what an [`FsImporter`] is to read, and how.
#[derive(Clone, Debug)]
pub struct FsImporterBuilder {
    places: Vec<PathBuf>,
    patterns: Vec<String>,
    ignore_files: Vec<PathBuf>,
    origin: Option<String>,
    pub(super) extended: bool,
    pub(super) s3_metadata: bool,
    pub(super) ignore_ctime: bool,
}

impl FsImporterBuilder {
    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            patterns: Vec::new(),
            ignore_files: Vec::new(),
            origin: None,
            extended: false,
            s3_metadata: true,
            ignore_ctime: false,
        }
    }

    /// Adds a folder or file to read. Of several, the longest common ancestor becomes the source's root.
    #[must_use]
    pub fn place(mut self, path: impl Into<PathBuf>) -> Self {
        self.places.push(path.into());
        self
    }

    /// Leaves out what a gitignore pattern matches, relative to the root. Later patterns win; `!` takes back.
    #[must_use]
    pub fn exclude(mut self, pattern: impl Into<String>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// Adds the patterns of a file in gitignore's syntax, relative to the root wherever the file lies. They come
    /// before those of [`exclude`](Self::exclude).
    #[must_use]
    pub fn ignore_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ignore_files.push(path.into());
        self
    }

    /// Names the host; by default the system's name for it.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Records what upstream's entries have no field for: the number of a device, as metadata `unix.rdev`
    /// (u64, little-endian). Off by default.
    #[must_use]
    pub fn extended_metadata(mut self, extended: bool) -> Self {
        self.extended = extended;
        self
    }

    /// Chooses whether attributes `user.s3.*` are read back as the `s3.*` metadata they came from (the default),
    /// or kept as attributes.
    #[must_use]
    pub fn s3_metadata(mut self, s3_metadata: bool) -> Self {
        self.s3_metadata = s3_metadata;
        self
    }

    /// Chooses whether a file of the same size, modification time, inode and device as before is taken for unchanged
    /// even if the system changed something about it since (its ctime). Off by default: programs that write in place
    /// and put the modification time back exist.
    #[must_use]
    pub fn ignore_ctime(mut self, ignore_ctime: bool) -> Self {
        self.ignore_ctime = ignore_ctime;
        self
    }

    /// Builds the importer. Fails when a place does not exist or a pattern is not valid.
    pub fn build(self) -> Result<FsImporter> {
        FsImporter::open(self)
    }

    pub(super) fn places(&self) -> &[PathBuf] {
        &self.places
    }

    pub(super) fn recorded_origin(&self) -> String {
        let host = || String::from_utf8_lossy(&sys::host_name()).into_owned();
        self.origin.clone().unwrap_or_else(host)
    }

    pub(super) fn excludes(&self, root: &RawString) -> Result<Option<Gitignore>> {
        patterns::compile(Path::new(&*sys::os_part(root)), &self.ignore_files, &self.patterns)
    }
}
