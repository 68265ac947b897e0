//! `create`.

use serde::Serialize;

use super::super::algorithms::{CompressionChoice, HashingChoice, ProfileChoice};
use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::passphrase::{self, Chain, LEAST_STRENGTH, Origin, Tty, strength};
use super::super::places::Place;
use crate::codec::Compression;
use crate::connectors::{Kind, open_storage};
use crate::crypto::{HashAlgorithm, Secret};
use crate::store::{CreateOptions, Profile, Repository};

/// Makes a new, empty store at the place named by `at`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups create
plakar at @scw_store create
plakar at ./open create -plaintext")]
pub(crate) struct Args {
    /// Do not encrypt
    #[arg(long, alias = "no-encryption")]
    plaintext: bool,
    /// Do not compress
    #[arg(long, conflicts_with = "compression")]
    no_compression: bool,
    /// Compress with zstd, zstd:LEVEL, lz4, gzip or none
    #[arg(long, value_name = "ALGORITHM")]
    compression: Option<CompressionChoice>,
    /// Hash with BLAKE3 or SHA256
    #[arg(long, value_name = "ALGORITHM")]
    hashing: Option<HashingChoice>,
    /// Take a typed passphrase even if it is weak
    #[arg(long)]
    weak_passphrase: bool,
    /// native (the default), or plakar: what upstream can open, encrypted ones too
    #[arg(long, value_name = "PROFILE")]
    profile: Option<ProfileChoice>,
}

#[derive(Serialize)]
struct Created<'a> {
    r#type: &'a str,
    command: &'a str,
    location: String,
    encrypted: bool,
    profile: &'a str,
}

/// Makes the store.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let place = context.main_store()?;
    let storage = open_storage(&place.location, &place.options, &context.limits())?;
    if matches!(place.location.kind(), Kind::Http | Kind::Https) {
        return Err(CommandError::usage("a store cannot be created over HTTP")
            .hint("create it where it is kept, then serve it with plakar server"));
    }
    if storage.is_archive() || storage.is_read_only() {
        return Err(CommandError::usage(format!("{} is an archive", place.location))
            .hint("archives are made by 'plakar ptar -o FILE'"));
    }
    // Nobody should choose a passphrase for a place that is taken.
    match storage.config() {
        Ok(_) => {
            return Err(CommandError::failed(format!("there is a store at {place} already")));
        }
        Err(error) if error.kind == crate::connector::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let passphrase = passphrase(args, context, &place)?;
    let profile = args.profile.map_or(Profile::Native, Into::into);
    let options = CreateOptions {
        profile,
        passphrase,
        compression: compression(args.no_compression, args.compression),
        hashing: args.hashing.map_or(HashAlgorithm::Blake3, Into::into),
        ..CreateOptions::default()
    };
    Repository::create(storage.as_ref(), &options)?;
    let encrypted = options.passphrase.is_some();
    // What was remembered of an earlier store at this place is over.
    if let Some(data) = context.data_folder() {
        Repository::forget(&data, &storage.location())?;
    }
    if !encrypted {
        // Known to be so from the start: a passphrase in the environment then stands in nobody's way.
        super::super::stores::open(context, &place, Chain::new())?;
    }
    let profile = super::info::profile_name(profile);
    if context.output.is_json() {
        context.output.json(&Created {
            r#type: "summary",
            command: "create",
            location: storage.location(),
            encrypted,
            profile,
        })?;
    } else {
        let kind = if encrypted { "an encrypted" } else { "a plaintext" };
        context.output.summary(format_args!("created {kind} store at {place} ({profile} profile)"))?;
    }
    Ok(Exit::Ok)
}

/// Chooses the passphrase, or none.
fn passphrase(args: &Args, context: &Context, place: &Place) -> Result<Option<Secret>, CommandError> {
    let chain = context.store_passphrases(place, None);
    if args.plaintext {
        if chain.expects_encryption() {
            return Err(CommandError::usage(
                "a plaintext store was asked for, and a passphrase was given for it",
            )
            .hint("leave out -plaintext, or the passphrase"));
        }
        return Ok(None);
    }
    choose_strong(&chain, place, args.weak_passphrase, context).map(Some)
}

/// Chooses a new passphrase; a typed one must not be weak.
pub(super) fn choose_strong(
    chain: &Chain,
    place: impl std::fmt::Display,
    weak: bool,
    context: &Context,
) -> Result<Secret, CommandError> {
    let (chosen, origin) = passphrase::choose(chain, place, &mut Tty::new(&context.cancel))?;
    if origin == Origin::Prompt && !weak && strength(&chosen) < LEAST_STRENGTH {
        return Err(CommandError::usage("this passphrase is weak")
            .hint("take a longer one, such as five random words; -weak-passphrase takes it all the same"));
    }
    Ok(chosen)
}

/// Returns the compression that flags choose; nothing leaves it to the profile.
fn compression(none: bool, choice: Option<CompressionChoice>) -> Option<Compression> {
    if none { Some(Compression::None) } else { choice.map(Into::into) }
}
