//! The shape of the source tree, held to its table: floors, sizes, what `mod.rs` files hold, lints.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors: a folder of `src`, and the folders it may import from besides itself.
///
/// Within floor 0 everything stands on `base`; within floor 1 `store` stands on the traits of `connector`.
const FLOORS: [(&str, &[&str]); 12] = [
    ("base", &[]),
    ("codec", &["base"]),
    ("crypto", &["base"]),
    ("format", &["base"]),
    ("connector", &["base", "codec", "crypto", "format"]),
    ("store", &["base", "codec", "crypto", "format", "connector"]),
    ("snapshot", &["base", "codec", "crypto", "format", "connector", "store"]),
    ("connectors", &["base", "codec", "crypto", "format", "connector", "store", "snapshot"]),
    ("ui", &["base", "codec", "crypto", "format", "connector", "store", "snapshot", "connectors"]),
    ("web", &["base", "codec", "crypto", "format", "connector", "store", "snapshot", "connectors", "ui"]),
    ("mount", &["base", "codec", "crypto", "format", "connector", "store", "snapshot"]),
    (
        "cli",
        &[
            "base",
            "codec",
            "crypto",
            "format",
            "connector",
            "store",
            "snapshot",
            "connectors",
            "ui",
            "web",
            "mount",
        ],
    ),
];

/// The connectors, none of which may reach into another.
const CONNECTORS: [&str; 10] =
    ["fs", "ftp", "http", "memory", "ptar", "s3", "sftp", "sqlite", "stdio", "tar"];

/// The folder beside them that several of them stand on.
const SHARED: [&str; 2] = ["place", "tree"];

/// The most lines a file may have, its tests not counted.
const MOST_LINES: usize = 800;

/// One file of `src`.
struct Source {
    /// Its path below `src`.
    path: PathBuf,
    /// The modules that lead to it: `store`, `catalogue`, `load`.
    module: Vec<String>,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.module.iter().any(|name| name == "tests")
    }

    fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8")
    }

    /// Returns the file without comments and without the strings that could look like paths or comments.
    fn code(&self) -> String {
        without_comments(&self.text)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, src: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, src, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(src).unwrap().to_owned();
                let mut module: Vec<String> =
                    below.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
                    module.pop();
                }
                found.push(Source { path: below, module, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    let src = root().join("src");
    let mut found = Vec::new();
    walk(&src, &src, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 100, "the tree was found");
    found
}

/// Takes line comments away, and empties strings, so that what is left is code.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut characters = line.chars().peekable();
        let mut quoted = false;
        while let Some(character) = characters.next() {
            match character {
                '\\' if quoted => drop(characters.next()),
                '\'' if !quoted && characters.peek() == Some(&'"') => drop(characters.next()),
                '"' => quoted = !quoted,
                '/' if !quoted && characters.peek() == Some(&'/') => break,
                _ if quoted => {}
                _ => out.push(character),
            }
        }
        out.push('\n');
    }
    out
}

/// Returns the paths that start with `crate::` or `super::`, resolved against the module they stand in, as lists
/// of the first two names below the crate. `{…}` after a prefix gives one path for each member.
fn imports(source: &Source) -> Vec<Vec<String>> {
    let code = source.code();
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            // `super::super::x` is met once, at its first word; `$crate` and `my_crate` are others.
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
                continue;
            }
            // A module inside the file makes one `super` lead to the file itself.
            let nested = code[..at].lines().last().is_some_and(|line| line.starts_with("    "))
                && code[..at].contains("\nmod ");
            let mut base = if start == "crate::" { Vec::new() } else { source.module.clone() };
            if nested && start == "super::" {
                base.push("inner".to_owned());
            }
            let mut rest = &code[at..];
            loop {
                if let Some(after) = rest.strip_prefix("crate::") {
                    rest = after;
                } else if let Some(after) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = after;
                } else {
                    break;
                }
            }
            for tail in heads(rest) {
                found.push(base.iter().cloned().chain(tail).take(2).collect());
            }
        }
    }
    found
}

