//! The command line: a function for each command.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use lexopt::{Arg, Parser, ValueExt};

use crate::bot::Bot;
use crate::certificate::{self, CertificateError, CertificateFiles};
use crate::config::{self, Config, Delivery, Environment};
use crate::delivery::health::Difference;
use crate::delivery::identity;
use crate::delivery::polling_note;
use crate::delivery::registration::{Registration, RegistrationError};
use crate::doctor;
use crate::run::{self, RunError};
use crate::secret::{lines, mask};
use crate::system::clock::unix_now;
use crate::system::{logging, process};
use crate::telegram::client::{Api, Client};
use crate::telegram::delivery_error;
use crate::telegram::error::ApiError;
use crate::telegram::types::WebhookInfo;

const USAGE: &str = "\
pihook runs a Telegram bot.

  pihook run [--config FILE]
      run the bot: by webhook where Telegram can reach it, else by polling
  pihook cert [--host HOST] [--days N] [--out DIR] [--force]
      make the certificate and its key
  pihook webhook info|set|delete [--config FILE]
      show, set or remove the webhook at Telegram
  pihook check [--config FILE]
      find what is wrong with the settings, and print them
  pihook doctor [--config FILE] [--json]
      find what is wrong at all, and say what to do

The settings are read from --config, $PIHOOK_CONFIG, ./pihook.toml or /etc/pihook/pihook.toml. With the bot's token in
$TELEGRAM_BOT_TOKEN, no settings file is needed.";

/// The kinds of update that the bot wants.
type Kinds = &'static [&'static str];

/// For `webhook set`, with the waits that Telegram asks for. A longer one is told, and not waited out.
const SET_TIMEOUT: Duration = Duration::from_secs(60);

/// How a command ends without success. The codes are those of sysexits.h.
enum Failure {
    /// 64: the command line is wrong.
    Usage(String),
    /// 78: the settings are wrong.
    Config(String),
    /// 1: something else is.
    Other(String),
}

