//! Requests for one URL: sent again where that may help, understood where the answer allows it.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};
use url::Url;
use zeroize::Zeroizing;

use super::part::Version;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::redact;

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

/// One URL.
pub(super) struct Client {
    agent: Agent,
    url: String,
    /// The URL without its secrets.
    target: String,
    authorization: Option<Zeroizing<String>>,
    patience: Patience,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Client {
    /// Takes a URL apart; a name and a password in it become a header.
    pub(super) fn new(url: &str, patience: Patience) -> Result<Self> {
        let target = redact(url);
        let invalid = |why: &str| Error::new(ErrorKind::Invalid, "open", &*target).detail(why.to_owned());
        let mut url = Url::parse(url).map_err(|_| invalid("it is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(invalid("it is not an http or https URL"));
        }
        let authorization = (!url.username().is_empty()).then(|| {
            let decoded = |text: &str| Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
            let (name, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
            let pair = Zeroizing::new([name.as_slice(), b":", password.as_slice()].concat());
            Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)))
        });
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| invalid("it is not an http or https URL"))?;
        url.set_fragment(None);
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .no_delay(true)
            .user_agent(concat!("plakar/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_per_read(Some(patience.stall))
            .timeout_per_write(Some(patience.stall))
            .tls_config(tls)
            .build()
            .new_agent();
        Ok(Self { agent, url: url.into(), target, authorization, patience })
    }

    /// Returns the URL for people and errors.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Asks for a range (`bytes=…`) of a version. Statuses 200, 206 and 416 are for the caller to judge.
    pub(super) fn get(&self, range: &str, version: Option<&Version>) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(&self.url).header("Range", range);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.as_str());
        }
        if let Some((name, value)) = version.and_then(Version::condition) {
            request = request.header(name, value);
        }
        self.judge(request.call().map_err(|error| self.explain(&error))?)
    }

    /// Asks for everything, whatever version. Redirects and statuses 200, 206 and 416 are for the caller to judge.
    pub(super) fn fetch(&self) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(&self.url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.as_str());
        }
        let answer = request.call().map_err(|error| self.explain(&error))?;
        if answer.status().is_redirection() { Ok(answer) } else { self.judge(answer) }
    }

    /// Says that a body ended too early.
    pub(super) fn broken_off(&self, error: &io::Error) -> Failure {
        self.interrupted(describe_io(error))
    }

    /// Asks for the headers only.
    pub(super) fn head(&self) -> Result<HeaderMap, Failure> {
        let mut request = self.agent.head(&self.url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.as_str());
        }
        let answer = self.judge(request.call().map_err(|error| self.explain(&error))?)?;
        if answer.status() != StatusCode::OK {
            return Err(self.error(ErrorKind::Protocol, "it does not answer HEAD").into());
        }
        Ok(answer.into_parts().0.headers)
    }

    /// Runs a request until it succeeds, fails for good, or brought nothing for too often. `run` returns `Ok(None)`
    /// when it got something but not all.
    pub(super) fn persist<T>(&self, mut run: impl FnMut() -> Result<Option<T>, Failure>) -> Result<T> {
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
            if !failure.again || fruitless >= self.patience.attempts {
                return Err(failure.error);
            }
            let doubled = self.patience.first_pause.saturating_mul(1 << (fruitless - 1).min(16));
            let pause = failure.pause.map_or(doubled, |asked| asked.max(doubled)).min(LONGEST_PAUSE);
            std::thread::sleep(jitter(pause));
        }
    }

    /// Reads a body of a known length, appending to `out`. On failure `out` keeps what arrived.
    pub(super) fn read_body(&self, body: Body, length: u64, out: &mut Vec<u8>) -> Result<(), Failure> {
        let already = out.len() as u64;
        let mut reader = body.into_reader().take(length);
        let read = reader.read_to_end(out);
        let got = out.len() as u64 - already;
        match read {
            Ok(_) if got == length => Ok(()),
            Ok(_) => Err(self.interrupted(format!("the answer ended after {got} of {length} bytes"))),
            Err(error) => Err(self.interrupted(describe_io(&error))),
        }
    }

    /// Returns an error about this URL.
    pub(super) fn error(&self, kind: ErrorKind, detail: impl Into<String>) -> Error {
        Error::new(kind, "read", &*self.target).detail(detail)
    }

    fn interrupted(&self, detail: impl Into<String>) -> Failure {
        Failure { error: self.error(ErrorKind::Transport, detail), again: true, pause: None }
    }

    fn judge(&self, answer: Response<Body>) -> Result<Response<Body>, Failure> {
        let status = answer.status();
        let said = || format!("the server answered {status}");
        let kind = match status.as_u16() {
            200 | 206 | 416 => return Ok(answer),
            300..=399 => {
                let error =
                    self.error(ErrorKind::Protocol, "it redirects elsewhere: give the URL it leads to");
                return Err(error.into());
            }
            401 | 403 | 407 => ErrorKind::Denied,
            404 | 410 => ErrorKind::NotFound,
            412 => {
                return Err(self.error(ErrorKind::Changed, "the archive was replaced by another").into());
            }
            408 | 425 | 429 | 500 | 502..=504 | 506..=599 => {
                let pause =
                    answer.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
                let error = self.error(ErrorKind::Transport, said());
                return Err(Failure { error, again: true, pause: pause.map(Duration::from_secs) });
            }
            _ => ErrorKind::Protocol,
        };
        Err(self.error(kind, said()).into())
    }

    /// Says what went wrong without quoting the library, whose words may hold the URL.
    fn explain(&self, error: &ureq::Error) -> Failure {
        let lasting = |detail: String| Failure::from(self.error(ErrorKind::Transport, detail));
        match error {
            ureq::Error::Io(error) => self.interrupted(describe_io(error)),
            ureq::Error::Timeout(_) => self.interrupted("the server did not answer in time"),
            ureq::Error::HostNotFound => lasting("there is no such host".into()),
            ureq::Error::ConnectionFailed => self.interrupted("no connection could be made"),
            ureq::Error::Protocol(_) => self.interrupted("the answer was not HTTP"),
            ureq::Error::Tls(what) => lasting(format!("TLS: {what}")),
            ureq::Error::Rustls(error) => lasting(format!("TLS: {error}")),
            ureq::Error::ConnectProxyFailed(_) => lasting("the proxy refused the connection".into()),
            _ => lasting("the request could not be sent".into()),
        }
    }
}

fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused".into(),
        io::ErrorKind::TimedOut => "the connection stalled".into(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            "the connection broke off".into()
        }
        kind => format!("the connection failed ({kind})"),
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
    fn secrets_of_a_url_are_not_shown() {
        let client =
            Client::new("https://me:p%40ss@h.test/x.ptar?sig=abc#frag", Patience::default()).unwrap();
        assert_eq!(client.url, "https://h.test/x.ptar?sig=abc");
        assert_eq!(client.authorization.as_deref().map(String::as_str), Some("Basic bWU6cEBzcw=="));
        for shown in [format!("{client:?}"), client.error(ErrorKind::Io, "x").to_string()] {
            assert!(!shown.contains("ss@") && !shown.contains("abc") && !shown.contains("bWU6"), "{shown}");
        }
        for bad in ["", "x.ptar", "ftp://h/x", "file:///x", "http://"] {
            assert_eq!(Client::new(bad, Patience::default()).unwrap_err().kind, ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn pauses_vary_within_bounds() {
        for _ in 0..100 {
            let pause = jitter(Duration::from_millis(100));
            assert!(pause >= Duration::from_millis(50) && pause <= Duration::from_millis(100));
        }
    }
}
