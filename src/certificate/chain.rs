//! Holds a chain against what OpenSSL checks when Telegram calls: it names no reason but
//! "certificate verify failed".

use std::fmt;
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::ext::pkix::constraints::name::GeneralSubtrees;
use x509_cert::ext::pkix::name::GeneralName;

use super::x509::X509;
use crate::secret::printable;

/// Telegram's limit (tdlib/td, `do_create_ssl_ctx`).
const DEPTH_LIMIT: usize = 10;

/// Why Telegram refuses a chain. Certificates are called by their common names.
#[derive(Debug, PartialEq, Eq)]
pub enum ChainFault {
    /// The server's certificate stands alone, and this one signed it.
    Alone(String),
    /// One, and who signed it and is not there.
    Missing(String, String),
    /// One, and the one in the file that has the right name and did not sign it.
    NotSigned(String, String),
    /// One, and what is wrong with it.
    Unfit(String, String),
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone(issuer) => write!(
                f,
                "Telegram refuses this certificate: \"{issuer}\" signed it, but the certificate of \"{issuer}\" is \
                 not in the file. Use the file with the whole chain (certbot calls it fullchain.pem). If the CA is \
                 your own, add its certificate at the end of the file."
            ),
            Self::Missing(which, issuer) => write!(
                f,
                "Telegram refuses this chain: \"{issuer}\" signed \"{which}\", but the certificate of \"{issuer}\" is \
                 not in the file. Add it at the end of the file."
            ),
            Self::NotSigned(which, issuer) => write!(
                f,
                "Telegram refuses this chain: the certificate \"{issuer}\" in the file did not sign \"{which}\". \
                 Replace \"{issuer}\" with the certificate that signed \"{which}\"."
            ),
            Self::Unfit(which, why) => {
                write!(
                    f,
                    "Telegram refuses the certificate \"{which}\": {why}. Make or get a new certificate."
                )
            }
        }
    }
}

/// The server's certificate, and the certificates of its issuers up to a root, as far as they are
/// known.
pub(super) struct Path<'c>(Vec<&'c X509>);

impl<'c> Path<'c> {
    /// Follows the names, first those of `roots` and then those of the chain itself.
    pub(super) fn find(chain: &'c [X509], roots: &'c [X509], now: SystemTime) -> Self {
        let mut path: Vec<_> = chain.first().into_iter().collect();
        while let Some(last) = path.last().copied()
            && !last.is_self_signed()
            && path.len() <= DEPTH_LIMIT
        {
            let named = roots
                .iter()
                .chain(chain)
                .filter(|one| last.may_be_signed_by(one));
            let named = named.filter(|one| !path.iter().any(|there| there.der == one.der));
            // The best of them: one that signed it, ends it, and still counts.
            let Some(next) = named.max_by_key(|one| {
                (
                    last.is_signed_by(one) != Some(false),
                    one.is_self_signed(),
                    one.expired(now).is_none(),
                )
            }) else {
                break;
            };
            path.push(next);
        }
        Self(path)
    }

    /// Whether it ends with a root.
    pub(super) fn is_complete(&self) -> bool {
        self.0.last().is_some_and(|last| last.is_self_signed())
    }

