//! A blocking TLS client that trusts everyone: for what Telegram would never send.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

use super::{SOON, eventually, peer};

pub struct Tls(StreamOwned<ClientConnection, TcpStream>);

impl Tls {
    pub fn connect(to: SocketAddr) -> Tls {
        Tls::with(to, rustls::ALL_VERSIONS).unwrap()
    }

    /// Connects without SNI, as Telegram does to an address, with these versions of TLS.
    pub fn with(to: SocketAddr, versions: &[&'static SupportedProtocolVersion]) -> io::Result<Tls> {
        let tcp = TcpStream::connect(to)?;
        tcp.set_read_timeout(Some(SOON))?;
        Tls::over(tcp, versions)
    }

    /// The same on a connection that is there already.
    pub fn over(
        mut tcp: TcpStream,
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<Tls> {
        tcp.set_nodelay(true)?;
        let mut connection = client(versions);
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp)?;
        }
        Ok(Tls(StreamOwned::new(connection, tcp)))
    }

    /// The same from far away: each answer takes this long.
    pub fn from_afar(mut tcp: TcpStream, round_trip: Duration) -> io::Result<Tls> {
        tcp.set_nodelay(true)?;
        let mut connection = client(rustls::ALL_VERSIONS);
        thread::sleep(round_trip);
        while connection.is_handshaking() {
            while connection.wants_write() {
                connection.write_tls(&mut tcp)?;
            }
            thread::sleep(round_trip);
            if connection.read_tls(&mut tcp)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            connection.process_new_packets().map_err(io::Error::other)?;
        }
        Ok(Tls(StreamOwned::new(connection, tcp)))
    }

    /// Takes out the one of these connections that the server ends.
    pub fn wait_one_end(held: &mut Vec<Tls>) -> Tls {
        eventually("one is ended", || {
            held.iter().any(|tls| peer::is_ended(tls.tcp()))
        });
        let place = held
            .iter()
            .position(|tls| peer::is_ended(tls.tcp()))
            .unwrap();
        held.remove(place)
    }

    /// The connection below.
    pub fn tcp(&self) -> &TcpStream {
        &self.0.sock
    }

    pub fn into_tcp(self) -> TcpStream {
        self.0.sock
    }

    pub fn version(&self) -> rustls::ProtocolVersion {
        self.0.conn.protocol_version().unwrap()
    }

    /// The certificate that the server showed.
    pub fn certificate(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().unwrap()[0].to_vec()
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// Reads one answer, up to the empty line.
    pub fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => answer.push(byte[0]),
                end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&answer)),
            }
        }
        String::from_utf8(answer).unwrap()
    }

    /// Sends a request, and reads the status of its answer.
    pub fn ask(&mut self, request: &[u8]) -> u16 {
        self.send(request).unwrap();
        self.status()
    }

    pub fn status(&mut self) -> u16 {
        self.answer().split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Sends `bytes` again and again, up to `most` in all, for as long as they are taken. Returns
    /// how many were, and what had been answered.
    pub fn flood(mut self, bytes: &[u8], most: usize) -> (usize, String) {
        let connection = &mut self.0.conn;
        let mut tcp = &self.0.sock;
        let mut sent = 0;
        while sent < most
            && connection.writer().write_all(bytes).is_ok()
            && connection.write_tls(&mut tcp).is_ok()
        {
            sent += bytes.len();
        }
        let mut answer = Vec::new();
        while matches!(connection.read_tls(&mut tcp), Ok(1..))
            && connection.process_new_packets().is_ok()
        {
            let _ = connection.reader().read_to_end(&mut answer);
        }
        (sent, String::from_utf8(answer).unwrap())
    }

    /// Whether the server closes now, in order (TLS says that it is the end).
    pub fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }

    /// Whether the server closes now, in whatever way.
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.0.read(&mut [0]), Ok(1))
    }
}

/// The first bytes of a handshake.
pub fn hello() -> Vec<u8> {
    let mut hello = Vec::new();
    client(rustls::ALL_VERSIONS).write_tls(&mut hello).unwrap();
    hello
}

fn client(versions: &[&'static SupportedProtocolVersion]) -> ClientConnection {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    // For an address there is no SNI, whichever it is.
    let name = ServerName::from(IpAddr::from([127, 0, 0, 1]));
    ClientConnection::new(Arc::new(config), name).unwrap()
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
