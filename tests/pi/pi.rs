//! A Raspberry Pi's life at home, on an emulated Pi: `tests/pi/run`, which makes the machine and the
//! binaries.
//!
//! The simulated Telegram runs on this machine, which is 10.0.2.2 for the Pi. It calls the webhook
//! through a port that QEMU forwards. So both ways go through the Pi's own network.

#[path = "../common/authority.rs"]
mod authority;
mod machine;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime};

use authority::authority;
use machine::{Machine, within};
use simulated_telegram::{Bot, Options, Telegram};

const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
const HOST: &str = "80.100.95.20";
/// This machine, as the Pi sees it.
const HERE: &str = "10.0.2.2";
/// A chat of which no load is a part.
const CHAT: i64 = 42;
/// The longest time for an echo, whatever has just happened.
const PATIENCE: Duration = Duration::from_secs(180);

/// At its start, systemd moves a clock forward that is older than systemd. This unit sets the clock
/// back after that.
const OLD_CLOCK: &str = "\
[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=date --set=@60
[Install]
WantedBy=sysinit.target
";

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("tests/pi/run starts this, with a folder that it has made.");
        return ExitCode::from(64);
    };
    let mut home = Home::new(Path::new(&folder));
    home.step("1. from a bare system to the first echo", Home::bare_system);
    home.step("2. another version, under load", Home::another_version);
    home.step("3. SIGKILL, under load", Home::killed);
    home.step("4. the plug is pulled, under load", Home::plug_pulled);
    home.step(
        "5. power-on with a clock from 1970 and no network",
        Home::alone,
    );
    home.step(
        "6. a full disk, and a read-only one",
        Home::full_and_read_only,
    );
    home.step("7. figures", Home::figures);
    home.step("8. pages of 16 KiB, as on a Pi 5", Home::pi_5);
    home.step(
        "9. the package, from nothing to the first echo",
        Home::package,
    );
    ExitCode::SUCCESS
}

/// The Pi, and Telegram.
struct Home {
    folder: PathBuf,
    pi: Machine,
    telegram: Telegram,
    bot: Bot,
    /// The time from a power-on to the first echo.
    power_on: Duration,
}

/// The update's number, and its text. No other message has that text.
type Said = (i64, String);

impl Home {
    fn new(folder: &Path) -> Home {
        // The certificate is a day old: by a clock from 1970 it is not valid yet.
        let yesterday = SystemTime::now() - Duration::from_secs(86400);
        let (root, pair) = authority(HERE, |leaf| leaf.not_before = yesterday.into());
        fs::write(folder.join("root.pem"), root).unwrap();
        // Telegram's waits are a quarter as long: after an outage, its next call would come only after
        // minutes.
        let telegram = Telegram::start(Options {
            speed: 4.0,
            api_tls: Some(pair),
            ..Options::default()
        })
        .unwrap();
        let bot = telegram.bot(TOKEN);
        let pi = Machine::new(folder);
        Home {
            folder: folder.to_owned(),
            pi,
            telegram,
            bot,
            power_on: Duration::ZERO,
        }
    }

    fn step(&mut self, name: &str, step: fn(&mut Home)) {
        println!("\n{name}");
        let start = Instant::now();
        step(self);
        tell(start, "in all");
    }

    fn bare_system(&mut self) {
        let start = Instant::now();
        self.pi.power_on();
        self.pi.wait_ssh();
        tell(start, "the bare system is up");
        self.write_settings();
        self.pi.put(
            "/root.pem",
            &fs::read_to_string(self.folder.join("root.pem")).unwrap(),
        );
        self.pi
            .ssh("cat /root.pem >>/etc/ssl/certs/ca-certificates.crt");
        self.telegram.route(HOST, 8443, self.pi.webhook);
        self.bot.say(CHAT, "the first message");
        let start = Instant::now();
        self.deploy("pihook", &format!("{TOKEN}\n"));
        self.bot.wait_sent(1, PATIENCE).unwrap();
        tell(start, "the first echo");
    }

    /// Writes the settings before deploy.sh: neither it nor `pihook init` asks for another Bot API.
    fn write_settings(&self) {
        let port = self
            .telegram
            .api_url()
            .rsplit(':')
            .next()
            .unwrap()
            .to_owned();
        let settings = [
            &format!("public_host = '{HOST}'"),
            &format!("allow_from = ['{HERE}']"),
            &format!("api_url = 'https://{HERE}:{port}'"),
            "certificate = '/var/lib/pihook/webhook_cert.pem'",
            "private_key = '/var/lib/pihook/webhook_pkey.pem'",
            "[[bot]]\n",
        ];
        self.pi.put("/etc/pihook/pihook.toml", &settings.join("\n"));
    }

