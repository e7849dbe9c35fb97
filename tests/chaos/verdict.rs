//! The verdict on a story: whether each message was answered, in its order, and just once.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use simulated_telegram::{Call, Delivery};

use super::{CHATS, Kill, Said, Story};

/// So many updates of each kind of mistake are shown in full.
const SHOWN: usize = 10;

/// The longest time that a bot needs, on a busy machine, from the last byte of the Bot API's answer
/// until it has noted the answer.
const NOTING: Duration = Duration::from_millis(250);

/// What became of one message.
#[derive(Default)]
struct Fate {
    deliveries: Vec<Delivery>,
    /// When an offset of getUpdates confirmed the update.
    confirmed: Option<Instant>,
    /// The calls of sendMessage with its text.
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

    /// When the update was first done for Telegram: by an answer of 200, or by an offset.
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

    /// For each answer after the first one, why it was sent, if there is a reason.
    fn reasons(&self, kills: &[Kill]) -> Vec<Option<Reason>> {
        let answers: Vec<&Call> = self.answers().collect();
        let mut reasons = Vec::new();
        for pair in answers.windows(2) {
            reasons.push(self.reason(pair[0], pair[1], kills));
        }
        reasons
    }

    /// Why the message was answered by `second` after `first`, if there is a reason.
    fn reason(&self, first: &Call, second: &Call, kills: &[Kill]) -> Option<Reason> {
        let is_done = self
            .delivered()
            .is_some_and(|delivered| delivered < second.at);
        let is_killed = kills
            .iter()
            .any(|kill| self.is_open(first, kill) && kill.from <= second.at);
        let is_unheard = first.answered.is_some() && !first.is_heard();
        if is_done {
            None
        } else if is_killed {
            Some(Reason::Killed)
        } else if is_unheard {
            Some(Reason::Unheard)
        } else {
            None
        }
    }

    /// Whether a bot that was killed then can have known of the call without having noted its
    /// answer.
    fn is_open(&self, call: &Call, kill: &Kill) -> bool {
        let is_unanswered = call
            .answered
            .is_none_or(|answered| kill.from <= answered + NOTING);
        // Telegram still waits for the answer to the update that this call answers.
        let is_awaited = self.deliveries.iter().any(|delivery| {
            delivery.started <= call.at && delivery.ended.is_none_or(|ended| ended >= kill.from)
        });
        call.at <= kill.to && (is_unanswered || is_awaited)
    }

    /// Its deliveries, confirmation and calls, in no order.
    fn events(&self) -> Vec<(Instant, String)> {
        let mut events = Vec::new();
        for (number, delivery) in (1..).zip(&self.deliveries) {
            let cut = match delivery.cut {
                Some(cut) => format!(", to be cut {cut:?}"),
                None => String::new(),
            };
            events.push((
                delivery.started,
                format!("delivery {number}, connection {}{cut}", delivery.connection),
            ));
            let end = match delivery.status {
                Some(status) => status.to_string(),
                None => delivery.error.clone().unwrap_or_default(),
            };
            if let Some(ended) = delivery.ended {
                events.push((ended, format!("delivery {number}: {end}")));
            }
        }
        if let Some(confirmed) = self.confirmed {
            events.push((confirmed, "an offset confirms it".into()));
        }
        for (number, call) in (1..).zip(&self.calls) {
            events.extend(events_of_call(number, call));
        }
        events
    }
}

fn events_of_call(number: usize, call: &Call) -> Vec<(Instant, String)> {
    let fault = match &call.fault {
        Some(fault) => format!(", {fault:?}"),
        None => String::new(),
    };
    let mut events = vec![(call.at, format!("call {number}{fault}"))];
    if let Some(at) = call.carried_out {
        events.push((at, format!("call {number} is carried out")));
    }
    if let Some(at) = call.answered {
        let answer = call.answer.lines().next().unwrap_or("nothing");
        let is_heard = if call.is_heard() {
            ""
        } else {
            ", not its whole head"
        };
        events.push((at, format!("call {number} is answered: {answer}{is_heard}")));
    }
    events
}

