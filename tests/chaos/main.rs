//! Everything goes wrong at once: `cargo test --test chaos -- --updates 4000 --seed 7 --delivery
//! polling`.
//!
//! People write in hundreds of chats. The Bot API fails in all its ways, Telegram's connections
//! break, and the bot is killed again and again, or told to stop, and started again. When all is
//! quiet, every message must have its answer, in the order of its chat, and just one: a second one
//! only where nobody could know of the first.
//!
//! There are three stories: the updates arrive by webhook, by polling, or by whatever the home
//! allows at the moment. Without `--delivery` all three are played.
//!
//! The seed decides what goes wrong and when; what the bot is doing at that moment depends on the
//! machine. Without `--seed` the clock gives it.

#[path = "../common/mod.rs"]
mod common;
mod verdict;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::{SocketAddr, TcpListener};
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{HOST, Home, Memory, Pihook, SOON, TOKEN, settings};
use nix::sys::signal::Signal;
use simulated_telegram::{Bot, Call, Cut, Delivery, Fault, Options, Telegram};
use verdict::Verdict;

const UPDATES: usize = 1500;
const CHATS: u64 = 300;
/// Telegram's waits are so many times shorter.
const SPEED: f64 = 20.0;
/// Between two messages: the bot keeps up with this on a small machine, in spite of all failures.
const PACE: Duration = Duration::from_millis(30);
/// Milliseconds that the bot lives.
const LIFE: (u64, u64) = (1500, 5000);
/// The same where the bot has to change over, which takes it 10 s and more.
const LONG_LIFE: (u64, u64) = (8000, 20000);
/// Milliseconds for which a home is open to Telegram.
const OPEN: (u64, u64) = (5000, 12000);
/// The same for a home that is shut. While a request is in flight, the bot does not take Telegram's
/// errors for a shut home, and a request whose call hangs takes 20 s.
const SHUT: (u64, u64) = (25000, 30000);
/// Some of the last so many messages come again although they were answered.
const RECENT: u64 = 100;
/// Where the bot listens. No outgoing connection has this address, so the port stays free while the
/// bot is down.
const LISTEN: &str = "127.0.0.77";

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read() else {
        return ExitCode::SUCCESS;
    };
    let Arguments {
        updates,
        seed,
        delivery,
    } = arguments;
    let ways = match delivery {
        Some(way) => vec![way],
        None => vec![Way::Webhook, Way::Polling, Way::Changing],
    };
    // The stories mostly wait: side by side they take no longer than one.
    let stories: Vec<_> = thread::scope(|scope| {
        let play = |way: Way| {
            let line = format!(
                "cargo test --test chaos -- --updates {updates} --seed {seed} --delivery {}",
                way.name()
            );
            println!("{line}");
            let story = scope.spawn(move || run(updates, seed, way));
            (line, story)
        };
        let played: Vec<_> = ways.into_iter().map(play).collect();
        played
            .into_iter()
            .map(|(line, story)| (line, story.join()))
            .collect()
    });

    let mut are_good = true;
    for (line, story) in stories {
        match story {
            Ok(story) => {
                let verdict = Verdict::of(&story);
                verdict.print(&story);
                are_good &= verdict.is_good();
            }
            // The story has panicked, and its message is on the screen.
            Err(_) => are_good = false,
        }
        println!("{line}");
    }
    if are_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How updates arrive.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Webhook,
    Polling,
    Changing,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Webhook => "webhook",
            Way::Polling => "polling",
            Way::Changing => "changing",
        }
    }

    fn read(name: &str) -> Way {
        let ways = [Way::Webhook, Way::Polling, Way::Changing];
        ways.into_iter()
            .find(|way| way.name() == name)
            .expect("webhook, polling or changing")
    }

    fn setting(self) -> &'static str {
        match self {
            Way::Webhook => "delivery = 'webhook'",
            Way::Polling => "delivery = 'polling'",
            // Every 3 s the bot checks whether Telegram reaches it. It tries the webhook again after
            // 6 s, at first.
            Way::Changing => "watch_interval = 3",
        }
    }

    /// Starts the bot, and waits until updates can arrive.
    fn run(self, home: &Home) -> Pihook {
        match self {
            Way::Polling => {
                let pihook = Pihook::start_polling(home.command(&["run"]));
                pihook.wait_log("updates arrive by polling");
                pihook
            }
            _ => home.run(),
        }
    }
}

