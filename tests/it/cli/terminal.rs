//! The program on a terminal: a pseudo terminal with somebody in front of it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::User;
use crate::s3server::{ACCESS_KEY, Action, Fault, Object, S3Server, SECRET_KEY};

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A terminal, and what was written to it.
struct Terminal {
    master: OwnedFd,
    /// Kept open, so that the terminal outlives the program.
    slave: File,
    seen: Arc<Mutex<Vec<u8>>>,
    /// Ends when nobody has the terminal open any more.
    reader: JoinHandle<()>,
    child: Child,
}

impl Terminal {
    /// Runs a line in front of a terminal that it owns.
    fn run(user: &User, line: &str, columns: u16, term: Option<&str>) -> Self {
        let mut command = user.command(["-c", env!("CARGO_BIN_EXE_plakar")]);
        command.args(line.split_whitespace());
        Self::start(&command, columns, term)
    }

    fn start(plakar: &Command, columns: u16, term: Option<&str>) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        resize(&master, columns);
        // What makes the terminal the program's own: a process may not do that to another.
        let mut command = Command::new("setsid");
        command.args(plakar.get_args()).env_clear();
        command.envs(plakar.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs(term.map(|term| ("TERM", term)));
        command.current_dir(plakar.get_current_dir().unwrap());
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, kept) = (File::from(master.try_clone().unwrap()), Arc::clone(&seen));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                kept.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { master, slave, seen, reader, child }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits until something is seen behind the first `from` bytes; returns how much was seen then.
    fn wait(&self, from: usize, wanted: impl Fn(&str) -> bool) -> usize {
        let begun = Instant::now();
        loop {
            let text = self.text();
            if text.get(from..).is_some_and(&wanted) {
                return text.len();
            }
            assert!(begun.elapsed() < PATIENCE, "never seen: {text:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn types(&self, keys: &str) {
        File::from(self.master.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a prompt and answers it.
    fn answer(&self, from: usize, prompt: &str, keys: &str) -> usize {
        let seen = self.wait(from, |text| text.contains(prompt));
        // Until echo is off, what is typed would be seen.
        let begun = Instant::now();
        while self.echoes() {
            assert!(begun.elapsed() < PATIENCE, "the terminal still echoes");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.types(keys);
        seen
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the end; returns the exit code and all that was seen.
    fn end(mut self) -> (i32, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                panic!("it does not end: {:?}", self.text());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(self.echoes(), "the terminal is left as it was");
        // With the last end closed, what is still on its way is followed by an error.
        let Self { master: _master, slave, seen, reader, .. } = self;
        drop(slave);
        while !reader.is_finished() {
            assert!(begun.elapsed() < PATIENCE * 2, "somebody keeps the terminal open");
            std::thread::sleep(Duration::from_millis(5));
        }
        reader.join().unwrap();
        let text = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
        (status.code().expect("it was not killed"), text)
    }
}

fn resize(master: &OwnedFd, columns: u16) {
    tcsetwinsize(master, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// What a terminal shows in the end.
#[derive(Default)]
struct Screen {
    lines: Vec<String>,
    line: Vec<char>,
    column: usize,
}

impl Screen {
    /// Carries out what the program writes; a control sequence that it has no business to write fails the test.
    fn show(text: &str) -> Self {
        let mut screen = Self::default();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => screen.column = 0,
                '\n' => {
                    screen.lines.push(screen.line.drain(..).collect::<String>());
                    screen.column = 0;
                }
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['), "{text:?}");
                    let end = chars.by_ref().find(char::is_ascii_alphabetic);
                    match end {
                        Some('K') => screen.line.truncate(screen.column),
                        Some('m') => {}
                        other => panic!("{other:?} in {text:?}"),
                    }
                }
                c => {
                    assert!(!c.is_control(), "{c:?} in {text:?}");
                    screen.line.truncate(screen.column.max(screen.line.len()));
                    if screen.column < screen.line.len() {
                        screen.line[screen.column] = c;
                    } else {
                        screen.line.push(c);
                    }
                    screen.column += 1;
                }
            }
        }
        screen.lines.push(screen.line.drain(..).collect());
        screen
    }

    fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// A source whose last object is never answered for, and a store: a backup that lasts for ever.
struct Endless {
    server: S3Server,
    user: User,
}

impl Endless {
    fn new() -> Self {
        let server = S3Server::new();
        server.make_bucket("source");
        for number in 0..50 {
            server.insert("source", format!("object {number:02}"), Object::new(vec![b'x'; 1000]));
        }
        server.insert("source", "zz", Object::new("never"));
        server.inject(Fault::when(|seen| seen.op == "GetObject" && seen.key == b"zz", Action::Hang));
        let user = User::in_memory();
        let keys = format!("access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false");
        user.ok(&format!("source add s s3://{}/source {keys}", server.authority()));
        user.ok("at ./st create -plaintext");
        Self { server, user }
    }
}

#[test]
fn progress_fits_the_terminal_follows_its_size_and_goes() {
    let scene = Endless::new();
    for columns in [80, 40, 20] {
        let terminal = Terminal::run(&scene.user, "at ./st backup @s", columns, Some("xterm"));
        let seen = terminal.wait(0, |text| text.contains("backup: "));
        assert_eq!(Screen::show(&terminal.text()[..seen]).text().matches("backup: ").count(), 1);
        if columns == 80 {
            // Objects, bytes and a rate; then the window becomes narrow while it runs.
            terminal.wait(0, |text| text.contains("50 files"));
            let wide = terminal.text();
            resize(&terminal.master, 30);
            let from = terminal.wait(wide.len(), |text| {
                let line = text.rsplit('\r').nth(1).unwrap_or_default();
                line.contains("backup: ") && line.chars().count() < 30
            });
            assert!(from > wide.len());
        }
        terminal.types("\x03");
        let (code, text) = terminal.end();
        assert_eq!(code, 1, "{text:?}");
        let screen = Screen::show(&text);
        let drawn = text.split('\r').filter(|line| line.starts_with("backup: "));
        assert!(drawn.clone().count() > 0);
        for line in drawn {
            let line = line.split('\x1b').next().unwrap();
            assert!(line.chars().count() < usize::from(columns), "{line:?}");
        }
        let left = screen.text();
        assert!(left.contains("plakar: cancelled") && !left.contains("backup: "), "{left:?}");
    }
    drop(scene.server);
}

#[test]
fn who_is_no_terminal_gets_no_control_sequence() {
    let scene = Endless::new();
    scene.server.clear_faults();
    for term in [Some("dumb"), Some(""), None] {
        let terminal = Terminal::run(&scene.user, "at ./st backup -force @s", 80, term);
        let (code, text) = terminal.end();
        assert!(code == 0 && !text.contains('\x1b') && !text.replace("\r\n", "").contains('\r'), "{text:?}");
    }
    let ran = scene.user.run("at ./st backup -force @s");
    assert!(ran.code == 0 && ran.stderr.is_empty() && !ran.stdout.contains(['\r', '\x1b']), "{ran:?}");
}

#[test]
fn problems_stand_above_the_line_whole() {
    let scene = Endless::new();
    scene.server.inject(Fault::when(
        |seen| seen.op == "GetObject" && seen.key == b"object 07",
        Action::status(403, "AccessDenied"),
    ));
    let terminal = Terminal::run(&scene.user, "at ./st backup @s", 200, Some("xterm"));
    terminal.wait(0, |text| text.contains("error: ") || text.contains("error:\x1b"));
    terminal.wait(0, |text| text.contains("1 error\x1b[K"));
    terminal.types("\x03");
    let screen = Screen::show(&terminal.end().1).text();
    let told = screen.lines().find(|line| line.contains("/object 07")).expect("the problem is told");
    assert!(told.starts_with("error: /object 07: ") && !told.contains("backup: "), "{screen:?}");
}

#[test]
fn a_program_in_the_background_leaves_the_terminal_alone() {
    let scene = Endless::new();
    let mut shell = scene.user.command(["-c", "sh", "-mc"]);
    let program = env!("CARGO_BIN_EXE_plakar");
    // With job control, what ends in & is a group of its own, and the shell stays the one in front.
    shell.arg(format!(
        "{program} at ./st backup @s & while ! test -e over; do sleep 0.05; done; kill $!; wait $!; echo said"
    ));
    let terminal = Terminal::start(&shell, 80, Some("xterm"));
    let begun = Instant::now();
    while scene.server.counters().hanging == 0 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    // Several times as long as a line takes to be drawn.
    std::thread::sleep(Duration::from_millis(500));
    std::fs::write(scene.user.home().join("over"), "").unwrap();
    let (_, text) = terminal.end();
    assert!(text.contains("said") && !text.contains("backup: ") && !text.contains("\x1b[K"), "{text:?}");
}

const SECRET: &str = "five random words are good";

#[test]
fn a_passphrase_is_asked_for_twice_and_never_seen() {
    let user = User::in_memory();
    let terminal = Terminal::run(&user, "at ./s create", 80, Some("xterm"));
    let seen = terminal.answer(0, "passphrase for ./s: ", &format!("{SECRET}\r"));
    let seen = terminal.answer(seen, "the same passphrase again: ", "something else\r");
    let seen = terminal.answer(seen, "not the same; passphrase for ./s: ", &format!("{SECRET}\r"));
    terminal.answer(seen, "the same passphrase again: ", &format!("{SECRET}\r"));
    let (code, text) = terminal.end();
    assert!(code == 0 && text.contains("created an encrypted store"), "{text:?}");
    assert!(!text.contains("random") && !text.contains("something"), "{text:?}");

    let terminal = Terminal::run(&user, "at ./s ls", 80, Some("xterm"));
    let mut seen = terminal.answer(0, "passphrase of ./s: ", "wrong one\r");
    for _ in 0..2 {
        seen = terminal.answer(seen, "wrong passphrase; passphrase of ./s: ", "wrong two\r");
    }
    let (code, text) = terminal.end();
    assert!(code == 77 && text.contains("because: wrong passphrase"), "{text:?}");
    assert!(!text.contains("wrong one") && !text.contains("wrong two"), "{text:?}");

    let terminal = Terminal::run(&user, "at ./s ls", 80, Some("xterm"));
    let seen = terminal.answer(0, "passphrase of ./s: ", "wrong\r");
    terminal.answer(seen, "wrong passphrase; ", &format!("{SECRET}\r"));
    assert_eq!(terminal.end().0, 0, "the second try may be right");
}

#[test]
fn who_leaves_a_prompt_gets_the_echo_back() {
    let user = User::in_memory();
    user.ok("at ./s create -plaintext");
    // By key, and by a signal from elsewhere.
    let terminal = Terminal::run(&user, "at ./e create", 80, Some("xterm"));
    terminal.answer(0, "passphrase for ./e: ", "half a pass\x03");
    let (code, text) = terminal.end();
    assert!(code == 1 && !text.contains("half"), "{text:?}");
    assert!(!user.home().join("e/CONFIG").exists());

    let terminal = Terminal::run(&user, "at ./e create", 80, Some("xterm"));
    terminal.answer(0, "passphrase for ./e: ", "half a pass");
    let pid = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let (code, text) = terminal.end();
    let told = Screen::show(&text).text();
    assert!(code == 1 && told.contains("plakar: cancelled") && !text.contains("half"), "{text:?}");
}

#[test]
fn every_prompt_can_be_left_and_nothing_is_done_then() {
    let user = User::in_memory();
    std::fs::write(user.home().join("key"), SECRET).unwrap();
    user.ok("at ./s create -keyfile key");
    std::fs::create_dir(user.home().join("src")).unwrap();
    let left = |line: &str, answers: &[&str], prompt: &str| {
        let terminal = Terminal::run(&user, line, 80, Some("xterm"));
        let seen =
            answers.iter().fold(0, |seen, prompt| terminal.answer(seen, prompt, &format!("{SECRET}\r")));
        terminal.answer(seen, prompt, "half a pass\x03");
        let (code, text) = terminal.end();
        let told = Screen::show(&text).text();
        assert!(code == 1 && told.contains("plakar: cancelled"), "{line}: {text:?}");
        assert!(!text.contains("half") && !text.contains("random"), "{line}: {text:?}");
    };
    left("at ./e create", &["passphrase for ./e: "], "the same passphrase again: ");
    left("at ./s ls", &[], "passphrase of ./s: ");
    left("at ./s backup src", &[], "passphrase of ./s: ");
    left("at ./s key add -label two", &["passphrase of ./s: "], "passphrase");
    left("ptar -o x.ptar src", &[], "passphrase");
    left("ptar -o x.ptar src", &["passphrase"], "the same passphrase again: ");
    assert!(!user.home().join("e/CONFIG").exists() && !user.home().join("x.ptar").exists());
    assert_eq!(user.ok("at ./s ls -keyfile key"), "");
    assert_eq!(user.ok("at ./s key list -keyfile key").lines().count(), 1);
}

#[test]
fn names_cannot_speak_to_the_terminal() {
    let user = User::in_memory();
    let src = user.home().join("src");
    std::fs::create_dir(&src).unwrap();
    let name = "new\nline \x1b[2J\x1b]0;title\x07 \u{9b}31m \r.txt";
    std::fs::write(src.join(name), "one\n").unwrap();
    std::os::unix::fs::symlink("\x1b[31m", src.join("link")).unwrap();
    user.ok("at ./s create -plaintext");
    user.ok("at ./s backup -name \x1b[31m -tag a\x1b[31m src");
    std::fs::write(src.join(name), "other\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    user.ok("at ./s backup src");
    let ids: Vec<String> = super::json(&user.ok("at ./s ls -json"))
        .iter()
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    let (old, new) = (&ids[0], &ids[1]);
    for line in [
        "at ./s ls -tags".to_owned(),
        format!("at ./s ls -recursive {new}"),
        "at ./s find -name *.txt".into(),
        "at ./s locate *.txt".into(),
        format!("at ./s diff -recursive {old} {new}"),
        format!("at ./s info {old}"),
        format!("at ./s digest {new}"),
        format!("at ./s restore -to out {new}"),
        format!("at ./s rm {old}"),
        "at ./s check".into(),
        "at ./s backup -dry-run src".into(),
    ] {
        let terminal = Terminal::run(&user, &line, 80, Some("xterm"));
        let (code, text) = terminal.end();
        assert_eq!(code, 0, "{line}: {text:?}");
        // Fails at a control sequence that is not the program's own.
        let screen = Screen::show(&text).text();
        assert!(!text.contains(['\x07', '\u{9b}']) && !text.contains("\x1b[31m\x1b"), "{line}: {text:?}");
        let names = ["ls -rec", "find", "locate", "diff", "digest", "dry-run"];
        if names.iter().any(|command| line.contains(command)) {
            assert!(screen.contains("new\\nline \\x1b[2J"), "{line}: {screen}");
        }
    }
}
