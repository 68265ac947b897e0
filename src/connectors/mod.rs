//! Floor 3: the concrete connectors and their registry.

mod location;
mod options;

pub use location::{Kind, Location, LocationError, Role, redact};
pub use options::{Form, MASK, OptionError, Options, Spec, is_secret, known, parse_bool, validate};
