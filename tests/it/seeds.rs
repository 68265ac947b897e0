//! The commands printed in the documents that users follow, run as they are printed, by a shell.
//!
//! `tests/data/documents.txt` holds the commands of five documents, one a line behind the document's number; where the
//! documents themselves are at hand (`../shared/seeds`), a test asserts that the file holds all of their commands.
//! What a reader has to put in is put in: keys, ids, places of the machine, and the server (ours, without TLS).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::cli::{Ran, User};
use crate::s3server::{ACCESS_KEY, Object, S3Server, SECRET_KEY};

const COMMANDS: &str = include_str!("../data/documents.txt");

/// Returns the commands of a document: lines that begin with `plakar`, prompt and margin aside, with those that a
/// backslash continues; and those in the text between backticks, where some of the words may stand before the first.
fn commands(document: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = false;
    for line in document.lines() {
        let text = line.trim().trim_start_matches("$ ");
        if open {
            let last = found.last_mut().expect("a command is open");
            last.push(' ');
            last.push_str(text);
        } else if text.starts_with("plakar ") {
            found.push(text.to_owned());
        } else {
            found.extend(in_text(text));
            continue;
        }
        let last = found.last_mut().expect("a command was found");
        open = last.ends_with('\\');
        if open {
            last.pop();
            let length = last.trim_end().len();
            last.truncate(length);
        }
    }
    found
}

/// Returns the commands in a line of text.
fn in_text(line: &str) -> impl Iterator<Item = String> {
    let parts: Vec<&str> = line.split('`').collect();
    let command = |pair: &[&str]| {
        let (before, code) = (pair[0].trim_end(), pair[1].trim());
        let begun = ["plakar at", "plakar"].into_iter().find(|words| before.ends_with(words));
        match begun {
            _ if code.starts_with("plakar ") => Some(code.to_owned()),
            Some(begun) => Some(format!("{begun} {code}")),
            None => None,
        }
    };
    // Code stands in every second part, and only if the last part is not code that never ends.
    let whole = parts.len() / 2 * 2;
    parts[..whole].chunks(2).filter_map(command).collect::<Vec<_>>().into_iter()
}

#[test]
fn commands_are_found_wherever_they_stand() {
    let document = "# Title\n\n```bash\n  $ plakar a \\\n    b \\\n    c\nplakar d  # why\n```\n\
        Use plakar `e <x>` and `plakar f`, see `plakar`; check with plakar at `@g verify`. Not `other` or `cp x`.\n\
        * View: `plakar config`\nplakar/v1\n";
    let wanted = [
        "plakar a b c",
        "plakar d  # why",
        "plakar e <x>",
        "plakar f",
        "plakar at @g verify",
        "plakar config",
    ];
    assert_eq!(commands(document), wanted);
}

/// Returns the kept commands by document.
fn kept() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut kept: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in COMMANDS.lines() {
        let (document, command) = line.split_once('\t').expect("number, tab, command");
        kept.entry(document).or_default().push(command);
    }
    kept
}