/// Returns the first names of a path, or of each member of a group.
fn heads(rest: &str) -> Vec<Vec<String>> {
    let names = |text: &str| -> Vec<String> {
        text.split("::")
            .map(|part| {
                part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
            })
            .take_while(|name| !name.is_empty())
            .take(2)
            .collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(rest.len());
        return vec![names(&rest[..end])];
    };
    let (mut depth, mut member, mut members) = (0, String::new(), Vec::new());
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            ',' if depth == 0 => members.push(std::mem::take(&mut member)),
            _ => {
                depth += i32::from(character == '{') - i32::from(character == '}');
                member.push(character);
            }
        }
    }
    members.push(member);
    members.iter().map(|member| names(member)).collect()
}

/// Returns what a file imports that its floor does not allow.
fn trespasses(source: &Source) -> Vec<String> {
    let own = source.module.first().map_or("", String::as_str);
    // `lib.rs` and `main.rs` are above all floors.
    let Some((_, allowed)) = FLOORS.iter().find(|(floor, _)| *floor == own) else { return Vec::new() };
    let own_connector = (own == "connectors").then(|| source.module.get(1)).flatten();
    let mut wrong = BTreeSet::new();
    for path in imports(source) {
        let Some(to) = path.first() else { continue };
        if to != own && !allowed.contains(&to.as_str()) {
            wrong.insert(format!("{} imports {}", source.path.display(), path.join("::")));
        }
        let connector = |name: &&String| CONNECTORS.contains(&name.as_str());
        if let (Some(from), Some(into)) = (own_connector.filter(connector), path.get(1).filter(connector))
            && to == "connectors"
            && from != into
        {
            wrong.insert(format!("{} reaches into connectors::{into}", source.path.display()));
        }
    }
    wrong.into_iter().collect()
}

