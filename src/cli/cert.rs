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
    let config = config::look(options.config.clone(), &environment)?;
    let config = config.map(|source| config::examine(&source, &environment).0);
    let host = certificate_host(options, config.as_ref())?;
    let files = match (&options.out, config) {
        (None, Some(config)) => config.certificate_files,
        (out, _) => CertificateFiles::within(out.as_deref().unwrap_or(Path::new("certs"))),
    };
    let failed = |why: CertificateError| Failure::Other(why.to_string());
    let pair = certificate::make(&host, days, SystemTime::now(), None).map_err(failed)?;
    certificate::write(&pair, &files, options.force).map_err(failed)?;
    print(&format!(
        "{}\n{}",
        files.certificate.display(),
        files.private_key.display()
    ))
}

/// The host of --host, or else of the settings.
fn certificate_host(options: &Options, config: Option<&Config>) -> Result<String, Failure> {
    let set = config.and_then(|config| config.public_host.given().map(str::to_owned));
    let own_api = config.is_some_and(Config::has_own_api);
    let given = options
        .host
        .as_deref()
        .map(|host| config::public_host(host, own_api))
        .transpose();
    let given = given.map_err(|what| Failure::Usage(format!("--host {what}.")))?;
    given.and_then(|host| host.given().map(str::to_owned)).or(set).ok_or_else(|| {
        Failure::Usage(
            "The certificate needs a host. Give your public IPv4 address or DNS name with --host, or set public_host."
                .into(),
        )
    })
}
