//! A Pi at home behind a real router, from nothing to an echo, and through all that a router does.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Instant;

use crate::common::steps::{self, Step};
use crate::common::{Home, Pihook, SOON, TOKEN, eventually, text, tool};
use crate::lab::{Lab, OUTSIDE, Speech, TELEGRAM, run, service};
use simulated_telegram::{Bot, Options, Telegram};

const ALL: Speech = Speech {
    packets: true,
    upnp: true,
};
const FIRST: &str = "8.8.100.1";
const SECOND: &str = "8.8.101.7";
const CGNAT: &str = "100.64.0.2";
const CHATS: i64 = 5;
/// The messages in each chat, one after the other.
const MESSAGES: usize = 3;

/// The home with everything around it.
struct Test {
    lab: Lab,
    _telegram: Telegram,
    bot: Bot,
    home: Home,
    pihook: Option<Pihook>,
    said: usize,
}

pub fn main() {
    let steps: &[Step<Test>] = &[
        ("from nothing to the first echo", first_echo),
        ("the doctor finds a healthy home", healthy),
        ("the router gets another address", other_address),
        (
            "the router is started again, and has forgotten the mapping",
            |test| reboot(test, ALL),
        ),
        ("a clean stop gives the mapping back", stop),
        ("the doctor says that the bot is not running", stopped),
        ("a router that speaks UPnP alone", |test| {
            speech(
                test,
                Speech {
                    packets: false,
                    upnp: true,
                },
            );
        }),
        ("this Pi gets another address at home", moved_in),
        ("a router that speaks PCP and NAT-PMP alone", |test| {
            speech(
                test,
                Speech {
                    packets: true,
                    upnp: false,
                },
            );
        }),
        ("the port is another machine's, by PCP", |test| {
            taken(test, ALL);
        }),
        ("the port is another machine's, by UPnP", |test| {
            taken(
                test,
                Speech {
                    packets: false,
                    upnp: true,
                },
            );
        }),
        ("a router that is connected, and forwards nothing", unable),
        ("a router without any of the three", mute),
        ("a provider that shares its address", shared_address),
    ];
    let mut test = Test::new();
    steps::run(&mut test, steps);
}

impl Test {
    fn new() -> Test {
        // The lab is named by the home's folder, which the settings below need the lab for.
        let home = Home::with("", "");
        let mut lab = Lab::start(&home.folder);
        lab.address(FIRST);
        lab.boot(ALL);
        let options = Options {
            api_address: OUTSIDE,
            source: TELEGRAM,
            local: true,
            ..Options::default()
        };
        let telegram = Telegram::start(options).unwrap();
        let bot = telegram.bot(TOKEN);
        let services: Vec<_> = (0..3).map(|_| format!("'{}'", service())).collect();
        let settings = format!(
            "public_host = 'auto'\nport_mapping = 'auto'\nwatch_interval = 5\napi_url = '{}'\naddress_services = [{}]\n\
             [[bot]]\ntoken_file = 'token'\n",
            telegram.api_url(),
            services.join(", ")
        );
        home.write("pihook.toml", &settings);
        home.write_private("token", TOKEN);
        Test {
            lab,
            _telegram: telegram,
            bot,
            home,
            pihook: None,
            said: 0,
        }
    }

    /// pihook, on the Pi.
    fn command(&self, arguments: &[&str]) -> Command {
        let there = self.home.command(arguments);
        let mut command = Command::new("ip");
        // The caller's environment is not the Pi's: it may name a proxy.
        command
            .args(["netns", "exec", "pi", "env", "-i"])
            .arg(there.get_program())
            .args(there.get_args());
        command.current_dir(&self.home.folder);
        command
    }

    fn run(&mut self) -> &Pihook {
        self.pihook = None;
        let pihook = Pihook::start(self.command(&["run"]));
        self.pihook.insert(pihook)
    }

    fn doctor(&self) -> Output {
        self.command(&["doctor"]).output().unwrap()
    }

