//! The Bot API, as far as this bot calls it: blocking, on one pool of connections for all bots.

use std::io::Read;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;
use serde_json::value::RawValue;
use ureq::config::IpFamily;
use ureq::http::Response;
use ureq::tls::TlsConfig;
use ureq::typestate::WithBody;
use ureq::unversioned::multipart::{Form, Part};
use ureq::{Agent, Body, RequestBuilder};

use super::clock_skew;
use super::error::ApiError;
use super::proxy::Proxy;
use super::queue::QueuedUpdate;
use super::token::Token;
use super::transport::{self, BUFFER_SIZE};
use super::types::{Me, WebhookInfo};
use crate::secret::Secret;
use crate::secret::printable;
use crate::system::ca_roots;
use crate::system::clock::unix_now;
use crate::system::resolver::CachingResolver;

/// A whole call may take this long. Well below the 60 s that Telegram waits for a webhook's answer;
/// above the 8 s of flood wait that the Bot API sits out by itself.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long Telegram holds a call of getUpdates while there are no updates, in seconds: the longest
/// it takes.
const POLL_SECONDS: u32 = 50;
/// For such a call.
pub(crate) const POLL_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read: one message with its 4096 characters fits many times.
const ANSWER_LIMIT: u64 = 256 * 1024;
/// Bytes of a page of getUpdates that are read: four of the largest updates there are. Telegram
/// sends up to 4 MiB.
const PAGE_LIMIT: u64 = 2 * 1024 * 1024;

/// A Bot API server and the connections to it. Clones share them.
#[derive(Clone)]
pub(crate) struct Api {
    /// Without a slash at its end.
    url: String,
    /// What leads there, if it is not called directly.
    proxy: Option<Arc<Proxy>>,
    connections: usize,
    /// Seconds by which Telegram's clock was ahead of ours at the last answer that told its time.
    clock_ahead: Arc<AtomicI64>,
    /// Made at the first call: reading the system's certificates must not delay the start.
    agent: Arc<OnceLock<Agent>>,
}

impl Api {
    /// The server at `url`, called through `proxy` if there is one, keeping up to `connections`
    /// idle connections.
    pub(crate) fn new(url: &str, proxy: Option<&Proxy>, connections: usize) -> Self {
        Self {
            url: url.to_owned(),
            proxy: proxy.cloned().map(Arc::new),
            connections,
            clock_ahead: Arc::default(),
            agent: Arc::default(),
        }
    }

    /// Takes in the `Date` of an answer.
    fn note_date(&self, date: &str) {
        clock_skew::warn_if_off(date);
        if let Some(ahead) = clock_skew::ahead(date, SystemTime::now()) {
            self.clock_ahead.store(ahead, Ordering::Relaxed);
        }
    }

    /// Whether the server answers at all; the `Date` of its answer.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) fn reach(&self) -> Result<Option<String>, ApiError> {
        let response = self
            .agent()
            .get(&self.url)
            .call()
            .map_err(|why| self.failed(why))?;
        Ok(response
            .headers()
            .get("date")
            .and_then(|date| date.to_str().ok())
            .map(str::to_owned))
    }

    /// What an error means; it names the proxy, which can be what failed.
    fn failed(&self, error: ureq::Error) -> ApiError {
        match (ApiError::from(error), &self.proxy) {
            (ApiError::Unreachable(why), Some(proxy)) => {
                ApiError::Unreachable(format!("{why} (proxy {proxy})"))
            }
            (ApiError::Unanswered(why), Some(proxy)) => {
                ApiError::Unanswered(format!("{why} (proxy {proxy})"))
            }
            (error, _) => error,
        }
    }

    fn agent(&self) -> &Agent {
        self.agent.get_or_init(|| {
            let mut config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .ip_family(IpFamily::Any)
                // The environment was read with the settings.
                .proxy(self.proxy.as_deref().and_then(Proxy::for_ureq))
                .user_agent(concat!("pihook/", env!("CARGO_PKG_VERSION")))
                .timeout_global(Some(CALL_TIMEOUT))
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_send_request(Some(CONNECT_TIMEOUT))
                .timeout_send_body(Some(CONNECT_TIMEOUT))
                .timeout_recv_response(Some(CALL_TIMEOUT))
                .timeout_recv_body(Some(CONNECT_TIMEOUT))
                .input_buffer_size(BUFFER_SIZE)
                .output_buffer_size(BUFFER_SIZE)
                .max_idle_connections(self.connections)
                .max_idle_connections_per_host(self.connections);
            if self.url.starts_with("https:") || self.proxy.as_deref().is_some_and(Proxy::has_tls) {
                config =
                    config.tls_config(TlsConfig::builder().root_certs(ca_roots::roots()).build());
            }
            Agent::with_parts(
                config.build(),
                transport::connector(self.proxy.as_deref()),
                CachingResolver::default(),
            )
        })
    }
}

/// One bot's side of the Bot API.
#[derive(Clone)]
pub(crate) struct Client {
    api: Api,
    token: Token,
}

