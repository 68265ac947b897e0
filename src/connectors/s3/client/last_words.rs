//! What happens when everything is to end: connections are broken off wherever a thread waits for one, and a few
//! short requests still take back what would stay behind, locks and uploads.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ureq::Agent;

use super::super::options::Options;
use super::agent;
use crate::base::Cancel;

/// How often the wish to end is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How long last words may be spoken, from the first of them.
const TIME: Duration = Duration::from_millis(1200);
/// How long one of them may wait for the server.
const STALL: Duration = Duration::from_millis(500);

/// A thread that breaks off every connection of an agent once everything is to end; it ends with its owner.
#[derive(Debug)]
pub(super) struct Watch(#[expect(dead_code, reason = "dropping it ends the thread")] Option<SyncSender<()>>);

impl Watch {
    pub(super) fn start(cancel: &Cancel, agent: &Agent) -> Self {
        let (owner, gone) = sync_channel::<()>(0);
        let (cancel, agent) = (cancel.clone(), agent.clone());
        let watch = move || {
            while let Err(RecvTimeoutError::Timeout) = gone.recv_timeout(LOOK) {
                if cancel.is_cancelled() {
                    agent.shutdown();
                    return;
                }
            }
        };
        // Without the thread a wish to end is seen where requests begin and end.
        let thread = std::thread::Builder::new().name("watch".into()).stack_size(128 << 10).spawn(watch);
        Self(thread.is_ok().then_some(owner))
    }
}

/// The agent of the last requests.
#[derive(Debug)]
pub(super) struct LastWords {
    agent: Option<Agent>,
    until: Instant,
}

impl LastWords {
    pub(super) fn begin(options: &Options) -> Self {
        let mut options = Options { cancel: Cancel::new(), ..options.clone() };
        options.tuning.connect_timeout = STALL;
        options.tuning.stall_timeout = STALL;
        Self { agent: agent::build(&options).ok(), until: Instant::now() + TIME }
    }

    /// Returns the agent while there is time.
    pub(super) fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref().filter(|_| Instant::now() < self.until)
    }
}
