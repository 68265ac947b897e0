//! An archive written to a server, as a stream.

use std::io::{self, Write};

use super::client::Client;
use super::folders::synchronise_folder;
use super::importer::absolute;
use super::options::Options;
use super::store::mode_of;
use super::transfer::{Upload, rename_again};
use crate::base::Printable;
use crate::connector::{ArchiveSink, Error, ErrorKind, Result, WriteFault};
use crate::connectors::place::random_digits;
use crate::connectors::tree::{join, parent};

/// How much of the archive's name a temporary name repeats, in bytes: names may be 255 bytes long.
const REPEATED: usize = 200;

/// An archive in the making beside its final name, mode 0600, as `.<name>.<random>.tmp`.
///
/// It appears whole with [`commit`](ArchiveSink::commit); dropped without, it is removed as long as the connection
/// stands.
#[derive(Debug)]
pub struct SftpSink {
    client: Client,
    upload: Upload,
    path: Vec<u8>,
    overwrite: bool,
    fault: WriteFault,
}

impl SftpSink {
    /// Begins an archive at the location of `options`.
    ///
    /// Fails with `Exists` when something has the name, unless `overwrite` allows to replace it; what is neither a
    /// regular file nor a symbolic link is never replaced. Fails with `Invalid` when the location names no file.
    pub fn create(options: Options, overwrite: bool) -> Result<Self> {
        Self::with_client(Client::new(options), overwrite)
    }

    pub(super) fn with_client(client: Client, overwrite: bool) -> Result<Self> {
        let target = client.options().describe();
        if matches!(&client.options().path[..], b"" | b"/") {
            return Err(Error::new(ErrorKind::Invalid, "create", target).detail("it does not name a file"));
        }
        let path = absolute(&client)?;
        match client.again(|connection| connection.lstat(&path)) {
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(there) if !(mode_of(&there).is_regular() || mode_of(&there).is_symlink()) => {
                return Err(Error::new(ErrorKind::Exists, "create", target)
                    .detail("something that is not a file has this name"));
            }
            Ok(_) if !overwrite => {
                return Err(Error::new(ErrorKind::Exists, "create", target)
                    .detail("the file exists; -overwrite replaces it"));
            }
            Ok(_) => {}
        }
        let (folder, name) = parent(&path);
        let digits = random_digits().map_err(|error| Error::io("create", target, error))?;
        let repeated = &name[..name.len().min(REPEATED)];
        let temporary = join(folder, &[b".", repeated, b".", digits.as_bytes(), b".tmp"].concat());
        let connection = client.connection()?;
        let upload = Upload::create(&client.options().cancel, &connection, temporary, 0o600)?;
        Ok(Self { client, upload, path, overwrite, fault: WriteFault::default() })
    }

    /// Fails when a part was lost: what followed it would stand behind a hole.
    fn check(&self) -> Result<()> {
        self.fault.check(Printable::new(&self.path))
    }
}

impl Write for SftpSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check().map_err(io::Error::other)?;
        self.fault.note(self.upload.write(bytes).map_err(io::Error::other))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ArchiveSink for SftpSink {
    fn commit(self: Box<Self>) -> Result<()> {
        self.check()?;
        let Self { client, mut upload, path, overwrite, .. } = *self;
        upload.close(true)?;
        let size = upload.length();
        let temporary = upload.keep();
        if let Err(error) = rename_again(&client, &temporary, &path, overwrite, Some(size)) {
            if error.kind == ErrorKind::Exists && !overwrite {
                // Its name says that it is temporary.
                let _ = client.again(|connection| connection.remove(&temporary));
                return Err(error.detail("the file exists; -overwrite replaces it"));
            }
            // It is whole and on the server's disk: a name is all it wants.
            let said = error.detail.as_ref().map_or_else(String::new, |said| format!("{said}; "));
            let kept = Printable::new(&temporary);
            return Err(error.detail(format!("{said}if it has no name yet, the new archive is {kept}")));
        }
        // The file has its name; that the folder is on the disk as well is more than every server can do.
        let _ = client.again(|connection| {
            synchronise_folder(connection, parent(&path).0);
            Ok(())
        });
        Ok(())
    }
}
