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
        Err(why) => {
            eprintln!("{why}");
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
    pihook::system::logging::start("demo", pihook::cli::LogLevel::Info);
    let config =
        pihook::config::load(settings, &|_| None).map_err(|problems| problems.to_string())?;
    Ok(pihook::run::run(
        &config,
        bot(name).ok_or("There is no such bot.")?,
    )?)
}

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
        println!(
            "The bot listens on https://{} and is registered at the simulated Telegram.",
            demo.process.address
        );
        println!(
            "Its certificate: {}",
            demo.home.0.join("certs/webhook_cert.pem").display()
        );
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
    // It ends before its folder goes.
    process: Process,
    name: &'n str,
    home: Home,
    telegram: Telegram,
    user: Bot,
    /// The data of those under the last message that has some.
    buttons: Vec<String>,
}

impl Demo<'_> {
    /// A message or a pressed button, and all that the bot does about it.
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
        let shown: Vec<_> = calls
            .iter()
            .filter(|call| call.carried_out.is_some())
            .filter_map(show)
            .collect();
        for line in &shown {
            println!("bot: {line}{time}");
        }
        match (is_done, shown.is_empty()) {
            (false, _) => println!("(the update was not done within 10 s)"),
            (true, true) => println!("(no reply)"),
            (true, false) => {}
        }
        self.offer_buttons(&calls);
        Ok(())
    }

    /// What the user does; the update that comes of it.
    fn send(&self, line: &str) -> Option<i64> {
        let update = if let Some(number) = line
            .strip_prefix('#')
            .and_then(|number| number.parse::<usize>().ok())
        {
            let Some(data) = number
                .checked_sub(1)
                .and_then(|place| self.buttons.get(place))
            else {
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

    /// Waits until the update is done, and starts the bot again when it has ended. Whether it was
    /// done in time.
    fn wait(&mut self, update: i64, start: Instant) -> Result<bool, Box<dyn Error>> {
        let is_done = |user: &Bot| {
            user.deliveries()
                .iter()
                .any(|one| one.update_id == update && one.succeeded())
        };
        while !is_done(&self.user) {
            if start.elapsed() > PATIENCE {
                return Ok(false);
            }
            if self.process.ended.recv_timeout(Duration::from_millis(1))
                == Err(RecvTimeoutError::Disconnected)
            {
                println!("(the bot's process ended; restarting it)");
                self.process = Process::start(self.name, &self.home)?;
                self.telegram.route(HOST, 8443, self.process.address);
            }
        }
        Ok(true)
    }

    fn offer_buttons(&mut self, calls: &[Call]) {
        let rows = calls
            .iter()
            .filter_map(|call| call.params["reply_markup"]["inline_keyboard"].as_array())
            .flatten();
        let buttons: Vec<&Value> = rows.filter_map(Value::as_array).flatten().collect();
        if buttons.is_empty() {
            return;
        }
        let text =
            |button: &Value, name: &str| button[name].as_str().unwrap_or_default().to_owned();
        for (number, button) in buttons.iter().enumerate() {
            println!("     #{} {}", number + 1, text(button, "text"));
        }
        self.buttons = buttons
            .iter()
            .map(|button| text(button, "callback_data"))
            .collect();
    }
}

/// What a user sees of a call; nothing of those that keep the webhook.
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

/// A folder with the bot's settings, in memory where there is such a folder, so that the bot
/// remembers across a restart as on a Pi; it goes with the value.
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
        // It lies in a temporary folder: what is left goes with that.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The bot's process; it ends with the value.
struct Process {
    child: Child,
    address: SocketAddr,
    /// Disconnected once it has ended.
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
        let mut lines = BufReader::new(child.stderr.take().ok_or("The bot has no log.")?).lines();
        let mut log = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some(address) = line.split("Listening on ").nth(1) {
                let address = address.trim_end_matches('.').parse()?;
                let (alive, ended) = mpsc::channel();
                std::thread::spawn(move || {
                    let _alive = alive;
                    // What goes as planned stands in the conversation.
                    let lines = lines
                        .map_while(Result::ok)
                        .filter(|line| !line.contains("[INFO]"));
                    lines.for_each(|line| println!("log: {line}"));
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
