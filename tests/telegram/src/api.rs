//! The Bot API server: calls in, answers out, and the ways in which it can misbehave.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::answer::Answer;
use crate::http::{self, Parameters, Request};
use crate::state::{Account, Shared, ask};
use crate::{methods, polling};

/// One call of the Bot API.
#[derive(Clone, Debug)]
pub struct Call {
    /// The bot: the number before the colon of its token.
    pub bot: i64,
    /// The method, as the bot wrote it.
    pub method: String,
    /// The parameters, an object. Those of a JSON body have their types; others are strings.
    pub params: Value,
    /// The files of a multipart body.
    pub files: BTreeMap<String, Vec<u8>>,
    /// When the call was complete.
    pub at: Instant,
    /// How it was made to fail.
    pub fault: Option<Fault>,
    /// When it was carried out, if it was.
    pub carried_out: Option<Instant>,
    /// When it was answered; `None` while it was not, and for ever if the bot was gone by then.
    pub answered: Option<Instant>,
    /// The answer, as far as it went out.
    pub answer: String,
}

impl Call {
    pub(crate) fn new(bot: i64, method: &str, parameters: Parameters) -> Call {
        Call {
            bot,
            method: method.to_owned(),
            params: Value::Object(parameters.values),
            files: parameters.files,
            at: Instant::now(),
            fault: None,
            carried_out: None,
            answered: None,
            answer: String::new(),
        }
    }

    /// Whether the bot can know that it was carried out: so much of the answer went out that this
    /// stands there. A head alone can be anybody's.
    pub fn is_heard(&self) -> bool {
        self.answer
            .split_once("\r\n\r\n")
            .is_some_and(|(_, body)| body.starts_with("{\"ok\":true"))
    }

    /// A parameter as text, however it was sent; an absent one is empty.
    pub fn text(&self, name: &str) -> String {
        match self.params.get(name) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// A number as Telegram reads it: the digits that begin it, else 0, and within its limits. An
    /// absent one is `default`.
    pub(crate) fn integer(&self, name: &str, default: i64, low: i64, high: i64) -> i64 {
        let text = self.text(name);
        if text.is_empty() {
            return default;
        }
        let is_negative = text.starts_with('-');
        let digits = text.strip_prefix('-').unwrap_or(&text);
        let mut number = 0_u32;
        for digit in digits.bytes().take_while(u8::is_ascii_digit) {
            let units = u32::from(digit - b'0');
            number = number.wrapping_mul(10).wrapping_add(units);
        }
        let mut number = number.cast_signed();
        if is_negative {
            number = number.wrapping_neg();
        }

        i64::from(number).clamp(low, high)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        ["true", "yes", "1"].contains(&self.text(name).to_ascii_lowercase().as_str())
    }
}

/// How the Bot API misbehaves on one call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error as Telegram words it; `retry_after` also goes into a Retry-After header.
    #[allow(missing_docs)]
    Error {
        code: u16,
        description: String,
        retry_after: Option<u64>,
        migrate_to_chat_id: Option<i64>,
    },
    /// The error page of a web server in front of Telegram.
    Html(u16),
    /// A pause in real time, then as usual.
    Stall(Duration),
    /// A pause in real time, then this.
    Late(Duration, Box<Fault>),
    /// No answer, ever.
    Hang,
    /// The connection is closed and nothing carried out.
    CutBefore,
    /// Carried out, and the connection closed without an answer.
    CutAfter,
    /// Carried out, and the connection closed when the answer is not there after this real time.
    /// Telegram does not know that, as where a router forgets a connection: a long poll goes on
    /// there.
    CutWaiting(Duration),
    /// Carried out, and the connection closed after this many bytes of the answer.
    CutInside(usize),
    /// This status and body instead, as application/json.
    Body(u16, String),
    /// Nothing carried out; these bytes, which need not be HTTP, and the connection closed.
    Raw(String),
}

/// The server's side of TLS.
pub(crate) fn acceptor(chain: &str, key: &str) -> io::Result<TlsAcceptor> {
    let invalid = |error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
    };
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| invalid(&error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| invalid(&error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves the Bot API until it is dropped.
pub(crate) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(
                stream,
                tls.clone(),
                Arc::clone(&shared),
            ))),
            // Out of file descriptors, perhaps: others need the time to give some back.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Serves one connection until it ends. Its errors interest nobody.
async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => exchange(tls.accept(stream).await?, &shared).await,
        None => exchange(stream, &shared).await,
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let mut input = Vec::new();
    loop {
        let limit = ask(&shared.on_request, &()).unwrap_or(usize::MAX);
        let Some(request) = http::read(&mut stream, &mut input, limit).await? else {
            break;
        };
        let close = request.close;
        let Served {
            answer,
            limit,
            call,
        } = serve_call(shared, request).await;
        let bytes = answer.bytes();
        let bytes = &bytes[..limit.unwrap_or(bytes.len()).min(bytes.len())];
        stream.write_all(bytes).await?;
        stream.flush().await?;
        if let Some((token, place)) = call {
            shared.account(&token, |account| {
                account.calls[place].answered = Some(Instant::now());
                account.calls[place].answer = String::from_utf8_lossy(bytes).into();
            });
        }
        if limit.is_some() {
            break;
        }
        if close {
            stream.shutdown().await?;
            break;
        }
    }
    Ok(())
}

/// The answer to a request, and how it goes out.
struct Served {
    answer: Answer,
    /// After so many bytes of the answer the connection is cut.
    limit: Option<usize>,
    /// Whose call it was, and its place in the list of calls.
    call: Option<(String, usize)>,
}

