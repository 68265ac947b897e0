//! An open store: its configuration, keys and catalogue, and the way to its blobs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use crate::base::spill::SpillDir;
use crate::base::{Id, PathError};
use crate::codec::chunker::{Chunker, ChunkerError};
use crate::connector::{ErrorKind, Kind, Storage};
use crate::crypto::Key;
use crate::crypto::mac::MacKey;
use crate::crypto::spill::RunCipher;
use crate::format::blob::BlobType;
use crate::format::config::Config;
use crate::format::object::MAX_CHUNK;
use crate::format::version::Version;
use crate::format::wrapper::HEADER_LEN;

use super::blob::BlobSource;
use super::catalogue::{CacheDir, Catalogue, Damaged, Place, Source, Verdict, load, verify};
use super::create::{CreateError, CreateOptions, Profile, make_config};
use super::encoding::Encoding;
use super::error::Error;
use super::keys::Keys;
use super::locks::{LockGuard, LockTerms, LockWait};
use super::packer::Padding;
use super::pins::{Pin, PinError};
use super::quick::{Origin, Quick};
use super::unlock::{Unlock, UnlockError, Unlocked, unlock};

use crate::crypto::seal::Item;

/// Where a run may keep things, and what it accepts.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The cache directory; `None` does without a cache.
    pub cache_dir: Option<PathBuf>,
    /// The data directory, for pins; `None` does without.
    pub data_dir: Option<PathBuf>,
    /// Where temporary files go; `None` takes the system's folder.
    pub spill_dir: Option<PathBuf>,
    /// Takes missing pinned states as given from now on.
    pub accept_missing: bool,
    /// The memory that a command may take, bytes: loading the catalogue sorts within a part of it. `None` sets no
    /// bound.
    pub memory: Option<u64>,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no store at the location.
    #[error("there is no store at {location}")]
    NoStore {
        /// The location.
        location: String,
    },
    /// It could not be unlocked.
    #[error("cannot open the store at {location}")]
    Unlock {
        /// The location.
        location: String,
        /// Why.
        #[source]
        source: UnlockError,
    },
    /// A plaintext store stands where an encrypted one was expected.
    #[error("the store at {location} is not encrypted, but a passphrase was given for it")]
    PlaintextRefused {
        /// The location.
        location: String,
    },
    /// It is not the store that was seen before.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Its catalogue could not be read.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<PathError> for OpenError {
    fn from(error: PathError) -> Self {
        Self::Store(error.into())
    }
}

/// An open store.
#[derive(Debug)]
pub struct Repository {
    /// The storage, what opens it, and where temporary files go.
    origin: Origin,
    config: Config,
    config_bytes: Vec<u8>,
    chunker: Result<Chunker, ChunkerError>,
    master: Option<Key>,
    slot: Option<[u8; 16]>,
    catalogue: RwLock<Arc<Catalogue>>,
    cache: Option<CacheDir>,
    memory: Option<u64>,
    pin: Mutex<Option<Pin>>,
    warnings: Mutex<Vec<Warning>>,
    damaged: Mutex<Vec<(Id, Option<i64>)>>,
    lock_terms: Mutex<LockTerms>,
    lock_wait: Mutex<LockWait>,
    /// Whether nothing may be written: it is not encrypted, though a passphrase is at hand.
    guarded: bool,
    /// Whether states seen before are gone.
    states_missing: std::sync::atomic::AtomicBool,
    /// The catalogue of which every state was read whole.
    read_whole: Mutex<Weak<Catalogue>>,
    /// Whether it was noted that the pin cannot be written.
    unpinned: std::sync::atomic::AtomicBool,
}

/// Something that is wrong with a store without keeping it from being opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Warning {
    /// A state could not be used; snapshots that only it names are not seen.
    DamagedState {
        /// The state.
        id: Id,
        /// What is wrong with it.
        error: Error,
        /// Snapshots that no other state names, as far as that is still known from before it was damaged.
        snapshots: Vec<Id>,
    },
    /// States that were seen before are gone.
    MissingStates(Vec<Id>),
    /// The store cannot be remembered on this machine: that it is exchanged or set back will not be noticed.
    Unpinned(PathError),
}

impl Repository {
    /// Creates a store in an empty place.
    pub fn create(storage: &dyn Storage, options: &CreateOptions) -> Result<(), CreateError> {
        let (config, _) = make_config(options)?;
        Ok(storage.create(&config)?)
    }

    /// Forgets what this machine remembers of the store that was at a location, because a new one was made there.
    pub fn forget(data_dir: &Path, location: &str) -> Result<(), PathError> {
        Pin::forget(data_dir, location)
    }

