//! Presigned URLs (AWS Signature Version 4 in the query).
//!
//! Ordinary requests are signed by `rusty-s3`. It signs what a [`Url`] can express and folds every kind of white
//! space in header values, so two kinds of request are signed here instead: keys with `.` or `..` segments (a
//! `Url` would address another object) and header values that are not plain ASCII. And it derives the key of the day
//! each time, so that what is asked for thousands of times a second is signed here too, under a key that is kept: GET.
//! Both ways give the same URL wherever both apply, which a test asserts. Requests to AWS's token service are signed in
//! their headers.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use rusty_s3::Method;
use sha2::{Digest, Sha256};
use url::Url;
use zeroize::Zeroizing;

use super::super::credentials::Credentials;
use crate::base::hex;

/// How long a signed URL lives, in seconds. Only the start of a request is measured against it.
pub(super) const EXPIRES: u64 = 300;

/// A request to be signed.
#[derive(Clone, Debug)]
pub(super) struct Unsigned<'a> {
    pub(super) method: Method,
    /// `https` or `http`.
    pub(super) scheme: &'a str,
    /// The host, with a port where it is not the scheme's own.
    pub(super) authority: &'a str,
    /// The path, encoded by [`encode`].
    pub(super) path: &'a str,
    /// Names and values before encoding, sorted.
    pub(super) query: &'a [(String, String)],
    /// Names in lower case, and values, sorted.
    pub(super) headers: &'a [(String, Vec<u8>)],
}

/// Percent-encodes a key or a path: unreserved characters and slashes stand for themselves.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 16);
    for &byte in bytes {
        encode_byte(&mut out, byte, true);
    }
    out
}

fn encode_byte(out: &mut String, byte: u8, slash: bool) {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slash && byte == b'/') {
        out.push(byte as char);
    } else {
        let _ = write!(out, "%{byte:02X}");
    }
}

fn encode_query(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        encode_byte(&mut out, byte, false);
        out
    })
}

/// Returns the URL of a signed request. The result is a secret for five minutes.
pub(super) fn presign(
    request: &Unsigned<'_>,
    credentials: &Credentials,
    region: &str,
    time: jiff::Timestamp,
    keys: &DayKeys,
) -> String {
    let url = if request.method == Method::Get { None } else { plain(request) };
    match url {
        Some(url) => with_rusty_s3(request, url, credentials, region, time),
        None => raw(request, credentials, region, time, keys),
    }
}

/// Returns the request's URL if nothing is lost by treating it as one.
fn plain(request: &Unsigned<'_>) -> Option<Url> {
    let is_plain =
        |value: &[u8]| value.iter().all(|c| (0x20..0x7f).contains(c)) && std::str::from_utf8(value).is_ok();
    if !request.headers.iter().all(|(_, value)| is_plain(value)) {
        return None;
    }
    let url = Url::parse(&format!("{}://{}{}", request.scheme, request.authority, request.path)).ok()?;
    (url.path() == request.path).then_some(url)
}

fn with_rusty_s3(
    request: &Unsigned<'_>,
    url: Url,
    credentials: &Credentials,
    region: &str,
    time: jiff::Timestamp,
) -> String {
    let query = request.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).expect("checked by `plain`")));
    let signed = rusty_s3::signing::sign(
        &time,
        request.method,
        url,
        &credentials.access_key,
        &credentials.secret,
        credentials.token.as_ref().map(|token| token.as_str()),
        region,
        EXPIRES,
        query,
        headers,
    );
    signed.into()
}