async fn serve_call(shared: &Arc<Shared>, request: Request) -> Served {
    let (token, mut call) = match read_call(shared, &request) {
        Ok(call) => call,
        Err(answer) => {
            return Served {
                answer,
                limit: None,
                call: None,
            };
        }
    };

    let mut fault = ask(&shared.on_call, &call);
    if let Some(Fault::Late(pause, late)) = fault {
        tokio::time::sleep(pause).await;
        fault = Some(*late);
    }
    call.fault.clone_from(&fault);

    let (place, answer) = record(shared, &token, &call);
    let answer = apply(fault.as_ref(), answer, shared, &token, place).await;
    let (answer, limit) = match answer {
        Some(answer) => (answer, limit(fault.as_ref())),
        None => (Answer::raw(String::new()), Some(0)),
    };
    let answer = polling::ready(answer, shared, &token).await;
    Served {
        answer,
        limit,
        call: Some((token, place)),
    }
}

/// Adds the call to the bot's, and carries it out unless its fault prevents or delays that. Returns
/// its place in the list of calls, and its answer. In one step: a test that sees a call also sees
/// its effect.
fn record(shared: &Arc<Shared>, token: &str, call: &Call) -> (usize, Answer) {
    let is_at_once = matches!(
        call.fault,
        None | Some(Fault::CutAfter | Fault::CutInside(_) | Fault::CutWaiting(_))
    );
    shared.account(token, |account| {
        account.calls.push(call.clone());
        let place = account.calls.len() - 1;
        let answer = if is_at_once {
            carry_out(shared, token, account, place)
        } else {
            Answer::ok("true")
        };
        (place, answer)
    })
}

/// Carries out the call at this place in the list of calls.
fn carry_out(shared: &Arc<Shared>, token: &str, account: &mut Account, place: usize) -> Answer {
    account.calls[place].carried_out = Some(Instant::now());
    let call = account.calls[place].clone();
    methods::carry_out(shared, token, account, &call)
}

/// What is answered with this fault, in place of `answer`; None when the connection is cut because
/// the answer is not there in time.
async fn apply(
    fault: Option<&Fault>,
    answer: Answer,
    shared: &Arc<Shared>,
    token: &str,
    place: usize,
) -> Option<Answer> {
    let answer = match fault {
        None | Some(Fault::CutBefore | Fault::CutAfter | Fault::CutInside(_)) => answer,
        Some(Fault::CutWaiting(patience)) => {
            return ready_within(*patience, answer, shared, token).await;
        }
        Some(Fault::Error {
            code,
            description,
            retry_after,
            migrate_to_chat_id,
        }) => Answer::with_parameters(*code, description, *retry_after, *migrate_to_chat_id),
        Some(Fault::Html(code)) => Answer::html(*code),
        Some(Fault::Stall(pause)) => {
            tokio::time::sleep(*pause).await;
            shared.account(token, |account| carry_out(shared, token, account, place))
        }
        // One late fault within another.
        Some(Fault::Late(..) | Fault::Hang) => std::future::pending().await,
        Some(Fault::Body(code, body)) => Answer::new(*code, body.clone()),
        Some(Fault::Raw(bytes)) => Answer::raw(bytes.clone()),
    };
    Some(answer)
}

/// After how many bytes of the answer this fault cuts the connection.
fn limit(fault: Option<&Fault>) -> Option<usize> {
    match fault {
        Some(Fault::CutBefore | Fault::CutAfter) => Some(0),
        Some(Fault::CutInside(bytes)) => Some(*bytes),
        Some(Fault::Raw(_)) => Some(usize::MAX),
        _ => None,
    }
}

/// The answer that goes out, if it may within this time; else it waits on, and nobody hears it.
async fn ready_within(
    patience: Duration,
    answer: Answer,
    shared: &Arc<Shared>,
    token: &str,
) -> Option<Answer> {
    let shared = Arc::clone(shared);
    let token = token.to_owned();
    let ready = tokio::spawn(async move { polling::ready(answer, &shared, &token).await });
    tokio::time::timeout(patience, ready).await.ok()?.ok()
}

fn read_call(shared: &Shared, request: &Request) -> Result<(String, Call), Answer> {
    let target = request.target.as_str();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some((token, method)) = token_and_method(path) else {
        return Err(Answer::error(404, "Not Found"));
    };

    let content_type = request.content_type.to_ascii_lowercase();
    let is_form = !content_type.contains("multipart/form-data");
    if is_form && request.body.len() > 1024 * 1024 {
        return Err(Answer::new(413, String::new()));
    }

    let id = token.split_once(':').and_then(|(id, _)| bot_id(id));
    let Some(bot) = id.filter(|_| token.len() <= 80) else {
        return Err(Answer::error(401, "Unauthorized: invalid token specified"));
    };
    if !shared.knows(token) {
        return Err(Answer::error(401, "Unauthorized"));
    }

    let parameters = Parameters::read(query, &request.content_type, &request.body);
    Ok((token.to_owned(), Call::new(bot, method, parameters)))
}

fn token_and_method(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("/bot")?.split_once('/')
}

/// The bot that the text before a token's colon names; 0 is one with a larger number than Telegram
/// gives.
fn bot_id(text: &str) -> Option<i64> {
    let number: u64 = text.parse().ok()?;
    if text.starts_with('0') {
        return None;
    }
    Some(i64::try_from(number).unwrap_or(0))
}