/// How the Bot API wraps every answer.
#[derive(Deserialize)]
struct Envelope<T> {
    ok: bool,
    result: Option<T>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

/// The parameters of setWebhook.
pub(crate) struct Webhook<'a> {
    /// `https://HOST:PORT/PATH`.
    pub(crate) url: &'a Secret,
    /// The self-signed certificate or private root, PEM; none when a public CA signed it.
    pub(crate) certificate: Option<&'a str>,
    /// Shown with every call.
    pub(crate) secret_token: &'a Secret,
    /// 1 to 100.
    pub(crate) max_connections: u16,
    /// The kinds of update that are delivered; none is Telegram's default.
    pub(crate) allowed_updates: &'a [&'a str],
}

impl Client {
    /// The bot with this token, on this server.
    pub(crate) fn new(api: Api, token: Token) -> Self {
        Self { api, token }
    }

    /// The bot's own id: the public half of its token.
    pub(crate) fn bot(&self) -> u64 {
        self.token.id()
    }

    /// Unix time in seconds by Telegram's clock, as far as its answers tell: a Pi's own clock can
    /// be wrong.
    pub(crate) fn telegram_time(&self) -> i64 {
        let here = i64::try_from(unix_now()).unwrap_or(i64::MAX);
        here.saturating_add(self.api.clock_ahead.load(Ordering::Relaxed))
    }

    /// Makes a call whose result nobody needs; `parameters` is a JSON object.
    ///
    /// # Errors
    /// See [`ApiError`]. With `Unanswered` it may have been carried out.
    pub(crate) fn make_call(&self, method: &str, parameters: &[u8]) -> Result<(), ApiError> {
        let answer = self.exchange(method, ANSWER_LIMIT, |request| {
            request.content_type("application/json").send(parameters)
        })?;
        // A gateway's page with the status 200 is none.
        if answer.says_ok() {
            Ok(())
        } else {
            answer.read::<IgnoredAny>().map(|_| ())
        }
    }

    /// Registers the webhook, with its certificate as a file: sent as text it would be ignored.
    ///
    /// # Errors
    /// See [`ApiError`]. After some of them the bot has no webhook at all.
    pub(crate) fn set_webhook(&self, webhook: &Webhook<'_>) -> Result<(), ApiError> {
        let connections = webhook.max_connections.to_string();
        let allowed_updates = json!(webhook.allowed_updates).to_string();
        let form = || {
            let form = Form::new()
                .text("url", webhook.url.expose())
                .text("secret_token", webhook.secret_token.expose())
                .text("max_connections", &connections)
                .text("allowed_updates", &allowed_updates);
            let Some(pem) = webhook.certificate else {
                return form;
            };
            form.part(
                "certificate",
                Part::bytes(pem.as_bytes()).file_name("webhook_cert.pem"),
            )
        };
        self.call::<IgnoredAny>("setWebhook", |request| request.send(form()))
            .map(|_| ())
    }

    /// Removes the webhook; there need not be one.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) fn delete_webhook(&self) -> Result<(), ApiError> {
        self.call::<IgnoredAny>("deleteWebhook", |request| request.send_json(json!({})))
            .map(|_| ())
    }

    /// Up to `limit` updates from `offset` on, of these kinds; Telegram forgets what lies before
    /// it. Telegram answers when there are some, or after 50 s; at once where `waits` is false.
    ///
    /// # Errors
    /// See [`ApiError`]. `TooLarge` when the page has more than 2 MiB.
    pub(crate) fn updates(
        &self,
        (offset, limit): (Option<i64>, usize),
        allowed_updates: &[&str],
        waits: bool,
    ) -> Result<Vec<QueuedUpdate>, ApiError> {
        let timeout = if waits { POLL_SECONDS } else { 0 };
        let mut parameters =
            json!({ "limit": limit, "timeout": timeout, "allowed_updates": allowed_updates });
        if let Some(offset) = offset {
            parameters["offset"] = offset.into();
        }
        let longest = if waits { POLL_TIMEOUT } else { CALL_TIMEOUT };
        let send = |request: RequestBuilder<WithBody>| {
            let config = request
                .config()
                .timeout_global(Some(longest))
                .timeout_recv_response(Some(longest));
            config
                .timeout_recv_body(Some(longest))
                .build()
                .send_json(&parameters)
        };
        let Answer { status, body, cut } = self.exchange("getUpdates", PAGE_LIMIT, send)?;
        cut.map_or(Ok(()), Err)?;
        let page: Vec<&RawValue> = read_answer(status, &body)?;
        Ok(page.into_iter().filter_map(QueuedUpdate::read).collect())
    }

    /// Who this bot is.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) fn me(&self) -> Result<Me, ApiError> {
        self.call("getMe", |request| request.send_json(json!({})))
    }

    /// What Telegram knows of the webhook.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) fn webhook_info(&self) -> Result<WebhookInfo, ApiError> {
        let mut info: WebhookInfo =
            self.call("getWebhookInfo", |request| request.send_json(json!({})))?;
        for words in [&mut info.ip_address, &mut info.last_error_message]
            .into_iter()
            .flatten()
        {
            *words = printable(words);
        }
        Ok(info)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        send: impl Fn(RequestBuilder<WithBody>) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<T, ApiError> {
        let start = Instant::now();
        loop {
            match self.exchange(method, ANSWER_LIMIT, &send) {
                // When a home has moved, all kept connections are dead. None of these calls does
                // harm when made twice.
                Err(ApiError::StaleConnection(_)) if start.elapsed() < CALL_TIMEOUT => {}
                exchanged => return exchanged?.read(),
            }
        }
    }

    /// The answer, of which no more than `limit` bytes are read.
    fn exchange(
        &self,
        method: &str,
        limit: u64,
        send: impl FnOnce(RequestBuilder<WithBody>) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Answer, ApiError> {
        let url = format!("{}/bot{}/{method}", self.api.url, self.token.expose());
        let mut response = send(self.api.agent().post(url)).map_err(|why| self.api.failed(why))?;
        if let Some(date) = response
            .headers()
            .get("date")
            .and_then(|date| date.to_str().ok())
        {
            self.api.note_date(date);
        }
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let read = response
            .body_mut()
            .with_config()
            .limit(limit)
            .reader()
            .read_to_end(&mut body);
        Ok(Answer {
            status,
            body,
            cut: read.err().map(|why| ureq::Error::from(why).into()),
        })
    }
}

