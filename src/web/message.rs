//! Requests and responses, as handlers see them.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;

use percent_encoding::percent_decode_str;

/// A request without its body.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method: `GET`.
    pub method: String,
    /// The path as it came, percent-encoded, with its leading slash.
    pub path: String,
    /// What follows the `?`, as it came; empty where there is none.
    pub query: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The length of the body in bytes; `None` where it comes in chunks.
    pub length: Option<u64>,
    /// Who asks.
    pub peer: SocketAddr,
}

impl Request {
    /// Returns a header's value, if it is text and there is exactly one of the name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => std::str::from_utf8(value).ok().map(str::trim),
            _ => None,
        }
    }

    /// Returns the parts of the path between its slashes, decoded; none for `/`.
    pub fn segments(&self) -> Vec<Vec<u8>> {
        match self.path.strip_prefix('/').unwrap_or(&self.path) {
            "" => Vec::new(),
            path => path.split('/').map(|part| percent_decode_str(part).collect()).collect(),
        }
    }

    /// Returns whether only the head of the answer is wanted.
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// Writes a response's body.
pub type Writer = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()>>;

/// A response's body.
pub enum Content {
    /// Bytes at hand.
    Bytes(Vec<u8>),
    /// Bytes made while they are sent.
    Stream {
        /// How many; `None` where that is not known before. What is written must be as long.
        length: Option<u64>,
        /// Writes them. Where it fails before anything was sent, a [`Refusal`] in its error is the answer; after
        /// that, the connection is broken off, so that nobody takes what was sent for the whole.
        write: Writer,
    },
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream { length, .. } => write!(f, "Stream({length:?})"),
        }
    }
}

/// A response.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Headers, besides `Date`, `Server`, `Connection` and those that delimit the body.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub content: Content,
}

impl Response {
    /// Creates an empty response.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), content: Content::Bytes(Vec::new()) }
    }

    /// Creates a response of one line of text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let mut line: String = text.into();
        line.push('\n');
        Self::new(status)
            .header("Content-Type", "text/plain; charset=utf-8")
            .content(Content::Bytes(line.into_bytes()))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }
}

/// A response of text that takes the place of another whose body could not be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{status}: {text}")]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// What to tell.
    pub text: String,
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Self::text(refusal.status, refusal.text)
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::other(refusal)
    }
}

/// Returns the words of a status.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Status",
    }
}
