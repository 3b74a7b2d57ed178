//! May an event join its entity's line, and is it the one to go next? Answered for every arrival, from recorded facts.

use std::collections::HashSet;

use super::event::{Digest, Partition, Sequence};
use super::poison::Poison;

/// Which number an entity's line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSequence {
    /// Number 1.
    One,
    /// Whatever comes first.
    Any,
}

/// What is recorded of an entity, and what the arrivals before this one in the same transaction add to it.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// The number that the entity waits for; none for an entity that does not number its events.
    pub next: Option<Sequence>,
    /// Whether the entity has an open event without a number.
    pub unnumbered_open: bool,
    /// The partition of the entity's open events; none if it has no open event. All of them are in one: whoever owns it
    /// keeps their order.
    pub home: Option<Partition>,
    /// An open event has come in by another partition's queue, and the owner of the line has not looked at it.
    pub unseen: bool,
    /// Those numbers of open events that this transaction asked for.
    pub taken: HashSet<Sequence>,
}

/// What is recorded under an arrival's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Of its content.
    pub digest: Digest,
    /// It ended FAILED.
    pub has_failed: bool,
}

/// What becomes of an arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is recorded.
    Join {
        /// Nothing of its entity has to become final before it.
        head: bool,
        /// The entity has other open events.
        others_open: bool,
        /// Where its line is: the partition that it came by, unless the entity has open events elsewhere.
        home: Partition,
        /// Another open event may be in front of it that the owner of the line has not seen.
        unseen: bool,
    },
    /// It is recorded already: nothing to do.
    Duplicate,
    /// It is recorded and has failed, and its dead letter was sent back: it is redriven.
    Redrive,
    /// It is dead-lettered.
    Reject(Poison),
}

/// What the rules ask of an arrival.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// Its number, if it has one.
    pub sequence: Option<Sequence>,
    /// Of its content.
    pub digest: Digest,
    /// The partition that it came by.
    pub came_by: Partition,
    /// It is a dead letter of ours that somebody has sent back.
    pub is_sent_back: bool,
}

/// Decides on one arrival, and notes in `line` what follows for the next.
pub fn admit(line: &mut Line, recorded: Option<Recorded>, newcomer: Newcomer, first: FirstSequence) -> Admission {
    let Newcomer { sequence, digest, came_by, is_sent_back } = newcomer;
    if let Some(Recorded { digest: earlier, has_failed }) = recorded {
        return match (earlier == digest, has_failed) {
            (false, _) => Admission::Reject(Poison::Conflict { earlier, now: digest }),
            (true, false) => Admission::Duplicate,
            (true, true) if is_sent_back => Admission::Redrive,
            // To drop it would be to say that it was delivered.
            (true, true) => Admission::Reject(Poison::AlreadyFailed),
        };
    }
    match sequence {
        None => line.join_unnumbered(came_by),
        Some(sequence) => line.join_numbered(sequence, first, came_by),
    }
}

impl Line {
    fn join_unnumbered(&mut self, came_by: Partition) -> Admission {
        if self.next.is_some() {
            return Admission::Reject(Poison::Unnumbered);
        }
        let others_open = self.home.is_some();
        self.unnumbered_open = true;
        let (home, unseen) = (*self.home.get_or_insert(came_by), self.unseen);
        Admission::Join { head: !others_open, others_open, home, unseen }
    }

