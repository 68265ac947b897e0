//! Extended attributes (blob type 18) and the keys of their tree.

use super::error::Result;
use super::msgpack::{Reader, Writer};
use super::version::Version;
use crate::base::{Id, RawString};

/// The kinds of attributes; other numbers occur nowhere yet and are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct XattrKind(pub u8);

impl XattrKind {
    /// An extended attribute.
    pub const EXTENDED: Self = Self(0);
    /// An alternate data stream.
    pub const STREAM: Self = Self(1);
    /// A custom attribute (kloset 1.1.4 and later).
    pub const CUSTOM: Self = Self(2);

    fn separator(self) -> u8 {
        match self {
            Self::EXTENDED => b':',
            Self::STREAM => b'@',
            Self::CUSTOM => b'%',
            _ => b'#',
        }
    }
}

/// One extended attribute of one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XattrItem {
    /// The version of the record, 1.0.0.
    pub version: Version,
    /// The path of the file.
    pub path: RawString,
    /// The full name, `user.colour`.
    pub name: RawString,
    /// The length of the value in bytes.
    pub size: i64,
    /// What kind of attribute it is.
    pub kind: XattrKind,
    /// The object holding the value.
    pub object: Id,
}

impl XattrItem {
    /// Creates an extended attribute.
    pub fn new(path: RawString, name: RawString, size: u64, object: Id) -> Self {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Self { version: Version::V1_0_0, path, name, size, kind: XattrKind::EXTENDED, object }
    }

    /// Returns the key of the item in the tree: path, name and a separator, nothing between them.
    pub fn key(&self) -> RawString {
        tree_key(&self.path, &self.name, self.kind)
    }

    /// Encodes the canonical serialization.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.path.len() + self.name.len());
        Writer::new(&mut out).map(|m| {
            m.key("version").u32(self.version.0);
            m.key("path").str(&self.path);
            m.key("name").str(&self.name);
            m.key("size").i64(self.size);
            m.key("type").u8(self.kind.0);
            m.key("object").id(&self.object);
        });
        out
    }

    /// Decodes a serialization.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut item = Self::new(RawString::new(), RawString::new(), 0, Id::ZERO);
        item.version = Version::NONE;
        let mut r = Reader::new("extended attribute", bytes);
        r.map(|key, r| {
            match key {
                b"version" => item.version = r.version()?,
                b"path" => item.path = r.raw()?,
                b"name" => item.name = r.raw()?,
                b"size" => item.size = r.i64()?,
                b"type" => item.kind = XattrKind(r.u8()?),
                b"object" => item.object = r.id()?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        r.finish()?;
        Ok(item)
    }
}

/// Returns the key of an attribute in the tree, which is in path order.
pub fn tree_key(path: &[u8], name: &[u8], kind: XattrKind) -> RawString {
    let mut key = Vec::with_capacity(path.len() + name.len() + 1);
    key.extend_from_slice(path);
    key.extend_from_slice(name);
    key.push(kind.separator());
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_round_trip_and_have_keys() {
        let mut item = XattrItem::new("/a".into(), "user.a".into(), 3, Id([1; 32]));
        for (kind, key) in [(0, "/auser.a:"), (1, "/auser.a@"), (2, "/auser.a%"), (9, "/auser.a#")] {
            item.kind = XattrKind(kind);
            assert_eq!(item.key(), key);
            assert_eq!(XattrItem::decode(&item.encode()).unwrap(), item);
        }
    }
}
