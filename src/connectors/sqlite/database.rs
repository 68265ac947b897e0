//! Connections: made on demand, kept, one writer at a time.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::failure::failed;
use super::schema::{self, Contents};
use crate::base::{Cancel, sys};
use crate::connector::{Error, ErrorKind, Result};

/// How long a transaction waits for those of others. Each is one resource, so this is many turns.
const PATIENCE: Duration = Duration::from_mins(5);
/// The longest pause between two looks at whether a lock is free.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// The cache of pages of the connection that writes, where the run has no limit of memory, in bytes.
const WRITE_CACHE: u64 = 40 << 20;
/// The WAL file is cut down to this many bytes when it can be.
const WAL_LENGTH: u64 = 64 << 20;
/// Connections that are kept for reading.
const IDLE: usize = 16;
/// What a path in a URI may hold as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How the file can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// Read and written.
    Full,
    /// Only read; others may write.
    Reading,
    /// Only read, on a medium that cannot be written, where `SQLite` cannot make the files it shares with writers.
    Immutable,
}

/// One database file.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    target: String,
    cancel: Cancel,
    write_cache: u64,
    access: Mutex<Option<Access>>,
    idle: Mutex<Vec<Connection>>,
    writer: Mutex<Option<Connection>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept here is replaced as a whole, so it is right whatever happened.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database {
    pub(super) fn new(path: PathBuf, memory: Option<u64>, cancel: Cancel) -> Self {
        let target = format!("sqlite:{}", path.display());
        let write_cache = memory.map_or(WRITE_CACHE, |memory| memory / 6).clamp(2 << 20, 128 << 20);
        Self {
            path,
            target,
            cancel,
            write_cache,
            access: Mutex::default(),
            idle: Mutex::default(),
            writer: Mutex::default(),
        }
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Returns how the file can be used, once it was opened.
    pub(super) fn access(&self) -> Option<Access> {
        *lock(&self.access)
    }

    /// Runs something on a connection of its own, in one read transaction, so that what it sees is of one moment.
    pub(super) fn read<T>(&self, op: &'static str, run: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let kept = lock(&self.idle).pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.open(op)?,
        };
        let result = {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Deferred)
                .map_err(|error| failed(op, &self.target, error))?;
            run(&transaction)
        };
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE && connection.is_autocommit() {
            idle.push(connection);
        }
        result
    }

    /// Runs something in one transaction that is on disk when this returns, or did not happen.
    pub(super) fn write<T>(&self, op: &'static str, run: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.with_writer(op, |connection| {
            let sql = |error| failed(op, &self.target, error);
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
            let done = run(&transaction)?;
            transaction.commit().map_err(sql)?;
            Ok(done)
        })
    }

    /// Runs something on the connection that writes.
    pub(super) fn with_writer<T>(
        &self,
        op: &'static str,
        run: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> Result<T> {
        let mut writer = lock(&self.writer);
        let mut connection = match writer.take() {
            Some(connection) => connection,
            None => self.open_writer(op)?,
        };
        let result = run(&mut connection);
        if connection.is_autocommit() {
            // The pages of a packfile are not kept for the next.
            let _ = connection.execute_batch("PRAGMA shrink_memory");
            *writer = Some(connection);
        }
        result
    }

    fn open_writer(&self, op: &'static str) -> Result<Connection> {
        let connection = self.open(op)?;
        if self.access() != Some(Access::Full) {
            return Err(
                Error::new(ErrorKind::ReadOnly, op, &self.target).detail("the database can only be read")
            );
        }
        self.prepare_writer(&connection).map_err(|error| failed(op, &self.target, error))?;
        Ok(connection)
    }

    fn prepare_writer(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(&format!(
            "PRAGMA synchronous=FULL; PRAGMA journal_size_limit={WAL_LENGTH}; PRAGMA cache_size=-{};",
            self.write_cache >> 10
        ))
    }

    /// Opens the database of a store. Fails with `NotFound` where there is none.
    fn open(&self, op: &'static str) -> Result<Connection> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => {
                return Err(Error::new(ErrorKind::Invalid, op, &self.target)
                    .detail("this is not a file; a store in a folder is named by its path alone"));
            }
            Err(error) => return Err(Error::io(op, &self.target, error)),
        }
        let (connection, contents) = self.open_any(op)?;
        match contents {
            Contents::Store => Ok(connection),
            Contents::Nothing => {
                Err(Error::new(ErrorKind::NotFound, op, &self.target).detail("the database is empty"))
            }
        }
    }

    /// Opens whatever is there, in the best way that works, and looks at it.
    fn open_any(&self, op: &'static str) -> Result<(Connection, Contents)> {
        let known = self.access();
        if known != Some(Access::Immutable) {
            match self.open_shared() {
                Ok(connection) => match schema::inspect(&connection, &self.target) {
                    Ok(contents) => {
                        let readonly = connection.is_readonly(rusqlite::MAIN_DB).unwrap_or(true);
                        *lock(&self.access) = Some(if readonly { Access::Reading } else { Access::Full });
                        return Ok((connection, contents));
                    }
                    Err(error) if !may_be_the_medium(&error) => return Err(error),
                    Err(error) => self.refuse_unfinished(error)?,
                },
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
                    // A file that may not even be read; the system says why.
                    fs::File::open(&self.path).map_err(|error| Error::io(op, &self.target, error))?;
                    return Err(failed(op, &self.target, error));
                }
                Err(error) => return Err(failed(op, &self.target, error)),
            }
        }
        let connection = self.open_immutable().map_err(|error| failed(op, &self.target, error))?;
        let contents = schema::inspect(&connection, &self.target)?;
        *lock(&self.access) = Some(Access::Immutable);
        Ok((connection, contents))
    }

    /// Fails where the file alone is not all there is: what stands in the WAL would be missed, and what a rollback
    /// journal takes back would be read. Where one cannot be looked at, that is taken for such a one.
    fn refuse_unfinished(&self, error: Error) -> Result<()> {
        const WAL: &str =
            "what stands in its -wal file has to be put into it first: copy both to where one can write";
        const JOURNAL: &str = "a change was broken off, and its -journal file has to take it back first: copy both to where \
                               one can write";
        for (suffix, why) in [("-wal", WAL), ("-journal", JOURNAL)] {
            let mut beside = self.path.clone().into_os_string();
            beside.push(suffix);
            // "The SQLite File Format", 3: a journal whose header is zero, as some modes leave it, has nothing in it.
            let mut first = [0];
            let holds = match fs::File::open(beside).and_then(|mut file| file.read(&mut first)) {
                Ok(read) => read > 0 && (suffix == "-wal" || first != [0]),
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            };
            if holds {
                return Err(error.detail(why));
            }
        }
        Ok(())
    }

    fn open_shared(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        let cancel = self.cancel.clone();
        let mut begun = Instant::now();
        connection.busy_handler(Some(move |count: i32| {
            if count == 0 {
                begun = Instant::now();
            }
            if cancel.is_cancelled() || begun.elapsed() > PATIENCE {
                return false;
            }
            let pause = Duration::from_millis(1 << count.clamp(0, 6)).min(LONGEST_PAUSE);
            std::thread::sleep(pause);
            true
        }))?;
        Ok(connection)
    }

    fn open_immutable(&self) -> rusqlite::Result<Connection> {
        let path = percent_encode(self.path.as_os_str().as_encoded_bytes(), PATH);
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)
    }

    /// Makes the database and its tables, and has `fill` put the first rows into them.
    pub(super) fn create(&self, fill: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<()> {
        let target = &self.target;
        let sql = |error| failed("create", target, error);
        let exists = |why: &str| Error::new(ErrorKind::Exists, "create", target).detail(why.to_owned());
        if self.path.is_dir() {
            return Err(exists("this is a folder"));
        }
        self.make_file().map_err(|error| Error::io("create", target, error))?;
        let (mut connection, contents) = self.open_any("create").map_err(|error| match error.kind {
            ErrorKind::Invalid => exists(error.detail.as_deref().unwrap_or("it is in use")),
            _ => error,
        })?;
        if contents == Contents::Store {
            return Err(exists("there is a store already"));
        }
        connection.execute_batch(schema::BEFORE_TABLES).map_err(sql)?;
        self.prepare_writer(&connection).map_err(sql)?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        // Another process may have been faster.
        if schema::inspect(&transaction, target)? == Contents::Store {
            return Err(exists("there is a store already"));
        }
        let filled = schema::mark(&transaction)
            .and_then(|()| transaction.execute_batch(schema::TABLES))
            .and_then(|()| fill(&transaction));
        filled.and_then(|()| transaction.commit()).map_err(sql)?;
        self.synchronise_folder().map_err(|error| Error::io("synchronise", target, error))
    }

    /// Creates an empty file that nobody else may read, if there is none.
    fn make_file(&self) -> io::Result<()> {
        if let Some(folder) = self.folder() {
            sys::private_folder().recursive(true).create(folder)?;
        }
        match sys::private_file().write(true).create_new(true).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(file) => file.sync_all(),
        }
    }

    fn synchronise_folder(&self) -> io::Result<()> {
        sys::sync_folder(self.folder().unwrap_or(Path::new(".")))
    }

    /// Returns the folder that holds the file.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty())
    }
}

