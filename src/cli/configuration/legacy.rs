//! Older forms of the configuration: `klosets.yml` and files without a version (a flat map of names, the default
//! marked by `.isDefault`), and `plakar.yml` (everything in one file: `default-repo`, `repositories`, `remotes`).

use std::path::{Path, PathBuf};

use serde_norway::{Mapping, Value};

use super::file::{self, Configuration, ConfigurationError, Entries, Wrong, parse_entries, scalar};
use crate::base::Printable;
use crate::connectors::{Options, Role, parse_bool};

/// Understands a map of names to options in which `.isDefault` marks the default.
pub(super) fn flat(map: &Mapping, role: Role) -> Result<(Entries, Option<String>), Wrong> {
    let nested = ["klosets".to_owned(), format!("{}s", role.noun())];
    let nested = nested.iter().find_map(|key| map.get(key.as_str()).and_then(Value::as_mapping));
    let mut default = map.get("default").and_then(Value::as_str).map(str::to_owned);
    let entries = match nested {
        // A map of maps of maps is the later form with its version left out.
        Some(entries) if entries.values().all(Value::is_mapping) => parse_entries(entries)?,
        _ => {
            let mut entries = map.clone();
            if default.is_some() {
                entries.remove("default");
            }
            parse_entries(&entries)?
        }
    };
    let entries = entries.into_iter().map(|(name, mut options)| {
        if options.get(".isDefault").and_then(parse_bool) == Some(true) {
            default.get_or_insert_with(|| name.clone());
        }
        options.unset(".isDefault");
        (name, cleaned(options))
    });
    let entries = entries.collect();
    Ok((entries, default))
}

/// Reads `klosets.yml` and `plakar.yml` where the current files are missing. Returns which old file filled which roles.
pub(super) fn read(
    folder: &Path,
    all: &mut Configuration,
) -> Result<Vec<(PathBuf, Vec<Role>)>, ConfigurationError> {
    let mut missing: Vec<Role> = Role::ALL.into_iter().filter(|&role| !all.path(role).exists()).collect();
    let mut migrated = Vec::new();
    let path = folder.join("klosets.yml");
    if missing.contains(&Role::Store)
        && let Some(text) = file::read(&path)?
    {
        let parsed = file::parse(&text, Role::Store).map_err(|error| error.at(&path))?;
        *all.entries_mut(Role::Store) = parsed.entries;
        all.default = parsed.default;
        missing.retain(|&role| role != Role::Store);
        migrated.push((path, vec![Role::Store]));
    }
    let path = folder.join("plakar.yml");
    if missing.is_empty() {
        return Ok(migrated);
    }
    let Some(text) = file::read(&path)? else { return Ok(migrated) };
    let one = OneFile::parse(&text).map_err(|error| error.at(&path))?;
    for &role in &missing {
        *all.entries_mut(role) = if role == Role::Store { one.stores.clone() } else { one.remotes.clone() };
        if role == Role::Store {
            all.default.clone_from(&one.default);
        }
    }
    for key in one.unknown {
        let (path, key) = (Printable::os(&path), Printable::new(&key));
        all.notices.push(format!("{path}: {key} is not known and was left out"));
    }
    migrated.push((path, missing));
    Ok(migrated)
}

/// `plakar.yml`.
struct OneFile {
    default: Option<String>,
    stores: Entries,
    remotes: Entries,
    unknown: Vec<String>,
}

impl OneFile {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let map = match serde_norway::from_str::<Value>(text)? {
            Value::Null => Mapping::new(),
            Value::Mapping(map) => map,
            _ => return Err(Wrong::new("it is not a map")),
        };
        let mut one =
            Self { default: None, stores: Entries::new(), remotes: Entries::new(), unknown: Vec::new() };
        for (key, value) in &map {
            match (key.as_str(), value) {
                (Some("default-repo" | "default_repo" | "default"), value) => {
                    one.default = scalar(value).filter(|name| !name.is_empty());
                }
                (Some("repositories"), Value::Mapping(entries)) => one.stores = parse_entries(entries)?,
                (Some("remotes"), Value::Mapping(entries)) => one.remotes = parse_entries(entries)?,
                (_, Value::Null) => {}
                (Some(key @ ("repositories" | "remotes")), _) => {
                    return Err(Wrong::new(format!("{key} is not a map")));
                }
                _ => one.unknown.push(scalar(key).unwrap_or_default()),
            }
        }
        let clean =
            |entries: Entries| entries.into_iter().map(|(name, options)| (name, cleaned(options))).collect();
        one.stores = clean(one.stores);
        one.remotes = clean(one.remotes);
        Ok(one)
    }
}

