//! Which connectors are built in, and how a location becomes one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::fs::Existing;
use super::location::{Kind, Location, Role};
use super::notices::Notices;
use super::options::{OptionError, Options, for_connector};
use super::{fs, ftp, http, ptar, s3, sftp, sqlite, stdio, tar};
use crate::base::Cancel;
use crate::connector::{
    ArchiveSink, Error, ErrorKind, Exporter, Importer, Order, Readiness, Result, Storage,
};

/// What opening needs to know besides the location and its options.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// The most requests at a time; `None` lets the connector choose.
    pub concurrency: Option<usize>,
    /// Whether local files may not be read through memory maps.
    pub no_mmap: bool,
    /// Where warnings go.
    pub notices: Notices,
    /// The memory of the run, in bytes; connectors take a sixth at most. `None` lets the connector choose.
    pub memory: Option<u64>,
    /// Ends what waits for a server.
    pub cancel: Cancel,
}

/// What is read of a source.
#[derive(Clone, Debug, Default)]
pub struct ImportSettings {
    /// Patterns in gitignore's syntax of what is left out.
    pub excludes: Vec<String>,
    /// Files of such patterns.
    pub ignore_files: Vec<PathBuf>,
    /// Whether metadata that listings do not show is read again.
    pub recheck: bool,
    /// Whether files are compared without their ctime.
    pub ignore_ctime: bool,
    /// Whether what lies in cold storage is retrieved, and waited for.
    pub retrieve: bool,
}

/// How something is restored.
#[derive(Clone, Debug, Default)]
pub struct ExportSettings {
    /// What is done with existing files.
    pub existing: Existing,
    /// Whether owners, modes and times are left alone.
    pub skip_permissions: bool,
    /// Whether empty folders become objects in a bucket.
    pub folder_markers: bool,
}

/// Returns the schemes that can be used in a role with what is compiled in, sorted.
pub fn available(role: Role) -> Vec<&'static str> {
    Kind::ALL.into_iter().filter(|kind| is_built(*kind, role)).map(Kind::scheme).collect()
}

fn is_built(kind: Kind, role: Role) -> bool {
    match role {
        Role::Store => !matches!(kind, Kind::Ftp | Kind::Stdin | Kind::Stdout | Kind::Tar),
        Role::Source => {
            matches!(kind, Kind::Fs | Kind::Ftp | Kind::S3 | Kind::Sftp | Kind::Stdin | Kind::Tar)
        }
        Role::Destination => matches!(kind, Kind::Fs | Kind::Ftp | Kind::S3 | Kind::Sftp | Kind::Stdout),
    }
}

fn missing(location: &Location, role: Role) -> Error {
    let scheme = location.kind().scheme();
    let archive = match location.kind() {
        Kind::Http | Kind::Https => format!("; an archive on a web server is ptar+{scheme}://…"),
        _ => String::new(),
    };
    Error::new(ErrorKind::Unsupported, "open", location.to_string())
        .detail(format!("{scheme} cannot be used as a {} yet{archive}", role.noun()))
}

