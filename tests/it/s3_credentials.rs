//! Where access keys come from: token services and metadata are small servers of ours, spoken to over real HTTP.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use plakar::base::Id;
use plakar::connector::{Body, ErrorKind, Kind, Storage};
use plakar::connectors::s3::{Options, S3Store};

use crate::cli::User;
use crate::s3_bed::Bed;
use crate::s3_connection::{data, proxy, terminator};
use crate::s3server::{self, Key, percent_decode};

const ID: Id = Id([7; 32]);

/// A request as a fake saw it.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Returns a field of a form.
    fn field(&self, name: &str) -> String {
        let fields = self.body.split('&').filter_map(|pair| pair.split_once('='));
        let value = fields.into_iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value);
        String::from_utf8(percent_decode(value.replace('+', " ").as_bytes())).unwrap()
    }
}

type Answer = Box<dyn Fn(&Seen) -> (u16, String) + Send>;

/// A server that answers as it is told, and remembers.
struct Fake {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Fake {
    fn new(answer: impl Fn(&Seen) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let (log, how) = (Arc::clone(&seen), Arc::clone(&answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &log, &how);
            }
        });
        Self { address, seen, answer }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn answer(&self, answer: impl Fn(&Seen) -> (u16, String) + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }
}

/// Answers one request, then closes.
fn serve(mut stream: TcpStream, log: &Mutex<Vec<Seen>>, how: &Mutex<Answer>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let (mut seen, head, length) = loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = parsed.parse(&bytes) {
            let headers: Vec<(String, String)> = parsed
                .headers
                .iter()
                .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
                .collect();
            let length =
                headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
            let method = parsed.method.unwrap().to_owned();
            let seen = Seen { method, path: parsed.path.unwrap().to_owned(), headers, body: String::new() };
            break (seen, head, length);
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    };
    let mut body = bytes.split_off(head);
    let already = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[already.min(length)..])?;
    seen.body = String::from_utf8(body).unwrap();
    let (status, text) = how.lock().unwrap()(&seen);
    log.lock().unwrap().push(seen);
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
    stream.write_all((head + &text).as_bytes())
}

fn from_now(seconds: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What STS answers to an action.
fn sts_answer(action: &str, name: &str, life: i64) -> (u16, String) {
    let text = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
         <AccessKeyId>{name}</AccessKeyId><SecretAccessKey>{name}-secret</SecretAccessKey>\
         <SessionToken>{name}-token</SessionToken><Expiration>{}</Expiration></Credentials>\
         </{action}Result></{action}Response>",
        from_now(life)
    );
    (200, text)
}

/// What metadata services answer.
fn json_answer(name: &str, token: &str, life: i64) -> (u16, String) {
    let text = format!(
        "{{\"Code\":\"Success\",\"AccessKeyId\":\"{name}\",\"SecretAccessKey\":\"{name}-secret\",\
         \"{token}\":\"{name}-token\",\"Expiration\":\"{}\"}}",
        from_now(life)
    );
    (200, text)
}

/// The keys that the fakes hand out.
fn key(name: &str) -> Key {
    Key::all(&format!("{name}-secret")).with_token(&format!("{name}-token"))
}

/// A server that knows the keys `one` and `two`.
fn bed() -> Bed {
    let bed = Bed::own(s3server::Options::default());
    for name in ["one", "two"] {
        bed.own_server().set_key(name, key(name));
    }
    bed
}

/// Lets the keys of `one` be expired ones from now on.
fn expire_one(bed: &Bed) {
    bed.own_server().set_key("one", key("one").expired());
}

fn store(
    bed: &Bed,
    options: &[(&str, &str)],
    environment: &[(&str, &str)],
) -> plakar::connector::Result<S3Store> {
    let all = options.iter().copied().chain([("use_tls", "false")]);
    let options = Options::parse(&bed.location(""), all, &|name| {
        environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    })?;
    S3Store::new(options)
}

