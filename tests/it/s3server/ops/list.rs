//! `ListObjectsV2`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::Arc;

use super::super::Options;
use super::super::backend::Object;
use super::super::wire::{Request, Response, escape, percent_encode};

pub(super) fn list_objects(
    options: &Options,
    request: &Request,
    bucket: &str,
    objects: &BTreeMap<Vec<u8>, Arc<Object>>,
) -> Response {
    if request.param("list-type").as_deref() != Some("2") || request.param("delimiter").is_some() {
        return Response::error(501, "NotImplemented", "Only version 2 without a delimiter.");
    }
    let prefix = request.param_bytes("prefix").unwrap_or_default();
    let token = request.param_bytes("continuation-token");
    let after = match &token {
        // A token is opaque: this one would not survive being decoded or encoded once too often.
        Some(token) => match token.strip_prefix(b"tok+/=%41 ").and_then(unhex) {
            Some(key) => Bound::Excluded(key),
            None => return Response::error(400, "InvalidArgument", "The continuation token is incorrect"),
        },
        None => match request.param_bytes("start-after") {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix.clone()),
        },
    };
    let wanted = request.param("max-keys").and_then(|n| n.parse().ok()).unwrap_or(1000);
    let size = options.page_size.min(wanted).min(1000);
    let url = options.url_encoding && request.param("encoding-type").as_deref() == Some("url");
    let mut matching =
        objects.range((after, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(&prefix)).peekable();
    let (mut contents, mut last, mut count) = (String::new(), Vec::new(), 0);
    while count < size {
        let Some((key, object)) = matching.next() else { break };
        entry(&mut contents, key, object, url, request.param("fetch-owner").as_deref() == Some("true"));
        last.clone_from(key);
        count += 1;
    }
    let more = matching.peek().is_some();
    let mut out = format!(
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{bucket}</Name><Prefix>{}</Prefix>\
         <KeyCount>{count}</KeyCount><MaxKeys>{wanted}</MaxKeys><IsTruncated>{more}</IsTruncated>",
        key_text(&prefix, url)
    );
    if url {
        out.push_str("<EncodingType>url</EncodingType>");
    }
    if more {
        let _ = write!(out, "<NextContinuationToken>tok+/=%41 {}</NextContinuationToken>", hex(&last));
    }
    Response::xml(&format!("{out}{contents}</ListBucketResult>"))
}

/// Encodes a key as AWS does: a space becomes a plus, slashes stay.
pub(super) fn key_text(key: &[u8], url: bool) -> String {
    if url { percent_encode(key, b"/*").replace("%20", "+") } else { escape(&String::from_utf8_lossy(key)) }
}

fn entry(out: &mut String, key: &[u8], object: &Object, url: bool, owner: bool) {
    let _ = write!(
        out,
        "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size>\
         <StorageClass>{}</StorageClass>",
        key_text(key, url),
        time_text(object.modified),
        object.etag,
        object.body.len(),
        object.class
    );
    if owner {
        out.push_str("<Owner><ID>owner-1</ID><DisplayName>tester</DisplayName></Owner>");
    }
    out.push_str("</Contents>");
}

/// Spells a time as listings do.
pub(super) fn time_text(millis: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

fn hex(bytes: &[u8]) -> String {
    super::super::sigv4::hex(bytes)
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |c: u8| (c as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}
