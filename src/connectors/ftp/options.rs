//! Where a server is, and how it is spoken to.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::base::{Cancel, Printable};
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::parse_bool;
use crate::connectors::tree::url_path;

/// Control connections at a time, where nothing else is said: servers allow few.
const CONNECTIONS: usize = 4;

/// Whether a connection is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// Never.
    Off,
    /// Where the server offers it.
    Auto,
    /// Always, by `AUTH TLS`.
    Explicit,
    /// Always, from the first byte on.
    Implicit,
}

/// A place on a server, and who comes.
#[derive(Clone)]
pub struct Options {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
    /// The path; relative to the folder after the login where it does not begin with a slash.
    pub(super) path: Vec<u8>,
    pub(super) tls: Tls,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) insecure: bool,
    pub(super) connections: usize,
    /// Ends what waits for the server.
    pub cancel: Cancel,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("location", &self.describe())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Reads a location (`ftp://user:password@host:port/path`) and the connector's options.
    ///
    /// Fails with `Invalid` on a location or option that cannot be used.
    pub fn parse(location: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let shown = crate::connectors::redact(location);
        let invalid = |detail: &str| Error::new(ErrorKind::Invalid, "open", shown.clone()).detail(detail);
        let get = |name: &str| options.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let (scheme, rest) = location.split_once("://").ok_or_else(|| invalid("it is no URL"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (login, place),
            None => ("", authority),
        };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = split_port(place).ok_or_else(|| invalid("the port is no port"))?;
        if host.is_empty() {
            return Err(invalid("it names no host"));
        }
        let secure = scheme.eq_ignore_ascii_case("ftps");
        let port_given = match get("port") {
            Some(text) => {
                Some(text.parse().ok().filter(|port| *port != 0).ok_or_else(|| invalid("port is no port"))?)
            }
            None => port,
        };
        let tls = match get("tls") {
            None if secure && port_given == Some(990) => Tls::Implicit,
            None if secure => Tls::Explicit,
            None | Some("auto") => Tls::Auto,
            Some("off") if secure => return Err(invalid("tls=off contradicts ftps://")),
            Some("off") => Tls::Off,
            Some("explicit") => Tls::Explicit,
            Some("implicit") => Tls::Implicit,
            Some(_) => return Err(invalid("tls is off, auto, explicit or implicit")),
        };
        let insecure = match get("tls_insecure_no_verify") {
            Some(text) => {
                parse_bool(text).ok_or_else(|| invalid("tls_insecure_no_verify is true or false"))?
            }
            None => false,
        };
        let connections = match get("concurrency") {
            Some(text) => text
                .parse()
                .ok()
                .filter(|count| (1..=64).contains(count))
                .ok_or_else(|| invalid("concurrency is a number from 1 to 64"))?,
            None => CONNECTIONS,
        };
        let decoded =
            |text: &str| String::from_utf8_lossy(&percent_decode_str(text).collect::<Vec<u8>>()).into_owned();
        let user = get("username").or_else(|| get("user")).map_or_else(|| decoded(user), str::to_owned);
        let password = get("password").map_or_else(|| decoded(password), str::to_owned);
        let anonymous = user.is_empty();
        let made = Self {
            host: host.to_owned(),
            port: port_given.unwrap_or(if tls == Tls::Implicit { 990 } else { 21 }),
            user: if anonymous { "anonymous".into() } else { user },
            // What anonymous users give as their password has always been an address.
            password: if anonymous && password.is_empty() { "anonymous@".into() } else { password },
            path: url_path(path).map_err(&invalid)?,
            tls,
            ca_file: get("tls_ca_file").map(PathBuf::from),
            insecure,
            connections,
            cancel: Cancel::new(),
        };
        if unsayable(made.user.as_bytes()) || unsayable(made.password.as_bytes()) || unsayable(&made.path) {
            return Err(invalid("FTP has no way to say a name or password with a line break or a NUL"));
        }
        Ok(made)
    }

    /// Returns the location for people, without secrets.
    pub fn describe(&self) -> String {
        let slash = if self.path.starts_with(b"/") { "" } else { "/~/" };
        format!("{}{slash}{}", self.server(), Printable::new(&self.path))
    }

    /// Returns the server's part of the location.
    pub(super) fn server(&self) -> String {
        let scheme = if matches!(self.tls, Tls::Explicit | Tls::Implicit) { "ftps" } else { "ftp" };
        let user =
            if self.user == "anonymous" { String::new() } else { format!("{}@", Printable::new(&self.user)) };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = if self.port == 21 { String::new() } else { format!(":{}", self.port) };
        format!("{scheme}://{user}{}{port}", Printable::new(&host))
    }

    /// Returns what people should be told before anything is done.
    pub fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.insecure && self.tls != Tls::Off {
            out.push(format!(
                "tls_insecure_no_verify: nobody checks who {} is, and anyone on the way there can read and change what \
                 is sent; set tls_ca_file instead",
                self.host
            ));
        }
        out
    }
}

