//! One certificate, as far as OpenSSL looks at it. It reads more forms than a strict parser does,
//! and so do we: what can be read is read.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use x509_cert::certificate::{CertificateInner, Profile};
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Any, Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;

const COMMON_NAME: &str = "2.5.4.3";
const ORGANIZATION: &str = "2.5.4.10";
/// Extended key usage that serves a TLS server: its own, and the server gated cryptography of
/// Microsoft and Netscape.
const SERVER_PURPOSES: [&str; 3] = [
    "1.3.6.1.5.5.7.3.1",
    "1.3.6.1.4.1.311.10.3.3",
    "2.16.840.1.113730.4.1",
];
/// Netscape's kind of certificate, and its bits for servers and for those that sign them.
const NETSCAPE_KIND: &str = "2.16.840.1.113730.1.1";
pub(super) const NETSCAPE_SERVER: u8 = 0x40;
pub(super) const NETSCAPE_AUTHORITY: u8 = 0x04;
/// The extensions that OpenSSL knows: any other one that is critical is refused (its
/// `X509_supported_extension`).
const KNOWN_EXTENSIONS: [&str; 12] = [
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.32",
    "2.5.29.33",
    "2.5.29.35",
    "2.5.29.36",
    "2.5.29.37",
    "2.5.29.54",
    NETSCAPE_KIND,
];
const RSA: &str = "1.2.840.113549.1.1.1";
const DSA: &str = "1.2.840.10040.4.1";
/// P-192 and secp192k1.
const WEAK_CURVES: [&str; 2] = ["1.2.840.10045.3.1.1", "1.3.132.0.31"];
/// Signatures with SHA-1, MD5 or MD2.
const WEAK_SIGNATURES: [&str; 6] = [
    "1.2.840.113549.1.1.5",
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.2",
    "1.2.840.10045.4.1",
    "1.2.840.10040.4.3",
    "1.3.14.3.2.29",
];
/// The sizes of RSA keys by which ring can check a signature.
const KNOWN_RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Takes serial numbers of any length, as OpenSSL does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AnySerial;

impl Profile for AnySerial {
    fn check_serial_number(_: &SerialNumber<Self>) -> x509_cert::der::Result<()> {
        Ok(())
    }
}

/// A certificate of a chain.
pub(super) struct X509 {
    pub(super) der: CertificateDer<'static>,
    parsed: CertificateInner<AnySerial>,
}

/// A name in the form in which OpenSSL compares it: letters of one case, blanks as one, whatever
/// kind of string it is.
pub(super) type ComparedName = Vec<Vec<(ObjectIdentifier, Vec<u8>)>>;

