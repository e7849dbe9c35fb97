//! The check of a webhook's certificate, as OpenSSL makes it for Telegram.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, InvalidMessage,
    PeerIncompatible, RootCertStore, SignatureScheme,
};
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::{Certificate, Version};

use crate::client;
use crate::names::{self, is_match};
use crate::pem;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// Purposes that serve a server: its own, and the server gated cryptography of Microsoft and
/// Netscape.
const SERVER_PURPOSES: [ObjectIdentifier; 3] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.10.3.3"),
    ObjectIdentifier::new_unwrap("2.16.840.1.113730.4.1"),
];
const NETSCAPE_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113730.1.1");
const NETSCAPE_SERVER: u8 = 0x40;
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// The curves P-256 and P-384.
const CURVES: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
    ObjectIdentifier::new_unwrap("1.3.132.0.34"),
];
/// Signatures with SHA-1 or MD5, which OpenSSL refuses.
const WEAK_SIGNATURES: [ObjectIdentifier; 3] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),
];
/// Critical extensions that OpenSSL knows; any other one is refused.
const KNOWN_EXTENSIONS: [ObjectIdentifier; 11] = [
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.30"),
    ObjectIdentifier::new_unwrap("2.5.29.31"),
    ObjectIdentifier::new_unwrap("2.5.29.32"),
    ObjectIdentifier::new_unwrap("2.5.29.33"),
    ObjectIdentifier::new_unwrap("2.5.29.36"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
    ObjectIdentifier::new_unwrap("2.5.29.54"),
    NETSCAPE_TYPE,
];

/// What one webhook's certificate is checked against.
#[derive(Clone, Debug)]
pub struct Trust(Option<Arc<ClientConfig>>);

impl Trust {
    /// The certificate that came with setWebhook: it alone counts, public roots do not.
    /// The error is the one of setWebhook.
    pub fn uploaded(pem: &[u8]) -> Result<Trust, String> {
        let certificates = pem::certificates(pem)
            .map_err(|error| format!("Failed to set custom certificate file{error}"))?;
        Trust::new(certificates, true)
    }

    /// The system's own certificate authorities.
    pub fn system(roots: &[u8]) -> Result<Trust, String> {
        // Without any root, no certificate is trusted.
        Trust::new(pem::certificates(roots).unwrap_or_default(), false)
    }

    /// Plain HTTP, for a local server.
    pub fn plain() -> Trust {
        Trust(None)
    }

    fn new(anchors: Vec<CertificateDer<'static>>, uploaded: bool) -> Result<Trust, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(anchors, uploaded, &provider);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("Can't create an SSL context: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Trust(Some(Arc::new(config))))
    }

    pub(crate) fn config(&self) -> Option<Arc<ClientConfig>> {
        self.0.clone()
    }
}

#[derive(Debug)]
struct Verifier {
    anchors: Vec<CertificateDer<'static>>,
    /// Those of the anchors that may sign other certificates.
    authorities: Vec<Authority>,
    uploaded: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A root, and how many certificates may lie between it and the server's.
#[derive(Debug)]
struct Authority {
    root: RootCertStore,
    most: Option<u8>,
}

impl Authority {
    /// `None`: this anchor may not sign.
    fn new(der: &CertificateDer<'static>, now: Duration) -> Option<Authority> {
        let certificate = Certificate::from_der(der).ok()?;
        let may_sign = is_self_signed(&certificate)
            && is_authority(&certificate)
            && is_valid(&certificate, now)
            && is_for_server_purposes(&certificate);
        let mut root = RootCertStore::empty();
        root.add(der.clone()).ok().filter(|()| may_sign)?;
        let constraints = certificate
            .tbs_certificate
            .get::<BasicConstraints>()
            .ok()
            .flatten();
        Some(Authority {
            root,
            most: constraints.and_then(|(_, constraints)| constraints.path_len_constraint),
        })
    }
}

impl Verifier {
    fn new(
        anchors: Vec<CertificateDer<'static>>,
        uploaded: bool,
        provider: &CryptoProvider,
    ) -> Verifier {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let authorities = anchors
            .iter()
            .filter_map(|der| Authority::new(der, now))
            .collect();
        Verifier {
            anchors,
            authorities,
            uploaded,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Whether one of the authorities has signed it, through others that the server sends.
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(end_entity).map_err(|error| {
            no_verdict(&format!("a certificate that rustls cannot read ({error})"))
        })?;
        let mut result = Err(CertificateError::UnknownIssuer.into());
        for authority in &self.authorities {
            let most = authority.most.map_or(intermediates.len(), |most| {
                intermediates.len().min(most.into())
            });
            let all = self.algorithms.all;
            result = verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &authority.root,
                &intermediates[..most],
                now,
                all,
            );
            if result.is_ok() {
                return Ok(());
            }
        }
        // Rustls does not know all signatures that OpenSSL knows.
        let mut chain = intermediates
            .iter()
            .chain([end_entity])
            .filter_map(|der| Certificate::from_der(der).ok());
        let is_weak =
            chain.any(|certificate| WEAK_SIGNATURES.contains(&certificate.signature_algorithm.oid));
        match result {
            Err(Error::InvalidCertificate(
                CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            )) if !is_weak => Err(no_verdict("a signature that rustls does not know")),
            result => result,
        }
    }

