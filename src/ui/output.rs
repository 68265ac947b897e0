//! The two streams, shared by results, notices and the progress line.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::json::Message;
use super::report::{Report, report};
use super::style::{Colour, Style, Wish};
use crate::base::{Printable, is_harmful};
use crate::snapshot::{Problem, Severity};

/// JSON whose strings hold no character that moves a cursor or reorders a line: `-json` may go to a terminal, too.
struct Harmless;

impl serde_json::ser::Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| *c == '\x7f' || is_harmful(*c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

/// How much is said besides results.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Loudness {
    /// Only results.
    Silent,
    /// Results, warnings and errors.
    Quiet,
    /// Everything.
    #[default]
    Normal,
}

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct OutputError(#[from] io::Error);

impl OutputError {
    /// Returns whether the reader went away (`plakar ls | head`), which is no failure.
    pub fn is_broken_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// What the environment says of how things are to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look<'a> {
    /// Whether colours are wished for.
    pub colours: Wish,
    /// The kind of terminal, `TERM`.
    pub term: Option<&'a str>,
    /// `COLUMNS`, which goes for what is no terminal.
    pub columns: Option<usize>,
}

/// The width of what does not say how wide it is, in columns.
const WIDTH: usize = 80;

/// Where everything that a command says goes. Clones share the streams.
#[derive(Clone)]
pub struct Output {
    streams: Arc<Mutex<Streams>>,
    loudness: Loudness,
    json: bool,
    /// How many columns results may be wide.
    width: usize,
    err_style: Style,
    out_style: Style,
    /// Whether a transient line may be drawn on standard error.
    transient: bool,
}

struct Streams {
    out: BufWriter<Box<dyn Write + Send>>,
    err: Box<dyn Write + Send>,
    /// Whether a result has to be seen at once.
    flush_lines: bool,
    /// The progress line that stands on the terminal now.
    line: String,
    /// When it was drawn.
    drawn: Option<Instant>,
}

/// After this time a line is drawn again although it says the same: whoever stopped the program and took it up again
/// (Ctrl-Z, fg) has written over it.
const STALE: Duration = Duration::from_secs(1);

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("loudness", &self.loudness)
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

impl Output {
    /// Creates the output of this process.
    pub fn standard(loudness: Loudness, json: bool, look: Look<'_>) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let (out_terminal, err_terminal) = (out.is_terminal(), err.is_terminal());
        let columns = if out_terminal { super::terminal::width() } else { None };
        Self {
            loudness,
            json,
            width: columns.or(look.columns).unwrap_or(WIDTH),
            out_style: Style::choose(out_terminal, look.colours, look.term),
            err_style: Style::choose(err_terminal, look.colours, look.term),
            // Who does not say what kind of terminal it is gets no control sequences.
            transient: err_terminal
                && !json
                && loudness == Loudness::Normal
                && look.term.is_some_and(|term| term != "dumb"),
            streams: Arc::new(Mutex::new(Streams {
                out: BufWriter::with_capacity(1 << 16, Box::new(out)),
                err: Box::new(err),
                flush_lines: out_terminal || json,
                line: String::new(),
                drawn: None,
            })),
        }
    }

    /// Creates an output into given writers, as a terminal of the second one would be when `transient`.
    pub fn to(
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
        loudness: Loudness,
        json: bool,
        transient: bool,
    ) -> Self {
        Self {
            loudness,
            json,
            width: WIDTH,
            out_style: Style::PLAIN,
            err_style: Style::PLAIN,
            transient,
            streams: Arc::new(Mutex::new(Streams {
                out: BufWriter::new(Box::new(out)),
                err: Box::new(err),
                flush_lines: true,
                line: String::new(),
                drawn: None,
            })),
        }
    }

    /// Returns whether results are JSON lines.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Returns how much may be said.
    pub fn loudness(&self) -> Loudness {
        self.loudness
    }

    /// Returns the style of results.
    pub fn style(&self) -> Style {
        self.out_style
    }

    /// Returns how many columns results may be wide.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns whether [`Output::transient`] shows anything.
    pub fn has_transient(&self) -> bool {
        self.transient
    }

    /// Writes a line of results.
    pub fn line(&self, text: impl Display) -> Result<(), OutputError> {
        self.stdout_with(|out| writeln!(out, "{text}"))
    }

    /// Writes results as they are, line ends included.
    pub fn text(&self, text: impl Display) -> Result<(), OutputError> {
        self.stdout_with(|out| write!(out, "{text}"))
    }

    /// Writes the summary of a run: a result, but one that `-quiet` leaves out.
    pub fn summary(&self, text: impl Display) -> Result<(), OutputError> {
        if self.loudness < Loudness::Normal { Ok(()) } else { self.line(text) }
    }

    /// Writes one JSON object.
    pub fn json(&self, value: &impl Serialize) -> Result<(), OutputError> {
        self.stdout_with(|out| {
            let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Harmless);
            value.serialize(&mut serializer)?;
            out.write_all(b"\n")
        })
    }

    /// Returns standard output for raw bytes.
    pub fn stdout(&self) -> Stdout<'_> {
        Stdout(self)
    }

    /// Says something useful that is no result.
    pub fn notice(&self, text: impl Display) {
        if self.loudness == Loudness::Normal {
            self.asked(text);
        }
    }

    /// Says something useful that a flag asked for: `-quiet` does not leave it out.
    pub fn asked(&self, text: impl Display) {
        if self.loudness < Loudness::Quiet {
            return;
        }
        if self.json {
            // Errors of standard output show at the next result; a notice has nobody to tell them to.
            let _ = self.json(&Message::Notice { message: &text.to_string() });
        } else {
            self.err_line(&Printable::message(&text.to_string()).to_string());
        }
    }

    /// Warns.
    pub fn warn(&self, text: impl Display) {
        if self.loudness < Loudness::Quiet {
            return;
        }
        let text = text.to_string();
        if self.json {
            let _ = self.json(&Message::Warning { message: &text });
        } else {
            let label = self.err_style.paint(Colour::Yellow, "warning:");
            self.err_line(&format!("{label} {}", Printable::message(&text)));
        }
    }

    /// Tells a problem with one path.
    pub fn problem(&self, problem: &Problem) {
        let (label, colour) = match problem.severity {
            Severity::Warning => ("warning", Colour::Yellow),
            Severity::Error => ("error", Colour::Red),
        };
        let path = Some(Printable::new(&problem.path).to_string()).filter(|path| !path.is_empty());
        if self.json {
            let _ = self.json(&Message::Problem { path, message: &problem.message, severity: label });
        } else if self.loudness >= Loudness::Quiet {
            let label = self.err_style.paint(colour, format_args!("{label}:")).to_string();
            let path = path.map(|path| format!("{path}: ")).unwrap_or_default();
            self.err_line(&format!("{label} {path}{}", Printable::message(&problem.message)));
        }
    }

    /// Reports the failure that ends the run: for people on standard error, and as an object with `-json`.
    pub fn fail(&self, told: &Report, exit_code: u8) {
        if self.json {
            let _ = self.json(&Message::Error {
                message: &told.message,
                causes: &told.causes,
                hint: told.hint.as_deref(),
                exit_code,
            });
        }
        if self.loudness >= Loudness::Quiet {
            self.err_line(report(told, self.err_style).trim_end());
        }
    }

    /// Draws the progress line in place of the last one; an empty text removes it.
    pub fn transient(&self, text: &str) {
        if !self.transient {
            return;
        }
        let mut streams = self.lock();
        let stale = !text.is_empty() && streams.drawn.is_none_or(|drawn| drawn.elapsed() > STALE);
        if streams.line != text || stale {
            streams.drawn = Some(Instant::now());
            text.clone_into(&mut streams.line);
            let _ = write!(streams.err, "\r{text}\x1b[K").and_then(|()| streams.err.flush());
        }
    }

    /// Writes what is buffered. Called once more at the end, when it is the last chance to notice a full disk.
    pub fn flush(&self) -> Result<(), OutputError> {
        Ok(self.lock().out.flush()?)
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        // A panic while writing leaves nothing that a later line could not follow.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stdout_with(
        &self,
        write: impl FnOnce(&mut BufWriter<Box<dyn Write + Send>>) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        let mut streams = self.lock();
        streams.hide_line();
        write(&mut streams.out)?;
        if streams.flush_lines {
            streams.out.flush()?;
        }
        Ok(())
    }

    fn err_line(&self, text: &str) {
        let mut streams = self.lock();
        streams.hide_line();
        // Results that were written earlier come first where both streams end in one place.
        let _ = streams.out.flush();
        let _ = writeln!(streams.err, "{text}").and_then(|()| streams.err.flush());
    }
}

