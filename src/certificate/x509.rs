//! One certificate, as far as OpenSSL looks at it. It reads more forms than a strict parser does,
//! and so do we: what can be read is read.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use x509_cert::certificate::{CertificateInner, Profile, TbsCertificateInner};
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Any, Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::{Name, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

/// The attributes of a name that messages and checks need.
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
const NETSCAPE_SERVER: u8 = 0x40;
const NETSCAPE_AUTHORITY: u8 = 0x04;
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
/// The algorithms of keys that have a size to check.
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
const RING_RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The lowest security level that Debian's and Ubuntu's OpenSSL has asks for keys of this size.
const MIN_RSA_BITS: usize = 2048;
const MIN_DSA_BYTES: usize = 256;

/// A profile that reads serial numbers of any length, as OpenSSL does.
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
        let mut reader = SliceReader::new(der).ok()?;
        let whole = reader.tlv_bytes().ok()?;
        let parsed = CertificateInner::from_der(whole).ok()?;

        Some(Self {
            der: CertificateDer::from(whole.to_vec()),
            parsed,
        })
    }

    /// The part that its issuer signs, parsed.
    fn content(&self) -> &TbsCertificateInner<AnySerial> {
        &self.parsed.tbs_certificate
    }

    fn key(&self) -> &SubjectPublicKeyInfoOwned {
        &self.content().subject_public_key_info
    }

    /// An extension; None when it is missing or cannot be read.
    fn extension<'a, T: Decode<'a> + AssociatedOid>(&'a self) -> Option<T> {
        match self.content().get::<T>() {
            Ok(Some((_is_critical, value))) => Some(value),
            _ => None,
        }
    }

    /// All extensions, unread.
    fn extensions(&self) -> &[Extension] {
        self.content().extensions.as_deref().unwrap_or_default()
    }

    /// The content of the extension with this id, unread.
    fn raw_extension(&self, id: &str) -> Option<&[u8]> {
        for extension in self.extensions() {
            if extension.extn_id.to_string() == id {
                return Some(extension.extn_value.as_bytes());
            }
        }
        None
    }

    /// Whether an extension that counts is there and cannot be read: what OpenSSL makes of it is
    /// not known.
    pub(super) fn is_unclear(&self) -> bool {
        let content = self.content();
        content.get::<BasicConstraints>().is_err()
            || content.get::<KeyUsage>().is_err()
            || content.get::<ExtendedKeyUsage>().is_err()
    }

    /// A critical extension that OpenSSL does not know, by its id.
    pub(super) fn unknown_extension(&self) -> Option<String> {
        for extension in self.extensions() {
            let id = extension.extn_id.to_string();
            if extension.critical && !KNOWN_EXTENSIONS.contains(&id.as_str()) {
                return Some(id);
            }
        }
        None
    }

    /// The name by which a message calls it.
    pub(super) fn title(&self) -> String {
        title(&self.content().subject)
    }

    /// The name by which a message calls its issuer.
    pub(super) fn issuer_title(&self) -> String {
        title(&self.content().issuer)
    }

    pub(super) fn common_names(&self) -> Vec<String> {
        attribute(&self.content().subject, COMMON_NAME)
    }

    pub(super) fn organizations(&self) -> Vec<String> {
        attribute(&self.content().subject, ORGANIZATION)
    }

    /// The alternative names of one kind, as they stand in the certificate; RFC 5280 numbers the
    /// kinds. A list that is broken counts up to the place where it is.
    fn alternatives(&self, kind: u8) -> Vec<Vec<u8>> {
        let wanted = TagNumber::new(kind);
        let mut found = Vec::new();

        let Some(names) = self.raw_extension(&SubjectAltName::OID.to_string()) else {
            return found;
        };
        let Ok(list) = AnyRef::from_der(names) else {
            return found;
        };
        let Ok(mut reader) = SliceReader::new(list.value()) else {
            return found;
        };

        while let Ok(name) = reader.decode::<AnyRef>() {
            if matches!(name.tag(), Tag::ContextSpecific { number, .. } if number == wanted) {
                found.push(name.value().to_vec());
            }
        }
        found
    }

    pub(super) fn dns_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for name in self.alternatives(2) {
            names.push(String::from_utf8_lossy(&name).into_owned());
        }
        names
    }

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for bytes in self.alternatives(7) {
            if let Ok(v4) = <[u8; 4]>::try_from(&bytes[..]) {
                addresses.push(IpAddr::from(v4));
            } else if let Ok(v6) = <[u8; 16]>::try_from(&bytes[..]) {
                addresses.push(IpAddr::from(v6));
            }
        }
        addresses
    }

    pub(super) fn not_before(&self) -> SystemTime {
        UNIX_EPOCH + self.content().validity.not_before.to_unix_duration()
    }

    pub(super) fn not_after(&self) -> SystemTime {
        UNIX_EPOCH + self.content().validity.not_after.to_unix_duration()
    }

    /// How long ago it expired; None when it did not.
    pub(super) fn expired(&self, now: SystemTime) -> Option<Duration> {
        if now > self.not_after() {
            Some(now.duration_since(self.not_after()).unwrap_or_default())
        } else {
            None
        }
    }

    /// What OpenSSL calls the purpose `sslserver`, without the names of the key usage. A
    /// certificate that names no purpose serves all.
    pub(super) fn serves_purpose(&self) -> bool {
        let Some(purposes) = self.extension::<ExtendedKeyUsage>() else {
            return true;
        };
        for purpose in purposes.0 {
            if SERVER_PURPOSES.contains(&purpose.to_string().as_str()) {
                return true;
            }
        }
        false
    }

    /// Whether it may be shown by a TLS server.
    pub(super) fn serves_tls(&self) -> bool {
        let usage_allows = match self.extension::<KeyUsage>() {
            Some(usage) => {
                usage.digital_signature() || usage.key_encipherment() || usage.key_agreement()
            }
            None => true,
        };
        let netscape_allows = match self.netscape_kind() {
            Some(bits) => bits & NETSCAPE_SERVER > 0,
            None => true,
        };
        self.serves_purpose() && usage_allows && netscape_allows
    }

    /// The bits of Netscape's kind: they are the last byte of the extension.
    fn netscape_kind(&self) -> Option<u8> {
        let bytes = self.raw_extension(NETSCAPE_KIND)?;
        Some(bytes.last().copied().unwrap_or_default())
    }

    /// The reason why it may not sign others (OpenSSL's `check_ca`); None when it may.
    pub(super) fn signing_fault(&self) -> Option<&'static str> {
        let usage = self.extension::<KeyUsage>();
        if let Some(usage) = usage
            && !usage.key_cert_sign()
        {
            return Some("its key usage does not contain keyCertSign");
        }

        let is_authority = match self.extension::<BasicConstraints>() {
            Some(constraints) => constraints.ca,
            // OpenSSL also takes old certificates, from before there was this extension.
            None => usage.is_some() || self.is_old_root() || self.is_netscape_authority(),
        };
        if is_authority {
            None
        } else {
            Some("it is not a CA (basic constraints)")
        }
    }

    /// Whether it is a root of version 1, which has no extensions.
    fn is_old_root(&self) -> bool {
        self.content().version == x509_cert::Version::V1 && self.is_self_signed()
    }

    fn is_netscape_authority(&self) -> bool {
        match self.netscape_kind() {
            Some(bits) => bits & NETSCAPE_AUTHORITY > 0,
            None => false,
        }
    }

    /// How many others may stand between it and the server's certificate.
    pub(super) fn path_limit(&self) -> Option<usize> {
        let constraints = self.extension::<BasicConstraints>()?;
        constraints.path_len_constraint.map(usize::from)
    }

    /// Whether it has a path length limit, which only a CA can have, and is none.
    pub(super) fn has_senseless_limit(&self) -> bool {
        let Some(constraints) = self.extension::<BasicConstraints>() else {
            return false;
        };
        !constraints.ca && constraints.path_len_constraint.unwrap_or_default() > 0
    }

    pub(super) fn name_constraints(&self) -> Option<NameConstraints> {
        self.extension()
    }

    /// Whether the constraints on names are there and cannot be read.
    pub(super) fn has_unclear_constraints(&self) -> bool {
        self.content().get::<NameConstraints>().is_err()
    }

    pub(super) fn subject(&self) -> ComparedName {
        compared(&self.content().subject)
    }

    /// Whether `other` can have signed it, by their names and the ids of their keys. An id counts
    /// only where both certificates have one.
    pub(super) fn may_be_signed_by(&self, other: &Self) -> bool {
        if compared(&self.content().issuer) != other.subject() {
            return false;
        }

        let Some(issuer) = self.extension::<AuthorityKeyIdentifier>() else {
            return true;
        };
        let Some(issuer_key) = issuer.key_identifier else {
            return true;
        };
        match other.extension::<SubjectKeyIdentifier>() {
            Some(key) => key.0 == issuer_key,
            None => true,
        }
    }

    /// Whether issuer and subject have one name.
    pub(super) fn is_self_issued(&self) -> bool {
        compared(&self.content().issuer) == self.subject()
    }

    /// Whether it signed itself: a root, or one that stands alone.
    pub(super) fn is_self_signed(&self) -> bool {
        self.may_be_signed_by(self)
    }

    /// Whether `other` has signed it; None when that cannot be checked here.
    pub(super) fn is_signed_by(&self, other: &Self) -> Option<bool> {
        if let Some((bits, _exponent)) = other.rsa()
            && !RING_RSA_BITS.contains(&bits)
        {
            return None;
        }

        let key = other.key();
        let key_algorithm = algorithm_content(&key.algorithm)?;
        let signature_algorithm = algorithm_content(&self.parsed.signature_algorithm)?;
        let message = signed_part(&self.der)?;
        let signature = self.parsed.signature.raw_bytes();

        // Several of ring's algorithms can fit, one for each length of a digest.
        let mut verdict = None;
        for algorithm in ring::default_provider()
            .signature_verification_algorithms
            .all
        {
            if algorithm.public_key_alg_id().as_ref() != key_algorithm
                || algorithm.signature_alg_id().as_ref() != signature_algorithm
            {
                continue;
            }
            let key_bits = key.subject_public_key.raw_bytes();
            let is_right = algorithm
                .verify_signature(key_bits, message, signature)
                .is_ok();
            verdict = Some(verdict.unwrap_or(false) || is_right);
        }
        verdict
    }

    /// Whether its signature is of a kind that OpenSSL does not accept any more.
    pub(super) fn has_weak_signature(&self) -> bool {
        WEAK_SIGNATURES.contains(&self.parsed.signature_algorithm.oid.to_string().as_str())
    }

    /// Whether OpenSSL, as Debian and Ubuntu have it, finds its key too weak.
    pub(super) fn has_weak_key(&self) -> bool {
        if let Some((bits, _exponent)) = self.rsa()
            && bits < MIN_RSA_BITS
        {
            return true;
        }

        let algorithm = &self.key().algorithm;
        if algorithm.oid.to_string() == DSA
            && self.key().subject_public_key.raw_bytes().len() < MIN_DSA_BYTES
        {
            return true;
        }

        let Some(parameters) = &algorithm.parameters else {
            return false;
        };
        match parameters.decode_as::<ObjectIdentifier>() {
            Ok(curve) => WEAK_CURVES.contains(&curve.to_string().as_str()),
            Err(_) => false,
        }
    }

    /// The bits of its modulus and the exponent, of an RSA key.
    pub(super) fn rsa(&self) -> Option<(usize, u64)> {
        let key = self.key();
        if key.algorithm.oid.to_string() != RSA {
            return None;
        }
        let mut reader = SliceReader::new(key.subject_public_key.raw_bytes()).ok()?;
        reader.sequence(rsa_numbers).ok()
    }

    /// Its public key, as DER.
    pub(super) fn public_key(&self) -> Option<Vec<u8>> {
        self.key().to_der().ok()
    }
}

