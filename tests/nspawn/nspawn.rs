//! `deploy.sh`, the package and the unit, from a Pi that has nothing to a Pi that has nothing
//! again: `tests/nspawn/run`.
//!
//! The settings are those that a user gets: the simulated Telegram is api.telegram.org there, and
//! calls from one of Telegram's addresses.

#[path = "../common/authority.rs"]
mod authority;
mod hosts;
mod impostor;
mod package;
mod pi;
#[path = "../common/steps.rs"]
mod steps;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use authority::authority;
use pi::{HOST, PASSWORD, Pi, SOON, TELEGRAM, eventually, text};
use simulated_telegram::{Bot, Options, Telegram};
use steps::Step;

/// Of this test alone: its secret is searched for everywhere.
const TOKEN: &str = "7205550123:AAGm4nspawn-Xy9kQ2wRtL0pZ7sVbE3cJ5h";
const SECRET: &str = "nspawn-Xy9kQ2wRtL0pZ7sVbE3cJ5h";
/// The timeout of the watchdog in this test. The unit's own is for the slowest Bot API.
const WATCHDOG: &str = "4s";

/// Each step begins where the one before has ended.
const STEPS: &[Step<Test>] = &[
    (
        "wrong answers are refused, and asked for again",
        wrong_answers,
    ),
    ("a line that breaks before all is there", hosts::broken_line),
    ("a wrong password for sudo", hosts::wrong_password),
    ("a disk that keeps nothing", hosts::forgetful_disk),
    (
        "sudo takes no password although it asked, and the password is like a name",
        hosts::password_left_in_the_pipe,
    ),
    ("from nothing to the first echo", first_deployment),
    ("--status, --logs, the status line and the doctor", status),
    (
        "something in place of the Bot API names 300 hosts",
        impostor::long_names_do_not_stop_the_watchdog,
    ),
    (
        "a sudo that asks nothing, a cached ticket, no sudo",
        hosts::free_sudo,
    ),
    ("root itself", hosts::root_itself),
    ("shells that print", hosts::banners),
    ("a server without SFTP", hosts::dropbear),
    ("odd names of hosts and users", hosts::odd_names),
    ("a full /tmp", hosts::full_tmp),
    ("a reload as soon as it is ready", reload),
    (
        "another release under load: none lost, none refused",
        under_load,
    ),
    ("the same release once more", twice),
    ("a release is deployed without a watchdog", unwatched),
    ("a release that crashes is rolled back", crashing),
    (
        "a release that cannot check the settings changes nothing",
        broken_at_init,
    ),
    (
        "a release that is ready but does not answer is rolled back",
        mute,
    ),
    ("a release that hangs is rolled back", hanging),
    ("a power cut while a release is tried", power_cut_on_trial),
    (
        "--rollback, and only three releases are kept, whatever the clock said",
        roll_back,
    ),
    ("SIGKILL: systemd starts it again", killed),
    ("SIGSTOP: the watchdog starts it again", stopped),
    ("a power cut", power_cut),
    (
        "another program has the port at boot, and gives it back",
        taken_port,
    ),
    ("the sandbox of the unit", sandbox),
    ("the token is nowhere to be seen", token),
    (
        "a disk that fills up while a release is tried",
        filled_on_trial,
    ),
    ("a full disk", full_disk),
    ("a read-only root", read_only),
    (
        "the connection breaks while the binary is copied",
        broken_copy,
    ),
    (
        "the connection breaks while the release is switched",
        broken_switch,
    ),
    ("--uninstall leaves nothing", uninstall),
    ("a first release that crashes is removed", first_crashing),
    ("from deploy.sh to the package", package::from_deploy),
    (
        "another package under load: none lost, none refused",
        package::upgrade_under_load,
    ),
    (
        "a package that is removed leaves its settings",
        package::removal,
    ),
    ("from the package to deploy.sh", package::to_deploy),
    ("a package that is purged leaves nothing", package::purge),
    (
        "from `apt install` to the first echo",
        package::first_installation,
    ),
    ("`pihook init` once more", package::init_again),
    (
        "`pihook init` of a bot that does not start",
        package::init_in_vain,
    ),
    ("a token that was revoked", package::revoked),
];

