//! Every key of `mainstay.toml`, declared once. What is not declared here does not exist; what stands under `later`
//! is known and refused until its behaviour comes.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::{CommandLine, HostPort, HttpTarget, StackName, StopSignal};

use crate::declare::{Rule, Shape, choice, table};
use crate::nested::{Environment, NeedList, PathList, Services};
use crate::stack::{Condition, Kind, RestartWhen};
use crate::value::ByteSize;

/// The longest time a key takes: a year is beyond any wait that is meant, and far inside what clocks can add.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(365 * 86_400);
/// The shortest time where zero would mean "without pause".
const MIN_TIME: Duration = Duration::from_millis(1);
const ANY_TIME: Rule = Rule::Time(Duration::ZERO, MAX_TIME);
const SOME_TIME: Rule = Rule::Time(MIN_TIME, MAX_TIME);

/// The kinds of a gate; exactly one is written.
const GATE_KINDS: [&str; 11] =
    ["service", "tcp", "http", "exec", "postgres", "redis", "amqp", "mysql", "grpc", "dns", "file"];
/// The kinds of a probe; exactly one is written.
const PROBE_KINDS: [&str; 7] = ["http", "tcp", "exec", "grpc", "log", "file", "notify"];

table! {
    /// The keys at the top of the file.
    struct StackOptions, "stack", "top of the file";

    keys {
        /// The name of the stack: 1 to 63 letters, digits, `-` and `_`, beginning with a letter or digit. It names the
        /// state folder, the control socket and the unit.
        stack: StackName { otherwise: "the name of the file's folder", example: "\"shop\"" }
        /// Upper bound for stopping the whole stack: what is left then is killed. Without it, every service has its own
        /// `stop.grace`, one after the other along the gates.
        stop_budget: Duration { rule: SOME_TIME, otherwise: "no bound", example: "\"60s\"" }
        /// The services: one table `[service.NAME]` for each, where `NAME` follows the rule of `stack`.
        service: Services { example: "{ web = { command = [\"./web\"] } }" }
    }
    later {
        /// The configuration of the hosted programs: sources, precedence and secrets.
        settings: Shape::Anything, "{ }";
    }
}

table! {
    /// One program that mainstay runs.
    struct ServiceOptions, "service", "[service.NAME]";

    keys {
        /// The program and its arguments: a list, or one text that is split into words as a POSIX shell splits them. No
        /// shell is run: there are no pipes, redirections or globs. A program with a path separator is relative to the
        /// folder of the file; a bare name is looked for on the service's `PATH`. The value of a `${NAME}` is never split.
        command: CommandLine { required: true, example: "[\"./web\", \"--listen\", \"127.0.0.1:8080\"]" }
        /// A sentence for people, shown by `status`.
        description: String { example: "\"the shop's web server\"" }
        /// Whether the program runs on or finishes.
        kind: Kind { default: Kind::LongRunning, example: "\"oneshot\"" }
        /// The working folder, relative to the folder of the file.
        workdir: PathBuf { otherwise: "the folder of the file", example: "\"data\"" }
        /// Variables added to the small clean environment of the service; they win over `env_file`. A number or a boolean
        /// is passed as text.
        env: Environment { example: "{ RUST_LOG = \"info\", PORT = 8080 }" }
        /// Whether the environment of the host is passed on, below `env_file` and `env`.
        inherit_env: bool { default: false, example: "true" }
        /// Files of `NAME=value` lines, relative to the folder of the file; a later file wins over an earlier one.
        env_file: PathList { example: "[\".env\"]" }
        /// The user to run as, by name or number.
        user: String { rule: Rule::NotEmpty, otherwise: "the user of the host", example: "\"shop\"" }
        /// The group to run as, by name or number.
        group: String { rule: Rule::NotEmpty, otherwise: "the user's own group", example: "\"shop\"" }
        /// How many of it run at the same time. A oneshot has one.
        replicas: u32 { rule: Rule::Integer(1, 1000), default: 1, example: "2" }
        /// Whether it starts with the stack. If not, `mainstay start` starts it.
        autostart: bool { default: true, example: "false" }
        /// What must hold before it may start.
        needs: NeedList { example: "[{ service = \"db\" }, { tcp = \"127.0.0.1:6379\", within = \"30s\" }]" }
        /// Has it started? Holds the other two probes back until it has.
        startup: ProbeOptions { example: "{ tcp = \"127.0.0.1:8080\", failure_threshold = 30 }" }
        /// May it get traffic? What needs this service waits until it may. Without one, it is ready as soon as it runs.
        readiness: ProbeOptions { example: "{ http = \"http://127.0.0.1:8080/health\" }" }
        /// Must it be restarted?
        liveness: ProbeOptions { example: "{ http = \"http://127.0.0.1:8080/alive\", period = \"30s\" }" }
        /// What follows an exit nobody asked for.
        restart: RestartOptions { example: "{ when = \"on-failure\" }" }
        /// How it is asked to stop.
        stop: StopOptions { example: "{ signal = \"SIGINT\", grace = \"30s\" }" }
        /// What becomes of its output.
        log: LogOptions { example: "{ rotate = { size = \"16MiB\", keep = 4 } }" }
        /// Limits on what it may use.
        limits: LimitOptions { example: "{ open_files = 65536 }" }
        /// What it may touch. Services run without a sandbox until the profiles are supported.
        sandbox: SandboxOptions { example: "{ profile = \"off\" }" }
    }
    later {
        /// Sockets opened by the host and handed over (`LISTEN_FDS`, `LISTEN_FDNAMES`).
        listen: Shape::Names, "{ http = \"0.0.0.0:80\" }";
        /// How it is asked to read its configuration again: a signal or a command.
        reload: Shape::Command, "[\"./web\", \"--reload\"]";
        /// A command that runs before each start.
        before_start: Shape::Command, "[\"./prepare\"]";
        /// A command that runs once it is ready.
        after_ready: Shape::Command, "[\"./announce\"]";
        /// A command that runs before it is asked to stop.
        before_stop: Shape::Command, "[\"./drain\"]";
        /// A command that runs after each exit.
        after_exit: Shape::Command, "[\"./clean-up\"]";
    }
}

