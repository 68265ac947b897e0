//! A store behind a server that speaks the store protocol.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::num::NonZeroUsize;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use ureq::http::Method;
use ureq::http::header::{ACCEPT, ETAG, HeaderName, IF_MATCH, RANGE};

use super::listing::{self, Row};
use super::part::{self, ContentRange};
use super::patience::Failure;
use super::session::{Answer, Ask, HttpOptions, Payload, Session, SpoolFailed};
use crate::base::Id;
use crate::base::sys::FileAt as _;
use crate::connector::{Body, Error, ErrorKind, Kind, Listed, Purpose, Result, Storage};
use crate::connectors::container::{MAX_CONFIG, past_the_end};
use crate::format::ptar::STATE_ID;

/// The longest listing that is taken, in bytes: tens of millions of resources.
const MAX_LISTING: u64 = 4 << 30;
/// A listing of at most this many bytes is not spooled.
const LISTING_IN_MEMORY: usize = 1 << 20;
/// Requests for sizes under way at once, where a listing does not tell them.
const THREADS: usize = 8;
/// How many sizes are remembered.
const SIZES: NonZeroUsize = NonZeroUsize::new(1 << 16).expect("not zero");
/// What is asked for first in a listing, and what else is taken.
const DETAILS: &str = "application/vnd.plakar.resources+json, application/json;q=0.9";

/// What a server tells about itself with CONFIG.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Facts {
    read_only: bool,
    archive: bool,
}

/// A store behind a server.
#[derive(Debug)]
pub struct HttpStore {
    session: Session,
    facts: Mutex<Facts>,
    /// Packfiles and states never change, so neither do their lengths.
    sizes: Mutex<LruCache<(Kind, Id), u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(kind: Kind, id: Id) -> String {
    format!("resources/{}/{id}", kind.folder())
}

impl HttpStore {
    /// Makes the connector of `http://…` or `https://…`; no request is sent yet. Fails with `Invalid` where the URL,
    /// the token or the file of certificates cannot be used.
    pub fn new(url: &str, options: HttpOptions) -> Result<Self> {
        Ok(Self {
            session: Session::new(url, options)?,
            facts: Mutex::default(),
            sizes: Mutex::new(LruCache::new(SIZES)),
        })
    }

    fn target(&self, kind: Kind, id: Id) -> String {
        format!("{}/{}", self.session.target(), path(kind, id))
    }

    /// Reads CONFIG, its tag, and what the server tells with it.
    fn fetch_config(&self) -> Result<(Vec<u8>, Option<String>)> {
        let ask = Ask::new("read CONFIG of", Method::GET, "");
        let (config, etag, facts) = self.session.run(&ask, &mut |answer| {
            self.plain(&answer, "")?;
            let etag = answer.text(ETAG.as_str()).map(str::to_owned);
            let facts = answer.text("plakar-access").map(|access| Facts {
                read_only: access == "read",
                archive: answer.text("plakar-layout") == Some("archive"),
            });
            Ok((answer.bytes(MAX_CONFIG)?, etag, facts))
        })?;
        *lock(&self.facts) = match facts {
            Some(facts) => facts,
            None => self.guess()?,
        };
        Ok((config, etag))
    }

    /// Finds out whether a server that does not tell serves an archive: those have one state, always of one name.
    fn guess(&self) -> Result<Facts> {
        let mut states = Vec::new();
        self.fetch_listing(Kind::State, &mut |row| {
            if states.len() < 2 {
                states.push(row.id);
            }
        })?;
        let archive = states == [STATE_ID];
        Ok(Facts { read_only: archive, archive })
    }

    /// Fails where an answer is compressed, or only a part of what was asked for.
    fn plain(&self, answer: &Answer<'_>, path: &str) -> Result<(), Failure> {
        let failed = |what: &str| Err(self.session.failure(ErrorKind::Protocol, "read", path, what));
        if !part::is_plain(&answer.headers) {
            return failed("the server sent it compressed, which it was not asked to");
        }
        if answer.status != 200 {
            return failed("the server sent a part that it was not asked for");
        }
        Ok(())
    }

    /// Fetches a listing as a whole before any of it is passed on: a connection that breaks off then does no harm.
    fn fetch_listing(&self, kind: Kind, each: &mut dyn FnMut(Row)) -> Result<()> {
        let mut ask = Ask::new("list", Method::GET, format!("resources/{}", kind.folder()));
        ask.headers.push((ACCEPT, DETAILS.into()));
        let mut spool = self.session.run(&ask, &mut |answer| {
            self.plain(&answer, &ask.path)?;
            let mut spool = tempfile::spooled_tempfile(LISTING_IN_MEMORY);
            answer.copy(MAX_LISTING, &mut spool)?;
            Ok(spool)
        })?;
        let io = |error| Error::io("read", "a temporary file", error);
        spool.rewind().map_err(io)?;
        listing::parse(io::BufReader::new(spool), each).map_err(|error| {
            let target = format!("{}/{}", self.session.target(), ask.path);
            Error::new(ErrorKind::Protocol, "list", target)
                .detail("the answer is not a list of ids: is this the URL of a store?")
                .because(error)
        })
    }

