//! What a run means: for each message, whether it was answered, in its order, and just once.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use simulated_telegram::{Call, Delivery};

use super::{CHATS, Kill, Said, Story};

/// So many updates are told of in full when something is wrong.
const TOLD: usize = 10;

/// What a bot may need, on a busy machine, from the last byte of the Bot API's answer until it has
/// noted it.
const NOTING: Duration = Duration::from_millis(250);
/// What became of one message.
#[derive(Default)]
struct Fate {
    deliveries: Vec<Delivery>,
    /// When an offset of getUpdates confirmed it.
    confirmed: Option<Instant>,
    /// Of sendMessage, with its text.
    calls: Vec<Call>,
}

impl Fate {
    fn answers(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.carried_out.is_some())
    }

    /// When the first answer was sent.
    fn first(&self) -> Option<Instant> {
        self.answers().filter_map(|call| call.carried_out).min()
    }

    /// When the bot first took it for done.
    fn delivered(&self) -> Option<Instant> {
        let delivered = self
            .deliveries
            .iter()
            .filter(|delivery| delivery.succeeded());
        delivered
            .filter_map(|delivery| delivery.ended)
            .chain(self.confirmed)
            .min()
    }

    /// Why it was answered again after each of its answers but the last, if there is a reason.
    fn reasons(&self, kills: &[Kill]) -> Vec<Option<Reason>> {
        let answers: Vec<&Call> = self.answers().collect();
        let reason = |pair: &[&Call]| {
            if self
                .delivered()
                .is_some_and(|delivered| delivered < pair[1].at)
            {
                None
            } else if kills
                .iter()
                .any(|kill| self.is_open(pair[0], kill) && kill.from <= pair[1].at)
            {
                Some(Reason::Killed)
            } else {
                (pair[0].answered.is_some() && !pair[0].is_heard()).then_some(Reason::Unheard)
            }
        };
        answers.windows(2).map(reason).collect()
    }

    /// Whether a bot that was killed then can have known of the call without having noted its
    /// answer.
    fn is_open(&self, call: &Call, kill: &Kill) -> bool {
        let is_unanswered = call
            .answered
            .is_none_or(|answered| kill.from <= answered + NOTING);
        // Telegram still waits for what this call is a part of.
        let is_awaited = self.deliveries.iter().any(|delivery| {
            delivery.started <= call.at && delivery.ended.is_none_or(|ended| ended >= kill.from)
        });
        call.at <= kill.to && (is_unanswered || is_awaited)
    }
}

/// Why an answer came again.
#[derive(Clone, Copy, PartialEq)]
enum Reason {
    /// The bot was killed amid the call.
    Killed,
    /// The call was carried out, and nothing was heard of it.
    Unheard,
}

/// Messages whose first answer came before that of an earlier one of the same chat.
fn disordered(said: &[Said], fates: &[Fate]) -> Vec<usize> {
    let mut latest: BTreeMap<i64, Instant> = BTreeMap::new();
    let mut disordered = Vec::new();
    for (place, said) in said.iter().enumerate() {
        let Some(first) = fates[place].first() else {
            continue;
        };
        let latest = latest.entry(said.chat).or_insert(first);
        if first < *latest {
            disordered.push(place);
        }
        *latest = first.max(*latest);
    }
    disordered
}

/// What it means. The lists are places in the list of what was said.
pub struct Verdict {
    fates: Vec<Fate>,
    failures: Vec<String>,
    undelivered: Vec<usize>,
    lost: Vec<usize>,
    disordered: Vec<usize>,
    killed: Vec<usize>,
    unheard: Vec<usize>,
    unexcused: Vec<usize>,
}

impl Verdict {
    pub fn of(story: &Story) -> Verdict {
        let (said, mut failures) = (&story.said, story.lives.failures.clone());
        let mut fates: Vec<Fate> = said.iter().map(|_| Fate::default()).collect();
        let places: BTreeMap<i64, usize> = said
            .iter()
            .enumerate()
            .map(|(place, said)| (said.update_id, place))
            .collect();
        for delivery in &story.deliveries {
            fates[places[&delivery.update_id]]
                .deliveries
                .push(delivery.clone());
        }
        for (id, confirmed) in &story.confirmed {
            fates[places[id]].confirmed = Some(*confirmed);
        }
        for call in &story.calls {
            match call
                .text("text")
                .parse()
                .ok()
                .and_then(|place: usize| Some((place, said.get(place)?)))
            {
                Some((place, said)) if call.text("chat_id") == said.chat.to_string() => {
                    fates[place].calls.push(call.clone());
                }
                _ => failures.push(format!("nobody said what this answers: {call:?}")),
            }
        }
        let carried_out = fates.iter().flat_map(Fate::answers).count();
        if story.sent != carried_out {
            failures.push(format!(
                "{} messages were sent by {carried_out} calls",
                story.sent
            ));
        }
        let reasons = |reason| {
            let all = fates.iter().enumerate();
            let all = all.flat_map(|(place, fate)| {
                fate.reasons(&story.lives.kills)
                    .into_iter()
                    .map(move |why| (place, why))
            });
            all.filter(|(_, why)| *why == reason)
                .map(|(place, _)| place)
                .collect()
        };
        let places = |is_missing: fn(&Fate) -> bool| {
            (0..said.len())
                .filter(|place| is_missing(&fates[*place]))
                .collect::<Vec<_>>()
        };
        Verdict {
            undelivered: places(|fate| fate.delivered().is_none()),
            lost: places(|fate| fate.first().is_none()),
            disordered: disordered(said, &fates),
            killed: reasons(Some(Reason::Killed)),
            unheard: reasons(Some(Reason::Unheard)),
            unexcused: reasons(None),
            failures,
            fates,
        }
    }

