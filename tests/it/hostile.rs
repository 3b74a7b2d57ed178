//! Messages that no polite client sends: each hurts nothing but itself.

use std::time::{Duration, Instant};

use crate::support::{Load, Raw, RawMessage, SOON, Table, asking, test};

use trial::{DEAD_LETTERS, Kind, Trial, queues};

mod chaos;
mod kinds;
mod trial;

/// A worker's memory at most, whatever is sent to it.
const LIMIT_KIB: u64 = 400 * 1_024;
/// Bodies far beyond the worker's limit: together much more than its memory.
const LARGE: usize = 16;
const LARGE_BYTES: usize = 100_000_000;
/// The broker and the disk take their time with these.
const LARGE_TIME: Duration = Duration::from_mins(4);
/// Messages of very many values each.
const CROWDED: usize = 300;
/// How long messages by chance are sent.
const CHAOS: Duration = Duration::from_secs(15);
const SEED: u64 = 5;

/// Each kind among healthy events.
fn hurts_nothing_but_itself(kinds: impl Fn(&Table) -> Vec<Kind>) {
    test(Load::Shared, async |world| {
        let mut trial = Trial::start(world).await;
        let kinds = kinds(&trial.headers());
        trial.meet(&kinds).await;
        trial.ends_well(&kinds).await;
    });
}

#[test]
fn headers_in_headers_hurt_nothing_but_themselves() {
    hurts_nothing_but_itself(kinds::nesting);
}

#[test]
fn text_that_is_not_utf_8_hurts_nothing_but_itself() {
    hurts_nothing_but_itself(kinds::not_utf8);
}

#[test]
fn an_event_may_have_headers_of_every_type() {
    hurts_nothing_but_itself(kinds::types);
}

#[test]
fn odd_properties_hurt_nothing_but_themselves() {
    hurts_nothing_but_itself(kinds::properties);
}

#[test]
fn odd_headers_hurt_nothing_but_themselves() {
    hurts_nothing_but_itself(kinds::headers);
}

#[test]
fn headers_that_fill_their_frame_hurt_nothing_but_themselves() {
    hurts_nothing_but_itself(kinds::full);
}

#[test]
fn copies_of_a_message_hurt_nothing() {
    hurts_nothing_but_itself(kinds::copies);
}

/// The tests above mean something only if what they send is what arrives.
#[test]
fn the_broker_gives_hostile_messages_out_as_they_were_sent() {
    test(Load::Shared, async |world| {
        let mut raw = Raw::connect(world).await;
        raw.declare("raw", &Table::default()).await;
        let headers = Table::to("http://localhost/");
        let all = [kinds::nesting, kinds::not_utf8, kinds::types, kinds::properties, kinds::headers, kinds::full];
        for kind in all.iter().flat_map(|kinds| kinds(&headers)) {
            let kind = kind.into_queue("raw");
            let published = raw.publish(&kind.message).await;
            published.unwrap_or_else(|refusal| panic!("the broker refuses {}: {refusal}", kind.name));
            let taken = raw.take("raw").await.expect("it is there");
            assert!(came_through(&taken, &kind.message), "{}: the properties", kind.name);
            assert_eq!((taken.routing_key, taken.body), (kind.message.routing_key, kind.message.body));
        }
    });
}

fn came_through(taken: &RawMessage, sent: &RawMessage) -> bool {
    let anew = |message: &RawMessage| message.read_properties().written_anew().bytes();
    taken.properties == sent.properties || taken.properties == anew(sent)
}

/// What it refuses, no worker has to bear; RabbitMQ 4 lets some of it through.
#[test]
fn what_the_broker_does_not_refuse_though_it_should_hurts_nothing_but_itself() {
    test(Load::Shared, async |world| {
        let mut trial = Trial::start(world).await;
        let mut raw = Raw::connect(world).await;
        raw.declare("raw", &Table::default()).await;
        let mut accepted = Vec::new();
        for kind in kinds::refused(&trial.headers()) {
            match raw.publish(&kind.clone().into_queue("raw").message).await {
                Ok(()) => accepted.push(kind.either()),
                Err(_) => assert_eq!(raw.count("raw").await, accepted.len(), "{}", kind.name),
            }
        }
        println!("accepted: {:?}", accepted.iter().map(|kind| &kind.name).collect::<Vec<_>>());
        assert!(accepted.is_empty() || world.broker_release().await >= (4, 0), "{accepted:?}");
        raw.purge("raw").await;
        trial.meet(&accepted).await;
        trial.ends_well(&accepted).await;
    });
}

