//! The flags that every command takes.

use std::path::PathBuf;

use clap::Args;

use super::quantity;
use super::trace::Trace;
use crate::ui::Loudness;

/// Global flags. They may stand before or after the command.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Globals {
    /// Run at most N requests at a time
    #[arg(long, global = true, value_name = "N", value_parser = positive, help_heading = "Global flags")]
    pub(crate) concurrency: Option<usize>,
    /// Use at most N processor cores
    #[arg(long, global = true, value_name = "N", value_parser = positive, help_heading = "Global flags")]
    pub(crate) cpu: Option<usize>,
    /// Use at most SIZE of memory for buffers and tables
    #[arg(long, global = true, value_name = "SIZE", value_parser = memory, default_value = "256MiB", help_heading = "Global flags")]
    pub(crate) memory: u64,
    /// Read the configuration from DIR
    #[arg(long, global = true, value_name = "DIR", alias = "config-dir", help_heading = "Global flags")]
    pub(crate) configdir: Option<PathBuf>,
    /// Keep caches in DIR
    #[arg(long, global = true, value_name = "DIR", alias = "cache-dir", help_heading = "Global flags")]
    pub(crate) cachedir: Option<PathBuf>,
    /// Keep pins and copies of CONFIG in DIR
    #[arg(long, global = true, value_name = "DIR", alias = "data-dir", help_heading = "Global flags")]
    pub(crate) datadir: Option<PathBuf>,
    /// Write one JSON object a line
    #[arg(long, global = true, help_heading = "Global flags")]
    pub(crate) json: bool,
    /// Read the passphrase from the file PATH
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global flags")]
    pub(crate) keyfile: Option<PathBuf>,
    /// Say nothing but results, warnings and errors
    #[arg(long, global = true, help_heading = "Global flags")]
    pub(crate) quiet: bool,
    /// Say nothing but results
    #[arg(long, global = true, help_heading = "Global flags")]
    pub(crate) silent: bool,
    /// Write plain lines, as if to a pipe
    #[arg(long, global = true, help_heading = "Global flags")]
    pub(crate) stdio: bool,
    /// Say how long the command took
    #[arg(long, global = true, help_heading = "Global flags")]
    pub(crate) time: bool,
    /// Log what is asked of SUBSYSTEMS to standard error: storage, web, or all
    #[arg(long, global = true, value_name = "SUBSYSTEMS", help_heading = "Global flags")]
    pub(crate) trace: Option<Trace>,
    /// Show no progress line
    #[arg(long, global = true, help_heading = "Global flags")]
    pub(crate) no_progress: bool,
    /// Read local files without mapping them into memory
    #[arg(long, global = true, help_heading = "Global flags")]
    pub(crate) no_mmap: bool,
    /// Accept that states which were seen before are missing now
    #[arg(long, global = true, help_heading = "Global flags")]
    pub(crate) accept_missing: bool,
    /// Try the passphrase on the key slot LABEL only
    #[arg(long, global = true, value_name = "LABEL", help_heading = "Global flags")]
    pub(crate) slot: Option<String>,
}

impl Globals {
    /// Returns how much may be said.
    pub(crate) fn loudness(&self) -> Loudness {
        match (self.silent, self.quiet) {
            (true, _) => Loudness::Silent,
            (false, true) => Loudness::Quiet,
            (false, false) => Loudness::Normal,
        }
    }

    /// Returns whether a progress line or progress events are wanted.
    pub(crate) fn progress(&self) -> bool {
        !self.no_progress && !self.stdio && self.loudness() == Loudness::Normal
    }
}

/// The least memory that the engine works in.
const LEAST_MEMORY: u64 = 32 << 20;

fn memory(text: &str) -> Result<u64, String> {
    match quantity::size(text)? {
        size if size < LEAST_MEMORY => Err(format!("at least 32MiB are needed, not {text}")),
        size => Ok(size),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("'{text}' is not a number of at least 1")),
        Ok(number) => Ok(number),
    }
}
