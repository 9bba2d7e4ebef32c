//! Every key of `mainstay.toml`, declared once. What is not declared here does not exist; what stands under `later`
//! is known and refused until its behaviour comes. It is one thing because an option
//! must be found in one place.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::{CommandLine, Fsync, HostPort, HttpTarget, Level, StackName, StopSignal, WhenBlocked};

use crate::declare::{Rule, Shape, choice, table};
use crate::forward::{Forwards, HeaderTable, LabelTable, NameList, StreamList};
use crate::nested::{Environment, HookCommand, Listeners, NeedList, PathList, Services, StepList};
use crate::stack::{Condition, Kind, Lose, Need, RestartWhen};
use crate::target::{AmqpUrl, HostName, MysqlUrl, Pattern, PatternList, PostgresUrl, RedisUrl};
use crate::value::{ByteSize, Yes};

/// The longest time a key takes: a year is beyond any wait that is meant, and far inside what clocks can add.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(365 * 86_400);
/// The shortest time where zero would mean "without pause".
const MIN_TIME: Duration = Duration::from_millis(1);
/// The shortest age of a log file: files of a moment are more work than help.
const MIN_LOG_AGE: Duration = Duration::from_secs(1);
const ANY_TIME: Rule = Rule::Time(Duration::ZERO, MAX_TIME);
const SOME_TIME: Rule = Rule::Time(MIN_TIME, MAX_TIME);

/// The kinds of a gate; exactly one is written.
pub(crate) const GATE_KINDS: [&str; 11] =
    ["service", "tcp", "http", "exec", "postgres", "redis", "amqp", "mysql", "grpc", "dns", "file"];
/// The kinds of a probe; exactly one is written.
pub(crate) const PROBE_KINDS: [&str; 8] =
    ["http", "tcp", "exec", "grpc", "log", "file", "notify", "notify_fd"];

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
        /// What holds for the logs of all services.
        log: StackLogOptions { example: "{ max_total = \"2GiB\", redact = ['password=\\S+'] }" }
        /// The services: one table `[service.NAME]` for each, where `NAME` follows the rule of `stack`.
        service: Services { example: "{ web = { command = [\"./web\"] } }" }
        /// Where the output of services is sent to as well: one table `[forward.NAME]` for each target, where `NAME` follows
        /// the rule of `stack`.
        forward: Forwards { example: "{ central = { to = \"loki\", url = \"http://127.0.0.1:3100\" } }" }
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
        /// How it is asked to read its configuration again, by `mainstay reload`. Exactly one way is written.
        reload: ReloadOptions { otherwise: "{ rolling = true }", example: "{ signal = \"SIGHUP\" }" }
        /// A command that runs before each start. When it fails, the start has failed, and `restart` says what follows.
        /// Like each hook, it runs as the service would, with the facts in its environment.
        before_start: HookCommand { example: "[\"./prepare\"]" }
        /// A command that runs once the service is ready; for a oneshot, once it runs. Its failure is told and changes
        /// nothing.
        after_ready: HookCommand { example: "{ command = [\"./announce\"], timeout = \"5s\" }" }
        /// A command that runs before the service is asked to stop. The grace of the stop runs meanwhile.
        before_stop: HookCommand { example: "[\"./drain\"]" }
        /// A command that runs after each end of the service, before anything is started in its place.
        after_exit: HookCommand { example: "\"./clean-up --all\"" }
        /// Sockets that the host opens and hands over (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`): they stay open while the
        /// service restarts, and the service needs no right to open them. The names go into `LISTEN_FDNAMES`; the
        /// descriptors begin at 3 and are in the order of the file. An address is `IP:PORT` or `tcp:IP:PORT`,
        /// `udp:IP:PORT`, `unix:PATH` or `unixgram:PATH`, where a relative path is relative to the folder of the file.
        listen: Listeners { example: "{ http = \"0.0.0.0:80\", admin = \"unix:run/admin.sock\" }" }
        /// What becomes of its output.
        log: LogOptions { example: "{ rotate = { size = \"16MiB\", keep = 4 } }" }
        /// Limits on what it may use.
        limits: LimitOptions { example: "{ open_files = 65536 }" }
        /// What it may touch. Services run without a sandbox until the profiles are supported.
        sandbox: SandboxOptions { example: "{ profile = \"off\" }" }
    }
}

