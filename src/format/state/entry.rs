//! Entries and metadata.

use crate::base::Id;
use crate::format::blob::BlobType;
use crate::format::error::{Error, Result};
use crate::format::packfile;
use crate::format::version::Version;
use crate::format::wrapper::Resource;

pub(super) const WHAT: &str = "state";

pub(super) const METADATA: u8 = 1;
pub(super) const LOCATION: u8 = 2;
pub(super) const COLOURED: u8 = 3;
pub(super) const PACKFILE: u8 = 4;
pub(super) const DELETE: u8 = 6;
pub(super) const FOLDING: u8 = 200;
pub(super) const FOLDED: u8 = 201;

pub(super) const LOCATION_LEN: usize = 85;
pub(super) const COLOURED_LEN: usize = 41;
pub(super) const PACKFILE_LEN: usize = 72;
pub(super) const DELETE_LEN: usize = 66;
pub(super) const FOLDING_LEN: usize = 32;
pub(super) const FOLDED_LEN: usize = 49;
pub(super) const METADATA_LEN: usize = 28;

/// Where a blob lies: kind 2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Location {
    /// The type of the blob.
    pub kind: BlobType,
    /// The version of that type.
    pub version: Version,
    /// The id of the blob.
    pub id: Id,
    /// The packfile it lies in. In an archive this is not the packfile's name.
    pub packfile: Id,
    /// Where the encoded blob begins in the blob area.
    pub offset: u64,
    /// Its encoded length in bytes.
    pub length: u32,
    /// Always 0.
    pub flags: u32,
}

impl Location {
    /// Checks that the blob lies within a blob area of `area` bytes.
    pub fn check(&self, area: u64) -> Result<()> {
        packfile::check_blob(self.kind, self.id, self.offset, self.length, area)
    }
}

/// A removed snapshot, or a packfile that may be removed: kind 3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Coloured {
    /// The type of the resource: 5 for snapshots, 4 for packfiles.
    pub kind: u8,
    /// Its id.
    pub id: Id,
    /// When it was coloured, Unix nanoseconds.
    pub when: i64,
}

impl Coloured {
    /// Colours a snapshot: removes it.
    pub fn snapshot(id: Id, when: i64) -> Self {
        Self { kind: BlobType::SNAPSHOT.0, id, when }
    }

    /// Colours a packfile: announces that it may be removed.
    pub fn packfile(id: Id, when: i64) -> Self {
        Self { kind: Resource::Packfile.number(), id, when }
    }
}

/// A packfile that exists: kind 4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PackEntry {
    /// The packfile.
    pub packfile: Id,
    /// The state that introduced it.
    pub state: Id,
    /// When, Unix nanoseconds.
    pub when: i64,
}

/// Removes what another state inserted: kind 6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Delete {
    /// The kind of the entry to remove: 2, 3 or 4.
    pub kind: u8,
    /// The type of the blob or resource; 0 for kind 4.
    pub resource: u8,
    /// The id of the blob or resource; zero for kind 4.
    pub id: Id,
    /// The packfile, for kinds 2 and 4; zero for kind 3.
    pub packfile: Id,
}

impl Delete {
    /// Forgets one location of a blob.
    pub fn location(kind: BlobType, id: Id, packfile: Id) -> Self {
        Self { kind: LOCATION, resource: kind.0, id, packfile }
    }

    /// Takes a snapshot's colour away: the snapshot is back.
    pub fn snapshot_colour(id: Id) -> Self {
        Self::colour(BlobType::SNAPSHOT.0, id)
    }

    /// Takes a packfile's colour away.
    pub fn packfile_colour(id: Id) -> Self {
        Self::colour(Resource::Packfile.number(), id)
    }

    /// Takes the colour of a resource of some type away.
    pub fn colour(resource: u8, id: Id) -> Self {
        Self { kind: COLOURED, resource, id, packfile: Id::ZERO }
    }

    /// Forgets a packfile and all its locations.
    pub fn packfile(packfile: Id) -> Self {
        Self { kind: PACKFILE, resource: 0, id: Id::ZERO, packfile }
    }

    /// Returns whether this takes a colour away.
    pub fn is_colour(&self) -> bool {
        self.kind == COLOURED
    }

    /// Returns whether this forgets one location.
    pub fn is_location(&self) -> bool {
        self.kind == LOCATION
    }

    /// Returns whether this forgets a packfile.
    pub fn is_packfile(&self) -> bool {
        self.kind == PACKFILE
    }
}

/// The state that holds this took the place of others: kind 200, which upstream skips (FORMAT.md, "Folding").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Folding {
    /// The state's own id.
    pub id: Id,
}

/// A state whose place another took: kind 201.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Folded {
    /// The state.
    pub id: Id,
    /// The time in its metadata, Unix nanoseconds.
    pub timestamp: i64,
    /// When its place was taken first, Unix nanoseconds: a grace period later it may be deleted.
    pub since: i64,
    /// Whether it brought a snapshot; those of checkpoints bring none.
    pub with_snapshot: bool,
}

/// One entry of a state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StateEntry {
    /// Where a blob lies.
    Location(Location),
    /// A removed snapshot or a packfile to be removed.
    Coloured(Coloured),
    /// A packfile that exists.
    Packfile(PackEntry),
    /// The removal of an earlier entry. Only in states of version 1.1.0.
    Delete(Delete),
    /// This state took the place of others.
    Folding(Folding),
    /// One of those others.
    Folded(Folded),
}

/// The end of a state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Metadata {
    /// The version, as in the wrapper.
    pub version: Version,
    /// When the delta was begun, Unix nanoseconds.
    pub timestamp: i64,
    /// The RepositoryID in 1.0.x and archives, zeros in stores of 1.1.x; says nothing.
    pub serial: [u8; 16],
}

