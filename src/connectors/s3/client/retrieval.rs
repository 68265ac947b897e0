//! Objects in cold storage: whether one can be read, and asking for its retrieval.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use rusty_s3::Method;
use ureq::http::HeaderMap;

use super::super::class::is_cold;
use super::failure::Result;
use super::send::{Client, Payload, Request};
use crate::connector::{Order, Readiness, RetrievalTier};

impl Client {
    /// Asks whether an object can be read now.
    pub(in super::super) fn readiness(&self, key: &[u8]) -> Result<Readiness> {
        Ok(readiness(&self.head(key)?.headers))
    }

    /// Asks for the retrieval of an object, whatever kind of cold storage it is in. One that can be read, or whose
    /// retrieval is under way, is not asked for again.
    pub(in super::super) fn retrieve(&self, key: &[u8], order: Order) -> Result<Readiness> {
        let failure = match self.restore_object(key, None, order, true) {
            Ok(state) => return Ok(state),
            Err(failure) => failure,
        };
        if failure.status != 400 && !failure.is("InvalidObjectState") {
            return Err(failure);
        }
        // Refused for what the object is: it need not be retrieved, or returns for good and so for no days.
        let state = self.readiness(key)?;
        if state == Readiness::Archived && failure.status == 400 {
            return self.restore_object(key, None, order, false).map_err(|_| failure);
        }
        if state == Readiness::Archived { Err(failure) } else { Ok(state) }
    }

    /// Asks for the retrieval of an object, of one version where it is named. `days` is left out for objects of a
    /// tiering class, which return for good.
    pub(in super::super) fn restore_object(
        &self,
        key: &[u8],
        version: Option<&str>,
        order: Order,
        with_days: bool,
    ) -> Result<Readiness> {
        let body = request_body(order, with_days);
        let mut request = Request::new("retrieve", Method::Post, Some(key));
        if let Some(version) = version {
            request = request.query("versionId", version);
        }
        let request = request
            .query("restore", "")
            .header("content-md5", BASE64.encode(Md5::digest(&body)))
            .header("content-type", "application/xml");
        let result = self.run(&request, Payload::Bytes(body.as_bytes()), &mut |response| {
            // 200 says that the copy was there already, and that its time was extended.
            Ok(match response.status {
                200 => Readiness::Retrieved { until: None },
                _ => Readiness::Ongoing,
            })
        });
        match result {
            Err(failure) if failure.is("RestoreAlreadyInProgress") => Ok(Readiness::Ongoing),
            result => result,
        }
    }
}

fn request_body(order: Order, with_days: bool) -> String {
    let mut body = String::from("<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    if with_days {
        let _ = write!(body, "<Days>{}</Days>", order.days);
    }
    // Standard is what is meant by nothing, and not every server knows the element.
    let tier = match order.tier {
        RetrievalTier::Standard => None,
        RetrievalTier::Bulk => Some("Bulk"),
        RetrievalTier::Expedited => Some("Expedited"),
    };
    if let Some(tier) = tier {
        let _ = write!(body, "<GlacierJobParameters><Tier>{tier}</Tier></GlacierJobParameters>");
    }
    body.push_str("</RestoreRequest>");
    body
}

/// Reads off the headers of an object whether it can be read.
pub(in super::super) fn readiness(headers: &HeaderMap) -> Readiness {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let archived =
        is_cold(text("x-amz-storage-class").trim()) || headers.contains_key("x-amz-archive-status");
    if !archived {
        return Readiness::Ready;
    }
    let told = text("x-amz-restore");
    if told.contains("ongoing-request=\"true\"") {
        return Readiness::Ongoing;
    }
    if !told.contains("ongoing-request=\"false\"") {
        return Readiness::Archived;
    }
    let date = told.split("expiry-date=\"").nth(1).and_then(|rest| rest.split('"').next());
    Readiness::Retrieved { until: date.and_then(|date| httpdate::parse_http_date(date).ok()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};
    use ureq::http::{HeaderName, HeaderValue};

    fn of(headers: &[(&'static str, &'static str)]) -> Readiness {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        readiness(&headers.iter().map(pair).collect())
    }

    #[test]
    fn headers_tell_whether_an_object_can_be_read() {
        let glacier = ("x-amz-storage-class", "GLACIER");
        assert_eq!(of(&[]), Readiness::Ready);
        assert_eq!(of(&[("x-amz-storage-class", "GLACIER_IR")]), Readiness::Ready);
        assert_eq!(of(&[glacier]), Readiness::Archived);
        assert_eq!(of(&[glacier, ("x-amz-restore", "ongoing-request=\"true\"")]), Readiness::Ongoing);
        let until = SystemTime::UNIX_EPOCH + Duration::from_hours(376_680);
        let restored = "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"";
        assert_eq!(of(&[glacier, ("x-amz-restore", restored)]), Readiness::Retrieved { until: Some(until) });
        let tiering = ("x-amz-storage-class", "INTELLIGENT_TIERING");
        assert_eq!(of(&[tiering]), Readiness::Ready);
        assert_eq!(of(&[tiering, ("x-amz-archive-status", "ARCHIVE_ACCESS")]), Readiness::Archived);
    }

    #[test]
    fn the_body_says_only_what_is_asked() {
        let order = Order { tier: RetrievalTier::Standard, days: 7 };
        assert!(request_body(order, true).ends_with("/\"><Days>7</Days></RestoreRequest>"));
        let order = Order { tier: RetrievalTier::Bulk, days: 7 };
        let body = request_body(order, false);
        assert!(body.contains("<Tier>Bulk</Tier>") && !body.contains("Days"), "{body}");
    }
}
