//! A home whose address changes: the webhook and its certificate follow, and nothing is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::outside::{self, Service};
use crate::common::tls::Tls;
use crate::common::{Home, Pihook, SOON, TOKEN, telegram, text, tool};
use simulated_telegram::{Bot, Telegram};

const OLD: &str = "80.100.95.20";
const NEW: &str = "80.100.95.21";
const CGNAT: &str = "100.64.1.2";
const DAY: i64 = 86400;

/// A home that finds out its address by three services.
struct Moving {
    telegram: Telegram,
    bot: Bot,
    services: Vec<Service>,
    pihook: Option<Pihook>,
    home: Home,
}

impl Moving {
    fn new(address: &str, host: &str) -> Moving {
        let telegram = telegram();
        let bot = telegram.bot(TOKEN);
        let services: Vec<_> = (0..3).map(|_| Service::start(address)).collect();
        let settings = format!(
            "public_host = '{host}'\nlisten = '127.0.0.1:0'\nallow_from = ['127.0.0.0/8']\napi_url = '{}'\n\
             watch_interval = 1\n{}\n[[bot]]\ntoken = '{TOKEN}'\n",
            telegram.api_url(),
            outside::setting(&services)
        );
        let home = Home::with(&settings, "");
        Moving {
            telegram,
            bot,
            services,
            pihook: None,
            home,
        }
    }

    fn run(&mut self) -> &Pihook {
        let pihook = self.home.run();
        for address in [OLD, NEW] {
            self.telegram.route(address, 8443, pihook.address);
        }
        self.pihook.insert(pihook)
    }

    /// Each service says its address from now on.
    fn say(&self, addresses: [&str; 3]) {
        for (service, address) in self.services.iter().zip(addresses) {
            service.says(address);
        }
    }

    /// Waits until the services were asked for two whole looks more.
    fn wait_looks(&self) {
        self.services[0].wait_asked(3);
    }

    /// The hosts that were registered, in their order.
    fn urls(&self) -> Vec<String> {
        let calls = self
            .bot
            .calls()
            .into_iter()
            .filter(|call| call.method.eq_ignore_ascii_case("setWebhook"));
        calls
            .map(|call| {
                call.text("url")
                    .replace(&format!(":8443/{TOKEN}/"), "")
                    .replace("https://", "")
            })
            .collect()
    }

    fn subject(&self) -> String {
        subject(&self.home.folder)
    }
}

fn subject(folder: &Path) -> String {
    text(&tool(
        "openssl",
        &[
            "x509",
            "-in",
            "certs/webhook_cert.pem",
            "-noout",
            "-subject",
        ],
        folder,
    ))
}

#[test]
fn the_webhook_follows_a_new_address_under_load_and_no_update_is_lost() {
    let mut moving = Moving::new(OLD, "auto");
    moving.run().wait_log("the webhook is registered");
    assert!(moving.subject().contains(OLD), "{}", moving.subject());

    let chats = 1..=10;
    let mut said = 0;
    // Each waits for its answers, so that the load goes on through the whole change-over and
    // beyond.
    while moving.urls() != [OLD, NEW] || said < 20 {
        for chat in chats.clone() {
            moving.bot.say(chat, &said.to_string());
        }
        said += 1;
        moving.bot.wait_delivered(10 * said, SOON).unwrap();
        if said == 5 {
            // The provider takes the address away; what Telegram sends there goes nowhere.
            moving.telegram.unroute(OLD, 8443);
            moving.say([NEW; 3]);
        }
    }
    let mut by_chat: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for message in moving.bot.sent() {
        by_chat.entry(message.chat).or_default().push(message.text);
    }
    let expected: Vec<_> = (0..said).map(|number| number.to_string()).collect();
    for chat in chats {
        assert_eq!(
            by_chat[&chat], expected,
            "chat {chat}: nothing lost, nothing twice, and in order"
        );
    }
    assert_eq!(moving.urls(), [OLD, NEW]);
    let removals = moving
        .bot
        .calls()
        .iter()
        .filter(|call| call.method == "deleteWebhook")
        .count();
    assert_eq!(
        removals, 1,
        "the first start removes a webhook; later the new one replaces the old one"
    );
    assert!(moving.subject().contains(NEW), "{}", moving.subject());
}

