//! Integration tests: one binary, fast to link.
#![cfg(test)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::needless_for_each,
    clippy::unused_self,
    clippy::non_octal_unix_permissions,
    reason = "numbers in tests are small, and fixtures read better with methods"
)]

mod archive_faults;
mod canonical;
mod cli;
mod conformance;
mod crash;
mod damage;
mod diffs;
mod engine;
mod floors;
mod folding;
mod format_md;
mod format_vectors;
mod ftp;
mod fuzz_corpus;
mod http_archive;
mod interop;
mod journal_trust;
mod keys;
mod lapse;
mod licences;
mod linked;
mod main_job;
mod maintenance;
mod memory;
#[cfg(target_os = "linux")]
mod mount_tree;
mod quick_archive;
mod reader;
mod repair;
mod resume;
mod resume_remote;
mod resume_restore;
mod s3_archive;
mod s3_bed;
mod s3_cold;
mod s3_connection;
mod s3_credentials;
mod s3_engine;
mod s3_exporter;
mod s3_faults;
mod s3_fidelity;
mod s3_importer;
mod s3_lock;
mod s3_maintenance;
mod s3_permissions;
mod s3_scale;
mod s3_servers;
mod s3_signals;
mod s3_store;
mod s3_storm;
mod s3_versions;
mod s3server;
mod seeds;
mod sessions;
mod sftp;
mod sftp_bed;
mod sqlite;
mod sync_gap;
mod threats;
mod web;
