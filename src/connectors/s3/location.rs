//! What `s3://X/…` means.
//!
//! The first label may be a host or a bucket, and both spellings are in use. It is read in this order:
//!
//! 1. with an `endpoint` option, a bucket;
//! 2. with a port, an IP address, `localhost` or the suffix of a known provider, a host;
//! 3. with an endpoint in the environment or in the profile, a bucket;
//! 4. with a dot in it and something after it, a host;
//! 5. else, a bucket on AWS.
//!
//! Which reading was taken is part of [`Location`], so that errors can say it.

use std::net::IpAddr;

/// The longest bucket name accepted, in bytes; AWS allowed 255 once.
const MAX_BUCKET: usize = 255;

/// Domains whose every name is an S3 endpoint.
const PROVIDERS: [&str; 20] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "scw.cloud",
    "digitaloceanspaces.com",
    "wasabisys.com",
    "backblazeb2.com",
    "r2.cloudflarestorage.com",
    "storage.googleapis.com",
    "cloud.ovh.net",
    "cloud.ovh.us",
    "linodeobjects.com",
    "vultrobjects.com",
    "idrivee2.com",
    "exo.io",
    "your-objectstorage.com",
    "oraclecloud.com",
    "aliyuncs.com",
    "ionoscloud.com",
    "infomaniak.cloud",
    "min.io",
];

/// How the first label of a location was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// A bucket at the endpoint of the options.
    BucketAtEndpoint,
    /// A bucket at the endpoint of the environment.
    BucketAtEnvironment,
    /// A bucket on AWS.
    BucketOnAws,
    /// A host.
    Host,
}

impl Reading {
    /// Says it for people.
    pub fn explain(self) -> &'static str {
        match self {
            Self::BucketAtEndpoint => {
                "the first part of the location was read as a bucket, since an endpoint is set"
            }
            Self::BucketAtEnvironment => {
                "the first part of the location was read as a bucket, at the endpoint of AWS_ENDPOINT_URL or the profile"
            }
            Self::BucketOnAws => {
                "the first part of the location was read as a bucket on AWS; \
                 write s3://host/bucket or set `endpoint` if it is a host"
            }
            Self::Host => {
                "the first part of the location was read as a host; set `endpoint` if it is a bucket"
            }
        }
    }
}

/// A server's address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The host name or address; an IPv6 address stands in brackets.
    pub host: String,
    /// The port, where it is not the scheme's own.
    pub port: Option<u16>,
    /// What the endpoint's text says about TLS: `https://` or `http://`.
    pub tls: Option<bool>,
}

impl Endpoint {
    /// Parses `host`, `host:port`, `http://host` or `https://host:port/`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(true), rest),
            Some(("http", rest)) => (Some(false), rest),
            Some((scheme, _)) => {
                return Err(format!("an endpoint starts with https:// or http://, not {scheme}://"));
            }
            None => (None, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err("an endpoint holds no user name or password".into());
        }
        if rest.contains(['/', '?', '#']) {
            return Err("an endpoint is a host with or without a port, nothing after it".into());
        }
        let (host, port) = split_port(rest)?;
        if host.is_empty() {
            return Err("an endpoint needs a host".into());
        }
        if !host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._:[]".contains(&c)) {
            return Err("an endpoint's host is made of letters, digits, dots and hyphens".into());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port, tls })
    }

    /// Returns `host` or `host:port`.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// Returns the address when the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        let bare = self.host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&self.host);
        bare.parse().ok()
    }

    /// Returns whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        is_localhost(&self.host) || self.address().is_some_and(|address| address.is_loopback())
    }

    /// Returns whether the host is an endpoint of AWS: only then may a region be put into its name.
    pub fn is_aws(&self) -> bool {
        below(&self.host, "amazonaws.com") || below(&self.host, "amazonaws.com.cn")
    }

    /// Returns whether the host is an endpoint of Scaleway.
    pub fn is_scaleway(&self) -> bool {
        below(&self.host, "scw.cloud")
    }

    /// Derives the region from the host names of AWS and Scaleway.
    pub fn region(&self) -> Option<String> {
        let tail = if self.is_scaleway() {
            "scw.cloud"
        } else if below(&self.host, "amazonaws.com.cn") {
            "amazonaws.com.cn"
        } else if self.is_aws() {
            "amazonaws.com"
        } else {
            return None;
        };
        let labels: Vec<&str> = self.host.strip_suffix(tail)?.trim_end_matches('.').split('.').collect();
        let at = labels.iter().rposition(|l| *l == "s3" || *l == "s3-fips" || l.starts_with("s3-"))?;
        let region = match labels[at + 1..] {
            ["dualstack", region] | [region] => region,
            // The old spelling, s3-eu-west-1.amazonaws.com.
            [] => labels[at].strip_prefix("s3-").filter(|r| *r != "fips" && *r != "external-1")?,
            _ => return None,
        };
        is_region(region).then(|| region.to_owned())
    }

    /// Returns the endpoint of another region of AWS; `None` where the host is not AWS's.
    pub fn in_region(&self, region: &str) -> Option<Self> {
        if !self.is_aws() || !is_region(region) {
            return None;
        }
        let tail = if below(&self.host, "amazonaws.com.cn") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let kind = if self.host.contains(".dualstack.") { "s3.dualstack" } else { "s3" };
        Some(Self { host: format!("{kind}.{region}.{tail}"), ..self.clone() })
    }
}

