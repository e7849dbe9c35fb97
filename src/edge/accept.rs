//! The only code that meets the internet: accepts, filters, and gives each connection a [`Session`]
//! that ends TLS and lets one whole, bounded request at a time through.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use super::connection::{Session, Shared, random_below, stop_requested};
use super::slots::Slot;
use crate::network::Network;
use crate::system::log_limit::LogLimit;

/// Before accepting again, when something has run out (file descriptors, say).
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

static NOT_ACCEPTED: LogLimit = LogLimit::new(1);
static TOO_MANY: LogLimit = LogLimit::new(1);
static FROM_HOME: LogLimit = LogLimit::new(1);

/// Who may connect, and what is behind it.
pub struct Edge {
    /// Who may connect.
    pub allow_from: Vec<Network>,
    /// Who of them is no stranger.
    pub known: Vec<Network>,
    /// What the connections share.
    pub shared: Arc<Shared>,
}

impl Edge {
    /// Serves `listener` until `stop` is true, and then what is in flight to its end.
    pub async fn serve(self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        let mut stopped = stop.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        self.admit(stream, peer, &stop, &mut tasks);
                        // If another one had to go, it goes before the next one comes.
                        yield_now().await;
                    }
                    Err(why) => {
                        NOT_ACCEPTED.warn(format_args!("A connection could not be accepted: {why}."));
                        if is_scarcity(&why) {
                            if let Some(evicted) = self.shared.slots().evict(random_below) {
                                evicted.abort();
                            }
                            sleep(ACCEPT_RETRY_INTERVAL).await;
                        }
                    }
                },
                Some(_) = tasks.join_next() => {}
                () = stop_requested(&mut stopped) => break,
            }
        }
        drop(listener);
        while tasks.join_next().await.is_some() {}
    }

    fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        stop: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) {
        let address = peer.ip().to_canonical();
        let among = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        // Our own probe calls from the address that it calls. So can every program here: it is a
        // stranger at the limits.
        let ours = stream
            .local_addr()
            .is_ok_and(|local| local.ip().to_canonical() == address);
        if !ours && !among(&self.allow_from) {
            // Closed without a word: the internet is full of them.
            if is_at_home(address) {
                self.shared.arrivals.closed_from_home(address);
                FROM_HOME.warn(format_args!(
                    "Connection from {address} closed: this address is not in allow_from. If {address} is your \
                     router, and it puts its own address in place of Telegram's, add \"{address}\" to allow_from."
                ));
            }
            return;
        }
        let stranger = !among(&self.known);
        let mut slots = self.shared.slots();
        match slots.find(stranger, random_below) {
            Slot::Free => {}
            Slot::Evict(evicted) => {
                evicted.abort();
                TOO_MANY.warn(format_args!(
                    "Too many connections: pihook closed another connection to accept one from {address}."
                ));
            }
            Slot::Full => {
                return TOO_MANY.warn(format_args!(
                    "Too many connections: pihook closed the connection from {address}."
                ));
            }
        }
        let number = slots.next_number();
        let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
        let end = tasks.spawn(async move {
            let session = Session {
                shared: &shared,
                number,
                stranger,
                is_local: ours,
            };
            // A broken connection needs nothing from us: Telegram brings its update back.
            let _ = session.serve(stream, stop).await;
        });
        slots.take(number, address, stranger, Instant::now(), end);
    }
}

/// Whether something has run out here; all else that accepting can fail with is over with the one
/// connection.
fn is_scarcity(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw);
    matches!(
        number,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

/// Whether this is an address of a home network, which no call from the internet has.
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
    fn a_router_that_rewrites_sources_is_told_by_its_address() {
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
