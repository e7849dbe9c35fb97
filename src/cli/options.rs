//! The words and options of the command line.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use super::failure::Failure;
use crate::config::{self, Config, Environment};
use crate::system::text;

const OPTIONS: [&str; 11] = [
    "config",
    "host",
    "port-mapping",
    "write-only",
    "wait",
    "days",
    "out",
    "force",
    "json",
    "help",
    "version",
];

/// The kinds of update that the bot wants.
pub(super) type Kinds = &'static [&'static str];

/// The value of an environment variable.
pub(super) fn environment(name: &str) -> Option<OsString> {
    env::var_os(name)
}

/// Everything that the command line can hold, whatever the command.
#[derive(Default)]
pub(super) struct Options {
    pub(super) words: Vec<String>,
    pub(super) config: Option<PathBuf>,
    pub(super) host: Option<String>,
    pub(super) days: Option<u32>,
    pub(super) out: Option<PathBuf>,
    pub(super) force: bool,
    pub(super) json: bool,
    pub(super) port_mapping: Option<String>,
    pub(super) write_only: bool,
    pub(super) wait: bool,
}

impl Options {
    /// Whether the command `words` has all options that are given.
    pub(super) fn belong_to(&self, words: &[&str]) -> Result<(), Failure> {
        for (is_given, names, commands) in [
            (self.host.is_some(), "--host works", &["cert", "init"][..]),
            (
                self.days.is_some() || self.out.is_some() || self.force,
                "--days, --out and --force work",
                &["cert"],
            ),
            (
                self.port_mapping.is_some() || self.write_only,
                "--port-mapping and --write-only work",
                &["init"],
            ),
            (self.wait, "--wait works", &["status"]),
            (self.json, "--json works", &["doctor", "status"]),
        ] {
            if is_given && !matches!(words, [word] if commands.contains(word)) {
                return Err(Failure::Usage(format!(
                    "{names} only with `pihook {}`.",
                    commands.join("` and `pihook ")
                )));
            }
        }
        Ok(())
    }

    /// The options of this process.
    pub(super) fn read() -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut parser = Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("config") => options.config = Some(parser.value()?.into()),
                Arg::Long("host") => options.host = Some(parser.value()?.string()?),
                Arg::Long("days") => options.days = Some(days(&parser.value()?.string()?)?),
                Arg::Long("out") => options.out = Some(parser.value()?.into()),
                Arg::Long("force") => options.force = true,
                Arg::Long("port-mapping") => options.port_mapping = Some(parser.value()?.string()?),
                Arg::Long("write-only") => options.write_only = true,
                Arg::Long("wait") => options.wait = true,
                Arg::Long("json") => options.json = true,
                Arg::Long("help") | Arg::Short('h') => options.words.insert(0, "help".into()),
                Arg::Long("version") | Arg::Short('V') => options.words = vec!["version".into()],
                Arg::Value(word) => options.words.push(word.string()?),
                Arg::Long(name) => {
                    let hint = match text::nearest(name, OPTIONS) {
                        Some(meant) => format!(" Did you mean --{meant}?"),
                        None => String::new(),
                    };
                    return Err(Failure::Usage(format!("Unknown option --{name}.{hint}")));
                }
                Arg::Short(_) => return Err(argument.unexpected().into()),
            }
        }
        Ok(options)
    }

    /// The settings that the command works with.
    pub(super) fn load(&self, environment: Environment) -> Result<Config, Failure> {
        let source = config::find(self.config.clone(), environment)?;
        Ok(config::load_from(&source, environment)?)
    }
}

fn days(text: &str) -> Result<u32, Failure> {
    match text.parse() {
        Ok(days @ 1..=36_500) => Ok(days),
        _ => Err(Failure::Usage(format!(
            "--days must be a whole number from 1 to 36500, not {text:?}."
        ))),
    }
}
