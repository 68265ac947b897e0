//! From the remotes of an rclone configuration to entries.
//!
//! The names and meanings of rclone's options are those of its documentation (rclone.org/s3, /sftp, /ftp, /local,
//! /alias; rclone.org/docs, "Configuration encryption"). Remotes name a server, not a bucket: that is given with the
//! remote, `REMOTE:BUCKET/PREFIX`, or set afterwards.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::error::CommandError;
use super::file::Entries;
use crate::base::Printable;
use crate::connectors::{Kind, Location, Options, Role, known, parse_bool};

/// How many aliases may stand for each other.
const ALIASES: usize = 8;
/// What a user name in a URL may hold as it is.
const USER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What would mean something else in the path of a URL.
const PATH: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');
/// Options that both programs have, by their names there and here.
const S3: [(&str, &str); 8] = [
    ("access_key_id", "access_key"),
    ("secret_access_key", "secret_access_key"),
    ("session_token", "session_token"),
    ("profile", "profile"),
    ("region", "region"),
    ("storage_class", "storage_class"),
    ("sse_customer_key", "sse_customer_key"),
    ("sse_customer_key_base64", "sse_customer_key"),
];
/// Options that are understood otherwise, or say how rclone does things of its own.
const SILENT: [&str; 14] = [
    "type",
    "provider",
    "env_auth",
    "endpoint",
    "force_path_style",
    "v2_auth",
    "host",
    "user",
    "port",
    "pass",
    "remote",
    "description",
    "shell_type",
    "md5sum_command",
];
/// Options that hold obscured passwords.
const OBSCURED: [&str; 2] = ["pass", "key_file_pass"];

/// What a remote became.
#[derive(Debug)]
pub(super) struct Converted {
    /// The options of the entry.
    pub(super) options: Options,
    /// What has to be known about it, a sentence each.
    pub(super) notes: Vec<String>,
    /// What is left to do: options to set, as they are typed.
    pub(super) missing: Vec<&'static str>,
}

/// Refuses what is not readable text of rclone.
pub(super) fn check(text: &str, from: &str) -> Result<(), CommandError> {
    let encrypted = text.lines().take(20).any(|line| line.starts_with("RCLONE_ENCRYPT_V"));
    if encrypted {
        return Err(CommandError::usage(format!("{from} is encrypted with a password of rclone"))
            .hint("rclone can open it: rclone config show | plakar source import -rclone -config -"));
    }
    Ok(())
}

/// Converts a remote, and a path in it where one was given, for a role. The error says why it cannot be.
pub(super) fn convert(
    remotes: &Entries,
    name: &str,
    path: Option<&str>,
    role: Role,
) -> Result<Converted, String> {
    let (remote, path) = resolve(remotes, name, path)?;
    let path = path.as_deref();
    match remote.get("type") {
        None if remote.is_empty() => folder(path),
        Some("local") => folder(path),
        Some("s3") => s3(remote, path, role),
        Some("sftp") => server(remote, Kind::Sftp, path, role),
        Some("ftp") if role == Role::Store => Err("an FTP server cannot hold a store".into()),
        Some("ftp") => server(remote, Kind::Ftp, path, role),
        Some(other) => Err(format!("remotes of type {} are not supported", Printable::new(other))),
        None => Err("it has no type".into()),
    }
}

/// Follows aliases to a remote of another type. A path on this machine is an empty remote.
fn resolve<'a>(
    remotes: &'a Entries,
    name: &str,
    path: Option<&str>,
) -> Result<(&'a Options, Option<String>), String> {
    static HERE: std::sync::LazyLock<Options> = std::sync::LazyLock::new(Options::new);
    let (mut name, mut path) = (name.to_owned(), path.map(str::to_owned));
    for _ in 0..ALIASES {
        let remote = remotes
            .get(&name)
            .ok_or_else(|| format!("there is no remote called {}", Printable::new(&name)))?;
        if remote.get("type") != Some("alias") {
            return Ok((remote, path));
        }
        let target = remote.get("remote").ok_or("it is an alias of nothing")?;
        let (next, base) = match target.split_once(':') {
            Some((next, base)) if !next.contains('/') => (Some(next), base),
            _ => (None, target),
        };
        path = match path.filter(|path| !path.is_empty()) {
            Some(below) if base.is_empty() => Some(below),
            Some(below) => Some(format!("{}/{}", base.trim_end_matches('/'), below.trim_start_matches('/'))),
            None => Some(base.to_owned()).filter(|base| !base.is_empty()),
        };
        match next {
            Some(next) => next.clone_into(&mut name),
            None => return Ok((&HERE, path)),
        }
    }
    Err("its aliases stand for each other".into())
}

