//! The wiring of `pihook run`: binds, starts the workers and the registration, and serves until a signal stops it.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tokio::runtime::{self, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, sleep_until, timeout};

use crate::bot::Bot;
use crate::certificate::CertificateError;
use crate::certificate::rollover::Rollover;
use crate::config::{BotSettings, Config, Delivery, PLAIN_NEEDS_PRIVATE};
use crate::delivery::bot_delivery::BotDelivery;
use crate::delivery::changeover::ChangeOver;
use crate::delivery::identity::{self, Identity, Prepared, Registrar};
use crate::delivery::keeper::Callbacks;
use crate::delivery::poller::{PollDeadline, PollSettings};
use crate::delivery::switch::Seen;
use crate::home::watch::{Hint, HomeNews, HomeWatch};
use crate::network;
use crate::system::runtime_dir::{self, RuntimeDirError};
use crate::system::status::Status;
use crate::system::{port, process, systemd};
use crate::telegram::client::{Api, Client};
use crate::telegram::known_me::KnownMe;
use crate::webhook::arrivals::Arrivals;
use crate::webhook::auth::{Recipient, Route};
use crate::webhook::connection::Shared;
use crate::webhook::dedup::DedupWindow;
use crate::webhook::edge::Edge;
use crate::webhook::handover::Handover;
use crate::webhook::in_flight::InFlight;
use crate::webhook::observations::Observations;
use crate::webhook::panic;
use crate::webhook::postponed::PostponedCalls;
use crate::webhook::probe::{self, PROBE_TIMEOUT, Probe};
use crate::webhook::slots::{Limits, Slots, WAITING};
use crate::webhook::worker::{self, ServedBot};

/// The workers' socket, in the folder of what need not outlive a reboot.
pub(crate) const SOCKET: &str = "workers.sock";
/// Connections beyond those that Telegram may open: for its change-over to a new webhook.
const CHANGE_OVER_CONNECTIONS: usize = 64;
/// Connections of peers that only `0.0.0.0/0` names, and that have not shown path and secret.
const STRANGER_CONNECTIONS: usize = 64;
/// Of those, connections from one address.
const CONNECTIONS_OF_STRANGER: usize = 16;
/// Open files of a worker: both ends of its Unix connection, one of them twice, and its connection to the Bot API.
const FILES_OF_WORKER: usize = 4;
/// Open files beside those.
const OTHER_FILES: usize = 32;
/// Threads, however many bots there are.
const MAX_WORKERS: usize = 100;
/// For what is in flight when a signal stops us.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Where there is no certificate.
const NOTHING_TO_RENEW: Duration = Duration::from_secs(86400);

const NO_THREAD: &str = "Cannot start a thread";

