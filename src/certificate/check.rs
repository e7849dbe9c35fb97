//! Holds a certificate against what Telegram checks, and says when to renew it.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::chain::Path;
use super::error::{CertificateError, NameRule};
use super::load::Certificate;
use super::x509::X509;
use crate::system::ca_roots;

/// When this version was made, 2026-11-24, since 1970: a clock that says less is wrong.
pub(super) const RELEASE_TIME: Duration = Duration::from_secs(1_795_478_400);
/// A certificate of ours is renewed so long before its end; or after two thirds of its life, if
/// that is later.
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

    /// How long it is until all of the chain is valid; None when it is.
    pub(crate) fn begins_in(&self, now: SystemTime) -> Option<Duration> {
        let begin = self
            .chain
            .iter()
            .map(X509::not_before)
            .max()
            .unwrap_or(self.not_before);

        if begin > now {
            begin.duration_since(now).ok()
        } else {
            None
        }
    }

    /// Checks the chain as Telegram does: up to the uploaded root, or up to one of a public CA.
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
        if !self.has_root {
            return false;
        }

        let must_be_public = !self.has_name(host) && self.has_address(host) && self.chain.len() > 1;
        !must_be_public || !self.has_public_root()
    }

    /// Whether the root in the file is one that this machine trusts.
    fn has_public_root(&self) -> bool {
        match Path::find(&self.chain, &[], SystemTime::now()).last() {
            Some(root) => roots().iter().any(|known| known.der == root.der),
            None => false,
        }
    }

    /// Whether `host` is an address among the alternative names.
    fn has_address(&self, host: &str) -> bool {
        match host.parse::<Ipv4Addr>() {
            Ok(address) => self.addresses.contains(&address.into()),
            Err(_) => false,
        }
    }

    /// Whether `host` is one of the DNS names or, where there is none, a common name.
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

    /// Whether it names `host` where Telegram looks.
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
        // A certificate that was made by a clock that was ahead is of no use yet.
        if now < self.not_before {
            return Duration::ZERO;
        }

        let life = self
            .not_after
            .duration_since(self.not_before)
            .unwrap_or_default();
        let due = self.not_after - RENEWAL_LEAD_TIME.min(life / 3);
        due.duration_since(now).unwrap_or_default()
    }
}

/// The roots that this machine trusts; Telegram trusts the same ones, as far as one can know.
fn roots() -> Vec<X509> {
    let mut roots = Vec::new();
    for der in ca_roots::system() {
        roots.extend(X509::read(&der));
    }
    roots
}

/// OpenSSL's rule for host names (`X509_check_host`): letters of either case; one `*` is the first
/// label, or stands at one end of it, and two labels follow.
fn covers(pattern: &str, host: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern.eq_ignore_ascii_case(host);
    };
    if !is_wildcard(pattern) {
        return pattern.eq_ignore_ascii_case(host);
    }
    if host.len() < before.len() + after.len() || !host.is_ascii() {
        return false;
    }

    // The part that the * stands for, and what is on both sides of it.
    let end = host.len() - after.len();
    let first = &host[..before.len()];
    let covered = &host[before.len()..end];
    let last = &host[end..];
    if !first.eq_ignore_ascii_case(before) || !last.eq_ignore_ascii_case(after) {
        return false;
    }

    let is_whole_label = before.is_empty() && after.starts_with('.');
    let may_cover = if is_whole_label {
        !covered.is_empty()
    } else {
        !is_international(host)
    };
    may_cover && covered.bytes().all(is_of_label)
}

/// Whether the `*` of a pattern stands for a part of a host name; else it is a letter like others.
fn is_wildcard(pattern: &str) -> bool {
    let labels: Vec<_> = pattern.split('.').collect();
    let [first, rest @ ..] = &labels[..] else {
        return false;
    };

    for label in &labels {
        let is_plain = label.bytes().all(|byte| is_of_label(byte) || byte == b'*');
        if label.is_empty() || label.starts_with('-') || label.ends_with('-') || !is_plain {
            return false;
        }
    }

    rest.len() >= 2
        && pattern.matches('*').count() == 1
        && (first.starts_with('*') || first.ends_with('*'))
        && (*first == "*" || !is_international(first))
}

fn is_of_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// Whether a label is the ASCII form of one with other letters.
fn is_international(label: &str) -> bool {
    match label.get(..4) {
        Some(start) => start.eq_ignore_ascii_case("xn--"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_what_they_cover_for_openssl() {
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
