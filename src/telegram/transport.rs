//! The connections to the Bot API: ureq's, but for four things that it does not do. A request
//! leaves as one piece, not as head and body; what the other side does not acknowledge is given up
//! soon; a kept connection that turns out to be dead says so, in place of an error that could mean
//! anything; and where IPv4 leads nowhere, IPv6 is tried soon.

use std::fmt;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt::TcpUserTimeout};
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
/// For the acknowledgement of what was sent: after this the network is gone, or the router has
/// forgotten the connection.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(5);

/// For IPv4 to connect, where there is IPv6 too. The kernel asks twice in this time.
const FALLBACK_TIME: Duration = Duration::from_millis(1500);

/// Makes the connections, through this proxy if there is one.
pub(crate) fn connector(
    proxy: Option<&Proxy>,
) -> impl Connector<Out = ReusableTransport<impl Transport>> {
    let proxy = proxy
        .and_then(Proxy::for_ureq)
        .map(|proxy| proxy.uri().clone());
    // Inside out, since each takes what the one before has made.
    ProxyConnector(ConnectProxyConnector::default())
        .chain(ProxyConnector(SocksConnector::default()))
        .chain(TcpConnector)
        .chain(RustlsConnector::default())
        .chain(ReuseConnector { proxy })
}

/// A proxy's, whose errors all mean that no connection to the Bot API came about.
#[derive(Debug)]
struct ProxyConnector<C>(C);

impl<In: Transport, C: Connector<In>> Connector<In> for ProxyConnector<C> {
    type Out = C::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        self.0
            .connect(details, chained)
            .map_err(|error| match error {
                Error::Io(why) if !is_tls_error(&why) => Error::ConnectProxyFailed(why.to_string()),
                other => other,
            })
    }
}

/// The handshake's errors come wrapped.
fn is_tls_error(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// A connection broke before a byte of the answer came, since it had been kept and was dead, or the
/// network was gone.
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
        let stream = connected.map_err(|why| match why.kind() {
            io::ErrorKind::TimedOut => Error::Timeout(details.timeout.reason),
            _ => Error::Io(why),
        })?;
        stream.set_nodelay(true)?;
        let milliseconds = u32::try_from(UNACKNOWLEDGED_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        setsockopt(&stream, TcpUserTimeout, &milliseconds).map_err(io::Error::from)?;
        let buffers = LazyBuffers::new(BUFFER_SIZE, BUFFER_SIZE);
        Ok(Some(Either::B(TcpTransport {
            stream,
            buffers,
            read_timeout: None,
            write_timeout: None,
        })))
    }
}

/// Connects to one of these addresses: by IPv4; where that does not connect soon, by IPv6; and if
/// that leads nowhere, by IPv4 in the time that is left.
fn connect(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let end = Instant::now() + limit;
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv4());
    let first = if v6.is_empty() {
        limit
    } else {
        FALLBACK_TIME.min(limit / 2)
    };
    let mut result = connect_within(&v4, first);
    if result.is_err() && !v6.is_empty() {
        let is_slow = result
            .as_ref()
            .is_err_and(|why| why.kind() == io::ErrorKind::TimedOut);
        let left = end.saturating_duration_since(Instant::now());
        let by_v6 = connect_within(&v6, if is_slow { left / 2 } else { left });
        if by_v6.is_ok() || v4.is_empty() {
            return by_v6;
        }
        if is_slow {
            result = connect_within(&v4, end.saturating_duration_since(Instant::now()));
        }
    }
    result
}