impl X509 {
    /// Reads one; what stands behind it is left out, such as the marks of a trusted certificate.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let whole = SliceReader::new(der)
            .and_then(|mut reader| reader.tlv_bytes())
            .ok()?;
        let parsed = CertificateInner::from_der(whole).ok()?;
        Some(Self {
            der: CertificateDer::from(whole.to_vec()),
            parsed,
        })
    }

    fn extension<'a, T: Decode<'a> + AssociatedOid>(&'a self) -> Option<T> {
        self.parsed
            .tbs_certificate
            .get::<T>()
            .ok()
            .flatten()
            .map(|(_, value)| value)
    }

    /// Whether an extension that counts is there and cannot be read: what OpenSSL makes of it is
    /// not known.
    pub(super) fn is_unclear(&self) -> bool {
        let tbs = &self.parsed.tbs_certificate;
        tbs.get::<BasicConstraints>().is_err()
            || tbs.get::<KeyUsage>().is_err()
            || tbs.get::<ExtendedKeyUsage>().is_err()
    }

    /// A critical extension that OpenSSL does not know.
    pub(super) fn unknown_extension(&self) -> Option<String> {
        let mut all = self.parsed.tbs_certificate.extensions.iter().flatten();
        let unknown = all.find(|one| {
            one.critical && !KNOWN_EXTENSIONS.contains(&one.extn_id.to_string().as_str())
        });
        unknown.map(|one| one.extn_id.to_string())
    }

    /// How a message calls it.
    pub(super) fn title(&self) -> String {
        title(&self.parsed.tbs_certificate.subject)
    }

    /// How a message calls who signed it.
    pub(super) fn issuer_title(&self) -> String {
        title(&self.parsed.tbs_certificate.issuer)
    }

    pub(super) fn common_names(&self) -> Vec<String> {
        attribute(&self.parsed.tbs_certificate.subject, COMMON_NAME)
    }

    pub(super) fn organizations(&self) -> Vec<String> {
        attribute(&self.parsed.tbs_certificate.subject, ORGANIZATION)
    }

    /// The alternative names of one kind.
    fn alternatives(&self, kind: u8) -> Vec<Vec<u8>> {
        let mut all = self.parsed.tbs_certificate.extensions.iter().flatten();
        let names = all
            .find(|one| one.extn_id == SubjectAltName::OID)
            .map(|one| one.extn_value.as_bytes());
        let list = names
            .and_then(|der| AnyRef::from_der(der).ok())
            .map_or(&[][..], |list| list.value());
        let (mut reader, mut found) = (SliceReader::new(list).ok(), Vec::new());
        while let Some(name) = reader
            .as_mut()
            .and_then(|reader| reader.decode::<AnyRef>().ok())
        {
            if matches!(name.tag(), Tag::ContextSpecific { number, .. } if number == TagNumber::new(kind))
            {
                found.push(name.value().to_vec());
            }
        }
        found
    }

    pub(super) fn dns_names(&self) -> Vec<String> {
        self.alternatives(2)
            .into_iter()
            .map(|name| String::from_utf8_lossy(&name).into_owned())
            .collect()
    }

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let address = |bytes: Vec<u8>| {
            let v4 = <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from))
                .ok()
        };
        self.alternatives(7)
            .into_iter()
            .filter_map(address)
            .collect()
    }

    pub(super) fn not_before(&self) -> SystemTime {
        UNIX_EPOCH
            + self
                .parsed
                .tbs_certificate
                .validity
                .not_before
                .to_unix_duration()
    }

    pub(super) fn not_after(&self) -> SystemTime {
        UNIX_EPOCH
            + self
                .parsed
                .tbs_certificate
                .validity
                .not_after
                .to_unix_duration()
    }

    /// How long it is over.
    pub(super) fn expired(&self, now: SystemTime) -> Option<Duration> {
        (now > self.not_after()).then(|| now.duration_since(self.not_after()).unwrap_or_default())
    }

    /// What OpenSSL calls the purpose `sslserver`, without the names of the key usage.
    pub(super) fn serves_purpose(&self) -> bool {
        self.extension::<ExtendedKeyUsage>().is_none_or(|purposes| {
            purposes
                .0
                .iter()
                .any(|purpose| SERVER_PURPOSES.contains(&purpose.to_string().as_str()))
        })
    }

    /// Whether it may be shown by a TLS server.
    pub(super) fn serves_tls(&self) -> bool {
        let can_serve = |usage: KeyUsage| {
            usage.digital_signature() || usage.key_encipherment() || usage.key_agreement()
        };
        self.serves_purpose()
            && self.extension::<KeyUsage>().is_none_or(can_serve)
            && self
                .netscape_kind()
                .is_none_or(|bits| bits & NETSCAPE_SERVER > 0)
    }

    /// The bits of Netscape's kind: they are the last byte of the extension.
    fn netscape_kind(&self) -> Option<u8> {
        let mut all = self.parsed.tbs_certificate.extensions.iter().flatten();
        let kind = all.find(|one| one.extn_id.to_string() == NETSCAPE_KIND)?;
        Some(
            kind.extn_value
                .as_bytes()
                .last()
                .copied()
                .unwrap_or_default(),
        )
    }

    /// Why it may not sign others (OpenSSL's `check_ca`).
    pub(super) fn why_no_authority(&self) -> Option<&'static str> {
        let usage = self.extension::<KeyUsage>();
        if usage.is_some_and(|usage| !usage.key_cert_sign()) {
            return Some("its key usage does not contain keyCertSign");
        }
        let (constraints, kind) = (self.extension::<BasicConstraints>(), self.netscape_kind());
        let is_authority = constraints.map_or_else(
            || {
                let is_v1 = self.parsed.tbs_certificate.version == x509_cert::Version::V1;
                let is_netscapes = kind.is_some_and(|bits| bits & NETSCAPE_AUTHORITY > 0);
                is_v1 && self.is_self_signed() || usage.is_some() || is_netscapes
            },
            |constraints| constraints.ca,
        );
        (!is_authority).then_some("it is not a CA (basic constraints)")
    }

    /// How many others may stand between it and the server's.
    pub(super) fn path_limit(&self) -> Option<usize> {
        self.extension::<BasicConstraints>()?
            .path_len_constraint
            .map(usize::from)
    }

    /// A limit that only a CA can have.
    pub(super) fn has_senseless_limit(&self) -> bool {
        self.extension::<BasicConstraints>()
            .is_some_and(|constraints| {
                !constraints.ca && constraints.path_len_constraint.unwrap_or_default() > 0
            })
    }

    pub(super) fn name_constraints(&self) -> Option<NameConstraints> {
        self.extension()
    }

    /// Whether the constraints on names are there and cannot be read.
    pub(super) fn has_unclear_constraints(&self) -> bool {
        self.parsed
            .tbs_certificate
            .get::<NameConstraints>()
            .is_err()
    }

    pub(super) fn subject(&self) -> ComparedName {
        compared(&self.parsed.tbs_certificate.subject)
    }

    /// Whether `other` can have signed it, by their names and the ids of their keys.
    pub(super) fn may_be_signed_by(&self, other: &Self) -> bool {
        let named = self
            .extension::<AuthorityKeyIdentifier>()
            .and_then(|id| id.key_identifier);
        let there = other.extension::<SubjectKeyIdentifier>().map(|id| id.0);
        compared(&self.parsed.tbs_certificate.issuer) == other.subject()
            && named.zip(there).is_none_or(|(named, there)| named == there)
    }

    /// Whether issuer and subject have one name.
    pub(super) fn is_self_issued(&self) -> bool {
        compared(&self.parsed.tbs_certificate.issuer) == self.subject()
    }

    /// A root, or one that stands for itself.
    pub(super) fn is_self_signed(&self) -> bool {
        self.may_be_signed_by(self)
    }

    /// Whether `other` has signed it; None when that cannot be checked here.
    pub(super) fn is_signed_by(&self, other: &Self) -> Option<bool> {
        let key = &other.parsed.tbs_certificate.subject_public_key_info;
        if other
            .rsa()
            .is_some_and(|(bits, _)| !KNOWN_RSA_BITS.contains(&bits))
        {
            return None;
        }
        let (algorithm, signed) = (
            content(&key.algorithm)?,
            content(&self.parsed.signature_algorithm)?,
        );
        let fits = ring::default_provider()
            .signature_verification_algorithms
            .all
            .iter()
            .filter(|one| {
                one.public_key_alg_id().as_ref() == algorithm
                    && one.signature_alg_id().as_ref() == signed
            });
        let message = tbs(&self.der)?;
        let (key, signature) = (
            key.subject_public_key.raw_bytes(),
            self.parsed.signature.raw_bytes(),
        );
        fits.map(|one| one.verify_signature(key, message, signature).is_ok())
            .reduce(|one, other| one || other)
    }

    /// Whether OpenSSL takes no such signature any more.
    pub(super) fn has_weak_signature(&self) -> bool {
        WEAK_SIGNATURES.contains(&self.parsed.signature_algorithm.oid.to_string().as_str())
    }

    /// Whether OpenSSL, as Debian and Ubuntu have it, finds its key too weak.
    pub(super) fn has_weak_key(&self) -> bool {
        let algorithm = &self
            .parsed
            .tbs_certificate
            .subject_public_key_info
            .algorithm;
        let curve = algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
        let is_small = self.rsa().is_some_and(|(bits, _)| bits < 2048);
        let key_bytes = self
            .parsed
            .tbs_certificate
            .subject_public_key_info
            .subject_public_key
            .raw_bytes()
            .len();
        is_small
            || algorithm.oid.to_string() == DSA && key_bytes < 256
            || curve.is_some_and(|curve| WEAK_CURVES.contains(&curve.to_string().as_str()))
    }

    /// The bits of its modulus and the exponent, of an RSA key.
    pub(super) fn rsa(&self) -> Option<(usize, u64)> {
        let key = &self.parsed.tbs_certificate.subject_public_key_info;
        if key.algorithm.oid.to_string() != RSA {
            return None;
        }
        let mut reader = SliceReader::new(key.subject_public_key.raw_bytes()).ok()?;
        reader.sequence(rsa_numbers).ok()
    }

    /// Its public key, as DER.
    pub(super) fn public_key(&self) -> Option<Vec<u8>> {
        self.parsed
            .tbs_certificate
            .subject_public_key_info
            .to_der()
            .ok()
    }
}