    /// Opens a store: unlocks it, compares it with its pin, and loads its catalogue.
    pub fn open(
        storage: Arc<dyn Storage>,
        unlocker: &mut dyn Unlock,
        options: &OpenOptions,
    ) -> Result<Arc<Self>, OpenError> {
        let location = storage.location();
        let bytes = storage.config().map_err(|error| match error.kind {
            ErrorKind::NotFound => OpenError::NoStore { location: location.clone() },
            _ => OpenError::Store(error.into()),
        })?;
        // Archives travel: their location says nothing about who they are.
        let pin = match &options.data_dir {
            Some(data) if !storage.is_archive() => Some(Pin::load(data, &location)?),
            _ => None,
        };
        let Unlocked { config, keys, encoding, chunker, master, slot } = unlock(&bytes, unlocker)
            .map_err(|source| OpenError::Unlock { location: location.clone(), source })?;
        if config.encryption.is_none() && unlocker.is_explicit() {
            return Err(OpenError::PlaintextRefused { location });
        }
        if let Some(pin) = &pin {
            pin.compare(&config, &bytes, keys.key_check())?;
        }
        let guarded = config.encryption.is_none()
            && unlocker.is_ambient()
            && !pin.as_ref().is_some_and(Pin::is_plaintext);
        let spill_folder = options.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
        let cipher = config.encryption.as_ref().map(|_| RunCipher::shared());
        let spills = SpillDir::new(spill_folder, cipher);
        let cache = options.cache_dir.as_deref().and_then(|cache| open_cache(cache, &keys, &config, &bytes));
        let origin = Origin { storage, keys: Arc::new(keys), encoding: Arc::new(encoding), spills };
        let source = Source { cache: cache.as_ref(), memory: options.memory, ..origin.source() };
        let (catalogue, mut damaged) = match Quick::open(origin.clone())? {
            Some(quick) => (Catalogue::quick(quick), Vec::new()),
            None => load(&source)?,
        };
        // The one state of an archive is all there is: without it the archive is not empty, but damaged.
        if origin.storage.is_archive()
            && let Some(damaged) = damaged.pop()
        {
            return Err(damaged.error.into());
        }
        let repository = Self {
            origin,
            config,
            config_bytes: bytes,
            chunker,
            master,
            slot,
            catalogue: RwLock::new(Arc::new(catalogue)),
            cache,
            memory: options.memory,
            pin: Mutex::new(pin),
            warnings: Mutex::default(),
            damaged: Mutex::default(),
            lock_terms: Mutex::default(),
            lock_wait: Mutex::default(),
            guarded,
            states_missing: std::sync::atomic::AtomicBool::new(false),
            read_whole: Mutex::default(),
            unpinned: std::sync::atomic::AtomicBool::new(false),
        };
        repository.note_damaged(damaged, &[]);
        if !guarded {
            repository.update_pin(options.accept_missing)?;
        }
        Ok(Arc::new(repository))
    }

    /// Remembers the states that cannot be used, each with the snapshots that are known to be lost with it.
    fn note_damaged(&self, damaged: Vec<Damaged>, lost: &[(Id, Id)]) {
        *self.damaged.lock().unwrap_or_else(PoisonError::into_inner) =
            damaged.iter().map(|state| (state.id, state.modified)).collect();
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        let lost_with = |state| lost.iter().filter(move |(with, _)| *with == state).map(|(_, lost)| *lost);
        let warning = |Damaged { id, error, .. }| {
            let snapshots = lost_with(id).collect();
            Warning::DamagedState { id, error, snapshots }
        };
        warnings.extend(damaged.into_iter().map(warning));
    }

    /// Returns the states to be remembered: those that verified, and of the others those that did once. What never did
    /// may be anybody's, and nobody misses it.
    fn states_to_pin(&self, pin: &Pin) -> Vec<Id> {
        let damaged = self.damaged_states().into_iter().map(|(id, _)| id).filter(|id| pin.has_state(id));
        self.catalogue().states().chain(damaged).collect()
    }

