//! Talks to a bot without the internet: `cargo run --example demo`, or with another bot, `cargo run
//! --example demo -- buttons`.
//!
//! A simulated Telegram calls the bot, which runs in a process of its own, by its real path:
//! certificate, TLS, webhook, Bot API. What you type is what a user writes; `#1` presses the first
//! button under the last message that has some. Without a terminal, each line of the input is a
//! message. The demo restarts a bot that panics, as systemd does.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use pihook::bot;
use serde_json::Value;
use simulated_telegram::{Bot, Call, Options, Telegram};

#[path = "../../src/echo.rs"]
mod echo;
// Each of these is a program, too.
#[path = "../bots/buttons.rs"]
#[allow(dead_code)]
mod buttons;
#[path = "../bots/counter.rs"]
#[allow(dead_code)]
mod counter;
#[path = "../bots/greeting.rs"]
#[allow(dead_code)]
mod greeting;

const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
const HOST: &str = "80.100.95.20";
const CHAT: i64 = 42;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => chat("echo"),
        [name] if bot(name).is_some() => chat(name),
        [name, settings] => run_bot(name, Path::new(settings)),
        _ => Err("The bots are echo, greeting, buttons and counter.".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn bot(name: &str) -> Option<Arc<dyn bot::Bot>> {
    match name {
        "echo" => Some(Arc::new(echo::Echo)),
        "greeting" => Some(Arc::new(greeting::Greeting)),
        "buttons" => Some(Arc::new(buttons::Buttons)),
        "counter" => Some(Arc::new(counter::Counter::default())),
        _ => None,
    }
}

/// The other half of this program: the bot, as `pihook run` runs it.
fn run_bot(name: &str, settings: &Path) -> Result<(), Box<dyn Error>> {
    let bot = bot(name).ok_or("There is no such bot.")?;
    pihook::system::logging::start("demo", pihook::cli::LogLevel::Info);
    let config =
        pihook::config::load(settings, &|_| None).map_err(|problems| problems.to_string())?;
    pihook::run::run(&config, bot)?;
    Ok(())
}

/// The first half: the conversation with the bot, which runs in another process.
fn chat(name: &str) -> Result<(), Box<dyn Error>> {
    let telegram = Telegram::start(Options::default())?;
    let user = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url())?;
    let mut demo = Demo {
        process: Process::start(name, &home)?,
        name,
        home,
        telegram,
        user,
        buttons: Vec::new(),
    };
    demo.telegram.route(HOST, 8443, demo.process.address);
    demo.user
        .wait_call("getWebhookInfo", 1, PATIENCE)
        .map_err(|_| "The bot did not register its webhook in 10 s.")?;

    let terminal = io::stdin().is_terminal();
    if terminal {
        let address = demo.process.address;
        let certificate = demo.home.0.join("certs/webhook_cert.pem");
        println!(
            "The bot listens on https://{address} and is registered at the simulated Telegram."
        );
        println!("Its certificate: {}", certificate.display());
        println!("Write something, or press a button with #1. Ctrl-D ends the demo.");
        print_now("you: ")?;
    }

    for line in io::stdin().lock().lines() {
        let line = line?;
        if !line.trim().is_empty() {
            if !terminal {
                println!("you: {line}");
            }
            demo.turn(&line, terminal)?;
        }
        if terminal {
            print_now("you: ")?;
        }
    }
    Ok(())
}

fn print_now(text: &str) -> io::Result<()> {
    print!("{text}");
    io::stdout().flush()
}

struct Demo<'n> {
    // Fields are dropped in this order: the process ends before its folder is removed.
    process: Process,
    name: &'n str,
    home: Home,
    telegram: Telegram,
    user: Bot,
    /// The data of the buttons under the last message that has some.
    buttons: Vec<String>,
}

