//! Attacks from the internet on a webhook whose `allow_from` names every address. Meanwhile
//! Telegram, at 127.0.0.1, is served; the attackers have other addresses.
//!
//! tiny_http alone survives none of these attacks. One more that it does not survive, a key in an
//! older form, is in tests/certificates.rs.

mod common;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use common::scene::Scene;
use common::tls::{Tls, hello};
use common::{HOST, Home, Pihook, SOON, TOKEN, eventually, peer, settings, telegram};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ALL_VERSIONS;
use rustls::version::TLS12;
use simulated_telegram::{Bot, Fault, Telegram};

const TELEGRAM: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// An echo comes within this time, whatever else goes on.
const PROMPTLY: Duration = Duration::from_secs(10);
/// After so many echoes, the bot's memory no longer grows.
const WARM: usize = 100;
/// Between an echo and the next message.
const PACE: Duration = Duration::from_millis(50);
/// How long the bot is watched while nothing happens.
const QUIET: Duration = Duration::from_secs(2);
/// KiB that an attack may cost.
const MEMORY: usize = 8 * 1024;
/// Threads that may be added to those of the start. tiny_http has some for its connections, which
/// the attackers do not reach.
const THREADS: usize = 8;
/// The alert `close_notify`, not encrypted.
const GOODBYE: &[u8] = &[21, 3, 3, 0, 2, 1, 0];
const PROBE: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A bot that knows Telegram by its address, and accepts everyone else as a stranger.
fn open() -> Scene {
    open_with("", |command| command)
}

fn open_with(more: &str, change: impl Fn(Command) -> Command) -> Scene {
    // The attackers of all tests together hold more connections than the usual limit of 1024.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let text =
        settings(&telegram.api_url(), more).replace("'127.0.0.0/8'", "'127.0.0.1/32', '0.0.0.0/0'");
    let home = Home::with(&text, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let pihook = Pihook::start(change(home.command(&["run"])));
    telegram.route(HOST, 8443, pihook.address);
    Scene::of((telegram, bot, home, pihook))
}

fn stranger(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, number.try_into().unwrap())
}

impl Scene {
    fn connect(&self, source: Ipv4Addr) -> TcpStream {
        peer::connect(source, self.pihook.address).unwrap()
    }

    fn tls(&self, source: Ipv4Addr) -> Tls {
        Tls::over(self.connect(source), ALL_VERSIONS).unwrap()
    }

    /// A user writes, and waits for the echo.
    fn echo(&self, text: &str) {
        let sent = self.bot.sent().len();
        self.bot.say(42, text);
        self.bot.wait_sent(sent + 1, PROMPTLY).unwrap();
    }

    /// Users write during `attack`, and get their echoes. Afterwards the bot has as many threads and
    /// as much memory as before, and no work.
    fn withstands(&self, attack: impl FnOnce()) {
        // Each worker makes its first echo before anything is measured.
        for number in 0..WARM {
            self.echo(&number.to_string());
        }
        let threads = self.pihook.threads();
        let memory = self.pihook.memory();

        let last = thread::scope(|scope| {
            let (end, over) = mpsc::channel::<()>();
            let goes_on = move |number: &usize| {
                self.echo(&number.to_string());
                over.recv_timeout(PACE) != Err(RecvTimeoutError::Timeout)
            };
            let users = scope.spawn(move || (WARM..).find(goes_on).unwrap());
            attack();
            drop(end);
            users.join().unwrap()
        });
        // `echo` counts replies, and one to another chat may have been the last.
        eventually("the last echo", || {
            self.bot
                .sent()
                .iter()
                .any(|sent| sent.text == last.to_string())
        });
        let sent = self.bot.sent();
        let lost =
            (0..=last).find(|number| !sent.iter().any(|sent| sent.text == number.to_string()));
        assert_eq!(lost, None, "of {last}");
        assert_eq!(self.tls(TELEGRAM).ask(&self.good()), 200);

        let busy = self.busy();
        let threads_after = self.pihook.threads();
        let peak = self.pihook.peak();
        println!(
            "{last} echoes; {threads} threads, then {threads_after}; {memory} KiB, at most {peak}; busy: {busy:?}"
        );
        assert!(busy < QUIET / 20, "{busy:?}");
        assert!(
            threads_after <= threads + THREADS,
            "{threads} threads, then {threads_after}"
        );
        assert!(peak <= memory + MEMORY, "{memory} KiB, at most {peak}");
        // Each update has a line. Attacks have few, or the log would fill the Pi's card.
        let log: Vec<_> = self
            .pihook
            .log()
            .into_iter()
            .filter(|line| !line.contains(" update "))
            .collect();
        assert!(
            log.len() < 10 && !log.iter().any(|line| line.contains("panicked")),
            "{log:#?}"
        );
    }

