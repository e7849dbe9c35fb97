//! The slots for connections, and which connection must go when there are too many. Pure.
//!
//! Every allowed peer can connect, and to connect costs nothing. So a connection only waits until
//! its `ClientHello` is there, and then gets a slot among those of its kind. Where too many wait,
//! chance decides which one goes: the oldest would always be the one that was about to get through.
//! Where there are too many of a kind, one goes that has not finished its handshake, or else one
//! that has not shown path and secret; again by chance. So a peer that holds many connections loses
//! its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Connections that may wait, of each kind. A `ClientHello` takes a round trip: under 1,000
/// connections a second that never send one, four of five others outlive 50 ms.
pub(crate) const WAITING: usize = 256;
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
    last: u64,
    open: BTreeMap<u64, Open<T>>,
}

struct Open<T> {
    address: IpAddr,
    stranger: bool,
    stage: Stage,
    /// When it reached that.
    since: Instant,
    end: T,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It is connected, and nothing has come.
    Waiting,
    /// A whole `ClientHello` has come; where TLS ends before us, a whole request head.
    Greeted,
    /// The TLS handshake is finished.
    Encrypted,
    /// Path and secret were shown.
    Proven,
}

/// The answer to a connection that wants room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Slot<T> {
    /// There is room.
    Free,
    /// There is room when this connection is ended; its slot is free already.
    Evict(T),
    /// There is no room.
    Full,
}

/// A number below the one that it is given, as chance has it.
pub(crate) type Chance = fn(usize) -> usize;

impl<T> Slots<T> {
    /// None are open yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            last: 0,
            open: BTreeMap::new(),
        }
    }

    /// Looks for room for a new connection to wait in.
    pub(crate) fn find(&mut self, stranger: bool, chance: Chance) -> Slot<T> {
        let waits = |open: &Open<T>| open.stage == Stage::Waiting && open.stranger == stranger;
        if self.count(waits) >= WAITING {
            return self.evict_one(waits, chance);
        }
        if self.open.len() < self.limits.all {
            return Slot::Free;
        }
        // A stranger has to go first.
        let kind = stranger || self.count(|open| open.stranger) > 0;
        self.evict_one(|open| open.stranger == kind, chance)
    }

    /// Frees the slot of a connection that has not shown path and secret, for when the machine has
    /// nothing left to give. The caller ends the connection.
    pub(crate) fn evict(&mut self, chance: Chance) -> Option<T> {
        match self.evict_one(|_| true, chance) {
            Slot::Evict(end) => Some(end),
            Slot::Free | Slot::Full => None,
        }
    }

    /// Takes a connection in, for which there is room. Its number is the one that
    /// [`Slots::next_number`] gave.
    pub(crate) fn take(
        &mut self,
        number: u64,
        address: IpAddr,
        stranger: bool,
        now: Instant,
        end: T,
    ) {
        self.open.insert(
            number,
            Open {
                address: origin(address),
                stranger,
                stage: Stage::Waiting,
                since: now,
                end,
            },
        );
    }

    /// The number of the next connection.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Takes a connection whose `ClientHello` has come among those of its kind.
    pub(crate) fn greet(&mut self, number: u64, now: Instant, chance: Chance) -> Slot<T> {
        let Some(new) = self
            .open
            .get(&number)
            .filter(|new| new.stage == Stage::Waiting)
        else {
            return Slot::Free;
        };
        let (stranger, address, limits) = (new.stranger, new.address, self.limits);
        let is_like = |open: &Open<T>| open.stage > Stage::Waiting && open.stranger == stranger;
        let of_address = |open: &Open<T>| is_like(open) && open.address == address;
        let slot = if stranger && self.count(of_address) >= limits.address {
            self.evict_greeted(of_address, now, chance)
        } else if self.count(is_like)
            >= if stranger {
                limits.strangers
            } else {
                limits.known
            }
        {
            self.evict_greeted(is_like, now, chance)
        } else {
            Slot::Free
        };
        if !matches!(slot, Slot::Full) {
            self.reach(number, Stage::Greeted, now);
        }
        slot
    }

    /// Notes how far a connection has come. Who has shown path and secret is no stranger any more.
    pub(crate) fn reach(&mut self, number: u64, stage: Stage, now: Instant) {
        if let Some(open) = self.open.get_mut(&number).filter(|open| open.stage < stage) {
            open.stage = stage;
            open.since = now;
            open.stranger &= stage < Stage::Proven;
        }
    }

    fn count(&self, of: impl Fn(&Open<T>) -> bool) -> usize {
        self.open.values().filter(|open| of(open)).count()
    }

    /// Of those with a `ClientHello`, one goes that has not finished its handshake, unless all of
    /// them may be about to: else whoever finishes handshakes all the time would keep out all
    /// others.
    fn evict_greeted(
        &mut self,
        of: impl Fn(&Open<T>) -> bool,
        now: Instant,
        chance: Chance,
    ) -> Slot<T> {
        let is_slow = |open: &Open<T>| {
            open.stage == Stage::Greeted
                && now.saturating_duration_since(open.since) > HANDSHAKE_TIME
                && of(open)
        };
        match self.evict_among(is_slow, chance) {
            Slot::Evict(end) => Slot::Evict(end),
            Slot::Free | Slot::Full => self.evict_among(of, chance),
        }
    }

    /// One of those that have come the least far goes.
    fn evict_one(&mut self, of: impl Fn(&Open<T>) -> bool, chance: Chance) -> Slot<T> {
        let least = self
            .open
            .values()
            .filter(|open| of(open))
            .map(|open| open.stage)
            .min();
        self.evict_among(|open| Some(open.stage) == least && of(open), chance)
    }

    fn evict_among(&mut self, of: impl Fn(&Open<T>) -> bool, chance: Chance) -> Slot<T> {
        let candidates = self
            .open
            .iter()
            .filter(|(_, open)| open.stage < Stage::Proven && of(open));
        let numbers: Vec<_> = candidates.map(|(number, _)| *number).collect();
        let chosen = if numbers.is_empty() {
            None
        } else {
            numbers.get(chance(numbers.len()))
        };
        chosen
            .and_then(|number| self.open.remove(number))
            .map_or(Slot::Full, |open| Slot::Evict(open.end))
    }

    /// Frees the slot of a connection that is gone.
    pub(crate) fn release(&mut self, number: u64) {
        self.open.remove(&number);
    }
}

