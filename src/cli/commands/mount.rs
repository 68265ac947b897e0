//! `mount`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::super::query::QueryArgs;

/// Shows snapshots as a folder that every program can read; nothing is restored, and nothing can be written. Without
/// SNAPSHOT: a folder for each, and `latest`; new ones appear as they are made. Runs until Ctrl-C or umount, and exits
/// 1 if something could not be read meanwhile.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups mount -to /mnt/backups
plakar at @mystore mount -to /mnt/etc latest:/etc
plakar at ./export.ptar mount -to /mnt/export -allow-other
plakar at @mystore mount -to /mnt/nightly -tag nightly -since 30d")]
pub(crate) struct Args {
    /// Mount at DIR, an empty folder
    #[arg(long, value_name = "DIR", required = true)]
    to: PathBuf,
    /// Let other users in, too, as far as the recorded modes allow
    #[arg(long)]
    allow_other: bool,
    #[command(flatten)]
    query: QueryArgs,
    /// A snapshot, or a folder of one; all when none is named
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Option<OsString>,
}

/// Says that it cannot be done here.
#[cfg(not(target_os = "linux"))]
pub(super) fn run(
    args: &Args,
    _context: &crate::cli::context::Context,
) -> Result<crate::cli::error::Exit, crate::cli::error::CommandError> {
    use crate::cli::error::CommandError;
    let Args { to: _, allow_other: _, query: _, snapshot: _ } = args;
    Err(CommandError::failed("snapshots can be mounted on Linux only").hint(
        "plakar at STORE restore -to DIR SNAPSHOT:PATH brings a part of a snapshot back; ls, find and cat need no copy",
    ))
}

