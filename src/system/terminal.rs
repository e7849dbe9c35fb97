//! A person at a terminal: questions, answers that are not shown, and a QR code.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use qrcodegen::{QrCode, QrCodeEcc};

/// Bytes of an answer that are read.
const ANSWER_LIMIT: usize = 4096;
/// Light modules around a QR code. The standard has four; on a screen, two are enough.
const QUIET_ZONE: i32 = 2;

/// Writes this line to standard error. Where nobody reads it, the command continues.
pub(crate) fn say(line: &str) {
    show(&format!("{line}\n"));
}

fn show(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether there is a terminal, so that a person can answer.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on a terminal; without one, the answer is the next line of standard input. None at its end.
///
/// # Errors
/// When the answer cannot be read.
pub(crate) fn ask(question: &str) -> io::Result<Option<String>> {
    if is_there() {
        show(&format!("{question} "));
    }
    read_line()
}

/// Like [`ask`]; the terminal does not show the answer.
///
/// # Errors
/// When the answer cannot be read.
pub(crate) fn ask_hidden(question: &str) -> io::Result<Option<String>> {
    if !is_there() {
        return read_line();
    }
    let stdin = io::stdin();

    // A signal that ends the program must not leave a terminal without echo: the signal waits until
    // the echo is restored.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.add(Signal::SIGQUIT);
    signals.thread_block()?;
    let signal = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;

    // The echo goes before the question: an answer that comes at once is neither shown nor lost.
    let before = tcgetattr(&stdin)?;
    let mut hidden = before.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSANOW, &hidden)?;
    show(&format!("{question} "));

    let mut either = [
        PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        PollFd::new(signal.as_fd(), PollFlags::POLLIN),
    ];
    // A terminal is ready when a whole line is. A stop and its end (Ctrl-Z, `fg`) interrupt the
    // wait.
    while poll(&mut either, PollTimeout::NONE) == Err(Errno::EINTR) {}
    let has_signal = either[1].any() == Some(true);
    let answer = if has_signal { Ok(None) } else { read_line() };

    tcsetattr(&stdin, SetArg::TCSANOW, &before)?;
    say("");
    // A signal that has come ends the program here.
    signals.thread_unblock()?;
    answer
}

/// Reads one line byte by byte: what follows it stays for the next reader of standard input.
fn read_line() -> io::Result<Option<String>> {
    let mut stdin = io::stdin().lock();
    let mut line = Vec::new();
    for byte in stdin.by_ref().bytes().take(ANSWER_LIMIT) {
        match byte? {
            b'\n' => return Ok(Some(text(&line))),
            byte => line.push(byte),
        }
    }
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(text(&line)))
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim().to_owned()
}

/// A QR code of `text` in black and white, two modules in each character. Empty when `text` is too
/// long.
pub(crate) fn qr_code(text: &str) -> String {
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Low) else {
        return String::new();
    };

    let range = -QUIET_ZONE..code.size() + QUIET_ZONE;
    let mut lines = String::new();
    for y in range.clone().step_by(2) {
        lines.push_str("\x1b[30;107m");
        for x in range.clone() {
            let upper = code.get_module(x, y);
            let lower = code.get_module(x, y + 1);
            lines.push(match (upper, lower) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        lines.push_str("\x1b[0m\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_code_has_three_corners_and_a_light_frame() {
        let code = qr_code("https://t.me/my_bot");
        let lines: Vec<&str> = code
            .lines()
            .map(|line| {
                line.trim_start_matches("\x1b[30;107m")
                    .trim_end_matches("\x1b[0m")
            })
            .collect();
        let width = lines[0].chars().count();
        // Version 2 has 25 modules.
        assert_eq!((width, lines.len()), (29, 15), "{code}");
        assert_eq!(lines[0], " ".repeat(width));
        assert!(
            lines[1].starts_with("  █▀▀▀▀▀█ ") && lines[1].ends_with(" █▀▀▀▀▀█  "),
            "{code}"
        );
        assert!(
            lines[11].starts_with("  █ ███ █ ") || lines[11].starts_with("  █ ▀▀▀ █ "),
            "{code}"
        );
        assert_eq!(qr_code(&"x".repeat(5000)), "");
    }
}