/// Returns whether bytes hold what ends a line of the protocol.
pub(super) fn unsayable(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':').unwrap_or(""))
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    if port.is_empty() {
        return Some((host, None));
    }
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(location: &str, options: &[(&str, &str)]) -> Result<Options> {
        let map = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Options::parse(location, &map)
    }

    #[test]
    fn locations_are_taken_apart_and_secrets_are_not_shown() {
        let given = parse("ftp://me:p%40ss@h:2121/a//b%20c/", &[]).unwrap();
        assert_eq!((given.user.as_str(), given.password.as_str(), given.port), ("me", "p@ss", 2121));
        assert_eq!((given.path.as_slice(), given.tls), (&b"/a/b c"[..], Tls::Auto));
        let shown = format!("{given:?} {}", given.describe());
        assert!(!shown.contains("p@ss") && shown.contains("ftp://me@h:2121/a/b c"), "{shown}");
        let anonymous = parse("ftp://[::1]/~/x", &[]).unwrap();
        assert_eq!(
            (anonymous.user.as_str(), anonymous.host.as_str(), anonymous.port),
            ("anonymous", "::1", 21)
        );
        assert_eq!(
            (anonymous.path.as_slice(), anonymous.describe().as_str()),
            (&b"x"[..], "ftp://[::1]/~/x")
        );
        let named = parse("ftp://h", &[("username", "u"), ("password", "p"), ("tls", "off")]).unwrap();
        assert_eq!((named.user.as_str(), named.password.as_str(), named.tls), ("u", "p", Tls::Off));
    }

    #[test]
    fn tls_follows_the_scheme_the_port_and_the_option() {
        for (location, option, tls, port) in [
            ("ftps://h", "", Tls::Explicit, 21),
            ("ftps://h:990", "", Tls::Implicit, 990),
            ("ftps://h", "implicit", Tls::Implicit, 990),
            ("ftp://h", "explicit", Tls::Explicit, 21),
        ] {
            let given = parse(location, &[("tls", option)]).unwrap();
            assert_eq!((given.tls, given.port), (tls, port), "{location} {option}");
        }
        assert!(parse("ftps://h", &[("tls", "off")]).is_err());
        assert!(
            parse("ftp://h", &[("tls_insecure_no_verify", "yes")]).unwrap().warnings()[0].contains("nobody")
        );
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for (location, options) in [
            ("ftp://h/a%0d%0aDELE%20x", &[][..]),
            ("ftp://h/a%00", &[]),
            ("ftp://h/a/../b", &[]),
            ("ftp:///a", &[]),
            ("ftp://h:0/a", &[]),
            ("ftp://h/a", &[("username", "u\r\nDELE x")]),
            ("ftp://h/a", &[("password", "p\n")]),
            ("ftp://h/a", &[("tls", "maybe")]),
            ("ftp://h/a", &[("concurrency", "0")]),
        ] {
            assert_eq!(parse(location, options).unwrap_err().kind, ErrorKind::Invalid, "{location}");
        }
    }
}
