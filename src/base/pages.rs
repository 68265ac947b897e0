//! Buffers in pages of their own.
//!
//! Why: the allocator keeps what is freed, for each thread apart. A buffer of a few MiB that one of many threads makes
//! and another drops leaves room of its size behind in the part of the first, where nothing else that is as large is
//! ever asked for; and once one was dropped, glibc takes all others of that size from there, too (its threshold for
//! maps moves up, mallopt(3)). So a run that held 30 MiB took 200 from the system. An anonymous map goes back when it
//! is dropped. And where the system refuses one, that is an error, and not the end of the process.

use std::io;
use std::ops::Deref;

use memmap2::MmapMut;

/// The least that is mapped, in bytes.
const LEAST: usize = 64 << 10;

/// How many times as long a buffer becomes that is too short.
const GROWTH: usize = 4;

/// A growing buffer of bytes in pages of its own, for what may become larger than some 100 KiB.
#[derive(Debug, Default)]
pub struct Pages {
    map: Option<MmapMut>,
    len: usize,
}

impl Pages {
    /// Creates an empty buffer; nothing is mapped yet.
    pub const fn new() -> Self {
        Self { map: None, len: 0 }
    }

    /// Creates an empty buffer with room for `capacity` bytes. Fails when the system has no memory.
    pub fn with_capacity(capacity: usize) -> io::Result<Self> {
        let mut pages = Self::new();
        pages.remap(capacity)?;
        Ok(pages)
    }

    /// Returns the room in bytes, what is used of it included.
    pub fn capacity(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.len())
    }

    /// Makes room for at least `more` bytes. Grows to four times its length, since every growth is a copy and what is
    /// not used costs nothing, but past `limit` bytes in all only as far as needed. Fails when the system has no
    /// memory; what the buffer holds stays.
    pub fn reserve(&mut self, more: usize, limit: usize) -> io::Result<()> {
        let wanted = self.len.checked_add(more).ok_or(io::ErrorKind::OutOfMemory)?;
        let capacity = self.capacity();
        if wanted <= capacity {
            return Ok(());
        }
        self.remap(capacity.saturating_mul(GROWTH).min(limit).max(wanted))
    }

    /// Appends bytes. Fails when the system has no memory.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reserve(bytes.len(), usize::MAX)?;
        let end = self.len + bytes.len();
        if let Some(map) = &mut self.map {
            map[self.len..end].copy_from_slice(bytes);
        }
        self.len = end;
        Ok(())
    }

    /// Keeps the first `len` bytes, and the room.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Empties the buffer and keeps the room.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Lends the bytes to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.map {
            Some(map) => &mut map[..self.len],
            None => &mut [],
        }
    }

    /// Takes all the room into use, whatever lies in it, and lends it to be written to.
    pub fn fill_up(&mut self) -> &mut [u8] {
        self.len = self.capacity();
        self.as_mut_slice()
    }

    fn remap(&mut self, capacity: usize) -> io::Result<()> {
        let mut map = MmapMut::map_anon(capacity.max(LEAST))?;
        map[..self.len].copy_from_slice(self);
        self.map = Some(map);
        Ok(())
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..self.len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_keeps_what_it_holds() {
        let mut pages = Pages::new();
        assert_eq!((pages.capacity(), &pages[..]), (0, &[][..]));
        pages.extend_from_slice(&[]).unwrap();
        let mut wanted = Vec::new();
        for n in 0..50_000_u32 {
            pages.extend_from_slice(&n.to_le_bytes()).unwrap();
            wanted.extend_from_slice(&n.to_le_bytes());
        }
        assert!(pages[..] == wanted && pages.capacity() == 4 * LEAST);
        pages.as_mut_slice()[0] = 7;
        pages.truncate(2);
        assert_eq!(pages[..], [7, 0]);
        pages.clear();
        assert!(pages.is_empty());
        assert_eq!(pages.fill_up().len(), 4 * LEAST);
        assert_eq!(pages[..4], [7, 0, 0, 0]);
    }

    #[test]
    fn stays_within_a_limit_while_it_can_and_reports_what_the_system_refuses() {
        let mut pages = Pages::with_capacity(LEAST).unwrap();
        let full = vec![1; LEAST];
        pages.extend_from_slice(&full).unwrap();
        pages.reserve(1, LEAST + 4096).unwrap();
        assert_eq!(pages.capacity(), LEAST + 4096);
        pages.reserve(3 * LEAST, LEAST).unwrap();
        assert_eq!(pages.capacity(), 4 * LEAST);
        assert!(Pages::with_capacity(usize::MAX).is_err());
        for more in [usize::MAX, usize::MAX / 2, 1 << 60] {
            assert!(pages.reserve(more, usize::MAX).is_err());
            assert!(pages[..] == full);
        }
    }
}
