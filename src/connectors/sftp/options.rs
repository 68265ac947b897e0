//! Where a server is, and how `ssh` is called to get there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::base::{Cancel, Printable};
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::parse_bool;
use crate::connectors::tree::url_path;

/// Seconds after which `ssh` asks a silent server whether it is alive; after three times it gives up.
const ALIVE_SECONDS: u32 = 15;
/// Connections to a server at most, where nothing else is said.
const CONNECTIONS: usize = 4;
/// Threads that wait for answers, where nothing else is said.
const WORKERS: usize = 16;

/// A place on a server, and the way there.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) program: OsString,
    pub(super) host: String,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
    /// The path; relative to the home folder where it does not begin with a slash.
    pub(super) path: Vec<u8>,
    pub(super) identity: Option<PathBuf>,
    pub(super) config: Option<PathBuf>,
    pub(super) insecure: bool,
    pub(super) connections: usize,
    pub(super) workers: usize,
    /// Whether `ssh` may ask, by a program of the user's own (`SSH_ASKPASS`).
    pub(super) askpass: bool,
    /// Whether `ssh` may ask a person at the terminal, where nothing else helps.
    pub terminal: bool,
    /// Ends what waits for the server.
    pub cancel: Cancel,
}

impl Options {
    /// Reads a location (`sftp://user@host:port/path`) and the connector's options. `env` looks up environment
    /// variables.
    ///
    /// Fails with `Invalid` on a location or option that cannot be used, and on a password: `ssh` takes none.
    pub fn parse(
        location: &str,
        options: &BTreeMap<String, String>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let shown = crate::connectors::redact(location);
        let invalid = |detail: &str| Error::new(ErrorKind::Invalid, "open", shown.clone()).detail(detail);
        let get = |name: &str| options.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let number = |name: &str| {
            let parse = |text: &str| text.parse::<usize>().ok().filter(|number| (1..=256).contains(number));
            get(name)
                .map(|text| parse(text).ok_or_else(|| invalid(&format!("{name} is a number from 1 to 256"))))
        };
        let address = Address::parse(location).map_err(&invalid)?;
        let askpass = env("SSH_ASKPASS").is_some_and(|program| !program.is_empty())
            && env("SSH_ASKPASS_REQUIRE").is_some_and(|when| matches!(when.as_str(), "force" | "prefer"));
        if address.password || get("password").is_some() {
            return Err(invalid(
                "ssh takes no password from here: use a key (identity=FILE), an agent or ~/.ssh/config; a program \
                 that knows the password is SSH_ASKPASS=PROGRAM with SSH_ASKPASS_REQUIRE=force",
            ));
        }
        let user = get("username").or_else(|| get("user")).map(str::to_owned).or(address.user);
        if let Some(user) = &user {
            check_user(user).map_err(&invalid)?;
        }
        check_host(&address.host).map_err(&invalid)?;
        let port = match get("port") {
            Some(text) => {
                Some(text.parse().ok().filter(|port| *port != 0).ok_or_else(|| invalid("port is no port"))?)
            }
            None => address.port,
        };
        let insecure = match get("insecure_ignore_host_key") {
            Some(text) => {
                parse_bool(text).ok_or_else(|| invalid("insecure_ignore_host_key is true or false"))?
            }
            None => false,
        };
        let home = env("HOME").map(PathBuf::from);
        let file = |name: &str| get(name).map(|path| expand(path, home.as_deref()));
        let workers = number("concurrency").transpose()?;
        Ok(Self {
            program: get("ssh").unwrap_or("ssh").into(),
            host: address.host,
            user,
            port,
            path: address.path,
            identity: file("identity").or_else(|| file("ssh_private_key_path")),
            config: file("ssh_config"),
            insecure,
            connections: number("connections")
                .transpose()?
                .unwrap_or(CONNECTIONS)
                .min(workers.unwrap_or(CONNECTIONS)),
            workers: workers.unwrap_or(WORKERS),
            askpass,
            terminal: false,
            cancel: Cancel::new(),
        })
    }

