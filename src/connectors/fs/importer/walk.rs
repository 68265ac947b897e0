//! Walking a tree.

use std::ffi::{CStr, CString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::owners::Owners;
use super::selection::Selection;
use super::sidecar::Sidecar;
use super::source::FsImporter;
use super::times;
use crate::base::RawString;
use crate::connector::{Error, ErrorKind, Metadata, Record, Result};
use crate::connectors::fs::stat::Facts;
use crate::connectors::fs::sys;
use crate::format::entry::{self, FileInfo};

/// How many folders stay open while what is below them is walked; those further up are found again.
const OPEN_LEVELS: usize = 64;
/// The length of the buffer for names, in bytes; the longest name takes 280.
const NAME_BUFFER: usize = 64 << 10;
/// The names in one folder, in one piece of memory each way.
#[derive(Debug, Default)]
struct Names {
    /// The names, each with its NUL.
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Names {
    fn push(&mut self, name: &CStr) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
    }

    fn get(&self, start: usize) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes[start..]).expect("every name was pushed with its NUL")
    }

    /// Returns whether a name is among them, once they are sorted.
    fn contains(&self, name: &[u8]) -> bool {
        self.starts.binary_search_by(|start| self.get(*start).to_bytes().cmp(name)).is_ok()
    }

    fn sort(&mut self) {
        let mut starts = std::mem::take(&mut self.starts);
        starts.sort_unstable_by(|a, b| self.get(*a).cmp(self.get(*b)));
        self.starts = starts;
    }
}

/// A folder whose entries were reported and whose subfolders are being walked.
#[derive(Debug)]
struct Level<'a> {
    /// The folder; closed while the walk is far below.
    folder: Option<OwnedFd>,
    /// Device and inode, known once the folder was closed.
    identity: Option<(u64, u64)>,
    /// The length of its path in the walk's path.
    path_len: usize,
    /// Set while only some of its children were asked for.
    selection: Option<&'a Selection>,
    /// The subfolders still to be entered, the next one last.
    pending: Vec<CString>,
}

