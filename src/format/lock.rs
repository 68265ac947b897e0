//! Locks: the payload of the lock resource.

use super::error::Result;
use super::msgpack::{Reader, Writer};
use super::version::Version;
use crate::base::{RawString, Timestamp};

/// A lock on a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lock {
    /// The version of the record, 1.0.0.
    pub version: Version,
    /// When it was written or refreshed, by its owner's clock.
    pub timestamp: Timestamp,
    /// The owner's host, for people.
    pub hostname: RawString,
    /// Whether nobody else may hold a lock.
    pub exclusive: bool,
}

impl Lock {
    /// Encodes the payload, before compression and encryption.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.hostname.len());
        Writer::new(&mut out).map(|m| {
            m.key("version").u32(self.version.0);
            m.key("timestamp").time(self.timestamp);
            m.key("hostname").str(&self.hostname);
            m.key("exclusive").bool(self.exclusive);
        });
        out
    }

    /// Decodes a payload.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut lock = Self {
            version: Version::NONE,
            timestamp: Timestamp::ZERO,
            hostname: RawString::new(),
            exclusive: false,
        };
        let mut r = Reader::new("lock", bytes);
        r.map(|key, r| {
            match key {
                b"version" => lock.version = r.version()?,
                b"timestamp" => lock.timestamp = r.time()?,
                b"hostname" => lock.hostname = r.raw()?,
                b"exclusive" => lock.exclusive = r.bool()?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        r.finish()?;
        Ok(lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_round_trip() {
        let lock = Lock {
            version: Version::V1_0_0,
            timestamp: Timestamp { secs: 1, nanos: 2 },
            hostname: "h".into(),
            exclusive: true,
        };
        assert_eq!(Lock::decode(&lock.encode()).unwrap(), lock);
    }
}
