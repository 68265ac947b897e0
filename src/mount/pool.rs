//! Threads that answer requests, so that whoever waits for the network makes nobody else wait.

use std::fmt;
use std::io;
use std::thread::Builder;

use crossbeam_channel::{Sender, bounded, unbounded};

type Job = Box<dyn FnOnce() + Send>;

/// The stack of a thread, in bytes.
const STACK: usize = 1 << 20;

/// Some threads and their queue. They end after the pool was dropped, each with what it is at.
pub(super) struct Pool {
    jobs: Sender<Job>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} jobs wait)", self.jobs.len())
    }
}

impl Pool {
    /// Starts threads. With a `limit` no more jobs wait than that. Fails where the system gives no thread at all.
    pub(super) fn start(name: &str, threads: usize, limit: Option<usize>) -> io::Result<Self> {
        let (jobs, queue) = limit.map_or_else(unbounded::<Job>, bounded);
        let mut last = None;
        let mut started = 0;
        for _ in 0..threads {
            let queue = queue.clone();
            let thread = Builder::new().name(name.to_owned()).stack_size(STACK);
            match thread.spawn(move || queue.into_iter().for_each(|job| job())) {
                Ok(_) => started += 1,
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if started == 0 => Err(error),
            _ => Ok(Self { jobs }),
        }
    }

    /// Has a job done as soon as a thread is free.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        // The threads live as long as the sender does.
        let _ = self.jobs.send(Box::new(job));
    }

    /// The same for a job that can be left out: it is, where too many wait.
    pub(super) fn try_run(&self, job: impl FnOnce() + Send + 'static) {
        let _ = self.jobs.try_send(Box::new(job));
    }
}
