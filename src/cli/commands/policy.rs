//! `policy`.

use std::ffi::OsString;

use serde::Serialize;

use super::super::configuration::{Policies, Policy, known_option, query_of};
use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::suggest;
use crate::base::Printable;

/// Names sets of retention rules, for 'prune -policy NAME'. VERB is add, set, unset, rm, show or list; options are
/// query flags without their dash.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar policy add weekly per-week=1 since='3 months'
plakar policy set weekly per-week=2
plakar policy unset weekly since
plakar policy show weekly
plakar prune -policy weekly -apply")]
pub(crate) struct Args {
    /// show: print JSON (as -json does)
    #[arg(long, hide = true)]
    yaml: bool,
    /// The verb, the name and what the verb needs; none lists the policies
    #[arg(value_name = "VERB")]
    words: Vec<OsString>,
}

const VERBS: [&str; 7] = ["add", "set", "unset", "rm", "show", "list", "ls"];

/// Edits or prints policies.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let words = texts(&args.words)?;
    let folder = context.config_folder()?;
    let usage = |text: &str| CommandError::usage(format!("usage: plakar policy {text}"));
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["list" | "ls"] => list(&Policies::load(&folder)?, context)?,
        ["show", names @ ..] => show(&Policies::load(&folder)?, names, context)?,
        ["add" | "create", name, pairs @ ..] => {
            let name = checked(name)?;
            let policy = merged(name, Policy::new(), pairs)?;
            Policies::edit(&folder, |all| match all.0.insert(name.to_owned(), policy) {
                Some(_) => Err(CommandError::usage(format!("there is a policy '{name}' already"))
                    .hint(format!("plakar policy set {name} OPTION=VALUE… changes it"))),
                None => Ok(()),
            })?;
        }
        ["set", name, pairs @ ..] if !pairs.is_empty() => Policies::edit(&folder, |all| {
            let policy = merged(name, all.get(name)?.clone(), pairs)?;
            all.0.insert((*name).to_owned(), policy);
            Ok::<_, CommandError>(())
        })?,
        ["unset", name, options @ ..] if !options.is_empty() => Policies::edit(&folder, |all| {
            let mut policy = all.get(name)?.clone();
            for option in options {
                policy.remove(&known_option(option)?);
            }
            all.0.insert((*name).to_owned(), policy);
            Ok::<_, CommandError>(())
        })?,
        ["rm" | "remove", names @ ..] if !names.is_empty() => Policies::edit(&folder, |all| {
            for name in names {
                all.get(name)?;
                all.0.remove(*name);
            }
            Ok::<_, CommandError>(())
        })?,
        ["add" | "create", ..] => return Err(usage("add NAME [OPTION=VALUE…]")),
        ["set", ..] => return Err(usage("set NAME OPTION=VALUE…")),
        ["unset", ..] => return Err(usage("unset NAME OPTION…")),
        ["rm" | "remove", ..] => return Err(usage("rm NAME…")),
        ["list" | "ls", ..] => return Err(usage("list")),
        [other, ..] => {
            let error = CommandError::usage(format!("'policy' has no verb '{}'", Printable::new(*other)));
            return Err(match suggest::nearest(other, VERBS) {
                Some(near) => error.hint(format!("did you mean 'plakar policy {near}'?")),
                None => error.hint("known are add, set, unset, rm, show, list"),
            });
        }
    }
    if let [verb @ ("add" | "create" | "set" | "unset" | "rm" | "remove"), names @ ..] =
        words.iter().map(String::as_str).collect::<Vec<_>>().as_slice()
    {
        let names = if verb.starts_with('r') { names } else { &names[..1] };
        super::configure::done("policy", verb, names, &context.output)?;
    }
    Ok(Exit::Ok)
}

fn texts(words: &[OsString]) -> Result<Vec<String>, CommandError> {
    let text = |word: &OsString| {
        let text = word.to_str().map(str::to_owned);
        text.ok_or_else(|| CommandError::usage(format!("{} is not valid UTF-8", Printable::os(word))))
    };
    words.iter().map(text).collect()
}

fn checked(name: &str) -> Result<&str, CommandError> {
    let fits = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(fits) {
        return Err(CommandError::usage(format!("'{}' cannot be a name", Printable::new(name)))
            .hint("names are made of letters, digits, '-', '_', '+' and '.'"));
    }
    Ok(name)
}

/// Adds `OPTION=VALUE` pairs to a policy; the result must be one that can be used.
fn merged(name: &str, mut policy: Policy, pairs: &[&str]) -> Result<Policy, CommandError> {
    for pair in pairs {
        let (option, value) = pair.split_once('=').ok_or_else(|| {
            CommandError::usage(format!("'{}' is not OPTION=VALUE", Printable::new(*pair)))
                .hint("quote values that hold spaces: since='3 months'")
        })?;
        policy.insert(known_option(option)?, value.to_owned());
    }
    query_of(name, &policy)?;
    Ok(policy)
}

fn list(all: &Policies, context: &Context) -> Result<(), CommandError> {
    if context.output.is_json() {
        return show(all, &[], context);
    }
    for (name, policy) in &all.0 {
        context.output.line(format_args!("{}: {}", Printable::new(name), flags(policy)))?;
    }
    if all.0.is_empty() {
        context.output.notice("there is no policy; plakar policy add NAME OPTION=VALUE… makes one");
    }
    Ok(())
}

fn flags(policy: &Policy) -> String {
    let flag = |(option, value): (&String, &String)| {
        let value = Printable::new(value).to_string();
        if value.contains(' ') { format!("-{option} '{value}'") } else { format!("-{option} {value}") }
    };
    policy.iter().map(flag).collect::<Vec<_>>().join(" ")
}

fn show(all: &Policies, names: &[&str], context: &Context) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Line<'a> {
        r#type: &'a str,
        name: &'a str,
        options: &'a Policy,
    }
    for name in names {
        all.get(name)?;
    }
    for (name, policy) in all.0.iter().filter(|(name, _)| names.is_empty() || names.contains(&name.as_str()))
    {
        if context.output.is_json() {
            context.output.json(&Line { r#type: "policy", name, options: policy })?;
            continue;
        }
        context.output.line(format_args!("{}:", Printable::new(name)))?;
        for (option, value) in policy {
            context.output.line(format_args!("  {option}: {}", Printable::new(value)))?;
        }
    }
    Ok(())
}
