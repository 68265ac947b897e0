//! Cold storage: objects that must be retrieved before they can be read.
//!
//! A retrieval is done once its object was looked at so many times: tests wait for nothing.

use std::time::{Duration, SystemTime};

use super::super::Options;
use super::super::backend::{Backend, Object};
use super::super::wire::{Request, Response, elements};
use super::Target;

/// A retrieval that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Retrieval {
    /// How many more looks it takes.
    pub(crate) looks: u32,
    /// What was asked for; `Standard` when nothing was said.
    pub(crate) tier: String,
    /// For how many days.
    pub(crate) days: u32,
}

fn is_cold(object: &Object) -> bool {
    matches!(object.class.as_str(), "GLACIER" | "DEEP_ARCHIVE")
}

/// Answers `POST ?restore`.
pub(super) fn restore(
    options: &Options,
    request: &Request,
    target: &Target,
    backend: &mut Backend,
) -> Response {
    let Some(object) = backend.object(&target.bucket, &target.key) else {
        return Response::error(404, "NoSuchKey", "The specified key does not exist.");
    };
    if !is_cold(&object) {
        let message = "Restore is not allowed for the object's current storage class";
        return Response::error(403, "InvalidObjectState", message);
    }
    let text = String::from_utf8_lossy(&request.body).into_owned();
    let first = |name: &str| elements(&text, name).first().map(|text| (*text).to_owned());
    let Some(days) = first("Days").and_then(|days| days.parse().ok()).filter(|days| *days > 0) else {
        return Response::error(400, "MalformedXML", "The XML you provided was not well-formed");
    };
    let tier = first("Tier").unwrap_or_else(|| "Standard".into());
    if tier == "Expedited" && object.class == "DEEP_ARCHIVE" {
        return Response::error(400, "InvalidArgument", "Retrieval option is not supported by this class");
    }
    let key = (target.bucket.clone(), target.key.clone());
    match backend.retrievals.get_mut(&key) {
        Some(retrieval) if retrieval.looks > 0 => {
            Response::error(409, "RestoreAlreadyInProgress", "Object restore is already in progress")
        }
        Some(retrieval) => {
            retrieval.days = days;
            Response::new(200)
        }
        None => {
            backend.retrievals.insert(key, Retrieval { looks: options.retrieval_looks, tier, days });
            Response::new(202)
        }
    }
}

/// Counts a look at an object.
pub(super) fn look(target: &Target, backend: &mut Backend) {
    if let Some(retrieval) = backend.retrievals.get_mut(&(target.bucket.clone(), target.key.clone())) {
        retrieval.looks = retrieval.looks.saturating_sub(1);
    }
}

/// Returns whether an object's content may be given out.
pub(super) fn is_readable(target: &Target, object: &Object, backend: &Backend) -> bool {
    let retrieval = backend.retrievals.get(&(target.bucket.clone(), target.key.clone()));
    !is_cold(object) || retrieval.is_some_and(|retrieval| retrieval.looks == 0)
}

/// Adds what is said of a retrieval.
pub(super) fn headers(response: Response, target: &Target, object: &Object, backend: &Backend) -> Response {
    match backend.retrievals.get(&(target.bucket.clone(), target.key.clone())) {
        Some(retrieval) if is_cold(object) && retrieval.looks == 0 => {
            let until = SystemTime::now() + Duration::from_hours(24) * retrieval.days;
            let until = httpdate::fmt_http_date(until);
            response.header("x-amz-restore", format!("ongoing-request=\"false\", expiry-date=\"{until}\""))
        }
        Some(_) if is_cold(object) => response.header("x-amz-restore", "ongoing-request=\"true\""),
        _ => response,
    }
}
