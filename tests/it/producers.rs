//! The producers of `deploy/examples`: each is run as a user runs it, and judged by the same test. Python, Node and Rust
//! are always there (`deploy/servers install examples`); Go, and Java with Spring, are run where they are installed.

use lapin::options::{
    BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Value, json};

use crate::support::{Example, Load, Receiver, SOON, Worker, World, example_output, libraries, test};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const BODY: &str = r#"{"name":"Grüße, \"Ada\""}"#;

/// How a producer is run: a program, its directory in `deploy/examples`, and what comes before the event.
struct Runner {
    program: String,
    directory: &'static str,
    arguments: Vec<String>,
    /// Headers that its client adds by itself.
    added: &'static [&'static str],
}

impl Runner {
    fn new(program: impl Into<String>, directory: &'static str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self { program: program.into(), directory, arguments, added: &[] }
    }

    fn python(directory: &'static str, file: &str) -> Self {
        Self::new("python3", directory, &[file])
    }

    async fn publish(&self, world: &World, event: [&str; 5]) -> (Option<i32>, String) {
        self.example(world).args(event).run().await
    }

    fn example(&self, world: &World) -> Example {
        Example::of(world, &self.program).directory(self.directory).args(&self.arguments)
    }

    /// It fails with status 1 and one line, which says why.
    fn failed((code, said): &(Option<i32>, String), why: &str) {
        let lines: Vec<_> = said.lines().collect();
        assert!(*code == Some(1) && lines.len() == 1 && lines[0].contains(why), "wanted {why:?}, got {code:?}: {said}");
    }
}

/// What every producer must do, before and after a worker has declared the exchange.
fn keeps_the_contract(build: impl AsyncFnOnce() -> Runner) {
    test(Load::Shared, async |world| {
        let runner = build().await;
        fails_clearly(&runner, world).await;
        publishes_what_the_contract_wants(&runner, world).await;
        is_delivered_once(&runner, world).await;
    });
}

async fn fails_clearly(runner: &Runner, world: &World) {
    let event = ["user-1", "key-1", "-", "http://127.0.0.1:1/", BODY];
    let nowhere = runner.example(world).env("ONCEWARD_AMQP_URL", "amqp://guest:guest@127.0.0.1:1/%2f").args(event);
    Runner::failed(&nowhere.run().await, "not published: ");
    Runner::failed(&runner.example(world).args(&event[1..]).run().await, "usage: ");
    let [entity, key, _, destination, body] = event;
    Runner::failed(&runner.publish(world, [entity, key, "one", destination, body]).await, "not published: ");
    Runner::failed(&runner.publish(world, event).await, "no exchange 'events'");
    let (channel, _connection) = channel(world).await;
    declare_exchange(&channel).await;
    Runner::failed(&runner.publish(world, event).await, "no queue takes it");
}

/// The message itself, as a queue holds it.
async fn publishes_what_the_contract_wants(runner: &Runner, world: &World) {
    let (channel, _connection) = channel(world).await;
    let (queue, nothing) = ("all", FieldTable::default);
    channel.queue_declare(queue.into(), QueueDeclareOptions::default(), nothing()).await.expect("a queue");
    let bound = channel.queue_bind(queue.into(), "events".into(), "1".into(), QueueBindOptions::default(), nothing());
    bound.await.expect("a binding");

    let outcome = runner.publish(world, ["user-1", "key-1", "-", "http://127.0.0.1:1/", BODY]).await;
    assert_eq!(outcome, (Some(0), String::new()));
    let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("the queue");
    let message = got.expect("a message").delivery;
    assert_eq!((message.routing_key.as_str(), message.data.as_slice()), ("user-1", BODY.as_bytes()));
    let properties = &message.properties;
    assert_eq!(properties.delivery_mode(), &Some(2), "persistent");
    assert_eq!(properties.message_id().as_ref().map(ToString::to_string).as_deref(), Some("key-1"));
    assert_eq!(properties.content_type().as_ref().map(ToString::to_string).as_deref(), Some("application/json"));
    // The receiver gets it as the encoding of the request: a character set is none.
    let encoding = properties.content_encoding().as_ref().map(ToString::to_string);
    assert!(matches!(encoding.as_deref(), None | Some("identity")), "content_encoding {encoding:?}");
    let headers = properties.headers().clone().unwrap_or_default();
    let destination = AMQPValue::LongString("http://127.0.0.1:1/".into());
    assert_eq!(headers.inner().get("destination"), Some(&destination));
    let mut names: Vec<_> = headers.inner().keys().map(ToString::to_string).collect();
    names.retain(|name| !runner.added.contains(&name.as_str()));
    assert_eq!(names, ["destination"], "and no other header: {headers:?}");

    // The worker declares them in its own way.
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("the queue is gone");
    channel.exchange_delete("events".into(), ExchangeDeleteOptions::default()).await.expect("the exchange is gone");
}

