//! The test vectors of the format: serializations made by upstream's encoder, a CONFIG of each profile, and two
//! complete archives.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere, helpers included")]

use std::collections::BTreeMap;
use std::path::Path;

use plakar::base::{Id, RawString, Timestamp};
use plakar::format::config::{
    self, Argon2id, Chunking, Compression, Config, Encryption, Hashing, KdfParams, Native, PackfileSizes,
    Slot, SlotKind,
};
use plakar::format::dirpack::{FrameKind, FrameReader, Frames, encode_frame};
use plakar::format::entry::{Entry, FileInfo, Mode};
use plakar::format::error_item::ErrorItem;
use plakar::format::lock::Lock;
use plakar::format::object::{ChunkRef, Object};
use plakar::format::packfile::{Footer, IndexRecord, Tail, decode_index};
use plakar::format::snapshot::{Header, INDEX_DIRPACK, INDEX_SUMMARY, Index, KeyValue, Source};
use plakar::format::state::{Metadata, StateEntry, StateReader, encode_header, encode_metadata};
use plakar::format::summary::Summary;
use plakar::format::tree::{Node, Root};
use plakar::format::wrapper::{self, Resource};
use plakar::format::xattr::XattrItem;
use plakar::format::{BlobType, Error, Version, path, ptar};

const OBJECT: &str = "86a776657273696f6ece00010000aa636f6e74656e744d4143c420000102030405060708090a0b0c0d0e0f1011121314 \
    15161718191a1b1c1d1e1fa66368756e6b739185a776657273696f6ece00010000aa636f6e74656e744d4143c420fffe \
    fdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0a66c656e677468ce00000006a7656e74726f \
    7079cb3ff8000000000000a5666c616773ce00000000ac636f6e74656e745f74797065b9746578742f706c61696e3b20 \
    636861727365743d7574662d38a7656e74726f7079cb3ff8000000000000a5666c616773ce00000000";

const ENTRY: &str = "89a776657273696f6ece00010000ab706172656e745f70617468a42f657463a966696c655f696e666f8ca46e616d65a3 \
    68ff69a473697a65d30000000000000006a46d6f6465ce000001a4a86d6f645f74696d65d7ff000000146553f100a364 \
    6576cf0000000000000001a3696e6fcf0000000000000002a3756964cf0000000000000003a3676964cf000000000000 \
    0004a56e6c696e6bcd0001a8757365726e616d65a175a967726f75706e616d65a167a5666c616773ce00000000a77375 \
    6d6d617279c0a66f626a656374c420000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fac \
    636f6e74656e745f74797065aa746578742f706c61696ea7656e74726f7079cb3ff8000000000000a66368756e6b73cf \
    0000000000000001b3657874656e6465645f6174747269627574657391a6757365722e61";

const DIRECTORY: &str = "85a776657273696f6ece00010000ab706172656e745f70617468a12fa966696c655f696e666f8ca46e616d65a3657463 \
    a473697a65d30000000000000000a46d6f6465ce800001eda86d6f645f74696d65c70cff00000000fffffff1886e0900 \
    a3646576cf0000000000000000a3696e6fcf0000000000000000a3756964cf0000000000000000a3676964cf00000000 \
    00000000a56e6c696e6bcd0000a8757365726e616d65a0a967726f75706e616d65a0a5666c616773ce00000000a77375 \
    6d6d617279c0a66f626a656374c4200000000000000000000000000000000000000000000000000000000000000000";

const XATTR: &str = "86a776657273696f6ece00010000a470617468a22f61a46e616d65a6757365722e61a473697a65d30000000000000003 \
    a474797065cc00a66f626a656374c420000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

const ERROR: &str = "83a776657273696f6ece00010000a46e616d65a22f61a56572726f72a4626f6f6d";

const LEAF: &str = "84a776657273696f6ece00000000a46b65797391a12fa8706f696e74657273c0a676616c75657391c420000102030405 \
    060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

const LEAF_WITH_NEXT: &str = "85a776657273696f6ece00000000a46b65797391a12fa8706f696e74657273c0a676616c75657391c420000102030405 \
    060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fa46e657874c420fffefdfcfbfaf9f8f7f6f5f4f3f2f1 \
    f0efeeedecebeae9e8e7e6e5e4e3e2e1e0";

