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

/// Asks the DNS now and then, and goes on with its last answer while it gives none. For one host only.
#[derive(Debug, Default)]
pub struct Remembering {
    dns: DefaultResolver,
    last: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Resolver for Remembering {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((when, addresses)) = &last
            && when.elapsed() < FRESH
        {
            return Ok(self.list(addresses));
        }
        match self.dns.resolve(uri, config, timeout) {
            Ok(found) => {
                let now = (Instant::now(), found.to_vec());
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                Ok(found)
            }
            Err(why) => last.map(|(_, addresses)| self.list(&addresses)).ok_or(why),
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
