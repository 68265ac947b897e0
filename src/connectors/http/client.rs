//! Requests for one URL: sent again where that may help, understood where the answer allows it.

use std::fmt;
use std::io::Read;

use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};
use url::Url;
use zeroize::Zeroizing;

use super::part::Version;
use super::patience::{Failure, Patience, describe_io, explain, retry_after, take_credentials};
use crate::base::Cancel;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::redact;

/// One URL.
pub(super) struct Client {
    agent: Agent,
    url: String,
    /// The URL without its secrets.
    target: String,
    authorization: Option<Zeroizing<String>>,
    patience: Patience,
    cancel: Cancel,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Client {
    /// Takes a URL apart; a name and a password in it become a header.
    pub(super) fn new(url: &str, patience: Patience, cancel: Cancel) -> Result<Self> {
        let target = redact(url);
        let invalid = |why: &str| Error::new(ErrorKind::Invalid, "open", &*target).detail(why.to_owned());
        let mut url = Url::parse(url).map_err(|_| invalid("it is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(invalid("it is not an http or https URL"));
        }
        let authorization =
            take_credentials(&mut url).map_err(|()| invalid("it is not an http or https URL"))?;
        url.set_fragment(None);
        let agent = patience.agent(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build());
        Ok(Self { agent, url: url.into(), target, authorization, patience, cancel })
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
    pub(super) fn broken_off(&self, error: &std::io::Error) -> Failure {
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
    pub(super) fn persist<T>(&self, run: impl FnMut() -> Result<Option<T>, Failure>) -> Result<T> {
        self.patience.persist(&self.cancel, run)
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
                let pause = retry_after(answer.headers());
                let error = self.error(ErrorKind::Transport, said());
                return Err(Failure { error, again: true, pause });
            }
            _ => ErrorKind::Protocol,
        };
        Err(self.error(kind, said()).into())
    }

    fn explain(&self, error: &ureq::Error) -> Failure {
        let (detail, again) = explain(error);
        Failure { error: self.error(ErrorKind::Transport, detail), again, pause: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        let client =
            Client::new("https://me:p%40ss@h.test/x.ptar?sig=abc#frag", Patience::default(), Cancel::new())
                .unwrap();
        assert_eq!(client.url, "https://h.test/x.ptar?sig=abc");
        assert_eq!(client.authorization.as_deref().map(String::as_str), Some("Basic bWU6cEBzcw=="));
        for shown in [format!("{client:?}"), client.error(ErrorKind::Io, "x").to_string()] {
            assert!(!shown.contains("ss@") && !shown.contains("abc") && !shown.contains("bWU6"), "{shown}");
        }
        for bad in ["", "x.ptar", "ftp://h/x", "file:///x", "http://"] {
            assert_eq!(
                Client::new(bad, Patience::default(), Cancel::new()).unwrap_err().kind,
                ErrorKind::Invalid,
                "{bad}"
            );
        }
    }
}