    /// The signature of a handshake. The key is taken from the certificate without rustls, which
    /// reads X.509 v3 alone.
    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate =
            Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let key = certificate
            .tbs_certificate
            .subject_public_key_info
            .subject_public_key;
        for (scheme, algorithms) in self.algorithms.mapping {
            if *scheme != signed.scheme {
                continue;
            }
            for algorithm in *algorithms {
                let verified =
                    algorithm.verify_signature(key.raw_bytes(), message, signed.signature());
                if verified.is_ok() {
                    return Ok(HandshakeSignatureValid::assertion());
                }
            }
        }
        Err(CertificateError::BadSignature.into())
    }

    fn name_fits(&self, certificate: &Certificate, host: &ServerName<'_>) -> bool {
        let alternatives = certificate
            .tbs_certificate
            .get::<SubjectAltName>()
            .ok()
            .flatten()
            .map_or(Vec::new(), |(_, names)| names.0);
        let host = match host {
            ServerName::DnsName(name) => name.as_ref().to_owned(),
            ServerName::IpAddress(address) => {
                let address = std::net::IpAddr::from(*address);
                if !self.uploaded {
                    return alternatives.contains(&GeneralName::from(address));
                }
                // With an uploaded certificate the address is a name like any other: its text is
                // compared.
                address.to_string()
            }
            _ => return false,
        };

        let mut has_dns_name = false;
        for name in &alternatives {
            if let GeneralName::DnsName(name) = name {
                has_dns_name = true;
                if is_match(name.as_str(), &host) {
                    return true;
                }
            }
        }
        // With alternatives, the common name does not count.
        !has_dns_name && common_name_fits(certificate, &host)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = Certificate::from_der(end_entity)
            .map_err(|error| no_verdict(&format!("a certificate that it cannot read ({error})")))?;
        check_key(&certificate)?;
        if is_self_signed(&certificate) {
            // Only the same certificate is accepted. One with the same name or the same key is not.
            if !self.anchors.contains(end_entity) {
                return Err(CertificateError::UnknownIssuer.into());
            }
            if !is_valid(&certificate, Duration::from_secs(now.as_secs())) {
                return Err(CertificateError::Expired.into());
            }
        } else {
            self.verify_chain(end_entity, intermediates, now)?;
        }
        let is_known = |extension: &&Extension| {
            !extension.critical || KNOWN_EXTENSIONS.contains(&extension.extn_id)
        };
        if !certificate
            .tbs_certificate
            .extensions
            .iter()
            .flatten()
            .all(|extension| is_known(&extension))
        {
            return Err(CertificateError::UnhandledCriticalExtension.into());
        }
        if !is_for_servers(&certificate) {
            return Err(CertificateError::InvalidPurpose.into());
        }
        if !self.name_fits(&certificate, server_name) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn common_name_fits(certificate: &Certificate, host: &str) -> bool {
    let subject = &certificate.tbs_certificate.subject;
    for attribute in subject.0.iter().flat_map(|part| part.0.iter()) {
        if attribute.oid == COMMON_NAME
            && let Some(name) = names::text(attribute)
            && is_match(&name, host)
        {
            return true;
        }
    }
    false
}

fn is_self_signed(certificate: &Certificate) -> bool {
    certificate.tbs_certificate.issuer == certificate.tbs_certificate.subject
}

/// OpenSSL's `X509_check_ca`, for a certificate that has signed itself: before version 3 there were
/// no constraints.
fn is_authority(certificate: &Certificate) -> bool {
    let Ok(usage) = certificate.tbs_certificate.get::<KeyUsage>() else {
        return false;
    };
    let may_sign = usage
        .as_ref()
        .is_none_or(|(_, usage)| usage.key_cert_sign());
    let is_authority = match certificate.tbs_certificate.get::<BasicConstraints>() {
        Ok(Some((_, constraints))) => constraints.ca,
        Ok(None) => certificate.tbs_certificate.version == Version::V1 || usage.is_some(),
        Err(_) => false,
    };
    may_sign && is_authority
}

/// Whether the key is strong enough for OpenSSL as Debian and Ubuntu have it, as far as one can
/// know.
fn check_key(certificate: &Certificate) -> Result<(), Error> {
    let key = &certificate.tbs_certificate.subject_public_key_info;
    let curve = || {
        key.algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok())
    };
    match key.algorithm.oid {
        // The modulus is all of the key but for some bytes.
        RSA if key.subject_public_key.raw_bytes().len() < 256 => {
            Err(CertificateError::BadSignature.into())
        }
        RSA if key.subject_public_key.raw_bytes().len() < 1100 => Ok(()),
        ED25519 => Ok(()),
        _ if curve().is_some_and(|curve| CURVES.contains(&curve)) => Ok(()),
        other => Err(no_verdict(&format!(
            "a key of a kind or size that rustls cannot use ({other})"
        ))),
    }
}

fn is_valid(certificate: &Certificate, now: Duration) -> bool {
    let validity = &certificate.tbs_certificate.validity;
    validity.not_before.to_unix_duration() <= now && now <= validity.not_after.to_unix_duration()
}

/// OpenSSL's purpose `sslserver`.
fn is_for_servers(certificate: &Certificate) -> bool {
    let usage = certificate.tbs_certificate.get::<KeyUsage>();
    let can_serve = |usage: KeyUsage| {
        usage.digital_signature() || usage.key_encipherment() || usage.key_agreement()
    };
    // The last byte of the extension is the one with the bits.
    let mut kinds = certificate.tbs_certificate.extensions.iter().flatten();
    let kind = kinds.find(|extension| extension.extn_id == NETSCAPE_TYPE);
    let is_kind = kind.is_none_or(|kind| {
        kind.extn_value
            .as_bytes()
            .last()
            .is_some_and(|bits| bits & NETSCAPE_SERVER > 0)
    });
    usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| can_serve(usage)))
        && is_kind
        && is_for_server_purposes(certificate)
}

