//! The settings of one S3 connector, from a location and a map of options.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::class::{self, is_cold};
use super::credentials::{Files, Given, Profile, Provider, Surroundings, choose};
use super::location::{Context, Endpoint, Location, is_region};
use super::object_lock::ObjectLock;
use super::sse::CustomerKey;
use crate::base::Cancel;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::Notices;

/// Every option an S3 connector knows, in the order they are documented.
pub const KNOWN: [&str; 30] = [
    "location",
    "uri",
    "type",
    "access_key",
    "secret_access_key",
    "session_token",
    "profile",
    "region",
    "use_tls",
    "tls_insecure_no_verify",
    "tls_ca_file",
    "virtual_host",
    "endpoint",
    "port",
    "root",
    "storage_class",
    "metadata_storage_class",
    "object_lock",
    "retain",
    "sse_customer_key",
    "passphrase",
    "passphrase_cmd",
    "keyfile",
    "environment",
    "data_class",
    "versions",
    "tags",
    "acl",
    "retention",
    "concurrency",
];

/// Time limits, retries and parallelism. No option of the command line but `concurrency` sets them; tests do.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Threads that wait for answers, and the most requests in flight.
    pub workers: usize,
    /// Whether the number of requests in flight is found out, up to `workers`; else it is `workers`, less only while
    /// the server says that this is too much.
    pub adaptive: bool,
    /// Memory for parts of large objects that are read ahead, in bytes.
    pub read_ahead: u64,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long one read or one write may make no progress.
    pub stall_timeout: Duration,
    /// Attempts per request, the first included.
    pub attempts: u32,
    /// The first pause after a failure; pauses double.
    pub base_delay: Duration,
    /// The first pause after throttling.
    pub throttle_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
    /// Objects of at least this many bytes are uploaded in parts.
    pub multipart_threshold: u64,
    /// The least size in bytes of a part.
    pub part_size: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            workers: 64,
            adaptive: true,
            read_ahead: 40 << 20,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_mins(1),
            attempts: 9,
            base_delay: Duration::from_millis(50),
            throttle_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(20),
            multipart_threshold: 32 << 20,
            part_size: 16 << 20,
        }
    }
}

/// A proxy, and the hosts reached without it.
#[derive(Clone)]
pub(super) struct ProxySettings {
    pub(super) url: String,
    pub(super) exceptions: Vec<String>,
}

impl std::fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("ProxySettings").field("exceptions", &self.exceptions).finish_non_exhaustive()
    }
}

/// The settings of one connector. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the bucket is, and what below it is meant.
    pub location: Location,
    /// The region requests are signed for.
    pub region: String,
    /// Who asks; nothing is asked for them before the first request.
    pub credentials: Provider,
    /// Whether connections use TLS.
    pub use_tls: bool,
    /// Whether the server's certificate goes unchecked.
    pub insecure: bool,
    /// A file of PEM certificates that replace the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Whether the bucket goes into the host name.
    pub virtual_host: bool,
    /// The storage class of what is written, where one was chosen.
    pub storage_class: Option<String>,
    /// The storage class of a store's metadata, where one was chosen.
    pub metadata_class: Option<String>,
    /// How long the resources of a store are to be immutable, where the bucket has Object Lock.
    pub object_lock: Option<ObjectLock>,
    /// Whether old versions and delete markers are read, or written, too.
    pub versions: bool,
    /// Whether tags are asked for where the server does not say whether there are any.
    pub tags: bool,
    /// Whether access control lists are.
    pub acl: bool,
    /// Whether retention and legal holds are.
    pub retention: bool,
    /// Time limits, retries and parallelism.
    pub tuning: Tuning,
    /// Ends what waits or tries again.
    pub cancel: Cancel,
    /// Where it is said that a bucket was made.
    pub notices: Notices,
    pub(super) customer_key: Option<CustomerKey>,
    pub(super) proxy: Option<ProxySettings>,
}

