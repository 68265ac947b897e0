//! `diff`.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use super::super::context::Context;
use super::super::entries::{kind, shown};
use super::super::error::{CommandError, Exit};
use super::super::retrieval::RetrieveArgs;
use super::super::snapshots::{self, Chosen};
use crate::base::Printable;
use crate::format::entry::{Entry, Mode};
use crate::snapshot::retrieval::Target;
use crate::snapshot::{Aspect, Counter, Difference, Part, Tally, TextDiff, diff, text_diff};
use crate::store::Repository;
use crate::ui::{Colour, OutputError, Progress};

/// Larger files are only said to differ.
const TEXT_LIMIT: u64 = 16 << 20;

/// Shows what differs between two snapshots, folders or files. Of snapshots and folders it lists the paths: A for
/// added, D for removed, M for changed, and in what. Of files it shows the lines. Exits 0 whether something differs or
/// not.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups diff abc123 latest
plakar at /var/backups diff -recursive abc123:/etc latest:/etc
plakar at /var/backups diff abc123:/etc/passwd latest:/etc/passwd")]
pub(crate) struct Args {
    /// Show the changed lines of the text files below, too
    #[arg(long)]
    recursive: bool,
    /// List also what has nothing but another time
    #[arg(short = 'l')]
    long: bool,
    #[command(flatten)]
    retrieval: RetrieveArgs,
    /// A snapshot, or SNAPSHOT:PATH
    #[arg(value_name = "OLD", required = true)]
    old: OsString,
    /// What it is compared with
    #[arg(value_name = "NEW", required = true)]
    new: OsString,
}

/// Compares.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let repository = args.retrieval.open_main(context)?.repository;
    let cold = args.retrieval.open(context, &repository)?;
    cold.metadata()?;
    let old = snapshots::find(&repository, &args.old)?;
    let new = snapshots::find(&repository, &args.new)?;
    let view = View {
        context,
        repository: &repository,
        args,
        old: &old,
        new: &new,
        escape: std::io::stdout().is_terminal(),
    };
    if cold.is_cold() {
        cold.contents(&view.targets()?)?;
    }
    // Problems only: the results are the progress.
    let progress = Progress::start(&context.output, false);
    diff(&repository, part(&old), part(&new), &context.cancel, &progress, &mut |found| view.show(&found))?;
    Ok(if progress.get(Counter::Errors) > 0 { Exit::Damage } else { Exit::Ok })
}

fn part(chosen: &Chosen) -> Part<'_> {
    Part { snapshot: &chosen.info, path: chosen.path.as_deref() }
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the JSON")]
struct Change {
    r#type: &'static str,
    change: &'static str,
    path: String,
    kind: &'static str,
    aspects: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_size: Option<i64>,
}

#[derive(Serialize)]
struct Lines {
    r#type: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

struct View<'a> {
    context: &'a Context,
    repository: &'a Repository,
    args: &'a Args,
    old: &'a Chosen,
    new: &'a Chosen,
    /// Whether somebody looks at standard output: then no control character of a file goes there.
    escape: bool,
}

