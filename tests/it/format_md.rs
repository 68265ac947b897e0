//! The hex examples of FORMAT.md are what the program reads and writes.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere, helpers included")]

use std::collections::BTreeSet;

use plakar::base::Id;
use plakar::format::config::{self, Config};
use plakar::format::dirpack::{Frames, encode_frame};
use plakar::format::entry::Entry;
use plakar::format::error_item::ErrorItem;
use plakar::format::lock::Lock;
use plakar::format::msgpack::{Reader, Writer};
use plakar::format::object::Object;
use plakar::format::packfile::{Footer, IndexRecord};
use plakar::format::path;
use plakar::format::ptar;
use plakar::format::quick;
use plakar::format::snapshot::Header;
use plakar::format::state::{StateReader, encode_header, encode_metadata};
use plakar::format::summary::Summary;
use plakar::format::tree::{Node, Root};
use plakar::format::version::Version;
use plakar::format::wrapper::{self, Resource};
use plakar::format::xattr::XattrItem;

const FORMAT: &str = include_str!("../../src/format/FORMAT.md");

/// What the document has examples of.
const KINDS: [&str; 21] = [
    "config",
    "dirpack",
    "entry",
    "error",
    "footer",
    "header",
    "index-record",
    "lock",
    "node",
    "object",
    "ptar-head",
    "ptar-trailer",
    "quick-footer",
    "quick-places",
    "quick-root",
    "resource",
    "root",
    "state",
    "summary",
    "time",
    "xattr",
];

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text}");
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// Returns the text inside the fences of a language.
fn fences(language: &str) -> Vec<&'static str> {
    let open = format!("\n```{language}\n");
    FORMAT.split(open.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Returns the examples: a kind, and the bytes. A line that begins with `#` begins an example.
fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let mut examples: Vec<(&str, String)> = Vec::new();
    for line in fences("hex").into_iter().flat_map(str::lines) {
        if let Some(title) = line.strip_prefix("# ") {
            let kind = title.split(':').next().unwrap();
            examples.push((kind, String::new()));
        } else {
            let (_, text) = examples.last_mut().expect("a fence begins with the kind of its example");
            text.push_str(line.split('#').next().unwrap());
        }
    }
    examples.into_iter().map(|(kind, text)| (kind, unhex(&text))).collect()
}

fn recode_state(bytes: &[u8]) -> Vec<u8> {
    let mut reader = StateReader::new(bytes, Version::V1_1_0).unwrap();
    let mut out = encode_header(Version::V1_1_0, reader.parent());
    for entry in reader.by_ref() {
        entry.unwrap().encode(&mut out);
    }
    encode_metadata(reader.metadata().unwrap(), &mut out);
    out
}

fn recode_dirpack(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in Frames::new(bytes) {
        let frame = frame.unwrap();
        let entry = Entry::decode(frame.entry).unwrap();
        path::check_child(&entry, b"/").unwrap();
        encode_frame(frame.kind, &entry.encode(), frame.mac, &mut out);
    }
    out
}

fn recode_resource(bytes: &[u8]) -> Vec<u8> {
    let parts = wrapper::split(bytes, Resource::Config).unwrap();
    assert_eq!(blake3::hash(parts.signed), parts.trailer.0);
    [&wrapper::header(Resource::Config, parts.version)[..], parts.payload, parts.trailer.as_bytes()].concat()
}

fn recode_time(bytes: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new("time", bytes);
    let mut out = Vec::new();
    Writer::new(&mut out).time(reader.time().unwrap());
    reader.finish().unwrap();
    out
}

fn recode(kind: &str, bytes: &[u8]) -> Vec<u8> {
    match kind {
        "config" => Config::decode_payload(bytes).unwrap().encode_payload(),
        "dirpack" => recode_dirpack(bytes),
        "entry" => Entry::decode(bytes).unwrap().encode(),
        "error" => ErrorItem::decode(bytes).unwrap().encode(),
        "footer" => Footer::decode(bytes).unwrap().encode().to_vec(),
        "header" => Header::decode(bytes).unwrap().encode(),
        "index-record" => IndexRecord::decode(bytes.try_into().unwrap()).unwrap().encode().to_vec(),
        "lock" => Lock::decode(bytes).unwrap().encode(),
        "node" => Node::decode(bytes).unwrap().encode(),
        "object" => Object::decode(bytes).unwrap().encode(),
        "ptar-head" => {
            ptar::check_head(bytes.try_into().unwrap()).unwrap();
            ptar::head().to_vec()
        }
        "ptar-trailer" => {
            ptar::Layout::parse(bytes.try_into().unwrap(), 15_678).unwrap().encode_trailer().to_vec()
        }
        "quick-footer" => quick::Footer::decode(bytes.try_into().unwrap()).unwrap().encode().to_vec(),
        "quick-places" => {
            let mut out = Vec::new();
            for place in quick::decode_places(bytes, 3, u64::MAX).unwrap() {
                quick::push_place(place.fingerprint, place.length, &mut out);
            }
            out
        }
        "quick-root" => quick::Root::decode(bytes).unwrap().encode(),
        "resource" => recode_resource(bytes),
        "root" => Root::decode(bytes).unwrap().encode(),
        "state" => recode_state(bytes),
        "summary" => Summary::decode(bytes).unwrap().encode(),
        "time" => recode_time(bytes),
        "xattr" => XattrItem::decode(bytes).unwrap().encode(),
        other => panic!("an example of {other}"),
    }
}

