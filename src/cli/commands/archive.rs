//! `archive`.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::retrieval::{self, RetrieveArgs};
use super::super::{report, snapshots};
use crate::connectors::{Role, open_sink};
use crate::snapshot::{
    Counter, ExportError, ExportFormat, ExportOptions, ExportReport, Part, Versions, export,
};
use crate::store::Repository;
use crate::ui::{Progress, units};

/// Writes a snapshot, or a part of one, as a tar or zip file that other programs read. Modes, owners, times, links
/// and extended attributes go into a tar; a zip has no hard links and no attributes.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups archive -output etc.tar.gz latest:/etc
plakar at /var/backups archive -format zip -rebase -output home.zip abc123:/home/me
plakar at /var/backups archive -format tar -output - latest | tar -tv")]
pub(crate) struct Args {
    /// tar, tarball (tar.gz) or zip; else what the name of FILE says, else tarball
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatChoice>,
    /// Write to FILE, a place such as @name:path, or - for standard output
    #[arg(long, value_name = "FILE", alias = "o")]
    output: Option<OsString>,
    /// Let names begin below the snapshot's root or PATH
    #[arg(long)]
    rebase: bool,
    /// Replace a file that is there
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    retrieval: RetrieveArgs,
    /// The snapshot, or SNAPSHOT:PATH
    #[arg(value_name = "SNAPSHOT[:PATH]", required = true)]
    snapshot: OsString,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum FormatChoice {
    Tar,
    #[value(alias = "tgz", alias = "tar.gz")]
    Tarball,
    Zip,
}

impl From<FormatChoice> for ExportFormat {
    fn from(choice: FormatChoice) -> Self {
        match choice {
            FormatChoice::Tar => Self::Tar,
            FormatChoice::Tarball => Self::Tarball,
            FormatChoice::Zip => Self::Zip,
        }
    }
}

/// Archives.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let (format, file) = target(args, context);
    let to_stdout = file == "-";
    if to_stdout && context.output.is_json() {
        return Err(CommandError::usage("-json and an archive cannot share standard output"));
    }
    if to_stdout && io::stdout().is_terminal() {
        return Err(CommandError::usage("an archive is nothing to look at")
            .hint("send standard output to a file or a program, or name a file: -output FILE"));
    }
    let repository = args.retrieval.open_main(context)?.repository;
    let cold = args.retrieval.open(context, &repository)?;
    cold.metadata()?;
    let chosen = snapshots::find(&repository, &args.snapshot)?;
    cold.contents(&retrieval::targets([(&chosen.info, chosen.path.as_deref())], Versions::All))?;
    let part = Part { snapshot: &chosen.info, path: chosen.path.as_deref() };
    let options = ExportOptions {
        format,
        rebase: args.rebase,
        memory: context.globals.memory,
        cancel: context.cancel.clone(),
    };
    if to_stdout {
        let (done, errors) = write(context, &repository, part, &mut context.output.stdout(), &options)?;
        context.output.notice(line(&done, errors, "standard output"));
        return Ok(exit(errors));
    }
    let mut place = context.place(&file, Role::Destination)?;
    place.location = place.location.as_archive();
    let mut sink = open_sink(&place.location, &place.options, &context.limits(), args.overwrite, None)?;
    let (done, errors) = write(context, &repository, part, &mut sink, &options)?;
    sink.commit()?;
    tell(&done, errors, &chosen.info.id.to_hex(), &place.to_string(), context)?;
    Ok(exit(errors))
}

fn exit(errors: u64) -> Exit {
    if errors > 0 { Exit::Failed } else { Exit::Ok }
}

/// Returns the format and the name of the file.
fn target(args: &Args, context: &Context) -> (ExportFormat, OsString) {
    let named = args.output.as_deref().and_then(format_of);
    let format = args.format.map(ExportFormat::from).or(named).unwrap_or(ExportFormat::Tarball);
    let file = args.output.clone().unwrap_or_else(|| {
        let end = match format {
            ExportFormat::Tar => "tar",
            ExportFormat::Tarball => "tar.gz",
            ExportFormat::Zip => "zip",
        };
        format!("{}.{end}", context.now.strftime("plakar-%Y-%m-%dT%H%M%S")).into()
    });
    (format, file)
}

fn format_of(file: &OsStr) -> Option<ExportFormat> {
    let name = file.to_string_lossy().to_ascii_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    match () {
        () if ends(&[".tar"]) => Some(ExportFormat::Tar),
        () if ends(&[".tar.gz", ".tgz"]) => Some(ExportFormat::Tarball),
        () if ends(&[".zip"]) => Some(ExportFormat::Zip),
        () => None,
    }
}

fn write(
    context: &Context,
    repository: &Repository,
    part: Part<'_>,
    out: &mut dyn Write,
    options: &ExportOptions,
) -> Result<(ExportReport, u64), CommandError> {
    let progress = Progress::start(&context.output, context.globals.progress());
    match export(repository, part, out, options, &progress) {
        Ok(done) => Ok((done, progress.get(Counter::Errors))),
        Err(ExportError::Store(error)) => Err(error.into()),
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(CommandError::reader_left())
        }
        Err(error) => Err(CommandError::from_error(Exit::Failed, error)),
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    command: &'static str,
    snapshot: &'a str,
    location: &'a str,
    files: u64,
    folders: u64,
    others: u64,
    unsupported: u64,
    errors: u64,
    content_bytes: u64,
    written_bytes: u64,
    duration: f64,
}

fn tell(
    done: &ExportReport,
    errors: u64,
    snapshot: &str,
    location: &str,
    context: &Context,
) -> Result<(), CommandError> {
    if !context.output.is_json() {
        return Ok(context.output.summary(line(done, errors, location))?);
    }
    Ok(context.output.json(&Summary {
        r#type: "summary",
        command: "archive",
        snapshot,
        location,
        files: done.file_count,
        folders: done.folder_count,
        others: done.other_count,
        unsupported: done.unsupported_count,
        errors,
        content_bytes: done.content_bytes,
        written_bytes: done.written_bytes,
        duration: report::seconds(done.duration),
    })?)
}

fn line(done: &ExportReport, errors: u64, location: &str) -> String {
    let failed = if errors > 0 { format!(", {}", units::counted(errors, "error")) } else { String::new() };
    format!(
        "wrote {}, {} to {location} ({}) in {}{failed}",
        units::counted(done.file_count, "file"),
        units::counted(done.folder_count, "folder"),
        units::bytes(done.written_bytes),
        units::duration(done.duration),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        for (name, format) in [
            ("x.tar", Some(ExportFormat::Tar)),
            ("x.TGZ", Some(ExportFormat::Tarball)),
            ("dir.zip/x.tar.gz", Some(ExportFormat::Tarball)),
            ("x.zip", Some(ExportFormat::Zip)),
            ("-", None),
            ("x.gz", None),
        ] {
            assert_eq!(format_of(name.as_ref()), format, "{name}");
        }
    }
}
