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
    /// How many requests are in the server, this one included.
    pub(crate) at_once: u64,
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
    /// The answer to a listing's first request, whatever page was asked for.
    StalePage,
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

/// Faults of every kind that passes, at random.
#[derive(Debug)]
pub(crate) struct Storm {
    state: u64,
    per_mille: u64,
    stall: Duration,
}

impl Storm {
    /// Strikes so many requests of a thousand; the seed decides which, and how. `stall` is more than clients wait.
    pub(crate) fn new(seed: u64, per_mille: u64, stall: Duration) -> Self {
        Self { state: seed, per_mille, stall }
    }

    fn random(&mut self, below: u64) -> u64 {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    pub(super) fn strike(&mut self, seen: &Seen) -> Option<Action> {
        if self.random(1000) >= self.per_mille {
            return None;
        }
        let cut = usize::try_from(self.random(4000)).expect("small");
        let action = match self.random(17) {
            0 => Action::status(500, "InternalError"),
            1 => Action::status(502, ""),
            2 => Action::status(503, "SlowDown"),
            3 => Action::status(503, "ServiceUnavailable"),
            4 => Action::status(504, "GatewayTimeout"),
            5 => Action::status(429, "TooManyRequests"),
            6 => Action::status(408, "RequestTimeout"),
            // An answer to HEAD has no code.
            7 if seen.op != "HeadObject" => Action::status(400, "RequestTimeout"),
            8 if seen.op != "HeadObject" => Action::status(409, "OperationAborted"),
            9 => Action::Reset,
            10 => Action::ResetAfter,
            11 => Action::ResetBody(cut),
            12 => Action::Truncate(cut),
            13 if matches!(seen.op, "GetObject" | "ListObjectsV2") => Action::Shorten(1 + cut % 100),
            14 => Action::Slow(1 + cut, Duration::from_micros(200)),
            15 => Action::Stall(self.stall),
            16 if seen.op == "ListObjectsV2" => Action::StalePage,
            16 if seen.op == "CompleteMultipartUpload" => Action::ErrorInOk("InternalError"),
            _ => Action::Stall(Duration::from_millis(5)),
        };
        Some(action)
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
    /// Requests that a storm struck.
    pub(crate) struck: u64,
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
