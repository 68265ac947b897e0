//! The check of AWS Signature Version 4, in a header or in the query, written from its documentation.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::wire::{Request, percent_decode, percent_encode};

/// What a request claims about its signature.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    pub(super) access_key: String,
    pub(super) date: String,
    pub(super) region: String,
    pub(super) scope: String,
    pub(super) signed_headers: String,
    pub(super) signature: String,
    pub(super) token: Option<String>,
    /// Seconds a presigned URL lives; `None` for a signature in a header.
    pub(super) expires: Option<i64>,
}

impl Claim {
    /// Reads the claim of a request; `None` when it is not signed at all or not well.
    pub(super) fn of(request: &Request) -> Option<Self> {
        if request.param("X-Amz-Algorithm").as_deref() == Some("AWS4-HMAC-SHA256") {
            let mut claim = Self {
                date: request.param("X-Amz-Date")?,
                signed_headers: request.param("X-Amz-SignedHeaders")?,
                signature: request.param("X-Amz-Signature")?,
                token: request.param("X-Amz-Security-Token"),
                expires: Some(request.param("X-Amz-Expires")?.parse().ok()?),
                ..Self::default()
            };
            claim.credential(&request.param("X-Amz-Credential")?)?;
            return Some(claim);
        }
        let rest = request.header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let field = |name: &str| {
            rest.split(',').map(str::trim).find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let mut claim = Self {
            date: request.header("x-amz-date")?.to_owned(),
            signed_headers: field("SignedHeaders")?.to_owned(),
            signature: field("Signature")?.to_owned(),
            token: request.header("x-amz-security-token").map(str::to_owned),
            ..Self::default()
        };
        claim.credential(field("Credential")?)?;
        Some(claim)
    }

    fn credential(&mut self, text: &str) -> Option<()> {
        let (access_key, scope) = text.split_once('/')?;
        let parts: Vec<&str> = scope.split('/').collect();
        let [day, region, "s3", "aws4_request"] = parts[..] else { return None };
        if !self.date.starts_with(day) {
            return None;
        }
        (self.access_key, self.scope, self.region) = (access_key.into(), scope.into(), region.into());
        Some(())
    }

    /// Returns the time of signing in Unix seconds.
    pub(super) fn time(&self) -> Option<i64> {
        let text = format!("{} +0000", self.date);
        Some(jiff::Timestamp::strptime("%Y%m%dT%H%M%SZ %z", text).ok()?.as_second())
    }

    /// Computes the signature the request should carry.
    pub(super) fn expected(&self, request: &Request, secret: &str) -> String {
        let path = percent_encode(&percent_decode(request.path.as_bytes()), b"/");
        let pairs = request.query.pairs.iter().filter(|(name, _)| name != b"X-Amz-Signature");
        let mut pairs: Vec<[String; 2]> =
            pairs.map(|(name, value)| [percent_encode(name, b""), percent_encode(value, b"")]).collect();
        pairs.sort_unstable();
        let pairs: Vec<String> = pairs.into_iter().map(|pair| pair.join("=")).collect();
        let canonical = [request.method.as_str(), &path, &pairs.join("&"), ""].join("\n");
        let mut canonical = canonical.into_bytes();
        for name in self.signed_headers.split(';') {
            canonical.extend_from_slice(name.as_bytes());
            canonical.push(b':');
            canonical.extend_from_slice(&folded(request.header_bytes(name).unwrap_or_default()));
            canonical.push(b'\n');
        }
        canonical.push(b'\n');
        canonical.extend_from_slice(self.signed_headers.as_bytes());
        canonical.push(b'\n');
        let payload = match self.expires {
            Some(_) => "UNSIGNED-PAYLOAD",
            None => request.header("x-amz-content-sha256").unwrap_or("UNSIGNED-PAYLOAD"),
        };
        canonical.extend_from_slice(payload.as_bytes());

        let text =
            format!("AWS4-HMAC-SHA256\n{}\n{}\n{}", self.date, self.scope, hex(&Sha256::digest(&canonical)));
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in self.scope.split('/') {
            key = hmac(&key, part.as_bytes());
        }
        hex(&hmac(&key, text.as_bytes()))
    }
}

/// Trims spaces and folds runs of them.
fn folded(value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(value.len());
    for &byte in value.trim_ascii() {
        if byte != b' ' || out.last() != Some(&b' ') {
            out.push(byte);
        }
    }
    out
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length of key");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).expect("a half of a byte");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[test]
fn the_documented_presigned_example_verifies() {
    // The example of AWS's page on authenticating by query parameters, of 24 May 2013.
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1\
                 %2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&\
                 X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let request = Request {
        method: "GET".into(),
        path: "/test.txt".into(),
        query: query.to_owned().into(),
        headers: vec![("host".into(), b"examplebucket.s3.amazonaws.com".to_vec())],
        ..Request::default()
    };
    let claim = Claim::of(&request).unwrap();
    assert_eq!(claim.expected(&request, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), claim.signature);
    assert_eq!(claim.time(), Some(1_369_353_600));
}

/// Returns the headers that sign a request whose payload goes unsigned, for tests that talk to a server themselves.
pub(super) fn authorize(
    request: &Request,
    access_key: &str,
    secret: &str,
    region: &str,
) -> Vec<(String, Vec<u8>)> {
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut request = request.clone();
    request.headers.push(("x-amz-content-sha256".into(), b"UNSIGNED-PAYLOAD".to_vec()));
    request.headers.push(("x-amz-date".into(), date.clone().into_bytes()));
    let mut names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.retain(|name| *name == "host" || name.starts_with("x-amz-"));
    names.sort_unstable();
    let claim = Claim {
        scope: format!("{}/{region}/s3/aws4_request", &date[..8]),
        signed_headers: names.join(";"),
        date,
        ..Claim::default()
    };
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={access_key}/{}, SignedHeaders={}, Signature={}",
        claim.scope,
        claim.signed_headers,
        claim.expected(&request, secret)
    );
    request.headers.push(("authorization".into(), authorization.into_bytes()));
    request.headers
}
