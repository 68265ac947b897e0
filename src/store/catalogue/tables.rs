//! Blob locations as sorted rows on disk.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 32 | blob id |
//! | 32 | 1 | blob type |
//! | 33 | 4 | ordinal of the packfile |
//! | 37 | 4 | ordinal of the state that says so, most significant byte first: rows sort by it |
//! | 41 | 8 | offset in the blob area |
//! | 49 | 4 | encoded length |

use std::fs::File;

use crate::base::table::{self, Table, TableDigest, TableWriter};
use crate::base::{At, Id, PathError, RangeFile};
use crate::crypto::{MacHasher, MacKey};
use crate::format::blob::BlobType;
use crate::format::state::Location;

use super::super::error::Error;

const KIND_AT: usize = Id::LEN;
const PACK_AT: usize = KIND_AT + 1;
const STATE_AT: usize = PACK_AT + 4;
const OFFSET_AT: usize = STATE_AT + 4;
const LENGTH_AT: usize = OFFSET_AT + 8;
pub(super) const ROW: usize = LENGTH_AT + 4;

/// One location of one blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) id: Id,
    pub(super) kind: BlobType,
    pub(super) pack: u32,
    pub(super) state: u32,
    pub(super) offset: u64,
    pub(super) length: u32,
}

impl Row {
    pub(super) fn new(location: &Location, pack: u32, state: u32) -> Self {
        Self {
            id: location.id,
            kind: location.kind,
            pack,
            state,
            offset: location.offset,
            length: location.length,
        }
    }

    pub(super) fn encode(&self) -> [u8; ROW] {
        let mut bytes = [0; ROW];
        bytes[..KIND_AT].copy_from_slice(self.id.as_bytes());
        bytes[KIND_AT] = self.kind.0;
        bytes[PACK_AT..STATE_AT].copy_from_slice(&self.pack.to_le_bytes());
        set_state(&mut bytes, self.state);
        bytes[OFFSET_AT..LENGTH_AT].copy_from_slice(&self.offset.to_le_bytes());
        bytes[LENGTH_AT..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
        Some(Self {
            id: Id(*bytes.first_chunk()?),
            kind: BlobType(*bytes.get(KIND_AT)?),
            pack: u32_at(PACK_AT)?,
            state: state_of(bytes),
            offset: u64::from_le_bytes(*bytes.get(OFFSET_AT..)?.first_chunk()?),
            length: u32_at(LENGTH_AT)?,
        })
    }
}

/// Returns the ordinal of the state in an encoded row.
pub(super) fn state_of(row: &[u8]) -> u32 {
    row.get(STATE_AT..)
        .and_then(|rest| rest.first_chunk().copied())
        .map_or(u32::MAX, |bytes| u32::from_le_bytes(bytes).swap_bytes())
}

/// A MAC over a whole table.
pub(super) struct Digest(Option<MacHasher>);

impl Digest {
    pub(super) fn new(key: &MacKey) -> Self {
        Self(Some(key.hasher()))
    }
}

impl TableDigest for Digest {
    fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.0 {
            hasher.update(bytes);
        }
    }

    fn finish(&mut self) -> [u8; 32] {
        self.0.take().map_or([0; 32], |hasher| hasher.finish().0)
    }
}

/// Takes one encoded row.
type RowSink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Error>;

/// One sorted table of rows.
#[derive(Debug)]
pub(in super::super) struct Tier {
    table: Table<RangeFile>,
    /// The file's name in the cache folder; `None` for an unlinked file.
    pub(super) name: Option<String>,
}

impl Tier {
    /// Opens a table of the cache, its digest verified.
    pub(super) fn open(file: File, name: String, key: &MacKey) -> Result<Option<Self>, Error> {
        let tier = Self::adopt(file, Some(name))?;
        let whole = tier.table.width() == ROW && tier.table.verify(Digest::new(key)).map_err(table_error)?;
        Ok(whole.then_some(tier))
    }

    /// Takes a file just written.
    fn adopt(file: File, name: Option<String>) -> Result<Self, Error> {
        // Mapped: a look-up is then two or three touches of memory instead of as many system calls.
        let file = file
            .metadata()
            .and_then(|metadata| RangeFile::open(file, metadata.len(), true))
            .map_err(|source| Error::spool("open", source))?;
        Ok(Self { table: Table::open(file).map_err(table_error)?, name })
    }

