//! The edge: which requests it accepts, which status the others get, and its timeouts and limits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::peer;
use crate::common::scene::{Scene, scene};
use crate::common::tls::Tls;
use crate::common::{Home, SOON, TOKEN, settings, telegram};
use nix::sys::signal::Signal;
use pihook::certificate::rollover::Rollover;
use pihook::certificate::{self, CertificateFiles};
use pihook::edge::accept::Edge;
use pihook::edge::connection::Shared;
use pihook::edge::reach::Reach;
use pihook::edge::slots::{Limits, Slots};
use pihook::updates::handover::Handover;
use rustls::version::{TLS12, TLS13};
use simulated_telegram::Fault;
use tokio::sync::{oneshot, watch};
use tokio::{runtime, time};

#[test]
fn requests_of_telegram_are_answered_on_one_connection() {
    let scene = scene();
    let mut tls = Tls::connect(scene.pihook.address);
    for _ in 0..3 {
        tls.send(&scene.good()).unwrap();
        let answer = tls.answer();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("Content-Length: 0\r\n"),
            "{answer}"
        );
        assert!(
            !answer.to_lowercase().contains("connection: close"),
            "{answer}"
        );
    }
}

#[test]
fn a_refused_request_gets_its_status_and_is_closed() {
    let scene = scene();
    let path = format!("/{TOKEN}/");
    let secret_line = format!("X-Telegram-Bot-Api-Secret-Token: {}\r\n", scene.secret);
    let long_host = format!("Host: {}", "x".repeat(9000));

    for (status, from, to) in [
        (404, "110201543", "110201544"),
        (404, &path, "/"),
        (405, "POST", "GET"),
        (405, "POST", "PUT"),
        (403, "Content-Type: application/json\r\n", ""),
        (403, "application/json", "text/plain"),
        (403, "Content-Length: 15\r\n", ""),
        (403, &scene.secret, "guessed"),
        (403, &secret_line, ""),
        (413, "Length: 15", "Length: 524315"),
        (413, "Length: 15", "Length: 1000000000000"),
        (413, "Length: 15", "Length: 99999999999999999999999"),
        (400, "Length: 15", "Length: -15"),
        (400, "Content-Length: 15", "Transfer-Encoding: chunked"),
        (400, "Length: 15", "Length: 15\r\nContent-Length: 15"),
        (400, "Length: 15\r\n", "Length: 15\n"),
        (400, "keep-alive", "upgrade\r\nUpgrade: websocket"),
        (417, "Connection: keep-alive", "Expect: 100-continue"),
        (431, "Host: ", &long_host),
    ] {
        let request = scene.request("{\"update_id\":1}", |head| head.replace(from, to));
        assert_refused(&scene, &request, status);
    }

    let scan = b"GET /wp-login.php HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_refused(&scene, scan, 404);
    let two_at_once = [scene.good(), scene.good()].concat();
    assert_refused(&scene, &two_at_once, 400);
    assert_refused(&scene, b"\x00\x01\x02\x03\r\n\r\n", 400);
}

fn assert_refused(scene: &Scene, request: &[u8], status: u16) {
    let mut tls = Tls::connect(scene.pihook.address);
    assert_eq!(
        tls.ask(request),
        status,
        "{:?}",
        String::from_utf8_lossy(&request[..request.len().min(300)])
    );
    assert!(tls.is_closed(), "after {status}");
}

/// Bytes of the largest update: the event, and the envelope around it.
const LARGEST: usize = 524_288 + 26;

/// An update of so many bytes, to which the bot replies nothing.
fn update(bytes: usize) -> String {
    let filler = "x".repeat(bytes - "{\"update_id\":1,\"f\":\"\"}".len());
    format!("{{\"update_id\":1,\"f\":\"{filler}\"}}")
}

#[test]
fn the_largest_update_is_accepted_in_any_pieces() {
    let scene = scene();
    let mut tls = Tls::connect(scene.pihook.address);
    assert_eq!(
        tls.ask(&scene.request(&update(LARGEST), str::to_owned)),
        200
    );
    for byte in scene.good().chunks(1) {
        tls.send(byte).unwrap();
    }
    assert_eq!(tls.status(), 200);
}

