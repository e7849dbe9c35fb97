//! A simulated Telegram, for tests and for a demonstration without the internet. It is both sides:
//! a Bot API server, which bots call, and the client that calls bots' webhooks, with Telegram's
//! habits.
//!
//! ```text
//!  a test ── Bot::say ──▶ state ◀── methods, webhook ◀── api ◀── http ◀── the bot's API calls
//!                           │
//!                           └─ queue ──▶ delivery ──▶ line ──▶ client ──▶ the bot's webhook
//!                              order      pool        one      bytes,
//!                              back-off              connection TLS
//! ```
//!
//! * [`Telegram`] and [`Bot`] are what a test holds. They block, and need no runtime.
//! * `state` is all there is to know: accounts, updates, what was sent and delivered.
//! * `api` answers the bot's calls: `http` reads them, `methods`, `messages`, `polling` and
//!   `webhook` carry them out.
//! * `delivery` is one task for each webhook; it hands updates from `queue` to connections
//!   (`line`).
//! * [`client`] is one connection with Telegram's way of HTTP (`response`), of reading and writing
//!   (`stream`), of TLS (`tls`, `names`, `pem`) and of URLs (`url`).
//!
//! # What it is true to
//!
//! tdlib/telegram-bot-api at 01a3679 (Bot API 10.0) with tdlib/td at 49b3bcbb, read, and driven as
//! they are against the same servers; OpenSSL 3.0.22 as Debian and Ubuntu build it, for
//! certificates, names and uploads. api.telegram.org runs this code behind machines that nobody
//! outside knows.
//!
//! * What is loaded and when, the order between chats, back-off, `Retry-After`, expiry, limits of
//!   sizes and numbers, the pool of connections, its timers, its silences, and the words of
//!   `last_error_message`.
//! * Every byte of a request and its TLS records; answers as Telegram reads them, whole or broken,
//!   early or late.
//! * setWebhook, deleteWebhook, getWebhookInfo and getUpdates with their order of checks, pauses
//!   and conflicts.
//!
//! # What it leaves out
//!
//! * **Verdicts that rustls cannot give**: keys that are not RSA, P-256, P-384 or Ed25519 (P-521,
//!   Ed448), suites without forward secrecy or with CBC, X448, certificates of version 1 below a
//!   root. There it says `NO VERDICT` ([`client::Error::NoVerdict`], in `last_error_message`, and
//!   on stderr), and a test must not take that for either answer. Name constraints, path building
//!   and signatures in longer chains are rustls's, which agrees where it was compared.
//! * Bodies of answers in gzip or deflate: they count as delivered, and a method in one is not
//!   called.
//! * Broken headers (lines without a colon or folded), JSON that is a single string,
//!   `multipart/form-data` in an answer.
//! * The DNS: a name has the address that [`Telegram::resolve`] gave it when the webhook was set,
//!   and [`Telegram::route`] says where connections go; no look every 30 minutes. No "Failed to
//!   connect to \[IP:port\]": every address has a route, though perhaps nobody answers.
//! * setWebhook is done at once, so two of them never meet ("terminated by other setWebhook").
//! * Expired updates count as pending until the webhook comes to them; Telegram sweeps them out now
//!   and then.
//! * Flood limits, and all methods but those in `methods`. A test gets them by
//!   [`Telegram::on_call`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod answer;
mod api;
mod bot;
pub mod client;
mod delivery;
mod http;
mod json;
mod kinds;
mod line;
mod messages;
mod methods;
mod names;
mod pem;
mod polling;
mod queue;
mod response;
mod state;
mod stream;
mod tls;
mod url;
mod webhook;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use api::{Call, Fault};
pub use bot::{Bot, Pressed, Said, Sent};
pub use delivery::{Cut, Delivery};
use state::Shared;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What kind of Telegram to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Divides every waiting time of Telegram's own; 1.0 is real time.
    pub speed: f64,
    /// PEM certificate chain and key: the Bot API is served over HTTPS. `None`: over HTTP.
    pub api_tls: Option<(String, String)>,
    /// Where the Bot API listens.
    pub api_address: Ipv4Addr,
    /// The port of the Bot API; 0 is a free one.
    pub api_port: u16,
    /// The local address that webhook calls come from; by default not the one that a bot on this
    /// machine calls itself from.
    pub source: Ipv4Addr,
    /// Like `telegram-bot-api --local`: webhooks may have any port and address, and plain HTTP.
    pub local: bool,
    /// PEM roots that count for webhooks whose certificate was not uploaded.
    pub roots: String,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            speed: 1.0,
            api_tls: None,
            api_address: Ipv4Addr::LOCALHOST,
            api_port: 0,
            source: Ipv4Addr::new(127, 0, 0, 2),
            local: false,
            roots: String::new(),
        }
    }
}

