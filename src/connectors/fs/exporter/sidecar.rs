//! A home for the metadata of S3 objects where extended attributes have none.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{Mode, OFlags, openat};
use serde_json::{Map, Value};

use crate::connector::Metadata;

/// The name of the file at the root of a restore.
pub(super) const NAME: &str = crate::connectors::fs::sys::SIDECAR;

/// The file, made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Sidecar {
    file: Mutex<Option<File>>,
}

impl Sidecar {
    /// Appends a line: what belongs to one path. A later line about a path replaces an earlier one.
    pub(super) fn append(&self, root: impl AsFd, path: &[u8], metadata: &[&Metadata]) -> io::Result<()> {
        let mut line = serde_json::to_vec(&line_of(path, metadata))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match file.take() {
            Some(open) => open,
            None => open_file(root)?,
        };
        file.insert(open).write_all(&line)
    }
}

fn open_file(root: impl AsFd) -> io::Result<File> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let file = File::from(openat(root, NAME, flags, Mode::from_raw_mode(0o600))?);
    let metadata = file.metadata()?;
    // A file with another name as well may be anybody's.
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{NAME} is not a file of this program"),
        ));
    }
    Ok(file)
}

fn line_of(path: &[u8], metadata: &[&Metadata]) -> Value {
    let mut line = Map::new();
    insert(&mut line, "path", "path_base64", path);
    let items = metadata.iter().map(|metadata| {
        let mut item = Map::new();
        insert(&mut item, "key", "key_base64", metadata.key.as_bytes());
        insert(&mut item, "text", "base64", &metadata.value);
        Value::Object(item)
    });
    line.insert("metadata".into(), items.collect());
    Value::Object(line)
}

fn insert(object: &mut Map<String, Value>, text: &str, encoded: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(value) => object.insert(text.into(), value.into()),
        Err(_) => object.insert(encoded.into(), STANDARD.encode(bytes).into()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_whatever_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let sidecar = Sidecar::default();
        let metadata = |key: &str, value: &[u8]| Metadata { key: key.into(), value: value.to_vec() };
        sidecar
            .append(&root, b"a/\"b\"", &[&metadata("s3.key", b"a/\n"), &metadata("s3.raw", b"\xff")])
            .unwrap();
        sidecar.append(&root, b"\xfe", &[]).unwrap();
        let text = std::fs::read_to_string(dir.path().join(NAME)).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["path"], "a/\"b\"");
        assert_eq!(lines[0]["metadata"][0], serde_json::json!({"key": "s3.key", "text": "a/\n"}));
        assert_eq!(lines[0]["metadata"][1], serde_json::json!({"key": "s3.raw", "base64": "/w=="}));
        assert_eq!(lines[1]["path_base64"], "/g==");
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(NAME)).unwrap();
        let root = File::open(dir.path()).unwrap();
        assert!(Sidecar::default().append(&root, b"a", &[]).is_err());
        assert_eq!(elsewhere.as_file().metadata().unwrap().len(), 0);
    }
}
