use std::io::{self, Read, Write};

use aead_stream::{EncryptorBE32, NewStream, StreamPrimitive};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::KeyInit;

use super::*;
use crate::base::Id;
use crate::crypto::kdf::{Kdf, Pbkdf2};
use crate::crypto::native::tests::vector_keys;
use crate::crypto::{HashAlgorithm, Key, MacKey, NativeKeys};

const CHUNK: u8 = 9;
const SEGMENT: usize = 65536;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn r32() -> [u8; 32] {
    std::array::from_fn(|i| 0xa0 + u8::try_from(i).unwrap())
}

fn native() -> Cipher {
    Cipher::native(&vector_keys(), SEGMENT as u64).unwrap()
}

fn aes(subkeys: SubkeyAlgorithm) -> Cipher {
    Cipher::aes(&Key::new([7; 32]), subkeys, SEGMENT as u64).unwrap()
}

fn all_ciphers() -> [Cipher; 3] {
    [native(), aes(SubkeyAlgorithm::Kw), aes(SubkeyAlgorithm::Gcm)]
}

fn chunk_item(plaintext: &[u8]) -> Item {
    let key = MacKey::new(HashAlgorithm::Blake3, *vector_keys().id.as_bytes());
    Item::blob(CHUNK, key.mac(plaintext))
}

fn xof(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(b"kloset-native/1 vector").finalize_xof().fill(&mut out);
    out
}

