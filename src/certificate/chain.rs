//! Asks `openssl verify` about a chain: Telegram checks it with OpenSSL, too, and names no reason but
//! "certificate verify failed".

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

use nix::sys::memfd::{MFdFlags, memfd_create};
use rustls::pki_types::CertificateDer;

use super::x509::{X509, pem};
use crate::secret::printable;
use crate::system::program;

/// The command of Debian's package openssl. No other one of the PATH is asked.
pub(super) const OPENSSL: &str = "/usr/bin/openssl";
/// A Pi with a tired SD card needs seconds to start a program.
const TIMEOUT: Duration = Duration::from_secs(20);
/// With these flags OpenSSL 3 says what Telegram's own code says, which has no other roots, and this
/// limit of the depth (tdlib/td, `do_create_ssl_ctx`). `tests/verdicts` has the proof.
const FLAGS: [&str; 9] = [
    "verify",
    "-no-CAstore",
    "-no-CApath",
    "-auth_level",
    "2",
    "-purpose",
    "sslserver",
    "-verify_depth",
    "10",
];

/// What is asked about a chain.
pub(super) struct Question<'q> {
    /// As it is served, the server's certificate first.
    pub(super) chain: &'q [X509],
    /// All roots that Telegram trusts for this webhook; the file's own where it is uploaded.
    pub(super) roots: &'q [CertificateDer<'static>],
    pub(super) host: &'q str,
    pub(super) is_uploaded: bool,
    pub(super) now: SystemTime,
}

/// What OpenSSL refuses: the code of its error (`X509_V_ERR_…` of `openssl/x509_vfy.h`, the same in
/// all versions of OpenSSL 3), and the place in the chain, 0 for the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u32,
    pub(super) depth: usize,
}

