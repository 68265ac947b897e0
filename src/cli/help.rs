//! Help texts, made from the definitions of commands and flags. Flags are shown as people of Plakar write them, with
//! one dash.

use std::fmt::Write as _;

use clap::{Arg, Command};
use serde::Serialize;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::commands::{definition, table};
use super::error::CommandError;
use super::{option_tables, suggest, synonyms};
use crate::base::Printable;
use crate::connectors::Kind;
use crate::ui::{Colour, Output, Style, json};

/// The column at which descriptions start, where there is room for columns.
const COLUMN: usize = 26;
/// Narrower than this there are no columns.
const NARROW: usize = 60;
/// Lines longer than this are hard to read, however wide the terminal is.
const WIDEST: usize = 96;
/// How far descriptions are indented where there are no columns.
const INDENT: usize = 6;

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
        #[serde(skip_serializing_if = "Vec::is_empty")]
        options: Vec<option_tables::Listed>,
        examples: Vec<String>,
        text: String,
    }
    let width = if output.is_json() { 80 } else { output.width() };
    let text = match name {
        None => overview(width, if output.is_json() { Style::PLAIN } else { output.style() }),
        Some("json") => shapes(width.min(WIDEST)),
        Some(name) => match topic(name) {
            Some(kind) => connector(kind, width.min(WIDEST)),
            None => command(name, width.min(WIDEST))?,
        },
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
    let options = name.map(|name| option_tables::listed(name, topic(name))).unwrap_or_default();
    Ok(output.json(&Help { r#type: "help", command: name, commands, options, examples, text })?)
}

/// Returns the shapes of `-json`: the paragraphs and tables of their document as a terminal shows them.
fn shapes(width: usize) -> String {
    let margin = if width < NARROW { INDENT } else { 16 };
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
            writeln!(out, "{gap}{}\n", wrap(&paragraph.join(" ").replace('`', ""), width, 0))
                .expect("a string takes everything");
            paragraph.clear();
        }
        if let ([name, members], true) = (cells.as_slice(), row) {
            let name = name.trim_matches('`');
            let members = wrap(&members.replace('`', ""), width, margin);
            let gap = gap(name.len() + 2, margin);
            writeln!(out, "  {name}{gap}{members}").expect("a string takes everything");
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

/// Returns the one-screen overview: 23 lines of a terminal of 24, in two columns where there is room for them.
pub(crate) fn overview(width: usize, style: Style) -> String {
    let mut out = wrap("usage: plakar [FLAGS] [at STORE] COMMAND [FLAGS] [ARGS]", width, 7);
    out.push('\n');
    let block = |(group, commands): &(&str, &[table::Listed])| -> Vec<String> {
        let line = |one: &table::Listed| format!("  {:<11} {}", one.name, one.about);
        std::iter::once((*group).to_owned()).chain(commands.iter().map(line)).collect()
    };
    let blocks: Vec<Vec<String>> = table::GROUPS.iter().map(block).collect();
    if width < 80 {
        let lines = blocks.iter().flatten().map(|line| wrap_hard(line, width));
        out.extend(lines.map(|line| format!("{}\n", heading(&line, style))));
    } else {
        let (left, right) = columns(&blocks);
        for row in 0..left.len().max(right.len()) {
            let cell = |column: &[String]| column.get(row).cloned().unwrap_or_default();
            let (left, right) = (cell(&left), cell(&right));
            let pad = if right.is_empty() { 0 } else { 40 - left.width() };
            let line = format!("{}{}{}", heading(&left, style), " ".repeat(pad), heading(&right, style));
            writeln!(out, "{line}").expect("a string takes everything");
        }
    }
    let mut end = String::from(
        "STORE: path, URL, x.ptar, @name; else $PLAKAR_REPOSITORY, the default, ~/.plakar. \
         Flags take one dash or two; 'plakar help COMMAND' has examples.",
    );
    if !table::LATER.is_empty() {
        write!(end, " Not there yet: {}.", table::LATER.join(", ")).expect("a string takes everything");
    }
    writeln!(out, "{}", wrap(&end, width.min(80), 0)).expect("a string takes everything");
    out
}

/// Makes headings bold, which stand at the margin.
fn heading(cell: &str, style: Style) -> String {
    let heading = !cell.is_empty() && !cell.starts_with(' ');
    if heading { style.paint(Colour::Bold, cell).to_string() } else { cell.to_owned() }
}

/// Distributes groups over two columns, so that the longer one is as short as can be. Their order stays.
fn columns(blocks: &[Vec<String>]) -> (Vec<String>, Vec<String>) {
    let height = |chosen: u32, side: bool| -> usize {
        let in_column = blocks.iter().enumerate().filter(|(i, _)| (chosen >> i & 1 == 1) == side);
        in_column.map(|(_, block)| block.len()).sum()
    };
    let best = (0..1_u32 << blocks.len())
        // The first group begins the left column.
        .filter(|chosen| chosen & 1 == 1)
        .min_by_key(|&chosen| height(chosen, true).max(height(chosen, false)))
        .unwrap_or(u32::MAX);
    let column = |side: bool| {
        let chosen = blocks.iter().enumerate().filter(|(i, _)| (best >> i & 1 == 1) == side);
        chosen.flat_map(|(_, block)| block.iter().cloned()).collect()
    };
    (column(true), column(false))
}

/// Cuts a line at the width of a terminal too narrow for it.
fn wrap_hard(line: &str, width: usize) -> String {
    let mut out = String::new();
    let mut columns = 0;
    for c in line.chars() {
        columns += c.width().unwrap_or(0);
        if columns > width {
            break;
        }
        out.push(c);
    }
    out
}

/// Returns what stands between a name that ends at a column and its description that starts at another.
fn gap(end: usize, start: usize) -> String {
    if end + 2 > start { format!("\n{}", " ".repeat(start)) } else { " ".repeat(start - end) }
}

/// Returns the help of one command.
pub(crate) fn command(name: &str, width: usize) -> Result<String, CommandError> {
    let definition = definition();
    let Some(command) = definition.find_subcommand(name) else {
        let printable = Printable::new(name);
        if table::is_later_command(name) {
            return Err(CommandError::failed(format!("the command '{printable}' is not available yet")));
        }
        let error = CommandError::usage(format!("there is no command '{printable}'"));
        if let Some(advice) = synonyms::command(name) {
            return Err(error.hint(advice));
        }
        return Err(
            match suggest::nearest(name, table::names().chain(["json"]).chain(Kind::ALL.map(Kind::scheme))) {
                Some(near) => error.hint(format!("did you mean 'plakar help {near}'?")),
                None => error.hint("plakar help lists them"),
            },
        );
    };
    Ok(render(&definition, command, width))
}

/// Returns the connector that is meant, where no command has its name.
fn topic(name: &str) -> Option<Kind> {
    Kind::from_scheme(name).filter(|_| definition().find_subcommand(name).is_none())
}

/// Returns the help of one connector.
fn connector(kind: Kind, width: usize) -> String {
    let mut out = format!("{}\n", wrap(&option_tables::describe(kind), width.min(80), 0));
    for table in option_tables::of_kind(kind) {
        rows(&mut out, &table.title, &table.rows, width);
    }
    out
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

fn render(root: &Command, command: &Command, width: usize) -> String {
    let mut out = format!("{}\n", wrap(&format!("usage: {}", usage(command)), width, 7));
    let flags: Vec<&Arg> =
        command.get_arguments().filter(|arg| is_flag(arg) && !arg.is_global_set()).collect();
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        writeln!(out, "\n{}", wrap(&about.to_string(), width.min(80), 0)).expect("a string takes everything");
    }
    let positionals: Vec<&Arg> = command.get_positionals().filter(|arg| arg.get_help().is_some()).collect();
    section(&mut out, "Arguments", &positionals, width);
    let (query, own): (Vec<&Arg>, Vec<&Arg>) =
        flags.into_iter().partition(|arg| arg.get_help_heading() == Some("Query flags"));
    section(&mut out, "Flags", &own, width);
    section(&mut out, "Query flags", &query, width);
    for table in option_tables::of_command(command.get_name()) {
        rows(&mut out, &table.title, &table.rows, width);
    }
    let globals: Vec<&Arg> = root.get_arguments().filter(|arg| is_flag(arg)).collect();
    section(&mut out, "Global flags", &globals, width);
    if let Some(examples) = command.get_after_help() {
        out.push_str("\nExamples\n");
        for line in examples.to_string().lines() {
            writeln!(out, "  {line}").expect("a string takes everything");
        }
    }
    out
}

fn section(out: &mut String, title: &str, args: &[&Arg], width: usize) {
    let row = |arg: &&Arg| {
        let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(default) = arg.get_default_values().first() {
            write!(help, " (default {})", default.to_string_lossy()).expect("a string takes everything");
        }
        (flag_name(arg), help)
    };
    let shown: Vec<(String, String)> = args.iter().filter(|arg| !arg.is_hide_set()).map(row).collect();
    rows(out, title, &shown, width);
}

/// Adds a title and what stands below it: names, and behind each what it means.
fn rows(out: &mut String, title: &str, rows: &[(String, String)], width: usize) {
    let column = if width < NARROW { INDENT } else { COLUMN };
    if rows.is_empty() {
        return;
    }
    writeln!(out, "\n{title}").expect("a string takes everything");
    for (name, help) in rows {
        let left = format!("  {name}");
        let gap = gap(left.width(), column);
        writeln!(out, "{left}{gap}{}", wrap(help, width, column)).expect("a string takes everything");
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
        let text = overview(80, Style::PLAIN);
        // The last line of the screen is the shell's.
        assert!(text.lines().count() <= 23, "{text}");
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        let names = table::GROUPS.iter().flat_map(|(_, commands)| commands.iter());
        assert!(names.clone().all(|command| text.contains(&format!("  {} ", command.name))), "{text}");
        let narrow = overview(40, Style::PLAIN);
        assert!(narrow.lines().all(|line| line.width() <= 40), "{narrow}");
        assert!(names.clone().all(|command| narrow.contains(&format!("  {} ", command.name))), "{narrow}");
    }

    #[test]
    fn every_command_explains_itself_and_every_flag() {
        let definition = definition();
        for sub in definition.get_subcommands() {
            let text = command(sub.get_name(), 80).unwrap();
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            for arg in sub.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", sub.get_name(), arg.get_id());
            }
            assert!(!text.contains(" --"), "{text}");
            let told = text.split("\nExamples\n").next().unwrap();
            assert!(told.lines().all(|line| line.width() <= 80), "{text}");
            let narrow = command(sub.get_name(), 40).unwrap();
            let told = narrow.split("\nExamples\n").next().unwrap();
            assert!(told.lines().all(|line| line.width() <= 40), "{narrow}");
        }
        assert_eq!(command("verify", 80).unwrap(), command("check", 80).unwrap());
    }

    /// Splits a line as a shell would, as far as the examples need it: quotes, comments, pipes, redirections.
    fn shell_words(line: &str) -> Vec<String> {
        // What stands before it prepares its input: a pipe, a substitution.
        let line = line.find("plakar ").map_or(line, |at| &line[at..]);
        let line = line.strip_suffix(')').unwrap_or(line);
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for c in line.chars() {
            match (quote, c) {
                (Some(end), c) if c == end => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, '|' | '>' | '#' | ';') if word.is_none() => break,
                (None, ' ') => words.extend(word.take()),
                (_, c) => word.get_or_insert_default().push(c),
            }
        }
        assert!(quote.is_none(), "{line}");
        words.extend(word);
        words
    }

    #[test]
    fn every_example_is_a_command_line_that_makes_sense() {
        use super::super::{configuration, run};
        for sub in definition().get_subcommands() {
            let examples = examples(sub.get_name());
            assert!(!examples.is_empty(), "{} has no example", sub.get_name());
            for example in examples {
                let words = shell_words(&example);
                assert_eq!(words[0], "plakar", "{example}");
                let args: Vec<std::ffi::OsString> = words[1..].iter().map(Into::into).collect();
                let (invocation, cli) = run::parse(args).unwrap_or_else(|error| panic!("{example}: {error}"));
                assert!(cli.is_some() || invocation.version || invocation.help, "{example}");
                let words = &invocation.positionals;
                let parsed = match invocation.command.as_deref() {
                    Some("config") => configuration::parse_config(words).map(drop),
                    Some(noun @ ("store" | "source" | "destination")) => {
                        let role = crate::connectors::Role::ALL.into_iter().find(|role| role.noun() == noun);
                        configuration::parse_role(role.unwrap(), words).map(drop)
                    }
                    _ => Ok(()),
                };
                parsed.unwrap_or_else(|error| panic!("{example}: {error}"));
            }
        }
    }

    #[test]
    fn the_shapes_of_json_fit_a_terminal() {
        let text = shapes(80);
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        assert!(text.contains("  version       version: version, importers, exporters, klosets\n"), "{text}");
        assert!(!text.contains(['|', '`']), "{text}");
    }

    #[test]
    fn connectors_are_topics() {
        let unnamed: Vec<Kind> =
            Kind::ALL.into_iter().filter(|kind| topic(kind.scheme()).is_none()).collect();
        assert_eq!(unnamed, [Kind::Ptar], "the command of that name is explained");
        for kind in Kind::ALL {
            let text = connector(kind, 80);
            assert!(text.contains("  location=LOCATION       where it is"), "{text}");
            for width in [80, 40] {
                let text = connector(kind, width);
                assert!(text.lines().all(|line| line.width() <= width), "{text}");
            }
        }
    }

    #[test]
    fn unknown_commands_are_told_apart() {
        if let Some(later) = table::LATER.first() {
            assert_eq!(command(later, 80).unwrap_err().exit().code(), 1);
        }
        let told = command("bakcup", 80).unwrap_err().report().unwrap();
        assert_eq!(told.hint.as_deref(), Some("did you mean 'plakar help backup'?"));
    }
}
