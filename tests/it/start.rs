//! Starting: what is wrong is said in one line, and at once.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use url::Url;

use crate::support::{Load, Message, Producer, Receiver, SOON, Worker, run_to_end, test};

#[test]
fn bad_settings_stop_the_start_with_one_line() {
    test(Load::Shared, async |world| {
        let long = "n".repeat(101);
        let cases: [(&[&str], &str); 12] = [
            (&["--lease", "2s", "--attempt-timeout", "2s"], "--lease"),
            (&["--backoff-max", "100ms"], "--backoff-max"),
            (&["--backoff-initial", "10ms"], "--backoff-initial"),
            (&["--drain-time", "1s"], "--drain-time"),
            (&["--retention", "1s"], "--retention"),
            (&["--final-statuses", "200"], "--final-statuses"),
            (&["--default-destination", "ftp://host/"], "--default-destination"),
            (&["--partitions", "0"], "--partitions"),
            (&["--attempt-timeout", "five"], "--attempt-timeout"),
            (&["--name", ""], "--name <NAME>': write a name, or leave it out for HOSTNAME:PID"),
            (&["--name", &long], "--name <NAME>': write 1 to 100 characters, none of them a control character"),
            (&["--name", "a\u{1b}[2J"], "--name"),
        ];
        for (arguments, setting) in cases {
            let (code, text) = run_to_end(world, &[&["worker"], arguments].concat()).await;
            assert_eq!(code, 2, "{arguments:?}: {text}");
            assert!(text.lines().next().is_some_and(|line| line.contains(setting)), "{arguments:?}: {text}");
        }
    });
}

#[test]
fn a_number_that_is_none_is_refused_with_what_to_write() {
    test(Load::Shared, async |world| {
        let (code, text) = run_to_end(world, &["publish", "--entity=a", "--body=1", "--sequence=abc"]).await;
        assert!(
            code == 2 && text.contains("invalid value 'abc' for '--sequence <N>': write a whole number ("),
            "{text}"
        );
        let (code, text) = run_to_end(world, &["worker", "--host-connections=many"]).await;
        assert!(code == 2 && text.contains("write a whole number from 1 to 2000 ("), "{text}");
    });
}

#[test]
fn the_rules_between_settings_are_told_in_one_line() {
    test(Load::Shared, async |world| {
        let (code, text) = run_to_end(world, &["worker", "--drain-time", "1s"]).await;
        assert_eq!((code, text.trim().lines().count()), (2, 1), "{text}");
    });
}

#[test]
fn a_password_is_never_printed() {
    test(Load::Shared, async |world| {
        let secret = "postgres://user:hunter2@127.0.0.1:1/nothing";
        let worker = Worker::spawn(world, &["--database-url", secret]);
        worker.wait_for_line(SOON, "127.0.0.1:1").await;
        worker.kill().await;
        assert!(!worker.log().contains("hunter2"), "{}", worker.log());
        let (code, text) = run_to_end(world, &["worker", "--amqp-url", "http://guest:hunter2@host/"]).await;
        assert_eq!(code, 2);
        // clap shows the value of a flag that it does not accept; ours must not be shown.
        assert!(!text.contains("hunter2"), "{text}");
    });
}

#[test]
fn another_partition_count_is_refused() {
    test(Load::Shared, async |world| {
        Worker::start(world, &["--partitions", "4"]).await.stop().await;
        let (code, text) = run_to_end(world, &["worker", "--partitions", "8"]).await;
        assert_ne!(code, 0);
        assert!(text.contains('4') && text.contains('8') && text.contains("partitions"), "{text}");
        // The right count starts as before.
        Worker::start(world, &["--partitions", "4"]).await.stop().await;
    });
}

#[test]
fn an_exchange_by_another_name_is_a_world_of_its_own() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &["--exchange", "orders"]).await;
        let receiver = Receiver::healthy().await;
        let producer = Producer::connect(world).await.through("orders");
        producer.publish(&Message::new("user-1", "named", &receiver.url())).await;
        receiver.wait_for_key(SOON, "named").await;
        worker.stop().await;
    });
}

#[test]
fn a_worker_waits_for_a_database_that_is_not_there_yet() {
    test(Load::Shared, async |world| {
        let worker = Worker::spawn(world, &["--database-url", "postgres://postgres@127.0.0.1:1/nothing"]);
        worker.wait_for_line(SOON, "127.0.0.1:1").await;
        worker.signal("TERM");
        worker.exit_code(Duration::from_secs(10)).await;
    });
}

