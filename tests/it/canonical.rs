//! Every record in the files that upstream wrote: decoded and encoded again, to the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plakar::connector::{Kind, Storage};
use plakar::connectors::{fs::FsStore, ptar::PtarStore};
use plakar::crypto::Item;
use plakar::format::blob::BlobType;
use plakar::format::config::Config;
use plakar::format::packfile::{FOOTER_LENGTH_LEN, Footer, Tail, decode_index};
use plakar::format::state::{StateReader, encode_header, encode_metadata};
use plakar::format::wrapper::{self, Resource};
use plakar::format::{dirpack, entry, error_item, object, snapshot, summary, tree, xattr};
use plakar::store::Repository;

const LIMIT: usize = 64 << 20;

/// Decodes and encodes a blob; `None` for types that are raw bytes.
fn again(kind: BlobType, bytes: &[u8]) -> Option<Vec<u8>> {
    Some(match kind {
        BlobType::SNAPSHOT => snapshot::Header::decode(bytes).unwrap().encode(),
        BlobType::OBJECT => object::Object::decode(bytes).unwrap().encode(),
        BlobType::VFS_ENTRY => entry::Entry::decode(bytes).unwrap().encode(),
        BlobType::XATTR_ENTRY => xattr::XattrItem::decode(bytes).unwrap().encode(),
        BlobType::ERROR_ENTRY => error_item::ErrorItem::decode(bytes).unwrap().encode(),
        BlobType::SUMMARY => summary::Summary::decode(bytes).unwrap().encode(),
        BlobType::VFS_ROOT | BlobType::ERROR_ROOT | BlobType::XATTR_ROOT | BlobType::TREE_ROOT => {
            tree::Root::decode(bytes).unwrap().encode()
        }
        BlobType::VFS_NODE | BlobType::ERROR_NODE | BlobType::XATTR_NODE | BlobType::TREE_NODE => {
            tree::Node::decode(bytes).unwrap().encode()
        }
        _ => return None,
    })
}

/// Takes a store apart; returns how many records of each type came back the same.
fn assert_canonical(repository: &Repository) -> BTreeMap<BlobType, usize> {
    let storage = repository.storage();
    let config = storage.config().unwrap();
    let payload = wrapper::split(&config, Resource::Config).unwrap().payload;
    assert_eq!(Config::decode_payload(payload).unwrap().encode_payload(), payload);
    let mut counts = BTreeMap::new();
    for id in ids(storage.as_ref(), Kind::Packfile) {
        packfile(repository, &storage.get(Kind::Packfile, id).unwrap(), &mut counts);
    }
    for id in ids(storage.as_ref(), Kind::State) {
        let resource = storage.get(Kind::State, id).unwrap();
        let parts = wrapper::split(&resource, Resource::State).unwrap();
        let plain = repository.encoding().decode(Item::state(id), parts.payload, LIMIT, "state").unwrap();
        let mut reader = StateReader::new(&plain[..], parts.version).unwrap();
        let mut bytes = encode_header(parts.version, reader.parent());
        for entry in &mut reader {
            entry.unwrap().encode(&mut bytes);
        }
        encode_metadata(reader.metadata().unwrap(), &mut bytes);
        assert_eq!(bytes, plain, "state {id}");
    }
    counts
}

fn ids(storage: &dyn Storage, kind: Kind) -> Vec<plakar::base::Id> {
    let mut ids = Vec::new();
    storage.list(kind, &mut |listed| ids.push(listed.id)).unwrap();
    ids
}

