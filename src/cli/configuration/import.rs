//! Taking entries from elsewhere: YAML, JSON (which is YAML), INI, or the configuration of rclone.

use std::path::PathBuf;

use clap::Args;

use super::super::error::CommandError;
use super::action::name;
use super::edit::{Surroundings, assign};
use super::file::{Configuration, Entries, Wrong, parse};
use super::{input, rclone, show};
use crate::base::Printable;
use crate::connectors::{Options, Role};
use crate::ui::units;

/// Options that run programs: who writes the file chooses what runs here.
const RUNNING: [&str; 4] = ["passphrase_cmd", "credential_process", "ssh", "ssh_config"];

/// The flags of `import`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Import {
    /// import: read from a file or an http(s) URL instead of standard input
    #[arg(long, value_name = "FILE|URL")]
    pub(crate) config: Option<PathBuf>,
    /// import: replace entries of the same name
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// import: read rclone's configuration; a remote is named REMOTE:BUCKET/PREFIX [as NAME]
    #[arg(long)]
    pub(crate) rclone: bool,
    /// import: keep passphrase_cmd, credential_process, ssh and ssh_config, which run programs
    #[arg(long)]
    pub(crate) allow_commands: bool,
}

/// What was asked for by name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wanted {
    /// The section or remote.
    from: String,
    /// The path in a remote.
    path: Option<String>,
    /// The name it gets here.
    to: String,
}

/// What is to be written.
#[derive(Debug)]
struct Taken {
    name: String,
    entries: Vec<(Role, Options)>,
    missing: Vec<&'static str>,
}

/// Imports sections (all when none is named; `SECTION:NAME` or `SECTION as NAME` gives another name; `REMOTE:PATH as
/// NAME` of rclone). Either all of them are taken or none; remotes that nobody asked for by name and that cannot be
/// used are left out, saying so.
pub(super) fn import(roles: &[Role], words: &[String], around: Surroundings<'_>) -> Result<(), CommandError> {
    let flags = around.import;
    let wanted = wanted(words, flags.rclone)?;
    let input = input::read(flags, around.rclone_files, around.cancel, around.output)?;
    let taken = if flags.rclone {
        rclone::check(&input.text, &input.from)?;
        let remotes = ini(&input.text).map_err(|wrong| wrong.of(&input.from))?;
        remotes_of(&remotes, roles, &wanted, around)?
    } else {
        let found = understand(&input.text, roles[0]).map_err(|wrong| wrong.of(&input.from))?;
        sections_of(found, roles, wanted, around)?
    };
    if taken.is_empty() {
        return Err(CommandError::failed(format!(
            "nothing was imported from {}",
            Printable::message(&input.from)
        )));
    }
    let all = write(roles, &taken, around)?;
    let names: Vec<String> = taken.iter().map(|entry| entry.name.clone()).collect();
    show::show(&all, roles, &names, around.secrets, around.output)?;
    around.output.notice(format!(
        "imported {}",
        units::counted(taken.len() as u64, "entry").replace("entrys", "entries")
    ));
    for entry in &taken {
        for (role, _) in entry.entries.iter().filter(|_| !entry.missing.is_empty()) {
            let (noun, missing) = (role.noun(), entry.missing.join(" "));
            around.output.notice(format!("still to be set: plakar {noun} set {} {missing}", entry.name));
        }
    }
    Ok(())
}

/// Writes everything at once.
fn write(roles: &[Role], taken: &[Taken], around: Surroundings<'_>) -> Result<Configuration, CommandError> {
    let output = around.output;
    Configuration::edit(around.folder, |all| {
        all.notices.iter().for_each(|notice| output.warn(notice));
        for entry in taken {
            for (role, options) in &entry.entries {
                if all.entries(*role).contains_key(&entry.name) && !around.import.overwrite {
                    let noun = role.noun();
                    let other = if around.import.rclone { "REMOTE as NAME" } else { "SECTION:NAME" };
                    return Err(CommandError::usage(format!(
                        "there is a {noun} called @{} already",
                        entry.name
                    ))
                    .hint(format!("-overwrite replaces it; {other} takes it under another name")));
                }
                all.entries_mut(*role).insert(entry.name.clone(), options.clone());
            }
        }
        Ok((all.clone(), roles.to_vec()))
    })
}

