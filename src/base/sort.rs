//! External sorting: records go in in any order and come out sorted, in bounded memory.
//!
//! A record is a key and a value, both plain bytes, copied into one arena; nothing is allocated per record.
//! While everything fits the memory given, nothing touches a disk. Beyond it sorted runs go to spills and are
//! merged at the end; runs are merged early when there are many, so that open files stay few.
//!
//! Equal keys keep the order in which they were pushed. Callers rely on it ("the last one wins").

use std::cmp::Ordering;

use rayon::slice::ParallelSliceMut;

use super::spill::{BLOCK, Spill, SpillDir, SpillReader};
use super::{At, Pages, PathError};

/// An order of keys.
pub trait KeyOrder {
    /// Compares two keys.
    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering;

    /// Returns a number that is never greater for a smaller key: compared first, so that most comparisons do
    /// not touch the keys.
    fn prefix(&self, key: &[u8]) -> u64 {
        let _ = key;
        0
    }

    /// Compares two keys of equal prefix.
    fn compare_rest(&self, a: &[u8], b: &[u8]) -> Ordering {
        self.compare(a, b)
    }
}

impl<F: Fn(&[u8], &[u8]) -> Ordering> KeyOrder for F {
    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        self(a, b)
    }
}

/// Plain lexicographic order of unsigned bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByteOrder;

impl KeyOrder for ByteOrder {
    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        a.cmp(b)
    }

    fn prefix(&self, key: &[u8]) -> u64 {
        leading(key, 8)
    }
}

/// Any order, the other way round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reversed<O>(pub O);

impl<O: KeyOrder> KeyOrder for Reversed<O> {
    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        self.0.compare(b, a)
    }

    fn prefix(&self, key: &[u8]) -> u64 {
        !self.0.prefix(key)
    }

    fn compare_rest(&self, a: &[u8], b: &[u8]) -> Ordering {
        self.0.compare_rest(b, a)
    }
}

/// Returns the first `count` (at most eight) bytes of a key as a number that sorts as they do; missing bytes
/// count as zero.
pub fn leading(key: &[u8], count: usize) -> u64 {
    (0..count).fold(0, |number, at| number << 8 | u64::from(key.get(at).copied().unwrap_or(0)))
}

/// One record of the arena: `u32 value length ‖ key ‖ value`.
#[derive(Clone, Copy, Debug)]
struct Slot {
    prefix: u64,
    offset: u32,
    key_length: u32,
}

/// Length of an encoded slot in bytes.
const SLOT: usize = 16;

/// A slot in the order of its fields, the least significant bytes first.
type EncodedSlot = [u8; SLOT];

impl Slot {
    fn encode(self) -> EncodedSlot {
        let fields =
            u128::from(self.prefix) | u128::from(self.offset) << 64 | u128::from(self.key_length) << 96;
        fields.to_le_bytes()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the fields are taken apart")]
    fn decode(bytes: &EncodedSlot) -> Self {
        let fields = u128::from_le_bytes(*bytes);
        Self { prefix: fields as u64, offset: (fields >> 64) as u32, key_length: (fields >> 96) as u32 }
    }
}

/// Returns the slots that a buffer holds.
fn slots_in(bytes: &[u8]) -> &[EncodedSlot] {
    bytes.as_chunks().0
}

/// Sorting fewer records in parallel costs more than it saves.
const PARALLEL_FROM: usize = 1 << 15;

/// A sorter that takes records.
#[derive(Debug)]
pub struct Sorter<O> {
    order: O,
    dir: SpillDir,
    memory: usize,
    arena: Pages,
    slots: Pages,
    /// Sorted runs in the order of their records' arrival, each with how often it was merged.
    runs: Vec<(u32, Spill)>,
    records: u64,
}

impl<O: KeyOrder + Sync> Sorter<O> {
    /// Creates a sorter that holds at most about `memory` bytes and spills to `dir` beyond it.
    pub fn new(order: O, dir: &SpillDir, memory: usize) -> Self {
        let memory = memory.clamp(4 * BLOCK, u32::MAX as usize);
        let (arena, slots, runs) = (Pages::new(), Pages::new(), Vec::new());
        Self { order, dir: dir.clone(), memory, arena, slots, runs, records: 0 }
    }

    /// Returns the number of records pushed.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Takes a record. Fails when a spill cannot be written.
    ///
    /// A full buffer is sorted by the calling thread alone: callers hold locks around a sorter, and a thread
    /// that waits in the pool may be handed other work that wants the same lock.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), PathError> {
        self.push_parts(key, &[value])
    }

