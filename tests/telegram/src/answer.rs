//! What the Bot API answers: its envelope, its errors, and what an answer may wait for.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::json;
use crate::queue::Update;

/// What the server says to one call.
pub(crate) struct Answer {
    code: u16,
    content_type: &'static str,
    body: String,
    retry_after: Option<u64>,
    /// The body is all there is.
    raw: bool,
    /// It goes out when this is over.
    pub wait: Option<Wait>,
}

/// What an answer waits for.
pub(crate) enum Wait {
    Pause(Duration),
    Updates(Poll),
}

/// A long poll.
pub(crate) struct Poll {
    pub offset: i64,
    pub limit: usize,
    pub end: Instant,
    /// What is said instead when something else ends it.
    pub aborted: oneshot::Receiver<Answer>,
}

impl Answer {
    pub fn new(code: u16, body: String) -> Answer {
        Answer {
            code,
            content_type: "application/json",
            body,
            retry_after: None,
            raw: false,
            wait: None,
        }
    }

    /// These bytes alone.
    pub fn raw(bytes: String) -> Answer {
        Answer {
            raw: true,
            ..Answer::new(200, bytes)
        }
    }

    /// A page of getUpdates.
    pub fn updates(page: &[Update]) -> Answer {
        let bodies: Vec<&str> = page.iter().map(|update| &*update.body).collect();
        Answer::ok(&format!("[{}]", bodies.join(",")))
    }

    /// The same, but after a pause.
    pub fn after(self, pause: Duration) -> Answer {
        Answer {
            wait: Some(Wait::Pause(pause)),
            ..self
        }
    }

    /// The same, unless there are updates before.
    pub fn poll(self, poll: Poll) -> Answer {
        Answer {
            wait: Some(Wait::Updates(poll)),
            ..self
        }
    }

    /// Success, with `result` as JSON.
    pub fn ok(result: &str) -> Answer {
        Answer::new(200, format!("{{\"ok\":true,\"result\":{result}}}"))
    }

    /// Success of a webhook call.
    pub fn described(description: &str) -> Answer {
        Answer::new(
            200,
            format!(
                "{{\"ok\":true,\"result\":true,\"description\":{}}}",
                json::string(description)
            ),
        )
    }

    pub fn error(code: u16, description: &str) -> Answer {
        Answer::with_parameters(code, description, None, None)
    }

    pub fn too_many(seconds: u64) -> Answer {
        Answer::with_parameters(
            429,
            &format!("Too Many Requests: retry after {seconds}"),
            Some(seconds),
            None,
        )
    }

    pub fn with_parameters(
        code: u16,
        description: &str,
        retry_after: Option<u64>,
        migrate_to: Option<i64>,
    ) -> Answer {
        let mut body = format!(
            "{{\"ok\":false,\"error_code\":{code},\"description\":{}",
            json::string(description)
        );
        let seconds = retry_after.map(|seconds| format!("\"retry_after\":{seconds}"));
        let chat = migrate_to.map(|chat| format!("\"migrate_to_chat_id\":{chat}"));
        if let Some(parameter) = seconds.or(chat) {
            body += &format!(",\"parameters\":{{{parameter}}}");
        }
        Answer {
            retry_after,
            ..Answer::new(code, body + "}")
        }
    }

    pub fn html(code: u16) -> Answer {
        let title = format!("{code} {}", reason(code));
        let body = format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
             <hr><center>nginx/1.18.0</center>\r\n</body>\r\n</html>\r\n"
        );
        Answer {
            content_type: "text/html",
            ..Answer::new(code, body)
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        if self.raw {
            return self.body.clone().into_bytes();
        }
        let retry_after = self.retry_after.map_or(String::new(), |seconds| {
            format!("Retry-After: {seconds}\r\n")
        });
        format!(
            "HTTP/1.1 {} {}\r\nConnection: keep-alive\r\nContent-Type: {}\r\n{retry_after}Content-Length: {}\r\n\r\n{}",
            self.code,
            reason(self.code),
            self.content_type,
            self.body.len(),
            self.body
        )
        .into_bytes()
    }
}

fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        413 => "Request Entity Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
