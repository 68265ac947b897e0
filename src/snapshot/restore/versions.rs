//! Restoring versions of objects: the state as of a time, or every version in the order they were made.
//!
//! The current version of an object stands in the tree where its key says, the others and the delete markers in the
//! folder of old versions (FORMAT.md, "Names of S3 objects"). Both are read once and sorted by key and time. As of a
//! time, the newest version of each key that is old enough counts; these make a tree of their own, sorted by path, in
//! which names may collide that do not collide today. Where everything is restored, the versions of one key go to one
//! thread, oldest first, and a delete marker is handed on like a special file.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crossbeam_channel::bounded;

use super::super::backup::missing_folder;
use super::super::monitor::{Counter, Severity, Told};
use super::super::tree::Order;
use super::super::vfs::read::Visit;
use super::job::{Job, Shared};
use super::run::join;
use super::window;
use crate::base::sort::{ByteOrder, Sorted, Sorter};
use crate::base::{RawString, Timestamp};
use crate::connector::{self, VersionsKept};
use crate::format::entry::{Entry, FileInfo};
use crate::format::path::{self, VERSIONS_FOLDER, escape_collision, key_path, unescape_segment};
use crate::format::snapshot::Source;
use crate::store::Error;

/// Which versions of objects are restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Versions {
    /// What was there when the snapshot was made.
    #[default]
    Latest,
    /// What was there at this time, as far as the bucket had kept it.
    AsOf(Timestamp),
    /// Everything, oldest first, deletions included.
    All,
}

/// Memory per sorter, in bytes.
const SORT_MEMORY: usize = 16 << 20;
/// Versions that wait for each thread.
const QUEUE: usize = 16;

/// Returns the path of the folder of old versions, if a source can have one.
pub(super) fn folder_of(source: &Source) -> Option<RawString> {
    (source.importer.kind == "s3").then(|| [b"/", VERSIONS_FOLDER.as_bytes()].concat().into())
}

fn refuse(detail: &str) -> Error {
    connector::Error::new(connector::ErrorKind::Invalid, "restore", "old versions").detail(detail).into()
}

/// Fails where a snapshot holds no old versions.
pub(super) fn check(source: &Source) -> Result<(), Error> {
    let recorded =
        source.context.iter().flatten().any(|fact| fact.key == "s3.versions" && fact.value == "all");
    if recorded {
        return Ok(());
    }
    Err(refuse("the snapshot has none: they are recorded by a backup of a bucket with versions=all"))
}

/// Says why nothing is restored as of a time.
fn nothing_then(time: Timestamp, oldest: Option<Timestamp>) -> String {
    match oldest {
        None => "the snapshot holds no version of an object there".into(),
        Some(oldest) if oldest > time => {
            format!("no object existed at {}; the oldest version is of {}", instant(time), instant(oldest))
        }
        Some(_) => format!("no object existed at {}; all that came before were deleted", instant(time)),
    }
}

/// Formats a time for people: RFC 3339 in UTC.
fn instant(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.secs)
        .map_or_else(|_| format!("second {}", time.secs), |at| at.to_string())
}

/// All versions below a path, by key and time.
pub(super) struct Reader<'a, 'b> {
    shared: &'a Shared<'b>,
    start: &'a RawString,
    /// The segments of keys below the start.
    segments: Vec<Vec<u8>>,
    /// Whether the start is an object, not a folder.
    single: bool,
}

impl<'a, 'b> Reader<'a, 'b> {
    pub(super) fn new(shared: &'a Shared<'b>, start: &'a RawString) -> Result<Self, Error> {
        let names = start.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        let segments =
            names.map(|name| unescape_segment(name).map_or(name.to_vec(), Cow::into_owned)).collect();
        let single = shared.vfs.entry(start)?.is_some_and(|entry| !entry.info.mode.is_dir());
        Ok(Self { shared, start, segments, single })
    }

    /// Returns the path below the destination of a key, if it is asked for.
    fn relative(&self, key: &[u8]) -> Option<RawString> {
        let segments: Vec<&[u8]> = key.split(|&byte| byte == b'/').collect();
        let depth = self.segments.len();
        let fits = segments.len() >= depth && segments.iter().zip(&self.segments).all(|(a, b)| a == b);
        let exact = segments.len() == depth;
        if !fits || (self.single && !exact) {
            return None;
        }
        // An object asked for by its name keeps the name.
        let from = if exact { depth.checked_sub(1)? } else { depth };
        Some(RawString::from(&key_path(&segments[from..].join(&b'/'))[1..]))
    }

