//! Other programs that pihook starts. What they print reaches no user: pihook says in its own words
//! what came of it.

use std::env;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks whether the program has ended.
const INTERVAL: Duration = Duration::from_millis(20);

/// How much a program may write to its error output, in bytes: what one pipe holds. A program that
/// writes more waits for a reader until it is killed.
const MAX_OUTPUT: u64 = 65_536;

/// How a program ended.
pub(crate) struct Ended {
    pub(crate) is_success: bool,
    /// What it wrote to its error output.
    pub(crate) errors: String,
}

/// Runs `program`, and waits for its end. Returns whether it succeeded. After `limit` it is killed.
///
/// It has no input, no output and no terminal to ask on: many programs start a pager where they see
/// a terminal. Of the environment it gets only PATH, since a token can stand there.
///
/// # Errors
/// When it cannot be started. [`io::ErrorKind::TimedOut`] when it was killed.
pub(crate) fn succeeds(program: &str, arguments: &[&str], limit: Duration) -> io::Result<bool> {
    let mut command = alone(program, arguments);
    command.envs(env::var_os("PATH").map(|path| ("PATH", path)));

    let status = wait(&mut command.spawn()?, limit)?;
    Ok(status.success())
}

/// Like [`succeeds`], for a program at a fixed path, which gets no environment at all. Returns its
/// error output, too.
///
/// # Errors
/// When it cannot be started. [`io::ErrorKind::TimedOut`] when it was killed.
pub(crate) fn run(path: &str, arguments: &[&str], limit: Duration) -> io::Result<Ended> {
    let mut child = alone(path, arguments).stderr(Stdio::piped()).spawn()?;
    let status = wait(&mut child, limit)?;

    let mut errors = Vec::new();
    if let Some(pipe) = child.stderr.take() {
        pipe.take(MAX_OUTPUT).read_to_end(&mut errors)?;
    }

    Ok(Ended {
        is_success: status.success(),
        errors: String::from_utf8_lossy(&errors).into_owned(),
    })
}

/// A program that has no input, no output and no environment.
fn alone(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_clear();
    command
}

/// Waits for the end of a program, or kills it after `limit`.
fn wait(child: &mut Child, limit: Duration) -> io::Result<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_started_program_has_no_input_no_output_and_no_environment() {
        let looks = "
            for file in 0 1 2; do
                test \"$(readlink /proc/$$/fd/$file)\" = /dev/null || exit 1
            done
            test \"$(tr '\\0' '\\n' </proc/$$/environ | cut -d = -f 1)\" = PATH";
        // Cargo has put many variables there.
        assert!(env::vars_os().count() > 1);
        assert!(succeeds("sh", &["-c", looks], LIMIT).unwrap());
    }

    #[test]
    fn how_a_started_program_ended_is_known() {
        assert!(succeeds("true", &[], LIMIT).unwrap());
        assert!(!succeeds("false", &[], LIMIT).unwrap());
        assert_eq!(
            succeeds("no-such-program", &[], LIMIT).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        let start = Instant::now();
        let killed = succeeds("sleep", &["600"], Duration::from_millis(50));
        assert_eq!(killed.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < LIMIT);
    }

    #[test]
    fn a_program_that_is_asked_has_no_environment_and_its_error_output_is_bounded() {
        let asked = |script: &str, limit| run("/bin/sh", &["-c", script], limit);

        let environment = asked("exec /bin/cat /proc/self/environ >&2", LIMIT).unwrap();
        assert!(!environment.errors.contains("CARGO"));
        assert!(!environment.errors.contains("PATH="));

        let refusal = asked("echo output; echo error 20 >&2; exit 2", LIMIT).unwrap();
        assert_eq!(refusal.errors, "error 20\n");
        assert!(!refusal.is_success);

        let endless = asked(
            "while :; do echo more >&2; done",
            Duration::from_millis(200),
        );
        assert_eq!(endless.err().unwrap().kind(), io::ErrorKind::TimedOut);
    }
}
