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

use super::auth::{self, Admitted, Door};
use super::handover::Handover;
use super::request::{self, Refusal};
use super::slots::Connections;
use crate::certificate::rollover::Offer;
use crate::system::lock::lock;

/// The TLS handshake, and the head of a request from its first byte on.
const HEAD: Duration = Duration::from_secs(5);
/// A whole request from its first byte on.
const REQUEST: Duration = Duration::from_secs(10);
/// Between two requests. Telegram closes after 60 s, and shall be the one who does.
const IDLE: Duration = Duration::from_secs(75);
/// A worker's answer. A call of the Bot API ends before, and Telegram waits 60 s.
const ANSWER: Duration = Duration::from_secs(45);
/// Writing an answer that fits any socket's buffer.
const WRITE: Duration = Duration::from_secs(5);
/// After a refusal, so long and so much is read on, lest a reset overtake the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 * 1024;
/// What all connections share.
pub struct Shared {
    /// How to be let in, a door for each bot.
    pub doors: Vec<Door>,
    /// The way to the workers.
    pub handover: Handover,
    /// What ends each connection.
    pub slots: Mutex<Connections<AbortHandle>>,
    /// The certificate of new connections; it can be changed at any time.
    pub offer: Arc<Offer>,
}

impl Shared {
    pub(super) fn slots(&self) -> MutexGuard<'_, Connections<AbortHandle>> {
        lock(&self.slots)
    }
}

/// One connection among the others, for as long as this lives.
pub(super) struct Session<'s> {
    pub(super) shared: &'s Shared,
    pub(super) number: u64,
    pub(super) stranger: bool,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.shared.slots().leave(self.number);
    }
}

impl Session<'_> {
    pub(super) async fn serve(&self, stream: TcpStream, stop: watch::Receiver<bool>) -> io::Result<()> {
        // Without it every first answer waits 40 ms for the peer's delayed acknowledgement.
        stream.set_nodelay(true)?;
        let shown = self.shared.offer.next();
        let accepted = within(HEAD, TlsAcceptor::from(shown.clone()).accept(stream)).await;
        if !self.stranger && accepted.as_ref().is_err_and(is_refusal) {
            self.shared.offer.refused(&shown);
        }
        let stream = accepted?;
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
        let admitted = connection.head(start + HEAD, &self.shared.doors).await?;
        self.shared.slots().prove(self.number);
        let whole = admitted.head + admitted.body;
        connection.fill(whole, start + REQUEST).await?;
        if connection.read.len() > whole {
            // Telegram sends one request at a time; what follows unasked is not from it.
            return Err(Refusal::BadRequest.into());
        }
        let asked = self.shared.handover.ask(admitted.bot, &connection.read[admitted.head..]);
        let answer = within(ANSWER, asked).await?;
        // Nothing of this request is kept: a large one must not cost its memory while idle.
        connection.read = Vec::new();
        connection.write(&answer).await?;
        Ok(!admitted.close && !*connection.stop.borrow())
    }
}

/// Why a connection is served no longer.
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
            read = timeout(IDLE, self.stream.read(&mut first)) => match read {
                Ok(Ok(1)) => self.read.push(first[0]),
                Ok(Err(why)) => return Err(why),
                _ => return Ok(false),
            },
            () = told_to_stop(&mut self.stop) => return Ok(false),
        }
        Ok(true)
    }

    async fn head(&mut self, deadline: Instant, doors: &[Door]) -> Result<Admitted, SessionError> {
        loop {
            if let Some(head) = request::head(&self.read)? {
                return Ok(auth::admit(&head, doors)?);
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
        within(WRITE, async {
            self.stream.write_all(answer).await?;
            self.stream.flush().await
        })
        .await
    }

    async fn close(mut self) -> io::Result<()> {
        within(WRITE, self.stream.shutdown()).await
    }

    async fn refuse(mut self, refusal: Refusal) -> io::Result<()> {
        self.write(refusal.answer()).await?;
        within(WRITE, self.stream.shutdown()).await?;
        let mut left = (&mut self.stream).take(LINGER_BYTES as u64);
        // A peer that goes on for longer gets its reset.
        let _ = timeout(LINGER, tokio::io::copy(&mut left, &mut tokio::io::sink())).await;
        Ok(())
    }
}

/// Whether the peer broke the handshake off with a word: it does not accept our certificate.
fn is_refusal(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(error, Some(rustls::Error::AlertReceived(_)))
}

pub(super) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to tell us: then, too, it is time.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
