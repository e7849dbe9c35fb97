//! What systemd is told, and that the socket which it hands over is served.

mod common;

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::tls::Tls;
use common::{HOST, Home, Pihook, SOON, TOKEN, settings, telegram};

/// Where systemd would listen.
struct Systemd(UnixDatagram);

impl Systemd {
    fn new(home: &Home) -> Systemd {
        let socket = UnixDatagram::bind(home.folder.join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Systemd(socket)
    }

    fn command(&self, home: &Home) -> Command {
        let mut command = home.command(&["run"]);
        command.env("NOTIFY_SOCKET", home.folder.join("notify"));
        command
    }

    /// Waits for a message that holds `text`.
    fn wait(&self, text: &str) -> String {
        let end = Instant::now() + SOON;
        let mut heard = Vec::new();
        while Instant::now() < end {
            let mut message = [0; 4096];
            let Ok(length) = self.0.recv(&mut message) else { continue };
            let message = String::from_utf8(message[..length].to_vec()).unwrap();
            if message.contains(text) {
                return message;
            }
            heard.push(message);
        }
        panic!("no {text:?} in {heard:#?}");
    }
}

#[test]
fn readiness_health_and_the_end_are_told() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let systemd = Systemd::new(&home);
    let mut command = systemd.command(&home);
    command.env("WATCHDOG_USEC", "400000");
    let pihook = Pihook::start(command);
    telegram.route(HOST, 8443, pihook.address);
    assert!(systemd.wait("READY=1").contains("STATUS=0 updates answered"));
    systemd.wait("WATCHDOG=1");
    systemd.wait("bot 110201543: webhook registered");
    bot.say(42, "hello");
    bot.wait_delivered(1, SOON).unwrap();
    assert!(systemd.wait("1 updates answered, the last ").contains("WATCHDOG=1"));
    let log = pihook.log().join("\n");
    assert_eq!(log.matches("update ").count(), 1, "the probe is not in the log: {log}");
    assert!(pihook.stop().0.success());
    systemd.wait("STOPPING=1");
}

#[test]
fn a_webhook_that_is_not_registered_is_told() {
    let home = Home::new("http://127.0.0.1:1");
    let systemd = Systemd::new(&home);
    let mut command = systemd.command(&home);
    command.env("WATCHDOG_USEC", "400000");
    let _pihook = Pihook::start(command);
    systemd.wait("bot 110201543: the webhook is not registered: the Bot API cannot be reached");
}

#[test]
fn one_that_polls_tells_so_and_feeds_the_watchdog() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home =
        Home::with(&settings(&telegram.api_url(), "delivery = 'polling'"), &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let systemd = Systemd::new(&home);
    let mut command = systemd.command(&home);
    command.env("WATCHDOG_USEC", "400000");
    let pihook = Pihook::start_polling(command);
    systemd.wait("READY=1");
    assert!(systemd.wait("bot 110201543: polling; updates are polled: the settings").contains("WATCHDOG=1"));
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    systemd.wait("1 updates answered, the last ");
    let doctor = common::text(&home.pihook(&["doctor"]));
    assert!(
        doctor.contains("✓ process: the bot runs") && doctor.contains("✓ webhook: bot 110201543: none"),
        "{doctor}"
    );
    assert!(pihook.stop().0.success());
    systemd.wait("STOPPING=1");
    let doctor = home.pihook(&["doctor"]);
    assert!(common::text(&doctor).contains("✗ process: the bot does not run"), "{}", common::text(&doctor));
    assert_eq!(doctor.status.code(), Some(1));
}

#[test]
fn without_a_watchdog_the_status_is_told_all_the_same() {
    let home = Home::new("http://127.0.0.1:1");
    let systemd = Systemd::new(&home);
    let _pihook = Pihook::start(systemd.command(&home));
    systemd.wait("bot 110201543: the webhook is not registered");
}

#[test]
fn the_socket_that_systemd_bound_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let home = Home::new("http://127.0.0.1:1");
    let settings = home.read("pihook.toml").replace("127.0.0.1:0", "127.0.0.1:8443");
    home.write("pihook.toml", &settings);
    // Connections wait in it while no program is there.
    let early = std::thread::spawn(move || Tls::connect(address).ask(b"GET / HTTP/1.1\r\n\r\n"));
    let run = home.command(&["run"]);
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 </dev/null", "sh"]);
    command.arg(run.get_program()).args(run.get_args()).current_dir(&home.folder).env_clear();
    command.stdin(Stdio::from(OwnedFd::from(listener)));
    let pihook = Pihook::start(command);
    assert_eq!(pihook.address, address);
    pihook.wait_log(&format!("systemd holds the port {}: set ListenStream=", address.port()));
    assert_eq!(early.join().unwrap(), 404);
    assert!(pihook.stop().0.success());
}

#[test]
fn what_systemd_handed_over_must_be_a_listener() {
    let home = Home::new("http://127.0.0.1:1");
    let run = home.command(&["run"]);
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0", "sh"]);
    command.arg(run.get_program()).args(run.get_args()).current_dir(&home.folder).env_clear();
    command.stdin(File::open("/dev/null").unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(common::text(&output).contains("The socket that systemd handed over"), "{}", common::text(&output));
}
