//! What a run did, told at its end: a few lines for people, one `summary` object for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::error::{CommandError, Exit};
use crate::base::{Id, Printable};
use crate::connector::Record;
use crate::snapshot::{BackupReport, CheckReport, RestoreReport, SyncReport, message_of};
use crate::store::WriterStats;
use crate::ui::{Output, OutputError, units};

/// Lines of labels and values, the labels aligned.
struct Lines(Vec<(&'static str, String)>);

impl Lines {
    fn print(&self, title: &str, output: &Output) -> Result<(), OutputError> {
        output.summary(title)?;
        for (label, value) in &self.0 {
            output.summary(format_args!("  {label:<9} {value}"))?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the JSON")]
struct Stored {
    blobs: u64,
    plain_bytes: u64,
    stored_bytes: u64,
    packfiles: u64,
    packfile_bytes: u64,
    /// Bytes before by bytes after; absent where nothing was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    compression_ratio: Option<f64>,
}

impl From<&WriterStats> for Stored {
    fn from(stats: &WriterStats) -> Self {
        Self {
            blobs: stats.blob_count,
            plain_bytes: stats.plain_bytes,
            stored_bytes: stats.stored_bytes,
            packfiles: stats.packfile_count,
            packfile_bytes: stats.packfile_bytes,
            compression_ratio: ratio(stats.plain_bytes, stats.stored_bytes),
        }
    }
}

/// Errors by kind, most frequent first.
type Kinds = [(String, u64)];

/// Errors by kind as an object.
fn by_kind(kinds: &Kinds) -> BTreeMap<String, u64> {
    kinds.iter().map(|(kind, count)| (Printable::message(kind).to_string(), *count)).collect()
}

/// Divides, to two decimals; nothing by zero.
fn ratio(whole: u64, part: u64) -> Option<f64> {
    (part > 0).then(|| (whole as f64 / part as f64 * 100.0).round() / 100.0)
}

/// Says what was stored, and what deduplication and compression made of it.
fn stored(stats: &WriterStats, content: u64) -> String {
    let mut text = format!(
        "{} in {}",
        units::bytes(stats.packfile_bytes),
        units::counted(stats.packfile_count, "packfile")
    );
    // Metadata is stored beside contents, so that little content can make a ratio below one, which says nothing.
    if let Some(dedup) = ratio(content, stats.plain_bytes).filter(|_| content > stats.plain_bytes) {
        write!(text, ", deduplication {dedup:.2}:1").expect("a string takes everything");
    }
    if let Some(compression) = ratio(stats.plain_bytes, stats.stored_bytes) {
        write!(text, ", compression {compression:.2}:1").expect("a string takes everything");
    }
    text
}

/// Returns seconds, to the millisecond.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

fn took(bytes: u64, duration: Duration) -> String {
    let rate = units::rate(bytes, duration).filter(|_| bytes > 0).map(|rate| format!(" ({rate})"));
    format!("{} in {}{}", units::bytes(bytes), units::duration(duration), rate.unwrap_or_default())
}

/// Tells what a backup did. What a snapshot takes `in_archive` is known only when the archive is complete.
pub(crate) fn backup(
    report: &BackupReport,
    source: &str,
    kinds: &Kinds,
    in_archive: bool,
    output: &Output,
) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Summary<'a> {
        r#type: &'a str,
        command: &'a str,
        snapshot: String,
        source: &'a str,
        files: u64,
        folders: u64,
        unchanged: u64,
        read_bytes: u64,
        content_bytes: u64,
        errors: u64,
        error_kinds: BTreeMap<String, u64>,
        warnings: u64,
        resumed: u64,
        stored: Stored,
        #[serde(skip_serializing_if = "Option::is_none")]
        deduplication_ratio: Option<f64>,
        duration: f64,
        partial: bool,
    }
    if output.is_json() {
        return Ok(output.json(&Summary {
            r#type: "summary",
            command: if in_archive { "ptar" } else { "backup" },
            snapshot: report.snapshot.to_hex(),
            source,
            files: report.file_count,
            folders: report.folder_count,
            unchanged: report.unchanged_count,
            read_bytes: report.read_bytes,
            content_bytes: report.content_bytes,
            errors: report.error_count,
            error_kinds: by_kind(kinds),
            warnings: report.warning_count,
            resumed: report.resumed_count,
            stored: (&report.stats).into(),
            deduplication_ratio: ratio(report.read_bytes, report.stats.plain_bytes),
            duration: seconds(report.duration),
            partial: report.error_count > 0,
        })?);
    }
    let partial = if report.error_count > 0 { "partial snapshot" } else { "snapshot" };
    let mut lines = Lines(Vec::new());
    let unchanged = match report.unchanged_count {
        0 => String::new(),
        count => format!(" ({} unchanged)", units::count(count)),
    };
    lines.0.push((
        "holds",
        format!(
            "{}{unchanged}, {}, {}",
            units::counted(report.file_count, "file"),
            units::counted(report.folder_count, "folder"),
            units::bytes(report.content_bytes)
        ),
    ));
    lines.0.push(("read", took(report.read_bytes, report.duration)));
    if !in_archive {
        lines.0.push(("stored", stored(&report.stats, report.read_bytes)));
    }
    if report.resumed_count > 0 {
        lines.0.push((
            "resumed",
            format!("{} of an interrupted run", units::counted(report.resumed_count, "path")),
        ));
    }
    troubles(&mut lines, report.error_count, kinds, "could not be backed up");
    if report.warning_count > 0 {
        lines.0.push(("warnings", units::count(report.warning_count)));
    }
    Ok(lines.print(&format!("{partial} {} of {source}", report.snapshot.short()), output)?)
}

fn troubles(lines: &mut Lines, errors: u64, kinds: &Kinds, what: &str) {
    if errors == 0 {
        return;
    }
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("{} {}", units::count(*count), Printable::message(kind)))
        .collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
    lines.0.push(("errors", format!("{} {what}{kinds}", units::counted(errors, "path"))));
}

/// Tells what a restore did.
pub(crate) fn restore(
    report: &RestoreReport,
    snapshot: &str,
    to: &str,
    kinds: &Kinds,
    output: &Output,
) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Summary<'a> {
        r#type: &'a str,
        command: &'a str,
        snapshot: &'a str,
        destination: &'a str,
        files: u64,
        folders: u64,
        others: u64,
        equal: u64,
        skipped: u64,
        partly: u64,
        unsupported: u64,
        errors: u64,
        error_kinds: BTreeMap<String, u64>,
        bytes: u64,
        duration: f64,
        partial: bool,
    }
    let partial = report.error_count > 0 || report.partly_count > 0;
    if output.is_json() {
        return Ok(output.json(&Summary {
            r#type: "summary",
            command: "restore",
            snapshot,
            destination: to,
            files: report.file_count,
            folders: report.folder_count,
            others: report.other_count,
            equal: report.equal_count,
            skipped: report.skipped_count,
            partly: report.partly_count,
            unsupported: report.unsupported_count,
            errors: report.error_count,
            error_kinds: by_kind(kinds),
            bytes: report.restored_bytes,
            duration: seconds(report.duration),
            partial,
        })?);
    }
    let mut lines = Lines(Vec::new());
    let mut what =
        vec![units::counted(report.file_count, "file"), units::counted(report.folder_count, "folder")];
    if report.other_count > 0 {
        what.push(units::counted(report.other_count, "link or special file"));
    }
    lines.0.push(("restored", what.join(", ")));
    lines.0.push(("wrote", took(report.restored_bytes, report.duration)));
    let mut left = Vec::new();
    if report.equal_count > 0 {
        left.push(format!("{} equal already", units::count(report.equal_count)));
    }
    if report.skipped_count > 0 {
        left.push(format!("{} left as they are", units::count(report.skipped_count)));
    }
    if !left.is_empty() {
        lines.0.push(("existing", left.join(", ")));
    }
    if report.partly_count > 0 {
        lines
            .0
            .push(("partly", format!("{} without all of their metadata", units::count(report.partly_count))));
    }
    if report.unsupported_count > 0 {
        lines.0.push((
            "left out",
            format!("{} that cannot exist there", units::count(report.unsupported_count)),
        ));
    }
    troubles(&mut lines, report.error_count, kinds, "could not be restored");
    let how = if partial { "partly restored" } else { "restored" };
    Ok(lines.print(&format!("{how} snapshot {} to {to}", &snapshot[..8.min(snapshot.len())]), output)?)
}

