//! Asks the running bot for its report, and waits until the bot works: Telegram has called the
//! webhook, or one getUpdates has returned.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::report::{self, Report};
use crate::config::Config;
use crate::system::terminal;

/// Time for Telegram's first call, or for the first getUpdates.
const WORKS_TIMEOUT: Duration = Duration::from_secs(45);
/// Between two reports.
const INTERVAL: Duration = Duration::from_millis(300);

/// The report of the bot with these settings.
///
/// # Errors
/// The reason why there is no report, and what to do: sentences for a person.
pub(crate) fn ask(config: &Config) -> Result<Report, String> {
    Report::ask(&report::socket(&config.runtime_dir)).map_err(|error| {
        let sentence = match error.kind() {
            io::ErrorKind::PermissionDenied => "Only root can ask the bot for its status. Run the command with sudo.",
            io::ErrorKind::WouldBlock => {
                "pihook is running, but did not answer: it is busy with calls to Telegram. Try again in a minute."
            }
            _ => "pihook is not running. Run `sudo pihook doctor` to find the reason.",
        };
        sentence.to_owned()
    })
}

/// Asks until the bot works, at most 45 s; the last report.
pub(crate) fn wait(config: &Config) -> Option<Report> {
    terminal::say(&format!(
        "Waiting for Telegram, at most {} s…",
        WORKS_TIMEOUT.as_secs()
    ));

    let end = Instant::now() + WORKS_TIMEOUT;
    loop {
        let report = ask(config).ok();
        if report.as_ref().is_some_and(is_final) || Instant::now() > end {
            return report;
        }
        thread::sleep(INTERVAL);
    }
}

/// Whether waiting changes nothing: the bot works, or a token is refused.
fn is_final(report: &Report) -> bool {
    report.works || report.bots.iter().any(|bot| bot.token_is_refused)
}

/// A sentence that says that the bot runs and where to write to, and the bot's link, if its name is
/// known.
///
/// # Errors
/// A sentence that says that the bot does not run, has a problem, or gets no updates.
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

    let Some(name) = report.name() else {
        return Ok((format!("pihook {version} is running."), None));
    };
    let link = format!("https://t.me/{name}");
    let sentence = format!("pihook {version} is running. Write to @{name}: {link}");
    Ok((sentence, Some(link)))
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

    let to = match report.name() {
        Some(name) => format!(" to @{name}"),
        None => String::new(),
    };
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
    fn a_bot_that_gets_no_updates_is_an_error_with_a_remedy() {
        let name = Some("my_bot".into());
        let mut report = Report {
            bots: vec![BotReport {
                id: 7,
                name,
                problem: None,
                token_is_refused: false,
                conflict_ago: None,
            }],
            ..Report::default()
        };
        assert!(
            running(Some(&report))
                .unwrap_err()
                .contains("but got no updates in 45 s")
        );
        report.address = Some("80.100.95.20:443".into());
        let error = running(Some(&report)).unwrap_err();
        assert!(
            error.contains("forwards port 443 ") && error.contains("write to @my_bot,"),
            "{error}"
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

    #[test]
    fn waiting_ends_at_a_refused_token_and_at_no_other_problem() {
        let report = |token_is_refused| Report {
            bots: vec![BotReport {
                id: 7,
                name: None,
                problem: Some("get a new token".into()),
                token_is_refused,
                conflict_ago: None,
            }],
            ..Report::default()
        };
        assert!(is_final(&report(true)) && !is_final(&report(false)));
    }
}
