//! `ptar`.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::super::algorithms::{HashingChoice, ProfileChoice};
use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::labels::LabelArgs;
use super::super::passphrase::{self, Origin, Tty};
use super::super::places::Place;
use super::super::retrieval::{self, RetrieveArgs};
use super::super::stores::Opened;
use super::super::{report, snapshots, stores};
use super::backup::{self, Source};
use crate::codec::Compression;
use crate::connector::{self, ArchiveSink, WriteFault};
use crate::connectors::{ImportSettings, Location, Role, open_importer, open_sink};
use crate::crypto::{HashAlgorithm, Secret};
use crate::snapshot::{
    self, ArchiveExport, BackupOptions, BackupReport, SyncOptions, SyncReport, Versions, commit_archive,
};
use crate::store::{ArchiveKind, ArchiveWriter, CreateOptions, Profile};
use crate::ui::{Output, Progress};

/// Packs stores, folders and sources into one archive file. Without any of them: the current folder.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar ptar -o backup.ptar /etc /home
plakar ptar -o ./export.ptar -k @scw_store
plakar ptar -o both.ptar -k /var/backups -k @mystore
plakar ptar -plaintext -o - . | ssh host 'cat > x.ptar'")]
pub(crate) struct Args {
    /// Write the archive to a file, to - (standard output), to s3://… or to @name:path
    #[arg(short = 'o', value_name = "FILE", required = true)]
    output: Vec<OsString>,
    /// Take all snapshots of a store; may be repeated
    #[arg(short = 'k', value_name = "STORE")]
    stores: Vec<OsString>,
    /// Do not encrypt the archive
    #[arg(long, alias = "no-encryption", conflicts_with = "same_key")]
    plaintext: bool,
    /// Do not compress
    #[arg(long)]
    no_compression: bool,
    /// Replace an existing file
    #[arg(long)]
    overwrite: bool,
    /// Hash with BLAKE3 or SHA256
    #[arg(long, value_name = "ALGORITHM")]
    hashing: Option<HashingChoice>,
    /// native, or plakar: what upstream can open (default: as the first store)
    #[arg(long, value_name = "PROFILE")]
    profile: Option<ProfileChoice>,
    /// Keep the store's key: whoever opens the archive can open the store
    #[arg(long)]
    same_key: bool,
    /// The size to expect, where the archive goes to a bucket
    #[arg(long, value_name = "SIZE", value_parser = super::super::quantity::size)]
    size_hint: Option<u64>,
    /// Read the passphrase of the stores from the file PATH
    #[arg(long, value_name = "PATH")]
    peer_keyfile: Option<PathBuf>,
    #[command(flatten)]
    retrieval: RetrieveArgs,
    /// Folders, URLs or @names to pack
    #[arg(value_name = "PLACE")]
    places: Vec<OsString>,
}

/// Packs.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let left = Arc::new(AtomicBool::new(false));
    let packed = pack(args, context, &left);
    // Nobody reads any more: there is nobody to tell, either.
    if left.load(Ordering::Relaxed) { Err(CommandError::reader_left()) } else { packed }
}

fn pack(args: &Args, context: &Context, left: &Arc<AtomicBool>) -> Result<Exit, CommandError> {
    let begun = Instant::now();
    if context.store.is_some() {
        context.output.warn("'at STORE' says nothing to ptar; -k STORE packs a store");
    }
    if args.same_key && args.stores.len() != 1 {
        return Err(CommandError::usage("-same-key keeps the key of one store")
            .hint("plakar ptar -same-key -k STORE -o FILE"));
    }
    let target = target(args, context)?;
    let sources = match (args.places.is_empty(), args.stores.is_empty()) {
        (true, false) => Vec::new(),
        _ => backup::sources(&args.places, context)?,
    };
    let mut stores = Vec::new();
    for store in &args.stores {
        let place = context.place(store, Role::Store)?;
        let chain = context.peer_passphrases(&place, args.peer_keyfile.as_deref());
        let opened = args.retrieval.open_store(context, &place, &chain)?;
        stores::tell_warnings(context, &opened.repository);
        stores.push((place, opened));
    }
    for (_, store) in &stores {
        thaw(args, context, store)?;
    }
    let options = CreateOptions {
        profile: profile(args, &stores),
        passphrase: passphrase(args, context, &target, &stores)?,
        compression: args.no_compression.then_some(Compression::None),
        hashing: args.hashing.map_or(HashAlgorithm::Blake3, Into::into),
        ..CreateOptions::default()
    };
    let kind = match stores.first() {
        Some((_, store)) if args.same_key => {
            context.output.warn(
                "the archive keeps the store's key: whoever opens it can open the store, past and future",
            );
            ArchiveKind::SameKey(&store.repository)
        }
        _ => ArchiveKind::New(&options),
    };
    let archive = ArchiveWriter::create(kind, sink(args, &target, left, context)?, &std::env::temp_dir())?;
    let told = !matches!(target, Target::Stdout);
    let filled = fill(&archive, &stores, &sources, context)?;
    let stats = {
        let progress = Progress::start(&context.output, context.globals.progress());
        commit_archive(archive, &progress)?
    };
    let encrypted = match stores.first() {
        Some((_, store)) if args.same_key => store.repository.is_encrypted(),
        _ => options.passphrase.is_some(),
    };
    let what = name(&target);
    // Standard output may be the archive itself.
    if told {
        filled.tell(context)?;
        report::archive(&stats, &what, encrypted, begun.elapsed(), &context.output)?;
    } else {
        context.output.notice(report::archive_line(&stats, &what, encrypted, begun.elapsed()));
    }
    Ok(if filled.is_partial() { Exit::Failed } else { Exit::Ok })
}

