//! The messages to systemd, and the socket that systemd hands over.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::tls::Tls;
use crate::common::{HOST, Home, Pihook, SOON, TOKEN, settings, telegram};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};

/// The socket on which systemd would get messages.
struct Systemd(UnixDatagram);

impl Systemd {
    fn new(home: &Home) -> Systemd {
        let socket = UnixDatagram::bind(home.folder.join("notify")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        Systemd(socket)
    }

    fn command(&self, home: &Home) -> Command {
        let mut command = home.command(&["run"]);
        command.env("NOTIFY_SOCKET", home.folder.join("notify"));
        command
    }

    /// The next message. Longer ones are dropped as systemd drops them.
    fn next(&self) -> io::Result<String> {
        const NOTIFY_BUFFER_MAX: usize = 4096;
        loop {
            let mut message = vec![0; 64 * 1024];
            let length = self.0.recv(&mut message)?;
            message.truncate(length);
            if length <= NOTIFY_BUFFER_MAX {
                return Ok(String::from_utf8(message).unwrap().trim_end().to_owned());
            }
        }
    }

    /// Waits for a message that holds `text`.
    fn wait(&self, text: &str) -> String {
        let end = Instant::now() + SOON;
        let mut heard = Vec::new();
        while Instant::now() < end {
            let Ok(message) = self.next() else { continue };
            if message.contains(text) {
                return message;
            }
            heard.push(message);
        }
        panic!("no {text:?} in {heard:#?}");
    }
}

#[test]
fn systemd_gets_ready_watchdog_status_and_stopping() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let systemd = Systemd::new(&home);
    let mut command = systemd.command(&home);
    command.env("WATCHDOG_USEC", "400000");
    let pihook = Pihook::start(command);
    telegram.route(HOST, 8443, pihook.address);
    assert_eq!(systemd.wait("READY=1"), "READY=1");
    systemd.wait("STATUS=0 updates answered");
    assert_eq!(systemd.wait("WATCHDOG=1"), "WATCHDOG=1");
    systemd.wait("bot 110201543: webhook registered");
    bot.say(42, "hello");
    bot.wait_delivered(1, SOON).unwrap();
    systemd.wait("STATUS=1 update answered, the last ");
    let log = pihook.log().join("\n");
    assert_eq!(
        log.matches("update ").count(),
        1,
        "the probe is not in the log: {log}"
    );
    assert!(pihook.stop().0.success());
    systemd.wait("STOPPING=1");
}

#[test]
fn systemd_status_names_a_webhook_that_is_not_registered() {
    let home = Home::new("http://127.0.0.1:1");
    let systemd = Systemd::new(&home);
    let mut command = systemd.command(&home);
    command.env("WATCHDOG_USEC", "400000");
    let _pihook = Pihook::start(command);
    systemd.wait("bot 110201543: the webhook is not registered: the Bot API cannot be reached");
}

/// Starts a server in place of the Bot API, whose certificate is for 300 other names. Returns its
/// address and the certificate.
fn api_of_many_names() -> (SocketAddr, String) {
    let names: Vec<_> = (0..300)
        .map(|number| format!("a-rather-long-name-{number:03}.example.org"))
        .collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let config = Arc::new(
        config
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().map_while(Result::ok) {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut tcp).is_ok() {}
        }
    });
    (address, made.cert.pem())
}

#[test]
fn long_names_in_a_certificate_do_not_stop_the_watchdog() {
    let (api, certificate) = api_of_many_names();
    let bots: String = (1..=20)
        .map(|number| format!("[[bot]]\ntoken = '{number}:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw'\n"))
        .collect();
    let home = Home::with(
        &settings(
            &format!("https://127.0.0.1:{}", api.port()),
            "max_connections = 1",
        ),
        &bots,
    );
    let roots = home.write("roots.pem", &certificate);
    let systemd = Systemd::new(&home);
    let mut command = systemd.command(&home);
    command
        .env("WATCHDOG_USEC", "400000")
        .env("SSL_CERT_FILE", roots);
    let pihook = Pihook::start(command);
    // The status has a sentence for each bot, with a part of the names.
    pihook.wait_logs(
        "the webhook is not registered: the Bot API cannot be reached: TLS failed",
        20,
    );
    // The first status lines were sent before the errors.
    let mut lengths = (0..100).map(|_| {
        assert_eq!(systemd.wait("WATCHDOG=1"), "WATCHDOG=1");
        systemd.wait("STATUS=").len()
    });
    assert!(lengths.any(|length| length > 2000));
    let log = pihook.log();
    let longest = log.iter().max_by_key(|line| line.len()).unwrap();
    assert!(
        longest.len() < 600 && longest.contains("a-rather-long-name"),
        "{longest}"
    );
}

