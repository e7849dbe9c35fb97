//! The command line: a function for each command.

mod failure;
mod help;
mod options;
mod output;
mod webhook;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use self::failure::Failure;
use self::help::{COMMANDS, SHORT_USAGE, USAGE, help, unknown};
use self::options::Options;
use self::output::{is_coloured, print, warn, write_out};
use crate::bot::Bot;
use crate::certificate::{self, CertificateError, CertificateFiles};
use crate::config::{self, Config, Environment, Source};
use crate::delivery::identity;
use crate::doctor;
use crate::init::{self, Given};
use crate::run;
use crate::secret::mask;
use crate::status;
use crate::system::{logging, process, terminal};

/// The kinds of update that the bot wants.
type Kinds = &'static [&'static str];

/// The bot, and the crate that it comes from, whose lines the log shows.
struct Program {
    bot: Arc<dyn Bot>,
    crate_name: &'static str,
}

/// The whole `main` of a bot's program: does what the command line says. `pihook run` has `bot`
/// handle the updates.
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
    let crate_name = std::any::type_name::<B>()
        .split("::")
        .next()
        .unwrap_or_default();
    start(&Program {
        bot: Arc::new(bot),
        crate_name,
    })
}

fn start(program: &Program) -> ExitCode {
    let (code, why) = match Options::read().and_then(|options| command(program, &options)) {
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

fn command(program: &Program, options: &Options) -> Result<(), Failure> {
    let allowed_updates = program.bot.allowed_updates();
    let words: Vec<_> = options.words.iter().map(String::as_str).collect();
    options.belong_to(&words)?;
    match words[..] {
        ["init"] => init(options, allowed_updates),
        ["run"] => run(program, options),
        ["status"] => status(options, allowed_updates),
        ["cert"] => cert(options),
        ["webhook", "info"] => webhook::info(options, &environment, allowed_updates),
        ["webhook", "set"] => webhook::set(options, &environment, allowed_updates),
        ["webhook", "delete"] => webhook::delete(options, &environment, allowed_updates),
        ["check"] => check_settings(options),
        ["doctor"] => doctor(options, allowed_updates),
        ["help"] => print(USAGE),
        ["help", command, ..] => help(command),
        ["version"] => print(concat!("pihook ", env!("CARGO_PKG_VERSION"))),
        [] => Err(Failure::Usage("The command is missing.".into())),
        ["webhook"] => Err(Failure::Usage(
            "`pihook webhook` needs one more word: info, set or delete.".into(),
        )),
        ["webhook", what, ..] => Err(unknown("webhook ", what, &["info", "set", "delete"])),
        [command, ..] if !COMMANDS.contains(&command) => Err(unknown("", command, &COMMANDS)),
        [command, ref more @ ..] => Err(Failure::Usage(format!(
            "`pihook {command}` takes only options: remove {:?}.",
            more.join(" ")
        ))),
    }
}

fn environment(name: &str) -> Option<OsString> {
    env::var_os(name)
}

fn run(program: &Program, options: &Options) -> Result<(), Failure> {
    logging::start(program.crate_name);
    process::protect_memory();
    process::disable_huge_pages();
    let token = process::take_from_environment(config::TOKEN_VARIABLE);
    let environment = |name: &str| {
        if name == config::TOKEN_VARIABLE {
            token.clone()
        } else {
            env::var_os(name)
        }
    };
    let loaded = options.load(&environment).map_err(|failure| match failure {
        Failure::Config(why) if terminal::is_there() && lacks_token(options, &environment) => {
            Failure::Config(format!(
                "{why}\nRun `sudo pihook init`: it asks for the missing settings."
            ))
        }
        failure => failure,
    });
    Ok(run::run(&loaded?, Arc::clone(&program.bot))?)
}

/// Whether no settings name a bot. Settings that root must not read are not missing.
fn lacks_token(options: &Options, environment: Environment) -> bool {
    let names_none = |source: Source| config::examine(&source, environment).0.bots.is_empty();
    config::look(options.config.clone(), environment)
        .is_ok_and(|source| source.is_none_or(names_none))
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
    let path = options
        .config
        .clone()
        .unwrap_or_else(|| init::SETTINGS.into());
    let given = Given {
        host: options.host.clone(),
        port_mapping: options.port_mapping.clone(),
    };
    let has_changed = init::write_settings(&path, &given, &environment)
        .map_err(|why| Failure::Other(why.to_string()))?;
    if options.write_only {
        return Ok(());
    }
    if path != Path::new(init::SETTINGS) || !init::start_units(has_changed) {
        return print(&format!(
            "The settings are saved. To start the bot, run: pihook run --config {}",
            path.display()
        ));
    }
    let options = Options {
        config: Some(path),
        ..Options::default()
    };
    wait_until_it_works(&options, allowed_updates)
}

/// Waits until updates arrive, and prints the bot's link; otherwise the first problem that the
/// doctor finds.
fn wait_until_it_works(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let source = config::find(options.config.clone(), &environment)?;
    let report = status::wait(&config::examine(&source, &environment).0);
    if !report.as_ref().is_some_and(|report| report.works) {
        let mut cross = None;
        doctor::examine(
            options.config.clone(),
            &environment,
            allowed_updates,
            &mut |finding| {
                if finding.is_bad() && cross.is_none() {
                    cross = Some(finding);
                }
            },
        );
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
    print(&format!(
        "{}\n{}",
        files.certificate.display(),
        files.private_key.display()
    ))
}

/// The host of --host, or else of the settings.
fn certificate_host(options: &Options, config: Option<&Config>) -> Result<String, Failure> {
    let set = config.and_then(|config| config.public_host.given().map(str::to_owned));
    let own_api = config.is_some_and(Config::has_own_api);
    let given = options
        .host
        .as_deref()
        .map(|host| config::public_host(host, own_api))
        .transpose();
    let given = given.map_err(|what| Failure::Usage(format!("--host {what}.")))?;
    given.and_then(|host| host.given().map(str::to_owned)).or(set).ok_or_else(|| {
        Failure::Usage(
            "The certificate needs a host. Give your public IPv4 address or DNS name with --host, or set public_host."
                .into(),
        )
    })
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
    let comments: Vec<_> = config
        .consequences()
        .iter()
        .map(|sentence| format!("# {sentence}"))
        .collect();
    print(&format!("\n{}", comments.join("\n")))?;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(config::Problems(problems).into())
    }
}

fn doctor(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let (mut findings, mut printed) = (Vec::new(), Ok(()));
    let coloured = is_coloured();
    let is_well = doctor::examine(
        options.config.clone(),
        &environment,
        allowed_updates,
        &mut |finding| {
            if options.json {
                findings.push(finding);
            } else {
                // Its colours must stay; the rest of it is clean.
                let line = write_out(&mask(&finding.line(coloured)));
                if printed.is_ok() {
                    printed = line;
                }
            }
        },
    );
    if options.json {
        print(&serde_json::to_string_pretty(&findings).unwrap_or_default())?;
    }
    printed?;
    if is_well {
        Ok(())
    } else {
        Err(Failure::Other(String::new()))
    }
}
