//! `pihook run`: runs the bot until a signal stops it.

use std::env;
use std::sync::Arc;

use super::failure::Failure;
use super::options::Options;
use super::program::Program;
use crate::bot::Bot;
use crate::config::{self, Environment};
use crate::run;
use crate::system::{logging, process, terminal};

pub(super) fn run(program: &Program, bot: Arc<dyn Bot>, options: &Options) -> Result<(), Failure> {
    logging::start(program.crate_name, program.log_level);
    process::protect_memory();
    process::disable_huge_pages();

    // A later look at the real environment would not find the token: it is removed from there.
    let token = process::take_from_environment(config::TOKEN_VARIABLE);
    let environment = |name: &str| {
        if name == config::TOKEN_VARIABLE {
            token.clone()
        } else {
            env::var_os(name)
        }
    };
    let config = match options.load(&environment) {
        Err(Failure::Config(reason))
            if terminal::is_there() && lacks_token(options, &environment) =>
        {
            return Err(Failure::Config(format!(
                "{reason}\nRun `sudo pihook init`: it asks for the missing settings."
            )));
        }
        loaded => loaded?,
    };

    run::run(&config, bot)?;
    Ok(())
}

/// Whether no settings name a bot. Settings that root must not read are not missing.
fn lacks_token(options: &Options, environment: Environment) -> bool {
    match config::look(options.config.clone(), environment) {
        Ok(Some(source)) => config::examine(&source, environment).0.bots.is_empty(),
        Ok(None) => true,
        Err(_) => false,
    }
}
