//! A large object read by ranges, several at a time, and delivered in order.
//!
//! One connection rarely delivers all that a server has to give. The first range is read as it comes; those behind
//! it are fetched whole, each on a thread of its own and into memory that was set aside for it, so that several
//! large objects together take no more than the connector may have.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

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

/// Memory for what is read ahead: how much there may be, and what of it lies idle. Fresh memory has to be cleared by
/// the system first, which costs about as much as what is read into it.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    budget: Budget,
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Memory {
    /// Memory of so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        Self { budget: Budget::new(bytes), idle: Arc::default() }
    }

    /// Returns how long ranges are: one is delivered while others fly.
    pub(super) fn step(&self) -> u64 {
        (self.budget.total() / (WIDTH as u64 + 1)).clamp(SHORTEST, LONGEST)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a buffer of a length. Only whole steps are kept, so that what lies idle is never longer than what it
    /// is counted as once it is used again.
    fn take(&self, length: usize) -> Vec<u8> {
        let is_step = length as u64 == self.step();
        is_step.then(|| self.idle().pop()).flatten().unwrap_or_else(|| vec![0; length])
    }

    fn give(&self, bytes: Vec<u8>) {
        if bytes.len() as u64 == self.step() {
            let mut idle = self.idle();
            if idle.len() <= WIDTH {
                idle.push(bytes);
            }
        }
    }
}

/// A range that was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    bytes: Vec<u8>,
    at: usize,
    memory: Memory,
    _permit: Permit,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        self.memory.give(std::mem::take(&mut self.bytes));
    }
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
    memory: Memory,
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
        memory: &Memory,
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
            let Some(memory) = self.memory.budget.try_acquire(self.length()) else { return };
            self.fetch(memory);
        }
    }

    fn length(&self) -> u64 {
        self.memory.step().min(self.end - self.next)
    }

    fn fetch(&mut self, permit: Permit) {
        let (start, length) = (self.next, permit.bytes());
        self.next += length;
        let (done, answer) = bounded(1);
        let (client, key, etag) = (Arc::clone(&self.client), Arc::clone(&self.key), Arc::clone(&self.etag));
        let (version, memory) = (self.version.clone(), self.memory.clone());
        let fetch = move || {
            let bytes = memory.take(usize::try_from(length).expect("a few MiB"));
            let mut fetched = Fetched { bytes, at: 0, memory, _permit: permit };
            let read =
                client.get_range_into(&key, version.as_deref(), start, &mut fetched.bytes, Some(&etag));
            // Whoever asked may be gone.
            let _ = done.send(read.map(|()| fetched));
        };
        // Without a thread the channel has no sender, which the receiver notices.
        let _ = std::thread::Builder::new().name("range".into()).stack_size(512 << 10).spawn(fetch);
        self.flying.push_back(answer);
    }

    /// Waits for the next range; called only while there is one.
    pub(super) fn next(&mut self) -> Result<Fetched> {
        if self.flying.is_empty() {
            let memory = self.memory.budget.acquire(self.length());
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
