//! Names are looked up apart from the calls that need them. Where the first name server is silent,
//! the answer comes after 5 s or more (resolv.conf(5)): a call that does not wait so long leaves it
//! to the next one. ureq alone would throw it away, and ask at each call.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Error, Timeout};

use super::lock::lock;

/// How long an answer of the DNS is used.
const CACHE_TTL: Duration = Duration::from_secs(300);
/// How much longer the old answer is used when the DNS gave no new one.
const STALE_TTL: Duration = Duration::from_secs(30);
/// A call waits so long for a new answer where it has an old one.
const STALE_WAIT: Duration = Duration::from_secs(1);
/// A call waits so long for the first answer, if its own time is not over before: three name
/// servers, of which two are silent, take 8 s.
pub(crate) const FIRST_WAIT: Duration = Duration::from_secs(20);
/// ureq takes no more addresses of a name.
const MOST_ADDRESSES: usize = 16;

/// Finds the addresses of `HOST:PORT`, however long that takes.
type LookUp = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// Looks up the few names of the settings, each on one thread at most, and goes on with the last
/// answer while there is no new one.
#[derive(Debug)]
pub(crate) struct CachingResolver {
    look_up: LookUp,
    names: Mutex<HashMap<String, Arc<Name>>>,
}

impl Default for CachingResolver {
    fn default() -> Self {
        Self {
            look_up: ask_system,
            names: Mutex::default(),
        }
    }
}

impl Resolver for CachingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(Error::HostNotFound);
        };
        let name = DefaultResolver::host_and_port(scheme, authority).ok_or(Error::HostNotFound)?;

        let found = match name.parse() {
            Ok(address) => vec![address],
            Err(_) => self
                .name(&name)
                .addresses(&name, self.look_up, *timeout.after)?,
        };

        let family = config.ip_family();
        let wanted = family.keep_wanted(found.into_iter());
        let mut list = self.empty();
        for address in wanted.take(MOST_ADDRESSES) {
            list.push(address);
        }
        if list.is_empty() {
            Err(Error::HostNotFound)
        } else {
            Ok(list)
        }
    }
}

impl CachingResolver {
    fn name(&self, name: &str) -> Arc<Name> {
        let mut names = lock(&self.names);
        Arc::clone(names.entry(name.to_owned()).or_default())
    }
}

fn ask_system(name: &str) -> io::Result<Vec<SocketAddr>> {
    name.to_socket_addrs().map(Iterator::collect)
}

/// What is known of a name, and the calls that wait for its look-up.
#[derive(Debug, Default)]
struct Name {
    cache: Mutex<Cache>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Cache {
    /// The last answer; empty before the first one.
    addresses: Vec<SocketAddr>,
    /// Until when it is used without a question.
    until: Option<Instant>,
    /// A thread asks at this moment.
    is_asking: bool,
    /// How many look-ups have ended, with an answer or without: a call that waits sees by it that
    /// the one that it waits for has ended.
    look_ups: u64,
}

impl Name {
    /// The addresses as they are known; where none are known, those that a look-up finds within
    /// `limit`.
    fn addresses(
        self: &Arc<Self>,
        name: &str,
        look_up: LookUp,
        limit: Duration,
    ) -> Result<Vec<SocketAddr>, Error> {
        let mut cache = lock(&self.cache);
        let is_known = !cache.addresses.is_empty();
        if is_known && cache.until.is_some_and(|until| Instant::now() < until) {
            return Ok(cache.addresses.clone());
        }

        let look_ups = cache.look_ups;
        if !cache.is_asking {
            cache.is_asking = true;
            drop(cache);
            self.start_look_up(name, look_up);
            cache = lock(&self.cache);
        } else if is_known {
            // One call is delayed by a slow DNS, and not all of them.
            return Ok(cache.addresses.clone());
        }

        let longest = if is_known { STALE_WAIT } else { FIRST_WAIT };
        let limit = limit.min(longest);
        let is_awaited = |cache: &mut Cache| cache.look_ups == look_ups;
        let waited = self.ended.wait_timeout_while(cache, limit, is_awaited);
        let (cache, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        match &cache.addresses[..] {
            [] if timeout.timed_out() => Err(Error::Timeout(Timeout::Resolve)),
            [] => Err(Error::HostNotFound),
            addresses => Ok(addresses.to_vec()),
        }
    }

    /// Looks the name up on a thread of its own: nobody can end a look-up of the system before its
    /// time. The answer is kept whenever it comes.
    fn start_look_up(self: &Arc<Self>, name: &str, look_up: LookUp) {
        let this = Arc::clone(self);
        let owned = name.to_owned();
        let started = thread::Builder::new()
            .name("dns".into())
            .spawn(move || this.end_look_up(look_up(&owned)));
        if let Err(error) = started {
            self.end_look_up(Err(error));
        }
    }

    /// Keeps the answer, and wakes the calls that wait for it. Without one, the old addresses stay
    /// in use for a while.
    fn end_look_up(&self, found: io::Result<Vec<SocketAddr>>) {
        let mut cache = lock(&self.cache);
        let addresses = found.unwrap_or_default();
        let mut ttl = STALE_TTL;
        if !addresses.is_empty() {
            cache.addresses = addresses;
            ttl = CACHE_TTL;
        }
        cache.until = Some(Instant::now() + ttl);
        cache.is_asking = false;
        cache.look_ups += 1;
        self.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver, Sender};
    use ureq::Agent;

    const NAME: &str = "api.telegram.org:443";
    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    fn addresses() -> Vec<SocketAddr> {
        vec![SocketAddr::from(([149, 154, 167, 220], 443))]
    }

    /// A name server that knows one name, and answers when the test wants it to.
    struct Dns {
        answers: Sender<io::Result<Vec<SocketAddr>>>,
        questions: Receiver<()>,
    }

    type Server = (Sender<()>, Receiver<io::Result<Vec<SocketAddr>>>);
    static SERVERS: Mutex<Option<HashMap<String, Server>>> = Mutex::new(None);

    impl Dns {
        fn of(name: &str) -> Dns {
            let (asked, questions) = mpsc::channel();
            let (answers, answered) = mpsc::channel();
            lock(&SERVERS)
                .get_or_insert_default()
                .insert(name.to_owned(), (asked, answered));
            Dns { answers, questions }
        }

        fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
            let (asked, answered) = lock(&SERVERS).as_mut().unwrap().remove(name).unwrap();
            asked.send(()).unwrap();
            let answer = answered.recv().unwrap();
            lock(&SERVERS)
                .as_mut()
                .unwrap()
                .insert(name.to_owned(), (asked, answered));
            answer
        }
    }

