//! Where a store's resources lie below its root, in a folder here or on a server (FORMAT.md chapter 12).
//!
//! ```text
//! CONFIG                    0600, written last: a root without it is no store
//! packfiles/<xx>/<id>       0600, 256 folders made at creation
//! states/<xx>/<id>          0600, 256 folders made at creation
//! locks/<id>                0600
//! tmp.<random>              in the root, packfiles or states: files in the making
//! CONFIG.lock               held while CONFIG's key slots are changed
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::Id;
use crate::connector::Kind;

/// The name of the resource that makes a folder a store.
pub(super) const CONFIG: &str = "CONFIG";
/// The name of the file locked while CONFIG is replaced.
pub(super) const CONFIG_LOCK: &str = "CONFIG.lock";
/// What the names of files in the making begin with.
pub(super) const TEMPORARY: &str = "tmp.";
/// Every kind.
pub(super) const KINDS: [Kind; 3] = [Kind::Packfile, Kind::State, Kind::Lock];

/// Returns whether a kind's resources are spread over 256 folders.
pub(super) fn is_sharded(kind: Kind) -> bool {
    kind != Kind::Lock
}

/// Returns the folder that holds a resource.
pub(super) fn folder_of(root: &Path, kind: Kind, id: Id) -> PathBuf {
    let folder = root.join(kind.folder());
    if is_sharded(kind) { folder.join(&id.to_hex()[..2]) } else { folder }
}

/// Returns the path of a resource.
pub(super) fn path_of(root: &Path, kind: Kind, id: Id) -> PathBuf {
    folder_of(root, kind, id).join(id.to_hex())
}

/// Returns the folder where a resource of a kind is made before it gets its name.
pub(super) fn workshop(root: &Path, kind: Kind) -> PathBuf {
    if is_sharded(kind) { root.join(kind.folder()) } else { root.to_owned() }
}

/// Returns the id that a file name stands for: 64 lower-case digits, or it is no resource.
pub(super) fn id_of(name: &OsStr) -> Option<Id> {
    let name = name.as_encoded_bytes();
    if name.iter().any(u8::is_ascii_uppercase) { None } else { Id::from_hex(name) }
}

/// Returns whether a name is that of a file in the making.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Returns whether a name is one that an interrupted creation leaves, or that a fresh disk has: a store may be made
/// beside it.
pub(super) fn may_precede(name: &OsStr) -> bool {
    KINDS.iter().any(|kind| name == kind.folder()) || name == "lost+found" || is_temporary(name)
}

/// Says why no store is made where resources of one lie.
pub(super) fn orphans(kind: Kind, count: usize) -> String {
    format!("the folder holds {count} {} of a store without CONFIG", kind.folder())
}

/// Returns whether a name is that of one of the 256 folders.
pub(super) fn is_shard(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}
