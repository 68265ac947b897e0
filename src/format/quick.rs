//! The quick index of an archive: what a reader far away needs first, at the end of the state section.
//!
//! It stands between the encoded state and the wrapper's trailer, in the form of a skippable frame (RFC 8878,
//! section 3.1.2), which decompressors pass over:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | `0x184D2A5B`, u32 |
//! | 4 | 4 | length of what follows, u32 |
//! | 8 | p | places, encoded |
//! | 8 + p | c | copies, encoded |
//! | 8 + p + c | r | root, encoded |
//! | 8 + p + c + r | 56 | footer |
//!
//! Nothing in it is needed: an archive without one, or with one that is damaged, is opened through its state.

use super::blob::BlobType;
use super::error::{Error, Result};
use crate::base::Id;

const WHAT: &str = "quick index";
const MAGIC: [u8; 8] = *b"PKQUICK\x01";
const FRAME_MAGIC: u32 = 0x184D_2A5B;

/// The length of the frame's header in bytes.
pub const FRAME_LEN: usize = 8;

const PLACES_OFFSET: usize = MAGIC.len();
const COPIES_OFFSET: usize = PLACES_OFFSET + 4;
const ROOT_OFFSET: usize = COPIES_OFFSET + 4;
const ZERO_OFFSET: usize = ROOT_OFFSET + 4;
const MAC_OFFSET: usize = ZERO_OFFSET + 4;

/// The length of the footer in bytes.
pub const FOOTER_LEN: usize = MAC_OFFSET + Id::LEN;
/// The most places that are written or read: beyond it a reader does better with tables on disk.
pub const MAX_PLACES: u64 = 2 << 20;
/// The most bytes that the root and the copies may decode to, each.
pub const MAX_DECODED: usize = 16 << 20;
/// The most bytes a place takes.
const MAX_PLACE_LEN: u64 = 4 + 5;

/// The parts that are encoded, as their sealing names them and their MACs begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Part {
    /// Area, snapshots, copies of their headers.
    Root = 1,
    /// Copies of the blobs that are needed first.
    Copies = 2,
    /// Where every blob is.
    Places = 3,
}

impl Part {
    /// Returns the number on disk.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns what a MAC over the encoded part begins with: no other MAC under that key begins so.
    pub fn prefix(self) -> [u8; 9] {
        let mut out = [0; 9];
        out[..8].copy_from_slice(&MAGIC);
        out[8] = self.number();
        out
    }
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk().ok_or_else(|| Error::truncated(WHAT, N, bytes.len()))?;
    *bytes = rest;
    Ok(*head)
}

fn take_u32(bytes: &mut &[u8]) -> Result<u32> {
    take(bytes).map(u32::from_le_bytes)
}

/// The end of a quick index: how long its parts are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footer {
    /// The encoded length of the places in bytes.
    pub places: u32,
    /// The encoded length of the copies in bytes.
    pub copies: u32,
    /// The encoded length of the root in bytes.
    pub root: u32,
    /// The MAC of everything in the footer before it, and of the encoded root.
    pub mac: Id,
}

impl Footer {
    /// Encodes what stands before the MAC.
    pub fn head(&self) -> [u8; MAC_OFFSET] {
        let mut out = [0; MAC_OFFSET];
        out[..PLACES_OFFSET].copy_from_slice(&MAGIC);
        out[PLACES_OFFSET..COPIES_OFFSET].copy_from_slice(&self.places.to_le_bytes());
        out[COPIES_OFFSET..ROOT_OFFSET].copy_from_slice(&self.copies.to_le_bytes());
        out[ROOT_OFFSET..ZERO_OFFSET].copy_from_slice(&self.root.to_le_bytes());
        out
    }

    /// Encodes a footer.
    pub fn encode(&self) -> [u8; FOOTER_LEN] {
        let mut out = [0; FOOTER_LEN];
        out[..MAC_OFFSET].copy_from_slice(&self.head());
        out[MAC_OFFSET..].copy_from_slice(self.mac.as_bytes());
        out
    }

    /// Decodes the last [`FOOTER_LEN`] bytes of a state's payload; `None` when they are no footer.
    pub fn decode(bytes: &[u8; FOOTER_LEN]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&MAGIC)?;
        let mut number = || take_u32(&mut rest).ok();
        let (places, copies, root, zero) = (number()?, number()?, number()?, number()?);
        let mac = Id(take(&mut rest).ok()?);
        (zero == 0).then_some(Self { places, copies, root, mac })
    }

    /// Returns the length of the whole quick index in bytes, frame and footer included.
    pub fn total(&self) -> u64 {
        let parts = u64::from(self.places) + u64::from(self.copies) + u64::from(self.root);
        parts + (FRAME_LEN + FOOTER_LEN) as u64
    }

    /// Encodes the frame's header; `None` when the parts are too long for a frame.
    pub fn frame(&self) -> Option<[u8; FRAME_LEN]> {
        let length = u32::try_from(self.total() - FRAME_LEN as u64).ok()?;
        let mut out = [0; FRAME_LEN];
        out[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        out[4..].copy_from_slice(&length.to_le_bytes());
        Some(out)
    }
}