    fn join_numbered(&mut self, sequence: Sequence, first: FirstSequence, came_by: Partition) -> Admission {
        let next = self.next.unwrap_or(match first {
            FirstSequence::One => Sequence(1),
            FirstSequence::Any => sequence,
        });
        if sequence < next {
            return Admission::Reject(Poison::SequencePassed { sequence, next });
        }
        if !self.taken.insert(sequence) {
            return Admission::Reject(Poison::SequenceTaken(sequence));
        }
        let others_open = self.home.is_some();
        self.next = Some(next);
        let home = *self.home.get_or_insert(came_by);
        // Events from before the entity began to number them go first.
        let unseen = self.unseen;
        Admission::Join { head: sequence == next && !self.unnumbered_open, others_open, home, unseen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest([1; 32]);
    const B: Digest = Digest([2; 32]);

    const HERE: Partition = Partition(3);

    fn join(head: bool, others_open: bool) -> Admission {
        Admission::Join { head, others_open, home: HERE, unseen: false }
    }

    const NEW: Newcomer = Newcomer { sequence: None, digest: A, came_by: HERE, is_sent_back: false };

    fn numbered(line: &mut Line, sequence: i64, first: FirstSequence) -> Admission {
        admit(line, None, Newcomer { sequence: Some(Sequence(sequence)), ..NEW }, first)
    }

    #[test]
    fn the_same_key_is_a_duplicate_only_with_the_same_content() {
        let line = &mut Line::default();
        let known = Some(Recorded { digest: A, has_failed: false });
        assert_eq!(admit(line, known, NEW, FirstSequence::One), Admission::Duplicate);
        let conflict = Admission::Reject(Poison::Conflict { earlier: A, now: B });
        assert_eq!(admit(line, known, Newcomer { digest: B, ..NEW }, FirstSequence::One), conflict);
        assert!(line.home.is_none(), "neither joins the line");
    }

    #[test]
    fn one_that_has_failed_and_comes_again_is_told_or_redriven_and_never_dropped() {
        let line = &mut Line::default();
        let failed = Some(Recorded { digest: A, has_failed: true });
        assert_eq!(admit(line, failed, NEW, FirstSequence::One), Admission::Reject(Poison::AlreadyFailed));
        let sent_back = Newcomer { is_sent_back: true, ..NEW };
        assert_eq!(admit(line, failed, sent_back, FirstSequence::One), Admission::Redrive);
        let conflict = Admission::Reject(Poison::Conflict { earlier: A, now: B });
        assert_eq!(admit(line, failed, Newcomer { digest: B, ..sent_back }, FirstSequence::One), conflict);
        let delivered = Some(Recorded { digest: A, has_failed: false });
        assert_eq!(admit(line, delivered, sent_back, FirstSequence::One), Admission::Duplicate);
        assert!(line.home.is_none(), "none joins the line");
    }

    #[test]
    fn without_numbers_the_first_arrival_is_the_head() {
        let line = &mut Line::default();
        assert_eq!(admit(line, None, NEW, FirstSequence::One), join(true, false));
        assert_eq!(admit(line, None, NEW, FirstSequence::One), join(false, true));
    }

    #[test]
    fn with_numbers_only_the_next_one_is_the_head() {
        let line = &mut Line::default();
        assert_eq!(numbered(line, 3, FirstSequence::One), join(false, false));
        assert_eq!(numbered(line, 1, FirstSequence::One), join(true, true));
        assert_eq!(numbered(line, 2, FirstSequence::One), join(false, true));
        let taken = Admission::Reject(Poison::SequenceTaken(Sequence(2)));
        assert_eq!(numbered(line, 2, FirstSequence::One), taken);
    }

    #[test]
    fn a_passed_number_is_rejected() {
        let line = &mut Line { next: Some(Sequence(8)), ..Line::default() };
        let passed =
            |sequence| Admission::Reject(Poison::SequencePassed { sequence: Sequence(sequence), next: Sequence(8) });
        assert_eq!(numbered(line, 7, FirstSequence::One), passed(7));
        assert_eq!(numbered(line, 0, FirstSequence::Any), passed(0));
        assert_eq!(numbered(line, 8, FirstSequence::One), join(true, false));
    }

    #[test]
    fn the_first_number_is_one_or_whatever_comes_first() {
        assert_eq!(numbered(&mut Line::default(), 57, FirstSequence::One), join(false, false));
        assert_eq!(numbered(&mut Line::default(), 57, FirstSequence::Any), join(true, false));
        assert_eq!(numbered(&mut Line::default(), 0, FirstSequence::Any), join(true, false));
        let passed = Poison::SequencePassed { sequence: Sequence(0), next: Sequence(1) };
        assert_eq!(numbered(&mut Line::default(), 0, FirstSequence::One), Admission::Reject(passed));
    }

    #[test]
    fn an_entity_that_uses_numbers_refuses_events_without() {
        let line = &mut Line { next: Some(Sequence(2)), ..Line::default() };
        assert_eq!(admit(line, None, NEW, FirstSequence::One), Admission::Reject(Poison::Unnumbered));
    }

    #[test]
    fn an_entity_that_begins_to_number_sends_the_older_events_first() {
        let line = &mut Line { unnumbered_open: true, home: Some(HERE), ..Line::default() };
        assert_eq!(numbered(line, 1, FirstSequence::One), join(false, true));
    }

    #[test]
    fn an_event_joins_its_entitys_line_wherever_that_is() {
        let elsewhere = Partition(8);
        let line = &mut Line::default();
        assert_eq!(admit(line, None, NEW, FirstSequence::One), join(true, false));
        assert_eq!(admit(line, None, Newcomer { came_by: elsewhere, ..NEW }, FirstSequence::One), join(false, true));
        let line = &mut Line { home: Some(elsewhere), next: Some(Sequence(4)), ..Line::default() };
        let fills_the_gap = Admission::Join { head: true, others_open: true, home: elsewhere, unseen: false };
        assert_eq!(numbered(line, 4, FirstSequence::One), fills_the_gap);
    }
}