    /// Messages in each chat, and all answers to all messages so far: each once, in order.
    fn echoes(&mut self) {
        for _ in 0..MESSAGES {
            for chat in 1..=CHATS {
                self.bot.say(chat, &self.said.to_string());
            }
            self.said += 1;
        }
        let count = self.said * usize::try_from(CHATS).unwrap();
        // By webhook or by polling.
        let direct = self
            .bot
            .sent()
            .iter()
            .filter(|sent| sent.chat > CHATS)
            .count();
        self.bot.wait_sent(count + direct, SOON).unwrap();
        self.bot.wait_none_pending(SOON).unwrap();
        let mut by_chat: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for sent in self.bot.sent() {
            by_chat.entry(sent.chat).or_default().push(sent.text);
        }
        let expected: Vec<_> = (0..self.said).map(|number| number.to_string()).collect();
        by_chat.remove(&(CHATS + 1));
        for texts in by_chat.values() {
            assert_eq!(*texts, expected);
        }
    }

    /// Waits until updates arrive by webhook, at this host.
    fn wait_webhook(&self, host: &str) {
        let url = format!("https://{host}:8443/{TOKEN}/");
        eventually("the webhook is set", || {
            self.bot.webhook_info()["url"] == url.as_str()
        });
        let before = self.bot.deliveries().len();
        self.bot.say(CHATS + 1, "direct");
        self.bot.wait_deliveries(before + 1, SOON).unwrap();
    }
}

fn first_echo(test: &mut Test) {
    test.run();
    test.echoes();
    test.wait_webhook(FIRST);
    confirmed(test);
    println!(
        "          upnpc confirms: {}",
        test.lab.mappings().join(", ")
    );
}

/// Checks that the router forwards by what upnpc says, which knows nothing of us.
fn confirmed(test: &Test) {
    let mappings = test.lab.mappings();
    assert!(
        mappings.len() == 1 && mappings[0].contains("8443->192.168.77.2:8443"),
        "{mappings:?}"
    );
}