fn folder(path: Option<&str>) -> Result<Converted, String> {
    let mut options = Options::new();
    let mut missing = Vec::new();
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        let location = Location::fs(path).spelling().into_string();
        options.set("location", location.map_err(|_| "its path is not text")?);
    } else {
        options.set("type", "fs");
        missing.push("location=FOLDER");
    }
    Ok(Converted { options, notes: Vec::new(), missing })
}

fn s3(remote: &Options, path: Option<&str>, role: Role) -> Result<Converted, String> {
    let flag = |name: &str| remote.get(name).and_then(parse_bool);
    if flag("v2_auth") == Some(true) {
        return Err("it signs requests the old way (v2_auth), which is not supported".into());
    }
    let mut options = Options::new();
    let mut notes = Vec::new();
    for (theirs, ours) in S3 {
        if let Some(value) = remote.get(theirs) {
            options.set(ours, value);
        }
    }
    options.set("endpoint", endpoint(remote)?);
    if flag("force_path_style") == Some(false) {
        options.set("virtual_host", "true");
    }
    if remote.get("access_key_id").is_none() && flag("env_auth") != Some(true) {
        notes.push(
            "rclone asks without a key there; here the credentials of the environment or of a profile are used".into(),
        );
    }
    let mut missing = Vec::new();
    if let Some(path) = path.map(|path| path.trim_matches('/')).filter(|path| !path.is_empty()) {
        options.set("location", format!("s3://{path}"));
    } else {
        options.set("type", "s3");
        missing.push("location=s3://BUCKET");
    }
    left_out(remote, &S3.map(|(theirs, _)| theirs), &mut notes);
    unknown_here(&mut options, Kind::S3, role, &mut notes);
    Ok(Converted { options, notes, missing })
}

/// Returns the server of an S3 remote: the one it names, else the one its provider is known for.
fn endpoint(remote: &Options) -> Result<String, String> {
    if let Some(endpoint) = remote.get("endpoint") {
        return Ok(endpoint.to_owned());
    }
    let region = remote.get("region");
    match (remote.get("provider").unwrap_or("AWS"), region) {
        ("AWS", Some(region)) if region.starts_with("cn-") => Ok(format!("s3.{region}.amazonaws.com.cn")),
        ("AWS", Some(region)) => Ok(format!("s3.{region}.amazonaws.com")),
        ("AWS", None) => Ok("s3.amazonaws.com".into()),
        ("Scaleway", Some(region)) => Ok(format!("s3.{region}.scw.cloud")),
        ("Wasabi", Some(region)) => Ok(format!("s3.{region}.wasabisys.com")),
        ("Wasabi", None) => Ok("s3.wasabisys.com".into()),
        (provider, _) => {
            Err(format!("its provider is {} and it names no endpoint", Printable::new(provider)))
        }
    }
}