/// Why the bot cannot run.
#[derive(Debug)]
pub enum RunError {
    /// The settings must be changed first.
    Config(String),
    /// The machine refuses something.
    System(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) | Self::System(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for RunError {}

impl From<CertificateError> for RunError {
    fn from(error: CertificateError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<RuntimeDirError> for RunError {
    fn from(error: RuntimeDirError) -> Self {
        match error {
            RuntimeDirError::Shared(_) => Self::Config(error.to_string()),
            RuntimeDirError::Folder(..) | RuntimeDirError::Taken(_) => Self::System(error.to_string()),
        }
    }
}

fn system(what: impl fmt::Display) -> impl FnOnce(io::Error) -> RunError {
    move |why| RunError::System(format!("{what}: {why}."))
}

/// Runs the bots of the settings until SIGTERM or SIGINT; `bot` handles the updates of all of them. A panic of any thread ends
/// the process from now on.
///
/// # Errors
/// What keeps it from starting, one sentence.
pub fn run(config: &Config, bot: Arc<dyn Bot>) -> Result<(), RunError> {
    panic::end_process_on_panic();
    make_own_folder(config)?;
    let listener = listen(config)?;
    let _lock = runtime_dir::lock(&config.runtime_dir)?;
    // The lock comes first: two instances must not both make a certificate.
    let prepared = listener.is_some().then(|| identity::prepare(config)).transpose()?;
    let capacity = Capacity::of(config)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("Cannot start the async runtime"))?;
    let socket = config.runtime_dir.join(SOCKET);
    let parts = SharedParts {
        api: Api::new(&config.api_url, config.proxy.as_ref(), capacity.workers + config.bots.len()),
        status: Arc::default(),
        arrivals: Arc::default(),
        handover: Arc::new(Handover::new(socket.clone(), capacity.workers)),
        observations: config.bots.iter().map(|_| Arc::default()).collect(),
        runtime: runtime.handle().clone(),
    };
    log_proxy(config);
    let allowed_updates = bot.allowed_updates();
    let known_mes: Vec<_> = config.bots.iter().map(|bot| Arc::new(known_me(config, bot))).collect();
    let served = served_bots(config, &parts.api, &known_mes, &parts.observations);
    start_workers(&socket, capacity.workers, bot, served, &parts)?;
    let probe_route = probe::route().map_err(|_| {
        RunError::System("The operating system returned no random numbers. Restart the machine.".into())
    })?;

    let address = listener.as_ref().map(|listener| address(listener, config)).transpose()?;
    let (sender, events) = unbounded_channel();
    let home = match (address, &prepared) {
        (Some(address), Some(prepared)) => watch_home(config, address.port(), prepared, &parts.status, &sender)?,
        _ => None,
    };
    let rollover = prepared.as_ref().and_then(Prepared::rollover);
    let callbacks = |index| callbacks(config, &parts, (index, rollover.clone()), &sender, home.as_ref());
    let (bots, deadlines) = start_deliveries(config, &parts, allowed_updates, known_mes, callbacks)?;
    let registrar = Arc::new(Registrar { api: parts.api.clone(), allowed_updates, bots });
    let identity =
        prepared.map(|prepared| Identity::new(config, prepared, Arc::clone(&registrar), Arc::clone(&parts.status)));
    let edge = edge(config, &parts, capacity.limits, routes(config, &probe_route), rollover);
    watch_over(&parts, address.map(|address| Probe::new(address, &probe_route, config.tls)), deadlines)?;
    let changeover =
        ChangeOver::begin(config, identity, &registrar, Arc::clone(&parts.status), Arc::clone(&parts.arrivals));
    serve(&runtime, listener.map(|listener| (edge, listener)), &parts, Supervised { events, changeover, registrar })?;
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

/// What the parts of the program share.
struct SharedParts {
    api: Api,
    status: Arc<Status>,
    arrivals: Arc<Arrivals>,
    handover: Arc<Handover>,
    /// Each bot's, by its place in the settings.
    observations: Vec<Arc<Observations>>,
    runtime: Handle,
}

/// The listener of systemd's socket unit, or one of our own; none where the bots only poll.
fn listen(config: &Config) -> Result<Option<TcpListener>, RunError> {
    let given = systemd::listener().map_err(system("Cannot use the socket from systemd"))?;
    if config.delivery == Delivery::Polling {
        if given.is_some() {
            log::warn!(
                "The bots use polling, but systemd keeps a port open. Close the port: sudo systemctl disable --now pihook.socket"
            );
        }
        return Ok(None);
    }
    let own = || TcpListener::bind(config.listen).map_err(|why| not_bound(config.listen, &why));
    given.map_or_else(own, Ok).map(Some)
}

fn log_proxy(config: &Config) {
    if let Some(proxy) = &config.proxy {
        log::info!("Calls to the Bot API go through the proxy {proxy}.");
    }
}

/// Why the bot cannot listen there, and what to do.
fn not_bound(listen: SocketAddr, why: &io::Error) -> RunError {
    let port = listen.port();
    let advice = match why.kind() {
        io::ErrorKind::AddrInUse => {
            let owners = port::owners(port);
            let by = if owners.is_empty() {
                "A program of another user (run `sudo ss -ltnp` to see it)".into()
            } else {
                owners.join(" and ")
            };
            format!("{by} uses the port. Stop that program, or set another port in `listen`.")
        }
        io::ErrorKind::PermissionDenied => format!(
            "Only root can use ports below 1024. Set listen = \"0.0.0.0:8443\", and let the router forward port {port} to 8443."
        ),
        io::ErrorKind::AddrNotAvailable => {
            "This machine does not have the address. Set listen = \"0.0.0.0:8443\".".into()
        }
        _ => return system(format!("Cannot listen on {listen}"))(io::Error::new(why.kind(), why.to_string())),
    };
    RunError::System(format!("Cannot listen on {listen}: {why}. {advice}"))
}

fn address(listener: &TcpListener, config: &Config) -> Result<SocketAddr, RunError> {
    let address = listener.local_addr().map_err(system("Cannot use the listening socket"))?;
    if !config.tls && !network::is_private(address.ip()) {
        return Err(RunError::Config(format!(
            "systemd listens on {address}, but the address {PLAIN_NEEDS_PRIVATE}. Set ListenStream=127.0.0.1:{} in pihook.socket.",
            address.port()
        )));
    }
    // Only a socket of systemd's can have another; 0 is any.
    if ![0, address.port()].contains(&config.listen.port()) {
        log::warn!(
            "systemd listens on port {}, so `listen` has no effect. Set ListenStream= in pihook.socket instead.",
            address.port()
        );
    }
    Ok(address)
}

/// A message of a thread to the supervisor.
enum Event {
    /// The home has another address.
    Moved(Ipv4Addr),
    /// Telegram has the registration of this digest.
    Registered(String),
    /// What decides on webhook or polling.
    Seen(Seen),
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
    HomeWatch::start(config, port, prepared.last_address(), Arc::clone(status), tell).map_err(system(NO_THREAD))
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
        bots.push(BotDelivery::start(settings, config.watch_interval, callbacks(index)).map_err(system(NO_THREAD))?);
    }
    Ok((bots, deadlines))
}

/// Feeds systemd's watchdog while the probe is answered and polls return. Without a webhook, only a worker is asked.
fn watch_over(shared: &SharedParts, probe: Option<Probe>, deadlines: Vec<Arc<PollDeadline>>) -> Result<(), RunError> {
    let (handover, runtime) = (Arc::clone(&shared.handover), shared.runtime.clone());
    let ask_worker = move || {
        let (handover, (answer, answered)) = (Arc::clone(&handover), mpsc::channel());
        runtime.spawn(async move {
            let _ = answer.send(handover.ask(Recipient::Probe, Vec::new()).await.is_ok());
        });
        answered.recv_timeout(PROBE_TIMEOUT).unwrap_or_default()
    };
    let is_alive = move || {
        let do_polls_return = deadlines.iter().all(|deadline| deadline.is_met());
        do_polls_return && probe.as_ref().map_or_else(&ask_worker, Probe::is_answered)
    };
    systemd::watch(is_alive, Arc::clone(&shared.status)).map_err(system(NO_THREAD))
}

/// How much is served at once.
struct Capacity {
    workers: usize,
    limits: Limits,
}

impl Capacity {
    /// What the settings ask for, and no more connections than leave the workers the open files that they need.
    fn of(config: &Config) -> Result<Self, RunError> {
        // What Telegram may have in flight, a connection and a worker for each.
        let in_flight = config.bots.len() * usize::from(config.max_connections);
        let workers = in_flight.min(MAX_WORKERS);
        let known = in_flight + CHANGE_OVER_CONNECTIONS;
        let own = FILES_OF_WORKER * workers + config.bots.len() + OTHER_FILES;
        // Beside the known and the strangers, those of both that have shown nothing yet.
        let most = known + STRANGER_CONNECTIONS + 2 * WAITING;
        let files = process::raise_open_file_limit(most + own);
        let all = files.saturating_sub(own).min(most);
        // One for our own probe.
        if all <= in_flight {
            let needed = in_flight + 1 + own;
            return Err(RunError::System(format!(
                "The bot needs {needed} open files, but the limit is {files}. Raise LimitNOFILE, or lower max_connections."
            )));
        }
        let (strangers, address) = match config.tls {
            true => (STRANGER_CONNECTIONS, CONNECTIONS_OF_STRANGER),
            // All come from the proxy's address, Telegram's too, and none is known before it has shown path and secret.
            false => (known, known),
        };
        let limits = Limits { known, strangers, address, all };
        Ok(Self { workers, limits })
    }
}

/// A route for each bot, and the probe's.
fn routes(config: &Config, probe: &Route) -> Vec<Route> {
    let of_bot = |(index, bot): (usize, &BotSettings)| Route {
        recipient: Recipient::Bot(index),
        path: bot.path.clone(),
        secret_token: bot.token.secret_token(),
    };
    config.bots.iter().enumerate().map(of_bot).chain([probe.clone()]).collect()
}

/// Makes the folder that all of ours lies in, for this user alone.
fn make_own_folder(config: &Config) -> Result<(), RunError> {
    let Some(folder) = &config.own_folder else { return Ok(()) };
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
    let served = config.bots.iter().zip(known_mes).zip(observations).map(|((bot, me), observations)| ServedBot {
        client: Client::new(api.clone(), bot.token.clone()),
        me: Arc::clone(me),
        dedup: dedup_window(&config.runtime_dir.join(format!("once-{}", bot.token.id()))),
        postponed: PostponedCalls::default(),
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
    let listener =
        runtime_dir::listen_at(socket).map_err(system(format!("Cannot open the socket {}", socket.display())))?;
    let (answers, status) = (Arc::clone(&shared.handover.answers), Arc::clone(&shared.status));
    worker::start(listener, workers, bot, served, answers, status).map_err(system("Cannot start the workers"))
}

fn dedup_window(path: &Path) -> DedupWindow {
    DedupWindow::open(path).unwrap_or_else(|why| {
        log::info!("Cannot keep the list of answered updates across a restart: {}: {why}.", path.display());
        DedupWindow::in_memory()
    })
}

/// The signals that we act on.
struct Signals {
    stop: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            stop: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

/// What the supervisor works with.
struct Supervised<'c> {
    events: UnboundedReceiver<Event>,
    changeover: ChangeOver<'c>,
    registrar: Arc<Registrar>,
}

/// Tells systemd that updates are served, and serves them until a signal comes.
fn serve(
    runtime: &Runtime,
    door: Option<(Edge, TcpListener)>,
    shared: &SharedParts,
    supervised: Supervised<'_>,
) -> Result<(), RunError> {
    runtime.block_on(async {
        // Before systemd hears that we are ready, and may send one.
        let signals = Signals::listen().map_err(system("Cannot receive signals"))?;
        let (stop, mut stopped) = watch::channel(false);
        let serving = match door {
            Some((edge, listener)) => {
                let listener = listener
                    .set_nonblocking(true)
                    .and_then(|()| tokio::net::TcpListener::from_std(listener))
                    .map_err(system("Cannot use the listening socket"))?;
                log::info!(
                    "Listening on {}.",
                    listener.local_addr().map_err(system("Cannot use the listening socket"))?
                );
                tokio::spawn(edge.serve(listener, stopped))
            }
            None => tokio::spawn(async move { drop(stopped.wait_for(|stop| *stop).await) }),
        };
        systemd::ready(&shared.status);
        supervise(serving, stop, signals, &shared.arrivals, supervised).await;
        Ok(())
    })
}

/// Serves, follows the home's address, renews the certificate, changes between webhook and polling, reloads on SIGHUP, and stops
/// on SIGTERM or SIGINT.
async fn supervise(
    mut serving: JoinHandle<()>,
    stop: watch::Sender<bool>,
    mut signals: Signals,
    arrivals: &Arrivals,
    supervised: Supervised<'_>,
) {
    let Supervised { mut events, mut changeover, registrar } = supervised;
    // How many arrivals there were when the wait for one began.
    let (mut arrivals_before, mut is_awaited) = (arrivals.count(), false);
    loop {
        let renewal = changeover.identity.as_mut().map_or(NOTHING_TO_RENEW, Identity::renew);
        if !is_awaited {
            arrivals_before = arrivals.count();
        }
        is_awaited = changeover.awaits_arrival();
        let due = changeover.due().unwrap_or_else(|| Instant::now() + renewal);
        tokio::select! {
            _ = signals.reload.recv() => reload(changeover.identity.as_mut()),
            Some(event) = events.recv() => take(event, &mut changeover),
            () = arrivals.after(arrivals_before), if is_awaited => {
                // While one is still awaited, it is the next one.
                arrivals_before = arrivals.count();
                changeover.arrived();
            }
            () = sleep_until(due.into()) => changeover.see(Seen::Time),
            () = sleep(renewal) => {}
            _ = signals.stop.recv() => break,
            _ = signals.interrupt.recv() => break,
            // Serving ends only after `stop`. If it ends earlier, the process ends, too.
            _ = &mut serving => return,
        }
    }
    log::info!("Stopping. The bot finishes the updates in progress first.");
    systemd::stopping();
    stop.send_replace(true);
    let ending = spawn_blocking(move || registrar.end(SHUTDOWN_TIMEOUT));
    let (served, ended) = tokio::join!(timeout(SHUTDOWN_TIMEOUT, serving), ending);
    if served.is_err() || !ended.unwrap_or_default() {
        log::warn!(
            "Some updates were not finished in {} s. Telegram will send them again.",
            SHUTDOWN_TIMEOUT.as_secs()
        );
    }
}

fn take(event: Event, changeover: &mut ChangeOver<'_>) {
    match (event, &mut changeover.identity) {
        (Event::Registered(digest), Some(identity)) => identity.registered(&digest),
        (Event::Moved(address), Some(identity)) => {
            identity.moved(address);
            changeover.see(Seen::Address);
        }
        (Event::Seen(seen), _) => changeover.see(seen),
        _ => {}
    }
}

fn reload(identity: Option<&mut Identity<'_>>) {
    match identity.filter(|identity| identity.has_certificate()).map(Identity::reload) {
        None => {
            log::info!("There is no certificate to reload: the bots use polling, or the settings have tls = \"off\".")
        }
        Some(Ok(())) => log::info!("The certificate was reloaded."),
        Some(Err(why)) => log::error!("The certificate was not reloaded, and the old one stays in use: {why}"),
    }
}
