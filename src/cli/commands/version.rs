//! `version`.

use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use crate::connectors::{Role, available};

/// Prints the version and the connectors that are built in.
#[derive(clap::Args, Debug)]
#[command(after_help = "plakar version")]
pub(crate) struct Args {}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the JSON")]
struct Version {
    r#type: &'static str,
    version: &'static str,
    importers: Vec<&'static str>,
    exporters: Vec<&'static str>,
    klosets: Vec<&'static str>,
}

/// Prints it.
pub(super) fn run(_args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let version = Version {
        r#type: "version",
        version: concat!("v", env!("CARGO_PKG_VERSION")),
        importers: names(Role::Source),
        exporters: names(Role::Destination),
        klosets: names(Role::Store),
    };
    if context.output.is_json() {
        context.output.json(&version)?;
        return Ok(Exit::Ok);
    }
    context.output.line(format_args!("plakar/{}\n", version.version))?;
    for (what, names) in
        [("importers", version.importers), ("exporters", version.exporters), ("klosets", version.klosets)]
    {
        context.output.line(format_args!("{what}: {}", names.join(", ")))?;
    }
    Ok(Exit::Ok)
}

/// Returns the connectors of a role; an archive over HTTP is part of `ptar`.
fn names(role: Role) -> Vec<&'static str> {
    available(role).into_iter().filter(|scheme| !scheme.starts_with("ptar+")).collect()
}