table! {
    /// One gate: exactly one kind, and how long to wait for it. While it is shut it is asked again and again, less and
    /// less often, and `status` says what it answered.
    struct NeedOptions, "need", "an entry of needs", one_of: GATE_KINDS;

    keys {
        /// Another service of the stack.
        service: String { example: "\"db\"" }
        /// How far the other service must have come.
        is: Condition {
            only_with: ["service"],
            otherwise: "\"ready\"; \"completed\" when the other is a oneshot",
            example: "\"completed\""
        }
        /// An address that must accept connections.
        tcp: HostPort { example: "\"127.0.0.1:6379\"" }
        /// A URL that must answer; `http` or `https`.
        http: HttpTarget { example: "\"http://127.0.0.1:8500/v1/status/leader\"" }
        /// The one status that passes.
        status: u16 {
            rule: Rule::Integer(100, 599), only_with: ["http"], otherwise: "any from 200 to 399", example: "200"
        }
        /// What the first MiB of the answer must match, anywhere in it.
        body: Pattern { only_with: ["http"], example: "\"\\\"status\\\": *\\\"ok\\\"\"" }
        /// A PostgreSQL server that is ready, accepts the user and has the database.
        postgres: PostgresUrl { example: "\"postgres://app@127.0.0.1/shop\"" }
        /// A Redis or Valkey server that is ready and accepts the user; `rediss` for TLS.
        redis: RedisUrl { example: "\"redis://127.0.0.1:6379\"" }
        /// An AMQP 0-9-1 broker, such as RabbitMQ, that is ready and accepts the user; `amqps` for TLS.
        amqp: AmqpUrl { example: "\"amqp://app@127.0.0.1\"" }
        /// A MySQL or MariaDB server that is ready, accepts the user and has the database.
        mysql: MysqlUrl { example: "\"mysql://app@127.0.0.1/shop\"" }
        /// A gRPC server, without TLS, that answers SERVING (`grpc.health.v1.Health/Check`).
        grpc: HostPort { example: "\"127.0.0.1:50051\"" }
        /// The name that is asked about.
        grpc_service: String { only_with: ["grpc"], otherwise: "the server as a whole", example: "\"shop.Cart\"" }
        /// A name that must resolve to an address.
        dns: HostName { example: "\"db.internal\"" }
        /// A file or folder that must be there.
        file: PathBuf { example: "\"/run/secrets/ready\"" }
        /// A command that must exit with code 0. It follows the rules of `command`.
        exec: CommandLine { example: "[\"pg_isready\"]" }
        /// A file in PEM format with the certificate of the authority that signed the server's: with an `https`, `rediss` or
        /// `amqps` URL, and with `postgres` and `mysql`.
        ca: PathBuf {
            only_with: ["http", "postgres", "redis", "amqp", "mysql"],
            otherwise: "the authorities the system trusts",
            example: "\"tls/ca.pem\""
        }
        /// After this time of waiting the service has failed.
        within: Duration { rule: SOME_TIME, otherwise: "it waits for ever", example: "\"60s\"" }
        /// What follows when it no longer holds while the service runs. Another service is lost as soon as it is not what
        /// `is` asks for; anything else when it has not passed three times in a row.
        lose: Lose { default: Lose::Ignore, example: "\"restart\"" }
        /// How often it is asked while the service runs, for `lose`. Another service needs no asking.
        period: Duration {
            rule: SOME_TIME, only_with: ["lose"], default: Need::DEFAULT_PERIOD, example: "\"30s\""
        }
    }
}

