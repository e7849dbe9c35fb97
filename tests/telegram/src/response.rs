//! An HTTP response as Telegram reads it, which is not quite as the RFC has it.

/// A webhook's answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code; 200 to 299 is a success.
    pub code: u16,
    /// The reason phrase, as the server wrote it.
    pub reason: String,
    /// The body, without its chunks but still with its Content-Encoding.
    pub body: Vec<u8>,
    /// The connection ends with this response.
    pub close: bool,
    head: String,
}

/// A response that Telegram cannot read: the status it writes back, and its error message.
#[derive(Debug, PartialEq)]
pub(crate) struct Unreadable(pub u16, pub &'static str);

const MAX_HEAD: usize = 256 * 1024;
const MAX_PARAMETERS: usize = 1024 * 1024;
const BAD_REQUEST: Unreadable = Unreadable(400, "Bad Request");

impl Response {
    /// The update counts as delivered.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The last value of a header; `name` in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().filter(|(key, _)| key.eq_ignore_ascii_case(name)).last().map(|(_, value)| value)
    }

    /// Every header, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.split("\r\n").filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()))
    }

    /// Seconds of Retry-After, 0 when it is absent or not a plain number.
    pub(crate) fn retry_after(&self) -> u64 {
        self.header("retry-after")
            .and_then(|text| text.parse().ok())
            .map_or(0, |seconds: i64| seconds.clamp(0, 3600))
            .unsigned_abs()
    }

    /// The first response in `input` and its length in bytes; `None` until it is complete. An interim
    /// (1xx) response is a response like any other, and bytes after the end begin the next one.
    pub(crate) fn read(input: &[u8]) -> Result<Option<(Response, usize)>, Unreadable> {
        let Some(end) = find(input, b"\r\n\r\n") else {
            return if input.len() > MAX_HEAD {
                Err(Unreadable(431, "Request Header Fields Too Large: too big"))
            } else {
                Ok(None)
            };
        };
        let mut response = Response::read_head(&input[..end + 2])?;
        let body = &input[end + 4..];
        let encoding = response.header("content-encoding").unwrap_or_default().to_ascii_lowercase();
        if !["", "none", "gzip", "deflate"].contains(&encoding.as_str()) {
            return Err(Unreadable(415, "Unsupported Media Type: unsupported content-encoding"));
        }
        let (content, length) = match response.header("transfer-encoding") {
            None => {
                let length = match response.header("content-length") {
                    None => 0,
                    Some(text) => text.parse().map_err(|_| BAD_REQUEST)?,
                };
                response.check_size(length)?;
                match body.get(..length) {
                    Some(content) => (content.to_vec(), length),
                    None => return Ok(None),
                }
            }
            Some(encoding) if encoding.eq_ignore_ascii_case("chunked") => match read_chunks(body)? {
                Some(whole) => whole,
                None => return Ok(None),
            },
            Some(_) => {
                return Err(Unreadable(501, "Unimplemented: unsupported transfer-encoding"));
            }
        };
        response.check_size(content.len())?;
        response.body = content;
        Ok(Some((response, end + 4 + length)))
    }

    fn read_head(head: &[u8]) -> Result<Response, Unreadable> {
        let head = String::from_utf8_lossy(head);
        let (version, rest) = head.split_once(' ').unwrap_or((&head, ""));
        match version {
            "HTTP/1.1" | "HTTP/1.0" => {}
            _ if version.starts_with("HTTP") => {
                return Err(Unreadable(505, "HTTP Version Not Supported"));
            }
            _ => return Err(Unreadable(501, "Not Implemented")),
        }
        // Up to the next space, wherever it is: a code without one swallows the line that follows.
        let (code, rest) = rest.split_once(' ').ok_or(BAD_REQUEST)?;
        let digits = code.find(|c: char| !c.is_ascii_digit()).unwrap_or(code.len());
        let (reason, headers) = rest.trim_start_matches(' ').split_once("\r\n").ok_or(BAD_REQUEST)?;
        let mut response = Response {
            code: code[..digits].parse().unwrap_or(0),
            reason: reason.to_owned(),
            body: Vec::new(),
            close: false,
            head: headers.to_owned(),
        };
        response.close = match response.header("connection") {
            Some(value) => value.eq_ignore_ascii_case("close"),
            None => version == "HTTP/1.0",
        };
        Ok(response)
    }

    fn check_size(&self, length: usize) -> Result<(), Unreadable> {
        let content_type = self.header("content-type").unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let is_parameters = ["application/json", "application/x-www-form-urlencoded"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(kind));
        if length > MAX_PARAMETERS && is_parameters {
            return Err(Unreadable(413, "Request Entity Too Large: too many parameters"));
        }
        Ok(())
    }
}

/// A chunked body that begins `input`, and its length with the chunk framing.
pub(crate) fn read_chunks(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Unreadable> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = find(&input[at..], b"\r\n") else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&input[at..at + line]);
        let size = text.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| BAD_REQUEST)?;
        at += line + 2;
        if size == 0 {
            // The trailer: lines up to an empty one.
            while let Some(line) = find(&input[at..], b"\r\n") {
                at += line + 2;
                if line == 0 {
                    return Ok(Some((body, at)));
                }
            }
            return Ok(None);
        }
        let Some(chunk) = at.checked_add(size).and_then(|end| input.get(at..end)) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        at += size;
        match input.get(at..at + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += 2,
            Some(_) => return Err(BAD_REQUEST),
        }
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Response, usize) {
        Response::read(text.as_bytes()).unwrap().expect("a whole response")
    }

    #[test]
    fn framing_is_by_length_or_chunks_alone() {
        let (response, length) = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1");
        assert_eq!((response.code, response.body.as_slice(), length), (200, &b"hi"[..], 40));
        let (response, length) = read("HTTP/1.1 204 No Content\r\n\r\nrest");
        assert_eq!((response.body.len(), length), (0, 27));
        let (response, _) =
            read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x\r\n!\r\n0\r\n\r\n");
        assert_eq!(response.body, b"hi!");
        assert!(Response::read(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n").unwrap().is_none());
    }

    #[test]
    fn a_code_without_a_space_swallows_the_next_line() {
        let (response, _) = read("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n");
        assert_eq!((response.code, response.reason.as_str(), response.body.len()), (200, "5", 0));
        assert_eq!(Response::read(b"HTTP/1.1 200\r\nA:b\r\n\r\n").unwrap_err(), BAD_REQUEST);
    }

    #[test]
    fn what_cannot_be_read_has_telegrams_words() {
        let message = |text: &str| Response::read(text.as_bytes()).unwrap_err().1;
        assert_eq!(message("HTTP/2 200 OK\r\n\r\n"), "HTTP Version Not Supported");
        assert_eq!(message("ok\r\n\r\n"), "Not Implemented");
        assert_eq!(
            message("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n"),
            "Unsupported Media Type: unsupported content-encoding"
        );
        assert_eq!(
            message("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1048577\r\n\r\n"),
            "Request Entity Too Large: too many parameters"
        );
    }

    #[test]
    fn closing_and_retry_after_are_read() {
        assert!(read("HTTP/1.0 200 OK\r\n\r\n").0.close);
        assert!(read("HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n").0.close);
        assert!(!read("HTTP/1.1 200 OK\r\nConnection: close, x\r\n\r\n").0.close);
        assert!(!read("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n").0.close);
        let after = |text: &str| read(&format!("HTTP/1.1 503 No\r\nRetry-After: {text}\r\n\r\n")).0.retry_after();
        assert_eq!([after("5"), after("9999"), after("-1"), after("soon")], [5, 3600, 0, 0]);
    }
}