#[test]
fn the_kept_commands_are_those_of_the_documents() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/seeds");
    let Ok(files) = fs::read_dir(&folder) else {
        assert!(kept().values().all(|commands| !commands.is_empty()));
        println!("not run: the documents are not at {}", folder.display());
        return;
    };
    let mut found = BTreeMap::new();
    for file in files.map(|file| file.unwrap().path()) {
        let number = file.file_name().unwrap().to_str().unwrap()[..3].to_owned();
        let commands = commands(&fs::read_to_string(&file).unwrap());
        if !commands.is_empty() {
            found.insert(number, commands);
        }
    }
    let kept: BTreeMap<String, Vec<String>> = kept()
        .into_iter()
        .map(|(number, commands)| (number.to_owned(), commands.into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(kept, found);
}

/// A reader of a document: a home, a server, and what to put in.
struct Reader {
    user: User,
    server: S3Server,
    /// The store that was named last, to take snapshot ids from.
    store: String,
    /// How many names were made up.
    names: usize,
}

impl Reader {
    fn new() -> Self {
        let server = S3Server::new();
        for bucket in
            ["source", "kloset", "target", "my-source-bucket", "my-restore-bucket", "my-plakar-kloset"]
        {
            server.make_bucket(bucket);
        }
        for bucket in ["source", "my-source-bucket"] {
            server.insert(
                bucket,
                "path/to/file",
                Object::new("content\n").header("content-type", "text/plain"),
            );
            server.insert(bucket, "photo", Object::new("pixels").header("x-amz-meta-camera", "old"));
        }
        let mut user = User::new();
        user.set("PLAKAR_PASSPHRASE", "five random words are good");
        // Where a document names a bucket alone, and so AWS, this takes the place of AWS.
        user.set("AWS_ENDPOINT_URL_S3", &format!("http://{}", server.authority()));
        user.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
        user.set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let program = Path::new(env!("CARGO_BIN_EXE_plakar")).parent().unwrap();
        user.set("PATH", &format!("{}:/usr/bin:/bin", program.display()));
        for folder in ["etc", "var/www"] {
            fs::create_dir_all(user.home().join(folder)).unwrap();
            fs::write(user.home().join(folder).join("index.html"), "<p>hello</p>\n").unwrap();
        }
        Self { user, server, store: String::new(), names: 0 }
    }

    /// Puts in what the reader has to put in.
    fn fill(&mut self, command: &str) -> String {
        let bucket = |name: &str| match name {
            name if name.contains("dst") || name.contains("restore") => "target",
            name if name.contains("store") => "kloset",
            _ => "source",
        };
        let authority = self.server.authority();
        let home = self.user.home().to_str().unwrap().to_owned();
        let mut filled = command
            .replace("s3.nl-ams.scw.cloud/myscw-bucket", &format!("{authority}/{}", bucket(command)))
            .replace("<S3_ENDPOINT>/<BUCKET_NAME>", &format!("{authority}/{}", bucket(command)))
            .replace("use_tls=true", "use_tls=false")
            .replace("<YOUR_ENCRYPTION_PASSPHRASE>", "five random words are good")
            .replace("/path/to/local/restore", &format!("{home}/local"))
            .replace("/var/backups", &format!("{home}/var/backups"))
            .replace("/var/www", &format!("{home}/var/www"))
            .replace(" /etc", &format!(" {home}/etc"));
        for key in ["<SCW_ACCESS_KEY_ID>", "<your-access-key>", "<YOUR_ACCESS_KEY_ID>"] {
            filled = filled.replace(key, ACCESS_KEY);
        }
        for key in ["<SCW_SECRET_KEY>", "<your-secret-key>", "<YOUR_SECRET_ACCESS_KEY>"] {
            filled = filled.replace(key, SECRET_KEY);
        }
        self.names += usize::from(filled.contains(" create <name>"));
        let name = format!("any{}", self.names);
        for (word, value) in [
            ("<name>", &*name),
            ("<option>", "storage_class"),
            ("<value>", "STANDARD"),
            ("<store>", "@mystore"),
        ] {
            filled = filled.replace(word, value);
        }
        if let Some(store) = filled.strip_prefix("plakar at ").and_then(|rest| rest.split(' ').next()) {
            self.store = store.trim_matches('"').to_owned();
        }
        for id in ["<snapshot_id>", "<snapshot-id>"] {
            if filled.contains(id) {
                filled = filled.replace(id, &self.snapshot());
            }
        }
        filled
    }

    /// Returns the id of the newest snapshot that holds `path/to/file`.
    fn snapshot(&self) -> String {
        let ran = self.user.run(&format!("-json at {} ls", self.store));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let lines = ran.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut of_buckets = lines.filter(|line| line["sources"][0]["kind"] == "s3");
        of_buckets.next_back().expect("a snapshot of a bucket")["id"].as_str().unwrap().to_owned()
    }

    fn shell(&mut self, command: &str) -> Ran {
        let filled = self.fill(command);
        let mut shell = std::process::Command::new("sh");
        shell.env_clear().env("HOME", self.user.home()).envs(self.user.variables());
        shell.args(["-c", &filled]).current_dir(self.user.home()).stdin(Stdio::null());
        Ran::from(shell.output().unwrap())
    }

    fn works(&mut self, command: &str) -> Ran {
        let ran = self.shell(command);
        assert_eq!(ran.code, 0, "{command}: {}", ran.stderr);
        ran
    }
}

/// Runs the commands of a document in order; `before` prepares what the document takes for granted.
fn follow(document: &str, reader: &mut Reader, mut before: impl FnMut(&mut Reader, &str)) {
    for command in &kept()[document] {
        before(reader, command);
        let ran = reader.shell(command);
        if command.ends_with(" ui") {
            assert!(ran.code == 1 && ran.stderr.contains("not available yet"), "{command}: {ran:?}");
        } else if *command == "plakar at @scw_store" {
            // The text tells of a beginning, not of a command.
            assert!(ran.code == 64 && ran.stderr.contains("no command was given"), "{command}: {ran:?}");
        } else {
            assert_eq!(ran.code, 0, "{command}: {}", ran.stderr);
        }
    }
}

#[test]
fn the_document_of_scaleway() {
    let mut reader = Reader::new();
    let (address, home) = (reader.server.authority(), reader.user.home().to_str().unwrap().to_owned());
    reader.works(&format!(
        "plakar source add myconnector s3://{address}/source access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false"
    ));
    reader.works(&format!("plakar store add mystore {home}/mystore"));
    reader.works("plakar at @mystore create");
    follow("000", &mut reader, |_, _| {});
    assert_eq!(reader.server.keys("target"), reader.server.keys("source"));
    let photo = reader.server.object("target", "photo").unwrap();
    assert_eq!(photo.get("x-amz-meta-camera").as_deref(), Some("old"));
}

#[test]
fn the_document_of_s3_for_1_0_3() {
    let mut reader = Reader::new();
    let address = reader.server.authority();
    reader.works(&format!(
        "plakar destination add another-s3-compatible s3://{address}/target access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false"
    ));
    // The document uses a store before it tells how one is made; then it is about another of the same name.
    reader.works("plakar store add mystore ./first");
    reader.works("plakar at @mystore create");
    follow("002", &mut reader, |reader, command| {
        if command.ends_with("config store create mystore") {
            reader.works("plakar store rm mystore");
        }
        if command.contains("cat <snapshot-id>") {
            reader.works("plakar at @mystore backup @mys3");
        }
    });
    assert_eq!(reader.server.keys("my-restore-bucket"), reader.server.keys("my-source-bucket"));
    assert_eq!(reader.server.keys("target"), reader.server.keys("my-source-bucket"));
    assert_eq!(fs::read_to_string(reader.user.home().join("local/path/to/file")).unwrap(), "content\n");
}

/// Follows one of the two documents of the integration's newer versions.
fn newer(document: &str) {
    let mut reader = Reader::new();
    reader.works("plakar at /var/backups create");
    let mut added = false;
    follow(document, &mut reader, |reader, command| {
        // A second spelling of the same source: for a reader who has not typed the first.
        if command.contains("source add my-s3-bucket") && std::mem::replace(&mut added, true) {
            reader.works("plakar source rm my-s3-bucket");
        }
    });
    assert_eq!(reader.server.keys("target"), reader.server.keys("source"));
    assert!(!reader.server.keys("kloset").is_empty());
}

#[test]
fn the_documents_of_s3_for_newer_versions() {
    newer("003");
}

#[test]
fn the_documents_of_s3_as_published() {
    newer("004");
}
