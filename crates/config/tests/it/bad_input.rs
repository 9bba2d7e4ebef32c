//! Wrong files: each error with its exact place, cause and words; all of a file's errors together.

use mainstay_config::ConfigCause;

use super::{errors, read};

/// A file with one service whose further lines are under test; these begin at line 3.
fn service(lines: &str) -> String {
    format!("[service.web]\ncommand = \"./web\"\n{lines}")
}

#[track_caller]
fn one_error(text: &str, want: &str) {
    assert_eq!(errors(text), [want], "{text}");
}

#[test]
fn single_mistakes_in_a_service_are_said_in_place() {
    const INVALID: &str = "config-invalid-value";
    for (lines, place, cause, message) in [
        ("comand = 1", "3:1", "config-unknown-key", "unknown key `comand` ([service.web])"),
        ("replicas = 0", "3:12", INVALID, "`replicas` must be from 1 to 1000, not 0"),
        ("replicas = 1001", "3:12", INVALID, "`replicas` must be from 1 to 1000, not 1001"),
        (
            "replicas = 99999999999999999999",
            "3:12",
            INVALID,
            "`replicas` must be from 1 to 1000, not 99999999999999999999",
        ),
        ("replicas = \"2\"", "3:12", INVALID, "`replicas` must be a whole number, not a text"),
        ("replicas = 1.5", "3:12", INVALID, "`replicas` must be a whole number, not a number"),
        ("kind = \"one-shot\"", "3:8", INVALID, "`kind` cannot be \"one-shot\""),
        ("autostart = \"no\"", "3:13", INVALID, "`autostart` must be true or false, not a text"),
        ("user = \"\"", "3:8", INVALID, "`user` cannot be empty"),
        ("user = 1000", "3:8", INVALID, "`user` must be a text, not a whole number"),
        ("workdir = \"\"", "3:11", INVALID, "`workdir` cannot be an empty path"),
        (
            "workdir = \"~/x\"",
            "3:11",
            INVALID,
            "`~` is not expanded in `workdir`: it would be a folder of that name",
        ),
        (
            "description = \"a\\u0000b\"",
            "3:15",
            INVALID,
            "`description` holds a NUL character, which no program can be given",
        ),
        (
            "env = { A = [1] }",
            "3:13",
            INVALID,
            "the variable `A` must be a text, a whole number or a boolean",
        ),
        (
            "env = { A = 1.5 }",
            "3:13",
            INVALID,
            "the variable `A` must be a text, a whole number or a boolean",
        ),
        ("env = { \"\" = 1 }", "3:9", INVALID, "\"\" is no name of a variable: it is empty"),
        ("env = { \"A=B\" = 1 }", "3:9", INVALID, "\"A=B\" is no name of a variable: it holds `=`"),
        (
            "env = { \"A\\u0000\" = 1 }",
            "3:9",
            INVALID,
            "\"A\\0\" is no name of a variable: it holds a NUL character",
        ),
        ("env = [\"A=1\"]", "3:7", INVALID, "`env` must be a table, not a list"),
        (
            "env_file = [\".env\", 5]",
            "3:21",
            INVALID,
            "each entry of `env_file` must be a text, not a whole number",
        ),
        ("needs = \"db\"", "3:9", INVALID, "`needs` must be a list of tables, not a text"),
        ("needs = [\"db\"]", "3:10", INVALID, "each gate is a table with its kind, not a text"),
        ("needs = [{ within = \"5s\" }]", "3:10", INVALID, "this gate does not say what to check"),
        ("needs = [{ tcp = \"a:1\", exec = \"b\" }]", "3:25", INVALID, "`tcp` and `exec` exclude each other"),
        (
            "needs = [{ tcp = \"a:1\", status = 200 }]",
            "3:25",
            INVALID,
            "`status` goes with `http`, which is not here",
        ),
        (
            "needs = [{ tcp = \"a:1\", is = \"ready\" }]",
            "3:25",
            INVALID,
            "`is` goes with `service`, which is not here",
        ),
        (
            "needs = [{ tcp = \"localhost\" }]",
            "3:18",
            INVALID,
            "\"localhost\" is no address: write host:port, such as 127.0.0.1:5432 or [::1]:80",
        ),
        (
            "needs = [{ http = \"ftp://a/\" }]",
            "3:19",
            INVALID,
            "\"ftp://a/\" is no http URL: write http://host:port/path",
        ),
        (
            "needs = [{ tcp = \"a:1\", within = \"0s\" }]",
            "3:34",
            INVALID,
            "`within` must be from 1ms to 365d, not 0s",
        ),
        ("needs = [{ service = \"wbe\" }]", "3:22", "config-unknown-service", "there is no service `wbe`"),
        (
            "needs = [{ service = \"web\" }]",
            "3:22",
            "config-dependency-cycle",
            "`web` waits for itself and would never start",
        ),
        ("readiness = {}", "3:13", INVALID, "this probe does not say what to check"),
        (
            "readiness = { tcp = \"a:1\", period = 10 }",
            "3:37",
            INVALID,
            "`period` must be a duration, not a whole number",
        ),
        (
            "readiness = { tcp = \"a:1\", period = \"10\" }",
            "3:37",
            INVALID,
            "\"10\" has no unit: write 10s for seconds, 10ms for milliseconds, 10m for minutes",
        ),
        (
            "readiness = { tcp = \"a:1\", timeout = \"0s\" }",
            "3:38",
            INVALID,
            "`timeout` must be from 1ms to 365d, not 0s",
        ),
        (
            "readiness = { tcp = \"a:1\", failure_threshold = 0 }",
            "3:48",
            INVALID,
            "`failure_threshold` must be from 1 to 100000, not 0",
        ),
        (
            "readiness = { http = \"http://a/\", status = 99 }",
            "3:44",
            INVALID,
            "`status` must be from 100 to 599, not 99",
        ),
        (
            "liveness = { tcp = \"a:1\", success_threshold = 2 }",
            "3:47",
            INVALID,
            "`success_threshold` must be 1 for a liveness probe",
        ),
        (
            "startup = { tcp = \"a:1\", success_threshold = 2 }",
            "3:46",
            INVALID,
            "`success_threshold` must be 1 for a startup probe",
        ),
        ("restart = \"always\"", "3:11", INVALID, "`restart` must be a table, not a text"),
        (
            "restart = { backoff = { first = \"1m\" } }",
            "3:33",
            INVALID,
            "`max` (30s) must not be shorter than `first` (60s)",
        ),
        (
            "restart = { backoff = { jitter = 1.1 } }",
            "3:34",
            INVALID,
            "`jitter` must be from 0 to 1, not 1.1",
        ),
        (
            "restart = { backoff = { factor = 0.5 } }",
            "3:34",
            INVALID,
            "`factor` must be from 1 to 100, not 0.5",
        ),
        (
            "restart = { backoff = { factor = nan } }",
            "3:34",
            INVALID,
            "`factor` must be from 1 to 100, not nan",
        ),
        (
            "restart = { give_up = { failures = -1 } }",
            "3:36",
            INVALID,
            "`failures` must be from 0 to 100000, not -1",
        ),
        ("stop = { grace = \"1y\" }", "3:18", INVALID, "\"y\" is no unit of time: use ms, s, m, h or d"),
        ("stop = { grace = \"366d\" }", "3:18", INVALID, "`grace` must be from 0s to 365d, not 366d"),
        ("stop = { signal = \"SIGFOO\" }", "3:19", INVALID, "`signal` cannot be \"SIGFOO\""),
        ("log = { fsync = \"always\" }", "3:17", INVALID, "`fsync` cannot be \"always\""),
        (
            "log = { redact = [\"a\", \"x*\"] }",
            "3:24",
            INVALID,
            "`redact` cannot match nothing: it would match everywhere",
        ),
        ("log = { redact = \"(\" }", "3:18", INVALID, "`redact` is no regular expression: unclosed group"),
        ("log = { max_line = 5 }", "3:20", INVALID, "`max_line` must be a size, not a whole number"),
        ("log = { max_line = \"1B\" }", "3:20", INVALID, "`max_line` must be from 1KiB to 16MiB, not 1B"),
        (
            "log = { rotate = { size = \"1KiB\" } }",
            "3:27",
            INVALID,
            "`size` must be from 64KiB to 1TiB, not 1KiB",
        ),
        (
            "log = { rotate = { size = \"1GiB\", keep_total = \"512MiB\" } }",
            "3:48",
            INVALID,
            "`keep_total` (512MiB) must not be smaller than `size` (1GiB): one file may be as large as that",
        ),
        ("log = { rotate = { age = \"10ms\" } }", "3:26", INVALID, "`age` must be from 1s to 365d, not 10ms"),
        ("limits = { open_files = 1 }", "3:25", INVALID, "`open_files` must be from 16 to 2147483584, not 1"),
        ("workdir = \"${NOPE}\"", "3:12", "config-missing-variable", "the variable `NOPE` is not set"),
        (
            "workdir = \"x/${HOME}/é${NOPE}\"",
            "3:23",
            "config-missing-variable",
            "the variable `NOPE` is not set",
        ),
        ("workdir = \"${HOME\"", "3:12", INVALID, "`${` has no closing `}`"),
        (
            "workdir = \"${NUL}\"",
            "3:11",
            INVALID,
            "`workdir` holds a NUL character, which no program can be given",
        ),
        ("workdir = 1979-05-27", "3:11", INVALID, "`workdir` must be a path, not a date"),
    ] {
        one_error(&service(lines), &format!("{place} {cause}: {message}"));
    }
}