    /// Reads everything and sorts it.
    pub(super) fn sorted(&self) -> Result<Sorted<ByteOrder>, Error> {
        let mut sorter = Sorter::new(ByteOrder, self.shared.repository.spills(), SORT_MEMORY);
        let old: RawString = [b"/", VERSIONS_FOLDER.as_bytes()].concat().into();
        if !path::is_clean(self.start) || !self.start.starts_with(old.as_bytes()) {
            self.read(self.start, &old, &mut sorter)?;
        }
        if self.shared.vfs.entry(&old)?.is_some() {
            self.read(&old, b"", &mut sorter)?;
        }
        Ok(sorter.finish()?)
    }

    fn read(&self, start: &[u8], skip: &[u8], sorter: &mut Sorter<ByteOrder>) -> Result<(), Error> {
        let shared = self.shared;
        if shared.vfs.entry(start)?.is_none() {
            // What is asked for may have been deleted since.
            return Ok(());
        }
        let mut walk = shared.vfs.walk(start)?;
        while let Some(visit) = walk.next() {
            shared.check_cancelled()?;
            match visit {
                Ok(Visit::Entry(child)) if child.is_dir() => {
                    if child.path().as_bytes() == skip {
                        walk.skip_folder();
                    }
                }
                Ok(Visit::Entry(child)) => {
                    let Some(key) = child.entry.metadata("s3.key") else { continue };
                    let Some(path) = self.relative(key) else { continue };
                    shared.monitor.count(Counter::Items, 1);
                    sorter.push(&sort_key(key, &child.entry), &window::encode(&path, &child.entry))?;
                }
                Ok(Visit::Left(_)) => {}
                Err(error) => shared.problem(&error.folder.clone(), Severity::Error, Told::of(&error)),
            }
        }
        Ok(())
    }
}

/// Returns what sorts by key, then time, then age among versions of one time.
fn sort_key(key: &[u8], entry: &Entry) -> Vec<u8> {
    let mut out = group_of(key);
    let rank =
        entry.metadata("s3.version-rank").and_then(|rank| std::str::from_utf8(rank).ok()?.parse().ok());
    let age = !rank.unwrap_or(0_u64);
    // Most significant byte first, so that the bytes sort as the numbers do; negative times first.
    let seconds = entry.info.modified.secs.cast_unsigned() ^ 1 << 63;
    out.extend_from_slice(&seconds.swap_bytes().to_le_bytes());
    out.extend_from_slice(&entry.info.modified.nanos.swap_bytes().to_le_bytes());
    out.extend_from_slice(&age.swap_bytes().to_le_bytes());
    out
}

/// The length of what follows the key.
const AGE: usize = 8 + 4 + 8;

/// Returns a key so that no other's begins with it.
fn group_of(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 2 + AGE);
    for &byte in key {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
    out
}

const FOLDER: u8 = 0;
const FILE: u8 = 1;

/// The tree as it was at a time: every path once, folders before what they hold.
pub(super) struct AsOf {
    tree: Sorted<Order>,
    left: bool,
}

impl AsOf {
    /// Chooses the version of each key.
    pub(super) fn new(reader: &Reader<'_, '_>, time: Timestamp) -> Result<Self, Error> {
        let mut versions = reader.sorted()?;
        let mut tree = Sorter::new(Order::Path, reader.shared.repository.spills(), SORT_MEMORY);
        let mut chosen: Option<(Vec<u8>, Job)> = None;
        let (mut last_folder, mut is_empty, mut oldest) = (RawString::new(), true, None::<Timestamp>);
        let mut put = |chosen: Option<(Vec<u8>, Job)>| -> Result<(), Error> {
            let Some((_, job)) = chosen.filter(|(_, job)| job.entry.info.mode.is_regular()) else {
                return Ok(());
            };
            is_empty = false;
            let path = [b"/", job.path.as_bytes()].concat();
            let folder = RawString::from(path::parent(&path));
            if folder != last_folder {
                let mut above: &[u8] = &folder;
                while above != b"/" {
                    tree.push(above, &[FOLDER])?;
                    above = path::parent(above);
                }
                last_folder = folder.clone();
            }
            Ok(tree.push_parts(&path, &[&[FILE], &window::encode(&job.path, &job.entry)])?)
        };
        while let Some((key, record)) = versions.next()? {
            let job = window::decode(record)?;
            let group = &key[..key.len().saturating_sub(AGE)];
            if chosen.as_ref().is_some_and(|(chosen, _)| chosen != group) {
                put(chosen.take())?;
            }
            let modified = job.entry.info.modified;
            oldest = Some(oldest.map_or(modified, |oldest| oldest.min(modified)));
            if modified <= time {
                chosen = Some((group.to_vec(), job));
            }
        }
        put(chosen)?;
        if is_empty {
            reader.shared.problem(reader.start, Severity::Warning, nothing_then(time, oldest));
        }
        let mut tree = tree.finish()?;
        let left = tree.advance()?;
        Ok(Self { tree, left })
    }