/// Opens the place of a store. Nothing need be there yet, an archive excepted.
pub fn open_storage(location: &Location, options: &Options, limits: &Limits) -> Result<Arc<dyn Storage>> {
    match (location.kind(), location.path(), location.url()) {
        (Kind::Fs, Some(path), _) if path.is_file() => {
            // An archive whose name does not say so.
            Ok(Arc::new(ptar::PtarStore::open(absolute(path)?, !limits.no_mmap)?))
        }
        (Kind::Fs, Some(path), _) => {
            Ok(Arc::new(fs::FsStore::new(absolute(path)?).with_mmap(!limits.no_mmap)))
        }
        (Kind::Ptar, Some(path), _) => Ok(Arc::new(ptar::PtarStore::open(absolute(path)?, !limits.no_mmap)?)),
        (Kind::Sqlite, Some(path), _) => {
            Ok(Arc::new(sqlite::SqliteStore::new(absolute(path)?, limits.memory, limits.cancel.clone())))
        }
        (Kind::S3, _, Some(url)) if location.names_archive() => {
            Ok(Arc::new(s3::S3Archive::open(s3_options(url, options, limits)?)?))
        }
        (Kind::S3, _, Some(url)) => Ok(Arc::new(s3::S3Store::new(s3_options(url, options, limits)?)?)),
        (Kind::Http | Kind::Https, _, Some(url)) => {
            Ok(Arc::new(http::HttpStore::new(url, http_options(location, options, limits)?)?))
        }
        (Kind::Sftp, _, Some(url)) if location.names_archive() => {
            Ok(Arc::new(sftp::SftpArchive::open(sftp_options(url, options, limits)?)?))
        }
        (Kind::Sftp, _, Some(url)) => Ok(Arc::new(sftp::SftpStore::new(sftp_options(url, options, limits)?))),
        (Kind::PtarHttp | Kind::PtarHttps, _, Some(url)) => {
            Ok(Arc::new(http::HttpArchive::open(url, http::Patience::default(), limits.cancel.clone())?))
        }
        _ => Err(missing(location, Role::Store)),
    }
}

/// Asks whether an archive at a location can be read, and with an `order` for its retrieval, should it be in cold
/// storage. `None` where there is no such thing.
pub fn archive_readiness(
    location: &Location,
    options: &Options,
    limits: &Limits,
    order: Option<&Order>,
) -> Result<Option<Readiness>> {
    match (location.kind(), location.url()) {
        (Kind::S3, Some(url)) if location.names_archive() => {
            s3::archive_readiness(s3_options(url, options, limits)?, order).map(Some)
        }
        _ => Ok(None),
    }
}

/// Opens what is to be backed up. Several locations are possible for folders only; they become one source.
pub fn open_importer(
    locations: &[&Location],
    options: &Options,
    limits: &Limits,
    settings: &ImportSettings,
) -> Result<Box<dyn Importer>> {
    if let [location] = locations
        && let (Kind::S3, Some(url)) = (location.kind(), location.url())
    {
        let import = s3::ImportOptions {
            excludes: settings.excludes.clone(),
            ignore_files: settings.ignore_files.clone(),
            recheck: settings.recheck,
            retrieve: settings.retrieve,
        };
        return Ok(Box::new(s3::S3Importer::with(s3_options(url, options, limits)?, &import)?));
    }
    if let [location] = locations
        && let Some(path) = location.path()
    {
        match location.kind() {
            Kind::Stdin => return Ok(Box::new(stdio::StdinImporter::open(path, limits.cancel.clone())?)),
            Kind::Tar => {
                let tar = tar::ImportOptions {
                    excludes: settings.excludes.clone(),
                    ignore_files: settings.ignore_files.clone(),
                    memory: limits.memory,
                    cancel: limits.cancel.clone(),
                };
                return Ok(Box::new(tar::TarImporter::open(path, &tar)?));
            }
            _ => {}
        }
    }
    if let [location] = locations
        && let (Kind::Sftp, Some(url)) = (location.kind(), location.url())
    {
        let opened = sftp_options(url, options, limits)?;
        return Ok(Box::new(sftp::SftpImporter::open(opened, &settings.ignore_files, &settings.excludes)?));
    }
    if let [location] = locations
        && let (Kind::Ftp, Some(url)) = (location.kind(), location.url())
    {
        let opened = ftp_options(url, options, limits)?;
        let importer = ftp::FtpImporter::open(opened, &settings.ignore_files, &settings.excludes)?;
        tell_of_plain(location, options, importer.is_plain(), limits);
        return Ok(Box::new(importer));
    }
    if let Some(odd) = locations.iter().find(|location| location.kind() != Kind::Fs) {
        return Err(missing(odd, Role::Source));
    }
    #[cfg(not(unix))]
    limits.notices.tell(fs::FsImporter::LEFT_OUT.to_owned());
    let mut builder = fs::FsImporter::builder().ignore_ctime(settings.ignore_ctime);
    for path in locations.iter().filter_map(|location| location.path()) {
        builder = builder.place(path);
    }
    for file in &settings.ignore_files {
        builder = builder.ignore_file(file);
    }
    for pattern in &settings.excludes {
        builder = builder.exclude(pattern);
    }
    Ok(Box::new(builder.build()?))
}