fn main() {
    let paths: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [image, binary, package, work] = &paths[..] else {
        panic!("tests/nspawn/run starts this")
    };
    let (root_pem, pair) = authority("api.telegram.org", |_| ());
    let options = Options {
        api_tls: Some(pair),
        api_port: 443,
        source: TELEGRAM.parse().unwrap(),
        ..Options::default()
    };
    let start = Instant::now();
    let pi = Pi::start(image, work, &root_pem);
    println!(
        "{:6.1} s  a Debian is up in its container",
        start.elapsed().as_secs_f64()
    );
    let telegram = Telegram::start(options).unwrap();
    telegram.route(HOST, 8443, format!("{HOST}:8443").parse().unwrap());
    let bot = telegram.bot(TOKEN);
    let mut test = Test {
        pi,
        bot,
        binary: binary.to_str().unwrap().to_owned(),
        package: package.clone(),
    };

    steps::run(&mut test, STEPS);
}

struct Test {
    pi: Pi,
    bot: Bot,
    binary: String,
    /// The Debian package of the same binary.
    package: PathBuf,
}

impl Test {
    /// A user writes, and gets the text back.
    fn echo(&self) {
        let before = self.bot.sent().len();
        let text = format!("echo {before}");
        self.bot.say(42, &text);
        let sent = self.bot.wait_sent(before + 1, SOON).unwrap();
        assert_eq!(sent[before].text, text);
    }

    /// The power goes and comes back.
    fn power_cut_and_echo(&mut self) {
        self.pi.power_off();
        self.pi.power_on();
        self.echo();
    }

    fn deploy(&self, binary: &str) -> Output {
        self.pi.deploy(&["--binary", binary], "")
    }