/// Tells what a check found.
pub(crate) fn check(report: &CheckReport, output: &Output) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Hurt {
        snapshot: String,
        path: String,
    }
    #[derive(Serialize)]
    struct Damage<'a> {
        r#type: &'a str,
        what: &'a str,
        message: &'a str,
        hurts: Vec<Hurt>,
        hurt_count: u64,
    }
    #[derive(Serialize)]
    struct Summary<'a> {
        r#type: &'a str,
        command: &'a str,
        snapshots: u64,
        packfiles: u64,
        damaged: usize,
        duration: f64,
    }
    for damage in &report.damage {
        let hurts = damage.hurts.iter().map(|hurt| Hurt {
            snapshot: hurt.snapshot.to_hex(),
            path: Printable::new(&hurt.path).to_string(),
        });
        if output.is_json() {
            let hurts = hurts.collect();
            let (what, message, hurt_count) = (&damage.what, &damage.message, damage.hurt_count);
            output.json(&Damage { r#type: "damage", what, message, hurts, hurt_count })?;
            continue;
        }
        let (what, message) = (Printable::message(&damage.what), Printable::message(&damage.message));
        output.line(format_args!("damaged: {what}: {message}"))?;
        let mut told = 0;
        for hurt in hurts {
            output.line(format_args!("  hurts {}:{}", &hurt.snapshot[..8], hurt.path))?;
            told += 1;
        }
        if damage.hurt_count > told {
            output.line(format_args!("  and {} more", units::counted(damage.hurt_count - told, "path")))?;
        }
    }
    if output.is_json() {
        return Ok(output.json(&Summary {
            r#type: "summary",
            command: "check",
            snapshots: report.snapshot_count,
            packfiles: report.packfile_count,
            damaged: report.damage.len(),
            duration: seconds(report.duration),
        })?);
    }
    let mut what = units::counted(report.snapshot_count, "snapshot");
    if report.packfile_count > 0 {
        write!(what, ", {}", units::counted(report.packfile_count, "packfile"))
            .expect("a string takes everything");
    }
    let found = match report.damage.len() {
        0 => "no damage".to_owned(),
        1 => "1 thing is damaged".to_owned(),
        many => format!("{many} things are damaged"),
    };
    let text = format!("checked {what} in {}: {found}", units::duration(report.duration));
    // What a check found is its result: nothing but silence about other things may follow from -quiet.
    if report.damage.is_empty() {
        output.summary(text)?;
    } else {
        output.line(text)?;
    }
    Ok(())
}

/// Tells what a synchronisation did, or the copying of stores into an archive, for which `archive` is set.
pub(crate) fn sync(
    report: &SyncReport,
    what: &str,
    archive: bool,
    output: &Output,
) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Summary<'a> {
        r#type: &'a str,
        command: &'a str,
        copied: Vec<String>,
        revived: Vec<String>,
        present: Vec<String>,
        unsigned: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        damaged: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stored: Option<Stored>,
        duration: f64,
    }
    let ids = |ids: &[Id]| ids.iter().map(Id::to_hex).collect::<Vec<_>>();
    if output.is_json() {
        return Ok(output.json(&Summary {
            r#type: "summary",
            command: if archive { "ptar" } else { "sync" },
            copied: ids(&report.copied),
            revived: ids(&report.revived),
            present: ids(&report.present),
            unsigned: ids(&report.unsigned),
            damaged: (!archive).then(|| ids(&report.damaged)),
            stored: (!archive).then(|| (&report.stats).into()),
            duration: seconds(report.duration),
        })?);
    }
    let mut lines = Lines(Vec::new());
    let count = |ids: &[Id]| units::counted(ids.len() as u64, "snapshot");
    let mut copied = count(&report.copied);
    if !report.present.is_empty() {
        write!(copied, ", {} there already", units::count(report.present.len() as u64))
            .expect("a string takes everything");
    }
    lines.0.push(("copied", copied));
    if !report.revived.is_empty() {
        lines.0.push(("revived", format!("{} that had been removed there", count(&report.revived))));
    }
    if !report.unsigned.is_empty() {
        lines.0.push((
            "unsigned",
            format!("{}: a signature does not survive a new key", count(&report.unsigned)),
        ));
    }
    if !report.damaged.is_empty() {
        lines.0.push(("damaged", format!("{} not copied", count(&report.damaged))));
    }
    if !archive {
        lines.0.push(("stored", stored(&report.stats, 0)));
    }
    lines.0.push(("took", units::duration(report.duration)));
    Ok(lines.print(what, output)?)
}