/// Opens where a restore goes.
pub fn open_exporter(
    location: &Location,
    options: &Options,
    limits: &Limits,
    settings: &ExportSettings,
) -> Result<Box<dyn Exporter>> {
    match (location.kind(), location.path(), location.url()) {
        (Kind::Fs, Some(path), _) => {
            refuse_markers(location, settings)?;
            let builder = fs::FsExporter::builder(path)
                .existing(settings.existing)
                .skip_permissions(settings.skip_permissions);
            Ok(Box::new(builder.build()?))
        }
        (Kind::S3, _, Some(url)) => {
            let export = s3::ExportOptions {
                folder_markers: settings.folder_markers,
                existing: match settings.existing {
                    Existing::Replace => s3::ExistingObject::Replace,
                    Existing::Skip => s3::ExistingObject::Skip,
                    Existing::Fail => s3::ExistingObject::Fail,
                },
                skip_permissions: settings.skip_permissions,
            };
            Ok(Box::new(s3::S3Exporter::new(s3_options(url, options, limits)?, export)?))
        }
        (Kind::Stdout, ..) => Ok(Box::new(stdio::StdoutExporter::new())),
        (Kind::Sftp, _, Some(url)) => {
            refuse_markers(location, settings)?;
            let opened = sftp_options(url, options, limits)?;
            Ok(Box::new(sftp::open_exporter(opened, settings.existing, settings.skip_permissions)?))
        }
        (Kind::Ftp, _, Some(url)) => {
            refuse_markers(location, settings)?;
            let opened = ftp_options(url, options, limits)?;
            let exporter = ftp::open_exporter(opened, settings.existing, settings.skip_permissions)?;
            tell_of_plain(location, options, exporter.is_plain(), limits);
            Ok(Box::new(exporter))
        }
        _ => Err(missing(location, Role::Destination)),
    }
}

fn refuse_markers(location: &Location, settings: &ExportSettings) -> Result<()> {
    if settings.folder_markers {
        return Err(Error::new(ErrorKind::Invalid, "open", location.to_string())
            .detail("-folder-markers is for buckets"));
    }
    Ok(())
}

/// Opens where a new archive goes.
pub fn open_sink(
    location: &Location,
    options: &Options,
    limits: &Limits,
    overwrite: bool,
    size_hint: Option<u64>,
) -> Result<Box<dyn ArchiveSink>> {
    match (location.kind(), location.path(), location.url()) {
        (Kind::Stdout, ..) => Err(Error::new(ErrorKind::Unsupported, "create", location.to_string())
            .detail("an archive goes to standard output as -o -")),
        (_, Some(path), _) => Ok(Box::new(ptar::ArchiveFile::create(path, overwrite)?)),
        (Kind::S3, _, Some(url)) => {
            let sink = s3::SinkOptions { overwrite, size_hint, memory: limits.memory };
            Ok(Box::new(s3::S3Sink::create(s3_options(url, options, limits)?, sink)?))
        }
        (Kind::Sftp, _, Some(url)) => {
            Ok(Box::new(sftp::SftpSink::create(sftp_options(url, options, limits)?, overwrite)?))
        }
        _ => Err(Error::new(ErrorKind::Unsupported, "create", location.to_string())
            .detail(format!("archives cannot be written to {}", location.kind().scheme()))),
    }
}

/// Memory of a run for each thread that waits for a server, in bytes.
const WORKER_MEMORY: u64 = 2 << 20;

