//! Pins: what this machine remembers of a store, so that hostile storage cannot swap or roll it back.
//!
//! One small JSON file per location in the data directory holds the RepositoryID, the key check, whether the
//! store is plaintext, the generation of its CONFIG, and the ids of the states that verified (native-profile chapter of
//! FORMAT.md, "Threats"). It holds no secret. A pin is made at the first successful unlock and moves forward
//! only.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::{At, Id, PathError, hex};
use crate::format::config::Config;

/// What is remembered of one location.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct Record {
    location: String,
    repository_id: String,
    key_check: Option<String>,
    plaintext: bool,
    generation: u64,
    config_digest: String,
    states: BTreeSet<String>,
}

/// Why a store is not the one that was pinned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The store at this location is another one than before.
    #[error("the store at {location} is not the one seen before: {what} changed")]
    Swapped {
        /// The location.
        location: String,
        /// What differs: "its identity", "its key", "its encryption".
        what: &'static str,
    },
    /// CONFIG is older than the one seen before, or another one of the same generation.
    #[error("the CONFIG of {location} was rolled back: generation {found}, but {pinned} was seen before")]
    RolledBack {
        /// The location.
        location: String,
        /// The generation found.
        found: u64,
        /// The generation remembered.
        pinned: u64,
    },
    /// The pin makes no sense: it is empty, for one.
    #[error("what is remembered of the store at {location} cannot be understood: {}", path.display())]
    Broken {
        /// The location.
        location: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The pin cannot be read or written.
    #[error(transparent)]
    Io(#[from] PathError),
}

/// The pin of one location.
#[derive(Debug)]
pub(super) struct Pin {
    path: PathBuf,
    location: String,
    record: Option<Record>,
    /// The whole CONFIG, kept beside the pin: losing it loses everything.
    copy: PathBuf,
}

impl Pin {
    /// Removes the pin of a location; the copy of its CONFIG stays until another store takes the place.
    pub(super) fn forget(data_dir: &Path, location: &str) -> Result<(), PathError> {
        let (path, _) = Self::paths(data_dir, location);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).at("remove", &path),
            _ => Ok(()),
        }
    }

    /// Returns where pin and copy of a location are.
    fn paths(data_dir: &Path, location: &str) -> (PathBuf, PathBuf) {
        let name = blake3::hash(location.as_bytes()).to_hex()[..32].to_owned();
        let folder = data_dir.join("pins");
        (folder.join(format!("{name}.json")), folder.join(format!("{name}.config")))
    }

    /// Loads the pin of a location from the data directory; there may be none yet.
    pub(super) fn load(data_dir: &Path, location: &str) -> Result<Self, PinError> {
        let (path, copy) = Self::paths(data_dir, location);
        let record = match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(record) => Some(record),
                Err(source) => {
                    return Err(PinError::Broken { location: location.to_owned(), path, source });
                }
            },
            // Where there is no folder, or cannot be one, there is no pin.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
            Err(error) => return Err(Err::<(), _>(error).at("read", &path).expect_err("an error").into()),
        };
        Ok(Self { path, location: location.to_owned(), record, copy })
    }

    /// Returns whether this location was seen as a plaintext store.
    pub(super) fn is_plaintext(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.plaintext)
    }

    /// Compares an unlocked store with what is remembered.
    pub(super) fn compare(
        &self,
        config: &Config,
        bytes: &[u8],
        key_check: Option<&[u8; 32]>,
    ) -> Result<(), PinError> {
        let Some(record) = &self.record else { return Ok(()) };
        let swapped = |what| PinError::Swapped { location: self.location.clone(), what };
        if record.plaintext != config.encryption.is_none() {
            return Err(swapped("its encryption"));
        }
        if record.repository_id != hex(&config.repository_id) {
            return Err(swapped("its identity"));
        }
        if record.key_check != key_check.map(|check| hex(check)) {
            return Err(swapped("its key"));
        }
        let found = generation(config);
        if found < record.generation || (found == record.generation && record.config_digest != digest(bytes))
        {
            let (location, pinned) = (self.location.clone(), record.generation);
            return Err(PinError::RolledBack { location, found, pinned });
        }
        Ok(())
    }

    /// Returns the pinned states that are not listed any more.
    pub(super) fn missing_states(&self, listed: &dyn Fn(&Id) -> bool) -> Vec<Id> {
        let Some(record) = &self.record else { return Vec::new() };
        record.states.iter().filter_map(Id::from_hex).filter(|id| !listed(id)).collect()
    }

    /// Returns whether a state is pinned.
    pub(super) fn has_state(&self, id: &Id) -> bool {
        self.record.as_ref().is_some_and(|record| record.states.contains(&id.to_hex()))
    }

    /// Remembers the store as it is now.
    pub(super) fn update(
        &mut self,
        config: &Config,
        bytes: &[u8],
        key_check: Option<&[u8; 32]>,
        states: impl Iterator<Item = Id>,
    ) -> Result<(), PinError> {
        let record = Record {
            location: self.location.clone(),
            repository_id: hex(&config.repository_id),
            key_check: key_check.map(|check| hex(check)),
            plaintext: config.encryption.is_none(),
            generation: generation(config),
            config_digest: digest(bytes),
            states: states.map(|id| id.to_hex()).collect(),
        };
        if self.record.as_ref() == Some(&record) {
            return Ok(());
        }
        let folder = self.path.parent().expect("a pin lies in a folder");
        create_private(folder)?;
        if self.record.as_ref().is_none_or(|old| old.config_digest != record.config_digest) {
            replace(&self.copy, bytes)?;
        }
        replace(&self.path, &serde_json::to_vec_pretty(&record).expect("plain data"))?;
        self.record = Some(record);
        Ok(())
    }
}

fn generation(config: &Config) -> u64 {
    let native = config.encryption.as_ref().and_then(|encryption| encryption.native.as_ref());
    native.map_or(0, |native| native.generation)
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Creates a folder that only its owner can enter.
pub(super) fn create_private(folder: &Path) -> Result<(), PathError> {
    crate::base::sys::private_folder().recursive(true).create(folder).at("create", folder)
}

/// Writes a file under a temporary name, 0600, and renames it into place.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let folder = path.parent().expect("a file lies in a folder");
    let mut file = tempfile::NamedTempFile::new_in(folder).at("create a file in", folder)?;
    file.write_all(bytes).at("write", file.path())?;
    file.as_file().sync_all().at("synchronise", path)?;
    file.persist(path).map_err(|error| error.error).at("rename a file to", path)?;
    Ok(())
}