/// Makes everything in a store readable that goes into the archive.
fn thaw(args: &Args, context: &Context, store: &Opened) -> Result<(), CommandError> {
    let cold = args.retrieval.open(context, &store.repository)?;
    if cold.is_cold() {
        cold.metadata()?;
        let (found, _) = snapshots::list(context, &store.repository);
        cold.contents(&retrieval::targets(found.iter().map(|info| (info, None)), Versions::All))?;
    }
    Ok(())
}

/// Where the archive goes.
enum Target {
    Stdout,
    Place(Place),
}

fn name(target: &Target) -> String {
    match target {
        Target::Stdout => "on standard output".into(),
        Target::Place(place) => place.to_string(),
    }
}

/// Returns the one name given for the archive. Of several the last would win, and who takes `-o` for what sets an option,
/// as it does elsewhere, would find his archive under another name.
fn output(args: &Args) -> Result<&OsStr, CommandError> {
    match args.output.as_slice() {
        [one] => Ok(one),
        // The values stay untold: one may be a secret.
        several => {
            let message = format!("-o names the archive, and was given {} times", several.len());
            Err(CommandError::usage(message).hint(
                "give it once; options of a bucket are set by 'plakar destination add NAME LOCATION KEY=VALUE', and \
                 then: plakar ptar -o @NAME:x.ptar",
            ))
        }
    }
}

fn target(args: &Args, context: &Context) -> Result<Target, CommandError> {
    let output = output(args)?;
    if output == "-" {
        if context.output.is_json() {
            return Err(CommandError::usage("-json and an archive cannot share standard output"));
        }
        if io::stdout().is_terminal() {
            return Err(CommandError::usage(
                "an archive is nothing to look at, and standard output is a terminal",
            )
            .hint("plakar ptar -o - … > x.ptar"));
        }
        return Ok(Target::Stdout);
    }
    let mut place = match context.place(output, Role::Destination) {
        // A name may be that of a store as well: @backups:2025.ptar.
        Err(error) => context.place(output, Role::Store).map_err(|_| error)?,
        Ok(place) => place,
    };
    place.location = place.location.as_archive();
    Ok(Target::Place(place))
}

fn sink(
    args: &Args,
    target: &Target,
    left: &Arc<AtomicBool>,
    context: &Context,
) -> Result<Box<dyn ArchiveSink>, CommandError> {
    match target {
        Target::Stdout => Ok(Box::new(StdoutSink {
            output: context.output.clone(),
            left: Arc::clone(left),
            fault: WriteFault::default(),
        })),
        Target::Place(place) => {
            let location: &Location = &place.location;
            Ok(open_sink(location, &place.options, &context.limits(), args.overwrite, args.size_hint)?)
        }
    }
}

/// Standard output as the destination of an archive.
#[derive(Debug)]
struct StdoutSink {
    output: Output,
    /// Set when the reader went away.
    left: Arc<AtomicBool>,
    fault: WriteFault,
}

impl StdoutSink {
    fn check(&self) -> connector::Result<()> {
        self.fault.check("standard output")
    }

    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        let broken = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        self.left.fetch_or(broken, Ordering::Relaxed);
        self.fault.note(result)
    }
}

impl Write for StdoutSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check().map_err(io::Error::other)?;
        let written = self.output.stdout().write(bytes);
        self.noted(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.output.stdout().flush();
        self.noted(flushed)
    }
}

impl ArchiveSink for StdoutSink {
    fn commit(mut self: Box<Self>) -> connector::Result<()> {
        self.check()?;
        self.flush().map_err(|error| connector::Error::io("write", "standard output", error))
    }
}

