//! Which certificates Telegram believes.

mod common;

use common::{HOST, Identity, OK, SOON, Server, World, params, self_signed, signed, upload};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use simulated_telegram::client::{Connection, Error, Trust};

const REFUSED: &str = "SSL error {error:0A000086:SSL routines::certificate verify failed}";

/// Connects to a server with this identity as to `host`.
fn connect(identity: &Identity, host: &str, trust: &Trust) -> Result<(), Error> {
    let server = Server::start(identity, |_, _| Some(OK.to_vec()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let source = std::net::Ipv4Addr::LOCALHOST;
    runtime.block_on(Connection::open(server.address, source, host, trust)).map(drop)
}

fn is_accepted(identity: &Identity, uploaded: &str, host: &str) -> bool {
    match connect(identity, host, &Trust::uploaded(uploaded.as_bytes()).unwrap()) {
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
        ("CN=IP, SAN other IP", names(Some(HOST), &[ip("1.2.3.4")]), true),
        ("CN=IP, SAN IP and DNS:IP", names(Some(HOST), &[ip(HOST), dns(HOST)]), true),
        ("CN=other, SAN DNS:IP", names(Some("other"), &[dns(HOST)]), true),
        ("CN=other, SAN IP", names(Some("other"), &[ip(HOST)]), false),
        ("no CN, SAN IP", names(None, &[ip(HOST)]), false),
        ("CN=IP, SAN DNS:other", names(Some(HOST), &[dns("other")]), false),
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
    assert!(!is_accepted(&leaf, &leaf.chain, HOST), "a leaf alone is no anchor");
    assert!(!is_accepted(&leaf, &authority().pem(), HOST), "another root of the same name");
    let own = self_signed(params(Some(HOST)));
    let renewed = self_signed(params(Some(HOST)));
    assert!(!is_accepted(&renewed, &own.chain, HOST), "renewed, not uploaded");
    let both = format!("{}{}", own.chain, renewed.chain);
    assert!(is_accepted(&renewed, &both, HOST));
    assert!(Trust::uploaded(b"junk").unwrap_err().contains("no certificate or crl found"));
}

/// A certificate for the address that is changed by `change`.
fn is_changed_accepted(change: impl FnOnce(&mut CertificateParams)) -> bool {
    let mut params = params(Some(HOST));
    change(&mut params);
    is_self_accepted(params, HOST)
}

#[test]
fn a_self_signed_certificate_may_be_an_authority_or_not() {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        assert!(is_changed_accepted(|params| params.is_ca = is_ca));
    }
}

#[test]
fn dates_and_purposes_count() {
    assert!(!is_changed_accepted(|params| params.not_after = date_time_ymd(2020, 1, 1)));
    assert!(!is_changed_accepted(|params| params.not_before = date_time_ymd(3000, 1, 1)));
    let usage = |usages: &[KeyUsagePurpose]| is_changed_accepted(|params| params.key_usages = usages.to_vec());
    assert!(!usage(&[KeyUsagePurpose::KeyCertSign]));
    assert!(usage(&[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature]));
    let extended = |purpose| is_changed_accepted(|params| params.extended_key_usages = vec![purpose]);
    assert!(!extended(ExtendedKeyUsagePurpose::ClientAuth));
    assert!(extended(ExtendedKeyUsagePurpose::ServerAuth));
}

#[test]
fn a_refused_certificate_shows_at_once_and_stays_after_a_better_one_is_served() {
    let world = World::start(20.0, |_, _| Some(OK.to_vec()));
    let url = format!("https://{HOST}:8443/hook");
    let answer = upload(&world.telegram, &[("url", &url)], &self_signed(params(Some(HOST))).chain);
    assert_eq!(answer["description"], "Webhook was set");
    assert_eq!(world.bot.wait_error(SOON).unwrap(), REFUSED);
    world.bot.say(7, "hello");
    let failed = world.bot.wait_deliveries(1, SOON).unwrap();
    assert!(!failed[0].succeeded());
}