#[test]
fn commands_that_are_none_are_refused() {
    for (command, column, message) in [
        ("[]", 11, "`command` names no program"),
        ("\"\"", 11, "`command` names no program"),
        ("[\"\"]", 11, "`command` names no program"),
        ("[\" \", \"x\"]", 11, "`command` names no program"),
        ("5", 11, "`command` must be a command: a list of texts, or one text, not a whole number"),
        ("[\"a\", [\"b\"]]", 17, "each entry of `command` must be a text, not a list"),
        ("\"a 'b\"", 11, "a quote in `command` is not closed"),
        ("\"a\\u0000b\"", 11, "`command` holds a NUL character, which no program can be given"),
        ("[\"a\\u0000b\"]", 12, "`command` holds a NUL character, which no program can be given"),
        ("\"a | b\"", 11, "`|` in `command` would be passed to the program: no shell is run"),
        ("\"a && b\"", 11, "`&&` in `command` would be passed to the program: no shell is run"),
        ("\"a > b\"", 11, "`>` in `command` would be passed to the program: no shell is run"),
        ("\"a ; b\"", 11, "`;` in `command` would be passed to the program: no shell is run"),
        ("\"A=1 b\"", 11, "`command` begins with a variable, not with a program: no shell is run"),
        ("\"~/a\"", 11, "`~` is not expanded in `command`: it would be a folder of that name"),
    ] {
        let text = format!("[service.web]\ncommand = {command}");
        one_error(&text, &format!("2:{column} config-invalid-value: {message}"));
    }
    one_error("[service.web]", "1:10 config-invalid-value: `command` is missing");
    let help = read("[service.web]\ncommand = \"a | b\"").unwrap_err().list[0].help.clone().unwrap();
    assert_eq!(help, "for a shell write [\"sh\", \"-c\", \"a | b\"]; to pass `|` as it is, write a list");
}

