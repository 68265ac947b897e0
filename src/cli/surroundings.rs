//! The facts about a run that a snapshot's header keeps: which host, which user, which command line.

use std::ffi::OsString;

use crate::base::{Printable, sys};
use crate::connectors::{MASK, is_secret, redact};

/// Returns the header's context, in upstream's order and names. Secrets on the command line are masked.
pub(crate) fn context(args: impl Iterator<Item = OsString>) -> Vec<(String, String)> {
    let user = sys::user_name();
    let machine = std::fs::read_to_string("/etc/machine-id").ok().map(|id| id.trim().to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let mut facts = vec![("Hostname", Some(String::from_utf8_lossy(&sys::host_name()).into_owned()))];
    facts.push(("Username", user));
    facts.push(("OperatingSystem", Some(std::env::consts::OS.to_owned())));
    facts.push(("MachineID", machine.filter(|id| !id.is_empty())));
    facts.push(("CommandLine", Some(command_line(args))));
    facts.push(("ProcessID", Some(std::process::id().to_string())));
    facts.push(("Architecture", Some(std::env::consts::ARCH.to_owned())));
    facts.push(("NumCPU", Some(cores)));
    facts.push(("MaxProcs", Some(rayon::current_num_threads().to_string())));
    facts.push(("Client", Some(concat!("plakar/v", env!("CARGO_PKG_VERSION")).to_owned())));
    facts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn command_line(args: impl Iterator<Item = OsString>) -> String {
    let words: Vec<String> = args
        .map(|arg| {
            let word = Printable::os(&arg).to_string();
            // KEY=VALUE of -o, alone or behind the flag.
            let ends = word.match_indices('=').map(|(at, _)| at);
            let secret = ends.into_iter().find(|&at| is_secret(word[..at].rsplit('=').next().unwrap_or("")));
            match secret {
                Some(at) => format!("{}={MASK}", &word[..at]),
                None => redact(&word),
            }
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_keeps_no_secret() {
        let args = [
            "plakar",
            "backup",
            "-o",
            "secret_access_key=hunter2",
            "sftp://u:hunter2@h/x",
            "-o=passphrase=hunter2",
            "-tag",
            "a=b",
        ];
        let line = command_line(args.into_iter().map(OsString::from));
        assert!(!line.contains("hunter2"), "{line}");
        assert!(line.starts_with("plakar backup -o secret_access_key=") && line.ends_with("-tag a=b"));
    }

    #[test]
    fn facts_come_in_upstreams_order() {
        let facts = context(["plakar".into()].into_iter());
        let at = |key: &str| facts.iter().position(|(name, _)| name == key).unwrap();
        assert!(at("Hostname") < at("CommandLine") && at("CommandLine") < at("Client"));
        assert!(facts.last().unwrap().1.starts_with("plakar/v"));
    }
}
