//! The wiring of `pihook run`: binds, starts the workers and the registration, and serves until a
//! signal stops it.

mod app;
mod capacity;
mod error;
mod listener;
mod supervisor;
mod watchdog;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::app::App;
pub use self::error::RunError;
use self::listener::{address, listen};
use self::supervisor::{Supervised, serve};
use crate::bot::Bot;
use crate::config::Config;
use crate::delivery::bot_threads::BotThreads;
use crate::delivery::endpoint::{self, Endpoint, Prepared};
use crate::delivery::manager::DeliveryManager;
use crate::delivery::manager_message::ManagerMessage;
use crate::edge::probe::Probe;
use crate::system::runtime_dir;
use crate::updates::panic;

/// Where the webhook is served, and with which certificate. There is none where the bots only poll.
struct Webhook {
    listener: TcpListener,
    address: SocketAddr,
    prepared: Prepared,
}

/// Runs the bots of the settings until SIGTERM or SIGINT; `bot` handles the updates of all of them.
/// A panic of any thread ends the process from now on.
///
/// # Errors
/// What keeps it from starting, one sentence.
pub fn run(config: &Config, bot: Arc<dyn Bot>) -> Result<(), RunError> {
    panic::end_process_on_panic();
    make_own_folder(config)?;

    let listener = listen(config)?;
    // The lock comes before the certificate: two instances must not both make one.
    let _lock = runtime_dir::lock(&config.runtime_dir)?;
    let webhook = match listener {
        Some(listener) => Some(Webhook {
            prepared: endpoint::prepare(config)?,
            address: address(&listener, config)?,
            listener,
        }),
        None => None,
    };

    log_proxy(config);
    let (manager, messages) = unbounded_channel();
    let app = App::new(config, bot.allowed_updates(), manager)?;
    app.start_workers(bot)?;

    let home = match &webhook {
        Some(webhook) => app.watch_home(webhook.address.port(), &webhook.prepared)?,
        None => None,
    };
    let rollover = webhook
        .as_ref()
        .and_then(|webhook| webhook.prepared.rollover());
    let (threads, deadlines) = app.start_bot_threads(rollover.as_ref(), home.as_ref())?;
    let probe = webhook
        .as_ref()
        .map(|webhook| Probe::new(webhook.address, &app.probe_route, config.tls));
    app.start_watchdog(probe, deadlines)?;

    let supervised = supervised(&app, webhook, Arc::new(threads), messages);
    serve(&app, supervised)?;

    if let Some(home) = home {
        home.end();
    }
    let _ = fs::remove_file(&app.socket);
    Ok(())
}

/// Has the bots register their webhooks, or poll, and gives the supervisor what it needs.
fn supervised<'c>(
    app: &App<'c>,
    webhook: Option<Webhook>,
    threads: Arc<BotThreads>,
    messages: UnboundedReceiver<ManagerMessage>,
) -> Supervised<'c> {
    let mut edge = None;
    let mut endpoint = None;
    if let Some(webhook) = webhook {
        edge = Some((app.edge(webhook.prepared.rollover()), webhook.listener));
        endpoint = Some(Endpoint::new(
            app.config,
            webhook.prepared,
            app.api.clone(),
            app.allowed_updates,
            Arc::clone(&threads),
            Arc::clone(&app.status),
        ));
    }

    let manager = DeliveryManager::start(
        app.config,
        endpoint,
        &threads,
        Arc::clone(&app.status),
        Arc::clone(&app.reach),
    );
    Supervised {
        edge,
        messages,
        manager,
        threads,
    }
}

fn log_proxy(config: &Config) {
    if let Some(proxy) = &config.proxy {
        log::info!("Calls to the Bot API go through the proxy {proxy}.");
    }
}

/// Makes the folder that holds all of pihook's files, for this user alone.
fn make_own_folder(config: &Config) -> Result<(), RunError> {
    let Some(folder) = &config.own_folder else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).map_err(|error| {
        RunError::Config(format!(
            "Cannot create the folder {}: {error}. Set XDG_STATE_HOME to a folder where this user can write, or \
             write a settings file.",
            folder.display()
        ))
    })
}
