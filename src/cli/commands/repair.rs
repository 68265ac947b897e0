//! `repair`.

use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::{report, stores};
use crate::base::Printable;
use crate::snapshot::{CheckOptions, RepairOptions, RepairReport, check, header, repair};
use crate::snapshot::{SnapshotInfo, message_of};
use crate::store::Repository;
use crate::ui::{Progress, units};

/// Puts right what can be put right from what is there: names packfiles that no state knows any more, so that their
/// snapshots are back, and stores index entries that upstream left out. Without -apply it only shows what it would do.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups repair
plakar at /var/backups repair -apply")]
pub(crate) struct Args {
    /// Do it; without it, show what would be done
    #[arg(long)]
    apply: bool,
}

#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'a str,
    command: &'a str,
    applied: bool,
    packfiles: u64,
    packfile_bytes: u64,
    snapshots: Vec<String>,
    unreadable: Vec<String>,
    damaged_states: Vec<String>,
    dropped_states: u64,
    entries: u64,
    lost_entries: u64,
    duration: f64,
}

/// Repairs.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let repository = stores::open_main(context)?.repository;
    if repository.storage().is_archive() {
        return Err(CommandError::usage("an archive never changes: it cannot be repaired").hint(
            "plakar check names what is damaged, and what it hurts; sync from it takes over what is whole",
        ));
    }
    let options = RepairOptions { apply: args.apply, cancel: context.cancel.clone() };
    let done = {
        let progress = Progress::start(&context.output, context.globals.progress());
        repair(&repository, &options, &progress)?
    };
    tell(&done, args.apply, context)?;
    if args.apply && !done.snapshots.is_empty() {
        return verify(&repository, &done, context);
    }
    let damaged = done.damaged_states.len() as u64 > done.dropped_states;
    let hopeless = damaged || done.lost_entry_count > 0 || !done.unreadable.is_empty();
    Ok(if hopeless { Exit::Damage } else { Exit::Ok })
}

fn tell(done: &RepairReport, applied: bool, context: &Context) -> Result<(), CommandError> {
    let output = &context.output;
    if output.is_json() {
        return Ok(output.json(&Summary {
            r#type: "summary",
            command: "repair",
            applied,
            packfiles: done.adopted_count,
            packfile_bytes: done.adopted_bytes,
            snapshots: done.snapshots.iter().map(crate::base::Id::to_hex).collect(),
            unreadable: done.unreadable.iter().map(|(id, _)| id.to_hex()).collect(),
            damaged_states: done.damaged_states.iter().map(crate::base::Id::to_hex).collect(),
            dropped_states: done.dropped_states,
            entries: done.entry_count,
            lost_entries: done.lost_entry_count,
            duration: report::seconds(done.duration),
        })?);
    }
    for (id, why) in &done.unreadable {
        output.warn(format!("packfile {} is unknown to all states and cannot be read: {why}", id.short()));
    }
    let would = if applied { "" } else { "would have " };
    let mut lines = Vec::new();
    if done.adopted_count > 0 {
        let (packs, bytes) =
            (units::counted(done.adopted_count, "packfile"), units::bytes(done.adopted_bytes));
        lines.push(format!("{would}named {packs} ({bytes}) that no state knew"));
    }
    for id in &done.snapshots {
        lines.push(format!("{would}brought back snapshot {}", id.short()));
    }
    if !done.damaged_states.is_empty() {
        let states = units::counted(done.damaged_states.len() as u64, "damaged state");
        lines.push(match (applied, done.dropped_states) {
            (true, dropped) => format!("found {states}, deleted {dropped}"),
            (false, _) => format!("would have deleted {states}"),
        });
    }
    if done.entry_count > 0 {
        lines.push(format!(
            "{would}stored {} that trees name",
            units::counted(done.entry_count, "missing index record")
        ));
    }
    if done.lost_entry_count > 0 {
        lines.push(format!(
            "cannot find {} that trees name",
            units::counted(done.lost_entry_count, "index record")
        ));
    }
    if lines.is_empty() {
        return Ok(output.summary("nothing to repair")?);
    }
    lines.iter().try_for_each(|line| output.summary(Printable::message(line)))?;
    let took = units::duration(done.duration);
    output.summary(if applied {
        format!("took {took}")
    } else {
        format!("-apply does it (looked for {took})")
    })?;
    Ok(())
}

/// Says whether the snapshots that are back are whole.
fn verify(repository: &Repository, done: &RepairReport, context: &Context) -> Result<Exit, CommandError> {
    let mut selection = Vec::new();
    let mut exit = Exit::Ok;
    for id in &done.snapshots {
        match header(repository, id) {
            Ok(header) => selection.push((SnapshotInfo { id: *id, header }, None)),
            Err(error) => {
                context.output.warn(format!(
                    "snapshot {} cannot be read: {}",
                    id.short(),
                    message_of(&error)
                ));
                exit = Exit::Damage;
            }
        }
    }
    let options = CheckOptions { fast: true, cancel: context.cancel.clone(), ..CheckOptions::default() };
    let checked = {
        let progress = Progress::start(&context.output, context.globals.progress());
        check(repository, Some(&selection), &options, &progress)?
    };
    report::check(&checked, &context.output)?;
    Ok(if checked.damage.is_empty() { exit } else { Exit::Damage })
}