#[test]
fn what_is_sent_to_the_queues_behind_the_exchange_hurts_nothing() {
    test(Load::Shared, async |world| {
        let mut trial = Trial::start(world).await;
        let all = queues(world).await;
        let others =
            |queue: &&String| queue.starts_with("events.due.") || [DEAD_LETTERS, "events.delay.0"].contains(&&***queue);
        let others: Vec<_> = all.iter().filter(others).collect();
        assert_eq!(others.len(), 4, "two queues of what is due, the shortest delay, and the dead letters: {all:?}");
        let mut removed = 0;
        for queue in others {
            let strays = kinds::strays(&trial.headers(), queue);
            removed += if queue.starts_with("events.due.") { strays.len() } else { 0 };
            let strays: Vec<_> = strays.into_iter().map(|kind| kind.into_queue(queue)).collect();
            trial.meet(&strays).await;
        }
        let mut raw = Raw::connect(world).await;
        asking(SOON, "empty queues", async || {
            for queue in all.iter().filter(|queue| *queue != DEAD_LETTERS) {
                if raw.count(queue).await > 0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
        // The broker takes seconds to give out some of these: till then they are in no queue.
        asking(SOON * 2, "the end of all strays among what is due", async || {
            let log = trial.worker.log();
            (log.matches("is none of ours; it is removed").count() == removed).then_some(())
        })
        .await;
        trial.ends_well(&[]).await;
    });
}

#[test]
fn bodies_far_beyond_the_limit_are_dead_lettered_in_bounded_memory() {
    test(Load::Alone, async |world| {
        let mut trial = Trial::start(world).await;
        let begun = Instant::now();
        let headers = trial.headers();
        let large =
            |number: usize| Kind::with_headers(&format!("large-{number}"), &headers).body(vec![b'x'; LARGE_BYTES]);
        trial.pile_up((0..LARGE).map(large)).await;
        println!("published after {:?}", begun.elapsed());
        trial.healthy_arrive("among large bodies").await;
        println!("healthy ones delivered after {:?}", begun.elapsed());
        let mut raw = Raw::connect(world).await;
        let all = async || (raw.count(DEAD_LETTERS).await == LARGE).then_some(());
        asking(LARGE_TIME, "the dead letters of large bodies", all).await;
        println!("dead-lettered after {:?}", begun.elapsed());
        let most = trial.worker.memory_kib("VmHWM");
        println!("memory: {most} KiB at most");
        assert!(most < LIMIT_KIB, "{LARGE} bodies of {LARGE_BYTES} bytes cost {most} KiB");
        raw.purge(DEAD_LETTERS).await;
        trial.ends_well(&[]).await;
    });
}

#[test]
fn headers_of_very_many_values_cost_bounded_memory() {
    test(Load::Alone, async |world| {
        let mut trial = Trial::start(world).await;
        let headers = trial.headers();
        let crowded = |number: usize| {
            let name = format!("crowded-{number}");
            if number.is_multiple_of(2) {
                kinds::many_fields(&name, &headers)
            } else {
                kinds::many_values(&name, &headers)
            }
        };
        let kinds: Vec<_> = (0..CROWDED).map(crowded).collect();
        trial.pile_up(kinds.clone()).await;
        trial.healthy_arrive("behind crowded headers").await;
        let most = trial.worker.memory_kib("VmHWM");
        println!("memory: {most} KiB at most");
        assert!(most < LIMIT_KIB, "{CROWDED} messages with crowded headers cost {most} KiB");
        trial.ends_well(&kinds).await;
    });
}

#[test]
fn whatever_the_broker_lets_through_hurts_no_healthy_event() {
    test(Load::Shared, async |world| {
        let mut trial = Trial::start(world).await;
        let (headers, mut chance) = (trial.headers(), fastrand::Rng::with_seed(SEED));
        let (begun, mut sent, mut refused) = (Instant::now(), 0, 0);
        while begun.elapsed() < CHAOS {
            for _ in 0..10 {
                let kind = chaos::message(&mut chance, &headers, sent + refused);
                match trial.raw.publish(&kind.message).await {
                    Ok(()) => sent += 1,
                    Err(_) => refused += 1,
                }
            }
            trial.publish_healthy(5).await;
            trial.healthy_arrive("among messages by chance").await;
        }
        println!("{sent} messages sent, {refused} refused by the broker");
        assert!(sent > refused, "{sent} messages sent, {refused} refused by the broker");
        trial.ends_well(&[]).await;
    });
}
