//! The health of a registered webhook, by what Telegram says of it. Pure.

use std::fmt;
use std::time::Instant;

use super::token_conflict::{Contest, STOP_OTHER};
use crate::telegram::delivery_error::{self, Kind};
use crate::telegram::types::WebhookInfo;

/// Fewer waiting updates than these are no backlog.
const BACKLOG: u64 = 20;

/// How the webhook that Telegram has differs from the one that we want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// There is none.
    Missing,
    /// It has another URL.
    Other,
    /// A certificate was uploaded with it and should not have been, or the other way round.
    Certificate,
    /// It has other `allowed_updates` or another `max_connections`.
    Settings,
    /// It has another secret.
    Secret,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the webhook was removed",
            Self::Other => "another program, or an earlier run of this bot, has set another webhook",
            Self::Certificate => "the webhook was set without the right certificate",
            Self::Settings => "another program has set the webhook with different allowed_updates or max_connections",
            Self::Secret => "another program has set the webhook with a different secret",
        })
    }
}

/// A judgement of a webhook, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is wrong.
    Well,
    /// The webhook is to be set again, for this reason.
    Repair(String),
    /// Telegram does not deliver, or has another webhook.
    Problem(Problem),
}

/// What a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What is wrong.
    pub(crate) words: String,
    /// Whether Telegram's calls do not arrive.
    pub(crate) is_unreachable: bool,
}

/// What is remembered from one look to the next.
#[derive(Default)]
pub(crate) struct Health {
    /// The error that was told last.
    last_error: DeliveryError,
    pending: u64,
    problem: Option<Problem>,
}

/// An error's date, and Telegram's words.
type DeliveryError = (Option<i64>, Option<String>);

fn error(info: &WebhookInfo) -> DeliveryError {
    (info.last_error_date, info.last_error_message.clone())
}

impl Health {
    /// The webhook was found as it should be. What went wrong before is over, unless something
    /// still waits.
    pub(crate) fn found(&mut self, info: &WebhookInfo) {
        if info.pending_update_count == 0 {
            self.last_error = error(info);
        }
    }

    /// The webhook was set, and with the old one its errors are gone.
    pub(crate) fn set(&mut self) {
        self.last_error = (None, None);
        self.problem = None;
    }

    /// Whether a person was told of a problem that is not over.
    pub(crate) fn has_problem(&self) -> bool {
        self.problem.is_some()
    }

    /// Assesses what Telegram says at `now`; `agrees` is whether the webhook is the one that we
    /// set, and `fault` what our own check finds wrong with its certificate.
    pub(crate) fn assess(
        &mut self,
        info: &WebhookInfo,
        (agrees, fault): (Result<(), Difference>, Option<&str>),
        contest: &mut Contest,
        now: Instant,
    ) -> Verdict {
        let last = error(info);
        let message = info
            .last_error_message
            .as_deref()
            .filter(|_| last != self.last_error);
        self.last_error = last;
        let was_pending = std::mem::replace(&mut self.pending, info.pending_update_count);
        if let Err(difference) = agrees {
            return self.repair(
                difference.to_string(),
                is_contested(difference),
                contest,
                now,
            );
        }
        contest.won();
        let explained = message.and_then(delivery_error::explain);
        let is_certificate =
            explained.is_some_and(|explanation| explanation.kind == Kind::Certificate);
        if let (true, Some(message), Some(fault)) = (is_certificate, message, fault) {
            // The same certificate again would be refused again.
            let words = format!(
                "Telegram could not deliver an update: \"{message}\": {}",
                fault.trim_end_matches('.')
            );
            self.problem = Some(Problem {
                words,
                is_unreachable: false,
            });
        } else if is_certificate {
            return self.repair(
                undelivered(message.unwrap_or_default()),
                false,
                contest,
                now,
            );
        } else if let Some(message) = message {
            let is_unreachable =
                explained.is_some_and(|explanation| explanation.kind == Kind::Unreachable);
            self.problem = Some(Problem {
                words: undelivered(message),
                is_unreachable,
            });
        } else if info.pending_update_count == 0 {
            // What waited has been delivered since.
            self.problem = None;
        } else if self.problem.is_none()
            && info.pending_update_count >= BACKLOG.max(was_pending + 1)
            && was_pending > 0
        {
            let words = format!(
                "{} updates wait at Telegram, and the number grows: run `pihook doctor`",
                info.pending_update_count
            );
            self.problem = Some(Problem {
                words,
                is_unreachable: false,
            });
        }
        self.problem.clone().map_or(Verdict::Well, Verdict::Problem)
    }

    fn repair(
        &mut self,
        why: String,
        is_contested: bool,
        contest: &mut Contest,
        now: Instant,
    ) -> Verdict {
        if contest.may_repair(is_contested, now) {
            return Verdict::Repair(why);
        }
        let advice = if is_contested {
            format!("; only one program can use a token: {STOP_OTHER}")
        } else {
            String::new()
        };
        let words = format!("{why}, again{advice}; pihook sets the webhook again later");
        let problem = self.problem.insert(Problem {
            words,
            is_unreachable: false,
        });
        Verdict::Problem(problem.clone())
    }
}

/// Whether another program sets this webhook, too.
fn is_contested(difference: Difference) -> bool {
    match difference {
        Difference::Other | Difference::Settings | Difference::Secret => true,
        Difference::Missing | Difference::Certificate => false,
    }
}

