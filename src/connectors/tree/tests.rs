//! A restore to a server that is played here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::export::{Standing, Target, TreeExporter};
use super::names::{join, parent};
use crate::base::RawString;
use crate::connector::{ContentSource, Error, ErrorKind, Exporter as _, Item, Outcome, Result};
use crate::connectors::existing::Existing;
use crate::format::entry::{Entry, FileInfo, Mode};

/// What a server holds, and what it does not do.
#[derive(Debug, Default)]
struct Held {
    /// Files with their contents; folders have none.
    things: BTreeMap<Vec<u8>, Option<String>>,
    disregards_case: bool,
    /// Renames that are refused, by number from 1 on.
    no_rename: Vec<u32>,
    renames: u32,
    no_folders: bool,
    keeps: bool,
}

impl Held {
    /// Returns the name that a path has here, if there is such a thing.
    fn real(&self, path: &[u8]) -> Option<Vec<u8>> {
        let same =
            |there: &&Vec<u8>| *there == path || self.disregards_case && there.eq_ignore_ascii_case(path);
        self.things.keys().find(same).cloned()
    }
}

#[derive(Clone, Debug)]
struct Server(Arc<Mutex<Held>>);

fn failed(op: &'static str) -> Error {
    Error::new(ErrorKind::Denied, op, "x").detail("as played")
}

impl Server {
    fn with(things: &[(&str, Option<&str>)]) -> Self {
        let things =
            things.iter().map(|(path, content)| (path.as_bytes().to_vec(), content.map(str::to_owned)));
        let server = Self(Arc::default());
        server.held().things = [(b"/r".to_vec(), None)].into_iter().chain(things).collect();
        server
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap()
    }

    fn exporter(&self, existing: Existing) -> TreeExporter {
        TreeExporter::open(self.clone(), b"/r".to_vec(), existing, false).unwrap()
    }

    /// What is below the root: a content, or "/" for a folder.
    fn things(&self) -> Vec<(String, String)> {
        let held = self.held();
        let shown = |(path, content): (&Vec<u8>, &Option<String>)| {
            let name = String::from_utf8_lossy(&path[2..]).trim_start_matches('/').to_owned();
            (name, content.clone().unwrap_or_else(|| "/".into()))
        };
        held.things.iter().filter(|(path, _)| path.len() > 2).map(shown).collect()
    }
}

impl Target for Server {
    fn describe(&self) -> String {
        "played".into()
    }

    fn open_root(&self, _path: &[u8]) -> Result<bool> {
        Ok(false)
    }

    fn refuses(&self, _path: &[u8]) -> Option<String> {
        None
    }

    fn look(&self, path: &[u8]) -> Result<Option<Standing>> {
        let held = self.held();
        let Some(real) = held.real(path) else { return Ok(None) };
        let content = &held.things[&real];
        let mode = if content.is_some() { Mode::regular(0o644) } else { Mode::dir(0o755) };
        let size = content.as_ref().map_or(0, |content| content.len() as u64);
        Ok(Some(Standing { mode, permissions: true, size, modified: None }))
    }

    fn names(&self, folder: &[u8]) -> Result<Vec<Vec<u8>>> {
        let held = self.held();
        let in_it = held.things.keys().filter(|path| parent(path).0.eq_ignore_ascii_case(folder));
        Ok(in_it.map(|path| parent(path).1.to_vec()).collect())
    }

    fn make_folder(&self, path: &[u8]) -> Result<bool> {
        let mut held = self.held();
        if held.real(path).is_some() {
            return Ok(false);
        }
        if held.no_folders {
            return Err(failed("create"));
        }
        held.things.insert(path.to_vec(), None);
        Ok(true)
    }

    fn write(&self, path: &[u8], _item: &Item<'_>, content: &dyn ContentSource) -> Result<Vec<String>> {
        let mut bytes = vec![0; usize::try_from(content.size()).unwrap()];
        content.read_at(0, &mut bytes)?;
        let folder = self.held().real(parent(path).0).unwrap();
        let path = join(&folder, parent(path).1);
        self.held().things.insert(path, Some(String::from_utf8(bytes).unwrap()));
        Ok(Vec::new())
    }

    fn make_link(&self, _path: &[u8], _item: &Item<'_>) -> Result<Option<Vec<String>>> {
        Ok(None)
    }

    fn has_hard_links(&self) -> bool {
        false
    }

    fn hard_link(&self, _first: &[u8], _path: &[u8]) -> Result<()> {
        Err(failed("link"))
    }

    fn rename(&self, from: &[u8], to: &[u8], replace: bool) -> Result<()> {
        let mut held = self.held();
        held.renames += 1;
        if held.no_rename.contains(&held.renames) || held.real(to).is_some() && !replace {
            return Err(failed("rename to"));
        }
        let from = held.real(from).ok_or_else(|| failed("rename to"))?;
        let to = held.real(to).unwrap_or_else(|| to.to_vec());
        let content = held.things.remove(&from).unwrap();
        held.things.insert(to, content);
        Ok(())
    }

    fn remove(&self, path: &[u8]) -> Result<()> {
        let mut held = self.held();
        let real = held.real(path).filter(|_| !held.keeps).ok_or_else(|| failed("delete"))?;
        held.things.remove(&real);
        Ok(())
    }

    fn finish_folder(&self, _path: &[u8], _item: &Item<'_>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn workers(&self) -> usize {
        1
    }
}

fn folder(exporter: &TreeExporter, path: &str) -> Result<Outcome> {
    let entry = Entry::new("/", FileInfo::new("x", Mode::dir(0o755)));
    exporter.folder(&Item { path: &RawString::from(path), entry: &entry, xattrs: &[] })
}

