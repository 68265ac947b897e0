//! Following snapshots to their last blob.
//!
//! Nothing is read twice: a node, object or dirpack seen before has been followed before. An entry that a dirpack
//! holds as well is not read either, since it is the same bytes. Remote blobs are fetched by ranges that serve many.

use crate::base::{Cancel, Id};
use crate::crypto::MacKey;
use crate::format::blob::BlobType;
use crate::format::dirpack::FrameReader;
use crate::format::entry::Entry;
use crate::format::object::Object;
use crate::format::snapshot::{Header, Source};
use crate::format::tree::{Node, Root};
use crate::format::xattr::XattrItem;
use crate::store::blob::BlobSource;
use crate::store::{Error, KnownSet, Repository, Window};

use super::super::catalogue;
use super::super::monitor::{Counter, Monitor};
use super::super::tree::TreeKind;
use super::super::vfs::read::ObjectReader;
use super::census::Census;

/// What the values of a tree are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    Files,
    Attributes,
    Errors,
    Dirpacks,
    Summaries,
    ContentTypes,
}

/// Something that has to be read, because it leads on.
#[derive(Clone, Copy, Debug)]
enum Task {
    Node(Purpose, Id),
    Object(Id),
    Dirpack(Id),
    Entry(Id),
    Attribute(Id),
}

/// Tasks whose blobs are fetched together.
const BATCH: usize = 512;
/// What is fetched ahead for them, in bytes.
const AHEAD: u64 = 16 << 20;

/// Marks what snapshots need.
pub(super) struct Marker<'a> {
    pub(super) repository: &'a Repository,
    pub(super) census: &'a mut Census,
    /// Blobs that are needed.
    pub(super) needed: &'a KnownSet,
    /// Nodes and dirpacks that were followed, by purpose: a tree node may serve two.
    followed: KnownSet,
    /// Entries that dirpacks hold.
    framed: KnownSet,
    monitor: &'a dyn Monitor,
    cancel: &'a Cancel,
    tasks: Vec<Task>,
}

