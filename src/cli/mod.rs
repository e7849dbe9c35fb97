//! The command line: a function for each command.

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
mod webhook;

use std::process::ExitCode;
use std::sync::Arc;

use self::failure::Failure;
use self::help::{COMMANDS, SHORT_USAGE, USAGE, help, unknown};
use self::options::{Options, environment};
use self::output::{print, warn};
use self::program::Program;
use crate::bot::Bot;

/// The whole `main` of a bot's program: does what the command line says. `pihook run` has `bot`
/// handle the updates.
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
///     pihook::cli::main(Silent)
/// }
/// ```
#[must_use]
pub fn main<B: Bot>(bot: B) -> ExitCode {
    let crate_name = std::any::type_name::<B>()
        .split("::")
        .next()
        .unwrap_or_default();
    start(&Program {
        bot: Arc::new(bot),
        crate_name,
    })
}

fn start(program: &Program) -> ExitCode {
    let (code, why) = match Options::read().and_then(|options| command(program, &options)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(why)) => (64, format!("{why}\n{SHORT_USAGE}")),
        Err(Failure::Config(why)) => (78, why),
        Err(Failure::Other(why)) => (1, why),
    };
    if !why.is_empty() {
        warn(&why);
    }
    ExitCode::from(code)
}

fn command(program: &Program, options: &Options) -> Result<(), Failure> {
    let allowed_updates = program.bot.allowed_updates();
    let words: Vec<_> = options.words.iter().map(String::as_str).collect();
    options.belong_to(&words)?;
    match words[..] {
        ["init"] => init::init(options, allowed_updates),
        ["run"] => run::run(program, options),
        ["status"] => status::status(options, allowed_updates),
        ["cert"] => cert::cert(options),
        ["webhook", "info"] => webhook::info(options, &environment, allowed_updates),
        ["webhook", "set"] => webhook::set(options, &environment, allowed_updates),
        ["webhook", "delete"] => webhook::delete(options, &environment, allowed_updates),
        ["check"] => check::check(options),
        ["doctor"] => doctor::doctor(options, allowed_updates),
        ["help"] => print(USAGE),
        ["help", command, ..] => help(command),
        ["version"] => print(concat!("pihook ", env!("CARGO_PKG_VERSION"))),
        [] => Err(Failure::Usage("The command is missing.".into())),
        ["webhook"] => Err(Failure::Usage(
            "`pihook webhook` needs one more word: info, set or delete.".into(),
        )),
        ["webhook", what, ..] => Err(unknown("webhook ", what, &["info", "set", "delete"])),
        [command, ..] if !COMMANDS.contains(&command) => Err(unknown("", command, &COMMANDS)),
        [command, ref more @ ..] => Err(Failure::Usage(format!(
            "`pihook {command}` takes only options: remove {:?}.",
            more.join(" ")
        ))),
    }
}
