//! `info`.

use std::ffi::OsString;
use std::fmt::Write as _;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr as _;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::snapshots::{self, Chosen};
use super::super::{dates, entries, stores};
use crate::base::Printable;
use crate::connector::Kind;
use crate::format::config::Config;
use crate::snapshot::SnapshotInfo;
use crate::snapshot::vfs::read::Vfs;
use crate::store::{Error, Profile, Repository};
use crate::ui::units;

/// Describes the store, a snapshot, or one thing in a snapshot: with all that is recorded of it, the headers and tags
/// of an object among that.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups info
plakar at /var/backups info latest
plakar at /var/backups info latest:/etc/passwd")]
pub(crate) struct Args {
    /// A snapshot, or a file or folder in one
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Option<OsString>,
}

/// Describes.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let repository = stores::open_main(context)?.repository;
    let facts = match &args.snapshot {
        None => store(&repository)?,
        Some(text) => match snapshots::find(&repository, text)? {
            Chosen { info, path: None } => snapshot(&info),
            Chosen { info, path: Some(path) } => entry(&repository, &info, path)?,
        },
    };
    facts.print(context)?;
    Ok(Exit::Ok)
}

/// Names a profile.
pub(super) fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Native => "native",
        Profile::Plakar => "plakar",
    }
}

/// Named facts in an order: the text for people, the value for programs.
struct Facts {
    kind: &'static str,
    named: Vec<(&'static str, String, Value)>,
    /// Keys and values of foreign kinds, spelt for people; of an entry only.
    metadata: Option<Vec<(String, String)>>,
}

impl Facts {
    fn new(kind: &'static str) -> Self {
        Self { kind, named: Vec::new(), metadata: None }
    }

    fn text(&mut self, name: &'static str, text: impl AsRef<[u8]>) {
        let text = Printable::new(text.as_ref()).to_string();
        self.named.push((name, text.clone(), Value::String(text)));
    }

    fn both(&mut self, name: &'static str, text: impl Into<String>, value: Value) {
        self.named.push((name, text.into(), value));
    }

    fn bytes(&mut self, name: &'static str, count: u64) {
        self.both(name, units::bytes(count), json!(count));
    }

    fn count(&mut self, name: &'static str, count: u64) {
        self.both(name, units::count(count), json!(count));
    }

    fn print(self, context: &Context) -> Result<(), CommandError> {
        if context.output.is_json() {
            return Ok(context.output.json(&self)?);
        }
        let facts = self.named.iter().map(|(name, text, _)| (*name, text));
        let metadata = self.metadata.iter().flatten().map(|(key, value)| (key.as_str(), value));
        let lines = || facts.clone().chain(metadata.clone());
        let width = lines().map(|(name, _)| name.width()).max().unwrap_or(0);
        for (name, text) in lines() {
            let pad = " ".repeat(width - name.width());
            context.output.line(format_args!("{name}{pad}  {text}").to_string().trim_end())?;
        }
        Ok(())
    }
}

impl Serialize for Facts {
    /// Writes an object, the members in the order of the facts. One that comes again (a snapshot of several sources)
    /// is there once, as the first.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.kind)?;
        for (i, (name, _, value)) in self.named.iter().enumerate() {
            if self.named[..i].iter().all(|(before, ..)| before != name) {
                map.serialize_entry(&name.replace([' ', '-'], "_").to_lowercase(), value)?;
            }
        }
        if let Some(metadata) = &self.metadata {
            let pairs = metadata.iter().map(|(key, value)| json!({ "key": key, "value": value }));
            map.serialize_entry("metadata", &pairs.collect::<Vec<_>>())?;
        }
        map.end()
    }
}

fn store(repository: &Repository) -> Result<Facts, CommandError> {
    let config: &Config = repository.config();
    let mut facts = Facts::new("store_info");
    facts.text("location", repository.storage().location());
    facts.text("repository id", uuid(&config.repository_id));
    facts.text("created", dates::rfc3339(config.timestamp));
    facts.text("profile", profile_name(repository.profile()));
    match &config.encryption {
        None => facts.both("encryption", "none", Value::Null),
        Some(encryption) => {
            facts.text("encryption", &encryption.data_algorithm);
            facts.text("key derivation", &encryption.kdf.kdf);
        }
    }
    if let Some(native) = config.native() {
        let labels: Vec<&str> = native.slots.iter().map(|slot| slot.label.as_str()).collect();
        let text = Printable::new(&labels.join(", ")).to_string();
        facts.both("key slots", text, json!(labels));
    }
    facts.text("hashing", &config.hashing.algorithm);
    match &config.compression {
        None => facts.both("compression", "none", Value::Null),
        Some(compression) => facts.text("compression", &compression.algorithm),
    }
    let chunking = &config.chunking;
    facts.text("chunking", &chunking.algorithm);
    let sizes = [chunking.min, chunking.normal, chunking.max].map(|size| units::bytes(u64::from(size)));
    facts.both("chunk sizes", sizes.join(", "), json!([chunking.min, chunking.normal, chunking.max]));
    let catalogue = repository.catalogue();
    facts.count("snapshots", catalogue.snapshots().len() as u64);
    for (name, size, kind) in
        [("states", "states size", Kind::State), ("packfiles", "packfiles size", Kind::Packfile)]
    {
        let (mut count, mut total) = (0, 0);
        repository.storage().list(kind, &mut |listed| {
            count += 1;
            total += listed.size;
        })?;
        facts.count(name, count);
        facts.bytes(size, total);
    }
    Ok(facts)
}

