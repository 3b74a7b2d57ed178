//! Traces: one tells an event's whole life, through retries, a crash and a dead letter.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use sqlx::PgPool;

use crate::support::{
    Collector, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Span, Worker, World, asking,
    run_to_end_with, test,
};

const QUICK: [&str; 4] = ["--backoff-initial=200ms", "--backoff-max=200ms", "--max-attempts=4", "--attempt-timeout=1s"];

async fn start(world: &World, collector: &Collector, name: &str) -> Worker {
    let name = format!("--name={name}");
    let arguments = [&["worker"], &QUICK[..], &[&name]].concat();
    let worker = Worker::run_with(world, &arguments, &collector.environment());
    worker.wait_for_line(SOON, "ready: consuming").await;
    worker
}

/// `onceward publish` of one event.
async fn publish(world: &World, collector: &Collector, key: &str, destination: &str, more: &[&str]) {
    let event = ["publish", "--entity", key, "--key", key, "--destination", destination, "--body", "{}"];
    let producer = Worker::run_with(world, &[&event[..], more].concat(), &collector.environment());
    assert_eq!(producer.ends_by_itself(SOON).await, 0, "{}", producer.log());
}

/// The spans of the event with this key, in the order of their beginnings; all of one trace.
fn trace_of(collector: &Collector, key: &str) -> Vec<Span> {
    let spans = collector.spans();
    let trace = &spans.iter().find(|span| is_about(span, key)).expect("a span of the event").trace;
    let mut trace: Vec<Span> = spans.iter().filter(|span| span.trace == *trace).cloned().collect();
    trace.sort_by_key(|span| span.nanos.0);
    trace
}

fn is_about(span: &Span, key: &str) -> bool {
    span.attributes.get("messaging.message.id").is_some_and(|id| id == key)
}

fn named<'a>(trace: &'a [Span], name: &str) -> Vec<&'a Span> {
    trace.iter().filter(|span| span.name == name).collect()
}

#[test]
fn one_trace_tells_an_events_life_through_retries_and_a_crash() {
    test(Load::Shared, async |world| {
        let collector = Collector::over_http().await;
        let receiver = Receiver::new(|request| match request.number {
            1 => Reply::status(503),
            // Its worker dies meanwhile.
            2 => Reply::hang(),
            _ => Reply::ok(),
        })
        .await;
        let first = start(world, &collector, "first").await;
        let destination = receiver.url().replace("http://", "http://ada:secret@") + "?token=secret";
        publish(world, &collector, "order-7", &destination, &[]).await;
        receiver.wait_for(SOON, "the second attempt", |log| log.attempts.len() == 2).await;
        collector.wait_for(SOON, "the wait for the retry", |spans| !named(spans, "wait for retry").is_empty()).await;
        first.kill().await;
        let second = start(world, &collector, "second").await;
        receiver.wait_for_key(SOON, "order-7").await;
        let last = |span: &Span| span.name == "POST" && span.resource["service.instance.id"] == "second";
        collector.wait_for(SOON, "the last attempt", |spans| spans.iter().any(last)).await;
        second.stop().await;

        let trace = trace_of(&collector, "order-7");
        let processed = was_ingested(&trace);
        let attempts = was_attempted_by_two_workers(&trace, processed);
        let waits = named(&trace, "wait for retry");
        assert!(waits.iter().all(|wait| wait.parent == processed.id && wait.kind == SpanKind::Internal));
        let waited = Duration::from_nanos(waits[0].nanos.1 - waits[0].nanos.0);
        assert!((Duration::from_millis(180)..Duration::from_secs(2)).contains(&waited), "{waited:?}");
        // The receiver's own spans are below the attempt that reached it.
        let traceparent = |number: usize| receiver.attempts()[number].header("traceparent").map(str::to_owned);
        let expected = |attempt: &Span| Some(format!("00-{}-{}-01", attempt.trace, attempt.id));
        assert_eq!(traceparent(0), expected(attempts[0]));
        assert_eq!(traceparent(2), expected(attempts[1]));
        for span in &trace {
            let parents = trace.iter().filter(|other| other.id == span.parent).count();
            assert!(parents == 1 || span.parent.is_empty(), "one connected tree: {span:#?}");
        }
    });
}

