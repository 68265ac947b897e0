//! `policies.yml`: named sets of retention rules.
//!
//! ```yaml
//! version: v1.0.0
//! policies:
//!   weekly:
//!     since: 3 months
//!     per-week: '1'
//! ```
//!
//! An option is a query flag, spelled without its dash. The file is written and protected as the others are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser};
use serde::Serialize;
use serde_norway::Value;

use super::super::error::CommandError;
use super::super::query::QueryArgs;
use super::super::suggest;
use super::file::{ConfigurationError, VERSION, Wrong, create_folder, parse_entries, read, write};
use crate::base::{At as _, Printable};

/// The options of one policy by name.
pub(crate) type Policy = BTreeMap<String, String>;

/// All policies by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Policies(pub(crate) BTreeMap<String, Policy>);

#[derive(Serialize)]
struct Document<'a> {
    version: &'a str,
    policies: &'a BTreeMap<String, Policy>,
}

impl Policies {
    /// Reads the policies of a configuration folder; none where there is no file.
    pub(crate) fn load(folder: &Path) -> Result<Self, ConfigurationError> {
        let path = path(folder);
        match read(&path)? {
            Some(text) => parse(&text).map_err(|error| error.at(&path)),
            None => Ok(Self::default()),
        }
    }

    /// Takes the folder's lock, reads, lets `edit` change things, and writes.
    pub(crate) fn edit<E: From<ConfigurationError>>(
        folder: &Path,
        edit: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        create_folder(folder)?;
        let lock =
            crate::base::sys::lock_file(folder).at("open", folder).map_err(ConfigurationError::from)?;
        // Network file systems may have no locks; one editing person is the usual case then.
        let _ = lock.lock();
        let mut all = Self::load(folder)?;
        edit(&mut all)?;
        let path = path(folder);
        let text = all.yaml().map_err(|error| error.at(&path))?;
        write(&path, text.as_bytes())?;
        Ok(())
    }

    /// Returns a policy.
    pub(crate) fn get(&self, name: &str) -> Result<&Policy, CommandError> {
        self.0.get(name).ok_or_else(|| {
            let error = CommandError::usage(format!("there is no policy '{}'", Printable::new(name)));
            match suggest::nearest(name, self.0.keys().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None => error.hint("plakar policy add NAME OPTION=VALUE… makes one"),
            }
        })
    }

    /// Writes them as YAML, as the file has it.
    pub(super) fn yaml(&self) -> Result<String, Wrong> {
        Ok(serde_norway::to_string(&Document { version: VERSION, policies: &self.0 })?)
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("policies.yml")
}

fn parse(text: &str) -> Result<Policies, Wrong> {
    let map = match serde_norway::from_str::<Value>(text)? {
        Value::Null => return Ok(Policies::default()),
        Value::Mapping(map) => map,
        _ => return Err(Wrong::new("it is not a map")),
    };
    match map.get("version").and_then(Value::as_str) {
        Some(VERSION) | None => {}
        Some(other) => return Err(Wrong::version(other)),
    }
    let entries = match map.get("policies") {
        None | Some(Value::Null) => return Ok(Policies::default()),
        Some(Value::Mapping(entries)) => parse_entries(entries)?,
        Some(_) => return Err(Wrong::new("policies is not a map")),
    };
    let policy = |options: crate::connectors::Options| {
        options.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    Ok(Policies(entries.into_iter().map(|(name, options)| (name, policy(options))).collect()))
}

/// A policy as a command line of nothing but query flags.
#[derive(Parser, Debug)]
#[command(name = "policy", no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    query: QueryArgs,
}

/// Understands a policy's options; the error names the option that is wrong.
pub(crate) fn query_of(name: &str, policy: &Policy) -> Result<QueryArgs, CommandError> {
    let mut line = Vec::new();
    for (option, value) in policy {
        let key = known_option(option)?;
        let takes_value = key != "latest";
        match value.as_str() {
            "true" | "" if !takes_value => line.push(format!("--{key}")),
            "false" if !takes_value => {}
            value => line.push(format!("--{key}={value}")),
        }
    }
    let parsed = Line::try_parse_from(line).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or("it makes no sense");
        let first = first.strip_prefix("error: ").unwrap_or(first).replace("'--", "'");
        CommandError::usage(format!(
            "the policy '{}' is not valid: {}",
            Printable::new(name),
            Printable::message(&first)
        ))
    })?;
    Ok(parsed.query)
}

/// Returns the name of an option as it is kept; one or two dashes may stand before it.
pub(crate) fn known_option(typed: &str) -> Result<String, CommandError> {
    let name = typed.trim_start_matches('-');
    let name = if name == "tags" { "tag" } else { name };
    let command = Line::command();
    let known: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    if known.contains(&name) {
        return Ok(name.to_owned());
    }
    let error = CommandError::usage(format!("a policy has no option '{}'", Printable::new(name)));
    Err(match suggest::nearest(name, known.iter().copied()) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint(format!("known options are {}", known.join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn policy(pairs: &[(&str, &str)]) -> Policy {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let weekly = policy(&[("per-week", "1"), ("since", "3 months")]);
        Policies::edit::<ConfigurationError>(folder.path(), |all| {
            all.0.insert("weekly".into(), weekly.clone());
            Ok(())
        })
        .unwrap();
        let file = folder.path().join("policies.yml");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Policies::load(folder.path()).unwrap().get("weekly").unwrap(), &weekly);
        assert!(Policies::load(folder.path()).unwrap().get("weakly").is_err());
        std::fs::write(&file, "policies:\n  a:\n    days: 7\n").unwrap();
        assert_eq!(Policies::load(folder.path()).unwrap().0["a"], policy(&[("days", "7")]));
        for text in ["policies: [", "- a", "policies: 3", "version: v9.0.0\n"] {
            std::fs::write(&file, text).unwrap();
            assert!(Policies::load(folder.path()).is_err(), "{text}");
        }
    }

    #[test]
    fn options_are_query_flags() {
        let query = query_of("p", &policy(&[("per-week", "1"), ("since", "3 months"), ("latest", "false")]));
        let query = query.unwrap();
        assert_eq!(query.since.as_deref(), Some("3 months"));
        assert!(!query.latest && !query.retention.has_no_rule());
        let told = query_of("p", &policy(&[("days", "many")])).unwrap_err().report().unwrap();
        assert!(
            told.message.starts_with("the policy 'p' is not valid:") && told.message.contains("days"),
            "{told:?}"
        );
        let told = known_option("per-wek").unwrap_err().report().unwrap();
        assert_eq!(told.hint.as_deref(), Some("did you mean per-week?"));
        assert_eq!(known_option("-tags").unwrap(), "tag");
    }
}
