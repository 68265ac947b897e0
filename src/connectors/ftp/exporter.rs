//! A folder on a server as a destination.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use suppaftp::{FtpError, Status};

use super::client::Client;
use super::importer::{absolute, list};
use super::listing;
use super::options::{Options, unsayable};
use super::session::{Session, bytes, end_of_data, text};
use crate::base::{Printable, Timestamp};
use crate::connector::{ContentSource, Error, ErrorKind, Item, Result};
use crate::connectors::existing::Existing;
use crate::connectors::tree::{Standing, Steps, Target, TreeExporter, fault_on_windows, parent};
use crate::format::entry::Mode;

/// How much content is taken at once, in bytes.
const PIECE: u64 = 1 << 20;
/// For how long a listing is believed, where the server cannot be asked about one path.
const FRESH: Duration = Duration::from_secs(1);
/// How many listings are remembered.
const LISTINGS: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");

/// Connects, and opens a folder on a server as a destination, making it if it is missing.
pub fn open_exporter(options: Options, existing: Existing, skip_permissions: bool) -> Result<TreeExporter> {
    let client = Client::new(options)?;
    let root = absolute(&client)?;
    let plain = client.again("connect to", &|| client.options().server(), |session| Ok(!session.secure))?;
    let strict_below = (!is_unix(&client)?).then_some(root.len());
    let server = Server {
        client,
        plain,
        strict_below,
        skip_permissions,
        listings: Mutex::new(LruCache::new(LISTINGS)),
        written: Mutex::default(),
        owners_told: AtomicBool::new(false),
    };
    TreeExporter::open(server, root, existing, skip_permissions)
}

type Listing = Arc<HashMap<Vec<u8>, Standing>>;

/// What FTP can do to files.
#[derive(Debug)]
struct Server {
    client: Client,
    /// Whether nothing is encrypted.
    plain: bool,
    skip_permissions: bool,
    /// Where the server may be a Windows one: how long the root is, below which names are looked at closely.
    strict_below: Option<usize>,
    listings: Mutex<LruCache<Vec<u8>, (Instant, Listing)>>,
    /// The lengths of files that were written and have no names of their own yet.
    written: Mutex<HashMap<Vec<u8>, u64>>,
    /// Whether it was said that owners are not restored.
    owners_told: AtomicBool,
}

fn shown(path: &[u8]) -> String {
    Printable::new(path).to_string()
}

fn standing(line: &listing::Line) -> Standing {
    Standing {
        mode: line.info.mode,
        permissions: line.permissions,
        size: u64::try_from(line.info.size).unwrap_or(0),
        modified: (line.info.modified != Timestamp::ZERO).then_some(line.info.modified.secs),
    }
}

impl Server {
    fn ask<T>(
        &self,
        op: &'static str,
        path: &[u8],
        run: impl Fn(&mut Session, String) -> Result<T, FtpError>,
    ) -> Result<T> {
        if unsayable(path) {
            return Err(Error::new(ErrorKind::Invalid, op, shown(path)));
        }
        self.client.again(op, &|| shown(path), |session| run(session, text(path)))
    }