table! {
    /// A check of a running service, with the meaning and the defaults of Kubernetes. Exactly one kind is written.
    struct ProbeOptions, "probe", "[service.NAME.startup], [service.NAME.readiness], [service.NAME.liveness]",
        one_of: PROBE_KINDS;

    keys {
        /// A URL that must answer; `http` or `https`.
        http: HttpTarget { example: "\"http://127.0.0.1:8080/health\"" }
        /// The one status that passes.
        status: u16 {
            rule: Rule::Integer(100, 599), only_with: ["http"], otherwise: "any from 200 to 399", example: "200"
        }
        /// What the first MiB of the answer must match, anywhere in it.
        body: Pattern { only_with: ["http"], example: "\"^ok\"" }
        /// A file in PEM format with the certificate of the authority that signed the server's, for `https`.
        ca: PathBuf {
            only_with: ["http"], otherwise: "the authorities the system trusts", example: "\"tls/ca.pem\""
        }
        /// An address that must accept connections.
        tcp: HostPort { example: "\"127.0.0.1:5432\"" }
        /// A command that must exit with code 0. It follows the rules of `command`.
        exec: CommandLine { example: "[\"redis-cli\", \"ping\"]" }
        /// A gRPC server, without TLS, that answers SERVING (`grpc.health.v1.Health/Check`).
        grpc: HostPort { example: "\"127.0.0.1:50051\"" }
        /// The name that is asked about.
        grpc_service: String { only_with: ["grpc"], otherwise: "the server as a whole", example: "\"shop.Cart\"" }
        /// A line of the service's output that matches; seen once, it holds for the rest of the run. Not for `liveness`.
        log: Pattern { example: "\"listening on\"" }
        /// A file or folder that must be there.
        file: PathBuf { example: "\"run/web.ready\"" }
        /// The program says so itself, by sd_notify(3): `READY=1` passes `startup` and `readiness`. For `liveness` it is
        /// the watchdog: the program must say `WATCHDOG=1` at least once within `period` times `failure_threshold`,
        /// which it is told in `WATCHDOG_USEC`.
        notify: Yes { example: "true" }
        /// The program says so itself, by a line break written to this descriptor (s6's notification-fd); not one of those
        /// that `listen` takes, which begin at 3. Not for `liveness`.
        notify_fd: u32 { rule: Rule::Integer(3, 1023), example: "10" }
        /// Wait after the start of the program.
        initial_delay: Duration { rule: ANY_TIME, default: Duration::ZERO, example: "\"5s\"" }
        /// Time from one check to the next. While a service is not ready yet, it is asked more often.
        period: Duration { rule: SOME_TIME, default: Duration::from_secs(10), example: "\"30s\"" }
        /// Time for an answer. Not with `log`, `notify` and `notify_fd`, which nobody asks for.
        timeout: Duration { rule: SOME_TIME, default: Duration::from_secs(1), example: "\"3s\"" }
        /// Passes in a row that make the verdict good. Must be 1 for `startup` and `liveness`, and with `log`, `notify` and
        /// `notify_fd`.
        success_threshold: u32 { rule: Rule::Integer(1, 1000), default: 1, example: "2" }
        /// Failures in a row that make the verdict bad.
        failure_threshold: u32 { rule: Rule::Integer(1, 100_000), default: 3, example: "30" }
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
        /// This long after it gave up it is tried once more, and so on.
        retry_after: Duration { rule: SOME_TIME, otherwise: "it stays failed", example: "\"10m\"" }
    }
}

table! {
    /// How a service is asked to stop.
    struct StopOptions, "stop", "[service.NAME.stop]";

    keys {
        /// What is sent to its processes.
        signal: StopSignal { default: StopSignal::Term, example: "\"SIGQUIT\"" }
        /// Time it has to end, from the first step; then its whole process tree is killed.
        grace: Duration { rule: ANY_TIME, default: Duration::from_secs(15), example: "\"30s\"" }
        /// A command that asks it to stop. If it has not ended after half the grace, `signal` follows.
        command: CommandLine { example: "[\"./web\", \"--stop\"]" }
        /// What is done one after the other until it has ended, in place of `signal` and `command`: 1 to 16 steps, whose
        /// waits together are no longer than `grace`.
        steps: StepList {
            example: "[{ command = [\"./drain\"], wait = \"5s\" }, { signal = \"SIGINT\", wait = \"5s\" }, { signal = \"SIGTERM\" }]"
        }
    }
}

table! {
    /// One step of a stop: a signal or a command.
    struct StepOptions, "step", "[service.NAME.stop] steps", one_of: ["signal", "command"];

    keys {
        /// What is sent to its processes.
        signal: StopSignal { example: "\"SIGINT\"" }
        /// A command that asks it to stop. If the command fails, the next step follows at once.
        command: CommandLine { example: "[\"./drain\"]" }
        /// How long to wait for its end before the next step. Only the last step may leave it out.
        wait: Duration { rule: SOME_TIME, otherwise: "what is left of the grace", example: "\"5s\"" }
    }
}

