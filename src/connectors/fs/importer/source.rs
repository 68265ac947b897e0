//! The importer itself: comparing, opening, attributes.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;

use ignore::gitignore::Gitignore;
use rustix::fs::{OFlags, lgetxattr, listxattr, llistxattr};
use rustix::io::Errno;

use super::content::FileContent;
use super::options::FsImporterBuilder;
use super::selection::Selection;
use super::walk::Walk;
use crate::base::{RawString, Timestamp};
use crate::connector::{
    Change, Content, Error, ErrorKind, Importer, Metadata, Record, Result, SourceInfo, Work, Xattr,
};
use crate::connectors::fs::sys;
use crate::format::entry::Entry;

/// A tree of the local file system.
#[derive(Debug)]
pub struct FsImporter {
    pub(super) selection: Selection,
    pub(super) root: RawString,
    pub(super) excludes: Option<Gitignore>,
    pub(super) origin: String,
    pub(super) options: FsImporterBuilder,
}

impl FsImporter {
    /// Begins to describe a source.
    pub fn builder() -> FsImporterBuilder {
        FsImporterBuilder::new()
    }

    pub(super) fn open(options: FsImporterBuilder) -> Result<Self> {
        let (selection, root) = Selection::of(options.places())?;
        let excludes = options.excludes(&root)?;
        let origin = options.recorded_origin();
        Ok(Self { selection, root, excludes, origin, options })
    }

    /// Returns whether the patterns leave a path out. What was asked for by name is never left out.
    pub(super) fn is_excluded(&self, path: &[u8], is_folder: bool) -> bool {
        let path = OsStr::from_bytes(path);
        self.excludes.as_ref().is_some_and(|excludes| excludes.matched(path, is_folder).is_ignore())
    }

    /// Reads the metadata that a path's attributes `user.s3.*` stand for.
    pub(super) fn s3_metadata(&self, path: &[u8]) -> io::Result<Vec<Metadata>> {
        let follow = self.selection.contains(path);
        let mut names = xattr_names(path, follow)?;
        names.retain(|name| name.starts_with(sys::S3_ATTRIBUTES));
        names.sort_unstable();
        let mut metadata = Vec::new();
        for name in names {
            if let Some(value) = xattr_value(path, &name, follow)? {
                metadata.push(Metadata { key: name[b"user.".len()..].into(), value });
            }
        }
        Ok(metadata)
    }

    fn is_kept(&self, name: &[u8]) -> bool {
        let known = [&b"user."[..], b"security.", b"system.posix_acl_"];
        let becomes_metadata = self.options.s3_metadata && name.starts_with(sys::S3_ATTRIBUTES);
        known.iter().any(|prefix| name.starts_with(prefix)) && !becomes_metadata
    }
}

fn xattr_names(path: &[u8], follow: bool) -> io::Result<Vec<Vec<u8>>> {
    sys::with_short_path(path, |path| {
        sys::xattr_names(|buffer| if follow { listxattr(path, buffer) } else { llistxattr(path, buffer) })
    })
}

fn xattr_value(path: &[u8], name: &[u8], follow: bool) -> io::Result<Option<Vec<u8>>> {
    sys::with_short_path(path, |path| {
        sys::xattr_value(|buffer| {
            if follow { rustix::fs::getxattr(path, name, buffer) } else { lgetxattr(path, name, buffer) }
        })
    })
}

impl Importer for FsImporter {
    fn source(&self) -> SourceInfo {
        SourceInfo { kind: "fs".into(), origin: self.origin.clone(), root: self.root.clone() }
    }

    /// Reports `/` and every folder on the way to the root, then the root and what is below it. A folder that
    /// cannot be listed has two records: its entry, and an error.
    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        // Breaking off is the receiver's wish, not a failure.
        let _: ControlFlow<()> = Walk::new(self, emit).run()?;
        Ok(())
    }

    /// Compares what `lstat` tells. Attributes and access lists are no part of that: they are read each time.
    fn compare(&self, record: &Record, previous: &Entry, begun: Timestamp) -> Change {
        super::times::compare(record, previous, begun)
    }

    fn open(&self, record: &Record) -> Result<Box<dyn Content>> {
        let path = record.path.as_bytes();
        let failed = |error| Error::io("open", record.path.lossy(), error);
        // Never waits for the far end of a pipe that took the file's place.
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        if !self.selection.contains(path) {
            flags |= OFlags::NOFOLLOW;
        }
        let opened = match sys::open_long(path, flags | sys::NO_TRACE) {
            // Only a file's owner may read it without leaving a trace.
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                sys::open_long(path, flags)
            }
            other => other,
        };
        let file = match opened {
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Err(Error::new(ErrorKind::Changed, "open", record.path.lossy())
                    .detail("a symbolic link took its place"));
            }
            other => File::from(other.map_err(failed)?),
        };
        Ok(Box::new(FileContent::open(file, record.path.lossy().into_owned())?))
    }

    /// Reads attributes of the classes `user.`, `security.` and `system.posix_acl_`.
    fn xattrs(&self, record: &Record) -> Result<Vec<Xattr>> {
        let path = record.path.as_bytes();
        let failed = |error| Error::io("read the extended attributes of", record.path.lossy(), error);
        // A link that was itself asked for is recorded as one where what it leads to cannot be seen.
        let is_link = record.info.as_ref().is_ok_and(|info| info.mode.is_symlink());
        let follow = !is_link && self.selection.contains(path);
        let mut names = xattr_names(path, follow).map_err(failed)?;
        names.retain(|name| self.is_kept(name));
        names.sort_unstable();
        let mut xattrs = Vec::with_capacity(names.len());
        for name in names {
            if let Some(value) = xattr_value(path, &name, follow).map_err(failed)? {
                xattrs.push(Xattr { name: name.into(), value });
            }
        }
        Ok(xattrs)
    }

    fn work(&self) -> Work {
        Work::Local
    }
}