async fn is_delivered_once(runner: &Runner, world: &World) {
    let receiver = Receiver::healthy().await;
    let worker = Worker::start(world, &[]).await;
    let url = receiver.url();
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    // The second is published before the first, and the first twice: it is one event all the same.
    for (key, sequence) in [("key-2", "2"), ("key-1", "1"), ("key-1", "1")] {
        let producer = runner.example(world).env("TRACEPARENT", &traceparent);
        let outcome = producer.args(["user-1", key, sequence, &url, BODY]).run().await;
        assert_eq!(outcome, (Some(0), String::new()), "{key}");
    }
    // What the worker took in after the double is delivered: the double was seen before.
    assert_eq!(runner.publish(world, ["user-1", "key-3", "3", &url, "{}"]).await, (Some(0), String::new()));
    receiver.wait_for_key(SOON, "key-3").await;
    worker.stop().await;

    let attempts = receiver.attempts();
    let seen: Vec<_> = attempts.iter().map(|attempt| (attempt.key.as_str(), attempt.sequence)).collect();
    assert_eq!(seen, [("key-1", Some(1)), ("key-2", Some(2)), ("key-3", Some(3))]);
    for attempt in &attempts[..2] {
        assert_eq!((attempt.entity.as_str(), &attempt.body[..]), ("user-1", BODY.as_bytes()));
        assert_eq!(attempt.header("content-type"), Some("application/json"));
        let trace = attempt.header("traceparent").expect("a trace");
        assert_eq!(trace.split('-').nth(1), Some(TRACE));
    }
}

async fn channel(world: &World) -> (Channel, Connection) {
    let connection = Connection::connect(&world.amqp_url, ConnectionProperties::default()).await;
    let connection = connection.expect("the broker answers");
    (connection.create_channel().await.expect("a channel"), connection)
}

/// As the worker does, but without a queue.
async fn declare_exchange(channel: &Channel) {
    let kind = ExchangeKind::Custom("x-consistent-hash".into());
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare("events".into(), kind, options, FieldTable::default()).await.expect("an exchange");
}

/// The classes of an example in Java and the libraries that it needs, as a class path.
async fn compile_java(directory: &'static str) -> String {
    let output = example_output(directory).to_string_lossy().into_owned();
    let classes = format!("{output}:{}/*", libraries().join(directory).display());
    let compile = ["-Xlint:all", "-Werror", "-cp", &classes, "-d", &output, "Publish.java"];
    Example::new("javac").args(compile).directory(directory).build().await;
    classes
}

fn has_java() -> bool {
    let has = Example::is_installed("javac") && Example::is_installed("mvn");
    if !has {
        println!("not run: this machine has no Java with Maven");
    }
    has
}

#[test]
fn the_python_producer_keeps_the_contract() {
    keeps_the_contract(async || Runner::python("python", "publish.py"));
}

#[test]
fn the_kombu_producer_keeps_the_contract() {
    keeps_the_contract(async || Runner::python("celery", "publish.py"));
}

/// One producer, as a service keeps it: it publishes where nothing is, and then where the worker's queues are.
const AFTER_A_FAILURE: &str = "
import os, sys
from kombu import Connection, Producer
from publish import PASSING_ERRORS, TRANSPORT_OPTIONS, publish

