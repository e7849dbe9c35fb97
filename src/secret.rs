//! Text that must never be shown, and text of others that must not do harm where it is shown.

use std::fmt::{self, Write};
use std::ops::{Range, RangeInclusive};

use subtle::ConstantTimeEq;

/// The shortest key behind an id and a colon. Telegram's keys have 35 characters, and one that lost
/// some must not show either. Times, addresses and ports have fewer.
const SHORTEST_KEY: usize = 20;
/// The lengths and the beginning of a key that stands alone.
const KEY_LENGTHS: RangeInclusive<usize> = 32..=40;
const KEY_START: &[u8] = b"AA";
/// The bytes of others' words that are shown at most.
const PRINTED_BYTES: usize = 300;
/// The sign for text that was cut.
const MORE: &str = "…";

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

/// `text` with `***` for the key of each token in it: people paste theirs into every place. All that
/// leaves the process, but for its calls, goes through here.
pub(crate) fn mask(text: &str) -> String {
    mask_keys(text, &[])
}

/// Like [`mask`], where these keys must not show either, whatever they look like.
pub(crate) fn mask_keys(text: &str, keys: &[&str]) -> String {
    // A short way for nearly every line of the log.
    let is_between = |byte: &u8| !is_of_key(*byte) && *byte != b'%';
    let longest = text.as_bytes().split(is_between).map(<[u8]>::len).max();
    if keys.is_empty() && longest < Some(SHORTEST_KEY) {
        return text.to_owned();
    }

    let characters = characters(text.as_bytes());
    let mut masked = String::new();
    // The text up to here is in `masked`.
    let mut shown = 0;
    // The next character, the first of a word.
    let mut at = 0;
    while at < characters.len() {
        let length = characters[at..]
            .iter()
            .take_while(|character| is_of_key(character.byte))
            .count();
        let word = &characters[at..at + length];

        for hidden in secrets(word, is_behind_id(&characters[..at]), keys) {
            masked.push_str(&text[shown..word[hidden.start].start]);
            masked.push_str("***");
            shown = word[hidden.end - 1].end;
        }

        // Past the character that ends the word.
        at += length + 1;
    }
    masked.push_str(&text[shown..]);
    masked
}

/// A character as a URL means it, and its place in the text.
struct Character {
    byte: u8,
    start: usize,
    end: usize,
}

/// The characters of a text, also those that are percent-encoded, however often.
fn characters(text: &[u8]) -> Vec<Character> {
    let mut characters = Vec::new();
    let mut start = 0;
    while let Some(&first) = text.get(start) {
        // %25 is the percent sign itself: %253A stands for %3A, and so for a colon.
        let mut digits = start + 1;
        while first == b'%'
            && text[digits..].starts_with(b"25")
            && encoded(&text[digits + 2..]).is_some()
        {
            digits += 2;
        }

        let (byte, end) = match encoded(&text[digits..]) {
            Some(byte) if first == b'%' => (byte, digits + 2),
            _ => (first, start + 1),
        };
        characters.push(Character { byte, start, end });
        start = end;
    }
    characters
}

/// The byte that two hexadecimal digits at the beginning of `text` stand for.
fn encoded(text: &[u8]) -> Option<u8> {
    let digits = text.get(..2)?;
    // from_str_radix would accept a sign, too.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Whether an id and a colon stand at the end.
fn is_behind_id(characters: &[Character]) -> bool {
    matches!(characters, [.., id, colon] if id.byte.is_ascii_digit() && colon.byte == b':')
}

/// The parts of a word that must not show, in their order: the whole word if it looks like a key,
/// else the known `keys` in it.
fn secrets(word: &[Character], is_behind_id: bool, keys: &[&str]) -> Vec<Range<usize>> {
    let bytes: Vec<_> = word.iter().map(|character| character.byte).collect();
    let is_key = KEY_LENGTHS.contains(&bytes.len()) && bytes.starts_with(KEY_START);
    if is_key || (is_behind_id && bytes.len() >= SHORTEST_KEY) {
        return vec![Range {
            start: 0,
            end: bytes.len(),
        }];
    }

    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let is_here = |key: &&&str| !key.is_empty() && bytes[at..].starts_with(key.as_bytes());
        match keys.iter().find(is_here) {
            Some(key) => {
                found.push(at..at + key.len());
                at += key.len();
            }
            None => at += 1,
        }
    }
    found
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Others' words for a log or a terminal: on one line, at most 300 bytes, without tokens, and with
/// nothing that steers a terminal.
pub(crate) fn printable(text: &str) -> String {
    // First the mask: half a key does not look like one.
    cut(&mask(&one_line(text)), PRINTED_BYTES)
}

/// `text` with a space for each character that ends a line, steers a terminal, or changes how the
/// text around it reads.
pub(crate) fn one_line(text: &str) -> String {
    // A short way for nearly every line of the log.
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if is_printed(c) { c } else { ' ' })
        .collect()
}

