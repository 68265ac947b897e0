//! What other programs call things: restic, borg, upstream's plakar. Who types such a name is told the one here.

use clap::Command;

use super::argv::find;

/// Names of commands elsewhere, and what does the same here.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["init", "repo-create", "rcreate", "new"], "'create' makes a store: plakar at STORE create"),
    (
        &["snapshots", "snapshot", "list", "rlist", "repo-list", "dir", "tree", "backups"],
        "'ls' lists snapshots, and the files of one: plakar at STORE ls [SNAPSHOT[:PATH]]",
    ),
    (&["save"], "'backup' takes a snapshot: plakar at STORE backup PLACE"),
    (
        &["forget", "expire", "retention"],
        "'prune' removes snapshots by rules, 'rm' those that are named: plakar at STORE prune -days 30",
    ),
    (&["delete", "del", "remove", "purge", "rdelete"], "'rm' removes snapshots: plakar at STORE rm SNAPSHOT"),
    (&["extract", "get"], "'restore' brings files back: plakar at STORE restore -to DIR SNAPSHOT[:PATH]"),
    (
        &["dump", "print"],
        "'cat' prints files, 'archive' writes a folder as a tar: plakar at STORE cat SNAPSHOT:PATH",
    ),
    (
        &["stats", "stat", "rinfo", "repo-info", "du", "show", "describe"],
        "'info' describes a store or a snapshot: plakar at STORE info [SNAPSHOT]",
    ),
    (
        &["copy", "cp", "clone", "mirror", "replicate", "transfer", "push"],
        "'sync' copies what the other store lacks: plakar at STORE sync to OTHER",
    ),
    (&["pull", "fetch"], "'sync' copies what the other store lacks: plakar at STORE sync from OTHER"),
    (
        &["compact", "gc", "cleanup", "vacuum", "optimize", "compress"],
        "'maintenance' gives space back: plakar at STORE maintenance -apply",
    ),
    (
        &["export-tar", "export", "tar", "zip"],
        "'archive' writes a tar or zip file: plakar at STORE archive -output FILE SNAPSHOT[:PATH]",
    ),
    (
        &["import-tar", "import"],
        "'backup tar:FILE' reads a tar file, 'sync from FILE.ptar' an archive: plakar at STORE backup tar:FILE",
    ),
    (
        &["unlock", "break-lock", "lock", "locks"],
        "no lock has to be broken: what a run that died left behind expires by itself, and reading needs none",
    ),
    (
        &["tag", "retag", "rename", "rewrite", "recreate"],
        "snapshots never change; 'dup' makes one of the same content with other labels, 'rm' removes the old: \
         plakar at STORE dup -tag TAGS SNAPSHOT",
    ),
    (&["umount", "unmount"], "'umount DIR' of the system, or Ctrl-C, ends a mount: plakar help mount"),
    (&["fuse"], "'mount' shows snapshots as a folder: plakar at STORE mount -to DIR"),
    (
        &["rebuild-index", "repair-index", "recover", "fsck", "scrub"],
        "'check' finds damage, 'repair' rebuilds what was lost: plakar at STORE check",
    ),
    (&["checksum", "hash", "sum"], "'digest' prints digests of files: plakar at STORE digest SNAPSHOT:PATH"),
    (&["compare"], "'diff' shows what changed: plakar at STORE diff OLD NEW"),
    (&["grep"], "'find' and 'locate' look for files by name: plakar at STORE locate PATTERN"),
    (
        &["passwd", "password", "passphrase", "change-passphrase", "change-password"],
        "'key' changes what opens a store: plakar at STORE key passwd",
    ),
    (&["serve", "rest-server"], "'server' serves a store over HTTP: plakar at STORE server"),
    (&["agent", "daemon"], "no agent is needed: every command does its work itself"),
    (
        &["scheduler", "schedule", "services", "service", "task", "tasks"],
        "cron or a systemd timer runs backups: PLAKAR_PASSPHRASE or -keyfile opens the store, and nothing ever asks",
    ),
    (&["login", "logout", "account"], "no account is needed: every command works without"),
    (&["plugin", "plugins", "package", "packages", "install"], "connectors are built in: plakar pkg list"),
    (
        &["remote", "remotes"],
        "'source' and 'destination' name what is backed up and where it goes: plakar source",
    ),
    (&["repository", "repo", "repos"], "'store' names stores: plakar store add NAME LOCATION"),
    (
        &["man", "manual"],
        "'help' explains a command: plakar help COMMAND; plakar completions man writes manual pages",
    ),
    (&["completion", "generate"], "'completions' writes them: plakar completions SHELL"),
];

