//! `stores.yml`, `sources.yml` and `destinations.yml`.
//!
//! ```yaml
//! version: v1.0.0
//! default: scw_store        # stores.yml only
//! stores:                   # sources:, destinations:
//!   scw_store:
//!     location: s3://s3.nl-ams.scw.cloud/bucket
//!     access_key: …
//! ```
//!
//! Files are 0600, written to a temporary name, synchronised and renamed; the folder is 0700. A lock on the folder
//! keeps two commands from losing each other's edit. What the files hold besides (comments, keys that this program does
//! not know) survives a rewrite.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_norway::{Mapping, Value};

use super::super::error::CommandError;
use super::{comments, legacy};
use crate::base::{At as _, PathError, Printable, sys};
use crate::connectors::{Options, Role};

/// The version that is written.
pub(super) const VERSION: &str = "v1.0.0";
/// The largest configuration file that is read, in bytes.
const MOST: u64 = 4 << 20;

/// Entries by name.
pub(crate) type Entries = BTreeMap<String, Options>;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    /// It cannot be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It is not YAML, or not of the expected shape.
    #[error("the configuration file {} is not valid: {why}", Printable::os(.path))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where that is known.
        why: String,
    },
    /// A newer program wrote it.
    #[error("the configuration file {} has version {}, this program knows {VERSION}", Printable::os(.path), Printable::new(.version))]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// There is nowhere to look for it.
    #[error("there is no configuration folder: neither HOME nor XDG_CONFIG_HOME is set")]
    NoFolder,
}

/// All configured things.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    folder: PathBuf,
    /// The store that is used without `at`.
    pub(crate) default: Option<String>,
    entries: BTreeMap<Role, Entries>,
    /// Keys of the files that this program does not know.
    others: BTreeMap<Role, Mapping>,
    /// What loading found worth saying.
    pub(crate) notices: Vec<String>,
}

/// Takes the lock of a folder of configuration, until it is dropped.
fn lock(folder: &Path) -> Result<File, ConfigurationError> {
    let lock = sys::lock_file(folder).at("open", folder).map_err(ConfigurationError::from)?;
    // Network file systems may have no locks; one editing person is the usual case then.
    let _ = lock.lock();
    Ok(lock)
}

impl Configuration {
    /// Reads the configuration in a folder; what is not there is empty. Older forms are read and, where the folder
    /// can be written, migrated.
    pub(crate) fn load(folder: &Path) -> Result<Self, ConfigurationError> {
        let (all, is_current) = Self::read(folder, false)?;
        if is_current {
            return Ok(all);
        }
        // What is written has to be read under the lock: somebody may be changing it right now.
        let _lock = lock(folder)?;
        Ok(Self::read(folder, true)?.0)
    }

    /// Reads; what is in an older form is migrated in memory and, if `write`, on the disk. Returns whether nothing was.
    fn read(folder: &Path, write: bool) -> Result<(Self, bool), ConfigurationError> {
        let mut all = Self { folder: folder.to_owned(), ..Self::default() };
        let mut outdated = Vec::new();
        for role in Role::ALL {
            let path = all.path(role);
            let Some(text) = read(&path)? else { continue };
            let parsed = parse(&text, role).map_err(|error| error.at(&path))?;
            all.entries.insert(role, parsed.entries);
            all.others.insert(role, parsed.others);
            all.default = all.default.or(parsed.default);
            if !parsed.current {
                outdated.push(role);
            }
            all.warn_if_open(&path);
        }
        let migrated = legacy::read(folder, &mut all)?;
        let is_current = outdated.is_empty() && migrated.is_empty();
        for role in outdated {
            // A folder that cannot be written is migrated in memory, every time.
            if write && all.save(&[role]).is_ok() {
                let path = all.path(role);
                all.notices.push(format!("{} was brought into its current form", Printable::os(&path)));
            }
        }
        for (old, roles) in migrated {
            all.warn_if_open(&old);
            if write && all.save(&roles).is_ok() {
                let new: Vec<String> = roles.iter().map(|role| format!("{}s.yml", role.noun())).collect();
                let (old, new) = (Printable::os(&old), new.join(", "));
                all.notices.push(format!("the configuration was migrated from {old} to {new}; the old file is kept and not read any more"));
            }
        }
        all.warn_if_writable();
        Ok((all, is_current))
    }

