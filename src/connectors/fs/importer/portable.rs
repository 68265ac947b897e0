//! The importer where folders cannot be entered through descriptors: paths, and what the standard library tells.
//!
//! The tree's paths are those of the system with slashes: `C:\Users\me` is `/C:/Users/me`. Names that are not Unicode
//! are reported and left out. What this form does not read is told by [`PortableImporter::LEFT_OUT`].

use std::ffi::OsStr;
use std::fs::{self, File, Metadata as FileMetadata};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;

use ignore::gitignore::Gitignore;

use super::options::FsImporterBuilder;
use super::selection::Selection;
use crate::base::{RawString, Timestamp, sys};
use crate::connector::{
    Change, Content, ContentInfo, Error, ErrorKind, Importer, Metadata, Record, Result, SourceInfo, Work,
    Xattr,
};
use crate::format::entry::{Entry, FileInfo, Mode};

/// What a folder that is not read-only gets.
const FOLDER: u32 = 0o755;
/// What a file that is not read-only gets.
const FILE: u32 = 0o644;

/// A source that is a set of local files and folders.
#[derive(Debug)]
pub struct PortableImporter {
    selection: Selection,
    root: RawString,
    excludes: Option<Gitignore>,
    origin: String,
}

impl PortableImporter {
    /// What is not read on this system, for people.
    pub const LEFT_OUT: &str =
        "owners, access lists, attributes and alternate streams of files are not backed up on this system";

    /// Begins to describe a source.
    pub fn builder() -> FsImporterBuilder {
        FsImporterBuilder::new()
    }

    pub(super) fn open(options: FsImporterBuilder) -> Result<Self> {
        let (selection, root) = Selection::of(options.places())?;
        let excludes = options.excludes(&root)?;
        let origin = options.recorded_origin();
        Ok(Self { selection, root, excludes, origin })
    }

    fn is_excluded(&self, path: &[u8], is_folder: bool) -> bool {
        let path = sys::os_part(path);
        self.excludes.as_ref().is_some_and(|excludes| excludes.matched(&*path, is_folder).is_ignore())
    }

