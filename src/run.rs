//! The wiring of `pihook run`: binds, starts the workers and the registration, and serves until a signal stops it.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::bot::Bot;
use crate::certificate::CertificateError;
use crate::config::{BotSettings, Config};
use crate::delivery::identity::{self, Identity, Prepared, Registrar};
use crate::delivery::keeper::Callbacks;
use crate::home::watch::{Hint, HomeWatch};
use crate::system::status::Status;
use crate::system::{port, process, systemd};
use crate::telegram::client::{Api, Client};
use crate::telegram::known_me::KnownMe;
use crate::webhook::auth::{Recipient, Route};
use crate::webhook::connection::Shared;
use crate::webhook::dedup::DedupWindow;
use crate::webhook::edge::Edge;
use crate::webhook::handover::Handover;
use crate::webhook::panic;
use crate::webhook::postponed::PostponedCalls;
use crate::webhook::probe::{self, Probe};
use crate::webhook::slots::{Limits, Slots};
use crate::webhook::worker::{self, ServedBot};

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

const NO_THREAD: &str = "A thread cannot be started";

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
    let listener = listen(config)?;
    let _lock = lock_runtime_dir(&config.runtime_dir)?;
    // The lock comes first: two instances must not both make a certificate.
    let prepared = identity::prepare(config)?;
    let capacity = Capacity::of(config)?;
    let api = Api::new(&config.api_url, capacity.workers);
    let status = Arc::new(Status::default());
    let socket = config.runtime_dir.join("workers.sock");
    let allowed_updates = bot.allowed_updates();
    let known_mes: Vec<_> = config.bots.iter().map(|bot| Arc::new(known_me(config, bot))).collect();
    let served = served_bots(config, &api, &known_mes);
    start_workers(&socket, capacity.workers, bot, served, &status)?;
    let probe_route = probe::route().map_err(|_| RunError::System("The system has no random numbers.".into()))?;

    let address = address(&listener, config)?;
    let (sender, events) = unbounded_channel();
    let home = watch_home(config, address.port(), &prepared, &status, &sender)?;
    let callbacks = || callbacks(&status, &sender, home.as_ref());
    let registrar = Registrar::start(config, api, allowed_updates, &known_mes, callbacks).map_err(system(NO_THREAD))?;
    let mut identity = Identity::new(config, prepared, registrar)?;
    let edge = Edge {
        allow_from: config.allow_from.clone(),
        known: config.known(),
        shared: Arc::new(Shared {
            routes: routes(config, &probe_route),
            handover: Handover::new(socket.clone(), capacity.workers),
            slots: Mutex::new(Slots::new(capacity.limits)),
            rollover: identity.rollover(),
        }),
    };
    let probe = Probe::new(address, &probe_route);
    systemd::watch(move || probe.is_answered(), Arc::clone(&status)).map_err(system(NO_THREAD))?;
    serve(edge, listener, &status, events, &mut identity)?;
    if let Some(home) = home {
        home.end();
    }
    let _ = fs::remove_file(socket);
    Ok(())
}

/// The listener of systemd's socket unit, or one of our own.
fn listen(config: &Config) -> Result<TcpListener, RunError> {
    match systemd::listener().map_err(system("The socket that systemd handed over"))? {
        Some(listener) => Ok(listener),
        None => TcpListener::bind(config.listen).map_err(|why| not_bound(config.listen, &why)),
    }
}

/// Why nobody can listen there, and what to do.
fn not_bound(listen: SocketAddr, why: &io::Error) -> RunError {
    let port = listen.port();
    let what = match why.kind() {
        io::ErrorKind::AddrInUse => {
            let owners = port::owners(port);
            let by = if owners.is_empty() {
                "a program of another user (`sudo ss -ltnp` names it)".into()
            } else {
                owners.join(" and ")
            };
            format!("{by} has the port. End that program, or set another port in listen")
        }
        io::ErrorKind::PermissionDenied => format!(
            "only root may use ports below 1024. Set listen = \"0.0.0.0:8443\", and have the router forward port {port} to 8443"
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have the address. Set listen = \"0.0.0.0:8443\"".into()
        }
        _ => return system(format!("{listen} cannot be listened on"))(io::Error::new(why.kind(), why.to_string())),
    };
    RunError::System(format!("{listen} cannot be listened on: {why}: {what}."))
}

fn address(listener: &TcpListener, config: &Config) -> Result<SocketAddr, RunError> {
    let address = listener.local_addr().map_err(system("The listening socket"))?;
    // Only a socket of systemd's can have another; 0 is any.
    if ![0, address.port()].contains(&config.listen.port()) {
        log::warn!("systemd holds the port {}: set ListenStream= in pihook.socket, not `listen`.", address.port());
    }
    Ok(address)
}

/// A message of a thread to the supervisor.
enum Event {
    /// The home has another address.
    Moved(Ipv4Addr),
    /// Telegram has the registration of this digest.
    Registered(String),
}

