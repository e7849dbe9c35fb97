//! One connection to a webhook. A benchmark can drive it too.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

pub use crate::response::Response;
use crate::response::Unreadable;
use crate::tls;
pub use crate::tls::Trust;
pub use crate::url::Target;

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The server closed it. Telegram tells nobody and tries again.
    Closed,
    /// Anything else, in the words of `last_error_message`.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Closed => f.write_str("closed by the server"),
            Error::Failed(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Error::Failed(tls::explain(error));
        }
        if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) {
            return Error::Closed;
        }
        let text = error.to_string();
        Error::Failed(text.split(" (os error").next().unwrap_or(&text).to_owned())
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection for one request at a time. Dropping it closes TCP without a word of TLS, as Telegram does.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// Bytes received beyond the last response: they begin the next one.
    input: Vec<u8>,
    output: Vec<u8>,
    sending: bool,
}

impl Connection {
    /// Connects to `to`, where a server for the URL host `host` is expected.
    pub async fn open(to: SocketAddr, source: Ipv4Addr, host: &str, trust: &Trust) -> Result<Connection, Error> {
        Connection::start(Connection::connect(to, source).await?, host, trust).await
    }

    pub(crate) async fn connect(to: SocketAddr, source: Ipv4Addr) -> Result<TcpStream, Error> {
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.set_keepalive(true)?;
        socket.set_nodelay(true)?;
        // The default source is of use on this machine only.
        if to.is_ipv4() && (to.ip().is_loopback() || !source.is_loopback()) {
            socket.bind((source, 0).into())?;
        }
        Ok(socket.connect(to).await?)
    }

    pub(crate) async fn start(tcp: TcpStream, host: &str, trust: &Trust) -> Result<Connection, Error> {
        let stream: Box<dyn Stream> = match trust.config() {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned())
                    .map_err(|error| Error::Failed(format!("Can't create an SSL connection: {error}")))?;
                Box::new(TlsConnector::from(config).connect(name, tcp).await?)
            }
        };
        Ok(Connection { stream, input: Vec::with_capacity(4096), output: Vec::new(), sending: false })
    }

    /// Sends one request in one write, and reads one response.
    pub async fn post(&mut self, target: &Target, body: &[u8]) -> Result<Response, Error> {
        self.send(target, body, usize::MAX).await?;
        self.receive().await
    }

    /// Sends no more than `limit` bytes of a request.
    pub(crate) async fn send(&mut self, target: &Target, body: &[u8], limit: usize) -> Result<(), Error> {
        self.output.clear();
        target.write(body, &mut self.output);
        self.output.truncate(limit);
        self.sending = true;
        self.stream.write_all(&self.output).await?;
        self.stream.flush().await?;
        self.sending = false;
        Ok(())
    }

    async fn receive(&mut self) -> Result<Response, Error> {
        loop {
            match Response::read(&self.input) {
                Ok(Some((response, length))) => {
                    self.input.drain(..length);
                    return Ok(response);
                }
                Ok(None) => self.fill().await?,
                Err(Unreadable(code, message)) => {
                    // The server is told, in a line that makes no sense to it.
                    let reason = message.split(':').next().unwrap_or_default();
                    let line = format!("HTTP/1.1 {code} {reason}\r\nContent-Length: 0\r\n\r\n");
                    let _ = self.stream.write_all(line.as_bytes()).await;
                    let _ = self.stream.flush().await;
                    return Err(Error::Failed(message.to_owned()));
                }
            }
        }
    }

    /// Waits until the server ends a connection that is not in use.
    pub(crate) async fn ended(&mut self) -> Error {
        loop {
            if let Err(error) = self.fill().await {
                return error;
            }
        }
    }

    /// A request is not wholly sent yet.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending
    }

    async fn fill(&mut self) -> Result<(), Error> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(Error::Closed),
            _ => Ok(()),
        }
    }
}
