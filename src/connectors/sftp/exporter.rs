//! A folder on a server as a destination.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client::Client;
use super::connection::Connection;
use super::folders::make_folders;
use super::importer::absolute;
use super::options::Options;
use super::store::mode_of;
use super::transfer::{self, Upload, standing};
use super::wire::Attrs;
use crate::base::Timestamp;
use crate::connector::{ContentSource, Error, ErrorKind, Item, Result};
use crate::connectors::existing::Existing;
use crate::connectors::tree::{MOST_NAMES, Standing, Target, TreeExporter, fault_on_windows, seconds};

/// How much content is taken at once, in bytes.
const PIECE: u64 = 1 << 20;
/// The length of runs of zeros that are left out, in bytes.
const HOLE: usize = 64 << 10;

/// Connects, and opens a folder on a server as a destination, making it if it is missing.
pub fn open_exporter(options: Options, existing: Existing, skip_permissions: bool) -> Result<TreeExporter> {
    with_client(Client::new(options), existing, skip_permissions)
}

pub(super) fn with_client(
    client: Client,
    existing: Existing,
    skip_permissions: bool,
) -> Result<TreeExporter> {
    let root = absolute(&client)?;
    let strict_below = is_windows(&client)?.then_some(root.len());
    let server = Server { client, skip_permissions, strict_below, written: Mutex::default() };
    TreeExporter::open(server, root, existing, skip_permissions)
}

/// What SFTP can do to files.
#[derive(Debug)]
struct Server {
    client: Client,
    skip_permissions: bool,
    /// On a Windows server: how long the root is, below which names are looked at closely.
    strict_below: Option<usize>,
    /// The lengths of files that were written and have no names of their own yet.
    written: Mutex<HashMap<Vec<u8>, u64>>,
}

impl Server {
    fn written(&self) -> MutexGuard<'_, HashMap<Vec<u8>, u64>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets owner, mode and times of something that has `there` now. Returns what is missing. `set` sends attributes.
    fn describe_file(
        &self,
        item: &Item<'_>,
        there: &Attrs,
        set: &dyn Fn(&Attrs) -> Result<()>,
    ) -> Result<Vec<String>> {
        let info = &item.entry.info;
        let mut missing = Vec::new();
        let mut attrs = Attrs::default();
        if !self.skip_permissions {
            let owned = Self::give_away(item, there, set, &mut missing)?;
            let mut bits = info.mode.to_unix() & 0o7777;
            let root = there.owner.is_some_and(|(user, _)| user == 0);
            if bits & 0o6000 != 0 && !(owned && root) {
                bits &= 0o1777;
                missing.push("set-id bits".into());
            }
            attrs.mode = Some(bits);
        }
        // "No time" is not a time to set.
        if info.modified != Timestamp::ZERO {
            match seconds(info.modified) {
                Some(time) => attrs.times = Some((time, time)),
                None => missing.push("modification time".into()),
            }
        }
        if attrs == Attrs::default() {
            return Ok(missing);
        }
        if let Err(error) = set(&attrs) {
            check(error)?;
            // Together they fail together: one by one shows which.
            for (part, name) in [
                (Attrs { times: None, ..attrs }, "mode"),
                (Attrs { mode: None, ..attrs }, "modification time"),
            ] {
                if part != Attrs::default()
                    && let Err(error) = set(&part)
                {
                    check(error)?;
                    missing.push(name.into());
                }
            }
        }
        Ok(missing)
    }