/// The bits of a modulus, and the exponent behind it.
pub(super) fn rsa_numbers<'r, R: Reader<'r>>(
    reader: &mut R,
) -> x509_cert::der::Result<(usize, u64)> {
    let modulus = reader.decode::<UintRef>()?;
    let exponent = reader.decode::<UintRef>()?;

    let first = modulus.as_bytes().first().copied().unwrap_or_default();
    let bits = (modulus.as_bytes().len() * 8).saturating_sub(first.leading_zeros() as usize);

    // An exponent that does not fit is large, and only small ones are bad.
    let mut value: u64 = 0;
    for byte in exponent.as_bytes() {
        value = value.saturating_mul(256).saturating_add(u64::from(*byte));
    }
    Ok((bits, value))
}

/// An algorithm's DER without the frame around it.
fn algorithm_content(algorithm: &impl Encode) -> Option<Vec<u8>> {
    let der = algorithm.to_der().ok()?;
    let framed = AnyRef::from_der(&der).ok()?;
    Some(framed.value().to_vec())
}

/// The part of a certificate that its issuer signs, byte for byte.
fn signed_part(der: &[u8]) -> Option<&[u8]> {
    let whole = AnyRef::from_der(der).ok()?;
    let mut reader = SliceReader::new(whole.value()).ok()?;
    reader.tlv_bytes().ok()
}