/// The spans of producer and intake.
fn was_ingested(trace: &[Span]) -> &Span {
    let [sent] = named(trace, "send events")[..] else { panic!("one producer: {trace:#?}") };
    let [processed] = named(trace, "process events")[..] else { panic!("ingested once: {trace:#?}") };
    assert_eq!((sent.kind, sent.parent.as_str()), (SpanKind::Producer, ""));
    assert_eq!((processed.kind, &processed.parent), (SpanKind::Consumer, &sent.id));
    assert_eq!(sent.resource["service.name"], "onceward-publish");
    assert_eq!(processed.resource["service.name"], "onceward");
    assert!(!processed.resource["host.name"].is_empty());
    let partition = processed.attribute("messaging.destination.partition.id");
    let destination = format!("events:order-7:events.partition.{partition}");
    for (name, value) in [
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", &destination),
        ("messaging.destination.template", "events"),
        ("messaging.rabbitmq.destination.routing_key", "order-7"),
        ("messaging.message.body.size", "2"),
        ("server.address", "127.0.0.1"),
    ] {
        assert_eq!(processed.attribute(name), value, "{name}");
    }
    processed
}

/// The second attempt's worker died: what it knew of it is gone. The third is another worker's.
fn was_attempted_by_two_workers<'a>(trace: &'a [Span], processed: &Span) -> Vec<&'a Span> {
    let attempts = named(trace, "POST");
    let seen =
        |span: &&Span| format!("{} {}", span.attribute("onceward.attempt"), span.resource["service.instance.id"]);
    assert_eq!(attempts.iter().map(seen).collect::<Vec<_>>(), ["1 first", "3 second"]);
    for attempt in &attempts {
        assert_eq!((attempt.kind, &attempt.parent), (SpanKind::Client, &processed.id));
        assert_eq!(attempt.attribute("http.request.method"), "POST");
        assert!(attempt.attribute("url.full").contains("//REDACTED:REDACTED@127.0.0.1:"), "{attempt:#?}");
        assert!(!format!("{attempt:?}").contains("secret"), "{attempt:#?}");
    }
    assert_eq!(attempts[0].attribute("http.response.status_code"), "503");
    assert_eq!((attempts[0].attribute("error.type"), attempts[0].failed), ("503", true));
    assert_eq!(attempts[1].attribute("http.response.status_code"), "200");
    assert_eq!((attempts[1].attribute("http.request.resend_count"), attempts[1].failed), ("2", false));
    assert!(!attempts[0].attributes.contains_key("http.request.resend_count"));
    attempts
}

#[test]
fn a_trace_ends_with_the_dead_letter() {
    test(Load::Shared, async |world| {
        let collector = Collector::over_grpc().await;
        let receiver = Receiver::new(|_| Reply::status(500)).await;
        let worker = start(world, &collector, "only").await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let doomed = Message::new("user-1", "doomed", &receiver.url()).text("traceparent", sampled);
        let poison = Message::new("user-2", "poison", "ftp://nowhere/").text("tracestate", "of=nothing");
        producer.publish(&doomed).await;
        producer.publish(&poison).await;
        dead_letters.wait_for(SOON, 2).await;
        worker.stop().await;

        let trace = trace_of(&collector, "doomed");
        assert_eq!(trace[0].name, "process events");
        assert_eq!(format!("00-{}-{}-01", trace[0].trace, trace[0].parent), sampled);
        let [sent] = named(&trace, "send events.dead-letter")[..] else { panic!("{trace:#?}") };
        assert_eq!((sent.kind, &sent.parent), (SpanKind::Producer, &trace[0].id));
        assert_eq!(sent.attribute("onceward.reason"), "exhausted");
        let numbers: Vec<_> =
            named(&trace, "POST").iter().map(|span| span.attribute("onceward.attempt").to_owned()).collect();
        assert_eq!(numbers, ["1", "2", "3", "4"]);

        let trace = trace_of(&collector, "poison");
        let names: Vec<_> = trace.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["process events", "send events.dead-letter"]);
        assert_eq!((trace[0].attribute("error.type"), trace[0].failed), ("bad_destination", true));
        assert_eq!(
            (trace[0].parent.as_str(), &trace[1].parent),
            ("", &trace[0].id),
            "without a producer's, a trace begins here"
        );
        assert!(worker.log().contains(&format!("trace_id=\"{}\"", trace[0].trace)), "{}", worker.log());
    });
}

