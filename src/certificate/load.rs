//! Reads a certificate with its key, ours or a user's own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pem::Pem;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm};
use x509_cert::Certificate as Parsed;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage, SubjectAltName};

use super::error::CertificateError;
use super::files::CertificateFiles;

/// The organization in a certificate's subject that makes it ours: only such are renewed.
pub(super) const OUR_ORGANIZATION: &str = "pihook";
/// Extended key usage: TLS server.
const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
/// Attributes of a subject.
const COMMON_NAME: &str = "2.5.4.3";
const ORGANIZATION: &str = "2.5.4.10";

/// A certificate with its key, as files hold it: ours and a user's own are loaded alike.
pub struct Certificate {
    key: CertifiedKey,
    pub(super) common_names: Vec<String>,
    pub(super) dns_names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    pub(super) serves_tls: bool,
    is_ours: bool,
    /// Whether one of the chain signed itself: then Telegram knows it only by upload.
    pub(super) self_signed: bool,
}

/// Loads a certificate, the rest of its chain if it has one, and its key (PKCS#8, PKCS#1 or SEC1).
///
/// # Errors
/// When a file cannot be read, holds something else, or the two do not belong together.
pub fn load(files: &CertificateFiles) -> Result<Certificate, CertificateError> {
    let read = |path: &Path| fs::read(path).map_err(|why| CertificateError::File(path.to_owned(), why));
    parse(files, &read(&files.certificate)?, &read(&files.private_key)?)
}

/// Like [`load`], where the files hold `pem` and `key_pem`.
pub(super) fn parse(files: &CertificateFiles, pem: &[u8], key_pem: &[u8]) -> Result<Certificate, CertificateError> {
    let CertificateFiles { certificate, private_key: key } = files;
    let not_certificate = || CertificateError::NotPem(certificate.clone(), "certificate");
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, PemError>>().map_err(|_| not_certificate())?;
    let parsed: Vec<_> =
        chain.iter().map(|der| Parsed::from_der(der)).collect::<Result<_, _>>().map_err(|_| not_certificate())?;
    let leaf = parsed.first().ok_or_else(not_certificate)?;
    let private = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| CertificateError::NotPem(key.clone(), "private key (without a password)"))?;
    let signer = ring::sign::any_supported_type(&private).map_err(|_| CertificateError::Key(key.clone()))?;

    let names = extension::<SubjectAltName>(leaf).map(|names| names.0).unwrap_or_default();
    let validity = leaf.tbs_certificate.validity;
    let self_signed = parsed.iter().any(|one| one.tbs_certificate.issuer == one.tbs_certificate.subject);

    let loaded = Certificate {
        key: CertifiedKey::new(chain, signer),
        common_names: subject(leaf, COMMON_NAME),
        dns_names: names.iter().filter_map(dns_name).collect(),
        addresses: names.iter().filter_map(address).collect(),
        not_before: UNIX_EPOCH + validity.not_before.to_unix_duration(),
        not_after: UNIX_EPOCH + validity.not_after.to_unix_duration(),
        serves_tls: serves_tls(leaf),
        is_ours: self_signed && subject(leaf, ORGANIZATION) == [OUR_ORGANIZATION],
        self_signed,
    };
    // Not rustls' own comparison: it refuses certificates of version 1, which Telegram takes.
    let public = leaf.tbs_certificate.subject_public_key_info.to_der().ok();
    if loaded.key.key.public_key().map(|key| key.to_vec()) == public {
        Ok(loaded)
    } else {
        Err(CertificateError::Mismatch(certificate.clone(), key.clone()))
    }
}

fn extension<'a, T: Decode<'a> + AssociatedOid>(certificate: &'a Parsed) -> Option<T> {
    certificate.tbs_certificate.get::<T>().ok().flatten().map(|(_, value)| value)
}

/// What OpenSSL calls the purpose `sslserver`.
fn serves_tls(certificate: &Parsed) -> bool {
    extension::<ExtendedKeyUsage>(certificate)
        .is_none_or(|purposes| purposes.0.iter().any(|oid| oid.to_string() == SERVER_AUTH))
        && extension::<KeyUsage>(certificate)
            .is_none_or(|usage| usage.digital_signature() || usage.key_encipherment() || usage.key_agreement())
}

fn subject(certificate: &Parsed, attribute: &str) -> Vec<String> {
    let names = certificate.tbs_certificate.subject.0.iter().flat_map(|name| name.0.iter());
    names
        .filter(|name| name.oid.to_string() == attribute)
        .map(|name| String::from_utf8_lossy(name.value.value()).into_owned())
        .collect()
}

fn dns_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        _ => None,
    }
}

fn address(name: &GeneralName) -> Option<IpAddr> {
    match name {
        GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
            v4 if v4.len() == 4 => <[u8; 4]>::try_from(v4).ok().map(IpAddr::from),
            v6 => <[u8; 16]>::try_from(v6).ok().map(IpAddr::from),
        },
        _ => None,
    }
}

impl Certificate {
    /// The certificate itself, without the rest of its chain.
    pub(crate) fn leaf(&self) -> &CertificateDer<'static> {
        // `load` takes no empty chain.
        &self.key.cert[0]
    }

    /// How many days it is valid.
    pub(crate) fn days(&self, now: SystemTime) -> u64 {
        self.not_after.duration_since(now).unwrap_or_default().as_secs() / 86400
    }

    /// The kind of its key.
    pub(crate) fn kind(&self) -> &'static str {
        match self.key.key.algorithm() {
            SignatureAlgorithm::RSA => "RSA",
            SignatureAlgorithm::ED25519 => "Ed25519",
            _ => "ECDSA",
        }
    }

    /// Whether pihook made it, and so may make another in its place.
    pub(crate) fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// The address that it is for, if it is for one.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.common_names.iter().find_map(|name| name.parse().ok())
    }

    /// What to upload with setWebhook, PEM: the certificates and nothing else of the file. None
    /// when a public CA vouches for it: Telegram would trust the upload alone, and then refuse.
    pub(crate) fn upload(&self) -> Option<String> {
        let pem = |der: &CertificateDer| pem::encode(&Pem::new("CERTIFICATE", der.as_ref()));
        self.self_signed.then(|| self.key.cert.iter().map(pem).collect())
    }

    /// TLS 1.2 and 1.3 with this certificate; no SNI is needed, since Telegram sends none for an address.
    ///
    /// # Errors
    /// When rustls finds that the two do not fit.
    pub fn tls(&self) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(self.key.clone()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        // Telegram never resumes a session: tickets would be made for nobody.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}