/// Writes and reads something.
fn use_it(store: &S3Store) -> plakar::connector::Result<()> {
    store.put(Kind::Lock, ID, Body::Bytes(b"lock"))?;
    assert_eq!(store.get(Kind::Lock, ID)?, b"lock");
    Ok(())
}

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn web_identity_in_full_and_an_expired_token_on_the_way() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let sts = Fake::new(|seen| {
        let name = if seen.field("WebIdentityToken") == "first+/=" { "one" } else { "two" };
        sts_answer("AssumeRoleWithWebIdentity", name, 3600)
    });
    let token = write(&dir.path().join("token"), "first+/=\n");
    let environment = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/backup"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("AWS_ROLE_SESSION_NAME", "nightly"),
        ("AWS_ENDPOINT_URL_STS", &sts.url("/")),
    ];
    let store = store(&bed, &[], &environment).unwrap();
    assert_eq!(sts.seen().len(), 0, "nothing is asked before the first request");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| use_it(&store).unwrap());
        }
    });
    assert_eq!(sts.seen().len(), 1, "one answer serves all threads");
    let seen = &sts.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/"));
    for (field, value) in [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", "arn:aws:iam::1:role/backup"),
        ("RoleSessionName", "nightly"),
        ("WebIdentityToken", "first+/="),
    ] {
        assert_eq!(seen.field(field), value);
    }
    assert_eq!(seen.header("authorization"), None, "the request is not signed");

    // Expired in the middle of a run: asked once more, with the token the file holds now; signed again.
    write(&dir.path().join("token"), "second");
    expire_one(&bed);
    bed.own_server().reset_counters();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(store.get(Kind::Lock, ID).unwrap(), b"lock"));
        }
    });
    assert_eq!(sts.seen().len(), 2, "one renewal serves all threads");
    assert_eq!(store.size(Kind::Lock, ID).unwrap(), 4);
    assert!(bed.own_server().counters().of("GetObject") <= 16);
}

#[test]
fn an_expired_token_behind_a_head_is_renewed_too() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let asked = Arc::new(Mutex::new(0));
    let sts = Fake::new(move |_| {
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        sts_answer("AssumeRoleWithWebIdentity", if *asked == 1 { "one" } else { "two" }, 3600)
    });
    let token = write(&dir.path().join("token"), "t");
    let environment = [
        ("AWS_ROLE_ARN", "r"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("AWS_ENDPOINT_URL_STS", &sts.url("")),
    ];
    let store = store(&bed, &[], &environment).unwrap();
    use_it(&store).unwrap();
    expire_one(&bed);
    assert_eq!(store.size(Kind::Lock, ID).unwrap(), 4);
    assert_eq!(sts.seen().len(), 2);
}

#[test]
fn a_token_that_is_refused_is_renewed_once() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let names: Vec<String> = (0..5).map(|n| format!("key{n}")).collect();
    for name in &names {
        bed.own_server().set_key(name, key(name).expired());
    }
    let asked = Arc::new(Mutex::new(names.into_iter()));
    let sts = Fake::new(move |_| {
        let name = asked.lock().unwrap().next().unwrap();
        sts_answer("AssumeRoleWithWebIdentity", &name, 3600)
    });
    let token = write(&dir.path().join("token"), "t");
    let environment = [
        ("AWS_ROLE_ARN", "r"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("AWS_ENDPOINT_URL_STS", &sts.url("")),
    ];
    let error = use_it(&store(&bed, &[], &environment).unwrap()).unwrap_err();
    assert!(error.kind == ErrorKind::Denied && error.to_string().contains("ExpiredToken"), "{error}");
    assert_eq!((sts.seen().len(), bed.own_server().counters().total()), (2, 2));
}