struct Arguments {
    updates: usize,
    seed: u64,
    delivery: Option<Way>,
}

impl Arguments {
    /// What the command line wants; None when it does not want this test. `cargo test` gives the same
    /// options and filters to all tests.
    fn read() -> Option<Arguments> {
        use lexopt::Arg::{Long, Short, Value};
        let mut parser = lexopt::Parser::from_env();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis();
        let mut arguments = Arguments {
            updates: UPDATES,
            seed: u64::try_from(now).unwrap(),
            delivery: None,
        };
        let mut is_listed = false;
        let mut filters = Vec::new();
        let mut skipped = Vec::new();
        while let Some(argument) = parser.next().unwrap() {
            match argument {
                Long("updates") => arguments.updates = number(&mut parser),
                Long("seed") => arguments.seed = number(&mut parser),
                Long("delivery") => arguments.delivery = Some(Way::read(&text(&mut parser))),
                Long("list") => is_listed = true,
                Long("skip") => skipped.push(text(&mut parser)),
                // This test is not an ignored one.
                Long("ignored") => skipped.push(String::new()),
                Value(filter) => filters.push(filter.to_string_lossy().into_owned()),
                Long("test-threads" | "format" | "color" | "logfile" | "shuffle-seed")
                | Short('Z') => {
                    text(&mut parser);
                }
                _ => drop(parser.optional_value()),
            }
        }
        let matches = |filter: &String| "chaos".contains(filter.as_str());
        let is_wanted =
            (filters.is_empty() || filters.iter().any(matches)) && !skipped.iter().any(matches);
        if is_wanted && is_listed {
            println!("chaos: test");
        }
        (is_wanted && !is_listed).then_some(arguments)
    }
}

fn text(parser: &mut lexopt::Parser) -> String {
    parser.value().unwrap().to_string_lossy().into_owned()
}

fn number<T: std::str::FromStr<Err: Debug>>(parser: &mut lexopt::Parser) -> T {
    text(parser).parse().unwrap()
}

/// The random numbers of `SplitMix64`: the same seed gives the same numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Random numbers of their own, for what runs beside the others.
    fn split(&mut self) -> Random {
        Random(self.next())
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes(&mut self, limit: u64) -> usize {
        usize::try_from(self.below(limit)).unwrap()
    }

    fn millis(&mut self, (low, high): (u64, u64)) -> Duration {
        Duration::from_millis(low + self.below(high - low))
    }
}

/// How one sendMessage fails, if it does: about three of ten.
fn api_fault(random: &mut Random) -> Option<Fault> {
    let error = |code, description: &str, retry_after| Fault::Error {
        code,
        description: description.into(),
        retry_after,
        migrate_to_chat_id: None,
    };
    let flood = |seconds| {
        error(
            429,
            &format!("Too Many Requests: retry after {seconds}"),
            Some(seconds),
        )
    };
    Some(match random.below(1000) {
        0..60 => flood(1),
        60..65 => flood(30),
        65..100 => error(500, "Internal Server Error", None),
        100..135 => Fault::Html(502),
        135..170 => Fault::CutBefore,
        170..210 => Fault::CutInside(random.bytes(350)),
        210..230 => Fault::CutAfter,
        230..240 => Fault::Body(200, "<html>Log in to this network first</html>".into()),
        240..250 => Fault::Body(502, "{\"ok\":false,".into()),
        250..280 => Fault::Stall(random.millis((100, 1500))),
        // The simulated Telegram, at its speed, does not wait so long for the webhook's answer.
        280..285 => Fault::Stall(Duration::from_secs(4)),
        285..287 => Fault::Hang,
        _ => return None,
    })
}

/// After how many bytes a request to the Bot API breaks off, if it does. Every request is longer.
fn request_cut(random: &mut Random) -> Option<usize> {
    (random.below(100) < 3).then(|| random.bytes(300))
}

