//! Where a store, a source or a destination is, as people write it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::{Printable, sys};

/// What a location is used as. The same words can mean different things: `x.ptar` is an archive to open as a store,
/// but a plain file to back up as a source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Holds a Kloset store.
    Store,
    /// Is backed up.
    Source,
    /// Is restored to.
    Destination,
}

impl Role {
    /// All roles, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Store, Self::Source, Self::Destination];

    /// Returns the noun, which is also the name of the command that configures such a thing.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// Which connector serves a location.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A folder of a mounted file system.
    Fs,
    /// A bucket, or a prefix in one.
    S3,
    /// A folder reached by SFTP.
    Sftp,
    /// A folder reached by FTP.
    Ftp,
    /// A store served over plain HTTP.
    Http,
    /// A store served over HTTPS.
    Https,
    /// A store in one `SQLite` file.
    Sqlite,
    /// An archive in a local file.
    Ptar,
    /// An archive read from a web server over plain HTTP.
    PtarHttp,
    /// An archive read from a web server over HTTPS.
    PtarHttps,
    /// One file that comes by standard input.
    Stdin,
    /// One file that goes to standard output.
    Stdout,
    /// The members of a tar archive, in a file or from standard input.
    Tar,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::Fs,
        Self::Ftp,
        Self::Http,
        Self::Https,
        Self::Ptar,
        Self::PtarHttp,
        Self::PtarHttps,
        Self::S3,
        Self::Sftp,
        Self::Sqlite,
        Self::Stdin,
        Self::Stdout,
        Self::Tar,
    ];

    /// Returns the scheme, without its colon.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Fs => "fs",
            Self::S3 => "s3",
            Self::Sftp => "sftp",
            Self::Ftp => "ftp",
            Self::Http => "http",
            Self::Https => "https",
            Self::Sqlite => "sqlite",
            Self::Ptar => "ptar",
            Self::PtarHttp => "ptar+http",
            Self::PtarHttps => "ptar+https",
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Tar => "tar",
        }
    }

    /// Finds the kind of a scheme.
    pub fn from_scheme(scheme: &str) -> Option<Self> {
        // FTP over TLS is FTP; the URL keeps telling which.
        let scheme = if scheme == "ftps" { "ftp" } else { scheme };
        Self::ALL.into_iter().find(|kind| kind.scheme() == scheme)
    }

    /// Returns whether locations of this kind are paths on this machine, not URLs.
    pub fn is_path(self) -> bool {
        matches!(self, Self::Fs | Self::Sqlite | Self::Ptar | Self::Stdin | Self::Stdout | Self::Tar)
    }

    /// Returns whether this kind can serve a role at all, built or not.
    pub fn serves(self, role: Role) -> bool {
        match self {
            Self::Fs | Self::S3 | Self::Sftp => true,
            Self::Ftp => role != Role::Store,
            Self::Stdin | Self::Tar => role == Role::Source,
            Self::Stdout => role == Role::Destination,
            _ => role == Role::Store,
        }
    }
}

/// A location that could not be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// Nothing was given.
    #[error("the location is empty")]
    Empty,
    /// A URL must be text.
    #[error("the location {} is not valid UTF-8", Printable::new(.0))]
    NotText(String),
    /// No connector has this scheme.
    #[error("unknown location scheme {}: in {}", Printable::new(.scheme), Printable::new(.location))]
    UnknownScheme {
        /// The scheme, without its colon.
        scheme: String,
        /// The location, passwords removed.
        location: String,
    },
    /// The host or bucket is missing.
    #[error("the location {} names no host or bucket", Printable::new(.0))]
    NoHost(String),
    /// The connector cannot do that.
    #[error("{} locations cannot be used as a {}", kind.scheme(), role.noun())]
    WrongRole {
        /// The connector.
        kind: Kind,
        /// What was wanted of it.
        role: Role,
    },
    /// The configured `type` and the location disagree.
    #[error("type is {} but the location is {}", kind.scheme(), Printable::new(.location))]
    WrongType {
        /// The configured type.
        kind: Kind,
        /// The location, passwords removed.
        location: String,
    },
    /// A path below a location must stay below it.
    #[error("the path {} must not hold empty, '.' or '..' parts", Printable::new(.0))]
    BadSubPath(String),
}

/// A parsed location: which connector, and what it is told.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Location {
    kind: Kind,
    /// A path for kinds that are paths; else the URL as typed, scheme included, because S3 keys may hold what a
    /// URL parser would normalise away.
    target: OsString,
}

impl Location {
    /// Creates the location of a folder.
    pub fn fs(path: impl Into<PathBuf>) -> Self {
        Self { kind: Kind::Fs, target: path.into().into_os_string() }
    }

