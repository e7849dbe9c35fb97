//! The watchdog's thread: asks the bot through its own listener, and tells systemd that it is well.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::delivery::poller::PollDeadline;
use crate::edge::probe::{PROBE_TIMEOUT, Probe};
use crate::status::facts::Status;
use crate::system::systemd;
use crate::updates::handover::{Handover, Recipient};

/// The watchdog's thread, and the parts that it asks.
pub(super) struct Watchdog {
    /// None where there is no webhook: then only a worker is asked.
    pub(super) probe: Option<Probe>,
    /// One for each bot: the time by which its poll must have returned.
    pub(super) deadlines: Vec<Arc<PollDeadline>>,
    pub(super) handover: Arc<Handover>,
    pub(super) runtime: Handle,
    pub(super) status: Arc<Status>,
}

impl Watchdog {
    /// Starts the thread, where there is a systemd to tell.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(self) -> io::Result<()> {
        let Some(timeout) = systemd::watchdog_timeout() else {
            return Ok(());
        };

        thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || self.watch(timeout))?;
        Ok(())
    }

    fn watch(&self, timeout: Duration) {
        // The first pauses are short: at the start, the status that systemd shows changes often.
        let mut pause = timeout.min(Duration::from_secs(4)) / 4;
        loop {
            if self.is_alive() {
                systemd::alive();
            } else {
                log::warn!(
                    "The watchdog found that the bot hangs: it did not answer pihook's test request, or getUpdates \
                     did not return. If this lasts, systemd restarts the bot."
                );
            }
            systemd::show(&*self.status);

            thread::sleep(pause);
            pause = (pause * 2).min(timeout / 4);
        }
    }

    /// Whether polls return, and the probe is answered.
    fn is_alive(&self) -> bool {
        let do_polls_return = self.deadlines.iter().all(|deadline| deadline.is_met());
        do_polls_return
            && match &self.probe {
                Some(probe) => probe.is_answered(),
                None => self.does_worker_answer(),
            }
    }

    fn does_worker_answer(&self) -> bool {
        let (answer, answered) = mpsc::channel();
        let handover = Arc::clone(&self.handover);
        self.runtime.spawn(async move {
            let is_answered = handover.ask(Recipient::Probe, Vec::new()).await.is_ok();
            let _ = answer.send(is_answered);
        });
        answered.recv_timeout(PROBE_TIMEOUT).unwrap_or_default()
    }
}
