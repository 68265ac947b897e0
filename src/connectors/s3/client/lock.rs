//! Object Lock: whether a bucket has it, and until when an object is kept.

use std::time::SystemTime;

use rusty_s3::Method;
use ureq::http::HeaderMap;

use super::failure::Result;
use super::object::root;
use super::send::{Client, Payload, Request};

impl Client {
    /// Returns whether the bucket has Object Lock; an error where it cannot be known.
    pub(in super::super) fn has_object_lock(&self) -> Result<bool> {
        let request = Request::new("read the lock of", Method::Get, None).query("object-lock", "");
        let target = self.target(None);
        let result = self.run(&request, Payload::None, &mut |response| {
            let root = root(response, "read the lock of", &target, "ObjectLockConfiguration")?;
            Ok(root.text_of("ObjectLockEnabled").is_some_and(|text| text.trim() == "Enabled"))
        });
        match result {
            // AWS calls it ObjectLockConfigurationNotFoundError, others NoSuchObjectLockConfiguration.
            Err(failure) if failure.status == 404 && !failure.is_no_bucket() => Ok(false),
            result => result,
        }
    }
}

/// Returns until when an object may not be deleted, as its headers say; `None` when nothing keeps it.
pub(in super::super) fn kept_until(headers: &HeaderMap, now: SystemTime) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if text("x-amz-object-lock-legal-hold").is_some_and(|hold| hold.eq_ignore_ascii_case("ON")) {
        return Some("its legal hold is lifted".into());
    }
    let until: jiff::Timestamp = text("x-amz-object-lock-retain-until-date")?.parse().ok()?;
    (SystemTime::from(until) > now).then(|| until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::{HeaderName, HeaderValue};

    fn kept(headers: &[(&'static str, &str)]) -> Option<String> {
        let map = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        kept_until(&map, SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(24))
    }

    #[test]
    fn retention_and_hold_keep_an_object() {
        let until = "x-amz-object-lock-retain-until-date";
        assert_eq!(kept(&[]), None);
        assert_eq!(kept(&[(until, "1970-01-01T23:59:59.000Z")]), None);
        assert_eq!(kept(&[(until, "1970-01-02T00:00:01.000Z")]).as_deref(), Some("1970-01-02T00:00:01Z"));
        assert_eq!(kept(&[(until, "soon")]), None);
        assert!(kept(&[("x-amz-object-lock-legal-hold", "ON")]).is_some());
        assert_eq!(kept(&[("x-amz-object-lock-legal-hold", "OFF")]), None);
    }
}
