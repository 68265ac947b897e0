//! What goes wrong on the way: tried again where that helps, said clearly where it does not, and never a secret.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use plakar::base::Id;
use plakar::connector::{Body, Error, ErrorKind, Importer as _, Kind, Storage};
use plakar::connectors::s3::{ExportOptions, Options, S3Exporter, S3Importer, S3Store};

use crate::cli::User;
use crate::s3_bed::Bed;
use crate::s3_exporter::copy;
use crate::s3server::{self, ACCESS_KEY, Action, Fault, Key, Object, S3Server, SECRET_KEY};

const ID: Id = Id([7; 32]);

fn store(bed: &Bed) -> S3Store {
    S3Store::new(bed.options("", &[])).unwrap()
}

fn own() -> Bed {
    Bed::own(s3server::Options::default())
}

#[test]
fn passing_faults_of_every_kind_are_survived() {
    let bed = own();
    let server = bed.own_server();
    let store = store(&bed);
    let body = vec![3; 200_000];
    store.create(b"config").unwrap();
    let faults = || {
        vec![
            Action::status(500, "InternalError"),
            Action::status(502, ""),
            Action::status(503, "SlowDown"),
            Action::status(504, "GatewayTimeout"),
            Action::status(408, "RequestTimeout"),
            Action::status(400, "RequestTimeout"),
            Action::status(429, "TooManyRequests"),
            Action::status(409, "OperationAborted"),
            Action::Reset,
            Action::ResetAfter,
        ]
    };
    for action in faults() {
        server.clear_faults();
        // An answer to HEAD has no body, so what 400 and 409 mean cannot be known there.
        let by_code = matches!(action, Action::Status { status: 400 | 409, .. });
        let strikes = move |op: &str| op != "HeadObject" || !by_code;
        server.inject(Fault::when(
            move |seen| seen.number.is_multiple_of(2) && strikes(seen.op),
            action.clone(),
        ));
        for round in 0..4 {
            server.reset_counters();
            // Every second request of each operation fails; the first is used up here so that some do.
            let _ = store.size(Kind::State, ID);
            store.put(Kind::Packfile, ID, Body::Bytes(&body)).unwrap();
            store.put(Kind::Lock, ID, Body::Bytes(b"lock")).unwrap();
            assert_eq!(store.get(Kind::Packfile, ID).unwrap(), body, "{action:?} {round}");
            assert_eq!(store.size(Kind::Packfile, ID).unwrap(), 200_000);
            let mut listed = 0;
            store.list(Kind::Packfile, &mut |_| listed += 1).unwrap();
            assert_eq!(listed, 1);
            store
                .read_range(Kind::Packfile, ID, 5, 1000, &mut |bytes| assert_eq!(bytes, &body[..1000]))
                .unwrap();
            store.delete(Kind::Lock, ID).unwrap();
        }
    }
    for action in [Action::ResetBody(1000), Action::Truncate(1000), Action::Stall(Duration::from_millis(50))]
    {
        server.clear_faults();
        server.inject(Fault::on("GetObject", action).times(2));
        assert_eq!(store.get(Kind::Packfile, ID).unwrap(), body);
    }
}

