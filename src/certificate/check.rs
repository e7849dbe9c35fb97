//! Holds a certificate against what Telegram checks, and says when to renew it.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;

use super::chain::{OPENSSL, Path, Question, Refusal};
use super::error::{CertificateError, NameRule};
use super::load::Certificate;
use crate::system::ca_roots;

/// When this version was made, 2026-11-24, since 1970: a clock that says less is wrong.
pub(super) const RELEASE_TIME: Duration = Duration::from_secs(1_795_478_400);
/// A certificate of ours is renewed so long before its end; or after two thirds of its life, if
/// that is later.
const RENEWAL_LEAD_TIME: Duration = Duration::from_secs(30 * 86400);
/// Why nothing can be said of a certificate that is not uploaded.
const NO_ROOTS: &str = "pihook cannot say whether a public CA signed the certificate, because this machine has no \
                        list of CAs. Install ca-certificates.";
/// A clock that is further ahead of [`RELEASE_TIME`] than 25 years is not believed.
const CLOCK_RANGE: Duration = Duration::from_secs(25 * 365 * 86400);

impl Certificate {
    /// Checks the name and the dates, at the time `now`, as Telegram will when it calls `host`.
    ///
    /// # Errors
    /// The first thing that it would refuse.
    pub fn check(&self, host: &str, now: SystemTime) -> Result<(), CertificateError> {
        if now > self.not_after {
            let days = self.days_since_end(now);
            return Err(CertificateError::Expired(days, self.is_ours()));
        }
        self.check_name(host)?;

        // Last, since here it may be the clock that is wrong.
        match self.begins_in(now) {
            Some(left) => Err(CertificateError::NotYetValid(left)),
            None => Ok(()),
        }
    }

    /// Checks all that Telegram will check, a user's own chain by `openssl verify`. Telegram itself
    /// does not say which check failed: "certificate verify failed" is all that its users ever see.
    /// Returns a sentence where it cannot be known here.
    ///
    /// # Errors
    /// The first thing that it would refuse.
    pub fn judge(&self, host: &str, now: SystemTime) -> Result<Option<String>, CertificateError> {
        if self.is_uploaded(host) {
            let own: Vec<_> = self.chain.iter().map(|one| one.der.clone()).collect();
            self.judge_by(&own, host, now)
        } else {
            self.judge_by(&ca_roots::system(), host, now)
        }
    }

    /// Like [`Certificate::judge`], where Telegram trusts these roots.
    pub(super) fn judge_by(
        &self,
        roots: &[CertificateDer<'static>],
        host: &str,
        now: SystemTime,
    ) -> Result<Option<String>, CertificateError> {
        if self.is_ours() {
            self.check(host, now)?;
            return Ok(None);
        }
        if roots.is_empty() {
            self.check(host, now)?;
            return Ok(Some(NO_ROOTS.to_owned()));
        }

        let question = Question {
            chain: &self.chain,
            roots,
            host,
            is_uploaded: self.is_uploaded(host),
            now,
        };
        let doubt = match question.ask(OPENSSL) {
            Ok(Some(refusal)) => return Err(self.fault(refusal, host, now)),
            Ok(None) => None,
            Err(error) => Some(no_verdict(&error)),
        };
        // `run` does not ask OpenSSL.
        self.check(host, now)?;
        Ok(doubt)
    }

    /// Says what a refusal of OpenSSL's means.
    fn fault(&self, refusal: Refusal, host: &str, now: SystemTime) -> CertificateError {
        let path = Path::find(&self.chain, now);
        match (refusal.code, refusal.depth) {
            // CERT_NOT_YET_VALID
            (9, depth) => {
                let begin = match path.at(depth) {
                    Some(one) => one.not_before(),
                    None => now,
                };
                CertificateError::NotYetValid(begin.duration_since(now).unwrap_or_default())
            }
            // CERT_HAS_EXPIRED
            (10, 0) => CertificateError::Expired(self.days_since_end(now), false),
            // INVALID_PURPOSE
            (26, 0) => CertificateError::Purpose,
            // HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH
            (62 | 64, _) => CertificateError::Name(host.into(), self.name_rule(host), false),
            _ => path.fault(refusal, now).into(),
        }
    }

    /// How many whole days ago it expired.
    fn days_since_end(&self, now: SystemTime) -> u64 {
        let past = now.duration_since(self.not_after).unwrap_or_default();
        past.as_secs() / 86400
    }

    /// How long it is until it is valid; None when it is.
    pub(crate) fn begins_in(&self, now: SystemTime) -> Option<Duration> {
        if self.not_before > now {
            self.not_before.duration_since(now).ok()
        } else {
            None
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
        !must_be_public || !self.has_public_root
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
        let rule = self.name_rule(host);
        let is_found = match rule {
            NameRule::AlternativeAddress => self.has_address(host),
            NameRule::CommonName | NameRule::DnsName => self.has_name(host),
        };
        if is_found {
            Ok(())
        } else {
            Err(CertificateError::Name(host.into(), rule, self.is_ours()))
        }
    }

    /// Where Telegram looks for `host`.
    fn name_rule(&self, host: &str) -> NameRule {
        if host.parse::<Ipv4Addr>().is_err() {
            NameRule::DnsName
        } else if self.is_uploaded(host) {
            NameRule::CommonName
        } else {
            NameRule::AlternativeAddress
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

/// Why there is no verdict.
fn no_verdict(error: &io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => {
            "this machine does not have the command openssl. Install openssl".into()
        }
        io::ErrorKind::TimedOut => "the command openssl did not end. Try again".into(),
        io::ErrorKind::InvalidData => {
            "the command openssl gave no verdict. Its version must be 3.0 or newer".into()
        }
        _ => format!("the command openssl could not be started ({error}). Install openssl again"),
    };
    format!("pihook cannot say whether Telegram accepts the certificate, because {reason}.")
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
    fn without_openssl_pihook_cannot_say_and_names_the_package() {
        let said = no_verdict(&io::ErrorKind::NotFound.into());
        assert!(said.contains("cannot say") && said.ends_with("Install openssl."));
    }

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
