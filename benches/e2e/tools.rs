//! The programs that are run, and how each of them is asked to do the same things.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::measure::Line;

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Operation {
    Create,
    /// Unlocks and tells: what a key derivation and an opening take.
    Info,
    Backup,
    Unchanged,
    Check,
    Restore,
    Archive,
    ArchiveCheck,
    ArchiveRestore,
}

impl Operation {
    /// All of them, in the order they can be run in.
    pub(crate) const ALL: [Self; 9] = [
        Self::Create,
        Self::Info,
        Self::Backup,
        Self::Unchanged,
        Self::Check,
        Self::Restore,
        Self::Archive,
        Self::ArchiveCheck,
        Self::ArchiveRestore,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Info => "open",
            Self::Backup => "backup",
            Self::Unchanged => "backup, unchanged",
            Self::Check => "check",
            Self::Restore => "restore",
            Self::Archive => "archive",
            Self::ArchiveCheck => "archive check",
            Self::ArchiveRestore => "archive restore",
        }
    }

    /// Returns whether a restored tree stands in the target afterwards.
    pub(crate) fn restores(self) -> bool {
        matches!(self, Self::Restore | Self::ArchiveRestore)
    }
}

/// A way to run the operations.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    kind: Kind,
    program: PathBuf,
    /// Whether every run begins with a key derivation that is told apart.
    pub(crate) derives: bool,
    /// What the key derivation holds, in bytes, on top of what the program promises; 0 for other programs.
    pub(crate) kdf_memory: u64,
    /// Whether it is run under a limit of its memory too.
    pub(crate) limited: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Ours { create: &'static [&'static str], archive: &'static [&'static str] },
    Upstream,
    Restic,
    Rustic,
    Borg,
    Tar,
}

/// Where an operation works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    pub(crate) data: &'a Path,
    pub(crate) store: &'a Path,
    pub(crate) archive: &'a Path,
    pub(crate) target: &'a Path,
}

/// Returns our program in three ways, and what else is installed.
pub(crate) fn tools(ours: &Path) -> Vec<Tool> {
    let tool = |name: &str, kind: Kind, program: &Path| Tool {
        name: name.into(),
        kind,
        program: program.to_owned(),
        derives: false,
        kdf_memory: 0,
        limited: false,
    };
    let native = Kind::Ours { create: &[], archive: &[] };
    let plain = Kind::Ours { create: &["-plaintext"], archive: &["-plaintext"] };
    let compatible = Kind::Ours { create: &["-profile", "plakar"], archive: &["-profile", "plakar"] };
    let mut tools = vec![
        Tool { derives: true, kdf_memory: 192 << 20, limited: true, ..tool("native", native, ours) },
        Tool { limited: true, ..tool("native, plaintext", plain, ours) },
        Tool {
            derives: true,
            kdf_memory: 256 << 20,
            limited: true,
            ..tool("plakar profile", compatible, ours)
        },
    ];
    if let Some(upstream) = std::env::var_os("UPSTREAM_PLAKAR").filter(|path| !path.is_empty()) {
        tools.push(tool("upstream plakar", Kind::Upstream, Path::new(&upstream)));
    }
    for (name, kind) in [("restic", Kind::Restic), ("rustic", Kind::Rustic), ("borg", Kind::Borg)] {
        tools.extend(find(name).map(|path| tool(name, kind, &path)));
    }
    if find("tar").is_some() && find("zstd").is_some() {
        tools.push(tool("tar | zstd", Kind::Tar, Path::new("tar")));
    }
    tools
}

/// Finds a program on the path.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

impl Tool {
    /// Returns the command of an operation; `None` where the program has no such thing.
    pub(crate) fn line(&self, operation: Operation, places: &Places<'_>) -> Option<Line> {
        match self.kind {
            Kind::Ours { create, archive } => Some(self.plakar(operation, places, create, archive)),
            Kind::Upstream => Some(self.plakar(operation, places, &[], &[])),
            Kind::Restic => self.restic(operation, places, &["-q"]),
            Kind::Rustic => self.restic(operation, places, &[]),
            Kind::Borg => self.borg(operation, places),
            Kind::Tar => tar(operation, places),
        }
    }