#[cfg(target_os = "linux")]
pub(super) use linux::run;

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use jiff::Zoned;
    use serde::Serialize;

    use super::Args;
    use crate::base::Printable;
    use crate::cli::context::Context;
    use crate::cli::error::{CommandError, Exit};
    use crate::cli::query::QueryArgs;
    use crate::cli::{snapshots, stores};
    use crate::mount::{Ended, MountOptions, OpenError, Select, Shown, mount};
    use crate::snapshot::{Counter, Monitor, Problem};
    use crate::store::Repository;
    use crate::ui::{Output, units};

    #[derive(Serialize)]
    struct MountedLine<'a> {
        r#type: &'static str,
        store: &'a str,
        location: &'a str,
        snapshots: usize,
    }

    #[derive(Serialize)]
    struct Summary<'a> {
        r#type: &'static str,
        command: &'static str,
        location: &'a str,
        ended: &'static str,
        errors: u64,
        duration: f64,
    }

    /// Tells of problems as they occur.
    #[derive(Debug)]
    struct Teller {
        output: Output,
        errors: AtomicU64,
    }

    impl Monitor for Teller {
        fn count(&self, _counter: Counter, _amount: u64) {}

        fn problem(&self, problem: &Problem) {
            self.errors.fetch_add(1, Ordering::Relaxed);
            self.output.problem(problem);
            // With -json it went to standard output, and is wanted now. A reader that left wants nothing.
            let _ = self.output.flush();
        }
    }

    /// Mounts, and waits for the end.
    pub(in crate::cli::commands) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
        let begun = Instant::now();
        args.query.filter(&context.now)?;
        let place = context.main_store()?;
        let repository = stores::open_main(context)?.repository;
        let shown = match &args.snapshot {
            Some(named) => {
                let named = std::slice::from_ref(named);
                let chosen = snapshots::choose(context, &repository, named, &args.query)?;
                let chosen = chosen.into_iter().next().expect("one snapshot was named");
                Shown::Folder(Box::new(chosen.info), chosen.path.unwrap_or_else(|| b"/".to_vec()))
            }
            None => Shown::Snapshots(select(args.query.clone(), Arc::clone(&repository))),
        };
        let options = MountOptions {
            memory: context.globals.memory,
            owner: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
            allow_other: args.allow_other,
        };
        let teller = Arc::new(Teller { output: context.output.clone(), errors: AtomicU64::new(0) });
        let monitor: Arc<dyn Monitor> = teller.clone();
        let mounted = mount(&repository, shown, &args.to, &options, monitor).map_err(told)?;
        let location = Printable::os(mounted.target().as_os_str()).to_string();
        announce(mounted.tree().snapshot_count(), &place.to_string(), &location, context)?;
        let ended = mounted.wait(&context.cancel).map_err(|error| {
            CommandError::failed(format!("cannot unmount {location}"))
                .because(error)
                .hint(format!("fusermount3 -u {location} takes away what is left"))
        })?;
        let errors = teller.errors.load(Ordering::Relaxed);
        finish(ended, &location, errors, begun, context)?;
        Ok(if errors > 0 { Exit::Failed } else { Exit::Ok })
    }

    /// Returns what chooses the snapshots, now and whenever they are looked for again.
    fn select(query: QueryArgs, repository: Arc<Repository>) -> Select {
        Box::new(move |all| match query.filter(&Zoned::now()) {
            Ok(filter) => filter.select(all, snapshots::facts, |by, info| by.key(&*repository, info)),
            // The flags were understood once; only a clock gone wild changes that.
            Err(_) => all,
        })
    }

    fn announce(count: usize, store: &str, location: &str, context: &Context) -> Result<(), CommandError> {
        let output = &context.output;
        if output.is_json() {
            let line = MountedLine { r#type: "mounted", store, location, snapshots: count };
            output.json(&line)?;
        } else {
            let count = units::counted(count as u64, "snapshot");
            output.summary(format_args!("mounted {count} of {store} at {location}"))?;
            output.notice("Ctrl-C, or umount from elsewhere, ends it");
        }
        // Whoever waits for the mount reads this now.
        Ok(output.flush()?)
    }

    fn finish(
        ended: Ended,
        location: &str,
        errors: u64,
        begun: Instant,
        context: &Context,
    ) -> Result<(), CommandError> {
        if ended == Ended::Detached {
            context.output.warn(format!(
                "{location} was in use: it is unmounted, and programs that still use it get errors"
            ));
        }
        if context.output.is_json() {
            return Ok(context.output.json(&Summary {
                r#type: "summary",
                command: "mount",
                location,
                ended: match ended {
                    Ended::Unmounted => "unmounted",
                    Ended::Cancelled => "cancelled",
                    Ended::Detached => "detached",
                },
                errors,
                duration: (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            })?);
        }
        let failed = match errors {
            0 => String::new(),
            errors => {
                format!(", {}: not all that was asked for could be read", units::counted(errors, "error"))
            }
        };
        let time = units::duration(begun.elapsed());
        Ok(context.output.summary(format_args!("unmounted {location} after {time}{failed}"))?)
    }

    fn told(error: OpenError) -> CommandError {
        let hint = match &error {
            OpenError::Target { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("make the folder first: mkdir -p DIR".to_owned())
            }
            OpenError::NotEmpty(_) => Some("mount at an empty folder: what is in it would be hidden".to_owned()),
            OpenError::Stale(path) => {
                Some(format!("fusermount3 -u {} takes it away (as root: umount)", Printable::os(path.as_os_str())))
            }
            OpenError::NoFuse(_) => Some(
                "it takes /dev/fuse (modprobe fuse; containers: --device /dev/fuse and the capability SYS_ADMIN), and for users \
                 other than root the package fuse3 and the right to open /dev/fuse (mode 0666)"
                    .to_owned(),
            ),
            OpenError::Mount { source, .. } if source.to_string().contains("user_allow_other") => {
                Some("-allow-other takes the line user_allow_other in /etc/fuse.conf, or root".to_owned())
            }
            _ => None,
        };
        let exit = match error {
            OpenError::Target { .. } | OpenError::NotEmpty(_) => Exit::Usage,
            _ => Exit::Failed,
        };
        let told = match error {
            OpenError::Store(error) => error.into(),
            error => CommandError::from_error(exit, error),
        };
        match hint {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}
