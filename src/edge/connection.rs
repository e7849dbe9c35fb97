//! One connection: ends its TLS, unless that ends elsewhere, and serves one whole, bounded request
//! after the other.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use super::auth::{self, Authorized, Route};
use super::reach::{Exchange, Reach};
use super::request::{self, Head, Refusal};
use super::slots::{Slot, Slots, Stage};
use crate::certificate::rollover::Rollover;
use crate::system::lock::lock;
use crate::system::random::random;
use crate::updates::handover::{ANSWER_TIMEOUT, Handover, Recipient};
use crate::updates::webhook_signals::WebhookSignals;

/// The TLS handshake, and the head of a request from its first byte on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a body, and besides the time that it takes at [`SLOWEST_LINE`]. Together that is 42 s for
/// the largest body. Head, wait for room and body together stay below the 60 s that Telegram waits
/// for the answer.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes a second: 130 kbit/s.
const SLOWEST_LINE: usize = 16 * 1024;
/// The limit for a body. It also limits how long the rest of a refused body is read.
const LONGEST_BODY_TIMEOUT: Duration = Duration::from_secs(42);
/// Between two requests. Telegram closes an idle connection after 60 s. We wait longer, so that no
/// request meets a connection that we close.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// For writing an answer. It is small enough for the buffer of any socket.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// For reading on after a refusal: the kernel answers unread bytes with a reset, and the peer may
/// get that before it has read the refusal.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are read on at most.
const LINGER_LIMIT: usize = 64 * 1024;
/// The same for a peer that has shown path and secret: Telegram reads a refusal only after it has
/// written its whole request.
const AUTHENTICATED_LINGER_LIMIT: usize = 4 * 1024 * 1024;

/// The update that the doctor sends from this machine to see whether a bot answers. Telegram's ids
/// are positive.
pub(crate) const HEALTH_CHECK_UPDATE: &[u8] = b"{\"update_id\":0}";

/// What all connections share.
pub struct Shared {
    /// A route for each bot, and one for our own probe.
    pub routes: Vec<Route>,
    /// The way to the workers.
    pub handover: Arc<Handover>,
    /// The open connections, and what ends each.
    pub slots: Mutex<Slots<AbortHandle>>,
    /// The certificate of new connections. It can be changed at any time. None where TLS ends
    /// before us, in a reverse proxy.
    pub rollover: Option<Arc<Rollover>>,
    /// Notes that Telegram has reached us.
    pub reach: Arc<Reach>,
    /// One for each bot, by its place in the settings.
    pub signals: Vec<Arc<WebhookSignals>>,
}

impl Shared {
    pub(super) fn slots(&self) -> MutexGuard<'_, Slots<AbortHandle>> {
        lock(&self.slots)
    }

    fn signals_of(&self, recipient: Option<Recipient>) -> Option<&WebhookSignals> {
        match recipient {
            Some(Recipient::Bot(index)) => self.signals.get(index).map(AsRef::as_ref),
            Some(Recipient::Probe) | None => None,
        }
    }
}

/// One connection and its slot, which is free again when this is dropped.
pub(super) struct Session<'s> {
    pub(super) shared: &'s Shared,
    /// The number of the slot.
    pub(super) number: u64,
    /// The settings do not name its address. Path and secret do not change that.
    pub(super) is_stranger: bool,
    /// It comes from this machine, as that of our own probe does.
    pub(super) is_local: bool,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.shared.slots().release(self.number);
    }
}