/// One walk over everything a source selects.
pub(super) struct Walk<'a> {
    importer: &'a FsImporter,
    emit: &'a mut dyn FnMut(Record) -> ControlFlow<()>,
    owners: Owners,
    /// The path of the folder at hand, without a slash at its end: empty for the root.
    path: Vec<u8>,
    buffer: Vec<u8>,
    levels: Vec<Level<'a>>,
    /// What restores wrote beside their files, with the lengths of their folders' paths: outermost first.
    sidecars: Vec<(usize, Sidecar)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(importer: &'a FsImporter, emit: &'a mut dyn FnMut(Record) -> ControlFlow<()>) -> Self {
        Self {
            importer,
            emit,
            owners: Owners::default(),
            path: Vec::new(),
            buffer: Vec::with_capacity(NAME_BUFFER),
            levels: Vec::new(),
            sidecars: Vec::new(),
        }
    }

    /// Walks until everything was reported or the receiver breaks off.
    pub(super) fn run(mut self) -> Result<ControlFlow<()>> {
        let failed = |error: Errno| Error::io("open", "/", error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(c"/", flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&root).map_err(failed)?;
        let mut record = self.record(b"/".into(), b"/", &stat);
        self.add_metadata(&mut record, &stat);
        let mut flow = (self.emit)(record);
        if flow.is_continue() {
            flow = self.enter(root, Some(&self.importer.selection));
        }
        while flow.is_continue() && !self.levels.is_empty() {
            flow = self.advance();
        }
        Ok(flow)
    }

    /// Enters the next subfolder of the innermost folder, or leaves that folder.
    fn advance(&mut self) -> ControlFlow<()> {
        let Some(level) = self.levels.last_mut() else { return ControlFlow::Continue(()) };
        let Some(name) = level.pending.pop() else {
            let left = self.levels.pop();
            let left_len = left.as_ref().map_or(0, |level| level.path_len);
            self.sidecars.retain(|(path_len, _)| *path_len < left_len);
            return self.come_back(left.and_then(|level| level.folder));
        };
        self.path.truncate(level.path_len);
        self.path.push(b'/');
        self.path.extend_from_slice(name.as_bytes());
        let selection = level.selection.and_then(|selection| selection.children.get(name.as_bytes()));
        let follow = level.selection.is_some();
        let parent = level.folder.as_ref().expect("the innermost folder is open");
        match open_folder(parent, &name, follow) {
            Ok(folder) => self.enter(folder, selection),
            Err(error) => self.report_error("open", error.into()),
        }
    }

    /// Reports what is in a folder, in byte order, and notes its subfolders.
    fn enter(&mut self, folder: OwnedFd, selection: Option<&'a Selection>) -> ControlFlow<()> {
        let selection = selection.filter(|selection| !selection.whole);
        let mut names = Names::default();
        if let Some(selection) = selection {
            for name in selection.children.keys().filter_map(|name| CString::new(&**name).ok()) {
                names.push(&name);
            }
        } else if let Err(error) = read_names(&folder, &mut self.buffer, &mut names) {
            self.report_error("list", error.into())?;
        }
        names.sort();
        if selection.is_some() || names.contains(sys::SIDECAR.as_bytes()) {
            self.find_sidecar(&folder)?;
        }
        let mut pending = Vec::new();
        for start in &names.starts {
            let name = names.get(*start);
            if self.visit(&folder, name, selection.is_some())? {
                pending.push(name.to_owned());
            }
        }
        pending.reverse();
        let path_len = self.path.len();
        self.levels.push(Level { folder: Some(folder), identity: None, path_len, selection, pending });
        self.close_far_level();
        ControlFlow::Continue(())
    }

    /// Reads the sidecar of the folder at hand, if there is one.
    fn find_sidecar(&mut self, folder: &OwnedFd) -> ControlFlow<()> {
        if !self.importer.options.s3_metadata {
            return ControlFlow::Continue(());
        }
        let path_len = self.path.len();
        let path = || [self.path.as_slice(), b"/", sys::SIDECAR.as_bytes()].concat();
        match Sidecar::open(folder) {
            Ok(None) => {}
            Ok(Some(sidecar)) => {
                let bad_line = sidecar.bad_line.map(|number| (path(), number));
                self.sidecars.push((path_len, sidecar));
                if let Some((path, number)) = bad_line {
                    let detail = format!("line {number} is not one that a restore writes");
                    let error = io::Error::new(io::ErrorKind::InvalidData, detail);
                    return (self.emit)(failed_record(path, "read", error));
                }
            }
            Err(error) => {
                let record = failed_record(path(), "read", error);
                return (self.emit)(record);
            }
        }
        ControlFlow::Continue(())
    }

    /// Returns whether a name is that of the sidecar in use of the folder at hand, which is no file of its own.
    fn is_sidecar(&self, name: &CStr) -> bool {
        name.to_bytes() == sys::SIDECAR.as_bytes()
            && self.sidecars.last().is_some_and(|(path_len, _)| *path_len == self.path.len())
    }

    /// Returns what the sidecars say of a path; the innermost counts.
    fn told_by_sidecars(&self, path: &[u8]) -> Vec<Metadata> {
        let found = self.sidecars.iter().rev().find_map(|(path_len, sidecar)| {
            let relative = path.get(path_len + 1..)?;
            sidecar.find(relative).ok().flatten()
        });
        found.unwrap_or_default()
    }

    /// Reports one entry of a folder. Returns whether it is a folder to be entered.
    fn visit(&mut self, folder: &OwnedFd, name: &CStr, selected: bool) -> ControlFlow<(), bool> {
        if self.is_sidecar(name) {
            return ControlFlow::Continue(false);
        }
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.count_bytes());
        path.extend_from_slice(&self.path);
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let stat = if selected {
            statat(folder, name, AtFlags::empty()).or_else(|_| statat(folder, name, nofollow))
        } else {
            statat(folder, name, nofollow)
        };
        let stat = match stat {
            Ok(stat) => stat,
            Err(error) => {
                if !selected && self.importer.is_excluded(&path, false) {
                    return ControlFlow::Continue(false);
                }
                (self.emit)(failed_record(path, "read", error.into()))?;
                return ControlFlow::Continue(false);
            }
        };
        let mode = entry::Mode::from_unix(Facts::from(&stat).mode);
        if !selected && self.importer.is_excluded(&path, mode.is_dir()) {
            return ControlFlow::Continue(false);
        }
        let mut record = self.record(path, name.to_bytes(), &stat);
        if mode.is_symlink() {
            match readlinkat(folder, name, Vec::new()) {
                Ok(target) => record.symlink_target = Some(target.into_bytes().into()),
                Err(error) => {
                    record.info = Err(Error::io("read the link", record.path.lossy(), error.into()));
                }
            }
        }
        self.add_metadata(&mut record, &stat);
        (self.emit)(record)?;
        ControlFlow::Continue(mode.is_dir())
    }

    fn record(&mut self, path: Vec<u8>, name: &[u8], stat: &Stat) -> Record {
        let facts = Facts::from(stat);
        let info = FileInfo {
            name: name.into(),
            size: facts.size,
            mode: entry::Mode::from_unix(facts.mode),
            modified: facts.modified,
            device: facts.device,
            inode: facts.inode,
            uid: u64::from(facts.uid),
            gid: u64::from(facts.gid),
            links: low_16_bits(facts.links),
            user: self.owners.user(facts.uid),
            group: self.owners.group(facts.gid),
            flags: 0,
        };
        let ctime = (info.mode.is_regular() && !self.importer.options.ignore_ctime).then_some(facts.changed);
        let locator = ctime.map(times::locator).unwrap_or_default();
        Record { path: path.into(), info: Ok(info), symlink_target: None, metadata: Vec::new(), locator }
    }

    /// Adds the metadata that upstream has no field for, and marks the record as carrying it.
    fn add_metadata(&mut self, record: &mut Record, stat: &Stat) {
        let Ok(info) = &record.info else { return };
        if self.importer.options.extended && info.mode.is_device() {
            let value = Facts::from(stat).rdev.to_le_bytes().to_vec();
            record.metadata.push(Metadata { key: "unix.rdev".into(), value });
        }
        if self.importer.options.s3_metadata && (info.mode.is_regular() || info.mode.is_dir()) {
            // What cannot be read here fails again, and is reported, when the attributes are read.
            let found = self.importer.s3_metadata(record.path.as_bytes());
            let mut found = found.unwrap_or_default();
            for item in self.told_by_sidecars(record.path.as_bytes()) {
                if found.iter().all(|known| known.key != item.key) {
                    found.push(item);
                }
            }
            found.sort_by(|a, b| a.key.cmp(&b.key));
            record.metadata.extend(found);
        }
    }

    fn report_error(&mut self, op: &'static str, error: io::Error) -> ControlFlow<()> {
        let path = if self.path.is_empty() { b"/".to_vec() } else { self.path.clone() };
        (self.emit)(failed_record(path, op, error))
    }

    /// Closes the folder that is [`OPEN_LEVELS`] above the innermost, so that depth costs no descriptors.
    fn close_far_level(&mut self) {
        let Some(index) = self.levels.len().checked_sub(OPEN_LEVELS) else { return };
        let level = &mut self.levels[index];
        // A folder with a selection may have been left through a link, and `..` would not lead back.
        if level.selection.is_none()
            && let Some(stat) = level.folder.as_ref().and_then(|folder| rustix::fs::fstat(folder).ok())
        {
            level.identity = Some(identity(&stat));
            level.folder = None;
        }
    }

    /// Opens the innermost folder again if it was closed, coming from one of its subfolders.
    fn come_back(&mut self, from: Option<OwnedFd>) -> ControlFlow<()> {
        let Some(level) = self.levels.last_mut() else { return ControlFlow::Continue(()) };
        if level.folder.is_some() {
            return ControlFlow::Continue(());
        }
        let reopened = from.and_then(|from| {
            let folder = open_folder(&from, c"..", false).ok()?;
            let stat = rustix::fs::fstat(&folder).ok()?;
            (level.identity == Some(identity(&stat))).then_some(folder)
        });
        level.folder = reopened;
        if level.folder.is_some() || level.pending.is_empty() {
            return ControlFlow::Continue(());
        }
        level.pending.clear();
        let path_len = level.path_len;
        self.path.truncate(path_len);
        let moved = Error::new(ErrorKind::Changed, "list", String::from_utf8_lossy(&self.path))
            .detail("the folder was moved while it was walked");
        (self.emit)(Record {
            info: Err(moved),
            ..failed_record(self.path.clone(), "list", io::ErrorKind::Other.into())
        })
    }
}