#[test]
fn credentials_that_end_soon_are_renewed_and_old_ones_kept_while_they_hold() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let sts = Fake::new(|_| (400, String::new()));
    let token = write(&dir.path().join("token"), "t");
    let environment = [
        ("AWS_ROLE_ARN", "r"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("AWS_ENDPOINT_URL_STS", &sts.url("")),
    ];
    // Where this takes so long that they end meanwhile, they are to live longer. An end is told in whole seconds, so
    // all but one of them are sure.
    let (store, life) = [2, 8, 32]
        .into_iter()
        .find_map(|life| {
            let begun = Instant::now();
            sts.answer(move |_| sts_answer("AssumeRoleWithWebIdentity", "one", life));
            let store = store(&bed, &[], &environment).unwrap();
            use_it(&store).unwrap();
            // The service is ill; what was handed out holds on, for a while.
            sts.answer(|_| (400, String::new()));
            let used = use_it(&store);
            let sure = Duration::from_secs(life.unsigned_abs() - 1);
            assert!(used.is_ok() || begun.elapsed() >= sure, "{used:?}");
            used.is_ok().then_some((store, life))
        })
        .expect("half a minute is enough");
    std::thread::sleep(Duration::from_millis(life.unsigned_abs() * 1000 + 100));
    assert_eq!(use_it(&store).unwrap_err().kind, ErrorKind::Denied);
    std::thread::sleep(Duration::from_millis(2100));
    sts.answer(|_| sts_answer("AssumeRoleWithWebIdentity", "two", 3600));
    use_it(&store).unwrap();
}

#[test]
fn a_token_service_that_refuses_or_is_away_is_told_without_secrets() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let sts = Fake::new(|seen| {
        let text = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized with {}\
             </Message></Error><RequestId>x</RequestId></ErrorResponse>",
            seen.field("WebIdentityToken")
        );
        (403, text)
    });
    let token = write(&dir.path().join("token"), "hush-hush");
    let run = |url: &str| {
        let environment =
            [("AWS_ROLE_ARN", "r"), ("AWS_WEB_IDENTITY_TOKEN_FILE", &token), ("AWS_ENDPOINT_URL_STS", url)];
        let store = store(&bed, &[], &environment).unwrap();
        let error = use_it(&store).unwrap_err();
        let text = format!("{error} {error:?} {store:?}");
        assert!(!text.contains("hush-hush"), "{text}");
        (error.kind, error.to_string())
    };
    let (kind, text) = run(&sts.url(""));
    assert_eq!(kind, ErrorKind::Denied);
    for part in
        ["web identity", "AssumeRoleWithWebIdentity", "HTTP 403", "AccessDenied", "Not authorized with …"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(run("http://127.0.0.1:1").0, ErrorKind::Transport);
    sts.answer(|_| (200, "<Strange/>".into()));
    assert_eq!(run(&sts.url("")).0, ErrorKind::Protocol);
    assert_eq!(bed.own_server().counters().total(), 0, "no request goes out unsigned");
}

#[test]
fn a_token_service_is_reached_through_a_proxy_and_verified() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let sts = Fake::new(|_| sts_answer("AssumeRoleWithWebIdentity", "one", 3600));
    let (through, asked) = proxy(format!("127.0.0.1:{}", terminator(sts.address.clone())));
    let token = write(&dir.path().join("token"), "t");
    let environment = [
        ("AWS_ROLE_ARN", "r"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ENDPOINT_URL_STS", "https://storage.test"),
        ("https_proxy", &through),
    ];
    let error = use_it(&store(&bed, &[], &environment).unwrap()).unwrap_err();
    let text = error.to_string();
    assert!(error.kind == ErrorKind::Transport && text.contains("TLS") && sts.seen().is_empty(), "{text}");
    // Who accepts any certificate of the storage does not accept any of the token service.
    let lax = [("tls_insecure_no_verify", "true")];
    assert!(use_it(&store(&bed, &lax, &environment).unwrap()).is_err() && sts.seen().is_empty());
    let ca = data("ca.pem").display().to_string();
    let trusting = [&environment[..], &[("AWS_CA_BUNDLE", ca.as_str())]].concat();
    use_it(&store(&bed, &[], &trusting).unwrap()).unwrap();
    assert_eq!(sts.seen().len(), 1);
    assert!(asked.lock().unwrap().iter().all(|head| head.starts_with("CONNECT storage.test:443 ")));
}