impl Session<'_> {
    /// Serves the connection to its end.
    ///
    /// # Errors
    /// When the connection breaks, or the peer is too slow.
    pub(super) async fn serve(
        &self,
        stream: TcpStream,
        stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        // Without it every first answer waits 40 ms for the peer's delayed acknowledgement.
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.shared.rollover {
            Some(rollover) => {
                Box::new(within(HEAD_TIMEOUT, self.handshake(stream, rollover)).await?)
            }
            None => Box::new(stream),
        };

        let mut connection = Connection {
            stream,
            read: Vec::new(),
            stop,
        };
        loop {
            match self.request(&mut connection).await {
                Ok(true) => {}
                Ok(false) => return connection.close().await,
                Err(SessionError::Refused { refusal, unread }) => {
                    return connection.refuse(refusal, unread).await;
                }
                Err(SessionError::Broken(error)) => return Err(error),
            }
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        rollover: &Rollover,
    ) -> io::Result<impl Stream + use<>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        self.hello_received()?;

        let shown = rollover.current();
        let accepted = hello.into_stream(shown.clone()).await;
        // A known peer is Telegram. It gets in here if it finishes the handshake, and also if it
        // refuses our certificate because it still has the other one of a change.
        let is_reached = match &accepted {
            Ok(_) => {
                self.advance(Stage::Encrypted);
                !self.is_stranger && !self.is_local
            }
            Err(error) => !self.is_stranger && is_alert(error) && rollover.rejected(&shown),
        };
        if is_reached {
            self.shared.reach.handshake();
        }
        accepted
    }

    /// Notes that a whole `ClientHello` has come, or behind a proxy a request head, and evicts another connection where there are too
    /// many.
    ///
    /// # Errors
    /// When there are too many, and no other one may be evicted.
    fn hello_received(&self) -> io::Result<()> {
        match self
            .shared
            .slots()
            .hello_received(self.number, now(), random_below)
        {
            Slot::Free => {}
            Slot::Evict(evicted) => evicted.abort(),
            Slot::Full => return Err(io::ErrorKind::QuotaExceeded.into()),
        }
        Ok(())
    }

    /// Reads the head of a request.
    async fn head(
        &self,
        connection: &mut Connection,
        deadline: Instant,
    ) -> Result<Authorized, SessionError> {
        let shared = self.shared;
        loop {
            let head = match shared.rollover {
                Some(_) => request::head(&connection.read)?,
                None => request::proxied_head(&connection.read)?,
            };
            if let Some(head) = head {
                if shared.rollover.is_none() {
                    self.hello_received()?;
                }
                return match auth::authorize(&head, &shared.routes) {
                    Ok(authorized) => Ok(authorized),
                    Err(refusal) => {
                        if refusal == Refusal::WrongSecret {
                            self.note_wrong_secret(auth::recipient(&head, &shared.routes));
                        }
                        Err(refused(refusal, &head, connection.read.len()))
                    }
                };
            }

            connection.read.reserve(4096);
            connection.read_some(request::HEAD_LIMIT, deadline).await?;
        }
    }

    fn note_wrong_secret(&self, recipient: Option<Recipient>) {
        if let Some(signals) = self.shared.signals_of(recipient) {
            signals.wrong_secret(now());
        }
        if let Some(Recipient::Bot(index)) = recipient {
            self.shared
                .reach
                .refused(Some(index), Refusal::WrongSecret.status());
        }
    }

    fn advance(&self, stage: Stage) {
        self.shared.slots().advance(self.number, stage, now());
    }

    /// Reads one request, and writes its answer. Whether another request may follow.
    async fn request(&self, connection: &mut Connection) -> Result<bool, SessionError> {
        if !connection.next_begins().await? {
            return Ok(false);
        }

        let authorized = self.head(connection, Instant::now() + HEAD_TIMEOUT).await;
        let authorized = authorized.inspect_err(|error| self.note_refusal(error))?;
        self.advance(Stage::Authenticated);
        if let Some(signals) = self.shared.signals_of(Some(authorized.recipient)) {
            signals.right_secret();
        }

        // Only Telegram's requests are exchanges. A body of this length may be the doctor's health
        // check: then the exchange begins when the body is there.
        let may_be_health_check = authorized.body_length == HEALTH_CHECK_UPDATE.len();
        let mut exchange = if may_be_health_check {
            None
        } else {
            self.begin(authorized.recipient)
        };
        let answered = self.answer(connection, &authorized, &mut exchange).await;
        if let (Some(exchange), Err(SessionError::Refused { refusal, .. })) =
            (&mut exchange, &answered)
        {
            exchange.answered(refusal.status(), refusal.retry_after());
        }
        answered
    }

    /// Reads the body, has it dealt with, and writes the answer; whether another request may
    /// follow.
    async fn answer<'a>(
        &'a self,
        connection: &mut Connection,
        authorized: &Authorized,
        exchange: &mut Option<Exchange<'a>>,
    ) -> Result<bool, SessionError> {
        let whole = authorized.head_length + authorized.body_length;
        let Some(_room) = self
            .shared
            .handover
            .bodies
            .room_for(authorized.body_length)
            .await
        else {
            return Err(SessionError::refused(
                Refusal::Busy,
                whole.saturating_sub(connection.read.len()),
            ));
        };
        connection
            .fill(whole, Instant::now() + body_timeout(authorized.body_length))
            .await?;
        if connection.read.len() > whole {
            // Telegram sends the next request only after the answer. This is another client.
            return Err(Refusal::BadRequest.into());
        }

        // The connection keeps nothing of this request: an idle one must not hold its memory.
        let mut body = std::mem::take(&mut connection.read);
        body.drain(..authorized.head_length);
        if exchange.is_none() && body != *HEALTH_CHECK_UPDATE {
            *exchange = self.begin(authorized.recipient);
        }

        let answer = self.shared.handover.ask(authorized.recipient, body);
        let outcome = within(ANSWER_TIMEOUT, answer).await?;
        if let Some(exchange) = exchange {
            exchange.answered(outcome.status(), outcome.retry_after());
        }

        let is_last = authorized.close || *connection.stop.borrow();
        connection.write(outcome.http(is_last).as_bytes()).await?;
        Ok(!is_last)
    }

    /// Counts a request of Telegram's. Our own probe is not counted.
    fn begin(&self, recipient: Recipient) -> Option<Exchange<'_>> {
        match recipient {
            Recipient::Bot(index) => Some(self.shared.reach.begin(index)),
            Recipient::Probe => None,
        }
    }

    /// Notes a refusal of a known peer. Telegram may report its status later: then it is known that
    /// the bot gave it. Where TLS ends elsewhere, no peer is known.
    fn note_refusal(&self, error: &SessionError) {
        let is_known = self.shared.rollover.is_some() && !self.is_stranger && !self.is_local;
        if let SessionError::Refused { refusal, .. } = error
            && is_known
        {
            self.shared.reach.refused(None, refusal.status());
        }
    }
}

