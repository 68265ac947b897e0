//! Reading back what a restore wrote beside the files: the metadata of S3 objects that found no room in attributes.
//!
//! Of a sidecar only hashes of paths and offsets are held, 16 bytes for each line; the line itself is read when its
//! file is met.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{Mode, OFlags, openat};
use serde_json::{Map, Value};

use crate::base::RawString;
use crate::connector::Metadata;
use crate::connectors::fs::sys;

/// The longest line read, in bytes: far more than an object can have.
const LONGEST_LINE: u64 = 1 << 20;
/// How much of a line is read at a time.
const STEP: usize = 4096;

/// A sidecar and where it says what.
#[derive(Debug)]
pub(super) struct Sidecar {
    file: File,
    /// Hash of the path and offset of the line, sorted.
    lines: Vec<(u64, u64)>,
    /// The first line that makes no sense.
    pub(super) bad_line: Option<u64>,
}

impl Sidecar {
    /// Opens the sidecar in a folder. `None` where there is none, or a file that only has its name.
    pub(super) fn open(folder: impl AsFd) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(folder, sys::SIDECAR, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut lines = Vec::new();
        let (mut number, mut offset, mut bad_line) = (0_u64, 0_u64, None);
        let mut reader = BufReader::with_capacity(64 << 10, &file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            number += 1;
            match parse(&line) {
                Some((path, _)) => lines.push((hash_of(&path), offset)),
                None if number == 1 => return Ok(None),
                None => bad_line = bad_line.or(Some(number)),
            }
            offset += length as u64;
        }
        drop(reader);
        lines.sort_unstable();
        Ok((number > 0).then_some(Self { file, lines, bad_line }))
    }

    /// Returns what the last line about a path says, the path being relative to the sidecar's folder.
    pub(super) fn find(&self, path: &[u8]) -> io::Result<Option<Vec<Metadata>>> {
        let hash = hash_of(path);
        let end = self.lines.partition_point(|line| line.0 <= hash);
        for (_, offset) in self.lines[..end].iter().rev().take_while(|line| line.0 == hash) {
            if let Some((found, metadata)) = parse(&self.line(*offset)?)
                && found == path
            {
                return Ok(Some(metadata));
            }
        }
        Ok(None)
    }

    fn line(&self, offset: u64) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while (line.len() as u64) < LONGEST_LINE {
            let at = line.len();
            line.resize(at + STEP, 0);
            let count = self.file.read_at(&mut line[at..], offset + at as u64)?;
            line.truncate(at + count);
            if count == 0 {
                break;
            }
            if let Some(end) = line[at..].iter().position(|&byte| byte == b'\n') {
                line.truncate(at + end);
                break;
            }
        }
        Ok(line)
    }
}

fn hash_of(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// Reads a line: a path and its metadata; `None` where it is none of ours. Only metadata of S3 objects counts.
fn parse(line: &[u8]) -> Option<(Vec<u8>, Vec<Metadata>)> {
    let Value::Object(line) = serde_json::from_slice(line).ok()? else { return None };
    let path = bytes(&line, "path", "path_base64")?;
    let items = line.get("metadata")?.as_array()?;
    let mut metadata = Vec::with_capacity(items.len());
    for item in items {
        let item = item.as_object()?;
        let key = bytes(item, "key", "key_base64")?;
        let value = bytes(item, "text", "base64")?;
        if key.starts_with(b"s3.") {
            metadata.push(Metadata { key: RawString::from(key), value });
        }
    }
    Some((path, metadata))
}

fn bytes(object: &Map<String, Value>, text: &str, encoded: &str) -> Option<Vec<u8>> {
    match (object.get(text), object.get(encoded)) {
        (Some(Value::String(text)), None) => Some(text.clone().into_bytes()),
        (None, Some(Value::String(encoded))) => STANDARD.decode(encoded).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(text: &[u8]) -> Option<Sidecar> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(sys::SIDECAR), text).unwrap();
        Sidecar::open(File::open(dir.path()).unwrap()).unwrap()
    }

    #[test]
    fn the_last_line_about_a_path_counts() {
        let long = "x".repeat(3 * STEP);
        let text = format!(
            "{{\"path\":\"a\",\"metadata\":[{{\"key\":\"s3.x\",\"text\":\"old\"}}]}}\n\
             {{\"path_base64\":\"/w==\",\"metadata\":[{{\"key\":\"s3.x\",\"base64\":\"/w==\"}},{{\"key\":\"y\",\"text\":\"\"}}]}}\n\
             no line of ours\n\
             {{\"path\":\"a\",\"metadata\":[{{\"key\":\"s3.x\",\"text\":\"{long}\"}}]}}\n"
        );
        let sidecar = sidecar(text.as_bytes()).unwrap();
        assert_eq!(sidecar.bad_line, Some(3));
        let find = |path: &[u8]| sidecar.find(path).unwrap();
        assert_eq!(find(b"a").unwrap()[0].value, long.as_bytes());
        let odd = find(b"\xff").unwrap();
        assert_eq!((odd.len(), odd[0].value.as_slice()), (1, b"\xff".as_slice()));
        assert_eq!(find(b"b"), None);
    }

    #[test]
    fn a_file_that_only_has_the_name_is_a_file() {
        assert!(sidecar(b"").is_none());
        assert!(sidecar(b"hello\n{\"path\":\"a\",\"metadata\":[]}\n").is_none());
        assert!(sidecar(b"{\"path\":\"a\",\"metadata\":[]}").is_some(), "the last line may lack its end");
        let dir = tempfile::tempdir().unwrap();
        assert!(Sidecar::open(File::open(dir.path()).unwrap()).unwrap().is_none());
    }
}
