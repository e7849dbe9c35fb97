//! Holds a certificate against what Telegram checks, and says when to renew it.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::chain::Path;
use super::error::{CertificateError, NameRule};
use super::load::Certificate;
use super::x509::X509;
use crate::system::ca_roots;

/// When this version was made, 2026-11-24: a clock that says less is wrong.
pub(super) const RELEASE_TIME: Duration = Duration::from_secs(1_795_478_400);
/// Before its end, a certificate of ours is renewed; or after two thirds of its life, if that is
/// later.
const RENEWAL_LEAD_TIME: Duration = Duration::from_secs(30 * 86400);
/// A clock that is further ahead of [`RELEASE_TIME`] than 25 years is not believed.
const CLOCK_RANGE: Duration = Duration::from_secs(25 * 365 * 86400);

impl Certificate {
    /// Checks all that Telegram will check when it calls `host`, at the time `now`. Telegram itself
    /// does not say which check failed: "certificate verify failed" is all that its users ever see.
    /// Returns what cannot be known here, a sentence each.
    ///
    /// # Errors
    /// The first thing that it would refuse.
    pub fn check(&self, host: &str, now: SystemTime) -> Result<Vec<String>, CertificateError> {
        if !self.serves_tls {
            return Err(CertificateError::Purpose(self.is_ours()));
        }
        if now > self.not_after {
            let past = now.duration_since(self.not_after).unwrap_or_default();
            return Err(CertificateError::Expired(
                past.as_secs() / 86400,
                self.is_ours(),
            ));
        }
        let doubts = self.check_chain(host, now)?;
        self.check_name(host)?;
        // Last, since here it may be the clock that is wrong.
        match self.begins_in(now) {
            Some(left) => Err(CertificateError::NotYetValid(left)),
            None => Ok(doubts),
        }
    }

    /// How long it is until all of the chain counts; None when it does.
    pub(crate) fn begins_in(&self, now: SystemTime) -> Option<Duration> {
        let begin = self
            .chain
            .iter()
            .map(X509::not_before)
            .max()
            .unwrap_or(self.not_before);
        begin
            .duration_since(now)
            .ok()
            .filter(|left| !left.is_zero())
    }

    fn check_chain(&self, host: &str, now: SystemTime) -> Result<Vec<String>, CertificateError> {
        if self.is_uploaded(host) {
            return Ok(Path::find(&self.chain, &[], now).check(now)?);
        }
        let roots = roots();
        let path = Path::find(&self.chain, &roots, now);
        match path.check(now) {
            Err(_) if roots.is_empty() && !path.is_complete() => Ok(vec![
                "pihook cannot say whether a public CA signed the certificate, because this machine has no list of \
                 CAs. Install ca-certificates."
                    .to_owned(),
            ]),
            checked => Ok(checked?),
        }
    }

    /// Whether it is uploaded for `host`. Then it is all that Telegram trusts, and an address must
    /// be its common name. A public root in the file need not be uploaded, and must not where the
    /// address is only in the alternative names.
    pub(super) fn is_uploaded(&self, host: &str) -> bool {
        let is_public = || {
            let roots = roots();
            let root = Path::find(&self.chain, &[], SystemTime::now()).last();
            root.is_some_and(|root| roots.iter().any(|known| known.der == root.der))
        };
        self.has_root
            && (self.has_name(host)
                || !self.has_address(host)
                || self.chain.len() == 1
                || !is_public())
    }

    fn has_address(&self, host: &str) -> bool {
        host.parse::<Ipv4Addr>()
            .is_ok_and(|address| self.addresses.contains(&address.into()))
    }

    fn has_name(&self, host: &str) -> bool {
        let names = if self.dns_names.is_empty() {
            &self.common_names
        } else {
            &self.dns_names
        };
        names.iter().any(|name| covers(name, host))
    }

