//! Object Lock: buckets that have it, retention on PUT, deletions that are refused.

use super::super::backend::Backend;
use super::super::wire::{Request, Response};
use super::{Target, object};

/// Refuses a retention that the bucket cannot keep, or that comes without a checksum.
pub(super) fn refuse_put(request: &Request, target: &Target, backend: &Backend) -> Option<Response> {
    let mode = request.header("x-amz-object-lock-mode");
    let until = request.header("x-amz-object-lock-retain-until-date");
    if mode.is_none() && until.is_none() {
        return None;
    }
    if !backend.locked.contains(&target.bucket) {
        let message = "Bucket is missing Object Lock Configuration";
        return Some(Response::error(400, "InvalidRequest", message));
    }
    let ends = until.and_then(|until| until.parse::<jiff::Timestamp>().ok());
    if !matches!(mode, Some("GOVERNANCE" | "COMPLIANCE")) || ends.is_none() {
        return Some(Response::error(400, "InvalidArgument", "Mode and date must both be there"));
    }
    if ends.is_some_and(|ends| ends <= jiff::Timestamp::now()) {
        return Some(Response::error(400, "InvalidArgument", "The retain until date must be in the future!"));
    }
    object::check_integrity(request, target.op == "PutObject").err()
}

/// Refuses to delete a version that is kept. A deletion without a version id only hides, and is never refused.
pub(super) fn refuse_delete(request: &Request, target: &Target, backend: &Backend) -> Option<Response> {
    let id = request.param("versionId")?;
    let version = backend.version(&target.bucket, &target.key, Some(&id))?;
    let until = version.retention.as_ref().and_then(|(_, until)| until.parse::<jiff::Timestamp>().ok());
    let kept = version.hold || until.is_some_and(|until| until > jiff::Timestamp::now());
    let message = "Access Denied because object protected by object lock.";
    kept.then(|| Response::error(403, "AccessDenied", message))
}

/// Answers `GET ?object-lock`.
pub(super) fn configuration(target: &Target, backend: &Backend) -> Response {
    if backend.locked.contains(&target.bucket) {
        return Response::xml(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>",
        );
    }
    let message = "Object Lock configuration does not exist for this bucket";
    Response::error(404, "ObjectLockConfigurationNotFoundError", message)
}