fn seal(cipher: &Cipher, item: Item, plaintext: &[u8]) -> Vec<u8> {
    let mut out = b"before".to_vec();
    cipher.seal(item, plaintext, &mut out).unwrap();
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

fn open(cipher: &Cipher, item: Item, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut out = b"before".to_vec();
    let result = cipher.open(item, sealed, &mut out);
    assert_eq!(&out[..6], b"before");
    assert!(result.is_ok() || out.len() == 6, "a failed open leaves nothing");
    result.map(|()| out.split_off(6))
}

fn open_stream(cipher: &Cipher, item: Item, sealed: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    OpenReader::new(cipher, item, sealed).read_to_end(&mut out).map(|_| out)
}

#[test]
fn chunks_of_the_vectors() {
    let small: [(&[u8], &str); 2] = [
        (b"", "d998790c55f2c5d63ac0804bcf7755640d1871434d0cc6b46b20acd72f214b13747404"),
        (b"hello\n", "a3c01bcd07311fba402c4474d3ca92dce500d6d5bd3a2ee1148738197bf856531977e7550beba14af2"),
    ];
    for (plaintext, expected) in small {
        let mut out = Vec::new();
        native().seal_for_vectors(&r32(), chunk_item(plaintext), plaintext, &mut out).unwrap();
        assert_eq!(out, bytes(expected));
        assert_eq!(open(&native(), chunk_item(plaintext), &out).unwrap(), plaintext);
    }
    let large = [
        (65536, 65571, "78e79ff1c2ec37e945523ccb3680ca69ca027a084e90756746c093e4c4bdab88"),
        (65537, 65588, "ca7b68839152d7cfe02f401cad9ca50b4ac9ce3f4ceef6bedb4ffb96b4d06615"),
        (131_072, 131_123, "de43ecdd51b61bc1034bef778449ef1ea22c9a19d432a2f25e6f2fec1d161a58"),
    ];
    for (len, sealed_len, expected) in large {
        let plaintext = xof(len);
        let mut out = Vec::new();
        native().seal_for_vectors(&r32(), chunk_item(&plaintext), &plaintext, &mut out).unwrap();
        assert_eq!(out.len(), sealed_len);
        assert_eq!(Id(*blake3::hash(&out).as_bytes()).to_hex(), expected);
        assert_eq!(open(&native(), chunk_item(&plaintext), &out).unwrap(), plaintext);
    }
}

/// The framing by hand against an independent implementation of STREAM.
#[test]
fn framing_is_stream() {
    let keys = vector_keys();
    for len in [0, 1, 4095, 4096, 4097, 12288, 20000] {
        let plaintext = xof(len);
        let item = chunk_item(&plaintext);
        let cipher = Cipher::native(&keys, 4096).unwrap();
        let mut ours = Vec::new();
        cipher.seal_for_vectors(&r32(), item, &plaintext, &mut ours).unwrap();

        let aad = item.associated_data();
        let aead = XChaCha20Poly1305::new(keys.blob.as_bytes().into());
        let prefix: [u8; 19] = *ours.first_chunk().unwrap();
        let stream = aead_stream::StreamBE32::from_aead(aead, &prefix.into());
        let mut encryptor: EncryptorBE32<_> = stream.encryptor();
        let mut theirs = prefix.to_vec();
        let mut rest = plaintext.as_slice();
        while rest.len() > 4096 {
            let (msg, after) = rest.split_at(4096);
            let mut segment = msg.to_vec();
            encryptor.encrypt_next_in_place(&aad, &mut segment).unwrap();
            theirs.extend(segment);
            rest = after;
        }
        let mut segment = rest.to_vec();
        encryptor.encrypt_last_in_place(&aad, &mut segment).unwrap();
        theirs.extend(segment);
        assert_eq!(ours, theirs, "{len}");
    }
}

#[test]
fn canaries_and_data_of_upstream() {
    let kdf = Kdf::Pbkdf2(Pbkdf2 { iterations: 100_000, key_len: 32, hashing: "SHA256".into() });
    let master = kdf.derive(b"correct horse", b"0123456789abcdef").unwrap();
    let cipher = Cipher::aes(&master, SubkeyAlgorithm::Kw, 65536).unwrap();
    let canary = bytes(
        "c69b3f0e3ca9689c69c0d77984efb2b246788c502b4c3ee14ea996333a3673bcc3817229209ef8d1256ac686b0e39d012712006f
         35f53c435e5af7263d972863947a5c2f06bfd7557a80be010a384317f7bcd643a84c31c3f7284638936f1f7e8086bfa1",
    );
    assert_eq!(open(&cipher, Item::canary(), &canary).unwrap().len(), 32);
    let empty = bytes("52e6e5eda461057ac921742635abdc09c1f75651a549d4e7668b9a1a4c9145a8b2496fac41a60579");
    assert_eq!(open(&cipher, Item::index(), &empty).unwrap(), b"");
    let hello = bytes(
        "3ed8f4de0656d8489218eb3fb5868b040b185c0537798e086979f2822e5e48b70a9f29377977544ed359183eceb43770
         617d1b3ab1846d6602da08438a20d89ec7f8d8c93d4ef055f2da",
    );
    assert_eq!(open(&cipher, Item::index(), &hello).unwrap(), b"hello\n");

    let others = [
        (
            "a721ccccc4adaf7de9987cf6bfa36afeccb1e42d267f2fbdaec52517f1cc0d1e",
            "a34d9b82f3e40e7916ad96a419ae823c097619cafd9b7f6ea35fc921e8b8192210fc1b7778dfa6ca77691009266ae16b20ced3e4
             8791ce4aff9b84d01dd92237c2bdc7c22ed7c257fd637274d2ac87330521030f10cd6499fb15e93a4e942a83a5e9551c",
        ),
        (
            "a6e1c5f30b25e0fe6d47724036c0a579988e41eb3ed39298d8fa076d41293064",
            "bb4288b6734484373805885eec751e6f9d3a58138b363c1d5964d9072e1adc2a61b294ff61d167482678c09b2cf4123690e09985
             532804f94a322ed8c6a47e2dcb1fc6c9b0f7a5930915c2eab98a434332b4fb25b847fe7f2cec011982100006c8f01029",
        ),
    ];
    for (key, canary) in others {
        let cipher =
            Cipher::aes(&Key::new(Id::from_hex(key).unwrap().0), SubkeyAlgorithm::Kw, 65536).unwrap();
        assert_eq!(open(&cipher, Item::canary(), &bytes(canary)).unwrap().len(), 32);
        assert_eq!(open(&aes(SubkeyAlgorithm::Kw), Item::canary(), &bytes(canary)), Err(SealError::Tampered));
    }
}

#[test]
fn lengths_are_those_of_the_format() {
    let [native, kw, gcm] = all_ciphers();
    for (len, of_native, of_aes) in
        [(0, 35, 0), (1, 36, 29), (65536, 65571, 65564), (65537, 65588, 65593), (131_072, 131_123, 131_128)]
    {
        assert_eq!(native.sealed_len(len), of_native);
        assert_eq!(kw.sealed_len(len), 40 + of_aes);
        assert_eq!(gcm.sealed_len(len), 60 + of_aes);
        for cipher in [&native, &kw, &gcm] {
            let plaintext = xof(usize::try_from(len).unwrap());
            let sealed = seal(cipher, chunk_item(&plaintext), &plaintext);
            assert_eq!(sealed.len() as u64, cipher.sealed_len(len));
            assert_eq!(open(cipher, chunk_item(&plaintext), &sealed).unwrap(), plaintext);
        }
    }
    assert_eq!(seal(&native, Item::canary(), &[0; 32]).len(), 67);
    assert_eq!(seal(&kw, Item::canary(), &[0; 32]).len(), 100);
    assert_eq!(seal(&gcm, Item::canary(), &[0; 32]).len(), 120);
}

#[test]
fn the_same_plaintext_never_seals_to_the_same_bytes() {
    for cipher in all_ciphers() {
        let item = chunk_item(b"hello\n");
        assert_ne!(seal(&cipher, item, b"hello\n"), seal(&cipher, item, b"hello\n"));
    }
}

#[test]
fn a_repeated_random_state_repeats_a_prefix_only_for_one_item() {
    let prefix = |item| {
        let mut out = Vec::new();
        native().seal_for_vectors(&r32(), item, b"x", &mut out).unwrap();
        out.truncate(19);
        out
    };
    let base = Item::blob(CHUNK, Id([1; 32]));
    assert_eq!(prefix(base), prefix(base));
    for other in [Item::blob(CHUNK, Id([2; 32])), Item::blob(7, base.id), Item { part: 1, ..base }] {
        assert_ne!(prefix(base), prefix(other));
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for cipher in all_ciphers() {
        let item = chunk_item(b"hello\n");
        let sealed = seal(&cipher, item, b"hello\n");
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&cipher, item, &damaged), Err(SealError::Tampered), "bit {bit} of {cipher:?}");
            assert!(open_stream(&cipher, item, &damaged).is_err());
        }
    }
}

