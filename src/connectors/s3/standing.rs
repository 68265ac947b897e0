//! What stands at a destination already: its listing, looked up by key.
//!
//! A restore asks once, before it begins, with one request per thousand objects. Where there is far more below the
//! prefix than will be restored, it asks for single objects instead, those that an interrupted restore noted; where
//! listing is not allowed, it does without. What is kept of an object are its size and its ETag, shortened to what tells
//! one from another.
//!
//! An ETag of 32 hexadecimal digits is the MD5 of the content, unless the server encrypts under keys that it is told
//! (then it is no MD5 of anything, and nothing equals it). That of an upload in parts says nothing to whoever was not
//! there; an interrupted restore was, and kept it.

use std::io;
use std::ops::ControlFlow;

use md5::{Digest, Md5};

use super::client::{Client, Download, Result as Answer};
use crate::base::Id;
use crate::base::lookup::{Lookup, LookupBuilder};
use crate::base::spill::SpillDir;
use crate::connector::{ContentSource, Error, ErrorKind, Receipt, Result};

/// Size, shortened ETag, MD5.
const WIDTH: usize = 8 + 8 + 16;
/// Objects that are looked at in any case.
const FEW: u64 = 10_000;
/// Objects that are looked at for each one that will be restored.
const TIMES: u64 = 4;
/// Bytes of a content read at once.
const PIECE: usize = 512 << 10;

/// What is known of a destination when a restore begins.
#[derive(Debug)]
pub(super) enum Survey {
    /// Everything that stands there; nothing where there is no bucket yet.
    Listed(Standing),
    /// The list is too long, or the server has none: objects are asked for one by one.
    Unlisted,
    /// Nobody may look.
    Refused,
}

/// The objects below a prefix, as they were when the restore began.
#[derive(Debug)]
pub(super) struct Standing(Lookup);

/// One object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stands {
    pub(super) size: u64,
    /// The shortened ETag.
    pub(super) receipt: Receipt,
    /// The MD5 of its content, where its ETag is that of one put whole; else zeros.
    pub(super) md5: [u8; 16],
}

/// Shortens an ETag.
pub(super) fn receipt_of(etag: &str) -> Receipt {
    let hash = blake3::hash(etag.as_bytes());
    let (head, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    Receipt::from_le_bytes(*head)
}

/// Returns the MD5 that an ETag is, if it can be one.
pub(super) fn md5_of(etag: &str) -> Option<[u8; 16]> {
    let digits = etag.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut md5 = [0; 16];
    for (byte, pair) in md5.iter_mut().zip(digits.as_chunks::<2>().0) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(md5)
}

fn name(key: &[u8]) -> Id {
    Id(*blake3::hash(key).as_bytes())
}

impl Standing {
    /// Lists what is below a prefix, unless that is not allowed or leads too far.
    pub(super) fn list(client: &Client, prefix: &[u8], spills: &SpillDir, expected: u64) -> Result<Survey> {
        let mut builder = LookupBuilder::new(spills, WIDTH);
        let most = expected.saturating_mul(TIMES).max(FEW);
        let mut broken = None;
        let listed: Answer<()> = client.list(prefix, None, &mut |object| {
            let mut value = [0; WIDTH];
            value[..8].copy_from_slice(&object.size.to_le_bytes());
            value[8..16].copy_from_slice(&receipt_of(&object.etag).to_le_bytes());
            value[16..].copy_from_slice(&md5_of(&object.etag).unwrap_or_default());
            broken = builder.push(&name(&object.key), &value).err();
            if broken.is_some() || builder.len() > most {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if let Some(error) = broken {
            return Err(error.into());
        }
        match listed {
            Ok(()) if builder.len() > most => Ok(Survey::Unlisted),
            Ok(()) => Self::of(builder),
            // Only a refusal leaves open what stands there.
            Err(failure) if failure.kind == ErrorKind::Denied => Ok(Survey::Refused),
            Err(failure) if failure.kind == ErrorKind::NotFound => {
                Self::of(LookupBuilder::new(spills, WIDTH))
            }
            Err(failure) if failure.kind == ErrorKind::Unsupported => Ok(Survey::Unlisted),
            Err(failure) => Err(failure.into()),
        }
    }

    fn of(builder: LookupBuilder) -> Result<Survey> {
        Ok(Survey::Listed(Self(builder.finish().map_err(failed)?)))
    }

    /// Returns what stands under a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Stands>> {
        let Some(value) = self.0.get(&name(key)).map_err(failed)? else { return Ok(None) };
        let (size, rest) = value.split_first_chunk().expect("as wide as it was written");
        let (receipt, rest) = rest.split_first_chunk().expect("as wide as it was written");
        let md5 = *rest.first_chunk().expect("as wide as it was written");
        Ok(Some(Stands { size: u64::from_le_bytes(*size), receipt: Receipt::from_le_bytes(*receipt), md5 }))
    }
}

fn failed(source: io::Error) -> Error {
    Error::io("look up what stands at", "the destination", source)
}

impl Stands {
    /// Reads what an answer to HEAD tells of an object.
    pub(super) fn of(there: &Download) -> Self {
        let etag = there.etag();
        Self { size: there.length, receipt: receipt_of(&etag), md5: md5_of(&etag).unwrap_or_default() }
    }

    /// Returns whether a content is the one that stands there. It is read only where sizes are equal and an MD5 is
    /// known.
    pub(super) fn holds(&self, content: &dyn ContentSource) -> Result<bool> {
        if self.size != content.size() || self.md5 == [0; 16] {
            return Ok(false);
        }
        let mut md5 = Md5::new();
        let (mut offset, mut piece) = (0, Vec::new());
        while offset < self.size {
            let length = usize::try_from(self.size - offset).map_or(PIECE, |left| left.min(PIECE));
            piece.resize(length, 0);
            content.read_at(offset, &mut piece)?;
            md5.update(&piece);
            offset += length as u64;
        }
        Ok(md5.finalize().as_slice() == self.md5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_an_md5_or_it_is_not() {
        assert_eq!(md5_of("d41d8cd98f00b204e9800998ecf8427e").unwrap()[..2], [0xd4, 0x1d]);
        for etag in ["", "d41d8cd98f00b204e9800998ecf8427e-2", "x41d8cd98f00b204e9800998ecf8427e", "ü"] {
            assert_eq!(md5_of(etag), None, "{etag}");
        }
    }
}
