//! Fourteen homes. In each, pihook gets a token and nothing else, but where the home needs one
//! setting; the time from its start to its first echo is printed, and the words of the doctor are
//! checked.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use simulated_telegram::{Bot, Delivery};

use crate::common::{Home, Pihook, TOKEN, eventually, text};
use crate::internet::{Internet, NAME, Program, name_server};
use crate::lab::{Lab, Speech, output, run};

const FIRST: &str = "8.8.100.1";
const MUTE: Speech = Speech {
    packets: false,
    upnp: false,
};
const UPNP: Speech = Speech {
    packets: false,
    upnp: true,
};
const PACKETS: Speech = Speech {
    packets: true,
    upnp: false,
};
/// The longest time for what a bot has to find out first.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a home is like, and what is seen there.
struct Place {
    name: &'static str,
    build: fn(&mut Scene),
    /// The settings that it needs, beside the token.
    settings: &'static str,
    way: Way,
    /// What the doctor says, among the rest.
    doctor: &'static [&'static str],
    /// What happens after the first echo.
    then: fn(&mut Scene),
}

/// How the first update comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Webhook,
    Polling,
}

const POLLED: &str = "✓ delivery: updates arrive by polling: ";
const NOTHING_ARRIVES: &str = "updates arrive by polling: Telegram's calls do not reach this Pi";
const ONLY_PROXY: &str = "only through the proxy; Telegram cannot call the bot then";
const OFF: &str = "tls = 'off'\npublic_host = 'bot.example.org'";