    /// The binary with something at its end: another release.
    fn other(&self, suffix: &[u8]) -> String {
        let path = self.pi.file(&format!("pihook-{}", suffix.len()));
        let content = [&fs::read(&self.binary).unwrap(), suffix].concat();
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A program that is pihook for every command but `run`: then it does this, in C.
    fn stub(&self, run: &str) -> String {
        self.stub_of("execv(\"/real\", words);", run)
    }

    /// Like [`Test::stub`]; its `pihook init` does `init`, in C.
    fn stub_of(&self, init: &str, run: &str) -> String {
        let path = self.pi.file("stub");
        fs::copy(&self.binary, self.pi.file("root/real")).unwrap();
        let source = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>
            #include <sys/socket.h>\n#include <sys/un.h>
            int main(int count, char **words) {{
                if (count > 1 && !strcmp(words[1], \"init\")) {{ {init} }}
                if (count > 1 && !strcmp(words[1], \"run\")) {{ {run} }}
                puts(\"pihook 9.9.9\");
            }}"
        );
        let mut cc = Command::new("cc");
        let output = pi::run(cc.args(["-x", "c", "-", "-o"]).arg(&path), &source);
        assert!(output.status.success(), "{}", text(&output));
        path.to_str().unwrap().to_owned()
    }

    /// Deploys a release that does not work: it is rolled back, and the one before serves on.
    fn is_rolled_back(&self, binary: &str) {
        let before = self.pi.current();
        let output = self.deploy(binary);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("Rolled back: {before} is running."))
                && said.contains("Its log:"),
            "{said}"
        );
        assert_eq!(self.pi.current(), before);
        assert!(!self.pi.run("ls /opt/pihook/releases").contains("9.9.9"));
        self.echo();
    }
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    text(output)
}

/// Messages to the bot in 20 chats, one after the other, until it ends.
struct Load {
    bot: Bot,
    sent_before: usize,
    deliveries_before: usize,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Load {
    fn start(bot: &Bot) -> Load {
        let sent_before = bot.sent().len();
        let deliveries_before = bot.deliveries().len();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = bot.clone();
        let thread = thread::spawn(move || {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                count += 1;
                writer.say(
                    1000 + i64::try_from(count % 20).unwrap(),
                    &format!("load {count}"),
                );
                thread::sleep(Duration::from_millis(10));
            }
            count
        });
        Load {
            bot: bot.clone(),
            sent_before,
            deliveries_before,
            stop,
            thread,
        }
    }

    /// Every message was answered, and no connection refused. Returns how many were answered twice.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let count = self.thread.join().unwrap();
        eventually("all are answered", || self.bot.pending() == 0);
        let sent = self.bot.sent().split_off(self.sent_before);
        let texts: BTreeSet<_> = sent.iter().map(|sent| &sent.text).collect();
        assert_eq!(texts.len(), count, "all are answered");
        let deliveries = self.bot.deliveries().split_off(self.deliveries_before);
        let errors: Vec<_> = deliveries
            .into_iter()
            .filter_map(|delivery| delivery.error)
            .collect();
        assert!(
            !errors.iter().any(|error| error.contains("refused")),
            "{errors:?}"
        );
        let twice = sent.len() - count;
        println!(
            "          {count} messages: {} deliveries broke, {twice} answers came twice",
            errors.len()
        );
        twice
    }
}

fn wrong_answers(test: &mut Test) {
    for (answers, complaint) in [
        ("", "The answer is missing: The bot's token"),
        (
            "7205550123:AAGm4wrong-Xy9kQ2wRtL0pZ7sVbE3cJ5h\n\n80.100.95.20\n",
            "Telegram does not accept this token",
        ),
        (
            "this-is-a-password\n\n80.100.95.20\n",
            "This is not a token",
        ),
        (&format!("{TOKEN}\n\n10.0.0.1\n"), "is a private"),
        (
            &format!("{TOKEN}\nperhaps-so\n80.100.95.20\n"),
            "must be y or n",
        ),
        (
            &format!("{TOKEN}\n\na\"b\n"),
            "must be an IPv4 address or a DNS name",
        ),
    ] {
        let output = test.pi.deploy(&["--binary", &test.binary], answers);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(complaint), "{}", text(&output));
        // What was read may be something else, in the wrong place.
        for answer in answers.lines().filter(|answer| !answer.is_empty()) {
            assert!(
                !text(&output).contains(answer),
                "{answer}: {}",
                text(&output)
            );
        }
        assert_eq!(
            test.pi.run("find /etc -path '/etc/pihook/*'"),
            "",
            "{answers}"
        );
    }
    assert!(
        text(&test.pi.deploy(&["--rollback"], "")).contains("pihook is not installed on the Pi.")
    );
    // It removes only the folder that deploy.sh has made.
    fs::copy("deploy/install.sh", test.pi.file("root/opt/install.sh")).unwrap();
    assert!(
        test.pi
            .try_run("bash /opt/install.sh rollback")
            .unwrap_err()
            .contains("pihook is not installed on the Pi.")
    );
    test.pi.run("rm /opt/install.sh");
}

fn first_deployment(test: &mut Test) {
    let watch = Watch::start();
    let start = Instant::now();
    let output = test
        .pi
        .deploy(&["--binary", &test.binary], &format!("{TOKEN}\n\n{HOST}\n"));
    println!(
        "          deploy.sh took {:.1} s: {}",
        start.elapsed().as_secs_f64(),
        succeeds(&output).trim()
    );
    assert!(text(&output).contains(
        "is running. Write to @number_7205550123_bot: https://t.me/number_7205550123_bot\n"
    ));
    for progress in [
        "Connecting to ",
        "Copying ",
        "Starting ",
        "Waiting for the self-check…",
    ] {
        assert!(text(&output).contains(progress), "{progress}");
    }
    test.echo();
    watch.end();
    assert!(!text(&output).contains(SECRET));
    assert_eq!(
        test.pi
            .run("stat -c '%a %U' /etc/pihook/token /etc/pihook/pihook.toml"),
        "600 root\n644 root"
    );
    // A later step finds this line: deploy.sh keeps what the user writes.
    test.pi.run("echo '# mine' >>/etc/pihook/pihook.toml");
    test.pi.run(&format!(
        "mkdir -p /etc/systemd/system/pihook.service.d
        printf '[Service]\\nWatchdogSec={WATCHDOG}\\n' >/etc/systemd/system/pihook.service.d/test.conf
        systemctl daemon-reload && systemctl restart pihook.service"
    ));
    assert!(
        test.pi
            .run("pihook webhook info")
            .contains("the webhook matches the settings")
    );
}

fn status(test: &mut Test) {
    eventually("the status line says it", || {
        test.pi
            .property("StatusText")
            .contains("bot 7205550123: webhook registered")
    });
    test.echo();
    eventually("the status line counts", || {
        test.pi.property("StatusText").contains("1 update answered")
    });
    let said = succeeds(&test.pi.deploy(&["--status"], ""));
    for line in [
        "bot          @number_7205550123_bot",
        "delivery     webhook: Telegram reaches this Pi",
        "address      80.100.95.20:8443",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(
        said.contains("Status: \"") && said.contains("active (running)"),
        "{said}"
    );
    assert!(said.contains(&test.pi.current()), "{said}");
    let said = succeeds(&test.pi.deploy(&["--logs"], ""));
    assert!(
        said.contains("Listening on 0.0.0.0:8443.") && said.contains(": 200 in "),
        "{said}"
    );
    // The doctor sees everything that it checks, but for the outside services: there is no internet.
    let said = test
        .pi
        .run("/opt/pihook/current/pihook doctor --config /etc/pihook/pihook.toml");
    for line in [
        "✓ files: ",
        "✓ token: bot 7205550123",
        "✓ certificate: made by pihook",
        "✓ listener: ",
        "✓ webhook: ",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(
        said.contains("pihook (process ") && said.contains("! public address: "),
        "{said}"
    );
}

fn reload(test: &mut Test) {
    for _ in 0..5 {
        test.pi
            .run("systemctl restart pihook.service && systemctl reload pihook.service");
        test.echo();
    }
    assert_eq!(test.pi.property("NRestarts"), "0");
    let log = test.pi.run("journalctl --unit pihook.service");
    assert_eq!(
        log.matches("The certificate was reloaded.").count(),
        5,
        "{log}"
    );
}

fn under_load(test: &mut Test) {
    let first = test.pi.current();
    let load = Load::start(&test.bot);
    thread::sleep(Duration::from_secs(1));
    succeeds(&test.deploy(&test.other(b"2")));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(load.end(), 0);
    assert_ne!(test.pi.current(), first);
    assert!(
        test.pi
            .run("tail -n 1 /etc/pihook/pihook.toml")
            .contains("# mine")
    );
}

fn twice(test: &mut Test) {
    let before = (test.pi.current(), test.pi.run("ls /opt/pihook/releases"));
    succeeds(&test.deploy(&test.other(b"2")));
    assert_eq!(
        (test.pi.current(), test.pi.run("ls /opt/pihook/releases")),
        before
    );
    test.echo();
}

fn unwatched(test: &mut Test) {
    let drop_in = "/etc/systemd/system/pihook.service.d/unwatched.conf";
    test.pi.run(&format!(
        "printf '[Service]\\nWatchdogSec=0\\n' >{drop_in} && systemctl daemon-reload"
    ));
    succeeds(&test.deploy(&test.other(b"2")));
    assert_eq!(test.pi.property("WatchdogUSec"), "0");
    test.echo();
    test.pi.run(&format!(
        "rm {drop_in} && systemctl daemon-reload && systemctl restart pihook.service"
    ));
}

fn crashing(test: &mut Test) {
    test.is_rolled_back(&test.stub("return 3;"));
}

fn broken_at_init(test: &mut Test) {
    let before = test.pi.current();
    let running = test.pi.property("InvocationID");
    let output = test.deploy(&test.stub_of("abort();", "return 3;"));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("the release is broken. Nothing was changed."),
        "{}",
        text(&output)
    );
    assert_eq!(
        (test.pi.current(), test.pi.property("InvocationID")),
        (before, running)
    );
    // A release from before `pihook init` is tried all the same: there is nothing to ask.
    test.is_rolled_back(&test.stub_of("return 64;", "return 3;"));
}

/// It is ready, but does not answer.
fn mute(test: &mut Test) {
    test.is_rolled_back(&test.stub(READY));
}

/// In C: tells systemd that it is ready, and does nothing.
const READY: &str = "struct sockaddr_un to = { AF_UNIX };
        strcpy(to.sun_path, getenv(\"NOTIFY_SOCKET\"));
        sendto(socket(AF_UNIX, SOCK_DGRAM, 0), \"READY=1\", 7, 0, (struct sockaddr *)&to, sizeof to);
        pause();";

fn hanging(test: &mut Test) {
    test.is_rolled_back(&test.stub("pause();"));
}

fn power_cut_on_trial(test: &mut Test) {
    let before = test.pi.current();
    let mut deployment = test.pi.begin_deploy(&["--binary", &test.stub(READY)]);
    eventually("it is tried", || {
        test.pi
            .try_run("pgrep --full '/releases/9.9.9.*/pihook run'")
            .is_ok()
    });
    test.pi.power_off();
    test.pi.power_on();
    test.echo();
    assert_eq!(test.pi.current(), before);
    deployment.kill().unwrap();
    deployment.wait().unwrap();
}

fn roll_back(test: &mut Test) {
    let second = test.pi.current();
    for suffix in [&b"33"[..], b"444"] {
        succeeds(&test.deploy(&test.other(suffix)));
    }
    let releases = || test.pi.run("ls /opt/pihook/releases").lines().count();
    let fourth = test.pi.current();
    assert_eq!(releases(), 3);
    test.pi.run("touch --date=@60 /opt/pihook/current/");
    let third = succeeds(&test.pi.deploy(&["--rollback"], ""));
    test.echo();
    succeeds(&test.pi.deploy(&["--rollback"], ""));
    assert_eq!(test.pi.current(), second, "after {third}");
    let output = test.pi.deploy(&["--rollback"], "");
    assert!(
        text(&output).contains("There is no previous release."),
        "{}",
        text(&output)
    );
    // The third release was rolled back: it is not the one that ran before the fourth.
    succeeds(&test.deploy(&test.other(b"444")));
    assert_eq!((test.pi.current(), releases()), (fourth.clone(), 2));
    succeeds(&test.pi.deploy(&["--rollback"], ""));
    assert_eq!(test.pi.current(), second);
    succeeds(&test.deploy(&test.other(b"444")));
    assert_eq!((test.pi.current(), releases()), (fourth, 2));
    test.echo();
}

fn killed(test: &mut Test) {
    comes_back_from("KILL", test);
}

fn stopped(test: &mut Test) {
    comes_back_from("STOP", test);
}

fn comes_back_from(signal: &str, test: &Test) {
    let restarts = test.pi.property("NRestarts");
    let doubtful_before = doubtful(test);
    let load = Load::start(&test.bot);
    thread::sleep(Duration::from_millis(500));
    test.pi.signal(signal);
    let start = Instant::now();
    eventually("it is back", || {
        test.pi.property("NRestarts") != restarts && test.pi.property("ActiveState") == "active"
    });
    println!(
        "          back after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let twice = load.end();
    assert!(
        twice <= doubtful(test) - doubtful_before,
        "{twice} answers came twice"
    );
}

/// How many replies were on their way to Telegram when the program ended: it cannot know whether
/// they arrived.
fn doubtful(test: &Test) -> usize {
    test.pi
        .run("journalctl --unit pihook.service | grep -c 'may arrive twice' || true")
        .parse()
        .unwrap()
}

fn power_cut(test: &mut Test) {
    test.power_cut_and_echo();
}

fn taken_port(test: &mut Test) {
    test.pi.power_off();
    let other = TcpListener::bind(("0.0.0.0", 8443)).unwrap();
    test.pi.power_on();
    eventually("it says so", || {
        test.pi
            .run("journalctl --boot --unit pihook.service")
            .contains("Address already in use")
    });
    drop(other);
    test.echo();
    succeeds(&test.deploy(&test.other(b"444")));
    test.echo();
}

fn sandbox(test: &mut Test) {
    let process = Process::of_the_unit(test);
    assert_eq!(
        (
            process.fact("NoNewPrivs").as_str(),
            process.fact("Seccomp").as_str()
        ),
        ("1", "2")
    );
    assert_eq!(process.fact("THP_enabled"), "0");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(process.fact(set), "0000000000000000", "{set}");
    }
    let user = process.fact("Uid");
    assert!(user.parse::<u32>().unwrap() >= 61184, "{user}");

    sandboxed_files(test, &process);

    let score = test
        .pi
        .run("systemd-analyze --no-pager security pihook.service | tail -n 1");
    println!("          {score}");
    let level = score.split("pihook.service: ").nth(1).unwrap();
    let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level <= 1.5);

    let memory = test.pi.property("MemoryCurrent");
    println!(
        "          VmRSS {} KiB, {} threads, MemoryCurrent {memory}",
        process.fact("VmRSS"),
        process.fact("Threads")
    );
}

/// The unit's process writes its own folders alone, and reads no secret but its own.
fn sandboxed_files(test: &Test, process: &Process) {
    let folders = process
        .run("find / -path /proc -prune -o -type d -writable -print 2>/dev/null || true")
        .unwrap();
    let writable: BTreeSet<_> = folders.lines().collect();
    assert_eq!(
        writable,
        BTreeSet::from([
            "/run/private/pihook",
            "/tmp",
            "/var/lib/private/pihook",
            "/var/tmp"
        ])
    );

    process
        .run("touch /var/lib/pihook/x /run/pihook/x /tmp/x")
        .unwrap();
    test.pi
        .run("rm /var/lib/pihook/x /run/pihook/x && test ! -e /tmp/x");

    for secret in [
        "cat /etc/pihook/token",
        "ls /home",
        "ls /root",
        "cat /proc/1/environ",
    ] {
        assert!(process.run(secret).is_err(), "{secret}");
    }
}

/// The main process of the unit.
struct Process<'t> {
    test: &'t Test,
    id: String,
    /// Its `/proc/PID/status`.
    status: String,
}

impl Process<'_> {
    fn of_the_unit(test: &Test) -> Process<'_> {
        let id = test.pi.property("MainPID");
        let status = test.pi.run(&format!("cat /proc/{id}/status"));
        Process { test, id, status }
    }

    /// The first word of a line of its status.
    fn fact(&self, name: &str) -> String {
        let start = format!("{name}:");
        let line = self
            .status
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap_or_default();
        line.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    /// Runs a command as its user, among the files that it sees.
    fn run(&self, command: &str) -> Result<String, String> {
        let id = &self.id;
        let user = self.fact("Uid");
        self.test.pi.try_run(&format!(
            "nsenter --target {id} --mount --ipc setpriv --reuid={user} --regid={user} --clear-groups {command}"
        ))
    }
}

fn token(test: &mut Test) {
    let process = test.pi.property("MainPID");
    let said = test.pi.run(&format!(
        "systemctl show pihook.service; systemctl cat pihook.service; journalctl --output=verbose; cat /etc/pihook/pihook.toml
        tr '\\0' '\\n' </proc/{process}/environ; ps axeww; ls -R /tmp /opt /run/pihook/ /var/lib/pihook/
        grep -r nspawn-Xy9 /opt /tmp /run/pihook/ /var/lib/pihook/ /var/log || true
        grep -rs 'p4[s]s' /home /root /etc /opt /tmp /run /var/lib /var/log || true"
    ));
    assert!(!said.contains(SECRET) && !said.contains("p4ss"), "{said}");
    for file in [
        "/etc/pihook/token",
        "/run/credentials/pihook.service/token",
        "/var/lib/pihook/webhook_pkey.pem",
    ] {
        test.pi.run(&format!("test -s {file}"));
        let said = test.pi.try_run(&format!(
            "setpriv --reuid=1000 --regid=1000 --clear-groups cat {file}"
        ));
        assert!(said.unwrap_err().contains("Permission denied"));
    }
}

fn filled_on_trial(test: &mut Test) {
    let before = test.pi.current();
    // The last program to write before the release is taken for good.
    let stub = test.stub(&format!(
        "system(\"{FILL}\"); execv(\"/opt/pihook/releases/{before}/pihook\", words);"
    ));
    let output = test.deploy(&stub);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for sentence in [
        "cannot be saved on the disk of the Pi",
        &format!("Rolled back: {before} is running."),
    ] {
        assert!(text(&output).contains(sentence), "{}", text(&output));
    }
    assert_eq!(test.pi.current(), before);
    assert_eq!(
        test.pi
            .run("ls /opt/pihook/*.new /usr/local/lib/systemd/system/*.new 2>/dev/null || true"),
        ""
    );
    test.echo();
    test.pi.run("rm /var/lib/pihook/fill");
}

/// Fills the disk to the last block.
const FILL: &str = "f=/var/lib/pihook/fill; n=1073741824; while [ $n -gt 0 ]; do \
    fallocate -o $(stat -c %s $f 2>/dev/null || echo 0) -l $n $f 2>/dev/null || n=$((n / 2)); done";

fn full_disk(test: &mut Test) {
    let other = test.other(b"55555");
    test.pi
        .run("dd if=/dev/zero of=/fill bs=1M 2>/dev/null || true; df / | grep 100%");
    serves_through_a_restart(test);
    let before = test.pi.current();
    let output = test.deploy(&other);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output));
    assert!(
        text(&output).contains("32 MiB of free space"),
        "{}",
        text(&output)
    );
    assert_eq!(test.pi.current(), before);
    test.echo();
    test.pi.run("rm /fill");
}

