//! A long outage of the Bot API, while messages wait in hundreds of chats: the bot uses little CPU
//! meanwhile, and loses no message.
//!
//! The bot measures an outage in real time, and Telegram's waits take only half of their time here.
//! So the test can see both: that Telegram comes again when `Retry-After` says so, and that
//! `Retry-After` grows.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::{Home, SOON, TOKEN};
use simulated_telegram::{Bot, Delivery, Fault, Options, Telegram};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const SPEED: f64 = 2.0;
const OUTAGE: Duration = Duration::from_secs(20);
const CHATS: i64 = 300;
/// The first `Retry-After`, in seconds.
const FIRST_RETRY: f64 = 5.0;

#[test]
fn an_outage_with_refused_connections_loses_no_message() {
    outage(|_, api| api.close(), |_, api| api.open());
}

#[test]
fn an_outage_behind_a_bad_gateway_loses_no_message() {
    outage(
        |telegram, _| telegram.on_call(|_| Some(Fault::Html(502))),
        |telegram, _| telegram.on_call(|_| None),
    );
}

fn outage(begin: impl FnOnce(&Telegram, &mut Gate), end: impl FnOnce(&Telegram, &mut Gate)) {
    let telegram = Telegram::start(Options {
        speed: SPEED,
        ..Options::default()
    })
    .unwrap();
    let api_url = telegram.api_url();
    let api = api_url.strip_prefix("http://").unwrap();
    let mut gate = Gate::new(api.parse().unwrap());
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&format!("http://{}", gate.address));
    let pihook = home.run_for(&telegram);
    pihook.wait_log("the webhook is registered");

    // Telegram has all its connections open when the outage begins.
    say(&bot, "before", CHATS);
    bot.wait_none_pending(SOON).unwrap();

    begin(&telegram, &mut gate);
    let began = Instant::now();
    let cpu_before = pihook.cpu();
    let delivered = bot.deliveries().len();
    say(&bot, "amid", CHATS);
    thread::sleep(OUTAGE / 2);
    // One more chat begins during the outage.
    say(&bot, "and", CHATS + 1);
    thread::sleep((began + OUTAGE).saturating_duration_since(Instant::now()));

    let used = pihook.cpu() - cpu_before;
    let tries = bot.deliveries().split_off(delivered);
    end(&telegram, &mut gate);
    let ended = Instant::now();
    bot.wait_none_pending(SOON).unwrap();
    let recovery = ended.elapsed();

    println!("CPU {used:?}, all answered in {recovery:?}");
    assert!(used < OUTAGE / 10, "with nothing to do");
    let longest = assert_retry_after_grows(&tries, began);
    assert!(recovery < 10 * Duration::from_secs_f64(longest / SPEED));
    assert_all_answered(&bot);
}

fn say(bot: &Bot, text: &str, chats: i64) {
    for chat in 1..=chats {
        bot.say(chat, text);
    }
}

/// Checks how often Telegram came, and when it was asked to come again. Returns the longest
/// `Retry-After`, in seconds.
fn assert_retry_after_grows(tries: &[Delivery], began: Instant) -> f64 {
    let asked: Vec<(f64, f64)> = tries
        .iter()
        .filter_map(|one| retry_after(one, began))
        .collect();
    let first = asked[0].1;
    let longest = asked[asked.len() - 1].1;
    let each = |id: i64| tries.iter().filter(|one| one.update_id == id).count();
    let attempts = tries.iter().map(|one| each(one.update_id)).max().unwrap();
    println!("{attempts} attempts, Retry-After {first} to {longest} s");

    assert!(
        attempts as f64 <= 2.0 + OUTAGE.as_secs_f64() * SPEED / FIRST_RETRY,
        "for one update"
    );
    for (at, seconds) in &asked {
        // Longer than half of the outage would be felt after it.
        assert!(
            *seconds >= FIRST_RETRY && *seconds <= FIRST_RETRY.max(at / 2.0 + 1.0),
            "{seconds} s after {at} s"
        );
    }
    assert_eq!(first, FIRST_RETRY);
    assert!(longest > FIRST_RETRY, "Retry-After does not grow");
    longest
}

/// Checks that each chat got the echoes of all its messages, in their order.
fn assert_all_answered(bot: &Bot) {
    let sent = bot.sent();
    for chat in 1..=CHATS + 1 {
        let texts: Vec<&str> = sent
            .iter()
            .filter(|sent| sent.chat == chat)
            .map(|sent| sent.text.as_str())
            .collect();
        let expected = ["before", "amid", "and"];
        assert_eq!(
            texts,
            if chat > CHATS {
                &expected[2..]
            } else {
                &expected
            },
            "chat {chat}"
        );
    }
}

/// When a delivery was answered, in seconds since `began`, and the `Retry-After` of the answer.
fn retry_after(delivery: &Delivery, began: Instant) -> Option<(f64, f64)> {
    let at = delivery.ended?.duration_since(began).as_secs_f64();
    Some((at, delivery.header("retry-after")?.parse().unwrap()))
}

/// The way to the Bot API. While it is closed, connections are refused.
struct Gate {
    address: SocketAddr,
    api: SocketAddr,
    opened: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Gate {
    fn new(api: SocketAddr) -> Gate {
        // No connection comes from this address, so the port stays free while the gate is closed.
        let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 78), 0));
        let mut gate = Gate {
            address,
            api,
            opened: None,
        };
        gate.open();
        gate
    }

    fn open(&mut self) {
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let api = self.api;
        let thread = thread::spawn(move || {
            // All open connections end with the runtime.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, api) => {}
                    _ = stopped => {}
                }
            });
        });
        self.opened = Some((stop, thread));
    }

    fn close(&mut self) {
        if let Some((stop, thread)) = self.opened.take() {
            drop(stop);
            thread.join().unwrap();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

async fn serve(listener: TcpListener, api: SocketAddr) {
    loop {
        let (mut bot, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut api = TcpStream::connect(api).await.unwrap();
            for stream in [&bot, &api] {
                stream.set_nodelay(true).unwrap();
            }
            // However it ends, both are closed.
            let _ = tokio::io::copy_bidirectional(&mut bot, &mut api).await;
        });
    }
}
