//! The command line: a function for each command.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use lexopt::{Arg, Parser, ValueExt};

use crate::bot::Bot;
use crate::certificate::{self, CertificateError, CertificateFiles};
use crate::config::{self, Config, Delivery, Environment, Source};
use crate::delivery::health::Difference;
use crate::delivery::identity;
use crate::delivery::polling_note;
use crate::delivery::registration::{Registration, RegistrationError};
use crate::doctor;
use crate::init::{self, Given};
use crate::run::{self, RunError};
use crate::secret::{lines, mask};
use crate::status;
use crate::system::clock::unix_now;
use crate::system::{logging, process, terminal, text};
use crate::telegram::client::{Api, Client};
use crate::telegram::delivery_error;
use crate::telegram::error::ApiError;
use crate::telegram::types::WebhookInfo;

const USAGE: &str = "\
pihook runs a Telegram bot.

  pihook init [--config FILE] [--host HOST] [--port-mapping auto|off] [--write-only]
      ask for the token and the settings, write them, and start the bot
  pihook run [--config FILE]
      run the bot: by webhook if Telegram can reach this machine, otherwise by polling
  pihook status [--config FILE] [--json | --wait]
      show the state of the running bot; --wait: first wait until updates arrive, at most 45 s
  pihook cert [--config FILE] [--host HOST] [--days N] [--out DIR] [--force]
      make the certificate and its key
  pihook webhook info|set|delete [--config FILE]
      show, set or delete the webhook at Telegram
  pihook check [--config FILE]
      check the settings and print them
  pihook doctor [--config FILE] [--json]
      check everything, and say how to fix each problem

pihook reads its settings from the first of these: --config FILE, $PIHOOK_CONFIG, ./pihook.toml, /etc/pihook/pihook.toml.
If $TELEGRAM_BOT_TOKEN holds the bot's token, no settings file is needed.";

/// Behind an error, which must not scroll away.
const SHORT_USAGE: &str =
    "Usage: pihook init|run|status|cert|webhook|check|doctor [OPTIONS]. Run `pihook help` for details.";
const COMMANDS: [&str; 9] = ["init", "run", "status", "cert", "webhook", "check", "doctor", "help", "version"];
const OPTIONS: [&str; 11] =
    ["config", "host", "port-mapping", "write-only", "wait", "days", "out", "force", "json", "help", "version"];

/// The kinds of update that the bot wants.
type Kinds = &'static [&'static str];

/// For `webhook set`, with the waits that Telegram asks for. A longer wait is an error.
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
        Self::Usage(format!("The command line is wrong: {error}."))
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
    port_mapping: Option<String>,
    write_only: bool,
    wait: bool,
}

impl Options {
    /// Whether the command `words` has all options that are given.
    fn belong_to(&self, words: &[&str]) -> Result<(), Failure> {
        for (is_given, names, commands) in [
            (self.host.is_some(), "--host works", &["cert", "init"][..]),
            (self.days.is_some() || self.out.is_some() || self.force, "--days, --out and --force work", &["cert"]),
            (self.port_mapping.is_some() || self.write_only, "--port-mapping and --write-only work", &["init"]),
            (self.wait, "--wait works", &["status"]),
            (self.json, "--json works", &["doctor", "status"]),
        ] {
            if is_given && !matches!(words, [word] if commands.contains(word)) {
                return Err(Failure::Usage(format!("{names} only with `pihook {}`.", commands.join("` and `pihook "))));
            }
        }
        Ok(())
    }
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
        Err(Failure::Usage(why)) => (64, format!("{why}\n{SHORT_USAGE}")),
        Err(Failure::Config(why)) => (78, why),
        Err(Failure::Other(why)) => (1, why),
    };
    if !why.is_empty() {
        warn(&why);
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
            Arg::Long("days") => options.days = Some(days(&parser.value()?.string()?)?),
            Arg::Long("out") => options.out = Some(parser.value()?.into()),
            Arg::Long("force") => options.force = true,
            Arg::Long("port-mapping") => options.port_mapping = Some(parser.value()?.string()?),
            Arg::Long("write-only") => options.write_only = true,
            Arg::Long("wait") => options.wait = true,
            Arg::Long("json") => options.json = true,
            Arg::Long("help") | Arg::Short('h') => options.words.insert(0, "help".into()),
            Arg::Long("version") | Arg::Short('V') => options.words = vec!["version".into()],
            Arg::Value(word) => options.words.push(word.string()?),
            Arg::Long(name) => {
                let meant =
                    text::nearest(name, OPTIONS).map_or(String::new(), |meant| format!(" Did you mean --{meant}?"));
                return Err(Failure::Usage(format!("Unknown option --{name}.{meant}")));
            }
            Arg::Short(_) => return Err(argument.unexpected().into()),
        }
    }
    Ok(options)
}

fn days(text: &str) -> Result<u32, Failure> {
    let days = text.parse().ok().filter(|days| (1..=36_500).contains(days));
    days.ok_or_else(|| Failure::Usage(format!("--days must be a whole number from 1 to 36500, not {text:?}.")))
}