fn file(exporter: &TreeExporter, path: &str, content: &str) -> Result<Outcome> {
    let entry = Entry::new("/", FileInfo::new("x", Mode::regular(0o644)));
    let item = Item { path: &RawString::from(path), entry: &entry, xattrs: &[] };
    exporter.file(&item, &content.as_bytes().to_vec())
}

fn pairs(things: &[(String, String)]) -> Vec<(&str, &str)> {
    things.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect()
}

#[test]
fn a_file_makes_way_for_a_folder_only_once_the_folder_is_there() {
    let server = Server::with(&[("/r/a", Some("mine"))]);
    assert_eq!(folder(&server.exporter(Existing::Replace), "a").unwrap(), Outcome::Restored);
    assert_eq!(pairs(&server.things()), [("a", "/")]);
    for existing in [Existing::Skip, Existing::Fail] {
        let server = Server::with(&[("/r/a", Some("mine"))]);
        let told = folder(&server.exporter(existing), "a");
        assert!(told.is_err() || told.unwrap() == Outcome::Skipped);
        assert_eq!(pairs(&server.things()), [("a", "mine")]);
    }
}

#[test]
fn a_file_that_cannot_make_way_stays() {
    // It cannot be renamed.
    let server = Server::with(&[("/r/a", Some("mine"))]);
    server.held().no_rename = vec![1];
    let error = folder(&server.exporter(Existing::Replace), "a").unwrap_err();
    assert!(error.to_string().contains("does not rename it out of the way (as played): it stays"), "{error}");
    assert_eq!(pairs(&server.things()), [("a", "mine")]);
    // No folder can be made.
    let server = Server::with(&[("/r/a", Some("mine"))]);
    server.held().no_folders = true;
    assert_eq!(folder(&server.exporter(Existing::Replace), "a").unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(pairs(&server.things()), [("a", "mine")]);
    // Nor can it be put back: then the error says where it is.
    let server = Server::with(&[("/r/a", Some("mine"))]);
    server.held().no_folders = true;
    server.held().no_rename = vec![2];
    let error = folder(&server.exporter(Existing::Replace), "a").unwrap_err();
    let things = server.things();
    assert!(things[0].1 == "mine" && error.to_string().contains(&things[0].0), "{error} {things:?}");
    // It cannot be deleted: the folder is there, and the file as well.
    let server = Server::with(&[("/r/a", Some("mine"))]);
    server.held().keeps = true;
    let Outcome::Partly(left) = folder(&server.exporter(Existing::Replace), "a").unwrap() else { panic!() };
    let things = server.things();
    assert!(
        things.len() == 2 && things[0].1 == "mine" && left[0].contains(&things[0].0),
        "{left:?} {things:?}"
    );
}

#[test]
fn where_case_does_not_count_nothing_takes_the_place_of_another() {
    let server = Server::with(&[]);
    server.held().disregards_case = true;
    let exporter = server.exporter(Existing::Replace);
    assert_eq!(folder(&exporter, "Dir").unwrap(), Outcome::Restored);
    assert_eq!(file(&exporter, "Dir/x", "upper").unwrap(), Outcome::Restored);
    assert_eq!(file(&exporter, "NAME", "upper").unwrap(), Outcome::Restored);
    for result in [
        folder(&exporter, "dir"),
        file(&exporter, "dir/x", "lower"),
        folder(&exporter, "dir/below"),
        file(&exporter, "name", "lower"),
        folder(&exporter, "name"),
    ] {
        let error = result.unwrap_err();
        assert!(error.kind == ErrorKind::Exists && error.to_string().contains("does not tell"), "{error}");
    }
    assert_eq!(pairs(&server.things()), [("Dir", "/"), ("Dir/x", "upper"), ("NAME", "upper")]);
    // Where it counts they are different things.
    let server = Server::with(&[]);
    let exporter = server.exporter(Existing::Replace);
    for name in ["Dir", "dir"] {
        assert_eq!(folder(&exporter, name).unwrap(), Outcome::Restored);
        assert_eq!(file(&exporter, &format!("{name}/x"), name).unwrap(), Outcome::Restored);
    }
    assert_eq!(pairs(&server.things()), [("Dir", "/"), ("Dir/x", "Dir"), ("dir", "/"), ("dir/x", "dir")]);
}

/// Content that is asked for when its file was claimed, and not put in place yet.
#[derive(Debug)]
struct Meanwhile<'a>(&'a TreeExporter, Mutex<Option<Result<Outcome>>>);

impl ContentSource for Meanwhile<'_> {
    fn size(&self) -> u64 {
        5
    }

    fn read_at(&self, _offset: u64, buffer: &mut [u8]) -> Result<()> {
        *self.1.lock().unwrap() = Some(file(self.0, "name", "lower"));
        buffer.copy_from_slice(b"upper");
        Ok(())
    }

    fn boundaries(&self) -> Vec<u64> {
        vec![0]
    }
}

#[test]
fn of_two_files_on_their_way_to_one_name_the_second_is_refused() {
    let server = Server::with(&[]);
    server.held().disregards_case = true;
    let exporter = server.exporter(Existing::Replace);
    let content = Meanwhile(&exporter, Mutex::default());
    let entry = Entry::new("/", FileInfo::new("NAME", Mode::regular(0o644)));
    let item = Item { path: &RawString::from("NAME"), entry: &entry, xattrs: &[] };
    let error = exporter.file(&item, &content).unwrap_err();
    assert!(error.to_string().contains("does not tell"), "{error}");
    assert_eq!(content.1.into_inner().unwrap().unwrap().unwrap(), Outcome::Restored);
    assert_eq!(pairs(&server.things()), [("name", "lower")]);
}
