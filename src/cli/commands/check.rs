//! `check`, also `verify`.

use std::ffi::OsString;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::query::QueryArgs;
use super::super::retrieval::{self, RetrieveArgs};
use super::super::{report, snapshots, stores};
use crate::snapshot::{self, CheckOptions, Signatures, Versions};
use crate::ui::Progress;

/// Verifies that everything can be read back; what is damaged is named with the files it hurts. Exits 65 on damage.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups check
plakar at @mystore verify abc123
plakar at @mystore check -fast latest:/etc
plakar at @mystore check -no-verify -since 7d")]
pub(crate) struct Args {
    /// Check the structure only, not the content
    #[arg(long)]
    fast: bool,
    /// Do not verify the signatures of snapshots
    #[arg(long)]
    no_verify: bool,
    #[command(flatten)]
    retrieval: RetrieveArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// Snapshots or parts of them; all when none is named
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshots: Vec<OsString>,
}

/// Checks.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let place = context.main_store()?;
    let repository =
        args.retrieval.open_store(context, &place, &context.store_passphrases(&place, None))?.repository;
    let cold = args.retrieval.open(context, &repository)?;
    cold.metadata()?;
    // Before anything is chosen: the cache may know snapshots that are lost.
    repository.read_states()?;
    let signatures = if args.no_verify { Signatures::Ignore } else { Signatures::Verify };
    let all = args.snapshots.is_empty() && args.query.is_empty();
    // A check of everything reports what is wrong with the store itself; others warn of it.
    let selection = if all {
        None
    } else {
        stores::tell_warnings(context, &repository);
        let chosen = snapshots::choose_with(context, &repository, &args.snapshots, &args.query, signatures)?;
        Some(chosen.into_iter().map(|chosen| (chosen.info, chosen.path)).collect::<Vec<_>>())
    };
    match &selection {
        _ if args.fast => {}
        None => cold.everything()?,
        Some(chosen) => {
            let parts = chosen.iter().map(|(info, path)| (info, path.as_deref()));
            cold.contents(&retrieval::targets(parts, Versions::All))?;
        }
    }
    let checked = {
        let progress = Progress::start(&context.output, context.globals.progress());
        let options = CheckOptions { fast: args.fast, signatures, cancel: context.cancel.clone() };
        snapshot::check(&repository, selection.as_deref(), &options, &progress)?
    };
    let advice = if checked.damage.is_empty() {
        None
    } else if repository.storage().is_archive() {
        Some(
            "an archive is not changed: make it again, or take over what is whole: plakar at NEWSTORE sync from ARCHIVE \
             copies the snapshots that are not named above",
        )
    } else {
        Some(
            "plakar at STORE repair -apply takes damaged packfiles and states out of use; then back up the same sources \
             again, which stores what is lost where a source still has it; what is still missing after that, check names",
        )
    };
    // In JSON the summary is the last line, for people the advice.
    let advise = || advice.into_iter().for_each(|advice| context.output.notice(advice));
    if context.output.is_json() {
        advise();
    }
    report::check(&checked, &context.output)?;
    if !context.output.is_json() {
        advise();
    }
    Ok(if checked.damage.is_empty() { Exit::Ok } else { Exit::Damage })
}
