//! What failures of the engine mean to a person: exit codes and hints.

use super::error::{CommandError, Exit};
use super::passphrase::PassphraseError;
use crate::connector::{self, ErrorKind};
use crate::format;
use crate::store::{ArchiveError, CreateError, Error, OpenError, PinError, UnlockError};

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        let damage = error.is_damage();
        let error = match error {
            Error::Connector(error) if error.kind == ErrorKind::Full => return Self::from(error).hint(FULL),
            Error::Connector(error) if !damage => return error.into(),
            Error::Elsewhere(error) => return elsewhere(error),
            Error::Io(error) => return error.into(),
            error => error,
        };
        let exit = match &error {
            Error::Version { .. } | Error::Format(format::Error::Version { .. }) => Exit::Version,
            Error::NoSnapshot(_) | Error::Ambiguous(_) | Error::NoPath { .. } => Exit::Failed,
            Error::Unvouched { .. } => Exit::Denied,
            Error::Locked { .. } => Exit::Later,
            _ if damage => Exit::Damage,
            _ => Exit::Failed,
        };
        let hint = match &error {
            Error::Locked { .. } => {
                Some("wait for it to end; a lock that a dead program left expires by itself")
            }
            Error::ReadOnly(location) => read_only(location),
            Error::NoSnapshot(_) => Some("plakar at STORE ls lists the snapshots"),
            Error::LatestUnreadable { .. } => Some(
                "name a snapshot by its id if an older one will do: plakar at STORE ls lists those that can be read",
            ),
            Error::Ambiguous(_) => Some("give more digits of the id"),
            Error::Unvouched { .. } => Some(
                "if it is yours, run plakar at STORE ls once without PLAKAR_PASSPHRASE: it is known from then on",
            ),
            Error::OldStates => Some(
                "a store that upstream 1.0.x still reads cannot take this; maintenance -upgrade writes newer states, \
                 which upstream before 1.1 does not read",
            ),
            Error::Incomplete(_) => {
                Some("plakar at STORE check tells more; repair restores states that were lost")
            }
            Error::Spool { .. } => Some(
                "free some space there; TMPDIR names another folder for temporary files, -cachedir one for the cache",
            ),
            Error::Interfered => Some("run it again"),
            Error::Overtaken => Some(
                "run it again; this machine slept or was cut off for ten minutes, or the clock of the one that did \
                 maintenance is wrong",
            ),
            Error::Cancelled => Some("what was done so far is kept where the command can go on from it"),
            _ if damage => Some("plakar at STORE check names everything that is damaged, and what it hurts"),
            _ => None,
        };
        let told = Self::from_error(exit, error);
        match hint {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}

/// What helps where there is no room left for a store.
const FULL: &str = "free some space there, then run the command again; plakar prune, then maintenance, give back what the \
    store itself can do without";

/// Returns what helps where a store cannot be written.
fn read_only(location: &str) -> Option<&'static str> {
    if location.starts_with("http:") || location.starts_with("https:") {
        return Some(
            "it is served read-only: start that plakar server with -allow-write (and -allow-delete for what removes \
             something)",
        );
    }
    let archive = location.starts_with("ptar") || location.ends_with(".ptar");
    archive.then_some("archives are never changed; plakar ptar -o NEW.ptar makes another")
}

/// Tells what failed at a source or a destination.
fn elsewhere(error: connector::Error) -> CommandError {
    let missing = error.kind == ErrorKind::NotFound;
    let told = CommandError::from(error);
    if missing {
        told.hint(
            "check the location; plakar source ping NAME, or destination ping NAME, tries what is configured",
        )
    } else {
        told
    }
}

impl From<UnlockError> for CommandError {
    fn from(error: UnlockError) -> Self {
        let exit = match &error {
            UnlockError::WrongPassphrase | UnlockError::NoPassphrase => Exit::Denied,
            UnlockError::NoSlot { .. } => Exit::Usage,
            UnlockError::Damaged(_) | UnlockError::Unacceptable(_) => Exit::Damage,
            UnlockError::Unsupported { .. } | UnlockError::Version(_) => Exit::Version,
            _ => Exit::Failed,
        };
        match error {
            UnlockError::Asking(source) => match source.downcast::<PassphraseError>() {
                Ok(error) => (*error).into(),
                Err(source) => Self::failed("cannot get the passphrase").because(source),
            },
            other => Self::from_error(exit, other),
        }
    }
}