fn read_only(test: &mut Test) {
    let other = test.other(b"55555");
    // The disk cannot become read-only while the journal writes to it.
    test.pi
        .run("journalctl --relinquish-var && mount -o remount,ro / && ! touch /x 2>/dev/null");
    serves_through_a_restart(test);
    let before = test.pi.current();
    let output = test.deploy(&other);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output));
    assert!(
        text(&output).contains("mounted read-only"),
        "{}",
        text(&output)
    );
    assert_eq!(test.pi.current(), before);
    test.echo();
    test.pi.run("mount -o remount,rw /");
    // What systemd could not tidy up meanwhile goes at the next boot.
    power_cut(test);
}

fn serves_through_a_restart(test: &Test) {
    test.echo();
    test.pi.signal("KILL");
    test.echo();
    test.pi.run("systemctl restart pihook.service");
    test.echo();
}

fn broken_copy(test: &mut Test) {
    let before = test.pi.current();
    let large = test.other(&vec![7; 100 << 20]);
    let deployment = test.pi.begin_deploy(&["--binary", &large]);
    eventually("it is being copied", || {
        test.pi.try_run("test -s /run/pihook.*/pihook").is_ok()
    });
    test.pi.run("pkill -KILL -u pi sshd");
    let output = deployment.wait_with_output().unwrap();
    assert!(!output.status.success(), "{}", text(&output));
    assert_eq!(test.pi.current(), before);
    test.echo();
}

