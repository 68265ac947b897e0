//! Manual pages.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::super::commands::{definition, table};
use super::super::{help, option_tables};

/// Returns the names of the pages and what is in them: one of the program, one of each command.
pub(in super::super) fn pages() -> Vec<(String, String)> {
    let root = definition();
    let mut pages = vec![("plakar.1".to_owned(), program(&root))];
    for (_, commands) in table::GROUPS {
        for listed in commands {
            if let Some(command) = root.find_subcommand(listed.name) {
                pages.push((format!("plakar-{}.1", listed.name), page(command, listed.about)));
            }
        }
    }
    pages
}

fn program(root: &Command) -> String {
    let mut page = Page::new("plakar", "encrypted, deduplicated backups of folders and buckets");
    page.section("SYNOPSIS");
    page.text("plakar [FLAGS] [at STORE] COMMAND [FLAGS] [ARGS]");
    page.section("DESCRIPTION");
    page.text(
        "plakar backs up folders and buckets into encrypted, deduplicated stores and single-file archives. STORE is a \
         path, a URL (s3://, sftp://, https://, sqlite:), an archive (x.ptar), or @name of a configured store; without \
         it: $PLAKAR_REPOSITORY, else the default store, else ~/.plakar. Flags take one dash or two.",
    );
    for (group, commands) in table::GROUPS {
        page.section(&group.to_uppercase());
        for listed in commands {
            page.item(&format!("plakar {}", listed.name), listed.about);
        }
    }
    page.section("FLAGS OF ALL COMMANDS");
    flags(&mut page, root.get_arguments().filter(|arg| help::is_flag(arg)));
    exit_status(&mut page);
    page.section("SEE ALSO");
    let names: Vec<String> = table::GROUPS
        .iter()
        .flat_map(|(_, commands)| commands.iter())
        .map(|listed| format!("plakar-{}(1)", listed.name))
        .collect();
    page.text(&names.join(", "));
    page.out
}

fn page(command: &Command, about: &str) -> String {
    let name = command.get_name();
    let mut page = Page::new(&format!("plakar-{name}"), about);
    page.section("SYNOPSIS");
    page.text(&help::usage(command));
    page.section("DESCRIPTION");
    if let Some(long) = command.get_long_about().or_else(|| command.get_about()) {
        page.text(&long.to_string());
    }
    let aliases: Vec<&str> = command.get_all_aliases().collect();
    if !aliases.is_empty() {
        page.text(&format!("Another name of this command: {}.", aliases.join(", ")));
    }
    let positionals: Vec<&Arg> = command.get_positionals().filter(|arg| arg.get_help().is_some()).collect();
    if !positionals.is_empty() {
        page.section("ARGUMENTS");
        for arg in positionals {
            page.item(&help::value_name(arg), &help_of(arg));
        }
    }
    let own = command.get_arguments().filter(|arg| help::is_flag(arg) && !arg.is_global_set());
    let (mut plain, mut query): (Vec<&Arg>, Vec<&Arg>) = (Vec::new(), Vec::new());
    for arg in own.filter(|arg| !arg.is_hide_set()) {
        if arg.get_help_heading() == Some("Query flags") { query.push(arg) } else { plain.push(arg) }
    }
    for (title, args) in [("FLAGS", plain), ("QUERY FLAGS", query)] {
        if !args.is_empty() {
            page.section(title);
            flags(&mut page, args.into_iter());
        }
    }
    for table in option_tables::of_command(name) {
        page.section(&table.title.to_uppercase());
        for (option, about) in &table.rows {
            page.item(option, about);
        }
    }
    if let Some(examples) = command.get_after_help() {
        page.section("EXAMPLES");
        page.lines(&examples.to_string());
    }
    exit_status(&mut page);
    page.section("SEE ALSO");
    page.text("plakar(1), which explains the flags of all commands");
    page.out
}

