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
use crate::status::facts::Status;

/// Between two looks at the kernel's routes, which cost little.
const ROUTE_INTERVAL: Duration = Duration::from_secs(5);
/// For giving the mapping back to the router at the end.
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

/// The thread that watches.
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
        let is_address = matches!(&config.public_host, PublicHost::Given(host) if host.parse::<Ipv4Addr>().is_ok());
        if !config.tls || (is_address && !config.port_mapping) {
            return Ok(None);
        }
        let (hints, hinted) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let (host, urls, interval) = (
            config.public_host.clone(),
            config.address_services.clone(),
            config.watch_interval,
        );
        let mapping = config
            .port_mapping
            .then_some((config.public_port, listening));
        let router = Router::new(nonce(config), interval)?;
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

    /// Takes hints that something may have changed.
    pub(crate) fn hints(&self) -> Sender<Hint> {
        self.hints.clone()
    }

    /// Ends it, and gives the router its mapping back.
    pub(crate) fn end(self) {
        let _ = self.hints.send(Hint::End);
        let _ = self.ended.recv_timeout(RELEASE_TIMEOUT);
    }
}

/// What a look at the home found.
enum HomeState {
    Well,
    Bad(String),
    /// Nothing certain: the state from before is kept.
    Unknown,
}

struct Watcher {
    host: PublicHost,
    /// The router's port, and ours.
    mapping: Option<(u16, u16)>,
    services: Services,
    router: Router,
    tracker: AddressTracker,
    /// Where the DNS name led at the last look, if that is not here.
    elsewhere: Option<Ipv4Addr>,
    /// Whether the router forwarded the port at the last look.
    is_mapped: Option<bool>,
    /// Whether the provider shares its address, as it was told last.
    is_shared: Option<bool>,
    status: Arc<Status>,
    interval: Duration,
}

impl Watcher {
    fn run(&mut self, hints: &Receiver<Hint>, tell: &impl Fn(HomeNews)) {
        let mut cause = Cause::Time;
        loop {
            let routes = route::table();
            let mut pause = self.interval;
            let was_mapped = self.is_mapped;
            match self.look(&routes, &mut pause, tell) {
                HomeState::Bad(why) if self.status.home(Some(why.clone())) => {
                    log::warn!("Home network: {why}.");
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
        let forwarded = self
            .mapping
            .map(|(public, local)| self.router.forward(gateway, public, local));
        self.is_mapped = forwarded.as_ref().map(Result::is_ok);
        let router = self.router.address(gateway);
        if let Some(router) = router {
            self.share(address::is_shared(router), tell);
        }
        let look = match self.host.clone() {
            PublicHost::Auto => self.follow(router, tell),
            PublicHost::Given(host) => match host.parse() {
                Ok(address) => given(router, address),
                Err(_) => self.compare(&host, router),
            },
        };
        match (look, forwarded) {
            // A port that nobody can reach is no use, whatever the router says of it.
            (HomeState::Bad(why), _) => HomeState::Bad(why),
            (_, Some(Err(why))) => HomeState::Bad(format!("port_mapping: {why}")),
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

    fn follow(&mut self, router: Option<Ipv4Addr>, tell: &impl Fn(HomeNews)) -> HomeState {
        // What the router confirms need not be asked of anyone else.
        let is_known = router.is_some() && router == self.tracker.current();
        let outside = (!is_known).then(|| self.services.ask());
        match address::agree(router, outside.into_iter().flatten()) {
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
            Err(why) => {
                if let AddressError::Reserved(address) = why {
                    self.share(address::is_shared(address), tell);
                }
                HomeState::Bad(why.to_string())
            }
        }
    }

    /// Compares where a name leads with where this home is.
    fn compare(&mut self, name: &str, router: Option<Ipv4Addr>) -> HomeState {
        let here = match address::agree(router, self.services.ask()) {
            Ok(here) => here,
            Err(why @ AddressError::Reserved(_)) => return HomeState::Bad(why.to_string()),
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
        let was = std::mem::replace(
            &mut self.elsewhere,
            (!there.contains(&here)).then_some(here),
        );
        // The DNS takes its time after a move.
        if self.elsewhere.is_some() && was == self.elsewhere {
            return HomeState::Bad(format!(
                "{name} has the address {first}, but this home's address is {here}: check your dynamic DNS"
            ));
        }
        translated(router, here)
    }
}

fn translated(router: Option<Ipv4Addr>, address: Ipv4Addr) -> HomeState {
    address::translation(router, address).map_or(HomeState::Well, HomeState::Bad)
}

/// Compares an address of the settings with the router's.
fn given(router: Option<Ipv4Addr>, address: Ipv4Addr) -> HomeState {
    match router {
        Some(router) if router != address && !is_reserved(router) => HomeState::Bad(format!(
            "public_host is {address}, but the router's own address is {router}: set public_host = \"{router}\" or \
             \"auto\""
        )),
        router => translated(router, address),
    }
}

/// Known to us alone, and the same at each start.
fn nonce(config: &Config) -> [u32; 3] {
    let secret = config
        .bots
        .first()
        .map(|bot| bot.token.secret_token())
        .unwrap_or_default();
    let digest = digest::digest(
        &digest::SHA256,
        format!("pihook PCP {}", secret.expose()).as_bytes(),
    );
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

/// Waits for `pause`, or until something may have changed, though no less than `soon`. Why it
/// ended; None when all is to end.
fn wait(hints: &Receiver<Hint>, routes: &str, soon: Duration, pause: Duration) -> Option<Cause> {
    let start = Instant::now();
    let (mut until, mut cause) = (start + pause, Cause::Time);
    loop {
        match hints.recv_timeout(
            until
                .saturating_duration_since(Instant::now())
                .min(ROUTE_INTERVAL),
        ) {
            Ok(Hint::End) | Err(RecvTimeoutError::Disconnected) => return None,
            Ok(Hint::CheckNow) => {
                until = until.min(start + soon);
                cause = Cause::Hint;
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() >= until => return Some(cause),
            Err(RecvTimeoutError::Timeout) if route::table() != routes => {
                until = until.min(start + soon);
                cause = Cause::Routes;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
