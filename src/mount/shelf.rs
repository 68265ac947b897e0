//! The snapshots at the top of a mount, and what they are called there.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::Id;
use crate::snapshot::{SnapshotInfo, header};
use crate::store::{Error, Repository};

/// Chooses the snapshots to be shown, of all there are; both come oldest first.
pub type Select = Box<dyn Fn(Vec<SnapshotInfo>) -> Vec<SnapshotInfo> + Send + Sync>;

/// How long lies between two looks for new snapshots.
const LOCAL_PAUSE: Duration = Duration::from_secs(1);
/// The same where a look costs requests.
const REMOTE_PAUSE: Duration = Duration::from_secs(30);
/// The fewest hexadecimal digits of an id in a name.
const DIGITS: usize = 8;
/// The fewest that a name may be shortened to.
const PREFIX: usize = 4;

/// A snapshot at the top.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) name: String,
    pub(super) snapshot: Arc<SnapshotInfo>,
}

/// All of them, looked for again from time to time.
pub(super) struct Shelf {
    repository: Arc<Repository>,
    select: Select,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    folders: Arc<Vec<Folder>>,
    known: HashMap<Id, Arc<SnapshotInfo>>,
    looked: Option<Instant>,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shelf({:?})", self.repository)
    }
}

impl Shelf {
    pub(super) fn new(repository: Arc<Repository>, select: Select) -> Self {
        Self { repository, select, state: Mutex::default() }
    }

    /// Returns the snapshots, oldest first. What goes wrong on the way is passed to `report`; what was seen before
    /// stays then.
    pub(super) fn folders(&self, report: &dyn Fn(Option<Id>, &Error)) -> Arc<Vec<Folder>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let remote = self.repository.storage().is_remote();
        let pause = if remote { REMOTE_PAUSE } else { LOCAL_PAUSE };
        if state.looked.is_some_and(|looked| looked.elapsed() < pause) {
            return Arc::clone(&state.folders);
        }
        // The store was just opened when this is first asked for.
        if state.looked.is_some()
            && !self.repository.storage().is_archive()
            && let Err(error) = self.repository.reload()
        {
            report(None, &error);
        }
        self.look(&mut state, report);
        state.looked = Some(Instant::now());
        Arc::clone(&state.folders)
    }

    fn look(&self, state: &mut State, report: &dyn Fn(Option<Id>, &Error)) {
        let ids = self.repository.catalogue().snapshots();
        let mut known = HashMap::with_capacity(ids.len());
        for id in ids {
            match state.known.remove(&id).map_or_else(|| self.read(&id), Ok) {
                Ok(snapshot) => drop(known.insert(id, snapshot)),
                Err(error) => report(Some(id), &error),
            }
        }
        state.known = known;
        let mut all: Vec<SnapshotInfo> = state.known.values().map(|info| SnapshotInfo::clone(info)).collect();
        all.sort_by_key(|info| (info.header.timestamp, info.id));
        let chosen: Vec<Id> = (self.select)(all).into_iter().map(|info| info.id).collect();
        let digits = digits(&chosen);
        let folder = |id: Id| {
            let snapshot = Arc::clone(state.known.get(&id)?);
            Some(Folder { name: id.to_hex()[..digits].to_owned(), snapshot })
        };
        state.folders = Arc::new(chosen.into_iter().filter_map(folder).collect());
    }

    fn read(&self, id: &Id) -> Result<Arc<SnapshotInfo>, Error> {
        Ok(Arc::new(SnapshotInfo { id: *id, header: header(&self.repository, id)? }))
    }
}

/// Returns how many digits tell the ids apart.
fn digits(ids: &[Id]) -> usize {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let shared = |pair: &[Id]| {
        let (a, b) = (pair[0].to_hex(), pair[1].to_hex());
        a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
    };
    sorted.windows(2).map(|pair| shared(pair) + 1).max().unwrap_or(0).clamp(DIGITS, 2 * Id::LEN)
}

/// Finds a snapshot by its name at the top, or by any unique prefix of its id.
pub(super) fn find<'a>(folders: &'a [Folder], name: &[u8]) -> Option<&'a Folder> {
    let digits = name.iter().all(u8::is_ascii_hexdigit);
    if !digits || name.len() < PREFIX {
        return None;
    }
    let prefix = String::from_utf8_lossy(name).to_ascii_lowercase();
    let mut fitting = folders.iter().filter(|folder| folder.snapshot.id.to_hex().starts_with(&prefix));
    let found = fitting.next();
    if fitting.next().is_some() { None } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::format::snapshot::Header;

    fn folder(id: [u8; 32]) -> Folder {
        let header = Header::new(Id(id), Timestamp::EPOCH);
        Folder { name: String::new(), snapshot: Arc::new(SnapshotInfo { id: Id(id), header }) }
    }

    #[test]
    fn names_are_as_long_as_they_must_be() {
        let (mut one, mut two) = ([0xab; 32], [0xab; 32]);
        assert_eq!(digits(&[]), 8);
        assert_eq!(digits(&[Id(one)]), 8);
        two[31] = 0xac;
        assert_eq!(digits(&[Id(one), Id(two)]), 64);
        one[5] = 0xaf;
        assert_eq!(digits(&[Id(two), Id(one)]), 12);
    }

    #[test]
    fn any_prefix_finds_a_snapshot_unless_it_fits_several() {
        let (one, two) = (folder([0xab; 32]), folder([0xac; 32]));
        let folders = [one, two];
        assert!(find(&folders, b"abab").is_some_and(|found| found.snapshot.id == Id([0xab; 32])));
        assert!(find(&folders, b"ACAC").is_some());
        assert!(find(&folders, Id([0xab; 32]).to_hex().as_bytes()).is_some());
        for wrong in [&b"aba"[..], b"", b"abac", b"abab/", b".git", b"\xff\xff\xff\xff"] {
            assert!(find(&folders, wrong).is_none());
        }
        let same = [folder([1; 32]), folder([1; 32])];
        assert!(find(&same, b"0101").is_none());
    }
}
