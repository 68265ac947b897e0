//! Where passphrases come from, and in which order.
//!
//! Of the store named by `at`: `-keyfile`, the store's `passphrase`, `passphrase_cmd` and `keyfile`, those of the
//! source in `backup @source`, `PLAKAR_PASSPHRASE`, a prompt. Of a peer store: `-peer-keyfile`, that store's own
//! options, `PLAKAR_PEER_PASSPHRASE`, `PLAKAR_PASSPHRASE`, a prompt. Of a new archive: `-keyfile`,
//! `PLAKAR_PASSPHRASE`, a prompt with confirmation. The first one present is used; a wrong one is an error, not a
//! reason to try the next. Nothing prompts unless standard input is a terminal.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::environment::SECRET_VARIABLES;
use super::error::{CommandError, Exit};
use crate::base::{At as _, Cancel, PathError, Printable};
use crate::connectors::Options;
use crate::crypto::Secret;
use crate::ui::ask_secret;

/// The most bytes that a key file or a command may give.
const MOST: u64 = 64 << 10;
/// How often a prompt is repeated.
pub(crate) const TRIES: u32 = 3;

/// Where a passphrase was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// A file named by a flag or an option.
    Keyfile(PathBuf),
    /// The option `passphrase` of a configured store or source.
    Configured(String),
    /// The option `passphrase_cmd`.
    Command(String),
    /// An environment variable.
    Variable(&'static str),
    /// A person.
    Prompt,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyfile(path) => write!(f, "the key file {}", Printable::os(path)),
            Self::Configured(name) => write!(f, "the passphrase configured for {}", Printable::new(name)),
            Self::Command(name) => write!(f, "the passphrase_cmd configured for {}", Printable::new(name)),
            Self::Variable(name) => write!(f, "{name}"),
            Self::Prompt => f.write_str("the passphrase typed"),
        }
    }
}

