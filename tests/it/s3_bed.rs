//! Where the S3 tests lie down: the in-process server, and a real one when the environment names it.
//!
//! `S3_ENDPOINT` (`http://host:port`), `S3_ACCESS_KEY`, `S3_SECRET_KEY` and, where the server checks it,
//! `S3_REGION` name a real server; tests make a bucket of their own there and remove it.

use std::io::Read as _;
use std::time::Duration;

use plakar::connectors::s3::Options;
use ureq::http::HeaderMap;

use crate::s3server::{self, S3Server, authorize, elements, percent_decode, percent_encode, unescape};

/// A bucket on some server, with a way to it that is not the product's.
#[derive(Debug)]
pub(crate) struct Bed {
    /// The server, when it is ours: it can be looked into and broken.
    pub(crate) server: Option<S3Server>,
    pub(crate) authority: String,
    pub(crate) access_key: String,
    pub(crate) secret: String,
    pub(crate) region: String,
    /// The bucket's name.
    pub(crate) bucket: String,
}

/// An object as the server gives it out.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Fetched {
    /// Returns a header's bytes, lossily as text, or nothing.
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).unwrap_or_default()
    }
}

impl Bed {
    /// A bucket on a server of ours.
    pub(crate) fn own(options: s3server::Options) -> Self {
        let server = S3Server::start(options.clone());
        server.make_bucket("bucket");
        Self {
            authority: server.authority(),
            server: Some(server),
            access_key: s3server::ACCESS_KEY.into(),
            secret: s3server::SECRET_KEY.into(),
            region: options.region,
            bucket: "bucket".into(),
        }
    }

