//! Hands whole requests to tiny_http over kept Unix connections. The answers come back another way,
//! so that nothing is ever there to be read, and one connection carries the small requests of all.
//!
//! tiny_http's pool loses count of its idle threads when connections arrive at once, and then
//! leaves some without a thread. So they are opened one at a time, each only after the one before
//! was answered.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::timeout;

use super::answers::{Answer, Answers};
use super::body_budget::BodyBudget;
use super::pipeline::Pipeline;
use crate::system::lock::lock;

/// A worker's answer. The calls for one update end before it, and Telegram waits 60 s.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
/// Seconds after which an update that nobody answered goes to a worker again.
const RETRY_SOON: u64 = 1;
/// In a path, where an update's has its bot's place in the settings.
const NO_BOT: &str = "none";

/// The one that a request is for.
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
    /// Of updates, as many as can have a worker; the others wait for their turn here, where they
    /// are not in the probe's way.
    turns: Semaphore,
    workers: Semaphore,
    free: Mutex<Vec<Pipeline>>,
    opening: AsyncMutex<()>,
    /// By the bot's place in the settings.
    in_flight: Mutex<BTreeMap<usize, usize>>,
}

impl Handover {
    /// For the tiny_http that listens at `socket` and has so many workers.
    #[must_use]
    pub fn new(socket: PathBuf, workers: usize) -> Self {
        let [turns, workers] = [workers; 2].map(Semaphore::new);
        let (free, opening, in_flight) =
            (Mutex::default(), AsyncMutex::default(), Mutex::default());
        let (bodies, answers) = (BodyBudget::default(), Arc::default());
        Self {
            bodies,
            answers,
            socket,
            turns,
            workers,
            free,
            opening,
            in_flight,
        }
    }

    /// Has a bot's update dealt with that Telegram did not send here by itself.
    ///
    /// # Errors
    /// After how many seconds it is to be tried again.
    pub(crate) async fn deliver(&self, bot: usize, update: &[u8]) -> Result<(), u64> {
        let _room = self.bodies.room_for(update.len()).await.ok_or(RETRY_SOON)?;
        let asked = timeout(
            ANSWER_TIMEOUT,
            self.ask(Recipient::Bot(bot), update.to_vec()),
        )
        .await;
        match asked.ok().and_then(Result::ok).ok_or(RETRY_SOON)? {
            Answer::Done => Ok(()),
            Answer::Later(seconds) => Err(seconds),
        }
    }

    /// How many updates of a bot are being dealt with.
    pub(crate) fn in_flight(&self, bot: usize) -> usize {
        lock(&self.in_flight).get(&bot).copied().unwrap_or_default()
    }

    /// Has an update answered: waits for a worker, and for its answer. The probe gets the first
    /// worker that is free, however many updates wait.
    ///
    /// # Errors
    /// When the connection breaks. It is not used again.
    pub(crate) async fn ask(&self, recipient: Recipient, body: Vec<u8>) -> io::Result<Answer> {
        // The semaphores are never closed; if they were, nothing would be lost by going on. The
        // worker is given back first.
        let _counted = Counted::new(&self.in_flight, recipient);
        let (_turn, bot) = match recipient {
            Recipient::Bot(index) => (self.turns.acquire().await.ok(), index.to_string()),
            Recipient::Probe => (None, NO_BOT.to_owned()),
        };
        let _worker = self.workers.acquire().await;
        let connection = match self.free() {
            Some(free) => free,
            None => self.open().await?,
        };
        let (connection, answer) = self.write(connection, &bot, body).await?;
        lock(&self.free).push(connection);
        answer.await
    }

    /// A connection that no request is being written to.
    fn free(&self) -> Option<Pipeline> {
        lock(&self.free).pop()
    }

    async fn open(&self) -> io::Result<Pipeline> {
        let _alone = self.opening.lock().await;
        // The one that was opened meanwhile is enough, but for large requests.
        if let Some(free) = self.free() {
            return Ok(free);
        }
        let opened = Pipeline::connect(&self.socket).await?;
        let (opened, answer) = self.write(opened, NO_BOT, Vec::new()).await?;
        // Any answer shows that this connection has got a thread.
        answer.await?;
        Ok(opened)
    }