table! {
    /// How a service is asked to read its configuration again: exactly one way.
    struct ReloadOptions, "reload", "[service.NAME.reload]", one_of: ["signal", "command", "rolling"];

    keys {
        /// What is sent to its main process: what the program reloads on, and not `SIGKILL`.
        signal: StopSignal { example: "\"SIGHUP\"" }
        /// A command that asks it, run once for each replica. It follows the rules of the service's `command`.
        command: CommandLine { example: "[\"./web\", \"--reload\"]" }
        /// After this time the command is killed, and the reload has failed.
        timeout: Duration {
            rule: SOME_TIME, only_with: ["command"], default: Duration::from_secs(30), example: "\"10s\""
        }
        /// It is restarted, one replica at a time, each ready before the next.
        rolling: Yes { example: "true" }
    }
}

table! {
    /// A command around a service's life, with a limit of its own.
    struct HookOptions, "hook", "the table of a hook";

    keys {
        /// What runs. It follows the rules of the service's `command`.
        command: CommandLine { required: true, example: "[\"./prepare\"]" }
        /// After this time it is killed and has failed.
        timeout: Duration { rule: SOME_TIME, default: Duration::from_secs(30), example: "\"2m\"" }
    }
}

table! {
    /// What becomes of a service's output.
    struct LogOptions, "log", "[service.NAME.log]";

    keys {
        /// When a new file is begun, and how long old ones are kept.
        rotate: RotateOptions { example: "{ size = \"16MiB\", keep = 4, compress = false }" }
        /// A longer line is kept in parts.
        max_line: ByteSize { rule: Rule::Size(1 << 10, 16 << 20), default: ByteSize(64 << 10), example: "\"256KiB\"" }
        /// What happens to output while the log cannot be written: a full disk, say. Lines are written again as soon as
        /// they can be.
        when_blocked: WhenBlocked { default: WhenBlocked::Wait, example: "\"drop\"" }
        /// When what was written is put on the disk itself (fsync(2)), so that it outlives a machine that stops. Whatever is
        /// chosen, output is in the file before the exit of its program is told.
        fsync: Fsync { default: Fsync::Never, example: "\"rotate\"" }
        /// Regular expressions, each looked for in single lines: what matches is replaced by `[redacted]` before it is
        /// written or shown anywhere, together with `redact` of `[log]`.
        redact: PatternList { example: "['(?i)authorization: .*', 'card=[0-9]{13,19}']" }
    }
}

table! {
    /// What holds for the logs of all services.
    struct StackLogOptions, "stack-log", "[log]";

    keys {
        /// What the files of all services may take on the disk together, those of services that are no longer in the file
        /// included. Beyond it the oldest closed files go, whoever's they are; current files stay.
        max_total: ByteSize {
            rule: Rule::Size(1 << 20, 1 << 50),
            otherwise: "\"4GiB\", or the largest `keep_total` of a service if that is more",
            example: "\"2GiB\""
        }
        /// Regular expressions that are masked in the output of every service, as `redact` of a service's `log` is.
        redact: PatternList { example: "['(?i)password[=:]\\s*\\S+']" }
    }
}

table! {
    /// When a log file is closed and a new one begun, and how long closed files stay. `mainstay logs --rotate` closes files
    /// at once.
    struct RotateOptions, "rotate", "[service.NAME.log] rotate";

    keys {
        /// A file is closed when it would become larger than this.
        size: ByteSize { rule: Rule::Size(64 << 10, 1 << 40), default: ByteSize(64 << 20), example: "\"16MiB\"" }
        /// A file is closed when its first line is this old. A file without a line is not closed.
        age: Duration {
            rule: Rule::Time(MIN_LOG_AGE, MAX_TIME), otherwise: "whatever its age", example: "\"24h\""
        }
        /// How many closed files are kept of each replica.
        keep: u32 { rule: Rule::Integer(0, 10_000), default: 8, example: "30" }
        /// Closed files go when they were last written this long ago.
        keep_age: Duration {
            rule: Rule::Time(MIN_LOG_AGE, MAX_TIME), otherwise: "whatever their age", example: "\"30d\""
        }
        /// What the files of the service may take on the disk, those of its replicas together. Beyond it the oldest closed
        /// files go; current files stay. Not smaller than `size`.
        keep_total: ByteSize {
            rule: Rule::Size(64 << 10, 1 << 50),
            otherwise: "\"1GiB\", or twice `size` if that is more",
            example: "\"512MiB\""
        }
        /// Whether closed files are compressed with zstd.
        compress: bool { default: true, example: "false" }
    }
}

