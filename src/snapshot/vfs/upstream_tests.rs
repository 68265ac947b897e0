//! What upstream's format says of a tree, built again from its entries: every id has to come out the same.

use std::path::{Path, PathBuf};

use super::build::{BuildOptions, VfsBuilder};
use super::read::{Vfs, Visit};
use crate::base::Id;
use crate::base::spill::SpillDir;
use crate::codec::chunker::{Chunker, ChunkerAlgorithm, ChunkerParams};
use crate::codec::compress::Compression;
use crate::crypto::{HashAlgorithm, MacKey, hash};
use crate::format::blob::BlobType;
use crate::format::config::Config;
use crate::format::entry::{FileInfo, Mode};
use crate::format::packfile::{FOOTER_LENGTH_LEN, Footer, Tail, decode_index};
use crate::format::ptar::{Layout, Section, TRAILER_LEN};
use crate::format::snapshot::{Header, INDEX_CONTENT_TYPE, INDEX_DIRPACK, INDEX_SUMMARY, Source};
use crate::format::wrapper::{self, Resource};
use crate::snapshot::tree::{Tree, TreeKind, TreeShape};
use crate::store::blob::memory::MemoryStore;
use crate::store::blob::{BlobSink, BlobSource, Lane};

/// Reads all blobs of an archive; `None` when it is encrypted.
fn load(archive: &Path) -> Option<(MemoryStore, Vec<Header>)> {
    let bytes = std::fs::read(archive).unwrap();
    let layout = Layout::parse(bytes.last_chunk::<TRAILER_LEN>().unwrap(), bytes.len() as u64).unwrap();
    let section = |section: Section, resource| {
        let range = usize::try_from(section.offset).unwrap()..usize::try_from(section.end()).unwrap();
        wrapper::split(&bytes[range], resource).unwrap().payload
    };
    let config = Config::decode_payload(section(layout.config, Resource::Config)).unwrap();
    if config.encryption.is_some() {
        return None;
    }
    let key = MacKey::new(HashAlgorithm::Blake3, hash(HashAlgorithm::Blake3, &config.repository_id).0);
    let algorithm = ChunkerAlgorithm::from_name(&config.chunking.algorithm).unwrap();
    let chunking = &config.chunking;
    let params = ChunkerParams { algorithm, min: chunking.min, normal: chunking.normal, max: chunking.max };
    let store = MemoryStore::with_key(key, Chunker::new(params).unwrap());
    let compression = config.compression.map_or(Compression::None, |compression| {
        Compression::from_name(&compression.algorithm, compression.level).unwrap()
    });
    let decode = |bytes: &[u8]| {
        let mut out = Vec::new();
        compression.decompress(bytes, 64 << 20, &mut out).unwrap();
        out
    };
    let payload = section(layout.packfile, Resource::Packfile);
    let tail =
        Tail::locate(payload.len() as u64, *payload.last_chunk::<FOOTER_LENGTH_LEN>().unwrap()).unwrap();
    let at = |offset: u64| usize::try_from(offset).unwrap();
    let footer =
        Footer::decode(&decode(&payload[at(tail.footer_offset)..payload.len() - FOOTER_LENGTH_LEN])).unwrap();
    let index = decode(&payload[at(footer.index_offset)..at(tail.footer_offset)]);
    let mut headers = Vec::new();
    for record in decode_index(&index, &footer).unwrap() {
        let blob = &payload[at(record.offset)..][..record.length as usize];
        if record.kind == BlobType::RANDOM {
            continue;
        }
        let plain = decode(blob);
        if record.kind == BlobType::SNAPSHOT {
            headers.push(Header::decode(&plain).unwrap());
        }
        store.put_as(record.kind, record.id, &plain, Lane::Data).unwrap();
    }
    Some((store, headers))
}

fn pairs(store: &MemoryStore, kind: TreeKind, root: Id) -> Vec<(String, Id)> {
    let tree = Tree::open(store, kind, &root).unwrap();
    let mut cursor = tree.scan().unwrap();
    let mut pairs = Vec::new();
    while let Some((key, id)) = cursor.next().unwrap() {
        pairs.push((key.escape_ascii().to_string(), id));
    }
    pairs
}

/// Builds a snapshot's view again from its parts and compares everything but the shape of the trees.
fn rebuild(store: &MemoryStore, source: &Source) {
    let vfs = Vfs::open(store, source).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let builder = VfsBuilder::new(BuildOptions {
        shape: TreeShape::Chained,
        spills: SpillDir::new(folder.path(), None),
        memory: 0,
        missing_folder: FileInfo::new("", Mode::dir(0o750)),
    });
    // Entries of 1.0.x do not say what the index knows.
    let (mut entries, mut typed) = (0, false);
    for visit in vfs.walk(b"/").unwrap() {
        if let Visit::Entry(child) = visit.unwrap() {
            assert_eq!(BlobSource::mac(store, &child.entry.encode()), child.id);
            assert_eq!(vfs.child(&child.path()).unwrap().unwrap(), child);
            builder.add_entry(&child.entry).unwrap();
            for item in vfs.xattrs(&child.entry).unwrap() {
                assert_eq!(item.unwrap().path, child.path());
            }
            entries += 1;
            typed |= !child.entry.content_type.is_empty();
        }
    }
    for item in vfs.all_xattrs().unwrap() {
        builder.add_xattr(&item.unwrap()).unwrap();
    }
    for item in vfs.errors().unwrap() {
        let item = item.unwrap();
        builder.add_error(&item.path, &item.message.lossy()).unwrap();
    }
    let built = builder.finish(store).unwrap();
    assert_eq!(built.entries, entries);
    for (kind, ours, theirs) in [
        (TreeKind::VFS, built.roots.root, source.root.root),
        (TreeKind::XATTRS, built.roots.xattrs, source.root.xattrs),
        (TreeKind::ERRORS, built.roots.errors, source.root.errors),
    ] {
        assert_eq!(pairs(store, kind, ours), pairs(store, kind, theirs));
    }
    let ours = Source { indexes: Some(built.indexes.clone()), ..Source::default() };
    for name in [INDEX_DIRPACK, INDEX_SUMMARY, INDEX_CONTENT_TYPE] {
        let Some(theirs) = source.index(name) else { continue };
        if name == INDEX_CONTENT_TYPE && !typed {
            continue;
        }
        let theirs = pairs(store, TreeKind::INDEX, theirs);
        assert_eq!(pairs(store, TreeKind::INDEX, ours.index(name).unwrap()), theirs, "{name}");
    }
    if source.index(INDEX_SUMMARY).is_some() {
        assert_eq!(built.summary, source.summary);
    }
    assert!(vfs.take_faults().is_empty());
}

/// Finds the archives below a folder.
fn archives(folder: &Path, found: &mut Vec<PathBuf>) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            archives(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "ptar") {
            found.push(path);
        }
    }
}

#[test]
fn views_of_upstream_come_out_the_same() {
    let mut found = Vec::new();
    archives(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"), &mut found);
    let loaded: Vec<_> = found.iter().filter_map(|path| load(path)).collect();
    assert!(!loaded.is_empty());
    for (store, headers) in loaded {
        assert!(!headers.is_empty());
        for header in &headers {
            rebuild(&store, header.source().unwrap());
        }
    }
}
