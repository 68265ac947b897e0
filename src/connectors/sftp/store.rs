//! A store in a folder on a server.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lru::LruCache;

use super::client::Client;
use super::connection::Connection;
use super::folders::{is_folder, make_folder, make_folders, synchronise_folder};
use super::operations::done;
use super::options::Options;
use super::transfer::{self, Opened, Upload};
use super::wire::{Attrs, Named};
use crate::base::{Id, Printable};
use crate::connector::{Body, Error, ErrorKind, Kind, Listed, Result, Storage};
use crate::connectors::container::{MAX_CONFIG, past_the_end, whole_length};
use crate::connectors::layout::{self, CONFIG, KINDS, TEMPORARY};
use crate::connectors::tree::{MOST_NAMES, join, parent};
use crate::format::entry::Mode;

/// How many files stay open for reading ranges.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// How many folders are listed at a time.
const LISTERS: usize = 16;
/// An opened file with its length, for ranges.
#[derive(Debug)]
struct Ranges {
    file: Arc<Opened>,
    length: u64,
}

/// A store in a folder on a server, laid out as one in a local folder.
#[derive(Debug)]
pub struct SftpStore {
    pub(super) client: Client,
    pub(super) root: Vec<u8>,
    open: Mutex<LruCache<(Kind, Id), Arc<Ranges>>>,
    /// Whether it was said that the server cannot synchronise.
    told: AtomicBool,
    unsynchronised: AtomicBool,
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

impl SftpStore {
    /// Names a store; nothing is connected before the first call.
    pub fn new(options: Options) -> Self {
        Self::with_client(Client::new(options))
    }

    pub(super) fn with_client(client: Client) -> Self {
        let path = &client.options().path;
        // The home folder is where a server begins.
        let root = if path.is_empty() { b".".to_vec() } else { path.clone() };
        Self {
            client,
            root,
            open: Mutex::new(LruCache::new(OPEN_FILES)),
            told: AtomicBool::new(false),
            unsynchronised: AtomicBool::new(false),
        }
    }

    fn root(&self) -> &Path {
        crate::base::sys::os_str(&self.root).map_or(Path::new(""), Path::new)
    }

    pub(super) fn below(&self, name: &str) -> Vec<u8> {
        join(&self.root, name.as_bytes())
    }

    fn path_of(&self, kind: Kind, id: Id) -> Vec<u8> {
        bytes(&layout::path_of(self.root(), kind, id))
    }

    fn opened(&self) -> MutexGuard<'_, LruCache<(Kind, Id), Arc<Ranges>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn temporary(folder: &[u8]) -> Result<Vec<u8>> {
        let digits = crate::connectors::place::random_digits()
            .map_err(|error| Error::io("create", Printable::new(folder).to_string(), error))?;
        Ok(join(folder, format!("{TEMPORARY}{digits}").as_bytes()))
    }

    /// Returns an open file for ranges; locks are rewritten, so they are opened anew each time.
    fn ranges(&self, connection: &Arc<Connection>, kind: Kind, id: Id) -> Result<Arc<Ranges>> {
        let key = (kind, id);
        if let Some(found) = self.opened().get(&key)
            && !found.file.connection.is_dead()
        {
            return Ok(Arc::clone(found));
        }
        let (file, length) = open_regular(connection, &self.path_of(kind, id))?;
        let ranges = Arc::new(Ranges { file: Arc::new(file), length });
        if kind != Kind::Lock {
            self.opened().put(key, Arc::clone(&ranges));
        }
        Ok(ranges)
    }

