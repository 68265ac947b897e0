//! Reading an open file: any part of it, and ahead of whoever reads on.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::RawString;
use crate::format::object::{ChunkRef, Object};

/// How far requests of one reader may come out of order, in bytes.
const SLACK: u64 = 1 << 20;
/// What is read ahead at first, in bytes; it doubles with every request that goes on.
const FIRST_WINDOW: u64 = 512 << 10;
/// The most that is read ahead, in bytes.
const MOST_WINDOW: u64 = 16 << 20;

/// The chunks of a content.
pub(super) struct Chunks {
    object: Object,
    /// Where each chunk starts, and the size at the end.
    offsets: Vec<u64>,
}

impl Chunks {
    pub(super) fn new(object: Object) -> Self {
        let mut offsets = Vec::with_capacity(object.chunks.len() + 1);
        let mut offset = 0_u64;
        offsets.push(0);
        for chunk in &object.chunks {
            offset = offset.saturating_add(u64::from(chunk.length));
            offsets.push(offset);
        }
        Self { object, offsets }
    }

    pub(super) fn size(&self) -> u64 {
        *self.offsets.last().expect("there is always a first offset")
    }

    /// Returns the number of the chunk that holds a byte, or the number of chunks behind the end.
    fn at(&self, offset: u64) -> usize {
        self.offsets.partition_point(|start| *start <= offset) - 1
    }

    /// Returns the pieces of chunks that make up a part of the content; what is behind the end is left out.
    fn pieces(&self, offset: u64, length: u64) -> impl Iterator<Item = (&ChunkRef, usize, usize)> {
        let end = offset.saturating_add(length).min(self.size());
        let first = self.at(offset.min(self.size()));
        let bounds = self.offsets.windows(2).zip(&self.object.chunks).skip(first);
        bounds.take_while(move |(bounds, _)| bounds[0] < end).filter_map(move |(bounds, chunk)| {
            let (from, to) = (offset.max(bounds[0]), end.min(bounds[1]));
            let within = |at: u64| usize::try_from(at - bounds[0]).expect("within a chunk");
            (from < to).then(|| (chunk, within(from), within(to)))
        })
    }
}

/// How a reader goes through a file.
#[derive(Clone, Copy, Default, Debug)]
struct Reading {
    /// Where the reader will go on, if it does.
    expected: u64,
    window: u64,
    /// The first chunk that nobody was asked to read.
    next: usize,
}

impl Reading {
    /// Takes a request into account; returns the chunks to be read ahead, by number.
    fn plan(
        &mut self,
        chunks: &Chunks,
        offset: u64,
        length: u64,
        most: u64,
    ) -> Option<std::ops::Range<usize>> {
        let end = offset.saturating_add(length);
        let goes_on = self.expected > 0 && offset.abs_diff(self.expected) <= SLACK;
        if !goes_on {
            *self = Self { expected: end, ..Self::default() };
            return None;
        }
        self.expected = self.expected.max(end);
        self.window = (self.window * 2).clamp(FIRST_WINDOW, MOST_WINDOW).min(most);
        let count = chunks.object.chunks.len();
        let from = self.next.max(chunks.at(self.expected));
        let to = (chunks.at(self.expected.saturating_add(self.window)) + 1).min(count);
        if from >= to || self.expected >= chunks.size() {
            return None;
        }
        self.next = to;
        Some(from..to)
    }
}

/// A file that is open for reading.
pub struct OpenFile {
    pub(super) path: RawString,
    pub(super) chunks: Arc<Chunks>,
    /// The size that `stat` tells.
    pub(super) size: u64,
    reading: Mutex<Reading>,
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenFile({:?}, {} bytes)", self.path, self.size)
    }
}

impl OpenFile {
    pub(super) fn new(path: RawString, chunks: Arc<Chunks>, size: u64) -> Self {
        Self { path, chunks, size, reading: Mutex::default() }
    }

    /// Returns the pieces of chunks to be read for a request.
    pub(super) fn pieces(&self, offset: u64, length: u64) -> impl Iterator<Item = (&ChunkRef, usize, usize)> {
        self.chunks.pieces(offset, length)
    }

    /// Returns what is worth being read ahead after a request, at most `most` bytes.
    pub(super) fn plan_ahead(&self, offset: u64, length: u64, most: u64) -> Vec<ChunkRef> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = reading.plan(&self.chunks, offset, length, most);
        planned.map(|range| self.chunks.object.chunks[range].to_vec()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;

    /// A content of chunks of these lengths; each chunk's id is its number.
    fn chunks(lengths: &[u32]) -> Chunks {
        let mut object = Object::new(Id::ZERO);
        for (number, length) in lengths.iter().enumerate() {
            object.chunks.push(ChunkRef::new(Id([u8::try_from(number).unwrap(); 32]), *length, 0.0));
        }
        Chunks::new(object)
    }

    fn pieces(chunks: &Chunks, offset: u64, length: u64) -> Vec<(u8, usize, usize)> {
        chunks.pieces(offset, length).map(|(chunk, from, to)| (chunk.id.0[0], from, to)).collect()
    }

    #[test]
    fn any_part_is_made_of_pieces() {
        let all = chunks(&[10, 0, 5, 20]);
        assert_eq!(pieces(&all, 0, 10), [(0, 0, 10)]);
        assert_eq!(pieces(&all, 9, 7), [(0, 9, 10), (2, 0, 5), (3, 0, 1)]);
        assert_eq!(pieces(&all, 34, 100), [(3, 19, 20)]);
        assert_eq!(pieces(&all, 35, 1), []);
        assert_eq!(pieces(&all, u64::MAX, 1), []);
        assert_eq!(pieces(&all, 3, 0), []);
        assert_eq!(pieces(&all, 1, u64::MAX).len(), 3);
        assert_eq!((all.size(), chunks(&[]).size()), (35, 0));
        assert_eq!(pieces(&chunks(&[]), 0, 10), []);
    }

    #[test]
    fn who_reads_on_is_read_ahead_for_and_who_jumps_is_not() {
        let all = chunks(&[1 << 20; 40]);
        let mut reading = Reading::default();
        let step = 128 << 10;
        let most = MOST_WINDOW;
        assert_eq!(reading.plan(&all, 0, step, most), None, "one request tells nothing");
        assert_eq!(reading.plan(&all, step, step, most), Some(0..1));
        assert_eq!(reading.plan(&all, 2 * step, step, most), Some(1..2));
        assert_eq!(reading.plan(&all, 3 * step, step, most), Some(2..3));
        assert_eq!(reading.plan(&all, 4 * step, step, most), Some(3..5));
        assert_eq!(reading.plan(&all, 30 << 20, step, most), None);
        assert_eq!(reading.plan(&all, (30 << 20) + step, step, most), Some(30..31));
        for n in 2..64 {
            reading.plan(&all, (30 << 20) + n * step, step, most);
        }
        assert_eq!(reading.next, 40, "never behind the end");
        let mut small = Reading { expected: step, ..Reading::default() };
        assert_eq!(small.plan(&all, step, step, 0), Some(0..1));
    }
}