#[test]
fn lasting_faults_end_after_the_attempts_and_say_what_it_was() {
    let bed = own();
    let server = bed.own_server();
    let store = store(&bed);
    server.inject(Fault::on("GetObject", Action::status(503, "SlowDown")));
    let error = store.get(Kind::State, ID).unwrap_err();
    assert_eq!((error.kind, server.counters().of("GetObject")), (ErrorKind::Transport, 9));
    let text = error.to_string();
    for part in [&*format!("states/07/{ID}"), "bucket", "SlowDown", "503", "TESTREQUESTID", "9 attempts"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn refusals_are_not_tried_again() {
    let bed = own();
    let server = bed.own_server();
    let store = store(&bed);
    let cases = [
        (403, "AccessDenied", ErrorKind::Denied),
        (403, "SignatureDoesNotMatch", ErrorKind::Denied),
        (403, "InvalidObjectState", ErrorKind::Unsupported),
        (404, "NoSuchBucket", ErrorKind::NotFound),
        (404, "NoSuchKey", ErrorKind::NotFound),
        (400, "InvalidRequest", ErrorKind::Protocol),
        (400, "ExpiredToken", ErrorKind::Denied),
        (307, "TemporaryRedirect", ErrorKind::Protocol),
        (501, "NotImplemented", ErrorKind::Unsupported),
    ];
    for (status, code, kind) in cases {
        server.clear_faults();
        server.reset_counters();
        server.inject(Fault::on("GetObject", Action::status(status, code)));
        let error = store.get(Kind::State, ID).unwrap_err();
        assert_eq!((error.kind, server.counters().total()), (kind, 1), "{code}");
        assert!(error.to_string().contains(code), "{error}");
    }
}

#[test]
fn a_server_that_asks_for_a_pause_gets_it() {
    let bed = own();
    let mut options = bed.options("", &[]);
    options.tuning.max_delay = Duration::from_secs(2);
    let store = S3Store::new(options).unwrap();
    bed.own_server().insert("bucket", format!("states/07/{ID}"), Object::new("x"));
    let slow = Action::Status {
        status: 503,
        code: "SlowDown",
        headers: vec![("retry-after", "1".into())],
        xml: String::new(),
    };
    bed.own_server().inject(Fault::on("GetObject", slow).times(1));
    let start = Instant::now();
    store.get(Kind::State, ID).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_wrong_clock_is_learnt_once() {
    for clock_skew in [-7200, 7200] {
        let bed = Bed::own(s3server::Options { clock_skew, ..s3server::Options::default() });
        let store = store(&bed);
        store.put(Kind::State, ID, Body::Bytes(b"state")).unwrap();
        store.get(Kind::State, ID).unwrap();
        store.size(Kind::State, ID).unwrap();
        assert_eq!(bed.own_server().counters().total(), 4, "one refusal for three requests");
    }
}

#[test]
fn a_wrong_region_is_learnt_once() {
    let bed = Bed::own(s3server::Options { region: "eu-far-9".into(), ..s3server::Options::default() });
    let mut options = bed.options("", &[]);
    options.region = "us-east-1".into();
    let store = S3Store::new(options).unwrap();
    store.put(Kind::State, ID, Body::Bytes(b"state")).unwrap();
    store.size(Kind::State, ID).unwrap();
    store.get(Kind::State, ID).unwrap();
    assert_eq!(bed.own_server().counters().total(), 4);
}

#[test]
fn no_answer_sends_a_request_elsewhere() {
    let bed = own();
    let elsewhere = S3Server::new();
    elsewhere.make_bucket("bucket");
    let location = format!("http://{}/bucket/x", elsewhere.authority());
    let evil = format!("127.0.0.1:{}/#", elsewhere.port());
    for status in [301, 302, 307, 308, 400, 403] {
        for (region_xml, region_header) in
            [(evil.as_str(), "x"), ("eu-west-1", &evil), ("", "evil.example/#")]
        {
            bed.own_server().clear_faults();
            let answer = Action::Status {
                status,
                code: "PermanentRedirect",
                headers: vec![
                    ("location", location.clone()),
                    ("x-amz-bucket-region", region_header.to_owned()),
                ],
                xml: format!("<Region>{region_xml}</Region><Endpoint>{}</Endpoint>", elsewhere.authority()),
            };
            bed.own_server().inject(Fault::when(|_| true, answer));
            assert!(store(&bed).get(Kind::State, ID).is_err());
            assert!(store(&bed).put(Kind::State, ID, Body::Bytes(b"x")).is_err());
        }
    }
    assert_eq!(elsewhere.counters().total(), 0);
}

#[test]
fn a_stalled_connection_is_given_up() {
    let bed = own();
    let server = bed.own_server();
    server.insert("bucket", format!("states/07/{ID}"), Object::new("x"));
    let mut options = bed.options("", &[]);
    options.tuning.stall_timeout = Duration::from_millis(500);
    let store = S3Store::new(options).unwrap();
    // Who waits for this answer waits for ever.
    server.inject(Fault::on("GetObject", Action::Hang).times(1));
    store.get(Kind::State, ID).unwrap();
    assert!(server.counters().of("GetObject") >= 2);
    // Slow is not stalled, however long the whole takes: every attempt takes longer than the limit.
    server.insert("bucket", format!("states/07/{ID}"), Object::new(vec![1; 1000]));
    server.inject(Fault::on("GetObject", Action::Slow(50, Duration::from_millis(60))));
    assert_eq!(store.get(Kind::State, ID).unwrap(), vec![1; 1000]);
}

#[test]
fn nobody_there() {
    let bed = own();
    let mut options = bed.options("", &[]);
    options.tuning.attempts = 3;
    drop(bed);
    let error = S3Store::new(options.clone()).unwrap().config().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transport);
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1") && text.contains("read as a host") && text.contains("3 attempts"),
        "{text}"
    );

    // And a server without TLS, asked with it.
    let plain = own();
    let mut options = plain.options("", &[]);
    options.tuning.attempts = 2;
    options.use_tls = true;
    let error = S3Store::new(options).unwrap().config().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transport);
    assert!(error.to_string().contains("use_tls=false"), "{error}");
    assert_eq!(plain.own_server().counters().total(), 0);
}