#[test]
fn a_large_update_has_time_for_a_slow_line() {
    let scene = scene();
    let mut tls = Tls::connect(scene.pihook.address);
    let request = scene.request(&update(400_000), str::to_owned);
    let start = Instant::now();
    // 300 kbit/s.
    for (number, piece) in request.chunks(3750).enumerate() {
        let due = Duration::from_millis(100) * u32::try_from(number).unwrap();
        thread::sleep(due.saturating_sub(start.elapsed()));
        tls.send(piece).unwrap();
    }
    assert!(start.elapsed() > Duration::from_secs(10));
    assert_eq!(tls.status(), 200);
}

#[test]
fn a_client_that_writes_its_whole_body_can_read_its_413() {
    let scene = scene();
    // The client writes all that it has announced, and reads then: a reset would have come before
    // the answer.
    for (bytes, status) in [(LARGEST + 1, 413), (2_000_000, 413)] {
        let mut tls = Tls::connect(scene.pihook.address);
        tls.send(&scene.request(&update(bytes), str::to_owned))
            .unwrap();
        assert_eq!(tls.status(), status);
        assert!(tls.is_closed());
    }
    // A body that nobody could ever send is not waited for.
    let start = Instant::now();
    let mut tls = Tls::connect(scene.pihook.address);
    assert_eq!(tls.ask(scene.head(u64::MAX).as_bytes()), 413);
    assert!(tls.is_closed() && start.elapsed() < Duration::from_secs(5));
    // Of a body without the secret, only a little is read.
    let mut tls = Tls::connect(scene.pihook.address);
    let guess = scene.request(&update(2_000_000), |head| {
        head.replace(&scene.secret, "guessed")
    });
    let sent = (0..20).all(|_| tls.send(&guess).is_ok());
    assert!(!sent, "nobody reads 40 MB from a stranger");
}

#[test]
fn the_last_answer_before_a_stop_says_connection_close() {
    let scene = scene();
    let (began, begun) = mpsc::channel();
    scene.telegram.on_call(move |call| {
        let is_reply = call.method.eq_ignore_ascii_case("sendMessage") && began.send(()).is_ok();
        is_reply.then_some(Fault::Stall(Duration::from_secs(2)))
    });
    scene.bot.say(42, "hello");
    begun.recv_timeout(SOON).unwrap();
    scene.pihook.signal(Signal::SIGTERM);
    let delivered = scene.bot.wait_delivered(1, SOON).unwrap();
    assert_eq!(
        (delivered[0].status, delivered[0].header("connection")),
        (Some(200), Some("close"))
    );
    // So does the answer to a client that asks for it.
    let scene = crate::common::scene::scene();
    let mut tls = Tls::connect(scene.pihook.address);
    tls.send(&scene.request("{\"update_id\":1}", |head| {
        head.replace("keep-alive", "close")
    }))
    .unwrap();
    let answer = tls.answer();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\nConnection: close\r\n"),
        "{answer}"
    );
    assert!(tls.is_closed());
}

