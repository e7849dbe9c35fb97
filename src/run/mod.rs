//! The wiring of `pihook run`: binds, starts the workers and the registration, and serves until a
//! signal stops it.

mod capacity;
mod error;
mod listener;
mod parts;
mod supervisor;
mod watchdog;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use self::capacity::Capacity;
pub use self::error::RunError;
use self::error::system;
use self::listener::{address, listen};
use self::parts::SharedParts;
use self::supervisor::{Event, Supervised, serve};
use self::watchdog::Watchdog;
use crate::bot::Bot;
use crate::certificate::rollover::Rollover;
use crate::config::{BotSettings, Config, Delivery};
use crate::delivery::bot_thread::BotDelivery;
use crate::delivery::endpoint::{self, Identity, Prepared, Registrar};
use crate::delivery::manager::ChangeOver;
use crate::delivery::monitor::Callbacks;
use crate::delivery::policy::Seen;
use crate::delivery::poller::{PollDeadline, PollSettings};
use crate::edge::accept::Edge;
use crate::edge::auth::Route;
use crate::edge::connection::Shared;
use crate::edge::probe::{self, Probe};
use crate::edge::slots::{Limits, Slots};
use crate::home::watch::{Hint, HomeNews, HomeWatch};
use crate::status::facts::Status;
use crate::system::runtime_dir;
use crate::telegram::cached_me::KnownMe;
use crate::telegram::client::{Api, Client};
use crate::updates::dedup::DedupWindow;
use crate::updates::deferred_calls::DeferredCalls;
use crate::updates::handover::{Handover, Recipient};
use crate::updates::in_flight::InFlight;
use crate::updates::observations::Observations;
use crate::updates::panic;
use crate::updates::worker::{ServedBot, Worker};
use crate::updates::worker_pool::WorkerPool;

const NO_THREAD: &str = "Cannot start a thread";

/// Runs the bots of the settings until SIGTERM or SIGINT; `bot` handles the updates of all of them.
/// A panic of any thread ends the process from now on.
///
/// # Errors
/// What keeps it from starting, one sentence.
pub fn run(config: &Config, bot: Arc<dyn Bot>) -> Result<(), RunError> {
    panic::end_process_on_panic();
    make_own_folder(config)?;
    let listener = listen(config)?;
    let _lock = runtime_dir::lock(&config.runtime_dir)?;
    // The lock comes first: two instances must not both make a certificate.
    let prepared = listener
        .is_some()
        .then(|| endpoint::prepare(config))
        .transpose()?;
    let capacity = Capacity::of(config)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("Cannot start tokio"))?;
    let socket = config.runtime_dir.join(runtime_dir::SOCKET);
    let parts = SharedParts {
        api: Api::new(
            &config.api_url,
            config.proxy.as_ref(),
            capacity.workers + config.bots.len(),
        ),
        status: Arc::default(),
        arrivals: Arc::default(),
        handover: Arc::new(Handover::new(socket.clone(), capacity.workers)),
        observations: config.bots.iter().map(|_| Arc::default()).collect(),
        runtime: runtime.handle().clone(),
    };
    log_proxy(config);
    let allowed_updates = bot.allowed_updates();
    let known_mes: Vec<_> = config
        .bots
        .iter()
        .map(|bot| Arc::new(known_me(config, bot)))
        .collect();
    let served = served_bots(config, &parts.api, &known_mes, &parts.observations);
    start_workers(&socket, capacity.workers, bot, served, &parts)?;
    let probe_route = probe::route()
        .map_err(|_| RunError::System("The system returned no random numbers.".into()))?;

    let address = listener
        .as_ref()
        .map(|listener| address(listener, config))
        .transpose()?;
    let (sender, events) = unbounded_channel();
    let home = match (address, &prepared) {
        (Some(address), Some(prepared)) => {
            watch_home(config, address.port(), prepared, &parts.status, &sender)?
        }
        _ => None,
    };
    let rollover = prepared.as_ref().and_then(Prepared::rollover);
    let callbacks = |index| {
        callbacks(
            config,
            &parts,
            (index, rollover.clone()),
            &sender,
            home.as_ref(),
        )
    };
    let (bots, deadlines) =
        start_deliveries(config, &parts, allowed_updates, known_mes, callbacks)?;
    let registrar = Arc::new(Registrar {
        api: parts.api.clone(),
        allowed_updates,
        bots,
    });
    let identity = prepared.map(|prepared| {
        Identity::new(
            config,
            prepared,
            Arc::clone(&registrar),
            Arc::clone(&parts.status),
        )
    });
    let edge = edge(
        config,
        &parts,
        capacity.limits,
        routes(config, &probe_route),
        rollover,
    );
    let probe = address.map(|address| Probe::new(address, &probe_route, config.tls));
    Watchdog::new(&parts, probe, deadlines)
        .start()
        .map_err(system(NO_THREAD))?;
    let changeover = ChangeOver::begin(
        config,
        identity,
        &registrar,
        Arc::clone(&parts.status),
        Arc::clone(&parts.arrivals),
    );
    serve(
        &runtime,
        listener.map(|listener| (edge, listener)),
        &parts,
        Supervised {
            events,
            changeover,
            registrar,
        },
    )?;
    if let Some(home) = home {
        home.end();
    }
    let _ = fs::remove_file(socket);
    Ok(())
}

