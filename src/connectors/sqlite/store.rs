//! The store itself.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, MAIN_DB, OptionalExtension as _, params};

use super::database::{Access, Database};
use super::failure::failed;
use super::schema::table;
use crate::base::sys::FileAt as _;
use crate::base::{Cancel, Id};
use crate::connector::{Body, Error, ErrorKind, Kind, Listed, Result, Storage};
use crate::connectors::container::{MAX_CONFIG, past_the_end, whole_length};

/// The longest resource in bytes: `SQLITE_MAX_LENGTH`, less the room for a row's key and head.
pub const MAX_LENGTH: u64 = 1_000_000_000 - 1024;
/// Values of at most this many bytes are written at once; longer ones in pieces of this length.
const PIECE: usize = 1 << 20;
/// Rows of a listing that are fetched at once.
const PAGE: usize = 1000;
/// What `PRAGMA auto_vacuum` says of a database whose file can shrink bit by bit.
const INCREMENTAL: i64 = 2;

/// A store in an `SQLite` database.
#[derive(Debug)]
pub struct SqliteStore {
    database: Database,
    told: AtomicBool,
    notes: Mutex<Vec<String>>,
}

impl SqliteStore {
    /// Names a database; nothing is touched before the first call.
    ///
    /// `memory` is that of the run, of which the pages of a packfile in the making take a sixth at most. `cancel` ends
    /// the waiting for other writers.
    pub fn new(path: impl Into<PathBuf>, memory: Option<u64>, cancel: Cancel) -> Self {
        Self {
            database: Database::new(path.into(), memory, cancel),
            told: AtomicBool::new(false),
            notes: Mutex::default(),
        }
    }

    fn target(&self, kind: Kind, id: Id) -> String {
        format!("{}: {}/{id}", self.database.target(), kind.folder())
    }

    fn missing(&self, op: &'static str, kind: Kind, id: Id) -> Error {
        Error::new(ErrorKind::NotFound, op, self.target(kind, id))
    }

    /// Finds a row: its number and the length of its value.
    fn find(&self, connection: &Connection, op: &'static str, kind: Kind, id: Id) -> Result<(i64, u64)> {
        let sql = format!("SELECT rowid, length(data), typeof(data) FROM {} WHERE mac = ?1", table(kind));
        let row = connection
            .query_row(&sql, [key(kind, id)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, String>(2)?))
            })
            .optional()
            .map_err(|error| failed(op, &self.target(kind, id), error))?;
        match row {
            None => Err(self.missing(op, kind, id)),
            Some((row, Some(length), shape)) if shape == "blob" && length >= 0 => {
                Ok((row, length.unsigned_abs()))
            }
            Some(_) => {
                Err(Error::new(ErrorKind::Protocol, op, self.target(kind, id)).detail("its data is no blob"))
            }
        }
    }

    /// Reads a part of a value; `None` is all of it.
    fn part(&self, kind: Kind, id: Id, range: Option<(u64, usize)>) -> Result<Vec<u8>> {
        self.database.read("read", |connection| {
            let (row, total) = self.find(connection, "read", kind, id)?;
            let (offset, length) = match range {
                Some(range) => range,
                None => (0, whole_length(kind, total, &self.target(kind, id))?),
            };
            let end = u64::try_from(length).ok().and_then(|length| offset.checked_add(length));
            if end.is_none_or(|end| end > total) {
                return Err(past_the_end(&self.target(kind, id), offset, length, total));
            }
            let mut bytes = vec![0; length];
            if length > 0 {
                let offset = usize::try_from(offset).expect("not past the end of a value");
                let blob = connection.blob_open(MAIN_DB, table(kind), "data", row, true);
                let read = blob.and_then(|blob| blob.read_at_exact(&mut bytes, offset));
                read.map_err(|error| failed("read", &self.target(kind, id), error))?;
            }
            Ok(bytes)
        })
    }

    fn insert(
        &self,
        connection: &Connection,
        kind: Kind,
        id: Id,
        body: &Body<'_>,
        length: u64,
    ) -> Result<()> {
        let target = self.target(kind, id);
        let sql = |error| failed("put", &target, error);
        let table = table(kind);
        if let Body::Bytes(bytes) = body
            && bytes.len() <= PIECE
        {
            let insert = format!("INSERT OR IGNORE INTO {table} (mac, data) VALUES (?1, ?2)");
            return connection.execute(&insert, params![key(kind, id), bytes]).map(drop).map_err(sql);
        }
        let length = i64::try_from(length).expect("checked to be below the limit");
        let insert = format!("INSERT OR IGNORE INTO {table} (mac, data) VALUES (?1, zeroblob(?2))");
        if connection.execute(&insert, params![key(kind, id), length]).map_err(sql)? == 0 {
            return Ok(());
        }
        let row = connection.last_insert_rowid();
        let mut blob = connection.blob_open(MAIN_DB, table, "data", row, false).map_err(sql)?;
        pieces(body, length.unsigned_abs(), &target, &mut |at, piece| {
            blob.write_all_at(piece, at).map_err(sql)
        })?;
        blob.close().map_err(sql)
    }

    /// Gives the pages of deleted values back to the file system.
    fn reclaim(&self) -> Result<()> {
        let target = self.database.target();
        let shrinks = self.database.with_writer("shrink", |connection| {
            let sql = |error| failed("shrink", target, error);
            let mode: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0)).map_err(sql)?;
            if mode == INCREMENTAL {
                // Each step gives one page back.
                vacuum(connection).map_err(sql)?;
                connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).map_err(sql)?;
            }
            Ok(mode == INCREMENTAL)
        })?;
        if !shrinks && !self.told.swap(true, Ordering::Relaxed) {
            let note = format!(
                "{target} was not made to shrink: the space of deleted packfiles is used again, but stays in the file \
                 until sqlite3 FILE 'PRAGMA auto_vacuum=2; VACUUM;' is run on it"
            );
            self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        }
        Ok(())
    }
}

