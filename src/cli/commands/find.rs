//! `find`, also `search`.

use std::ffi::OsString;
use std::ops::RangeInclusive;

use jiff::Zoned;

use super::super::context::Context;
use super::super::entries::{EntryLine, LongLines, shown};
use super::super::error::{CommandError, Exit};
use super::super::query::QueryArgs;
use super::super::retrieval::RetrieveArgs;
use super::super::snapshots::{self, Chosen};
use super::super::{dates, quantity};
use crate::base::{Id, Timestamp};
use crate::format::entry::Entry;
use crate::snapshot::{
    Counter, EntryKind, MetadataPattern, Part, PatternError, Patterns, SearchQuery, search,
};
use crate::store::Repository;
use crate::ui::Progress;

/// Finds files and folders by name, size, time, type and metadata, in the named snapshots or in all. All flags that
/// are given have to fit; of several names any. Sizes are those of files: +10M is more than 10 MiB, -10M less.
#[derive(clap::Args, Debug)]
#[command(
    mut_arg("name", |arg| arg.long("snapshot-name")),
    after_help = "\
plakar at /var/backups find -name '*.pdf' latest
plakar at /var/backups find -size +100M -mtime -7d
plakar at @mystore find -content-type 'image/*' -since 30d
plakar at @mystore find -meta owner=ann -meta storage-class=GLACIER latest:/photos"
)]
pub(crate) struct Args {
    /// Names that match the pattern: '*.pdf'
    #[arg(id = "file-name", long = "name", value_name = "GLOB")]
    names: Vec<String>,
    /// The same, upper and lower case being equal
    #[arg(long = "iname", value_name = "GLOB")]
    inames: Vec<String>,
    /// Paths that match the pattern: '/etc/**/*.conf'
    #[arg(long = "path", value_name = "GLOB")]
    paths: Vec<String>,
    /// Files larger (+10M) or smaller (-10M) than this, or of exactly this size
    #[arg(long = "size", value_name = "SIZE")]
    sizes: Vec<String>,
    /// Modified within (-7d) or longer ago than (+7d) this
    #[arg(long = "mtime", value_name = "AGE")]
    ages: Vec<String>,
    /// Modified after DATE
    #[arg(long, value_name = "DATE")]
    newer: Option<String>,
    /// Modified before DATE
    #[arg(long, value_name = "DATE")]
    older: Option<String>,
    /// Files of a content type: image/png, 'text/*'
    #[arg(long = "content-type", value_name = "GLOB", alias = "mime")]
    content_types: Vec<String>,
    /// Objects with this metadata: colour=blue, 'storage-class=GLACIER*', s3.tags
    #[arg(long = "meta", value_name = "KEY[=GLOB]")]
    metadata: Vec<String>,
    /// f for files, d for folders, l for links, s for special files; several: f,l
    #[arg(long = "type", value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Show modes, owners, sizes and times
    #[arg(short = 'l')]
    long: bool,
    #[command(flatten)]
    retrieval: RetrieveArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// Snapshots or parts of them; all when none is named
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshots: Vec<OsString>,
}

/// Finds.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let query = query(args, &context.now)?;
    let repository = args.retrieval.open_main(context)?.repository;
    args.retrieval.open(context, &repository)?.metadata()?;
    let chosen = snapshots::choose(context, &repository, &args.snapshots, &args.query).map_err(|error| {
        let pattern = args.snapshots.iter().any(|text| text.as_encoded_bytes().contains(&b'*'));
        if pattern { error.hint("a pattern goes after -name: plakar find -name '*.pdf'") } else { error }
    })?;
    print_found(context, &repository, &chosen, &query, args.long)
}

/// Prints what a query finds in some snapshots: `SNAPSHOT:PATH`, or lines as those of `ls` with that at the end.
pub(super) fn print_found(
    context: &Context,
    repository: &Repository,
    chosen: &[Chosen],
    query: &SearchQuery,
    long: bool,
) -> Result<Exit, CommandError> {
    let output = &context.output;
    // Problems only: the results are the progress.
    let progress = Progress::start(output, false);
    for one in chosen {
        let id = one.info.id;
        let part = Part { snapshot: &one.info, path: one.path.as_deref() };
        let mut lines = LongLines::new(output);
        let each = &mut |entry: Entry| print(context, &id, &entry, long.then_some(&mut lines));
        let searched = search(repository, part, query, &context.cancel, &progress, each);
        lines.flush()?;
        searched?;
    }
    Ok(if progress.get(Counter::Errors) > 0 { Exit::Damage } else { Exit::Ok })
}

