//! A run from the scan to the commit.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::{Cancel, Id, RawString, Timestamp};
use crate::connector::{Importer, Record, Work};
use crate::crypto::random;
use crate::format::entry::{FileInfo, Mode};
use crate::store::{
    ArchiveWriter, CheckpointPolicy, Error, JournalWriter, Profile, Repository, Session, Writer, WriterStats,
};

use super::super::monitor::{Counter, Event, Monitor, Severity, Tally};
use super::super::tree::TreeShape;
use super::super::vfs::build::{BuildOptions, Built, VfsBuilder};
use super::content::Budgets;
use super::deferred::Deferred;
use super::header::{self, HeaderOptions};
use super::previous::{Joined, Previous};
use super::worker::{Shared, put_header, work};

/// How a backup is made.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// What its header says.
    pub header: HeaderOptions,
    /// Memory for contents and sorting, in bytes.
    pub memory: u64,
    /// Whether every content is read, unchanged or not.
    pub force: bool,
    /// Whether extended attributes are kept.
    pub xattrs: bool,
    /// How often the run makes itself resumable.
    pub checkpoints: CheckpointPolicy,
    /// How long lies between two looks at a content that is on its way from cold storage.
    pub retrieval_pause: Duration,
    /// Ends the run early when set.
    pub cancel: Cancel,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            header: HeaderOptions::default(),
            memory: 256 << 20,
            force: false,
            xattrs: true,
            checkpoints: CheckpointPolicy::default(),
            retrieval_pause: Duration::from_mins(1),
            cancel: Cancel::new(),
        }
    }
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The snapshot's id.
    pub snapshot: Id,
    /// Regular files and objects in the snapshot.
    pub file_count: u64,
    /// Folders in the snapshot.
    pub folder_count: u64,
    /// Files that were not read because they had not changed.
    pub unchanged_count: u64,
    /// Bytes of content read.
    pub read_bytes: u64,
    /// Bytes of content in the snapshot.
    pub content_bytes: u64,
    /// Paths with problems that make the snapshot partial.
    pub error_count: u64,
    /// Paths with lesser problems.
    pub warning_count: u64,
    /// Whether an interrupted run was taken up, and how many paths it had covered.
    pub resumed_count: u64,
    /// What was stored.
    pub stats: WriterStats,
    /// How long it took.
    pub duration: Duration,
}

