//! Requests that are sent again: how long to wait, how often to try, what failures mean.

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use ureq::Agent;
use ureq::http::HeaderMap;
use ureq::tls::TlsConfig;
use url::Url;
use zeroize::Zeroizing;

use crate::base::Cancel;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::tls;

/// The longest pause before a request is sent again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Connections kept open.
const IDLE: usize = 16;

/// How long to wait, and how often to try.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How often a request is sent that brings nothing, before that is an error.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each.
    pub first_pause: Duration,
    /// How long a name and a connection may take.
    pub connect: Duration,
    /// How long a connection may be silent while something is awaited.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_pause: Duration::from_millis(300),
            connect: Duration::from_secs(15),
            stall: Duration::from_mins(1),
        }
    }
}

/// A failed request, and whether to send it again.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) again: bool,
    /// The pause the server asked for.
    pub(super) pause: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, again: false, pause: None }
    }
}

impl Patience {
    /// Makes an agent that follows no redirects and takes no status for an error.
    pub(super) fn agent(&self, tls: TlsConfig) -> Agent {
        Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .no_delay(true)
            .user_agent(concat!("plakar/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .input_buffer_size(64 << 10)
            .output_buffer_size(64 << 10)
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .timeout_resolve(Some(self.connect))
            .timeout_connect(Some(self.connect))
            .timeout_per_read(Some(self.stall))
            .timeout_per_write(Some(self.stall))
            .tls_config(tls)
            .build()
            .new_agent()
    }

    /// Runs a request until it succeeds, fails for good, brought nothing for too often, or everything is to end. `run`
    /// returns `Ok(None)` when it got something but not all.
    pub(super) fn persist<T>(
        &self,
        cancel: &Cancel,
        mut run: impl FnMut() -> Result<Option<T>, Failure>,
    ) -> Result<T> {
        let mut fruitless = 0;
        loop {
            let failure = match run() {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {
                    fruitless = 0;
                    continue;
                }
                Err(failure) => failure,
            };
            fruitless += 1;
            if !failure.again || fruitless >= self.attempts || cancel.is_cancelled() {
                return Err(failure.error);
            }
            let doubled = self.first_pause.saturating_mul(1 << (fruitless - 1).min(16));
            let pause = failure.pause.map_or(doubled, |asked| asked.max(doubled)).min(LONGEST_PAUSE);
            if !cancel.sleep(jitter(pause)) {
                return Err(Error { kind: ErrorKind::Cancelled, ..failure.error });
            }
        }
    }
}

/// A header that shows a name and a password.
pub(super) type Authorization = Option<Zeroizing<String>>;

/// Takes a name and a password out of a URL and makes a header of them. Fails where the URL cannot have any.
pub(super) fn take_credentials(url: &mut Url) -> Result<Authorization, ()> {
    let authorization = (!url.username().is_empty()).then(|| {
        let decoded = |text: &str| Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
        let (name, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let pair = Zeroizing::new([name.as_slice(), b":", password.as_slice()].concat());
        Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)))
    });
    url.set_username("").and_then(|()| url.set_password(None))?;
    Ok(authorization)
}

/// Returns the pause that a server asks for, where it says so in seconds.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get("Retry-After")
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs)
}

/// Says what went wrong without quoting the library, whose words may hold the URL, and whether trying again may help.
pub(super) fn explain(error: &ureq::Error) -> (String, bool) {
    match error {
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>())
        {
            Some(inner) => explain(inner),
            None if error.get_ref().is_some_and(|inner| tls::is_no_tls(inner)) => (tls::NO_TLS.into(), false),
            None => (describe_io(error), !describe_io(error).starts_with("TLS")),
        },
        ureq::Error::Timeout(_) => ("the server did not answer in time".into(), true),
        ureq::Error::HostNotFound => ("there is no such host".into(), false),
        ureq::Error::ConnectionFailed => ("no connection could be made".into(), true),
        ureq::Error::Protocol(_) => ("the answer was not HTTP".into(), true),
        ureq::Error::Tls(what) => (format!("TLS: {what}"), false),
        ureq::Error::Rustls(error) => (format!("TLS: {error}"), false),
        ureq::Error::ConnectProxyFailed(_) => ("the proxy refused the connection".into(), false),
        ureq::Error::LargeResponseHeader(..) => ("the head of the answer is too long".into(), false),
        _ => ("the request could not be sent".into(), false),
    }
}

/// Says what became of a connection.
pub(super) fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused".into(),
        io::ErrorKind::TimedOut => "the connection stalled".into(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            "the connection broke off".into()
        }
        kind => {
            let text = error.to_string();
            if text.contains("certificate") {
                format!("TLS: {text}")
            } else {
                format!("the connection failed ({kind})")
            }
        }
    }
}

/// Returns between half and all of a pause, so that many clients do not come back at once.
fn jitter(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + pause.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_vary_within_bounds() {
        for _ in 0..100 {
            let pause = jitter(Duration::from_millis(100));
            assert!(pause >= Duration::from_millis(50) && pause <= Duration::from_millis(100));
        }
    }
}
