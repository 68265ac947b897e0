//! The exporter itself.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, fstat, linkat, mkdirat, openat, readlinkat, renameat,
    renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::leftovers;
use super::metadata::{self, Handle, Rights};
use super::options::{Existing, FsExporterBuilder};
use super::sidecar::{self, Sidecar};
use super::tree::{MAX_NAME, Place, Tree};
use super::write;
use crate::base::{At, RawString};
use crate::connector::{ContentSource, Error, ErrorKind, Exporter, Item, Outcome, Receipt, Result, Work};
use crate::connectors::fs::stat::Facts;
use crate::connectors::{objects, place};
use crate::format::entry;

const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

/// What this restore made, by device and inode: to recognise names that the file system does not tell apart.
#[derive(Debug, Default)]
struct Made {
    files: HashSet<u64>,
    /// With a hash of the path that made it.
    folders: HashMap<u64, u64>,
}

/// A folder of the local file system as a destination.
#[derive(Debug)]
pub struct FsExporter {
    path: PathBuf,
    options: FsExporterBuilder,
    tree: Tree,
    rights: Rights,
    made: Mutex<Made>,
    sidecar: Sidecar,
    /// What this restore's temporary names begin with.
    prefix: String,
    counter: AtomicU64,
    /// Whether the root was made, or empty, by this restore or the one it goes on with: else its own metadata is not
    /// touched.
    fresh: AtomicBool,
    /// The number in this restore's temporary names, odd if it began with a fresh root: its receipt.
    number: u64,
    /// What the temporary names of the restore that this one goes on with begin with.
    leftovers: OnceLock<String>,
}

/// Something made under a temporary name, removed unless it gets its own.
struct Temporary<'a> {
    folder: &'a OwnedFd,
    name: OsString,
    armed: bool,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.armed {
            // Whatever happens to it now, its name says that it is temporary.
            let _ = unlinkat(self.folder, &*self.name, AtFlags::empty());
        }
    }
}

impl FsExporter {
    /// Begins to describe a destination.
    pub fn builder(path: impl Into<PathBuf>) -> FsExporterBuilder {
        FsExporterBuilder::new(path.into())
    }

    pub(super) fn open(path: PathBuf, options: FsExporterBuilder, fresh: bool) -> Result<Self> {
        let tree = Tree::open(&path).at("open", &path)?;
        let digits = place::random_digits().at("open", &path)?;
        let number = u64::from_str_radix(&digits, 16).expect("16 hexadecimal digits");
        // The last bit tells whoever goes on with this restore whether the root is its own.
        let number = number & !1 | u64::from(fresh);
        Ok(Self {
            rights: Rights::of_process(options.skip_permissions),
            prefix: place::restore_prefix(number),
            path,
            options,
            tree,
            made: Mutex::default(),
            sidecar: Sidecar::default(),
            counter: AtomicU64::new(0),
            fresh: AtomicBool::new(fresh),
            number,
            leftovers: OnceLock::new(),
        })
    }

