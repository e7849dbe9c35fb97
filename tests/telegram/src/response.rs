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
pub(crate) struct Unreadable(pub u16, pub String);

const MAX_HEAD: usize = 256 * 1024;
const MAX_PARAMETERS: u64 = 1024 * 1024;
/// A body of Telegram's is no longer.
const MAX_CONTENT: u64 = u32::MAX as u64;

fn unreadable(code: u16, message: &str) -> Unreadable {
    Unreadable(code, message.to_owned())
}

impl Response {
    /// The update counts as delivered.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The last value of a header; `name` in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .last()
            .map(|(_, value)| value)
    }

    /// Every header, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim(), value.trim()))
    }

    /// Seconds of Retry-After: of the first one, and 0 for all that is not a number as a program
    /// prints it.
    pub(crate) fn retry_after(&self) -> u64 {
        let text = self
            .headers()
            .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
            .map_or("", |(_, value)| value);
        match text.parse::<i32>() {
            Ok(seconds) if seconds.to_string() == text => {
                seconds.clamp(0, 3600).unsigned_abs().into()
            }
            _ => 0,
        }
    }

    /// The first response in `input` and its length in bytes; `None` until it is complete. An
    /// interim (1xx) response is a response like any other, and bytes after the end begin the next
    /// one.
    pub(crate) fn read(input: &[u8]) -> Result<Option<(Response, usize)>, Unreadable> {
        let Some(end) = find(input, b"\r\n\r\n") else {
            return if input.len() > MAX_HEAD {
                Err(unreadable(
                    431,
                    "Request Header Fields Too Large: total headers size exceeded",
                ))
            } else {
                Ok(None)
            };
        };
        let mut response = Response::read_head(&input[..end + 2])?;
        let body = &input[end + 4..];
        let transfer = response
            .header("transfer-encoding")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let length =
            leading_number(response.header("content-length").unwrap_or_default()).min(MAX_CONTENT);
        if transfer.is_empty() && length == 0 {
            return Ok(Some((response, end + 4)));
        }
        if !["", "chunked"].contains(&transfer.as_str()) {
            return Err(unreadable(
                501,
                "Unimplemented: unsupported transfer-encoding",
            ));
        }
        let encoding = response
            .header("content-encoding")
            .unwrap_or_default()
            .to_ascii_lowercase();
        if !["", "none", "gzip", "deflate"].contains(&encoding.as_str()) {
            return Err(unreadable(
                415,
                "Unsupported Media Type: unsupported content-encoding",
            ));
        }
        let whole = if transfer.is_empty() {
            response.check_size(length)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            body.get(..length).map(|content| (content.to_vec(), length))
        } else {
            read_chunks(body)?
        };
        let Some((content, length)) = whole else {
            return Ok(None);
        };
        response.check_size(content.len() as u64)?;
        response.body = content;
        Ok(Some((response, end + 4 + length)))
    }

    fn read_head(head: &[u8]) -> Result<Response, Unreadable> {
        let head = String::from_utf8_lossy(head);
        let (version, rest) = head.split_once(' ').unwrap_or((&head, ""));
        match version {
            "HTTP/1.1" | "HTTP/1.0" => {}
            _ if version.starts_with("HTTP") => {
                return Err(unreadable(505, "HTTP Version Not Supported"));
            }
            _ => return Err(unreadable(501, "Not Implemented")),
        }
        // Up to the next space, wherever it is: a code without one swallows the line that follows.
        let (code, rest) = rest
            .split_once(' ')
            .ok_or_else(|| unreadable(400, "Bad Request"))?;
        let digits = code
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(code.len());
        let (reason, headers) = rest
            .trim_start_matches(' ')
            .split_once("\r\n")
            .ok_or_else(|| unreadable(400, "Bad Request"))?;
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

    fn check_size(&self, length: u64) -> Result<(), Unreadable> {
        if length >= MAX_CONTENT {
            return Err(Unreadable(
                413,
                format!("Request Entity Too Large: content length is {length}"),
            ));
        }
        let content_type = self
            .header("content-type")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let is_parameters = ["application/json", "application/x-www-form-urlencoded"]
            .iter()
            .any(|known| content_type.contains(known));
        if length > MAX_PARAMETERS && is_parameters {
            return Err(unreadable(
                413,
                "Request Entity Too Large: too many parameters",
            ));
        }
        Ok(())
    }
}

/// The number that `text` begins with; 0 when it begins with none.
fn leading_number(text: &str) -> u64 {
    let mut number = 0_u64;
    for digit in text.bytes().take_while(u8::is_ascii_digit) {
        let units = u64::from(digit - b'0');
        number = number.wrapping_mul(10).wrapping_add(units);
    }
    number
}