/// What is read first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Root {
    /// The length of the packfile's blob area in bytes.
    pub area: u64,
    /// The number of places; 0 where there are none because they would be too many.
    pub place_count: u64,
    /// The MAC of the encoded places.
    pub places_mac: Id,
    /// The MAC of the encoded copies.
    pub copies_mac: Id,
    /// All snapshots, with where their headers are.
    pub snapshots: Vec<SnapshotPlace>,
    /// Copies of headers and signatures, as many as are not too long together.
    pub copies: Vec<Copy>,
}

/// A snapshot and where its header is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotPlace {
    /// Its id.
    pub id: Id,
    /// The offset of its header in the blob area.
    pub offset: u64,
    /// The encoded length of its header in bytes.
    pub length: u32,
}

const SNAPSHOT_LEN: usize = Id::LEN + 8 + 4;

impl Root {
    /// Encodes a root.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.area.to_le_bytes());
        out.extend_from_slice(&self.place_count.to_le_bytes());
        out.extend_from_slice(self.places_mac.as_bytes());
        out.extend_from_slice(self.copies_mac.as_bytes());
        let count = u32::try_from(self.snapshots.len()).expect("fewer than 2^32 snapshots");
        out.extend_from_slice(&count.to_le_bytes());
        for snapshot in &self.snapshots {
            out.extend_from_slice(snapshot.id.as_bytes());
            out.extend_from_slice(&snapshot.offset.to_le_bytes());
            out.extend_from_slice(&snapshot.length.to_le_bytes());
        }
        self.copies.iter().for_each(|copy| copy.encode(&mut out));
        out
    }

    /// Decodes a root. Snapshots must lie within the area.
    pub fn decode(mut bytes: &[u8]) -> Result<Self> {
        let rest = &mut bytes;
        let mut root = Self {
            area: u64::from_le_bytes(take(rest)?),
            place_count: u64::from_le_bytes(take(rest)?),
            places_mac: Id(take(rest)?),
            copies_mac: Id(take(rest)?),
            ..Self::default()
        };
        if root.place_count > MAX_PLACES {
            return Err(Error::malformed(WHAT, format!("{} places", root.place_count)));
        }
        let count = take_u32(rest)? as usize;
        if rest.len() / SNAPSHOT_LEN < count {
            return Err(Error::truncated(WHAT, count.saturating_mul(SNAPSHOT_LEN), rest.len()));
        }
        for _ in 0..count {
            let (id, offset) = (Id(take(rest)?), u64::from_le_bytes(take(rest)?));
            let length = take_u32(rest)?;
            super::packfile::check_blob(BlobType::SNAPSHOT, id, offset, length, root.area)?;
            root.snapshots.push(SnapshotPlace { id, offset, length });
        }
        root.copies = Copy::decode_all(rest)?;
        Ok(root)
    }
}

/// A copy of a blob: its decoded bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    /// The blob's type.
    pub kind: BlobType,
    /// Its id.
    pub id: Id,
    /// Its bytes.
    pub plain: Vec<u8>,
}

impl Copy {
    /// Appends the encoded copy: u8 type ‖ id ‖ u32 length ‖ bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind.0);
        out.extend_from_slice(self.id.as_bytes());
        let length = u32::try_from(self.plain.len()).expect("a copy is short");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.plain);
    }

    /// Decodes copies that stand back to back.
    pub fn decode_all(mut bytes: &[u8]) -> Result<Vec<Self>> {
        let mut copies = Vec::new();
        while !bytes.is_empty() {
            let [kind] = take(&mut bytes)?;
            let id = Id(take(&mut bytes)?);
            let length = take_u32(&mut bytes)? as usize;
            let (plain, rest) =
                bytes.split_at_checked(length).ok_or_else(|| Error::truncated(WHAT, length, bytes.len()))?;
            copies.push(Self { kind: BlobType(kind), id, plain: plain.to_vec() });
            bytes = rest;
        }
        Ok(copies)
    }
}

/// Where one blob is, under a name that nearly tells it from all others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct QuickPlace {
    /// The blob's [`fingerprint`].
    pub fingerprint: u32,
    /// The encoded length in bytes.
    pub length: u32,
    /// The offset in the blob area.
    pub offset: u64,
}

/// Returns the first four bytes of a blob's id, the first combined with its type.
pub fn fingerprint(kind: BlobType, id: &Id) -> u32 {
    let mut bytes = [id.0[0], id.0[1], id.0[2], id.0[3]];
    bytes[0] ^= kind.0;
    u32::from_le_bytes(bytes)
}