    fn range_of(&self, found: &Ranges, kind: Kind, id: Id, offset: u64, length: usize) -> Result<Vec<u8>> {
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > found.length) {
            let path = self.path_of(kind, id);
            return Err(past_the_end(&Printable::new(&path).to_string(), offset, length, found.length));
        }
        found.file.read_range(offset, length)
    }

    /// Reads a whole file of at most `most` bytes, if there is such a limit.
    fn read_all(&self, path: &[u8], most: u64) -> Result<Vec<u8>> {
        self.client.again(|connection| {
            let (file, length) = open_regular(connection, path)?;
            let length = usize::try_from(length.min(most + 1))
                .map_err(|_| Error::new(ErrorKind::Full, "read", Printable::new(path).to_string()))?;
            let file = Arc::new(file);
            let mut out = Vec::new();
            // In steps: a length is only what the server says.
            while out.len() < length {
                let step = (length - out.len()).min(8 << 20);
                out.extend(file.read_range(out.len() as u64, step)?);
            }
            Ok(out)
        })
    }

    /// Writes a body under a temporary name, on the server's disk, and gives it its name.
    pub(super) fn write(&self, folder: &[u8], target: &[u8], body: &Body<'_>, replace: bool) -> Result<()> {
        self.client.again(|connection| {
            if !connection.can_synchronise() {
                self.unsynchronised.store(true, Ordering::Relaxed);
            }
            let temporary = Self::temporary(folder)?;
            let mut upload = Upload::create(&self.client.options().cancel, connection, temporary, 0o600)?;
            transfer::write_body(&mut upload, body)?;
            let (shard, _) = parent(target);
            match upload.place(target, replace) {
                Err(error) if error.kind == ErrorKind::NotFound => return Err(error),
                Err(error) if error.kind == ErrorKind::Exists && !replace => return Ok(()),
                other => other?,
            }
            synchronise_folder(connection, shard);
            Ok(())
        })
    }

    /// The same for a resource, whose folder upstream's writers need but may be missing: it is made good.
    fn write_resource(&self, kind: Kind, id: Id, body: &Body<'_>, replace: bool) -> Result<()> {
        let workshop = bytes(&layout::workshop(self.root(), kind));
        let target = self.path_of(kind, id);
        match self.write(&workshop, &target, body, replace) {
            Err(error) if error.kind == ErrorKind::NotFound => {
                let made = self.client.again(|connection| make_folder(connection, parent(&target).0));
                // Where the workshop is missing as well, the first error says more.
                if made.is_err() {
                    return Err(error);
                }
                self.write(&workshop, &target, body, replace)
            }
            other => other,
        }
    }

    /// Creates the root, or says why the one that is there cannot become a store.
    fn prepare_root(&self) -> Result<()> {
        let refuse = |why: String| Error::new(ErrorKind::Exists, "create", self.location()).detail(why);
        let there = self.client.again(|connection| connection.stat(&self.root));
        match there {
            Err(error) if error.kind == ErrorKind::NotFound => return self.make_root(),
            Err(error) => return Err(error),
            Ok(attrs) if !mode_of(&attrs).is_dir() => return Err(refuse("this is a file".into())),
            Ok(_) => {}
        }
        let mut odd = None;
        let mut is_store = false;
        self.each_name(&self.root, &mut |named| {
            let name = crate::base::sys::os_str(&named.name);
            is_store |= name.is_some_and(|name| name == CONFIG);
            if !name.is_some_and(layout::may_precede) {
                odd.get_or_insert_with(|| Printable::new(&named.name).to_string());
            }
        })?;
        if is_store {
            return Err(refuse("there is a store already".into()));
        }
        if let Some(name) = odd {
            return Err(refuse(format!("the folder is not empty: it holds {name}")));
        }
        for kind in KINDS {
            let mut count = 0;
            match self.list(kind, &mut |_| count += 1) {
                Err(error) if error.kind == ErrorKind::NotFound => {}
                other => other?,
            }
            if count > 0 {
                return Err(refuse(layout::orphans(kind, count)));
            }
        }
        Ok(())
    }

    /// Makes the root and the folders above it that are missing.
    fn make_root(&self) -> Result<()> {
        self.client.again(|connection| make_folders(connection, &self.root, 0o700))
    }

    /// Lists a folder as a whole; what the server answers twice is passed on once.
    fn each_name(&self, folder: &[u8], each: &mut dyn FnMut(Named)) -> Result<()> {
        let names = self.client.again(|connection| {
            let mut names = Vec::new();
            connection.each_name(folder, MOST_NAMES, &mut |named| {
                names.push(named);
                Ok(())
            })?;
            Ok(names)
        })?;
        names.into_iter().for_each(each);
        Ok(())
    }

    /// Returns the resources in one folder. Names that are no resource's are left out.
    fn list_folder(&self, folder: &[u8], shard: Option<&str>) -> Result<Vec<Listed>> {
        self.client.again(|connection| {
            let mut out = Vec::new();
            connection.each_name(folder, MOST_NAMES, &mut |named| {
                let id = crate::base::sys::os_str(&named.name).and_then(layout::id_of);
                let Some(id) = id else { return Ok(()) };
                if shard.is_some_and(|shard| !id.to_hex().starts_with(shard)) {
                    return Ok(());
                }
                let mut attrs = named.attrs;
                if attrs.size.is_none() || attrs.mode.is_none() {
                    attrs = match connection.lstat(&join(folder, &named.name)) {
                        Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
                        other => other?,
                    };
                }
                if mode_of(&attrs).is_regular() {
                    let modified = attrs.times.map(|(_, modified)| {
                        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(modified))
                    });
                    out.push(Listed { id, size: attrs.size.unwrap_or(0), modified, tag: None });
                }
                Ok(())
            })?;
            Ok(out)
        })
    }

    /// Lists all shards of a kind, several at a time.
    fn list_shards(&self, kind: Kind, shards: &[String], each: &mut dyn FnMut(Listed)) -> Result<()> {
        let folder = self.below(kind.folder());
        let next = std::sync::atomic::AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let (send, listed) = crossbeam_channel::bounded::<Result<Vec<Listed>>>(LISTERS);
        std::thread::scope(|scope| {
            for _ in 0..LISTERS.min(shards.len()) {
                let (send, next, folder, stop) = (send.clone(), &next, &folder, &stop);
                let work = move || {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                        let found = self.list_folder(&join(folder, shard.as_bytes()), Some(shard));
                        if send.send(found).is_err() {
                            return;
                        }
                    }
                };
                // A system that gives fewer threads gets a slower listing; one that gives none is told of below.
                let _ = std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work);
            }
            drop(send);
            let mut result = Ok(());
            let mut seen = 0;
            for found in &listed {
                seen += 1;
                match found {
                    Ok(found) if result.is_ok() => found.into_iter().for_each(&mut *each),
                    Err(error) if error.kind != ErrorKind::NotFound && result.is_ok() => {
                        stop.store(true, Ordering::Relaxed);
                        result = Err(error);
                    }
                    _ => {}
                }
            }
            if result.is_ok() && seen < shards.len() {
                let missing = Error::new(ErrorKind::Io, "list", self.location());
                return Err(missing.detail("no thread can be started"));
            }
            result
        })
    }

    /// Makes the folders of a kind that are missing, all requests under way at once.
    fn make_shards(&self, kind: Kind) -> Result<()> {
        let folder = self.below(kind.folder());
        self.client.again(|connection| {
            make_folder(connection, &folder)?;
            if !layout::is_sharded(kind) {
                return Ok(());
            }
            let shards = (0..=255_u8).map(|shard| join(&folder, format!("{shard:02x}").as_bytes()));
            let asked: Result<Vec<_>> =
                shards.map(|shard| Ok((connection.ask_folder(&shard, 0o700)?, shard))).collect();
            for (ticket, shard) in asked? {
                let made = done(ticket, "create", &|| Printable::new(&shard).to_string());
                if let Err(error) = made {
                    // It may be there already: the protocol has no word for that.
                    if !is_folder(connection, &shard) {
                        return Err(error);
                    }
                }
            }
            synchronise_folder(connection, &folder);
            Ok(())
        })
    }
}