#[test]
fn systemd_status_names_polling_and_the_watchdog_is_fed() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::with(
        &settings(&telegram.api_url(), "delivery = 'polling'"),
        &format!("[[bot]]\ntoken = '{TOKEN}'\n"),
    );
    let systemd = Systemd::new(&home);
    let mut command = systemd.command(&home);
    command.env("WATCHDOG_USEC", "400000");
    let pihook = Pihook::start_polling(command);
    systemd.wait("READY=1");
    systemd.wait("bot 110201543: polling; updates arrive by polling: the settings");
    systemd.wait("WATCHDOG=1");
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    systemd.wait("1 update answered, the last ");
    let doctor = crate::common::text(&home.pihook(&["doctor"]));
    assert!(
        doctor.contains("✓ process: the bot runs")
            && doctor.contains("✓ webhook: bot 110201543: no webhook is set"),
        "{doctor}"
    );
    assert!(pihook.stop().0.success());
    systemd.wait("STOPPING=1");
    let doctor = home.pihook(&["doctor"]);
    assert!(
        crate::common::text(&doctor).contains("✗ process: the bot is not running"),
        "{}",
        crate::common::text(&doctor)
    );
    assert_eq!(doctor.status.code(), Some(1));
}

#[test]
fn systemd_status_is_sent_without_a_watchdog() {
    let home = Home::new("http://127.0.0.1:1");
    let systemd = Systemd::new(&home);
    let _pihook = Pihook::start(systemd.command(&home));
    systemd.wait("bot 110201543: the webhook is not registered");
}

#[test]
fn a_socket_from_systemd_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let home = Home::new("http://127.0.0.1:1");
    let settings = home
        .read("pihook.toml")
        .replace("127.0.0.1:0", "127.0.0.1:8443");
    home.write("pihook.toml", &settings);
    // A connection waits in the socket until the program is there.
    let early = std::thread::spawn(move || Tls::connect(address).ask(b"GET / HTTP/1.1\r\n\r\n"));
    let run = home.command(&["run"]);
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 </dev/null",
        "sh",
    ]);
    command
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(&home.folder)
        .env_clear();
    command.stdin(Stdio::from(OwnedFd::from(listener)));
    let pihook = Pihook::start(command);
    assert_eq!(pihook.address, address);
    pihook.wait_log(&format!(
        "systemd listens on port {}, so `listen` has no effect. Set ListenStream=",
        address.port()
    ));
    assert_eq!(early.join().unwrap(), 404);
    assert!(pihook.stop().0.success());
}

#[test]
fn the_watchdog_is_fed_by_a_plain_http_probe_with_tls_off() {
    let settings = "tls = 'off'\npublic_host = 'a.b'\nlisten = '127.0.0.1:0'\napi_url = 'http://127.0.0.1:1'\n";
    let home = Home::with(settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let systemd = Systemd::new(&home);
    let mut command = systemd.command(&home);
    command.env("WATCHDOG_USEC", "400000");
    let _pihook = Pihook::start(command);
    systemd.wait("WATCHDOG=1");
}

#[test]
fn a_public_socket_from_systemd_is_refused_with_tls_off() {
    let settings = "tls = 'off'\npublic_host = 'a.b'\napi_url = 'http://127.0.0.1:1'\n";
    let home = Home::with(settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let output = handed_over(&home, Stdio::from(OwnedFd::from(listener)));
    assert_eq!(output.status.code(), Some(78));
    let said = crate::common::text(&output);
    assert!(
        said.contains(&format!(
            "systemd listens on 0.0.0.0:{port}, but the address must be 127.0.0.1"
        )),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "Set ListenStream=127.0.0.1:{port} in pihook.socket"
        )),
        "{said}"
    );
}

/// Runs the bot to its end, with `socket` in place of the one from systemd.
fn handed_over(home: &Home, socket: Stdio) -> Output {
    let run = home.command(&["run"]);
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0", "sh"]);
    command
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(&home.folder)
        .env_clear();
    command.stdin(socket).output().unwrap()
}

#[test]
fn a_file_from_systemd_in_place_of_a_socket_is_refused() {
    let home = Home::new("http://127.0.0.1:1");
    let output = handed_over(&home, File::open("/dev/null").unwrap().into());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        crate::common::text(&output).contains("Cannot use the socket from systemd"),
        "{}",
        crate::common::text(&output)
    );
}
