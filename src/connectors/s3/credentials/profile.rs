//! Profiles of `~/.aws/credentials` and `~/.aws/config`.
//!
//! | key | what it is here |
//! |---|---|
//! | `aws_access_key_id`, `aws_secret_access_key`, `aws_session_token` | keys; read again at every renewal |
//! | `credential_process` | a program that prints keys |
//! | `role_arn` with `source_profile`, `credential_source` or `web_identity_token_file`; `external_id`, `role_session_name`, `duration_seconds` | a role, through STS |
//! | `region`, `endpoint_url`, `ca_bundle`, `services` with `s3`/`sts` and `endpoint_url` | settings |
//! | `sso_*`, `login_session`, `mfa_serial` | refused by name where keys would have to come from them |
//!
//! The syntax is AWS's, which no reader of INI files knows: in `config` a profile's section is `[profile name]` (but
//! `[default]`), `#` and `;` begin a comment after white space only (secrets may hold them), and indented lines below
//! an empty value are settings of it.

use std::collections::BTreeMap;
use std::io::{ErrorKind as Io, Read as _};
use std::path::{Path, PathBuf};

use super::CredentialsError;
use super::keys::{Credentials, pair};

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

type Section = BTreeMap<String, String>;

/// Where the two files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Files {
    credentials: Option<PathBuf>,
    config: Option<PathBuf>,
}

impl Files {
    /// Takes them from the environment, else from the home folder.
    pub(in super::super) fn find(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| environment(name).filter(|value| !value.is_empty());
        let home = read("HOME").map(PathBuf::from);
        let place = |variable: &str, name: &str| match (read(variable), &home) {
            (Some(text), Some(home)) => {
                Some(text.strip_prefix("~/").map_or_else(|| PathBuf::from(&text), |rest| home.join(rest)))
            }
            (Some(text), None) => Some(PathBuf::from(text)),
            (None, home) => home.as_ref().map(|home| home.join(".aws").join(name)),
        };
        Self {
            credentials: place("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: place("AWS_CONFIG_FILE", "config"),
        }
    }

    fn describe(&self) -> String {
        let paths: Vec<String> = [&self.credentials, &self.config]
            .into_iter()
            .flatten()
            .map(|path| path.display().to_string())
            .collect();
        if paths.is_empty() { "any file: HOME is not set".into() } else { paths.join(" or ") }
    }

    fn read(&self) -> Result<Sections, CredentialsError> {
        let mut all = Sections::default();
        // What the credentials file says wins: it is read last.
        for (path, is_config) in [(&self.config, true), (&self.credentials, false)] {
            if let Some(path) = path
                && let Some(text) = read_file(path)?
            {
                all.add(&text, is_config).map_err(|what| {
                    CredentialsError::invalid(format!("{} cannot be read: {what}", path.display()))
                })?;
            }
        }
        Ok(all)
    }

    /// Returns the keys that a profile holds itself.
    pub(super) fn keys(&self, name: &str) -> Result<Option<Credentials>, CredentialsError> {
        let sections = self.read()?;
        let Some(section) = sections.profiles.get(name) else { return Ok(None) };
        keys_of(name, section)
    }
}

fn read_file(path: &Path) -> Result<Option<String>, CredentialsError> {
    let failed = |error: std::io::Error| {
        CredentialsError::invalid(format!("{} cannot be read: {error}", path.display()))
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(CredentialsError::invalid(format!("{} is longer than 1 MiB", path.display())));
    }
    Ok(Some(text))
}

fn keys_of(name: &str, section: &Section) -> Result<Option<Credentials>, CredentialsError> {
    let get = |key: &str| section.get(key).filter(|value| !value.is_empty()).cloned();
    let origin = format!("profile {name}");
    pair(
        (get("aws_access_key_id"), "aws_access_key_id"),
        (get("aws_secret_access_key"), "aws_secret_access_key"),
        get("aws_session_token"),
        &origin,
    )
    .map_err(|error| error.within(&origin))
}

/// Both files, read and merged.
#[derive(Default)]
struct Sections {
    profiles: BTreeMap<String, Section>,
    services: BTreeMap<String, Section>,
}

impl Sections {
    /// Adds a file. The error names the line, never its content.
    fn add(&mut self, text: &str, is_config: bool) -> Result<(), String> {
        // Settings before the first section, and sections of no use here, are passed over.
        let mut aside = Section::new();
        let mut current: Option<(bool, String)> = None;
        let mut parent: Option<String> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let indented = line.starts_with([' ', '\t']);
            let bare = line.trim();
            if bare.is_empty() || bare.starts_with(['#', ';']) {
                continue;
            }
            if !indented && let Some(rest) = bare.strip_prefix('[') {
                let (header, _) =
                    rest.split_once(']').ok_or(format!("line {number} does not close its ["))?;
                current = section(header, is_config);
                parent = None;
                if let Some((is_profile, name)) = &current {
                    self.map(*is_profile).entry(name.clone()).or_default();
                }
                continue;
            }
            let Some((key, value)) = bare.split_once('=') else {
                if indented && parent.is_some() {
                    continue;
                }
                return Err(format!("line {number} is neither a section nor a setting"));
            };
            let key = key.trim().to_ascii_lowercase();
            let value = without_comment(value.trim());
            let section = match &current {
                Some((is_profile, name)) => self.map(*is_profile).entry(name.clone()).or_default(),
                None => &mut aside,
            };
            if let (Some(parent), true) = (&parent, indented) {
                section.insert(format!("{parent}.{key}"), value.to_owned());
            } else {
                parent = value.is_empty().then(|| key.clone());
                section.insert(key, value.to_owned());
            }
        }
        Ok(())
    }

