//! Makes certificates of our own.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::check::RELEASE_TIME;
use super::error::{CertificateError, FileFault};
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
    /// Whether the files hold it now. The bot serves all the same where a memory card is full, or
    /// can only be read.
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
    let failed = |error: rcgen::Error| CertificateError::Make(error.to_string());
    let key = match key {
        Some(pem) => KeyPair::from_pem(pem).map_err(failed)?,
        None => KeyPair::generate().map_err(failed)?,
    };

    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, host);
    params
        .distinguished_name
        .push(DnType::OrganizationName, OUR_ORGANIZATION);

    // Telegram looks at the common name; curl, browsers and the rest at this.
    let alternative_name = match host.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(host.try_into().map_err(failed)?),
    };
    params.subject_alt_names = vec![alternative_name];

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
    for path in [certificate, private_key] {
        if !replace && path.exists() {
            return Err(CertificateError::File(path.clone(), FileFault::Exists));
        }
    }

    write_file(private_key, &pair.private_key, 0o600)?;
    write_file(certificate, &pair.certificate, 0o644)
}

fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let failed = |error: io::Error| CertificateError::File(path.to_owned(), FileFault::Io(error));
    let folder = path.parent().unwrap_or(Path::new(""));
    files::create_folder(folder).map_err(failed)?;
    files::replace(path, text.as_bytes(), mode).map_err(failed)
}

/// Makes a new certificate for `host` with the key that is there. So only one file changes, and the
/// two belong together also when the power fails meanwhile.
///
/// # Errors
/// When the old key cannot be read or is of no use, or a user's own certificate is there.
pub(crate) fn renew(host: &str, files: &CertificateFiles) -> Result<Renewed, CertificateError> {
    if files.certificate.exists() && !load(files)?.is_ours() {
        return Err(CertificateError::NotOurs(files.certificate.clone()));
    }

    let old_key = match fs::read_to_string(&files.private_key) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let fault = FileFault::Io(error);
            return Err(CertificateError::File(files.private_key.clone(), fault));
        }
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
