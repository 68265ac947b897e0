//! Encoding a quick index when an archive is finished.

use crate::base::Id;
use crate::codec::Compression;
use crate::crypto::seal::Item;
use crate::format::blob::BlobType;
use crate::format::ptar::STATE_ID;
use crate::format::quick::{
    FRAME_LEN, Footer, MAX_PLACES, Part, QuickPlace, Root, decode_places, fingerprint, push_place,
};

use super::super::encoding::Encoding;
use super::super::error::Error;
use super::super::keys::Keys;
use super::super::unlock::Unlocked;
use super::collect::Collected;

/// Where the blobs of one region are, in the order of their offsets: about six bytes a blob.
#[derive(Debug, Default)]
pub(in super::super) struct Run {
    bytes: Vec<u8>,
    count: u64,
}

impl Run {
    /// Adds the blob behind the last one.
    pub(in super::super) fn push(&mut self, kind: BlobType, id: &Id, length: u32) {
        self.count += 1;
        if self.count <= MAX_PLACES {
            push_place(fingerprint(kind, id), length, &mut self.bytes);
        } else {
            // Too many for any reader.
            self.bytes = Vec::new();
        }
    }

    /// Returns the places, with offsets in the region.
    pub(super) fn places(&self) -> Vec<QuickPlace> {
        decode_places(&self.bytes, self.count, u64::MAX).unwrap_or_default()
    }
}

/// Returns whether an archive can have a quick index. In an encrypted one only we read; in a plaintext one it must be
/// something that every reader of the compression passes over.
pub(in super::super) fn is_possible(encoding: &Encoding) -> bool {
    encoding.cipher().is_some() || matches!(encoding.compression(), Compression::Zstd { .. })
}

/// Encodes the quick index of an archive whose regions follow each other as `runs` do and take `area` bytes together
/// with what stands behind them. Empty when it would be too long.
pub(in super::super) fn encode(
    unlocked: &Unlocked,
    collected: Collected,
    runs: &[Run],
    area: u64,
) -> Result<Vec<u8>, Error> {
    let mut place_count = runs.iter().map(|run| run.count).sum();
    let mut places = Vec::new();
    if place_count <= MAX_PLACES {
        for run in runs {
            places.extend_from_slice(&run.bytes);
        }
    } else {
        place_count = 0;
    }
    let mut copies = Vec::new();
    collected.copies.iter().for_each(|copy| copy.encode(&mut copies));
    let mut out = vec![0; FRAME_LEN];
    let mut add = |part: Part, plain: &[u8]| -> Result<(u32, Id), Error> {
        let before = out.len();
        unlocked.encoding.encode(Item::quick(part.number(), STATE_ID), plain, &mut out)?;
        let encoded = &out[before..];
        let length =
            u32::try_from(encoded.len()).map_err(|_| Error::malformed("the quick index", "too long"))?;
        Ok((length, mac(&unlocked.keys, part, encoded)))
    };
    let (places, places_mac) = add(Part::Places, &places)?;
    let (copies, copies_mac) = add(Part::Copies, &copies)?;
    let root = Root {
        area,
        place_count,
        places_mac,
        copies_mac,
        snapshots: collected.snapshots,
        copies: collected.headers,
    };
    let (root, _) = add(Part::Root, &root.encode())?;
    let mut footer = Footer { places, copies, root, mac: Id::ZERO };
    footer.mac = footer_mac(&unlocked.keys, &footer, &out[out.len() - root as usize..]);
    let Some(frame) = footer.frame() else { return Ok(Vec::new()) };
    out[..FRAME_LEN].copy_from_slice(&frame);
    out.extend_from_slice(&footer.encode());
    Ok(out)
}

/// Returns the MAC of an encoded part.
pub(super) fn mac(keys: &Keys, part: Part, encoded: &[u8]) -> Id {
    let mut hasher = keys.trailers().hasher();
    hasher.update(&part.prefix());
    hasher.update(encoded);
    hasher.finish()
}

/// Returns the MAC of a footer and an encoded root.
pub(super) fn footer_mac(keys: &Keys, footer: &Footer, root: &[u8]) -> Id {
    let mut hasher = keys.trailers().hasher();
    hasher.update(&footer.head());
    hasher.update(root);
    hasher.finish()
}
