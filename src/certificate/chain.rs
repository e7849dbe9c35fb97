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
    /// The server's certificate is alone in the file, and this CA signed it.
    Alone(String),
    /// The first certificate is there, and the second, which signed it, is not.
    Missing(String, String),
    /// The second certificate has the name of the first one's issuer, but did not sign it.
    NotSigned(String, String),
    /// This certificate cannot serve, for this reason.
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
            Self::Unfit(which, reason) => {
                write!(
                    f,
                    "Telegram refuses the certificate \"{which}\": {reason}. Make or get a new certificate."
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
        let mut path = Vec::new();
        path.extend(chain.first());

        while let Some(last) = path.last().copied()
            && !last.is_self_signed()
            && path.len() <= DEPTH_LIMIT
        {
            // The best issuer: one that signed it, ends the chain, and has not expired.
            let mut best = None;
            for one in roots.iter().chain(chain) {
                if !last.may_be_signed_by(one) || path.iter().any(|there| there.der == one.der) {
                    continue;
                }
                let rank = (
                    last.is_signed_by(one) != Some(false),
                    one.is_self_signed(),
                    one.expired(now).is_none(),
                );
                match best {
                    Some((best_rank, _)) if best_rank > rank => {}
                    _ => best = Some((rank, one)),
                }
            }

            match best {
                Some((_, issuer)) => path.push(issuer),
                None => break,
            }
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
                .map_err(|reason| ChainFault::Unfit(printable(&one.title()), reason))?;
            if one.is_unclear() {
                doubts.push(doubt(one, "pihook cannot read one of its extensions"));
            }
        }

        for pair in self.0.windows(2) {
            let one = pair[0];
            let issuer = pair[1];
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

        if !self.is_complete()
            && let Some(last) = self.last()
        {
            return Err(self.incomplete(last));
        }

        doubts.extend(self.check_names(now)?);
        Ok(doubts)
    }

    /// The fault of a path that ends with `last`, which is no root.
    fn incomplete(&self, last: &X509) -> ChainFault {
        let issuer = printable(&last.issuer_title());
        match self.0.len() {
            1 => ChainFault::Alone(issuer),
            length if length > DEPTH_LIMIT => ChainFault::Unfit(
                printable(&last.title()),
                format!(
                    "the chain is too long (more than {DEPTH_LIMIT} certificates below the root)"
                ),
            ),
            _ => ChainFault::Missing(printable(&last.title()), issuer),
        }
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
        if let Some(reason) = one.signing_fault() {
            return Err(reason.into());
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
        let mut limited = Vec::new();
        for one in authorities {
            if one.name_constraints().is_some() || one.has_unclear_constraints() {
                limited.push(*one);
            }
        }
        let Some(first) = limited.first() else {
            return Ok(Vec::new());
        };

        // OpenSSL looks at the common name, too, where there is no DNS name.
        if leaf.dns_names().is_empty() {
            let names = leaf.common_names();
            for one in &limited {
                if !names.iter().all(|name| allows(one, name)) {
                    return Err(names_refused(one, leaf));
                }
            }
        }

        match self.ask_webpki(now) {
            Err(webpki::Error::NameConstraintViolation) => Err(names_refused(first, leaf)),
            Ok(()) if limited.iter().all(|one| has_known_constraints(one)) => Ok(Vec::new()),
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
        let anchor = anchor_from_trusted_cert(&root.der)?;
        let leaf = EndEntityCert::try_from(&leaf.der)?;
        let algorithms = ring::default_provider()
            .signature_verification_algorithms
            .all;
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let time = UnixTime::since_unix_epoch(since);
        let usage = KeyUsage::server_auth();

        leaf.verify_for_usage(algorithms, &[anchor], &between, time, usage, None, None)?;
        Ok(())
    }
}

fn doubt(one: &X509, reason: &str) -> String {
    format!(
        "pihook cannot say whether Telegram accepts the certificate \"{}\": {reason}.",
        printable(&one.title())
    )
}

fn names_refused(authority: &X509, leaf: &X509) -> ChainFault {
    let reason = format!(
        "its name constraints do not allow the names of \"{}\"",
        printable(&leaf.title())
    );
    ChainFault::Unfit(printable(&authority.title()), reason)
}

/// Whether all constraints of a CA are of kinds that webpki checks as OpenSSL does.
fn has_known_constraints(authority: &X509) -> bool {
    let Some(limits) = authority.name_constraints() else {
        return false;
    };
    for list in [&limits.permitted_subtrees, &limits.excluded_subtrees] {
        for subtree in list.iter().flatten() {
            if !matches!(
                subtree.base,
                GeneralName::DnsName(_) | GeneralName::IpAddress(_)
            ) {
                return false;
            }
        }
    }
    true
}

/// Whether the DNS names among a CA's constraints allow a common name. One that is no DNS name is
/// not compared.
fn allows(authority: &X509, name: &str) -> bool {
    let is_of_dns = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.contains('.') || !name.bytes().all(is_of_dns) {
        return true;
    }
    let Some(limits) = authority.name_constraints() else {
        return true;
    };

    let name = name.to_ascii_lowercase();
    let permitted = dns_bases(&limits.permitted_subtrees);
    let excluded = dns_bases(&limits.excluded_subtrees);
    let is_permitted = permitted.is_empty() || permitted.iter().any(|base| is_within(&name, base));
    let is_excluded = excluded.iter().any(|base| is_within(&name, base));
    is_permitted && !is_excluded
}

/// The DNS names of a list of constraints, in lower case.
fn dns_bases(list: &Option<GeneralSubtrees>) -> Vec<String> {
    let mut bases = Vec::new();
    for subtree in list.iter().flatten() {
        if let GeneralName::DnsName(base) = &subtree.base {
            bases.push(base.as_str().to_ascii_lowercase());
        }
    }
    bases
}

/// Whether a name is the base of a constraint, or below it.
fn is_within(name: &str, base: &str) -> bool {
    if base.is_empty() || name == base {
        return true;
    }
    match name.strip_suffix(base) {
        Some(rest) => base.starts_with('.') || rest.ends_with('.'),
        None => false,
    }
}
