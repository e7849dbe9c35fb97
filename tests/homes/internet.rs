//! The internet outside: the DNS, Telegram under its own name, and the address services under
//! theirs, all with certificates.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use rcgen::SanType;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use simulated_telegram::{Options, Telegram};

use crate::common::authority::authority;
use crate::common::eventually;
use crate::lab::{OUTSIDE, TELEGRAM, output, run};

/// The defaults of `address_services`.
const SERVICES: [&str; 3] = [
    "api.ipify.org",
    "checkip.amazonaws.com",
    "ipv4.icanhazip.com",
];
const SERVICES_ADDRESS: Ipv4Addr = Ipv4Addr::new(8, 8, 100, 253);
const DNS: &str = "8.8.100.253";
/// The name of the homes that have one, and where it leads.
pub const NAME: &str = "bot.example.org";

pub struct Internet {
    pub telegram: Telegram,
    /// The roots that a Pi believes, PEM.
    pub roots: PathBuf,
    /// Of [`NAME`], PEM: certificate and key.
    pub of_name: (String, String),
    _dns: Program,
}

impl Internet {
    pub fn start(work: &Path) -> Internet {
        run("ip addr add 8.8.100.253/24 dev outside");
        let (telegram_root, telegram_tls) = authority("api.telegram.org", |_| {});
        let (services_root, services_tls) = authority(SERVICES[0], |certificate| {
            certificate.subject_alt_names = SERVICES
                .map(|name| SanType::DnsName(name.try_into().unwrap()))
                .into();
        });
        let (root, of_name) = authority(NAME, |_| {});
        serve_addresses(services_tls);
        let roots = work.join("roots.pem");
        fs::write(&roots, telegram_root + &services_root).unwrap();
        let options = Options {
            api_address: OUTSIDE,
            api_port: 443,
            api_tls: Some(telegram_tls),
            source: TELEGRAM,
            local: true,
            roots: root,
            ..Options::default()
        };
        let telegram = Telegram::start(options).unwrap();
        telegram.resolve(NAME, Ipv4Addr::new(8, 8, 100, 1));
        telegram.route(NAME, 443, ([8, 8, 100, 1], 443).into());
        let addresses = SERVICES.map(|name| format!("--address=/{name}/{SERVICES_ADDRESS}"));
        let mut dns = Command::new("dnsmasq");
        dns.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        dns.arg("--user=root")
            .arg(format!("--pid-file={}", work.join("dns.pid").display()));
        dns.arg(format!("--listen-address={DNS}"))
            .args(addresses)
            .arg(format!("--address=/api.telegram.org/{OUTSIDE}"));
        let dns = Program::start("dnsmasq", work, dns);
        eventually("the DNS listens", || {
            output("ss -Hlun").contains(&format!("{DNS}:53"))
        });
        name_server(work, DNS);
        Internet {
            telegram,
            roots,
            of_name,
            _dns: dns,
        }
    }
}

/// All programs here look up names at this address.
pub fn name_server(work: &Path, address: &str) {
    let path = work.join("resolv.conf");
    fs::write(&path, format!("nameserver {address}\n")).unwrap();
    // A copy for this process and all that it starts; without one, as some containers have it,
    // there is nothing to cover.
    run(&format!("mount --bind {} /etc/resolv.conf", path.display()));
}

/// A program of Debian's. It is killed when the value is dropped; its output is in a file.
pub struct Program(Child);

impl Program {
    pub fn start(name: &str, work: &Path, mut command: Command) -> Program {
        let log = fs::File::create(work.join(format!("{name}.log"))).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Program(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{name}: {error}")),
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Services that tell whoever calls from where the call comes.
fn serve_addresses((certificate, key): (String, String)) {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind((SERVICES_ADDRESS, 443)).unwrap();
    thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            let peer = tcp.peer_addr().unwrap().ip().to_string();
            let mut stream =
                StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{peer}\n",
                    peer.len() + 1
                );
                let _ = stream.flush();
            });
        }
    });
}
