//! From what was typed to what clap understands.
//!
//! Plakar's flags are Go's: one dash or two, `-flag VALUE` or `-flag=VALUE`, `-flag=false` for switches; and here they
//! may stand anywhere. clap's long flags have two dashes. So every token is looked up in clap's own definitions: the
//! result is the command, then its flags as `--name=value`, then `--`, then the positional arguments. A value may
//! begin with a dash, because a flag that takes a value takes the next token whatever it looks like.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

use super::commands::table;
use super::error::{CommandError, Exit};
use super::{suggest, synonyms};
use crate::base::{Printable, sys};

/// A command line, taken apart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Invocation {
    /// STORE of `at STORE`.
    pub(crate) store: Option<OsString>,
    /// The command's own name, aliases resolved.
    pub(crate) command: Option<String>,
    /// Whether help was asked for by a flag.
    pub(crate) help: bool,
    /// Whether the version was asked for by a flag.
    pub(crate) version: bool,
    /// The flags, as clap wants them.
    pub(crate) flags: Vec<OsString>,
    /// The positional arguments.
    pub(crate) positionals: Vec<OsString>,
}

impl Invocation {
    /// Returns the command line that was meant, if `at STORE` stands behind the command, where it is two arguments.
    pub(crate) fn misplaced_store(&self) -> Option<String> {
        let place = self.positionals.iter().position(|word| word == "at")?;
        let store = self.positionals.get(place + 1).filter(|_| self.store.is_none())?;
        let command = self.command.as_deref()?;
        Some(format!("plakar at {} {command}", Printable::os(store)))
    }

    /// Returns the arguments for clap.
    pub(crate) fn for_clap(&self) -> Vec<OsString> {
        let mut args = vec![OsString::from("plakar")];
        args.extend(self.command.iter().map(OsString::from));
        args.extend(self.flags.iter().cloned());
        if !self.positionals.is_empty() {
            args.push("--".into());
            args.extend(self.positionals.iter().cloned());
        }
        args
    }
}

/// Takes the arguments (without the program's name) apart, following the definitions in `root`.
pub(crate) fn normalise(
    args: impl IntoIterator<Item = OsString>,
    root: &Command,
) -> Result<Invocation, CommandError> {
    let mut reader = Reader { root, command: None, found: Invocation::default() };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            reader.rest(args)?;
            break;
        }
        let is_flag = arg.as_encoded_bytes().starts_with(b"-") && arg != "-";
        if is_flag && !reader.is_value(&arg) {
            reader.flag(&arg, &mut args)?;
        } else {
            reader.word(arg, &mut args)?;
        }
    }
    Ok(reader.found)
}

struct Reader<'a> {
    root: &'a Command,
    command: Option<&'a Command>,
    found: Invocation,
}

