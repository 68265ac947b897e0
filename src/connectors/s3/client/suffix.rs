//! Ranges of one version of an object, the first of them counted from its end.

use std::io::Read as _;
use std::time::SystemTime;

use rusty_s3::Method;

use super::failure::{Failure, Result};
use super::object::etag;
use super::send::{Client, Payload, Request, Response, broken};

/// The end of an object.
#[derive(Debug)]
pub(in super::super) struct Suffix {
    /// Where it begins.
    pub(in super::super) offset: u64,
    /// Its bytes.
    pub(in super::super) bytes: Vec<u8>,
    /// The object's ETag without quotes; empty where the server tells none.
    pub(in super::super) etag: String,
    /// When the object was last written.
    pub(in super::super) modified: Option<SystemTime>,
}

impl Client {
    /// Reads the last `length` bytes of an object, all of it when it is shorter, without asking for its length first.
    pub(in super::super) fn get_suffix(&self, key: &[u8], length: u64) -> Result<Suffix> {
        let target = self.target(Some(key));
        let mut request =
            Request::new("get", Method::Get, Some(key)).header("range", format!("bytes=-{length}"));
        self.customer_key(&mut request.headers);
        let result = self.run(&request, Payload::None, &mut |response| suffix(response, length, &target));
        match result {
            // There is no last byte of nothing.
            Err(failure) if failure.status == 416 => {
                Ok(Suffix { offset: 0, bytes: Vec::new(), etag: String::new(), modified: None })
            }
            result => result,
        }
    }

    /// Reads exactly `length` bytes from `offset` on, of the version with this ETag where it is not empty.
    pub(in super::super) fn get_part(
        &self,
        key: &[u8],
        offset: u64,
        length: usize,
        version: &str,
    ) -> Result<Vec<u8>> {
        let target = self.target(Some(key));
        let last = offset
            .checked_add(length as u64)
            .and_then(|end| end.checked_sub(1))
            .ok_or_else(|| Failure::protocol("get", &target, "the range is empty or past every end"))?;
        let mut request =
            Request::new("get", Method::Get, Some(key)).header("range", format!("bytes={offset}-{last}"));
        if !version.is_empty() {
            request = request.header("if-match", format!("\"{version}\""));
        }
        self.customer_key(&mut request.headers);
        self.run(&request, Payload::None, &mut |response| {
            let now = etag(&response.headers);
            if !version.is_empty() && !now.is_empty() && now != version {
                let kind = crate::connector::ErrorKind::Changed;
                return Err(Failure::new(kind, "get", &target, "the object was replaced by another"));
            }
            if response.status != 206 {
                return Err(Failure::protocol("get", &target, "the server ignored the range"));
            }
            let expected = format!("bytes {offset}-{last}/");
            if !response.header("content-range").unwrap_or_default().starts_with(&expected) {
                return Err(Failure::protocol("get", &target, "the object is shorter than the range"));
            }
            let body = read(response, length, &target)?;
            Ok(body)
        })
    }
}

/// Reads the body of an answer to a suffix range, which may be the whole object.
fn suffix(response: Response, length: u64, target: &str) -> Result<Suffix> {
    let wrong = |what: &str| Failure::protocol("get", target, what);
    let told = response.header("content-range").and_then(parse_range);
    // What comes in chunks is as long as its range.
    let announced = response.length().or_else(|| told.map(|(first, last, _)| last - first + 1));
    let announced = announced.ok_or_else(|| wrong("the answer tells no length"))?;
    let offset = match response.status {
        206 => {
            let (first, last, total) = told.ok_or_else(|| wrong("the answer tells no range"))?;
            if last + 1 != total || last - first + 1 != announced || announced != length.min(total) {
                return Err(wrong("another part than the end was answered"));
            }
            first
        }
        200 if announced <= length => 0,
        _ => return Err(wrong("the server ignored the range")),
    };
    let etag = etag(&response.headers);
    let modified = response.header("last-modified").and_then(|text| httpdate::parse_http_date(text).ok());
    let announced = usize::try_from(announced).map_err(|_| wrong("the answer is too long"))?;
    Ok(Suffix { offset, bytes: read(response, announced, target)?, etag, modified })
}

/// Reads a body that must have this length.
fn read(response: Response, length: usize, target: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut body = response.body.take(length as u64);
    body.read_to_end(&mut bytes).map_err(|error| broken("get", target, &error))?;
    if bytes.len() == length {
        Ok(bytes)
    } else {
        Err(Failure::transport("get", target, "the answer's body ended early"))
    }
}

/// Parses `bytes first-last/total`.
fn parse_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_before_they_are_believed() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, 9, 10)));
        for bad in ["", "5-9/10", "bytes 9-5/10", "bytes 5-10/10", "bytes 5-9/*", "bytes */10"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