    /// Sends a request, and keeps nothing of it while its answer is awaited.
    async fn write(
        &self,
        connection: Pipeline,
        bot: &str,
        body: Vec<u8>,
    ) -> io::Result<(Pipeline, impl Future<Output = io::Result<Answer>>)> {
        let (number, answer) = self.answers.to_next();
        let head = format!(
            "POST /{number}/{bot} HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut request = body;
        request.splice(..0, head.into_bytes());
        Ok((connection.write(&request).await?, answer))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Lines};
    use std::os::unix::net::{UnixListener, UnixStream as BlockingStream};
    use std::sync::mpsc;
    use std::thread;
    use tokio::runtime::{self, Runtime};
    use tokio::task::{JoinSet, yield_now};

    /// A handover for so many workers, and the socket that it connects to.
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

    /// The requests of a connection, after the first one, which only opens it.
    fn opened(listener: &UnixListener, answers: &Answers) -> Lines<BufReader<BlockingStream>> {
        let mut requests = accept(listener);
        answers.give(next(&mut requests).unwrap().0, Answer::Done);
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
    fn the_probe_waits_for_one_answer_and_not_for_all_updates() {
        let (handover, listener) = handover("turns", 1);
        let (begin, may_answer) = mpsc::channel();
        // One worker, on the one connection that there is for it.
        let answers = Arc::clone(&handover.answers);
        let worker = thread::spawn(move || {
            let (mut requests, mut asked) = (accept(&listener), Vec::new());
            while let Some((number, bot)) = next(&mut requests) {
                may_answer.recv().unwrap();
                answers.give(number, Answer::Done);
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
            (0..6).for_each(|_| begin.send(()).unwrap());
            all.join_all().await;
        });
        std::fs::remove_file(&handover.socket).unwrap();
        drop(handover);
        assert_eq!(worker.join().unwrap(), [NO_BOT, "0", NO_BOT, "0", "0", "0"]);
    }

    #[test]
    fn who_gives_up_leaves_nothing_to_the_next() {
        let (handover, listener) = handover("given-up", 1);
        let (taken, is_taken) = tokio::sync::oneshot::channel();
        let answers = Arc::clone(&handover.answers);
        let worker = thread::spawn(move || {
            let mut requests = opened(&listener, &answers);
            let late = next(&mut requests).unwrap().0;
            taken.send(()).unwrap();
            let number = next(&mut requests).unwrap().0;
            answers.give(late, Answer::Later(1));
            answers.give(number, Answer::Later(2));
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
        assert_eq!(answer, Answer::Later(2));
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
            answers.give(
                next(&mut opened(&listener, &answers)).unwrap().0,
                Answer::Done,
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
                Answer::Done
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
            numbers
                .into_iter()
                .rev()
                .zip(1..)
                .for_each(|(number, seconds)| answers.give(number, Answer::Later(seconds)));
        });
        let ask = || handover.ask(Recipient::Bot(0), Vec::new());
        let answered = runtime().block_on(async { tokio::join!(ask(), ask(), ask()) });
        std::fs::remove_file(&handover.socket).unwrap();
        worker.join().unwrap();
        let [first, second, third] = [answered.0, answered.1, answered.2].map(Result::unwrap);
        assert_eq!(
            [first, second, third],
            [Answer::Later(3), Answer::Later(2), Answer::Later(1)]
        );
    }

    #[test]
    fn a_connection_that_ended_is_not_used_again() {
        let (handover, listener) = handover("end", 1);
        let (has_ended, end) = tokio::sync::oneshot::channel();
        let answers = Arc::clone(&handover.answers);
        let worker = thread::spawn(move || {
            // The connection ends with this line.
            answers.give(
                next(&mut opened(&listener, &answers)).unwrap().0,
                Answer::Done,
            );
            has_ended.send(()).unwrap();
            answers.give(
                next(&mut opened(&listener, &answers)).unwrap().0,
                Answer::Done,
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