/// Signs a path and header values as they stand.
fn raw(
    request: &Unsigned<'_>,
    credentials: &Credentials,
    region: &str,
    time: jiff::Timestamp,
    keys: &DayKeys,
) -> String {
    let date = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &date[..8];
    let scope = format!("{day}/{region}/s3/aws4_request");
    let mut headers: Vec<(&str, Vec<u8>)> =
        request.headers.iter().map(|(name, value)| (name.as_str(), folded(value))).collect();
    headers.push(("host", request.authority.as_bytes().to_vec()));
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");

    let mut query: Vec<(String, String)> =
        request.query.iter().map(|(name, value)| (encode_query(name), encode_query(value))).collect();
    let mut add = |name: &str, value: &str| query.push((name.to_owned(), encode_query(value)));
    add("X-Amz-Algorithm", "AWS4-HMAC-SHA256");
    add("X-Amz-Credential", &format!("{}/{scope}", credentials.access_key));
    add("X-Amz-Date", &date);
    add("X-Amz-Expires", &EXPIRES.to_string());
    if let Some(token) = credentials.token.as_ref().filter(|token| !token.is_empty()) {
        add("X-Amz-Security-Token", token);
    }
    add("X-Amz-SignedHeaders", &names);
    query.sort();
    let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = query.join("&");

    let mut canonical = format!("{}\n{}\n{query}\n", request.method.to_str(), request.path).into_bytes();
    for (name, value) in &headers {
        canonical.extend_from_slice(name.as_bytes());
        canonical.push(b':');
        canonical.extend_from_slice(value);
        canonical.push(b'\n');
    }
    canonical.extend_from_slice(format!("\n{names}\nUNSIGNED-PAYLOAD").as_bytes());
    let signature = signature(keys.get(credentials, &scope), &date, &scope, &canonical);
    format!("{}://{}{}?{query}&X-Amz-Signature={signature}", request.scheme, request.authority, request.path)
}

/// Signs a POST to one of AWS's other services in its headers; returns all headers the request needs but `host`.
/// `scope` is the region and the service.
pub(in super::super) fn sign_post(
    url: &Url,
    content_type: &str,
    body: &[u8],
    credentials: &Credentials,
    (region, service): (&str, &str),
    time: jiff::Timestamp,
) -> Vec<(&'static str, Zeroizing<String>)> {
    let date = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let scope = format!("{}/{region}/{service}/aws4_request", &date[..8]);
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let text = |text: &str| Zeroizing::new(text.to_owned());
    let mut headers =
        vec![("content-type", text(content_type)), ("host", text(&host)), ("x-amz-date", text(&date))];
    headers.extend(credentials.token.clone().map(|token| ("x-amz-security-token", token)));
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical = Zeroizing::new(format!("POST\n{}\n\n", url.path()));
    for (name, value) in &headers {
        let _ = writeln!(canonical, "{name}:{}", value.as_str());
    }
    let _ = write!(canonical, "\n{names}\n{}", hex(&Sha256::digest(body)));
    let signature = signature(day_key(credentials, &scope), &date, &scope, canonical.as_bytes());
    headers.push((
        "authorization",
        Zeroizing::new(format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            credentials.access_key
        )),
    ));
    headers.retain(|(name, _)| *name != "host");
    headers
}

/// The key that signs, as it is kept: for one day, in one region, of one secret.
#[derive(Default)]
pub(super) struct DayKeys(Mutex<Option<DayKey>>);

struct DayKey {
    secret: Zeroizing<String>,
    scope: String,
    mac: Hmac<Sha256>,
}

impl fmt::Debug for DayKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DayKeys").finish_non_exhaustive()
    }
}

impl DayKeys {
    /// Returns the key for `scope`; the one before it is forgotten.
    fn get(&self, credentials: &Credentials, scope: &str) -> Hmac<Sha256> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(key) if key.scope == scope && key.secret == credentials.secret => key.mac.clone(),
            _ => {
                let mac = day_key(credentials, scope);
                let (secret, scope) = (credentials.secret.clone(), scope.to_owned());
                kept.insert(DayKey { secret, scope, mac }).mac.clone()
            }
        }
    }
}

/// Derives the key for a scope: day, region, service and the closing word.
fn day_key(credentials: &Credentials, scope: &str) -> Hmac<Sha256> {
    let secret = Zeroizing::new(format!("AWS4{}", credentials.secret.as_str()));
    let mut key = keyed(secret.as_bytes());
    for part in scope.split('/') {
        key.update(part.as_bytes());
        key = keyed(&Zeroizing::new(key.finalize().into_bytes().to_vec()));
    }
    key
}

/// Signs a canonical request under the key for its scope.
fn signature(mut key: Hmac<Sha256>, date: &str, scope: &str, canonical: &[u8]) -> String {
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    key.update(text.as_bytes());
    hex(&key.finalize().into_bytes())
}

