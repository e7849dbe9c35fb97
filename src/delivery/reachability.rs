//! Whether Telegram's calls still reach one bot's webhook: judged at each look, by what Telegram
//! says and by how it has reached the bot. Pure.

use std::time::{Duration, Instant};

use crate::edge::reach::ReachRecord;
use crate::telegram::delivery_error;
use crate::telegram::types::WebhookInfo;

/// Telegram connects before it answers setWebhook, and sends the waiting updates at once. If it has
/// not reached the bot in this time, it cannot.
pub(crate) const REACH_TIMEOUT: Duration = Duration::from_secs(10);
/// An update can wait for less than this while nothing is wrong: Telegram opens connections 2 s after
/// one another.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer can take so many seconds on its way to Telegram; and dates are in whole seconds.
const LATENCY: i64 = 2;

/// What one look at a webhook shows.
pub(crate) struct Look<'l> {
    /// What Telegram says of the webhook.
    pub(crate) info: &'l WebhookInfo,
    /// How Telegram had reached the bot then.
    pub(crate) reach: ReachRecord,
    /// Nobody else has the certificate that Telegram accepts: only this bot answers with it.
    pub(crate) has_own_certificate: bool,
    /// The time of the look.
    pub(crate) now: Instant,
    /// The time of the look by Telegram's clock: Unix time in seconds.
    pub(crate) telegram_time: i64,
}

/// What keeps updates from arriving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Telegram could not deliver since the last exchange; Telegram's words.
    Error(String),
    /// Updates wait, nothing arrives, and Telegram tells no error. A set of the webhook as a test
    /// shows whether that is an obstacle.
    Silence,
    /// The webhook was set, updates wait, and still nothing arrives.
    FailedTest,
}

/// What is remembered from one look to the next.
#[derive(Default)]
pub(crate) struct Reachability {
    last: Option<LastLook>,
    /// Since when updates wait without an explanation.
    silent_since: Option<Instant>,
    /// When the webhook was set while updates waited, if Telegram has not reached the bot since.
    test_begun: Option<Instant>,
    /// A test has failed, and Telegram has not reached the bot since.
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
            info, reach, now, ..
        } = look;
        Self {
            error: (info.last_error_date, info.last_error_message.clone()),
            count: reach.count(),
            is_in_flight: reach.in_flight > 0,
            at: *now,
        }
    }
}

impl Reachability {
    /// The webhook was found as it should be: an error from before says nothing.
    pub(crate) fn found(&mut self, look: &Look<'_>) {
        *self = Self {
            last: Some(LastLook::of(look)),
            ..Self::default()
        };
        if look.info.pending_update_count > 0 {
            self.silent_since = Some(look.now);
        }
    }

    /// The webhook was set, and with the old one its errors are gone. Telegram had reached the bot
    /// `count` times before. Where updates wait, this is a test.
    pub(crate) fn set(&mut self, count: u64, is_waited_for: bool, now: Instant) {
        let last = LastLook {
            error: (None, None),
            count,
            is_in_flight: false,
            at: now,
        };
        *self = Self {
            last: Some(last),
            ..Self::default()
        };
        if is_waited_for {
            self.test_begun = Some(now);
        }
    }

    /// Whether a set of the webhook is a test whose end is not known yet.
    pub(crate) fn is_tested(&self) -> bool {
        self.test_begun.is_some()
    }

    /// Whether a test has failed, and Telegram has not reached the bot since.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }

    /// Judges a look. Returns what keeps updates from arriving, as far as this look shows it.
    pub(crate) fn look(&mut self, look: &Look<'_>) -> Option<Obstacle> {
        let seen = LastLook::of(look);
        let last = self.last.replace(LastLook::of(look))?;

        let is_reached = seen.count > last.count;
        let is_nothing_waiting = look.info.pending_update_count == 0;
        if is_reached || is_nothing_waiting {
            self.test_begun = None;
            self.is_unreachable = false;
        }

        let is_in_flight = seen.is_in_flight || last.is_in_flight;
        let is_error_new = seen.error != last.error;
        // Telegram may wait before it delivers again what we refused.
        let may_wait = look.reach.due.is_some_and(|due| look.now < due);
        if is_nothing_waiting || is_in_flight || is_error_new || is_reached || may_wait {
            self.silent_since = None;
        }

        if is_nothing_waiting || is_in_flight {
            return None;
        }
        if is_error_new {
            let message = look.info.last_error_message.clone()?;
            if is_reached_despite(look, &message, last.at) {
                return None;
            }
            return Some(Obstacle::Error(message));
        }
        if is_reached || may_wait {
            None
        } else {
            self.silence(look.now)
        }
    }

    /// Judges a silence: updates wait without an explanation.
    fn silence(&mut self, now: Instant) -> Option<Obstacle> {
        if let Some(begun) = self.test_begun {
            if now.saturating_duration_since(begun) < REACH_TIMEOUT {
                return None;
            }
            self.test_begun = None;
            self.is_unreachable = true;
            return Some(Obstacle::FailedTest);
        }

        let since = *self.silent_since.get_or_insert(now);
        if now.saturating_duration_since(since) < SILENCE_TIMEOUT {
            return None;
        }
        Some(Obstacle::Silence)
    }
}

