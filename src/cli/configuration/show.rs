//! Printing the configuration, secrets masked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::error::CommandError;
use super::edit::unlisted;
use super::file::{Configuration, Entries};
use crate::base::Printable;
use crate::connectors::{Options, Role};
use crate::ui::Output;

/// Prints entries of some roles: as YAML under the section names of the files, or one JSON object each.
pub(super) fn show(
    all: &Configuration,
    roles: &[Role],
    names: &[String],
    secrets: bool,
    output: &Output,
) -> Result<(), CommandError> {
    for name in names {
        if !roles.iter().any(|&role| all.entries(role).contains_key(name)) {
            return Err(unlisted(name, roles[0], all));
        }
    }
    if let [role] = roles
        && all.entries(*role).is_empty()
        && !output.is_json()
    {
        let noun = role.noun();
        output.notice(format!("no {noun} is configured; plakar {noun} add NAME LOCATION makes one"));
    }
    for &role in roles {
        let chosen = all.entries(role).iter().filter(|(name, _)| names.is_empty() || names.contains(name));
        let chosen: Entries = chosen
            .map(|(name, options)| (name.clone(), if secrets { options.clone() } else { options.masked() }))
            .collect();
        let default = all.default.as_deref().filter(|_| role == Role::Store);
        if output.is_json() {
            json(&chosen, default, role, output)?;
        } else {
            text(&chosen, default, role, roles.len() > 1, output)?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Entry<'a> {
    r#type: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<bool>,
    options: BTreeMap<&'a str, &'a str>,
}

fn json(entries: &Entries, default: Option<&str>, role: Role, output: &Output) -> Result<(), CommandError> {
    for (name, options) in entries {
        output.json(&Entry {
            r#type: role.noun(),
            name,
            default: (role == Role::Store).then_some(default == Some(name)),
            options: options.iter().collect(),
        })?;
    }
    Ok(())
}

fn text(
    entries: &Entries,
    default: Option<&str>,
    role: Role,
    with_section: bool,
    output: &Output,
) -> Result<(), CommandError> {
    let mut lines = Vec::new();
    if let Some(default) = default.filter(|default| entries.contains_key(*default)) {
        lines.push(format!("default: {default}"));
    }
    let indent = if with_section { "  " } else { "" };
    if with_section {
        let none = if entries.is_empty() { " {}" } else { "" };
        lines.push(format!("{}s:{none}", role.noun()));
    }
    for (name, options) in entries {
        for line in render(name, options)?.lines() {
            lines.push(format!("{indent}{line}"));
        }
    }
    for line in lines {
        output.line(Printable::message(&line))?;
    }
    Ok(())
}

fn render(name: &str, options: &Options) -> Result<String, CommandError> {
    let options: BTreeMap<&str, &str> = options.iter().collect();
    serde_norway::to_string(&BTreeMap::from([(name, options)]))
        .map_err(|error| CommandError::failed("cannot format the configuration").because(error))
}
