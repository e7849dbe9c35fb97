//! PEM as OpenSSL 3 reads it when it loads the certificate of a webhook. One block that it cannot
//! read spoils the file.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Reader, SliceReader};

const NOTHING: &str = "{error:05800088:x509 certificate routines::no certificate or crl found}";
const UNREADABLE: &str = "{error:05880009:x509 certificate routines::PEM lib}";
const BAD_END: &str = "{error:04800066:PEM routines::bad end line}";
const BAD_BASE64: &str = "{error:04800064:PEM routines::bad base64 decode}";
const BAD_HEADER: &str = "{error:0480006B:PEM routines::not proc type}";
const BAD_CERTIFICATE: &str = "{error:068000A8:asn1 encoding routines::wrong tag}\
    {error:0688010A:asn1 encoding routines::nested asn1 error}{error:0488000D:PEM routines::ASN1 lib}";

const CERTIFICATES: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// One block.
struct Block {
    label: String,
    /// What stands before a blank line.
    header: String,
    base64: String,
}

/// The certificates of a file, or OpenSSL's errors.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    for block in blocks(pem).map_err(|error| format!("{error}{UNREADABLE}"))? {
        let der = decode(&block.base64).ok_or_else(|| format!("{BAD_BASE64}{UNREADABLE}"))?;
        if !CERTIFICATES.contains(&block.label.as_str()) {
            continue;
        }
        if !block.header.is_empty() {
            let error = if block.header.starts_with("Proc-Type:") {
                ""
            } else {
                BAD_HEADER
            };
            return Err(format!("{error}{UNREADABLE}"));
        }
        // What follows the certificate, such as the marks of a trusted one, does not matter here.
        let whole = SliceReader::new(&der).and_then(|mut reader| reader.tlv_bytes());
        let certificate = whole.ok().filter(|whole| whole.first() == Some(&0x30));
        let certificate = certificate.ok_or_else(|| format!("{BAD_CERTIFICATE}{UNREADABLE}"))?;
        if Certificate::from_der(certificate).is_err() {
            return Err(
                " (no verdict: the simulated Telegram cannot read this certificate; OpenSSL may)"
                    .into(),
            );
        }
        certificates.push(certificate.to_vec().into());
    }
    if certificates.is_empty() {
        Err(NOTHING.into())
    } else {
        Ok(certificates)
    }
}

fn blocks(pem: &[u8]) -> Result<Vec<Block>, &'static str> {
    let text = String::from_utf8_lossy(pem.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(pem));
    // Nothing but a line feed ends a line, and what is blank at its end does not count.
    let mut lines = text
        .split('\n')
        .map(|line| line.trim_end_matches(|c: char| c <= ' '));
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let label = line
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"));
        // OpenSSL reads a longer line in pieces.
        let label = label.filter(|_| line.len() < 255);
        if let Some(label) = label {
            blocks.push(block(label, &mut lines)?);
        }
    }
    Ok(blocks)
}

/// The block whose first line has been read.
fn block<'a>(
    label: &str,
    lines: &mut impl Iterator<Item = &'a str>,
) -> Result<Block, &'static str> {
    let end = format!("-----END {label}-----");
    let mut before = String::new();
    let mut after = None;
    let mut is_short = false;
    loop {
        let line = lines.next().ok_or(BAD_END)?;
        if line.starts_with("-----END ") {
            if line != end {
                return Err(BAD_END);
            }
            break;
        }
        match &mut after {
            None if line.is_empty() => after = Some(String::new()),
            None => before += line,
            Some(_) if line.is_empty() || is_short => return Err(BAD_END),
            // Behind a header, lines have their length.
            Some(_) if line.len() > 64 => return Err(""),
            Some(after) => {
                is_short = line.len() < 64;
                *after += line;
            }
        }
    }
    let (header, base64) = match after {
        None => (String::new(), before),
        Some(after) => (before, after),
    };
    if base64.is_empty() {
        Err("")
    } else {
        Ok(Block {
            label: label.to_owned(),
            header,
            base64,
        })
    }
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    let base64: String = base64.split_ascii_whitespace().collect();
    let clean = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    CertificateDer::from_pem_slice(clean.as_bytes())
        .ok()
        .map(|der| der.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a certificate whose lines are changed; the words are those of OpenSSL
    /// 3.0.22.
    fn load(change: impl FnOnce(&mut Vec<String>)) -> Result<usize, String> {
        let pem = rcgen::generate_simple_self_signed(["bot.example.org".to_owned()])
            .unwrap()
            .cert
            .pem();
        let mut lines: Vec<String> = pem.lines().map(str::to_owned).collect();
        change(&mut lines);
        certificates(lines.join("\n").as_bytes()).map(|all| all.len())
    }

    fn insert(at: usize, line: &str) -> Result<usize, String> {
        load(|lines| lines.insert(at, line.into()))
    }

    #[test]
    fn certificates_that_openssl_reads_are_read() {
        assert_eq!(load(|_| ()), Ok(1));
        assert_eq!(load(|lines| lines[0].insert(0, '\u{feff}')), Ok(1));
        assert_eq!(
            load(|lines| lines.iter_mut().for_each(|line| line.push('\r'))),
            Ok(1)
        );
        assert_eq!(
            load(|lines| lines.iter_mut().for_each(|line| *line += "  ")),
            Ok(1)
        );
        assert_eq!(
            insert(1, ""),
            Ok(1),
            "a blank line before all data is the end of an empty header"
        );
        assert_eq!(load(|lines| lines.extend_from_within(..)), Ok(2));
        assert_eq!(insert(0, "text: before\n\nit"), Ok(1));
        assert_eq!(
            insert(0, "-----BEGIN FOO-----\nAAAA\n-----END FOO-----"),
            Ok(1)
        );
        for label in ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"] {
            assert_eq!(
                load(|lines| lines
                    .iter_mut()
                    .for_each(|line| *line = line.replace("CERTIFICATE", label))),
                Ok(1)
            );
        }
        let joined = |lines: &mut Vec<String>| {
            let last = lines.pop().unwrap();
            *lines = vec![lines[0].clone(), lines[1..].concat(), last];
        };
        assert_eq!(load(joined), Ok(1));
    }

    #[test]
    fn certificates_that_openssl_refuses_are_refused_in_its_words() {
        let bad_base64 = Err(format!("{BAD_BASE64}{UNREADABLE}"));
        let bad_end = Err(format!("{BAD_END}{UNREADABLE}"));
        let nothing = Err(NOTHING.to_owned());
        assert_eq!(insert(3, ""), Err(format!("{BAD_HEADER}{UNREADABLE}")));
        assert_eq!(
            load(|lines| lines.insert(lines.len() - 1, String::new())),
            Err(UNREADABLE.into())
        );
        assert_eq!(insert(1, "\n"), bad_end);
        assert_eq!(insert(3, "#"), bad_base64);
        assert_eq!(insert(3, "===="), bad_base64);
        assert_eq!(load(|lines| drop(lines.pop())), bad_end);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        assert_eq!(
            load(|lines| lines.push(broken.into())),
            Err(format!("{BAD_CERTIFICATE}{UNREADABLE}"))
        );
        assert_eq!(
            insert(0, "-----BEGIN FOO-----\n!!!!\n-----END FOO-----"),
            bad_base64
        );
        assert_eq!(load(|lines| lines[0].insert(0, ' ')), nothing);
        assert_eq!(load(|lines| *lines = vec![lines.join("\r")]), nothing);
        assert_eq!(certificates(b""), Err(NOTHING.into()));
    }
}
