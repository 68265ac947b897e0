//! From sorted records to one entry per path: duplicates, collisions, missing folders.

use crate::base::PathError;
use crate::base::sort::{KeyOrder, Sorted, Sorter};
use crate::base::spill::SpillDir;
use crate::format::entry::Entry;
use crate::format::path::{escape_collision, join, parent};
use crate::snapshot::tree::Order;
use crate::store::blob::Result;

use super::record::{Facts, decode, encode_facts};

/// Memory for renamed files before they spill; they are few.
const RENAMED_MEMORY: usize = 1 << 20;

/// One path and the record that counts for it.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The path.
    pub(super) path: Vec<u8>,
    /// The record; one that is only implied stands for a folder that has to be synthesized.
    pub(super) record: Vec<u8>,
    /// Whether something that came for the path is lost.
    pub(super) conflict: bool,
    folder: bool,
}

impl Group {
    /// Takes the first record of a path.
    fn start(&mut self, path: &[u8], record: &[u8]) {
        self.path.clear();
        self.path.extend_from_slice(path);
        self.record.clear();
        self.record.extend_from_slice(record);
        self.conflict = false;
        self.folder = is_folder(record);
    }

    /// Takes another record of the path: a folder wins over a file, an entry over an implied folder, and the
    /// later entry over the earlier one. A file beside a folder was renamed, unless `renamed` says that this is
    /// the renamed one.
    fn add(&mut self, record: &[u8], renamed: bool) {
        let implied = decode(record).is_none();
        match (self.folder, is_folder(record)) {
            (true, false) => {
                self.conflict |= renamed;
                return;
            }
            (true, true) if implied => return,
            (true, true) => self.conflict |= decode(&self.record).is_some() && self.record != record,
            (false, false) => self.conflict |= self.record != record,
            (false, true) => {}
        }
        self.folder = is_folder(record);
        self.record.clear();
        self.record.extend_from_slice(record);
    }
}

fn is_folder(record: &[u8]) -> bool {
    decode(record).is_none_or(|(facts, _)| facts.mode.is_dir())
}

/// All paths in path order, each once.
#[derive(Debug)]
pub(super) struct Groups {
    main: Sorted<Order>,
    renamed: Sorted<Order>,
    main_left: bool,
    renamed_left: bool,
}

impl Groups {
    /// Reads the records once for files that have the path of a folder, renames them, and starts again.
    pub(super) fn new(mut main: Sorted<Order>, spills: &SpillDir) -> Result<Self> {
        let mut renamed = Sorter::new(Order::Path, spills, RENAMED_MEMORY);
        // A group is looked at closely only when it has more than one record.
        let (mut path, mut file, mut folder) = (Vec::new(), None::<Vec<u8>>, false);
        while main.advance()? {
            let (next, record) = main.record();
            if next != path {
                rename_file(&mut renamed, &path, file.take().filter(|_| folder))?;
                path.clear();
                path.extend_from_slice(next);
                folder = false;
            }
            if is_folder(record) {
                folder = true;
            } else {
                let buffer = file.get_or_insert_default();
                buffer.clear();
                buffer.extend_from_slice(record);
            }
        }
        rename_file(&mut renamed, &path, file.take().filter(|_| folder))?;
        main.rewind()?;
        let mut renamed = renamed.finish()?;
        let main_left = main.advance()?;
        let renamed_left = renamed.advance()?;
        Ok(Self { main, renamed, main_left, renamed_left })
    }

    /// Returns how many files were renamed.
    pub(super) fn renamed(&self) -> u64 {
        self.renamed.records()
    }

    /// Reads the next path into `group`; `false` at the end.
    pub(super) fn next(&mut self, group: &mut Group) -> Result<bool, PathError> {
        let mut started = false;
        loop {
            let from_main = match (self.main_left, self.renamed_left) {
                (false, false) => return Ok(started),
                (main, renamed) if main != renamed => main,
                _ => Order::Path.compare(self.main.record().0, self.renamed.record().0).is_le(),
            };
            let (path, record) = if from_main { self.main.record() } else { self.renamed.record() };
            if !started {
                group.start(path, record);
                started = true;
            } else if path == group.path {
                group.add(record, !from_main);
            } else {
                return Ok(true);
            }
            if from_main {
                self.main_left = self.main.advance()?;
            } else {
                self.renamed_left = self.renamed.advance()?;
            }
        }
    }
}

/// Renames a file beside a folder of the same path.
fn rename_file(renamed: &mut Sorter<Order>, path: &[u8], file: Option<Vec<u8>>) -> Result<()> {
    let Some(record) = file else { return Ok(()) };
    let Some((_, bytes)) = decode(&record) else { return Ok(()) };
    let mut entry = Entry::decode(bytes)?;
    entry.info.name = escape_collision(&entry.info.name);
    let path = join(parent(path), &entry.info.name);
    let (head, content_type) = encode_facts(&Facts::of(&entry));
    Ok(renamed.push_parts(&path, &[&head, content_type, &entry.encode()])?)
}
