//! Webhook or polling: one decision for the whole program, made by the events that threads report.
//! Pure.
//!
//! All bots share one port and one certificate, and a TLS handshake names no bot. So all bots use
//! the webhook, or all poll.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::reachability::REACH_TIMEOUT;
use crate::system::pause::EscalatingPause;
use crate::telegram::delivery_error::{self, Explanation, Kind};

/// At the start, the bots poll when this home's address is not known after this time.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(20);
/// A try of the webhook ends when nothing can be set in this time: longer than the updates in flight
/// take, which are waited for first.
const SET_TIMEOUT: Duration = Duration::from_secs(60);
/// Tries of the webhook follow each other in 2 to 72 `watch_interval`s: 10 min to 6 h by default.
const TRY_INTERVALS: (u32, u32) = (2, 72);
/// A hint is followed no sooner after the last try than a `watch_interval` divided by this: 1 min
/// by default.
const HINT_DIVISOR: u32 = 5;

/// Something happened that can decide on webhook or polling.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The home's address is known.
    Address,
    /// The provider shares one address among customers (CGNAT), so that Telegram cannot
    /// reach this Pi.
    SharedAddress,
    /// The provider shares no address, or no longer.
    OwnAddress,
    /// The address, the way to the router or the router's mapping has changed.
    Hint,
    /// Telegram has accepted a webhook. With true, it has reached this Pi since we began to set it.
    Set(bool),
    /// Telegram refuses this webhook for good; its words.
    Refused(String),
    /// setWebhook fails for long; the Bot API's words.
    NotSet(String),
    /// Telegram has reached this Pi, by a handshake or by a request with path and secret.
    Reached,
    /// Telegram could not deliver since it last reached the bot, and updates wait; Telegram's words.
    Undelivered(String),
    /// Updates wait, and a webhook that was set as a test has brought none of them.
    NotReached,
    /// Somebody has set our webhook while we poll.
    OwnWebhook,
    /// Time has passed.
    Time,
}

/// Why the bots poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Telegram has not reached this Pi in time.
    NotReached,
    /// The same, but for connections from this address of the home, which `allow_from` does not
    /// name.
    RewrittenSource(IpAddr),
    /// What waits is not delivered; Telegram's words.
    Undelivered(String),
    /// The same, where a reverse proxy or a tunnel stands before us.
    NotPassedOn(String),
    /// Nothing came in time, and a reverse proxy or a tunnel stands before us.
    NothingPassedOn,
    /// setWebhook fails for another reason than the webhook; the Bot API's words.
    NotSet(String),
    /// The provider shares one address among customers.
    SharedAddress,
    /// No address is known.
    NoAddress,
    /// Telegram refuses the webhook; its words.
    Refused(String),
    /// The settings say so.
    Settings,
    /// They polled before the start; the words of then.
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
    /// The reason, and what to do to use the webhook.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FORWARD: &str = "to use the webhook, forward the port to this Pi in the router's settings, or set port_mapping = \"auto\"";
        match self {
            Self::NotReached => write!(
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
            Self::Refused(error) => write!(f, "Telegram refuses the webhook ({error}); run `pihook doctor`"),
            Self::Settings => f.write_str("the settings have delivery = \"polling\""),
            Self::Before(words) => f.write_str(words),
        }
    }
}

/// What the bots do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// All bots stop to poll, and set their webhooks.
    Try,
    /// All bots remove their webhooks, and poll.
    Poll(Reason),
    /// They poll already, and now the reason is known.
    Explain(Reason),
    /// Telegram reaches the webhook, so it stays.
    Reachable,
}

/// How updates come now, and when that may change.
pub(crate) struct DeliveryPolicy {
    phase: Phase,
    tries: EscalatingPause,
    hint_pause: Duration,
    /// TLS ends here, so that Telegram's first connection is seen, which comes with the set and
    /// before any update.
    sees_handshakes: bool,
    is_shared: bool,
    is_hinted: bool,
}

enum Phase {
    Webhook {
        /// Telegram has reached this Pi since the webhook was set last.
        is_reached: bool,
        /// The bots poll, for this reason, when nothing is seen until then.
        deadline: Option<(Instant, Reason)>,
    },
    Polling {
        since: Instant,
    },
}

