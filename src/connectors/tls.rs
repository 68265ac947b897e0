//! Whom connections trust: what all connectors over TLS have in common.

use std::error::Error as StdError;
use std::path::Path;

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

use crate::connector::{Error, ErrorKind, Result};

/// Returns the certificates that vouch for servers: those of a file, else the system's. A file that cannot be read or
/// holds none is an error: going on with others would hide the mistake.
pub(super) fn roots(file: Option<&Path>) -> Result<RootCerts> {
    let Some(path) = file else { return Ok(RootCerts::PlatformVerifier) };
    let invalid = |what: &str| {
        Error::new(ErrorKind::Invalid, "read", format!("the certificates in {}", path.display())).detail(what)
    };
    let bytes = std::fs::read(path).map_err(|error| invalid(&error.to_string()))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(invalid("there is no PEM certificate in it"));
    }
    Ok(RootCerts::from(certificates))
}

/// What is said of a server that answers a TLS greeting with something else, such as HTTP.
pub(super) const NO_TLS: &str = "the server does not speak TLS";

/// Returns whether a failure is such an answer: its first bytes are no record of TLS. A record that breaks later fails
/// otherwise, for it no longer decrypts.
pub(super) fn is_no_tls(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        error.downcast_ref(),
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType))
    )
}