impl<'a> Marker<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        census: &'a mut Census,
        needed: &'a KnownSet,
        monitor: &'a dyn Monitor,
        cancel: &'a Cancel,
    ) -> Self {
        let set = || KnownSet::new(repository.spills());
        let (followed, framed) = (set(), set());
        Self { repository, census, needed, followed, framed, monitor, cancel, tasks: Vec::new() }
    }

    /// Follows all live snapshots; returns how many there are.
    pub(super) fn all(&mut self) -> Result<u64, Error> {
        let snapshots = self.census.catalogue.snapshots();
        for id in &snapshots {
            let header = catalogue::header(self.repository, id)?;
            self.snapshot(&header)?;
        }
        Ok(snapshots.len() as u64)
    }

    fn snapshot(&mut self, header: &Header) -> Result<(), Error> {
        self.need(BlobType::SNAPSHOT, header.identifier)?;
        if header.identity.is_signed() {
            self.need(BlobType::SIGNATURE, header.identifier)?;
        }
        header.sources().iter().try_for_each(|source| self.source(source))
    }

    fn source(&mut self, source: &Source) -> Result<(), Error> {
        // Dirpacks first: what they hold need not be read from the tree.
        for wanted in [&b"dirpack"[..], b"summary", b"content-type"] {
            for index in source.indexes.iter().flatten().filter(|index| index.name.as_bytes() == wanted) {
                let purpose = match wanted {
                    b"dirpack" => Purpose::Dirpacks,
                    b"summary" => Purpose::Summaries,
                    _ => Purpose::ContentTypes,
                };
                self.tree(TreeKind::INDEX, purpose, index.value)?;
            }
        }
        let known = [&b"dirpack"[..], b"summary", b"content-type"];
        if let Some(strange) =
            source.indexes.iter().flatten().find(|index| !known.contains(&index.name.as_bytes()))
        {
            let name = strange.name.as_bytes().escape_ascii();
            return Err(Error::Incomplete(format!(
                "a snapshot has an index '{name}' that this program does not know"
            )));
        }
        self.tree(TreeKind::VFS, Purpose::Files, source.root.root)?;
        self.tree(TreeKind::XATTRS, Purpose::Attributes, source.root.xattrs)?;
        self.tree(TreeKind::ERRORS, Purpose::Errors, source.root.errors)
    }

    fn tree(&mut self, kind: TreeKind, purpose: Purpose, root: Id) -> Result<(), Error> {
        if root.is_zero() {
            return Ok(());
        }
        self.need(kind.root, root)?;
        let root = Root::decode(&self.repository.get(kind.root, &root)?)?;
        self.push_node(purpose, root.root)?;
        self.drain()
    }

    /// Marks a blob; returns whether it was not marked before.
    fn need(&mut self, kind: BlobType, id: Id) -> Result<bool, Error> {
        if id.is_zero() || !self.needed.insert(kind, id)? {
            return Ok(false);
        }
        self.monitor.count(Counter::Blobs, 1);
        self.census.need(kind, &id)?;
        Ok(true)
    }

    fn push_node(&mut self, purpose: Purpose, id: Id) -> Result<(), Error> {
        self.need(purpose.tree().node, id)?;
        if self.followed.insert(BlobType(purpose as u8), id)? {
            self.tasks.push(Task::Node(purpose, id));
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), Error> {
        while !self.tasks.is_empty() {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let batch = self.tasks.split_off(self.tasks.len().saturating_sub(BATCH));
            let source = Ahead::fetch(self.repository, &batch)?;
            for task in batch {
                self.follow(task, &source)?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, task: Task, source: &Ahead<'_>) -> Result<(), Error> {
        match task {
            Task::Node(purpose, id) => {
                let node = Node::decode(&source.get(purpose.tree().node, &id)?)?;
                node.pointers.iter().try_for_each(|child| self.push_node(purpose, *child))?;
                node.values.iter().try_for_each(|value| self.value(purpose, *value))
            }
            Task::Object(id) => {
                let object = Object::decode(&source.get(BlobType::OBJECT, &id)?)?;
                object.chunks.iter().try_for_each(|chunk| self.need(BlobType::CHUNK, chunk.id).map(drop))
            }
            Task::Dirpack(id) => self.dirpack(&id, source),
            Task::Entry(id) => {
                let entry = Entry::decode(&source.get(BlobType::VFS_ENTRY, &id)?)?;
                self.object(entry.object)
            }
            Task::Attribute(id) => {
                let item = XattrItem::decode(&source.get(BlobType::XATTR_ENTRY, &id)?)?;
                self.object(item.object)
            }
        }
    }

    fn value(&mut self, purpose: Purpose, id: Id) -> Result<(), Error> {
        match purpose {
            Purpose::Files => {
                if self.need(BlobType::VFS_ENTRY, id)? && !self.framed.contains(BlobType::VFS_ENTRY, &id)? {
                    self.tasks.push(Task::Entry(id));
                }
            }
            Purpose::Attributes => {
                if self.need(BlobType::XATTR_ENTRY, id)? {
                    self.tasks.push(Task::Attribute(id));
                }
            }
            Purpose::Errors => drop(self.need(BlobType::ERROR_ENTRY, id)?),
            Purpose::Summaries => drop(self.need(BlobType::SUMMARY, id)?),
            Purpose::Dirpacks => {
                // An object of this id may be a file's as well: then it is marked, but its frames were not followed.
                self.need(BlobType::OBJECT, id)?;
                if self.followed.insert(BlobType(purpose as u8 | 0x80), id)? {
                    self.tasks.push(Task::Dirpack(id));
                }
            }
            // Informative: upstream may leave old ids in it that nothing holds any more.
            Purpose::ContentTypes => {
                if self.repository.has(BlobType::VFS_ENTRY, &id)? {
                    self.value(Purpose::Files, id)?;
                }
            }
        }
        Ok(())
    }

    fn object(&mut self, id: Id) -> Result<(), Error> {
        if self.need(BlobType::OBJECT, id)? {
            self.tasks.push(Task::Object(id));
        }
        Ok(())
    }

    /// Follows the contents of the entries in a dirpack, and the chunks that it is made of.
    fn dirpack(&mut self, id: &Id, source: &Ahead<'_>) -> Result<(), Error> {
        let reader = ObjectReader::open(source, id)?;
        let chunks: Vec<Id> = reader.object().chunks.iter().map(|chunk| chunk.id).collect();
        for chunk in chunks {
            self.need(BlobType::CHUNK, chunk)?;
        }
        let mut frames = FrameReader::new(reader);
        while let Some(frame) = frames.next_frame().map_err(stream_error)? {
            // A frame that lies about its MAC vouches for no entry of the tree.
            if self.repository.mac(frame.entry) == frame.mac {
                self.framed.insert(BlobType::VFS_ENTRY, frame.mac)?;
            }
            let entry = Entry::decode(frame.entry)?;
            self.object(entry.object)?;
        }
        Ok(())
    }
}

/// Tells what a stream of frames failed of: the store, or its own bytes.
pub(in super::super) fn stream_error(error: crate::format::Error) -> Error {
    match error {
        crate::format::Error::Io { what, source } => match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => crate::format::Error::Io { what, source }.into(),
        },
        other => other.into(),
    }
}

impl Purpose {
    fn tree(self) -> TreeKind {
        match self {
            Self::Files => TreeKind::VFS,
            Self::Attributes => TreeKind::XATTRS,
            Self::Errors => TreeKind::ERRORS,
            Self::Dirpacks | Self::Summaries | Self::ContentTypes => TreeKind::INDEX,
        }
    }
}

/// A store with the blobs of a batch of tasks at hand, where reading crosses a network.
#[derive(Debug)]
struct Ahead<'a> {
    repository: &'a Repository,
    window: Window,
    /// The chunks of dirpacks, known only once their objects are read.
    chunks: Window,
}