/// Opens a subfolder, without a trace in its access time where that is allowed.
fn open_folder(parent: impl AsFd, name: &CStr, follow: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    match openat(&parent, name, flags | sys::NO_TRACE, Mode::empty()) {
        Err(Errno::PERM) => openat(&parent, name, flags, Mode::empty()),
        other => other,
    }
}

/// Returns what tells one folder from another.
fn identity(stat: &Stat) -> (u64, u64) {
    let facts = Facts::from(stat);
    (facts.device, facts.inode)
}

/// Reads the names in a folder; those read before a failure stay.
#[cfg(not(target_os = "linux"))]
fn read_names(folder: &OwnedFd, _: &mut Vec<u8>, names: &mut Names) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name);
        }
    }
    Ok(())
}

/// Reads the names in a folder; those read before a failure stay.
#[cfg(target_os = "linux")]
fn read_names(folder: &OwnedFd, buffer: &mut Vec<u8>, names: &mut Names) -> Result<(), Errno> {
    let mut entries = rustix::fs::RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name);
        }
    }
    Ok(())
}

fn failed_record(path: Vec<u8>, op: &'static str, error: io::Error) -> Record {
    let path = RawString::from(path);
    let info = Err(Error::io(op, path.lossy(), error));
    Record { path, info, symlink_target: None, metadata: Vec::new(), locator: Vec::new() }
}

fn low_16_bits(links: u64) -> u16 {
    u16::try_from(links & 0xffff).expect("16 bits")
}