fn server(remote: &Options, kind: Kind, path: Option<&str>, role: Role) -> Result<Converted, String> {
    let host = remote.get("host").ok_or("it names no host")?;
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    if !host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._:[]%".contains(&c)) {
        return Err("its host is no host name".into());
    }
    let mut authority =
        remote.get("user").map_or(String::new(), |user| format!("{}@", utf8_percent_encode(user, USER)));
    authority.push_str(&host);
    if let Some(port) = remote.get("port") {
        port.parse::<u16>().map_err(|_| "its port is no number from 1 to 65535")?;
        authority.push(':');
        authority.push_str(port);
    }
    let mut notes = Vec::new();
    let mut missing = Vec::new();
    let path = match (path.filter(|path| !path.is_empty()), kind) {
        (None, _) => {
            notes.push(
                "rclone begins in the user's home folder there; here the location names the server's root"
                    .into(),
            );
            ""
        }
        (Some(path), Kind::Sftp) if !path.starts_with('/') => {
            return Err(format!("the path {} has to begin with a slash here", Printable::new(path)));
        }
        (Some(path), _) => path,
    };
    let mut options = Options::new();
    let slash = if path.starts_with('/') { "" } else { "/" };
    options.set(
        "location",
        format!("{}://{authority}{slash}{}", kind.scheme(), utf8_percent_encode(path, PATH)),
    );
    let specs = known(Some(kind), role);
    let takes = |name: &str| specs.iter().any(|spec| spec.name == name);
    let mut taken = Vec::new();
    for (theirs, ours) in [
        ("key_file", "identity"),
        ("known_hosts_file", "known_hosts"),
        ("known_hosts_file", "known_hosts_file"),
        ("no_check_certificate", "tls_insecure_no_verify"),
    ] {
        if let Some(value) = remote.get(theirs).filter(|_| takes(ours)) {
            options.set(ours, value);
            taken.push(theirs);
        }
    }
    for (theirs, ours) in [("tls", "implicit"), ("explicit_tls", "explicit")] {
        if kind == Kind::Ftp && remote.get(theirs).is_some() {
            taken.push(theirs);
            if remote.get(theirs).and_then(parse_bool) == Some(true) {
                options.set("tls", ours);
            }
        }
    }
    for name in OBSCURED.into_iter().filter(|name| remote.get(name).is_some()) {
        // Only ssh itself asks for a password, and not here.
        if name == "pass" && kind == Kind::Ftp {
            notes.push(
                "rclone keeps pass obscured, so it is not taken over: 'rclone config show REMOTE' tells it obscured, \
                 and 'rclone reveal OBSCURED' makes it readable"
                    .into(),
            );
            missing.push("password=PASSWORD");
        } else {
            notes.push(format!(
                "rclone keeps {name} obscured, so it is not taken over, and ssh takes no password from here: use a key \
                 that an agent holds, or one without a passphrase (identity=FILE)"
            ));
        }
        taken.push(name);
    }
    left_out(remote, &taken, &mut notes);
    Ok(Converted { options, notes, missing })
}

/// Says which options of the remote have no counterpart.
fn left_out(remote: &Options, taken: &[&str], notes: &mut Vec<String>) {
    let left: Vec<&str> = remote
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !taken.contains(name) && !SILENT.contains(name))
        .collect();
    if !left.is_empty() {
        notes.push(format!("left out {}, which only rclone knows", Printable::new(&left.join(", "))));
    }
}

