//! Folding many states into one, and deleting those that were folded a grace period ago.

use std::collections::HashSet;
use std::sync::Arc;

use crate::store::{Error, Exclusive, FoldPlan, FoldedState, Repository, folded_states};

use super::super::monitor::Monitor;
use super::run::{MaintenanceOptions, MaintenanceReport};

/// What tidying the states needs.
pub(super) struct States<'a> {
    pub(super) repository: &'a Arc<Repository>,
    pub(super) options: &'a MaintenanceOptions,
    pub(super) monitor: &'a dyn Monitor,
    /// When what is folded was folded, Unix nanoseconds.
    pub(super) stamp: i64,
    /// What was folded before this may go.
    pub(super) cutoff: i64,
}

impl States<'_> {
    /// Folds, then deletes; without `exclusive` only says what would be done.
    pub(super) fn tidy(
        &self,
        mut exclusive: Option<&mut Exclusive>,
        report: &mut MaintenanceReport,
    ) -> Result<(), Error> {
        let catalogue = match exclusive.as_deref() {
            Some(exclusive) => exclusive.reload()?,
            None => self.repository.catalogue(),
        };
        report.state_count = catalogue.states().count() as u64;
        let plan = self.options.fold_above.and_then(|above| FoldPlan::make(&catalogue, above));
        if let Some(plan) = plan {
            self.monitor.phase("fold");
            (report.folded_count, _) = plan.extent();
            if let Some(exclusive) = exclusive.as_deref_mut() {
                // Packfiles were copied before; the memory of that is free again.
                let memory = usize::try_from(self.options.memory / 8).unwrap_or(usize::MAX);
                if !exclusive.fold(&plan, self.stamp, memory, &self.options.cancel)? {
                    (report.folded_count, report.strange_states) = (0, true);
                }
            }
        }
        self.sweep(exclusive, report)
    }

    /// Deletes what was folded long enough ago, once what took its place is verified.
    fn sweep(&self, exclusive: Option<&mut Exclusive>, report: &mut MaintenanceReport) -> Result<(), Error> {
        let catalogue = match exclusive.as_deref() {
            Some(exclusive) => exclusive.reload()?,
            None => self.repository.catalogue(),
        };
        let folded = folded_states(self.repository, &catalogue)?;
        // Something that must come after what was folded, and says so by a parent that would go: it has to be folded,
        // too, before that.
        let needed = FoldPlan::make(&catalogue, usize::MAX).is_some();
        let (old, young): (Vec<FoldedState>, Vec<FoldedState>) =
            folded.into_iter().partition(|state| state.since <= self.cutoff && !needed);
        report.waiting_states = young.len() as u64;
        let Some(exclusive) = exclusive else {
            report.deleted_states = old.len() as u64;
            return Ok(());
        };
        if old.is_empty() {
            return Ok(());
        }
        self.monitor.phase("delete states");
        let folds: HashSet<_> = old.iter().map(|state| state.into).collect();
        folds.into_iter().try_for_each(|fold| exclusive.verify_fold(fold))?;
        for state in &old {
            if self.options.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if exclusive.delete_folded(state)? {
                report.deleted_states += 1;
            } else {
                // One answer stands for all: nothing may be deleted here.
                report.held_states = old.len() as u64 - report.deleted_states;
                break;
            }
        }
        Ok(())
    }
}
