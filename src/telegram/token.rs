//! A bot's token, as `BotFather` gives it.

use ring::hmac;

use crate::secret::{Secret, hex};

/// The token of one bot, `ID:KEY`. Only the id shows, which every user of the bot can see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    id: u64,
    whole: Secret,
}

/// The form of a token in words: the log would mask an example.
const FORM: &str = "a token is a number, a colon and 35 characters: letters, digits, - or _";
/// Telegram's limit (telegram-bot-api, `ClientManager::send`).
const LENGTH_LIMIT: usize = 80;
/// Characters of a key that is found within other text. Telegram's keys have 35.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 30..=45;
/// Digits of an id that is found within other text. A time (12:30) has fewer.
const ID_LENGTH: std::ops::RangeInclusive<usize> = 6..=16;

impl Token {
    /// Reads a token as it stands in a file, and also finds it in what people paste: with
    /// `BotFather`'s message or quotes around it, with `NAME=` or `bot` before it, with invisible
    /// characters. In doubt there is an error.
    ///
    /// # Errors
    /// What is wrong, in words that continue the name of the setting. They hold nothing of the
    /// text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text: String = text.chars().filter(|c| !is_unseen(*c)).collect();
        let bare = text.trim().trim_matches(['"', '\'', '`']);
        if let Some(token) = Self::exact(bare) {
            return Ok(token);
        }

        let mut found: Vec<Self> = Vec::new();
        for token in candidates(&text).filter_map(Self::exact) {
            if !found.contains(&token) {
                found.push(token);
            }
        }
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            0 => Err(fault(bare)),
            count => Err(format!(
                "holds {count} tokens: leave only the token of this bot"
            )),
        }
    }

    /// A token and nothing else: `digits:letters`, at most 80 characters.
    fn exact(text: &str) -> Option<Self> {
        let (id, key) = text.split_once(':')?;
        let is_key = !key.is_empty() && key.chars().all(is_of_key);
        // The standard library would take +1 and 01 for a number.
        if text.len() > LENGTH_LIMIT || id.starts_with(['0', '+']) || !is_key {
            return None;
        }
        Some(Self {
            id: id.parse().ok()?,
            whole: text.to_owned().into(),
        })
    }

    /// The bot's own user id: the public half, which may be in logs and file names.
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

/// Whether a character can be in a token's key.
fn is_of_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Whether a character is invisible and can be copied with the token: a mark, a joiner, a soft
/// hyphen, a direction.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// The parts of a text that look like a token: digits, a colon, and a key.
fn candidates(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(':')
        .filter_map(|(colon, _)| candidate(text, colon))
}

/// The part of a text around a colon that looks like a token.
fn candidate(text: &str, colon: usize) -> Option<&str> {
    let before = &text[..colon];
    let behind = &text[colon + 1..];
    let id = before.len() - before.trim_end_matches(is_digit).len();
    let key = behind.len() - behind.trim_start_matches(is_of_key).len();
    if !ID_LENGTH.contains(&id) || !KEY_LENGTH.contains(&key) {
        return None;
    }
    Some(&text[colon - id..=colon + key])
}

/// What is wrong with a text that holds no token, and the form of a token. It quotes nothing of the
/// text but one character that is never in a token.
fn fault(text: &str) -> String {
    // The second one is the colon of East Asian keyboards.
    let (id, key) = text.split_once([':', '\u{ff1a}']).unwrap_or((text, ""));
    let foreign = text.chars().find(|c| !c.is_ascii());

    let fault = if text.is_empty() {
        "is empty: put the token from BotFather there".to_owned()
    } else if text.contains("***") {
        "holds a token with a hidden key (***): copy the whole token from BotFather".to_owned()
    } else if let Some(c) = foreign
        && text.chars().count() < 2 * LENGTH_LIMIT
    {
        format!(
            "holds the character U+{:04X}, which is never in a token; it may look like a Latin letter: copy the token \
             from BotFather again",
            u32::from(c)
        )
    } else if key.is_empty() && is_number(id.trim()) {
        "holds only the bot's number: the colon and the key after it are missing".to_owned()
    } else if key.is_empty() && is_key(text) {
        "holds only the key: the bot's number and the colon before it are missing".to_owned()
    } else if id.ends_with(is_digit) && is_broken_key(key) {
        "has a space or a line break inside the token: write the token on one line".to_owned()
    } else if is_number(id) && text.len() > LENGTH_LIMIT {
        format!("is too long: a token has at most {LENGTH_LIMIT} characters")
    } else {
        "holds no token: copy the token from BotFather".to_owned()
    };
    format!("{fault} ({FORM})")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_digit)
}