table! {
    /// One gate: exactly one kind, and how long to wait for it.
    struct NeedOptions, "need", "an entry of needs", one_of: GATE_KINDS;

    keys {
        /// Another service of the stack.
        service: String { example: "\"db\"" }
        /// How far the other service must have come.
        is: Condition {
            only_with: "service", otherwise: "\"ready\"; \"completed\" when the other is a oneshot", example: "\"completed\""
        }
        /// An address that must accept connections.
        tcp: HostPort { example: "\"127.0.0.1:6379\"" }
        /// A URL that must answer; `https` is not supported yet.
        http: HttpTarget { example: "\"http://127.0.0.1:8500/v1/status/leader\"" }
        /// The one status that passes.
        status: u16 { rule: Rule::Integer(100, 599), only_with: "http", otherwise: "any from 200 to 399", example: "200" }
        /// A command that must exit with code 0. It follows the rules of `command`.
        exec: CommandLine { example: "[\"pg_isready\"]" }
        /// After this time of waiting the service has failed.
        within: Duration { rule: SOME_TIME, otherwise: "it waits for ever", example: "\"60s\"" }
    }
    later {
        /// A PostgreSQL server that accepts the connection.
        postgres: Shape::Text, "\"postgres://app@127.0.0.1/shop\"";
        /// A Redis server that answers PING.
        redis: Shape::Text, "\"redis://127.0.0.1:6379\"";
        /// An AMQP broker.
        amqp: Shape::Text, "\"amqp://127.0.0.1\"";
        /// A MySQL or MariaDB server.
        mysql: Shape::Text, "\"mysql://127.0.0.1\"";
        /// A gRPC server that reports SERVING.
        grpc: Shape::Text, "\"127.0.0.1:50051\"";
        /// A name that must resolve.
        dns: Shape::Text, "\"db.internal\"";
        /// A file that must be there.
        file: Shape::Path, "\"/run/secrets/ready\"";
        /// What happens when the gate no longer holds while the service runs.
        lose: Shape::Text, "\"restart\"";
    }
}

