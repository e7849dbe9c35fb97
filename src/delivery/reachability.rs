//! Whether Telegram's calls still reach one bot's webhook: judged at each look, by what Telegram
//! says and by what has arrived. Pure.

use std::time::{Duration, Instant};

use crate::edge::arrivals::Arrived;
use crate::telegram::delivery_error;
use crate::telegram::types::WebhookInfo;

/// Telegram connects before it answers setWebhook, and sends at once what waits. Later than this,
/// nothing comes any more.
pub(crate) const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// So long an update waits without an arrival before that means something: Telegram opens
/// connections 2 s after one another.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds that an answer can take on its way to Telegram, and that whole seconds can be wrong by.
const LATENCY: i64 = 2;

/// What one look at a webhook shows.
pub(crate) struct Look<'l> {
    /// What Telegram says of the webhook.
    pub(crate) info: &'l WebhookInfo,
    /// What had arrived when Telegram had said so.
    pub(crate) arrived: Arrived,
    /// Nobody else has the certificate that Telegram accepts: whatever answers with it, is this
    /// bot.
    pub(crate) has_own_certificate: bool,
    /// When it was.
    pub(crate) now: Instant,
    /// The same by Telegram's clock: Unix time in seconds.
    pub(crate) telegram_time: i64,
}

/// What keeps updates from arriving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Telegram could not deliver since the last exchange; Telegram's words.
    Error(String),
    /// Updates wait, nothing arrives, and Telegram tells no error. Whether that is an obstacle, a
    /// set of the webhook shows.
    Silence,
    /// The webhook was set, updates wait, and still nothing arrives.
    FailedTest,
}

/// What is remembered from one look to the next.
#[derive(Default)]
pub(crate) struct Reachability {
    last: Option<LastLook>,
    /// Since when updates wait, and nothing shows why.
    silent_since: Option<Instant>,
    /// When the webhook was set while updates waited, if nothing has arrived since.
    test_begun: Option<Instant>,
    is_unreachable: bool,
}

struct LastLook {
    error: (Option<i64>, Option<String>),
    count: u64,
    is_in_flight: bool,
    at: Instant,
}

impl LastLook {
    fn of(look: &Look<'_>) -> Self {
        let Look {
            info, arrived, now, ..
        } = look;
        Self {
            error: (info.last_error_date, info.last_error_message.clone()),
            count: arrived.count(),
            is_in_flight: arrived.in_flight > 0,
            at: *now,
        }
    }
}

impl Reachability {
    /// The webhook was found as it should be: what went wrong before is no sign.
    pub(crate) fn found(&mut self, look: &Look<'_>) {
        let silent_since = (look.info.pending_update_count > 0).then_some(look.now);
        *self = Self {
            last: Some(LastLook::of(look)),
            silent_since,
            ..Self::default()
        };
    }

    /// The webhook was set, and with the old one its errors are gone. Before that there had been
    /// `count` arrivals. Where updates wait, this is a test.
    pub(crate) fn set(&mut self, count: u64, is_waited_for: bool, now: Instant) {
        let last = LastLook {
            error: (None, None),
            count,
            is_in_flight: false,
            at: now,
        };
        let test_begun = is_waited_for.then_some(now);
        *self = Self {
            last: Some(last),
            test_begun,
            ..Self::default()
        };
    }

    /// Whether a set of the webhook is a test whose end is not known yet.
    pub(crate) fn is_tested(&self) -> bool {
        self.test_begun.is_some()
    }

    /// A test has failed, and nothing has arrived since.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }

    /// Takes in a look. Returns what keeps updates from arriving, as far as this look shows it.
    pub(crate) fn look(&mut self, look: &Look<'_>) -> Option<Obstacle> {
        let seen = LastLook::of(look);
        let last = self.last.replace(LastLook::of(look))?;

        let has_arrived = seen.count > last.count;
        let is_nothing_waiting = look.info.pending_update_count == 0;
        if has_arrived || is_nothing_waiting {
            self.test_begun = None;
            self.is_unreachable = false;
        }

        let is_in_flight = seen.is_in_flight || last.is_in_flight;
        let is_error_new = seen.error != last.error;
        let is_due = look.arrived.due.is_some_and(|due| look.now < due);
        if is_nothing_waiting || is_in_flight || is_error_new || has_arrived || is_due {
            self.silent_since = None;
        }
        if is_nothing_waiting || is_in_flight {
            return None;
        }
        if is_error_new {
            let message = look.info.last_error_message.clone()?;
            return (!shows_the_way_open(look, &message, last.at))
                .then_some(Obstacle::Error(message));
        }
        if has_arrived || is_due {
            None
        } else {
            self.silence(look.now)
        }
    }

