//! The exporter where folders cannot be entered through descriptors: paths, and what the standard library can set.
//!
//! Before anything is made, every folder on the way below the root is looked at: one that is a link, or no folder, is
//! refused. Between the look and the use another process could change it, which nothing here prevents: restore into
//! a folder of your own. Names that the system would read as something else (`..\x`, `C:`, `file:stream`, `NUL`) are
//! refused. Owners, modes and attributes are not restored, and reported as missing where the snapshot has any.

use std::collections::HashSet;
use std::fs::{self, FileTimes, Permissions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::options::{Existing, FsExporterBuilder};
use super::write;
use crate::base::{At, RawString, Timestamp, sys};
use crate::connector::{ContentSource, Error, ErrorKind, Exporter, Item, Outcome, Result, Work};
use crate::connectors::place;
use crate::format::entry::{Entry, Mode};

/// Bits of a mode that let somebody write.
const WRITE: u32 = 0o222;
/// Names that Windows gives to devices, whatever follows after a dot.
const DEVICES: [&str; 8] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$", "KEYBD$"];

/// A local folder as a destination.
#[derive(Debug)]
pub struct PortableExporter {
    root: PathBuf,
    options: FsExporterBuilder,
    /// What was restored, folded where names of both cases are one.
    made: Mutex<HashSet<Vec<u8>>>,
    prefix: String,
    counter: AtomicU64,
    fresh: AtomicBool,
}

impl PortableExporter {
    /// Begins to describe a destination.
    pub fn builder(path: impl Into<PathBuf>) -> FsExporterBuilder {
        FsExporterBuilder::new(path.into())
    }

    pub(super) fn open(path: PathBuf, options: FsExporterBuilder, fresh: bool) -> Result<Self> {
        let digits = place::random_digits().at("open", &path)?;
        Ok(Self {
            root: std::path::absolute(&path).at("open", &path)?,
            options,
            made: Mutex::default(),
            prefix: format!(".plakar-{digits}"),
            counter: AtomicU64::new(0),
            fresh: AtomicBool::new(fresh),
        })
    }

    /// Returns the path of an item, after a look at every folder on the way.
    fn place(&self, path: &RawString) -> Result<Target> {
        let refuse = |why: String| Error::new(ErrorKind::Invalid, "restore", path.lossy()).detail(why);
        let mut names = Vec::new();
        for name in path.as_bytes().split(|c| *c == b'/') {
            if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
                return Err(refuse("the path is not one below the destination".into()));
            }
            match sys::os_str(name) {
                None => return Ok(Target::Impossible("its name is not Unicode".into())),
                Some(_) if cfg!(windows) => {
                    if let Err(why) = windows_name(&String::from_utf8_lossy(name)) {
                        return Ok(Target::Impossible(why));
                    }
                }
                Some(_) => {}
            }
            names.extend(sys::os_str(name));
        }
        let mut at = self.root.clone();
        let (last, folders) = names.split_last().expect("a path has a name");
        for folder in folders {
            at.push(folder);
            let there = fs::symlink_metadata(&at).at("enter", &at)?;
            if !there.is_dir() || there.is_symlink() {
                return Err(Error::new(ErrorKind::Exists, "enter", at.display().to_string())
                    .detail("something that is not a folder stands in the way"));
            }
        }
        let folder = at.clone();
        at.push(last);
        Ok(Target::At { path: at, folder })
    }

    /// Notes that something was restored under a path; fails when another entry was.
    fn note(&self, path: &RawString) -> Result<()> {
        let key =
            if cfg!(windows) { path.lossy().to_lowercase().into_bytes() } else { path.as_bytes().to_vec() };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.insert(key) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Exists, "restore", path.lossy())
            .detail("another entry was restored here: the file system does not tell their names apart"))
    }

    /// Applies the policy to what has an item's name. Returns an outcome that settles the item.
    fn look(&self, item: &Item<'_>, path: &Path, size: u64) -> Result<Option<Outcome>> {
        let there = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.at("look at", path)?,
        };
        let modified = there.modified().map_or(Timestamp::ZERO, Timestamp::from);
        let equal = there.is_file() && there.len() == size && modified == item.entry.info.modified;
        if equal && self.options.equal {
            return Ok(Some(Outcome::Equal));
        }
        match self.options.existing {
            Existing::Skip => return Ok(Some(Outcome::Skipped)),
            Existing::Fail => return Err(exists(item.path)),
            Existing::Replace => {}
        }
        if there.is_dir() {
            return Err(Error::new(ErrorKind::Exists, "replace", item.path.lossy())
                .detail("a folder has this name, and folders are never replaced"));
        }
        Ok(None)
    }

    /// Returns what of an entry is not restored here.
    fn missing(&self, item: &Item<'_>) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.options.skip_permissions {
            let info = &item.entry.info;
            let somebody = info.uid != 0 || info.gid != 0 || !info.user.is_empty() || !info.group.is_empty();
            if somebody {
                missing.push("owner".into());
            }
            let bits = info.mode.to_unix() & 0o7777;
            let usual = if info.mode.is_dir() { 0o755 } else { 0o644 };
            if bits != usual && bits != usual & !WRITE {
                missing.push("mode".into());
            }
        }
        missing.extend(item.xattrs.iter().map(|xattr| format!("extended attribute {}", xattr.name.lossy())));
        if item.entry.metadata.iter().any(|metadata| metadata.key.starts_with(b"s3.")) {
            missing.push("S3 metadata".into());
        }
        missing
    }

    fn write(
        &self,
        item: &Item<'_>,
        content: &dyn ContentSource,
        target: &Path,
        folder: &Path,
    ) -> Result<Vec<String>> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let temporary = Temporary(folder.join(format!("{}-{number}.tmp", self.prefix)));
        let options =
            || if self.options.skip_permissions { fs::OpenOptions::new() } else { sys::private_file() };
        let file = options().write(true).create_new(true).open(&temporary.0).at("create", &temporary.0)?;
        write::write(&file, &item.path.lossy(), content)?;
        let mut missing = self.missing(item);
        if !set_time(&file, item.entry) {
            missing.push("modification time".into());
        }
        drop(file);
        fs::rename(&temporary.0, target).at("rename to", target)?;
        if is_read_only(item.entry.info.mode) && !self.options.skip_permissions && !set_read_only(target) {
            missing.push("read-only".into());
        }
        Ok(missing)
    }
}

