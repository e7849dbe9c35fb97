//! The slots for connections, and which connection is evicted when there are too many. Pure.
//!
//! Every allowed peer can connect, and to connect costs nothing. So a connection waits until its
//! `ClientHello` is there, and then gets a slot among those of its kind (known peers, strangers).
//!
//! - Where too many wait, chance decides which one is evicted. An attacker could foresee any other
//!   rule; and the oldest is often the one whose `ClientHello` is about to come.
//! - Where too many of a kind have a slot, one is evicted that has not finished its handshake, or
//!   else one that has not shown path and secret. Again chance decides among equals, so a peer that
//!   holds many connections mostly loses its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Connections of each kind that may wait for their `ClientHello`. It takes a round trip: under
/// 1,000 connections a second that never send one, four of five others outlive 50 ms.
pub(crate) const MAX_WAITING: usize = 256;
/// A handshake that is no older than this may be about to finish.
const HANDSHAKE_TIME: Duration = Duration::from_millis(250);

/// How many connections there may be at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From peers that the settings name, or that have shown path and secret.
    pub known: usize,
    /// From all others; there are some where everyone may connect.
    pub strangers: usize,
    /// From one stranger's address, if it is not one that many can share.
    pub address: usize,
    /// All together.
    pub all: usize,
}

/// The open connections; `T` is what ends one.
pub struct Slots<T> {
    limits: Limits,
    /// The number of the latest connection.
    last: u64,
    /// By number, so the oldest first.
    open: BTreeMap<u64, OpenConnection<T>>,
}

struct OpenConnection<T> {
    address: IpAddr,
    is_stranger: bool,
    stage: Stage,
    /// When it reached this stage.
    since: Instant,
    end: T,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It is connected, and nothing has come.
    Waiting,
    /// A whole `ClientHello` has come; where TLS ends before us, a whole request head.
    HelloReceived,
    /// The TLS handshake is finished.
    Encrypted,
    /// Path and secret were shown.
    Authenticated,
}

/// The answer to a connection that needs a slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Slot<T> {
    /// There is a free slot.
    Free,
    /// The caller has to end this other connection. Its slot is free already.
    Evict(T),
    /// There is no slot, and no connection that may be evicted.
    Full,
}

/// Returns a random number below its argument, which is never 0 here.
pub(crate) type RandomBelow = fn(usize) -> usize;

