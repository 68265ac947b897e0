//! The commands: one file each, with its flags and what it does.

mod archive;
mod backup;
mod cat;
mod check;
mod completions;
mod configure;
mod create;
mod diff;
mod digest;
mod dispatch;
mod dup;
mod find;
mod help;
mod info;
mod key;
mod locate;
mod ls;
mod maintenance;
mod mount;
mod pkg;
mod policy;
mod prune;
mod ptar;
mod repair;
mod restore;
mod rm;
mod server;
mod sync;
pub(super) mod table;
mod version;

pub(crate) use dispatch::{Cli, definition, dispatch};
