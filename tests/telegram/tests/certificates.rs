//! Which certificates Telegram believes.

mod common;

use std::io::{Read, Write};

use common::{
    HOST, Identity, OK, SOON, Server, World, accept, params, self_signed, signed, upload,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName,
    DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use simulated_telegram::client::{Connection, Error, Trust};

const UNRECOGNIZED: &str = "SSL error {error:0A000458:SSL routines::tlsv1 unrecognized name}";
const LEGACY: &str =
    "SSL error {error:0A00014D:SSL routines::legacy sigalg disallowed or unsupported}";
const REFUSED: &str = "SSL error {error:0A000086:SSL routines::certificate verify failed}";

/// Connects to a server with this identity as to `host`.
fn connect(identity: &Identity, host: &str, trust: &Trust) -> Result<(), Error> {
    let server = Server::start(identity, |_, _| Some(OK.to_vec()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let source = std::net::Ipv4Addr::LOCALHOST;
    runtime
        .block_on(Connection::open(server.address, source, host, trust))
        .map(drop)
}

fn is_accepted(identity: &Identity, uploaded: &str, host: &str) -> bool {
    match connect(
        identity,
        host,
        &Trust::uploaded(uploaded.as_bytes()).unwrap(),
    ) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error, Error::Failed(REFUSED.into()));
            false
        }
    }
}

/// A self-signed certificate that is uploaded itself.
fn is_self_accepted(params: CertificateParams, host: &str) -> bool {
    let identity = self_signed(params);
    is_accepted(&identity, &identity.chain, host)
}

fn names(common_name: Option<&str>, alternatives: &[SanType]) -> CertificateParams {
    let mut params = params(common_name);
    params.subject_alt_names = alternatives.to_vec();
    params
}