    /// The processor time that the bot uses within `QUIET`.
    fn busy(&self) -> Duration {
        let before = self.pihook.cpu();
        thread::sleep(QUIET);
        self.pihook.cpu() - before
    }

    /// What a peer may have sent before it is gone, and whether it came over TLS.
    fn stages(&self) -> Vec<(bool, Vec<u8>)> {
        let update = r#"{"update_id":1,"message":{"message_id":1,"date":1,"chat":{"id":7,"type":"private"},"text":"hi"}}"#;
        let hello = hello();
        let request = self.request(update, str::to_owned);
        let head = request.len() - update.len();
        vec![
            (false, Vec::new()),
            (false, hello[..hello.len() / 2].to_vec()),
            (false, [&hello, GOODBYE].concat()),
            (false, hello),
            (true, Vec::new()),
            (true, self.head(u64::MAX).into_bytes()),
            (true, request[..head / 2].to_vec()),
            (true, request[..head].to_vec()),
            (true, request[..head + update.len() / 2].to_vec()),
            (true, request),
        ]
    }

    /// Goes as far as `stage`, and does not look at the answer.
    fn visit(&self, source: Ipv4Addr, (tls, bytes): &(bool, Vec<u8>)) -> io::Result<TcpStream> {
        let mut tcp = peer::connect(source, self.pihook.address)?;
        // The connection ends with a reset, as when the line breaks, and not with a goodbye.
        peer::reset_when_dropped(&tcp);
        if !tls {
            return tcp.write_all(bytes).map(|()| tcp);
        }
        let mut tls = Tls::over(tcp, ALL_VERSIONS)?;
        tls.send(bytes)?;
        Ok(tls.into_tcp())
    }
}

#[test]
fn a_content_length_beyond_all_memory_gets_413() {
    let scene = open();
    scene.withstands(|| {
        for length in [10_u64.pow(12), 10_u64.pow(15), u64::MAX / 2, u64::MAX] {
            let request = scene.head(length);
            let guess = request.replace(&scene.secret, "guessed");
            for (status, request) in [(403, guess), (413, request)] {
                let mut tls = scene.tls(stranger(1));
                assert_eq!(tls.ask(request.as_bytes()), status, "{length}");
                assert!(tls.is_closed());
            }
        }
    });
}

#[test]
fn a_body_that_never_comes_has_a_timeout() {
    let scene = open();
    scene.withstands(|| {
        let start = Instant::now();
        let head = scene.head(5000);
        let mut guesser = scene.tls(stranger(1));
        // The bot does not wait for a body without the secret.
        assert_eq!(
            guesser.ask(head.replace(&scene.secret, "guessed").as_bytes()),
            403
        );
        assert!(start.elapsed() < Duration::from_secs(5));

        let mut silent: Vec<_> = (0..8).map(|_| scene.tls(stranger(2))).collect();
        silent
            .iter_mut()
            .for_each(|tls| tls.send(head.as_bytes()).unwrap());
        let mut slow = Tls::over(scene.connect(stranger(3)), &[&TLS12]).unwrap();
        slow.send(head.as_bytes()).unwrap();
        // A byte now and then does not lengthen the timeout.
        slow.tcp()
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        while slow.tcp().peek(&mut [0]).is_err() && start.elapsed() < SOON {
            slow.send(b" ").unwrap();
        }
        for mut tls in silent.into_iter().chain([slow]) {
            assert_eq!(tls.status(), 408);
        }
        let took = start.elapsed().as_secs();
        assert!((9..15).contains(&took), "{took} s");
    });
}

