//! Reads a certificate with its key, ours or a user's own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm};
use x509_cert::der::asn1::{AnyRef, OctetStringRef, UintRef};
use x509_cert::der::{Reader, SliceReader};

use super::error::{CertificateError, FileFault};
use super::files::CertificateFiles;
use super::x509::{X509, pem, rsa_numbers};
use crate::system::{ca_roots, text};

/// The organization in a certificate's subject that makes it ours: only such are renewed.
pub(super) const OUR_ORGANIZATION: &str = "pihook";
/// The ends of the lines around a certificate, by the other names that OpenSSL knows it by.
const OTHER_LABELS: [&str; 2] = ["X509 CERTIFICATE-----", "TRUSTED CERTIFICATE-----"];

/// A certificate with its key, as files hold it: ours and a user's own are loaded alike.
pub struct Certificate {
    key: CertifiedKey,
    /// As in the file, the server's own first.
    pub(super) chain: Vec<X509>,
    pub(super) common_names: Vec<String>,
    pub(super) dns_names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    is_ours: bool,
    /// Whether a certificate of the file signed itself: then Telegram can know it by upload.
    pub(super) has_root: bool,
    /// Whether one of them is a root that this machine trusts. It is looked for only where it
    /// counts: behind a certificate with an address.
    pub(super) has_public_root: bool,
}

/// Loads a certificate, the rest of its chain if it has one, and its key (PKCS#8, PKCS#1 or SEC1).
///
/// # Errors
/// When a file cannot be read, holds something else, or the two do not belong together.
pub fn load(files: &CertificateFiles) -> Result<Certificate, CertificateError> {
    let pem = read(&files.certificate)?;
    let key_pem = read(&files.private_key)?;
    parse(files, &pem, &key_pem)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|error| CertificateError::File(path.to_owned(), FileFault::Io(error)))
}

/// Like [`load`], where the files hold `pem` and `key_pem`.
pub(super) fn parse(
    files: &CertificateFiles,
    pem: &[u8],
    key_pem: &[u8],
) -> Result<Certificate, CertificateError> {
    let CertificateFiles {
        certificate,
        private_key: key,
    } = files;
    let mut chain = read_chain(certificate, pem)?;

    let private = private_key(key, key_pem)?;
    let Ok(signer) = ring::sign::any_supported_type(&private) else {
        return Err(CertificateError::File(
            key.clone(),
            FileFault::Key(rsa(&private)),
        ));
    };

    // The server's certificate is the one of the key, wherever it stands in the file. Not rustls'
    // own comparison: it refuses certificates of version 1, which Telegram accepts.
    let of_key = signer.public_key();
    let of_key = of_key.as_deref();
    let place = chain
        .iter()
        .position(|one| one.public_key().as_deref() == of_key);
    let Some(place) = place else {
        let fault = FileFault::Mismatch(certificate.clone());
        return Err(CertificateError::File(key.clone(), fault));
    };
    chain[..=place].rotate_right(1);

    let leaf = &chain[0];
    let ders = chain.iter().map(|one| one.der.clone()).collect();
    Ok(Certificate {
        key: CertifiedKey::new(ders, signer),
        common_names: leaf.common_names(),
        dns_names: leaf.dns_names(),
        addresses: leaf.addresses(),
        not_before: leaf.not_before(),
        not_after: leaf.not_after(),
        is_ours: leaf.is_self_signed() && leaf.organizations() == [OUR_ORGANIZATION],
        has_root: chain.iter().any(X509::is_self_signed),
        has_public_root: !leaf.addresses().is_empty() && has_public_root(&chain),
        chain,
    })
}

/// Whether a root behind the server's certificate is one that this machine trusts.
fn has_public_root(chain: &[X509]) -> bool {
    let roots = &chain[1..];
    if !roots.iter().any(X509::is_self_signed) {
        return false;
    }
    let known = ca_roots::system();
    roots.iter().any(|root| known.contains(&root.der))
}