/// The bits of a modulus, and the exponent behind it.
pub(super) fn rsa_numbers<'r, R: Reader<'r>>(
    reader: &mut R,
) -> x509_cert::der::Result<(usize, u64)> {
    let (modulus, exponent) = (reader.decode::<UintRef>()?, reader.decode::<UintRef>()?);
    let first = modulus.as_bytes().first().copied().unwrap_or_default();
    // No exponent of more bytes is anything but large.
    let exponent = exponent.as_bytes().iter().try_fold(0u64, |all, byte| {
        Some(all.checked_mul(256)? + u64::from(*byte))
    });
    Ok((
        (modulus.as_bytes().len() * 8).saturating_sub(first.leading_zeros() as usize),
        exponent.unwrap_or(u64::MAX),
    ))
}

/// An algorithm's DER without the frame around it.
fn content(algorithm: &impl Encode) -> Option<Vec<u8>> {
    AnyRef::from_der(&algorithm.to_der().ok()?)
        .ok()
        .map(|all| all.value().to_vec())
}

/// The part that is signed, byte for byte.
fn tbs(der: &[u8]) -> Option<&[u8]> {
    SliceReader::new(AnyRef::from_der(der).ok()?.value())
        .and_then(|mut reader| reader.tlv_bytes())
        .ok()
}

fn attribute(name: &Name, wanted: &str) -> Vec<String> {
    let all = name
        .0
        .iter()
        .flat_map(|part| part.0.iter())
        .filter(|part| part.oid.to_string() == wanted);
    all.filter_map(|part| text(&part.value)).collect()
}

fn title(name: &Name) -> String {
    let known = |wanted| attribute(name, wanted).into_iter().next();
    known(COMMON_NAME)
        .or_else(|| known(ORGANIZATION))
        .unwrap_or_else(|| name.to_string())
}

/// A string of a name, whatever kind it is.
fn text(value: &Any) -> Option<String> {
    let bytes = value.value();
    match value.tag() {
        Tag::BmpString => {
            let units = bytes
                .chunks_exact(2)
                .map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        Tag::TeletexString => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

fn compared(name: &Name) -> ComparedName {
    let one = |value: &Any| match text(value) {
        Some(text) => text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_ascii_lowercase()
            .into_bytes(),
        None => value.value().to_vec(),
    };
    let part = |part: &x509_cert::name::RelativeDistinguishedName| {
        let mut all: Vec<_> = part.0.iter().map(|it| (it.oid, one(&it.value))).collect();
        all.sort();
        all
    };
    name.0.iter().map(part).collect()
}
