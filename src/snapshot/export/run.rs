//! An export from the walk to the last byte.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::base::Cancel;
use crate::store::{Error, Repository};

use super::super::monitor::{Counter, Event, Monitor, Problem, Severity};
use super::super::part::Part;
use super::read::{Member, Step, read};
use super::tar::TarWriter;
use super::zip::ZipWriter;

/// What an export looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExportFormat {
    /// POSIX tar with extended headers.
    Tar,
    /// The same, gzipped.
    Tarball,
    /// ZIP, with the 64-bit extension where it is needed.
    Zip,
}

/// How an export is made.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The format.
    pub format: ExportFormat,
    /// Whether names begin below the exported folder rather than at the root.
    pub rebase: bool,
    /// Memory for contents, in bytes.
    pub memory: u64,
    /// Ends the run early when set.
    pub cancel: Cancel,
}

impl ExportOptions {
    /// Returns how many bytes of content are read at once.
    pub(super) fn window(&self) -> u64 {
        // One window is being read, one waits, one is being written.
        (self.memory / 8).clamp(1 << 20, 32 << 20)
    }

    /// Returns whether the format knows hard links and extended attributes.
    pub(super) fn links(&self) -> bool {
        self.format != ExportFormat::Zip
    }
}

/// What an export did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExportReport {
    /// Files exported, hard links included.
    pub file_count: u64,
    /// Folders exported.
    pub folder_count: u64,
    /// Symbolic links and special files exported.
    pub other_count: u64,
    /// Things the format cannot hold.
    pub unsupported_count: u64,
    /// Bytes of content.
    pub content_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store.
    #[error(transparent)]
    Store(#[from] Error),
    /// The output.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// Where members go.
pub(super) trait Format {
    /// Begins a member. Says what the format lacks where it cannot hold it; its content is then left out.
    fn begin(&mut self, member: &Member) -> Result<Result<(), &'static str>, ExportError>;
    /// Takes a piece of the member's content.
    fn content(&mut self, bytes: &[u8]) -> Result<(), ExportError>;
    /// Ends the member.
    fn end(&mut self) -> Result<(), ExportError>;
    /// Ends the archive.
    fn finish(&mut self) -> Result<(), ExportError>;
}

/// Writes a part of a snapshot to `out`, which is flushed at the end and not sought. What cannot be read or is not
/// exported is told to the monitor, as an error.
pub fn export(
    repository: &Repository,
    part: Part<'_>,
    out: &mut dyn Write,
    options: &ExportOptions,
    monitor: &dyn Monitor,
) -> Result<ExportReport, ExportError> {
    let begun = Instant::now();
    monitor.phase("archive");
    if part.path.is_none() {
        let sizes = part.snapshot.header.source().map(|source| source.summary.total_size());
        monitor.expect(Counter::Bytes, sizes.unwrap_or(0));
    }
    let mut out = Counted { out, bytes: 0 };
    let mut report = match options.format {
        ExportFormat::Tar => fill(repository, part, &mut TarWriter::new(&mut out), options, monitor)?,
        ExportFormat::Tarball => {
            let mut gzip = GzEncoder::new(&mut out, Compression::default());
            let report = fill(repository, part, &mut TarWriter::new(&mut gzip), options, monitor)?;
            gzip.finish().map_err(ExportError::Write)?;
            report
        }
        ExportFormat::Zip => {
            let mut zip = ZipWriter::new(&mut out, repository.spills())?;
            fill(repository, part, &mut zip, options, monitor)?
        }
    };
    out.flush().map_err(ExportError::Write)?;
    report.written_bytes = out.bytes;
    report.duration = begun.elapsed();
    Ok(report)
}

/// Reads on one thread and writes on this one.
fn fill(
    repository: &Repository,
    part: Part<'_>,
    format: &mut dyn Format,
    options: &ExportOptions,
    monitor: &dyn Monitor,
) -> Result<ExportReport, ExportError> {
    let (ready, windows) = bounded::<Vec<Step>>(1);
    let mut filling = Filling { format, monitor, report: ExportReport::default(), state: State::Outside };
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(repository, part, options, monitor, &ready));
        let mut written = Ok(());
        for window in &windows {
            written = window.into_iter().try_for_each(|step| filling.step(step));
            if written.is_err() {
                break;
            }
        }
        // A reader that still has something to send learns that nobody wants it.
        drop(windows);
        let read = reader.join().unwrap_or(Err(Error::Aborted));
        written?;
        Ok::<(), ExportError>(read?)
    })?;
    filling.end()?;
    filling.format.finish()?;
    Ok(filling.report)
}

/// Where the writer stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    Inside,
    /// In a member that the format cannot hold.
    Skipping,
}

struct Filling<'a> {
    format: &'a mut dyn Format,
    monitor: &'a dyn Monitor,
    report: ExportReport,
    state: State,
}

impl Filling<'_> {
    fn step(&mut self, step: Step) -> Result<(), ExportError> {
        const ZEROS: [u8; 1 << 14] = [0; 1 << 14];
        match step {
            Step::Begin(member) => {
                self.end()?;
                self.begin(&member)
            }
            Step::Bytes(bytes) if self.state == State::Inside => {
                self.report.content_bytes += bytes.len() as u64;
                self.format.content(&bytes)
            }
            Step::Hole(mut length) if self.state == State::Inside => {
                while length > 0 {
                    let piece = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
                    self.format.content(&ZEROS[..piece])?;
                    length -= piece as u64;
                }
                Ok(())
            }
            Step::Bytes(_) | Step::Hole(_) => Ok(()),
        }
    }

    fn begin(&mut self, member: &Member) -> Result<(), ExportError> {
        let (entry, mode) = (&member.entry, member.entry.info.mode);
        self.monitor.count(Counter::Items, 1);
        if let Err(lack) = self.format.begin(member)? {
            self.state = State::Skipping;
            self.report.unsupported_count += 1;
            let message = format!("not exported: {lack}");
            self.monitor.problem(&Problem {
                severity: Severity::Error,
                path: entry.path(),
                message,
                kind: None,
            });
            return Ok(());
        }
        self.state = State::Inside;
        if mode.is_dir() {
            self.report.folder_count += 1;
            self.monitor.count(Counter::Folders, 1);
        } else if mode.is_regular() {
            self.report.file_count += 1;
            self.monitor.count(Counter::Files, 1);
        } else {
            self.report.other_count += 1;
        }
        self.monitor.event(&Event::Done { path: &entry.path(), size: member.size });
        Ok(())
    }

    fn end(&mut self) -> Result<(), ExportError> {
        if std::mem::replace(&mut self.state, State::Outside) == State::Inside {
            self.format.end()
        } else {
            Ok(())
        }
    }
}

/// Counts what passes.
pub(super) struct Counted<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