table! {
    /// A check of a running service, with the meaning and the defaults of Kubernetes. Exactly one kind is written.
    struct ProbeOptions, "probe", "[service.NAME.startup], [service.NAME.readiness], [service.NAME.liveness]",
        one_of: PROBE_KINDS;

    keys {
        /// A URL that must answer; `https` is not supported yet.
        http: HttpTarget { example: "\"http://127.0.0.1:8080/health\"" }
        /// The one status that passes.
        status: u16 { rule: Rule::Integer(100, 599), only_with: "http", otherwise: "any from 200 to 399", example: "200" }
        /// An address that must accept connections.
        tcp: HostPort { example: "\"127.0.0.1:5432\"" }
        /// A command that must exit with code 0. It follows the rules of `command`.
        exec: CommandLine { example: "[\"redis-cli\", \"ping\"]" }
        /// Wait after the start of the program.
        initial_delay: Duration { rule: ANY_TIME, default: Duration::ZERO, example: "\"5s\"" }
        /// Time from one check to the next. While a service is not ready yet, it is asked more often.
        period: Duration { rule: SOME_TIME, default: Duration::from_secs(10), example: "\"30s\"" }
        /// Time for an answer.
        timeout: Duration { rule: SOME_TIME, default: Duration::from_secs(1), example: "\"3s\"" }
        /// Passes in a row that make the verdict good. Must be 1 for `startup` and `liveness`.
        success_threshold: u32 { rule: Rule::Integer(1, 1000), default: 1, example: "2" }
        /// Failures in a row that make the verdict bad.
        failure_threshold: u32 { rule: Rule::Integer(1, 100_000), default: 3, example: "30" }
    }
    later {
        /// A gRPC server that reports SERVING.
        grpc: Shape::Text, "\"127.0.0.1:50051\"";
        /// A line of the output that matches this regular expression.
        log: Shape::Text, "\"listening on\"";
        /// A file that must be there.
        file: Shape::Path, "\"/run/web.ready\"";
        /// The program says so itself (sd_notify, `READY=1`).
        notify: Shape::Bool, "true";
    }
}

table! {
    /// What follows an exit nobody asked for.
    struct RestartOptions, "restart", "[service.NAME.restart]";

    keys {
        /// After which exits it is started again. A oneshot cannot have `"always"`.
        when: RestartWhen { otherwise: "\"always\"; \"on-failure\" for a oneshot", example: "\"on-failure\"" }
        /// How long to wait before each restart.
        backoff: BackoffOptions { example: "{ first = \"1s\", max = \"1m\" }" }
        /// When to stop trying.
        give_up: GiveUpOptions { example: "{ failures = 10, within = \"5m\" }" }
    }
}

table! {
    /// The growing wait before a restart: `first`, then `factor` times as long each time, at most `max`.
    struct BackoffOptions, "backoff", "[service.NAME.restart] backoff";

    keys {
        /// The wait before the first restart; `"0s"` restarts at once.
        first: Duration { rule: ANY_TIME, default: Duration::from_millis(200), example: "\"1s\"" }
        /// How much longer each wait is than the one before.
        factor: f64 { rule: Rule::Number(1.0, 100.0), default: 2.0, example: "1.5" }
        /// The longest wait; not shorter than `first`.
        max: Duration { rule: ANY_TIME, default: Duration::from_secs(30), example: "\"1m\"" }
        /// The share of each wait that is random, so that many services do not restart in step.
        jitter: f64 { rule: Rule::Number(0.0, 1.0), default: 0.1, example: "0.2" }
        /// A run at least this long puts the wait back to `first`.
        reset_after: Duration { rule: ANY_TIME, default: Duration::from_secs(60), example: "\"5m\"" }
    }
}

table! {
    /// The restart limit: this many failures within this time, and the service is `failed`.
    struct GiveUpOptions, "give_up", "[service.NAME.restart] give_up";

    keys {
        /// How many; 1 makes the first failure final, 0 never gives up.
        failures: u32 { rule: Rule::Integer(0, 100_000), default: 5, example: "10" }
        /// Within which time.
        within: Duration { rule: SOME_TIME, default: Duration::from_secs(60), example: "\"5m\"" }
    }
    later {
        /// After this time a service that gave up is tried again.
        retry_after: Shape::Duration, "\"10m\"";
    }
}

table! {
    /// How a service is asked to stop.
    struct StopOptions, "stop", "[service.NAME.stop]";

    keys {
        /// What is sent to its processes.
        signal: StopSignal { default: StopSignal::Term, example: "\"SIGQUIT\"" }
        /// Time it has to end; then its whole process tree is killed.
        grace: Duration { rule: ANY_TIME, default: Duration::from_secs(15), example: "\"30s\"" }
    }
    later {
        /// A command that asks it to stop, in place of a signal.
        command: Shape::Command, "[\"./web\", \"--stop\"]";
    }
}

