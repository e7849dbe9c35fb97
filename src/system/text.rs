//! Text files as people's programs write them: editors on Windows put a mark before the text, or write UTF-16.

/// The text in a file, without the mark before it. What is no text becomes U+FFFD.
pub(crate) fn decode(bytes: &[u8]) -> String {
    let utf16 = |bytes: &[u8], read: fn([u8; 2]) -> u16| {
        let units: Vec<_> = bytes.chunks_exact(2).map(|unit| read([unit[0], unit[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xef, 0xbb, 0xbf, text @ ..] => String::from_utf8_lossy(text).into_owned(),
        [0xff, 0xfe, text @ ..] => utf16(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf16(text, u16::from_be_bytes),
        // Without a mark, too: plain English in UTF-16 has a zero in every pair.
        [first, 0, ..] if *first != 0 => utf16(bytes, u16::from_le_bytes),
        [0, second, ..] if *second != 0 => utf16(bytes, u16::from_be_bytes),
        text => String::from_utf8_lossy(text).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_in_whatever_form_an_editor_wrote_it() {
        let units = |text: &str, write: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(write).collect::<Vec<_>>();
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
