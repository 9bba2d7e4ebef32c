//! Exec probes: a command, run by whoever owns process trees.

use std::pin::Pin;
use std::time::Duration;

use mainstay_types::{CommandLine, Exit, ProbeFailure};

/// Longest last line told, in bytes: as the body of an HTTP answer.
const MAX_LAST_LINE_BYTES: usize = 200;
/// How much later than its time limit the runner may answer before it is given up. The runner keeps the limit itself;
/// this only holds the promise of [`crate::perform`] should it not.
const RUNNER_GRACE: Duration = Duration::from_secs(1);

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExecAnswer {
    /// It ended by itself.
    Exited {
        /// How.
        exit: Exit,
        /// The last line it wrote that is not blank; empty when there is none.
        last_line: String,
    },
    /// It did not end within this time and was killed, with everything it had started.
    TimedOut(Duration),
    /// It could not be started; the reason in words.
    NotStarted(String),
}

/// Runs the command of a probe: as the service's user, in its folder and environment, in a process tree of its own.
pub trait RunCommand: Send + Sync {
    /// Runs `command`, and kills it with everything it started when it takes longer than `timeout` or when the
    /// answer is no longer wanted (the future is dropped).
    fn run(
        &self,
        command: CommandLine,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = ExecAnswer> + Send>>;
}

pub(crate) async fn check(
    command: &CommandLine,
    timeout: Duration,
    exec: &dyn RunCommand,
) -> Result<String, ProbeFailure> {
    let run = exec.run(command.clone(), timeout);
    match tokio::time::timeout(timeout.saturating_add(RUNNER_GRACE), run).await {
        Ok(ExecAnswer::Exited { exit, .. }) if exit.is_success() => Ok("exit code 0".to_owned()),
        Ok(ExecAnswer::Exited { exit, last_line }) => Err(ProbeFailure::Exit {
            exit,
            last_line: crate::printable(last_line.as_bytes(), MAX_LAST_LINE_BYTES),
        }),
        Ok(ExecAnswer::TimedOut(limit)) => Err(ProbeFailure::TimedOut(limit)),
        Ok(ExecAnswer::NotStarted(reason)) => Err(ProbeFailure::NotStarted(reason)),
        Err(_) => Err(ProbeFailure::TimedOut(timeout)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    struct Always(ExecAnswer);

    impl RunCommand for Always {
        fn run(
            &self,
            command: CommandLine,
            timeout: Duration,
        ) -> Pin<Box<dyn Future<Output = ExecAnswer> + Send>> {
            assert_eq!((command.to_string().as_str(), timeout), ("pg_isready -q", LIMIT));
            let answer = self.0.clone();
            Box::pin(async { answer })
        }
    }

    struct Never;

    impl RunCommand for Never {
        fn run(&self, _: CommandLine, _: Duration) -> Pin<Box<dyn Future<Output = ExecAnswer> + Send>> {
            Box::pin(std::future::pending())
        }
    }

    fn command() -> CommandLine {
        CommandLine { program: "pg_isready".to_owned(), args: vec!["-q".to_owned()] }
    }

    #[tokio::test]
    async fn only_exit_code_0_passes() {
        let exited = |exit, last_line: &str| ExecAnswer::Exited { exit, last_line: last_line.to_owned() };
        for (answer, words) in [
            (exited(Exit::Code(0), "all well"), Ok("exit code 0")),
            (exited(Exit::Code(1), "no\tanswer"), Err("the command exited with code 1: no answer")),
            (exited(Exit::Code(2), ""), Err("the command exited with code 2")),
            (
                exited(Exit::Signal { signal: 11, core_dumped: false }, ""),
                Err("the command crashed with SIGSEGV"),
            ),
            (ExecAnswer::TimedOut(LIMIT), Err("no answer within 5s")),
            (
                ExecAnswer::NotStarted("cannot execute pg_isready: not found".to_owned()),
                Err("cannot execute pg_isready: not found"),
            ),
        ] {
            let got = check(&command(), LIMIT, &Always(answer)).await.map_err(|failure| failure.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), words);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_runner_that_never_answers_is_given_up() {
        let before = tokio::time::Instant::now();
        assert_eq!(check(&command(), LIMIT, &Never).await, Err(ProbeFailure::TimedOut(LIMIT)));
        assert!(before.elapsed() <= LIMIT + RUNNER_GRACE + Duration::from_millis(1));
    }
}