    /// Takes a record whose value comes in parts.
    pub fn push_parts(&mut self, key: &[u8], value: &[&[u8]]) -> Result<(), PathError> {
        let value_length = value.iter().map(|part| part.len()).sum::<usize>();
        let need = 4 + key.len() + value_length;
        if !self.slots.is_empty() && self.arena.len() + need + self.slots.len() + SLOT > self.memory {
            self.sort(false);
            self.write_run()?;
        }
        let (Ok(offset), Ok(key_length), Ok(length)) =
            (u32::try_from(self.arena.len()), u32::try_from(key.len()), u32::try_from(value_length))
        else {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "a record of more than 4 GiB");
            return Err(PathError { op: "sort in", path: self.dir.folder().to_owned(), source });
        };
        let slot = Slot { prefix: self.order.prefix(key), offset, key_length };
        // Room for all of it first: a record is taken as a whole or not at all.
        self.arena
            .reserve(need, self.memory)
            .and_then(|()| self.slots.reserve(SLOT, usize::MAX))
            .and_then(|()| self.arena.extend_from_slice(&length.to_le_bytes()))
            .and_then(|()| self.arena.extend_from_slice(key))
            .and_then(|()| value.iter().try_for_each(|part| self.arena.extend_from_slice(part)))
            .and_then(|()| self.slots.extend_from_slice(&slot.encode()))
            .at("get memory for sorting in", self.dir.folder())?;
        self.records += 1;
        Ok(())
    }

    /// Sorts and makes the records readable. Without runs on disk the records stay in memory; otherwise what is
    /// in memory is written too, so that the memory is free again.
    pub fn finish(mut self) -> Result<Sorted<O>, PathError> {
        self.sort(true);
        if self.runs.is_empty() {
            let Self { order, arena, slots, records, .. } = self;
            return Ok(Sorted { order, records, from: From::Memory { arena, slots, next: 0 } });
        }
        self.write_run()?;
        (self.arena, self.slots) = (Pages::new(), Pages::new());
        while self.runs.len() > self.fan_in() {
            let count = self.fan_in().min(self.runs.len() - self.fan_in() + 1);
            self.merge_last(count)?;
        }
        let runs: Vec<Spill> = self.runs.into_iter().map(|(_, run)| run).collect();
        let merge = Merge::start(&self.order, &runs)?;
        Ok(Sorted { order: self.order, records: self.records, from: From::Disk { runs, merge } })
    }

    fn sort(&mut self, parallel: bool) {
        let (order, arena) = (&self.order, &self.arena);
        let compare = |a: &EncodedSlot, b: &EncodedSlot| {
            let (a, b) = (Slot::decode(a), Slot::decode(b));
            a.prefix
                .cmp(&b.prefix)
                .then_with(|| order.compare_rest(key_of(arena, a), key_of(arena, b)))
                .then(a.offset.cmp(&b.offset))
        };
        let slots = self.slots.as_mut_slice().as_chunks_mut::<SLOT>().0;
        if parallel && slots.len() >= PARALLEL_FROM {
            slots.par_sort_unstable_by(compare);
        } else {
            slots.sort_unstable_by(compare);
        }
    }

    fn write_run(&mut self) -> Result<(), PathError> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let mut run = self.dir.create()?;
        let arena: &[u8] = &self.arena;
        for slot in slots_in(&self.slots).iter().map(Slot::decode) {
            let (key, value) = (key_of(arena, slot), value_of(arena, slot));
            run.push(&[&slot.key_length.to_le_bytes(), key, value])?;
        }
        self.arena.clear();
        self.slots.clear();
        self.runs.push((0, run.finish()?));
        // Like digits of a number: as many runs of one level as are merged at once become one of the next.
        loop {
            let fan_in = self.fan_in();
            let level = self.runs.last().map_or(0, |(level, _)| *level);
            let same = self.runs.iter().rev().take_while(|(other, _)| *other == level).count();
            if same < fan_in {
                return Ok(());
            }
            self.merge_last(fan_in)?;
        }
    }

    /// Merges the last `count` runs into one; only neighbours are merged, so that equal keys keep their order.
    fn merge_last(&mut self, count: usize) -> Result<(), PathError> {
        let tail = self.runs.split_off(self.runs.len() - count);
        let level = tail.iter().map(|(level, _)| level + 1).max().unwrap_or(0);
        let runs: Vec<Spill> = tail.into_iter().map(|(_, run)| run).collect();
        let mut merge = Merge::start(&self.order, &runs)?;
        let mut out = self.dir.create()?;
        while merge.step(&self.order)? {
            out.push(&[merge.record()])?;
        }
        self.runs.push((level, out.finish()?));
        Ok(())
    }

    /// How many runs are read at once: each needs a block and a record.
    fn fan_in(&self) -> usize {
        (self.memory / (2 * BLOCK)).clamp(2, 128)
    }
}

