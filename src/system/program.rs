//! Other programs that pihook starts. What they print reaches nobody: pihook says in its own words
//! what came of it.

use std::env;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks whether the program has ended.
const INTERVAL: Duration = Duration::from_millis(20);

/// Runs `program`, and waits for its end. Returns whether it succeeded. After `limit` it is killed.
///
/// It has no input, no output and no terminal to ask on: many programs start a pager where they see
/// a terminal. Of the environment it gets only PATH, since a token can stand there.
///
/// # Errors
/// When it cannot be started. [`io::ErrorKind::TimedOut`] when it was killed.
pub(crate) fn succeeds(program: &str, arguments: &[&str], limit: Duration) -> io::Result<bool> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_clear();
    if let Some(path) = env::var_os("PATH") {
        command.env("PATH", path);
    }

    let end = Instant::now() + limit;
    let mut child = command.spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
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
    fn succeeds_knows_success_failure_and_a_timeout() {
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
}