/// The command of the bot, with a limit of so many descriptors.
fn limited(command: &Command, descriptors: usize) -> Command {
    let mut limited = Command::new("/bin/sh");
    let script = format!("ulimit -n {descriptors}; exec \"$@\"");
    limited
        .args(["-c", &script, "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    limited
        .current_dir(command.get_current_dir().unwrap())
        .env_clear();
    limited
}

#[test]
fn workers_keep_their_descriptors_when_few_are_left() {
    let scene = open_with("max_connections = 4", |command| limited(&command, 70));
    scene.pihook.wait_log("but the limit is 70");
    scene.withstands(|| {
        let held: Vec<_> = (0..200)
            .map(|number| scene.connect(stranger(1 + number / 10)))
            .collect();
        // In four chats, so that all workers are needed at once.
        let sent = scene.bot.sent().len();
        for chat in 1..=4 {
            scene.bot.say(chat, "in need");
        }
        scene.bot.wait_sent(sent + 4, PROMPTLY).unwrap();
        drop(held);
    });
    assert_eq!(
        scene
            .pihook
            .log()
            .iter()
            .filter(|line| line.contains("could not be accepted"))
            .count(),
        0
    );
}

#[test]
fn the_bot_does_not_start_with_too_few_descriptors() {
    let bot = format!("[[bot]]\ntoken = '{TOKEN}'\n");
    let home = Home::with(&settings("http://127.0.0.1:1", "max_connections = 4"), &bot);
    let output = limited(&home.command(&["run"]), 53).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = common::text(&output);
    assert!(
        said.contains("The bot needs 54 open files, but the limit is 53. Raise LimitNOFILE in the systemd unit, or lower max_connections."),
        "{said}"
    );
}

#[test]
fn the_least_descriptors_are_enough_for_telegram_and_the_probe() {
    let scene = open_with("max_connections = 4", |command| limited(&command, 54));
    let good = scene.good();
    drop(scene.telegram);
    let connect = |source| {
        Tls::over(
            peer::connect(source, scene.pihook.address).unwrap(),
            ALL_VERSIONS,
        )
        .unwrap()
    };
    let mut telegram = [TELEGRAM; 4].map(connect);
    assert!(telegram.iter_mut().all(|tls| tls.ask(&good) == 200));
    assert_eq!(connect(stranger(1)).ask(PROBE), 404);
}

#[test]
fn running_out_of_descriptors_is_logged_once() {
    let scene = open();
    scene.withstands(|| {
        let limit = |descriptors: &str| {
            let pid = scene.pihook.child.id().to_string();
            let nofile = format!("--nofile={descriptors}");
            assert!(
                common::tool("prlimit", &["--pid", &pid, &nofile], "/".as_ref())
                    .status
                    .success()
            );
        };
        // The limit is below the number of open descriptors: only new ones are refused.
        limit("8:4096");
        let mut held: Vec<_> = (0..20).map(|_| scene.connect(stranger(1))).collect();
        scene.pihook.wait_log("could not be accepted");
        scene.echo("meanwhile");
        limit("1024:4096");
        held.iter().for_each(peer::wait_end);
        held.clear();
    });
    assert_eq!(
        scene
            .pihook
            .log()
            .iter()
            .filter(|line| line.contains("could not be accepted"))
            .count(),
        1
    );
}

#[test]
fn a_handshake_that_is_broken_off_uses_no_cpu() {
    let scene = open();
    scene.withstands(|| {
        let mut held: Vec<_> = (0..12).map(|_| scene.connect(stranger(1))).collect();
        for pair in held.chunks_mut(2) {
            // One peer says goodbye by TLS, the other by TCP.
            pair[0].write_all(&[&hello(), GOODBYE].concat()).unwrap();
            pair[1].write_all(&hello()).unwrap();
            pair[1].shutdown(Shutdown::Write).unwrap();
        }
        held.iter().for_each(peer::wait_end);
        // Some of the time is for the echoes.
        assert!(scene.busy() < QUIET / 4);
    });
}

#[test]
fn idle_and_half_open_connections_cost_no_threads_and_end_in_seconds() {
    let scene = open();
    scene.withstands(|| {
        let threads = scene.pihook.threads();
        for (count, first) in [(500, Vec::new()), (200, hello())] {
            let start = Instant::now();
            let mut held: Vec<_> = (0..count)
                .map(|number| scene.connect(stranger(1 + number / 10)))
                .collect();
            for tcp in &mut held {
                // Some of them are evicted already, and cannot be written to.
                let _ = tcp.write_all(&first);
            }
            assert!(scene.pihook.threads() <= threads + THREADS);
            held.iter().for_each(peer::wait_end);
            let took = start.elapsed().as_secs();
            assert!((4..10).contains(&took), "{took} s");
        }
    });
}

#[test]
fn an_endless_header_gets_431_and_is_not_kept() {
    let scene = open();
    scene.withstands(|| {
        for _ in 0..4 {
            let mut tls = scene.tls(stranger(1));
            tls.send(b"POST / HTTP/1.1\r\nX: ").unwrap();
            let (sent, answer) = tls.flood(&[b'x'; 64 * 1024], 200 * 1024 * 1024);
            // The kernels on both sides take some MiB that nobody reads.
            assert!(sent < 20 * 1024 * 1024, "{sent} bytes");
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        }
    });
}

#[test]
fn an_idle_listener_still_accepts_after_seconds() {
    let scene = open();
    // Telegram uses the connection that it has.
    scene.withstands(|| thread::sleep(Duration::from_secs(3)));
}

#[test]
fn a_reset_at_any_stage_of_a_request_harms_nobody() {
    let scene = open();
    scene.withstands(|| {
        for _ in 0..20 {
            for stage in scene.stages() {
                drop(scene.visit(stranger(1), &stage).unwrap());
            }
        }
        // Some peers leave only after a worker has got their update.
        scene.pihook.wait_log("chat 7");
    });
}

#[test]
fn all_attacks_at_once_are_withstood() {
    let scene = open();
    let done = AtomicBool::new(false);
    let attack = |number| {
        let source = stranger(number);
        let mut held = Vec::new();
        for round in 0_usize.. {
            for (place, stage) in scene.stages().iter().enumerate() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                // Some connections end at once, others stay for a while.
                let visited = scene.visit(source, stage);
                if let Ok(tcp) = visited
                    && (round + place) % 3 == 0
                {
                    held.push(tcp);
                }
            }
            if let Ok(tls) = Tls::over(scene.connect(source), ALL_VERSIONS) {
                tls.flood(&[b'x'; 64 * 1024], 1024 * 1024);
            }
            if round % 8 == 0 {
                held.clear();
            }
        }
    };
    scene.withstands(|| {
        thread::scope(|scope| {
            for number in 1..=4 {
                scope.spawn(move || attack(number));
            }
            let echoes = scene.bot.wait_sent(WARM + 200, SOON);
            done.store(true, Ordering::Relaxed);
            echoes.unwrap();
        });
    });
}

#[test]
fn strangers_cannot_use_up_the_slots_of_telegram() {
    let scene = open();
    scene.withstands(|| {
        let mut telegram: Vec<_> = (0..40).map(|_| scene.tls(TELEGRAM)).collect();
        let _strangers: Vec<_> = (0..300).map(|_| scene.tls(stranger(1))).collect();
        telegram.extend((0..10).map(|_| scene.tls(TELEGRAM)));
        for tls in &mut telegram {
            assert_eq!(tls.ask(&scene.good()), 200);
        }
        assert_eq!(scene.tls(stranger(2)).ask(PROBE), 404);
    });
}

#[test]
fn one_of_too_many_strangers_is_evicted() {
    let scene = open();
    scene.withstands(|| {
        let mut held: Vec<_> = (0..17).map(|_| scene.tls(stranger(1))).collect();
        // At most 16 from one address,
        Tls::wait_one_end(&mut held);
        held.extend((16..64).map(|number| scene.tls(stranger(1 + number / 16))));
        held.push(scene.tls(stranger(5)));
        // and at most 64 from all.
        Tls::wait_one_end(&mut held);
        for mut tls in held {
            assert_eq!(tls.ask(PROBE), 404);
        }
    });
}

#[test]
fn a_stranger_with_path_and_secret_is_not_evicted() {
    let scene = open();
    scene.withstands(|| {
        let mut known = scene.tls(stranger(1));
        assert_eq!(known.ask(&scene.good()), 200);
        let _others: Vec<_> = (0..100)
            .map(|number| scene.tls(stranger(1 + number / 20)))
            .collect();
        assert_eq!(known.ask(&scene.good()), 200);
    });
}

#[test]
fn authenticated_connections_of_telegram_are_not_evicted() {
    let scene = open();
    let good = scene.good();
    // Without the simulated Telegram, whose connections would be counted.
    drop(scene.telegram);
    let connect = || {
        Tls::over(
            peer::connect(TELEGRAM, scene.pihook.address).unwrap(),
            ALL_VERSIONS,
        )
    };
    // One bot: 40 connections, and 64 more.
    let mut held: Vec<_> = (0..105).map(|_| connect().unwrap()).collect();
    Tls::wait_one_end(&mut held);
    for tls in &mut held {
        assert_eq!(tls.ask(&good), 200);
    }
    assert!(connect().is_err(), "one too many");
    assert_eq!(held[0].ask(&good), 200);
}

/// Of 40 requests that Telegram sends over new connections, from a round trip of 50 ms away, counts
/// those that get their answer while a flood opens so many connections a second from the same
/// address. Each connection of the flood begins with `first`.
fn answered_beside_flood(scene: &Scene, a_second: u32, first: &[u8]) -> usize {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| flood(scene, a_second, first, &done));
        thread::sleep(Duration::from_millis(500));

        let attempts: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..10).filter(|_| is_answered_from_afar(scene)).count()))
            .collect();
        let mut answered = 0;
        for attempts in attempts {
            answered += attempts.join().unwrap();
        }

        done.store(true, Ordering::Relaxed);
        let rate = flood.join().unwrap();
        println!("{answered} of 40 are answered beside {rate:.0} connections a second");
        answered
    })
}

