//! The health of a registered webhook, by what Telegram says of it. Pure.

use std::fmt;
use std::mem;
use std::time::Instant;

use super::token_conflict::TokenConflict;
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

/// How a webhook is, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is wrong.
    Well,
    /// The webhook is to be set again, for this reason.
    Repair(String),
    /// Something is wrong that another set cannot help now.
    Problem(Problem),
}

/// What a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What is wrong.
    pub(crate) words: String,
    /// Whether Telegram's calls do not reach the bot.
    pub(crate) is_unreachable: bool,
}

/// What is remembered from one look to the next.
#[derive(Default)]
pub(crate) struct Health {
    /// The error that Telegram showed at the last look.
    last_error: DeliveryError,
    /// How many updates waited then.
    pending: u64,
    /// What a person was told of, until it is over.
    problem: Option<Problem>,
}

/// An error's date, and Telegram's words.
type DeliveryError = (Option<i64>, Option<String>);

fn last_error(info: &WebhookInfo) -> DeliveryError {
    (info.last_error_date, info.last_error_message.clone())
}

impl Health {
    /// The webhook was found as it should be. Its last error is over, unless updates still wait.
    pub(crate) fn found(&mut self, info: &WebhookInfo) {
        if info.pending_update_count == 0 {
            self.last_error = last_error(info);
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
        agrees: Result<(), Difference>,
        fault: Option<&str>,
        conflict: &mut TokenConflict,
        now: Instant,
    ) -> Verdict {
        let error = last_error(info);
        let is_error_new = error != self.last_error;
        self.last_error = error;
        let was_pending = mem::replace(&mut self.pending, info.pending_update_count);

        if let Err(difference) = agrees {
            let is_foreign = is_of_another_program(difference);
            return self.repair(difference.to_string(), is_foreign, conflict, now);
        }
        conflict.resolved();

        let message = match &info.last_error_message {
            Some(message) if is_error_new => message,
            _ => return self.assess_pending(info.pending_update_count, was_pending),
        };
        let kind = delivery_error::explain(message).map(|explanation| explanation.kind);
        match (kind, fault) {
            // The same certificate again would be refused again.
            (Some(Kind::Certificate), Some(fault)) => {
                let words = format!(
                    "Telegram could not deliver an update: \"{message}\": {}",
                    fault.trim_end_matches('.')
                );
                self.problem(words, false)
            }
            (Some(Kind::Certificate), None) => {
                self.repair(undelivered(message), false, conflict, now)
            }
            (kind, _) => self.problem(undelivered(message), kind == Some(Kind::Unreachable)),
        }
    }

    /// Assesses the updates that wait, where Telegram tells no new error.
    fn assess_pending(&mut self, pending: u64, was_pending: u64) -> Verdict {
        if pending == 0 {
            // What waited has been delivered since.
            self.problem = None;
            return Verdict::Well;
        }
        if let Some(problem) = &self.problem {
            return Verdict::Problem(problem.clone());
        }

        // Many that come at once are a burst. Only a number that grows is a backlog.
        let is_growing = was_pending > 0 && pending > was_pending;
        if pending < BACKLOG || !is_growing {
            return Verdict::Well;
        }
        let words = format!(
            "{pending} updates wait at Telegram, and the number grows: run `pihook doctor`"
        );
        self.problem(words, false)
    }

    /// Has the webhook set again, where the pauses between repairs allow it now.
    fn repair(
        &mut self,
        reason: String,
        is_foreign: bool,
        conflict: &mut TokenConflict,
        now: Instant,
    ) -> Verdict {
        if conflict.may_repair(is_foreign, now) {
            return Verdict::Repair(reason);
        }
        let advice = if is_foreign {
            "; only one program can use a token: stop the other program, or give it a token of its own"
        } else {
            ""
        };
        let words = format!("{reason}, again{advice}; pihook sets the webhook again later");
        self.problem(words, false)
    }

    fn problem(&mut self, words: String, is_unreachable: bool) -> Verdict {
        let problem = Problem {
            words,
            is_unreachable,
        };
        self.problem = Some(problem.clone());
        Verdict::Problem(problem)
    }
}

/// Whether another program sets this webhook, too.
fn is_of_another_program(difference: Difference) -> bool {
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

    fn scene() -> (Instant, Health, TokenConflict) {
        (
            Instant::now(),
            Health::default(),
            TokenConflict::new(INTERVAL),
        )
    }

    #[test]
    fn a_delivery_error_is_a_problem_while_it_is_new_or_updates_wait() {
        let (now, mut health, mut conflict) = scene();
        let mut assess =
            |pending, error| health.assess(&info(pending, error), Ok(()), None, &mut conflict, now);
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
    fn a_delivery_error_from_before_the_start_is_no_problem() {
        let old = info(0, Some((1000, "Connection refused")));
        let (now, mut health, mut conflict) = scene();
        health.found(&old);
        assert_eq!(
            health.assess(&old, Ok(()), None, &mut conflict, now),
            Verdict::Well
        );
    }

    #[test]
    fn a_growing_backlog_is_a_problem() {
        let (now, mut health, mut conflict) = scene();
        let mut assess =
            |pending| health.assess(&info(pending, None), Ok(()), None, &mut conflict, now);
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
        let (start, mut health, mut conflict) = scene();
        // Somebody takes it again at once, all day long, and it is looked at every 5 min.
        let mut repairs = Vec::new();
        for minute in (0..24 * 60).step_by(5) {
            let now = start + Duration::from_secs(minute * 60);
            match health.assess(
                &info(0, None),
                Err(Difference::Other),
                None,
                &mut conflict,
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
                Err(Difference::Missing),
                None,
                &mut conflict,
                later
            ),
            Verdict::Repair(_)
        ));
        let soon = later + 2 * INTERVAL;
        assert!(matches!(
            health.assess(
                &info(0, None),
                Err(Difference::Missing),
                None,
                &mut conflict,
                soon
            ),
            Verdict::Repair(_)
        ));
    }

    #[test]
    fn a_certificate_with_a_known_fault_is_not_uploaded_again() {
        let (now, mut health, mut conflict) = scene();
        let failed = "SSL error {error:0A000086:SSL routines::certificate verify failed}";
        let fault = Some("its issuer has expired.");
        for date in [1000, 1001, 1001] {
            let verdict = health.assess(
                &info(1, Some((date, failed))),
                Ok(()),
                fault,
                &mut conflict,
                now,
            );
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
            health.assess(
                &info(0, Some((1001, failed))),
                Ok(()),
                fault,
                &mut conflict,
                now
            ),
            Verdict::Well
        );
    }

    #[test]
    fn a_refused_certificate_is_uploaded_again_once() {
        let (now, mut health, mut conflict) = scene();
        let failed = "SSL error {error:0A000086:SSL routines::certificate verify failed}";
        assert!(matches!(
            health.assess(
                &info(1, Some((1000, failed))),
                Ok(()),
                None,
                &mut conflict,
                now
            ),
            Verdict::Repair(_)
        ));
        health.set();
        let again = health.assess(
            &info(1, Some((1001, failed))),
            Ok(()),
            None,
            &mut conflict,
            now + INTERVAL,
        );
        assert!(
            matches!(again, Verdict::Problem(Problem { words, is_unreachable: false }) if words.contains("again; pihook sets the webhook again later"))
        );
    }
}
