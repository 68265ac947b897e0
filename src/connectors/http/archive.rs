//! The archive as a read-only store.

use ureq::http::StatusCode;

use super::client::Client;
use super::part::{self, ContentRange, Version};
use super::patience::{Failure, Patience};
use crate::base::Cancel;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::remote::{Ranges, RemoteArchive, TAIL, Tail};

/// A `.ptar` on a web server, opened as a store that holds one packfile and one state.
pub type HttpArchive = RemoteArchive<HttpFile>;

/// One version of a file on a web server.
#[derive(Debug)]
pub struct HttpFile {
    client: Client,
    version: Version,
    total: u64,
}

impl Ranges for HttpFile {
    fn target(&self) -> String {
        self.client.target().to_owned()
    }

    fn fetch(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        fetch(&self.client, &self.version, self.total, offset, length)
    }
}

impl HttpArchive {
    /// Opens an archive and checks its container, with two requests where the server serves suffix ranges.
    ///
    /// `url` is `http://…` or `https://…`, with or without `ptar+` before it. Fails with `NotFound`, `Denied`,
    /// `Transport`; with `Unsupported` when the server does not serve ranges; with `Invalid` when the file is no
    /// archive, and with `Protocol` when it was cut short.
    pub fn open(url: &str, patience: Patience, cancel: Cancel) -> Result<Self> {
        let client = Client::new(url.strip_prefix("ptar+").unwrap_or(url), patience, cancel)?;
        let (tail, version) = match fetch_suffix(&client)? {
            Some(fetched) => fetched,
            None => fetch_end(&client)?,
        };
        let modified = version.modified.as_deref().and_then(|text| httpdate::parse_http_date(text).ok());
        let file = HttpFile { client, version, total: tail.total() };
        Self::open_ranges(file, tail, modified)
    }
}

/// Fetches the end by a suffix range. Returns `None` when the server does not do that.
fn fetch_suffix(client: &Client) -> Result<Option<(Tail, Version)>> {
    client.persist(|| {
        let answer = match client.get(&format!("bytes=-{TAIL}"), None) {
            Ok(answer) => answer,
            // Servers that refuse a kind of range they do not know.
            Err(Failure { error, .. }) if error.kind == ErrorKind::Protocol => return Ok(Some(None)),
            Err(failure) => return Err(failure),
        };
        let headers = answer.headers();
        let version = Version::of(headers);
        if !part::is_plain(headers) {
            return Err(encoded(client).into());
        }
        let length = part::content_length(headers);
        let offset = match (answer.status(), ContentRange::of(headers), length) {
            (StatusCode::PARTIAL_CONTENT, Some(range), _)
                if range.last + 1 == range.total && range.length() == TAIL.min(range.total) =>
            {
                range.first
            }
            // A file so short that all of it is the end.
            (StatusCode::OK, _, Some(length)) if length <= TAIL => {
                let mut bytes = Vec::new();
                client.read_body(answer.into_body(), length, &mut bytes)?;
                return Ok(Some(Some((Tail { offset: 0, bytes }, version))));
            }
            (StatusCode::PARTIAL_CONTENT, ..) => return Err(wrong_part(client).into()),
            _ => return Ok(Some(None)),
        };
        let total = ContentRange::of(headers).map_or(0, |range| range.total);
        let mut bytes = Vec::new();
        client.read_body(answer.into_body(), total - offset, &mut bytes)?;
        Ok(Some(Some((Tail { offset, bytes }, version))))
    })
}

/// Fetches the end by its place, which takes a request for the length first.
fn fetch_end(client: &Client) -> Result<(Tail, Version)> {
    let headers = client.persist(|| client.head().map(Some))?;
    let total = part::content_length(&headers).ok_or_else(|| {
        client.error(ErrorKind::Unsupported, "the server does not tell the length of the file")
    })?;
    let version = Version::of(&headers);
    let length = TAIL.min(total);
    if length == 0 {
        return Ok((Tail { offset: 0, bytes: Vec::new() }, version));
    }
    let offset = total - length;
    let length = usize::try_from(length).expect("at most 64 KiB");
    let bytes = fetch(client, &version, total, offset, length)?;
    Ok((Tail { offset, bytes }, version))
}

/// Fetches a range of a version, going on where a connection broke off.
fn fetch(client: &Client, version: &Version, total: u64, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    if length == 0 {
        return Ok(out);
    }
    let last = offset + length as u64 - 1;
    client.persist(|| {
        let first = offset + out.len() as u64;
        let answer = client.get(&format!("bytes={first}-{last}"), Some(version))?;
        let headers = answer.headers();
        let changed =
            || client.error(ErrorKind::Changed, "the archive was replaced by another while it was read");
        if version.differs(&Version::of(headers)) || answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(changed().into());
        }
        if answer.status() != StatusCode::PARTIAL_CONTENT {
            let detail = "the server does not serve parts of a file (ranges): download the archive first";
            return Err(client.error(ErrorKind::Unsupported, detail).into());
        }
        if !part::is_plain(headers) {
            return Err(encoded(client).into());
        }
        match ContentRange::of(headers) {
            Some(range) if range.total != total => Err(changed().into()),
            // A server may send less than was asked for, from the beginning.
            Some(range) if range.first == first && range.last <= last => {
                let before = out.len();
                let read = client.read_body(answer.into_body(), range.length(), &mut out);
                match read {
                    Ok(()) if range.last == last => Ok(Some(())),
                    _ if out.len() > before => Ok(None),
                    Ok(()) => Err(wrong_part(client).into()),
                    Err(failure) => Err(failure),
                }
            }
            _ => Err(wrong_part(client).into()),
        }
    })?;
    Ok(out)
}

fn wrong_part(client: &Client) -> Error {
    client.error(ErrorKind::Protocol, "the server sent another part of the file than it was asked for")
}

fn encoded(client: &Client) -> Error {
    client.error(ErrorKind::Protocol, "the server sent the file compressed, which it was not asked to")
}