fn http_options(location: &Location, options: &Options, limits: &Limits) -> Result<http::HttpOptions> {
    let invalid = |error: OptionError| {
        Error::new(ErrorKind::Invalid, "open", location.to_string()).detail(error.to_string())
    };
    let token = options.get("token").map(|token| Zeroizing::new(token.trim().to_owned()));
    if token.is_some() && location.kind() == Kind::Http && !location.is_loopback() {
        limits.notices.tell(format!("the token is sent to {location} without encryption: use https"));
    }
    Ok(http::HttpOptions {
        token,
        insecure: options.flag("tls_insecure_no_verify", false).map_err(invalid)?,
        ca_file: options.get("tls_ca_file").map(PathBuf::from),
        cancel: limits.cancel.clone(),
        ..http::HttpOptions::default()
    })
}

fn s3_options(url: &str, options: &Options, limits: &Limits) -> Result<s3::Options> {
    let map = with_concurrency(options, limits);
    let map = map.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut parsed = s3::Options::parse(url, map, &|name| std::env::var(name).ok())?;
    parsed.warnings().into_iter().for_each(|warning| limits.notices.tell(warning));
    parsed.cancel = limits.cancel.clone();
    parsed.notices = limits.notices.clone();
    if let Some(memory) = limits.memory {
        let tuning = &mut parsed.tuning;
        tuning.read_ahead = tuning.read_ahead.min(memory / 6);
        if tuning.adaptive {
            // Every worker has buffers and tables of its own.
            let affordable = usize::try_from(memory / WORKER_MEMORY).unwrap_or(usize::MAX);
            tuning.workers = tuning.workers.min(affordable.max(8));
        }
    }
    Ok(parsed)
}

fn sftp_options(url: &str, options: &Options, limits: &Limits) -> Result<sftp::Options> {
    use std::io::IsTerminal as _;
    let map = with_concurrency(options, limits);
    let mut parsed = sftp::Options::parse(url, &map, &|name| std::env::var(name).ok())?;
    parsed.warnings().into_iter().for_each(|warning| limits.notices.tell(warning));
    parsed.cancel = limits.cancel.clone();
    parsed.terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    Ok(parsed)
}

fn ftp_options(url: &str, options: &Options, limits: &Limits) -> Result<ftp::Options> {
    let mut parsed = ftp::Options::parse(url, &with_concurrency(options, limits))?;
    parsed.warnings().into_iter().for_each(|warning| limits.notices.tell(warning));
    parsed.cancel = limits.cancel.clone();
    Ok(parsed)
}

/// Says that a server has no encryption, unless somebody said that before.
fn tell_of_plain(location: &Location, options: &Options, plain: bool, limits: &Limits) {
    if plain && options.get("tls") != Some("off") {
        limits.notices.tell(format!(
            "{location} offers no TLS: passwords and files can be read, and changed, on the way there; tls=off says \
             that you know"
        ));
    }
}

/// Returns the options that are a connector's own business, the run's concurrency among them.
fn with_concurrency(options: &Options, limits: &Limits) -> std::collections::BTreeMap<String, String> {
    let mut map = for_connector(options);
    if let Some(concurrency) = limits.concurrency {
        map.entry("concurrency".into()).or_insert_with(|| concurrency.to_string());
    }
    map
}

/// Makes a path independent of the current folder: what is remembered of a store is remembered under its path.
fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .map_err(|error| Error::io("find", path.display().to_string(), error))
}

/// What a place answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// There is a store.
    Store,
    /// The place can be reached, but holds no store.
    NoStore,
    /// The server answers, but has no such bucket.
    NoBucket,
    /// The source or destination can be opened.
    Opened,
    /// The destination answers, but does not let anybody with this key list it.
    Unlisted,
    /// The destination is not there.
    Absent,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "answers, and holds a store",
            Self::NoStore => "answers, and holds no store yet",
            Self::NoBucket => "answers, and has no such bucket; create makes it",
            Self::Opened => "answers",
            Self::Unlisted => {
                "answers; its key may not list, so a restore cannot spare what stands there already"
            }
            Self::Absent => "is not there yet; a restore makes it",
        })
    }
}

