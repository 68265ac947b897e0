//! Restoring a tree to a server.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::claims::Claims;
use super::{names, replace};
use crate::base::{Printable, RawString, Timestamp};
use crate::connector::{ContentSource, Error, ErrorKind, Exporter, Item, Outcome, Receipt, Result, Work};
use crate::connectors::existing::Existing;
use crate::connectors::{objects, place};
use crate::format::entry::Mode;

/// What stands at a path. A link is a link.
#[derive(Clone, Copy, Debug)]
pub(in crate::connectors) struct Standing {
    /// Its type, and its permissions where the server tells them.
    pub(in crate::connectors) mode: Mode,
    /// Whether the permissions are known.
    pub(in crate::connectors) permissions: bool,
    /// Its length in bytes.
    pub(in crate::connectors) size: u64,
    /// Its time in whole seconds, where the server tells it that well.
    pub(in crate::connectors) modified: Option<i64>,
}

/// What a protocol can do to a server's files. Paths are whole.
pub(in crate::connectors) trait Target: fmt::Debug + Send + Sync {
    /// Returns the location for people.
    fn describe(&self) -> String;

    /// Opens the folder that everything goes below, making it and those above if they are missing. Returns whether it
    /// was missing or empty.
    fn open_root(&self, path: &[u8]) -> Result<bool>;

    /// Says why a path cannot be used at all.
    fn refuses(&self, path: &[u8]) -> Option<String>;

    /// Looks at a path; `None` where nothing is.
    fn look(&self, path: &[u8]) -> Result<Option<Standing>>;

    /// The same, with the time of a file if there is any way to learn it.
    fn look_closely(&self, path: &[u8]) -> Result<Option<Standing>> {
        self.look(path)
    }

