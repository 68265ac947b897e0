//! Which snapshots there are.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::base::Id;
use crate::format::blob::BlobType;
use crate::format::snapshot::Header;
use crate::store::blob::BlobSource;
use crate::store::{Error, Repository};

/// A snapshot with its header.
#[derive(Clone, PartialEq, Debug)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: Id,
    /// Its header.
    pub header: Header,
}

impl SnapshotInfo {
    /// Returns how many files and folders it holds, as its summaries count them.
    pub fn item_count(&self) -> u64 {
        let summaries = self.header.sources().iter().map(|source| &source.summary);
        summaries.fold(0, |sum, summary| {
            sum.saturating_add(summary.total_files()).saturating_add(summary.total_directories())
        })
    }
}

/// What becomes of the signature that a header announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Signatures {
    /// It must be there and fit.
    #[default]
    Verify,
    /// It is not looked at.
    Ignore,
}

/// Reads the header of a snapshot. Its identifier must be the id, and an announced signature must fit.
pub fn header(repository: &Repository, id: &Id) -> Result<Header, Error> {
    header_with(repository, id, Signatures::Verify)
}

fn header_with(repository: &Repository, id: &Id, signatures: Signatures) -> Result<Header, Error> {
    let bytes = repository.get(BlobType::SNAPSHOT, id)?;
    let header = Header::decode(&bytes)?;
    if header.identifier != *id {
        return Err(Error::corrupt(format!("snapshot {id}"), id, header.identifier));
    }
    if signatures == Signatures::Verify && header.identity.is_signed() {
        verify_signature(repository, id, &header, &bytes)?;
    }
    Ok(header)
}

/// Verifies the signature over MAC(header) as it is stored.
fn verify_signature(repository: &Repository, id: &Id, header: &Header, bytes: &[u8]) -> Result<(), Error> {
    let signature = repository.get(BlobType::SIGNATURE, id)?;
    let wrong = |what: &str| Error::malformed(&format!("the signature of snapshot {id}"), what);
    let key: [u8; 32] =
        header.identity.public_key.as_slice().try_into().map_err(|_| wrong("its key is not 32 bytes"))?;
    let key = VerifyingKey::from_bytes(&key).map_err(|_| wrong("its key is not a point"))?;
    let signature = Signature::from_slice(&signature).map_err(|_| wrong("it is not 64 bytes"))?;
    let signed = repository.mac(bytes);
    key.verify_strict(signed.as_bytes(), &signature).map_err(|_| wrong("it does not fit the header"))
}

/// Lists the live snapshots, oldest first. A header that cannot be read is returned beside the others.
pub fn list(repository: &Repository) -> (Vec<SnapshotInfo>, Vec<(Id, Error)>) {
    list_with(repository, Signatures::Verify)
}

/// Lists as [`list`] does, and does with signatures what is asked for.
pub fn list_with(repository: &Repository, signatures: Signatures) -> (Vec<SnapshotInfo>, Vec<(Id, Error)>) {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for id in repository.catalogue().snapshots() {
        match header_with(repository, &id, signatures) {
            Ok(header) => found.push(SnapshotInfo { id, header }),
            Err(error) => failed.push((id, error)),
        }
    }
    found.sort_by_key(|info| (info.header.timestamp, info.id));
    (found, failed)
}

/// Fails if what cannot be read may be a later snapshot than the latest of those that can: the snapshots of
/// `unreadable` headers, and those that a damaged state may name. An older one is never taken for the latest in
/// silence.
///
/// A header's time is that of the run's beginning. A snapshot that was committed before `latest` was begun is older
/// than that, and so is whatever a state names that was written before.
///
/// # Errors
/// [`Error::LatestUnreadable`] names what may be later.
pub fn assert_latest(
    repository: &Repository,
    latest: &SnapshotInfo,
    unreadable: impl IntoIterator<Item = Id>,
) -> Result<(), Error> {
    let begun = latest.header.timestamp.unix_nanos();
    let fail = |what: String| Err(Error::LatestUnreadable { what, readable: latest.id });
    let catalogue = repository.catalogue();
    for id in unreadable {
        if catalogue.committed_at(&id)?.is_none_or(|committed| committed >= begun) {
            return fail(format!("snapshot {}", id.short()));
        }
    }
    match repository
        .damaged_states()
        .iter()
        .find(|(_, written)| written.is_none_or(|written| written >= begun))
    {
        Some((id, _)) => fail(format!("state {}", id.short())),
        None => Ok(()),
    }
}

/// Finds a snapshot by a unique hexadecimal prefix of its id, or the latest by `latest`.
pub fn find(repository: &Repository, name: &str) -> Result<SnapshotInfo, Error> {
    find_with(repository, name, Signatures::Verify)
}

/// Finds as [`find`] does, and does with signatures what is asked for.
pub fn find_with(repository: &Repository, name: &str, signatures: Signatures) -> Result<SnapshotInfo, Error> {
    if name == "latest" {
        let (mut found, mut failed) = list_with(repository, signatures);
        return match (found.pop(), failed.pop()) {
            (Some(latest), last) => {
                failed.extend(last);
                assert_latest(repository, &latest, failed.iter().map(|(id, _)| *id))?;
                Ok(latest)
            }
            (None, Some((_, error))) => Err(error),
            (None, None) => Err(Error::NoSnapshot("latest: the store holds none".into())),
        };
    }
    let prefix = name.to_ascii_lowercase();
    let is_prefix = !prefix.is_empty() && prefix.bytes().all(|digit| digit.is_ascii_hexdigit());
    let ids = repository.catalogue().snapshots();
    let mut matches = ids.into_iter().filter(|id| is_prefix && id.to_hex().starts_with(&prefix));
    match (matches.next(), matches.next()) {
        (Some(id), None) => Ok(SnapshotInfo { id, header: header_with(repository, &id, signatures)? }),
        (Some(_), Some(_)) => Err(Error::Ambiguous(name.to_owned())),
        (None, _) => Err(Error::NoSnapshot(name.to_owned())),
    }
}
