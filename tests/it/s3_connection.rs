//! The way to a server: TLS and whom it trusts, proxies, addresses, encryption under a key of one's own.
//!
//! `tests/data/tls` holds an authority and a certificate of its own for `localhost`, `*.storage.test` and 127.0.0.1;
//! its key is as public as they are.

use std::io::{ErrorKind as Io, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plakar::base::Id;
use plakar::connector::{Body, ErrorKind, Importer as _, Kind, Outcome, Storage};
use plakar::connectors::s3::{ExportOptions, Options, S3Exporter, S3Importer, S3Store};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::cli::User;
use crate::s3_bed::Bed;
use crate::s3_exporter::copy;
use crate::s3server::{self, ACCESS_KEY, Object, SECRET_KEY};

const ID: Id = Id([7; 32]);

/// Returns a file of `tests/data/tls`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

/// Takes TLS off and passes on what is inside; returns the port.
pub(crate) fn terminator(to: String) -> u16 {
    let certificates =
        CertificateDer::pem_file_iter(data("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(data("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for outer in listener.incoming().flatten() {
            let (config, to) = (Arc::clone(&config), to.clone());
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).unwrap();
                let inner = TcpStream::connect(to).unwrap();
                let _ = pump(StreamOwned::new(connection, outer), inner);
            });
        }
    });
    port
}

/// Passes bytes in both directions by turns: a TLS connection cannot be shared by two threads.
fn pump(mut outer: StreamOwned<ServerConnection, TcpStream>, mut inner: TcpStream) -> std::io::Result<()> {
    outer.sock.set_read_timeout(Some(Duration::from_millis(1)))?;
    inner.set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut piece = vec![0; 64 << 10];
    loop {
        for outward in [false, true] {
            let read = if outward { inner.read(&mut piece) } else { outer.read(&mut piece) };
            match read {
                Ok(0) => {
                    // Without this an end looks like a cut, to whoever has not read all of it yet.
                    outer.conn.send_close_notify();
                    return outer.flush();
                }
                Ok(n) if outward => outer.write_all(&piece[..n])?,
                Ok(n) => inner.write_all(&piece[..n])?,
                Err(error) if matches!(error.kind(), Io::WouldBlock | Io::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        outer.flush()?;
    }
}

/// A proxy that takes CONNECT to anywhere, writes down where, and leads to one place.
pub(crate) fn proxy(to: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for mut outer in listener.incoming().flatten() {
            let (log, to) = (Arc::clone(&log), to.clone());
            std::thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if outer.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                log.lock().unwrap().push(String::from_utf8(head).unwrap());
                outer.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                let mut inner = TcpStream::connect(to).unwrap();
                let (mut from, mut into) = (outer.try_clone().unwrap(), inner.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(Shutdown::Both);
                });
                let _ = std::io::copy(&mut inner, &mut outer);
                let _ = outer.shutdown(Shutdown::Both);
            });
        }
    });
    (address, seen)
}

fn bed() -> Bed {
    Bed::own(s3server::Options::default())
}

fn options(location: &str, more: &[(&str, &str)], environment: &[(&str, &str)]) -> Options {
    let keys = [("access_key", ACCESS_KEY), ("secret_access_key", SECRET_KEY)];
    let mut options = Options::parse(location, keys.iter().chain(more).copied(), &|name| {
        environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    })
    .unwrap();
    options.tuning.attempts = 1;
    options
}

fn use_it(options: Options) -> plakar::connector::Result<()> {
    let store = S3Store::new(options)?;
    let body = vec![5; 200_000];
    store.put(Kind::Lock, ID, Body::Bytes(&body))?;
    assert_eq!(store.get(Kind::Lock, ID)?, body);
    Ok(())
}

