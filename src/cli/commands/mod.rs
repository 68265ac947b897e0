//! The commands: one file each, with its flags and what it does.

mod backup;
mod cat;
mod check;
mod configure;
mod create;
mod dispatch;
mod help;
mod info;
mod key;
mod ls;
mod maintenance;
mod policy;
mod prune;
mod ptar;
mod repair;
mod restore;
mod rm;
mod sync;
pub(super) mod table;
mod version;

pub(crate) use dispatch::{Cli, definition, dispatch};
