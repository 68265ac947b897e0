//! Credentials shared by threads, renewed in time.

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Credentials, CredentialsError};
use crate::base::Cancel;
use crate::connector::ErrorKind;

/// So long before their end credentials are renewed.
const EARLY: Duration = Duration::from_mins(5);
/// How soon after an attempt the next one is made while the old credentials still hold.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A failure is told again for so long before the source is asked once more: threads that wait for one lock shall
/// not wait for one time limit each.
const FAILURE_LIFE: Duration = Duration::from_secs(2);
/// How often it is looked whether everything is to end.
const TICK: Duration = Duration::from_millis(50);

/// A source of credentials. What it returns may expire.
pub(super) trait Resolve: Send + Sync {
    /// Asks.
    fn resolve(&self) -> Result<Credentials, CredentialsError>;

    /// Returns whether asking again can give something else.
    fn can_renew(&self) -> bool;

    /// Says for people what it is.
    fn origin(&self) -> &str;
}

/// Gives out credentials: asks for them when they are first needed, and again five minutes before they expire. One
/// thread asks while the others go on with the old ones; those are kept, too, when asking fails before they expire.
#[derive(Clone)]
pub struct Provider(Arc<Shared>);

struct Shared {
    source: Arc<dyn Resolve>,
    state: RwLock<State>,
    /// Held while the source is asked.
    asking: Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Credentials>>,
    /// Before this no one need ask while the current ones hold.
    pause_until: Option<Instant>,
    failure: Option<(Instant, CredentialsError)>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("origin", &self.origin()).finish_non_exhaustive()
    }
}

impl Provider {
    pub(super) fn new(source: impl Resolve + 'static) -> Self {
        Self(Arc::new(Shared {
            source: Arc::new(source),
            state: RwLock::default(),
            asking: Mutex::default(),
        }))
    }

    /// Returns for people where the credentials come from.
    pub fn origin(&self) -> &str {
        self.0.source.origin()
    }

    /// Returns credentials that hold now. May ask the source, within its time limits; does not wait for it any longer
    /// when everything is to end.
    pub fn current(&self, cancel: &Cancel) -> Result<Arc<Credentials>, CredentialsError> {
        self.current_at(Timestamp::now(), cancel)
    }

    fn current_at(&self, now: Timestamp, cancel: &Cancel) -> Result<Arc<Credentials>, CredentialsError> {
        if let Some(fresh) = self.usable(now, true) {
            return Ok(fresh);
        }
        let asking = match (self.0.asking.try_lock(), self.usable(now, false)) {
            (Ok(asking), _) => asking,
            // Another thread asks; what is there will do meanwhile.
            (Err(_), Some(old)) => return Ok(old),
            (Err(_), None) => self.0.asking.lock().unwrap_or_else(PoisonError::into_inner),
        };
        if let Some(fresh) = self.usable(now, true) {
            return Ok(fresh);
        }
        let old = self.usable(now, false);
        if old.is_none()
            && let Some((at, error)) = &self.read().failure
            && at.elapsed() < FAILURE_LIFE
        {
            return Err(error.clone());
        }
        let result = self.ask(now, cancel);
        drop(asking);
        match (result, old) {
            (Ok(new), _) => Ok(new),
            (Err(_), Some(old)) => Ok(old),
            (Err(error), None) => Err(error),
        }
    }

    /// Asks the source once more because a server refused `used` as expired; returns whether there are others now.
    pub(in super::super) fn renew(&self, used: &Credentials, cancel: &Cancel) -> bool {
        if !self.0.source.can_renew() {
            return false;
        }
        let asking = self.0.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.read().current.as_ref().is_some_and(|current| !current.same(used)) {
            // Another thread was faster.
            return true;
        }
        let renewed = self.ask(Timestamp::now(), cancel).is_ok_and(|new| !new.same(used));
        drop(asking);
        renewed
    }

    /// Asks the source and notes the outcome. Called with the lock held.
    fn ask(&self, now: Timestamp, cancel: &Cancel) -> Result<Arc<Credentials>, CredentialsError> {
        let result = resolve(&self.0.source, cancel).map(Arc::new);
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(new) => {
                state.current = Some(Arc::clone(new));
                state.failure = None;
            }
            Err(error) => state.failure = Some((Instant::now(), error.clone())),
        }
        let left = state.current.as_ref().and_then(|current| left(current, now));
        // A source may hand out the same credentials until shortly before they expire.
        state.pause_until = left.map(|left| Instant::now() + (left / 4).min(LONGEST_PAUSE));
        result
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current credentials if they hold, and, where `fresh` ones are wanted, need no renewal yet.
    fn usable(&self, now: Timestamp, fresh: bool) -> Option<Arc<Credentials>> {
        let state = self.read();
        let current = state.current.as_ref()?;
        if current.expires.is_some() {
            let left = left(current, now)?;
            let paused = state.pause_until.is_some_and(|until| Instant::now() < until);
            if fresh && left <= EARLY && !paused {
                return None;
            }
        }
        Some(Arc::clone(current))
    }
}

