//! Makes certificates of our own.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::check::RELEASE_TIME;
use super::error::CertificateError;
use super::files::CertificateFiles;
use super::load::{Certificate, OUR_ORGANIZATION, load, parse};
use crate::system::files;

/// How long a certificate of ours is valid, as in the lesson's openssl command.
pub(crate) const VALID_DAYS: u32 = 3650;
/// A certificate begins so long before it is made: it must be valid at once also when the Pi's
/// clock, which stops without power, is a little ahead of Telegram's.
const BACKDATING_TIME: Duration = Duration::from_secs(2 * 86400);

/// A certificate and its private key, both PEM.
pub struct PemPair {
    certificate: String,
    private_key: String,
}

/// A new certificate, which serves also where it could not be written.
pub(crate) struct Renewed {
    /// The certificate itself.
    pub(crate) certificate: Certificate,
    /// Whether the files hold it now: a memory card that is full, or can only be read, keeps nobody
    /// from serving.
    pub(crate) written: Result<(), CertificateError>,
}

/// Makes a self-signed certificate for `host`, with an EC P-256 key of its own or with `key`; both
/// PEM.
///
/// # Errors
/// When the key is of no use, or the random source fails.
pub fn make(
    host: &str,
    days: u32,
    now: SystemTime,
    key: Option<&str>,
) -> Result<PemPair, CertificateError> {
    let failed = |why: rcgen::Error| CertificateError::Make(why.to_string());
    let key = key
        .map_or_else(KeyPair::generate, KeyPair::from_pem)
        .map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, host);
    params
        .distinguished_name
        .push(DnType::OrganizationName, OUR_ORGANIZATION);
    // Telegram looks at the common name; curl, browsers and the rest at this.
    params.subject_alt_names = vec![match host.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(host.try_into().map_err(failed)?),
    }];
    // A Pi's clock starts in the past, and what is made then must be valid when the time has come.
    let now = now.max(UNIX_EPOCH + RELEASE_TIME);
    params.not_before = (now - BACKDATING_TIME).into();
    params.not_after = (now + Duration::from_secs(u64::from(days) * 86400)).into();
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(PemPair {
        certificate: certificate.pem(),
        private_key: key.serialize_pem(),
    })
}

/// Writes a new pair, the key readable by its owner alone. Neither file is ever seen half-written.
///
/// # Errors
/// When a file cannot be written, or is there and `replace` is not set.
pub fn write(
    pair: &PemPair,
    files: &CertificateFiles,
    replace: bool,
) -> Result<(), CertificateError> {
    let CertificateFiles {
        certificate,
        private_key,
    } = files;
    if !replace
        && let Some(there) = [certificate, private_key]
            .into_iter()
            .find(|path| path.exists())
    {
        return Err(CertificateError::Exists(there.clone()));
    }
    write_file(private_key, &pair.private_key, 0o600)?;
    write_file(certificate, &pair.certificate, 0o644)
}

fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let written =
        files::create_folder(folder).and_then(|()| files::replace(path, text.as_bytes(), mode));
    written.map_err(|why| CertificateError::File(path.to_owned(), why))
}

/// Makes a new certificate for `host`, for the key that is there: so the power may go between the
/// two files, and at any time there is a pair.
///
/// # Errors
/// When the old key cannot be read or is of no use, or a user's own certificate is there.
pub(crate) fn renew(host: &str, files: &CertificateFiles) -> Result<Renewed, CertificateError> {
    if files.certificate.exists() && !load(files)?.is_ours() {
        return Err(CertificateError::NotOurs(files.certificate.clone()));
    }
    let old_key = match fs::read_to_string(&files.private_key) {
        Ok(text) => Some(text),
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => return Err(CertificateError::File(files.private_key.clone(), why)),
    };
    let pair = make(host, VALID_DAYS, SystemTime::now(), old_key.as_deref())?;
    let certificate = parse(
        files,
        pair.certificate.as_bytes(),
        pair.private_key.as_bytes(),
    )?;
    let written = match old_key {
        None => write(&pair, files, true),
        Some(_) => write_file(&files.certificate, &pair.certificate, 0o644),
    };
    Ok(Renewed {
        certificate,
        written,
    })
}