    /// Writes a table from encoded rows in ascending order, equal ones merged.
    pub(super) fn write(
        file: File,
        name: Option<String>,
        key: &MacKey,
        rows: &mut dyn FnMut(RowSink<'_>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut writer = TableWriter::create(file, ROW, Digest::new(key)).map_err(table_error)?;
        let mut last = [0; ROW];
        rows(&mut |row| {
            if row != last {
                last.copy_from_slice(row);
                writer.push(row).map_err(table_error)?;
            }
            Ok(())
        })?;
        let (file, _) = writer.finish(&[]).map_err(table_error)?;
        Self::adopt(file, name)
    }

    /// Merges two tables into one.
    pub(super) fn merge(
        a: &Self,
        b: &Self,
        file: File,
        name: Option<String>,
        key: &MacKey,
    ) -> Result<Self, Error> {
        Self::write(file, name, key, &mut |push| {
            let (mut left, mut right) = (a.table.scan(0), b.table.scan(0));
            let take = |row: Option<&[u8]>, into: &mut Option<[u8; ROW]>| {
                *into = row.and_then(|row| row.try_into().ok());
            };
            let (mut next_left, mut next_right) = (None, None);
            take(left.next().map_err(table_error)?, &mut next_left);
            take(right.next().map_err(table_error)?, &mut next_right);
            loop {
                match (&next_left, &next_right) {
                    (None, None) => return Ok(()),
                    (Some(row), other) if other.as_ref().is_none_or(|other| row <= other) => {
                        push(row)?;
                        take(left.next().map_err(table_error)?, &mut next_left);
                    }
                    (_, Some(row)) => {
                        push(row)?;
                        take(right.next().map_err(table_error)?, &mut next_right);
                    }
                    (Some(_), None) => unreachable!("taken by the arm above"),
                }
            }
        })
    }

    /// Passes the rows of a blob to `each`.
    pub(super) fn find(&self, kind: BlobType, id: &Id, each: &mut dyn FnMut(&Row)) -> Result<(), Error> {
        self.table
            .find(id, |bytes| {
                if let Some(row) = Row::decode(bytes).filter(|row| row.kind == kind) {
                    each(&row);
                }
                true
            })
            .map_err(table_error)
    }

    /// Passes all rows to `each`, in order.
    pub(super) fn each(&self, each: &mut dyn FnMut(&Row)) -> Result<(), Error> {
        let mut rows = self.table.scan(0);
        while let Some(bytes) = rows.next().map_err(table_error)? {
            if let Some(row) = Row::decode(bytes) {
                each(&row);
            }
        }
        Ok(())
    }

    /// Returns the number of rows.
    pub(super) fn rows(&self) -> u64 {
        self.table.rows()
    }
}

/// Passes the rows of some tables to `each`, merged in their order.
pub(super) fn scan(tiers: &[Tier], each: &mut dyn FnMut(&Row) -> Result<(), Error>) -> Result<(), Error> {
    let mut scans: Vec<_> = tiers.iter().map(|tier| tier.table.scan(0)).collect();
    let mut heads: Vec<Option<[u8; ROW]>> = Vec::with_capacity(scans.len());
    for scan in &mut scans {
        heads.push(scan.next().map_err(table_error)?.and_then(|row| row.try_into().ok()));
    }
    // Tables are merged when they are of like size, so that there are few.
    while let Some((at, row)) =
        heads.iter().enumerate().filter_map(|(at, row)| Some((at, (*row)?))).min_by(|a, b| a.1.cmp(&b.1))
    {
        if let Some(row) = Row::decode(&row) {
            each(&row)?;
        }
        heads[at] = scans[at].next().map_err(table_error)?.and_then(|row| row.try_into().ok());
    }
    Ok(())
}

pub(in super::super) fn table_error(error: table::Error) -> Error {
    match error {
        table::Error::Io { op, source } => Error::spool(op, source),
        other => Error::malformed("the local catalogue", &other.to_string()),
    }
}

/// Creates an unlinked file for a table that lives as long as the process.
pub(super) fn anonymous(folder: &std::path::Path) -> Result<File, PathError> {
    tempfile::tempfile_in(folder).at("create a temporary file in", folder)
}

/// Replaces the ordinal of the state in an encoded row.
pub(super) fn set_state(row: &mut [u8], state: u32) {
    row[STATE_AT..OFFSET_AT].copy_from_slice(&state.swap_bytes().to_le_bytes());
}