    #[cfg(test)]
    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn temporary<'a>(&self, place: &'a Place<'_>) -> Temporary<'a> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}.tmp", self.prefix).into();
        Temporary { folder: &place.folder, name, armed: false }
    }

    /// Applies the policy to what has an item's name, before any work is done. Returns an outcome that settles the
    /// item.
    fn look(&self, item: &Item<'_>, place: &Place<'_>, size: Option<u64>) -> Result<Option<Outcome>> {
        if self.options.existing == Existing::Replace && !self.options.equal {
            return Ok(None);
        }
        let stat = match statat(&*place.folder, place.name, NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed("look at", item.path, error)),
        };
        if self.made().files.contains(&key_of(&stat)) {
            return Err(collision(item.path));
        }
        if self.options.equal && self.is_equal(item, place, &stat, size) {
            self.made().files.insert(key_of(&stat));
            return Ok(Some(Outcome::Equal));
        }
        match self.options.existing {
            Existing::Replace => Ok(None),
            Existing::Skip => Ok(Some(Outcome::Skipped)),
            Existing::Fail => Err(exists(item.path)),
        }
    }

    fn is_equal(&self, item: &Item<'_>, place: &Place<'_>, stat: &Stat, size: Option<u64>) -> bool {
        let info = &item.entry.info;
        let facts = Facts::from(stat);
        let there = entry::Mode::from_unix(facts.mode);
        if info.mode.is_symlink() {
            let target = readlinkat(&*place.folder, place.name, Vec::new());
            return there.is_symlink()
                && target.is_ok_and(|t| t.to_bytes() == item.entry.symlink_target.as_bytes());
        }
        there.is_regular()
            && size == u64::try_from(stat.st_size).ok()
            && facts.modified == info.modified
            && (self.options.skip_permissions || there == info.mode)
    }

    /// Gives something its name, replacing what has it if that is allowed.
    fn commit(
        &self,
        item: &Item<'_>,
        place: &Place<'_>,
        mut temporary: Temporary<'_>,
        stat: &Stat,
    ) -> Result<Outcome> {
        // Known before it is visible, so that of two threads that want one name the second finds the first.
        let new = self.made().files.insert(key_of(stat));
        let folder = &*place.folder;
        let renamed =
            match renameat_with(folder, &*temporary.name, folder, place.name, RenameFlags::NOREPLACE) {
                // A file system that cannot promise it: looking first is the best there is.
                Err(Errno::INVAL | Errno::NOSYS) => match statat(folder, place.name, NOFOLLOW) {
                    Err(Errno::NOENT) => renameat(folder, &*temporary.name, folder, place.name),
                    _ => Err(Errno::EXIST),
                },
                other => other,
            };
        let outcome = match renamed {
            Ok(()) => Ok(Outcome::Restored),
            Err(Errno::EXIST) => self.replace(item, place, &temporary.name),
            Err(error) => Err(failed("rename to", item.path, error)),
        };
        match outcome {
            Ok(Outcome::Restored) => temporary.armed = false,
            // A link that failed takes nothing away from its file.
            _ if !new => {}
            _ => drop(self.made().files.remove(&key_of(stat))),
        }
        outcome
    }

    /// Applies the policy to what was found under an item's name; `None` when it may be replaced.
    fn keeps(&self, item: &Item<'_>, there: &Stat) -> Result<Option<Outcome>> {
        if self.made().files.contains(&key_of(there)) {
            return Err(collision(item.path));
        }
        match self.options.existing {
            Existing::Skip => Ok(Some(Outcome::Skipped)),
            Existing::Fail => Err(exists(item.path)),
            Existing::Replace => Ok(None),
        }
    }

    /// Makes a folder where something else is, which goes only once the folder is there.
    fn make_way(&self, item: &Item<'_>, place: &Place<'_>) -> Result<Outcome> {
        let folder = &*place.folder;
        let mut aside = self.temporary(place);
        renameat(folder, place.name, folder, &*aside.name).map_err(|e| failed("replace", item.path, e))?;
        let made = match self.make_folder(item, place) {
            Ok(false) => Ok(Outcome::Restored),
            Ok(true) => Err(exists(item.path)),
            Err(error) => Err(error),
        };
        if made.is_err() {
            let back = renameat_with(folder, &*aside.name, folder, place.name, RenameFlags::NOREPLACE);
            return made.map_err(|error| match back {
                Ok(()) => error,
                Err(_) => error.detail(format!("what was there is now {}", aside.name.display())),
            });
        }
        aside.armed = true;
        made
    }

    fn replace(&self, item: &Item<'_>, place: &Place<'_>, temporary: &OsStr) -> Result<Outcome> {
        let folder = &*place.folder;
        let there =
            statat(folder, place.name, NOFOLLOW).map_err(|error| failed("look at", item.path, error))?;
        if let Some(settled) = self.keeps(item, &there)? {
            return Ok(settled);
        }
        if FileType::from_raw_mode(there.st_mode).is_dir() {
            return Err(Error::new(ErrorKind::Exists, "replace", item.path.lossy())
                .detail("a folder has this name, and folders are never replaced"));
        }
        match renameat(folder, temporary, folder, place.name) {
            Ok(()) => Ok(Outcome::Restored),
            Err(Errno::ISDIR) => Err(exists(item.path)),
            Err(error) => Err(failed("rename to", item.path, error)),
        }
    }

    /// Sets metadata and says what could not be set.
    fn apply(&self, handle: Handle<'_>, item: &Item<'_>) -> Vec<String> {
        let mut homeless = Vec::new();
        let metadata = &item.entry.metadata;
        let mut missing = self.rights.apply(handle, &item.entry.info, item.xattrs, metadata, &mut homeless);
        if !homeless.is_empty() && self.sidecar.append(self.tree.root(), item.path, &homeless).is_err() {
            missing.push(format!("S3 metadata (neither attributes nor {} could be written)", sidecar::NAME));
        }
        missing
    }

    /// Makes a link, pipe or device with `make`, gives it its metadata and its name.
    fn make(
        &self,
        item: &Item<'_>,
        place: &Place<'_>,
        make: impl FnOnce(&OwnedFd, &OsStr) -> Result<(), Errno>,
    ) -> Result<Outcome> {
        if let Some(settled) = self.look(item, place, None)? {
            return Ok(settled);
        }
        let mut temporary = self.temporary(place);
        make(&place.folder, &temporary.name).map_err(|error| failed("create", item.path, error))?;
        temporary.armed = true;
        let opened = metadata::Made::open(&place.folder, &temporary.name);
        let (made, stat) = opened.map_err(|error| failed("open", item.path, error))?;
        // By now it may be somebody else's: nothing but what was just made gets this metadata.
        let kind = |mode: entry::Mode| mode.0 & entry::Mode::TYPE.0;
        if kind(entry::Mode::from_unix(Facts::from(&stat).mode)) != kind(item.entry.info.mode)
            || stat.st_nlink != 1
        {
            return Err(Error::new(ErrorKind::Changed, "create", item.path.lossy()));
        }
        let missing = self.apply(made.handle(), item);
        Ok(with_missing(self.commit(item, place, temporary, &stat)?, missing))
    }

    /// Returns the mode that something is made with, before it gets its own.
    fn made_mode(&self) -> Mode {
        Mode::from_raw_mode(if self.options.skip_permissions { 0o666 } else { 0o600 })
    }

    /// Makes a folder where nothing is, and notes it. Returns whether something was there.
    fn make_folder(&self, item: &Item<'_>, place: &Place<'_>) -> Result<bool> {
        let mode = if self.options.skip_permissions { 0o777 } else { 0o700 };
        match mkdirat(&*place.folder, place.name, Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(true),
            Err(error) => return Err(failed("create", item.path, error)),
        }
        let stat =
            statat(&*place.folder, place.name, NOFOLLOW).map_err(|e| failed("look at", item.path, e))?;
        self.made().folders.insert(key_of(&stat), hash_of(item.path));
        Ok(false)
    }
}

