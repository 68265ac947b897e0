//! Single objects and the bucket itself: GET, HEAD, PUT, DELETE, tags.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Read;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use rusty_s3::Method;
use ureq::http::HeaderMap;

use super::failure::{Failure, Result};
use super::send::{Client, Payload, Request, Response, Rewind, broken};
use super::xml::{Element, escape};
use crate::base::hex;
use crate::connector;

/// The longest answer read for a listing, a set of tags and the like.
pub(super) const MAX_XML: u64 = 16 << 20;
/// Bodies are read and hashed in pieces of this many bytes.
const PIECE: usize = 256 << 10;

/// What a PUT, or the end of an upload, demands of what is there already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) enum Condition {
    /// Nothing.
    Always,
    /// That there is nothing. Servers that do not know the condition ignore it.
    IfAbsent,
    /// That there is this version; the value goes out as it stands. Quotes belong to it, but there are servers
    /// that compare without them.
    IfMatch(String),
}

impl Condition {
    /// Returns the header that says so.
    pub(super) fn header(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Always => None,
            Self::IfAbsent => Some(("if-none-match", "*")),
            Self::IfMatch(etag) => Some(("if-match", etag)),
        }
    }
}

/// The content of a PUT.
#[derive(Clone, Copy)]
pub(in super::super) enum Source<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// Cheap to read: it is read once more beforehand, so that it goes out under a checksum.
    Local(&'a dyn Rewind),
    /// Dear to read: it is hashed on its way, and what the server stored is compared with that.
    Streamed(&'a dyn Rewind),
}

/// The first bytes of a file, read by position, so that attempts and threads do not disturb each other.
#[derive(Debug)]
pub(in super::super) struct FileRange<'a> {
    /// The file.
    pub(in super::super) file: &'a File,
    /// How many bytes.
    pub(in super::super) length: u64,
}

impl Rewind for FileRange<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn open(&self) -> connector::Result<Box<dyn Read + '_>> {
        Ok(Box::new(FileReader { file: self.file, at: 0, left: self.length }))
    }
}

/// What a PUT sends besides its content.
#[derive(Debug, Default)]
pub(in super::super) struct Put {
    /// System headers, `x-amz-meta-*`, class, tags; names in lower case.
    pub(in super::super) headers: Vec<(String, Vec<u8>)>,
    /// Whether it is sent even when everything is to end.
    pub(in super::super) at_the_end: bool,
}

/// What became of a PUT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Stored {
    /// The ETag without quotes.
    pub(in super::super) etag: String,
    /// Whether the answer names a version that was made: `false` says nothing of what went up in parts.
    pub(in super::super) is_version: bool,
}

/// An answer to GET or HEAD: the headers, and the content for a GET.
pub(in super::super) struct Download {
    /// The headers.
    pub(in super::super) headers: HeaderMap,
    /// The length of what the body holds.
    pub(in super::super) length: u64,
    /// The body.
    pub(in super::super) body: Box<dyn Read + Send>,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Download {
    /// Returns the ETag without quotes, or nothing.
    pub(in super::super) fn etag(&self) -> String {
        etag(&self.headers)
    }

    /// Returns whether the object is one version among several.
    pub(in super::super) fn is_version(&self) -> bool {
        is_version(&self.headers)
    }
}

/// A file read by position.
struct FileReader<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let n = crate::base::sys::FileAt::read_at(self.file, &mut buffer[..most], self.at)?;
        if n == 0 && most > 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the file is shorter than announced",
            ));
        }
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Returns the ETag of an answer without quotes, or nothing.
pub(in super::super) fn etag(headers: &HeaderMap) -> String {
    let text = headers.get("etag").and_then(|value| value.to_str().ok()).unwrap_or_default();
    unquote(text).to_owned()
}

/// Returns whether an answer speaks of one version among several.
fn is_version(headers: &HeaderMap) -> bool {
    headers.get("x-amz-version-id").is_some_and(|id| !id.is_empty() && id.as_bytes() != b"null")
}

