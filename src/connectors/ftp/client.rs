//! Control connections to one server: as many as are needed, up to a limit.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use suppaftp::FtpError;

use super::options::{Options, Tls};
use super::session::{Session, explain};
use super::sockets::{LOOK, Sockets};
use super::tls::{self, Configs};
use crate::base::Cancel;
use crate::connector::{Error, ErrorKind, Result};

/// How long what was begun may still take once everything is to end: temporary files are removed.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long to wait before a lost connection is opened anew.
const BACKOFF: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Pool {
    idle: Vec<Session>,
    /// Sessions that are open or being opened, idle ones included.
    open: usize,
    most: usize,
    /// Whether connections are encrypted, once the first one told.
    tls: Tls,
    /// Whether the server has nothing but the newest version of TLS.
    newest: bool,
}

/// A server, reached over several control connections.
#[derive(Debug)]
pub(super) struct Client {
    options: Options,
    configs: Option<Configs>,
    pool: Mutex<Pool>,
    returned: Condvar,
    sockets: Arc<Mutex<Vec<Weak<Sockets>>>>,
    /// Dropping it ends the thread that looks for the wish to end.
    _owner: Option<SyncSender<()>>,
}

impl Client {
    /// Names a server; nothing is connected before the first request.
    pub(super) fn new(options: Options) -> Result<Self> {
        let configs = if options.tls == Tls::Off { None } else { Some(tls::configs(&options)?) };
        let pool =
            Pool { idle: Vec::new(), open: 0, most: options.connections, tls: options.tls, newest: false };
        let sockets = Arc::default();
        let owner = watch(&options.cancel, &sockets);
        Ok(Self {
            options,
            configs,
            pool: Mutex::new(pool),
            returned: Condvar::new(),
            sockets,
            _owner: owner,
        })
    }

    /// Returns the settings.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check_cancelled(&self, op: &'static str) -> Result<()> {
        if self.options.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, op, self.options.describe()));
        }
        Ok(())
    }

    /// Returns whether what is sent can be read on the way, as far as that is known.
    pub(super) fn is_plain(&self) -> bool {
        self.pool().tls == Tls::Off
    }

    /// Makes the error of a failed request.
    pub(super) fn error(&self, op: &'static str, target: String, error: FtpError) -> Error {
        if self.options.cancel.is_cancelled() {
            return Error::new(ErrorKind::Cancelled, op, target);
        }
        explain(op, target, error)
    }

    /// Takes a session that is idle, or a new one; waits where there are as many as there may be.
    pub(super) fn take(&self) -> Result<Session> {
        let mut pool = self.pool();
        loop {
            self.check_cancelled("connect to")?;
            if let Some(session) = pool.idle.pop() {
                return Ok(session);
            }
            if pool.open < pool.most {
                break;
            }
            let waited = self.returned.wait_timeout(pool, LOOK * 4);
            pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        pool.open += 1;
        let others = pool.open - 1;
        let tls = pool.tls;
        drop(pool);
        match self.connect(tls) {
            Ok(session) => Ok(session),
            Err(error) => {
                let mut pool = self.pool();
                pool.open -= 1;
                if others == 0 || self.options.cancel.is_cancelled() {
                    return Err(error);
                }
                // The server wants no more of them.
                pool.most = others;
                drop(pool);
                self.take()
            }
        }
    }

    fn connect(&self, tls: Tls) -> Result<Session> {
        let known = |sockets: &Arc<Sockets>| {
            let mut all = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|known| known.strong_count() > 0);
            all.push(Arc::downgrade(sockets));
        };
        let options = Options { tls, ..self.options.clone() };
        let newest = self.pool().newest;
        let config = |newest: bool| {
            self.configs.as_ref().map(|configs| if newest { &configs.newest } else { &configs.reusable })
        };
        let mut opened = Session::open(&options, config(newest), &known);
        if !newest && opened.as_ref().is_err_and(|error| error.to_string().contains("ProtocolVersion")) {
            opened = Session::open(&options, config(true), &known);
            self.pool().newest = opened.is_ok();
        }
        match opened {
            Ok(session) => {
                let mut pool = self.pool();
                if pool.tls == Tls::Auto {
                    // From here on nobody talks us out of it.
                    pool.tls = if session.secure { Tls::Explicit } else { Tls::Off };
                }
                drop(pool);
                Ok(session)
            }
            Err(error) if self.options.cancel.is_cancelled() => {
                Err(Error { kind: ErrorKind::Cancelled, ..error })
            }
            other => other,
        }
    }

    /// Gives a session back that can be used again.
    pub(super) fn put_back(&self, session: Session) {
        self.pool().idle.push(session);
        self.returned.notify_one();
    }

    /// Forgets a session that cannot be used again.
    pub(super) fn lose(&self, session: Session) {
        session.sockets.cut();
        session.release();
        self.pool().open -= 1;
        drop(session);
        self.returned.notify_one();
    }

    /// Runs something on a session; once more on another one where the first was lost: servers end sessions that were
    /// idle.
    pub(super) fn again<T>(
        &self,
        op: &'static str,
        target: &dyn Fn() -> String,
        run: impl Fn(&mut Session) -> Result<T, FtpError>,
    ) -> Result<T> {
        let mut tried = false;
        loop {
            let mut session = self.take()?;
            match run(&mut session) {
                Ok(value) => {
                    self.put_back(session);
                    return Ok(value);
                }
                Err(error) => {
                    let is_answer =
                        matches!(&error, FtpError::UnexpectedResponse(answer) if answer.status.code() != 421);
                    let error = self.error(op, target(), error);
                    if is_answer {
                        self.put_back(session);
                    } else {
                        self.lose(session);
                    }
                    if is_answer || tried || error.kind != ErrorKind::Transport {
                        return Err(error);
                    }
                    tried = true;
                    // The next round sees that everything is to end.
                    let _ = self.options.cancel.sleep(BACKOFF);
                }
            }
        }
    }
}

/// Starts a thread that ends all connections soon after everything is to end.
fn watch(cancel: &Cancel, sockets: &Arc<Mutex<Vec<Weak<Sockets>>>>) -> Option<SyncSender<()>> {
    let (owner, gone) = sync_channel::<()>(0);
    let (cancel, sockets) = (cancel.clone(), Arc::downgrade(sockets));
    let look = move || {
        let mut since: Option<Instant> = None;
        while let Err(RecvTimeoutError::Timeout) = gone.recv_timeout(LOOK) {
            if !cancel.is_cancelled() || since.get_or_insert_with(Instant::now).elapsed() < LAST_WORDS {
                continue;
            }
            let Some(sockets) = sockets.upgrade() else { return };
            let all = sockets.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter_map(Weak::upgrade).for_each(|sockets| sockets.cut());
        }
    };
    let started = std::thread::Builder::new().name("watch".into()).stack_size(128 << 10).spawn(look);
    // Without the thread the wish to end is seen between requests.
    started.is_ok().then_some(owner)
}
