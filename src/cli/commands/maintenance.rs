//! `maintenance`.

use std::time::Duration;

use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::{quantity, report, stores};
use crate::snapshot::{FOLD_ABOVE, Fate, MaintenanceOptions, MaintenanceReport, maintain};
use crate::store::Error;
use crate::ui::{Align, Progress, Table, units};

/// Makes room for what no snapshot needs any more. Data is marked first, and deleted by a later run, when the grace
/// period is over. Without -apply it only shows what it would do.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups maintenance
plakar at /var/backups maintenance -apply
plakar at @scw_store maintenance -apply -max-repack 10GiB")]
pub(crate) struct Args {
    /// Do it; without it, show what would be done
    #[arg(long)]
    apply: bool,
    /// How long what nobody needs is kept before it is deleted: 7d, 12h; what no state names is not even marked in its
    /// first 24h
    #[arg(long, value_name = "AGE", default_value = "7d", value_parser = age)]
    grace: Duration,
    /// Copy at most SIZE out of packfiles that are mostly garbage; 0 copies nothing
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = quantity::size)]
    max_repack: u64,
    /// Fold the states into one where there are more than COUNT: a client without a cache reads each
    #[arg(long, value_name = "COUNT", default_value_t = FOLD_ABOVE)]
    fold_above: usize,
    /// Fold no states
    #[arg(long)]
    no_fold: bool,
    /// Write states of version 1.1.0 into a store that upstream 1.0 wrote, which that does not read any more
    #[arg(long)]
    upgrade: bool,
}

/// Reads a length of time: days and weeks are those of 24 hours.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a length of time: write 7d, 12h, 30m or 2w");
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

/// What happens to packfiles, as people are told.
const FATES: [(Fate, &str, &str); 12] = [
    (Fate::Swept, "swept", "deleted: their grace period is over"),
    (Fate::Leftover, "leftover", "deleted: an earlier run could not"),
    (Fate::Coloured, "coloured", "marked: nothing needs them"),
    (Fate::Repacked, "repacked", "marked: mostly garbage, the rest is copied"),
    (Fate::Waiting, "waiting", "kept until their grace period is over"),
    (Fate::Spared, "spared", "kept: an interrupted backup may come back for them"),
    (Fate::Young, "young", "kept: unknown, but recent"),
    (Fate::Revived, "revived", "needed again"),
    (Fate::Held, "held", "not deleted: the storage holds on to them"),
    (Fate::Unreadable, "unreadable", "left alone: unknown, and not readable"),
    (Fate::Damaged, "damaged", "left alone: something in them is damaged"),
    (Fate::Kept, "kept", "left alone: no other copy of something in them could be read"),
];

#[derive(Serialize)]
struct Line<'a> {
    r#type: &'a str,
    packfile: String,
    bytes: u64,
    action: &'a str,
}

#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'a str,
    command: &'a str,
    applied: bool,
    snapshots: u64,
    packfiles: u64,
    packfile_bytes: u64,
    needed_bytes: u64,
    freed_bytes: u64,
    copied_bytes: u64,
    new_packfiles: u64,
    states: u64,
    folded_states: u64,
    deleted_states: u64,
    waiting_states: u64,
    held_states: u64,
    needs_upgrade: bool,
    duration: f64,
}

/// Maintains.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let repository = stores::open_main(context)?.repository;
    if repository.storage().is_archive() {
        return Err(CommandError::usage("an archive never changes: there is nothing to maintain"));
    }
    let options = MaintenanceOptions {
        apply: args.apply,
        grace: args.grace,
        max_repack: args.max_repack,
        fold_above: (!args.no_fold).then_some(args.fold_above),
        upgrade: args.upgrade,
        memory: context.globals.memory,
        cancel: context.cancel.clone(),
        ..MaintenanceOptions::default()
    };
    let done = {
        let progress = Progress::start(&context.output, context.globals.progress());
        let done = maintain(&repository, &options, &progress);
        // What is wrong is a damaged state, then, and not the run.
        let damaged = matches!(done, Err(Error::Incomplete(_))) && !repository.damaged_states().is_empty();
        done.map_err(CommandError::from)
            .map_err(|error| if damaged { error.with_exit(Exit::Damage) } else { error })?
    };
    tell(&done, args.apply, context)?;
    let failed = [Fate::Damaged].iter().any(|fate| done.of(*fate).0 > 0);
    Ok(if failed { Exit::Damage } else { Exit::Ok })
}

