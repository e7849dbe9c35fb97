//! One certificate, as far as OpenSSL looks at it. It reads more forms than a strict parser does,
//! and so do we: what can be read is read.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pem::Pem;
use rustls::pki_types::CertificateDer;
use x509_cert::certificate::{CertificateInner, Profile, TbsCertificateInner};
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Any, Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, NameConstraints, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::name::{Name, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

/// The attributes of a name that messages and checks need.
const COMMON_NAME: &str = "2.5.4.3";
const ORGANIZATION: &str = "2.5.4.10";
/// The arc of the standard extensions: OpenSSL knows all of them that a certificate has.
const STANDARD_EXTENSIONS: &str = "2.5.29.";

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

    /// The id of a critical extension that is none of the standard ones.
    pub(super) fn unknown_extension(&self) -> Option<String> {
        for extension in self.extensions() {
            let id = extension.extn_id.to_string();
            if extension.critical && !id.starts_with(STANDARD_EXTENSIONS) {
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

    pub(super) fn is_valid(&self, now: SystemTime) -> bool {
        self.not_before() <= now && now <= self.not_after()
    }

    /// How long ago it expired; None when it did not.
    pub(super) fn expired(&self, now: SystemTime) -> Option<Duration> {
        if now > self.not_after() {
            Some(now.duration_since(self.not_after()).unwrap_or_default())
        } else {
            None
        }
    }

    /// Whether its key usage forbids it to sign others.
    pub(super) fn is_no_signer(&self) -> bool {
        match self.extension::<KeyUsage>() {
            Some(usage) => !usage.key_cert_sign(),
            None => false,
        }
    }

    /// How many others may stand between it and the server's certificate.
    pub(super) fn path_limit(&self) -> Option<usize> {
        let constraints = self.extension::<BasicConstraints>()?;
        constraints.path_len_constraint.map(usize::from)
    }

    /// Whether it limits the names of the certificates below it.
    pub(super) fn limits_names(&self) -> bool {
        self.raw_extension(&NameConstraints::OID.to_string())
            .is_some()
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

    /// Whether it signed itself: a root, or one that stands alone.
    pub(super) fn is_self_signed(&self) -> bool {
        self.may_be_signed_by(self)
    }

    /// Its public key, as DER.
    pub(super) fn public_key(&self) -> Option<Vec<u8>> {
        self.key().to_der().ok()
    }
}

/// The certificates and nothing else, as the text of a PEM file.
pub(super) fn pem(certificates: &[CertificateDer]) -> String {
    let mut text = String::new();
    for der in certificates {
        text += &pem::encode(&Pem::new("CERTIFICATE", der.as_ref()));
    }
    text
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