#[test]
fn files_that_are_no_stack_name_the_next_step() {
    for text in ["", "\n\n", "# nothing\n", "stack = \"x\"", "[service]"] {
        let diagnostics = read(text).unwrap_err();
        assert_eq!(diagnostics.list[0].message, "the file declares no service", "{text:?}");
        assert!(diagnostics.list[0].help.as_ref().unwrap().contains("mainstay init"));
    }
    for (text, want) in [
        ("service = 5", "1:11 config-invalid-value: `service` must be a table, not a whole number"),
        ("[[service.web]]\ncommand = \"x\"", "1:11 config-invalid-value: service `web` must be a table"),
        (
            "[services.web]\ncommand = \"x\"",
            "1:2 config-unknown-key: unknown key `services` (top of the file)",
        ),
        (
            "[service.\"a b\"]\ncommand = \"x\"",
            "1:10 config-invalid-value: a name is made of letters a-z A-Z, digits, '-' and '_'; ' ' is none of them",
        ),
        (
            "stack = \"-x\"\n[service.a]\ncommand = \"x\"",
            "1:9 config-invalid-value: a name begins with a letter or a digit, not with '-'",
        ),
        (
            "stop_budget = 30\n[service.a]\ncommand = \"x\"",
            "1:15 config-invalid-value: `stop_budget` must be a duration, not a whole number",
        ),
        (
            "replicas = 2\n[service.a]\ncommand = \"x\"",
            "1:1 config-unknown-key: unknown key `replicas` (top of the file)",
        ),
    ] {
        one_error(text, want);
    }
}

