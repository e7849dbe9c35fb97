//! The connections to the Bot API: those of ureq, with five differences. A request is sent in one
//! piece, not as head and body. A connection ends soon when the other side does not acknowledge what
//! was sent. A connection whose answer takes long is kept alive. A kept connection that is dead has
//! an error of its own, since nothing was carried out. And where IPv4 does not connect, IPv6 is tried
//! soon.

use std::fmt;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{KeepAlive, TcpKeepIdle, TcpKeepInterval, TcpUserTimeout};
use nix::sys::socket::{MsgFlags, recv, setsockopt};
use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    RustlsConnector, SocksConnector, Transport,
};

use super::proxy::Proxy;

/// Bytes that a connection buffers each way; ureq's default is 128 KiB, for each of 40 connections
/// and more. With less than 10 KiB ureq 3.5 resizes a buffer, and fills it with zeros, at every
/// call.
pub(crate) const BUFFER_SIZE: usize = 10 * 1024;
/// Time for the acknowledgement of what was sent. Without one the network is down, or the router has
/// forgotten the connection.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer that takes longer than this is awaited with keepalive. The request is acknowledged by
/// then, or given up.
const WAIT_WITHOUT_KEEPALIVE: Duration = Duration::from_secs(6);
/// Only calls that may take longer than this need keepalive: those of getUpdates.
const LONGEST_WITHOUT_KEEPALIVE: Duration = Duration::from_secs(20);
/// Seconds of silence before the first probe. Routers forget a connection that was idle for 30 s or
/// more.
const KEEPALIVE_IDLE: u32 = 15;
/// Seconds between two probes that get no answer.
const PROBE_INTERVAL: u32 = 1;
/// Silence that ends a connection, five probes included. The kernel counts no probes where there is
/// a user timeout: with one that is shorter than the time before the first probe, a single lost
/// probe ends a healthy connection.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(KEEPALIVE_IDLE as u64 + 5);

/// Time for IPv4 to connect before IPv6 is tried. In this time the kernel sends two SYN packets.
const FALLBACK_TIME: Duration = Duration::from_millis(1500);

/// Makes the connections, through this proxy if there is one.
pub(crate) fn connector(
    proxy: Option<&Proxy>,
) -> impl Connector<Out = ReusableTransport<impl Transport>> {
    let proxy = proxy.and_then(Proxy::for_ureq);
    let proxy = proxy.map(|proxy| proxy.uri().clone());
    // Each connector works on the connection of the one before.
    ProxyConnector(ConnectProxyConnector::default())
        .chain(ProxyConnector(SocksConnector::default()))
        .chain(TcpConnector)
        .chain(RustlsConnector::default())
        .chain(ReuseConnector { proxy })
}

/// A connector to a proxy. All its errors mean that there is no connection to the Bot API.
#[derive(Debug)]
struct ProxyConnector<C>(C);

impl<In: Transport, C: Connector<In>> Connector<In> for ProxyConnector<C> {
    type Out = C::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        match self.0.connect(details, chained) {
            Err(Error::Io(error)) if !is_tls_error(&error) => {
                Err(Error::ConnectProxyFailed(error.to_string()))
            }
            other => other,
        }
    }
}

/// Whether an I/O error is one of a TLS handshake.
fn is_tls_error(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// A connection broke before the first byte of the answer: it was kept and dead, or the network is
/// down.
#[derive(Debug)]
pub(crate) struct StaleConnection(pub(crate) String);

impl fmt::Display for StaleConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StaleConnection {}

#[derive(Debug)]
struct TcpConnector;

impl<In: Transport> Connector<In> for TcpConnector {
    type Out = Either<In, TcpTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        proxy: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(proxy) = proxy {
            return Ok(Some(Either::A(proxy)));
        }

        let connected = connect(&details.addrs, *details.timeout.after);
        let stream = connected.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Error::Timeout(details.timeout.reason),
            _ => Error::Io(error),
        })?;
        stream.set_nodelay(true)?;
        set_user_timeout(&stream, UNACKNOWLEDGED_TIMEOUT)?;
        setsockopt(&stream, TcpKeepInterval, &PROBE_INTERVAL).map_err(io::Error::from)?;
        let buffers = LazyBuffers::new(BUFFER_SIZE, BUFFER_SIZE);
        Ok(Some(Either::B(TcpTransport {
            stream,
            buffers,
            read_timeout: None,
            write_timeout: None,
        })))
    }
}

