//! `store`, `source`, `destination` and `config`.

use std::ffi::OsString;

use serde::Serialize;

use super::super::configuration::{Action, Import, Surroundings, parse_config, parse_role, perform};
use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use crate::connectors::Role;
use crate::ui::Output;

/// Names and describes places. VERB is add, set, unset, rm, show, default, check, ping or import. 'plakar help store',
/// 'source' and 'destination' list all options, 'plakar help s3' (fs, ftp, sftp, http …) those of one connector.
#[derive(clap::Args, Debug)]
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

/// The examples of each of the four commands, which share their arguments.
pub(super) const EXAMPLES: [(&str, &str); 4] = [
    (
        "store",
        "\
plakar store add mystore s3://s3.fr-par.scw.cloud/bucket access_key=… secret_access_key=…
plakar store set mystore use_tls=false
plakar store default mystore
plakar store show -secrets mystore
plakar store ping mystore
plakar store import -rclone  # every remote; then set its location",
    ),
    (
        "source",
        "\
plakar source add photos /home/me/photos
plakar source add bucket s3://s3.fr-par.scw.cloud/bucket access_key=… secret_access_key=…
plakar source import -config sources.yml  # a file, a URL, or standard input
plakar source import -rclone scw:bucket/photos as photos
plakar source rm photos",
    ),
    (
        "destination",
        "\
plakar destination add copy /mnt/disk/restored
plakar destination set copy location=/mnt/other
plakar destination show",
    ),
    (
        "config",
        "\
plakar config
plakar config repository create scw_store  # as in v1.0.2
plakar config repository set scw_store location s3://s3.nl-ams.scw.cloud/bucket
plakar config remote create scw_src  # a source and a destination
plakar config store create mystore  # as in v1.0.3",
    ),
];

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
    if action == Action::Default(None) && context.output.is_json() {
        return default(context);
    }
    let told = told(&action);
    perform(&roles, action, around)?;
    if let Some((verb, names)) = told {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        done(role.map_or("config", Role::noun), verb, &names, &context.output)?;
    }
    Ok(Exit::Ok)
}

/// Tells programs which store is the default.
fn default(context: &Context) -> Result<Exit, CommandError> {
    #[derive(Serialize)]
    struct Default<'a> {
        r#type: &'a str,
        name: Option<&'a str>,
    }
    let name = context.configuration()?.default.as_deref();
    context.output.json(&Default { r#type: "default", name })?;
    Ok(Exit::Ok)
}

/// Returns what was done to which entries, where that prints nothing by itself.
fn told(action: &Action) -> Option<(&'static str, Vec<String>)> {
    match action {
        Action::Add { name, .. } => Some(("add", vec![name.clone()])),
        Action::Set(name, _) => Some(("set", vec![name.clone()])),
        Action::Unset(name, _) => Some(("unset", vec![name.clone()])),
        Action::Remove(names) => Some(("rm", names.clone())),
        Action::Default(Some(name)) => Some(("default", vec![name.clone()])),
        Action::Check(name) => Some(("check", vec![name.clone()])),
        Action::Ping(name) => Some(("ping", vec![name.clone()])),
        Action::Import(sections) => Some(("import", sections.clone())),
        Action::Show(_) | Action::Default(None) => None,
    }
}

/// Tells programs that entries were changed; people see it from the exit code.
pub(super) fn done(command: &str, verb: &str, names: &[&str], output: &Output) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Summary<'a> {
        r#type: &'a str,
        command: &'a str,
        action: &'a str,
        names: &'a [&'a str],
    }
    if output.is_json() {
        output.json(&Summary { r#type: "summary", command, action: verb, names })?;
    }
    Ok(())
}
