//! Integration tests: one binary, fast to link.
#![cfg(test)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::needless_for_each,
    clippy::unused_self,
    clippy::non_octal_unix_permissions,
    reason = "numbers in tests are small, and fixtures read better with methods"
)]

mod canonical;
mod cli;
mod conformance;
mod crash;
mod damage;
mod engine;
mod floors;
mod format_md;
mod format_vectors;
mod fuzz_corpus;
mod http_archive;
mod interop;
mod keys;
mod main_job;
mod maintenance;
mod memory;
mod reader;
mod repair;
mod s3_bed;
mod s3_engine;
mod s3_exporter;
mod s3_faults;
mod s3_importer;
mod s3_store;
mod s3server;
mod threats;
