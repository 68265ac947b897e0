//! The shapes of `-json`: every command is run, and what its objects look like is compared with what is written down:
//! exactly in the snapshot beside this file, and by name in `src/ui/json.md`, which people read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::Value;

use super::{User, json, packfiles};

const DOCUMENT: &str = include_str!("../../../src/ui/json.md");

/// What comes or stays away as time goes by: its shape is pinned where it is defined.
const FLEETING: [&str; 3] = ["progress", "notice", "warning"];

/// Lines by command, run in this order. `{a}` and `{b}` are the first two snapshots; `!` stands before a line that has
/// to fail.
const SCENES: &[(&str, &[&str])] = &[
    ("create", &["at ./s create -plaintext", "at ./t create -plaintext", "!at ./s create -plaintext"]),
    (
        "backup",
        &[
            "at ./s backup -tag x -name mine -check src",
            "at ./s backup src",
            "at ./s backup -dry-run src",
            "!at ./s backup missing",
            "!at ./s backup gopher://x",
        ],
    ),
    (
        "ls",
        &["at ./s ls", "at ./s ls {a}", "at ./s ls -recursive -l {a}", "!at ./s ls -jsn", "!at ./s ls zz"],
    ),
    ("cat", &["at ./s cat {a}:hello", "!at ./s cat {a}:nothing"]),
    ("restore", &["at ./s restore -to ./out {a}", "!at ./s restore -to ./none {a}:nothing"]),
    ("archive", &["at ./s archive -output x.tar {a}", "!at ./s archive -output x.tar {a}"]),
    (
        "info",
        &[
            "at ./s info",
            "at ./s info {a}",
            "at ./s info {a}:hello",
            "at ./s info {a}:link",
            "at ./s info {a}:/",
            "!at ./s info {a}:nothing",
            "at ./e -keyfile key info",
        ],
    ),
    ("locate", &["at ./s locate hello"]),
    ("find", &["at ./s find -name link"]),
    ("diff", &["at ./s diff {a} {b}", "at ./s diff -recursive {a} {b}", "at ./s diff {a}:hello {b}:hello"]),
    ("digest", &["at ./s digest {a}"]),
    ("sync", &["at ./s sync to ./t", "at ./s sync to ./t"]),
    ("ptar", &["ptar -plaintext -o x.ptar -k ./s", "ptar -plaintext -o y.ptar src"]),
    ("dup", &["at ./s dup {a}"]),
    ("rm", &["at ./s rm latest", "at ./s rm -apply latest"]),
    ("prune", &["at ./s prune -per-day 1", "at ./s prune -per-day 50 -apply"]),
    ("policy", &["policy add weekly per-week=1", "policy show", "policy list", "policy rm weekly"]),
    ("maintenance", &["at ./s maintenance", "at ./s maintenance -apply"]),
    ("repair", &["at ./s repair"]),
    (
        "key",
        &[
            "-keyfile key at ./e key list",
            "-keyfile key at ./e key add -recovery",
            "-keyfile key at ./e key add -label two -new-keyfile key2",
            "-keyfile key at ./e key rm two",
            "!at ./s key list",
        ],
    ),
    (
        "store",
        &[
            "store add n ./s",
            "store set n passphrase=x",
            "store show",
            "store default",
            "store default n",
            "store default",
            "store check n",
            "store ping n",
            "store unset n passphrase",
            "!store show nothing",
        ],
    ),
    ("source", &["source add n ./src", "source show", "source rm n"]),
    ("destination", &["destination add n ./out", "destination show n", "destination rm n"]),
    ("config", &["config", "config store create m", "config store set m location ./s"]),
    ("pkg", &["pkg list", "pkg add s3", "pkg rm s3", "!pkg rm notion"]),
    ("completions", &["completions bash", "completions man pages"]),
    ("help", &["help", "help backup", "help s3", "help json", "!help bakcup"]),
    ("version", &["version"]),
    ("check", &["at ./s check", "at ./s check {a}", "!at ./damaged check"]),
    // These run until they are ended: what they say then is looked at below.
    ("mount", &["!at ./s mount"]),
    ("server", &["!at ./s server -listen nowhere:nothing"]),
    ("ui", &["!at ./s ui -addr nowhere:nothing"]),
];

