//! The workers' answers on their way back to whoever waits for them: in memory, while the requests
//! go through tiny_http.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use crate::system::lock::lock;

/// What the webhook answers, and with it what becomes of the update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200: it is dealt with, and never comes again.
    Done,
    /// 503: Telegram keeps it, and brings it back after so many seconds.
    Later(u64),
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Done => 200,
            Self::Later(_) => 503,
        }
    }

    /// Seconds after which Telegram is to come again.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Done => None,
            Self::Later(seconds) => Some(*seconds),
        }
    }

    /// The whole of it in HTTP. The last one of a connection says so: else Telegram may write its
    /// next request into the closing connection.
    pub(crate) fn http(&self, is_last: bool) -> String {
        let close = if is_last { "Connection: close\r\n" } else { "" };
        match self {
            Self::Done => format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{close}\r\n"),
            Self::Later(seconds) => format!(
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n{close}\r\n"
            ),
        }
    }
}

/// Who waits for an answer, by the number of the request.
#[derive(Default)]
pub(crate) struct Answers {
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl Answers {
    /// A number for a request, and its answer. An answer that nobody waits for any more is
    /// forgotten.
    pub(super) fn to_next(&self) -> (u64, impl Future<Output = io::Result<Answer>>) {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(number, sender);
        let waits = Waits {
            answers: self,
            number,
        };
        let answer = async move {
            let _waits = waits;
            receiver
                .await
                .map_err(|_| io::ErrorKind::UnexpectedEof.into())
        };
        (number, answer)
    }

    /// Gives a request its answer.
    pub(super) fn give(&self, number: u64, answer: Answer) {
        if let Some(sender) = lock(&self.waiting).remove(&number) {
            // Whoever waited may be gone at this moment; Telegram delivers the update again.
            let _ = sender.send(answer);
        }
    }
}

/// Somebody waits, for as long as this lives.
struct Waits<'a> {
    answers: &'a Answers,
    number: u64,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        lock(&self.answers.waiting).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime;

    #[test]
    fn each_request_gets_its_own_answer_and_nothing_is_left_of_one_that_was_given_up() {
        let answers = Answers::default();
        let ((first, given_up), (second, awaited)) = (answers.to_next(), answers.to_next());
        drop(given_up);
        answers.give(first, Answer::Done);
        answers.give(second, Answer::Later(7));
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(awaited).unwrap(), Answer::Later(7));
        assert!(lock(&answers.waiting).is_empty());
    }

    #[test]
    fn an_answer_in_http_says_when_to_come_again_and_whether_it_is_the_last() {
        assert_eq!(
            Answer::Done.http(false),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(
            Answer::Later(5).http(true),
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
}
