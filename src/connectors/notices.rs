//! What connectors tell people besides results and errors.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

type Tell = dyn Fn(&str) + Send + Sync;

/// Takes what people should be told while places are opened and used: settings that may cost them dear, and what was
/// made on the way. Each text arrives once. The default forgets everything.
#[derive(Clone, Default)]
pub struct Notices {
    warn: Option<Arc<Tell>>,
    note: Option<Arc<Tell>>,
    told: Arc<Mutex<BTreeSet<String>>>,
}

impl Notices {
    /// Passes warnings on.
    pub fn new(warn: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { warn: Some(Arc::new(warn)), ..Self::default() }
    }

    /// Passes on what is no warning, too.
    #[must_use]
    pub fn noting(mut self, note: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.note = Some(Arc::new(note));
        self
    }

    /// Warns.
    pub(super) fn tell(&self, text: String) {
        self.pass(self.warn.as_deref(), text);
    }

    /// Says what is no warning.
    pub(super) fn note(&self, text: String) {
        self.pass(self.note.as_deref(), text);
    }

    fn pass(&self, to: Option<&Tell>, text: String) {
        let Some(to) = to else { return };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&text) {
            to(&text);
            told.insert(text);
        }
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}