impl Exporter for FsExporter {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn identity(&self) -> Option<Vec<u8>> {
        self.tree.identity(&self.path)
    }

    /// Creates a folder with mode 0700; [`finish_folder`](Exporter::finish_folder) gives it its own.
    fn folder(&self, item: &Item<'_>) -> Result<Outcome> {
        if item.path.is_empty() {
            let fresh = self.fresh.load(Ordering::Relaxed);
            return Ok(if fresh { Outcome::Restored } else { Outcome::Equal });
        }
        let place = self.tree.place(item.path)?;
        if let Some(outcome) = too_long(&place) {
            return Ok(outcome);
        }
        if !self.make_folder(item, &place)? {
            return Ok(Outcome::Restored);
        }
        let there =
            statat(&*place.folder, place.name, NOFOLLOW).map_err(|e| failed("look at", item.path, e))?;
        if FileType::from_raw_mode(there.st_mode).is_dir() {
            if let Some(prefix) = self.leftovers.get()
                && let Ok(folder) = self.tree.open_folder(item.path)
            {
                leftovers::remove(&folder, prefix);
            }
            let maker = self.made().folders.get(&key_of(&there)).copied();
            return Ok(match maker {
                Some(path) if path != hash_of(item.path) => Outcome::Partly(vec![
                    "a folder of its own: the file system does not tell its name from another's".into(),
                ]),
                _ => Outcome::Equal,
            });
        }
        match self.keeps(item, &there)? {
            Some(settled) => Ok(settled),
            None => self.make_way(item, &place),
        }
    }

