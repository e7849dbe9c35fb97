//! A little webhook server, and a little API client.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use simulated_telegram::{Bot, Options, Telegram};

pub const SOON: Duration = Duration::from_secs(10);
pub const TOKEN: &str = "42:AAbbCC";
pub const HOST: &str = "91.108.5.7";
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A certificate chain with its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub chain: String,
    pub key: String,
}

impl Identity {
    /// A server's TLS with this certificate.
    pub fn config(&self) -> Arc<ServerConfig> {
        let chain = rustls::pki_types::CertificateDer::pem_slice_iter(self.chain.as_bytes());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let key = ring::default_provider()
            .key_provider
            .load_private_key(key)
            .unwrap();
        // Not checked by rustls, which cannot read all certificates that a server may have.
        let certified = CertifiedKey::new(chain.map(Result::unwrap).collect(), key);
        Arc::new(config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
    }
}

/// Parameters for a certificate with this common name, or none, and nothing else.
pub fn params(common_name: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params
}

pub fn self_signed(params: CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    Identity {
        chain: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

pub fn signed(params: CertificateParams, issuer: &CertifiedIssuer<'_, KeyPair>) -> Identity {
    let key = KeyPair::generate().unwrap();
    Identity {
        chain: params.signed_by(&key, issuer).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

/// A webhook server: `answer` gets the number of the request, from 0, and its bytes. The connection
/// is closed when it has nothing to say.
pub struct Server {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<String>>>,
    /// How connections ended, those that ended with an error.
    pub endings: Receiver<std::io::ErrorKind>,
}

impl Server {
    pub fn start(
        identity: &Identity,
        answer: impl Fn(usize, &str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Server {
        let config = identity.config();
        let answer = Arc::new(answer);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let (ended, endings) = channel();
        let address = accept(move |stream| {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            if let Err(error) = serve(StreamOwned::new(tls, stream), &seen, &*answer) {
                let _ = ended.send(error.kind());
            }
        });
        Server {
            address,
            requests,
            endings,
        }
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Runs `serve` for each connection, on a thread of its own.
pub fn accept(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    accept_at(TcpListener::bind("127.0.0.1:0").unwrap(), serve)
}

/// A listener whose connections take in only a few bytes that nobody reads.
pub fn narrow() -> TcpListener {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(100).unwrap().into_std().unwrap();
    listener.set_nonblocking(false).unwrap();
    listener
}

pub fn accept_at(
    listener: TcpListener,
    serve: impl Fn(TcpStream) + Send + Sync + 'static,
) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

pub fn serve(
    mut stream: impl Read + Write,
    seen: &Mutex<Vec<String>>,
    answer: &(impl Fn(usize, &str) -> Option<Vec<u8>> + ?Sized),
) -> std::io::Result<()> {
    let mut input = Vec::new();
    loop {
        while !is_whole(&input) {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                length => input.extend_from_slice(&buffer[..length]),
            }
        }
        let request = String::from_utf8(std::mem::take(&mut input)).unwrap();
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let Some(bytes) = answer(number, &request) else {
            return Ok(());
        };
        stream.write_all(&bytes)?;
        stream.flush()?;
    }
}

fn is_whole(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("Content-Length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

/// A Telegram, a bot, and its webhook server with a self-signed certificate, not registered yet.
pub struct World {
    pub telegram: Telegram,
    pub bot: Bot,
    pub server: Server,
    pub identity: Identity,
}

impl World {
    pub fn start(
        speed: f64,
        answer: impl Fn(usize, &str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> World {
        let telegram = Telegram::start(Options {
            speed,
            ..Options::default()
        })
        .unwrap();
        let identity = self_signed(params(Some(HOST)));
        let server = Server::start(&identity, answer);
        telegram.route(HOST, 8443, server.address);
        World {
            bot: telegram.bot(TOKEN),
            telegram,
            server,
            identity,
        }
    }

    /// Sends the webhook's connections to `serve`, behind TLS and with little room for what it does
    /// not read. It gets each connection when the head of the first request is read.
    pub fn divert(
        &self,
        serve: impl Fn(StreamOwned<ServerConnection, TcpStream>) + Send + Sync + 'static,
    ) {
        let config = self.identity.config();
        let address = accept_at(narrow(), move |tcp| {
            let mut tls =
                StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
            let mut head = [0; 64];
            if tls.read(&mut head).is_ok_and(|length| length > 0) {
                serve(tls);
            }
        });
        self.telegram.route(HOST, 8443, address);
    }

    /// Registers the webhook, and waits until its first connection is open: there are more soon
    /// where updates wait.
    pub fn set(&self, fields: &[(&str, &str)]) {
        self.register(fields);
        self.bot.wait_connections(1, SOON).unwrap();
    }

    /// Registers the webhook.
    pub fn register(&self, fields: &[(&str, &str)]) {
        let url = format!("https://{HOST}:8443/hook");
        let fields = [&[("url", url.as_str())], fields].concat();
        let answer = upload(&self.telegram, &fields, &self.identity.chain);
        assert_eq!(answer["description"], "Webhook was set");
    }
}

/// Calls a method with a JSON body; the answer's status and body.
pub fn call(telegram: &Telegram, method: &str, params: &Value) -> (u16, Value) {
    let path = format!("/bot{TOKEN}/{method}");
    let answer = post(
        telegram,
        &path,
        "application/json",
        params.to_string().as_bytes(),
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head[9..12].parse().unwrap(),
        serde_json::from_str(body).unwrap(),
    )
}

/// setWebhook with a certificate.
pub fn upload(telegram: &Telegram, fields: &[(&str, &str)], pem: &str) -> Value {
    let mut body = String::new();
    for (name, value) in fields {
        body +=
            &format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    body += &format!(
        "--B\r\nContent-Disposition: form-data; name=\"certificate\"; filename=\"c.pem\"\r\n\r\n{pem}\r\n--B--\r\n"
    );
    let answer = post(
        telegram,
        &format!("/bot{TOKEN}/setWebhook"),
        "multipart/form-data; boundary=B",
        body.as_bytes(),
    );
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// One request on a connection of its own; everything that comes back.
pub fn post(telegram: &Telegram, path: &str, content_type: &str, body: &[u8]) -> String {
    let mut stream =
        TcpStream::connect(telegram.api_url().strip_prefix("http://").unwrap()).unwrap();
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n").unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