    fn another_version(&mut self) {
        // While this stays the same, the port is open, and no call is refused.
        let socket = || {
            self.pi
                .ssh("systemctl show --property InvocationID pihook.socket")
        };
        let before = self.bot.deliveries().len();
        let open = socket();
        let load = Load::start(&self.bot, "another version");
        self.under_load();
        self.deploy("another", "");
        self.under_load();
        self.all_answered(&load.stop(), &HashSet::new());
        assert_eq!(socket(), open, "the socket was closed meanwhile");
        let calls = self.bot.deliveries().split_off(before);
        let failed: Vec<_> = calls.iter().filter(|call| !call.succeeded()).collect();
        println!(
            "   {} of {} webhook calls had to be repeated",
            failed.len(),
            calls.len()
        );
        for call in failed {
            println!("   status {:?}, error {:?}", call.status, call.error);
        }
    }

    fn killed(&mut self) {
        let load = Load::start(&self.bot, "killed");
        self.under_load();
        let start = Instant::now();
        self.pi
            .ssh("kill -KILL $(systemctl show --property MainPID --value pihook)");
        let end = Instant::now();
        self.echoes("after SIGKILL");
        tell(start, "it echoes again");
        self.all_answered(&load.stop(), &self.in_flight(start, end));
    }

    fn plug_pulled(&mut self) {
        let load = Load::start(&self.bot, "the plug");
        self.under_load();
        let start = Instant::now();
        self.pi.power_off();
        let end = Instant::now();
        self.nowhere();
        self.pi.power_on();
        self.pi.wait_webhook();
        self.telegram.route(HOST, 8443, self.pi.webhook);
        self.echoes("after power-on");
        self.power_on = end.elapsed();
        tell(end, "it echoes again");
        self.all_answered(&load.stop(), &self.in_flight(start, end));
    }

    fn alone(&mut self) {
        self.pi.put("/etc/systemd/system/1970.service", OLD_CLOCK);
        // Without its note of the webhook the bot has to register again.
        self.pi
            .ssh("systemctl --quiet enable 1970; rm /var/lib/private/pihook/webhook-*; sync");
        self.pi.power_off();
        self.nowhere();
        let registered = self.calls("setWebhook");
        let start = Instant::now();
        self.pi.power_on_alone();
        self.pi.wait_console("login:");
        tell(start, "it is up");
        sleep(Duration::from_secs(20));
        self.pi.monitor("set_link n on");
        self.telegram.route(HOST, 8443, self.pi.webhook);
        self.pi.wait_ssh();
        tell(start, "the network came");
        let date = self.pi.ssh("date");
        assert!(date.contains(" 1970"), "{date}");
        println!("   {date}");
        self.print("systemctl show --property ActiveState,StatusText,NRestarts pihook");
        // The right time comes, as from a time server.
        let start = Instant::now();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        self.pi.ssh(&format!(
            "systemctl --quiet disable 1970; date --set=@{now}"
        ));
        self.echoes("in our time");
        tell(start, "the right time came, and it echoes");
        self.bot
            .wait_call("setWebhook", registered + 1, PATIENCE)
            .unwrap();
        tell(start, "it is registered");
    }

    fn full_and_read_only(&mut self) {
        let fill = "fallocate -l $(df --output=avail -B 1 / | tail -n 1) /full; cat /dev/zero >/rest 2>/dev/null || true";
        self.pi.ssh(fill);
        self.print("df --output=avail / | tail -n 1");
        self.serves_on("with a full disk");
        self.pi.ssh(
            "rm /full /rest; sync; echo u >/proc/sysrq-trigger; sleep 2; ! touch /file 2>/dev/null",
        );
        self.print("grep \" / \" /proc/mounts");
        self.serves_on("with a read-only disk");
    }

    fn serves_on(&self, when: &str) {
        let start = Instant::now();
        self.echoes(when);
        tell(start, &format!("it echoes {when}"));
        self.pi.ssh("systemctl restart pihook");
        self.echoes(&format!("{when}, again"));
        tell(start, "also when it is started again");
    }

    fn figures(&mut self) {
        self.print("systemd-analyze security --no-pager pihook.service | tail -n 1");
        self.memory("figures");
        println!(
            "   the binary has {} bytes",
            fs::metadata(self.folder.join("pihook")).unwrap().len()
        );
        println!(
            "   {:.1} s from power-on to the first echo",
            self.power_on.as_secs_f64()
        );
    }

    fn memory(&self, name: &str) {
        let memory = "grep -E '^(VmRSS|RssAnon)' /proc/$(systemctl show --property MainPID --value pihook)/status | xargs";
        println!("   when idle, {}", self.pi.ssh(memory));
        let load = Load::start(&self.bot, name);
        self.bot
            .wait_sent(self.bot.sent().len() + 200, PATIENCE)
            .unwrap();
        self.all_answered(&load.stop(), &HashSet::new());
        println!("   after that, {}", self.pi.ssh(memory));
    }

    fn pi_5(&mut self) {
        self.pi.power_off();
        self.nowhere();
        self.pi.become_pi_5();
        let start = Instant::now();
        self.pi.power_on();
        self.pi.wait_webhook();
        self.telegram.route(HOST, 8443, self.pi.webhook);
        self.echoes("on a Pi 5");
        tell(start, "from power-on to the first echo");
        self.pi.wait_ssh();
        assert_eq!(self.pi.ssh("getconf PAGESIZE"), "16384");
        self.memory("16 KiB");
        self.deploy("pihook", "");
        self.echoes("deployed on a Pi 5");
    }

