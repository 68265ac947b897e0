//! Work for several threads, handed out in batches.

use crossbeam_channel::{Sender, bounded};

use crate::store::Error;

use super::run::join;

/// Jobs travel in batches.
const BATCH: usize = 32;
const QUEUE: usize = 16;

/// The end of a queue where jobs go in.
#[derive(Debug)]
pub(super) struct Feed<T> {
    sender: Sender<Vec<T>>,
    batch: Vec<T>,
}

impl<T> Feed<T> {
    /// Hands out a job, now or with others. Fails when no thread takes jobs any more.
    pub(super) fn push(&mut self, job: T) -> Result<(), Error> {
        self.batch.push(job);
        if self.batch.len() < BATCH {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.sender.send(batch).map_err(|_| Error::Aborted)
    }

    /// Hands out what is left.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.sender.send(std::mem::take(&mut self.batch)).map_err(|_| Error::Aborted)
    }
}

/// Does what `feed` hands out on several threads. What stopped a thread is the reason if both fail; that nothing could
/// be handed out any more is not.
pub(super) fn with_workers<T: Send, R>(
    count: usize,
    each: &(dyn Fn(&T) -> Result<(), Error> + Sync),
    feed: impl FnOnce(Feed<T>) -> Result<R, Error>,
) -> Result<R, Error> {
    let (sender, jobs) = bounded::<Vec<T>>(QUEUE);
    std::thread::scope(|scope| {
        let threads = (0..count)
            .map(|_| {
                let jobs = jobs.clone();
                scope.spawn(move || jobs.iter().flatten().try_for_each(|job| each(&job)))
            })
            .collect();
        drop(jobs);
        let fed = feed(Feed { sender, batch: Vec::new() });
        join(threads).and(fed)
    })
}
