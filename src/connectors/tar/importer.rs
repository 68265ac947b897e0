//! The importer itself: what of the archive becomes which record.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ignore::gitignore::Gitignore;

use super::content::MemberContent;
use super::input::{Input, Store};
use super::members::{Member, MemberKind, Members};
use super::resolve::{Collector, Node, decode_content, encode_content};
use crate::base::spill::SpillDir;
use crate::base::{Cancel, Timestamp, sys};
use crate::connector::{
    Change, Content, Error, ErrorKind, Importer, Record, Result, SourceInfo, Work, Xattr,
};
use crate::connectors::patterns;
use crate::connectors::pipe::Pipe;
use crate::crypto::spill::RunCipher;
use crate::format::entry::Entry;

/// Memory for sorting where nothing is said, in bytes.
const MEMORY: u64 = 256 << 20;

/// What is read of an archive, and how.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Patterns in gitignore's syntax of what is left out.
    pub excludes: Vec<String>,
    /// Files of such patterns.
    pub ignore_files: Vec<PathBuf>,
    /// The memory of the run, in bytes; an eighth is taken. `None` stands for 256 MiB.
    pub memory: Option<u64>,
    /// Ends the reading early when set.
    pub cancel: Cancel,
}

/// A tar archive as a source.
#[derive(Debug)]
pub struct TarImporter {
    path: PathBuf,
    origin: String,
    input: Mutex<Option<Input>>,
    store: Mutex<Option<Store>>,
    excludes: Option<Gitignore>,
    memory: usize,
    cancel: Cancel,
}

impl TarImporter {
    /// Opens an archive; `-` is standard input. Fails where there is none to be read, or a pattern is not valid.
    pub fn open(path: &Path, options: &ImportOptions) -> Result<Self> {
        let excludes = patterns::compile(Path::new("/"), &options.ignore_files, &options.excludes)?;
        let stream = path.as_os_str() == "-";
        let input = if stream {
            // Nothing is read before everything else is ready.
            Pipe::assert_none_types()?;
            None
        } else {
            Some(Input::open(path, &options.cancel)?)
        };
        let host = String::from_utf8_lossy(&sys::host_name()).into_owned();
        let named =
            if stream { path.to_owned() } else { std::path::absolute(path).unwrap_or_else(|_| path.into()) };
        let memory = usize::try_from(options.memory.unwrap_or(MEMORY) / 8).unwrap_or(usize::MAX);
        Ok(Self {
            origin: format!("{host}:{}", named.display()),
            path: path.to_owned(),
            input: Mutex::new(input),
            store: Mutex::default(),
            excludes,
            memory,
            cancel: options.cancel.clone(),
        })
    }

    fn is_excluded(&self, path: &[u8], is_folder: bool) -> bool {
        let Some(excludes) = &self.excludes else { return false };
        let path = sys::os_part(path.strip_prefix(b"/").unwrap_or(path));
        excludes.matched_path_or_any_parents(Path::new(&path), is_folder).is_ignore()
    }

    /// Opens the archive, once for each scan.
    fn input(&self) -> Result<Input> {
        let opened = self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        opened.map_or_else(|| Input::open(&self.path, &self.cancel), Ok)
    }

    /// Reads all members. What cannot become a record is passed to `refused`.
    fn collect(&self, refused: &mut dyn FnMut(Error) -> ControlFlow<()>) -> Result<Option<Collector>> {
        // The store may be encrypted or not: what is spilt is sealed in any case.
        let spills = SpillDir::new(std::env::temp_dir(), Some(RunCipher::shared()));
        let mut collector = Collector::new(&spills, self.memory);
        let mut members = Members::new(self.input()?);
        let mut is_empty = true;
        while let Some(member) = members.next()? {
            is_empty = false;
            match node_of(member) {
                Ok((path, node)) => collector.push(&path, &node)?,
                Err(error) => {
                    if refused(error).is_break() {
                        return Ok(None);
                    }
                }
            }
        }
        if let Some(at) = members.follows() {
            let error = Error::new(ErrorKind::Unsupported, "back up", "what follows the archive");
            let why = format!(
                "it ends before byte {at}, where more stands: another archive is a source of its own"
            );
            if refused(error.detail(why)).is_break() {
                return Ok(None);
            }
        }
        let input = members.into_input();
        if is_empty {
            return Err(input.malformed("it holds no member"));
        }
        let store = input.finish()?;
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
        Ok(Some(collector))
    }

