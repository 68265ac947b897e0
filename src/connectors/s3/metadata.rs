//! What an object is besides its content, as custom metadata of an entry, and back as headers.
//!
//! | key | value | from |
//! |---|---|---|
//! | `s3.key` | the exact key | listing |
//! | `s3.size` | bytes, in decimal | listing |
//! | `s3.etag` | without quotes | listing |
//! | `s3.last-modified` | exactly as listed | listing |
//! | `s3.storage-class` | where told | listing |
//! | `s3.content-type`, `s3.content-encoding`, `s3.content-language`, `s3.content-disposition`, `s3.cache-control`, `s3.expires`, `s3.website-redirect` | the header's bytes | GET |
//! | `s3.meta.<name>` | the bytes of `x-amz-meta-<name>` | GET |
//! | `s3.tags` | a query string, sorted by name | GET of the tags |
//! | `s3.version-id` | | GET |
//! | `s3.checksum.<alg>` | the server's checksum, base 64 | GET |
//! | `s3.not-captured` | what there is but could not be read, separated by commas: `tags`, `metadata` | GET |
//!
//! Values are bytes: a server may hand out text that is not UTF-8, or RFC 2047 words, and gets back what it gave.

use ureq::http::HeaderMap;

use super::class::is_cold;
use super::client::Listed;
use crate::base::RawString;
use crate::connector::Metadata;
use crate::format::entry::Entry;

pub(super) const KEY: &str = "s3.key";
pub(super) const SIZE: &str = "s3.size";
pub(super) const ETAG: &str = "s3.etag";
pub(super) const LAST_MODIFIED: &str = "s3.last-modified";
pub(super) const STORAGE_CLASS: &str = "s3.storage-class";
pub(super) const TAGS: &str = "s3.tags";
pub(super) const VERSION_ID: &str = "s3.version-id";
pub(super) const IS_LATEST: &str = "s3.is-latest";
pub(super) const VERSION_RANK: &str = "s3.version-rank";
pub(super) const DELETE_MARKER: &str = "s3.delete-marker";
pub(super) const NOT_CAPTURED: &str = "s3.not-captured";
pub(super) const ACL: &str = "s3.acl";
pub(super) const RETENTION_MODE: &str = "s3.retention-mode";
pub(super) const RETAIN_UNTIL: &str = "s3.retain-until";
pub(super) const LEGAL_HOLD: &str = "s3.legal-hold";
/// What is missing where the source had a key of its customer's and the destination has none.
pub(super) const CUSTOMER_KEY: &str = "encryption under a customer's key (sse_customer_key)";
const SSE: &str = "s3.sse";
const SSE_KEY: &str = "s3.sse-kms-key";
const META: &str = "s3.meta.";
const CHECKSUM: &str = "s3.checksum.";
const META_HEADER: &str = "x-amz-meta-";

/// System headers and their keys.
const SYSTEM: [(&str, &str); 9] = [
    ("content-type", "s3.content-type"),
    ("content-encoding", "s3.content-encoding"),
    ("content-language", "s3.content-language"),
    ("content-disposition", "s3.content-disposition"),
    ("cache-control", "s3.cache-control"),
    ("expires", "s3.expires"),
    ("x-amz-website-redirect-location", "s3.website-redirect"),
    (SSE_HEADER, SSE),
    (SSE_KEY_HEADER, SSE_KEY),
];

const SSE_HEADER: &str = "x-amz-server-side-encryption";
const SSE_KEY_HEADER: &str = "x-amz-server-side-encryption-aws-kms-key-id";

pub(super) fn item(key: impl Into<RawString>, value: impl Into<Vec<u8>>) -> Metadata {
    Metadata { key: key.into(), value: value.into() }
}

/// Returns the value of a key.
pub(super) fn get<'a>(metadata: &'a [Metadata], key: &str) -> Option<&'a [u8]> {
    metadata.iter().find(|item| item.key == *key).map(|item| item.value.as_slice())
}

/// Returns what a listing tells of an object.
pub(super) fn from_listing(object: &Listed) -> Vec<Metadata> {
    let mut out = vec![
        item(KEY, object.key.as_slice()),
        item(SIZE, object.size.to_string()),
        item(ETAG, object.etag.as_str()),
        item(LAST_MODIFIED, object.modified.as_str()),
    ];
    if !object.class.is_empty() {
        out.push(item(STORAGE_CLASS, object.class.as_str()));
    }
    sort(&mut out);
    out
}