    fn file(&self, item: &Item<'_>, content: &dyn ContentSource) -> Result<Outcome> {
        let (entry, without_set_id) = objects::as_file(item.entry);
        let item = &Item { entry: &entry, ..*item };
        let place = self.tree.place(item.path)?;
        if let Some(outcome) = too_long(&place) {
            return Ok(outcome);
        }
        if let Some(settled) = self.look(item, &place, Some(content.size()))? {
            return Ok(settled);
        }
        let mut temporary = self.temporary(&place);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&*place.folder, &*temporary.name, flags, self.made_mode());
        let file = File::from(file.map_err(|error| failed("create", item.path, error))?);
        temporary.armed = true;
        write::write(&file, &item.path.lossy(), content)?;
        let mut missing = self.apply(metadata::open(&file), item);
        if without_set_id && !self.options.skip_permissions {
            missing.push("set-id bits that only user metadata asks for".into());
        }
        let stat = fstat(&file).map_err(|error| failed("look at", item.path, error))?;
        Ok(with_missing(self.commit(item, &place, temporary, &stat)?, missing))
    }

    /// What an interrupted restore noted stands if its size, time and mode are right. Without such a note it is
    /// restored again: size and time alone are no proof of what a file holds.
    fn stands(&self, item: &Item<'_>, receipt: Option<Receipt>) -> Result<bool> {
        let Some(receipt) = receipt else { return Ok(false) };
        if item.path.is_empty() {
            self.fresh.fetch_or(receipt & 1 != 0, Ordering::Relaxed);
            let prefix = self.leftovers.get_or_init(|| place::restore_prefix(receipt));
            leftovers::remove(self.tree.root(), prefix);
            return Ok(false);
        }
        let place = self.tree.place(item.path)?;
        let Ok(stat) = statat(&*place.folder, place.name, NOFOLLOW) else { return Ok(false) };
        let size = u64::try_from(item.entry.info.size).ok();
        let stands = self.is_equal(item, &place, &stat, size);
        if stands {
            self.made().files.insert(key_of(&stat));
        }
        Ok(stands)
    }

    fn receipt(&self, _item: &Item<'_>) -> Receipt {
        self.number
    }

    fn hard_link(&self, item: &Item<'_>, first: &RawString) -> Result<Outcome> {
        let from = self.tree.place(first)?;
        let place = self.tree.place(item.path)?;
        if let Some(outcome) = too_long(&place) {
            return Ok(outcome);
        }
        let original = statat(&*from.folder, from.name, NOFOLLOW).map_err(|e| failed("look at", first, e))?;
        if !FileType::from_raw_mode(original.st_mode).is_file() {
            return Err(Error::new(ErrorKind::Changed, "link to", first.lossy())
                .detail("it is no longer a regular file"));
        }
        // Renaming one link of a file over another does nothing: there is nothing to do either.
        match statat(&*place.folder, place.name, NOFOLLOW) {
            Ok(there) if key_of(&there) == key_of(&original) => return Ok(Outcome::Equal),
            _ => {}
        }
        let looked = match self.look(item, &place, u64::try_from(original.st_size).ok())? {
            // Equal, but not one file with the first.
            Some(Outcome::Equal) | None => None,
            settled => settled,
        };
        if let Some(settled) = looked {
            return Ok(settled);
        }
        let mut temporary = self.temporary(&place);
        linkat(&*from.folder, from.name, &*place.folder, &*temporary.name, AtFlags::empty())
            .map_err(|error| failed("link", item.path, error))?;
        temporary.armed = true;
        let stat =
            statat(&*place.folder, &*temporary.name, NOFOLLOW).map_err(|e| failed("link", item.path, e))?;
        self.commit(item, &place, temporary, &stat)
    }

    fn special(&self, item: &Item<'_>) -> Result<Outcome> {
        let place = self.tree.place(item.path)?;
        if let Some(outcome) = too_long(&place) {
            return Ok(outcome);
        }
        let mode = item.entry.info.mode;
        if mode.is_symlink() {
            let target = &item.entry.symlink_target;
            if target.is_empty() {
                return Ok(Outcome::Unsupported("the snapshot does not say where the link leads".into()));
            }
            return self.make(item, &place, |folder, name| symlinkat(target.as_bytes(), folder, name));
        }
        if mode.is_pipe() {
            let mode = self.made_mode();
            return self.make(item, &place, |folder, name| make_node(folder, name, FileType::Fifo, mode, 0));
        }
        if !mode.is_device() {
            let what = if mode.is_socket() {
                "a socket exists only while its program runs"
            } else {
                "not a known type"
            };
            return Ok(Outcome::Unsupported(what.into()));
        }
        if !self.options.devices || !self.rights.root() {
            return Ok(Outcome::Unsupported("devices are made by root and on request only".into()));
        }
        let number = item.entry.metadata.iter().find(|metadata| metadata.key == "unix.rdev");
        let Some(number) = number.and_then(|metadata| metadata.value.as_slice().try_into().ok()) else {
            return Ok(Outcome::Unsupported("the snapshot does not know the device's number".into()));
        };
        let kind = if mode.is_char_device() { FileType::CharacterDevice } else { FileType::BlockDevice };
        let number = u64::from_le_bytes(number);
        let mode = self.made_mode();
        self.make(item, &place, |folder, name| make_node(folder, name, kind, mode, number))
    }

    /// Sets a folder's metadata, unless it stood there before and existing things are kept. The root's own is set
    /// only if it was made or empty: nobody who restores into `/tmp` wants it to become private.
    fn finish_folder(&self, item: &Item<'_>) -> Result<Outcome> {
        if item.path.is_empty() {
            if !self.fresh.load(Ordering::Relaxed) {
                return Ok(Outcome::Skipped);
            }
            return Ok(with_missing(Outcome::Restored, self.apply(metadata::open(self.tree.root()), item)));
        }
        self.tree.forget(item.path);
        let folder = self.tree.open_folder(item.path)?;
        if self.options.existing != Existing::Replace {
            let stat = fstat(&folder).map_err(|error| failed("look at", item.path, error))?;
            if !self.made().folders.contains_key(&key_of(&stat)) {
                return Ok(Outcome::Skipped);
            }
        }
        Ok(with_missing(Outcome::Restored, self.apply(metadata::open(&folder.as_fd()), item)))
    }

    fn links(&self) -> bool {
        true
    }

    fn work(&self) -> Work {
        Work::Local
    }
}

