//! One webhook: which update goes out when, on which connection, and what its answer means.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::client::{Error, Response, Target, Trust};
use crate::line::{Job, Line, Report};
use crate::state::{Shared, ask, date};
use crate::{methods, webhook};

/// One webhook request.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The bot: the number before the colon of its token.
    pub bot: i64,
    /// The update.
    pub update_id: i64,
    /// From 1, and again from 1 under a new webhook.
    pub attempt: u32,
    /// Which connection, in the order of their opening.
    pub connection: u64,
    /// How it was cut.
    pub cut: Option<Cut>,
    /// The status of the answer, when there is one.
    pub status: Option<u16>,
    /// The headers of the answer.
    pub headers: Vec<(String, String)>,
    /// When the request was handed to the connection.
    pub started: Instant,
    /// When it was answered or lost; `None` while it is on its way, and for ever if its webhook was
    /// replaced.
    pub ended: Option<Instant>,
    /// Why there was no answer; Telegram's user sees most of these texts.
    pub error: Option<String>,
}

impl Delivery {
    /// The update has arrived.
    pub fn succeeded(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }

    /// A header of the answer; its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn end(&mut self, now: Instant, result: &Result<(Response, SocketAddr), Error>) {
        self.ended = Some(now);
        match result {
            Ok((response, _)) => {
                let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                self.status = Some(response.code);
                self.headers = response.headers().map(owned).collect();
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }
}

/// How a webhook connection is cut. Telegram takes it for a loss and tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Before the request.
    Before,
    /// After this many bytes of the request.
    RequestAt(usize),
    /// After the whole request, without reading the answer.
    BeforeAnswer,
}

/// What one setWebhook call has set.
pub(crate) struct Settings {
    pub url: String,
    pub target: Target,
    pub trust: Trust,
    pub secret: String,
    pub max_connections: usize,
    /// Where the URL's host was when it was set, or what the call named.
    pub address: IpAddr,
    /// The call named the address.
    pub is_fixed: bool,
    pub certificate: bool,
}

impl Settings {
    /// The most queues that are loaded at once. When all of them are stuck, no other chat gets
    /// anything.
    pub fn max_queues(&self) -> usize {
        2 * self.max_connections
    }

    /// The address that the call named, which counts instead of the URL's host.
    pub fn fixed_ip(&self) -> Option<IpAddr> {
        self.is_fixed.then_some(self.address)
    }

    /// Whether no packet gets there.
    pub fn is_shut(&self, shared: &Shared) -> bool {
        let port = self.target.port;
        if let Some(ip) = self.fixed_ip()
            && shared.is_shut(&ip.to_string(), port)
        {
            return true;
        }
        shared.is_shut(&self.target.host, port)
    }

    /// Where the internet has this webhook now.
    pub fn address(&self, shared: &Shared) -> Option<SocketAddr> {
        let port = self.target.port;
        if let Some(ip) = self.fixed_ip()
            && let Some(address) = shared.route(&ip.to_string(), port)
        {
            return Some(address);
        }
        shared.route(&self.target.host, port)
    }
}

/// A webhook at work. Dropping it cuts its connections.
pub(crate) struct Webhook {
    pub settings: Arc<Settings>,
    task: AbortHandle,
}

