//! Error items (blob type 15): what went wrong at one path during a backup.

use super::error::Result;
use super::msgpack::{Reader, Writer};
use super::version::Version;
use crate::base::RawString;

/// What went wrong at one path. The key in the tree is the path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorItem {
    /// The version of the record, 1.0.0.
    pub version: Version,
    /// The path.
    pub path: RawString,
    /// The message.
    pub message: RawString,
}

impl ErrorItem {
    /// Creates an item.
    pub fn new(path: RawString, message: impl Into<RawString>) -> Self {
        Self { version: Version::V1_0_0, path, message: message.into() }
    }

    /// Encodes the canonical serialization.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40 + self.path.len() + self.message.len());
        Writer::new(&mut out).map(|m| {
            m.key("version").u32(self.version.0);
            m.key("name").str(&self.path);
            m.key("error").str(&self.message);
        });
        out
    }

    /// Decodes a serialization.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut item = Self { version: Version::NONE, path: RawString::new(), message: RawString::new() };
        let mut r = Reader::new("error item", bytes);
        r.map(|key, r| {
            match key {
                b"version" => item.version = r.version()?,
                b"name" => item.path = r.raw()?,
                b"error" => item.message = r.raw()?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        r.finish()?;
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_round_trip() {
        let item = ErrorItem::new("/a".into(), "boom");
        assert_eq!(ErrorItem::decode(&item.encode()).unwrap(), item);
    }
}
