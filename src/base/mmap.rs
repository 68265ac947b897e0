//! The one mmap door: read-only ranges of a file, mapped or read.
//!
//! | type | how | when |
//! |---|---|---|
//! | [`MappedFile`] | memory map, in windows of at most 64 MiB for larger files | local disks |
//! | [`PreadFile`] | `pread` into a buffer of the range's length | network file systems, `-no-mmap` |
//! | [`RangeFile`] | whichever of the two fits | everywhere else in this crate |
//!
//! Why windows: the address space and the resident pages a run holds stay bounded however large an archive is.
//! Windows begin every 32 MiB and are 64 MiB long, so that any range of up to 32 MiB lies within one of them.
//!
//! Why a check before every access: touching a page behind the end of a file that was cut short is a signal, not
//! an error. Every access asks `fstat` first; what remains is the moment between that and the access, and the
//! answer to it is `-no-mmap`. Bytes seen through a map may change while they are looked at: decode out of the
//! map into a private buffer, and verify and use that buffer.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{Mmap, MmapOptions};

use super::sys::FileAt as _;

/// The longest window, and the longest file mapped as a whole, in bytes.
const WINDOW: u64 = 64 << 20;
/// The distance between the starts of two windows, in bytes: a multiple of every page size in use.
const STRIDE: u64 = WINDOW / 2;
/// How many windows of one file stay mapped when nobody looks at them.
const KEPT_WINDOWS: usize = 4;

/// Numbers by which `statfs` names file systems where a page fault may wait for, or fail with, a network:
/// NFS, SMB (three generations), FUSE, AFS (two), Ceph, 9P, Coda, Lustre, GPFS, VirtualBox, NCP.
#[cfg(target_os = "linux")]
const REMOTE_FILE_SYSTEMS: [u32; 14] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x5346_414f,
    0x6b41_4653,
    0x00c3_6400,
    0x0102_1997,
    0x7375_7245,
    0x0bd0_0bd0,
    0x4750_4653,
    0x786f_4256,
    0x564c,
];

/// A file read by ranges.
#[derive(Debug)]
pub enum RangeFile {
    /// Through a memory map.
    Mapped(MappedFile),
    /// Through system calls.
    Pread(PreadFile),
}

impl RangeFile {
    /// Opens the first `len` bytes of a file, mapped if `mmap` allows it and the file lies on a local disk.
    ///
    /// Fails with `UnexpectedEof` when the file is shorter.
    pub fn open(file: File, len: u64, mmap: bool) -> io::Result<Self> {
        if mmap && !is_remote(&file) {
            MappedFile::open(file, len).map(Self::Mapped)
        } else {
            PreadFile::open(file, len).map(Self::Pread)
        }
    }

    /// Returns the length of the view in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a file's length, not a collection's")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Mapped(file) => file.len,
            Self::Pread(file) => file.len,
        }
    }

    /// Passes exactly `len` bytes from `offset` on to `consume`, once.
    ///
    /// Fails with `UnexpectedEof`, passing nothing, when the range ends past the view or past the file as it is
    /// now.
    pub fn with_range(&self, offset: u64, len: usize, consume: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        match self {
            Self::Mapped(file) => file.with_range(offset, len, consume),
            Self::Pread(file) => file.with_range(offset, len, consume),
        }
    }

    /// Reads a range into a buffer of its own, with the errors of [`with_range`](Self::with_range).
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        self.with_range(offset, len, &mut |bytes| out.extend_from_slice(bytes))?;
        Ok(out)
    }
}

/// A file read through memory maps.
#[derive(Debug)]
pub struct MappedFile {
    file: File,
    len: u64,
    /// The windows in use lately, by number, the latest last.
    windows: Mutex<Vec<(u64, Arc<Mmap>)>>,
}

impl MappedFile {
    /// Opens the first `len` bytes of a file. Nothing is mapped before the first access.
    ///
    /// Fails with `UnexpectedEof` when the file is shorter.
    pub fn open(file: File, len: u64) -> io::Result<Self> {
        check_size(&file, len)?;
        Ok(Self { file, len, windows: Mutex::new(Vec::new()) })
    }