    /// Reports one name in a folder. Returns its path if it is a folder to be entered.
    fn visit(
        &self,
        parent: &[u8],
        name: &OsStr,
        selected: bool,
        emit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> ControlFlow<(), Option<Vec<u8>>> {
        let path = [parent, b"/", name.as_encoded_bytes()].concat();
        if std::str::from_utf8(&path).is_err() && cfg!(not(unix)) {
            let lossy = RawString::from(String::from_utf8_lossy(&path).into_owned().into_bytes());
            let error = io::Error::new(io::ErrorKind::InvalidFilename, "its name is not Unicode");
            emit(failed_record(lossy.into_bytes(), "read", error))?;
            return ControlFlow::Continue(None);
        }
        let there = system_path(&path);
        let metadata = match fs::metadata(&there) {
            Ok(metadata) if selected => Ok(metadata),
            _ => fs::symlink_metadata(&there),
        };
        let is_folder = metadata.as_ref().is_ok_and(FileMetadata::is_dir);
        if !selected && self.is_excluded(&path, is_folder) {
            return ControlFlow::Continue(None);
        }
        match metadata {
            Ok(metadata) => {
                emit(record(path.clone(), name.as_encoded_bytes(), &metadata))?;
                ControlFlow::Continue(is_folder.then_some(path))
            }
            Err(error) => {
                emit(failed_record(path, "read", error))?;
                ControlFlow::Continue(None)
            }
        }
    }

    fn walk(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> ControlFlow<()> {
        emit(match fs::metadata(system_path(b"/")) {
            Ok(metadata) if cfg!(unix) => record(b"/".into(), b"/", &metadata),
            // No folder holds all drives.
            _ => plain_record(b"/".into(), FileInfo::new("/", Mode(Mode::DIR.0 | FOLDER))),
        })?;
        let mut folders = vec![(Vec::new(), Some(&self.selection))];
        while let Some((path, selection)) = folders.pop() {
            let mut names = Vec::new();
            let part = selection.filter(|selection| !selection.whole);
            if let Some(selection) = part {
                names.extend(selection.children.keys().map(|name| sys::os_part(name).into_owned()));
            } else if let Err(error) = list(&path, &mut names) {
                let path = if path.is_empty() { b"/".to_vec() } else { path.clone() };
                emit(failed_record(path, "list", error))?;
            }
            names.sort_unstable_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
            let mut below = Vec::new();
            for name in &names {
                if let Some(folder) = self.visit(&path, name, part.is_some(), emit)? {
                    let inner = part.and_then(|part| part.children.get(name.as_encoded_bytes()));
                    below.push((folder, inner));
                }
            }
            folders.extend(below.into_iter().rev());
        }
        ControlFlow::Continue(())
    }
}

impl Importer for PortableImporter {
    fn source(&self) -> SourceInfo {
        SourceInfo { kind: "fs".into(), origin: self.origin.clone(), root: self.root.clone() }
    }

    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        // Breaking off is the receiver's wish, not a failure.
        let _: ControlFlow<()> = self.walk(emit);
        Ok(())
    }

    fn compare(&self, record: &Record, previous: &Entry, begun: Timestamp) -> Change {
        super::times::compare(record, previous, begun)
    }

    fn open(&self, record: &Record) -> Result<Box<dyn Content>> {
        let path = system_path(record.path.as_bytes());
        let failed = |error| Error::io("open", record.path.lossy(), error);
        let changed =
            |what: &str| Error::new(ErrorKind::Changed, "open", record.path.lossy()).detail(what.to_owned());
        if !self.selection.contains(record.path.as_bytes())
            && fs::symlink_metadata(&path).map_err(failed)?.is_symlink()
        {
            return Err(changed("a symbolic link took its place"));
        }
        let file = File::open(&path).map_err(failed)?;
        let before = Version::of(&file).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(changed("it is no longer a regular file"));
        }
        Ok(Box::new(FileContent { file, path: record.path.lossy().into_owned(), before }))
    }

    fn xattrs(&self, _: &Record) -> Result<Vec<Xattr>> {
        Ok(Vec::new())
    }

    fn work(&self) -> Work {
        Work::Local
    }
}

/// What tells one version of a file from the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    size: u64,
    modified: Option<std::time::SystemTime>,
}

impl Version {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { size: metadata.len(), modified: metadata.modified().ok() })
    }
}

/// A file that is read from front to back.
#[derive(Debug)]
struct FileContent {
    file: File,
    path: String,
    before: Version,
}

impl Read for FileContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Content for FileContent {
    fn size_hint(&self) -> Option<u64> {
        Some(self.before.size).filter(|size| *size > 0)
    }

    fn finish(self: Box<Self>) -> Result<ContentInfo> {
        let after = Version::of(&self.file).map_err(|error| Error::io("read", &*self.path, error))?;
        if after == self.before {
            return Ok(ContentInfo::default());
        }
        Err(Error::new(ErrorKind::Changed, "read", self.path).detail("it was written to while it was read"))
    }
}

/// Returns the system's path of one in the tree.
fn system_path(path: &[u8]) -> PathBuf {
    if cfg!(unix) {
        return PathBuf::from(sys::os_part(path).into_owned());
    }
    let text = String::from_utf8_lossy(path);
    let text = text.trim_start_matches('/');
    // A drive alone is the folder at hand on it.
    PathBuf::from(if text.ends_with(':') { format!("{text}/") } else { text.to_owned() })
}

fn list(path: &[u8], names: &mut Vec<std::ffi::OsString>) -> io::Result<()> {
    let path = if path.is_empty() { b"/" } else { path };
    for entry in fs::read_dir(system_path(path))? {
        names.push(entry?.file_name());
    }
    Ok(())
}