#[test]
fn a_role_is_assumed_with_the_keys_of_another_profile() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let sts = Fake::new(|_| sts_answer("AssumeRole", "one", 3600));
    let config = format!(
        "[profile base]\nregion = eu-west-3\n[profile role]\nrole_arn = arn:role\nsource_profile = base\n\
         external_id = ex id\nrole_session_name = s\nduration_seconds = 900\nregion = eu-west-3\n\
         services = local\n[services local]\nsts =\n  endpoint_url = {}\n",
        sts.url("")
    );
    let config = write(&dir.path().join("config"), &config);
    let keys = "[base]\naws_access_key_id = BASE\naws_secret_access_key = hush-hush\naws_session_token = base-token\n";
    let keys = write(&dir.path().join("credentials"), keys);
    let environment = [
        ("AWS_CONFIG_FILE", config.as_str()),
        ("AWS_SHARED_CREDENTIALS_FILE", &keys),
        ("AWS_PROFILE", "role"),
    ];
    // The profile's region is for AWS; this server has another.
    use_it(&store(&bed, &[("region", "us-east-1")], &environment).unwrap()).unwrap();
    let seen = &sts.seen()[0];
    for (field, value) in [
        ("Action", "AssumeRole"),
        ("RoleArn", "arn:role"),
        ("ExternalId", "ex id"),
        ("RoleSessionName", "s"),
        ("DurationSeconds", "900"),
    ] {
        assert_eq!(seen.field(field), value);
    }
    let authorization = seen.header("authorization").unwrap();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=BASE/"), "{authorization}");
    assert!(authorization.contains("/eu-west-3/sts/aws4_request"), "{authorization}");
    assert!(authorization.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token,"));
    assert_eq!(seen.header("x-amz-security-token"), Some("base-token"));
    assert_eq!(seen.header("host"), Some(sts.address.as_str()));
    assert!(!format!("{seen:?}").contains("hush-hush"));
}

#[test]
fn a_role_is_assumed_at_a_real_token_service() {
    let Some(bed) = Bed::real() else { return };
    let read = |name: &str| std::env::var(name).ok();
    let (Some(role), Some(access_key), Some(secret)) =
        (read("S3_ROLE_ARN"), read("S3_SOURCE_ACCESS_KEY"), read("S3_SOURCE_SECRET_KEY"))
    else {
        println!("not run against a real server: it has no role to assume");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "[profile base]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret}\n\
         [profile role]\nrole_arn = {role}\nsource_profile = base\nduration_seconds = 900\n"
    );
    let config = write(&dir.path().join("config"), &config);
    let sts = format!("http://{}/", bed.authority);
    let environment = [("AWS_CONFIG_FILE", config.as_str()), ("AWS_ENDPOINT_URL_STS", &sts)];
    let base = store(&bed, &[("profile", "base"), ("region", &bed.region)], &environment).unwrap();
    assert_eq!(use_it(&base).unwrap_err().kind, ErrorKind::Denied, "the user itself may do nothing");
    let store = store(&bed, &[("profile", "role"), ("region", &bed.region)], &environment).unwrap();
    use_it(&store).unwrap();
    store.delete(Kind::Lock, ID).unwrap();
}

#[test]
fn profiles_are_read_and_read_again_when_their_token_expires() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let keys = |name: &str| {
        let text = format!(
            "[work]\naws_access_key_id = {name}\naws_secret_access_key = {name}-secret\naws_session_token = {name}-token\n"
        );
        std::fs::create_dir_all(dir.path().join(".aws")).unwrap();
        write(&dir.path().join(".aws/credentials"), &text);
    };
    keys("one");
    let home = dir.path().to_str().unwrap();
    let by_option = store(&bed, &[("profile", "work")], &[("HOME", home)]).unwrap();
    let by_variable = store(&bed, &[], &[("HOME", home), ("AWS_PROFILE", "work")]).unwrap();
    use_it(&by_option).unwrap();
    use_it(&by_variable).unwrap();
    expire_one(&bed);
    assert_eq!(use_it(&by_option).unwrap_err().kind, ErrorKind::Denied, "the file holds the same");
    keys("two");
    use_it(&by_option).unwrap();
    use_it(&by_variable).unwrap();
    let error = store(&bed, &[("profile", "wrok")], &[("HOME", home)]).unwrap_err();
    assert!(error.kind == ErrorKind::Invalid && error.to_string().contains("no profile wrok"), "{error}");
}

