//! The home's watcher, a thread: it finds this home's address, keeps the router's mapping, and
//! reports each move.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use ring::digest;

use super::address::{self, AddressError, AddressTracker};
use super::route;
use super::router::Router;
use super::services::Services;
use crate::config::{Config, PublicHost};
use crate::network::is_reserved;
use crate::secret::Secret;
use crate::status::facts::Status;

/// The time between two looks at the kernel's routes, which cost little.
const ROUTE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the end waits until the mapping is given back to the router.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// A hint for the thread.
pub(crate) enum Hint {
    /// Something may have changed.
    CheckNow,
    /// The program ends.
    End,
}

/// What the thread has found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HomeNews {
    /// The home has another address.
    Moved(Ipv4Addr),
    /// Whether the provider shares one address among customers (CGNAT).
    Shared(bool),
    /// The way to the router, or its mapping, has changed, or is as it should be again.
    Changed,
}

/// Why the thread looks again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Time,
    Hint,
    Routes,
}

/// The watcher's thread, as others see it.
pub(crate) struct HomeWatch {
    hints: Sender<Hint>,
    ended: Receiver<()>,
}

impl HomeWatch {
    /// Begins to watch what the settings want watched; None when that is nothing. `listening` is
    /// the port here, `last` the address that was used last; `tell` gets the news.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(
        config: &Config,
        listening: u16,
        last: Option<Ipv4Addr>,
        status: Arc<Status>,
        tell: impl Fn(HomeNews) + Send + 'static,
    ) -> io::Result<Option<Self>> {
        let is_address = config.public_host.address().is_some();
        if !config.tls || (is_address && !config.port_mapping) {
            return Ok(None);
        }

        let mapping = if config.port_mapping {
            Some((config.public_port, listening))
        } else {
            None
        };
        let host = config.public_host.clone();
        let urls = config.address_services.clone();
        let interval = config.watch_interval;
        let router = Router::new(nonce(config), interval)?;

        let (hints, hinted) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let watch = move || {
            let mut watcher = Watcher {
                host,
                mapping,
                services: Services::new(&urls),
                router,
                tracker: AddressTracker::new(last, interval),
                elsewhere: None,
                is_mapped: None,
                is_shared: None,
                status,
                interval,
            };
            watcher.run(&hinted, &tell);
            let _ = end.send(());
        };
        thread::Builder::new().name("home".into()).spawn(watch)?;
        Ok(Some(Self { hints, ended }))
    }

    /// Where to send a hint that something may have changed.
    pub(crate) fn hints(&self) -> Sender<Hint> {
        self.hints.clone()
    }

    /// Ends the thread, which gives the router its mapping back; waits for that at most 3 s.
    pub(crate) fn end(self) {
        let _ = self.hints.send(Hint::End);
        let _ = self.ended.recv_timeout(RELEASE_TIMEOUT);
    }
}

/// What a look at the home found.
enum HomeState {
    Well,
    Bad(String),
    /// Nothing certain: the state from before stays.
    Unknown,
}

/// What the thread knows, from one look to the next.
struct Watcher {
    host: PublicHost,
    /// The router's port and ours, if the router is to forward the one to the other.
    mapping: Option<(u16, u16)>,
    services: Services,
    router: Router,
    tracker: AddressTracker,
    /// The home's address at the last look, if the DNS name led somewhere else then.
    elsewhere: Option<Ipv4Addr>,
    /// Whether the router forwarded the port at the last look; None when it was not asked.
    is_mapped: Option<bool>,
    /// Whether the provider shares its address, as it was told last.
    is_shared: Option<bool>,
    status: Arc<Status>,
    interval: Duration,
}

impl Watcher {
    /// Looks again and again until the program ends.
    fn run(&mut self, hints: &Receiver<Hint>, tell: &impl Fn(HomeNews)) {
        let mut cause = Cause::Time;
        loop {
            let routes = route::table();
            let mut pause = self.interval;
            let was_mapped = self.is_mapped;
            match self.look(&routes, &mut pause, tell) {
                // The status says whether the reason is a new one.
                HomeState::Bad(reason) if self.status.home(Some(reason.clone())) => {
                    log::warn!("Home network: {reason}.");
                }
                HomeState::Well if self.status.home(None) => {
                    log::info!("Home network: the problem is solved.");
                }
                _ => {}
            }

            // A router that was reset has forgotten the mapping: now it has it again.
            let is_mapped_again =
                self.is_mapped == Some(true) && (was_mapped == Some(false) || cause == Cause::Hint);
            if is_mapped_again || cause == Cause::Routes {
                tell(HomeNews::Changed);
            }

            let soon = self.interval / 10;
            if self.tracker.is_unsure() || self.elsewhere.is_some() {
                pause = soon;
            }
            // Whatever the router says of its lease, nobody is asked more often than this.
            let Some(next) = wait(hints, &routes, soon, pause.max(soon)) else {
                return self.router.release();
            };
            cause = next;
        }
    }