fn broken_switch(test: &mut Test) {
    let before = test.pi.current();
    let other = test.other(b"666666");
    let deployment = test.pi.begin_deploy(&["--binary", &other]);
    eventually("it is being installed", || {
        test.pi
            .try_run("systemctl is-active pihook-deploy.service")
            .is_ok()
    });
    test.pi.run("pkill -KILL -u pi sshd");
    let output = deployment.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("The connection broke."),
        "{}",
        text(&output)
    );
    eventually("it ended there", || {
        test.pi
            .try_run("systemctl is-active pihook-deploy.service")
            .is_err()
    });
    assert_ne!(test.pi.current(), before);
    test.echo();
    succeeds(&test.deploy(&test.other(b"7777777")));
    test.echo();
}

fn uninstall(test: &mut Test) {
    succeeds(&test.pi.deploy(&["--uninstall"], ""));
    assert_eq!(
        test.pi
            .run("find / -xdev -iname '*pihook*'; find /run /tmp -iname '*pihook*'"),
        ""
    );
    assert_eq!(units(test), "");
    assert_eq!(test.bot.webhook_info()["url"], "");
    assert!(
        text(&test.pi.deploy(&["--uninstall"], "")).contains("pihook is not installed on the Pi.")
    );
}

fn units(test: &Test) -> String {
    test.pi.run("for list in list-units list-unit-files; do systemctl $list --all --no-legend '*pihook*' || true; done")
}

