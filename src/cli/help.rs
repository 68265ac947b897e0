//! Help texts, made from the definitions of commands and flags. Flags are shown as people of Plakar write them, with
//! one dash.

use std::fmt::Write as _;

use clap::{Arg, Command};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::commands::{definition, table};
use super::error::CommandError;
use super::suggest;
use crate::base::Printable;
use crate::ui::{Output, json};

/// The column at which descriptions start.
const COLUMN: usize = 26;

/// Prints the overview, or the help of one command or topic.
pub(crate) fn show(name: Option<&str>, output: &Output) -> Result<(), CommandError> {
    #[derive(Serialize)]
    struct Listed {
        name: &'static str,
        about: &'static str,
        group: &'static str,
    }
    #[derive(Serialize)]
    struct Help<'a> {
        r#type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        commands: Option<Vec<Listed>>,
        examples: Vec<String>,
        text: String,
    }
    let text = match name {
        None => overview(),
        Some("json") => shapes(),
        Some(name) => command(name)?,
    };
    if !output.is_json() {
        return Ok(output.text(text)?);
    }
    let groups =
        || table::GROUPS.into_iter().flat_map(|(group, all)| all.iter().map(move |one| (group, one)));
    let commands = name
        .is_none()
        .then(|| groups().map(|(group, one)| Listed { name: one.name, about: one.about, group }).collect());
    let examples = name.map(examples).unwrap_or_default();
    Ok(output.json(&Help { r#type: "help", command: name, commands, examples, text })?)
}

/// Returns the shapes of `-json`: the paragraphs and tables of their document as a terminal shows them.
fn shapes() -> String {
    const MARGIN: usize = 16;
    let mut out = String::new();
    let mut paragraph: Vec<&str> = Vec::new();
    for line in json::SHAPES.lines().chain([""]) {
        let cells: Vec<&str> = line.trim_matches('|').splitn(2, " | ").map(str::trim).collect();
        let row = line.starts_with("| `");
        if !line.is_empty() && !line.starts_with('|') {
            paragraph.push(line);
            continue;
        }
        if !paragraph.is_empty() {
            let gap = if out.is_empty() { "" } else { "\n" };
            writeln!(out, "{gap}{}\n", wrap(&paragraph.join(" ").replace('`', ""), 80, 0))
                .expect("a string takes everything");
            paragraph.clear();
        }
        if let ([name, members], true) = (cells.as_slice(), row) {
            let name = name.trim_matches('`');
            let members = wrap(&members.replace('`', ""), 80, MARGIN);
            writeln!(out, "  {name:<width$}{members}", width = MARGIN - 2)
                .expect("a string takes everything");
        }
    }
    out
}

/// Returns the examples of a command.
fn examples(name: &str) -> Vec<String> {
    let definition = definition();
    let examples = definition.find_subcommand(name).and_then(|command| command.get_after_help());
    examples.map(|examples| examples.to_string().lines().map(str::to_owned).collect()).unwrap_or_default()
}

/// Returns the one-screen overview.
pub(crate) fn overview() -> String {
    let mut out = String::from(
        "plakar backs up folders and buckets into encrypted, deduplicated stores.\n\n\
         usage: plakar [FLAGS] [at STORE] COMMAND [FLAGS] [ARGS]\n\n",
    );
    for (group, commands) in table::GROUPS {
        writeln!(out, "{group}").expect("a string takes everything");
        // Two columns, read downwards.
        let rows = commands.len().div_ceil(2);
        for row in 0..rows {
            let cell = |at: usize| {
                commands
                    .get(at)
                    .map_or_else(String::new, |command| format!("  {:<11} {}", command.name, command.about))
            };
            let line = format!("{:<40}{}", cell(row), cell(row + rows));
            writeln!(out, "{}", line.trim_end()).expect("a string takes everything");
        }
    }
    out.push_str(
        "\nSTORE is a path, a URL (s3://, https://…ptar), an archive (x.ptar), @name;\n\
         without it: $PLAKAR_REPOSITORY, the default store, ~/.plakar. Flags take one\n\
         dash or two; 'plakar help COMMAND' shows those of a command, with examples.\n",
    );
    if !table::LATER.is_empty() {
        let later = wrap(&format!("Not available yet: {}.", table::LATER.join(", ")), 80, 0);
        writeln!(out, "{later}").expect("a string takes everything");
    }
    out
}

/// Returns the help of one command.
pub(crate) fn command(name: &str) -> Result<String, CommandError> {
    let definition = definition();
    let Some(command) = definition.find_subcommand(name) else {
        let printable = Printable::new(name);
        if table::is_later_command(name) {
            return Err(CommandError::failed(format!("the command '{printable}' is not available yet")));
        }
        let error = CommandError::usage(format!("there is no command '{printable}'"));
        return Err(match suggest::nearest(name, table::names().chain(["json"])) {
            Some(near) => error.hint(format!("did you mean 'plakar help {near}'?")),
            None => error.hint("plakar help lists them"),
        });
    };
    Ok(render(&definition, command))
}

/// Returns how a command is called.
pub(super) fn usage(command: &Command) -> String {
    let mut out = format!("plakar [at STORE] {}", command.get_name());
    if command.get_arguments().any(|arg| is_flag(arg) && !arg.is_global_set()) {
        out.push_str(" [FLAGS]");
    }
    for arg in command.get_positionals() {
        let name = value_name(arg);
        let many =
            if arg.get_num_args().is_some_and(|n| n.max_values() > 1) || is_list(arg) { "…" } else { "" };
        let name = if arg.is_required_set() { format!(" {name}{many}") } else { format!(" [{name}{many}]") };
        out.push_str(&name);
    }
    out
}

fn render(root: &Command, command: &Command) -> String {
    let mut out = format!("usage: {}\n", usage(command));
    let flags: Vec<&Arg> =
        command.get_arguments().filter(|arg| is_flag(arg) && !arg.is_global_set()).collect();
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        writeln!(out, "\n{}", wrap(&about.to_string(), 80, 0)).expect("a string takes everything");
    }
    let positionals: Vec<&Arg> = command.get_positionals().filter(|arg| arg.get_help().is_some()).collect();
    section(&mut out, "Arguments", &positionals);
    let (query, own): (Vec<&Arg>, Vec<&Arg>) =
        flags.into_iter().partition(|arg| arg.get_help_heading() == Some("Query flags"));
    section(&mut out, "Flags", &own);
    section(&mut out, "Query flags", &query);
    let globals: Vec<&Arg> = root.get_arguments().filter(|arg| is_flag(arg)).collect();
    section(&mut out, "Global flags", &globals);
    if let Some(examples) = command.get_after_help() {
        out.push_str("\nExamples\n");
        for line in examples.to_string().lines() {
            writeln!(out, "  {line}").expect("a string takes everything");
        }
    }
    out
}

fn section(out: &mut String, title: &str, args: &[&Arg]) {
    if args.is_empty() {
        return;
    }
    writeln!(out, "\n{title}").expect("a string takes everything");
    for arg in args.iter().filter(|arg| !arg.is_hide_set()) {
        let left = format!("  {}", flag_name(arg));
        let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(default) = arg.get_default_values().first() {
            write!(help, " (default {})", default.to_string_lossy()).expect("a string takes everything");
        }
        let gap = if left.width() + 2 > COLUMN {
            format!("\n{}", " ".repeat(COLUMN))
        } else {
            " ".repeat(COLUMN - left.width())
        };
        writeln!(out, "{left}{gap}{}", wrap(&help, 96, COLUMN)).expect("a string takes everything");
    }
}

/// Returns a flag with one dash and the name of its value; of an argument without a dash, that name.
pub(super) fn flag_name(arg: &Arg) -> String {
    let value = if arg.get_action().takes_values() { value_name(arg) } else { String::new() };
    let flag = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("-{long} {value}"),
        (None, Some(short)) => format!("-{short} {value}"),
        (None, None) => value,
    };
    flag.trim_end().to_owned()
}

