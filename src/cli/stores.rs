//! Opening stores for commands.

use std::error::Error as StdError;
use std::sync::Arc;

use super::context::Context;
use super::error::{CommandError, Exit};
use super::passphrase::{Chain, Origin, Tty, Unlocker};
use super::places::Place;
use super::trace::Traced;
use crate::base::Printable;
use crate::connector::{self, ErrorKind, Readiness, Storage};
use crate::connectors::{Limits, archive_readiness, open_storage};
use crate::crypto::Secret;
use crate::store::{OpenError, OpenOptions, Repository, Unlock, UnlockError, Warning};
use crate::ui::units;

/// An opened store, and how it was unlocked.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The store.
    pub(crate) repository: Arc<Repository>,
    /// Where the passphrase came from; nothing for a plaintext store.
    pub(crate) origin: Option<Origin>,
}

/// Opens the store that the command works on, and tells what is wrong with it.
pub(crate) fn open_main(context: &Context) -> Result<Opened, CommandError> {
    let place = context.main_store()?;
    let opened = open(context, &place, context.store_passphrases(&place, None))
        .map_err(|error| out_of_reach(context, &place).unwrap_or(error))?;
    tell_warnings(context, &opened.repository);
    Ok(opened)
}

/// Returns what to say of an archive that could not be opened because it lies in cold storage as a whole. Commands that
/// have flags for that open it themselves.
fn out_of_reach(context: &Context, place: &Place) -> Option<CommandError> {
    let state = archive_readiness(&place.location, &place.options, &context.limits(), None).ok()??;
    let at =
        context.store.as_deref().map(|store| format!(" at {}", Printable::os(store))).unwrap_or_default();
    match state {
        _ if state.is_readable() => None,
        Readiness::Archived => Some(
            CommandError::failed(format!("{place} must first be retrieved from cold storage")).hint(format!(
                "plakar{at} check -no-wait asks for that (with -retrieve it waits, too); then run this command again"
            )),
        ),
        _ => Some(
            CommandError::new(Exit::Later, format!("{place} is being retrieved from cold storage"))
                .hint("run the same command again later"),
        ),
    }
}

/// Opens a store. Its warnings are left for the caller: [`tell_warnings`], or a check.
pub(crate) fn open(context: &Context, place: &Place, chain: Chain) -> Result<Opened, CommandError> {
    let storage = storage_of(place, &context.limits())?;
    let storage = match context.globals.trace {
        Some(trace) if trace.storage => Traced::wrap(storage, &context.output),
        _ => storage,
    };
    let options = OpenOptions {
        cache_dir: context.cache_folder(),
        data_dir: context.data_folder(),
        spill_dir: None,
        accept_missing: context.globals.accept_missing,
        memory: Some(context.globals.memory),
    };
    let mut terminal = Tty::new(&context.cancel);
    let unlocker = Unlocker::new(chain, place, &mut terminal);
    let mut door = Door { unlocker, slot: context.globals.slot.as_deref() };
    let result = Repository::open(storage, &mut door, &options);
    match result {
        Ok(repository) => Ok(Opened { repository, origin: door.unlocker.used().cloned() }),
        Err(error) => {
            let wrong = matches!(&error, OpenError::Unlock { source: UnlockError::WrongPassphrase, .. });
            let missing = matches!(&error, OpenError::NoStore { .. });
            let told = CommandError::from(error);
            Err(match door.unlocker.hint().filter(|_| wrong) {
                Some(hint) => told.hint(hint),
                // Its location alone would be tried without its options: without keys, or with TLS.
                None if missing && place.name.is_some() => {
                    told.hint(format!("make one: plakar at {} create", spelled(context, place)))
                }
                None => told,
            })
        }
    }
}

/// Returns what was typed for a named store, as far as that is known.
fn spelled(context: &Context, place: &Place) -> String {
    let typed = context.store.as_deref().filter(|_| context.main_store().is_ok_and(|main| main == *place));
    match (typed, &place.name) {
        (Some(typed), _) => Printable::os(typed).to_string(),
        (None, Some(name)) => format!("@{}", Printable::new(name)),
        (None, None) => place.to_string(),
    }
}

/// Opens where a store is kept, without unlocking it.
pub(crate) fn storage_of(place: &Place, limits: &Limits) -> Result<Arc<dyn Storage>, CommandError> {
    open_storage(&place.location, &place.options, limits).map_err(unopened)
}

/// Tells what kept an archive from being opened: stores are found missing or damaged only when they are unlocked.
fn unopened(error: connector::Error) -> CommandError {
    match error.kind {
        ErrorKind::NotFound => CommandError::from_error(Exit::NoStore, error),
        ErrorKind::Protocol => CommandError::from_error(Exit::Damage, error),
        _ => error.into(),
    }
}

/// Warns of what is wrong with a store without keeping it from being used.
pub(crate) fn tell_warnings(context: &Context, repository: &Repository) {
    for warning in repository.take_warnings() {
        match warning {
            Warning::DamagedState { id, error, .. } => context.output.warn(format!(
                "state {} cannot be used, and snapshots that only it names are not seen: {}",
                id.short(),
                crate::snapshot::message_of(&error)
            )),
            Warning::MissingStates(ids) => context.output.warn(format!(
                "{} seen before {} gone: somebody removed data from the store, or put an old copy back; if that was you, \
                 -accept-missing makes this the new normal",
                units::counted(ids.len() as u64, "state"),
                if ids.len() == 1 { "is" } else { "are" }
            )),
            Warning::Unpinned(error) => context.output.warn(format!(
                "this store cannot be remembered, so it will not be noticed if it is exchanged or set back: {}; -datadir DIR \
                 names another place",
                crate::snapshot::message_of(&error)
            )),
        }
    }
}

/// Tells what the storage had to do without.
pub(crate) fn tell_notes(context: &Context, repository: &Repository) {
    for note in repository.storage().take_notes() {
        context.output.warn(note);
    }
}

struct Door<'a> {
    unlocker: Unlocker<'a>,
    slot: Option<&'a str>,
}

impl Unlock for Door<'_> {
    fn passphrase(&mut self, attempt: u32) -> Result<Option<Secret>, Box<dyn StdError + Send + Sync>> {
        Ok(self.unlocker.passphrase(attempt)?)
    }

    fn is_explicit(&self) -> bool {
        self.unlocker.is_explicit()
    }

    fn is_ambient(&self) -> bool {
        self.unlocker.is_ambient()
    }

    fn slot(&self) -> Option<&str> {
        self.slot
    }
}
