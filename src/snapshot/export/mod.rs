//! A part of a snapshot as a stream that other programs read: tar, gzipped tar, zip.
//!
//! ```text
//! walk -> batches: objects, then chunks in windows, side by side -> [queue of one] -> members -> compress -> out
//! ```
//!
//! Nothing is sought and nothing grows: the reader is two windows ahead of the writer at most, and what zip repeats at
//! its end spills to disk. A file that cannot be read to its end was announced with its size already: the rest of
//! it is zeros, it is reported, and the report counts it.

mod read;
mod run;
mod tar;
mod zip;

pub use run::{ExportError, ExportFormat, ExportOptions, ExportReport, export};
