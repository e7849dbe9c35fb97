//! What a webhook meets on the open internet, with `allow_from` wide open. Meanwhile Telegram, at
//! 127.0.0.1, is served; the attackers have other addresses.
//!
//! Each attack is one that tiny_http alone does not survive. The one that is missing here, a key in
//! one of the older forms, is in tests/certificates.rs.

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
use simulated_telegram::Fault;

const TELEGRAM: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Within this an echo is there, whatever goes on.
const PROMPTLY: Duration = Duration::from_secs(10);
/// Echoes after which the bot's memory stays as it is.
const WARM: usize = 100;
/// Between an echo and the next message.
const PACE: Duration = Duration::from_millis(50);
/// How long the bot is watched while nothing happens.
const QUIET: Duration = Duration::from_secs(2);
/// KiB that an attack may cost.
const MEMORY: usize = 8 * 1024;
/// Threads that may be there beside those of the start: tiny_http's for its connections, which are
/// not the attackers'.
const THREADS: usize = 8;
/// `close_notify`, as it is before there are keys.
const GOODBYE: &[u8] = &[21, 3, 3, 0, 2, 1, 0];
const PROBE: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A bot that knows Telegram by its address, and lets in everyone else.
fn open() -> Scene {
    open_with("", |command| command)
}

fn open_with(more: &str, change: impl Fn(Command) -> Command) -> Scene {
    // The attackers of all tests hold more connections than the usual 1024.
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

    /// Users go on writing during `attack`, and get their echoes. After it the bot is as it was.
    fn withstands(&self, attack: impl FnOnce()) {
        // What every worker needs for its first echo is there before anything is measured.
        (0..WARM).for_each(|number| self.echo(&number.to_string()));
        let (threads, memory) = (self.pihook.threads(), self.pihook.memory());
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
        // What other chats got meanwhile may have been taken for it.
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
        let (busy, threads_after, peak) = (self.busy(), self.pihook.threads(), self.pihook.peak());
        println!(
            "{last} echoes; {threads} threads, then {threads_after}; {memory} KiB, at most {peak}; busy: {busy:?}"
        );
        assert!(busy < QUIET / 20, "{busy:?}");
        assert!(
            threads_after <= threads + THREADS,
            "{threads} threads, then {threads_after}"
        );
        assert!(peak <= memory + MEMORY, "{memory} KiB, at most {peak}");
        // Updates have a line each. An attack has none, or the log would fill the Pi's card.
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

    /// The processor time that it takes within `QUIET`.
    fn busy(&self) -> Duration {
        let before = self.pihook.cpu();
        thread::sleep(QUIET);
        self.pihook.cpu() - before
    }

    /// What a peer may have sent before it is gone: in the open, and by TLS.
    fn stages(&self) -> Vec<(bool, Vec<u8>)> {
        let update = r#"{"update_id":1,"message":{"message_id":1,"date":1,"chat":{"id":7,"type":"private"},"text":"hi"}}"#;
        let (hello, request) = (hello(), self.request(update, str::to_owned));
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

    /// Goes as far as `stage`. What the bot makes of it is not looked at.
    fn visit(&self, source: Ipv4Addr, (tls, bytes): &(bool, Vec<u8>)) -> io::Result<TcpStream> {
        let mut tcp = peer::connect(source, self.pihook.address)?;
        // It ends with the reset that a broken line leaves, not with a goodbye.
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
fn announced_bodies_beyond_all_memory_are_refused() {
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
fn bodies_that_never_come_hold_up_nobody() {
    let scene = open();
    scene.withstands(|| {
        let start = Instant::now();
        let head = scene.head(5000);
        let mut guesser = scene.tls(stranger(1));
        // Its body is not even waited for.
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
        // A byte now and then buys no time.
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

/// The bot with no more than so many descriptors.
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
fn where_descriptors_are_few_the_workers_keep_theirs() {
    let scene = open_with("max_connections = 4", |command| limited(&command, 70));
    scene.pihook.wait_log("but the limit is 70");
    scene.withstands(|| {
        let held: Vec<_> = (0..200)
            .map(|number| scene.connect(stranger(1 + number / 10)))
            .collect();
        // They are in four chats, so that all workers are needed while nobody gives way.
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
fn with_too_few_descriptors_it_does_not_start() {
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
fn the_fewest_descriptors_are_enough_for_telegram_and_the_probe() {
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
fn running_out_of_descriptors_is_told_once_and_ends_with_its_cause() {
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
        // As many as it has open; only new ones are refused.
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
fn goodbyes_amid_a_handshake_leave_the_processor_idle() {
    let scene = open();
    scene.withstands(|| {
        let mut held: Vec<_> = (0..12).map(|_| scene.connect(stranger(1))).collect();
        for pair in held.chunks_mut(2) {
            // In the words of TLS, and in those of TCP.
            pair[0].write_all(&[&hello(), GOODBYE].concat()).unwrap();
            pair[1].write_all(&hello()).unwrap();
            pair[1].shutdown(Shutdown::Write).unwrap();
        }
        held.iter().for_each(peer::wait_end);
        // The echoes take their part.
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
                // Some are closed already, for the others' sake.
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
fn an_endless_header_is_refused_and_not_kept() {
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
fn a_listener_that_nobody_calls_for_seconds_still_accepts() {
    let scene = open();
    // Telegram keeps to the connection it has.
    scene.withstands(|| thread::sleep(Duration::from_secs(3)));
}

#[test]
fn peers_that_are_gone_at_any_moment_harm_nobody() {
    let scene = open();
    scene.withstands(|| {
        for _ in 0..20 {
            for stage in scene.stages() {
                drop(scene.visit(stranger(1), &stage).unwrap());
            }
        }
        // Some are gone only when a worker has their update.
        scene.pihook.wait_log("chat 7");
    });
}

#[test]
fn all_of_it_at_once_is_withstood() {
    let scene = open();
    let done = AtomicBool::new(false);
    let attack = |number| {
        let (source, mut held) = (stranger(number), Vec::new());
        for round in 0_usize.. {
            for (place, stage) in scene.stages().iter().enumerate() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                // Some are gone at once, some stay for a while.
                held.extend(
                    scene
                        .visit(source, stage)
                        .ok()
                        .filter(|_| (round + place) % 3 == 0),
                );
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
            (1..=4).for_each(|number| drop(scope.spawn(move || attack(number))));
            let echoes = scene.bot.wait_sent(WARM + 200, SOON);
            done.store(true, Ordering::Relaxed);
            echoes.unwrap();
        });
    });
}

#[test]
fn strangers_cannot_use_up_telegrams_share() {
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
fn one_of_too_many_strangers_makes_room() {
    let scene = open();
    scene.withstands(|| {
        let mut held: Vec<_> = (0..17).map(|_| scene.tls(stranger(1))).collect();
        // 16 for each address,
        Tls::wait_one_end(&mut held);
        held.extend((16..64).map(|number| scene.tls(stranger(1 + number / 16))));
        held.push(scene.tls(stranger(5)));
        // and 64 for all.
        Tls::wait_one_end(&mut held);
        for mut tls in held {
            assert_eq!(tls.ask(PROBE), 404);
        }
    });
}

#[test]
fn who_knows_path_and_secret_is_no_stranger() {
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
fn among_telegrams_connections_those_that_do_its_work_stay() {
    let scene = open();
    let good = scene.good();
    // Its own connections would be counted.
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

/// Of 40 first attempts of Telegram's, from a round trip of 50 ms away, those that get their
/// answer, while `flood` opens so many connections a second from the same address.
fn first_attempts(scene: &Scene, a_second: u32, first: &[u8]) -> usize {
    const ROUND_TRIP: Duration = Duration::from_millis(50);
    let (address, good, done) = (scene.pihook.address, scene.good(), AtomicBool::new(false));
    let attempt = || {
        let tcp = peer::connect(TELEGRAM, address).unwrap();
        let Ok(mut tls) = Tls::from_afar(tcp, ROUND_TRIP) else {
            return false;
        };
        tls.send(&good).is_ok()
            && tls.tcp().peek(&mut [0]).is_ok_and(|bytes| bytes > 0)
            && tls.status() == 200
    };
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let (start, mut held) = (Instant::now(), VecDeque::new());
            let mut opened = 0;
            while !done.load(Ordering::Relaxed) {
                thread::sleep(
                    (Duration::from_secs(1) / a_second * opened).saturating_sub(start.elapsed()),
                );
                if let Ok(mut tcp) = peer::connect(TELEGRAM, address) {
                    let _ = tcp.write_all(first);
                    held.push_back(tcp);
                }
                held.drain(..held.len().saturating_sub(1000));
                opened += 1;
            }
            f64::from(opened) / start.elapsed().as_secs_f64()
        });
        thread::sleep(Duration::from_millis(500));
        let attempts: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..10).filter(|_| attempt()).count()))
            .collect();
        let through: usize = attempts
            .into_iter()
            .map(|attempts| attempts.join().unwrap())
            .sum();
        done.store(true, Ordering::Relaxed);
        println!(
            "{through} of 40 got through {:.0} connections a second",
            flood.join().unwrap()
        );
        through
    })
}

#[test]
fn a_flood_from_telegrams_own_address_leaves_it_most_of_its_attempts() {
    // A router that rewrites sources, which allow_from names; and a tunnel that ends on this
    // machine.
    for network in ["127.0.0.1/32", "149.154.160.0/20"] {
        let telegram = telegram();
        let text = settings(&telegram.api_url(), "").replace("127.0.0.0/8", network);
        let home = Home::with(&text, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
        let bot = telegram.bot(TOKEN);
        let pihook = home.run_for(&telegram);
        let scene = Scene::of((telegram, bot, home, pihook));
        for (a_second, first) in [(1000, Vec::new()), (100, hello())] {
            let through = first_attempts(&scene, a_second, &first);
            assert!(
                through >= 20,
                "{network}: {through} of 40 beside {a_second} connections with {} bytes",
                first.len()
            );
        }
    }
}

/// The largest update that is to be answered, nearly all of it formatting.
fn largest_update(id: usize) -> String {
    const LARGEST: usize = 524_288 + 26;
    let start = format!(
        "{{\"update_id\":{id},\n\"message\":{{\"message_id\":1,\"date\":1,\"chat\":{{\"id\":{},\"type\":\"private\"}},\
         \"text\":\"{}\",\"entities\":[",
        1000 + id,
        "x".repeat(4096)
    );
    let (entity, end) = ("{\"type\":\"bold\",\"offset\":0,\"length\":1},", "{}]}}");
    let entities = entity.repeat((LARGEST - start.len() - end.len()) / entity.len());
    let filler = " ".repeat(LARGEST - start.len() - entities.len() - end.len());
    format!("{start}{entities}{filler}{end}")
}

#[test]
fn the_largest_updates_at_once_stay_below_the_units_memory_however_many_bots_there_are() {
    /// Of the unit's 128 MiB the kernel's buffers take their part.
    const MOST: usize = 96 * 1024;
    for bots in [1, 4] {
        let telegram = telegram();
        let text = settings(&telegram.api_url(), "max_connections = 40");
        let tokens: Vec<_> = (1..=bots)
            .map(|id| format!("{id}:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"))
            .collect();
        let accounts: Vec<_> = tokens.iter().map(|token| telegram.bot(token)).collect();
        let tables: String = tokens
            .iter()
            .map(|token| format!("[[bot]]\ntoken = '{token}'\n"))
            .collect();
        let home = Home::with(&text, &tables);
        let mut command = home.command(&["run"]);
        command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
        let pihook = Pihook::start(command);
        telegram.route(HOST, 8443, pihook.address);
        pihook.wait_logs("the webhook is registered", bots);
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
            let ask = |number: usize| {
                let (token, account) = (&tokens[number % bots], &accounts[number % bots]);
                let secret = account
                    .calls()
                    .iter()
                    .find(|call| call.method == "setWebhook")
                    .unwrap()
                    .text("secret_token");
                let update = largest_update(number + 1);
                let head = format!(
                    "POST /{token}/ HTTP/1.1\r\nX-Telegram-Bot-Api-Secret-Token: {secret}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    update.len()
                );
                let mut tls = Tls::over(
                    peer::connect(TELEGRAM, pihook.address).unwrap(),
                    ALL_VERSIONS,
                )
                .unwrap();
                let (most, last) = update.split_at(update.len() - 1);
                tls.send(head.as_bytes()).unwrap();
                tls.send(most.as_bytes()).unwrap();
                // All wait for the last byte of all.
                thread::sleep(Duration::from_secs(1));
                tls.send(last.as_bytes()).unwrap();
                tls.status()
            };
            let all: Vec<_> = (0..count)
                .map(|number| scope.spawn(move || ask(number)))
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
        assert!(
            answers.iter().all(|status| [200, 503].contains(status)) && taken >= 40,
            "{answers:?}"
        );
        assert!(pihook.peak() < MOST, "{} KiB", pihook.peak());
    }
}
