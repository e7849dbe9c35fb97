//! `pihook status`: how the running bot is, and the wait until it works.

use std::io::{self, IsTerminal};

use super::failure::Failure;
use super::options::{Kinds, Options, environment};
use super::output::{is_coloured, print, write_out};
use crate::config;
use crate::doctor::{self, Finding};
use crate::secret::mask;
use crate::status::ask;
use crate::system::terminal;

pub(super) fn status(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    if options.wait {
        return wait_until_it_works(options, allowed_updates);
    }
    let source = config::look(options.config.clone(), &environment)?
        .ok_or_else(|| Failure::Other("pihook is not set up. Run `sudo pihook init`.".into()))?;
    let config = config::examine(&source, &environment).0;
    let report = ask::ask(&config).map_err(Failure::Other)?;
    if options.json {
        return print(&serde_json::to_string_pretty(&report).unwrap_or_default());
    }
    print(&report.to_string())
}

/// Waits until updates arrive, and prints the bot's link; otherwise the first problem that the
/// doctor finds.
pub(super) fn wait_until_it_works(
    options: &Options,
    allowed_updates: Kinds,
) -> Result<(), Failure> {
    let source = config::find(options.config.clone(), &environment)?;
    let config = config::examine(&source, &environment).0;
    let report = ask::wait(&config);
    let works = matches!(&report, Some(report) if report.works);
    if !works && let Some(cross) = first_cross(options, allowed_updates) {
        return Err(told(&cross));
    }

    let (sentence, link) = ask::running(report.as_ref()).map_err(Failure::Other)?;
    print(&sentence)?;
    match link {
        // The code is made of colours, which a file or a pipe does not show.
        Some(link) if io::stdout().is_terminal() => write_out(terminal::qr_code(&link).trim_end()),
        _ => Ok(()),
    }
}

/// The first problem that the doctor finds.
pub(super) fn first_cross(options: &Options, allowed_updates: Kinds) -> Option<Finding> {
    let mut first = None;
    doctor::examine(
        options.config.clone(),
        &environment,
        allowed_updates,
        &mut |finding| {
            if first.is_none() && finding.is_bad() {
                first = Some(finding);
            }
        },
    );
    first
}

/// Tells the problem, which ends the command.
pub(super) fn told(cross: &Finding) -> Failure {
    // The colours of the line must stay; the rest of it is clean.
    terminal::say(&mask(&cross.line(is_coloured())));
    Failure::Other(String::new())
}