fn undelivered(message: &str) -> String {
    format!(
        "Telegram could not deliver an update: {}",
        delivery_error::sentence(message)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const INTERVAL: Duration = Duration::from_secs(300);

    fn info(pending: u64, error: Option<(i64, &str)>) -> WebhookInfo {
        WebhookInfo {
            url: "https://80.100.95.20:8443/".into(),
            has_custom_certificate: true,
            pending_update_count: pending,
            ip_address: None,
            last_error_date: error.map(|(date, _)| date),
            last_error_message: error.map(|(_, message)| message.into()),
            max_connections: None,
            allowed_updates: None,
        }
    }

    fn scene() -> (Instant, Health, Contest) {
        (Instant::now(), Health::default(), Contest::new(INTERVAL))
    }

    #[test]
    fn an_error_is_told_while_it_is_news_or_something_waits() {
        let (now, mut health, mut contest) = scene();
        let mut assess = |pending, error| {
            health.assess(&info(pending, error), (Ok(()), None), &mut contest, now)
        };
        let timeout = Some((1000, "Connection timed out"));
        assert_eq!(assess(0, None), Verdict::Well);
        assert!(
            matches!(assess(3, timeout), Verdict::Problem(Problem { words, is_unreachable: true }) if words.contains("forward the port"))
        );
        assert!(
            matches!(
                assess(3, timeout),
                Verdict::Problem(Problem {
                    is_unreachable: true,
                    ..
                })
            ),
            "it still waits"
        );
        assert_eq!(
            assess(0, timeout),
            Verdict::Well,
            "it was delivered, though Telegram still shows the error"
        );
        assert!(matches!(
            assess(0, Some((1001, "Connection timed out"))),
            Verdict::Problem(_)
        ));
    }

    #[test]
    fn what_went_wrong_before_the_start_is_no_news() {
        let old = info(0, Some((1000, "Connection refused")));
        let (now, mut health, mut contest) = scene();
        health.found(&old);
        assert_eq!(
            health.assess(&old, (Ok(()), None), &mut contest, now),
            Verdict::Well
        );
    }

    #[test]
    fn a_pile_that_grows_is_told() {
        let (now, mut health, mut contest) = scene();
        let mut assess =
            |pending| health.assess(&info(pending, None), (Ok(()), None), &mut contest, now);
        assert_eq!(
            [assess(10), assess(19), assess(0), assess(500)],
            [const { Verdict::Well }; 4],
            "500 at once are a burst"
        );
        assert!(
            matches!(assess(501), Verdict::Problem(Problem { words, is_unreachable: false }) if words.contains("501 updates wait"))
        );
        assert!(matches!(assess(400), Verdict::Problem(_)));
        assert_eq!(assess(0), Verdict::Well);
    }

    #[test]
    fn two_programs_do_not_fight_over_a_webhook() {
        let (start, mut health, mut contest) = scene();
        // Somebody takes it again at once, all day long, and it is looked at every 5 min.
        let mut repairs = Vec::new();
        for minute in (0..24 * 60).step_by(5) {
            let now = start + Duration::from_secs(minute * 60);
            match health.assess(
                &info(0, None),
                (Err(Difference::Other), None),
                &mut contest,
                now,
            ) {
                Verdict::Repair(_) => repairs.push(minute),
                Verdict::Problem(Problem {
                    words,
                    is_unreachable: false,
                }) => {
                    assert!(words.contains("a token of its own"), "{words}");
                }
                verdict => panic!("{verdict:?}"),
            }
        }
        assert_eq!(repairs, [0, 10, 30, 70, 150, 310, 630, 990, 1350]);
        // Once it is left alone for long, the next time is like the first.
        let later = start + Duration::from_secs(10 * 86400);
        assert!(matches!(
            health.assess(
                &info(0, None),
                (Err(Difference::Missing), None),
                &mut contest,
                later
            ),
            Verdict::Repair(_)
        ));
        let soon = later + 2 * INTERVAL;
        assert!(matches!(
            health.assess(
                &info(0, None),
                (Err(Difference::Missing), None),
                &mut contest,
                soon
            ),
            Verdict::Repair(_)
        ));
    }

    #[test]
    fn a_certificate_that_is_known_to_be_refused_is_not_uploaded_again() {
        let (now, mut health, mut contest) = scene();
        let failed = "SSL error {error:0A000086:SSL routines::certificate verify failed}";
        let fault = (Ok(()), Some("its issuer has expired."));
        for date in [1000, 1001, 1001] {
            let verdict = health.assess(&info(1, Some((date, failed))), fault, &mut contest, now);
            let Verdict::Problem(Problem {
                words,
                is_unreachable: false,
            }) = verdict
            else {
                panic!("{verdict:?}")
            };
            assert_eq!(
                words,
                format!(
                    "Telegram could not deliver an update: \"{failed}\": its issuer has expired"
                )
            );
        }
        assert_eq!(
            health.assess(&info(0, Some((1001, failed))), fault, &mut contest, now),
            Verdict::Well
        );
    }

    #[test]
    fn a_wrong_certificate_is_uploaded_again_but_not_for_ever() {
        let (now, mut health, mut contest) = scene();
        let failed = "SSL error {error:0A000086:SSL routines::certificate verify failed}";
        assert!(matches!(
            health.assess(
                &info(1, Some((1000, failed))),
                (Ok(()), None),
                &mut contest,
                now
            ),
            Verdict::Repair(_)
        ));
        health.set();
        let again = health.assess(
            &info(1, Some((1001, failed))),
            (Ok(()), None),
            &mut contest,
            now + INTERVAL,
        );
        assert!(
            matches!(again, Verdict::Problem(Problem { words, is_unreachable: false }) if words.contains("again; pihook sets the webhook again later"))
        );
    }
}
