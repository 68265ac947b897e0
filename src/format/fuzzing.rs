//! What the fuzz targets and the replay of their findings do with bytes: decode them, and hold the decoders to what
//! they promise. Nothing here is part of the interface.

use super::config::Config;
use super::dirpack::{FrameReader, Frames, encode_frame};
use super::entry::Entry;
use super::error::Result;
use super::error_item::ErrorItem;
use super::lock::Lock;
use super::msgpack::Reader;
use super::object::Object;
use super::packfile::{self, Footer, IndexRecord};
use super::path;
use super::ptar;
use super::quick;
use super::snapshot::Header;
use super::state::{StateReader, encode_header, encode_metadata};
use super::summary::Summary;
use super::tree::{Node, Root};
use super::version::Version;
use super::wrapper::{self, Resource};
use super::xattr::XattrItem;

/// What one target does with one input. It panics when a promise is broken.
pub type Target = fn(&[u8]);

/// All targets by name: those of `fuzz/fuzz_targets`, and the folders of `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 19] = [
    ("config", config),
    ("dirpack", dirpack),
    ("entry", entry),
    ("error_item", error_item),
    ("header", header),
    ("lock", lock),
    ("msgpack", msgpack),
    ("node", node),
    ("object", object),
    ("packfile_footer", packfile_footer),
    ("packfile_index", packfile_index),
    ("path", paths),
    ("ptar", archive),
    ("quick", quick_index),
    ("root", root),
    ("state", state),
    ("summary", summary),
    ("wrapper", resource),
    ("xattr", xattr),
];

/// Decodes; what decodes is encoded canonically: decoding and encoding that changes nothing.
fn stable<T>(data: &[u8], decode: impl Fn(&[u8]) -> Result<T>, encode: impl Fn(&T) -> Vec<u8>) {
    let Ok(value) = decode(data) else { return };
    let canonical = encode(&value);
    let again = decode(&canonical).expect("what was encoded can be decoded");
    assert_eq!(encode(&again), canonical, "the canonical form is not stable");
}

/// Decodes a CONFIG's payload.
pub fn config(data: &[u8]) {
    let Ok(value) = Config::decode_payload(data) else { return };
    let canonical = value.encode_payload();
    // Compact integers grow, so a payload just below the limit may not come back.
    let Ok(again) = Config::decode_payload(&canonical) else {
        assert!(canonical.len() > data.len(), "what was encoded can be decoded");
        return;
    };
    assert_eq!(again.encode_payload(), canonical);
    if let Some(native) = value.native() {
        assert_eq!(native.editable, canonical == data);
        assert!(again.native().is_some_and(|native| native.editable));
    }
}

/// Decodes a dirpack through both readers, which agree; frames have one form only.
pub fn dirpack(data: &[u8]) {
    let mut encoded = Vec::new();
    let mut reader = FrameReader::new(data);
    for frame in Frames::new(data) {
        let Ok(frame) = frame else {
            assert!(reader.next_frame().is_err());
            return;
        };
        assert_eq!(reader.next_frame().expect("both readers agree"), Some(frame));
        encode_frame(frame.kind, frame.entry, frame.mac, &mut encoded);
        entry(frame.entry);
    }
    assert_eq!(reader.next_frame().expect("both readers agree"), None);
    assert_eq!(encoded, data);
}

/// Decodes an entry, and checks what the rules for paths promise.
pub fn entry(data: &[u8]) {
    stable(data, Entry::decode, Entry::encode);
    if let Ok(entry) = Entry::decode(data)
        && path::check_entry(&entry).is_ok()
    {
        let whole = entry.path();
        assert!(path::is_clean(&whole));
        assert_eq!(path::name(&whole), entry.info.name.as_bytes());
        assert!(entry.is_root() || path::parent(&whole) == entry.parent.as_bytes());
    }
}

/// Decodes an error item.
pub fn error_item(data: &[u8]) {
    stable(data, ErrorItem::decode, ErrorItem::encode);
}

/// Decodes a snapshot header.
pub fn header(data: &[u8]) {
    stable(data, Header::decode, Header::encode);
}

/// Decodes a lock.
pub fn lock(data: &[u8]) {
    stable(data, Lock::decode, Lock::encode);
}

/// Skips any values, and reads one as everything it could be.
pub fn msgpack(data: &[u8]) {
    let mut reader = Reader::new("fuzz", data);
    let mut left = reader.remaining();
    while left > 0 && reader.skip().is_ok() {
        assert!(reader.remaining() < left);
        left = reader.remaining();
    }
    let reader = Reader::new("fuzz", data);
    let _ = reader.clone().u64();
    let _ = reader.clone().i64();
    let _ = reader.clone().f64();
    let _ = reader.clone().bool();
    let _ = reader.clone().text();
    let _ = reader.clone().id();
    let _ = reader.clone().list(Reader::skip);
    if let Ok(time) = reader.clone().time() {
        assert!(time.nanos < 1_000_000_000);
    }
}

/// Decodes a node of a tree.
pub fn node(data: &[u8]) {
    stable(data, Node::decode, Node::encode);
}

/// Decodes an object.
pub fn object(data: &[u8]) {
    stable(data, Object::decode, Object::encode);
}