    /// Sets the owner. Returns whether it is the recorded one.
    fn give_away(
        item: &Item<'_>,
        there: &Attrs,
        set: &dyn Fn(&Attrs) -> Result<()>,
        missing: &mut Vec<String>,
    ) -> Result<bool> {
        let info = &item.entry.info;
        let number = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(user), Some(group)) = (number(info.uid), number(info.gid)) else {
            missing.push("owner".into());
            return Ok(false);
        };
        let Some((own_user, own_group)) = there.owner else { return Ok(false) };
        if (own_user, own_group) == (user, group) {
            return Ok(true);
        }
        // Folders that nobody described and objects of a bucket have no owner: nothing is missing then.
        let nobody = user == 0 && group == 0 && info.user.is_empty() && info.group.is_empty();
        if nobody && own_user != 0 {
            return Ok(false);
        }
        if let Err(error) = set(&Attrs { owner: Some((user, group)), ..Attrs::default() }) {
            check(error)?;
            missing.push(if own_user == user { "group" } else { "owner" }.into());
            return Ok(false);
        }
        Ok(true)
    }

    fn write_content(upload: &mut Upload, content: &dyn ContentSource) -> Result<()> {
        let size = content.size();
        let mut buffer = vec![0; usize::try_from(size.min(PIECE)).expect("at most 1 MiB")];
        let mut done = 0;
        let mut tail_is_hole = false;
        while done < size {
            let length = usize::try_from((size - done).min(PIECE)).expect("at most 1 MiB");
            content.read_at(done, &mut buffer[..length])?;
            let bytes = &buffer[..length];
            // What was read but not sent.
            let mut from = 0;
            for (index, piece) in bytes.chunks(HOLE).enumerate() {
                tail_is_hole = piece.len() == HOLE && piece.iter().all(|byte| *byte == 0);
                if tail_is_hole {
                    upload.write(&bytes[from..index * HOLE])?;
                    upload.skip(HOLE as u64);
                    from = (index + 1) * HOLE;
                }
            }
            upload.write(&bytes[from..])?;
            done += length as u64;
        }
        upload.settle()?;
        if tail_is_hole {
            upload.set(&Attrs { size: Some(upload.length()), ..Attrs::default() })?;
        }
        Ok(())
    }
}

