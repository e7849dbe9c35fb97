//! What the tests share: a home with a `pihook.toml`, and the real binary in it.
//!
//! Most tests are about what surrounds a bot, and bring a bot of their own:
//! `tests/bots/machinery.rs`.
//!
//! `PIHOOK_BINARY` names another build of pihook to test. The other bots lie in the folder
//! `examples` beside it, as cargo puts them; without `machinery` there, that pihook itself is taken
//! for it, as long as it echoes. `PIHOOK_RUNNER` names a program to run them with: an emulator.

// chaos and homes are programs of their own, and use only a part of this.
#![allow(dead_code)]

pub mod authority;
pub mod outside;
pub mod peer;
pub mod scene;
pub mod steps;
pub mod tls;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{CertificateParams, DnType, KeyPair};
use simulated_telegram::{Bot, Options, Telegram};

pub const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
pub const OTHER_TOKEN: &str = "4839574812:AAFD39kkdpWt3ywyRZergyOLMaJhac60qcg";
pub const HOST: &str = "80.100.95.20";
/// How long an event is awaited that comes at once on an idle machine; emulated ones take their
/// time.
pub const SOON: Duration = Duration::from_secs(60);

/// A simulated Telegram whose waiting times are a tenth of the real ones.
pub fn telegram() -> Telegram {
    Telegram::start(Options {
        speed: 10.0,
        ..Options::default()
    })
    .unwrap()
}

/// Runs openssl in the home's folder `certs`.
pub fn openssl(home: &Home, arguments: &str) {
    let certs = home.folder.join("certs");
    fs::create_dir_all(&certs).unwrap();
    let arguments: Vec<_> = arguments.split(' ').collect();
    let output = tool("openssl", &arguments, &certs);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
}

/// A Telegram, one bot's account there, and the tests' bot in its home, as most tests want them.
/// Bound in this order, the program ends before its home goes.
pub fn start() -> (Telegram, Bot, Home, Pihook) {
    start_bot("machinery")
}

/// The same with another bot.
pub fn start_bot(name: &str) -> (Telegram, Bot, Home, Pihook) {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let pihook = home.run_bot_for(name, &telegram);
    (telegram, bot, home, pihook)
}

/// A Telegram, one bot's account there, and the bot's home, which remembers across restarts as
/// under systemd.
pub fn remembering(test: &str) -> (Telegram, Bot, Home, Memory) {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let memory = Memory::new(test);
    let settings = settings(&telegram.api_url(), &memory.setting());
    (
        telegram,
        bot,
        Home::with(&settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n")),
        memory,
    )
}

/// Where a bot's program is; built, if it has to be.
fn binary(bot: &str) -> PathBuf {
    let given = std::env::var_os("PIHOOK_BINARY");
    // It runs in another folder.
    let pihook = std::path::absolute(
        given
            .as_deref()
            .unwrap_or(env!("CARGO_BIN_EXE_pihook").as_ref()),
    )
    .unwrap();
    if bot == "pihook" {
        return pihook;
    }
    let folder = pihook.parent().unwrap();
    let example = folder.join("examples").join(bot);
    if given.is_none() {
        // `cargo test --test all` builds no examples.
        static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let mut built = BUILT.lock().unwrap();
        if built.insert(bot.to_owned()) {
            build_example(bot, folder);
        }
    } else if bot == "machinery" && !example.exists() {
        return pihook;
    }
    example
}

/// Cargo, as from a shell: what cargo has told this test of its package would make ring, and all
/// that uses it, compile again.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let is_of_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars().filter(|(name, _)| is_of_package(name)) {
        cargo.env_remove(name);
    }
    cargo
}

/// `folder` is that of the profile, in the target folder.
fn build_example(name: &str, folder: &Path) {
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let mut cargo = cargo();
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--example",
        name,
        "--profile",
        profile,
        "--target-dir",
    ]);
    let built = cargo
        .arg(folder.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success(), "the example {name} cannot be built");
}

/// A folder of its own, with settings; it goes with the value.
pub struct Home {
    pub folder: PathBuf,
}

impl Home {
    /// Settings for one bot at `api_url`.
    pub fn new(api_url: &str) -> Home {
        Home::with(
            &settings(api_url, ""),
            &format!("[[bot]]\ntoken = '{TOKEN}'\n"),
        )
    }

