//! Standard input as a source, standard output as a destination: one file each.
//!
//! A pipe cannot tell why it ended: of `mysqldump | plakar backup stdin:` the second program never learns that the
//! first failed. `set -o pipefail` lets the shell tell; the snapshot is there all the same.

mod exporter;
mod importer;

pub use exporter::StdoutExporter;
pub use importer::StdinImporter;
