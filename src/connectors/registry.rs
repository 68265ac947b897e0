//! Which connectors are built in, and how a location becomes one.

use std::fmt;

use super::location::{Kind, Location, Role};
use super::options::Options;
use crate::connector::{Error, ErrorKind, Exporter, Importer, Result, Storage};

/// What opening needs to know besides the location and its options.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// The most requests at a time; `None` lets the connector choose.
    pub concurrency: Option<usize>,
    /// Whether local files may be read through memory maps.
    pub no_mmap: bool,
}

/// Returns the schemes that can be used in a role with what is compiled in, sorted.
pub fn available(role: Role) -> Vec<&'static str> {
    Kind::ALL.into_iter().filter(|kind| is_built(*kind, role)).map(Kind::scheme).collect()
}

fn is_built(_kind: Kind, _role: Role) -> bool {
    false
}

fn missing(location: &Location, role: Role) -> Error {
    Error::new(ErrorKind::Unsupported, "open", location.to_string()).detail(format!(
        "{} locations cannot be used as a {} yet",
        location.kind().scheme(),
        role.noun()
    ))
}

/// Opens the place of a store. Nothing need be there yet.
pub fn open_storage(location: &Location, _options: &Options, _limits: &Limits) -> Result<Box<dyn Storage>> {
    Err(missing(location, Role::Store))
}

/// Opens what is to be backed up.
pub fn open_importer(location: &Location, _options: &Options, _limits: &Limits) -> Result<Box<dyn Importer>> {
    Err(missing(location, Role::Source))
}

/// Opens where a restore goes.
pub fn open_exporter(location: &Location, _options: &Options, _limits: &Limits) -> Result<Box<dyn Exporter>> {
    Err(missing(location, Role::Destination))
}

/// What a place answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// There is a store.
    Store,
    /// The place can be reached, but holds no store.
    NoStore,
    /// The source or destination can be opened.
    Opened,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "answers, and holds a store",
            Self::NoStore => "answers, and holds no store yet",
            Self::Opened => "answers",
        })
    }
}

/// Tries to reach a place.
pub fn ping(location: &Location, options: &Options, role: Role) -> Result<Answer> {
    let limits = Limits::default();
    match role {
        Role::Store => match open_storage(location, options, &limits)?.config() {
            Ok(_) => Ok(Answer::Store),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Answer::NoStore),
            Err(error) => Err(error),
        },
        Role::Source => {
            let importer = open_importer(location, options, &limits)?;
            let mut failed = None;
            importer.scan(&mut |record| {
                failed = record.info.err();
                std::ops::ControlFlow::Break(())
            })?;
            failed.map_or(Ok(Answer::Opened), Err)
        }
        Role::Destination => open_exporter(location, options, &limits).map(|_| Answer::Opened),
    }
}
