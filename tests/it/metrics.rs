//! Metrics, health and logs: what an operator sees.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Admin, Collector, DeadLetters, Gate, Load, Message, Producer, Receiver, Reply, SOON, Servers, Stop, Which, Worker,
    World, asking, run_to_end, run_to_end_with, test, test_on_private_servers,
};

#[test]
fn metrics_count_what_happens() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| match (request.key, request.number) {
            ("doomed", _) | (_, 1) => Reply::status(503),
            _ => Reply::ok(),
        })
        .await;
        let settings = ["--max-attempts=2", "--backoff-initial=100ms", "--name=metered"];
        let worker = Worker::start(world, &settings).await;
        let admin = Admin::of(&worker).await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        for key in ["a", "a", "b", "doomed"] {
            producer.publish(&Message::new(key, key, &receiver.url())).await;
        }
        producer.publish(&Message::new("user-1", "poison", "ftp://nowhere/")).await;
        dead_letters.wait_for(SOON, 2).await;
        receiver.wait_for_delivered(SOON, 2).await;
        let transactions =
            ["join", "renew", "view", "claim", "raise_share", "audit", "read_dead_letter", "mark_published"];
        let measured = transactions.map(|name| {
            format!(
                "onceward_database_transaction_duration_seconds_count\
                 {{onceward_outcome=\"ok\",onceward_transaction=\"{name}\"}}"
            )
        });
        let counted = async || {
            let metrics = admin.metrics().await;
            let is_measured = measured.iter().all(|name| metrics.contains_key(name));
            (metrics["onceward_event_delivered_total"] >= 2.0 && is_measured).then_some(metrics)
        };
        let metrics = asking(SOON, "two delivered events and each transaction among the metrics", counted).await;
        let host = receiver.url();
        let port = host.rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("a port");
        let failed = format!(
            "http_client_request_duration_seconds_count{{error_type=\"503\",http_request_method=\"POST\",\
             http_response_status_code=\"503\",server_address=\"127.0.0.1\",server_port=\"{port}\"}}"
        );
        for (name, value) in [
            ("onceward_event_received_total", 5.0),
            ("onceward_event_duplicates_total", 1.0),
            ("onceward_event_delivered_total", 2.0),
            ("onceward_event_retried_total", 3.0),
            ("onceward_event_dead_lettered_total{onceward_reason=\"exhausted\"}", 1.0),
            ("onceward_event_dead_lettered_total{onceward_reason=\"bad_destination\"}", 1.0),
            ("onceward_event_dead_lettered_total{onceward_reason=\"sequence_passed\"}", 0.0),
            ("onceward_attempt_total{onceward_outcome=\"success\"}", 2.0),
            ("onceward_attempt_total{onceward_outcome=\"status\"}", 4.0),
            (&failed, 4.0),
            ("onceward_delivery_duration_seconds_count", 2.0),
            ("onceward_retry_lateness_seconds_count", 3.0),
            ("onceward_partition_owned", 4.0),
            ("onceward_partition_count", 4.0),
            ("onceward_broker_connected", 1.0),
            ("onceward_database_connected", 1.0),
        ] {
            assert_eq!(metrics.get(name), Some(&value), "{name} of {metrics:#?}");
        }
        assert!(metrics["onceward_commit_duration_seconds_count"] > 0.0);
        assert!(metrics["onceward_lease_age_seconds"] < 3.0);
        let about = metrics.keys().any(|name| name.contains("doomed") || name.contains("user-1"));
        assert!(!about, "no entity and no event is a label");
        worker.stop().await;
    });
}

#[test]
fn gauges_show_what_waits_and_the_same_figures_are_pushed() {
    test(Load::Shared, async |world| {
        let collector = Collector::over_http().await;
        let gate = Gate::closed();
        let reply = Reply::ok().behind(&gate);
        let receiver = Receiver::new(move |_| reply.clone()).await;
        let broken = Receiver::at("127.0.0.2", |_| Reply::status(500)).await;
        let producer = {
            // Before anything is counted, as the count comes every 15 s.
            Worker::start(world, &[]).await.stop().await;
            Producer::connect(world).await
        };
        producer.publish(&Message::new("user-1", "open", &receiver.url())).await;
        producer.publish(&Message::new("user-1", "behind", &receiver.url())).await;
        producer.publish(&Message::new("user-2", "retried", &broken.url())).await;
        producer.publish(&Message::new("user-3", "gap", &receiver.url()).sequence(2)).await;
        let settings =
            ["worker", "--attempt-timeout=1min", "--lease=100s", "--drain-time=2min", "--backoff-initial=10s"];
        let mut environment = collector.environment();
        environment.push(("OTEL_METRIC_EXPORT_INTERVAL", "500".into()));
        let worker = Worker::run_with(world, &settings, &environment);
        let admin = Admin::of(&worker).await;
        let wanted = [
            ("onceward_event_open{onceward_state=\"IN_FLIGHT\"}", 1.0),
            ("onceward_event_open{onceward_state=\"PENDING\"}", 2.0),
            ("onceward_event_open{onceward_state=\"RETRY_WAIT\"}", 1.0),
            ("onceward_entity_blocked{onceward_reason=\"retry\"}", 1.0),
            ("onceward_entity_blocked{onceward_reason=\"gap\"}", 1.0),
        ];
        let counted = async || {
            let metrics = admin.metrics().await;
            wanted.iter().all(|(name, value)| metrics.get(*name) == Some(value)).then_some(metrics)
        };
        let metrics = asking(SOON * 3, "the counts", counted).await;
        let of_host =
            |name: &str| metrics.iter().find(|(sample, _)| sample.starts_with(name) && sample.contains("127.0.0.1"));
        assert_eq!(of_host("onceward_host_in_flight").map(|(_, value)| *value), Some(1.0), "{metrics:#?}");
        assert!(metrics["onceward_event_oldest_age_seconds"] > 0.0);
        collector.wait_for_metric(SOON, "onceward.event.open").await;
        collector.wait_for_metric(SOON, "http.client.request.duration").await;
        gate.open();
        worker.stop().await;
    });
}

