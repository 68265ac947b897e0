//! The options that configure a store, a source or a destination: which exist, what they look like, which are secret.

use std::collections::BTreeMap;
use std::fmt;

use super::location::{Kind, Role};
use crate::base::Printable;

/// What stands in place of a secret.
pub const MASK: &str = "********";

/// Named options as configured, ready for a connector. Their `Debug` form hides secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an option's value; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Sets an option, replacing its value.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Removes an option; returns whether it was there.
    pub fn unset(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// Returns all names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns whether there are no options.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a boolean option, `default` where it is absent.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, OptionError> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => parse_bool(value).ok_or_else(|| OptionError::bad_value(name, value, Form::Bool)),
        }
    }

    /// Returns a copy fit for showing: secrets and passwords in locations masked.
    #[must_use]
    pub fn masked(&self) -> Self {
        let mask = |(name, value): (&String, &String)| (name.clone(), shown(name, value));
        Self(self.0.iter().map(mask).collect())
    }
}

impl FromIterator<(String, String)> for Options {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.masked().0.iter()).finish()
    }
}

/// The form of an option's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Any text.
    Text,
    /// A location.
    Location,
    /// `true` or `false`.
    Bool,
    /// A TCP port.
    Port,
    /// A connector's name.
    Kind,
}

impl Form {
    /// Returns what stands for such a value in a table.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Location => "LOCATION",
            Self::Bool => "true|false",
            Self::Port => "PORT",
            Self::Kind => "CONNECTOR",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Location => "a path or a URL",
            Self::Bool => "true or false",
            Self::Port => "a port number from 1 to 65535",
            Self::Kind => "one of fs, ftp, http, https, ptar, s3, sftp, sqlite, stdin, stdout, tar",
        })
    }
}

/// One option that a connector knows.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The option's name.
    pub name: &'static str,
    /// The form of its value.
    pub form: Form,
    /// What it does, in a few words.
    pub about: &'static str,
}

const fn text(name: &'static str, about: &'static str) -> Spec {
    Spec { name, form: Form::Text, about }
}

const fn flag(name: &'static str, about: &'static str) -> Spec {
    Spec { name, form: Form::Bool, about }
}

/// Options of every entry.
const EVERY: &[Spec] = &[
    Spec { name: "location", form: Form::Location, about: "where it is (also spelt uri)" },
    Spec { name: "type", form: Form::Kind, about: "the connector, where the location does not say" },
    text("passphrase", "the passphrase that opens the store"),
    text("passphrase_cmd", "a command that prints the passphrase"),
    text("keyfile", "a file that holds the passphrase"),
];

/// Options of every source.
const SOURCES: &[Spec] = &[
    text("environment", "the environment recorded in snapshots (production, staging)"),
    text("data_class", "the class of data recorded in snapshots (critical, pii)"),
];

const S3: &[Spec] = &[
    text("access_key", "the access key's id"),
    text("secret_access_key", "the access key's secret"),
    text("session_token", "the token of temporary credentials"),
    text("profile", "a profile of ~/.aws/credentials and ~/.aws/config"),
    text("region", "the region, where the host name does not say"),
    flag("use_tls", "use https (default true)"),
    flag("tls_insecure_no_verify", "accept any certificate (default false)"),
    flag("virtual_host", "put the bucket in the host name (default false)"),
    text("endpoint", "the server; the location then names only bucket and prefix"),
    Spec { name: "port", form: Form::Port, about: "the server's port" },
    text("root", "a prefix below the location"),
    text("storage_class", "the class of written objects (STANDARD, STANDARD_IA, ONEZONE_IA, GLACIER…)"),
    text(
        "metadata_storage_class",
        "the class of a store's metadata (default: as storage_class unless that is cold)",
    ),
    text("object_lock", "make a store's packfiles and states immutable: governance or compliance"),
    text("retain", "for how long they are immutable: 30d, 12w, 1y"),
    text(
        "sse_customer_key",
        "a 32-byte key for server-side encryption: as it is, in base64, or in hexadecimal",
    ),
    text("tls_ca_file", "a file of PEM certificates to trust instead of the system's"),
    text("concurrency", "the most requests at a time"),
];

/// Of sources and destinations in buckets.
const S3_OBJECTS: &[Spec] = &[
    text("versions", "old versions and delete markers, too: all, or latest (default)"),
    flag("tags", "ask for the tags of every object, where the server does not count them (default false)"),
    flag("acl", "access control lists, too (default false)"),
    flag("retention", "retention and legal holds, too (default false)"),
];