impl Reader<'_> {
    fn rest(&mut self, args: impl Iterator<Item = OsString>) -> Result<(), CommandError> {
        let mut args = args;
        while let Some(arg) = args.next() {
            self.word(arg, &mut args)?;
        }
        Ok(())
    }

    fn word(
        &mut self,
        word: OsString,
        args: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), CommandError> {
        if self.command.is_some() {
            self.found.positionals.push(word);
            return Ok(());
        }
        if word == "at" {
            if self.found.store.is_some() {
                return Err(CommandError::usage("'at' was given twice").hint("plakar at STORE COMMAND"));
            }
            let store = args.next().filter(|store| !store.is_empty());
            let store = store.ok_or_else(|| {
                CommandError::usage("'at' needs a store")
                    .hint("plakar at STORE COMMAND; STORE is a path, a URL or @name")
            })?;
            self.found.store = Some(store);
            return Ok(());
        }
        let name = word.to_string_lossy();
        match self.root.find_subcommand(name.as_ref()) {
            Some(command) => {
                self.command = Some(command);
                self.found.command = Some(command.get_name().to_owned());
                Ok(())
            }
            None => Err(unknown_command(&name)),
        }
    }

    /// Returns whether a token that looks like a flag is the value in `set NAME KEY VALUE`: a secret may begin with a
    /// dash.
    fn is_value(&self, arg: &OsStr) -> bool {
        let place = match self.found.command.as_deref() {
            Some("config") => 4,
            Some("store" | "source" | "destination") => 3,
            _ => return false,
        };
        let words = &self.found.positionals;
        let sets = words.len() == place
            && words[place - 3] == "set"
            && !words[place - 1].as_encoded_bytes().contains(&b'=');
        sets && split_flag(arg).is_none_or(|(name, _)| self.find(&name).is_none())
    }

    fn flag(&mut self, arg: &OsStr, args: &mut impl Iterator<Item = OsString>) -> Result<(), CommandError> {
        let shown = Printable::os(arg).to_string();
        let (name, value) =
            split_flag(arg).ok_or_else(|| CommandError::usage(format!("'{shown}' is not a flag")))?;
        let Some(definition) = self.find(&name) else {
            return self.other_flag(&name, value.as_deref(), &shown);
        };
        let spelling = match (definition.get_long(), definition.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(short)) => format!("-{short}"),
            (None, None) => return Err(self.unknown_flag(&name)),
        };
        if !definition.get_action().takes_values() {
            return self.switch(&name, spelling, value.as_deref());
        }
        let value = match value {
            Some(value) => value,
            None => args.next().ok_or_else(|| {
                let what = definition.get_value_names().and_then(|names| names.first());
                let what = what.map_or("value", |name| name.as_str());
                CommandError::usage(format!("the flag -{name} needs a value: {what}"))
            })?,
        };
        let mut flag = OsString::from(spelling);
        flag.push("=");
        flag.push(value);
        self.found.flags.push(flag);
        Ok(())
    }

    /// Sets a switch, or unsets it with `=false`.
    fn switch(&mut self, name: &str, spelling: String, value: Option<&OsStr>) -> Result<(), CommandError> {
        let on = match value {
            None => true,
            Some(value) => value.to_str().and_then(crate::connectors::parse_bool).ok_or_else(|| {
                CommandError::usage(format!(
                    "the flag -{name} is true or false, not {}",
                    Printable::os(value)
                ))
            })?,
        };
        self.found.flags.retain(|flag| *flag != *spelling);
        if on {
            self.found.flags.push(spelling.into());
        }
        Ok(())
    }

    fn other_flag(&mut self, name: &str, value: Option<&OsStr>, shown: &str) -> Result<(), CommandError> {
        match name {
            "h" | "help" if value.is_none() => self.found.help = true,
            "version" | "V" if value.is_none() && self.command.is_none() => self.found.version = true,
            _ if shown.len() > 64 => return Err(CommandError::usage("unknown flag")),
            _ => return Err(self.unknown_flag(name)),
        }
        Ok(())
    }

    fn unknown_flag(&self, name: &str) -> CommandError {
        let printable = Printable::new(name);
        let Some(command) = self.command else {
            if name == "at" {
                return CommandError::usage("'at' takes no dash").hint("plakar at STORE COMMAND");
            }
            let elsewhere = self.root.get_subcommands().any(|command| find(command, name).is_some());
            let error = CommandError::usage(format!("unknown global flag -{printable}"));
            return if elsewhere {
                error.hint(format!("put -{printable} after the command"))
            } else {
                self.near_flag(error, name)
            };
        };
        let error = CommandError::usage(format!("'{}' has no flag -{printable}", command.get_name()));
        self.near_flag(error, name)
    }

    fn near_flag(&self, error: CommandError, name: &str) -> CommandError {
        let commands = [Some(self.root), self.command];
        let flags = commands.into_iter().flatten().flat_map(Command::get_arguments).filter_map(Arg::get_long);
        let help = self
            .command
            .map_or("plakar help".to_owned(), |command| format!("plakar help {}", command.get_name()));
        if let Some(advice) = synonyms::flag(name, self.command) {
            return error.hint(format!("{advice} (all flags: {help})"));
        }
        match suggest::nearest(name, flags) {
            Some(near) => error.hint(format!("did you mean -{near}? All flags: {help}")),
            None => error.hint(format!("all flags: {help}")),
        }
    }

    fn find(&self, name: &str) -> Option<&Arg> {
        self.command.and_then(|command| find(command, name)).or_else(|| find(self.root, name))
    }
}

/// Finds a flag by its long name, one of its aliases, or its letter.
pub(super) fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let letter = Some(name).filter(|name| name.chars().count() == 1).and_then(|name| name.chars().next());
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name)
            || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
            || (letter.is_some() && arg.get_short() == letter)
    })
}

/// Splits `-name=value` or `--name=value`. Nothing when there is no name, or one that is not text.
fn split_flag(arg: &OsStr) -> Option<(String, Option<OsString>)> {
    let bytes = arg.as_encoded_bytes().strip_prefix(b"-")?;
    let bytes = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let (name, value) = match bytes.iter().position(|&b| b == b'=') {
        Some(at) => (&bytes[..at], Some(sys::os_part(&bytes[at + 1..]).into_owned())),
        None => (bytes, None),
    };
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.starts_with('-'))?;
    Some((name.to_owned(), value))
}

