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
            listed("backup", "take a snapshot"),
            listed("ls", "list snapshots and files"),
            listed("cat", "print files"),
            listed("mount", "browse like a folder"),
            listed("restore", "bring a snapshot back"),
            listed("archive", "write a tar or zip file"),
        ],
    ),
    (
        "Look closer",
        &[
            listed("info", "describe store or snapshot"),
            listed("locate", "find files by name"),
            listed("find", "by size, time, type, too"),
            listed("diff", "show what changed"),
            listed("digest", "print digests of files"),
        ],
    ),
    (
        "Keep it safe",
        &[
            listed("check", "verify all (also: verify)"),
            listed("repair", "rebuild what was lost"),
            listed("key", "change what opens a store"),
            listed("sync", "copy to or from a store"),
            listed("ptar", "pack it all into one file"),
            listed("dup", "duplicate a snapshot"),
        ],
    ),
    (
        "Make room",
        &[
            listed("rm", "remove snapshots"),
            listed("prune", "remove by retention rules"),
            listed("policy", "name retention rules"),
            listed("maintenance", "give space back"),
        ],
    ),
    (
        "Set up",
        &[
            listed("store", "name stores"),
            listed("source", "name what is backed up"),
            listed("destination", "name where it goes"),
            listed("config", "older spelling; prints all"),
            listed("server", "serve a store over HTTP"),
            listed("pkg", "list built-in connectors"),
            listed("completions", "for shells; man pages"),
            listed("help", "explain a command"),
            listed("version", "print the version"),
        ],
    ),
];

/// Commands that exist upstream and come here later.
pub(crate) const LATER: &[&str] = &["ui"];

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
}
