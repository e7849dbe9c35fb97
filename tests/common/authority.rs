//! A CA of the tests' own. The programs of tests/nspawn and tests/pi have this file, too.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A root, and a certificate for `name` that it signed, with its key. `change` has the last word on
/// the certificate.
pub fn authority(
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> (String, (String, String)) {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.distinguished_name
        .push(DnType::CommonName, "A root of the test's own");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = root.self_signed(&root_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut leaf);
    let leaf = leaf.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
    (pem, (leaf.pem(), key.serialize_pem()))
}