    /// The root, or the last one that is known.
    pub(super) fn last(&self) -> Option<&'c X509> {
        self.0.last().copied()
    }

    /// Checks all that counts beyond the names and dates of the server's certificate. Returns what
    /// cannot be known.
    ///
    /// # Errors
    /// What Telegram refuses.
    pub(super) fn check(&self, now: SystemTime) -> Result<Vec<String>, ChainFault> {
        let mut doubts = Vec::new();
        for (place, one) in self.0.iter().enumerate() {
            self.check_one(place, now)
                .map_err(|why| ChainFault::Unfit(printable(&one.title()), why))?;
            if one.is_unclear() {
                doubts.push(doubt(one, "pihook cannot read one of its extensions"));
            }
        }
        for pair in self.0.windows(2) {
            let (one, issuer) = (pair[0], pair[1]);
            match one.is_signed_by(issuer) {
                Some(true) => {}
                Some(false) => {
                    return Err(ChainFault::NotSigned(
                        printable(&one.title()),
                        printable(&issuer.title()),
                    ));
                }
                None => doubts.push(doubt(one, "pihook cannot check this kind of signature")),
            }
        }
        if let (false, Some(last)) = (self.is_complete(), self.last()) {
            let issuer = printable(&last.issuer_title());
            return Err(match self.0.len() {
                1 => ChainFault::Alone(issuer),
                length if length > DEPTH_LIMIT => ChainFault::Unfit(
                    printable(&last.title()),
                    format!(
                        "the chain is too long (more than {DEPTH_LIMIT} certificates below the root)"
                    ),
                ),
                _ => ChainFault::Missing(printable(&last.title()), issuer),
            });
        }
        doubts.extend(self.check_names(now)?);
        Ok(doubts)
    }

    /// What is wrong with the certificate at this place; the server's is at the first.
    fn check_one(&self, place: usize, now: SystemTime) -> Result<(), String> {
        let one = self.0[place];
        if let Some(extension) = one.unknown_extension() {
            return Err(format!(
                "it has an unknown critical extension ({extension})"
            ));
        }
        if one.has_weak_key() {
            return Err("its key is too weak (an RSA key needs 2048 bits or more)".into());
        }
        if one.has_weak_signature() && !one.is_self_signed() {
            return Err("it is signed with SHA-1 or MD5 (too weak, use SHA-256)".into());
        }
        if one.has_senseless_limit() {
            return Err(
                "it has a path length limit, but it is not a CA (basic constraints)".into(),
            );
        }
        if place == 0 {
            return Ok(());
        }
        if let Some(past) = one.expired(now) {
            return Err(format!("it expired {} days ago", past.as_secs() / 86400));
        }
        if let Some(why) = one.why_no_authority() {
            return Err(why.into());
        }
        if !one.serves_purpose() {
            return Err(
                "it is not allowed to sign certificates of TLS servers (extended key usage)".into(),
            );
        }
        let between = self.0[1..place]
            .iter()
            .filter(|below| !below.is_self_issued())
            .count();
        match one.path_limit() {
            Some(limit) if between > limit => Err(format!(
                "its path length allows {limit} CA certificates below it, but there are {between}"
            )),
            _ => Ok(()),
        }
    }

    /// Whether all names are among those that the CAs are limited to.
    fn check_names(&self, now: SystemTime) -> Result<Vec<String>, ChainFault> {
        let Some((leaf, authorities)) = self.0.split_first() else {
            return Ok(Vec::new());
        };
        let limited: Vec<_> = authorities
            .iter()
            .filter(|one| one.name_constraints().is_some() || one.has_unclear_constraints())
            .collect();
        let Some(first) = limited.first() else {
            return Ok(Vec::new());
        };
        let refused = |one: &X509| {
            let why = format!(
                "its name constraints do not allow the names of \"{}\"",
                printable(&leaf.title())
            );
            ChainFault::Unfit(printable(&one.title()), why)
        };
        // OpenSSL looks at the common name, too, where there is no DNS name.
        let common = if leaf.dns_names().is_empty() {
            leaf.common_names()
        } else {
            Vec::new()
        };
        for one in &limited {
            if common.iter().any(|name| {
                one.name_constraints().is_some_and(|limits| {
                    !allows(&limits.permitted_subtrees, &limits.excluded_subtrees, name)
                })
            }) {
                return Err(refused(one));
            }
        }
        let known = |list: &Option<GeneralSubtrees>| {
            list.iter()
                .flatten()
                .all(|it| matches!(it.base, GeneralName::DnsName(_) | GeneralName::IpAddress(_)))
        };
        let is_known = |one: &X509| {
            one.name_constraints()
                .is_some_and(|it| known(&it.permitted_subtrees) && known(&it.excluded_subtrees))
        };
        match self.ask_webpki(now) {
            Err(webpki::Error::NameConstraintViolation) => Err(refused(first)),
            Ok(()) if limited.iter().all(|one| is_known(one)) => Ok(Vec::new()),
            _ => Ok(vec![doubt(
                first,
                "pihook cannot check its name constraints",
            )]),
        }
    }

    /// Webpki's verdict; of its refusals only those count that are about names.
    fn ask_webpki(&self, now: SystemTime) -> Result<(), webpki::Error> {
        let [leaf, between @ .., root] = &self.0[..] else {
            return Ok(());
        };
        let between: Vec<CertificateDer> = between.iter().map(|one| one.der.clone()).collect();
        let (anchor, leaf) = (
            anchor_from_trusted_cert(&root.der)?,
            EndEntityCert::try_from(&leaf.der)?,
        );
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let algorithms = ring::default_provider()
            .signature_verification_algorithms
            .all;
        let (time, usage) = (UnixTime::since_unix_epoch(since), KeyUsage::server_auth());
        leaf.verify_for_usage(algorithms, &[anchor], &between, time, usage, None, None)
            .map(drop)
    }
}

fn doubt(one: &X509, why: &str) -> String {
    format!(
        "pihook cannot say whether Telegram accepts the certificate \"{}\": {why}.",
        printable(&one.title())
    )
}

/// Whether the DNS names among the constraints allow a common name. One that is no DNS name is not
/// compared.
fn allows(
    permitted: &Option<GeneralSubtrees>,
    excluded: &Option<GeneralSubtrees>,
    name: &str,
) -> bool {
    let is_name = name.contains('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let bases = |list: &Option<GeneralSubtrees>| -> Vec<String> {
        let all = list.iter().flatten();
        all.filter_map(|it| match &it.base {
            GeneralName::DnsName(base) => Some(base.as_str().to_ascii_lowercase()),
            _ => None,
        })
        .collect()
    };
    let name = name.to_ascii_lowercase();
    let within = |base: &String| {
        base.is_empty()
            || name == *base
            || name
                .strip_suffix(base.as_str())
                .is_some_and(|rest| base.starts_with('.') || rest.ends_with('.'))
    };
    let (permitted, excluded) = (bases(permitted), bases(excluded));
    !is_name
        || (permitted.is_empty() || permitted.iter().any(within)) && !excluded.iter().any(within)
}