/// The purposes in its list, if it has one. "Any" is none of them.
fn is_for_server_purposes(certificate: &Certificate) -> bool {
    certificate
        .tbs_certificate
        .get::<ExtendedKeyUsage>()
        .is_ok_and(|extended| {
            extended.is_none_or(|(_, list)| {
                list.0
                    .iter()
                    .any(|purpose| SERVER_PURPOSES.contains(purpose))
            })
        })
}

/// What rustls cannot tell and OpenSSL can. It must not be taken for either answer.
fn no_verdict(what: &str) -> Error {
    Error::General(what.to_owned())
}

/// A TLS failure in the words of OpenSSL 3. `is_agreed`: there was an answer to the offer of this
/// client.
pub(crate) fn explain(error: &Error, is_agreed: bool) -> client::Error {
    match error {
        Error::General(what) => client::Error::NoVerdict(what.clone()),
        Error::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity,
        )
        | Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        ) if !is_agreed => {
            let what = "a server that wants a suite, a curve or a signature that rustls does not offer and OpenSSL may";
            client::Error::NoVerdict(what.into())
        }
        // An old server. Telegram's client offers old versions, too, and stumbles over their
        // signatures.
        Error::AlertReceived(AlertDescription::ProtocolVersion) if !is_agreed => {
            let error = PeerIncompatible::ServerDoesNotSupportTls12Or13;
            client::Error::Failed(words(&error.into()))
        }
        other => client::Error::Failed(words(other)),
    }
}

fn words(error: &Error) -> String {
    let (code, reason) = match error {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => {
            ("0A000086", "certificate verify failed")
        }
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => ("0A00010B", "wrong version number"),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            ("0A00014D", "legacy sigalg disallowed or unsupported")
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            ("0A000410", "sslv3 alert handshake failure")
        }
        Error::AlertReceived(AlertDescription::InternalError) => {
            ("0A000438", "tlsv1 alert internal error")
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            ("0A000458", "tlsv1 unrecognized name")
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            ("0A00045C", "tlsv13 alert certificate required")
        }
        other => return format!("SSL error {{{other}}}"),
    };
    format!("SSL error {{error:{code}:SSL routines::{reason}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_strong_weak_or_unknown() {
        let check = |pem: &str| {
            let der = pem::certificates(pem.as_bytes()).unwrap().remove(0);
            check_key(&Certificate::from_der(&der).unwrap())
        };
        assert!(check(include_str!("../tests/odd/rsa2048.pem")).is_ok());
        assert!(matches!(
            check(include_str!("../tests/odd/rsa1024.pem")),
            Err(Error::InvalidCertificate(_))
        ));
        assert!(matches!(
            check(include_str!("../tests/odd/p521.pem")),
            Err(Error::General(_))
        ));
    }
}
