//! The verbs of configuration, in the spellings of three generations.

use std::ffi::OsString;

use super::super::error::CommandError;
use super::super::suggest;
use crate::base::Printable;
use crate::connectors::Role;

/// What to do with entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Print entries; all of them when none is named.
    Show(Vec<String>),
    /// Make a new entry.
    Add {
        /// Its name.
        name: String,
        /// Its options, `location` among them unless `bare`.
        pairs: Vec<(String, String)>,
        /// Whether it may do without a location for now (`create`).
        bare: bool,
    },
    /// Change options of an entry.
    Set(String, Vec<(String, String)>),
    /// Remove options of an entry.
    Unset(String, Vec<String>),
    /// Remove entries.
    Remove(Vec<String>),
    /// Name the store that is used without `at`; nothing prints it.
    Default(Option<String>),
    /// Check names and values of an entry.
    Check(String),
    /// Try to reach what an entry names.
    Ping(String),
    /// Take entries from elsewhere; sections to take, all when none is named.
    Import(Vec<String>),
}

const ADD: &str = "NAME LOCATION [KEY=VALUE…]";
const VERBS: [&str; 13] = [
    "add", "create", "set", "unset", "rm", "remove", "show", "list", "default", "check", "validate", "ping",
    "import",
];

/// Reads `config [WHAT VERB …]`: which roles are meant, and what to do. No words mean: show everything.
pub(crate) fn parse_config(words: &[OsString]) -> Result<(Vec<Role>, Action), CommandError> {
    let words = texts(words)?;
    let Some((what, words)) = words.split_first() else {
        return Ok((Role::ALL.to_vec(), Action::Show(Vec::new())));
    };
    let roles = match what.as_str() {
        "repository" | "repo" | "store" | "kloset" => vec![Role::Store],
        "remote" => vec![Role::Source, Role::Destination],
        "source" => vec![Role::Source],
        "destination" => vec![Role::Destination],
        other => {
            let known = ["repository", "store", "remote", "source", "destination"];
            let error = CommandError::usage(format!("'config {}' is not known", Printable::new(other)));
            return Err(match suggest::nearest(other, known) {
                Some(near) => error.hint(format!("did you mean 'config {near}'?")),
                None => error.hint("plakar config (store|source|destination) (create|set|unset|…) NAME …"),
            });
        }
    };
    let action = parse(&roles, words, &format!("config {what}"))?;
    Ok((roles, action))
}

/// Reads `store VERB …`, `source VERB …`, `destination VERB …`. No words mean: show all.
pub(crate) fn parse_role(role: Role, words: &[OsString]) -> Result<Action, CommandError> {
    parse(&[role], &texts(words)?, role.noun())
}

fn texts(words: &[OsString]) -> Result<Vec<String>, CommandError> {
    let text = |word: &OsString| {
        let text = word.to_str().map(str::to_owned);
        text.ok_or_else(|| CommandError::usage(format!("{} is not valid UTF-8", Printable::os(word))))
    };
    words.iter().map(text).collect()
}

fn parse(roles: &[Role], words: &[String], command: &str) -> Result<Action, CommandError> {
    let Some((verb, words)) = words.split_first() else { return Ok(Action::Show(Vec::new())) };
    let usage = |text: &str| CommandError::usage(format!("usage: plakar {command} {verb} {text}"));
    match (verb.as_str(), words) {
        ("show" | "list" | "ls", names) => {
            names.iter().map(|n| name(n)).collect::<Result<_, _>>().map(Action::Show)
        }
        ("add" | "create", [first, rest @ ..]) => {
            let name = name(first)?;
            let bare = verb == "create";
            let pairs = match rest {
                [location, rest @ ..] if pair(location).is_none() => {
                    let mut pairs = vec![("location".to_owned(), location.clone())];
                    pairs.extend(all_pairs(rest)?);
                    pairs
                }
                rest => all_pairs(rest)?,
            };
            if bare || pairs.iter().any(|(key, _)| key == "location") {
                Ok(Action::Add { name, pairs, bare })
            } else {
                Err(usage(ADD))
            }
        }
        ("add", _) => Err(usage(ADD)),
        ("set", [first, key, value]) if pair(key).is_none() => {
            Ok(Action::Set(name(first)?, vec![(key_name(key)?, value.clone())]))
        }
        ("set", [first, rest @ ..]) if !rest.is_empty() => Ok(Action::Set(name(first)?, all_pairs(rest)?)),
        ("set", _) => Err(usage("NAME KEY=VALUE…")),
        ("unset", [first, keys @ ..]) if !keys.is_empty() => {
            let keys = keys.iter().map(|key| key_name(key)).collect::<Result<_, _>>()?;
            Ok(Action::Unset(name(first)?, keys))
        }
        ("unset", _) => Err(usage("NAME KEY…")),
        ("rm" | "remove" | "delete", names) if !names.is_empty() => {
            names.iter().map(|n| name(n)).collect::<Result<_, _>>().map(Action::Remove)
        }
        ("rm" | "remove" | "delete", _) => Err(usage("NAME…")),
        ("default", names) if roles == [Role::Store] && names.len() < 2 => {
            Ok(Action::Default(names.first().map(|n| name(n)).transpose()?))
        }
        ("default", _) => {
            Err(CommandError::usage("only one store can be the default").hint("plakar store default NAME"))
        }
        ("check" | "validate", [first]) => Ok(Action::Check(name(first)?)),
        ("ping", [first]) => Ok(Action::Ping(name(first)?)),
        ("create" | "check" | "validate" | "ping", _) => Err(usage("NAME")),
        ("import", sections) => Ok(Action::Import(sections.to_vec())),
        (other, _) => {
            let error = CommandError::usage(format!("'{command}' has no verb '{}'", Printable::new(other)));
            Err(match suggest::nearest(other, VERBS) {
                Some(near) => error.hint(format!("did you mean 'plakar {command} {near}'?")),
                None => {
                    error.hint("known are add, create, set, unset, rm, show, default, check, ping, import")
                }
            })
        }
    }
}

