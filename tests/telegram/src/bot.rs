//! One bot, as its users and a test see it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::queue::random;
use crate::state::{Account, Shared, date};
use crate::{Call, Delivery, messages};

/// What is added to a user's id for the queue of the buttons that the user presses: it is not the
/// one of the messages.
const CALLBACK_QUERIES: i64 = 3 << 33;

/// One bot account. Clones are the same bot.
#[derive(Clone)]
pub struct Bot {
    shared: Arc<Shared>,
    token: String,
}

/// A message that a user wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// 0 when Telegram discards the update.
    pub update_id: i64,
    /// Its number within the chat.
    pub message_id: i64,
}

/// A button that a user pressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// 0 when Telegram discards the update.
    pub update_id: i64,
    /// What answerCallbackQuery must name.
    pub query: String,
}

/// A message that the bot sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The chat it went to.
    pub chat: i64,
    /// Its number within the chat.
    pub message_id: i64,
    /// The text, as the bot gave it last.
    pub text: String,
    /// The formatting, as the bot gave it last.
    pub entities: Option<Value>,
    /// The buttons, as the bot gave them last.
    pub reply_markup: Option<Value>,
    /// The message it is a reply to.
    pub reply_to: Option<i64>,
    /// The thread of the chat.
    pub thread: Option<i64>,
    /// The topic in the direct messages of a channel.
    pub direct_topic: Option<i64>,
    /// The one person who can see it, if it is not for all of the chat.
    pub receiver: Option<i64>,
    /// When it was sent.
    pub at: Instant,
}

impl Bot {
    pub(crate) fn new(shared: &Arc<Shared>, token: &str) -> Bot {
        shared.account(token, |_| ());
        Bot {
            shared: Arc::clone(shared),
            token: token.to_owned(),
        }
    }

    /// Somebody writes `text` in a private chat, or in a group when `chat` is negative.
    pub fn say(&self, chat: i64, text: &str) -> Said {
        self.message(chat, json!({ "text": text }))
    }

    /// A message with these fields beside the ones that every message has.
    pub fn message(&self, chat: i64, fields: Value) -> Said {
        let said = self.account(|account| {
            let known = account.chats.entry(chat).or_default();
            known.last_message += 1;
            let message_id = known.last_message;
            known.texts.insert(message_id, fields["text"].as_str().unwrap_or_default().to_owned());
            known.threads.extend(fields["message_thread_id"].as_i64());
            known.direct_topics.extend(fields["direct_messages_topic"]["topic_id"].as_i64());
            let user = if chat > 0 { chat } else { 1_000_001 };
            let mut message = json!({
                "message_id": message_id,
                "from": { "id": user, "is_bot": false, "first_name": "User", "language_code": "en" },
                "chat": if chat > 0 {
                    json!({ "id": chat, "first_name": "User", "type": "private" })
                } else {
                    json!({ "id": chat, "title": "Group", "type": "supergroup" })
                },
                "date": date(),
            });
            if let (Some(message), Value::Object(fields)) = (message.as_object_mut(), fields) {
                message.extend(fields);
            }
            let update_id = account.push("message", chat, &message, &self.shared.options);
            Said { update_id, message_id }
        });
        self.shared.wake();
        said
    }

    /// A user presses a button with this data, under the last message that the bot sent to this
    /// chat.
    pub fn press(&self, chat: i64, user: i64, data: &str) -> Pressed {
        let pressed = self.account(|account| {
            let query = (random(1 << 62, (1 << 63) - 1)).to_string();
            let last = account.sent.iter().rev().find(|sent| sent.chat == chat);
            let message = match last {
                Some(sent) => messages::message(account, sent),
                None => json!({ "message_id": 1, "chat": { "id": chat }, "date": 0 }),
            };
            let value = json!({
                "id": query,
                "from": { "id": user, "is_bot": false, "first_name": "User", "language_code": "en" },
                "message": message,
                "chat_instance": chat.to_string(),
                "data": data,
            });
            let queue = user + CALLBACK_QUERIES;
            let update_id = account.push("callback_query", queue, &value, &self.shared.options);
            account.queries.insert(query.clone(), Instant::now());
            Pressed { update_id, query }
        });
        self.shared.wake();
        pressed
    }

    /// An update of any kind, in the queue with this number. Returns its id; 0 when Telegram
    /// discards it.
    pub fn update(&self, kind: &str, queue: i64, value: Value) -> i64 {
        let id = self.account(|account| account.push(kind, queue, &value, &self.shared.options));
        self.shared.wake();
        id
    }

    /// Queues an update of the past again, with the same id.
    pub fn redeliver(&self, update_id: i64) {
        self.account(|account| account.push_again(update_id, &self.shared.options));
        self.shared.wake();
    }

    /// The webhook fails with this `last_error_message`, for a reason that is not simulated.
    pub fn fail(&self, message: &str) {
        self.account(|account| account.last_error = Some((date(), message.to_owned())));
    }

