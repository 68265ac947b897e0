//! A store in a folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use lru::LruCache;

use crate::base::{At, Id, RangeFile, sys};
use crate::connector::{Body, Error, ErrorKind, Kind, Listed, Result, Storage};
use crate::connectors::container::{MAX_CONFIG, past_the_end, whole_length};
use crate::connectors::layout::{self, CONFIG, CONFIG_LOCK, KINDS, TEMPORARY, is_shard};
use crate::connectors::place::{self, Pending};

/// How many files stay open for reading ranges.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// How old a file in the making must be before it counts as left over.
const LEFTOVER_AGE: Duration = Duration::from_hours(24);

/// A store in a folder, laid out as upstream does.
///
/// Unlike upstream it synchronises every file before it gets its name, and the folder after, so that a store
/// survives a power cut as it survives a crash. Resources are made in unnamed files where the file system has
/// them, and linked into place; a body from another file system is copied.
#[derive(Debug)]
pub struct FsStore {
    root: PathBuf,
    mmap: bool,
    open: Mutex<LruCache<(Kind, Id), Arc<RangeFile>>>,
}

impl FsStore {
    /// Names a store; nothing is touched before the first call.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), mmap: true, open: Mutex::new(LruCache::new(OPEN_FILES)) }
    }

    /// Chooses whether files are mapped (the default on local disks) or read with `pread`.
    #[must_use]
    pub fn with_mmap(mut self, mmap: bool) -> Self {
        self.mmap = mmap;
        self
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes files that dead writers left in the making more than a day ago, and returns how many there were.
    ///
    /// Writers call it once; a file that vanishes or resists meanwhile is no error.
    pub fn sweep_temporaries(&self) -> Result<usize> {
        let mut count = 0;
        let now = SystemTime::now();
        for folder in [self.root.clone(), self.root.join("packfiles"), self.root.join("states")] {
            for entry in fs::read_dir(&folder).at("list", &folder)? {
                let entry = entry.at("list", &folder)?;
                if !layout::is_temporary(&entry.file_name()) {
                    continue;
                }
                let old = entry.metadata().is_ok_and(|metadata| {
                    let age = metadata.modified().ok().and_then(|at| now.duration_since(at).ok());
                    metadata.is_file() && age.is_some_and(|age| age > LEFTOVER_AGE)
                });
                if old && fs::remove_file(entry.path()).is_ok() {
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    /// Returns an open file for ranges; locks are rewritten, so they are opened anew each time.
    fn ranges(&self, kind: Kind, id: Id) -> Result<Arc<RangeFile>> {
        let key = (kind, id);
        if let Some(file) = self.open_files().get(&key) {
            return Ok(Arc::clone(file));
        }
        let path = layout::path_of(&self.root, kind, id);
        let (file, length) = open_regular(&path)?;
        let mmap = self.mmap && kind != Kind::Lock;
        let file = Arc::new(RangeFile::open(file, length, mmap).at("open", &path)?);
        if kind != Kind::Lock {
            self.open_files().put(key, Arc::clone(&file));
        }
        Ok(file)
    }

    fn open_files(&self) -> std::sync::MutexGuard<'_, LruCache<(Kind, Id), Arc<RangeFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes every resource in one folder to `each`. Names that are no resource's, and files that vanish while
    /// they are looked at, are left out.
    fn list_folder(folder: &Path, shard: Option<&str>, each: &mut dyn FnMut(Listed)) -> Result<()> {
        for entry in fs::read_dir(folder).at("list", folder)? {
            let entry = entry.at("list", folder)?;
            let Some(id) = layout::id_of(&entry.file_name()) else { continue };
            if shard.is_some_and(|shard| !id.to_hex().starts_with(shard)) {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => {
                    let modified = metadata.modified().ok();
                    each(Listed { id, size: metadata.len(), modified, tag: None });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", entry.path().display().to_string(), error)),
            }
        }
        Ok(())
    }

    /// Creates the root, or says why the one that is there cannot become a store.
    fn prepare_root(&self) -> Result<()> {
        let root = &self.root;
        let refuse = |why: String| Error::new(ErrorKind::Exists, "create", self.location()).detail(why);
        match fs::read_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                sys::private_folder().recursive(true).create(root).at("create", root)?;
                return sync_parent(root);
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(refuse("this is a file".into()));
            }
            Err(error) => return Err(Error::io("list", self.location(), error)),
            Ok(entries) => {
                for entry in entries {
                    let name = entry.at("list", root)?.file_name();
                    if name == CONFIG {
                        return Err(refuse("there is a store already".into()));
                    }
                    if !layout::may_precede(&name) {
                        return Err(refuse(format!("the folder is not empty: it holds {}", name.display())));
                    }
                }
            }
        }
        for kind in KINDS {
            let mut count = 0;
            if root.join(kind.folder()).exists() {
                self.list(kind, &mut |_| count += 1)?;
            }
            if count > 0 {
                return Err(refuse(layout::orphans(kind, count)));
            }
        }
        Ok(())
    }

    /// Writes a body into a file of ours and gives it its name.
    fn write(&self, kind: Kind, folder: &Path, name: &str, body: &Body<'_>, replace: bool) -> Result<()> {
        let target = folder.join(name);
        let pending = Self::pending(&layout::workshop(&self.root, kind))?;
        match body {
            Body::Bytes(bytes) => pending.file().write_all(bytes),
            Body::Spool { file, length } => place::copy(file, pending.file(), *length),
        }
        .at("write", &target)?;
        let into = open_or_create_folder(folder)?;
        match pending.place(&into, name.as_ref(), replace) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            placed => {
                placed.at("write", &target)?;
                Ok(place::sync(&into).at("synchronise", folder)?)
            }
        }
    }

    fn pending(folder: &Path) -> Result<Pending> {
        let name = format!("{TEMPORARY}{}", place::random_digits().at("create", folder)?);
        let folder_fd = place::open_folder(folder).at("open", folder)?;
        Ok(Pending::create(folder_fd, name.into()).at("create a file in", folder)?)
    }

    /// Links a spooled file into place. Returns whether it stands there now; if not, it has to be copied.
    fn link(folder: &Path, name: &str, file: &File, length: u64) -> Result<bool> {
        let metadata = file.metadata().at("read", folder)?;
        // A file that has a name already, or is longer than the body, is somebody else's business.
        if !sys::is_unnamed(&metadata) || metadata.len() != length {
            return Ok(false);
        }
        let into = open_or_create_folder(folder)?;
        file.sync_all().at("synchronise", folder.join(name))?;
        match place::link(file, &into, name.as_ref()) {
            Ok(()) => place::sync(&into).at("synchronise", folder)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => return Ok(false),
        }
        Ok(true)
    }
}

impl Storage for FsStore {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    /// Creates the root (or takes an empty one, or one where an earlier creation was interrupted), its folders, and
    /// CONFIG last.
    fn create(&self, config: &[u8]) -> Result<()> {
        self.prepare_root()?;
        for kind in KINDS {
            let folder = self.root.join(kind.folder());
            sys::private_folder().recursive(true).create(&folder).at("create", &folder)?;
            if layout::is_sharded(kind) {
                for shard in 0..=255_u8 {
                    let shard = folder.join(format!("{shard:02x}"));
                    sys::private_folder().recursive(true).create(&shard).at("create", &shard)?;
                }
            }
            sync_folder(&folder)?;
        }
        sync_folder(&self.root)?;
        let path = self.root.join(CONFIG);
        let pending = Self::pending(&self.root)?;
        pending.file().write_all(config).at("write", &path)?;
        let into = place::open_folder(&self.root).at("open", &self.root)?;
        pending.place(&into, CONFIG.as_ref(), false).at("create", &path)?;
        Ok(place::sync(&into).at("synchronise", &self.root)?)
    }

    fn config(&self) -> Result<Vec<u8>> {
        let path = self.root.join(CONFIG);
        let (file, _) = match open_regular(&path) {
            Err(error) if self.root.is_file() => {
                return Err(Error::new(ErrorKind::NotFound, "open", self.location())
                    .detail("this is a file, not the folder of a store")
                    .because(error));
            }
            other => other?,
        };
        let mut config = Vec::new();
        file.take(MAX_CONFIG + 1).read_to_end(&mut config).at("read", &path)?;
        if config.len() as u64 > MAX_CONFIG {
            return Err(Error::new(ErrorKind::Protocol, "read", path.display().to_string())
                .detail(format!("it is longer than {MAX_CONFIG} bytes")));
        }
        Ok(config)
    }

    /// Replaces CONFIG by temporary file and rename, under a lock that other processes of this program respect.
    fn replace_config(&self, expected: &[u8], new: &[u8]) -> Result<()> {
        let path = self.root.join(CONFIG);
        let changed = |why: &str| {
            Error::new(ErrorKind::Changed, "replace", path.display().to_string()).detail(why.to_owned())
        };
        let lock_path = self.root.join(CONFIG_LOCK);
        let mut options = sys::private_file();
        options.write(true).create(true).truncate(false);
        sys::refuse_links(&mut options);
        let lock = options.open(&lock_path).at("open", &lock_path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(changed("another process is changing it")),
            Err(TryLockError::Error(error)) => Err(error).at("lock", &lock_path)?,
        }
        let pending = Self::pending(&self.root)?;
        pending.file().write_all(new).at("write", &path)?;
        if self.config()? != expected {
            return Err(changed("it was changed meanwhile"));
        }
        let into = place::open_folder(&self.root).at("open", &self.root)?;
        pending.place(&into, CONFIG.as_ref(), true).at("replace", &path)?;
        Ok(place::sync(&into).at("synchronise", &self.root)?)
    }

    /// Lists folder by folder. A missing shard is empty; a missing `packfiles`, `states` or `locks` is an error,
    /// because a disk that is not mounted must not look like a store that is empty.
    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let folder = self.root.join(kind.folder());
        if !layout::is_sharded(kind) {
            return Self::list_folder(&folder, None, each);
        }
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let name = entry.at("list", &folder)?.file_name();
            let Some(shard) = name.to_str().filter(|name| is_shard(name)) else { continue };
            match Self::list_folder(&folder.join(shard), Some(shard), each) {
                Err(error) if error.kind == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        let path = layout::path_of(&self.root, kind, id);
        let metadata = fs::metadata(&path).at("read", &path)?;
        if metadata.is_file() { Ok(metadata.len()) } else { Err(not_a_file(&path)) }
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        let path = layout::path_of(&self.root, kind, id);
        let (file, length) = open_regular(&path)?;
        let length = whole_length(kind, length, &path.display().to_string())?;
        let mut bytes = Vec::with_capacity(length.min(1 << 20));
        // What grows meanwhile is not read for ever.
        file.take(kind.most_whole()).read_to_end(&mut bytes).at("read", &path)?;
        Ok(bytes)
    }

    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let file = self.ranges(kind, id)?;
        file.with_range(offset, length, consume).map_err(|error| {
            let path = layout::path_of(&self.root, kind, id).display().to_string();
            match error.kind() {
                io::ErrorKind::UnexpectedEof => past_the_end(&path, offset, length, file.len()),
                _ => Error::io("read", path, error),
            }
        })
    }

    fn spool(&self) -> Result<File> {
        let folder = self.root.join(Kind::Packfile.folder());
        place::unnamed(&place::open_folder(&folder).at("open", &folder)?)
            .or_else(|_| tempfile::tempfile_in(&folder))
            .at("create a file in", &folder)
            .map_err(Error::from)
    }

    fn spools_beside(&self) -> bool {
        true
    }

    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> Result<()> {
        let folder = layout::folder_of(&self.root, kind, id);
        let name = id.to_hex();
        if kind == Kind::Lock {
            return self.write(kind, &folder, &name, &body, true);
        }
        if folder.join(&name).exists() {
            return Ok(());
        }
        if let Body::Spool { file, length } = body
            && Self::link(&folder, &name, file, length)?
        {
            return Ok(());
        }
        self.write(kind, &folder, &name, &body, false)
    }

    fn delete(&self, kind: Kind, id: Id) -> Result<()> {
        self.open_files().pop(&(kind, id));
        let path = layout::path_of(&self.root, kind, id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other.at("delete", &path)?),
        }
    }
}