/// The texts of the attributes of a name with this id.
fn attribute(name: &Name, wanted: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for part in &name.0 {
        for attribute in part.0.iter() {
            if attribute.oid.to_string() == wanted {
                texts.extend(text(&attribute.value));
            }
        }
    }
    texts
}

/// The common name, or else the organization, or else the whole name.
fn title(name: &Name) -> String {
    for wanted in [COMMON_NAME, ORGANIZATION] {
        if let Some(first) = attribute(name, wanted).into_iter().next() {
            return first;
        }
    }
    name.to_string()
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
        // Latin-1.
        Tag::TeletexString => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

fn compared(name: &Name) -> ComparedName {
    name.0.iter().map(compared_part).collect()
}

/// One part of a name; usually it is one attribute.
fn compared_part(part: &RelativeDistinguishedName) -> Vec<(ObjectIdentifier, Vec<u8>)> {
    let mut attributes = Vec::new();
    for attribute in part.0.iter() {
        let value = match text(&attribute.value) {
            Some(text) => {
                let words: Vec<_> = text.split_whitespace().collect();
                words.join(" ").to_ascii_lowercase().into_bytes()
            }
            None => attribute.value.value().to_vec(),
        };
        attributes.push((attribute.oid, value));
    }
    attributes.sort();
    attributes
}
