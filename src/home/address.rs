//! The home's public address: which one to believe, and when it has changed. Pure.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::network::is_reserved;
use crate::system::pause::EscalatingPause;

/// Why no address can be believed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AddressError {
    /// Nobody answered.
    NoAnswer,
    /// One outside service answered, and nobody confirms it.
    Unconfirmed(Ipv4Addr),
    /// No two of the router and the services say the same.
    Disagreement(Vec<Ipv4Addr>),
    /// An address that the internet does not know.
    Reserved(Ipv4Addr),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => {
                f.write_str("this home's address is not known: neither the router nor an outside service answered")
            }
            Self::Unconfirmed(address) => {
                write!(
                    f,
                    "one outside service says that this home's address is {address}, but no other service confirms it"
                )
            }
            Self::Disagreement(addresses) => {
                let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "this home's address is not clear, because the services disagree: {}", list.join(" or "))
            }
            Self::Reserved(address) => write!(
                f,
                "this home's address seems to be {address}, which is not a public address: {}",
                kind(*address)
            ),
        }
    }
}

/// The address that two agree on: the router and an outside service, or two outside services. The
/// router's word alone counts when no service answers: it is the router that has the address.
/// `outside` gives the services' answers one by one, and is asked no further than needed.
///
/// # Errors
/// The reason why no address can be believed.
pub(crate) fn agree(
    router: Option<Ipv4Addr>,
    outside: impl IntoIterator<Item = Ipv4Addr>,
) -> Result<Ipv4Addr, AddressError> {
    let mut reserved = router.filter(|address| is_reserved(*address));
    let router = router.filter(|address| !is_reserved(*address));

    let mut heard: Vec<Ipv4Addr> = Vec::new();
    for address in outside {
        if is_reserved(address) {
            reserved = Some(address);
        } else if router == Some(address) || heard.contains(&address) {
            return Ok(address);
        } else {
            heard.push(address);
        }
    }

    match (router, &heard[..]) {
        (Some(address), []) => Ok(address),
        (None, []) => match reserved {
            Some(address) => Err(AddressError::Reserved(address)),
            None => Err(AddressError::NoAnswer),
        },
        (None, [address]) => Err(AddressError::Unconfirmed(*address)),
        _ => {
            let mut all: Vec<_> = router.into_iter().chain(heard).collect();
            // The order in which the services were asked does not make another error of it.
            all.sort_unstable();
            Err(AddressError::Disagreement(all))
        }
    }
}

/// What is in the way when the router's own address is not the one that the internet sees.
pub(crate) fn translation(router: Option<Ipv4Addr>, outside: Ipv4Addr) -> Option<String> {
    let router = router.filter(|router| *router != outside)?;
    let reason = if is_reserved(router) {
        kind(router)
    } else {
        "a device between the router and the internet changes addresses (NAT): ask the provider for a public IPv4 address"
    };
    Some(format!(
        "the router's own address is {router}, but the internet sees {outside}: {reason}"
    ))
}

/// Whether a provider shares an address among customers, so that this is one of its own (CGNAT, RFC
/// 6598).
pub(crate) fn is_shared(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [100, 64..=127, ..])
}

/// What a reserved address of a router means, and what to do.
pub(super) fn kind(address: Ipv4Addr) -> &'static str {
    match address {
        _ if is_shared(address) => {
            "your provider shares one address among customers (CGNAT), and Telegram cannot reach this home: ask the \
             provider for a public IPv4 address"
        }
        _ if address.is_private() => {
            "there is a second router between yours and the internet: forward the port on both, or set one of them to \
             bridge mode"
        }
        _ => {
            "the router has no internet connection, or reports a wrong address: check the router's status page"
        }
    }
}

/// Decides when a home has moved to another address.
pub(crate) struct AddressTracker {
    current: Option<Ipv4Addr>,
    candidate: Option<Ipv4Addr>,
    /// The rest between two moves: it grows while they follow each other closely.
    rest: EscalatingPause,
}

/// The longest rest between two moves, in `watch_interval`s: an hour by default.
const MAX_REST_INTERVALS: u32 = 12;

impl AddressTracker {
    /// Starts from the address that was used last.
    pub(crate) fn new(current: Option<Ipv4Addr>, interval: Duration) -> Self {
        Self {
            current,
            candidate: None,
            rest: EscalatingPause::new(interval, interval * MAX_REST_INTERVALS),
        }
    }

    /// The address that the home has now, as far as is known.
    pub(crate) fn current(&self) -> Option<Ipv4Addr> {
        self.current
    }

    /// Whether another address was seen, and the next look must confirm it.
    pub(crate) fn is_unsure(&self) -> bool {
        self.candidate.is_some()
    }

