//! TLS that ends elsewhere: a reverse proxy or a tunnel before the bot. `tests/homes/run` does it
//! with Caddy and nginx.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::authority::authority;
use crate::common::{Home, OTHER_TOKEN, Pihook, SOON, TOKEN, eventually, text};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use simulated_telegram::{Bot, Delivery, Fault, Options, Telegram};

const NAME: &str = "bot.example.org";

/// How the proxy asks the bot.
#[derive(Clone, Copy)]
enum Protocol {
    /// As Caddy and cloudflared do: one connection for many requests.
    KeepAlive,
    /// As nginx does by default: HTTP/1.0, and a connection for each request.
    Http10,
}

/// A reverse proxy with a certificate for [`NAME`].
struct Front {
    address: SocketAddr,
    upstream: Arc<Upstream>,
    root: String,
}

/// What the proxy does with requests.
struct Upstream {
    protocol: Protocol,
    /// Where the bot listens.
    bot: SocketAddr,
    /// It cannot reach the bot: 502.
    is_broken: AtomicBool,
    /// It closes the connection of a request whose head holds this, without a word.
    silent_at: Mutex<Option<String>>,
}

impl Upstream {
    fn is_silent_at(&self, head: &str) -> bool {
        let silent_at = self.silent_at.lock().unwrap();
        silent_at.as_ref().is_some_and(|part| head.contains(part))
    }
}

impl Front {
    fn start(bot: SocketAddr, protocol: Protocol) -> Front {
        let (root, (certificate, key)) = authority(NAME, |_| {});
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = Arc::new(Upstream {
            protocol,
            bot,
            is_broken: AtomicBool::new(false),
            silent_at: Mutex::default(),
        });
        let shared = Arc::clone(&upstream);
        thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut client = StreamOwned::new(connection, tcp);
                let upstream = Arc::clone(&shared);
                thread::spawn(move || {
                    let mut kept = None;
                    while pass_on(&mut client, &mut kept, &upstream).is_ok() {}
                });
            }
        });
        Front {
            address,
            upstream,
            root,
        }
    }

    fn set_broken(&self, is_broken: bool) {
        let flag = &self.upstream.is_broken;
        flag.store(is_broken, Ordering::Relaxed);
    }

    fn be_silent_at(&self, part_of_head: &str) {
        *self.upstream.silent_at.lock().unwrap() = Some(part_of_head.to_owned());
    }
}