fn sections_of(
    mut found: Entries,
    roles: &[Role],
    wanted: Vec<Wanted>,
    around: Surroundings<'_>,
) -> Result<Vec<Taken>, CommandError> {
    let chosen: Vec<(String, Options)> = if wanted.is_empty() {
        found
            .into_iter()
            .map(|(section, options)| Ok((name(&section)?, options)))
            .collect::<Result<_, CommandError>>()?
    } else {
        let known: Vec<String> = found.keys().cloned().collect();
        let take = |wanted: Wanted| match found.remove(&wanted.from) {
            Some(options) => Ok((wanted.to, options)),
            None => Err(not_there("section", &wanted.from, &known)),
        };
        wanted.into_iter().map(take).collect::<Result<_, _>>()?
    };
    let take = |(name, options): (String, Options)| {
        let mut pairs = Vec::new();
        for (key, value) in options.iter() {
            if RUNNING.contains(&key) && !around.import.allow_commands {
                let text =
                    format!("left out {key} of @{name}, which runs programs; -allow-commands keeps it");
                around.output.warn(text);
            } else {
                pairs.push((key.to_owned(), value.to_owned()));
            }
        }
        let entries = roles.iter().map(|&role| {
            let mut taken = Options::new();
            assign(&mut taken, roles, role, &pairs, around.home)?;
            Ok((role, taken))
        });
        let entries = entries.collect::<Result<_, CommandError>>()?;
        Ok(Taken { name, entries, missing: Vec::new() })
    };
    chosen.into_iter().map(take).collect()
}

fn remotes_of(
    remotes: &Entries,
    roles: &[Role],
    wanted: &[Wanted],
    around: Surroundings<'_>,
) -> Result<Vec<Taken>, CommandError> {
    let mut taken = Vec::new();
    for wanted in wanted {
        if !remotes.contains_key(&wanted.from) {
            let known: Vec<String> = remotes.keys().cloned().collect();
            return Err(not_there("remote", &wanted.from, &known));
        }
        let entry = one_remote(remotes, wanted, roles, around);
        taken.push(entry.map_err(|why| {
            let remote = Printable::new(&wanted.from);
            CommandError::usage(format!("the remote {remote} cannot be imported: {why}"))
        })?);
    }
    if wanted.is_empty() {
        for remote in remotes.keys() {
            let entry = name(remote)
                .map_err(|_| "its name cannot be used here; REMOTE as NAME gives another".to_owned())
                .and_then(|to| {
                    let wanted = Wanted { from: remote.clone(), path: None, to };
                    one_remote(remotes, &wanted, roles, around)
                });
            match entry {
                Ok(entry) => taken.push(entry),
                Err(why) => around.output.warn(format!("left out {}: {why}", Printable::new(remote))),
            }
        }
    }
    Ok(taken)
}

fn one_remote(
    remotes: &Entries,
    wanted: &Wanted,
    roles: &[Role],
    around: Surroundings<'_>,
) -> Result<Taken, String> {
    let mut entry = Taken { name: wanted.to.clone(), entries: Vec::new(), missing: Vec::new() };
    let mut notes = Vec::new();
    for &role in roles {
        let converted = rclone::convert(remotes, &wanted.from, wanted.path.as_deref(), role)?;
        let pairs: Vec<(String, String)> =
            converted.options.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut options = Options::new();
        assign(&mut options, roles, role, &pairs, around.home).map_err(|error| error.to_string())?;
        entry.entries.push((role, options));
        entry.missing = converted.missing;
        notes.extend(converted.notes.into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>());
    }
    for note in notes {
        around.output.warn(format!("@{}: {note}", entry.name));
    }
    Ok(entry)
}

fn not_there(what: &str, asked: &str, known: &[String]) -> CommandError {
    let error = CommandError::usage(format!("there is no {what} {} to import", Printable::new(asked)));
    match super::super::suggest::nearest(asked, known.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean {}?", Printable::new(near))),
        None => error.hint(format!("there are {}", Printable::new(&known.join(", ")))),
    }
}

/// Reads the words after the verb.
fn wanted(words: &[String], rclone: bool) -> Result<Vec<Wanted>, CommandError> {
    let mut all = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let (from, rest) =
            word.split_once(':').map_or((word.as_str(), None), |(from, rest)| (from, Some(rest)));
        let mut to = if rclone { None } else { rest };
        if words.peek().is_some_and(|next| *next == "as") {
            words.next();
            to = Some(words.next().ok_or_else(|| CommandError::usage("'as' needs a name after it"))?);
        }
        let path = rest.filter(|_| rclone).map(str::to_owned);
        let to = name(to.unwrap_or(from))?;
        if all.iter().any(|other: &Wanted| other.to == to) {
            return Err(CommandError::usage(format!("@{to} would be imported twice")));
        }
        all.push(Wanted { from: from.to_owned(), path, to });
    }
    Ok(all)
}

fn understand(text: &str, role: Role) -> Result<Entries, Wrong> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    if first.is_some_and(|line| line.starts_with('[') && line.ends_with(']')) {
        return ini(text);
    }
    parse(text, role).map(|parsed| parsed.entries)
}