/// Appends a place: its fingerprint, and its length as a LEB128 number. Blobs stand back to back from the beginning
/// of the area on, so that lengths tell offsets.
pub fn push_place(fingerprint: u32, length: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&fingerprint.to_le_bytes());
    let mut left = length;
    while left >= 0x80 {
        out.push(left.to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    out.push(left.to_le_bytes()[0]);
}

/// Returns how many bytes `count` places take at most.
pub fn max_places_len(count: u64) -> usize {
    usize::try_from(count.min(MAX_PLACES) * MAX_PLACE_LEN).expect("at most 18 MiB")
}

/// Decodes places that begin at the area's beginning and must end within `area`, in order.
pub fn decode_places(mut bytes: &[u8], count: u64, area: u64) -> Result<Vec<QuickPlace>> {
    // Five bytes is the least a place takes.
    if count > MAX_PLACES || bytes.len() as u64 / 5 < count {
        return Err(Error::malformed(WHAT, format!("{count} places in {} bytes", bytes.len())));
    }
    let mut places = Vec::with_capacity(usize::try_from(count).expect("checked above"));
    let mut offset = 0_u64;
    for _ in 0..count {
        let fingerprint = take_u32(&mut bytes)?;
        let length = take_number(&mut bytes)?;
        places.push(QuickPlace { fingerprint, length, offset });
        offset += u64::from(length);
        if offset > area {
            return Err(Error::malformed(WHAT, "a place past the end of the blob area"));
        }
    }
    if bytes.is_empty() {
        Ok(places)
    } else {
        Err(Error::malformed(WHAT, format!("{} bytes behind the last place", bytes.len())))
    }
}

/// Takes a LEB128 number in its shortest form.
fn take_number(bytes: &mut &[u8]) -> Result<u32> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let [byte] = take(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let shortest = byte != 0 || shift == 0;
            return u32::try_from(value)
                .ok()
                .filter(|_| shortest)
                .ok_or_else(|| Error::malformed(WHAT, "a length in another form than the shortest"));
        }
    }
    Err(Error::malformed(WHAT, "a length of more than 32 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root {
            area: 1000,
            place_count: 2,
            places_mac: Id([1; 32]),
            copies_mac: Id([2; 32]),
            snapshots: vec![SnapshotPlace { id: Id([3; 32]), offset: 900, length: 100 }],
            copies: vec![Copy { kind: BlobType::SNAPSHOT, id: Id([3; 32]), plain: b"header".to_vec() }],
        }
    }

    #[test]
    fn records_round_trip() {
        let footer = Footer { places: 1, copies: 2, root: 3, mac: Id([7; 32]) };
        assert_eq!(Footer::decode(&footer.encode()), Some(footer));
        assert_eq!(footer.total(), 70);
        assert_eq!(footer.frame().unwrap(), [0x5b, 0x2a, 0x4d, 0x18, 62, 0, 0, 0]);
        assert_eq!(Footer { places: u32::MAX, ..footer }.frame(), None);
        assert_eq!(Root::decode(&root().encode()).unwrap(), root());
        let mut bytes = Vec::new();
        let lengths = [0, 1, 127, 128, 16_383, 16_384, u32::MAX];
        lengths.iter().zip(10..).for_each(|(length, n)| push_place(n, *length, &mut bytes));
        let places = decode_places(&bytes, 7, u64::MAX).unwrap();
        assert!(places.iter().map(|place| place.length).eq(lengths));
        assert_eq!((places[3].offset, places[3].fingerprint), (128, 13));
        assert!(bytes.len() <= max_places_len(7));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut far = root();
        far.snapshots[0].length = 101;
        assert!(Root::decode(&far.encode()).is_err());
        let many = Root { place_count: MAX_PLACES + 1, ..root() };
        assert!(Root::decode(&many.encode()).is_err());
        let whole = root().encode();
        assert!((0..whole.len()).all(|n| n == whole.len() - 43 || Root::decode(&whole[..n]).is_err()));
        let mut bytes = Vec::new();
        push_place(1, 100, &mut bytes);
        assert!(decode_places(&bytes, 1, 99).is_err());
        assert!(decode_places(&bytes, 2, 1000).is_err());
        assert!(decode_places(&bytes, 0, 1000).is_err());
        assert!(decode_places(&[0, 0, 0, 0, 0x80, 0], 1, 1000).is_err(), "not the shortest form");
        assert!(decode_places(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f], 1, u64::MAX).is_err());
        assert_eq!(Footer::decode(&[0; FOOTER_LEN]), None);
    }

    #[test]
    fn types_have_fingerprints_of_their_own() {
        let id = Id([9; 32]);
        assert_ne!(fingerprint(BlobType::SNAPSHOT, &id), fingerprint(BlobType::SIGNATURE, &id));
        assert_eq!(fingerprint(BlobType::CHUNK, &Id::ZERO), 9);
    }
}
