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

/// What the environment says of colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wish {
    /// Terminals get them.
    #[default]
    Auto,
    /// Nobody gets them.
    Never,
    /// A pipe gets them, too.
    Always,
}

impl Wish {
    /// Reads the wish from variables: `NO_COLOR` set to anything goes over all (no-color.org), then `CLICOLOR_FORCE`
    /// set to anything but 0, then `CLICOLOR=0` (bixense.com/clicolors).
    pub fn read(no_color: bool, clicolor: Option<&str>, force: Option<&str>) -> Self {
        match (no_color, force, clicolor) {
            (true, ..) => Self::Never,
            (_, Some(force), _) if force != "0" => Self::Always,
            (_, _, Some("0")) => Self::Never,
            _ => Self::Auto,
        }
    }
}

/// Whether text may be coloured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// Creates a style that never colours.
    pub const PLAIN: Self = Self { coloured: false };

    /// Decides for a stream: a terminal that is not dumb, unless something else is wished.
    pub fn choose(is_terminal: bool, wish: Wish, term: Option<&str>) -> Self {
        let able = is_terminal && term.is_some_and(|term| term != "dumb" && !term.is_empty());
        Self { coloured: wish == Wish::Always || (wish == Wish::Auto && able) }
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
        assert_eq!(red(Style::choose(true, Wish::Auto, Some("xterm"))), "\x1b[31mx\x1b[0m");
        for style in [
            Style::PLAIN,
            Style::choose(false, Wish::Auto, Some("xterm")),
            Style::choose(true, Wish::Never, Some("xterm")),
            Style::choose(true, Wish::Auto, Some("dumb")),
            Style::choose(true, Wish::Auto, None),
        ] {
            assert_eq!(red(style), "x");
        }
    }

    #[test]
    fn variables_say_what_is_wished() {
        assert_eq!(Wish::read(false, None, None), Wish::Auto);
        assert_eq!(Wish::read(false, Some("1"), Some("0")), Wish::Auto);
        assert_eq!(Wish::read(false, Some("0"), None), Wish::Never);
        assert_eq!(Wish::read(false, Some("0"), Some("1")), Wish::Always);
        assert_eq!(Wish::read(true, None, Some("1")), Wish::Never);
        assert_eq!(
            Style::choose(false, Wish::Always, None).paint(Colour::Bold, "x").to_string(),
            "\x1b[1mx\x1b[0m"
        );
    }
}