#[test]
fn a_oneshot_refuses_what_only_a_running_service_has() {
    let text = "[service.job]\ncommand = \"x\"\nkind = \"oneshot\"\nreplicas = 2\nreadiness = { tcp = \"a:1\" }\n\
                liveness = { tcp = \"a:1\" }\nrestart = { when = \"always\" }\n";
    assert_eq!(
        errors(text),
        [
            "4:12 config-invalid-value: a oneshot has one replica: it finishes, and running it several times at once repeats its work",
            "5:1 config-invalid-value: a oneshot has no readiness probe: it is done when it exits with code 0",
            "6:1 config-invalid-value: a oneshot has no liveness probe: it is done when it exits with code 0",
            "7:20 config-invalid-value: a oneshot cannot restart \"always\": it would never complete",
        ]
    );
}

#[test]
fn gates_fit_the_kind_of_what_they_wait_for() {
    let file = |is: &str| {
        format!(
            "[service.job]\ncommand = \"x\"\nkind = \"oneshot\"\n[service.db]\ncommand = \"x\"\n[service.web]\ncommand = \"x\"\nneeds = [{is}]\n"
        )
    };
    one_error(
        &file("{ service = \"db\", is = \"completed\" }"),
        "8:33 config-invalid-value: `db` never completes: it is meant to run on",
    );
    one_error(
        &file("{ service = \"job\", is = \"ready\" }"),
        "8:34 config-invalid-value: `job` is a oneshot: it completes, and is never ready",
    );
    // A kind that cannot be read says nothing about the gates.
    one_error(
        &file("{ service = \"job\", is = \"completed\" }").replace("\"oneshot\"", "\"once\""),
        "3:8 config-invalid-value: `kind` cannot be \"once\"",
    );
}

#[test]
fn circles_are_reported_once_each_and_the_shortest_of_each_knot() {
    let file = |needs: &[(&str, &[&str])]| {
        let mut text = String::new();
        for (name, needs) in needs {
            let needs: Vec<_> = needs.iter().map(|need| format!("{{ service = \"{need}\" }}")).collect();
            text.push_str(&format!("[service.{name}]\ncommand = \"x\"\nneeds = [{}]\n", needs.join(", ")));
        }
        text
    };
    one_error(
        &file(&[("a", &["b"]), ("b", &["a"])]),
        "3:22 config-dependency-cycle: services wait for each other: a -> b -> a",
    );
    // a -> b -> c -> d -> a is there as well, and longer.
    one_error(
        &file(&[("a", &["b"]), ("b", &["c"]), ("c", &["d", "b"]), ("d", &["a"])]),
        "6:22 config-dependency-cycle: services wait for each other: b -> c -> b",
    );
    assert_eq!(
        errors(&file(&[
            ("z", &["y"]),
            ("y", &["z"]),
            ("x", &["y"]),
            ("b", &["c"]),
            ("c", &["d"]),
            ("d", &["b"])
        ])),
        [
            "3:22 config-dependency-cycle: services wait for each other: z -> y -> z",
            "12:22 config-dependency-cycle: services wait for each other: b -> c -> d -> b",
        ]
    );
    assert!(read(&file(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])])).is_ok());
}

#[test]
fn broken_syntax_is_explained_and_does_not_hide_other_errors() {
    for (text, want) in [
        ("[service.web]\ncommand = ./web\n", &["2:11 config-syntax: a text must be in quotes"][..]),
        ("[service.web]\ncommand = “x”\n", &["2:11 config-syntax: typographic quotes are no quotes in TOML"]),
        ("[service.web]\ncommand =\n", &["2:10 config-syntax: a value is missing after `=`"]),
        (
            "[service.web]\ncommand = \"x\"\nstop = { grace = 10s }\n",
            &["3:18 config-syntax: string values must be quoted, expected literal string"],
        ),
        ("[service.web\ncommand = \"x\"\n", &["1:13 config-syntax: unclosed table, expected `]`"]),
        (
            "[service.web]\ncommand = [\"a\"\nreplicas = 0\n",
            &["3:1 config-syntax: missing comma between array elements, expected `,`"],
        ),
        (
            "[service.web]\ncommand = \"a\"\ncommand = \"b\"\nkin = 1\n",
            &[
                "3:1 config-syntax: `command` is here a second time",
                "4:1 config-unknown-key: unknown key `kin` ([service.web])",
            ],
        ),
        (
            "[service.web]\ncommand = \"a\"\n[service.web]\n",
            &["3:10 config-syntax: `web` is here a second time"],
        ),
        // Errors on other lines are reported with it, consequences are not.
        (
            "[service.a]\nreplicas = ten\ncomand = \"x\"\n[service.b]\ncommand = b\nneeds = [{ service = \"c\" }]\n",
            &[
                "2:12 config-syntax: a text must be in quotes",
                "3:1 config-unknown-key: unknown key `comand` ([service.a])",
                "5:11 config-syntax: a text must be in quotes",
            ],
        ),
    ] {
        assert_eq!(errors(text), want, "{text}");
    }
}

