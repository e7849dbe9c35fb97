//! The skew of this machine's clock: a Raspberry Pi has no clock that runs without power.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::CertificateError::{ExpiredContext, NotValidYetContext};

use crate::system::clock::in_words;
use crate::system::log_limit::LogLimit;

/// A smaller skew does no harm: a certificate's dates have more room.
const TOLERATED_SKEW: Duration = Duration::from_secs(120);

static OFF: LogLimit = LogLimit::new(1);

/// Warns if the clock and the Bot API's, as the `Date` of an answer has it, are far apart.
pub(crate) fn warn_if_off(date: &str) {
    if let Some(off) = skew(date, SystemTime::now()) {
        OFF.warn(format_args!(
            "The clock is {off}. Set the clock: sudo timedatectl set-ntp true"
        ));
    }
}

/// Seconds by which the other clock, as a `Date` has it, is ahead of ours; below 0 where it is
/// behind.
pub(crate) fn ahead(date: &str, now: SystemTime) -> Option<i64> {
    let date = httpdate::parse_http_date(date).ok()?;
    let seconds = i64::try_from(distance(date, now)?.as_secs()).ok()?;
    Some(if date < now { -seconds } else { seconds })
}

/// How far the clock is from a `Date`; None when that does no harm.
pub(crate) fn skew(date: &str, now: SystemTime) -> Option<String> {
    let date = httpdate::parse_http_date(date).ok()?;
    let off = distance(now, date).filter(|off| *off > TOLERATED_SKEW)?;
    let side = if now < date { "behind" } else { "ahead of" };
    Some(format!("{} {side} Telegram's clock", words(off)))
}

/// What [`explain`] says of the clock.
pub(crate) const WRONG: &str = "the clock is wrong";

/// Why a certificate failed, if the clock may be the cause.
pub(crate) fn explain(error: &rustls::Error) -> Option<String> {
    let rustls::Error::InvalidCertificate(why) = error else {
        return None;
    };
    let (now, limit, word) = match why {
        NotValidYetContext { time, not_before } => (time, not_before, "not valid yet"),
        ExpiredContext { time, not_after } => (time, not_after, "expired"),
        _ => return None,
    };
    let [now, limit] = [now, limit].map(|time| UNIX_EPOCH + Duration::from_secs(time.as_secs()));
    let (off, date) = (words(distance(now, limit)?), httpdate::fmt_http_date(now));
    Some(format!(
        "the server's certificate is {word} if this machine's clock is right ({date}): probably {WRONG} by \
         {off} or more; set the clock: sudo timedatectl set-ntp true"
    ))
}

fn distance(a: SystemTime, b: SystemTime) -> Option<Duration> {
    a.duration_since(b).or_else(|_| b.duration_since(a)).ok()
}

fn words(time: Duration) -> String {
    in_words(time, ["s", "min", "h", "days"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much() {
        let now = |seconds: u64| UNIX_EPOCH + Duration::from_secs(784_111_777 + seconds);
        let say = |seconds: u64| skew("Sun, 06 Nov 1994 08:49:37 GMT", now(seconds));
        assert_eq!(say(0), None);
        assert_eq!(say(120), None);
        assert!(say(3600 * 5).unwrap().contains("5 h ahead of Telegram"));
        assert!(
            skew("Sun, 06 Nov 1994 08:49:37 GMT", UNIX_EPOCH)
                .unwrap()
                .contains("9075 days behind Telegram")
        );
        assert_eq!(skew("yesterday", now(0)), None);
        let ahead = |now| ahead("Sun, 06 Nov 1994 08:49:37 GMT", now);
        assert_eq!(
            (ahead(now(0)), ahead(now(5)), ahead(UNIX_EPOCH)),
            (Some(0), Some(-5), Some(784_111_777))
        );
    }

    #[test]
    fn a_clock_from_1970_is_blamed_for_a_certificate_of_today() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let why = NotValidYetContext {
            time: time(100),
            not_before: time(1_700_000_000),
        };
        let text = explain(&rustls::Error::InvalidCertificate(why)).unwrap();
        assert!(
            text.contains(
                "not valid yet if this machine's clock is right (Thu, 01 Jan 1970 00:01:40 GMT)"
            ),
            "{text}"
        );
        assert!(text.contains("wrong by 19675 days or more"), "{text}");
        assert_eq!(
            explain(&rustls::Error::InvalidCertificate(
                rustls::CertificateError::UnknownIssuer
            )),
            None
        );
        assert_eq!(explain(&rustls::Error::DecryptError), None);
    }
}