/// The error for a refused head, when `read` bytes of the request have come.
fn refused(refusal: Refusal, head: &Head<'_>, read: usize) -> SessionError {
    // `TooLarge` goes only to a peer that has shown path and secret: it may write its whole body.
    if refusal != Refusal::TooLarge {
        return refusal.into();
    }
    let body = head.content_length.unwrap_or_default();
    let whole = head.length.saturating_add(body);
    SessionError::refused(refusal, whole.saturating_sub(read))
}

/// Sleeps for [`IDLE_TIMEOUT`], in two parts. tokio makes one more system call for each timer that
/// becomes the first to end. The first part is as long as the timer of an answer, and has begun
/// before: so the timer of a new answer is not the first to end.
async fn idle_for_too_long() {
    sleep(ANSWER_TIMEOUT).await;
    sleep(IDLE_TIMEOUT.saturating_sub(ANSWER_TIMEOUT)).await;
}

/// How long the peer may take for a body of so many bytes.
fn body_timeout(bytes: usize) -> Duration {
    let seconds = u64::try_from(bytes / SLOWEST_LINE).unwrap_or(u64::MAX);
    BODY_TIMEOUT
        .saturating_add(Duration::from_secs(seconds))
        .min(LONGEST_BODY_TIMEOUT)
}