#[test]
fn tls_is_the_default_and_trusts_whom_it_is_told_to() {
    let bed = bed();
    let port = terminator(bed.authority.clone());
    let ca = data("ca.pem").display().to_string();
    let (by_name, by_address) =
        (format!("s3://localhost:{port}/bucket"), format!("s3://127.0.0.1:{port}/bucket"));
    for location in [&by_name, &by_address] {
        use_it(options(location, &[("tls_ca_file", &ca)], &[])).unwrap();
        use_it(options(location, &[], &[("SSL_CERT_FILE", &ca)])).unwrap();
        use_it(options(location, &[], &[("AWS_CA_BUNDLE", &ca), ("SSL_CERT_FILE", "/nonexistent")])).unwrap();
    }
    // The system knows nothing of this authority.
    let before = bed.own_server().counters().total();
    let error = use_it(options(&by_name, &[], &[])).unwrap_err();
    let text = error.to_string();
    assert!(
        error.kind == ErrorKind::Transport && text.contains("TLS") && text.contains("tls_ca_file"),
        "{text}"
    );
    // Nor does a certificate serve a name that is not in it, whoever signed it.
    let location = format!("s3://other.localhost:{port}/bucket");
    let text = use_it(options(&location, &[("tls_ca_file", &ca)], &[])).unwrap_err().to_string();
    assert!(text.contains("TLS"), "{text}");
    assert_eq!(bed.own_server().counters().total(), before, "no request is sent to a stranger");
}

#[test]
fn a_server_without_tls_is_not_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let greetings = Arc::new(Mutex::new(0));
    let count = Arc::clone(&greetings);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut greeting = [0; 16 << 10];
            *count.lock().unwrap() += usize::from(stream.read(&mut greeting).unwrap_or(0) > 0);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let error = use_it(options(&format!("s3://127.0.0.1:{port}/bucket"), &[], &[])).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind, ErrorKind::Transport);
    assert!(text.contains("the server does not speak TLS") && text.contains("use_tls=false"), "{text}");
    assert!(!text.contains("attempts") && !text.contains("corrupt"), "{text}");
    assert_eq!(*greetings.lock().unwrap(), 1);

    let user = User::new();
    let ran = user.run(&format!("at https://127.0.0.1:{port}/store ls"));
    assert!(ran.code != 0 && ran.stderr.contains("the server does not speak TLS"), "{ran:?}");
    assert_eq!(*greetings.lock().unwrap(), 2);
}

#[test]
fn a_bucket_that_is_made_is_named() {
    let bed = bed();
    let user = User::new();
    let place = |bucket: &str| {
        format!(
            "location=s3://{}/{bucket} access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false",
            bed.authority
        )
    };
    user.ok(&format!("store add s {}", place("stored")));
    user.ok(&format!("destination add d {}", place("restored")));
    user.ok(&format!("destination add a {}", place("archived")));
    let ran = user.run("store ping s");
    assert!(ran.code == 0 && ran.stderr.contains("has no such bucket; create makes it"), "{ran:?}");
    assert_eq!(bed.own_server().buckets(), ["bucket"], "a question changes nothing");
    std::fs::create_dir(user.home().join("docs")).unwrap();
    std::fs::write(user.home().join("docs/a"), "a").unwrap();
    for (line, bucket) in [
        ("at @s create -plaintext", "stored"),
        ("at @s backup docs", ""),
        ("at @s restore -to @d latest", "restored"),
        ("ptar -plaintext -o @a:x.ptar docs", "archived"),
        ("at @s restore -to @d latest", ""),
    ] {
        let ran = user.run(line);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        let told = format!("made the bucket {bucket} at {}", bed.authority);
        assert_eq!(ran.stderr.contains("made the bucket"), !bucket.is_empty(), "{line}: {ran:?}");
        assert!(bucket.is_empty() || ran.stderr.contains(&told), "{line}: {ran:?}");
    }
    assert_eq!(bed.own_server().buckets(), ["archived", "bucket", "restored", "stored"]);
    let ran = user.run("store ping s");
    assert!(ran.code == 0 && ran.stderr.contains("holds a store"), "{ran:?}");
}

#[test]
fn unverified_tls_is_possible_and_loud() {
    let bed = bed();
    let port = terminator(bed.authority.clone());
    let location = format!("s3://localhost:{port}/bucket");
    let insecure = options(&location, &[("tls_insecure_no_verify", "true")], &[]);
    let warnings = insecure.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains(&format!("localhost:{port}")), "{warnings:?}");
    use_it(insecure).unwrap();
    assert!(options(&location, &[], &[]).warnings().is_empty());

    let user = User::new();
    user.ok(&format!(
        "store add s {location} access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} tls_insecure_no_verify=true"
    ));
    for line in ["at @s create -plaintext", "at @s ls", "store ping s", "at @s ls"] {
        let ran = user.run(line);
        assert_eq!(
            (ran.code, ran.stderr.matches("warning: tls_insecure_no_verify").count()),
            (0, 1),
            "{line}: {ran:?}"
        );
    }
}

