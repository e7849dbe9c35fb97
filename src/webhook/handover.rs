//! Hands whole requests to tiny_http over kept Unix connections.
//!
//! tiny_http's pool loses count of its idle threads when connections arrive at once, and then leaves
//! some without a thread. So they are opened one at a time, each only after the one before was answered.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::auth::Recipient;
use super::body_budget::BodyBudget;
use crate::system::lock::lock;

/// The connections to the workers: as many as were ever needed at once, at most one for each worker.
pub struct Handover {
    /// The memory for large bodies, here and with the workers.
    pub(super) bodies: BodyBudget,
    socket: PathBuf,
    /// Of updates, as many as can have a worker; the others wait for their turn here, where they are not in the probe's way.
    turns: Semaphore,
    workers: Semaphore,
    idle: Mutex<Vec<UnixStream>>,
    opening: AsyncMutex<()>,
}

impl Handover {
    /// For the tiny_http that listens at `socket` and has so many workers.
    #[must_use]
    pub fn new(socket: PathBuf, workers: usize) -> Self {
        let [turns, free] = [workers; 2].map(Semaphore::new);
        Self {
            bodies: BodyBudget::default(),
            socket,
            turns,
            workers: free,
            idle: Mutex::default(),
            opening: AsyncMutex::default(),
        }
    }

    /// Has an update answered: waits for a worker, and for its whole answer, a head without a body. The probe gets the
    /// first worker that is free, however many updates wait.
    ///
    /// # Errors
    /// When the connection breaks. It is not used again.
    pub(crate) async fn ask(&self, recipient: Recipient, body: Vec<u8>) -> io::Result<Vec<u8>> {
        // The semaphores are never closed; if they were, nothing would be lost by going on. The worker is given back first.
        let (_turn, path) = match recipient {
            Recipient::Bot(index) => (self.turns.acquire().await.ok(), format!("/{index}")),
            Recipient::Probe => (None, "/probe".to_owned()),
        };
        let _worker = self.workers.acquire().await;
        let kept = lock(&self.idle).pop();
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.open().await?,
        };
        let head = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut request = body;
        request.splice(..0, head.into_bytes());
        let answer = exchange(&mut stream, request).await?;
        lock(&self.idle).push(stream);
        Ok(answer)
    }

    async fn open(&self) -> io::Result<UnixStream> {
        let _alone = self.opening.lock().await;
        let mut stream = UnixStream::connect(&self.socket).await?;
        // Any answer shows that this connection has got a thread.
        exchange(&mut stream, b"GET / HTTP/1.1\r\n\r\n".to_vec()).await?;
        Ok(stream)
    }
}

/// Sends a request, and keeps nothing of it while its answer is awaited.
async fn exchange(stream: &mut UnixStream, request: Vec<u8>) -> io::Result<Vec<u8>> {
    stream.write_all(&request).await?;
    drop(request);
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;
    use std::sync::mpsc;
    use tokio::runtime;
    use tokio::task::{JoinSet, yield_now};

    #[test]
    fn the_probe_waits_for_one_answer_and_not_for_all_updates() {
        let socket = std::env::temp_dir().join(format!("pihook-handover-{}", std::process::id()));
        let listener = UnixListener::bind(&socket).unwrap();
        let (begin, may_answer) = mpsc::channel();
        // One worker, on the one connection that there is for it.
        let worker = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let requests = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let mut asked = Vec::new();
            for line in requests.filter(|line| line.contains(" HTTP/1.1")) {
                may_answer.recv().unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                asked.push(line);
            }
            asked
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let handover = Arc::new(Handover::new(socket.clone(), 1));
            let mut all = JoinSet::new();
            for recipient in [[Recipient::Bot(0); 4].as_slice(), &[Recipient::Probe]].concat() {
                let handover = Arc::clone(&handover);
                all.spawn(async move { handover.ask(recipient, Vec::new()).await.unwrap() });
                yield_now().await;
            }
            // The first request only opens the connection.
            (0..6).for_each(|_| begin.send(()).unwrap());
            all.join_all().await;
        });
        std::fs::remove_file(socket).unwrap();
        let asked: Vec<_> = worker.join().unwrap();
        let asked: Vec<_> = asked.iter().map(|line| line.trim_end_matches(" HTTP/1.1")).collect();
        assert_eq!(asked, ["GET /", "POST /0", "POST /probe", "POST /0", "POST /0", "POST /0"]);
    }
}