/// Trims white space and folds runs of it, as the signature demands of header values.
fn folded(value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(value.len());
    for &byte in value.trim_ascii() {
        if byte != b' ' || out.last() != Some(&b' ') {
            out.push(byte);
        }
    }
    out
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(token: Option<&str>) -> Credentials {
        Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
            token: token.map(|t| Zeroizing::new(t.to_owned())),
            expires: None,
            origin: "test".into(),
        }
    }

    fn time() -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_369_353_600).unwrap()
    }

    #[test]
    fn the_documented_example() {
        // AWS documentation, "Authenticating Requests: Using Query Parameters", but for its longer expiry.
        let request = Unsigned {
            method: Method::Get,
            scheme: "https",
            authority: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: &[],
            headers: &[],
        };
        let keys = DayKeys::default();
        let url = raw(&request, &credentials(None), "us-east-1", time(), &keys);
        assert!(url.starts_with(
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&"
        ));
        assert_eq!(
            url,
            with_rusty_s3(&request, plain(&request).unwrap(), &credentials(None), "us-east-1", time())
        );
        assert_eq!(url, presign(&request, &credentials(None), "us-east-1", time(), &keys));
    }

    #[test]
    fn a_key_is_kept_for_its_day_its_region_and_its_secret_only() {
        let request = Unsigned {
            method: Method::Get,
            scheme: "https",
            authority: "h",
            path: "/b/a",
            query: &[],
            headers: &[],
        };
        let other = Credentials { secret: Zeroizing::new("another".into()), ..credentials(None) };
        let (first, next_day) = (time(), time() + jiff::SignedDuration::from_hours(24));
        let keys = DayKeys::default();
        for (credentials, region, time) in [
            (&credentials(None), "r", first),
            (&credentials(None), "r", first),
            (&credentials(None), "r", next_day),
            (&credentials(None), "s", next_day),
            (&other, "s", next_day),
            (&credentials(None), "r", first),
        ] {
            let expected = with_rusty_s3(&request, plain(&request).unwrap(), credentials, region, time);
            assert_eq!(presign(&request, credentials, region, time, &keys), expected);
        }
    }

    #[test]
    fn forms_are_signed_as_the_documentation_does() {
        // AWS's published test suite of Signature Version 4, "post-x-www-form-urlencoded".
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".into(),
            secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
            ..credentials(None)
        };
        let url = Url::parse("https://example.amazonaws.com/").unwrap();
        let time = "2015-08-30T12:36:00Z".parse().unwrap();
        let form = "application/x-www-form-urlencoded";
        let headers = sign_post(&url, form, b"Param1=value1", &credentials, ("us-east-1", "service"), time);
        let authorization = headers.iter().find(|(name, _)| *name == "authorization").unwrap().1.as_str();
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
        assert!(headers.iter().all(|(name, _)| *name != "host"));
    }

    #[test]
    fn both_signers_agree_wherever_both_apply() {
        let keys: [&[u8]; 6] =
            [b"a", b"a b+c%d~", b"//x//", "\u{e9}t\u{e9}".as_bytes(), b"a?b#c&d=e", b"a/...b/.c"];
        let query = [("list-type", "2"), ("prefix", "a b/\u{e9}+"), ("uploads", "")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let headers = [("x-amz-acl", "a  b"), ("x-amz-meta-z", " v ")]
            .map(|(n, v)| (n.to_owned(), v.as_bytes().to_vec()));
        for key in keys {
            let path = format!("/bucket/{}", encode(key));
            for token in [None, Some("tok+/=")] {
                let request = Unsigned {
                    method: Method::Put,
                    scheme: "http",
                    authority: "127.0.0.1:9000",
                    path: &path,
                    query: &query,
                    headers: &headers,
                };
                let url = plain(&request).expect("nothing odd in it");
                let credentials = credentials(token);
                assert_eq!(
                    raw(&request, &credentials, "r", time(), &DayKeys::default()),
                    with_rusty_s3(&request, url, &credentials, "r", time())
                );
            }
        }
    }

    #[test]
    fn dot_segments_and_odd_headers_are_signed_raw() {
        let mut request = Unsigned {
            method: Method::Get,
            scheme: "https",
            authority: "h",
            path: "/b/a/../c",
            query: &[],
            headers: &[],
        };
        assert!(plain(&request).is_none());
        request.method = Method::Put;
        let url = presign(&request, &credentials(None), "r", time(), &DayKeys::default());
        assert!(url.starts_with("https://h/b/a/../c?"));
        request.path = "/b/a";
        let headers = [("x-amz-meta-a".to_owned(), "a\u{a0}\u{a0}b".as_bytes().to_vec())];
        request.headers = &headers;
        assert!(plain(&request).is_none());
    }
}