/// Puts metadata into the order an entry has it in: by the bytes of the keys, which differ.
pub(super) fn sort(metadata: &mut Vec<Metadata>) {
    metadata.sort_by(|a, b| a.key.cmp(&b.key));
    metadata.dedup_by(|a, b| a.key == b.key);
}

/// Returns what the headers of a GET tell of an object.
pub(super) fn from_headers(headers: &HeaderMap) -> Vec<Metadata> {
    let mut out = Vec::new();
    for (header, key) in SYSTEM {
        let Some(value) = headers.get(header) else { continue };
        let value = if header == "content-encoding" {
            without_chunked(value.as_bytes())
        } else {
            value.as_bytes().to_vec()
        };
        if !value.is_empty() {
            out.push(item(key, value));
        }
    }
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(META_HEADER) {
            out.push(item(format!("{META}{name}"), value.as_bytes()));
        } else if let Some(algorithm) = name.as_str().strip_prefix("x-amz-checksum-").filter(|a| *a != "type")
        {
            out.push(item(format!("{CHECKSUM}{algorithm}"), value.as_bytes()));
        }
    }
    if headers.contains_key("x-amz-server-side-encryption-customer-algorithm") {
        out.push(item(SSE, "SSE-C"));
    }
    if let Some(id) = headers.get("x-amz-version-id").filter(|id| id.as_bytes() != b"null") {
        out.push(item(VERSION_ID, id.as_bytes()));
    }
    out
}

/// Returns the metadata that says what could not be read.
pub(super) fn not_captured(what: &[&str]) -> Option<Metadata> {
    (!what.is_empty()).then(|| item(NOT_CAPTURED, what.join(",")))
}

/// Removes `aws-chunked` from a list of encodings: it tells how an upload was framed, not what the content is.
fn without_chunked(value: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|part| !part.eq_ignore_ascii_case(b"aws-chunked") && !part.is_empty())
        .collect();
    parts.join(&b", "[..])
}

/// The headers that give an object back what it was, and what of it no header can carry.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// System headers and user metadata.
    pub(super) plain: Vec<(String, Vec<u8>)>,
    /// The tags, in a header of their own because they need a permission of their own.
    pub(super) tags: Option<Vec<u8>>,
    /// The storage class, if it is neither the default nor a cold one.
    pub(super) class: Option<Vec<u8>>,
    /// Server-side encryption under a key that the server keeps.
    pub(super) encryption: Vec<(String, Vec<u8>)>,
    /// What could not be expressed.
    pub(super) lost: Vec<String>,
}

/// Returns whether bytes can stand as a header's value. A snapshot is hostile input: a line break in a value would
/// become a header of its own.
fn is_value(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f)) && value.trim_ascii() == value
}

/// Returns whether bytes can stand in a header's name.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"!#$&'*+-.^_`|~".contains(c))
}

impl Headers {
    /// Reads the headers of an object that came from a bucket.
    pub(super) fn of_object(metadata: &[Metadata]) -> Self {
        let mut out = Self::default();
        for Metadata { key, value } in metadata {
            let Some(key) = key.as_str() else { continue };
            if key == SSE || key == SSE_KEY {
                out.encrypt(key, value);
            } else if let Some((header, _)) = SYSTEM.iter().find(|(_, known)| *known == key) {
                out.add(header, value, key);
            } else if let Some(name) = key.strip_prefix(META) {
                if is_name(name.as_bytes()) {
                    out.add(&format!("{META_HEADER}{name}"), value, key);
                } else {
                    out.lost.push(key.to_owned());
                }
            } else if key == TAGS && !value.is_empty() {
                if value.iter().all(u8::is_ascii_graphic) {
                    out.tags = Some(value.clone());
                } else {
                    out.lost.push("tags".into());
                }
            } else if key == STORAGE_CLASS {
                let class = std::str::from_utf8(value).unwrap_or_default();
                let is_class =
                    class.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_');
                out.class =
                    (is_class && !is_cold(class) && !matches!(class, "" | "STANDARD")).then(|| value.clone());
            }
        }
        out
    }

