//! The wrapper of CONFIG, locks, states and packfiles: header, payload, trailer.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `_KLOSET_` |
//! | 8 | 4 | resource type, u32 |
//! | 12 | 4 | version, u32 |
//! | 16 | n | payload |
//! | 16 + n | 32 | MAC of everything before |

use super::error::{Error, Result};
use super::version::Version;
use crate::base::Id;

const MAGIC: [u8; 8] = *b"_KLOSET_";
/// What betas before 1.0 wrote; read, never written.
const OLD_MAGIC: [u8; 8] = *b"_PLAKAR_";

const MAGIC_OFFSET: usize = 0;
const KIND_OFFSET: usize = MAGIC_OFFSET + MAGIC.len();
const VERSION_OFFSET: usize = KIND_OFFSET + 4;

/// The length of the header in bytes; blobs of a packfile are counted from here.
pub const HEADER_LEN: usize = VERSION_OFFSET + 4;
/// The length of the trailing MAC in bytes.
pub const TRAILER_LEN: usize = Id::LEN;

/// The kinds of wrapped resources.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Resource {
    /// The store's CONFIG.
    Config = 1,
    /// A lock.
    Lock = 2,
    /// A state.
    State = 3,
    /// A packfile.
    Packfile = 4,
}

impl Resource {
    /// Returns the number on disk.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the name for people and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "CONFIG",
            Self::Lock => "lock",
            Self::State => "state",
            Self::Packfile => "packfile",
        }
    }

    /// Returns the newest version that is read, which for CONFIG is also the oldest.
    pub fn version(self) -> Version {
        match self {
            Self::State => Version::V1_1_0,
            Self::Config | Self::Lock | Self::Packfile => Version::V1_0_0,
        }
    }
}

/// The parts of a wrapped resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts<'a> {
    /// The version in the header; that of a state decides how its stream is parsed.
    pub version: Version,
    /// What is wrapped.
    pub payload: &'a [u8],
    /// Header and payload: what the trailer authenticates.
    pub signed: &'a [u8],
    /// The MAC at the end; not verified yet.
    pub trailer: Id,
}

/// Encodes a header.
pub fn header(resource: Resource, version: Version) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[MAGIC_OFFSET..KIND_OFFSET].copy_from_slice(&MAGIC);
    out[KIND_OFFSET..VERSION_OFFSET].copy_from_slice(&u32::from(resource.number()).to_le_bytes());
    out[VERSION_OFFSET..].copy_from_slice(&version.0.to_le_bytes());
    out
}

/// Decodes a header, checks that it announces `expected` in a version that is read, and returns the version.
pub fn parse_header(bytes: &[u8; HEADER_LEN], expected: Resource) -> Result<Version> {
    let what = expected.name();
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    if !bytes.starts_with(&MAGIC) && !bytes.starts_with(&OLD_MAGIC) {
        return Err(Error::malformed(what, "it does not begin with _KLOSET_"));
    }
    let kind = word(KIND_OFFSET);
    if kind != u32::from(expected.number()) {
        return Err(Error::malformed(what, format!("its header says it is a resource of type {kind}")));
    }
    let found = Version(word(VERSION_OFFSET));
    let readable = match expected {
        Resource::Config => found == expected.version(),
        _ => found.readable_by(expected.version()),
    };
    if readable { Ok(found) } else { Err(Error::Version { what, found }) }
}

/// Splits a whole resource into its parts. The trailer is the caller's to verify.
pub fn split(bytes: &[u8], expected: Resource) -> Result<Parts<'_>> {
    let short = || Error::truncated(expected.name(), HEADER_LEN + TRAILER_LEN, bytes.len());
    let (signed, trailer) = bytes.split_last_chunk::<TRAILER_LEN>().ok_or_else(short)?;
    let (head, payload) = signed.split_first_chunk::<HEADER_LEN>().ok_or_else(short)?;
    let version = parse_header(head, expected)?;
    Ok(Parts { version, payload, signed, trailer: Id(*trailer) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(version: Version) -> Vec<u8> {
        let mut bytes = header(Resource::State, version).to_vec();
        bytes.extend_from_slice(b"payload");
        bytes.extend_from_slice(&[7; 32]);
        bytes
    }

    #[test]
    fn split_takes_apart_what_was_put_together() {
        let bytes = resource(Version::V1_1_0);
        assert_eq!(bytes[..16], *b"_KLOSET_\x03\0\0\0\0\x01\x01\0");
        let parts = split(&bytes, Resource::State).unwrap();
        assert_eq!(parts.version, Version::V1_1_0);
        assert_eq!(parts.payload, b"payload");
        assert_eq!(parts.signed.len(), 23);
        assert_eq!(parts.trailer, Id([7; 32]));
    }

    #[test]
    fn the_old_magic_is_read() {
        let mut bytes = resource(Version::V1_0_0);
        bytes[..8].copy_from_slice(b"_PLAKAR_");
        assert!(split(&bytes, Resource::State).is_ok());
        bytes[0] = b'-';
        assert!(matches!(split(&bytes, Resource::State), Err(Error::Malformed { .. })));
    }

    #[test]
    fn short_foreign_and_newer_resources_are_refused() {
        let bytes = resource(Version(0x0001_0200));
        assert!(matches!(
            split(&bytes, Resource::State),
            Err(Error::Version { found: Version(0x0001_0200), .. })
        ));
        assert!(matches!(split(&bytes, Resource::Lock), Err(Error::Malformed { .. })));
        assert!(matches!(split(&bytes[..47], Resource::State), Err(Error::Truncated { .. })));
        let mut config = header(Resource::Config, Version(0x0000_0900)).to_vec();
        config.extend_from_slice(&[0; 32]);
        assert!(matches!(split(&config, Resource::Config), Err(Error::Version { .. })));
    }
}
