//! Webhook or polling: one decision for the whole program, made by what is seen. Pure.
//!
//! All bots share one port and one certificate, and a TLS handshake names no bot. So all bots use
//! the webhook, or all poll.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::reachability::ARRIVAL_TIMEOUT;
use crate::system::pause::EscalatingPause;
use crate::telegram::delivery_error::{self, Explanation, Kind};

/// For this home's address, at the start.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(20);
/// For setting the webhook while the bots do not poll: longer than what is in flight then.
const SET_TIMEOUT: Duration = Duration::from_secs(60);
/// Tries of the webhook follow each other in 2 to 72 `watch_interval`s: 10 min to 6 h by default.
const TRY_INTERVALS: (u32, u32) = (2, 72);
/// A hint is followed no sooner after the last try than a `watch_interval` divided by this: 1 min
/// by default.
const HINT_DIVISOR: u32 = 5;

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// The home's address is known.
    Address,
    /// The provider shares one address among customers (CGNAT), so that nothing can get in.
    SharedAddress,
    /// It does not, or no longer.
    OwnAddress,
    /// The address, the way to the router or the router's mapping has changed.
    Hint,
    /// Telegram has taken a webhook. Whether it called since we began to set it.
    Set(bool),
    /// Telegram will not take this webhook, and why.
    Refused(String),
    /// setWebhook fails for long, and why.
    NotSet(String),
    /// Telegram, or somebody with path and secret, got in.
    Arrival,
    /// Telegram could not deliver since the last arrival, and updates wait; Telegram's words.
    Undelivered(String),
    /// Updates wait, and a webhook that was set as a test has brought none of them.
    NothingArrives,
    /// Somebody has set our webhook while we poll.
    OwnWebhook,
    /// Time has passed.
    Time,
}

/// Why the bots poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nothing arrived in time.
    NothingArrives,
    /// The same, but for connections from this address of the home, which `allow_from` does not
    /// name.
    RewrittenSource(IpAddr),
    /// What waits is not delivered; Telegram's words.
    Undelivered(String),
    /// The same, where a reverse proxy or a tunnel stands before us.
    NotPassedOn(String),
    /// Nothing arrived in time, and such a one stands before us.
    NothingPassedOn,
    /// setWebhook fails for another reason than the webhook; the Bot API's words.
    NotSet(String),
    /// The provider shares one address among customers.
    SharedAddress,
    /// No address is known.
    NoAddress,
    /// Telegram's words.
    Refused(String),
    /// The settings say so.
    Settings,
    /// It was so before the start; the words of then.
    Before(String),
}

const PASS_ON: &str = "to use the webhook, let the proxy or the tunnel send calls for the bot's path to the address in listen";

/// What to do about an error of Telegram's where a reverse proxy or a tunnel stands before us.
fn remedy_at_proxy(message: &str) -> &'static str {
    match delivery_error::explain(message) {
        Some(Explanation {
            kind: Kind::Unreachable,
            ..
        }) => {
            "to use the webhook, check that the proxy or the tunnel runs, and that Telegram can reach public_host"
        }
        Some(Explanation {
            kind: Kind::Certificate,
            ..
        }) => {
            "to use the webhook, let the proxy show a certificate of a public CA for public_host, with all intermediate \
             certificates"
        }
        Some(Explanation {
            kind: Kind::Slow | Kind::Foreign | Kind::Theirs,
            ..
        })
        | None => PASS_ON,
    }
}