/// What counts as one address: with IPv6 every network has 2^64 of them.
fn origin(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
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
    const OLDEST: Chance = |_| 0;
    const NEWEST: Chance = |equals| equals - 1;

    struct Scene {
        slots: Slots<u64>,
        now: Instant,
        chance: Chance,
    }

    impl Scene {
        fn new(limits: Limits) -> Self {
            Self {
                slots: Slots::new(limits),
                now: Instant::now(),
                chance: OLDEST,
            }
        }

        /// What becomes of a new connection, which sends nothing; one that is evicted is named by
        /// its number.
        fn wait(&mut self, address: &str, stranger: bool) -> Slot<u64> {
            let slot = self.slots.find(stranger, self.chance);
            if slot != Slot::Full {
                let number = self.slots.next_number();
                self.slots
                    .take(number, address.parse().unwrap(), stranger, self.now, number);
            }
            slot
        }

        /// What becomes of a new connection with a `ClientHello`.
        fn greet(&mut self, address: &str, stranger: bool) -> Slot<u64> {
            match self.wait(address, stranger) {
                Slot::Free => self.slots.greet(self.slots.last, self.now, self.chance),
                evicted => {
                    assert!([Slot::Free, Slot::Full].contains(&self.slots.greet(
                        self.slots.last,
                        self.now,
                        self.chance
                    )));
                    evicted
                }
            }
        }

        /// The same, to the end of its handshake.
        fn come(&mut self, address: &str, stranger: bool) -> Slot<u64> {
            let slot = self.greet(address, stranger);
            match slot {
                Slot::Full => self.slots.release(self.slots.last),
                _ => self
                    .slots
                    .reach(self.slots.last, Stage::Encrypted, self.now),
            }
            slot
        }

        fn prove(&mut self, number: u64) {
            self.slots.reach(number, Stage::Proven, self.now);
        }
    }

    /// All that there is room for.
    const ROOMY: Limits = Limits {
        all: 10_000,
        ..LIMITS
    };

    #[test]
    fn a_strangers_flood_is_against_himself() {
        let mut scene = Scene::new(ROOMY);
        assert_eq!(
            [scene.come("1.1.1.1", true), scene.come("1.1.1.1", true)],
            [Slot::Free, Slot::Free]
        );
        assert_eq!(scene.come("2.2.2.2", true), Slot::Free);
        // Two of his own address are there, 1 the older.
        assert_eq!(scene.come("1.1.1.1", true), Slot::Evict(1));
        assert_eq!(scene.come("1.1.1.1", true), Slot::Evict(2));
        assert_eq!(scene.come("2.2.2.2", true), Slot::Free);
        // Four strangers are there, 2.2.2.2's first the oldest.
        assert_eq!(scene.come("3.3.3.3", true), Slot::Evict(3));
        scene.chance = NEWEST;
        assert_eq!(
            scene.come("4.4.4.4", true),
            Slot::Evict(7),
            "chance decides"
        );
    }

    #[test]
    fn strangers_leave_the_share_of_the_known_alone_and_the_other_way_round() {
        let mut scene = Scene::new(ROOMY);
        for last in 0..20 {
            assert_ne!(scene.come(&format!("1.1.1.{last}"), true), Slot::Full);
        }
        for _ in 0..LIMITS.known {
            assert_eq!(scene.come(TELEGRAM, false), Slot::Free);
        }
        // One known address may have all of it.
        assert_eq!(scene.come(TELEGRAM, false), Slot::Evict(21));
        assert_eq!(scene.come("9.9.9.9", true), Slot::Evict(17));
    }

    #[test]
    fn who_has_shown_path_and_secret_stays() {
        let mut scene = Scene::new(ROOMY);
        assert_eq!(scene.come("1.1.1.1", true), Slot::Free);
        scene.prove(1);
        for _ in 0..20 {
            assert_ne!(scene.come("1.1.1.1", true), Slot::Evict(1));
        }
        let mut scene = Scene::new(LIMITS);
        for number in 1..=3 {
            scene.come(TELEGRAM, false);
            scene.prove(number);
        }
        assert_eq!(scene.come(TELEGRAM, false), Slot::Full);
        scene.slots.release(2);
        assert_eq!(scene.come(TELEGRAM, false), Slot::Free);
        assert_eq!(scene.slots.evict(OLDEST), Some(5));
        assert_eq!(scene.slots.evict(OLDEST), None);
    }

    #[test]
    fn all_together_are_bounded() {
        let mut scene = Scene::new(LIMITS);
        for number in 1..100 {
            scene.come(&format!("1.1.1.{number}"), true);
            scene.prove(scene.slots.last);
        }
        assert_eq!(scene.slots.open.len(), LIMITS.all);
        assert_eq!(scene.wait("2.2.2.2", true), Slot::Full);
    }

    #[test]
    fn those_that_send_nothing_crowd_out_their_like_alone() {
        let mut scene = Scene::new(ROOMY);
        for _ in 0..LIMITS.known {
            assert_eq!(scene.greet(TELEGRAM, false), Slot::Free);
        }
        scene.come("1.1.1.1", true);
        for _ in 0..WAITING {
            assert_eq!(
                [scene.wait(TELEGRAM, false), scene.wait("1.1.1.1", true)],
                [Slot::Free, Slot::Free]
            );
        }
        // 1 to 3 and 4 have come further; from 5 on the known and the strangers alternate.
        assert_eq!(
            [scene.wait(TELEGRAM, false), scene.wait("2.2.2.2", true)],
            [Slot::Evict(5), Slot::Evict(6)]
        );
        scene.chance = NEWEST;
        assert_eq!(
            scene.wait(TELEGRAM, false),
            Slot::Evict(4 + 2 * WAITING as u64 + 1)
        );
    }

    #[test]
    fn who_has_not_finished_its_handshake_goes_first_but_for_who_may_be_about_to() {
        let mut scene = Scene::new(ROOMY);
        scene.come(TELEGRAM, false);
        scene.greet(TELEGRAM, false);
        scene.greet(TELEGRAM, false);
        assert_eq!(
            scene.greet(TELEGRAM, false),
            Slot::Evict(1),
            "all are young: 1 is the oldest"
        );
        scene.now += HANDSHAKE_TIME + Duration::from_millis(1);
        scene.slots.reach(2, Stage::Encrypted, scene.now);
        // What is noted late takes nothing back.
        scene.slots.reach(2, Stage::Greeted, scene.now);
        assert_eq!(
            scene.greet(TELEGRAM, false),
            Slot::Evict(3),
            "2 has finished"
        );
        assert_eq!(scene.greet(TELEGRAM, false), Slot::Evict(4));
        scene.chance = NEWEST;
        assert_eq!(scene.greet(TELEGRAM, false), Slot::Evict(6));
    }

    #[test]
    fn where_descriptors_are_few_strangers_go_first_and_of_them_those_that_send_nothing() {
        let mut scene = Scene::new(Limits { all: 3, ..LIMITS });
        scene.come("1.1.1.1", true);
        scene.wait("2.2.2.2", true);
        assert_eq!(scene.come(TELEGRAM, false), Slot::Free);
        assert_eq!(scene.come("3.3.3.3", true), Slot::Evict(2));
        assert_eq!(
            [scene.come(TELEGRAM, false), scene.come(TELEGRAM, false)],
            [Slot::Evict(1), Slot::Evict(4)]
        );
        assert_eq!(scene.come(TELEGRAM, false), Slot::Evict(3));
        assert_eq!(scene.wait("1.1.1.1", true), Slot::Full);
    }

    #[test]
    fn a_connection_that_is_gone_gets_no_slot() {
        let mut scene = Scene::new(ROOMY);
        scene.wait(TELEGRAM, false);
        scene.slots.release(1);
        assert_eq!(scene.slots.greet(1, scene.now, OLDEST), Slot::Free);
        assert_eq!(scene.slots.open.len(), 0);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let mut scene = Scene::new(ROOMY);
        assert_eq!(
            [
                scene.come("2001:db8::1", true),
                scene.come("2001:db8::2", true)
            ],
            [Slot::Free, Slot::Free]
        );
        assert_eq!(scene.come("2001:db8::ffff:3", true), Slot::Evict(1));
        assert_eq!(scene.come("2001:db8:0:1::1", true), Slot::Free);
    }
}
