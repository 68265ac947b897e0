//! A folder on a server as a source.

use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::client::Client;
use super::connection::Connection;
use super::options::Options;
use super::store::mode_of;
use super::transfer::{self, Opened, Parts};
use super::wire::Attrs;
use crate::base::{Printable, RawString, Timestamp};
use crate::connector::{
    Change, Content, ContentInfo, Error, ErrorKind, Importer, Record, Result, SourceInfo, Work,
};
use crate::connectors::tree::{CLOCKS, Folders, Found, MOST_NAMES, Source, join, parent};
use crate::format::entry::{Entry, FileInfo};

/// How many folders are listed ahead.
const AHEAD: usize = 8;

/// Names of users and groups by number, as the server tells them.
#[derive(Debug, Default)]
struct Owners {
    users: HashMap<u32, RawString>,
    groups: HashMap<u32, RawString>,
}

/// A folder, or one file, on a server.
#[derive(Debug)]
pub struct SftpImporter {
    client: Arc<Client>,
    source: Source,
    tree: Tree,
}

/// The server's folders.
#[derive(Debug)]
struct Tree {
    client: Arc<Client>,
    owners: Mutex<Owners>,
}

impl SftpImporter {
    /// Connects, and looks at what is to be read. Patterns are relative to the root, in gitignore's syntax.
    pub fn open(options: Options, ignore_files: &[PathBuf], excludes: &[String]) -> Result<Self> {
        Self::with_client(Client::new(options), ignore_files, excludes)
    }

    pub(super) fn with_client(client: Client, ignore_files: &[PathBuf], excludes: &[String]) -> Result<Self> {
        let client = Arc::new(client);
        let path = absolute(&client)?;
        let tree = Tree { client: Arc::clone(&client), owners: Mutex::default() };
        let source = Source::open(&tree, path, ignore_files, excludes)?;
        Ok(Self { client, source, tree })
    }
}

/// Returns the path of the location from the server's root on.
pub(super) fn absolute(client: &Client) -> Result<Vec<u8>> {
    let path = &client.options().path;
    if path.starts_with(b"/") {
        return Ok(path.clone());
    }
    let home = client.again(|connection| connection.real_path(b"."))?;
    Ok(if path.is_empty() { home } else { join(&home, path) })
}

impl Tree {
    fn info(&self, name: &[u8], attrs: &Attrs) -> FileInfo {
        let (uid, gid) = attrs.owner.unwrap_or((0, 0));
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |names: &HashMap<u32, RawString>, id| names.get(&id).cloned().unwrap_or_default();
        FileInfo {
            size: i64::try_from(attrs.size.unwrap_or(0)).unwrap_or(i64::MAX),
            modified: attrs
                .times
                .map_or(Timestamp::ZERO, |(_, modified)| Timestamp::from_secs(i64::from(modified))),
            uid: u64::from(uid),
            gid: u64::from(gid),
            links: 1,
            user: attrs.owner.map(|_| known(&owners.users, uid)).unwrap_or_default(),
            group: attrs.owner.map(|_| known(&owners.groups, gid)).unwrap_or_default(),
            ..FileInfo::new(name, mode_of(attrs))
        }
    }

    /// Asks for the names of owners that were not met before.
    fn learn(&self, connection: &Connection, all: &[Attrs]) {
        let (mut users, mut groups): (Vec<u32>, Vec<u32>) = {
            let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            let met = all.iter().filter_map(|attrs| attrs.owner);
            let (users, groups): (Vec<_>, Vec<_>) = met.unzip();
            (
                users.into_iter().filter(|id| !owners.users.contains_key(id)).collect(),
                groups.into_iter().filter(|id| !owners.groups.contains_key(id)).collect(),
            )
        };
        for ids in [&mut users, &mut groups] {
            ids.sort_unstable();
            ids.dedup();
            ids.truncate(500);
        }
        if users.is_empty() && groups.is_empty() {
            return;
        }
        let Some((user_names, group_names)) = connection.owner_names(&users, &groups) else { return };
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.users.extend(users.into_iter().zip(user_names.into_iter().map(RawString::from)));
        owners.groups.extend(groups.into_iter().zip(group_names.into_iter().map(RawString::from)));
    }

    /// Completes what a listing said: where links lead, and attributes that it left out.
    fn found(&self, connection: &Connection, path: &[u8], name: Vec<u8>, attrs: Attrs) -> Found {
        let complete = attrs.mode.is_some() && attrs.size.is_some() && attrs.times.is_some();
        // A name with a slash would be asked for somewhere else: it is refused where all names are.
        let sane = !name.contains(&b'/') && name != b"..";
        let attrs = if complete || !sane { Ok(attrs) } else { connection.lstat(path) };
        let mut info = attrs.map(|attrs| self.info(&name, &attrs));
        let mut target = None;
        if sane && info.as_ref().is_ok_and(|info| info.mode.is_symlink()) {
            match connection.read_link(path) {
                Ok(link) => target = Some(link.into()),
                Err(error) => info = Err(error),
            }
        }
        Found { info, name, target }
    }
}