#[test]
fn no_prefix_of_a_native_item_opens() {
    let cipher = Cipher::native(&vector_keys(), 4096).unwrap();
    for len in [0, 1, 4096, 4097, 8192, 3 * 4096 + 5] {
        let plaintext = xof(len);
        let item = chunk_item(&plaintext);
        let sealed = seal(&cipher, item, &plaintext);
        let near = |cut: usize| (cut + 4112 - 19) % 4112 < 20 || cut.is_multiple_of(997);
        for cut in (0..sealed.len()).filter(|&cut| cut < 60 || near(cut)) {
            assert!(open(&cipher, item, &sealed[..cut]).is_err(), "{cut} of {}", sealed.len());
        }
        // Where segments meet, streams too: elsewhere is the same to them.
        for cut in
            (19..sealed.len()).step_by(4096 + 16).chain([0, 18, 20, 34]).filter(|&cut| cut < sealed.len())
        {
            let error = open_stream(&cipher, item, &sealed[..cut]).unwrap_err();
            assert!(SealError::in_io(&error).is_some(), "{error}");
        }
        let longer = [sealed.as_slice(), &[0; 17]].concat();
        assert!(open(&cipher, item, &longer).is_err());
        assert!(open_stream(&cipher, item, &longer).is_err());
    }
}

#[test]
fn truncation_inside_a_segment_is_said_to_be_one() {
    let [native, kw, gcm] = all_ciphers();
    let item = chunk_item(b"hello\n");
    for len in 0..35 {
        assert_eq!(open(&native, item, &vec![0; len]), Err(SealError::Truncated), "{len}");
    }
    for (cipher, start) in [(kw, 40), (gcm, 60)] {
        let sealed = seal(&cipher, item, b"hello\n");
        for len in (0..=start + 28).filter(|&len| len != start) {
            assert_eq!(open(&cipher, item, &sealed[..len]), Err(SealError::Truncated), "{len}");
        }
    }
}

#[test]
fn swapped_doubled_and_dropped_native_segments_are_found() {
    let cipher = Cipher::native(&vector_keys(), 4096).unwrap();
    let plaintext = xof(4 * 4096);
    let item = chunk_item(&plaintext);
    let sealed = seal(&cipher, item, &plaintext);
    let (start, body) = sealed.split_at(19);
    let segments: Vec<&[u8]> = body.chunks(4096 + 16).collect();
    assert_eq!(segments.len(), 4);
    for order in [
        &[1, 0, 2, 3][..],
        &[0, 2, 1, 3],
        &[0, 1, 3, 2],
        &[0, 1, 3],
        &[0, 2, 3],
        &[0, 0, 1, 2, 3],
        &[0, 1, 2],
    ] {
        let mut forged = start.to_vec();
        for &at in order {
            forged.extend_from_slice(segments[at]);
        }
        assert_eq!(open(&cipher, item, &forged), Err(SealError::Tampered), "{order:?}");
        assert!(open_stream(&cipher, item, &forged).is_err(), "{order:?}");
    }
    // Segments of another operation on the very same item do not fit either.
    let other = seal(&cipher, item, &plaintext);
    let mixed = [start, segments[0], &other[19 + 4096 + 16..]].concat();
    assert_eq!(open(&cipher, item, &mixed), Err(SealError::Tampered));
}

