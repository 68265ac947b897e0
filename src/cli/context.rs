//! What a running command has at hand.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::Zoned;

use super::configuration::{Configuration, ConfigurationError};
use super::environment::Environment;
use super::error::CommandError;
use super::globals::Globals;
use super::passphrase::Chain;
use super::places::{self, Place};
use crate::base::Cancel;
use crate::connectors::{Limits, Notices, Role};
use crate::ui::Output;

/// Flags, environment, configuration and output of this run.
#[derive(Debug)]
pub(crate) struct Context {
    /// The global flags.
    pub(crate) globals: Globals,
    /// The environment.
    pub(crate) environment: Environment,
    /// STORE of `at STORE`.
    pub(crate) store: Option<OsString>,
    /// Where everything is said.
    pub(crate) output: Output,
    /// Set when the run is to stop.
    pub(crate) cancel: Cancel,
    /// When the run began, in the user's time zone.
    pub(crate) now: Zoned,
    configuration: OnceLock<Configuration>,
    notices: Notices,
}

impl Context {
    /// Gathers everything.
    pub(crate) fn new(
        globals: Globals,
        environment: Environment,
        store: Option<OsString>,
        output: Output,
        cancel: Cancel,
    ) -> Self {
        let (warned, noted) = (output.clone(), output.clone());
        Self {
            globals,
            environment,
            store,
            output,
            cancel,
            now: Zoned::now(),
            configuration: OnceLock::new(),
            notices: Notices::new(move |text| warned.warn(text)).noting(move |text| noted.notice(text)),
        }
    }

    /// Returns the configuration folder.
    pub(crate) fn config_folder(&self) -> Result<PathBuf, CommandError> {
        let folder = self.globals.configdir.clone().or_else(|| self.environment.config_folder());
        Ok(folder.ok_or(ConfigurationError::NoFolder)?)
    }

    /// Returns the cache folder, if there is a place for one.
    pub(crate) fn cache_folder(&self) -> Option<PathBuf> {
        self.globals.cachedir.clone().or_else(|| self.environment.cache_folder())
    }

    /// Returns the data folder, if there is a place for one.
    pub(crate) fn data_folder(&self) -> Option<PathBuf> {
        self.globals.datadir.clone().or_else(|| self.environment.data_folder())
    }

    /// Returns the user's home folder.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.environment.home.as_deref()
    }

    /// Returns the configuration, read when it is first needed.
    pub(crate) fn configuration(&self) -> Result<&Configuration, CommandError> {
        if let Some(configuration) = self.configuration.get() {
            return Ok(configuration);
        }
        let configuration = match self.config_folder() {
            Ok(folder) => Configuration::load(&folder)?,
            // Without a home there is nothing configured; plain paths work all the same.
            Err(_) => Configuration::default(),
        };
        configuration.notices.iter().for_each(|notice| self.output.warn(notice));
        Ok(self.configuration.get_or_init(|| configuration))
    }

    /// Finds the store that the command works on.
    pub(crate) fn main_store(&self) -> Result<Place, CommandError> {
        let configuration = self.configuration()?;
        let variable = self.environment.repository.as_deref();
        places::find_store(self.store.as_deref(), variable, configuration, self.home())
    }

    /// Finds another place.
    pub(crate) fn place(&self, text: &std::ffi::OsStr, role: Role) -> Result<Place, CommandError> {
        places::find(text, role, self.configuration()?, self.home())
    }

    /// Returns where the passphrase of the main store comes from. `source` is that of `backup @source`.
    pub(crate) fn store_passphrases(&self, store: &Place, source: Option<&Place>) -> Chain {
        let mut chain = Chain::new().keyfile(self.globals.keyfile.as_deref());
        chain = chain.options(&store.to_string(), &store.options);
        if let Some(source) = source {
            chain = chain.borrowed(&source.to_string(), &source.options);
        }
        chain.variable("PLAKAR_PASSPHRASE", self.environment.passphrase.as_ref())
    }

    /// Returns where the passphrase of the other store comes from.
    pub(crate) fn peer_passphrases(&self, peer: &Place, keyfile: Option<&Path>) -> Chain {
        Chain::new()
            .keyfile(keyfile)
            .options(&peer.to_string(), &peer.options)
            .variable("PLAKAR_PEER_PASSPHRASE", self.environment.peer_passphrase.as_ref())
            .variable("PLAKAR_PASSPHRASE", self.environment.passphrase.as_ref())
    }

    /// Returns where the passphrase of a new archive comes from.
    pub(crate) fn archive_passphrases(&self) -> Chain {
        Chain::new()
            .keyfile(self.globals.keyfile.as_deref())
            .variable("PLAKAR_PASSPHRASE", self.environment.passphrase.as_ref())
    }

    /// Returns what connectors need to know of the flags.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            concurrency: self.globals.concurrency,
            no_mmap: self.globals.no_mmap,
            notices: self.notices.clone(),
            memory: Some(self.globals.memory),
            cancel: self.cancel.clone(),
        }
    }
}