#[test]
fn a_profile_gives_region_and_endpoint() {
    let bed = Bed::own(s3server::Options { region: "xx-far-1".into(), ..s3server::Options::default() });
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "[default]\nregion = xx-far-1\nendpoint_url = http://{}\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        bed.authority, bed.access_key, bed.secret
    );
    let config = write(&dir.path().join("config"), &config);
    let options = Options::parse("s3://bucket/p", [("", ""); 0], &|name| {
        (name == "AWS_CONFIG_FILE").then(|| config.clone())
    });
    let store = S3Store::new(options.unwrap()).unwrap();
    use_it(&store).unwrap();
    assert_eq!(bed.own_server().counters().total(), 2, "the region was right at once");
    assert_eq!(bed.keys(), [format!("p/locks/{ID}").into_bytes()]);
}

#[test]
fn a_program_prints_keys_and_is_run_again_when_they_expire() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let printed = dir.path().join("printed file");
    write(
        &printed,
        &json_answer("one", "SessionToken", 3600).1.replace("\"Code\":\"Success\"", "\"Version\":1"),
    );
    let config = format!("[profile tool]\ncredential_process = cat '{}'\n", printed.display());
    let config = write(&dir.path().join("config"), &config);
    let store = store(&bed, &[("profile", "tool")], &[("AWS_CONFIG_FILE", &config)]).unwrap();
    use_it(&store).unwrap();
    std::fs::remove_file(&printed).unwrap();
    use_it(&store).unwrap();
    expire_one(&bed);
    write(
        &printed,
        &json_answer("two", "SessionToken", 3600).1.replace("\"Code\":\"Success\"", "\"Version\":1"),
    );
    use_it(&store).unwrap();
}

#[test]
fn a_containers_agent_is_asked_with_its_token_and_without_a_proxy() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let proxy = Fake::new(|_| (502, String::new()));
    let agent = Fake::new(|seen| match seen.header("authorization") {
        Some("from-file") => json_answer("one", "Token", 3600),
        Some("from-variable") => json_answer("two", "Token", 3600),
        _ => (401, String::new()),
    });
    let (url, through) = (agent.url("/v1/credentials?x=y"), proxy.url(""));
    let file = write(&dir.path().join("token"), "from-file\n");
    let proxies = [("http_proxy", through.as_str()), ("all_proxy", &through), ("HTTPS_PROXY", &through)];
    let base = [&proxies[..], &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str())]].concat();
    let variable = [("AWS_CONTAINER_AUTHORIZATION_TOKEN", "from-variable")];
    let both = [&variable[..], &[("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.as_str())]].concat();
    bed.own_server().set_key("one", key("one"));
    use_it(&store(&bed, &[], &[&base[..], &both].concat()).unwrap()).unwrap();
    assert_eq!(agent.seen().last().unwrap().header("authorization"), Some("from-file"), "the file wins");
    use_it(&store(&bed, &[], &[&base[..], &variable].concat()).unwrap()).unwrap();
    assert_eq!(agent.seen().len(), 2);
    assert_eq!(agent.seen()[0].path, "/v1/credentials?x=y");
    let error = use_it(&store(&bed, &[], &base).unwrap()).unwrap_err();
    assert!(error.to_string().contains("container metadata answered HTTP 401"), "{error}");
    let evil = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/x")];
    assert_eq!(store(&bed, &[], &evil).unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(proxy.seen().len(), 0, "metadata never goes through a proxy");
}

/// What an instance's metadata service answers.
fn instance(seen: &Seen) -> (u16, String) {
    let session = seen.header("x-aws-ec2-metadata-token") == Some("session");
    match (seen.method.as_str(), seen.path.as_str()) {
        ("PUT", "/latest/api/token") if seen.header("x-aws-ec2-metadata-token-ttl-seconds").is_some() => {
            (200, "session".into())
        }
        ("GET", "/latest/meta-data/iam/security-credentials/") if session => (200, "my-role\n".into()),
        ("GET", "/latest/meta-data/iam/security-credentials/my-role") if session => {
            json_answer("one", "Token", 3600)
        }
        _ => (401, String::new()),
    }
}

#[test]
fn an_instances_metadata_is_asked_in_its_second_version() {
    let bed = bed();
    let (metadata, proxy) = (Fake::new(instance), Fake::new(|_| (502, String::new())));
    let (url, through) = (metadata.url("/"), proxy.url(""));
    let environment = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()), ("http_proxy", &through)];
    let store_ = store(&bed, &[], &environment).unwrap();
    use_it(&store_).unwrap();
    use_it(&store_).unwrap();
    let seen: Vec<String> =
        metadata.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    assert_eq!(
        seen,
        [
            "PUT /latest/api/token",
            "GET /latest/meta-data/iam/security-credentials/",
            "GET /latest/meta-data/iam/security-credentials/my-role"
        ]
    );
    // One attempt each, and what else could have been set is said.
    metadata.answer(|_| (503, String::new()));
    let error = use_it(&store(&bed, &[], &environment).unwrap()).unwrap_err();
    assert_eq!((error.kind, metadata.seen().len()), (ErrorKind::Denied, 4));
    let text = error.to_string();
    assert!(
        text.contains("AWS_ACCESS_KEY_ID") && text.contains("instance metadata answered HTTP 503"),
        "{text}"
    );
    metadata.answer(|seen| match instance(seen) {
        (200, role) if role == "my-role\n" => (200, "../../evil?x=".into()),
        other => other,
    });
    assert_eq!(use_it(&store(&bed, &[], &environment).unwrap()).unwrap_err().kind, ErrorKind::Protocol);
    assert_eq!(proxy.seen().len(), 0, "metadata never goes through a proxy");
    // It is asked for AWS only, unless its address is given; and never where it is switched off.
    assert_eq!(store(&bed, &[], &[]).unwrap_err().kind, ErrorKind::Denied);
    let off = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()), ("AWS_EC2_METADATA_DISABLED", "true")];
    assert_eq!(store(&bed, &[], &off).unwrap_err().kind, ErrorKind::Denied);
}

