//! Floor 3: the concrete connectors and their registry.

mod location;
mod options;
mod registry;

pub use location::{Kind, Location, LocationError, Role, redact};
pub use options::{Form, MASK, OptionError, Options, Spec, is_secret, known, parse_bool, validate};
pub use registry::{Answer, Limits, available, open_exporter, open_importer, open_storage, ping};