fn tell(done: &MaintenanceReport, applied: bool, context: &Context) -> Result<(), CommandError> {
    let output = &context.output;
    if output.is_json() {
        for pack in &done.fates {
            let action = FATES.iter().find(|(fate, ..)| *fate == pack.fate).map_or("", |(_, name, _)| *name);
            output.json(&Line {
                r#type: "packfile",
                packfile: pack.id.to_hex(),
                bytes: pack.size,
                action,
            })?;
        }
        return Ok(output.json(&Summary {
            r#type: "summary",
            command: "maintenance",
            applied,
            snapshots: done.snapshot_count,
            packfiles: done.packfile_count,
            packfile_bytes: done.packfile_bytes,
            needed_bytes: done.needed_bytes,
            freed_bytes: done.freed_bytes,
            copied_bytes: done.copied_bytes,
            new_packfiles: done.new_packfile_count,
            states: done.state_count,
            folded_states: done.folded_count,
            deleted_states: done.deleted_states,
            waiting_states: done.waiting_states,
            held_states: done.held_states,
            needs_upgrade: done.needs_upgrade,
            duration: report::seconds(done.duration),
        })?);
    }
    let title = if applied { "maintenance" } else { "maintenance would do this; -apply does it" };
    output.summary(format_args!(
        "{title}: {} of {} in {} are needed by {}",
        units::bytes(done.needed_bytes),
        units::bytes(done.packfile_bytes),
        units::counted(done.packfile_count, "packfile"),
        units::counted(done.snapshot_count, "snapshot"),
    ))?;
    let mut table = Table::new([Align::Left, Align::Right, Align::Right, Align::Left]);
    for (fate, _, why) in FATES {
        let (count, bytes) = done.of(fate);
        if count > 0 {
            table.row(["", &units::counted(count, "packfile"), &units::bytes(bytes), why]);
        }
    }
    if !table.is_empty() {
        output.summary(table.to_string().trim_end())?;
    }
    tell_states(done, applied, context)?;
    let freed = units::bytes(done.freed_bytes);
    let (did, copied) = if applied { ("freed", "copied") } else { ("would free", "copy") };
    let copied = match done.copied_bytes {
        0 => String::new(),
        bytes => format!(", {copied} {}", units::bytes(bytes)),
    };
    output.summary(format_args!("{did} {freed}{copied} in {}", units::duration(done.duration)))?;
    if done.needs_upgrade && !applied {
        output.notice("this store was written by upstream 1.0: applying needs -upgrade");
    }
    Ok(())
}

/// Says what becomes of states: nothing where nothing does.
fn tell_states(done: &MaintenanceReport, applied: bool, context: &Context) -> Result<(), CommandError> {
    let output = &context.output;
    let states = |count| units::counted(count, "state");
    if done.folded_count > 0 {
        let did = if applied { "folded" } else { "would fold" };
        output.summary(format_args!(
            "{did} {} of {} into one",
            done.folded_count,
            states(done.state_count)
        ))?;
    }
    if done.deleted_states > 0 {
        let did = if applied { "deleted" } else { "would delete" };
        output.summary(format_args!("{did} {} that were folded before", states(done.deleted_states)))?;
    }
    if done.waiting_states > 0 {
        let folded = states(done.waiting_states);
        output
            .summary(format_args!("{folded} that were folded are kept until their grace period is over"))?;
    }
    if done.held_states > 0 {
        output.notice(format_args!(
            "{} that were folded could not be deleted: the storage holds on to them; they take room, and are not read",
            states(done.held_states)
        ));
    }
    if done.strange_states {
        output.notice("the states are not folded: some hold what a newer program wrote");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_a_length_of_time() {
        assert_eq!(age("7d"), Ok(Duration::from_hours(168)));
        assert_eq!(age("2w"), Ok(Duration::from_hours(336)));
        assert_eq!(age("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(age("0"), Ok(Duration::ZERO));
        for text in ["", "7", "-7d", "soon", "1y"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