    /// Returns the names in a folder.
    fn names(&self, folder: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Makes a folder that only its owner may enter. Returns false where something stands there.
    fn make_folder(&self, path: &[u8]) -> Result<bool>;

    /// Writes a whole file with its metadata under a name that is not in use; leaves nothing behind when it fails.
    /// Returns what of the metadata is missing.
    fn write(&self, path: &[u8], item: &Item<'_>, content: &dyn ContentSource) -> Result<Vec<String>>;

    /// Makes a symbolic link with its metadata. `None` where there are no links.
    fn make_link(&self, path: &[u8], item: &Item<'_>) -> Result<Option<Vec<String>>>;

    /// Returns whether a file can have several names.
    fn has_hard_links(&self) -> bool;

    /// Gives a file a second name.
    fn hard_link(&self, first: &[u8], path: &[u8]) -> Result<()>;

    /// Renames. Without `replace` it fails with `Exists` when something has the name.
    fn rename(&self, from: &[u8], to: &[u8], replace: bool) -> Result<()>;

    /// Removes a file or link.
    fn remove(&self, path: &[u8]) -> Result<()>;

    /// Sets a folder's metadata. Returns what is missing.
    fn finish_folder(&self, path: &[u8], item: &Item<'_>) -> Result<Vec<String>>;

    /// Returns how many threads may wait for the server with profit.
    fn workers(&self) -> usize;

    /// Returns whether everything, the password included, can be read on the way.
    fn is_plain(&self) -> bool {
        false
    }
}

/// A folder on a server as a destination.
#[derive(Debug)]
pub struct TreeExporter {
    target: Box<dyn Target>,
    root: Vec<u8>,
    existing: Existing,
    skip_permissions: bool,
    claims: Claims,
    counter: AtomicU64,
    /// Whether the root was made, or empty: else its own metadata is not touched.
    fresh: AtomicBool,
    /// The number in this restore's temporary names, odd if it began with a fresh root: its receipt.
    number: u64,
    prefix: String,
    /// What the temporary names of the restore that this one goes on with begin with.
    leftovers: OnceLock<String>,
}

impl TreeExporter {
    /// Opens the root, making it if it is missing.
    pub(in crate::connectors) fn open(
        target: impl Target + 'static,
        root: Vec<u8>,
        existing: Existing,
        skip_permissions: bool,
    ) -> Result<Self> {
        let fresh = target.open_root(&root)?;
        let random = getrandom::u64()
            .map_err(|error| Error::io("open", target.describe(), std::io::Error::from(error)))?;
        let number = random & !1 | u64::from(fresh);
        Ok(Self {
            target: Box::new(target),
            root,
            existing,
            skip_permissions,
            claims: Claims::default(),
            counter: AtomicU64::new(0),
            fresh: AtomicBool::new(fresh),
            number,
            prefix: place::restore_prefix(number),
            leftovers: OnceLock::new(),
        })
    }

    /// Returns whether everything, the password included, can be read on the way.
    pub fn is_plain(&self) -> bool {
        self.target.is_plain()
    }

    fn path(&self, item: &RawString) -> Vec<u8> {
        if item.is_empty() { self.root.clone() } else { names::join(&self.root, item) }
    }

    fn temporary(&self, path: &[u8]) -> Vec<u8> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        names::join(names::parent(path).0, format!("{}-{number}.tmp", self.prefix).as_bytes())
    }

    /// Looks at every folder on the way to an item, and refuses links: they would lead out of the root.
    fn guard(&self, item: &RawString) -> Result<()> {
        let ends = item.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends {
            let path = names::join(&self.root, &item[..end]);
            if self.claims.is_refused(&path) {
                return Err(Error::new(ErrorKind::Exists, "enter", shown(&path)).detail(
                    "this folder was not restored: the server does not tell its name from another's",
                ));
            }
            if self.claims.is_trusted(&path) {
                continue;
            }
            match self.target.look(&path)? {
                Some(there) if there.mode.is_dir() => self.claims.trust(&path),
                Some(there) => {
                    let what = if there.mode.is_symlink() { "a symbolic link" } else { "a file" };
                    return Err(Error::new(ErrorKind::Exists, "enter", shown(&path))
                        .detail(format!("{what} stands where a folder should be")));
                }
                None => return Err(Error::new(ErrorKind::NotFound, "enter", shown(&path))),
            }
        }
        Ok(())
    }

    /// Applies the policy to what has an item's name, before any work is done.
    fn look(&self, path: &[u8]) -> Result<Option<Outcome>> {
        if self.existing == Existing::Replace || self.target.look(path)?.is_none() {
            return Ok(None);
        }
        self.settle(path).map(Some)
    }

    fn settle(&self, path: &[u8]) -> Result<Outcome> {
        match self.existing {
            Existing::Skip => Ok(Outcome::Skipped),
            _ => Err(exists(path)),
        }
    }

    /// Notes a path, and fails where the server does not tell it from that of another item of this restore.
    fn claim(&self, path: &[u8]) -> Result<()> {
        if self.claims.claim(path) { self.distinct(path) } else { Ok(()) }
    }

    /// Fails where what stands at a path has another name.
    fn distinct(&self, path: &[u8]) -> Result<()> {
        if self.target.look(path)?.is_none() {
            return Ok(());
        }
        let (folder, name) = names::parent(path);
        if self.target.names(folder)?.iter().any(|there| there == name) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Exists, "restore", shown(path))
            .detail("another entry was restored here: the server does not tell their names apart"))
    }

    /// Gives what was made under a temporary name its own.
    fn place(&self, temporary: &[u8], path: &[u8], missing: Vec<String>) -> Result<Outcome> {
        let replace = self.existing == Existing::Replace;
        // Another thread may have put the other one in place since this one was claimed.
        let turn = self.claims.turn(path);
        let distinct = if turn.is_some() { self.distinct(path) } else { Ok(()) };
        let Err(error) = distinct.and_then(|()| self.target.rename(temporary, path, replace)) else {
            return Ok(if missing.is_empty() { Outcome::Restored } else { Outcome::Partly(missing) });
        };
        // Its name says that it is temporary; nothing is to be done about one that stays.
        let _ = self.target.remove(temporary);
        match self.target.look(path) {
            Ok(Some(there)) if replace && there.mode.is_dir() => {
                Err(Error::new(ErrorKind::Exists, "replace", shown(path))
                    .detail("a folder has this name, and folders are never replaced"))
            }
            Ok(Some(_)) if !replace => self.settle(path),
            _ => Err(error),
        }
    }

    /// Returns what the protocol has no place for, whatever it is.
    fn homeless(&self, item: &Item<'_>) -> Vec<String> {
        let kept = |name: &RawString| !self.skip_permissions || name.starts_with(b"user.");
        let xattrs = item.xattrs.iter().filter(|xattr| kept(&xattr.name));
        let mut out: Vec<_> =
            xattrs.map(|xattr| format!("extended attribute {}", xattr.name.lossy())).collect();
        if item.entry.metadata.iter().any(|metadata| metadata.key.starts_with(b"s3.")) {
            out.push("S3 metadata".into());
        }
        out
    }

    fn stands_equal(&self, item: &Item<'_>, there: &Standing) -> bool {
        let info = &item.entry.info;
        there.mode.is_regular()
            && u64::try_from(info.size) == Ok(there.size)
            && there.modified == Some(info.modified.secs)
            && (self.skip_permissions || !there.permissions || there.mode == info.mode)
    }

    /// Removes the temporary files that the restore this one goes on with left in a folder.
    fn sweep(&self, folder: &[u8]) {
        let Some(prefix) = self.leftovers.get() else { return };
        for name in self.target.names(folder).unwrap_or_default() {
            if place::is_of_restore(&name, prefix) {
                let _ = self.target.remove(&names::join(folder, &name));
            }
        }
    }
}

impl Exporter for TreeExporter {
    fn location(&self) -> String {
        self.target.describe()
    }