table! {
    /// Limits on what a service may use.
    struct LimitOptions, "limits", "[service.NAME.limits]";

    keys {
        /// Memory of all its processes together. What passes it is killed by the system, and shown as out of memory.
        memory: ByteSize { rule: Rule::Size(1 << 20, 1 << 60), otherwise: "no limit", example: "\"512MiB\"" }
        /// Its processes and threads. The largest is what Linux can count (`kernel.pid_max`).
        pids: u64 { rule: Rule::Integer(1, 4_194_304), otherwise: "no limit", example: "512" }
        /// Cores of processor time of all its processes together.
        cpu: f64 { rule: Rule::Number(0.01, 1024.0), otherwise: "no limit", example: "1.5" }
        /// Open files of each process (`RLIMIT_NOFILE`). The largest is what Linux can be set to (`fs.nr_open`).
        open_files: u64 {
            rule: Rule::Integer(16, 2_147_483_584), otherwise: "the limit of the host", example: "65536"
        }
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

table! {
    /// One place that the output of services is sent to as well. The log files are the buffer in between: no program waits
    /// for a target, and what a target did not take yet is sent when it is there again, also by the next host.
    struct ForwardOptions, "forward", "[forward.NAME]";

    keys {
        /// What it is, and in which format lines are sent.
        to: ForwardTo { required: true, example: "\"loki\"" }
        /// Where it is. `loki` and `otlp`: `http://` or `https://`, by default with the path of the protocol
        /// (`/loki/api/v1/push`, `/v1/logs`). `syslog`: `udp://HOST:PORT`, `tcp://HOST:PORT`, `tls://HOST:PORT` or
        /// `unix:///dev/log`; the port is 514, 601 or 6514 by default. `journald`: `unix:///PATH`, for another socket.
        url: String {
            rule: Rule::NotEmpty,
            otherwise: "journald's socket; needed for every other target",
            example: "\"http://127.0.0.1:3100\""
        }
        /// The services whose output is sent. One that is added later is sent from the beginning of what is kept.
        services: NameList { otherwise: "all", example: "[\"web\"]" }
        /// Which output of them: `"stdout"`, `"stderr"`.
        streams: StreamList { otherwise: "both", example: "[\"stderr\"]" }
        /// Only lines at least this serious, by what they say of themselves, as in `mainstay logs --level`.
        level: Level { otherwise: "every line", example: "\"warn\"" }
        /// Sent with every line: as labels of a Loki stream, attributes of an OTLP resource, fields of a journal entry,
        /// parameters of syslog's structured data. A name has letters, digits and `_`, and begins with no digit.
        labels: LabelTable { example: "{ env = \"prod\", region = \"eu\" }" }
        /// Fields of the HTTP requests. A secret comes from a variable, or for a bearer token from `token_file`.
        headers: HeaderTable { example: "{ X-Scope-OrgID = \"shop\" }" }
        /// A file that holds a bearer token for the HTTP requests; read again for each of them.
        token_file: PathBuf { otherwise: "no token", example: "\"/run/secrets/loki-token\"" }
        /// A PEM file of the certificate authorities that are trusted with `https` and `tls`.
        ca: PathBuf { otherwise: "those of the system", example: "\"ca.pem\"" }
        /// How HTTP requests are compressed.
        compress: ForwardCompression { default: ForwardCompression::Gzip, example: "\"none\"" }
        /// How many bytes of log files it may be behind. Beyond that the oldest lines are skipped, counted, and told in
        /// their place; what rotation removes meanwhile is lost in the same way.
        spool: ByteSize { rule: Rule::Size(64 << 10, 1 << 40), default: ByteSize(256 << 20), example: "\"1GiB\"" }
        /// How many lines are sent at once.
        batch: ForwardBatchOptions { example: "{ records = 500, wait = \"1s\" }" }
        /// After this time without an answer sending has failed, and is tried again.
        timeout: Duration {
            rule: Rule::Time(MIN_TIME, Duration::from_secs(300)), default: Duration::from_secs(10), example: "\"5s\""
        }
        /// How long to wait after a failure.
        backoff: ForwardBackoffOptions { example: "{ first = \"1s\", max = \"5m\" }" }
    }
}

table! {
    /// How many lines are sent at once; whichever bound is reached first.
    struct ForwardBatchOptions, "forward-batch", "[forward.NAME] batch";

    keys {
        /// Lines.
        records: u32 { rule: Rule::Integer(1, 100_000), default: 1000, example: "500" }
        /// Bytes of text, before compression.
        bytes: ByteSize { rule: Rule::Size(1 << 10, 64 << 20), default: ByteSize(1 << 20), example: "\"512KiB\"" }
        /// How long the first line waits for more to come with it.
        wait: Duration {
            rule: Rule::Time(Duration::ZERO, Duration::from_secs(60)),
            default: Duration::from_millis(200),
            example: "\"1s\""
        }
    }
}

table! {
    /// How long to wait after a failure before the target is tried again.
    struct ForwardBackoffOptions, "forward-backoff", "[forward.NAME] backoff";

    keys {
        /// The first wait.
        first: Duration { rule: SOME_TIME, default: Duration::from_millis(500), example: "\"1s\"" }
        /// What each further wait is multiplied by.
        factor: f64 { rule: Rule::Number(1.0, 100.0), default: 2.0, example: "1.5" }
        /// The longest wait; a longer `Retry-After` of the target counts up to this.
        max: Duration { rule: SOME_TIME, default: Duration::from_secs(60), example: "\"5m\"" }
        /// The random part of each wait: 0.2 is up to a fifth shorter or longer.
        jitter: f64 { rule: Rule::Number(0.0, 1.0), default: 0.2, example: "0.0" }
    }
}

/// What lines are sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ForwardTo {
    Journald,
    Syslog,
    Otlp,
    Loki,
}

/// How HTTP requests are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ForwardCompression {
    None,
    Gzip,
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
    Lose {
        "ignore" => Lose::Ignore, "nothing";
        "stop" => Lose::Stop, "the service stops, waits, and starts again when it holds again";
        "restart" => Lose::Restart, "the service runs on, and is restarted when it holds again";
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
        "SIGTERM" => StopSignal::Term, "the usual request to end; Windows: Ctrl-C, or without a console closes its windows";
        "SIGINT" => StopSignal::Int, "what Ctrl-C sends";
        "SIGQUIT" => StopSignal::Quit, "nginx: finish what is in flight, then end; Windows: Ctrl-Break";
        "SIGHUP" => StopSignal::Hup, "hang-up; Windows: closes its windows";
        "SIGUSR1" => StopSignal::Usr1, "the program's own meaning";
        "SIGUSR2" => StopSignal::Usr2, "the program's own meaning";
        "SIGKILL" => StopSignal::Kill, "cannot be caught: ends at once";
        "ctrl-c" => StopSignal::Int, "Windows' name of SIGINT: Ctrl-C on the program's own console";
        "ctrl-break" => StopSignal::Quit, "Windows' name of SIGQUIT: Ctrl-Break on the program's own console";
        "close-window" => StopSignal::Hup, "Windows' name of SIGHUP: its windows are asked to close";
    } later {}
}

