//! What a listing says.

use crate::base::RawString;
use crate::connector::{Record, Result};
use crate::format::entry::FileInfo;

/// One thing in a folder.
#[derive(Debug)]
pub(in crate::connectors) struct Found {
    /// Its metadata, the name included: whatever the server said. Or the name, and why there is no more.
    pub(in crate::connectors) info: Result<FileInfo>,
    /// Its name.
    pub(in crate::connectors) name: Vec<u8>,
    /// Where a symbolic link leads.
    pub(in crate::connectors) target: Option<RawString>,
}

impl Found {
    /// Makes the record of it.
    pub(super) fn record(self, path: Vec<u8>) -> Record {
        Record {
            path: path.into(),
            info: self.info,
            symlink_target: self.target,
            metadata: Vec::new(),
            locator: Vec::new(),
        }
    }
}
