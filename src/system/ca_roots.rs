//! The CAs that this machine trusts.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use ureq::tls::{Certificate, RootCerts};

/// The system's certificates, or those of `SSL_CERT_FILE`.
pub(crate) fn system() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// The CAs that sign the Bot API's certificate: those of [`system`], which are renewed with the
/// system for years after this program was built. The built-in list serves where there are none.
pub(crate) fn roots() -> RootCerts {
    let certificates: Vec<_> = system()
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect();

    if certificates.is_empty() {
        log::warn!(
            "This machine has no list of CA certificates: pihook uses its built-in list. Install ca-certificates."
        );
        return RootCerts::WebPki;
    }

    RootCerts::Specific(Arc::new(certificates))
}