fn record(path: Vec<u8>, name: &[u8], metadata: &FileMetadata) -> Record {
    let read_only = if metadata.permissions().readonly() { 0o222 } else { 0 };
    let mode = match (metadata.is_dir(), metadata.is_symlink(), metadata.is_file()) {
        (true, ..) => Mode(Mode::DIR.0 | (FOLDER & !read_only)),
        (_, true, _) => Mode(Mode::SYMLINK.0 | 0o777),
        (.., true) => Mode(FILE & !read_only),
        _ => Mode(Mode::IRREGULAR.0),
    };
    let mut info = FileInfo::new(RawString::from(name.to_vec()), mode);
    info.size = i64::try_from(metadata.len()).unwrap_or(i64::MAX);
    info.modified = metadata.modified().map_or(Timestamp::ZERO, Timestamp::from);
    let mut record = plain_record(path, info);
    if metadata.is_symlink() {
        match fs::read_link(system_path(record.path.as_bytes())) {
            Ok(target) => {
                record.symlink_target = Some(target.as_os_str().as_encoded_bytes().to_vec().into());
            }
            Err(error) => record.info = Err(Error::io("read the link", record.path.lossy(), error)),
        }
    }
    record
}

fn plain_record(path: Vec<u8>, info: FileInfo) -> Record {
    let metadata: Vec<Metadata> = Vec::new();
    Record { path: path.into(), info: Ok(info), symlink_target: None, metadata, locator: Vec::new() }
}

fn failed_record(path: Vec<u8>, op: &'static str, error: io::Error) -> Record {
    let path = RawString::from(path);
    let info = Err(Error::io(op, path.lossy(), error));
    Record { path, info, symlink_target: None, metadata: Vec::new(), locator: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tree_is_seen_in_the_same_order() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for folder in ["a", "a/b", "a.c"] {
            fs::create_dir(dir.join(folder)).unwrap();
        }
        for file in ["a/f", "a/b/g", "a.c/h", "z", "skip.tmp"] {
            fs::write(dir.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("z", dir.join("link")).unwrap();
        let options = || PortableImporter::builder().place(&dir).exclude("*.tmp");
        let portable = PortableImporter::open(options()).unwrap();
        let usual = options().build().unwrap();
        let scan = |importer: &dyn Importer| {
            let mut seen = Vec::new();
            importer
                .scan(&mut |record| {
                    let info = record.info.unwrap();
                    let kind = (info.mode.is_dir(), info.mode.is_symlink(), info.mode.is_regular());
                    let size = if info.mode.is_regular() { info.size } else { 0 };
                    // Others work in the folders above.
                    let is_ours = record.path.starts_with(dir.as_os_str().as_encoded_bytes());
                    let modified = is_ours.then_some(info.modified);
                    seen.push((record.path, kind, size, modified, record.symlink_target));
                    ControlFlow::Continue(())
                })
                .unwrap();
            seen
        };
        assert_eq!(scan(&portable), scan(&usual));
        assert_eq!(portable.source().root, usual.source().root);
        let mut content = Vec::new();
        let path = [dir.to_str().unwrap().as_bytes(), b"/a/b/g"].concat();
        let file = plain_record(path, FileInfo::new("g", Mode(FILE)));
        let mut open = portable.open(&file).unwrap();
        open.read_to_end(&mut content).unwrap();
        open.finish().unwrap();
        assert_eq!(content, b"a/b/g");
        fs::write(dir.join("a/b/g"), "more than before").unwrap();
        let changing = portable.open(&file).unwrap();
        fs::write(dir.join("a/b/g"), "less").unwrap();
        assert_eq!(changing.finish().unwrap_err().kind, ErrorKind::Changed);
        let link = plain_record(
            [dir.to_str().unwrap().as_bytes(), b"/link"].concat(),
            FileInfo::new("link", Mode(FILE)),
        );
        assert_eq!(portable.open(&link).err().unwrap().kind, ErrorKind::Changed);
    }
}
