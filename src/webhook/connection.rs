//! One connection: ends its TLS, and serves one whole, bounded request after the other.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::arrivals::Arrivals;
use super::auth::{self, Authorized, Recipient, Route};
use super::handover::{ANSWER_TIMEOUT, Handover};
use super::request::{self, Refusal};
use super::slots::Slots;
use crate::certificate::rollover::Rollover;
use crate::system::lock::lock;

/// The TLS handshake, and the head of a request from its first byte on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A whole request from its first byte on.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests. Longer than the 60 s after which Telegram closes, so that no request meets a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Writing an answer that fits any socket's buffer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Reading on after a refusal: the kernel would answer unread bytes with a reset, which can overtake the refusal.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are read on at most.
const LINGER_LIMIT: usize = 64 * 1024;

/// The update with which the doctor asks from this machine whether a bot answers. Telegram's ids are positive.
pub(crate) const QUESTION: &[u8] = b"{\"update_id\":0}";

/// What all connections share.
pub struct Shared {
    /// How to be let in: a route for each bot, and one for our own probe.
    pub routes: Vec<Route>,
    /// The way to the workers.
    pub handover: Arc<Handover>,
    /// The open connections, and what ends each.
    pub slots: Mutex<Slots<AbortHandle>>,
    /// The certificate of new connections; it can be changed at any time.
    pub rollover: Arc<Rollover>,
    /// What shows that Telegram gets in.
    pub arrivals: Arc<Arrivals>,
}

impl Shared {
    pub(super) fn slots(&self) -> MutexGuard<'_, Slots<AbortHandle>> {
        lock(&self.slots)
    }
}

/// One connection among the others, for as long as this lives.
pub(super) struct Session<'s> {
    pub(super) shared: &'s Shared,
    pub(super) number: u64,
    pub(super) stranger: bool,
    /// It comes from this machine, as our own probe does.
    pub(super) is_local: bool,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.shared.slots().release(self.number);
    }
}

impl Session<'_> {
    pub(super) async fn serve(&self, stream: TcpStream, stop: watch::Receiver<bool>) -> io::Result<()> {
        // Without it every first answer waits 40 ms for the peer's delayed acknowledgement.
        stream.set_nodelay(true)?;
        let shown = self.shared.rollover.current();
        let accepted = within(HEAD_TIMEOUT, TlsAcceptor::from(shown.clone()).accept(stream)).await;
        if !self.stranger && accepted.as_ref().is_err_and(is_alert) && self.shared.rollover.rejected(&shown) {
            // It is let in, and knows the other certificate.
            self.shared.arrivals.add();
        }
        let stream = accepted?;
        if !self.stranger && !self.is_local {
            self.shared.arrivals.add();
        }
        let mut connection = Connection { stream, read: Vec::new(), stop };
        loop {
            match self.request(&mut connection).await {
                Ok(true) => {}
                Ok(false) => return connection.close().await,
                Err(SessionError::Refused(refusal)) => return connection.refuse(refusal).await,
                Err(SessionError::Broken(why)) => return Err(why),
            }
        }
    }

    /// One request and its answer; whether another may follow.
    async fn request(&self, connection: &mut Connection) -> Result<bool, SessionError> {
        if !connection.next_begins().await? {
            return Ok(false);
        }
        let start = Instant::now();
        let authorized = connection.head(start + HEAD_TIMEOUT, &self.shared.routes).await?;
        self.shared.slots().prove(self.number);
        let whole = authorized.head + authorized.body;
        connection.fill(whole, start + REQUEST_TIMEOUT).await?;
        if connection.read.len() > whole {
            // Telegram sends one request at a time; what follows unasked is not from it.
            return Err(Refusal::BadRequest.into());
        }
        let body = &connection.read[authorized.head..];
        if authorized.recipient != Recipient::Probe && body != QUESTION {
            self.shared.arrivals.add();
        }
        let asked = self.shared.handover.ask(authorized.recipient, body);
        let answer = within(ANSWER_TIMEOUT, asked).await?;
        // Nothing of this request is kept: a large one must not cost its memory while idle.
        connection.read = Vec::new();
        connection.write(&answer).await?;
        Ok(!authorized.close && !*connection.stop.borrow())
    }
}

/// Why a connection is not served any further.
enum SessionError {
    Refused(Refusal),
    Broken(io::Error),
}

impl From<Refusal> for SessionError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

struct Connection {
    stream: TlsStream<TcpStream>,
    /// What was read of the current request.
    read: Vec<u8>,
    stop: watch::Receiver<bool>,
}

impl Connection {
    /// Waits for a request's first byte; false when there will be none.
    async fn next_begins(&mut self) -> io::Result<bool> {
        let mut first = [0];
        tokio::select! {
            read = timeout(IDLE_TIMEOUT, self.stream.read(&mut first)) => match read {
                Ok(Ok(1)) => self.read.push(first[0]),
                Ok(Err(why)) => return Err(why),
                _ => return Ok(false),
            },
            () = stop_requested(&mut self.stop) => return Ok(false),
        }
        Ok(true)
    }

    async fn head(&mut self, deadline: Instant, routes: &[Route]) -> Result<Authorized, SessionError> {
        loop {
            if let Some(head) = request::head(&self.read)? {
                return Ok(auth::authorize(&head, routes)?);
            }
            self.read_some(request::HEAD_LIMIT, deadline).await?;
        }
    }

    async fn fill(&mut self, length: usize, deadline: Instant) -> Result<(), SessionError> {
        while self.read.len() < length {
            self.read_some(length, deadline).await?;
        }
        Ok(())
    }

    /// Reads what is there, up to one byte more than `limit` in all.
    async fn read_some(&mut self, limit: usize, deadline: Instant) -> Result<(), SessionError> {
        self.read.reserve(4096.min(limit + 1));
        let room = (limit + 1 - self.read.len()) as u64;
        let mut read = (&mut self.stream).take(room);
        match timeout_at(deadline, read.read_buf(&mut self.read)).await {
            Ok(Ok(0)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(why)) => Err(why.into()),
            Err(_) => Err(Refusal::Timeout.into()),
        }
    }

    async fn write(&mut self, answer: &[u8]) -> io::Result<()> {
        within(WRITE_TIMEOUT, async {
            self.stream.write_all(answer).await?;
            self.stream.flush().await
        })
        .await
    }

    async fn close(mut self) -> io::Result<()> {
        within(WRITE_TIMEOUT, self.stream.shutdown()).await
    }

    async fn refuse(mut self, refusal: Refusal) -> io::Result<()> {
        self.write(refusal.answer()).await?;
        within(WRITE_TIMEOUT, self.stream.shutdown()).await?;
        let mut left = (&mut self.stream).take(LINGER_LIMIT as u64);
        // A peer that goes on for longer gets its reset.
        let _ = timeout(LINGER_TIMEOUT, tokio::io::copy(&mut left, &mut tokio::io::sink())).await;
        Ok(())
    }
}

/// Whether the peer ended the handshake with an alert: it does not accept our certificate.
fn is_alert(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(error, Some(rustls::Error::AlertReceived(_)))
}

pub(super) async fn stop_requested(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: that is a stop, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
