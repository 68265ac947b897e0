//! Copying one snapshot into a session.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::sort::{ByteOrder, Sorter};
use crate::base::{Cancel, Id, RawString};
use crate::format::path;
use crate::format::snapshot::{Header, Identity, Source};
use crate::format::xattr::XattrItem;
use crate::store::blob::Lane;
use crate::store::{Error, KnownSet, Repository, Session};

use super::super::backup::{missing_folder, source_of};
use super::super::catalogue::SnapshotInfo;
use super::super::monitor::{Counter, Monitor, Problem, Severity, message_of};
use super::super::restore::{Job, window};
use super::super::tree::TreeShape;
use super::super::vfs::build::{BuildOptions, Facts, VfsBuilder};
use super::super::vfs::read::{Vfs, Visit};
use super::copied::Copied;
use super::reach::Reach;
use super::rewrite::{Rewriter, copy_blob};

/// What copying a snapshot did.
#[derive(Clone, PartialEq, Debug)]
pub struct CopyReport {
    /// The header for the other side; not stored yet.
    pub header: Header,
    /// Whether a signature was cleared.
    pub unsigned: bool,
}

const BATCH: usize = 32;
const QUEUE: usize = 16;
const REMOTE_WORKERS: usize = 16;

/// Copies everything of a snapshot but its header into a session with keys of its own; returns the header that
/// belongs there. `copied` remembers between snapshots of one store what was copied.
///
/// A source that is damaged fails the copy: a snapshot that arrives is whole.
pub fn copy_into(
    from: &Repository,
    info: &SnapshotInfo,
    to: &dyn Session,
    copied: &Copied,
    memory: u64,
    cancel: &Cancel,
    monitor: &dyn Monitor,
) -> Result<CopyReport, Error> {
    let rewriter = Rewriter::new(from, to, copied, monitor);
    let mut header = info.header.clone();
    let mut sources = Vec::new();
    for source in info.header.sources() {
        let copy = SourceCopy { from, to, rewriter: &rewriter, memory, cancel, monitor };
        sources.push(copy.source(source)?);
    }
    header.sources = Some(sources);
    let unsigned = header.identity.is_signed();
    if unsigned {
        header.identity = Identity::default();
        let message = "its signature covers the old bytes and was cleared".to_owned();
        monitor.problem(&Problem { severity: Severity::Warning, path: RawString::new(), message });
    }
    Ok(CopyReport { header, unsigned })
}

/// Copies a snapshot as it is, header and signature included, to a session under the same keys.
pub(super) fn copy_as_is(
    from: &Repository,
    info: &SnapshotInfo,
    to: &dyn Session,
    seen: &KnownSet,
    cancel: &Cancel,
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    let mut each = |kind, id: Id, lane| {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        monitor.count(Counter::Blobs, 1);
        copy_blob(from, to, kind, &id, lane)
    };
    Reach { repository: from, seen, each: &mut each }.snapshot(&info.header)
}

struct SourceCopy<'a> {
    from: &'a Repository,
    to: &'a dyn Session,
    rewriter: &'a Rewriter<'a>,
    memory: u64,
    cancel: &'a Cancel,
    monitor: &'a dyn Monitor,
}

impl SourceCopy<'_> {
    fn source(&self, source: &Source) -> Result<Source, Error> {
        let vfs = Vfs::open(self.from, source)?;
        let builder = VfsBuilder::new(BuildOptions {
            shape: if self.to.is_ours_alone() { TreeShape::ByContent } else { TreeShape::Chained },
            spills: self.to.spills().clone(),
            memory: usize::try_from(self.memory / 4).unwrap_or(64 << 20),
            missing_folder: missing_folder(),
        });
        self.entries(&vfs, &builder)?;
        for item in vfs.all_xattrs()? {
            let item = item?;
            let object = self.rewriter.object(&item.object, None, None, Lane::Metadata)?;
            builder.add_xattr(&XattrItem { object, ..item })?;
        }
        for item in vfs.errors()? {
            let item = item?;
            builder.add_error(&item.path, &item.message.lossy())?;
        }
        let built = builder.finish(self.to)?;
        Ok(source_of(source.importer.clone(), source.context.clone().unwrap_or_default(), &built))
    }

    fn entries(&self, vfs: &Vfs<'_, Repository>, builder: &VfsBuilder) -> Result<(), Error> {
        let remote = self.from.storage().is_remote();
        let workers = if remote { REMOTE_WORKERS } else { rayon::current_num_threads() };
        let (direct, jobs) = bounded::<Vec<Job>>(QUEUE);
        let sorted = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers)
                .map(|_| {
                    let jobs = jobs.clone();
                    scope.spawn(move || self.work(&jobs, builder))
                })
                .collect();
            drop(jobs);
            let walked = self.walk(vfs, direct, remote);
            super::super::restore::join(threads).and(walked)
        })?;
        let Some(sorted) = sorted else { return Ok(()) };
        let mut sorted = sorted.finish()?;
        while let Some(batch) = window::next(self.from, &mut sorted, self.memory / 4)? {
            super::super::restore::side_by_side(&batch.jobs, workers, &|job| {
                self.one(job, Some(&batch.window), builder)
            })?;
        }
        Ok(())
    }

    fn walk(
        &self,
        vfs: &Vfs<'_, Repository>,
        direct: Sender<Vec<Job>>,
        remote: bool,
    ) -> Result<Option<Sorter<ByteOrder>>, Error> {
        const SORT_MEMORY: usize = 16 << 20;
        let mut sorted = remote.then(|| Sorter::new(ByteOrder, self.from.spills(), SORT_MEMORY));
        let mut batch = Vec::new();
        for visit in vfs.walk(b"/")? {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let child = match visit {
                Ok(Visit::Entry(child)) => child,
                Ok(Visit::Left(_)) => continue,
                Err(error) => return Err(error.source),
            };
            let (path, entry) = (child.path(), child.entry);
            if let Some(sorted) = sorted.as_mut().filter(|_| !entry.object.is_zero()) {
                sorted.push(&window::sort_key(self.from, &entry)?, &window::encode(&path, &entry))?;
                continue;
            }
            batch.push(Job { path, entry, object: None, group: None });
            if batch.len() == BATCH {
                direct.send(std::mem::take(&mut batch)).map_err(|_| Error::Aborted)?;
            }
        }
        let _ = direct.send(batch);
        Ok(sorted)
    }

    fn work(&self, jobs: &Receiver<Vec<Job>>, builder: &VfsBuilder) -> Result<(), Error> {
        for batch in jobs {
            for job in batch {
                self.one(&job, None, builder)?;
            }
        }
        Ok(())
    }

    fn one(
        &self,
        job: &Job,
        window: Option<&crate::store::Window>,
        builder: &VfsBuilder,
    ) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let entry = self.rewriter.entry(&job.entry, job.object.as_ref(), window).inspect_err(|error| {
            self.monitor.problem(&Problem {
                severity: Severity::Error,
                path: job.path.clone(),
                message: message_of(error),
            });
        })?;
        self.monitor.count(Counter::Items, 1);
        debug_assert_eq!(path::parent(&job.path), entry.parent.as_bytes());
        builder.add(&job.path, &entry.encode(), &Facts::of(&entry))
    }
}