    /// Passes a range to `consume`; see [`RangeFile::with_range`].
    ///
    /// A range longer than 32 MiB that no window covers gets a map of its own for the time of the call.
    pub fn with_range(&self, offset: u64, len: usize, consume: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let end = check_range(offset, len, self.len)?;
        check_size(&self.file, end)?;
        if len == 0 {
            consume(&[]);
            return Ok(());
        }
        let number = if self.len <= WINDOW { 0 } else { offset / STRIDE };
        let start = number * STRIDE;
        let mapped = if end - start <= WINDOW {
            self.window(number)
        } else {
            self.map(start, end - start).map(Arc::new)
        };
        // A file system without mmap, or no address space left: reading still works.
        let Ok(map) = mapped else { return pread(&self.file, offset, len, consume) };
        let from = usize::try_from(offset - start).map_err(|_| too_long())?;
        let bytes = map.get(from..from + len).ok_or_else(too_short)?;
        consume(bytes);
        Ok(())
    }

    /// Returns a window, mapping it if it is not mapped. The lock is not held while anyone looks at it.
    fn window(&self, number: u64) -> io::Result<Arc<Mmap>> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = windows.iter().position(|(n, _)| *n == number) {
            let last = windows.len() - 1;
            windows[at..=last].rotate_left(1);
            return Ok(Arc::clone(&windows[last].1));
        }
        let start = number * STRIDE;
        let map = Arc::new(self.map(start, (self.len - start).min(WINDOW))?);
        if windows.len() >= KEPT_WINDOWS {
            windows.remove(0);
        }
        windows.push((number, Arc::clone(&map)));
        Ok(map)
    }

    #[expect(unsafe_code, reason = "the one mmap door")]
    fn map(&self, start: u64, len: u64) -> io::Result<Mmap> {
        let len = usize::try_from(len).map_err(|_| too_long())?;
        // SAFETY: the map is read-only and private to this module, which hands out slices only after `fstat` has
        // shown that the file still covers them. Another process may change the bytes meanwhile: every user
        // copies out of the slice and checks the copy, as the module's documentation demands, so no invariant of
        // a type ever rests on bytes in the map.
        unsafe { MmapOptions::new().offset(start).len(len).map(&self.file) }
    }
}

/// A file read with `pread`.
#[derive(Debug)]
pub struct PreadFile {
    file: File,
    len: u64,
}

impl PreadFile {
    /// Opens the first `len` bytes of a file. Fails with `UnexpectedEof` when the file is shorter.
    pub fn open(file: File, len: u64) -> io::Result<Self> {
        check_size(&file, len)?;
        Ok(Self { file, len })
    }

    /// Passes a range to `consume`; see [`RangeFile::with_range`]. Allocates as much as the range is long.
    pub fn with_range(&self, offset: u64, len: usize, consume: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        check_range(offset, len, self.len)?;
        pread(&self.file, offset, len, consume)
    }
}

fn pread(file: &File, offset: u64, len: usize, consume: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, offset)?;
    consume(&buffer);
    Ok(())
}

/// Returns the end of a range that lies within `total` bytes.
fn check_range(offset: u64, len: usize, total: u64) -> io::Result<u64> {
    u64::try_from(len)
        .ok()
        .and_then(|len| offset.checked_add(len))
        .filter(|end| *end <= total)
        .ok_or_else(too_short)
}

fn check_size(file: &File, needed: u64) -> io::Result<()> {
    if file.metadata()?.len() < needed { Err(too_short()) } else { Ok(()) }
}

fn too_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the range ends past the end of the file")
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "the range does not fit the address space")
}

/// Returns whether a file lies on a network or user-space file system, as far as `statfs` tells.
#[cfg(target_os = "linux")]
fn is_remote(file: &File) -> bool {
    // The type is 32 bits wide whatever the word that carries it.
    rustix::fs::fstatfs(file).is_ok_and(|fs| {
        REMOTE_FILE_SYSTEMS.iter().any(|magic| u64::from(*magic) == (fs.f_type as u64 & 0xffff_ffff))
    })
}

