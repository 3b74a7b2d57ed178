//! What differs from one RabbitMQ to the next, and what its administrators see of us.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

use crate::support::{
    Check, Database, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, asking, run_to_end, test,
};

/// RabbitMQ 4 drops what came back 20 times to a queue that says nothing.
const LOOKS: usize = 25;
/// How soon a queue has again what was put back, or never.
const BACK: Duration = Duration::from_secs(2);
const DEAD_LETTERS: &str = "events.dead-letter";

async fn channel(world: &World) -> (Connection, Channel) {
    let connection = Connection::connect(&world.amqp_url, ConnectionProperties::default()).await;
    let connection = connection.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    (connection, channel)
}

/// Takes the queue's first message and puts it back, again and again. Whether it is there in the end.
async fn survives_looks(channel: &Channel, queue: &str) -> bool {
    for _ in 0..LOOKS {
        let taken = tokio::time::timeout(BACK, async {
            loop {
                let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.expect("an answer");
                if let Some(message) = got {
                    return message;
                }
                tokio::task::yield_now().await;
            }
        });
        let Ok(message) = taken.await else { return false };
        let back = BasicRejectOptions { requeue: true };
        channel.basic_reject(message.delivery.delivery_tag, back).await.expect("it is put back");
    }
    true
}

/// An event that nobody takes, until its dead letter is in its queue.
async fn leave_a_dead_letter(world: &World, channel: &Channel) {
    let receiver = Receiver::new(|_| Reply::status(500)).await;
    Producer::connect(world).await.publish(&Message::new("user", "doomed", &receiver.url())).await;
    asking(SOON, "a dead letter", async || {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(DEAD_LETTERS.into(), passive, FieldTable::default()).await;
        (queue.expect("the queue").message_count() == 1).then_some(())
    })
    .await;
}

#[test]
fn a_dead_letter_may_be_looked_at_as_often_as_one_likes() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &["--partitions", "1", "--max-attempts", "1"]).await;
        let (_connection, channel) = channel(world).await;
        leave_a_dead_letter(world, &channel).await;
        assert!(survives_looks(&channel, DEAD_LETTERS).await, "the dead letter is gone");
        worker.stop().await;
        assert!(!worker.log().contains("set_policy"), "{}", worker.log());
    });
}

#[test]
fn an_earlier_installation_is_told_which_policy_keeps_its_dead_letters_and_it_does() {
    test(Load::Shared, async |world| {
        let drops = world.broker_release().await >= (4, 0);
        let (_connection, channel) = channel(world).await;
        // The looks mean something only if such a broker drops what is looked at so often.
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("bare".into(), durable, quorum).await.expect("a queue");
        let options = BasicPublishOptions::default();
        let published = channel.basic_publish("".into(), "bare".into(), options, b"x", BasicProperties::default());
        published.await.expect("published").await.expect("confirmed");
        assert_ne!(survives_looks(&channel, "bare").await, drops, "what became of it");
        // As a program before the second version of exchanges and queues has left it.
        Worker::start(world, &["--partitions", "1"]).await.stop().await;
        let mut database = PgConnection::connect(&world.database_url).await.expect("the database answers");
        database.execute("update cluster set topology = 1").await.expect("our table");
        world.delete_queues(&[DEAD_LETTERS, "events.due.0"]).await;
        let worker = Worker::start(world, &["--partitions", "1", "--max-attempts", "1"]).await;
        let advice = worker.log().lines().find(|line| line.contains("rabbitmqctl set_policy")).map(str::to_owned);
        assert_eq!(advice.is_some(), drops, "{}", worker.log());
        if let Some(advice) = advice {
            world.set_policy(&advice).await;
        }
        leave_a_dead_letter(world, &channel).await;
        assert!(survives_looks(&channel, DEAD_LETTERS).await, "the dead letter is gone");
        worker.stop().await;
    });
}

#[test]
fn administrators_of_the_servers_see_whose_connections_they_are() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &["--name", "till-7"]).await;
        let wanted = ["onceward consumer till-7", "onceward publisher till-7"].map(str::to_owned);
        asking(SOON, "the names of the broker's connections", async || {
            let all = world.ask("api/connections").await.as_array().expect("a list").clone();
            let ours = all.iter().filter(|connection| connection["vhost"] == *world.name);
            let names = ours.filter_map(|ours| ours["client_properties"]["connection_name"].as_str());
            (names.map(str::to_owned).collect::<BTreeSet<_>>() == BTreeSet::from(wanted.clone())).then_some(())
        })
        .await;
        let mut database = PgConnection::connect(&world.database_url).await.expect("the database answers");
        let sql = "select distinct application_name from pg_stat_activity \
                   where datname = current_database() and pid != pg_backend_pid()";
        let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut database).await.expect("an answer");
        assert_eq!(names, ["onceward worker till-7"]);
        worker.stop().await;
    });
}