impl Folders for Tree {
    fn list(&self, path: &[u8]) -> Result<Vec<Found>> {
        self.client.again(|connection| {
            let mut named = Vec::new();
            connection.each_name(path, MOST_NAMES, &mut |one| {
                named.push((one.name, one.attrs));
                Ok(())
            })?;
            let attrs: Vec<_> = named.iter().map(|(_, attrs)| *attrs).collect();
            self.learn(connection, &attrs);
            let complete = |(name, attrs): (Vec<u8>, Attrs)| {
                let found = self.found(connection, &join(path, &name), name, attrs);
                // A file that is gone by now was never there.
                match &found.info {
                    Err(error) if error.kind == ErrorKind::NotFound => None,
                    _ => Some(found),
                }
            };
            let found: Vec<_> = named.into_iter().filter_map(complete).collect();
            if connection.is_dead() {
                // What failed failed for that reason.
                return Err(Error::new(ErrorKind::Transport, "list", Printable::new(path).to_string())
                    .detail("the connection ended"));
            }
            Ok(found)
        })
    }

    fn look(&self, path: &[u8]) -> Result<Found> {
        self.client.again(|connection| {
            let attrs = connection.stat(path)?;
            self.learn(connection, &[attrs]);
            let name = if path == b"/" { b"/" } else { parent(path).1 };
            Ok(Found { info: Ok(self.info(name, &attrs)), name: name.to_vec(), target: None })
        })
    }
}

impl Importer for SftpImporter {
    fn source(&self) -> SourceInfo {
        SourceInfo {
            kind: "sftp".into(),
            origin: self.client.options().host.clone(),
            root: self.source.root().into(),
        }
    }

    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        self.source.scan(&self.tree, AHEAD, emit)
    }

    /// Compares size and time; a file modified in the minute before the previous run, or later, is read again.
    fn compare(&self, record: &Record, previous: &Entry, begun: Timestamp) -> Change {
        Source::compare(record, previous, begun, CLOCKS)
    }

    fn open(&self, record: &Record) -> Result<Box<dyn Content>> {
        let content = SftpContent::open(Arc::clone(&self.client), record.path.as_bytes().to_vec())?;
        Ok(Box::new(content))
    }

    fn work(&self) -> Work {
        Work::Waiting(self.client.options().workers)
    }
}

/// What tells two versions of a file apart.
type Version = (Option<u64>, Option<(u32, u32)>);

/// One file, read in order. A connection that is lost is made anew once, and reading goes on where it stopped, if it
/// is still the same file.
#[derive(Debug)]
struct SftpContent {
    client: Arc<Client>,
    path: Vec<u8>,
    file: Arc<Opened>,
    parts: Parts,
    part: Option<(Vec<u8>, usize)>,
    position: u64,
    before: Version,
    resumed: bool,
}

fn version(file: &Opened) -> Result<Version> {
    let attrs = file.attrs()?;
    if !mode_of(&attrs).is_regular() {
        return Err(Error::new(ErrorKind::Changed, "open", Printable::new(&file.path).to_string())
            .detail("it is no longer a regular file"));
    }
    Ok((attrs.size, attrs.times.map(|(_, modified)| (modified, 0))))
}

impl SftpContent {
    fn open(client: Arc<Client>, path: Vec<u8>) -> Result<Self> {
        let (file, before) = client.again(|connection| {
            let file = Opened::read(connection, &path)?;
            let before = version(&file)?;
            Ok((Arc::new(file), before))
        })?;
        let parts = Self::parts(&file, 0, before);
        Ok(Self { client, path, file, parts, part: None, position: 0, before, resumed: false })
    }

    fn parts(file: &Arc<Opened>, position: u64, (size, _): Version) -> Parts {
        match size.filter(|size| *size > 0) {
            Some(size) => Parts::new(Arc::clone(file), position, Some(size.max(position))),
            // Files of /proc claim to be empty.
            None => Parts::to_the_end(Arc::clone(file), position, 0),
        }
    }

    fn next(&mut self) -> Result<Option<(Vec<u8>, usize)>> {
        self.client.check_cancelled("read")?;
        let next = self.parts.next();
        match next {
            Err(error) if error.kind == ErrorKind::Transport && !self.resumed => {
                self.resumed = true;
                let again = Self::open(Arc::clone(&self.client), self.path.clone())?;
                if again.before != self.before {
                    return Err(self.changed("changed while the connection was lost"));
                }
                self.file = again.file;
                self.parts = Self::parts(&self.file, self.position, self.before);
                self.parts.next()
            }
            other => other,
        }
    }

    fn changed(&self, how: &str) -> Error {
        Error::new(ErrorKind::Changed, "read", Printable::new(&self.path).to_string())
            .detail(format!("it {how}"))
    }
}

impl Read for SftpContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.part.is_none() {
            self.part = self.next().map_err(io::Error::other)?;
        }
        let count = transfer::fill(&mut self.part, buffer);
        self.position += count as u64;
        Ok(count)
    }
}

impl Content for SftpContent {
    fn size_hint(&self) -> Option<u64> {
        self.before.0.filter(|size| *size > 0)
    }

    fn finish(self: Box<Self>) -> Result<ContentInfo> {
        let after = version(&self.file)?;
        let same_length = self.before.0.is_none_or(|size| size == 0 || size == self.position);
        if after == self.before && same_length {
            return Ok(ContentInfo::default());
        }
        let size_changed = after.0 != self.before.0 || !same_length;
        Err(self.changed(if size_changed {
            "changed its size while it was read"
        } else {
            "was written to while it was read"
        }))
    }
}
