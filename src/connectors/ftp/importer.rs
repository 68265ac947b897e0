//! A folder on a server as a source.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use suppaftp::FtpError;

use super::client::Client;
use super::listing::{self, Line};
use super::options::{Options, unsayable};
use super::session::{Session, Transfer, text};
use crate::base::{Printable, Timestamp};
use crate::connector::{
    Change, Content, ContentInfo, Error, ErrorKind, Importer, Record, Result, SourceInfo, Work,
};
use crate::connectors::tree::{CLOCKS, Folders, Found, MOST_NAMES, Source, join, parent};
use crate::format::entry::{Entry, FileInfo, Mode};

/// How far times of LIST may be off, in nanoseconds: they are in minutes or days, in any time zone.
const VAGUE: i64 = 2 * 86_400 * 1_000_000_000;

/// A folder, or one file, on a server.
#[derive(Debug)]
pub struct FtpImporter {
    client: Arc<Client>,
    source: Source,
    /// Whether listings tell times in seconds.
    exact: bool,
    plain: bool,
}

fn shown(path: &[u8]) -> String {
    Printable::new(path).to_string()
}

/// What one listing gave.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) lines: Vec<Line>,
    /// Lines that are not understood.
    pub(super) odd: Vec<Vec<u8>>,
}

/// Lists a folder.
pub(super) fn list(client: &Client, path: &[u8]) -> Result<Listed> {
    list_by(client, path, true)
}

/// Lists a folder; with `facts` by MLSD where the server has it.
fn list_by(client: &Client, path: &[u8], facts: bool) -> Result<Listed> {
    if unsayable(path) {
        return Err(cannot_say("list", path));
    }
    client.again("list", &|| shown(path), |session| {
        let mut listed = Listed::default();
        let count = Cell::new(0_usize);
        let exact = facts && (session.has("MLSD") || session.has("MLST"));
        let mut take = |line: Vec<u8>| {
            if line.is_empty() {
                return;
            }
            count.set(count.get() + 1);
            let read = if exact { listing::facts(&line) } else { listing::long_line(&line) };
            match read {
                Ok(found) => listed.lines.extend(found),
                Err(()) if listed.odd.len() < 100 => listed.odd.push(line),
                Err(()) => {}
            }
        };
        if exact {
            session.lines(&format!("MLSD {}", text(path)), MOST_NAMES, &mut take)?;
        } else {
            // Servers take an argument of LIST for options or patterns: the folder is entered instead.
            session.ftp.cwd(text(path))?;
            let refused = match session.lines("LIST -a", MOST_NAMES, &mut take) {
                Err(FtpError::UnexpectedResponse(answer)) if answer.status.code() != 421 => true,
                other => {
                    other?;
                    false
                }
            };
            // A server that knows the option lists the folder itself; another one may look for a file of that name.
            if refused || count.get() == 0 {
                session.lines("LIST", MOST_NAMES, &mut take)?;
            }
        }
        Ok(listed)
    })
}

/// Finds out where links lead that the server's facts say only of that they are links.
fn name_links(client: &Client, path: &[u8], lines: &mut [Line]) {
    let is_open = |line: &Line| line.info.mode.is_symlink() && line.target.is_none();
    if !lines.iter().any(is_open) {
        return;
    }
    // What is not told here is reported link by link.
    let Ok(long) = list_by(client, path, false) else { return };
    let mut targets: HashMap<_, _> =
        long.lines.into_iter().filter_map(|line| Some((line.info.name, line.target?))).collect();
    for line in lines.iter_mut().filter(|line| is_open(line)) {
        line.target = targets.remove(&line.info.name);
    }
}

fn cannot_say(op: &'static str, path: &[u8]) -> Error {
    Error::new(ErrorKind::Unsupported, op, shown(path)).detail("FTP cannot say a name with a line break")
}

/// Returns the path of the location from the server's root on.
pub(super) fn absolute(client: &Client) -> Result<Vec<u8>> {
    let path = &client.options().path;
    if path.starts_with(b"/") {
        return Ok(path.clone());
    }
    let home = client.again("find", &|| client.options().describe(), |session| session.ftp.pwd())?;
    let home = super::session::bytes(&home);
    if !home.starts_with(b"/") {
        return Err(Error::new(ErrorKind::Protocol, "find", client.options().describe())
            .detail(format!("the server calls its folder {}", Printable::new(&home))));
    }
    Ok(if path.is_empty() { home } else { join(&home, path) })
}