#[test]
fn a_session_token_goes_along() {
    let bed = own();
    bed.own_server().set_key("TEMPORARY", Key::all("temporary-secret").with_token("tok/en+=="));
    let with = |token: &'static str| {
        let options = bed.options_as("TEMPORARY", "temporary-secret", "", &[("session_token", token)]);
        S3Store::new(options).unwrap().put(Kind::State, ID, Body::Bytes(b"x"))
    };
    with("tok/en+==").unwrap();
    assert_eq!(with("other").unwrap_err().kind, ErrorKind::Denied);
}

/// A customer's key, and how it is sent.
const CUSTOMER_KEY: &str = "0123456789abcdef0123456789abcdeX";
const CUSTOMER_KEY_SENT: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZVg=";

/// Runs something that fails in every way there is, and collects all that is said about it.
fn everything_that_is_said(bed: &Bed, options: &Options) -> String {
    let server = bed.own_server();
    let mut said = format!("{options:?}");
    let mut say = |error: Error| {
        let _ = writeln!(said, "{error} {error:?} {:?}", std::error::Error::source(&error));
    };
    let echo = Action::Status {
        status: 403,
        code: "AccessDenied",
        headers: Vec::new(),
        // A server that quotes the request it refuses.
        xml: format!(
            "</Error><Error><Message>GET /k?X-Amz-Credential={ACCESS_KEY}%2Fx&amp;X-Amz-Signature=0123456789abcdef {SECRET_KEY} {CUSTOMER_KEY_SENT}</Message>"
        ),
    };
    let quoting = Action::Replace(format!(
        "<Error><Code>X</Code><Message>{SECRET_KEY} X-Amz-Signature=abc</Message></Error>"
    ));
    let actions = [
        echo,
        quoting,
        Action::status(503, "SlowDown"),
        Action::status(301, "PermanentRedirect"),
        Action::Reset,
        Action::Truncate(10),
        Action::Shorten(10),
        Action::ErrorInOk("InternalError"),
    ];
    let store = S3Store::new(options.clone()).unwrap();
    let importer = S3Importer::new(options.clone()).unwrap();
    said_of_debug(&store, &importer, &mut say);
    for action in actions {
        server.clear_faults();
        server.inject(Fault::when(|_| true, action));
        let results = [
            store.config().map(drop),
            store.create(b"config"),
            store.put(Kind::Packfile, ID, Body::Bytes(&[1; 100])),
            store.list(Kind::State, &mut |_| {}),
            store.read_range(Kind::State, ID, 3, 30, &mut |_| {}),
            store.size(Kind::State, ID).map(drop),
            store.delete(Kind::Lock, ID),
            importer.scan(&mut |_| std::ops::ControlFlow::Continue(())),
        ];
        results.into_iter().filter_map(Result::err).for_each(&mut say);
    }
    server.clear_faults();
    said
}

