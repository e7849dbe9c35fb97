//! The framing of one HTTP request. Pure: bytes in, a verdict out.
//!
//! Only what a webhook needs is HTTP here: a head, a `Content-Length`, a body. What could be read
//! in two ways is refused.

/// Bytes of a request line and its headers. Telegram's are below 4096.
pub const HEAD_LIMIT: usize = 8 * 1024;
/// Bytes of a body: Telegram's largest update. 512 KiB is what tdlib/td takes without the envelope
/// that holds the update's id (`MAX_EVENT_LENGTH`), and that is 26 bytes:
/// `{"update_id":2000000000,`, a line feed, and `}`.
pub const BODY_LIMIT: usize = 512 * 1024 + 26;
/// Headers of a request. Telegram sends eight.
const MAX_HEADERS: usize = 64;

/// What a request is refused with. The connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: malformed, or open to more than one reading.
    BadRequest,
    /// 403: not JSON, or without a length.
    Forbidden,
    /// 403: a bot's path without this bot's secret token.
    WrongSecret,
    /// 404: no bot has this path.
    NotFound,
    /// 405: not POST.
    MethodNotAllowed,
    /// 408: too slow.
    Timeout,
    /// 413: the body is over [`BODY_LIMIT`].
    TooLarge,
    /// 417: the client waits for an interim answer, which Telegram's never does.
    ExpectationFailed,
    /// 431: the head is over [`HEAD_LIMIT`] or has too many headers.
    HeadTooLarge,
    /// 503: there is no memory for the body at this moment.
    Busy,
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Forbidden | Self::WrongSecret => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::TooLarge => 413,
            Self::ExpectationFailed => 417,
            Self::HeadTooLarge => 431,
            Self::Busy => 503,
        }
    }

    /// Seconds after which Telegram comes again, where the answer says so.
    pub(super) fn retry_after(self) -> Option<u64> {
        matches!(self, Self::Busy).then_some(5)
    }

    /// The whole HTTP answer.
    #[must_use]
    pub fn answer(self) -> &'static [u8] {
        macro_rules! close {
            ($status:literal) => {
                concat!(
                    "HTTP/1.1 ",
                    $status,
                    "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                .as_bytes()
            };
        }
        match self {
            Self::BadRequest => close!("400 Bad Request"),
            Self::Forbidden | Self::WrongSecret => close!("403 Forbidden"),
            Self::NotFound => close!("404 Not Found"),
            Self::MethodNotAllowed => close!("405 Method Not Allowed\r\nAllow: POST"),
            Self::Timeout => close!("408 Request Timeout"),
            Self::TooLarge => close!("413 Content Too Large"),
            Self::ExpectationFailed => close!("417 Expectation Failed"),
            Self::Busy => close!("503 Service Unavailable\r\nRetry-After: 5"),
            Self::HeadTooLarge => close!("431 Request Header Fields Too Large"),
        }
    }
}

/// A complete request head, borrowed from the bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'b> {
    /// As sent: `POST`.
    pub method: &'b str,
    /// Path and query, as sent.
    pub path: &'b str,
    /// The media type, without parameters.
    pub content_type: Option<&'b [u8]>,
    /// `X-Telegram-Bot-Api-Secret-Token`.
    pub secret_token: Option<&'b [u8]>,
    /// Bytes of the body.
    pub content_length: Option<usize>,
    /// Bytes of the head, with the empty line.
    pub length: usize,
    /// Whether the client wants the connection closed after the answer.
    pub close: bool,
}

/// Reads the head at the start of `bytes`; `None` while it is not complete.
///
/// # Errors
/// The refusal of a head that no webhook needs. An incomplete one is refused as soon as no further
/// byte can make it right.
pub fn head(bytes: &[u8]) -> Result<Option<Head<'_>>, Refusal> {
    read_head(bytes, 1)
}

/// Like [`head`], for a request from a reverse proxy: nginx speaks HTTP/1.0 unless its settings say
/// otherwise. Such a connection ends with the answer.
///
/// # Errors
/// Those of [`head`], but HTTP/1.0 is no error.
pub fn proxied_head(bytes: &[u8]) -> Result<Option<Head<'_>>, Refusal> {
    read_head(bytes, 0)
}

