//! The probe: asks our own webhook as Telegram would, through the real listener, TLS, the edge,
//! tiny_http and a worker, and back. Only its answers feed systemd's watchdog.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use ureq::Agent;
use ureq::tls::TlsConfig;

use super::auth::Route;
use crate::secret::{Secret, hex};
use crate::updates::handover::Recipient;

/// For one question. When all workers wait for a Bot API that does not answer, one of them is free
/// within this time.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(45);

/// A random route for the probe, which only this process knows.
///
/// # Errors
/// When the system has no random numbers.
pub(crate) fn route() -> Result<Route, Unspecified> {
    let mut random = [[0; 16]; 2];
    SystemRandom::new().fill(random.as_flattened_mut())?;
    let [path, secret] = random.map(|bytes| hex(&bytes));
    Ok(Route {
        recipient: Recipient::Probe,
        path: format!("/{path}").into(),
        secret_token: secret.into(),
    })
}

/// Calls the webhook that listens at `listener`.
pub(crate) struct Probe {
    agent: Agent,
    url: Secret,
    secret_token: Secret,
}

impl Probe {
    /// A probe of the listener at this address, through `route`, with TLS or without.
    pub(crate) fn new(listener: SocketAddr, route: &Route, tls: bool) -> Self {
        let config = Agent::config_builder()
            // It is our own listener, whatever certificate it shows.
            .tls_config(TlsConfig::builder().disable_verification(true).build())
            .proxy(None)
            .max_idle_connections(0)
            .timeout_global(Some(PROBE_TIMEOUT))
            .build();
        let address = SocketAddr::new(loopback_for(listener.ip()), listener.port());
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{address}{}", route.path.expose());
        Self {
            agent: config.into(),
            url: url.into(),
            secret_token: route.secret_token.clone(),
        }
    }

    /// Whether the webhook answers in time.
    pub(crate) fn is_answered(&self) -> bool {
        let answer = self
            .agent
            .post(self.url.expose())
            .header(
                "X-Telegram-Bot-Api-Secret-Token",
                self.secret_token.expose(),
            )
            .content_type("application/json")
            .send("{}");
        // ureq makes an error of any status above 399, too.
        answer.is_ok()
    }
}

/// An address at which a listener on `address` can be reached from here.
pub(crate) fn loopback_for(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}
