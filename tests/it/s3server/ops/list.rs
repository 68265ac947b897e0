//! `ListObjectsV2`, and its predecessor.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::Arc;

use md5::{Digest, Md5};

use super::super::backend::Object;
use super::super::wire::{Request, Response, escape, percent_encode};
use super::super::{Listing, Options};

pub(super) fn list_objects(
    options: &Options,
    request: &Request,
    bucket: &str,
    objects: &BTreeMap<Vec<u8>, Arc<Object>>,
) -> Response {
    let first_version = options.listing == Listing::Version1;
    let is_second = request.param("list-type").as_deref() == Some("2");
    if !(first_version || is_second) || request.param("delimiter").is_some() {
        return Response::error(501, "NotImplemented", "Only version 2 without a delimiter.");
    }
    let prefix = request.param_bytes("prefix").unwrap_or_default();
    let after = match (first_version, request.param_bytes("continuation-token")) {
        (true, _) => request.param_bytes("marker"),
        // A token is opaque: this one would not survive being decoded or encoded once too often.
        (false, Some(token)) => match token.strip_prefix(b"tok+/=%41 ").and_then(unhex) {
            Some(key) => Some(key),
            None => return Response::error(400, "InvalidArgument", "The continuation token is incorrect"),
        },
        (false, None) => request.param_bytes("start-after"),
    };
    let wanted = request.param("max-keys").and_then(|n| n.parse().ok()).unwrap_or(1000);
    let size = options.page_size.min(wanted).min(1000);
    let url = options.url_encoding && request.param("encoding-type").as_deref() == Some("url");
    let mut matching = matching(options, objects, &prefix, after.as_deref()).peekable();
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
         <MaxKeys>{wanted}</MaxKeys><IsTruncated>{more}</IsTruncated>",
        key_text(&prefix, url)
    );
    if url {
        out.push_str("<EncodingType>url</EncodingType>");
    }
    if first_version {
        let _ = write!(out, "<Marker>{}</Marker>", key_text(&after.unwrap_or_default(), url));
    } else {
        let _ = write!(out, "<KeyCount>{count}</KeyCount>");
        if more {
            let _ = write!(out, "<NextContinuationToken>tok+/=%41 {}</NextContinuationToken>", hex(&last));
        }
    }
    Response::xml(&format!("{out}{contents}</ListBucketResult>"))
}

type Entry<'a> = (&'a Vec<u8>, &'a Arc<Object>);

/// Returns what follows a key, of what begins with a prefix.
fn matching<'a>(
    options: &Options,
    objects: &'a BTreeMap<Vec<u8>, Arc<Object>>,
    prefix: &'a [u8],
    after: Option<&[u8]>,
) -> Box<dyn Iterator<Item = Entry<'a>> + 'a> {
    if options.listing == Listing::Unordered {
        let rank = |key: &[u8]| <[u8; 16]>::from(Md5::digest(key));
        let passed = after.map(rank);
        let mut all: Vec<_> = objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && passed.is_none_or(|passed| rank(key) > passed))
            .collect();
        all.sort_by_key(|(key, _)| rank(key));
        return Box::new(all.into_iter());
    }
    let from = match after.filter(|after| *after >= prefix) {
        Some(after) => Bound::Excluded(after),
        None => Bound::Included(prefix),
    };
    let following = objects.range::<[u8], _>((from, Bound::Unbounded));
    Box::new(following.take_while(move |(key, _)| key.starts_with(prefix)))
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
