//! The program while it runs: the parts that its threads share, and the methods that start the
//! threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::runtime::{self, Runtime};
use tokio::sync::mpsc::UnboundedSender;

use super::capacity::Capacity;
use super::error::{RunError, system};
use super::watchdog::Watchdog;
use crate::bot::Bot;
use crate::certificate::rollover::Rollover;
use crate::config::{BotSettings, Config, Delivery};
use crate::delivery::bot_links::BotLinks;
use crate::delivery::bot_thread::BotThread;
use crate::delivery::bot_threads::BotThreads;
use crate::delivery::endpoint::Prepared;
use crate::delivery::look_turns::LookTurns;
use crate::delivery::manager_message::ManagerMessage;
use crate::delivery::policy::Event;
use crate::delivery::poller::{PollDeadline, PollSettings};
use crate::edge::accept::Edge;
use crate::edge::auth::Route;
use crate::edge::connection::Shared;
use crate::edge::probe::{self, Probe};
use crate::edge::reach::Reach;
use crate::edge::slots::Slots;
use crate::home::watch::{HomeNews, HomeWatch};
use crate::status::facts::Status;
use crate::system::runtime_dir;
use crate::telegram::cached_me::CachedMe;
use crate::telegram::client::{Api, Client};
use crate::updates::dedup::DedupWindow;
use crate::updates::deferred_calls::DeferredCalls;
use crate::updates::handover::{Handover, Recipient};
use crate::updates::in_flight::InFlight;
use crate::updates::webhook_signals::WebhookSignals;
use crate::updates::worker::{ServedBot, Worker};
use crate::updates::worker_pool::WorkerPool;

const NO_THREAD: &str = "Cannot start a thread";

/// What the threads share.
pub(super) struct App<'c> {
    pub(super) config: &'c Config,
    pub(super) capacity: Capacity,
    pub(super) runtime: Runtime,
    pub(super) api: Api,
    pub(super) status: Arc<Status>,
    pub(super) reach: Arc<Reach>,
    pub(super) handover: Arc<Handover>,
    /// Where the workers listen.
    pub(super) socket: PathBuf,
    /// The way to the manager of the delivery.
    pub(super) manager: UnboundedSender<ManagerMessage>,
    pub(super) allowed_updates: &'static [&'static str],
    /// The path and secret of the watchdog's test requests; nobody else knows them.
    pub(super) probe_route: Route,
    /// In the order of the settings.
    bots: Vec<BotParts>,
}

/// What the threads share of one bot.
struct BotParts {
    me: Arc<CachedMe>,
    signals: Arc<WebhookSignals>,
}