/// Where an item goes.
#[derive(Debug)]
enum Target {
    At {
        path: PathBuf,
        folder: PathBuf,
    },
    /// The system cannot hold such a name.
    Impossible(String),
}

/// A file that is removed unless it got its name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Whatever happens to it now, its name says that it is temporary.
        let _ = fs::remove_file(&self.0);
    }
}

impl Exporter for PortableExporter {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn folder(&self, item: &Item<'_>) -> Result<Outcome> {
        if item.path.is_empty() {
            let fresh = self.fresh.load(Ordering::Relaxed);
            return Ok(if fresh { Outcome::Restored } else { Outcome::Equal });
        }
        let path = match self.place(item.path)? {
            Target::At { path, .. } => path,
            Target::Impossible(why) => return Ok(Outcome::Unsupported(why)),
        };
        let made = if self.options.skip_permissions {
            fs::create_dir(&path)
        } else {
            sys::private_folder().create(&path)
        };
        match made {
            Ok(()) => return Ok(Outcome::Restored),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => Err(error).at("create", &path)?,
        }
        let there = fs::symlink_metadata(&path).at("look at", &path)?;
        if there.is_dir() && !there.is_symlink() {
            return Ok(Outcome::Equal);
        }
        match self.options.existing {
            Existing::Skip => return Ok(Outcome::Skipped),
            Existing::Fail => return Err(exists(item.path)),
            Existing::Replace => {}
        }
        fs::remove_file(&path).at("replace", &path)?;
        fs::create_dir(&path).at("create", &path)?;
        Ok(Outcome::Restored)
    }

