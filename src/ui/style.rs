//! Colours, and when not to use them.

use std::fmt::{self, Display};

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    /// Something failed.
    Red,
    /// Something deserves attention.
    Yellow,
    /// Something is well.
    Green,
    /// A name or a heading.
    Bold,
    /// Of lesser weight.
    Dim,
}

/// Whether text may be coloured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// Creates a style that never colours.
    pub const PLAIN: Self = Self { coloured: false };

    /// Decides for a stream: a terminal that is not dumb, unless `NO_COLOR` is set to anything (no-color.org).
    pub fn choose(is_terminal: bool, no_color: bool, term: Option<&str>) -> Self {
        Self {
            coloured: is_terminal && !no_color && term.is_some_and(|term| term != "dumb" && !term.is_empty()),
        }
    }

    /// Wraps a value in a colour.
    pub fn paint<T: Display>(self, colour: Colour, value: T) -> impl Display {
        Painted { style: self, colour, value }
    }
}

struct Painted<T> {
    style: Style,
    colour: Colour,
    value: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.style.coloured {
            return self.value.fmt(f);
        }
        let code = match self.colour {
            Colour::Red => "31",
            Colour::Yellow => "33",
            Colour::Green => "32",
            Colour::Bold => "1",
            Colour::Dim => "2",
        };
        write!(f, "\x1b[{code}m{}\x1b[0m", self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_willing_terminal_gets_colours() {
        let red = |style: Style| style.paint(Colour::Red, "x").to_string();
        assert_eq!(red(Style::choose(true, false, Some("xterm"))), "\x1b[31mx\x1b[0m");
        for style in [
            Style::PLAIN,
            Style::choose(false, false, Some("xterm")),
            Style::choose(true, true, Some("xterm")),
            Style::choose(true, false, Some("dumb")),
            Style::choose(true, false, None),
        ] {
            assert_eq!(red(style), "x");
        }
    }
}
