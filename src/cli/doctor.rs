//! `pihook doctor`: prints what the doctor finds.

use super::failure::Failure;
use super::options::{Kinds, Options, environment};
use super::output::{is_coloured, print, write_out};
use crate::doctor;
use crate::secret::mask;

pub(super) fn doctor(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let mut findings = Vec::new();
    let mut printed = Ok(());
    let coloured = is_coloured();
    let is_well = doctor::examine(
        options.config.clone(),
        &environment,
        allowed_updates,
        &mut |finding| {
            if options.json {
                findings.push(finding);
            } else {
                // Its colours must stay; the rest of it is clean.
                let result = write_out(&mask(&finding.line(coloured)));
                // The other checks still run: their verdict is the exit code.
                if printed.is_ok() {
                    printed = result;
                }
            }
        },
    );

    if options.json {
        print(&serde_json::to_string_pretty(&findings).unwrap_or_default())?;
    }
    printed?;
    if is_well {
        Ok(())
    } else {
        Err(Failure::Other(String::new()))
    }
}
