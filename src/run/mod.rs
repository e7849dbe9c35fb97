//! The wiring of `pihook run`: binds, starts the workers and the registration, and serves until a
//! signal stops it.

mod app;
mod capacity;
mod error;
mod event;
mod listener;
mod supervisor;
mod watchdog;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;

use self::app::App;
pub use self::error::RunError;
use self::listener::{address, listen};
use self::supervisor::{Supervised, serve};
use crate::bot::Bot;
use crate::config::Config;
use crate::delivery::endpoint::{self, Identity, Prepared, Registrar};
use crate::delivery::manager::ChangeOver;
use crate::edge::probe::Probe;
use crate::system::runtime_dir;
use crate::updates::panic;

/// Where the webhook is served. There is none where the bots only poll.
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
    let (events, received) = unbounded_channel();
    let app = App::new(config, bot.allowed_updates(), events)?;
    app.start_workers(bot)?;

    let home = match &webhook {
        Some(webhook) => app.watch_home(webhook.address.port(), &webhook.prepared)?,
        None => None,
    };
    let rollover = webhook
        .as_ref()
        .and_then(|webhook| webhook.prepared.rollover());
    let (bots, deadlines) = app.start_bot_threads(rollover.as_ref(), home.as_ref())?;
    let probe = webhook
        .as_ref()
        .map(|webhook| Probe::new(webhook.address, &app.probe_route, config.tls));
    app.start_watchdog(probe, deadlines)?;

    let registrar = Arc::new(Registrar {
        api: app.api.clone(),
        allowed_updates: app.allowed_updates,
        bots,
    });
    let (identity, served) = match webhook {
        Some(webhook) => {
            let status = Arc::clone(&app.status);
            let identity = Identity::new(config, webhook.prepared, Arc::clone(&registrar), status);
            (Some(identity), Some((app.edge(rollover), webhook.listener)))
        }
        None => (None, None),
    };
    let changeover = ChangeOver::begin(
        config,
        identity,
        &registrar,
        Arc::clone(&app.status),
        Arc::clone(&app.arrivals),
    );
    let supervised = Supervised {
        events: received,
        changeover,
        registrar,
    };
    serve(&app, served, supervised)?;

    if let Some(home) = home {
        home.end();
    }
    let _ = fs::remove_file(&app.socket);
    Ok(())
}

fn log_proxy(config: &Config) {
    if let Some(proxy) = &config.proxy {
        log::info!("Calls to the Bot API go through the proxy {proxy}.");
    }
}

/// Makes the folder that all of ours lies in, for this user alone.
fn make_own_folder(config: &Config) -> Result<(), RunError> {
    let Some(folder) = &config.own_folder else {
        return Ok(());
    };
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(|error| {
        RunError::Config(format!(
            "Cannot create the folder {}: {error}. Set XDG_STATE_HOME to a folder where this user can write, or \
             write a settings file.",
            folder.display()
        ))
    })
}
