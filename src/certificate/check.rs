//! Holds a certificate against what Telegram checks, and says when to renew it.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::CertificateError;
use super::load::Certificate;

/// When this version was made, 2026-11-24: a clock that says less is wrong.
pub(super) const RELEASE_TIME: Duration = Duration::from_secs(1_795_478_400);
/// Before its end, a certificate of ours is renewed; or after two thirds of its life, if that is later.
const RENEWAL_LEAD_TIME: Duration = Duration::from_secs(30 * 86400);
/// A clock that is further ahead of [`RELEASE_TIME`] than 25 years is not believed.
const CLOCK_RANGE: Duration = Duration::from_secs(25 * 365 * 86400);

impl Certificate {
    /// Checks all that Telegram will check when it calls `host`, at the time `now`. Telegram itself does not say which check
    /// failed: "certificate verify failed" is all that its users ever see.
    ///
    /// # Errors
    /// The first thing that it would refuse.
    pub fn check(&self, host: &str, now: SystemTime) -> Result<(), CertificateError> {
        if !self.serves_tls {
            return Err(CertificateError::Purpose);
        }
        self.check_name(host)?;
        if now > self.not_after {
            let past = now.duration_since(self.not_after).unwrap_or_default();
            return Err(CertificateError::Expired(past.as_secs() / 86400));
        }
        // Last, since here it may be the clock that is wrong.
        if now < self.not_before { Err(CertificateError::NotYetValid) } else { Ok(()) }
    }

    /// Telegram checks an uploaded certificate's name as a host name even when it is an address
    /// (tdlib/td, `SslStream::init`), and OpenSSL takes the common name only where no DNS name is.
    fn check_name(&self, host: &str) -> Result<(), CertificateError> {
        let names = if self.dns_names.is_empty() { &self.common_names } else { &self.dns_names };
        let (found, rule) = match host.parse::<Ipv4Addr>() {
            Ok(address) if !self.self_signed => {
                (self.addresses.contains(&address.into()), "it must be an IP address of the subject alternative name")
            }
            _ => (
                names.iter().any(|name| covers(name, host)),
                "it must be the common name (CN), and no other DNS name may be in it",
            ),
        };
        if found { Ok(()) } else { Err(CertificateError::Name(host.into(), rule)) }
    }

    /// The last second that it is good for.
    pub(crate) fn end(&self) -> SystemTime {
        self.not_after
    }

    /// Whether it names `host`, and will do so for long enough.
    pub(crate) fn is_good_for(&self, host: &str, now: SystemTime) -> bool {
        self.names(host) && !self.renewal(now).is_zero()
    }

    /// Whether Telegram finds `host` in it.
    pub(crate) fn names(&self, host: &str) -> bool {
        self.check_name(host).is_ok()
    }

    /// How long it is until it should be renewed: nothing when it is time. A clock from before this version
    /// says nothing, nor does one from long after.
    #[must_use]
    pub fn renewal(&self, now: SystemTime) -> Duration {
        if now < UNIX_EPOCH + RELEASE_TIME || now > UNIX_EPOCH + RELEASE_TIME + CLOCK_RANGE {
            return RENEWAL_LEAD_TIME;
        }
        // Made by a clock that was ahead, it is of no use either.
        if now < self.not_before {
            return Duration::ZERO;
        }
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        (self.not_after - RENEWAL_LEAD_TIME.min(life / 3)).duration_since(now).unwrap_or_default()
    }
}

/// OpenSSL's rule for host names: letters of either case, and one `*` as the whole first label.
fn covers(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(parent), Some((first, rest))) = (pattern.strip_prefix("*."), host.split_once('.')) else { return false };
    host.parse::<Ipv4Addr>().is_err() && !first.is_empty() && parent.contains('.') && parent.eq_ignore_ascii_case(rest)
}
