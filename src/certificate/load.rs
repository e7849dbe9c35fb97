//! The webhook's certificate: made, loaded, and held against what Telegram checks.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Whoever makes a certificate before this version was, has a wrong clock: 2026-11-24.
pub(super) const BUILT: Duration = Duration::from_secs(1_795_478_400);
/// A certificate of ours is renewed so long before its end, or a third of its life if that is shorter.
const AHEAD: Duration = Duration::from_secs(30 * 86400);
/// No clock so far behind this version is believed: 25 years.
const YEARS: Duration = Duration::from_secs(25 * 365 * 86400);
/// The organization in a certificate's subject that makes it ours: only such are renewed.
pub(super) const OURS: &str = "pihook";
/// Extended key usage: TLS server.
const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
/// Attributes of a subject.
const COMMON_NAME: &str = "2.5.4.3";
const ORGANIZATION: &str = "2.5.4.10";

/// A certificate with its key, as files hold it: ours and a user's own are loaded alike.
pub struct Certificate {
    key: CertifiedKey,
    common_names: Vec<String>,
    dns_names: Vec<String>,
    addresses: Vec<IpAddr>,
    not_before: SystemTime,
    not_after: SystemTime,
    serves_tls: bool,
    is_ours: bool,
    /// Whether one of the chain signed itself: then Telegram knows it only by upload.
    self_signed: bool,
}

/// Why a certificate cannot serve.
#[derive(Debug)]
pub enum Error {
    /// A file could not be read or written.
    File(PathBuf, io::Error),
    /// A file holds no such thing.
    NotPem(PathBuf, &'static str),
    /// The key's kind or size is unknown to us.
    Key(PathBuf),
    /// The key belongs to another certificate.
    Mismatch(PathBuf, PathBuf),
    /// The end was so many days ago.
    Expired(u64),
    /// The beginning lies ahead.
    NotYetValid,
    /// It is for something else than a TLS server.
    Purpose,
    /// It names another host, and which way Telegram looks.
    Name(String, &'static str),
    /// A user's own, where only one of ours can follow the address.
    NotOurs(PathBuf),
    /// rustls does not take it.
    Tls(String),
    /// There is a file already.
    Exists(PathBuf),
    /// The library could not make one.
    Make(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, why) if why.kind() == io::ErrorKind::NotFound => {
                write!(f, "{} is not there: `pihook cert` makes it.", path.display())
            }
            Self::File(path, why) => write!(f, "{}: {why}.", path.display()),
            Self::NotPem(path, what) => write!(f, "{} holds no {what} in PEM form.", path.display()),
            Self::Key(path) => write!(
                f,
                "The key in {} cannot serve: it must be RSA of 2048 bits or more, EC P-256 or P-384, or Ed25519, without a password.",
                path.display()
            ),
            Self::Mismatch(certificate, key) => {
                write!(
                    f,
                    "The key in {} does not belong to the certificate in {}.",
                    key.display(),
                    certificate.display()
                )
            }
            Self::Expired(days) => {
                write!(f, "The certificate expired {days} days ago: make a new one with `pihook cert --force`.")
            }
            Self::NotYetValid => f.write_str("The certificate is not valid yet: is the clock of this machine right?"),
            Self::Purpose => f.write_str("The certificate is not for a TLS server (key usage)."),
            Self::Name(host, rule) => write!(
                f,
                "The certificate does not carry the public_host {host} where Telegram looks for it: {rule}; make one with `pihook cert --force`."
            ),
            Self::NotOurs(path) => write!(
                f,
                "{} is not one that pihook made, and is left alone: so it cannot follow the address, as public_host = \"auto\" has it. Move it and its key away, or name your public_host.",
                path.display()
            ),
            Self::Tls(why) => write!(f, "The certificate cannot serve: {why}."),
            Self::Exists(path) => write!(f, "{} is there already: --force replaces it.", path.display()),
            Self::Make(why) => write!(f, "The certificate could not be made: {why}."),
        }
    }
}

impl std::error::Error for Error {}

/// Loads a certificate, the rest of its chain if it has one, and its key (PKCS#8, PKCS#1 or SEC1).
///
/// # Errors
/// When a file cannot be read, holds something else, or the two do not belong together.
pub fn load(certificate: &Path, key: &Path) -> Result<Certificate, Error> {
    let read = |path: &Path| fs::read(path).map_err(|why| Error::File(path.to_owned(), why));
    parse((certificate, &read(certificate)?), (key, &read(key)?))
}