impl Demo<'_> {
    /// Sends a message or presses a button, waits, and shows the bot's calls.
    fn turn(&mut self, line: &str, terminal: bool) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let first = self.user.calls().len();
        let Some(update) = self.send(line) else {
            return Ok(());
        };
        let is_done = self.wait(update, start)?;

        let time = start.elapsed().as_secs_f64() * 1000.0;
        let time = if terminal {
            format!("   ({time:.1} ms)")
        } else {
            String::new()
        };
        let calls = self.user.calls().split_off(first);
        let mut has_reply = false;
        for call in &calls {
            if call.carried_out.is_some()
                && let Some(line) = show(call)
            {
                println!("bot: {line}{time}");
                has_reply = true;
            }
        }

        if !is_done {
            println!("(the update was not done within 10 s)");
        } else if !has_reply {
            println!("(no reply)");
        }
        self.offer_buttons(&calls);
        Ok(())
    }

    /// Sends a message, or presses a button where the line is `#` and a number. Returns the id of
    /// the update, if Telegram delivers one.
    fn send(&self, line: &str) -> Option<i64> {
        let number = line.strip_prefix('#').unwrap_or_default();
        let update = if let Ok(number) = number.parse::<usize>() {
            // The first button has the number 1.
            let Some(data) = self.buttons.get(number.wrapping_sub(1)) else {
                println!("(there is no such button)");
                return None;
            };
            self.user.press(CHAT, CHAT, data).update_id
        } else {
            self.user.say(CHAT, line).update_id
        };
        if update == 0 {
            println!("(the bot's allowed_updates do not include this kind of update)");
            return None;
        }
        Some(update)
    }

    /// Waits until the update is done, and starts the bot again when its process has ended. Returns
    /// whether the update was done in time.
    fn wait(&mut self, update: i64, start: Instant) -> Result<bool, Box<dyn Error>> {
        while !self.is_done(update) {
            if start.elapsed() > PATIENCE {
                return Ok(false);
            }
            let waited = self.process.ended.recv_timeout(Duration::from_millis(1));
            if waited == Err(RecvTimeoutError::Disconnected) {
                println!("(the bot's process ended; restarting it)");
                self.process = Process::start(self.name, &self.home)?;
                self.telegram.route(HOST, 8443, self.process.address);
            }
        }
        Ok(true)
    }

    fn is_done(&self, update: i64) -> bool {
        let deliveries = self.user.deliveries();
        deliveries
            .iter()
            .any(|one| one.update_id == update && one.succeeded())
    }

    /// Shows the buttons of the calls, and keeps their data. Without new ones, the old ones stay.
    fn offer_buttons(&mut self, calls: &[Call]) {
        let mut buttons: Vec<&Value> = Vec::new();
        for call in calls {
            let rows = call.params["reply_markup"]["inline_keyboard"].as_array();
            for row in rows.into_iter().flatten() {
                buttons.extend(row.as_array().into_iter().flatten());
            }
        }
        if buttons.is_empty() {
            return;
        }

        self.buttons.clear();
        for button in buttons {
            let text = button["text"].as_str().unwrap_or_default();
            let data = button["callback_data"].as_str().unwrap_or_default();
            self.buttons.push(data.to_owned());
            println!("     #{} {text}", self.buttons.len());
        }
    }
}

/// What a user sees of a call; None for the calls by which pihook keeps its webhook.
fn show(call: &Call) -> Option<String> {
    let text = call.text("text");
    match call.method.as_str() {
        "sendMessage" => Some(text),
        "editMessageText" => Some(format!("(changes the message) {text}")),
        "answerCallbackQuery" => Some(format!("(shows) {text}")),
        "getMe" | "getWebhookInfo" | "setWebhook" | "deleteWebhook" => None,
        other => Some(format!("({other})")),
    }
}

/// A folder with the bot's settings. It is in memory where that is possible, so that the bot
/// remembers its updates after a restart, as on a Pi. It is removed when the value is dropped.
struct Home(PathBuf);

impl Home {
    fn new(api_url: &str) -> io::Result<Home> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let home = Home(parent.join(format!("pihook-demo-{}", std::process::id())));
        fs::create_dir_all(&home.0)?;
        let settings = format!(
            "public_host = '{HOST}'\nlisten = '127.0.0.1:0'\nallow_from = ['127.0.0.0/8']\napi_url = '{api_url}'\n\
             [[bot]]\ntoken = '{TOKEN}'\n"
        );
        fs::write(home.0.join("pihook.toml"), settings)?;
        Ok(home)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What cannot be removed is in a temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The bot's process; it is killed when the value is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
    /// Disconnected once the process has ended.
    ended: Receiver<()>,
}

impl Process {
    fn start(name: &str, home: &Home) -> Result<Process, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(name)
            .arg(home.0.join("pihook.toml"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().ok_or("The bot has no log.")?;
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);

        let mut log = String::new();
        while let Some(line) = lines.next() {
            if let Some(address) = line.split("Listening on ").nth(1) {
                let address = address.trim_end_matches('.').parse()?;
                let (alive, ended) = mpsc::channel();
                std::thread::spawn(move || {
                    let _alive = alive;
                    for line in lines {
                        // The conversation shows what goes as planned.
                        if !line.contains("[INFO]") {
                            println!("log: {line}");
                        }
                    }
                });
                return Ok(Process {
                    child,
                    address,
                    ended,
                });
            }
            log.push_str(&line);
        }
        Err(format!("The bot did not start: {log}").into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
