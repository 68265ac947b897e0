//! What the verbs do.

use std::path::{Path, PathBuf};

use super::super::error::{CommandError, Exit};
use super::super::places::{entry_location, unknown};
use super::action::Action;
use super::file::{Configuration, ConfigurationError};
use super::import::{self, Import};
use super::show;
use crate::base::{Cancel, Printable};
use crate::connectors::{Kind, Limits, Notices, OptionError, Options, Role, known, validate};
use crate::ui::Output;

/// What the verbs need to know besides their words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    /// The configuration folder.
    pub(crate) folder: &'a Path,
    /// The user's home folder, which `~/` stands for.
    pub(crate) home: Option<&'a Path>,
    /// Whether secrets are shown.
    pub(crate) secrets: bool,
    /// Where and how to import.
    pub(crate) import: &'a Import,
    /// Where rclone keeps its configuration, the likeliest place first.
    pub(crate) rclone_files: &'a [PathBuf],
    /// Ends waiting.
    pub(crate) cancel: &'a Cancel,
    /// Where results go.
    pub(crate) output: &'a Output,
}

/// Carries out an action on the entries of some roles.
pub(crate) fn perform(roles: &[Role], action: Action, around: Surroundings<'_>) -> Result<(), CommandError> {
    let Surroundings { folder, home, output, .. } = around;
    match action {
        Action::Show(names) => {
            let all = load(folder, output)?;
            show::show(&all, roles, &names, around.secrets, output)
        }
        Action::Default(None) => {
            let all = load(folder, output)?;
            if let Some(name) = &all.default {
                output.line(Printable::new(name))?;
            } else {
                output.notice("no store is the default; plakar store default NAME sets it");
            }
            Ok(())
        }
        Action::Check(name) => check(&load(folder, output)?, roles, &name, home, output),
        Action::Ping(name) => ping(&load(folder, output)?, roles, &name, home, output),
        Action::Import(sections) => import::import(roles, &sections, around),
        Action::Add { name, pairs, bare } => {
            change(folder, roles, output, |all| add(all, roles, &name, &pairs, bare, home))
        }
        Action::Set(name, pairs) => change(folder, roles, output, |all| set(all, roles, &name, &pairs, home)),
        Action::Unset(name, keys) => change(folder, roles, output, |all| unset(all, roles, &name, &keys)),
        Action::Remove(names) => change(folder, roles, output, |all| remove(all, roles, &names)),
        Action::Default(Some(name)) => change(folder, roles, output, |all| {
            let Some(options) = all.entries(Role::Store).get(&name) else {
                return Err(unlisted(&name, Role::Store, all));
            };
            if options.get("location").is_none() {
                return Err(CommandError::usage(format!("the store @{name} has no location yet"))
                    .hint(format!("plakar store set {name} location=LOCATION")));
            }
            all.default = Some(name);
            Ok(())
        }),
    }
}

fn load(folder: &Path, output: &Output) -> Result<Configuration, CommandError> {
    let all = Configuration::load(folder)?;
    all.notices.iter().for_each(|notice| output.warn(notice));
    Ok(all)
}

/// Edits under the lock and writes the files of all roles, which are those that may have changed.
fn change(
    folder: &Path,
    roles: &[Role],
    output: &Output,
    edit: impl FnOnce(&mut Configuration) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    Configuration::edit(folder, |all| {
        all.notices.iter().for_each(|notice| output.warn(notice));
        edit(all)?;
        Ok(((), roles.to_vec()))
    })
}