/// One request and its answer.
fn pass_on(
    client: &mut (impl Read + Write),
    kept: &mut Option<TcpStream>,
    upstream: &Upstream,
) -> io::Result<()> {
    let head = read_head(client)?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body)?;
    if upstream.is_silent_at(&head) {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    if upstream.is_broken.load(Ordering::Relaxed) {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    }
    let answer = match upstream.protocol {
        Protocol::KeepAlive => {
            let stream = match kept {
                Some(stream) => stream,
                None => kept.insert(TcpStream::connect(upstream.bot)?),
            };
            let head = head.replace(
                "\r\n\r\n",
                "\r\nX-Forwarded-For: 149.154.167.1\r\nX-Forwarded-Proto: https\r\n\r\n",
            );
            stream.write_all(&[head.as_bytes(), &body].concat())?;
            read_head(stream)?
        }
        Protocol::Http10 => {
            let mut stream = TcpStream::connect(upstream.bot)?;
            let head = head
                .replace("HTTP/1.1", "HTTP/1.0")
                .replace("Connection: keep-alive", "Connection: close");
            stream.write_all(&[head.as_bytes(), &body].concat())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            answer.replace("Connection: close\r\n", "")
        }
    };
    client.write_all(answer.as_bytes())
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

/// Where a bot can listen, also again after a restart: the address is this test's alone, as all of
/// 127.0.0.0/8 is this machine.
fn own_address() -> SocketAddr {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 64 + number, high, low);
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A bot behind a proxy, which Telegram reaches.
fn scene(protocol: Protocol, more: &str) -> (Telegram, Bot, Home, Front, Pihook) {
    scene_of(&[TOKEN], protocol, more)
}

/// The same of several bots; the first one is returned.
fn scene_of(
    tokens: &[&str],
    protocol: Protocol,
    more: &str,
) -> (Telegram, Bot, Home, Front, Pihook) {
    let listen = own_address();
    let front = Front::start(listen, protocol);
    let options = Options {
        speed: 10.0,
        roots: front.root.clone(),
        ..Options::default()
    };
    let telegram = Telegram::start(options).unwrap();
    telegram.route(NAME, 443, front.address);
    let bots: Vec<_> = tokens.iter().map(|token| telegram.bot(token)).collect();
    let settings = format!(
        "tls = 'off'\npublic_host = '{NAME}'\nlisten = '{listen}'\napi_url = '{}'\n{more}\n",
        telegram.api_url()
    );
    let tables: String = tokens
        .iter()
        .map(|token| format!("[[bot]]\ntoken = '{token}'\n"))
        .collect();
    let home = Home::with(&settings, &tables);
    let pihook = home.run();
    pihook.wait_logs("the webhook is registered", tokens.len());
    (telegram, bots[0].clone(), home, front, pihook)
}

#[test]
fn an_echo_comes_through_a_proxy_with_keep_alive_and_one_with_http_1_0() {
    for protocol in [Protocol::KeepAlive, Protocol::Http10] {
        let (_telegram, bot, home, _front, pihook) = scene(protocol, "");
        let call = &bot.wait_call("setWebhook", 1, SOON).unwrap()[0];
        assert_eq!(call.text("url"), format!("https://{NAME}:443/{TOKEN}/"));
        for number in 0..20 {
            bot.say(number % 3, &number.to_string());
        }
        bot.wait_sent(20, SOON).unwrap();
        bot.wait_none_pending(SOON).unwrap();
        assert!(
            bot.deliveries().iter().all(Delivery::succeeded),
            "{:#?}",
            bot.deliveries()
        );
        assert_eq!(
            bot.webhook_info()["has_custom_certificate"],
            false,
            "nothing is uploaded"
        );
        assert!(!home.folder.join("certs").exists(), "nothing is made");
        pihook.wait_log("Telegram reaches this Pi: updates arrive by webhook");
        let doctor = home.pihook(&["doctor"]);
        let said = text(&doctor);
        assert!(
            doctor.status.success() && said.contains("and answers over plain HTTP"),
            "{said}"
        );
        assert!(
            said.contains("the webhook is registered, and no updates wait")
                && !said.contains("certificate"),
            "{said}"
        );
        assert!(
            !said.contains("public address") && !said.contains("router"),
            "{said}"
        );
        assert!(pihook.stop().0.success());
    }
}

#[test]
fn a_proxy_that_answers_502_leads_to_polling_and_back() {
    let (_telegram, bot, home, front, pihook) = scene(Protocol::KeepAlive, "watch_interval = 2");
    front.set_broken(true);
    bot.say(1, "a");
    let line = pihook.wait_log("Updates arrive by polling: ");
    assert!(
        line.contains("502 Bad Gateway") && line.contains("let the proxy or the tunnel send"),
        "{line}"
    );
    bot.wait_sent(1, SOON).unwrap();
    let said = text(&home.pihook(&["doctor"]));
    assert!(
        said.contains("✓ delivery: updates arrive by polling: Telegram could not deliver"),
        "{said}"
    );
    // And back, when it does.
    front.set_broken(false);
    eventually("the webhook is set again", || {
        bot.webhook_info()["url"] != ""
    });
    bot.say(1, "b");
    bot.wait_sent(2, SOON).unwrap();
}

/// The `max_connections` of each set. One that Telegram refuses with a 429, as it comes too soon
/// after another, is repeated, and does not count.
fn sets(bot: &Bot) -> Vec<String> {
    let mut sets = bot.calls();
    sets.retain(|call| call.method == "setWebhook" && !call.answer.contains("Too Many Requests"));
    sets.iter()
        .map(|call| call.text("max_connections"))
        .collect()
}

#[test]
fn a_proxy_that_closes_in_silence_is_tested_by_a_set_with_other_max_connections() {
    let (_telegram, bot, _home, front, pihook) = scene(Protocol::KeepAlive, "watch_interval = 5");
    front.be_silent_at("");
    bot.say(1, "a");
    pihook.wait_log("as a test");
    let line = pihook.wait_log("Updates arrive by polling: ");
    assert!(line.contains("let the proxy or the tunnel send"), "{line}");
    bot.wait_sent(1, SOON).unwrap();
    assert_eq!(sets(&bot), ["40", "39", "40"]);
    let deleted = bot
        .calls()
        .iter()
        .filter(|call| call.method == "deleteWebhook")
        .count();
    assert_eq!(deleted, 2, "before the first set, and before polling");
}

#[test]
fn updates_deferred_before_a_restart_are_no_reason_to_poll() {
    let (telegram, bot, home, _front, pihook) = scene(Protocol::KeepAlive, "watch_interval = 5");
    telegram.on_call(|call| {
        let description = "Too Many Requests: retry after 3000".into();
        let refusal = Fault::Error {
            code: 429,
            description,
            retry_after: Some(3000),
            migrate_to_chat_id: None,
        };
        (call.method == "sendMessage").then_some(refusal)
    });
    bot.say(1, "a");
    pihook.wait_log("503 in");
    assert!(pihook.stop().0.success());
    let pihook = home.run();
    pihook.wait_log("the webhook is registered, and unchanged");
    pihook.wait_log("as a test");
    // Telegram brings what waits, and hears the same again.
    pihook.wait_log("503 in");
    thread::sleep(Duration::from_secs(13));
    assert!(
        !pihook.log().iter().any(|line| line.contains("by polling")),
        "{:#?}",
        pihook.log()
    );
    assert_eq!(sets(&bot), ["40", "39", "40"]);
    assert_eq!(bot.webhook_info()["max_connections"], 40);
}

#[test]
fn a_double_set_whose_second_set_fails_is_completed_at_the_next_start() {
    let (telegram, bot, home, _front, pihook) = scene(
        Protocol::KeepAlive,
        "watch_interval = 5\nmax_connections = 1",
    );
    pihook.wait_log("the webhook is registered");
    let mut fails = true;
    telegram.on_call(move |call| {
        let is_second = call.method == "setWebhook" && call.text("max_connections") == "1";
        (is_second && std::mem::take(&mut fails)).then_some(Fault::Html(502))
    });
    assert!(!home.pihook(&["webhook", "set"]).status.success());
    assert_eq!(bot.webhook_info()["max_connections"], 2);
    let info = text(&home.pihook(&["webhook", "info"]));
    assert!(info.contains("the webhook matches the settings"), "{info}");
    bot.say(1, "a");
    bot.wait_sent(1, SOON).unwrap();
    assert!(pihook.stop().0.success());

    home.run().wait_log("the webhook is registered");
    assert_eq!(bot.webhook_info()["max_connections"], 1);
    let deleted = bot
        .calls()
        .iter()
        .filter(|call| call.method == "deleteWebhook")
        .count();
    assert_eq!(
        (deleted, sets(&bot)),
        (1, ["1", "2", "1", "1"].map(str::to_owned).to_vec())
    );
}

#[test]
fn requests_for_another_bot_do_not_hide_that_one_bot_gets_none() {
    let (telegram, bot, _home, front, pihook) = scene_of(
        &[TOKEN, OTHER_TOKEN],
        Protocol::KeepAlive,
        "watch_interval = 5",
    );
    let other = telegram.bot(OTHER_TOKEN);
    front.be_silent_at(&format!("/{TOKEN}/"));
    bot.say(1, "a");
    let start = Instant::now();
    while bot.sent().is_empty() {
        assert!(start.elapsed() < SOON, "{:#?}", pihook.log());
        other.say(2, "b");
        thread::sleep(Duration::from_millis(300));
    }
    pihook.wait_log("Updates arrive by polling: ");
}

#[test]
fn strangers_behind_the_same_proxy_lock_nobody_out() {
    let (_telegram, bot, _home, _front, pihook) = scene(Protocol::Http10, "");
    // All of them, and Telegram, have the proxy's address; they send a part of a head, or nothing.
    let strangers: Vec<_> = (0..400)
        .map(|number| {
            let mut stream = TcpStream::connect(pihook.address).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"POST /x").unwrap();
            }
            stream
        })
        .collect();
    for number in 0..50 {
        bot.say(number, "hello");
    }
    bot.wait_sent(50, SOON).unwrap();
    drop(strangers);
}

