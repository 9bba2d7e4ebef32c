//! A service of asynchronous functions, on tokio's runtime of one thread.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::context::Context;
use crate::event::Event;
use crate::failure::Failure;
use crate::program::{Program, Service};

/// Between two signs of life where no watchdog asks for any: there is nothing to do but wait.
const LONG: Duration = Duration::from_secs(3600);

/// [`Service`] with asynchronous functions. Each is awaited on a runtime of one thread that the library makes; what is spawned
/// on it runs on between them, and is dropped after `stop`.
pub trait AsyncService: Send {
    /// See [`Service::start`].
    fn start(&mut self, context: &Context) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = context;
        async { Ok(()) }
    }

    /// See [`Service::run`]; it waits for [`Context::event`] or [`StopToken::stopped`](crate::StopToken::stopped).
    fn run(&mut self, context: &Context) -> impl Future<Output = Result<(), Failure>> + Send;

    /// See [`Service::stop`].
    fn stop(&mut self, context: &Context) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = context;
        async { Ok(()) }
    }
}

impl Context {
    /// The next event, as [`Context::next_event`] gives it; needs tokio's timer. May be dropped at any time, in `select!` say:
    /// no event is lost by it. While it is waited for, and the runtime is not kept from polling it, the watchdog is fed.
    pub async fn event(&self) -> Event {
        let pause = self.watchdog().map_or(LONG, |limit| limit / 4);
        loop {
            let next = std::future::poll_fn(|cx| self.poll_event(cx.waker()));
            if let Ok(event) = tokio::time::timeout(pause, next).await {
                return event;
            }
        }
    }
}

impl Program {
    /// [`Program::run`] for an asynchronous service.
    pub fn run_async<S: AsyncService + 'static>(self, service: S) -> ExitCode {
        self.run(OnTokio { service, runtime: None })
    }
}

/// Runs `service` under this name, with everything as it is by default: see [`Program`].
pub fn run_async<S: AsyncService + 'static>(name: &str, service: S) -> ExitCode {
    Program::new(name).run_async(service)
}

struct OnTokio<S> {
    service: S,
    /// There from the start on.
    runtime: Option<Runtime>,
}

impl<S: AsyncService> Service for OnTokio<S> {
    fn start(&mut self, context: &Context) -> Result<(), Failure> {
        let runtime = self.runtime.insert(Builder::new_current_thread().enable_all().build()?);
        runtime.block_on(self.service.start(context))
    }

    fn run(&mut self, context: &Context) -> Result<(), Failure> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(self.service.run(context)),
            None => Err(no_runtime()),
        }
    }

    fn stop(&mut self, context: &Context) -> Result<(), Failure> {
        match self.runtime.take() {
            Some(runtime) => {
                let stopped = runtime.block_on(self.service.stop(context));
                // A thread that is blocked in a call must not hold the end back.
                runtime.shutdown_background();
                stopped
            }
            None => Err(no_runtime()),
        }
    }
}

/// Only when a service is run without its start, which the library never does.
fn no_runtime() -> Failure {
    Failure::new("there is no runtime: the service was not started")
}