impl Streams {
    /// Removes the progress line; the next tick draws it again.
    fn hide_line(&mut self) {
        if !self.line.is_empty() {
            self.line.clear();
            let _ = self.err.write_all(b"\r\x1b[K").and_then(|()| self.err.flush());
        }
    }
}

/// Standard output as a byte stream.
#[derive(Debug)]
pub struct Stdout<'a>(&'a Output);

impl Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut streams = self.0.lock();
        streams.hide_line();
        streams.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().out.flush()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A writer that keeps what it gets.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(loudness: Loudness, json: bool, transient: bool) -> (Output, Kept, Kept) {
        let (out, err) = (Kept::default(), Kept::default());
        (Output::to(out.clone(), err.clone(), loudness, json, transient), out, err)
    }

    #[test]
    fn loudness_leaves_results() {
        for (loudness, said) in [
            (Loudness::Normal, "notice\nwarning: bad \\x1b\nplakar: failed\n"),
            (Loudness::Quiet, "warning: bad \\x1b\nplakar: failed\n"),
            (Loudness::Silent, ""),
        ] {
            let (output, out, err) = output(loudness, false, false);
            output.line("result").unwrap();
            output.notice("notice");
            output.warn("bad \x1b");
            output.fail(&Report::new("failed", None, None), 1);
            assert_eq!((out.text().as_str(), err.text().as_str()), ("result\n", said));
        }
    }

    #[test]
    fn json_keeps_standard_output_pure() {
        let (output, out, err) = output(Loudness::Normal, true, false);
        output.notice("hello");
        output.fail(&Report::new("failed", None, None), 1);
        for line in out.text().lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].is_string());
        }
        assert_eq!(err.text(), "plakar: failed\n");
    }

    #[test]
    fn the_progress_line_makes_room() {
        let (output, out, err) = output(Loudness::Normal, false, true);
        output.transient("50 %");
        output.transient("50 %");
        output.line("result").unwrap();
        output.transient("60 %");
        output.transient("");
        assert_eq!(err.text(), "\r50 %\x1b[K\r\x1b[K\r60 %\x1b[K\r\x1b[K");
        assert_eq!(out.text(), "result\n");
    }
}