const SFTP: &[Spec] = &[
    text("username", "the user to log in as (also spelt user)"),
    text("user", "another name of username"),
    text("password", "refused: ssh takes a key, an agent, or SSH_ASKPASS"),
    text("identity", "the private key file"),
    text("ssh_private_key_path", "another name of identity"),
    Spec { name: "port", form: Form::Port, about: "the server's port" },
    flag("insecure_ignore_host_key", "accept any host key (default false)"),
    text("ssh_config", "the configuration file of ssh (default ~/.ssh/config)"),
    text("ssh", "the program that connects (default ssh)"),
    text("connections", "the most connections at a time (default 4)"),
    text("concurrency", "the most requests at a time"),
];

const FTP: &[Spec] = &[
    text("username", "the user to log in as (also spelt user; default anonymous)"),
    text("user", "another name of username"),
    text("password", "the user's password"),
    Spec { name: "port", form: Form::Port, about: "the server's port" },
    text("tls", "encryption: auto (default, where the server offers it), explicit, implicit or off"),
    text("tls_ca_file", "a file of PEM certificates to trust instead of the system's"),
    flag("tls_insecure_no_verify", "accept any certificate (default false)"),
    text("concurrency", "the most connections at a time (default 4)"),
];

const HTTP: &[Spec] = &[
    text("token", "the bearer token to send"),
    flag("tls_insecure_no_verify", "accept any certificate (default false)"),
    text("tls_ca_file", "a file of PEM certificates to trust instead of the system's"),
];

/// Options that say what is configured, not how its connector behaves.
const ABOUT: [&str; 8] =
    ["location", "uri", "type", "passphrase", "passphrase_cmd", "keyfile", "environment", "data_class"];

/// Returns the options that are a connector's own business: no location, no passphrase, no labels.
pub(super) fn for_connector(options: &Options) -> BTreeMap<String, String> {
    let own = options.iter().filter(|(name, _)| !ABOUT.contains(name));
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Returns the options that a connector takes in a role beyond those of every entry.
fn own(kind: Kind, role: Role) -> Vec<Spec> {
    let specs = match kind {
        Kind::S3 => S3,
        Kind::Sftp => SFTP,
        Kind::Ftp => FTP,
        Kind::Http | Kind::Https => HTTP,
        Kind::Fs
        | Kind::Sqlite
        | Kind::Ptar
        | Kind::PtarHttp
        | Kind::PtarHttps
        | Kind::Stdin
        | Kind::Stdout
        | Kind::Tar => &[],
    };
    let objects = if kind == Kind::S3 && role != Role::Store { S3_OBJECTS } else { &[] };
    [specs, objects].concat()
}

/// Returns the options of every entry in a role.
fn every(role: Role) -> Vec<Spec> {
    [EVERY, if role == Role::Source { SOURCES } else { &[] }].concat()
}

/// Returns the options that a connector takes in a role; without a kind, those of any connector.
pub fn known(kind: Option<Kind>, role: Role) -> Vec<Spec> {
    let mut specs = every(role);
    let kinds = kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
    for spec in kinds.into_iter().filter(|kind| kind.serves(role)).flat_map(|kind| own(kind, role)) {
        if specs.iter().all(|known| known.name != spec.name) {
            specs.push(spec);
        }
    }
    specs
}

/// Returns the options in a role by whose they are: first those of every entry (of no kind in particular), then those
/// of connectors, of which several can have the same.
pub fn option_groups(role: Role) -> Vec<(Vec<Kind>, Vec<Spec>)> {
    let names = |specs: &[Spec]| specs.iter().map(|spec| spec.name).collect::<Vec<_>>();
    let mut groups = vec![(Vec::new(), every(role))];
    for kind in Kind::ALL.into_iter().filter(|kind| kind.serves(role)) {
        let specs = own(kind, role);
        if specs.is_empty() {
            continue;
        }
        match groups.iter_mut().find(|(_, known)| names(known) == names(&specs)) {
            Some((kinds, _)) => kinds.push(kind),
            None => groups.push((vec![kind], specs)),
        }
    }
    groups
}

/// An option that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// No connector of this kind knows it.
    #[error("a {}{} has no option {}", role.noun(), kind.map_or(String::new(), |kind| format!(" of type {}", kind.scheme())), Printable::new(name))]
    Unknown {
        /// The option's name as given.
        name: String,
        /// The connector, where it is known.
        kind: Option<Kind>,
        /// What is configured.
        role: Role,
        /// The names it could have been.
        known: Vec<&'static str>,
    },
    /// Its value has the wrong form.
    #[error("the option {name} is {form}, not {}", Printable::new(value))]
    BadValue {
        /// The option's name.
        name: String,
        /// Its value; a secret is masked.
        value: String,
        /// What is wanted.
        form: Form,
    },
    /// Its value means nothing to its connector.
    #[error("{}", Printable::message(why))]
    Malformed {
        /// What is wanted of which option; no secret.
        why: String,
    },
}