/// Looks at one path, as far as the server lets one.
pub(super) fn look(client: &Client, path: &[u8]) -> Result<FileInfo> {
    let name = if path == b"/" { b"/" } else { parent(path).1 };
    client.again("look at", &|| shown(path), |session| {
        let spelt = text(path);
        if session.has("MLST") {
            let line = super::session::bytes(&session.ftp.mlst(Some(&spelt))?);
            // The line names the path in the server's own way.
            let line = listing::one(&line).map_err(|()| FtpError::BadResponse)?;
            return Ok(FileInfo { name: name.into(), ..line.info });
        }
        if session.ftp.cwd(&spelt).is_ok() {
            return Ok(FileInfo::new(name, Mode::dir(0o755)));
        }
        let size = session.ftp.size(&spelt)?;
        let modified = session.ftp.mdtm(&spelt).map(|time| Timestamp::from_secs(time.and_utc().timestamp()));
        Ok(FileInfo {
            size: i64::try_from(size).map_err(|_| FtpError::BadResponse)?,
            modified: modified.unwrap_or(Timestamp::ZERO),
            links: 1,
            ..FileInfo::new(name, Mode::regular(0o644))
        })
    })
}

impl FtpImporter {
    /// Connects, and looks at what is to be read. Patterns are relative to the root, in gitignore's syntax.
    pub fn open(options: Options, ignore_files: &[PathBuf], excludes: &[String]) -> Result<Self> {
        let client = Arc::new(Client::new(options)?);
        let path = absolute(&client)?;
        let exact = client.again("connect to", &|| client.options().server(), |session| {
            Ok(session.has("MLST") || session.has("MLSD"))
        })?;
        let plain = client.is_plain();
        let source = Source::open(&Tree(&client), path, ignore_files, excludes)?;
        Ok(Self { client, source, exact, plain })
    }

    /// Returns whether everything, the password included, can be read on the way.
    pub fn is_plain(&self) -> bool {
        self.plain
    }
}

/// The server's folders.
struct Tree<'a>(&'a Client);

impl Folders for Tree<'_> {
    fn list(&self, path: &[u8]) -> Result<Vec<Found>> {
        let mut listed = list(self.0, path)?;
        name_links(self.0, path, &mut listed.lines);
        let found = |line: Line| {
            let name = line.info.name.as_bytes().to_vec();
            let info = match &line.target {
                None if line.info.mode.is_symlink() => {
                    Err(Error::new(ErrorKind::Unsupported, "read the link", shown(&join(path, &name)))
                        .detail("the server does not say where it leads"))
                }
                _ => Ok(line.info),
            };
            Found { info, name, target: line.target }
        };
        let mut out: Vec<_> = listed.lines.into_iter().map(found).collect();
        for line in listed.odd {
            let error = Error::new(ErrorKind::Protocol, "list", shown(path))
                .detail(format!("the server's listing is not understood: {}", Printable::new(&line)));
            // A line without a name has one that is none, which becomes an error of the folder.
            out.push(Found { info: Err(error), name: line, target: None });
        }
        Ok(out)
    }

    fn look(&self, path: &[u8]) -> Result<Found> {
        let info = look(self.0, path)?;
        Ok(Found { name: info.name.as_bytes().to_vec(), info: Ok(info), target: None })
    }
}

impl Importer for FtpImporter {
    fn source(&self) -> SourceInfo {
        SourceInfo {
            kind: "ftp".into(),
            origin: self.client.options().host.clone(),
            root: self.source.root().into(),
        }
    }

    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        self.source.scan(&Tree(&self.client), self.client.options().connections, emit)
    }

    /// Compares size and time. What was modified shortly before the previous run, or later, is read again: a minute
    /// where times are exact, two days where they are not.
    fn compare(&self, record: &Record, previous: &Entry, begun: Timestamp) -> Change {
        Source::compare(record, previous, begun, if self.exact { CLOCKS } else { VAGUE })
    }

    fn open(&self, record: &Record) -> Result<Box<dyn Content>> {
        let path = record.path.as_bytes().to_vec();
        if unsayable(&path) {
            return Err(cannot_say("open", &path));
        }
        let info = record.info.as_ref().ok();
        let size = info.and_then(|info| u64::try_from(info.size).ok());
        let modified = info.map(|info| info.modified).filter(|_| self.exact);
        let mut content = FtpContent {
            client: Arc::clone(&self.client),
            path,
            size,
            modified,
            under_way: None,
            position: 0,
            resumed: false,
        };
        content.begin()?;
        Ok(Box::new(content))
    }

    fn work(&self) -> Work {
        Work::Waiting(self.client.options().connections)
    }
}

/// One file, read in order. Where the connection breaks off, reading goes on over another one where it stopped, once.
#[derive(Debug)]
struct FtpContent {
    client: Arc<Client>,
    path: Vec<u8>,
    size: Option<u64>,
    /// The time in the listing, where it is exact.
    modified: Option<Timestamp>,
    under_way: Option<(Transfer, Session)>,
    position: u64,
    resumed: bool,
}

