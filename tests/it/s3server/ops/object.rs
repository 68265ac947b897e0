//! GET, HEAD, PUT and tags of one object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

use super::super::access::Key;
use super::super::backend::{Backend, Object};
use super::super::sigv4::hex;
use super::super::wire::{Body, Request, Response, elements, escape, percent_decode, unescape};
use super::super::{Options, Shared};
use super::{Target, cold};

const SYSTEM_HEADERS: [&str; 9] = [
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "cache-control",
    "expires",
    "x-amz-website-redirect-location",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
];

fn unquote(text: &str) -> &str {
    text.trim().trim_matches('"')
}

/// Checks Content-MD5 and the CRC32C header; one of them must be there when `required`.
pub(super) fn check_integrity(request: &Request, required: bool) -> Result<(), Response> {
    let md5 = request.header("content-md5");
    let crc = request.header("x-amz-checksum-crc32c");
    if required && md5.is_none() && crc.is_none() {
        return Err(Response::error(
            400,
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put requests with Object Lock parameters",
        ));
    }
    #[expect(clippy::big_endian_bytes, reason = "the header's byte order is fixed by the protocol")]
    let crc_of = |body: &[u8]| crc32c::crc32c(body).to_be_bytes();
    if md5.is_some_and(|given| given != BASE64.encode(request.md5))
        || crc.is_some_and(|given| given != BASE64.encode(crc_of(&request.body)))
    {
        return Err(Response::error(
            400,
            "BadDigest",
            "The digest you specified did not match what we received.",
        ));
    }
    Ok(())
}

/// Returns the digest of the customer's key (SSE-C) that a request brings along; the three headers must fit together.
pub(super) fn customer_key(request: &Request) -> Result<Option<String>, Response> {
    let part = |name: &str| request.header(&format!("x-amz-server-side-encryption-customer-{name}"));
    let (algorithm, key, md5) = (part("algorithm"), part("key"), part("key-MD5").or(part("key-md5")));
    if algorithm.is_none() && key.is_none() && md5.is_none() {
        return Ok(None);
    }
    let bytes = key.and_then(|key| BASE64.decode(key).ok()).filter(|bytes| bytes.len() == 32);
    match (algorithm, bytes, md5) {
        (Some("AES256"), Some(bytes), Some(md5)) if BASE64.encode(Md5::digest(&bytes)) == md5 => {
            Ok(Some(md5.to_owned()))
        }
        _ => Err(Response::error(400, "InvalidArgument", "The secret key was invalid for the algorithm.")),
    }
}

/// Refuses a request that does not bring the key the object is encrypted under.
pub(super) fn check_customer_key(request: &Request, wanted: Option<&String>) -> Result<(), Response> {
    let given = customer_key(request)?;
    match (given.as_ref(), wanted) {
        (given, wanted) if given == wanted => Ok(()),
        (Some(_), Some(_)) => Err(Response::error(403, "AccessDenied", "Access Denied")),
        _ => Err(Response::error(
            400,
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption. \
             The correct parameters must be provided to retrieve the object.",
        )),
    }
}

/// Makes an object from a request's headers, without its content.
pub(super) fn template(shared: &Shared, request: &Request, key: &Key) -> Result<Object, Response> {
    let class = request.header("x-amz-storage-class").unwrap_or("STANDARD");
    if !shared.options.classes.contains(&class) {
        return Err(Response::error(
            400,
            "InvalidStorageClass",
            "The storage class you specified is not valid",
        ));
    }
    let mut object = Object { sse: customer_key(request)?, ..Object::new(Vec::new()).class(class) };
    let lock = |name: &str| request.header(name).map(str::to_owned);
    object.retention = lock("x-amz-object-lock-mode").zip(lock("x-amz-object-lock-retain-until-date"));
    for (name, value) in &request.headers {
        if SYSTEM_HEADERS.contains(&name.as_str()) || name.starts_with("x-amz-meta-") {
            object.headers.push((name.clone(), value.clone()));
        }
    }
    let metadata: usize = object
        .headers
        .iter()
        .filter(|(n, _)| n.starts_with("x-amz-meta-"))
        .map(|(n, v)| n.len() + v.len())
        .sum();
    if metadata > 2048 + 11 * object.headers.len() {
        return Err(Response::error(
            400,
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed size",
        ));
    }
    if let Some(tags) = request.header("x-amz-tagging") {
        if !key.may("PutObjectTagging") {
            return Err(Response::error(403, "AccessDenied", "Access Denied"));
        }
        for part in tags.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let text = |s: &str| {
                String::from_utf8_lossy(&percent_decode(s.replace('+', " ").as_bytes())).into_owned()
            };
            object.tags.push((text(name), text(value)));
        }
    }
    Ok(object)
}