    fn file(&self, item: &Item<'_>, content: &dyn ContentSource) -> Result<Outcome> {
        let (target, folder) = match self.place(item.path)? {
            Target::At { path, folder } => (path, folder),
            Target::Impossible(why) => return Ok(Outcome::Unsupported(why)),
        };
        self.note(item.path)?;
        if let Some(settled) = self.look(item, &target, content.size())? {
            return Ok(settled);
        }
        let missing = self.write(item, content, &target, &folder)?;
        Ok(if missing.is_empty() { Outcome::Restored } else { Outcome::Partly(missing) })
    }

    fn special(&self, item: &Item<'_>) -> Result<Outcome> {
        let what = if item.entry.info.mode.is_symlink() { "symbolic links" } else { "special files" };
        Ok(Outcome::Unsupported(format!("{what} are not made on this system")))
    }

    fn finish_folder(&self, item: &Item<'_>) -> Result<Outcome> {
        let path = if item.path.is_empty() {
            if !self.fresh.load(Ordering::Relaxed) {
                return Ok(Outcome::Skipped);
            }
            self.root.clone()
        } else {
            match self.place(item.path)? {
                Target::At { path, .. } => path,
                Target::Impossible(why) => return Ok(Outcome::Unsupported(why)),
            }
        };
        let mut missing = self.missing(item);
        let opened = sys::open_folder_for_times(&path);
        if !opened.is_ok_and(|folder| set_time(&folder, item.entry)) {
            missing.push("modification time".into());
        }
        Ok(if missing.is_empty() { Outcome::Restored } else { Outcome::Partly(missing) })
    }

    fn work(&self) -> Work {
        Work::Local
    }
}

/// Sets the time of the last change; "no time" is not a time to set.
fn set_time(file: &fs::File, entry: &Entry) -> bool {
    if entry.info.modified == Timestamp::ZERO {
        return true;
    }
    let time = entry.info.modified.to_system();
    time.is_some_and(|time| file.set_times(FileTimes::new().set_modified(time)).is_ok())
}

fn is_read_only(mode: Mode) -> bool {
    mode.to_unix() & WRITE == 0
}

fn set_read_only(path: &Path) -> bool {
    let set = |permissions: io::Result<Permissions>| {
        let mut permissions = permissions?;
        permissions.set_readonly(true);
        fs::set_permissions(path, permissions)
    };
    set(fs::metadata(path).map(|metadata| metadata.permissions())).is_ok()
}

/// Says why Windows cannot hold a name, or would take it for something else.
fn windows_name(name: &str) -> std::result::Result<(), String> {
    if let Some(c) = name.chars().find(|c| "<>:\"/\\|?*".contains(*c) || u32::from(*c) < 32) {
        return Err(format!("a name cannot hold '{}' on this system", c.escape_debug()));
    }
    if name.ends_with(['.', ' ']) {
        return Err("a name cannot end in a dot or a space on this system".into());
    }
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let numbered = |device: &str| {
        let number = stem.strip_prefix(device).map(|rest| rest.chars().collect::<Vec<_>>());
        number.is_some_and(|rest| matches!(rest[..], ['0'..='9' | '¹' | '²' | '³']))
    };
    if DEVICES.contains(&stem.as_str()) || numbered("COM") || numbered("LPT") {
        return Err("the name is that of a device on this system".into());
    }
    if name.encode_utf16().count() > 255 {
        return Err("its name is longer than 255 characters".into());
    }
    Ok(())
}

