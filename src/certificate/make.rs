//! Makes certificates of our own.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::check::BUILT;
use super::error::Error;
use super::load::{Certificate, OURS, load, parse};
use crate::system::files;

/// How long a certificate of ours is valid, as in the lesson's openssl command.
pub(crate) const DAYS: u32 = 3650;
/// A Pi has no clock that survives its power, and Telegram's clock is another one: a certificate
/// made by a clock that is a little ahead must be valid at once.
const BACKDATED: Duration = Duration::from_secs(2 * 86400);

/// Makes a self-signed certificate for `host`, with an EC P-256 key of its own or with `key`; both PEM.
///
/// # Errors
/// When the key is of no use, or the random source fails.
pub fn make(host: &str, days: u32, now: SystemTime, key: Option<&str>) -> Result<(String, String), Error> {
    let failed = |why: rcgen::Error| Error::Make(why.to_string());
    let key = key.map_or_else(KeyPair::generate, KeyPair::from_pem).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, host);
    params.distinguished_name.push(DnType::OrganizationName, OURS);
    // Telegram looks at the common name; curl, browsers and the rest at this.
    params.subject_alt_names = vec![match host.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(host.try_into().map_err(failed)?),
    }];
    // A Pi's clock starts in the past, and what is made then must be valid when the time has come.
    let now = now.max(UNIX_EPOCH + BUILT);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + Duration::from_secs(u64::from(days) * 86400)).into();
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes a new pair, the key readable by its owner alone. Neither file is ever seen half-written.
///
/// # Errors
/// When a file cannot be written, or is there and `replace` is not set.
pub fn write(pair: &(String, String), certificate: &Path, key: &Path, replace: bool) -> Result<(), Error> {
    if !replace && let Some(there) = [certificate, key].into_iter().find(|path| path.exists()) {
        return Err(Error::Exists(there.to_owned()));
    }
    for (path, text, mode) in [(key, &pair.1, 0o600), (certificate, &pair.0, 0o644)] {
        write_file(path, text, mode)?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let written = fs::create_dir_all(folder).and_then(|()| files::replace(path, text.as_bytes(), mode));
    written.map_err(|why| Error::File(path.to_owned(), why))
}

/// Makes a new certificate for `host`, for the key that is there: so the power may go between the two files, and
/// at any time there is a pair. Whether it could be written is another matter: a memory card that is full, or can only be
/// read, keeps nobody from serving.
///
/// # Errors
/// When the old key cannot be read or is of no use, or a user's own certificate is there.
pub(crate) fn renew(host: &str, certificate: &Path, key: &Path) -> Result<(Certificate, Result<(), Error>), Error> {
    if certificate.exists() && !load(certificate, key)?.is_ours() {
        return Err(Error::NotOurs(certificate.to_owned()));
    }
    let old = match fs::read_to_string(key) {
        Ok(text) => Some(text),
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => return Err(Error::File(key.to_owned(), why)),
    };
    let pair = make(host, DAYS, SystemTime::now(), old.as_deref())?;
    let made = parse((certificate, pair.0.as_bytes()), (key, pair.1.as_bytes()))?;
    let written = match old {
        None => write(&pair, certificate, key, true),
        Some(_) => write_file(certificate, &pair.0, 0o644),
    };
    Ok((made, written))
}
