//! A restore from the walk to the last folder.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::base::sort::{ByteOrder, Sorted, Sorter};
use crate::base::spill::SpillWriter;
use crate::base::{Cancel, RawString, Timestamp};
use crate::connector::{Exporter, Item, Work};
use crate::format::entry::Entry;
use crate::format::path;
use crate::store::{Error, Repository};

use super::super::catalogue::SnapshotInfo;
use super::super::monitor::{Counter, Monitor, Severity, Told, message_of};
use super::super::vfs::read::{Vfs, Visit};
use super::job::{Counts, Job, Shared};
use super::journal::Journal;
use super::links::{self, Groups};
use super::queue::{Feed, with_workers};
use super::versions::{self, AsOf, Reader, Versions};
use super::window;

/// How a restore is done.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Memory for contents and sorting, in bytes.
    pub memory: u64,
    /// The cache folder, for a journal from which an interrupted restore goes on; `None` does without.
    pub cache_dir: Option<PathBuf>,
    /// Which versions of objects are restored.
    pub versions: Versions,
    /// Ends the run early when set.
    pub cancel: Cancel,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { memory: 256 << 20, versions: Versions::Latest, cache_dir: None, cancel: Cancel::new() }
    }
}

/// What a restore did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RestoreReport {
    /// Files restored, hard links included.
    pub file_count: u64,
    /// Folders created or taken.
    pub folder_count: u64,
    /// Symbolic links and special files restored.
    pub other_count: u64,
    /// Files that stood there already.
    pub equal_count: u64,
    /// Files left out on request.
    pub skipped_count: u64,
    /// Things restored, but not all of them.
    pub partly_count: u64,
    /// Things the destination cannot hold.
    pub unsupported_count: u64,
    /// Things that failed, those the destination cannot hold included.
    pub error_count: u64,
    /// Bytes of content written.
    pub restored_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Memory per sorter, in bytes.
const SORT_MEMORY: usize = 16 << 20;

/// Says how much there is to restore, where the snapshot says it. Files that stand at the destination already need not
/// be written, so this is a guess.
fn expect(vfs: &Vfs<'_, Repository>, start: &RawString, versions: Versions, monitor: &dyn Monitor) {
    if versions != Versions::Latest {
        return;
    }
    // What cannot be read here is reported where it is needed.
    if let Ok(Some(summary)) = vfs.summary(start) {
        monitor.estimate(Counter::Bytes, summary.total_size());
    } else if let Ok(Some(entry)) = vfs.entry(start)
        && entry.info.mode.is_regular()
    {
        monitor.estimate(Counter::Bytes, u64::try_from(entry.info.size).unwrap_or(0));
    }
}

/// Restores what lies below `start` (the backed-up root when `None`) to the exporter's root; a path that is no
/// folder is restored under its name.
pub fn restore(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    start: Option<&[u8]>,
    exporter: &dyn Exporter,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestoreReport, Error> {
    let begun = Instant::now();
    let source = snapshot
        .header
        .source()
        .ok_or_else(|| Error::malformed(&format!("snapshot {}", snapshot.id), "it has no source"))?;
    let vfs = Vfs::open(repository, source)?;
    let start: RawString = match start {
        Some(start) => start.into(),
        None => source.importer.directory.clone(),
    };
    monitor.phase("restore");
    expect(&vfs, &start, options.versions, monitor);
    // Of several versions of an object only the last can be seen at the destination.
    let resumable = options.versions != Versions::All;
    if resumable {
        exporter.survey(repository.spills(), source.summary.total_files()).map_err(Error::Elsewhere)?;
    }
    let journal = options.cache_dir.as_deref().filter(|_| resumable);
    let journal = journal
        .and_then(|cache| Journal::open(cache, repository, snapshot, (&start, options.versions), exporter));
    let shared = Shared {
        repository,
        vfs: &vfs,
        exporter,
        monitor,
        cancel: &options.cancel,
        counts: Counts::default(),
        journal,
    };
    if options.versions != Versions::Latest {
        versions::check(source)?;
    }
    let old = versions::folder_of(source);
    let run = Run { shared: &shared, start: &start, memory: options.memory, versions: options.versions, old };
    match options.versions {
        Versions::All => versions::all(&Reader::new(&shared, &start)?, run.workers())?,
        Versions::Latest | Versions::AsOf(_) => run.all()?,
    }
    exporter.finish().map_err(Error::Elsewhere)?;
    for fault in vfs.take_faults() {
        shared.monitor.problem(&super::super::monitor::Problem {
            severity: Severity::Warning,
            path: fault.path,
            message: format!("found elsewhere: {}", message_of(&fault.error)),
            kind: None,
        });
    }
    let done = report(&shared.counts, begun.elapsed());
    if let Some(journal) = &shared.journal {
        journal.finish(done.error_count == 0);
    }
    Ok(done)
}

fn report(counts: &Counts, duration: Duration) -> RestoreReport {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    RestoreReport {
        file_count: get(&counts.files),
        folder_count: get(&counts.folders),
        other_count: get(&counts.others),
        equal_count: get(&counts.equal),
        skipped_count: get(&counts.skipped),
        partly_count: get(&counts.partly),
        unsupported_count: get(&counts.unsupported),
        error_count: get(&counts.errors),
        restored_bytes: get(&counts.bytes),
        duration,
    }
}

struct Run<'a> {
    shared: &'a Shared<'a>,
    start: &'a RawString,
    memory: u64,
    versions: Versions,
    /// The folder of old versions, if there can be one.
    old: Option<RawString>,
}

