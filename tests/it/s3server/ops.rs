//! The operations: from a routed request to an answer.

mod aspects;
pub(super) mod cold;
mod list;
mod lock;
mod multipart;
mod object;
mod versions;

use std::fmt::Write as _;

use super::access::Key;
use super::wire::{Request, Response, elements, escape, percent_decode, unescape};
use super::{Shared, backend::Backend};

/// What a request addresses and means.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) bucket: String,
    /// The exact key; empty for the bucket itself.
    pub(super) key: Vec<u8>,
    pub(super) op: &'static str,
}

/// Reads bucket, key and operation off a request, path style or virtual-host style.
pub(super) fn route(request: &Request) -> Target {
    let host = request.header("host").unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let path = request.path.strip_prefix('/').unwrap_or(&request.path);
    let (bucket, key) = if let Some(bucket) = host.strip_suffix(".localhost") {
        (bucket.to_owned(), path)
    } else {
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        (String::from_utf8_lossy(&percent_decode(bucket.as_bytes())).into_owned(), key)
    };
    let key = percent_decode(key.as_bytes());
    let has = |name: &str| request.param_bytes(name).is_some();
    let op = match (request.method.as_str(), bucket.is_empty(), key.is_empty()) {
        ("GET", true, _) => "ListBuckets",
        ("GET", false, true) if has("location") => "GetBucketLocation",
        ("GET", false, true) if has("versioning") => "GetBucketVersioning",
        ("PUT", false, true) if has("versioning") => "PutBucketVersioning",
        ("GET", false, true) if has("versions") => "ListObjectVersions",
        ("GET", false, false) if has("acl") => "GetObjectAcl",
        ("PUT", false, false) if has("acl") => "PutObjectAcl",
        ("GET", false, false) if has("retention") => "GetObjectRetention",
        ("PUT", false, false) if has("retention") => "PutObjectRetention",
        ("GET", false, false) if has("legal-hold") => "GetObjectLegalHold",
        ("PUT", false, false) if has("legal-hold") => "PutObjectLegalHold",
        ("GET", false, true) if has("object-lock") => "GetBucketObjectLockConfiguration",
        ("POST", false, false) if has("restore") => "RestoreObject",
        ("GET", false, true) if has("uploads") => "ListMultipartUploads",
        ("GET", false, true) => "ListObjectsV2",
        ("PUT", false, true) => "CreateBucket",
        ("HEAD", false, true) => "HeadBucket",
        ("DELETE", false, true) => "DeleteBucket",
        ("POST", false, true) if has("delete") => "DeleteObjects",
        ("GET", false, false) if has("tagging") => "GetObjectTagging",
        ("PUT", false, false) if has("tagging") => "PutObjectTagging",
        ("GET", false, false) if has("uploadId") => "ListParts",
        ("GET", false, false) => "GetObject",
        ("HEAD", false, false) => "HeadObject",
        ("PUT", false, false) if has("partNumber") => "UploadPart",
        ("PUT", false, false) => "PutObject",
        ("DELETE", false, false) if has("uploadId") => "AbortMultipartUpload",
        ("DELETE", false, false) => "DeleteObject",
        ("POST", false, false) if has("uploads") => "CreateMultipartUpload",
        ("POST", false, false) if has("uploadId") => "CompleteMultipartUpload",
        _ => "Unknown",
    };
    Target { bucket, key, op }
}

