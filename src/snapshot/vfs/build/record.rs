//! What the sorters carry: an entry with the facts that summaries need, so that nothing is decoded again.

use crate::base::{Id, RawString, Timestamp};
use crate::format::entry::{Entry, FileInfo, Mode};

/// What a folder's summary and the indexes need to know of an entry.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Facts<'a> {
    /// Type and permission bits.
    pub mode: Mode,
    /// The size as in the entry, bytes.
    pub size: i64,
    /// The last modification, Unix seconds.
    pub modified_secs: i64,
    /// The entropy of the content in bits per byte.
    pub entropy: f64,
    /// The number of chunks of the content.
    pub chunks: u64,
    /// Whether there is an object.
    pub has_object: bool,
    /// The content type with its parameters.
    pub content_type: &'a [u8],
}

impl<'a> Facts<'a> {
    /// Takes the facts from a decoded entry.
    pub fn of(entry: &'a Entry) -> Self {
        Self {
            mode: entry.info.mode,
            size: entry.info.size,
            modified_secs: entry.info.modified.secs,
            entropy: entry.entropy,
            chunks: entry.chunks,
            has_object: !entry.object.is_zero(),
            content_type: &entry.content_type,
        }
    }

    /// Returns the media type without its parameters.
    pub(super) fn mime(&self) -> &'a [u8] {
        self.content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
    }

    /// Writes the facts over those of an entry that serves [`crate::format::summary::Summary::add_child_entry`].
    pub(super) fn fill(&self, entry: &mut Entry) {
        entry.info.mode = self.mode;
        entry.info.size = self.size;
        entry.info.modified = Timestamp::from_secs(self.modified_secs);
        entry.entropy = self.entropy;
        entry.chunks = self.chunks;
        entry.object = Id([u8::from(self.has_object); 32]);
        if entry.content_type.as_bytes() != self.content_type {
            entry.content_type = self.content_type.into();
        }
    }

    /// Returns an entry to fill.
    pub(super) fn scratch() -> Entry {
        Entry::new(RawString::new(), FileInfo::new(RawString::new(), Mode(0)))
    }
}

/// A record that only says that there is a folder: `tag`.
pub(super) const IMPLIED: &[u8] = &[0];
/// The tag of an entry: `tag ‖ facts ‖ u16 length ‖ content type ‖ entry`.
const ENTRY: u8 = 1;
const FACTS: usize = 1 + 4 + 8 + 8 + 8 + 8 + 1 + 2;

/// Returns the head of an entry's record, to be followed by the content type and the entry's bytes. Content types
/// of 64 KiB and more are cut; they serve the indexes only.
pub(super) fn encode_facts<'a>(facts: &Facts<'a>) -> ([u8; FACTS], &'a [u8]) {
    let length = facts.content_type.len().min(usize::from(u16::MAX));
    let mut head = [0; FACTS];
    head[0] = ENTRY;
    head[1..5].copy_from_slice(&facts.mode.0.to_le_bytes());
    head[5..13].copy_from_slice(&facts.size.to_le_bytes());
    head[13..21].copy_from_slice(&facts.modified_secs.to_le_bytes());
    head[21..29].copy_from_slice(&facts.entropy.to_le_bytes());
    head[29..37].copy_from_slice(&facts.chunks.to_le_bytes());
    head[37] = u8::from(facts.has_object);
    head[38..].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    (head, &facts.content_type[..length])
}

/// Splits a record into facts and the entry's bytes; `None` for a folder that is only implied.
pub(super) fn decode(record: &[u8]) -> Option<(Facts<'_>, &[u8])> {
    let (head, rest) = record.split_first_chunk::<FACTS>()?;
    let u64_at = |at: usize| head[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let length = usize::from(u16::from_le_bytes([head[38], head[39]]));
    let (content_type, entry) = rest.split_at_checked(length)?;
    let facts = Facts {
        mode: Mode(u32::from_le_bytes([head[1], head[2], head[3], head[4]])),
        size: u64_at(5)?.cast_signed(),
        modified_secs: u64_at(13)?.cast_signed(),
        entropy: f64::from_bits(u64_at(21)?),
        chunks: u64_at(29)?,
        has_object: head[37] != 0,
        content_type,
    };
    Some((facts, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let facts = Facts {
            mode: Mode(0x8000_01ed),
            size: -1,
            modified_secs: i64::MIN,
            entropy: 7.25,
            chunks: u64::MAX,
            has_object: true,
            content_type: b"text/plain ; charset=utf-8",
        };
        let (head, content_type) = encode_facts(&facts);
        let record = [&head[..], content_type, b"entry"].concat();
        assert_eq!(decode(&record), Some((facts, &b"entry"[..])));
        assert_eq!(decode(IMPLIED), None);
        assert_eq!(facts.mime(), b"text/plain");
        assert_eq!(Facts { content_type: b"", ..facts }.mime(), b"");
    }
}
