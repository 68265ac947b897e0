//! `key`.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::passphrase::Chain;
use super::super::{dates, stores, suggest};
use super::create::choose_strong;
use crate::base::Printable;
use crate::crypto::Secret;
use crate::crypto::slots::RecoveryKey;
use crate::store::{KdfChoice, Repository, SlotChange, SlotInfo, SlotsError, change_slots, slots};
use crate::ui::{Align, Table};

/// Shows and changes what opens a store: passphrases and recovery keys, each in a key slot of its own. VERB is list,
/// add, passwd or rm. The new passphrase comes from -new-keyfile, PLAKAR_NEW_PASSPHRASE or a prompt.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at @mystore key list
plakar at @mystore key add -label laptop
plakar at @mystore key add -recovery
plakar at @mystore key passwd
plakar at @mystore -slot main key rm laptop")]
pub(crate) struct Args {
    /// add: the label of the new slot
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// add: make a recovery key and print it, once
    #[arg(long)]
    recovery: bool,
    /// add, passwd: read the new passphrase from the file PATH
    #[arg(long, value_name = "PATH")]
    new_keyfile: Option<PathBuf>,
    /// Take a typed passphrase even if it is weak
    #[arg(long)]
    weak_passphrase: bool,
    /// The verb, and the label of a slot
    #[arg(value_name = "VERB")]
    words: Vec<OsString>,
}

const VERBS: [&str; 4] = ["list", "add", "passwd", "rm"];

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Action {
    List,
    Add,
    Passwd(Option<String>),
    Remove(String),
}

/// Lists or changes slots.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let action = parse(args)?;
    let repository = stores::open_main(context)?.repository;
    if repository.storage().is_archive() && action != Action::List {
        return Err(SlotsError::Archive.into());
    }
    let found = slots(&repository);
    if found.is_empty() {
        return Err(SlotsError::None(repository.storage().location()).into());
    }
    match action {
        Action::List => list(&found, context)?,
        Action::Add if args.recovery => add_recovery(args, &repository, &found, context)?,
        Action::Add => {
            let label = args.label.clone().unwrap_or_else(|| unused(&found, "key"));
            must_be_free(&label, &found)?;
            let passphrase = new_passphrase(args, context, &label)?;
            let change = SlotChange::AddPassphrase {
                label: &label,
                passphrase: &passphrase,
                kdf: KdfChoice::default(),
            };
            change_slots(&repository, &change)?;
            done("added", &label, context)?;
        }
        Action::Passwd(label) => {
            let label = label.map_or_else(|| changed_by_default(&found), Ok)?;
            if !found.iter().any(|slot| slot.label == label) {
                return Err(SlotsError::Unknown(label).into());
            }
            let passphrase = new_passphrase(args, context, &label)?;
            let change =
                SlotChange::Replace { label: &label, passphrase: &passphrase, kdf: KdfChoice::default() };
            change_slots(&repository, &change)?;
            done("changed", &label, context)?;
            revocation(context);
        }
        Action::Remove(label) => {
            change_slots(&repository, &SlotChange::Remove { label: &label })?;
            done("removed", &label, context)?;
            revocation(context);
        }
    }
    Ok(Exit::Ok)
}

fn parse(args: &Args) -> Result<Action, CommandError> {
    let words: Vec<String> = args
        .words
        .iter()
        .map(|word| word.to_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or_else(|| CommandError::usage("a label is not valid UTF-8"))?;
    let usage = |text: &str| CommandError::usage(format!("usage: plakar at STORE key {text}"));
    let action = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["list" | "ls"] => Action::List,
        ["add"] => Action::Add,
        ["passwd"] => Action::Passwd(None),
        ["passwd", label] => Action::Passwd(Some((*label).to_owned())),
        ["rm" | "remove", label] => Action::Remove((*label).to_owned()),
        ["list" | "ls", ..] => return Err(usage("list")),
        ["add", ..] => return Err(usage("add [-label LABEL] [-recovery]")),
        ["passwd", ..] => return Err(usage("passwd [LABEL]")),
        ["rm" | "remove", ..] => return Err(usage("rm LABEL")),
        [other, ..] => {
            let error = CommandError::usage(format!("'key' has no verb '{}'", Printable::new(*other)));
            return Err(match suggest::nearest(other, VERBS) {
                Some(near) => error.hint(format!("did you mean 'plakar key {near}'?")),
                None => error.hint("known are list, add, passwd, rm"),
            });
        }
    };
    let add = action == Action::Add;
    if (args.label.is_some() || args.recovery) && !add {
        return Err(CommandError::usage("-label and -recovery belong to 'key add'"));
    }
    let passphrase = add && !args.recovery || matches!(action, Action::Passwd(_));
    if args.new_keyfile.is_some() && !passphrase {
        return Err(CommandError::usage("-new-keyfile holds a new passphrase, and none is needed here"));
    }
    Ok(action)
}

