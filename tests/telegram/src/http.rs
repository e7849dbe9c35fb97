//! HTTP as the Bot API server reads it: requests, and parameters in all their forms.

use std::collections::BTreeMap;
use std::{fmt, io};

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::response::{find, read_chunks};

/// One API request.
pub(crate) struct Request {
    /// The path with its query.
    pub target: String,
    pub content_type: String,
    pub body: Vec<u8>,
    /// The connection ends with the answer.
    pub close: bool,
}

/// The parameters and the files of a call.
#[derive(Default)]
pub(crate) struct Parameters {
    pub values: Map<String, Value>,
    pub files: BTreeMap<String, Vec<u8>>,
}

enum Length {
    Bytes(usize),
    Chunks,
}

/// Reads one request from `stream`, no more than `limit` bytes; `None` when it has ended. `input`
/// holds what was read beyond.
pub(crate) async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    input: &mut Vec<u8>,
    limit: usize,
) -> io::Result<Option<Request>> {
    let (mut request, head, length, is_expecting) = loop {
        if let Some(head) = read_head(input)? {
            break head;
        }
        if !read_some(stream, input, limit).await? {
            return Ok(None);
        }
    };
    if is_expecting {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        stream.flush().await?;
    }
    loop {
        let whole = match length {
            Length::Bytes(length) => input
                .get(head..head + length)
                .map(|body| (body.to_vec(), length)),
            Length::Chunks => read_chunks(&input[head..]).map_err(|_| bad("chunks"))?,
        };
        if let Some((body, length)) = whole {
            input.drain(..head + length);
            request.body = body;
            return Ok(Some(request));
        }
        if !read_some(stream, input, limit).await? {
            return Ok(None);
        }
    }
}

/// Reads on, up to `limit` bytes in all; whether there was something.
async fn read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut Vec<u8>,
    limit: usize,
) -> io::Result<bool> {
    let room = limit.saturating_sub(input.len());
    Ok(stream.take(room as u64).read_buf(input).await? > 0)
}

/// The request without its body, the length of the head, and how the body is framed.
fn read_head(input: &[u8]) -> io::Result<Option<(Request, usize, Length, bool)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(end) =
        head.parse(input).map_err(|error| bad(&error.to_string()))?
    else {
        return Ok(None);
    };
    let header = |name: &str| {
        let found = head
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found.map_or("", |header| {
            std::str::from_utf8(header.value).unwrap_or_default()
        })
    };
    let length = if header("transfer-encoding").eq_ignore_ascii_case("chunked") {
        Length::Chunks
    } else {
        let text = header("content-length");
        Length::Bytes(if text.is_empty() {
            0
        } else {
            text.parse().map_err(|_| bad("Content-Length"))?
        })
    };
    let request = Request {
        target: head.path.unwrap_or_default().to_owned(),
        content_type: header("content-type").to_owned(),
        body: Vec::new(),
        close: header("connection").eq_ignore_ascii_case("close") || head.version == Some(0),
    };
    Ok(Some((
        request,
        end,
        length,
        header("expect").eq_ignore_ascii_case("100-continue"),
    )))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Parameters {
    /// From the query and the body. Of two parameters with the same name the first counts; of a
    /// body that cannot be read to its end, what comes before.
    pub fn read(query: &str, content_type: &str, body: &[u8]) -> Parameters {
        let mut parameters = Parameters::default();
        parameters.add_form(query.as_bytes());
        let kind = content_type.to_ascii_lowercase();
        if kind.contains("multipart/form-data") {
            if let Some((_, boundary)) = content_type.split_once("boundary=") {
                let boundary = boundary
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .trim_matches('"');
                parameters.add_parts(body, boundary);
            }
        } else if kind.contains("application/x-www-form-urlencoded") {
            parameters.add_form(body);
        } else if kind.contains("application/json") {
            // The error comes after what was read.
            let _ = serde_json::Deserializer::from_slice(body)
                .deserialize_map(Collect(&mut parameters));
        }
        parameters
    }

    fn add(&mut self, name: String, value: Value) {
        self.values.entry(name).or_insert(value);
    }

    fn add_form(&mut self, form: &[u8]) {
        for pair in form
            .split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty())
        {
            let equals = pair
                .iter()
                .position(|byte| *byte == b'=')
                .unwrap_or(pair.len());
            let value = pair.get(equals + 1..).unwrap_or_default();
            self.add(decode(&pair[..equals]), decode(value).into());
        }
    }

    fn add_parts(&mut self, body: &[u8], boundary: &str) {
        let delimiter = format!("\r\n--{boundary}");
        let whole = [b"\r\n", body].concat();
        let mut rest = whole.as_slice();
        while let Some(start) = find(rest, delimiter.as_bytes()) {
            let part = &rest[start + delimiter.len()..];
            let end = find(part, delimiter.as_bytes()).unwrap_or(part.len());
            if let Some(head) = find(&part[..end], b"\r\n\r\n") {
                self.add_part(
                    &String::from_utf8_lossy(&part[..head]),
                    &part[head + 4..end],
                );
            }
            rest = &part[end..];
        }
    }

    fn add_part(&mut self, head: &str, content: &[u8]) {
        let Some(disposition) = head.split("\r\n").find(|line| {
            line.to_ascii_lowercase()
                .starts_with("content-disposition:")
        }) else {
            return;
        };
        let attribute = |name: &str| {
            let mut all = disposition.split(';').map(str::trim);
            all.find_map(|item| item.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('"').to_owned())
        };
        let Some(name) = attribute("name") else {
            return;
        };
        // Only a part with a file name is a file.
        if attribute("filename").is_some() {
            self.files.insert(name, content.to_vec());
        } else {
            self.add(name, String::from_utf8_lossy(content).into());
        }
    }
}

/// Takes the members of a JSON object as they come.
struct Collect<'a>(&'a mut Parameters);

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some((name, value)) = members.next_entry()? {
            self.0.add(name, value);
        }
        Ok(())
    }
}

/// The byte that two hexadecimal digits at the begin of `text` name.
fn hex_byte(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.get(..2)?).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

fn decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, others)) = rest.split_first() {
        match (first, hex_byte(others)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = others;
            }
            _ => {
                bytes.push(first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_in_four_forms() {
        let form = Parameters::read(
            "a=1&b",
            "application/x-www-form-urlencoded",
            b"text=%C3%A9+x",
        );
        assert_eq!(
            Value::Object(form.values),
            serde_json::json!({"a": "1", "b": "", "text": "é x"})
        );
        let json = Parameters::read("", "application/json; charset=utf-8", br#"{"chat_id":1}"#);
        assert_eq!(json.values["chat_id"], 1);
        let twice = Parameters::read(
            "a=1",
            "x-application/JSON",
            br#"{"a":2,"b":3,"b":4,"c":"cu"#,
        );
        assert_eq!(
            Value::Object(twice.values),
            serde_json::json!({"a": "1", "b": 3})
        );
        let behind = Parameters::read("", "application/json", br#"{"a":2} junk"#);
        assert_eq!(Value::Object(behind.values), serde_json::json!({"a": 2}));
        let body = b"--x\r\nContent-Disposition: form-data; name=\"url\"\r\n\r\nu\r\n--x\r\n\
            Content-Disposition: form-data; name=\"certificate\"; filename=\"c.pem\"\r\nContent-Type: text/plain\r\n\r\nPEM\r\n\r\n--x--\r\n";
        let parts = Parameters::read("", "multipart/form-data; boundary=x", body);
        assert_eq!(parts.values["url"], "u");
        assert_eq!(parts.files["certificate"], b"PEM\r\n");
    }
}