const PLACES: [Place; 14] = [
    Place {
        name: "a public address on the machine",
        build: |_| {},
        settings: "",
        way: Way::Webhook,
        doctor: &[
            "✓ public address: 8.8.100.1, the same that the bot uses",
            "✓ webhook: bot 110201543: the webhook is registered, and no updates wait",
        ],
        then: nothing,
    },
    Place {
        name: "a router with a forwarded port",
        build: |scene| scene.router(FIRST, MUTE).forward(8443),
        settings: "",
        way: Way::Webhook,
        doctor: &[
            "✓ public address: 8.8.100.1, the same that the bot uses",
            "✓ webhook: bot 110201543: the webhook is registered, and no updates wait",
        ],
        then: nothing,
    },
    Place {
        name: "a router that speaks UPnP",
        build: |scene| {
            scene.router(FIRST, UPNP);
        },
        settings: "",
        way: Way::Polling,
        doctor: &[
            NOTHING_ARRIVES,
            "set port_mapping = \"auto\"",
            "✓ public address: 8.8.100.1",
        ],
        then: opens_the_port,
    },
    Place {
        name: "a router that speaks PCP and NAT-PMP",
        build: |scene| {
            scene.router(FIRST, PACKETS);
        },
        settings: "",
        way: Way::Polling,
        doctor: &[
            NOTHING_ARRIVES,
            "set port_mapping = \"auto\"",
            "the router's own address is 8.8.100.1",
        ],
        then: opens_the_port,
    },
    Place {
        name: "a provider that shares its address (CGNAT)",
        build: |scene| {
            scene.router("100.64.0.2", MUTE).carrier("100.64.0.0/10");
            scene.tell_address("100.64.0.2");
        },
        settings: "",
        way: Way::Polling,
        doctor: &[POLLED, "CGNAT"],
        then: nothing,
    },
    Place {
        name: "a second router before the first",
        build: |scene| {
            scene.router("192.168.1.2", MUTE).carrier("192.168.1.0/24");
            scene.tell_address("192.168.1.2");
        },
        settings: "",
        way: Way::Polling,
        doctor: &[
            NOTHING_ARRIVES,
            "there is a second router between yours and the internet",
        ],
        then: nothing,
    },
    Place {
        name: "a forwarded port that the provider drops",
        build: |scene| {
            scene.router(FIRST, MUTE).forward(8443);
            run("nft add table inet provider");
            run("nft add chain inet provider output { type filter hook output priority 0; }");
            run("nft add rule inet provider output ip saddr 149.154.160.1 tcp dport 8443 drop");
        },
        settings: "",
        way: Way::Polling,
        doctor: &[NOTHING_ARRIVES, "✓ public address: 8.8.100.1"],
        then: nothing,
    },
    Place {
        name: "a router that rewrites sources",
        build: |scene| {
            scene.router(FIRST, MUTE).forward(8443);
            run(
                "ip netns exec router nft add rule inet miniupnpd postrouting oifname lan masquerade",
            );
        },
        settings: "",
        way: Way::Polling,
        doctor: &[POLLED, "192.168.77.1", "set allow_from = "],
        then: nothing,
    },
    Place {
        name: "an address that changes under load",
        build: |scene| scene.router(FIRST, MUTE).forward(8443),
        settings: "",
        way: Way::Webhook,
        doctor: &["✓ webhook: bot 110201543: the webhook is registered"],
        then: moves_under_load,
    },
    Place {
        name: "Caddy on port 443",
        build: |scene| {
            scene.router(FIRST, MUTE).forward(443);
            scene.caddy();
        },
        settings: OFF,
        way: Way::Webhook,
        doctor: &[
            "✓ listener: ",
            "listens at 127.0.0.1:8443 and answers over plain HTTP",
            "✓ webhook: bot 110201543: the webhook is registered",
        ],
        then: |scene| scene.strangers_get("000"),
    },
    Place {
        name: "nginx on port 443, by HTTP/1.0",
        build: |scene| {
            scene.router(FIRST, MUTE).forward(443);
            scene.nginx();
        },
        settings: OFF,
        way: Way::Webhook,
        doctor: &[
            "✓ listener: ",
            "listens at 127.0.0.1:8443 and answers over plain HTTP",
            "✓ webhook: bot 110201543: the webhook is registered",
        ],
        then: |scene| scene.strangers_get("403"),
    },
    Place {
        name: "only an HTTP proxy leads out",
        build: |scene| {
            scene.router(FIRST, MUTE);
            scene.shut_in();
            scene.tinyproxy();
        },
        settings: "proxy = 'http://192.168.77.1:8888'",
        way: Way::Polling,
        doctor: &[
            "answers, through the proxy http://192.168.77.1:8888",
            POLLED,
            ONLY_PROXY,
        ],
        then: nothing,
    },
    Place {
        name: "only a SOCKS5 proxy leads out",
        build: |scene| {
            scene.router(FIRST, MUTE);
            scene.shut_in();
            scene.microsocks();
        },
        settings: "proxy = 'socks5://me:s3cret@192.168.77.1:1080'",
        way: Way::Polling,
        doctor: &[
            "answers, through the proxy socks5://192.168.77.1:1080",
            POLLED,
            ONLY_PROXY,
        ],
        then: nothing,
    },
    Place {
        name: "IPv6 alone, with NAT64",
        build: Scene::nat64,
        settings: "",
        way: Way::Polling,
        doctor: &["✓ Bot API: https://api.telegram.org answers", POLLED],
        then: nothing,
    },
];

fn nothing(_: &mut Scene) {}

struct Scene {
    lab: Lab,
    internet: Internet,
    bot: Bot,
    home: Home,
    programs: Vec<Program>,
    pihook: Option<Pihook>,
    settings: String,
}