fn snapshot(info: &SnapshotInfo) -> Facts {
    let header = &info.header;
    let mut facts = Facts::new("snapshot_info");
    facts.text("id", info.id.to_hex());
    facts.text("timestamp", dates::rfc3339(header.timestamp));
    let duration = std::time::Duration::from_nanos(u64::try_from(header.duration).unwrap_or(0));
    facts.both("duration", units::duration(duration), json!(duration.as_secs_f64()));
    for (name, value) in [
        ("name", &header.name),
        ("category", &header.category),
        ("environment", &header.environment),
        ("perimeter", &header.perimeter),
        ("job", &header.job),
    ] {
        facts.text(name, value);
    }
    let list = |items: &[crate::base::RawString]| -> Vec<String> {
        items.iter().map(|item| Printable::new(item).to_string()).collect()
    };
    let tags = list(header.tags());
    facts.both("tags", tags.join(","), json!(tags));
    let classes = list(header.data_classes.as_deref().unwrap_or_default());
    facts.both("data classes", classes.join(","), json!(classes));
    facts.both(
        "signed",
        if header.identity.is_signed() { "yes" } else { "no" },
        json!(header.identity.is_signed()),
    );
    facts.text("source", super::restore::source_name(info));
    for source in header.sources() {
        for pair in source.context.iter().flatten() {
            let known = BUCKET_FACTS.iter().find(|(key, _)| pair.key == *key);
            if let Some((_, name)) = known {
                facts.text(name, &pair.value);
            }
        }
        facts.count("files", source.summary.total_files());
        facts.count("folders", source.summary.total_directories());
        facts.bytes("size", source.summary.total_size());
        facts.count("errors", source.summary.total_errors());
    }
    for pair in header.context.as_deref().unwrap_or_default() {
        // Foreign keys; ours are a known few, and only those have a line.
        let known = ["Hostname", "Username", "OperatingSystem", "CommandLine", "Architecture", "Client"];
        if let Some(name) = known.into_iter().find(|name| pair.key == *name) {
            facts.text(name, &pair.value);
        }
    }
    facts
}

/// Describes what is at a path of a snapshot.
fn entry(repository: &Repository, info: &SnapshotInfo, path: Vec<u8>) -> Result<Facts, CommandError> {
    let source = info.header.source().ok_or_else(|| CommandError::failed("the snapshot has no source"))?;
    let vfs = Vfs::open(repository, source)?;
    let Some(entry) = vfs.entry(&path)? else { return Err(Error::NoPath { path }.into()) };
    let mut facts = Facts::new("entry_info");
    let known = &entry.info;
    facts.text("snapshot", info.id.to_hex());
    facts.text("path", entry.path());
    facts.text("kind", entries::kind(known.mode));
    facts.both("mode", entries::mode(known.mode), json!(known.mode.to_unix() & 0o7777));
    facts.both("size", units::bytes(u64::try_from(known.size).unwrap_or(0)), json!(known.size));
    facts.text("modified", dates::rfc3339(known.modified));
    facts.text("user", &known.user);
    facts.both("uid", known.uid.to_string(), json!(known.uid));
    facts.text("group", &known.group);
    facts.both("gid", known.gid.to_string(), json!(known.gid));
    facts.both("links", known.links.to_string(), json!(known.links));
    facts.both("device", known.device.to_string(), json!(known.device));
    facts.both("inode", known.inode.to_string(), json!(known.inode));
    if known.mode.is_symlink() {
        facts.text("target", &entry.symlink_target);
    }
    let below = if known.mode.is_dir() { vfs.summary(&path)? } else { None };
    // Snapshots of upstream 1.0.x keep it with the folder.
    if let Some(below) = below.as_ref().or(entry.summary.as_deref()) {
        facts.count("files", below.total_files());
        facts.count("folders", below.total_directories());
        facts.bytes("total size", below.total_size());
        facts.count("errors", below.total_errors());
    }
    if !entry.object.is_zero() {
        facts.text("object", entry.object.to_hex());
        facts.text("content type", &entry.content_type);
        facts.both("entropy", format!("{:.2} bits per byte", entry.entropy), json!(entry.entropy));
        facts.count("chunks", entry.chunks);
    }
    let names: Vec<String> = entry.xattrs.iter().map(entries::shown).collect();
    facts.both("xattrs", names.join(", "), json!(names));
    let pairs = entry.metadata.iter().map(|item| (entries::shown(&item.key), entries::shown(&item.value)));
    facts.metadata = Some(pairs.collect());
    Ok(facts)
}

/// What a snapshot knows of the bucket it was made of, and what it is called here.
const BUCKET_FACTS: [(&str, &str); 8] = [
    ("s3.bucket", "bucket"),
    ("s3.endpoint", "endpoint"),
    ("s3.region", "region"),
    ("s3.created", "bucket created"),
    ("s3.owner", "bucket owner"),
    ("s3.versioning", "versioning"),
    ("s3.versions", "versions kept"),
    ("s3.not-captured", "not known"),
];

/// Spells a RepositoryID as the UUID that it is.
fn uuid(id: &[u8; 16]) -> String {
    let mut text = String::new();
    for (i, byte) in id.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}
