//! The help, and what a mistyped word may have meant.

use super::failure::Failure;
use super::output::print;
use crate::system::text;

pub(super) const USAGE: &str = "\
pihook runs a Telegram bot.

  pihook init [--config FILE] [--host HOST] [--port-mapping auto|off] [--write-only]
      ask for the token and the settings, write them, and start the bot
  pihook run [--config FILE]
      run the bot: by webhook if Telegram can reach this machine, otherwise by polling
  pihook status [--config FILE] [--json | --wait]
      show the state of the running bot; --wait: first wait until updates arrive, at most 45 s
  pihook cert [--config FILE] [--host HOST] [--days N] [--out DIR] [--force]
      make the certificate and its key
  pihook webhook info|set|delete [--config FILE]
      show, set or delete the webhook at Telegram
  pihook check [--config FILE]
      check the settings and print them
  pihook doctor [--config FILE] [--json]
      check everything, and say how to fix each problem

pihook reads its settings from the first of these: --config FILE, $PIHOOK_CONFIG, ./pihook.toml, /etc/pihook/pihook.toml.
If $TELEGRAM_BOT_TOKEN holds the bot's token, no settings file is needed.";

/// Stands behind an error, which the long text would scroll away.
pub(super) const SHORT_USAGE: &str = "Usage: pihook init|run|status|cert|webhook|check|doctor [OPTIONS]. Run `pihook help` for details.";

pub(super) const COMMANDS: [&str; 9] = [
    "init", "run", "status", "cert", "webhook", "check", "doctor", "help", "version",
];

/// A text of ours with the name of the program in its commands.
pub(super) fn named(text: &str, program: &str) -> String {
    text.replace("pihook ", &format!("{program} "))
}

/// Prints the help for one command of the program.
pub(super) fn help(command: &str, program: &str) -> Result<(), Failure> {
    if ["help", "version"].contains(&command) {
        return print(&named(USAGE, program));
    }

    let start = format!("  pihook {command} ");
    let mut lines = USAGE.lines().skip_while(|line| !line.starts_with(&start));
    // A command has two lines: how it is called, and what it does.
    match (lines.next(), lines.next()) {
        (Some(usage), Some(purpose)) => print(&named(&format!("{usage}\n{purpose}"), program)),
        _ => Err(unknown("", command, &COMMANDS)),
    }
}

/// The failure for a word that is none of the `known` ones. `before` stands before the word on the
/// command line.
pub(super) fn unknown(before: &str, word: &str, known: &[&'static str]) -> Failure {
    let hint = match text::nearest(word, known.iter().copied()) {
        Some(meant) => format!(" Did you mean `pihook {before}{meant}`?"),
        None => String::new(),
    };
    let command = format!("{before}{word}");
    Failure::Usage(format!("Unknown command {command:?}.{hint}"))
}
