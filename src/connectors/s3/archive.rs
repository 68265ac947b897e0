//! One object that is an archive (`s3://host/bucket/x.ptar`), read by ranges.
//!
//! The first request asks for the object's end and learns its length and ETag; every other one names the ETag
//! (`If-Match`), so that an archive that is replaced meanwhile is an error of kind `Changed`, never wrong bytes.

use super::client::{Client, Failure, Suffix};
use super::options::Options;
use crate::connector::{Error, ErrorKind, Order, Readiness, Result};
use crate::connectors::remote::{Ranges, RemoteArchive, TAIL, Tail};

/// A `.ptar` in a bucket, opened as a store that holds one packfile and one state.
pub type S3Archive = RemoteArchive<S3Object>;

/// One version of an object.
#[derive(Debug)]
pub struct S3Object {
    client: Client,
    key: Vec<u8>,
    etag: String,
}

impl S3Object {
    fn error(&self, failure: Box<Failure>) -> Error {
        if matches!(failure.status, 412 | 416) {
            return Error::new(ErrorKind::Changed, "read", self.target())
                .detail("the archive was replaced by another while it was read");
        }
        Error::from(failure)
    }
}

impl Ranges for S3Object {
    fn target(&self) -> String {
        self.client.target(Some(&self.key))
    }

    fn fetch(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.client.get_part(&self.key, offset, length, &self.etag).map_err(|failure| self.error(failure))
    }
}

impl S3Archive {
    /// Opens the archive at the location of `options`, with two requests: its end, then its beginning with CONFIG.
    ///
    /// Fails with `NotFound`, `Denied`, `Transport`; with `Invalid` when the object is no archive or the location
    /// names none, and with `Protocol` when it was cut short.
    pub fn open(options: Options) -> Result<Self> {
        let key = object_key(&options)?;
        let client = Client::new(options)?;
        let Suffix { offset, bytes, etag, modified } = client.get_suffix(&key, TAIL)?;
        Self::open_ranges(S3Object { client, key, etag }, Tail { offset, bytes }, modified)
    }
}

/// Asks whether the archive at the location of `options` can be read, and with an `order` for its retrieval, should it
/// be in cold storage.
pub fn archive_readiness(options: Options, order: Option<&Order>) -> Result<Readiness> {
    let key = object_key(&options)?;
    let client = Client::new(options)?;
    match (client.readiness(&key)?, order) {
        (Readiness::Archived, Some(order)) => Ok(client.retrieve(&key, *order)?),
        (state, _) => Ok(state),
    }
}

/// Returns the key of the object that a location names.
pub(super) fn object_key(options: &Options) -> Result<Vec<u8>> {
    let key = &options.location.prefix;
    if key.is_empty() || key.ends_with('/') {
        return Err(Error::new(ErrorKind::Invalid, "open", options.describe())
            .detail("it names a bucket or a folder, not an archive: add the archive's name"));
    }
    Ok(key.clone().into_bytes())
}