    pub fn with(settings: &str, bots: &str) -> Home {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("pihook-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let home = Home { folder };
        home.write("pihook.toml", &format!("{settings}\n{bots}"));
        home
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap()
    }

    /// Writes a certificate for `host` of this organization, and its key, with its first and its
    /// last second from now on.
    pub fn certificate(&self, host: &str, organization: &str, first: i64, last: i64) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, host);
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        // Whole seconds, as a certificate has them.
        let now = UNIX_EPOCH
            + Duration::from_secs(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_secs(),
            );
        let date = |seconds: i64| {
            let distance = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 {
                now - distance
            } else {
                now + distance
            }
            .into()
        };
        params.not_before = date(first);
        params.not_after = date(last);
        self.write(
            "certs/webhook_cert.pem",
            &params.self_signed(&key).unwrap().pem(),
        );
        self.write_private("certs/webhook_pkey.pem", &key.serialize_pem());
    }

    /// Writes a file that only its owner can read.
    pub fn write_private(&self, name: &str, text: &str) {
        let path = self.write(name, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// `pihook ARGUMENTS` of the tests' own bot, in this folder and an environment that says
    /// nothing.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of("machinery", arguments)
    }

    /// The same of another bot: an example, or `pihook` itself.
    pub fn command_of(&self, bot: &str, arguments: &[&str]) -> Command {
        self.command_at(&binary(bot), arguments)
    }

    /// The same of the program at this path.
    pub fn command_at(&self, binary: &Path, arguments: &[&str]) -> Command {
        let mut command = match std::env::var_os("PIHOOK_RUNNER") {
            Some(runner) => {
                let mut command = Command::new(runner);
                command.arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .env_clear();
        command
    }

    /// Runs it to its end.
    pub fn pihook(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// `pihook run`, until it listens.
    pub fn run(&self) -> Pihook {
        Pihook::start(self.command(&["run"]))
    }

    /// `pihook run`, and tells `telegram` where it is.
    pub fn run_for(&self, telegram: &Telegram) -> Pihook {
        self.run_bot_for("machinery", telegram)
    }

    /// The same of another bot.
    pub fn run_bot_for(&self, bot: &str, telegram: &Telegram) -> Pihook {
        let pihook = Pihook::start(self.command_of(bot, &["run"]));
        telegram.route(HOST, 8443, pihook.address);
        pihook
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A `runtime_dir` in memory, as systemd's is; it goes with the value.
pub struct Memory {
    pub folder: PathBuf,
}

impl Memory {
    pub fn new(test: &str) -> Memory {
        Memory {
            folder: PathBuf::from(format!("/dev/shm/pihook-{test}-{}", std::process::id())),
        }
    }

    /// The line of the settings that names it.
    pub fn setting(&self) -> String {
        format!("runtime_dir = '{}'", self.folder.display())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The settings of a test's bot, up to the bots themselves.
pub fn settings(api_url: &str, more: &str) -> String {
    format!(
        "public_host = '{HOST}'\nlisten = '127.0.0.1:0'\nallow_from = ['127.0.0.0/8']\napi_url = '{api_url}'\n{more}\n"
    )
}

/// The program as it runs; it is killed with the value.
pub struct Pihook {
    pub child: Child,
    pub address: SocketAddr,
    log: Arc<(Mutex<Log>, Condvar)>,
}

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    ended: bool,
}

impl Pihook {
    /// Starts it, and waits until it listens.
    pub fn start(command: Command) -> Pihook {
        let mut pihook = Pihook::start_polling(command);
        let line = pihook.wait_log("Listening on ");
        pihook.address = line
            .split("Listening on ")
            .nth(1)
            .unwrap()
            .trim_end_matches('.')
            .parse()
            .unwrap();
        pihook
    }

    /// Starts one that does not listen.
    pub fn start_polling(mut command: Command) -> Pihook {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new((Mutex::new(Log::default()), Condvar::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writer.0.lock().unwrap().lines.push(line);
                writer.1.notify_all();
            }
            writer.0.lock().unwrap().ended = true;
            writer.1.notify_all();
        });
        Pihook {
            child,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            log,
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.0.lock().unwrap().lines.clone()
    }

    /// Waits for a line that holds `text`.
    pub fn wait_log(&self, text: &str) -> String {
        self.wait_logs(text, 1).remove(0)
    }

    /// Waits for so many lines that hold `text`.
    pub fn wait_logs(&self, text: &str, count: usize) -> Vec<String> {
        let found = |log: &Log| -> Vec<String> {
            log.lines
                .iter()
                .filter(|line| line.contains(text))
                .cloned()
                .collect()
        };
        let log = self.log.0.lock().unwrap();
        let (log, _) = self
            .log
            .1
            .wait_timeout_while(log, SOON, |log| found(log).len() < count && !log.ended)
            .unwrap();
        let found = found(&log);
        assert!(
            found.len() >= count,
            "{count} × {text:?} in the log: {:#?}",
            log.lines
        );
        found
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.status("Threads:")
    }

    /// KiB of memory that it holds now.
    pub fn memory(&self) -> usize {
        self.status("VmRSS:")
    }

    /// The most KiB of memory that it ever held.
    pub fn peak(&self) -> usize {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        // One that has ended has no memory.
        let line = status.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("it has ended: {:#?}", self.log()));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The processor time that it has taken.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name of the program, in brackets, comes before; utime and stime are the fields 14 and
        // 15, in ticks.
        let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11);
        let ticks: u64 = fields
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let log = self.log.0.lock().unwrap();
        let (log, _) = self
            .log
            .1
            .wait_timeout_while(log, SOON, |log| !log.ended)
            .unwrap();
        assert!(log.ended, "it does not end: {:#?}", log.lines);
        let lines = log.lines.clone();
        drop(log);
        (self.child.wait().unwrap(), lines)
    }

    /// SIGTERM, and its end.
    pub fn stop(self) -> (ExitStatus, Vec<String>) {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

impl Drop for Pihook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program that a test needs, and says so if it is not there.
pub fn tool(program: &str, arguments: &[&str], folder: &Path) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output();
    output.unwrap_or_else(|error| {
        panic!("this test needs the command {program} ({error}): apt install {program}")
    })
}

/// Waits until `condition` holds; for what no event tells.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::yield_now();
    }
}

/// All that a program said.
pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