/// Backs a source up into a store.
pub fn backup(
    repository: &Arc<Repository>,
    importer: &dyn Importer,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<BackupReport, Error> {
    let (begun, source) = (Timestamp::now(), importer.source());
    let snapshot = random::id();
    let journal = JournalWriter::new(repository, snapshot, begun, &source)?;
    let writer = Writer::open(repository, snapshot, options.checkpoints, Some(journal))?;
    // Under the lock: what is found now stays.
    let previous = if options.force { None } else { Some(Previous::find(repository, &source)?) };
    let entropy = repository.profile() == Profile::Plakar;
    let run = Run {
        session: &writer,
        importer,
        options,
        begun,
        snapshot,
        entropy,
        previous: previous.as_ref(),
        repository: Some(repository),
    };
    let mut report = run.make(monitor)?;
    monitor.phase("commit");
    report.stats = writer.commit()?;
    monitor.event(&Event::Committed { snapshot });
    // The snapshot is committed; what follows only spares the next run some work.
    let _ = repository.refresh_after_commit();
    if let Some(previous) = &previous {
        previous.forget_journal();
    }
    report.duration = run_time(begun);
    Ok(report)
}

/// Writes a snapshot of a source into an archive in the making. It exists, and is told of, once the archive is
/// committed ([`commit_archive`](super::super::commit_archive)).
pub fn backup_into(
    archive: &ArchiveWriter,
    importer: &dyn Importer,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<BackupReport, Error> {
    let (begun, snapshot) = (Timestamp::now(), random::id());
    let entropy = archive.profile() == Profile::Plakar;
    let run = Run {
        session: archive,
        importer,
        options,
        begun,
        snapshot,
        entropy,
        previous: None,
        repository: None,
    };
    run.make(monitor)
}

fn run_time(begun: Timestamp) -> Duration {
    let nanos = Timestamp::now().unix_nanos().saturating_sub(begun.unix_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// Records travel in batches: a queue operation per file would cost more than some files.
const BATCH: usize = 32;
/// The stack of a worker, in bytes.
const STACK: usize = 1 << 20;
/// Batches in each queue.
const QUEUE: usize = 32;

struct Run<'a> {
    session: &'a dyn Session,
    importer: &'a dyn Importer,
    options: &'a BackupOptions,
    begun: Timestamp,
    snapshot: Id,
    entropy: bool,
    previous: Option<&'a Previous>,
    repository: Option<&'a Arc<Repository>>,
}

impl Run<'_> {
    /// Reads the source, builds the view and stores the header.
    fn make(&self, monitor: &dyn Monitor) -> Result<BackupReport, Error> {
        let started = Instant::now();
        let tally = Counting { inner: monitor, tally: Tally::default() };
        monitor.phase("backup");
        if let Some(files) = self.previous.and_then(Previous::file_count) {
            monitor.estimate(Counter::Files, files);
        }
        let builder = VfsBuilder::new(self.build_options());
        self.read_source(&builder, &tally)?;
        self.session.end_contents()?;
        monitor.phase("index");
        let built = builder.finish(self.session)?;
        let source = self.importer.source();
        let duration = i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let header = header::make(
            self.snapshot,
            self.begun,
            duration,
            &self.options.header,
            &source,
            &self.importer.context(),
            &built,
        );
        put_header(self.session, self.snapshot, &header.encode())?;
        Ok(self.report(&tally.tally, &built, started.elapsed()))
    }

    fn report(&self, tally: &Tally, built: &Built, duration: Duration) -> BackupReport {
        let problems = tally.problems();
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count() as u64;
        BackupReport {
            snapshot: self.snapshot,
            file_count: tally.get(Counter::Files),
            folder_count: built.summary.total_directories(),
            unchanged_count: tally.get(Counter::Unchanged),
            read_bytes: tally.get(Counter::Bytes),
            content_bytes: built.summary.total_size(),
            error_count: errors,
            warning_count: problems.len() as u64 - errors,
            resumed_count: self.previous.map_or(0, |previous| previous.journalled() as u64),
            stats: self.session.stats(),
            duration,
        }
    }

    fn build_options(&self) -> BuildOptions {
        let shape = if self.session.is_ours_alone() { TreeShape::ByContent } else { TreeShape::Chained };
        let memory = usize::try_from(self.options.memory / 4).unwrap_or(64 << 20);
        BuildOptions {
            shape,
            spills: self.session.spills().clone(),
            memory,
            missing_folder: missing_folder(),
        }
    }

    /// Runs the scan, the join and the workers until the source is exhausted.
    fn read_source(&self, builder: &VfsBuilder, monitor: &Counting<'_>) -> Result<(), Error> {
        let (workers, entries_at_once) = match self.importer.work() {
            Work::Local => (rayon::current_num_threads(), false),
            Work::Waiting(count) => (count.max(1), true),
        };
        let stop = AtomicBool::new(false);
        let shared = Shared {
            session: self.session,
            repository: self.repository.map(Arc::as_ref),
            importer: self.importer,
            builder,
            monitor,
            cancel: &self.options.cancel,
            stop: &stop,
            budgets: Budgets::new(self.options.memory, workers),
            entropy: self.entropy,
            xattrs: self.options.xattrs,
            entries_at_once,
            told_missing: Mutex::default(),
            deferred: Deferred::new(self.options.retrieval_pause),
        };
        let (found, to_join) = bounded::<Vec<Record>>(QUEUE);
        let (joined, to_do) = bounded::<Vec<Joined>>(QUEUE);
        let read = std::thread::scope(|scope| {
            // A system that gives fewer threads gets a slower backup.
            let workers: Vec<_> = (0..workers)
                .filter_map(|_| {
                    let (to_do, shared, stop) = (to_do.clone(), &shared, &stop);
                    // Many workers wait, and limits of memory count what their stacks could become.
                    let worker =
                        std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || {
                            work(shared, &to_do).inspect_err(|_| stop.store(true, Ordering::Relaxed))
                        });
                    worker.ok()
                })
                .collect();
            if workers.is_empty() {
                let source = std::io::ErrorKind::OutOfMemory.into();
                return Err(Error::Memory { what: "a thread", source });
            }
            drop(to_do);
            let joiner = std::thread::Builder::new()
                .spawn_scoped(scope, || self.join_all(to_join, joined))
                .map_err(|source| Error::Memory { what: "a thread", source })?;
            let scanned = self.scan(found, monitor, &stop);
            let mut result = joiner.join().unwrap_or(Err(Error::Aborted));
            for worker in workers {
                let ended = worker.join().unwrap_or(Err(Error::Aborted));
                // The first real error counts; that others stopped because of it is no news.
                if matches!(result, Ok(()) | Err(Error::Aborted)) && ended.is_err() {
                    result = ended;
                }
            }
            result.and(scanned)
        });
        // What fails because everything is to end is no news.
        if self.options.cancel.is_cancelled() { Err(Error::Cancelled) } else { read }
    }

    /// Passes what the importer finds on, in batches.
    fn scan(
        &self,
        found: Sender<Vec<Record>>,
        monitor: &Counting<'_>,
        stop: &AtomicBool,
    ) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(BATCH);
        let scanned = self.importer.scan(&mut |record| {
            monitor.count(Counter::Items, 1);
            batch.push(record);
            if batch.len() < BATCH {
                return ControlFlow::Continue(());
            }
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            let gone = found.send(full).is_err();
            if gone || stop.load(Ordering::Relaxed) || self.options.cancel.is_cancelled() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        scanned.map_err(Error::Elsewhere)?;
        // Workers that are gone tell why themselves.
        let _ = found.send(batch);
        Ok(())
    }

    fn join_all(&self, found: Receiver<Vec<Record>>, joined: Sender<Vec<Joined>>) -> Result<(), Error> {
        let view = self.previous.and_then(Previous::view);
        let mut joiner =
            self.previous.map(|previous| previous.joiner(view.as_ref(), self.importer, self.session));
        let alone = matches!(self.importer.work(), Work::Waiting(_));
        for batch in found {
            let batch = batch.into_iter().map(|record| match &mut joiner {
                Some(joiner) => joiner.join(record),
                None => Joined::Fresh(record),
            });
            let mut together = Vec::with_capacity(BATCH);
            for record in batch {
                // What has to be waited for is waited for by a worker of its own.
                if alone && matches!(record, Joined::Fresh(_)) {
                    joined.send(vec![record]).map_err(|_| Error::Aborted)?;
                } else {
                    together.push(record);
                }
            }
            if !together.is_empty() {
                joined.send(together).map_err(|_| Error::Aborted)?;
            }
        }
        Ok(())
    }
}

/// Returns what a folder looks like that the source did not report: as upstream's.
pub(in super::super) fn missing_folder() -> FileInfo {
    FileInfo { modified: Timestamp::EPOCH, ..FileInfo::new(RawString::new(), Mode::dir(0o750)) }
}

/// Counts for the report what it passes on.
#[derive(Debug)]
struct Counting<'a> {
    inner: &'a dyn Monitor,
    tally: Tally,
}

impl Monitor for Counting<'_> {
    fn phase(&self, name: &'static str) {
        self.inner.phase(name);
    }

    fn expect(&self, counter: Counter, total: u64) {
        self.inner.expect(counter, total);
    }

    fn estimate(&self, counter: Counter, total: u64) {
        self.inner.estimate(counter, total);
    }

    fn count(&self, counter: Counter, amount: u64) {
        self.tally.count(counter, amount);
        self.inner.count(counter, amount);
    }

    fn problem(&self, problem: &super::super::monitor::Problem) {
        self.tally.problem(problem);
        self.inner.problem(problem);
    }

    fn event(&self, event: &Event<'_>) {
        self.inner.event(event);
    }
}