    /// The messages that the bot has sent, in order.
    pub fn sent(&self) -> Vec<Sent> {
        self.look(|account| account.sent.clone())
    }

    /// Every API call, in order, whatever became of it.
    pub fn calls(&self) -> Vec<Call> {
        self.look(|account| account.calls.clone())
    }

    /// Every webhook request, in order, also those without an answer yet.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.look(|account| account.deliveries.clone())
    }

    /// When each update was confirmed by an offset of getUpdates, if it was.
    pub fn confirmed(&self) -> BTreeMap<i64, Instant> {
        self.look(|account| account.confirmed.clone())
    }

    /// What getWebhookInfo answers.
    pub fn webhook_info(&self) -> Value {
        self.look(|account| account.webhook_info())
            .parse()
            .unwrap_or_default()
    }

    /// How many updates are not delivered yet.
    pub fn pending(&self) -> usize {
        self.look(|account| account.queues.len())
    }

    /// How many webhook connections are open, beyond their TLS handshake.
    pub fn connections(&self) -> usize {
        self.look(|account| account.connections)
    }

    /// Waits until the bot has sent `count` messages.
    pub fn wait_sent(&self, count: usize, within: Duration) -> Result<Vec<Sent>, String> {
        self.wait("messages sent", count, within, |account| {
            Box::new(account.sent.iter())
        })
    }

    /// Waits until the bot has called `method` (in any case) `count` times.
    pub fn wait_call(
        &self,
        method: &str,
        count: usize,
        within: Duration,
    ) -> Result<Vec<Call>, String> {
        let method = method.to_ascii_lowercase();
        self.wait(&format!("calls of {method}"), count, within, |account| {
            let method = method.clone();
            Box::new(
                account
                    .calls
                    .iter()
                    .filter(move |call| call.method.eq_ignore_ascii_case(&method)),
            )
        })
    }

    /// Waits until `count` updates have been delivered.
    pub fn wait_delivered(&self, count: usize, within: Duration) -> Result<Vec<Delivery>, String> {
        self.wait("updates delivered", count, within, |account| {
            Box::new(
                account
                    .deliveries
                    .iter()
                    .filter(|delivery| delivery.succeeded()),
            )
        })
    }

    /// Waits until every update is delivered or given up.
    pub fn wait_none_pending(&self, within: Duration) -> Result<(), String> {
        let none = |account: &Account| (account.queues.len() == 0).then_some(());
        self.shared
            .wait(within, |state| none(state.account(&self.token)))
            .ok_or_else(|| {
                format!(
                    "{} updates are pending{}",
                    self.pending(),
                    self.last_error()
                )
            })
    }

    /// Waits until `count` webhook requests have begun.
    pub fn wait_deliveries(&self, count: usize, within: Duration) -> Result<Vec<Delivery>, String> {
        self.wait("webhook requests", count, within, |account| {
            Box::new(account.deliveries.iter())
        })
    }

    /// Waits until exactly `count` webhook connections are open.
    pub fn wait_connections(&self, count: usize, within: Duration) -> Result<(), String> {
        let open = |account: &Account| (account.connections == count).then_some(());
        self.shared
            .wait(within, |state| open(state.account(&self.token)))
            .ok_or_else(|| {
                format!(
                    "{} connections instead of {count}{}",
                    self.connections(),
                    self.last_error()
                )
            })
    }

    /// Waits for an error of the webhook, and returns its message.
    pub fn wait_error(&self, within: Duration) -> Result<String, String> {
        let message = |account: &Account| {
            account
                .last_error
                .as_ref()
                .map(|(_, message)| message.clone())
        };
        self.shared
            .wait(within, |state| message(state.account(&self.token)))
            .ok_or_else(|| "no last_error_message".to_owned())
    }

    fn account<T>(&self, action: impl FnOnce(&mut Account) -> T) -> T {
        self.shared.account(&self.token, action)
    }

    fn look<T>(&self, action: impl FnOnce(&mut Account) -> T) -> T {
        self.shared.look(&self.token, action)
    }

    fn last_error(&self) -> String {
        let error = self.look(|account| account.last_error.clone());
        error.map_or("; no last_error_message".to_owned(), |(_, message)| {
            format!("; last_error_message: {message}")
        })
    }

    fn wait<T: Clone + Debug>(
        &self,
        what: &str,
        count: usize,
        within: Duration,
        list: impl for<'a> Fn(&'a Account) -> Box<dyn Iterator<Item = &'a T> + 'a>,
    ) -> Result<Vec<T>, String> {
        let enough = |account: &Account| {
            (list(account).count() >= count).then(|| list(account).cloned().collect())
        };
        self.shared
            .wait(within, |state| enough(state.account(&self.token)))
            .ok_or_else(|| {
                let there: Vec<T> = self.look(|account| list(account).cloned().collect());
                let tail = &there[there.len().saturating_sub(5)..];
                format!(
                    "{} {what} instead of {count} within {within:?}, the last ones: {tail:#?}{}",
                    there.len(),
                    self.last_error()
                )
            })
    }
}
