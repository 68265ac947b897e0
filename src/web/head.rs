//! The head of a request: parsed, and refused where it is not plain.

use std::net::SocketAddr;

use super::message::{Refusal, Request};

/// The longest head in bytes.
pub(super) const MAX_HEAD: usize = 32 << 10;
/// The most headers.
const MAX_HEADERS: usize = 64;

/// How a body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// By its length in bytes.
    Length(u64),
    /// By itself.
    Chunked,
}

/// What a head says.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) request: Request,
    pub(super) framing: Framing,
    /// Whether the client waits for a word before it sends the body.
    pub(super) expects: bool,
    /// Whether the connection may serve another request.
    pub(super) keep_alive: bool,
    /// Whether the client understands chunks.
    pub(super) modern: bool,
}

fn refuse<T>(status: u16, text: &str) -> Result<T, Refusal> {
    Err(Refusal { status, text: text.to_owned() })
}

/// Parses the head at the beginning of `bytes`, and returns it with its length; `None` while it is not complete.
pub(super) fn parse(bytes: &[u8], peer: SocketAddr) -> Result<Option<(Head, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) => return refuse(431, "the head of the request is too long"),
        Err(httparse::Error::TooManyHeaders) => return refuse(431, "the request has too many headers"),
        Err(httparse::Error::Version) => return refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
        Err(_) => return refuse(400, "this is not an HTTP request"),
    };
    let modern = parsed.version == Some(1);
    let headers: Vec<(String, Vec<u8>)> = parsed
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec()))
        .collect();
    let (path, query) = target(parsed.path.unwrap_or_default())?;
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path,
        query,
        headers,
        length: None,
        peer,
    };
    if modern && request.header("host").is_none() {
        return refuse(400, "the request needs exactly one Host header");
    }
    let framing = framing(&request, modern)?;
    request.length = match framing {
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    let has_body = framing != Framing::Length(0);
    let expects = match all(&request, "expect").as_slice() {
        [] => false,
        [value] if value.eq_ignore_ascii_case(b"100-continue") => modern && has_body,
        _ => return refuse(417, "the only expectation that can be met is 100-continue"),
    };
    let closes = all(&request, "connection").iter().any(|value| {
        value.split(|&byte| byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
    });
    let keep_alive = modern && !closes;
    Ok(Some((Head { request, framing, expects, keep_alive, modern }, length)))
}

fn all<'a>(request: &'a Request, name: &str) -> Vec<&'a [u8]> {
    request.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.trim_ascii()).collect()
}

/// Splits a request's target into path and query. A proxy's form, with scheme and host, is taken, too.
fn target(target: &str) -> Result<(String, String), Refusal> {
    let origin = match target.split_once("://") {
        Some(("http" | "https", rest)) => match rest.find(['/', '?']) {
            Some(at) => &rest[at..],
            None => "/",
        },
        _ => target,
    };
    let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
    match path {
        "" => Ok(("/".to_owned(), query.to_owned())),
        path if path.starts_with('/') || path == "*" => Ok((path.to_owned(), query.to_owned())),
        _ => refuse(400, "the target of the request is not a path"),
    }
}

/// Finds out how the body is delimited. What two readers could understand in two ways is refused (RFC 9112, 6.3).
fn framing(request: &Request, modern: bool) -> Result<Framing, Refusal> {
    let (lengths, encodings) = (all(request, "content-length"), all(request, "transfer-encoding"));
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([first, rest @ ..], []) => {
            let digits = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(first).ok().filter(|_| digits);
            match text.and_then(|text| text.parse().ok()) {
                Some(length) if rest.iter().all(|other| other == first) => Ok(Framing::Length(length)),
                _ => refuse(400, "the length of the body is not a number"),
            }
        }
        ([], [encoding]) if modern && encoding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([], _) => refuse(501, "a body can be chunked, but not encoded in any other way"),
        _ => refuse(400, "a body that is chunked has no length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<(Head, usize)>, Refusal> {
        parse(text.as_bytes(), SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn head(text: &str) -> Head {
        parsed(text).unwrap().unwrap().0
    }

    #[test]
    fn what_is_plain_is_understood() {
        let text =
            "PUT /a%20b/c?d HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\nhello";
        let (found, length) = parsed(text).unwrap().unwrap();
        assert_eq!(&text[length..], "hello");
        assert_eq!((found.request.path.as_str(), found.request.query.as_str()), ("/a%20b/c", "d"));
        assert_eq!(found.request.segments(), [b"a b".to_vec(), b"c".to_vec()]);
        assert!(found.expects && found.keep_alive && found.framing == Framing::Length(5));
        let chunked =
            head("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\nConnection: x, Close\r\n\r\n");
        assert!(chunked.framing == Framing::Chunked && !chunked.keep_alive);
        assert!(!head("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert_eq!(head("GET http://h/x?y HTTP/1.1\r\nHost: h\r\n\r\n").request.path, "/x");
        assert_eq!(
            head("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n").request.segments(),
            Vec::<Vec<u8>>::new()
        );
        assert!(parsed("GET / HTTP/1.1\r\nHost: h\r\n").unwrap().is_none());
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let cases = [
            ("Host: h\r\nContent-Length: 5\r\nContent-Length: 6", 400),
            ("Host: h\r\nContent-Length: +5", 400),
            ("Host: h\r\nContent-Length: 99999999999999999999", 400),
            ("Host: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
            ("Host: h\r\nTransfer-Encoding: gzip, chunked", 501),
            ("Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
            ("Host: h\r\nExpect: a-miracle", 417),
            ("Host: h\r\nHost: i", 400),
            ("X: y", 400),
            ("Host: h\r\nA: b\r\n c", 400),
            ("Host: h\r\nContent-Length : 5", 400),
        ];
        for (headers, status) in cases {
            let refused = parsed(&format!("PUT /x HTTP/1.1\r\n{headers}\r\n\r\n")).unwrap_err();
            assert_eq!(refused.status, status, "{headers}: {refused}");
        }
        for (text, status) in [
            ("GET / HTTP/2.0\r\n\r\n", 505),
            ("\x16\x03\x01\x02", 400),
            ("GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ] {
            assert_eq!(parsed(text).unwrap_err().status, status, "{text:?}");
        }
        let many = "X: y\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(parsed(&format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")).unwrap_err().status, 431);
        let long = "y".repeat(MAX_HEAD);
        assert_eq!(parsed(&format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}")).unwrap_err().status, 431);
        assert_eq!(parsed(&format!("GET /{long}")).unwrap_err().status, 431);
    }
}
