//! Files that appear whole or not at all.
//!
//! A file in the making has no name where the system allows that (`O_TMPFILE`), so that not even `kill -9` leaves
//! something behind; elsewhere it has a temporary name. It is synchronised before it gets its name, and the folder
//! that holds the name afterwards.
//!
//! On Unix a folder is a descriptor: what happens to its name meanwhile does not matter. Elsewhere it is a path.

#[cfg(any(not(unix), test))]
mod portable;
mod temporary;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub(super) use portable::{Folder, Pending, link, open_folder, sync, unnamed};
pub(super) use temporary::{copy, is_of_restore, random_digits, restore_prefix};
#[cfg(unix)]
pub(super) use unix::{Folder, Pending, link, open_folder, sync, unnamed};