fn exists(path: &RawString) -> Error {
    Error::new(ErrorKind::Exists, "restore", path.lossy()).detail("something has this name already")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::FileInfo;

    fn entry(name: &str, mode: Mode) -> Entry {
        let mut info = FileInfo::new(name, mode);
        info.modified = Timestamp { secs: 1_700_000_000, nanos: 0 };
        Entry::new("/", info)
    }

    fn exporter(dir: &Path, existing: Existing) -> PortableExporter {
        let options = PortableExporter::builder(dir).existing(existing);
        PortableExporter::open(dir.to_owned(), options, true).unwrap()
    }

    fn file(exporter: &PortableExporter, path: &str, text: &'static str) -> Result<Outcome> {
        let entry = entry("f", Mode::regular(0o644));
        exporter.file(&Item { path: &path.into(), entry: &entry, xattrs: &[] }, &text.as_bytes().to_vec())
    }

    #[test]
    fn files_and_folders_are_restored_and_what_is_missing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let to = exporter(dir.path(), Existing::Replace);
        let folder = entry("a", Mode(Mode::DIR.0 | 0o755));
        let item = |path| Item { path, entry: &folder, xattrs: &[] };
        let path = RawString::from("a");
        assert_eq!(to.folder(&item(&path)).unwrap(), Outcome::Restored);
        assert_eq!(to.folder(&item(&path)).unwrap(), Outcome::Equal);
        assert_eq!(file(&to, "a/f", "text").unwrap(), Outcome::Restored);
        assert_eq!(fs::read(dir.path().join("a/f")).unwrap(), b"text");
        assert_eq!(to.finish_folder(&item(&path)).unwrap(), Outcome::Restored);
        for name in ["a", "a/f"] {
            let modified = fs::metadata(dir.path().join(name)).unwrap().modified().unwrap();
            assert_eq!(Timestamp::from(modified).secs, 1_700_000_000, "{name}");
        }
        let mut owned = entry("g", Mode::regular(0o4755));
        owned.info.uid = 7;
        let xattrs = [crate::connector::Xattr { name: "user.x".into(), value: Vec::new() }];
        let path = RawString::from("g");
        let outcome = to.file(&Item { path: &path, entry: &owned, xattrs: &xattrs }, &Vec::new()).unwrap();
        assert_eq!(
            outcome,
            Outcome::Partly(vec!["owner".into(), "mode".into(), "extended attribute user.x".into()])
        );
        let link = entry("l", Mode(Mode::SYMLINK.0 | 0o777));
        let outcome = to.special(&Item { path: &"l".into(), entry: &link, xattrs: &[] }).unwrap();
        assert!(matches!(outcome, Outcome::Unsupported(why) if why.contains("symbolic links")));
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("way")).unwrap();
        let to = exporter(dir.path(), Existing::Replace);
        for path in ["../x", "a/../../x", "", "a//b", "way/x"] {
            assert!(file(&to, path, "x").is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        // A link in the file's own place is replaced, not followed.
        assert_eq!(file(&to, "way", "x").unwrap(), Outcome::Restored);
        assert!(!fs::symlink_metadata(dir.path().join("way")).unwrap().is_symlink());
    }

    #[test]
    fn what_is_there_is_treated_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "old").unwrap();
        assert_eq!(file(&exporter(dir.path(), Existing::Skip), "f", "new").unwrap(), Outcome::Skipped);
        assert!(file(&exporter(dir.path(), Existing::Fail), "f", "new").is_err());
        let to = exporter(dir.path(), Existing::Replace);
        assert_eq!(file(&to, "f", "new").unwrap(), Outcome::Restored);
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"new");
        assert!(file(&to, "f", "again").is_err(), "two entries, one name");
        fs::create_dir(dir.path().join("d")).unwrap();
        assert!(file(&to, "d", "new").is_err());
    }

    #[test]
    fn names_of_windows_are_known() {
        for name in
            ["..\\x", "C:", "f:stream", "a?", "NUL", "nul.txt", "com1.log", "COM¹", "x.", "x ", "a\u{1}"]
        {
            assert!(windows_name(name).is_err(), "{name}");
        }
        for name in ["x", ".x", "é.txt", "COM", "COM10", "nullable", "console"] {
            assert!(windows_name(name).is_ok(), "{name}");
        }
    }
}