fn edge(
    config: &Config,
    parts: &SharedParts,
    limits: Limits,
    routes: Vec<Route>,
    rollover: Option<Arc<Rollover>>,
) -> Edge {
    Edge {
        allow_from: config.allow_from.clone(),
        known: config.known(),
        shared: Arc::new(Shared {
            routes,
            handover: Arc::clone(&parts.handover),
            slots: Mutex::new(Slots::new(limits)),
            rollover,
            arrivals: Arc::clone(&parts.arrivals),
            observations: parts.observations.clone(),
        }),
    }
}

fn log_proxy(config: &Config) {
    if let Some(proxy) = &config.proxy {
        log::info!("Calls to the Bot API go through the proxy {proxy}.");
    }
}

fn callbacks(
    config: &Config,
    shared: &SharedParts,
    (bot, rollover): (usize, Option<Arc<Rollover>>),
    sender: &UnboundedSender<Event>,
    watch: Option<&HomeWatch>,
) -> Callbacks {
    let (registered, seen, hints) = (sender.clone(), sender.clone(), watch.map(HomeWatch::hints));
    let is_decided = config.delivery != Delivery::Auto;
    Callbacks {
        status: Arc::clone(&shared.status),
        arrivals: Arc::clone(&shared.arrivals),
        observations: Arc::clone(&shared.observations[bot]),
        setting: Box::new(move || rollover.iter().for_each(|rollover| rollover.show_new())),
        registered: Box::new(move |digest| {
            let _ = registered.send(Event::Registered(digest.to_owned()));
        }),
        seen: Box::new(move |what| !is_decided && seen.send(Event::Seen(what)).is_ok()),
        unreachable: Box::new(move || {
            let _ = hints.as_ref().map(|hints| hints.send(Hint::CheckNow));
        }),
    }
}

fn watch_home(
    config: &Config,
    port: u16,
    prepared: &Prepared,
    status: &Arc<Status>,
    sender: &UnboundedSender<Event>,
) -> Result<Option<HomeWatch>, RunError> {
    let sender = sender.clone();
    let tell = move |news| {
        let _ = sender.send(match news {
            HomeNews::Moved(address) => Event::Moved(address),
            HomeNews::Shared(true) => Event::Seen(Seen::SharedAddress),
            HomeNews::Shared(false) => Event::Seen(Seen::OwnAddress),
            HomeNews::Changed => Event::Seen(Seen::Hint),
        });
    };
    HomeWatch::start(
        config,
        port,
        prepared.last_address(),
        Arc::clone(status),
        tell,
    )
    .map_err(system(NO_THREAD))
}