    /// Returns the location for people, without secrets.
    pub fn describe(&self) -> String {
        let slash = if self.path.starts_with(b"/") { "" } else { "/~/" };
        format!("{}{slash}{}", self.server(), Printable::new(&self.path))
    }

    /// Returns the server's part of the location.
    pub(super) fn server(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("sftp://{user}{host}{port}")
    }

    /// Returns what people should be told before anything is done.
    pub fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.insecure {
            out.push(format!(
                "insecure_ignore_host_key: nobody checks who {} is, and anyone on the way there can read and change \
                 what is sent; add its key to ~/.ssh/known_hosts instead",
                self.host
            ));
        }
        out
    }

    /// Returns the arguments of `ssh`. With `batch` it never asks anybody anything.
    pub(super) fn arguments(&self, batch: bool) -> Vec<OsString> {
        let mut out: Vec<OsString> = Vec::new();
        let mut option = |text: String| out.extend([OsString::from("-o"), text.into()]);
        option(format!("BatchMode={}", if batch && !self.askpass { "yes" } else { "no" }));
        option(format!("ServerAliveInterval={ALIVE_SECONDS}"));
        option("ServerAliveCountMax=3".into());
        option("ConnectTimeout=30".into());
        // A master that stays behind would keep our pipes open; one that runs already is used.
        option("ControlMaster=no".into());
        option("ClearAllForwardings=yes".into());
        option("PermitLocalCommand=no".into());
        if self.insecure {
            option("StrictHostKeyChecking=no".into());
            option("UserKnownHostsFile=/dev/null".into());
            option("GlobalKnownHostsFile=/dev/null".into());
            option("LogLevel=ERROR".into());
        }
        if self.identity.is_some() {
            option("IdentitiesOnly=yes".into());
        }
        out.extend(["-x", "-a", "-T"].map(OsString::from));
        let mut pair = |flag: &str, value: &OsStr| out.extend([OsString::from(flag), value.to_owned()]);
        if let Some(config) = &self.config {
            pair("-F", config.as_os_str());
        }
        if let Some(identity) = &self.identity {
            pair("-i", identity.as_os_str());
        }
        if let Some(port) = self.port {
            pair("-p", port.to_string().as_ref());
        }
        if let Some(user) = &self.user {
            pair("-l", user.as_ref());
        }
        out.extend(["-s", "--", &self.host, "sftp"].map(OsString::from));
        out
    }
}

/// The parts of a location.
struct Address {
    user: Option<String>,
    password: bool,
    host: String,
    port: Option<u16>,
    path: Vec<u8>,
}

impl Address {
    fn parse(location: &str) -> Result<Self, &'static str> {
        let rest = location.split_once("://").map(|(_, rest)| rest).ok_or("it is no URL")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(user), !password.is_empty()),
            None => (None, false),
        };
        let user = match user.filter(|user| !user.is_empty()) {
            Some(user) => {
                Some(percent_decode_str(user).decode_utf8().map_err(|_| "the user is not UTF-8")?.into())
            }
            None => None,
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("a bracket is not closed")?;
                (host, port.strip_prefix(':'))
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port.filter(|port| !port.is_empty()) {
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0).ok_or("the port is no port")?),
            None => None,
        };
        Ok(Self { user, password, host: host.to_owned(), port, path: clean(path)? })
    }
}

/// Reads a URL's path, which must not hold a NUL.
fn clean(path: &str) -> Result<Vec<u8>, &'static str> {
    if percent_decode_str(path).any(|byte| byte == 0) {
        return Err("the path holds a NUL");
    }
    url_path(path)
}

/// Refuses what `ssh`, or a command in its configuration, could take for something else than a host.
fn check_host(host: &str) -> Result<(), &'static str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
    if host.is_empty() {
        return Err("it names no host");
    }
    if host.starts_with('-') || !host.chars().all(fine) {
        return Err("the host's name holds what no host's name may hold");
    }
    Ok(())
}