/// Encodes what a state begins with: the parent's id in version 1.1.0 (zero for none), nothing before.
pub fn encode_header(version: Version, parent: Id) -> Vec<u8> {
    if version >= Version::V1_1_0 { parent.as_bytes().to_vec() } else { Vec::new() }
}

/// Appends what a state ends with.
pub fn encode_metadata(metadata: &Metadata, out: &mut Vec<u8>) {
    out.push(METADATA);
    out.extend_from_slice(&metadata.version.0.to_le_bytes());
    out.extend_from_slice(&metadata.timestamp.to_le_bytes());
    out.extend_from_slice(&metadata.serial);
}

fn head(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.reserve(5 + len);
    out.push(kind);
    out.extend_from_slice(&u32::try_from(len).expect("at most 85").to_le_bytes());
}

impl StateEntry {
    /// Appends the entry: kind, length, body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Location(location) => {
                head(out, LOCATION, LOCATION_LEN);
                out.push(location.kind.0);
                out.extend_from_slice(&location.version.0.to_le_bytes());
                out.extend_from_slice(location.id.as_bytes());
                out.extend_from_slice(location.packfile.as_bytes());
                out.extend_from_slice(&location.offset.to_le_bytes());
                out.extend_from_slice(&location.length.to_le_bytes());
                out.extend_from_slice(&location.flags.to_le_bytes());
            }
            Self::Coloured(coloured) => {
                head(out, COLOURED, COLOURED_LEN);
                out.push(coloured.kind);
                out.extend_from_slice(coloured.id.as_bytes());
                out.extend_from_slice(&coloured.when.to_le_bytes());
            }
            Self::Packfile(entry) => {
                head(out, PACKFILE, PACKFILE_LEN);
                out.extend_from_slice(entry.packfile.as_bytes());
                out.extend_from_slice(entry.state.as_bytes());
                out.extend_from_slice(&entry.when.to_le_bytes());
            }
            Self::Delete(delete) => {
                head(out, DELETE, DELETE_LEN);
                out.push(delete.kind);
                out.push(delete.resource);
                out.extend_from_slice(delete.id.as_bytes());
                out.extend_from_slice(delete.packfile.as_bytes());
            }
            Self::Folding(folding) => {
                head(out, FOLDING, FOLDING_LEN);
                out.extend_from_slice(folding.id.as_bytes());
            }
            Self::Folded(folded) => {
                head(out, FOLDED, FOLDED_LEN);
                out.extend_from_slice(folded.id.as_bytes());
                out.extend_from_slice(&folded.timestamp.to_le_bytes());
                out.extend_from_slice(&folded.since.to_le_bytes());
                out.push(u8::from(folded.with_snapshot));
            }
        }
    }

    /// Returns the length that an entry of this kind must have; `None` for kinds that are not known.
    pub(super) fn body_len(kind: u8) -> Option<usize> {
        Some(match kind {
            LOCATION => LOCATION_LEN,
            COLOURED => COLOURED_LEN,
            PACKFILE => PACKFILE_LEN,
            DELETE => DELETE_LEN,
            FOLDING => FOLDING_LEN,
            FOLDED => FOLDED_LEN,
            _ => return None,
        })
    }

    /// Decodes the body of an entry of a known kind; `body` has the length of that kind.
    pub(super) fn decode(kind: u8, body: &[u8]) -> Result<Self> {
        let mut fields = Fields(body);
        Ok(match kind {
            LOCATION => Self::Location(Location {
                kind: BlobType(fields.u8()),
                version: Version(u32::from_le_bytes(fields.take())),
                id: Id(fields.take()),
                packfile: Id(fields.take()),
                offset: u64::from_le_bytes(fields.take()),
                length: u32::from_le_bytes(fields.take()),
                flags: u32::from_le_bytes(fields.take()),
            }),
            COLOURED => Self::Coloured(Coloured {
                kind: fields.u8(),
                id: Id(fields.take()),
                when: i64::from_le_bytes(fields.take()),
            }),
            PACKFILE => Self::Packfile(PackEntry {
                packfile: Id(fields.take()),
                state: Id(fields.take()),
                when: i64::from_le_bytes(fields.take()),
            }),
            FOLDING => Self::Folding(Folding { id: Id(fields.take()) }),
            FOLDED => {
                let (id, timestamp) = (Id(fields.take()), i64::from_le_bytes(fields.take()));
                let since = i64::from_le_bytes(fields.take());
                let with_snapshot = match fields.u8() {
                    flag @ 0..=1 => flag == 1,
                    flag => return Err(Error::malformed(WHAT, format!("a folded state of kind {flag}"))),
                };
                Self::Folded(Folded { id, timestamp, since, with_snapshot })
            }
            _ => {
                let delete = Delete {
                    kind: fields.u8(),
                    resource: fields.u8(),
                    id: Id(fields.take()),
                    packfile: Id(fields.take()),
                };
                if !matches!(delete.kind, LOCATION | COLOURED | PACKFILE) {
                    let detail = format!("the removal of an entry of kind {}", delete.kind);
                    return Err(Error::malformed(WHAT, detail));
                }
                Self::Delete(delete)
            }
        })
    }
}

impl Metadata {
    pub(super) fn decode(body: &[u8; METADATA_LEN]) -> Self {
        let mut fields = Fields(body);
        Self {
            version: Version(u32::from_le_bytes(fields.take())),
            timestamp: i64::from_le_bytes(fields.take()),
            serial: fields.take(),
        }
    }
}

/// The fields of a body whose length was checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().expect("the fields of a body add up to its length");
        self.0 = rest;
        *head
    }

    fn u8(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }
}