    #[test]
    fn a_late_answer_serves_the_next_call() {
        let dns = Dns::of("late");
        let name = Arc::new(Name::default());
        for _ in 0..3 {
            let error = name.addresses("late", Dns::look_up, SHORT).unwrap_err();
            assert!(
                matches!(error, Error::Timeout(Timeout::Resolve)),
                "{error:?}"
            );
        }
        dns.answers.send(Ok(addresses())).unwrap();
        assert_eq!(
            name.addresses("late", Dns::look_up, LONG).unwrap(),
            addresses()
        );
        assert_eq!(
            name.addresses("late", Dns::look_up, SHORT).unwrap(),
            addresses()
        );
        assert_eq!(
            dns.questions.try_iter().count(),
            1,
            "one look-up for all of them"
        );
    }

    #[test]
    fn one_look_up_serves_all_calls_that_wait() {
        let dns = Dns::of("shared");
        let name = Arc::new(Name::default());
        let call = || {
            let name = Arc::clone(&name);
            thread::spawn(move || name.addresses("shared", Dns::look_up, LONG))
        };
        let calls: Vec<_> = (0..40).map(|_| call()).collect();
        dns.answers.send(Ok(addresses())).unwrap();
        for call in calls {
            assert_eq!(call.join().unwrap().unwrap(), addresses());
        }
        assert_eq!(dns.questions.try_iter().count(), 1);
    }

    #[test]
    fn a_name_that_is_not_found_is_looked_up_again() {
        let dns = Dns::of("absent");
        let name = Arc::new(Name::default());
        for _ in 0..2 {
            dns.answers
                .send(Err(io::ErrorKind::NotFound.into()))
                .unwrap();
            let error = name.addresses("absent", Dns::look_up, LONG).unwrap_err();
            assert!(matches!(error, Error::HostNotFound), "{error:?}");
        }
        dns.answers.send(Ok(addresses())).unwrap();
        assert_eq!(
            name.addresses("absent", Dns::look_up, LONG).unwrap(),
            addresses()
        );
        assert_eq!(dns.questions.try_iter().count(), 3);
    }

    #[test]
    fn a_stale_answer_serves_all_calls_while_the_dns_is_silent() {
        let dns = Dns::of("old");
        let name = Arc::new(Name::default());
        lock(&name.cache).addresses = addresses();
        for _ in 0..3 {
            let start = Instant::now();
            assert_eq!(
                name.addresses("old", Dns::look_up, LONG).unwrap(),
                addresses()
            );
            assert!(start.elapsed() < FIRST_WAIT, "it waited for the DNS");
        }
        dns.questions.recv().unwrap();
        dns.answers
            .send(Err(io::ErrorKind::NotFound.into()))
            .unwrap();
        while lock(&name.cache).is_asking {
            thread::yield_now();
        }
        assert_eq!(
            name.addresses("old", Dns::look_up, LONG).unwrap(),
            addresses()
        );
        assert_eq!(
            dns.questions.try_iter().count(),
            0,
            "the DNS is left alone for a while"
        );
    }

    #[test]
    fn a_name_with_more_addresses_than_ureq_takes_is_found() {
        let many = |_: &str| {
            Ok((0..100)
                .map(|last| SocketAddr::from(([192, 0, 2, last], 443)))
                .collect())
        };
        let resolver = CachingResolver {
            look_up: many,
            names: Mutex::default(),
        };
        let config = Agent::config_builder().build();
        let timeout = NextTimeout {
            after: LONG.into(),
            reason: Timeout::Global,
            ..NextTimeout::default()
        };
        let found = resolver
            .resolve(
                &format!("https://{NAME}/").parse().unwrap(),
                &config,
                timeout,
            )
            .unwrap();
        assert_eq!(found.len(), MOST_ADDRESSES);
    }
}
