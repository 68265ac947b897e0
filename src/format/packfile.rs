//! Packfiles: index records and the footer, decoded.
//!
//! The payload of a packfile is the blob area, the encoded index (56 bytes per blob), the encoded footer (56 bytes)
//! and the length of the encoded footer (u32).

use super::blob::BlobType;
use super::error::{Error, Result};
use super::version::Version;
use crate::base::Id;

const WHAT: &str = "packfile";

/// The length of an index record in bytes.
pub const RECORD_LEN: usize = 56;
/// The length of a decoded footer in bytes.
pub const FOOTER_LEN: usize = 56;
/// The length of the footer's length in bytes.
pub const FOOTER_LENGTH_LEN: usize = 4;

/// Takes `N` bytes off the front of a record of known length.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, rest) = bytes.split_first_chunk().expect("the fields of a record add up to its length");
    *bytes = rest;
    *head
}

/// Where one blob lies in a packfile.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IndexRecord {
    /// The type of the blob. The field has 32 bits on disk, but states have only 8 for it.
    pub kind: BlobType,
    /// The version of that type, never checked.
    pub version: Version,
    /// The id of the blob.
    pub id: Id,
    /// Where the encoded blob begins in the blob area.
    pub offset: u64,
    /// Its encoded length in bytes.
    pub length: u32,
    /// Always 0.
    pub flags: u32,
}

impl IndexRecord {
    /// Encodes a record.
    pub fn encode(&self) -> [u8; RECORD_LEN] {
        let mut out = [0; RECORD_LEN];
        out[0] = self.kind.0;
        out[4..8].copy_from_slice(&self.version.0.to_le_bytes());
        out[8..40].copy_from_slice(self.id.as_bytes());
        out[40..48].copy_from_slice(&self.offset.to_le_bytes());
        out[48..52].copy_from_slice(&self.length.to_le_bytes());
        out[52..56].copy_from_slice(&self.flags.to_le_bytes());
        out
    }

    /// Decodes a record. Fails when the type does not fit 8 bits.
    pub fn decode(bytes: &[u8; RECORD_LEN]) -> Result<Self> {
        let mut rest = &bytes[..];
        let kind = u32::from_le_bytes(take(&mut rest));
        let kind =
            u8::try_from(kind).map_err(|_| Error::malformed(WHAT, format!("a blob of type {kind}")))?;
        Ok(Self {
            kind: BlobType(kind),
            version: Version(u32::from_le_bytes(take(&mut rest))),
            id: Id(take(&mut rest)),
            offset: u64::from_le_bytes(take(&mut rest)),
            length: u32::from_le_bytes(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
        })
    }

    /// Checks that the blob lies within a blob area of `area` bytes.
    pub fn check(&self, area: u64) -> Result<()> {
        check_blob(self.kind, self.id, self.offset, self.length, area)
    }
}

/// Checks that a blob lies within a blob area of `area` bytes.
pub(crate) fn check_blob(kind: BlobType, id: Id, offset: u64, length: u32, area: u64) -> Result<()> {
    match offset.checked_add(u64::from(length)) {
        Some(end) if end <= area => Ok(()),
        _ => Err(Error::malformed(
            WHAT,
            format!("the {kind} blob {id} ({length} bytes at {offset}) reaches past the blob area of {area}"),
        )),
    }
}

/// The footer of a packfile.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Footer {
    /// When the packfile was begun, Unix nanoseconds; 0 in an archive.
    pub timestamp: i64,
    /// The number of index records.
    pub count: u32,
    /// The length of the blob area, which is where the encoded index begins in the payload.
    pub index_offset: u64,
    /// The MAC of the decoded index.
    pub index_mac: Id,
    /// Always 0.
    pub flags: u32,
}

impl Footer {
    /// Encodes a footer.
    pub fn encode(&self) -> [u8; FOOTER_LEN] {
        let mut out = [0; FOOTER_LEN];
        out[..8].copy_from_slice(&self.timestamp.to_le_bytes());
        out[8..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..20].copy_from_slice(&self.index_offset.to_le_bytes());
        out[20..52].copy_from_slice(self.index_mac.as_bytes());
        out[52..].copy_from_slice(&self.flags.to_le_bytes());
        out
    }

