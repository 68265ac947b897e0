//! One file of unknown length from standard input.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::{Cancel, RawString, Timestamp, sys};
use crate::connector::{
    Change, Content, ContentInfo, Error, ErrorKind, Importer, Record, Result, SourceInfo, Work, stream_name,
};
use crate::connectors::pipe::Pipe;
use crate::format::entry::{Entry, FileInfo, Mode};
use crate::format::path::{check_name, name};

/// What the file is called when nobody says.
const NAME: &str = "stdin";
/// What is read in errors.
const TARGET: &str = "standard input";

/// Standard input as a file of a name.
#[derive(Debug)]
pub struct StdinImporter {
    path: RawString,
    begun: Timestamp,
    taken: AtomicBool,
    cancel: Cancel,
}

impl StdinImporter {
    /// Takes standard input as a file of this name, which may hold folders; `stdin` where it is empty. Fails where
    /// standard input is a terminal, or where the name leads elsewhere.
    pub fn open(name: &Path, cancel: Cancel) -> Result<Self> {
        let path = path_of(name)?;
        Pipe::assert_none_types()?;
        Ok(Self { path, begun: Timestamp::now(), taken: AtomicBool::new(false), cancel })
    }
}

/// Makes a name an absolute path of the snapshot's tree.
fn path_of(name: &Path) -> Result<RawString> {
    let bytes = name.as_os_str().as_encoded_bytes();
    let bytes = if bytes.is_empty() { NAME.as_bytes() } else { bytes };
    let relative = bytes.strip_prefix(b"/").unwrap_or(bytes);
    for part in relative.split(|byte| *byte == b'/') {
        check_name(part).map_err(|error| {
            Error::new(ErrorKind::Invalid, "name", TARGET)
                .detail(format!("\"{}\" is no name of a file", bytes.escape_ascii()))
                .because(error)
        })?;
    }
    Ok([b"/", relative].concat().into())
}

impl Importer for StdinImporter {
    fn source(&self) -> SourceInfo {
        // The root is `/` whatever the name is: the name is what makes this source another one than the next.
        let host = String::from_utf8_lossy(&sys::host_name()).into_owned();
        let origin = format!("{host}:{}", stream_name(&self.path));
        SourceInfo { kind: "stdin".into(), origin, root: "/".into() }
    }

    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        let mut info = FileInfo::new(RawString::from(name(&self.path)), Mode::regular(0o600));
        (info.modified, info.links) = (self.begun, 1);
        (info.uid, info.gid) = sys::process_owner();
        // Breaking off is the receiver's wish, and there is nothing more.
        let _ = emit(Record {
            path: self.path.clone(),
            info: Ok(info),
            symlink_target: None,
            metadata: Vec::new(),
            locator: Vec::new(),
        });
        Ok(())
    }

    fn compare(&self, _record: &Record, _previous: &Entry, _begun: Timestamp) -> Change {
        Change::Content
    }

    fn open(&self, _record: &Record) -> Result<Box<dyn Content>> {
        if self.taken.swap(true, Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Io, "read", TARGET).detail("it can be read only once"));
        }
        let pipe = Pipe::open(&self.cancel).map_err(|error| Error::io("read", TARGET, error))?;
        Ok(Box::new(Stream { pipe, read: 0 }))
    }

    fn work(&self) -> Work {
        Work::Local
    }

    fn is_all_or_nothing(&self) -> bool {
        true
    }
}

/// Standard input while it is read.
#[derive(Debug)]
struct Stream {
    pipe: Pipe,
    read: u64,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.pipe.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(Error::io("read", TARGET, error)),
        })?;
        self.read += read as u64;
        Ok(read)
    }
}

impl Content for Stream {
    fn size_hint(&self) -> Option<u64> {
        None
    }

    fn finish(self: Box<Self>) -> Result<ContentInfo> {
        if self.read == 0 {
            return Err(Error::new(ErrorKind::Changed, "read", TARGET)
                .detail("it was empty; did the program fail that should write to it?"));
        }
        Ok(ContentInfo::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_tree() {
        let path = |name: &str| path_of(Path::new(name)).map(|path| path.lossy().into_owned());
        assert_eq!(path("").unwrap(), "/stdin");
        assert_eq!(path("dump.sql").unwrap(), "/dump.sql");
        assert_eq!(path("/db/dump.sql").unwrap(), "/db/dump.sql");
        for wrong in ["..", "a/../b", "a/", "/", "a//b", "."] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