impl Options {
    /// Reads a location and its options. An empty `location` is taken from the options `location` or `uri`.
    ///
    /// The environment is asked through `environment` alone. Fails with `Invalid`; no secret is in the error.
    pub fn parse<K: AsRef<str>, V: AsRef<str>>(
        location: &str,
        options: impl IntoIterator<Item = (K, V)>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let options: Vec<(K, V)> = options.into_iter().collect();
        let options: BTreeMap<&str, &str> =
            options.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        let get = |name: &str| options.get(name).copied().filter(|value| !value.is_empty());
        let location =
            if location.is_empty() { get("location").or_else(|| get("uri")).unwrap_or("") } else { location };
        let invalid = |what: String| Error::new(ErrorKind::Invalid, "use", shown(location)).detail(what);
        check_names(&options).map_err(invalid)?;
        let env = |name: &str| environment(name).filter(|value| !value.is_empty());
        let profile = profile(&get, environment);
        if let (Err(error), Some(_)) = (&profile, get("profile")) {
            return Err(invalid(error.to_string()));
        }
        let (place, region) =
            place(location, &get, &env, profile.as_ref().ok().and_then(Option::as_ref)).map_err(invalid)?;
        let use_tls = use_tls(get("use_tls"), place.endpoint.tls).map_err(invalid)?;
        let flag = |name: &str| get(name).map_or(Ok(false), |value| parse_bool(name, value));
        let bundle = |profile: &Profile| profile.get("ca_bundle").map(str::to_owned);
        let env_ca_file = env("AWS_CA_BUNDLE")
            .or_else(|| profile.as_ref().ok().and_then(Option::as_ref).and_then(bundle))
            .or_else(|| env("SSL_CERT_FILE"))
            .map(PathBuf::from);
        let own_ca_file = get("tls_ca_file").map(PathBuf::from);
        let around = Surroundings {
            given: Given {
                access_key: get("access_key"),
                secret: get("secret_access_key"),
                token: get("session_token"),
                profile: get("profile").is_some(),
            },
            endpoint: &place.endpoint,
            region: &region,
            profile,
            ca_file: env_ca_file.clone(),
            own_ca_file: own_ca_file.clone(),
            environment,
        };
        let credentials = choose(around)
            .map_err(|error| Error::new(error.kind(), "use", shown(location)).detail(error.to_string()))?;
        let customer_key = get("sse_customer_key").map(CustomerKey::parse).transpose().map_err(invalid)?;
        if customer_key.is_some() && !use_tls && !place.endpoint.is_loopback() {
            return Err(invalid("sse_customer_key is not sent over a connection without TLS".into()));
        }
        let mut tuning = Tuning::default();
        if let Some(text) = get("concurrency") {
            let workers = text.parse().ok().filter(|n| (1..=1024).contains(n));
            tuning.workers =
                workers.ok_or_else(|| invalid(format!("concurrency is 1 to 1024, not {text}")))?;
            tuning.adaptive = false;
        }
        let class = |name: &'static str| get(name).map(|text| class::parse(name, text)).transpose();
        let metadata_class = class("metadata_storage_class").map_err(invalid)?;
        if let Some(class) = metadata_class.as_deref().filter(|class| is_cold(class)) {
            return Err(invalid(format!(
                "metadata_storage_class cannot be {class}: nothing could be listed without a retrieval"
            )));
        }
        let object_lock = ObjectLock::parse(get("object_lock"), get("retain")).map_err(invalid)?;
        Ok(Self {
            metadata_class,
            object_lock,
            proxy: proxy_for(use_tls, &place.endpoint, &env),
            insecure: flag("tls_insecure_no_verify").map_err(invalid)?,
            ca_file: own_ca_file.or(env_ca_file),
            virtual_host: flag("virtual_host").map_err(invalid)?,
            storage_class: class("storage_class").map_err(invalid)?,
            versions: parse_versions(get("versions")).map_err(invalid)?,
            tags: flag("tags").map_err(invalid)?,
            acl: flag("acl").map_err(invalid)?,
            retention: flag("retention").map_err(invalid)?,
            location: place,
            region,
            credentials,
            use_tls,
            tuning,
            cancel: Cancel::new(),
            notices: Notices::default(),
            customer_key,
        })
    }

