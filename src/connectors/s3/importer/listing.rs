//! Records from listings: of objects, of versions, of the folders above them.

use std::ops::ControlFlow;

use super::super::client::{Listed, Version};
use super::super::metadata;
use super::super::names::{path_of, version_path};
use crate::base::{RawString, Timestamp};
use crate::connector::Record;
use crate::format::entry::{FileInfo, Mode, marked_device};

/// An object's mode, as upstream's S3 source reports it.
const FILE_MODE: Mode = Mode::regular(0o700);
/// A delete marker's: none of the types that a restore knows.
const MARKER_MODE: Mode = Mode::IRREGULAR;
/// A folder's mode, as upstream makes it.
const FOLDER_MODE: Mode = Mode::dir(0o750);

fn name_of(path: &[u8]) -> RawString {
    RawString::from(path.rsplit(|&byte| byte == b'/').next().unwrap_or_default())
}

/// Reports `/` and every folder down to the root.
pub(super) fn folders(root: &RawString, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> ControlFlow<()> {
    emit(folder(RawString::from("/"), RawString::from("/")))?;
    let ends = root.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends.chain((root.len() > 1).then_some(root.len())) {
        let path = &root[..end];
        emit(folder(RawString::from(path), name_of(path)))?;
    }
    ControlFlow::Continue(())
}

fn folder(path: RawString, name: RawString) -> Record {
    let info = FileInfo { modified: Timestamp::EPOCH, ..FileInfo::new(name, FOLDER_MODE) };
    Record { path, info: Ok(info), symlink_target: None, metadata: Vec::new(), locator: Vec::new() }
}

/// Makes the record of an object.
pub(super) fn object(object: Listed) -> Record {
    let path = path_of(&object.key);
    let metadata = metadata::from_listing(&object);
    record(path, FILE_MODE, object, metadata)
}

fn record(path: RawString, mode: Mode, object: Listed, metadata: Vec<crate::connector::Metadata>) -> Record {
    let modified =
        object.time().map_or(Timestamp::EPOCH, |time| Timestamp::from(std::time::SystemTime::from(time)));
    let info = FileInfo {
        size: i64::try_from(object.size).unwrap_or(i64::MAX),
        modified,
        // The entry will carry metadata of ours.
        device: marked_device(0),
        ..FileInfo::new(name_of(&path), mode)
    };
    Record { info: Ok(info), path, symlink_target: None, metadata, locator: object.key }
}

/// Makes records of versions in the order of their listing: the newest of a key first.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// Key and time of the version before, and how many of that time came before it.
    last: Option<(Vec<u8>, String, u64)>,
}

impl Versions {
    /// Makes the record of a version. The latest version of an object that was not deleted stands at the key's
    /// path; all others in the folder of old versions.
    pub(super) fn record(&mut self, version: Version) -> Record {
        let Version { object, id, is_latest, is_delete_marker } = version;
        let rank = match &self.last {
            Some((key, time, rank)) if *key == object.key && *time == object.modified => rank + 1,
            _ => 0,
        };
        self.last = Some((object.key.clone(), object.modified.clone(), rank));
        let mut metadata = metadata::from_listing(&object);
        if is_delete_marker {
            metadata.retain(|item| item.key == *metadata::KEY || item.key == *metadata::LAST_MODIFIED);
            metadata.push(metadata::item(metadata::DELETE_MARKER, "true"));
        }
        metadata.push(metadata::item(metadata::VERSION_ID, id.as_str()));
        metadata.push(metadata::item(metadata::IS_LATEST, is_latest.to_string()));
        metadata.push(metadata::item(metadata::VERSION_RANK, rank.to_string()));
        metadata::sort(&mut metadata);
        if is_latest && !is_delete_marker {
            return record(path_of(&object.key), FILE_MODE, object, metadata);
        }
        let path = version_path(&object.key, id.as_bytes());
        record(path, if is_delete_marker { MARKER_MODE } else { FILE_MODE }, object, metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_beside_the_tree_in_an_order() {
        let mut versions = Versions::default();
        let mut record = |id: &str, time: &str, is_latest, is_delete_marker| {
            let object = Listed {
                key: b"a/b".to_vec(),
                size: 1,
                etag: "e".into(),
                modified: time.into(),
                class: String::new(),
            };
            versions.record(Version { object, id: id.into(), is_latest, is_delete_marker })
        };
        let latest = record("3", "2026-01-01T00:00:01.000Z", true, false);
        let marker = record("..", "2026-01-01T00:00:01.000Z", false, true);
        let oldest = record("1", "2026-01-01T00:00:00.000Z", false, false);
        let get =
            |record: &Record, key| metadata::get(&record.metadata, key).map(|v| v.escape_ascii().to_string());
        assert_eq!(latest.path.as_bytes(), b"/a/b");
        assert_eq!(marker.path.as_bytes(), b"/%~%versions/%~a%2Fb/%~%2E%2E");
        assert_eq!(oldest.path.as_bytes(), b"/%~%versions/%~a%2Fb/1");
        assert!(!marker.info.as_ref().unwrap().mode.is_regular());
        assert_eq!(get(&marker, metadata::ETAG), None);
        let ranks = [&latest, &marker, &oldest].map(|record| get(record, metadata::VERSION_RANK).unwrap());
        assert_eq!(ranks, ["0", "1", "0"]);
    }
}
