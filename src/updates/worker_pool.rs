//! The worker threads: as many as are needed at once, and one more that waits for the next request.
//! A thread keeps the stack that it has ever used, 36 KiB: a home where few write at once needs
//! few.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tiny_http::Server;

use super::worker::Worker;
use crate::system::log_limit::LogLimit;

static NOT_STARTED: LogLimit = LogLimit::new(1);

/// The threads, and what they share.
pub(crate) struct WorkerPool {
    server: Server,
    worker: Worker,
    /// How many threads there may be, there are, and wait.
    limit: usize,
    started: AtomicUsize,
    waiting: AtomicUsize,
}

impl WorkerPool {
    /// Starts tiny_http on `listener`, and threads that serve it for as long as the program runs:
    /// `limit` at most.
    ///
    /// # Errors
    /// When the first thread cannot be started.
    pub(crate) fn start(listener: UnixListener, limit: usize, worker: Worker) -> io::Result<()> {
        let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
        let (started, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self {
            server,
            worker,
            limit,
            started,
            waiting,
        })
        .add()
    }

    /// Starts one more thread, unless there are enough.
    fn add(self: Arc<Self>) -> io::Result<()> {
        let more = |started| (started < self.limit).then_some(started + 1);
        let Ok(number) = self
            .started
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        else {
            return Ok(());
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let pool = Arc::clone(&self);
        let spawned = thread::Builder::new()
            .name(format!("worker {number}"))
            .spawn(move || pool.work());
        if spawned.is_err() {
            self.started.fetch_sub(1, Ordering::Relaxed);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        spawned.map(|_| ())
    }

    fn work(self: Arc<Self>) {
        // It ends only with an accept error, after which tiny_http takes no connection for ever.
        while let Ok(request) = self.server.recv() {
            if self.waiting.fetch_sub(1, Ordering::Relaxed) == 1
                && let Err(why) = Arc::clone(&self).add()
            {
                NOT_STARTED.warn(format_args!(
                    "Cannot start another worker thread: {why}. The bot answers fewer updates at once. Raise TasksMax in \
                     the systemd unit."
                ));
            }
            self.worker.serve(request);
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        log::error!(
            "The socket of the worker threads failed: pihook stops, and systemd restarts it."
        );
        std::process::exit(1);
    }
}
