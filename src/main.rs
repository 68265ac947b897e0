//! The `plakar` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    plakar::cli::main()
}
