//! Chains, judged by `pihook check` as Telegram's own code judges them. Each verdict was written
//! down from that code and from OpenSSL 3.0.22, which it uses; the command openssl must say the
//! same. Needs the command openssl.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use crate::common::{HOST, Home, TOKEN, openssl, settings, telegram, text, tool};
use pihook::certificate::{self, CertificateFiles};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, CustomExtension,
    DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints, SanType, SerialNumber, date_time_ymd,
};

type Change = fn(&mut CertificateParams);
type Issuer = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str, change: Change) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    params
}

fn authority(name: &str, change: Change) -> CertificateParams {
    let mut params = named(name, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    change(&mut params);
    params
}

fn root(change: Change) -> Issuer {
    CertifiedIssuer::self_signed(authority("Home Root", change), KeyPair::generate().unwrap())
        .unwrap()
}

fn middle(root: &Issuer, change: Change) -> Issuer {
    CertifiedIssuer::signed_by(
        authority("Home Middle", change),
        KeyPair::generate().unwrap(),
        root,
    )
    .unwrap()
}

/// A certificate for the home that `issuer` signed, and its key.
fn leaf(issuer: &Issuer, change: Change) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (
        named(HOST, change).signed_by(&key, issuer).unwrap().pem(),
        key.serialize_pem(),
    )
}

fn same(_: &mut CertificateParams) {}

fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 1);
}

fn unknown_extension(params: &mut CertificateParams) {
    let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    unknown.set_criticality(true);
    params.custom_extensions = vec![unknown];
}

fn for_clients(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

/// Leaf and root.
fn pair(of_root: Change, of_leaf: Change) -> (String, String) {
    let root = root(of_root);
    let (leaf, key) = leaf(&root, of_leaf);
    (leaf + &root.pem(), key)
}

/// Leaf, intermediate and root.
fn triple(of_root: Change, of_middle: Change, of_leaf: Change) -> (String, String) {
    let root = root(of_root);
    let middle = middle(&root, of_middle);
    let (leaf, key) = leaf(&middle, of_leaf);
    (leaf + &middle.pem() + &root.pem(), key)
}

fn constrained(
    params: &mut CertificateParams,
    permitted: Vec<GeneralSubtree>,
    excluded: Vec<GeneralSubtree>,
) {
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted,
        excluded_subtrees: excluded,
    });
}

fn address(params: &mut CertificateParams) {
    params.subject_alt_names = vec![SanType::IpAddress(HOST.parse().unwrap())];
}

/// What `pihook check` says: its exit code, and its words.
fn check(home: &Home, (chain, key): &(String, String)) -> (Option<i32>, String) {
    home.write("certs/webhook_cert.pem", chain);
    home.write_private("certs/webhook_pkey.pem", key);
    let output = home.pihook(&["check"]);
    (output.status.code(), text(&output))
}

/// What OpenSSL says where Telegram has the file as the upload and gets it as the chain.
fn openssl_takes(home: &Home, chain: &str) -> bool {
    let end = "-----END CERTIFICATE-----\n";
    let leaf = &chain[..chain.find(end).unwrap() + end.len()];
    home.write("oracle.pem", chain);
    home.write("leaf.pem", leaf);
    let arguments = "verify -no-CAstore -no-CApath -auth_level 2 -CAfile oracle.pem -untrusted oracle.pem -purpose sslserver -verify_hostname";
    let arguments: Vec<_> = arguments.split(' ').chain([HOST, "leaf.pem"]).collect();
    tool("openssl", &arguments, &home.folder).status.success()
}

/// A chain with its key, named by what is wrong with it; and words of the refusal.
type Refused = (&'static str, (String, String), &'static str);

fn assert_refused(cases: Vec<Refused>) {
    let home = Home::new("http://127.0.0.1:1");
    for (case, made, words) in cases {
        assert!(!openssl_takes(&home, &made.0), "{case}");
        let (code, said) = check(&home, &made);
        assert_eq!(code, Some(78), "{case}: {said}");
        assert!(said.contains(words), "{case}: {said}");
    }
}