with Connection(os.environ['ONCEWARD_AMQP_URL'], transport_options=TRANSPORT_OPTIONS) as connection:
    producer = Producer(connection)
    for exchange in ['none.such', 'amq.direct']:
        os.environ['ONCEWARD_EXCHANGE'] = exchange
        try:
            publish(producer, 'user-1', 'key-1', b'{}', {'destination': sys.argv[1]})
            sys.exit(exchange + ' took it')
        except PASSING_ERRORS:
            os.environ['ONCEWARD_EXCHANGE'] = 'events'
            publish(producer, 'user-1', 'after-' + exchange, b'{}', {'destination': sys.argv[1]})
";

#[test]
fn a_kombu_producer_goes_on_after_a_failure() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let program = Example::of(world, "python3").directory("celery").args(["-c", AFTER_A_FAILURE, &receiver.url()]);
        assert_eq!(program.run().await, (Some(0), String::new()));
        receiver.wait_for_key(SOON, "after-amq.direct").await;
        worker.stop().await;
        let keys: Vec<_> = receiver.attempts().into_iter().map(|attempt| attempt.key).collect();
        assert_eq!(keys, ["after-none.such", "after-amq.direct"]);
    });
}

#[test]
fn the_celery_task_keeps_the_contract() {
    keeps_the_contract(async || Runner::python("celery", "tasks.py"));
}

#[test]
fn a_message_like_masstransits_keeps_the_contract() {
    let added: &[&str] = &["MT-MessageType", "publishId"];
    keeps_the_contract(async || Runner { added, ..Runner::python("masstransit", "publish.py") });
}

#[test]
fn an_envelope_like_masstransits_reaches_the_receiver_as_it_is() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let runner = Runner::new("python3", "masstransit", &["publish.py", "--envelope"]);
        let key = "0191e7c6-7d3a-7b6e-9d3c-2f1f5c0d4a11";
        let outcome = runner.publish(world, ["order-17", key, "1", &receiver.url(), BODY]).await;
        assert_eq!(outcome, (Some(0), String::new()));
        receiver.wait_for_key(SOON, key).await;
        worker.stop().await;

        let attempts = receiver.attempts();
        let [attempt] = &attempts[..] else { panic!("one attempt, not {}", attempts.len()) };
        assert_eq!((attempt.entity.as_str(), attempt.sequence), ("order-17", Some(1)));
        assert_eq!(attempt.header("content-type"), Some("application/vnd.masstransit+json"));
        assert_eq!(attempt.header("content-encoding"), None);
        let envelope: Value = serde_json::from_slice(&attempt.body).expect("JSON");
        let message: Value = serde_json::from_str(BODY).expect("JSON");
        assert_eq!((&envelope["messageId"], &envelope["message"]), (&json!(key), &message));
    });
}

#[test]
fn the_node_producer_keeps_the_contract() {
    keeps_the_contract(async || Runner::new("node", "node", &["publish.js"]));
}

#[test]
fn the_rust_producer_keeps_the_contract() {
    // `deploy/test` builds it, and so does `cargo test`, if it is not asked for one test alone.
    let profile = std::env::current_exe().expect("the tests' own path");
    let program = profile.ancestors().nth(2).expect("target/debug").join("examples/publish");
    assert!(program.exists(), "run `cargo build --example publish` first");
    let program = program.to_string_lossy().into_owned();
    keeps_the_contract(async || Runner::new(program, "rust", &[]));
}

#[test]
fn the_go_producer_keeps_the_contract() {
    if !Example::is_installed("go") {
        return println!("not run: this machine has no Go");
    }
    keeps_the_contract(async || {
        let program = example_output("go").join("publish").to_string_lossy().into_owned();
        Example::new("go").args(["vet", "."]).directory("go").build().await;
        Example::new("go").args(["build", "-o", &program, "."]).directory("go").build().await;
        Runner::new(program, "go", &[])
    });
}

#[test]
fn the_java_producer_keeps_the_contract() {
    if has_java() {
        keeps_the_contract(async || Runner::new("java", "java", &["-cp", &compile_java("java").await, "Publish"]));
    }
}

#[test]
fn the_spring_producer_keeps_the_contract() {
    let added: &[&str] = &["spring_listener_return_correlation", "spring_returned_message_correlation"];
    if has_java() {
        keeps_the_contract(async || {
            let arguments = ["-cp", &compile_java("spring").await, "Publish"];
            Runner { added, ..Runner::new("java", "spring", &arguments) }
        });
    }
}