fn key_of(arena: &[u8], slot: Slot) -> &[u8] {
    let start = slot.offset as usize + 4;
    &arena[start..start + slot.key_length as usize]
}

fn value_of(arena: &[u8], slot: Slot) -> &[u8] {
    let at = slot.offset as usize;
    let length = arena[at..].first_chunk::<4>().expect("every record starts with a length");
    let start = at + 4 + slot.key_length as usize;
    &arena[start..start + u32::from_le_bytes(*length) as usize]
}

/// A record lent by a sorter: its key and its value.
pub type KeyValue<'a> = (&'a [u8], &'a [u8]);

/// Sorted records, read one after the other.
#[derive(Debug)]
pub struct Sorted<O> {
    order: O,
    records: u64,
    from: From,
}

#[derive(Debug)]
enum From {
    Memory { arena: Pages, slots: Pages, next: usize },
    Disk { runs: Vec<Spill>, merge: Merge },
}

impl<O: KeyOrder> Sorted<O> {
    /// Returns the number of all records, read or not.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Returns whether the records never left memory.
    pub fn in_memory(&self) -> bool {
        matches!(self.from, From::Memory { .. })
    }

    /// Steps to the next record, which [`Self::record`] then returns; `false` at the end.
    pub fn advance(&mut self) -> Result<bool, PathError> {
        match &mut self.from {
            From::Memory { slots, next, .. } => {
                let count = slots_in(slots).len();
                *next = (*next + 1).min(count + 1);
                Ok(*next <= count)
            }
            From::Disk { merge, .. } => merge.step(&self.order),
        }
    }

    /// Returns the key and the value of the record that [`Self::advance`] stepped to; empty ones before the
    /// first and after the last.
    pub fn record(&self) -> (&[u8], &[u8]) {
        match &self.from {
            From::Memory { arena, slots, next } => {
                match next.checked_sub(1).and_then(|at| slots_in(slots).get(at)).map(Slot::decode) {
                    Some(slot) => (key_of(arena, slot), value_of(arena, slot)),
                    None => (&[], &[]),
                }
            }
            From::Disk { merge, .. } => split(merge.record()),
        }
    }

    /// Steps to the next record and returns its key and value; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer, which Iterator cannot express")]
    pub fn next(&mut self) -> Result<Option<KeyValue<'_>>, PathError> {
        Ok(if self.advance()? { Some(self.record()) } else { None })
    }

    /// Starts again before the first record.
    pub fn rewind(&mut self) -> Result<(), PathError> {
        match &mut self.from {
            From::Memory { next, .. } => *next = 0,
            From::Disk { runs, merge } => *merge = Merge::start(&self.order, runs)?,
        }
        Ok(())
    }
}

/// Splits a run's record; what is too short counts as empty (a spill that changed under us).
fn split(record: &[u8]) -> (&[u8], &[u8]) {
    record
        .split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize))
        .unwrap_or((&[], &[]))
}

/// A merge of sorted runs: a heap of readers, the smallest record on top.
#[derive(Debug)]
struct Merge {
    readers: Vec<SpillReader>,
    prefixes: Vec<u64>,
    heap: Vec<usize>,
    started: bool,
}

