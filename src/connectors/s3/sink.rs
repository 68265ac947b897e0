//! An archive written as one object, as a stream whose length nobody knows.
//!
//! What fits the first part goes up in one PUT. More goes up in parts that grow (see `parts`), several in flight; a
//! part that is more than its share of the memory waits in an unlinked file. Nothing is visible under the name before
//! the last request, and an upload that is not committed is aborted.
//!
//! **An existing object** is kept unless it may be overwritten: it is asked for at the beginning and, for parts, once
//! more at the end; the PUT, or what ends the parts, also carries `If-None-Match: *`. A key that may put objects and
//! nothing else cannot ask: then the condition alone decides, where the server knows it.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use md5::{Digest, Md5};

use super::archive::object_key;
use super::client::{Client, Condition, Failure, Part, Put, Result as Answer, Rewind, Source};
use super::options::Options;
use super::parts::Growing;
use crate::base::{Cancel, sys};
use crate::connector::{ArchiveSink, Error, ErrorKind, Result, WriteFault};

/// Parts in flight beside the one that is being filled.
const AT_ONCE: usize = 4;
/// The memory of a run in bytes where nothing else is said.
const MEMORY: u64 = 256 << 20;
/// All parts together may take one part in this many of it.
const SHARE: u64 = 8;
/// How often a part in flight is looked after.
const LOOK: Duration = Duration::from_millis(5);
/// How long the server may take to hear that an upload is given up when the whole run is.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long threads may take to notice that they are to stop.
const GRACE: Duration = Duration::from_millis(500);

/// How an archive is written to a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SinkOptions {
    /// Whether an existing object may be replaced.
    pub overwrite: bool,
    /// The length to expect, in bytes.
    pub size_hint: Option<u64>,
    /// The memory of the whole run, in bytes.
    pub memory: Option<u64>,
}

/// An archive in the making in a bucket.
#[derive(Debug)]
pub struct S3Sink {
    uplink: Arc<Uplink>,
    put: Put,
    overwrite: bool,
    sizes: Growing,
    /// What a part may hold in memory, in bytes.
    share: usize,
    filling: Filling,
    /// Begun with the second part.
    upload: Option<Arc<str>>,
    jobs: VecDeque<JoinHandle<Answer<Part>>>,
    parts: Vec<Part>,
    sent: u64,
    /// A part that failed is gone from `jobs`: nothing may be numbered after it.
    fault: WriteFault,
    done: bool,
}

/// What the threads that send share.
#[derive(Debug)]
struct Uplink {
    client: Client,
    key: Vec<u8>,
    /// Set when the upload is given up, for whatever reason; the client's own says that the whole run is.
    stop: Cancel,
}

impl S3Sink {
    /// Begins an archive at the location of `options`.
    ///
    /// Fails with `Exists` when there is an object and it may not be overwritten, and with `Invalid` when the location
    /// names no object.
    pub fn create(options: Options, sink: SinkOptions) -> Result<Self> {
        let key = object_key(&options)?;
        let stop = Cancel::new();
        let class = options.storage_class.clone().filter(|class| class != "STANDARD");
        let headers = class.map(|class| ("x-amz-storage-class".into(), class.into())).into_iter().collect();
        let client = Client::new(options)?;
        let mut sizes = Growing::new(client.max_parts(), sink.size_hint);
        let first = sizes.next().unwrap_or_default();
        let share = sink.memory.unwrap_or(MEMORY) / SHARE / (AT_ONCE as u64 + 1);
        let made = Self {
            uplink: Arc::new(Uplink { client, key, stop: stop.clone() }),
            put: Put { headers, ..Put::default() },
            overwrite: sink.overwrite,
            sizes,
            share: usize::try_from(share).unwrap_or(usize::MAX),
            filling: Filling::new(first, stop),
            upload: None,
            jobs: VecDeque::new(),
            parts: Vec::new(),
            sent: 0,
            fault: WriteFault::default(),
            done: false,
        };
        if !made.overwrite {
            made.refuse_existing()?;
        }
        Ok(made)
    }

    fn target(&self) -> String {
        self.uplink.client.target(Some(&self.uplink.key))
    }

    fn exists(&self) -> Error {
        Error::new(ErrorKind::Exists, "create", self.target())
            .detail("the object exists; -overwrite replaces it")
    }