    fn map(&mut self, is_profile: bool) -> &mut BTreeMap<String, Section> {
        if is_profile { &mut self.profiles } else { &mut self.services }
    }
}

/// Reads a section's header: whether it is a profile (else services), and its name.
fn section(header: &str, is_config: bool) -> Option<(bool, String)> {
    let header = header.trim();
    if !is_config {
        return Some((true, header.to_owned()));
    }
    let (kind, name) = header.split_once([' ', '\t']).unwrap_or((header, ""));
    let name = name.trim();
    let name = name
        .strip_prefix('"')
        .and_then(|n| n.strip_suffix('"'))
        .or_else(|| name.strip_prefix('\'').and_then(|n| n.strip_suffix('\'')))
        .unwrap_or(name);
    match kind {
        "default" if name.is_empty() => Some((true, "default".into())),
        "profile" if !name.is_empty() => Some((true, name.to_owned())),
        "services" if !name.is_empty() => Some((false, name.to_owned())),
        _ => None,
    }
}

/// Cuts a comment off: white space, then `#` or `;`.
fn without_comment(value: &str) -> &str {
    let mut before = ' ';
    for (at, c) in value.char_indices() {
        if matches!(c, '#' | ';') && before.is_whitespace() && at > 0 {
            return value[..at].trim_end();
        }
        before = c;
    }
    value
}

