//! One connection of a webhook's pool, from its opening to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::Cut;
use crate::client::{Connection, Error, Response};
use crate::delivery::Settings;
use crate::state::Shared;

/// A request to send.
pub(crate) struct Job {
    pub body: Arc<str>,
    pub cut: Option<Cut>,
}

/// What a line tells the pool: its number, and a response with the address that it came from, or the
/// error with which the line ended.
pub(crate) type Report = (u64, Result<(Response, SocketAddr), Error>);

pub(crate) struct Line {
    id: u64,
    shared: Arc<Shared>,
    token: String,
    settings: Arc<Settings>,
    jobs: mpsc::UnboundedReceiver<Job>,
    reports: mpsc::UnboundedSender<Report>,
    /// Telegram's only timer. Each request and each response restarts it, and nothing else does.
    deadline: Instant,
    /// The request that came first, perhaps before the connection was ready.
    job: Option<Job>,
}

impl Line {
    pub fn new(
        id: u64,
        shared: &Arc<Shared>,
        token: &str,
        settings: &Arc<Settings>,
        jobs: mpsc::UnboundedReceiver<Job>,
        reports: mpsc::UnboundedSender<Report>,
    ) -> Line {
        let deadline = Instant::now() + shared.options.scaled(60.0);
        Line {
            id,
            shared: Arc::clone(shared),
            token: token.to_owned(),
            settings: Arc::clone(settings),
            jobs,
            reports,
            deadline,
            job: None,
        }
    }

    pub async fn run(mut self) {
        let error = match self.work().await {
            Err(error) => error,
            Ok(()) => Error::Closed,
        };
        // The pool may have ended by now.
        let _ = self.reports.send((self.id, Err(error)));
    }

    /// Connects, and makes the TLS handshake, each in Telegram's time.
    async fn open(&mut self) -> Result<(Connection, SocketAddr), Error> {
        let address = self.address().await?;
        self.restart();

        // Until TCP is connected there are bytes unsent; after that an answer is missing, if one is
        // wanted. Where packets are dropped, the kernel gives up first.
        let shared = Arc::clone(&self.shared);
        let settings = Arc::clone(&self.settings);
        let late = |_| {
            let message = if settings.is_shut(&shared) {
                "Connection timed out"
            } else {
                "Write timeout expired"
            };
            Err(Error::Failed(message.into()))
        };
        let connect = async {
            until(&shared, || !settings.is_shut(&shared)).await;
            Connection::connect(address, shared.options.source).await
        };
        let tcp = self.in_time(connect, late).await?;

        let start = Connection::start(tcp, &settings.target.host, &settings.trust);
        let late = |is_wanted| {
            if is_wanted {
                Err(read_timeout())
            } else {
                Err(Error::Closed)
            }
        };
        let connection = self.in_time(start, late).await?;
        Ok((connection, address))
    }

    async fn work(&mut self) -> Result<(), Error> {
        let (mut connection, address) = self.open().await?;
        let _open = Counted::new(&self.shared, &self.token);
        loop {
            if self.job.is_none() {
                tokio::select! {
                    // The next request may follow a response at once. If the connection ends
                    // between the two, Telegram still writes the request.
                    biased;
                    job = self.jobs.recv() => self.job = job,
                    error = connection.ended() => return Err(error),
                    () = sleep_until(self.deadline) => {}
                }
                self.restart();
            }
            // None: the line was idle for too long, or the pool does not need it any more.
            let Some(job) = self.job.take() else {
                return Ok(());
            };

            let shared = Arc::clone(&self.shared);
            let settings = Arc::clone(&self.settings);
            let response = tokio::select! {
                // In a shut home nothing arrives, and no answer comes back.
                biased;
                () = until(&shared, || settings.is_shut(&shared)) => {
                    sleep_until(self.deadline).await;
                    return Err(read_timeout());
                }
                response = self.post(&mut connection, &job) => response?,
            };
            self.restart();
            if self
                .reports
                .send((self.id, Ok((response, address))))
                .is_err()
            {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn post(&self, connection: &mut Connection, job: &Job) -> Result<Response, Error> {
        let target = &self.settings.target;
        let body = job.body.as_bytes();
        let limit = match job.cut {
            None => {
                let response =
                    tokio::time::timeout_at(self.deadline, connection.post(target, body)).await;
                return match response {
                    Ok(response) => response,
                    Err(_) if connection.is_sending() => {
                        Err(Error::Failed("Write timeout expired".into()))
                    }
                    Err(_) => Err(read_timeout()),
                };
            }
            Some(Cut::Before) => return Err(Error::Closed),
            Some(Cut::RequestAt(bytes)) => bytes,
            Some(Cut::BeforeAnswer) => usize::MAX,
        };
        connection.send(target, body, limit).await?;
        Err(Error::Closed)
    }

    /// Where the internet has the webhook: waits until it has it at all.
    async fn address(&mut self) -> Result<SocketAddr, Error> {
        let target = self.settings.target.clone();
        let mut wakes = self.shared.wakes();
        loop {
            if let Some(address) = self.settings.address(&self.shared) {
                return Ok(address);
            }
            if self.shared.options.local {
                let host = self
                    .settings
                    .fixed_ip()
                    .map_or(target.host, |ip| ip.to_string());
                let mut found = tokio::net::lookup_host((host, target.port)).await?;
                return found
                    .find(SocketAddr::is_ipv4)
                    .ok_or(Error::Failed("Can't connect to the webhook".into()));
            }
            // The sender lives as long as `shared` does.
            let _ = wakes.changed().await;
        }
    }

    /// Waits for a step of the opening, and takes a request meanwhile.
    async fn in_time<T>(
        &mut self,
        step: impl Future<Output = Result<T, Error>>,
        late: impl FnOnce(bool) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut step = std::pin::pin!(step);
        loop {
            tokio::select! {
                result = &mut step => return result,
                job = self.jobs.recv(), if self.job.is_none() => match job {
                    Some(job) => { self.job = Some(job); self.restart(); }
                    None => return Err(Error::Closed),
                },
                () = sleep_until(self.deadline) => return late(self.job.is_some()),
            }
        }
    }

    fn restart(&mut self) {
        self.deadline = Instant::now() + self.shared.options.scaled(60.0);
    }
}

async fn until(shared: &Shared, condition: impl Fn() -> bool) {
    let mut wakes = shared.wakes();
    while !condition() {
        // The sender lives as long as `shared` does.
        let _ = wakes.changed().await;
    }
}

fn read_timeout() -> Error {
    Error::Failed("Read timeout expired".into())
}

/// Counts an open connection as long as it lives.
struct Counted {
    shared: Arc<Shared>,
    token: String,
}

impl Counted {
    fn new(shared: &Arc<Shared>, token: &str) -> Counted {
        shared.account(token, |account| account.connections += 1);
        Counted {
            shared: Arc::clone(shared),
            token: token.to_owned(),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared
            .account(&self.token, |account| account.connections -= 1);
    }
}
