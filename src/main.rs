//! The program: everything but the bot is in the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    pihook::cli::main()
}