#[test]
fn every_example_is_decoded_and_encoded_again() {
    let examples = examples();
    for (kind, bytes) in &examples {
        assert_eq!(recode(kind, bytes), *bytes, "{kind}");
    }
    let kinds: BTreeSet<_> = examples.iter().map(|example| example.0).collect();
    assert_eq!(kinds, BTreeSet::from(KINDS));
}

#[test]
fn every_fence_is_tagged() {
    let mut inside = false;
    for line in FORMAT.lines().filter(|line| line.starts_with("```")) {
        // An untagged fence would be compiled as an example of Rust.
        assert!(matches!((inside, line), (true, "```") | (false, "```hex" | "```text")), "{line}");
        inside = !inside;
    }
    assert!(!inside);
}

/// Derives a key of the native profile from the master key of the examples.
fn native_key(purpose: &str, salted: bool) -> [u8; 32] {
    let mut material: Vec<u8> = (0..32).collect();
    if salted {
        material.extend_from_slice(&unhex("00112233445566778899aabbccddeeff"));
    }
    blake3::derive_key(&format!("kloset-native/1 {purpose}"), &material)
}

/// Returns the value behind a name in the listing of the native profile's keys.
fn listed(name: &str) -> [u8; 32] {
    let listing = fences("text").into_iter().find(|text| text.contains("\nmeta ")).unwrap();
    let line = listing.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    unhex(line.rsplit(' ').next().unwrap()).try_into().unwrap()
}

#[test]
fn the_native_example_is_what_its_keys_make_it() {
    for (name, salted) in
        [("id", false), ("blob", false), ("nonce", false), ("meta", true), ("config", false)]
    {
        assert_eq!(native_key(name, salted), listed(name), "{name}");
    }
    let native = |bytes: &Vec<u8>| Config::decode_payload(bytes).unwrap().native().cloned();
    let configs: Vec<_> = examples().into_iter().filter(|example| example.0 == "config").collect();
    let (payload, native) = configs.iter().find_map(|(_, bytes)| Some((bytes, native(bytes)?))).unwrap();
    assert_eq!(native.key_check, native_key("key check", false));
    assert!(native.editable);
    let mut resource = wrapper::header(Resource::Config, Version::V1_0_0).to_vec();
    resource.extend_from_slice(payload);
    assert_eq!(blake3::hash(&resource[..config::sum_input_len(payload.len())]), native.sum);
    let trailer = blake3::keyed_hash(&native_key("config", false), &resource);
    assert_eq!(trailer, listed("trailer of the CONFIG above"));
    let slot = &native.slots[0];
    let ikm = [&listed("ikm")[..], &slot.id].concat();
    assert_eq!(blake3::derive_key("kloset-native/1 slot commit", &ikm), slot.commit);
}

#[test]
fn the_gear_tables() {
    use sha2::{Digest, Sha256};
    let table = fences("text").into_iter().find(|text| text.starts_with("4d65822107fcfd52 ")).unwrap();
    let entries: Vec<u64> =
        table.split_whitespace().map(|entry| u64::from_str_radix(entry, 16).unwrap()).collect();
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    assert_eq!(Id(digest).to_hex(), "c4e8f68dd1d035055021eec0298fdf67af2b77a8b690d418533cdb3970760372");
    let mut keyed = [0; 2048];
    blake3::Hasher::new_keyed(&native_key("gear", false)).finalize_xof().fill(&mut keyed);
    assert_eq!(u64::from_le_bytes(*keyed.first_chunk().unwrap()), 0xeca3_e0f8_2832_9933);
    let digest = Id(blake3::hash(&keyed).into());
    assert_eq!(digest.to_hex(), "ab76f6925ccb9159c4467450c0198015a5cecf75a5487a511e4fbea809a89233");
}

#[test]
fn the_table_of_names() {
    for (segments, names) in [
        (&["a", ""][..], &["a", "%~"][..]),
        (&["a", "", "b"], &["a", "%~", "b"]),
        (&["..", "x"], &["%~%2E%2E", "x"]),
        (&["%~x"], &["%~%25~x"]),
        (&["100%"], &["100%"]),
    ] {
        let escaped: Vec<_> =
            segments.iter().map(|segment| path::escape_segment(segment.as_bytes(), false)).collect();
        assert!(escaped == names, "{escaped:?}");
        let row = format!("| `{}` | `/{}` |", segments.join("/"), names.join("/"));
        assert!(FORMAT.contains(&row), "{row}");
    }
}