impl Options {
    /// A waiting time of Telegram's, as long as it is here.
    pub(crate) fn scaled(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds / self.speed)
    }
}

/// A running Telegram. It ends when dropped.
pub struct Telegram {
    shared: Arc<Shared>,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Telegram {
    /// Starts a Telegram on a thread of its own.
    pub fn start(options: Options) -> io::Result<Telegram> {
        let tls = options
            .api_tls
            .as_ref()
            .map(|(chain, key)| api::acceptor(chain, key))
            .transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener =
            runtime.block_on(TcpListener::bind((options.api_address, options.api_port)))?;
        let address = listener.local_addr()?;
        let url = if tls.is_some() {
            format!("https://localhost:{}", address.port())
        } else {
            format!("http://{address}")
        };
        let shared = Arc::new(Shared::new(options));
        let (stop, stopped) = oneshot::channel();
        let server = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("telegram".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = api::serve(listener, tls, server) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Telegram {
            shared,
            url,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where the Bot API is, without a slash at the end.
    pub fn api_url(&self) -> String {
        self.url.clone()
    }

    /// The bot with this token, which is known from now on.
    pub fn bot(&self, token: &str) -> Bot {
        Bot::new(&self.shared, token)
    }

    /// The internet: connections to this host and port of webhook URLs go to `to`. Without a route
    /// they wait for one (a local Telegram connects directly). When the route changes, so does the
    /// next connection, and those that are open close after their next response.
    pub fn route(&self, host: &str, port: u16, to: SocketAddr) {
        self.shared
            .change(|state| state.routes.insert((host.to_ascii_lowercase(), port), to));
        self.shared.wake();
    }

    /// The DNS: a webhook that is set from now on with this name in its URL is at `address`. Names
    /// that never got one have the same public address; those that end in `.invalid` have none.
    pub fn resolve(&self, host: &str, address: Ipv4Addr) {
        self.shared.set_name(host, address);
    }

    /// Nothing is at this host and port any more.
    pub fn unroute(&self, host: &str, port: u16) {
        self.shared
            .change(|state| state.routes.remove(&(host.to_ascii_lowercase(), port)));
    }

    /// A home shuts Telegram out: no packet gets to this host and port any more, and none comes
    /// back, also on connections that are open. A route stays, for when the home opens up.
    pub fn shut(&self, host: &str, port: u16) {
        self.shared
            .change(|state| state.shut.insert((host.to_ascii_lowercase(), port)));
        self.shared.wake();
    }

    /// Ends [`Telegram::shut`].
    pub fn open(&self, host: &str, port: u16) {
        self.shared
            .change(|state| state.shut.remove(&(host.to_ascii_lowercase(), port)));
        self.shared.wake();
    }

    /// Asks `rule` about every API call of a known bot, before it is carried out. It replaces the
    /// rule before, and must not wait for Telegram: nothing else happens meanwhile.
    pub fn on_call(&self, rule: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        state::set_rule(&self.shared.on_call, rule);
    }

    /// Asks `rule` before every API request, of whomever: the connection is closed after so many
    /// bytes of it, if it is longer. It replaces the rule before, and must not wait for Telegram.
    pub fn on_request(&self, mut rule: impl FnMut() -> Option<usize> + Send + 'static) {
        state::set_rule(&self.shared.on_request, move |()| rule());
    }

    /// Asks `rule` about every webhook request. It replaces the rule before, and must not wait for
    /// Telegram.
    pub fn on_delivery(&self, rule: impl FnMut(&Delivery) -> Option<Cut> + Send + 'static) {
        state::set_rule(&self.shared.on_delivery, rule);
    }
}

impl Drop for Telegram {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed there.
            let _ = thread.join();
        }
        // A rule may hold a bot, and so what holds the rule.
        state::clear_rule(&self.shared.on_request);
        state::clear_rule(&self.shared.on_call);
        state::clear_rule(&self.shared.on_delivery);
    }
}