    /// Takes the lock, reads, lets `edit` change things, and writes the files of the roles that it names.
    pub(crate) fn edit<T, E: From<ConfigurationError>>(
        folder: &Path,
        edit: impl FnOnce(&mut Self) -> Result<(T, Vec<Role>), E>,
    ) -> Result<T, E> {
        create_folder(folder)?;
        let _lock = lock(folder)?;
        let (mut all, _) = Self::read(folder, true)?;
        let (result, changed) = edit(&mut all)?;
        all.save(&changed)?;
        Ok(result)
    }

    /// Returns the entries of a role.
    pub(crate) fn entries(&self, role: Role) -> &Entries {
        static NONE: Entries = BTreeMap::new();
        self.entries.get(&role).unwrap_or(&NONE)
    }

    /// Returns the entries of a role, to change them.
    pub(crate) fn entries_mut(&mut self, role: Role) -> &mut Entries {
        self.entries.entry(role).or_default()
    }

    /// Returns the file of a role.
    pub(super) fn path(&self, role: Role) -> PathBuf {
        self.folder.join(format!("{}s.yml", role.noun()))
    }

    fn warn_if_open(&mut self, path: &Path) {
        let open = fs::metadata(path).is_ok_and(|file| sys::is_open_to_others(&file));
        if open {
            let path = Printable::os(path);
            self.notices.push(format!("others can read {path}, which may hold secrets: chmod 600 {path}"));
        }
    }

    fn warn_if_writable(&mut self) {
        if fs::metadata(&self.folder).is_ok_and(|folder| sys::is_writable_by_others(&folder)) {
            let folder = Printable::os(&self.folder);
            self.notices.push(format!(
                "others can write to {folder}, and so choose what this program does: chmod 700 {folder}"
            ));
        }
    }

    /// Writes the files of some roles: all of them are complete before the first gets its name.
    fn save(&self, roles: &[Role]) -> Result<(), ConfigurationError> {
        let mut ready = Vec::new();
        for &role in roles {
            let path = self.path(role);
            let default = self.default.as_deref().filter(|_| role == Role::Store);
            let text = render(self.entries(role), default, self.others.get(&role), role);
            let mut text = text.map_err(|why| why.at(&path))?;
            if let Some(old) = read(&path)? {
                text = comments::carry(&old, &text);
            }
            ready.push(Ready::new(&path, text.as_bytes())?);
        }
        ready.into_iter().try_for_each(Ready::place)
    }
}

/// What is wrong with a text, before it is known which file it is from.
pub(super) struct Wrong {
    why: String,
    version: Option<String>,
}

impl Wrong {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), version: None }
    }

    pub(super) fn version(version: &str) -> Self {
        Self { version: Some(version.to_owned()), why: String::new() }
    }

    pub(super) fn at(self, path: &Path) -> ConfigurationError {
        match self.version {
            Some(version) => ConfigurationError::Version { path: path.to_owned(), version },
            None => ConfigurationError::Invalid { path: path.to_owned(), why: self.why },
        }
    }

    /// Says it of a text that is not one of the configuration's files.
    pub(super) fn of(self, from: &str) -> CommandError {
        let from = Printable::message(from);
        CommandError::usage(match self.version {
            Some(version) => {
                format!("{from} has version {}, this program knows {VERSION}", Printable::new(&version))
            }
            None => format!("{from} is not valid: {}", self.why),
        })
    }
}

impl From<serde_norway::Error> for Wrong {
    fn from(error: serde_norway::Error) -> Self {
        Self::new(Printable::new(&error.to_string()).to_string())
    }
}

/// Reads a file of at most 4 MiB; nothing when there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, ConfigurationError> {
    let file = match File::open(path) {
        // Below what is no folder there is no file either: HOME=/dev/null is how some say that there is no home.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.at("open", path)?,
    };
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text).at("read", path)?;
    if text.len() as u64 > MOST {
        return Err(Wrong::new("it is larger than 4 MiB").at(path));
    }
    Ok(Some(text))
}