/// Returns whether the server's folders lie on a drive with a letter, as those of OpenSSH on Windows do (`/C:/Users`).
fn is_windows(client: &Client) -> Result<bool> {
    match client.again(|connection| connection.real_path(b".")) {
        Ok(home) => Ok(matches!(&home[..], [b'/', letter, b':', ..] if letter.is_ascii_alphabetic())),
        // A server that does not tell is none that is known to run there.
        Err(error) if !matches!(error.kind, ErrorKind::Transport | ErrorKind::Cancelled) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Passes on what ends everything; that a server refuses some metadata does not.
fn check(error: Error) -> Result<()> {
    match error.kind {
        ErrorKind::Transport | ErrorKind::Cancelled | ErrorKind::Protocol => Err(error),
        _ => Ok(()),
    }
}

impl Target for Server {
    fn describe(&self) -> String {
        self.client.options().describe()
    }

    fn open_root(&self, path: &[u8]) -> Result<bool> {
        let there = self.client.again(|connection| connection.stat(path));
        match there {
            Err(error) if error.kind == ErrorKind::NotFound => {
                let mode = if self.skip_permissions { 0o777 } else { 0o755 };
                self.client.again(|connection| make_folders(connection, path, mode))?;
                Ok(true)
            }
            Err(error) => Err(error),
            Ok(attrs) if !mode_of(&attrs).is_dir() => {
                Err(Error::new(ErrorKind::Exists, "open", self.describe()).detail("it is not a folder"))
            }
            Ok(_) => Ok(self.names(path)?.is_empty()),
        }
    }

    fn refuses(&self, path: &[u8]) -> Option<String> {
        let below = path.get(self.strict_below?..)?;
        fault_on_windows(below).map(Into::into)
    }

    fn look(&self, path: &[u8]) -> Result<Option<Standing>> {
        self.client.again(|connection| standing(connection, path))
    }

    fn names(&self, folder: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.client.again(|connection| {
            let mut names = Vec::new();
            connection.each_name(folder, MOST_NAMES, &mut |named| {
                names.push(named.name);
                Ok(())
            })?;
            // What is no name is nothing to be touched.
            names.retain(|name| !name.contains(&b'/'));
            Ok(names)
        })
    }

    fn make_folder(&self, path: &[u8]) -> Result<bool> {
        let mode = if self.skip_permissions { 0o777 } else { 0o700 };
        self.client.again(|connection| match connection.make_folder(path, mode) {
            Ok(()) => Ok(true),
            // Version 3 has no word for "it exists".
            Err(error) if matches!(error.kind, ErrorKind::Io | ErrorKind::Exists) => {
                if standing(connection, path)?.is_some() { Ok(false) } else { Err(error) }
            }
            Err(error) => Err(error),
        })
    }

    fn write(&self, path: &[u8], item: &Item<'_>, content: &dyn ContentSource) -> Result<Vec<String>> {
        let mode = if self.skip_permissions { 0o666 } else { 0o600 };
        let attempt = std::sync::atomic::AtomicU64::new(0);
        self.client.again(|connection| {
            // What a lost connection left keeps its name: it may still be written to.
            if attempt.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 {
                match connection.remove(path) {
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    other => other?,
                }
            }
            let mut upload = Upload::create(&self.client.options().cancel, connection, path.to_vec(), mode)?;
            Self::write_content(&mut upload, content)?;
            let there = upload.attrs()?;
            let missing = self.describe_file(item, &there, &|attrs| upload.set(attrs))?;
            upload.close(false)?;
            upload.keep();
            self.written().insert(path.to_vec(), content.size());
            Ok(missing)
        })
    }

    fn make_link(&self, path: &[u8], item: &Item<'_>) -> Result<Option<Vec<String>>> {
        let target = &item.entry.symlink_target;
        self.client.again(|connection| {
            match connection.make_link(target, path) {
                Err(error) if error.kind == ErrorKind::Unsupported => return Ok(None),
                other => other?,
            }
            if !connection.has("lsetstat@openssh.com") {
                return Ok(Some(Vec::new()));
            }
            let there = connection.lstat(path)?;
            let set = |attrs: &Attrs| {
                // Permissions of a link mean nothing.
                let attrs = Attrs { mode: None, ..*attrs };
                if attrs == Attrs::default() { Ok(()) } else { connection.set_link(path, &attrs) }
            };
            self.describe_file(item, &there, &set).map(Some)
        })
    }

    fn has_hard_links(&self) -> bool {
        self.client.connection().is_ok_and(|connection| connection.has("hardlink@openssh.com"))
    }

    fn hard_link(&self, first: &[u8], path: &[u8]) -> Result<()> {
        self.client.again(|connection| connection.hard_link(first, path))
    }

    fn rename(&self, from: &[u8], to: &[u8], replace: bool) -> Result<()> {
        let size = self.written().remove(from);
        transfer::rename_again(&self.client, from, to, replace, size)
    }

    fn remove(&self, path: &[u8]) -> Result<()> {
        self.client.again(|connection| connection.remove(path))
    }

    fn finish_folder(&self, path: &[u8], item: &Item<'_>) -> Result<Vec<String>> {
        self.client.again(|connection: &Arc<Connection>| {
            let there = connection.lstat(path)?;
            if !mode_of(&there).is_dir() {
                // The root itself may be a link that its owner made.
                let there = connection.stat(path)?;
                return self.describe_file(item, &there, &|attrs| connection.set(path, attrs));
            }
            self.describe_file(item, &there, &|attrs| connection.set(path, attrs))
        })
    }

    fn workers(&self) -> usize {
        self.client.options().workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_refuses_of_metadata_is_missing_and_no_failure() {
        for kind in [ErrorKind::Denied, ErrorKind::Io, ErrorKind::Unsupported] {
            assert!(check(Error::new(kind, "set", "x")).is_ok());
        }
        assert!(check(Error::new(ErrorKind::Transport, "set", "x")).is_err());
    }
}
