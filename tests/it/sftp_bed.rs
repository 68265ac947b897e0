//! Where the SFTP tests lie down: OpenSSH's sftp-server run directly, and behind a real sshd when the environment names
//! one.
//!
//! `SFTP_ENDPOINT` (`user@host:port`), `SFTP_IDENTITY`, `SFTP_CONFIG` and `SFTP_FOLDER` are what
//! `tests/servers/openssh-sftp` prints; the folder is one of this machine.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use plakar::connectors::sftp::Options;

use crate::cli::User;

/// Where distributions put the server's program.
const PROGRAMS: [&str; 3] =
    ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server"];

/// A folder on some server, which is this machine.
#[derive(Debug)]
pub(crate) struct Bed {
    folder: tempfile::TempDir,
    authority: String,
    pub(crate) options: Vec<(&'static str, String)>,
}

impl Bed {
    /// The server's program without ssh, where this machine has it. `script` is what is run as ssh; `$SERVER` in it is
    /// the program, `$HERE` a folder of the test's own.
    pub(crate) fn own(script: &str) -> Option<Self> {
        let Some(program) = PROGRAMS.into_iter().find(|path| Path::new(path).exists()) else {
            println!("not run: SFTP tests, because OpenSSH's sftp-server is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().join("here");
        std::fs::create_dir(&here).unwrap();
        let ssh = here.join("ssh");
        let text = format!("#!/bin/sh\nSERVER={program}\nHERE={}\n{script}\n", here.display());
        std::fs::write(&ssh, text).unwrap();
        std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = vec![("ssh", ssh.to_str().unwrap().to_owned())];
        Some(Self { folder, authority: "somebody@nowhere".into(), options })
    }

    /// The real server, if there is one.
    pub(crate) fn real() -> Option<Self> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(authority), Some(identity), Some(config), Some(folder)) =
            (get("SFTP_ENDPOINT"), get("SFTP_IDENTITY"), get("SFTP_CONFIG"), get("SFTP_FOLDER"))
        else {
            println!(
                "not run against a real server: SFTP_ENDPOINT, SFTP_IDENTITY, SFTP_CONFIG and SFTP_FOLDER are not set"
            );
            return None;
        };
        let folder = tempfile::tempdir_in(folder).unwrap();
        Some(Self { folder, authority, options: vec![("identity", identity), ("ssh_config", config)] })
    }

    /// Runs a test on every server there is.
    pub(crate) fn each(test: impl Fn(&Self)) {
        for bed in [Self::own("exec $SERVER"), Self::real()].into_iter().flatten() {
            test(&bed);
        }
    }

    /// Returns a path below the folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Returns `sftp://user@host:port/path`.
    pub(crate) fn location(&self, below: &str) -> String {
        format!("sftp://{}{}", self.authority, self.path(below).display())
    }

    /// Returns the connector's options.
    pub(crate) fn options(&self, below: &str) -> Options {
        let map: BTreeMap<_, _> =
            self.options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Options::parse(&self.location(below), &map, &|_| None).unwrap()
    }

    /// Configures a place: `kind` is store, source or destination.
    pub(crate) fn configure(&self, user: &User, kind: &str, name: &str, below: &str) {
        let options: Vec<_> = self.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        user.ok(&format!("{kind} add {name} {} {}", self.location(below), options.join(" ")));
    }
}