impl<'a> Ahead<'a> {
    fn fetch(repository: &'a Repository, batch: &[Task]) -> Result<Self, Error> {
        let mut ahead = Self { repository, window: Window::default(), chunks: Window::default() };
        if !repository.storage().is_remote() || batch.len() < 2 {
            return Ok(ahead);
        }
        let blobs = batch.iter().map(|task| match *task {
            Task::Node(purpose, id) => (purpose.tree().node, id),
            Task::Object(id) | Task::Dirpack(id) => (BlobType::OBJECT, id),
            Task::Entry(id) => (BlobType::VFS_ENTRY, id),
            Task::Attribute(id) => (BlobType::XATTR_ENTRY, id),
        });
        ahead.window = ahead.window_of(blobs)?;
        let mut chunks = Vec::new();
        for task in batch {
            if let Task::Dirpack(id) = task
                && let Ok(bytes) = ahead.get(BlobType::OBJECT, id)
                && let Ok(object) = Object::decode(&bytes)
                // Large ones are streamed: a chunk is worth a request.
                && let [only] = object.chunks.as_slice()
            {
                chunks.push((BlobType::CHUNK, only.id));
            }
        }
        ahead.chunks = ahead.window_of(chunks.into_iter())?;
        Ok(ahead)
    }

    fn window_of(&self, blobs: impl Iterator<Item = (BlobType, Id)>) -> Result<Window, Error> {
        let catalogue = self.repository.catalogue();
        let (mut places, mut bytes) = (Vec::new(), 0);
        for (kind, id) in blobs {
            let Some(place) = catalogue.find_any(kind, &id)?.into_iter().next() else { continue };
            bytes += u64::from(place.length);
            if bytes > AHEAD {
                break;
            }
            places.push(place);
        }
        Ok(Window::fetch(self.repository, places))
    }
}

impl BlobSource for Ahead<'_> {
    fn mac_key(&self) -> &MacKey {
        self.repository.mac_key()
    }

    fn get(&self, kind: BlobType, id: &Id) -> Result<Vec<u8>, Error> {
        if !(self.window.is_empty() && self.chunks.is_empty()) {
            for place in self.repository.catalogue().find_any(kind, id)? {
                let stored = self.window.get(&place).or_else(|| self.chunks.get(&place));
                // What does not verify is read again from the source.
                if let Some(Ok(plain)) = stored
                    .map(|stored| self.repository.decode(kind, id, stored, crate::store::METADATA_LIMIT))
                {
                    return Ok(plain);
                }
            }
        }
        self.repository.get(kind, id)
    }

    fn has(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        self.repository.has(kind, id)
    }
}