    /// Updates wait, and nothing shows why.
    fn silence(&mut self, now: Instant) -> Option<Obstacle> {
        if let Some(begun) = self.test_begun {
            let is_over = now.saturating_duration_since(begun) >= ARRIVAL_TIMEOUT;
            if is_over {
                self.test_begun = None;
                self.is_unreachable = true;
            }
            return is_over.then_some(Obstacle::FailedTest);
        }
        let since = *self.silent_since.get_or_insert(now);
        (now.saturating_duration_since(since) >= SILENCE_TIMEOUT).then_some(Obstacle::Silence)
    }
}

/// Whether an error that is new since `last_look` shows itself that Telegram gets in, or is no
/// newer than the last exchange.
fn shows_the_way_open(look: &Look<'_>, message: &str, last_look: Instant) -> bool {
    if look.has_own_certificate && delivery_error::is_answer(message) {
        return true;
    }
    let latency = Duration::from_secs(LATENCY.unsigned_abs());
    let answered =
        delivery_error::status(message).and_then(|status| look.arrived.refused.get(&status));
    if answered.is_some_and(|answered| *answered + latency >= last_look) {
        return true;
    }
    let (Some(error_second), Some(end)) = (look.info.last_error_date, look.arrived.last) else {
        return false;
    };
    let age = look.now.saturating_duration_since(end).as_secs();
    let end_second = look.telegram_time.saturating_sub_unsigned(age);
    error_second <= end_second.saturating_add(LATENCY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const REFUSED: &str = "Connection refused";
    const BUSY: &str = "Wrong response from the webhook: 503 Service Unavailable";
    /// Unix time at the start, by Telegram's clock.
    const START: i64 = 1_800_000_000;

    /// What happens, in seconds since the start.
    #[derive(Clone, Copy)]
    enum Event {
        /// A request begins.
        Begins,
        /// It is answered with this status, and is due again after so many seconds.
        Answered(u16, u64),
        /// A known peer's handshake.
        Handshake,
        /// So many updates wait at Telegram from now on.
        Wait(u64),
        /// Telegram could not deliver.
        Fails(&'static str),
        /// The webhook is set.
        Set,
        /// A look finds this.
        Look(Option<Expected>),
    }
    use Event::{Answered, Begins, Fails, Handshake, Set, Wait};

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Expected {
        Error,
        Silence,
        FailedTest,
    }
    const OPEN: Event = Event::Look(None);
    const ERROR: Event = Event::Look(Some(Expected::Error));
    const SILENCE: Event = Event::Look(Some(Expected::Silence));
    const FAILED: Event = Event::Look(Some(Expected::FailedTest));

    fn info() -> WebhookInfo {
        WebhookInfo {
            url: "https://80.100.95.20:8443/".into(),
            has_custom_certificate: true,
            pending_update_count: 0,
            ip_address: None,
            last_error_date: None,
            last_error_message: None,
            max_connections: None,
            allowed_updates: None,
        }
    }

    struct Moment {
        now: Instant,
        telegram_time: i64,
        has_own_certificate: bool,
    }

    impl Moment {
        fn of<'l>(&self, info: &'l WebhookInfo, arrived: &Arrived) -> Look<'l> {
            Look {
                info,
                arrived: arrived.clone(),
                has_own_certificate: self.has_own_certificate,
                now: self.now,
                telegram_time: self.telegram_time,
            }
        }
    }

    /// Something happens at Telegram, or between Telegram and here.
    fn happens(
        event: Event,
        second: u64,
        now: Instant,
        info: &mut WebhookInfo,
        arrived: &mut Arrived,
    ) {
        match event {
            Begins => {
                arrived.requests += 1;
                arrived.in_flight += 1;
            }
            Answered(status, due) => {
                arrived.in_flight -= 1;
                arrived.last = Some(now);
                arrived.due = arrived.due.max(Some(now + Duration::from_secs(due)));
                arrived.refused.insert(status, now);
            }
            Handshake => {
                arrived.handshakes += 1;
                arrived.last = Some(now);
            }
            Wait(count) => info.pending_update_count = count,
            Fails(message) => {
                info.last_error_date = Some(START.saturating_add_unsigned(second));
                info.last_error_message = Some(message.into());
            }
            Set | Event::Look(_) => {}
        }
    }

    /// Plays the events of a webhook that was found as it should be at the start.
    fn play(name: &str, has_own_certificate: bool, events: &[(u64, Event)]) {
        let start = Instant::now();
        let mut info = info();
        let mut arrived = Arrived::default();
        let mut reachability = Reachability::default();
        let look = |second: u64| Moment {
            now: start + Duration::from_secs(second),
            telegram_time: START.saturating_add_unsigned(second),
            has_own_certificate,
        };
        reachability.found(&look(0).of(&info, &arrived));
        for (second, event) in events {
            let now = start + Duration::from_secs(*second);
            match *event {
                Set => {
                    info.last_error_date = None;
                    info.last_error_message = None;
                    reachability.set(arrived.count(), info.pending_update_count > 0, now);
                }
                Event::Look(expected) => {
                    let found = reachability.look(&look(*second).of(&info, &arrived));
                    let found = found.map(|obstacle| match obstacle {
                        Obstacle::Error(_) => Expected::Error,
                        Obstacle::Silence => Expected::Silence,
                        Obstacle::FailedTest => Expected::FailedTest,
                    });
                    assert_eq!(found, expected, "{name}: {second} s");
                }
                event => happens(event, *second, now, &mut info, &mut arrived),
            }
        }
    }

    #[test]
    fn our_own_refusals_are_no_obstacle() {
        let late: &[_] = &[
            (25, Wait(1)),
            (25, Begins),
            (30, OPEN),
            (45, Answered(503, 30)),
            (45, Fails(BUSY)),
            (60, OPEN),
        ];
        play("late, own certificate", true, late);
        play("late, shared certificate", false, late);
        let early: &[_] = &[
            (25, Wait(1)),
            (25, Begins),
            (25, Answered(503, 100)),
            (25, Fails(BUSY)),
            (30, OPEN),
            (60, OPEN),
            (90, OPEN),
        ];
        play("early, own certificate", true, early);
        play("early, shared certificate", false, early);
        let slow_line: &[_] = &[
            (25, Wait(1)),
            (25, Begins),
            (29, Answered(503, 100)),
            (30, OPEN),
            (31, Fails(BUSY)),
            (60, OPEN),
        ];
        play("told to Telegram after the look", false, slow_line);
    }

    #[test]
    fn an_answer_with_a_certificate_that_others_may_have_shows_nothing() {
        let nas = "Wrong response from the webhook: 404 Not Found";
        let events: &[_] = &[(30, OPEN), (40, Wait(1)), (40, Fails(nas))];
        let with = |last| [events, &[(60, last)]].concat();
        play("own certificate", true, &with(OPEN));
        play("shared certificate", false, &with(ERROR));
        let ours: &[_] = &[
            (40, Wait(1)),
            (40, Begins),
            (41, Answered(404, 120)),
            (45, Fails(nas)),
            (60, OPEN),
        ];
        play("shared certificate, and we gave this answer", false, ours);
        let other: &[_] = &[
            (40, Wait(1)),
            (40, Begins),
            (41, Answered(503, 120)),
            (45, Fails(nas)),
            (60, ERROR),
        ];
        play(
            "shared certificate, and we gave another answer before",
            false,
            other,
        );
    }

    #[test]
    fn an_error_counts_when_it_is_newer_than_the_last_exchange() {
        let after = |second| {
            [
                (31, Wait(1)),
                (31, Begins),
                (40, Answered(200, 0)),
                (second, Fails(REFUSED)),
            ]
            .to_vec()
        };
        for (second, expected) in [(39, OPEN), (40, OPEN), (42, OPEN), (43, ERROR), (60, ERROR)] {
            let events = [vec![(30, OPEN)], after(second), vec![(61, expected)]].concat();
            play("one second", true, &events);
        }
        play("nothing waits", true, &[(40, Fails(REFUSED)), (60, OPEN)]);
        play(
            "told before",
            true,
            &[(40, Wait(1)), (40, Fails(REFUSED)), (60, ERROR), (61, OPEN)],
        );
        play(
            "in flight now",
            true,
            &[
                (40, Wait(1)),
                (50, Begins),
                (55, Fails(REFUSED)),
                (60, OPEN),
            ],
        );
        let before: &[_] = &[
            (20, Begins),
            (30, OPEN),
            (31, Answered(200, 0)),
            (31, Wait(1)),
            (50, Fails(REFUSED)),
            (60, OPEN),
            (70, Fails(REFUSED)),
            (90, ERROR),
        ];
        play("in flight at the last look", true, before);
        play(
            "a handshake",
            true,
            &[
                (40, Wait(1)),
                (40, Fails(REFUSED)),
                (41, Handshake),
                (60, OPEN),
            ],
        );
    }

    #[test]
    fn silence_while_updates_wait_is_tested_and_a_test_without_an_arrival_has_failed() {
        let silent = [
            (30, OPEN),
            (40, Wait(30)),
            (60, OPEN),
            (69, OPEN),
            (90, SILENCE),
            (90, Set),
        ];
        let then = |more: &[(u64, Event)]| [&silent, more].concat();
        play(
            "nothing arrives",
            false,
            &then(&[(99, OPEN), (100, FAILED), (105, OPEN), (200, SILENCE)]),
        );
        play(
            "a handshake",
            false,
            &then(&[(91, Handshake), (100, OPEN), (110, OPEN)]),
        );
        play(
            "only our own refusals",
            false,
            &then(&[
                (91, Begins),
                (91, Answered(503, 60)),
                (91, Fails(BUSY)),
                (100, OPEN),
            ]),
        );
        play(
            "a request in flight",
            false,
            &then(&[(91, Begins), (100, OPEN), (140, OPEN)]),
        );
        play(
            "nothing waits any more",
            false,
            &then(&[(95, Wait(0)), (100, OPEN)]),
        );
        play(
            "an error",
            false,
            &then(&[(95, Fails(REFUSED)), (100, ERROR)]),
        );
    }

    #[test]
    fn silence_that_is_explained_is_none() {
        let due: &[_] = &[
            (10, Wait(1)),
            (10, Begins),
            (10, Answered(503, 300)),
            (10, Fails(BUSY)),
            (30, OPEN),
            (60, OPEN),
            (309, OPEN),
            (311, OPEN),
            (330, SILENCE),
        ];
        play("what we put off ourselves", true, due);
        play(
            "another's handshake",
            true,
            &[
                (10, Wait(1)),
                (30, OPEN),
                (59, Handshake),
                (60, OPEN),
                (90, OPEN),
                (120, SILENCE),
            ],
        );
        play(
            "delivered meanwhile",
            true,
            &[
                (10, Wait(1)),
                (30, OPEN),
                (31, Wait(0)),
                (60, OPEN),
                (61, Wait(1)),
                (90, OPEN),
            ],
        );
    }

    #[test]
    fn what_waits_at_the_start_is_silent_since_then() {
        let start = Instant::now();
        let info = WebhookInfo {
            pending_update_count: 1,
            ..info()
        };
        let look = |second| Look {
            info: &info,
            arrived: Arrived::default(),
            has_own_certificate: true,
            now: start + Duration::from_secs(second),
            telegram_time: START,
        };
        let mut reachability = Reachability::default();
        reachability.found(&look(0));
        assert_eq!(reachability.look(&look(9)), None);
        assert_eq!(reachability.look(&look(30)), Some(Obstacle::Silence));
    }

    #[test]
    fn a_clock_that_is_wrong_here_does_not_matter() {
        let now = Instant::now();
        let info = WebhookInfo {
            pending_update_count: 1,
            last_error_date: Some(START),
            last_error_message: Some(REFUSED.into()),
            ..info()
        };
        let arrived = Arrived {
            last: now.checked_sub(Duration::from_secs(10)),
            refused: BTreeMap::new(),
            ..Arrived::default()
        };
        let opens = |telegram_time| {
            let look = Look {
                info: &info,
                arrived: arrived.clone(),
                has_own_certificate: true,
                now,
                telegram_time,
            };
            shows_the_way_open(&look, REFUSED, now)
        };
        assert!(opens(START + 12) && opens(START + 8) && !opens(START + 7));
    }
}