/// Moves pages from the end of the file to where some are free, and cuts the file off.
fn vacuum(connection: &Connection) -> rusqlite::Result<()> {
    let mut vacuum = connection.prepare("PRAGMA incremental_vacuum")?;
    let mut rows = vacuum.query([])?;
    // Each step gives one page back.
    while rows.next()?.is_some() {}
    Ok(())
}

/// Returns the key of a resource: raw bytes, or text for locks.
fn key(kind: Kind, id: Id) -> Value {
    match kind {
        Kind::Packfile | Kind::State => Value::Blob(id.0.to_vec()),
        Kind::Lock => Value::Text(id.to_hex()),
    }
}

/// Reads a key; `None` where it is not one of ours.
fn parse_key(kind: Kind, value: ValueRef<'_>) -> Option<Id> {
    match (kind, value) {
        (Kind::Packfile | Kind::State, ValueRef::Blob(bytes)) => Some(Id(bytes.try_into().ok()?)),
        (Kind::Lock, ValueRef::Text(text)) => Id::from_hex(text).filter(|id| id.to_hex().as_bytes() == text),
        _ => None,
    }
}

/// Passes a body on in pieces with their offsets.
fn pieces(
    body: &Body<'_>,
    length: u64,
    target: &str,
    write: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    match body {
        Body::Bytes(bytes) => {
            bytes.chunks(PIECE).enumerate().try_for_each(|(number, piece)| write(number * PIECE, piece))
        }
        Body::Spool { file, .. } => {
            let mut buffer = vec![0; PIECE.min(usize::try_from(length).unwrap_or(PIECE))];
            let mut done = 0;
            while done < length {
                let part = usize::try_from(length - done).map_or(buffer.len(), |left| left.min(buffer.len()));
                file.read_exact_at(&mut buffer[..part], done)
                    .map_err(|error| Error::io("read the temporary file of", target, error))?;
                write(usize::try_from(done).expect("below the limit"), &buffer[..part])?;
                done += part as u64;
            }
            Ok(())
        }
    }
}

impl Storage for SqliteStore {
    fn location(&self) -> String {
        self.database.target().to_owned()
    }

    /// Makes the file (or takes one that is empty), its tables and CONFIG, the latter two in one transaction.
    fn create(&self, config: &[u8]) -> Result<()> {
        self.database.create(|connection| {
            connection.execute("INSERT INTO configuration (value) VALUES (?1)", [config]).map(drop)
        })
    }

    fn config(&self) -> Result<Vec<u8>> {
        self.database.read("read", |connection| read_config(connection, self.database.target()))
    }

    fn replace_config(&self, expected: &[u8], new: &[u8]) -> Result<()> {
        let target = self.database.target();
        self.database.write("replace CONFIG of", |connection| {
            if read_config(connection, target)? != expected {
                return Err(Error::new(ErrorKind::Changed, "replace CONFIG of", target)
                    .detail("it was changed meanwhile"));
            }
            connection
                .execute("UPDATE configuration SET value = ?1", [new])
                .map(drop)
                .map_err(|error| failed("replace CONFIG of", target, error))
        })
    }

