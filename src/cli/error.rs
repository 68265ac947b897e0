//! The one place where failures become exit codes and hints.

use std::error::Error as StdError;
use std::fmt;

use crate::base::PathError;
use crate::connector;
use crate::connectors::{LocationError, OptionError};
use crate::ui::{OutputError, Report};

/// How a run ends, as other programs see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Everything was done.
    Ok,
    /// Something was not done; a partial success is this, too.
    Failed,
    /// The command line or the configuration makes no sense.
    Usage,
    /// A check found damage.
    Damage,
    /// There is no such store.
    NoStore,
    /// What is needed is on its way, or another program holds the store; the same command goes on later.
    Later,
    /// The passphrase is wrong, or access was denied.
    Denied,
    /// A format version that this program does not speak.
    Version,
}

impl Exit {
    /// Returns the number (the 60s and 70s are those of `sysexits.h`).
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 64,
            Self::Damage => 65,
            Self::NoStore => 66,
            Self::Later => 75,
            Self::Denied => 77,
            Self::Version => 78,
        }
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub(crate) struct CommandError {
    exit: Exit,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// The reader of standard output went away: nothing is said.
    quiet: bool,
}

impl CommandError {
    /// Creates an error without cause or hint.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, source: None, quiet: false }
    }

    /// Creates an error about the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Creates an error about anything else.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Creates the error of an archive that nobody read to its end: there is nobody to tell, and no success.
    pub(crate) fn reader_left() -> Self {
        Self { quiet: true, ..Self::failed("the reader of standard output went away") }
    }

    /// Says what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns how the run ends.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Takes another exit code: of what is known better here than where the error was made.
    pub(crate) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Returns what to tell, if anything.
    pub(crate) fn report(&self) -> Option<Report> {
        let source = self.source.as_deref().map(|source| source as &(dyn StdError + 'static));
        (!self.quiet).then(|| Report::new(&self.message, source, self.hint.clone()))
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<OutputError> for CommandError {
    fn from(error: OutputError) -> Self {
        let broken = error.is_broken_pipe();
        let exit = if broken { Exit::Ok } else { Exit::Failed };
        Self { quiet: broken, ..Self::from_error(exit, error) }
    }
}

impl CommandError {
    /// Takes the error's own words as the message, and its source as the cause.
    pub(super) fn from_error(exit: Exit, error: impl StdError) -> Self {
        // The source cannot be moved out of a borrowed error, so its chain is kept as text.
        let (mut causes, mut refused) = (Vec::new(), false);
        let mut next = error.source();
        while let Some(cause) = next {
            let cause_io = cause.downcast_ref::<std::io::Error>();
            refused |= cause_io.is_some_and(|cause| cause.kind() == std::io::ErrorKind::OutOfMemory);
            causes.push(cause.to_string());
            next = cause.source();
        }
        let source = Cause::chain(causes);
        let hint = refused.then(|| NO_MEMORY.to_owned());
        Self { exit, message: error.to_string(), hint, source, quiet: false }
    }
}

/// What helps when the system refused memory.
const NO_MEMORY: &str =
    "allow the process more memory (ulimit -d, or the container's limit), or give a smaller -memory";

impl CommandError {
    /// Puts what was tried in front of a failure, unless nothing is to be said.
    #[must_use]
    pub(super) fn within(self, message: impl Into<String>) -> Self {
        if self.quiet { self } else { self.context(message) }
    }

    /// Puts what was tried in front: the old message becomes the first cause.
    #[must_use]
    pub(super) fn context(self, message: impl Into<String>) -> Self {
        let mut causes = vec![self.message];
        let mut next = self.source.as_deref().map(|source| source as &(dyn StdError + 'static));
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self { message: message.into(), source: Cause::chain(causes), ..self }
    }
}

/// A cause of which only the words are left.
#[derive(Debug)]
struct Cause {
    text: String,
    next: Option<Box<dyn StdError + Send + Sync>>,
}

impl Cause {
    fn chain(texts: Vec<String>) -> Option<Box<dyn StdError + Send + Sync>> {
        texts.into_iter().rev().fold(None, |next, text| Some(Box::new(Self { text, next })))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.next.as_deref().map(|next| next as &(dyn StdError + 'static))
    }
}

impl From<PathError> for CommandError {
    fn from(error: PathError) -> Self {
        let exit = match error.source.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::Denied,
            _ => Exit::Failed,
        };
        Self::from_error(exit, error)
    }
}

impl From<connector::Error> for CommandError {
    fn from(error: connector::Error) -> Self {
        use connector::ErrorKind;
        let (exit, hint) = match error.kind {
            ErrorKind::Denied => (Exit::Denied, None),
            ErrorKind::Invalid => (Exit::Usage, None),
            ErrorKind::Full => (Exit::Failed, Some("free some space, then run the command again")),
            ErrorKind::Transport => (
                Exit::Failed,
                Some("check the network and the location; nothing was damaged, trying again is safe"),
            ),
            _ => (Exit::Failed, None),
        };
        Self { hint: hint.map(str::to_owned), ..Self::from_error(exit, error) }
    }
}

impl From<LocationError> for CommandError {
    fn from(error: LocationError) -> Self {
        let hint = match &error {
            LocationError::UnknownScheme { scheme, .. } => {
                let known = crate::connectors::Kind::ALL.map(crate::connectors::Kind::scheme);
                let near = super::suggest::nearest(scheme, known);
                let near = near.map(|near| format!("did you mean {near}:? ")).unwrap_or_default();
                Some(format!("{near}known are a path, {}:", known.join(":, ")))
            }
            _ => None,
        };
        Self { hint, ..Self::from_error(Exit::Usage, error) }
    }
}

impl From<OptionError> for CommandError {
    fn from(error: OptionError) -> Self {
        let hint = match &error {
            OptionError::Unknown { name, known, .. } => {
                let near = super::suggest::nearest(name, known.iter().copied());
                let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
                Some(format!("{near}known options are {}", known.join(", ")))
            }
            _ => None,
        };
        Self { hint, ..Self::from_error(Exit::Usage, error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::At as _;
    use crate::connector::ErrorKind;

    #[test]
    fn kinds_choose_exit_codes() {
        let exit = |kind| CommandError::from(connector::Error::new(kind, "read", "x")).exit().code();
        assert_eq!(exit(ErrorKind::Denied), 77);
        assert_eq!(exit(ErrorKind::Invalid), 64);
        assert_eq!(exit(ErrorKind::Transport), 1);
        assert_eq!(exit(ErrorKind::Io), 1);
    }

    #[test]
    fn causes_survive() {
        let error = Err::<(), _>(std::io::Error::other("bad sector")).at("read", "/x").unwrap_err();
        let told = CommandError::from(error).report().unwrap();
        assert_eq!((told.message.as_str(), told.causes), ("cannot read /x", vec!["bad sector".to_owned()]));
    }

    #[test]
    fn a_broken_pipe_is_quiet_and_fine() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let error = CommandError::from(OutputError::from(broken));
        assert_eq!((error.exit(), error.report()), (Exit::Ok, None));
    }

    #[test]
    fn unknown_names_get_the_nearest() {
        let error: CommandError =
            LocationError::UnknownScheme { scheme: "s4".into(), location: "s4://x".into() }.into();
        assert!(error.report().unwrap().hint.unwrap().starts_with("did you mean s3:?"));
    }
}
