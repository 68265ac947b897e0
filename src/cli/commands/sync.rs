//! `sync`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::lock_wait::LockWaitArgs;
use super::super::passphrase::Origin;
use super::super::query::QueryArgs;
use super::super::retrieval::{self, RetrieveArgs};
use super::super::{report, snapshots, stores};
use crate::connectors::Role;
use crate::snapshot::{self, SyncOptions, Versions};
use crate::store::Repository;
use crate::ui::Progress;

/// Copies snapshots that the other store lacks: 'to' sends, 'from' fetches, 'with' does both. 'sync from x.ptar'
/// imports an archive.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups sync to @scw_store
plakar at /var/backups sync abc123 to @scw_store
plakar at /var/backups sync from ./export.ptar
plakar at /var/backups sync -since 30d with /mnt/disk")]
pub(crate) struct Args {
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    lock_wait: LockWaitArgs,
    #[command(flatten)]
    retrieval: RetrieveArgs,
    /// Read the passphrase of the other store from the file PATH
    #[arg(long, value_name = "PATH")]
    peer_keyfile: Option<PathBuf>,
    /// [SNAPSHOT] to|from|with STORE
    #[arg(value_name = "SNAPSHOT|DIRECTION|STORE", required = true)]
    words: Vec<OsString>,
}

/// Which way snapshots go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    To,
    From,
    With,
}

/// Copies.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let (named, direction, peer) = parse(&args.words)?;
    let peer = context.place(peer, Role::Store)?;
    let place = context.main_store()?;
    if place.location == peer.location {
        return Err(CommandError::usage("a store cannot be synchronised with itself"));
    }
    let main = args.retrieval.open_store(context, &place, &context.store_passphrases(&place, None))?;
    let chain = context.peer_passphrases(&peer, args.peer_keyfile.as_deref());
    let other = args.retrieval.open_store(context, &peer, &chain)?;
    stores::tell_warnings(context, &main.repository);
    stores::tell_warnings(context, &other.repository);
    [&main, &other].into_iter().for_each(|opened| args.lock_wait.apply(context, &opened.repository));
    if let (Some(origin @ Origin::Variable(_)), true) = (&main.origin, main.origin == other.origin) {
        context.output.notice(format!("{origin} opens both stores"));
    }
    let copy = |from: &Repository, to: &Arc<Repository>, what: String| -> Result<bool, CommandError> {
        let cold = args.retrieval.open(context, from)?;
        cold.metadata()?;
        let (chosen, unreadable) = if named.is_empty() {
            snapshots::query_all(context, from, &args.query)?
        } else {
            let chosen = snapshots::choose(context, from, named, &args.query)?;
            (chosen.into_iter().map(|chosen| chosen.info).collect(), Vec::new())
        };
        let there = to.catalogue();
        let missing = chosen.iter().filter(|info| !there.has_snapshot(&info.id));
        cold.contents(&retrieval::targets(missing.map(|info| (info, None)), Versions::All))?;
        let options = SyncOptions {
            memory: context.globals.memory,
            cancel: context.cancel.clone(),
            ..SyncOptions::default()
        };
        let done = {
            let progress = Progress::start(&context.output, context.globals.progress());
            snapshot::sync(from, to, &chosen, &options, &progress)?
        };
        stores::tell_notes(context, to);
        report::sync(&done, &what, false, &context.output)?;
        Ok(unreadable.is_empty() && done.damaged.is_empty())
    };
    let mut whole = true;
    if direction != Direction::From {
        whole &= copy(&main.repository, &other.repository, format!("copied to {peer}"))?;
    }
    if direction != Direction::To {
        whole &= copy(&other.repository, &main.repository, format!("copied from {peer}"))?;
    }
    // What could not be read was not copied.
    Ok(if whole { Exit::Ok } else { Exit::Damage })
}

/// Takes `[SNAPSHOT] to|from|with STORE` apart.
fn parse(words: &[OsString]) -> Result<(&[OsString], Direction, &OsStr), CommandError> {
    let usage = || CommandError::usage("usage: plakar at STORE sync [SNAPSHOT] to|from|with STORE");
    let (named, direction, peer) = match words {
        [direction, peer] => (&[][..], direction, peer),
        [_, direction, peer] => (&words[..1], direction, peer),
        _ => return Err(usage()),
    };
    let direction = match direction.to_str() {
        Some("to") => Direction::To,
        Some("from") => Direction::From,
        Some("with") => Direction::With,
        _ => return Err(usage()),
    };
    if direction == Direction::With && !named.is_empty() {
        return Err(
            CommandError::usage("one snapshot goes one way").hint("sync SNAPSHOT to STORE, or from STORE")
        );
    }
    if named.iter().any(|name| name.as_encoded_bytes().contains(&b':')) {
        return Err(CommandError::usage("snapshots are copied as a whole").hint("leave out ':PATH'"));
    }
    Ok((named, direction, peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_words_are_a_snapshot_a_direction_and_a_store() {
        let line = words("to @b");
        assert_eq!(parse(&line).unwrap(), (&[][..], Direction::To, OsStr::new("@b")));
        let line = words("abc from x.ptar");
        assert_eq!(parse(&line).unwrap(), (&line[..1], Direction::From, OsStr::new("x.ptar")));
        for line in ["to", "@b to", "abc with @b", "a b to @b", "abc:/x to @b", "into @b"] {
            assert_eq!(parse(&words(line)).unwrap_err().exit().code(), 64, "{line}");
        }
    }
}