    /// What must not be.
    fn guilty(&self) -> [(&str, &Vec<usize>); 4] {
        [
            ("undelivered", &self.undelivered),
            ("lost", &self.lost),
            ("out of order", &self.disordered),
            ("again, no reason", &self.unexcused),
        ]
    }

    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.guilty().iter().all(|(_, places)| places.is_empty())
    }

    pub fn print(&self, story: &Story) {
        let deliveries = story.deliveries.len();
        let delivered = self
            .fates
            .iter()
            .filter(|fate| !fate.deliveries.is_empty())
            .count();
        let cuts = story
            .deliveries
            .iter()
            .filter_map(|delivery| delivery.cut)
            .map(|cut| kind(&cut));
        let faults = story
            .calls
            .iter()
            .filter_map(|call| call.fault.as_ref())
            .map(kind);
        println!("updates          {:6}   in {CHATS} chats", story.said.len());
        println!("kills            {:6}", story.lives.kills.len());
        println!("stops            {:6}", story.lives.stops);
        println!("change-overs     {:6}", story.lives.changes());
        println!(
            "deliveries       {deliveries:6}   {} of them again",
            deliveries - delivered
        );
        println!("polled           {:6}", story.confirmed.len());
        println!("webhook cuts     {}", count(cuts));
        println!(
            "API calls        {:6}   and {} cut before they were whole",
            story.calls.len(),
            story.request_cuts
        );
        println!("API faults       {}", count(faults));
        println!("again, killed    {:6}   amid the call", self.killed.len());
        println!(
            "again, unheard   {:6}   carried out, and the answer did not get so far as to say so",
            self.unheard.len()
        );
        for (what, places) in self.guilty() {
            println!("{what:16} {:6}", places.len());
        }
        println!("time             {:6.0} s", story.took.as_secs_f64());
        for failure in &self.failures {
            println!("\n{failure}");
        }
        for (what, places) in self.guilty() {
            for place in places.iter().take(TOLD) {
                self.tell(story, what, *place);
            }
            if places.len() > TOLD {
                let ids: Vec<i64> = places[TOLD..]
                    .iter()
                    .map(|place| story.said[*place].update_id)
                    .collect();
                println!("\n{what}, too: {ids:?}");
            }
        }
    }

    /// All that happened to one message, in order.
    fn tell(&self, story: &Story, what: &str, place: usize) {
        let (said, fate) = (&story.said[place], &self.fates[place]);
        println!(
            "\n{what}: update {}, message {place}, chat {}",
            said.update_id, said.chat
        );
        let mut events: Vec<(Instant, String)> = Vec::new();
        for (number, one) in fate.deliveries.iter().enumerate() {
            let number = number + 1;
            let cut = one
                .cut
                .map_or(String::new(), |cut| format!(", to be cut {cut:?}"));
            events.push((
                one.started,
                format!("delivery {number}, connection {}{cut}", one.connection),
            ));
            let end = one.status.map_or_else(
                || one.error.clone().unwrap_or_default(),
                |status| status.to_string(),
            );
            events.extend(
                one.ended
                    .map(|ended| (ended, format!("delivery {number}: {end}"))),
            );
        }
        events.extend(
            fate.confirmed
                .map(|at| (at, "an offset confirms it".into())),
        );
        for (number, call) in fate.calls.iter().enumerate() {
            let number = number + 1;
            let fault = call
                .fault
                .as_ref()
                .map_or(String::new(), |fault| format!(", {fault:?}"));
            events.push((call.at, format!("call {number}{fault}")));
            events.extend(
                call.carried_out
                    .map(|at| (at, format!("call {number} is carried out"))),
            );
            let answer = call.answer.lines().next().unwrap_or("nothing");
            let is_heard = if call.is_heard() {
                ""
            } else {
                ", not its whole head"
            };
            events.extend(
                call.answered
                    .map(|at| (at, format!("call {number} is answered: {answer}{is_heard}"))),
            );
        }
        let span = events.iter().map(|event| event.0);
        if let (Some(first), Some(last)) = (span.clone().min(), span.max()) {
            let kills = story
                .lives
                .kills
                .iter()
                .filter(|kill| kill.to >= first && kill.from <= last);
            events.extend(kills.flat_map(|kill| {
                [
                    (kill.from, "the bot is killed".into()),
                    (kill.to, "it is back".into()),
                ]
            }));
        }
        events.sort_by_key(|event| event.0);
        for (at, event) in events {
            println!(
                "{:10.3} s  {event}",
                at.saturating_duration_since(story.start).as_secs_f64()
            );
        }
        let name = format!("update {}", said.update_id);
        story
            .lives
            .log
            .iter()
            .filter(|line| line.contains(&name))
            .for_each(|line| println!("    {line}"));
    }
}

/// How many there are in all and of each name.
fn count(names: impl Iterator<Item = String>) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        *kinds.entry(name).or_default() += 1;
    }
    let total: usize = kinds.values().sum();
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    format!("{total:6}   {}", kinds.join(", "))
}

/// The name of a fault or a cut: its Debug without what is inside, but a status.
fn kind(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let name = text.split([' ', '(']).next().unwrap_or_default().to_owned();
    let code = text
        .split(|c: char| !c.is_ascii_digit())
        .find(|digits| digits.len() == 3);
    let code = code.filter(|_| ["Error", "Html", "Body"].contains(&name.as_str()));
    code.map_or(name.clone(), |code| format!("{name} {code}"))
}
