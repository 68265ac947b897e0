//! A store's resources as objects below an optional prefix (FORMAT.md, "Storage layouts", S3):
//!
//! ```text
//! CONFIG
//! CONFIG.frozen              for cold storage classes only: a second copy
//! packfiles/<xx>/<id>        <xx> = the first two digits of <id>
//! states/<xx>/<id>
//! locks/<id>
//! ```
//!
//! Keys below the three folders that do not have this shape are not ours: listings pass over them.
//!
//! **Storage class.** The class chosen for the connector goes to every object, unless it is a cold one: then only
//! packfiles get it, and CONFIG, states and locks stay where they can be read at once.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::client::{Client, Condition, Failure, FileRange, Put, Source};
use super::options::Options;
use crate::base::Id;
use crate::connector::{Body, Error, ErrorKind, Kind, Listed, Result, Storage};

/// The longest CONFIG that is read, in bytes.
const MAX_CONFIG: u64 = 32 << 10;
/// The longest resource that is read whole, in bytes.
const MAX_WHOLE: u64 = 2 << 30;

/// Classes whose objects must be retrieved before they can be read.
const COLD: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// A store in a bucket.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    /// Empty, or ending in a slash.
    prefix: Vec<u8>,
    /// Set once the server refused a conditional PUT as unknown.
    unconditional: AtomicBool,
}

/// Returns whether objects of a class must be retrieved before they can be read.
pub(super) fn is_cold(class: &str) -> bool {
    COLD.contains(&class)
}

impl S3Store {
    /// Makes the connector; no request is sent yet.
    pub fn new(options: Options) -> Result<Self> {
        let prefix = options.folder_prefix();
        Ok(Self { client: Client::new(options)?, prefix, unconditional: AtomicBool::new(false) })
    }

    fn key(&self, name: &str) -> Vec<u8> {
        [self.prefix.as_slice(), name.as_bytes()].concat()
    }

    fn key_of(&self, kind: Kind, id: Id) -> Vec<u8> {
        let hex = id.to_hex();
        self.key(&match kind {
            Kind::Packfile | Kind::State => format!("{}/{}/{hex}", kind.folder(), &hex[..2]),
            Kind::Lock => format!("{}/{hex}", kind.folder()),
        })
    }

    /// Returns the headers of an object; `bulk` tells a packfile from what must be readable at once.
    fn put_headers(&self, bulk: bool) -> Put {
        let class = self.client.options().storage_class.as_deref();
        let class = class.filter(|class| *class != "STANDARD" && (bulk || !is_cold(class)));
        Put { headers: class.map(|class| ("x-amz-storage-class".into(), class.into())).into_iter().collect() }
    }

    /// Puts an object that must not be there yet. Returns false where it is there.
    fn put_new(&self, key: &[u8], headers: &Put, source: Source<'_>) -> Result<bool> {
        if !self.unconditional.load(Ordering::Relaxed) {
            match self.client.put(key, headers, source, &Condition::IfAbsent) {
                Ok(_) => return Ok(true),
                Err(failure) if failure.status == 412 => return Ok(false),
                Err(failure) if failure.status == 501 => self.unconditional.store(true, Ordering::Relaxed),
                Err(failure) => return Err(failure.into()),
            }
        }
        self.client.put(key, headers, source, &Condition::Always)?;
        Ok(true)
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
        let _ = self.client.delete(&key);
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
        let cold = self.client.options().storage_class.as_deref().is_some_and(is_cold);
        if cold {
            let frozen = self.key("CONFIG.frozen");
            self.client.put(&frozen, &self.put_headers(true), Source::Bytes(config), &Condition::Always)?;
        }
        if self.put_new(&self.key("CONFIG"), &self.put_headers(false), Source::Bytes(config))? {
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
            match self.client.put(&key, &self.put_headers(false), Source::Bytes(new), &condition) {
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
        Ok(self.client.get_bytes(&self.key_of(kind, id), MAX_WHOLE)?.0)
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
        let key = self.key_of(kind, id);
        let headers = self.put_headers(kind == Kind::Packfile);
        let file;
        let source = match body {
            Body::Bytes(bytes) => Source::Bytes(bytes),
            Body::Spool { file: spooled, length } => {
                file = FileRange { file: spooled, length };
                Source::Local(&file)
            }
        };
        if kind == Kind::Lock {
            self.client.put(&key, &headers, source, &Condition::Always)?;
        } else {
            // One that is there already holds what its name says.
            self.put_new(&key, &headers, source)?;
        }
        Ok(())
    }

    fn delete(&self, kind: Kind, id: Id) -> Result<()> {
        Ok(self.client.delete(&self.key_of(kind, id))?)
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// Shortens an ETag to what a listing carries; nothing where the server told none.
fn tag_of(etag: &str) -> Option<u64> {
    let hash = blake3::hash(etag.as_bytes());
    let (head, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    (!etag.is_empty()).then(|| u64::from_le_bytes(*head))
}

/// Reads a resource's id off what follows its folder; `None` for a foreign name.
fn parse_name(kind: Kind, rest: &[u8]) -> Option<Id> {
    let name = match kind {
        Kind::Packfile | Kind::State => {
            let (fan, name) = (rest.get(..2)?, rest.get(3..)?);
            (rest[2] == b'/' && name.starts_with(fan)).then_some(name)?
        }
        Kind::Lock => rest,
    };
    Id::from_hex(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_another_shape_are_foreign() {
        let id = Id([0xab; 32]);
        let hex = id.to_hex();
        assert_eq!(parse_name(Kind::State, format!("ab/{hex}").as_bytes()), Some(id));
        assert_eq!(parse_name(Kind::Lock, hex.as_bytes()), Some(id));
        for name in ["", "a", "ab/", "ac/", "README", "ab/README"] {
            assert_eq!(parse_name(Kind::Packfile, name.as_bytes()), None, "{name}");
        }
        assert_eq!(parse_name(Kind::Packfile, format!("cd/{hex}").as_bytes()), None);
        assert_eq!(parse_name(Kind::Packfile, format!("ab/{hex}.tmp").as_bytes()), None);
    }
}