impl From<config::Problems> for Failure {
    fn from(problems: config::Problems) -> Self {
        Self::Config(problems.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Config(why) => Self::Config(why),
            RunError::System(why) => Self::Other(why),
        }
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Everything that the command line can hold, whatever the command.
#[derive(Default)]
struct Options {
    words: Vec<String>,
    config: Option<PathBuf>,
    host: Option<String>,
    days: Option<u32>,
    out: Option<PathBuf>,
    force: bool,
    json: bool,
}

/// The bot, and the crate that it comes from, whose lines the log shows.
struct Program {
    bot: Arc<dyn Bot>,
    crate_name: &'static str,
}

/// The whole `main` of a bot's program: does what the command line says. `pihook run` has `bot` handle the updates.
///
/// ```no_run
/// # use pihook::bot::{Bot, Call, Me, Update};
/// struct Silent;
///
/// impl Bot for Silent {
///     fn handle(&self, _: &Update, _: &Me) -> Vec<Call> {
///         vec![]
///     }
/// }
///
/// fn main() -> std::process::ExitCode {
///     pihook::cli::main(Silent)
/// }
/// ```
#[must_use]
pub fn main<B: Bot>(bot: B) -> ExitCode {
    let crate_name = std::any::type_name::<B>().split("::").next().unwrap_or_default();
    start(&Program { bot: Arc::new(bot), crate_name })
}

fn start(program: &Program) -> ExitCode {
    let (code, why) = match options().and_then(|options| command(program, &options)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(why)) => (64, format!("{why}\n\n{USAGE}")),
        Err(Failure::Config(why)) => (78, why),
        Err(Failure::Other(why)) => (1, why),
    };
    if !why.is_empty() {
        eprintln!("{}", lines(&mask(&why)));
    }
    ExitCode::from(code)
}

fn options() -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("config") => options.config = Some(parser.value()?.into()),
            Arg::Long("host") => options.host = Some(parser.value()?.string()?),
            Arg::Long("days") => options.days = Some(parser.value()?.parse()?),
            Arg::Long("out") => options.out = Some(parser.value()?.into()),
            Arg::Long("force") => options.force = true,
            Arg::Long("json") => options.json = true,
            Arg::Long("help") | Arg::Short('h') => options.words = vec!["help".into()],
            Arg::Long("version") | Arg::Short('V') => options.words = vec!["version".into()],
            Arg::Value(word) => options.words.push(word.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn command(program: &Program, options: &Options) -> Result<(), Failure> {
    let allowed_updates = program.bot.allowed_updates();
    let words: Vec<_> = options.words.iter().map(String::as_str).collect();
    let for_cert = options.host.is_some() || options.days.is_some() || options.out.is_some() || options.force;
    if for_cert && words != ["cert"] {
        return Err(Failure::Usage("--host, --days, --out and --force belong to `pihook cert`.".into()));
    }
    if options.json && words != ["doctor"] {
        return Err(Failure::Usage("--json belongs to `pihook doctor`.".into()));
    }
    match words[..] {
        ["run"] => run(program, options),
        ["cert"] => cert(options),
        ["webhook", "info"] => webhook_info(options, allowed_updates),
        ["webhook", "set"] => webhook_set(options, allowed_updates),
        ["webhook", "delete"] => webhook_delete(options, allowed_updates),
        ["check"] => check_settings(options),
        ["doctor"] => doctor(options, allowed_updates),
        ["help"] => print(USAGE),
        ["version"] => print(concat!("pihook ", env!("CARGO_PKG_VERSION"))),
        [] => Err(Failure::Usage("What shall it do?".into())),
        _ => Err(Failure::Usage(format!("There is no command {:?}.", words.join(" ")))),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    println!("{}", lines(&mask(text)));
    Ok(())
}

fn environment(name: &str) -> Option<OsString> {
    env::var_os(name)
}

fn load(options: &Options, environment: Environment) -> Result<Config, Failure> {
    let source = config::find(options.config.clone(), environment)?;
    Ok(config::load_from(&source, environment)?)
}

fn run(program: &Program, options: &Options) -> Result<(), Failure> {
    logging::start(program.crate_name);
    process::protect_memory();
    process::disable_huge_pages();
    let token = process::take_from_environment(config::TOKEN_VARIABLE);
    let environment = |name: &str| if name == config::TOKEN_VARIABLE { token.clone() } else { env::var_os(name) };
    Ok(run::run(&load(options, &environment)?, Arc::clone(&program.bot))?)
}

fn cert(options: &Options) -> Result<(), Failure> {
    let days = options.days.unwrap_or(certificate::VALID_DAYS);
    if !(1..=36_500).contains(&days) {
        return Err(Failure::Usage("--days must be from 1 to 36500.".into()));
    }
    // Only three settings count here: a certificate can be made before there is a token.
    let config = config::look(options.config.clone(), &environment)?;
    let config = config.map(|source| config::examine(&source, &environment).0);
    let host = certificate_host(options, config.as_ref())?;
    let files = match (&options.out, config) {
        (None, Some(config)) => config.certificate_files,
        (out, _) => CertificateFiles::within(out.as_deref().unwrap_or(Path::new("certs"))),
    };
    let failed = |why: CertificateError| Failure::Other(why.to_string());
    let pair = certificate::make(&host, days, SystemTime::now(), None).map_err(failed)?;
    certificate::write(&pair, &files, options.force).map_err(failed)?;
    print(&format!("{}\n{}", files.certificate.display(), files.private_key.display()))
}

/// The host of --host, or else of the settings.
fn certificate_host(options: &Options, config: Option<&Config>) -> Result<String, Failure> {
    let set = config.and_then(|config| config.public_host.given().map(str::to_owned));
    let given = options.host.as_deref().map(|host| config::public_host(host, true)).transpose();
    let given = given.map_err(|what| Failure::Usage(format!("--host {what}.")))?;
    given.and_then(|host| host.given().map(str::to_owned)).or(set).ok_or_else(|| {
        Failure::Usage("No settings name the public_host: give --host, the address or name that Telegram calls.".into())
    })
}

/// Calls `act` for each bot, also when it failed for the one before.
fn each_bot(
    options: &Options,
    allowed_updates: Kinds,
    act: impl Fn(&Registration) -> Result<String, RegistrationError>,
) -> Result<(), Failure> {
    let config = load(options, &environment)?;
    let (host, upload) = if config.tls {
        let certificate = certificate::load(&config.certificate_files).map_err(RunError::from)?;
        (identity::known_host(&config, &certificate), certificate.upload())
    } else {
        (config.public_host.given().map(str::to_owned), None)
    };
    let host =
        host.ok_or_else(|| Failure::Other("This home's address is not known yet: `pihook run` finds it.".into()))?;
    let api = Api::new(&config.api_url, config.proxy.as_ref(), 1);
    all(config.bots.iter().map(|bot| {
        let registration = Registration::new(&config, bot, &api, &host, upload.clone(), allowed_updates);
        (registration.bot(), act(&registration).map_err(|why| why.to_string()))
    }))
}

fn webhook_info(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let config = load(options, &environment)?;
    if let Some(reason) = polling_note::reason(&config) {
        print(&format!("updates are polled: {reason}"))?;
    }
    if config.delivery == Delivery::Polling {
        return each_poller(&config, |client| {
            let info = client.webhook_info()?;
            let is_set =
                if info.url.is_empty() { "the webhook is not set" } else { "a webhook is set, against the settings" };
            Ok(format!("{is_set}\n{}", describe(&info)))
        });
    }
    each_bot(options, allowed_updates, |registration| {
        let info = registration.info()?;
        let ours = match registration.agrees(&info) {
            Ok(()) => "the webhook is as these settings want it".to_owned(),
            Err(Difference::Missing) => "the webhook is not set".to_owned(),
            Err(what) => what.to_string(),
        };
        Ok(format!("{ours}\n{}", describe(&info)))
    })
}

/// Like [`each_bot`], where there is no certificate, and so no registration.
fn each_poller(config: &Config, act: impl Fn(&Client) -> Result<String, ApiError>) -> Result<(), Failure> {
    let api = Api::new(&config.api_url, config.proxy.as_ref(), 1);
    all(config.bots.iter().map(|bot| {
        let said = act(&Client::new(api.clone(), bot.token.clone()));
        (bot.token.id(), said.map_err(|why| why.to_string()))
    }))
}

/// Prints what was said of each bot; also when something failed for the one before.
fn all(said: impl Iterator<Item = (u64, Result<String, String>)>) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for (bot, said) in said {
        match said {
            Ok(text) => print(&format!("bot {bot}: {text}"))?,
            Err(why) => failures.push(format!("bot {bot}: {why}.")),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::Other(failures.join("\n"))) }
}

/// All that Telegram knows of a webhook but its URL, which holds the token.
fn describe(info: &WebhookInfo) -> String {
    let mut lines = vec![format!("  updates waiting: {}", info.pending_update_count)];
    if let Some(address) = &info.ip_address {
        lines.push(format!("  address called: {address}"));
    }
    if let Some(connections) = info.max_connections {
        lines.push(format!("  connections at most: {connections}"));
    }
    if let (Some(date), Some(message)) = (info.last_error_date, &info.last_error_message) {
        let ago = unix_now().saturating_sub(date.unsigned_abs());
        lines.push(format!("  last error, {ago} s ago: {}", delivery_error::sentence(message)));
    }
    lines.join("\n")
}

fn webhook_set(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    if load(options, &environment)?.delivery == Delivery::Polling {
        return Err(Failure::Config(
            "The settings have delivery = \"polling\": set \"auto\" or \"webhook\" first.".into(),
        ));
    }
    each_bot(options, allowed_updates, |registration| set_in_time(registration).map(|()| "the webhook is set".into()))
}

/// Sets the webhook, and waits as long as Telegram asks for: it takes one set a second, and a bot may just have made one.
fn set_in_time(registration: &Registration) -> Result<(), RegistrationError> {
    let end = Instant::now() + SET_TIMEOUT;
    loop {
        match registration.set() {
            Err(RegistrationError::Api(ApiError::Refused { retry_after: Some(seconds), .. }))
                if Instant::now() + Duration::from_secs(seconds.clamp(1, SET_TIMEOUT.as_secs())) < end =>
            {
                eprintln!("bot {}: Telegram asks to wait {seconds} s.", registration.bot());
                thread::sleep(Duration::from_secs(seconds.max(1)));
            }
            done => return done,
        }
    }
}

fn webhook_delete(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let config = load(options, &environment)?;
    if config.delivery == Delivery::Polling {
        return each_poller(&config, |client| client.delete_webhook().map(|()| "the webhook is removed".into()));
    }
    each_bot(options, allowed_updates, |registration| registration.delete().map(|()| "the webhook is removed".into()))
}

fn check_settings(options: &Options) -> Result<(), Failure> {
    let source = config::find(options.config.clone(), &environment)?;
    let (config, mut problems) = config::examine(&source, &environment);
    // Where there is no certificate, or one of ours that does not fit, `run` makes one.
    if config.delivery != Delivery::Polling && config.tls && config.certificate_files.certificate.exists() {
        let loaded = certificate::load(&config.certificate_files);
        let checked = loaded.and_then(|certificate| {
            if certificate.is_ours() {
                return Ok(());
            }
            identity::check_fit(&config, &certificate, config.public_host.given())
        });
        match checked {
            // `run` serves it: a Pi may start in 1970.
            Err(why @ CertificateError::NotYetValid) => eprintln!("{why}"),
            checked => problems.extend(checked.err().map(|why| why.to_string())),
        }
    }
    print(config.to_string().trim_end())?;
    let comments: Vec<_> = config.consequences().iter().map(|sentence| format!("# {sentence}")).collect();
    print(&format!("\n{}", comments.join("\n")))?;
    if problems.is_empty() { Ok(()) } else { Err(config::Problems(problems).into()) }
}

fn doctor(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let mut findings = Vec::new();
    let coloured = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
    let is_well = doctor::examine(options.config.clone(), &environment, allowed_updates, &mut |finding| {
        if options.json {
            findings.push(finding);
        } else {
            // Its colours must stay; the rest of it is clean.
            println!("{}", mask(&finding.line(coloured)));
        }
    });
    if options.json {
        print(&serde_json::to_string_pretty(&findings).unwrap_or_default())?;
    }
    if is_well { Ok(()) } else { Err(Failure::Other(String::new())) }
}