#[test]
fn a_floor_imports_only_from_below() {
    let wrong: Vec<String> = sources().iter().flat_map(trespasses).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_scan_finds_what_it_looks_for() {
    let file = |module: &[&str], text: &str| Source {
        path: module.iter().collect::<PathBuf>().with_extension("rs"),
        module: module.iter().map(|name| (*name).to_owned()).collect(),
        text: text.to_owned(),
    };
    let count = |module: &[&str], text: &str| trespasses(&file(module, text)).len();
    assert_eq!(count(&["store", "writer"], "use crate::snapshot::list;\n"), 1);
    assert_eq!(count(&["store", "writer"], "use crate::{base::Id, snapshot::{a, b}, cli};\n"), 2);
    assert_eq!(count(&["store", "writer"], "fn f() -> crate::ui::Progress {\n"), 1);
    assert_eq!(count(&["store", "a", "b"], "use super::super::super::cli::run;\n"), 1);
    assert_eq!(count(&["store", "a", "b"], "use super::super::cli::run;\n"), 0);
    assert_eq!(count(&["format", "a"], "use crate::crypto::Mac;\n"), 1);
    assert_eq!(count(&["format", "a"], "// crate::crypto::Mac\nlet s = \"crate::cli\";\n"), 0);
    assert_eq!(count(&["connectors", "fs", "store"], "use super::super::s3::S3Store;\n"), 1);
    assert_eq!(count(&["connectors", "registry"], "use super::s3::S3Store;\n"), 0);
}

#[test]
fn every_folder_of_the_source_has_a_floor() {
    let folders: BTreeSet<String> =
        sources().iter().filter_map(|source| source.module.first().cloned()).collect();
    let floors: BTreeSet<String> = FLOORS.iter().map(|(floor, _)| (*floor).to_owned()).collect();
    assert_eq!(folders, floors);
    let connectors: BTreeSet<String> = sources()
        .into_iter()
        .filter(|source| source.module.first().is_some_and(|name| name == "connectors"))
        .filter(|source| source.path.components().count() > 2)
        .map(|source| source.module[1].clone())
        .filter(|name| !SHARED.contains(&name.as_str()))
        .collect();
    assert_eq!(connectors, CONNECTORS.map(str::to_owned).into());
}

#[test]
fn the_lower_floors_do_not_print_nor_read_the_environment() {
    let mut wrong = Vec::new();
    for source in sources() {
        let floor = source.module.first().map_or("", String::as_str);
        if source.is_test() || matches!(floor, "cli" | "ui" | "connectors" | "") {
            continue;
        }
        let code = source.code();
        let code = code.split("#[cfg(test)]").next().unwrap();
        for word in ["env::var", "process::exit", "println!", "eprintln!", "io::stdin", "io::stdout"] {
            // Windows keeps the names of the machine and of the user there.
            let told_there = word == "env::var" && source.path.ends_with("base/sys.rs");
            if code.contains(word) && !told_there {
                wrong.push(format!("{}: {word}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_is_too_long() {
    for source in sources() {
        if source.is_test() {
            continue;
        }
        let lines = source.text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", source.path.display());
    }
}

#[test]
fn mod_files_hold_only_docs_modules_and_reexports() {
    for source in sources().iter().filter(|source| matches!(source.file_name(), "mod.rs" | "lib.rs")) {
        let code = source.code();
        let mut rest = code.trim();
        while !rest.is_empty() {
            let end = if rest.starts_with('#') { rest.find(']') } else { rest.find(';') };
            let (item, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            let words: Vec<&str> = item.split_whitespace().collect();
            let words: Vec<&str> = words.into_iter().skip_while(|word| word.starts_with("pub")).collect();
            // `pub(in super::super)` is two words more.
            let words: Vec<&str> =
                words.into_iter().skip_while(|word| word.ends_with(')') && !word.contains('{')).collect();
            let first = words.first().copied().unwrap_or_default();
            let fits = matches!(first, "mod" | "use") || first.starts_with("#[") || first.starts_with("#![");
            assert!(fits && !(first == "mod" && item.contains('{')), "{}: {item}", source.path.display());
            rest = after.trim_start();
        }
    }
}

#[test]
fn the_lints_stand_in_the_manifest() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = |name: &str| {
        let (_, after) = manifest.split_once(&format!("[lints.{name}]\n")).expect("the section");
        after.split("\n[").next().unwrap().to_owned()
    };
    let (rust, rustdoc, clippy) = (section("rust"), section("rustdoc"), section("clippy"));
    for lint in ["unsafe_code", "missing_docs", "unreachable_pub", "missing_debug_implementations"] {
        assert!(rust.contains(&format!("{lint} = \"deny\"\n")), "{lint}");
    }
    assert!(rust.contains("rust_2018_idioms = { level = \"deny\""));
    assert!(rustdoc.contains("broken_intra_doc_links = \"deny\""));
    assert!(clippy.contains("pedantic = { level = \"deny\""));
    for lint in [
        "unwrap_used",
        "dbg_macro",
        "print_stdout",
        "print_stderr",
        "exit",
        "host_endian_bytes",
        "big_endian_bytes",
        "cast_possible_truncation",
        "undocumented_unsafe_blocks",
        "allow_attributes_without_reason",
    ] {
        assert!(clippy.contains(&format!("{lint} = \"deny\"\n")), "{lint}");
    }
}

#[test]
fn unsafe_code_stands_behind_one_door() {
    let doors: Vec<String> = sources()
        .iter()
        .filter(|source| source.code().contains("unsafe {") || source.code().contains("unsafe fn"))
        .map(|source| source.path.display().to_string())
        .collect();
    assert_eq!(doors, ["base/mmap.rs"]);
}

/// The methods that stand between one line and the next line that is only a closing brace.
fn methods_after(text: &str, head: &str) -> BTreeSet<String> {
    let from = text.find(head).unwrap_or_else(|| panic!("{head} is not there"));
    let block = &text[from..from + text[from..].find("\n}").unwrap()];
    let methods = block.lines().filter_map(|line| line.strip_prefix("    fn "));
    methods.map(|line| line.split(['(', '<']).next().unwrap().to_owned()).collect()
}

/// A method that a decorator does not pass on answers with its default, whatever is decorated: nothing else would tell.
#[test]
fn decorators_of_storage_pass_every_method_on() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let all = methods_after(&read("src/connector/storage.rs"), "pub trait Storage");
    assert!(all.len() > 15 && all.contains("take_notes"), "{all:?}");
    for (path, head) in [
        ("src/cli/trace.rs", "impl Storage for Traced {"),
        ("src/connectors/memory/faulty.rs", "impl<S: Storage> Storage for Faulty<S> {"),
    ] {
        let passed = methods_after(&read(path), head);
        let forgotten: Vec<&String> = all.difference(&passed).collect();
        assert!(forgotten.is_empty(), "{path} does not pass on {forgotten:?}");
    }
}