/// `oldest` is the lowest minor version of HTTP/1 that is accepted.
fn read_head(bytes: &[u8], oldest: u8) -> Result<Option<Head<'_>>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let start = &bytes[..bytes.len().min(HEAD_LIMIT)];
    let length = match request.parse(start) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::HeadTooLarge);
        }
        Err(_) => return Err(Refusal::BadRequest),
    };

    if has_bare_lf(&bytes[..length]) {
        return Err(Refusal::BadRequest);
    }
    let method = request.method.ok_or(Refusal::BadRequest)?;
    let path = request.path.ok_or(Refusal::BadRequest)?;
    let version = request.version.ok_or(Refusal::BadRequest)?;
    if version < oldest {
        return Err(Refusal::BadRequest);
    }

    let mut head = Head {
        method,
        path,
        content_type: None,
        secret_token: None,
        content_length: None,
        length,
        // A client of HTTP/1.0 does not expect to keep the connection.
        close: version == 0,
    };
    for header in request.headers.iter() {
        read_header(&mut head, header)?;
    }
    Ok(Some(head))
}

/// Whether a line ends without CR. httparse accepts that; other servers do not, and would see
/// other headers than we do.
fn has_bare_lf(head: &[u8]) -> bool {
    head.split_inclusive(|byte| *byte == b'\n')
        .any(|line| !line.ends_with(b"\r\n"))
}

fn read_header<'b>(head: &mut Head<'b>, header: &httparse::Header<'b>) -> Result<(), Refusal> {
    let value = header.value.trim_ascii();
    let is = |name: &str| header.name.eq_ignore_ascii_case(name);

    if is("content-length") {
        let length = decimal(value).ok_or(Refusal::BadRequest)?;
        only_once(&mut head.content_length, length)
    } else if is("content-type") {
        only_once(&mut head.content_type, media_type(value))
    } else if is("x-telegram-bot-api-secret-token") {
        only_once(&mut head.secret_token, value)
    } else if is("connection") {
        head.close |= value.eq_ignore_ascii_case(b"close");
        Ok(())
    } else if is("expect") {
        Err(Refusal::ExpectationFailed)
    } else if is("transfer-encoding") || is("upgrade") {
        Err(Refusal::BadRequest)
    } else {
        Ok(())
    }
}

/// Stores the value of a header that comes once. With a second one of the same name, the request
/// could be read in two ways.
fn only_once<T>(field: &mut Option<T>, value: T) -> Result<(), Refusal> {
    if field.is_some() {
        return Err(Refusal::BadRequest);
    }
    *field = Some(value);
    Ok(())
}

/// The part of a `Content-Type` before its parameters.
fn media_type(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|byte| *byte == b';');
    value[..end.unwrap_or(value.len())].trim_ascii()
}