pub fn main(number: usize) {
    let place = &PLACES[number - 1];
    let home = Home::with("", "");
    fs::remove_file(home.folder.join("pihook.toml")).unwrap();
    let work = home.folder.clone();
    let lab = if number == 1 {
        Lab::direct(&work)
    } else {
        Lab::start(&work)
    };
    let internet = Internet::start(&work);
    let bot = internet.telegram.bot(TOKEN);
    let mut scene = Scene {
        lab,
        internet,
        bot,
        home,
        programs: Vec::new(),
        pihook: None,
        settings: place.settings.into(),
    };
    (place.build)(&mut scene);
    // The message waits for the bot.
    scene.bot.say(1, "hello");
    let start = Instant::now();
    scene.start();
    let sent = scene
        .bot
        .wait_sent(1, PATIENCE)
        .unwrap_or_else(|error| panic!("{error}: {:#?}", scene.log()));
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(sent[0].text, "hello");
    scene.bot.wait_none_pending(PATIENCE).unwrap();
    let is_pushed = scene.bot.deliveries().iter().any(Delivery::succeeded);
    let way = if is_pushed {
        Way::Webhook
    } else {
        Way::Polling
    };
    assert_eq!(way, place.way, "{:#?}", scene.log());
    let said = scene.doctor(place.doctor);
    println!("{said}");
    println!(
        "row: {number:2} | {:42} | {:8} | {seconds:5.1} s",
        place.name,
        format!("{way:?}").to_lowercase()
    );
    (place.then)(&mut scene);
    let log = scene.pihook.take().unwrap().stop().1;
    assert!(
        !format!("{said}{log:?}").contains("s3cret"),
        "{said}{log:#?}"
    );
}

impl Scene {
    fn router(&mut self, address: &str, speech: Speech) -> &mut Lab {
        self.lab.address(address);
        self.lab.halt();
        if speech.packets || speech.upnp {
            self.lab.boot(speech);
        }
        &mut self.lab
    }

    /// pihook on the Pi, in an environment that names the token alone.
    fn command(&self, arguments: &[&str]) -> Command {
        let there = self.home.command_of("pihook", arguments);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", "pi", "env", "-i"]);
        command.arg(format!("TELEGRAM_BOT_TOKEN={TOKEN}"));
        command.arg(format!("HOME={}", self.home.folder.display()));
        command.arg(format!("SSL_CERT_FILE={}", self.internet.roots.display()));
        command
            .arg(there.get_program())
            .args(there.get_args())
            .current_dir(&self.home.folder);
        command
    }

    fn start(&mut self) {
        self.pihook = None;
        if !self.settings.is_empty() {
            self.home.write("pihook.toml", &self.settings);
        }
        self.pihook = Some(Pihook::start(self.command(&["run"])));
    }

    fn log(&self) -> Vec<String> {
        self.pihook.as_ref().map(Pihook::log).unwrap_or_default()
    }

    /// Waits until the doctor says all of this, and finds nothing bad: a look at the home can be
    /// under way.
    fn doctor(&self, expected: &[&str]) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.command(&["doctor"]).output().unwrap();
            let said = text(&output);
            let missing: Vec<_> = expected
                .iter()
                .filter(|words| !said.contains(**words))
                .collect();
            if output.status.success() && missing.is_empty() {
                return said;
            }
            assert!(
                Instant::now() < end,
                "the doctor does not say {missing:?}: {said}\n{:#?}",
                self.log()
            );
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// The router says by NAT-PMP what its own address is, as most do; Debian's miniupnpd says none
    /// that is not public.
    fn tell_address(&mut self, address: &str) {
        let this = std::env::current_exe().unwrap().display().to_string();
        self.program(
            &this,
            "router",
            &["nat-pmp".into(), address.into()],
            ":5351",
        );
    }

    /// Nothing of the Pi gets further than to the router.
    fn shut_in(&self) {
        run("ip netns exec router nft insert rule inet miniupnpd filter_forward drop");
    }

    fn program(&mut self, name: &str, namespace: &str, arguments: &[String], ready: &str) {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", namespace, name])
            .args(arguments);
        let log = name.rsplit('/').next().unwrap();
        self.programs
            .push(Program::start(log, &self.home.folder, command));
        eventually(&format!("{name} listens"), || {
            output(&format!("ip netns exec {namespace} ss -Hltun")).contains(ready)
        });
    }

    /// The lines of the README's recipe that begins with this one.
    fn recipe(first: &str) -> String {
        let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
        let lines = readme
            .lines()
            .skip_while(|line| line.trim() != first)
            .take_while(|line| line.starts_with("    "));
        let recipe: Vec<_> = lines.map(|line| &line[4..]).collect();
        assert!((2..=10).contains(&recipe.len()), "{recipe:?}");
        recipe.join("\n")
    }