/// Takes away options that mean nothing in a role.
fn unknown_here(options: &mut Options, kind: Kind, role: Role, notes: &mut Vec<String>) {
    let specs = known(Some(kind), role);
    let names: Vec<String> = options.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names.into_iter().filter(|name| specs.iter().all(|spec| spec.name != name)) {
        options.unset(&name);
        notes.push(format!("left out {name}, which a {} does not take", role.noun()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTES: &str = "\
[scw]\ntype = s3\nprovider = Scaleway\nregion = fr-par\nendpoint = s3.fr-par.scw.cloud\nstorage_class = ONEZONE_IA\n\
acl = private\naccess_key_id = SCWX\nsecret_access_key = hunter2\n\
[scw2]\ntype = s3\nprovider = Scaleway\nregion = nl-ams\naccess_key_id = S\nsecret_access_key = hunter2\nforce_path_style = false\n\
[aws]\ntype = s3\nprovider = AWS\nenv_auth = true\nprofile = work\nregion = eu-west-1\n\
[cn]\ntype = s3\nprovider = AWS\nregion = cn-north-1\n\
[odd]\ntype = s3\nprovider = Ceph\n\
[v2]\ntype = s3\nprovider = Ceph\nendpoint = h.example\nv2_auth = true\n\
[box]\ntype = sftp\nhost = h.example\nuser = me@corp\nport = 2222\nkey_file = /k\npass = XXX\n\
[six]\ntype = sftp\nhost = 2001:db8::1\n\
[old]\ntype = ftp\nhost = ftp.example\nuser = me\nexplicit_tls = true\npass = XXX\n\
[disk]\ntype = local\n\
[photos]\ntype = alias\nremote = scw:photos/2024\n\
[deep]\ntype = alias\nremote = photos:may\n\
[here]\ntype = alias\nremote = /srv/x\n\
[a]\ntype = alias\nremote = b:\n[b]\ntype = alias\nremote = a:\n\
[gd]\ntype = drive\n";

    fn remotes() -> Entries {
        super::super::import::ini(REMOTES).unwrap_or_else(|_| panic!("it is ini"))
    }

    fn source(name: &str, path: Option<&str>) -> Result<Converted, String> {
        convert(&remotes(), name, path, Role::Source)
    }

    #[test]
    fn buckets_of_any_provider() {
        let scw = source("scw", Some("bucket/a b/c")).unwrap();
        assert_eq!(scw.options.get("location"), Some("s3://bucket/a b/c"));
        assert_eq!(scw.options.get("endpoint"), Some("s3.fr-par.scw.cloud"));
        assert_eq!(scw.options.get("access_key"), Some("SCWX"));
        assert_eq!(scw.options.get("secret_access_key"), Some("hunter2"));
        assert_eq!(
            (scw.options.get("storage_class"), scw.options.get("region")),
            (Some("ONEZONE_IA"), Some("fr-par"))
        );
        assert_eq!(scw.notes, ["left out acl, which only rclone knows"]);
        assert!(scw.missing.is_empty());
        let scw = source("scw2", None).unwrap();
        assert_eq!((scw.options.get("location"), scw.options.get("type")), (None, Some("s3")));
        assert_eq!(scw.options.get("endpoint"), Some("s3.nl-ams.scw.cloud"));
        assert_eq!(scw.options.get("virtual_host"), Some("true"));
        assert_eq!(scw.missing, ["location=s3://BUCKET"]);
        let aws = source("aws", Some("b")).unwrap();
        assert_eq!(
            (aws.options.get("profile"), aws.options.get("endpoint")),
            (Some("work"), Some("s3.eu-west-1.amazonaws.com"))
        );
        assert!(aws.notes.is_empty());
        let cn = source("cn", Some("b")).unwrap();
        assert_eq!(cn.options.get("endpoint"), Some("s3.cn-north-1.amazonaws.com.cn"));
        assert!(cn.notes[0].contains("without a key"));
        assert!(source("odd", None).unwrap_err().contains("names no endpoint"));
        assert!(source("v2", None).unwrap_err().contains("v2_auth"));
    }

    #[test]
    fn servers_and_folders() {
        let host = source("box", Some("/srv/data")).unwrap();
        assert_eq!(host.options.get("location"), Some("sftp://me%40corp@h.example:2222/srv/data"));
        assert_eq!((host.options.get("identity"), host.options.get("password")), (Some("/k"), None));
        assert!(host.notes[0].contains("identity=FILE") && host.missing.is_empty(), "{host:?}");
        assert_eq!(
            source("box", Some("/a%20b/c d")).unwrap().options.get("location"),
            Some("sftp://me%40corp@h.example:2222/a%2520b/c%20d")
        );
        assert!(source("box", Some("data")).unwrap_err().contains("begin with a slash"));
        assert_eq!(
            source("six", Some("/x")).unwrap().options.get("location"),
            Some("sftp://[2001:db8::1]/x")
        );
        assert_eq!(
            source("old", Some("pub")).unwrap().options.get("location"),
            Some("ftp://me@ftp.example/pub")
        );
        let old = source("old", None).unwrap();
        assert!(old.notes.iter().any(|note| note.contains("'rclone reveal OBSCURED'")), "{old:?}");
        assert_eq!((old.options.get("tls"), old.missing), (Some("explicit"), vec!["password=PASSWORD"]));
        assert!(convert(&remotes(), "old", None, Role::Store).unwrap_err().contains("cannot hold a store"));
        assert_eq!(source("disk", Some("/srv")).unwrap().options.get("location"), Some("/srv"));
        assert_eq!(source("disk", None).unwrap().missing, ["location=FOLDER"]);
    }

    #[test]
    fn aliases_are_followed_and_the_rest_is_refused() {
        assert_eq!(source("photos", None).unwrap().options.get("location"), Some("s3://photos/2024"));
        assert_eq!(
            source("deep", Some("x")).unwrap().options.get("location"),
            Some("s3://photos/2024/may/x")
        );
        assert_eq!(source("here", Some("y")).unwrap().options.get("location"), Some("/srv/x/y"));
        assert!(source("a", None).unwrap_err().contains("stand for each other"));
        assert!(source("gd", None).unwrap_err().contains("type drive"));
        assert!(source("nope", None).unwrap_err().contains("no remote called nope"));
    }

    #[test]
    fn encrypted_files_are_told() {
        let text = "# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nabc\n";
        let told = check(text, "x").unwrap_err().report().unwrap();
        assert!(told.message.contains("encrypted") && told.hint.unwrap().contains("rclone config show |"));
        check(REMOTES, "x").unwrap();
    }
}
