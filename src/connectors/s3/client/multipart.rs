//! Multipart uploads: large objects in parts, each made anew for a retry.

use std::fmt::Write as _;

use md5::{Digest as _, Md5};
use rusty_s3::Method;

use super::failure::{Failure, Result};
use super::list::decode_key;
use super::object::{Condition, Download, Put, Source, Stored, root, unquote};
use super::send::{Client, Payload, Request};
use super::xml::escape;
use crate::base::hex;

/// The least size in bytes of a part that is not the last, everywhere.
pub(in super::super) const MIN_PART: u64 = 5 << 20;
/// The greatest size in bytes of a part, everywhere.
const MAX_PART: u64 = 5 << 30;
/// An upload that got nothing for so many seconds was left.
const STALE: i64 = 24 * 3600;

/// How an object is cut into parts of one size, the last being what is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct PartSizes {
    /// The object's size in bytes.
    pub(in super::super) total: u64,
    /// The size in bytes of every part but the last.
    pub(in super::super) part: u64,
}

impl PartSizes {
    /// Chooses a part size of at least `wanted` bytes that needs no more than `most` parts; `None` when the object
    /// is too large for any. Sizes are whole MiB.
    pub(in super::super) fn plan(total: u64, wanted: u64, most: u64) -> Option<Self> {
        const MIB: u64 = 1 << 20;
        let least = total.div_ceil(most).max(wanted).max(MIN_PART);
        let part = least.div_ceil(MIB) * MIB;
        (part <= MAX_PART && total > 0).then_some(Self { total, part })
    }

    /// Returns the number of parts.
    pub(in super::super) fn count(self) -> u64 {
        self.total.div_ceil(self.part)
    }

    /// Returns where a part begins and how long it is; parts count from 0 here.
    pub(in super::super) fn range(self, index: u64) -> (u64, u64) {
        let start = index * self.part;
        (start, self.part.min(self.total.saturating_sub(start)))
    }
}

/// A part that was uploaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Part {
    /// Its number, from 1.
    pub(in super::super) number: u64,
    /// Its ETag without quotes.
    pub(in super::super) etag: String,
}

impl Client {
    /// Returns how many parts an upload may have: AWS takes ten times what others are sure to take.
    pub(in super::super) fn max_parts(&self) -> u64 {
        if self.options().location.endpoint.is_aws() { 10_000 } else { 1000 }
    }

    /// Begins an upload and returns its id. Class, tags and metadata are given here.
    pub(in super::super) fn begin_upload(&self, key: &[u8], put: &Put) -> Result<String> {
        let mut request = Request::new("upload", Method::Post, Some(key)).query("uploads", "");
        request.headers.extend(put.headers.iter().cloned());
        self.customer_key(&mut request.headers);
        let target = self.target(Some(key));
        self.run(&request, Payload::Bytes(b""), &mut |response| {
            let root = root(response, "upload", &target, "InitiateMultipartUploadResult")?;
            let id = root.text_of("UploadId").filter(|id| !id.is_empty());
            id.map(str::to_owned)
                .ok_or_else(|| Failure::protocol("upload", &target, "the answer holds no upload id"))
        })
    }

    /// Uploads one part.
    pub(in super::super) fn upload_part(
        &self,
        key: &[u8],
        upload: &str,
        number: u64,
        source: Source<'_>,
    ) -> Result<Part> {
        let mut request = Request::new("upload", Method::Put, Some(key))
            .query("partNumber", number.to_string())
            .query("uploadId", upload);
        self.customer_key(&mut request.headers);
        let Stored { etag, .. } = self.send_content(request, source)?;
        Ok(Part { number, etag })
    }

