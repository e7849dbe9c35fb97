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

/// The known word that a person meant by `word`, if one is similar.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let distances = known
        .into_iter()
        .map(|known| (distance(word, known), known));
    let (distance, nearest) = distances.min()?;
    // One slip, and one more for each six letters.
    let tolerated = 1 + nearest.len() / 6;
    (distance <= tolerated).then_some(nearest)
}

/// How many letters are inserted, removed, changed, or swapped with the next (the distance of
/// Damerau and Levenshtein, without overlaps). Only the first 40 letters of `one` count.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<_> = one.chars().take(40).collect();
    let other: Vec<_> = other.chars().collect();
    // rows[i][j] is the distance of the first i letters of one from the first j of the other.
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