    fn certificate(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = &self.internet.of_name;
        (
            self.home.write("name.pem", certificate),
            self.home.write("name.key", key),
        )
    }

    fn caddy(&mut self) {
        let (certificate, key) = self.certificate();
        // Where there is no certificate authority to ask.
        let tls = format!("{{\n\ttls {} {}", certificate.display(), key.display());
        let recipe = Scene::recipe(&format!("{NAME} {{")).replacen('{', &tls, 1);
        let file = self.home.write(
            "Caddyfile",
            &format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{recipe}\n"),
        );
        let folder = format!("XDG_DATA_HOME={}", self.home.folder.display());
        let config = format!("XDG_CONFIG_HOME={}", self.home.folder.display());
        let words = [
            folder,
            config,
            "caddy".into(),
            "run".into(),
            "--adapter".into(),
            "caddyfile".into(),
            "--config".into(),
        ];
        let words: Vec<_> = words
            .into_iter()
            .chain([file.display().to_string()])
            .collect();
        self.program("env", "pi", &words, ":443");
    }

    fn nginx(&mut self) {
        let (certificate, key) = self.certificate();
        let folder = format!("/etc/letsencrypt/live/{NAME}");
        let recipe = Scene::recipe("server {")
            .replace(
                &format!("{folder}/fullchain.pem"),
                &certificate.display().to_string(),
            )
            .replace(&format!("{folder}/privkey.pem"), &key.display().to_string());
        let work = self.home.folder.display().to_string();
        let text = format!(
            "daemon off; user root; pid {work}/nginx.pid; error_log stderr;\nevents {{}}\nhttp {{\nclient_body_temp_path {work}/body;\n\
             proxy_temp_path {work}/proxy;\n{recipe}\n}}\n"
        );
        let file = self.home.write("nginx.conf", &text).display().to_string();
        self.program("nginx", "pi", &["-c".into(), file], ":443");
    }

    /// Checks the status that a stranger gets; 000 is a closed connection.
    fn strangers_get(&self, status: &str) {
        let said = Command::new("curl")
            .args([
                "-sk",
                "-m",
                "10",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--noproxy",
                "*",
            ])
            .args([
                "--resolve",
                &format!("{NAME}:443:{FIRST}"),
                &format!("https://{NAME}/{TOKEN}/"),
            ])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), status);
    }

    fn tinyproxy(&mut self) {
        let text = "Port 8888\nListen 192.168.77.1\nAllow 192.168.77.0/24\nConnectPort 443\nTimeout 600\nMaxClients 100\n";
        let file = self
            .home
            .write("tinyproxy.conf", text)
            .display()
            .to_string();
        self.program(
            "tinyproxy",
            "router",
            &["-d".into(), "-c".into(), file],
            ":8888",
        );
    }

    fn microsocks(&mut self) {
        let words = [
            "-i",
            "192.168.77.1",
            "-p",
            "1080",
            "-u",
            "me",
            "-P",
            "s3cret",
        ]
        .map(String::from);
        self.program("microsocks", "router", &words, ":1080");
    }

    /// The Pi has IPv6 alone; tayga translates, and unbound invents the addresses.
    fn nat64(&mut self) {
        self.router(FIRST, MUTE);
        let folder = self.home.folder.display().to_string();
        let tayga = format!(
            "tun-device nat64\nipv4-addr 192.168.255.1\nipv6-addr fd00:64::1\nprefix 64:ff9b::/96\ndynamic-pool 192.168.255.0/24\ndata-dir {folder}\n"
        );
        let tayga = self.home.write("tayga.conf", &tayga).display().to_string();
        let unbound = format!(
            "server:\n interface: fd00:77::1\n access-control: fd00:77::/64 allow\n module-config: \"dns64 iterator\"\n \
             dns64-prefix: 64:ff9b::/96\n chroot: \"\"\n username: \"\"\n directory: \"{folder}\"\n pidfile: \"\"\n use-syslog: no\n \
             do-daemonize: no\nremote-control:\n control-enable: no\nforward-zone:\n name: \".\"\n forward-addr: 8.8.100.253\n"
        );
        let unbound = self
            .home
            .write("unbound.conf", &unbound)
            .display()
            .to_string();
        for command in [
            "ip -n pi addr flush dev eth0",
            "ip -n pi addr add fd00:77::2/64 dev eth0 nodad",
            "ip -n router addr add fd00:77::1/64 dev lan nodad",
            "ip -n pi -6 route add default via fd00:77::1",
            "ip netns exec router sysctl -qw net.ipv6.conf.all.forwarding=1",
            &format!("ip netns exec router tayga --config {tayga} --mktun"),
            "ip -n router link set nat64 up",
            "ip -n router addr add 192.168.255.254/32 dev nat64",
            "ip -n router route add 192.168.255.0/24 dev nat64",
            "ip -n router -6 route add 64:ff9b::/96 dev nat64",
            "ip netns exec router nft add rule inet miniupnpd filter_forward iifname nat64 accept",
        ] {
            run(command);
        }
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            "router",
            "tayga",
            "--config",
            &tayga,
            "--nodetach",
        ]);
        self.programs
            .push(Program::start("tayga", &self.home.folder, command));
        self.program(
            "unbound",
            "router",
            &["-d".into(), "-c".into(), unbound],
            ":53",
        );
        name_server(&self.home.folder, "fd00:77::1");
    }
}

