//! An echo bot as one writes it after reading two READMEs: what pihook is measured against, not an
//! example to follow.
//!
//! It must not meet the internet: tiny_http's own TLS has known holes, nothing here has a timeout,
//! and nobody is asked for a secret.

use std::error::Error;
use std::sync::Arc;
use std::{env, fs, thread};

use serde_json::{Value, json};
use tiny_http::{Request, Response, Server, SslConfig};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

const USAGE: &str = "bare LISTEN_ADDR CERT_PEM KEY_PEM API_URL TOKEN THREADS   (a key in PKCS#8)";

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, certificate, key, api, token, threads] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let tls = SslConfig {
        certificate: fs::read(certificate)?,
        private_key: fs::read(key)?,
    };
    let server = Arc::new(Server::https(listen, tls)?);
    let mut config = Agent::config_builder();
    if let Some(file) = env::var_os("SSL_CERT_FILE") {
        let roots = [Certificate::from_pem(&fs::read(file)?)?];
        config = config.tls_config(
            TlsConfig::builder()
                .root_certs(RootCerts::new_with_certs(&roots))
                .build(),
        );
    }
    let agent = Agent::new_with_config(config.build());
    let workers: Vec<_> = (0..threads.parse()?)
        .map(|_| {
            let (server, agent) = (Arc::clone(&server), agent.clone());
            let url = format!("{api}/bot{token}/sendMessage");
            thread::spawn(move || work(&server, &agent, &url))
        })
        .collect();
    println!("listening on {}", server.server_addr());
    for worker in workers {
        worker.join().expect("a panic aborts");
    }
    Ok(())
}

fn work(server: &Server, agent: &Agent, url: &str) {
    while let Ok(mut request) = server.recv() {
        let status = match answer(&mut request, agent, url) {
            Ok(()) => 200,
            Err(why) => {
                eprintln!("{why}");
                503
            }
        };
        let _ = request.respond(Response::empty(status));
    }
}

fn answer(request: &mut Request, agent: &Agent, url: &str) -> Result<(), Box<dyn Error>> {
    let update: Value = serde_json::from_reader(request.as_reader())?;
    let message = &update["message"];
    if let Some(text) = message["text"].as_str() {
        let reply = json!({
            "chat_id": message["chat"]["id"],
            "text": text,
            "reply_parameters": { "message_id": message["message_id"] },
        });
        agent.post(url).send_json(reply)?.body_mut().read_to_vec()?;
    }
    Ok(())
}