/// One profile with what it refers to.
pub(in super::super) struct Profile {
    /// Its name.
    pub(super) name: String,
    /// Where it was read.
    pub(super) files: Files,
    all: Sections,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Profile {
    /// Reads a profile: the one named, or the default one if there is one.
    pub(in super::super) fn load(
        files: Files,
        name: Option<String>,
    ) -> Result<Option<Self>, CredentialsError> {
        let is_named = name.is_some();
        let name = name.unwrap_or_else(|| "default".into());
        let all = files.read()?;
        if !all.profiles.contains_key(&name) {
            if is_named {
                return Err(CredentialsError::invalid(format!(
                    "there is no profile {name} in {}",
                    files.describe()
                )));
            }
            return Ok(None);
        }
        Ok(Some(Self { name, files, all }))
    }

    /// Returns another profile of the same files.
    pub(super) fn other(&self, name: &str) -> Result<Self, CredentialsError> {
        let told =
            |error: CredentialsError| error.within(&format!("source_profile of profile {}", self.name));
        let other = Self::load(self.files.clone(), Some(name.to_owned())).map_err(told)?;
        Ok(other.expect("a named profile is there or an error"))
    }

    /// Returns a setting; an empty one counts as unset.
    pub(in super::super) fn get(&self, key: &str) -> Option<&str> {
        self.all.profiles.get(&self.name)?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the endpoint set for a service (`s3`, `sts`), else for all.
    pub(in super::super) fn endpoint(&self, service: &str) -> Option<&str> {
        let own = self.get("services").and_then(|name| self.all.services.get(name)).and_then(|services| {
            services.get(&format!("{service}.endpoint_url")).map(String::as_str).filter(|url| !url.is_empty())
        });
        own.or_else(|| self.get("endpoint_url"))
    }

    /// Returns the keys it holds itself.
    pub(super) fn keys(&self) -> Result<Option<Credentials>, CredentialsError> {
        self.all.profiles.get(&self.name).map_or(Ok(None), |section| keys_of(&self.name, section))
    }

    /// Returns the name of a setting that would give keys in a way that is not built in.
    pub(super) fn unsupported(&self) -> Option<&str> {
        let section = self.all.profiles.get(&self.name)?;
        section.keys().map(String::as_str).find(|key| key.starts_with("sso_") || *key == "login_session")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(config: &str, credentials: &str) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        for (name, text) in [("config", config), ("credentials", credentials)] {
            std::fs::write(dir.path().join(".aws").join(name), text).unwrap();
        }
        let home = dir.path().to_str().unwrap().to_owned();
        let files = Files::find(&move |name| (name == "HOME").then(|| home.clone()));
        (dir, files)
    }

    const CONFIG: &str = "\
# a comment\nregion = lost\n[default]\nregion = eu-west-3 ; Paris\noutput=json\n\
[profile work]\r\nregion\t=\teu-central-1\r\nAWS_ACCESS_KEY_ID = from-config\naws_secret_access_key = from-config\n\
services = mine\ns3 =\n  addressing_style = path\n  endpoint_url = http://nested\nendpoint_url = http://all\n\
[profile \"two words\"]\nca_bundle = /ca\n[work]\nregion = not-a-profile\n\
[sso-session x]\nsso_region = r\n[services mine]\ns3 =\n  endpoint_url = http://s3\n\
[profile sso]\nsso_session = x\nregion = r\n";
    const KEYS: &str = "\
[work]\naws_access_key_id = AK\naws_secret_access_key = a#b;c=d/+  # mine\n[half]\naws_access_key_id = AK\n\
[empty]\naws_access_key_id =\naws_secret_access_key =\n";

    fn load(name: Option<&str>) -> Result<Option<Profile>, CredentialsError> {
        let (_dir, files) = files(CONFIG, KEYS);
        Profile::load(files, name.map(str::to_owned))
    }

    #[test]
    fn both_files_are_read_as_aws_reads_them() {
        let default = load(None).unwrap().unwrap();
        assert_eq!(default.get("region"), Some("eu-west-3"));
        let work = load(Some("work")).unwrap().unwrap();
        assert_eq!(work.get("region"), Some("eu-central-1"));
        let keys = work.keys().unwrap().unwrap();
        assert_eq!((keys.access_key.as_str(), keys.secret.as_str()), ("AK", "a#b;c=d/+"));
        assert_eq!(keys.origin, "profile work");
        assert_eq!((work.endpoint("s3"), work.endpoint("sts")), (Some("http://s3"), Some("http://all")));
        assert_eq!(load(Some("two words")).unwrap().unwrap().get("ca_bundle"), Some("/ca"));
        assert!(load(Some("empty")).unwrap().unwrap().keys().unwrap().is_none());
        assert_eq!(load(Some("sso")).unwrap().unwrap().unsupported(), Some("sso_session"));
    }

    #[test]
    fn what_is_missing_or_torn_is_named() {
        let told = load(Some("wrok")).unwrap_err().to_string();
        assert!(told.contains("no profile wrok") && told.contains(".aws/credentials"), "{told}");
        let told = load(Some("half")).unwrap().unwrap().keys().unwrap_err().to_string();
        assert_eq!(told, "profile half: aws_access_key_id is set, but aws_secret_access_key is not");
        let none = Files::find(&|_| None);
        assert!(Profile::load(none.clone(), None).unwrap().is_none());
        assert!(Profile::load(none, Some("x".into())).unwrap_err().to_string().contains("HOME is not set"));
    }

    #[test]
    fn a_broken_file_is_named_by_line_and_not_quoted() {
        for (text, line) in [("[default\n", "line 1"), ("[default]\n\nhush-hush\n", "line 3")] {
            let (_dir, files) = files(text, "");
            let told = Profile::load(files, None).unwrap_err().to_string();
            assert!(told.contains(line) && told.contains(".aws/config") && !told.contains("hush"), "{told}");
        }
    }

    #[test]
    fn variables_move_the_files() {
        let files = Files::find(&|name| {
            Some(match name {
                "HOME" => "/home/u".to_owned(),
                "AWS_CONFIG_FILE" => "~/c".to_owned(),
                "AWS_SHARED_CREDENTIALS_FILE" => "/k".to_owned(),
                _ => return None,
            })
        });
        assert_eq!(files.config, Some("/home/u/c".into()));
        assert_eq!(files.credentials, Some("/k".into()));
    }
}