/// A home whose first name servers are silent: the system waits for each of them. The bot must work
/// there, and also the commands that make one call and end; the doctor names the name server.
pub fn silent_name_servers() {
    let home = Home::with("", "");
    fs::remove_file(home.folder.join("pihook.toml")).unwrap();
    let lab = Lab::direct(&home.folder);
    let internet = Internet::start(&home.folder);
    let bot = internet.telegram.bot(TOKEN);
    let mut scene = Scene {
        lab,
        internet,
        bot,
        home,
        programs: Vec::new(),
        pihook: None,
        settings: String::new(),
    };
    // They take the questions, and that is all.
    let silent = ["8.8.100.251", "8.8.100.252"];
    let _silent_sockets = silent.map(|address| {
        run(&format!("ip addr add {address}/24 dev outside"));
        UdpSocket::bind((address, 53)).unwrap()
    });
    for (number, case) in SILENT_NAME_SERVERS.iter().enumerate() {
        case.write_resolv_conf(&scene, &silent);
        // As at the very first start.
        scene.pihook = None;
        let _ = fs::remove_dir_all(scene.home.folder.join(".local"));
        scene.bot.say(1, "hello");
        let start = Instant::now();
        scene.start();

        let what = case.what;
        let sent = scene
            .bot
            .wait_sent(number + 1, PATIENCE)
            .unwrap_or_else(|error| panic!("{what}: {error}: {:#?}", scene.log()));
        assert_eq!(sent[number].text, "hello");
        println!(
            "row:    | {what:42} |          | {:5.1} s",
            start.elapsed().as_secs_f64()
        );
        case.check_commands(&scene);
    }
}

/// Some name servers that are silent, before one that answers.
struct SilentNameServers {
    what: &'static str,
    count: usize,
    /// Further lines of resolv.conf.
    options: &'static str,
}

const SILENT_NAME_SERVERS: [SilentNameServers; 3] = [
    SilentNameServers {
        what: "one silent name server",
        count: 1,
        options: "",
    },
    SilentNameServers {
        what: "two of them",
        count: 2,
        options: "",
    },
    SilentNameServers {
        what: "one that is awaited for 22 s",
        count: 1,
        options: "options timeout:22\n",
    },
];

impl SilentNameServers {
    fn write_resolv_conf(&self, scene: &Scene, silent: &[&str]) {
        let mut text = String::new();
        for server in silent.iter().take(self.count).chain(&["8.8.100.253"]) {
            text += &format!("nameserver {server}\n");
        }
        text += self.options;
        scene.home.write("resolv.conf", &text);
    }

