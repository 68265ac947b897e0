//! Buckets and objects in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};

use super::ops::cold::Retrieval;
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
    /// The version's id; empty in a bucket that never kept versions.
    pub(crate) version: String,
    /// Whether this version only says that there is no object.
    pub(crate) delete_marker: bool,
    /// The ACL as it was put.
    pub(crate) acl: Option<String>,
    /// Mode and end of a retention.
    pub(crate) retention: Option<(String, String)>,
    /// Whether there is a legal hold.
    pub(crate) hold: bool,
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
    /// When it was begun, and when it got its last part, in Unix milliseconds.
    pub(super) begun: i64,
    pub(super) fed: i64,
}

/// All buckets and uploads.
#[derive(Debug, Default)]
pub(super) struct Backend {
    buckets: BTreeMap<String, BTreeMap<Vec<u8>, Arc<Object>>>,
    pub(super) uploads: BTreeMap<String, Upload>,
    next_upload: u64,
    /// `Enabled` or `Suspended`, for buckets that keep or kept versions.
    versioning: BTreeMap<String, String>,
    /// In those, all versions of every key, the newest first.
    history: BTreeMap<String, BTreeMap<Vec<u8>, Vec<Arc<Object>>>>,
    next_version: u64,
    /// Buckets that have Object Lock.
    pub(super) locked: BTreeSet<String>,
    /// Retrievals by bucket and key.
    pub(super) retrievals: BTreeMap<(String, Vec<u8>), Retrieval>,
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

    pub(super) fn insert(&mut self, bucket: &str, key: &[u8], mut object: Object) {
        if let Some(status) = self.versioning.get(bucket) {
            let enabled = status == "Enabled";
            self.next_version += 1;
            // Opaque, and no order to be read from it.
            let id =
                format!("{:x}-{}", self.next_version.wrapping_mul(0x9e37_79b9_7f4a_7c15), self.next_version);
            object.version = if enabled { id } else { "null".into() };
            let versions =
                self.history.entry(bucket.to_owned()).or_default().entry(key.to_vec()).or_default();
            versions.retain(|version| version.version != object.version);
            versions.insert(0, Arc::new(object));
            self.show_latest(bucket, key);
            return;
        }
        self.buckets.entry(bucket.to_owned()).or_default().insert(key.to_vec(), Arc::new(object));
    }

    /// Removes an object; where versions are kept, by a delete marker.
    pub(super) fn remove(&mut self, bucket: &str, key: &[u8]) {
        if self.versioning.contains_key(bucket) {
            let marker = Object { delete_marker: true, modified: now_millis(), ..Object::default() };
            self.insert(bucket, key, marker);
        } else if let Some(objects) = self.buckets.get_mut(bucket) {
            objects.remove(key);
        }
    }

    /// Removes one version for good.
    pub(super) fn remove_version(&mut self, bucket: &str, key: &[u8], id: &str) {
        let versions = self.history.get_mut(bucket).and_then(|keys| keys.get_mut(key));
        if let Some(versions) = versions {
            versions.retain(|version| version.version != id);
        }
        if self.versioning.contains_key(bucket) {
            self.show_latest(bucket, key);
        } else if id == "null" {
            self.remove(bucket, key);
        }
    }

    /// Makes the newest version what is seen without a version id.
    fn show_latest(&mut self, bucket: &str, key: &[u8]) {
        let versions = self.history.get(bucket).and_then(|keys| keys.get(key));
        let latest = versions.and_then(|versions| versions.first()).filter(|latest| !latest.delete_marker);
        let latest = latest.cloned();
        let objects = self.buckets.entry(bucket.to_owned()).or_default();
        match latest {
            Some(latest) => drop(objects.insert(key.to_vec(), latest)),
            None => drop(objects.remove(key)),
        }
    }

    /// Replaces a version, or an object without versions, by itself with something changed.
    pub(super) fn amend(&mut self, bucket: &str, key: &[u8], object: Object) {
        if !self.versioning.contains_key(bucket) {
            return self.insert(bucket, key, object);
        }
        let versions = self.history.get_mut(bucket).and_then(|keys| keys.get_mut(key));
        let old = versions.into_iter().flatten().find(|version| version.version == object.version);
        if let Some(old) = old {
            *old = Arc::new(object);
        }
        self.show_latest(bucket, key);
    }

    /// Returns a version, delete markers included; the latest object without an id.
    pub(super) fn version(&self, bucket: &str, key: &[u8], id: Option<&str>) -> Option<Arc<Object>> {
        let Some(id) = id else { return self.object(bucket, key) };
        if !self.versioning.contains_key(bucket) {
            return self.object(bucket, key).filter(|_| id == "null");
        }
        self.history.get(bucket)?.get(key)?.iter().find(|version| version.version == id).cloned()
    }

    /// Returns all versions of every key, keys ascending, the newest version first.
    pub(super) fn versions(&self, bucket: &str) -> Vec<(Vec<u8>, Vec<Arc<Object>>)> {
        if self.versioning.contains_key(bucket) {
            let keys = self.history.get(bucket).into_iter().flatten();
            return keys.map(|(key, versions)| (key.clone(), versions.clone())).collect();
        }
        let null = |object: &Arc<Object>| Arc::new(Object { version: "null".into(), ..(**object).clone() });
        let objects = self.buckets.get(bucket).into_iter().flatten();
        objects.map(|(key, object)| (key.clone(), vec![null(object)])).collect()
    }

    pub(super) fn versioning(&self, bucket: &str) -> Option<&str> {
        self.versioning.get(bucket).map(String::as_str)
    }

    /// Makes a bucket keep versions; what is there already is the version `null`.
    pub(super) fn set_versioning(&mut self, bucket: &str, status: &str) {
        if self.versioning.insert(bucket.to_owned(), status.to_owned()).is_some() {
            return;
        }
        let null = |object: &Arc<Object>| Arc::new(Object { version: "null".into(), ..(**object).clone() });
        let objects = self.buckets.entry(bucket.to_owned()).or_default();
        for object in objects.values_mut() {
            *object = null(object);
        }
        let history = objects.iter().map(|(key, object)| (key.clone(), vec![Arc::clone(object)])).collect();
        self.history.insert(bucket.to_owned(), history);
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