    /// Makes the headers of a file from a file system, `mtime` being spelt as rclone does.
    pub(super) fn of_file(entry: &Entry, permissions: bool) -> Self {
        let mut out = Self::default();
        if !entry.content_type.is_empty() {
            out.add("content-type", &entry.content_type, "content type");
        }
        let info = &entry.info;
        let modified = info.modified;
        // Before 1970 the fraction counts towards the epoch in decimal, and away from it in a time.
        let mtime = match (modified.secs < 0, modified.nanos) {
            (_, 0) => modified.secs.to_string(),
            (false, nanos) => format!("{}.{nanos:09}", modified.secs),
            (true, nanos) => format!("-{}.{:09}", (modified.secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
        };
        out.add("x-amz-meta-mtime", mtime.as_bytes(), "modification time");
        if permissions {
            out.add("x-amz-meta-mode", format!("{:o}", info.mode.to_unix()).as_bytes(), "mode");
            out.add("x-amz-meta-uid", info.uid.to_string().as_bytes(), "owner");
            out.add("x-amz-meta-gid", info.gid.to_string().as_bytes(), "group");
        }
        out
    }

    /// Takes the mode or the key of an encryption. `AES256` is what servers do unasked, or cannot do: it is not asked
    /// for.
    fn encrypt(&mut self, key: &str, value: &[u8]) {
        let header = if key == SSE { SSE_HEADER } else { SSE_KEY_HEADER };
        match value {
            b"AES256" => {}
            b"SSE-C" => self.lost.push(CUSTOMER_KEY.into()),
            value if is_value(value) => self.encryption.push((header.into(), value.to_vec())),
            _ => self.lost.push(key.into()),
        }
    }

    fn add(&mut self, header: &str, value: &[u8], what: &str) {
        if is_value(value) {
            self.plain.push((header.to_owned(), value.to_vec()));
        } else {
            self.lost.push(what.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use ureq::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn headers_round_trip_as_bytes() {
        let mut headers = HeaderMap::new();
        let pairs: [(&str, &[u8]); 7] = [
            ("content-type", b"text/plain"),
            ("content-encoding", b"gzip, aws-chunked"),
            ("x-amz-website-redirect-location", b"/x"),
            ("x-amz-meta-plain", b"v"),
            ("x-amz-meta-latin", b"\xe9t\xe9"),
            ("x-amz-version-id", b"null"),
            ("x-amz-id-2", b"noise"),
        ];
        for (name, value) in pairs {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        let metadata = from_headers(&headers);
        assert_eq!(get(&metadata, "s3.content-encoding"), Some(b"gzip".as_slice()));
        assert_eq!(metadata.len(), 5);
        let mut back = Headers::of_object(&metadata).plain;
        back.sort();
        let mut expected: Vec<(String, Vec<u8>)> =
            pairs[..5].iter().map(|(n, v)| ((*n).into(), v.to_vec())).collect();
        expected[1].1 = b"gzip".to_vec();
        expected.sort();
        assert_eq!(back, expected);
    }

    #[test]
    fn hostile_metadata_makes_no_header() {
        let metadata = [
            item("s3.content-type", "text/plain\r\nx-evil: 1"),
            item("s3.meta.a\r\nb", "v"),
            item("s3.meta.A b", "v"),
            item("s3.meta.", "v"),
            item("s3.meta.ok", " padded "),
            item("s3.tags", "a=b\r\n"),
            item("s3.storage-class", "EVIL\r\n"),
        ];
        let got = Headers::of_object(&metadata);
        assert!(got.plain.is_empty() && got.tags.is_none() && got.class.is_none(), "{got:?}");
        assert_eq!(got.lost.len(), 6);
    }

    #[test]
    fn encryption_is_asked_for_where_it_says_something() {
        let of = |items: &[Metadata]| {
            let got = Headers::of_object(items);
            assert!(got.plain.is_empty(), "{got:?}");
            (got.encryption, got.lost)
        };
        assert_eq!(of(&[item(SSE, "AES256")]), (vec![], vec![]));
        let kms = [item(SSE, "aws:kms"), item(SSE_KEY, "arn:aws:kms:eu-west-1:1:key/k")];
        let (headers, lost) = of(&kms);
        assert_eq!((headers.len(), lost.len()), (2, 0));
        assert_eq!(headers[0], (SSE_HEADER.to_owned(), b"aws:kms".to_vec()));
        assert_eq!(of(&[item(SSE, "SSE-C")]), (vec![], vec![CUSTOMER_KEY.to_owned()]));
        assert_eq!(of(&[item(SSE, "aws:kms\r\nx: y")]), (vec![], vec![SSE.to_owned()]));
    }

    #[test]
    fn cold_classes_are_never_written_back() {
        let class = |name: &str| Headers::of_object(&[item("s3.storage-class", name)]).class;
        assert_eq!(class("ONEZONE_IA"), Some(b"ONEZONE_IA".to_vec()));
        for name in ["GLACIER", "DEEP_ARCHIVE", "STANDARD", ""] {
            assert_eq!(class(name), None);
        }
    }
}
