//! `pihook cert`: makes a certificate by hand.

use std::path::Path;
use std::time::SystemTime;

use super::failure::Failure;
use super::options::{Options, environment};
use super::output::print;
use crate::certificate::{self, CertificateError, CertificateFiles};
use crate::config::{self, Config};

pub(super) fn cert(options: &Options) -> Result<(), Failure> {
    let days = options.days.unwrap_or(certificate::VALID_DAYS);
    // Only three settings count here: a certificate can be made before there is a token.
    let config = config::look(options.config.clone(), &environment)?
        .map(|source| config::examine(&source, &environment).0);
    let host = certificate_host(options, config.as_ref())?;
    let files = match (&options.out, config) {
        (Some(folder), _) => CertificateFiles::within(folder),
        (None, Some(config)) => config.certificate_files,
        (None, None) => CertificateFiles::within(Path::new("certs")),
    };

    make(&host, days, &files, options.force).map_err(|error| Failure::Other(error.to_string()))?;
    print(&format!(
        "{}\n{}",
        files.certificate.display(),
        files.private_key.display()
    ))
}

fn make(
    host: &str,
    days: u32,
    files: &CertificateFiles,
    force: bool,
) -> Result<(), CertificateError> {
    let pair = certificate::make(host, days, SystemTime::now(), None)?;
    certificate::write(&pair, files, force)
}

/// The host of --host, or else of the settings.
fn certificate_host(options: &Options, config: Option<&Config>) -> Result<String, Failure> {
    if let Some(host) = &options.host {
        let own_api = config.is_some_and(Config::has_own_api);
        let host = config::public_host(host, own_api)
            .map_err(|reason| Failure::Usage(format!("--host {reason}.")))?;
        if let Some(host) = host.given() {
            return Ok(host.to_owned());
        }
    }
    if let Some(config) = config
        && let Some(host) = config.public_host.given()
    {
        return Ok(host.to_owned());
    }
    Err(Failure::Usage(
        "The certificate needs a host. Give your public IPv4 address or DNS name with --host, or set public_host."
            .into(),
    ))
}
