//! From what people call a place (`@name`, a path, a URL) to its location and options.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

use super::configuration::Configuration;
use super::error::{CommandError, Exit};
use super::suggest;
use crate::base::{Printable, sys};
use crate::connectors::{Kind, Location, LocationError, Options, Role, validate};

/// A place, ready to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Where it is.
    pub(crate) location: Location,
    /// What its configuration says; empty for a bare path or URL.
    pub(crate) options: Options,
    /// The name it goes by in the configuration.
    pub(crate) name: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "@{name} ({})", self.location),
            None => self.location.fmt(f),
        }
    }
}

impl Place {
    /// Returns a place without configuration.
    pub(crate) fn bare(location: Location) -> Self {
        Self { location, options: Options::new(), name: None }
    }
}

/// Finds a place: `@name`, `@name:sub/dir` (or `@name/sub/dir`), or a location. What is below a name is also below the
/// `root` of its options.
pub(crate) fn find(
    text: &OsStr,
    role: Role,
    configuration: &Configuration,
    home: Option<&Path>,
) -> Result<Place, CommandError> {
    let Some(alias) = text.as_encoded_bytes().strip_prefix(b"@") else {
        return Ok(Place::bare(Location::parse(text, role)?));
    };
    // Names hold neither.
    let (name, below) = match alias.iter().position(|&b| b == b':' || b == b'/') {
        Some(at) => (&alias[..at], Some(sys::os_part(&alias[at + 1..]))),
        None => (alias, None),
    };
    let name = String::from_utf8_lossy(name);
    let Some(options) = configuration.entries(role).get(name.as_ref()) else {
        return Err(unknown(&name, role, configuration));
    };
    let mut location = entry_location(options, role, home)?.ok_or_else(|| no_location(&name, role))?;
    validate(options, Some(location.kind()), role).map_err(|error| {
        let told = CommandError::from(error);
        told.hint(format!(
            "the {} @{} is not valid: plakar {} check {}",
            role.noun(),
            Printable::new(name.as_ref()),
            role.noun(),
            Printable::new(name.as_ref())
        ))
    })?;
    let mut options = options.clone();
    if let Some(below) = below.filter(|below| !below.is_empty()) {
        let root = options.get("root").map(|root| root.trim_matches('/').to_owned());
        if let Some(root) = root.filter(|root| !root.is_empty()) {
            location = location.join(OsStr::new(&root))?;
        }
        options.unset("root");
        location = location.join(&below)?;
    }
    Ok(Place { location, options, name: Some(name.into_owned()) })
}

/// Finds the store of a command: `at STORE`, else `PLAKAR_REPOSITORY`, else the configured default, else `~/.plakar`.
pub(crate) fn find_store(
    at: Option<&OsStr>,
    variable: Option<&OsStr>,
    configuration: &Configuration,
    home: Option<&Path>,
) -> Result<Place, CommandError> {
    if let Some(text) = at.or(variable) {
        return find(text, Role::Store, configuration, home);
    }
    if let Some(name) = &configuration.default {
        let mut alias = OsString::from("@");
        alias.push(name);
        return find(&alias, Role::Store, configuration, home);
    }
    match home {
        Some(home) => Ok(Place::bare(Location::fs(home.join(".plakar")))),
        None => {
            Err(CommandError::usage("no store was named, and HOME is not set")
                .hint("plakar at STORE COMMAND"))
        }
    }
}

/// Returns the location that options describe, if any. The `type` stands in for a scheme that the location lacks, and
/// must agree with one that it has.
pub(crate) fn entry_location(
    options: &Options,
    role: Role,
    home: Option<&Path>,
) -> Result<Option<Location>, LocationError> {
    let Some(text) = options.get("location").or_else(|| options.get("uri")) else { return Ok(None) };
    let text = match (text.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below).into_os_string(),
        _ => OsString::from(text),
    };
    let location = Location::parse(&text, role)?;
    let Some(kind) = options.get("type").and_then(Kind::from_scheme) else { return Ok(Some(location)) };
    if kind == location.kind() {
        return Ok(Some(location));
    }
    let schemeless = location.kind() == Kind::Fs && location.spelling() == text;
    if !schemeless {
        return Err(LocationError::WrongType { kind, location: location.to_string() });
    }
    let mut with_scheme =
        OsString::from(format!("{}:{}", kind.scheme(), if kind.is_path() { "" } else { "//" }));
    with_scheme.push(&text);
    Location::parse(&with_scheme, role).map(Some)
}

fn no_location(name: &str, role: Role) -> CommandError {
    let (noun, name) = (role.noun(), Printable::new(name));
    CommandError::usage(format!("the {noun} @{name} has no location"))
        .hint(format!("plakar {noun} set {name} location=LOCATION"))
}