/// Asks a source, on a thread of its own where that may take a while: a token service that is slow shall not hold up
/// who wants to stop. The thread then ends by itself, at the source's own time limit.
fn resolve(source: &Arc<dyn Resolve>, cancel: &Cancel) -> Result<Credentials, CredentialsError> {
    if !source.can_renew() {
        return source.resolve();
    }
    let (send, receive) = channel();
    let asked = Arc::clone(source);
    std::thread::spawn(move || {
        // Nobody waits any more where this fails.
        let _ = send.send(asked.resolve());
    });
    loop {
        match receive.recv_timeout(TICK) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) if !cancel.is_cancelled() => {}
            Err(RecvTimeoutError::Timeout) => {
                return Err(CredentialsError::new(ErrorKind::Cancelled, "cancelled"));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(CredentialsError::new(
                    ErrorKind::Io,
                    format!("{} could not be asked", source.origin()),
                ));
            }
        }
    }
}

/// Returns how long credentials hold; `None` when they have expired, or never do.
fn left(credentials: &Credentials, now: Timestamp) -> Option<Duration> {
    let left = credentials.expires?.duration_since(now);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use zeroize::Zeroizing;

    use super::*;

    /// Hands out numbered keys that live so long; fails from a number on.
    struct Numbered {
        asked: Arc<AtomicU32>,
        life: i64,
        fails_from: u32,
    }

    impl Resolve for Numbered {
        fn resolve(&self) -> Result<Credentials, CredentialsError> {
            let number = self.asked.fetch_add(1, Ordering::SeqCst);
            if number >= self.fails_from {
                return Err(CredentialsError::new(ErrorKind::Transport, "away"));
            }
            Ok(Credentials {
                access_key: number.to_string(),
                secret: Zeroizing::new("hush".into()),
                token: None,
                expires: Some(at(i64::from(number) + self.life)),
                origin: "numbers".into(),
            })
        }

        fn can_renew(&self) -> bool {
            true
        }

        fn origin(&self) -> &'static str {
            "numbers"
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn provider(life: i64, fails_from: u32) -> (Provider, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        (Provider::new(Numbered { asked: Arc::clone(&asked), life, fails_from }), asked)
    }

    fn key(provider: &Provider, now: i64) -> String {
        // The pause is by the monotonic clock; tests move the other one.
        provider.0.state.write().unwrap().pause_until = None;
        provider.current_at(at(now), &Cancel::new()).unwrap().access_key.clone()
    }

    #[test]
    fn credentials_are_renewed_five_minutes_early() {
        let (provider, asked) = provider(3600, 9);
        assert_eq!(asked.load(Ordering::SeqCst), 0, "nothing is asked before it is needed");
        assert_eq!((key(&provider, 0), key(&provider, 3299)), ("0".into(), "0".into()));
        assert_eq!((key(&provider, 3300), key(&provider, 3300)), ("1".into(), "1".into()));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn credentials_that_are_about_to_expire_are_asked_for_only_now_and_then() {
        let (provider, asked) = provider(200, 9);
        for _ in 0..10 {
            provider.current_at(at(0), &Cancel::new()).unwrap();
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn old_credentials_are_kept_while_they_hold() {
        let (provider, asked) = provider(3600, 1);
        assert_eq!(
            (key(&provider, 0), key(&provider, 3500), key(&provider, 3599)),
            ("0".into(), "0".into(), "0".into())
        );
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        provider.0.state.write().unwrap().failure = None;
        assert_eq!(provider.current_at(at(3600), &Cancel::new()).unwrap_err().to_string(), "away");
        // The failure is not asked for again at once.
        assert!(provider.current_at(at(3600), &Cancel::new()).is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn a_refusal_renews_once_for_all_threads() {
        let (provider, asked) = provider(3600, 9);
        let used = provider.current_at(at(0), &Cancel::new()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert!(provider.renew(&used, &Cancel::new())));
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert!(!format!("{provider:?}").contains("hush"));
    }

    #[test]
    fn one_thread_asks_at_a_time() {
        let (provider, asked) = provider(1_000_000_000, 9);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| provider.current(&Cancel::new()).unwrap());
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    /// Never answers.
    struct Silent;

    impl Resolve for Silent {
        fn resolve(&self) -> Result<Credentials, CredentialsError> {
            loop {
                std::thread::park();
            }
        }

        fn can_renew(&self) -> bool {
            true
        }

        fn origin(&self) -> &'static str {
            "silence"
        }
    }

    #[test]
    fn who_wants_to_stop_does_not_wait() {
        let (provider, cancel) = (Provider::new(Silent), Cancel::new());
        std::thread::scope(|scope| {
            let waiting = [0; 3].map(|_| scope.spawn(|| provider.current(&cancel).unwrap_err().kind()));
            cancel.cancel();
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), ErrorKind::Cancelled);
            }
        });
    }
}