/// A thread for each bot, and when its poll must have returned.
fn start_deliveries(
    config: &Config,
    shared: &SharedParts,
    allowed_updates: &'static [&'static str],
    known_mes: Vec<Arc<KnownMe>>,
    callbacks: impl Fn(usize) -> Callbacks,
) -> Result<(Vec<BotDelivery>, Vec<Arc<PollDeadline>>), RunError> {
    let (mut bots, mut deadlines) = (Vec::new(), Vec::new());
    for ((index, bot), me) in config.bots.iter().enumerate().zip(known_mes) {
        let deadline = Arc::new(PollDeadline::default());
        deadlines.push(Arc::clone(&deadline));
        let settings = PollSettings {
            index,
            client: Client::new(shared.api.clone(), bot.token.clone()),
            me,
            allowed_updates,
            max_in_flight: config.max_connections.into(),
            handover: Arc::clone(&shared.handover),
            runtime: shared.runtime.clone(),
            status: Arc::clone(&shared.status),
            deadline,
        };
        bots.push(
            BotDelivery::start(settings, config.watch_interval, callbacks(index))
                .map_err(system(NO_THREAD))?,
        );
    }
    Ok((bots, deadlines))
}

/// A route for each bot, and the probe's.
fn routes(config: &Config, probe: &Route) -> Vec<Route> {
    let of_bot = |(index, bot): (usize, &BotSettings)| Route {
        recipient: Recipient::Bot(index),
        path: bot.path.clone(),
        secret_token: bot.token.secret_token(),
    };
    config
        .bots
        .iter()
        .enumerate()
        .map(of_bot)
        .chain([probe.clone()])
        .collect()
}

/// Makes the folder that all of ours lies in, for this user alone.
fn make_own_folder(config: &Config) -> Result<(), RunError> {
    let Some(folder) = &config.own_folder else {
        return Ok(());
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|why| {
        let advice = "Set XDG_STATE_HOME to a folder where this user can write, or write a settings file.";
        RunError::Config(format!("Cannot create the folder {}: {why}. {advice}", folder.display()))
    })
}

fn known_me(config: &Config, bot: &BotSettings) -> KnownMe {
    let id = bot.token.id();
    KnownMe::load(config.state_dir.join(format!("me-{id}")), id)
}

fn served_bots(
    config: &Config,
    api: &Api,
    known_mes: &[Arc<KnownMe>],
    observations: &[Arc<Observations>],
) -> Vec<ServedBot> {
    let served =
        config
            .bots
            .iter()
            .zip(known_mes)
            .zip(observations)
            .map(|((bot, me), observations)| ServedBot {
                client: Client::new(api.clone(), bot.token.clone()),
                me: Arc::clone(me),
                dedup: dedup_window(&config.runtime_dir.join(format!("once-{}", bot.token.id()))),
                deferred: DeferredCalls::default(),
                in_flight: InFlight::default(),
                observations: Arc::clone(observations),
            });
    served.collect()
}

fn start_workers(
    socket: &Path,
    workers: usize,
    bot: Arc<dyn Bot>,
    served: Vec<ServedBot>,
    shared: &SharedParts,
) -> Result<(), RunError> {
    let listener = runtime_dir::listen_at(socket).map_err(system(format!(
        "Cannot open the socket {}",
        socket.display()
    )))?;
    let (answers, status) = (
        Arc::clone(&shared.handover.answers),
        Arc::clone(&shared.status),
    );
    let worker = Worker::new(bot, served, answers, status, workers);
    WorkerPool::start(listener, workers, worker).map_err(system("Cannot start the workers"))
}

fn dedup_window(path: &Path) -> DedupWindow {
    DedupWindow::open(path).unwrap_or_else(|why| {
        log::info!(
            "Cannot keep the list of answered updates across a restart: {}: {why}.",
            path.display()
        );
        DedupWindow::in_memory()
    })
}
