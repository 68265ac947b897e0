//! Buckets and objects in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};

use super::sigv4::hex;

/// One object as it is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    /// The content.
    pub(crate) body: Arc<Vec<u8>>,
    /// The ETag without quotes.
    pub(crate) etag: String,
    /// Unix milliseconds.
    pub(crate) modified: i64,
    /// The storage class.
    pub(crate) class: String,
    /// System headers and `x-amz-meta-*`, names in lower case.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// Tags.
    pub(crate) tags: Vec<(String, String)>,
    /// The digest of the customer's key it is encrypted under (SSE-C), where it is.
    pub(crate) sse: Option<String>,
}

impl Object {
    /// An object of class STANDARD with nothing but content.
    pub(crate) fn new(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            etag: hex(&Md5::digest(&body)),
            body: Arc::new(body),
            modified: now_millis(),
            class: "STANDARD".into(),
            ..Self::default()
        }
    }

    /// An object whose content has this MD5.
    pub(super) fn hashed(body: Arc<Vec<u8>>, md5: [u8; 16]) -> Self {
        Self { etag: hex(&md5), body, modified: now_millis(), class: "STANDARD".into(), ..Self::default() }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Adds a tag.
    pub(crate) fn tag(mut self, name: &str, value: &str) -> Self {
        self.tags.push((name.into(), value.into()));
        self
    }

    /// Sets the storage class.
    pub(crate) fn class(mut self, class: &str) -> Self {
        self.class = class.into();
        self
    }

    /// Returns a header as text.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

/// A multipart upload in the making.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: Vec<u8>,
    pub(super) template: Object,
    /// Contents and their MD5s.
    pub(super) parts: BTreeMap<u32, (Arc<Vec<u8>>, [u8; 16])>,
}

/// All buckets and uploads.
#[derive(Debug, Default)]
pub(super) struct Backend {
    buckets: BTreeMap<String, BTreeMap<Vec<u8>, Arc<Object>>>,
    pub(super) uploads: BTreeMap<String, Upload>,
    next_upload: u64,
}

impl Backend {
    pub(super) fn make_bucket(&mut self, name: &str) {
        self.buckets.entry(name.to_owned()).or_default();
    }

    pub(super) fn bucket_names(&self) -> Vec<String> {
        self.buckets.keys().cloned().collect()
    }

    pub(super) fn bucket(&self, name: &str) -> Option<&BTreeMap<Vec<u8>, Arc<Object>>> {
        self.buckets.get(name)
    }

    pub(super) fn remove_bucket(&mut self, name: &str) {
        self.buckets.remove(name);
    }

    pub(super) fn insert(&mut self, bucket: &str, key: &[u8], object: Object) {
        self.buckets.entry(bucket.to_owned()).or_default().insert(key.to_vec(), Arc::new(object));
    }

    pub(super) fn remove(&mut self, bucket: &str, key: &[u8]) {
        if let Some(objects) = self.buckets.get_mut(bucket) {
            objects.remove(key);
        }
    }

    pub(super) fn object(&self, bucket: &str, key: &[u8]) -> Option<Arc<Object>> {
        self.buckets.get(bucket)?.get(key).cloned()
    }

    pub(super) fn keys(&self, bucket: &str) -> Vec<Vec<u8>> {
        self.buckets.get(bucket).map(|objects| objects.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn open_uploads(&self) -> usize {
        self.uploads.len()
    }

    pub(super) fn begin_upload(&mut self, upload: Upload) -> String {
        self.next_upload += 1;
        let id = format!("upload/{}+=~", self.next_upload);
        self.uploads.insert(id.clone(), upload);
        id
    }
}

/// Returns Unix milliseconds.
pub(super) fn now_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    i64::try_from(now).unwrap_or(0)
}