fn ip(text: &str) -> SanType {
    SanType::IpAddress(text.parse().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params(Some("Root"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn an_address_with_an_uploaded_certificate_is_compared_as_a_name() {
    let table = [
        ("CN=IP", names(Some(HOST), &[]), true),
        ("CN=IP, SAN IP", names(Some(HOST), &[ip(HOST)]), true),
        (
            "CN=IP, SAN other IP",
            names(Some(HOST), &[ip("1.2.3.4")]),
            true,
        ),
        (
            "CN=IP, SAN IP and DNS:IP",
            names(Some(HOST), &[ip(HOST), dns(HOST)]),
            true,
        ),
        (
            "CN=other, SAN DNS:IP",
            names(Some("other"), &[dns(HOST)]),
            true,
        ),
        ("CN=other, SAN IP", names(Some("other"), &[ip(HOST)]), false),
        ("no CN, SAN IP", names(None, &[ip(HOST)]), false),
        (
            "CN=IP, SAN DNS:other",
            names(Some(HOST), &[dns("other")]),
            false,
        ),
    ];
    for (row, params, expected) in table {
        assert_eq!(is_self_accepted(params, HOST), expected, "{row}");
    }
}

#[test]
fn a_name_is_compared_with_dns_names_and_else_with_the_common_name() {
    let table = [
        (names(Some("bot.example.org"), &[]), true),
        (names(Some("x"), &[dns("Bot.Example.org")]), true),
        (names(Some("x"), &[dns("*.example.org")]), true),
        (names(Some("x"), &[dns("*.org")]), false),
        (names(Some("bot.example.org"), &[dns("x")]), false),
        (names(Some("x"), &[]), false),
    ];
    for (params, expected) in table {
        assert_eq!(is_self_accepted(params, "bot.example.org"), expected);
    }
}

#[test]
fn without_an_upload_an_address_needs_an_address() {
    let root = authority();
    let trust = Trust::system(root.pem().as_bytes()).unwrap();
    let with_address = signed(names(None, &[ip(HOST)]), &root);
    assert_eq!(connect(&with_address, HOST, &trust), Ok(()));
    let with_name = signed(names(Some(HOST), &[dns(HOST)]), &root);
    assert!(connect(&with_name, HOST, &trust).is_err());
    assert!(connect(&self_signed(names(Some(HOST), &[ip(HOST)])), HOST, &trust).is_err());
}

#[test]
fn only_what_was_uploaded_is_trusted() {
    let root = authority();
    let leaf = signed(params(Some(HOST)), &root);
    assert!(is_accepted(&leaf, &root.pem(), HOST));
    assert!(
        !is_accepted(&leaf, &leaf.chain, HOST),
        "a leaf alone is no anchor"
    );
    assert!(
        !is_accepted(&leaf, &authority().pem(), HOST),
        "another root of the same name"
    );
    let own = self_signed(params(Some(HOST)));
    let renewed = self_signed(params(Some(HOST)));
    assert!(
        !is_accepted(&renewed, &own.chain, HOST),
        "renewed, not uploaded"
    );
    let both = format!("{}{}", own.chain, renewed.chain);
    assert!(is_accepted(&renewed, &both, HOST));
    assert!(
        Trust::uploaded(b"junk")
            .unwrap_err()
            .contains("no certificate or crl found")
    );
}

/// A certificate for the address that is changed by `change`.
fn is_changed_accepted(change: impl FnOnce(&mut CertificateParams)) -> bool {
    let mut params = params(Some(HOST));
    change(&mut params);
    is_self_accepted(params, HOST)
}

#[test]
fn a_self_signed_certificate_may_be_an_authority_or_not() {
    for is_ca in [
        IsCa::NoCa,
        IsCa::ExplicitNoCa,
        IsCa::Ca(BasicConstraints::Unconstrained),
    ] {
        assert!(is_changed_accepted(|params| params.is_ca = is_ca));
    }
}

#[test]
fn dates_and_purposes_count() {
    assert!(!is_changed_accepted(
        |params| params.not_after = date_time_ymd(2020, 1, 1)
    ));
    assert!(!is_changed_accepted(
        |params| params.not_before = date_time_ymd(3000, 1, 1)
    ));
    let usage = |usages: &[KeyUsagePurpose]| {
        is_changed_accepted(|params| params.key_usages = usages.to_vec())
    };
    assert!(!usage(&[KeyUsagePurpose::KeyCertSign]));
    assert!(usage(&[
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature
    ]));
    let extended =
        |purpose| is_changed_accepted(|params| params.extended_key_usages = vec![purpose]);
    assert!(!extended(ExtendedKeyUsagePurpose::ClientAuth));
    assert!(extended(ExtendedKeyUsagePurpose::ServerAuth));
}

fn extension(oid: &[u64], content: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(oid, content.to_vec())
}

#[test]
fn purposes_are_openssls() {
    let extended = |purposes: &[ExtendedKeyUsagePurpose]| {
        is_changed_accepted(|params| params.extended_key_usages = purposes.to_vec())
    };
    let netscape = ExtendedKeyUsagePurpose::Other(vec![2, 16, 840, 1, 113730, 4, 1]);
    let microsoft = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 311, 10, 3, 3]);
    assert!(extended(&[netscape]));
    assert!(extended(&[microsoft]));
    assert!(!extended(&[ExtendedKeyUsagePurpose::Any]));
    assert!(extended(&[
        ExtendedKeyUsagePurpose::Any,
        ExtendedKeyUsagePurpose::ServerAuth
    ]));
    // nsCertType: SSL client, SSL server, both.
    for (bits, expected) in [(0x80, false), (0x40, true), (0xc0, true)] {
        let kind = extension(&[2, 16, 840, 1, 113730, 1, 1], &[3, 2, 6, bits]);
        assert_eq!(
            is_changed_accepted(|params| params.custom_extensions = vec![kind]),
            expected
        );
    }
    for (is_critical, expected) in [(false, true), (true, false)] {
        let mut unknown = extension(&[1, 2, 3, 4], &[5, 0]);
        unknown.set_criticality(is_critical);
        assert_eq!(
            is_changed_accepted(|params| params.custom_extensions = vec![unknown]),
            expected
        );
    }
}

#[test]
fn a_common_name_may_be_any_kind_of_string() {
    for name in [
        DnValue::BmpString(HOST.try_into().unwrap()),
        DnValue::TeletexString(HOST.try_into().unwrap()),
        DnValue::PrintableString(HOST.try_into().unwrap()),
    ] {
        assert!(is_changed_accepted(|params| {
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        }));
    }
}

#[test]
fn a_star_may_be_a_part_of_a_label() {
    for (pattern, expected) in [
        ("b*.name.tld", true),
        ("*t.name.tld", true),
        ("b*t.name.tld", false),
    ] {
        assert_eq!(
            is_self_accepted(names(None, &[dns(pattern)]), "bot.name.tld"),
            expected,
            "{pattern}"
        );
    }
}

#[test]
fn a_root_limits_what_is_below_it() {
    let depth = |most| {
        let mut params = params(Some("Root"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most));
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    for (most, is_leaf_accepted, is_chain_accepted) in [(0, true, false), (1, true, true)] {
        let root = depth(most);
        assert_eq!(
            is_accepted(&signed(params(Some(HOST)), &root), &root.pem(), HOST),
            is_leaf_accepted
        );
        let mut middle = params(Some("Intermediate"));
        middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let middle =
            CertifiedIssuer::signed_by(middle, KeyPair::generate().unwrap(), &root).unwrap();
        let mut leaf = signed(params(Some(HOST)), &middle);
        leaf.chain += &middle.pem();
        assert_eq!(
            is_accepted(&leaf, &root.pem(), HOST),
            is_chain_accepted,
            "{most}"
        );
    }
    let for_clients = |purpose| {
        let mut of_root = params(Some("Root"));
        of_root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        of_root.extended_key_usages = vec![purpose];
        let root = CertifiedIssuer::self_signed(of_root, KeyPair::generate().unwrap()).unwrap();
        is_accepted(&signed(params(Some(HOST)), &root), &root.pem(), HOST)
    };
    assert!(!for_clients(ExtendedKeyUsagePurpose::ClientAuth));
    assert!(for_clients(ExtendedKeyUsagePurpose::ServerAuth));
}

#[test]
fn a_certificate_of_version_1_is_one_like_others() {
    let identity = Identity {
        chain: include_str!("odd/version1.pem").into(),
        key: include_str!("odd/version1.key").into(),
    };
    assert!(is_accepted(&identity, &identity.chain, HOST));
    assert!(!is_accepted(&identity, &identity.chain, "bot.example.org"));
}

#[test]
fn what_rustls_cannot_do_is_told_as_such() {
    let uploaded = Trust::uploaded(self_signed(params(Some(HOST))).chain.as_bytes()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = |record: &'static [u8]| {
        let address = accept(move |mut tcp| {
            assert!(tcp.read(&mut [0; 4096]).unwrap() > 0);
            tcp.write_all(record).unwrap();
            let _ = tcp.read(&mut [0; 4096]);
        });
        runtime
            .block_on(Connection::open(
                address,
                std::net::Ipv4Addr::LOCALHOST,
                HOST,
                &uploaded,
            ))
            .err()
            .unwrap()
    };
    // handshake_failure: no suite in common with rustls, or a key of P-521.
    let error = answer(&[21, 3, 3, 0, 2, 2, 40]);
    assert!(matches!(error, Error::NoVerdict(_)), "{error}");
    assert!(error.to_string().starts_with("NO VERDICT: "), "{error}");
    // protocol_version: a server of TLS 1.1 alone.
    assert_eq!(
        answer(&[21, 3, 3, 0, 2, 2, 70]),
        Error::Failed(LEGACY.into())
    );
    // unrecognized_name is one that OpenSSL would get, too.
    assert_eq!(
        answer(&[21, 3, 3, 0, 2, 2, 112]),
        Error::Failed(UNRECOGNIZED.into())
    );
}

#[test]
fn an_upload_is_taken_or_refused_in_openssls_words() {
    let own = self_signed(params(Some(HOST)));
    let own_chain = own.chain.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    assert!(is_accepted(&own, &format!("\u{feff}{own_chain}"), HOST));
    let (first, rest) = own.chain.split_at(own.chain.find("MII").unwrap() + 64);
    let error = Trust::uploaded(format!("{first}\n{rest}").as_bytes()).unwrap_err();
    let words = "Failed to set custom certificate file{error:0480006B:PEM routines::not proc type}\
        {error:05880009:x509 certificate routines::PEM lib}";
    assert_eq!(error, words);
}

#[test]
fn a_refused_certificate_shows_at_once_and_stays_after_a_better_one_is_served() {
    let world = World::start(20.0, |_, _| Some(OK.to_vec()));
    let url = format!("https://{HOST}:8443/hook");
    let answer = upload(
        &world.telegram,
        &[("url", &url)],
        &self_signed(params(Some(HOST))).chain,
    );
    assert_eq!(answer["description"], "Webhook was set");
    assert_eq!(world.bot.wait_error(SOON).unwrap(), REFUSED);
    world.bot.say(7, "hello");
    let failed = world.bot.wait_deliveries(1, SOON).unwrap();
    assert!(!failed[0].succeeded());
}
