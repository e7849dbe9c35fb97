//! A kept Unix connection to tiny_http, with pipelined requests: each is written whole, and none waits for the answer of the one
//! before. So the thread that tiny_http has for the connection reads what many have asked for, and few such threads are needed.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection. tokio does not watch it: it would be woken for each request that tiny_http reads, and nothing ever comes back.
pub(super) struct Pipeline(UnixStream);

impl Pipeline {
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        tokio::net::UnixStream::connect(socket).await?.into_std().map(Self)
    }

    /// Writes a request. If that is given up before its end, the connection has to go with it.
    ///
    /// # Errors
    /// When tiny_http has ended the connection.
    pub(super) async fn write(&self, request: &[u8]) -> io::Result<()> {
        let (mut stream, mut rest) = (&self.0, request);
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                // Only a large one finds no room.
                Err(why) if why.kind() == ErrorKind::WouldBlock => {
                    tokio::net::UnixStream::from_std(stream.try_clone()?)?.writable().await?;
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }
}
