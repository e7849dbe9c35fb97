//! Hands whole requests to tiny_http over kept Unix connections. The answers come back in memory
//! ([`answers`](super::answers)): nothing ever comes back on a connection, so one connection
//! carries the small requests of all.
//!
//! tiny_http's pool loses count of its idle threads when connections arrive at once, and then
//! leaves some without a thread. So connections are opened one at a time, each only after a request
//! on the one before was answered.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::timeout;

use super::answers::{Answers, RETRY_SOON, UpdateOutcome};
use super::body_budget::BodyBudget;
use super::pipeline::Pipeline;
use crate::system::lock::lock;

/// For a worker's answer. The calls for one update end before it, and Telegram waits 60 s.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
/// What stands in a request's path in place of the bot's index.
const NO_BOT: &str = "none";

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// A bot, by its place in the settings.
    Bot(usize),
    /// No bot: our own probe only wants an answer.
    Probe,
}

/// The connections to the workers: as many as requests were ever being written at once, at most one
/// for each worker.
pub struct Handover {
    /// The memory for large bodies, here and with the workers.
    pub(crate) bodies: BodyBudget,
    /// The way back from the workers.
    pub(crate) answers: Arc<Answers>,
    socket: PathBuf,
    /// A permit for each worker, for updates only. Updates without one wait here, and so they are
    /// not before the probe in the queue for a worker.
    updates: Semaphore,
    workers: Semaphore,
    /// Connections that no request is being written to.
    idle: Mutex<Vec<Pipeline>>,
    /// Held while a connection is opened.
    opening: AsyncMutex<()>,
    /// Updates in flight, by the bot's place in the settings.
    in_flight: Mutex<BTreeMap<usize, usize>>,
}

impl Handover {
    /// For the tiny_http that listens at `socket` and has so many workers.
    #[must_use]
    pub fn new(socket: PathBuf, workers: usize) -> Self {
        Self {
            bodies: BodyBudget::default(),
            answers: Arc::default(),
            socket,
            updates: Semaphore::new(workers),
            workers: Semaphore::new(workers),
            idle: Mutex::default(),
            opening: AsyncMutex::default(),
            in_flight: Mutex::default(),
        }
    }

    /// Has a worker handle an update of a bot that polls.
    ///
    /// # Errors
    /// The seconds after which the update is to be handled again.
    pub(crate) async fn deliver(&self, bot: usize, update: &[u8]) -> Result<(), u64> {
        let Some(_room) = self.bodies.room_for(update.len()).await else {
            return Err(RETRY_SOON);
        };

        let answer = self.ask(Recipient::Bot(bot), update.to_vec());
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(UpdateOutcome::Done)) => Ok(()),
            Ok(Ok(UpdateOutcome::Deferred(seconds))) => Err(seconds),
            Ok(Err(_)) | Err(_) => Err(RETRY_SOON),
        }
    }

    /// How many updates of a bot are in flight.
    pub(crate) fn in_flight(&self, bot: usize) -> usize {
        lock(&self.in_flight).get(&bot).copied().unwrap_or_default()
    }

    /// Waits for a worker, and for its answer. The probe gets the first worker that is free,
    /// however many updates wait.
    ///
    /// # Errors
    /// When the connection breaks. It is not used again.
    pub(crate) async fn ask(
        &self,
        recipient: Recipient,
        body: Vec<u8>,
    ) -> io::Result<UpdateOutcome> {
        let _counted = InFlightCount::new(&self.in_flight, recipient);
        // The semaphores are never closed; without a permit the request would go on all the same.
        // At the end `_worker` is dropped first, so that the next update finds a worker.
        let _turn = match recipient {
            Recipient::Bot(_) => self.updates.acquire().await.ok(),
            Recipient::Probe => None,
        };
        let _worker = self.workers.acquire().await;

        let connection = match self.idle_connection() {
            Some(idle) => idle,
            None => self.open().await?,
        };
        let bot = match recipient {
            Recipient::Bot(index) => index.to_string(),
            Recipient::Probe => NO_BOT.to_owned(),
        };
        let (connection, answer) = self.write(connection, &bot, body).await?;
        lock(&self.idle).push(connection);
        answer.await
    }

    fn idle_connection(&self) -> Option<Pipeline> {
        lock(&self.idle).pop()
    }

    async fn open(&self) -> io::Result<Pipeline> {
        let _alone = self.opening.lock().await;
        // Meanwhile another request may have opened one, and be done with it.
        if let Some(idle) = self.idle_connection() {
            return Ok(idle);
        }

        let opened = Pipeline::connect(&self.socket).await?;
        let (opened, answer) = self.write(opened, NO_BOT, Vec::new()).await?;
        // Any answer shows that tiny_http has a thread for this connection.
        answer.await?;
        Ok(opened)
    }

    /// Sends a request. Nothing of it is kept while its answer is awaited.
    async fn write(
        &self,
        connection: Pipeline,
        bot: &str,
        body: Vec<u8>,
    ) -> io::Result<(Pipeline, impl Future<Output = io::Result<UpdateOutcome>>)> {
        let (number, answer) = self.answers.register();
        let head = format!(
            "POST /{number}/{bot} HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );

        let mut request = body;
        request.splice(..0, head.into_bytes());
        let connection = connection.write(&request).await?;
        Ok((connection, answer))
    }
}