    /// The commands that make one call and end, and the doctor's words.
    fn check_commands(&self, scene: &Scene) {
        if self.options.is_empty() {
            let output = scene.command(&["webhook", "info"]).output().unwrap();
            assert!(output.status.success(), "{}: {}", self.what, text(&output));
            let slow = "! DNS: api.telegram.org is found, but only after ";
            println!(
                "{}",
                scene.doctor(&[slow, "the name server 8.8.100.251 does not answer"])
            );
        } else {
            let said = text(&scene.command(&["doctor"]).output().unwrap());
            assert!(
                said.contains("✗ DNS: api.telegram.org is found, but only after 22."),
                "{said}"
            );
        }
    }
}

/// A router that speaks NAT-PMP (RFC 6886): it says its address, and forwards nothing.
pub fn speak_nat_pmp(address: &str) {
    let address: Ipv4Addr = address.parse().unwrap();
    let socket = UdpSocket::bind("192.168.77.1:5351").unwrap();
    let mut request = [0; 1100];
    while let Ok((length, peer)) = socket.recv_from(&mut request) {
        let answer = match request[..length] {
            [0, 0, ..] => [&[0, 128, 0, 0, 0, 0, 0, 1][..], &address.octets()].concat(),
            // Not authorized.
            [0, kind, ..] => [&[0, 128 | kind, 0, 2, 0, 0, 0, 1][..], &[0; 8]].concat(),
            // Another version, which is PCP.
            _ => vec![0, 128, 0, 1, 0, 0, 0, 1],
        };
        socket.send_to(&answer, peer).unwrap();
    }
}

/// With `port_mapping = "auto"`, the webhook works in this home.
fn opens_the_port(scene: &mut Scene) {
    scene.settings = "port_mapping = 'auto'".into();
    let start = Instant::now();
    scene.start();
    eventually("the webhook is set", || {
        scene.bot.webhook_info()["url"] != ""
    });
    scene.bot.say(1, "direct");
    scene
        .bot
        .wait_deliveries(1, PATIENCE)
        .unwrap_or_else(|error| panic!("{error}: {:#?}", scene.log()));
    scene.bot.wait_sent(2, PATIENCE).unwrap();
    println!(
        "row:    | … and port_mapping = \"auto\"               | webhook  | {:5.1} s",
        start.elapsed().as_secs_f64()
    );
    assert!(scene.lab.forwards());
}

/// Two addresses more, while five chats write all the time.
fn moves_under_load(scene: &mut Scene) {
    // By default it can be five minutes until the home is looked at.
    scene.settings = "watch_interval = 10".into();
    scene.start();
    let mut count = 0;
    let mut longest = Duration::ZERO;
    for address in ["8.8.101.7", FIRST] {
        let start = Instant::now();
        scene.lab.address(address);
        let mut is_there = false;
        while !is_there {
            assert!(start.elapsed() < PATIENCE, "{:#?}", scene.log());
            for chat in 2..7 {
                scene.bot.say(chat, &count.to_string());
            }
            count += 1;
            thread::sleep(Duration::from_millis(200));
            // Everything that was said up to now is answered.
            is_there = start.elapsed() > Duration::from_secs(1)
                && scene.bot.sent().len() + 10 >= 5 * count;
        }
        longest = longest.max(start.elapsed());
    }
    let sent = scene
        .bot
        .wait_sent(1 + 5 * count, PATIENCE)
        .unwrap_or_else(|error| panic!("{error}: {:#?}", scene.log()));
    let expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    for chat in 2..7 {
        let texts: Vec<_> = sent
            .iter()
            .filter(|sent| sent.chat == chat)
            .map(|sent| sent.text.clone())
            .collect();
        assert_eq!(texts, expected, "each once, in order");
    }
    let what = format!("… echoes are back, of {} lost 0", 5 * count);
    println!(
        "row:    | {what:42} | webhook  | {:5.1} s",
        longest.as_secs_f64()
    );
}
