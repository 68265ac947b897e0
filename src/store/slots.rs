//! Changing the key slots of a store (FORMAT.md, native profile, "Changing slots").
//!
//! CONFIG is the only object of a store that is ever replaced, and only for this: it is read again, changed by one
//! generation, tried out, and put in place of what was read, or not at all. The slot that opened the store in this
//! run stays, so that whoever changes slots is not locked out by it.

use std::sync::Arc;

use crate::base::Timestamp;
use crate::connector::{self, ErrorKind};
use crate::crypto::slots::{RecoveryKey, Slot, SlotError};
use crate::crypto::{Key, Secret, random};
use crate::format::config::{Config, Native, SlotKind};

use super::create::{KdfChoice, finish, native_slot, to_config_slot};
use super::error::Error;
use super::pins::PinError;
use super::repository::Repository;
use super::unlock::{Unlock, UnlockError, unlock, unlock_with_master};

/// The most slots a CONFIG has.
const MOST_SLOTS: usize = 16;
/// The longest label, in bytes.
const MOST_LABEL: usize = 64;
/// How often a change is tried again because somebody else was faster.
const TRIES: u32 = 5;

/// A key slot, as far as it is public.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotInfo {
    /// Its id.
    pub id: [u8; 16],
    /// Its label.
    pub label: String,
    /// Whether a recovery key opens it; a passphrase does otherwise.
    pub is_recovery: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it opened the store in this run.
    pub opened: bool,
}

/// A change of slots.
#[derive(Debug)]
pub enum SlotChange<'a> {
    /// Adds a passphrase.
    AddPassphrase {
        /// The new slot's label.
        label: &'a str,
        /// The passphrase.
        passphrase: &'a Secret,
        /// How hard it is stretched.
        kdf: KdfChoice,
    },
    /// Adds a recovery key.
    AddRecovery {
        /// The new slot's label.
        label: &'a str,
        /// The key, which nobody else keeps.
        key: &'a RecoveryKey,
    },
    /// Replaces the passphrase of a slot; its label stays.
    Replace {
        /// The slot's label.
        label: &'a str,
        /// The passphrase.
        passphrase: &'a Secret,
        /// How hard it is stretched.
        kdf: KdfChoice,
    },
    /// Removes a slot.
    Remove {
        /// The slot's label.
        label: &'a str,
    },
}

