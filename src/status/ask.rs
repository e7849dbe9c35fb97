//! Asks the running bot for its state, and waits until it works: Telegram has called the webhook,
//! or one getUpdates has returned.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::report::Report;
use crate::config::Config;
use crate::system::{runtime_dir, terminal};
use crate::telegram::error::NEW_TOKEN;

/// Where the unit's folder for the workers' socket lies.
const UNIT_RUNTIME_DIR: &str = "/run/pihook";
/// For Telegram's first call, or the first poll.
const WORKS_TIMEOUT: Duration = Duration::from_secs(45);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(300);

/// Where it can be asked: in the folder of the settings, or in that of the unit.
fn socket(config: &Config) -> PathBuf {
    let sockets = [&config.runtime_dir, Path::new(UNIT_RUNTIME_DIR)]
        .map(|folder| folder.join(runtime_dir::SOCKET));
    // One that this user may not see is there, too.
    let is_absent = |socket: &&PathBuf| {
        fs::metadata(socket).is_err_and(|why| why.kind() == io::ErrorKind::NotFound)
    };
    sockets
        .iter()
        .find(|socket| !is_absent(socket))
        .unwrap_or(&sockets[0])
        .clone()
}

/// The report of the bot with these settings.
///
/// # Errors
/// The reason for no report, one sentence.
pub(crate) fn ask(config: &Config) -> Result<Report, String> {
    Report::ask(&socket(config)).map_err(|why| {
        let sentence = match why.kind() {
            io::ErrorKind::PermissionDenied => "Only root can ask the bot for its status. Run the command with sudo.",
            io::ErrorKind::WouldBlock => {
                "pihook is running, but did not answer: it is busy with calls to Telegram. Try again in a minute."
            }
            _ => "pihook is not running. Run `sudo pihook doctor` to find the reason.",
        };
        sentence.to_owned()
    })
}

/// Asks until it works, at most 45 s; the last answer.
pub(crate) fn wait(config: &Config) -> Option<Report> {
    terminal::say(&format!(
        "Waiting for Telegram, at most {} s…",
        WORKS_TIMEOUT.as_secs()
    ));
    let end = Instant::now() + WORKS_TIMEOUT;
    // No time helps a token that is refused.
    let is_over = |report: &Report| {
        report.works || report.problem().is_some_and(|why| why.contains(NEW_TOKEN))
    };
    loop {
        let report = ask(config).ok();
        if report.as_ref().is_some_and(is_over) || Instant::now() > end {
            return report;
        }
        thread::sleep(INTERVAL);
    }
}

/// A sentence that says that it runs and where to write to, and the link, if its name is known.
///
/// # Errors
/// That it does not run, has a problem, or is not reached.
pub(crate) fn running(report: Option<&Report>) -> Result<(String, Option<String>), String> {
    let Some(report) = report else {
        return Err(
            "pihook is not running. Run `sudo systemctl status pihook` to find the reason.".into(),
        );
    };
    let Report { version, works, .. } = report;
    if let Some(problem) = report.problem() {
        return Err(format!(
            "pihook {version} is running, but it has a problem: {problem}."
        ));
    }
    if !works {
        return Err(format!(
            "pihook {version} is running, but {}",
            unreached(report)
        ));
    }
    Ok(match report.name() {
        Some(name) => {
            let link = format!("https://t.me/{name}");
            (
                format!("pihook {version} is running. Write to @{name}: {link}"),
                Some(link),
            )
        }
        None => (format!("pihook {version} is running."), None),
    })
}

/// The advice if no updates arrive and the doctor finds no problem.
fn unreached(report: &Report) -> String {
    let seconds = WORKS_TIMEOUT.as_secs();
    let Some((_, port)) = report
        .address
        .as_deref()
        .and_then(|address| address.rsplit_once(':'))
    else {
        return format!("got no updates in {seconds} s. Read its log: `journalctl -u pihook`.");
    };
    let to = report
        .name()
        .map(|name| format!(" to @{name}"))
        .unwrap_or_default();
    format!(
        "Telegram did not connect in {seconds} s. Check that the router forwards port {port} to this machine. Then write{to}, and \
         run `sudo pihook status`: it shows whether the message arrived."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::report::BotReport;

    #[test]
    fn what_gets_no_updates_does_not_work() {
        let name = Some("my_bot".into());
        let mut report = Report {
            bots: vec![BotReport {
                id: 7,
                name,
                problem: None,
            }],
            ..Report::default()
        };
        assert!(
            running(Some(&report))
                .unwrap_err()
                .contains("but got no updates in 45 s")
        );
        report.address = Some("80.100.95.20:443".into());
        let why = running(Some(&report)).unwrap_err();
        assert!(
            why.contains("forwards port 443 ") && why.contains("write to @my_bot,"),
            "{why}"
        );
        report.bots[0].problem = Some("the token is refused".into());
        assert!(
            running(Some(&report))
                .unwrap_err()
                .contains("but it has a problem: the token is refused.")
        );
        report.works = true;
        report.bots[0].problem = None;
        let link = "https://t.me/my_bot".to_owned();
        assert_eq!(
            running(Some(&report)),
            Ok((
                format!("pihook  is running. Write to @my_bot: {link}"),
                Some(link)
            ))
        );
        assert!(running(None).unwrap_err().contains("not running"));
    }
}