    /// A bucket on the real server, if there is one.
    pub(crate) fn real() -> Option<Self> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(endpoint), Some(access_key), Some(secret)) =
            (get("S3_ENDPOINT"), get("S3_ACCESS_KEY"), get("S3_SECRET_KEY"))
        else {
            println!(
                "not run against a real server: S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY are not set"
            );
            return None;
        };
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let name = u64::from_le_bytes(random);
        let bed = Self {
            server: None,
            authority: endpoint
                .strip_prefix("http://")
                .expect("a plain http endpoint")
                .trim_end_matches('/')
                .into(),
            access_key,
            secret,
            region: get("S3_REGION").unwrap_or_else(|| "us-east-1".into()),
            bucket: format!("plakar-test-{name:016x}"),
        };
        assert_eq!(bed.request("PUT", None, "", &[], b"").status, 200, "cannot create a bucket");
        Some(bed)
    }

    /// Another bucket on the same server, removed when dropped: drop it before the server.
    pub(crate) fn beside(&self, suffix: &str) -> Self {
        let bed = Self {
            server: None,
            authority: self.authority.clone(),
            access_key: self.access_key.clone(),
            secret: self.secret.clone(),
            region: self.region.clone(),
            bucket: format!("{}-{suffix}", self.bucket),
        };
        assert_eq!(bed.request("PUT", None, "", &[], b"").status, 200, "cannot create a bucket");
        bed
    }

    /// Runs a test on every server there is.
    pub(crate) fn each(test: impl Fn(&Self)) {
        test(&Self::own(s3server::Options::default()));
        if let Some(bed) = Self::real() {
            test(&bed);
        }
    }

    /// Returns `s3://host/bucket/prefix`.
    pub(crate) fn location(&self, prefix: &str) -> String {
        format!("s3://{}/{}/{prefix}", self.authority, self.bucket)
    }

    /// Returns the options of a connector, quick to try again.
    pub(crate) fn options(&self, prefix: &str, more: &[(&str, &str)]) -> Options {
        self.options_as(&self.access_key, &self.secret, prefix, more)
    }

    /// The same under other keys.
    pub(crate) fn options_as(
        &self,
        access_key: &str,
        secret: &str,
        prefix: &str,
        more: &[(&str, &str)],
    ) -> Options {
        let own = [
            ("access_key", access_key),
            ("secret_access_key", secret),
            ("use_tls", "false"),
            ("region", &self.region),
        ];
        let all = own.iter().chain(more).copied();
        let mut options = Options::parse(&self.location(prefix), all, &|_| None).unwrap();
        options.tuning.base_delay = Duration::from_millis(1);
        options.tuning.throttle_delay = Duration::from_millis(1);
        options.tuning.max_delay = Duration::from_millis(20);
        options
    }

    /// Sends a request of its own, signed in the header. `query` is encoded already.
    pub(crate) fn request(
        &self,
        method: &str,
        key: Option<&[u8]>,
        query: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Fetched {
        let path = match key {
            Some(key) => format!("/{}/{}", self.bucket, percent_encode(key, b"/")),
            None => format!("/{}", self.bucket),
        };
        let mut all: Vec<(String, Vec<u8>)> = vec![("host".into(), self.authority.clone().into_bytes())];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())));
        let keys = (self.access_key.as_str(), self.secret.as_str());
        let all = authorize((method, &path, query), all, keys, &self.region);
        let url =
            format!("http://{}{path}{}{query}", self.authority, if query.is_empty() { "" } else { "?" });
        let mut builder = ureq::http::Request::builder().method(method).uri(url);
        for (name, value) in &all {
            builder = builder.header(name, value.as_slice());
        }
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build(),
        );
        let answer = if matches!(method, "PUT" | "POST") {
            agent.run(builder.body(body).unwrap()).unwrap()
        } else {
            agent.run(builder.body(()).unwrap()).unwrap()
        };
        let (parts, body) = answer.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().read_to_end(&mut bytes).unwrap();
        Fetched { status: parts.status.as_u16(), headers: parts.headers, body: bytes }
    }

    /// Puts an object.
    pub(crate) fn put(&self, key: impl AsRef<[u8]>, headers: &[(&str, &[u8])], body: &[u8]) {
        let answer = self.request("PUT", Some(key.as_ref()), "", headers, body);
        assert_eq!(
            answer.status,
            200,
            "{:?}: {}",
            key.as_ref().escape_ascii(),
            String::from_utf8_lossy(&answer.body)
        );
    }

    /// Gets an object.
    pub(crate) fn get(&self, key: impl AsRef<[u8]>) -> Fetched {
        self.request("GET", Some(key.as_ref()), "", &[], b"")
    }

    /// Returns an object's tags, sorted.
    pub(crate) fn tags(&self, key: impl AsRef<[u8]>) -> Vec<(String, String)> {
        let answer = self.request("GET", Some(key.as_ref()), "tagging=", &[], b"");
        let text = String::from_utf8(answer.body).unwrap();
        let own = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let mut tags: Vec<_> =
            own(elements(&text, "Key")).into_iter().zip(own(elements(&text, "Value"))).collect();
        tags.sort();
        tags
    }

    /// Returns all keys, sorted.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut token = String::new();
        loop {
            let query = format!("{token}encoding-type=url&list-type=2");
            let text = String::from_utf8(self.request("GET", None, &query, &[], b"").body).unwrap();
            let found = elements(&text, "Key");
            keys.extend(found.iter().map(|key| percent_decode(unescape(key).replace('+', " ").as_bytes())));
            match elements(&text, "NextContinuationToken").first() {
                Some(next) => token = format!("continuation-token={}&", percent_encode(next.as_bytes(), b"")),
                None => break,
            }
        }
        keys.sort();
        keys
    }

    /// Returns the server of ours.
    pub(crate) fn own_server(&self) -> &S3Server {
        self.server.as_ref().expect("a server of ours")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.server.is_some() || std::thread::panicking() {
            return;
        }
        for key in self.keys() {
            self.request("DELETE", Some(&key), "", &[], b"");
        }
        self.request("DELETE", None, "", &[], b"");
    }
}
