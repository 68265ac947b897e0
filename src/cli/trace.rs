//! `-trace`: what a run asks of its stores, as it happens.

use std::fmt::Display;
use std::fs::File;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use crate::base::{Id, Printable};
use crate::connector::{Body, Kind, Listed, Purpose, Result, Retrieval, Storage};
use crate::ui::{Output, units};

/// What is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Trace {
    /// Requests to stores.
    pub(crate) storage: bool,
    /// Requests to the server.
    pub(crate) web: bool,
}

impl FromStr for Trace {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut trace = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "storage" => trace.storage = true,
                "web" => trace.web = true,
                "all" => trace = Self { storage: true, web: true },
                other => {
                    return Err(format!("'{}' is no subsystem: storage, web or all", Printable::new(other)));
                }
            }
        }
        Ok(trace)
    }
}

/// A storage that tells each request, with its size, its time and its failure. Every method is passed on, those with
/// a default included: a storage that is traced behaves like one that is not.
#[derive(Debug)]
pub(crate) struct Traced {
    inner: Arc<dyn Storage>,
    output: Output,
}

impl Traced {
    /// Wraps a storage.
    pub(crate) fn wrap(inner: Arc<dyn Storage>, output: &Output) -> Arc<dyn Storage> {
        Arc::new(Self { inner, output: output.clone() })
    }

    fn tell<T>(
        &self,
        what: impl Display,
        bytes: impl FnOnce(&T) -> Option<u64>,
        act: impl FnOnce(&dyn Storage) -> Result<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        let result = act(self.inner.as_ref());
        let took = units::duration(begun.elapsed());
        let location = self.inner.location();
        self.output.notice(match &result {
            Ok(done) => {
                let size = bytes(done).map(|bytes| format!(", {}", units::bytes(bytes))).unwrap_or_default();
                format!("trace: storage: {what} at {location}{size}, {took}")
            }
            Err(error) => format!("trace: storage: {what} at {location} failed after {took}: {error}"),
        });
        result
    }
}

fn length(body: &Body<'_>) -> u64 {
    match body {
        Body::Bytes(bytes) => bytes.len() as u64,
        Body::Spool { length, .. } => *length,
    }
}

fn name(verb: &str, kind: Kind, id: Id) -> String {
    format!("{verb} {}/{}", kind.folder(), id.short())
}

impl Storage for Traced {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self, config: &[u8]) -> Result<()> {
        self.tell("create", |()| None, |inner| inner.create(config))
    }

    fn config(&self) -> Result<Vec<u8>> {
        self.tell("get CONFIG", |bytes: &Vec<u8>| Some(bytes.len() as u64), |inner| inner.config())
    }

    fn replace_config(&self, expected: &[u8], new: &[u8]) -> Result<()> {
        self.tell("replace CONFIG", |()| None, |inner| inner.replace_config(expected, new))
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.tell(format_args!("list {}", kind.folder()), |()| None, |inner| inner.list(kind, each))
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        self.tell(name("size of", kind, id), |size| Some(*size), |inner| inner.size(kind, id))
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        self.tell(
            name("get", kind, id),
            |bytes: &Vec<u8>| Some(bytes.len() as u64),
            |inner| inner.get(kind, id),
        )
    }

    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        self.tell(
            format_args!("read {} from {offset}", name("part of", kind, id)),
            |()| Some(length as u64),
            |inner| inner.read_range(kind, id, offset, length, consume),
        )
    }

    fn spool(&self) -> Result<File> {
        self.inner.spool()
    }

    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> Result<()> {
        let bytes = length(&body);
        self.tell(name("put", kind, id), |()| Some(bytes), |inner| inner.put(kind, id, body))
    }

    fn put_packfile(&self, id: Id, purpose: Purpose, body: Body<'_>) -> Result<()> {
        let bytes = length(&body);
        let what = name("put", Kind::Packfile, id);
        self.tell(what, |()| Some(bytes), |inner| inner.put_packfile(id, purpose, body))
    }

    fn delete(&self, kind: Kind, id: Id) -> Result<()> {
        self.tell(name("delete", kind, id), |()| None, |inner| inner.delete(kind, id))
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

    #[test]
    fn subsystems_are_known_by_name() {
        for (text, storage, web) in
            [("", false, false), ("storage", true, false), ("web", false, true), ("storage, all", true, true)]
        {
            assert_eq!(text.parse(), Ok(Trace { storage, web }), "{text:?}");
        }
        assert!("storge".parse::<Trace>().is_err());
    }
}