/// Limits how long what was sent, or a probe, may stay unacknowledged.
fn set_user_timeout(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    Ok(setsockopt(stream, TcpUserTimeout, &milliseconds)?)
}

/// Connects to one of these addresses by IPv4. If that does not connect soon, IPv6 is tried, and then
/// IPv4 again in the rest of the time.
fn connect(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let end = Instant::now() + limit;
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv4());
    let left = || end.saturating_duration_since(Instant::now());
    if v6.is_empty() {
        return connect_within(&v4, limit);
    }

    let error = match connect_within(&v4, FALLBACK_TIME.min(limit / 2)) {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };

    // IPv4 that was refused is not tried again, so IPv6 has the rest of the time.
    let is_slow = error.kind() == io::ErrorKind::TimedOut;
    let time = if is_slow { left() / 2 } else { left() };
    let by_v6 = connect_within(&v6, time);
    if by_v6.is_ok() || v4.is_empty() {
        return by_v6;
    }

    if is_slow {
        return connect_within(&v4, left());
    }
    Err(error)
}

/// Tries one address after the other; each has its share of the time.
fn connect_within(addresses: &[&SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    // The standard library refuses a limit of zero.
    let each = (limit / count).max(Duration::from_millis(1));

    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        result = TcpStream::connect_timeout(address, each);
        if result.is_ok() {
            break;
        }
    }
    result
}

#[derive(Debug)]
struct TcpTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
    /// The timeout of reads that the kernel has now.
    read_timeout: Option<Duration>,
    /// The timeout of writes that the kernel has now.
    write_timeout: Option<Duration>,
}

/// The timeout in whole seconds, rounded up: then it is mostly the same from read to read, and needs
/// no system call.
fn whole_seconds(timeout: NextTimeout) -> Option<Duration> {
    let time = *timeout.not_zero()?;
    Some(Duration::from_secs(
        time.as_secs() + u64::from(time.subsec_nanos() > 0),
    ))
}

impl TcpTransport {
    /// Whether the call still has time. TLS reads many times for one call, and no read may begin
    /// after its end.
    fn in_time(timeout: NextTimeout) -> Result<(), Error> {
        if timeout.after.is_zero() {
            Err(Error::Timeout(timeout.reason))
        } else {
            Ok(())
        }
    }

    /// The error of a read or a write. `WouldBlock` is our own timeout, `TimedOut` that of the
    /// kernel for an acknowledgement.
    fn error(error: io::Error, timeout: NextTimeout) -> Error {
        if error.kind() == io::ErrorKind::WouldBlock {
            Error::Timeout(timeout.reason)
        } else {
            Error::Io(error)
        }
    }

    /// Waits no longer than `longest` for the next bytes, and returns how many came.
    fn read(&mut self, longest: Option<Duration>) -> io::Result<usize> {
        if self.read_timeout != longest {
            self.stream.set_read_timeout(longest)?;
            self.read_timeout = longest;
        }
        loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// The same for an answer that may take long. While it does, the kernel probes the connection:
    /// so no router forgets it, and one that is dead is found.
    fn read_with_keepalive(&mut self, longest: Option<Duration>) -> io::Result<usize> {
        match self.read(Some(WAIT_WITHOUT_KEEPALIVE)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }

        setsockopt(&self.stream, KeepAlive, &true)?;
        // After the line above: here the kernel counts the silence that there was already.
        setsockopt(&self.stream, TcpKeepIdle, &KEEPALIVE_IDLE)?;
        set_user_timeout(&self.stream, SILENCE_TIMEOUT)?;
        let amount =
            self.read(longest.map(|longest| longest.saturating_sub(WAIT_WITHOUT_KEEPALIVE)))?;

        // A connection that lies idle in the pool costs no packets.
        setsockopt(&self.stream, KeepAlive, &false)?;
        set_user_timeout(&self.stream, UNACKNOWLEDGED_TIMEOUT)?;
        Ok(amount)
    }
}

impl Transport for TcpTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        Self::in_time(timeout)?;
        let longest = whole_seconds(timeout);
        if self.write_timeout != longest {
            self.stream.set_write_timeout(longest)?;
            self.write_timeout = longest;
        }

