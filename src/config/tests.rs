//! The defaults that users were promised, and what is said about settings that cannot work.

use std::ffi::OsStr;

use clap::FromArgMatches as _;

use super::*;

/// The settings of `onceward worker` with these flags, whatever the environment of the tests.
fn worker(flags: &[&str]) -> Result<WorkerArgs, String> {
    let required = ["worker", "--amqp-url", "amqp://u:hidden@broker", "--database-url", "postgres://u:hidden@db/o"];
    let command = WorkerArgs::augment_args(clap::Command::new("worker").args_override_self(true))
        .mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
    let matches = command.try_get_matches_from(required.iter().chain(flags)).map_err(|error| error.to_string())?;
    WorkerArgs::from_arg_matches(&matches).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_the_promised_ones() {
    let args = worker(&[]).unwrap();
    let secs = Duration::from_secs;
    assert_eq!(args.validate(), Ok(()));
    assert_eq!(args.broker.exchange, "events");
    assert_eq!(args.partitions, 32);
    assert_eq!(args.host_connections, 50);
    assert_eq!(args.max_in_flight, 2_048);
    assert_eq!(args.attempt_timeout, secs(5));
    assert_eq!(args.on_exhausted, OnExhausted::Continue);
    assert_eq!(args.first_sequence(), FirstSequence::One);
    assert_eq!(args.drain_time, secs(30));
    assert_eq!(args.retention, secs(7 * 86_400));
    assert_eq!(args.lease, secs(15));
    let policy = args.policy();
    assert_eq!(policy.max_attempts, 5);
    let backoff = Backoff { initial: secs(1), max: secs(60), factor: 2.0, jitter: 0.1 };
    assert_eq!(policy.delays, Delays::Growing(backoff));
    assert_eq!(policy.retry_after_max, secs(3_600));
    assert!(policy.final_statuses.is_empty());
    let terms = args.terms();
    assert_eq!((terms.default_destination, terms.body_limit), (None, 1_048_576));
}

#[test]
fn every_setting_is_also_a_variable_and_explained() {
    let command = WorkerArgs::augment_args(clap::Command::new("worker"));
    for arg in command.get_arguments() {
        let flag = arg.get_long().expect("every setting has a flag");
        let variable = format!("ONCEWARD_{}", flag.to_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env().and_then(OsStr::to_str), Some(variable.as_str()));
        assert!(arg.get_help().is_some(), "--{flag} is not explained");
    }
}

#[test]
fn settings_reach_the_room_that_needs_them() {
    let args = worker(&[
        "--first-sequence=any",
        "--on-exhausted=hold",
        "--final-statuses=400, 410-412",
        "--backoff-initial=200ms",
        "--backoff-max=1min 30s",
        "--backoff-factor=1.5",
        "--backoff-jitter=0",
        "--max-attempts=7",
        "--default-destination=https://example.com/in",
        "--body-limit=1",
    ])
    .unwrap();
    assert_eq!(args.validate(), Ok(()));
    assert_eq!(args.first_sequence(), FirstSequence::Any);
    assert_eq!(args.on_exhausted, OnExhausted::Hold);
    let policy = args.policy();
    assert_eq!(policy.max_attempts, 7);
    assert_eq!(policy.final_statuses, [400, 410, 411, 412].into());
    let (initial, max) = (Duration::from_millis(200), Duration::from_secs(90));
    assert_eq!(policy.delays, Delays::Growing(Backoff { initial, max, factor: 1.5, jitter: 0.0 }));
    let terms = args.terms();
    assert_eq!(terms.default_destination.unwrap().as_str(), "https://example.com/in");
    assert_eq!(terms.body_limit, 1);
}

#[test]
fn settings_that_do_not_fit_together_are_refused_with_advice() {
    let table: [(&[&str], &str); 9] = [
        (&["--backoff-initial=99ms"], "--backoff-initial is 99ms: use 100ms or more"),
        (&["--backoff-max=500ms"], "--backoff-max (500ms) is less than --backoff-initial (1s): raise it"),
        (&["--backoff-max=25h"], "--backoff-max is 1day 1h: use 1day or less"),
        (&["--attempt-timeout=9ms"], "--attempt-timeout is 9ms: use 10ms or more"),
        (
            &["--lease=7s"],
            "--lease is 7s: an attempt begins only if it ends within the lease, so use at least 1s \
          and one and a half times --attempt-timeout (5s)",
        ),
        (
            &["--lease=999ms", "--attempt-timeout=10ms"],
            "--lease is 999ms: an attempt begins only if it ends within \
          the lease, so use at least 1s and one and a half times --attempt-timeout (10ms)",
        ),
        (
            &["--attempt-timeout=3650days"],
            "--lease is 15s: an attempt begins only if it ends within the lease, so \
          use at least 1s and one and a half times --attempt-timeout (9years 11months 27days 21h 50m 24s)",
        ),
        (&["--drain-time=4s"], "--drain-time (4s) is shorter than --attempt-timeout (5s): raise it"),
        (&["--retention=59s"], "--retention is 59s: use 1min or more"),
    ];
    for (flags, message) in table {
        let refused = worker(flags).unwrap().validate();
        assert_eq!(refused, Err(message.into()), "{flags:?}");
    }
}

#[test]
fn settings_at_their_limits_are_accepted() {
    let table: [&[&str]; 6] = [
        &["--backoff-initial=100ms", "--backoff-max=100ms"],
        &["--backoff-max=1day"],
        &["--attempt-timeout=10ms", "--lease=1s", "--drain-time=10ms"],
        &["--lease=7500ms", "--drain-time=5s", "--retention=1min"],
        &["--partitions=1", "--host-connections=1", "--max-in-flight=10", "--max-attempts=1"],
        &[
            "--partitions=1000",
            "--host-connections=2000",
            "--max-in-flight=20000",
            "--backoff-factor=1",
            "--backoff-jitter=100",
        ],
    ];
    for flags in table {
        let args = worker(flags).unwrap_or_else(|error| panic!("{flags:?}: {error}"));
        assert_eq!(args.validate(), Ok(()), "{flags:?}");
    }
}

#[test]
fn a_value_that_cannot_be_read_is_refused_with_advice() {
    let table = [
        ("--partitions=0", "1..=1000"),
        ("--host-connections=0", "1..=2000"),
        ("--max-in-flight=20001", "10..=20000"),
        ("--max-attempts=0", "1..=1000"),
        ("--body-limit=0", "1..=134217728"),
        ("--backoff-jitter=101", "0..=100"),
        ("--backoff-factor=0.5", "write a number from 1 to 10"),
        ("--backoff-factor=NaN", "write a number from 1 to 10"),
        ("--attempt-timeout=5", "write a number and a unit, such as 500ms, 5s or 2min"),
        ("--retention=11years", "use 3650days or less"),
        ("--drain-time=999999999999years", "--drain-time"),
        ("--final-statuses=200", "\"200\" is no status from 300 to 599"),
        ("--default-destination=ftp://example.com", "not http or https"),
        ("--default-destination=Nowhere", "not a URL"),
        ("--on-exhausted=stop", "[possible values: continue, hold]"),
        ("--first-sequence=2", "[possible values: 1, any]"),
        ("--exchange=", "use 1 to 100 letters, digits, `-`, `_` and `.`"),
        ("--exchange=amq.topic", "not beginning with `amq.`"),
        ("--exchange=a b", "use 1 to 100 letters"),
        ("--amqp-url=http://broker", "write it like amqp://user:password@host:5672/vhost"),
        ("--amqp-url=broker", "not a URL (relative URL without a base): write it like amqp://"),
        ("--amqp-url=amqp:broker", "write it like amqp://"),
        ("--database-url=mysql://db/x", "write it like postgres://user:password@host:5432/database"),
        (
            "--signing-secrets=hidden",
            "secret 1 is not `whsec_` or `whsk_` and Base64 behind it; make one by: echo whsec_",
        ),
        ("--signing-secrets=", "there is no secret; make one by"),
    ];
    for (flag, advice) in table {
        let message = worker(&[flag]).expect_err(flag);
        assert!(message.contains(advice) && !message.contains("hidden"), "{flag}: {message}");
    }
}

#[test]
fn a_cluster_is_a_list_of_urls() {
    let table: [(&str, &[&str]); 5] = [
        ("amqp://one/v", &["amqp://one/v"]),
        ("amqp://one,amqps://two/%2F", &["amqp://one", "amqps://two/%2F"]),
        (" amqp://one:1 , amqp://two:2\n", &["amqp://one:1", "amqp://two:2"]),
        ("amqp://u:a,b@one,amqp://u:a,b@two", &["amqp://u:a,b@one", "amqp://u:a,b@two"]),
        ("amqp://one/a,b", &["amqp://one/a,b"]),
    ];
    for (text, nodes) in table {
        let urls = worker(&["--amqp-url", text]).unwrap().broker.amqp_url;
        assert_eq!(urls.all().iter().map(SecretUrl::reveal).collect::<Vec<_>>(), nodes, "{text}");
    }
    let wrong = [
        ("amqp://one,", "a whole URL for each node"),
        ("amqp://u:hidden@one,two:5672", "a whole URL for each node"),
        ("amqp://one:1,two:2", "not a URL (invalid port number): write it like amqp://"),
        (",amqp://one", "write it like amqp://"),
        ("amqp://u:hidden@one/a,amqp://u:hidden@two/b", "different virtual hosts (/a and /b)"),
    ];
    for (text, advice) in wrong {
        let message = worker(&["--amqp-url", text]).expect_err(text);
        assert!(message.contains(advice) && !message.contains("hidden"), "{text}: {message}");
    }
}

#[test]
fn a_list_of_nodes_is_shown_without_passwords_and_can_begin_with_any_of_them() {
    let urls = worker(&["--amqp-url", "amqp://u:hidden@one,amqp://u:hidden@two,amqp://three"]).unwrap().broker.amqp_url;
    assert_eq!(urls.to_string(), "amqp://u:***@one,amqp://u:***@two,amqp://three");
    assert_eq!(format!("{urls:?}"), urls.to_string());
    assert_eq!(urls.reveal_from(1), "amqp://u:hidden@two,amqp://three,amqp://u:hidden@one");
    assert_eq!(urls.reveal_from(3), urls.reveal_from(0));
}

#[test]
fn a_password_is_revealed_only_on_demand() {
    let texts = ["amqps://user:hidden@host/v", "amqps://user:hid%64en@host/v?secret=hidden", "amqps://:hidden@host"];
    for text in texts {
        let url: SecretUrl = text.parse().unwrap();
        assert_eq!(url.reveal(), text);
        for shown in [format!("{url}"), format!("{url:?}"), format!("{url:#?}")] {
            assert!(!shown.contains("hid"), "{shown}");
            assert!(shown.contains("***@host"), "{shown}");
        }
    }
    let without: SecretUrl = "postgres://user@host/db".parse().unwrap();
    assert_eq!(without.to_string(), "postgres://user@host/db");
}

#[test]
fn no_password_is_shown_with_the_settings_or_with_an_error() {
    let args = worker(&[]).unwrap();
    assert!(
        args.broker.amqp_url.first().reveal().contains("hidden")
            && args.database.database_url.reveal().contains("hidden")
    );
    let shown = format!("{args:?} {args:#?}");
    assert!(shown.contains("***@broker") && !shown.contains("hidden"), "{shown}");
    for wrong in ["rabbit://u:hidden@host", "amqp//u:hidden@host", "amqp://u:hidden@host:port", "amqp://u:hidden@"] {
        for flag in ["--amqp-url", "--database-url"] {
            let message = worker(&[flag, wrong]).expect_err(wrong);
            assert!(message.contains(flag) && !message.contains("hidden"), "{message}");
        }
    }
}

#[test]
fn a_database_url_that_would_be_misunderstood_is_refused_with_what_to_write_and_nothing_of_the_password() {
    let table = [
        ("postgres://u:12#hidden@host/db", "a # is written %23"),
        ("postgres://u:hid#den@host/db", "a # is written %23"),
        ("postgres://u:12/hidden@host/db", "/ is written %2F"),
        ("postgres://u:hid/den@host/db", "/ is written %2F"),
        ("postgres://u:12?hidden@host/db", "? is written %3F"),
        ("postgres://u:hidden%ff@host/db", "a % in user or password is written %25"),
        ("postgres://u:hidden@one:1,two:2/db", "it names several hosts: name one"),
        ("postgres://u:hidden@one,two/db", "it names several hosts: name one"),
        ("postgres:///db?host=one,two", "it names several hosts: name one"),
        ("postgres://u@host/db?pasword=hidden", "its parameter \"pasword\" is not known: leave it out"),
        ("postgres:///db", "postgres:///database?host=/DIRECTORY&user=USER"),
        ("postgres://u:hidden@/db?host=/run", "postgres:///database?host=/DIRECTORY&user=USER"),
    ];
    for (url, told) in table {
        let message = worker(&["--database-url", url]).expect_err(url);
        assert!(message.contains(told) && !message.contains("hid") && !message.contains("den@"), "{url}: {message}");
        assert_eq!(message.trim().lines().count(), 1, "{message}");
    }
    for wrong in ["amqp://u:12#hidden@host/v", "amqp://u:12/hidden@host/v", "amqp://u:hidden%ff@host/v"] {
        let message = worker(&["--amqp-url", wrong]).expect_err(wrong);
        assert!(message.contains("is written %2") && !message.contains("hidden"), "{message}");
    }
}

#[test]
fn a_database_url_may_be_written_in_every_way_that_its_client_understands() {
    let urls = [
        "postgres://u:p@ss%word@host/db",
        "postgres:///db?host=/run/postgresql&user=u",
        "postgres://u@%2Frun%2Fpostgresql/db",
        "postgresql://u:%23%2F%3F%40@host:1/db?sslmode=require&options=-c%20statement_timeout%3D5s",
        "postgres://[::1]/db?application_name=a&options[search_path]=b",
    ];
    for url in urls {
        assert_eq!(worker(&["--database-url", url]).expect(url).database.database_url.reveal(), url);
    }
}

/// A file of a test; it stays in the directory for them.
fn file_with(name: &str, text: &[u8]) -> String {
    let directory = std::env::temp_dir().join(format!("onceward-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().into()
}

/// Where the servers are with these flags, whatever the environment of the tests.
fn servers(flags: &[&str]) -> Result<(BrokerArgs, DatabaseArgs), String> {
    let command = DatabaseArgs::augment_args(BrokerArgs::augment_args(clap::Command::new("servers")))
        .mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
    let read = |matches: &clap::ArgMatches| {
        Ok((BrokerArgs::from_arg_matches(matches)?, DatabaseArgs::from_arg_matches(matches)?))
    };
    let matches = command.try_get_matches_from([&["servers"], flags].concat());
    matches.and_then(|matches| read(&matches)).map_err(|error| error.to_string())
}

#[test]
fn a_url_may_stand_in_a_file() {
    let broker = file_with("amqp_url", b"amqp://u:hidden@broker:5672/%2f\n");
    let database = file_with("database_url", b"  postgres://u:hidden@db/o\r\n\n");
    let (broker, database) = servers(&["--amqp-url-file", &broker, "--database-url-file", &database]).unwrap();
    assert_eq!(broker.amqp_url.first().reveal(), "amqp://u:hidden@broker:5672/%2f");
    assert_eq!(database.database_url.reveal(), "postgres://u:hidden@db/o");
    assert_eq!(broker.exchange, "events");
}

#[test]
fn a_file_that_holds_no_url_is_refused_in_one_line_and_its_text_not_shown() {
    let table = [
        (file_with("empty", b" \n"), "the file is empty"),
        (file_with("other", b"hidden\n"), "not a URL (relative URL without a base): write it like postgres://"),
        (file_with("two", b"postgres://u:hidden@db/o\npostgres://u:hidden@db/p"), "more than one line"),
        (file_with("binary", b"postgres://\xff"), "text in UTF-8"),
        (file_with("large", " ".repeat(70_000).as_bytes()), "larger than 65536 bytes"),
        ("/nowhere/database_url".into(), "No such file or directory"),
        ("/".into(), "directory"),
    ];
    for (path, advice) in table {
        let refused = servers(&["--amqp-url=amqp://broker", "--database-url-file", &path]);
        let message = refused.expect_err(&path);
        assert!(message.contains("--database-url-file") && message.contains(advice), "{path}: {message}");
        assert!(message.trim().lines().count() == 1 && !message.contains("hidden"), "{path}: {message}");
    }
}

#[test]
fn a_url_is_given_once() {
    let file = file_with("once", b"amqp://broker");
    let both = servers(&["--amqp-url=amqp://b", "--amqp-url-file", &file, "--database-url=postgres://db/o"]);
    assert_eq!(
        both.unwrap_err().trim(),
        "error: --amqp-url (ONCEWARD_AMQP_URL) and --amqp-url-file (ONCEWARD_AMQP_URL_FILE) are both given: use one of them"
    );
    let neither = servers(&["--amqp-url-file", &file]).unwrap_err();
    assert!(neither.contains("required") && neither.contains("--database-url <URL>"), "{neither}");
}

#[test]
fn statuses_are_a_list_of_numbers_and_ranges() {
    let table: [(&str, &[u16]); 6] = [
        ("", &[]),
        (" , ", &[]),
        ("404", &[404]),
        ("300,599", &[300, 599]),
        ("410 - 412, 400,", &[400, 410, 411, 412]),
        ("404-404,404", &[404]),
    ];
    for (text, statuses) in table {
        let expected = StatusList(statuses.iter().copied().collect());
        assert_eq!(text.parse(), Ok(expected), "{text:?}");
    }
    for wrong in ["299", "600", "412-410", "4xx", "-404", "404-", "70000", "400;404", "400 404"] {
        let message = wrong.parse::<StatusList>().expect_err(wrong);
        assert!(message.contains(wrong) && message.contains("write 400,404,410-422"), "{message}");
    }
}

#[test]
fn what_is_called_is_said_by_lists() {
    let flags = ["--allow-net=10.0.0.0/8, ::1", "--allow-host=*.svc,a.example", "--deny-host=9.9.9.9"];
    let args = worker(&[&flags[..], &["--name-servers=10.0.0.53,[fd00::53]:54", "--connection-life=1s"]].concat());
    let args = args.unwrap();
    assert_eq!(args.validate(), Ok(()));
    let shown = [args.guard.allow_net.to_string(), args.guard.allow_host.to_string(), args.guard.deny_host.to_string()];
    assert_eq!(shown, ["10.0.0.0/8,::1/128", "*.svc,a.example", "9.9.9.9"]);
    assert_eq!(args.guard.name_servers.0, ["10.0.0.53:53".parse().unwrap(), "[fd00::53]:54".parse().unwrap()]);
    let own = |host: &str, port| (host.to_owned(), port);
    let at = args.own_servers("127.0.0.1:9464".parse().ok()).into_iter().map(|server| (server.host, server.port));
    assert_eq!(at.collect::<Vec<_>>(), [own("127.0.0.1", 9_464), own("broker", 5_672), own("db", 5_432)]);
    assert_eq!(worker(&[]).unwrap().guard.connection_life, Duration::from_mins(5));

    let refused = [
        ("--allow-net=10.0.0.0/33", "write 10.0.0.0/8, fd12:3456::/32 or 10.1.2.3"),
        ("--allow-net=10.1.2.3/8", "write 10.0.0.0/8 or 10.1.2.3"),
        ("--allow-net=localhost", "\"localhost\" is no network"),
        ("--allow-host=http://a.example", "write example.com, or *.example.com for all below it"),
        ("--deny-host=*", "write example.com, or *.example.com for all below it"),
        ("--name-servers=dns.example", "write 10.0.0.53, 10.0.0.53:5353 or [fd00::53]:53"),
    ];
    for (flag, says) in refused {
        let error = worker(&[flag]).unwrap_err();
        assert!(error.contains(says), "{flag}: {error}");
    }
    let invalid = [
        ("--allow-host=10.0.0.1", "--allow-host names the address 10.0.0.1: give it to --allow-net"),
        ("--connection-life=900ms", "--connection-life is 900ms: use 1s or more"),
        (
            "--default-destination=http://127.1/",
            "--default-destination is forbidden: 127.0.0.1 is a loopback address; allow it with --allow-net 127.0.0.0/8",
        ),
    ];
    for (flag, says) in invalid {
        assert_eq!(worker(&[flag]).unwrap().validate(), Err(says.into()));
    }
}

#[test]
fn what_a_brokers_url_may_say_behind_its_question_mark_is_known_and_the_rest_refused_without_its_text() {
    let known = "amqp://h/v?heartbeat=3&channel_max=9&frame_max=131072&connection_timeout=500&auth_mechanism=plain";
    assert!(servers(&["--amqp-url", known, "--database-url=postgres://h/d"]).is_ok());
    for (query, told) in [
        ("pass&hidden", "the name is not known"),
        ("cacertfile=/hidden", "amqps://"),
        ("heartbeat=hidden", "no number"),
        ("frame_max=99999999999", "no number"),
        ("auth_mechanism=hidden", "plain, or external"),
    ] {
        let refused = servers(&["--amqp-url", &format!("amqp://h/v?{query}"), "--database-url=postgres://h/d"]);
        let message = refused.expect_err(query);
        assert!(message.contains(told) && !message.contains("hidden"), "{query}: {message}");
    }
}

#[test]
fn files_for_tls_become_part_of_the_urls_unless_these_name_their_own() {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let ca = file_with("ca.pem", made.cert.pem().as_bytes());
    let key = file_with("tls.key", made.signing_key.serialize_pem().as_bytes());
    let urls = |amqp: &str, database: &str, flags: &[&str]| {
        let urls = [format!("--amqp-url={amqp}"), format!("--database-url={database}")];
        let all = [&[&*urls[0], &*urls[1]], flags].concat();
        servers(&all).map(|(broker, database)| {
            (broker.amqp_url.first().reveal().to_owned(), database.database_url.reveal().to_owned())
        })
    };
    let file = |path: &str| path.replace('/', "%2F");
    let with_ca = ["--ca-file", &ca];
    assert_eq!(
        urls("amqps://h/v", "postgres://h/d", &with_ca).unwrap(),
        (
            format!("amqps://h/v?cacertfile={}", file(&ca)),
            format!("postgres://h/d?sslmode=verify-full&sslrootcert={}", file(&ca))
        )
    );
    // Without TLS there is nothing to trust.
    let plain = ("amqp://h/v".to_owned(), "postgres://h/d?sslmode=disable".to_owned());
    assert_eq!(urls(&plain.0, &plain.1, &with_ca).unwrap(), plain);
    let own = (format!("amqps://h/v?cacertfile={ca}"), format!("postgres://h/d?sslmode=verify-ca&sslrootcert={ca}"));
    assert_eq!(urls(&own.0, &own.1, &["--ca-file", &key]).unwrap(), own);
    let both = ["--client-certificate", &ca, "--client-key", &key];
    let (amqp, database) = urls("amqps://h/v?heartbeat=3", "postgres://h/d", &both).unwrap();
    assert_eq!(amqp, format!("amqps://h/v?heartbeat=3&certfile={}&keyfile={}", file(&ca), file(&key)));
    assert_eq!(database, format!("postgres://h/d?sslcert={}&sslkey={}", file(&ca), file(&key)));
    for (amqp, database, flags, told) in [
        ("amqps://h/v", "postgres://h/d?sslmode=require", &with_ca[..], "any certificate will do"),
        ("amqps://h/v", "postgres://h/d", &["--ca-file", &key], "there is no certificate in it"),
        ("amqps://h/v", "postgres://h/d", &["--ca-file", "/nowhere/ca.pem"], "/nowhere/ca.pem"),
        ("amqps://h/v", "postgres://h/d", &["--client-certificate", &ca], "--client-key"),
        ("amqps://h/v?certfile=/a", "postgres://h/d", &[], "/a"),
    ] {
        let message = urls(amqp, database, flags).expect_err(told);
        assert!(message.contains(told), "{told}: {message}");
    }
}
