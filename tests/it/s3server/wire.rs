//! Requests and answers as values; percent-encoding and XML, written for this server alone.

use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::Arc;

/// A parsed request with its whole body.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// The path as it came, before any decoding.
    pub(super) path: String,
    /// The query, without the question mark.
    pub(super) query: Query,
    /// Names in lower case.
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Arc<Vec<u8>>,
    /// The MD5 of the body.
    pub(super) md5: [u8; 16],
}

impl Request {
    pub(super) fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.header_bytes(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    pub(super) fn param_bytes(&self, name: &str) -> Option<Vec<u8>> {
        let found = self.query.pairs.iter().find(|(n, _)| n == name.as_bytes());
        found.map(|(_, value)| value.clone())
    }

    pub(super) fn param(&self, name: &str) -> Option<String> {
        self.param_bytes(name).and_then(|v| String::from_utf8(v).ok())
    }
}

/// A query as it came, and its names and values, decoded once: many of them are asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    text: String,
    pub(super) pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl From<String> for Query {
    fn from(text: String) -> Self {
        let parts = text.split('&').filter(|part| !part.is_empty());
        let pairs = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
        let decoded =
            |(name, value): (&str, &str)| (percent_decode(name.as_bytes()), percent_decode(value.as_bytes()));
        Self { pairs: pairs.map(decoded).collect(), text }
    }
}

impl Deref for Query {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// The bytes of an answer: a stored object's are shared, not copied.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Body {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self { start: 0, end: bytes.len(), bytes: Arc::new(bytes) }
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Body,
}

impl Response {
    pub(super) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Creates a `200 OK` with an XML document.
    pub(super) fn xml(inner: &str) -> Self {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{inner}");
        let mut response = Self::new(200).header("content-type", "application/xml");
        response.body = text.into_bytes().into();
        response
    }

    /// Creates an S3 error.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::error_with(status, code, message, "")
    }

    /// Creates an S3 error with more elements.
    pub(super) fn error_with(status: u16, code: &str, message: &str, more: &str) -> Self {
        let mut response = Self::xml(&format!(
            "<Error><Code>{code}</Code><Message>{}</Message>{more}<RequestId>TESTREQUESTID</RequestId></Error>",
            escape(message)
        ));
        response.status = status;
        response
    }
}

/// Decodes `%XX`; everything else, `+` included, stands for itself.
pub(crate) fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |c: Option<&u8>| c.and_then(|c| (*c as char).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escaped = text[at] == b'%';
        let digits = || Some((digit(text.get(at + 1))?, digit(text.get(at + 2))?));
        if let Some((high, low)) = escaped.then(digits).flatten() {
            out.push(high << 4 | low);
            at += 3;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

/// Encodes all but the unreserved characters and those in `keep`.
pub(crate) fn percent_encode(bytes: &[u8], keep: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Escapes text for XML; control characters become references, as real servers write them.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "&#x{:X};", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// Undoes [`escape`].
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let end = rest[at..].find(';').map_or(rest.len(), |e| at + e);
        let name = &rest[at + 1..end];
        let number = name.strip_prefix("#x").map(|h| u32::from_str_radix(h, 16).ok());
        let number = number.or_else(|| name.strip_prefix('#').map(|d| d.parse().ok())).flatten();
        match (name, number.and_then(char::from_u32)) {
            (_, Some(c)) => out.push(c),
            ("lt", _) => out.push('<'),
            ("gt", _) => out.push('>'),
            ("quot", _) => out.push('"'),
            ("apos", _) => out.push('\''),
            _ => out.push('&'),
        }
        rest = rest.get(end + 1..).unwrap_or("");
    }
    out.push_str(rest);
    out
}

/// Returns the inner text of every `<name>` element, in order; enough for the flat documents clients send.
pub(crate) fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut out = Vec::new();
    let mut rest = xml;
    while let Some(start) = rest.find(&open) {
        let after = &rest[start + open.len()..];
        let Some(end) = after.find(&close) else { break };
        out.push(&after[..end]);
        rest = &after[end + close.len()..];
    }
    out
}
