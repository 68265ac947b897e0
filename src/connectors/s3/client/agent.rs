//! The HTTP agent: no redirects, no decoding of bodies, no status turned into an error, no total time limit.

use std::error::Error as StdError;
use std::io;

use ureq::config::Config;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, RustlsConnector};
use ureq::{Agent, Proxy, ProxyProtocol};

use super::super::options::{Options, ProxySettings};
use super::dial::{Dial, Names};
use super::failure::Again;
use crate::base::Cancel;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::tls;
pub(in super::super) use crate::connectors::tls::roots;

/// Makes the agent of a connector.
pub(super) fn build(options: &Options) -> Result<Agent> {
    let tuning = &options.tuning;
    let roots = if options.use_tls && !options.insecure {
        roots(options.ca_file.as_deref())?
    } else {
        RootCerts::PlatformVerifier
    };
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .https_only(options.use_tls)
        .no_delay(true)
        .proxy(options.proxy.as_ref().map(ProxySettings::build).transpose()?)
        .user_agent(concat!("plakar/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("")
        .max_response_header_size(64 << 10)
        .input_buffer_size(64 << 10)
        .output_buffer_size(64 << 10)
        .max_idle_connections(tuning.workers * 2)
        .max_idle_connections_per_host(tuning.workers * 2)
        .timeout_connect(Some(tuning.connect_timeout))
        .timeout_resolve(Some(tuning.connect_timeout))
        .timeout_per_read(Some(tuning.stall_timeout))
        .timeout_per_write(Some(tuning.stall_timeout))
        .tls_config(TlsConfig::builder().root_certs(roots).disable_verification(options.insecure).build())
        .build();
    Ok(agent(config, &options.cancel))
}

/// Makes an agent that knows the names of this machine, and connects to nothing once everything is to end.
pub(in super::super) fn agent(config: Config, cancel: &Cancel) -> Agent {
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(Dial::new(cancel.clone()))
            .chain(RustlsConnector::default());
    Agent::with_parts(config, connector, Names::new(cancel.clone()))
}

impl ProxySettings {
    /// Makes the proxy. Its URL may hold a password: it is not part of the error.
    pub(in super::super) fn build(&self) -> Result<Proxy> {
        let refused = || {
            Error::new(ErrorKind::Invalid, "use", "the proxy of the environment")
                .detail("its URL is not one of an http or https proxy")
        };
        let invalid = |_| refused();
        let plain = Proxy::new(&self.url).map_err(invalid)?;
        if !matches!(plain.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
            return Err(refused());
        }
        let mut builder = Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
        if let Some(user) = plain.username() {
            builder = builder.username(user);
        }
        if let Some(password) = plain.password() {
            builder = builder.password(password);
        }
        self.exceptions
            .iter()
            .fold(builder, |builder, exception| builder.no_proxy(exception))
            .build()
            .map_err(invalid)
    }
}

/// Says what a transport error is, without a URL in it, and whether trying again may help.
pub(in super::super) fn explain(error: &ureq::Error) -> (String, Again) {
    match error {
        ureq::Error::Io(e) => explain_io(e),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            ("no connection within the time limit".into(), Again::Soon)
        }
        ureq::Error::Timeout(_) => ("the connection stalled".into(), Again::Soon),
        ureq::Error::HostNotFound => ("the host name does not resolve".into(), Again::Briefly),
        ureq::Error::ConnectionFailed => ("the connection failed".into(), Again::Soon),
        ureq::Error::Tls(what) => (format!("TLS: {what}"), Again::Never),
        ureq::Error::Rustls(e) if tls::is_no_tls(e) => (tls::NO_TLS.into(), Again::Never),
        ureq::Error::Rustls(e) => (format!("TLS: {e}"), Again::Never),
        ureq::Error::Protocol(e) => (format!("the answer is not HTTP: {e}"), Again::Soon),
        ureq::Error::ConnectProxyFailed(_) => ("the proxy refused the connection".into(), Again::Soon),
        ureq::Error::LargeResponseHeader(..) => ("the answer's headers are too long".into(), Again::Never),
        ureq::Error::InvalidProxyUrl => ("the proxy's URL is not valid".into(), Again::Never),
        // What else there is may quote the URL, signature and all.
        _ => ("the request could not be sent".into(), Again::Never),
    }
}

/// The same for an error while a body is read or written.
pub(super) fn explain_io(error: &io::Error) -> (String, Again) {
    if let Some(inner) = error.get_ref() {
        if let Some(inner) = inner.downcast_ref::<ureq::Error>() {
            return explain(inner);
        }
        if tls::is_no_tls(inner) {
            return (tls::NO_TLS.into(), Again::Never);
        }
        let text = chain(inner);
        if text.contains("certificate") {
            return (format!("TLS: {text}"), Again::Never);
        }
    }
    let text = error.to_string();
    // The system's resolver has no error kind of its own.
    let again = if text.starts_with("failed to lookup address") { Again::Briefly } else { Again::Soon };
    (text, again)
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        next = inner.source();
    }
    text
}
