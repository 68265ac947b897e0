//! Replacing CONFIG of a store on a server.

use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::store::SftpStore;
use super::transfer::Upload;
use super::wire::{Attrs, open};
use crate::base::Printable;
use crate::connector::{Body, Error, ErrorKind, Result, Storage as _};
use crate::connectors::layout::CONFIG;

/// The name of the file that stands while CONFIG is replaced. A folder's own lock cannot be taken from afar.
const REPLACING: &str = "tmp.CONFIG.lock";
/// How old that file must be to be a dead writer's.
const ABANDONED: Duration = Duration::from_mins(10);

impl SftpStore {
    /// Replaces CONFIG by temporary file and rename. A file beside it keeps other writers that come by SFTP away;
    /// those who have the folder as their own do not see it, so CONFIG is read once more right before.
    pub(super) fn exchange_config(&self, expected: &[u8], new: &[u8]) -> Result<()> {
        let connection = self.client.connection()?;
        if !connection.can_replace() {
            return Err(Error::new(ErrorKind::Unsupported, "replace CONFIG of", self.location())
                .detail("the server cannot replace a file in one step (posix-rename@openssh.com)"));
        }
        self.claim_config(&connection)?;
        let replaced = (|| {
            if self.config()? != expected {
                return Err(Error::new(ErrorKind::Changed, "replace CONFIG of", self.location())
                    .detail("it was changed meanwhile"));
            }
            self.write(&self.root, &self.below(CONFIG), &Body::Bytes(new), true)
        })();
        // One that stays is taken for a dead writer's after a while.
        let _ = self.client.again(|connection| connection.remove(&self.below(REPLACING)));
        replaced
    }

    /// Takes the place of a lock that a folder's own writers hold: a file that must not be there.
    pub(super) fn claim_config(&self, connection: &Arc<Connection>) -> Result<()> {
        let path = self.below(REPLACING);
        let flags = open::WRITE | open::CREATE | open::EXCLUSIVE;
        let take = || connection.open_file(&path, flags, &Attrs::permissions(0o600));
        let handle = match take() {
            Ok(handle) => handle,
            Err(error) => {
                let Ok(there) = connection.lstat(&path) else { return Err(error) };
                self.take_over(connection, &path, &there)?;
                take()?
            }
        };
        connection.let_go(&handle);
        Ok(())
    }
    /// Takes a lock away whose writer is dead. Of two who try, one succeeds.
    fn take_over(&self, connection: &Arc<Connection>, path: &[u8], there: &Attrs) -> Result<()> {
        let busy = || {
            Error::new(ErrorKind::Changed, "replace", self.location()).detail(format!(
                "another process is changing it; if none is, delete {}",
                Printable::new(path)
            ))
        };
        let time = |attrs: &Attrs| attrs.times.map(|(_, modified)| Duration::from_secs(u64::from(modified)));
        let moved = Self::temporary(&self.root)?;
        // Only the server's own clock goes with its files' times.
        let probe = Upload::create(&self.client.options().cancel, connection, moved.clone(), 0o600)?;
        let now = time(&probe.attrs()?);
        drop(probe);
        let age = time(there).zip(now).map(|(then, now)| now.saturating_sub(then));
        if age.is_none_or(|age| age < ABANDONED) {
            return Err(busy());
        }
        connection.rename_new(path, &moved).map_err(|error| busy().because(error))?;
        if connection.lstat(&moved)?.times != there.times {
            // Somebody was faster, and this is the new lock.
            let _ = connection.rename_new(&moved, path);
            return Err(busy());
        }
        connection.remove(&moved)
    }
}
