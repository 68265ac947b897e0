//! Stores in SQLite databases: the tables upstream knows, and what the file itself does.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write as _;
use std::path::Path;

use plakar::base::{Cancel, Id};
use plakar::connector::{Body, ErrorKind, Kind, Storage};
use plakar::connectors::sqlite::{MAX_LENGTH, SqliteStore};
use rusqlite::Connection;

const ID: Id = Id([0xab; 32]);

fn store(path: &Path) -> SqliteStore {
    SqliteStore::new(path, None, Cancel::new())
}

/// Makes a database as upstream does.
fn upstream(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL;
             CREATE TABLE IF NOT EXISTS configuration (value BLOB);
             CREATE TABLE IF NOT EXISTS packfiles (mac VARCHAR(64) NOT NULL PRIMARY KEY, data BLOB);
             CREATE TABLE IF NOT EXISTS states (mac VARCHAR(64) NOT NULL PRIMARY KEY, data BLOB);
             CREATE TABLE IF NOT EXISTS locks (mac VARCHAR(64) NOT NULL PRIMARY KEY, data BLOB);
             INSERT INTO configuration VALUES (CAST('CONFIG' AS BLOB));",
        )
        .unwrap();
    connection
}

fn text(connection: &Connection, sql: &str) -> String {
    connection
        .query_row(sql, [], |row| row.get::<_, rusqlite::types::Value>(0))
        .map(|v| format!("{v:?}"))
        .unwrap()
}

#[test]
fn databases_of_upstream_are_read_and_extended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let theirs = upstream(&path);
    theirs.execute("INSERT INTO states VALUES (?1, x'010203')", [&ID.0[..]]).unwrap();
    theirs.execute("INSERT INTO states VALUES ('not an id', x'01')", []).unwrap();
    theirs.execute("INSERT INTO locks VALUES (?1, x'04')", [ID.to_hex()]).unwrap();
    let ours = store(&path);
    assert_eq!(ours.config().unwrap(), b"CONFIG");
    assert_eq!(ours.get(Kind::State, ID).unwrap(), [1, 2, 3]);
    for (kind, size) in [(Kind::State, 3), (Kind::Lock, 1)] {
        let mut listed = Vec::new();
        ours.list(kind, &mut |one| listed.push((one.id, one.size))).unwrap();
        assert_eq!(listed, [(ID, size)]);
    }
    ours.put(Kind::Packfile, ID, Body::Bytes(&vec![7; 3_000_000])).unwrap();
    ours.put(Kind::Lock, ID, Body::Bytes(b"refreshed")).unwrap();
    assert_eq!(
        text(&theirs, "SELECT length(data) FROM packfiles WHERE typeof(mac) = 'blob' AND length(mac) = 32"),
        "Integer(3000000)"
    );
    assert_eq!(
        text(&theirs, "SELECT CAST(data AS TEXT) FROM locks WHERE typeof(mac) = 'text'"),
        "Text(\"refreshed\")"
    );
    assert_eq!(text(&theirs, "SELECT hex(substr(data, 2999999, 2)) FROM packfiles"), "Text(\"0707\")");
    // Their file does not shrink by itself, which is told once.
    ours.delete(Kind::Packfile, ID).unwrap();
    ours.delete(Kind::State, ID).unwrap();
    let notes = ours.take_notes();
    assert!(notes.len() == 1 && notes[0].contains("VACUUM"), "{notes:?}");
}