    /// Fails when the name is known to be taken.
    fn refuse_existing(&self) -> Result<()> {
        match self.uplink.client.head(&self.uplink.key) {
            Ok(_) => Err(self.exists()),
            // A key that may not look (403) cannot know.
            Err(failure) if matches!(failure.status, 403 | 404) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Hands the full part to a thread and begins the next.
    fn send_part(&mut self) -> Result<()> {
        let upload = match &self.upload {
            Some(upload) => Arc::clone(upload),
            None => self.begin()?,
        };
        while self.jobs.len() >= AT_ONCE {
            self.wait_for_one()?;
        }
        let Some(size) = self.sizes.next() else {
            let parts = self.uplink.client.max_parts();
            return Err(Error::new(ErrorKind::Full, "write", self.target()).detail(format!(
                "the archive does not fit {parts} parts; -size-hint makes them larger from the start"
            )));
        };
        let full = std::mem::replace(&mut self.filling, Filling::new(size, self.uplink.stop.clone()));
        self.sent += full.length();
        let number = (self.parts.len() + self.jobs.len()) as u64 + 1;
        let uplink = Arc::clone(&self.uplink);
        let send = move || uplink.client.upload_part(&uplink.key, &upload, number, Source::Local(&full));
        let job = std::thread::Builder::new()
            .name("upload".into())
            .spawn(send)
            .map_err(|error| Error::io("write", self.target(), error))?;
        self.jobs.push_back(job);
        Ok(())
    }

    /// Begins the upload, making the bucket if the server says that there is none.
    fn begin(&mut self) -> Result<Arc<str>> {
        let Uplink { client, key, .. } = &*self.uplink;
        // What a run that was killed left of the same archive. Nothing depends on it.
        let _ = client.sweep_uploads(key);
        let id = match client.begin_upload(key, &self.put) {
            Err(failure) if failure.is_no_bucket() => {
                client.create_bucket()?;
                client.begin_upload(key, &self.put)
            }
            result => result,
        };
        let id: Arc<str> = id?.into();
        self.upload = Some(Arc::clone(&id));
        Ok(id)
    }

    fn wait_for_one(&mut self) -> Result<()> {
        while self.jobs.front().is_some_and(|job| !job.is_finished()) {
            self.check_cancelled()?;
            std::thread::sleep(LOOK);
        }
        if let Some(job) = self.jobs.pop_front() {
            let lost = || Failure::new(ErrorKind::Io, "upload", &self.target(), "the thread that sends died");
            self.parts.push(job.join().unwrap_or_else(|_| Err(lost()))?);
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.uplink.client.options().cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "write", self.target()));
        }
        Ok(())
    }

    /// Takes bytes into the part that is being filled; waits for parts in flight when the disk is full of them.
    fn fill(&mut self, bytes: &[u8]) -> Result<usize> {
        self.check_cancelled()?;
        if self.filling.room() == 0 {
            self.send_part()?;
        }
        while !self.filling.has_space(self.share, bytes.len()) {
            if self.jobs.is_empty() {
                let detail = format!(
                    "a part of {} MiB does not fit {}; set TMPDIR to a larger place",
                    self.filling.limit >> 20,
                    std::env::temp_dir().display()
                );
                return Err(Error::new(ErrorKind::Full, "write", self.target()).detail(detail));
            }
            self.wait_for_one()?;
        }
        self.filling
            .push(bytes, self.share)
            .map_err(|error| Error::io("write", "a temporary file for a part of the upload", error))
    }