/// Builds the error for a name that is not configured as what it is used for.
pub(crate) fn unknown(name: &str, role: Role, configuration: &Configuration) -> CommandError {
    let noun = role.noun();
    let printable = Printable::new(name);
    let exit = if role == Role::Store { Exit::NoStore } else { Exit::Usage };
    let error = CommandError::new(exit, format!("no {noun} is called @{printable}"));
    let other = Role::ALL.into_iter().find(|other| configuration.entries(*other).contains_key(name));
    if let Some(other) = other {
        return error.hint(format!(
            "@{printable} is a {}; make it a {noun}, too: plakar {noun} add {printable} LOCATION",
            other.noun()
        ));
    }
    match suggest::nearest(name, configuration.entries(role).keys().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean @{}?", Printable::new(near))),
        None => error
            .hint(format!("plakar {noun} add {printable} LOCATION; plakar {noun} show lists what is there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Configuration {
        let mut all = Configuration::default();
        let entry = |pairs: &[(&str, &str)]| -> Options {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let stores = all.entries_mut(Role::Store);
        stores.insert("s".into(), entry(&[("location", "s3://h/b"), ("access_key", "A")]));
        stores.insert("typed".into(), entry(&[("location", "h/b"), ("type", "s3")]));
        stores.insert("torn".into(), entry(&[("location", "sftp://h/b"), ("type", "s3")]));
        stores.insert("rooted".into(), entry(&[("location", "s3://h/b"), ("root", "/q/r/")]));
        stores.insert("bare".into(), entry(&[]));
        stores.insert("home".into(), entry(&[("location", "~/x.ptar")]));
        stores.insert("odd".into(), entry(&[("location", "/x"), ("colour", "red")]));
        all.entries_mut(Role::Source).insert("src".into(), entry(&[("location", "/etc")]));
        all
    }

    fn store(text: &str) -> Result<Place, CommandError> {
        find(OsStr::new(text), Role::Store, &configuration(), Some(Path::new("/home/me")))
    }

    fn told(result: Result<Place, CommandError>) -> String {
        let error = result.unwrap_err();
        let told = error.report().unwrap();
        format!("{} [{}] {}", told.message, error.exit().code(), told.hint.unwrap_or_default())
    }

    #[test]
    fn names_lead_to_locations_and_options() {
        let place = store("@s").unwrap();
        assert_eq!(place.to_string(), "@s (s3://h/b)");
        assert_eq!(place.options.get("access_key"), Some("A"));
        assert_eq!(store("@s:sub/x.ptar").unwrap().location.url(), Some("s3://h/b/sub/x.ptar"));
        assert_eq!(store("@s/sub/x.ptar").unwrap().location.url(), Some("s3://h/b/sub/x.ptar"));
        let rooted = store("@rooted:x.ptar").unwrap();
        assert_eq!((rooted.location.url(), rooted.options.get("root")), (Some("s3://h/b/q/r/x.ptar"), None));
        assert_eq!(store("@rooted").unwrap().options.get("root"), Some("/q/r/"));
        assert_eq!(store("@typed").unwrap().location.url(), Some("s3://h/b"));
        assert_eq!(store("@home").unwrap().location.path(), Some(Path::new("/home/me/x.ptar")));
        assert_eq!(store("./x").unwrap(), Place::bare(Location::fs("./x")));
    }

    #[test]
    fn wrong_names_are_told_apart() {
        assert_eq!(
            told(store("@t")),
            "no store is called @t [66] plakar store add t LOCATION; plakar store show lists what is there"
        );
        assert_eq!(told(store("@hom")), "no store is called @hom [66] did you mean @home?");
        assert!(told(store("@src")).contains("@src is a source; make it a store, too"));
        assert!(
            told(store("@bare")).starts_with("the store @bare has no location [64] plakar store set bare")
        );
        assert!(told(store("@torn")).starts_with("type is s3 but the location is sftp://h/b [64]"));
        assert!(told(store("@odd")).starts_with("a store of type fs has no option colour [64]"));
        assert!(told(store("@s:../x")).contains("must not hold"));
    }

    #[test]
    fn the_store_is_looked_for_in_order() {
        let mut all = configuration();
        let home = Some(Path::new("/home/me"));
        let find = |at: Option<&str>, variable: Option<&str>, all: &Configuration| {
            find_store(at.map(OsStr::new), variable.map(OsStr::new), all, home).unwrap().to_string()
        };
        assert_eq!(find(None, None, &all), "/home/me/.plakar");
        all.default = Some("s".into());
        assert_eq!(find(None, None, &all), "@s (s3://h/b)");
        assert_eq!(find(None, Some("/v"), &all), "/v");
        assert_eq!(find(Some("/a"), Some("/v"), &all), "/a");
    }
}