impl DeliveryPolicy {
    /// The webhook comes first; where `is_host_known` is false, an address must be found for it.
    /// Looks at the home follow each other in `interval`.
    pub(crate) fn new(is_host_known: bool, interval: Duration, now: Instant) -> Self {
        let (first, longest) = TRY_INTERVALS;
        let deadline = if is_host_known {
            None
        } else {
            Some((now + ADDRESS_TIMEOUT, Reason::NoAddress))
        };
        Self {
            phase: Phase::Webhook {
                is_reached: false,
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
        let mut policy = Self::new(true, interval, now);
        policy.poll(now, Reason::Settings);
        policy
    }

    /// The same, where TLS ends elsewhere: only an update shows that Telegram reaches the bot, and
    /// only Telegram's own words show that it does not.
    pub(crate) fn behind_proxy(self) -> Self {
        Self {
            sees_handshakes: false,
            ..self
        }
    }

    /// Whether it would be news that Telegram reaches this Pi.
    pub(crate) fn awaits_reach(&self) -> bool {
        matches!(
            self.phase,
            Phase::Webhook {
                is_reached: false,
                ..
            }
        )
    }

    /// When to report [`Event::Time`].
    pub(crate) fn due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Webhook { deadline, .. } => deadline.as_ref().map(|(deadline, _)| *deadline),
            Phase::Polling { since } if self.is_hinted => Some(*since + self.hint_pause),
            // A provider's shared address does not open up with time.
            Phase::Polling { .. } if self.is_shared => None,
            Phase::Polling { .. } => self.tries.end(),
        }
    }

    /// Decides what to do after `event`; None when nothing changes.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) -> Option<Decision> {
        let was_shared = self.is_shared;
        self.note_home(&event);

