//! Choosing what a quick index copies: what leads from a snapshot to its first folder, and the upper levels of trees.
//!
//! Metadata waits in temporary files until the archive is finished; here it is read from there once more. Whatever
//! cannot be found or read is left out: a reader then fetches it.

use std::collections::HashSet;
use std::fs::File;

use crate::base::Id;
use crate::base::sys::FileAt as _;
use crate::crypto::seal::Item;
use crate::format::blob::BlobType;
use crate::format::object::Object;
use crate::format::quick::{Copy, QuickPlace, SnapshotPlace, fingerprint};
use crate::format::snapshot::{Header, INDEX_DIRPACK, INDEX_SUMMARY, Source};
use crate::format::tree::{Node, Root};

use super::super::repository::METADATA_LIMIT;
use super::super::unlock::Unlocked;
use super::write::Run;

/// Copies of headers take at most this many bytes together.
const HEADERS: usize = 1 << 20;
/// All other copies take at most this many bytes together.
const COPIES: usize = 1 << 20;
/// The list of a first folder is copied up to this many bytes.
const FIRST_FOLDER: usize = 128 << 10;
/// Levels of a tree at most.
const MAX_DEPTH: usize = 64;

/// What goes into a quick index besides places.
#[derive(Debug, Default)]
pub(in super::super) struct Collected {
    pub(super) snapshots: Vec<SnapshotPlace>,
    pub(super) headers: Vec<Copy>,
    pub(super) copies: Vec<Copy>,
}

/// Blobs of an unfinished archive that can be read: those of the regions that wait in temporary files.
#[derive(Debug)]
pub(in super::super) struct Spooled<'a> {
    unlocked: &'a Unlocked,
    regions: Vec<Region<'a>>,
}

#[derive(Debug)]
struct Region<'a> {
    file: &'a File,
    /// Where it will begin in the blob area.
    base: u64,
    /// By fingerprint.
    places: Vec<QuickPlace>,
}

impl<'a> Spooled<'a> {
    /// Opens an archive without any region.
    pub(in super::super) fn new(unlocked: &'a Unlocked) -> Self {
        Self { unlocked, regions: Vec::new() }
    }

    /// Adds a region that will begin at `base`.
    pub(in super::super) fn add(&mut self, file: &'a File, run: &Run, base: u64) {
        let mut places = run.places();
        places.sort_unstable();
        self.regions.push(Region { file, base, places });
    }

    /// Reads a blob, verified; returns it with its offset in the blob area and its encoded length.
    fn get(&self, kind: BlobType, id: &Id) -> Option<(Vec<u8>, u64, u32)> {
        let wanted = fingerprint(kind, id);
        self.regions.iter().find_map(|region| {
            let from = region.places.partition_point(|place| place.fingerprint < wanted);
            let same = region.places[from..].iter().take_while(|place| place.fingerprint == wanted);
            same.into_iter().find_map(|place| {
                let plain = self.read(region.file, place, kind, id)?;
                Some((plain, region.base + place.offset, place.length))
            })
        })
    }

    fn read(&self, file: &File, place: &QuickPlace, kind: BlobType, id: &Id) -> Option<Vec<u8>> {
        let mut stored = vec![0; usize::try_from(place.length).ok()?];
        file.read_exact_at(&mut stored, place.offset).ok()?;
        let item = Item::blob(kind.0, *id);
        let plain = self.unlocked.encoding.decode(item, &stored, METADATA_LIMIT, "a blob").ok()?;
        (!kind.is_named_by_mac() || self.unlocked.keys.id(&plain) == *id).then_some(plain)
    }

    /// Collects what the snapshots of the archive need first, those put last before the others.
    pub(in super::super) fn collect(&self, snapshots: &[Id]) -> Collected {
        let mut walk = Walk { spooled: self, seen: HashSet::new(), copies: Vec::new(), left: COPIES };
        let mut collected = Collected::default();
        let (mut trees, mut left) = (Vec::new(), HEADERS);
        for id in snapshots.iter().rev() {
            let Some((plain, offset, length)) = self.get(BlobType::SNAPSHOT, id) else {
                // A list that is not whole would be worse than none.
                return Collected::default();
            };
            collected.snapshots.push(SnapshotPlace { id: *id, offset, length });
            let header = Header::decode(&plain).ok();
            let signed = header.as_ref().is_some_and(|header| header.identity.is_signed());
            let signature = signed.then(|| self.get(BlobType::SIGNATURE, id)).flatten();
            let more =
                [(BlobType::SNAPSHOT, Some(plain)), (BlobType::SIGNATURE, signature.map(|found| found.0))];
            for (kind, plain) in more {
                let Some(plain) = plain.filter(|plain| plain.len() <= left) else { continue };
                left -= plain.len();
                collected.headers.push(Copy { kind, id: *id, plain });
            }
            for source in header.iter().flat_map(Header::sources) {
                trees.extend(walk.source(source));
            }
        }
        for tree in &trees {
            walk.inner_nodes(tree);
        }
        collected.copies = walk.copies;
        collected
    }
}

