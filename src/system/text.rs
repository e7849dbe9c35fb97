//! Text as people and their programs write it: editors on Windows put a mark before it, or write
//! UTF-16, and fingers slip.

/// The text in a file, without the mark before it. What is no text becomes U+FFFD.
pub(crate) fn decode(bytes: &[u8]) -> String {
    let utf16 = |bytes: &[u8], read: fn([u8; 2]) -> u16| {
        let units: Vec<_> = bytes
            .chunks_exact(2)
            .map(|unit| read([unit[0], unit[1]]))
            .collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, text @ ..] => utf16(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf16(text, u16::from_be_bytes),
        // Without a mark, too: plain English in UTF-16 has a zero in every pair.
        [first, 0, ..] if *first != 0 => utf16(bytes, u16::from_le_bytes),
        [0, second, ..] if *second != 0 => utf16(bytes, u16::from_be_bytes),
        text => {
            String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)).into_owned()
        }
    }
}

/// The known word that was meant by `word`, if one is near.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let nearest = known
        .into_iter()
        .map(|known| (distance(word, known), known))
        .min();
    nearest
        .filter(|(distance, known)| *distance <= 1 + known.len() / 6)
        .map(|(_, known)| known)
}

/// How many letters are to be put in, taken out, changed, or swapped with the next (Damerau and
/// Levenshtein). What is far too long is not looked at.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<_>, Vec<_>) = (one.chars().take(40).collect(), other.chars().collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<_>>()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b))
                .min(rows[i][j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_in_whatever_form_an_editor_wrote_it() {
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