    /// Returns the location for people: scheme, server, bucket and prefix, no secret.
    pub fn describe(&self) -> String {
        let place = &self.location;
        format!("s3://{}/{}/{}", place.endpoint.authority(), place.bucket, place.prefix)
    }

    /// Returns what should be said to people before anything is done: settings that may cost them dear.
    pub fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.use_tls && self.insecure {
            out.push(format!(
                "tls_insecure_no_verify: nobody checks who {} is, and anyone on the way there can read and change \
                 what is sent; set tls_ca_file instead",
                self.location.endpoint.authority()
            ));
        }
        let classes = [&self.storage_class, &self.metadata_class].into_iter().flatten();
        out.extend(classes.filter_map(|class| class::warning(class, &self.location.endpoint)));
        out
    }

    /// Returns the prefix as a folder: empty, or ending in a slash.
    pub(super) fn folder_prefix(&self) -> Vec<u8> {
        let mut prefix = self.location.prefix.clone().into_bytes();
        if prefix.last().is_some_and(|&c| c != b'/') {
            prefix.push(b'/');
        }
        prefix
    }
}

/// A location in an error: what stands before an `@` might be a key.
fn shown(location: &str) -> String {
    match location.rsplit_once('@') {
        Some((_, rest)) => format!("s3://…@{rest}"),
        None => location.to_owned(),
    }
}

fn join(prefix: &str, root: &str) -> String {
    match (prefix.trim_end_matches('/'), root.strip_prefix('/').unwrap_or(root)) {
        ("", root) => root.to_owned(),
        (prefix, root) => format!("{prefix}/{root}"),
    }
}

fn check_names(options: &BTreeMap<&str, &str>) -> Result<(), String> {
    for name in options.keys() {
        if !KNOWN.contains(name) {
            let nearest = KNOWN
                .iter()
                .min_by_key(|known| strsim::damerau_levenshtein(name, known))
                .filter(|k| strsim::damerau_levenshtein(name, k) <= 4);
            let hint = nearest.map(|known| format!(" (did you mean {known}?)")).unwrap_or_default();
            return Err(format!("unknown option {name}{hint}; known are {}", KNOWN.join(", ")));
        }
    }
    Ok(())
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|&port| port != 0).ok_or_else(|| format!("{text} is not a port"))
}

fn parse_bool(name: &str, text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{name} is true or false, not {text}")),
    }
}

fn parse_versions(text: Option<&str>) -> Result<bool, String> {
    match text {
        None | Some("latest") => Ok(false),
        Some("all") => Ok(true),
        Some(text) => {
            parse_bool("versions", text).map_err(|_| format!("versions is all or latest, not {text}"))
        }
    }
}

/// Checks the form of one option's value, as far as that can be seen without the others. No secret is in the error.
pub(in super::super) fn check_value(name: &str, value: &str) -> Result<(), String> {
    match name {
        "endpoint" => Endpoint::parse(value).map(|_| ()).map_err(|why| format!("endpoint: {why}")),
        "region" if !is_region(value) => Err(format!(
            "region is the short name of a region, such as fr-par or eu-west-1, not {}",
            crate::base::Printable::new(value)
        )),
        "storage_class" | "metadata_storage_class" => class::parse(name, value).map(|_| ()),
        "object_lock" => ObjectLock::parse(Some(value), Some("1d")).map(|_| ()),
        "retain" => ObjectLock::parse(Some("governance"), Some(value)).map(|_| ()),
        "sse_customer_key" => CustomerKey::parse(value).map(|_| ()),
        "versions" => parse_versions(Some(value)).map(|_| ()),
        "concurrency" => match value.parse::<usize>() {
            Ok(1..) => Ok(()),
            _ => Err(format!(
                "concurrency is a number of at least 1, not {}",
                crate::base::Printable::new(value)
            )),
        },
        _ => Ok(()),
    }
}