/// Answers with everything that was sent, as a careless service does.
fn echo(seen: &Seen) -> String {
    let headers: Vec<String> = seen.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let body = String::from_utf8_lossy(&percent_decode(seen.body.replace('+', " ").as_bytes())).into_owned();
    format!("{} {} {} {body}", seen.method, seen.path, headers.join(", "))
}

/// Every answer that is none, echoing what was sent.
fn nonsense(seen: &Seen, number: usize) -> (u16, String) {
    let text = echo(seen).replace('&', " ").replace(['<', '>', '"'], "'");
    match number {
        0 => (
            403,
            format!("<ErrorResponse><Error><Code>X</Code><Message>{text}</Message></Error></ErrorResponse>"),
        ),
        1 => (200, text),
        2 => (200, format!("{{\"Code\":\"{text}\"}}")),
        3 => (
            200,
            format!(
                "{{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"hush-answer\",\"Expiration\":\"{text}\"}}"
            ),
        ),
        4 => (302, text),
        _ => {
            let (_, answer) = sts_answer("AssumeRole", "one", 3600);
            (200, answer.replace("one-secret", "hush-answer").replace("<Expiration>", "<Expiration>x"))
        }
    }
}

/// What must never be said.
const HUSH: [&str; 7] =
    ["hush-base", "hush-token", "hush-external", "hush-agent", "hush-session", "hush-answer", "hush-web"];