impl Question<'_> {
    /// Asks the command at the path `openssl`. Returns None where it accepts the chain.
    ///
    /// # Errors
    /// When the command is missing, or gives no verdict.
    pub(super) fn ask(&self, openssl: &str) -> io::Result<Option<Refusal>> {
        let ders: Vec<_> = self.chain.iter().map(|one| one.der.clone()).collect();
        let chain = memory_file(&ders)?;
        let roots = memory_file(self.roots)?;
        let chain_path = path(&chain);
        let roots_path = path(&roots);

        let since = self.now.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs().to_string();
        // Telegram looks for an address among the host names where the certificate is uploaded.
        let is_address = !self.is_uploaded && self.host.parse::<Ipv4Addr>().is_ok();
        let name_flag = if is_address {
            "-verify_ip"
        } else {
            "-verify_hostname"
        };

        let mut arguments = FLAGS.to_vec();
        arguments.extend(["-attime", &seconds, name_flag, self.host]);
        arguments.extend(["-CAfile", &roots_path, "-untrusted", &chain_path]);
        // Of this file it checks the first certificate.
        arguments.push(&chain_path);
        let ended = program::run(openssl, &arguments, TIMEOUT)?;

        if ended.is_success {
            return Ok(None);
        }
        match ended.errors.lines().find_map(refusal) {
            Some(refusal) => Ok(Some(refusal)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A file that is only in memory. The program that is started next inherits it, and can read it at
/// [`path`].
fn memory_file(certificates: &[CertificateDer]) -> io::Result<File> {
    let mut file = File::from(memfd_create("certificates", MFdFlags::empty())?);
    file.write_all(pem(certificates).as_bytes())?;
    Ok(file)
}

/// Where a program that inherits the file can open it.
fn path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Reads the numbers of a line such as `error 20 at 0 depth lookup: unable to get …`.
fn refusal(line: &str) -> Option<Refusal> {
    let mut words = line.strip_prefix("error ")?.split(' ');
    let code = words.next()?.parse().ok()?;
    if words.next() != Some("at") {
        return None;
    }
    let depth = words.next()?.parse().ok()?;
    Some(Refusal { code, depth })
}

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

/// The server's certificate and those of its issuers up to a root, as far as the file has them.
pub(super) struct Path<'c>(Vec<&'c X509>);

impl<'c> Path<'c> {
    /// Follows the names as OpenSSL does: of two issuers of one name it takes the one that is valid.
    pub(super) fn find(chain: &'c [X509], now: SystemTime) -> Self {
        let mut path = Vec::new();
        path.extend(chain.first());

        while let Some(last) = path.last().copied()
            && !last.is_self_signed()
        {
            let mut next: Option<&X509> = None;
            for one in chain {
                let is_new = path.iter().all(|there: &&X509| there.der != one.der);
                let is_better = next.is_none_or(|next| !next.is_valid(now) && one.is_valid(now));
                if is_new && is_better && last.may_be_signed_by(one) {
                    next = Some(one);
                }
            }

            let Some(next) = next else {
                break;
            };
            path.push(next);
        }
        Self(path)
    }

    /// The certificate at a depth; None for a root that only the system has.
    pub(super) fn at(&self, depth: usize) -> Option<&'c X509> {
        self.0.get(depth).copied()
    }

    /// The name of the certificate at a depth, for a message.
    fn title(&self, depth: usize) -> String {
        let title = match (self.at(depth), self.0.last()) {
            (Some(one), _) => one.title(),
            (None, Some(last)) => last.issuer_title(),
            (None, None) => String::new(),
        };
        printable(&title)
    }

    /// Says what a refusal means, beyond what is wrong with the server's name, dates and purpose.
    pub(super) fn fault(&self, refusal: Refusal, now: SystemTime) -> ChainFault {
        let Refusal { code, depth } = refusal;
        let title = self.title(depth);
        let one = self.at(depth);
        match code {
            // UNABLE_TO_GET_ISSUER_CERT, the same _LOCALLY, UNABLE_TO_VERIFY_LEAF_SIGNATURE
            2 | 20 | 21 => match one {
                Some(leaf) if depth == 0 => ChainFault::Alone(printable(&leaf.issuer_title())),
                _ => ChainFault::Missing(title, self.title_of_issuer(depth)),
            },
            // CERT_SIGNATURE_FAILURE
            7 => ChainFault::NotSigned(title, self.title_of_issuer(depth)),
            // EXCLUDED_VIOLATION and PERMITTED_VIOLATION name the certificate below the limit.
            47 | 48 => {
                let above = (depth + 1..).take_while(|place| self.at(*place).is_some());
                let mut limiting = above.filter(|place| self.0[*place].limits_names());
                let limiting = self.title(limiting.next().unwrap_or(depth + 1));
                let reason = format!("its name constraints do not allow the names of \"{title}\"");
                ChainFault::Unfit(limiting, reason)
            }
            _ => ChainFault::Unfit(title, reason(code, one, now)),
        }
    }

    fn title_of_issuer(&self, depth: usize) -> String {
        match self.at(depth) {
            Some(one) => printable(&one.issuer_title()),
            None => self.title(depth),
        }
    }
}

/// Why a certificate of the chain cannot serve, by the code of OpenSSL's error. `one` is the
/// certificate where the file has it.
fn reason(code: u32, one: Option<&X509>, now: SystemTime) -> String {
    match code {
        // CERT_HAS_EXPIRED
        10 => match one.and_then(|one| one.expired(now)) {
            Some(past) => format!("it expired {} days ago", past.as_secs() / 86400),
            None => "it has expired".into(),
        },
        // CERT_CHAIN_TOO_LONG
        22 => "the chain is too long (more than 10 certificates below the root)".into(),
        // PATH_LENGTH_EXCEEDED
        25 => match one.and_then(X509::path_limit) {
            Some(limit) => {
                format!(
                    "its path length allows {limit} CA certificates below it, but there are more"
                )
            }
            None => "its path length allows fewer CA certificates below it".into(),
        },
        // INVALID_PURPOSE
        26 => "it is not allowed to sign certificates of TLS servers (extended key usage)".into(),
        // UNHANDLED_CRITICAL_EXTENSION
        34 => match one.and_then(X509::unknown_extension) {
            Some(id) => format!("it has an unknown critical extension ({id})"),
            None => "it has an unknown critical extension".into(),
        },
        // EE_KEY_TOO_SMALL, CA_KEY_TOO_SMALL
        66 | 67 => "its key is too weak (an RSA key needs 2048 bits or more)".into(),
        // CA_MD_TOO_WEAK
        68 => "it is signed with SHA-1 or MD5 (too weak, use SHA-256)".into(),
        // KEYUSAGE_NO_CERTSIGN, INVALID_CA
        32 | 79 => match one {
            Some(one) if one.is_no_signer() => "its key usage does not contain keyCertSign".into(),
            _ => "it is not a CA (basic constraints)".into(),
        },
        _ => format!("it breaks a rule of X.509 (error {code} of `openssl verify`)"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::error::{CertificateError, FileFault};
    use super::super::files::CertificateFiles;
    use super::super::load::{Certificate, load, read_chain};
    use super::*;

    /// 2026-11-30, when the verdicts were written down.
    const THEN: Duration = Duration::from_secs(1_796_040_000);
    /// Files of a public CA whose root is nowhere.
    const WITHOUT_ROOT: [&str; 4] = ["pub-cn-only", "pub-good", "pub-ip-san", "pub-wild"];

    fn folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/verdicts")
    }

    /// A row of the list.
    struct Case<'r> {
        name: &'r str,
        host: &'r str,
        is_public: bool,
        key: &'r str,
        is_accepted: bool,
    }

    impl<'r> Case<'r> {
        fn of(row: &'r str) -> Self {
            let fields: Vec<_> = row.split('\t').collect();
            Self {
                name: fields[0],
                host: fields[1],
                is_public: fields[2] != "uploaded",
                key: fields[3],
                is_accepted: fields[4] == "taken",
            }
        }

        /// What a user is told where the certificate cannot serve.
        fn judge(&self) -> Result<(), String> {
            let files = CertificateFiles {
                certificate: folder().join(format!("{}.pem", self.name)),
                private_key: folder().join("keys").join(self.key),
            };
            let verdict = match load(&files) {
                Ok(certificate) => self.judge_loaded(certificate),
                Err(CertificateError::File(_, FileFault::Key(_))) if self.is_accepted => {
                    return self.judge_without_key(&files);
                }
                Err(error) => Err(error),
            };
            let doubt = verdict.map_err(|error| error.to_string())?;
            assert_eq!(doubt, None, "{}", self.name);
            Ok(())
        }

        fn judge_loaded(
            &self,
            mut certificate: Certificate,
        ) -> Result<Option<String>, CertificateError> {
            let own: Vec<_> = certificate
                .chain
                .iter()
                .map(|one| one.der.clone())
                .collect();
            certificate.has_public_root = self.is_public;
            certificate.judge_by(&own, self.host, SystemTime::UNIX_EPOCH + THEN)
        }

        /// Judges a certificate of a key that rustls cannot use.
        fn judge_without_key(&self, files: &CertificateFiles) -> Result<(), String> {
            let content = fs::read(&files.certificate).unwrap();
            let chain = read_chain(&files.certificate, &content).unwrap();
            let own: Vec<_> = chain.iter().map(|one| one.der.clone()).collect();
            let question = Question {
                chain: &chain,
                roots: &own,
                host: self.host,
                is_uploaded: true,
                now: SystemTime::UNIX_EPOCH + THEN,
            };
            match question.ask(OPENSSL).unwrap() {
                Some(refusal) => Err(format!("{refusal:?}")),
                None => Ok(()),
            }
        }
    }

    #[test]
    fn a_command_openssl_that_is_missing_or_says_nothing_gives_no_verdict() {
        let path = folder().join("ch-good.pem");
        let chain = read_chain(&path, &fs::read(&path).unwrap()).unwrap();
        let question = Question {
            chain: &chain,
            roots: &[],
            host: "80.100.95.20",
            is_uploaded: true,
            now: SystemTime::UNIX_EPOCH + THEN,
        };
        for (command, kind) in [
            ("/nowhere/openssl", io::ErrorKind::NotFound),
            ("/bin/false", io::ErrorKind::InvalidData),
        ] {
            assert_eq!(question.ask(command).unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn the_numbers_of_a_refusal_are_read_and_no_words() {
        let read = refusal("error 20 at 0 depth lookup: whatever it says");
        assert_eq!(read, Some(Refusal { code: 20, depth: 0 }));
        for line in [
            "error stdin: verification failed",
            "CN = error 20 at 0",
            "error 20",
            "OK",
        ] {
            assert_eq!(refusal(line), None, "{line}");
        }
    }

    #[test]
    fn the_verdict_of_197_files_is_that_of_telegrams_code() {
        let list = fs::read_to_string(folder().join("verdicts.tsv")).unwrap();
        let mut count = 0;
        let mut wrong = Vec::new();
        for row in list.lines().skip(1) {
            let case = Case::of(row);
            let said = case.judge();
            count += 1;
            if said.is_ok() != case.is_accepted {
                wrong.push(case.name);
            }
        }
        assert_eq!(count, 197);
        assert_eq!(wrong, WITHOUT_ROOT);
    }
}