#[test]
fn address_services_that_disagree_or_are_silent_do_not_change_the_webhook() {
    let mut moving = Moving::new(OLD, "auto");
    moving.run().wait_log("the webhook is registered");
    let pihook = moving.pihook.as_ref().unwrap();
    moving.say(["", "", ""]);
    moving.wait_looks();
    moving.say([NEW, "80.100.95.22", "<html>"]);
    let line = pihook.wait_log("this home's address is not clear");
    assert!(
        line.contains(NEW) && line.contains("80.100.95.22"),
        "{line}"
    );
    moving.say([NEW, "", ""]);
    pihook.wait_log(&format!(
        "one outside service says that this home's address is {NEW}, but no other service confirms it"
    ));
    moving.say([OLD; 3]);
    pihook.wait_log("Home network: the problem is solved");
    assert_eq!(moving.urls(), [OLD]);
}

#[test]
fn a_flapping_address_does_not_set_the_webhook_each_time() {
    let mut moving = Moving::new(OLD, "auto");
    moving.run().wait_log("the webhook is registered");
    // The new address is never seen twice in a row.
    for _ in 0..4 {
        moving.say([NEW; 3]);
        moving.services[0].wait_asked(1);
        moving.say([OLD; 3]);
        moving.wait_looks();
    }
    assert!(moving.urls().len() <= 5, "{:?}", moving.urls());
    moving.bot.say(42, "still there");
    moving.bot.wait_sent(1, SOON).unwrap();
}

#[test]
fn a_cgnat_address_is_recognized_and_explained() {
    let mut moving = Moving::new(CGNAT, "auto");
    let line = moving.run().wait_log("which is not a public address");
    assert!(
        line.contains(CGNAT) && line.contains("CGNAT") && line.contains("public IPv4 address"),
        "{line}"
    );
    let pihook = moving.pihook.as_ref().unwrap();
    pihook.wait_log(
        "Updates arrive by polling: the provider shares one address among customers (CGNAT)",
    );
    moving.bot.say(42, "polled");
    moving.bot.wait_sent(1, SOON).unwrap();
    // The doctor knows what the home lacks, and finds no fault in it.
    let said = text(&moving.home.pihook(&["doctor"]));
    assert!(
        said.contains("✓ delivery: updates arrive by polling: the provider shares"),
        "{said}"
    );
    assert!(
        said.contains("! public address: ")
            && said.contains("✓ webhook: bot 110201543: no webhook is set"),
        "{said}"
    );
    // It listens at a port that only the test knows.
    assert!(
        !said
            .lines()
            .any(|line| line.starts_with('✗') && !line.contains("listener")),
        "{said}"
    );
    assert_eq!(moving.urls(), [""; 0]);
    // It goes on by itself once there is an address.
    moving.say([OLD; 3]);
    pihook.wait_log("Telegram reaches this Pi: updates arrive by webhook");
    moving.bot.say(42, "at last");
    moving.bot.wait_delivered(1, SOON).unwrap();
    moving.bot.wait_sent(2, SOON).unwrap();
}

