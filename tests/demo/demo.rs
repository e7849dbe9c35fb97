//! Talks to the bot without the internet: `cargo run --example demo`.
//!
//! A simulated Telegram calls the bot, which runs in a process of its own, by its real path: certificate, TLS, webhook,
//! Bot API. What you type is what a user writes. Without a terminal, each line of the input is a message.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use simulated_telegram::{Bot, Options, Telegram};

const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
const HOST: &str = "80.100.95.20";
const CHAT: i64 = 42;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let result = match std::env::args_os().nth(1) {
        Some(settings) => run_bot(Path::new(&settings)),
        None => chat(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The other half of this program: the bot, as `pihook run` runs it.
fn run_bot(settings: &Path) -> Result<(), Box<dyn Error>> {
    pihook::system::logging::start();
    let config = pihook::config::load(settings, &|_| None).map_err(|problems| problems.to_string())?;
    Ok(pihook::run::run(&config)?)
}

fn chat() -> Result<(), Box<dyn Error>> {
    let telegram = Telegram::start(Options::default())?;
    let user = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url())?;
    let bot = Process::start(&home)?;
    telegram.route(HOST, 8443, bot.address);
    user.wait_call("getWebhookInfo", 1, PATIENCE).map_err(|_| "The bot did not register its webhook within 10 s.")?;

    let terminal = io::stdin().is_terminal();
    if terminal {
        println!("The bot listens on https://{} and is registered at the simulated Telegram.", bot.address);
        println!("Its certificate: {}", home.0.join("certs/webhook_cert.pem").display());
        println!("Write something; Ctrl-D ends it.");
        print_now("you: ")?;
    }
    for line in io::stdin().lock().lines() {
        let line = line?;
        if !line.trim().is_empty() {
            if !terminal {
                println!("you: {line}");
            }
            say(&user, &line, terminal)?;
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

/// One message, and the bot's answer to it.
fn say(user: &Bot, text: &str, terminal: bool) -> Result<(), String> {
    let before = user.sent().len();
    let start = Instant::now();
    user.say(CHAT, text);
    let missing = |why| format!("No answer to {text:?} within 10 s: {why}");
    let sent = user.wait_sent(before + 1, PATIENCE).map_err(missing)?;
    let time = if terminal { format!("   ({:.1} ms)", start.elapsed().as_secs_f64() * 1000.0) } else { String::new() };
    println!("bot: {}{time}", sent[before].text);
    Ok(())
}

/// A temporary folder with the bot's settings; it goes with the value.
struct Home(PathBuf);

impl Home {
    fn new(api_url: &str) -> io::Result<Home> {
        let home = Home(std::env::temp_dir().join(format!("pihook-demo-{}", std::process::id())));
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
        // It lies in the temporary folder: what is left goes with that.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The bot's process; it ends with the value.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(home: &Home) -> Result<Process, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg(home.0.join("pihook.toml")).stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("The bot has no log.")?).lines();
        let mut log = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some(address) = line.split("Listening on ").nth(1) {
                let address = address.trim_end_matches('.').parse()?;
                // Its log must be read on, or it would block.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Process { child, address });
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
