//! `repair`.

use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::{report, stores};
use crate::base::{Id, Printable};
use crate::snapshot::{CheckOptions, RepairOptions, RepairReport, check, header, repair};
use crate::snapshot::{SnapshotInfo, message_of};
use crate::store::Repository;
use crate::ui::{Progress, units};

/// Puts right what can be put right from what is there: names packfiles that no state knows any more, so that their
/// snapshots are back, stores index entries that upstream left out, and takes damaged packfiles out of use, so that the
/// next backup stores again what is lost. Without -apply it only shows what it would do.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups repair
plakar at /var/backups repair -apply
plakar at @mystore repair -fast")]
pub(crate) struct Args {
    /// Do it; without it, show what would be done
    #[arg(long)]
    apply: bool,
    /// Look at states and trees only, not at packfiles
    #[arg(long)]
    fast: bool,
    /// Write states of version 1.1.0 into a store that upstream 1.0 wrote, which that does not read any more
    #[arg(long)]
    upgrade: bool,
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
    damaged_packfiles: Vec<String>,
    kept_packfiles: Vec<String>,
    missing_packfiles: Vec<String>,
    unread_packfiles: u64,
    copied_blobs: u64,
    copied_bytes: u64,
    forgotten_locations: u64,
    lost_blobs: u64,
    given_up_blobs: u64,
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
    let options = RepairOptions {
        apply: args.apply,
        fast: args.fast,
        upgrade: args.upgrade,
        cancel: context.cancel.clone(),
    };
    let done = {
        let progress = Progress::start(&context.output, context.globals.progress());
        repair(&repository, &options, &progress)?
    };
    tell(&done, args.apply, context)?;
    let verified = if args.apply && !done.snapshots.is_empty() {
        verify(&repository, &done, context)?
    } else {
        Exit::Ok
    };
    Ok(if is_left(&done, args.apply) { Exit::Damage } else { verified })
}

/// Returns whether something is damaged still.
fn is_left(done: &RepairReport, applied: bool) -> bool {
    let states = done.damaged_states.len() as u64 > done.dropped_states;
    let packfiles = if applied { !done.stuck_packs.is_empty() } else { !done.damaged_packs.is_empty() };
    let lost = done.lost_entry_count > 0 || !done.lost_blobs.is_empty();
    states || packfiles || lost || !done.unreadable.is_empty() || !done.missing_packs.is_empty()
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
            snapshots: hex(&done.snapshots),
            unreadable: done.unreadable.iter().map(|(id, _)| id.to_hex()).collect(),
            damaged_states: hex(&done.damaged_states),
            dropped_states: done.dropped_states,
            entries: done.entry_count,
            lost_entries: done.lost_entry_count,
            damaged_packfiles: hex(&done.damaged_packs),
            kept_packfiles: hex(&done.stuck_packs),
            missing_packfiles: hex(&done.missing_packs),
            unread_packfiles: done.archived_count,
            copied_blobs: done.moved_count,
            copied_bytes: done.moved_bytes,
            forgotten_locations: done.bad_location_count,
            lost_blobs: done.lost_blobs.len() as u64,
            given_up_blobs: done.given_up_count,
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
    for id in &done.missing_packs {
        output.warn(format!("packfile {} is gone", id.short()));
    }
    if !done.missing_packs.is_empty() {
        output.notice(NEXT_STEPS);
    }
    tell_packfiles(done, applied, &mut lines);
    if lines.is_empty() {
        return Ok(output.summary(match (done.read_packs, is_left(done, applied)) {
            (_, true) => "nothing that is wrong can be mended from what is here",
            (true, false) => "nothing to repair",
            (false, false) => "nothing to repair in states and trees; packfiles were not read",
        })?);
    }
    lines.iter().try_for_each(|line| output.summary(Printable::message(line)))?;
    let took = units::duration(done.duration);
    output.summary(if applied {
        format!("took {took}")
    } else {
        format!("-apply does it (looked for {took})")
    })?;
    if !done.damaged_packs.is_empty() && !done.lost_blobs.is_empty() {
        output.notice(if applied { NEXT_STEPS } else { FIRST_STEPS });
    }
    Ok(())
}

/// What to do once damaged packfiles are out of use.
const NEXT_STEPS: &str = "back up the same sources again: what is lost is stored again where a source still has it; check then names \
     what is still missing, and the snapshots that it hurts";
/// What to do before that.
const FIRST_STEPS: &str = "repair -apply first, then back up the same sources again: what is lost is stored again where a source still \
     has it";

fn tell_packfiles(done: &RepairReport, applied: bool, lines: &mut Vec<String>) {
    let would = if applied { "" } else { "would have " };
    if !done.damaged_packs.is_empty() {
        let packs = units::counted(done.damaged_packs.len() as u64, "damaged packfile");
        let bytes = units::bytes(done.damaged_pack_bytes);
        lines.push(format!("{would}taken {packs} ({bytes}) out of use"));
    }
    if done.moved_count > 0 {
        let (blobs, bytes) = (units::counted(done.moved_count, "blob"), units::bytes(done.moved_bytes));
        lines.push(format!("{would}copied {blobs} ({bytes}) that are whole out of them"));
    }
    for id in &done.stuck_packs {
        lines.push(format!(
            "packfile {} stays in use: it holds the header of a snapshot, or its signature, of which there is no copy that \
             is known to be whole; it goes once that snapshot is removed",
            id.short()
        ));
    }
    if !done.lost_blobs.is_empty() {
        let blobs = units::counted(done.lost_blobs.len() as u64, "damaged blob");
        lines.push(format!("found {blobs} without another copy"));
    }
    if done.given_up_count > 0 {
        let blobs = units::counted(done.given_up_count, "blob");
        lines.push(format!("{blobs} given up before were not stored again since"));
    }
    if done.archived_count > 0 {
        let packs = units::counted(done.archived_count, "packfile");
        lines.push(format!("left out {packs} in cold storage, which were not read"));
    }
}

fn hex(ids: &[Id]) -> Vec<String> {
    ids.iter().map(Id::to_hex).collect()
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
