//! What can be set of a place: tables of the options that its connector checks, for help and manual pages.

use serde::Serialize;

use crate::connectors::{Kind, Role, Spec, option_groups};

/// A table of options.
pub(super) struct Table {
    /// What stands above it.
    pub(super) title: String,
    /// Each option with the form of its value, and what it does.
    pub(super) rows: Vec<(String, String)>,
}

impl Table {
    fn new(title: String, specs: &[Spec]) -> Self {
        let row = |spec: &Spec| (format!("{}={}", spec.name, spec.form.placeholder()), spec.about.to_owned());
        Self { title, rows: specs.iter().map(row).collect() }
    }
}

/// An option, for programs.
#[derive(Serialize)]
pub(super) struct Listed {
    role: &'static str,
    /// None of an option that each entry has.
    connectors: Vec<&'static str>,
    name: &'static str,
    form: String,
    about: &'static str,
}

/// Returns the options of the places that a command configures.
pub(super) fn of_command(name: &str) -> Vec<Table> {
    let Some(role) = Role::ALL.into_iter().find(|role| role.noun() == name) else { return Vec::new() };
    let table = |(kinds, specs): (Vec<Kind>, Vec<Spec>)| {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.scheme()).collect();
        let of = if names.is_empty() { format!("every {name}") } else { names.join(", ") };
        Table::new(format!("Options of {of}"), &specs)
    };
    option_groups(role).into_iter().map(table).collect()
}

/// Returns the options of a connector, those that it has in some of its roles only apart.
pub(super) fn of_kind(kind: Kind) -> Vec<Table> {
    let roles = roles(kind);
    let mut tables: Vec<(bool, Vec<Role>, Vec<Spec>)> = Vec::new();
    let groups = |role| option_groups(role).into_iter().map(move |group| (role, group));
    let mut all: Vec<(bool, Spec, Vec<Role>)> = Vec::new();
    for (role, (kinds, specs)) in roles.iter().copied().flat_map(groups) {
        if !kinds.is_empty() && !kinds.contains(&kind) {
            continue;
        }
        for spec in specs {
            match all.iter_mut().find(|(_, known, _)| known.name == spec.name) {
                Some((_, _, of)) => of.push(role),
                None => all.push((kinds.is_empty(), spec, vec![role])),
            }
        }
    }
    for (every, spec, of) in all {
        match tables.iter_mut().find(|table| (table.0, &table.1) == (every, &of)) {
            Some(table) => table.2.push(spec),
            None => tables.push((every, of, vec![spec])),
        }
    }
    // What is peculiar to the connector comes first.
    tables.sort_by_key(|(every, of, _)| (*every, std::cmp::Reverse(of.len())));
    let titled = |(every, of, specs): (bool, Vec<Role>, Vec<Spec>)| {
        let nouns: Vec<String> = of.iter().map(|role| format!("a {}", role.noun())).collect();
        let role =
            if of.len() == roles.len() { String::new() } else { format!(" as {}", nouns.join(" or ")) };
        let what = if every { "every connector" } else { kind.scheme() };
        Table::new(format!("Options of {what}{role}"), &specs)
    };
    tables.into_iter().map(titled).collect()
}

/// Returns the options of the places that a command configures, or of a connector, for programs.
pub(super) fn listed(name: &str, kind: Option<Kind>) -> Vec<Listed> {
    let wanted = |role: Role| role.noun() == name || kind.is_some_and(|kind| kind.serves(role));
    let mut all = Vec::new();
    for role in Role::ALL.into_iter().filter(|role| wanted(*role)) {
        for (kinds, specs) in option_groups(role) {
            if kind.is_some_and(|kind| !kinds.is_empty() && !kinds.contains(&kind)) {
                continue;
            }
            all.extend(specs.iter().map(|spec| Listed {
                role: role.noun(),
                connectors: kinds.iter().map(|kind| kind.scheme()).collect(),
                name: spec.name,
                form: spec.form.to_string(),
                about: spec.about,
            }));
        }
    }
    all
}

