//! `cat`.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Write as _};

use base64::Engine as _;
use serde::Serialize;

use super::super::context::Context;
use super::super::entries::shown;
use super::super::error::{CommandError, Exit};
use super::super::retrieval::{self, Access, RetrieveArgs};
use super::super::snapshots;
use crate::base::{Cancel, Printable};
use crate::snapshot::Versions;
use crate::snapshot::vfs::read::Vfs;
use crate::store::{Error, Repository};
use crate::ui::OutputError;

/// Prints the content of files.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at @mystore cat abc123:/etc/passwd
plakar at @mystore cat latest:log.gz -decompress")]
pub(crate) struct Args {
    /// Decompress gzip and zstd files
    #[arg(long)]
    decompress: bool,
    /// Accepted as upstream does; the content is printed as it is
    #[arg(long)]
    highlight: bool,
    #[command(flatten)]
    retrieval: RetrieveArgs,
    /// Files of snapshots
    #[arg(value_name = "SNAPSHOT:PATH", required = true)]
    files: Vec<OsString>,
}

/// Prints them, one after the other.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let repository = args.retrieval.open_main(context)?.repository;
    let cold = args.retrieval.open(context, &repository)?;
    cold.metadata()?;
    // Why nothing is coloured: what is printed comes from outside, and the highlighters there are either run unbounded
    // patterns over it or cannot promise to survive it. Who pipes into one loses nothing.
    if args.highlight && io::stdout().is_terminal() {
        context.output.notice("-highlight colours nothing here; pipe into a highlighter: plakar cat … | bat");
    }
    for file in &args.files {
        print(file, args.decompress, &repository, &cold, context)
            .map_err(|error| error.within(format!("cannot print {}", Printable::os(file))))?;
    }
    Ok(Exit::Ok)
}

fn print(
    file: &OsString,
    decompress: bool,
    repository: &Repository,
    cold: &Access<'_>,
    context: &Context,
) -> Result<(), CommandError> {
    let chosen = snapshots::find(repository, file)?;
    let Some(path) = chosen.path else {
        return Err(CommandError::usage("no path was given").hint("plakar cat SNAPSHOT:PATH"));
    };
    cold.contents(&retrieval::targets([(&chosen.info, Some(path.as_slice()))], Versions::Latest))?;
    let source =
        chosen.info.header.source().ok_or_else(|| CommandError::failed("the snapshot has no source"))?;
    let vfs = Vfs::open(repository, source)?;
    let entry = vfs.entry(&path)?.ok_or(Error::NoPath { path })?;
    if entry.info.mode.is_symlink() {
        let target = Printable::new(&entry.symlink_target).to_string();
        return Err(CommandError::failed(format!("it is a link to {target}")));
    }
    if !entry.info.mode.is_regular() {
        return Err(
            CommandError::failed("it is not a regular file").hint("plakar ls SNAPSHOT:PATH lists a folder")
        );
    }
    if entry.object.is_zero() {
        return Ok(());
    }
    let content = BufReader::with_capacity(1 << 16, vfs.open_object(&entry.object)?);
    let content: Box<dyn Read> = if decompress { expanded(content)? } else { Box::new(content) };
    if context.output.is_json() {
        return pieces(content, &chosen.info.id.to_hex(), &shown(entry.path()), context);
    }
    copy(content, context)
}

/// Prints a content as objects: bytes are no text, and large ones are no line.
fn pieces(mut content: impl Read, snapshot: &str, path: &str, context: &Context) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Piece<'a> {
        r#type: &'static str,
        snapshot: &'a str,
        path: &'a str,
        offset: u64,
        base64: String,
    }
    let mut offset = 0;
    loop {
        if context.cancel.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        // Whole groups of three bytes, so that pieces can be joined before they are decoded.
        let mut bytes = Vec::with_capacity(PIECE);
        content.by_ref().take(PIECE as u64).read_to_end(&mut bytes).map_err(failure)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let base64 = base64::engine::general_purpose::STANDARD.encode(&bytes);
        context.output.json(&Piece { r#type: "content", snapshot, path, offset, base64 })?;
        offset += bytes.len() as u64;
    }
}

/// Bytes of content in one object.
const PIECE: usize = 48 << 10;

/// Recognises a compressed content by its first bytes and decompresses it; other content passes as it is.
fn expanded<'a>(mut content: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>, CommandError> {
    let head = content.fill_buf().map_err(failure)?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(content)));
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::Decoder::with_buffer(content)
            .map_err(|error| CommandError::failed("cannot decompress").because(error))?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(content))
}

fn copy(mut content: impl Read, context: &Context) -> Result<(), CommandError> {
    let mut out = context.output.stdout();
    let mut buffer = vec![0; 1 << 16];
    let cancel: &Cancel = &context.cancel;
    loop {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        let length = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failure(error)),
        };
        out.write_all(&buffer[..length]).map_err(OutputError::from)?;
    }
    Ok(out.flush().map_err(OutputError::from)?)
}

/// Takes the store's error out of a reader's.
fn failure(error: io::Error) -> CommandError {
    match error.downcast::<Error>() {
        Ok(error) => error.into(),
        Err(error) => CommandError::failed("cannot read the content").because(error),
    }
}
