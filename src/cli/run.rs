//! The program, from its arguments to its exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::argv::{self, Invocation};
use super::commands::{Cli, definition, dispatch};
use super::context::Context;
use super::environment::Environment;
use super::error::{CommandError, Exit};
use super::globals::Globals;
use super::help;
use crate::base::{Cancel, Printable};
use crate::store;
use crate::ui::{Look, Output, units};

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    forbid_core_dumps();
    let environment = Environment::read();
    let cancel = Cancel::new();
    watch_signals(&cancel);
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (exit, output) = run(args, environment, &cancel);
    // What could not be written at the very end is a failure like any other; a reader that left is not.
    let exit = match output.flush() {
        Err(error) if !error.is_broken_pipe() => finish(Err(error.into()), &output),
        _ => exit,
    };
    ExitCode::from(exit.code())
}

fn run(args: Vec<OsString>, environment: Environment, cancel: &Cancel) -> (Exit, Output) {
    let start = Instant::now();
    let guessed = guess(&args);
    let (invocation, cli) = match parse(args) {
        Ok(parsed) => parsed,
        Err(error) => {
            let output = open_output(&guessed, &environment);
            return (finish(Err(error), &output), output);
        }
    };
    let globals = cli.as_ref().map_or(guessed, |cli| cli.globals.clone());
    let output = open_output(&globals, &environment);
    let time = globals.time;
    let misplaced = misplaced(&invocation);
    let result = match cli {
        Some(cli) => {
            set_threads(globals.cpu);
            let context =
                Context::new(globals, environment, invocation.store, output.clone(), cancel.clone());
            // Whatever failed because everything was to end, that is why.
            let result = dispatch(cli, &context);
            match misplaced {
                _ if cancel.is_cancelled() => result.map_err(|_| store::Error::Cancelled.into()),
                Some(hint) => result.map_err(|error| error.hint(hint)),
                None => result,
            }
        }
        None => explain(&invocation, &output),
    };
    let exit = finish(result, &output);
    if time {
        output.asked(format!("time: {}", units::duration(start.elapsed())));
    }
    (exit, output)
}

/// Finds how a command line that makes no sense wants to be told so.
fn guess(args: &[OsString]) -> Globals {
    let given = |name: &str| {
        let flag = |arg: &OsString| {
            let text = arg.to_str()?.strip_prefix('-')?;
            let text = text.strip_prefix('-').unwrap_or(text);
            let (flag, value) = text.split_once('=').unwrap_or((text, "true"));
            (flag == name).then(|| crate::connectors::parse_bool(value)).flatten()
        };
        args.iter().take_while(|arg| *arg != "--").filter_map(flag).last().unwrap_or(false)
    };
    Globals { json: given("json"), silent: given("silent"), quiet: given("quiet"), ..Globals::default() }
}

/// Parses the arguments; no command line where only help is wanted.
pub(super) fn parse(args: Vec<OsString>) -> Result<(Invocation, Option<Cli>), CommandError> {
    let definition = definition();
    let mut invocation = argv::normalise(args, &definition)?;
    if invocation.version {
        invocation.command = Some("version".into());
    }
    if invocation.help || invocation.command.is_none() {
        return Ok((invocation, None));
    }
    let command = invocation.command.as_deref().unwrap_or_default();
    let told = |error: &clap::Error| {
        let hinted = told(error, command, definition.find_subcommand(command));
        match invocation.misplaced_store() {
            Some(meant) => hinted.hint(placed(&meant)),
            None => hinted,
        }
    };
    let matches =
        definition.clone().try_get_matches_from(invocation.for_clap()).map_err(|error| told(&error))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| told(&error.format(&mut Cli::command())))?;
    Ok((invocation, Some(cli)))
}

fn placed(meant: &str) -> String {
    format!("'at STORE' stands before the command: {meant}")
}

/// Returns what to say where `at STORE` was typed behind the command and taken for two arguments.
fn misplaced(invocation: &Invocation) -> Option<String> {
    let meant = invocation.misplaced_store()?;
    // A file of that name may well have been meant.
    let is_there = std::fs::symlink_metadata("at").is_ok();
    (!is_there).then(|| placed(&meant))
}

