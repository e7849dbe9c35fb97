//! Who listens at the port, and whether the bot answers there.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    SignatureScheme, Stream,
};

use super::finding::{Doctor, START};
use crate::certificate::Certificate;
use crate::config::Config;
use crate::edge::connection::HEALTH_CHECK_UPDATE;
use crate::edge::probe::loopback_for;
use crate::system::port;

/// For each step of the probe.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

const CERTIFICATE_FIRST: &str = "repair the certificate first, and run the doctor again";
const OTHER_PROGRAM: &str = "if this program is the bot, restart the bot; if not, stop the other program, or set another port in \
                             listen";

/// Checks the port, and the bot behind it.
pub(crate) fn examine(doctor: &mut Doctor, config: &Config, certificate: Option<&Certificate>) {
    const CHECK: &str = "listener";
    let owner = port::owners(config.listen.port());
    if !owner.is_empty() && owner.iter().all(|owner| owner.starts_with("systemd ")) {
        // To connect would start it.
        return doctor.bad(
            CHECK,
            "systemd keeps the port open, but the bot is not running",
            START,
        );
    }
    let address = SocketAddr::new(loopback_for(config.listen.ip()), config.listen.port());
    let stream = match TcpStream::connect_timeout(&address, STEP_TIMEOUT) {
        Ok(stream) => stream,
        Err(why) => {
            let found = format!("no program listens at {}: {why}", config.listen);
            return doctor.bad(CHECK, found, START);
        }
    };
    let by = if owner.is_empty() {
        "a program of another user".to_owned()
    } else {
        owner.join(" and ")
    };
    if certificate.is_none() && config.tls {
        return doctor.warn(
            CHECK,
            format!("{by} listens at {}", config.listen),
            CERTIFICATE_FIRST,
        );
    }
    match ask(stream, config, certificate) {
        Ok(200) => {
            let how = if config.tls {
                "over HTTPS"
            } else {
                "over plain HTTP, for the proxy or the tunnel"
            };
            doctor.good(
                CHECK,
                format!("{by} listens at {} and answers {how}", config.listen),
            );
        }
        Ok(status) => doctor.bad(
            CHECK,
            format!(
                "{by} listens at {}, but answers with status {status}",
                config.listen
            ),
            "restart the bot: it still runs with older settings or an older token",
        ),
        Err(why) if is_other_certificate(&why) => doctor.bad(
            CHECK,
            format!(
                "{by} listens at {}, but uses another certificate than {}",
                config.listen,
                config.certificate_files.certificate.display()
            ),
            OTHER_PROGRAM,
        ),
        Err(why) => doctor.bad(
            CHECK,
            format!(
                "{by} listens at {}, but does not answer like the bot: {why}",
                config.listen
            ),
            OTHER_PROGRAM,
        ),
    }
}

/// Asks as Telegram does, with an update that means nothing. Only the owner of our key gets to see
/// it; without TLS, whoever listens at this machine's or this home's own address.
fn ask(
    mut stream: TcpStream,
    config: &Config,
    certificate: Option<&Certificate>,
) -> io::Result<u16> {
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    let Some(certificate) = certificate else {
        return ask_bots(&mut stream, config);
    };
    let provider = Arc::new(ring::default_provider());
    let pinned = PinnedCertificate {
        certificate: certificate.leaf().clone().into_owned(),
        provider: Arc::clone(&provider),
    };
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    let name = ServerName::from(stream.peer_addr()?.ip());
    let mut connection = ClientConnection::new(Arc::new(tls), name).map_err(io::Error::other)?;
    ask_bots(&mut Stream::new(&mut connection, &mut stream), config)
}

fn ask_bots(stream: &mut (impl Read + Write), config: &Config) -> io::Result<u16> {
    let body = str::from_utf8(HEALTH_CHECK_UPDATE).map_err(io::Error::other)?;
    for bot in &config.bots {
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: pihook\r\nX-Telegram-Bot-Api-Secret-Token: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            bot.path.expose(),
            bot.token.secret_token().expose(),
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let status = status(stream)?;
        if status != 200 {
            return Ok(status);
        }
    }
    Ok(200)
}

/// The status of an answer without a body.
fn status(stream: &mut impl Read) -> io::Result<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let code = head
        .get(9..12)
        .and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    code.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn is_other_certificate(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        error,
        Some(Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure
        ))
    )
}

/// Accepts one certificate, whatever is in it.
#[derive(Debug)]
struct PinnedCertificate {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