impl<T> Slots<T> {
    /// No connection is open yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            last: 0,
            open: BTreeMap::new(),
        }
    }

    /// Looks for a slot in which a new connection can wait.
    pub(crate) fn find(&mut self, is_stranger: bool, random_below: RandomBelow) -> Slot<T> {
        let waits = |open: &OpenConnection<T>| {
            open.stage == Stage::Waiting && open.is_stranger == is_stranger
        };
        if self.count(waits) >= MAX_WAITING {
            return self.evict_one(waits, random_below);
        }

        if self.open.len() < self.limits.all {
            return Slot::Free;
        }

        // For a known peer, too, a stranger is evicted if there is one.
        let evicts_stranger = is_stranger || self.count(|open| open.is_stranger) > 0;
        self.evict_one(|open| open.is_stranger == evicts_stranger, random_below)
    }

    /// Frees the slot of a connection that has not shown path and secret: for when the machine has
    /// run out of something. The caller ends the connection.
    pub(crate) fn evict(&mut self, random_below: RandomBelow) -> Option<T> {
        match self.evict_one(|_| true, random_below) {
            Slot::Evict(end) => Some(end),
            Slot::Free | Slot::Full => None,
        }
    }

    /// Adds a connection for which there is a slot. Its number comes from [`Slots::next_number`].
    pub(crate) fn insert(
        &mut self,
        number: u64,
        address: IpAddr,
        is_stranger: bool,
        now: Instant,
        end: T,
    ) {
        let connection = OpenConnection {
            address: origin(address),
            is_stranger,
            stage: Stage::Waiting,
            since: now,
            end,
        };
        self.open.insert(number, connection);
    }

    /// The number of the next connection.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Moves a waiting connection, whose `ClientHello` has come, to a slot among those of its kind.
    pub(crate) fn hello_received(
        &mut self,
        number: u64,
        now: Instant,
        random_below: RandomBelow,
    ) -> Slot<T> {
        let Some(new) = self.open.get(&number) else {
            return Slot::Free;
        };
        // With TLS ended before us, each request of a connection says this again.
        if new.stage != Stage::Waiting {
            return Slot::Free;
        }

        let address = new.address;
        let is_stranger = new.is_stranger;
        let is_like = |open: &OpenConnection<T>| {
            open.stage > Stage::Waiting && open.is_stranger == is_stranger
        };
        let is_of_address = |open: &OpenConnection<T>| is_like(open) && open.address == address;
        let limit = if is_stranger {
            self.limits.strangers
        } else {
            self.limits.known
        };

        let slot = if is_stranger && self.count(is_of_address) >= self.limits.address {
            self.evict_slow_or_any(is_of_address, now, random_below)
        } else if self.count(is_like) >= limit {
            self.evict_slow_or_any(is_like, now, random_below)
        } else {
            Slot::Free
        };

        if !matches!(slot, Slot::Full) {
            self.advance(number, Stage::HelloReceived, now);
        }
        slot
    }

    /// Notes how far a connection has come. A peer that has shown path and secret is no stranger
    /// any more.
    pub(crate) fn advance(&mut self, number: u64, stage: Stage, now: Instant) {
        let Some(open) = self.open.get_mut(&number) else {
            return;
        };
        // Every request shows path and secret again; the first one counts.
        if open.stage >= stage {
            return;
        }
        open.stage = stage;
        open.since = now;
        if stage == Stage::Authenticated {
            open.is_stranger = false;
        }
    }

    fn count(&self, is_meant: impl Fn(&OpenConnection<T>) -> bool) -> usize {
        self.open.values().filter(|open| is_meant(open)).count()
    }

    /// Evicts one whose handshake takes long, or else any of those that are meant. A peer that only
    /// finishes handshakes, all the time, would otherwise keep out all others, whose handshakes are
    /// younger.
    fn evict_slow_or_any(
        &mut self,
        is_meant: impl Fn(&OpenConnection<T>) -> bool,
        now: Instant,
        random_below: RandomBelow,
    ) -> Slot<T> {
        let is_slow = |open: &OpenConnection<T>| {
            let age = now.saturating_duration_since(open.since);
            open.stage == Stage::HelloReceived && age > HANDSHAKE_TIME && is_meant(open)
        };
        match self.evict_among(is_slow, random_below) {
            Slot::Evict(end) => Slot::Evict(end),
            Slot::Free | Slot::Full => self.evict_among(is_meant, random_below),
        }
    }

    /// Evicts one of those that have come the least far.
    fn evict_one(
        &mut self,
        is_meant: impl Fn(&OpenConnection<T>) -> bool,
        random_below: RandomBelow,
    ) -> Slot<T> {
        let meant = self.open.values().filter(|open| is_meant(open));
        let Some(least) = meant.map(|open| open.stage).min() else {
            return Slot::Full;
        };
        self.evict_among(|open| open.stage == least && is_meant(open), random_below)
    }

    /// Evicts a random one of those that are meant and have not shown path and secret.
    fn evict_among(
        &mut self,
        is_meant: impl Fn(&OpenConnection<T>) -> bool,
        random_below: RandomBelow,
    ) -> Slot<T> {
        let mut candidates = Vec::new();
        for (number, open) in &self.open {
            if open.stage < Stage::Authenticated && is_meant(open) {
                candidates.push(*number);
            }
        }
        if candidates.is_empty() {
            return Slot::Full;
        }

        let chosen = candidates[random_below(candidates.len())];
        match self.open.remove(&chosen) {
            Some(open) => Slot::Evict(open.end),
            None => Slot::Full,
        }
    }

    /// Frees the slot of a connection that has ended.
    pub(crate) fn release(&mut self, number: u64) {
        self.open.remove(&number);
    }
}

