//! A second snapshot of the same content.

use std::sync::Arc;

use crate::base::{Id, RawString, Timestamp};
use crate::crypto::random;
use crate::format::snapshot::Identity;
use crate::store::{CheckpointPolicy, Error, Repository, Writer};

use super::backup::{begun, note_begun, put_header};
use super::catalogue::SnapshotInfo;
use super::monitor::{Event, Monitor};

/// What a duplicate says other than its original; what is `None` stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DuplicateOptions {
    /// Its name.
    pub name: Option<String>,
    /// A label.
    pub category: Option<String>,
    /// A label.
    pub environment: Option<String>,
    /// A label.
    pub perimeter: Option<String>,
    /// A label.
    pub job: Option<String>,
    /// All of its tags.
    pub tags: Option<Vec<String>>,
}

/// Commits a snapshot that refers to the trees of another, with an id and a time of its own: removing one leaves the
/// other whole. A signature covers the old header and is not carried over. Returns the id.
pub fn duplicate(
    repository: &Arc<Repository>,
    original: &SnapshotInfo,
    options: &DuplicateOptions,
    monitor: &dyn Monitor,
) -> Result<Id, Error> {
    let id = random::id();
    let writer = Writer::open(repository, id, CheckpointPolicy::default(), None)?;
    // Nothing that is live now can be swept while the session's lock stands; what was removed before it stood could.
    if !repository.reload()?.has_snapshot(&original.id) {
        return Err(Error::NoSnapshot(original.id.to_hex()));
    }
    let mut header = original.header.clone();
    header.identifier = id;
    header.timestamp = Timestamp::now();
    // What changed since the content was read is what the next backup asks; the copy is younger than that.
    note_begun(&mut header, begun(&original.header));
    header.identity = Identity::default();
    let set = |field: &mut RawString, value: &Option<String>| {
        if let Some(value) = value {
            *field = value.as_str().into();
        }
    };
    set(&mut header.name, &options.name);
    set(&mut header.category, &options.category);
    set(&mut header.environment, &options.environment);
    set(&mut header.perimeter, &options.perimeter);
    set(&mut header.job, &options.job);
    if let Some(tags) = &options.tags {
        header.tags = Some(tags.iter().map(|tag| tag.as_str().into()).collect());
    }
    put_header(&writer, id, &header.encode())?;
    writer.commit()?;
    monitor.event(&Event::Committed { snapshot: id });
    // The snapshot is committed; what follows only spares the next look some work.
    let _ = repository.refresh_after_commit();
    Ok(id)
}