    /// Fetches a page of rows after the other, so that no transaction stays open while `each` runs.
    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let mut last = 0_i64;
        let sql = format!(
            "SELECT rowid, mac, length(data) FROM {} WHERE rowid > ?1 ORDER BY rowid LIMIT {PAGE}",
            table(kind)
        );
        loop {
            let mut page = Vec::new();
            let count = self.database.read("list", |connection| {
                let failed = |error| failed("list", self.database.target(), error);
                let mut statement = connection.prepare(&sql).map_err(failed)?;
                let mut rows = statement.query([last]).map_err(failed)?;
                let mut count = 0;
                while let Some(row) = rows.next().map_err(failed)? {
                    last = row.get(0).map_err(failed)?;
                    count += 1;
                    let size = row.get::<_, Option<i64>>(2).map_err(failed)?;
                    if let (Some(id), Some(size)) = (parse_key(kind, row.get_ref(1).map_err(failed)?), size) {
                        page.push(Listed { id, size: size.unsigned_abs(), modified: None, tag: None });
                    }
                }
                Ok(count)
            })?;
            page.into_iter().for_each(&mut *each);
            if count < PAGE {
                return Ok(());
            }
        }
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        self.database.read("read", |connection| Ok(self.find(connection, "read", kind, id)?.1))
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        self.part(kind, id, None)
    }

    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        consume(&self.part(kind, id, Some((offset, length)))?);
        Ok(())
    }

    /// Creates the file beside the database: that is the disk with room for it.
    fn spool(&self) -> Result<File> {
        let beside = self.database.folder().map(tempfile::tempfile_in);
        beside
            .unwrap_or_else(tempfile::tempfile)
            .or_else(|_| tempfile::tempfile())
            .map_err(|error| Error::io("create a temporary file for", self.database.target(), error))
    }

    fn spools_beside(&self) -> bool {
        self.database.folder().is_some()
    }

    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> Result<()> {
        let length = match &body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Spool { length, .. } => *length,
        };
        if length > MAX_LENGTH {
            return Err(Error::new(ErrorKind::Full, "put", self.target(kind, id))
                .detail(format!("{length} bytes are more than a value in SQLite can hold ({MAX_LENGTH})")));
        }
        self.database.write("put", |connection| {
            if kind != Kind::Lock {
                return self.insert(connection, kind, id, &body, length);
            }
            let mut bytes = Vec::new();
            pieces(&body, length, &self.target(kind, id), &mut |_, piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })?;
            let refresh = "INSERT INTO locks (mac, data) VALUES (?1, ?2) \
                           ON CONFLICT (mac) DO UPDATE SET data = excluded.data";
            let put = connection.execute(refresh, params![key(kind, id), bytes]);
            put.map(drop).map_err(|error| failed("put", &self.target(kind, id), error))
        })
    }

    fn delete(&self, kind: Kind, id: Id) -> Result<()> {
        let sql = format!("DELETE FROM {} WHERE mac = ?1", table(kind));
        let count = self.database.write("delete", |connection| {
            let deleted = connection.execute(&sql, [key(kind, id)]);
            deleted.map_err(|error| failed("delete", &self.target(kind, id), error))
        })?;
        // Locks are too small to matter.
        if count > 0 && kind != Kind::Lock { self.reclaim() } else { Ok(()) }
    }

    fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_read_only(&self) -> bool {
        self.database.access().is_some_and(|access| access != Access::Full)
    }
}

fn read_config(connection: &Connection, target: &str) -> Result<Vec<u8>> {
    let limit = i64::try_from(MAX_CONFIG).expect("a few KiB");
    let config = connection
        .query_row("SELECT length(value), substr(value, 1, ?1) FROM configuration", [limit], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
        })
        .optional()
        .map_err(|error| failed("read CONFIG of", target, error))?;
    match config {
        Some((Some(length), Some(config))) if length <= limit => Ok(config),
        Some((Some(length), _)) => Err(Error::new(ErrorKind::Protocol, "read CONFIG of", target)
            .detail(format!("it has {length} bytes, more than {MAX_CONFIG}"))),
        _ => {
            Err(Error::new(ErrorKind::NotFound, "read CONFIG of", target)
                .detail("the database holds no CONFIG"))
        }
    }
}
