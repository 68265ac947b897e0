//! Who asks: access keys from the first place that has some, renewed before they expire.
//!
//! ```text
//! options -> environment -> web identity -> profile -> container -> instance metadata
//!    access_key    AWS_…, SCW_…   STS            files, process,    ECS, EKS      EC2
//!    profile                                     roles through STS
//! ```
//!
//! [`chain`] picks the source from what is set, without asking any of them: an empty value counts as unset, a source
//! that is set and fails is an error, not a reason to try the next one. [`Provider`] asks it when the first request is
//! signed, five minutes before the answer expires, and once more when a server calls a token expired. Container and
//! instance metadata are asked directly, never through a proxy. Nothing here shows a secret: not `Debug`, not an error.

mod chain;
mod container;
mod error;
mod http;
mod instance;
mod keys;
mod process;
mod profile;
mod provider;
mod source;
mod sts;

pub(super) use chain::{Given, Surroundings, choose};
pub use error::CredentialsError;
pub use keys::Credentials;
pub(super) use profile::{Files, Profile};
pub use provider::Provider;