#[test]
fn a_chain_with_a_bad_intermediate_is_refused_with_a_reason() {
    let missing = {
        let root = root(same);
        let (leaf, key) = leaf(&middle(&root, same), same);
        (leaf + &root.pem(), key)
    };
    assert_refused(vec![
        ("intermediate missing", missing, "\"Home Middle\" signed it"),
        (
            "intermediate expired",
            triple(same, expired, same),
            "\"Home Middle\": it expired",
        ),
        (
            "intermediate no CA",
            triple(same, |p| p.is_ca = IsCa::ExplicitNoCa, same),
            "\"Home Middle\": it is not a CA",
        ),
        (
            "intermediate for clients",
            triple(same, for_clients, same),
            "\"Home Middle\": it is not allowed to sign certificates of TLS servers",
        ),
    ]);
}

#[test]
fn a_chain_with_a_bad_root_is_refused_with_a_reason() {
    let stranger = root(same);
    let signed_by_other = {
        let own = root(same);
        let (leaf, key) = leaf(&own, same);
        (leaf + &stranger.pem(), key)
    };
    assert_refused(vec![
        (
            "another root of the same name",
            signed_by_other,
            "the certificate \"Home Root\" in the file did not sign",
        ),
        (
            "root expired",
            pair(expired, same),
            "\"Home Root\": it expired",
        ),
        (
            "root no CA",
            pair(|p| p.is_ca = IsCa::ExplicitNoCa, same),
            "\"Home Root\": it is not a CA",
        ),
        (
            "root without keyCertSign",
            pair(
                |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature],
                same,
            ),
            "\"Home Root\": its key usage does not contain keyCertSign",
        ),
        (
            "root for clients",
            pair(for_clients, same),
            "\"Home Root\": it is not allowed to sign certificates of TLS servers",
        ),
        (
            "root for any purpose",
            pair(
                |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
                same,
            ),
            "\"Home Root\": it is not allowed to sign certificates of TLS servers",
        ),
        (
            "unknown extension of the root",
            pair(unknown_extension, same),
            "\"Home Root\": it has an unknown critical extension (1.2.3.4)",
        ),
    ]);
}

#[test]
fn a_chain_beyond_the_limits_of_its_root_is_refused_with_a_reason() {
    assert_refused(vec![
        (
            "path length",
            triple(
                |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
                same,
                same,
            ),
            "\"Home Root\": its path length allows 0 CA certificates below it",
        ),
        (
            "excluded address",
            pair(
                |p| {
                    constrained(
                        p,
                        vec![],
                        vec![GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(
                            [80, 0, 0, 0],
                            8,
                        ))],
                    );
                },
                address,
            ),
            "\"Home Root\": its name constraints do not allow",
        ),
        (
            "a name that is not permitted",
            pair(
                |p| {
                    constrained(
                        p,
                        vec![GeneralSubtree::DnsName("example.org".into())],
                        vec![],
                    );
                },
                same,
            ),
            "\"Home Root\": its name constraints do not allow",
        ),
    ]);
}

#[test]
fn a_chain_with_a_bad_leaf_is_refused_with_a_reason() {
    assert_refused(vec![
        (
            "unknown extension of the leaf",
            pair(same, unknown_extension),
            "\"80.100.95.20\": it has an unknown critical extension (1.2.3.4)",
        ),
        (
            "Netscape's kind",
            pair(same, |p| {
                p.custom_extensions = vec![CustomExtension::from_oid_content(
                    &[2, 16, 840, 1, 113_730, 1, 1],
                    vec![3, 2, 7, 0x80],
                )];
            }),
            "not for a TLS server",
        ),
        (
            "any purpose alone",
            pair(same, |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
            }),
            "not for a TLS server",
        ),
    ]);
}