fn command(program: &Program, options: &Options) -> Result<(), Failure> {
    let allowed_updates = program.bot.allowed_updates();
    let words: Vec<_> = options.words.iter().map(String::as_str).collect();
    options.belong_to(&words)?;
    match words[..] {
        ["init"] => init(options, allowed_updates),
        ["run"] => run(program, options),
        ["status"] => status(options, allowed_updates),
        ["cert"] => cert(options),
        ["webhook", "info"] => webhook_info(options, allowed_updates),
        ["webhook", "set"] => webhook_set(options, allowed_updates),
        ["webhook", "delete"] => webhook_delete(options, allowed_updates),
        ["check"] => check_settings(options),
        ["doctor"] => doctor(options, allowed_updates),
        ["help"] => print(USAGE),
        ["help", command, ..] => help(command),
        ["version"] => print(concat!("pihook ", env!("CARGO_PKG_VERSION"))),
        [] => Err(Failure::Usage("The command is missing.".into())),
        ["webhook"] => Err(Failure::Usage("`pihook webhook` needs one more word: info, set or delete.".into())),
        ["webhook", what, ..] => Err(unknown("webhook ", what, &["info", "set", "delete"])),
        [command, ..] if !COMMANDS.contains(&command) => Err(unknown("", command, &COMMANDS)),
        [command, ref more @ ..] => {
            Err(Failure::Usage(format!("`pihook {command}` takes only options: remove {:?}.", more.join(" "))))
        }
    }
}

fn unknown(before: &str, word: &str, known: &[&'static str]) -> Failure {
    let meant = text::nearest(word, known.iter().copied());
    let meant = meant.map_or(String::new(), |meant| format!(" Did you mean `pihook {before}{meant}`?"));
    Failure::Usage(format!("Unknown command {:?}.{meant}", format!("{before}{word}")))
}

/// Prints the help for one command.
fn help(command: &str) -> Result<(), Failure> {
    let mut lines = USAGE.lines().skip_while(|line| !line.starts_with(&format!("  pihook {command} ")));
    match (lines.next(), lines.next()) {
        (Some(usage), Some(what)) => print(&format!("{usage}\n{what}")),
        _ if ["help", "version"].contains(&command) => print(USAGE),
        _ => Err(unknown("", command, &COMMANDS)),
    }
}

/// Prints a warning: the command can still succeed.
fn warn(text: &str) {
    terminal::say(&lines(&mask(text)));
}

/// Prints a command's result. A reader that closes the pipe has read enough: the command still runs to its end.
///
/// # Errors
/// When the output cannot be written, for example on a full disk.
fn print(text: &str) -> Result<(), Failure> {
    write_out(&lines(&mask(text)))
}

/// Like [`print`], for what is clean.
fn write_out(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Other(format!("Cannot write the output: {why}.")))
        }
        _ => Ok(()),
    }
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
    let loaded = load(options, &environment).map_err(|failure| match failure {
        Failure::Config(why) if terminal::is_there() && lacks_token(options, &environment) => {
            Failure::Config(format!("{why}\nRun `sudo pihook init`: it asks for the missing settings."))
        }
        failure => failure,
    });
    Ok(run::run(&loaded?, Arc::clone(&program.bot))?)
}

/// Whether no settings name a bot. Settings that root must not read are not missing.
fn lacks_token(options: &Options, environment: Environment) -> bool {
    let names_none = |source: Source| config::examine(&source, environment).0.bots.is_empty();
    config::look(options.config.clone(), environment).is_ok_and(|source| source.is_none_or(names_none))
}

fn status(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    if options.wait {
        return wait_until_it_works(options, allowed_updates);
    }
    let source = config::look(options.config.clone(), &environment)?
        .ok_or_else(|| Failure::Other("pihook is not set up. Run `sudo pihook init`.".into()))?;
    let report = status::ask(&config::examine(&source, &environment).0).map_err(Failure::Other)?;
    if options.json {
        return print(&serde_json::to_string_pretty(&report).unwrap_or_default());
    }
    print(&report.to_string())
}

fn init(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let path = options.config.clone().unwrap_or_else(|| init::SETTINGS.into());
    let given = Given { host: options.host.clone(), port_mapping: options.port_mapping.clone() };
    let has_changed =
        init::write_settings(&path, &given, &environment).map_err(|why| Failure::Other(why.to_string()))?;
    if options.write_only {
        return Ok(());
    }
    if path != Path::new(init::SETTINGS) || !init::start_units(has_changed) {
        return print(&format!(
            "The settings are saved. To start the bot, run: pihook run --config {}",
            path.display()
        ));
    }
    let options = Options { config: Some(path), ..Options::default() };
    wait_until_it_works(&options, allowed_updates)
}

