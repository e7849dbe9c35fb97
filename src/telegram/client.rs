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

/// The limit of a whole call. It is well below the 60 s that Telegram waits for a webhook's answer,
/// and above the 8 s that the Bot API itself can wait because of a flood limit.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest `timeout` of getUpdates, in seconds: how long Telegram waits for an update. It takes
/// no more (telegram-bot-api, `Client.h`, `LONG_POLL_MAX_TIMEOUT`).
pub(crate) const LONGEST_POLL: u32 = 50;
/// The limit of such a call, with the time that a large page takes on a slow line.
pub(crate) const POLL_TIMEOUT: Duration = Duration::from_secs(60);
/// The limit for the answer's way here, after Telegram has waited.
const ANSWER_WAY: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: many times a message of 4096 characters.
const ANSWER_LIMIT: u64 = 256 * 1024;
/// Bytes of a page of getUpdates that are read: four of the largest updates there are. Telegram
/// sends up to 4 MiB.
const PAGE_LIMIT: u64 = 2 * 1024 * 1024;

/// A Bot API server and the connections to it. Clones share them.
#[derive(Clone)]
pub(crate) struct Api {
    /// Without a slash at its end.
    url: String,
    /// The proxy through which the server is called, if there is one.
    proxy: Option<Arc<Proxy>>,
    /// How many idle connections are kept.
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

    /// Asks whether the server answers at all. Returns the `Date` of its answer.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) fn reach(&self) -> Result<Option<String>, ApiError> {
        let response = self.agent().get(&self.url).call();
        let response = response.map_err(|error| self.error(error))?;
        Ok(date(&response).map(str::to_owned))
    }

    /// The error of a call. It names the proxy, which can be the cause.
    fn error(&self, error: ureq::Error) -> ApiError {
        let error = ApiError::from(error);
        let Some(proxy) = &self.proxy else {
            return error;
        };
        match error {
            ApiError::Unreachable(reason) => {
                ApiError::Unreachable(format!("{reason} (proxy {proxy})"))
            }
            ApiError::Unanswered(reason) => {
                ApiError::Unanswered(format!("{reason} (proxy {proxy})"))
            }
            other => other,
        }
    }

    fn agent(&self) -> &Agent {
        self.agent.get_or_init(|| self.make_agent())
    }

    fn make_agent(&self) -> Agent {
        let proxy = self.proxy.as_deref();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .ip_family(IpFamily::Any)
            // The settings have the proxy of the environment: ureq must not read it itself.
            .proxy(proxy.and_then(Proxy::for_ureq))
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

        // The list of CAs needs memory and time: without TLS it is not read.
        if self.url.starts_with("https:") || proxy.is_some_and(Proxy::has_tls) {
            let tls = TlsConfig::builder().root_certs(ca_roots::roots()).build();
            config = config.tls_config(tls);
        }

        let connector = transport::connector(proxy);
        Agent::with_parts(config.build(), connector, CachingResolver::default())
    }
}

/// The `Date` of an answer.
fn date(response: &Response<Body>) -> Option<&str> {
    let date = response.headers().get("date")?;
    date.to_str().ok()
}

/// The Bot API with one bot's token.
#[derive(Clone)]
pub(crate) struct Client {
    api: Api,
    token: Token,
}