/// A chain with its key, named by what is special about it.
type Accepted = (&'static str, (String, String));

fn assert_accepted(cases: Vec<Accepted>) {
    let home = Home::new("http://127.0.0.1:1");
    for (case, made) in cases {
        assert!(openssl_takes(&home, &made.0), "{case}");
        let (code, said) = check(&home, &made);
        assert_eq!(code, Some(0), "{case}: {said}");
    }
}

#[test]
fn a_chain_in_any_order_and_length_is_accepted() {
    let mixed = {
        let root = root(same);
        let middle = middle(&root, same);
        let (leaf, key) = leaf(&middle, same);
        (leaf + &root.pem() + &middle.pem(), key)
    };
    // A leaf has the name of its root when a user answers all questions of openssl alike.
    let of_one_name = {
        let own = CertifiedIssuer::self_signed(
            authority(HOST, |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
            KeyPair::generate().unwrap(),
        );
        let own = own.unwrap();
        let (leaf, key) = leaf(&own, |p| p.use_authority_key_identifier_extension = true);
        (leaf + &own.pem(), key)
    };
    assert_accepted(vec![
        ("leaf and root", pair(same, same)),
        ("leaf, intermediate and root", triple(same, same, same)),
        ("in another order", mixed),
        ("of one name", of_one_name),
        (
            "a CA as the leaf",
            pair(same, |p| {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
        ),
        (
            "path length 0",
            pair(
                |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
                same,
            ),
        ),
        (
            "path length 1",
            triple(
                |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)),
                same,
                same,
            ),
        ),
        (
            "root with key usage",
            pair(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign], same),
        ),
    ]);
}

#[test]
fn a_chain_with_unusual_extensions_is_accepted() {
    assert_accepted(vec![
        (
            "a purpose of Netscape",
            pair(same, |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![
                    2, 16, 840, 1, 113_730, 4, 1,
                ])];
            }),
        ),
        (
            "a permitted address",
            pair(
                |p| {
                    constrained(
                        p,
                        vec![GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(
                            [80, 0, 0, 0],
                            8,
                        ))],
                        vec![],
                    );
                },
                address,
            ),
        ),
        (
            "a serial of 24 bytes",
            pair(same, |p| {
                p.serial_number = Some(SerialNumber::from_slice(&[0x5a; 24]));
            }),
        ),
        (
            "a common name as BMPString",
            pair(same, |p| {
                p.distinguished_name = DistinguishedName::new();
                p.distinguished_name.push(
                    DnType::CommonName,
                    DnValue::BmpString(HOST.try_into().unwrap()),
                );
            }),
        ),
    ]);
}

/// A root with a key of these many bits, and a leaf that it signed with this digest.
fn by_openssl(home: &Home, bits: u32, digest: &str) -> (String, String) {
    openssl(
        home,
        &format!(
            "req -new -x509 -newkey rsa:{bits} -nodes -days 30 -keyout root.key -out root.pem -subj /CN=Home-Root"
        ),
    );
    openssl(home, "genrsa -out webhook_pkey.pem 2048");
    openssl(
        home,
        &format!("req -new -key webhook_pkey.pem -out leaf.csr -subj /CN={HOST}"),
    );
    openssl(
        home,
        &format!(
            "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 -{digest} -out leaf.pem"
        ),
    );
    (
        home.read("certs/leaf.pem") + &home.read("certs/root.pem"),
        home.read("certs/webhook_pkey.pem"),
    )
}