    /// Parses what a person wrote: a path, `fs:PATH`, `sqlite:PATH`, `ptar:PATH`, a URL, or a path that ends in
    /// `.ptar` where a store is wanted. A word before a colon is a scheme when it is a known one or when `//` follows;
    /// anything else is a path.
    pub fn parse(text: &OsStr, role: Role) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        let location = Self::read(text, role)?;
        if !location.kind.serves(role) {
            return Err(LocationError::WrongRole { kind: location.kind, role });
        }
        Ok(location)
    }

    fn read(text: &OsStr, role: Role) -> Result<Self, LocationError> {
        let bytes = text.as_encoded_bytes();
        let Some((scheme, rest)) = split_scheme(bytes) else {
            let archive = role == Role::Store && ends_in_ptar(bytes);
            let kind = if archive { Kind::Ptar } else { Kind::Fs };
            return Ok(Self { kind, target: text.to_owned() });
        };
        let Some(mut kind) = Kind::from_scheme(&scheme) else {
            let location = redact(&text.to_string_lossy());
            return Err(LocationError::UnknownScheme { scheme, location });
        };
        if kind.is_path() {
            let path = path_after_scheme(text, scheme.len());
            if path.is_empty() && !matches!(kind, Kind::Stdin | Kind::Stdout) {
                return Err(LocationError::Empty);
            }
            if kind == Kind::Fs && role == Role::Store && ends_in_ptar(path.as_encoded_bytes()) {
                kind = Kind::Ptar;
            }
            return Ok(Self { kind, target: path });
        }
        let url = text.to_str().ok_or_else(|| LocationError::NotText(redact(&text.to_string_lossy())))?;
        if rest.strip_prefix(b"//").is_none_or(|host| host.is_empty() || host[0] == b'/') {
            return Err(LocationError::NoHost(redact(url)));
        }
        if role == Role::Store && ends_in_ptar(bytes) {
            kind = match kind {
                Kind::Http => Kind::PtarHttp,
                Kind::Https => Kind::PtarHttps,
                other => other,
            };
        }
        Ok(Self { kind, target: url.into() })
    }

    /// Returns the connector's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the path of a kind that is one.
    pub fn path(&self) -> Option<&Path> {
        self.kind.is_path().then(|| Path::new(&self.target))
    }

    /// Returns the URL of a kind that is not a path. An archive's URL is that of its file: `https://…`, without
    /// `ptar+`. May hold a password: show the [`Display`](fmt::Display) form instead.
    pub fn url(&self) -> Option<&str> {
        if self.kind.is_path() {
            return None;
        }
        let url = self.target.to_str()?;
        Some(url.strip_prefix("ptar+").unwrap_or(url))
    }

    /// Returns the text that parses to this location again, passwords included: what configuration files hold.
    pub fn spelling(&self) -> OsString {
        let target = self.target.as_encoded_bytes();
        let scheme = match self.kind {
            Kind::Sqlite => "sqlite:",
            Kind::Stdin => "stdin:",
            Kind::Stdout => "stdout:",
            Kind::Tar => "tar:",
            Kind::Ptar if !ends_in_ptar(target) => "ptar:",
            Kind::Fs if split_scheme(target).is_some() => "fs:",
            _ => "",
        };
        let mut text = OsString::from(scheme);
        text.push(&self.target);
        text
    }

    /// Makes a path independent of the current folder; URLs are already.
    pub fn absolute(self) -> std::io::Result<Self> {
        match self.path() {
            Some(path) if !self.is_stream() => {
                Ok(Self { kind: self.kind, target: std::path::absolute(path)?.into_os_string() })
            }
            _ => Ok(self),
        }
    }

    /// Returns whether this is standard input or output, no matter what is made of it.
    pub fn is_stream(&self) -> bool {
        match self.kind {
            Kind::Stdin | Kind::Stdout => true,
            Kind::Tar => self.target == "-",
            _ => false,
        }
    }

    /// Appends a path below this location. Parts that would lead elsewhere are refused.
    pub fn join(&self, below: &OsStr) -> Result<Self, LocationError> {
        let bytes = below.as_encoded_bytes();
        let trimmed = bytes.strip_suffix(b"/").unwrap_or(bytes);
        if trimmed.split(|&b| b == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
            return Err(LocationError::BadSubPath(below.to_string_lossy().into_owned()));
        }
        if !self.kind.is_path() && below.to_str().is_none() {
            return Err(LocationError::NotText(below.to_string_lossy().into_owned()));
        }
        let mut target = self.target.clone();
        if !target.as_encoded_bytes().ends_with(b"/") {
            target.push("/");
        }
        target.push(below);
        Ok(Self { kind: self.kind, target })
    }

    /// Returns whether a URL leads to this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let parsed = self.url().and_then(|url| url::Url::parse(url).ok());
        match parsed.as_ref().and_then(url::Url::host) {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            None => false,
        }
    }

    /// Returns whether the name is one of an archive: whether it ends in `.ptar`.
    pub fn names_archive(&self) -> bool {
        ends_in_ptar(self.target.as_encoded_bytes())
    }

    /// Returns the location as one of an archive: where a new `.ptar` is written to, whatever its name ends in.
    #[must_use]
    pub fn as_archive(self) -> Self {
        let kind = if self.kind == Kind::Fs { Kind::Ptar } else { self.kind };
        Self { kind, ..self }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.target.to_str()) {
            (kind @ (Kind::Sqlite | Kind::Stdin | Kind::Stdout | Kind::Tar), _) => {
                write!(f, "{}:{}", kind.scheme(), Printable::os(&self.target))
            }
            (kind, Some(url)) if !kind.is_path() => write!(f, "{}", Printable::new(&redact(url))),
            _ => write!(f, "{}", Printable::os(&self.target)),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

/// Replaces a password in a URL's authority (`user:password@host`) by asterisks, and its query, which may hold a
/// signature, by `…`.
pub fn redact(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, _)) if url.contains("://") => (url, "?…"),
        _ => (url, ""),
    };
    let Some((scheme, rest)) = url.split_once("://") else { return format!("{url}{query}") };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{scheme}://{name}:********@{host}{path}{query}"),
            None => format!("{scheme}://{user}@{host}{path}{query}"),
        },
        None => format!("{scheme}://{rest}{query}"),
    }
}

