//! The port that the bot listens on.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::error::{RunError, system};
use crate::config::{Config, Delivery, PLAIN_NEEDS_PRIVATE};
use crate::network;
use crate::system::{port, systemd};

/// The listener of systemd's socket unit, or one of our own; none where the bots only poll.
pub(super) fn listen(config: &Config) -> Result<Option<TcpListener>, RunError> {
    let given = systemd::listener().map_err(system("Cannot use the socket from systemd"))?;
    if config.delivery == Delivery::Polling {
        if given.is_some() {
            log::warn!(
                "The bots use polling, but systemd keeps a port open. Close the port: sudo systemctl disable --now pihook.socket"
            );
        }
        return Ok(None);
    }
    let listener = match given {
        Some(listener) => listener,
        None => {
            TcpListener::bind(config.listen).map_err(|error| not_bound(config.listen, &error))?
        }
    };
    Ok(Some(listener))
}

/// The error for a port that the bot cannot listen on, with what to do.
fn not_bound(listen: SocketAddr, error: &io::Error) -> RunError {
    let port = listen.port();
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let by = port::owners(port)
                .words
                .unwrap_or("A program of another user (run `sudo ss -ltnp` to see it)".to_owned());
            format!("{by} uses the port. Stop that program, or set another port in `listen`.")
        }
        io::ErrorKind::PermissionDenied => format!(
            "Only root can use ports below 1024. Set listen = \"0.0.0.0:8443\", and let the router forward port {port} to 8443."
        ),
        io::ErrorKind::AddrNotAvailable => {
            "This machine does not have the address. Set listen = \"0.0.0.0:8443\".".into()
        }
        _ => return RunError::System(format!("Cannot listen on {listen}: {error}.")),
    };
    RunError::System(format!("Cannot listen on {listen}: {error}. {advice}"))
}

/// Where `listener` listens. Without TLS, it must be a private address.
pub(super) fn address(listener: &TcpListener, config: &Config) -> Result<SocketAddr, RunError> {
    let address = listener
        .local_addr()
        .map_err(system("Cannot use the listening socket"))?;
    if !config.tls && !network::is_private(address.ip()) {
        return Err(RunError::Config(format!(
            "systemd listens on {address}, but the address {PLAIN_NEEDS_PRIVATE}. Set ListenStream=127.0.0.1:{} in pihook.socket.",
            address.port()
        )));
    }
    // Only a socket from systemd can have another port. Port 0 in `listen` means any port.
    if ![0, address.port()].contains(&config.listen.port()) {
        log::warn!(
            "systemd listens on port {}, so `listen` has no effect. Set ListenStream= in pihook.socket instead.",
            address.port()
        );
    }
    Ok(address)
}