impl View<'_> {
    /// Finds the files whose lines will be shown: only of these contents are read.
    fn targets(&self) -> Result<Vec<Target>, CommandError> {
        let mut targets = Vec::new();
        let target = |chosen: &Chosen, entry: &Entry| Target {
            info: chosen.info.clone(),
            path: Some(entry.path().as_bytes().to_vec()),
            old_versions: false,
        };
        let (old, new) = (part(self.old), part(self.new));
        // What is wrong is told when it is read to be shown.
        let silent = Tally::default();
        diff(self.repository, old, new, &self.context.cancel, &silent, &mut |found: Difference| {
            let changed = found.aspects.is_empty() || found.aspects.contains(&Aspect::Content);
            if changed && self.are_files(&found) && (self.args.recursive || self.is_named(&found)) {
                targets.extend(found.old.as_ref().map(|entry| target(self.old, entry)));
                targets.extend(found.new.as_ref().map(|entry| target(self.new, entry)));
            }
            Ok::<(), CommandError>(())
        })?;
        Ok(targets)
    }

    fn are_files(&self, found: &Difference) -> bool {
        let regular = |entry: &Option<Entry>| entry.as_ref().is_none_or(|entry| entry.info.mode.is_regular());
        regular(&found.old) && regular(&found.new)
    }

    /// Returns whether two files were named: their lines are what was asked for.
    fn is_named(&self, found: &Difference) -> bool {
        let whole = |chosen: &Chosen, entry: &Option<Entry>| {
            entry.as_ref().is_some_and(|entry| chosen.path.as_deref() == Some(entry.path().as_bytes()))
        };
        self.are_files(found) && whole(self.old, &found.old) && whole(self.new, &found.new)
    }

    fn show(&self, found: &Difference) -> Result<(), CommandError> {
        let (files, named) = (self.are_files(found), self.is_named(found));
        if named && found.aspects.contains(&Aspect::Content) {
            return self.lines(found);
        }
        if !self.args.long && found.aspects == [Aspect::Time] {
            return Ok(());
        }
        self.change(found)?;
        let changed = found.aspects.is_empty() || found.aspects.contains(&Aspect::Content);
        if self.args.recursive && files && changed { self.lines(found) } else { Ok(()) }
    }

    fn change(&self, found: &Difference) -> Result<(), CommandError> {
        let (letter, change, colour) = match (&found.old, &found.new) {
            (None, _) => ('A', "added", Colour::Green),
            (_, None) => ('D', "removed", Colour::Red),
            _ => ('M', "modified", Colour::Yellow),
        };
        let path = shown(found.path());
        let mode = |entry: &Option<Entry>| entry.as_ref().map(|entry| entry.info.mode);
        let mode = mode(&found.new).or(mode(&found.old)).unwrap_or(Mode(0));
        let aspects: Vec<&str> = found.aspects.iter().map(|aspect| aspect.name()).collect();
        let output = &self.context.output;
        if output.is_json() {
            let size = |entry: &Option<Entry>| entry.as_ref().map(|entry| entry.info.size);
            let (old_size, new_size) = (size(&found.old), size(&found.new));
            let kind = kind(mode);
            return Ok(output.json(&Change {
                r#type: "change",
                change,
                path,
                kind,
                aspects,
                old_size,
                new_size,
            })?);
        }
        let slash = if mode.is_dir() && path != "/" { "/" } else { "" };
        let told: Vec<&str> =
            aspects.into_iter().filter(|aspect| self.args.long || *aspect != "time").collect();
        let what = if told.is_empty() { String::new() } else { format!("  ({})", told.join(", ")) };
        let letter = output.style().paint(colour, letter);
        Ok(output.line(format_args!("{letter}  {path}{slash}{what}"))?)
    }

    fn lines(&self, found: &Difference) -> Result<(), CommandError> {
        let (old, new) = (found.old.as_ref(), found.new.as_ref());
        let text = text_diff(self.repository, old, new, TEXT_LIMIT)?;
        let name = |chosen: &Chosen, entry: Option<&Entry>| match entry {
            Some(entry) => format!("{}:{}", chosen.info.id.short(), shown(entry.path())),
            None => "/dev/null".to_owned(),
        };
        let (before, after) = (name(self.old, old), name(self.new, new));
        let reason = match &text {
            TextDiff::Text(_) => None,
            TextDiff::Equal => return Ok(()),
            TextDiff::Binary => Some(format!("binary files {before} and {after} differ")),
            TextDiff::TooLarge(_) => Some(format!("large files {before} and {after} differ")),
        };
        let output = &self.context.output;
        if output.is_json() {
            let text = match &text {
                TextDiff::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
                _ => None,
            };
            let path = shown(found.path());
            return Ok(output.json(&Lines { r#type: "diff", path, text, reason })?);
        }
        match (text, reason) {
            (TextDiff::Text(text), _) => self.hunks(&before, &after, &text),
            (_, Some(reason)) => Ok(output.line(reason)?),
            _ => Ok(()),
        }
    }

    fn hunks(&self, before: &str, after: &str, text: &[u8]) -> Result<(), CommandError> {
        let output = &self.context.output;
        output.line(output.style().paint(Colour::Bold, format_args!("--- {before}\n+++ {after}")))?;
        if !self.escape {
            return Ok(output.stdout().write_all(text).map_err(OutputError::from)?);
        }
        for line in text.strip_suffix(b"\n").unwrap_or(text).split(|&byte| byte == b'\n') {
            // Tabs do no harm.
            let cells: Vec<String> =
                line.split(|&byte| byte == b'\t').map(|cell| Printable::message(cell).to_string()).collect();
            let line = cells.join("\t");
            let colour = match line.as_bytes().first() {
                Some(b'-') => Some(Colour::Red),
                Some(b'+') => Some(Colour::Green),
                Some(b'@') => Some(Colour::Dim),
                _ => None,
            };
            match colour {
                Some(colour) => output.line(output.style().paint(colour, line))?,
                None => output.line(line)?,
            }
        }
        Ok(())
    }
}
