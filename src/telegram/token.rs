//! A bot's token, as `BotFather` gives it.

use ring::hmac;

use crate::secret::{Secret, hex};

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
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The secret half.
    pub(crate) fn key(&self) -> &str {
        self.expose().split_once(':').map_or("", |(_, key)| key)
    }

    /// The whole token.
    pub(crate) fn expose(&self) -> &str {
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
