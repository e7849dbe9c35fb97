//! Why a certificate cannot serve.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::chain::ChainFault;
use crate::system::clock::in_words;

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
    /// There is something wrong with this file.
    File(PathBuf, FileFault),
    /// The end was so many days ago; whether it is ours.
    Expired(u64, bool),
    /// The beginning lies so far ahead.
    NotYetValid(Duration),
    /// It is for something else than a TLS server.
    Purpose,
    /// It does not name this host where Telegram looks; whether it is ours.
    Name(String, NameRule, bool),
    /// Telegram refuses the chain, and the bot can serve it all the same.
    Chain(ChainFault),
    /// The certificate is a user's own, where only one of ours can follow the address.
    NotOurs(PathBuf),
    /// rustls does not accept it; its words.
    Tls(String),
    /// The library could not make one; its words.
    Make(String),
}

/// What is wrong with one file of a certificate.
#[derive(Debug)]
pub enum FileFault {
    /// It cannot be read or written.
    Io(io::Error),
    /// It does not hold this, such as a "certificate", in PEM form.
    NotPem(&'static str),
    /// The certificate at this place in it, from 1, cannot be read.
    Unreadable(usize),
    /// The kind or size of its key is unknown to us; the bits and the exponent of an RSA key.
    Key(Option<(usize, u64)>),
    /// Its key does not belong to the certificate in this other file.
    Mismatch(PathBuf),
    /// It is there already.
    Exists,
}

/// The RSA keys with which ring can sign.
const MAX_RSA_BITS: usize = 4096;
const MIN_RSA_EXPONENT: u64 = 65537;

/// What to do about a certificate that must be another one. `cert --force` would write over a
/// user's own.
fn replacement(is_ours: bool) -> &'static str {
    if is_ours {
        "Make a new certificate with `pihook cert --force`."
    } else {
        "Get a new certificate. Or move the certificate and its key to another folder: pihook then makes its own."
    }
}

/// Why a key cannot be used, by the bits and the exponent of an RSA key.
fn unusable(rsa: Option<(usize, u64)>) -> String {
    match rsa {
        Some((bits, _)) if bits > MAX_RSA_BITS => {
            format!("the RSA key has {bits} bits, but pihook supports at most {MAX_RSA_BITS} bits. Make a smaller key.")
        }
        Some((2048.., exponent)) if exponent < MIN_RSA_EXPONENT => format!(
            "the RSA key has the exponent {exponent}, but pihook needs {MIN_RSA_EXPONENT}, which all tools use today. \
             Make a new key."
        ),
        _ => "the key must be RSA (2048 to 4096 bits), EC P-256, EC P-384 or Ed25519, without a password. Make a new \
              key."
            .into(),
    }
}

impl FileFault {
    /// What is wrong with the file at `path`, and what to do.
    fn sentence(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Io(error) => match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("{path} does not exist. `pihook cert` makes it.")
                }
                io::ErrorKind::PermissionDenied => format!(
                    "{path}: {error}. Run the command with sudo, or as the user that runs the bot."
                ),
                _ => format!("{path}: {error}."),
            },
            Self::NotPem(what) => {
                format!("{path} does not contain a {what} in PEM form. Put the right file there.")
            }
            Self::Unreadable(number) => format!(
                "{path}: certificate number {number} in the file cannot be read. Copy the file again, or get a new \
                 certificate."
            ),
            Self::Key(rsa) => format!("pihook cannot use the key in {path}: {}", unusable(*rsa)),
            Self::Mismatch(certificate) => {
                let certificate = certificate.display();
                format!(
                    "The key in {path} does not belong to the certificate in {certificate}. Put the right key into {path}."
                )
            }
            Self::Exists => format!("{path} already exists. Use --force to replace it."),
        }
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommonName => {
                "the address must be the common name (CN), and the certificate must not contain a different DNS name"
            }
            Self::AlternativeAddress => "the address must be an IP address in the subject alternative name",
            Self::DnsName => {
                "the name must be a DNS name in the subject alternative name, or the common name (CN) if there is no \
                 DNS name"
            }
        })
    }
}

impl From<ChainFault> for CertificateError {
    fn from(fault: ChainFault) -> Self {
        Self::Chain(fault)
    }
}

impl CertificateError {
    /// Whether this user may not read a file.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::File(_, FileFault::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, fault) => f.write_str(&fault.sentence(path)),
            Self::Expired(days, is_ours) => {
                write!(
                    f,
                    "The certificate expired {days} days ago. {}",
                    replacement(*is_ours)
                )
            }
            Self::NotYetValid(left) => write!(
                f,
                "The certificate is not valid yet: it becomes valid in {}. Check the clock of this machine. If the \
                 clock is right, Telegram refuses the certificate until then.",
                in_words(*left, ["seconds", "minutes", "hours", "days"])
            ),
            Self::Purpose => write!(
                f,
                "The certificate is not for a TLS server (key usage). {}",
                replacement(false)
            ),
            Self::Name(host, rule, is_ours) => write!(
                f,
                "The certificate does not contain the public_host {host} where Telegram looks for it: {rule}. {}",
                replacement(*is_ours)
            ),
            Self::Chain(fault) => fault.fmt(f),
            Self::NotOurs(path) => write!(
                f,
                "pihook did not make {}, and so does not change it. But public_host = \"auto\" needs a certificate \
                 that pihook can change. Move the certificate and its key to another folder, or set public_host to \
                 your address or name.",
                path.display()
            ),
            Self::Tls(reason) => write!(
                f,
                "The certificate cannot be used: {reason}. Make or get a new certificate."
            ),
            Self::Make(reason) => write!(f, "pihook could not make the certificate: {reason}."),
        }
    }
}

impl std::error::Error for CertificateError {}
