//! Making folders on a server.

use std::sync::Arc;

use super::connection::Connection;
use super::store::mode_of;
use super::transfer::Opened;
use crate::connector::{ErrorKind, Result};
use crate::connectors::tree::parent;

/// Returns whether a folder stands at a path, or a link to one.
pub(super) fn is_folder(connection: &Connection, path: &[u8]) -> bool {
    connection.stat(path).is_ok_and(|attrs| mode_of(&attrs).is_dir())
}

/// Makes a folder that only its owner may enter; one that is there is fine.
pub(super) fn make_folder(connection: &Connection, path: &[u8]) -> Result<()> {
    match connection.make_folder(path, 0o700) {
        Err(_) if is_folder(connection, path) => Ok(()),
        other => other,
    }
}

/// Makes a folder and those above it that are missing.
pub(super) fn make_folders(connection: &Connection, path: &[u8], mode: u32) -> Result<()> {
    let mut missing = Vec::new();
    let mut at = path;
    let first = loop {
        match connection.make_folder(at, mode) {
            Ok(()) => break Ok(()),
            Err(_) if is_folder(connection, at) => break Ok(()),
            Err(error) => {
                let (above, _) = parent(at);
                if error.kind != ErrorKind::NotFound || above.is_empty() || above == b"/" {
                    break Err(error);
                }
                missing.push(at);
                at = above;
            }
        }
    };
    first?;
    for path in missing.into_iter().rev() {
        match connection.make_folder(path, mode) {
            Err(_) if is_folder(connection, path) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Has the names in a folder written to the server's disk, where the server can open folders as files; one that
/// cannot leaves that to its file system.
pub(super) fn synchronise_folder(connection: &Arc<Connection>, path: &[u8]) {
    if !connection.can_synchronise() {
        return;
    }
    if let Ok(folder) = Opened::read(connection, path) {
        let _ = connection.synchronise(&folder.handle, path);
    }
}