/// The reason why an answer came again.
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

/// Gathers what became of each message. A call that answers no message is a failure.
fn fates(story: &Story, failures: &mut Vec<String>) -> Vec<Fate> {
    let said = &story.said;
    let mut places: BTreeMap<i64, usize> = BTreeMap::new();
    let mut fates: Vec<Fate> = Vec::new();
    for (place, said) in said.iter().enumerate() {
        places.insert(said.update_id, place);
        fates.push(Fate::default());
    }

    for delivery in &story.deliveries {
        let place = places[&delivery.update_id];
        fates[place].deliveries.push(delivery.clone());
    }
    for (id, confirmed) in &story.confirmed {
        fates[places[id]].confirmed = Some(*confirmed);
    }
    for call in &story.calls {
        let place: Option<usize> = call.text("text").parse().ok();
        match place {
            Some(place)
                if place < said.len() && call.text("chat_id") == said[place].chat.to_string() =>
            {
                fates[place].calls.push(call.clone());
            }
            _ => failures.push(format!("nobody said what this answers: {call:?}")),
        }
    }
    fates
}

/// What a story shows. The lists are places in the list of what was said.
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
        let said = &story.said;
        let mut failures = story.lives.failures.clone();
        let fates = fates(story, &mut failures);
        let carried_out = fates.iter().flat_map(Fate::answers).count();
        if story.sent != carried_out {
            failures.push(format!(
                "{} messages were sent by {carried_out} calls",
                story.sent
            ));
        }

        let mut undelivered = Vec::new();
        let mut lost = Vec::new();
        let mut killed = Vec::new();
        let mut unheard = Vec::new();
        let mut unexcused = Vec::new();
        for (place, fate) in fates.iter().enumerate() {
            if fate.delivered().is_none() {
                undelivered.push(place);
            }
            if fate.first().is_none() {
                lost.push(place);
            }
            for reason in fate.reasons(&story.lives.kills) {
                match reason {
                    Some(Reason::Killed) => killed.push(place),
                    Some(Reason::Unheard) => unheard.push(place),
                    None => unexcused.push(place),
                }
            }
        }
        Verdict {
            undelivered,
            lost,
            disordered: disordered(said, &fates),
            killed,
            unheard,
            unexcused,
            failures,
            fates,
        }
    }

    /// The lists that must be empty.
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
            for place in places.iter().take(SHOWN) {
                self.print_fate(story, what, *place);
            }
            if places.len() > SHOWN {
                let ids: Vec<i64> = places[SHOWN..]
                    .iter()
                    .map(|place| story.said[*place].update_id)
                    .collect();
                println!("\n{what}, too: {ids:?}");
            }
        }
    }

    /// Prints all that happened to one message, in order, and its lines of the log.
    fn print_fate(&self, story: &Story, what: &str, place: usize) {
        let said = &story.said[place];
        println!(
            "\n{what}: update {}, message {place}, chat {}",
            said.update_id, said.chat
        );

        let mut events = self.fates[place].events();
        let first = events.iter().map(|event| event.0).min();
        let last = events.iter().map(|event| event.0).max();
        for kill in &story.lives.kills {
            if first.is_some_and(|first| kill.to >= first)
                && last.is_some_and(|last| kill.from <= last)
            {
                events.push((kill.from, "the bot is killed".into()));
                events.push((kill.to, "it is back".into()));
            }
        }
        events.sort_by_key(|event| event.0);
        for (at, event) in events {
            let at = at.saturating_duration_since(story.start);
            println!("{:10.3} s  {event}", at.as_secs_f64());
        }

        let name = format!("update {}", said.update_id);
        for line in &story.lives.log {
            if line.contains(&name) {
                println!("    {line}");
            }
        }
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