/// Another database or user on the same server.
fn with(url: &str, change: impl Fn(&mut Url)) -> String {
    let mut url = Url::parse(url).expect("a URL");
    change(&mut url);
    url.into()
}

#[test]
fn a_database_that_is_not_as_it_has_to_be_stops_the_start_with_one_line_that_says_what_to_change() {
    test(Load::Shared, async |world| {
        let mut connection = PgConnection::connect(&world.database_url).await.expect("the database answers");
        let latin = format!("{}_latin", world.name);
        let user = format!("{}_user", world.name);
        for sql in [
            format!("create database \"{latin}\" encoding 'LATIN1' template template0 locale 'C'"),
            format!("create role \"{user}\" login"),
            "revoke create on schema public from public".to_owned(),
        ] {
            connection.execute(AssertSqlSafe(sql.clone())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        let cases = [
            (with(&world.database_url, |url| url.set_path(&latin)), "encoding is LATIN1; Onceward needs UTF8"),
            (with(&world.database_url, |url| url.set_path("nowhere")), "create it, with encoding UTF8"),
            (with(&world.database_url, |url| url.set_username("nobody").expect("a host")), "refuses the user"),
            (
                with(&world.database_url, |url| url.set_username(&user).expect("a host")),
                "grant create on schema public",
            ),
        ];
        for (url, told) in cases {
            let (code, text) = run_to_end(world, &["worker", "--database-url", &url]).await;
            let lines: Vec<_> = text.lines().filter(|line| line.starts_with("onceward: ")).collect();
            assert!(code != 0 && lines.len() == 1 && lines[0].contains(told), "{told}: {text}");
        }
        for sql in [format!("drop database \"{latin}\""), format!("drop role \"{user}\"")] {
            connection.execute(AssertSqlSafe(sql.clone())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    });
}

#[test]
fn a_url_of_the_database_works_or_is_refused_at_once_and_never_shows_its_password() {
    test(Load::Shared, async |world| {
        // The server trusts everybody here: what counts is that the password is read as one.
        let odd = with(&world.database_url, |url| url.set_password(Some("hid@den%")).expect("a host"));
        let raw = odd.replace("hid%40den%25", "hid@den%").replace("hid%40den%", "hid@den%");
        assert!(raw.contains("hid@den%@"), "{raw}");
        let options = with(&world.database_url, |url| url.set_query(Some("options=-c%20statement_timeout%3D5s")));
        for url in [&raw, &options] {
            let settings = ["--database-url", url];
            let worker = Worker::start_with(world, &settings, &[("ONCEWARD_LOG", "debug".into())]).await;
            worker.stop().await;
            assert!(!worker.log().contains("hid@den") && !worker.log().contains("hid%40den"), "{}", worker.log());
        }
        let refused = [
            ("postgres://u:hidden@one:1,two:2/db", "it names several hosts: name one"),
            ("postgres://u:hidden@one/db?port=1,2", "it names several hosts: name one"),
            ("postgres://u:hidden@one,two/db?target_session_attrs=read-write", "it names several hosts: name one"),
            ("postgres://u:hidden@one/db?port=hidden", "behind port= is no port"),
            ("postgres://u:12#hidden@host/db", "a # is written %23"),
            ("postgres://u:12/hidden@host/db", "/ is written %2F"),
            ("postgres://u@host/db?pasword=hidden", "\"pasword\" is not known"),
        ];
        for (url, told) in refused {
            let (code, text) = run_to_end(world, &["worker", "--database-url", url]).await;
            let one_line = text.trim().lines().count() == 1;
            assert!(code == 2 && one_line && text.contains(told) && !text.contains("hidden"), "{url}: {code} {text}");
        }
    });
}

#[test]
fn signals_that_would_kill_a_program_do_nothing_or_drain_it() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        for (signal, told) in [("HUP", "SIGHUP: there is nothing"), ("USR1", "SIGUSR1: there is nothing")] {
            worker.signal(signal);
            worker.wait_for_line(SOON, told).await;
        }
        worker.signal("QUIT");
        assert_eq!(worker.exit_code(SOON).await, 0);
        assert!(worker.log().contains("stopped"), "{}", worker.log());
    });
}