/// Returns whether an error may come from a medium on which `SQLite` cannot make its shared files.
fn may_be_the_medium(error: &Error) -> bool {
    let code = error.source.as_ref().and_then(|source| source.downcast_ref::<rusqlite::Error>());
    matches!(
        code.and_then(rusqlite::Error::sqlite_error_code),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::new(dir.path().join("a b?c#d%"), None, Cancel::new());
        database
            .create(|connection| connection.execute("INSERT INTO configuration VALUES (x'01')", []).map(drop))
            .unwrap();
        (dir, database)
    }

    fn count(database: &Database) -> Result<i64> {
        database.read("read", |connection| {
            let count = connection.query_row("SELECT count(*) FROM configuration", [], |row| row.get(0));
            count.map_err(|error| failed("read", "it", error))
        })
    }

    #[test]
    fn a_medium_that_cannot_be_written_is_read() {
        let (_dir, database) = made();
        assert_eq!((count(&database).unwrap(), database.access()), (1, Some(Access::Full)));
        let path = database.path.clone();
        drop(database);
        let database = Database::new(path, None, Cancel::new());
        *lock(&database.access) = Some(Access::Immutable);
        assert_eq!(count(&database).unwrap(), 1);
        let error = database.write("put", |_| Ok(())).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ReadOnly, "{error}");
    }

    #[test]
    fn what_stands_beside_the_file_is_not_missed() {
        let (_dir, database) = made();
        let error = || Error::new(ErrorKind::Io, "open", "it");
        for suffix in ["-wal", "-journal"] {
            let mut beside = database.path.clone().into_os_string();
            beside.push(suffix);
            assert!(database.refuse_unfinished(error()).is_ok());
            fs::write(&beside, b"").unwrap();
            assert!(database.refuse_unfinished(error()).is_ok());
            fs::write(&beside, b"frames").unwrap();
            let told = database.refuse_unfinished(error()).unwrap_err().to_string();
            assert!(told.contains(suffix), "{told}");
            fs::write(&beside, [0; 512]).unwrap();
            assert_eq!(database.refuse_unfinished(error()).is_ok(), suffix == "-journal");
            fs::remove_file(&beside).unwrap();
        }
    }

    #[test]
    fn a_writer_waits_for_another_but_not_for_ever() {
        let (_dir, database) = made();
        let mut other = Connection::open(&database.path).unwrap();
        let turn = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let put = |database: &Database| {
            database.write("put", |connection| {
                connection
                    .execute("INSERT INTO configuration VALUES (x'02')", [])
                    .map(drop)
                    .map_err(|error| failed("put", "it", error))
            })
        };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| put(&database));
            std::thread::sleep(Duration::from_millis(200));
            assert!(!waiting.is_finished());
            turn.commit().unwrap();
            waiting.join().unwrap().unwrap();
        });
        assert_eq!(count(&database).unwrap(), 2);
        let _turn = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        database.cancel.cancel();
        let error = put(&database).unwrap_err();
        assert!(error.to_string().contains("busy"), "{error}");
    }
}