#[test]
fn the_bot_polls_while_the_home_address_is_unknown() {
    let mut moving = Moving::new("", "auto");
    moving.run();
    let start = Instant::now();
    let pihook = moving.pihook.as_ref().unwrap();
    moving.bot.say(42, "polled");
    moving.bot.wait_sent(1, SOON).unwrap();
    assert!(
        (19..30).contains(&start.elapsed().as_secs()),
        "{:?} {:#?}",
        start.elapsed(),
        pihook.log()
    );
    let line = pihook.wait_log("Updates arrive by polling: ");
    assert!(
        line.contains("address is not known") && line.contains("pihook doctor"),
        "{line}"
    );
    moving.say([OLD; 3]);
    pihook.wait_log("Telegram reaches this Pi: updates arrive by webhook");
    moving.bot.say(42, "direct");
    moving.bot.wait_delivered(1, SOON).unwrap();
}

#[test]
fn after_a_restart_the_last_address_is_used_until_another_is_known() {
    let mut moving = Moving::new(OLD, "auto");
    moving.run().wait_log("the webhook is registered");
    drop(moving.pihook.take());
    moving.say([""; 3]);
    moving.bot.say(42, "are you there?");
    moving
        .run()
        .wait_log("the webhook is registered, and unchanged");
    moving.bot.wait_sent(1, SOON).unwrap();
    // And when it has moved meanwhile, it finds out.
    drop(moving.pihook.take());
    moving.say([NEW; 3]);
    moving.run();
    moving.bot.wait_call("setWebhook", 2, SOON).unwrap();
    assert_eq!(moving.urls(), [OLD, NEW]);
}

#[test]
fn a_dns_name_with_another_address_is_reported_and_kept() {
    let mut moving = Moving::new(OLD, "localhost");
    let line = moving.run().wait_log("check your dynamic DNS");
    assert!(
        line.contains("localhost has the address 127.0.0.1") && line.contains(OLD),
        "{line}"
    );
    // Telegram knows the name alone. (This one it does not take: it is tried again and again.)
    assert!(
        moving.urls().iter().all(|url| url == "localhost"),
        "{:?}",
        moving.urls()
    );
}

#[test]
fn a_users_own_certificate_cannot_follow_the_address_and_is_not_changed() {
    let mut moving = Moving::new(OLD, "auto");
    moving.home.certificate(OLD, "somebody", -10 * DAY, DAY);
    let own = moving.home.read("certs/webhook_cert.pem");
    for command in ["run", "check"] {
        let output = moving.home.pihook(&[command]);
        assert_eq!(output.status.code(), Some(78), "{}", text(&output));
        assert!(
            text(&output).contains("pihook did not make"),
            "{}",
            text(&output)
        );
    }
    // For a fixed address it serves. Its owner is told that it ends, and must renew it.
    let config = moving
        .home
        .read("pihook.toml")
        .replace("'auto'", &format!("'{OLD}'"));
    moving.home.write("pihook.toml", &config);
    moving
        .run()
        .wait_log("expires within a day, or has expired: renew it");
    moving
        .pihook
        .as_ref()
        .unwrap()
        .wait_log("the webhook is registered");
    assert_eq!(moving.home.read("certs/webhook_cert.pem"), own);
}

#[test]
fn our_certificate_is_renewed_before_it_expires_while_it_serves() {
    let mut moving = Moving::new(OLD, "auto");
    // The first call builds the tests' bot, which can take longer than that.
    moving.home.pihook(&["help"]);
    // It is valid for 60 s, and so due 20 s before its end: in 10 s, when also a busy machine has
    // started.
    moving.home.certificate(OLD, "pihook", -30, 30);
    let old = moving.home.read("certs/webhook_cert.pem");
    let key = moving.home.read("certs/webhook_pkey.pem");
    moving.run().wait_log("the webhook is registered");
    let pihook = moving.pihook.as_ref().unwrap();
    let mut kept = Tls::connect(pihook.address);
    let end = Instant::now() + SOON;
    let mut said = 0;
    while moving.urls().len() < 2 || said < 20 {
        assert!(
            Instant::now() < end,
            "the new certificate was registered at the start, or not at all"
        );
        moving.bot.say(42, &said.to_string());
        said += 1;
        moving.bot.wait_delivered(said, SOON).unwrap();
    }
    pihook.wait_log("Made a new certificate for 80.100.95.20");
    assert_eq!(
        kept.ask(b"GET / HTTP/1.1\r\n\r\n"),
        404,
        "the connections of before go on"
    );
    let texts: Vec<_> = moving
        .bot
        .sent()
        .into_iter()
        .map(|sent| sent.text)
        .collect();
    assert_eq!(
        texts,
        (0..said)
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
    );
    assert_ne!(moving.home.read("certs/webhook_cert.pem"), old);
    assert_eq!(moving.home.read("certs/webhook_pkey.pem"), key);
    let [first, second] = [0, 1].map(|index| {
        let calls = moving.bot.wait_call("setWebhook", 2, SOON).unwrap();
        String::from_utf8(calls[index].files["certificate"].clone())
            .unwrap()
            .replace('\r', "")
    });
    assert_eq!(
        (first, second),
        (
            old.replace('\r', ""),
            moving.home.read("certs/webhook_cert.pem").replace('\r', "")
        )
    );
}