    /// Returns what a folder holds, as of a moment ago.
    fn listing(&self, folder: &[u8]) -> Result<Listing> {
        let listings = || self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, listing)) = listings().get(folder)
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(listing));
        }
        let at = Instant::now();
        let lines = list(&self.client, folder)?.lines;
        let lines = lines.iter().map(|line| (line.info.name.as_bytes().to_vec(), standing(line)));
        let listing: Listing = Arc::new(lines.collect());
        listings().put(folder.to_vec(), (at, Arc::clone(&listing)));
        Ok(listing)
    }

    /// Forgets what was listed of the folder that holds a path: it is different now.
    fn forget(&self, path: &[u8]) {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner).pop(parent(path).0);
    }

    /// Sets mode and time, as far as the server can. Returns what is missing.
    fn describe_file(
        session: &mut Session,
        path: &str,
        item: &Item<'_>,
        modes: bool,
    ) -> Result<Vec<String>, FtpError> {
        let info = &item.entry.info;
        let mut missing = Vec::new();
        if modes {
            let mut bits = info.mode.to_unix() & 0o7777;
            if bits & 0o6000 != 0 {
                bits &= 0o1777;
                missing.push("set-id bits".into());
            }
            if !fine(session.ftp.site(format!("CHMOD {bits:o} {path}")))? {
                missing.push("mode".into());
            }
        }
        if info.modified != Timestamp::ZERO {
            let set = match listing::spell(info.modified) {
                Some(time) if session.has("MFMT") => {
                    fine(session.ftp.custom_command(format!("MFMT {time} {path}"), &[Status::File]))?
                }
                // Before MFMT there was a second form of MDTM. A server that takes the whole for a name has no such
                // file.
                Some(time) if session.has("MDTM") => {
                    fine(session.ftp.custom_command(format!("MDTM {time} {path}"), &[Status::File]))?
                }
                _ => false,
            };
            if !set {
                missing.push("modification time".into());
            }
        }
        Ok(missing)
    }

    /// Says once that owners are not restored, where there are any.
    fn owners(&self, item: &Item<'_>) -> Option<String> {
        let info = &item.entry.info;
        let nobody = info.uid == 0 && info.gid == 0 && info.user.is_empty() && info.group.is_empty();
        let told = self.skip_permissions || nobody || self.owners_told.swap(true, Ordering::Relaxed);
        (!told).then(|| "owners, here and elsewhere: FTP has none".into())
    }

    /// Fails where a name that not every server keeps was made another one: Pure-FTPd ends names in `_` for a space,
    /// and says that all went well.
    fn kept(&self, path: &[u8]) -> Result<()> {
        let (folder, name) = parent(path);
        if name.trim_ascii() == name
            || list(&self.client, folder)?.lines.iter().any(|line| &*line.info.name == name)
        {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, "restore", shown(path))
            .detail("the server gave it another name: it does not keep spaces at the ends of names"))
    }

    fn written(&self) -> MutexGuard<'_, HashMap<Vec<u8>, u64>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renames. Also returns whether it may have been done though it failed: its answer was lost.
    fn attempt_rename(&self, from: &[u8], to: &[u8]) -> Result<(), (Error, bool)> {
        let attempts = Cell::new(0);
        let target = text(to);
        let renamed = self.ask("rename to", from, |session, from| {
            attempts.set(attempts.get() + 1);
            session.ftp.rename(from, target.clone())
        });
        self.forget(from);
        self.forget(to);
        renamed.map_err(|error| {
            let uncertain = attempts.get() > 1 || error.kind == ErrorKind::Transport;
            (error, uncertain)
        })
    }

    fn store(&self, path: &[u8], content: &dyn ContentSource) -> Result<()> {
        let failed = |error| self.client.error("write", shown(path), error);
        let mut session = self.client.take()?;
        let mut transfer = match session.transfer(&format!("STOR {}", text(path)), 0) {
            Ok(transfer) => transfer,
            Err(error) => {
                let is_answer = matches!(error, FtpError::UnexpectedResponse(_));
                let error = failed(error);
                if is_answer {
                    self.client.put_back(session);
                } else {
                    self.client.lose(session);
                }
                return Err(error);
            }
        };
        let sent = self.send(&mut transfer, path, content);
        if let Err(error) = sent {
            // The server may say more than a broken stream does, such as that its disk is full.
            let ended = session.end(transfer);
            let answer = match ended {
                Err(FtpError::UnexpectedResponse(answer)) if answer.status.code() != 421 => {
                    Some(Some(answer))
                }
                Ok(()) => Some(None),
                Err(_) => None,
            };
            if error.kind == ErrorKind::Cancelled && answer.is_some() {
                // Nobody gets a session any more: what this one began it takes away.
                let _ = session.ftp.rm(text(path));
            }
            self.client.lose(session);
            return Err(match answer.flatten() {
                Some(answer) if error.kind == ErrorKind::Transport => {
                    failed(FtpError::UnexpectedResponse(answer))
                }
                _ => error,
            });
        }
        // A stream that is gone by now shows in the answer.
        let _ = end_of_data(&transfer);
        let ended = session.end(transfer).and_then(|()| {
            session.ftp.size(text(path)).map_or_else(
                // A server without SIZE has said that it has everything.
                |error| if matches!(error, FtpError::UnexpectedResponse(_)) { Ok(None) } else { Err(error) },
                |size| Ok(Some(size as u64)),
            )
        });
        match ended {
            Ok(size) if size.is_none_or(|size| size == content.size()) => {
                self.client.put_back(session);
                Ok(())
            }
            Ok(size) => {
                self.client.put_back(session);
                Err(Error::new(ErrorKind::Protocol, "write", shown(path)).detail(format!(
                    "the server has {} bytes of {}",
                    size.unwrap_or(0),
                    content.size()
                )))
            }
            Err(error) => {
                let error = failed(error);
                self.client.lose(session);
                Err(error)
            }
        }
    }

    fn send(&self, transfer: &mut impl Write, path: &[u8], content: &dyn ContentSource) -> Result<()> {
        let size = content.size();
        let mut buffer = vec![0; usize::try_from(size.min(PIECE)).expect("at most 1 MiB")];
        let mut done = 0;
        while done < size {
            self.client.check_cancelled("write")?;
            let length = usize::try_from((size - done).min(PIECE)).expect("at most 1 MiB");
            content.read_at(done, &mut buffer[..length])?;
            let broken = |error: std::io::Error| {
                self.client.error("write", shown(path), FtpError::ConnectionError(error))
            };
            transfer.write_all(&buffer[..length]).map_err(broken)?;
            done += length as u64;
        }
        transfer
            .flush()
            .map_err(|error| self.client.error("write", shown(path), FtpError::ConnectionError(error)))
    }
}

