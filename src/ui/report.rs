//! How a failure is told: what failed, why, and what to do.

use std::error::Error;
use std::fmt;

use super::style::{Colour, Style};
use crate::base::Printable;

/// One failure, ready to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What failed and where.
    pub message: String,
    /// Why: the messages of the causes, outermost first.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Report {
    /// Collects a message and the chain of causes below it. A cause that repeats what was said already is left out.
    pub fn new(
        message: impl Into<String>,
        source: Option<&(dyn Error + 'static)>,
        hint: Option<String>,
    ) -> Self {
        let message = message.into();
        let mut causes: Vec<String> = Vec::new();
        let mut next = source;
        while let Some(error) = next {
            let text = error.to_string();
            let last = causes.last().unwrap_or(&message);
            if !text.is_empty() && !last.ends_with(&text) {
                causes.push(text);
            }
            next = error.source();
        }
        Self { message, causes, hint }
    }
}

/// Formats a report for a terminal or a log: one line each, nothing that a foreign string could abuse.
pub fn report(report: &Report, style: Style) -> String {
    use fmt::Write as _;
    let mut out =
        format!("{} {}\n", style.paint(Colour::Red, "plakar:"), Printable::message(&report.message));
    for cause in &report.causes {
        writeln!(out, "  because: {}", Printable::message(cause)).expect("a string takes everything");
    }
    for (i, line) in report.hint.iter().flat_map(|hint| hint.lines()).enumerate() {
        let label = if i == 0 { style.paint(Colour::Bold, "hint:").to_string() } else { "     ".to_owned() };
        writeln!(out, "  {label} {}", Printable::message(line)).expect("a string takes everything");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::base::At as _;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let error = Err::<(), _>(io::Error::other("no \x1b[2J luck")).at("open", "/srv/x").unwrap_err();
        let told = Report::new("cannot open the store", Some(&error), Some("try again\nor not".into()));
        assert_eq!(
            report(&told, Style::PLAIN),
            "plakar: cannot open the store\n  because: cannot open /srv/x\n  because: no \\x1b[2J luck\n  \
             hint: try again\n        or not\n"
        );
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = io::Error::other("disk full");
        let told = Report::new("cannot write: disk full", Some(&error), None);
        assert_eq!(told.causes, Vec::<String>::new());
    }
}
