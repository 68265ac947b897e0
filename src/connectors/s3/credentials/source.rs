//! The places that give credentials.

use std::path::PathBuf;

use super::container::Container;
use super::instance::Instance;
use super::process::Process;
use super::profile::Files;
use super::provider::Resolve;
use super::sts::{Role, Sts};
use super::{Credentials, CredentialsError};

/// A place that gives credentials.
pub(super) enum Source {
    /// Options and environment: fixed.
    Fixed(Credentials),
    /// The keys of a profile, read anew each time: other programs renew them there.
    Keys { files: Files, profile: String },
    /// A program.
    Process(Process),
    /// A role assumed with a token in a file.
    WebIdentity { sts: Sts, role: Role, token_file: PathBuf },
    /// A role assumed with other credentials.
    AssumeRole { sts: Sts, role: Role, base: Box<Named> },
    /// A container's agent.
    Container(Container),
    /// An instance's metadata.
    Instance(Instance),
}

/// A source with its name for people.
pub(super) struct Named {
    pub(super) source: Source,
    pub(super) origin: String,
    /// What to say in front of a failure.
    pub(super) excuse: Option<&'static str>,
}

impl Named {
    pub(super) fn new(source: Source, origin: impl Into<String>) -> Self {
        Self { source, origin: origin.into(), excuse: None }
    }

    fn ask(&self) -> Result<Credentials, CredentialsError> {
        match &self.source {
            Source::Fixed(credentials) => Ok(credentials.clone()),
            Source::Keys { files, profile } => files.keys(profile)?.ok_or_else(|| {
                CredentialsError::invalid(format!("profile {profile} holds no keys any more"))
            }),
            Source::Process(process) => process.resolve(),
            Source::WebIdentity { sts, role, token_file } => {
                sts.with_web_identity(role, token_file, &self.origin)
            }
            Source::AssumeRole { sts, role, base } => {
                sts.with_credentials(role, &base.resolve()?, &self.origin)
            }
            Source::Container(container) => container.resolve(),
            Source::Instance(instance) => instance.resolve(),
        }
    }
}

impl Resolve for Named {
    fn resolve(&self) -> Result<Credentials, CredentialsError> {
        self.ask().map_err(|error| match self.excuse {
            Some(excuse) => error.within(excuse),
            None => error,
        })
    }

    fn can_renew(&self) -> bool {
        !matches!(self.source, Source::Fixed(_))
    }

    fn origin(&self) -> &str {
        &self.origin
    }
}