#[test]
fn native_items_cannot_stand_for_each_other() {
    let cipher = native();
    let id = Id([3; 32]);
    let items = [
        Item::blob(CHUNK, id),
        Item::blob(CHUNK, Id([4; 32])),
        Item::blob(5, id),
        Item::blob(6, id),
        Item::state(id),
        Item::state(Id([4; 32])),
        Item::lock(id),
        Item::index(),
        Item::footer(),
        Item::canary(),
    ];
    for sealed_as in items {
        let sealed = seal(&cipher, sealed_as, b"the same length");
        for opened_as in items {
            let opened = open(&cipher, opened_as, &sealed);
            if sealed_as == opened_as {
                assert_eq!(opened.unwrap(), b"the same length");
            } else {
                assert_eq!(opened, Err(SealError::Tampered), "{sealed_as:?} as {opened_as:?}");
            }
        }
    }
}

/// A store and its archive under the same master key share blobs, but neither states nor indexes.
#[test]
fn metadata_does_not_move_between_repositories() {
    let master = Key::new([9; 32]);
    let [store, archive] =
        [[1; 16], [2; 16]].map(|id| Cipher::native(&NativeKeys::derive(&master, &id), 65536).unwrap());
    let blob = Item::blob(CHUNK, Id([3; 32]));
    assert_eq!(open(&archive, blob, &seal(&store, blob, b"x")).unwrap(), b"x");
    for item in
        [Item::state(Id([3; 32])), Item::lock(Id([3; 32])), Item::index(), Item::footer(), Item::canary()]
    {
        assert_eq!(open(&archive, item, &seal(&store, item, b"x")), Err(SealError::Tampered), "{item:?}");
    }
}

#[test]
fn hostile_segment_sizes_are_refused() {
    for size in [0, 1, 2048, 4095, 4097, 65535, 2 << 20, 1 << 63, u64::MAX] {
        let error = Cipher::native(&vector_keys(), size).unwrap_err();
        assert!(matches!(error, SealError::Parameter { parameter: "ChunkSize", .. }), "{size}");
    }
    for size in [0, (16 << 20) + 1, u64::MAX] {
        assert!(Cipher::aes(&Key::new([0; 32]), SubkeyAlgorithm::Kw, size).is_err(), "{size}");
    }
    for shift in 12..=20 {
        Cipher::native(&vector_keys(), 1 << shift).unwrap();
    }
}

#[test]
fn streams_and_strings_are_the_same_format() {
    for cipher in all_ciphers() {
        for len in [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT, 3 * SEGMENT + 100] {
            let plaintext = xof(len);
            let item = chunk_item(&plaintext);
            for piece in [7777, usize::MAX] {
                let mut writer = SealWriter::new(&cipher, item, Vec::new());
                for part in plaintext.chunks(piece) {
                    writer.write_all(part).unwrap();
                }
                writer.flush().unwrap();
                let sealed = writer.finish().unwrap();
                assert_eq!(sealed.len() as u64, cipher.sealed_len(len as u64));
                assert_eq!(open(&cipher, item, &sealed).unwrap(), plaintext, "{len} by {piece}");
                assert_eq!(open_stream(&cipher, item, &sealed).unwrap(), plaintext, "{len} by {piece}");
            }
        }
    }
}

/// Yields some bytes, then fails as a broken connection does.
struct Breaks<'a>(&'a [u8]);

impl Read for Breaks<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            len => Ok(len.min(out.len())),
        }
    }
}

#[test]
fn a_transport_fault_is_not_called_tampering() {
    for cipher in all_ciphers() {
        let plaintext = xof(3 * SEGMENT);
        let item = chunk_item(&plaintext);
        let sealed = seal(&cipher, item, &plaintext);
        for cut in [0, 10, 100, SEGMENT, 2 * SEGMENT] {
            let mut out = Vec::new();
            let error =
                OpenReader::new(&cipher, item, Breaks(&sealed[..cut])).read_to_end(&mut out).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(SealError::in_io(&error), None);
            assert!(plaintext.starts_with(&out));
        }
    }
}

#[test]
fn a_failed_reader_stays_failed() {
    let cipher = native();
    let plaintext = xof(2 * SEGMENT);
    let item = chunk_item(&plaintext);
    let mut sealed = seal(&cipher, item, &plaintext);
    sealed[100] ^= 1;
    let mut reader = OpenReader::new(&cipher, item, sealed.as_slice());
    for _ in 0..3 {
        let error = reader.read(&mut [0; 10]).unwrap_err();
        assert_eq!(SealError::in_io(&error), Some(SealError::Tampered));
    }
}

#[test]
fn names_of_subkey_algorithms() {
    for subkeys in [SubkeyAlgorithm::Kw, SubkeyAlgorithm::Gcm] {
        assert_eq!(SubkeyAlgorithm::from_name(subkeys.name()), Some(subkeys));
    }
    assert_eq!(SubkeyAlgorithm::from_name("NONE"), None);
}

#[test]
fn debug_shows_no_key() {
    assert_eq!(format!("{:?}", native()), "Cipher(XCHACHA20-POLY1305, 65536 bytes, …)");
}