/// Returns whether an argument has a name with a dash.
pub(super) fn is_flag(arg: &Arg) -> bool {
    arg.get_long().is_some() || arg.get_short().is_some()
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
}

/// Returns what stands for the value of an argument.
pub(super) fn value_name(arg: &Arg) -> String {
    arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_default()
}

/// Breaks text into lines of at most `width` columns; lines after the first are indented.
fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    for (number, paragraph) in text.lines().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        let mut column = indent;
        for (i, word) in paragraph.split_whitespace().enumerate() {
            if i > 0 && column + 1 + word.width() > width {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            } else if i > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += word.width();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_fits_one_screen() {
        let text = overview();
        assert!(text.lines().count() <= 30, "{text}");
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        assert!(
            table::GROUPS
                .iter()
                .flat_map(|(_, commands)| commands.iter())
                .all(|command| text.contains(&format!("  {} ", command.name)))
        );
    }

    #[test]
    fn every_command_explains_itself_and_every_flag() {
        let definition = definition();
        for sub in definition.get_subcommands() {
            let text = command(sub.get_name()).unwrap();
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            for arg in sub.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", sub.get_name(), arg.get_id());
            }
            assert!(text.lines().all(|line| line.width() <= 110), "{text}");
            assert!(!text.contains(" --"), "{text}");
        }
        assert_eq!(command("verify").unwrap(), command("check").unwrap());
    }

    #[test]
    fn the_shapes_of_json_fit_a_terminal() {
        let text = shapes();
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        assert!(text.contains("  version       version: version, importers, exporters, klosets\n"), "{text}");
        assert!(!text.contains(['|', '`']), "{text}");
    }

    #[test]
    fn unknown_commands_are_told_apart() {
        assert_eq!(command("mount").unwrap_err().exit().code(), 1);
        let told = command("bakcup").unwrap_err().report().unwrap();
        assert_eq!(told.hint.as_deref(), Some("did you mean 'plakar help backup'?"));
    }
}
