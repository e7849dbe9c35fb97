//! Text as people and their programs write it: editors on Windows put a byte order mark before it, or
//! write UTF-16, and people mistype words.

/// The text in a file, UTF-8 or UTF-16, without a byte order mark. What is no text becomes U+FFFD.
pub(crate) fn decode(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, text @ ..] => utf16(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf16(text, u16::from_be_bytes),
        // UTF-16 without a mark: plain English has a zero in every pair.
        [first, 0, ..] if *first != 0 => utf16(bytes, u16::from_le_bytes),
        [0, second, ..] if *second != 0 => utf16(bytes, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, text @ ..] | text => String::from_utf8_lossy(text).into_owned(),
    }
}

/// UTF-16 whose units `read` makes from two bytes.
fn utf16(bytes: &[u8], read: fn([u8; 2]) -> u16) -> String {
    let (pairs, _) = bytes.as_chunks();
    let units: Vec<_> = pairs.iter().copied().map(read).collect();
    String::from_utf16_lossy(&units)
}

/// The known word that a person meant by `word`, if one is similar. Only the first 40 letters of
/// `word` count.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word: String = word.chars().take(40).collect();
    let distances = known
        .into_iter()
        .map(|known| (strsim::osa_distance(&word, known), known));
    let (distance, nearest) = distances.min()?;
    // One slip, and one more for each six letters.
    let tolerated = 1 + nearest.len() / 6;
    (distance <= tolerated).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_editor_is_decoded() {
        let units = |text: &str, write: fn(u16) -> [u8; 2]| {
            text.encode_utf16().flat_map(write).collect::<Vec<_>>()
        };
        let text = "token: é\r\n";
        for bytes in [
            text.as_bytes().to_vec(),
            format!("\u{feff}{text}").into_bytes(),
            units(&format!("\u{feff}{text}"), u16::to_le_bytes),
            units(&format!("\u{feff}{text}"), u16::to_be_bytes),
            units(text, u16::to_le_bytes),
            units(text, u16::to_be_bytes),
        ] {
            assert_eq!(decode(&bytes), text, "{bytes:?}");
        }
        assert_eq!(decode(&[0x61, 0xff]), "a\u{fffd}");
        for short in [&[][..], &[0], &[0x61], &[0, 0]] {
            assert_eq!(decode(short).len(), short.len());
        }
    }
}