const INNER: &str = "84a776657273696f6ece00000000a46b65797391a22f6da8706f696e7465727392c420000102030405060708090a0b0c \
    0d0e0f101112131415161718191a1b1c1d1e1fc420fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5 \
    e4e3e2e1e0a676616c756573c0";

const EMPTY_LEAF: &str = "84a776657273696f6ece00000000a46b657973c0a8706f696e74657273c0a676616c756573c0";

const ROOT: &str = "84a756657273696f6ece00000000a54f7264657232a5436f756e7400a4526f6f74c420000102030405060708090a0b0c \
    0d0e0f101112131415161718191a1b1c1d1e1f";

const SUMMARY: &str = "81a562656c6f7781a66572726f7273cf0000000000000000";

const LOCK: &str = "84a776657273696f6ece00010000a974696d657374616d70d6ff6955b900a8686f73746e616d65a4686f7374a9657863 \
    6c7573697665c2";

const HEADER: &str = "de0011a776657273696f6ece00010000aa6964656e746966696572c420000102030405060708090a0b0c0d0e0f101112 \
    131415161718191a1b1c1d1e1fa974696d657374616d70d7ff1d6f34546955b900a86475726174696f6ed3000000003b \
    9aca00a86964656e7469747982aa6964656e746966696572c41000000000000000000000000000000000aa7075626c69 \
    635f6b6579c0a46e616d65a764656661756c74a863617465676f7279a764656661756c74ab656e7669726f6e6d656e74 \
    a764656661756c74a9706572696d65746572a764656661756c74a36a6f62a764656661756c74a87265706c69636173ce \
    00000001a764617461736574a0ac646174615f636c617373657390af636c617373696669636174696f6e7390a4746167 \
    7390a7636f6e746578749182a36b6579a8486f73746e616d65a576616c7565a4686f7374a7736f75726365739185a869 \
    6d706f7274657283a474797065a0a66f726967696ea0a96469726563746f7279a42f657463a7636f6e7465787490a472 \
    6f6f7483a4726f6f74c4200000000000000000000000000000000000000000000000000000000000000000a678617474 \
    7273c4200000000000000000000000000000000000000000000000000000000000000000a66572726f7273c420000000 \
    0000000000000000000000000000000000000000000000000000000000a7696e64657865739183a46e616d65a7646972 \
    7061636ba474797065a56274726565a576616c7565c420000102030405060708090a0b0c0d0e0f101112131415161718 \
    191a1b1c1d1e1fa773756d6d61727981a562656c6f7781a66572726f7273cf0000000000000000";

const CONFIG: &str = "87a954696d657374616d70d7ff1d6f34546955b900ac5265706f7369746f72794944c41000112233445566778899aabb \
    ccddeeffa85061636b66696c6583a74d696e53697a65cf0000000000000000a741766753697a65cf0000000000000000 \
    a74d617853697a65cf0000000004000000a84368756e6b696e6784a9416c676f726974686dae666173746364632d7631 \
    2e302e30a74d696e53697a65ce00080000aa4e6f726d616c53697a65ce00100000a74d617853697a65ce00800000a748 \
    617368696e6782a9416c676f726974686da6424c414b4533a442697473ce00000100ab436f6d7072657373696f6e86a9 \
    416c676f726974686da34c5a34a54c6576656cce00020000aa57696e646f7753697a65ffa94368756e6b53697a65ffa9 \
    426c6f636b53697a65ffa9456e61626c65435243c2aa456e6372797074696f6ec0";

/// 32 bytes `e0..ff`, sealed under the vectors' key.
const NATIVE_CANARY: &str = "3c37c6b0f84f0f2bff5a19982f1197ba3d38bdee7b603053ec5ea44333cc0b1b98 \
    1f4fc68acb026219fa5c674468e00755cc530cd63e741bd54b1ebe0912f55d266c8e";

/// 1 January 2026 and a bit.
const TIME: Timestamp = Timestamp { secs: 1_767_225_600, nanos: 123_456_789 };

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn id(text: &str) -> Id {
    Id::from_hex(text).unwrap()
}