fn list(found: &[SlotInfo], context: &Context) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Line<'a> {
        r#type: &'a str,
        label: &'a str,
        kind: &'a str,
        created: String,
        opened: bool,
    }
    let mut table = Table::new([Align::Left, Align::Left, Align::Left, Align::Left]);
    for slot in found {
        let kind = if slot.is_recovery { "recovery key" } else { "passphrase" };
        let created = dates::rfc3339(crate::base::Timestamp { nanos: 0, ..slot.created });
        if context.output.is_json() {
            let (label, opened) = (&slot.label, slot.opened);
            context.output.json(&Line { r#type: "slot", label, kind, created, opened })?;
            continue;
        }
        let note = if slot.opened { "opened the store just now" } else { "" };
        table.row([&Printable::new(&slot.label).to_string(), kind, created.as_str(), note]);
    }
    Ok(context.output.text(table)?)
}

fn add_recovery(
    args: &Args,
    repository: &std::sync::Arc<Repository>,
    found: &[SlotInfo],
    context: &Context,
) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Line<'a> {
        r#type: &'a str,
        label: &'a str,
        key: &'a str,
    }
    let label = args.label.clone().unwrap_or_else(|| unused(found, "recovery"));
    let key = RecoveryKey::random();
    change_slots(repository, &SlotChange::AddRecovery { label: &label, key: &key })?;
    let text = key.encode();
    if context.output.is_json() {
        return Ok(context.output.json(&Line { r#type: "recovery_key", label: &label, key: &text })?);
    }
    context.output.line(&*text)?;
    context.output.notice(format!(
        "this is the recovery key of the slot '{}': write it down now, it is never shown again; it opens the store in \
         place of the passphrase",
        Printable::new(&label)
    ));
    Ok(())
}

/// Returns a label that no slot has: the name, or the name and a number.
fn unused(found: &[SlotInfo], name: &str) -> String {
    let taken = |label: &str| found.iter().any(|slot| slot.label == label);
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|label| !taken(label)).expect("numbers do not end")
}

/// Asking for a passphrase that cannot be used would be rude.
fn must_be_free(label: &str, found: &[SlotInfo]) -> Result<(), CommandError> {
    if found.iter().any(|slot| slot.label == label) {
        return Err(SlotsError::Taken(label.to_owned()).into());
    }
    Ok(())
}

/// Returns the slot whose passphrase is changed when none is named: the one that opened the store, or the only one.
fn changed_by_default(found: &[SlotInfo]) -> Result<String, CommandError> {
    let passphrases = || found.iter().filter(|slot| !slot.is_recovery);
    let opened = passphrases().find(|slot| slot.opened);
    let only = passphrases().next().filter(|_| passphrases().count() == 1);
    opened.or(only).map(|slot| slot.label.clone()).ok_or_else(|| {
        CommandError::usage("a recovery key opened the store, so it is not clear which passphrase to change")
            .hint("name the slot: plakar key passwd LABEL; plakar key list shows them")
    })
}

fn new_passphrase(args: &Args, context: &Context, label: &str) -> Result<Secret, CommandError> {
    let chain = Chain::new()
        .keyfile(args.new_keyfile.as_deref())
        .variable("PLAKAR_NEW_PASSPHRASE", context.environment.new_passphrase.as_ref());
    let what = format!("the key slot '{}'", Printable::new(label));
    choose_strong(&chain, what, args.weak_passphrase, context).map_err(|error| {
        // The usual hint speaks of the passphrase that opens the store.
        match error.exit() {
            Exit::Denied => error.hint("give the new one with -new-keyfile PATH or PLAKAR_NEW_PASSPHRASE"),
            _ => error,
        }
    })
}

fn done(what: &str, label: &str, context: &Context) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Line<'a> {
        r#type: &'a str,
        command: &'a str,
        action: &'a str,
        label: &'a str,
    }
    if context.output.is_json() {
        let line = Line { r#type: "summary", command: "key", action: what, label };
        return Ok(context.output.json(&line)?);
    }
    Ok(context.output.summary(format_args!("{what} the key slot '{}'", Printable::new(label)))?)
}

fn revocation(context: &Context) {
    context.output.notice(
        "the key of the store itself stays the same: whoever had the old passphrase and an old copy of CONFIG can go on \
         reading; to shut them out, sync into a new store",
    );
}

impl From<SlotsError> for CommandError {
    fn from(error: SlotsError) -> Self {
        let (exit, hint) = match error {
            SlotsError::Store(error) => return error.into(),
            SlotsError::Pin(error) => return crate::store::OpenError::Pin(error).into(),
            SlotsError::None(_) => (
                Exit::Failed,
                Some("only encrypted stores of the native profile have them; sync into one to get them"),
            ),
            SlotsError::Archive => {
                (Exit::Usage, Some("make it again under another passphrase: plakar ptar -k"))
            }
            SlotsError::Unknown(_) => (Exit::Usage, Some("plakar key list shows them")),
            SlotsError::Taken(_) => (Exit::Usage, Some("choose another one: -label LABEL")),
            SlotsError::Last(_) => (Exit::Failed, Some("add another one first: plakar key add")),
            SlotsError::InUse(_) => {
                (Exit::Failed, Some("open the store by another one: plakar -slot OTHER key rm LABEL"))
            }
            SlotsError::Recovery(_) | SlotsError::Label => (Exit::Usage, None),
            SlotsError::Newer => (Exit::Version, None),
            _ => (Exit::Failed, None),
        };
        let told = Self::from_error(exit, error);
        match hint {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(label: &str, is_recovery: bool, opened: bool) -> SlotInfo {
        let (id, created) = ([0; 16], crate::base::Timestamp::EPOCH);
        SlotInfo { id, label: label.into(), is_recovery, created, opened }
    }

    #[test]
    fn labels_are_found() {
        let found = [slot("main", false, false), slot("recovery", true, true)];
        assert_eq!(unused(&found, "recovery"), "recovery-2");
        assert_eq!(unused(&found, "key"), "key");
        assert_eq!(changed_by_default(&found).unwrap(), "main");
        let found = [slot("a", false, false), slot("b", false, true), slot("r", true, false)];
        assert_eq!(changed_by_default(&found).unwrap(), "b");
        let found = [slot("a", false, false), slot("b", false, false), slot("r", true, true)];
        assert_eq!(changed_by_default(&found).unwrap_err().exit().code(), 64);
    }
}
