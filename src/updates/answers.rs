//! The workers' answers on their way back to the requests that wait for them. They stay in memory:
//! only the requests go through tiny_http.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use crate::system::lock::lock;

/// Seconds until the next delivery of an update that cannot be handled right now.
pub(super) const RETRY_SOON: u64 = 1;

/// What became of an update, and so what the webhook answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UpdateOutcome {
    /// 200: the update is done, and Telegram forgets it.
    Done,
    /// 503: Telegram keeps the update, and delivers it again after so many seconds.
    Deferred(u64),
}

impl UpdateOutcome {
    /// The status of the HTTP answer.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Done => 200,
            Self::Deferred(_) => 503,
        }
    }

    /// Seconds after which Telegram is to come again.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Done => None,
            Self::Deferred(seconds) => Some(*seconds),
        }
    }

    /// The whole HTTP answer. The last one of a connection says that it is the last: otherwise
    /// Telegram may write its next request into the closing connection.
    pub(crate) fn http(&self, is_last: bool) -> String {
        let close = if is_last { "Connection: close\r\n" } else { "" };
        match self {
            Self::Done => format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{close}\r\n"),
            Self::Deferred(seconds) => format!(
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n{close}\r\n"
            ),
        }
    }
}

/// The requests that wait for a worker's answer, by their numbers.
#[derive(Default)]
pub(crate) struct Answers {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<UpdateOutcome>>>,
}

impl Answers {
    /// A number for a request, and the future of its answer. When the future is dropped, nobody
    /// waits any more.
    ///
    /// # Errors
    /// The future's error means that no worker will answer.
    pub(super) fn register(&self) -> (u64, impl Future<Output = io::Result<UpdateOutcome>>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(number, sender);

        let registration = Registration {
            answers: self,
            number,
        };
        let answer = async move {
            let _registration = registration;
            receiver
                .await
                .map_err(|_| io::ErrorKind::UnexpectedEof.into())
        };
        (number, answer)
    }

    /// Sends a request its answer, if something still waits for it.
    pub(super) fn send(&self, number: u64, outcome: UpdateOutcome) {
        let Some(sender) = lock(&self.waiting).remove(&number) else {
            return;
        };
        // The request can be given up at this very moment; Telegram delivers its update again.
        let _ = sender.send(outcome);
    }
}

/// A request is in the list for as long as this lives.
struct Registration<'a> {
    answers: &'a Answers,
    number: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        lock(&self.answers.waiting).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime;

    #[test]
    fn each_request_gets_its_own_answer_and_a_dropped_one_leaves_nothing() {
        let answers = Answers::default();
        let (first, given_up) = answers.register();
        let (second, awaited) = answers.register();
        drop(given_up);
        answers.send(first, UpdateOutcome::Done);
        answers.send(second, UpdateOutcome::Deferred(7));
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(
            runtime.block_on(awaited).unwrap(),
            UpdateOutcome::Deferred(7)
        );
        assert!(lock(&answers.waiting).is_empty());
    }

    #[test]
    fn an_http_answer_has_retry_after_and_says_whether_it_is_the_last() {
        assert_eq!(
            UpdateOutcome::Done.http(false),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(
            UpdateOutcome::Deferred(5).http(true),
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
}
