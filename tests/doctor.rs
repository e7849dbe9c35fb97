//! `pihook doctor` in a broken home, one fault at a time: the first cross names the cause.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::thread;

use crate::common::outside::{self, Service};
use crate::common::{HOST, Home, OTHER_TOKEN, Pihook, SOON, TOKEN, eventually, telegram, text};
use serde_json::Value;
use simulated_telegram::{Bot, Telegram};

const DAY: i64 = 86400;

/// A home with a bot, in which all is well until a test breaks something.
struct Patient {
    telegram: Telegram,
    bot: Bot,
    services: Vec<Service>,
    pihook: Option<Pihook>,
    home: Home,
}

impl Patient {
    fn new() -> Patient {
        let telegram = telegram();
        let bot = telegram.bot(TOKEN);
        let services: Vec<_> = (0..2).map(|_| Service::start(HOST)).collect();
        let settings = format!(
            "public_host = '{HOST}'\nlisten = '{}'\nallow_from = ['127.0.0.0/8']\napi_url = '{}'\n{}\n[[bot]]\ntoken_file = 'token'\n",
            free_address(),
            telegram.api_url(),
            outside::setting(&services)
        );
        let home = Home::with(&settings, "");
        home.write_private("token", TOKEN);
        let pihook = home.run_for(&telegram);
        pihook.wait_log("the webhook is registered");
        Patient {
            telegram,
            bot,
            services,
            pihook: Some(pihook),
            home,
        }
    }

    fn stop(&mut self) {
        drop(self.pihook.take());
    }

    /// Changes the file of settings. The running bot keeps the old ones.
    fn set(&self, old: &str, new: &str) {
        let text = self.home.read("pihook.toml");
        assert!(text.contains(old), "{old}: {text}");
        self.home.write("pihook.toml", &text.replace(old, new));
    }

    /// The line of the settings with this key.
    fn line(&self, key: &str) -> String {
        let text = self.home.read("pihook.toml");
        text.lines()
            .find(|line| line.starts_with(key))
            .unwrap()
            .to_owned()
    }

    /// Has both outside services name this address.
    fn see_address(&self, address: &str) {
        for service in &self.services {
            service.says(address);
        }
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A program that answers every request with this.
fn answering(address: SocketAddr, answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// The findings with this mark, in order.
fn marked(output: &Output, mark: &str) -> Vec<Value> {
    let findings: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)));
    findings
        .into_iter()
        .filter(|finding| finding["mark"] == mark)
        .collect()
}

