//! The header of a snapshot in the making.

use crate::base::{Id, RawString, Timestamp};
use crate::connector::SourceInfo;
use crate::format::snapshot::{Header, Importer, KeyValue, Source};

use super::super::vfs::build::Built;

/// What the caller says of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeaderOptions {
    /// Its name; empty for `default`.
    pub name: String,
    /// A label.
    pub category: String,
    /// A label.
    pub environment: String,
    /// A label.
    pub perimeter: String,
    /// A label.
    pub job: String,
    /// A label of the source's option of that name.
    pub data_classes: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Facts about the run: host, user, command line.
    pub context: Vec<(String, String)>,
    /// Stands for the time of the backup.
    pub timestamp: Option<Timestamp>,
}

/// Context key of the time a run really began, in Unix nanoseconds, where the header's time was given.
const BEGUN: &str = "Begun";

/// Returns when the run that made a snapshot began.
pub(in super::super) fn begun(header: &Header) -> Timestamp {
    let given = header.context.iter().flatten().find(|pair| pair.key == BEGUN);
    let nanos = given.and_then(|pair| pair.value.as_str()?.parse().ok());
    nanos.map_or(header.timestamp, Timestamp::from_unix_nanos)
}

/// Notes when the run that read the content began, in a header whose time says something else.
pub(in super::super) fn note_begun(header: &mut Header, begun: Timestamp) {
    let context = header.context.get_or_insert_default();
    context.retain(|pair| pair.key != BEGUN);
    context.push(KeyValue { key: BEGUN.into(), value: begun.unix_nanos().to_string().into() });
}

/// Makes the header of a finished view.
pub(super) fn make(
    id: Id,
    begun: Timestamp,
    duration: i64,
    options: &HeaderOptions,
    source: &SourceInfo,
    context: &[(String, String)],
    built: &Built,
) -> Header {
    let mut header = Header::new(id, options.timestamp.unwrap_or(begun));
    header.duration = duration;
    if !options.name.is_empty() {
        header.name = options.name.as_str().into();
    }
    header.category = options.category.as_str().into();
    header.environment = options.environment.as_str().into();
    header.perimeter = options.perimeter.as_str().into();
    header.job = options.job.as_str().into();
    header.data_classes = Some(raw(&options.data_classes));
    header.tags = Some(raw(&options.tags));
    header.context = Some(key_values(&options.context));
    if options.timestamp.is_some() {
        note_begun(&mut header, begun);
    }
    let importer = Importer {
        kind: source.kind.as_str().into(),
        origin: source.origin.as_str().into(),
        directory: source.root.clone(),
    };
    header.sources = Some(vec![source_of(importer, key_values(context), built)]);
    header
}

/// Makes the source part of a header.
pub(in super::super) fn source_of(importer: Importer, context: Vec<KeyValue>, built: &Built) -> Source {
    Source {
        importer,
        context: Some(context),
        root: built.roots,
        indexes: Some(built.indexes.clone()),
        summary: built.summary.clone(),
    }
}

fn raw(texts: &[String]) -> Vec<RawString> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn key_values(pairs: &[(String, String)]) -> Vec<KeyValue> {
    pairs
        .iter()
        .map(|(key, value)| KeyValue { key: key.as_str().into(), value: value.as_str().into() })
        .collect()
}
