//! Removing snapshots: a state that colours them. Nothing else changes; maintenance reclaims the space.

use crate::base::{Id, Timestamp};
use crate::crypto::random;
use crate::format::state::{Coloured, StateEntry};
use crate::format::version::Version;

use super::error::Error;
use super::repository::Repository;
use super::state::{StateHead, put_state};

/// Removes snapshots from what is live, in one state. Takes no lock: nothing that others rely on is touched.
pub fn remove_snapshots(repository: &Repository, snapshots: &[Id]) -> Result<(), Error> {
    repository.check_writable()?;
    let now = Timestamp::now().unix_nanos();
    let version = repository.state_version();
    let head = StateHead {
        id: random::id(),
        version,
        parent: repository.catalogue().newest(),
        timestamp: now,
        serial: if version > Version::V1_0_0 { [0; 16] } else { repository.config().repository_id },
    };
    let mut bytes = Vec::new();
    for id in snapshots {
        StateEntry::Coloured(Coloured::snapshot(*id, now)).encode(&mut bytes);
    }
    let (keys, encoding) = (repository.keys(), repository.encoding());
    put_state(repository.storage().as_ref(), keys, encoding, &head, &mut |out| out.write_all(&bytes))?;
    repository.reload()?;
    Ok(())
}