    /// Decodes a footer, which must be exactly [`FOOTER_LEN`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; FOOTER_LEN] = bytes
            .try_into()
            .map_err(|_| Error::malformed(WHAT, format!("a footer of {} bytes", bytes.len())))?;
        let mut rest = &bytes[..];
        Ok(Self {
            timestamp: i64::from_le_bytes(take(&mut rest)),
            count: u32::from_le_bytes(take(&mut rest)),
            index_offset: u64::from_le_bytes(take(&mut rest)),
            index_mac: Id(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
        })
    }

    /// Returns the length of the decoded index in bytes.
    pub fn index_len(&self) -> u64 {
        u64::from(self.count) * RECORD_LEN as u64
    }
}

/// Where the encoded index and footer lie in a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    /// Where the encoded footer begins.
    pub footer_offset: u64,
    /// Its encoded length in bytes.
    pub footer_length: u32,
}

impl Tail {
    /// Finds the footer of a payload of `payload_len` bytes from its last four bytes.
    pub fn locate(payload_len: u64, last_four: [u8; FOOTER_LENGTH_LEN]) -> Result<Self> {
        let footer_length = u32::from_le_bytes(last_four);
        let end = payload_len.checked_sub(FOOTER_LENGTH_LEN as u64);
        match end.and_then(|end| end.checked_sub(u64::from(footer_length))) {
            Some(footer_offset) => Ok(Self { footer_offset, footer_length }),
            None => Err(Error::malformed(
                WHAT,
                format!("a footer of {footer_length} bytes in a payload of {payload_len}"),
            )),
        }
    }

    /// Returns the encoded length of the index that `footer` describes.
    pub fn index_length(&self, footer: &Footer) -> Result<u64> {
        self.footer_offset.checked_sub(footer.index_offset).ok_or_else(|| {
            let (index, end) = (footer.index_offset, self.footer_offset);
            Error::malformed(WHAT, format!("an index at {index} behind the footer at {end}"))
        })
    }
}

/// Decodes the records of a decoded index, checking their number and that each blob lies in the blob area.
pub fn decode_index(index: &[u8], footer: &Footer) -> Result<Vec<IndexRecord>> {
    if index.len() as u64 != footer.index_len() {
        let (count, len) = (footer.count, index.len());
        return Err(Error::malformed(WHAT, format!("an index of {len} bytes for {count} blobs")));
    }
    let (records, _) = index.as_chunks::<RECORD_LEN>();
    records
        .iter()
        .map(|record| {
            let record = IndexRecord::decode(record)?;
            record.check(footer.index_offset)?;
            Ok(record)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> IndexRecord {
        IndexRecord {
            kind: BlobType::CHUNK,
            version: Version::V1_0_0,
            id: Id([7; 32]),
            offset: 90,
            length: 10,
            flags: 0,
        }
    }

    #[test]
    fn records_and_footers_round_trip() {
        let bytes = record().encode();
        assert_eq!(bytes[..8], [9, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(IndexRecord::decode(&bytes).unwrap(), record());
        let footer = Footer { timestamp: -1, count: 2, index_offset: 3, index_mac: Id([4; 32]), flags: 5 };
        assert_eq!(Footer::decode(&footer.encode()).unwrap(), footer);
        assert!(Footer::decode(&footer.encode()[1..]).is_err());
    }

    #[test]
    fn geometry_is_checked() {
        let mut footer = Footer { timestamp: 0, count: 1, index_offset: 100, index_mac: Id::ZERO, flags: 0 };
        assert_eq!(decode_index(&record().encode(), &footer).unwrap(), [record()]);
        footer.index_offset = 99;
        assert!(decode_index(&record().encode(), &footer).is_err());
        footer.count = 2;
        assert!(decode_index(&record().encode(), &footer).is_err());
        let far = IndexRecord { offset: u64::MAX, ..record() };
        assert!(far.check(u64::MAX).is_err());
        let wide = {
            let mut bytes = record().encode();
            bytes[1] = 1;
            bytes
        };
        assert!(IndexRecord::decode(&wide).is_err());
        let tail = Tail::locate(200, 56u32.to_le_bytes()).unwrap();
        assert_eq!((tail.footer_offset, tail.footer_length), (140, 56));
        footer.index_offset = 100;
        assert_eq!(tail.index_length(&footer).unwrap(), 40);
        footer.index_offset = 141;
        assert!(tail.index_length(&footer).is_err());
        assert!(Tail::locate(59, 56u32.to_le_bytes()).is_err());
        assert!(Tail::locate(3, [0; 4]).is_err());
    }
}
