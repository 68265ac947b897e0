//! Stores served over HTTP, and stores in databases, by the program itself.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

use super::{User, json, packfiles};
use crate::s3_connection::data;

/// A server as a process, killed when dropped.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    /// Starts `plakar … server …` and waits until it listens.
    fn start(user: &User, line: &str) -> Self {
        let mut command = user.command(line.split_whitespace());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let url = first.split_whitespace().find(|word| word.starts_with("http")).map(str::to_owned);
        let Some(url) = url else {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("{line}: {first}{said}");
        };
        Self { child, url }
    }

    fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    fn port(&self) -> &str {
        self.url.rsplit_once(':').unwrap().1
    }

    /// Asks it to end, and returns its exit code and what it said.
    fn end(mut self) -> (i32, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code().unwrap(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A user with a tree of files in `src`.
fn user() -> User {
    let user = User::in_memory();
    let src = user.home().join("src");
    fs::create_dir_all(src.join("sub")).unwrap();
    fs::write(src.join("hello"), "hello\n").unwrap();
    for n in 0..20_u32 {
        let noise: Vec<u8> =
            (0..50_000 + n).flat_map(|i| (i.wrapping_mul(2_654_435_761) ^ n).to_le_bytes()).collect();
        fs::write(src.join(format!("sub/{n}")), noise).unwrap();
    }
    // What was modified within a tick of the clock before a backup is read again by the next.
    std::thread::sleep(std::time::Duration::from_millis(100));
    user
}

fn assert_same(a: &Path, b: &Path) {
    for entry in fs::read_dir(a).unwrap() {
        let entry = entry.unwrap();
        let other = b.join(entry.file_name());
        if entry.path().is_dir() {
            assert_same(&entry.path(), &other);
        } else {
            assert!(fs::read(entry.path()).unwrap() == fs::read(&other).unwrap(), "{}", other.display());
        }
    }
}

/// Everything one does with a store, at a store that exists.
fn main_job(user: &User, store: &str) {
    let told = user.ok(&format!("at {store} backup src"));
    assert!(told.contains("21 files"), "{told}");
    assert!(user.ok(&format!("at {store} backup src")).contains("(21 unchanged)"));
    assert_eq!(user.ok(&format!("at {store} ls")).lines().count(), 2);
    assert_eq!(user.ok(&format!("at {store} cat latest:hello")), "hello\n");
    assert!(user.ok(&format!("at {store} check")).contains("no damage"));
    user.ok(&format!("at {store} restore -to out latest"));
    assert_same(&user.home().join("src"), &user.home().join("out"));
    user.ok("at ./copy create -plaintext");
    assert!(user.ok(&format!("at ./copy sync from {store}")).contains("2 snapshots"));
    user.ok(&format!("ptar -plaintext -o x.ptar -k {store}"));
    assert_eq!(user.ok("at x.ptar ls").lines().count(), 2);
    assert!(user.ok(&format!("at {store} info")).contains("snapshots       2"));
}

#[test]
fn the_main_job_over_http() {
    let user = user();
    user.ok("at ./store create -plaintext");
    let server = Running::start(&user, "at ./store server -listen 0 -allow-delete");
    let ran = user.run(&format!("at {} create -plaintext", server.url));
    assert!(ran.code == 64 && ran.stderr.contains("cannot be created over HTTP"), "{ran:?}");
    main_job(&user, &server.url);
    // Maintenance deletes what nobody needs.
    user.ok(&format!("at {} rm -apply latest", server.url));
    let before = packfiles(user.home().join("store")).len();
    user.ok(&format!("at {} maintenance -apply -grace 0s", server.url));
    user.ok(&format!("at {} maintenance -apply -grace 0s", server.url));
    assert!(packfiles(user.home().join("store")).len() < before);
    assert!(fs::read_dir(user.home().join("store/locks")).unwrap().next().is_none());
    assert!(user.ok("at ./store check").contains("no damage"));
    let (code, said) = server.end();
    assert!(code == 0 && said.contains("the server has ended"), "{said}");
}

#[test]
fn the_main_job_over_https_with_a_token_and_a_passphrase() {
    let mut user = user();
    let (cert, key, ca) = (data("server.pem"), data("server.key"), data("ca.pem"));
    user.set("PLAKAR_PASSPHRASE", "correct horse battery staple");
    user.ok("at ./store create");
    fs::write(user.home().join("token"), "0123456789abcdef\n").unwrap();
    let line = format!(
        "at ./store server -listen localhost:0 -allow-write -token-file token -cert {} -key {}",
        cert.display(),
        key.display()
    );
    let server = Running::start(&user, &line);
    let location = format!("https://localhost:{}/", server.port());
    user.ok(&format!("store add web {location} tls_ca_file={} token=0123456789abcdef", ca.display()));
    assert!(!user.ok("store show web").contains("0123456789abcdef"));
    main_job(&user, "@web");
    user.ok("store set web token=0123456789abcdeX");
    let ran = user.run("at @web ls");
    assert!(ran.code == 77 && ran.stderr.contains("does not accept the token"), "{ran:?}");
    assert!(!ran.stderr.contains("abcdeX"), "{ran:?}");
    user.ok("store unset web token");
    let ran = user.run("at @web ls");
    assert!(ran.code == 77 && ran.stderr.contains("it wants a token"), "{ran:?}");
    user.ok("store unset web tls_ca_file");
    let ran = user.run("at @web ls");
    assert!(ran.code == 1 && ran.stderr.contains("TLS"), "{ran:?}");
    let plain = location.replace("https", "http");
    assert_eq!(user.run(&format!("at {plain} ls")).code, 1);
}

#[test]
fn where_nothing_may_be_deleted_locks_expire() {
    let user = user();
    user.ok("at ./store create -plaintext");
    let server = Running::start(&user, "at ./store server -listen 0 -allow-write");
    user.ok(&format!("at {} backup src", server.url));
    assert_eq!(fs::read_dir(user.home().join("store/locks")).unwrap().count(), 1);
    // The lock that stays keeps nobody out.
    user.ok("at ./store maintenance -apply");
    user.ok(&format!("at {} rm -apply latest", server.url));
    let ran = user.run(&format!("at {} maintenance -apply -grace 0s", server.url));
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    assert!(!packfiles(user.home().join("store")).is_empty());
}

#[test]
fn a_server_is_read_only_unless_told_otherwise() {
    let user = user();
    user.ok("at ./store create -plaintext");
    user.ok("at ./store backup src");
    let server = Running::start(&user, "at ./store server -listen 0 -trace web");
    assert_eq!(user.ok(&format!("at {} ls", server.url)).lines().count(), 1);
    let ran = user.run(&format!("at {} backup src", server.url));
    assert!(ran.code != 0 && ran.stderr.contains("cannot be written"), "{ran:?}");
    assert!(ran.stderr.contains("start that plakar server with -allow-write"), "{ran:?}");
    let (_, said) = server.end();
    assert!(said.contains("trace: web: 127.0.0.1:") && said.contains(" GET /resources/states 200"), "{said}");
}

#[test]
fn access_lines_are_json_on_request() {
    let user = user();
    user.ok("at ./store create -plaintext");
    let mut child = user
        .command(["-json", "at", "./store", "server", "-listen", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || json(&lines.next().unwrap().unwrap()).remove(0);
    let listening = next();
    assert_eq!((listening["type"].as_str(), listening["access"].as_str()), (Some("listening"), Some("read")));
    let url = listening["url"].as_str().unwrap().to_owned();
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET /x\x7fy?z HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let request = next();
    assert!(request["type"] == "request" && request["status"].as_u64().unwrap() >= 400, "{request}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn wrong_settings_are_refused_before_anything_listens() {
    let mut user = user();
    user.ok("at ./store create -plaintext");
    user.ok("ptar -plaintext -o x.ptar src");
    fs::write(user.home().join("short"), "abc").unwrap();
    fs::write(user.home().join("empty"), "").unwrap();
    for (line, code, said) in [
        ("at ./nothing server", 66, "create makes a store"),
        ("at ./store server -listen x:y", 64, "no address"),
        ("at ./store server -listen 192.0.2.1:1", 1, "cannot listen"),
        ("at ./store server -listen :0 -allow-write", 64, "-token-file"),
        ("at ./store server -listen 0 -token-file short", 64, "characters"),
        ("at ./store server -listen 0 -token-file missing", 64, "cannot read the token"),
        ("at ./store server -listen 0 -cert empty", 64, "-key"),
        ("at ./store server -listen 0 -cert empty -key empty", 64, "certificate"),
        ("at ./x.ptar server -listen 0 -allow-write", 64, "can only be read"),
    ] {
        let ran = user.run(line);
        assert!(ran.code == code && ran.stderr.contains(said), "{line}: {ran:?}");
    }
    let first = Running::start(&user, "at ./store server -listen 0");
    let ran = user.run(&format!("at ./store server -listen {}", first.address()));
    assert!(ran.code == 1 && ran.stderr.contains("another program listens there"), "{ran:?}");
    drop(first);
    user.set("PLAKAR_SERVER_TOKEN", "from-the-environment");
    let open = Running::start(&user, "at ./store server -listen 0.0.0.0:0 -allow-write");
    let ran = user.run(&format!("at http://127.0.0.1:{} ls", open.port()));
    assert!(ran.code == 77, "{ran:?}");
    let (_, said) = open.end();
    assert!(said.contains("not encrypted") && !said.contains("from-the-environment"), "{said}");
}

#[test]
fn an_archive_is_served_as_one() {
    let user = user();
    user.ok("ptar -plaintext -o x.ptar src");
    let server = Running::start(&user, "at ./x.ptar server -listen 0");
    assert!(user.ok(&format!("at {} ls latest", server.url)).contains("hello"));
    assert!(user.ok(&format!("at {} check", server.url)).contains("no damage"));
    user.ok(&format!("at {} restore -to out latest", server.url));
    assert_same(&user.home().join("src"), &user.home().join("out"));
    user.ok("at ./store create -plaintext");
    assert!(user.ok(&format!("at ./store sync from {}", server.url)).contains("1 snapshot"));
    let ran = user.run(&format!("at {} backup src", server.url));
    assert!(ran.code != 0 && ran.stderr.contains("archive"), "{ran:?}");
}

/// Two backups at the same time, by two processes, then a look at what is there.
fn two_at_once(user: &User, store: &str) {
    let start = |folder: &str| {
        let args = ["at", store, "backup", folder];
        user.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    fs::create_dir_all(user.home().join("other")).unwrap();
    for n in 0..20_u32 {
        let noise: Vec<u8> =
            (0..60_000_u32).flat_map(|i| (i.wrapping_mul(40_503) ^ n).to_le_bytes()).collect();
        fs::write(user.home().join(format!("other/{n}")), noise).unwrap();
    }
    for child in [start("src"), start("other"), start("src")] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(user.ok(&format!("at {store} ls")).lines().count(), 3);
    assert!(user.ok(&format!("at {store} check")).contains("no damage"));
}

#[test]
fn several_clients_back_up_at_once() {
    let user = user();
    user.ok("at ./store create -plaintext");
    let server = Running::start(&user, "at ./store server -listen 0 -allow-delete");
    two_at_once(&user, &server.url);
}

#[test]
fn a_server_that_is_killed_leaves_nothing_half_done() {
    let user = user();
    user.ok("at ./store create -plaintext");
    user.ok("at ./store backup src");
    let count = || packfiles(user.home().join("store")).len();
    let before = count();
    let mut server = Running::start(&user, "at ./store server -listen 0 -allow-write");
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let id = "ab".repeat(32);
    write!(
        stream,
        "PUT /resources/packfiles/{id} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n"
    )
    .unwrap();
    stream.write_all(&vec![7; 5_000_000]).unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let _ = stream.write_all(&[7; 1000]);
    assert_eq!(count(), before);
    assert!(user.ok("at ./store check").contains("no damage"));
    let server = Running::start(&user, "at ./store server -listen 0 -allow-write");
    assert!(user.ok(&format!("at {} backup src", server.url)).contains("unchanged"));
}

#[test]
fn a_server_that_is_stopped_and_continued_goes_on() {
    let user = User::in_memory();
    user.ok("at ./store create -plaintext");
    let server = Running::start(&user, "at ./store server -listen 0 -allow-write");
    let connect = || {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_mins(1))).unwrap();
        stream
    };
    let answers = |stream: &mut TcpStream, status: &str| {
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
            answer.extend(byte);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
    };
    // Between two requests, in the middle of a head, in the middle of a body.
    let head = |method: &str, id: &str| {
        let path = format!("/resources/states/{}", id.repeat(32));
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n")
    };
    let (first, second) = (head("PUT", "aa"), head("PUT", "bb"));
    let nothing = head("HEAD", "cc").replace(" 10\r", " 0\r");
    let [mut idle, mut begun, mut busy] = [connect(), connect(), connect()];
    idle.write_all(nothing.as_bytes()).unwrap();
    answers(&mut idle, "404");
    begun.write_all(&first.as_bytes()[..30]).unwrap();
    busy.write_all(second.as_bytes()).unwrap();
    busy.write_all(b"01234").unwrap();
    // It is to be waiting for more by now.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    idle.write_all(nothing.as_bytes()).unwrap();
    begun.write_all(&first.as_bytes()[30..]).unwrap();
    begun.write_all(b"0123456789").unwrap();
    busy.write_all(b"56789").unwrap();
    answers(&mut idle, "404");
    answers(&mut begun, "200");
    answers(&mut busy, "200");
}

#[test]
fn the_main_job_in_a_database() {
    let user = user();
    user.ok("at sqlite:db create -plaintext");
    main_job(&user, "sqlite:db");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(user.home().join("db")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // The file shrinks when snapshots go.
    let size = || fs::metadata(user.home().join("db")).unwrap().len();
    let before = size();
    for _ in 0..2 {
        user.ok("at sqlite:db rm -apply latest");
    }
    user.ok("at sqlite:db maintenance -apply -grace 0s");
    user.ok("at sqlite:db maintenance -apply -grace 0s");
    assert!(size() < before / 4, "{} of {before}", size());
    assert!(user.ok("at sqlite:db check").contains("no damage"));
    let ran = user.run("at sqlite:db create -plaintext");
    assert!(ran.code == 1 && ran.stderr.contains("already"), "{ran:?}");
    assert!(user.ok("version").contains("klosets: fs, http, https, ptar, s3"));
    assert!(user.ok("version").contains("sqlite"));
}

#[test]
fn several_processes_share_a_database() {
    let user = user();
    let store = format!("sqlite://{}", user.home().join("deep/er/db").display());
    user.ok(&format!("at {store} create -plaintext"));
    two_at_once(&user, &store);
    let server = Running::start(&user, &format!("at {store} server -listen 0 -allow-write"));
    assert!(user.ok(&format!("at {} backup src", server.url)).contains("unchanged"));
}

#[test]
fn what_is_no_database_of_ours_is_told_apart() {
    let user = user();
    fs::write(user.home().join("text"), "this is no database, but long enough to be one\n".repeat(100))
        .unwrap();
    fs::write(user.home().join("nothing"), "").unwrap();
    let other = rusqlite::Connection::open(user.home().join("other")).unwrap();
    other.execute_batch("CREATE TABLE things (a, b); INSERT INTO things VALUES (1, 2)").unwrap();
    drop(other);
    for (line, code, said) in [
        ("at sqlite:text ls", 64, "not an SQLite database"),
        ("at sqlite:other ls", 64, "another application"),
        ("at sqlite:missing ls", 66, "create"),
        ("at sqlite:nothing ls", 66, "create"),
        ("at sqlite:src ls", 64, "not a file"),
        ("at sqlite:text create -plaintext", 64, "not an SQLite database"),
        ("at sqlite:other create -plaintext", 64, "another application"),
    ] {
        let ran = user.run(line);
        assert!(ran.code == code && ran.stderr.contains(said), "{line}: {ran:?}");
    }
    assert!(!user.home().join("missing").exists());
    let other = rusqlite::Connection::open(user.home().join("other")).unwrap();
    assert_eq!(
        other.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0)).unwrap(),
        1
    );
    // An empty file is where an interrupted creation may have got to.
    user.ok("at sqlite:nothing create -plaintext");
    let newer = rusqlite::Connection::open(user.home().join("nothing")).unwrap();
    newer.execute_batch("PRAGMA user_version=2").unwrap();
    let ran = user.run("at sqlite:nothing ls");
    assert!(ran.code == 78 || ran.stderr.contains("newer than this program"), "{ran:?}");
}