/// What counts as one address: an IPv6 network of 64 bits belongs to one peer.
fn origin(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let network = v6.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        known: 3,
        strangers: 4,
        address: 2,
        all: 7,
    };
    const TELEGRAM: &str = "149.154.167.1";
    const OLDEST: RandomBelow = |_| 0;
    const NEWEST: RandomBelow = |count| count - 1;

    struct Scene {
        slots: Slots<u64>,
        now: Instant,
        random_below: RandomBelow,
    }

    impl Scene {
        fn new(limits: Limits) -> Self {
            Self {
                slots: Slots::new(limits),
                now: Instant::now(),
                random_below: OLDEST,
            }
        }

        /// A new connection, which sends nothing. One that is evicted for it is named by its
        /// number.
        fn connect(&mut self, address: &str, is_stranger: bool) -> Slot<u64> {
            let slot = self.slots.find(is_stranger, self.random_below);
            if slot != Slot::Full {
                let number = self.slots.next_number();
                self.slots.insert(
                    number,
                    address.parse().unwrap(),
                    is_stranger,
                    self.now,
                    number,
                );
            }
            slot
        }

        /// A new connection with a `ClientHello`.
        fn hello(&mut self, address: &str, is_stranger: bool) -> Slot<u64> {
            match self.connect(address, is_stranger) {
                Slot::Free => {
                    self.slots
                        .hello_received(self.slots.last, self.now, self.random_below)
                }
                evicted => {
                    assert!(
                        [Slot::Free, Slot::Full].contains(&self.slots.hello_received(
                            self.slots.last,
                            self.now,
                            self.random_below
                        ))
                    );
                    evicted
                }
            }
        }

        /// A new connection with a finished handshake.
        fn handshake(&mut self, address: &str, is_stranger: bool) -> Slot<u64> {
            let slot = self.hello(address, is_stranger);
            match slot {
                Slot::Full => self.slots.release(self.slots.last),
                _ => self
                    .slots
                    .advance(self.slots.last, Stage::Encrypted, self.now),
            }
            slot
        }

        fn authenticate(&mut self, number: u64) {
            self.slots.advance(number, Stage::Authenticated, self.now);
        }
    }

    /// Limits of each kind, without one for all together.
    const ROOMY: Limits = Limits {
        all: 10_000,
        ..LIMITS
    };

    #[test]
    fn a_strangers_flood_evicts_his_own_connections_first() {
        let mut scene = Scene::new(ROOMY);
        assert_eq!(
            [
                scene.handshake("1.1.1.1", true),
                scene.handshake("1.1.1.1", true)
            ],
            [Slot::Free, Slot::Free]
        );
        assert_eq!(scene.handshake("2.2.2.2", true), Slot::Free);
        // Two of this address are there, and 1 is the older.
        assert_eq!(scene.handshake("1.1.1.1", true), Slot::Evict(1));
        assert_eq!(scene.handshake("1.1.1.1", true), Slot::Evict(2));
        assert_eq!(scene.handshake("2.2.2.2", true), Slot::Free);
        // Four strangers are there, and the first of 2.2.2.2 is the oldest.
        assert_eq!(scene.handshake("3.3.3.3", true), Slot::Evict(3));
        scene.random_below = NEWEST;
        assert_eq!(
            scene.handshake("4.4.4.4", true),
            Slot::Evict(7),
            "chance decides"
        );
    }

    #[test]
    fn strangers_and_known_peers_do_not_evict_each_other() {
        let mut scene = Scene::new(ROOMY);
        for last in 0..20 {
            assert_ne!(scene.handshake(&format!("1.1.1.{last}"), true), Slot::Full);
        }
        for _ in 0..LIMITS.known {
            assert_eq!(scene.handshake(TELEGRAM, false), Slot::Free);
        }
        // One known address may have all of it.
        assert_eq!(scene.handshake(TELEGRAM, false), Slot::Evict(21));
        assert_eq!(scene.handshake("9.9.9.9", true), Slot::Evict(17));
    }

    #[test]
    fn an_authenticated_connection_is_never_evicted() {
        let mut scene = Scene::new(ROOMY);
        assert_eq!(scene.handshake("1.1.1.1", true), Slot::Free);
        scene.authenticate(1);
        for _ in 0..20 {
            assert_ne!(scene.handshake("1.1.1.1", true), Slot::Evict(1));
        }
        let mut scene = Scene::new(LIMITS);
        for number in 1..=3 {
            scene.handshake(TELEGRAM, false);
            scene.authenticate(number);
        }
        assert_eq!(scene.handshake(TELEGRAM, false), Slot::Full);
        scene.slots.release(2);
        assert_eq!(scene.handshake(TELEGRAM, false), Slot::Free);
        assert_eq!(scene.slots.evict(OLDEST), Some(5));
        assert_eq!(scene.slots.evict(OLDEST), None);
    }

    #[test]
    fn all_connections_together_have_a_limit() {
        let mut scene = Scene::new(LIMITS);
        for number in 1..100 {
            scene.handshake(&format!("1.1.1.{number}"), true);
            scene.authenticate(scene.slots.last);
        }
        assert_eq!(scene.slots.open.len(), LIMITS.all);
        assert_eq!(scene.connect("2.2.2.2", true), Slot::Full);
    }

    #[test]
    fn connections_that_send_nothing_evict_only_each_other() {
        let mut scene = Scene::new(ROOMY);
        for _ in 0..LIMITS.known {
            assert_eq!(scene.hello(TELEGRAM, false), Slot::Free);
        }
        scene.handshake("1.1.1.1", true);
        for _ in 0..MAX_WAITING {
            assert_eq!(
                [
                    scene.connect(TELEGRAM, false),
                    scene.connect("1.1.1.1", true)
                ],
                [Slot::Free, Slot::Free]
            );
        }
        // 1 to 3 and 4 have come further; from 5 on the known and the strangers alternate.
        assert_eq!(
            [
                scene.connect(TELEGRAM, false),
                scene.connect("2.2.2.2", true)
            ],
            [Slot::Evict(5), Slot::Evict(6)]
        );
        scene.random_below = NEWEST;
        assert_eq!(
            scene.connect(TELEGRAM, false),
            Slot::Evict(4 + 2 * MAX_WAITING as u64 + 1)
        );
    }

    #[test]
    fn a_slow_handshake_is_evicted_first_and_a_young_one_is_not() {
        let mut scene = Scene::new(ROOMY);
        scene.handshake(TELEGRAM, false);
        scene.hello(TELEGRAM, false);
        scene.hello(TELEGRAM, false);
        assert_eq!(
            scene.hello(TELEGRAM, false),
            Slot::Evict(1),
            "all are young: 1 is the oldest"
        );
        scene.now += HANDSHAKE_TIME + Duration::from_millis(1);
        scene.slots.advance(2, Stage::Encrypted, scene.now);
        // An earlier stage that is noted late changes nothing.
        scene.slots.advance(2, Stage::HelloReceived, scene.now);
        assert_eq!(
            scene.hello(TELEGRAM, false),
            Slot::Evict(3),
            "2 has finished"
        );
        assert_eq!(scene.hello(TELEGRAM, false), Slot::Evict(4));
        scene.random_below = NEWEST;
        assert_eq!(scene.hello(TELEGRAM, false), Slot::Evict(6));
    }

    #[test]
    fn where_descriptors_are_few_strangers_are_evicted_first() {
        let mut scene = Scene::new(Limits { all: 3, ..LIMITS });
        scene.handshake("1.1.1.1", true);
        scene.connect("2.2.2.2", true);
        assert_eq!(scene.handshake(TELEGRAM, false), Slot::Free);
        assert_eq!(scene.handshake("3.3.3.3", true), Slot::Evict(2));
        assert_eq!(
            [
                scene.handshake(TELEGRAM, false),
                scene.handshake(TELEGRAM, false)
            ],
            [Slot::Evict(1), Slot::Evict(4)]
        );
        assert_eq!(scene.handshake(TELEGRAM, false), Slot::Evict(3));
        assert_eq!(scene.connect("1.1.1.1", true), Slot::Full);
    }

    #[test]
    fn a_connection_that_has_ended_gets_no_slot() {
        let mut scene = Scene::new(ROOMY);
        scene.connect(TELEGRAM, false);
        scene.slots.release(1);
        assert_eq!(scene.slots.hello_received(1, scene.now, OLDEST), Slot::Free);
        assert_eq!(scene.slots.open.len(), 0);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let mut scene = Scene::new(ROOMY);
        assert_eq!(
            [
                scene.handshake("2001:db8::1", true),
                scene.handshake("2001:db8::2", true)
            ],
            [Slot::Free, Slot::Free]
        );
        assert_eq!(scene.handshake("2001:db8::ffff:3", true), Slot::Evict(1));
        assert_eq!(scene.handshake("2001:db8:0:1::1", true), Slot::Free);
    }
}