/// Opens a regular file and returns its length.
fn open_regular(path: &Path) -> Result<(File, u64)> {
    let file = File::open(path).at("open", path)?;
    let metadata = file.metadata().at("read", path)?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(not_a_file(path)) }
}

fn not_a_file(path: &Path) -> Error {
    Error::new(ErrorKind::Invalid, "read", path.display().to_string()).detail("it is not a regular file")
}

/// Opens a folder of a store; upstream's writers need all 256 of them, so a missing one is made good.
fn open_or_create_folder(path: &Path) -> Result<place::Folder> {
    match place::open_folder(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match sys::private_folder().create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.at("create", path)?,
            }
            sync_parent(path)?;
            Ok(place::open_folder(path).at("open", path)?)
        }
        other => Ok(other.at("open", path)?),
    }
}

fn sync_folder(path: &Path) -> Result<()> {
    let folder = place::open_folder(path).at("open", path)?;
    Ok(place::sync(&folder).at("synchronise", path)?)
}

fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

    use super::*;

    const ID: Id = Id([0xa7; 32]);

    fn store() -> (tempfile::TempDir, FsStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = FsStore::new(dir.path().join("store"));
        (dir, store)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn creation_makes_the_layout_of_the_format() {
        let (_dir, store) = store();
        store.create(b"config").unwrap();
        for kind in [Kind::Packfile, Kind::State] {
            let folder = store.root.join(kind.folder());
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 256);
            assert_eq!(mode(&folder.join("0f")), 0o700);
        }
        assert_eq!(fs::read_dir(store.root.join("locks")).unwrap().count(), 0);
        assert_eq!((mode(&store.root), mode(&store.root.join("CONFIG"))), (0o700, 0o600));
        for kind in KINDS {
            store.put(kind, ID, Body::Bytes(b"x")).unwrap();
            assert_eq!(mode(&layout::path_of(&store.root, kind, ID)), 0o600);
        }
        let hex = ID.to_hex();
        assert!(store.root.join("packfiles/a7").join(&hex).exists());
        assert!(store.root.join("locks").join(&hex).exists());
        let names: Vec<_> = fs::read_dir(&store.root).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "{names:?}");
    }

    #[test]
    fn a_root_in_use_is_refused_with_the_reason() {
        let (_dir, store) = store();
        fs::write(&store.root, "a file").unwrap();
        assert_eq!(store.create(b"c").unwrap_err().kind, ErrorKind::Exists);
        assert_eq!(store.config().unwrap_err().kind, ErrorKind::NotFound);
        fs::remove_file(&store.root).unwrap();
        fs::create_dir(&store.root).unwrap();
        fs::write(store.root.join("thesis.tex"), "…").unwrap();
        let error = store.create(b"c").unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        assert_eq!(store.config().unwrap_err().kind, ErrorKind::NotFound);
        fs::remove_file(store.root.join("thesis.tex")).unwrap();
        store.create(b"c").unwrap();
    }

    #[test]
    fn an_interrupted_creation_is_completed_but_a_lost_config_is_not_made_up() {
        let (_dir, store) = store();
        store.create(b"one").unwrap();
        fs::remove_file(store.root.join("CONFIG")).unwrap();
        fs::write(store.root.join("tmp.1"), "").unwrap();
        store.create(b"two").unwrap();
        assert_eq!(store.config().unwrap(), b"two");
        store.put(Kind::State, ID, Body::Bytes(b"precious")).unwrap();
        fs::remove_file(store.root.join("CONFIG")).unwrap();
        let error = store.create(b"three").unwrap_err();
        assert!(error.to_string().contains("1 states"), "{error}");
    }

    #[test]
    fn listings_show_resources_only() {
        let (_dir, store) = store();
        store.create(b"c").unwrap();
        store.put(Kind::State, ID, Body::Bytes(b"x")).unwrap();
        let shard = store.root.join("states/a7");
        let upper = ID.to_hex().to_uppercase();
        for name in ["tmp.1", "ab", upper.as_str(), &Id([1; 32]).to_hex()] {
            fs::write(shard.join(name), "").unwrap();
        }
        fs::create_dir(shard.join(Id([0xa7, 1].repeat(16).try_into().unwrap()).to_hex())).unwrap();
        fs::write(store.root.join("states/zz"), "").unwrap();
        fs::remove_dir(store.root.join("states/00")).unwrap();
        let mut listed = Vec::new();
        store.list(Kind::State, &mut |l| listed.push((l.id, l.size, l.modified.is_some()))).unwrap();
        assert_eq!(listed, [(ID, 1, true)]);
        // A missing shard is made good by the next writer.
        store.put(Kind::State, Id::ZERO, Body::Bytes(b"y")).unwrap();
        assert_eq!(store.get(Kind::State, Id::ZERO).unwrap(), b"y");
        fs::remove_dir_all(store.root.join("states")).unwrap();
        assert_eq!(store.list(Kind::State, &mut |_| {}).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn a_spooled_body_is_linked_and_a_foreign_one_copied() {
        let (_dir, store) = store();
        store.create(b"c").unwrap();
        let mut spool = store.spool().unwrap();
        spool.write_all(b"spooled").unwrap();
        let inode = spool.metadata().unwrap().ino();
        store.put(Kind::Packfile, ID, Body::Spool { file: &spool, length: 7 }).unwrap();
        let placed = fs::metadata(layout::path_of(&store.root, Kind::Packfile, ID)).unwrap();
        // Where the test's disk has unnamed files the body was not copied.
        if place::unnamed(&place::open_folder(&store.root).unwrap()).is_ok() {
            assert_eq!(placed.ino(), inode);
        }
        // The same spool again, and a body shorter than its spool: copies.
        for (id, length, wanted) in [(Id([1; 32]), 7, &b"spooled"[..]), (Id([2; 32]), 5, b"spool")] {
            store.put(Kind::Packfile, id, Body::Spool { file: &spool, length }).unwrap();
            assert_eq!(store.get(Kind::Packfile, id).unwrap(), wanted);
            let path = layout::path_of(&store.root, Kind::Packfile, id);
            assert_ne!(fs::metadata(path).unwrap().ino(), inode);
        }
        let mut foreign = tempfile::tempfile_in("/dev/shm").unwrap();
        foreign.write_all(b"foreign").unwrap();
        store.put(Kind::Packfile, Id([3; 32]), Body::Spool { file: &foreign, length: 7 }).unwrap();
        assert_eq!(store.get(Kind::Packfile, Id([3; 32])).unwrap(), b"foreign");
        let short = store.put(Kind::Packfile, Id([4; 32]), Body::Spool { file: &foreign, length: 8 });
        assert!(short.is_err());
        assert_eq!(store.size(Kind::Packfile, Id([4; 32])).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn only_old_leftovers_are_swept() {
        let (_dir, store) = store();
        store.create(b"c").unwrap();
        let old = SystemTime::now() - LEFTOVER_AGE - Duration::from_mins(1);
        for (name, modified) in [("tmp.1", Some(old)), ("packfiles/tmp.2", Some(old)), ("states/tmp.3", None)]
        {
            let file = File::create(store.root.join(name)).unwrap();
            if let Some(modified) = modified {
                file.set_modified(modified).unwrap();
            }
        }
        File::options().write(true).open(store.root.join("CONFIG")).unwrap().set_modified(old).unwrap();
        assert_eq!(store.sweep_temporaries().unwrap(), 2);
        assert!(store.root.join("states/tmp.3").exists());
        assert_eq!(store.config().unwrap(), b"c");
    }

    #[test]
    fn config_is_replaced_only_if_it_is_what_was_read() {
        let (_dir, store) = store();
        store.create(b"one").unwrap();
        store.replace_config(b"one", b"two").unwrap();
        assert_eq!(store.replace_config(b"one", b"three").unwrap_err().kind, ErrorKind::Changed);
        assert_eq!(store.config().unwrap(), b"two");
        assert_eq!(mode(&store.root.join("CONFIG")), 0o600);
        let lock = File::open(store.root.join(CONFIG_LOCK)).unwrap();
        lock.lock().unwrap();
        assert_eq!(store.replace_config(b"two", b"three").unwrap_err().kind, ErrorKind::Changed);
        fs::write(store.root.join("CONFIG"), vec![0; 32_769]).unwrap();
        assert_eq!(store.config().unwrap_err().kind, ErrorKind::Protocol);
    }
}