/// The reason why a connection is not served any further.
enum SessionError {
    /// The peer gets this refusal.
    Refused {
        refusal: Refusal,
        /// Bytes of the body that are still to come, if the peer has shown path and secret.
        unread: usize,
    },
    /// The peer gets nothing.
    Broken(io::Error),
}

impl SessionError {
    fn refused(refusal: Refusal, unread: usize) -> Self {
        Self::Refused { refusal, unread }
    }
}

impl From<Refusal> for SessionError {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal, 0)
    }
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// TCP, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

struct Connection {
    stream: Box<dyn Stream>,
    /// What was read of the current request.
    read: Vec<u8>,
    stop: watch::Receiver<bool>,
}

impl Connection {
    /// Waits for the first byte of a request. False when there will be none.
    async fn next_begins(&mut self) -> io::Result<bool> {
        let mut first = [0];
        tokio::select! {
            read = self.stream.read(&mut first) => match read? {
                1 => self.read.push(first[0]),
                _ => return Ok(false),
            },
            () = idle_for_too_long() => return Ok(false),
            () = stop_requested(&mut self.stop) => return Ok(false),
        }
        Ok(true)
    }

    /// Reads on until there are `length` bytes of the request.
    async fn fill(&mut self, length: usize, deadline: Instant) -> Result<(), SessionError> {
        // Exactly: a vector that grows by itself takes up to twice as much memory.
        let missing = (length + 1).saturating_sub(self.read.len());
        self.read.reserve_exact(missing);

        while self.read.len() < length {
            match self.read_some(length, deadline).await {
                Ok(()) => {}
                Err(SessionError::Refused { refusal, .. }) => {
                    let unread = length - self.read.len();
                    return Err(SessionError::refused(refusal, unread));
                }
                Err(broken) => return Err(broken),
            }
        }
        Ok(())
    }

    /// Reads the bytes that are there, up to one more than `limit` in all: that one shows that the
    /// peer sends too much.
    async fn read_some(&mut self, limit: usize, deadline: Instant) -> Result<(), SessionError> {
        let room = (limit + 1 - self.read.len()) as u64;
        let mut read = (&mut self.stream).take(room);
        match timeout_at(deadline, read.read_buf(&mut self.read)).await {
            Ok(Ok(0)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
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

    /// Closes the connection in order: TLS says that it is the end.
    async fn close(mut self) -> io::Result<()> {
        within(WRITE_TIMEOUT, self.stream.shutdown()).await
    }

    /// Answers with a refusal, and closes the connection so that the peer can read the answer.
    async fn refuse(mut self, refusal: Refusal, unread: usize) -> io::Result<()> {
        self.write(refusal.answer()).await?;
        // What is longer is not read to its end: the peer gets a reset.
        if (1..=AUTHENTICATED_LINGER_LIMIT).contains(&unread) {
            self.discard(unread, body_timeout(unread)).await;
        }
        within(WRITE_TIMEOUT, self.stream.shutdown()).await?;
        // A peer that sends more gets a reset.
        self.discard(LINGER_LIMIT, LINGER_TIMEOUT).await;
        Ok(())
    }

    /// Reads up to so many bytes, for at most `limit`, and drops them.
    async fn discard(&mut self, bytes: usize, limit: Duration) {
        let mut left = (&mut self.stream).take(bytes as u64);
        let mut sink = tokio::io::sink();
        // Whatever ends it, nothing more can be done for this peer.
        let _ = timeout(limit, tokio::io::copy(&mut left, &mut sink)).await;
    }
}

/// Whether the peer ended the handshake with an alert: it does not accept our certificate.
fn is_alert(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(error, Some(rustls::Error::AlertReceived(_)))
}

fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// A random number below `limit`, which nobody outside can foresee.
pub(super) fn random_below(limit: usize) -> usize {
    usize::try_from(random() % (limit.max(1) as u64)).unwrap_or_default()
}

/// Waits until the program is to stop.
pub(super) async fn stop_requested(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone. That is a stop, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Gives up `work` after `limit`, with the error `TimedOut`.
async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