fn use_tls(option: Option<&str>, scheme: Option<bool>) -> Result<bool, String> {
    match (option.map(|text| parse_bool("use_tls", text)).transpose()?, scheme) {
        (Some(option), Some(scheme)) if option != scheme => {
            Err("use_tls contradicts the endpoint's scheme".into())
        }
        (option, scheme) => Ok(option.or(scheme).unwrap_or(true)),
    }
}

/// Reads the profile that the option or the environment names, else the default one. Where the options hold keys and
/// name no profile they are complete: no file is read then.
fn profile<'a>(
    get: &dyn Fn(&str) -> Option<&'a str>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> std::result::Result<Option<Profile>, super::credentials::CredentialsError> {
    let named = get("profile").map(str::to_owned);
    if named.is_none() && get("access_key").is_some() && get("secret_access_key").is_some() {
        return Ok(None);
    }
    let variable = || environment("AWS_PROFILE").filter(|value| !value.is_empty());
    Profile::load(Files::find(environment), named.or_else(variable))
}

/// Reads the location; returns it with the region: the option's, the host's, the environment's, the profile's.
fn place<'a>(
    location: &str,
    get: &dyn Fn(&str) -> Option<&'a str>,
    env: &dyn Fn(&str) -> Option<String>,
    profile: Option<&Profile>,
) -> std::result::Result<(Location, String), String> {
    let region = get("region").map(str::to_owned);
    if let Some(region) = region.as_deref().filter(|region| !is_region(&region.to_ascii_lowercase())) {
        return Err(format!("{region} is not a region"));
    }
    let env_region = || {
        let profile = profile.and_then(|profile| profile.get("region"));
        let named = env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION"));
        named.or_else(|| profile.map(str::to_owned)).filter(|region| is_region(region))
    };
    let ignored =
        env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let context = Context {
        endpoint: get("endpoint").map(str::to_owned),
        environment: env("AWS_ENDPOINT_URL_S3")
            .or_else(|| env("AWS_ENDPOINT_URL"))
            .or_else(|| profile.and_then(|profile| profile.endpoint("s3")).map(str::to_owned))
            .filter(|_| !ignored),
        port: get("port").map(parse_port).transpose()?,
        region: region.clone().or_else(env_region),
    };
    let mut place = Location::parse(location, &context)?;
    if let Some(root) = get("root") {
        place.prefix = join(&place.prefix, root);
    }
    let derived = place.endpoint.region();
    let region = region.or(derived).or_else(env_region).unwrap_or_else(|| "us-east-1".into());
    Ok((place, region))
}

