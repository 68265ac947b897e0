//! Groups of snapshots that retention decides apart.

use std::str::FromStr;

use super::streams::{self, Stream};
use crate::base::RawString;
use crate::format::snapshot::{Header, Importer, Source};
use crate::snapshot::SnapshotInfo;
use crate::store::blob::BlobSource;

/// One thing that snapshots of a group have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Field {
    Source,
    Kind,
    Host,
    Root,
    Name,
    Category,
    Environment,
    Perimeter,
    Job,
    Tags,
}

const FIELDS: [(&str, Field); 12] = [
    ("source", Field::Source),
    ("type", Field::Kind),
    ("host", Field::Host),
    ("origin", Field::Host),
    ("root", Field::Root),
    ("name", Field::Name),
    ("category", Field::Category),
    ("environment", Field::Environment),
    ("perimeter", Field::Perimeter),
    ("job", Field::Job),
    ("tags", Field::Tags),
    ("tag", Field::Tags),
];

/// What the snapshots of a group have in common.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct GroupBy(Vec<Field>);

/// A text that names no way of grouping.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "snapshots cannot be grouped by '{0}': known are source, type, host, root, name, category, environment, perimeter, job, tags, and none"
)]
pub struct GroupByError(String);

impl GroupBy {
    /// All snapshots are one group.
    pub const NONE: Self = Self(Vec::new());

    /// Returns the group of a snapshot: equal for snapshots of one group. Its tree is read only where a stream is its
    /// source whose name the header does not tell.
    pub fn key<S: BlobSource + ?Sized>(&self, repository: &S, info: &SnapshotInfo) -> Vec<u8> {
        self.key_with(&info.header, &|source| streams::known_by(repository, &info.id, source))
    }

    /// Returns the group by a header; `known_by` names streams that have no name.
    pub(super) fn key_with(&self, header: &Header, known_by: &dyn Fn(&Source) -> Vec<u8>) -> Vec<u8> {
        let mut key = Vec::new();
        for field in &self.0 {
            field.push(header, known_by, &mut key);
        }
        key
    }
}

impl Default for GroupBy {
    /// One group per source: type, host and backed-up root; of a stream its name, too.
    fn default() -> Self {
        Self(vec![Field::Source])
    }
}

impl FromStr for GroupBy {
    type Err = GroupByError;

    fn from_str(text: &str) -> Result<Self, GroupByError> {
        let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if names == ["none"] {
            return Ok(Self::NONE);
        }
        if names.is_empty() {
            return Err(GroupByError(text.to_owned()));
        }
        let field = |name: &&str| {
            let found = FIELDS.iter().find(|(known, _)| known == name).map(|(_, field)| *field);
            found.ok_or_else(|| GroupByError((*name).to_owned()))
        };
        names.iter().map(field).collect::<Result<_, _>>().map(Self)
    }
}

impl Field {
    fn push(self, header: &Header, known_by: &dyn Fn(&Source) -> Vec<u8>, key: &mut Vec<u8>) {
        match self {
            Self::Source => {
                for field in [Self::Kind, Self::Host, Self::Root] {
                    field.push(header, known_by, key);
                }
            }
            Self::Kind => sources(header, key, |importer| &importer.kind),
            Self::Host => sources(header, key, |importer| streams::split(importer).0),
            Self::Root => {
                sources(header, key, |importer| &importer.directory);
                stream_names(header, known_by, key);
            }
            Self::Name => one(key, &header.name),
            Self::Category => one(key, &header.category),
            Self::Environment => one(key, &header.environment),
            Self::Perimeter => one(key, &header.perimeter),
            Self::Job => one(key, &header.job),
            Self::Tags => {
                let mut tags: Vec<&[u8]> = header.tags().iter().map(RawString::as_bytes).collect();
                tags.sort_unstable();
                tags.dedup();
                one(key, &tags.len().to_le_bytes());
                for tag in tags {
                    one(key, tag);
                }
            }
        }
    }
}

fn sources(header: &Header, key: &mut Vec<u8>, part: impl Fn(&Importer) -> &[u8]) {
    one(key, &header.sources().len().to_le_bytes());
    for source in header.sources() {
        one(key, part(&source.importer));
    }
}

/// Appends what tells streams apart, whose root is always `/`.
fn stream_names(header: &Header, known_by: &dyn Fn(&Source) -> Vec<u8>, key: &mut Vec<u8>) {
    for source in header.sources() {
        match streams::split(&source.importer).1 {
            None => one(key, b""),
            Some(Stream::Named(name)) => one(key, name),
            Some(Stream::Nameless) => one(key, &known_by(source)),
        }
    }
}

/// Appends a part with its length, so that parts cannot run into one another.
fn one(key: &mut Vec<u8>, part: &[u8]) {
    key.extend_from_slice(&part.len().to_le_bytes());
    key.extend_from_slice(part);
}