fn said_of_debug(store: &S3Store, importer: &S3Importer, say: &mut dyn FnMut(Error)) {
    let text = format!("{store:?} {importer:?} {} {:?}", store.location(), importer.context());
    say(Error::new(ErrorKind::Invalid, "show", text));
}

#[test]
fn nothing_that_is_said_holds_a_secret() {
    let bed = own();
    let mut options = bed.options("", &[("sse_customer_key", CUSTOMER_KEY)]);
    options.tuning.attempts = 2;
    let mut said = everything_that_is_said(&bed, &options);
    // Wrong secrets are echoed by the server with the signature they made.
    let wrong = bed.options_as(ACCESS_KEY, "wrong-but-secret", "", &[]);
    let error = S3Store::new(wrong).unwrap().config().unwrap_err();
    assert!(error.to_string().contains("SignatureDoesNotMatch"), "{error}");
    let _ = write!(said, "{error} {error:?}");
    assert!(said.len() > 5000, "the faults did not strike");
    for secret in [
        SECRET_KEY,
        "wrong-but-secret",
        "X-Amz-Signature",
        "X-Amz-Credential",
        CUSTOMER_KEY,
        CUSTOMER_KEY_SENT,
    ] {
        assert!(!said.contains(secret), "{secret} was said");
    }
    // The requests themselves did carry signatures, so the search is not vacuous.
    let targets = bed.own_server().counters().targets;
    assert!(targets.iter().all(|target| target.contains("X-Amz-Signature=")));
    // And they do not live long.
    assert!(targets.iter().all(|target| target.contains("X-Amz-Expires=300&")));
}

#[test]
fn a_trace_holds_no_secret() {
    let server = S3Server::new();
    for bucket in ["source", "kept", "target"] {
        server.make_bucket(bucket);
    }
    server.insert("source", "key", Object::new("content"));
    let mut user = User::new();
    let place = |bucket: &str| {
        format!(
            "s3://{}/{bucket} access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false",
            server.authority()
        )
    };
    user.set("PLAKAR_PASSPHRASE", "a hush-hush passphrase");
    user.ok(&format!("store add kept {}", place("kept")));
    user.ok(&format!("source add from {}", place("source")));
    user.ok(&format!("destination add to {}", place("target")));
    let mut said = String::new();
    let mut run = |line: &str, code: Option<i32>| {
        let ran = user.run(&format!("-trace all at @kept {line}"));
        assert!(code.is_none_or(|code| ran.code == code), "{line}: {ran:?}");
        // (A store that is being made is not traced.)
        assert!(line == "create" || ran.stderr.contains("trace: storage: "), "{line}: {ran:?}");
        let _ = write!(said, "{} {}", ran.stdout, ran.stderr);
    };
    for line in ["create", "backup @from", "ls", "check", "restore -to @to latest"] {
        run(line, Some(0));
    }
    for action in [
        Action::Status {
            status: 403,
            code: "AccessDenied",
            headers: Vec::new(),
            xml: format!("</Error><Error><Message>X-Amz-Signature=0123456789abcdef {SECRET_KEY}</Message>"),
        },
        Action::status(301, "PermanentRedirect"),
        Action::Replace(format!(
            "<Error><Code>X</Code><Message>{SECRET_KEY} X-Amz-Signature=abc</Message></Error>"
        )),
    ] {
        server.clear_faults();
        server.inject(Fault::when(|seen| seen.op != "PutObject", action));
        for line in ["ls", "backup @from", "restore -to @to latest"] {
            run(line, None);
        }
    }
    for secret in [SECRET_KEY, "X-Amz-Signature", "X-Amz-Credential", "hush-hush"] {
        assert!(!said.contains(secret), "{secret} was said");
    }
}

