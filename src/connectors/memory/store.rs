//! A store in memory.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use crate::base::sys::FileAt as _;
use crate::base::{At, Id};
use crate::connector::{Body, Error, ErrorKind, Kind, Listed, Result, Storage};
use crate::connectors::container::{past_the_end, whole_length};

#[derive(Clone, Debug)]
struct Resource {
    bytes: Arc<[u8]>,
    modified: SystemTime,
}

#[derive(Clone, Debug, Default)]
struct Content {
    config: Option<Vec<u8>>,
    resources: HashMap<(Kind, Id), Resource>,
}

/// A store in memory. A clone shares nothing with its original: it is a snapshot to go back to.
#[derive(Default)]
pub struct MemoryStore {
    content: RwLock<Content>,
}

impl MemoryStore {
    /// Creates a place without a store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Overwrites the bytes of a resource, whatever its kind: how tests damage a store.
    pub fn overwrite(&self, kind: Kind, id: Id, bytes: &[u8]) {
        self.write().insert(kind, id, bytes.into());
    }

    /// Overwrites CONFIG, or removes it: how tests damage a store.
    pub fn overwrite_config(&self, config: Option<&[u8]>) {
        self.write().config = config.map(<[u8]>::to_vec);
    }

    /// Returns how many bytes the resources of a kind hold.
    pub fn stored_bytes(&self, kind: Kind) -> u64 {
        let content = self.read();
        content.resources.iter().filter(|((k, _), _)| *k == kind).map(|(_, r)| r.bytes.len() as u64).sum()
    }

    fn read(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, op: &'static str, kind: Kind, id: Id) -> Result<Arc<[u8]>> {
        let content = self.read();
        let found = content.resources.get(&(kind, id)).map(|resource| Arc::clone(&resource.bytes));
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, op, name(kind, id)))
    }
}

impl Content {
    fn insert(&mut self, kind: Kind, id: Id, bytes: Arc<[u8]>) {
        self.resources.insert((kind, id), Resource { bytes, modified: SystemTime::now() });
    }
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self { content: RwLock::new(self.read().clone()) }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("resources", &self.read().resources.len()).finish_non_exhaustive()
    }
}

fn name(kind: Kind, id: Id) -> String {
    format!("memory:{}/{id}", kind.folder())
}

impl Storage for MemoryStore {
    fn location(&self) -> String {
        "memory:".into()
    }

    fn create(&self, config: &[u8]) -> Result<()> {
        let mut content = self.write();
        if content.config.is_some() || !content.resources.is_empty() {
            return Err(
                Error::new(ErrorKind::Exists, "create", self.location()).detail("there is a store already")
            );
        }
        content.config = Some(config.to_vec());
        Ok(())
    }

    fn config(&self) -> Result<Vec<u8>> {
        let config = self.read().config.clone();
        config.ok_or_else(|| Error::new(ErrorKind::NotFound, "open", "memory:CONFIG"))
    }

    fn replace_config(&self, expected: &[u8], new: &[u8]) -> Result<()> {
        let mut content = self.write();
        if content.config.as_deref() != Some(expected) {
            return Err(
                Error::new(ErrorKind::Changed, "replace", "memory:CONFIG").detail("it was changed meanwhile")
            );
        }
        content.config = Some(new.to_vec());
        Ok(())
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        // Collected first: a caller may put or delete from within `each`.
        let listed: Vec<Listed> = self
            .read()
            .resources
            .iter()
            .filter(|((of, _), _)| *of == kind)
            .map(|((_, id), resource)| Listed {
                id: *id,
                size: resource.bytes.len() as u64,
                modified: Some(resource.modified),
                tag: None,
            })
            .collect();
        listed.into_iter().for_each(each);
        Ok(())
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        Ok(self.find("read", kind, id)?.len() as u64)
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        let bytes = self.find("read", kind, id)?;
        whole_length(kind, bytes.len() as u64, &name(kind, id))?;
        Ok(bytes.to_vec())
    }

    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let bytes = self.find("read", kind, id)?;
        let range = usize::try_from(offset)
            .ok()
            .and_then(|from| bytes.get(from..from.checked_add(length)?))
            .ok_or_else(|| past_the_end(&name(kind, id), offset, length, bytes.len() as u64))?;
        consume(range);
        Ok(())
    }

    fn spool(&self) -> Result<File> {
        Ok(tempfile::tempfile().at("create a file in", std::env::temp_dir())?)
    }

    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> Result<()> {
        let bytes: Arc<[u8]> = match body {
            Body::Bytes(bytes) => bytes.into(),
            Body::Spool { file, length } => {
                let length = usize::try_from(length)
                    .map_err(|_| Error::new(ErrorKind::Full, "put", name(kind, id)))?;
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, 0).at("read", "spool")?;
                bytes.into()
            }
        };
        let mut content = self.write();
        if kind == Kind::Lock || !content.resources.contains_key(&(kind, id)) {
            content.insert(kind, id, bytes);
        }
        Ok(())
    }

    fn delete(&self, kind: Kind, id: Id) -> Result<()> {
        self.write().resources.remove(&(kind, id));
        Ok(())
    }
}