/// A passphrase that could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassphraseError {
    /// A key file could not be read.
    #[error(transparent)]
    Unreadable(#[from] PathError),
    /// A key file or a command gave nothing.
    #[error("{0} is empty")]
    Empty(Origin),
    /// A key file or a command gave too much.
    #[error("{0} holds more than 64 KiB")]
    TooLong(Origin),
    /// The command could not be run.
    #[error("cannot run {0}")]
    Spawn(Origin, #[source] io::Error),
    /// The command failed.
    #[error("{0} failed ({1})")]
    Command(Origin, std::process::ExitStatus),
    /// Nobody can be asked.
    #[error("{0} needs a passphrase, and standard input is not a terminal")]
    NobodyToAsk(String),
    /// The terminal failed.
    #[error("cannot read the passphrase from the terminal")]
    Terminal(#[source] io::Error),
    /// Typed twice, never the same.
    #[error("the two passphrases differ")]
    Differ,
}

impl From<PassphraseError> for CommandError {
    fn from(error: PassphraseError) -> Self {
        let hint = match &error {
            PassphraseError::NobodyToAsk(_) => Some(
                "give it with -keyfile PATH, PLAKAR_PASSPHRASE, or the store's option passphrase or passphrase_cmd",
            ),
            _ => None,
        };
        let message = error.to_string();
        let exit = match error {
            PassphraseError::NobodyToAsk(_) => Exit::Denied,
            _ => Exit::Failed,
        };
        let told = Self::new(exit, message);
        let told = match std::error::Error::source(&error) {
            Some(source) => told.because(source.to_string()),
            None => told,
        };
        match hint {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}

/// Asks people.
pub(crate) trait Terminal {
    /// Returns whether somebody is there to be asked.
    fn is_interactive(&self) -> bool;

    /// Asks without echo.
    fn ask(&mut self, prompt: &str) -> io::Result<Secret>;
}

/// The process's own terminal.
#[derive(Debug, Default)]
pub(crate) struct Tty(Cancel);

impl Tty {
    /// Returns the terminal; nothing is asked any more once the run is to stop.
    pub(crate) fn new(cancel: &Cancel) -> Self {
        Self(cancel.clone())
    }
}

impl Terminal for Tty {
    fn is_interactive(&self) -> bool {
        io::stdin().is_terminal()
    }

    fn ask(&mut self, prompt: &str) -> io::Result<Secret> {
        let mut typed = ask_secret(prompt, &self.0)?;
        Ok(Secret::new(std::mem::take(&mut *typed)))
    }
}

/// The places to look for one passphrase, first to last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    places: Vec<Place>,
    /// Whether one of them was given for this very store.
    bound: bool,
}

#[derive(Clone, Debug)]
enum Place {
    Keyfile(PathBuf),
    Configured { name: String, passphrase: Secret },
    Command { name: String, command: String },
    Variable(&'static str, Secret),
}

impl Chain {
    /// Creates an empty chain: only the prompt is left.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a key file named by a flag.
    #[must_use]
    pub(crate) fn keyfile(mut self, path: Option<&Path>) -> Self {
        self.bound |= path.is_some();
        self.places.extend(path.map(|path| Place::Keyfile(path.to_owned())));
        self
    }

    /// Adds what the options of the configured store name.
    #[must_use]
    pub(crate) fn options(self, name: &str, options: &Options) -> Self {
        let before = self.places.len();
        let mut chain = self.borrowed(name, options);
        chain.bound |= chain.places.len() > before;
        chain
    }

    /// Adds what the options of something else name: a source lends its passphrase to any store, so it says nothing
    /// about this one.
    #[must_use]
    pub(crate) fn borrowed(mut self, name: &str, options: &Options) -> Self {
        let name = name.to_owned();
        if let Some(passphrase) = options.get("passphrase") {
            let passphrase = Secret::from(passphrase.as_bytes());
            self.places.push(Place::Configured { name: name.clone(), passphrase });
        }
        if let Some(command) = options.get("passphrase_cmd") {
            self.places.push(Place::Command { name, command: command.to_owned() });
        }
        if let Some(path) = options.get("keyfile") {
            self.places.push(Place::Keyfile(path.into()));
        }
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub(crate) fn variable(mut self, name: &'static str, value: Option<&Secret>) -> Self {
        self.places.extend(value.map(|value| Place::Variable(name, value.clone())));
        self
    }

    /// Returns whether a passphrase was given for the store itself (not by a variable, a source or a prompt), which
    /// means that an unencrypted CONFIG in its place is an attack.
    pub(crate) fn expects_encryption(&self) -> bool {
        self.bound
    }

    /// Returns whether a passphrase is at hand that may have been meant for this store or for another.
    pub(crate) fn is_ambient(&self) -> bool {
        !self.bound && !self.places.is_empty()
    }

    /// Fetches the first passphrase of the chain. Nothing means that only the prompt is left.
    pub(crate) fn given(&self) -> Result<Option<(Secret, Origin)>, PassphraseError> {
        self.places.first().map(Place::fetch).transpose()
    }
}

impl Place {
    fn fetch(&self) -> Result<(Secret, Origin), PassphraseError> {
        match self {
            Self::Keyfile(path) => {
                let origin = Origin::Keyfile(path.clone());
                let bytes = read_bounded(File::open(path).at("open", path)?, &origin, |error| {
                    Err::<(), _>(error).at("read", path).expect_err("made from an error").into()
                })?;
                cleaned(bytes, origin)
            }
            Self::Configured { name, passphrase } => {
                Ok((passphrase.clone(), Origin::Configured(name.clone())))
            }
            Self::Command { name, command } => run(command, Origin::Command(name.clone())),
            Self::Variable(name, passphrase) => Ok((passphrase.clone(), Origin::Variable(name))),
        }
    }
}

/// Runs a command and takes what it prints. It gets no input, and no passphrase from the environment.
fn run(command: &str, origin: Origin) -> Result<(Secret, Origin), PassphraseError> {
    let (program, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("/bin/sh", "-c") };
    let mut shell = Command::new(program);
    shell.arg(flag).arg(command).stdin(Stdio::null()).stdout(Stdio::piped());
    for name in SECRET_VARIABLES {
        shell.env_remove(name);
    }
    let mut child = shell.spawn().map_err(|error| PassphraseError::Spawn(origin.clone(), error))?;
    let output = child.stdout.take().expect("standard output is piped");
    let bytes = read_bounded(output, &origin, |error| PassphraseError::Spawn(origin.clone(), error));
    if bytes.is_err() {
        // It may wait for a reader that is gone; its end is all that is wanted.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| PassphraseError::Spawn(origin.clone(), error))?;
    let bytes = bytes?;
    if !status.success() {
        return Err(PassphraseError::Command(origin, status));
    }
    cleaned(bytes, origin)
}

fn read_bounded(
    input: impl io::Read,
    origin: &Origin,
    wrap: impl Fn(io::Error) -> PassphraseError,
) -> Result<Zeroizing<Vec<u8>>, PassphraseError> {
    // Reserved at once: a growing vector would leave copies of the secret behind.
    let most = usize::try_from(MOST).expect("64 KiB fit") + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    input.take(MOST + 1).read_to_end(&mut bytes).map_err(wrap)?;
    if bytes.len() == most {
        return Err(PassphraseError::TooLong(origin.clone()));
    }
    Ok(bytes)
}

/// Removes one trailing newline, which editors and `echo` add.
fn cleaned(mut bytes: Zeroizing<Vec<u8>>, origin: Origin) -> Result<(Secret, Origin), PassphraseError> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(PassphraseError::Empty(origin));
    }
    Ok((Secret::new(std::mem::take(&mut *bytes)), origin))
}

/// Supplies the passphrase of an existing store, try after try.
pub(crate) struct Unlocker<'a> {
    chain: Chain,
    terminal: &'a mut dyn Terminal,
    /// What is opened, for the prompt.
    what: String,
    used: Option<Origin>,
}

impl fmt::Debug for Unlocker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unlocker").field("what", &self.what).finish_non_exhaustive()
    }
}

impl<'a> Unlocker<'a> {
    /// Creates an unlocker for what is at a location.
    pub(crate) fn new(chain: Chain, what: &impl fmt::Display, terminal: &'a mut dyn Terminal) -> Self {
        Self { chain, terminal, what: what.to_string(), used: None }
    }

    /// Returns the passphrase for a try (the first is 0); nothing when there is none left.
    pub(crate) fn passphrase(&mut self, attempt: u32) -> Result<Option<Secret>, PassphraseError> {
        if attempt == 0
            && let Some((passphrase, origin)) = self.chain.given()?
        {
            self.used = Some(origin);
            return Ok(Some(passphrase));
        }
        if attempt >= TRIES || self.used.as_ref().is_some_and(|used| *used != Origin::Prompt) {
            return Ok(None);
        }
        if !self.terminal.is_interactive() {
            return Err(PassphraseError::NobodyToAsk(self.what.clone()));
        }
        self.used = Some(Origin::Prompt);
        let again = if attempt == 0 { "" } else { "wrong passphrase; " };
        let prompt = format!("{again}passphrase of {}: ", Printable::message(&self.what));
        self.terminal.ask(&prompt).map(Some).map_err(PassphraseError::Terminal)
    }

    /// Returns whether a passphrase was given for this very store.
    pub(crate) fn is_explicit(&self) -> bool {
        self.chain.expects_encryption()
    }

    /// Returns whether a passphrase is at hand that may have been meant for this store or for another.
    pub(crate) fn is_ambient(&self) -> bool {
        self.chain.is_ambient()
    }

    /// Returns where the passphrase came from that was handed out last.
    pub(crate) fn used(&self) -> Option<&Origin> {
        self.used.as_ref()
    }

    /// Returns the hint for a refused passphrase.
    pub(crate) fn hint(&self) -> Option<String> {
        match self.used.as_ref()? {
            Origin::Prompt => None,
            origin @ Origin::Keyfile(_) => {
                Some(format!("{origin} does not open it; other ways are PLAKAR_PASSPHRASE and a prompt"))
            }
            origin @ Origin::Variable(_) => {
                Some(format!("{origin} does not open it; other ways are -keyfile PATH and a prompt"))
            }
            origin => Some(format!("{origin} does not open it; -keyfile PATH goes before it")),
        }
    }
}

/// Chooses the passphrase of something new: a given one, or one typed twice.
pub(crate) fn choose(
    chain: &Chain,
    what: impl fmt::Display,
    terminal: &mut dyn Terminal,
) -> Result<(Secret, Origin), PassphraseError> {
    if let Some(given) = chain.given()? {
        return Ok(given);
    }
    if !terminal.is_interactive() {
        return Err(PassphraseError::NobodyToAsk(what.to_string()));
    }
    let what = what.to_string();
    let prompt = format!("passphrase for {}: ", Printable::message(&what));
    for attempt in 0..TRIES {
        let again = if attempt == 0 { "" } else { "empty, or not the same; " };
        let first = terminal.ask(&format!("{again}{prompt}")).map_err(PassphraseError::Terminal)?;
        if first.is_empty() {
            continue;
        }
        let second = terminal.ask("the same passphrase again: ").map_err(PassphraseError::Terminal)?;
        if first == second {
            return Ok((first, Origin::Prompt));
        }
    }
    Err(PassphraseError::Differ)
}

/// Estimates the strength of a passphrase in bits from its length and the kinds of its characters, repeated ones
/// counting once in a run. A floor against carelessness, not a measure of quality.
pub(crate) fn strength(passphrase: &Secret) -> u32 {
    let bytes = passphrase.as_bytes();
    let mut alphabet = 0.0;
    for (present, size) in [
        (bytes.iter().any(u8::is_ascii_lowercase), 26.0),
        (bytes.iter().any(u8::is_ascii_uppercase), 26.0),
        (bytes.iter().any(u8::is_ascii_digit), 10.0),
        (!bytes.iter().all(u8::is_ascii_alphanumeric), 33.0),
    ] {
        alphabet += if present { size } else { 0.0 };
    }
    let mut runs = bytes.to_vec();
    runs.dedup();
    let runs = Zeroizing::new(runs);
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, which is what is wanted")]
    let bits = (runs.len() as f64 * f64::max(alphabet, 1.0).log2()) as u32;
    bits
}

/// The least estimated strength of a new passphrase that is typed, in bits.
pub(crate) const LEAST_STRENGTH: u32 = 45;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    struct Typed(Option<VecDeque<&'static str>>, Vec<String>);

    impl Typed {
        fn nobody() -> Self {
            Self(None, Vec::new())
        }
        fn text(lines: &[&'static str]) -> Self {
            Self(Some(lines.iter().copied().collect()), Vec::new())
        }
    }

    impl Terminal for Typed {
        fn is_interactive(&self) -> bool {
            self.0.is_some()
        }
        fn ask(&mut self, prompt: &str) -> io::Result<Secret> {
            self.1.push(prompt.to_owned());
            Ok(secret(self.0.as_mut().unwrap().pop_front().unwrap()))
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::from(text.as_bytes())
    }

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_first_place_wins() {
        let folder = tempfile::tempdir().unwrap();
        let keyfile = folder.path().join("key");
        std::fs::write(&keyfile, "from file\n\n").unwrap();
        let configured = options(&[("passphrase", "from option"), ("passphrase_cmd", "echo from command")]);
        let variable = secret("from variable");
        let chain = Chain::new()
            .keyfile(Some(&keyfile))
            .options("@s", &configured)
            .variable("PLAKAR_PASSPHRASE", Some(&variable));
        assert_eq!(chain.given().unwrap(), Some((secret("from file\n"), Origin::Keyfile(keyfile.clone()))));
        let chain = Chain::new().options("@s", &configured).variable("PLAKAR_PASSPHRASE", Some(&variable));
        assert_eq!(chain.given().unwrap().unwrap().0, secret("from option"));
        let chain = Chain::new().options("@s", &options(&[("passphrase_cmd", "echo from command")]));
        assert_eq!(chain.given().unwrap().unwrap().0, secret("from command"));
        assert!(chain.expects_encryption());
        assert!(!Chain::new().borrowed("@src", &configured).expects_encryption());
        assert!(!Chain::new().options("@s", &options(&[])).expects_encryption());
        let chain = Chain::new().keyfile(None).variable("PLAKAR_PASSPHRASE", Some(&variable));
        assert_eq!(chain.given().unwrap().unwrap(), (variable, Origin::Variable("PLAKAR_PASSPHRASE")));
        assert!(!chain.expects_encryption());
        assert_eq!(Chain::new().given().unwrap(), None);
    }

    #[test]
    fn bad_files_and_commands_are_errors() {
        let given = |pairs: &[(&str, &str)]| Chain::new().options("@s", &options(pairs)).given();
        assert!(matches!(given(&[("keyfile", "/nonexistent")]), Err(PassphraseError::Unreadable(_))));
        assert!(matches!(given(&[("passphrase_cmd", "exit 3")]), Err(PassphraseError::Command(..))));
        assert!(matches!(given(&[("passphrase_cmd", "echo")]), Err(PassphraseError::Empty(_))));
        assert!(matches!(given(&[("passphrase_cmd", "yes")]), Err(PassphraseError::TooLong(_))));
        let gone = given(&[("passphrase_cmd", "echo x${PLAKAR_PASSPHRASE}y")]).unwrap().unwrap().0;
        assert_eq!(gone, secret("xy"));
    }

    #[test]
    fn a_given_passphrase_is_tried_once() {
        let mut nobody = Typed::text(&["typed"]);
        let variable = secret("v");
        let chain = Chain::new().variable("PLAKAR_PASSPHRASE", Some(&variable));
        let mut unlocker = Unlocker::new(chain, &"/srv/x", &mut nobody);
        assert_eq!(unlocker.passphrase(0).unwrap(), Some(variable));
        assert_eq!(unlocker.passphrase(1).unwrap(), None);
        assert!(unlocker.hint().unwrap().starts_with("PLAKAR_PASSPHRASE does not open it"));
    }

    #[test]
    fn a_prompt_has_three_tries() {
        let mut terminal = Typed::text(&["a", "b", "c"]);
        let mut unlocker = Unlocker::new(Chain::new(), &"/srv/\x1b", &mut terminal);
        for attempt in 0..3 {
            assert!(unlocker.passphrase(attempt).unwrap().is_some());
        }
        assert_eq!(unlocker.passphrase(3).unwrap(), None);
        assert_eq!(terminal.1[0], "passphrase of /srv/\\x1b: ");
        assert_eq!(terminal.1[2], "wrong passphrase; passphrase of /srv/\\x1b: ");
    }

    #[test]
    fn nobody_is_an_error_not_a_hang() {
        let mut nobody = Typed::nobody();
        let error = Unlocker::new(Chain::new(), &"x", &mut nobody).passphrase(0).unwrap_err();
        assert!(matches!(error, PassphraseError::NobodyToAsk(_)));
        let told = CommandError::from(error);
        assert_eq!(told.exit().code(), 77);
        assert!(told.report().unwrap().hint.unwrap().contains("-keyfile"));
        assert!(matches!(choose(&Chain::new(), "x", &mut nobody), Err(PassphraseError::NobodyToAsk(_))));
    }

    #[test]
    fn a_new_passphrase_is_typed_twice() {
        let mut terminal = Typed::text(&["one", "two", "", "three", "three"]);
        assert_eq!(choose(&Chain::new(), "x", &mut terminal).unwrap(), (secret("three"), Origin::Prompt));
        let mut terminal = Typed::text(&["1", "2", "3", "4", "5", "6"]);
        assert!(matches!(choose(&Chain::new(), "x", &mut terminal), Err(PassphraseError::Differ)));
    }

    #[test]
    fn strength_counts_variety() {
        assert!(strength(&secret("aaaaaaaaaaaaaaaaaaaa")) < 10);
        assert!(strength(&secret("password")) < LEAST_STRENGTH);
        assert!(strength(&secret("correct horse battery staple")) > LEAST_STRENGTH);
    }
}