#[test]
fn all_errors_come_together_in_the_order_of_the_file() {
    let text = "stop_budget = 5\n[service.b]\nreplicas = 0\nfoo = 1\n[service.a]\ncommand = \"${X} ${Y}\"\nneeds = [{ redis = \"x\" }]\n";
    assert_eq!(
        errors(text),
        [
            "1:15 config-invalid-value: `stop_budget` must be a duration, not a whole number",
            "2:10 config-invalid-value: `command` is missing",
            "3:12 config-invalid-value: `replicas` must be from 1 to 1000, not 0",
            "4:1 config-unknown-key: unknown key `foo` ([service.b])",
            "6:12 config-missing-variable: the variable `X` is not set",
            "6:17 config-missing-variable: the variable `Y` is not set",
            "7:20 config-invalid-value: `redis` does not begin with redis:// or rediss://",
        ]
    );
    let diagnostics = read(text).unwrap_err();
    let services: Vec<_> = diagnostics.list.iter().map(|error| error.service.as_deref()).collect();
    let (a, b) = (Some("a"), Some("b"));
    assert_eq!(services, [None, b, b, b, a, a, a]);
    assert_eq!(diagnostics.list[0].cause, ConfigCause::InvalidValue);
    assert_eq!(&text[diagnostics.list[4].span.clone()], "${X}");
}

#[test]
fn an_error_is_shown_with_its_line_a_caret_and_help() {
    let text = service("comand = 1\n");
    let rendered = read(&text).unwrap_err().render(false);
    let file = read(&text).unwrap_err().file.display().to_string();
    let want = format!(
        "error[config-unknown-key]: unknown key `comand` ([service.web])
 --> {file}:3:1
  |
3 | comand = 1
  | ^^^^^^
  |
  = help: did you mean `command`?"
    );
    assert_eq!(rendered, want);
    let colored = read(&text).unwrap_err().render(true);
    assert!(colored.contains("\u{1b}[") && !rendered.contains('\u{1b}'));
    assert_eq!(
        read(&text).unwrap_err().to_string(),
        format!("{file}:3:1: unknown key `comand` ([service.web])")
    );
}

#[test]
fn escapes_that_hide_a_variable_point_at_the_whole_value() {
    one_error(
        &service("workdir = \"\\u0024{NOPE}\""),
        "3:11 config-missing-variable: the variable `NOPE` is not set",
    );
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let text =
        service("\"\\u001b[31mx\" = 1\nkind = \"\\u001b[31m\"\nneeds = [{ service = \"\\u001b[2J\" }]\n");
    let diagnostics = read(&text).unwrap_err();
    assert_eq!(diagnostics.list.len(), 3);
    assert!(!diagnostics.render(false).contains('\u{1b}'));
    assert!(!diagnostics.to_string().contains('\u{1b}'));
}

#[test]
fn hostile_files_are_answered_in_time() {
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let files = [
        service(&format!("workdir = \"{}\"", "${A}".repeat(50_000))),
        "[".repeat(200_000),
        "x=\n".repeat(50_000),
        many(20_000, &|index| {
            format!("[service.s{index}]\nfoo = 1\nneeds = [{{ service = \"t{index}\" }}]\n")
        }),
        // One knot of services, every one of which needs twenty others.
        many(1000, &|index| {
            let needs = |step: usize| format!("{{ service = \"s{}\" }},", (index * 7 + step * 13 + 1) % 1000);
            format!("[service.s{index}]\ncommand = \"x\"\nneeds = [{}]\n", many(20, &needs))
        }),
    ];
    for text in files {
        let started = std::time::Instant::now();
        let diagnostics = read(&text).unwrap_err();
        assert!(!diagnostics.render(false).is_empty());
        assert!(diagnostics.list.len() <= mainstay_config::MAX_DIAGNOSTICS);
        // A second at most in a debug build; a square of these sizes takes minutes.
        assert!(started.elapsed().as_secs() < 20, "{:.60} {:?}", text, started.elapsed());
    }
}