/// Removes the quotes of an ETag, and the mark that a proxy may have put before them.
pub(super) fn unquote(text: &str) -> &str {
    let text = text.trim();
    let text = text.strip_prefix("W/").unwrap_or(text);
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

/// Returns whether an ETag can be the MD5 of the content.
fn is_md5(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

impl Client {
    pub(super) fn customer_key(&self, headers: &mut Vec<(String, Vec<u8>)>) {
        if let Some(key) = &self.options().customer_key {
            headers.extend(key.headers().map(|(name, value)| (name.to_owned(), value.into_bytes())));
        }
    }

    /// Returns whether the ETag of what is uploaded is the MD5 of its content.
    pub(super) fn etags_are_md5(&self, answer: &HeaderMap) -> bool {
        let kms =
            answer.get("x-amz-server-side-encryption").is_some_and(|v| v.as_bytes().starts_with(b"aws:kms"));
        self.options().customer_key.is_none() && !kms
    }

    pub(super) fn get_request<'a>(
        &self,
        key: &'a [u8],
        range: Option<(u64, u64)>,
        if_match: Option<&str>,
    ) -> Request<'a> {
        let mut request = Request::new("get", Method::Get, Some(key));
        if let Some((start, end)) = range {
            request = request.header("range", format!("bytes={start}-{}", end.saturating_sub(1)));
        }
        if let Some(etag) = if_match.filter(|etag| !etag.is_empty()) {
            request = request.header("if-match", format!("\"{etag}\""));
        }
        // Servers that keep checksums tell them only to those who ask.
        request = request.header("x-amz-checksum-mode", "ENABLED");
        self.customer_key(&mut request.headers);
        request
    }

    /// Starts a GET, of the whole object or of the bytes from `range.0` up to `range.1`. The answer is checked to
    /// be of that range and length before it is returned; its body is checked by who reads it.
    pub(in super::super) fn get(
        &self,
        key: &[u8],
        range: Option<(u64, u64)>,
        if_match: Option<&str>,
    ) -> Result<Download> {
        let target = self.target(Some(key));
        self.run(&self.get_request(key, range, if_match), Payload::None, &mut |response| {
            download(response, range, &target)
        })
    }

    /// Starts a GET of a whole object in the version listed, which has so many bytes.
    pub(in super::super) fn get_listed(&self, key: &[u8], etag: &str, size: u64) -> Result<Download> {
        let target = self.target(Some(key));
        self.run(&self.get_request(key, None, Some(etag)), Payload::None, &mut |mut response| {
            if response.length().is_none() && self::etag(&response.headers) == etag {
                response.expect(size);
            }
            let download = self.tagged(key, download(response, None, &target)?)?;
            if download.etag() == etag && download.length != size {
                let told = format!("{} bytes were answered where {size} are listed", download.length);
                return Err(may_pass(Failure::protocol("get", &target, told)));
            }
            Ok(download)
        })
    }

    /// Passes on the answer for an object that is listed with an ETag, if it has one. What stands between may answer for
    /// the server, with a page of its own, and success; and ranges of such an answer could not be told to be of one object.
    pub(in super::super) fn tagged(&self, key: &[u8], download: Download) -> Result<Download> {
        if download.etag().is_empty() {
            let told = "the answer has no ETag, and the listing has one: it is not the object".to_owned();
            return Err(may_pass(Failure::protocol("get", &self.target(Some(key)), told)));
        }
        Ok(download)
    }

    /// Reads a whole object of at most `limit` bytes. What does not have the MD5 that its ETag may be is read again;
    /// read twice with the same result, it is the ETag that is something else.
    pub(in super::super) fn get_bytes(&self, key: &[u8], limit: u64) -> Result<(Vec<u8>, String)> {
        let target = self.target(Some(key));
        let mut before = None;
        self.run(&self.get_request(key, None, None), Payload::None, &mut |response| {
            let etag = etag(&response.headers);
            let comparable = is_md5(&etag) && self.etags_are_md5(&response.headers);
            let bytes = response.bytes("get", &target, limit)?;
            if comparable && hex(&Md5::digest(&bytes)) != etag && before.as_ref() != Some(&bytes) {
                before = Some(bytes);
                return Err(Failure::transport("get", &target, "the answer is not what its ETag says"));
            }
            Ok((bytes, etag))
        })
    }

    /// Reads exactly `length` bytes from `offset` on.
    pub(in super::super) fn get_range(&self, key: &[u8], offset: u64, length: usize) -> Result<Vec<u8>> {
        let target = self.target(Some(key));
        self.ranged(key, None, (offset, length), None, &mut |download| {
            // Only now is it known that there is so much.
            let mut out = vec![0; length];
            download.body.read_exact(&mut out).map_err(|e| broken("get", &target, &e))?;
            Ok(out)
        })
    }

    /// Fills a buffer with what stands from `offset` on; of one version only, where its ETag is given.
    pub(in super::super) fn get_range_into(
        &self,
        key: &[u8],
        version: Option<&str>,
        offset: u64,
        out: &mut [u8],
        if_match: Option<&str>,
    ) -> Result<()> {
        let target = self.target(Some(key));
        self.ranged(key, version, (offset, out.len()), if_match, &mut |download| {
            download.body.read_exact(out).map_err(|e| broken("get", &target, &e))
        })
    }

    /// Asks for a part, `(offset, length)`, of a version and passes it on once the server said that this is what it
    /// sends.
    fn ranged<T>(
        &self,
        key: &[u8],
        version: Option<&str>,
        (offset, length): (u64, usize),
        if_match: Option<&str>,
        read: &mut dyn FnMut(&mut Download) -> std::result::Result<T, Box<Failure>>,
    ) -> Result<T> {
        let target = self.target(Some(key));
        let end = offset
            .checked_add(length as u64)
            .ok_or_else(|| Failure::protocol("get", &target, "the range is past every end"))?;
        let range = Some((offset, end));
        let mut request = self.get_request(key, range, if_match);
        if let Some(version) = version {
            request = request.query("versionId", version);
        }
        self.run(&request, Payload::None, &mut |response| {
            let mut download = download(response, range, &target)?;
            // A server that does not know the condition answers with what it has.
            if if_match.is_some_and(|etag| etag != download.etag()) {
                return Err(replaced(&target));
            }
            read(&mut download)
        })
    }

    /// Asks for an object's headers.
    pub(in super::super) fn head(&self, key: &[u8]) -> Result<Download> {
        let mut request = Request::new("head", Method::Head, Some(key));
        self.customer_key(&mut request.headers);
        let target = self.target(Some(key));
        self.run(&request, Payload::None, &mut |response| {
            let length = response.length();
            let length =
                length.ok_or_else(|| Failure::protocol("head", &target, "the answer tells no length"))?;
            Ok(Download { headers: response.headers, length, body: Box::new(std::io::empty()) })
        })
    }

    /// Puts an object in one request. The content goes out under a checksum where it is small or a file, and
    /// what the server says it stored is compared with what was sent.
    pub(in super::super) fn put(
        &self,
        key: &[u8],
        put: &Put,
        source: Source<'_>,
        condition: &Condition,
    ) -> Result<Stored> {
        let mut request = Request::new("put", Method::Put, Some(key));
        request.headers.clone_from(&put.headers);
        request.cleans_up = put.at_the_end;
        if let Some((name, value)) = condition.header() {
            request = request.header(name, value);
        }
        self.customer_key(&mut request.headers);
        self.send_content(request, source)
    }

    /// Sends a request with content; the common part of PUT and of a part's upload.
    ///
    /// A content that is dear to read goes without a checksum, unless the server refuses it for that: AWS does where
    /// the bucket retains by default what is put there. From then on such contents are read twice.
    pub(super) fn send_content(&self, request: Request<'_>, source: Source<'_>) -> Result<Stored> {
        let Source::Streamed(content) = source else { return self.send_under(request, source) };
        if !self.wants_checksums.load(Ordering::Relaxed) {
            match self.send_under(request.clone(), source) {
                Err(failure) if demands_checksum(&failure) => {
                    self.wants_checksums.store(true, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        self.send_under(request, Source::Local(content))
    }

    /// Sends a request with content, under the checksum that its source allows for.
    fn send_under(&self, mut request: Request<'_>, source: Source<'_>) -> Result<Stored> {
        let target = self.target(request.key);
        let op = request.op;
        let unreadable =
            |e: std::io::Error| Failure::new(connector::ErrorKind::Io, op, &target, e.to_string());
        // AWS takes a CRC of a part only where the upload was begun for that, and completed with it.
        let is_part = request.query.iter().any(|(name, _)| *name == "partNumber");
        if let Some((name, value)) = self.checksum(source, is_part).map_err(unreadable)? {
            request = request.header(name, value);
        }
        let hashed = match source {
            Source::Streamed(inner) => Some(Hashed { inner, digest: RefCell::new(None) }),
            _ => None,
        };
        let payload = match (source, &hashed) {
            (Source::Bytes(bytes), _) => Payload::Bytes(bytes),
            (_, Some(hashed)) => Payload::Reader(hashed),
            (Source::Local(reader) | Source::Streamed(reader), None) => Payload::Reader(reader),
        };
        self.run(&request, payload, &mut |response| {
            let etag = etag(&response.headers);
            if etag.is_empty() {
                let told = "the answer has no ETag: nothing says that anything was stored";
                return Err(Failure::transport(op, &target, told));
            }
            let mine = hashed.as_ref().and_then(|hashed| hashed.digest.take()).map(|d| hex(&d.finalize()));
            let comparable = is_md5(&etag) && self.etags_are_md5(&response.headers);
            if mine.is_some_and(|mine| comparable && mine != etag) {
                return Err(Failure::transport(
                    op,
                    &target,
                    "the server stored something else than was sent",
                ));
            }
            Ok(Stored { etag, is_version: is_version(&response.headers) })
        })
    }

    /// Returns the checksum header of a content that is at hand. AWS takes CRC32C of whole objects; elsewhere, and for
    /// parts, Content-MD5 is what everyone knows. A streamed content is compared afterwards instead, so that it is not
    /// read twice.
    fn checksum(&self, source: Source<'_>, is_part: bool) -> std::io::Result<Option<(&'static str, String)>> {
        let mut reader: Box<dyn Read + '_> = match source {
            Source::Bytes(bytes) => Box::new(bytes),
            Source::Local(content) => content.open().map_err(std::io::Error::other)?,
            Source::Streamed(_) => return Ok(None),
        };
        let with_crc = self.options().location.endpoint.is_aws() && !is_part;
        let (mut crc, mut md5) = (0, Md5::new());
        let mut piece = vec![0; PIECE];
        loop {
            match reader.read(&mut piece)? {
                0 => break,
                n if with_crc => crc = crc32c::crc32c_append(crc, &piece[..n]),
                n => md5.update(&piece[..n]),
            }
        }
        #[expect(clippy::big_endian_bytes, reason = "the header's byte order is fixed by the protocol")]
        let crc = crc.to_be_bytes();
        Ok(Some(if with_crc {
            ("x-amz-checksum-crc32c", BASE64.encode(crc))
        } else {
            ("content-md5", BASE64.encode(md5.finalize()))
        }))
    }

    /// Deletes an object; one that is gone is not an error. `at_the_end` says that this takes back what would stay
    /// behind, so that it is tried even when everything is to end.
    pub(in super::super) fn delete(&self, key: &[u8], at_the_end: bool) -> Result<()> {
        let mut request = Request::new("delete", Method::Delete, Some(key));
        request.cleans_up = at_the_end;
        match self.run(&request, Payload::None, &mut |_| Ok(())) {
            Err(failure) if failure.status == 404 && !failure.is_no_bucket() => Ok(()),
            result => result,
        }
    }

    /// Reads the tags of an object, of one version where it is named, as a query string sorted by name. Some servers
    /// answer that there is no set of tags where others answer an empty one.
    pub(in super::super) fn tags(&self, key: &[u8], version: Option<&str>) -> Result<String> {
        let target = self.target(Some(key));
        let mut request = Request::new("read the tags of", Method::Get, Some(key)).query("tagging", "");
        // `null` is a version too, and not always the latest.
        if let Some(version) = version {
            request = request.query("versionId", version);
        }
        let read = self.run(&request, Payload::None, &mut |response| {
            let root = root(response, "read the tags of", &target, "Tagging")?;
            let set = root.child("TagSet").map(|set| set.children.as_slice()).unwrap_or_default();
            let mut pairs: Vec<(&str, &str)> = set
                .iter()
                .filter(|tag| tag.name == "Tag")
                .map(|tag| (tag.text_of("Key").unwrap_or_default(), tag.text_of("Value").unwrap_or_default()))
                .collect();
            pairs.sort_unstable();
            let mut out = url::form_urlencoded::Serializer::new(String::new());
            out.extend_pairs(pairs);
            // Spaces as %20: every server decodes those, not every one a plus.
            Ok(out.finish().replace('+', "%20"))
        });
        match read {
            Err(failure) if failure.status == 404 && failure.code.starts_with("NoSuchTagSet") => {
                Ok(String::new())
            }
            read => read,
        }
    }

    /// Replaces the tags of an object, given as a query string.
    pub(in super::super) fn set_tags(&self, key: &[u8], tags: &[u8]) -> Result<()> {
        let mut body = String::from("<Tagging><TagSet>");
        for (name, value) in url::form_urlencoded::parse(tags) {
            let (Some(name), Some(value)) = (escape(&name), escape(&value)) else {
                let target = self.target(Some(key));
                return Err(Failure::new(
                    connector::ErrorKind::Unsupported,
                    "tag",
                    &target,
                    "XML cannot hold them",
                ));
            };
            let _ = write!(body, "<Tag><Key>{name}</Key><Value>{value}</Value></Tag>");
        }
        body.push_str("</TagSet></Tagging>");
        let request = Request::new("tag", Method::Put, Some(key))
            .query("tagging", "")
            .header("content-md5", BASE64.encode(Md5::digest(&body)))
            .header("content-type", "application/xml");
        self.run(&request, Payload::Bytes(body.as_bytes()), &mut |_| Ok(()))
    }

    /// Returns whether the bucket is there and may be seen; an error when it cannot be known.
    pub(in super::super) fn bucket_exists(&self) -> Result<bool> {
        match self.run(&Request::new("head", Method::Head, None), Payload::None, &mut |_| Ok(())) {
            Ok(()) => Ok(true),
            Err(failure) if failure.status == 404 => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Creates the bucket and says so; one that is ours already is not an error.
    pub(in super::super) fn create_bucket(&self) -> Result<()> {
        let region = self.region();
        let body = format!(
            "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        );
        // AWS's first region has no name here, and other servers take their own region when none is named.
        let named = self.options().location.endpoint.is_aws() && region != "us-east-1";
        let payload = Payload::Bytes(if named { body.as_bytes() } else { b"" });
        let mut request = Request::new("create", Method::Put, None);
        if self.options().object_lock.is_some() {
            request = request.header("x-amz-bucket-object-lock-enabled", "true");
        }
        match self.run(&request, payload, &mut |_| Ok(())) {
            Err(failure) if failure.is("BucketAlreadyOwnedByYou") => Ok(()),
            Ok(()) => {
                let place = &self.options().location;
                let text = format!("made the bucket {} at {}", place.bucket, place.endpoint.authority());
                self.options().notices.note(text);
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Parses an answer and demands its root element: some errors come with `200 OK`.
pub(super) fn root(response: Response, op: &'static str, target: &str, name: &str) -> Result<Element> {
    let body = response.bytes(op, target, MAX_XML)?;
    let root = Element::parse(&body).map_err(|what| may_pass(Failure::protocol(op, target, what)))?;
    if root.name == name {
        return Ok(root);
    }
    if root.name == "Error" {
        let answer = super::failure::Answer { status: 200, body: &body, ..Default::default() };
        let mut failure = super::failure::classify(op, target, answer, &|_| String::new());
        if failure.is("InternalError") || failure.is("ServiceUnavailable") {
            failure.again = super::failure::Again::Soon;
            failure.kind = connector::ErrorKind::Transport;
        }
        return Err(failure);
    }
    Err(Failure::protocol(
        op,
        target,
        format!("the answer is {}, not {name}", super::failure::printable(&root.name, 60)),
    ))
}

/// Checks that an answer holds the range that was asked for.
pub(super) fn download(mut response: Response, range: Option<(u64, u64)>, target: &str) -> Result<Download> {
    let wrong = |what: &str| Failure::protocol("get", target, what);
    if let (None, Some((start, end))) = (response.length(), range) {
        response.expect(end.saturating_sub(start));
    }
    let length = response.length().ok_or_else(|| wrong("the answer tells no length"))?;
    if let Some((start, end)) = range {
        if response.status != 206 {
            return Err(wrong("the server ignored the range"));
        }
        let expected = format!("bytes {start}-{}/", end.saturating_sub(1));
        let told = response.header("content-range").unwrap_or_default();
        if length != end - start || !told.starts_with(&expected) {
            return Err(may_pass(wrong("the object is shorter than the range")));
        }
    } else if response.status != 200 {
        return Err(wrong("a part was answered where the whole was asked for"));
    }
    Ok(Download { headers: response.headers, length, body: Box::new(response.body) })
}

/// Returns whether a server refuses a content because it came without a checksum.
fn demands_checksum(failure: &Failure) -> bool {
    let told = failure.message.to_ascii_lowercase();
    failure.status == 400
        && ["InvalidRequest", "MissingContentMD5"].iter().any(|code| failure.is(code))
        && (told.contains("content-md5") || told.contains("checksum"))
}

/// A failure that is more likely an accident on the way than what the server has to say.
fn may_pass(mut failure: Box<Failure>) -> Box<Failure> {
    failure.again = super::failure::Again::Briefly;
    failure
}

/// The failure of a condition that the server did not look at.
fn replaced(target: &str) -> Box<Failure> {
    let message = "there is another version now";
    let mut failure = Failure::new(connector::ErrorKind::Changed, "get", target, message);
    failure.status = 412;
    failure
}

/// A content that is hashed as it passes; every start begins a new hash.
struct Hashed<'a> {
    inner: &'a dyn Rewind,
    digest: RefCell<Option<Md5>>,
}

impl Rewind for Hashed<'_> {
    fn length(&self) -> u64 {
        self.inner.length()
    }

    fn open(&self) -> connector::Result<Box<dyn Read + '_>> {
        self.digest.replace(Some(Md5::new()));
        Ok(Box::new(Hashing { inner: self.inner.open()?, digest: &self.digest }))
    }
}

struct Hashing<'a> {
    inner: Box<dyn Read + 'a>,
    digest: &'a RefCell<Option<Md5>>,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if let Some(digest) = self.digest.borrow_mut().as_mut() {
            digest.update(&buffer[..n]);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Options;
    use super::*;

    fn client(location: &str) -> Client {
        let keys = [("access_key", "a"), ("secret_access_key", "b")];
        Client::new(Options::parse(location, keys, &|_| None).unwrap()).unwrap()
    }

    #[test]
    fn an_empty_key_addresses_no_object() {
        // To the server it would be the bucket; nobody is asked here.
        let client = client("s3://127.0.0.1:1/bucket");
        let refused = [
            client.delete(b"", false).unwrap_err(),
            client.put(b"", &Put::default(), Source::Bytes(b"x"), &Condition::Always).unwrap_err(),
            client.head(b"").unwrap_err(),
        ];
        for failure in refused {
            assert_eq!((failure.kind, failure.attempts), (connector::ErrorKind::Invalid, 1), "{failure}");
        }
    }

    #[test]
    fn an_etag_is_what_its_quotes_hold() {
        for text in ["abc", "\"abc\"", " \"abc\" ", "W/\"abc\""] {
            assert_eq!(unquote(text), "abc");
        }
        assert_eq!(unquote("\""), "\"");
    }

    #[test]
    fn the_checksum_is_one_that_the_server_knows() {
        let checksum = |location: &str, is_part: bool| {
            let client = client(location);
            client.checksum(Source::Bytes(b"123456789"), is_part).unwrap().unwrap()
        };
        // The check values of both algorithms, in base 64.
        let (crc, md5) = ("4waSgw==".to_owned(), "JfnnlDI7RTiF9RgfG2JNCw==".to_owned());
        assert_eq!(checksum("s3://bucket/", false), ("x-amz-checksum-crc32c", crc));
        for (location, is_part) in [
            ("s3://bucket/", true),
            ("s3://s3.fr-par.scw.cloud/b", false),
            ("s3://s3.fr-par.scw.cloud/b", true),
        ] {
            assert_eq!(checksum(location, is_part), ("content-md5", md5.clone()), "{location} {is_part}");
        }
    }
}
