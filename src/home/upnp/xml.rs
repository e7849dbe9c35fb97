//! What routers answer, as they write it: strict XML where it is, and else a scan for the few
//! elements that are needed.
//!
//! Both see a document as a list of elements, each with the text at its beginning. The caller
//! bounds the text.

use roxmltree::Document;

use crate::system::text;

/// A parser's work grows with the cube of these, and a router has use for a handful.
const NAMESPACES: usize = 32;
/// Services that are looked at: a router has a handful.
const SERVICES: usize = 64;
/// Bytes that can stand in a name or an entity.
const WORD_LIMIT: usize = 128;

/// What a description says of a device.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// What URLs are relative to, if it is not where the description came from.
    pub url_base: Option<String>,
    /// Their types, and the URLs where they are asked.
    pub services: Vec<(String, String)>,
}

/// An answer's element, or the router's number for why not, with its words.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The text of the element.
    Value(String),
    /// The code and the description of an error.
    Refused(u32, String),
}

/// Name and text.
type Element = (String, String);

/// Reads a device's description.
#[must_use]
pub fn description(bytes: &[u8]) -> Description {
    let mut description = Description::default();
    let mut service: Option<(String, String)> = None;
    for (name, value) in elements(bytes) {
        match (name.as_str(), &mut service) {
            ("urlbase", _) if !value.is_empty() => description.url_base = Some(value),
            ("service", done) => description
                .services
                .extend(done.replace(Default::default())),
            ("servicetype", Some((kind, _))) if kind.is_empty() => *kind = value,
            ("controlurl", Some((_, url))) if url.is_empty() => *url = value,
            _ => {}
        }
        if description.services.len() > SERVICES {
            break;
        }
    }
    description.services.extend(service);
    description
        .services
        .retain(|(kind, url)| !kind.is_empty() && !url.is_empty());
    description
}

/// Reads the element `wanted` of an answer, or the error in it. Of several names the first is taken
/// that is there.
#[must_use]
pub fn answer(bytes: &[u8], wanted: &str) -> Option<Answer> {
    let all = elements(bytes);
    let text = |wanted: &str| {
        all.iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.clone())
    };
    if let Some(code) = text("errorCode").and_then(|code| code.parse().ok()) {
        return Some(Answer::Refused(
            code,
            text("errorDescription").unwrap_or_default(),
        ));
    }
    if let Some(value) = text(wanted) {
        return Some(Answer::Value(value));
    }
    // A fault without UPnP's own part.
    let is_fault = all.iter().any(|(name, _)| name == "fault");
    is_fault.then(|| {
        Answer::Refused(
            0,
            text("faultstring").unwrap_or_else(|| "an unknown error".into()),
        )
    })
}

/// All elements, their names in lower case and without prefixes.
fn elements(bytes: &[u8]) -> Vec<Element> {
    let text = decode(bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    strict(text).unwrap_or_else(|| scan(text))
}

/// UTF-8 and UTF-16, or else Latin-1, whatever the document calls itself: what is needed is ASCII.
fn decode(bytes: &[u8]) -> String {
    let start = bytes
        .iter()
        .position(|byte| !byte.is_ascii_whitespace() && *byte != 0)
        .unwrap_or(bytes.len());
    // Zeros before the text are padding; before a letter of UTF-16 there is one.
    let bytes = if start > 1 && !matches!(bytes, [0xfe | 0xff, ..]) {
        &bytes[start..]
    } else {
        bytes
    };
    let wide = matches!(
        bytes,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'<', 0, ..] | [0, b'<', ..]
    );
    match std::str::from_utf8(bytes) {
        Ok(text) if !wide => text.trim_start_matches('\u{feff}').to_owned(),
        Err(_) if !wide => bytes.iter().map(|byte| char::from(*byte)).collect(),
        _ => text::decode(bytes),
    }
}

fn strict(text: &str) -> Option<Vec<Element>> {
    if text.matches("xmlns").count() > NAMESPACES {
        return None;
    }
    let document = Document::parse(text).ok()?;
    let element = |node: roxmltree::Node| {
        (
            node.tag_name().name().to_ascii_lowercase(),
            node.text().unwrap_or_default().trim().to_owned(),
        )
    };
    Some(
        document
            .descendants()
            .filter(roxmltree::Node::is_element)
            .map(element)
            .collect(),
    )
}

/// Reads tag by tag, and forgives everything: prefixes that nobody declared, raw `&`, a document
/// type, what lacks its end.
fn scan(text: &str) -> Vec<Element> {
    let (mut found, mut rest): (Vec<Element>, _) = (Vec::new(), text);
    // The element whose text is being read.
    let mut open = false;
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        if let (true, Some((_, value))) = (open, found.last_mut()) {
            value.push_str(&unescaped(before));
        }
        if let Some(content) = tag.strip_prefix("<![CDATA[") {
            let (content, after) = content.split_once("]]>").unwrap_or((content, ""));
            if let (true, Some((_, value))) = (open, found.last_mut()) {
                value.push_str(content);
            }
            rest = after;
            continue;
        }
        let (content, after) = match tag.strip_prefix("<!--") {
            Some(comment) => (
                "!",
                comment.split_once("-->").map_or("", |(_, after)| after),
            ),
            None => tag[1..].split_once('>').unwrap_or((&tag[1..], "")),
        };
        rest = after;
        match content.bytes().next() {
            // A comment, a document type, a processing instruction.
            Some(b'!' | b'?') => {}
            Some(b'/') | None => open = false,
            Some(_) => {
                open = !content.ends_with('/');
                found.push((local_name(content), String::new()));
            }
        }
    }
    for (_, value) in &mut found {
        *value = value
            .trim_matches(|c: char| c.is_whitespace() || c == '\0')
            .to_owned();
    }
    found
}

/// The name of a tag, in lower case and without its prefix.
fn local_name(tag: &str) -> String {
    let name = tag
        .split(|c: char| c.is_whitespace() || c == '/')
        .next()
        .unwrap_or_default();
    let name = name.rsplit(':').next().unwrap_or_default();
    name.chars()
        .take(WORD_LIMIT)
        .collect::<String>()
        .to_ascii_lowercase()
}

/// A text with its entities replaced; what is none stays.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('&');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').unwrap_or(("", part));
        let number = |digits: &str, radix| {
            u32::from_str_radix(digits, radix)
                .ok()
                .and_then(char::from_u32)
        };
        let known = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some(' '),
            _ => match name.strip_prefix('#') {
                Some(hex) if hex.starts_with(['x', 'X']) => number(&hex[1..], 16),
                Some(digits) => number(digits, 10),
                None => None,
            },
        };
        if let Some(c) = known {
            whole.push(c);
            whole.push_str(rest);
        } else {
            whole.push('&');
            whole.push_str(part);
        }
    }
    whole
}
