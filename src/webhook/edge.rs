//! The only code that meets the internet: accepts, filters, ends TLS, and lets one whole, bounded
//! request at a time through.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::auth::{self, Admitted, Door};
use super::handover::Handover;
use super::request::{self, Refusal};
use super::slots::{Connections, Room};
use crate::certificate::rollover::Offer;
use crate::network::Network;
use crate::system::log_limit::Seldom;

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
/// When accepting fails since something has run out (file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

static NOT_ACCEPTED: Seldom = Seldom::new(1);
static TOO_MANY: Seldom = Seldom::new(1);
static FROM_HOME: Seldom = Seldom::new(1);

/// What all connections share.
pub struct Edge {
    /// Who may connect.
    pub allow_from: Vec<Network>,
    /// Who of them is no stranger.
    pub known: Vec<Network>,
    /// How to be let in, a door for each bot.
    pub doors: Vec<Door>,
    /// The way to the workers.
    pub handover: Handover,
    /// What ends each connection.
    pub connections: Mutex<Connections<AbortHandle>>,
    /// The certificate of new connections; it can be changed at any time.
    pub offer: Arc<Offer>,
}

impl Edge {
    /// Serves `listener` until `stop` is true, and then what is in flight to its end.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        let mut stopped = stop.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        self.clone().admit(stream, peer, &stop, &mut tasks);
                        // If an older one had to go, it goes before the next one comes.
                        yield_now().await;
                    }
                    Err(why) => {
                        NOT_ACCEPTED.warn(format_args!("A connection could not be accepted: {why}."));
                        if is_scarcity(&why) {
                            if let Some(oldest) = self.connections().oldest() {
                                oldest.abort();
                            }
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                },
                Some(_) = tasks.join_next() => {}
                () = told_to_stop(&mut stopped) => break,
            }
        }
        drop(listener);
        while tasks.join_next().await.is_some() {}
    }

    fn admit(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        stop: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) {
        let address = peer.ip().to_canonical();
        let among = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        // Our own probe calls from the address that it calls. So can every program here: it is a stranger at the limits.
        let ours = stream.local_addr().is_ok_and(|local| local.ip().to_canonical() == address);
        if !ours && !among(&self.allow_from) {
            // Closed without a word: the internet is full of them.
            if is_at_home(address) {
                FROM_HOME.warn(format_args!(
                    "{address} was closed: allow_from does not name it. If your router rewrites the source of what it \
                     forwards, Telegram's calls come from there: then add \"{address}\" to allow_from."
                ));
            }
            return;
        }
        let stranger = !among(&self.known);
        let mut connections = self.connections();
        match connections.room(address, stranger) {
            Room::Free => {}
            Room::Instead(oldest) => {
                oldest.abort();
                TOO_MANY.warn(format_args!("{address} is one connection too many: an older one was closed for it."));
            }
            Room::No => return TOO_MANY.warn(format_args!("{address} is one connection too many: closed.")),
        }
        let number = connections.number();
        let (edge, stop) = (self.clone(), stop.clone());
        let end = tasks.spawn(async move {
            let present = Present { edge: &edge, number, stranger };
            // A broken connection is the peer's to mend: Telegram brings its update back.
            let _ = present.serve(stream, stop).await;
        });
        connections.enter(number, address, stranger, end);
    }

    fn connections(&self) -> MutexGuard<'_, Connections<AbortHandle>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection among the others, for as long as this lives.
struct Present<'e> {
    edge: &'e Edge,
    number: u64,
    stranger: bool,
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.edge.connections().leave(self.number);
    }
}

impl Present<'_> {
    async fn serve(&self, stream: TcpStream, stop: watch::Receiver<bool>) -> io::Result<()> {
        // Without it every first answer waits 40 ms for the peer's delayed acknowledgement.
        stream.set_nodelay(true)?;
        let shown = self.edge.offer.next();
        let accepted = within(HEAD, TlsAcceptor::from(shown.clone()).accept(stream)).await;
        if !self.stranger && accepted.as_ref().is_err_and(is_refusal) {
            self.edge.offer.refused(&shown);
        }
        let stream = accepted?;
        let mut connection = Connection { stream, read: Vec::new(), stop };
        loop {
            match self.request(&mut connection).await {
                Ok(true) => {}
                Ok(false) => return connection.close().await,
                Err(End::Refused(refusal)) => return connection.refuse(refusal).await,
                Err(End::Broken(why)) => return Err(why),
            }
        }
    }

    /// One request and its answer; whether another may follow.
    async fn request(&self, connection: &mut Connection) -> Result<bool, End> {
        if !connection.next_begins().await? {
            return Ok(false);
        }
        let start = Instant::now();
        let admitted = connection.head(start + HEAD, &self.edge.doors).await?;
        self.edge.connections().prove(self.number);
        let whole = admitted.head + admitted.body;
        connection.fill(whole, start + REQUEST).await?;
        if connection.read.len() > whole {
            // Telegram sends one request at a time; what follows unasked is not from it.
            return Err(Refusal::BadRequest.into());
        }
        let asked = self.edge.handover.ask(admitted.bot, &connection.read[admitted.head..]);
        let answer = within(ANSWER, asked).await?;
        // Nothing of this request is kept: a large one must not cost its memory while idle.
        connection.read = Vec::new();
        connection.write(&answer).await?;
        Ok(!admitted.close && !*connection.stop.borrow())
    }
}

/// Why a connection is served no longer.
enum End {
    Refused(Refusal),
    Broken(io::Error),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for End {
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

    async fn head(&mut self, deadline: Instant, doors: &[Door]) -> Result<Admitted, End> {
        loop {
            if let Some(head) = request::head(&self.read)? {
                return Ok(auth::admit(&head, doors)?);
            }
            self.read_some(request::HEAD_LIMIT, deadline).await?;
        }
    }

    async fn fill(&mut self, length: usize, deadline: Instant) -> Result<(), End> {
        while self.read.len() < length {
            self.read_some(length, deadline).await?;
        }
        Ok(())
    }

    /// Reads what is there, up to one byte more than `limit` in all.
    async fn read_some(&mut self, limit: usize, deadline: Instant) -> Result<(), End> {
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

/// Whether something has run out here; all else that accepting can fail with is over with the one connection.
fn is_scarcity(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw);
    matches!(number, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

/// Whether the peer broke the handshake off with a word: it does not accept our certificate.
fn is_refusal(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(error, Some(rustls::Error::AlertReceived(_)))
}

/// Whether this is an address of a home network, which no call from the internet has.
fn is_at_home(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to tell us: then, too, it is time.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_that_rewrites_sources_is_told_by_its_address() {
        for address in ["192.168.178.1", "10.0.0.138", "172.17.0.1", "169.254.1.1", "fd00::1", "fe80::1"] {
            assert!(is_at_home(address.parse().unwrap()), "{address}");
        }
        for address in ["149.154.167.1", "172.32.0.1", "127.0.0.1", "2001:db8::1"] {
            assert!(!is_at_home(address.parse().unwrap()), "{address}");
        }
    }
}
