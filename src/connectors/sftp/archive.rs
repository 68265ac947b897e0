//! One file that is an archive (`sftp://host/x.ptar`), read by ranges.
//!
//! It stays open: an archive that is replaced meanwhile by another one of the name goes on being read as it was. Where
//! the connection is lost, the file that is opened anew must have the same length and time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::client::Client;
use super::options::Options;
use super::store::open_regular;
use super::transfer::Opened;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::remote::{Ranges, RemoteArchive, TAIL, Tail};

/// A `.ptar` on a server, opened as a store that holds one packfile and one state.
pub type SftpArchive = RemoteArchive<SftpFile>;

/// One file on a server.
#[derive(Debug)]
pub struct SftpFile {
    client: Client,
    open: Mutex<Arc<Opened>>,
    length: u64,
    modified: Option<u32>,
}

impl SftpFile {
    fn open(client: &Client) -> Result<(Arc<Opened>, u64, Option<u32>)> {
        let path = &client.options().path;
        client.again(|connection| {
            let (file, length) = open_regular(connection, path)?;
            let modified = file.attrs()?.times.map(|(_, modified)| modified);
            Ok((Arc::new(file), length, modified))
        })
    }

    fn opened(&self) -> Result<Arc<Opened>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.connection.is_dead() {
            let (file, length, modified) = Self::open(&self.client)?;
            if (length, modified) != (self.length, self.modified) {
                return Err(Error::new(ErrorKind::Changed, "read", self.target())
                    .detail("the archive was replaced by another while it was read"));
            }
            *open = file;
        }
        Ok(Arc::clone(&open))
    }
}

impl Ranges for SftpFile {
    fn target(&self) -> String {
        self.client.options().describe()
    }

    fn fetch(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        match self.opened()?.read_range(offset, length) {
            Err(error) if error.kind == ErrorKind::Transport => self.opened()?.read_range(offset, length),
            other => other,
        }
    }
}

impl SftpArchive {
    /// Opens the archive at the location of `options`.
    ///
    /// Fails with `NotFound`, `Denied`, `Transport`; with `Invalid` when the file is no archive, and with `Protocol`
    /// when it was cut short.
    pub fn open(options: Options) -> Result<Self> {
        let client = Client::new(options);
        let (file, length, modified) = SftpFile::open(&client)?;
        let offset = length.saturating_sub(TAIL);
        let bytes = file.read_range(offset, usize::try_from(length - offset).expect("at most 64 KiB"))?;
        let time = modified.map(|secs| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(secs)));
        let ranges = SftpFile { client, open: Mutex::new(file), length, modified };
        Self::open_ranges(ranges, Tail { offset, bytes }, time)
    }
}