#[test]
fn an_earlier_installation_keeps_the_one_exchange_that_it_has() {
    test(Load::Shared, async |world| {
        Worker::start(world, &MODULUS[..2]).await.stop().await;
        let mut database = PgConnection::connect(&world.database_url).await.expect("the database answers");
        database.execute("update cluster set topology = 2").await.expect("our table");
        for exchange in ["events", "events.partition"] {
            world.delete_exchange(exchange).await;
        }
        let worker = Worker::start(world, &MODULUS[..2]).await;
        let receiver = Receiver::healthy().await;
        Producer::connect(world).await.publish_all(&part(0, 100, &receiver.url())).await;
        receiver.wait_for_delivered(SOON, 100).await;
        worker.stop().await;
        let bindings = world.ask(&format!("api/exchanges/{}/events/bindings/source", world.name)).await;
        let queues = bindings.as_array().expect("a list").iter().filter(|bound| bound["destination_type"] == "queue");
        assert_eq!(queues.count(), 16, "{bindings}");
    });
}

/// Events of a few entities, of which each has its number in the key.
fn part(from: usize, to: usize, url: &str) -> Vec<Message> {
    (from..to).map(|n| Message::new(&format!("entity-{}", n % 10), &format!("event-{n}"), url)).collect()
}

const MODULUS: [&str; 4] = ["--partitions", "16", "--exchange-type", "x-modulus-hash"];

#[test]
fn an_exchange_that_routes_the_same_for_ever_is_taken_where_the_broker_has_it_and_refused_where_not() {
    test(Load::Shared, async |world| {
        if world.broker_release().await < (4, 3) {
            let (code, text) = run_to_end(world, &[&["worker"], &MODULUS[..]].concat()).await;
            let told: Vec<_> = text.lines().filter(|line| line.starts_with("onceward: ")).collect();
            assert!(code != 0 && told.len() == 1 && told[0].contains("needs RabbitMQ 4.3 or later"), "{text}");
            return;
        }
        let worker = Worker::start(world, &MODULUS).await;
        let receiver = Receiver::healthy().await;
        Producer::connect(world).await.publish_all(&part(0, 400, &receiver.url())).await;
        receiver.wait_for_delivered(SOON, 400).await;
        worker.stop().await;
        let database = Database::connect(world).await;
        Check::new(receiver.attempts(), 5).order(&database.lines().await).nothing_resent();
        let partitions: BTreeSet<_> = database.partitions_of_entities().await.into_values().collect();
        assert!(partitions.len() > 3, "ten entities are in several of 16 partitions: {partitions:?}");
        // Without the setting it would be declared as another type.
        let (code, text) = run_to_end(world, &["worker", "--partitions", "16"]).await;
        let told: Vec<_> = text.lines().filter(|line| line.starts_with("onceward: ")).collect();
        assert!(code != 0 && told.len() == 1 && told[0].contains("give --exchange-type the type"), "{text}");
    });
}

/// As deploy/docs/servers.md has it.
#[test]
fn an_installation_moves_to_the_other_type_of_exchange_with_events_that_wait() {
    test(Load::Shared, async |world| {
        let to: &[&str] = if world.broker_release().await < (4, 3) { &MODULUS[..2] } else { &MODULUS };
        let retries = ["--backoff-initial", "2s", "--max-attempts", "9"];
        let receiver = Receiver::new(|request| Reply::status(if request.number == 1 { 503 } else { 200 })).await;
        let worker = Worker::start(world, &[&MODULUS[..2], &retries].concat()).await;
        Producer::connect(world).await.publish_all(&part(0, 100, &receiver.url())).await;
        let database = Database::connect(world).await;
        database.wait_for_recorded(SOON, 100).await;
        // Everything is recorded: no message is in a partition's queue. What waits, waits in the database.
        worker.stop().await;
        world.delete_exchange("events").await;
        world.delete_exchange("events.partition").await;
        let worker = Worker::start(world, &[to, &retries].concat()).await;
        Producer::connect(world).await.publish_all(&part(100, 200, &receiver.url())).await;
        receiver.wait_for_delivered(Duration::from_mins(2), 200).await;
        worker.stop().await;
        Check::new(receiver.attempts(), 9).order(&database.lines().await);
        for (entity, keys) in database.lines().await {
            let number = |key: &String| key.rsplit('-').next().and_then(|number| number.parse::<u32>().ok());
            assert!(keys.is_sorted_by_key(number), "{entity}: all of its producer's events in order: {keys:?}");
        }
    });
}
