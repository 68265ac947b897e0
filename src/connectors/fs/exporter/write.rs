//! Writing a file's content: holes stay holes, large files are written by many threads.

use std::cell::Cell;
use std::fs::File;
use std::io;

use rayon::iter::{ParallelBridge, ParallelIterator};

use crate::base::sys::FileAt as _;
use crate::connector::{ContentSource, Error, Result};

/// Up to this length, in bytes, a file is read and written in one step.
const SMALL: u64 = 1 << 20;
/// From this length on a file is written by many threads.
const LARGE: u64 = 8 << 20;
/// The least a thread reads and writes at once.
const PIECE: u64 = 1 << 20;
/// The most a thread reads and writes at once, however far apart the good places to cut are.
const MAX_PIECE: u64 = 4 << 20;
/// The shortest run of zeros left out, in bytes.
const HOLE: usize = 64 << 10;
/// The unit in which file systems keep holes, in bytes.
const BLOCK: usize = 4 << 10;

thread_local! {
    /// A buffer to use again. It is taken out while in use: reading content may make this thread do other work.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Writes a whole content into an empty file.
pub(super) fn write(file: &File, path: &str, content: &dyn ContentSource) -> Result<()> {
    let size = content.size();
    let failed = |error| Error::io("write", path, error);
    if size <= SMALL {
        return if size == 0 { Ok(()) } else { piece(file, path, content, (0, size), size) };
    }
    file.set_len(size).map_err(failed)?;
    let boundaries = content.boundaries();
    let mut pieces = pieces(&boundaries, size);
    if size < LARGE {
        pieces.try_for_each(|range| piece(file, path, content, range, size))
    } else {
        pieces.par_bridge().try_for_each(|range| piece(file, path, content, range, size))
    }
}

/// Cuts a content at good places into ranges of reasonable length, one after the other: how many there are follows from
/// a length that a snapshot only announces.
fn pieces(boundaries: &[u64], size: u64) -> impl Iterator<Item = (u64, u64)> + Send + '_ {
    let mut cuts = boundaries.iter().copied().filter(move |at| *at < size).chain([size]);
    let (mut start, mut end) = (0_u64, 0_u64);
    std::iter::from_fn(move || {
        while start == end {
            let cut = cuts.next()?;
            if cut == size || cut.saturating_sub(start) >= PIECE {
                end = cut;
            }
        }
        let piece = (start, start + (end - start).min(MAX_PIECE));
        start = piece.1;
        Some(piece)
    })
}

/// Reads one range of a content and writes it.
fn piece(
    file: &File,
    path: &str,
    content: &dyn ContentSource,
    (start, end): (u64, u64),
    size: u64,
) -> Result<()> {
    let length = usize::try_from(end - start).expect("a piece is at most 4 MiB long");
    let mut buffer = BUFFER.take();
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let done = content.read_at(start, &mut buffer[..length]).and_then(|()| {
        let written = write_around_holes(file, start, &buffer[..length], end == size);
        written.map_err(|error| Error::io("write", path, error))
    });
    BUFFER.set(buffer);
    done
}

/// Writes bytes at an offset, leaving out long runs of zeros; `last` tells that the file ends with them.
fn write_around_holes(file: &File, offset: u64, bytes: &[u8], last: bool) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let (from, to) = next_hole(offset, bytes, done);
        if from > done {
            file.write_all_at(&bytes[done..from], offset + done as u64)?;
        }
        if to == bytes.len() && from < to && last {
            file.set_len(offset + to as u64)?;
        }
        done = to;
    }
    Ok(())
}

/// Returns the next run of zeros worth leaving out, from `at` on: whole blocks of the file, or up to the ends of
/// what is at hand. Without one, an empty run at the end.
fn next_hole(offset: u64, bytes: &[u8], at: usize) -> (usize, usize) {
    let within = usize::try_from(offset % BLOCK as u64).expect("less than a block");
    let mut run = at;
    let mut block = at;
    while block < bytes.len() {
        let next = (block + BLOCK - (within + block) % BLOCK).min(bytes.len());
        if !is_zero(&bytes[block..next]) {
            if block - run >= HOLE {
                return (run, block);
            }
            run = next;
        }
        block = next;
    }
    if bytes.len() - run >= HOLE { (run, bytes.len()) } else { (bytes.len(), bytes.len()) }
}