fn callbacks(status: &Arc<Status>, sender: &UnboundedSender<Event>, watch: Option<&HomeWatch>) -> Callbacks {
    let (sender, hints) = (sender.clone(), watch.map(HomeWatch::hints));
    Callbacks {
        status: Arc::clone(status),
        registered: Box::new(move |digest| {
            let _ = sender.send(Event::Registered(digest.to_owned()));
        }),
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
    let moved = move |address| {
        let _ = sender.send(Event::Moved(address));
    };
    HomeWatch::start(config, port, prepared.last_address(), Arc::clone(status), moved).map_err(system(NO_THREAD))
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
        let own = FILES_OF_WORKER * workers + OTHER_FILES;
        let files = process::raise_open_file_limit(known + STRANGER_CONNECTIONS + own);
        let all = files.saturating_sub(own).min(known + STRANGER_CONNECTIONS);
        // One for our own probe.
        if all <= in_flight {
            let needed = in_flight + 1 + own;
            return Err(RunError::System(format!(
                "Only {files} files can be open at once, and {needed} are needed: raise LimitNOFILE, or lower max_connections."
            )));
        }
        let limits = Limits { known, strangers: STRANGER_CONNECTIONS, address: CONNECTIONS_OF_STRANGER, all };
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

/// Makes the folder, readable by us alone, and locks it: a second instance must not take our socket.
fn lock_runtime_dir(path: &Path) -> Result<File, RunError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let private = made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
    let folder = private.and_then(|()| File::open(path)).map_err(system(format!("runtime_dir {}", path.display())))?;
    folder.try_lock().map_err(|_| {
        RunError::System(format!("Another pihook uses {}: stop it, or set another runtime_dir.", path.display()))
    })?;
    Ok(folder)
}

fn known_me(config: &Config, bot: &BotSettings) -> KnownMe {
    let id = bot.token.id();
    KnownMe::load(config.state_dir.join(format!("me-{id}")), id)
}

fn served_bots(config: &Config, api: &Api, known_mes: &[Arc<KnownMe>]) -> Vec<ServedBot> {
    let served = config.bots.iter().zip(known_mes).map(|(bot, me)| ServedBot {
        client: Client::new(api.clone(), bot.token.clone()),
        me: Arc::clone(me),
        dedup: dedup_window(&config.runtime_dir.join(format!("once-{}", bot.token.id()))),
        postponed: PostponedCalls::default(),
    });
    served.collect()
}

fn start_workers(
    socket: &Path,
    workers: usize,
    bot: Arc<dyn Bot>,
    served: Vec<ServedBot>,
    status: &Arc<Status>,
) -> Result<(), RunError> {
    // One that was killed leaves its socket behind.
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(system(format!("The socket {}", socket.display())))?;
    worker::start(listener, workers, bot, served, status.clone()).map_err(system("The workers cannot be started"))
}

fn dedup_window(path: &Path) -> DedupWindow {
    DedupWindow::open(path).unwrap_or_else(|why| {
        log::info!("What was answered is not remembered across a restart: {}: {why}.", path.display());
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

/// Tells systemd that the webhook is served, and serves it until a signal comes.
fn serve(
    edge: Edge,
    listener: TcpListener,
    status: &Status,
    events: UnboundedReceiver<Event>,
    identity: &mut Identity<'_>,
) -> Result<(), RunError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(system("The runtime"))?;
    runtime.block_on(async {
        // Before systemd hears that we are ready, and may send one.
        let signals = Signals::listen().map_err(system("Signals cannot be received"))?;
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| tokio::net::TcpListener::from_std(listener))
            .map_err(system("The listening socket"))?;
        log::info!("Listening on {}.", listener.local_addr().map_err(system("The listening socket"))?);
        systemd::ready(status);
        supervise(edge, listener, signals, events, identity).await;
        Ok(())
    })
}

/// Serves, follows the home's address, renews the certificate, reloads on SIGHUP, and stops on SIGTERM or SIGINT.
async fn supervise(
    edge: Edge,
    listener: tokio::net::TcpListener,
    mut signals: Signals,
    mut events: UnboundedReceiver<Event>,
    identity: &mut Identity<'_>,
) {
    let (stop, stopped) = watch::channel(false);
    let mut serving = tokio::spawn(edge.serve(listener, stopped));
    loop {
        let renewal = identity.renew();
        tokio::select! {
            _ = signals.reload.recv() => match identity.reload() {
                Ok(()) => log::info!("The certificate was loaded anew."),
                Err(why) => log::error!("The old certificate stays: {why}"),
            },
            Some(event) = events.recv() => match event {
                Event::Registered(digest) => identity.registered(&digest),
                Event::Moved(address) => identity.moved(address),
            },
            () = sleep(renewal) => {}
            _ = signals.stop.recv() => break,
            _ = signals.interrupt.recv() => break,
            // Serving ends only when it is told to. If it ends all the same, so does the process.
            _ = &mut serving => return,
        }
    }
    log::info!("Stopping: what is in flight gets its answer.");
    systemd::stopping();
    stop.send_replace(true);
    if timeout(SHUTDOWN_TIMEOUT, serving).await.is_err() {
        log::warn!("Some updates were not answered in {} s; Telegram brings them back.", SHUTDOWN_TIMEOUT.as_secs());
    }
}