/// Where the walk puts what it finds.
struct Found {
    direct: Feed<Job>,
    /// Files of remote stores, by place.
    sorted: Option<Sorter<ByteOrder>>,
    /// Files with several links, by (device, inode).
    linked: Sorter<ByteOrder>,
    folders: SpillWriter,
}

impl Run<'_> {
    fn workers(&self) -> usize {
        match self.shared.exporter.work() {
            Work::Local => rayon::current_num_threads(),
            Work::Waiting(count) => count.max(1),
        }
    }

    fn all(&self) -> Result<(), Error> {
        let (shared, workers) = (self.shared, self.workers());
        let none = Groups::default();
        let (mut sorted, linked, folders) =
            with_workers(workers, &|job| none.restore(shared, job, None), |direct| self.walk(direct))?;
        let mut linked = linked.finish()?;
        let groups = match &mut sorted {
            Some(sorted) => self.sort_firsts(&mut linked, sorted)?,
            None => self.restore_firsts(&mut linked)?,
        };
        if let Some(sorted) = sorted {
            self.restore_windows(sorted.finish()?, &groups)?;
        }
        with_workers(workers, &|member| links::link(shared, member), |feed| {
            links::others(shared, &mut linked, &groups, feed)
        })?;
        self.finish_folders(folders)
    }

    /// Puts the first names of files with several links among the files of a remote store.
    fn sort_firsts(
        &self,
        linked: &mut Sorted<ByteOrder>,
        sorted: &mut Sorter<ByteOrder>,
    ) -> Result<Groups, Error> {
        let shared = self.shared;
        let groups = Groups::new(linked.records());
        links::firsts(shared, linked, &mut |job| {
            let Some(group) = job.group else { return Ok(()) };
            if shared.stands(&job.path, &job.entry) {
                groups.settle(group);
                return Ok(());
            }
            let key = window::first_key(shared.repository, &job.entry, group)?;
            Ok(sorted.push(&key, &window::encode(&job.path, &job.entry))?)
        })?;
        Ok(groups)
    }

    /// Restores the first names of files with several links from a local store.
    fn restore_firsts(&self, linked: &mut Sorted<ByteOrder>) -> Result<Groups, Error> {
        let shared = self.shared;
        let groups = Groups::new(linked.records());
        with_workers(self.workers(), &|job| groups.restore(shared, job, None), |mut feed| {
            links::firsts(shared, linked, &mut |job| feed.push(job))?;
            feed.finish()
        })?;
        Ok(groups)
    }

    /// Restores what was sorted by place, window by window.
    fn restore_windows(&self, mut sorted: Sorted<ByteOrder>, groups: &Groups) -> Result<(), Error> {
        let shared = self.shared;
        // Two windows at a time: one is fetched while the other is restored.
        let (ready, windows) = bounded::<window::Batch>(0);
        std::thread::scope(|scope| {
            let fetcher = scope.spawn(move || -> Result<(), Error> {
                while let Some(batch) = window::next(shared.repository, &mut sorted, self.memory / 4)? {
                    if ready.send(batch).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            let mut result = Ok(());
            for batch in &windows {
                let each = |job: &Job| groups.restore(shared, job, Some(&batch.window));
                result = side_by_side(&batch.jobs, self.workers(), &each);
                if result.is_err() {
                    break;
                }
            }
            drop(windows);
            let fetched = fetcher.join().unwrap_or(Err(Error::Aborted));
            result.and(fetched)
        })
    }

    /// Walks the snapshot: creates folders, hands out everything else.
    #[expect(clippy::type_complexity, reason = "three kinds of leftovers, taken apart at once")]
    fn walk(
        &self,
        direct: Feed<Job>,
    ) -> Result<(Option<Sorter<ByteOrder>>, Sorter<ByteOrder>, SpillWriter), Error> {
        let shared = self.shared;
        let spills = shared.repository.spills();
        let remote = shared.repository.storage().is_remote();
        let mut found = Found {
            direct,
            sorted: remote.then(|| Sorter::new(ByteOrder, spills, SORT_MEMORY)),
            linked: Sorter::new(ByteOrder, spills, SORT_MEMORY),
            folders: spills.create()?,
        };
        match self.versions {
            Versions::AsOf(time) => self.walk_as_of(&mut found, time)?,
            Versions::Latest | Versions::All => self.walk_tree(&mut found)?,
        }
        let Found { direct, sorted, linked, folders } = found;
        direct.finish()?;
        Ok((sorted, linked, folders))
    }

    /// Takes the tree as it was at a time.
    fn walk_as_of(&self, found: &mut Found, time: Timestamp) -> Result<(), Error> {
        let shared = self.shared;
        if let Some(root) = shared.vfs.entry(self.start)?.filter(|entry| entry.info.mode.is_dir()) {
            self.take(found, RawString::new(), root)?;
        }
        let mut tree = AsOf::new(&Reader::new(shared, self.start)?, time)?;
        while let Some(items) = tree.next()? {
            shared.check_cancelled()?;
            for (path, entry) in items {
                self.take(found, path, entry)?;
            }
        }
        Ok(())
    }

    /// Takes what lies below the start. Old versions are left out unless the start is among them.
    fn walk_tree(&self, found: &mut Found) -> Result<(), Error> {
        let shared = self.shared;
        let mut single = true;
        let mut walk = shared.vfs.walk(self.start)?;
        while let Some(visit) = walk.next() {
            shared.check_cancelled()?;
            match visit {
                Ok(Visit::Entry(child))
                    if !single && child.is_dir() && self.old.as_ref() == Some(&child.path()) =>
                {
                    walk.skip_folder();
                }
                Ok(Visit::Entry(child)) => {
                    if single && !child.is_dir() {
                        // A single file keeps its name.
                        let name = RawString::from(path::name(self.start));
                        self.take(found, name, child.entry)?;
                    } else {
                        let path = self.relative(&child.path());
                        self.take(found, path, child.entry)?;
                    }
                    single = false;
                }
                Ok(Visit::Left(_)) => {}
                Err(error) => {
                    shared.problem(&error.folder.clone(), Severity::Error, Told::of(&error));
                }
            }
        }
        Ok(())
    }

    fn relative(&self, path: &[u8]) -> RawString {
        let rest = match self.start.as_bytes() {
            b"/" => path,
            start => path.strip_prefix(start).unwrap_or(path),
        };
        RawString::from(rest.strip_prefix(b"/").unwrap_or(rest))
    }

    fn take(&self, found: &mut Found, path: RawString, entry: Entry) -> Result<(), Error> {
        let shared = self.shared;
        shared.monitor.count(Counter::Items, 1);
        if entry.info.mode.is_dir() {
            let item = Item { path: &path, entry: &entry, xattrs: &[] };
            if path.is_empty() {
                self.go_on(&item);
            }
            let outcome = shared.exporter.folder(&item);
            if path.is_empty() && outcome.is_ok() {
                shared.journal(&item);
            }
            if outcome.is_ok() {
                found.folders.push(&[&window::encode(&path, &entry)])?;
            }
            shared.monitor.count(Counter::Folders, 1);
            shared.note(&entry, &shared.counts.folders, outcome);
            return Ok(());
        }
        if entry.info.mode.is_regular() && entry.info.links > 1 && shared.exporter.links() {
            let key = links::sort_key(&path, &entry);
            found.linked.push(&key, &window::encode(&path, &entry))?;
            return Ok(());
        }
        if let Some(sorted) = found.sorted.as_mut().filter(|_| entry.info.mode.is_regular()) {
            if shared.stands(&path, &entry) {
                return Ok(());
            }
            let key = window::sort_key(shared.repository, &entry)?;
            sorted.push(&key, &window::encode(&path, &entry))?;
            return Ok(());
        }
        found.direct.push(Job { path, entry, object: None, group: None })
    }

    /// Tells the exporter that an interrupted run had begun here.
    fn go_on(&self, root: &Item<'_>) {
        let receipt = self.shared.journal.as_ref().and_then(|journal| journal.receipt(root.path, root.entry));
        if receipt.is_some() {
            let _ = self.shared.exporter.stands(root, receipt);
        }
    }

    /// Sets what folders' contents disturbed, children first: backwards through the order of the walk.
    fn finish_folders(&self, folders: SpillWriter) -> Result<(), Error> {
        let shared = self.shared;
        let mut records = folders.finish()?.backward();
        while let Some(record) = records.next()? {
            shared.check_cancelled()?;
            let job = window::decode(record)?;
            let xattrs = shared.xattrs(&job.entry);
            let item = Item { path: &job.path, entry: &job.entry, xattrs: &xattrs };
            let done = AtomicU64::new(0);
            shared.note(&job.entry, &done, shared.exporter.finish_folder(&item));
        }
        Ok(())
    }
}

/// Does jobs on several threads.
pub(in super::super) fn side_by_side(
    jobs: &[Job],
    workers: usize,
    each: &(dyn Fn(&Job) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.min(jobs.len()))
            .map(|_| {
                scope.spawn(|| -> Result<(), Error> {
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        each(job)?;
                    }
                    Ok(())
                })
            })
            .collect();
        join(threads)
    })
}

/// Waits for threads; the first error counts.
pub(in super::super) fn join(
    threads: Vec<std::thread::ScopedJoinHandle<'_, Result<(), Error>>>,
) -> Result<(), Error> {
    let mut result = Ok(());
    for thread in threads {
        let ended = thread.join().unwrap_or(Err(Error::Aborted));
        result = result.and(ended);
    }
    result
}