/// Whether Telegram reaches the bot despite an error that is new since `last_look`: the error itself
/// shows it, or the error is no newer than the last exchange.
fn is_reached_despite(look: &Look<'_>, message: &str, last_look: Instant) -> bool {
    if look.has_own_certificate && delivery_error::is_answer(message) {
        return true;
    }
    // It can be the status that we ourselves gave Telegram.
    let latency = Duration::from_secs(LATENCY.unsigned_abs());
    if let Some(status) = delivery_error::status(message)
        && let Some(refused) = look.reach.refused.get(&status)
        && *refused + latency >= last_look
    {
        return true;
    }

    let Some(error_second) = look.info.last_error_date else {
        return false;
    };
    let Some(end) = look.reach.last else {
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
    enum Step {
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
    use Step::{Answered, Begins, Fails, Handshake, Set, Wait};

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Expected {
        Error,
        Silence,
        FailedTest,
    }
    const OPEN: Step = Step::Look(None);
    const ERROR: Step = Step::Look(Some(Expected::Error));
    const SILENCE: Step = Step::Look(Some(Expected::Silence));
    const FAILED: Step = Step::Look(Some(Expected::FailedTest));

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
        fn of<'l>(&self, info: &'l WebhookInfo, reach: &ReachRecord) -> Look<'l> {
            Look {
                info,
                reach: reach.clone(),
                has_own_certificate: self.has_own_certificate,
                now: self.now,
                telegram_time: self.telegram_time,
            }
        }
    }

    /// Something happens at Telegram, or between Telegram and here.
    fn happens(
        event: Step,
        second: u64,
        now: Instant,
        info: &mut WebhookInfo,
        reach: &mut ReachRecord,
    ) {
        match event {
            Begins => {
                reach.requests += 1;
                reach.in_flight += 1;
            }
            Answered(status, due) => {
                reach.in_flight -= 1;
                reach.last = Some(now);
                reach.due = reach.due.max(Some(now + Duration::from_secs(due)));
                reach.refused.insert(status, now);
            }
            Handshake => {
                reach.handshakes += 1;
                reach.last = Some(now);
            }
            Wait(count) => info.pending_update_count = count,
            Fails(message) => {
                info.last_error_date = Some(START.saturating_add_unsigned(second));
                info.last_error_message = Some(message.into());
            }
            Set | Step::Look(_) => {}
        }
    }

    /// Plays the events of a webhook that was found as it should be at the start.
    fn play(name: &str, has_own_certificate: bool, events: &[(u64, Step)]) {
        let start = Instant::now();
        let mut info = info();
        let mut reach = ReachRecord::default();
        let mut reachability = Reachability::default();
        let look = |second: u64| Moment {
            now: start + Duration::from_secs(second),
            telegram_time: START.saturating_add_unsigned(second),
            has_own_certificate,
        };
        reachability.found(&look(0).of(&info, &reach));
        for (second, event) in events {
            let now = start + Duration::from_secs(*second);
            match *event {
                Set => {
                    info.last_error_date = None;
                    info.last_error_message = None;
                    reachability.set(reach.count(), info.pending_update_count > 0, now);
                }
                Step::Look(expected) => {
                    let found = reachability.look(&look(*second).of(&info, &reach));
                    let found = found.map(|obstacle| match obstacle {
                        Obstacle::Error(_) => Expected::Error,
                        Obstacle::Silence => Expected::Silence,
                        Obstacle::FailedTest => Expected::FailedTest,
                    });
                    assert_eq!(found, expected, "{name}: {second} s");
                }
                event => happens(event, *second, now, &mut info, &mut reach),
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
    fn an_answer_with_a_shared_certificate_is_an_error_unless_we_gave_it() {
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
    fn silence_while_updates_wait_is_tested_and_a_silent_test_has_failed() {
        let silent = [
            (30, OPEN),
            (40, Wait(30)),
            (60, OPEN),
            (69, OPEN),
            (90, SILENCE),
            (90, Set),
        ];
        let then = |more: &[(u64, Step)]| [&silent, more].concat();
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
    fn a_silence_with_an_explanation_is_no_obstacle() {
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
        play("an update that we deferred ourselves", true, due);
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
    fn silence_is_counted_from_the_start_where_updates_wait() {
        let start = Instant::now();
        let info = WebhookInfo {
            pending_update_count: 1,
            ..info()
        };
        let look = |second| Look {
            info: &info,
            reach: ReachRecord::default(),
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
    fn an_error_date_is_compared_by_telegrams_clock() {
        let now = Instant::now();
        let info = WebhookInfo {
            pending_update_count: 1,
            last_error_date: Some(START),
            last_error_message: Some(REFUSED.into()),
            ..info()
        };
        let reach = ReachRecord {
            last: now.checked_sub(Duration::from_secs(10)),
            refused: BTreeMap::new(),
            ..ReachRecord::default()
        };
        let opens = |telegram_time| {
            let look = Look {
                info: &info,
                reach: reach.clone(),
                has_own_certificate: true,
                now,
                telegram_time,
            };
            is_reached_despite(&look, REFUSED, now)
        };
        assert!(opens(START + 12) && opens(START + 8) && !opens(START + 7));
    }
}
