//! What belongs to an object and cannot come with its content: ACL, retention, legal hold. Each is set by a request of
//! its own once the object is there, and only where the connector was told to.

use super::super::client::{Acl, Client, Grantee, Result, Retention};
use super::super::metadata;
use crate::format::entry::Entry;

/// Sets what an entry knows; returns what could not be set.
pub(super) fn restore(client: &Client, key: &[u8], entry: &Entry, permissions: bool) -> Vec<String> {
    let options = client.options();
    let mut lost = Vec::new();
    if options.acl
        && permissions
        && let Some(text) = entry.metadata(metadata::ACL)
    {
        let done = Acl::from_text(text).is_some_and(|acl| restore_acl(client, key, &acl).is_ok());
        if !done {
            lost.push("ACL".into());
        }
    }
    if options.retention {
        if let Some(retention) = retention(entry)
            && client.set_retention(key, &retention).is_err()
        {
            lost.push("retention".into());
        }
        if entry.metadata(metadata::LEGAL_HOLD) == Some(b"ON") && client.hold(key).is_err() {
            lost.push("legal hold".into());
        }
    }
    lost
}

/// Gives an object the grants that its source's owner had made; the owner is whoever owns it now.
fn restore_acl(client: &Client, key: &[u8], recorded: &Acl) -> Result<()> {
    if recorded.beyond_owner().next().is_none() {
        return Ok(());
    }
    let owner = client.acl(key, None)?.owner;
    let was = Grantee::Id(recorded.owner.clone());
    let mut grants = vec![(Grantee::Id(owner.clone()), "FULL_CONTROL".to_owned())];
    grants.extend(recorded.beyond_owner().map(|(grantee, permission)| {
        let grantee = if *grantee == was { Grantee::Id(owner.clone()) } else { grantee.clone() };
        (grantee, permission.clone())
    }));
    client.set_acl(key, &Acl { owner, grants })
}

/// Returns a retention that is not over.
fn retention(entry: &Entry) -> Option<Retention> {
    let text = |key| entry.metadata(key).and_then(|value| std::str::from_utf8(value).ok());
    let (mode, until) = (text(metadata::RETENTION_MODE)?, text(metadata::RETAIN_UNTIL)?);
    let end: jiff::Timestamp = until.parse().ok()?;
    (end > jiff::Timestamp::now()).then(|| Retention { mode: mode.to_owned(), until: until.to_owned() })
}