/// Opens connections until `done`, and keeps the last 1000. Returns how many it opened in a second.
fn flood(scene: &Scene, a_second: u32, first: &[u8], done: &AtomicBool) -> f64 {
    let start = Instant::now();
    let mut held = VecDeque::new();
    let mut opened = 0;
    while !done.load(Ordering::Relaxed) {
        let due = Duration::from_secs(1) / a_second * opened;
        thread::sleep(due.saturating_sub(start.elapsed()));
        if let Ok(mut tcp) = peer::connect(TELEGRAM, scene.pihook.address) {
            let _ = tcp.write_all(first);
            held.push_back(tcp);
        }
        held.drain(..held.len().saturating_sub(1000));
        opened += 1;
    }
    f64::from(opened) / start.elapsed().as_secs_f64()
}

fn is_answered_from_afar(scene: &Scene) -> bool {
    const ROUND_TRIP: Duration = Duration::from_millis(50);
    let tcp = peer::connect(TELEGRAM, scene.pihook.address).unwrap();
    let Ok(mut tls) = Tls::from_afar(tcp, ROUND_TRIP) else {
        return false;
    };
    tls.send(&scene.good()).is_ok()
        && tls.tcp().peek(&mut [0]).is_ok_and(|bytes| bytes > 0)
        && tls.status() == 200
}