/// Carries out a request of a known key.
pub(super) fn handle(shared: &Shared, request: &Request, target: &Target, key: &Key) -> Response {
    if !permitted(target.op, key) {
        return Response::error(403, "AccessDenied", "Access Denied");
    }
    let mut backend = Shared::lock(&shared.backend);
    if target.op == "ListBuckets" {
        return list_buckets(&backend);
    }
    if target.op == "CreateBucket" {
        if backend.bucket(&target.bucket).is_some() {
            return Response::error(409, "BucketAlreadyOwnedByYou", "The bucket exists and is yours.");
        }
        backend.make_bucket(&target.bucket);
        if request.header("x-amz-bucket-object-lock-enabled") == Some("true") {
            backend.set_versioning(&target.bucket, "Enabled");
            backend.locked.insert(target.bucket.clone());
        }
        return Response::new(200);
    }
    let Some(bucket) = backend.bucket(&target.bucket) else {
        return Response::error(404, "NoSuchBucket", "The specified bucket does not exist");
    };
    let refused = match target.op {
        "PutObject" | "CreateMultipartUpload" => lock::refuse_put(request, target, &backend),
        "DeleteObject" => lock::refuse_delete(request, target, &backend),
        _ => None,
    };
    if let Some(refusal) = refused {
        return refusal;
    }
    let response = match target.op {
        "HeadBucket" => Response::new(200).header("x-amz-bucket-region", &shared.options.region),
        "GetBucketLocation" => {
            let region = &shared.options.region;
            let region = if region == "us-east-1" { "" } else { region };
            Response::xml(&format!("<LocationConstraint>{region}</LocationConstraint>"))
        }
        "DeleteBucket" if !bucket.is_empty() => {
            Response::error(409, "BucketNotEmpty", "The bucket is not empty.")
        }
        "DeleteBucket" => {
            backend.remove_bucket(&target.bucket);
            Response::new(204)
        }
        "ListObjectsV2" => list::list_objects(&shared.options, request, &target.bucket, bucket),
        "ListObjectVersions" => versions::list(&shared.options, request, target, &backend),
        "GetBucketVersioning" | "PutBucketVersioning" => versions::versioning(request, target, &mut backend),
        "GetObjectAcl" | "PutObjectAcl" | "GetObjectRetention" | "PutObjectRetention"
        | "GetObjectLegalHold" | "PutObjectLegalHold" => aspects::handle(request, target, &mut backend),
        "GetBucketObjectLockConfiguration" => lock::configuration(target, &backend),
        "RestoreObject" => cold::restore(&shared.options, request, target, &mut backend),
        "GetObject" => object::get(&shared.options, request, target, &backend),
        "HeadObject" => {
            cold::look(target, &mut backend);
            object::get(&shared.options, request, target, &backend)
        }
        "PutObject" => object::put(shared, request, target, &mut backend, key),
        "DeleteObject" => {
            match request.param("versionId") {
                Some(id) => backend.remove_version(&target.bucket, &target.key, &id),
                None => backend.remove(&target.bucket, &target.key),
            }
            Response::new(204)
        }
        "DeleteObjects" => delete_objects(request, target, &mut backend),
        "GetObjectTagging" | "PutObjectTagging" => object::tagging(request, target, &mut backend),
        "CreateMultipartUpload" => multipart::create(shared, request, target, &mut backend, key),
        "UploadPart" => multipart::part(&shared.options, request, target, &mut backend),
        "CompleteMultipartUpload" => multipart::complete(&shared.options, request, target, &mut backend),
        "AbortMultipartUpload" => multipart::abort(request, &mut backend),
        "ListMultipartUploads" => multipart::list(request, target, &backend),
        "ListParts" => multipart::list_parts(request, &backend),
        _ => Response::error(501, "NotImplemented", "A header or query you provided is not implemented."),
    };
    if response.status == 404 && !key.may("ListObjectsV2") && !target.key.is_empty() {
        // Who may not list may not learn that a key is missing.
        return Response::error(403, "AccessDenied", "Access Denied");
    }
    response
}

/// Multipart uploads count as `PutObject`, as they do for AWS.
fn permitted(op: &str, key: &Key) -> bool {
    match op {
        "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => key.may("PutObject"),
        "HeadObject" => key.may("GetObject"),
        "HeadBucket" => key.may("ListObjectsV2"),
        "DeleteObjects" => key.may("DeleteObject"),
        op => key.may(op),
    }
}

fn list_buckets(backend: &Backend) -> Response {
    let buckets = backend
        .bucket_names()
        .iter()
        .map(|name| {
            format!(
                "<Bucket><Name>{}</Name><CreationDate>2026-01-02T03:04:05.000Z</CreationDate></Bucket>",
                escape(name)
            )
        })
        .collect::<Vec<_>>()
        .concat();
    Response::xml(&format!(
        "<ListAllMyBucketsResult><Owner><ID>owner-1</ID></Owner><Buckets>{buckets}</Buckets></ListAllMyBucketsResult>"
    ))
}

fn delete_objects(request: &Request, target: &Target, backend: &mut Backend) -> Response {
    if let Err(refusal) = object::check_integrity(request, true) {
        return refusal;
    }
    let text = String::from_utf8_lossy(&request.body).into_owned();
    let mut deleted = String::new();
    for key in elements(&text, "Key") {
        let key = unescape(key);
        backend.remove(&target.bucket, key.as_bytes());
        let _ = write!(deleted, "<Deleted><Key>{}</Key></Deleted>", escape(&key));
    }
    Response::xml(&format!("<DeleteResult>{deleted}</DeleteResult>"))
}
