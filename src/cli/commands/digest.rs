//! `digest`.

use std::ffi::OsString;
use std::time::Instant;

use serde::Serialize;

use super::super::algorithms::HashingChoice;
use super::super::context::Context;
use super::super::entries::shown;
use super::super::error::{CommandError, Exit};
use super::super::retrieval::{self, RetrieveArgs};
use super::super::{report, snapshots};
use crate::crypto::HashAlgorithm;
use crate::snapshot::{Counter, Part, Versions, digests};
use crate::ui::{Progress, units};

/// Prints a digest of each file, as other programs compute it over the same bytes (b3sum, sha256sum). The
/// content is read and verified.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups digest latest:/etc/passwd
plakar at /var/backups digest -hashing SHA256 abc123")]
pub(crate) struct Args {
    /// Use BLAKE3 or SHA256
    #[arg(long, value_name = "HASHING", default_value = "BLAKE3")]
    hashing: HashingChoice,
    #[command(flatten)]
    retrieval: RetrieveArgs,
    /// Snapshots, folders or files
    #[arg(value_name = "SNAPSHOT[:PATH]", required = true)]
    parts: Vec<OsString>,
}

#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    snapshot: &'a str,
    path: String,
    algorithm: &'static str,
    digest: String,
    size: i64,
}

#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    command: &'static str,
    files: u64,
    bytes: u64,
    errors: u64,
    duration: f64,
}

/// Prints them.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let repository = args.retrieval.open_main(context)?.repository;
    let cold = args.retrieval.open(context, &repository)?;
    cold.metadata()?;
    let algorithm: HashAlgorithm = args.hashing.into();
    let output = &context.output;
    let begun = Instant::now();
    let (mut errors, mut files, mut bytes) = (0, 0, 0);
    for text in &args.parts {
        let chosen = snapshots::find(&repository, text)?;
        let part = Part { snapshot: &chosen.info, path: chosen.path.as_deref() };
        cold.contents(&retrieval::targets([(&chosen.info, chosen.path.as_deref())], Versions::All))?;
        let snapshot = chosen.info.id.to_hex();
        let progress = Progress::start(output, context.globals.progress() && !output.is_json());
        digests(&repository, part, algorithm, &context.cancel, &progress, &mut |file, digest| {
            let (path, digest, algorithm) = (shown(file.path()), digest.to_hex(), algorithm.name());
            if output.is_json() {
                let size = file.info.size;
                return Ok(output.json(&Line {
                    r#type: "digest",
                    snapshot: &snapshot,
                    path,
                    algorithm,
                    digest,
                    size,
                })?);
            }
            Ok::<(), CommandError>(output.line(format_args!("{algorithm} ({path}) = {digest}"))?)
        })?;
        errors += progress.get(Counter::Errors);
        files += progress.get(Counter::Files);
        bytes += progress.get(Counter::Bytes);
    }
    let (kind, command, duration) = ("summary", "digest", begun.elapsed());
    if output.is_json() {
        let duration = report::seconds(duration);
        output.json(&Summary { r#type: kind, command, files, bytes, errors, duration })?;
    } else {
        // On standard error: what is printed may be fed to a program that verifies it.
        let what = format!("{}, {}", units::counted(files, "file"), units::bytes(bytes));
        output.notice(format!("digested {what} in {}", units::duration(duration)));
    }
    Ok(if errors > 0 { Exit::Damage } else { Exit::Ok })
}
