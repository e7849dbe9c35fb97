//! The program: everything but the bot is in the library.

#![forbid(unsafe_code)]

mod echo;

use std::process::ExitCode;

fn main() -> ExitCode {
    pihook::cli::main(echo::Echo, pihook::program!())
}