impl Merge {
    fn start<O: KeyOrder>(order: &O, runs: &[Spill]) -> Result<Self, PathError> {
        let readers: Vec<SpillReader> = runs.iter().map(Spill::forward).collect();
        let mut merge = Self { prefixes: vec![0; readers.len()], readers, heap: Vec::new(), started: false };
        for at in 0..merge.readers.len() {
            if merge.refill(order, at)? {
                merge.heap.push(at);
            }
        }
        for at in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(order, at);
        }
        Ok(merge)
    }

    fn step<O: KeyOrder>(&mut self, order: &O) -> Result<bool, PathError> {
        if !std::mem::replace(&mut self.started, true) {
            return Ok(!self.heap.is_empty());
        }
        let Some(&top) = self.heap.first() else { return Ok(false) };
        if !self.refill(order, top)? {
            self.heap.swap_remove(0);
        }
        self.sift_down(order, 0);
        Ok(!self.heap.is_empty())
    }

    fn record(&self) -> &[u8] {
        self.heap.first().filter(|_| self.started).map_or(&[], |top| self.readers[*top].record())
    }

    fn refill<O: KeyOrder>(&mut self, order: &O, at: usize) -> Result<bool, PathError> {
        let more = self.readers[at].advance()?;
        if more {
            self.prefixes[at] = order.prefix(split(self.readers[at].record()).0);
        }
        Ok(more)
    }

    fn less<O: KeyOrder>(&self, order: &O, a: usize, b: usize) -> bool {
        let key = |at: usize| split(self.readers[at].record()).0;
        self.prefixes[a]
            .cmp(&self.prefixes[b])
            .then_with(|| order.compare_rest(key(a), key(b)))
            .then(a.cmp(&b))
            .is_lt()
    }

    fn sift_down<O: KeyOrder>(&mut self, order: &O, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.less(order, self.heap[child], self.heap[least]) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spill::tests::spill_dir;
    use super::*;
    use proptest::prelude::*;

    type Records = Vec<(Vec<u8>, Vec<u8>)>;

    fn sorted<O: KeyOrder + Sync>(
        order: O,
        records: &[(Vec<u8>, Vec<u8>)],
        memory: usize,
    ) -> (bool, Records) {
        let (_folder, dir) = spill_dir(true);
        let mut sorter = Sorter::new(order, &dir, memory);
        for (key, value) in records {
            let (a, b) = value.split_at(value.len() / 3);
            sorter.push_parts(key, &[a, b]).unwrap();
        }
        let mut sorted = sorter.finish().unwrap();
        let mut passes = Vec::new();
        for _ in 0..2 {
            let mut out = Vec::new();
            while let Some((key, value)) = sorted.next().unwrap() {
                out.push((key.to_vec(), value.to_vec()));
            }
            assert!(sorted.next().unwrap().is_none());
            sorted.rewind().unwrap();
            passes.push(out);
        }
        assert_eq!(passes[0], passes[1]);
        (sorted.in_memory(), passes.remove(0))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn sorts_like_a_stable_sort(
            records in prop::collection::vec(
                (prop::collection::vec(0u8..4, 0..12), prop::collection::vec(any::<u8>(), 0..20)), 0..300),
            reverse: bool,
        ) {
            let mut want = records.clone();
            let got = if reverse {
                want.sort_by(|a, b| b.0.cmp(&a.0));
                sorted(Reversed(ByteOrder), &records, 0).1
            } else {
                want.sort_by(|a, b| a.0.cmp(&b.0));
                sorted(ByteOrder, &records, 0).1
            };
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn many_runs_and_several_passes_keep_order_and_arrival() {
        // 6000 records of about 1 KiB against 256 KiB of memory: about 24 runs, of which two are read at once.
        let records: Vec<_> = (0..6000u32)
            .map(|i| {
                (
                    ((i.wrapping_mul(2_654_435_761)) % 500).to_le_bytes().to_vec(),
                    [&i.to_le_bytes()[..], &[7; 1000]].concat(),
                )
            })
            .collect();
        let mut want = records.clone();
        want.sort_by(|a, b| a.0.cmp(&b.0));
        let (in_memory, got) = sorted(|a: &[u8], b: &[u8]| a.cmp(b), &records, 0);
        assert!(!in_memory);
        assert!(got == want);
        let (in_memory, got) = sorted(ByteOrder, &records, 64 << 20);
        assert!(in_memory);
        assert!(got == want);
    }

    #[test]
    fn a_record_larger_than_the_memory() {
        let records = vec![
            (b"b".to_vec(), vec![1; 3 << 20]),
            (b"a".to_vec(), vec![2; 2 << 20]),
            (b"c".to_vec(), vec![]),
        ];
        let mut want = records.clone();
        want.sort();
        assert!(sorted(ByteOrder, &records, 0).1 == want);
    }

    #[test]
    fn parallel_sort_of_a_large_buffer() {
        let records: Vec<_> =
            (0..40_000u32).map(|i| (i.wrapping_mul(2_654_435_761).to_le_bytes().to_vec(), vec![])).collect();
        let mut want = records.clone();
        want.sort();
        assert!(sorted(ByteOrder, &records, 64 << 20).1 == want);
    }
}
