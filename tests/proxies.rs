//! The Bot API through a proxy, by HTTP CONNECT and by SOCKS5, and by IPv6. `tests/homes/run` tests
//! the same with tinyproxy and microsocks.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::{Home, Pihook, SOON, TOKEN, authority::authority, settings, telegram, text};
use simulated_telegram::{Options, Telegram};

/// A name that only the proxy can resolve.
const NAME: &str = "api.nowhere.example";
const PASSWORD: &str = "s3cret-word";

const REFUSED: &str = "the proxy refuses the user and password";

/// A proxy that connects [`NAME`], with any port, to `telegram`.
struct Proxy {
    address: SocketAddr,
    /// How many connections it has made.
    connections: Arc<AtomicUsize>,
}

/// Speaks the proxy's protocol up to the connection. Returns whether the proxy makes the connection.
type Open = fn(&mut TcpStream) -> io::Result<bool>;

impl Proxy {
    fn start(telegram: &str, open: Open) -> Proxy {
        let to = address(telegram);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
        };
        let connections = Arc::clone(&proxy.connections);
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let connections = Arc::clone(&connections);
                thread::spawn(move || {
                    if open(&mut client)? {
                        connections.fetch_add(1, Ordering::Relaxed);
                        join(client, TcpStream::connect(to)?)?;
                    }
                    io::Result::Ok(())
                });
            }
        });
        proxy
    }
}

/// The address of a URL without a path.
fn address(url: &str) -> SocketAddr {
    let address = url.rsplit('/').next().unwrap();
    address.replace("localhost", "127.0.0.1").parse().unwrap()
}

/// Passes the bytes of each connection on to the other, until both have ended.
fn join(a: TcpStream, b: TcpStream) -> io::Result<()> {
    let from = a.try_clone()?;
    let to = b.try_clone()?;
    thread::spawn(move || pass_on(from, to));
    pass_on(b, a)
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let _ = io::copy(&mut from, &mut to);
    to.shutdown(std::net::Shutdown::Write)
}

/// HTTP CONNECT, for the user `me` with the password.
fn connect(client: &mut TcpStream) -> io::Result<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    // `me:s3cret-word`
    let is_right = head.starts_with(&format!("CONNECT {NAME}:"))
        && head.contains("Basic bWU6czNjcmV0LXdvcmQ=");
    let answer = if is_right {
        "200 Connection established"
    } else {
        "407 Proxy Authentication Required"
    };
    write!(client, "HTTP/1.1 {answer}\r\n\r\n")?;
    Ok(is_right)
}

