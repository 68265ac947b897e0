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

/// Reads the header of a snapshot. Its identifier must be the id, and an announced signature must fit.
pub fn header(repository: &Repository, id: &Id) -> Result<Header, Error> {
    let bytes = repository.get(BlobType::SNAPSHOT, id)?;
    let header = Header::decode(&bytes)?;
    if header.identifier != *id {
        return Err(Error::corrupt(format!("snapshot {id}"), id, header.identifier));
    }
    if header.identity.is_signed() {
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
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for id in repository.catalogue().snapshots() {
        match header(repository, &id) {
            Ok(header) => found.push(SnapshotInfo { id, header }),
            Err(error) => failed.push((id, error)),
        }
    }
    found.sort_by_key(|info| (info.header.timestamp, info.id));
    (found, failed)
}

/// Finds a snapshot by a unique hexadecimal prefix of its id, or the latest by `latest`.
pub fn find(repository: &Repository, name: &str) -> Result<SnapshotInfo, Error> {
    if name == "latest" {
        let (mut found, mut failed) = list(repository);
        return match (found.pop(), failed.pop()) {
            (Some(latest), _) => Ok(latest),
            (None, Some((_, error))) => Err(error),
            (None, None) => Err(Error::NoSnapshot("latest: the store holds none".into())),
        };
    }
    let prefix = name.to_ascii_lowercase();
    let is_prefix = !prefix.is_empty() && prefix.bytes().all(|digit| digit.is_ascii_hexdigit());
    let ids = repository.catalogue().snapshots();
    let mut matches = ids.into_iter().filter(|id| is_prefix && id.to_hex().starts_with(&prefix));
    match (matches.next(), matches.next()) {
        (Some(id), None) => Ok(SnapshotInfo { id, header: header(repository, &id)? }),
        (Some(_), Some(_)) => Err(Error::Ambiguous(name.to_owned())),
        (None, _) => Err(Error::NoSnapshot(name.to_owned())),
    }
}