/// Returns whether the server says that it is a Unix one. One that says nothing may be anything.
fn is_unix(client: &Client) -> Result<bool> {
    let system = client.again("connect to", &|| client.options().server(), |session| {
        match session.ftp.custom_command("SYST", &[Status::Name]) {
            Ok(answer) => Ok(text(&answer.body).to_ascii_uppercase()),
            other => fine(other).map(|_| String::new()),
        }
    })?;
    // "UNIX emulated by FileZilla" is what a server on Windows says.
    Ok(system.contains("UNIX") && !["EMULATED", "WINDOWS", "WIN32"].iter().any(|word| system.contains(word)))
}

/// Returns whether a command was obeyed; what ends the session is an error.
fn fine<T>(answer: Result<T, FtpError>) -> Result<bool, FtpError> {
    match answer {
        Ok(_) => Ok(true),
        Err(FtpError::UnexpectedResponse(answer)) if answer.status.code() != 421 => Ok(false),
        Err(error) => Err(error),
    }
}

impl Target for Server {
    fn describe(&self) -> String {
        self.client.options().describe()
    }

    fn open_root(&self, path: &[u8]) -> Result<bool> {
        let enter = |path: &[u8]| self.ask("open", path, |session, path| session.ftp.cwd(path));
        match enter(path) {
            Ok(()) => return Ok(self.names(path)?.is_empty()),
            Err(error)
                if matches!(error.kind, ErrorKind::Transport | ErrorKind::Cancelled | ErrorKind::Denied) =>
            {
                return Err(error);
            }
            Err(_) => {}
        }
        let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let folder = &path[..end];
            // Those above may be there already; whether this one is shows at the end.
            if self.ask("create", folder, |session, path| session.ftp.mkdir(path)).is_err()
                && end == path.len()
            {
                enter(folder)?;
            }
        }
        enter(path)?;
        Ok(true)
    }

    fn refuses(&self, path: &[u8]) -> Option<String> {
        if unsayable(path) {
            return Some("FTP cannot say a name with a line break".into());
        }
        let below = path.get(self.strict_below?..)?;
        fault_on_windows(below).map(Into::into)
    }

    fn look(&self, path: &[u8]) -> Result<Option<Standing>> {
        let exact = self.ask("look at", path, |session, path| {
            if !session.has("MLST") {
                return Ok(None);
            }
            match session.ftp.mlst(Some(&path)) {
                Ok(line) => {
                    let line = listing::one(&bytes(&line)).map_err(|()| FtpError::BadResponse)?;
                    Ok(Some(Some(standing(&line))))
                }
                Err(FtpError::UnexpectedResponse(answer)) if answer.status.code() == 550 => Ok(Some(None)),
                Err(error) => Err(error),
            }
        })?;
        if let Some(told) = exact {
            return Ok(told);
        }
        let (folder, name) = parent(path);
        if name.is_empty() {
            let mode = Mode::dir(0o755);
            return Ok(Some(Standing { mode, permissions: false, size: 0, modified: None }));
        }
        let there = self.listing(folder)?.get(name).copied();
        // Times of LIST are not what was set.
        Ok(there.map(|there| Standing { modified: None, ..there }))
    }

    /// Asks for the time where listings have none that is exact.
    fn look_closely(&self, path: &[u8]) -> Result<Option<Standing>> {
        let Some(there) = self.look(path)? else { return Ok(None) };
        if there.modified.is_some() || !there.mode.is_regular() {
            return Ok(Some(there));
        }
        let modified = self.ask("look at", path, |session, path| {
            if !session.has("MDTM") {
                return Ok(None);
            }
            match session.ftp.mdtm(&path) {
                Ok(time) => Ok(Some(time.and_utc().timestamp())),
                other => fine(other).map(|_| None),
            }
        })?;
        Ok(Some(Standing { modified, ..there }))
    }

    fn names(&self, folder: &[u8]) -> Result<Vec<Vec<u8>>> {
        let lines = list(&self.client, folder)?.lines;
        let names = lines.into_iter().map(|line| line.info.name.into_bytes());
        Ok(names.filter(|name| !name.contains(&b'/')).collect())
    }

    fn make_folder(&self, path: &[u8]) -> Result<bool> {
        let made = self.ask("create", path, |session, path| session.ftp.mkdir(path));
        self.forget(path);
        match made {
            Ok(()) => self.kept(path).map(|()| true),
            Err(error) if matches!(error.kind, ErrorKind::Transport | ErrorKind::Cancelled) => Err(error),
            Err(error) => {
                if self.look(path)?.is_some() {
                    Ok(false)
                } else {
                    Err(error)
                }
            }
        }
    }

    fn write(&self, path: &[u8], item: &Item<'_>, content: &dyn ContentSource) -> Result<Vec<String>> {
        let mut stored = self.store(path, content);
        if stored.as_ref().is_err_and(|error| error.kind == ErrorKind::Transport) {
            stored = self.store(path, content);
        }
        let described = stored.and_then(|()| {
            self.ask("set the metadata of", path, |session, path| {
                Self::describe_file(session, &path, item, !self.skip_permissions)
            })
        });
        match described {
            Ok(mut missing) => {
                self.written().insert(path.to_vec(), content.size());
                missing.extend(self.owners(item));
                Ok(missing)
            }
            Err(error) => {
                // Its name says that it is temporary.
                let _ = self.remove(path);
                Err(error)
            }
        }
    }

    fn make_link(&self, _path: &[u8], _item: &Item<'_>) -> Result<Option<Vec<String>>> {
        Ok(None)
    }

    fn has_hard_links(&self) -> bool {
        false
    }

    fn hard_link(&self, _first: &[u8], path: &[u8]) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "link", shown(path)))
    }

    /// Renames. FTP has no way to rename only where nothing is: looking first is the best there is.
    fn rename(&self, from: &[u8], to: &[u8], replace: bool) -> Result<()> {
        let size = self.written().remove(from);
        if !replace && self.look(to)?.is_some() {
            return Err(Error::new(ErrorKind::Exists, "rename to", shown(to)));
        }
        let look = |path: &[u8]| {
            self.forget(path);
            self.look(path)
        };
        let steps = Steps {
            attempt: &|from, to| self.attempt_rename(from, to),
            look: &look,
            remove: &|path| self.remove(path),
        };
        if replace { steps.replace(from, to, size) } else { steps.rename(from, to, size) }?;
        self.kept(to)
    }

    fn remove(&self, path: &[u8]) -> Result<()> {
        let removed = self.ask("delete", path, |session, path| session.ftp.rm(path));
        self.forget(path);
        removed
    }

    fn finish_folder(&self, path: &[u8], item: &Item<'_>) -> Result<Vec<String>> {
        let mut missing = self.ask("set the metadata of", path, |session, path| {
            Self::describe_file(session, &path, item, !self.skip_permissions)
        })?;
        // Many servers set times of files only: a folder's is of little use.
        missing.retain(|missing| missing != "modification time");
        Ok(missing)
    }

    fn workers(&self) -> usize {
        self.client.options().connections
    }

    fn is_plain(&self) -> bool {
        self.plain
    }
}