#[test]
fn doctor_finds_nothing_bad_in_a_working_home() {
    let patient = Patient::new();
    let output = patient.home.pihook(&["doctor", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(marked(&output, "bad"), [Value::Null; 0]);
    let checks: Vec<_> = marked(&output, "good")
        .into_iter()
        .map(|it| it["check"].as_str().unwrap().to_owned())
        .collect();
    let expected = [
        "settings",
        "files",
        "clock",
        "DNS",
        "Bot API",
        "token",
        "certificate",
        "listener",
        "public address",
        "webhook",
    ];
    assert_eq!(checks, expected);

    // A person gets the same findings, one to a line, and without colours where there is no
    // terminal.
    let words = text(&patient.home.pihook(&["doctor"]));
    for line in [
        "✓ settings: ",
        "✓ token: bot 110201543 is @number_110201543_bot",
        "! not tested: ",
    ] {
        assert!(words.contains(line), "{line}: {words}");
    }
    assert!(
        !words.contains('\x1b') && !words.contains("AAHdq"),
        "{words}"
    );

    // The doctor changed nothing: it sent no message, it set no webhook, and the log of the bot does
    // not mention its update.
    let log = patient.pihook.as_ref().unwrap().log().join("\n");
    assert!(!log.contains("update 0"), "{log}");
    assert_eq!(patient.bot.sent().len(), 0);
    assert_eq!(
        patient.bot.wait_call("setWebhook", 1, SOON).unwrap().len(),
        1
    );
}

/// A fault, how to cause it, and words of the finding: the check, what was found, the remedy.
type Fault = (&'static str, fn(&mut Patient), [&'static str; 3]);

const FAULTS: [Fault; 23] = [
    (
        "a setting is wrong",
        |patient| patient.set("listen", "max_connections = 0\nlisten"),
        ["settings", "from 1 to 100", "correct it in"],
    ),
    (
        "a key is misspelt",
        |patient| patient.set("listen", "lissen"),
        ["settings", "lissen", "correct it in"],
    ),
    (
        "the token is missing",
        |patient| patient.home.write("token", "").clear(),
        ["settings", "is empty: put the token", "correct it"],
    ),
    (
        "the clock is wrong",
        |patient| {
            let old = patient.line("api_url");
            let api = answering(
                free_address(),
                "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
            );
            patient.set(&old, &format!("api_url = 'http://{api}'"));
        },
        ["clock", "ahead of Telegram's", "timedatectl"],
    ),
    (
        "there is no DNS",
        |patient| {
            let old = patient.line("api_url");
            patient.set(&old, "api_url = 'http://api.telegram.invalid'");
        },
        ["DNS", "api.telegram.invalid is not found", ""],
    ),
    (
        "the Bot API cannot be reached",
        |patient| {
            let old = patient.line("api_url");
            patient.set(&old, &format!("api_url = 'http://{}'", free_address()));
        },
        ["Bot API", "refused", "firewall"],
    ),
    (
        "something else answers in place of the Bot API",
        |patient| {
            let old = patient.line("api_url");
            let api = answering(
                free_address(),
                "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>",
            );
            patient.set(&old, &format!("api_url = 'http://{api}'"));
        },
        ["token", "not from the Bot API", "later"],
    ),
    (
        "the token was revoked",
        |patient| {
            patient.home.write("token", OTHER_TOKEN);
        },
        ["token", "Unauthorized", "BotFather"],
    ),
    (
        "the key belongs to another certificate",
        |patient| {
            patient.home.pihook(&["cert", "--out", "other"]);
            patient.home.write_private(
                "certs/webhook_pkey.pem",
                &patient.home.read("other/webhook_pkey.pem"),
            );
        },
        ["certificate", "does not belong", "right pair"],
    ),
    (
        "the certificate has ended",
        |patient| {
            patient
                .home
                .certificate(HOST, "somebody", -20 * DAY, -10 * DAY);
        },
        ["certificate", "expired 10 days ago", "new certificate"],
    ),
    (
        "the certificate names another host",
        |patient| {
            patient
                .home
                .certificate("pi.example.org", "somebody", -DAY, 10 * DAY);
        },
        [
            "certificate",
            "does not contain the public_host",
            "new certificate",
        ],
    ),
    (
        "the bot does not run",
        Patient::stop,
        ["listener", "no program listens", "systemctl start"],
    ),
    (
        "another program has the port",
        |patient| {
            patient.stop();
            let address = patient
                .line("listen")
                .split('\'')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap();
            answering(address, "220 mail.example.org ESMTP\r\n");
        },
        [
            "listener",
            "does not answer like the bot",
            "stop the other program",
        ],
    ),
    (
        "the bot runs with an older certificate",
        |patient| {
            assert!(patient.home.pihook(&["cert", "--force"]).status.success());
        },
        ["listener", "another certificate", "restart the bot"],
    ),
    (
        "the bot runs with an older token",
        |patient| {
            patient.telegram.bot(OTHER_TOKEN);
            patient.home.write("token", OTHER_TOKEN);
        },
        ["listener", "answers with status 404", "restart the bot"],
    ),
    (
        "the address has changed",
        |patient| patient.see_address("80.100.95.99"),
        ["public address", "80.100.95.99", "\"auto\""],
    ),
    (
        "the provider shares its address",
        |patient| patient.see_address("100.64.1.2"),
        ["public address", "CGNAT", "without a public address"],
    ),
    (
        "the DNS name leads elsewhere",
        |patient| {
            patient.set(
                &format!("public_host = '{HOST}'"),
                "public_host = 'localhost'\ncertificate = 'c.pem'",
            );
        },
        [
            "public address",
            "localhost has another address",
            "dynamic DNS",
        ],
    ),
    (
        "the webhook was removed",
        |patient| {
            assert!(patient.home.pihook(&["webhook", "delete"]).status.success());
        },
        ["webhook", "no webhook is set", "start the bot"],
    ),
    (
        "another program has taken the webhook",
        |patient| {
            let elsewhere = Home::with(
                &patient
                    .home
                    .read("pihook.toml")
                    .replace(HOST, "80.100.95.99"),
                "",
            );
            elsewhere.write("token", TOKEN);
            assert!(elsewhere.pihook(&["cert"]).status.success());
            // Telegram wants a second between two calls of setWebhook.
            eventually("it is set", || {
                elsewhere.pihook(&["webhook", "set"]).status.success()
            });
        },
        [
            "webhook",
            "another program, or an earlier run of this bot, has set another webhook, at https://80.100.95.99:8443",
            "a token of its own",
        ],
    ),
    (
        "the router forwards nothing",
        |patient| waiting(patient, "Connection timed out"),
        [
            "webhook",
            "the router does not forward the port",
            "forward the port",
        ],
    ),
    (
        "the router forwards to a machine that does not listen",
        |patient| waiting(patient, "Connection refused"),
        [
            "webhook",
            "nothing listens at this port",
            "forwards the port to this Pi",
        ],
    ),
    (
        "Telegram has another certificate",
        |patient| {
            waiting(
                patient,
                "SSL error {error:0A000086:SSL routines::certificate verify failed}",
            );
        },
        ["webhook", "is not the uploaded one", "pihook webhook set"],
    ),
];

/// Has updates wait at Telegram, with this delivery error.
fn waiting(patient: &mut Patient, message: &str) {
    patient
        .telegram
        .on_delivery(|_| Some(simulated_telegram::Cut::BeforeAnswer));
    patient.bot.say(42, "is anyone there?");
    patient.bot.fail(message);
}

#[test]
fn doctor_names_the_cause_of_each_fault() {
    for (fault, ..) in FAULTS {
        assert!(
            include_str!("../README.md").contains(&format!("| {fault} | ")),
            "the README's table has no {fault:?}"
        );
    }

    // Several at once: most of the time is spent waiting for a router that does not answer.
    for faults in FAULTS.chunks(6) {
        thread::scope(|scope| {
            for fault in faults {
                scope.spawn(|| names_the_cause(fault));
            }
        });
    }
}

fn names_the_cause((fault, break_it, [check, found, remedy]): &Fault) {
    let mut patient = Patient::new();
    break_it(&mut patient);

    let output = patient.home.pihook(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{fault}: {}", text(&output));
    let bad = marked(&output, "bad");
    let first = bad
        .first()
        .unwrap_or_else(|| panic!("{fault}: {}", text(&output)));
    assert_eq!(first["check"], **check, "{fault}: {}", text(&output));
    for (key, words) in [("found", found), ("remedy", remedy)] {
        assert!(
            first[key].as_str().unwrap().contains(words),
            "{fault}: {first}"
        );
    }
    assert!(
        !text(&output).contains("AAHdq") && !text(&output).contains("AAFD39"),
        "{fault}: {}",
        text(&output)
    );
}

#[test]
fn doctor_only_warns_where_the_bot_works() {
    let mut patient = Patient::new();
    std::fs::set_permissions(
        patient.home.folder.join("token"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    patient.see_address("");
    patient.stop();
    patient
        .home
        .certificate(HOST, "somebody", -20 * DAY, DAY + 60);
    let pihook = patient.home.run_for(&patient.telegram);
    pihook.wait_log("the webhook is registered");

    let output = patient.home.pihook(&["doctor", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let warnings: Vec<_> = marked(&output, "warning")
        .iter()
        .map(ToString::to_string)
        .collect();
    for words in [
        "every user of this machine can read",
        "neither the router nor an outside service",
        "expires in 1 day(s)",
    ] {
        assert!(
            warnings.iter().any(|warning| warning.contains(words)),
            "{words}: {}",
            text(&output)
        );
    }
}

#[test]
fn doctor_names_settings_that_cannot_be_read() {
    let home = Home::new("http://127.0.0.1:1");
    let output = home.pihook(&["doctor", "--config", "elsewhere.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("✗ settings: elsewhere.toml cannot be read"),
        "{}",
        text(&output)
    );
    assert_eq!(home.pihook(&["check", "--json"]).status.code(), Some(64));
}
