//! What goes into an export, read ahead of its writer.

use std::collections::HashMap;

use crossbeam_channel::Sender;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use crate::base::Id;
use crate::connector::{ContentSource as _, Xattr};
use crate::format::blob::BlobType;
use crate::format::entry::Entry;
use crate::format::object::{ChunkRef, Object};
use crate::format::xattr::XattrItem;
use crate::store::blob::BlobSource as _;
use crate::store::{Error, Repository, Window};

use super::super::monitor::{Counter, Monitor};
use super::super::part::{Part, report};
use super::super::restore::{ObjectContent, read_chunk};
use super::super::vfs::read::{Vfs, Visit};
use super::run::ExportOptions;

/// Entries whose objects are read together.
const BATCH: usize = 256;
/// Memory for the names of files with several links, in bytes. Those beyond it are exported as files.
const LINK_MEMORY: usize = 16 << 20;
/// Linux allows 64 KiB; other systems somewhat more.
const LONGEST_XATTR: u64 = 64 << 20;

/// One member of an export.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name in the archive, without a slash at either end; empty for the root.
    pub(super) name: Vec<u8>,
    pub(super) entry: Entry,
    pub(super) xattrs: Vec<Xattr>,
    /// Bytes of content that follow.
    pub(super) size: u64,
    /// The name of an earlier member that is the same file.
    pub(super) link: Option<Vec<u8>>,
}

/// What the reader tells the writer.
#[derive(Debug)]
pub(super) enum Step {
    /// A member begins; its content follows in pieces.
    Begin(Box<Member>),
    /// A piece of content.
    Bytes(Vec<u8>),
    /// So many bytes could not be read.
    Hole(u64),
}

/// Reads a part of a snapshot and sends what the writer is to do, a window at a time. Ends early when the writer is
/// gone.
pub(super) fn read(
    repository: &Repository,
    part: Part<'_>,
    options: &ExportOptions,
    monitor: &dyn Monitor,
    steps: &Sender<Vec<Step>>,
) -> Result<(), Error> {
    let (vfs, first) = part.open(repository)?;
    let start = first.path();
    let cut = if options.rebase { base_length(&start, first.is_dir()) } else { 1 };
    let mut reader = Reader { repository, vfs: &vfs, options, monitor, steps, links: Links::default() };
    let (mut batch, mut bytes) = (Vec::new(), 0_u64);
    for visit in vfs.walk(&start)? {
        if options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        match visit {
            Ok(Visit::Entry(child)) => {
                let path = child.path();
                let name = path.get(cut..).unwrap_or_default().to_vec();
                bytes = bytes.saturating_add(u64::try_from(child.entry.info.size).unwrap_or(0));
                batch.push((name, child.entry));
            }
            Ok(Visit::Left(_)) => {}
            Err(error) => report(monitor, &error.folder, &error),
        }
        if batch.len() == BATCH || bytes >= options.window() {
            if !reader.batch(std::mem::take(&mut batch))? {
                return Ok(());
            }
            bytes = 0;
        }
    }
    reader.batch(batch).map(drop)
}

/// Returns how many bytes of a path lie before the names in a rebased archive: the folder exported, or that of the
/// file exported, and its slash.
fn base_length(start: &[u8], is_dir: bool) -> usize {
    let base = if is_dir { start } else { crate::format::path::parent(start) };
    if base == b"/" { 1 } else { base.len() + 1 }
}

/// Remembers files with several links, in bounded memory.
#[derive(Debug, Default)]
struct Links {
    seen: HashMap<(u64, u64, Id), Vec<u8>>,
    bytes: usize,
}

impl Links {
    /// Returns the name of an earlier member that is this file, or remembers it as the first.
    fn earlier(&mut self, name: &[u8], entry: &Entry) -> Option<Vec<u8>> {
        let info = &entry.info;
        if info.links < 2 || !info.mode.is_regular() {
            return None;
        }
        let key = (info.device, info.inode, entry.object);
        if let Some(first) = self.seen.get(&key) {
            return Some(first.clone());
        }
        let takes = name.len() + 128;
        if self.bytes + takes <= LINK_MEMORY {
            self.bytes += takes;
            self.seen.insert(key, name.to_vec());
        }
        None
    }
}

struct Reader<'a> {
    repository: &'a Repository,
    vfs: &'a Vfs<'a, Repository>,
    options: &'a ExportOptions,
    monitor: &'a dyn Monitor,
    steps: &'a Sender<Vec<Step>>,
    links: Links,
}