    /// Makes the parts one object of `size` bytes, if what is there meets the condition. A server that does not take
    /// the condition is asked without.
    ///
    /// An answer may be lost after the upload was completed; the retry then finds no upload, or the object in its own
    /// way. Whether that object is this one is asked before that is called a failure.
    pub(in super::super) fn complete_upload(
        &self,
        key: &[u8],
        upload: &str,
        parts: &[Part],
        size: u64,
        condition: &Condition,
    ) -> Result<Stored> {
        let mut result = self.ask_to_complete(key, upload, parts, condition);
        if *condition != Condition::Always && result.as_ref().is_err_and(|failure| is_untaken(failure)) {
            result = self.ask_to_complete(key, upload, parts, &Condition::Always);
        }
        let Err(failure) = result else { return result };
        let is_gone = failure.is("NoSuchUpload");
        if failure.status != 412 && !is_gone {
            return Err(failure);
        }
        // An ETag that is no MD5 tells only how many parts there were. That will do where an answer was lost before, and
        // not where the very first one is that there is no such upload: an older object may have as many parts.
        let was_repeated = is_gone && failure.attempts > 1;
        let is_this = |head: &Download| {
            let etag = head.etag();
            etag_of(parts).is_some_and(|expected| expected == etag)
                || was_repeated
                    && !self.etags_are_md5(&head.headers)
                    && etag.ends_with(&format!("-{}", parts.len()))
        };
        match self.head(key) {
            Ok(head) if head.length == size && is_this(&head) => {
                Ok(Stored { etag: head.etag(), is_version: false })
            }
            _ => Err(failure),
        }
    }

