//! A listing as the server writes it: a JSON array of ids, or of objects that tell more.

use std::fmt;
use std::io::{self, Read};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};

use crate::base::Id;

/// One resource as listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) id: Id,
    /// The length in bytes, where the server tells.
    pub(super) size: Option<u64>,
    pub(super) modified: Option<SystemTime>,
    pub(super) tag: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Id(String),
    Details { id: String, size: Option<u64>, modified: Option<String>, tag: Option<String> },
}

impl Item {
    fn row(self) -> Option<Row> {
        Some(match self {
            Self::Id(id) => Row { id: Id::from_hex(id)?, size: None, modified: None, tag: None },
            Self::Details { id, size, modified, tag } => Row {
                id: Id::from_hex(id)?,
                size,
                modified: modified.and_then(|text| text.parse::<Timestamp>().ok()).map(SystemTime::from),
                tag: tag.and_then(|text| u64::from_str_radix(&text, 16).ok()),
            },
        })
    }
}

struct Rows<'a>(&'a mut dyn FnMut(Row));

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of ids")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Item>()? {
            // What is not an id is somebody else's.
            if let Some(row) = item.row() {
                (self.0)(row);
            }
        }
        Ok(())
    }

    // An empty list of some servers.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The longest piece of a listing without a comma, in bytes: what is parsed at once is never longer than a few of them.
const LONGEST: usize = 4096;

/// Ends a text in which a piece is longer than any of a listing.
struct Pieces<R> {
    inner: R,
    /// The bytes since the last comma.
    length: usize,
}

impl<R: Read> Read for Pieces<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        for byte in &buffer[..count] {
            self.length = if *byte == b',' { 0 } else { self.length + 1 };
            if self.length > LONGEST {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "an item of it is longer than any id",
                ));
            }
        }
        Ok(count)
    }
}

/// Passes on what a listing holds, without holding it.
pub(super) fn parse(reader: impl Read, each: &mut dyn FnMut(Row)) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_reader(Pieces { inner: reader, length: 0 });
    serde::Deserializer::deserialize_any(&mut deserializer, Rows(each))?;
    deserializer.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Option<Vec<Row>> {
        let mut rows = Vec::new();
        parse(text.as_bytes(), &mut |row| rows.push(row)).ok().map(|()| rows)
    }

    #[test]
    fn both_forms_are_understood() {
        let (a, b) = ("0a".repeat(32), "0b".repeat(32));
        let found = rows(&format!(
            "[\"{a}\", {{\"id\":\"{b}\",\"size\":5,\"modified\":\"2026-01-01T00:00:00.5Z\",\"tag\":\"ff\",\"new\":1}}, \"x\"]"
        ))
        .unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].id == Id([10; 32]) && found[0].size.is_none());
        assert_eq!((found[1].size, found[1].tag), (Some(5), Some(255)));
        assert!(found[1].modified.is_some());
        assert_eq!(rows("null\n").unwrap().len(), 0);
        assert_eq!(rows("[]").unwrap().len(), 0);
    }

    #[test]
    fn what_is_cut_or_strange_is_refused() {
        let a = "0a".repeat(32);
        for text in
            ["", "[", &format!("[\"{a}\""), &format!("[\"{a}\","), "{}", "[1]", "[[]]", "[]]", "<html>"]
        {
            assert!(rows(text).is_none(), "{text}");
        }
        assert!(rows(&"[".repeat(100_000)).is_none());
        assert_eq!(rows(&format!("[\"{}\"]", "x".repeat(LONGEST - 4))).unwrap().len(), 0);
        assert!(rows(&format!("[\"{}\"]", "x".repeat(LONGEST))).is_none());
    }
}