fn packfile(repository: &Repository, resource: &[u8], counts: &mut BTreeMap<BlobType, usize>) {
    let encoding = repository.encoding();
    let payload = wrapper::split(resource, Resource::Packfile).unwrap().payload;
    let last = *payload.last_chunk::<FOOTER_LENGTH_LEN>().unwrap();
    let tail = Tail::locate(payload.len() as u64, last).unwrap();
    let at = usize::try_from(tail.footer_offset).unwrap();
    let footer =
        encoding.decode(Item::footer(), &payload[at..at + tail.footer_length as usize], LIMIT, "footer");
    let footer_bytes = footer.unwrap();
    let footer = Footer::decode(&footer_bytes).unwrap();
    assert_eq!(footer.encode()[..], footer_bytes);
    let area = usize::try_from(footer.index_offset).unwrap();
    let index = encoding.decode(Item::index(), &payload[area..at], LIMIT, "index").unwrap();
    let records = decode_index(&index, &footer).unwrap();
    let encoded: Vec<u8> = records.iter().flat_map(plakar::format::packfile::IndexRecord::encode).collect();
    assert_eq!(encoded, index);
    for record in records.iter().filter(|record| record.kind != BlobType::RANDOM) {
        let stored = &payload[usize::try_from(record.offset).unwrap()..][..record.length as usize];
        let plain = repository
            .encoding()
            .decode(Item::blob(record.kind.0, record.id), stored, LIMIT, "blob")
            .unwrap();
        if let Some(bytes) = again(record.kind, &plain) {
            assert_eq!(bytes, plain, "{} {}", record.kind, record.id);
            *counts.entry(record.kind).or_default() += 1;
        } else if record.kind == BlobType::CHUNK && plain.first().is_some_and(|kind| (1..=2).contains(kind)) {
            // It may be a dirpack: then every frame comes back the same.
            if let Ok(frames) = dirpack::Frames::new(&plain).collect::<Result<Vec<_>, _>>() {
                let mut bytes = Vec::new();
                for frame in frames {
                    dirpack::encode_frame(frame.kind, frame.entry, frame.mac, &mut bytes);
                }
                assert_eq!(bytes, plain);
            }
        }
    }
}

#[test]
fn records_in_archives() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut archives: Vec<PathBuf> = ["vectors/plain.ptar", "vectors/encrypted.ptar", "upstream/v1.0.6.ptar"]
        .iter()
        .chain(&["upstream/v1.1.4.ptar"])
        .map(|name| data.join(name))
        .collect();
    if let Some(shared) = super::interop::shared_fixtures() {
        let more = ["v1.1.4/encrypted.ptar", "v1.1.4/multi-plain.ptar", "v1.1.4-s3/from-s3-store.ptar"];
        archives.extend(more.iter().map(|name| shared.join(name)));
    }
    for path in archives {
        let repository = super::interop::open(PtarStore::open(&path, true).unwrap());
        let counts = assert_canonical(&repository);
        assert!(counts.values().sum::<usize>() > 20, "{}: {counts:?}", path.display());
    }
}

#[test]
fn records_in_stores() {
    let Some(shared) = super::interop::shared_fixtures() else { return };
    for name in
        ["v1.1.4/store-plain.tar.gz", "v1.0.6/store-encrypted.tar.gz", "v1.1.4-s3/kloset-bucket.tar.gz"]
    {
        let temporary = tempfile::tempdir().unwrap();
        super::interop::unpack(&shared.join(name), temporary.path());
        let root = super::interop::store_in(temporary.path());
        // A bucket has no empty folders, a folder store is nothing without.
        std::fs::create_dir_all(root.join("locks")).unwrap();
        let repository = super::interop::open(FsStore::new(&root));
        assert!(assert_canonical(&repository).values().sum::<usize>() > 100, "{name}");
    }
}

/// What is checked in is what these tests know of, and nothing else.
#[test]
fn the_frozen_files() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut found = Vec::new();
    let mut folders = vec![data.clone()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(&data).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    let known = [
        "documents.txt",
        "policies/destination.json",
        "policies/scaleway-destination.json",
        "policies/scaleway-source.json",
        "policies/scaleway-store.json",
        "policies/source.json",
        "policies/store.json",
        "tls/ca.pem",
        "tls/server.key",
        "tls/server.pem",
        "upstream/v1.0.6.ptar",
        "upstream/v1.0.6.tsv",
        "upstream/v1.1.4.ptar",
        "upstream/v1.1.4.tsv",
        "vectors/encrypted.ptar",
        "vectors/plain.ptar",
    ];
    assert_eq!(found, known);
}
