//! Reading packfiles by their own footer and index.

use crate::base::Id;
use crate::connector::Kind;
use crate::crypto::seal::Item;
use crate::format::packfile::{FOOTER_LENGTH_LEN, Footer, IndexRecord, Tail, decode_index};
use crate::format::wrapper::{HEADER_LEN, TRAILER_LEN};

use super::super::error::Error;
use super::super::repository::{METADATA_LIMIT, Repository};

/// The most an index may decode to.
const INDEX_LIMIT: usize = 1 << 30;

/// What a packfile says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Index {
    /// When the packfile was begun, Unix nanoseconds.
    pub created: i64,
    /// Where its blobs are, padding included.
    pub records: Vec<IndexRecord>,
}

/// Reads the end of packfiles.
#[derive(Clone, Copy, Debug)]
pub struct PackReader<'a> {
    repository: &'a Repository,
}

impl<'a> PackReader<'a> {
    /// Creates a reader of the packfiles of a store.
    pub fn new(repository: &'a Repository) -> Self {
        Self { repository }
    }

    /// Reads the footer of a packfile of `size` bytes: two small reads.
    pub fn footer(self, id: Id, size: u64) -> Result<Footer, Error> {
        self.tail(id, size).map(|(footer, _)| footer)
    }

    /// Reads and verifies the index of a packfile of `size` bytes.
    pub fn index(self, id: Id, size: u64) -> Result<Index, Error> {
        let what = format!("packfile {id}");
        let (footer, tail) = self.tail(id, size)?;
        let length = tail.index_length(&footer)?;
        let stored = self.range(id, HEADER_LEN as u64 + footer.index_offset, length)?;
        let limit = usize::try_from(footer.index_len()).unwrap_or(usize::MAX).min(INDEX_LIMIT);
        let index = self.repository.encoding().decode(Item::index(), &stored, limit, &what)?;
        let found = self.repository.keys().id(&index);
        if found != footer.index_mac {
            return Err(Error::corrupt(format!("the index of {what}"), footer.index_mac, found));
        }
        Ok(Index { created: footer.timestamp, records: decode_index(&index, &footer)? })
    }

    fn tail(self, id: Id, size: u64) -> Result<(Footer, Tail), Error> {
        let what = format!("packfile {id}");
        let header = HEADER_LEN as u64;
        let least = (HEADER_LEN + TRAILER_LEN + FOOTER_LENGTH_LEN) as u64;
        if size < least {
            return Err(Error::malformed(&what, "shorter than its wrapper"));
        }
        let payload = size - header - TRAILER_LEN as u64;
        let last = self.range(id, header + payload - FOOTER_LENGTH_LEN as u64, FOOTER_LENGTH_LEN as u64)?;
        let tail = Tail::locate(payload, last.try_into().expect("as long as asked for"))?;
        let footer = self.range(id, header + tail.footer_offset, u64::from(tail.footer_length))?;
        let footer = self.repository.encoding().decode(Item::footer(), &footer, METADATA_LIMIT, &what)?;
        Ok((Footer::decode(&footer)?, tail))
    }

    fn range(self, id: Id, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let length =
            usize::try_from(length).map_err(|_| Error::malformed("a range", "longer than memory"))?;
        let mut bytes = Vec::with_capacity(length.min(64 << 20));
        let storage = self.repository.storage();
        storage.read_range(Kind::Packfile, id, offset, length, &mut |read| bytes.extend_from_slice(read))?;
        Ok(bytes)
    }
}
