//! The archive as a read-only store.

use std::fs::File;
use std::time::SystemTime;

use ureq::http::StatusCode;

use super::client::{Client, Failure, Patience};
use super::part::{self, ContentRange, Version};
use crate::base::Id;
use crate::connector::{Body, Error, ErrorKind, Kind, Listed, Result, Storage};
use crate::connectors::container::{self, HEAD, MAX_CONFIG, TRAILER};
use crate::format::ptar::{Layout, Section};

/// How much of the end is fetched at once and kept, in bytes.
const TAIL: u64 = 64 << 10;

/// A `.ptar` on a web server, opened as a store that holds one packfile and one state.
#[derive(Debug)]
pub struct HttpArchive {
    client: Client,
    version: Version,
    layout: Layout,
    config: Vec<u8>,
    tail: Tail,
    modified: Option<SystemTime>,
}

/// The end of the file.
#[derive(Debug)]
struct Tail {
    offset: u64,
    bytes: Vec<u8>,
}

impl Tail {
    fn total(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    fn get(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(from..from.checked_add(length)?)
    }
}

impl HttpArchive {
    /// Opens an archive and checks its container, with two requests where the server serves suffix ranges.
    ///
    /// `url` is `http://…` or `https://…`, with or without `ptar+` before it. Fails with `NotFound`, `Denied`,
    /// `Transport`; with `Unsupported` when the server does not serve ranges; with `Invalid` when the file is no
    /// archive, and with `Protocol` when it was cut short.
    pub fn open(url: &str, patience: Patience) -> Result<Self> {
        let client = Client::new(url.strip_prefix("ptar+").unwrap_or(url), patience)?;
        let (tail, version) = match fetch_suffix(&client)? {
            Some(fetched) => fetched,
            None => fetch_end(&client)?,
        };
        let total = tail.total();
        if total < HEAD + TRAILER {
            return Err(container::no_archive(&tail.bytes, client.target()));
        }
        let trailer = &tail.bytes[tail.bytes.len() - 48..];
        // The beginning and CONFIG in one request, if the table makes sense; if not, the beginning tells why.
        let length = usize::try_from((HEAD + config_length(trailer)).min(total)).expect("at most 33 KiB");
        let begin = match tail.get(0, length) {
            Some(bytes) => bytes.to_vec(),
            None => fetch(&client, &version, total, 0, length)?,
        };
        let layout = container::parse(&begin, trailer, total, client.target())?;
        let config = begin[12..].to_vec();
        let modified = version.modified.as_deref().and_then(|text| httpdate::parse_http_date(text).ok());
        Ok(Self { client, version, layout, config, tail, modified })
    }

    fn read_all(&self, section: Section) -> Result<Vec<u8>> {
        let length = usize::try_from(section.length)
            .map_err(|_| self.client.error(ErrorKind::Full, "it does not fit the address space"))?;
        match self.tail.get(section.offset, length) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => fetch(&self.client, &self.version, self.tail.total(), section.offset, length),
        }
    }
}

/// Returns the length of CONFIG that a table of sections tells, before it was checked; 0 if it cannot be.
fn config_length(trailer: &[u8]) -> u64 {
    let length = trailer.get(8..).and_then(|rest| rest.first_chunk()).map(|bytes| u64::from_le_bytes(*bytes));
    length.filter(|length| *length <= MAX_CONFIG).unwrap_or(0)
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

impl Storage for HttpArchive {
    fn location(&self) -> String {
        self.client.target().to_owned()
    }

    fn create(&self, _config: &[u8]) -> Result<()> {
        Err(container::read_only("create", &self.location()))
    }

    fn config(&self) -> Result<Vec<u8>> {
        Ok(self.config.clone())
    }

    fn replace_config(&self, _expected: &[u8], _new: &[u8]) -> Result<()> {
        Err(container::read_only("replace CONFIG of", &self.location()))
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        if let Some((id, size)) = container::listed(&self.layout, kind) {
            each(Listed { id, size, modified: self.modified, tag: None });
        }
        Ok(())
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        Ok(container::find(&self.layout, kind, id, self.client.target())?.length)
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        self.read_all(container::find(&self.layout, kind, id, self.client.target())?)
    }

    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let target = self.client.target();
        let at = container::locate(container::find(&self.layout, kind, id, target)?, offset, length, target)?;
        match self.tail.get(at, length) {
            Some(bytes) => consume(bytes),
            None => consume(&fetch(&self.client, &self.version, self.tail.total(), at, length)?),
        }
        Ok(())
    }

    fn spool(&self) -> Result<File> {
        Err(container::read_only("write to", &self.location()))
    }

    fn put(&self, _kind: Kind, _id: Id, _body: Body<'_>) -> Result<()> {
        Err(container::read_only("write to", &self.location()))
    }

    fn delete(&self, _kind: Kind, _id: Id) -> Result<()> {
        Err(container::read_only("delete from", &self.location()))
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn is_archive(&self) -> bool {
        true
    }
}