    fn ask_to_complete(
        &self,
        key: &[u8],
        upload: &str,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<Stored> {
        let mut body = String::from("<CompleteMultipartUpload>");
        for part in parts {
            let etag = escape(&part.etag).unwrap_or_default();
            let _ =
                write!(body, "<Part><PartNumber>{}</PartNumber><ETag>\"{etag}\"</ETag></Part>", part.number);
        }
        body.push_str("</CompleteMultipartUpload>");
        let mut request = Request::new("upload", Method::Post, Some(key))
            .query("uploadId", upload)
            .header("content-type", "application/xml");
        if let Some((name, value)) = condition.header() {
            request = request.header(name, value);
        }
        let target = self.target(Some(key));
        self.run(&request, Payload::Bytes(body.as_bytes()), &mut |response| {
            let root = root(response, "upload", &target, "CompleteMultipartUploadResult")?;
            let etag = unquote(root.text_of("ETag").unwrap_or_default()).to_owned();
            Ok(Stored { etag, is_version: false })
        })
    }

    /// Gives uploads of exactly this key up that were begun and left more than a day ago: by a run that was killed, so
    /// that nobody will complete them. What takes parts still is somebody's, however old. Returns how many there were.
    ///
    /// Where these may not be listed or given up, the provider's own rules have to remove them.
    pub(in super::super) fn sweep_uploads(&self, key: &[u8]) -> Result<usize> {
        let Ok(prefix) = std::str::from_utf8(key) else { return Ok(0) };
        // One page: whoever has more of these than a page holds is rid of the rest by the next run.
        let request = Request::new("list the uploads of", Method::Get, None)
            .query("uploads", "")
            .query("encoding-type", "url")
            .query("prefix", prefix);
        let target = self.target(Some(key));
        let listed = self.run(&request, Payload::None, &mut |response| {
            root(response, "list the uploads of", &target, "ListMultipartUploadsResult")
        })?;
        let encoded = listed.text_of("EncodingType").is_some_and(|kind| kind.eq_ignore_ascii_case("url"));
        let mut swept = 0;
        for upload in listed.children.iter().filter(|child| child.name == "Upload") {
            let of = upload.text_of("Key").and_then(|text| decode_key(text, encoded).ok());
            let (Some(id), Some(begun)) = (upload.text_of("UploadId"), upload.text_of("Initiated")) else {
                continue;
            };
            if of.as_deref() == Some(key) && self.is_stale(begun) && self.was_left(key, id)? {
                self.abort_upload(key, id)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Returns whether a time of the server's is more than a day ago. What cannot be read is not.
    fn is_stale(&self, time: &str) -> bool {
        let Ok(time) = time.trim().parse::<jiff::Timestamp>() else { return false };
        self.server_time().as_second() - time.as_second() > STALE
    }

    /// Returns whether an upload has got no part for more than a day.
    fn was_left(&self, key: &[u8], upload: &str) -> Result<bool> {
        let mut after = None;
        loop {
            let mut request =
                Request::new("list the parts of", Method::Get, Some(key)).query("uploadId", upload);
            if let Some(after) = &after {
                request = request.query("part-number-marker", String::clone(after));
            }
            let target = self.target(Some(key));
            let page = self.run(&request, Payload::None, &mut |response| {
                root(response, "list the parts of", &target, "ListPartsResult")
            })?;
            let parts = page.children.iter().filter(|child| child.name == "Part");
            if !parts
                .map(|part| part.text_of("LastModified"))
                .all(|time| time.is_some_and(|t| self.is_stale(t)))
            {
                return Ok(false);
            }
            let next = page.text_of("NextPartNumberMarker").map(str::to_owned);
            if page.text_of("IsTruncated") != Some("true") || next.is_none() || next == after {
                return Ok(true);
            }
            after = next;
        }
    }

    /// Gives an upload up.
    pub(in super::super) fn abort_upload(&self, key: &[u8], upload: &str) -> Result<()> {
        let request =
            Request::new("abort", Method::Delete, Some(key)).query("uploadId", upload).cleaning_up();
        match self.run(&request, Payload::None, &mut |_| Ok(())) {
            Err(failure) if failure.is("NoSuchUpload") => Ok(()),
            result => result,
        }
    }
}

/// Returns whether a server refuses a request for what it does not know.
fn is_untaken(failure: &Failure) -> bool {
    let unknown = ["NotImplemented", "InvalidArgument", "InvalidRequest"];
    failure.status == 501 || failure.status == 400 && unknown.iter().any(|code| failure.is(code))
}

/// Returns the ETag of an object made of these parts: the MD5 of their MD5s, where their ETags are that.
fn etag_of(parts: &[Part]) -> Option<String> {
    let mut digest = Md5::new();
    for part in parts {
        if part.etag.len() != 32 {
            return None;
        }
        let digits = part.etag.as_bytes().chunks(2);
        let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        digest.update(bytes.collect::<Option<Vec<u8>>>()?);
    }
    Some(format!("{}-{}", hex(&digest.finalize()), parts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const TIB: u64 = 1 << 40;

    #[test]
    fn parts_stay_within_every_limit() {
        let at_most = |total, most| {
            let plan = PartSizes::plan(total, 16 * MIB, most).unwrap();
            assert!(plan.count() <= most && (MIN_PART..=MAX_PART).contains(&plan.part), "{plan:?}");
            let last = plan.range(plan.count() - 1);
            assert_eq!(last.0 + last.1, total);
            plan
        };
        assert_eq!(at_most(32 * MIB, 1000).part, 16 * MIB);
        assert_eq!(at_most(16_000 * MIB, 1000).count(), 1000);
        assert_eq!(at_most(16_000 * MIB + 1, 1000).part, 17 * MIB);
        assert_eq!(at_most(4 * TIB, 1000).count(), 1000);
        assert!(at_most(4 * TIB, 10_000).count() <= 10_000);
        assert_eq!(PartSizes::plan(5 * TIB, 16 * MIB, 1000), None);
        assert_eq!(PartSizes::plan(0, 16 * MIB, 1000), None);
    }

    #[test]
    fn the_number_of_parts_is_the_providers() {
        let most = |location: &str| {
            let keys = [("access_key", "a"), ("secret_access_key", "b")];
            let options = super::super::super::Options::parse(location, keys, &|_| None).unwrap();
            Client::new(options).unwrap().max_parts()
        };
        assert_eq!(most("s3://bucket/"), 10_000);
        assert_eq!((most("s3://s3.fr-par.scw.cloud/b"), most("s3://storage.example.net/b")), (1000, 1000));
    }

    #[test]
    fn the_etag_of_an_upload_is_the_md5_of_its_parts_md5s() {
        let part = |number, content: &[u8]| Part { number, etag: hex(&Md5::digest(content)) };
        let parts = [part(1, b"one"), part(2, b"two")];
        let both = [Md5::digest(b"one").to_vec(), Md5::digest(b"two").to_vec()].concat();
        assert_eq!(etag_of(&parts).unwrap(), format!("{}-2", hex(&Md5::digest(both))));
        for other in ["", "0123", "zz345678901234567890123456789012"] {
            assert_eq!(etag_of(&[Part { number: 1, etag: other.into() }]), None, "{other}");
        }
    }
}