/// Tells what an archive became.
pub(crate) fn archive(
    stats: &WriterStats,
    what: &str,
    encrypted: bool,
    duration: Duration,
    output: &Output,
) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Archive<'a> {
        r#type: &'a str,
        location: &'a str,
        encrypted: bool,
        stored: Stored,
        duration: f64,
    }
    if output.is_json() {
        let duration = seconds(duration);
        return Ok(output.json(&Archive {
            r#type: "archive",
            location: what,
            encrypted,
            stored: stats.into(),
            duration,
        })?);
    }
    Ok(output.summary(archive_line(stats, what, encrypted, duration))?)
}

/// Returns the line that tells what an archive became.
pub(crate) fn archive_line(stats: &WriterStats, what: &str, encrypted: bool, duration: Duration) -> String {
    let kind = if encrypted { "encrypted" } else { "plaintext" };
    format!("wrote the {kind} archive {what}: {}", took(stats.packfile_bytes, duration))
}

/// What a dry run finds, told as it comes.
pub(crate) struct Scan<'a> {
    output: &'a Output,
    files: u64,
    folders: u64,
    bytes: u64,
    errors: u64,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(output: &'a Output) -> Self {
        Self { output, files: 0, folders: 0, bytes: 0, errors: 0 }
    }

    /// Tells one thing found.
    pub(crate) fn record(&mut self, record: &Record) -> Result<(), CommandError> {
        #[derive(Serialize)]
        struct Found<'a> {
            r#type: &'a str,
            path: String,
            size: i64,
        }
        let path = Printable::new(&record.path).to_string();
        match &record.info {
            Err(error) => {
                self.errors += 1;
                self.output.warn(format!("{path}: {}", message_of(error)));
                return Ok(());
            }
            Ok(info) if info.mode.is_dir() => self.folders += 1,
            Ok(info) => {
                self.files += 1;
                self.bytes += u64::try_from(info.size).unwrap_or(0);
            }
        }
        let size = record.info.as_ref().map_or(0, |info| info.size);
        if self.output.is_json() {
            self.output.json(&Found { r#type: "found", path, size })?;
        } else {
            self.output.line(path)?;
        }
        Ok(())
    }

    /// Tells the sums.
    pub(crate) fn finish(self) -> Result<Exit, CommandError> {
        #[derive(Serialize)]
        struct Summary<'a> {
            r#type: &'a str,
            command: &'a str,
            dry_run: bool,
            files: u64,
            folders: u64,
            bytes: u64,
            errors: u64,
        }
        if self.output.is_json() {
            self.output.json(&Summary {
                r#type: "summary",
                command: "backup",
                dry_run: true,
                files: self.files,
                folders: self.folders,
                bytes: self.bytes,
                errors: self.errors,
            })?;
        } else {
            self.output.summary(format_args!(
                "would back up {}, {}, {}",
                units::counted(self.files, "file"),
                units::counted(self.folders, "folder"),
                units::bytes(self.bytes)
            ))?;
        }
        Ok(if self.errors > 0 { Exit::Failed } else { Exit::Ok })
    }
}
