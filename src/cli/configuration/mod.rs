//! The configured stores, sources and destinations: the files, their older forms, and the commands that edit them.

mod action;
mod comments;
mod edit;
mod file;
mod import;
mod input;
mod legacy;
mod policies;
mod rclone;
mod show;

pub(crate) use action::{Action, parse_config, parse_role};
pub(crate) use edit::{Surroundings, perform};
pub(crate) use file::{Configuration, ConfigurationError};
pub(crate) use import::Import;
pub(crate) use policies::{Policies, Policy, known_option, query_of};
