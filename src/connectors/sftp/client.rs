//! Connections to one server: opened when they are needed, one more when those that are there are busy, anew when
//! one was lost.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{Connection, Death};
use super::options::Options;
use super::process;
use crate::base::Cancel;
use crate::connector::{Error, ErrorKind, Result};

/// From how many requests under way on every connection another is opened.
const BUSY: usize = 8;
/// How long to wait before a lost connection is opened anew.
const BACKOFF: Duration = Duration::from_millis(500);
/// How often the wish to end is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How long requests may still go out once everything is to end: locks are taken back, temporary files removed.
const LAST_WORDS: Duration = Duration::from_millis(1200);

/// Opens one connection; the flag says whether a person may be asked.
pub(super) type Dial = dyn Fn(&Options, &Cancel, bool) -> Result<Connection, Death> + Send + Sync;

#[derive(Debug)]
struct Pool {
    open: Vec<Arc<Connection>>,
    most: usize,
}

/// A server, reached over several connections.
pub(super) struct Client {
    options: Options,
    dial: Box<Dial>,
    pool: Arc<Mutex<Pool>>,
    /// Held by who opens a connection.
    opening: Mutex<()>,
    /// Dropping it ends the thread that looks for the wish to end.
    _owner: Option<SyncSender<()>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.options.server()).finish_non_exhaustive()
    }
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Names a server; nothing is connected before the first request.
    pub(super) fn new(options: Options) -> Self {
        Self::with_dial(options, Box::new(process::connect))
    }

    /// The same with another way of connecting.
    pub(super) fn with_dial(options: Options, dial: Box<Dial>) -> Self {
        let pool = Arc::new(Mutex::new(Pool { open: Vec::new(), most: options.connections.max(1) }));
        let owner = watch(&options.cancel, &pool);
        Self { options, dial, pool, opening: Mutex::default(), _owner: owner }
    }

    /// Returns the settings.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Fails when everything is to end.
    pub(super) fn check_cancelled(&self, op: &'static str) -> Result<()> {
        if self.options.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, op, self.options.describe()));
        }
        Ok(())
    }

    /// Returns a connection: the least busy one, or another one where all are busy.
    pub(super) fn connection(&self) -> Result<Arc<Connection>> {
        if let Some((found, busy)) = self.least_busy() {
            if !busy {
                return Ok(found);
            }
            // One thread opens another; who comes meanwhile goes on with what there is.
            let Ok(_opening) = self.opening.try_lock() else { return Ok(found) };
            return Ok(self.open(false).unwrap_or_else(|_| {
                // The server, or whoever counts its sessions, wants no more.
                let mut pool = lock(&self.pool);
                pool.most = pool.open.len().max(1);
                found
            }));
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        match self.least_busy() {
            Some((found, _)) => Ok(found),
            None => self.open(self.options.terminal),
        }
    }

    fn least_busy(&self) -> Option<(Arc<Connection>, bool)> {
        let mut pool = lock(&self.pool);
        pool.open.retain(|connection| !connection.is_dead());
        let found = Arc::clone(pool.open.iter().min_by_key(|connection| connection.under_way())?);
        let busy = found.under_way() >= BUSY && pool.open.len() < pool.most;
        Some((found, busy && !self.options.cancel.is_cancelled()))
    }

    /// Opens a connection. Where a person may be asked, that is tried only after it did not work without.
    fn open(&self, people: bool) -> Result<Arc<Connection>> {
        self.check_cancelled("connect to")?;
        let cancel = &self.options.cancel;
        let opened = match (self.dial)(&self.options, cancel, false) {
            Err(death) if people && death.kind == ErrorKind::Denied => {
                (self.dial)(&self.options, cancel, true)
            }
            other => other,
        };
        let failed =
            |death: Death| Error::new(death.kind, "connect to", self.options.server()).detail(death.detail);
        let connection = Arc::new(opened.map_err(failed)?);
        lock(&self.pool).open.push(Arc::clone(&connection));
        Ok(connection)
    }

    /// Runs what may be run twice: once more, over a new connection, where the first was lost.
    pub(super) fn again<T>(&self, run: impl Fn(&Arc<Connection>) -> Result<T>) -> Result<T> {
        let connection = self.connection()?;
        match run(&connection) {
            Err(error) if error.kind == ErrorKind::Transport && connection.is_dead() => {
                let _ = self.options.cancel.sleep(BACKOFF);
                self.check_cancelled("connect to")?;
                run(&self.connection()?)
            }
            other => other,
        }
    }

    /// Ends all connections, as a lost network does.
    #[cfg(test)]
    pub(super) fn cut(&self) {
        for connection in &lock(&self.pool).open {
            connection.end(Death::new(ErrorKind::Transport, "cut"));
        }
    }
}

/// Starts a thread that ends all connections soon after everything is to end.
fn watch(cancel: &Cancel, pool: &Arc<Mutex<Pool>>) -> Option<SyncSender<()>> {
    let (owner, gone) = sync_channel::<()>(0);
    let (cancel, pool) = (cancel.clone(), Arc::downgrade(pool));
    let look = move || {
        let mut since: Option<Instant> = None;
        while let Err(RecvTimeoutError::Timeout) = gone.recv_timeout(LOOK) {
            if !cancel.is_cancelled() {
                continue;
            }
            if since.get_or_insert_with(Instant::now).elapsed() < LAST_WORDS {
                continue;
            }
            let Some(pool) = pool.upgrade() else { return };
            for connection in lock(&pool).open.drain(..) {
                connection.end(Death::new(ErrorKind::Cancelled, "cancelled"));
            }
        }
    };
    let started: io::Result<_> =
        std::thread::Builder::new().name("watch".into()).stack_size(128 << 10).spawn(look);
    // Without the thread the wish to end is seen between requests.
    started.is_ok().then_some(owner)
}
