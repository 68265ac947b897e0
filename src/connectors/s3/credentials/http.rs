//! Small requests to metadata and token services.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderValue, Request};
use ureq::tls::{RootCerts, TlsConfig};

use super::super::client::{agent, explain, roots};
use super::super::options::ProxySettings;
use super::CredentialsError;
use crate::base::Cancel;
use crate::connector::ErrorKind;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 256 << 10;

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// How to reach a service: a time limit for the whole of a request, and no redirects.
#[derive(Debug)]
pub(super) struct Http(Agent);

impl Http {
    /// Reaches a metadata service: directly, whatever proxies the environment names.
    pub(super) fn direct(limit: Duration) -> Self {
        Self::build(limit, None, RootCerts::PlatformVerifier)
    }

    /// Reaches a service on the Internet.
    pub(super) fn outside(
        limit: Duration,
        proxy: Option<&ProxySettings>,
        ca_file: Option<&Path>,
    ) -> Result<Self, CredentialsError> {
        let invalid = |error: crate::connector::Error| CredentialsError::invalid(error.to_string());
        let proxy = proxy.map(ProxySettings::build).transpose().map_err(invalid)?;
        Ok(Self::build(limit, proxy, roots(ca_file).map_err(invalid)?))
    }

    fn build(limit: Duration, proxy: Option<ureq::Proxy>, roots: RootCerts) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(concat!("plakar/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("")
            .max_idle_connections(0)
            .timeout_global(Some(limit))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Self(agent(config, &Cancel::new()))
    }

    /// Sends a request. The error names neither the URL nor a header.
    pub(super) fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, CredentialsError> {
        let unsendable = || CredentialsError::invalid("the request cannot be expressed");
        let mut builder = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| unsendable())?;
            value.set_sensitive(true);
            builder = builder.header(*name, value);
        }
        let sent = match method {
            "GET" => self.0.run(builder.body(()).map_err(|_| unsendable())?),
            _ => self.0.run(builder.body(body).map_err(|_| unsendable())?),
        };
        let failed = |message: String| CredentialsError::new(ErrorKind::Transport, message);
        let answer = sent.map_err(|error| failed(explain(&error).0))?;
        let (parts, body) = answer.into_parts();
        let mut bytes = Vec::new();
        body.into_reader()
            .take(MAX_ANSWER)
            .read_to_end(&mut bytes)
            .map_err(|_| failed("the answer broke off".into()))?;
        Ok(Answer { status: parts.status.as_u16(), body: bytes })
    }
}

/// Runs a request up to three times while what fails is the connection or the service itself.
pub(super) fn patiently(
    mut run: impl FnMut() -> Result<Answer, CredentialsError>,
) -> Result<Answer, CredentialsError> {
    let mut pause = Duration::from_millis(100);
    for _ in 0..2 {
        match run() {
            Ok(answer) if answer.status < 500 && answer.status != 429 => return Ok(answer),
            Err(error) if error.kind() != ErrorKind::Transport => return Err(error),
            _ => std::thread::sleep(pause),
        }
        pause *= 4;
    }
    run()
}