/// Returns whether a file lies on a network file system: whether the flag `MNT_LOCAL` of statfs(2) is missing.
#[cfg(target_vendor = "apple")]
fn is_remote(file: &File) -> bool {
    const MNT_LOCAL: u32 = 0x1000;
    rustix::fs::fstatfs(file).is_ok_and(|fs| fs.f_flags & MNT_LOCAL == 0)
}

/// Where the system has no way to tell, no file is mapped: a page fault that fails ends the process.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn is_remote(_: &File) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn both(file: &File, len: u64) -> [RangeFile; 2] {
        [true, false].map(|mmap| RangeFile::open(file.try_clone().unwrap(), len, mmap).unwrap())
    }

    #[test]
    fn reads_ranges_and_refuses_those_past_the_end() {
        let file = file_of(b"0123456789");
        for view in both(&file, 8) {
            assert_eq!(view.len(), 8);
            assert_eq!(view.read(2, 3).unwrap(), b"234");
            assert_eq!(view.read(0, 8).unwrap(), b"01234567");
            assert_eq!(view.read(8, 0).unwrap(), b"");
            for (offset, len) in [(8, 1), (0, 9), (9, 0), (u64::MAX, 2), (2, usize::MAX)] {
                let mut called = false;
                let error = view.with_range(offset, len, &mut |_| called = true).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{offset}+{len}");
                assert!(!called);
            }
        }
        for mmap in [true, false] {
            let short = RangeFile::open(file.try_clone().unwrap(), 11, mmap).unwrap_err();
            assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn an_empty_file_has_an_empty_range() {
        for view in both(&file_of(b""), 0) {
            assert_eq!(view.read(0, 0).unwrap(), b"");
            assert!(view.read(0, 1).is_err());
        }
    }

    #[test]
    fn a_file_cut_short_after_opening_is_an_error_not_a_signal() {
        let file = file_of(&vec![7; 100_000]);
        for view in both(&file, 100_000) {
            file.set_len(100_000).unwrap();
            assert_eq!(view.read(90_000, 10_000).unwrap().len(), 10_000);
            file.set_len(4096).unwrap();
            assert_eq!(view.read(90_000, 10_000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(view.read(0, 4096).unwrap().len(), 4096);
        }
    }

    #[test]
    fn large_files_are_mapped_in_few_windows() {
        let file = tempfile::tempfile().unwrap();
        let len = 10 * STRIDE + 12_345;
        file.set_len(len).unwrap();
        let marks: Vec<u64> = (1..=10).map(|n| n * STRIDE - 2).chain([0, len - 4]).collect();
        for mark in &marks {
            file.write_all_at(&u32::try_from(*mark).unwrap().to_le_bytes(), *mark).unwrap();
        }
        let view = MappedFile::open(file, len).unwrap();
        for mark in marks.iter().chain(marks.iter().rev()) {
            let mut seen = Vec::new();
            view.with_range(*mark, 4, &mut |bytes| seen.extend_from_slice(bytes)).unwrap();
            assert_eq!(seen, u32::try_from(*mark).unwrap().to_le_bytes());
            assert!(view.windows.lock().unwrap().len() <= KEPT_WINDOWS);
        }
        let mut lengths = Vec::new();
        view.with_range(5, usize::try_from(3 * STRIDE).unwrap(), &mut |bytes| {
            lengths.push((bytes.len(), bytes[usize::try_from(STRIDE).unwrap() - 7]));
        })
        .unwrap();
        assert_eq!(lengths, [(usize::try_from(3 * STRIDE).unwrap(), (STRIDE - 2).to_le_bytes()[0])]);
    }

    #[test]
    fn many_threads_share_a_view() {
        let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        for view in both(&file_of(&content), 800_000) {
            std::thread::scope(|scope| {
                for thread in 0..4_usize {
                    let (view, content) = (&view, &content);
                    scope.spawn(move || {
                        for step in 0..200_usize {
                            let offset = (thread * 7919 + step * 3331) % 790_000;
                            let wanted = &content[offset..offset + 1000];
                            assert_eq!(view.read(offset as u64, 1000).unwrap(), wanted);
                        }
                    });
                }
            });
        }
    }
}