/// Returns the roles that a connector can have.
fn roles(kind: Kind) -> Vec<Role> {
    Role::ALL.into_iter().filter(|role| kind.serves(*role)).collect()
}

/// Says what a connector is for, and what its locations look like.
pub(super) fn describe(kind: Kind) -> String {
    let what = match kind {
        Kind::Fs => "a folder of this machine: a path, or fs:PATH",
        Kind::S3 => {
            "a bucket, or a prefix in one: s3://HOST[:PORT]/BUCKET[/PREFIX]; with the option endpoint, and of AWS, \
             s3://BUCKET[/PREFIX]"
        }
        Kind::Sftp => "a folder over SSH: sftp://[USER@]HOST[:PORT]/PATH; /~/PATH begins at the user's home",
        Kind::Ftp => "a folder over FTP: ftp://[USER@]HOST[:PORT]/PATH, or ftps://",
        Kind::Http => "a store that 'plakar server' serves: http://HOST[:PORT]",
        Kind::Https => "a store that 'plakar server' serves: https://HOST[:PORT]",
        Kind::Sqlite => "a store in one SQLite file: sqlite:PATH",
        Kind::Ptar => "an archive in a file: a path that ends in .ptar, or ptar:PATH",
        Kind::PtarHttp => "an archive on a web server: ptar+http://HOST/PATH",
        Kind::PtarHttps => "an archive on a web server: ptar+https://HOST/PATH",
        Kind::Stdin => "one file that comes by standard input: stdin:NAME",
        Kind::Stdout => "one file that goes to standard output: stdout:",
        Kind::Tar => "the members of a tar file, also compressed: tar:FILE, or tar:- for standard input",
    };
    let nouns: Vec<&str> = roles(kind).into_iter().map(Role::noun).collect();
    let run = match (nouns.contains(&"source"), nouns.contains(&"destination")) {
        (true, true) => ", or for one run with -o OPTION=VALUE of backup and restore",
        (true, false) => ", or for one run with -o OPTION=VALUE of backup",
        (false, true) => ", or for one run with -o OPTION=VALUE of restore",
        (false, false) => "",
    };
    format!(
        "{}: {what}. It can be a {}. Options are set with 'plakar {} set NAME OPTION=VALUE'{run}.",
        kind.scheme(),
        nouns.join(", a "),
        nouns.join("|"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tables: &[Table]) -> Vec<&str> {
        let rows = tables.iter().flat_map(|table| &table.rows);
        rows.map(|(option, _)| option.split('=').next().unwrap()).collect()
    }

    #[test]
    fn every_option_that_is_checked_is_told_once() {
        for role in Role::ALL {
            let told = of_command(role.noun());
            for kind in Kind::ALL.into_iter().filter(|kind| kind.serves(role)) {
                let of_kind = names(&of_kind(kind)).into_iter().map(str::to_owned).collect::<Vec<_>>();
                for spec in crate::connectors::known(Some(kind), role) {
                    assert!(names(&told).contains(&spec.name), "{role:?} {}", spec.name);
                    assert_eq!(
                        of_kind.iter().filter(|name| *name == spec.name).count(),
                        1,
                        "{kind:?} {}",
                        spec.name
                    );
                }
            }
            for table in &told {
                let mut names = names(std::slice::from_ref(table));
                let count = names.len();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), count, "{}", table.title);
            }
        }
        assert!(of_command("backup").is_empty() && listed("backup", None).is_empty());
    }

    #[test]
    fn what_only_some_roles_have_stands_apart() {
        let titles: Vec<String> = of_kind(Kind::S3).into_iter().map(|table| table.title).collect();
        assert_eq!(
            titles,
            [
                "Options of s3",
                "Options of s3 as a source or a destination",
                "Options of every connector",
                "Options of every connector as a source"
            ]
        );
    }
}