/// Like [`one_line`], but the ends of lines stay.
pub(crate) fn lines(text: &str) -> String {
    text.chars()
        .map(|c| if is_printed(c) || c == '\n' { c } else { ' ' })
        .collect()
}

/// The beginning of `text`, at most so many bytes; a sign at its end says that there was more.
pub(crate) fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes.saturating_sub(MORE.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MORE}", &text[..end])
}

/// Whether a character is seen, and nothing else: no control character, no line or paragraph
/// separator, and none of Unicode's format characters (General Category Cf), which turn the
/// direction of a line or are not seen.
fn is_printed(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}')
        || matches!(c, '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}')
        || matches!(c, '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";

    #[test]
    fn a_secret_matches_only_itself_and_prints_as_stars() {
        let secret = Secret::from("110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw".to_owned());
        assert!(secret.matches(secret.expose().as_bytes()));
        assert!(!secret.matches(b"110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaW"));
        assert!(!secret.matches(b"") && !secret.matches(b"110201543"));
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
    }

    #[test]
    fn mask_hides_each_token_and_nothing_else() {
        for (text, masked) in [
            ("https://x/botTOKEN/getMe", "https://x/botMASKED/getMe"),
            ("'--TOKEN=TOKEN'\n", "'--MASKED=MASKED'\n"),
            // Pasted twice.
            ("TOKENTOKEN:TOKEN", "MASKED:***:MASKED"),
            ("1:abcdefghijklmnopqrst 1:", "1:*** 1:"),
        ] {
            assert_eq!(
                mask(&text.replace("TOKEN", TOKEN)),
                masked.replace("MASKED", "110201543:***")
            );
        }
        for text in [
            "",
            ":",
            "2026-11-24 08:22:12Z [INFO] bot 1: 200",
            "[2001:db8::1]:8443",
            "https://a.b:8443/x:y",
            "é:ü",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn mask_hides_a_percent_encoded_token_and_a_lone_key() {
        let key = TOKEN.split_once(':').unwrap().1;
        let every: String = TOKEN.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for (text, masked) in [
            (TOKEN.replace(':', "%3A"), "110201543%3A***"),
            (TOKEN.replace(':', "%3a"), "110201543%3a***"),
            (TOKEN.replace(':', "%253A"), "110201543%253A***"),
            (TOKEN.replace(":A", "%25253A%41"), "110201543%25253A***"),
            (TOKEN.replace('q', "%71"), "110201543:***"),
            (key.to_owned(), "***"),
            (format!("/{key}/ {key}"), "/***/ ***"),
            (key.replace("AA", "%41%2541"), "***"),
        ] {
            assert_eq!(mask(&text), masked, "{text}");
            assert_eq!(
                mask(&format!("é/{text}?%")),
                format!("é/{masked}?%"),
                "{text}"
            );
        }
        assert!(mask(&every).ends_with("%3a***"), "{}", mask(&every));
        for text in [
            "100%",
            "%",
            "%2",
            "%zz %25",
            "%2525",
            "a%20b",
            "é%é",
            &"a".repeat(64),
            "AAA",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn mask_keys_hides_known_keys_of_any_form() {
        let keys = ["ABC-DEF", ""];
        for (text, masked) in [
            ("/ABC-DEF/", "/***/"),
            ("/x-ABC-DEFABC-DEF_y", "/x-******_y"),
            ("/ABC%2DDE%46/", "/***/"),
            ("/ABC-DE/", "/ABC-DE/"),
        ] {
            assert_eq!(mask_keys(text, &keys), masked);
        }
    }

    #[test]
    fn printable_removes_line_ends_controls_and_direction_marks() {
        let bad = "\n\r\t\u{1b}\u{7f}\u{9b}\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0041}";
        for c in bad.chars() {
            assert_eq!(printable(&format!("a{c}b")), "a b", "{c:?}");
        }
        assert_eq!(lines("a\nb\u{202e}"), "a\nb ");
        for good in [
            "plain: 100 %",
            "привет 👋",
            "日本語",
            "עברית",
            "\u{600c}\u{2010}\u{2030}\u{205f}\u{2070}",
        ] {
            assert_eq!(printable(good), good);
        }
    }

    #[test]
    fn cut_ends_between_characters_with_an_ellipsis() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc…");
        assert_eq!(cut("ééééé", 6), "é…");
        assert_eq!(cut("abcdefg", 0), "…");
        assert_eq!(printable(&"é".repeat(1000)).len(), PRINTED_BYTES - 1);
    }
}