    fn plakar(
        &self,
        operation: Operation,
        places: &Places<'_>,
        create: &[&'static str],
        archive: &[&'static str],
    ) -> Line {
        let Places { data, store, archive: file, target } = *places;
        let mut words: Vec<OsString> = vec![self.program.clone().into()];
        let mut add = |more: &[&dyn AsRef<std::ffi::OsStr>]| {
            words.extend(more.iter().map(|word| word.as_ref().to_owned()));
        };
        match operation {
            Operation::Create => {
                add(&[&"at", &store, &"create"]);
                for word in create {
                    add(&[word]);
                }
            }
            Operation::Info => add(&[&"at", &store, &"info"]),
            Operation::Backup | Operation::Unchanged => add(&[&"-quiet", &"at", &store, &"backup", &data]),
            Operation::Check => add(&[&"-quiet", &"at", &store, &"check"]),
            Operation::Restore => add(&[&"-quiet", &"at", &store, &"restore", &"-to", &target]),
            Operation::Archive => {
                add(&[&"-quiet", &"ptar", &"-o", &file]);
                for word in archive {
                    add(&[word]);
                }
                add(&[&data]);
            }
            Operation::ArchiveCheck => add(&[&"-quiet", &"at", &file, &"check"]),
            Operation::ArchiveRestore => add(&[&"-quiet", &"at", &file, &"restore", &"-to", &target]),
        }
        let words: Vec<&dyn AsRef<std::ffi::OsStr>> = words.iter().map(|word| word as _).collect();
        Line::new(&words)
    }

    fn restic(&self, operation: Operation, places: &Places<'_>, quiet: &[&'static str]) -> Option<Line> {
        let Places { data, store, target, .. } = *places;
        let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&self.program, &"-r", &store];
        for word in quiet {
            words.push(word);
        }
        match operation {
            Operation::Create => words.push(&"init"),
            Operation::Info => words.push(&"snapshots"),
            Operation::Backup | Operation::Unchanged => words.extend([&"backup" as &dyn AsRef<_>, &data]),
            Operation::Check => words.extend([&"check" as &dyn AsRef<_>, &"--read-data"]),
            Operation::Restore if quiet.is_empty() => {
                words.extend([&"restore" as &dyn AsRef<_>, &"latest", &target]);
            }
            Operation::Restore => {
                words.extend([&"restore" as &dyn AsRef<_>, &"latest", &"--target", &target]);
            }
            _ => return None,
        }
        Some(Line::new(&words))
    }

    fn borg(&self, operation: Operation, places: &Places<'_>) -> Option<Line> {
        let Places { data, store, target, .. } = *places;
        let (program, store) = (self.program.display(), store.display());
        let text = match operation {
            Operation::Create => format!("{program} init -e repokey-blake2 '{store}'"),
            Operation::Info => format!("{program} list '{store}'"),
            Operation::Backup => format!("{program} create -C zstd,1 '{store}::first' '{}'", data.display()),
            Operation::Unchanged => {
                format!("{program} create -C zstd,1 '{store}::second' '{}'", data.display())
            }
            Operation::Check => format!("{program} check --verify-data '{store}'"),
            Operation::Restore => {
                format!("mkdir '{0}' && cd '{0}' && {program} extract '{store}::first'", target.display())
            }
            _ => return None,
        };
        Some(Line::shell(text))
    }
}

fn tar(operation: Operation, places: &Places<'_>) -> Option<Line> {
    let (data, file, target) = (places.data.display(), places.archive.display(), places.target.display());
    Some(Line::shell(match operation {
        Operation::Archive => format!("tar -C '{data}' --format=posix -cf - . | zstd -q -1 -T2 -o '{file}'"),
        Operation::ArchiveCheck => format!("zstd -q -t '{file}'"),
        Operation::ArchiveRestore => {
            format!("mkdir '{target}' && zstd -q -dc '{file}' | tar -C '{target}' -xpf -")
        }
        _ => return None,
    }))
}