/// Counts an update as in flight for as long as this lives. The probe is not counted.
struct InFlightCount<'h> {
    counts: &'h Mutex<BTreeMap<usize, usize>>,
    bot: Option<usize>,
}

impl<'h> InFlightCount<'h> {
    fn new(counts: &'h Mutex<BTreeMap<usize, usize>>, recipient: Recipient) -> Self {
        let bot = match recipient {
            Recipient::Bot(index) => Some(index),
            Recipient::Probe => None,
        };
        if let Some(bot) = bot {
            *lock(counts).entry(bot).or_default() += 1;
        }
        Self { counts, bot }
    }
}

impl Drop for InFlightCount<'_> {
    fn drop(&mut self) {
        if let Some(bot) = self.bot
            && let Some(count) = lock(self.counts).get_mut(&bot)
        {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Lines};
    use std::net::Shutdown;
    use std::os::unix::net::{UnixListener, UnixStream as BlockingStream};
    use std::sync::mpsc;
    use std::thread;
    use tokio::runtime::{self, Runtime};
    use tokio::task::{JoinSet, yield_now};

    /// A handover for so many workers, and the listener that it connects to.
    fn handover(name: &str, workers: usize) -> (Arc<Handover>, UnixListener) {
        let socket = std::env::temp_dir().join(format!("pihook-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&socket).unwrap();
        (Arc::new(Handover::new(socket, workers)), listener)
    }

    fn runtime() -> Runtime {
        runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    fn accept(listener: &UnixListener) -> Lines<BufReader<BlockingStream>> {
        BufReader::new(listener.accept().unwrap().0).lines()
    }

    /// The requests of a new connection, without the first one, which only opens it.
    fn opened(listener: &UnixListener, answers: &Answers) -> Lines<BufReader<BlockingStream>> {
        let mut requests = accept(listener);
        answers.send(next(&mut requests).unwrap().0, UpdateOutcome::Done);
        requests
    }

    /// The number of the next request, and the bot that it is for.
    fn next(requests: &mut Lines<BufReader<BlockingStream>>) -> Option<(u64, String)> {
        let line = requests
            .map_while(Result::ok)
            .find(|line| line.starts_with("POST "))?;
        let (number, bot) = line.split(' ').nth(1)?.strip_prefix('/')?.split_once('/')?;
        Some((number.parse().ok()?, bot.to_owned()))
    }

    #[test]
    fn the_probe_waits_for_one_update_and_not_for_all() {
        let (handover, listener) = handover("turns", 1);
        let (begin, may_answer) = mpsc::channel();
        // One worker, on the one connection that there is for it.
        let answers = Arc::clone(&handover.answers);
        let worker = thread::spawn(move || {
            let mut requests = accept(&listener);
            let mut asked = Vec::new();
            while let Some((number, bot)) = next(&mut requests) {
                may_answer.recv().unwrap();
                answers.send(number, UpdateOutcome::Done);
                asked.push(bot);
            }
            asked
        });
        runtime().block_on(async {
            let mut all = JoinSet::new();
            for recipient in [[Recipient::Bot(0); 4].as_slice(), &[Recipient::Probe]].concat() {
                let handover = Arc::clone(&handover);
                all.spawn(async move { handover.ask(recipient, Vec::new()).await.unwrap() });
                yield_now().await;
            }
            // The first request only opens the connection.
            for _ in 0..6 {
                begin.send(()).unwrap();
            }
            all.join_all().await;
        });
        std::fs::remove_file(&handover.socket).unwrap();
        drop(handover);
        assert_eq!(worker.join().unwrap(), [NO_BOT, "0", NO_BOT, "0", "0", "0"]);
    }

    #[test]
    fn a_request_that_was_given_up_leaves_no_answer_to_the_next() {
        let (handover, listener) = handover("given-up", 1);
        let (taken, is_taken) = tokio::sync::oneshot::channel();
        let answers = Arc::clone(&handover.answers);
        let worker = thread::spawn(move || {
            let mut requests = opened(&listener, &answers);
            let late = next(&mut requests).unwrap().0;
            taken.send(()).unwrap();
            let number = next(&mut requests).unwrap().0;
            answers.send(late, UpdateOutcome::Deferred(1));
            answers.send(number, UpdateOutcome::Deferred(2));
        });
        let answer = runtime().block_on(async {
            tokio::select! {
                _ = handover.ask(Recipient::Bot(0), Vec::new()) => panic!("nobody answered"),
                _ = is_taken => {}
            }
            handover.ask(Recipient::Bot(0), Vec::new()).await.unwrap()
        });
        std::fs::remove_file(&handover.socket).unwrap();
        worker.join().unwrap();
        assert_eq!(answer, UpdateOutcome::Deferred(2));
    }

    #[test]
    fn a_request_that_was_given_up_half_written_ends_its_connection() {
        let (handover, listener) = handover("half", 1);
        let (taken, is_taken) = tokio::sync::oneshot::channel();
        let answers = Arc::clone(&handover.answers);
        let worker = thread::spawn(move || {
            let mut requests = opened(&listener, &answers);
            next(&mut requests).unwrap();
            taken.send(()).unwrap();
            let length: usize = requests.map_while(Result::ok).map(|line| line.len()).sum();
            answers.send(
                next(&mut opened(&listener, &answers)).unwrap().0,
                UpdateOutcome::Done,
            );
            length
        });
        // No socket has room for it.
        let body = vec![b'x'; 64 * 1024 * 1024];
        let length = body.len();
        runtime().block_on(async {
            tokio::select! {
                _ = handover.ask(Recipient::Bot(0), body) => panic!("nobody answered"),
                _ = is_taken => {}
            }
            assert_eq!(
                handover.ask(Recipient::Bot(0), Vec::new()).await.unwrap(),
                UpdateOutcome::Done
            );
        });
        std::fs::remove_file(&handover.socket).unwrap();
        assert!(worker.join().unwrap() < length);
    }

    #[test]
    fn requests_do_not_wait_for_each_other_and_share_a_connection() {
        let (handover, listener) = handover("shared", 3);
        let answers = Arc::clone(&handover.answers);
        let worker = thread::spawn(move || {
            let mut requests = opened(&listener, &answers);
            let numbers: Vec<_> = (0..3).map(|_| next(&mut requests).unwrap().0).collect();
            for (number, seconds) in numbers.into_iter().rev().zip(1..) {
                answers.send(number, UpdateOutcome::Deferred(seconds));
            }
        });
        let ask = || handover.ask(Recipient::Bot(0), Vec::new());
        let answered = runtime().block_on(async { tokio::join!(ask(), ask(), ask()) });
        std::fs::remove_file(&handover.socket).unwrap();
        worker.join().unwrap();
        let [first, second, third] = [answered.0, answered.1, answered.2].map(Result::unwrap);
        assert_eq!(
            [first, second, third],
            [
                UpdateOutcome::Deferred(3),
                UpdateOutcome::Deferred(2),
                UpdateOutcome::Deferred(1)
            ]
        );
    }

    #[test]
    fn a_connection_that_ended_is_not_used_again() {
        let (handover, listener) = handover("end", 1);
        let (has_ended, end) = tokio::sync::oneshot::channel();
        let answers = Arc::clone(&handover.answers);
        let worker = thread::spawn(move || {
            let (first, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(first.try_clone().unwrap()).lines();
            for _ in ["the handover's own", "the update's"] {
                let (number, _) = next(&mut requests).unwrap();
                answers.send(number, UpdateOutcome::Done);
            }
            // A child of another test can hold a copy of the descriptor for a moment: to close ours
            // would not end the connection.
            first.shutdown(Shutdown::Both).unwrap();
            has_ended.send(()).unwrap();
            answers.send(
                next(&mut opened(&listener, &answers)).unwrap().0,
                UpdateOutcome::Done,
            );
        });
        runtime().block_on(async {
            let ask = || handover.ask(Recipient::Bot(0), Vec::new());
            ask().await.unwrap();
            end.await.unwrap();
            assert_eq!(ask().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            ask().await.unwrap();
        });
        std::fs::remove_file(&handover.socket).unwrap();
        worker.join().unwrap();
    }
}