/// Why slots cannot be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotsError {
    /// The store has none.
    #[error("the store at {0} has no key slots")]
    None(String),
    /// An archive is what it is.
    #[error("the key slots of an archive never change")]
    Archive,
    /// A newer program made them.
    #[error("the key slots were made by a newer program, whose additions this one would lose")]
    Newer,
    /// There is no slot of this label.
    #[error("there is no key slot '{0}'")]
    Unknown(String),
    /// The label is taken.
    #[error("there is a key slot '{0}' already")]
    Taken(String),
    /// The label cannot be one.
    #[error("a label of a key slot has 1 to 64 bytes and no control characters")]
    Label,
    /// All places are taken.
    #[error("a store has at most 16 key slots")]
    Full,
    /// Without this slot nobody could open the store.
    #[error("'{0}' is the only key slot: without it nobody could open the store")]
    Last(String),
    /// The slot that opened the store in this run.
    #[error("'{0}' is the key slot that opened the store in this run: nothing shows that another one works")]
    InUse(String),
    /// A recovery slot holds no passphrase.
    #[error("'{0}' is opened by a recovery key, not by a passphrase")]
    Recovery(String),
    /// Others change the slots as fast.
    #[error("somebody else changed the key slots at the same time, again and again")]
    Contended,
    /// The new slot could not be made.
    #[error("cannot make the key slot")]
    Slot(#[from] SlotError),
    /// What was made does not open; nothing was changed.
    #[error("the changed CONFIG does not open; nothing was changed")]
    SelfTest(#[source] UnlockError),
    /// What was put is not what is there.
    #[error("the store does not show the CONFIG that was put")]
    NotThere,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// The pin could not be updated.
    #[error(transparent)]
    Pin(#[from] PinError),
}

impl From<connector::Error> for SlotsError {
    fn from(error: connector::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Lists the key slots of a store; none for one without.
pub fn slots(repository: &Repository) -> Vec<SlotInfo> {
    let native = native(repository.config());
    let info = |slot: &crate::format::config::Slot| SlotInfo {
        id: slot.id,
        label: slot.label.clone(),
        is_recovery: slot.kind == SlotKind::Recovery,
        created: slot.created,
        opened: repository.opened_by() == Some(slot.id),
    };
    native.map(|native| native.slots.iter().map(info).collect()).unwrap_or_default()
}

fn native(config: &Config) -> Option<&Native> {
    config.encryption.as_ref()?.native.as_ref()
}

/// Changes the key slots. Takes the exclusive lock, for storages where a conditional write is not to be had.
///
/// Removing a slot does not change the key: whoever had it, or keeps an older CONFIG, can still use it.
pub fn change_slots(repository: &Arc<Repository>, change: &SlotChange<'_>) -> Result<(), SlotsError> {
    let storage = repository.storage();
    if storage.is_archive() {
        return Err(SlotsError::Archive);
    }
    let master = repository.master().ok_or_else(|| SlotsError::None(storage.location()))?;
    if native(repository.config()).is_none() {
        return Err(SlotsError::None(storage.location()));
    }
    repository.check_writable()?;
    let _lock = repository.lock(random::id(), true)?;
    let mut made = None;
    for _ in 0..TRIES {
        let before = storage.config()?;
        // What stands there now may not be what was opened, but it must be of the same key.
        let current = unlock_with_master(&before, Some(master.clone())).map_err(SlotsError::SelfTest)?;
        let config = changed(repository, current.config, master, change, &mut made)?;
        let after = finish(&config, Some(master));
        let tested = test(&after, master, change)?;
        match storage.replace_config(&before, &after) {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::Changed => continue,
            // The answer may have been lost on its way.
            Err(error) => {
                if storage.config().ok().as_deref() != Some(&after[..]) {
                    return Err(error.into());
                }
            }
        }
        if storage.config()? != after {
            return Err(SlotsError::NotThere);
        }
        return Ok(repository.pin_config(&tested, &after)?);
    }
    Err(SlotsError::Contended)
}

/// Applies the change to a CONFIG. A slot is made once: deriving its key is work.
fn changed(
    repository: &Repository,
    mut config: Config,
    master: &Key,
    change: &SlotChange<'_>,
    made: &mut Option<crate::format::config::Slot>,
) -> Result<Config, SlotsError> {
    let location = || SlotsError::None(repository.storage().location());
    let native = config.encryption.as_mut().and_then(|one| one.native.as_mut()).ok_or_else(location)?;
    if !native.editable {
        return Err(SlotsError::Newer);
    }
    native.generation = native.generation.checked_add(1).ok_or(SlotsError::Newer)?;
    let at = |label: &str| native.slots.iter().position(|slot| slot.label == label);
    let unknown = |label: &str| SlotsError::Unknown(label.to_owned());
    match *change {
        SlotChange::AddPassphrase { label, .. } | SlotChange::AddRecovery { label, .. } => {
            check_label(label)?;
            if at(label).is_some() {
                return Err(SlotsError::Taken(label.to_owned()));
            }
            if native.slots.len() >= MOST_SLOTS {
                return Err(SlotsError::Full);
            }
        }
        SlotChange::Replace { label, .. } => {
            let slot = at(label).ok_or_else(|| unknown(label))?;
            if native.slots[slot].kind == SlotKind::Recovery {
                return Err(SlotsError::Recovery(label.to_owned()));
            }
        }
        SlotChange::Remove { label } => {
            let slot = at(label).ok_or_else(|| unknown(label))?;
            if native.slots.len() == 1 {
                return Err(SlotsError::Last(label.to_owned()));
            }
            if repository.opened_by() == Some(native.slots[slot].id) {
                return Err(SlotsError::InUse(label.to_owned()));
            }
            native.slots.remove(slot);
            return Ok(config);
        }
    }
    let slot = match made {
        Some(slot) => slot.clone(),
        None => made.insert(make(master, change)?).clone(),
    };
    match native.slots.iter_mut().find(|old| old.label == slot.label) {
        Some(old) => *old = slot,
        None => native.slots.push(slot),
    }
    Ok(config)
}

fn check_label(label: &str) -> Result<(), SlotsError> {
    let fits = (1..=MOST_LABEL).contains(&label.len()) && !label.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(SlotsError::Label) }
}

fn make(master: &Key, change: &SlotChange<'_>) -> Result<crate::format::config::Slot, SlotsError> {
    match *change {
        SlotChange::AddPassphrase { label, passphrase, kdf }
        | SlotChange::Replace { label, passphrase, kdf } => Ok(native_slot(master, passphrase, kdf, label)?),
        SlotChange::AddRecovery { label, key } => Ok(to_config_slot(&Slot::for_recovery(master, key), label)),
        SlotChange::Remove { label } => Err(SlotsError::Unknown(label.to_owned())),
    }
}

/// Opens the changed CONFIG from its bytes: through the new slot where there is one, and always with the key.
fn test(bytes: &[u8], master: &Key, change: &SlotChange<'_>) -> Result<Config, SlotsError> {
    let new = match *change {
        SlotChange::AddPassphrase { label, passphrase, .. }
        | SlotChange::Replace { label, passphrase, .. } => Some((label, passphrase.clone())),
        SlotChange::AddRecovery { label, key } => {
            Some((label, Secret::new(key.encode().as_bytes().to_vec())))
        }
        SlotChange::Remove { .. } => None,
    };
    let opened = match new {
        Some((label, secret)) => unlock(bytes, &mut Through { label, secret }),
        None => unlock_with_master(bytes, Some(master.clone())),
    };
    let opened = opened.map_err(SlotsError::SelfTest)?;
    let same = opened.master.as_ref().is_some_and(|found| found.as_bytes() == master.as_bytes());
    if same { Ok(opened.config) } else { Err(SlotsError::NotThere) }
}

/// Opens by one slot only.
struct Through<'a> {
    label: &'a str,
    secret: Secret,
}

impl Unlock for Through<'_> {
    fn passphrase(
        &mut self,
        attempt: u32,
    ) -> Result<Option<Secret>, Box<dyn std::error::Error + Send + Sync>> {
        Ok((attempt == 0).then(|| self.secret.clone()))
    }

    fn slot(&self) -> Option<&str> {
        Some(self.label)
    }
}