#[test]
fn a_bucket_is_copied_whole_under_a_storm_of_faults() {
    let bed = own();
    let server = bed.own_server();
    let mut expected = BTreeMap::new();
    for n in 0_u32..300 {
        let body: Vec<u8> = (0..n * 700).map(|i| u8::try_from((i ^ n) & 0xff).unwrap()).collect();
        server.insert(
            "bucket",
            format!("src/{n:03}"),
            Object::new(body.clone()).header("x-amz-meta-n", n.to_string()),
        );
        expected.insert(format!("dst/{n:03}").into_bytes(), body);
    }
    // One request in ten fails, in one of five ways; which ones is fixed by their numbers.
    let actions = [
        Action::status(503, "SlowDown"),
        Action::status(500, "InternalError"),
        Action::Reset,
        Action::ResetBody(777),
        Action::Truncate(1234),
    ];
    for (n, action) in (0_u64..).zip(actions) {
        server.inject(Fault::when(move |seen| (seen.number * 7 + 3) % 50 == n * 10, action));
    }
    let importer = S3Importer::new(bed.options("src", &[])).unwrap();
    let exporter = S3Exporter::new(bed.options("dst", &[]), ExportOptions::default()).unwrap();
    assert_eq!(copy(&importer, &exporter).len(), 300);
    server.clear_faults();
    for (key, body) in expected {
        let object = server.object("bucket", &key).unwrap();
        assert!(*object.body == body, "{}", key.escape_ascii());
        assert!(object.get("x-amz-meta-n").is_some());
    }
    assert!(server.counters().total() > 620, "no fault struck: {:?}", server.counters().requests);
}

#[test]
fn the_test_server_enforces_what_it_claims() {
    let bed = own();
    let text = |answer: crate::s3_bed::Fetched| (answer.status, String::from_utf8(answer.body).unwrap());
    // Signatures, digests, limits of multipart uploads.
    assert_eq!(
        bed.request("PUT", Some(b"k"), "", &[("content-md5", b"AAAAAAAAAAAAAAAAAAAAAA==")], b"x").status,
        400
    );
    assert_eq!(
        bed.request("PUT", Some(b"k"), "", &[("x-amz-checksum-crc32c", b"AAAAAA==")], b"x").status,
        400
    );
    let (_, answer) = text(bed.request("POST", Some(b"k"), "uploads=", &[], b""));
    let id = s3server::elements(&answer, "UploadId")[0].to_owned();
    let id = s3server::percent_encode(id.as_bytes(), b"");
    let part = |n: u32, body: &[u8]| {
        let answer = bed.request("PUT", Some(b"k"), &format!("partNumber={n}&uploadId={id}"), &[], body);
        (answer.status, answer.header("etag"))
    };
    assert_eq!(part(0, b"x").0, 400);
    assert_eq!(part(1001, b"x").0, 400);
    let (one, two) = (part(1, b"too small").1, part(1000, b"last").1);
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{one}</ETag></Part>\
         <Part><PartNumber>1000</PartNumber><ETag>{two}</ETag></Part></CompleteMultipartUpload>"
    );
    let (status, answer) =
        text(bed.request("POST", Some(b"k"), &format!("uploadId={id}"), &[], list.as_bytes()));
    assert!(status == 400 && answer.contains("EntityTooSmall"), "{answer}");
    assert_eq!(bed.request("DELETE", Some(b"k"), &format!("uploadId={id}"), &[], b"").status, 204);
    assert_eq!(bed.get("k").status, 404);
}

#[test]
fn what_is_not_what_its_etag_says_is_read_again() {
    let bed = own();
    let server = bed.own_server();
    let store = store(&bed);
    store.put(Kind::State, ID, Body::Bytes(&[5; 1000])).unwrap();
    // An answer whose length header lies along with its body.
    server.inject(Fault::on("GetObject", Action::Shorten(10)).times(1));
    assert_eq!(store.get(Kind::State, ID).unwrap(), [5; 1000]);
    server.inject(Fault::on("GetObject", Action::Shorten(10)).times(1));
    store.read_range(Kind::State, ID, 100, 500, &mut |bytes| assert_eq!(bytes, &[5; 500])).unwrap();
    assert_eq!(server.counters().of("GetObject"), 4);
    // An ETag may be no MD5 and look like one: two readings that agree are believed.
    let mut object = Object::new("content");
    object.etag = "0123456789abcdef0123456789abcdef".into();
    server.insert("bucket", format!("states/07/{ID}"), object);
    server.reset_counters();
    assert_eq!(store.get(Kind::State, ID).unwrap(), b"content");
    assert_eq!(server.counters().of("GetObject"), 2);
}

