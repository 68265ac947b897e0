//! Taking entries from a file or standard input: YAML, JSON (which is YAML) or INI.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::PathBuf;

use clap::Args;

use super::super::error::CommandError;
use super::action::name;
use super::edit::{Surroundings, assign};
use super::file::{Configuration, Entries, Wrong, parse};
use crate::base::{At as _, Printable};
use crate::connectors::{Options, Role};

/// The most that is read, in bytes.
const MOST: u64 = 4 << 20;
/// Options that run programs: who writes the file chooses what runs here.
const RUNNING: [&str; 2] = ["passphrase_cmd", "credential_process"];

/// The flags of `import`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Import {
    /// import: read from the file PATH instead of standard input
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// import: replace entries of the same name
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// import: keep passphrase_cmd and credential_process, which run programs
    #[arg(long)]
    pub(crate) allow_commands: bool,
}

/// Imports sections (`name` or `name:newname`; all when none is given). Either all of them are taken or none.
pub(super) fn import(
    roles: &[Role],
    sections: &[String],
    around: Surroundings<'_>,
) -> Result<(), CommandError> {
    let text = read(around.import)?;
    let found = understand(&text, roles[0]).map_err(|wrong| {
        CommandError::usage(wrong.at(around.import.config.as_deref().unwrap_or("-".as_ref())).to_string())
    })?;
    let chosen = choose(found, sections)?;
    let output = around.output;
    Configuration::edit(around.folder, |all| {
        all.notices.iter().for_each(|notice| output.warn(notice));
        for (name, options) in &chosen {
            for &role in roles {
                if all.entries(role).contains_key(name) && !around.import.overwrite {
                    return Err(CommandError::usage(format!(
                        "there is a {} called @{name} already",
                        role.noun()
                    ))
                    .hint("-overwrite replaces it; SECTION:NEWNAME takes it under another name"));
                }
                let mut taken = Options::new();
                let mut pairs = Vec::new();
                for (key, value) in options.iter() {
                    if RUNNING.contains(&key) && !around.import.allow_commands {
                        output.warn(format!(
                            "left out {key} of @{name}, which runs a program; -allow-commands keeps it"
                        ));
                    } else {
                        pairs.push((key.to_owned(), value.to_owned()));
                    }
                }
                assign(&mut taken, roles, role, &pairs, around.home)?;
                all.entries_mut(role).insert(name.clone(), taken);
            }
        }
        Ok(((), roles.to_vec()))
    })?;
    output.notice(format!(
        "imported {}",
        crate::ui::units::counted(chosen.len() as u64, "entry").replace("entrys", "entries")
    ));
    Ok(())
}

fn read(import: &Import) -> Result<String, CommandError> {
    let Some(path) = &import.config else {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(CommandError::usage("nothing to import: standard input is a terminal")
                .hint("give a file with -config PATH, or pipe one in"));
        }
        return bounded(stdin.lock(), "-".into());
    };
    if path.to_str().is_some_and(|text| text.contains("://")) {
        return Err(CommandError::usage("importing from a URL is not available yet")
            .hint("fetch it, look at it, then import the file"));
    }
    bounded(File::open(path).at("open", path)?, path.clone())
}

fn bounded(input: impl Read, path: PathBuf) -> Result<String, CommandError> {
    let mut text = String::new();
    input.take(MOST + 1).read_to_string(&mut text).at("read", &path)?;
    if text.len() as u64 > MOST {
        return Err(CommandError::usage(format!("{} is larger than 4 MiB", Printable::os(&path))));
    }
    Ok(text)
}

fn understand(text: &str, role: Role) -> Result<Entries, Wrong> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    if first.is_some_and(|line| line.starts_with('[') && line.ends_with(']')) {
        return ini(text);
    }
    parse(text, role).map(|(entries, _, _)| entries)
}

fn ini(text: &str) -> Result<Entries, Wrong> {
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

fn choose(mut found: Entries, sections: &[String]) -> Result<Vec<(String, Options)>, CommandError> {
    if sections.is_empty() {
        return found.into_iter().map(|(section, options)| Ok((name(&section)?, options))).collect();
    }
    let take = |section: &String| {
        let (from, to) = section.split_once(':').unwrap_or((section, section));
        let options = found.remove(from).ok_or_else(|| {
            CommandError::usage(format!("there is no section {} to import", Printable::new(from)))
        })?;
        Ok((name(to)?, options))
    };
    sections.iter().map(take).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ui::{Loudness, Output};

    fn run(folder: &Path, text: &str, overwrite: bool, sections: &[&str]) -> Result<(), CommandError> {
        let file = folder.join("input");
        std::fs::write(&file, text).unwrap();
        let import_flags = Import { config: Some(file), overwrite, allow_commands: false };
        let output = Output::to(io::sink(), io::sink(), Loudness::Normal, false, false);
        let around =
            Surroundings { folder, home: None, secrets: false, import: &import_flags, output: &output };
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
}