        match self.phase {
            Phase::Webhook { .. } => self.handle_at_webhook(event, now),
            Phase::Polling { .. } if self.is_shared && !was_shared => {
                Some(Decision::Explain(Reason::SharedAddress))
            }
            Phase::Polling { .. } => {
                let is_due = self.due().is_some_and(|due| due <= now);
                if is_due || matches!(event, Event::OwnWebhook) {
                    Some(self.try_webhook(now))
                } else {
                    None
                }
            }
        }
    }

    /// Remembers what an event says of the home, for the next try of the webhook.
    fn note_home(&mut self, event: &Event) {
        match event {
            Event::SharedAddress => self.is_shared = true,
            Event::OwnAddress if self.is_shared => {
                self.is_shared = false;
                self.is_hinted = true;
            }
            Event::Hint | Event::Address => self.is_hinted = true,
            _ => {}
        }
    }

    /// Decides while the bots use the webhook.
    fn handle_at_webhook(&mut self, event: Event, now: Instant) -> Option<Decision> {
        let Phase::Webhook {
            is_reached,
            deadline,
        } = &mut self.phase
        else {
            return None;
        };

        match event {
            Event::Address if matches!(deadline, Some((_, Reason::NoAddress))) => {
                *deadline = None;
                None
            }
            Event::Set(was_reached) => {
                *is_reached = was_reached;
                *deadline = None;
                if was_reached {
                    return Some(Decision::Reachable);
                }
                // Behind a proxy no handshake can show it, and updates may come much later.
                if self.sees_handshakes {
                    *deadline = Some((now + REACH_TIMEOUT, Reason::NotReached));
                }
                None
            }
            Event::Reached if !*is_reached => {
                *is_reached = true;
                *deadline = None;
                Some(Decision::Reachable)
            }
            Event::SharedAddress if !*is_reached => Some(self.poll(now, Reason::SharedAddress)),
            Event::Time => {
                let (_, reason) = deadline.take_if(|(deadline, _)| *deadline <= now)?;
                Some(self.poll(now, reason))
            }
            event => {
                let reason = self.obstacle(event)?;
                Some(self.poll(now, reason))
            }
        }
    }

    /// The reason for which the bots poll after this event; None where it is no reason to.
    fn obstacle(&self, event: Event) -> Option<Reason> {
        match event {
            Event::Undelivered(message) if self.sees_handshakes => {
                Some(Reason::Undelivered(message))
            }
            Event::Undelivered(message) => Some(Reason::NotPassedOn(message)),
            Event::NotReached if self.sees_handshakes => Some(Reason::NotReached),
            Event::NotReached => Some(Reason::NothingPassedOn),
            Event::Refused(error) => Some(Reason::Refused(error)),
            Event::NotSet(error) => Some(Reason::NotSet(error)),
            _ => None,
        }
    }

    fn poll(&mut self, now: Instant, reason: Reason) -> Decision {
        self.tries.begin(now);
        self.is_hinted = false;
        self.phase = Phase::Polling { since: now };
        Decision::Poll(if self.is_shared {
            Reason::SharedAddress
        } else {
            reason
        })
    }

    fn try_webhook(&mut self, now: Instant) -> Decision {
        self.is_hinted = false;
        self.phase = Phase::Webhook {
            is_reached: false,
            deadline: Some((now + SET_TIMEOUT, Reason::NotReached)),
        };
        Decision::Try
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);
    const MINUTE: u64 = 60;

    struct Scene {
        start: Instant,
        policy: DeliveryPolicy,
    }

    impl Scene {
        fn new(is_host_known: bool) -> Self {
            let start = Instant::now();
            Self {
                start,
                policy: DeliveryPolicy::new(is_host_known, INTERVAL, start),
            }
        }

        /// One that polls since its first second.
        fn polling() -> Self {
            let mut scene = Self::new(true);
            assert_eq!(
                scene.handle(0, Event::Undelivered("x".into())),
                Some(Decision::Poll(Reason::Undelivered("x".into())))
            );
            scene
        }

        fn handle(&mut self, second: u64, event: Event) -> Option<Decision> {
            self.policy
                .handle(event, self.start + Duration::from_secs(second))
        }

        fn due(&self) -> Option<u64> {
            self.policy.due().map(|due| (due - self.start).as_secs())
        }
    }

    fn polls(reason: Reason) -> Option<Decision> {
        Some(Decision::Poll(reason))
    }

    #[test]
    fn not_reached_in_10_s_after_the_set_the_bots_poll() {
        let mut scene = Scene::new(true);
        assert_eq!(
            scene.due(),
            None,
            "while the Bot API cannot be reached there is nothing to poll"
        );
        assert_eq!(scene.handle(5, Event::Set(false)), None);
        assert_eq!((scene.due(), scene.policy.awaits_reach()), (Some(15), true));
        assert_eq!(scene.handle(14, Event::Time), None);
        assert_eq!(scene.handle(15, Event::Time), polls(Reason::NotReached));
        assert_eq!(scene.handle(16, Event::Time), None);
    }

    #[test]
    fn behind_a_proxy_only_an_error_is_a_reason_to_poll() {
        let mut scene = Scene::new(true);
        scene.policy = scene.policy.behind_proxy();
        assert_eq!(
            (scene.handle(1, Event::Set(false)), scene.due()),
            (None, None)
        );
        assert_eq!(scene.handle(10_000, Event::Time), None);
        assert_eq!(
            scene.handle(10_001, Event::Reached),
            Some(Decision::Reachable)
        );
        assert_eq!(
            scene.handle(10_002, Event::Undelivered("502".into())),
            polls(Reason::NotPassedOn("502".into()))
        );
        // A test shows it, too.
        let mut silent = Scene::new(true);
        silent.policy = silent.policy.behind_proxy();
        assert_eq!(
            silent.handle(1, Event::NotReached),
            polls(Reason::NothingPassedOn)
        );
        // It is tried again, and believed until the next error.
        assert_eq!(scene.handle(10_602, Event::Time), Some(Decision::Try));
        assert_eq!(
            (
                scene.due(),
                scene.handle(10_603, Event::Set(false)),
                scene.due()
            ),
            (Some(10_662), None, None)
        );
    }

    #[test]
    fn a_webhook_is_reachable_from_the_first_call_until_it_is_set_again() {
        let mut scene = Scene::new(true);
        assert_eq!(scene.handle(1, Event::Set(false)), None);
        assert_eq!(scene.handle(2, Event::Reached), Some(Decision::Reachable));
        assert_eq!(
            (
                scene.handle(3, Event::Reached),
                scene.due(),
                scene.policy.awaits_reach()
            ),
            (None, None, false)
        );
        assert_eq!(scene.handle(100, Event::Time), None);
        // The next bot's, which Telegram called before it answered.
        assert_eq!(
            (scene.handle(101, Event::Set(true)), scene.due()),
            (Some(Decision::Reachable), None)
        );
        // A repair that does not help.
        assert_eq!(scene.handle(200, Event::Set(false)), None);
        assert_eq!(scene.handle(210, Event::Time), polls(Reason::NotReached));
    }

    #[test]
    fn an_undelivered_update_or_a_refused_set_makes_a_reachable_webhook_poll() {
        for (event, reason) in [
            (
                Event::Undelivered("no".into()),
                Reason::Undelivered("no".into()),
            ),
            (Event::NotReached, Reason::NotReached),
            (Event::Refused("no".into()), Reason::Refused("no".into())),
            (Event::NotSet("no".into()), Reason::NotSet("no".into())),
        ] {
            let mut scene = Scene::new(true);
            scene.handle(1, Event::Set(true));
            assert_eq!(scene.handle(1000, event.clone()), polls(reason));
            assert_eq!(scene.handle(1001, event), None, "they poll already");
        }
    }

    #[test]
    fn without_an_address_in_20_s_the_bots_poll() {
        let mut scene = Scene::new(false);
        assert_eq!(scene.due(), Some(20));
        assert_eq!(scene.handle(20, Event::Time), polls(Reason::NoAddress));
        // Found at last; not at once after the last change.
        assert_eq!(
            (scene.handle(21, Event::Address), scene.due()),
            (None, Some(80))
        );
        assert_eq!(scene.handle(80, Event::Time), Some(Decision::Try));

        let mut scene = Scene::new(false);
        assert_eq!(
            (scene.handle(19, Event::Address), scene.due()),
            (None, None)
        );
        assert_eq!(scene.handle(20, Event::Set(false)), None);
        assert_eq!(
            (scene.handle(21, Event::Address), scene.due()),
            (None, Some(30)),
            "an address changes no other deadline"
        );
    }

    #[test]
    fn behind_a_shared_address_only_a_hint_leads_back_to_the_webhook() {
        let mut scene = Scene::new(false);
        assert_eq!(
            scene.handle(1, Event::SharedAddress),
            polls(Reason::SharedAddress)
        );
        assert_eq!(scene.due(), None);
        assert_eq!(scene.handle(86400, Event::Time), None);
        assert_eq!(
            scene.handle(86401, Event::SharedAddress),
            None,
            "that is no news"
        );
        assert_eq!(scene.handle(86402, Event::OwnAddress), Some(Decision::Try));
        assert_eq!(scene.handle(86403, Event::OwnAddress), None);
        // Where Telegram reaches this Pi all the same, the webhook stays.
        let mut scene = Scene::new(true);
        scene.handle(1, Event::Set(true));
        assert_eq!(scene.handle(2, Event::SharedAddress), None);
        assert_eq!(
            scene.handle(3, Event::Undelivered("x".into())),
            polls(Reason::SharedAddress),
            "the reason that lasts"
        );
    }

    #[test]
    fn a_shared_address_found_while_polling_is_explained() {
        let mut scene = Scene::polling();
        assert_eq!(
            scene.handle(5, Event::SharedAddress),
            Some(Decision::Explain(Reason::SharedAddress))
        );
        assert_eq!(
            (scene.handle(6, Event::SharedAddress), scene.due()),
            (None, None)
        );
    }

    #[test]
    fn the_webhook_is_tried_again_at_growing_intervals() {
        let mut scene = Scene::polling();
        let mut tries = Vec::new();
        let mut second = 0;
        while second < 3 * 86400 {
            second = scene.due().unwrap();
            assert_eq!(scene.handle(second - 1, Event::Time), None);
            if scene.handle(second, Event::Time) == Some(Decision::Try) {
                tries.push(second / MINUTE);
                assert_eq!(scene.handle(second, Event::Set(false)), None);
            }
        }
        assert_eq!(tries[..7], [10, 30, 70, 150, 310, 630, 991]);
        assert!(
            tries.windows(2).all(|pair| pair[1] - pair[0] <= 361),
            "{tries:?}"
        );
    }

    #[test]
    fn a_hint_is_followed_once_and_a_minute_after_the_last_try() {
        let mut scene = Scene::polling();
        assert_eq!(
            (scene.handle(5, Event::Hint), scene.due()),
            (None, Some(60))
        );
        assert_eq!(scene.handle(59, Event::Hint), None);
        assert_eq!(scene.handle(60, Event::Time), Some(Decision::Try));
        // What is hinted at during the try is known by its end.
        assert_eq!(scene.handle(61, Event::Hint), None);
        assert_eq!(scene.handle(62, Event::Set(false)), None);
        assert_eq!(scene.handle(72, Event::Time), polls(Reason::NotReached));
        assert_eq!(scene.handle(73, Event::Time), None);
        assert_eq!(scene.handle(200, Event::Hint), Some(Decision::Try));
        assert_eq!(scene.handle(201, Event::Reached), Some(Decision::Reachable));
    }

    #[test]
    fn a_try_that_cannot_set_the_webhook_ends_in_polling() {
        let mut scene = Scene::polling();
        assert_eq!(scene.handle(100, Event::Hint), Some(Decision::Try));
        assert_eq!(scene.due(), Some(160));
        assert_eq!(scene.handle(160, Event::Time), polls(Reason::NotReached));
    }

    #[test]
    fn our_own_webhook_set_by_somebody_is_tried_at_once() {
        let mut scene = Scene::polling();
        assert_eq!(scene.handle(1, Event::OwnWebhook), Some(Decision::Try));
        assert_eq!(scene.handle(2, Event::OwnWebhook), None);
    }

    #[test]
    fn bots_that_polled_before_the_start_go_on_polling() {
        let start = Instant::now();
        let policy = DeliveryPolicy::polling(INTERVAL, start);
        assert!(!policy.awaits_reach());
        assert_eq!(policy.due(), Some(start + 2 * INTERVAL));
    }

    #[test]
    fn each_reason_to_poll_says_what_to_do() {
        for (reason, words) in [
            (Reason::NotReached, "forward the port"),
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