#[test]
fn half_of_telegrams_attempts_outlive_a_flood_from_its_own_address() {
    // First, a router that rewrites sources, and that allow_from names; then, a tunnel that ends on
    // this machine.
    for network in ["127.0.0.1/32", "149.154.160.0/20"] {
        let telegram = telegram();
        let text = settings(&telegram.api_url(), "").replace("127.0.0.0/8", network);
        let home = Home::with(&text, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
        let bot = telegram.bot(TOKEN);
        let pihook = home.run_for(&telegram);
        let scene = Scene::of((telegram, bot, home, pihook));
        for (a_second, first) in [(1000, Vec::new()), (100, hello())] {
            let answered = answered_beside_flood(&scene, a_second, &first);
            assert!(
                answered >= 20,
                "{network}: {answered} of 40 beside {a_second} connections with {} bytes",
                first.len()
            );
        }
    }
}

/// The largest update that gets a reply. Most of it is formatting.
fn largest_update(id: usize) -> String {
    const LARGEST: usize = 524_288 + 26;
    let start = format!(
        "{{\"update_id\":{id},\n\"message\":{{\"message_id\":1,\"date\":1,\"chat\":{{\"id\":{},\"type\":\"private\"}},\
         \"text\":\"{}\",\"entities\":[",
        1000 + id,
        "x".repeat(4096)
    );
    let entity = "{\"type\":\"bold\",\"offset\":0,\"length\":1},";
    let end = "{}]}}";
    let entities = entity.repeat((LARGEST - start.len() - end.len()) / entity.len());
    let filler = " ".repeat(LARGEST - start.len() - entities.len() - end.len());
    format!("{start}{entities}{filler}{end}")
}

#[test]
fn the_largest_updates_at_once_stay_below_memory_max() {
    /// KiB. Of the unit's 128 MiB the kernel's buffers take a part.
    const MOST: usize = 96 * 1024;
    for bots in [1, 4] {
        let telegram = telegram();
        let tokens: Vec<_> = (1..=bots)
            .map(|id| format!("{id}:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"))
            .collect();
        let accounts: Vec<_> = tokens.iter().map(|token| telegram.bot(token)).collect();
        let (_home, pihook) = with_bots(&telegram, &tokens);
        telegram.on_call(|call| {
            call.method
                .eq_ignore_ascii_case("sendMessage")
                .then_some(Fault::Stall(Duration::from_secs(2)))
        });
        let before = pihook.memory();

        // As many for each bot as it may have in flight, and as many as there can be beside them at
        // a change-over, but for Telegram's own.
        let count = 40 * bots + 60;
        let answers: Vec<_> = thread::scope(|scope| {
            let tokens = &tokens;
            let accounts = &accounts;
            let pihook = &pihook;
            let all: Vec<_> = (0..count)
                .map(|number| {
                    let bot = number % bots;
                    scope.spawn(move || {
                        send_largest(pihook, &tokens[bot], &accounts[bot], number + 1)
                    })
                })
                .collect();
            all.into_iter()
                .map(|answer| answer.join().unwrap())
                .collect()
        });

        let taken = answers.iter().filter(|status| **status == 200).count();
        println!(
            "{bots} bots: {taken} of {count} were taken at once; {before} KiB before, at most {} KiB, {} KiB after",
            pihook.peak(),
            pihook.memory()
        );
        // There is room for 32 at once. The others wait 10 s for room: how many of them get it depends
        // on the machine.
        assert!(
            answers.iter().all(|status| [200, 503].contains(status)) && taken >= 40,
            "{answers:?}"
        );
        assert!(pihook.peak() < MOST, "{} KiB", pihook.peak());
    }
}

/// Starts pihook with these bots, and waits for their webhooks. Its memory is measured, so freed
/// memory does not stay in caches of threads.
fn with_bots(telegram: &Telegram, tokens: &[String]) -> (Home, Pihook) {
    let text = settings(&telegram.api_url(), "max_connections = 40");
    let tables: String = tokens
        .iter()
        .map(|token| format!("[[bot]]\ntoken = '{token}'\n"))
        .collect();
    let home = Home::with(&text, &tables);
    let mut command = home.command(&["run"]);
    command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    let pihook = Pihook::start(command);
    telegram.route(HOST, 8443, pihook.address);
    pihook.wait_logs("the webhook is registered", tokens.len());
    (home, pihook)
}

/// Sends the largest update to a bot, its last byte a second after the others, so that many updates
/// end at once. Returns the status.
fn send_largest(pihook: &Pihook, token: &str, account: &Bot, id: usize) -> u16 {
    let calls = account.calls();
    let registration = calls.iter().find(|call| call.method == "setWebhook");
    let secret = registration.unwrap().text("secret_token");
    let update = largest_update(id);
    let head = format!(
        "POST /{token}/ HTTP/1.1\r\nX-Telegram-Bot-Api-Secret-Token: {secret}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        update.len()
    );

    let tcp = peer::connect(TELEGRAM, pihook.address).unwrap();
    let mut tls = Tls::over(tcp, ALL_VERSIONS).unwrap();
    let (most, last) = update.split_at(update.len() - 1);
    tls.send(head.as_bytes()).unwrap();
    tls.send(most.as_bytes()).unwrap();
    thread::sleep(Duration::from_secs(1));
    tls.send(last.as_bytes()).unwrap();
    tls.status()
}
