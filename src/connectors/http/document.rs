//! A small document, fetched whole.

use std::io::Read;
use std::time::Duration;

use ureq::http::header::LOCATION;
use url::Url;

use super::client::Client;
use super::patience::Patience;
use crate::base::Cancel;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::redact;

/// How many redirects are followed.
const REDIRECTS: usize = 5;
/// How long to wait for a document: somebody sits and waits for it.
const PATIENCE: Patience = Patience {
    attempts: 3,
    first_pause: Duration::from_millis(300),
    connect: Duration::from_secs(10),
    stall: Duration::from_secs(20),
};

/// Fetches what an http or https URL names, at most `most` bytes.
///
/// Up to five redirects are followed, none of them from https to http. A name and a password in the URL are sent to
/// its host only. Fails with `Protocol` when there is more, or when the answer is no document; no secret of the URL
/// is in an error.
pub fn fetch_document(url: &str, most: u64) -> Result<Vec<u8>> {
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        match fetch(&url, most)? {
            Fetched::Document(bytes) => return Ok(bytes),
            Fetched::Elsewhere(next) => url = next,
        }
    }
    Err(Error::new(ErrorKind::Protocol, "read", redact(&url))
        .detail(format!("more than {REDIRECTS} redirects")))
}

enum Fetched {
    Document(Vec<u8>),
    Elsewhere(String),
}

fn fetch(url: &str, most: u64) -> Result<Fetched> {
    let client = Client::new(url, PATIENCE, Cancel::new())?;
    client.persist(|| {
        let answer = client.fetch()?;
        if answer.status().is_redirection() {
            let next = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            return Ok(Some(Fetched::Elsewhere(follow(&client, url, next)?)));
        }
        if answer.status().as_u16() != 200 {
            let said = format!("the server answered {}", answer.status());
            return Err(client.error(ErrorKind::Protocol, said).into());
        }
        let length = answer.headers().get("Content-Length");
        let length: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
        let too_long = || client.error(ErrorKind::Protocol, format!("it is longer than {most} bytes"));
        if length.is_some_and(|length| length > most) {
            return Err(too_long().into());
        }
        let mut bytes = Vec::new();
        let read = answer.into_body().into_reader().take(most + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > most {
            return Err(too_long().into());
        }
        read.map_err(|error| client.broken_off(&error))?;
        Ok(Some(Fetched::Document(bytes)))
    })
}

/// Returns where a redirect leads.
fn follow(client: &Client, from: &str, to: Option<&str>) -> Result<String> {
    let refuse = |why: &str| client.error(ErrorKind::Protocol, why);
    let from = Url::parse(from).map_err(|_| refuse("it is not a URL"))?;
    let to = to.and_then(|to| from.join(to).ok()).ok_or_else(|| refuse("it redirects to no URL"))?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Err(refuse("it redirects from https to http, which is not followed")),
        (_, "http" | "https") => Ok(to.into()),
        _ => Err(refuse("it redirects to something that is neither http nor https")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_protected() {
        let next = |from: &str, to: &str| {
            let client = Client::new(from, PATIENCE, Cancel::new()).unwrap();
            follow(&client, from, Some(to))
        };
        assert_eq!(next("https://h.test/a/b", "c").unwrap(), "https://h.test/a/c");
        assert_eq!(next("http://h.test/a", "https://i.test/").unwrap(), "https://i.test/");
        assert_eq!(next("https://me:pw@h.test/a", "https://i.test/").unwrap(), "https://i.test/");
        for to in ["http://h.test/a", "file:///etc/passwd", "ftp://h.test/a"] {
            assert_eq!(next("https://h.test/a", to).unwrap_err().kind, ErrorKind::Protocol, "{to}");
        }
    }
}
