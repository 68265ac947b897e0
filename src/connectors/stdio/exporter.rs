//! One file to standard output.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::RawString;
use crate::connector::{ContentSource, Error, ErrorKind, Exporter, Item, Outcome, Result, Work};
use crate::connectors::pipe::standard_output;

/// What is written to in errors.
const TARGET: &str = "standard output";
/// Bytes written at a time.
const PIECE: u64 = 1 << 20;

/// Standard output, which takes one regular file.
#[derive(Debug, Default)]
pub struct StdoutExporter {
    taken: AtomicBool,
}

impl StdoutExporter {
    /// Creates the destination.
    pub fn new() -> Self {
        Self::default()
    }
}

fn only_one_file(item: &Item<'_>) -> Error {
    Error::new(ErrorKind::Unsupported, "restore", format!("\"{}\" to {TARGET}", item.path.escape_ascii()))
        .detail("it takes one regular file; plakar archive -format tar -output - writes folders")
}

impl Exporter for StdoutExporter {
    fn location(&self) -> String {
        "stdout:".into()
    }

    fn folder(&self, item: &Item<'_>) -> Result<Outcome> {
        // Nothing of a folder is written, the first file neither.
        self.taken.store(true, Ordering::Relaxed);
        Err(only_one_file(item))
    }

    /// Writes the content. A reader that leaves early has what it wanted.
    fn file(&self, item: &Item<'_>, content: &dyn ContentSource) -> Result<Outcome> {
        if self.taken.swap(true, Ordering::Relaxed) {
            return Err(only_one_file(item));
        }
        let failed = |error| Error::io("write", TARGET, error);
        let mut out = standard_output().map_err(failed)?;
        let (mut at, size) = (0, content.size());
        let mut buffer = Vec::new();
        while at < size {
            let length = (size - at).min(PIECE);
            buffer.resize(usize::try_from(length).expect("at most 1 MiB"), 0);
            content.read_at(at, &mut buffer)?;
            match out.write_all(&buffer) {
                Ok(()) => at += length,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Outcome::Skipped),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(Outcome::Restored)
    }

    fn special(&self, item: &Item<'_>) -> Result<Outcome> {
        Err(only_one_file(item))
    }

    fn finish_folder(&self, item: &Item<'_>) -> Result<Outcome> {
        Err(only_one_file(item))
    }

    fn hard_link(&self, item: &Item<'_>, _first: &RawString) -> Result<Outcome> {
        Err(only_one_file(item))
    }

    fn work(&self) -> Work {
        Work::Local
    }
}