/// Tries to reach a place, changing nothing there.
pub fn ping(location: &Location, options: &Options, role: Role, limits: &Limits) -> Result<Answer> {
    if role == Role::Store {
        return match open_storage(location, options, limits)?.config() {
            Ok(_) => Ok(Answer::Store),
            Err(error) if error.kind == ErrorKind::NotFound => {
                Ok(if lacks_bucket(location, options, limits) { Answer::NoBucket } else { Answer::NoStore })
            }
            Err(error) => Err(error),
        };
    }
    if let (Kind::S3, Some(url)) = (location.kind(), location.url()) {
        let mut asking = s3_options(url, options, limits)?;
        // Somebody waits for the answer.
        asking.tuning.attempts = 2;
        let listed = s3::reach(asking, role == Role::Source)?;
        return Ok(if listed { Answer::Opened } else { Answer::Unlisted });
    }
    if let Some(path) = location.path().filter(|path| role == Role::Destination && path.is_file()) {
        let error = Error::new(ErrorKind::Invalid, "restore to", path.display().to_string());
        return Err(error.detail("it is a file, not a folder"));
    }
    match first_record(location, options, limits) {
        Err(error) if role == Role::Destination && error.kind == ErrorKind::NotFound => Ok(Answer::Absent),
        other => other.map(|()| Answer::Opened),
    }
}

/// Returns whether a place is in a bucket that is known not to be there.
fn lacks_bucket(location: &Location, options: &Options, limits: &Limits) -> bool {
    let (Kind::S3, Some(url)) = (location.kind(), location.url()) else { return false };
    let asking = s3_options(url, options, limits);
    asking.is_ok_and(|asking| s3::bucket_exists(asking).is_ok_and(|exists| !exists))
}

/// Reads the first thing of a source besides its root, which some sources know without asking.
fn first_record(location: &Location, options: &Options, limits: &Limits) -> Result<()> {
    let importer = open_importer(&[location], options, limits, &ImportSettings::default())?;
    let mut failed = None;
    importer.scan(&mut |record| {
        let known = record.info.is_ok() && record.path.as_bytes() == b"/";
        failed = record.info.err();
        if known { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
    })?;
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(text: &str, role: Role) -> Location {
        Location::parse(text.as_ref(), role).unwrap()
    }

    #[test]
    fn what_is_listed_opens_and_the_rest_says_so() {
        let options: Options = [("access_key", "a"), ("secret_access_key", "b")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        for kind in Kind::ALL
            .into_iter()
            .filter(|kind| kind.serves(Role::Store) && !kind.scheme().starts_with("ptar"))
        {
            let scheme = kind.scheme();
            let text = if kind.is_path() {
                format!("{scheme}:/nonexistent")
            } else {
                format!("{scheme}://127.0.0.1:1/b")
            };
            let opened = open_storage(&location(&text, Role::Store), &options, &Limits::default());
            match opened {
                Ok(_) => assert!(is_built(kind, Role::Store), "{text}"),
                Err(error) => {
                    assert!(error.kind == ErrorKind::Unsupported && !is_built(kind, Role::Store), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_place_is_pinged() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().to_str().unwrap().to_owned();
        let ping = |role| ping(&location(&text, role), &Options::new(), role, &Limits::default());
        assert_eq!(ping(Role::Store).unwrap(), Answer::NoStore);
        assert_eq!(ping(Role::Source).unwrap(), Answer::Opened);
        assert_eq!(ping(Role::Destination).unwrap(), Answer::Opened);
        folder.close().unwrap();
        assert!(ping(Role::Source).is_err());
        assert_eq!(ping(Role::Destination).unwrap(), Answer::Absent);
        assert!(!std::path::Path::new(&text).exists(), "asking makes nothing");
        let bucket = location("s3://127.0.0.1:1/b", Role::Source);
        let options = [("access_key", "a"), ("secret_access_key", "b"), ("use_tls", "false")];
        let options: Options =
            options.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        for role in [Role::Source, Role::Destination] {
            assert!(super::ping(&bucket, &options, role, &Limits::default()).is_err(), "{role:?}");
        }
    }
}
