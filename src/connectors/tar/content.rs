//! Reading a member's content again.

use std::io::{self, Read};

use super::input::{SpoolBlock, Store};
use super::members::Stored;
use crate::connector::{Content, ContentInfo, Error, ErrorKind, Result};

/// A content while it is read: what is stored, and zeros where a sparse file has holes.
#[derive(Debug)]
pub(super) struct MemberContent {
    store: Store,
    stored: Stored,
    block: SpoolBlock,
    /// Where the reader stands in the file.
    position: u64,
    /// Where what is stored goes on.
    next: u64,
    /// The piece at hand.
    piece: usize,
    name: String,
}

impl MemberContent {
    pub(super) fn new(store: Store, stored: Stored, name: String) -> Self {
        let next = stored.start;
        Self { store, stored, block: SpoolBlock::default(), position: 0, next, piece: 0, name }
    }

    /// Returns how many bytes come next, and whether they are stored.
    fn ahead(&mut self) -> (u64, bool) {
        let size = self.stored.size;
        let Some(pieces) = &self.stored.pieces else { return (size - self.position, true) };
        while let Some((offset, length)) = pieces.get(self.piece) {
            if self.position < *offset {
                return (offset - self.position, false);
            }
            let end = offset + length;
            if self.position < end {
                return (end - self.position, true);
            }
            self.piece += 1;
        }
        (size - self.position, false)
    }
}

impl Read for MemberContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, is_stored) = self.ahead();
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        if length == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..length];
        let read = if is_stored {
            let read = self.store.read_at(self.next, buffer, &mut self.block)?;
            if read == 0 {
                let changed = Error::new(ErrorKind::Changed, "read", &self.name);
                return Err(io::Error::other(changed.detail("the archive became shorter while it was read")));
            }
            self.next += read as u64;
            read
        } else {
            buffer.fill(0);
            length
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl Content for MemberContent {
    fn size_hint(&self) -> Option<u64> {
        Some(self.stored.size)
    }

    fn finish(self: Box<Self>) -> Result<ContentInfo> {
        Ok(ContentInfo::default())
    }
}
