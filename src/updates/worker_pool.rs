//! The worker threads: as many as were ever busy at once, and one more that waits for the next
//! request. They are started only when they are needed, because a thread keeps the stack that it
//! has ever used, 36 KiB.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tiny_http::Server;

use super::worker::Worker;
use crate::system::log_limit::LogLimit;

static NOT_STARTED: LogLimit = LogLimit::new(1);

/// What the threads share, and how many there are.
pub(crate) struct WorkerPool {
    server: Server,
    worker: Worker,
    /// Threads that there may be.
    limit: usize,
    /// Threads that there are.
    started: AtomicUsize,
    /// Of those, the ones that wait for a request.
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
        let pool = Arc::new(Self {
            server,
            worker,
            limit,
            started: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        });
        pool.start_thread()
    }

    /// Starts one more thread, unless there are as many as there may be.
    fn start_thread(self: Arc<Self>) -> io::Result<()> {
        let one_more = |started| (started < self.limit).then_some(started + 1);
        let counted = self
            .started
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        let Ok(number) = counted else {
            return Ok(());
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);

        let pool = Arc::clone(&self);
        let spawned = thread::Builder::new()
            .name(format!("worker {number}"))
            .spawn(move || pool.work());
        if let Err(error) = spawned {
            self.started.fetch_sub(1, Ordering::Relaxed);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(error);
        }
        Ok(())
    }

    fn work(self: Arc<Self>) {
        // Only an accept error ends this loop. After it tiny_http accepts no connection any more.
        while let Ok(request) = self.server.recv() {
            let was_last_waiting = self.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
            if was_last_waiting && let Err(error) = Arc::clone(&self).start_thread() {
                NOT_STARTED.warn(format_args!(
                    "Cannot start another worker thread: {error}. The bot answers fewer updates at once. Raise TasksMax in \
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
