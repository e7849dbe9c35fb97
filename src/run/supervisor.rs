//! The supervisor: serves, and acts on signals, on the messages of the threads, and on time.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, sleep_until, timeout};

use super::app::App;
use super::error::{RunError, system};
use crate::delivery::bot_threads::BotThreads;
use crate::delivery::endpoint::Endpoint;
use crate::delivery::manager::DeliveryManager;
use crate::delivery::manager_message::ManagerMessage;
use crate::edge::accept::Edge;
use crate::edge::reach::Reach;
use crate::system::systemd;

/// The longest wait, when a signal stops us, for the updates in progress.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait between two looks at the certificate's dates, where there is no certificate.
const NOTHING_TO_RENEW: Duration = Duration::from_secs(86400);

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
pub(super) struct Supervised<'c> {
    /// None where the bots only poll: then nothing listens.
    pub(super) edge: Option<(Edge, TcpListener)>,
    pub(super) messages: UnboundedReceiver<ManagerMessage>,
    pub(super) manager: DeliveryManager<'c>,
    pub(super) threads: Arc<BotThreads>,
}

/// Tells systemd that updates are served, and serves them until a signal comes.
pub(super) fn serve(app: &App<'_>, supervised: Supervised<'_>) -> Result<(), RunError> {
    let Supervised {
        edge,
        messages,
        mut manager,
        threads,
    } = supervised;
    app.runtime.block_on(async {
        // systemd may send a signal as soon as it hears that we are ready.
        let mut signals = Signals::listen().map_err(system("Cannot receive signals"))?;
        let (stop, stopped) = watch::channel(false);
        let mut serving = start_edge(edge, stopped)?;
        systemd::ready();
        systemd::show(&*app.status);

        tokio::select! {
            () = supervise(&mut manager, messages, &app.reach, &mut signals) => {}
            // Serving ends only after `stop`. If it ends earlier, the process ends, too.
            _ = &mut serving => return Ok(()),
        }
        log::info!("Stopping. The bot finishes the updates in progress first.");
        systemd::stopping();
        stop.send_replace(true);
        finish(serving, threads).await;
        Ok(())
    })
}

/// Has the edge serve until `stopped`. Where there is none, the task only waits for that.
fn start_edge(
    edge: Option<(Edge, TcpListener)>,
    mut stopped: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, RunError> {
    let Some((edge, listener)) = edge else {
        return Ok(tokio::spawn(async move {
            let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
        }));
    };
    let listener = asynchronous(listener).map_err(system("Cannot use the listening socket"))?;
    Ok(tokio::spawn(edge.serve(listener, stopped)))
}

/// Waits until the updates in progress are finished, but no longer than [`SHUTDOWN_TIMEOUT`].
async fn finish(serving: JoinHandle<()>, threads: Arc<BotThreads>) {
    let ending = spawn_blocking(move || threads.end(SHUTDOWN_TIMEOUT));
    let (served, ended) = tokio::join!(timeout(SHUTDOWN_TIMEOUT, serving), ending);
    if served.is_err() || !ended.unwrap_or_default() {
        log::warn!(
            "Some updates were not finished in {} s. Telegram will send them again.",
            SHUTDOWN_TIMEOUT.as_secs()
        );
    }
}

/// The listener as tokio has it.
fn asynchronous(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    log::info!("Listening on {}.", listener.local_addr()?);
    Ok(listener)
}

/// Follows the home's address, renews the certificate, changes between webhook and polling, and
/// reloads on SIGHUP, until SIGTERM or SIGINT comes.
async fn supervise(
    manager: &mut DeliveryManager<'_>,
    mut messages: UnboundedReceiver<ManagerMessage>,
    reach: &Reach,
    signals: &mut Signals,
) {
    // How often Telegram had reached us when the wait for the next time began.
    let mut reached_before = reach.count();
    let mut is_awaited = false;
    loop {
        let renewal = match &mut manager.endpoint {
            Some(endpoint) => endpoint.renew(),
            None => NOTHING_TO_RENEW,
        };
        if !is_awaited {
            reached_before = reach.count();
        }
        is_awaited = manager.awaits_reach();
        let due = manager.due().unwrap_or_else(|| Instant::now() + renewal);

        tokio::select! {
            _ = signals.reload.recv() => reload(manager.endpoint.as_mut()),
            Some(message) = messages.recv() => manager.handle(message),
            () = reach.after(reached_before), if is_awaited => {
                // If the next round still awaits it, it must be a later one.
                reached_before = reach.count();
                manager.reached();
            }
            () = sleep_until(due.into()) => manager.time_passed(),
            () = sleep(renewal) => {}
            _ = signals.stop.recv() => return,
            _ = signals.interrupt.recv() => return,
        }
    }
}

fn reload(endpoint: Option<&mut Endpoint<'_>>) {
    let endpoint = match endpoint {
        Some(endpoint) if endpoint.has_certificate() => endpoint,
        _ => {
            log::info!(
                "There is no certificate to reload: the bots use polling, or the settings have tls = \"off\"."
            );
            return;
        }
    };
    match endpoint.reload() {
        Ok(()) => log::info!("The certificate was reloaded."),
        Err(error) => {
            log::error!("The certificate was not reloaded, and the old one stays in use: {error}");
        }
    }
}