pub(super) fn ini(text: &str) -> Result<Entries, Wrong> {
    let mut entries = Entries::new();
    let mut current: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            entries.entry(section.to_owned()).or_default();
            current = Some(section.to_owned());
            continue;
        }
        let (Some((key, value)), Some(section)) = (line.split_once('='), &current) else {
            return Err(Wrong::new(format!("line {} is neither [section] nor key = value", number + 1)));
        };
        let entry = entries.get_mut(section).expect("inserted with its section line");
        entry.set(key.trim(), value.trim());
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::Cancel;
    use crate::ui::{Loudness, Output};

    fn run(folder: &Path, text: &str, overwrite: bool, sections: &[&str]) -> Result<(), CommandError> {
        let file = folder.join("input");
        std::fs::write(&file, text).unwrap();
        let import_flags = Import { config: Some(file), overwrite, ..Import::default() };
        let output = Output::to(std::io::sink(), std::io::sink(), Loudness::Normal, false, false);
        let around = Surroundings {
            folder,
            home: None,
            secrets: false,
            import: &import_flags,
            rclone_files: &[],
            cancel: &Cancel::new(),
            output: &output,
        };
        let sections: Vec<String> = sections.iter().map(|section| (*section).to_owned()).collect();
        import(&[Role::Store], &sections, around)
    }

    #[test]
    fn yaml_json_and_ini_give_the_same() {
        let mut files = Vec::new();
        for text in [
            "a:\n  location: s3://h/b\n  use_tls: false\nb:\n  location: /b\n",
            r#"{"a": {"location": "s3://h/b", "use_tls": false}, "b": {"location": "/b"}}"#,
            "# exported\n[a]\nlocation = s3://h/b\nuse_tls=false\n\n[b]\nlocation=/b\n",
            "version: v1.0.0\nstores:\n  a:\n    location: s3://h/b\n    use_tls: false\n  b:\n    location: /b\n",
        ] {
            let folder = tempfile::tempdir().unwrap();
            run(folder.path(), text, false, &[]).unwrap();
            files.push(std::fs::read_to_string(folder.path().join("stores.yml")).unwrap());
        }
        assert!(files[0].contains("location: s3://h/b"));
        assert!(files.iter().all(|file| *file == files[0]), "{files:?}");
    }

    #[test]
    fn sections_are_chosen_renamed_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let text = "a:\n  location: /a\nb:\n  location: /b\n";
        run(folder.path(), text, false, &["b:c"]).unwrap();
        let all = Configuration::load(folder.path()).unwrap();
        assert_eq!(all.entries(Role::Store).keys().collect::<Vec<_>>(), ["c"]);
        assert!(run(folder.path(), "a:\n  location: /a\nc:\n  location: /x\n", false, &[]).is_err());
        let all = Configuration::load(folder.path()).unwrap();
        assert_eq!(all.entries(Role::Store).len(), 1, "all or none");
        run(folder.path(), "c:\n  location: /x\n", true, &[]).unwrap();
        assert!(run(folder.path(), text, false, &["z"]).is_err());
    }

    #[test]
    fn programs_are_not_imported() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), "a:\n  location: /a\n  passphrase_cmd: rm -rf /\n", false, &[]).unwrap();
        let all = Configuration::load(folder.path()).unwrap();
        assert_eq!(all.entries(Role::Store)["a"].get("passphrase_cmd"), None);
    }

    #[test]
    fn nonsense_is_refused_and_secrets_are_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["[a]\nhunter2\n", "location=/a\n[a]", "a:\n  location: gopher://h\n"] {
            let error = run(folder.path(), text, false, &[]).unwrap_err();
            assert_eq!(error.exit().code(), 64);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn words_name_sections_and_remotes() {
        let words = |text: &str, rclone| {
            wanted(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), rclone)
        };
        let one = |from: &str, path: Option<&str>, to: &str| Wanted {
            from: from.into(),
            path: path.map(str::to_owned),
            to: to.into(),
        };
        assert_eq!(
            words("a b:c d as e", false).unwrap(),
            [one("a", None, "a"), one("b", None, "c"), one("d", None, "e")]
        );
        let remotes = words("scw:bucket/x:y as photos minio:", true).unwrap();
        assert_eq!(remotes, [one("scw", Some("bucket/x:y"), "photos"), one("minio", Some(""), "minio")]);
        assert_eq!(words("as", false).unwrap(), [one("as", None, "as")]);
        for bad in ["a as", "a as b/c", "a b:a", "a/b"] {
            assert!(words(bad, false).is_err(), "{bad}");
        }
    }
}
