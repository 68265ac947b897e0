//! Multipart uploads: large objects in parts, each made anew for a retry.

use std::fmt::Write as _;

use rusty_s3::Method;

use super::failure::{Failure, Result};
use super::object::{Put, Source, Stored, root, unquote};
use super::send::{Client, Payload, Request};
use super::xml::escape;

/// The least size in bytes of a part that is not the last, everywhere.
pub(in super::super) const MIN_PART: u64 = 5 << 20;
/// The greatest size in bytes of a part, everywhere.
const MAX_PART: u64 = 5 << 30;

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
        let Stored { etag } = self.send_content(request, source)?;
        if etag.is_empty() {
            return Err(Failure::protocol(
                "upload",
                &self.target(Some(key)),
                "the answer to a part holds no ETag",
            ));
        }
        Ok(Part { number, etag })
    }

    /// Makes the parts one object of `size` bytes.
    ///
    /// An answer may be lost after the upload was completed; the retry then finds no upload. Whether the object is
    /// there is asked before that is called a failure.
    pub(in super::super) fn complete_upload(
        &self,
        key: &[u8],
        upload: &str,
        parts: &[Part],
        size: u64,
    ) -> Result<Stored> {
        let mut body = String::from("<CompleteMultipartUpload>");
        for part in parts {
            let etag = escape(&part.etag).unwrap_or_default();
            let _ =
                write!(body, "<Part><PartNumber>{}</PartNumber><ETag>\"{etag}\"</ETag></Part>", part.number);
        }
        body.push_str("</CompleteMultipartUpload>");
        let request = Request::new("upload", Method::Post, Some(key))
            .query("uploadId", upload)
            .header("content-type", "application/xml");
        let target = self.target(Some(key));
        let result = self.run(&request, Payload::Bytes(body.as_bytes()), &mut |response| {
            let root = root(response, "upload", &target, "CompleteMultipartUploadResult")?;
            Ok(Stored { etag: unquote(root.text_of("ETag").unwrap_or_default()).to_owned() })
        });
        match result {
            Err(failure) if failure.is("NoSuchUpload") => match self.head(key) {
                Ok(head) if head.length == size && head.etag().ends_with(&format!("-{}", parts.len())) => {
                    Ok(Stored { etag: head.etag() })
                }
                _ => Err(failure),
            },
            result => result,
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
}
