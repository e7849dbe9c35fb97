//! Hands whole requests to tiny_http over kept Unix connections.
//!
//! tiny_http's pool loses count of its idle threads when connections arrive at once, and then leaves
//! some without a thread. So they are opened one at a time, each only after the one before was answered.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::timeout;

use super::auth::Recipient;
use super::body_budget::BodyBudget;
use crate::system::lock::lock;

/// A worker's answer. The calls for one update end before it, and Telegram waits 60 s.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
/// Seconds after which an update that nobody answered goes to a worker again.
const RETRY_SOON: u64 = 1;

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
    /// By the bot's place in the settings.
    in_flight: Mutex<BTreeMap<usize, usize>>,
}

impl Handover {
    /// For the tiny_http that listens at `socket` and has so many workers.
    #[must_use]
    pub fn new(socket: PathBuf, workers: usize) -> Self {
        let [turns, free] = [workers; 2].map(Semaphore::new);
        let (idle, opening, in_flight) = (Mutex::default(), AsyncMutex::default(), Mutex::default());
        Self { bodies: BodyBudget::default(), socket, turns, workers: free, idle, opening, in_flight }
    }

    /// Has a bot's update dealt with that Telegram did not send here by itself.
    ///
    /// # Errors
    /// After how many seconds it is to be tried again.
    pub(crate) async fn deliver(&self, bot: usize, update: &[u8]) -> Result<(), u64> {
        let _room = self.bodies.room_for(update.len()).await.ok_or(RETRY_SOON)?;
        let asked = timeout(ANSWER_TIMEOUT, self.ask(Recipient::Bot(bot), update.to_vec())).await;
        let answer = asked.ok().and_then(Result::ok).ok_or(RETRY_SOON)?;
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        if answer.starts_with("http/1.1 200 ") {
            return Ok(());
        }
        let seconds = answer.lines().find_map(|line| line.strip_prefix("retry-after:")?.trim().parse().ok());
        Err(seconds.unwrap_or(RETRY_SOON))
    }

    /// How many updates of a bot are being dealt with.
    pub(crate) fn in_flight(&self, bot: usize) -> usize {
        lock(&self.in_flight).get(&bot).copied().unwrap_or_default()
    }

    /// Has an update answered: waits for a worker, and for its whole answer, a head without a body. The probe gets the
    /// first worker that is free, however many updates wait.
    ///
    /// # Errors
    /// When the connection breaks. It is not used again.
    pub(crate) async fn ask(&self, recipient: Recipient, body: Vec<u8>) -> io::Result<Vec<u8>> {
        // The semaphores are never closed; if they were, nothing would be lost by going on. The worker is given back first.
        let _counted = Counted::new(&self.in_flight, recipient);
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

/// An update in flight, for as long as this lives.
struct Counted<'h>(&'h Mutex<BTreeMap<usize, usize>>, Option<usize>);

impl<'h> Counted<'h> {
    fn new(in_flight: &'h Mutex<BTreeMap<usize, usize>>, recipient: Recipient) -> Self {
        let bot = match recipient {
            Recipient::Bot(index) => Some(index),
            Recipient::Probe => None,
        };
        if let Some(bot) = bot {
            *lock(in_flight).entry(bot).or_default() += 1;
        }
        Self(in_flight, bot)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(bot) = self.1
            && let Some(count) = lock(self.0).get_mut(&bot)
        {
            *count -= 1;
        }
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
