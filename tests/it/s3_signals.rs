//! A signal ends the program at once, whatever a server does: nothing stays behind that a later run would miss.
//!
//! The server answers up to some point and then hangs for ever, so a program that waited for it would never end.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::User;
use crate::s3server::{ACCESS_KEY, Action, Fault, Object, S3Server, SECRET_KEY};

/// Long enough for any machine; a program that waits for the server takes for ever.
const PATIENCE: Duration = Duration::from_mins(1);

struct Scene {
    server: S3Server,
    user: User,
}

impl Scene {
    /// A source of small objects and a large one, a store in a bucket, a target; and a folder for temporary files.
    fn new() -> Self {
        let server = S3Server::new();
        for bucket in ["source", "kloset", "target"] {
            server.make_bucket(bucket);
        }
        for n in 0..300_u32 {
            server.insert("source", format!("small/{n:03}"), Object::new(noise(n, 3000)));
        }
        server.insert("source", "large", Object::new(noise(1000, 40 << 20)));
        let mut user = User::new();
        let temporary = user.home().join("tmp");
        std::fs::create_dir(&temporary).unwrap();
        user.set("TMPDIR", temporary.to_str().unwrap());
        for (kind, name, bucket) in
            [("store", "st", "kloset"), ("source", "src", "source"), ("destination", "dst", "target")]
        {
            let place = format!("s3://{}/{bucket}", server.authority());
            let keys = format!("access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false");
            user.ok(&format!("{kind} add {name} {place} {keys}"));
        }
        user.ok("at @st create -plaintext");
        Self { server, user }
    }

    /// Starts a command, waits until the server hangs, sends the signal; returns the code, what was said on standard
    /// error.
    fn interrupt(&self, line: &str, signal: Signal) -> (i32, String) {
        self.interrupt_when(line, signal, &|| self.server.counters().hanging > 0)
    }

    /// The same, waiting for something else.
    fn interrupt_when(&self, line: &str, signal: Signal, is_caught: &dyn Fn() -> bool) -> (i32, String) {
        let mut command = self.user.command(line.split_whitespace());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while !is_caught() {
            assert!(begun.elapsed() < PATIENCE, "the server was never asked for what hangs");
            assert!(child.try_wait().unwrap().is_none(), "{line} ended by itself: {}", said(&mut child));
            std::thread::sleep(Duration::from_millis(5));
        }
        // Time for other threads to be caught by the hanging server, too.
        std::thread::sleep(Duration::from_millis(200));
        let sent = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if sent.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("{line} waits for a server that hangs");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let code = status.code().unwrap_or_else(|| panic!("{line} was killed: {status}"));
        println!("{line}: code {code} after {:?}", sent.elapsed());
        (code, said(&mut child))
    }

