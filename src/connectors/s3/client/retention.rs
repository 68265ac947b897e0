//! How long an object may not be deleted: retention and legal hold.

use rusty_s3::Method;

use super::failure::{Failure, Result};
use super::object::root;
use super::send::{Client, Payload, Request};
use super::xml::escape;
use crate::connector::ErrorKind;

/// Until when a version is protected, and how strictly.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Retention {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub(in super::super) mode: String,
    /// The end, RFC 3339.
    pub(in super::super) until: String,
}

/// Returns whether a failure says that there is none, or that the bucket knows of no such thing.
fn is_absent(failure: &Failure) -> bool {
    failure.status == 404
        || failure.is("InvalidRequest")
        || failure.is("ObjectLockConfigurationNotFoundError")
}

impl Client {
    fn aspect<'a>(
        op: &'static str,
        key: &'a [u8],
        aspect: &'static str,
        version: Option<&str>,
    ) -> Request<'a> {
        let request = Request::new(op, Method::Get, Some(key)).query(aspect, "");
        match version {
            Some(version) => request.query("versionId", version),
            None => request,
        }
    }

    /// Reads the retention of an object; needs `s3:GetObjectRetention`.
    pub(in super::super) fn retention(&self, key: &[u8], version: Option<&str>) -> Result<Option<Retention>> {
        let target = self.target(Some(key));
        let request = Self::aspect("read the retention of", key, "retention", version);
        let read = self.run(&request, Payload::None, &mut |response| {
            let root = root(response, "read the retention of", &target, "Retention")?;
            let text = |name: &str| root.text_of(name).map(|text| text.trim().to_owned());
            Ok(text("Mode").zip(text("RetainUntilDate")).map(|(mode, until)| Retention { mode, until }))
        });
        match read {
            Err(failure) if is_absent(&failure) => Ok(None),
            read => read,
        }
    }

    /// Sets the retention of an object's latest version; needs `s3:PutObjectRetention`.
    pub(in super::super) fn set_retention(&self, key: &[u8], retention: &Retention) -> Result<()> {
        let (Some(mode), Some(until)) = (escape(&retention.mode), escape(&retention.until)) else {
            let target = self.target(Some(key));
            return Err(Failure::new(ErrorKind::Unsupported, "retain", &target, "XML cannot hold it"));
        };
        let body =
            format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>");
        self.put_document("retain", key, "retention", &body)
    }

    /// Reads whether an object is held; needs `s3:GetObjectLegalHold`.
    pub(in super::super) fn legal_hold(&self, key: &[u8], version: Option<&str>) -> Result<bool> {
        let target = self.target(Some(key));
        let request = Self::aspect("read the legal hold of", key, "legal-hold", version);
        let read = self.run(&request, Payload::None, &mut |response| {
            let root = root(response, "read the legal hold of", &target, "LegalHold")?;
            Ok(root.text_of("Status").is_some_and(|status| status.trim() == "ON"))
        });
        match read {
            Err(failure) if is_absent(&failure) => Ok(false),
            read => read,
        }
    }

    /// Holds an object's latest version; needs `s3:PutObjectLegalHold`.
    pub(in super::super) fn hold(&self, key: &[u8]) -> Result<()> {
        self.put_document("hold", key, "legal-hold", "<LegalHold><Status>ON</Status></LegalHold>")
    }
}
