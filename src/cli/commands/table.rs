//! The table of commands: what there is, what is to come, and in which order help shows it.

/// One command in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, in a few words.
    pub(crate) about: &'static str,
}

const fn listed(name: &'static str, about: &'static str) -> Listed {
    Listed { name, about }
}

/// The commands by group.
pub(crate) const GROUPS: [(&str, &[Listed]); 5] = [
    (
        "Back up and restore",
        &[
            listed("create", "make a new store"),
            listed("backup", "take a snapshot of folders or of a source"),
            listed("ls", "list snapshots, or what is in one"),
            listed("cat", "print files of a snapshot"),
            listed("restore", "bring a snapshot back, to a folder or to a bucket"),
            listed("archive", "write a snapshot as tar or zip"),
        ],
    ),
    (
        "Keep it safe",
        &[
            listed("check", "verify that everything can be read (also: verify)"),
            listed("ptar", "pack folders, sources or whole stores into one archive"),
            listed("sync", "copy snapshots to, from or with another store"),
            listed("dup", "make a second snapshot of the same content"),
            listed("info", "describe the store or a snapshot"),
            listed("key", "show and change what opens the store"),
            listed("locate", "find files by name in all snapshots"),
            listed("find", "find them by size, time, type, metadata too (also: search)"),
            listed("diff", "show what changed between two snapshots"),
            listed("digest", "print digests of files"),
        ],
    ),
    (
        "Make room",
        &[
            listed("rm", "remove snapshots"),
            listed("prune", "remove snapshots that no retention rule keeps"),
            listed("policy", "name sets of retention rules"),
            listed("maintenance", "make room for what no snapshot needs"),
            listed("repair", "bring back what lost states named"),
        ],
    ),
    (
        "Configure",
        &[
            listed("store", "name places that hold stores"),
            listed("source", "name places that are backed up"),
            listed("destination", "name places that are restored to"),
            listed("config", "the same in the older spellings; alone, print everything"),
        ],
    ),
    (
        "Learn",
        &[
            listed("help", "explain a command"),
            listed("version", "print the version and the connectors built in"),
        ],
    ),
];

/// Commands that exist upstream and come here later.
pub(crate) const LATER: &[&str] = &["completions", "mount", "pkg", "server", "ui"];

/// Global flags that come later.
const LATER_GLOBAL: [&str; 1] = ["trace"];

/// Other names of commands.
const ALIASES: [&str; 2] = ["verify", "search"];

/// Returns the names of all commands that can be run, other names among them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|(_, commands)| commands.iter()).map(|command| command.name).chain(ALIASES)
}

/// Returns whether a command is known but not built yet.
pub(crate) fn is_later_command(name: &str) -> bool {
    LATER.contains(&name)
}

/// Returns whether a flag of a command, or a global one, is known but not built yet.
pub(crate) fn is_later_flag(command: Option<&str>, flag: &str) -> bool {
    let own: &[&str] = match command {
        Some("cat") => &["highlight"],
        Some("check") => &["no-verify"],
        Some("store" | "source" | "destination" | "config") => &["rclone"],
        _ => &[],
    };
    own.contains(&flag) || LATER_GLOBAL.contains(&flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_definitions_agree() {
        let definition = super::super::definition();
        let mut defined: Vec<&str> = definition.get_subcommands().map(clap::Command::get_name).collect();
        let mut tabled: Vec<&str> = names().filter(|name| !ALIASES.contains(name)).collect();
        defined.sort_unstable();
        tabled.sort_unstable();
        assert_eq!(defined, tabled);
        assert!(names().all(|name| !is_later_command(name)));
    }

    #[test]
    fn no_flag_is_both_here_and_later() {
        let definition = super::super::definition();
        for command in definition.get_subcommands() {
            for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(!is_later_flag(Some(command.get_name()), flag), "{} -{flag}", command.get_name());
            }
        }
    }
}
