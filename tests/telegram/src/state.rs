//! The state of one simulated Telegram, and how tests and webhooks wait for its changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::answer::Answer;
use crate::delivery::Webhook;
use crate::queue::{Queues, Update, random};
use crate::{Call, Cut, Delivery, Fault, Options, Sent, json, kinds};

/// A rule that a test may set.
pub(crate) type Rule<A, B> = Mutex<Option<Box<dyn FnMut(&A) -> Option<B> + Send>>>;

/// What all parts of one Telegram share.
pub(crate) struct Shared {
    pub options: Options,
    pub on_request: Rule<(), usize>,
    pub on_call: Rule<Call, Fault>,
    pub on_delivery: Rule<Delivery, Cut>,
    names: Mutex<HashMap<String, Ipv4Addr>>,
    state: Mutex<State>,
    /// Something happened that a test may wait for.
    changed: Condvar,
    /// Something happened that a webhook may wait for.
    woken: watch::Sender<()>,
}

/// Behind the lock.
#[derive(Default)]
pub(crate) struct State {
    pub routes: HashMap<(String, u16), SocketAddr>,
    /// Where no packet gets in.
    pub shut: HashSet<(String, u16)>,
    accounts: HashMap<String, Account>,
}

impl Shared {
    pub fn new(options: Options) -> Shared {
        Shared {
            options,
            on_request: Mutex::default(),
            on_call: Mutex::default(),
            on_delivery: Mutex::default(),
            names: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            woken: watch::Sender::new(()),
        }
    }

    /// Does something to the state, and tells whoever waits for it.
    pub fn change<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let result = action(&mut lock(&self.state));
        self.changed.notify_all();
        result
    }

    /// Does something to one account that nobody waits for.
    pub fn look<T>(&self, token: &str, action: impl FnOnce(&mut Account) -> T) -> T {
        action(lock(&self.state).account(token))
    }

    /// Does something to one account, and tells whoever waits for it.
    pub fn account<T>(&self, token: &str, action: impl FnOnce(&mut Account) -> T) -> T {
        self.change(|state| action(state.account(token)))
    }

    pub fn knows(&self, token: &str) -> bool {
        lock(&self.state).accounts.contains_key(token)
    }

    pub fn route(&self, host: &str, port: u16) -> Option<SocketAddr> {
        lock(&self.state)
            .routes
            .get(&(host.to_owned(), port))
            .copied()
    }

    pub fn is_shut(&self, host: &str, port: u16) -> bool {
        lock(&self.state).shut.contains(&(host.to_owned(), port))
    }

    /// The DNS: this name has this address.
    pub fn set_name(&self, host: &str, address: Ipv4Addr) {
        lock(&self.names).insert(host.to_ascii_lowercase(), address);
    }

    /// The address of a URL's host. A name has the one that a test gave it, or that of all names
    /// without one.
    pub fn resolve(&self, host: &str) -> Option<IpAddr> {
        if let Ok(literal) = host.trim_matches(['[', ']']).parse() {
            return Some(literal);
        }
        if let Some(address) = lock(&self.names).get(host) {
            return Some(IpAddr::V4(*address));
        }
        match host {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            _ if host.ends_with(".invalid") => None,
            _ => Some(SOMEWHERE.into()),
        }
    }

    /// Waits until `ready` has something, no longer than `within`.
    pub fn wait<T>(
        &self,
        within: Duration,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + within;
        let mut state = lock(&self.state);
        loop {
            if let Some(result) = ready(&mut state) {
                return Some(result);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Lets every webhook look whether there is something to do.
    pub fn wake(&self) {
        self.woken.send_replace(());
    }

    pub fn wakes(&self) -> watch::Receiver<()> {
        self.woken.subscribe()
    }
}

impl State {
    pub fn account(&mut self, token: &str) -> &mut Account {
        if !self.accounts.contains_key(token) {
            self.accounts.insert(token.to_owned(), Account::new(token));
        }
        // The account exists: it was inserted just above if it was missing.
        self.accounts.get_mut(token).unwrap()
    }
}

/// A lock that a panicking test has not made useless.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn set_rule<A, B>(rule: &Rule<A, B>, new: impl FnMut(&A) -> Option<B> + Send + 'static) {
    *lock(rule) = Some(Box::new(new));
}

pub(crate) fn clear_rule<A, B>(rule: &Rule<A, B>) {
    *lock(rule) = None;
}

pub(crate) fn ask<A, B>(rule: &Rule<A, B>, about: &A) -> Option<B> {
    lock(rule).as_mut().and_then(|rule| rule(about))
}

/// Seconds since 1970.
pub(crate) fn date() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// The address of a name that nobody gave one.
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);

/// One chat of a bot. Message ids count from 1.
#[derive(Default)]
pub(crate) struct Chat {
    pub last_message: i64,
    /// Of the messages that are there, by number; empty where a message has none.
    pub texts: HashMap<i64, String>,
    pub threads: HashSet<i64>,
    /// There are some where the chat is the direct messages of a channel.
    pub direct_topics: HashSet<i64>,
}

