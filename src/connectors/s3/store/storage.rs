//! The store itself: creation, reading, writing.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::super::class::{Part, is_cold};
use super::super::client::{Client, Condition, Failure, FileRange, Put, Source, kept_until};
use super::super::options::Options;
use super::layout::{name_of, parse_name};
use crate::base::Id;
use crate::connector::{Body, Error, ErrorKind, Kind, Listed, Purpose, Result, Retrieval, Storage};

/// The longest CONFIG that is read, in bytes.
const MAX_CONFIG: u64 = 32 << 10;

/// A store in a bucket.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    /// Empty, or ending in a slash.
    prefix: Vec<u8>,
    /// Set once the server refused a conditional PUT as unknown.
    pub(super) unconditional: AtomicBool,
    /// Set once tagging was refused.
    pub(super) untagged: AtomicBool,
    notes: Mutex<Vec<String>>,
}

impl S3Store {
    /// Makes the connector; no request is sent yet.
    pub fn new(options: Options) -> Result<Self> {
        let prefix = options.folder_prefix();
        Ok(Self {
            client: Client::new(options)?,
            prefix,
            unconditional: AtomicBool::new(false),
            untagged: AtomicBool::new(false),
            notes: Mutex::default(),
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    pub(super) fn key(&self, name: &str) -> Vec<u8> {
        [self.prefix.as_slice(), name.as_bytes()].concat()
    }

    fn key_of(&self, kind: Kind, id: Id) -> Vec<u8> {
        self.key(&name_of(kind, id))
    }

    /// Fails when an object is kept for some time yet. Asked before every deletion: where a bucket has versions,
    /// deleting hides what may not be deleted, and succeeds.
    fn refuse_kept(&self, key: &[u8]) -> Result<()> {
        // Whatever else may be wrong is told by the deletion.
        let Ok(head) = self.client.head(key) else { return Ok(()) };
        match kept_until(&head.headers, SystemTime::now()) {
            None => Ok(()),
            Some(until) => {
                let error = Error::new(ErrorKind::Denied, "delete", self.client.target(Some(key)));
                Err(error.detail(format!("Object Lock keeps it until {until}")))
            }
        }
    }

    fn put_as(&self, kind: Kind, id: Id, purpose: Purpose, body: Body<'_>) -> Result<()> {
        let key = self.key_of(kind, id);
        let file;
        let source = match body {
            Body::Bytes(bytes) => Source::Bytes(bytes),
            Body::Spool { file: spooled, length } => {
                file = FileRange { file: spooled, length };
                Source::Local(&file)
            }
        };
        // A packfile or state that is there already holds what its name says.
        match (kind, purpose) {
            (Kind::Lock, _) => {
                // A lock that may not be deleted is released by overwriting it, even when everything is to end.
                let put = Put { at_the_end: true, ..self.put_headers(Part::Control, false) };
                self.client.put(&key, &put, source, &Condition::Always)?;
            }
            (Kind::Packfile, Purpose::Content) => {
                self.put_new_data(&key, self.put_headers(Part::Content, true), source)?;
            }
            (Kind::Packfile | Kind::State, _) => {
                self.put_new(&key, &self.put_headers(Part::Metadata, true), source)?;
            }
        }
        Ok(())
    }

    /// Fails when there is a store, or what is left of one.
    fn refuse_existing(&self) -> Result<()> {
        let exists = |what: &str| Err(Error::new(ErrorKind::Exists, "create", self.location()).detail(what));
        match self.client.get_bytes(&self.key("CONFIG"), MAX_CONFIG) {
            Ok(_) => return exists("there is a store already"),
            Err(failure) if self.is_missing_bucket(&failure) => return Ok(self.client.create_bucket()?),
            Err(failure) if failure.status == 404 => {}
            Err(failure) => return Err(failure.into()),
        }
        for kind in [Kind::State, Kind::Packfile] {
            let mut found = false;
            self.client.list(&self.key(&format!("{}/", kind.folder())), Some(1), &mut |_| {
                found = true;
                ControlFlow::Break(())
            })?;
            if found {
                return exists("there are packfiles or states of a store whose CONFIG is gone");
            }
        }
        Ok(())
    }

    /// Some servers answer a plain 404 for a missing bucket; then the bucket itself is asked for.
    fn is_missing_bucket(&self, failure: &Failure) -> bool {
        failure.is_no_bucket()
            || (failure.status == 404
                && failure.is("NotFound")
                && matches!(self.client.bucket_exists(), Ok(false)))
    }

    /// Returns whether conditional writes are honoured here, by trying one on an object of our own.
    fn honours_conditions(&self) -> Result<bool> {
        let key = self.key("CONFIG.probe");
        let probe = || self.client.put(&key, &Put::default(), Source::Bytes(b"probe"), &Condition::IfAbsent);
        let refused = match (probe(), probe()) {
            (_, Err(failure)) if failure.status == 412 => true,
            (_, Err(failure)) if failure.status != 501 => return Err(failure.into()),
            _ => false,
        };
        // Where nothing may be deleted the probe stays: five bytes that no one reads.
        let _ = self.client.delete(&key, true);
        Ok(refused)
    }

    fn changed(&self) -> Error {
        Error::new(ErrorKind::Changed, "replace", self.client.target(Some(&self.key("CONFIG"))))
            .detail("CONFIG is not what it was")
    }
}

impl Storage for S3Store {
    fn location(&self) -> String {
        self.client.options().describe()
    }

    fn create(&self, config: &[u8]) -> Result<()> {
        self.refuse_existing()?;
        self.check_object_lock()?;
        let cold = self.client.options().storage_class.as_deref().is_some_and(is_cold);
        if cold {
            let frozen = self.key("CONFIG.frozen");
            self.client.put(
                &frozen,
                &self.put_headers(Part::Content, false),
                Source::Bytes(config),
                &Condition::Always,
            )?;
        }
        if self.put_new(
            &self.key("CONFIG"),
            &self.put_headers(Part::Control, false),
            Source::Bytes(config),
        )? {
            return Ok(());
        }
        // Either another was faster, or an answer of ours was lost and the retry met our own CONFIG.
        if self.config()? == config {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Exists, "create", self.location()).detail("there is a store already"))
    }

    fn config(&self) -> Result<Vec<u8>> {
        Ok(self.client.get_bytes(&self.key("CONFIG"), MAX_CONFIG)?.0)
    }

    fn replace_config(&self, expected: &[u8], new: &[u8]) -> Result<()> {
        let key = self.key("CONFIG");
        let (current, etag) = self.client.get_bytes(&key, MAX_CONFIG)?;
        if current != expected {
            return Err(self.changed());
        }
        let conditions = if !etag.is_empty() && self.honours_conditions()? {
            // Some servers (Ceph 18 for one) compare without the quotes; a wrong guess is refused, never accepted.
            vec![Condition::IfMatch(format!("\"{etag}\"")), Condition::IfMatch(etag)]
        } else {
            // The caller holds the store's lock; looking again right before is all that is left to do.
            vec![Condition::Always]
        };
        let mut refusal = None;
        for condition in conditions {
            if self.config()? != expected {
                break;
            }
            match self.client.put(
                &key,
                &self.put_headers(Part::Control, false),
                Source::Bytes(new),
                &condition,
            ) {
                Ok(_) => {
                    refusal = None;
                    break;
                }
                Err(failure) => refusal = Some(failure),
            }
            if refusal.as_ref().is_none_or(|failure| !matches!(failure.status, 409 | 412)) {
                break;
            }
        }
        // Read back whatever was answered: a lost answer does not mean that the write was lost.
        match (self.config(), refusal) {
            (Ok(now), _) if now == new => Ok(()),
            (_, Some(failure)) if !matches!(failure.status, 409 | 412) => Err(failure.into()),
            (Err(error), None) => Err(error),
            _ => Err(self.changed()),
        }
    }

    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let folder = self.key(&format!("{}/", kind.folder()));
        self.client.list(&folder, None, &mut |object| {
            if let Some(id) = parse_name(kind, &object.key[folder.len()..]) {
                let modified = object.time().map(SystemTime::from);
                each(Listed { id, size: object.size, modified, tag: tag_of(&object.etag) });
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        Ok(self.client.head(&self.key_of(kind, id))?.length)
    }

    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        Ok(self.client.get_bytes(&self.key_of(kind, id), kind.most_whole())?.0)
    }

    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let key = self.key_of(kind, id);
        if length == 0 {
            // HTTP has no empty range.
            if offset > self.client.head(&key)?.length {
                let error = Error::new(ErrorKind::Protocol, "get", self.client.target(Some(&key)));
                return Err(error.detail("the range ends past the end"));
            }
            consume(&[]);
            return Ok(());
        }
        consume(&self.client.get_range(&key, offset, length)?);
        Ok(())
    }

    fn spool(&self) -> Result<File> {
        tempfile::tempfile().map_err(|e| Error::io("create", "a temporary file", e))
    }

    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> Result<()> {
        self.put_as(kind, id, Purpose::Content, body)
    }

    fn put_packfile(&self, id: Id, purpose: Purpose, body: Body<'_>) -> Result<()> {
        self.put_as(Kind::Packfile, id, purpose, body)
    }

    fn delete(&self, kind: Kind, id: Id) -> Result<()> {
        let key = self.key_of(kind, id);
        if kind != Kind::Lock {
            self.refuse_kept(&key)?;
        }
        Ok(self.client.delete(&key, kind == Kind::Lock)?)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn parallelism(&self) -> usize {
        self.client.options().tuning.workers
    }

    fn retrieval(&self) -> Option<&dyn Retrieval> {
        Some(self)
    }

    fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Shortens an ETag to what a listing carries; nothing where the server told none.
fn tag_of(etag: &str) -> Option<u64> {
    let hash = blake3::hash(etag.as_bytes());
    let (head, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    (!etag.is_empty()).then(|| u64::from_le_bytes(*head))
}
