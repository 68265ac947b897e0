//! How objects of a store are written: class, tag, retention, and what happens where one of them is refused.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::super::class::{self, Part};
use super::super::client::{self, Condition, Failure, Put, Source};
use super::storage::S3Store;
use crate::connector::{Error, ErrorKind, Result};

/// The tag of packfiles of contents, as a query string.
const DATA_TAG: &str = "plakar=data";

impl S3Store {
    /// Returns the headers of an object; `retained` where it is to be immutable.
    pub(super) fn put_headers(&self, part: Part, retained: bool) -> Put {
        let options = self.client().options();
        let class = class::choose(part, options.storage_class.as_deref(), options.metadata_class.as_deref());
        let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
        headers.extend(class.map(|class| ("x-amz-storage-class".into(), class.into())));
        if let Some(retention) = options.object_lock.filter(|_| retained) {
            headers.push(("x-amz-object-lock-mode".into(), retention.mode.name().into()));
            let until = retention.until(SystemTime::now());
            headers.push(("x-amz-object-lock-retain-until-date".into(), until.into()));
        }
        Put { headers, ..Put::default() }
    }

    /// Puts an object that must not be there yet. Returns false where it is there.
    pub(super) fn put_new(&self, key: &[u8], put: &Put, source: Source<'_>) -> Result<bool> {
        Ok(self.try_put_new(key, put, source).map_err(|failure| explained(failure, put))?)
    }

    fn try_put_new(&self, key: &[u8], put: &Put, source: Source<'_>) -> client::Result<bool> {
        if !self.unconditional.load(Ordering::Relaxed) {
            match self.client().put(key, put, source, &Condition::IfAbsent) {
                Ok(_) => return Ok(true),
                Err(failure) if failure.status == 412 => return Ok(false),
                Err(failure) if failure.status == 501 => self.unconditional.store(true, Ordering::Relaxed),
                Err(failure) => return Err(failure),
            }
        }
        self.client().put(key, put, source, &Condition::Always)?;
        Ok(true)
    }

    /// The same with the tag of contents, without it where tagging is refused.
    pub(super) fn put_new_data(&self, key: &[u8], mut put: Put, source: Source<'_>) -> Result<bool> {
        if self.untagged.load(Ordering::Relaxed) {
            return self.put_new(key, &put, source);
        }
        put.headers.push(("x-amz-tagging".into(), DATA_TAG.into()));
        let refusal = match self.try_put_new(key, &put, source) {
            Err(failure) if may_be_the_tag(&failure) => failure,
            result => return Ok(result.map_err(|failure| explained(failure, &put))?),
        };
        put.headers.pop();
        // Where this fails as well, it was not the tag.
        let stored = self.put_new(key, &put, source)?;
        if !self.untagged.swap(true, Ordering::Relaxed) {
            self.note(format!(
                "packfiles are written without the tag {DATA_TAG}, by which lifecycle rules could select them: {} \
                 (grant s3:PutObjectTagging if you want it)",
                refusal.code
            ));
        }
        Ok(stored)
    }
}

/// Returns whether a refusal may be due to the tag.
fn may_be_the_tag(failure: &Failure) -> bool {
    let unknown = failure.status == 400
        && ["InvalidTag", "InvalidArgument", "InvalidRequest", "NotImplemented"]
            .iter()
            .any(|code| failure.is(code));
    (failure.status == 403 && failure.is("AccessDenied")) || failure.status == 501 || unknown
}

/// Says what a refusal of a retention means. Servers differ in how much they say themselves.
fn explained(mut failure: Box<Failure>, put: &Put) -> Box<Failure> {
    let retained = put.headers.iter().any(|(name, _)| name == "x-amz-object-lock-mode");
    let about_lock = failure.message.is_empty() || failure.message.to_ascii_lowercase().contains("lock");
    if retained && failure.is("InvalidRequest") && about_lock {
        failure.kind = ErrorKind::Invalid;
        failure.hint = Some(NO_OBJECT_LOCK.into());
    }
    failure
}

/// What to do about a bucket without Object Lock.
const NO_OBJECT_LOCK: &str = "the bucket has no Object Lock, which can be enabled when a bucket is created: name a \
                              bucket that has it, or leave object_lock and retain out";

impl S3Store {
    /// Fails where objects cannot be retained though they are to be. Where that may not be asked, the first packfile
    /// tells.
    pub(super) fn check_object_lock(&self) -> Result<()> {
        if self.client().options().object_lock.is_none() {
            return Ok(());
        }
        match self.client().has_object_lock() {
            Ok(false) => {
                let target = self.client().target(None);
                Err(Error::new(ErrorKind::Invalid, "create", target).detail(NO_OBJECT_LOCK))
            }
            _ => Ok(()),
        }
    }
}