/// Like [`load`], of what the files hold.
pub(super) fn parse((certificate, pem): (&Path, &[u8]), (key, key_pem): (&Path, &[u8])) -> Result<Certificate, Error> {
    let not_certificate = || Error::NotPem(certificate.to_owned(), "certificate");
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, PemError>>().map_err(|_| not_certificate())?;
    let parsed: Vec<_> =
        chain.iter().map(|der| Parsed::from_der(der)).collect::<Result<_, _>>().map_err(|_| not_certificate())?;
    let leaf = parsed.first().ok_or_else(not_certificate)?;
    let private = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| Error::NotPem(key.to_owned(), "private key (without a password)"))?;
    let signer = ring::sign::any_supported_type(&private).map_err(|_| Error::Key(key.to_owned()))?;

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
        is_ours: self_signed && subject(leaf, ORGANIZATION) == [OURS],
        self_signed,
    };
    // Not rustls' own comparison: it refuses certificates of version 1, which Telegram takes.
    let public = leaf.tbs_certificate.subject_public_key_info.to_der().ok();
    if loaded.key.key.public_key().map(|key| key.to_vec()) == public {
        Ok(loaded)
    } else {
        Err(Error::Mismatch(certificate.to_owned(), key.to_owned()))
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
    /// Checks all that Telegram will check when it calls `host`, at the time `now`. It does not say
    /// which check failed: "certificate verify failed" is all that its users ever see.
    ///
    /// # Errors
    /// The first thing that it would refuse.
    pub fn check(&self, host: &str, now: SystemTime) -> Result<(), Error> {
        if !self.serves_tls {
            return Err(Error::Purpose);
        }
        self.check_name(host)?;
        if now > self.not_after {
            let past = now.duration_since(self.not_after).unwrap_or_default();
            return Err(Error::Expired(past.as_secs() / 86400));
        }
        // Last, since here it may be the clock that is wrong.
        if now < self.not_before { Err(Error::NotYetValid) } else { Ok(()) }
    }

    /// Telegram checks an uploaded certificate's name as a host name even when it is an address
    /// (tdlib/td, `SslStream::init`), and OpenSSL takes the common name only where no DNS name is.
    fn check_name(&self, host: &str) -> Result<(), Error> {
        let names = if self.dns_names.is_empty() { &self.common_names } else { &self.dns_names };
        let (found, rule) = match host.parse::<Ipv4Addr>() {
            Ok(address) if !self.self_signed => {
                (self.addresses.contains(&address.into()), "it must be an IP address of the subject alternative name")
            }
            _ => (
                names.iter().any(|name| covers(name, host)),
                "it must be the common name (CN), and no other DNS name may be in it",
            ),
        };
        if found { Ok(()) } else { Err(Error::Name(host.into(), rule)) }
    }

    /// The certificate itself, without the rest of its chain.
    #[must_use]
    pub fn leaf(&self) -> &CertificateDer<'static> {
        // `load` takes no empty chain.
        &self.key.cert[0]
    }

    /// How many days it is valid.
    #[must_use]
    pub fn days(&self, now: SystemTime) -> u64 {
        self.not_after.duration_since(now).unwrap_or_default().as_secs() / 86400
    }

    /// The kind of its key.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.key.key.algorithm() {
            SignatureAlgorithm::RSA => "RSA",
            SignatureAlgorithm::ED25519 => "Ed25519",
            _ => "ECDSA",
        }
    }

    /// Whether pihook made it, and so may make another in its place.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// The address that it is for, if it is for one.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.common_names.iter().find_map(|name| name.parse().ok())
    }

    /// Whether Telegram finds `host` in it.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        self.check_name(host).is_ok()
    }

    /// How long it is until it should be renewed: nothing when it is time. A clock from before this version
    /// says nothing, nor does one from long after.
    #[must_use]
    pub fn renewal(&self, now: SystemTime) -> Duration {
        if now < UNIX_EPOCH + BUILT || now > UNIX_EPOCH + BUILT + YEARS {
            return AHEAD;
        }
        // Made by a clock that was ahead, it is of no use either.
        if now < self.not_before {
            return Duration::ZERO;
        }
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        (self.not_after - AHEAD.min(life / 3)).duration_since(now).unwrap_or_default()
    }

    /// What to upload with setWebhook, PEM: the certificates and nothing else of the file. None
    /// when a public CA vouches for it: Telegram would trust the upload alone, and then refuse.
    #[must_use]
    pub fn upload(&self) -> Option<String> {
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

/// OpenSSL's rule for host names: letters of either case, and one `*` as the whole first label.
fn covers(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(parent), Some((first, rest))) = (pattern.strip_prefix("*."), host.split_once('.')) else { return false };
    host.parse::<Ipv4Addr>().is_err() && !first.is_empty() && parent.contains('.') && parent.eq_ignore_ascii_case(rest)
}
