//! The wiring of `pihook run`: binds, starts the workers and the registration, and serves until it
//! is told to stop.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
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

use crate::certificate;
use crate::config::{Bot, Config};
use crate::delivery::identity::{self, Identity, Registrar};
use crate::delivery::keeper::Listeners;
use crate::home::watch::{Hint, Watch};
use crate::system::status::Status;
use crate::system::{process, systemd};
use crate::telegram::client::{Api, Client};
use crate::webhook::auth::Door;
use crate::webhook::connection::Shared;
use crate::webhook::dedup::Once;
use crate::webhook::edge::Edge;
use crate::webhook::handover::Handover;
use crate::webhook::probe::{self, Probe};
use crate::webhook::slots::{Connections, Limits};
use crate::webhook::worker;

/// Connections beyond those that Telegram may open: for its change-over to a new webhook.
const SLACK: usize = 64;
/// Connections of those whom only `0.0.0.0/0` names, and who have not shown path and secret.
const STRANGERS: usize = 64;
const STRANGERS_OF_ADDRESS: usize = 16;
/// Open files of a worker: both ends of its Unix connection, one of them twice, and its connection to the Bot API.
const FILES_OF_WORKER: usize = 4;
/// Open files beside those.
const OTHER_FILES: usize = 32;
/// Threads, however many bots there are.
const MOST_WORKERS: usize = 100;
/// How long what is in flight may take when we are told to stop.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Why the bot cannot run.
#[derive(Debug)]
pub enum Error {
    /// The settings are to be changed first.
    Config(String),
    /// The machine refuses something.
    System(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) | Self::System(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl From<certificate::Error> for Error {
    fn from(error: certificate::Error) -> Self {
        Self::Config(error.to_string())
    }
}

fn system(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Error {
    move |why| Error::System(format!("{what}: {why}."))
}

/// Runs the bots until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, one sentence.
pub fn run(config: &Config) -> Result<(), Error> {
    let listener = match systemd::listener().map_err(system("The socket that systemd handed over"))? {
        Some(listener) => listener,
        None => TcpListener::bind(config.listen).map_err(system(format!("{} cannot be listened on", config.listen)))?,
    };

    let _lock = own_directory(&config.runtime_dir)?;
    // Only who serves may make a certificate.
    let prepared = identity::prepare(config)?;
    let socket = config.runtime_dir.join("workers.sock");
    // What Telegram may have in flight, a connection and a worker for each.
    let in_flight = config.bots.len() * usize::from(config.max_connections);
    let workers = in_flight.min(MOST_WORKERS);
    let limits = limits(in_flight, workers)?;
    let api = Api::new(&config.api_url, workers);
    let status = Arc::new(Status::default());
    start_workers(config, &api, &socket, workers, &status)?;
    let own_door = probe::door().map_err(|_| Error::System("The system has no random numbers.".into()))?;

    let address = listener.local_addr().map_err(system("The listening socket"))?;
    // Only a socket of systemd's can have another; 0 is any.
    if ![0, address.port()].contains(&config.listen.port()) {
        log::warn!("systemd holds the port {}: set ListenStream= in pihook.socket, not `listen`.", address.port());
    }
    let (tell, events) = unbounded_channel();
    let last = prepared.last_address();
    let moved = tell.clone();
    let watch = Watch::start(config, address.port(), last, Arc::clone(&status), move |address| {
        let _ = moved.send(Event::Moved(address));
    });
    let watch = watch.map_err(system("A thread cannot be started"))?;
    let listeners = || listeners(&status, &tell, watch.as_ref());
    let registrar = Registrar::start(config, api, listeners).map_err(system("A thread cannot be started"))?;
    let mut identity = Identity::new(config, prepared, registrar)?;
    let edge = Edge {
        allow_from: config.allow_from.clone(),
        known: config.known(),
        shared: Arc::new(Shared {
            doors: config.bots.iter().map(door).chain([own_door.clone()]).collect(),
            handover: Handover::new(socket.clone(), workers, config.bots.len()),
            slots: Mutex::new(Connections::new(limits)),
            offer: identity.offer(),
        }),
    };
    let probe = Probe::new(address, &own_door);
    systemd::watch(move || probe.is_answered(), Arc::clone(&status)).map_err(system("A thread cannot be started"))?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(system("The runtime"))?;
    runtime.block_on(async {
        // Whoever hears that we are ready may send one.
        let signals = Signals::listen().map_err(system("Signals cannot be received"))?;
        log::info!("Listening on {address}.");
        systemd::ready(&status);
        supervise(edge, listener, signals, events, &mut identity).await
    })?;
    if let Some(watch) = watch {
        watch.end();
    }
    let _ = fs::remove_file(socket);
    Ok(())
}

/// What the threads tell the supervisor.
enum Event {
    /// The home has another address.
    Moved(Ipv4Addr),
    /// Telegram has what this digest stands for.
    Registered(String),
}

fn listeners(status: &Arc<Status>, tell: &UnboundedSender<Event>, watch: Option<&Watch>) -> Listeners {
    let (tell, hints) = (tell.clone(), watch.map(Watch::hints));
    Listeners {
        status: Arc::clone(status),
        registered: Box::new(move |digest| {
            let _ = tell.send(Event::Registered(digest.to_owned()));
        }),
        unreachable: Box::new(move || {
            let _ = hints.as_ref().map(|hints| hints.send(Hint::Look));
        }),
    }
}

/// As many connections as there shall be, and no more than leave the workers what they need.
fn limits(in_flight: usize, workers: usize) -> Result<Limits, Error> {
    let known = in_flight + SLACK;
    let own = FILES_OF_WORKER * workers + OTHER_FILES;
    let files = process::want_files(known + STRANGERS + own);
    let all = files.saturating_sub(own).min(known + STRANGERS);
    // One for our own probe.
    if all <= in_flight {
        let needed = in_flight + 1 + own;
        return Err(Error::System(format!(
            "Only {files} files can be open at once, and {needed} are needed: raise LimitNOFILE, or lower max_connections."
        )));
    }
    Ok(Limits { known, strangers: STRANGERS, address: STRANGERS_OF_ADDRESS, all })
}

fn door(bot: &Bot) -> Door {
    Door { path: bot.path.clone(), secret_token: bot.token.secret_token() }
}

/// Makes the folder for our eyes only, and holds it: a second instance must not take our socket.
fn own_directory(path: &Path) -> Result<File, Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let private = made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
    let folder = private.and_then(|()| File::open(path)).map_err(system(format!("runtime_dir {}", path.display())))?;
    folder.try_lock().map_err(|_| {
        Error::System(format!("Another pihook uses {}: stop it, or set another runtime_dir.", path.display()))
    })?;
    Ok(folder)
}

fn start_workers(config: &Config, api: &Api, socket: &Path, workers: usize, status: &Arc<Status>) -> Result<(), Error> {
    // One that was killed leaves its socket behind.
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(system(format!("The socket {}", socket.display())))?;
    let bots = config.bots.iter().map(|bot| worker::Bot {
        client: Client::new(api.clone(), bot.token.clone()),
        once: once(&config.runtime_dir.join(format!("once-{}", bot.token.id()))),
    });
    worker::start(listener, workers, bots.collect(), status.clone()).map_err(system("The workers cannot be started"))
}

fn once(path: &Path) -> Once {
    Once::open(path).unwrap_or_else(|why| {
        log::info!("What was answered is not remembered across a restart: {}: {why}.", path.display());
        Once::in_memory()
    })
}

/// What we can be told from outside.
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

/// Serves, follows the home's address, renews the certificate, reloads on SIGHUP, and stops on SIGTERM or SIGINT.
async fn supervise(
    edge: Edge,
    listener: TcpListener,
    mut signals: Signals,
    mut events: UnboundedReceiver<Event>,
    identity: &mut Identity<'_>,
) -> Result<(), Error> {
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener))
        .map_err(system("The listening socket"))?;
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
            // It ends only when told to; were it to end, so do we.
            _ = &mut serving => return Ok(()),
        }
    }
    log::info!("Stopping: what is in flight gets its answer.");
    systemd::stopping();
    stop.send_replace(true);
    if timeout(LAST_ANSWERS, serving).await.is_err() {
        log::warn!("Some updates were not answered in {} s; Telegram brings them back.", LAST_ANSWERS.as_secs());
    }
    Ok(())
}