/// What a configuration file holds.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) entries: Entries,
    pub(super) default: Option<String>,
    /// Keys beside these.
    pub(super) others: Mapping,
    /// Whether the form is the one that is written.
    pub(super) current: bool,
}

/// Understands a configuration text.
pub(super) fn parse(text: &str, role: Role) -> Result<Parsed, Wrong> {
    let mut map = match serde_norway::from_str::<Value>(text)? {
        Value::Null => return Ok(Parsed { current: true, ..Parsed::default() }),
        Value::Mapping(map) => map,
        _ => return Err(Wrong::new("it is not a map")),
    };
    let Some(version) = map.get("version").and_then(Value::as_str) else {
        let (entries, default) = legacy::flat(&map, role)?;
        return Ok(Parsed { entries, default, ..Parsed::default() });
    };
    if version != VERSION {
        return Err(Wrong::version(version));
    }
    map.remove("version");
    let default = match map.remove("default") {
        Some(name) if role == Role::Store => {
            let name = scalar(&name).ok_or_else(|| Wrong::new("default is not the name of a store"))?;
            Some(name).filter(|name| !name.is_empty())
        }
        _ => None,
    };
    let section = format!("{}s", role.noun());
    let entries = match map.remove(section.as_str()).or_else(|| map.remove("klosets")) {
        None | Some(Value::Null) => Entries::new(),
        Some(Value::Mapping(entries)) => parse_entries(&entries)?,
        Some(_) => return Err(Wrong::new(format!("{section} is not a map"))),
    };
    Ok(Parsed { entries, default, others: map, current: true })
}

/// Understands a map of names to options.
pub(super) fn parse_entries(map: &Mapping) -> Result<Entries, Wrong> {
    let mut entries = Entries::new();
    for (name, options) in map {
        let name = scalar(name).ok_or_else(|| Wrong::new("a name is not text"))?;
        let options = match options {
            Value::Null => Options::new(),
            Value::Mapping(options) => parse_options(&name, options)?,
            _ => return Err(Wrong::new(format!("{} is not a map of options", Printable::new(&name)))),
        };
        entries.insert(name, options);
    }
    Ok(entries)
}

fn parse_options(name: &str, map: &Mapping) -> Result<Options, Wrong> {
    let mut options = Options::new();
    for (key, value) in map {
        let key = scalar(key)
            .ok_or_else(|| Wrong::new(format!("an option of {} is not text", Printable::new(name))))?;
        let value = scalar(value).ok_or_else(|| {
            Wrong::new(format!("the option {} of {} is not text", Printable::new(&key), Printable::new(name)))
        })?;
        options.set(key, value);
    }
    Ok(options)
}

/// Takes any scalar as text: people write `use_tls: false` without quotes.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null => Some(String::new()),
        _ => None,
    }
}

#[derive(Serialize)]
struct Document<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<&'a str>,
    #[serde(flatten)]
    entries: BTreeMap<String, BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>>,
    #[serde(flatten)]
    others: BTreeMap<String, &'a Value>,
}

fn render(
    entries: &Entries,
    default: Option<&str>,
    others: Option<&Mapping>,
    role: Role,
) -> Result<String, Wrong> {
    let others =
        others.into_iter().flatten().filter_map(|(key, value)| Some((scalar(key)?, value))).collect();
    let entries = entries.iter().map(|(name, options)| (name.as_str(), options.iter().collect())).collect();
    let entries = BTreeMap::from([(format!("{}s", role.noun()), entries)]);
    Ok(serde_norway::to_string(&Document { version: VERSION, default, entries, others })?)
}

pub(super) fn create_folder(folder: &Path) -> Result<(), ConfigurationError> {
    sys::private_folder().recursive(true).create(folder).at("create", folder)?;
    Ok(())
}

/// Replaces a file by one with mode 0600, following a symbolic link in its place.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), ConfigurationError> {
    Ready::new(path, bytes)?.place()
}