    /// Makes a record of a node; `blocker` is the last path that was no folder.
    fn record(&self, node: Node, blocker: &mut Option<Vec<u8>>) -> Option<Record> {
        let path = node.entry.path();
        let is_folder = node.entry.info.mode.is_dir();
        if self.is_excluded(&path, is_folder) {
            return None;
        }
        let failed = |why: String| {
            let error = Error::new(ErrorKind::Unsupported, "back up", target(&path)).detail(why);
            Record {
                path: path.clone(),
                info: Err(error),
                symlink_target: None,
                metadata: Vec::new(),
                locator: Vec::new(),
            }
        };
        let below = |blocker: &Vec<u8>| {
            path.strip_prefix(blocker.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
        };
        if let Some(blocker) = blocker.as_ref().filter(|blocker| below(blocker)) {
            return Some(failed(format!("\"{}\" is no folder", blocker.escape_ascii())));
        }
        if let Some(link) = &node.link {
            return Some(failed(format!(
                "it is a link to \"{}\", which is not in front of it",
                link.escape_ascii()
            )));
        }
        if !is_folder {
            *blocker = Some(path.to_vec());
        }
        let is_link = node.entry.info.mode.is_symlink();
        Some(Record {
            locator: encode(&node),
            symlink_target: is_link.then_some(node.entry.symlink_target),
            path,
            info: Ok(node.entry.info),
            metadata: Vec::new(),
        })
    }
}

/// Names a member in errors.
fn target(name: &[u8]) -> String {
    format!("\"{}\" of the archive", name.escape_ascii())
}

/// Makes a name in an archive an absolute, clean path. Slashes at the start and dots are left out, as tar does.
fn clean(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.contains(&0) {
        return Err("its name holds a NUL");
    }
    let mut path = Vec::with_capacity(name.len() + 1);
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("its name leads out of the archive"),
            part => {
                path.push(b'/');
                path.extend_from_slice(part);
            }
        }
    }
    Ok(if path.is_empty() { b"/".to_vec() } else { path })
}

/// Encodes what is needed again of a record: its content and its attributes.
fn encode(node: &Node) -> Vec<u8> {
    let content = encode_content(&node.content);
    let mut bytes = (content.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&content);
    for xattr in &node.xattrs {
        for part in [xattr.name.as_bytes(), &xattr.value] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

/// Returns the parts that [`encode`] put together.
fn parts(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (part, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some(part)
    })
}

impl Importer for TarImporter {
    fn source(&self) -> SourceInfo {
        SourceInfo { kind: "tar".into(), origin: self.origin.clone(), root: "/".into() }
    }

    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        let collected = self.collect(&mut |error| {
            emit(Record {
                path: "/".into(),
                info: Err(error),
                symlink_target: None,
                metadata: Vec::new(),
                locator: Vec::new(),
            })
        })?;
        let Some(collector) = collected else { return Ok(()) };
        let mut blocker = None;
        collector.finish()?.each(&mut |node| match self.record(node, &mut blocker) {
            Some(record) => emit(record).is_continue(),
            None => true,
        })
    }

    /// Reads every content: that of another archive may have the same name, size and time.
    fn compare(&self, _record: &Record, _previous: &Entry, _begun: Timestamp) -> Change {
        Change::Content
    }

    fn open(&self, record: &Record) -> Result<Box<dyn Content>> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let target = target(&record.path);
        let store =
            store.ok_or_else(|| Error::new(ErrorKind::Io, "read", &target).detail("it was not found yet"))?;
        let stored = decode_content(parts(&record.locator).next().unwrap_or_default());
        Ok(Box::new(MemberContent::new(store, stored, target)))
    }

    fn xattrs(&self, record: &Record) -> Result<Vec<Xattr>> {
        let mut rest = parts(&record.locator).skip(1);
        let mut xattrs = Vec::new();
        while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
            xattrs.push(Xattr { name: name.into(), value: value.to_vec() });
        }
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(xattrs)
    }

    fn work(&self) -> Work {
        Work::Local
    }

    fn is_all_or_nothing(&self) -> bool {
        true
    }
}

/// Makes a node of a member, or says why it cannot be one.
fn node_of(member: Member) -> Result<(Vec<u8>, Node)> {
    let refuse = |why: &str| Error::new(ErrorKind::Unsupported, "back up", target(&member.name)).detail(why);
    let path = clean(&member.name).map_err(refuse)?;
    if path == b"/" && !member.mode.is_dir() {
        return Err(refuse("only a folder can stand at the top"));
    }
    let link = match member.kind {
        MemberKind::HardLink => {
            let target =
                clean(&member.link).map_err(|_| refuse("it is a link that leads out of the archive"))?;
            Some(target.into())
        }
        MemberKind::Plain => None,
    };
    Ok((path.clone(), Node::of(member, &path, link)))
}