impl Storage for SftpStore {
    fn location(&self) -> String {
        self.client.options().describe()
    }

    /// Creates the root (or takes an empty one, or one where an earlier creation was interrupted), its folders, and
    /// CONFIG last.
    fn create(&self, config: &[u8]) -> Result<()> {
        self.prepare_root()?;
        for kind in KINDS {
            self.make_shards(kind)?;
        }
        let path = self.below(CONFIG);
        self.write(&self.root, &path, &Body::Bytes(config), false)?;
        // Somebody else may have been faster.
        if self.config()? == config {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Exists, "create", self.location()).detail("there is a store already"))
    }

    fn config(&self) -> Result<Vec<u8>> {
        let path = self.below(CONFIG);
        let config = match self.read_all(&path, MAX_CONFIG) {
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Io) => {
                let root = self.client.again(|connection| connection.stat(&self.root));
                if root.is_ok_and(|attrs| mode_of(&attrs).is_regular()) {
                    return Err(Error::new(ErrorKind::NotFound, "open", self.location())
                        .detail("this is a file, not the folder of a store")
                        .because(error));
                }
                return Err(error);
            }
            other => other?,
        };
        if config.len() as u64 > MAX_CONFIG {
            return Err(Error::new(ErrorKind::Protocol, "read", Printable::new(&path).to_string())
                .detail(format!("it is longer than {MAX_CONFIG} bytes")));
        }
        Ok(config)
    }

    fn replace_config(&self, expected: &[u8], new: &[u8]) -> Result<()> {
        self.exchange_config(expected, new)
    }

    /// Lists folder by folder. A missing shard is empty; a missing `packfiles`, `states` or `locks` is an error,
    /// because a disk that is not mounted must not look like a store that is empty.
    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let folder = self.below(kind.folder());
        if !layout::is_sharded(kind) {
            self.list_folder(&folder, None)?.into_iter().for_each(each);
            return Ok(());
        }
        let mut shards = Vec::new();
        self.each_name(&folder, &mut |named| {
            let name = String::from_utf8(named.name).ok().filter(|name| layout::is_shard(name));
            shards.extend(name);
        })?;
        shards.sort_unstable();
        shards.dedup();
        self.list_shards(kind, &shards, each)
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        let path = self.path_of(kind, id);
        let attrs = self.client.again(|connection| connection.stat(&path))?;
        regular_length(&attrs, &path)
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        let path = self.path_of(kind, id);
        let bytes = self.read_all(&path, kind.most_whole())?;
        whole_length(kind, bytes.len() as u64, &Printable::new(&path).to_string())?;
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
        let range = self.client.again(|connection| {
            let found = self.ranges(connection, kind, id)?;
            match self.range_of(&found, kind, id, offset, length) {
                // The file was opened over another connection, and that one is lost.
                Err(error)
                    if error.kind == ErrorKind::Transport
                        && found.file.connection.is_dead()
                        && !connection.is_dead() =>
                {
                    self.range_of(&*self.ranges(connection, kind, id)?, kind, id, offset, length)
                }
                other => other,
            }
        })?;
        consume(&range);
        Ok(())
    }

    fn spool(&self) -> Result<File> {
        tempfile::tempfile().map_err(|error| Error::io("create", "a temporary file", error))
    }

    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> Result<()> {
        if kind == Kind::Lock {
            return self.write_resource(kind, id, &body, true);
        }
        let path = self.path_of(kind, id);
        match self.client.again(|connection| connection.lstat(&path)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.write_resource(kind, id, &body, false)
    }

    fn delete(&self, kind: Kind, id: Id) -> Result<()> {
        self.opened().pop(&(kind, id));
        let path = self.path_of(kind, id);
        match self.client.again(|connection| connection.remove(&path)) {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn parallelism(&self) -> usize {
        self.client.options().workers
    }

    fn take_notes(&self) -> Vec<String> {
        if !self.unsynchronised.load(Ordering::Relaxed) || self.told.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        vec![format!(
            "{} cannot synchronise files (fsync@openssh.com): what was written last may be lost if its power fails",
            self.client.options().server()
        )]
    }
}

/// Returns the mode that attributes tell; a server that tells none has no regular files.
pub(super) fn mode_of(attrs: &Attrs) -> Mode {
    attrs.mode.map_or(Mode::IRREGULAR, Mode::from_unix)
}

fn regular_length(attrs: &Attrs, path: &[u8]) -> Result<u64> {
    let shown = || Printable::new(path).to_string();
    if !mode_of(attrs).is_regular() {
        return Err(Error::new(ErrorKind::Invalid, "read", shown()).detail("it is not a regular file"));
    }
    attrs.size.ok_or_else(|| {
        Error::new(ErrorKind::Protocol, "read", shown()).detail("the server does not tell its length")
    })
}

/// Opens a regular file and returns its length.
pub(super) fn open_regular(connection: &Arc<Connection>, path: &[u8]) -> Result<(Opened, u64)> {
    let file = Opened::read(connection, path)?;
    let length = regular_length(&file.attrs()?, path)?;
    Ok((file, length))
}