/// A file that is complete and has only to get its name.
struct Ready {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Ready {
    fn new(path: &Path, bytes: &[u8]) -> Result<Self, ConfigurationError> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().expect("a file in a folder");
        create_folder(folder)?;
        let file = tempfile::Builder::new().prefix(".plakar-").tempfile_in(folder);
        let mut file = file.at("create a file in", folder)?;
        file.write_all(bytes).at("write", &path)?;
        sys::make_private(file.as_file()).at("protect", &path)?;
        file.as_file().sync_all().at("write", &path)?;
        Ok(Self { file, path })
    }

    fn place(self) -> Result<(), ConfigurationError> {
        self.file.persist(&self.path).map_err(|error| error.error).at("replace", &self.path)?;
        let folder = self.path.parent().expect("a file in a folder");
        sys::sync_folder(folder).at("synchronise", folder)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn load(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Configuration, ConfigurationError>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let loaded = Configuration::load(folder.path());
        (folder, loaded)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("deep/plakar");
        Configuration::edit::<_, ConfigurationError>(&folder, |all| {
            let mut options = Options::new();
            options.set("location", "s3://h/b");
            options.set("use_tls", "false");
            options.set("passphrase", " 'odd': #\n\"…");
            all.entries_mut(Role::Store).insert("a".into(), options);
            all.default = Some("a".into());
            Ok(((), vec![Role::Store]))
        })
        .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("stores.yml"))), (0o700, 0o600));
        let text = fs::read_to_string(folder.join("stores.yml")).unwrap();
        assert!(text.starts_with("version: v1.0.0\ndefault: a\nstores:\n  a:\n"), "{text}");
        let all = Configuration::load(&folder).unwrap();
        assert_eq!(all.default.as_deref(), Some("a"));
        let options = &all.entries(Role::Store)["a"];
        assert_eq!(options.get("passphrase"), Some(" 'odd': #\n\"…"));
        assert_eq!(options.get("use_tls"), Some("false"));
        assert_eq!(all.notices, Vec::<String>::new());
    }

    #[test]
    fn bare_scalars_are_text() {
        let (_folder, all) = load(&[(
            "sources.yml",
            "version: v1.0.0\nsources:\n  1:\n    port: 9000\n    use_tls: no\n    x: true\n",
        )]);
        let options = all.unwrap().entries(Role::Source)["1"].clone();
        assert_eq!(
            (options.get("port"), options.get("use_tls"), options.get("x")),
            (Some("9000"), Some("no"), Some("true"))
        );
    }

    #[test]
    fn broken_files_are_named() {
        for (text, why) in [
            ("version: v1.0.0\nstores: [", "is not valid"),
            ("- a", "it is not a map"),
            ("version: v1.0.0\nstores: 3", "stores is not a map"),
            ("version: v1.0.0\nstores:\n  a: 3", "a is not a map of options"),
            ("version: v1.0.0\nstores:\n  a:\n    b: [1]", "the option b of a is not text"),
            ("version: v9.0.0", "has version v9.0.0"),
        ] {
            let (_folder, loaded) = load(&[("stores.yml", text)]);
            let message = loaded.unwrap_err().to_string();
            assert!(message.contains(why) && message.contains("stores.yml"), "{message}");
        }
        let (_folder, all) = load(&[("stores.yml", "")]);
        assert!(all.unwrap().entries(Role::Store).is_empty());
    }

    #[test]
    fn a_link_is_followed_and_others_are_kept_out() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real.yml");
        fs::write(&real, "version: v1.0.0\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&real, folder.path().join("stores.yml")).unwrap();
        let notices = Configuration::load(folder.path()).unwrap().notices;
        assert!(notices[0].starts_with("others can read"), "{notices:?}");
        Configuration::edit::<_, ConfigurationError>(folder.path(), |all| {
            all.entries_mut(Role::Store).insert("a".into(), Options::new());
            Ok(((), vec![Role::Store]))
        })
        .unwrap();
        assert!(fs::symlink_metadata(folder.path().join("stores.yml")).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&real).unwrap().contains("a:"));
    }
}