/// Returns whether a text can be a region: what a server says is put into signatures and, on AWS, host names.
pub fn is_region(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

/// Returns whether a host is the machine itself by name (RFC 6761, section 6.3).
pub fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

fn below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|head| head.ends_with('.'))
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let colon = match text.rfind(']') {
        Some(bracket) => text[bracket..].find(':').map(|at| bracket + at),
        None => text.rfind(':'),
    };
    match colon {
        None => Ok((text, None)),
        Some(at) => {
            let port = text[at + 1..].parse().map_err(|_| format!("{} is not a port", &text[at + 1..]))?;
            Ok((&text[..at], Some(port)))
        }
    }
}

/// A location, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    /// The server.
    pub endpoint: Endpoint,
    /// The bucket.
    pub bucket: String,
    /// What stands after the bucket, taken literally, with neither a leading slash nor any decoding.
    pub prefix: String,
    /// How the first label was read.
    pub reading: Reading,
}

/// What besides the text decides how a location is read.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The `endpoint` option.
    pub endpoint: Option<String>,
    /// The endpoint named by the environment.
    pub environment: Option<String>,
    /// The `port` option.
    pub port: Option<u16>,
    /// The region to reach AWS in.
    pub region: Option<String>,
}

impl Location {
    /// Reads `s3://X/…`. The error is a sentence for people.
    pub fn parse(text: &str, context: &Context) -> Result<Self, String> {
        let scheme = text.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("s3://"));
        let rest = &text[scheme.ok_or("an S3 location starts with s3://")?.len()..];
        let (first, path) = rest.split_once('/').unwrap_or((rest, ""));
        if first.contains('@') {
            return Err("a location holds no keys; set access_key and secret_access_key".into());
        }
        let reading = read(first, path, context);
        let mut endpoint = match reading {
            Reading::BucketAtEndpoint => Endpoint::parse(context.endpoint.as_deref().unwrap_or_default())?,
            Reading::BucketAtEnvironment => {
                Endpoint::parse(context.environment.as_deref().unwrap_or_default())?
            }
            Reading::BucketOnAws => {
                let region = context.region.as_deref().unwrap_or("us-east-1");
                let tail = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                Endpoint::parse(&format!("s3.{region}.{tail}"))?
            }
            Reading::Host => Endpoint::parse(first)?,
        };
        if let Some(port) = context.port {
            if endpoint.port.is_some_and(|other| other != port) {
                return Err(format!("port {port} contradicts {}", endpoint.authority()));
            }
            endpoint.port = Some(port);
        }
        let (bucket, prefix) = match reading {
            Reading::Host => path.split_once('/').unwrap_or((path, "")),
            _ => (first, path),
        };
        check_bucket(bucket).map_err(|what| format!("{what}; {}", reading.explain()))?;
        Ok(Self { endpoint, bucket: bucket.to_owned(), prefix: prefix.to_owned(), reading })
    }

    /// Returns the source's name in snapshots, `host/bucket`: the same whatever region AWS is reached in.
    pub fn origin(&self) -> String {
        match self.reading {
            Reading::BucketOnAws => format!("s3.amazonaws.com/{}", self.bucket),
            _ => format!("{}/{}", self.endpoint.authority(), self.bucket),
        }
    }
}

fn read(first: &str, path: &str, context: &Context) -> Reading {
    let host = split_port(first).ok().map_or(first, |(host, _)| host);
    let lower = host.to_ascii_lowercase();
    let has_port = context.port.is_some() || split_port(first).is_ok_and(|(_, port)| port.is_some());
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if context.endpoint.is_some() {
        Reading::BucketAtEndpoint
    } else if has_port
        || bare.parse::<IpAddr>().is_ok()
        || is_localhost(&lower)
        || PROVIDERS.iter().any(|domain| lower == *domain || below(&lower, domain))
    {
        Reading::Host
    } else if context.environment.is_some() {
        Reading::BucketAtEnvironment
    } else if first.contains('.') && !path.is_empty() {
        Reading::Host
    } else {
        Reading::BucketOnAws
    }
}