/// Reads a name; the `@` of its use may stand before it.
pub(super) fn name(text: &str) -> Result<String, CommandError> {
    let name = text.strip_prefix('@').unwrap_or(text);
    let fits = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
        return Err(CommandError::usage(format!("'{}' cannot be a name", Printable::new(text)))
            .hint("names are made of letters, digits, '-', '_', '+' and '.'"));
    }
    Ok(name.to_owned())
}

fn key_name(text: &str) -> Result<String, CommandError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.is_empty() || !text.chars().all(fits) {
        return Err(CommandError::usage(format!("'{}' is not the name of an option", Printable::new(text))));
    }
    Ok(if text == "uri" { "location" } else { text }.to_owned())
}

/// Splits KEY=VALUE; nothing when the text is something else, such as a URL with a query.
fn pair(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    Some((key_name(key).ok()?, value.to_owned()))
}

fn all_pairs(words: &[String]) -> Result<Vec<(String, String)>, CommandError> {
    let read = |word: &String| {
        // The word may be a secret that lost its key: it is not repeated.
        pair(word).ok_or_else(|| {
            CommandError::usage("options are written KEY=VALUE").hint("quote values that hold spaces")
        })
    };
    words.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Result<(Vec<Role>, Action), CommandError> {
        parse_config(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn store(line: &str) -> Result<Action, CommandError> {
        parse_role(Role::Store, &line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn three_spellings_mean_one_thing() {
        let add = |bare| Action::Add { name: "n".into(), pairs: Vec::new(), bare };
        assert_eq!(config("repository create n").unwrap(), (vec![Role::Store], add(true)));
        assert_eq!(config("store create n").unwrap(), (vec![Role::Store], add(true)));
        assert_eq!(config("remote create n").unwrap().0, [Role::Source, Role::Destination]);
        let set = Action::Set("n".into(), pairs(&[("location", "s3://h/b?a=b")]));
        for line in [
            "repository set n location s3://h/b?a=b",
            "store set n uri s3://h/b?a=b",
            "store set n location=s3://h/b?a=b",
        ] {
            assert_eq!(config(line).unwrap(), (vec![Role::Store], set.clone()), "{line}");
        }
        assert_eq!(store("set @n location=s3://h/b?a=b").unwrap(), set);
        let added = Action::Add {
            name: "n".into(),
            pairs: pairs(&[("location", "s3://h/b?a=b"), ("access_key", "x=y"), ("use_tls", "true")]),
            bare: false,
        };
        assert_eq!(store("add n s3://h/b?a=b access_key=x=y use_tls=true").unwrap(), added);
        assert_eq!(store("add n location=s3://h/b?a=b access_key=x=y use_tls=true").unwrap(), added);
        assert_eq!(config("").unwrap(), (Role::ALL.to_vec(), Action::Show(Vec::new())));
        assert_eq!(config("repository default n").unwrap().1, Action::Default(Some("n".into())));
        assert_eq!(config("source validate n").unwrap().1, Action::Check("n".into()));
        assert_eq!(store("unset n a b").unwrap(), Action::Unset("n".into(), vec!["a".into(), "b".into()]));
    }

    #[test]
    fn nonsense_says_what_to_type() {
        let told = |result: Result<_, CommandError>| {
            let told = result.map(|_: Action| ()).unwrap_err().report().unwrap();
            format!("{} {}", told.message, told.hint.unwrap_or_default())
        };
        assert!(told(store("add")).contains("plakar store add NAME LOCATION"));
        assert!(told(store("add n")).contains("plakar store add NAME LOCATION"));
        assert!(told(store("set n")).contains("plakar store set NAME KEY=VALUE"));
        assert!(told(store("sett n a=b")).contains("did you mean 'plakar store set'"));
        assert!(told(store("add a/b /x")).contains("cannot be a name"));
        assert!(told(config("stoer set").map(|(_, action)| action)).contains("did you mean 'config store'"));
        assert!(told(config("source default n").map(|(_, action)| action)).contains("only one store"));
        let secret = told(store("set n passphrase=x hunter2"));
        assert!(secret.contains("KEY=VALUE") && !secret.contains("hunter2"), "{secret}");
    }
}