/// Of which commands an advice holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    /// Of all, and where there is none yet.
    All,
    /// Of those that have this flag.
    With(&'static str),
    /// Of this one.
    Only(&'static str),
}

/// Names of flags elsewhere, and what does the same here; the first that fits counts.
const FLAGS: &[(&[&str], Of, &str)] = &[
    (&["n", "dryrun", "simulate", "dry"], Of::With("dry-run"), "did you mean -dry-run?"),
    (
        &["n", "dry-run", "dryrun", "simulate", "dry"],
        Of::With("apply"),
        "leave it out: without -apply it only shows what it would do",
    ),
    (&["y", "yes", "confirm"], Of::With("apply"), "did you mean -apply?"),
    (&["t", "target", "C", "dest", "destination"], Of::With("to"), "did you mean -to?"),
    (&["R", "r", "recurse"], Of::With("recursive"), "did you mean -recursive?"),
    (
        &["repo", "repository", "r", "store", "repository-file"],
        Of::All,
        "the store stands before the command: plakar at STORE COMMAND",
    ),
    (
        &["v", "vv", "verbose", "debug"],
        Of::All,
        "what was done is always told; -trace storage logs every request, -quiet says less",
    ),
    (&["q"], Of::All, "did you mean -quiet?"),
    (&["j"], Of::All, "did you mean -json?"),
    (
        &["p", "password", "passphrase", "pass", "password-command"],
        Of::All,
        "no passphrase stands on a command line, where others see it: -keyfile PATH, or PLAKAR_PASSPHRASE",
    ),
    (&["password-file", "passphrase-file", "pass-file"], Of::All, "did you mean -keyfile?"),
    (&["verify"], Of::With("check"), "did you mean -check?"),
    (
        &["verify", "check"],
        Of::All,
        "what is read is verified without it; plakar at STORE check reads and verifies all of a snapshot",
    ),
    (
        &["encryption", "e", "no-encrypt", "unencrypted"],
        Of::With("plaintext"),
        "all is encrypted unless -plaintext is given",
    ),
    (&["iexclude", "e", "x"], Of::With("ignore"), "did you mean -ignore?"),
    (&["exclude-file", "exclude-from", "X"], Of::With("ignore-file"), "did you mean -ignore-file?"),
    (
        &["i", "include", "include-pattern", "path"],
        Of::Only("restore"),
        "SNAPSHOT:PATH restores a part: plakar at STORE restore -to DIR SNAPSHOT:PATH",
    ),
    (&["delete", "prune"], Of::Only("restore"), "a restore deletes nothing; restore into an empty folder"),
    (
        &[
            "keep-last",
            "keep-hourly",
            "keep-daily",
            "keep-weekly",
            "keep-monthly",
            "keep-yearly",
            "keep-within",
        ],
        Of::With("per-day"),
        "a window and a cap say what stays: -days 7 -per-day 1 keeps one of each of the last seven days",
    ),
    (&["keep-tag"], Of::With("per-day"), "-tag '!TAG' leaves snapshots of a tag alone"),
    (
        &["host", "H", "hostname"],
        Of::With("group-by"),
        "snapshots are chosen by -root, -name and -tag, not by host",
    ),
    (&["long"], Of::With("l"), "did you mean -l?"),
    (&["f", "file"], Of::With("output"), "did you mean -output?"),
];

/// Returns what does here what this command does elsewhere.
pub(super) fn command(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let found = COMMANDS.iter().find(|(names, _)| names.contains(&name.as_str()));
    found.map(|(_, advice)| *advice)
}

/// Returns what does here what this flag does elsewhere, with a command or before there is one.
pub(super) fn flag(name: &str, command: Option<&Command>) -> Option<&'static str> {
    let fits = |of: Of| match of {
        Of::All => true,
        Of::With(flag) => command.is_some_and(|command| find(command, flag).is_some()),
        Of::Only(only) => command.is_some_and(|command| command.get_name() == only),
    };
    let found = FLAGS.iter().find(|(names, of, _)| names.contains(&name) && fits(*of));
    found.map(|(_, _, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::super::commands::{definition, table};
    use super::*;

    /// Returns the flags named in an advice.
    fn flags_in(advice: &str) -> impl Iterator<Item = &str> {
        let words = advice.split([' ', ',', ';', ':', '?', '[', '\'']);
        words.filter_map(|word| word.strip_prefix('-')).filter(|flag| !flag.is_empty())
    }

    #[test]
    fn advice_about_commands_names_commands_and_flags_that_exist() {
        let definition = definition();
        let mut seen = std::collections::BTreeSet::new();
        for (names, advice) in COMMANDS {
            for name in *names {
                assert!(seen.insert(name), "{name} stands there twice");
                assert!(table::names().all(|known| known != *name), "{name} is a command");
                assert!(!table::is_later_command(name), "{name} will be a command");
            }
            let Some((_, line)) = advice.split_once("plakar ") else {
                assert!(flags_in(advice).all(|flag| find(&definition, flag).is_some()), "{advice}");
                continue;
            };
            let line = line.strip_prefix("at STORE ").unwrap_or(line);
            let word = line.split([' ', ';']).next().unwrap();
            let command = definition.find_subcommand(word).unwrap_or_else(|| panic!("{advice}"));
            assert!(flags_in(line).all(|flag| find(command, flag).is_some()), "{advice}");
        }
    }

    #[test]
    fn advice_about_flags_is_given_and_names_flags_that_exist() {
        let definition = definition();
        for (names, of, advice) in FLAGS {
            for name in *names {
                assert!(find(&definition, name).is_none(), "{name} is a global flag");
                let told: Vec<&Command> = definition
                    .get_subcommands()
                    .filter(|command| {
                        find(command, name).is_none() && flag(name, Some(command)) == Some(advice)
                    })
                    .collect();
                assert!(!told.is_empty(), "nobody ever reads it: {name} {of:?} {advice}");
                // A line that names a command of its own is about that one.
                let own = advice.split_once("plakar at STORE ").map_or(*advice, |(before, _)| before);
                for command in told {
                    let known =
                        |flag: &str| find(command, flag).or_else(|| find(&definition, flag)).is_some();
                    assert!(flags_in(own).all(known), "{}: {advice}", command.get_name());
                }
            }
        }
    }

    #[test]
    fn case_does_not_matter_for_commands_and_unknown_names_get_nothing() {
        assert_eq!(command("INIT"), command("init"));
        assert_eq!((command("frobnicate"), flag("frobnicate", None)), (None, None));
        assert!(flag("repo", None).is_some() && flag("n", None).is_none());
    }
}