impl FtpContent {
    /// Asks for the file. In the middle only if it is still the same: `None` where it is not, or nobody knows.
    fn ask(&self, session: &mut Session) -> Result<Option<Transfer>, FtpError> {
        if self.position > 0 {
            let Some(before) = self.modified.filter(|time| *time != Timestamp::ZERO) else { return Ok(None) };
            if !session.has("MDTM") {
                return Ok(None);
            }
            match session.ftp.mdtm(text(&self.path)) {
                Ok(now) if now.and_utc().timestamp() == before.secs => {}
                Err(FtpError::UnexpectedResponse(answer)) if answer.status.code() == 421 => {
                    return Err(FtpError::UnexpectedResponse(answer));
                }
                Ok(_) | Err(FtpError::UnexpectedResponse(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        session.transfer(&format!("RETR {}", text(&self.path)), self.position).map(Some)
    }

    /// Asks for the file from where reading is.
    fn begin(&mut self) -> Result<()> {
        let mut last = None;
        // A session that was idle may be gone without our knowing: then another one is asked.
        for _ in 0..2 {
            let mut session = self.client.take()?;
            match self.ask(&mut session) {
                Ok(Some(transfer)) => {
                    self.under_way = Some((transfer, session));
                    return Ok(());
                }
                Ok(None) => {
                    self.client.put_back(session);
                    return Err(Error::new(ErrorKind::Changed, "read", shown(&self.path)).detail(
                        "the connection was lost, and the server does not say that the file is still the same",
                    ));
                }
                Err(error) => {
                    let is_answer =
                        matches!(&error, FtpError::UnexpectedResponse(answer) if answer.status.code() != 421);
                    let error = self.client.error("open", shown(&self.path), error);
                    if is_answer {
                        self.client.put_back(session);
                        return Err(error);
                    }
                    self.client.lose(session);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Transport, "open", shown(&self.path))))
    }

    fn end(&mut self) {
        if let Some((transfer, session)) = self.under_way.take() {
            // It ends in the middle: what the server says to that is of no use.
            session.sockets.cut();
            session.release();
            drop(transfer);
            self.client.lose(session);
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((transfer, _)) = &mut self.under_way else { return Ok(0) };
        let count = transfer.read(buffer)?;
        if count == 0 && self.size.is_some_and(|size| self.position < size) {
            // Too early: the server's last word tells whether the file ends here or the connection did.
            let Some((transfer, session)) = self.under_way.take() else { return Ok(0) };
            let ended = session.end(transfer);
            return match ended {
                Ok(()) => {
                    self.client.put_back(session);
                    Ok(0)
                }
                Err(error) => {
                    self.client.lose(session);
                    Err(io::Error::other(self.client.error("read", shown(&self.path), error)))
                }
            };
        }
        Ok(count)
    }
}

impl Read for FtpContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.client.check_cancelled("read").map_err(io::Error::other)?;
        let count = match self.read_some(buffer) {
            Err(error) if !self.resumed => {
                self.resumed = true;
                self.end();
                self.client.check_cancelled("read").map_err(io::Error::other)?;
                // The reason of the first failure is the better one.
                self.begin().map_err(|new| match new.kind {
                    ErrorKind::Changed => io::Error::other(new),
                    _ => error,
                })?;
                self.read_some(buffer)?
            }
            other => other?,
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Content for FtpContent {
    fn size_hint(&self) -> Option<u64> {
        self.size.filter(|size| *size > 0)
    }

    fn finish(mut self: Box<Self>) -> Result<ContentInfo> {
        let changed = |how: &str| {
            Error::new(ErrorKind::Changed, "read", shown(&self.path))
                .detail(format!("it {how} while it was read"))
        };
        let (changed_size, written) = (changed("changed its size"), changed("was written to"));
        if let Some((transfer, mut session)) = self.under_way.take() {
            if let Err(error) = session.end(transfer) {
                let error = self.client.error("read", shown(&self.path), error);
                self.client.lose(session);
                return Err(error);
            }
            let after = match self.modified {
                Some(_) if session.has("MDTM") => session.ftp.mdtm(text(&self.path)).ok(),
                _ => None,
            };
            self.client.put_back(session);
            let after = after.map(|time| time.and_utc().timestamp());
            // Two halves are of one file only if it had the same time before, between and after.
            let unknown = self.resumed && after.is_none() && self.modified.is_some();
            if unknown
                || after.is_some_and(|after| {
                    self.modified.is_some_and(|before| before != Timestamp::ZERO && before.secs != after)
                })
            {
                return Err(written);
            }
        }
        if self.size.is_some_and(|size| size != self.position) {
            return Err(changed_size);
        }
        Ok(ContentInfo::default())
    }
}

impl Drop for FtpContent {
    fn drop(&mut self) {
        self.end();
    }
}