/// The id `000102…1f`.
fn m() -> Id {
    Id(std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

/// The id `fffefd…e0`.
fn w() -> Id {
    Id(m().0.map(|byte| !byte))
}

/// Asserts that a value and its bytes turn into each other.
macro_rules! same {
    ($type:ty, $value:expr, $hex:expr) => {
        let (value, bytes) = ($value, unhex($hex));
        assert_eq!(<$type>::decode(&bytes).unwrap(), value);
        assert_eq!(value.encode(), bytes);
    };
}

#[test]
fn objects_and_items() {
    let mut object = Object::new(m());
    object.chunks = vec![ChunkRef::new(w(), 6, 1.5)];
    object.content_type = "text/plain; charset=utf-8".into();
    object.entropy = 1.5;
    same!(Object, object, OBJECT);
    same!(XattrItem, XattrItem::new("/a".into(), "user.a".into(), 3, m()), XATTR);
    same!(ErrorItem, ErrorItem::new("/a".into(), "boom"), ERROR);
    same!(Summary, Summary::default(), SUMMARY);
    let lock = Lock {
        version: Version::V1_0_0,
        timestamp: Timestamp::from_secs(TIME.secs),
        hostname: "host".into(),
        exclusive: false,
    };
    same!(Lock, lock, LOCK);
}

#[test]
fn entries() {
    let mut info = FileInfo::new(vec![b'h', 0xff, b'i'], Mode::regular(0o644));
    info.size = 6;
    info.modified = Timestamp { secs: 1_700_000_000, nanos: 5 };
    (info.device, info.inode, info.uid, info.gid, info.links) = (1, 2, 3, 4, 1);
    (info.user, info.group) = ("u".into(), "g".into());
    let mut entry = Entry::new("/etc", info);
    entry.object = m();
    entry.content_type = "text/plain".into();
    entry.entropy = 1.5;
    entry.chunks = 1;
    entry.xattrs = vec!["user.a".into()];
    assert_eq!(entry.path().as_bytes(), b"/etc/h\xffi");
    same!(Entry, entry, ENTRY);
    same!(Entry, Entry::new("/", FileInfo::new("etc", Mode::dir(0o755))), DIRECTORY);
}

#[test]
fn trees() {
    let leaf = Node { keys: vec!["/".into()], values: vec![m()], ..Node::default() };
    same!(Node, Node { next: Some(w()), ..leaf.clone() }, LEAF_WITH_NEXT);
    same!(Node, leaf, LEAF);
    same!(Node, Node { keys: vec!["/m".into()], pointers: vec![m(), w()], ..Node::default() }, INNER);
    same!(Node, Node::default(), EMPTY_LEAF);
    same!(Root, Root::new(m()), ROOT);
}

#[test]
fn headers() {
    let mut header = Header::new(m(), TIME);
    header.duration = 1_000_000_000;
    for label in [&mut header.category, &mut header.environment, &mut header.perimeter, &mut header.job] {
        *label = "default".into();
    }
    header.context = Some(vec![KeyValue { key: "Hostname".into(), value: "host".into() }]);
    let mut source = Source { context: Some(Vec::new()), ..Source::default() };
    source.importer.directory = "/etc".into();
    source.indexes = Some(vec![Index::btree(INDEX_DIRPACK, m())]);
    header.sources = Some(vec![source]);
    same!(Header, header, HEADER);
}

fn plain_config(repository_id: &str) -> Config {
    Config {
        timestamp: TIME,
        repository_id: unhex(repository_id).try_into().unwrap(),
        packfile: PackfileSizes::new(64 << 20),
        chunking: Chunking {
            algorithm: "fastcdc-v1.0.0".to_owned(),
            min: 512 << 10,
            normal: 1 << 20,
            max: 8 << 20,
        },
        hashing: Hashing::new("BLAKE3"),
        compression: Some(Compression::new("LZ4", 131_072)),
        encryption: None,
    }
}

fn wrap(resource: Resource, payload: &[u8], mac: impl Fn(&[u8]) -> [u8; 32]) -> Vec<u8> {
    let mut bytes = wrapper::header(resource, Version::V1_0_0).to_vec();
    bytes.extend_from_slice(payload);
    let trailer = mac(&bytes);
    bytes.extend_from_slice(&trailer);
    bytes
}

#[test]
fn the_default_config_of_upstream() {
    let config = plain_config("00112233445566778899aabbccddeeff");
    let payload = unhex(CONFIG);
    assert_eq!(config.encode_payload(), payload);
    assert_eq!(Config::decode_payload(&payload).unwrap(), config);
    let bytes = wrap(Resource::Config, &payload, |signed| blake3::hash(signed).into());
    let parts = wrapper::split(&bytes, Resource::Config).unwrap();
    assert_eq!(parts.trailer, id("b41c3a5856fa34ea2e5cf07843c587ee0dbd27e10172a6ce93d70eb0df581c64"));
    assert_eq!(parts.payload, payload);
}

fn native_config() -> Config {
    let mut config = plain_config("00112233445566778899aabbccddeeff");
    "fastcdc2020-keyed".clone_into(&mut config.chunking.algorithm);
    config.compression = Some(Compression::new("ZSTD", 1));
    let salt = b"0123456789abcdef";
    let mut kdf = KdfParams::new("ARGON2ID", salt);
    kdf.argon2id = Some(Argon2id { salt_size: 16, time: 1, memory: 64, threads: 4, key_len: 32 });
    let slot = Slot {
        id: std::array::from_fn(|i| 0x10 + u8::try_from(i).unwrap()),
        label: "main".to_owned(),
        kind: SlotKind::Passphrase,
        created: TIME,
        kdf,
        commit: id("79c9c2d358ecb4a72ca5bb00d8a5bf22b75dd7449c15692d69651ed9874e18a9").0,
        nonce: std::array::from_fn(|i| 0x40 + u8::try_from(i).unwrap()),
        sealed: unhex(
            "d37585d96d0b70e820f5cf0d60fc1ca2ba8ca33598edd03551e2fd1cf4f6ec78e7ab834e1121d961ad44cde4081b57eb",
        )
        .try_into()
        .unwrap(),
    };
    config.encryption = Some(Encryption {
        subkey_algorithm: config::NATIVE_SUBKEY.to_owned(),
        data_algorithm: config::NATIVE_CIPHER.to_owned(),
        chunk_size: 65_536,
        kdf: KdfParams::new(config::NATIVE_KDF, salt),
        canary: unhex(NATIVE_CANARY),
        native: Some(Native {
            version: config::NATIVE_VERSION,
            generation: 1,
            key_check: id("e03bf8789f7b1427742298ddb95c69f1ab886759dbf48acc13398ec661b0c448").0,
            slots: vec![slot],
            sum: id("275367ec48e75cc2543057eed708a9862a25ed9ae47fe022741c3355af75ce9d").0,
            editable: true,
        }),
    });
    config
}

#[test]
fn the_native_config() {
    let config = native_config();
    let payload = config.encode_payload();
    let key = id("610c3c09809699ef5f123bc7235ed0a58462eb298c01e67bda9e7babbf89effc").0;
    let bytes = wrap(Resource::Config, &payload, |signed| blake3::keyed_hash(&key, signed).into());
    assert_eq!(bytes.len(), 1002);
    let covered = config::sum_input_len(payload.len());
    assert_eq!(blake3::hash(&bytes[..covered]), config.native().unwrap().sum);
    let parts = wrapper::split(&bytes, Resource::Config).unwrap();
    assert_eq!(parts.trailer, id("a4c0eb18faf5c6adad0a7f62be57df56ba1749af02d41806852c9e5e940c01e6"));
    let whole = id("7f8b3c67c9a5a34fefb3faf9868ba90d51497d18b781409914d346d983939b33").0;
    assert_eq!(blake3::hash(&bytes), whole);
    assert_eq!(Config::decode_payload(parts.payload).unwrap(), config);
}

#[test]
fn what_this_program_does_not_know_it_does_not_edit() {
    let config = native_config();
    let payload = config.encode_payload();
    // An unknown member in the slot: the maps that enclose it grow, and the sum stays the end.
    let at = payload.windows(6).position(|window| window == b"Commit").unwrap() - 1;
    let mut grown = payload.clone();
    let slot = payload.windows(3).position(|window| window == b"\x88\xa2I").unwrap();
    grown[slot] = 0x89;
    grown.splice(at..at, *b"\xa3New\xc0");
    let decoded = Config::decode_payload(&grown).unwrap();
    assert!(!decoded.native().unwrap().editable);
    assert_eq!(decoded.native().unwrap().slots, config.native().unwrap().slots);
    // The same member twice is refused.
    grown.splice(at..at, *b"\xa3New\xc0");
    grown[slot] = 0x8a;
    assert!(matches!(Config::decode_payload(&grown), Err(Error::Malformed { .. })));
}

#[test]
fn a_native_config_is_bounded() {
    type Spoil = fn(&mut Config);
    fn native(config: &mut Config) -> &mut Native {
        config.encryption.as_mut().unwrap().native.as_mut().unwrap()
    }
    let spoils: [Spoil; 9] = [
        |config| native(config).slots.clear(),
        |config| native(config).slots = vec![native(config).slots[0].clone(); 17],
        |config| native(config).slots[0].label = "x".repeat(65),
        |config| native(config).generation = 0,
        |config| native(config).version = 0,
        |config| config.encryption.as_mut().unwrap().chunk_size = 0,
        |config| config.encryption.as_mut().unwrap().chunk_size = 65_537,
        |config| config.encryption.as_mut().unwrap().native = None,
        |config| "AES256-GCM-SIV".clone_into(&mut config.encryption.as_mut().unwrap().data_algorithm),
    ];
    for spoil in spoils {
        let mut config = native_config();
        spoil(&mut config);
        assert!(matches!(Config::decode_payload(&config.encode_payload()), Err(Error::Malformed { .. })));
    }
    let mut newer = native_config();
    native(&mut newer).version = 2;
    assert!(matches!(Config::decode_payload(&newer.encode_payload()), Err(Error::Version { .. })));
    let mut payload = native_config().encode_payload();
    config::set_sum(&mut payload, &[0; 32]);
    assert_eq!(Config::decode_payload(&payload).unwrap().native().unwrap().sum, [0; 32]);
    assert!(Config::decode_payload(&vec![0xc0; config::MAX_CONFIG_LEN]).is_err());
}

/// Decoded blobs by type and id.
type Blobs<'a> = BTreeMap<(BlobType, Id), &'a [u8]>;

/// An archive taken apart by the format floor alone; nothing in it is compressed or encrypted.
struct Archive {
    bytes: Vec<u8>,
    layout: ptar::Layout,
    key: [u8; 32],
}

impl Archive {
    fn read(name: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors").join(name);
        let bytes = std::fs::read(file).unwrap();
        ptar::check_head(bytes.first_chunk().unwrap()).unwrap();
        let layout = ptar::Layout::parse(bytes.last_chunk().unwrap(), bytes.len() as u64).unwrap();
        let mut archive = Self { bytes, layout, key: [0; 32] };
        archive.key = blake3::hash(&archive.config().repository_id).into();
        archive
    }

    fn section(&self, section: ptar::Section, resource: Resource) -> wrapper::Parts<'_> {
        let range = usize::try_from(section.offset).unwrap()..usize::try_from(section.end()).unwrap();
        wrapper::split(&self.bytes[range], resource).unwrap()
    }

    fn config(&self) -> Config {
        let parts = self.section(self.layout.config, Resource::Config);
        let config = Config::decode_payload(parts.payload).unwrap();
        assert_eq!(config.encode_payload(), parts.payload);
        config
    }

    fn mac(&self, bytes: &[u8]) -> Id {
        Id(blake3::keyed_hash(&self.key, bytes).into())
    }

    /// Reads the packfile: its footer and its blobs by type and id.
    fn blobs(&self) -> (Footer, Vec<IndexRecord>, Blobs<'_>) {
        let parts = self.section(self.layout.packfile, Resource::Packfile);
        assert_eq!(self.mac(parts.signed), parts.trailer);
        let payload = parts.payload;
        let tail = Tail::locate(payload.len() as u64, *payload.last_chunk().unwrap()).unwrap();
        let end = usize::try_from(tail.footer_offset).unwrap();
        let footer = Footer::decode(&payload[end..payload.len() - 4]).unwrap();
        assert_eq!(footer.encode(), payload[end..payload.len() - 4]);
        assert_eq!(tail.index_length(&footer).unwrap(), footer.index_len());
        let index = &payload[usize::try_from(footer.index_offset).unwrap()..end];
        assert_eq!(self.mac(index), footer.index_mac);
        let records = decode_index(index, &footer).unwrap();
        let encoded: Vec<u8> = records.iter().flat_map(IndexRecord::encode).collect();
        assert_eq!(encoded, index);
        let blob = |record: &IndexRecord| {
            let start = usize::try_from(record.offset).unwrap();
            ((record.kind, record.id), &payload[start..start + usize::try_from(record.length).unwrap()])
        };
        let blobs = records.iter().map(blob).collect();
        (footer, records, blobs)
    }
}

/// Decodes a blob and encodes it again.
fn recode(kind: BlobType, bytes: &[u8]) -> Vec<u8> {
    match kind {
        BlobType::SNAPSHOT => Header::decode(bytes).unwrap().encode(),
        BlobType::OBJECT => Object::decode(bytes).unwrap().encode(),
        BlobType::CHUNK => bytes.to_vec(),
        BlobType::VFS_ROOT | BlobType::ERROR_ROOT | BlobType::XATTR_ROOT | BlobType::TREE_ROOT => {
            Root::decode(bytes).unwrap().encode()
        }
        BlobType::VFS_NODE | BlobType::ERROR_NODE | BlobType::XATTR_NODE | BlobType::TREE_NODE => {
            Node::decode(bytes).unwrap().encode()
        }
        BlobType::VFS_ENTRY => Entry::decode(bytes).unwrap().encode(),
        BlobType::ERROR_ENTRY => ErrorItem::decode(bytes).unwrap().encode(),
        BlobType::XATTR_ENTRY => XattrItem::decode(bytes).unwrap().encode(),
        BlobType::SUMMARY => Summary::decode(bytes).unwrap().encode(),
        other => panic!("a blob of type {other}"),
    }
}

#[test]
fn every_blob_of_the_plain_archive_survives() {
    let archive = Archive::read("plain.ptar");
    assert_eq!(Id(archive.key), id("0700d6a41771410881f87db439391012fa32257bbc157617d217479b9e8850d9"));
    let (footer, records, blobs) = archive.blobs();
    assert_eq!((footer.count, footer.index_offset, footer.flags), (38, 9477, 0));
    assert_eq!(records[0].encode()[..8], unhex("0900000000000100"));
    assert_eq!(blobs[&(BlobType::CHUNK, records[0].id)], b"not UTF-8\n");
    for (&(kind, id), bytes) in &blobs {
        assert_eq!(recode(kind, bytes), *bytes, "{kind} {id}");
        if kind.is_named_by_mac() {
            assert_eq!(archive.mac(bytes), id, "{kind}");
        }
    }
    let header = Header::decode(blobs[&(BlobType::SNAPSHOT, m())]).unwrap();
    assert_eq!(header.identifier, m());
}

#[test]
fn the_state_of_the_plain_archive_survives() {
    let archive = Archive::read("plain.ptar");
    let (_, records, _) = archive.blobs();
    let parts = archive.section(archive.layout.state, Resource::State);
    assert_eq!((parts.version, archive.mac(parts.signed)), (Version::V1_1_0, parts.trailer));
    let mut reader = StateReader::new(parts.payload, parts.version).unwrap();
    let mut encoded = encode_header(parts.version, reader.parent());
    let mut locations = 0;
    for entry in reader.by_ref() {
        let entry = entry.unwrap();
        entry.encode(&mut encoded);
        match entry {
            StateEntry::Location(location) => {
                let same = |record: &IndexRecord| (record.kind, record.id) == (location.kind, location.id);
                let record = records.iter().find(|record| same(record)).unwrap();
                assert_eq!((record.offset, record.length), (location.offset, location.length));
                locations += 1;
            }
            StateEntry::Packfile(entry) => {
                assert_eq!((entry.state, entry.when), (Id([0xab; 32]), 1_767_225_600_123_456_789));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(locations, records.len());
    let metadata = *reader.metadata().unwrap();
    let serial = archive.config().repository_id;
    let timestamp = 1_767_225_600_123_456_789;
    assert_eq!(metadata, Metadata { version: Version::V1_1_0, timestamp, serial });
    encode_metadata(&metadata, &mut encoded);
    assert_eq!(encoded, parts.payload);
}

/// Returns the keys and values of a tree, following `next` from its leftmost leaf.
fn tree(blobs: &Blobs<'_>, kind: BlobType, root: Id) -> Vec<(RawString, Id)> {
    let node_kind = kind.node_of_root().unwrap();
    let mut at = Some(Root::decode(blobs[&(kind, root)]).unwrap().root);
    let mut pairs = Vec::new();
    while let Some(id) = at {
        let node = Node::decode(blobs[&(node_kind, id)]).unwrap();
        at = if node.is_leaf() { node.next } else { Some(node.pointers[0]) };
        if node.is_leaf() {
            pairs.extend(node.keys.into_iter().zip(node.values));
        }
    }
    pairs
}

#[test]
fn the_dirpacks_and_summaries_of_the_plain_archive() {
    let archive = Archive::read("plain.ptar");
    let (_, _, blobs) = archive.blobs();
    let header = Header::decode(blobs[&(BlobType::SNAPSHOT, m())]).unwrap();
    let source = header.source().unwrap();
    let entries: BTreeMap<_, _> = tree(&blobs, BlobType::VFS_ROOT, source.root.root).into_iter().collect();
    let paths: Vec<_> =
        tree(&blobs, BlobType::VFS_ROOT, source.root.root).into_iter().map(|pair| pair.0).collect();
    assert!(paths.is_sorted_by(|a, b| path::compare_path_order(a, b).is_lt()));
    assert_eq!(paths.len(), 7);
    let errors = tree(&blobs, BlobType::ERROR_ROOT, source.root.errors);
    let summaries: BTreeMap<_, _> =
        tree(&blobs, BlobType::TREE_ROOT, source.index(INDEX_SUMMARY).unwrap()).into_iter().collect();
    let mut packs = tree(&blobs, BlobType::TREE_ROOT, source.index(INDEX_DIRPACK).unwrap());
    // Deepest first, as summaries are made.
    packs.reverse();
    let mut done = BTreeMap::<RawString, Summary>::new();
    for (folder, object) in packs {
        let object = Object::decode(blobs[&(BlobType::OBJECT, object)]).unwrap();
        let pack: Vec<u8> = object
            .chunks
            .iter()
            .flat_map(|chunk| blobs[&(BlobType::CHUNK, chunk.id)].iter().copied())
            .collect();
        let mut summary = Summary::default();
        let mut encoded = Vec::new();
        let mut reader = FrameReader::new(&pack[..]);
        for frame in Frames::new(&pack) {
            let frame = frame.unwrap();
            assert_eq!(reader.next_frame().unwrap(), Some(frame));
            assert_eq!(archive.mac(frame.entry), frame.mac);
            encode_frame(frame.kind, frame.entry, frame.mac, &mut encoded);
            let entry = Entry::decode(frame.entry).unwrap();
            path::check_child(&entry, &folder).unwrap();
            assert_eq!(entries[&entry.path()], frame.mac);
            assert_eq!(frame.kind, FrameKind::of(entry.info.mode.is_dir()));
            summary.add_child_entry(&entry);
            if let Some(child) = done.get(&entry.path()) {
                summary.merge_child(child);
            }
        }
        assert_eq!(encoded, pack);
        let own_errors = errors.iter().filter(|(path, _)| path::parent(path) == folder.as_bytes()).count();
        summary.finish(own_errors as u64);
        assert_eq!(summary.encode(), blobs[&(BlobType::SUMMARY, summaries[&folder])], "{folder:?}");
        done.insert(folder, summary);
    }
    assert_eq!(done[&RawString::from("/")], source.summary);
    assert_eq!(done.len(), 2);
}

#[test]
fn the_plain_archive_is_put_together_again() {
    let archive = Archive::read("plain.ptar");
    let layout = archive.layout;
    let mut bytes = ptar::head().to_vec();
    for (section, resource) in [
        (layout.config, Resource::Config),
        (layout.packfile, Resource::Packfile),
        (layout.state, Resource::State),
    ] {
        let parts = archive.section(section, resource);
        bytes.extend_from_slice(&wrapper::header(resource, parts.version));
        bytes.extend_from_slice(parts.payload);
        bytes.extend_from_slice(parts.trailer.as_bytes());
    }
    let again = ptar::Layout::new(layout.config.length, layout.packfile.length, layout.state.length);
    bytes.extend_from_slice(&again.encode_trailer());
    assert_eq!(bytes, archive.bytes);
}

#[test]
fn the_encrypted_archive_says_how_it_is_encrypted() {
    let config = Archive::read("encrypted.ptar").config();
    assert_eq!(config.packfile.max, u64::MAX);
    let encryption = config.encryption.unwrap();
    assert_eq!(encryption.data_algorithm, "AES256-GCM-SIV");
    assert_eq!(encryption.kdf.pbkdf2.unwrap().iterations, 1000);
    assert_eq!((encryption.canary.len(), encryption.native.is_none()), (100, true));
}

#[test]
fn any_width_order_and_unknown_keys_are_read() {
    // `name` before `version`, compact integers, an unknown key with a deep value, null for the message.
    let bytes = unhex("84 a46e616d65 d9022f61 a56572726f72 c0 a3666f6f 91819101c0 a776657273696f6e 01");
    let item = ErrorItem::decode(&bytes).unwrap();
    assert_eq!((item.path, item.message, item.version), ("/a".into(), RawString::new(), Version(1)));
}