impl<'c> App<'c> {
    /// Makes the parts. `manager` is the way to the manager of the delivery. No thread runs yet.
    ///
    /// # Errors
    /// What the machine refuses.
    pub(super) fn new(
        config: &'c Config,
        allowed_updates: &'static [&'static str],
        manager: UnboundedSender<ManagerMessage>,
    ) -> Result<Self, RunError> {
        let capacity = Capacity::of(config)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("Cannot start tokio"))?;
        let probe_route = probe::route()
            .map_err(|_| RunError::System("The system returned no random numbers.".into()))?;

        let connections = capacity.workers + config.bots.len();
        let api = Api::new(&config.api_url, config.proxy.as_ref(), connections);
        let socket = config.runtime_dir.join(runtime_dir::SOCKET);
        let handover = Handover::new(socket.clone(), capacity.workers);
        let mut bots = Vec::new();
        for bot in &config.bots {
            bots.push(BotParts::new(config, bot));
        }

        Ok(Self {
            config,
            runtime,
            api,
            status: Arc::default(),
            reach: Arc::default(),
            handover: Arc::new(handover),
            socket,
            manager,
            allowed_updates,
            probe_route,
            bots,
            capacity,
        })
    }

    /// Starts the threads that have `bot` handle the updates.
    ///
    /// # Errors
    /// When their socket cannot be opened.
    pub(super) fn start_workers(&self, bot: Arc<dyn Bot>) -> Result<(), RunError> {
        let no_socket = format!("Cannot open the socket {}", self.socket.display());
        let listener = runtime_dir::listen_at(&self.socket).map_err(system(no_socket))?;
        let workers = self.capacity.workers;
        let answers = Arc::clone(&self.handover.answers);
        let worker = Worker::new(
            bot,
            self.served_bots(),
            answers,
            Arc::clone(&self.status),
            workers,
        );
        WorkerPool::start(listener, workers, worker).map_err(system("Cannot start the workers"))
    }

    fn served_bots(&self) -> Vec<ServedBot> {
        let mut served = Vec::new();
        for (settings, parts) in self.config.bots.iter().zip(&self.bots) {
            let dedup_file = format!("once-{}", settings.token.id());
            served.push(ServedBot {
                client: Client::new(self.api.clone(), settings.token.clone()),
                me: Arc::clone(&parts.me),
                dedup: dedup_window(&self.config.runtime_dir.join(dedup_file)),
                deferred: DeferredCalls::default(),
                in_flight: InFlight::default(),
                signals: Arc::clone(&parts.signals),
            });
        }
        served
    }

    /// Starts the thread that watches the home's address and router, where one is needed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn watch_home(
        &self,
        port: u16,
        prepared: &Prepared,
    ) -> Result<Option<HomeWatch>, RunError> {
        let manager = self.manager.clone();
        let tell = move |news| {
            let _ = manager.send(match news {
                HomeNews::Moved(address) => ManagerMessage::Moved(address),
                HomeNews::Shared(true) => ManagerMessage::Event(Event::SharedAddress),
                HomeNews::Shared(false) => ManagerMessage::Event(Event::OwnAddress),
                HomeNews::Changed => ManagerMessage::Event(Event::Hint),
            });
        };
        let status = Arc::clone(&self.status);
        HomeWatch::start(self.config, port, prepared.last_address(), status, tell)
            .map_err(system(NO_THREAD))
    }

    /// Starts a thread for each bot. Each has a deadline by which its poll must have returned.
    ///
    /// # Errors
    /// When one cannot be started.
    pub(super) fn start_bot_threads(
        &self,
        rollover: Option<&Arc<Rollover>>,
        home: Option<&HomeWatch>,
    ) -> Result<(BotThreads, Vec<Arc<PollDeadline>>), RunError> {
        let mut threads = Vec::new();
        let mut deadlines = Vec::new();
        let start = Instant::now();
        let interval = self.config.watch_interval;
        let bots = self.config.bots.len();
        for index in 0..bots {
            let settings = self.poll_settings(index);
            deadlines.push(Arc::clone(&settings.deadline));

            let turns = LookTurns::new(start, interval, index, bots);
            let links = self.links(index, rollover.cloned(), home);
            let thread = BotThread::start(settings, interval, turns, links);
            threads.push(thread.map_err(system(NO_THREAD))?);
        }
        Ok((BotThreads::new(threads), deadlines))
    }

    fn poll_settings(&self, bot: usize) -> PollSettings {
        PollSettings {
            index: bot,
            client: Client::new(self.api.clone(), self.config.bots[bot].token.clone()),
            me: Arc::clone(&self.bots[bot].me),
            allowed_updates: self.allowed_updates,
            max_in_flight: self.config.max_connections.into(),
            handover: Arc::clone(&self.handover),
            runtime: self.runtime.handle().clone(),
            status: Arc::clone(&self.status),
            deadline: Arc::default(),
        }
    }

    fn links(
        &self,
        bot: usize,
        rollover: Option<Arc<Rollover>>,
        home: Option<&HomeWatch>,
    ) -> BotLinks {
        BotLinks {
            index: bot,
            status: Arc::clone(&self.status),
            reach: Arc::clone(&self.reach),
            signals: Arc::clone(&self.bots[bot].signals),
            rollover,
            manager: self.manager.clone(),
            home: home.map(HomeWatch::hints),
            is_decided: self.config.delivery != Delivery::Auto,
        }
    }

    /// The edge, which serves the webhook of all bots.
    pub(super) fn edge(&self, rollover: Option<Arc<Rollover>>) -> Edge {
        let signals = self.bots.iter().map(|bot| Arc::clone(&bot.signals));
        Edge {
            allow_from: self.config.allow_from.clone(),
            known: self.config.known(),
            shared: Arc::new(Shared {
                routes: self.routes(),
                handover: Arc::clone(&self.handover),
                slots: Mutex::new(Slots::new(self.capacity.limits)),
                rollover,
                reach: Arc::clone(&self.reach),
                signals: signals.collect(),
            }),
        }
    }

    /// A route for each bot, and the probe's.
    fn routes(&self) -> Vec<Route> {
        let mut routes = vec![self.probe_route.clone()];
        for (index, bot) in self.config.bots.iter().enumerate() {
            routes.push(Route {
                recipient: Recipient::Bot(index),
                path: bot.path.clone(),
                secret_token: bot.token.secret_token(),
            });
        }
        routes
    }

    /// Starts the watchdog, which asks through the webhook of `probe`, if there is one.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub(super) fn start_watchdog(
        &self,
        probe: Option<Probe>,
        deadlines: Vec<Arc<PollDeadline>>,
    ) -> Result<(), RunError> {
        let watchdog = Watchdog {
            probe,
            deadlines,
            handover: Arc::clone(&self.handover),
            runtime: self.runtime.handle().clone(),
            status: Arc::clone(&self.status),
        };
        watchdog.start().map_err(system(NO_THREAD))
    }
}

impl BotParts {
    fn new(config: &Config, bot: &BotSettings) -> Self {
        let id = bot.token.id();
        let note = config.state_dir.join(format!("me-{id}"));
        Self {
            me: Arc::new(CachedMe::load(note, id)),
            signals: Arc::default(),
        }
    }
}

/// The dedup window in this file; where the file cannot be used, one that ends with the process.
fn dedup_window(path: &Path) -> DedupWindow {
    match DedupWindow::open(path) {
        Ok(window) => window,
        Err(error) => {
            log::info!(
                "Cannot keep the list of answered updates across a restart: {}: {error}.",
                path.display()
            );
            DedupWindow::in_memory()
        }
    }
}
