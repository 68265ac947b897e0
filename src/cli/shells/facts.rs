//! What a shell has to know of commands and flags.

use clap::{Arg, Command};

use super::super::commands::{definition, table};

/// A flag.
#[derive(Clone, Debug)]
pub(super) struct Flag {
    /// Its name without dashes.
    pub(super) name: String,
    /// What it does.
    pub(super) help: String,
    /// Whether it takes a value.
    pub(super) takes_value: bool,
    /// The values there are; none where any will do.
    pub(super) values: Vec<String>,
}

impl Flag {
    fn of(arg: &Arg) -> Option<Self> {
        let short = || arg.get_short().map(|letter| letter.to_string());
        Some(Self {
            name: arg.get_long().map(str::to_owned).or_else(short)?,
            help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            takes_value: arg.get_action().takes_values(),
            values: values(arg),
        })
    }

    /// Returns whether it is a single letter, which takes one dash only.
    pub(super) fn is_letter(&self) -> bool {
        self.name.chars().count() == 1
    }

    /// Returns its spellings: with one dash, and with two.
    pub(super) fn spellings(&self) -> Vec<String> {
        let one = format!("-{}", self.name);
        if self.is_letter() { vec![one] } else { vec![one, format!("--{}", self.name)] }
    }
}

fn values(arg: &Arg) -> Vec<String> {
    // A switch has the values true and false, which nobody types.
    if arg.get_action().takes_values() || arg.is_positional() {
        arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
    } else {
        Vec::new()
    }
}

/// A command.
#[derive(Clone, Debug)]
pub(super) struct Verb {
    /// Its name, and others that stand for it.
    pub(super) names: Vec<String>,
    /// What it does, in a few words.
    pub(super) about: String,
    /// Its own flags.
    pub(super) flags: Vec<Flag>,
    /// The words that can stand first among its arguments; none where that is a file or a snapshot.
    pub(super) words: Vec<String>,
}

/// Everything.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The flags that every command takes.
    pub(super) globals: Vec<Flag>,
    /// The commands, in the order of the help.
    pub(super) verbs: Vec<Verb>,
}

impl Facts {
    /// Gathers everything from the definitions.
    pub(super) fn gather() -> Self {
        let root = definition();
        let listed = table::GROUPS.iter().flat_map(|(_, commands)| commands.iter());
        let verbs = listed.filter_map(|listed| {
            let command = root.find_subcommand(listed.name)?;
            Some(Verb {
                names: std::iter::once(command.get_name())
                    .chain(command.get_all_aliases())
                    .map(str::to_owned)
                    .collect(),
                about: listed.about.to_owned(),
                flags: flags(command),
                words: words(command),
            })
        });
        Self { verbs: verbs.collect(), globals: flags(&root) }
    }

    /// Returns the flags of a command, the global ones at the end.
    pub(super) fn flags_of<'a>(&'a self, verb: &'a Verb) -> impl Iterator<Item = &'a Flag> + Clone {
        verb.flags.iter().chain(&self.globals)
    }
}

fn flags(command: &Command) -> Vec<Flag> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional());
    shown.filter_map(Flag::of).collect()
}

fn words(command: &Command) -> Vec<String> {
    const VERBS: [&str; 9] = ["add", "set", "unset", "rm", "show", "default", "check", "ping", "import"];
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match command.get_name() {
        "help" => table::names().map(str::to_owned).collect(),
        "store" | "source" | "destination" => owned(&VERBS),
        "config" => owned(&["store", "source", "destination", "repository", "remote"]),
        "sync" => owned(&["to", "from", "with"]),
        _ => command.get_positionals().next().map(values).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_there_once() {
        let facts = Facts::gather();
        let check = facts.verbs.iter().find(|verb| verb.names[0] == "check").unwrap();
        assert_eq!(check.names, ["check", "verify"]);
        assert!(check.flags.iter().any(|flag| flag.name == "fast" && !flag.takes_value));
        assert!(check.flags.iter().all(|flag| flag.name != "json"), "global flags are kept apart");
        assert!(facts.globals.iter().any(|flag| flag.name == "keyfile" && flag.takes_value));
        let archive = facts.verbs.iter().find(|verb| verb.names[0] == "archive").unwrap();
        let format = archive.flags.iter().find(|flag| flag.name == "format").unwrap();
        assert_eq!(format.values, ["tar", "tarball", "zip"]);
        assert_eq!(format.spellings(), ["-format", "--format"]);
        let mut names: Vec<&String> = facts.verbs.iter().flat_map(|verb| &verb.names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