    /// Telegram checks an uploaded certificate's name as a host name even when it is an address
    /// (tdlib/td, `SslStream::init`), and OpenSSL takes the common name only where no DNS name is.
    fn check_name(&self, host: &str) -> Result<(), CertificateError> {
        let is_address = host.parse::<Ipv4Addr>().is_ok();
        let (found, rule) = match (is_address, self.is_uploaded(host)) {
            (true, false) => (self.has_address(host), NameRule::AlternativeAddress),
            (true, true) => (self.has_name(host), NameRule::CommonName),
            (false, _) => (self.has_name(host), NameRule::DnsName),
        };
        if found {
            Ok(())
        } else {
            Err(CertificateError::Name(host.into(), rule, self.is_ours()))
        }
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

    /// How long it is until it should be renewed: nothing when it is time. A clock from before this
    /// version says nothing, nor does one from long after.
    #[must_use]
    pub fn renewal(&self, now: SystemTime) -> Duration {
        if now < UNIX_EPOCH + RELEASE_TIME || now > UNIX_EPOCH + RELEASE_TIME + CLOCK_RANGE {
            return RENEWAL_LEAD_TIME;
        }
        // Made by a clock that was ahead, it is of no use either.
        if now < self.not_before {
            return Duration::ZERO;
        }
        let life = self
            .not_after
            .duration_since(self.not_before)
            .unwrap_or_default();
        (self.not_after - RENEWAL_LEAD_TIME.min(life / 3))
            .duration_since(now)
            .unwrap_or_default()
    }
}

/// The roots that this machine trusts; Telegram trusts the same ones, as far as one can know.
fn roots() -> Vec<X509> {
    ca_roots::system()
        .iter()
        .filter_map(|der| X509::read(der))
        .collect()
}

/// OpenSSL's rule for host names (`X509_check_host`): letters of either case; one `*` is the first
/// label, or stands at one end of it, and two labels follow.
fn covers(pattern: &str, host: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*').filter(|_| is_wildcard(pattern)) else {
        return pattern.eq_ignore_ascii_case(host);
    };
    let Some(covered) = host
        .len()
        .checked_sub(after.len())
        .and_then(|end| host.get(before.len()..end))
    else {
        return false;
    };
    let is_whole_label = before.is_empty() && after.starts_with('.');
    let ends_fit = host
        .get(..before.len())
        .is_some_and(|first| first.eq_ignore_ascii_case(before))
        && host
            .get(host.len() - after.len()..)
            .is_some_and(|last| last.eq_ignore_ascii_case(after));
    ends_fit
        && !(is_whole_label && covered.is_empty())
        && (is_whole_label || !is_international(host))
        && covered
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_wildcard(pattern: &str) -> bool {
    let labels: Vec<_> = pattern.split('.').collect();
    let is_label = |label: &&str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'*')
    };
    let [first, rest @ ..] = &labels[..] else {
        return false;
    };
    rest.len() >= 2
        && first.matches('*').count() == 1
        && (first.starts_with('*') || first.ends_with('*'))
        && !(first.len() > 1 && is_international(first))
        && labels.iter().all(is_label)
        && !rest.iter().any(|label| label.contains('*'))
}

fn is_international(label: &str) -> bool {
    label
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case("xn--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cover_what_they_cover_for_openssl() {
        for (pattern, host, expected) in [
            ("Bot.Name.TLD", "bot.name.tld", true),
            ("*.name.tld", "bot.name.tld", true),
            ("b*.name.tld", "bot.name.tld", true),
            ("*t.name.tld", "bot.name.tld", true),
            ("bot*.name.tld", "bot.name.tld", true),
            ("b*t.name.tld", "bot.name.tld", false),
            ("c*.name.tld", "bot.name.tld", false),
            ("*.tld", "name.tld", false),
            ("*.name.tld", "a.bot.name.tld", false),
            ("*.name.tld", ".name.tld", false),
            ("bot.*.tld", "bot.name.tld", false),
            ("**.name.tld", "bot.name.tld", false),
            ("*.*.tld", "bot.name.tld", false),
            ("*.name.tld", "xn--bot.name.tld", true),
            ("x*.name.tld", "xn--bot.name.tld", false),
            ("xn--*.name.tld", "xn--bot.name.tld", false),
            ("*.name-.tld", "bot.name-.tld", false),
            ("*.name..tld", "bot.name..tld", false),
            ("*.108.5.7", "91.108.5.7", true),
            ("", "bot.name.tld", false),
        ] {
            assert_eq!(covers(pattern, host), expected, "{pattern} {host}");
        }
    }
}