fn flags<'a>(page: &mut Page, args: impl Iterator<Item = &'a Arg>) {
    for arg in args {
        page.item(&help::flag_name(arg), &help_of(arg));
    }
}

fn help_of(arg: &Arg) -> String {
    arg.get_help().map(ToString::to_string).unwrap_or_default()
}

fn exit_status(page: &mut Page) {
    page.section("EXIT STATUS");
    for (code, meaning) in [
        ("0", "everything was done"),
        ("1", "something was not done; a partial success is this, too"),
        ("64", "the command line or the configuration makes no sense"),
        ("65", "damage was found"),
        ("66", "there is no such store, or no such name"),
        ("77", "wrong passphrase, or access was denied"),
        ("78", "a format version that this program does not speak"),
    ] {
        page.item(code, meaning);
    }
}

/// A page in the making, in the language of man(7).
struct Page {
    out: String,
}

impl Page {
    fn new(name: &str, about: &str) -> Self {
        let version = concat!("plakar v", env!("CARGO_PKG_VERSION"));
        // No date: the same definitions give the same page.
        let title = escaped(&name.to_uppercase());
        let (name, about) = (escaped(name), escaped(about));
        Self {
            out: format!(
                ".TH {title} 1 \"\" \"{version}\" \"User Commands\"\n.nh\n.SH NAME\n{name} \\- {about}\n"
            ),
        }
    }

    fn section(&mut self, title: &str) {
        writeln!(self.out, ".SH {}", escaped(title)).expect("a string takes everything");
    }

    fn text(&mut self, text: &str) {
        writeln!(self.out, ".PP\n{}", escaped(text)).expect("a string takes everything");
    }

    fn item(&mut self, name: &str, text: &str) {
        writeln!(self.out, ".TP\n\\fB{}\\fR\n{}", escaped(name), escaped(text))
            .expect("a string takes everything");
    }

    /// Adds lines that stay as they are.
    fn lines(&mut self, text: &str) {
        writeln!(self.out, ".PP\n.nf\n{}\n.fi", escaped(text)).expect("a string takes everything");
    }
}

/// Spells a text so that nothing in it is an order: backslashes, dashes that are no hyphens, dots and quotes at the
/// beginning of a line, characters beyond ASCII by their number.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        if line.starts_with(['.', '\'']) {
            out.push_str("\\&");
        }
        for c in line.chars() {
            match c {
                '\\' => out.push_str("\\e"),
                '-' => out.push_str("\\-"),
                '\'' => out.push_str("\\(aq"),
                '~' => out.push_str("\\(ti"),
                '^' => out.push_str("\\(ha"),
                '`' => out.push_str("\\(ga"),
                // Not every device has it.
                '…' => out.push_str("..."),
                c if c.is_ascii() => out.push(c),
                c => write!(out, "\\[u{:04X}]", u32::from(c)).expect("a string takes everything"),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_an_order() {
        assert_eq!(escaped(".x\n'y' -a\\ …"), "\\&.x\n\\&\\(aqy\\(aq \\-a\\e ...");
    }

    #[test]
    fn every_command_has_a_page_with_its_flags() {
        let pages = pages();
        let all = table::GROUPS.iter().map(|(_, commands)| commands.len()).sum::<usize>();
        assert_eq!(pages.len(), all + 1);
        let page = &pages.iter().find(|(name, _)| name == "plakar-restore.1").unwrap().1;
        assert!(page.contains(".TP\n\\fB\\-to DIR\\fR\n") && page.contains(".SH EXAMPLES\n"), "{page}");
        let source = &pages.iter().find(|(name, _)| name == "plakar-source.1").unwrap().1;
        assert!(
            source.contains(".SH OPTIONS OF S3\n") && source.contains("\\fBversions=TEXT\\fR\n"),
            "{source}"
        );
        assert!(pages[0].1.contains("plakar restore") && pages[0].1.contains("\\fB\\-keyfile PATH\\fR"));
    }
}
