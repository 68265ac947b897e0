//! `store`, `source`, `destination` and `config`.

use std::ffi::OsString;

use super::super::configuration::{Import, Surroundings, parse_config, parse_role, perform};
use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use crate::connectors::Role;

/// Names and describes places. VERB is add, set, unset, rm, show, default, check, ping or import.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar store add mystore s3://s3.fr-par.scw.cloud/bucket access_key=… secret_access_key=…
plakar store set mystore use_tls=false
plakar store default mystore
plakar source add photos /home/me/photos
plakar destination show
plakar source import -config sources.yml          (a file, a URL, or standard input)
plakar source import -rclone scw:bucket/photos as photos
plakar store import -rclone                       (every remote; then set its location)
plakar config repository create scw_store         (as in v1.0.2)
plakar config repository set scw_store location s3://s3.nl-ams.scw.cloud/bucket
plakar config remote create scw_src               (a source and a destination)
plakar config store create mystore                (as in v1.0.3)")]
pub(crate) struct Args {
    /// show: print secrets, too
    #[arg(long)]
    secrets: bool,
    #[command(flatten)]
    import: Import,
    /// The verb, the name and what the verb needs; none prints what is configured
    #[arg(value_name = "VERB")]
    words: Vec<OsString>,
}

/// Edits or prints the configuration.
pub(super) fn run(role: Option<Role>, args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let (roles, action) = match role {
        Some(role) => (vec![role], parse_role(role, &args.words)?),
        None => parse_config(&args.words)?,
    };
    let folder = context.config_folder()?;
    let around = Surroundings {
        folder: &folder,
        home: context.home(),
        secrets: args.secrets,
        import: &args.import,
        rclone_files: &context.environment.rclone_files(),
        cancel: &context.cancel,
        output: &context.output,
    };
    perform(&roles, action, around)?;
    Ok(Exit::Ok)
}