/// An archive of stores takes the profile of the first, so that what upstream could open stays openable.
fn profile(args: &Args, stores: &[(Place, Opened)]) -> Profile {
    match (args.profile, stores.first()) {
        (Some(choice), _) => choice.into(),
        (None, Some((_, store))) => store.repository.profile(),
        (None, None) => Profile::Native,
    }
}

fn passphrase(
    args: &Args,
    context: &Context,
    target: &Target,
    stores: &[(Place, Opened)],
) -> Result<Option<Secret>, CommandError> {
    if args.same_key {
        return Ok(None);
    }
    if args.plaintext {
        if stores.iter().any(|(_, store)| store.repository.is_encrypted()) {
            context.output.warn("the archive will not be encrypted, although a store that goes into it is");
        }
        return Ok(None);
    }
    let (chosen, origin) =
        passphrase::choose(&context.archive_passphrases(), name(target), &mut Tty::new(&context.cancel))?;
    let shared = |opened: &Opened| origin != Origin::Prompt && opened.origin.as_ref() == Some(&origin);
    if stores.iter().any(|(_, opened)| shared(opened)) {
        context.output.notice(format!("{origin} opens the store, and will open the archive, too"));
    }
    Ok(Some(chosen))
}

/// What to do where a snapshot that should be packed is damaged: an archive is whole or not made.
const SALVAGE: &str = "check names what is damaged; 'plakar at NEW sync from STORE' copies the snapshots that are whole \
    into a new store, and 'ptar -k NEW' packs that";

/// What went into an archive, to be told once it is committed: nothing of it exists before.
#[derive(Default)]
struct Filled {
    stores: Option<SyncReport>,
    sources: Vec<Packed>,
}

/// What became of one source.
struct Packed {
    done: BackupReport,
    source: String,
    error_kinds: Vec<(String, u64)>,
}

impl Filled {
    /// Returns whether something of a source is missing.
    fn is_partial(&self) -> bool {
        self.sources.iter().any(|packed| packed.done.error_count > 0)
    }

    fn tell(&self, context: &Context) -> Result<(), CommandError> {
        if let Some(done) = &self.stores {
            report::sync(done, "packed", true, &context.output)?;
        }
        for Packed { done, source, error_kinds } in &self.sources {
            report::backup(done, source, error_kinds, true, &context.output)?;
        }
        Ok(())
    }
}

/// Puts stores and sources into the archive.
fn fill(
    archive: &ArchiveWriter,
    stores: &[(Place, Opened)],
    sources: &[Source],
    context: &Context,
) -> Result<Filled, CommandError> {
    let mut filled = Filled::default();
    if !stores.is_empty() {
        filled.stores = Some(pack_stores(archive, stores, context)?);
    }
    for source in sources {
        let settings = ImportSettings::default();
        let importer =
            open_importer(&source.locations(), &source.place.options, &context.limits(), &settings)?;
        let options = BackupOptions {
            header: backup::header(source, &LabelArgs::default(), None, context)?,
            memory: context.globals.memory,
            cancel: context.cancel.clone(),
            ..BackupOptions::default()
        };
        let progress = Progress::start(&context.output, context.globals.progress());
        let done = snapshot::backup_into(archive, importer.as_ref(), &options, &progress)?;
        let (source, error_kinds) = (source.place.to_string(), progress.error_kinds());
        filled.sources.push(Packed { done, source, error_kinds });
    }
    Ok(filled)
}

/// Puts every snapshot of the stores into the archive.
fn pack_stores(
    archive: &ArchiveWriter,
    stores: &[(Place, Opened)],
    context: &Context,
) -> Result<SyncReport, CommandError> {
    let options = SyncOptions {
        memory: context.globals.memory,
        cancel: context.cancel.clone(),
        ..SyncOptions::default()
    };
    let begun = Instant::now();
    let progress = Progress::start(&context.output, context.globals.progress());
    let mut export = ArchiveExport::new(archive, &options, &progress);
    for (place, store) in stores {
        let (found, unreadable) = snapshots::list(context, &store.repository);
        if !unreadable.is_empty() {
            return Err(CommandError::new(Exit::Damage, format!("not all snapshots of {place} can be read"))
                .hint(SALVAGE));
        }
        export.add(&store.repository, &found).map_err(|error| {
            let damaged = error.is_damage();
            let error = CommandError::from(error);
            if damaged { error.hint(SALVAGE) } else { error }
        })?;
    }
    Ok(SyncReport { duration: begun.elapsed(), ..export.finish() })
}