    /// Puts an archive that is no larger than its first part.
    fn put_whole(&self) -> Result<()> {
        let Uplink { client, key, .. } = &*self.uplink;
        let send =
            |condition: &Condition| client.put(key, &self.put, Source::Local(&self.filling), condition);
        let mut condition = if self.overwrite { Condition::Always } else { Condition::IfAbsent };
        let mut result = send(&condition);
        if result.as_ref().is_err_and(|failure| failure.is_no_bucket()) {
            client.create_bucket()?;
            result = send(&condition);
        }
        if result.as_ref().is_err_and(|failure| failure.status == 501) {
            condition = Condition::Always;
            result = send(&condition);
        }
        match result {
            // Somebody else's, or our own, whose answer was lost.
            Err(failure) if failure.status == 412 && !self.is_ours()? => Err(self.exists()),
            Err(failure) if failure.status != 412 => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// Returns whether the object that is there holds what was to be put.
    fn is_ours(&self) -> Result<bool> {
        let Ok(head) = self.uplink.client.head(&self.uplink.key) else { return Ok(false) };
        if head.length != self.filling.length() {
            return Ok(false);
        }
        let mut digest = Md5::new();
        let mut body = self.filling.open()?;
        let mut piece = vec![0; 256 << 10];
        loop {
            match body.read(&mut piece).map_err(|error| Error::io("read", self.target(), error))? {
                0 => break,
                n => digest.update(&piece[..n]),
            }
        }
        let mine = digest.finalize();
        let theirs = head.etag();
        let digits = theirs.as_bytes().chunks(2).map(|pair| {
            let text = std::str::from_utf8(pair).unwrap_or_default();
            u8::from_str_radix(text, 16).ok()
        });
        Ok(theirs.len() == 2 * mine.len() && digits.eq(mine.iter().map(|byte| Some(*byte))))
    }

    /// Sends what is left and makes the parts one object.
    fn complete(&mut self, upload: &str) -> Result<()> {
        if self.filling.length() > 0 {
            self.send_part()?;
        }
        while !self.jobs.is_empty() {
            self.wait_for_one()?;
        }
        if !self.overwrite {
            self.refuse_existing()?;
        }
        let Uplink { client, key, .. } = &*self.uplink;
        let condition = if self.overwrite { Condition::Always } else { Condition::IfAbsent };
        match client.complete_upload(key, upload, &self.parts, self.sent, &condition) {
            Err(failure) if failure.status == 412 => return Err(self.exists()),
            completed => completed?,
        };
        match client.head(key) {
            Ok(head) if head.length != self.sent => {
                let detail = format!("{} bytes were sent, the server holds {}", self.sent, head.length);
                Err(Error::new(ErrorKind::Protocol, "write", self.target()).detail(detail))
            }
            // A key that may only put cannot look; the server has acknowledged every part under its checksum.
            _ => Ok(()),
        }
    }

    /// Ends all threads and gives the upload up; returns what could not be cleaned up.
    fn abandon(&mut self) -> Option<Box<Failure>> {
        self.uplink.stop.cancel();
        let end = Instant::now() + GRACE;
        while self.jobs.iter().any(|job| !job.is_finished()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.jobs.clear();
        let upload = self.upload.take()?;
        // The client of the upload may refuse to send anything by now, and there is little time.
        let mut options = Options { cancel: Cancel::new(), ..self.uplink.client.options().clone() };
        if self.uplink.client.options().cancel.is_cancelled() {
            options.tuning.stall_timeout = options.tuning.stall_timeout.min(LAST_WORD);
            options.tuning.connect_timeout = options.tuning.connect_timeout.min(LAST_WORD);
            options.tuning.attempts = 1;
        }
        Client::new(options).ok()?.abort_upload(&self.uplink.key, &upload).err()
    }
}

impl Write for S3Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.fault.check(self.target()).map_err(io::Error::other)?;
        let filled = self.fill(bytes).map_err(io::Error::other);
        self.fault.note(filled)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ArchiveSink for S3Sink {
    fn commit(mut self: Box<Self>) -> Result<()> {
        let result = self.fault.check(self.target()).and_then(|()| match self.upload.clone() {
            Some(upload) => self.complete(&upload),
            None => self.put_whole(),
        });
        self.done = result.is_ok();
        result.map_err(|mut error| {
            if let Some(left) = self.abandon() {
                let detail = error.detail.take().map(|detail| format!("{detail}; ")).unwrap_or_default();
                error.detail = Some(format!("{detail}the parts sent so far are left behind: {left}"));
            }
            error
        })
    }
}

impl Drop for S3Sink {
    fn drop(&mut self) {
        if !self.done {
            // Nobody is left to tell; the server's own rules remove what cannot be removed here.
            let _ = self.abandon();
        }
    }
}

/// A part that takes bytes, in memory first and in an unlinked file when they become many.
struct Filling {
    limit: u64,
    bytes: Vec<u8>,
    file: Option<(File, u64)>,
    stop: Cancel,
}

impl fmt::Debug for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filling({} of {} bytes)", self.length(), self.limit)
    }
}

impl Filling {
    fn new(limit: u64, stop: Cancel) -> Self {
        Self { limit, bytes: Vec::new(), file: None, stop }
    }

    /// Returns how many more bytes it takes.
    fn room(&self) -> u64 {
        self.limit - self.length()
    }

    /// Returns whether there is space for what comes: asked of the disk once, when a part begins to need it.
    fn has_space(&self, share: usize, more: usize) -> bool {
        if self.file.is_some() || self.bytes.len().saturating_add(more) <= share {
            return true;
        }
        sys::free_space(&std::env::temp_dir()).is_none_or(|free| free >= self.limit)
    }

    /// Takes as much as there is room for; returns how much that was.
    fn push(&mut self, bytes: &[u8], share: usize) -> io::Result<usize> {
        let taken = usize::try_from(self.room()).map_or(bytes.len(), |room| room.min(bytes.len()));
        let bytes = &bytes[..taken];
        if self.file.is_none() && self.bytes.len() + taken > share {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.bytes)?;
            self.file = Some((file, self.bytes.len() as u64));
            self.bytes = Vec::new();
        }
        match &mut self.file {
            Some((file, length)) => {
                file.write_all(bytes)?;
                *length += taken as u64;
            }
            None => self.bytes.extend_from_slice(bytes),
        }
        Ok(taken)
    }
}

impl Rewind for Filling {
    fn length(&self) -> u64 {
        self.file.as_ref().map_or(self.bytes.len() as u64, |(_, length)| *length)
    }

    fn open(&self) -> Result<Box<dyn Read + '_>> {
        let stop = &self.stop;
        match &self.file {
            None => Ok(Box::new(Stoppable { inner: &self.bytes[..], stop })),
            Some((file, length)) => {
                Ok(Box::new(Stoppable { inner: PartFile { file, at: 0, left: *length }, stop }))
            }
        }
    }
}

/// A file read by position, so that attempts do not disturb each other.
struct PartFile<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for PartFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let n = sys::FileAt::read_at(self.file, &mut buffer[..most], self.at)?;
        if n == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// A body that ends in an error once the upload is given up.
struct Stoppable<'a, R> {
    inner: R,
    stop: &'a Cancel,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other(Error::new(ErrorKind::Cancelled, "send", "a part of the upload")));
        }
        self.inner.read(buffer)
    }
}