fn add(
    all: &mut Configuration,
    roles: &[Role],
    name: &str,
    pairs: &[(String, String)],
    bare: bool,
    home: Option<&Path>,
) -> Result<(), CommandError> {
    for &role in roles {
        if all.entries(role).contains_key(name) {
            let noun = role.noun();
            return Err(CommandError::usage(format!("there is a {noun} called @{name} already")).hint(
                format!(
                    "change it: plakar {noun} set {name} KEY=VALUE; or remove it: plakar {noun} rm {name}"
                ),
            ));
        }
    }
    for &role in roles {
        let mut options = Options::new();
        assign(&mut options, roles, role, pairs, home)?;
        if !bare && options.get("location").is_none() {
            return Err(CommandError::usage("the location is empty"));
        }
        all.entries_mut(role).insert(name.to_owned(), options);
    }
    Ok(())
}

fn set(
    all: &mut Configuration,
    roles: &[Role],
    name: &str,
    pairs: &[(String, String)],
    home: Option<&Path>,
) -> Result<(), CommandError> {
    for role in having(all, roles, name)? {
        let mut options = all.entries(role)[name].clone();
        assign(&mut options, roles, role, pairs, home)?;
        all.entries_mut(role).insert(name.to_owned(), options);
    }
    Ok(())
}

fn unset(all: &mut Configuration, roles: &[Role], name: &str, keys: &[String]) -> Result<(), CommandError> {
    let having = having(all, roles, name)?;
    for key in keys {
        let mut found = false;
        for &role in &having {
            found |= all.entries_mut(role).get_mut(name).is_some_and(|options| options.unset(key));
        }
        if !found {
            return Err(CommandError::usage(format!("@{name} has no option {key}")));
        }
    }
    Ok(())
}

fn remove(all: &mut Configuration, roles: &[Role], names: &[String]) -> Result<(), CommandError> {
    for name in names {
        for role in having(all, roles, name)? {
            all.entries_mut(role).remove(name);
        }
        if roles.contains(&Role::Store) && all.default.as_ref() == Some(name) {
            all.default = None;
        }
    }
    Ok(())
}

/// Builds the error of a name that the configuration does not have. It ends alike for stores and all else: a name was
/// looked for, and no store.
pub(super) fn unlisted(name: &str, role: Role, all: &Configuration) -> CommandError {
    unknown(name, role, all).with_exit(Exit::Usage)
}

/// Returns those of the roles that have an entry of this name; having none is an error.
fn having(all: &Configuration, roles: &[Role], name: &str) -> Result<Vec<Role>, CommandError> {
    let having: Vec<Role> =
        roles.iter().copied().filter(|&role| all.entries(role).contains_key(name)).collect();
    if having.is_empty() { Err(unlisted(name, roles[0], all)) } else { Ok(having) }
}