    /// One look. `pause` is shortened to when the router's mapping must be renewed.
    fn look(&mut self, routes: &str, pause: &mut Duration, tell: &impl Fn(HomeNews)) -> HomeState {
        let gateway = route::gateway(routes);
        let forwarded = match self.mapping {
            Some((public, local)) => Some(self.router.forward(gateway, public, local)),
            None => None,
        };
        self.is_mapped = forwarded.as_ref().map(Result::is_ok);

        let router = self.router.address(gateway);
        if let Some(router) = router {
            self.share(address::is_shared(router), tell);
        }

        let look = match self.host.clone() {
            PublicHost::Auto => self.follow(router, tell),
            PublicHost::Given(host) => match host.parse() {
                Ok(address) => compare_address(router, address),
                Err(_) => self.compare_name(&host, router),
            },
        };

        match (look, forwarded) {
            // A wrong address comes first: a port that nobody can reach is no use.
            (HomeState::Bad(reason), _) => HomeState::Bad(reason),
            (_, Some(Err(error))) => HomeState::Bad(format!("port_mapping: {error}")),
            (look, Some(Ok(lease))) => {
                *pause = lease.min(*pause);
                look
            }
            (look, None) => look,
        }
    }

    /// Tells whether the provider shares its address, when that is news.
    fn share(&mut self, is_shared: bool, tell: &impl Fn(HomeNews)) {
        if self.is_shared.replace(is_shared) != Some(is_shared) {
            tell(HomeNews::Shared(is_shared));
        }
    }

    /// Follows the home's address, where the settings leave it to us.
    fn follow(&mut self, router: Option<Ipv4Addr>, tell: &impl Fn(HomeNews)) -> HomeState {
        // What the router confirms need not be asked of anyone else.
        let is_known = router.is_some() && router == self.tracker.current();
        let agreed = if is_known {
            address::agree(router, [])
        } else {
            address::agree(router, self.services.ask())
        };

        match agreed {
            Ok(address) => {
                if router.is_none() {
                    self.share(false, tell);
                }
                if self.tracker.observe(address, Instant::now()) {
                    tell(HomeNews::Moved(address));
                }
                translated(router, address)
            }
            // The old address is as good as any until another one is known.
            Err(AddressError::NoAnswer) if self.tracker.current().is_some() => HomeState::Unknown,
            Err(error) => {
                if let AddressError::Reserved(address) = error {
                    self.share(address::is_shared(address), tell);
                }
                HomeState::Bad(error.to_string())
            }
        }
    }

    /// Compares where a name leads with where this home is.
    fn compare_name(&mut self, name: &str, router: Option<Ipv4Addr>) -> HomeState {
        let here = match address::agree(router, self.services.ask()) {
            Ok(here) => here,
            Err(error @ AddressError::Reserved(_)) => return HomeState::Bad(error.to_string()),
            Err(_) => return HomeState::Unknown,
        };

        let Ok(found) = (name, 0).to_socket_addrs() else {
            return HomeState::Unknown;
        };
        let there: Vec<_> = found.filter_map(v4).collect();
        let [first, ..] = there[..] else {
            return HomeState::Bad(format!(
                "{name} has no IPv4 address, but Telegram needs one: add an A record to the DNS"
            ));
        };
        // The home's own DNS may know the name by another address than the internet does.
        if there.iter().all(Ipv4Addr::is_private) {
            return HomeState::Unknown;
        }
        if there.contains(&here) {
            self.elsewhere = None;
            return translated(router, here);
        }

        // The DNS takes its time after a move: only the second look in a row counts.
        let before = self.elsewhere.replace(here);
        if before == Some(here) {
            return HomeState::Bad(format!(
                "{name} has the address {first}, but this home's address is {here}: check your dynamic DNS"
            ));
        }
        translated(router, here)
    }
}

/// Bad when something between the router and the internet changes addresses.
fn translated(router: Option<Ipv4Addr>, address: Ipv4Addr) -> HomeState {
    match address::translation(router, address) {
        Some(reason) => HomeState::Bad(reason),
        None => HomeState::Well,
    }
}

/// Compares an address of the settings with the router's.
fn compare_address(router: Option<Ipv4Addr>, address: Ipv4Addr) -> HomeState {
    match router {
        Some(router) if router != address && !is_reserved(router) => HomeState::Bad(format!(
            "public_host is {address}, but the router's own address is {router}: set public_host = \"{router}\" or \
             \"auto\""
        )),
        router => translated(router, address),
    }
}

/// The nonce of PCP: it is known to us alone, and the same at each start.
fn nonce(config: &Config) -> [u32; 3] {
    let secret = match config.bots.first() {
        Some(bot) => bot.token.secret_token(),
        None => Secret::default(),
    };
    let text = format!("pihook PCP {}", secret.expose());
    let digest = digest::digest(&digest::SHA256, text.as_bytes());

    let mut nonce = [0; 3];
    for (number, bytes) in nonce.iter_mut().zip(digest.as_ref().as_chunks().0) {
        *number = u32::from_be_bytes(*bytes);
    }
    nonce
}

fn v4(address: SocketAddr) -> Option<Ipv4Addr> {
    match address {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    }
}

/// Waits for `pause`, or until something may have changed, though no less than `soon`. Returns why
/// it ended; None when the program ends.
fn wait(hints: &Receiver<Hint>, routes: &str, soon: Duration, pause: Duration) -> Option<Cause> {
    let start = Instant::now();
    let mut end = start + pause;
    let mut cause = Cause::Time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match hints.recv_timeout(left.min(ROUTE_INTERVAL)) {
            Ok(Hint::End) | Err(RecvTimeoutError::Disconnected) => return None,
            Ok(Hint::CheckNow) => {
                end = end.min(start + soon);
                cause = Cause::Hint;
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() >= end => return Some(cause),
            Err(RecvTimeoutError::Timeout) if route::table() != routes => {
                end = end.min(start + soon);
                cause = Cause::Routes;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