    /// Notes an address that was seen. True when the home has moved there: it was seen twice in a
    /// row, and the last move is long enough ago. The first address of all counts at once.
    pub(crate) fn observe(&mut self, seen: Ipv4Addr, now: Instant) -> bool {
        if self.current == Some(seen) {
            self.candidate = None;
            return false;
        }
        if self.current.is_none() {
            self.current = Some(seen);
            return true;
        }

        let is_confirmed = self.candidate == Some(seen);
        self.candidate = Some(seen);
        if !is_confirmed || !self.rest.is_over(now) {
            return false;
        }

        self.rest.begin(now);
        self.current = Some(seen);
        self.candidate = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(80, 100, 95, 20);
    const B: Ipv4Addr = Ipv4Addr::new(80, 100, 95, 21);
    const CGNAT: Ipv4Addr = Ipv4Addr::new(100, 64, 1, 2);
    const LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
    const INTERVAL: Duration = Duration::from_secs(300);

    #[test]
    fn an_address_counts_when_two_agree_or_only_the_router_answers() {
        for (router, outside, expected) in [
            (None, vec![], Err(AddressError::NoAnswer)),
            (None, vec![A], Err(AddressError::Unconfirmed(A))),
            (None, vec![A, A], Ok(A)),
            (
                None,
                vec![A, B],
                Err(AddressError::Disagreement(vec![A, B])),
            ),
            (None, vec![A, B, A], Ok(A)),
            (Some(A), vec![], Ok(A)),
            (Some(A), vec![A], Ok(A)),
            (
                Some(A),
                vec![B],
                Err(AddressError::Disagreement(vec![A, B])),
            ),
            (Some(A), vec![B, A], Ok(A)),
            (Some(A), vec![B, B], Ok(B)),
            (Some(CGNAT), vec![], Err(AddressError::Reserved(CGNAT))),
            (Some(CGNAT), vec![A], Err(AddressError::Unconfirmed(A))),
            (Some(CGNAT), vec![CGNAT], Err(AddressError::Reserved(CGNAT))),
            (Some(LAN), vec![A, A], Ok(A)),
            (None, vec![LAN, LAN], Err(AddressError::Reserved(LAN))),
        ] {
            assert_eq!(
                agree(router, outside.clone()),
                expected,
                "{router:?} {outside:?}"
            );
        }
    }

    #[test]
    fn address_services_are_asked_no_further_than_needed() {
        let asked = std::cell::Cell::new(0);
        let services = [A, A, A]
            .into_iter()
            .inspect(|_| asked.set(asked.get() + 1));
        assert_eq!(agree(Some(A), services), Ok(A));
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn a_cgnat_address_is_one_of_rfc_6598() {
        for shared in [[100, 64, 0, 0], [100, 127, 255, 255]] {
            assert!(is_shared(shared.into()));
        }
        for other in [
            [100, 63, 255, 255],
            [100, 128, 0, 0],
            [10, 64, 0, 0],
            [192, 168, 1, 1],
        ] {
            assert!(!is_shared(other.into()));
        }
    }

    #[test]
    fn nat_or_cgnat_before_the_router_is_explained() {
        assert_eq!(translation(Some(A), A), None);
        assert_eq!(translation(None, A), None);
        assert!(translation(Some(CGNAT), A).unwrap().contains("CGNAT"));
        assert!(translation(Some(LAN), A).unwrap().contains("second router"));
        assert!(
            translation(Some(B), A)
                .unwrap()
                .contains("changes addresses")
        );
    }

    #[test]
    fn a_new_address_counts_when_it_is_seen_twice() {
        let start = Instant::now();
        let mut tracker = AddressTracker::new(None, INTERVAL);
        assert!(tracker.observe(A, start), "the first is taken as it is");

        // The first address was no move, so there is no rest after it.
        let later = start + Duration::from_secs(1);
        assert!(!tracker.observe(B, later) && tracker.is_unsure());
        assert!(!tracker.observe(A, later) && !tracker.is_unsure());
        assert!(!tracker.observe(B, later));
        assert!(tracker.observe(B, later) && tracker.current() == Some(B));
    }

    #[test]
    fn a_flapping_address_is_followed_ever_more_slowly_until_it_is_calm() {
        let start = Instant::now();
        let mut tracker = AddressTracker::new(Some(A), INTERVAL);
        // The address changes every minute for a day, and is looked at every 20 s.
        let mut moves = Vec::new();
        for second in (0..86400).step_by(20) {
            let seen = if second / 60 % 2 == 0 { B } else { A };
            if tracker.observe(seen, start + Duration::from_secs(second)) {
                moves.push(second);
            }
        }
        assert!((20..30).contains(&moves.len()), "{moves:?}");
        // After a quiet day the next one is followed at once.
        let quiet = start + Duration::from_secs(2 * 86400);
        let here = tracker.current().unwrap();
        let other = if here == A { B } else { A };
        assert!(!tracker.observe(here, quiet));
        assert!(
            !tracker.observe(other, quiet)
                && tracker.observe(other, quiet + Duration::from_secs(20))
        );
    }
}