#[test]
fn behind_a_proxy_a_request_needs_path_and_secret() {
    let (_telegram, bot, _home, _front, pihook) = scene(Protocol::KeepAlive, "");
    let secret = bot.wait_call("setWebhook", 1, SOON).unwrap()[0].text("secret_token");
    let ask = |version: &str, path: &str, secret: &str| {
        let mut stream = TcpStream::connect(pihook.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let body = "{\"update_id\":0}";
        let request = format!(
            "POST {path} HTTP/{version}\r\nX-Telegram-Bot-Api-Secret-Token: {secret}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        read_head(&mut stream)
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .to_owned()
    };
    let path = format!("/{TOKEN}/");
    assert_eq!(ask("1.1", &path, &secret), "200");
    assert_eq!(ask("1.0", &path, &secret), "200");
    assert_eq!(ask("1.0", &path, "x"), "403");
    assert_eq!(ask("1.1", "/", &secret), "404");
}

#[test]
fn plain_http_on_a_public_listener_is_refused() {
    let home = Home::with(
        &format!("tls = 'off'\npublic_host = '{NAME}'\nlisten = '0.0.0.0:0'\n"),
        &format!("[[bot]]\ntoken = '{TOKEN}'\n"),
    );
    let output = home.pihook(&["run"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output).contains("listen must be 127.0.0.1 or a private address"),
        "{}",
        text(&output)
    );
}
