//! Deduplicated, encrypted backups and single-file archives of object storage and file systems.

pub mod base;
pub mod cli;
pub mod codec;
pub mod connector;
pub mod connectors;
pub mod crypto;
pub mod format;
pub mod mount;
pub mod snapshot;
pub mod store;
pub mod ui;
pub mod web;