/// Waits until updates arrive, and prints the bot's link; otherwise the first problem that the doctor finds.
fn wait_until_it_works(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let source = config::find(options.config.clone(), &environment)?;
    let report = status::wait(&config::examine(&source, &environment).0);
    if !report.as_ref().is_some_and(|report| report.works) {
        let mut cross = None;
        doctor::examine(options.config.clone(), &environment, allowed_updates, &mut |finding| {
            if finding.is_bad() && cross.is_none() {
                cross = Some(finding);
            }
        });
        if let Some(cross) = cross {
            // Its colours must stay; the rest of it is clean.
            terminal::say(&mask(&cross.line(is_coloured())));
            return Err(Failure::Other(String::new()));
        }
    }
    let (sentence, link) = status::running(report.as_ref()).map_err(Failure::Other)?;
    print(&sentence)?;
    match link {
        // It is made of colours.
        Some(link) if io::stdout().is_terminal() => write_out(terminal::qr_code(&link).trim_end()),
        _ => Ok(()),
    }
}

fn cert(options: &Options) -> Result<(), Failure> {
    let days = options.days.unwrap_or(certificate::VALID_DAYS);
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
    let own_api = config.is_some_and(Config::has_own_api);
    let given = options.host.as_deref().map(|host| config::public_host(host, own_api)).transpose();
    let given = given.map_err(|what| Failure::Usage(format!("--host {what}.")))?;
    given.and_then(|host| host.given().map(str::to_owned)).or(set).ok_or_else(|| {
        Failure::Usage(
            "The certificate needs a host. Give your public IPv4 address or DNS name with --host, or set public_host."
                .into(),
        )
    })
}

/// Calls `act` for each bot, also when it failed for the one before.
fn each_bot(
    options: &Options,
    allowed_updates: Kinds,
    act: impl Fn(&Registration) -> Result<String, RegistrationError>,
) -> Result<(), Failure> {
    let config = load(options, &environment)?;
    let certificate =
        config.tls.then(|| certificate::load(&config.certificate_files)).transpose().map_err(RunError::from)?;
    let host = match &certificate {
        Some(certificate) => identity::known_host(&config, certificate),
        None => config.public_host.given().map(str::to_owned),
    };
    let host = host.ok_or_else(|| {
        Failure::Other(
            "The public address of your home is not known yet. Run `pihook run`: it finds the address.".into(),
        )
    })?;
    let api = Api::new(&config.api_url, config.proxy.as_ref(), 1);
    all(config.bots.iter().map(|bot| {
        let upload = certificate.as_ref().and_then(|certificate| certificate.upload(&host));
        let registration = Registration::new(&config, bot, &api, &host, upload, allowed_updates);
        (registration.bot(), act(&registration).map_err(|why| why.to_string()))
    }))
}

fn webhook_info(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let config = load(options, &environment)?;
    if let Some(reason) = polling_note::reason(&config) {
        print(&format!("Updates arrive by polling: {reason}."))?;
    }
    if config.delivery == Delivery::Polling {
        return each_poller(&config, |client| {
            let info = client.webhook_info()?;
            let is_set = match info.url.as_str() {
                "" => "the webhook is not set",
                _ => {
                    "a webhook is set, but the settings have delivery = \"polling\": `pihook webhook delete` removes it"
                }
            };
            Ok(format!("{is_set}\n{}", describe(&info)))
        });
    }
    each_bot(options, allowed_updates, |registration| {
        let info = registration.info()?;
        let ours = match registration.agrees(&info) {
            Ok(()) => "the webhook matches the settings".to_owned(),
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
    let mut lines = vec![format!("  waiting updates: {}", info.pending_update_count)];
    if let Some(address) = &info.ip_address {
        lines.push(format!("  IP address: {address}"));
    }
    if let Some(connections) = info.max_connections {
        lines.push(format!("  maximum of connections: {connections}"));
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
            "The settings have delivery = \"polling\", so there is no webhook. Set delivery to \"auto\" or \"webhook\" first.".into(),
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
                warn(&format!("bot {}: Telegram got too many requests. Retry in {seconds} s.", registration.bot()));
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
    match identity::check_files(&config) {
        // `run` serves it: a Pi may start in 1970.
        Err(why @ CertificateError::NotYetValid(_)) => warn(&why.to_string()),
        Err(why) => problems.push(why.to_string()),
        Ok(doubts) => doubts.iter().for_each(|doubt| warn(doubt)),
    }
    print(config.to_string().trim_end())?;
    let comments: Vec<_> = config.consequences().iter().map(|sentence| format!("# {sentence}")).collect();
    print(&format!("\n{}", comments.join("\n")))?;
    if problems.is_empty() { Ok(()) } else { Err(config::Problems(problems).into()) }
}

fn is_coloured() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none()
}

fn doctor(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let (mut findings, mut printed) = (Vec::new(), Ok(()));
    let coloured = is_coloured();
    let is_well = doctor::examine(options.config.clone(), &environment, allowed_updates, &mut |finding| {
        if options.json {
            findings.push(finding);
        } else {
            // Its colours must stay; the rest of it is clean.
            let line = write_out(&mask(&finding.line(coloured)));
            if printed.is_ok() {
                printed = line;
            }
        }
    });
    if options.json {
        print(&serde_json::to_string_pretty(&findings).unwrap_or_default())?;
    }
    printed?;
    if is_well { Ok(()) } else { Err(Failure::Other(String::new())) }
}