/// Returns what stands for a file in the books: device and inode in one number.
fn key_of(stat: &Stat) -> u64 {
    let facts = Facts::from(stat);
    facts.inode ^ facts.device.rotate_left(40)
}

/// Makes a pipe or a device.
#[cfg(not(target_vendor = "apple"))]
fn make_node(
    folder: &OwnedFd,
    name: &OsStr,
    kind: FileType,
    mode: Mode,
    number: u64,
) -> std::result::Result<(), Errno> {
    rustix::fs::mknodat(folder, name, kind, mode, number)
}

/// Fails: neither can be made below an open folder here, and a path could lead elsewhere.
#[cfg(target_vendor = "apple")]
fn make_node(_: &OwnedFd, _: &OsStr, _: FileType, _: Mode, _: u64) -> std::result::Result<(), Errno> {
    Err(Errno::NOTSUP)
}

fn hash_of(path: &RawString) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

fn with_missing(outcome: Outcome, missing: Vec<String>) -> Outcome {
    if outcome == Outcome::Restored && !missing.is_empty() { Outcome::Partly(missing) } else { outcome }
}

fn too_long(place: &Place<'_>) -> Option<Outcome> {
    let length = place.name.as_bytes().len();
    (length > MAX_NAME)
        .then(|| Outcome::Unsupported(format!("its name is {length} bytes long, {MAX_NAME} fit")))
}

fn failed(op: &'static str, path: &RawString, error: Errno) -> Error {
    Error::io(op, path.lossy(), io::Error::from(error))
}

fn exists(path: &RawString) -> Error {
    Error::new(ErrorKind::Exists, "restore", path.lossy()).detail("something has this name already")
}

fn collision(path: &RawString) -> Error {
    Error::new(ErrorKind::Exists, "restore", path.lossy())
        .detail("another entry was restored here: the file system does not tell their names apart")
}