/// An answer, as far as it came.
struct Answer {
    status: u16,
    body: Vec<u8>,
    /// Why the rest did not come.
    cut: Option<ApiError>,
}

impl Answer {
    fn read<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        match self.cut {
            Some(why) => Err(why),
            None => read_answer(self.status, &self.body),
        }
    }

    /// Whether it says that the call was carried out. The Bot API says so first (telegram-bot-api,
    /// `Query.h`, `JsonQueryOk`); whatever comes behind it, or does not come, changes nothing.
    fn says_ok(&self) -> bool {
        let mut rest = &self.body[..];
        self.status == 200
            && ["{", "\"ok\"", ":", "true"].into_iter().all(|token| {
                let behind = rest.trim_ascii_start().strip_prefix(token.as_bytes());
                rest = behind.unwrap_or_default();
                behind.is_some()
            })
    }
}

/// Reads the Bot API's answer. Gateways before it answer HTML, or JSON of their own.
///
/// # Errors
/// `Refused` or `Foreign`.
pub fn read_answer<'a, T: Deserialize<'a>>(status: u16, body: &'a [u8]) -> Result<T, ApiError> {
    match serde_json::from_slice::<Envelope<T>>(body) {
        Ok(Envelope {
            ok: true,
            result: Some(result),
            ..
        }) => Ok(result),
        Ok(envelope) if !envelope.ok => Err(ApiError::Refused {
            code: status,
            description: printable(&envelope.description),
            retry_after: envelope.parameters.retry_after,
            migrate_to_chat_id: envelope.parameters.migrate_to_chat_id,
        }),
        _ => Err(ApiError::Foreign { status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_telegram_words_them() {
        let read = |status, body: &str| read_answer::<bool>(status, body.as_bytes());
        assert_eq!(
            read(
                200,
                r#"{"ok":true,"result":true,"description":"Webhook was set"}"#
            ),
            Ok(true)
        );
        let flood = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 5","parameters":{"retry_after":5}}"#;
        assert!(matches!(
            read(429, flood),
            Err(ApiError::Refused {
                code: 429,
                retry_after: Some(5),
                ..
            })
        ));
        let moved = r#"{"ok":false,"error_code":400,"description":"x","parameters":{"migrate_to_chat_id":-1001}}"#;
        assert!(matches!(
            read(400, moved),
            Err(ApiError::Refused {
                migrate_to_chat_id: Some(-1001),
                ..
            })
        ));
    }

    #[test]
    fn what_is_not_the_bot_api_is_called_so() {
        for body in [
            "<html>502 Bad Gateway</html>",
            "",
            "{}",
            "[]",
            r#"{"ok":true}"#,
            r#"{"ok":true,"result":{}}"#,
        ] {
            assert_eq!(
                read_answer::<bool>(502, body.as_bytes()),
                Err(ApiError::Foreign { status: 502 }),
                "{body}"
            );
        }
    }

    #[test]
    fn descriptions_cannot_forge_log_lines() {
        let body = "{\"ok\":false,\"description\":\"a\\n<3>b\"}";
        let error = read_answer::<bool>(400, body.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn only_the_bot_api_says_that_a_call_was_carried_out() {
        let says_ok = |status, body: &str| {
            Answer {
                status,
                body: body.into(),
                cut: None,
            }
            .says_ok()
        };
        for body in [
            r#"{"ok":true,"result":{}}"#,
            r#"{"ok":true"#,
            "\r\n{ \"ok\" : true,\"result\":{\"te",
        ] {
            assert!(says_ok(200, body) && !says_ok(502, body), "{body}");
        }
        for body in [
            "",
            "{",
            "<html>ok</html>",
            r#"{"ok":false,"description":"x"}"#,
            r#"{"ok":tru"#,
            r#"["ok",true]"#,
        ] {
            assert!(!says_ok(200, body), "{body}");
        }
    }
}
