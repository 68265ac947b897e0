//! Why there are no credentials.

use crate::connector::ErrorKind;

/// Why a source of credentials gave none: a sentence for people, without a secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CredentialsError {
    kind: ErrorKind,
    message: String,
}

impl CredentialsError {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Something is set to what cannot be.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Someone said no.
    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Denied, message)
    }

    /// An answer that makes no sense.
    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    /// Returns the kind: `Invalid` for what is set wrongly, `Denied` for a refusal or nothing to offer, `Transport`
    /// for a source that cannot be reached, `Protocol` for one that answers nonsense.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Puts in front what was being done.
    #[must_use]
    pub(super) fn within(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
}