/// Takes the words out of clap's message and puts them the way the rest of this program speaks.
fn told(error: &clap::Error, name: &str, command: Option<&clap::Command>) -> CommandError {
    let usage = command.map(|command| format!("{}; plakar help {name} shows more", help::usage(command)));
    if let (Some(message), Some(usage)) = (missing_or_needless(error, name), usage) {
        return CommandError::usage(message).hint(usage);
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.split("\n\n").next().unwrap_or(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let message = words.join(" ").replace("'--", "'-").replace(" --", " -").replace("=<", " <");
    // "invalid value 'lots' for '-memory <SIZE>': 'lots' is not a size" says the same twice.
    let own = message.strip_prefix("invalid value '").and_then(|rest| rest.split_once("' for '"));
    let message = match own.and_then(|(_, rest)| rest.split_once("': ")) {
        Some((flag, why)) if !why.starts_with("value") => {
            format!("{}: {why}", flag.split(' ').next().unwrap_or(flag))
        }
        _ => message,
    };
    CommandError::usage(message).hint("plakar help COMMAND shows the arguments and flags")
}

/// Says which argument is missing, or which one is too many.
fn missing_or_needless(error: &clap::Error, name: &str) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let argument = error.get(ContextKind::InvalidArg)?;
    match (error.kind(), argument) {
        (ErrorKind::MissingRequiredArgument, ContextValue::Strings(missing)) => {
            let plain = |one: &String| one.replace("--", "-").replace(['<', '>'], "").replace("...", "");
            let missing: Vec<String> = missing.iter().map(plain).collect();
            Some(format!("'{name}' needs {}", missing.join(" and ")))
        }
        (ErrorKind::UnknownArgument, ContextValue::String(needless)) => {
            Some(format!("'{name}' does not take the argument '{}'", Printable::new(needless)))
        }
        _ => None,
    }
}

fn explain(invocation: &Invocation, output: &Output) -> Result<Exit, CommandError> {
    match &invocation.command {
        Some(name) => help::show(Some(name), output)?,
        None if invocation.help => help::show(None, output)?,
        None if invocation.store.is_some() => {
            return Err(CommandError::usage("no command was given")
                .hint("plakar at STORE COMMAND; plakar help lists the commands"));
        }
        None => {
            help::show(None, output)?;
            return Ok(Exit::Usage);
        }
    }
    Ok(Exit::Ok)
}

fn open_output(globals: &Globals, environment: &Environment) -> Output {
    let look = Look {
        colours: environment.colours,
        term: environment.term.as_deref(),
        columns: environment.columns,
    };
    Output::standard(globals.loudness(), globals.json, look)
}

fn finish(result: Result<Exit, CommandError>, output: &Output) -> Exit {
    let error = match result {
        Ok(exit) => return exit,
        Err(error) => error,
    };
    if let Some(report) = error.report() {
        output.fail(&report, error.exit().code());
    }
    error.exit()
}

fn set_threads(cpu: Option<usize>) {
    if let Some(threads) = cpu {
        // Fails only when a pool stands already, which nothing before this point makes.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}

/// Keeps keys and passphrases out of core files.
#[cfg(unix)]
fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Lowering a limit cannot be refused; where there is no such limit there is nothing to lower.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Does nothing: who writes images of crashed processes on other systems cannot be told not to from here.
#[cfg(not(unix))]
fn forbid_core_dumps() {}

/// Turns the first SIGINT, SIGTERM or SIGHUP into a wish to stop; the second ends the process at once.
#[cfg(unix)]
fn watch_signals(cancel: &Cancel) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use std::sync::Arc;

    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // The order matters: the shutdown is armed by what the second line sets.
        let armed = signal_hook::flag::register_conditional_shutdown(signal, 1, cancel.flag());
        let flagged = signal_hook::flag::register(signal, cancel.flag());
        debug_assert!(armed.is_ok() && flagged.is_ok(), "these signals can be handled");
    }
    // A file that reaches its limit (ulimit -f) is an error of the write, not the end of the program: a handler that
    // does nothing turns the one into the other.
    let noticed = signal_hook::flag::register(SIGXFSZ, Arc::default());
    debug_assert!(noticed.is_ok(), "this signal can be handled");
}

/// Leaves Ctrl-C to the system, which ends the process at once. Nothing in a store is lost by that: what was written
/// has no state yet and is found by `maintenance`, and files in the making have temporary names.
#[cfg(not(unix))]
fn watch_signals(_: &Cancel) {}