#[test]
fn tls_1_2_and_1_3_work_without_a_server_name() {
    let scene = scene();
    for (version, expected) in [
        (&TLS12, rustls::ProtocolVersion::TLSv1_2),
        (&TLS13, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let mut tls = Tls::with(scene.pihook.address, &[version]).unwrap();
        assert_eq!(tls.version(), expected);
        assert_eq!(tls.ask(&scene.good()), 200);
    }
}

#[test]
fn an_address_outside_allow_from_is_closed_before_tls() {
    let telegram = telegram();
    let more = settings(&telegram.api_url(), "").replace("127.0.0.0/8", "127.0.0.2/32");
    let home = Home::with(&more, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let pihook = home.run();
    // Not from 127.0.0.1: the bot's probe comes from there, so it is accepted.
    let mut stranger = peer::connect([127, 0, 0, 3].into(), pihook.address).unwrap();
    let _ = stranger.write_all(b"\x16\x03\x01");
    match stranger.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn programs_on_this_machine_have_the_limits_of_strangers() {
    let telegram = telegram();
    let text = settings(&telegram.api_url(), "").replace("127.0.0.0/8", "127.0.0.2/32");
    let home = Home::with(&text, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let pihook = home.run();
    let known = peer::connect([127, 0, 0, 2].into(), pihook.address).unwrap();
    let mut known = Tls::over(known, &[&TLS13]).unwrap();
    let mut here: Vec<_> = (0..17).map(|_| Tls::connect(pihook.address)).collect();
    Tls::wait_one_end(&mut here);
    assert!(
        here.iter_mut()
            .all(|tls| tls.ask(b"GET / HTTP/1.1\r\n\r\n") == 404)
    );
    assert_eq!(known.ask(b"GET / HTTP/1.1\r\n\r\n"), 404);
}

#[test]
fn allow_from_knows_the_ipv4_peers_of_a_dual_stack_listener() {
    let telegram = telegram();
    let text = settings(&telegram.api_url(), "").replace("127.0.0.1:0", "[::]:0");
    let home = Home::with(&text, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let pihook = home.run();
    let port = pihook.address.port();
    assert_eq!(
        Tls::connect(SocketAddr::from(([127, 0, 0, 1], port))).ask(b"GET / HTTP/1.1\r\n\r\n"),
        404
    );
}

#[test]
fn a_silent_handshake_and_half_a_head_have_a_timeout() {
    let scene = scene();
    let start = Instant::now();
    let mut silent = TcpStream::connect(scene.pihook.address).unwrap();
    silent.set_read_timeout(Some(SOON)).unwrap();
    let mut half = Tls::connect(scene.pihook.address);
    half.send(&scene.good()[..40]).unwrap();
    assert_eq!(half.status(), 408);
    assert!(half.is_closed());
    assert!(!matches!(silent.read(&mut [0]), Ok(1)));
    // Not at once, though: a slow line is no attack.
    assert!(start.elapsed() > Duration::from_secs(4));
}

#[test]
fn an_idle_connection_ends_after_75_seconds() {
    let home = Home::new("http://127.0.0.1:1");
    assert!(home.pihook(&["cert"]).status.success());
    let files = CertificateFiles::within(&home.folder.join("certs"));
    let tls = certificate::load(&files).unwrap().tls().unwrap();
    let limits = Limits {
        known: 1,
        strangers: 1,
        address: 1,
        all: 1,
    };
    let edge = Edge {
        allow_from: Vec::new(),
        known: Vec::new(),
        shared: Arc::new(Shared {
            routes: Vec::new(),
            handover: Arc::new(Handover::new(home.folder.join("none"), 1)),
            reach: Arc::new(Reach::default()),
            slots: Mutex::new(Slots::new(limits)),
            rollover: Some(Arc::new(Rollover::new(Arc::new(tls)))),
            signals: Vec::new(),
        }),
    };
    let idle = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (_stop, stopped) = watch::channel(false);
            tokio::spawn(edge.serve(listener, stopped));
            let (connected, connection) = oneshot::channel();
            let (closed, end) = oneshot::channel();
            thread::spawn(move || {
                let mut tls = Tls::with(address, &[&TLS12]).unwrap();
                connected.send(()).unwrap();
                closed.send(tls.is_closed()).unwrap();
            });
            connection.await.unwrap();
            // A paused clock jumps to the next timer as soon as nothing else can happen.
            time::pause();
            let start = time::Instant::now();
            assert!(end.await.unwrap());
            start.elapsed()
        });
    assert!((74..=75).contains(&idle.as_secs()), "{idle:?}");
}

#[test]
fn a_hundred_connections_at_once_are_answered_after_each_start() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let starts = if std::env::var_os("PIHOOK_RUNNER").is_some() {
        3
    } else {
        50
    };
    for start in 0..starts {
        let pihook = home.run_for(&telegram);
        let secret = bot.wait_call("setWebhook", 1, SOON).unwrap()[0].text("secret_token");
        let request = format!(
            "POST /{TOKEN}/ HTTP/1.1\r\nX-Telegram-Bot-Api-Secret-Token: {secret}\r\n\
             Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{{\"update_id\":1}}"
        );
        let barrier = Barrier::new(100);
        let client = || {
            let mut tls = Tls::connect(pihook.address);
            barrier.wait();
            (tls.ask(request.as_bytes()), tls.ask(request.as_bytes()))
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..100).map(|_| scope.spawn(client)).collect();
            for client in clients {
                assert_eq!(client.join().unwrap(), (200, 200), "start {start}");
            }
        });
        assert!(pihook.stop().0.success());
    }
}
