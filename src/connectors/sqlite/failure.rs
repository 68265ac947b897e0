//! What `SQLite`'s errors mean.

use rusqlite::ErrorCode;

use crate::connector::{Error, ErrorKind};

/// Turns an error of the database into one of the connector.
pub(super) fn failed(op: &'static str, target: &str, error: rusqlite::Error) -> Error {
    use ErrorCode as Code;
    let (kind, detail) = match error.sqlite_error_code() {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => {
            (ErrorKind::Io, "other processes kept the database busy for too long: try again later")
        }
        Some(Code::DiskFull) => (ErrorKind::Full, "the disk is full"),
        Some(Code::TooBig) => {
            (ErrorKind::Full, "it is longer than a value in SQLite can be (1000000000 bytes)")
        }
        Some(Code::ReadOnly) => (ErrorKind::ReadOnly, "the database can only be read"),
        Some(Code::PermissionDenied | Code::AuthorizationForStatementDenied) => {
            (ErrorKind::Denied, "access to the database is denied")
        }
        Some(Code::NotADatabase) => (ErrorKind::Invalid, "this is not an SQLite database"),
        Some(Code::DatabaseCorrupt) => {
            (ErrorKind::Protocol, "the database is damaged: sqlite3 FILE 'PRAGMA integrity_check' tells more")
        }
        Some(Code::CannotOpen) => {
            (ErrorKind::Io, "the database, or the -wal and -shm files beside it, cannot be opened")
        }
        _ => (ErrorKind::Io, "SQLite failed"),
    };
    Error::new(kind, op, target).detail(detail).because(error)
}