impl Collected {
    /// Returns whether there is anything to find here.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.snapshots.is_empty()
    }
}

/// A tree whose leftmost path was copied.
#[derive(Debug)]
struct Tree {
    node: BlobType,
    top: Id,
    /// Levels above the leaves.
    inner: usize,
    leaf: Node,
}

/// Copies blobs, each once, as long as there is room.
struct Walk<'a> {
    spooled: &'a Spooled<'a>,
    seen: HashSet<(BlobType, Id)>,
    copies: Vec<Copy>,
    left: usize,
}

impl Walk<'_> {
    /// Copies a blob; returns it, also when it was copied before.
    fn add(&mut self, kind: BlobType, id: &Id) -> Option<Vec<u8>> {
        let (plain, ..) = self.spooled.get(kind, id)?;
        if self.seen.contains(&(kind, *id)) {
            return Some(plain);
        }
        self.left = self.left.checked_sub(plain.len())?;
        self.seen.insert((kind, *id));
        self.copies.push(Copy { kind, id: *id, plain: plain.clone() });
        Some(plain)
    }

    /// Copies what leads to the first folder of a source; returns its trees.
    fn source(&mut self, source: &Source) -> Vec<Tree> {
        let folder = source.importer.directory.as_bytes();
        let files = self.tree(BlobType::VFS_ROOT, &source.root.root);
        for (key, entry) in files.iter().flat_map(|tree| tree.leaf.keys.iter().zip(&tree.leaf.values)) {
            if key.as_bytes() == folder || key.as_bytes() == b"/" {
                self.add(BlobType::VFS_ENTRY, entry);
            }
        }
        let dirpacks = source.index(INDEX_DIRPACK).and_then(|root| self.tree(BlobType::TREE_ROOT, &root));
        for (key, object) in dirpacks.iter().flat_map(|tree| tree.leaf.keys.iter().zip(&tree.leaf.values)) {
            if key.as_bytes() == folder {
                self.first_folder(object);
            }
        }
        if let Some(root) = source.index(INDEX_SUMMARY) {
            // Opened with the others, and hardly ever read.
            self.add(BlobType::TREE_ROOT, &root);
        }
        files.into_iter().chain(dirpacks).collect()
    }

    /// Copies the root, and the path to the leftmost leaf.
    fn tree(&mut self, kind: BlobType, root: &Id) -> Option<Tree> {
        let node = kind.node_of_root()?;
        let top = Root::decode(&self.add(kind, root)?).ok()?.root;
        let mut id = top;
        for inner in 0..MAX_DEPTH {
            let leaf = Node::decode(&self.add(node, &id)?).ok()?;
            match leaf.pointers.first() {
                Some(first) => id = *first,
                None => return Some(Tree { node, top, inner, leaf }),
            }
        }
        None
    }

    /// Copies the list of a folder, as far as it is short.
    fn first_folder(&mut self, object: &Id) -> Option<()> {
        let object = Object::decode(&self.add(BlobType::OBJECT, object)?).ok()?;
        let mut length = 0;
        for chunk in &object.chunks {
            length += chunk.length as usize;
            if length > FIRST_FOLDER {
                break;
            }
            self.add(BlobType::CHUNK, &chunk.id)?;
        }
        Some(())
    }

    /// Copies the levels above the leaves, the highest first.
    fn inner_nodes(&mut self, tree: &Tree) {
        let mut level = vec![tree.top];
        for _ in 0..tree.inner {
            let mut below = Vec::new();
            for id in &level {
                let Some(node) = self.add(tree.node, id).and_then(|plain| Node::decode(&plain).ok()) else {
                    return;
                };
                below.extend(node.pointers);
            }
            level = below;
        }
    }
}