fn is_key(text: &str) -> bool {
    KEY_LENGTH.contains(&text.len()) && text.chars().all(is_of_key)
}

/// Whether a text is a key with spaces or line breaks in it.
fn is_broken_key(text: &str) -> bool {
    let parts: Vec<_> = text.split_whitespace().collect();
    parts.len() > 1 && is_key(&parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";

    #[test]
    fn a_token_shows_only_its_id() {
        let token = Token::parse(&format!("{TOKEN}\r\n")).unwrap();
        assert_eq!(token.expose(), TOKEN);
        assert_eq!(token.id(), 110_201_543);
        assert!(!format!("{token:?}").contains("AAH"));
    }

    #[test]
    fn a_malformed_token_is_an_error() {
        let long = format!("1:{}", "a".repeat(80));
        for text in [
            "",
            "token",
            "110201543",
            ":abc",
            "0123:abc",
            "+1:abc",
            "1:",
            "1:a b",
            "1:a/b",
            "x:abc",
            &long,
        ] {
            assert!(Token::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_found_in_what_people_paste() {
        let message = format!(
            "Done! Congratulations on your new bot. You will find it at t.me/x_bot.\n\nUse this token to access the HTTP API:\n\
             {TOKEN}\nKeep your token secure and store it safely: it can be used by anyone at 12:30."
        );
        for text in [
            format!("\u{feff}{TOKEN}\r\n"),
            format!("\"{TOKEN}\""),
            format!("'{TOKEN}'\n"),
            format!("`{TOKEN}`"),
            format!("TELEGRAM_BOT_TOKEN={TOKEN}\n"),
            format!("export TELEGRAM_BOT_TOKEN=\"{TOKEN}\"\n"),
            format!("token = '{TOKEN}'"),
            format!("bot{TOKEN}"),
            format!("https://api.telegram.org/bot{TOKEN}/getMe"),
            TOKEN.replace(':', "\u{200b}:\u{2060}"),
            format!("{TOKEN}\n{TOKEN}\n"),
            format!("“{TOKEN}”"),
            message,
        ] {
            assert_eq!(Token::parse(&text).unwrap().expose(), TOKEN, "{text}");
        }
    }

    #[test]
    fn an_error_of_a_token_says_what_is_wrong_and_quotes_nothing() {
        let (id, key) = TOKEN.split_once(':').unwrap();
        let other = "4839574812:AAFD39kkdpWt3ywyRZergyOLMaJhac60qcg";
        for (text, words) in [
            (String::new(), "is empty"),
            ("  \n".into(), "is empty"),
            (id.to_owned(), "only the bot's number"),
            (key.to_owned(), "only the key"),
            (format!("{id}:***"), "a hidden key (***)"),
            (TOKEN.replace("AA", "АА"), "U+0410"),
            (TOKEN.replace(':', "："), "U+FF1A"),
            (TOKEN.replace("vCH1", "vCH1\n"), "a line break inside"),
            (format!("{TOKEN}\n{other}"), "holds 2 tokens"),
            (format!("{id}:{}", "a".repeat(80)), "too long"),
            ("hello".into(), "holds no token"),
        ] {
            let error = Token::parse(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
            assert!(
                !error.contains("AHdq") && crate::secret::mask(&error) == error,
                "{error}"
            );
        }
    }

    #[test]
    fn a_secret_token_is_stable_and_fits_telegrams_alphabet() {
        let secret = Token::parse(TOKEN).unwrap().secret_token();
        assert_eq!(secret, Token::parse(TOKEN).unwrap().secret_token());
        assert_ne!(
            secret,
            Token::parse("110201543:other").unwrap().secret_token()
        );
        assert_eq!(secret.expose().len(), 64);
        assert!(secret.expose().bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