/// Repairs what old versions stored: `location: location=s3://…`, and the older name of the location.
fn cleaned(mut options: Options) -> Options {
    if let Some(uri) = options.get("uri").map(str::to_owned) {
        if options.get("location").is_none() {
            options.set("location", uri);
        }
        options.unset("uri");
    }
    let location =
        options.get("location").and_then(|location| location.strip_prefix("location=")).map(str::to_owned);
    if let Some(location) = location {
        options.set("location", location);
    }
    options
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn load(files: &[(&str, &str)]) -> (tempfile::TempDir, Configuration) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let loaded = Configuration::load(folder.path()).unwrap();
        (folder, loaded)
    }

    const PLAKAR: &str = "default-repo: b\nrepositories:\n  a:\n    location: /a\n  b:\n    location: /b\nremotes:\n  r:\n    location: s3://h/b\n    use_tls: \"false\"\n";

    #[test]
    fn one_file_becomes_three() {
        let (folder, all) = load(&[("plakar.yml", PLAKAR)]);
        assert_eq!(all.default.as_deref(), Some("b"));
        assert_eq!(all.entries(Role::Store).keys().collect::<Vec<_>>(), ["a", "b"]);
        for role in [Role::Source, Role::Destination] {
            assert_eq!(all.entries(role)["r"].get("use_tls"), Some("false"));
        }
        assert_eq!(all.notices.len(), 1 + usize::from(all.notices[0].contains("others can read")));
        let told = all.notices.last().unwrap();
        assert!(told.contains("plakar.yml to stores.yml, sources.yml, destinations.yml"), "{told}");
        for file in ["stores.yml", "sources.yml", "destinations.yml"] {
            assert!(fs::read_to_string(folder.path().join(file)).unwrap().starts_with("version: v1.0.0\n"));
        }
        // The second time nothing is left to do, and an edit of the old file changes nothing.
        fs::write(folder.path().join("plakar.yml"), "remotes: {}").unwrap();
        let again = Configuration::load(folder.path()).unwrap();
        assert_eq!((again.notices.len(), again.entries(Role::Store).len()), (0, 2));
    }

    #[test]
    fn klosets_come_before_the_one_file() {
        let text = "x:\n    .isDefault: yes\n    location: location=s3://localhost:9000/b\ny:\n    uri: /y\n";
        let (_folder, all) = load(&[("plakar.yml", PLAKAR), ("klosets.yml", text)]);
        assert_eq!(all.default.as_deref(), Some("x"));
        assert_eq!(all.entries(Role::Store)["x"].get("location"), Some("s3://localhost:9000/b"));
        assert_eq!(all.entries(Role::Store)["x"].iter().count(), 1);
        assert_eq!(all.entries(Role::Store)["y"].get("location"), Some("/y"));
        assert!(all.entries(Role::Source).contains_key("r"));
    }

    #[test]
    fn a_nested_map_without_a_version_is_understood() {
        let (_folder, all) = load(&[("klosets.yml", "default: x\nklosets:\n  x:\n    location: /x\n")]);
        assert_eq!(all.default.as_deref(), Some("x"));
        assert_eq!(all.entries(Role::Store).keys().collect::<Vec<_>>(), ["x"]);
        // An entry that happens to be called like the section.
        let (_folder, all) = load(&[("stores.yml", "stores:\n  location: /x\n")]);
        assert_eq!(all.entries(Role::Store)["stores"].get("location"), Some("/x"));
    }

    #[test]
    fn current_files_win() {
        let (_folder, all) = load(&[
            ("plakar.yml", PLAKAR),
            ("stores.yml", "version: v1.0.0\nstores:\n  n:\n    location: /n\n"),
        ]);
        assert_eq!(all.entries(Role::Store).keys().collect::<Vec<_>>(), ["n"]);
        assert_eq!(all.default, None);
        assert!(all.entries(Role::Source).contains_key("r"));
    }
}
