//! Faults by decorator.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::Id;
use crate::connector::{Body, Error, ErrorKind, Kind, Listed, Purpose, Result, Retrieval, Storage};

/// Which operations a [`Faulty`] store counts, and fails when its budget is spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    /// Those that change the store: create, replace_config, put, delete.
    Writes,
    /// Those that only look: config, list, size, get, read_range.
    Reads,
    /// All of them.
    Everything,
}

/// A store that works until its budget of operations is spent, and fails from then on.
///
/// Crash tests run `for budget in 0..total`, reopen the inner store, and check that every committed snapshot is
/// whole. With [`landing`](Self::landing), a write that fails has happened all the same: an answer that was lost.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    counted: Counted,
    budget: u64,
    landing: bool,
    spent: AtomicU64,
}

impl<S: Storage> Faulty<S> {
    /// Wraps a store that may do `budget` operations of the counted kind.
    pub fn new(inner: S, counted: Counted, budget: u64) -> Self {
        Self { inner, counted, budget, landing: false, spent: AtomicU64::new(0) }
    }

    /// Makes the first write past the budget take effect, although it is reported as failed.
    #[must_use]
    pub fn landing(mut self) -> Self {
        self.landing = true;
        self
    }

    /// Returns how many counted operations were tried, failed ones included.
    pub fn spent(&self) -> u64 {
        self.spent.load(Ordering::SeqCst)
    }

    /// Returns the store inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Returns the store inside, for good.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn write<T>(&self, op: &'static str, run: impl FnOnce(&S) -> Result<T>) -> Result<T> {
        if self.counted == Counted::Reads {
            return run(&self.inner);
        }
        let number = self.spent.fetch_add(1, Ordering::SeqCst);
        if number < self.budget {
            return run(&self.inner);
        }
        if self.landing && number == self.budget {
            run(&self.inner)?;
        }
        Err(spent(op))
    }

    fn read<T>(&self, op: &'static str, run: impl FnOnce(&S) -> Result<T>) -> Result<T> {
        if self.counted != Counted::Writes && self.spent.fetch_add(1, Ordering::SeqCst) >= self.budget {
            return Err(spent(op));
        }
        run(&self.inner)
    }
}

fn spent(op: &'static str) -> Error {
    Error::new(ErrorKind::Transport, op, "faulty:").detail("the budget of operations is spent")
}

impl<S: Storage> Storage for Faulty<S> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self, config: &[u8]) -> Result<()> {
        self.write("create", |inner| inner.create(config))
    }

    fn config(&self) -> Result<Vec<u8>> {
        self.read("open", Storage::config)
    }

    fn replace_config(&self, expected: &[u8], new: &[u8]) -> Result<()> {
        self.write("replace", |inner| inner.replace_config(expected, new))
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.read("list", |inner| inner.list(kind, each))
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        self.read("read", |inner| inner.size(kind, id))
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        self.read("read", |inner| inner.get(kind, id))
    }

    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        self.read("read", |inner| inner.read_range(kind, id, offset, length, consume))
    }

    fn spool(&self) -> Result<File> {
        self.inner.spool()
    }

    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> Result<()> {
        self.write("put", |inner| inner.put(kind, id, body))
    }

    fn put_packfile(&self, id: Id, purpose: Purpose, body: Body<'_>) -> Result<()> {
        self.write("put", |inner| inner.put_packfile(id, purpose, body))
    }

    fn delete(&self, kind: Kind, id: Id) -> Result<()> {
        self.write("delete", |inner| inner.delete(kind, id))
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn parallelism(&self) -> usize {
        self.inner.parallelism()
    }

    fn retrieval(&self) -> Option<&dyn Retrieval> {
        self.inner.retrieval()
    }

    fn take_notes(&self) -> Vec<String> {
        self.inner.take_notes()
    }

    fn spools_beside(&self) -> bool {
        self.inner.spools_beside()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn is_archive(&self) -> bool {
        self.inner.is_archive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::memory::MemoryStore;

    const ID: Id = Id([7; 32]);

    #[test]
    fn fails_when_the_budget_is_spent() {
        let store = Faulty::new(MemoryStore::new(), Counted::Writes, 2);
        store.create(b"c").unwrap();
        store.put(Kind::State, ID, Body::Bytes(b"x")).unwrap();
        assert_eq!(store.delete(Kind::State, ID).unwrap_err().kind, ErrorKind::Transport);
        assert!(store.delete(Kind::State, ID).is_err());
        assert_eq!(store.get(Kind::State, ID).unwrap(), b"x");
        assert_eq!(store.spent(), 4);
        assert_eq!(store.into_inner().get(Kind::State, ID).unwrap(), b"x");
    }

    #[test]
    fn a_lost_answer_does_not_undo_the_write() {
        let store = Faulty::new(MemoryStore::new(), Counted::Everything, 1).landing();
        store.create(b"c").unwrap();
        assert!(store.put(Kind::State, ID, Body::Bytes(b"x")).is_err());
        assert!(store.put(Kind::State, Id::ZERO, Body::Bytes(b"x")).is_err());
        assert!(store.get(Kind::State, ID).is_err());
        assert_eq!(store.inner().get(Kind::State, ID).unwrap(), b"x");
        assert!(store.inner().get(Kind::State, Id::ZERO).is_err());
    }
}
