//! Why a certificate cannot serve.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a certificate cannot serve.
#[derive(Debug)]
pub enum CertificateError {
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

impl fmt::Display for CertificateError {
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

impl std::error::Error for CertificateError {}
