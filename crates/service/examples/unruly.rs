//! A service that goes wrong in the way it is told to: for the tests of the library.

use std::process::ExitCode;
use std::time::Duration;

use mainstay_service::{AsyncService, Context, Event, Failure, Program, Ready, Service};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

struct Unruly {
    way: String,
}

impl Service for Unruly {
    fn start(&mut self, context: &Context) -> Result<(), Failure> {
        match self.way.as_str() {
            "fail-start" => Err(Failure::new("the door is locked").with_code(4)),
            "wait-start" => {
                context.log().info("waits in its start");
                let _ = context.stop_token().wait(LONG);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn run(&mut self, context: &Context) -> Result<(), Failure> {
        match self.way.as_str() {
            "fail" => {
                std::fs::read_to_string("/no/such/file")?;
            }
            "fail-code" => return Err(Failure::new("no licence").with_code(7)),
            "panic" => panic!("the spring\nbroke"),
            "panic-thread" => {
                let thread = std::thread::Builder::new().name("spring".to_owned());
                let thread = thread.spawn(|| panic!("a thread's own words"))?;
                return if thread.join().is_err() { Ok(()) } else { Err(Failure::new("it went well")) };
            }
            "end" => return Ok(()),
            "tracing" => {
                use tracing_subscriber::layer::SubscriberExt as _;
                let subscriber = tracing_subscriber::registry().with(context.log().layer());
                tracing::subscriber::with_default(subscriber, || {
                    tracing::warn!(port = 80, client = "a b", "listening");
                    tracing::debug!("not asked for");
                });
                return Ok(());
            }
            "hang" => {
                let _ = context.next_event(Duration::ZERO);
                context.log().info("hangs");
                std::thread::sleep(LONG);
            }
            "late" => {
                context.log().info("not ready yet");
                context.ready()?;
                context.status("ready by itself");
            }
            _ => {}
        }
        while context.next_event(LONG) != Some(Event::Stop) {}
        Ok(())
    }

    fn stop(&mut self, context: &Context) -> Result<(), Failure> {
        context.log().info("stop is called");
        match self.way.as_str() {
            "slow-stop" => std::thread::sleep(LONG),
            "fail-stop" => return Err(Failure::new("cannot write the last page").with_code(9)),
            "long-stop" => {
                // Longer than it has, with a word now and then.
                for page in 1..=15 {
                    context.progress(&format!("writing page {page}"), Duration::from_secs(5));
                    std::thread::sleep(Duration::from_millis(100));
                }
                context.log().info("all pages are written");
            }
            _ => {}
        }
        Ok(())
    }
}

struct Asynchronous;

impl AsyncService for Asynchronous {
    async fn start(&mut self, context: &Context) -> Result<(), Failure> {
        tokio::task::yield_now().await;
        context.log().info("started on a runtime");
        Ok(())
    }

    async fn run(&mut self, context: &Context) -> Result<(), Failure> {
        let token = context.stop_token();
        let other = tokio::spawn(async move { token.stopped().await });
        loop {
            let event = context.event().await;
            if event == Event::Stop {
                break;
            }
            context.status(&format!("{event:?}"));
        }
        other.await?;
        context.log().info("both tasks heard of it");
        Ok(())
    }

    async fn stop(&mut self, context: &Context) -> Result<(), Failure> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        context.log().info("stop is awaited");
        Ok(())
    }
}

fn main() -> ExitCode {
    let way = std::env::args().nth(1).unwrap_or_default();
    let program = Program::new("unruly").stop_within(Duration::from_secs(1));
    match way.as_str() {
        "async" => program.run_async(Asynchronous),
        "late" => program.ready(Ready::WhenSaid).run(Unruly { way }),
        _ => program.run(Unruly { way }),
    }
}
