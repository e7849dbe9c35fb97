//! The slots for connections, and which connection must go when there are too many. Pure.
//!
//! Every allowed peer can connect: at a limit the oldest connection has to go, of those that did not show path and secret
//! yet. So a peer that holds many connections loses its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// How many connections there may be at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From peers that the settings name, or that have shown path and secret.
    pub known: usize,
    /// From all others; there are some where everyone may connect.
    pub strangers: usize,
    /// From one stranger's address.
    pub address: usize,
    /// All together.
    pub all: usize,
}

/// The open connections; `T` is what ends one.
pub struct Slots<T> {
    limits: Limits,
    last: u64,
    /// By their number, so in the order of their coming.
    open: BTreeMap<u64, Open<T>>,
}

struct Open<T> {
    address: IpAddr,
    stranger: bool,
    proven: bool,
    end: T,
}

/// The answer to a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Slot<T> {
    /// There is room.
    Free,
    /// There is room when this connection is ended; its slot is free already.
    Evict(T),
    /// There is no room.
    Full,
}

impl<T> Slots<T> {
    /// None are open yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, last: 0, open: BTreeMap::new() }
    }

    /// Looks for room for a connection from this address.
    pub(crate) fn find(&mut self, address: IpAddr, stranger: bool) -> Slot<T> {
        let from = origin(address);
        let count = |of: &dyn Fn(&Open<T>) -> bool| self.open.values().filter(|open| of(open)).count();
        let (strangers, limits) = (count(&|open| open.stranger), self.limits);
        let of_address = stranger && count(&|open| open.stranger && open.address == from) >= limits.address;
        let of_kind =
            if stranger { strangers >= limits.strangers } else { self.open.len() - strangers >= limits.known };
        let of_all = self.open.len() >= limits.all;
        if !(of_address || of_kind || of_all) {
            return Slot::Free;
        }
        // Where only the limit of all is reached, a stranger has to go first.
        let kind = stranger || (of_all && !of_kind && strangers > 0);
        let goes = |open: &Open<T>| !open.proven && open.stranger == kind && (!of_address || open.address == from);
        let oldest = self.open.iter().find(|(_, open)| goes(open)).map(|(number, _)| *number);
        match oldest.and_then(|number| self.open.remove(&number)) {
            Some(open) => Slot::Evict(open.end),
            None => Slot::Full,
        }
    }

    /// Frees the slot of the oldest connection that has not shown path and secret, for when the machine has nothing left to
    /// give. The caller ends the connection.
    pub(crate) fn evict_oldest(&mut self) -> Option<T> {
        let number = *self.open.iter().find(|(_, open)| !open.proven)?.0;
        self.open.remove(&number).map(|open| open.end)
    }

    /// Takes a connection in, for which there is room. Its number is the one that [`Slots::next_number`] gave.
    pub(crate) fn take(&mut self, number: u64, address: IpAddr, stranger: bool, end: T) {
        self.open.insert(number, Open { address: origin(address), stranger, proven: false, end });
    }

    /// The number of the next connection.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Notes that a connection has shown path and secret.
    pub(crate) fn prove(&mut self, number: u64) {
        if let Some(open) = self.open.get_mut(&number) {
            open.proven = true;
            open.stranger = false;
        }
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

    const LIMITS: Limits = Limits { known: 3, strangers: 4, address: 2, all: 7 };
    const TELEGRAM: &str = "149.154.167.1";

    struct Scene(Slots<u64>);

    impl Scene {
        fn new() -> Self {
            Self(Slots::new(LIMITS))
        }

        /// What becomes of a new connection; one that is evicted is named by its number.
        fn come(&mut self, address: &str, stranger: bool) -> Slot<u64> {
            let address = address.parse().unwrap();
            let slot = self.0.find(address, stranger);
            if slot != Slot::Full {
                let number = self.0.next_number();
                self.0.take(number, address, stranger, number);
            }
            slot
        }
    }

    #[test]
    fn a_strangers_flood_is_against_himself() {
        let mut scene = Scene::new();
        assert_eq!([scene.come("1.1.1.1", true), scene.come("1.1.1.1", true)], [Slot::Free, Slot::Free]);
        assert_eq!(scene.come("2.2.2.2", true), Slot::Free);
        // Two of his own address are there, 1 the older.
        assert_eq!(scene.come("1.1.1.1", true), Slot::Evict(1));
        assert_eq!(scene.come("1.1.1.1", true), Slot::Evict(2));
        assert_eq!(scene.come("2.2.2.2", true), Slot::Free);
        // Four strangers are there, 2.2.2.2's first the oldest.
        assert_eq!(scene.come("3.3.3.3", true), Slot::Evict(3));
    }

    #[test]
    fn strangers_leave_the_share_of_the_known_alone_and_the_other_way_round() {
        let mut scene = Scene::new();
        for last in 0..20 {
            assert_ne!(scene.come(&format!("1.1.1.{last}"), true), Slot::Full);
        }
        for _ in 0..LIMITS.known {
            assert_eq!(scene.come(TELEGRAM, false), Slot::Free);
        }
        // One known address may have all of it; there, too, the oldest goes.
        assert_eq!(scene.come(TELEGRAM, false), Slot::Evict(21));
        assert_eq!(scene.come("9.9.9.9", true), Slot::Evict(17));
    }

    #[test]
    fn who_has_shown_path_and_secret_stays() {
        let mut scene = Scene::new();
        assert_eq!(scene.come("1.1.1.1", true), Slot::Free);
        scene.0.prove(1);
        for _ in 0..20 {
            assert_ne!(scene.come("1.1.1.1", true), Slot::Evict(1));
        }
        let mut scene = Scene::new();
        for number in 1..=3 {
            scene.come(TELEGRAM, false);
            scene.0.prove(number);
        }
        assert_eq!(scene.come(TELEGRAM, false), Slot::Full);
        scene.0.release(2);
        assert_eq!(scene.come(TELEGRAM, false), Slot::Free);
        assert_eq!(scene.0.evict_oldest(), Some(4));
        assert_eq!(scene.0.evict_oldest(), None);
    }

    #[test]
    fn all_together_are_bounded() {
        let mut scene = Scene::new();
        for number in 1..100 {
            scene.come(&format!("1.1.1.{number}"), true);
            scene.0.prove(number);
        }
        assert_eq!(scene.0.open.len(), LIMITS.all);
    }

    #[test]
    fn where_descriptors_are_few_strangers_go_first() {
        let mut scene = Scene(Slots::new(Limits { all: 3, ..LIMITS }));
        scene.come("1.1.1.1", true);
        scene.come("2.2.2.2", true);
        assert_eq!(scene.come(TELEGRAM, false), Slot::Free);
        assert_eq!(scene.come("3.3.3.3", true), Slot::Evict(1));
        assert_eq!([scene.come(TELEGRAM, false), scene.come(TELEGRAM, false)], [Slot::Evict(2), Slot::Evict(4)]);
        assert_eq!(scene.come(TELEGRAM, false), Slot::Evict(3));
        assert_eq!(scene.come("1.1.1.1", true), Slot::Full);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let mut scene = Scene::new();
        assert_eq!([scene.come("2001:db8::1", true), scene.come("2001:db8::2", true)], [Slot::Free, Slot::Free]);
        assert_eq!(scene.come("2001:db8::ffff:3", true), Slot::Evict(1));
        assert_eq!(scene.come("2001:db8:0:1::1", true), Slot::Free);
    }
}