/// What getUpdates needs to know.
#[derive(Default)]
pub(crate) struct Polling {
    /// The offset of the last call, and when it came.
    pub previous: Option<(i64, Instant)>,
    /// Ends the long poll that waits.
    pub waiting: Option<oneshot::Sender<Answer>>,
    /// Until then a conflict is answered late.
    pub next_conflict: Option<Instant>,
}

/// One bot.
pub(crate) struct Account {
    /// The number before the colon of its token.
    pub id: i64,
    pub queues: Queues,
    pub chats: HashMap<i64, Chat>,
    /// `None`: the default kinds.
    pub allowed_updates: Option<Vec<String>>,
    pub webhook: Option<Webhook>,
    /// When and what; a success does not clear it.
    pub last_error: Option<(u64, String)>,
    pub last_set_webhook: Option<Instant>,
    pub sent: Vec<Sent>,
    pub calls: Vec<Call>,
    pub deliveries: Vec<Delivery>,
    pub connections: usize,
    pub polling: Polling,
    /// When an offset first confirmed an update.
    pub confirmed: BTreeMap<i64, Instant>,
    /// The buttons that were pressed, by the id of the query, and when.
    pub queries: HashMap<String, Instant>,
    /// The id of the next update.
    pub next_update: i64,
    /// Every update there ever was, by id.
    past: HashMap<i64, Update>,
}

/// Of one bot.
pub(crate) const MAX_UPDATES: usize = 100_000;
/// Of one update, without the envelope that holds its id.
const MAX_UPDATE_SIZE: usize = 512 * 1024;
/// Of all that wait.
const MAX_SIZE: usize = 128 * 1024 * 1024;

impl Account {
    fn new(token: &str) -> Account {
        Account {
            id: token
                .split(':')
                .next()
                .and_then(|id| id.parse().ok())
                .unwrap_or(0),
            queues: Queues::default(),
            chats: HashMap::new(),
            allowed_updates: None,
            webhook: None,
            last_error: None,
            last_set_webhook: None,
            sent: Vec::new(),
            calls: Vec::new(),
            deliveries: Vec::new(),
            connections: 0,
            polling: Polling::default(),
            confirmed: BTreeMap::new(),
            queries: HashMap::new(),
            // Of ten digits, so that the largest update is as large as Telegram's largest.
            next_update: random(1_000_000_000, 1_900_000_000).cast_signed(),
            past: HashMap::new(),
        }
    }

    /// Queues an update and returns its id; 0 when Telegram would discard it.
    pub fn push(&mut self, kind: &str, queue: i64, value: &Value, options: &Options) -> i64 {
        let allowed = match &self.allowed_updates {
            Some(kinds) => kinds.iter().any(|allowed| allowed == kind),
            None => kinds::by_default().any(|allowed| allowed == kind),
        };
        let mut event = format!("\"{kind}\":");
        json::write(value, &mut event);
        let is_room =
            self.queues.len() < MAX_UPDATES && self.queues.size() + event.len() <= MAX_SIZE;
        if !allowed || !is_room || event.len() > MAX_UPDATE_SIZE {
            return 0;
        }
        let id = self.next_update;
        self.next_update += 1;
        let body = format!("{{\"update_id\":{id},\n{event}}}").into();
        let expiry = Instant::now() + options.scaled(lifetime(kind));
        let update = Update {
            id,
            queue,
            body,
            expiry,
        };
        self.past.insert(id, update.clone());
        self.queue(update);
        id
    }

    /// Queues an update once more, for another day.
    pub fn push_again(&mut self, id: i64, options: &Options) {
        if let Some(update) = self.past.get(&id) {
            let expiry = Instant::now() + options.scaled(lifetime(""));
            self.queue(Update {
                expiry,
                ..update.clone()
            });
        }
    }

    /// Each new update lets the webhook load some, not this one first.
    fn queue(&mut self, update: Update) {
        self.queues.push(update);
        if let Some(webhook) = &self.webhook {
            self.queues
                .load(webhook.settings.max_queues(), Instant::now());
        }
    }

    /// What getWebhookInfo answers.
    pub fn webhook_info(&self) -> String {
        let settings = self.webhook.as_ref().map(|webhook| &webhook.settings);
        let mut info = format!(
            "{{\"url\":{},\"has_custom_certificate\":{},\"pending_update_count\":{}",
            json::string(settings.map_or("", |settings| &settings.url)),
            settings.is_some_and(|settings| settings.certificate),
            self.queues.len(),
        );
        if let Some((date, message)) = &self.last_error {
            info += &format!(
                ",\"last_error_date\":{date},\"last_error_message\":{}",
                json::string(message)
            );
        }
        if let Some(settings) = settings {
            info += &format!(
                ",\"max_connections\":{},\"ip_address\":{}",
                settings.max_connections,
                json::string(&settings.address.to_string())
            );
        }
        if let Some(allowed) = &self.allowed_updates {
            info += &format!(
                ",\"allowed_updates\":{}",
                json::text(&allowed.as_slice().into())
            );
        }
        info + "}"
    }
}

/// Seconds until Telegram gives an update up.
fn lifetime(kind: &str) -> f64 {
    match kind {
        "inline_query" => 30.0,
        "callback_query" | "shipping_query" | "pre_checkout_query" => 150.0,
        "chosen_inline_result" => 600.0,
        _ => 86400.0,
    }
}
