//! `pihook check`: the settings as the bot reads them.

use super::failure::Failure;
use super::options::{Options, environment};
use super::output::{print, warn};
use crate::certificate::CertificateError;
use crate::config;
use crate::delivery::endpoint;

pub(super) fn check(options: &Options) -> Result<(), Failure> {
    let source = config::find(options.config.clone(), &environment)?;
    let (config, mut problems) = config::examine(&source, &environment);
    match endpoint::judge_files(&config) {
        // `run` serves it: a Pi may start in 1970.
        Err(error @ CertificateError::NotYetValid(_)) => warn(&error.to_string()),
        Err(error) => problems.push(error.to_string().into()),
        Ok(Some(doubt)) => warn(&doubt),
        Ok(None) => {}
    }

    print(config.to_string().trim_end())?;
    // Comments keep the whole output valid TOML.
    let mut comments = String::new();
    for sentence in config.consequences() {
        comments += &format!("\n# {sentence}");
    }
    print(&comments)?;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(config::Problems(problems).into())
    }
}