choice! {
    WhenBlocked {
        "wait" => WhenBlocked::Wait, "the program waits at its next output";
        "drop" => WhenBlocked::Drop, "whole lines are dropped and counted, and the log says so in their place";
    } later {}
}

choice! {
    Fsync {
        "never" => Fsync::Never, "when the system sees fit";
        "rotate" => Fsync::Rotate, "when a file is closed";
        "line" => Fsync::Line, "after each write, which holds all lines of one read";
    } later {}
}

choice! {
    ForwardTo {
        "journald" => ForwardTo::Journald, "systemd's journal, as fields (Linux)";
        "syslog" => ForwardTo::Syslog, "RFC 5424, over UDP, TCP, TLS or a local socket";
        "otlp" => ForwardTo::Otlp, "OpenTelemetry, over HTTP with JSON";
        "loki" => ForwardTo::Loki, "Grafana Loki's push API";
    } later {}
}

choice! {
    ForwardCompression {
        "gzip" => ForwardCompression::Gzip, "by gzip";
        "none" => ForwardCompression::None, "not at all";
    } later {}
}

choice! {
    Level {
        "trace" => Level::Trace, "everything that says its level";
        "debug" => Level::Debug, "for developers, and above";
        "info" => Level::Info, "what happens, and above";
        "warn" => Level::Warn, "what may become a problem, and above";
        "error" => Level::Error, "what went wrong, and above";
        "fatal" => Level::Fatal, "what ended a program";
    } later {}
}

choice! {
    SandboxProfile {
        "off" => SandboxProfile::Off, "no sandbox";
    } later {
        "standard", "what a usual service needs";
        "strict", "only what is named";
    }
}