#[test]
fn an_answer_without_a_body_is_not_verified_as_one() {
    let bed = own();
    let server = bed.own_server();
    let not_modified = Action::Status {
        status: 304,
        code: "",
        headers: vec![("x-amz-checksum-crc32c", "AAAAAA==".into()), ("etag", "\"x\"".into())],
        xml: String::new(),
    };
    server.inject(Fault::on("GetObject", not_modified));
    let error = store(&bed).get(Kind::State, ID).unwrap_err();
    assert_eq!((error.kind, server.counters().total()), (ErrorKind::Changed, 1), "{error}");
}

#[test]
fn a_pause_may_be_asked_for_by_date() {
    let bed = Bed::own(s3server::Options { clock_skew: 30, ..s3server::Options::default() });
    let server = bed.own_server();
    server.insert("bucket", format!("states/07/{ID}"), Object::new("x"));
    let mut options = bed.options("", &[]);
    options.tuning.max_delay = Duration::from_secs(10);
    // A second and a half after now by the server's own clock, which is half a minute ahead.
    let until = std::time::SystemTime::now() + Duration::from_millis(31_900);
    let slow = Action::Status {
        status: 429,
        code: "TooManyRequests",
        headers: vec![("retry-after", httpdate::fmt_http_date(until))],
        xml: String::new(),
    };
    server.inject(Fault::on("GetObject", slow).times(1));
    let start = Instant::now();
    S3Store::new(options).unwrap().get(Kind::State, ID).unwrap();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
}

#[test]
fn a_stale_page_of_a_listing_is_asked_for_again() {
    let bed = Bed::own(s3server::Options { page_size: 10, ..s3server::Options::default() });
    let server = bed.own_server();
    for n in 0..35 {
        server.insert("bucket", format!("k{n:02}"), Object::new("x"));
    }
    server.inject(Fault::when(|seen| seen.op == "ListObjectsV2" && seen.number == 3, Action::StalePage));
    let mut keys = Vec::new();
    let importer = S3Importer::new(bed.options("", &[])).unwrap();
    importer
        .scan(&mut |record| {
            keys.push(record.locator);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    keys.retain(|key| !key.is_empty());
    assert_eq!(keys.len(), 35);
    assert!(keys.is_sorted_by(|a, b| a < b));
    assert_eq!(server.counters().of("ListObjectsV2"), 5);
}

#[test]
fn what_is_cancelled_neither_waits_nor_is_sent() {
    let bed = own();
    let server = bed.own_server();
    server.inject(Fault::on("GetObject", Action::Hang));
    server.inject(Fault::on("HeadObject", Action::status(503, "SlowDown")));
    let mut options = bed.options("", &[]);
    options.tuning.throttle_delay = Duration::from_hours(1);
    options.tuning.max_delay = Duration::from_hours(1);
    let cancel = options.cancel.clone();
    let store = S3Store::new(options).unwrap();
    store.put(Kind::Lock, ID, Body::Bytes(b"lock")).unwrap();
    std::thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| store.get(Kind::State, ID).map(drop)),
            scope.spawn(|| store.size(Kind::State, ID).map(drop)),
        ];
        while server.counters().hanging == 0 || server.counters().of("HeadObject") == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        cancel.cancel();
        for thread in waiting {
            assert_eq!(thread.join().unwrap().unwrap_err().kind, ErrorKind::Cancelled);
        }
    });
    server.reset_counters();
    assert_eq!(store.put(Kind::State, ID, Body::Bytes(b"x")).unwrap_err().kind, ErrorKind::Cancelled);
    assert_eq!(server.counters().total(), 0);
    // A lock is still released.
    store.delete(Kind::Lock, ID).unwrap();
    assert!(server.object("bucket", format!("locks/{ID}")).is_none());
}