/// The JSON around every result and every error of the Bot API.
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
    /// Telegram sends it with every update.
    pub(crate) secret_token: &'a Secret,
    /// How many connections Telegram may open at once: 1 to 100.
    pub(crate) max_connections: u16,
    /// The kinds of update that Telegram delivers; an empty list stands for Telegram's default.
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

    /// Makes a call whose result is not needed; `parameters` is a JSON object.
    ///
    /// # Errors
    /// See [`ApiError`]. After `Unanswered` the call may have been carried out.
    pub(crate) fn make_call(&self, method: &str, parameters: &[u8]) -> Result<(), ApiError> {
        let answer = self.exchange(method, ANSWER_LIMIT, |request| {
            request.content_type("application/json").send(parameters)
        })?;
        if !answer.says_ok() {
            // A refusal; or it is not from the Bot API, although the status can be 200.
            answer.read::<IgnoredAny>()?;
        }
        Ok(())
    }

    /// Registers the webhook. The certificate is sent as a file: Telegram would ignore it as text.
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
            let file = Part::bytes(pem.as_bytes()).file_name("webhook_cert.pem");
            form.part("certificate", file)
        };
        self.call::<IgnoredAny>("setWebhook", |request| request.send(form()))?;
        Ok(())
    }

    /// Removes the webhook, if there is one.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) fn delete_webhook(&self) -> Result<(), ApiError> {
        self.call::<IgnoredAny>("deleteWebhook", |request| request.send_json(json!({})))?;
        Ok(())
    }

    /// Up to `limit` updates of these kinds from `offset` on; Telegram forgets those before it.
    /// Telegram answers when there are some, or after `seconds`, of which it takes up to 50.
    ///
    /// # Errors
    /// See [`ApiError`]. `TooLarge` when the page has more than 2 MiB.
    pub(crate) fn updates(
        &self,
        (offset, limit): (Option<i64>, usize),
        allowed_updates: &[&str],
        seconds: u32,
    ) -> Result<Vec<QueuedUpdate>, ApiError> {
        let mut parameters =
            json!({ "limit": limit, "timeout": seconds, "allowed_updates": allowed_updates });
        if let Some(offset) = offset {
            parameters["offset"] = offset.into();
        }

        let longest = if seconds > 0 {
            POLL_TIMEOUT
        } else {
            CALL_TIMEOUT
        };
        let until_answer = Duration::from_secs(seconds.into()) + ANSWER_WAY;
        let send = |request: RequestBuilder<WithBody>| {
            let config = request
                .config()
                .timeout_global(Some(longest))
                .timeout_recv_response(Some(until_answer));
            config
                .timeout_recv_body(Some(longest))
                .build()
                .send_json(&parameters)
        };
        let answer = self.exchange("getUpdates", PAGE_LIMIT, send)?;
        if let Some(error) = answer.cut {
            return Err(error);
        }

        let page: Vec<&RawValue> = read_answer(answer.status, &answer.body)?;
        Ok(page.into_iter().filter_map(QueuedUpdate::read).collect())
    }

    /// The bot itself: its id and its names.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) fn me(&self) -> Result<Me, ApiError> {
        self.call("getMe", |request| request.send_json(json!({})))
    }

    /// The webhook as Telegram knows it, without control characters in its words.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) fn webhook_info(&self) -> Result<WebhookInfo, ApiError> {
        let mut info: WebhookInfo =
            self.call("getWebhookInfo", |request| request.send_json(json!({})))?;
        info.ip_address = info.ip_address.as_deref().map(printable);
        info.last_error_message = info.last_error_message.as_deref().map(printable);
        Ok(info)
    }

    /// Makes a call that does no harm when it is made twice, and reads its result.
    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        send: impl Fn(RequestBuilder<WithBody>) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<T, ApiError> {
        let start = Instant::now();
        loop {
            match self.exchange(method, ANSWER_LIMIT, &send) {
                // When the home has a new address, all kept connections are dead: try the next.
                Err(ApiError::StaleConnection(_)) if start.elapsed() < CALL_TIMEOUT => {}
                Err(error) => return Err(error),
                Ok(answer) => return answer.read(),
            }
        }
    }

    /// Makes one call. At most `limit` bytes of its answer are read.
    fn exchange(
        &self,
        method: &str,
        limit: u64,
        send: impl FnOnce(RequestBuilder<WithBody>) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<ApiAnswer, ApiError> {
        let url = format!("{}/bot{}/{method}", self.api.url, self.token.expose());
        let response = send(self.api.agent().post(url));
        let mut response = response.map_err(|error| self.api.error(error))?;
        if let Some(date) = date(&response) {
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
        let cut = match read {
            Ok(_) => None,
            Err(error) => Some(ureq::Error::from(error).into()),
        };
        Ok(ApiAnswer { status, body, cut })
    }
}

/// An answer, as far as it arrived.
struct ApiAnswer {
    status: u16,
    body: Vec<u8>,
    /// The error in place of the rest, if the answer is not whole.
    cut: Option<ApiError>,
}

impl ApiAnswer {
    fn read<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        match self.cut {
            Some(error) => Err(error),
            None => read_answer(self.status, &self.body),
        }
    }

    /// Whether the answer says that the call was carried out. The Bot API says this first
    /// (telegram-bot-api, `Query.h`, `JsonQueryOk`), so that the rest need not arrive.
    fn says_ok(&self) -> bool {
        if self.status != 200 {
            return false;
        }
        let mut rest = &self.body[..];
        for token in ["{", "\"ok\"", ":", "true"] {
            let Some(behind) = rest.trim_ascii_start().strip_prefix(token.as_bytes()) else {
                return false;
            };
            rest = behind;
        }
        true
    }
}

/// Reads an answer of the Bot API. Gateways in front of it answer HTML, or JSON of their own.
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
    fn an_answer_is_a_result_or_a_refusal_with_its_parameters() {
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
    fn an_answer_that_is_not_from_the_bot_api_is_foreign() {
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
    fn a_description_cannot_forge_log_lines() {
        let body = "{\"ok\":false,\"description\":\"a\\n<3>b\"}";
        let error = read_answer::<bool>(400, body.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn a_cut_answer_of_the_bot_api_still_says_that_the_call_was_carried_out() {
        let says_ok = |status, body: &str| {
            ApiAnswer {
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
