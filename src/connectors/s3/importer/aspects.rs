//! What belongs to an object and comes neither with the listing nor with the GET: tags, ACL, retention, legal hold.

use ureq::http::HeaderMap;

use super::super::client::{Client, Failure, Retention};
use super::super::metadata::{self, item};
use crate::connector::{ErrorKind, Metadata, Result};

/// One object, and what its own answer told of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) client: &'a Client,
    pub(super) key: &'a [u8],
    pub(super) headers: &'a HeaderMap,
}

/// Returns whether a failure only says that the right is missing, or that the server has no such thing.
fn is_not_allowed(failure: &Failure) -> bool {
    matches!(failure.kind, ErrorKind::Denied | ErrorKind::Unsupported)
}

impl Subject<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns all metadata: that of the headers, and what has to be asked for.
    pub(super) fn metadata(&self) -> Result<Vec<Metadata>> {
        let options = self.client.options();
        let mut out = metadata::from_headers(self.headers);
        let mut lost = Vec::new();
        if self.header("x-amz-missing-meta").is_some_and(|count| count != "0") {
            lost.push("metadata");
        }
        let version = self.header("x-amz-version-id");
        let counted = self.header("x-amz-tagging-count").and_then(|count| count.parse().ok());
        if counted.map_or(options.tags, |count: u64| count > 0) {
            match self.client.tags(self.key, version) {
                Ok(tags) if tags.is_empty() => {}
                Ok(tags) => out.push(item(metadata::TAGS, tags)),
                Err(failure) if is_not_allowed(&failure) => lost.push("tags"),
                Err(failure) => return Err(failure.into()),
            }
        }
        if options.acl {
            match self.client.acl(self.key, version) {
                Ok(acl) => out.push(item(metadata::ACL, acl.to_text())),
                Err(failure) if is_not_allowed(&failure) => lost.push("acl"),
                Err(failure) => return Err(failure.into()),
            }
        }
        if options.retention {
            self.protection(version, &mut out, &mut lost)?;
        }
        out.extend(metadata::not_captured(&lost));
        metadata::sort(&mut out);
        Ok(out)
    }

    /// Reads retention and legal hold; AWS and others tell them along with the object.
    fn protection(
        &self,
        version: Option<&str>,
        out: &mut Vec<Metadata>,
        lost: &mut Vec<&'static str>,
    ) -> Result<()> {
        let header = |name: &str| self.header(&format!("x-amz-object-lock-{name}")).map(str::to_owned);
        let told = header("mode").zip(header("retain-until-date"));
        let retention = match told {
            Some((mode, until)) => Ok(Some(Retention { mode, until })),
            None => self.client.retention(self.key, version),
        };
        match retention {
            Ok(Some(Retention { mode, until })) => {
                out.push(item(metadata::RETENTION_MODE, mode));
                out.push(item(metadata::RETAIN_UNTIL, until));
            }
            Ok(None) => {}
            Err(failure) if is_not_allowed(&failure) => lost.push("retention"),
            Err(failure) => return Err(failure.into()),
        }
        let hold = match header("legal-hold") {
            Some(status) => Ok(status == "ON"),
            None => self.client.legal_hold(self.key, version),
        };
        match hold {
            Ok(held) => out.push(item(metadata::LEGAL_HOLD, if held { "ON" } else { "OFF" })),
            Err(failure) if is_not_allowed(&failure) => lost.push("legal-hold"),
            Err(failure) => return Err(failure.into()),
        }
        Ok(())
    }
}