/// Sets options and checks the whole entry. `together` are the roles set by the same command: an option that only
/// another of them knows is left out here.
pub(super) fn assign(
    options: &mut Options,
    together: &[Role],
    role: Role,
    pairs: &[(String, String)],
    home: Option<&Path>,
) -> Result<(), CommandError> {
    for (key, value) in pairs {
        options.set(key, value);
    }
    let kind = kind_of(options, role, home)?;
    for (key, _) in pairs {
        let knows = |role| known(kind, role).iter().any(|spec| spec.name == key);
        if !knows(role) && together.iter().any(|&other| knows(other)) {
            options.unset(key);
        }
    }
    // What stood there before is not this command's business: a wrong option must not keep another from being set.
    let new: Options = options
        .iter()
        .filter(|(name, _)| pairs.iter().any(|(key, _)| key == name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    validate(&new, kind, role)?;
    if pairs.iter().any(|(key, _)| key == "location")
        && let Some(location) = entry_location(options, role, home)?
        && location.path().is_some_and(Path::is_relative)
        && let Ok(absolute) = location.absolute()
        && let Some(absolute) = absolute.spelling().to_str()
    {
        // A relative path would mean another place from every folder.
        options.set("location", absolute);
    }
    Ok(())
}

/// Returns the connector that options are for, as far as they say.
fn kind_of(options: &Options, role: Role, home: Option<&Path>) -> Result<Option<Kind>, CommandError> {
    if let Some(location) = entry_location(options, role, home)? {
        return Ok(Some(location.kind()));
    }
    let Some(kind) = options.get("type") else { return Ok(None) };
    if let Some(kind) = Kind::from_scheme(kind) {
        return Ok(Some(kind));
    }
    let form = crate::connectors::Form::Kind;
    Err(OptionError::BadValue { name: "type".into(), value: kind.to_owned(), form }.into())
}

fn check(
    all: &Configuration,
    roles: &[Role],
    name: &str,
    home: Option<&Path>,
    output: &Output,
) -> Result<(), CommandError> {
    for role in having(all, roles, name)? {
        let alias = std::ffi::OsString::from(format!("@{name}"));
        let place = super::super::places::find(&alias, role, all, home)?;
        output.notice(format!("the {} {place} is configured properly", role.noun()));
    }
    Ok(())
}

fn ping(
    all: &Configuration,
    roles: &[Role],
    name: &str,
    home: Option<&Path>,
    output: &Output,
) -> Result<(), CommandError> {
    let warned = output.clone();
    let notices = Notices::new(move |text| warned.warn(text));
    let limits = Limits { notices, ..Limits::default() };
    for role in having(all, roles, name)? {
        let alias = std::ffi::OsString::from(format!("@{name}"));
        let place = super::super::places::find(&alias, role, all, home)?;
        let answer = crate::connectors::ping(&place.location, &place.options, role, &limits)?;
        output.notice(format!("the {} {place} {answer}", role.noun()));
    }
    Ok(())
}

impl From<ConfigurationError> for CommandError {
    fn from(error: ConfigurationError) -> Self {
        match error {
            ConfigurationError::Path(error) => error.into(),
            ConfigurationError::Version { .. } => {
                Self::new(Exit::Version, error.to_string()).hint("a newer plakar wrote it; use that one")
            }
            ConfigurationError::Invalid { .. } | ConfigurationError::NoFolder => {
                Self::new(Exit::Usage, error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::action::{parse_config, parse_role};
    use super::*;
    use crate::ui::Loudness;

    struct Shell {
        folder: tempfile::TempDir,
        output: Output,
        import: Import,
    }

    impl Shell {
        fn new() -> Self {
            let output = Output::to(std::io::sink(), std::io::sink(), Loudness::Normal, false, false);
            Self { folder: tempfile::tempdir().unwrap(), output, import: Import::default() }
        }

        fn run(&self, line: &str) -> Result<(), CommandError> {
            let words: Vec<_> = line.split_whitespace().map(std::ffi::OsString::from).collect();
            let (roles, action) = match line.split_whitespace().next() {
                Some("config") => parse_config(&words[1..])?,
                Some("store") => (vec![Role::Store], parse_role(Role::Store, &words[1..])?),
                Some("source") => (vec![Role::Source], parse_role(Role::Source, &words[1..])?),
                _ => unreachable!(),
            };
            let around = Surroundings {
                folder: self.folder.path(),
                home: Some(Path::new("/home/me")),
                secrets: false,
                import: &self.import,
                rclone_files: &[],
                cancel: &Cancel::new(),
                output: &self.output,
            };
            perform(&roles, action, around)
        }

        fn told(&self, line: &str) -> String {
            let told = self.run(line).unwrap_err().report().unwrap();
            format!("{} | {}", told.message, told.hint.unwrap_or_default())
        }

        fn file(&self, name: &str) -> String {
            std::fs::read_to_string(self.folder.path().join(name)).unwrap()
        }
    }

    #[test]
    fn three_generations_write_the_same_files() {
        let written = |lines: &[&str]| {
            let shell = Shell::new();
            for line in lines {
                shell.run(line).unwrap();
            }
            shell.file("stores.yml")
        };
        let first = written(&[
            "config repository create s",
            "config repository set s location s3://h/b",
            "config repository set s access_key A",
            "config repository set s use_tls false",
        ]);
        let second = written(&[
            "config store create s",
            "config store set s uri s3://h/b",
            "config store set s access_key A",
            "config store set s use_tls false",
        ]);
        let third = written(&["store add s s3://h/b access_key=A use_tls=false"]);
        assert_eq!(first, second);
        assert_eq!(first, third);
        assert_eq!(
            first,
            "version: v1.0.0\nstores:\n  s:\n    access_key: A\n    location: s3://h/b\n    use_tls: 'false'\n"
        );
    }

    #[test]
    fn a_remote_is_a_source_and_a_destination() {
        let shell = Shell::new();
        shell.run("config remote create r").unwrap();
        shell.run("config remote set r location s3://h/b").unwrap();
        shell.run("config remote set r environment prod").unwrap();
        assert!(shell.file("sources.yml").contains("environment: prod"));
        assert!(!shell.file("destinations.yml").contains("environment"));
        assert!(shell.file("destinations.yml").contains("location: s3://h/b"));
        shell.run("source rm r").unwrap();
        shell.run("config remote set r access_key A").unwrap();
        assert!(shell.file("destinations.yml").contains("access_key: A"));
    }

    #[test]
    fn mistakes_say_what_to_type_and_change_nothing() {
        let shell = Shell::new();
        shell.run("store add s s3://h/b").unwrap();
        let before = shell.file("stores.yml");
        assert!(shell.told("store add s /x").contains("| change it: plakar store set s KEY=VALUE"));
        assert!(shell.told("store set t a=b").contains("plakar store add t LOCATION"));
        assert!(
            shell
                .told("store set s acces_key=b")
                .contains("| did you mean access_key? known options are location")
        );
        assert!(shell.told("store set s use_tls=maybe").contains("use_tls is true or false, not maybe"));
        assert!(shell.told("store set s location=gopher://h").contains("unknown location scheme"));
        assert!(shell.told("store set s type=sftp").contains("type is sftp but the location is s3://h/b"));
        assert!(shell.told("store unset s colour").contains("has no option colour"));
        assert!(shell.told("store add f ftp://h/x").contains("ftp locations cannot be used as a store"));
        assert!(shell.told("config store default t").contains("no store is called @t"));
        assert_eq!(shell.file("stores.yml"), before);
    }

    #[test]
    fn defaults_come_and_go() {
        let shell = Shell::new();
        shell.run("config repository create s").unwrap();
        assert!(shell.told("config repository default s").contains("has no location"));
        shell.run("config repository set s location /srv/s").unwrap();
        shell.run("config repository default s").unwrap();
        assert!(shell.file("stores.yml").contains("default: s\n"));
        shell.run("store rm s").unwrap();
        assert!(!shell.file("stores.yml").contains("default"));
    }

    #[test]
    fn relative_paths_become_absolute() {
        let shell = Shell::new();
        shell.run("store add s ./x").unwrap();
        let here = std::env::current_dir().unwrap();
        assert!(shell.file("stores.yml").contains(&format!("location: {}/x\n", here.display())));
        shell.run("store add q sqlite:x.db").unwrap();
        assert!(shell.file("stores.yml").contains(&format!("location: sqlite:{}/x.db\n", here.display())));
        shell.run("store add h ~/x").unwrap();
        assert!(shell.file("stores.yml").contains("location: ~/x\n"));
    }

    #[test]
    fn a_wrong_option_does_not_lock_an_entry() {
        let shell = Shell::new();
        let text = "version: v1.0.0\nstores:\n  s:\n    location: s3://h/b\n    colour: red\n";
        std::fs::write(shell.folder.path().join("stores.yml"), text).unwrap();
        shell.run("store set s access_key=A").unwrap();
        assert!(shell.told("store check s").contains("has no option colour"));
        shell.run("store unset s colour").unwrap();
        shell.run("store check s").unwrap();
    }
}
