//! A kept Unix connection to tiny_http, with pipelined requests: each is written whole, and none
//! waits for the answer of the one before. So the thread that tiny_http has for the connection
//! reads what many have asked for, and few such threads are needed.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::io::AsyncWriteExt;

/// A connection. tokio does not watch it: it would be woken for each request that tiny_http reads,
/// and nothing ever comes back.
pub(super) struct Pipeline(UnixStream);

impl Pipeline {
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        tokio::net::UnixStream::connect(socket)
            .await?
            .into_std()
            .map(Self)
    }

    /// Writes a request. If that is given up before its end, the connection ends with it.
    ///
    /// # Errors
    /// When tiny_http has ended the connection.
    pub(super) async fn write(mut self, request: &[u8]) -> io::Result<Self> {
        let written = match self.0.write(request) {
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            written => written?,
        };
        // Only a large one finds no room.
        if written < request.len() {
            let mut stream = tokio::net::UnixStream::from_std(self.0)?;
            stream.write_all(&request[written..]).await?;
            self.0 = stream.into_std()?;
        }
        Ok(self)
    }
}