#[test]
fn a_probe_of_a_host_that_is_down_is_told_apart() {
    test(Load::Shared, async |world| {
        let collector = Collector::over_http().await;
        let arguments = [&["worker"], &QUICK[..], &["--gate-failures=2", "--gate-probe-initial=200ms"]].concat();
        let worker = Worker::run_with(world, &arguments, &collector.environment());
        worker.wait_for_line(SOON, "ready: consuming").await;
        // Nobody listens there.
        publish(world, &collector, "order-9", "http://127.0.0.1:9/", &[]).await;
        let probes = async || {
            let spans = collector.spans();
            let attempts = spans.iter().filter(|span| span.name == "POST" && is_about(span, "order-9"));
            let probes: Vec<(String, bool)> = attempts
                .map(|span| {
                    (span.attribute("onceward.attempt").to_owned(), span.attributes.contains_key("onceward.probe"))
                })
                .collect();
            (probes.len() == 4).then_some(probes)
        };
        let mut probes = asking(SOON, "four attempts in traces", probes).await;
        probes.sort();
        assert_eq!(
            probes.iter().map(|(_, probe)| *probe).collect::<Vec<_>>(),
            [false, false, true, true],
            "{probes:?}"
        );
        worker.stop().await;
    });
}

#[test]
fn a_producer_that_does_not_sample_is_followed() {
    test(Load::Shared, async |world| {
        let collector = Collector::over_http().await;
        let receiver = Receiver::healthy().await;
        let worker = start(world, &collector, "only").await;
        let producer = Producer::connect(world).await;
        let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        producer.publish(&Message::new("user-1", "unsampled", &receiver.url()).text("traceparent", unsampled)).await;
        producer.publish(&Message::new("user-1", "after", &receiver.url())).await;
        receiver.wait_for_key(SOON, "after").await;
        worker.stop().await;
        let about = |key: &str| collector.spans().iter().filter(|span| is_about(span, key)).count();
        assert_eq!((about("unsampled"), about("after")), (0, 2));
        assert_eq!(receiver.attempts_of("unsampled")[0].header("traceparent"), Some(unsampled));
    });
}

#[test]
fn a_collector_that_is_away_costs_nothing_but_spans_and_is_told_once() {
    test(Load::Shared, async |world| {
        let collector = Collector::over_http().await;
        let mut environment = collector.environment();
        environment[0].1 = "http://127.0.0.1:9".into();
        let receiver = Receiver::healthy().await;
        let worker = Worker::run_with(world, &["worker"], &environment);
        worker.wait_for_line(SOON, "ready: consuming").await;
        let producer = Producer::connect(world).await;
        for number in 0..200 {
            producer.publish(&Message::new("user-1", &format!("k{number}"), &receiver.url())).await;
        }
        receiver.wait_for_delivered(SOON, 200).await;
        worker.wait_for_line(SOON, "the collector of traces is unreachable").await;
        producer.publish(&Message::new("user-1", "last", &receiver.url())).await;
        receiver.wait_for_key(SOON, "last").await;
        worker.stop().await;
        assert_eq!(worker.log().matches("the collector of traces is unreachable").count(), 1, "{}", worker.log());
        let wrong = [("OTEL_EXPORTER_OTLP_ENDPOINT", "not a URL".into())];
        let (code, text) = run_to_end_with(world, &["worker"], &wrong).await;
        assert!(code == 2 && text.contains("write it like http://localhost:4318"), "{code} {text}");
    });
}

#[test]
fn a_transaction_that_takes_long_is_seen_in_traces_by_its_name() {
    test(Load::Shared, async |world| {
        let collector = Collector::over_grpc().await;
        let receiver = Receiver::healthy().await;
        let worker = start(world, &collector, "slow").await;
        let pool = PgPool::connect(&world.database_url).await.expect("the database");
        let mut lock = pool.begin().await.expect("a transaction");
        sqlx::query("lock table writer_commit in exclusive mode").execute(&mut *lock).await.expect("a lock");
        Producer::connect(world).await.publish(&Message::new("user-1", "late", &receiver.url())).await;
        let waits = "select count(*) from pg_locks where not granted and relation = 'writer_commit'::regclass";
        let waits = async || {
            let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&pool).await.expect("a count");
            (waiting > 0).then_some(())
        };
        asking(SOON, "a commit that waits", waits).await;
        // The length of the trouble.
        tokio::time::sleep(Duration::from_millis(200)).await;
        lock.rollback().await.expect("a rollback");
        receiver.wait_for_key(SOON, "late").await;
        worker.stop().await;
        let spans = collector.spans();
        let commit = spans.iter().find(|span| span.name == "commit").expect("the commit's span");
        assert_eq!(commit.kind, SpanKind::Client);
        assert_eq!((commit.attribute("db.system.name"), commit.attribute("onceward.outcome")), ("postgresql", "ok"));
        assert!(commit.nanos.1 - commit.nanos.0 >= 100_000_000, "{:?}", commit.nanos);
    });
}