fn unknown_command(name: &str) -> CommandError {
    let printable = Printable::new(name);
    if table::is_later_command(name) {
        return CommandError::new(Exit::Failed, format!("the command '{printable}' is not available yet"))
            .hint("plakar help lists the commands that are");
    }
    let error = CommandError::usage(format!("unknown command '{printable}'"));
    if name.starts_with("at=") {
        return error.hint("plakar at STORE COMMAND");
    }
    if let Some(advice) = synonyms::command(name) {
        return error.hint(advice);
    }
    match suggest::nearest(name, table::names()) {
        Some(near) => error.hint(format!("did you mean '{near}'? All commands: plakar help")),
        None => error.hint("all commands: plakar help"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::commands::definition;
    use super::*;

    fn read(line: &[&str]) -> Result<Invocation, CommandError> {
        normalise(line.iter().map(OsString::from), &definition())
    }

    fn clap(line: &[&str]) -> Vec<String> {
        let args = read(line).unwrap().for_clap();
        args.into_iter().skip(1).map(|arg| arg.into_string().unwrap()).collect()
    }

    fn message(line: &[&str]) -> String {
        let error = read(line).unwrap_err();
        let told = error.report().unwrap();
        format!("{} [{}] {}", told.message, error.exit().code(), told.hint.unwrap_or_default())
    }

    #[test]
    fn one_dash_or_two_with_equals_or_space_anywhere() {
        let wanted = ["restore", "--to=X", "--", "abc"];
        for line in [
            &["restore", "-to", "X", "abc"][..],
            &["restore", "--to", "X", "abc"],
            &["restore", "-to=X", "abc"],
            &["restore", "--to=X", "abc"],
            &["restore", "abc", "-to", "X"],
        ] {
            assert_eq!(clap(line), wanted, "{line:?}");
        }
        assert_eq!(clap(&["ptar", "-o", "f", "-k", "@a", "--k=@b"]), ["ptar", "-o=f", "-k=@a", "-k=@b"]);
        assert_eq!(clap(&["-quiet", "ls", "-json"]), ["ls", "--quiet", "--json"]);
    }

    #[test]
    fn values_may_begin_with_a_dash_and_two_dashes_end_flags() {
        assert_eq!(clap(&["backup", "-tag", "-x", "."]), ["backup", "--tag=-x", "--", "."]);
        assert_eq!(clap(&["ptar", "-o", "-"]), ["ptar", "-o=-"]);
        assert_eq!(clap(&["backup", "--", "-odd", "--", "-k"]), ["backup", "--", "-odd", "--", "-k"]);
        assert_eq!(
            clap(&["config", "store", "set", "n", "passphrase", "-secret"]),
            ["config", "--", "store", "set", "n", "passphrase", "-secret"]
        );
        assert_eq!(
            clap(&["store", "set", "n", "passphrase", "--x=y"]),
            ["store", "--", "set", "n", "passphrase", "--x=y"]
        );
        assert!(read(&["store", "add", "n", "/x", "-y"]).is_err());
    }

    #[test]
    fn switches_take_true_and_false() {
        assert_eq!(clap(&["ls", "-uuid=true"]), ["ls", "--uuid"]);
        assert_eq!(clap(&["-quiet", "ls", "-quiet=false"]), ["ls"]);
        assert!(
            message(&["ls", "-uuid=maybe"]).starts_with("the flag -uuid is true or false, not maybe [64]")
        );
    }

    #[test]
    fn at_names_the_store_once_before_the_command() {
        let found = read(&["-time", "at", "@s", "backup", "at"]).unwrap();
        assert_eq!((found.store, found.positionals), (Some("@s".into()), vec!["at".into()]));
        assert!(message(&["at"]).starts_with("'at' needs a store [64]"));
        assert!(message(&["at", "a", "at", "b", "ls"]).starts_with("'at' was given twice [64]"));
        assert_eq!(read(&["at", "x"]).unwrap().command, None);
    }

    #[test]
    fn wrong_words_suggest_right_ones() {
        assert_eq!(
            message(&["bakcup"]),
            "unknown command 'bakcup' [64] did you mean 'backup'? All commands: plakar help"
        );
        assert_eq!(
            message(&["ls", "-recursiv"]),
            "'ls' has no flag -recursiv [64] did you mean -recursive? All flags: plakar help ls"
        );
        assert_eq!(message(&["-tag", "x", "ls"]), "unknown global flag -tag [64] put -tag after the command");
        assert_eq!(message(&["restore", "-to"]), "the flag -to needs a value: DIR [64] ");
        assert_eq!(message(&["-at", "s", "ls"]), "'at' takes no dash [64] plakar at STORE COMMAND");
        assert_eq!(message(&["at=s", "ls"]), "unknown command 'at=s' [64] plakar at STORE COMMAND");
        assert_eq!(message(&["ls", "-\x1b"]), "'ls' has no flag -\\x1b [64] all flags: plakar help ls");
    }

    #[test]
    fn what_comes_later_is_refused_by_name() {
        assert!(message(&["ui", "-addr", "x"]).starts_with("the command 'ui' is not available yet [1]"));
    }

    #[test]
    fn help_and_version_are_flags_too() {
        assert!(read(&["--help"]).unwrap().help);
        let found = read(&["backup", "-h"]).unwrap();
        assert_eq!((found.help, found.command.as_deref()), (true, Some("backup")));
        assert!(read(&["-version"]).unwrap().version);
        assert_eq!(read(&["verify"]).unwrap().command.as_deref(), Some("check"));
    }
}
