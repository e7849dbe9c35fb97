//! The command line: a file for each command, of which the words of the command line choose one.

mod cert;
mod check;
mod doctor;
mod failure;
mod help;
mod init;
mod options;
mod output;
mod program;
mod run;
mod status;
mod version;
mod webhook;

use std::process::ExitCode;
use std::sync::Arc;

use self::failure::Failure;
use self::help::{COMMANDS, SHORT_USAGE, USAGE, help, named, unknown};
use self::options::{Options, environment};
use self::output::{print, warn};
pub use self::program::{LogLevel, Program};
use crate::bot::Bot;

/// The whole `main` of a bot's program: does what the command line says. The command `run` has
/// `bot` handle the updates. `program` is [`program!()`](crate::program).
///
/// ```no_run
/// # use pihook::bot::{Bot, Call, Me, Update};
/// struct Silent;
///
/// impl Bot for Silent {
///     fn handle(&self, _: &Update, _: &Me) -> Vec<Call> {
///         vec![]
///     }
/// }
///
/// fn main() -> std::process::ExitCode {
///     pihook::cli::main(Silent, pihook::program!())
/// }
/// ```
#[must_use]
pub fn main<B: Bot>(bot: B, program: Program) -> ExitCode {
    start(&program, Arc::new(bot))
}

/// The crate in which it stands, for [`cli::main`](crate::cli::main): its name and version for
/// `help` and `version`, and its module for the log. `program!().log_level(LogLevel::Debug)` shows
/// more lines of your crate.
#[macro_export]
macro_rules! program {
    () => {
        $crate::cli::Program::new(
            ::core::env!("CARGO_PKG_NAME"),
            ::core::env!("CARGO_PKG_VERSION"),
            ::core::module_path!(),
        )
    };
}

fn start(program: &Program, bot: Arc<dyn Bot>) -> ExitCode {
    let done = Options::read().and_then(|options| command(program, bot, &options));
    let Err(failure) = done else {
        return ExitCode::SUCCESS;
    };

    let (code, text) = match failure {
        Failure::Usage(reason) => (64, named(&format!("{reason}\n{SHORT_USAGE}"), program.name)),
        Failure::Config(reason) => (78, reason),
        Failure::Other(reason) => (1, reason),
    };
    // The doctor has said everything already.
    if !text.is_empty() {
        warn(&text);
    }
    ExitCode::from(code)
}

fn command(program: &Program, bot: Arc<dyn Bot>, options: &Options) -> Result<(), Failure> {
    let allowed_updates = bot.allowed_updates();
    let words: Vec<_> = options.words.iter().map(String::as_str).collect();
    options.belong_to(&words)?;
    match words[..] {
        ["init"] => init::init(options, allowed_updates),
        ["run"] => run::run(program, bot, options),
        ["status"] => status::status(options, allowed_updates),
        ["cert"] => cert::cert(options),
        ["webhook", "info"] => webhook::info(options, &environment, allowed_updates),
        ["webhook", "set"] => webhook::set(options, &environment, allowed_updates),
        ["webhook", "delete"] => webhook::delete(options, &environment, allowed_updates),
        ["check"] => check::check(options),
        ["doctor"] => doctor::doctor(options, allowed_updates),
        ["help"] => print(&named(USAGE, program.name)),
        ["help", command, ..] => help(command, program.name),
        ["version"] => version::version(program),
        [] => Err(Failure::Usage("The command is missing.".into())),
        ["webhook"] => Err(Failure::Usage(
            "`pihook webhook` needs one more word: info, set or delete.".into(),
        )),
        ["webhook", word, ..] => Err(unknown("webhook ", word, &["info", "set", "delete"])),
        [command, ..] if !COMMANDS.contains(&command) => Err(unknown("", command, &COMMANDS)),
        [command, ref more @ ..] => Err(Failure::Usage(format!(
            "`pihook {command}` takes only options: remove {:?}.",
            more.join(" ")
        ))),
    }
}
