//! Whether the destination keeps every version that is put.
//!
//! Versions that are restored into a bucket that keeps none overwrite each other, and a delete marker removes the last:
//! so the bucket is asked before anything is sent, and is never made here. A key that may not ask is believed, with a
//! warning, as long as nothing says otherwise: the answer to a PUT names the version that was made, and before a
//! deletion the object that stands there tells whether it is one.

use std::sync::OnceLock;

use super::super::client::{Client, Failure, Result as Answer, Stored};
use crate::connector::{Error, ErrorKind, Result, VersionsKept};

/// What to do about a bucket that keeps no versions.
const ENABLE: &str = "enable it, or leave out versions=all";

/// What is known of a bucket's versions.
#[derive(Debug, Default)]
pub(super) struct Versioning {
    /// What the server says.
    told: OnceLock<Told>,
    /// Whether what was put became a version, once that was seen.
    seen: OnceLock<bool>,
}

#[derive(Debug)]
enum Told {
    Kept,
    /// Why nobody may ask.
    Unasked(String),
    /// Why none are kept, and what to do.
    Lost(String),
}

impl Told {
    fn ask(client: &Client) -> Result<Self> {
        Ok(match client.versioning() {
            Ok(Some(status)) if status == "Enabled" => Self::Kept,
            Ok(Some(status)) => Self::Lost(format!("its versioning is {status}; {ENABLE}")),
            Ok(None) => Self::Lost(format!("its versioning is off; {ENABLE}")),
            Err(failure) => match failure.kind {
                ErrorKind::NotFound => {
                    let bucket = &client.options().location.bucket;
                    Self::Lost(format!("there is no bucket {bucket}; make it and turn versioning on"))
                }
                ErrorKind::Unsupported => {
                    Self::Lost("this server keeps no versions; leave out versions=all".into())
                }
                ErrorKind::Denied => Self::Unasked(failure.to_string()),
                _ => return Err(failure.into()),
            },
        })
    }
}

impl Versioning {
    fn told(&self, client: &Client) -> Result<&Told> {
        if let Some(told) = self.told.get() {
            return Ok(told);
        }
        let told = Told::ask(client)?;
        Ok(self.told.get_or_init(|| told))
    }

    /// Returns whether versions are kept; an error that says what to do where they are known not to be.
    pub(super) fn kept(&self, client: &Client) -> Result<VersionsKept> {
        match self.told(client)? {
            Told::Kept => Ok(VersionsKept::All),
            Told::Unasked(_) if self.seen.get() == Some(&false) => Err(unseen(client)),
            Told::Unasked(why) => Ok(VersionsKept::Untold(format!(
                "whether {} keeps versions cannot be asked, {why}",
                client.target(None)
            ))),
            Told::Lost(why) => Err(refusal(client, why)),
        }
    }

    /// Takes note of what an object that was put has become.
    pub(super) fn put(&self, client: &Client, stored: &Stored) -> Answer<()> {
        let Some(Told::Unasked(_)) = self.told.get() else { return Ok(()) };
        if *self.seen.get_or_init(|| stored.is_version) {
            return Ok(());
        }
        let error = unseen(client);
        let mut failure = Failure::new(error.kind, "put", &client.target(None), "");
        failure.cause = Some(Box::new(error));
        Err(failure)
    }

    /// Fails where a deletion may remove the only version there is.
    pub(super) fn before_delete(&self, client: &Client, key: &[u8]) -> Result<()> {
        if !matches!(self.kept(client)?, VersionsKept::Untold(_)) || self.seen.get() == Some(&true) {
            return Ok(());
        }
        match client.head(key) {
            Ok(there) if there.is_version() => Ok(()),
            Ok(_) => Err(unseen(client)),
            Err(failure) if failure.status == 404 => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}

fn unseen(client: &Client) -> Error {
    refusal(client, "what is put there becomes no version; turn its versioning on, or leave out versions=all")
}

fn refusal(client: &Client, why: &str) -> Error {
    Error::new(ErrorKind::Invalid, "restore versions to", client.target(None)).detail(why.to_owned())
}
