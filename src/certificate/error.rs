//! Why a certificate cannot serve.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::chain::ChainFault;

/// Where Telegram looks for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// An address, in a certificate that is uploaded.
    CommonName,
    /// An address, in a certificate of a public CA.
    AlternativeAddress,
    /// A DNS name.
    DnsName,
}

/// Why a certificate cannot serve.
#[derive(Debug)]
pub enum CertificateError {
    /// A file could not be read or written.
    File(PathBuf, io::Error),
    /// A file holds no such thing.
    NotPem(PathBuf, &'static str),
    /// A file holds a certificate, at this place, that cannot be read.
    Unreadable(PathBuf, usize),
    /// The key's kind or size is unknown to us; the bits and the exponent of an RSA key.
    Key(PathBuf, Option<(usize, u64)>),
    /// The key belongs to another certificate.
    Mismatch(PathBuf, PathBuf),
    /// The end was so many days ago; whether it is ours.
    Expired(u64, bool),
    /// The beginning lies so far ahead.
    NotYetValid(Duration),
    /// It is for something else than a TLS server; whether it is ours.
    Purpose(bool),
    /// It does not name this host where Telegram looks; whether it is ours.
    Name(String, NameRule, bool),
    /// Telegram refuses the chain, and the bot can serve it all the same.
    Chain(ChainFault),
    /// A user's own, where only one of ours can follow the address.
    NotOurs(PathBuf),
    /// rustls does not take it.
    Tls(String),
    /// There is a file already.
    Exists(PathBuf),
    /// The library could not make one.
    Make(String),
}

/// What ring can sign with.
const MAX_RSA_BITS: usize = 4096;
const MIN_RSA_EXPONENT: u64 = 65537;

/// What to do about a certificate that must be another one. `cert --force` would write over a user's own.
fn replacement(is_ours: bool) -> &'static str {
    if is_ours {
        "make a new one with `pihook cert --force`."
    } else {
        "get a new one, or move it and its key away: then pihook makes its own."
    }
}

/// Why a key cannot be used, by the bits and the exponent of an RSA key.
fn unusable(rsa: Option<(usize, u64)>) -> String {
    match rsa {
        Some((bits, _)) if bits > MAX_RSA_BITS => {
            format!("it is RSA of {bits} bits, and pihook can use {MAX_RSA_BITS} bits at most. Make a smaller one.")
        }
        Some((2048.., exponent)) if exponent < MIN_RSA_EXPONENT => format!(
            "it is RSA with the exponent {exponent}, and pihook needs {MIN_RSA_EXPONENT}, as all tools have it today. Make a new one."
        ),
        _ => "it must be RSA of 2048 bits or more (4096 at most), EC P-256 or P-384, or Ed25519, without a password."
            .into(),
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommonName => "it must be the common name (CN), and no other DNS name may be in it",
            Self::AlternativeAddress => "it must be an IP address of the subject alternative name",
            Self::DnsName => {
                "it must be a DNS name of the subject alternative name, or the common name (CN) where there is none"
            }
        })
    }
}

/// A time as a person says it.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..120 => write!(f, "{seconds} seconds"),
            seconds @ 120..7200 => write!(f, "{} minutes", seconds / 60),
            seconds @ 7200..172_800 => write!(f, "{} hours", seconds / 3600),
            seconds => write!(f, "{} days", seconds / 86400),
        }
    }
}

impl From<ChainFault> for CertificateError {
    fn from(fault: ChainFault) -> Self {
        Self::Chain(fault)
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, why) if why.kind() == io::ErrorKind::NotFound => {
                write!(f, "{} is not there: `pihook cert` makes it.", path.display())
            }
            Self::File(path, why) if why.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "{}: {why}: run it with sudo, or as the user that the bot runs as.", path.display())
            }
            Self::File(path, why) => write!(f, "{}: {why}.", path.display()),
            Self::NotPem(path, what) => write!(f, "{} holds no {what} in PEM form.", path.display()),
            Self::Unreadable(path, number) => write!(
                f,
                "{}: certificate {number} in it cannot be read. Copy the file again, or make or get a new certificate.",
                path.display()
            ),
            Self::Key(path, rsa) => write!(f, "The key in {} cannot serve: {}", path.display(), unusable(*rsa)),
            Self::Mismatch(certificate, key) => {
                let (certificate, key) = (certificate.display(), key.display());
                write!(f, "The key in {key} does not belong to the certificate in {certificate}.")
            }
            Self::Expired(days, is_ours) => {
                write!(f, "The certificate expired {days} days ago: {}", replacement(*is_ours))
            }
            Self::NotYetValid(left) => write!(
                f,
                "The certificate is not valid yet, it begins in {}: is the clock of this machine right? If it is, Telegram refuses the certificate until then.",
                Span(*left)
            ),
            Self::Purpose(is_ours) => {
                write!(f, "The certificate is not for a TLS server (key usage): {}", replacement(*is_ours))
            }
            Self::Name(host, rule, is_ours) => write!(
                f,
                "The certificate does not carry the public_host {host} where Telegram looks for it: {rule}; {}",
                replacement(*is_ours)
            ),
            Self::Chain(fault) => fault.fmt(f),
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

impl std::error::Error for CertificateError {}