        self.stream
            .write_all(&self.buffers.output()[..amount])
            .map_err(|error| Self::error(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        Self::in_time(timeout)?;
        let longest = whole_seconds(timeout);
        let may_take_long = longest.is_none_or(|longest| longest > LONGEST_WITHOUT_KEEPALIVE);
        let read = if may_take_long {
            self.read_with_keepalive(longest)
        } else {
            self.read(longest)
        };
        let amount = read.map_err(|error| Self::error(error, timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // A server that sends something unasked is about to close the connection.
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.stream.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
    }
}

#[derive(Debug)]
struct ReuseConnector {
    /// The proxy's own URI. The connection to the proxy is made with this connector, too, and then
    /// the one to the Bot API within it.
    proxy: Option<Uri>,
}

impl<In: Transport> Connector<In> for ReuseConnector {
    type Out = ReusableTransport<In>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        connection: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let is_to_proxy = self.proxy.as_ref() == Some(details.uri);
        Ok(connection.map(|inner| ReusableTransport {
            inner,
            unsent: Vec::new(),
            is_to_proxy,
            used: false,
            answering: false,
            kept: false,
        }))
    }
}

/// A connection that can serve many calls, and sends each request in one piece.
#[derive(Debug)]
pub(crate) struct ReusableTransport<T> {
    inner: T,
    /// The part of the request that ureq has written. It is sent when ureq waits for the answer.
    unsent: Vec<u8>,
    /// Whether this is the connection to the proxy. The one to the Bot API is within it, and knows
    /// where a call ends.
    is_to_proxy: bool,
    /// Whether the connection has served a call before this one.
    used: bool,
    /// Whether something of this call's answer has arrived.
    answering: bool,
    /// Whether the connection is kept for the next call.
    kept: bool,
}

impl<T: Transport> ReusableTransport<T> {
    /// Sends the request in pieces of the buffer's size.
    fn send(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        let unsent = mem::take(&mut self.unsent);
        let mut rest = &unsent[..];
        while !rest.is_empty() {
            let output = self.inner.buffers().output();
            let (piece, later) = rest.split_at(rest.len().min(output.len()));
            output[..piece.len()].copy_from_slice(piece);
            self.inner.transmit_output(piece.len(), timeout)?;
            rest = later;
        }
        Ok(())
    }

    fn exchange(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.send(timeout)?;
        self.inner.await_input(timeout)
    }

    /// Makes an I/O error a [`StaleConnection`], if the connection was kept, or the kernel got no
    /// acknowledgement.
    fn classify(&self, error: Error) -> Error {
        let Error::Io(error) = error else {
            return error;
        };
        let is_unacknowledged = error.raw_os_error() == Some(Errno::ETIMEDOUT as i32);
        let is_dead = self.used || is_unacknowledged;
        if is_dead && !self.answering && !self.is_to_proxy {
            Error::Other(Box::new(StaleConnection(error.to_string())))
        } else {
            Error::Io(error)
        }
    }
}

impl<T: Transport> Transport for ReusableTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        // Output after an answer is the next call.
        if mem::take(&mut self.answering) && !self.is_to_proxy {
            self.used = true;
        }
        self.kept = false;

        let output = &self.inner.buffers().output()[..amount];
        self.unsent.extend_from_slice(output);
        if self.unsent.len() < BUFFER_SIZE {
            return Ok(());
        }
        self.send(timeout).map_err(|error| self.classify(error))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let has_more = match self.exchange(timeout) {
            Ok(has_more) => has_more,
            Err(error) => return Err(self.classify(error)),
        };
        // The server has closed a kept connection.
        if !has_more && !self.answering && self.used {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(self.classify(error.into()));
        }
        self.answering |= has_more;
        Ok(has_more)
    }

    fn is_open(&mut self) -> bool {
        // ureq asks when it keeps a connection, and when it uses the connection again. Only the
        // second answer counts, so that the first needs no system call.
        let was_kept = mem::replace(&mut self.kept, true);
        if !was_kept && !self.is_to_proxy {
            return true;
        }
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Shutdown, TcpListener};
    use std::sync::{Arc, Barrier};
    use std::thread;
    use ureq::Agent;
    use ureq::unversioned::resolver::DefaultResolver;

    const LIMIT: Duration = Duration::from_secs(1);

