//! A bot's token, as `BotFather` gives it.

use std::fmt::Write;

use ring::hmac;

use crate::secret::Secret;

/// Telegram's keys have 35 characters; one that lost some is still to be kept. Times, addresses and ports have fewer.
const SHORTEST_KEY: usize = 20;

/// The token of one bot, `ID:KEY`. Only the id, which every user of the bot can see, ever prints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    id: u64,
    whole: Secret,
}

impl Token {
    /// Takes a token as it stands in a file, with or without a line end.
    ///
    /// # Errors
    /// `None` when Telegram could not have given it: it has the form `digits:letters`, at most 80
    /// characters (telegram-bot-api, `ClientManager::send`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (id, key) = text.split_once(':')?;
        let well_formed = text.len() <= 80
            && !id.starts_with(['0', '+'])
            && !key.is_empty()
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let id = id.parse().ok()?;
        well_formed.then(|| Self { id, whole: text.to_owned().into() })
    }

    /// The bot's own user id: the public half, fit for logs and file names.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The whole token.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.whole.expose()
    }

    /// The secret token that Telegram shows with every call: 64 hexadecimal digits, derived from
    /// the bot's token, so that it is the same after a restart and is stored nowhere.
    #[must_use]
    pub fn secret_token(&self) -> Secret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.expose().as_bytes());
        hex(hmac::sign(&key, b"pihook webhook secret token").as_ref()).into()
    }
}

/// `text` without the secret half of whatever in it looks like a token: people paste theirs into every place. All that
/// leaves the process, but for its calls, goes through here.
#[must_use]
pub fn mask(text: &str) -> String {
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
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";

    #[test]
    fn a_token_shows_its_id_and_nothing_else() {
        let token = Token::parse(&format!("{TOKEN}\r\n")).unwrap();
        assert_eq!(token.expose(), TOKEN);
        assert_eq!(token.id(), 110_201_543);
        assert!(!format!("{token:?}").contains("AAH"));
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

    #[test]
    fn what_botfather_never_gave_is_refused() {
        let long = format!("1:{}", "a".repeat(80));
        for text in ["", "token", "110201543", ":abc", "0123:abc", "+1:abc", "1:", "1:a b", "1:a/b", "x:abc", &long] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_secret_token_is_stable_and_fits_telegrams_alphabet() {
        let secret = Token::parse(TOKEN).unwrap().secret_token();
        assert_eq!(secret, Token::parse(TOKEN).unwrap().secret_token());
        assert_ne!(secret, Token::parse("110201543:other").unwrap().secret_token());
        assert_eq!(secret.expose().len(), 64);
        assert!(secret.expose().bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