fn is_zero(block: &[u8]) -> bool {
    // The first byte settles it for most blocks that hold something.
    block.first().is_none_or(|byte| *byte == 0) && block.iter().fold(0, |sum, byte| sum | byte) == 0
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug)]
    struct Source {
        bytes: Vec<u8>,
        boundaries: Vec<u64>,
        reads: Mutex<Vec<(u64, usize)>>,
    }

    impl Source {
        fn new(bytes: Vec<u8>, step: usize) -> Self {
            let boundaries = (0..bytes.len()).step_by(step).map(|at| at as u64).collect();
            Self { bytes, boundaries, reads: Mutex::default() }
        }
    }

    impl ContentSource for Source {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            self.reads.lock().unwrap().push((offset, buffer.len()));
            let from = usize::try_from(offset).unwrap();
            buffer.copy_from_slice(&self.bytes[from..from + buffer.len()]);
            Ok(())
        }

        fn boundaries(&self) -> Vec<u64> {
            self.boundaries.clone()
        }
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let step = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3] | 1
        };
        (0..len).map(step).collect()
    }

    fn written(content: &Source) -> (Vec<u8>, u64) {
        let mut file = tempfile::tempfile().unwrap();
        write(&file, "x", content).unwrap();
        let mut seen = Vec::new();
        file.read_to_end(&mut seen).unwrap();
        (seen, file.metadata().unwrap().blocks() * 512)
    }

    #[test]
    fn content_arrives_whatever_its_length_and_cuts() {
        for len in [0, 1, 4095, 70_000, 1 << 20, (1 << 20) + 1, 9_000_001] {
            for step in [10_000, 5_500_000, usize::MAX] {
                let content = Source::new(noise(len), step);
                assert!(written(&content).0 == content.bytes, "{len} {step}");
                let reads = content.reads.lock().unwrap();
                assert!(reads.iter().all(|(_, len)| *len as u64 <= MAX_PIECE));
                assert_eq!(reads.iter().map(|(_, len)| len).sum::<usize>(), len);
            }
        }
    }

    #[test]
    fn a_length_that_is_only_announced_takes_no_memory() {
        let mut pieces = pieces(&[0, MAX_PIECE + 7], u64::MAX);
        let cut = MAX_PIECE + 7;
        assert_eq!(pieces.next(), Some((0, MAX_PIECE)));
        assert_eq!(pieces.next(), Some((MAX_PIECE, cut)));
        assert_eq!(pieces.next(), Some((cut, cut + MAX_PIECE)));
    }

    #[test]
    fn runs_of_zeros_are_left_out() {
        for (len, holes) in [
            (300_000, vec![(100_000, 290_000)]),
            (200_000, vec![(0, 200_000)]),
            (200_000, vec![(10_000, 200_000)]),
            (12_000_000, vec![(1_000_001, 4_999_999), (8_000_000, 12_000_000)]),
        ] {
            let mut bytes = noise(len);
            for (from, to) in &holes {
                bytes[*from..*to].fill(0);
            }
            let content = Source::new(bytes, 700_000);
            let (seen, allocated) = written(&content);
            assert!(seen == content.bytes, "{len}");
            let data = len - holes.iter().map(|(from, to)| to - from).sum::<usize>();
            let slack = 2 * BLOCK * (holes.len() + 1) + 2 * HOLE;
            assert!(allocated <= (data + slack) as u64, "{allocated} for {data}");
        }
    }

    #[test]
    fn short_runs_of_zeros_are_written_and_holes_are_whole_blocks() {
        let mut bytes = noise(300_000);
        bytes[5000..5000 + HOLE].fill(0);
        assert_eq!(next_hole(0, &bytes, 0), (300_000, 300_000));
        bytes[5000..8192 + HOLE + 7].fill(0);
        assert_eq!(next_hole(0, &bytes, 0), (8192, 8192 + HOLE));
        assert_eq!(next_hole(100, &bytes, 0), (8092, 8092 + HOLE));
        assert_eq!(next_hole(0, &bytes, 8192 + HOLE), (300_000, 300_000));
    }

    #[test]
    fn what_the_source_reports_is_passed_on() {
        #[derive(Debug)]
        struct Broken(u64);
        impl ContentSource for Broken {
            fn size(&self) -> u64 {
                self.0
            }
            fn read_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
                Err(Error::new(crate::connector::ErrorKind::Transport, "read", "far away"))
            }
            fn boundaries(&self) -> Vec<u64> {
                vec![0]
            }
        }
        for size in [1, 2 << 20, 20 << 20] {
            let error = write(&tempfile::tempfile().unwrap(), "x", &Broken(size)).unwrap_err();
            assert_eq!(error.target, "far away");
        }
    }
}
