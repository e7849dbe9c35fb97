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
        Err(why @ CertificateError::NotYetValid(_)) => warn(&why.to_string()),
        Err(why) => problems.push(why.to_string()),
        Ok(Some(doubt)) => warn(&doubt),
        Ok(None) => {}
    }
    print(config.to_string().trim_end())?;
    let comments: Vec<_> = config
        .consequences()
        .iter()
        .map(|sentence| format!("# {sentence}"))
        .collect();
    print(&format!("\n{}", comments.join("\n")))?;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(config::Problems(problems).into())
    }
}