    /// Compares the listed states with the pinned ones and remembers those that verified.
    fn update_pin(&self, accept_missing: bool) -> Result<(), OpenError> {
        let mut pin = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pin) = pin.as_mut() else { return Ok(()) };
        let catalogue = self.catalogue();
        let present: std::collections::BTreeSet<Id> =
            catalogue.states().chain(self.damaged_states().into_iter().map(|(id, _)| id)).collect();
        // A state whose place another took was there, and may go: only who has the key can say so.
        let missing = pin.missing_states(&|id| present.contains(id) || catalogue.is_folded(id));
        if missing.is_empty() || accept_missing {
            let states = self.states_to_pin(pin);
            match pin.update(
                &self.config,
                &self.config_bytes,
                self.origin.keys.key_check(),
                states.into_iter(),
            ) {
                Err(PinError::Io(error)) => self.note_unpinned(error),
                done => done?,
            }
        } else {
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            warnings.push(Warning::MissingStates(missing));
            self.states_missing.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }

    /// Notes, once, that the pin could not be written. Why that ends nothing: who has no place for pins, such as a
    /// service without a home, may use the store all the same, and is told.
    fn note_unpinned(&self, error: PathError) {
        if !self.unpinned.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            warnings.push(Warning::Unpinned(error));
        }
    }

    /// Returns whether states that were seen before are gone, and nobody accepted that.
    pub(super) fn misses_states(&self) -> bool {
        self.states_missing.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Returns whether every state could be used when the catalogue was loaded last, and none is gone.
    pub(super) fn has_all_states(&self) -> bool {
        self.damaged_states().is_empty() && !self.misses_states()
    }

    /// Lists the states again, loads what is new, and returns the states that cannot be used, each with whether it is
    /// damaged (it may just be newer than this program). With `whole` every state is read, whatever the cache knows.
    pub(super) fn reload_telling(&self, whole: bool) -> Result<Vec<(Id, bool)>, Error> {
        self.forget_damaged();
        self.reload()?;
        if whole {
            self.read_states()?;
        }
        let warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        let damaged = |warning: &Warning| match warning {
            Warning::DamagedState { id, error, .. } => Some((*id, error.is_damage())),
            Warning::MissingStates(_) | Warning::Unpinned(_) => None,
        };
        Ok(warnings.iter().filter_map(damaged).collect())
    }

    /// Takes the states that are there as given, whatever was there before.
    pub(super) fn accept_states(&self) -> Result<(), OpenError> {
        self.reload_telling(false)?;
        self.update_pin(true)?;
        self.states_missing.store(false, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Returns the listed states that could not be used when the catalogue was loaded last, each with the time when
    /// it was written, in Unix nanoseconds, where the listing tells. What only they name is not known.
    pub fn damaged_states(&self) -> Vec<(Id, Option<i64>)> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns and clears what is wrong with the store without keeping it from being read.
    pub fn take_warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fails where nothing may be written.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        if self.origin.storage.is_read_only() {
            return Err(Error::ReadOnly(self.origin.storage.location()));
        }
        if self.guarded {
            return Err(Error::Unvouched { location: self.origin.storage.location() });
        }
        self.chunker().map(drop).map_err(|error| Error::ReadOnly(error.to_string()))
    }

    /// Returns where the store is kept.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.origin.storage
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the keys.
    pub fn keys(&self) -> &Keys {
        &self.origin.keys
    }

    /// Returns the encoding pipeline.
    pub fn encoding(&self) -> &Encoding {
        &self.origin.encoding
    }

    /// Returns the chunker, or why this store can be read but not extended.
    pub fn chunker(&self) -> Result<&Chunker, &ChunkerError> {
        self.chunker.as_ref()
    }

    /// Returns the master key of an encrypted store.
    pub(crate) fn master(&self) -> Option<&Key> {
        self.master.as_ref()
    }

    /// Returns the id of the key slot that opened the store.
    pub(super) fn opened_by(&self) -> Option<[u8; 16]> {
        self.slot
    }

    /// Remembers a CONFIG that took the place of the one this was opened with.
    pub(super) fn pin_config(&self, config: &Config, bytes: &[u8]) -> Result<(), PinError> {
        let mut pin = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pin) = pin.as_mut() else { return Ok(()) };
        let states = self.states_to_pin(pin);
        pin.update(config, bytes, self.origin.keys.key_check(), states.into_iter())
    }

    /// Returns whether blobs are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.config.encryption.is_some()
    }

    /// Returns whether only we can read this store, so that liberties upstream would not understand are free.
    pub fn is_ours_alone(&self) -> bool {
        self.config.encryption.as_ref().is_some_and(crate::format::config::Encryption::is_native)
    }

    /// Returns the profile the store follows.
    pub fn profile(&self) -> Profile {
        let ours = self.is_ours_alone() || self.config.chunking.algorithm.starts_with("fastcdc2020");
        if ours { Profile::Native } else { Profile::Plakar }
    }

    /// Returns the version of states to write: 1.0.0 while the store holds only those.
    pub fn state_version(&self) -> Version {
        if self.catalogue().only_old_states() { Version::V1_0_0 } else { Version::V1_1_0 }
    }

    pub(super) fn padding(&self) -> Padding {
        match self.profile() {
            Profile::Native if self.is_encrypted() => Padding::Rounded { last: false },
            Profile::Native => Padding::Tail,
            Profile::Plakar => Padding::Upstream { limit: self.config.chunking.min },
        }
    }

    /// Returns the catalogue as it was loaded last.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lists the states again and loads what is new.
    pub fn reload(&self) -> Result<Arc<Catalogue>, Error> {
        self.load_again(&self.source())
    }

    fn source(&self) -> Source<'_> {
        Source { cache: self.cache.as_ref(), memory: self.memory, ..self.origin.source() }
    }

    fn load_again(&self, source: &Source<'_>) -> Result<Arc<Catalogue>, Error> {
        let (catalogue, mut damaged) = load(source)?;
        if self.origin.storage.is_archive()
            && let Some(damaged) = damaged.pop()
        {
            return Err(damaged.error);
        }
        let lost = if source.afresh {
            // What the catalogue before this one knew of them, it knew from when they were whole.
            let ids = damaged.iter().map(|state| state.id).collect();
            self.forget_damaged();
            self.catalogue().named_only_by(&ids)?
        } else {
            Vec::new()
        };
        self.note_damaged(damaged, &lost);
        let catalogue = Arc::new(catalogue);
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&catalogue);
        Ok(catalogue)
    }

    fn forget_damaged(&self) {
        let is_missing = |warning: &Warning| !matches!(warning, Warning::DamagedState { .. });
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).retain(is_missing);
    }

    /// Reads every listed state whole and verifies its trailer, unless that was done since the catalogue was loaded:
    /// what the local cache knows, and an archive's quick index, stand in for states that may be damaged since. Where
    /// one is, the catalogue is loaded anew from what is there, without the cache, and the cache replaced.
    pub fn read_states(&self) -> Result<(), Error> {
        /// How often the states are listed again because one that was merged is gone.
        const LISTINGS: usize = 4;
        if self.catalogue().is_quick() {
            self.reload()?;
        }
        for _ in 0..LISTINGS {
            let catalogue = self.catalogue();
            let mut read = self.read_whole.lock().unwrap_or_else(PoisonError::into_inner);
            if read.upgrade().is_some_and(|read| Arc::ptr_eq(&read, &catalogue)) {
                break;
            }
            match verify(&self.source(), &catalogue)? {
                Verdict::Whole => {
                    *read = Arc::downgrade(&catalogue);
                    break;
                }
                Verdict::Changed => drop(self.reload()?),
                Verdict::Damaged => {
                    return self.load_again(&Source { afresh: true, ..self.source() }).map(drop);
                }
            }
        }
        Ok(())
    }

    /// After a commit: loads the new state and remembers it in the pin.
    pub fn refresh_after_commit(&self) -> Result<(), OpenError> {
        self.reload()?;
        self.update_pin(false)
    }

    /// Returns the folder and cipher of temporary files.
    pub fn spills(&self) -> &SpillDir {
        &self.origin.spills
    }

    /// Returns the folder of the local cache that takes journals.
    pub(super) fn journal_folder(&self) -> Option<&Path> {
        self.cache.as_ref().map(CacheDir::folder)
    }

    /// Takes a lock.
    pub(super) fn lock(&self, id: Id, exclusive: bool) -> Result<LockGuard, Error> {
        let (keys, encoding) = (Arc::clone(&self.origin.keys), Arc::clone(&self.origin.encoding));
        let terms = *self.lock_terms.lock().unwrap_or_else(PoisonError::into_inner);
        LockGuard::acquire(Arc::clone(&self.origin.storage), keys, encoding, id, exclusive, terms)
    }

    /// Takes the shared lock of a writer, waiting for maintenance as long as [`set_lock_wait`](Self::set_lock_wait)
    /// says. The catalogue is then that of the store as the lock found it: what was deleted from it before, however
    /// shortly, is not taken for there.
    pub(super) fn lock_to_write(&self, id: Id) -> Result<LockGuard, Error> {
        let lock = self.lock_wait().run(|| self.lock(id, false))?;
        if self.has_news()? {
            self.reload()?;
        }
        Ok(lock)
    }

    /// Returns whether the store has states that the catalogue was not made of. Lists them.
    fn has_news(&self) -> Result<bool, Error> {
        let catalogue = self.catalogue();
        let damaged = self.damaged_states();
        let known: HashSet<Id> = catalogue.states().chain(damaged.into_iter().map(|(id, _)| id)).collect();
        let mut news = false;
        self.origin.storage.list(Kind::State, &mut |state| {
            news |= !known.contains(&state.id) && !catalogue.is_folded(&state.id);
        })?;
        Ok(news)
    }

    /// Returns how long writers wait for maintenance.
    pub(super) fn lock_wait(&self) -> LockWait {
        self.lock_wait.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes how long writers wait for maintenance to end; they do not unless told.
    pub fn set_lock_wait(&self, wait: LockWait) {
        *self.lock_wait.lock().unwrap_or_else(PoisonError::into_inner) = wait;
    }

    /// Changes how long locks live that are taken from now on.
    pub fn set_lock_terms(&self, terms: LockTerms) {
        *self.lock_terms.lock().unwrap_or_else(PoisonError::into_inner) = terms;
    }

    /// Reads a blob whose decoded length is at most `limit` bytes: verified, from whichever place is whole.
    pub fn get_limited(&self, kind: BlobType, id: &Id, limit: usize) -> Result<Vec<u8>, Error> {
        let catalogue = self.catalogue();
        if let Some(plain) = catalogue.copy(kind, id)?.filter(|plain| plain.len() <= limit) {
            return Ok(plain);
        }
        let places = catalogue.find_any(kind, id)?;
        let mut last = Error::Missing { kind, id: *id };
        for place in places {
            match self.read_at(kind, id, &place, limit) {
                Ok(plain) => return Ok(plain),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Reads a blob from one place; what does not verify is read once more from the source.
    pub(crate) fn read_at(
        &self,
        kind: BlobType,
        id: &Id,
        place: &Place,
        limit: usize,
    ) -> Result<Vec<u8>, Error> {
        match self.read_once(kind, id, place, limit) {
            Err(error) if error.is_damage() => self.read_once(kind, id, place, limit),
            result => result,
        }
    }

    fn read_once(&self, kind: BlobType, id: &Id, place: &Place, limit: usize) -> Result<Vec<u8>, Error> {
        let mut decoded = None;
        self.with_stored(place, &mut |stored| decoded = Some(self.decode(kind, id, stored, limit)))?;
        decoded.unwrap_or(Err(Error::Missing { kind, id: *id }))
    }

    /// Passes the encoded bytes at a place to `consume`. They may lie in a map: verify a copy.
    pub(crate) fn with_stored(&self, place: &Place, consume: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let offset = place.offset.checked_add(HEADER_LEN as u64).ok_or_else(|| {
            Error::malformed(&format!("packfile {}", place.packfile), "an offset that overflows")
        })?;
        let length = place.length as usize;
        let kind = crate::connector::Kind::Packfile;
        Ok(self.origin.storage.read_range(kind, place.packfile, offset, length, consume)?)
    }

    /// Decodes stored bytes and verifies them against the id. A chunk never has more than [`MAX_CHUNK`] bytes.
    pub(crate) fn decode(
        &self,
        kind: BlobType,
        id: &Id,
        stored: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, Error> {
        let limit = if kind == BlobType::CHUNK { limit.min(MAX_CHUNK as usize) } else { limit };
        let plain = self.origin.encoding.decode(
            Item::blob(kind.0, *id),
            stored,
            limit,
            format_args!("{kind} {id}"),
        )?;
        if kind.is_named_by_mac() {
            let found = self.origin.keys.id(&plain);
            if found != *id {
                let what = format!("{kind} {id}");
                return Err(Error::Corrupt { what, expected: id.to_string(), found: found.to_string() });
            }
        }
        Ok(plain)
    }
}

/// The most a blob that is no chunk may decode to: an object of a file of some terabytes.
pub(crate) const METADATA_LIMIT: usize = 256 << 20;

impl BlobSource for Repository {
    fn mac_key(&self) -> &MacKey {
        self.origin.keys.ids()
    }

    fn get(&self, kind: BlobType, id: &Id) -> Result<Vec<u8>, Error> {
        self.get_limited(kind, id, METADATA_LIMIT)
    }

    fn has(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        Ok(!self.catalogue().find_any(kind, id)?.is_empty())
    }
}

fn open_cache(cache: &Path, keys: &Keys, config: &Config, bytes: &[u8]) -> Option<CacheDir> {
    let digest = blake3::hash(bytes);
    let identity = keys.key_check().unwrap_or(digest.as_bytes());
    CacheDir::open(cache, identity, &config.repository_id)
}
