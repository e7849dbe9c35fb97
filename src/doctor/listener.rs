//! The listener: which program listens at the port, and whether the bot answers there.

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

use super::finding::Doctor;
use crate::certificate::Certificate;
use crate::config::Config;
use crate::edge::connection::HEALTH_CHECK_UPDATE;
use crate::edge::probe::loopback_for;
use crate::system::port;

/// Time to connect, for each write and for each read.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

const CHECK: &str = "listener";
const CERTIFICATE_FIRST: &str = "repair the certificate first, and run the doctor again";
const OTHER_PROGRAM: &str = "if this program is the bot, restart the bot; if not, stop the other program, or set another port in \
                             listen";

/// Checks the port, and the bot behind it.
pub(crate) fn examine(doctor: &mut Doctor, config: &Config, certificate: Option<&Certificate>) {
    let owners = port::owners(config.listen.port());
    if owners.are_systemd {
        // The doctor must not connect: systemd would start the bot.
        let found = "systemd keeps the port open, but the bot is not running";
        return doctor.not_running(CHECK, found);
    }

    let address = SocketAddr::new(loopback_for(config.listen.ip()), config.listen.port());
    let stream = match TcpStream::connect_timeout(&address, STEP_TIMEOUT) {
        Ok(stream) => stream,
        Err(error) => {
            let found = format!("no program listens at {}: {error}", config.listen);
            return doctor.not_running(CHECK, &found);
        }
    };

    let program = owners.words;
    let program = program.unwrap_or("a program of another user".to_owned());
    let found = format!("{program} listens at {}", config.listen);
    if certificate.is_none() && config.tls {
        return doctor.warn(CHECK, found, CERTIFICATE_FIRST);
    }
    judge(doctor, config, &found, ask(stream, config, certificate));
}

/// Says what an answer means: the status, or the error in its place. `found` says who listens.
fn judge(doctor: &mut Doctor, config: &Config, found: &str, answer: io::Result<u16>) {
    match answer {
        Ok(200) => {
            let how = if config.tls {
                "over HTTPS"
            } else {
                "over plain HTTP, for the proxy or the tunnel"
            };
            doctor.good(CHECK, format!("{found} and answers {how}"));
        }
        Ok(status) => doctor.bad(
            CHECK,
            format!("{found}, but answers with status {status}"),
            "restart the bot: it still runs with older settings or an older token",
        ),
        Err(error) if is_other_certificate(&error) => {
            let certificate = config.certificate_files.certificate.display();
            let found = format!("{found}, but uses another certificate than {certificate}");
            doctor.bad(CHECK, found, OTHER_PROGRAM);
        }
        Err(error) => {
            let found = format!("{found}, but does not answer like the bot: {error}");
            doctor.bad(CHECK, found, OTHER_PROGRAM);
        }
    }
}

/// Asks as Telegram does, with an update that means nothing; the status of the answer. The secret
/// token goes only to the owner of our key. Without TLS it goes to the program that listens at this
/// machine's or this home's own address.
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

/// Asks for each bot; the first status that is not 200, if there is one.
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

/// The status of an answer without a body. Nothing behind the head is read.
fn status(stream: &mut impl Read) -> io::Result<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }

    // HTTP/1.1 200 OK
    let code = head.get(9..12).unwrap_or_default();
    let code = str::from_utf8(code).unwrap_or_default();
    code.parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Whether the handshake ended because [`PinnedCertificate`] refused the certificate.
fn is_other_certificate(error: &io::Error) -> bool {
    const REFUSED: Error =
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
    let Some(inner) = error.get_ref() else {
        return false;
    };
    inner.downcast_ref() == Some(&REFUSED)
}

/// Accepts one certificate and no other, and checks nothing in it.
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