/// Reads the proxy variables, as everyone does: the scheme's own, then `ALL_PROXY`, lower case first.
pub(super) fn proxy_for(
    tls: bool,
    endpoint: &Endpoint,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<ProxySettings> {
    if endpoint.is_loopback() {
        return None;
    }
    // HTTP_PROXY in upper case can be set by a web client through CGI, so only the lower-case name counts.
    let names: &[&str] = if tls { &["https_proxy", "HTTPS_PROXY"] } else { &["http_proxy"] };
    let set = |name: &&str| env(name).filter(|value| !value.is_empty());
    let url = names.iter().chain(&["all_proxy", "ALL_PROXY"]).find_map(set)?;
    let url = if url.contains("://") { url } else { format!("http://{url}") };
    let exceptions = env("no_proxy").or_else(|| env("NO_PROXY")).unwrap_or_default();
    let exceptions = exceptions.split(',').map(|e| e.trim().to_owned()).filter(|e| !e.is_empty()).collect();
    Some(ProxySettings { url, exceptions })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [(&str, &str); 2] = [("access_key", "AK"), ("secret_access_key", "hush-hush")];

    fn parse(location: &str, options: &[(&str, &str)]) -> Result<Options> {
        parse_env(location, options, &[])
    }

    fn parse_env(location: &str, options: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Options> {
        let all = KEYS.iter().chain(options).copied();
        Options::parse(location, all, &|name| {
            env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn refusal(location: &str, options: &[(&str, &str)]) -> String {
        let error = parse(location, options).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        error.to_string()
    }

    #[test]
    fn defaults() {
        let got = parse("s3://s3.fr-par.scw.cloud/b/p", &[]).unwrap();
        assert!(got.use_tls && !got.insecure && !got.virtual_host);
        assert_eq!((got.region.as_str(), got.folder_prefix().as_slice()), ("fr-par", b"p/".as_slice()));
        assert_eq!(got.describe(), "s3://s3.fr-par.scw.cloud/b/p");
        assert!(!format!("{got:?}").contains("hush-hush"));
    }

    #[test]
    fn the_location_may_stand_in_the_options() {
        assert_eq!(parse("", &[("uri", "s3://b/")]).unwrap().location.bucket, "b");
        assert_eq!(parse("", &[("location", "s3://c/")]).unwrap().location.bucket, "c");
        assert!(refusal("", &[]).contains("starts with s3://"));
    }

    #[test]
    fn unknown_options_are_refused_with_the_nearest() {
        let text = refusal("s3://b/", &[("acces_key", "x")]);
        assert!(text.contains("did you mean access_key?") && text.contains("sse_customer_key"), "{text}");
        assert!(!refusal("s3://b/", &[("completely_other_thing", "x")]).contains("did you mean"));
        assert!(refusal("s3://b/", &[("profile", "work")]).contains("there is no profile work"));
    }

    #[test]
    fn regions_come_from_option_host_environment_default() {
        let env = [("AWS_DEFAULT_REGION", "eu-central-1")];
        assert_eq!(parse_env("s3://b/", &[("region", "eu-west-3")], &env).unwrap().region, "eu-west-3");
        assert_eq!(parse_env("s3://s3.nl-ams.scw.cloud/b", &[], &env).unwrap().region, "nl-ams");
        let aws = parse_env("s3://b/", &[], &env).unwrap();
        assert_eq!(
            (aws.region.as_str(), aws.location.endpoint.host.as_str()),
            ("eu-central-1", "s3.eu-central-1.amazonaws.com")
        );
        assert_eq!(aws.location.origin(), "s3.amazonaws.com/b");
        assert_eq!(parse("s3://storage.example.net/b", &[]).unwrap().region, "us-east-1");
    }

    #[test]
    fn the_variable_of_the_service_goes_before_the_one_of_all() {
        let region = |env: &[(&str, &str)]| parse_env("s3://b/", &[], env).unwrap().region;
        assert_eq!(region(&[("AWS_DEFAULT_REGION", "eu-west-1"), ("AWS_REGION", "eu-west-2")]), "eu-west-2");
        assert_eq!(region(&[("AWS_DEFAULT_REGION", "eu-west-1"), ("AWS_REGION", "")]), "eu-west-1");
        let host =
            |env: &[(&str, &str)]| parse_env("s3://b/p", &[], env).unwrap().location.endpoint.authority();
        let (all, own) =
            (("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2"));
        assert_eq!(host(&[all, own]), "127.0.0.1:2");
        assert_eq!(host(&[all, ("AWS_ENDPOINT_URL_S3", "")]), "127.0.0.1:1");
        // Options go before both, and an empty option is none.
        let given = [("endpoint", "http://127.0.0.1:3"), ("region", "xx-1")];
        let got = parse_env("s3://b/p", &given, &[all, own, ("AWS_REGION", "eu-west-2")]).unwrap();
        assert_eq!(
            (got.location.endpoint.authority().as_str(), got.region.as_str()),
            ("127.0.0.1:3", "xx-1")
        );
        let got = parse_env("s3://b/p", &[("endpoint", ""), ("region", "")], &[all]).unwrap();
        assert_eq!(got.location.endpoint.authority(), "127.0.0.1:1");
    }

    #[test]
    fn a_profile_says_what_nothing_else_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let text = "[default]\nregion = eu-west-3\nca_bundle = /ca.pem\n\
                    [profile far]\nendpoint_url = http://127.0.0.1:9\nregion = xx-1\n[profile bad]\nregion = /\n";
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let parse = |location: &str, more: &[(&str, &str)], env: &[(&str, &str)]| {
            Options::parse(location, more.iter().copied(), &|name| {
                let own =
                    [("AWS_CONFIG_FILE", path), ("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "S")];
                let mut all = env.iter().chain(&own);
                all.find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let got = parse("s3://b/", &[], &[]).unwrap();
        assert_eq!(
            (got.location.endpoint.host.as_str(), got.ca_file),
            ("s3.eu-west-3.amazonaws.com", Some("/ca.pem".into()))
        );
        assert_eq!(got.credentials.origin(), "environment");
        assert_eq!(parse("s3://b/", &[], &[("AWS_REGION", "us-east-2")]).unwrap().region, "us-east-2");
        let far = parse("s3://b/p", &[], &[("AWS_PROFILE", "far")]).unwrap();
        assert_eq!(
            (far.location.endpoint.authority().as_str(), far.region.as_str()),
            ("127.0.0.1:9", "xx-1")
        );
        let ignoring = [("AWS_PROFILE", "far"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")];
        assert!(parse("s3://b/p", &[], &ignoring).unwrap().location.endpoint.is_aws());
        assert_eq!(parse("s3://b/", &[], &[("AWS_PROFILE", "bad")]).unwrap().region, "us-east-1");
        // Options that are complete have no need of files, unless they name a profile.
        let complete = KEYS.map(|(name, value)| (name, value));
        assert_eq!(parse("s3://b/", &complete, &[("AWS_PROFILE", "gone")]).unwrap().region, "us-east-1");
        let both = [&complete[..], &[("profile", "far")]].concat();
        let both = parse("s3://b/", &both, &[]).unwrap();
        assert_eq!((both.region.as_str(), both.credentials.origin()), ("xx-1", "options"));
        // Keys of the environment do as well without the profile they stand beside.
        assert!(parse("s3://b/", &[], &[("AWS_PROFILE", "gone")]).is_ok());
        assert!(parse("s3://b/", &[("profile", "gone")], &[]).is_err());
    }

    #[test]
    fn tls_follows_option_and_scheme() {
        assert!(!parse("s3://b/", &[("endpoint", "http://h:1")]).unwrap().use_tls);
        assert!(!parse("s3://h:1/b", &[("use_tls", "false")]).unwrap().use_tls);
        assert!(
            refusal("s3://b/", &[("endpoint", "http://h:1"), ("use_tls", "true")]).contains("contradicts")
        );
        assert!(refusal("s3://b/", &[("use_tls", "maybe")]).contains("true or false"));
        let key = [("sse_customer_key", "0123456789abcdef0123456789abcdef"), ("use_tls", "false")];
        assert!(refusal("s3://h:1/b", &key).contains("without TLS"));
        assert!(parse("s3://127.0.0.1:1/b", &key).is_ok());
    }

    #[test]
    fn root_is_joined_below_the_location() {
        assert_eq!(parse("s3://b/p/", &[("root", "/q")]).unwrap().location.prefix, "p/q");
        assert_eq!(parse("s3://b/", &[("root", "q/")]).unwrap().location.prefix, "q/");
    }

    #[test]
    fn proxies_spare_this_machine() {
        let env = [("https_proxy", "proxy.example:3128"), ("no_proxy", "a.example, b.example")];
        let proxy = parse_env("s3://b/", &[], &env).unwrap().proxy.unwrap();
        assert_eq!((proxy.url.as_str(), proxy.exceptions.len()), ("http://proxy.example:3128", 2));
        assert!(parse_env("s3://localhost:1/b", &[], &env).unwrap().proxy.is_none());
    }
}
