//! A Bot API that does as little as possible: it accepts every call, and remembers which updates
//! were echoed.

use std::io;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::Result;
use crate::common::authority::authority;

#[derive(Default)]
struct State {
    delay: Duration,
    /// The numbers at the end of the texts that were sent.
    echoes: Vec<u64>,
    webhook: String,
    registered: bool,
}

/// A running Bot API.
#[derive(Clone)]
pub struct Api {
    pub url: String,
    /// The CA that the bots must trust, PEM; none for plain HTTP.
    pub root: Option<String>,
    state: Arc<Mutex<State>>,
}

impl Api {
    pub async fn start(with_tls: bool) -> Result<Api> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let scheme = if with_tls { "https" } else { "http" };
        let mut root = None;
        let mut acceptor = None;
        if with_tls {
            let (pem, tls) = tls()?;
            root = Some(pem);
            acceptor = Some(tls);
        }
        let api = Api {
            url: format!("{scheme}://localhost:{port}"),
            root,
            state: Arc::default(),
        };
        let server = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a connection");
                let server = server.clone();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => server.serve(acceptor.accept(stream).await?).await,
                        None => server.serve(stream).await,
                    }
                });
            }
        });
        Ok(api)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// From now on every answer takes so long.
    pub fn answer_after(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// The updates that were echoed since the last call of this.
    pub fn take_echoes(&self) -> Vec<u64> {
        take(&mut self.state().echoes)
    }

    /// Whether a bot has set its webhook and asked for it since the last call of this.
    pub fn take_registered(&self) -> bool {
        take(&mut self.state().registered)
    }

    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut input = Vec::with_capacity(4096);
        loop {
            let Some((head, end)) = ends(&input).filter(|(_, end)| input.len() >= *end) else {
                match stream.read_buf(&mut input).await? {
                    0 => return Ok(()),
                    _ => continue,
                }
            };
            let answer = self.state().answer(&input[..head], &input[head..end]);
            input.drain(..end);
            let delay = self.state().delay;
            if !delay.is_zero() {
                sleep(delay).await;
            }
            let length = answer.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            );
            stream.write_all((head + &answer).as_bytes()).await?;
            stream.flush().await?;
        }
    }
}

/// The root of a new authority, PEM, and a server whose certificate it has signed.
fn tls() -> Result<(String, TlsAcceptor)> {
    let (root, (certificate, key)) = authority("localhost", |_| ());
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes())?];
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?;
    Ok((root, TlsAcceptor::from(Arc::new(config))))
}

/// Where the head and where the body of a request end, once its head is there.
fn ends(input: &[u8]) -> Option<(usize, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(input).expect("a request") else {
        return None;
    };
    let length = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or("0", |header| {
        str::from_utf8(header.value).expect("a length")
    });
    Some((head, head + length.parse::<usize>().expect("a length")))
}

#[derive(Deserialize)]
struct SendMessage {
    chat_id: i64,
    text: String,
}

impl State {
    fn answer(&mut self, head: &[u8], body: &[u8]) -> String {
        let method = head
            .split(|b| *b == b' ')
            .nth(1)
            .and_then(|path| path.rsplit(|b| *b == b'/').next());
        let result = match method.unwrap_or_default() {
            b"sendMessage" => {
                self.send_message(&serde_json::from_slice(body).expect("a message to send"))
            }
            b"getMe" => {
                r#"{"id":110201543,"is_bot":true,"first_name":"Echo","username":"echo_bot"}"#.into()
            }
            b"setWebhook" => {
                self.webhook = url_of(&String::from_utf8_lossy(body)).to_owned();
                "true".into()
            }
            b"getWebhookInfo" => {
                self.registered = !self.webhook.is_empty();
                let url = &self.webhook;
                format!(
                    r#"{{"url":"{url}","has_custom_certificate":true,"pending_update_count":0,"max_connections":40}}"#
                )
            }
            _ => "true".into(),
        };
        format!(r#"{{"ok":true,"result":{result}}}"#)
    }

    fn send_message(&mut self, sent: &SendMessage) -> String {
        let SendMessage { chat_id, text } = sent;
        let number = text
            .rsplit(' ')
            .next()
            .and_then(|number| number.parse().ok());
        self.echoes.push(number.expect("an update's text"));
        let text = serde_json::Value::from(text.as_str());
        let bot = r#""id":110201543,"is_bot":true,"first_name":"Echo","username":"echo_bot""#;
        let names = r#""first_name":"Ada","last_name":"Lovelace","username":"ada_l""#;
        format!(
            r#"{{"message_id":7,"from":{{{bot}}},"chat":{{"id":{chat_id},{names},"type":"private"}},"date":1764000001,"text":{text}}}"#
        )
    }
}

/// The field `url` of a multipart form.
fn url_of(form: &str) -> &str {
    let part = form
        .split("name=\"url\"")
        .nth(1)
        .and_then(|rest| rest.split("\r\n\r\n").nth(1));
    part.and_then(|part| part.split("\r\n").next())
        .unwrap_or_default()
}