    fn package(&mut self) {
        let (succeeded, output) = self.pi.deploy(&["--uninstall"], "");
        assert!(succeeded, "{output}");
        self.write_settings();
        self.pi.copy("pihook.deb", "/root/pihook.deb");
        let start = Instant::now();
        // The image has no apt. tests/nspawn uses apt.
        let said = self.pi.ssh("dpkg --install /root/pihook.deb 2>&1");
        assert!(said.contains("Now run: sudo pihook init"), "{said}");
        tell(start, "dpkg --install");
        let said = self.pi.ssh(&format!("echo '{TOKEN}' | pihook init 2>&1"));
        tell(start, said.lines().last().unwrap_or_default());
        assert!(said.contains("is running. Write to @"), "{said}");
        self.echoes("by the package");
        tell(start, "from the package to the first echo");
    }

    /// Runs `deploy.sh` with a version that works. tests/nspawn has those that are rolled back.
    fn deploy(&self, version: &str, input: &str) {
        let start = Instant::now();
        let (succeeded, output) = self.pi.deploy(&["--binary", version], input);
        assert!(succeeded, "{output}");
        tell(
            start,
            &format!("deploy.sh: {}", output.lines().last().unwrap_or_default()),
        );
    }

    /// Runs a command on the Pi, and prints its output.
    fn print(&self, command: &str) {
        println!("   {}", self.pi.ssh(command).replace('\n', "\n   "));
    }

    /// Waits until some messages of the load are answered.
    fn under_load(&self) {
        self.bot
            .wait_sent(self.bot.sent().len() + 20, PATIENCE)
            .unwrap();
    }

    /// Says `text`, and waits for its echo.
    fn echoes(&self, text: &str) {
        self.bot.say(CHAT, text);
        within(PATIENCE, text, || {
            self.bot
                .sent()
                .iter()
                .any(|sent| sent.text == text)
                .then_some(())
        });
    }

    /// Telegram reaches nobody until the next route: QEMU would accept its calls before the Pi is
    /// there.
    fn nowhere(&self) {
        self.telegram.route(HOST, 8443, ([127, 0, 0, 1], 1).into());
    }

    fn calls(&self, method: &str) -> usize {
        self.bot
            .calls()
            .iter()
            .filter(|call| call.method.eq_ignore_ascii_case(method))
            .count()
    }

    /// The updates that were on their way at some moment between `start` and `end`.
    fn in_flight(&self, start: Instant, end: Instant) -> HashSet<i64> {
        let deliveries = self.bot.deliveries().into_iter();
        deliveries
            .filter(|delivery| {
                delivery.started <= end && delivery.ended.is_none_or(|ended| ended >= start)
            })
            .map(|delivery| delivery.update_id)
            .collect()
    }

    /// Each message is answered in the end, and once; those of `may_be_twice` perhaps twice.
    fn all_answered(&self, said: &[Said], may_be_twice: &HashSet<i64>) {
        within(PATIENCE, "Telegram has delivered all", || {
            (self.bot.pending() == 0).then_some(())
        });
        let mut answers: HashMap<String, usize> = HashMap::new();
        for sent in self.bot.sent() {
            *answers.entry(sent.text).or_default() += 1;
        }
        let lost: Vec<_> = said
            .iter()
            .filter(|(_, text)| !answers.contains_key(text))
            .collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        let twice: HashSet<i64> = said
            .iter()
            .filter(|(_, text)| answers[text] > 1)
            .map(|(id, _)| *id)
            .collect();
        let wrong: Vec<_> = twice.difference(may_be_twice).collect();
        assert!(
            wrong.is_empty(),
            "answered twice, and not on their way: {wrong:?}"
        );
        let said = said.len();
        let on_their_way = may_be_twice.len();
        println!(
            "   {said} messages, 0 lost, {} answered twice ({on_their_way} were on their way)",
            twice.len()
        );
    }
}

/// A message every 100 ms, in ten chats in turn, until it is stopped.
struct Load {
    stop: Sender<()>,
    thread: JoinHandle<Vec<Said>>,
}

impl Load {
    fn start(bot: &Bot, name: &str) -> Load {
        let (stop, stopped) = mpsc::channel();
        let bot = bot.clone();
        let name = name.to_owned();
        let thread = thread::spawn(move || {
            let mut said = Vec::new();
            for chat in (100..110).cycle() {
                let text = format!("{name} {}", said.len());
                said.push((bot.say(chat, &text).update_id, text));
                if stopped.recv_timeout(Duration::from_millis(100))
                    != Err(mpsc::RecvTimeoutError::Timeout)
                {
                    break;
                }
            }
            said
        });
        Load { stop, thread }
    }

    fn stop(self) -> Vec<Said> {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

fn tell(since: Instant, what: &str) {
    println!("   {:5.1} s: {what}", since.elapsed().as_secs_f64());
}
