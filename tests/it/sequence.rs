//! The producer's own numbers: gaps, passed and taken ones, and the first.

use crate::support::{Database, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, test};

#[test]
fn a_gap_holds_what_follows_and_its_filling_releases_it() {
    test(Load::Shared, async |world| {
        let line = Line::start(world, &[]).await;
        line.publish(&[1, 3, 4, 5]).await;
        line.pass_by().await;
        assert_eq!(line.arrived(), [1], "3, 4 and 5 wait for 2");
        line.publish(&[2]).await;
        line.wait_for(5).await;
        assert_eq!(line.arrived(), [1, 2, 3, 4, 5]);
        line.worker.stop().await;
    });
}

#[test]
fn a_gap_still_holds_after_a_restart() {
    test(Load::Shared, async |world| {
        let line = Line::start(world, &[]).await;
        line.publish(&[1, 2, 4, 5, 7]).await;
        line.pass_by().await;
        line.worker.stop().await;
        assert_eq!(line.arrived(), [1, 2]);

        let worker = Worker::start(world, &["--partitions", "1"]).await;
        line.pass_by().await;
        line.publish(&[3]).await;
        line.wait_for(5).await;
        assert_eq!(line.arrived(), [1, 2, 3, 4, 5], "7 waits for 6");
        line.publish(&[6]).await;
        line.wait_for(7).await;
        assert_eq!(line.arrived(), [1, 2, 3, 4, 5, 6, 7]);
        worker.stop().await;
    });
}

#[test]
fn a_gap_of_one_entity_holds_up_no_other() {
    test(Load::Shared, async |world| {
        let line = Line::start(world, &[]).await;
        line.publish(&(2..200).collect::<Vec<_>>()).await;
        line.pass_by().await;
        assert!(line.arrived().is_empty(), "1 is missing");
        line.worker.stop().await;
    });
}

#[test]
fn a_number_already_passed_is_dead_lettered() {
    test(Load::Shared, async |world| {
        let line = Line::start(world, &[]).await;
        let dead_letters = DeadLetters::open(world).await;
        line.publish(&[1, 2, 3]).await;
        line.wait_for(3).await;
        let late = Message::new("line", "late", &line.receiver.url()).sequence(2);
        line.producer.publish(&late).await;
        let letter = dead_letters.wait_for_key(SOON, "late").await;
        assert_eq!((letter.reason().as_str(), &letter.body), ("sequence_passed", &late.body));
        assert!(letter.detail().contains("sequence 2 was already passed"), "{}", letter.detail());
        line.publish(&[4]).await;
        line.wait_for(4).await;
        assert_eq!(line.arrived(), [1, 2, 3, 4], "the line goes on");
        line.worker.stop().await;
    });
}

#[test]
fn a_number_taken_by_another_key_is_dead_lettered() {
    test(Load::Shared, async |world| {
        let line = Line::start(world, &[]).await;
        let dead_letters = DeadLetters::open(world).await;
        line.publish(&[2]).await;
        let second = Message::new("line", "second-with-2", &line.receiver.url()).sequence(2);
        line.producer.publish(&second).await;
        let letter = dead_letters.wait_for_key(SOON, "second-with-2").await;
        assert_eq!(letter.reason(), "sequence_taken");
        assert!(letter.detail().contains("sequence 2 is already taken"), "{}", letter.detail());
        line.publish(&[1]).await;
        line.wait_for(2).await;
        assert_eq!(line.arrived(), [1, 2]);
        line.worker.stop().await;
    });
}

#[test]
fn an_entity_that_numbers_its_events_refuses_one_without_a_number() {
    test(Load::Shared, async |world| {
        let line = Line::start(world, &[]).await;
        let dead_letters = DeadLetters::open(world).await;
        line.publish(&[1]).await;
        line.wait_for(1).await;
        line.producer.publish(&Message::new("line", "no-number", &line.receiver.url())).await;
        let letter = dead_letters.wait_for_key(SOON, "no-number").await;
        assert_eq!(letter.reason(), "missing_sequence");
        line.worker.stop().await;
    });
}

#[test]
fn an_exhausted_event_lets_the_next_number_go() {
    test(Load::Shared, async |world| {
        let quick = ["--max-attempts", "2", "--backoff-initial", "100ms"];
        let line = Line::start(world, &quick).await;
        line.receiver.behave(|request| Reply::status(if request.sequence == Some(2) { 500 } else { 200 }));
        let dead_letters = DeadLetters::open(world).await;
        line.publish(&[3, 2, 1]).await;
        line.wait_for(2).await;
        let letter = dead_letters.wait_for_key(SOON, "line-2").await;
        assert_eq!(letter.reason(), "exhausted");
        line.worker.stop().await;
        assert_eq!(line.arrived(), [1, 2, 2, 3]);
    });
}

#[test]
fn a_line_may_begin_with_any_number_if_the_worker_is_told_so() {
    test(Load::Shared, async |world| {
        let line = Line::start(world, &["--first-sequence", "any"]).await;
        line.publish(&[57, 59]).await;
        line.pass_by().await;
        assert_eq!(line.arrived(), [57]);
        line.publish(&[58]).await;
        line.wait_for(3).await;
        assert_eq!(line.arrived(), [57, 58, 59]);
        line.worker.stop().await;
        let events = Database::connect(world).await.events().await;
        let numbers: Vec<_> =
            events.iter().filter(|event| event.entity == "line").map(|event| event.sequence).collect();
        assert_eq!(numbers, [Some(57), Some(58), Some(59)]);
    });
}

/// One entity with numbers, in one partition, so that another entity's event tells when all before it was ingested.
struct Line {
    receiver: Receiver,
    producer: Producer,
    worker: Worker,
    beside: Receiver,
}

impl Line {
    async fn start(world: &World, arguments: &[&str]) -> Self {
        let worker = Worker::start(world, &[&["--partitions", "1"], arguments].concat()).await;
        let producer = Producer::connect(world).await;
        Self { receiver: Receiver::healthy().await, producer, worker, beside: Receiver::healthy().await }
    }

    async fn publish(&self, numbers: &[i64]) {
        let message =
            |number: &i64| Message::new("line", &format!("line-{number}"), &self.receiver.url()).sequence(*number);
        self.producer.publish_all(&numbers.iter().map(message).collect::<Vec<_>>()).await;
    }

    /// Events of another entity go all the way, ten one after the other.
    async fn pass_by(&self) {
        let before = self.beside.log().delivered.len();
        for number in before..before + 10 {
            let key = format!("beside-{number}");
            self.producer.publish(&Message::new("beside", &key, &self.beside.url())).await;
            self.beside.wait_for_key(SOON, &key).await;
        }
    }

    async fn wait_for(&self, delivered: usize) {
        self.receiver.wait_for_delivered(SOON, delivered).await;
    }

    fn arrived(&self) -> Vec<i64> {
        self.receiver.attempts().iter().map(|attempt| attempt.sequence.expect("a number")).collect()
    }
}