/// Splits `scheme:rest`. A scheme is a known one, or any word of two and more characters before `://`.
fn split_scheme(bytes: &[u8]) -> Option<(String, &[u8])> {
    let colon = bytes.iter().position(|&b| b == b':')?;
    let (word, rest) = (&bytes[..colon], &bytes[colon + 1..]);
    let shaped = word.len() > 1
        && word[0].is_ascii_alphabetic()
        && word.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b));
    let word = shaped.then(|| String::from_utf8_lossy(word).to_ascii_lowercase())?;
    (Kind::from_scheme(&word).is_some() || rest.starts_with(b"//")).then_some((word, rest))
}

/// Returns the path in `fs:PATH` or `fs://PATH`.
fn path_after_scheme(text: &OsStr, scheme_length: usize) -> OsString {
    let rest = &text.as_encoded_bytes()[scheme_length + 1..];
    sys::os_part(rest.strip_prefix(b"//").unwrap_or(rest)).into_owned()
}

fn ends_in_ptar(bytes: &[u8]) -> bool {
    bytes.ends_with(b".ptar")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, role: Role) -> Result<Location, LocationError> {
        Location::parse(OsStr::new(text), role)
    }

    fn store(text: &str) -> Location {
        parse(text, Role::Store).unwrap()
    }

    #[test]
    fn every_spelling_finds_its_kind() {
        let cases = [
            ("/var/backups", Kind::Fs, "/var/backups"),
            ("./my-store", Kind::Fs, "./my-store"),
            ("fs:/a b", Kind::Fs, "/a b"),
            ("fs:///a", Kind::Fs, "/a"),
            ("odd:name", Kind::Fs, "odd:name"),
            ("C:x", Kind::Fs, "C:x"),
            ("x.ptar", Kind::Ptar, "x.ptar"),
            ("fs:x.ptar", Kind::Ptar, "x.ptar"),
            ("ptar:x", Kind::Ptar, "x"),
            ("fs:s3:x", Kind::Fs, "s3:x"),
            ("ptar:///srv/x", Kind::Ptar, "/srv/x"),
            ("sqlite:/srv/db", Kind::Sqlite, "/srv/db"),
            ("sqlite:///srv/db", Kind::Sqlite, "/srv/db"),
        ];
        for (text, kind, path) in cases {
            let location = store(text);
            assert_eq!((location.kind(), location.path()), (kind, Some(Path::new(path))), "{text}");
            assert_eq!(
                parse(location.spelling().to_str().unwrap(), Role::Store)
                    .map(|l| l.path().map(Path::to_owned)),
                Ok(Some(PathBuf::from(path))),
                "{text}"
            );
        }
        for (text, kind, url) in [
            ("s3://mybucket/restore-preview/", Kind::S3, "s3://mybucket/restore-preview/"),
            ("S3://h/b", Kind::S3, "S3://h/b"),
            ("sftp://u@h/p", Kind::Sftp, "sftp://u@h/p"),
            ("https://h/store", Kind::Https, "https://h/store"),
            ("https://h/x.ptar", Kind::PtarHttps, "https://h/x.ptar"),
            ("ptar+https://h/x", Kind::PtarHttps, "https://h/x"),
            ("ptar+http://h/x.ptar", Kind::PtarHttp, "http://h/x.ptar"),
        ] {
            let location = store(text);
            assert_eq!((location.kind(), location.url()), (kind, Some(url)), "{text}");
        }
    }

    #[test]
    fn a_role_decides_what_a_ptar_is() {
        assert_eq!(parse("x.ptar", Role::Source).unwrap().kind(), Kind::Fs);
        assert_eq!(parse("x.ptar", Role::Destination).unwrap().kind(), Kind::Fs);
        assert_eq!(
            parse("ptar:x", Role::Source),
            Err(LocationError::WrongRole { kind: Kind::Ptar, role: Role::Source })
        );
        assert_eq!(
            parse("ftp://h/p", Role::Store),
            Err(LocationError::WrongRole { kind: Kind::Ftp, role: Role::Store })
        );
    }

    #[test]
    fn what_is_no_location_is_refused() {
        assert_eq!(parse("", Role::Store), Err(LocationError::Empty));
        assert_eq!(parse("fs:", Role::Store), Err(LocationError::Empty));
        assert!(matches!(parse("s3:x", Role::Store), Err(LocationError::NoHost(_))));
        assert!(matches!(parse("s3://", Role::Store), Err(LocationError::NoHost(_))));
        assert!(matches!(parse("s3:///b", Role::Store), Err(LocationError::NoHost(_))));
        let error = parse("gopher://u:secret@h/x", Role::Store).unwrap_err().to_string();
        assert_eq!(error, "unknown location scheme gopher: in gopher://u:********@h/x");
    }

    #[test]
    fn passwords_and_queries_are_not_shown() {
        assert_eq!(store("sftp://u:pw@h/p").to_string(), "sftp://u:********@h/p");
        assert_eq!(format!("{:?}", store("sftp://u:p@w@h")), "Location(sftp://u:********@h)");
        assert_eq!(store("https://h/a?X-Amz-Signature=1").to_string(), "https://h/a?…");
        assert_eq!(store("/a?b").to_string(), "/a?b");
        assert_eq!(store("sqlite:/a").to_string(), "sqlite:/a");
    }

    #[test]
    fn streams_and_tar_files_are_places_too() {
        for (text, kind, path, shown) in [
            ("stdin:", Kind::Stdin, "", "stdin:"),
            ("stdin://", Kind::Stdin, "", "stdin:"),
            ("stdin:db/dump.sql", Kind::Stdin, "db/dump.sql", "stdin:db/dump.sql"),
            ("stdin://dump.sql", Kind::Stdin, "dump.sql", "stdin:dump.sql"),
            ("tar:x.tar.gz", Kind::Tar, "x.tar.gz", "tar:x.tar.gz"),
            ("tar:///srv/x.tar", Kind::Tar, "/srv/x.tar", "tar:/srv/x.tar"),
            ("tar:-", Kind::Tar, "-", "tar:-"),
        ] {
            let location = parse(text, Role::Source).unwrap();
            assert_eq!((location.kind(), location.path()), (kind, Some(Path::new(path))), "{text}");
            assert_eq!(
                (location.to_string().as_str(), location.spelling().to_str().unwrap()),
                (shown, shown)
            );
            assert_eq!(location.is_stream(), path == "-" || kind == Kind::Stdin, "{text}");
            assert!(parse(text, Role::Store).is_err() && parse(text, Role::Destination).is_err());
        }
        assert_eq!(parse("tar:", Role::Source), Err(LocationError::Empty));
        assert_eq!(parse("stdout:", Role::Destination).unwrap().kind(), Kind::Stdout);
        let stream = parse("tar:-", Role::Source).unwrap();
        assert_eq!(stream.clone().absolute().unwrap(), stream);
        assert!(parse("tar:x", Role::Source).unwrap().absolute().unwrap().path().unwrap().is_absolute());
    }

    #[test]
    fn a_path_below_stays_below() {
        assert_eq!(store("s3://h/b/").join("x/y.ptar".as_ref()).unwrap().url(), Some("s3://h/b/x/y.ptar"));
        assert_eq!(store("/a").join("b".as_ref()).unwrap().path(), Some(Path::new("/a/b")));
        for below in ["", "..", "a/../b", "/a", "a//b", "."] {
            assert!(store("/a").join(below.as_ref()).is_err(), "{below}");
        }
    }
}
