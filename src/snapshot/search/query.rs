//! What is looked for.

use std::ops::RangeInclusive;

use crate::base::Timestamp;
use crate::format::entry::{Entry, Mode};

use super::pattern::Patterns;

/// The kind of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A regular file or an object.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device.
    Special,
}

impl EntryKind {
    /// Returns the kind of a mode.
    pub fn of(mode: Mode) -> Self {
        match mode {
            mode if mode.is_regular() => Self::File,
            mode if mode.is_dir() => Self::Folder,
            mode if mode.is_symlink() => Self::Link,
            _ => Self::Special,
        }
    }
}

/// A key of custom metadata, and what its value has to be like.
#[derive(Clone, Debug, Default)]
pub struct MetadataPattern {
    /// The key (FORMAT.md, "Metadata of foreign kinds"); `s3.` and `s3.meta.` may be left out.
    pub key: String,
    /// Patterns of the value; none if any value will do.
    pub value: Patterns,
}

impl MetadataPattern {
    fn fits(&self, entry: &Entry) -> bool {
        let user = format!("s3.meta.{}", self.key.to_ascii_lowercase());
        let keys = [self.key.clone(), format!("s3.{}", self.key), user];
        keys.iter().filter_map(|key| entry.metadata(key)).any(|value| self.value.allow(value))
    }
}

/// What is looked for. Every part that is given has to fit; an empty query finds everything.
#[derive(Clone, Debug, Default)]
pub struct SearchQuery {
    /// Patterns of the last component of the path.
    pub names: Patterns,
    /// Patterns of the whole path. Where there are names, too, one of either has to fit.
    pub paths: Patterns,
    /// Sizes in bytes; only files have one.
    pub sizes: Vec<RangeInclusive<u64>>,
    /// Only what was modified after this.
    pub newer: Option<Timestamp>,
    /// Only what was modified before this.
    pub older: Option<Timestamp>,
    /// Patterns of the content type, parameters left aside.
    pub content_types: Patterns,
    /// Custom metadata.
    pub metadata: Vec<MetadataPattern>,
    /// Kinds, any of which will do.
    pub kinds: Vec<EntryKind>,
}

impl SearchQuery {
    /// Returns whether an entry is what is looked for.
    pub fn fits(&self, entry: &Entry) -> bool {
        self.fits_but_type(entry)
            && (self.content_types.is_empty() || self.content_types.fit(mime(&entry.content_type)))
    }

    /// The same without a look at the content type.
    pub(super) fn fits_but_type(&self, entry: &Entry) -> bool {
        let info = &entry.info;
        let size = u64::try_from(info.size).unwrap_or(0);
        (self.kinds.is_empty() || self.kinds.contains(&EntryKind::of(info.mode)))
            && (self.sizes.is_empty() || info.mode.is_regular())
            && self.sizes.iter().all(|range| range.contains(&size))
            && self.newer.is_none_or(|time| info.modified > time)
            && self.older.is_none_or(|time| info.modified < time)
            && self.metadata.iter().all(|pattern| pattern.fits(entry))
            && self.fits_name(&info.name, || entry.path().into_bytes())
    }

    fn fits_name(&self, name: &[u8], path: impl FnOnce() -> Vec<u8>) -> bool {
        match (self.names.is_empty(), self.paths.is_empty()) {
            (true, true) => true,
            _ => self.names.fit(name) || (!self.paths.is_empty() && self.paths.fit(&path())),
        }
    }

    /// Returns whether a path could be that of something looked for.
    pub(super) fn fits_path(&self, path: &[u8]) -> bool {
        self.fits_name(crate::format::path::name(path), || path.to_vec())
    }
}

/// Returns a content type without its parameters.
pub(super) fn mime(content_type: &[u8]) -> &[u8] {
    content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{CustomMetadata, FileInfo};

    fn entry() -> Entry {
        let mut info = FileInfo::new("Photo.JPG", Mode::regular(0o644));
        info.size = 1000;
        info.modified = Timestamp::from_secs(100);
        let mut entry = Entry::new("/bucket/2025", info);
        entry.content_type = "image/jpeg; q=1".into();
        let item = |key: &str, value: &str| CustomMetadata { key: key.into(), value: value.into() };
        entry.metadata = vec![item("s3.meta.owner", "ann"), item("s3.storage-class", "GLACIER")];
        entry
    }

    fn finds(change: impl FnOnce(&mut SearchQuery)) -> bool {
        let mut query = SearchQuery::default();
        change(&mut query);
        query.fits(&entry())
    }

    #[test]
    fn every_part_narrows() {
        let texts = |text: &str| Patterns::texts([text], false).unwrap();
        assert!(finds(|_| {}));
        assert!(finds(|query| query.names = texts("*.JPG")) && !finds(|query| query.names = texts("*.jpg")));
        assert!(finds(|query| query.paths = Patterns::paths(["/bucket/**"], false).unwrap()));
        assert!(
            finds(|query| query.sizes = vec![0..=1000])
                && !finds(|query| query.sizes = vec![1001..=u64::MAX])
        );
        assert!(!finds(|query| query.sizes = vec![0..=5000, 0..=10]));
        assert!(finds(|query| query.newer = Some(Timestamp::from_secs(99))));
        assert!(!finds(|query| query.newer = Some(Timestamp::from_secs(100))));
        assert!(!finds(|query| query.older = Some(Timestamp::from_secs(100))));
        assert!(finds(|query| query.content_types = texts("image/*")));
        assert!(!finds(|query| query.content_types = texts("text/*")));
        assert!(finds(|query| query.kinds = vec![EntryKind::Link, EntryKind::File]));
        assert!(!finds(|query| query.kinds = vec![EntryKind::Folder]));
    }

    #[test]
    fn keys_of_metadata_may_be_short() {
        let meta = |key: &str, value: Option<&str>| {
            let value =
                value.map_or_else(Patterns::default, |value| Patterns::texts([value], false).unwrap());
            finds(|query| query.metadata = vec![MetadataPattern { key: key.into(), value }])
        };
        assert!(meta("s3.meta.owner", Some("a*")) && meta("Owner", Some("ann")) && meta("owner", None));
        assert!(meta("storage-class", Some("GLACIER")) && !meta("storage-class", Some("STANDARD")));
        assert!(!meta("nothing", None));
    }
}