#[test]
fn our_expired_certificate_is_replaced_at_the_start() {
    let mut moving = Moving::new(OLD, OLD);
    moving.home.certificate(OLD, "pihook", -10 * DAY, -DAY);
    moving
        .run()
        .wait_log("Made a new certificate for 80.100.95.20");
    moving.bot.say(42, "alive");
    moving.bot.wait_sent(1, SOON).unwrap();
}

#[test]
fn a_new_certificate_that_cannot_be_written_is_used() {
    let mut moving = Moving::new(OLD, "auto");
    moving.run().wait_log("the webhook is registered");
    // As on a memory card that is full, or can only be read.
    std::fs::create_dir(moving.home.folder.join("certs/webhook_cert.new")).unwrap();
    moving.say([NEW; 3]);
    moving
        .pihook
        .as_ref()
        .unwrap()
        .wait_log("The new certificate for 80.100.95.21 could not be saved");
    moving.bot.wait_call("setWebhook", 2, SOON).unwrap();
    moving.bot.say(42, "still there");
    moving.bot.wait_sent(1, SOON).unwrap();
    assert!(moving.subject().contains(OLD), "{}", moving.subject());
}

#[test]
fn a_certificate_that_the_user_installed_meanwhile_is_not_overwritten() {
    let mut moving = Moving::new(OLD, "auto");
    moving.run().wait_log("the webhook is registered");
    moving.home.certificate(OLD, "somebody", -DAY, 100 * DAY);
    let files =
        || ["certs/webhook_cert.pem", "certs/webhook_pkey.pem"].map(|name| moving.home.read(name));
    let own = files();
    moving.say([NEW; 3]);
    let line = moving
        .pihook
        .as_ref()
        .unwrap()
        .wait_log("pihook could not make a certificate for 80.100.95.21");
    assert!(line.contains("does not change it"), "{line}");
    assert_eq!(files(), own);
}

#[test]
fn a_delivery_error_makes_the_home_watch_look_at_once() {
    let mut moving = Moving::new(OLD, "auto");
    let settings = moving
        .home
        .read("pihook.toml")
        .replace("watch_interval = 1\n", "watch_interval = 40\n");
    moving.home.write("pihook.toml", &settings);
    // The first call builds the tests' bot, which can take longer than that.
    moving.home.pihook(&["help"]);
    let start = Instant::now();
    moving.run().wait_log("the webhook is registered");
    moving.say([NEW; 3]);
    moving.bot.fail("Connection timed out");
    moving.bot.wait_call("setWebhook", 2, SOON).unwrap();
    assert_eq!(moving.urls(), [OLD, NEW]);
    // That is before it would have looked by itself even once.
    assert!(
        start.elapsed() < Duration::from_secs(40),
        "{:?}: {:#?}",
        start.elapsed(),
        moving.pihook.as_ref().unwrap().log()
    );
}