/// Reads digits only: no sign, no list. A number that does not fit becomes `usize::MAX`, which is
/// too large for a body.
fn decimal(text: &[u8]) -> Option<usize> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = std::str::from_utf8(text).ok()?;
    Some(digits.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Telegram sends it: telegram-bot-api, `WebhookActor::send_update`.
    const TELEGRAM_REQUEST: &str = "POST /110201543:AAHd/ HTTP/1.1\r\nHost: 80.100.95.20:8443\r\nX-Telegram-Bot-Api-Secret-Token: s3cret\r\n\
        Content-Type: application/json\r\nContent-Length: 11\r\nConnection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n";

    fn refusal(text: &str) -> Option<Refusal> {
        head(text.as_bytes()).err()
    }

    #[test]
    fn a_telegram_request_is_read() {
        let head = head(TELEGRAM_REQUEST.as_bytes()).unwrap().unwrap();
        assert_eq!((head.method, head.path), ("POST", "/110201543:AAHd/"));
        assert_eq!(head.content_type, Some(&b"application/json"[..]));
        assert_eq!(head.secret_token, Some(&b"s3cret"[..]));
        assert_eq!(
            (head.content_length, head.length, head.close),
            (Some(11), TELEGRAM_REQUEST.len(), false)
        );
    }

    #[test]
    fn a_head_is_incomplete_up_to_its_last_byte() {
        for end in 0..TELEGRAM_REQUEST.len() {
            assert_eq!(head(&TELEGRAM_REQUEST.as_bytes()[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn header_names_and_connection_close_are_read_in_any_case() {
        let text = "POST / HTTP/1.1\r\nCONTENT-LENGTH: 2\r\ncontent-type:application/json; charset=utf-8\r\nConnection: Close\r\n\r\n";
        let head = head(text.as_bytes()).unwrap().unwrap();
        assert_eq!((head.content_length, head.close), (Some(2), true));
        assert_eq!(head.content_type, Some(&b"application/json"[..]));
    }

    #[test]
    fn an_ambiguous_or_malformed_head_is_a_bad_request() {
        for (headers, expected) in [
            (
                "Content-Length: 1\r\nContent-Length: 1\r\n",
                Refusal::BadRequest,
            ),
            ("Content-Length: 1, 1\r\n", Refusal::BadRequest),
            ("Content-Length: +1\r\n", Refusal::BadRequest),
            ("Content-Length: -1\r\n", Refusal::BadRequest),
            ("Content-Length: 0x10\r\n", Refusal::BadRequest),
            ("Content-Length:\r\n", Refusal::BadRequest),
            ("Content-Length : 1\r\n", Refusal::BadRequest),
            ("Transfer-Encoding: chunked\r\n", Refusal::BadRequest),
            (
                "Content-Length: 1\r\nTransfer-Encoding: identity\r\n",
                Refusal::BadRequest,
            ),
            ("Upgrade: h2c\r\n", Refusal::BadRequest),
            ("Expect: 100-continue\r\n", Refusal::ExpectationFailed),
            ("Content-Length: 1\nHost: a\r\n", Refusal::BadRequest),
            (" folded: x\r\n", Refusal::BadRequest),
            ("A: b\r\n continued\r\n", Refusal::BadRequest),
            ("A: b\0c\r\n", Refusal::BadRequest),
        ] {
            let text = format!("POST / HTTP/1.1\r\n{headers}\r\n");
            assert_eq!(refusal(&text), Some(expected), "{headers:?}");
        }
        for text in [
            "POST / HTTP/1.0\r\n\r\n",
            "POST /\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01",
            "POST / HTTP/2.0\r\n\r\n",
            "POST / HTTP/1.1\n\n",
            "\nPOST / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(refusal(text), Some(Refusal::BadRequest), "{text:?}");
        }
    }

    #[test]
    fn http_1_0_is_accepted_from_a_proxy_only_and_closes_the_connection() {
        let old = TELEGRAM_REQUEST.replace("HTTP/1.1", "HTTP/1.0");
        assert_eq!(head(old.as_bytes()), Err(Refusal::BadRequest));
        assert!(
            proxied_head(old.as_bytes()).unwrap().unwrap().close,
            "whatever its Connection says"
        );
        assert_eq!(
            proxied_head(TELEGRAM_REQUEST.as_bytes()).unwrap(),
            head(TELEGRAM_REQUEST.as_bytes()).unwrap()
        );
        let chunked = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(proxied_head(chunked.as_bytes()), Err(Refusal::BadRequest));
        assert_eq!(proxied_head(b"POST /\r\n\r\n"), Err(Refusal::BadRequest));
    }

    #[test]
    fn a_head_has_a_limit_of_bytes_and_of_headers() {
        let line = "POST / HTTP/1.1\r\n";
        let long = format!("{line}A: {}", "b".repeat(HEAD_LIMIT));
        assert_eq!(refusal(&long), Some(Refusal::HeadTooLarge));
        let many = |count| format!("{line}{}\r\n", "A: b\r\n".repeat(count));
        assert_eq!(refusal(&many(MAX_HEADERS)), None);
        assert_eq!(refusal(&many(MAX_HEADERS + 1)), Some(Refusal::HeadTooLarge));
    }

    #[test]
    fn a_content_length_that_fits_no_number_is_too_large() {
        let text = format!(
            "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            "9".repeat(40)
        );
        assert_eq!(
            head(text.as_bytes()).unwrap().unwrap().content_length,
            Some(usize::MAX)
        );
    }
}