fn healthy(test: &mut Test) {
    let output = test.doctor();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for line in [
        "✓ public address: 8.8.100.1, the same that the bot uses",
        "✓ router: the router forwards port 8443 to 192.168.77.2:8443, which is this Pi",
        "✓ webhook: bot 110201543: the webhook is registered, and no updates wait",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

fn other_address(test: &mut Test) {
    let start = Instant::now();
    test.lab.address(SECOND);
    test.echoes();
    println!(
        "          {:.1} s until the echo came back",
        start.elapsed().as_secs_f64()
    );
    test.wait_webhook(SECOND);
    println!(
        "          {:.1} s until it came by webhook",
        start.elapsed().as_secs_f64()
    );
    let subject = tool(
        "openssl",
        &[
            "x509",
            "-in",
            "certs/webhook_cert.pem",
            "-noout",
            "-subject",
        ],
        &test.home.folder,
    );
    assert!(text(&subject).contains(SECOND), "{}", text(&subject));
}

fn reboot(test: &mut Test, speech: Speech) {
    let start = Instant::now();
    test.lab.halt();
    assert!(!test.lab.forwards(), "it has forgotten");
    test.lab.boot(speech);
    test.echoes();
    println!(
        "          {:.1} s until the echo came back",
        start.elapsed().as_secs_f64()
    );
    test.wait_webhook(SECOND);
    println!(
        "          {:.1} s until it came by webhook",
        start.elapsed().as_secs_f64()
    );
    assert!(test.lab.forwards());
}

fn stop(test: &mut Test) {
    confirmed(test);
    let (status, log) = test.pihook.take().unwrap().stop();
    assert!(status.success(), "{log:#?}");
    assert!(
        test.lab.mappings().is_empty() && !test.lab.forwards(),
        "{:?}",
        test.lab.mappings()
    );
}

fn stopped(test: &mut Test) {
    let output = test.doctor();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let first = said.lines().find(|line| line.starts_with('✗')).unwrap();
    assert!(first.contains("listener: no program listens"), "{said}");
    let line = "! router: the router does not forward port 8443\n    → start the bot: it asks the router to forward the port";
    assert!(said.contains(line), "{said}");
}

fn speech(test: &mut Test, speech: Speech) {
    test.pihook = None;
    test.lab.boot(speech);
    test.run();
    // Until the router forwards, they come by polling.
    test.echoes();
    eventually("the router forwards", || test.lab.forwards());
    reboot(test, speech);
    let (status, log) = test.pihook.take().unwrap().stop();
    assert!(status.success() && !test.lab.forwards(), "{log:#?}");
}

fn moved_in(test: &mut Test) {
    test.lab.boot(Speech {
        packets: false,
        upnp: true,
    });
    test.run();
    test.echoes();
    test.lab.give("192.168.77.2", "192.168.77.5");
    let start = Instant::now();
    eventually("the router forwards to there", || {
        test.lab.forwards_to("192.168.77.5")
    });
    // Not Telegram: it would wait a minute on the connections of before, which lead nowhere now.
    TcpStream::connect((SECOND, 8443)).unwrap();
    println!(
        "          {:.1} s until the way was open",
        start.elapsed().as_secs_f64()
    );
    let mappings = test.lab.mappings();
    assert!(
        mappings.len() == 1 && mappings[0].contains("8443->192.168.77.5:8443"),
        "{mappings:?}"
    );
    test.pihook = None;
    test.lab.give("192.168.77.5", "192.168.77.2");
}

fn taken(test: &mut Test, speech: Speech) {
    test.lab.boot(speech);
    run("ip netns exec pi upnpc -a 192.168.77.3 8443 8443 TCP");
    test.run()
        .wait_log("port_mapping: the router already forwards the port to");
    assert!(
        test.lab.mappings()[0].contains("192.168.77.3:8443"),
        "{:?}",
        test.lab.mappings()
    );
    let said = text(&test.doctor());
    assert!(
        said.contains("the router forwards port 8443 to 192.168.77.3:8443, which is not this Pi"),
        "{said}"
    );
    test.pihook = None;
}

fn unable(test: &mut Test) {
    test.lab.boot(Speech {
        packets: true,
        upnp: false,
    });
    run("ip netns exec router nft flush chain inet miniupnpd prerouting");
    run("ip netns exec router nft delete chain inet miniupnpd prerouting_upnp");
    let line = test.run().wait_log("port_mapping: ");
    assert!(
        line.contains("the router refused to forward the port: ") && !line.contains("CGNAT"),
        "{line}"
    );
    test.pihook = None;
}

fn mute(test: &mut Test) {
    test.lab.halt();
    test.run()
        .wait_log("the router does not answer by PCP, NAT-PMP or UPnP: switch one of them on");
    // By hand it works as well.
    run(
        "ip netns exec router nft add rule inet miniupnpd prerouting_upnp tcp dport 8443 dnat ip to 192.168.77.2:8443",
    );
    run("ip netns exec router nft add rule inet miniupnpd forward ip daddr 192.168.77.2 accept");
    test.echoes();
    test.pihook = None;
}

fn shared_address(test: &mut Test) {
    test.lab.carrier("100.64.0.0/10");
    test.lab.address(CGNAT);
    let alone = [true, false].map(|packets| Speech {
        packets,
        upnp: !packets,
    });
    for speech in [ALL].into_iter().chain(alone) {
        test.lab.boot(speech);
        let start = Instant::now();
        // The router says it, or what arrives does.
        let line = test.run().wait_log("Updates arrive by polling: ");
        println!("          {}", line.split("] ").nth(1).unwrap_or_default());
        test.echoes();
        println!(
            "          {:.1} s until the echo came",
            start.elapsed().as_secs_f64()
        );
        test.pihook.as_ref().unwrap().wait_log("CGNAT");
        let said = text(&test.doctor());
        assert!(
            said.contains("✓ delivery: updates arrive by polling") && !said.contains('✗'),
            "{said}"
        );
        test.pihook = None;
    }
    // With an address of its own the home gets its webhook back.
    test.run()
        .wait_log("bot 110201543: updates arrive by polling");
    test.lab.address(FIRST);
    let start = Instant::now();
    test.wait_webhook(FIRST);
    println!(
        "          {:.1} s until it came by webhook",
        start.elapsed().as_secs_f64()
    );
    test.echoes();
}