/// How a webhook request is cut, if it is. Most have about 500 bytes.
fn webhook_cut(random: &mut Random) -> Option<Cut> {
    Some(match random.below(100) {
        0..3 => Cut::Before,
        3..6 => Cut::RequestAt(random.bytes(600)),
        6..10 => Cut::BeforeAnswer,
        _ => return None,
    })
}

/// A message of a user. Its text is its place in the list of all messages.
struct Said {
    chat: i64,
    update_id: i64,
}

/// A kill of the bot: at some moment after `from`. No call after `to` comes from the process that was
/// killed.
struct Kill {
    from: Instant,
    to: Instant,
}

/// Plays a story of so many updates.
fn run(updates: usize, seed: u64, way: Way) -> Story {
    let mut seeds = Random(seed);
    let telegram = Telegram::start(Options {
        speed: SPEED,
        ..Options::default()
    })
    .unwrap();
    let bot = telegram.bot(TOKEN);
    let memory = Memory::new(&format!("chaos-{}", way.name()));
    let home = home(&telegram, &memory, way);
    let pihook = way.run(&home);
    if way != Way::Polling {
        pihook.wait_log("the webhook is registered");
    }

    let start = Instant::now();
    let request_cuts = break_everything(&telegram, &mut seeds);
    let mut words = seeds.split();
    let mut fate = seeds.split();
    let mut pauses = seeds.split();
    let mut lives = Lives::new(way);
    let (saying, all_said) = mpsc::channel();
    let (over, is_over) = mpsc::channel::<()>();
    let (said, last) = thread::scope(|scope| {
        let people = scope.spawn(|| {
            let _saying = saying;
            say(&bot, updates, &mut words)
        });
        if way == Way::Changing {
            let telegram = &telegram;
            let pauses = &mut pauses;
            scope.spawn(move || open_and_shut(telegram, &is_over, pauses));
        }
        let last = lives.go_on(&home, pihook, &all_said, &mut fate);
        drop(over);
        (people.join().unwrap(), last)
    });

    // From here on nothing fails any more: what is left must come through.
    telegram.on_request(|| None);
    telegram.on_call(|_| None);
    telegram.on_delivery(|_| None);
    lives.failures.extend(bot.wait_none_pending(SOON).err());
    let took = start.elapsed();
    lives.stop(last);
    if way == Way::Changing && updates >= UPDATES && lives.changes() == 0 {
        lives.failures.push("the bot did not change over".into());
    }
    let request_cuts = *request_cuts.lock().unwrap();
    Story {
        start,
        took,
        said,
        lives,
        deliveries: bot.deliveries(),
        confirmed: bot.confirmed(),
        calls: bot.calls().into_iter().filter(is_send).collect(),
        sent: bot.sent().len(),
        request_cuts,
    }
}

