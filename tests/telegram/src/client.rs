//! One connection to a webhook. A benchmark can drive it too.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

pub use crate::response::Response;
use crate::response::Unreadable;
use crate::stream::Stream;
pub use crate::tls::Trust;
pub use crate::url::Target;

/// The reason why a connection has ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The server closed it. Telegram shows no error and tries again.
    Closed,
    /// Anything else, in the words of `last_error_message`.
    Failed(String),
    /// The simulation cannot do what Telegram can, so nobody knows what Telegram would have done.
    NoVerdict(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Closed => f.write_str("closed by the server"),
            Error::Failed(message) => f.write_str(message),
            Error::NoVerdict(what) => {
                write!(
                    f,
                    "NO VERDICT: the simulated Telegram met {what}. Try this with openssl or the real Telegram."
                )
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        let text = error.to_string();
        Error::Failed(text.split(" (os error").next().unwrap_or(&text).to_owned())
    }
}

/// A connection for one request at a time. Dropping it closes TCP without a word of TLS, as
/// Telegram does.
pub struct Connection {
    stream: Stream,
    /// Bytes received beyond the last response: they begin the next one.
    input: Vec<u8>,
    /// The head of the request on its way.
    head: Vec<u8>,
}

impl Connection {
    /// Connects to `to`, where a server for the URL host `host` is expected.
    pub async fn open(
        to: SocketAddr,
        source: Ipv4Addr,
        host: &str,
        trust: &Trust,
    ) -> Result<Connection, Error> {
        Connection::start(Connection::connect(to, source).await?, host, trust).await
    }

    pub(crate) async fn connect(to: SocketAddr, source: Ipv4Addr) -> Result<TcpStream, Error> {
        let socket = if to.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        socket.set_keepalive(true)?;
        socket.set_nodelay(true)?;
        // The default source is of use on this machine only.
        if to.is_ipv4() && (to.ip().is_loopback() || !source.is_loopback()) {
            socket.bind((source, 0).into())?;
        }
        Ok(socket.connect(to).await?)
    }

    pub(crate) async fn start(
        tcp: TcpStream,
        host: &str,
        trust: &Trust,
    ) -> Result<Connection, Error> {
        let stream = Stream::open(tcp, host, trust.config()).await?;
        Ok(Connection {
            stream,
            input: Vec::with_capacity(4096),
            head: Vec::new(),
        })
    }

    /// Sends one request, and reads one response. The response may come before the request is
    /// wholly sent; what is left of it goes out with the next one.
    pub async fn post(&mut self, target: &Target, body: &[u8]) -> Result<Response, Error> {
        self.push(target, body, usize::MAX)?;
        // What came behind the last response begins this one.
        let mut is_new = true;
        loop {
            while is_new {
                if let Some(response) = self.response()? {
                    return Ok(response);
                }
                is_new = self.stream.read(&mut self.input)?;
            }
            self.stream.write()?;
            self.stream.end()?;
            self.stream.ready().await?;
            is_new = self.stream.read(&mut self.input)?;
        }
    }

    /// Sends no more than `limit` bytes of a request, and wants no response.
    pub(crate) async fn send(
        &mut self,
        target: &Target,
        body: &[u8],
        limit: usize,
    ) -> Result<(), Error> {
        self.push(target, body, limit)?;
        loop {
            self.stream.turn(&mut self.input)?;
            if !self.stream.has_unsent() {
                return Ok(());
            }
            self.stream.ready().await?;
        }
    }

    /// A connection that ended with its last response takes no other request.
    fn push(&mut self, target: &Target, body: &[u8], limit: usize) -> Result<(), Error> {
        if self.stream.has_ended() {
            return Err(Error::Closed);
        }
        self.head.clear();
        target.write_head(body.len(), &mut self.head);
        self.stream.push(&self.head, body, limit);
        Ok(())
    }

    fn response(&mut self) -> Result<Option<Response>, Error> {
        match Response::read(&self.input) {
            Ok(None) => Ok(None),
            Ok(Some((response, length))) => {
                self.input.drain(..length);
                Ok(Some(response))
            }
            Err(Unreadable(code, message)) => {
                // Telegram writes its error to the server, as a status line.
                let reason = message.split(':').next().unwrap_or_default();
                let line = format!("HTTP/1.1 {code} {reason}\r\nContent-Length: 0\r\n\r\n");
                self.stream.push(line.as_bytes(), b"", usize::MAX);
                let _ = self.stream.write();
                Err(Error::Failed(message))
            }
        }
    }

    /// Waits until the server ends a connection that is not in use.
    pub(crate) async fn ended(&mut self) -> Error {
        loop {
            if let Err(error) = self.stream.turn(&mut self.input) {
                return error;
            }
            if let Err(error) = self.stream.ready().await {
                return error;
            }
        }
    }

    /// A request is not wholly sent yet.
    pub(crate) fn is_sending(&self) -> bool {
        self.stream.has_unsent()
    }
}
