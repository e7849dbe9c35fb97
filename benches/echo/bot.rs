//! The two bots as processes: started, watched, and ended.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, thread};

use nix::time::ClockId;
use nix::unistd::Pid;
use pihook::certificate::{self, CertificateFiles};
use pihook::telegram::token::Token;
use simulated_telegram::client::{Connection, Target, Trust};
use tokio::time::sleep;

use crate::Result;
use crate::api::Api;
use crate::common::{HOST, Home, SOON, TOKEN};

/// Updates that either bot works on at once.
const WORKERS: usize = 40;
const BARE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/bare/Cargo.toml");
const BARE_TARGET: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/bare");

/// Which bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pihook,
    Bare,
}

/// Builds the bot that ours is measured against.
pub fn build_bare() -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--manifest-path", BARE, "--target-dir", BARE_TARGET]);
    if cargo.status()?.success() { Ok(()) } else { Err("benches/bare cannot be built".into()) }
}

/// A bot as it runs; it is killed with the value.
pub struct Running {
    pub kind: Kind,
    child: Child,
    address: SocketAddr,
    trust: Trust,
    _home: Home,
}

impl Running {
    /// Starts one, and says how long it took until the first TLS handshake was through.
    pub async fn start(kind: Kind, api: &Api) -> Result<(Running, Duration)> {
        let address = free_address().ok_or("no port is free")?;
        let home = home(address, &api.url)?;
        let trust = Trust::uploaded(home.read("certs/webhook_cert.pem").as_bytes())?;
        let mut command = command(kind, &home, address, &api.url);
        command.stdout(Stdio::null()).stderr(Stdio::piped());

        let start = Instant::now();
        let mut bot = Running { kind, child: command.spawn()?, address, trust, _home: home };
        while let Err(why) = bot.connect().await {
            if bot.child.try_wait()?.is_some() || start.elapsed() > SOON {
                return Err(format!("{kind:?} does not serve: {why}").into());
            }
            thread::sleep(Duration::from_micros(50));
        }
        let time = start.elapsed();
        let log = bot.child.stderr.take().ok_or("no standard error")?;
        thread::spawn(move || pass_on_warnings(log));
        while kind == Kind::Pihook && !api.take_registered() {
            if start.elapsed() > SOON {
                return Err("pihook does not register its webhook".into());
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok((bot, time))
    }

    /// A new connection, its TLS handshake through.
    pub async fn connect(&self) -> Result<Connection> {
        Ok(Connection::open(self.address, Ipv4Addr::LOCALHOST, HOST, &self.trust).await?)
    }

    /// The webhook as Telegram calls it.
    pub fn target(&self) -> Target {
        let secret = Token::parse(TOKEN).expect("a token").secret_token();
        Target::new(&format!("https://{HOST}:8443/{TOKEN}/"), Some(secret.expose())).expect("a URL")
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(self.child.id().try_into()?))
    }

    /// What it used up to now: user and system, of all threads, those that ended as well.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(ClockId::pid_cpu_clock_id(self.pid()?)?.now()?.into())
    }

    /// A line of its `/proc/PID/status`, in MiB.
    pub fn memory(&self, line: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|text| text.strip_prefix(line)).ok_or("no such line")?;
        let kib: f64 = line.trim_start_matches(':').trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Below the ports that outgoing connections come from: one that is tried before the bot listens would else,
/// now and then, be connected to itself.
fn free_address() -> Option<SocketAddr> {
    let mut addresses = (18443..32768).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses.find(|address| TcpListener::bind(address).is_ok())
}

/// A folder with settings, certificate and key, for either bot.
fn home(address: SocketAddr, api_url: &str) -> Result<Home> {
    let settings = format!(
        "public_host = '{HOST}'\nlisten = '{address}'\nallow_from = ['127.0.0.0/8']\napi_url = '{api_url}'\nmax_connections = {WORKERS}\n"
    );
    let home = Home::with(&settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let pair = certificate::make(HOST, 30, SystemTime::now(), None)?;
    certificate::write(&pair, &CertificateFiles::within(&home.folder.join("certs")), true)?;
    Ok(home)
}

fn command(kind: Kind, home: &Home, address: SocketAddr, api_url: &str) -> Command {
    if kind == Kind::Pihook {
        let mut command = home.command_of("pihook", &["run"]);
        // As deploy/pihook.service has it.
        command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
        return command;
    }
    let mut command = Command::new(format!("{BARE_TARGET}/release/bare"));
    command.arg(address.to_string()).args(["certs/webhook_cert.pem", "certs/webhook_pkey.pem", api_url, TOKEN]);
    command.arg(WORKERS.to_string()).current_dir(&home.folder).env_clear();
    command
}

/// Reads the log, as the journal would, and shows what is not mere information.
fn pass_on_warnings(log: ChildStderr) {
    for line in BufReader::new(log).lines().map_while(std::result::Result::ok) {
        if !line.contains("[INFO]") {
            eprintln!("{line}");
        }
    }
}
