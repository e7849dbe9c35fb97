//! The bots as processes: built, started, watched, and ended.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;
use pihook::certificate::{self, CertificateFiles};
use pihook::telegram::token::Token;
use simulated_telegram::client::{Connection, Target, Trust};
use tokio::time::sleep;

use crate::Result;
use crate::api::Api;
use crate::common::{HOST, Home, Memory, SOON, TOKEN};

/// Updates that a bot with threads works on at once.
const WORKERS: usize = 40;

/// Which bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pihook,
    Bare,
    Frankenstein,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Pihook, Kind::Bare, Kind::Frankenstein];

    /// The folder of its crate, and the name of its program.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::Pihook => (".", "pihook"),
            Kind::Bare => ("benches/bare", "bare"),
            Kind::Frankenstein => ("benches/frankenstein", "frankenstein-echo"),
        }
    }

    /// Builds the program alone: with the benchmark, cargo would build it with the features of the
    /// tests.
    pub fn build(self) -> Result<()> {
        let (folder, program) = self.names();
        if self == Kind::Pihook && env::var_os("PIHOOK_BINARY").is_some() {
            return Ok(());
        }
        let manifest = format!("{}/{folder}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args([
            "build",
            "--release",
            "--locked",
            "--bin",
            program,
            "--manifest-path",
            &manifest,
        ]);
        cargo
            .arg("--target-dir")
            .arg(format!("{}/{program}", env!("CARGO_TARGET_TMPDIR")));
        if cargo.status()?.success() {
            Ok(())
        } else {
            Err(format!("{program} cannot be built").into())
        }
    }

    fn path(self) -> PathBuf {
        let (_, program) = self.names();
        let given = env::var_os("PIHOOK_BINARY").filter(|_| self == Kind::Pihook);
        let built = format!(
            "{}/{program}/release/{program}",
            env!("CARGO_TARGET_TMPDIR")
        );
        // The bot runs in another folder.
        given.map_or(built.into(), |given| {
            std::path::absolute(given).expect("a path")
        })
    }
}

/// A bot that runs. It is killed when this value is dropped.
pub struct Running {
    pub kind: Kind,
    child: Child,
    address: SocketAddr,
    trust: Trust,
    _home: Home,
    _memory: Memory,
}

impl Running {
    /// Starts a bot. Returns also the time until the first TLS handshake was complete.
    pub async fn start(kind: Kind, api: &Api) -> Result<(Running, Duration)> {
        Running::start_with(kind, api, &[]).await
    }

    /// Like [`Running::start`], but by another program, whose command line begins with `within`.
    pub async fn start_with(kind: Kind, api: &Api, within: &[&str]) -> Result<(Running, Duration)> {
        let address = free_address().ok_or("no port is free")?;
        let memory = Memory::new("bench");
        let home = home(address, &api.url, &memory)?;
        let trust = Trust::uploaded(home.read("certs/webhook_cert.pem").as_bytes())?;
        let mut command = command(kind, &home, address, api, within);
        command.stdout(Stdio::null()).stderr(Stdio::piped());

        let start = Instant::now();
        let mut bot = Running {
            kind,
            child: command.spawn()?,
            address,
            trust,
            _home: home,
            _memory: memory,
        };
        while let Err(error) = bot.connect().await {
            if bot.child.try_wait()?.is_some() || start.elapsed() > SOON {
                return Err(format!("{kind:?} does not serve: {error}").into());
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

    /// A new connection, after its TLS handshake.
    pub async fn connect(&self) -> Result<Connection> {
        Ok(Connection::open(self.address, Ipv4Addr::LOCALHOST, HOST, &self.trust).await?)
    }

    /// The webhook as Telegram calls it.
    pub fn target(&self) -> Target {
        let secret = Token::parse(TOKEN).expect("a token").secret_token();
        Target::new(
            &format!("https://{HOST}:8443/{TOKEN}/"),
            Some(secret.expose()),
        )
        .expect("a URL")
    }

    pub fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(self.child.id().try_into()?))
    }

    /// The processor time until now: user and system, of all threads, also of those that have ended.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(ClockId::pid_cpu_clock_id(self.pid()?)?.now()?.into())
    }

    /// A line of its `/proc/PID/status`, in MiB.
    pub fn memory(&self, line: &str) -> Result<f64> {
        Ok(self
            .status(line)?
            .trim_end_matches("kB")
            .trim()
            .parse::<f64>()?
            / 1024.0)
    }

    /// A line of its `/proc/PID/status`.
    pub fn status(&self, line: &str) -> Result<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status
            .lines()
            .find_map(|text| text.strip_prefix(line))
            .ok_or("no such line")?;
        Ok(line.trim_start_matches(':').trim().to_owned())
    }

    /// Ends the bot as systemd does, so that the program around it can write its result.
    pub fn end(mut self) -> Result<()> {
        kill(self.pid()?, Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free address, with a port below those of outgoing connections: a connection that is tried
/// before the bot listens could be connected to itself, if it had the same port.
fn free_address() -> Option<SocketAddr> {
    let mut addresses = (18443..32768).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses.find(|address| TcpListener::bind(address).is_ok())
}

/// A folder with settings, certificate and key, for any of the bots.
fn home(address: SocketAddr, api_url: &str, memory: &Memory) -> Result<Home> {
    let settings = format!(
        "public_host = '{HOST}'\nlisten = '{address}'\nallow_from = ['127.0.0.0/8']\napi_url = '{api_url}'\nmax_connections = {WORKERS}\n{}\n",
        memory.setting()
    );
    let home = Home::with(&settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let pair = certificate::make(HOST, 30, SystemTime::now(), None)?;
    certificate::write(
        &pair,
        &CertificateFiles::within(&home.folder.join("certs")),
        true,
    )?;
    Ok(home)
}

fn command(kind: Kind, home: &Home, address: SocketAddr, api: &Api, within: &[&str]) -> Command {
    let mut words = within.iter().map(PathBuf::from).chain([kind.path()]);
    let mut command = Command::new(words.next().expect("the bot itself"));
    command
        .args(words)
        .current_dir(&home.folder)
        .stdin(Stdio::null())
        .env_clear();
    if let Some(root) = &api.root {
        command.env("SSL_CERT_FILE", home.write("roots.pem", root));
    }
    if kind == Kind::Pihook {
        // deploy/pihook.service sets the same.
        command
            .env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
            .arg("run");
        return command;
    }
    command.arg(address.to_string()).args([
        "certs/webhook_cert.pem",
        "certs/webhook_pkey.pem",
        &api.url,
        TOKEN,
    ]);
    if kind == Kind::Bare {
        command.arg(WORKERS.to_string());
    }
    command
}

/// Reads the log, as the journal does, and shows the lines above the level info.
fn pass_on_warnings(log: ChildStderr) {
    for line in BufReader::new(log)
        .lines()
        .map_while(std::result::Result::ok)
    {
        if !line.contains("[INFO]") {
            eprintln!("{line}");
        }
    }
}