impl From<OpenError> for CommandError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NoStore { location } => Self::new(Exit::NoStore, format!("there is no store at {location}"))
                .hint(format!("make one: plakar at {location} create")),
            OpenError::Unlock { location, source } => {
                let told = Self::from(source);
                Self::context(told, format!("cannot open the store at {location}"))
            }
            error @ OpenError::PlaintextRefused { .. } => Self::from_error(Exit::Denied, error)
                .hint("somebody may have put another store there; if it is yours, leave the passphrase out"),
            OpenError::Pin(PinError::Io(error)) => {
                Self::from(error).hint("-datadir names another folder for what is remembered of stores")
            }
            error @ OpenError::Pin(PinError::Broken { .. }) => Self::from_error(Exit::Failed, error).hint(
                "move that file away: the store is then taken as it is and remembered anew; if it was changed or replaced meanwhile, \
                 that is not noticed",
            ),
            error @ OpenError::Pin(_) => Self::from_error(Exit::Denied, error)
                .hint("somebody may have put another store there; if you did, remove what is remembered of it in the data folder"),
            OpenError::Store(error) => error.into(),
        }
    }
}

impl From<CreateError> for CommandError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Connector(error) if error.kind == ErrorKind::Exists => {
                Self::from_error(Exit::Failed, error)
                    .hint("a store is made in an empty place; plakar at STORE ls shows what is there")
            }
            CreateError::Connector(error) => error.into(),
            other => Self::from_error(Exit::Failed, other),
        }
    }
}

impl From<ArchiveError> for CommandError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Create(error) => error.into(),
            ArchiveError::Unlock(error) => error.into(),
            ArchiveError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: impl Into<CommandError>) -> u8 {
        error.into().exit().code()
    }

    #[test]
    fn transport_is_not_damage_and_damage_is_65() {
        let connector = |kind| Error::Connector(connector::Error::new(kind, "read", "x"));
        assert_eq!(code(connector(ErrorKind::Transport)), 1);
        assert_eq!(code(connector(ErrorKind::Denied)), 77);
        assert_eq!(code(connector(ErrorKind::NotFound)), 65);
        for (kind, wanted) in [(ErrorKind::NotFound, 1), (ErrorKind::Protocol, 1), (ErrorKind::Denied, 77)] {
            let elsewhere = Error::Elsewhere(connector::Error::new(kind, "list", "x"));
            assert!(!elsewhere.is_damage());
            assert_eq!(code(elsewhere), wanted);
        }
        assert_eq!(code(Error::corrupt("chunk", "a", "b")), 65);
        assert_eq!(code(Error::Version { what: "x".into(), found: "9".into(), newest: "1".into() }), 78);
        assert_eq!(code(Error::NoSnapshot("ab".into())), 1);
        assert_eq!(code(OpenError::NoStore { location: "x".into() }), 66);
    }

    #[test]
    fn a_full_store_is_named_and_nobody_is_sent_to_temporary_files() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let told = CommandError::from(Error::unspooled(Some("/srv/x"), full())).report().unwrap();
        assert_eq!(told.message, "cannot write to the store /srv/x: its disk is full");
        assert!(told.hint.as_ref().is_some_and(|hint| !hint.contains("TMPDIR")), "{told:?}");
        let told = CommandError::from(Error::unspooled(None, full())).report().unwrap();
        assert!(told.message.contains("temporary file") && told.hint.unwrap().contains("TMPDIR"));
    }

    #[test]
    fn a_locked_door_is_77_and_says_what_was_tried() {
        let unlock = |source| OpenError::Unlock { location: "/srv/x".into(), source };
        let told = CommandError::from(unlock(UnlockError::WrongPassphrase));
        assert_eq!(told.exit().code(), 77);
        let report = told.report().unwrap();
        assert_eq!(
            (report.message.as_str(), report.causes),
            ("cannot open the store at /srv/x", vec!["wrong passphrase".to_owned()])
        );
        let nobody = PassphraseError::NobodyToAsk("/srv/x".into());
        let told = CommandError::from(unlock(UnlockError::Asking(nobody.into())));
        assert_eq!(told.exit().code(), 77);
        assert!(told.report().unwrap().hint.unwrap().contains("-keyfile"));
        assert_eq!(code(unlock(UnlockError::Damaged("x".into()))), 65);
        assert_eq!(code(unlock(UnlockError::NoSlot { label: "x".into(), known: Vec::new() })), 64);
        assert_eq!(code(unlock(UnlockError::Unsupported { what: "cipher", name: "x".into() })), 78);
    }
}