impl fmt::Display for Reason {
    /// Why, and what would make it direct.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FORWARD: &str = "to use the webhook, forward the port to this Pi in the router's settings, or set port_mapping = \"auto\"";
        match self {
            Self::NothingArrives => write!(
                f,
                "Telegram's calls do not reach this Pi; {FORWARD}; if the port is forwarded already, check that no \
                 firewall closes the connections"
            ),
            Self::RewrittenSource(address) => write!(
                f,
                "Telegram's calls do not reach this Pi, but calls come from {address}; if {address} is the router, it \
                 puts its own address in place of Telegram's: to use the webhook, set allow_from = \
                 [\"149.154.160.0/20\", \"91.108.4.0/22\", \"{address}\"]"
            ),
            Self::Undelivered(message) => {
                write!(f, "Telegram could not deliver an update ({})", delivery_error::sentence(message))
            }
            Self::NotPassedOn(message) => {
                write!(f, "Telegram could not deliver an update (\"{message}\"); {}", remedy_at_proxy(message))
            }
            Self::NothingPassedOn => write!(f, "Telegram's calls do not reach this bot; {PASS_ON}"),
            Self::NotSet(error) => {
                write!(f, "the Bot API does not set the webhook now ({error}); pihook tries the webhook again later")
            }
            Self::SharedAddress => f.write_str(
                "the provider shares one address among customers (CGNAT); to use the webhook, ask the provider for a \
                 public IPv4 address",
            ),
            Self::NoAddress => f.write_str("this home's address is not known; to use the webhook, run `pihook doctor`"),
            Self::Refused(why) => write!(f, "Telegram refuses the webhook ({why}); run `pihook doctor`"),
            Self::Settings => f.write_str("the settings have delivery = \"polling\""),
            Self::Before(words) => f.write_str(words),
        }
    }
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// All bots stop to poll, and set their webhooks.
    Try,
    /// All bots remove their webhooks, and poll.
    Poll(Reason),
    /// They poll already, and now it is known why.
    Explain(Reason),
    /// The webhook is proven.
    Proven,
}

/// How updates come now, and when that may change.
pub(crate) struct Switch {
    state: State,
    tries: EscalatingPause,
    hint_pause: Duration,
    /// TLS ends here, so that Telegram's first connection is seen, which comes with the set and
    /// before any update.
    sees_handshakes: bool,
    is_shared: bool,
    is_hinted: bool,
}

enum State {
    Webhook {
        /// Telegram got in since the webhook was set last.
        is_proven: bool,
        /// The bots poll when nothing is seen until then.
        deadline: Option<(Instant, Reason)>,
    },
    Polling {
        since: Instant,
    },
}

impl Switch {
    /// The webhook comes first; where `is_host_known` is false, an address must be found for it.
    /// Looks at the home follow each other in `interval`.
    pub(crate) fn new(is_host_known: bool, interval: Duration, now: Instant) -> Self {
        let (first, longest) = TRY_INTERVALS;
        let deadline = (!is_host_known).then(|| (now + ADDRESS_TIMEOUT, Reason::NoAddress));
        Self {
            state: State::Webhook {
                is_proven: false,
                deadline,
            },
            tries: EscalatingPause::new(interval * first, interval * longest),
            hint_pause: interval / HINT_DIVISOR,
            sees_handshakes: true,
            is_shared: false,
            is_hinted: false,
        }
    }

    /// The bots polled before the start, and go on.
    pub(crate) fn polling(interval: Duration, now: Instant) -> Self {
        let mut switch = Self::new(true, interval, now);
        switch.poll(now, Reason::Settings);
        switch
    }

    /// The same, where TLS ends elsewhere: only an update shows that Telegram gets in, and only its
    /// words that it does not.
    pub(crate) fn behind_proxy(self) -> Self {
        Self {
            sees_handshakes: false,
            ..self
        }
    }

    /// Whether arrivals matter now.
    pub(crate) fn awaits_arrival(&self) -> bool {
        matches!(
            self.state,
            State::Webhook {
                is_proven: false,
                ..
            }
        )
    }