#[test]
fn readiness_follows_the_servers() {
    test_on_private_servers(Load::Alone, async |world: &World, servers: &Servers| {
        let worker = Worker::start(world, &[]).await;
        let admin = Admin::of(&worker).await;
        admin.wait_for_ready(true, "ready").await;
        for (which, missing) in
            [(Which::Broker, "the broker is unreachable"), (Which::Database, "the database is unreachable")]
        {
            servers.stop(which, Stop::Gently).await;
            admin.wait_for_ready(false, missing).await;
            assert_eq!(admin.get("/livez").await, (200, "ok\n".into()), "it lives");
            servers.start_again(which).await;
            admin.wait_for_ready(true, "ready").await;
        }
        let receiver = Receiver::new(|_| Reply::ok().after(Duration::from_secs(1))).await;
        Producer::connect(world).await.publish(&Message::new("user-1", "last", &receiver.url())).await;
        receiver.wait_for(SOON, "the last attempt", |log| log.open == 1).await;
        worker.signal("TERM");
        admin.wait_for_ready(false, "the worker is stopping").await;
        assert_eq!(worker.exit_code(SOON).await, 0);
    });
}

#[test]
fn a_log_that_nobody_watches_is_json() {
    test(Load::Shared, async |world| {
        let worker = Worker::run_with(world, &["worker"], &[("ONCEWARD_LOG_FORMAT", "auto".into())]);
        worker.wait_for_line(SOON, "ready: consuming").await;
        worker.stop().await;
        let lines: Vec<Value> =
            worker.log().lines().map(|line| serde_json::from_str(line).expect("JSON on every line")).collect();
        let start = &lines[0];
        assert_eq!((start["level"].as_str(), start["partitions"].as_u64()), (Some("INFO"), Some(4)), "{start}");
        assert_eq!(start["attempt_timeout"], "2s", "a start tells its effective settings: {start}");
        assert!(start["amqp"].as_str().is_some_and(|url| !url.contains("guest:guest")), "{start}");
        let wrong = [("ONCEWARD_LOG_FORMAT", "xml".into())];
        let (code, text) = run_to_end_with(world, &["worker"], &wrong).await;
        assert!(code == 2 && text.contains("write auto, text or json"), "{code} {text}");
    });
}

/// Publishes messages that are worth a line each until lines are dropped, and sees that all else goes on meanwhile.
async fn overfill_the_log(world: &World, admin: &Admin) {
    let (receiver, producer) = (Receiver::healthy().await, Producer::connect(world).await);
    for round in 0..50 {
        let poison = |n| Message::new(&format!("poison-{n}"), &format!("poison-{round}-{n}"), "ftp://nowhere/");
        producer.publish_all(&(0..2_000).map(poison).collect::<Vec<_>>()).await;
        let key = format!("event-{round}");
        producer.publish(&Message::new("user-1", &key, &receiver.url())).await;
        receiver.wait_for_key(SOON, &key).await;
        assert_eq!(admin.get("/livez").await, (200, "ok\n".into()));
        if admin.metrics().await["onceward_log_line_dropped_total"] > 0.0 {
            return;
        }
    }
    panic!("nobody reads the log, and nothing of it is dropped");
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing_and_says_what_is_missing() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        let admin = Admin::of(&worker).await;
        let unread = worker.stop_reading().await;
        overfill_the_log(world, &admin).await;
        drop(unread);
        worker.wait_for_line(SOON, "lines of the log are missing here").await;
        worker.stop().await;
        assert!(worker.log().ends_with("stopped"), "the last line comes out: {}", worker.log());
    });
}

#[test]
fn a_log_that_nobody_reads_does_not_hold_up_the_end() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        let admin = Admin::of(&worker).await;
        let unread = worker.stop_reading().await;
        overfill_the_log(world, &admin).await;
        worker.signal("TERM");
        let process = format!("/proc/{}", worker.pid());
        let gone = async || (!std::path::Path::new(&process).exists()).then_some(());
        asking(SOON, "the worker's end", gone).await;
        drop(unread);
        assert_eq!(worker.exit_code(SOON).await, 0);
    });
}

#[test]
fn an_admin_port_that_is_taken_stops_the_start_only_if_it_was_asked_for() {
    test(Load::Shared, async |world| {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = taken.local_addr().expect("a bound port").to_string();
        let (code, text) = run_to_end(world, &["worker", "--admin-listen", &address]).await;
        assert!(code == 2 && text.contains("use another port, 0 for any, or off"), "{code} {text}");
        let worker = Worker::start(world, &["--admin-listen=off"]).await;
        worker.stop().await;
        assert!(!worker.log().contains("metrics and health"), "{}", worker.log());
    });
}
