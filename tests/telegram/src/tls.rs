//! Whom Telegram believes: certificates judged as OpenSSL judges them for a webhook.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, InvalidMessage, PeerIncompatible,
    RootCertStore, SignatureScheme,
};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// What one webhook's certificate is checked against.
#[derive(Clone, Debug)]
pub struct Trust(Option<Arc<ClientConfig>>);

impl Trust {
    /// The certificate that came with setWebhook: it alone counts, public roots do not.
    /// The error is the one of setWebhook.
    pub fn uploaded(pem: &[u8]) -> Result<Trust, String> {
        let certificates = certificates(pem);
        if certificates.is_empty() {
            return Err("Failed to set custom certificate file{error:05800088:x509 certificate routines::no certificate or crl found}".into());
        }
        Trust::new(certificates, true)
    }

    /// The system's own certificate authorities.
    pub fn system(roots: &[u8]) -> Result<Trust, String> {
        Trust::new(certificates(roots), false)
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

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .filter_map(Result::ok)
        .filter(|der| Certificate::from_der(der).is_ok())
        .collect()
}

#[derive(Debug)]
struct Verifier {
    anchors: Vec<CertificateDer<'static>>,
    /// Those of the anchors that may sign other certificates.
    authorities: RootCertStore,
    uploaded: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(anchors: Vec<CertificateDer<'static>>, uploaded: bool, provider: &CryptoProvider) -> Verifier {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut authorities = RootCertStore::empty();
        let is_authority = |der: &&CertificateDer<'static>| {
            Certificate::from_der(der).is_ok_and(|certificate| {
                is_self_signed(&certificate) && is_authority(&certificate) && is_valid(&certificate, now)
            })
        };
        authorities.add_parsable_certificates(anchors.iter().filter(is_authority).cloned());
        Verifier { anchors, authorities, uploaded, algorithms: provider.signature_verification_algorithms }
    }

    fn name_fits(&self, certificate: &Certificate, host: &ServerName<'_>) -> bool {
        let alternatives =
            certificate.tbs_certificate.get::<SubjectAltName>().ok().flatten().map_or(Vec::new(), |(_, names)| names.0);
        let host = match host {
            ServerName::DnsName(name) => name.as_ref().to_owned(),
            ServerName::IpAddress(address) => {
                let address = std::net::IpAddr::from(*address);
                if !self.uploaded {
                    return alternatives.contains(&GeneralName::from(address));
                }
                // With an uploaded certificate the address is a name like any other: its text is compared.
                address.to_string()
            }
            _ => return false,
        };
        let mut names = alternatives
            .iter()
            .filter_map(|name| match name {
                GeneralName::DnsName(name) => Some(name.as_str()),
                _ => None,
            })
            .peekable();
        if names.peek().is_some() {
            return names.any(|name| is_match(name, &host));
        }
        common_names(certificate).iter().any(|name| is_match(name, &host))
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
        let certificate = Certificate::from_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if is_self_signed(&certificate) {
            // Nothing but the very same certificate will do: not one with the same name, nor with the same key.
            if !self.anchors.contains(end_entity) {
                return Err(CertificateError::UnknownIssuer.into());
            }
            if !is_valid(&certificate, Duration::from_secs(now.as_secs())) {
                return Err(CertificateError::Expired.into());
            }
        } else {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.authorities,
                intermediates,
                now,
                self.algorithms.all,
            )?;
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
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn is_self_signed(certificate: &Certificate) -> bool {
    certificate.tbs_certificate.issuer == certificate.tbs_certificate.subject
}

fn is_authority(certificate: &Certificate) -> bool {
    let constraints = certificate.tbs_certificate.get::<BasicConstraints>();
    let usage = certificate.tbs_certificate.get::<KeyUsage>();
    matches!(constraints, Ok(Some((_, BasicConstraints { ca: true, .. }))))
        && usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| usage.key_cert_sign()))
}

fn is_valid(certificate: &Certificate, now: Duration) -> bool {
    let validity = &certificate.tbs_certificate.validity;
    validity.not_before.to_unix_duration() <= now && now <= validity.not_after.to_unix_duration()
}

/// OpenSSL's purpose `sslserver`.
fn is_for_servers(certificate: &Certificate) -> bool {
    let usage = certificate.tbs_certificate.get::<KeyUsage>();
    let extended = certificate.tbs_certificate.get::<ExtendedKeyUsage>();
    let can_serve = |usage: KeyUsage| usage.digital_signature() || usage.key_encipherment() || usage.key_agreement();
    usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| can_serve(usage)))
        && extended.is_ok_and(|extended| {
            extended.is_none_or(|(_, list)| list.0.contains(&SERVER_AUTH) || list.0.contains(&ANY_USAGE))
        })
}

fn common_names(certificate: &Certificate) -> Vec<String> {
    let parts = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let names = parts.filter(|part| part.oid == COMMON_NAME);
    names.filter_map(|part| String::from_utf8(part.value.value().to_vec()).ok()).collect()
}

/// `*` stands for one whole first label, and at least two labels must follow.
fn is_match(pattern: &str, host: &str) -> bool {
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(pattern), Some((first, host))) => {
            !first.is_empty() && pattern.contains('.') && pattern.eq_ignore_ascii_case(host)
        }
        _ => pattern.eq_ignore_ascii_case(host),
    }
}

/// A TLS failure in the words of OpenSSL 3.
pub(crate) fn explain(error: &Error) -> String {
    let (code, reason) = match error {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => ("0A000086", "certificate verify failed"),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => ("0A00010B", "wrong version number"),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            ("0A00014D", "legacy sigalg disallowed or unsupported")
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => ("0A000410", "sslv3 alert handshake failure"),
        Error::AlertReceived(AlertDescription::ProtocolVersion) => ("0A00042E", "tlsv1 alert protocol version"),
        Error::AlertReceived(AlertDescription::InternalError) => ("0A000438", "tlsv1 alert internal error"),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => ("0A000458", "tlsv1 unrecognized name"),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            ("0A00045C", "tlsv13 alert certificate required")
        }
        other => return format!("SSL error {{{other}}}"),
    };
    format!("SSL error {{error:{code}:SSL routines::{reason}}}")
}