    /// Returns the path and the entry of what comes next.
    pub(super) fn next(&mut self) -> Result<Option<Vec<(RawString, Entry)>>, Error> {
        if !self.left {
            return Ok(None);
        }
        let path = self.tree.record().0.to_vec();
        let (mut folder, mut file) = (false, None);
        while self.left && self.tree.record().0 == path {
            let record = self.tree.record().1;
            match record.split_first() {
                Some((&FILE, job)) => file = Some(window::decode(job)?),
                _ => folder = true,
            }
            self.left = self.tree.advance()?;
        }
        let relative = RawString::from(&path[1..]);
        let mut out = Vec::new();
        if folder {
            let name = path::name(&path);
            let info = FileInfo { name: name.into(), ..missing_folder() };
            out.push((relative.clone(), Entry::new(RawString::from(path::parent(&path)), info)));
        }
        if let Some(job) = file {
            // The name is a folder's at that time: the rule is the one of the tree that is recorded.
            let path = if folder {
                let renamed = path::join(path::parent(&path), escape_collision(path::name(&path)));
                RawString::from(&renamed[1..])
            } else {
                relative
            };
            out.push((path, job.entry));
        }
        Ok(Some(out))
    }
}

/// Restores every version: those of one key by one thread, oldest first.
pub(super) fn all(reader: &Reader<'_, '_>, workers: usize) -> Result<(), Error> {
    let shared = reader.shared;
    match shared.exporter.keeps_versions().map_err(Error::Elsewhere)? {
        VersionsKept::All => {}
        VersionsKept::Untold(why) => shared.problem(b"", Severity::Warning, why),
        VersionsKept::Nothing => {
            return Err(refuse(
                "the destination keeps none: that takes a bucket, and versions=all there too",
            ));
        }
    }
    let mut versions = reader.sorted()?;
    std::thread::scope(|scope| {
        let (queues, threads): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (queue, jobs) = bounded::<Job>(QUEUE);
                let thread =
                    scope.spawn(move || jobs.iter().try_for_each(|job| shared.restore(&job, None).map(drop)));
                (queue, thread)
            })
            .unzip();
        let mut send = || -> Result<(), Error> {
            while let Some((key, record)) = versions.next()? {
                shared.check_cancelled()?;
                let mut hasher = DefaultHasher::new();
                key[..key.len().saturating_sub(AGE)].hash(&mut hasher);
                let number = usize::try_from(hasher.finish() % queues.len() as u64).unwrap_or(0);
                queues[number].send(window::decode(record)?).map_err(|_| Error::Aborted)?;
            }
            Ok(())
        };
        let sent = send();
        drop(queues);
        // What stopped a thread is the reason; that nothing could be sent to it any more is not.
        join(threads).and(sent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{CustomMetadata, Mode};

    #[test]
    fn versions_sort_by_key_then_age() {
        let key_of = |key: &str, secs: i64, rank: u64| {
            let mut entry = Entry::new("/", FileInfo::new("x", Mode::regular(0o600)));
            entry.info.modified = Timestamp::from_secs(secs);
            entry
                .metadata
                .push(CustomMetadata { key: "s3.version-rank".into(), value: rank.to_string().into() });
            sort_key(key.as_bytes(), &entry)
        };
        let sorted = [
            key_of("a", -5, 0),
            key_of("a", 0, 0),
            key_of("a", 7, 2),
            key_of("a", 7, 1),
            key_of("a", 7, 0),
            key_of("a\0", 1, 0),
            key_of("a\0b", 1, 0),
            key_of("a\u{1}", 0, 0),
            key_of("ab", 0, 0),
        ];
        assert!(sorted.is_sorted_by(|a, b| a < b));
        assert_eq!(sorted[0].len() - AGE, group_of(b"a").len());
    }
}