/// The certificates of a file: PEM with whatever stands around it, or one as DER.
pub(super) fn read_chain(path: &Path, content: &[u8]) -> Result<Vec<X509>, CertificateError> {
    if let Some(one) = X509::read(content) {
        return Ok(vec![one]);
    }

    let mut text = lines(content);
    for label in OTHER_LABELS {
        text = text.replace(label, "CERTIFICATE-----");
    }

    let mut chain = Vec::new();
    for (number, der) in (1..).zip(CertificateDer::pem_slice_iter(text.as_bytes())) {
        let read = match der {
            Ok(der) => X509::read(&der),
            Err(_) => None,
        };
        match read {
            Some(certificate) => chain.push(certificate),
            None if chain.is_empty() => break,
            None => {
                let fault = FileFault::Unreadable(number);
                return Err(CertificateError::File(path.to_owned(), fault));
            }
        }
    }

    if chain.is_empty() {
        let fault = FileFault::NotPem("certificate");
        Err(CertificateError::File(path.to_owned(), fault))
    } else {
        Ok(chain)
    }
}

/// The text of a file with `\n` at the end of each line, whatever it has there.
fn lines(content: &[u8]) -> String {
    text::decode(content)
        .replace("\r\n", "\n")
        .replace('\r', "\n")
}

/// The key of a file: PEM, or the key alone as DER.
fn private_key(path: &Path, content: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let text = lines(content);
    if let Ok(key) = PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        return Ok(key);
    }

    let Ok(key) = PrivateKeyDer::try_from(content.to_vec()) else {
        let fault = FileFault::NotPem("private key (without a password)");
        return Err(CertificateError::File(path.to_owned(), fault));
    };
    Ok(key)
}

/// The bits and the exponent of an RSA key; None for a key of another kind.
fn rsa(key: &PrivateKeyDer) -> Option<(usize, u64)> {
    let der = match key {
        PrivateKeyDer::Pkcs1(key) => key.secret_pkcs1_der(),
        PrivateKeyDer::Pkcs8(key) => {
            let mut reader = SliceReader::new(key.secret_pkcs8_der()).ok()?;
            let inner = reader.sequence(|reader| {
                let _version: UintRef = reader.decode()?;
                let _algorithm: AnyRef = reader.decode()?;
                let inner: OctetStringRef = reader.decode()?;
                // Attributes can follow, and do not matter.
                let _ = reader.tlv_bytes();
                Ok(inner)
            });
            inner.ok()?.as_bytes()
        }
        _ => return None,
    };

    let mut outer = SliceReader::new(der).ok()?;
    let all: AnyRef = outer.decode().ok()?;
    let mut reader = SliceReader::new(all.value()).ok()?;
    let _version: UintRef = reader.decode().ok()?;
    rsa_numbers(&mut reader).ok()
}

impl Certificate {
    /// The certificate itself, without the rest of its chain.
    pub(crate) fn leaf(&self) -> &CertificateDer<'static> {
        // `load` takes no empty chain.
        &self.key.cert[0]
    }

    /// How many whole days it is still valid.
    pub(crate) fn days(&self, now: SystemTime) -> u64 {
        let left = self.not_after.duration_since(now).unwrap_or_default();
        left.as_secs() / 86400
    }

    /// The kind of its key, for a message.
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

    /// What to upload with setWebhook for `host`, PEM: the certificates and nothing else of the
    /// file. None when a public CA vouches for it: Telegram would trust the upload alone, and then
    /// look for an address elsewhere.
    pub(crate) fn upload(&self, host: &str) -> Option<String> {
        if !self.is_uploaded(host) {
            return None;
        }

        Some(pem(&self.key.cert))
    }

    /// TLS 1.2 and 1.3 with this certificate; no SNI is needed, since Telegram sends none for an
    /// address.
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