    fn folder(&self, item: &Item<'_>) -> Result<Outcome> {
        if item.path.is_empty() {
            let fresh = self.fresh.load(Ordering::Relaxed);
            return Ok(if fresh { Outcome::Restored } else { Outcome::Equal });
        }
        let path = self.path(item.path);
        if let Some(why) = self.target.refuses(&path) {
            return Ok(Outcome::Unsupported(why));
        }
        self.guard(item.path)?;
        // Below a folder that is another one by its real name everything would overwrite what is there.
        self.claim(&path).inspect_err(|error| {
            if error.kind == ErrorKind::Exists {
                self.claims.refuse(&path);
            }
        })?;
        let mut missing = Vec::new();
        if !self.target.make_folder(&path)? {
            let there = self.target.look(&path)?;
            if there.is_some_and(|there| there.mode.is_dir()) {
                self.claims.trust(&path);
                self.sweep(&path);
                return Ok(Outcome::Equal);
            }
            if self.existing != Existing::Replace {
                return self.settle(&path);
            }
            missing.extend(replace::by_folder(&*self.target, &path)?);
        }
        self.claims.made(&path);
        self.claims.trust(&path);
        Ok(if missing.is_empty() { Outcome::Restored } else { Outcome::Partly(missing) })
    }

    fn file(&self, item: &Item<'_>, content: &dyn ContentSource) -> Result<Outcome> {
        let (entry, without_set_id) = objects::as_file(item.entry);
        let mut missing = self.homeless(item);
        let item = &Item { entry: &entry, ..*item };
        let path = self.path(item.path);
        if let Some(why) = self.target.refuses(&path) {
            return Ok(Outcome::Unsupported(why));
        }
        self.guard(item.path)?;
        if let Some(settled) = self.look(&path)? {
            return Ok(settled);
        }
        self.claim(&path)?;
        let temporary = self.temporary(&path);
        missing.extend(self.target.write(&temporary, item, content)?);
        if without_set_id && !self.skip_permissions {
            missing.push("set-id bits that only user metadata asks for".into());
        }
        self.place(&temporary, &path, missing)
    }

    fn hard_link(&self, item: &Item<'_>, first: &RawString) -> Result<Outcome> {
        let (from, path) = (self.path(first), self.path(item.path));
        if let Some(why) = self.target.refuses(&path).or_else(|| self.target.refuses(&from)) {
            return Ok(Outcome::Unsupported(why));
        }
        self.guard(first)?;
        self.guard(item.path)?;
        if !self.target.look(&from)?.is_some_and(|there| there.mode.is_regular()) {
            return Err(Error::new(ErrorKind::Changed, "link to", shown(&from))
                .detail("it is no longer a regular file"));
        }
        if let Some(settled) = self.look(&path)? {
            return Ok(settled);
        }
        self.claim(&path)?;
        let temporary = self.temporary(&path);
        self.target.hard_link(&from, &temporary)?;
        let outcome = self.place(&temporary, &path, Vec::new());
        if outcome.is_ok() && self.existing == Existing::Replace {
            // Renaming one name of a file over another does nothing, and both stay.
            let _ = self.target.remove(&temporary);
        }
        outcome
    }

