//! `pkg`: connectors are built in, so there is nothing to install.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::suggest;
use crate::base::Printable;
use crate::connectors::{Role, available};
use crate::ui::{Align, Table};

/// Lists the connectors. All of them are built in: add, rm and build have nothing to do, say so and succeed. Nothing is
/// ever downloaded, installed, removed or executed.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar pkg list
plakar pkg add s3
plakar pkg add ./s3_v1.0.0_linux_amd64.ptar")]
pub(crate) struct Args {
    /// list, add, rm or build; none lists
    #[arg(value_name = "VERB")]
    verb: Option<Verb>,
    /// Names of connectors, or of files of upstream's packages
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Verb {
    #[value(alias = "ls", alias = "show")]
    List,
    #[value(alias = "install")]
    Add,
    #[value(alias = "remove")]
    Rm,
    #[value(alias = "create")]
    Build,
}

#[derive(Serialize)]
struct Package<'a> {
    r#type: &'static str,
    name: &'a str,
    version: &'static str,
    roles: Vec<&'static str>,
    built_in: bool,
}

const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Answers.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let known = built_in();
    let verb = args.verb.unwrap_or(Verb::List);
    if verb == Verb::List {
        return list(&known, context);
    }
    if args.names.is_empty() {
        return Err(CommandError::usage("no connector was named").hint("plakar pkg list shows them"));
    }
    let mut names = Vec::new();
    for text in &args.names {
        names.push(find(text, &known)?);
    }
    // Why success: what was wanted holds. The documents upgrade by `pkg rm s3` and `pkg add s3`, which a script that
    // stops at the first failure has to get through.
    let why = match verb {
        Verb::List | Verb::Add => "nothing is installed",
        Verb::Rm => "nothing is removed; a new plakar brings new connectors",
        Verb::Build => "nothing has to be built",
    };
    for name in names {
        if context.output.is_json() {
            context.output.json(&package(name, &known[name]))?;
        } else {
            context.output.summary(format!("{name} is built in ({VERSION}): {why}"))?;
        }
    }
    Ok(Exit::Ok)
}

/// Returns the connectors with their roles, in the words of `plakar version`.
fn built_in() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (role, word) in [(Role::Source, "importer"), (Role::Destination, "exporter"), (Role::Store, "kloset")]
    {
        // An archive over HTTP is part of `ptar`.
        for name in available(role).into_iter().filter(|name| !name.starts_with("ptar+")) {
            found.entry(name).or_default().push(word);
        }
    }
    found
}

fn package<'a>(name: &'a str, roles: &[&'static str]) -> Package<'a> {
    Package { r#type: "package", name, version: VERSION, roles: roles.to_vec(), built_in: true }
}

fn list(known: &BTreeMap<&'static str, Vec<&'static str>>, context: &Context) -> Result<Exit, CommandError> {
    let mut table = Table::new([Align::Left, Align::Left, Align::Left]);
    for (name, roles) in known {
        if context.output.is_json() {
            context.output.json(&package(name, roles))?;
        } else {
            table.row([*name, VERSION, &format!("built in: {}", roles.join(", "))]);
        }
    }
    context.output.text(table)?;
    Ok(Exit::Ok)
}

/// Finds the connector that a name, or the name of a package file (`s3_v1.0.0_linux_amd64.ptar`), stands for.
fn find(text: &str, known: &BTreeMap<&'static str, Vec<&'static str>>) -> Result<&'static str, CommandError> {
    let file = Path::new(text).file_name().and_then(|name| name.to_str()).unwrap_or(text);
    let name = file.strip_suffix(".ptar").map_or(file, |stem| stem.split("_v").next().unwrap_or(stem));
    let name = name.to_ascii_lowercase();
    if let Some((found, _)) = known.get_key_value(name.as_str()) {
        return Ok(found);
    }
    let error =
        CommandError::usage(format!("there is no connector '{}' in this program", Printable::new(&name)));
    let all: Vec<&str> = known.keys().copied().collect();
    Err(match suggest::nearest(&name, all.iter().copied()) {
        Some(near) => error.hint(format!("did you mean {near}? Built in are {}", all.join(", "))),
        None => error.hint(format!("built in are {}; nothing else can be added", all.join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_names_of_connectors() {
        let known = built_in();
        for text in
            ["s3", "S3", "./s3_v1.0.0_darwin_arm64.ptar", "/tmp/s3_v1.1.0-rc.1_linux_amd64.ptar", "s3.ptar"]
        {
            assert_eq!(find(text, &known).ok(), Some("s3"), "{text}");
        }
        for text in ["s4", "notion_v1.0.0_linux_amd64.ptar", "", ".."] {
            assert_eq!(find(text, &known).unwrap_err().exit().code(), 64, "{text}");
        }
    }
}
