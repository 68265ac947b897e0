//! The content of one file, read in order.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::connector::{Content, ContentInfo, Error, ErrorKind, Result};

/// From this length on, the kernel is told that a file is read in order.
const ADVISED: u64 = 1 << 20;

/// What tells two versions of a file apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// A regular file, read to where it really ends; holes are zeros that cost no reading.
#[derive(Debug)]
pub(super) struct FileContent {
    file: File,
    path: String,
    before: Version,
    position: u64,
    /// The end of the part that `position` lies in, and whether that part is a hole. `None`: not a sparse file.
    part: Option<(u64, bool)>,
}

impl FileContent {
    /// Takes an opened file. Fails with `Changed` when it is not a regular one.
    pub(super) fn open(file: File, path: String) -> Result<Self> {
        let metadata = file.metadata().map_err(|error| Error::io("read", &*path, error))?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::Changed, "open", path).detail("it is no longer a regular file"));
        }
        let before = Version::of(&file).map_err(|error| Error::io("read", &*path, error))?;
        if before.size >= ADVISED {
            advise(&file);
        }
        let sparse = metadata.blocks().saturating_mul(512) < before.size;
        Ok(Self { file, path, before, position: 0, part: sparse.then_some((0, false)) })
    }

    /// Returns the part of a sparse file that `position` lies in: its end, and whether it is a hole.
    fn find_part(&self) -> Result<(u64, bool), Errno> {
        let data = match seek(&self.file, SeekFrom::Data(self.position)) {
            Err(Errno::NXIO) => return Ok((self.before.size, true)),
            other => other?,
        };
        if data > self.position {
            return Ok((data.min(self.before.size), true));
        }
        Ok((seek(&self.file, SeekFrom::Hole(self.position))?, false))
    }

    fn read_part(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((mut end, mut hole)) = self.part.filter(|_| self.position < self.before.size) else {
            return self.file.read_at(buffer, self.position);
        };
        if self.position >= end {
            match self.find_part() {
                Ok(part) if part.0 > self.position => (end, hole) = part,
                // No such question here, or an answer that makes no sense: read everything.
                _ => {
                    self.part = None;
                    return self.file.read_at(buffer, self.position);
                }
            }
            self.part = Some((end, hole));
        }
        let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let buffer = &mut buffer[..length];
        if !hole {
            return self.file.read_at(buffer, self.position);
        }
        buffer.fill(0);
        Ok(buffer.len())
    }
}

/// Says that a file will be read from front to back. Advice only: a file system that has none reads all the same.
#[cfg(target_os = "linux")]
fn advise(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
}

/// Reading ahead is the system's own business here.
#[cfg(not(target_os = "linux"))]
fn advise(_: &File) {}

impl Read for FileContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.read_part(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Content for FileContent {
    /// Returns the length; nothing for the files of `/proc`, which claim to be empty.
    fn size_hint(&self) -> Option<u64> {
        Some(self.before.size).filter(|size| *size > 0)
    }

    fn finish(self: Box<Self>) -> Result<ContentInfo> {
        let after = Version::of(&self.file).map_err(|error| Error::io("read", &*self.path, error))?;
        if after == self.before {
            return Ok(ContentInfo::default());
        }
        let what = if after.size == self.before.size { "was written to" } else { "changed its size" };
        Err(Error::new(ErrorKind::Changed, "read", self.path).detail(format!("it {what} while it was read")))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn content(file: &File) -> FileContent {
        FileContent::open(file.try_clone().unwrap(), "/x".into()).unwrap()
    }

    fn read_all(content: &mut FileContent, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut buffer = vec![0xaa; step];
        loop {
            match content.read(&mut buffer).unwrap() {
                0 => return out,
                count => out.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[test]
    fn holes_are_zeros() {
        let file = tempfile::tempfile().unwrap();
        let length = 3_000_001;
        let mut wanted = vec![0; length];
        file.set_len(length as u64).unwrap();
        for (at, len) in [(0, 10), (700_000, 5000), (2_000_000, 1), (2_200_000, 70_000)] {
            file.write_all_at(&vec![7; len], at as u64).unwrap();
            wanted[at..at + len].fill(7);
        }
        for step in [4096, 1_000_000, 10_000_000] {
            let mut content = content(&file);
            assert!(content.part.is_some(), "the test's disk has holes");
            assert!(read_all(&mut content, step) == wanted, "{step}");
            Box::new(content).finish().unwrap();
        }
        file.set_len(0).unwrap();
        file.set_len(1_000_000).unwrap();
        assert!(read_all(&mut content(&file), 65_536) == vec![0; 1_000_000]);
    }

    #[test]
    fn a_file_that_grows_or_is_rewritten_is_not_one_version() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 10_000]).unwrap();
        let mut growing = content(&file);
        let mut first = [0; 100];
        growing.read_exact(&mut first).unwrap();
        file.write_all(b"more").unwrap();
        assert_eq!(read_all(&mut growing, 4096).len(), 10_000 - 100 + 4);
        assert_eq!(Box::new(growing).finish().unwrap_err().kind, ErrorKind::Changed);
        let rewritten = content(&file);
        std::thread::sleep(std::time::Duration::from_millis(20));
        file.write_all_at(b"2", 0).unwrap();
        assert_eq!(Box::new(rewritten).finish().unwrap_err().kind, ErrorKind::Changed);
        let mut quiet = content(&file);
        read_all(&mut quiet, 4096);
        assert_eq!(Box::new(quiet).finish().unwrap(), ContentInfo::default());
    }

    #[test]
    fn files_that_claim_to_be_empty_are_read_to_their_end() {
        let file = File::open("/proc/self/status").unwrap();
        let mut content = content(&file);
        assert_eq!(content.size_hint(), None);
        assert!(read_all(&mut content, 100).starts_with(b"Name:"));
        Box::new(content).finish().unwrap();
        let null = FileContent::open(File::open("/dev/null").unwrap(), "/dev/null".into());
        assert_eq!(null.unwrap_err().kind, ErrorKind::Changed);
    }
}
