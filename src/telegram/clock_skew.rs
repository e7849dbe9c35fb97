//! The skew of this machine's clock. Most Raspberry Pis have no clock that runs without power.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::CertificateError::{ExpiredContext, NotValidYetContext};

use crate::system::clock::in_words;
use crate::system::log_limit::LogLimit;

/// A skew up to this does no harm: the dates of certificates leave more room.
const TOLERATED_SKEW: Duration = Duration::from_secs(120);

static SKEW_LINE: LogLimit = LogLimit::new(1);

/// Warns if this machine's clock differs much from the `Date` of the Bot API's answer.
pub(crate) fn warn_if_off(date: &str) {
    if let Some(off) = skew(date, SystemTime::now()) {
        SKEW_LINE.warn(format_args!(
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

/// The difference between this machine's time `now` and a `Date`, in words; None when it does no
/// harm.
pub(crate) fn skew(date: &str, now: SystemTime) -> Option<String> {
    let date = httpdate::parse_http_date(date).ok()?;
    let off = distance(now, date)?;
    if off <= TOLERATED_SKEW {
        return None;
    }
    let side = if now < date { "behind" } else { "ahead of" };
    Some(format!("{} {side} Telegram's clock", words(off)))
}

/// The reason why a server's certificate failed, if this machine's clock may be the cause.
pub(crate) fn explain(error: &rustls::Error) -> Option<String> {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return None;
    };
    let (now, limit, fault) = match reason {
        NotValidYetContext { time, not_before } => (time, not_before, "not valid yet"),
        ExpiredContext { time, not_after } => (time, not_after, "expired"),
        _ => return None,
    };

    let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
    let limit = UNIX_EPOCH + Duration::from_secs(limit.as_secs());
    let off = words(distance(now, limit)?);
    let date = httpdate::fmt_http_date(now);
    Some(format!(
        "the server's certificate is {fault} if this machine's clock is right ({date}): probably the clock is wrong by \
         {off} or more; set the clock: sudo timedatectl set-ntp true"
    ))
}

/// The time between two times, in whichever order.
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
    fn a_skew_of_the_clock_is_said_in_words() {
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
        let reason = NotValidYetContext {
            time: time(100),
            not_before: time(1_700_000_000),
        };
        let text = explain(&rustls::Error::InvalidCertificate(reason)).unwrap();
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