#[test]
fn no_source_that_fails_tells_what_it_was_given() {
    let (bed, dir) = (bed(), tempfile::tempdir().unwrap());
    let number = Arc::new(Mutex::new(0));
    let which = Arc::clone(&number);
    // A metadata service answers its first two questions as it should: its session's token is a secret, too.
    let fake = Fake::new(move |seen| match seen.path.as_str() {
        "/latest/api/token" => (200, "hush-session".into()),
        "/latest/meta-data/iam/security-credentials/" => (200, "my-role".into()),
        _ => nonsense(seen, *which.lock().unwrap()),
    });
    let config = format!(
        "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = hush-base\naws_session_token = hush-token\n\
         [profile role]\nrole_arn = arn:role\nsource_profile = base\nexternal_id = hush-external\n\
         [profile web]\nrole_arn = arn:role\nweb_identity_token_file = {0}\nexternal_id = hush-external\n\
         [profile tool]\ncredential_process = echo hush-answer\n\
         [profile tool2]\ncredential_process = sh -c 'echo hush-answer; echo failed >&2; echo hush-answer >&2; exit 1'\n",
        write(&dir.path().join("web"), "hush-web")
    );
    let config = write(&dir.path().join("config"), &config);
    let broken = write(&dir.path().join("broken"), "[default]\naws_secret_access_key hush-base\n");
    let (sts, agent) = (fake.url("/"), fake.url("/v1"));
    let profile = |name: &'static str| vec![("AWS_PROFILE", name), ("AWS_CONFIG_FILE", config.as_str())];
    let token = write(&dir.path().join("agent"), "hush-agent");
    let sources = [
        ("role of profile role", profile("role")),
        ("role of profile web", profile("web")),
        ("credential_process", profile("tool")),
        ("credential_process", profile("tool2")),
        (
            "container",
            vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str()),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
            ],
        ),
        (
            "container",
            vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str()),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush-agent"),
            ],
        ),
        (
            "container's authorization",
            vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str()),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush-agent\nhush-agent"),
            ],
        ),
        ("instance metadata", vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", agent.trim_end_matches("/v1"))]),
        ("line 2", vec![("AWS_CONFIG_FILE", broken.as_str())]),
    ];
    for (name, mut environment) in sources {
        environment.push(("AWS_ENDPOINT_URL_STS", &sts));
        for answer in 0..6 {
            *number.lock().unwrap() = answer;
            let (text, shown) = match store(&bed, &[], &environment) {
                Err(error) => (error.to_string(), format!("{error:?}")),
                Ok(store) => {
                    let error = use_it(&store).unwrap_err();
                    (
                        error.to_string(),
                        format!("{error:?} {store:?} {:?}", std::error::Error::source(&error)),
                    )
                }
            };
            assert!(text.contains(name), "{name} {answer}: {text}");
            for hush in HUSH {
                assert!(!text.contains(hush) && !shown.contains(hush), "{name} {answer}: {hush} in {text}");
            }
        }
    }
    // The requests did carry them, so the search is not vacuous.
    let sent: String = fake.seen().iter().map(echo).collect();
    for hush in ["hush-token", "hush-external", "hush-agent", "hush-session", "hush-web"] {
        assert!(sent.contains(hush), "{hush}");
    }
    assert_eq!(bed.own_server().counters().total(), 0, "no request goes out unsigned");
}

#[test]
fn a_metadata_service_that_never_answers_is_given_up() {
    // It is listened to, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let bed = bed();
    let error =
        use_it(&store(&bed, &[], &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]).unwrap()).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind, ErrorKind::Transport, "{text}");
    assert!(text.contains("instance metadata") && text.contains("AWS_ACCESS_KEY_ID"), "{text}");
}

#[test]
fn the_environment_gives_all_three_parts() {
    let bed = bed();
    let mut environment = vec![
        ("AWS_ACCESS_KEY_ID", "one"),
        ("AWS_SECRET_ACCESS_KEY", "one-secret"),
        ("AWS_SESSION_TOKEN", "one-token"),
    ];
    use_it(&store(&bed, &[], &environment).unwrap()).unwrap();
    // Empty is unset: the next source is asked, and here there is none.
    environment[0].1 = "";
    environment[1].1 = "";
    assert_eq!(store(&bed, &[], &environment).unwrap_err().kind, ErrorKind::Denied);
}

#[test]
fn the_command_line_finds_profiles_in_the_home_folder() {
    let bed = bed();
    let mut user = User::new();
    std::fs::create_dir(user.home().join(".aws")).unwrap();
    let keys =
        format!("[work]\naws_access_key_id = {}\naws_secret_access_key = {}\n", bed.access_key, bed.secret);
    write(&user.home().join(".aws/credentials"), &keys);
    user.ok(&format!("store add s s3://{}/bucket/k use_tls=false profile=work", bed.authority));
    user.ok("at @s create -plaintext");
    user.ok("store set s profile=wrok");
    let ran = user.run("at @s ls");
    assert!(ran.code == 64 && ran.stderr.contains("no profile wrok"), "{ran:?}");
    user.ok("store unset s profile");
    let ran = user.run("at @s ls");
    assert!(ran.code == 77 && ran.stderr.contains("there are no credentials"), "{ran:?}");
    user.set("AWS_PROFILE", "work");
    user.ok("at @s ls");
}