impl OptionError {
    fn bad_value(name: &str, value: &str, form: Form) -> Self {
        Self::BadValue { name: name.to_owned(), value: shown(name, value), form }
    }
}

/// Checks the names and the forms of all options against what the connector takes.
pub fn validate(options: &Options, kind: Option<Kind>, role: Role) -> Result<(), OptionError> {
    let known = known(kind, role);
    for (name, value) in options.iter() {
        let Some(spec) = known.iter().find(|spec| spec.name == name) else {
            let known = known.iter().map(|spec| spec.name).collect();
            return Err(OptionError::Unknown { name: name.to_owned(), kind, role, known });
        };
        let fits = match spec.form {
            Form::Text | Form::Location => true,
            Form::Bool => parse_bool(value).is_some(),
            Form::Port => value.parse::<u16>().is_ok_and(|port| port != 0),
            Form::Kind => Kind::from_scheme(value).is_some(),
        };
        if !fits {
            return Err(OptionError::bad_value(name, value, spec.form));
        }
        if kind.is_none_or(|kind| kind == Kind::S3) && !value.is_empty() {
            super::s3::options::check_value(name, value).map_err(|why| OptionError::Malformed { why })?;
        }
    }
    Ok(())
}

/// Returns whether an option's value must not be shown. Unknown names count as secret when they sound so.
pub fn is_secret(name: &str) -> bool {
    match name {
        "passphrase_cmd" | "keyfile" | "access_key" | "ssh_private_key_path" => false,
        _ => {
            let name = name.to_ascii_lowercase();
            ["secret", "pass", "token", "customer_key", "private", "credential"]
                .iter()
                .any(|part| name.contains(part))
        }
    }
}

/// Returns a value fit for showing.
fn shown(name: &str, value: &str) -> String {
    if is_secret(name) && !value.is_empty() { MASK.to_owned() } else { super::location::redact(value) }
}

/// Reads a boolean in the spellings that configuration files and flags use.
pub fn parse_bool(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Some(true),
        "false" | "no" | "off" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn secrets_are_masked_everywhere() {
        let all = options(&[
            ("secret_access_key", "hunter2"),
            ("session_token", "hunter2"),
            ("passphrase", "hunter2"),
            ("sse_customer_key", "hunter2"),
            ("my_secret", "hunter2"),
            ("location", "sftp://u:hunter2@h/x"),
            ("access_key", "AKIA"),
        ]);
        let shown = format!("{all:?}");
        assert!(!shown.contains("hunter2") && shown.contains("AKIA"), "{shown}");
        assert_eq!(all.masked().get("location"), Some("sftp://u:********@h/x"));
        assert_eq!(options(&[("passphrase", "")]).masked(), options(&[("passphrase", "")]));
    }

    #[test]
    fn unknown_options_name_the_known_ones() {
        let wrong = options(&[("acces_key", "x")]);
        let error = validate(&wrong, Some(Kind::S3), Role::Store).unwrap_err();
        assert_eq!(error.to_string(), "a store of type s3 has no option acces_key");
        let OptionError::Unknown { known, .. } = error else { panic!("{error:?}") };
        assert!(known.contains(&"access_key") && known.contains(&"location") && !known.contains(&"versions"));
        assert!(validate(&options(&[("versions", "all")]), Some(Kind::S3), Role::Source).is_ok());
        assert!(validate(&options(&[("use_tls", "true")]), Some(Kind::Fs), Role::Store).is_err());
        assert!(validate(&options(&[("use_tls", "true")]), None, Role::Store).is_ok());
    }

    #[test]
    fn values_have_forms() {
        for (name, value) in [("use_tls", "maybe"), ("port", "0"), ("port", "70000"), ("type", "gopher")] {
            let error = validate(&options(&[(name, value)]), Some(Kind::S3), Role::Store).unwrap_err();
            assert!(error.to_string().contains(value), "{error}");
        }
        assert!(
            validate(&options(&[("use_tls", "False"), ("port", "9000")]), Some(Kind::S3), Role::Store)
                .is_ok()
        );
        for (name, value, said) in [
            ("storage_class", "STANDRD", "did you mean STANDARD?"),
            ("region", "Paris", "such as fr-par"),
            ("retain", "a month", "such as 12h, 30d"),
            ("object_lock", "yes", "governance or compliance"),
            ("endpoint", "ftp://h", "https:// or http://"),
            ("sse_customer_key", "hunter2", "32 bytes"),
            ("concurrency", "0", "at least 1"),
        ] {
            let error = validate(&options(&[(name, value)]), Some(Kind::S3), Role::Store).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(name) && error.contains(said) && !error.contains("hunter2"), "{error}");
        }
        assert_eq!(options(&[("use_tls", "no")]).flag("use_tls", true), Ok(false));
        assert_eq!(options(&[]).flag("use_tls", true), Ok(true));
    }
}
