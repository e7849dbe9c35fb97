//! Text that must never be shown, and text of others that must not do harm where it is shown.

use std::fmt::{self, Write};

use subtle::ConstantTimeEq;

/// Telegram's keys have 35 characters; one that lost some is still to be kept. Times, addresses and ports have fewer.
const SHORTEST_KEY: usize = 20;

/// A token, a secret path or a secret token. It prints as `***`, whatever prints it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this text, in a time that tells nothing but whether the lengths agree.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `text` without the secret half of whatever in it looks like a token: people paste theirs into every place. All that
/// leaves the process, but for its calls, goes through here.
pub(crate) fn mask(text: &str) -> String {
    let of_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let (mut masked, mut behind_id) = (String::with_capacity(text.len()), false);
    for piece in text.split_inclusive(':') {
        let rest = piece.trim_start_matches(of_key);
        let is_key = behind_id && piece.len() - rest.len() >= SHORTEST_KEY;
        masked.extend(if is_key { ["***", rest] } else { ["", piece] });
        behind_id = piece.strip_suffix(':').is_some_and(|id| id.ends_with(|c: char| c.is_ascii_digit()));
    }
    masked
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Others' words, without control characters, and not endless: neither a log nor a terminal can be led astray.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";

    #[test]
    fn a_secret_matches_itself_and_never_shows() {
        let secret = Secret::from("110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw".to_owned());
        assert!(secret.matches(secret.expose().as_bytes()));
        assert!(!secret.matches(b"110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaW"));
        assert!(!secret.matches(b"") && !secret.matches(b"110201543"));
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
    }

    #[test]
    fn a_token_in_any_text_is_masked_and_all_else_stays() {
        for (text, masked) in [
            ("https://x/botTOKEN/getMe", "https://x/botMASKED/getMe"),
            ("'--TOKEN=TOKEN'\n", "'--MASKED=MASKED'\n"),
            // Pasted twice.
            ("TOKENTOKEN:TOKEN", "MASKED:***:MASKED"),
            ("1:abcdefghijklmnopqrst 1:", "1:*** 1:"),
        ] {
            assert_eq!(mask(&text.replace("TOKEN", TOKEN)), masked.replace("MASKED", "110201543:***"));
        }
        for text in
            ["", ":", "2026-11-24 08:22:12Z [INFO] bot 1: 200", "[2001:db8::1]:8443", "https://a.b:8443/x:y", "é:ü"]
        {
            assert_eq!(mask(text), text);
        }
    }
}
