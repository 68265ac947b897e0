//! A large object read by ranges, several at a time, and delivered in order.
//!
//! One connection rarely delivers all that a server has to give. The first range is read as it comes; those behind
//! it are fetched whole, each on a thread of its own and into memory that was set aside for it, so that several
//! large objects together take no more than the connector may have.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use super::client::{Client, Failure, Result};
use crate::base::budget::{Budget, Permit};
use crate::connector::ErrorKind;

/// Objects of fewer bytes are read in one request.
pub(super) const LARGE: u64 = 16 << 20;
/// Ranges of one object on their way.
const WIDTH: usize = 4;
/// The longest range, in bytes.
const LONGEST: u64 = 8 << 20;
/// The shortest range, in bytes.
const SHORTEST: u64 = 1 << 20;

/// Returns how long ranges are, given the memory for all that are read ahead: one is delivered while others fly.
pub(super) fn step(budget: &Budget) -> u64 {
    (budget.total() / (WIDTH as u64 + 1)).clamp(SHORTEST, LONGEST)
}

/// A range that was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    bytes: Vec<u8>,
    at: usize,
    _memory: Permit,
}

impl Fetched {
    /// Returns how many bytes it has in all.
    pub(super) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = (&self.bytes[self.at..]).read(buffer)?;
        self.at += n;
        Ok(n)
    }
}

/// The ranges of one version of an object from some place on.
#[derive(Debug)]
pub(super) struct Ahead {
    client: Arc<Client>,
    key: Arc<[u8]>,
    /// The version's id, where it is read by that.
    version: Option<Arc<str>>,
    etag: Arc<str>,
    memory: Budget,
    /// Where the next range begins that nobody fetches yet, and where the object ends.
    next: u64,
    end: u64,
    flying: VecDeque<Receiver<Result<Fetched>>>,
}

impl Ahead {
    /// Starts to fetch the bytes from `next` up to `end`.
    pub(super) fn start(
        client: &Arc<Client>,
        key: &[u8],
        version: Option<&str>,
        etag: &str,
        (next, end): (u64, u64),
        memory: &Budget,
    ) -> Self {
        let mut ahead = Self {
            client: Arc::clone(client),
            key: key.into(),
            version: version.map(Arc::from),
            etag: etag.into(),
            memory: memory.clone(),
            next,
            end,
            flying: VecDeque::with_capacity(WIDTH),
        };
        ahead.top_up();
        ahead
    }

    /// Fetches as many ranges as there is memory for. Nobody waits for memory here while an answer is read, since
    /// those who hold the memory may wait for its place.
    fn top_up(&mut self) {
        while self.flying.len() < WIDTH && self.next < self.end {
            let Some(memory) = self.memory.try_acquire(self.length()) else { return };
            self.fetch(memory);
        }
    }

    fn length(&self) -> u64 {
        step(&self.memory).min(self.end - self.next)
    }

    fn fetch(&mut self, memory: Permit) {
        let (start, length) = (self.next, memory.bytes());
        self.next += length;
        let (done, answer) = bounded(1);
        let (client, key, etag) = (Arc::clone(&self.client), Arc::clone(&self.key), Arc::clone(&self.etag));
        let version = self.version.clone();
        let fetch = move || {
            let length = usize::try_from(length).expect("a few MiB");
            let fetched = client.get_range(&key, version.as_deref(), start, length, Some(&etag));
            // Whoever asked may be gone.
            let _ = done.send(fetched.map(|bytes| Fetched { bytes, at: 0, _memory: memory }));
        };
        // Without a thread the channel has no sender, which the receiver notices.
        let _ = std::thread::Builder::new().name("range".into()).stack_size(512 << 10).spawn(fetch);
        self.flying.push_back(answer);
    }

    /// Waits for the next range; called only while there is one.
    pub(super) fn next(&mut self) -> Result<Fetched> {
        if self.flying.is_empty() {
            let memory = self.memory.acquire(self.length());
            self.fetch(memory);
        }
        let fetched = self.flying.pop_front().and_then(|answer| answer.recv().ok());
        self.top_up();
        fetched.unwrap_or_else(|| {
            let target = self.client.target(Some(&self.key));
            Err(Failure::new(ErrorKind::Io, "get", &target, "no thread could be started for it"))
        })
    }
}