/// Checks only what would change the meaning of a request; whether the name is allowed is the server's business.
fn check_bucket(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the location names no bucket".into());
    }
    if name.len() > MAX_BUCKET || matches!(name, "." | "..") {
        return Err(format!("{name} cannot be a bucket"));
    }
    if !name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c)) {
        return Err("a bucket's name is made of letters, digits, dots, hyphens and underscores".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Location {
        Location::parse(text, &Context::default()).unwrap()
    }

    #[test]
    fn the_first_label_is_read_as_documented() {
        let cases = [
            ("s3://s3.nl-ams.scw.cloud/b", Reading::Host, "s3.nl-ams.scw.cloud", "b", ""),
            (
                "s3://s3.eu-west-3.amazonaws.com/b/p/q",
                Reading::Host,
                "s3.eu-west-3.amazonaws.com",
                "b",
                "p/q",
            ),
            ("s3://127.0.0.1:9000/b/", Reading::Host, "127.0.0.1:9000", "b", ""),
            ("s3://[::1]:9000/b/x", Reading::Host, "[::1]:9000", "b", "x"),
            ("s3://localhost/b", Reading::Host, "localhost", "b", ""),
            ("s3://minio:9000/b", Reading::Host, "minio:9000", "b", ""),
            ("s3://storage.example.net/b//x", Reading::Host, "storage.example.net", "b", "/x"),
            (
                "s3://mybucket/restore-preview/",
                Reading::BucketOnAws,
                "s3.us-east-1.amazonaws.com",
                "mybucket",
                "restore-preview/",
            ),
            (
                "s3://my-source-bucket/",
                Reading::BucketOnAws,
                "s3.us-east-1.amazonaws.com",
                "my-source-bucket",
                "",
            ),
            (
                "s3://my.dotted.bucket/",
                Reading::BucketOnAws,
                "s3.us-east-1.amazonaws.com",
                "my.dotted.bucket",
                "",
            ),
        ];
        for (text, reading, host, bucket, prefix) in cases {
            let got = parse(text);
            let all = (got.reading, got.endpoint.authority(), got.bucket.as_str(), got.prefix.as_str());
            assert_eq!(all, (reading, host.to_owned(), bucket, prefix), "{text}");
        }
    }

    #[test]
    fn endpoints_and_ports_decide_the_reading() {
        let endpoint = Context { endpoint: Some("https://s3.example.net".into()), ..Context::default() };
        let got = Location::parse("s3://a.b/c", &endpoint).unwrap();
        assert_eq!((got.bucket.as_str(), got.prefix.as_str()), ("a.b", "c"));
        assert_eq!(got.endpoint.tls, Some(true));

        let port = Context { port: Some(9000), ..Context::default() };
        assert_eq!(Location::parse("s3://minio/b", &port).unwrap().endpoint.authority(), "minio:9000");
        assert!(Location::parse("s3://minio:1/b", &port).unwrap_err().contains("contradicts"));

        let environment = Context { environment: Some("http://127.0.0.1:9".into()), ..Context::default() };
        assert_eq!(Location::parse("s3://b/x", &environment).unwrap().endpoint.authority(), "127.0.0.1:9");
        let known = Location::parse("s3://s3.fr-par.scw.cloud/b", &environment).unwrap();
        assert_eq!(known.reading, Reading::Host);
    }

    #[test]
    fn errors_name_the_reading() {
        let error = Location::parse("s3://s3.fr-par.scw.cloud/", &Context::default()).unwrap_err();
        assert!(error.contains("names no bucket") && error.contains("read as a host"), "{error}");
        assert!(Location::parse("s3://", &Context::default()).is_err());
        assert!(
            Location::parse("s3://key:secret@host/b", &Context::default()).unwrap_err().contains("no keys")
        );
        assert!(Endpoint::parse("ftp://x").is_err());
        assert!(Endpoint::parse("https://x/y").is_err());
    }

    #[test]
    fn regions_come_from_known_hosts_only() {
        let region = |host: &str| Endpoint::parse(host).unwrap().region();
        assert_eq!(region("s3.fr-par.scw.cloud").as_deref(), Some("fr-par"));
        assert_eq!(region("s3.eu-west-1.amazonaws.com").as_deref(), Some("eu-west-1"));
        assert_eq!(region("s3.dualstack.eu-west-1.amazonaws.com").as_deref(), Some("eu-west-1"));
        assert_eq!(region("s3-eu-west-1.amazonaws.com").as_deref(), Some("eu-west-1"));
        assert_eq!(region("s3.cn-north-1.amazonaws.com.cn").as_deref(), Some("cn-north-1"));
        assert_eq!(region("s3.amazonaws.com"), None);
        assert_eq!(region("s3.eu-west-1.example.net"), None);
        assert_eq!(region("evilscw.cloud"), None);
    }

    #[test]
    fn a_learned_region_moves_aws_hosts_only() {
        let aws = Endpoint::parse("s3.us-east-1.amazonaws.com").unwrap();
        assert_eq!(aws.in_region("eu-west-1").unwrap().host, "s3.eu-west-1.amazonaws.com");
        assert_eq!(aws.in_region("evil.example/#"), None);
        assert_eq!(Endpoint::parse("s3.example.net").unwrap().in_region("eu-west-1"), None);
    }
}
