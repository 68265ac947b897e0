//! Asking for packfiles, and waiting for them.

use std::time::Duration;

use crate::base::Cancel;
use crate::connector::{Order, Readiness};
use crate::store::Error;

use super::plan::{Plan, Planner};

/// How often it is asked whether a retrieval is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// The first pause; each is half as long again as the one before.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first: Duration::from_secs(30), longest: Duration::from_mins(10) }
    }
}

impl Patience {
    /// Pauses until something is so.
    ///
    /// # Errors
    /// What `is_so` fails with, and [`Error::Cancelled`].
    pub fn until(
        &self,
        cancel: &Cancel,
        is_so: &mut dyn FnMut() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut pause = self.first;
        while !is_so()? {
            sleep(pause, cancel)?;
            pause = (pause + pause / 2).min(self.longest);
        }
        Ok(())
    }
}

impl Planner<'_> {
    /// Asks for the retrieval of everything planned that was not asked for yet. Asking twice does no harm.
    pub fn request(&self, plan: &Plan, order: &Order, cancel: &Cancel) -> Result<(), Error> {
        let asked: Vec<usize> =
            plan.packfiles.iter().filter(|pack| !pack.is_ongoing).map(|pack| pack.ordinal).collect();
        self.cold.each(&asked, cancel, &|ordinal| {
            let readiness = self.cold.retrieval().request(self.cold.id(ordinal), order)?;
            self.cold.learn(ordinal, readiness);
            Ok(())
        })
    }

    /// Waits until everything planned can be read; `tell` learns how many packfiles can be by now, whenever that
    /// changed. What is found archived again is asked for again.
    pub fn wait(
        &self,
        plan: &Plan,
        order: &Order,
        patience: &Patience,
        cancel: &Cancel,
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let mut pause = patience.first;
        let mut told = 0;
        // In order: one look at the first that is missing is enough to know that something is.
        for (done, pack) in (0_u64..).zip(&plan.packfiles) {
            loop {
                match self.cold.look(pack.ordinal)? {
                    Readiness::Ready | Readiness::Retrieved { .. } => break,
                    Readiness::Ongoing => {}
                    Readiness::Archived => {
                        let readiness = self.cold.retrieval().request(pack.id, order)?;
                        self.cold.learn(pack.ordinal, readiness);
                    }
                }
                if done > told {
                    tell(done);
                    told = done;
                }
                sleep(pause, cancel)?;
                pause = (pause + pause / 2).min(patience.longest);
            }
        }
        tell(plan.count());
        Ok(())
    }
}

fn sleep(pause: Duration, cancel: &Cancel) -> Result<(), Error> {
    if cancel.sleep(pause) { Ok(()) } else { Err(Error::Cancelled) }
}
