//! A caching resolver for the Bot API's address: ureq alone would ask the DNS at every call, each
//! time on a new thread.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::system::lock::lock;

/// How long an answer of the DNS is used.
const CACHE_TTL: Duration = Duration::from_secs(300);
/// How much longer the old answer is used while the DNS is asked again, or does not answer.
const STALE_TTL: Duration = Duration::from_secs(30);

/// Asks the DNS now and then, and goes on with its last answer while it gives none. For one host
/// only.
#[derive(Debug, Default)]
pub(crate) struct CachingResolver {
    dns: DefaultResolver,
    cache: Mutex<Cache>,
    /// Held by the one caller that asks while nothing is known: each question is a thread, and a
    /// silent DNS keeps it for long.
    asking: Mutex<()>,
}

impl Resolver for CachingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let cache = || lock(&self.cache);
        let known = |addresses: Vec<SocketAddr>| Ok(self.list(&addresses));
        if let Some(addresses) = cache().recall(Instant::now()) {
            return known(addresses);
        }
        let (called, is_known) = (Instant::now(), !cache().addresses.is_empty());
        let _asking = (!is_known).then(|| lock(&self.asking));
        if let (false, Some(heard)) = (is_known, cache().heard_since(called)) {
            return heard.map_or(Err(Error::HostNotFound), known);
        }
        match self.dns.resolve(uri, config, timeout) {
            Ok(found) => {
                cache().keep(found.to_vec(), Instant::now());
                Ok(found)
            }
            Err(why) => {
                let mut cache = cache();
                cache.failed = Some(Instant::now());
                if cache.addresses.is_empty() {
                    Err(why)
                } else {
                    known(cache.addresses.clone())
                }
            }
        }
    }
}

impl CachingResolver {
    fn list(&self, addresses: &[SocketAddr]) -> ResolvedSocketAddrs {
        let mut list = self.empty();
        addresses.iter().for_each(|address| list.push(*address));
        list
    }
}

/// The last answer, and until when it is good.
#[derive(Debug, Default)]
struct Cache {
    addresses: Vec<SocketAddr>,
    until: Option<Instant>,
    /// When the DNS last gave no answer.
    failed: Option<Instant>,
}

impl Cache {
    /// The known addresses; None when the caller is to ask the DNS. Only that one caller asks: the
    /// others use the old answer, so that a DNS which is gone delays one call at times, and not all
    /// of them.
    fn recall(&mut self, now: Instant) -> Option<Vec<SocketAddr>> {
        let until = self.until?;
        if now < until {
            return Some(self.addresses.clone());
        }
        self.until = Some(now + STALE_TTL);
        None
    }

    /// What another caller has found out since `called`: addresses, or None when the DNS gave none.
    fn heard_since(&self, called: Instant) -> Option<Option<Vec<SocketAddr>>> {
        if !self.addresses.is_empty() {
            return Some(Some(self.addresses.clone()));
        }
        self.failed.filter(|failed| *failed >= called).map(|_| None)
    }

    fn keep(&mut self, addresses: Vec<SocketAddr>, now: Instant) {
        *self = Self {
            addresses,
            until: Some(now + CACHE_TTL),
            failed: None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_nothing_is_known_one_question_serves_all_who_wait() {
        let start = Instant::now();
        let known = vec![SocketAddr::from(([149, 154, 167, 220], 443))];
        let mut cache = Cache::default();
        assert_eq!(cache.heard_since(start), None, "the first asks");
        cache.failed = Some(start + CACHE_TTL);
        assert_eq!(
            cache.heard_since(start),
            Some(None),
            "who waited meanwhile does not ask again"
        );
        assert_eq!(
            cache.heard_since(start + 2 * CACHE_TTL),
            None,
            "who comes later does"
        );
        cache.keep(known.clone(), start);
        assert_eq!(cache.heard_since(start), Some(Some(known)));
    }

    #[test]
    fn one_caller_at_a_time_asks_again_and_the_old_answer_serves_the_rest() {
        let start = Instant::now();
        let known = vec![SocketAddr::from(([149, 154, 167, 220], 443))];
        let mut cache = Cache::default();
        assert_eq!(cache.recall(start), None, "nothing is known yet");
        cache.keep(known.clone(), start);
        assert_eq!(cache.recall(start + CACHE_TTL / 2), Some(known.clone()));

        let old = start + CACHE_TTL;
        assert_eq!(cache.recall(old), None, "the first asks");
        assert_eq!(cache.recall(old), Some(known.clone()), "the others do not");
        // The DNS did not answer: it is asked again after a while, and not by every call.
        assert_eq!(cache.recall(old + STALE_TTL), None);
        assert_eq!(cache.recall(old + STALE_TTL), Some(known));
    }
}