    /// When to say that time has passed.
    pub(crate) fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Webhook { deadline, .. } => deadline.as_ref().map(|(deadline, _)| *deadline),
            State::Polling { since } if self.is_hinted => Some(*since + self.hint_pause),
            // A provider's shared address does not open up with time.
            State::Polling { .. } if self.is_shared => None,
            State::Polling { .. } => self.tries.end(),
        }
    }

    /// Takes in what was seen.
    pub(crate) fn see(&mut self, seen: Seen, now: Instant) -> Option<Change> {
        let was_shared = self.is_shared;
        match &seen {
            Seen::SharedAddress => self.is_shared = true,
            Seen::OwnAddress if self.is_shared => {
                self.is_shared = false;
                self.is_hinted = true;
            }
            Seen::Hint | Seen::Address => self.is_hinted = true,
            _ => {}
        }
        match &mut self.state {
            State::Webhook {
                is_proven,
                deadline,
            } => match seen {
                Seen::Address if matches!(deadline, Some((_, Reason::NoAddress))) => {
                    *deadline = None;
                    None
                }
                Seen::Set(has_arrived) => {
                    *is_proven = has_arrived;
                    let must_arrive = self.sees_handshakes && !has_arrived;
                    *deadline =
                        must_arrive.then(|| (now + ARRIVAL_TIMEOUT, Reason::NothingArrives));
                    has_arrived.then_some(Change::Proven)
                }
                Seen::Arrival if !*is_proven => {
                    *is_proven = true;
                    *deadline = None;
                    Some(Change::Proven)
                }
                Seen::SharedAddress if !*is_proven => Some(self.poll(now, Reason::SharedAddress)),
                Seen::Time => {
                    let (_, reason) = deadline.take_if(|(deadline, _)| *deadline <= now)?;
                    Some(self.poll(now, reason))
                }
                seen => self.obstacle(seen).map(|reason| self.poll(now, reason)),
            },
            State::Polling { .. } if self.is_shared && !was_shared => {
                Some(Change::Explain(Reason::SharedAddress))
            }
            State::Polling { .. } => {
                let is_due =
                    matches!(seen, Seen::OwnWebhook) || self.due().is_some_and(|due| due <= now);
                is_due.then(|| self.try_webhook(now))
            }
        }
    }

    /// Why the bots poll from now on; None where what was seen is no reason to.
    fn obstacle(&self, seen: Seen) -> Option<Reason> {
        match seen {
            Seen::Undelivered(message) if self.sees_handshakes => {
                Some(Reason::Undelivered(message))
            }
            Seen::Undelivered(message) => Some(Reason::NotPassedOn(message)),
            Seen::NothingArrives if self.sees_handshakes => Some(Reason::NothingArrives),
            Seen::NothingArrives => Some(Reason::NothingPassedOn),
            Seen::Refused(error) => Some(Reason::Refused(error)),
            Seen::NotSet(error) => Some(Reason::NotSet(error)),
            _ => None,
        }
    }

    fn poll(&mut self, now: Instant, reason: Reason) -> Change {
        self.tries.begin(now);
        self.is_hinted = false;
        self.state = State::Polling { since: now };
        Change::Poll(if self.is_shared {
            Reason::SharedAddress
        } else {
            reason
        })
    }

    fn try_webhook(&mut self, now: Instant) -> Change {
        self.is_hinted = false;
        self.state = State::Webhook {
            is_proven: false,
            deadline: Some((now + SET_TIMEOUT, Reason::NothingArrives)),
        };
        Change::Try
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);
    const MINUTE: u64 = 60;

    struct Scene {
        start: Instant,
        switch: Switch,
    }

    impl Scene {
        fn new(is_host_known: bool) -> Self {
            let start = Instant::now();
            Self {
                start,
                switch: Switch::new(is_host_known, INTERVAL, start),
            }
        }

        /// One that polls since its first second.
        fn polling() -> Self {
            let mut scene = Self::new(true);
            assert_eq!(
                scene.see(0, Seen::Undelivered("x".into())),
                Some(Change::Poll(Reason::Undelivered("x".into())))
            );
            scene
        }

        fn see(&mut self, second: u64, seen: Seen) -> Option<Change> {
            self.switch
                .see(seen, self.start + Duration::from_secs(second))
        }

        fn due(&self) -> Option<u64> {
            self.switch.due().map(|due| (due - self.start).as_secs())
        }
    }

    fn polls(reason: Reason) -> Option<Change> {
        Some(Change::Poll(reason))
    }

    #[test]
    fn ten_seconds_without_an_arrival_after_the_set_and_the_bots_poll() {
        let mut scene = Scene::new(true);
        assert_eq!(
            scene.due(),
            None,
            "while the Bot API cannot be reached there is nothing to poll"
        );
        assert_eq!(scene.see(5, Seen::Set(false)), None);
        assert_eq!(
            (scene.due(), scene.switch.awaits_arrival()),
            (Some(15), true)
        );
        assert_eq!(scene.see(14, Seen::Time), None);
        assert_eq!(scene.see(15, Seen::Time), polls(Reason::NothingArrives));
        assert_eq!(scene.see(16, Seen::Time), None);
    }

    #[test]
    fn behind_a_proxy_silence_is_no_reason_to_poll_and_an_error_is() {
        let mut scene = Scene::new(true);
        scene.switch = scene.switch.behind_proxy();
        assert_eq!((scene.see(1, Seen::Set(false)), scene.due()), (None, None));
        assert_eq!(scene.see(10_000, Seen::Time), None);
        assert_eq!(scene.see(10_001, Seen::Arrival), Some(Change::Proven));
        assert_eq!(
            scene.see(10_002, Seen::Undelivered("502".into())),
            polls(Reason::NotPassedOn("502".into()))
        );
        // A test shows it, too.
        let mut silent = Scene::new(true);
        silent.switch = silent.switch.behind_proxy();
        assert_eq!(
            silent.see(1, Seen::NothingArrives),
            polls(Reason::NothingPassedOn)
        );
        // It is tried again, and believed until the next error.
        assert_eq!(scene.see(10_602, Seen::Time), Some(Change::Try));
        assert_eq!(
            (
                scene.due(),
                scene.see(10_603, Seen::Set(false)),
                scene.due()
            ),
            (Some(10_662), None, None)
        );
    }

    #[test]
    fn an_arrival_proves_the_webhook_until_it_is_set_again() {
        let mut scene = Scene::new(true);
        assert_eq!(scene.see(1, Seen::Set(false)), None);
        assert_eq!(scene.see(2, Seen::Arrival), Some(Change::Proven));
        assert_eq!(
            (
                scene.see(3, Seen::Arrival),
                scene.due(),
                scene.switch.awaits_arrival()
            ),
            (None, None, false)
        );
        assert_eq!(scene.see(100, Seen::Time), None);
        // The next bot's, which Telegram called before it answered.
        assert_eq!(
            (scene.see(101, Seen::Set(true)), scene.due()),
            (Some(Change::Proven), None)
        );
        // A repair that does not help.
        assert_eq!(scene.see(200, Seen::Set(false)), None);
        assert_eq!(scene.see(210, Seen::Time), polls(Reason::NothingArrives));
    }

    #[test]
    fn what_is_not_delivered_or_not_taken_is_polled_also_when_it_was_proven() {
        for (seen, reason) in [
            (
                Seen::Undelivered("no".into()),
                Reason::Undelivered("no".into()),
            ),
            (Seen::NothingArrives, Reason::NothingArrives),
            (Seen::Refused("no".into()), Reason::Refused("no".into())),
            (Seen::NotSet("no".into()), Reason::NotSet("no".into())),
        ] {
            let mut scene = Scene::new(true);
            scene.see(1, Seen::Set(true));
            assert_eq!(scene.see(1000, seen.clone()), polls(reason));
            assert_eq!(scene.see(1001, seen), None, "they poll already");
        }
    }

    #[test]
    fn without_an_address_within_twenty_seconds_the_bots_poll() {
        let mut scene = Scene::new(false);
        assert_eq!(scene.due(), Some(20));
        assert_eq!(scene.see(20, Seen::Time), polls(Reason::NoAddress));
        // Found at last; not at once after the last change.
        assert_eq!(
            (scene.see(21, Seen::Address), scene.due()),
            (None, Some(80))
        );
        assert_eq!(scene.see(80, Seen::Time), Some(Change::Try));

        let mut scene = Scene::new(false);
        assert_eq!((scene.see(19, Seen::Address), scene.due()), (None, None));
        assert_eq!(scene.see(20, Seen::Set(false)), None);
        assert_eq!(
            (scene.see(21, Seen::Address), scene.due()),
            (None, Some(30)),
            "an address changes no other deadline"
        );
    }

    #[test]
    fn behind_a_shared_address_only_a_hint_leads_back() {
        let mut scene = Scene::new(false);
        assert_eq!(
            scene.see(1, Seen::SharedAddress),
            polls(Reason::SharedAddress)
        );
        assert_eq!(scene.due(), None);
        assert_eq!(scene.see(86400, Seen::Time), None);
        assert_eq!(
            scene.see(86401, Seen::SharedAddress),
            None,
            "that is no news"
        );
        assert_eq!(scene.see(86402, Seen::OwnAddress), Some(Change::Try));
        assert_eq!(scene.see(86403, Seen::OwnAddress), None);
        // Where Telegram gets in all the same, it is as good as any.
        let mut scene = Scene::new(true);
        scene.see(1, Seen::Set(true));
        assert_eq!(scene.see(2, Seen::SharedAddress), None);
        assert_eq!(
            scene.see(3, Seen::Undelivered("x".into())),
            polls(Reason::SharedAddress),
            "the reason that lasts"
        );
    }

    #[test]
    fn a_shared_address_that_is_found_later_explains_why_the_bots_poll() {
        let mut scene = Scene::polling();
        assert_eq!(
            scene.see(5, Seen::SharedAddress),
            Some(Change::Explain(Reason::SharedAddress))
        );
        assert_eq!(
            (scene.see(6, Seen::SharedAddress), scene.due()),
            (None, None)
        );
    }

    #[test]
    fn the_webhook_is_tried_again_ever_more_seldom() {
        let mut scene = Scene::polling();
        let (mut tries, mut second) = (Vec::new(), 0);
        while second < 3 * 86400 {
            second = scene.due().unwrap();
            assert_eq!(scene.see(second - 1, Seen::Time), None);
            if scene.see(second, Seen::Time) == Some(Change::Try) {
                tries.push(second / MINUTE);
                assert_eq!(scene.see(second, Seen::Set(false)), None);
            }
        }
        assert_eq!(tries[..7], [10, 30, 70, 150, 310, 630, 991]);
        assert!(
            tries.windows(2).all(|pair| pair[1] - pair[0] <= 361),
            "{tries:?}"
        );
    }

    #[test]
    fn a_hint_is_followed_once_and_not_all_the_time() {
        let mut scene = Scene::polling();
        assert_eq!((scene.see(5, Seen::Hint), scene.due()), (None, Some(60)));
        assert_eq!(scene.see(59, Seen::Hint), None);
        assert_eq!(scene.see(60, Seen::Time), Some(Change::Try));
        // What is hinted at during the try is known by its end.
        assert_eq!(scene.see(61, Seen::Hint), None);
        assert_eq!(scene.see(62, Seen::Set(false)), None);
        assert_eq!(scene.see(72, Seen::Time), polls(Reason::NothingArrives));
        assert_eq!(scene.see(73, Seen::Time), None);
        assert_eq!(scene.see(200, Seen::Hint), Some(Change::Try));
        assert_eq!(scene.see(201, Seen::Arrival), Some(Change::Proven));
    }

    #[test]
    fn a_try_in_which_nothing_can_be_set_ends() {
        let mut scene = Scene::polling();
        assert_eq!(scene.see(100, Seen::Hint), Some(Change::Try));
        assert_eq!(scene.due(), Some(160));
        assert_eq!(scene.see(160, Seen::Time), polls(Reason::NothingArrives));
    }

    #[test]
    fn our_own_webhook_that_somebody_sets_is_tried_at_once() {
        let mut scene = Scene::polling();
        assert_eq!(scene.see(1, Seen::OwnWebhook), Some(Change::Try));
        assert_eq!(scene.see(2, Seen::OwnWebhook), None);
    }

    #[test]
    fn who_polled_before_the_start_goes_on() {
        let start = Instant::now();
        let switch = Switch::polling(INTERVAL, start);
        assert!(!switch.awaits_arrival());
        assert_eq!(switch.due(), Some(start + 2 * INTERVAL));
    }

    #[test]
    fn each_reason_says_what_would_make_it_direct() {
        for (reason, words) in [
            (Reason::NothingArrives, "forward the port"),
            (
                Reason::Undelivered("Connection timed out".into()),
                "port_mapping",
            ),
            (
                Reason::Undelivered("Connection refused".into()),
                "not to another machine",
            ),
            (
                Reason::Undelivered("SSL error {error:0A00010B".into()),
                "another program answers",
            ),
            (
                Reason::NotPassedOn("Wrong response from the webhook: 502 Bad Gateway".into()),
                "the address in listen",
            ),
            (
                Reason::NotPassedOn("Connection refused".into()),
                "Telegram can reach public_host",
            ),
            (
                Reason::NotPassedOn("SSL error {error:0A000086".into()),
                "a public CA",
            ),
            (
                Reason::NothingPassedOn,
                "let the proxy or the tunnel send calls",
            ),
            (Reason::NotSet("502".into()), "tries the webhook again"),
            (
                Reason::SharedAddress,
                "ask the provider for a public IPv4 address",
            ),
            (Reason::NoAddress, "pihook doctor"),
            (Reason::Refused("bad webhook".into()), "bad webhook"),
            (Reason::Settings, "delivery = \"polling\""),
            (Reason::Before("as before".into()), "as before"),
        ] {
            assert!(reason.to_string().contains(words), "{reason}");
        }
    }
}