fn print(
    context: &Context,
    id: &Id,
    entry: &Entry,
    lines: Option<&mut LongLines<'_>>,
) -> Result<(), CommandError> {
    let output = &context.output;
    if output.is_json() {
        return Ok(output.json(&EntryLine::new(&id.to_hex(), entry))?);
    }
    let name = format!("{}:{}", id.short(), shown(entry.path()));
    match lines {
        Some(lines) => Ok(lines.push(entry, &name)?),
        None => Ok(output.line(name)?),
    }
}

impl From<PatternError> for CommandError {
    fn from(error: PatternError) -> Self {
        Self::from_error(Exit::Usage, error)
    }
}

fn query(args: &Args, now: &Zoned) -> Result<SearchQuery, CommandError> {
    let usage = |flag: &str, why: String| CommandError::usage(format!("-{flag}: {why}"));
    let point = |flag: &str, text: &str| dates::point(text, now).map_err(|why| usage(flag, why));
    let mut names = Patterns::texts(&args.names, false)?;
    if !args.inames.is_empty() {
        let ignoring = Patterns::texts(&args.inames, true)?;
        names = names.or(ignoring);
    }
    let mut query = SearchQuery {
        names,
        paths: Patterns::paths(&args.paths, false)?,
        content_types: Patterns::texts(&args.content_types, true)?,
        newer: args.newer.as_deref().map(|text| point("newer", text)).transpose()?,
        older: args.older.as_deref().map(|text| point("older", text)).transpose()?,
        ..SearchQuery::default()
    };
    for text in &args.sizes {
        query.sizes.push(sizes(text).map_err(|why| usage("size", why))?);
    }
    for text in &args.ages {
        let within = text.starts_with('-');
        let age = text.strip_prefix(['-', '+']).ok_or_else(|| {
            usage(
                "mtime",
                format!("'{text}' needs a sign: -7d is within the last 7 days, +7d is before them"),
            )
        })?;
        // A bare number means days, as in find(1).
        let age = if age.bytes().all(|byte| byte.is_ascii_digit()) { format!("{age}d") } else { age.into() };
        let time = point("mtime", &age)?;
        let (newer, older): (Option<Timestamp>, _) =
            if within { (Some(time), None) } else { (None, Some(time)) };
        query.newer = query.newer.max(newer);
        query.older = match (query.older, older) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    for text in &args.metadata {
        let (key, value) =
            text.split_once('=').map_or((text.as_str(), None), |(key, value)| (key, Some(value)));
        if key.is_empty() {
            return Err(usage("meta", format!("'{text}' has no key: write KEY=VALUE")));
        }
        query.metadata.push(MetadataPattern { key: key.to_owned(), value: Patterns::texts(value, false)? });
    }
    for kind in &args.kinds {
        query.kinds.push(match kind.as_str() {
            "f" | "file" => EntryKind::File,
            "d" | "folder" | "directory" => EntryKind::Folder,
            "l" | "link" => EntryKind::Link,
            "s" | "p" | "c" | "b" | "special" => EntryKind::Special,
            other => return Err(usage("type", format!("'{other}' is none of f, d, l and s"))),
        });
    }
    Ok(query)
}

/// Reads `+10M`, `-10M` or `10M`.
fn sizes(text: &str) -> Result<RangeInclusive<u64>, String> {
    match text.as_bytes().first() {
        Some(b'+') => Ok(quantity::size(&text[1..])?.saturating_add(1)..=u64::MAX),
        Some(b'-') => match quantity::size(&text[1..])? {
            0 => Err("nothing is smaller than 0".into()),
            size => Ok(0..=size - 1),
        },
        _ => quantity::size(text).map(|size| size..=size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_signs() {
        assert_eq!(sizes("+1K"), Ok(1025..=u64::MAX));
        assert_eq!(sizes("-1K"), Ok(0..=1023));
        assert_eq!(sizes("1K"), Ok(1024..=1024));
        assert!(sizes("-0").is_err() && sizes("+").is_err() && sizes("").is_err());
    }
}
