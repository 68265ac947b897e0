//! A mount from its beginning to its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::fuse::Fuse;
use super::tree::{MountOptions, Shown, Tree};
use crate::base::Cancel;
use crate::snapshot::Monitor;
use crate::store::{Error, Repository};

/// How long a wait goes on without a look at whether everything is to end.
const NAP: Duration = Duration::from_millis(50);
/// The programs that mount and unmount for those who are not root.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The target is no folder, or cannot be looked at.
    #[error("cannot mount at {}", path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The target holds something, which the mount would hide.
    #[error("cannot mount at {}: the folder is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// A process that was killed left its mount there.
    #[error("cannot mount at {}: a mount stands there whose process is gone", .0.display())]
    Stale(PathBuf),
    /// The system has no FUSE, or does not let this user have it.
    #[error("this system does not let file systems be mounted by programs (FUSE)")]
    NoFuse(#[source] io::Error),
    /// The mount failed.
    #[error("cannot mount at {}", path.display())]
    Mount {
        /// The target.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What is to be shown cannot be read.
    #[error(transparent)]
    Store(#[from] Error),
}

/// How a mount ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Somebody else unmounted it.
    Unmounted,
    /// It was unmounted because everything was to end.
    Cancelled,
    /// The same while programs still used it: it is gone from the tree of folders, and they get errors.
    Detached,
}

/// Snapshots that are mounted. Dropped, they are unmounted.
#[derive(Debug)]
pub struct Mounted {
    tree: Arc<Tree>,
    target: PathBuf,
    session: Option<BackgroundSession>,
}

/// Mounts snapshots at an empty folder.
pub fn mount(
    repository: &Arc<Repository>,
    shown: Shown,
    target: &Path,
    options: &MountOptions,
    monitor: Arc<dyn Monitor>,
) -> Result<Mounted, OpenError> {
    let target = check_target(target)?;
    let changes = matches!(shown, Shown::Snapshots(_));
    let tree = Arc::new(Tree::open(repository, shown, options, monitor)?);
    let failed = |source| OpenError::Mount { path: target.clone(), source };
    let fuse = Fuse::new(Arc::clone(&tree), changes).map_err(failed)?;
    if let Err(source) = fs::metadata("/dev/fuse") {
        return Err(OpenError::NoFuse(source));
    }
    let config = config(&repository.storage().location(), options.allow_other);
    let session = Session::new(fuse, &target, &config).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::NoFuse(helper_missing(error)),
        io::ErrorKind::PermissionDenied if !may_open_device() => {
            OpenError::NoFuse(io::Error::new(error.kind(), "this user may not open /dev/fuse"))
        }
        _ => failed(tidy(error)),
    })?;
    let session = session.spawn().map_err(failed)?;
    Ok(Mounted { tree, target, session: Some(session) })
}

/// Says what is missing where the helper of the system could not be run.
fn helper_missing(error: io::Error) -> io::Error {
    if fs::metadata("/dev/fuse").is_ok() {
        return io::Error::new(io::ErrorKind::NotFound, "the program fusermount3 is missing");
    }
    error
}

/// Returns whether this user may use the device that every mount needs.
fn may_open_device() -> bool {
    fs::File::options().read(true).write(true).open("/dev/fuse").is_ok()
}

/// Takes the line ends out of what a helper program said.
fn tidy(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    let text = error.to_string();
    io::Error::new(error.kind(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Makes sure that the target is an empty folder; returns its absolute path.
fn check_target(target: &Path) -> Result<PathBuf, OpenError> {
    let failed = |source: io::Error| match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOTCONN) => OpenError::Stale(target.to_owned()),
        _ => OpenError::Target { path: target.to_owned(), source },
    };
    let mut names = fs::read_dir(target).map_err(failed)?;
    match names.next() {
        None => target.canonicalize().map_err(failed),
        Some(Ok(_)) => Err(OpenError::NotEmpty(target.to_owned())),
        Some(Err(error)) => Err(failed(error)),
    }
}

fn config(location: &str, allow_other: bool) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(name_of(location)),
        MountOption::Subtype("plakar".into()),
        MountOption::RO,
        MountOption::NoAtime,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    if allow_other {
        config.acl = SessionACL::All;
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    config
}

/// Makes a location the name of a mount's source: no blanks and control characters, which tables of mounts cannot
/// hold, and no commas and backslashes, which options cannot.
fn name_of(location: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() && !",\\".contains(c) { c } else { '_' };
    location.chars().take(200).map(plain).collect()
}

impl Mounted {
    /// Returns where the mount stands, as an absolute path.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns what is mounted.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Waits until somebody unmounts it, or everything is to end; then unmounts it.
    pub fn wait(mut self, cancel: &Cancel) -> io::Result<Ended> {
        loop {
            if self.session.as_ref().is_none_or(|session| session.guard.is_finished()) {
                let ended = self.session.take().map_or(Ok(()), |session| leave(session).end());
                return ended.map(|()| Ended::Unmounted);
            }
            if cancel.is_cancelled() {
                return self.unmount();
            }
            std::thread::sleep(NAP);
        }
    }

    /// Unmounts it; while programs use it, by taking it out of the tree of folders.
    pub fn unmount(&mut self) -> io::Result<Ended> {
        let Some(session) = self.session.take() else { return Ok(Ended::Unmounted) };
        let finished = session.guard.is_finished();
        let left = leave(session);
        if finished {
            return left.end().map(|()| Ended::Unmounted);
        }
        match take_down(&self.target, false) {
            Ok(()) => left.end().map(|()| Ended::Cancelled),
            Err(_) => take_down(&self.target, true).map(|()| Ended::Detached),
        }
    }
}

/// The thread of a session, which ends once nothing is mounted any more.
struct Left(JoinHandle<io::Result<()>>);

impl Left {
    /// Waits for the end.
    fn end(self) -> io::Result<()> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the thread of the mount panicked")))
    }
}

/// Takes a session's thread, and the right to unmount away from the session.
///
/// Why: a session that is dropped unmounts whatever stands at its path by then, its own mount being gone already: a
/// mount of another process that came in between, or the file system that was there before. What is lost is one file
/// descriptor of a mount that is over.
fn leave(mut session: BackgroundSession) -> Left {
    let nothing = std::thread::spawn(|| Ok(()));
    let thread = std::mem::replace(&mut session.guard, nothing);
    std::mem::forget(session);
    Left(thread)
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nobody is left to be told of a failure.
        let _ = self.unmount();
    }
}

/// Unmounts a path: as root by the system, else by its helper.
fn take_down(target: &Path, detach: bool) -> io::Result<()> {
    let flags = if detach { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match unmount(target, flags) {
        Ok(()) => return Ok(()),
        Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for helper in HELPERS {
        let mut command = Command::new(helper);
        command.arg("-u").args(detach.then_some("-z")).arg("--").arg(target);
        match command.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(io::Error::other(said));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_folder_is_mounted_over() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check_target(folder.path()).unwrap(), folder.path().canonicalize().unwrap());
        fs::write(folder.path().join("x"), "x").unwrap();
        assert!(matches!(check_target(folder.path()), Err(OpenError::NotEmpty(_))));
        for wrong in ["x", "y"] {
            assert!(matches!(check_target(&folder.path().join(wrong)), Err(OpenError::Target { .. })));
        }
    }

    #[test]
    fn locations_become_names_that_options_can_hold() {
        assert_eq!(name_of("s3://host/bucket"), "s3://host/bucket");
        assert_eq!(name_of("/a,b\\c d\n\u{fc}"), "/a_b_c_d__");
        assert_eq!(name_of(&"x".repeat(999)).len(), 200);
    }
}