fn user() -> User {
    let user = User::in_memory();
    let src = user.home().join("src");
    std::fs::create_dir(&src).unwrap();
    std::fs::write(src.join("hello"), "hello\n").unwrap();
    std::fs::write(src.join("image"), [0xff, 0, 1]).unwrap();
    std::os::unix::fs::symlink("hello", src.join("link")).unwrap();
    for name in ["key", "key2"] {
        std::fs::write(user.home().join(name), "five random words are good\n").unwrap();
    }
    user.ok("-keyfile key at ./e create");
    user.ok("at ./damaged create -plaintext");
    let noise = user.home().join("noise");
    std::fs::create_dir(&noise).unwrap();
    std::fs::write(noise.join("file"), crate::engine::noise(100_000)).unwrap();
    user.ok("at ./damaged backup noise");
    // The middle of the largest packfile is the middle of that file.
    let largest =
        packfiles(user.home().join("damaged")).into_iter().max_by_key(|file| file.metadata().unwrap().len());
    let largest = largest.unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    user
}

/// What members were seen in the objects of one type, how often, and of which types.
#[derive(Default)]
struct Shape {
    count: usize,
    members: BTreeMap<String, (usize, BTreeSet<String>)>,
}

fn type_of(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(items) => {
            let kinds: BTreeSet<String> = items.iter().map(type_of).collect();
            format!("[{}]", kinds.into_iter().collect::<Vec<_>>().join("|"))
        }
        Value::Object(map) => {
            let keys: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}: {}", type_of(value))).collect();
            format!("{{{}}}", keys.join(", "))
        }
    }
}

/// Maps whose keys are data: names of options, kinds of errors.
const MAPS: [&str; 2] = ["options", "error_kinds"];

impl Shape {
    fn see(&mut self, object: &serde_json::Map<String, Value>) {
        self.count += 1;
        for (key, value) in object.iter().filter(|(key, _)| *key != "type") {
            let (count, types) = self.members.entry(key.clone()).or_default();
            *count += 1;
            let kind = if MAPS.contains(&key.as_str()) { "map".to_owned() } else { type_of(value) };
            types.insert(kind);
        }
    }

    fn spell(&self) -> String {
        let members = self.members.iter().map(|(key, (count, types))| {
            let mut types = types.clone();
            // An empty list says nothing where another is not empty.
            if types.len() > 1 {
                types.remove("[]");
            }
            let optional = if *count < self.count { "?" } else { "" };
            format!("{key}{optional}: {}", types.into_iter().collect::<Vec<_>>().join("|"))
        });
        members.collect::<Vec<_>>().join(", ")
    }
}

/// Returns the members that the document names for a type, or for the summary of a command.
fn documented(kind: &str, command: &str) -> Option<BTreeSet<String>> {
    let heads = if kind == "summary" { format!("| `{command}` |") } else { format!("| `{kind}` |") };
    let (shapes, summaries) = DOCUMENT.split_once("\n| command |").expect("two tables");
    let table = if kind == "summary" { summaries } else { shapes };
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with(&heads)).collect();
    let words = |row: &&str| {
        let cells = row.splitn(3, '|').nth(2).unwrap_or_default().to_owned();
        cells.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    (!rows.is_empty()).then(|| rows.iter().flat_map(words).collect())
}

/// Looks at what a line printed: whether it is documented, and what it looks like.
fn see(stdout: &str, line: &str, command: &str, shapes: &mut BTreeMap<String, Shape>) {
    for text in stdout.lines() {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{line}: {text}"));
        let object = value.as_object().unwrap_or_else(|| panic!("{line}: {text}"));
        assert!(text.starts_with("{\"type\":\""), "{line}: type comes first: {text}");
        let kind = object["type"].as_str().unwrap();
        let of = object.get("command").and_then(Value::as_str);
        let known = documented(kind, of.unwrap_or_default());
        let known = known.unwrap_or_else(|| panic!("{line}: {kind} is not in json.md: {text}"));
        for key in object.keys().filter(|key| *key != "type") {
            assert!(known.contains(key), "{line}: {kind} has no {key} in json.md: {text}");
        }
        if FLEETING.contains(&kind) {
            continue;
        }
        let name = match of {
            Some(of) if kind == "summary" && of != command => format!("summary of {of}"),
            _ => kind.to_owned(),
        };
        shapes.entry(name).or_default().see(object);
    }
}

fn spelt(command: &str, shapes: &BTreeMap<String, Shape>) -> String {
    let mut out = format!("{command}\n");
    for (kind, shape) in shapes {
        writeln!(out, "  {kind}: {}", shape.spell()).unwrap();
    }
    out
}