    fn special(&self, item: &Item<'_>) -> Result<Outcome> {
        let mode = item.entry.info.mode;
        if !mode.is_symlink() {
            return Ok(Outcome::Unsupported(
                if mode.is_socket() {
                    "a socket exists only while its program runs"
                } else {
                    "pipes and devices cannot be made over this protocol"
                }
                .into(),
            ));
        }
        if item.entry.symlink_target.is_empty() {
            return Ok(Outcome::Unsupported("the snapshot does not say where the link leads".into()));
        }
        let path = self.path(item.path);
        if let Some(why) = self.target.refuses(&path) {
            return Ok(Outcome::Unsupported(why));
        }
        self.guard(item.path)?;
        if let Some(settled) = self.look(&path)? {
            return Ok(settled);
        }
        self.claim(&path)?;
        let temporary = self.temporary(&path);
        match self.target.make_link(&temporary, item)? {
            None => Ok(Outcome::Unsupported("symbolic links cannot be made over this protocol".into())),
            Some(missing) => {
                let missing = self.homeless(item).into_iter().chain(missing).collect();
                self.place(&temporary, &path, missing)
            }
        }
    }

    /// Sets a folder's metadata, unless it stood there before and existing things are kept. The root's own is set
    /// only if it was made or empty.
    fn finish_folder(&self, item: &Item<'_>) -> Result<Outcome> {
        let path = self.path(item.path);
        if item.path.is_empty() {
            if !self.fresh.load(Ordering::Relaxed) {
                return Ok(Outcome::Skipped);
            }
        } else {
            if self.target.refuses(&path).is_some() {
                return Ok(Outcome::Skipped);
            }
            self.guard(item.path)?;
            let own = self.claims.take_made(&path);
            if self.existing != Existing::Replace && !own {
                return Ok(Outcome::Skipped);
            }
            // What follows a link must not meet one.
            if !self.target.look(&path)?.is_some_and(|there| there.mode.is_dir()) {
                return Err(Error::new(ErrorKind::Changed, "set the metadata of", shown(&path))
                    .detail("it is no longer a folder"));
            }
        }
        let mut missing = self.homeless(item);
        missing.extend(self.target.finish_folder(&path, item)?);
        Ok(if missing.is_empty() { Outcome::Restored } else { Outcome::Partly(missing) })
    }

    /// What an interrupted restore noted stands if its size, time and mode are right.
    fn stands(&self, item: &Item<'_>, receipt: Option<Receipt>) -> Result<bool> {
        let Some(receipt) = receipt else { return Ok(false) };
        if item.path.is_empty() {
            self.fresh.fetch_or(receipt & 1 != 0, Ordering::Relaxed);
            self.leftovers.get_or_init(|| place::restore_prefix(receipt));
            self.sweep(&self.root);
            return Ok(false);
        }
        let path = self.path(item.path);
        if self.target.refuses(&path).is_some() || self.guard(item.path).is_err() {
            return Ok(false);
        }
        let stands = self.target.look_closely(&path)?.is_some_and(|there| self.stands_equal(item, &there));
        if stands {
            self.claim(&path)?;
        }
        Ok(stands)
    }

    fn receipt(&self, _item: &Item<'_>) -> Receipt {
        self.number
    }

    fn links(&self) -> bool {
        self.target.has_hard_links()
    }

    fn work(&self) -> Work {
        Work::Waiting(self.target.workers())
    }
}

fn shown(path: &[u8]) -> String {
    Printable::new(path).to_string()
}

fn exists(path: &[u8]) -> Error {
    Error::new(ErrorKind::Exists, "restore", shown(path)).detail("something has this name already")
}

/// Returns the whole seconds of a time that a protocol of unsigned 32 bits can say; `None` for "no time" and what lies
/// outside.
pub(in crate::connectors) fn seconds(time: Timestamp) -> Option<u32> {
    u32::try_from(time.secs).ok()
}
