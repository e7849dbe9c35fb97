//! A kept Unix connection to tiny_http, with pipelined requests: each is written whole, and none
//! waits for the answer of the one before. tiny_http has a thread for each connection, so few such
//! threads read the requests of all.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::io::AsyncWriteExt;

/// A connection to which requests are only written. tokio does not watch it: that would wake it for
/// each request that tiny_http reads, and nothing ever comes back.
pub(super) struct Pipeline(UnixStream);

impl Pipeline {
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        let stream = tokio::net::UnixStream::connect(socket).await?;
        Ok(Self(stream.into_std()?))
    }

    /// Writes a request, and gives the connection back. A future that is dropped before its end
    /// takes the connection with it: nothing may follow half a request.
    ///
    /// # Errors
    /// When tiny_http has ended the connection.
    pub(super) async fn write(mut self, request: &[u8]) -> io::Result<Self> {
        let written = match self.0.write(request) {
            Ok(written) => written,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                0
            }
            Err(error) => return Err(error),
        };

        // Only a large request finds no room in the socket's buffer. tokio waits with it.
        if written < request.len() {
            let mut stream = tokio::net::UnixStream::from_std(self.0)?;
            stream.write_all(&request[written..]).await?;
            self.0 = stream.into_std()?;
        }
        Ok(self)
    }
}
