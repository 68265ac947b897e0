//! What the process was given besides its arguments, read once.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::crypto::Secret;
use crate::ui::Wish;

/// Variables that hold secrets: no child process inherits them.
pub(crate) const SECRET_VARIABLES: [&str; 4] =
    ["PLAKAR_PASSPHRASE", "PLAKAR_PEER_PASSPHRASE", "PLAKAR_NEW_PASSPHRASE", "PLAKAR_SERVER_TOKEN"];

/// The environment variables that this program reads; empty ones count as unset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// The user's home folder.
    pub(crate) home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(crate) config_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`.
    pub(crate) cache_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub(crate) data_home: Option<PathBuf>,
    /// The store to use without `at`.
    pub(crate) repository: Option<OsString>,
    /// Tags for every backup.
    pub(crate) tags: Option<String>,
    /// The passphrase of the store.
    pub(crate) passphrase: Option<Secret>,
    /// The passphrase of the other store.
    pub(crate) peer_passphrase: Option<Secret>,
    /// The passphrase of a new key slot.
    pub(crate) new_passphrase: Option<Secret>,
    /// `RCLONE_CONFIG`: the configuration of rclone.
    pub(crate) rclone_config: Option<PathBuf>,
    /// The token that clients of a server have to show.
    pub(crate) server_token: Option<Secret>,
    /// What `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE` say.
    pub(crate) colours: Wish,
    /// `COLUMNS`: how wide what is no terminal is to be.
    pub(crate) columns: Option<usize>,
    /// The kind of terminal.
    pub(crate) term: Option<String>,
}

impl Environment {
    /// Reads the process's environment.
    pub(crate) fn read() -> Self {
        Self::from(|name| std::env::var_os(name))
    }

    fn from(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        // The base directory specification wants relative paths ignored.
        let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let secret = |name: &str| variable(name).map(|value| Secret::new(bytes(&value)));
        Self {
            home: variable("HOME").or_else(|| profile(variable)).map(PathBuf::from),
            config_home: folder("XDG_CONFIG_HOME"),
            cache_home: folder("XDG_CACHE_HOME"),
            data_home: folder("XDG_DATA_HOME"),
            repository: variable("PLAKAR_REPOSITORY"),
            tags: text("PLAKAR_TAGS"),
            passphrase: secret("PLAKAR_PASSPHRASE"),
            peer_passphrase: secret("PLAKAR_PEER_PASSPHRASE"),
            new_passphrase: secret("PLAKAR_NEW_PASSPHRASE"),
            rclone_config: variable("RCLONE_CONFIG").map(PathBuf::from),
            server_token: secret("PLAKAR_SERVER_TOKEN"),
            colours: Wish::read(
                variable("NO_COLOR").is_some(),
                text("CLICOLOR").as_deref(),
                text("CLICOLOR_FORCE").as_deref(),
            ),
            columns: text("COLUMNS").and_then(|columns| columns.parse().ok()).filter(|&columns| columns > 0),
            term: text("TERM"),
        }
    }

    /// Returns the configuration folder unless a flag names another.
    pub(crate) fn config_folder(&self) -> Option<PathBuf> {
        self.folder(self.config_home.as_ref(), ".config")
    }

    /// Returns the cache folder unless a flag names another.
    pub(crate) fn cache_folder(&self) -> Option<PathBuf> {
        self.folder(self.cache_home.as_ref(), ".cache")
    }

    /// Returns the data folder unless a flag names another.
    pub(crate) fn data_folder(&self) -> Option<PathBuf> {
        self.folder(self.data_home.as_ref(), ".local/share")
    }

    /// Returns where rclone's configuration may be, in the order in which rclone looks.
    pub(crate) fn rclone_files(&self) -> Vec<PathBuf> {
        if let Some(path) = &self.rclone_config {
            return vec![path.clone()];
        }
        let config_home =
            self.config_home.clone().or_else(|| self.home.as_ref().map(|home| home.join(".config")));
        let usual = config_home.map(|folder| folder.join("rclone/rclone.conf"));
        usual.into_iter().chain(self.home.as_ref().map(|home| home.join(".rclone.conf"))).collect()
    }

    fn folder(&self, base: Option<&PathBuf>, below_home: &str) -> Option<PathBuf> {
        let base = base.cloned().or_else(|| self.home.as_ref().map(|home| home.join(below_home)))?;
        Some(base.join("plakar"))
    }
}

/// Returns where a user's files are on systems that do not set `HOME`.
fn profile(variable: impl Fn(&str) -> Option<OsString>) -> Option<OsString> {
    if cfg!(windows) { variable("USERPROFILE") } else { None }
}

fn bytes(text: &OsStr) -> Vec<u8> {
    text.as_encoded_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn empty_is_unset_and_relative_folders_are_ignored() {
        let environment = Environment::from(|name| match name {
            "HOME" => Some("/home/me".into()),
            "XDG_CONFIG_HOME" => Some("relative".into()),
            "XDG_CACHE_HOME" => Some("/cache".into()),
            "NO_COLOR" | "PLAKAR_PASSPHRASE" => Some("".into()),
            "PLAKAR_PEER_PASSPHRASE" => Some("hunter2".into()),
            _ => None,
        });
        assert_eq!(environment.config_folder().as_deref(), Some(Path::new("/home/me/.config/plakar")));
        assert_eq!(environment.cache_folder().as_deref(), Some(Path::new("/cache/plakar")));
        assert_eq!(environment.data_folder().as_deref(), Some(Path::new("/home/me/.local/share/plakar")));
        assert_eq!(environment.colours, Wish::Auto);
        assert!(environment.passphrase.is_none());
        assert!(environment.peer_passphrase.is_some());
        assert!(!format!("{environment:?}").contains("hunter2"));
        assert_eq!(Environment::default().config_folder(), None);
    }
}
