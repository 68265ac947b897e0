//! What kind of content a file holds, as a MIME type.
//!
//! Informative, but part of an object's serialization, and never empty for content. What the first bytes say goes
//! before what the name says: a picture's name on random bytes does not make them a picture. The name only tells
//! kinds of text apart, which the bytes cannot.

/// What stands for a content type where there is no content: symbolic links, devices, pipes and sockets.
pub const NOT_REGULAR: &str = "application/x-not-regular-file";

/// How many bytes are looked at.
const LOOKED_AT: usize = 3072;
const TEXT: &str = "text/plain; charset=utf-8";
const BINARY: &str = "application/octet-stream";

/// Returns the MIME type of a regular file by its name and the first bytes of its content.
///
/// Never empty. Text that is UTF-8 says so: `text/plain; charset=utf-8`, or what the name makes of it.
pub fn content_type(name: &[u8], content: &[u8]) -> String {
    let head = &content[..content.len().min(LOOKED_AT)];
    if head.is_empty() {
        return "text/plain".to_owned();
    }
    if let Some(kind) = infer::get(head) {
        return match kind.mime_type() {
            marked @ ("text/html" | "text/xml") => format!("{marked}; charset=utf-8"),
            other => other.to_owned(),
        };
    }
    if !looks_like_text(head) {
        return BINARY.to_owned();
    }
    let named = extension(name).and_then(|extension| mime_guess::from_ext(extension).first_raw());
    match named {
        Some("application/json" | "application/javascript" | "application/xml" | "image/svg+xml") => {
            named.unwrap_or(TEXT).to_owned()
        }
        _ if !is_utf8_so_far(head) => "text/plain".to_owned(),
        Some(text) if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        _ => TEXT.to_owned(),
    }
}

fn extension(name: &[u8]) -> Option<&str> {
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    // A leading dot hides a file, it does not begin an extension.
    if dot == 0 { None } else { std::str::from_utf8(&name[dot + 1..]).ok() }
}

/// No byte that the WHATWG's MIME sniffing standard counts as binary.
fn looks_like_text(head: &[u8]) -> bool {
    !head.iter().any(|byte| matches!(byte, 0..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f))
}

/// UTF-8, or UTF-8 whose last character is cut.
fn is_utf8_so_far(head: &[u8]) -> bool {
    match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What upstream recorded for the same names and bytes.
    #[test]
    fn agrees_with_upstream() {
        let random = [0x27, 0x16, 0x02, 0xd0, 0x98, 0xa6, 0x74, 0x3a, 0x6e, 0x1d, 0x18, 0xbf];
        let cases: [(&[u8], &[u8], &str); 10] = [
            (b"empty", b"", "text/plain"),
            (b"empty.log", b"", "text/plain"),
            (b"photo one.jpg", &random, "application/octet-stream"),
            (b"random.bin", &random, "application/octet-stream"),
            (b"index.html", b"<h1>hello</h1>\n", "text/html; charset=utf-8"),
            (b"app.log", b"line\nline\nline\n", "text/plain; charset=utf-8"),
            (b"bad\xff", b"not UTF-8\n", "text/plain; charset=utf-8"),
            (b"one", b"x", "text/plain; charset=utf-8"),
            (b"f000.txt", b"small file 0\n", "text/plain; charset=utf-8"),
            (b"run.sh", b"#!/bin/sh\necho hi\n", "text/x-shellscript"),
        ];
        for (name, content, expected) in cases {
            assert_eq!(content_type(name, content), expected, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn bytes_go_before_names() {
        assert_eq!(content_type(b"x.txt", b"\x89PNG\r\n\x1a\n........"), "image/png");
        assert_eq!(content_type(b"archive", b"\x1f\x8b\x08\0\0\0\0\0"), "application/gzip");
        assert_eq!(content_type(b"x.html", b"\0\x01\x02\x03"), "application/octet-stream");
    }

    #[test]
    fn names_tell_texts_apart() {
        assert_eq!(content_type(b"style.css", b"a { b: c }\n"), "text/css; charset=utf-8");
        assert_eq!(content_type(b"a.json", b"{}\n"), "application/json");
        assert_eq!(content_type(b".css", b"a { b: c }\n"), TEXT);
        assert_eq!(content_type(b"x.png", b"no picture\n"), TEXT);
    }

    #[test]
    fn never_empty() {
        for byte in 0..=255 {
            assert!(!content_type(b"x.", &[byte; 5]).is_empty());
        }
        let cut = "é".repeat(LOOKED_AT);
        assert_eq!(content_type(b"x", &cut.as_bytes()[1..]), "text/plain");
        assert_eq!(content_type(b"x", cut.as_bytes()), TEXT);
        assert_eq!(content_type(b"x", &[b"a", cut.as_bytes()].concat()), TEXT);
    }
}