#[test]
fn certificates_that_cannot_be_read_are_an_error_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = dir.path().join("garbage.pem");
    std::fs::write(&garbage, "no certificate").unwrap();
    let cases = [("/nonexistent/ca.pem", "No such file"), (garbage.to_str().unwrap(), "no PEM certificate")];
    for (path, expected) in cases {
        let option = options("s3://localhost:1/b", &[("tls_ca_file", path)], &[]);
        let variable = options("s3://localhost:1/b", &[], &[("SSL_CERT_FILE", path)]);
        for options in [option, variable] {
            let error = S3Store::new(options).unwrap_err();
            let text = error.to_string();
            assert!(
                error.kind == ErrorKind::Invalid && text.contains(path) && text.contains(expected),
                "{text}"
            );
        }
        // Without TLS nobody needs them.
        let plain = options("s3://localhost:1/b", &[("use_tls", "false")], &[("SSL_CERT_FILE", path)]);
        S3Store::new(plain).unwrap();
    }
}

#[test]
fn proxies_of_the_environment_are_used() {
    let bed = bed();
    let ca = data("ca.pem").display().to_string();
    // Plain: the name exists only for the proxy.
    let (address, seen) = proxy(bed.authority.clone());
    let plain = [("use_tls", "false")];
    let location = "s3://storage.test:8080/bucket";
    use_it(options(location, &plain, &[("http_proxy", &address)])).unwrap();
    let head = seen.lock().unwrap()[0].clone();
    assert!(head.starts_with("CONNECT storage.test:8080 HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains("Proxy-Authorization"), "{head}");
    // With a name and a password, and TLS inside.
    let (address, seen) = proxy(format!("127.0.0.1:{}", terminator(bed.authority.clone())));
    let proxied = format!("http://user:hush-hush@{address}/");
    let tls = options("s3://storage.test/bucket", &[("tls_ca_file", &ca)], &[("HTTPS_PROXY", &proxied)]);
    assert!(!format!("{tls:?}").contains("hush-hush"));
    use_it(tls).unwrap();
    let head = seen.lock().unwrap()[0].to_ascii_lowercase();
    assert!(
        head.starts_with("connect storage.test:443") && head.contains("proxy-authorization: basic"),
        "{head}"
    );
    // Virtual-host style goes by the bucket's own name.
    let virtual_host = [("tls_ca_file", ca.as_str()), ("virtual_host", "true")];
    let own = options("s3://storage.test/bucket", &virtual_host, &[("https_proxy", &address)]);
    // (The server in the test knows such names below localhost only: what counts is where the proxy was sent.)
    let _ = use_it(own);
    assert!(seen.lock().unwrap().last().unwrap().starts_with("CONNECT bucket.storage.test:443"));
    // Exceptions, and this machine, go without.
    let count = seen.lock().unwrap().len();
    let spared = [("https_proxy", address.as_str()), ("no_proxy", "other.test,storage.test")];
    assert!(use_it(options("s3://storage.test/bucket", &[("tls_ca_file", &ca)], &spared)).is_err());
    use_it(options(&bed.location(""), &plain, &[("http_proxy", &address)])).unwrap();
    assert_eq!(seen.lock().unwrap().len(), count);
    // A proxy that cannot be one is told without its password.
    for odd in ["gopher://user:hush-hush@x", "socks5://user:hush-hush@x:1"] {
        let text = S3Store::new(options(location, &plain, &[("http_proxy", odd)])).unwrap_err().to_string();
        assert!(text.contains("proxy") && !text.contains("hush-hush"), "{text}");
    }
}

#[test]
fn the_command_line_and_the_connector_know_the_same_options() {
    use plakar::connectors::{Kind, Role, known, s3};
    let mut typed: Vec<&str> = [Role::Store, Role::Source, Role::Destination]
        .into_iter()
        .flat_map(|role| known(Some(Kind::S3), role))
        .map(|spec| spec.name)
        .chain(["uri"])
        .collect();
    typed.sort_unstable();
    typed.dedup();
    let mut read = s3::options::KNOWN.to_vec();
    read.sort_unstable();
    assert_eq!(typed, read);
}

#[test]
fn a_bucket_with_a_dot_keeps_to_the_path() {
    let bed = bed();
    let server = bed.own_server();
    for bucket in ["plain-bucket", "dotted.bucket"] {
        server.make_bucket(bucket);
        let location = format!("s3://localhost:{}/{bucket}", server.port());
        server.reset_counters();
        use_it(options(&location, &[("use_tls", "false"), ("virtual_host", "true")], &[])).unwrap();
        let target = server.counters().targets[0].clone();
        assert_eq!(target.starts_with(&format!("PUT /{bucket}/locks/")), bucket.contains('.'), "{target}");
        assert_eq!(server.keys(bucket).len(), 1);
    }
}

const CUSTOMER_KEY: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_customers_key_encrypts_store_and_destination_and_opens_the_source() {
    let run = |bed: &Bed| {
        let sse = [("sse_customer_key", CUSTOMER_KEY)];
        let store = S3Store::new(bed.options("store", &sse)).unwrap();
        store.create(b"config").unwrap();
        let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        store.put(Kind::Packfile, ID, Body::Bytes(&body)).unwrap();
        assert_eq!(store.config().unwrap(), b"config");
        assert_eq!(store.get(Kind::Packfile, ID).unwrap(), body);
        assert_eq!(store.size(Kind::Packfile, ID).unwrap(), 300_000);
        store.read_range(Kind::Packfile, ID, 1000, 10, &mut |b| assert_eq!(b, &body[1000..1010])).unwrap();
        // Without the key, and with another one, there is nothing to see.
        let without = S3Store::new(bed.options("store", &[])).unwrap();
        let error = without.get(Kind::Packfile, ID).unwrap_err();
        assert!(error.to_string().contains("sse_customer_key") || error.kind == ErrorKind::Denied, "{error}");
        let other = [("sse_customer_key", "another key, which has 32 bytes.")];
        let other = S3Store::new(bed.options("store", &other)).unwrap();
        let text = other.get(Kind::Packfile, ID).unwrap_err().to_string();
        assert!(!text.contains("another key") && !text.contains("MDEyMzQ1"), "{text}");
        assert_eq!(bed.get("store/CONFIG").status, 400, "it is encrypted");

        // From a plain source to an encrypted destination, small, middling and in parts.
        for (name, size) in [("small", 10), ("middling", 2_000_000), ("parts", 11 << 20)] {
            bed.put(format!("source/{name}"), &[], &vec![7; size]);
        }
        let source = S3Importer::new(bed.options("source/", &[])).unwrap();
        let mut settings = bed.options("to", &sse);
        settings.tuning.multipart_threshold = 10 << 20;
        settings.tuning.part_size = 5 << 20;
        let destination = S3Exporter::new(settings, ExportOptions::default()).unwrap();
        for (_, outcome) in copy(&source, &destination) {
            assert_eq!(outcome, Outcome::Restored);
        }
        assert_eq!(bed.get("to/parts").status, 400, "it is encrypted");
        // And back from there: the source is read with the key.
        let encrypted = S3Importer::new(bed.options("to/", &sse)).unwrap();
        let back = S3Exporter::new(bed.options("back", &[]), ExportOptions::default()).unwrap();
        for (_, outcome) in copy(&encrypted, &back) {
            let Outcome::Partly(lost) = outcome else { panic!("{outcome:?}") };
            assert!(lost.iter().any(|what| what.contains("sse_customer_key")), "{lost:?}");
        }
        for (name, size) in [("small", 10), ("middling", 2_000_000), ("parts", 11 << 20)] {
            assert!(bed.get(format!("back/{name}")).body == vec![7; size], "{name}");
        }
        let (mut seen, unreadable) = (0, S3Importer::new(bed.options("to/", &[])).unwrap());
        unreadable
            .scan(&mut |record| {
                if record.info.as_ref().is_ok_and(|info| !info.mode.is_dir()) {
                    assert!(unreadable.open(&record).is_err());
                    seen += 1;
                }
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(seen, 3);
    };
    Bed::each(run);
    let own = bed();
    own.own_server().insert("bucket", "plain", Object::new("x"));
    let store = S3Store::new(own.options("", &[("sse_customer_key", CUSTOMER_KEY)])).unwrap();
    assert!(store.config().is_err());
}