impl Reader<'_> {
    /// Reads some entries with their contents and sends them. Returns whether the writer is still there.
    fn batch(&mut self, entries: Vec<(Vec<u8>, Entry)>) -> Result<bool, Error> {
        let mut members = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            let link = if self.options.links() { self.links.earlier(&name, &entry) } else { None };
            members.push((name, entry, link));
        }
        let window = self.fetch(
            members
                .iter()
                .filter(|(_, entry, link)| has_content(entry) && link.is_none())
                .map(|(_, entry, _)| (BlobType::OBJECT, entry.object)),
        )?;
        let objects: Vec<Option<Object>> =
            members.par_iter().map(|(_, entry, link)| self.object(&window, entry, link.is_some())).collect();
        let mut sending = Sending { reader: self, steps: Vec::new(), chunks: Vec::new(), bytes: 0 };
        for ((name, entry, link), object) in members.into_iter().zip(objects) {
            let Some(object) = object else { continue };
            let xattrs = if link.is_none() { sending.reader.xattrs(&entry) } else { Vec::new() };
            let size = object.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
            sending.steps.push(Step::Begin(Box::new(Member { name, entry, xattrs, size, link })));
            for chunk in object.chunks {
                sending.chunk(chunk);
                if sending.bytes >= sending.reader.options.window() && !sending.flush()? {
                    return Ok(false);
                }
            }
        }
        sending.flush()
    }

    /// Fetches blobs of a remote store in merged ranges; of a local one they are read where they are needed.
    fn fetch(&self, blobs: impl Iterator<Item = (BlobType, Id)>) -> Result<Window, Error> {
        let mut places = Vec::new();
        if self.repository.storage().is_remote() {
            let catalogue = self.repository.catalogue();
            for (kind, id) in blobs {
                places.extend(catalogue.find_any(kind, &id)?.into_iter().take(1));
            }
        }
        Ok(Window::fetch(self.repository, places))
    }

    /// Reads the object of a file; an empty one for what has no content of its own. Nothing when it cannot be read,
    /// which is reported.
    fn object(&self, window: &Window, entry: &Entry, is_link: bool) -> Option<Object> {
        if is_link || !has_content(entry) {
            return Some(Object::new(Id::ZERO));
        }
        let id = entry.object;
        let fetched = || {
            let place = self.repository.catalogue().find_any(BlobType::OBJECT, &id).ok()?.first().copied()?;
            let limit = crate::store::METADATA_LIMIT;
            self.repository.decode(BlobType::OBJECT, &id, window.get(&place)?, limit).ok()
        };
        let bytes = fetched().map_or_else(|| self.repository.get(BlobType::OBJECT, &id), Ok);
        match bytes.and_then(|bytes| Ok(Object::decode(&bytes)?)) {
            Ok(object) => Some(object),
            Err(error) => {
                report(self.monitor, &entry.path(), &error);
                None
            }
        }
    }

    fn xattrs(&self, entry: &Entry) -> Vec<Xattr> {
        if entry.xattrs.is_empty() || !self.options.links() {
            return Vec::new();
        }
        let read = |item: XattrItem| -> Result<Xattr, Error> {
            let content = ObjectContent::open(self.repository, &item.object)?;
            if content.size() > LONGEST_XATTR {
                return Err(Error::malformed("an extended attribute", "longer than 64 MiB"));
            }
            let mut value = vec![0; usize::try_from(content.size()).expect("at most 64 MiB")];
            content.read_at(0, &mut value)?;
            Ok(Xattr { name: item.name, value })
        };
        let items = self.vfs.xattrs(entry).unwrap_or_else(|error| vec![Err(error)]);
        let mut xattrs = Vec::with_capacity(items.len());
        for item in items {
            match item.and_then(read) {
                Ok(xattr) => xattrs.push(xattr),
                Err(error) => report(self.monitor, &entry.path(), &error),
            }
        }
        xattrs
    }
}

fn has_content(entry: &Entry) -> bool {
    entry.info.mode.is_regular() && !entry.object.is_zero()
}

/// A window in the making: its steps, with places for the chunks to come.
struct Sending<'r, 'a> {
    reader: &'r Reader<'a>,
    steps: Vec<Step>,
    /// The chunks of the window, and the steps that wait for them.
    chunks: Vec<(usize, ChunkRef)>,
    bytes: u64,
}

impl Sending<'_, '_> {
    fn chunk(&mut self, chunk: ChunkRef) {
        self.bytes += u64::from(chunk.length);
        self.chunks.push((self.steps.len(), chunk));
        self.steps.push(Step::Hole(u64::from(chunk.length)));
    }

    /// Reads the chunks and sends the window. Returns whether the writer is still there.
    fn flush(&mut self) -> Result<bool, Error> {
        let reader = self.reader;
        if reader.options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let chunks = std::mem::take(&mut self.chunks);
        let window = reader.fetch(chunks.iter().map(|(_, chunk)| (BlobType::CHUNK, chunk.id)))?;
        let read: Vec<(usize, Result<Vec<u8>, Error>)> = chunks
            .par_iter()
            .map(|(step, chunk)| {
                (*step, read_chunk(reader.repository, Some(&window), &chunk.id, chunk.length))
            })
            .collect();
        for (step, bytes) in read {
            match bytes {
                Ok(bytes) => {
                    reader.monitor.count(Counter::Bytes, bytes.len() as u64);
                    self.steps[step] = Step::Bytes(bytes);
                }
                Err(error) => {
                    let path = self.steps[..step].iter().rev().find_map(|step| match step {
                        Step::Begin(member) => Some(member.entry.path()),
                        _ => None,
                    });
                    report(reader.monitor, &path.unwrap_or_default(), &error);
                }
            }
        }
        self.bytes = 0;
        Ok(reader.steps.send(std::mem::take(&mut self.steps)).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{FileInfo, Mode};

    #[test]
    fn rebased_names_begin_below_the_folder_or_at_the_file() {
        assert_eq!(base_length(b"/", true), 1);
        assert_eq!(base_length(b"/etc", true), 5);
        assert_eq!(base_length(b"/etc/passwd", false), 5);
        assert_eq!(base_length(b"/passwd", false), 1);
    }

    #[test]
    fn one_file_under_two_names_is_a_link_the_second_time() {
        let mut info = FileInfo::new("x", Mode::regular(0o644));
        (info.device, info.inode, info.links) = (1, 2, 2);
        let entry = Entry::new("/", info);
        let mut links = Links::default();
        assert_eq!(links.earlier(b"a", &entry), None);
        assert_eq!(links.earlier(b"b", &entry), Some(b"a".to_vec()));
        let mut other = entry.clone();
        other.object = Id([1; 32]);
        assert_eq!(links.earlier(b"c", &other), None, "another content is another file");
        links.bytes = LINK_MEMORY;
        other.info.inode = 3;
        assert_eq!((links.earlier(b"d", &other), links.earlier(b"e", &other)), (None, None));
    }
}