    /// Passes rows on, with their sizes asked for where the listing did not tell.
    fn complete(&self, kind: Kind, rows: Vec<Row>, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let unknown: Vec<Id> = rows.iter().filter(|row| row.size.is_none()).map(|row| row.id).collect();
        let sizes = self.sizes_of(kind, &unknown)?;
        let mut asked = sizes.into_iter();
        for Row { id, size, modified, tag } in rows {
            let size = match size {
                Some(size) => Some(size),
                None => asked.next().flatten(),
            };
            // What has gone meanwhile is not there.
            if let Some(size) = size {
                each(Listed { id, size, modified, tag });
            }
        }
        Ok(())
    }

    fn sizes_of(&self, kind: Kind, ids: &[Id]) -> Result<Vec<Option<u64>>> {
        let (next, found) = (AtomicUsize::new(0), Mutex::new(vec![None; ids.len()]));
        let work = || -> Result<()> {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(id) = ids.get(at) else { return Ok(()) };
                match self.size(kind, *id) {
                    Ok(size) => lock(&found)[at] = Some(size),
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        };
        if ids.len() <= 1 {
            work()?;
        } else {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS.min(ids.len())).map(|_| scope.spawn(work)).collect();
                let lost = || Err(Error::new(ErrorKind::Io, "list", self.session.target()));
                threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| lost()))
            })?;
        }
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts the bytes of a resource whose length the server does not tell.
    fn count(&self, kind: Kind, id: Id) -> Result<u64> {
        let ask = Ask::new("read", Method::GET, path(kind, id));
        self.session.run(&ask, &mut |answer| {
            self.plain(&answer, &ask.path)?;
            let mut counter = Counter(0);
            answer.copy(u64::MAX - 1, &mut counter)?;
            Ok(counter.0)
        })
    }

    /// Reads a range that is not empty.
    fn range(&self, kind: Kind, id: Id, offset: u64, length: usize, end: u64) -> Result<Vec<u8>> {
        let mut ask = Ask::new("read", Method::GET, path(kind, id));
        // The second number is exclusive here, against RFC 9110.
        ask.headers.push((RANGE, format!("bytes={offset}-{end}")));
        self.session.run(&ask, &mut |answer| {
            let wrong = |what: &str| self.session.failure(ErrorKind::Protocol, "read", &ask.path, what);
            if !part::is_plain(&answer.headers) {
                return Err(wrong("the server sent it compressed, which it was not asked to"));
            }
            let wanted = length as u64;
            let surplus = match (answer.status, ContentRange::of(&answer.headers)) {
                (200, _) => {
                    if let Some(told) = part::content_length(&answer.headers)
                        && told != wanted
                    {
                        return Err(wrong(&format!(
                            "the server sent {told} bytes where {wanted} were asked for"
                        )));
                    }
                    0
                }
                // By the standard the second number is the last byte: there is one more, or none where that was the
                // end.
                (206, Some(range)) if range.first == offset && range.last + 1 == end => 0,
                (206, Some(range)) if range.first == offset && range.last == end => 1,
                (206, Some(range)) if range.first == offset && range.last < end => {
                    return Err(past_the_end(&self.target(kind, id), offset, length, range.total).into());
                }
                _ => return Err(wrong("the server sent another part than it was asked for")),
            };
            let mut bytes = Vec::new();
            let mut reader = answer.reader();
            let broken = |error: &io::Error| self.session.broken("read", &ask.path, error);
            reader.by_ref().take(wanted).read_to_end(&mut bytes).map_err(|error| broken(&error))?;
            let more =
                io::copy(&mut reader.take(surplus + 1), &mut io::sink()).map_err(|error| broken(&error))?;
            if bytes.len() as u64 != wanted || more != surplus {
                return Err(wrong(&format!(
                    "the server did not send the {wanted} bytes that were asked for"
                )));
            }
            Ok(bytes)
        })
    }

    fn put_as(&self, kind: Kind, id: Id, purpose: Option<Purpose>, body: &Body<'_>) -> Result<()> {
        let mut ask = Ask::new("put", Method::PUT, path(kind, id));
        // A lock that may not be deleted is released by overwriting it, even when everything is to end.
        ask.at_the_end = kind == Kind::Lock;
        if purpose == Some(Purpose::Metadata) {
            ask.headers.push((HeaderName::from_static("plakar-purpose"), "metadata".into()));
        }
        let open;
        ask.payload = match body {
            Body::Bytes(bytes) => Payload::Bytes(bytes),
            Body::Spool { file, length } => {
                let (file, length): (&File, u64) = (file, *length);
                if file.metadata().map_err(|error| Error::io("read", "a temporary file", error))?.len()
                    < length
                {
                    return Err(Error::new(ErrorKind::Io, "put", self.target(kind, id))
                        .detail("the temporary file is shorter than what is to be put"));
                }
                open = move || -> Box<dyn Read + '_> { Box::new(FileReader { file, at: 0, left: length }) };
                Payload::Reader(&open, length)
            }
        };
        self.session.run(&ask, &mut |answer| {
            answer.bytes(MAX_CONFIG)?;
            Ok(())
        })
    }
}

