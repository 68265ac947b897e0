//! The tables: making them, and knowing them from those of others.

use rusqlite::Connection;

use super::failure::failed;
use crate::connector::{Error, ErrorKind, Kind, Result};

/// Marks databases made here (`KLST`); upstream leaves the field 0.
const APPLICATION: i32 = 0x4b4c_5354;
/// The version of the layout that is made here; upstream leaves the field 0.
const VERSION: i32 = 1;

/// What has to be set before the first table is made. 16 KiB pages keep the lists of a value's pages short, and a lock
/// still writes little.
pub(super) const BEFORE_TABLES: &str =
    "PRAGMA page_size=16384; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;";

/// The tables as upstream makes them.
pub(super) const TABLES: &str = "\
    CREATE TABLE configuration (value BLOB); \
    CREATE TABLE packfiles (mac VARCHAR(64) NOT NULL PRIMARY KEY, data BLOB); \
    CREATE TABLE states (mac VARCHAR(64) NOT NULL PRIMARY KEY, data BLOB); \
    CREATE TABLE locks (mac VARCHAR(64) NOT NULL PRIMARY KEY, data BLOB);";

const NAMES: [&str; 4] = ["configuration", "packfiles", "states", "locks"];

/// What a database holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Contents {
    /// No table at all.
    Nothing,
    /// The tables of a store.
    Store,
}

/// Marks a database as ours.
pub(super) fn mark(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION};"))
}

/// Looks at what a database holds. Fails with `Invalid` where it is another application's, with `Unsupported` where
/// its layout is newer than this program, with `Protocol` where tables are missing.
pub(super) fn inspect(connection: &Connection, target: &str) -> Result<Contents> {
    let sql = |error| failed("open", target, error);
    let number = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let mut statement =
        connection.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").map_err(sql)?;
    let tables = statement.query_map([], |row| row.get::<_, String>(0)).map_err(sql)?;
    let tables: Vec<String> = tables.collect::<rusqlite::Result<_>>().map_err(sql)?;
    let application = number("application_id").map_err(sql)?;
    let version = number("user_version").map_err(sql)?;
    let foreign = |what: String| {
        Err(Error::new(ErrorKind::Invalid, "open", target)
            .detail(format!("this is a database of another application: {what}")))
    };
    if application != 0 && application != APPLICATION {
        return foreign(format!("its application id is {application}"));
    }
    if application == APPLICATION && version > VERSION {
        return Err(Error::new(ErrorKind::Unsupported, "open", target).detail(format!(
            "its layout is version {version}, newer than this program (version {VERSION})"
        )));
    }
    let missing: Vec<&str> = NAMES
        .into_iter()
        .filter(|name| tables.iter().all(|table| !table.eq_ignore_ascii_case(name)))
        .collect();
    match (tables.as_slice(), missing.as_slice()) {
        ([], _) => return Ok(Contents::Nothing),
        (_, []) => {}
        (tables, missing) if missing.len() == NAMES.len() => {
            let first = crate::base::Printable::new(&tables[0]).to_string();
            return foreign(format!("it has a table {first}, but none of a store"));
        }
        (_, missing) => {
            return Err(Error::new(ErrorKind::Protocol, "open", target)
                .detail(format!("the database lacks the table {} of a store", missing[0])));
        }
    }
    for statement in [
        "SELECT value FROM configuration",
        "SELECT mac, data FROM packfiles",
        "SELECT mac, data FROM states",
        "SELECT mac, data FROM locks",
    ] {
        if connection.prepare(statement).is_err() {
            return foreign("its tables have other columns than those of a store".into());
        }
    }
    Ok(Contents::Store)
}

/// Returns the table of a kind of resource.
pub(super) fn table(kind: Kind) -> &'static str {
    kind.folder()
}