/// A chunked body that begins `input`, and its length with the chunk framing. What cannot be read
/// as a size is 0, and after the last chunk there are two bytes more, whatever they are: Telegram
/// knows no trailers.
pub(crate) fn read_chunks(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Unreadable> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let rest = &input[at..];
        let line = find(rest, b"\r\n");
        if line.unwrap_or(rest.len().saturating_sub(1)) > 8 {
            let text = String::from_utf8_lossy(&rest[..line.unwrap_or(9)]);
            return Err(Unreadable(
                400,
                format!("Bad Request: Too long length in chunked {text}"),
            ));
        }
        let Some(line) = line else {
            return Ok(None);
        };
        let mut size = 0;
        for byte in &rest[..line] {
            let Some(digit) = char::from(*byte).to_digit(16) else {
                break;
            };
            size = size * 16 + digit as usize;
        }
        at += line + 2;
        let Some(chunk) = input.get(at..at + size + 2) else {
            return Ok(None);
        };
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Response, usize) {
        Response::read(text.as_bytes())
            .unwrap()
            .expect("a whole response")
    }

    #[test]
    fn a_response_is_framed_by_content_length_or_chunks_alone() {
        let (response, length) = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1");
        assert_eq!(
            (response.code, response.body.as_slice(), length),
            (200, &b"hi"[..], 40)
        );
        let (response, length) = read("HTTP/1.1 204 No Content\r\n\r\nrest");
        assert_eq!((response.body.len(), length), (0, 27));
        let (response, _) = read(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x\r\n!\r\n0\r\n\r\n",
        );
        assert_eq!(response.body, b"hi!");
        assert!(
            Response::read(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_code_without_a_space_swallows_the_next_line() {
        let (response, _) = read("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(
            (response.code, response.reason.as_str(), response.body.len()),
            (200, "5", 0)
        );
        assert_eq!(
            Response::read(b"HTTP/1.1 200\r\nA:b\r\n\r\n")
                .unwrap_err()
                .1,
            "Bad Request"
        );
    }

    #[test]
    fn an_unreadable_response_has_telegrams_error() {
        let message = |text: &str| Response::read(text.as_bytes()).unwrap_err().1;
        assert_eq!(
            message("HTTP/2 200 OK\r\n\r\n"),
            "HTTP Version Not Supported"
        );
        assert_eq!(message("ok\r\n\r\n"), "Not Implemented");
        assert_eq!(
            message("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\n"),
            "Unsupported Media Type: unsupported content-encoding"
        );
        assert_eq!(
            message(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1048577\r\n\r\n"
            ),
            "Request Entity Too Large: too many parameters"
        );
    }

    #[test]
    fn connection_close_and_retry_after_are_read() {
        assert!(read("HTTP/1.0 200 OK\r\n\r\n").0.close);
        assert!(read("HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n").0.close);
        assert!(
            !read("HTTP/1.1 200 OK\r\nConnection: close, x\r\n\r\n")
                .0
                .close
        );
        assert!(
            !read("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n")
                .0
                .close
        );
        let after = |text: &str| {
            read(&format!("HTTP/1.1 503 No\r\nRetry-After: {text}\r\n\r\n"))
                .0
                .retry_after()
        };
        assert_eq!(
            [after("5"), after("9999"), after("-1"), after("soon")],
            [5, 3600, 0, 0]
        );
        assert_eq!(
            [
                after("+1"),
                after("01"),
                after("5 s"),
                after("2147483648"),
                after("")
            ],
            [0; 5]
        );
        assert_eq!(after("5\r\nRetry-After: 7"), 5, "the first of two");
    }

    #[test]
    fn a_content_length_is_its_leading_digits() {
        for length in ["junk", "-5", "", "0x10", "+2"] {
            let text = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: {length}\r\n\r\n"
            );
            assert_eq!(read(&text).1, text.len(), "{length}");
        }
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi!")
                .0
                .body,
            b"hi"
        );
        let large = "HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n";
        let message = Response::read(large.as_bytes()).unwrap_err().1;
        assert_eq!(
            message,
            "Request Entity Too Large: content length is 4294967295"
        );
    }

    #[test]
    fn chunks_have_no_trailer_and_an_unreadable_size_ends_them() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
        let length = |body: &str| read(&format!("{chunked}{body}")).1 - chunked.len();
        assert_eq!(length("0\r\nA: b\r\n\r\n"), 5);
        assert_eq!(length("x\r\n\r\n"), 5);
        let long = Response::read(format!("{chunked}000000002\r\nhi\r\n").as_bytes()).unwrap_err();
        assert_eq!(long.1, "Bad Request: Too long length in chunked 000000002");
        assert!(
            Response::read(format!("{chunked}2\r\nhi").as_bytes())
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn json_parameters_above_1_mib_are_refused() {
        let large = |kind: &str| {
            format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 1048577\r\n\r\n")
        };
        assert!(Response::read(large("x-application/jsonx").as_bytes()).is_err());
        assert!(
            Response::read(large("text/plain").as_bytes())
                .unwrap()
                .is_none()
        );
    }
}
