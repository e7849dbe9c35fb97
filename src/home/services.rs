//! Outside services that say which address they are called from.

use std::net::Ipv4Addr;
use std::time::Duration;

use ureq::Agent;
use ureq::config::IpFamily;
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;

use crate::system::ca_roots;
use crate::system::resolver::CachingResolver;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// An address, and the line's end.
const ANSWER_LIMIT: u64 = 64;

/// The services of the settings.
pub(crate) struct Services {
    agent: Agent,
    urls: Vec<String>,
    /// Where to begin: each is asked as often as the others.
    turn: usize,
}

impl Services {
    /// The services at these URLs.
    pub(crate) fn new(urls: &[String]) -> Self {
        let mut config = Agent::config_builder()
            .ip_family(IpFamily::Ipv4Only)
            .max_redirects(0)
            // It would be a proxy's address.
            .proxy(None)
            .max_idle_connections(0)
            .user_agent(concat!("pihook/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(CALL_TIMEOUT));
        if urls.iter().any(|url| url.starts_with("https:")) {
            config = config.tls_config(TlsConfig::builder().root_certs(ca_roots::roots()).build());
        }
        let agent = Agent::with_parts(
            config.build(),
            DefaultConnector::default(),
            CachingResolver::default(),
        );
        Self {
            agent,
            urls: urls.to_vec(),
            turn: 0,
        }
    }

    /// What they answer, each asked when its turn comes; those that answer nothing of use are
    /// passed over.
    pub(crate) fn ask(&mut self) -> impl Iterator<Item = Ipv4Addr> {
        self.turn = (self.turn + 1) % self.urls.len().max(1);
        let (later, first) = self.urls.split_at(self.turn.min(self.urls.len()));
        first
            .iter()
            .chain(later)
            .filter_map(|url| self.address(url))
    }

    fn address(&self, url: &str) -> Option<Ipv4Addr> {
        let mut answer = self.agent.get(url).call().ok()?;
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_LIMIT)
            .read_to_string()
            .ok()?;
        text.trim().parse().ok()
    }
}