/// The bot's folder. Its port stays the same in all its lives, since Telegram has the way to it.
fn home(telegram: &Telegram, memory: &Memory, way: Way) -> Home {
    let listener = TcpListener::bind((LISTEN, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    telegram.route(HOST, 8443, SocketAddr::new(LISTEN.parse().unwrap(), port));

    let more = format!("{}\n{}", memory.setting(), way.setting());
    let settings =
        settings(&telegram.api_url(), &more).replace("127.0.0.1:0", &format!("{LISTEN}:{port}"));
    Home::with(&settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n"))
}

/// From now on requests to the Bot API break off, calls fail, and deliveries are cut. Returns the
/// count of the requests that broke off.
fn break_everything(telegram: &Telegram, seeds: &mut Random) -> Arc<Mutex<usize>> {
    let request_cuts = Arc::new(Mutex::new(0));
    let count = Arc::clone(&request_cuts);
    let mut rolls = seeds.split();
    telegram.on_request(move || {
        let cut = request_cut(&mut rolls);
        *count.lock().unwrap() += usize::from(cut.is_some());
        cut
    });

    let mut rolls = seeds.split();
    telegram.on_call(move |call| {
        if is_send(call) {
            api_fault(&mut rolls)
        } else {
            None
        }
    });

    let mut rolls = seeds.split();
    telegram.on_delivery(move |_| webhook_cut(&mut rolls));
    request_cuts
}

fn is_send(call: &Call) -> bool {
    call.method.eq_ignore_ascii_case("sendMessage")
}

/// Shuts the home and opens it again, until all is over.
fn open_and_shut(telegram: &Telegram, is_over: &mpsc::Receiver<()>, random: &mut Random) {
    for is_shut in [true, false].into_iter().cycle() {
        let pause = random.millis(if is_shut { OPEN } else { SHUT });
        if is_over.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        if is_shut {
            telegram.shut(HOST, 8443);
        } else {
            telegram.open(HOST, 8443);
        }
    }
    telegram.open(HOST, 8443);
}

/// Writes messages at a steady pace, whatever becomes of them.
fn say(bot: &Bot, updates: usize, random: &mut Random) -> Vec<Said> {
    let mut said: Vec<Said> = Vec::new();
    let start = Instant::now();
    for number in 0..updates {
        let due = start + PACE * u32::try_from(number).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let chat = random.below(CHATS).cast_signed() + 1;
        said.push(Said {
            chat,
            update_id: bot.say(chat, &number.to_string()).update_id,
        });
        if random.below(50) == 0 {
            // As after a restart of Telegram, which has lost the answer.
            let back = random.bytes(RECENT.min(said.len() as u64));
            bot.redeliver(said[number - back].update_id);
        }
    }
    said
}

/// The lives of the bot, one after another.
struct Lives {
    way: Way,
    kills: Vec<Kill>,
    stops: usize,
    log: Vec<String>,
    failures: Vec<String>,
}

impl Lives {
    fn new(way: Way) -> Lives {
        Lives {
            way,
            kills: Vec::new(),
            stops: 0,
            log: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// How often the bot changed between webhook and polling.
    fn changes(&self) -> usize {
        let ways = self.log.iter().filter_map(|line| match line {
            line if line.contains("Updates arrive by polling:") => Some(Way::Polling),
            line if line.contains("updates arrive by webhook") => Some(Way::Webhook),
            _ => None,
        });
        let mut ways: Vec<Way> = ways.collect();
        ways.dedup();
        ways.len().saturating_sub(1)
    }

    /// Kills or stops the bot and starts it again, until everything is said. Returns the last one,
    /// which runs.
    fn go_on(
        &mut self,
        home: &Home,
        mut pihook: Pihook,
        all_said: &mpsc::Receiver<()>,
        random: &mut Random,
    ) -> Pihook {
        let life = if self.way == Way::Changing {
            LONG_LIFE
        } else {
            LIFE
        };
        while all_said.recv_timeout(random.millis(life)) == Err(RecvTimeoutError::Timeout) {
            if random.below(8) == 0 {
                self.stop(pihook);
                pihook = self.way.run(home);
            } else {
                pihook = self.kill(home, pihook, random);
            }
        }
        pihook
    }

    fn kill(&mut self, home: &Home, pihook: Pihook, random: &mut Random) -> Pihook {
        let from = Instant::now();
        pihook.signal(Signal::SIGKILL);
        self.log.extend(pihook.wait().1);
        if random.below(4) == 0 {
            // A second kill, while the bot starts.
            let mut child = home
                .command(&["run"])
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            thread::sleep(random.millis((0, 60)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let next = self.way.run(home);
        // On a busy machine, Telegram reads the last words of the killed process a little later.
        let to = Instant::now() + Duration::from_millis(500);
        self.kills.push(Kill { from, to });
        next
    }

    /// Stops the bot in order: then it has no reason to answer an update again.
    fn stop(&mut self, pihook: Pihook) {
        let (status, lines) = pihook.stop();
        self.stops += 1;
        self.log.extend(lines);
        if !status.success() {
            self.failures
                .push(format!("told to stop, the bot ended with {status}"));
        }
    }
}

/// What happened.
struct Story {
    start: Instant,
    took: Duration,
    said: Vec<Said>,
    lives: Lives,
    deliveries: Vec<Delivery>,
    /// When updates were confirmed by getUpdates.
    confirmed: BTreeMap<i64, Instant>,
    /// The calls of sendMessage.
    calls: Vec<Call>,
    /// How many messages were sent.
    sent: usize,
    request_cuts: usize,
}
