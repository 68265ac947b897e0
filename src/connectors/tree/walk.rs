//! Walking a tree folder by folder, a few folders ahead.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use ignore::gitignore::Gitignore;

use super::found::Found;
use super::names;
use super::source::Folders;
use crate::base::{Printable, RawString};
use crate::connector::{Error, ErrorKind, Record, Result};

type Listing = Result<Vec<Found>>;

/// Where a listing that was asked for appears.
#[derive(Debug, Default)]
struct Slot {
    listing: Mutex<Option<Listing>>,
    ready: Condvar,
}

impl Slot {
    fn put(&self, listing: Listing) {
        *self.listing.lock().unwrap_or_else(PoisonError::into_inner) = Some(listing);
        self.ready.notify_one();
    }

    fn take(&self) -> Listing {
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match listing.take() {
                Some(listing) => return listing,
                None => listing = self.ready.wait(listing).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// A folder to be entered.
struct Pending {
    path: Vec<u8>,
    /// Set once its listing was asked for.
    slot: Option<Arc<Slot>>,
}

type Job = (Vec<u8>, Arc<Slot>);

/// One walk.
pub(super) struct Walk<'a> {
    pub(super) excludes: Option<&'a Gitignore>,
    pub(super) emit: &'a mut dyn FnMut(Record) -> ControlFlow<()>,
}

impl Walk<'_> {
    /// Reports everything below a folder. Up to `ahead` listings are under way or waiting to be looked at.
    ///
    /// A folder that cannot be listed is a record; a connection that is lost for good, or the wish to end, is an error.
    pub(super) fn run(&mut self, folders: &dyn Folders, root: &[u8], ahead: usize) -> Result<()> {
        let ahead = ahead.max(1);
        let (ask, jobs) = unbounded::<Job>();
        std::thread::scope(|scope| {
            for _ in 0..ahead {
                let jobs: Receiver<Job> = jobs.clone();
                // The first listing of all waits for at least one thread.
                let list = move || jobs.into_iter().for_each(|(path, slot)| slot.put(folders.list(&path)));
                let started =
                    std::thread::Builder::new().stack_size(512 << 10).spawn_scoped(scope, list).is_ok();
                if !started {
                    break;
                }
            }
            drop(jobs);
            let mut stack = vec![Pending { path: root.to_vec(), slot: None }];
            let mut under_way = 0;
            while let Some(folder) = Self::next(&mut stack, &ask, &mut under_way, ahead) {
                let Some(slot) = folder.slot else { break };
                match slot.take() {
                    Ok(found) => {
                        if self.enter(&folder.path, found, &mut stack).is_break() {
                            break;
                        }
                    }
                    Err(error) if matches!(error.kind, ErrorKind::Cancelled | ErrorKind::Transport) => {
                        return Err(error);
                    }
                    Err(error) => {
                        if (self.emit)(failed(&folder.path, error)).is_break() {
                            break;
                        }
                    }
                }
                under_way -= 1;
            }
            drop(ask);
            Ok(())
        })
    }

    /// Asks for the listings of folders that come next, and takes the next one.
    fn next(
        stack: &mut Vec<Pending>,
        ask: &Sender<Job>,
        under_way: &mut usize,
        ahead: usize,
    ) -> Option<Pending> {
        for (depth, folder) in stack.iter_mut().rev().take(ahead).enumerate() {
            if folder.slot.is_some() {
                continue;
            }
            // The next one is always asked for; others while there is room for what comes back.
            if depth > 0 && *under_way >= ahead {
                break;
            }
            let slot = Arc::new(Slot::default());
            if ask.send((folder.path.clone(), Arc::clone(&slot))).is_err() {
                let gone = Error::new(ErrorKind::Io, "list", Printable::new(&folder.path).to_string());
                slot.put(Err(gone.detail("no thread can be started")));
            }
            folder.slot = Some(slot);
            *under_way += 1;
        }
        stack.pop()
    }

    /// Reports what is in a folder, in byte order, and notes its subfolders.
    fn enter(&mut self, folder: &[u8], mut found: Vec<Found>, stack: &mut Vec<Pending>) -> ControlFlow<()> {
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut pending = Vec::new();
        let mut last: Option<Vec<u8>> = None;
        for one in found {
            let fault = names::fault(&one.name)
                .or_else(|| (last.as_ref() == Some(&one.name)).then_some("the same name twice"));
            if let Some(fault) = fault {
                let error = Error::new(ErrorKind::Protocol, "list", Printable::new(folder).to_string())
                    .detail(format!(
                        "the server lists {fault}: '{}'",
                        Printable::new(&one.name[..one.name.len().min(256)])
                    ));
                (self.emit)(failed(folder, error))?;
                continue;
            }
            last = Some(one.name.clone());
            let path = names::join(folder, &one.name);
            let is_folder = one.info.as_ref().is_ok_and(|info| info.mode.is_dir());
            if self.is_excluded(&path, is_folder) {
                continue;
            }
            if names::is_too_long(&path) {
                let error = Error::new(ErrorKind::Unsupported, "read", Printable::new(&path).to_string());
                (self.emit)(failed(folder, error.detail("its path is too long")))?;
                continue;
            }
            (self.emit)(one.record(path.clone()))?;
            if is_folder {
                pending.push(Pending { path, slot: None });
            }
        }
        stack.extend(pending.into_iter().rev());
        ControlFlow::Continue(())
    }

    fn is_excluded(&self, path: &[u8], is_folder: bool) -> bool {
        let path = crate::base::sys::os_part(path);
        self.excludes.is_some_and(|excludes| excludes.matched(&*path, is_folder).is_ignore())
    }
}

fn failed(path: &[u8], error: Error) -> Record {
    Record {
        path: RawString::from(path),
        info: Err(error),
        symlink_target: None,
        metadata: Vec::new(),
        locator: Vec::new(),
    }
}