/// Counts what it is given.
struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a file from its start, wherever its cursor stands.
struct FileReader<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self
            .file
            .read_at(&mut buffer[..most], self.at)
            .map_err(|error| io::Error::other(SpoolFailed(error)))?;
        if count == 0 && most > 0 {
            return Err(io::Error::other(SpoolFailed(io::ErrorKind::UnexpectedEof.into())));
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Storage for HttpStore {
    fn location(&self) -> String {
        self.session.target().to_owned()
    }

    fn create(&self, _config: &[u8]) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "create", self.location()).detail(
            "a store cannot be created over HTTP: create it where it is kept, then serve it with plakar server",
        ))
    }

    fn config(&self) -> Result<Vec<u8>> {
        Ok(self.fetch_config()?.0)
    }

    /// Replaces CONFIG where the server has that request: upstream's does not.
    fn replace_config(&self, expected: &[u8], new: &[u8]) -> Result<()> {
        let changed = || {
            Error::new(ErrorKind::Changed, "replace CONFIG of", self.location())
                .detail("it was changed meanwhile")
        };
        let (current, etag) = self.fetch_config()?;
        if current != expected {
            return Err(changed());
        }
        let etag = etag.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "replace CONFIG of", self.location())
                .detail("this server cannot do that: do it where the store is kept")
        })?;
        let mut ask = Ask::new("replace CONFIG of", Method::PUT, "");
        ask.headers.push((IF_MATCH, etag));
        ask.payload = Payload::Bytes(new);
        let replaced = self.session.run(&ask, &mut |answer| answer.bytes(MAX_CONFIG).map(drop));
        match replaced {
            // The answer to a first attempt may have been lost.
            Err(error) if error.kind == ErrorKind::Changed => {
                if self.config()? == new {
                    Ok(())
                } else {
                    Err(changed())
                }
            }
            other => other,
        }
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let mut unknown = Vec::new();
        self.fetch_listing(kind, &mut |row| match row.size {
            Some(size) => {
                each(Listed { id: row.id, size, modified: row.modified, tag: row.tag });
            }
            None => unknown.push(row),
        })?;
        self.complete(kind, unknown, each)
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        if let Some(size) = lock(&self.sizes).get(&(kind, id)) {
            return Ok(*size);
        }
        let ask = Ask::new("read", Method::HEAD, path(kind, id));
        let told = self.session.run(&ask, &mut |answer| Ok(part::content_length(&answer.headers)));
        let size = match told {
            // Servers that have no HEAD, or do not tell the length there: no resource is empty.
            Ok(None | Some(0)) => self.count(kind, id)?,
            Err(error) if matches!(error.kind, ErrorKind::Unsupported | ErrorKind::Protocol) => {
                self.count(kind, id)?
            }
            other => other?.unwrap_or_default(),
        };
        if kind != Kind::Lock {
            lock(&self.sizes).put((kind, id), size);
        }
        Ok(size)
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        let ask = Ask::new("read", Method::GET, path(kind, id));
        self.session.run(&ask, &mut |answer| {
            self.plain(&answer, &ask.path)?;
            answer.bytes(kind.most_whole())
        })
    }

    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let end = u64::try_from(length).ok().and_then(|length| offset.checked_add(length));
        let Some(end) = end else {
            return Err(past_the_end(&self.target(kind, id), offset, length, u64::MAX));
        };
        if length == 0 {
            // There may be nothing at the place, but the resource must reach there.
            let size = self.size(kind, id)?;
            if offset > size {
                return Err(past_the_end(&self.target(kind, id), offset, length, size));
            }
            consume(&[]);
            return Ok(());
        }
        consume(&self.range(kind, id, offset, length, end)?);
        Ok(())
    }

    fn spool(&self) -> Result<File> {
        tempfile::tempfile().map_err(|error| Error::io("create", "a temporary file", error))
    }

    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> Result<()> {
        self.put_as(kind, id, None, &body)
    }

    fn put_packfile(&self, id: Id, purpose: Purpose, body: Body<'_>) -> Result<()> {
        self.put_as(Kind::Packfile, id, Some(purpose), &body)
    }

    fn delete(&self, kind: Kind, id: Id) -> Result<()> {
        let mut ask = Ask::new("delete", Method::DELETE, path(kind, id));
        ask.at_the_end = kind == Kind::Lock;
        lock(&self.sizes).pop(&(kind, id));
        match self.session.run(&ask, &mut |answer| answer.bytes(MAX_CONFIG).map(drop)) {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn parallelism(&self) -> usize {
        THREADS
    }

    fn is_read_only(&self) -> bool {
        lock(&self.facts).read_only
    }

    fn is_archive(&self) -> bool {
        lock(&self.facts).archive
    }
}
