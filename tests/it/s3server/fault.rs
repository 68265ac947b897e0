//! Faults on demand, and counters of what happened.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A request as a fault's condition sees it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The operation: `GetObject`, `ListObjectsV2`.
    pub(crate) op: &'static str,
    /// The bucket, empty where there is none.
    pub(crate) bucket: String,
    /// The raw key, empty where there is none.
    pub(crate) key: Vec<u8>,
    /// The number of the request of this operation since the last reset, from 1.
    pub(crate) number: u64,
}

/// What happens instead of, or to, the answer.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// An error answer; nothing is done.
    Status {
        /// The HTTP status.
        status: u16,
        /// The S3 code.
        code: &'static str,
        /// More headers.
        headers: Vec<(&'static str, String)>,
        /// More XML inside `<Error>`.
        xml: String,
    },
    /// The connection is reset after the request was read; nothing is done.
    Reset,
    /// The request is carried out, and the connection is reset instead of the answer.
    ResetAfter,
    /// The answer's body is cut after so many bytes by a reset.
    ResetBody(usize),
    /// The answer's body is cut after so many bytes by an ordinary end of the connection.
    Truncate(usize),
    /// The answer's body is shortened by so many bytes, its length header with it.
    Shorten(usize),
    /// The answer's body goes out in pieces of so many bytes with a pause between.
    Slow(usize, Duration),
    /// Nothing is answered for so long; then all is normal.
    Stall(Duration),
    /// Nothing is ever answered, and nothing is done.
    Hang,
    /// `200 OK` with an `<Error>` body; nothing is done.
    ErrorInOk(&'static str),
    /// `200 OK` with this body; nothing is done.
    Replace(String),
}

impl Action {
    /// An error answer with nothing but a status and a code.
    pub(crate) fn status(status: u16, code: &'static str) -> Self {
        Self::Status { status, code, headers: Vec::new(), xml: String::new() }
    }
}

type Condition = Box<dyn Fn(&Seen) -> bool + Send>;

/// A fault: when it strikes, what it does, how often.
pub(crate) struct Fault {
    condition: Condition,
    pub(super) action: Action,
    times: u64,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("action", &self.action)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl Fault {
    /// Strikes every request of one operation.
    pub(crate) fn on(op: &'static str, action: Action) -> Self {
        Self::when(move |seen| seen.op == op, action)
    }

    /// Strikes every request that meets a condition.
    pub(crate) fn when(condition: impl Fn(&Seen) -> bool + Send + 'static, action: Action) -> Self {
        Self { condition: Box::new(condition), action, times: u64::MAX }
    }

    /// Strikes only so often.
    pub(crate) fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Takes the action of the first fault that strikes.
    pub(super) fn strike(faults: &mut [Self], seen: &Seen) -> Option<Action> {
        let fault = faults.iter_mut().find(|fault| fault.times > 0 && (fault.condition)(seen))?;
        fault.times -= 1;
        Some(fault.action.clone())
    }
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// Requests by operation, refused ones included.
    pub(crate) requests: BTreeMap<&'static str, u64>,
    /// Bytes of request bodies.
    pub(crate) received_bytes: u64,
    /// Bytes of answer bodies, as far as they were sent.
    pub(crate) sent_bytes: u64,
    /// Requests that announced `Expect: 100-continue`.
    pub(crate) expected: u64,
    /// The most requests that were in the server at once, from their first byte to the last of the answer.
    pub(crate) most_at_once: u64,
    /// Connections made.
    pub(crate) connections: u64,
    /// Requests that hang.
    pub(crate) hanging: u64,
    /// Every request line's target, signatures and all.
    pub(crate) targets: Vec<String>,
}

impl Counters {
    /// Returns the number of requests of one operation.
    pub(crate) fn of(&self, op: &str) -> u64 {
        self.requests.get(op).copied().unwrap_or(0)
    }

    /// Returns the number of all requests.
    pub(crate) fn total(&self) -> u64 {
        self.requests.values().sum()
    }
}