pub(super) fn put(
    shared: &Shared,
    request: &Request,
    target: &Target,
    backend: &mut Backend,
    key: &Key,
) -> Response {
    if let Err(refusal) = check_integrity(request, shared.options.checksums_required) {
        return refusal;
    }
    if shared.options.conditional_put {
        let existing = backend.object(&target.bucket, &target.key);
        if request.header("if-none-match") == Some("*") && existing.is_some() {
            return Response::error(
                412,
                "PreconditionFailed",
                "At least one of the pre-conditions did not hold",
            );
        }
        if let Some(wanted) = request.header("if-match")
            && existing.is_none_or(|object| object.etag != unquote(wanted))
        {
            return Response::error(
                412,
                "PreconditionFailed",
                "At least one of the pre-conditions did not hold",
            );
        }
    }
    let template = match template(shared, request, key) {
        Ok(template) => template,
        Err(refusal) => return refusal,
    };
    let fresh = Object::hashed(request.body.clone(), request.md5);
    // Of what is encrypted the ETag is no MD5 of the content.
    let etag = match &template.sse {
        Some(digest) => hex(&Md5::digest([digest.as_bytes(), request.body.as_slice()].concat())),
        None => fresh.etag.clone(),
    };
    let object = Object { etag: etag.clone(), body: fresh.body, modified: fresh.modified, ..template };
    backend.insert(&target.bucket, &target.key, object);
    let answer = Response::new(200).header("etag", format!("\"{etag}\""));
    // As AWS has it: only where versions are kept.
    match backend.object(&target.bucket, &target.key).filter(|object| !object.version.is_empty()) {
        Some(object) => answer.header("x-amz-version-id", &object.version),
        None => answer,
    }
}

pub(super) fn get(options: &Options, request: &Request, target: &Target, backend: &Backend) -> Response {
    let id = request.param("versionId");
    let Some(object) = backend.version(&target.bucket, &target.key, id.as_deref()) else {
        return Response::error(404, "NoSuchKey", "The specified key does not exist.");
    };
    if object.delete_marker {
        return Response::error(405, "MethodNotAllowed", "The specified method is not allowed here.")
            .header("x-amz-delete-marker", "true");
    }
    if let Err(refusal) = check_customer_key(request, object.sse.as_ref()) {
        return refusal;
    }
    let is_another = request.header("if-match").is_some_and(|wanted| unquote(wanted) != object.etag);
    if is_another && options.conditional_get {
        return Response::error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold");
    }
    if request.header("if-none-match").is_some_and(|wanted| unquote(wanted) == object.etag) {
        return Response::new(304).header("etag", format!("\"{}\"", object.etag));
    }
    if request.method == "GET" && !cold::is_readable(target, &object, backend) {
        return Response::error(
            403,
            "InvalidObjectState",
            "The operation is not valid for the object's storage class",
        );
    }
    let length = object.body.len();
    let (status, start, end) = match request.header("range") {
        None => (200, 0, length),
        Some(text) => match range(text, length) {
            Some((start, end)) => (206, start, end),
            None => return Response::error(416, "InvalidRange", "The requested range is not satisfiable"),
        },
    };
    let mut response = Response::new(status)
        .header("etag", format!("\"{}\"", object.etag))
        .header("accept-ranges", "bytes")
        .header("last-modified", http_date(object.modified))
        .header("content-length", (end - start).to_string());
    if status == 206 {
        response = response.header("content-range", format!("bytes {start}-{}/{length}", end - 1));
    }
    if object.class != "STANDARD" {
        response = response.header("x-amz-storage-class", &object.class);
    }
    response = cold::headers(response, target, &object, backend);
    if let Some(digest) = &object.sse {
        response = response
            .header("x-amz-server-side-encryption-customer-algorithm", "AES256")
            .header("x-amz-server-side-encryption-customer-key-MD5", digest);
    }
    if !object.tags.is_empty() {
        response = response.header("x-amz-tagging-count", object.tags.len().to_string());
    }
    if !object.version.is_empty() {
        response = response.header("x-amz-version-id", &object.version);
    }
    if let Some((mode, until)) = &object.retention {
        response = response
            .header("x-amz-object-lock-mode", mode)
            .header("x-amz-object-lock-retain-until-date", until);
    }
    if object.hold {
        response = response.header("x-amz-object-lock-legal-hold", "ON");
    }
    for (name, value) in &object.headers {
        response = response.header(name, value);
    }
    response.body = Body { bytes: object.body.clone(), start, end };
    response
}

fn http_date(millis: i64) -> String {
    let since = std::time::Duration::from_millis(millis.unsigned_abs());
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since)
}

/// Reads `bytes=a-b`, `bytes=a-` and `bytes=-n`.
fn range(text: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let n: usize = last.parse().ok()?;
        return (n > 0 && length > 0).then(|| (length.saturating_sub(n), length));
    }
    let first: usize = first.parse().ok()?;
    let last: usize = if last.is_empty() { length.checked_sub(1)? } else { last.parse().ok()? };
    (first < length && first <= last).then(|| (first, length.min(last + 1)))
}

pub(super) fn tagging(request: &Request, target: &Target, backend: &mut Backend) -> Response {
    let id = request.param("versionId");
    let Some(object) = backend.version(&target.bucket, &target.key, id.as_deref()) else {
        return Response::error(404, "NoSuchKey", "The specified key does not exist.");
    };
    if request.method == "PUT" {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let mut object = (*object).clone();
        object.tags = elements(&text, "Key")
            .iter()
            .zip(elements(&text, "Value"))
            .map(|(name, value)| (unescape(name), unescape(value)))
            .collect();
        backend.amend(&target.bucket, &target.key, object);
        return Response::new(200);
    }
    let tags = object
        .tags
        .iter()
        .map(|(name, value)| {
            format!("<Tag><Key>{}</Key><Value>{}</Value></Tag>", escape(name), escape(value))
        })
        .collect::<Vec<_>>()
        .concat();
    Response::xml(&format!("<Tagging><TagSet>{tags}</TagSet></Tagging>"))
}
