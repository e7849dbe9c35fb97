//! Hands whole requests to tiny_http over kept Unix connections.
//!
//! tiny_http's pool loses count of its idle threads when connections arrive at once, and then leaves
//! some without a thread. So they are opened one at a time, each only after the one before was answered.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

/// The connections to the workers: as many as were ever needed at once, at most one for each worker.
pub struct Handover {
    socket: PathBuf,
    workers: Semaphore,
    idle: Mutex<Vec<UnixStream>>,
    opening: AsyncMutex<()>,
}

impl Handover {
    /// For the tiny_http that listens at `socket` and has so many workers.
    #[must_use]
    pub fn new(socket: PathBuf, workers: usize) -> Self {
        Self { socket, workers: Semaphore::new(workers), idle: Mutex::default(), opening: AsyncMutex::default() }
    }

    /// Has an update answered: waits for a worker, and for its whole answer, a head without a body.
    ///
    /// # Errors
    /// When the connection breaks. It is not used again.
    pub async fn ask(&self, bot: usize, body: &[u8]) -> io::Result<Vec<u8>> {
        // The semaphore is never closed; if it were, nothing would be lost by going on.
        let _worker = self.workers.acquire().await;
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.open().await?,
        };
        let mut request = format!("POST /{bot} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend_from_slice(body);
        let answer = exchange(&mut stream, &request).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        Ok(answer)
    }

    async fn open(&self) -> io::Result<UnixStream> {
        let _alone = self.opening.lock().await;
        let mut stream = UnixStream::connect(&self.socket).await?;
        // Any answer shows that this connection has got a thread.
        exchange(&mut stream, b"GET / HTTP/1.1\r\n\r\n").await?;
        Ok(stream)
    }
}

async fn exchange(stream: &mut UnixStream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(answer)
}
