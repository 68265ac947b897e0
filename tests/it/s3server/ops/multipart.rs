//! Multipart uploads, with the limits real providers enforce.

use std::collections::BTreeMap;
use std::sync::Arc;

use md5::{Digest, Md5};

use super::super::access::Key;
use super::super::backend::{Backend, Object, Upload, now_millis};
use super::super::sigv4::hex;
use super::super::wire::{Request, Response, elements, escape, unescape};
use super::super::{Options, Shared};
use super::{Target, object};

fn no_such_upload() -> Response {
    Response::error(404, "NoSuchUpload", "The specified upload does not exist.")
}

pub(super) fn create(
    shared: &Shared,
    request: &Request,
    target: &Target,
    backend: &mut Backend,
    key: &Key,
) -> Response {
    let template = match object::template(shared, request, key) {
        Ok(template) => template,
        Err(refusal) => return refusal,
    };
    let (bucket, key, begun) = (target.bucket.clone(), target.key.clone(), now_millis());
    let upload = Upload { bucket, key, template, parts: BTreeMap::new(), begun, fed: begun };
    let id = backend.begin_upload(upload);
    Response::xml(&format!(
        "<InitiateMultipartUploadResult><UploadId>{}</UploadId></InitiateMultipartUploadResult>",
        escape(&id)
    ))
}

pub(super) fn part(options: &Options, request: &Request, target: &Target, backend: &mut Backend) -> Response {
    if let Err(refusal) = object::check_integrity(request, options.checksums_required) {
        return refusal;
    }
    let number = request.param("partNumber").and_then(|n| n.parse().ok()).unwrap_or(0);
    if !(1..=options.max_parts).contains(&number) {
        return Response::error(
            400,
            "InvalidArgument",
            "Part number must be an integer between 1 and the limit",
        );
    }
    let id = request.param("uploadId").unwrap_or_default();
    let Some(upload) = backend.uploads.get_mut(&id) else { return no_such_upload() };
    if (&upload.bucket, &upload.key) != (&target.bucket, &target.key) {
        return no_such_upload();
    }
    if let Err(refusal) = object::check_customer_key(request, upload.template.sse.as_ref()) {
        return refusal;
    }
    upload.fed = now_millis();
    upload.parts.insert(number, (request.body.clone(), request.md5));
    Response::new(200).header("etag", format!("\"{}\"", hex(&request.md5)))
}

pub(super) fn complete(
    options: &Options,
    request: &Request,
    target: &Target,
    backend: &mut Backend,
) -> Response {
    let id = request.param("uploadId").unwrap_or_default();
    let Some(upload) = backend.uploads.get(&id) else { return no_such_upload() };
    if options.conditional_put
        && request.header("if-none-match") == Some("*")
        && backend.object(&target.bucket, &target.key).is_some()
    {
        let message = "At least one of the pre-conditions did not hold";
        return Response::error(412, "PreconditionFailed", message);
    }
    let text = String::from_utf8_lossy(&request.body).into_owned();
    let numbers: Vec<u32> = elements(&text, "PartNumber").iter().filter_map(|n| n.parse().ok()).collect();
    let etags: Vec<String> = elements(&text, "ETag").iter().map(|e| unescape(e)).collect();
    if numbers.is_empty() || numbers.len() != etags.len() || !numbers.is_sorted_by(|a, b| a < b) {
        return Response::error(400, "InvalidPartOrder", "The list of parts was not in ascending order.");
    }
    let (mut body, mut digests) = (Vec::new(), Vec::new());
    for (at, (number, etag)) in numbers.iter().zip(&etags).enumerate() {
        let part = upload.parts.get(number);
        let Some((part, md5)) = part.filter(|(_, md5)| hex(md5) == etag.trim_matches('"')) else {
            return Response::error(
                400,
                "InvalidPart",
                "One or more of the specified parts could not be found.",
            );
        };
        if at + 1 < numbers.len() && part.len() < options.min_part_size {
            return Response::error(
                400,
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum.",
            );
        }
        digests.extend_from_slice(md5);
        body.extend_from_slice(part);
    }
    let etag = format!("{}-{}", hex(&Md5::digest(&digests)), numbers.len());
    let object = Object {
        body: Arc::new(body),
        etag: etag.clone(),
        modified: now_millis(),
        ..upload.template.clone()
    };
    backend.uploads.remove(&id);
    backend.insert(&target.bucket, &target.key, object);
    Response::xml(&format!(
        "<CompleteMultipartUploadResult><ETag>&quot;{etag}&quot;</ETag></CompleteMultipartUploadResult>"
    ))
}

pub(super) fn abort(request: &Request, backend: &mut Backend) -> Response {
    match backend.uploads.remove(&request.param("uploadId").unwrap_or_default()) {
        Some(_) => Response::new(204),
        None => no_such_upload(),
    }
}

pub(super) fn list(request: &Request, target: &Target, backend: &Backend) -> Response {
    let prefix = request.param("prefix").unwrap_or_default();
    let uploads = backend
        .uploads
        .iter()
        .filter(|(_, upload)| upload.bucket == target.bucket && upload.key.starts_with(prefix.as_bytes()))
        .map(|(id, upload)| {
            let key = String::from_utf8_lossy(&upload.key).into_owned();
            let begun = time(upload.begun);
            format!(
                "<Upload><Key>{}</Key><UploadId>{}</UploadId><Initiated>{begun}</Initiated></Upload>",
                escape(&key),
                escape(id)
            )
        })
        .collect::<Vec<_>>()
        .concat();
    Response::xml(&format!(
        "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"
    ))
}

/// Lists one part a page, so that a client has to go on.
pub(super) fn list_parts(request: &Request, backend: &Backend) -> Response {
    let Some(upload) = backend.uploads.get(&request.param("uploadId").unwrap_or_default()) else {
        return no_such_upload();
    };
    let after = request.param("part-number-marker").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut rest = upload.parts.range(after + 1..);
    let Some((number, (_, md5))) = rest.next() else {
        return Response::xml("<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>");
    };
    Response::xml(&format!(
        "<ListPartsResult><NextPartNumberMarker>{number}</NextPartNumberMarker><IsTruncated>{}</IsTruncated>\
         <Part><PartNumber>{number}</PartNumber><LastModified>{}</LastModified><ETag>{}</ETag></Part></ListPartsResult>",
        rest.next().is_some(),
        time(if rest.next().is_some() { upload.begun } else { upload.fed }),
        hex(md5)
    ))
}

fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).expect("a time of these years").to_string()
}