/// The same for users.
fn check_user(user: &str) -> Result<(), &'static str> {
    let odd = |c: char| c.is_control() || "'`\";&<>|(){}$".contains(c);
    if user.starts_with('-') || user.contains(" -") || user.ends_with('\\') || user.contains(odd) {
        return Err("the user's name holds what no user's name may hold");
    }
    Ok(())
}

fn expand(path: &str, home: Option<&std::path::Path>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(location: &str, options: &[(&str, &str)]) -> Result<Options> {
        let map = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Options::parse(location, &map, &|name| (name == "HOME").then(|| "/home/me".into()))
    }

    #[test]
    fn locations_are_taken_apart() {
        for (location, user, host, port, path, shown) in [
            ("sftp://h/a", None, "h", None, "/a", "sftp://h/a"),
            ("sftp://u@h:2222/a//b/./c/", Some("u"), "h", Some(2222), "/a/b/c", "sftp://u@h:2222/a/b/c"),
            ("sftp://h", None, "h", None, "/", "sftp://h/"),
            ("sftp://h/~/x", None, "h", None, "x", "sftp://h/~/x"),
            ("sftp://h/~", None, "h", None, "", "sftp://h/~/"),
            ("sftp://h/~x", None, "h", None, "/~x", "sftp://h/~x"),
            (
                "sftp://me%40corp@[::1]:22/a%20b",
                Some("me@corp"),
                "::1",
                Some(22),
                "/a b",
                "sftp://me@corp@[::1]:22/a b",
            ),
            ("sftp://h/100%", None, "h", None, "/100%", "sftp://h/100%"),
        ] {
            let options = parse(location, &[]).unwrap();
            assert_eq!(
                (options.user.as_deref(), options.host.as_str(), options.port, options.path.as_slice()),
                (user, host, port, path.as_bytes()),
                "{location}"
            );
            assert_eq!(options.describe(), shown);
        }
    }

    #[test]
    fn nothing_becomes_an_option_of_ssh() {
        for location in [
            "sftp://-oProxyCommand=x/a",
            "sftp://-l@h/a",
            "sftp://u@-h/a",
            "sftp://h;id/a",
            "sftp://$(id)@h/a",
            "sftp://h h/a",
            "sftp:///a",
            "sftp://h:0/a",
            "sftp://h:x/a",
            "sftp://[::1/a",
            "sftp://h/a/../b",
            "sftp://h/a%00b",
        ] {
            assert_eq!(parse(location, &[]).unwrap_err().kind, ErrorKind::Invalid, "{location}");
        }
        assert!(parse("sftp://h/a", &[("username", "-v")]).is_err());
        let given = parse("sftp://u@h:22/a", &[("identity", "~/key"), ("username", "other")]).unwrap();
        let arguments: Vec<_> = given.arguments(true).into_iter().map(|a| a.into_string().unwrap()).collect();
        assert!(arguments.ends_with(&["-s", "--", "h", "sftp"].map(String::from)), "{arguments:?}");
        for pair in [["-l", "other"], ["-i", "/home/me/key"], ["-p", "22"], ["-o", "BatchMode=yes"]] {
            assert!(arguments.windows(2).any(|window| window == pair), "{pair:?} {arguments:?}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_shown() {
        for error in [
            parse("sftp://u:hunter2@h/a", &[]).unwrap_err(),
            parse("sftp://u@h/a", &[("password", "hunter2")]).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("identity=") && !text.contains("hunter2"), "{text}");
        }
        assert!(
            parse("sftp://h/a", &[("insecure_ignore_host_key", "yes")]).unwrap().warnings()[0]
                .contains("nobody")
        );
        assert!(parse("sftp://h/a", &[("concurrency", "0")]).is_err());
    }
}
