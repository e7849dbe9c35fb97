//! Accepts connections, closes those that may not be here, and gives each other one a [`Session`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::sleep;

use super::connection::{Session, Shared, random_below, stop_requested};
use super::slots::{Slot, Slots};
use crate::network::Network;
use crate::system::log_limit::LogLimit;

/// Before accepting again, when the machine has run out of something (file descriptors, say).
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

static NOT_ACCEPTED: LogLimit = LogLimit::new(1);
static TOO_MANY: LogLimit = LogLimit::new(1);
static FROM_HOME: LogLimit = LogLimit::new(1);

/// The listener's allowlist, and what its connections share.
pub struct Edge {
    /// The networks that may connect.
    pub allow_from: Vec<Network>,
    /// Those of them whose peers are no strangers.
    pub known: Vec<Network>,
    /// What the connections share.
    pub shared: Arc<Shared>,
}

impl Edge {
    /// Serves `listener` until `stop` is true, and then waits for the open connections to end.
    pub async fn serve(self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        let mut stopped = stop.clone();

        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        self.admit(stream, peer, &stop, &mut tasks);
                        // The task of an evicted connection ends before the next accept.
                        yield_now().await;
                    }
                    Err(error) => self.accept_failed(&error).await,
                },
                Some(_) = tasks.join_next() => {}
                () = stop_requested(&mut stopped) => break,
            }
        }

        drop(listener);
        while tasks.join_next().await.is_some() {}
    }

    async fn accept_failed(&self, error: &io::Error) {
        NOT_ACCEPTED.warn(format_args!("A connection could not be accepted: {error}."));
        if !is_scarcity(error) {
            return;
        }

        let evicted = self.shared.slots().evict(random_below);
        if let Some(evicted) = evicted {
            evicted.abort();
        }
        sleep(ACCEPT_RETRY_INTERVAL).await;
    }

    /// Starts a session for a new connection, or closes it.
    fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        stop: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) {
        let address = peer.ip().to_canonical();
        // Our own probe connects from the address that it connects to. Every program on this
        // machine can do that too, so this does not make a peer known.
        let is_local = stream
            .local_addr()
            .is_ok_and(|local| local.ip().to_canonical() == address);
        if !is_local && !is_in(&self.allow_from, address) {
            self.not_allowed(address);
            return;
        }

        let is_stranger = !is_in(&self.known, address);
        let mut slots = self.shared.slots();
        if !make_room(&mut slots, address, is_stranger) {
            return;
        }

        let number = slots.next_number();
        let shared = Arc::clone(&self.shared);
        let stop = stop.clone();
        let end = tasks.spawn(async move {
            let session = Session {
                shared: &shared,
                number,
                is_stranger,
                is_local,
            };
            // A broken connection needs nothing from us: Telegram sends its update again.
            let _ = session.serve(stream, stop).await;
        });
        slots.insert(number, address, is_stranger, Instant::now(), end);
    }

    /// Notes that a connection from this address is closed. Only addresses of the home network are
    /// logged: the internet is full of the others.
    fn not_allowed(&self, address: IpAddr) {
        if !is_at_home(address) {
            return;
        }
        self.shared.reach.closed_from_home(address);
        FROM_HOME.warn(format_args!(
            "Connection from {address} closed: this address is not in allow_from. If {address} is your \
             router, and it puts its own address in place of Telegram's, add \"{address}\" to allow_from."
        ));
    }
}

/// Finds a slot for a new connection, and evicts another connection where there are too many. False
/// when the new one has to be closed.
fn make_room(slots: &mut Slots<AbortHandle>, address: IpAddr, is_stranger: bool) -> bool {
    match slots.find(is_stranger, random_below) {
        Slot::Free => true,
        Slot::Evict(evicted) => {
            evicted.abort();
            TOO_MANY.warn(format_args!(
                "Too many connections: pihook closed another connection to accept one from {address}."
            ));
            true
        }
        Slot::Full => {
            TOO_MANY.warn(format_args!(
                "Too many connections: pihook closed the connection from {address}."
            ));
            false
        }
    }
}

fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// Whether the machine has run out of something. Any other error concerns only the connection that
/// was not accepted.
fn is_scarcity(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw);
    matches!(
        number,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

/// Whether this is an address of a home network, which no connection from the internet has.
fn is_at_home(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_link_local_addresses_are_at_home() {
        for address in [
            "192.168.178.1",
            "10.0.0.138",
            "172.17.0.1",
            "169.254.1.1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(is_at_home(address.parse().unwrap()), "{address}");
        }
        for address in ["149.154.167.1", "172.32.0.1", "127.0.0.1", "2001:db8::1"] {
            assert!(!is_at_home(address.parse().unwrap()), "{address}");
        }
    }
}