#[test]
fn what_is_made_here_has_the_tables_of_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    store(&ours).create(b"CONFIG").unwrap();
    let tables = |connection: &Connection| {
        let mut statement = connection.prepare("SELECT name, type FROM sqlite_master ORDER BY name").unwrap();
        let rows =
            statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    let columns = |connection: &Connection, table: &str| {
        let sql = format!("SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table}')");
        let mut statement = connection.prepare(&sql).unwrap();
        let rows = statement
            .query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, i64>(3)?,
                ))
            })
            .unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    let (ours, theirs) = (Connection::open(ours).unwrap(), upstream(&theirs));
    assert_eq!(tables(&ours), tables(&theirs));
    for table in ["configuration", "packfiles", "states", "locks"] {
        assert_eq!(columns(&ours, table), columns(&theirs, table));
    }
    for (pragma, value) in [
        ("journal_mode", "Text(\"wal\")"),
        ("auto_vacuum", "Integer(2)"),
        ("page_size", "Integer(16384)"),
        ("user_version", "Integer(1)"),
    ] {
        assert_eq!(text(&ours, &format!("PRAGMA {pragma}")), value, "{pragma}");
    }
}

#[test]
fn the_file_shrinks_when_packfiles_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let ours = store(&path);
    ours.create(b"CONFIG").unwrap();
    let bytes = crate::engine::noise(8_000_000);
    let mut spool = ours.spool().unwrap();
    spool.write_all(&bytes).unwrap();
    for n in 0..4 {
        ours.put(Kind::Packfile, Id([n; 32]), Body::Spool { file: &spool, length: 8_000_000 }).unwrap();
    }
    let full = std::fs::metadata(&path).unwrap().len();
    // Others move into the room of what goes, and stay what they are.
    for n in 0..3 {
        ours.delete(Kind::Packfile, Id([n; 32])).unwrap();
    }
    assert!(ours.get(Kind::Packfile, Id([3; 32])).unwrap() == bytes);
    let mut part = Vec::new();
    ours.read_range(Kind::Packfile, Id([3; 32]), 7_000_000, 1000, &mut |read| part.extend_from_slice(read))
        .unwrap();
    assert_eq!(part, &bytes[7_000_000..7_001_000]);
    drop(ours);
    let left = std::fs::metadata(&path).unwrap().len();
    assert!(full > 24_000_000 && left < 9_000_000, "{left} of {full}");
    assert!(!dir.path().join("db-wal").exists());
}

#[test]
fn what_does_not_fit_is_told_before_it_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let ours = store(&dir.path().join("db"));
    ours.create(b"CONFIG").unwrap();
    let file = tempfile::tempfile().unwrap();
    let error =
        ours.put(Kind::Packfile, ID, Body::Spool { file: &file, length: MAX_LENGTH + 1 }).unwrap_err();
    assert!(error.kind == ErrorKind::Full && error.to_string().contains("SQLite"), "{error}");
    // The limit itself is one of the database's: a value of that length can be made.
    let raw = Connection::open(dir.path().join("db")).unwrap();
    let length = i64::try_from(MAX_LENGTH).unwrap();
    let made = raw.query_row("SELECT length(zeroblob(?1))", [length], |row| row.get::<_, i64>(0));
    assert_eq!(made.unwrap(), length);
}

#[test]
fn damage_is_told_as_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let ours = store(&path);
    ours.create(b"CONFIG").unwrap();
    ours.put(Kind::Packfile, ID, Body::Bytes(&vec![1; 2_000_000])).unwrap();
    drop(ours);
    let raw = Connection::open(&path).unwrap();
    raw.execute("UPDATE packfiles SET data = 'text'", []).unwrap();
    raw.execute("DROP TABLE locks", []).unwrap();
    drop(raw);
    assert_eq!(store(&path).config().unwrap_err().kind, ErrorKind::Protocol);
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("CREATE TABLE locks (mac VARCHAR(64) NOT NULL PRIMARY KEY, data BLOB)").unwrap();
    drop(raw);
    assert_eq!(store(&path).get(Kind::Packfile, ID).unwrap_err().kind, ErrorKind::Protocol);
    // The root page of a table.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 8]).unwrap();
    let ours = store(&path);
    let result = ours.config().and_then(|_| ours.get(Kind::Packfile, ID)).unwrap_err();
    assert_eq!(result.kind, ErrorKind::Protocol, "{result}");
}
