//! The program while it runs: the parts that its threads share, and what starts each thread.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::runtime::{self, Runtime};
use tokio::sync::mpsc::UnboundedSender;

use super::capacity::Capacity;
use super::error::{RunError, system};
use super::event::Event;
use super::watchdog::Watchdog;
use crate::bot::Bot;
use crate::certificate::rollover::Rollover;
use crate::config::{BotSettings, Config, Delivery};
use crate::delivery::bot_thread::BotDelivery;
use crate::delivery::endpoint::Prepared;
use crate::delivery::look_turns::LookTurns;
use crate::delivery::monitor::Callbacks;
use crate::delivery::policy::Seen;
use crate::delivery::poller::{PollDeadline, PollSettings};
use crate::edge::accept::Edge;
use crate::edge::arrivals::Arrivals;
use crate::edge::auth::Route;
use crate::edge::connection::Shared;
use crate::edge::probe::{self, Probe};
use crate::edge::slots::Slots;
use crate::home::watch::{Hint, HomeNews, HomeWatch};
use crate::status::facts::Status;
use crate::system::runtime_dir;
use crate::telegram::cached_me::CachedMe;
use crate::telegram::client::{Api, Client};
use crate::updates::dedup::DedupWindow;
use crate::updates::deferred_calls::DeferredCalls;
use crate::updates::handover::{Handover, Recipient};
use crate::updates::in_flight::InFlight;
use crate::updates::observations::Observations;
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
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) handover: Arc<Handover>,
    /// Where the workers listen.
    pub(super) socket: PathBuf,
    /// The way to the supervisor.
    pub(super) events: UnboundedSender<Event>,
    pub(super) allowed_updates: &'static [&'static str],
    /// The watchdog's way in: nobody else knows it.
    pub(super) probe_route: Route,
    /// In the order of the settings.
    bots: Vec<BotParts>,
}

/// What the threads share of one bot.
struct BotParts {
    me: Arc<CachedMe>,
    observations: Arc<Observations>,
}

impl<'c> App<'c> {
    /// Makes the parts. No thread runs yet.
    ///
    /// # Errors
    /// What the machine refuses.
    pub(super) fn new(
        config: &'c Config,
        allowed_updates: &'static [&'static str],
        events: UnboundedSender<Event>,
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
        let bots = config.bots.iter().map(|bot| bot_parts(config, bot));

        Ok(Self {
            config,
            runtime,
            api,
            status: Arc::default(),
            arrivals: Arc::default(),
            handover: Arc::new(handover),
            socket,
            events,
            allowed_updates,
            probe_route,
            bots: bots.collect(),
            capacity,
        })
    }

    /// Starts the threads that have `bot` handle the updates.
    ///
    /// # Errors
    /// When their socket cannot be opened.
    pub(super) fn start_workers(&self, bot: Arc<dyn Bot>) -> Result<(), RunError> {
        let listener = runtime_dir::listen_at(&self.socket).map_err(system(format!(
            "Cannot open the socket {}",
            self.socket.display()
        )))?;
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
                observations: Arc::clone(&parts.observations),
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
        let events = self.events.clone();
        let tell = move |news| {
            let _ = events.send(match news {
                HomeNews::Moved(address) => Event::Moved(address),
                HomeNews::Shared(true) => Event::Seen(Seen::SharedAddress),
                HomeNews::Shared(false) => Event::Seen(Seen::OwnAddress),
                HomeNews::Changed => Event::Seen(Seen::Hint),
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
    ) -> Result<(Vec<BotDelivery>, Vec<Arc<PollDeadline>>), RunError> {
        let mut threads = Vec::new();
        let mut deadlines = Vec::new();
        let start = Instant::now();
        for (index, bot) in self.config.bots.iter().enumerate() {
            let deadline = Arc::new(PollDeadline::default());
            let settings = PollSettings {
                index,
                client: Client::new(self.api.clone(), bot.token.clone()),
                me: Arc::clone(&self.bots[index].me),
                allowed_updates: self.allowed_updates,
                max_in_flight: self.config.max_connections.into(),
                handover: Arc::clone(&self.handover),
                runtime: self.runtime.handle().clone(),
                status: Arc::clone(&self.status),
                deadline: Arc::clone(&deadline),
            };
            let callbacks = self.callbacks(index, rollover.cloned(), home);
            let interval = self.config.watch_interval;
            let turns = LookTurns::new(start, interval, index, self.config.bots.len());
            let thread = BotDelivery::start(settings, interval, turns, callbacks)
                .map_err(system(NO_THREAD))?;

            threads.push(thread);
            deadlines.push(deadline);
        }
        Ok((threads, deadlines))
    }

    fn callbacks(
        &self,
        bot: usize,
        rollover: Option<Arc<Rollover>>,
        home: Option<&HomeWatch>,
    ) -> Callbacks {
        let registered = self.events.clone();
        let set = self.events.clone();
        let seen = self.events.clone();
        let hints = home.map(HomeWatch::hints);
        let is_decided = self.config.delivery != Delivery::Auto;
        Callbacks {
            index: bot,
            status: Arc::clone(&self.status),
            arrivals: Arc::clone(&self.arrivals),
            observations: Arc::clone(&self.bots[bot].observations),
            setting: Box::new(move || {
                if let Some(rollover) = &rollover {
                    rollover.show_new();
                }
            }),
            registered: Box::new(move |digest| {
                let _ = registered.send(Event::Registered(digest.to_owned()));
            }),
            set: Box::new(move |arrived_before| {
                let _ = set.send(Event::Set {
                    bot,
                    arrived_before,
                });
            }),
            seen: Box::new(move |what| !is_decided && seen.send(Event::Seen(what)).is_ok()),
            unreachable: Box::new(move || {
                if let Some(hints) = &hints {
                    let _ = hints.send(Hint::CheckNow);
                }
            }),
        }
    }

    /// What serves the webhook.
    pub(super) fn edge(&self, rollover: Option<Arc<Rollover>>) -> Edge {
        let observations = self.bots.iter().map(|bot| Arc::clone(&bot.observations));
        Edge {
            allow_from: self.config.allow_from.clone(),
            known: self.config.known(),
            shared: Arc::new(Shared {
                routes: self.routes(),
                handover: Arc::clone(&self.handover),
                slots: Mutex::new(Slots::new(self.capacity.limits)),
                rollover,
                arrivals: Arc::clone(&self.arrivals),
                observations: observations.collect(),
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

fn bot_parts(config: &Config, bot: &BotSettings) -> BotParts {
    let id = bot.token.id();
    let note = config.state_dir.join(format!("me-{id}"));
    BotParts {
        me: Arc::new(CachedMe::load(note, id)),
        observations: Arc::default(),
    }
}

/// The file's window; without the file, one that ends with the process.
fn dedup_window(path: &Path) -> DedupWindow {
    DedupWindow::open(path).unwrap_or_else(|error| {
        log::info!(
            "Cannot keep the list of answered updates across a restart: {}: {error}.",
            path.display()
        );
        DedupWindow::in_memory()
    })
}