/// SOCKS5 (RFC 1928, 1929), for the user `me` with the password, and only to a name.
fn socks5(client: &mut TcpStream) -> io::Result<bool> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting)?;
    let mut methods = vec![0; greeting[1].into()];
    client.read_exact(&mut methods)?;
    if !methods.contains(&2) {
        client.write_all(&[5, 0xff])?;
        return Ok(false);
    }

    client.write_all(&[5, 2])?;
    client.read_exact(&mut [0])?;
    let mut word = || -> io::Result<String> {
        let mut length = [0];
        client.read_exact(&mut length)?;
        let mut word = vec![0; length[0].into()];
        client.read_exact(&mut word)?;
        Ok(String::from_utf8(word).unwrap())
    };
    let is_right = (word()?, word()?) == ("me".to_owned(), PASSWORD.to_owned());
    client.write_all(&[1, u8::from(!is_right)])?;
    if !is_right {
        return Ok(false);
    }

    let mut request = [0; 5];
    client.read_exact(&mut request)?;
    let mut name = vec![0; usize::from(request[4]) + 2];
    client.read_exact(&mut name)?;
    let is_name = request[..4] == [5, 1, 0, 3] && name.starts_with(NAME.as_bytes());
    client.write_all(&[5, if is_name { 0 } else { 4 }, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok(is_name)
}

fn home(api_url: &str, more: &str) -> Home {
    Home::with(
        &settings(api_url, more),
        &format!("[[bot]]\ntoken = '{TOKEN}'\n"),
    )
}

fn run(home: &Home, environment: &[(&str, String)]) -> Pihook {
    Pihook::start_polling(with(home.command(&["run"]), environment))
}

fn with(mut command: Command, environment: &[(&str, String)]) -> Command {
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    command
}

#[test]
fn an_echo_goes_through_each_kind_of_proxy_and_its_connections_are_kept() {
    for (scheme, open) in [("http", connect as Open), ("socks5", socks5)] {
        let telegram = telegram();
        let bot = telegram.bot(TOKEN);
        let proxy = Proxy::start(&telegram.api_url(), open);
        let url = format!("{scheme}://me:{PASSWORD}@{}", proxy.address);
        // From the settings, and from the environment.
        for (setting, environment) in [
            (format!("delivery = 'polling'\nproxy = '{url}'"), vec![]),
            (
                "delivery = 'polling'".to_owned(),
                vec![("ALL_PROXY", url.clone())],
            ),
        ] {
            let home = home(&format!("http://{NAME}:8081"), &setting);
            let pihook = run(&home, &environment);
            let shown = format!("{scheme}://{}", proxy.address);
            pihook.wait_log(&format!(
                "Calls to the Bot API go through the proxy {shown}."
            ));

            let before = bot.sent().len();
            for number in 0..20 {
                bot.say(1, &number.to_string());
            }
            bot.wait_sent(before + 20, SOON).unwrap();

            let doctor = text(
                &with(home.command(&["doctor"]), &environment)
                    .output()
                    .unwrap(),
            );
            assert!(
                doctor.contains(&format!("8081 answers, through the proxy {shown}")),
                "{doctor}"
            );
            let check = text(
                &with(home.command(&["check"]), &environment)
                    .output()
                    .unwrap(),
            );
            assert!(
                check.contains(&format!("proxy            = \"{shown}\"")),
                "{check}"
            );
            let (_, log) = pihook.stop();
            assert!(
                !format!("{doctor}{check}{log:?}").contains(PASSWORD),
                "{doctor}{check}{log:#?}"
            );
        }
        let connections = proxy.connections.load(Ordering::Relaxed);
        assert!(
            connections < 20,
            "{connections} connections for 40 echoes: they are not kept"
        );
    }
}

#[test]
fn tls_goes_through_a_proxy_to_the_bot_api_and_is_checked_against_its_name() {
    let (root, tls) = authority(NAME, |_| {});
    let telegram = Telegram::start(Options {
        api_tls: Some(tls),
        ..Options::default()
    })
    .unwrap();
    let bot = telegram.bot(TOKEN);
    let proxy = Proxy::start(&telegram.api_url(), connect);
    let home = home(&format!("https://{NAME}"), "delivery = 'polling'");
    let roots = home.write("roots.pem", &root).display().to_string();
    let url = format!("http://me:{PASSWORD}@{}", proxy.address);
    let _pihook = run(&home, &[("HTTPS_PROXY", url), ("SSL_CERT_FILE", roots)]);
    bot.say(1, "hello");
    bot.wait_sent(1, SOON).unwrap();
}

#[test]
fn an_error_names_the_proxy_and_its_remedy() {
    let telegram = telegram();
    let _bot = telegram.bot(TOKEN);
    let http = Proxy::start(&telegram.api_url(), connect).address;
    let socks = Proxy::start(&telegram.api_url(), socks5).address;
    for (proxy, name, reason) in [
        (format!("http://me:wrong-{PASSWORD}@{http}"), NAME, REFUSED),
        (format!("http://{http}"), NAME, REFUSED),
        (
            format!("socks5://me:wrong-{PASSWORD}@{socks}"),
            NAME,
            REFUSED,
        ),
        (format!("socks5://{socks}"), NAME, REFUSED),
        (
            format!("socks5://me:{PASSWORD}@{socks}"),
            "other.example",
            "host unreachable",
        ),
        (
            format!("socks5://me:{PASSWORD}@127.0.0.1:1"),
            NAME,
            "Connection refused",
        ),
        (
            format!("http://me:{PASSWORD}@127.0.0.1:1"),
            NAME,
            "Connection refused",
        ),
    ] {
        let home = home(
            &format!("http://{name}:8081"),
            &format!("proxy = '{proxy}'"),
        );
        let shown = format!(
            "{}://{}",
            proxy.split(':').next().unwrap(),
            proxy.rsplit(['@', '/']).next().unwrap()
        );
        let doctor = text(&home.pihook(&["doctor"]));
        let line = doctor.lines().find(|line| line.starts_with('✗')).unwrap();
        assert!(
            line.contains(reason) && line.contains(&format!("(proxy {shown})")),
            "{proxy}: {line}"
        );
        assert!(
            doctor.contains("check that the proxy runs") && !doctor.contains(PASSWORD),
            "{doctor}"
        );
    }
}

#[test]
fn a_bot_api_on_this_machine_is_called_directly_also_by_ipv6() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let to = address(&telegram.api_url());
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || join(client, TcpStream::connect(to).unwrap()));
        }
    });
    let home = home(
        &format!("http://{address}"),
        "delivery = 'polling'\nproxy = 'http://127.0.0.1:1'",
    );
    let _pihook = run(&home, &[("ALL_PROXY", "http://127.0.0.1:1".into())]);
    bot.say(1, "hello");
    bot.wait_sent(1, SOON).unwrap();
    let doctor = home.pihook(&["doctor"]);
    assert!(
        doctor.status.success() && text(&doctor).contains("✓ DNS: ::1 is found"),
        "{}",
        text(&doctor)
    );
}
