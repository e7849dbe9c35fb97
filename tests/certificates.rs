//! The certificate: made here, or by the lesson's openssl commands; judged as Telegram judges it.
//! Needs the commands openssl and curl.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::{HOST, Home, SOON, TOKEN, openssl, settings, telegram, text, tool};
use pihook::certificate::{self, CertificateFiles};
use simulated_telegram::{Options, Telegram};

/// The lesson's second command, its questions answered on the command line.
fn self_sign(home: &Home, subject: &str, more: &str) {
    openssl(
        home,
        &format!(
            "req -new -x509 -days 3650 -key webhook_pkey.pem -out webhook_cert.pem -subj {subject}{more}"
        ),
    );
}

/// Runs the bot until it has answered a message.
fn echoes(home: &Home, telegram: &Telegram) {
    let bot = telegram.bot(TOKEN);
    let pihook = home.run_for(telegram);
    pihook.wait_log("the webhook is registered");
    bot.say(42, "through");
    bot.wait_sent(1, SOON).unwrap();
    assert!(pihook.stop().0.success());
}

#[test]
fn cert_makes_a_certificate_and_a_private_key() {
    let home = Home::new("http://127.0.0.1:1");
    let output = home.pihook(&["cert"]);
    assert!(output.status.success(), "{}", text(&output));
    let mode = |name: &str| {
        home.folder
            .join(name)
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("certs/webhook_pkey.pem"), 0o600);
    assert_eq!(mode("certs/webhook_cert.pem"), 0o644);

    let shown = tool(
        "openssl",
        &["x509", "-in", "certs/webhook_cert.pem", "-noout", "-text"],
        &home.folder,
    );
    let shown = text(&shown);
    for line in [
        "Subject: CN = 80.100.95.20",
        "IP Address:80.100.95.20",
        "prime256v1",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let ends = |seconds: &str| {
        tool(
            "openssl",
            &[
                "x509",
                "-in",
                "certs/webhook_cert.pem",
                "-checkend",
                seconds,
            ],
            &home.folder,
        )
    };
    assert!(ends(&(3649 * 86400).to_string()).status.success());
    assert!(!ends(&(3651 * 86400).to_string()).status.success());
    let key = tool(
        "openssl",
        &["pkey", "-in", "certs/webhook_pkey.pem", "-check", "-noout"],
        &home.folder,
    );
    assert!(key.status.success(), "{}", text(&key));
}

#[test]
fn cert_needs_a_host_but_no_token() {
    let home = Home::with(
        "public_host = '80.100.95.20'\ncertificate = 'c.pem'\nprivate_key = 'k.pem'\n",
        "",
    );
    let output = home.pihook(&["cert"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        home.read("c.pem").contains("BEGIN CERTIFICATE")
            && home.read("k.pem").contains("PRIVATE KEY")
    );
    // Without a host there is nothing to put into it.
    home.write("pihook.toml", "");
    assert_eq!(home.pihook(&["cert", "--force"]).status.code(), Some(64));
}

#[test]
fn cert_puts_a_dns_name_into_the_alternative_names_too() {
    let home = Home::new("http://127.0.0.1:1");
    let arguments = [
        "cert",
        "--host",
        "pi.example.org",
        "--days",
        "7",
        "--out",
        "elsewhere",
    ];
    assert!(home.pihook(&arguments).status.success());
    let shown = text(&tool(
        "openssl",
        &[
            "x509",
            "-in",
            "elsewhere/webhook_cert.pem",
            "-noout",
            "-text",
        ],
        &home.folder,
    ));
    assert!(
        shown.contains("CN = pi.example.org") && shown.contains("DNS:pi.example.org"),
        "{shown}"
    );
    assert!(!shown.contains("IP Address"));
}

#[test]
fn cert_replaces_a_certificate_only_with_force() {
    let home = Home::new("http://127.0.0.1:1");
    assert!(home.pihook(&["cert"]).status.success());
    let certificate = home.read("certs/webhook_cert.pem");
    let key = home.read("certs/webhook_pkey.pem");
    let refused = home.pihook(&["cert"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("--force"), "{}", text(&refused));
    assert_eq!(
        (
            home.read("certs/webhook_cert.pem"),
            home.read("certs/webhook_pkey.pem")
        ),
        (certificate, key.clone())
    );
    assert!(home.pihook(&["cert", "--force"]).status.success());
    assert_ne!(home.read("certs/webhook_pkey.pem"), key);
}

#[test]
fn run_makes_a_missing_certificate_with_the_key_that_is_there() {
    let telegram = telegram();
    let home = Home::new(&telegram.api_url());
    echoes(&home, &telegram);
    let key = home.read("certs/webhook_pkey.pem");
    std::fs::remove_file(home.folder.join("certs/webhook_cert.pem")).unwrap();
    let pihook = home.run_for(&telegram);
    pihook.wait_log("Made a certificate for 80.100.95.20");
    pihook.wait_log("the webhook is registered");
    assert_eq!(home.read("certs/webhook_pkey.pem"), key);
}

#[test]
fn an_rsa_certificate_of_openssl_serves() {
    let telegram = telegram();
    let home = Home::new(&telegram.api_url());
    openssl(&home, "genrsa -out webhook_pkey.pem 2048");
    self_sign(&home, &format!("/CN={HOST}"), "");
    assert!(
        home.read("certs/webhook_pkey.pem")
            .starts_with("-----BEGIN PRIVATE KEY-----")
    );
    echoes(&home, &telegram);
}

#[test]
fn an_rsa_key_in_pkcs1_form_serves() {
    let telegram = telegram();
    let home = Home::new(&telegram.api_url());
    openssl(&home, "genrsa -traditional -out webhook_pkey.pem 2048");
    self_sign(&home, &format!("/C=DE/O=Home/CN={HOST}"), "");
    assert!(
        home.read("certs/webhook_pkey.pem")
            .starts_with("-----BEGIN RSA PRIVATE KEY-----")
    );
    echoes(&home, &telegram);
}

#[test]
fn an_ec_key_in_sec1_and_pkcs8_form_serves() {
    for (arguments, begin) in [
        (
            "ecparam -name prime256v1 -genkey -noout -out webhook_pkey.pem",
            "-----BEGIN EC PRIVATE KEY-----",
        ),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out webhook_pkey.pem",
            "-----BEGIN PRIVATE KEY-----",
        ),
    ] {
        let telegram = telegram();
        let home = Home::new(&telegram.api_url());
        openssl(&home, arguments);
        assert!(home.read("certs/webhook_pkey.pem").starts_with(begin));
        self_sign(&home, &format!("/CN={HOST}"), "");
        echoes(&home, &telegram);
    }
}

#[test]
fn a_private_root_and_its_leaf_in_one_file_serve() {
    let telegram = telegram();
    let home = Home::new(&telegram.api_url());
    openssl(
        &home,
        "req -new -x509 -newkey rsa:2048 -nodes -days 30 -keyout root.key -out root.pem -subj /CN=Home",
    );
    openssl(&home, "genrsa -out webhook_pkey.pem 2048");
    openssl(
        &home,
        &format!("req -new -key webhook_pkey.pem -out leaf.csr -subj /CN={HOST}"),
    );
    home.write("certs/san.cnf", &format!("subjectAltName=IP:{HOST}\n"));
    openssl(
        &home,
        "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 -extfile san.cnf -out leaf.pem",
    );
    home.write(
        "certs/webhook_cert.pem",
        &(home.read("certs/leaf.pem") + &home.read("certs/root.pem")),
    );
    echoes(&home, &telegram);
}

#[test]
fn a_certificate_of_a_known_ca_is_not_uploaded() {
    let home = Home::with("", "");
    openssl(
        &home,
        "req -new -x509 -newkey rsa:2048 -nodes -days 30 -keyout root.key -out root.pem -subj /CN=Authority",
    );
    openssl(&home, "genrsa -out webhook_pkey.pem 2048");
    openssl(
        &home,
        "req -new -key webhook_pkey.pem -out leaf.csr -subj /CN=whatever",
    );
    home.write("certs/san.cnf", &format!("subjectAltName=IP:{HOST}\n"));
    openssl(
        &home,
        "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 -extfile san.cnf -out webhook_cert.pem",
    );
    let roots = home.read("certs/root.pem");
    let telegram = Telegram::start(Options {
        speed: 10.0,
        roots,
        ..Options::default()
    })
    .unwrap();
    home.write(
        "pihook.toml",
        &format!(
            "{}[[bot]]\ntoken = '{TOKEN}'\n",
            settings(&telegram.api_url(), "")
        ),
    );
    let bot = telegram.bot(TOKEN);
    echoes(&home, &telegram);
    assert!(
        bot.wait_call("setWebhook", 1, SOON).unwrap()[0]
            .files
            .is_empty()
    );
}

/// Runs with a certificate of this `subject` and these extensions: the bot echoes, or refuses to
/// start with these words.
fn verdict(subject: &str, more: &str) -> Result<(), String> {
    let telegram = telegram();
    let home = Home::new(&telegram.api_url());
    openssl(
        &home,
        "ecparam -name prime256v1 -genkey -noout -out webhook_pkey.pem",
    );
    self_sign(&home, subject, more);
    let output = home.pihook(&["check"]);
    if output.status.success() {
        echoes(&home, &telegram);
        return Ok(());
    }
    let refused = home.pihook(&["run"]);
    assert_eq!(
        (output.status.code(), refused.status.code()),
        (Some(78), Some(78))
    );
    Err(text(&refused))
}

#[test]
fn a_certificate_is_accepted_exactly_where_telegram_accepts_it() {
    // The rows of "Result for an IP host with an uploaded certificate", observed with OpenSSL.
    let cn = format!("/CN={HOST}");
    let san = |names: &str| format!(" -addext subjectAltName={names}");
    assert_eq!(verdict(&cn, ""), Ok(()));
    assert_eq!(verdict(&cn, &san(&format!("IP:{HOST}"))), Ok(()));
    assert_eq!(verdict(&cn, &san("IP:1.2.3.4")), Ok(()));
    assert_eq!(verdict(&cn, &san(&format!("IP:{HOST},DNS:{HOST}"))), Ok(()));
    assert_eq!(
        verdict("/CN=anything", &san(&format!("DNS:{HOST}"))),
        Ok(())
    );
    for (subject, more) in [
        ("/CN=other", san(&format!("IP:{HOST}"))),
        ("/O=nobody", san(&format!("IP:{HOST}"))),
        (cn.as_str(), san("DNS:other.example")),
    ] {
        let refusal = verdict(subject, &more).unwrap_err();
        assert!(
            refusal.contains(HOST) && refusal.contains("common name"),
            "{subject} {more}: {refusal}"
        );
    }
}

/// Runs in a home with a bad certificate: the refusal is one line with this sentence.
fn assert_refused(home: &Home, sentence: &str) {
    let output = home.pihook(&["run"]);
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output);
    assert!(
        said.contains(sentence) && said.lines().count() == 1,
        "{sentence}: {said}"
    );
}

#[test]
fn an_expired_certificate_is_refused_and_one_of_the_future_is_served() {
    let home = Home::new("http://127.0.0.1:1");
    for (year, sentence) in [(2001, "expired"), (4000, "Check the clock of this machine")] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, HOST);
        params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        home.write(
            "certs/webhook_cert.pem",
            &params.self_signed(&key).unwrap().pem(),
        );
        home.write("certs/webhook_pkey.pem", &key.serialize_pem());
        if year == 2001 {
            assert_refused(&home, sentence);
        } else {
            // It may be the clock: Telegram has a right one, and the bot serves.
            home.run().wait_log(sentence);
        }
        let checked = home.pihook(&["check"]);
        assert_eq!(
            (checked.status.success(), text(&checked).contains(sentence)),
            (year != 2001, true)
        );
    }
}