table! {
    /// What becomes of a service's output.
    struct LogOptions, "log", "[service.NAME.log]";

    keys {
        /// When a new file is begun, and how many are kept.
        rotate: RotateOptions { example: "{ size = \"16MiB\", keep = 4, compress = false }" }
        /// A longer line is kept in parts.
        max_line: ByteSize { rule: Rule::Size(1 << 10, 16 << 20), default: ByteSize(64 << 10), example: "\"256KiB\"" }
        /// What happens when output comes faster than it can be written.
        when_blocked: WhenBlocked { default: WhenBlocked::Wait, example: "\"wait\"" }
    }
}

table! {
    /// Rotation by size.
    struct RotateOptions, "rotate", "[service.NAME.log] rotate";

    keys {
        /// A file is closed when it would become larger than this.
        size: ByteSize { rule: Rule::Size(64 << 10, 1 << 40), default: ByteSize(64 << 20), example: "\"16MiB\"" }
        /// How many closed files are kept.
        keep: u32 { rule: Rule::Integer(0, 10_000), default: 8, example: "30" }
        /// Whether closed files are compressed with zstd.
        compress: bool { default: true, example: "false" }
    }
}

table! {
    /// Limits on what a service may use.
    struct LimitOptions, "limits", "[service.NAME.limits]";

    keys {
        /// Open files of each process (`RLIMIT_NOFILE`). The largest is what Linux can be set to (`fs.nr_open`).
        open_files: u64 {
            rule: Rule::Integer(16, 2_147_483_584), otherwise: "the limit of the host", example: "65536"
        }
    }
    later {
        /// Memory of all its processes together.
        memory: Shape::Size, "\"512MiB\"";
        /// Number of its processes and threads.
        pids: Shape::Integer, "512";
        /// Cores of processor time.
        cpu: Shape::Number, "1.5";
    }
}

table! {
    /// What a service may touch.
    struct SandboxOptions, "sandbox", "[service.NAME.sandbox]";

    keys {
        /// How tight the sandbox is.
        profile: SandboxProfile { default: SandboxProfile::Off, example: "\"off\"" }
    }
    later {
        /// The only capabilities kept.
        capabilities: Shape::Texts, "[\"CAP_NET_BIND_SERVICE\"]";
        /// The only system calls allowed, by name and `@group`.
        syscalls: Shape::Texts, "[\"@default\"]";
        /// Paths it may write.
        write: Shape::Texts, "[\"/var/lib/shop\"]";
        /// Paths it may read.
        read: Shape::Texts, "[\"/etc/shop\"]";
        /// What it may reach over the network: `"any"`, `"loopback"` or `"none"`.
        network: Shape::Text, "\"loopback\"";
    }
}

/// What happens when output comes faster than it can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WhenBlocked {
    Wait,
}

/// How tight the sandbox is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SandboxProfile {
    Off,
}

choice! {
    Kind {
        "long-running" => Kind::LongRunning, "runs until it is stopped";
        "oneshot" => Kind::Oneshot, "finishes; exit code 0 completes it";
    } later {}
}

choice! {
    Condition {
        "ready" => Condition::Ready, "all its replicas are ready";
        "started" => Condition::Started, "all its replicas run";
        "completed" => Condition::Completed, "it is a oneshot and has completed";
    } later {}
}

choice! {
    RestartWhen {
        "always" => RestartWhen::Always, "after every exit";
        "on-failure" => RestartWhen::OnFailure, "after every exit but code 0";
        "never" => RestartWhen::Never, "after none";
    } later {}
}

choice! {
    StopSignal {
        "SIGTERM" => StopSignal::Term, "the usual request to end";
        "SIGINT" => StopSignal::Int, "what Ctrl-C sends";
        "SIGQUIT" => StopSignal::Quit, "nginx: finish what is in flight, then end";
        "SIGHUP" => StopSignal::Hup, "hang-up";
        "SIGUSR1" => StopSignal::Usr1, "the program's own meaning";
        "SIGUSR2" => StopSignal::Usr2, "the program's own meaning";
        "SIGKILL" => StopSignal::Kill, "cannot be caught: ends at once";
    } later {
        "ctrl-c", "Windows: what Ctrl-C sends";
        "ctrl-break", "Windows: what Ctrl-Break sends";
        "close-window", "Windows: closes its windows";
    }
}

choice! {
    WhenBlocked {
        "wait" => WhenBlocked::Wait, "the program waits";
    } later {
        "drop", "lines are dropped, counted, and the log says so";
    }
}

choice! {
    SandboxProfile {
        "off" => SandboxProfile::Off, "no sandbox";
    } later {
        "standard", "what a usual service needs";
        "strict", "only what is named";
    }
}
