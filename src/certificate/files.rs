//! The files of a certificate.

use std::path::{Path, PathBuf};

/// The two files of a certificate, both PEM.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate, and the rest of its chain if it has one.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
}

impl CertificateFiles {
    /// The files by their usual names in `folder`.
    #[must_use]
    pub fn within(folder: &Path) -> Self {
        Self {
            certificate: folder.join("webhook_cert.pem"),
            private_key: folder.join("webhook_pkey.pem"),
        }
    }
}