#[test]
fn a_certificate_that_cannot_serve_is_refused_in_one_sentence() {
    let home = Home::new("http://127.0.0.1:1");
    openssl(&home, "genrsa -out webhook_pkey.pem 2048");
    self_sign(
        &home,
        &format!("/CN={HOST}"),
        " -addext extendedKeyUsage=clientAuth",
    );
    let checked = home.pihook(&["check"]);
    assert!(!checked.status.success());
    assert!(text(&checked).contains("not for a TLS server"));
    self_sign(&home, &format!("/CN={HOST}"), "");
    openssl(&home, "genrsa -out webhook_pkey.pem 2048");
    assert_refused(&home, "does not belong to the certificate");
    openssl(&home, "genrsa -out webhook_pkey.pem 1024");
    assert_refused(&home, "RSA (2048 to 4096 bits)");
    openssl(
        &home,
        "genrsa -aes128 -passout pass:x -out webhook_pkey.pem 2048",
    );
    assert_refused(&home, "webhook_pkey.pem");
    std::fs::remove_file(home.folder.join("certs/webhook_pkey.pem")).unwrap();
    assert_refused(&home, "does not exist");
    home.write("certs/webhook_pkey.pem", "");
    assert_refused(&home, "does not contain a private key");
    home.write(
        "certs/webhook_cert.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    assert_refused(&home, "does not contain a certificate");
}

#[test]
fn curl_and_openssl_trust_the_certificate_alone() {
    let home = Home::new("http://127.0.0.1:1");
    let pihook = home.run();
    let port = pihook.address.port().to_string();
    let connect = format!("{HOST}:8443:127.0.0.1:{port}");
    let url = format!("https://{HOST}:8443/{TOKEN}/");
    let common = [
        "-sS",
        "--http1.1",
        "--cacert",
        "certs/webhook_cert.pem",
        "--connect-to",
        &connect,
        "-w",
        "%{http_code}",
    ];
    let curl = |more: &[&str]| {
        let output = tool(
            "curl",
            &[&common[..], more, &[url.as_str()]].concat(),
            &home.folder,
        );
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    assert_eq!(curl(&[]), "405");
    assert_eq!(
        curl(&["-H", "Content-Type: application/json", "-d", "{}"]),
        "403"
    );
    assert_eq!(curl(&["--tlsv1.2", "--tls-max", "1.2"]), "405");

    let address = format!("127.0.0.1:{port}");
    let arguments = [
        "s_client",
        "-connect",
        &address,
        "-noservername",
        "-CAfile",
        "certs/webhook_cert.pem",
        "-verify_return_error",
    ];
    for check in [["-verify_ip", HOST], ["-verify_hostname", HOST]] {
        let output = tool(
            "openssl",
            &[&arguments[..], &check].concat(),
            Path::new(&home.folder),
        );
        assert!(
            text(&output).contains("Verify return code: 0 (ok)"),
            "{check:?}: {}",
            text(&output)
        );
    }
}

#[test]
fn a_wrong_clock_renews_no_certificate() {
    let home = Home::new("http://127.0.0.1:1");
    let files = CertificateFiles::within(&home.folder);
    let now = SystemTime::now();
    // A Pi without a clock starts in 1970, or whenever it was last on.
    let pair = certificate::make(HOST, 100, SystemTime::UNIX_EPOCH, None).unwrap();
    certificate::write(&pair, &files, true).unwrap();
    let made = certificate::load(&files).unwrap();
    made.check(HOST, now).unwrap();
    // By such a clock nothing is renewed; by a right one it is, in time.
    let century = Duration::from_secs(100 * 365 * 86400);
    for wrong in [SystemTime::UNIX_EPOCH, now + century] {
        assert!(!made.renewal(wrong).is_zero());
    }
    let day = Duration::from_secs(86400);
    assert!(made.renewal(now + 75 * day).is_zero());
}