/// Decodes a footer, which has one form only.
pub fn packfile_footer(data: &[u8]) {
    if let Ok(footer) = Footer::decode(data) {
        assert_eq!(footer.encode(), data);
    }
    if let Some(length) = data.last_chunk()
        && let Ok(tail) = packfile::Tail::locate(data.len() as u64, *length)
    {
        assert_eq!(tail.footer_offset + u64::from(tail.footer_length) + 4, data.len() as u64);
    }
}

/// Decodes a footer and, behind it, an index; records have one form only.
pub fn packfile_index(data: &[u8]) {
    let Some((footer, index)) = data.split_at_checked(packfile::FOOTER_LEN) else { return };
    let footer = Footer::decode(footer).expect("a footer of the right length");
    if let Ok(records) = packfile::decode_index(index, &footer) {
        let encoded: Vec<u8> = records.iter().flat_map(IndexRecord::encode).collect();
        assert_eq!(encoded, index);
        for record in records {
            assert!(record.offset + u64::from(record.length) <= footer.index_offset);
        }
    }
}

/// Escapes and unescapes segments and keys; the rules are injective.
pub fn paths(data: &[u8]) {
    for collides in [false, true] {
        let name = path::escape_segment(data, collides);
        if !data.contains(&b'/') {
            assert!(path::check_name(&name).is_ok());
            assert_eq!(path::unescape_segment(&name).as_deref(), Some(data));
        }
    }
    if let Some(segment) = path::unescape_segment(data)
        && path::check_name(data).is_ok()
    {
        let names = [false, true].map(|collides| path::escape_segment(&segment, collides));
        assert!(names.iter().any(|name| name.as_bytes() == data));
    }
    let folder = path::escape_key(data);
    assert!(path::check_name(&folder).is_ok());
    assert_eq!(path::unescape_key(&folder).as_deref(), Some(data));
    if path::is_clean(data) && data != b"/" {
        assert_eq!(path::join(path::parent(data), path::name(data)).as_bytes(), data);
    }
}

/// Parses the head and the trailer of an archive, which have one form only.
pub fn archive(data: &[u8]) {
    if let Some(head) = data.first_chunk() {
        let _ = ptar::check_head(head);
    }
    if let Some(trailer) = data.last_chunk()
        && let Ok(layout) = ptar::Layout::parse(trailer, data.len() as u64)
    {
        assert_eq!(layout.encode_trailer(), *trailer);
        assert_eq!(layout.file_len(), data.len() as u64);
    }
}

/// Decodes the root of a tree.
pub fn root(data: &[u8]) {
    stable(data, Root::decode, Root::encode);
}

/// Decodes a state in both versions.
pub fn state(data: &[u8]) {
    for version in [Version::V1_0_0, Version::V1_1_0] {
        let Ok(mut reader) = StateReader::new(data, version) else { continue };
        let mut encoded = encode_header(version, reader.parent());
        for entry in reader.by_ref() {
            let Ok(entry) = entry else { return };
            entry.encode(&mut encoded);
        }
        let metadata = *reader.metadata().expect("a stream ends with its metadata");
        encode_metadata(&metadata, &mut encoded);
        let read = data.len() - reader.into_inner().len();
        // Entries of unknown kinds are skipped; all others have one form only.
        assert!(encoded.len() <= read);
        assert!(encoded.len() < read || encoded == data[..read]);
    }
}

/// Decodes a summary.
pub fn summary(data: &[u8]) {
    stable(data, Summary::decode, Summary::encode);
    if let Ok(child) = Summary::decode(data) {
        let mut parent = child.clone();
        parent.merge_child(&child);
        parent.finish(u64::MAX);
    }
}

/// Splits a resource of any kind.
pub fn resource(data: &[u8]) {
    for kind in [Resource::Config, Resource::Lock, Resource::State, Resource::Packfile] {
        if let Ok(parts) = wrapper::split(data, kind) {
            let header = wrapper::header(kind, parts.version);
            assert_eq!(header[8..], data[8..16]);
            assert_eq!([parts.signed, parts.trailer.as_bytes()].concat(), data);
            assert!(parts.signed.ends_with(parts.payload));
        }
    }
}

/// Decodes an extended attribute.
pub fn xattr(data: &[u8]) {
    stable(data, XattrItem::decode, XattrItem::encode);
}

/// Decodes a record of a quick index, each of which has one form only; the first byte says which.
pub fn quick_index(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which {
        0 => {
            let Some(bytes) = data.first_chunk() else { return };
            let Some(footer) = quick::Footer::decode(bytes) else { return };
            assert_eq!(footer.encode(), *bytes);
        }
        1 => {
            let Ok(root) = quick::Root::decode(data) else { return };
            assert_eq!(root.encode(), data);
        }
        2 => {
            let Ok(copies) = quick::Copy::decode_all(data) else { return };
            let mut again = Vec::new();
            for copy in copies {
                copy.encode(&mut again);
            }
            assert_eq!(again, data);
        }
        _ => {
            let Some((count, data)) = data.split_first() else { return };
            let Ok(places) = quick::decode_places(data, u64::from(*count), u64::MAX) else { return };
            let mut again = Vec::new();
            for place in places {
                quick::push_place(place.fingerprint, place.length, &mut again);
            }
            assert_eq!(again, data);
        }
    }
}
