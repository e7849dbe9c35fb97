//! `pihook run`: runs the bot until a signal stops it.

use std::env;
use std::sync::Arc;

use super::failure::Failure;
use super::options::Options;
use super::program::Program;
use crate::bot::Bot;
use crate::config::{self, Environment, Source};
use crate::run;
use crate::system::{logging, process, terminal};

pub(super) fn run(program: &Program, bot: Arc<dyn Bot>, options: &Options) -> Result<(), Failure> {
    logging::start(program.crate_name, program.log_level);
    process::protect_memory();
    process::disable_huge_pages();
    let token = process::take_from_environment(config::TOKEN_VARIABLE);
    let environment = |name: &str| {
        if name == config::TOKEN_VARIABLE {
            token.clone()
        } else {
            env::var_os(name)
        }
    };
    let loaded = options.load(&environment).map_err(|failure| match failure {
        Failure::Config(why) if terminal::is_there() && lacks_token(options, &environment) => {
            Failure::Config(format!(
                "{why}\nRun `sudo pihook init`: it asks for the missing settings."
            ))
        }
        failure => failure,
    });
    Ok(run::run(&loaded?, bot)?)
}

/// Whether no settings name a bot. Settings that root must not read are not missing.
fn lacks_token(options: &Options, environment: Environment) -> bool {
    let names_none = |source: Source| config::examine(&source, environment).0.bots.is_empty();
    config::look(options.config.clone(), environment)
        .is_ok_and(|source| source.is_none_or(names_none))
}
