//! The address of the Bot API, remembered: ureq asks the DNS, on a thread made for it, at every single call.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How long an answer of the DNS is good for.
const FRESH: Duration = Duration::from_secs(300);
/// While the DNS is being asked again, or did not answer, the old answer serves for so long more.
const EXTENDED: Duration = Duration::from_secs(30);

/// Asks the DNS now and then, and goes on with its last answer while it gives none. For one host only.
#[derive(Debug, Default)]
pub struct Remembering {
    dns: DefaultResolver,
    memory: Mutex<Memory>,
}

impl Resolver for Remembering {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let memory = || self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(addresses) = memory().recall(Instant::now()) {
            return Ok(self.list(&addresses));
        }
        match self.dns.resolve(uri, config, timeout) {
            Ok(found) => {
                memory().keep(found.to_vec(), Instant::now());
                Ok(found)
            }
            Err(why) => match &memory().addresses[..] {
                [] => Err(why),
                old => Ok(self.list(old)),
            },
        }
    }
}

impl Remembering {
    fn list(&self, addresses: &[SocketAddr]) -> ResolvedSocketAddrs {
        let mut list = self.empty();
        addresses.iter().for_each(|address| list.push(*address));
        list
    }
}

/// The last answer, and until when it is good.
#[derive(Debug, Default)]
struct Memory {
    addresses: Vec<SocketAddr>,
    until: Option<Instant>,
}

impl Memory {
    /// What is known; None when the caller is to ask. Then it alone is: the others go on with the old answer, so that a
    /// DNS that is gone holds up one call in a while, not all of them.
    fn recall(&mut self, now: Instant) -> Option<Vec<SocketAddr>> {
        let until = self.until?;
        if now < until {
            return Some(self.addresses.clone());
        }
        self.until = Some(now + EXTENDED);
        None
    }

    fn keep(&mut self, addresses: Vec<SocketAddr>, now: Instant) {
        *self = Self { addresses, until: Some(now + FRESH) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_at_a_time_asks_again_and_the_old_answer_serves_the_rest() {
        let start = Instant::now();
        let known = vec![SocketAddr::from(([149, 154, 167, 220], 443))];
        let mut memory = Memory::default();
        assert_eq!(memory.recall(start), None, "nothing is known yet");
        memory.keep(known.clone(), start);
        assert_eq!(memory.recall(start + FRESH / 2), Some(known.clone()));

        let old = start + FRESH;
        assert_eq!(memory.recall(old), None, "the first asks");
        assert_eq!(memory.recall(old), Some(known.clone()), "the others do not");
        // The DNS did not answer: it is asked again after a while, and not by every call.
        assert_eq!(memory.recall(old + EXTENDED), None);
        assert_eq!(memory.recall(old + EXTENDED), Some(known));
    }
}