/// Tries one after the other; each has its share of the time.
fn connect_within(addresses: &[&SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    // Zero would be refused.
    let each =
        (limit / u32::try_from(addresses.len().max(1)).unwrap_or(1)).max(Duration::from_millis(1));
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
    /// As the kernel has them.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

/// Rounded up: so it is the same from call to call, and the kernel need not be told again.
fn whole_seconds(timeout: NextTimeout) -> Option<Duration> {
    let time = *timeout.not_zero()?;
    Some(Duration::from_secs(
        time.as_secs() + u64::from(time.subsec_nanos() > 0),
    ))
}

impl TcpTransport {
    /// TLS reads many times for one call: each must end with the call.
    fn in_time(timeout: NextTimeout) -> Result<(), Error> {
        if timeout.after.is_zero() {
            Err(Error::Timeout(timeout.reason))
        } else {
            Ok(())
        }
    }

    /// Distinguishes the end of the call's time from the kernel giving the connection up.
    fn timed(why: io::Error, timeout: NextTimeout) -> Error {
        if why.kind() == io::ErrorKind::WouldBlock {
            Error::Timeout(timeout.reason)
        } else {
            Error::Io(why)
        }
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
            .map_err(|why| Self::timed(why, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        Self::in_time(timeout)?;
        let longest = whole_seconds(timeout);
        if self.read_timeout != longest {
            self.stream.set_read_timeout(longest)?;
            self.read_timeout = longest;
        }
        let amount = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|why| Self::timed(why, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // What comes unasked is as bad as an end.
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.stream.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
    }
}

#[derive(Debug)]
struct ReuseConnector {
    /// The proxy's own URI: a connection to it is made here, too, and the one to the Bot API lies
    /// within.
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

/// A connection that can serve many calls, and sends each request as one piece.
#[derive(Debug)]
pub(crate) struct ReusableTransport<T> {
    inner: T,
    /// The request, as far as it was made: it is sent when its answer is awaited.
    unsent: Vec<u8>,
    /// Another one lies within, and knows what its calls are.
    is_to_proxy: bool,
    /// It has served a call before this one.
    used: bool,
    /// Something of the answer is there.
    answering: bool,
    /// It was put away after its answer.
    kept: bool,
}

impl<T: Transport> ReusableTransport<T> {
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

    /// Calls the connection stale if the kernel gave up on unacknowledged bytes, or the other side
    /// had closed it before.
    fn classify(&self, error: Error) -> Error {
        let unacknowledged = |why: &io::Error| why.raw_os_error() == Some(Errno::ETIMEDOUT as i32);
        match error {
            Error::Io(why)
                if !self.is_to_proxy && !self.answering && (self.used || unacknowledged(&why)) =>
            {
                Error::Other(Box::new(StaleConnection(why.to_string())))
            }
            other => other,
        }
    }
}

impl<T: Transport> Transport for ReusableTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.used |= mem::take(&mut self.answering) && !self.is_to_proxy;
        self.kept = false;
        let output = &self.inner.buffers().output()[..amount];
        self.unsent.extend_from_slice(output);
        if self.unsent.len() < BUFFER_SIZE {
            Ok(())
        } else {
            self.send(timeout).map_err(|why| self.classify(why))
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let more = match self.exchange(timeout) {
            Ok(false) if !self.answering && self.used => {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
            }
            other => other,
        };
        let more = more.map_err(|why| self.classify(why))?;
        self.answering |= more;
        Ok(more)
    }

    fn is_open(&mut self) -> bool {
        // ureq asks when it puts a connection away, and when it takes it out again: only the second
        // answer counts.
        let is_put_away = !self.is_to_proxy && !mem::replace(&mut self.kept, true);
        is_put_away || self.inner.is_open()
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

    /// A server that has one connection, and what `serve` does with it.
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
    fn no_trickle_of_bytes_prolongs_a_call() {
        // A record of TLS, and an answer, that have no end in sight.
        for (scheme, first) in [
            ("https", &b"\x16\x03\x03\x40\x00"[..]),
            ("http", b"HTTP/1.1 200 OK\r\nX: "),
        ] {
            let address = server(move |mut stream| {
                stream.write_all(first).unwrap();
                // So fast that no single read waits long enough to fail.
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

    /// Loopback addresses at which nobody answers, not even with a refusal: the backlog of this
    /// listener is full.
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
    fn ipv6_is_tried_soon_where_ipv4_does_not_connect_and_never_before_it() {
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
        // What IPv4 says counts, and it has all of the time.
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
        // What the server says between two calls, before it ends the connection; None where it does
        // not.
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
    fn a_kept_connection_that_dies_under_a_large_request_is_called_broken() {
        let address = server(|mut stream| {
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            // More of the next one is on its way when the line goes.
            let _ = stream.read(&mut [0]).unwrap();
        });
        let (agent, url) = (agent(), format!("http://{address}/"));
        agent.post(&url).send("").unwrap();
        // More than the kernels on both sides take.
        let error = agent.post(&url).send(vec![b'x'; 32 << 20]).unwrap_err();
        assert!(
            matches!(&error, Error::Other(why) if why.is::<StaleConnection>()),
            "{error:?}"
        );
    }
}