    /// Asserts that a run that was interrupted left nothing but what it had finished.
    fn assert_clean(&self, ran: &(i32, String)) {
        let (code, said) = ran;
        assert_eq!(*code, 1, "{said}");
        assert!(said.starts_with("plakar: cancelled"), "{said}");
        assert!(!said.contains("X-Amz-Signature") && !said.contains(SECRET_KEY), "{said}");
        assert_eq!(self.server.open_uploads(), 0, "uploads are aborted");
        let locks: Vec<_> =
            self.server.keys("kloset").into_iter().filter(|key| key.starts_with(b"locks/")).collect();
        assert_eq!(locks, Vec::<Vec<u8>>::new(), "locks are released");
        let left: Vec<_> = std::fs::read_dir(self.user.home().join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        self.server.clear_faults();
        self.server.reset_counters();
    }
}

fn said(child: &mut Child) -> String {
    std::io::read_to_string(child.stderr.take().unwrap()).unwrap()
}

fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_backup_ends_while_the_source_hangs() {
    let scene = Scene::new();
    for (op, signal) in [("GetObject", Signal::INT), ("ListObjectsV2", Signal::TERM)] {
        scene.server.reset_counters();
        // The store's requests go on: only the source's bucket hangs.
        let from_source = |key: &[u8]| key.starts_with(b"small/2") || key == b"large";
        scene.server.inject(match op {
            "GetObject" => Fault::when(move |seen| seen.op == op && from_source(&seen.key), Action::Hang),
            _ => Fault::when(move |seen| seen.op == op && seen.bucket == "source", Action::Hang),
        });
        let ran = scene.interrupt("at @st backup @src", signal);
        scene.assert_clean(&ran);
    }
    // Nothing was committed, and the next run is not hindered.
    assert!(scene.user.ok("at @st ls").trim().is_empty());
    scene.user.ok("at @st backup @src");
    scene.user.ok("at @st check");
}

#[test]
fn a_backup_ends_while_the_store_hangs() {
    let scene = Scene::new();
    scene.server.inject(Fault::when(
        |seen| seen.op == "PutObject" && seen.key.starts_with(b"packfiles/"),
        Action::Hang,
    ));
    let ran = scene.interrupt("at @st backup @src", Signal::TERM);
    scene.assert_clean(&ran);
    assert!(scene.user.ok("at @st ls").trim().is_empty());
}

#[test]
fn a_restore_ends_while_the_destination_hangs() {
    for (op, signal) in [("UploadPart", Signal::INT), ("PutObject", Signal::TERM)] {
        let scene = Scene::new();
        scene.user.ok("at @st backup @src");
        scene.server.reset_counters();
        scene.server.inject(Fault::when(
            move |seen| seen.op == op && seen.bucket == "target" && seen.number > 1,
            Action::Hang,
        ));
        let ran = scene.interrupt("at @st restore -to @dst latest", signal);
        scene.assert_clean(&ran);
        assert!(scene.server.object("target", "large").is_none(), "no object that is not whole");
    }
}

#[test]
fn a_restore_ends_while_the_store_hangs() {
    let scene = Scene::new();
    scene.user.ok("at @st backup @src");
    scene.server.reset_counters();
    let strikes = |seen: &crate::s3server::Seen| seen.key.starts_with(b"packfiles/") && seen.number > 8;
    scene.server.inject(Fault::when(strikes, Action::Hang));
    let ran = scene.interrupt("at @st restore -to @dst latest", Signal::TERM);
    scene.assert_clean(&ran);
}

#[test]
fn an_archive_in_the_making_leaves_no_file() {
    let scene = Scene::new();
    scene.server.inject(Fault::when(|seen| seen.op == "GetObject" && seen.key == b"small/200", Action::Hang));
    let ran = scene.interrupt("ptar -plaintext -o ./x.ptar @src", Signal::INT);
    scene.assert_clean(&ran);
    let left: Vec<_> = std::fs::read_dir(scene.user.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("ptar"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn even_a_server_that_hangs_in_everything_holds_nobody() {
    let scene = Scene::new();
    scene.server.inject(Fault::when(|seen| seen.op == "GetObject" && seen.key == b"small/100", Action::Hang));
    scene.server.inject(Fault::when(|seen| matches!(seen.op, "DeleteObject" | "PutObject"), Action::Hang));
    // The lock could not be put at all: the very first request of the run hangs.
    let (code, said) = scene.interrupt("at @st backup @src", Signal::TERM);
    assert!(code == 1 && said.contains("plakar: cancelled"), "{said}");
}

/// A listener on the loopback interface that accepts nothing and whose queue is full: what is sent there is swallowed.
struct Deaf {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Deaf {
    fn new() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        listen(&socket, 0).unwrap();
        let listener = TcpListener::from(socket);
        let (address, mut queued) = (listener.local_addr().unwrap(), Vec::new());
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            queued.push(stream);
        }
        Self { listener, _queued: queued }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Returns whether somebody waits for an answer to the first packet of a connection (state 02).
    fn is_dialled(&self) -> bool {
        let wanted = format!(" 0100007F:{:04X} 02 ", self.port());
        std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted)
    }
}

#[test]
fn a_host_that_swallows_packets_holds_nobody() {
    let scene = Scene::new();
    let deaf = Deaf::new();
    let place = format!("s3://127.0.0.1:{}/deaf region=us-east-1", deaf.port());
    let keys = format!("access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false");
    scene.user.ok(&format!("source add deaf {place} {keys}"));
    scene.user.ok(&format!("destination add deaf {place} {keys}"));
    scene.user.ok("at @st backup @src");
    for (line, signal) in [
        ("at @st backup @deaf", Signal::INT),
        ("at @st restore -to @deaf latest", Signal::TERM),
        ("ptar -plaintext -o ./x.ptar @deaf", Signal::INT),
    ] {
        // One attempt to connect may take ten seconds, and there are nine: who makes them all has not enough patience.
        let ran = scene.interrupt_when(line, signal, &|| deaf.is_dialled());
        scene.assert_clean(&ran);
    }
}