#[test]
fn a_chain_with_a_weak_key_or_signature_is_refused() {
    let home = Home::new("http://127.0.0.1:1");
    let good = by_openssl(&home, 2048, "sha256");
    assert!(openssl_takes(&home, &good.0));
    assert_eq!(check(&home, &good).0, Some(0));
    for (made, words) in [
        (
            by_openssl(&home, 1024, "sha256"),
            "\"Home-Root\": its key is too weak",
        ),
        (by_openssl(&home, 2048, "sha1"), "it is signed with SHA-1"),
    ] {
        assert!(!openssl_takes(&home, &made.0), "{words}");
        let (code, said) = check(&home, &made);
        assert!(code == Some(78) && said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_chain_whose_root_has_a_key_unknown_to_rustls_is_accepted() {
    let home = Home::new("http://127.0.0.1:1");
    openssl(
        &home,
        "ecparam -name secp521r1 -genkey -noout -out root.key",
    );
    openssl(
        &home,
        "req -new -x509 -key root.key -days 30 -out root.pem -subj /CN=Home-Root",
    );
    openssl(&home, "genrsa -out webhook_pkey.pem 2048");
    openssl(
        &home,
        &format!("req -new -key webhook_pkey.pem -out leaf.csr -subj /CN={HOST}"),
    );
    openssl(
        &home,
        "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 -out leaf.pem",
    );
    let made = (
        home.read("certs/leaf.pem") + &home.read("certs/root.pem"),
        home.read("certs/webhook_pkey.pem"),
    );
    assert!(openssl_takes(&home, &made.0));
    let (code, said) = check(&home, &made);
    assert!(code == Some(0) && !said.contains("cannot say"), "{said}");
}

#[test]
fn a_chain_that_begins_with_its_root_is_accepted_and_served_from_the_certificate_of_the_key() {
    let home = Home::new("http://127.0.0.1:1");
    let root = root(same);
    let (leaf, key) = leaf(&root, same);
    let (code, said) = check(&home, &(root.pem() + &leaf, key));
    assert_eq!(code, Some(0), "{said}");

    let files = CertificateFiles::within(&home.folder.join("certs"));
    let loaded = certificate::load(&files).unwrap();
    loaded.check(HOST, SystemTime::now()).unwrap();
}

#[test]
fn the_environment_changes_no_verdict_of_openssl() {
    let home = Home::new("http://127.0.0.1:1");
    let (chain, key) = pair(same, same);
    home.write("certs/webhook_cert.pem", &chain);
    home.write_private("certs/webhook_pkey.pem", &key);
    // A command of this name that refuses all.
    fs::create_dir(home.folder.join("bin")).unwrap();
    let refusal = "#!/bin/sh\necho error 20 at 0 depth lookup: no >&2\nexit 2\n";
    let path = home.write("bin/openssl", refusal);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();

    let mut command = home.command(&["check"]);
    command.env("OPENSSL_CONF", "/nowhere/openssl.cnf");
    command.env("SSL_CERT_FILE", "/nowhere/roots.pem");
    command.env("PATH", home.folder.join("bin"));
    let output = command.output().unwrap();
    let said = text(&output);
    assert!(
        output.status.success() && !said.contains("cannot say"),
        "{said}"
    );
}

#[test]
fn a_refused_chain_is_served_and_check_and_doctor_say_why() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let settings = settings(
        &telegram.api_url(),
        "delivery = 'webhook'\nwatch_interval = 1",
    );
    let home = Home::with(&settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let root = root(same);
    let (leaf, key) = leaf(&middle(&root, same), same);
    check(&home, &(leaf + &root.pem(), key));
    let pihook = home.run();
    let said = text(&home.pihook(&["doctor"]));
    assert!(
        said.contains("✗ certificate: Telegram refuses this"),
        "{said}"
    );
    pihook.wait_log("the webhook is registered");

    let failed = "SSL error {error:0A000086:SSL routines::certificate verify failed}";
    bot.fail(failed);
    let line = pihook.wait_log("Telegram could not deliver an update: ");
    assert!(line.contains("run `pihook check`"), "{line}");
    let said = text(&home.pihook(&["check"]));
    assert!(said.contains("Home Middle"), "{said}");
}

/// A home whose settings name a host, and whose machine trusts this root.
fn public_home(root: &Issuer, host: &str) -> Home {
    let home = Home::with(
        &settings("http://127.0.0.1:1", "").replace(HOST, host),
        &format!("[[bot]]\ntoken = '{TOKEN}'\n"),
    );
    home.write("roots.pem", &root.pem());
    home
}

#[test]
fn a_certificate_of_a_public_ca_needs_its_whole_chain() {
    let root = root(same);
    let middle = middle(&root, same);
    for (host, change) in [
        (
            "pi.example.org",
            (|p| p.subject_alt_names = vec![SanType::DnsName("pi.example.org".try_into().unwrap())])
                as Change,
        ),
        // Public certificates for addresses have no common name that counts.
        (HOST, |p| {
            address(p);
            p.distinguished_name = DistinguishedName::new();
        }),
    ] {
        let home = public_home(&root, host);
        let checked = |chain: &str, key: &str| {
            home.write("certs/webhook_cert.pem", chain);
            home.write_private("certs/webhook_pkey.pem", key);
            let mut command = home.command(&["check"]);
            let output = command
                .env("SSL_CERT_FILE", Path::new("roots.pem"))
                .output()
                .unwrap();
            (output.status.code(), text(&output))
        };
        let (leaf, key) = leaf(&middle, change);
        let (code, said) = checked(&leaf, &key);
        assert!(
            code == Some(78) && said.contains("fullchain.pem") && !said.contains("--force"),
            "{said}"
        );
        for chain in [
            format!("{leaf}{}", middle.pem()),
            format!("{leaf}{}{}", middle.pem(), root.pem()),
        ] {
            let (code, said) = checked(&chain, &key);
            assert_eq!(code, Some(0), "{said}");
        }
    }
}

#[test]
fn a_wrong_name_in_a_users_own_certificate_gets_no_advice_to_force() {
    let home = Home::new("http://127.0.0.1:1");
    let made = pair(same, |p| {
        p.distinguished_name = DistinguishedName::new();
        p.distinguished_name.push(DnType::CommonName, "other");
    });
    let (code, said) = check(&home, &made);
    assert!(
        code == Some(78) && said.contains("common name") && !said.contains("--force"),
        "{said}"
    );
}

#[test]
fn certificate_files_are_read_in_every_form() {
    let home = Home::new("http://127.0.0.1:1");
    let (chain, key) = pair(same, same);
    let utf16 = |text: &str| -> Vec<u8> {
        format!("\u{feff}{text}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect()
    };
    for certificate in [
        format!("\u{feff}{chain}").into_bytes(),
        chain.replace('\n', "\r\n").into_bytes(),
        chain
            .replace("CERTIFICATE", "X509 CERTIFICATE")
            .into_bytes(),
        chain
            .replace("CERTIFICATE", "TRUSTED CERTIFICATE")
            .into_bytes(),
        chain.replace('\n', "\r").into_bytes(),
        chain.replace('\n', "\n\n").into_bytes(),
        format!("Bag Attributes\n    friendlyName: home\n{chain}").into_bytes(),
        utf16(&chain),
    ] {
        for key in [
            key.clone().into_bytes(),
            format!("\u{feff}{key}").into_bytes(),
            utf16(&key),
        ] {
            check(&home, &(String::new(), String::new()));
            std::fs::write(home.folder.join("certs/webhook_cert.pem"), &certificate).unwrap();
            std::fs::write(home.folder.join("certs/webhook_pkey.pem"), key).unwrap();
            let output = home.pihook(&["check"]);
            assert!(
                output.status.success(),
                "{} {}",
                String::from_utf8_lossy(&certificate),
                text(&output)
            );
        }
    }
    // A broken certificate beside good ones is named by its number.
    let broken = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    let (code, said) = check(&home, &(chain + broken, key));
    assert!(
        code == Some(78) && said.contains("certificate number 3 in the file cannot be read"),
        "{said}"
    );
}

#[test]
fn an_unusable_rsa_key_is_refused_with_a_reason() {
    let home = Home::new("http://127.0.0.1:1");
    for (arguments, words) in [
        ("genrsa -3 -out webhook_pkey.pem 2048", "exponent 3"),
        (
            "genrsa -traditional -3 -out webhook_pkey.pem 2048",
            "exponent 3",
        ),
        (
            "genrsa -out webhook_pkey.pem 4608",
            "the RSA key has 4608 bits, but pihook supports at most 4096 bits",
        ),
        ("genrsa -out webhook_pkey.pem 1024", "2048 to 4096 bits"),
    ] {
        openssl(&home, arguments);
        openssl(
            &home,
            &format!(
                "req -new -x509 -days 30 -key webhook_pkey.pem -out webhook_cert.pem -subj /CN={HOST}"
            ),
        );
        let output = home.pihook(&["check"]);
        let said = text(&output);
        assert!(
            output.status.code() == Some(78) && said.contains(words),
            "{arguments}: {said}"
        );
        assert_eq!(
            said.contains("2048 to 4096 bits"),
            arguments.ends_with("1024"),
            "{said}"
        );
    }
}

#[test]
fn a_certificate_that_is_not_yet_valid_is_served_with_a_warning() {
    let home = Home::new("http://127.0.0.1:1");
    home.certificate(HOST, "somebody", 86_400, 90 * 86_400);
    let pihook = home.run();
    pihook.wait_log("becomes valid in 23 hours");
    pihook.wait_log("Listening on");
    assert!(
        !pihook.log().join("\n").contains("expires"),
        "{:?}",
        pihook.log()
    );
    let said = text(&home.pihook(&["doctor"]));
    assert!(
        said.contains("becomes valid in 23 hours") && said.contains("check the clock"),
        "{said}"
    );
}