    /// A server that accepts one connection and passes it to `serve`.
    fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(listener.accept().unwrap().0));
        address
    }

    fn agent() -> Agent {
        let config = Agent::config_builder().timeout_global(Some(LIMIT)).build();
        Agent::with_parts(config, connector(None), DefaultResolver::default())
    }

    #[test]
    fn a_trickle_of_bytes_does_not_prolong_a_call() {
        // A TLS record and an HTTP header that never end.
        for (scheme, first) in [
            ("https", &b"\x16\x03\x03\x40\x00"[..]),
            ("http", b"HTTP/1.1 200 OK\r\nX: "),
        ] {
            let address = server(move |mut stream| {
                stream.write_all(first).unwrap();
                // So often that no single read fails.
                while stream.write_all(b"x").is_ok() {
                    thread::sleep(LIMIT / 5000);
                }
            });
            let start = Instant::now();
            let error = agent()
                .post(format!("{scheme}://{address}/"))
                .send("")
                .unwrap_err();
            assert!(matches!(error, Error::Timeout(_)), "{scheme}: {error:?}");
            assert!(
                (LIMIT..5 * LIMIT).contains(&start.elapsed()),
                "{scheme}: {:?}",
                start.elapsed()
            );
        }
    }

    /// An address at which nobody answers, not even with a refusal: the backlog of its listener is
    /// full.
    fn silent() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = std::iter::from_fn(|| {
            TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok()
        });
        (listener, waiting.take(10).collect(), address)
    }

    #[test]
    fn ipv6_is_the_fallback_where_ipv4_does_not_connect() {
        let (_listener, _waiting, silent) = silent();
        let v6 = TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
        let refused: SocketAddr = v6;
        let there = TcpListener::bind("[::1]:0").unwrap();
        let v6 = there.local_addr().unwrap();
        let start = Instant::now();
        let stream = connect(&[v6, silent], Duration::from_secs(5)).unwrap();
        assert!(
            stream.peer_addr().unwrap() == v6 && start.elapsed() >= FALLBACK_TIME,
            "{:?}",
            start.elapsed()
        );
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = connect(&[v6, v4.local_addr().unwrap()], Duration::from_secs(5)).unwrap();
        assert!(stream.peer_addr().unwrap().is_ipv4(), "IPv4 comes first");
        let gone = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(
            connect(&[gone, v6], LIMIT).unwrap().peer_addr().unwrap(),
            v6
        );
        assert_eq!(connect(&[v6], LIMIT).unwrap().peer_addr().unwrap(), v6);
        // Where both fail, the error is that of IPv4, which is tried in all of the time.
        assert_eq!(
            connect(&[gone, refused], LIMIT).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        let start = Instant::now();
        assert_eq!(
            connect(&[silent, refused], LIMIT).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert!(start.elapsed() >= LIMIT * 9 / 10, "{:?}", start.elapsed());
    }

    #[test]
    fn a_kept_connection_is_used_again_only_while_it_is_open_and_silent() {
        fn answer(stream: &mut TcpStream) {
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
        // What the server sends between two calls before it ends the connection; None where it does
        // not end it.
        for unasked in [
            None,
            Some(&b""[..]),
            Some(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let turns = Arc::new(Barrier::new(2));
            let turn = Arc::clone(&turns);
            let server = thread::spawn(move || {
                let mut stream = listener.accept().unwrap().0;
                answer(&mut stream);
                turn.wait();
                if let Some(unasked) = unasked {
                    stream.write_all(unasked).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                }
                turn.wait();
                if unasked.is_some() {
                    stream = listener.accept().unwrap().0;
                }
                answer(&mut stream);
            });
            let agent = agent();
            agent.post(&url).send("").unwrap();
            turns.wait();
            turns.wait();
            agent.post(&url).send("").unwrap();
            server.join().unwrap();
        }
    }

    #[test]
    fn a_kept_connection_that_dies_under_a_large_request_is_stale() {
        let address = server(|mut stream| {
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            // The connection ends while more of the next request is on its way.
            let _ = stream.read(&mut [0]).unwrap();
        });
        let agent = agent();
        let url = format!("http://{address}/");
        agent.post(&url).send("").unwrap();
        // More than the kernel buffers on both sides.
        let error = agent.post(&url).send(vec![b'x'; 32 << 20]).unwrap_err();
        assert!(
            matches!(&error, Error::Other(error) if error.is::<StaleConnection>()),
            "{error:?}"
        );
    }
}