impl Webhook {
    pub fn start(shared: &Arc<Shared>, token: &str, settings: Settings) -> Webhook {
        let settings = Arc::new(settings);
        let pool = Pool::new(shared, token, &settings);
        Webhook {
            settings,
            task: tokio::spawn(pool.run()).abort_handle(),
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// At most `burst` events at once, and one for each `step` in the long run.
struct Pace {
    step: Duration,
    burst: u32,
    full: Option<Instant>,
}

impl Pace {
    fn new(step: Duration, burst: u32) -> Pace {
        Pace {
            step,
            burst,
            full: None,
        }
    }

    /// When the next event may be.
    fn next(&self, now: Instant) -> Instant {
        let Some(full) = self.full else {
            return now;
        };
        match (full + self.step).checked_sub(self.step * self.burst) {
            Some(next) => next.max(now),
            None => now,
        }
    }

    fn count(&mut self, now: Instant) {
        let full = match self.full {
            Some(full) => full.max(now),
            None => now,
        };
        self.full = Some(full + self.step);
    }
}

/// Since when every answer is 410.
#[derive(Default)]
struct Gone(Option<Instant>);

impl Gone {
    /// One more answer: has there been nothing but 410 for longer than `patience`?
    fn is_for_good(&mut self, code: u16, now: Instant, patience: Duration) -> bool {
        self.0 = (code == 410).then(|| self.0.unwrap_or(now));
        self.0.is_some_and(|since| now > since + patience)
    }
}

struct Pool {
    shared: Arc<Shared>,
    token: String,
    settings: Arc<Settings>,
    lines: HashMap<u64, Open>,
    ready: VecDeque<u64>,
    tasks: JoinSet<()>,
    reports: (
        mpsc::UnboundedSender<Report>,
        mpsc::UnboundedReceiver<Report>,
    ),
    next_line: u64,
    last_success: Option<Instant>,
    cold: Pace,
    warm: Pace,
    gone: Gone,
}

/// What the pool knows of one line.
struct Open {
    jobs: mpsc::UnboundedSender<Job>,
    /// The queue whose update is on its way, and its place in the list of deliveries.
    busy: Option<(i64, usize)>,
}

impl Pool {
    fn new(shared: &Arc<Shared>, token: &str, settings: &Arc<Settings>) -> Pool {
        let options = &shared.options;
        Pool {
            shared: Arc::clone(shared),
            token: token.to_owned(),
            settings: Arc::clone(settings),
            lines: HashMap::new(),
            ready: VecDeque::new(),
            tasks: JoinSet::new(),
            reports: mpsc::unbounded_channel(),
            next_line: 1,
            last_success: None,
            cold: Pace::new(options.scaled(2.0), 1),
            warm: Pace::new(options.scaled(0.05), 10),
            gone: Gone::default(),
        }
    }

    async fn run(mut self) {
        let mut wakes = self.shared.wakes();
        // When the webhook is set, Telegram opens one connection at once, and sends nothing on it.
        self.open(Instant::now());
        // Telegram loads at its start, when its SSL context is there, and when the address is.
        for _ in
            0..1 + usize::from(self.settings.target.https) + usize::from(!self.settings.is_fixed)
        {
            self.load();
        }
        loop {
            let now = Instant::now();
            let next_open = self.grow(now);
            let next_send = self.send(now);
            let next = [next_open, next_send].into_iter().flatten().min();
            let next = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(report) = self.reports.1.recv() => {
                    let is_lost = report.1.is_err();
                    self.handle(report);
                    self.load();
                    // Telegram loads twice after a lost connection.
                    if is_lost {
                        self.load();
                    }
                }
                // A new update is loaded by the code that queued it.
                _ = wakes.changed() => {}
                () = next => self.load(),
            }
        }
    }

    /// One turn of loading. How often it comes decides how long a chat waits behind a flood.
    fn load(&self) {
        let limit = self.settings.max_queues();
        self.shared.look(&self.token, |account| {
            account.queues.load(limit, Instant::now())
        });
    }

    /// Opens the connections that are needed. Returns when the next one may be opened, if more are
    /// needed.
    fn grow(&mut self, now: Instant) -> Option<Instant> {
        let loaded = self
            .shared
            .look(&self.token, |account| account.queues.loaded());
        let wanted = loaded.min(self.settings.max_connections);
        let wanted = if self.is_warm(now) {
            wanted.max(1)
        } else {
            wanted.min(1)
        };
        while self.lines.len() < wanted {
            let next = self.pace(now).next(now);
            if next > now {
                return Some(next);
            }
            self.open(now);
        }
        None
    }

    /// An update was delivered just now.
    fn is_warm(&self, now: Instant) -> bool {
        let window = self.shared.options.scaled(10.0);
        self.last_success.is_some_and(|last| now < last + window)
    }

    /// How fast connections may be opened now.
    fn pace(&mut self, now: Instant) -> &mut Pace {
        if self.is_warm(now) {
            &mut self.warm
        } else {
            &mut self.cold
        }
    }

    fn open(&mut self, now: Instant) {
        self.pace(now).count(now);
        let id = self.next_line;
        self.next_line += 1;
        let (jobs, queue) = mpsc::unbounded_channel();
        let line = Line::new(
            id,
            &self.shared,
            &self.token,
            &self.settings,
            queue,
            self.reports.0.clone(),
        );
        self.tasks.spawn(line.run());
        self.lines.insert(id, Open { jobs, busy: None });
        // A connection that is not open yet already gets a request.
        self.ready.push_back(id);
        while self.tasks.try_join_next().is_some() {}
    }

    /// Hands due updates to connections that are ready. Returns when the next update is due, if a
    /// connection is left.
    fn send(&mut self, now: Instant) -> Option<Instant> {
        while let Some(&line) = self.ready.front() {
            if !self.settings.target.fits() {
                return None;
            }
            let begun = self.shared.account(&self.token, |account| {
                let (update, attempt) = account.queues.start_next(now)?;
                let delivery = Delivery {
                    bot: account.id,
                    update_id: update.id,
                    attempt,
                    connection: line,
                    cut: None,
                    status: None,
                    headers: Vec::new(),
                    started: now,
                    ended: None,
                    error: None,
                };
                account.deliveries.push(delivery.clone());
                Some((update, account.deliveries.len() - 1, delivery))
            });
            let Some((update, place, delivery)) = begun else {
                break;
            };
            self.ready.pop_front();
            let cut = ask(&self.shared.on_delivery, &delivery);
            self.shared
                .look(&self.token, |account| account.deliveries[place].cut = cut);
            if let Some(open) = self.lines.get_mut(&line) {
                open.busy = Some((update.queue, place));
                // This fails when the line has just ended. Its report is on the way, and returns
                // the update to the queue.
                let _ = open.jobs.send(Job {
                    body: update.body,
                    cut,
                });
            }
        }
        if self.ready.is_empty() {
            None
        } else {
            self.shared
                .look(&self.token, |account| account.queues.next_due())
        }
    }

    fn handle(&mut self, report: Report) {
        let (id, result) = report;
        let Some(open) = self.lines.get_mut(&id) else {
            return;
        };
        let busy = open.busy.take();
        let is_over = match &result {
            Ok((response, _)) if response.close => true,
            Ok((_, address)) => {
                let route = self.settings.address(&self.shared);
                route.is_some_and(|route| route != *address)
            }
            Err(_) => true,
        };
        if is_over {
            self.lines.remove(&id);
            self.ready.retain(|ready| *ready != id);
        } else {
            self.ready.push_back(id);
        }
        let complaint = match &result {
            Ok((response, _)) if response.is_success() => None,
            Ok((response, _)) => Some(format!(
                "Wrong response from the webhook: {} {}",
                response.code, response.reason
            )),
            Err(Error::Failed(message)) => Some(message.clone()),
            Err(error @ Error::NoVerdict(_)) => {
                eprintln!("{error}");
                Some(error.to_string())
            }
            Err(Error::Closed) => None,
        };
        // In one step: no test sees an update that is delivered and still pending.
        let now = Instant::now();
        self.shared.account(&self.token, |account| {
            if let Some(message) = complaint {
                account.last_error = Some((date(), message));
            }
            let Some((queue, place)) = busy else { return };
            account.deliveries[place].end(now, &result);
            match &result {
                Ok((response, _)) if response.is_success() => account.queues.delivered(queue),
                _ => {
                    let retry_after = match &result {
                        Ok((response, _)) => response.retry_after(),
                        Err(_) => 0,
                    };
                    let speed = self.shared.options.speed;
                    account.queues.failed(queue, retry_after, speed, now);
                }
            }
        });
        if let (Some(_), Ok((response, _))) = (busy, result) {
            self.answered(&response, now);
        }
    }

    /// Applies an answer to the webhook itself, not to its update.
    fn answered(&mut self, response: &Response, now: Instant) {
        if response.is_success() {
            self.last_success = Some(now);
            methods::call_in_response(&self.shared, &self.token, response);
        }
        let patience = self.shared.options.scaled(23.0 * 3600.0);
        if self.gone.is_for_good(response.code, now, patience) {
            self.shared.account(&self.token, webhook::remove);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_that_answers_410_alone_for_long_is_deleted() {
        let start = Instant::now();
        let mut gone = Gone::default();
        let mut after = |seconds: u64, code: u16| {
            let now = start + Duration::from_secs(seconds);
            gone.is_for_good(code, now, Duration::from_secs(10))
        };
        assert!(!after(0, 410));
        assert!(!after(9, 410));
        assert!(!after(10, 500));
        assert!(!after(11, 410));
        assert!(!after(21, 410));
        assert!(after(22, 410));
    }

    #[test]
    fn a_pace_has_a_burst_and_then_a_step() {
        let start = Instant::now();
        let step = Duration::from_secs(1);
        let mut pace = Pace::new(step, 3);
        for _ in 0..3 {
            assert_eq!(pace.next(start), start);
            pace.count(start);
        }
        assert_eq!(pace.next(start), start + step);
        assert_eq!(pace.next(start + 5 * step), start + 5 * step);
    }
}
