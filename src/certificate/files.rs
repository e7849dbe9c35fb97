//! Where a certificate lies.

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
        let [certificate, private_key] =
            ["webhook_cert.pem", "webhook_pkey.pem"].map(|name| folder.join(name));
        Self {
            certificate,
            private_key,
        }
    }
}
