//! The supervisor: serves, acts on signals and on the messages of the threads.

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
use super::event::Event;
use crate::delivery::endpoint::{Identity, Registrar};
use crate::delivery::manager::ChangeOver;
use crate::delivery::policy::Seen;
use crate::edge::accept::Edge;
use crate::edge::arrivals::Arrivals;
use crate::system::systemd;

/// For what is in flight when a signal stops us.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Where there is no certificate.
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
    pub(super) events: UnboundedReceiver<Event>,
    pub(super) changeover: ChangeOver<'c>,
    pub(super) registrar: Arc<Registrar>,
}

/// Tells systemd that updates are served, and serves them until a signal comes. Without a webhook
/// nothing listens.
pub(super) fn serve(
    app: &App<'_>,
    webhook: Option<(Edge, TcpListener)>,
    supervised: Supervised<'_>,
) -> Result<(), RunError> {
    app.runtime.block_on(async {
        // Before systemd hears that we are ready, and may send one.
        let signals = Signals::listen().map_err(system("Cannot receive signals"))?;
        let (stop, mut stopped) = watch::channel(false);
        let serving = match webhook {
            Some((edge, listener)) => {
                let listener =
                    asynchronous(listener).map_err(system("Cannot use the listening socket"))?;
                tokio::spawn(edge.serve(listener, stopped))
            }
            None => tokio::spawn(async move { drop(stopped.wait_for(|stop| *stop).await) }),
        };
        systemd::ready();
        systemd::show(&*app.status);
        supervise(serving, stop, signals, &app.arrivals, supervised).await;
        Ok(())
    })
}

/// The listener as tokio has it.
fn asynchronous(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    log::info!("Listening on {}.", listener.local_addr()?);
    Ok(listener)
}

/// Serves, follows the home's address, renews the certificate, changes between webhook and polling,
/// reloads on SIGHUP, and stops on SIGTERM or SIGINT.
async fn supervise(
    mut serving: JoinHandle<()>,
    stop: watch::Sender<bool>,
    mut signals: Signals,
    arrivals: &Arrivals,
    supervised: Supervised<'_>,
) {
    let Supervised {
        mut events,
        mut changeover,
        registrar,
    } = supervised;
    // How many arrivals there were when the wait for one began.
    let (mut arrivals_before, mut is_awaited) = (arrivals.count(), false);
    loop {
        let renewal = changeover
            .identity
            .as_mut()
            .map_or(NOTHING_TO_RENEW, Identity::renew);
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
        (
            Event::Set {
                bot,
                arrived_before,
            },
            _,
        ) => changeover.set(bot, arrived_before),
        (Event::Seen(seen), _) => changeover.see(seen),
        _ => {}
    }
}

fn reload(identity: Option<&mut Identity<'_>>) {
    match identity
        .filter(|identity| identity.has_certificate())
        .map(Identity::reload)
    {
        None => {
            log::info!(
                "There is no certificate to reload: the bots use polling, or the settings have tls = \"off\"."
            );
        }
        Some(Ok(())) => log::info!("The certificate was reloaded."),
        Some(Err(why)) => {
            log::error!("The certificate was not reloaded, and the old one stays in use: {why}");
        }
    }
}