fn first_crashing(test: &mut Test) {
    let output = test.pi.deploy(
        &["--binary", &test.stub("return 3;")],
        &format!("{TOKEN}\n\n{HOST}\n"),
    );
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("There is no previous release"),
        "{}",
        text(&output)
    );
    assert_eq!(
        (units(test), test.pi.run("ls /etc/pihook; ls /opt")),
        (String::new(), "pihook.toml\ntoken".to_owned())
    );
    succeeds(&test.deploy(&test.binary));
    test.echo();
}

/// Looks for the token and the password on the command line and in the environment of every
/// process, again and again, until it ends.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<PathBuf>>,
}

impl Watch {
    fn start() -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                seen.extend(
                    processes()
                        .flat_map(|process| [process.join("cmdline"), process.join("environ")])
                        .filter(holds_secret),
                );
            }
            seen
        });
        Watch { stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().unwrap();
        assert!(seen.is_empty(), "{seen:?}");
    }
}

fn processes() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
}

fn holds_secret(file: &PathBuf) -> bool {
    let holds = |content: &[u8], secret: &str| {
        content
            .windows(secret.len())
            .any(|part| part == secret.as_bytes())
    };
    fs::read(file).is_ok_and(|content| holds(&content, SECRET) || holds(&content, PASSWORD))
}
