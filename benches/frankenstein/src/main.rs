//! An echo bot on frankenstein and axum, as their documentation has them: what pihook is measured
//! against, not an example to follow.
//!
//! It must not meet the internet: nothing here has a timeout, a connection has no limit, and nobody
//! is asked for a secret.

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use frankenstein::AsyncTelegramApi;
use frankenstein::client_reqwest::Bot;
use frankenstein::methods::SendMessageParams;
use frankenstein::types::ReplyParameters;
use frankenstein::updates::{Update, UpdateContent};

const USAGE: &str = "frankenstein-echo LISTEN_ADDR CERT_PEM KEY_PEM API_URL TOKEN";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, certificate, key, api, token] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let tls = RustlsConfig::from_pem_file(certificate, key).await?;
    let bot = Bot::new_url(format!("{api}/bot{token}"));
    let app = Router::new()
        .route("/{token}/", post(answer))
        .with_state(bot);
    axum_server::bind_rustls(listen.parse::<SocketAddr>()?, tls)
        .serve(app.into_make_service())
        .await?;
    Ok(())
}

async fn answer(State(bot): State<Bot>, Json(update): Json<Update>) -> StatusCode {
    let UpdateContent::Message(message) = update.content else {
        return StatusCode::OK;
    };
    let Some(text) = message.text else {
        return StatusCode::OK;
    };
    let reply = SendMessageParams::builder()
        .chat_id(message.chat.id)
        .text(text)
        .reply_parameters(
            ReplyParameters::builder()
                .message_id(message.message_id)
                .build(),
        )
        .build();
    match bot.send_message(&reply).await {
        Ok(_) => StatusCode::OK,
        Err(why) => {
            eprintln!("{why}");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