#[test]
fn every_command_speaks_json_as_it_is_written_down() {
    let user = user();
    let help: Value = serde_json::from_str(&user.ok("-json help")).unwrap();
    let commands: Vec<&str> =
        help["commands"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    let mut snapshots: Vec<String> = Vec::new();
    let mut out = String::new();
    for (command, lines) in SCENES {
        if !commands.contains(command) {
            assert!(["mount", "server", "ui"].contains(command), "there is no command {command}");
            continue;
        }
        let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
        for line in *lines {
            let (line, fails) = line.strip_prefix('!').map_or((*line, false), |line| (line, true));
            let at = |n: usize| snapshots.get(n).cloned().unwrap_or_default();
            let ran = user.run(&format!("{} -json", line.replace("{a}", &at(0)).replace("{b}", &at(1))));
            assert_eq!(ran.code != 0, fails, "{line}: {ran:?}");
            assert!(!ran.stdout.is_empty(), "{line} says nothing: {ran:?}");
            see(&ran.stdout, line, command, &mut shapes);
            if *command == "backup" {
                let committed = json(&ran.stdout).into_iter().filter(|one| one["type"] == "committed");
                snapshots.extend(committed.map(|one| one["snapshot"].as_str().unwrap().to_owned()));
            }
            if line.ends_with("-check src") {
                // Something has to differ for 'diff'; what is younger than a clock's tick is read again.
                std::fs::write(user.home().join("src/hello"), "hello you\n").unwrap();
                std::fs::write(user.home().join("src/image"), [0xfe, 0, 1]).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
        out += &spelt(command, &shapes);
    }
    for command in commands {
        assert!(
            SCENES.iter().any(|(scene, _)| *scene == command),
            "the command {command} has no scene: add what it prints with -json here and to src/ui/json.md"
        );
    }
    insta::assert_snapshot!("json_shapes", out);
}

/// Runs what ends only when told to; `meanwhile` is given the first object. Returns all that was printed; nothing where
/// the system does not allow it.
fn running(user: &User, line: &str, meanwhile: impl FnOnce(&Value)) -> Option<String> {
    let mut command = user.command(line.split_whitespace());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    stdout.read_line(&mut text).unwrap();
    let first = json(&text).remove(0);
    if first["type"] == "error" {
        assert!(first["message"].as_str().unwrap().contains("(FUSE)"), "{text}");
        println!("not run: the shapes of mount: {}", first["message"]);
        child.wait().unwrap();
        return None;
    }
    meanwhile(&first);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    stdout.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    Some(text)
}

#[test]
fn a_server_speaks_json_until_its_end() {
    let user = user();
    user.ok("at ./s create -plaintext");
    let mut shapes = BTreeMap::new();
    for line in ["-json at ./s server -listen 0", "-json at ./s server -listen 0 -allow-write"] {
        let said = running(&user, line, |first| {
            user.ok(&format!("at {} ls", first["url"].as_str().unwrap()));
        });
        let said = said.unwrap();
        assert_eq!(json(&said).last().unwrap()["type"], "summary", "{said}");
        see(&said, line, "server", &mut shapes);
    }
    insta::assert_snapshot!("json_shapes_server", spelt("server", &shapes));
}

#[cfg(target_os = "linux")]
#[test]
fn a_mount_speaks_json_until_its_end() {
    let user = user();
    std::fs::create_dir(user.home().join("mnt")).unwrap();
    let place = user.home().canonicalize().unwrap().join("noise");
    let line = format!("-json at ./damaged mount -to mnt latest:{}", place.display());
    let said = running(&user, &line, |_| {
        assert!(std::fs::read(user.home().join("mnt/file")).is_err(), "it is damaged");
    });
    let Some(said) = said else { return };
    assert_eq!(json(&said).last().unwrap()["type"], "summary", "{said}");
    let mut shapes = BTreeMap::new();
    see(&said, &line, "mount", &mut shapes);
    insta::assert_snapshot!("json_shapes_mount", spelt("mount", &shapes));
}

#[test]
fn what_makes_no_sense_is_told_as_json_too() {
    let user = User::new();
    for line in [
        "-json",
        "-json bakcup",
        "ls -json -jsn",
        "at -json",
        "ls --json=true -jsn",
        "-json help bakcup",
        "-json restore -to",
        "-json -memory lots ls",
        "-json at x",
        "-json cat",
        "-json completions csh",
    ] {
        let ran = user.run(line);
        let last = ran.stdout.lines().last().unwrap_or_else(|| panic!("{line}: {ran:?}"));
        let value: Value = serde_json::from_str(last).unwrap();
        assert_eq!(ran.code, 64, "{line}: {ran:?}");
        if value["type"] == "error" {
            assert_eq!(value["exit_code"], 64, "{line}: {ran:?}");
            assert!(value["causes"].is_array() && value["message"].is_string(), "{line}");
        } else {
            assert_eq!((line, value["type"].as_str()), ("-json", Some("help")));
        }
    }
    // The word alone is no flag.
    assert_eq!(user.run("ls json -jsn").stdout, "");
    assert_eq!(user.run("ls -json=false -jsn").stdout, "");
    assert_eq!(user.run("ls -jsn -- -json").stdout, "");
}
