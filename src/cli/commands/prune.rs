//! `prune`.

use std::ffi::OsString;

use super::super::configuration::{Policies, query_of};
use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::query::QueryArgs;
use super::super::snapshots::{self, facts};
use super::super::stores;
use super::rm::{PlanLine, assert_no_archive, named, plan_row, plan_table, remove};
use crate::base::Id;
use crate::snapshot::SnapshotInfo;
use crate::snapshot::retention::{Decision, GroupBy, Item};
use crate::store::Repository;

/// Removes the snapshots that no window and no cap keeps. Filters (-tag, -name, -root, -before …) say which snapshots
/// are looked at; all others stay. Without -apply it only shows what it would do and why.
#[derive(clap::Args, Debug)]
#[command(mut_arg("tag", |arg| arg.alias("tags")))]
#[command(after_help = "\
plakar at /var/backups prune -days 30
plakar at /var/backups prune -days 2 -per-day 3 -weeks 4 -per-week 5 -months 3 -per-month 2 -apply
plakar at /var/backups prune -tag finance -per-day 5
plakar at /var/backups prune -policy weekly -apply")]
pub(crate) struct Args {
    /// Remove; without it, show what would be removed
    #[arg(long)]
    apply: bool,
    /// Take the flags of the policy NAME; those given here go over them
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    #[command(flatten)]
    query: QueryArgs,
    /// Snapshots to remove, instead of any rule
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
}

/// Prunes.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let query = query(args, context)?;
    let repository = stores::open_main(context)?.repository;
    assert_no_archive(&repository, context)?;
    if !args.snapshots.is_empty() {
        let chosen = named(&repository, &args.snapshots)?;
        let decided =
            chosen.into_iter().map(|(id, info)| (id, info, Decision::default())).collect::<Vec<_>>();
        tell(context, &decided)?;
        return finish(context, &repository, &decided, args.apply);
    }
    let (all, failed) = snapshots::list(context, &repository);
    if !failed.is_empty() {
        context.output.notice("snapshots that cannot be read are kept; plakar rm ID removes them");
    }
    let decided = decide(&query, all, &repository, context)?;
    tell(context, &decided)?;
    finish(context, &repository, &decided, args.apply)
}

/// Merges the policy and the flags; refuses what says nothing, or what could be read in two ways.
fn query(args: &Args, context: &Context) -> Result<QueryArgs, CommandError> {
    let given = args.query.clone();
    if !args.snapshots.is_empty() {
        if args.policy.is_some() || !given.is_empty() {
            return Err(CommandError::usage("snapshots were named, and rules given, too")
                .hint("use one or the other"));
        }
        return Ok(given);
    }
    let query = match &args.policy {
        Some(name) => {
            let policies = Policies::load(&context.config_folder()?)?;
            given.over(query_of(name, policies.get(name)?)?)
        }
        None => given,
    };
    if query.is_empty() {
        return Err(CommandError::usage("nothing says which snapshots to keep")
            .hint("such as -days 30, or -days 7 -weeks 4 -per-week 1; plakar help prune has more"));
    }
    if query.latest {
        return Err(CommandError::usage("-latest makes no sense here")
            .hint("the newest snapshot of each group is kept anyway; plakar rm -latest removes it"));
    }
    if query.retention.has_no_rule() && query.since.is_some() {
        return Err(CommandError::usage("-since needs a window or a cap beside it").hint(
            "-since is where keeping ends: -since '3 months' -per-week 1; to keep the last days, -days N; to remove \
             what is newer, plakar rm -since DATE",
        ));
    }
    Ok(query)
}

type Decided = (Id, Option<SnapshotInfo>, Decision);

/// Decides about the snapshots that the filters leave, oldest first. Without a rule all of those go.
fn decide(
    query: &QueryArgs,
    all: Vec<SnapshotInfo>,
    repository: &Repository,
    context: &Context,
) -> Result<Vec<Decided>, CommandError> {
    // The whole query is understood first, so that what is wrong in it is said.
    query.filter(&context.now)?;
    let key = |by: &GroupBy, info: &SnapshotInfo| by.key(repository, info);
    let scope = QueryArgs {
        since: None,
        retention: super::super::retention::RetentionArgs::default(),
        ..query.clone()
    };
    let looked_at = scope.filter(&context.now)?.select(all, facts, key);
    let since =
        QueryArgs { since: query.since.clone(), ..QueryArgs::default() }.filter(&context.now)?.since();
    let retention = query.retention.retention().since(since);
    if retention.is_empty() {
        return Ok(looked_at.into_iter().map(|info| (info.id, Some(info), Decision::default())).collect());
    }
    let by = query.retention.group_by();
    let groups: Vec<Vec<u8>> = looked_at.iter().map(|info| key(&by, info)).collect();
    let items: Vec<Item<'_>> = looked_at
        .iter()
        .zip(&groups)
        .map(|(info, group)| Item { timestamp: info.header.timestamp, group })
        .collect();
    let decisions = retention.decide(&items, &context.now);
    Ok(looked_at.into_iter().zip(decisions).map(|(info, decision)| (info.id, Some(info), decision)).collect())
}

fn tell(context: &Context, decided: &[Decided]) -> Result<(), CommandError> {
    let mut table = plan_table();
    for (id, info, decision) in decided {
        let action = if decision.keeps() { "keep" } else { "remove" };
        let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        if context.output.is_json() {
            context.output.json(&PlanLine::new(action, *id, info.as_ref(), reasons))?;
        } else {
            plan_row(&mut table, action, *id, info.as_ref(), &reasons.join("; "));
        }
    }
    if !context.output.is_json() {
        context.output.text(table)?;
    }
    Ok(())
}

fn finish(
    context: &Context,
    repository: &Repository,
    decided: &[Decided],
    apply: bool,
) -> Result<Exit, CommandError> {
    let gone: Vec<Id> =
        decided.iter().filter(|(.., decision)| !decision.keeps()).map(|(id, ..)| *id).collect();
    let kept = decided.len() - gone.len();
    remove(context, repository, &gone, Some(kept), apply, "prune")
}
