//! Finds what a crash, a lost message or a full channel left: overdue retries, parked events whose host has room, dead
//! letters that were not published, open events that nobody has in hand, and events whose retention has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::candidate::Token;
use crate::domain::event::{EventId, Partition};
use crate::handoff::{DeadLettered, Notice};
use crate::lease::{Held, Lease};
use crate::store::audit::{self, Looked};
use crate::store::line::{self, Overdue};
use crate::store::{outbox, retention, stray};
use crate::telemetry::transaction;

/// The pause between two sweeps.
const EVERY: Duration = Duration::from_secs(1);
/// A retry or dead letter that is late by this much has lost its message.
const LATE_MS: i64 = 2_000;
/// What one sweep picks up of each kind at most; the next one goes on behind it, so that what can't be helped hides nothing.
const AT_MOST: i64 = 1_000;
/// Hosts that one sweep names at most.
const HOSTS: i64 = 1_000;
/// The pause between two deletions of expired events, when the last one found all of them.
const RETENTION_EVERY: Duration = Duration::from_secs(10);

/// The sweeps.
pub struct Rescue {
    pool: PgPool,
    owned: watch::Receiver<Vec<Arc<Lease>>>,
    notices: mpsc::Sender<Notice>,
    dead_letters: mpsc::Sender<DeadLettered>,
    retention: Duration,
    /// Where the look through all open events is.
    round: Round,
    late: Late,
}

/// Behind which overdue retry, and behind which dead letter, the next sweep looks.
#[derive(Debug, Default)]
struct Late {
    retry: (i64, i64),
    letter: Option<EventId>,
}

/// Rounds through the open events, a few at a time.
#[derive(Debug)]
struct Round {
    /// A round begins behind this one: below it, nothing was open in the round before.
    from: EventId,
    /// The next look begins behind this one.
    at: EventId,
    count: u32,
}

impl Default for Round {
    fn default() -> Self {
        Self { from: EventId(0), at: EventId(0), count: 0 }
    }
}

impl Round {
    /// What is redriven has a low number: now and then, a round goes through all of them.
    const THOROUGH: u32 = 60;

    fn note(&mut self, span: Option<(EventId, EventId)>, more: bool) {
        if let Some((first, _)) = span.filter(|_| self.at == self.from) {
            self.from = EventId(first.0 - 1);
        }
        self.at = span.map_or(self.at, |(_, last)| last);
        if !more {
            self.count += 1;
            if self.count.is_multiple_of(Self::THOROUGH) {
                self.from = EventId(0);
            }
            self.at = self.from;
        }
    }
}

impl Rescue {
    /// Reads from the pool, for the partitions that are ours; what it finds goes to dispatch, and to those who publish dead
    /// letters. Finished events are kept for the retention time.
    #[must_use]
    pub fn new(
        pool: PgPool,
        owned: watch::Receiver<Vec<Arc<Lease>>>,
        notices: mpsc::Sender<Notice>,
        dead_letters: mpsc::Sender<DeadLettered>,
        retention: Duration,
    ) -> Self {
        Self { pool, owned, notices, dead_letters, retention, round: Round::default(), late: Late::default() }
    }

    /// Sweeps until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let retain = expire(self.pool.clone(), self.owned.clone(), self.retention);
        let sweep = async {
            loop {
                if let Err(error) = self.sweep().await {
                    tracing::debug!(%error, "a sweep failed; the next one follows");
                }
                // New partitions are looked through at once.
                let _ = tokio::time::timeout(EVERY, self.owned.changed()).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = retain => {}
            () = sweep => {}
        }
    }

    async fn sweep(&mut self) -> Result<(), sqlx::Error> {
        let held: HashMap<i32, Held> = {
            let owned = self.owned.borrow_and_update();
            owned.iter().filter_map(|lease| Some((lease.partition.0, lease.hold()?))).collect()
        };
        let partitions: Vec<i32> = held.keys().copied().collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let mut connection = self.pool.acquire().await?;
        let overdue = line::overdue(&mut connection, &partitions, LATE_MS, self.late.retry, AT_MOST);
        let overdue = transaction("overdue_retries", overdue).await?;
        self.late.retry = full(&overdue).map(Overdue::place).unwrap_or_default();
        let hosts = transaction("parked_hosts", line::parked_hosts(&mut connection, &partitions, HOSTS)).await?;
        let strays = transaction("strays", stray::any(&mut connection, &partitions)).await?;
        let looking = audit::look(&mut connection, &partitions, self.round.at);
        let Looked { suspects, span, more } = transaction("audit", looking).await?;
        self.round.note(span, more);
        drop(connection);
        let behind = self.late.letter.unwrap_or(EventId(0));
        let left = outbox::left_behind(&self.pool, &partitions, LATE_MS, behind, AT_MOST);
        let left = transaction("unpublished_dead_letters", left).await?;
        self.late.letter = full(&left).map(|(id, _)| *id);
        for (id, partition) in left {
            // What finds no room is found again.
            if let Some(held) = held.get(&partition) {
                let _ = self.dead_letters.try_send(DeadLettered { id, held: held.clone() });
            }
        }
        // Waiting for dispatch must not hold up a handover.
        drop(held);
        for Overdue { event_id, attempts, partition, entity, .. } in overdue {
            let token = Token { id: EventId(event_id), attempts: u16::try_from(attempts).unwrap_or_default() };
            let notice = Notice::Overdue(Partition(partition), entity.into(), token);
            let _ = self.notices.send(notice).await;
        }
        for host in hosts {
            let _ = self.notices.send(Notice::Parked(host)).await;
        }
        if strays {
            let _ = self.notices.send(Notice::Strays).await;
        }
        if !suspects.is_empty() {
            let _ = self.notices.send(Notice::Suspects(suspects)).await;
        }
        Ok(())
    }
}

/// The last of a look that found as many as it takes; after one that found fewer, the next begins anew.
fn full<T>(found: &[T]) -> Option<&T> {
    found.last().filter(|_| i64::try_from(found.len()).is_ok_and(|count| count >= AT_MOST))
}

/// Deletes what has expired. The owner of the first partition does so for all.
async fn expire(pool: PgPool, owned: watch::Receiver<Vec<Arc<Lease>>>, after: Duration) {
    loop {
        let first = owned.borrow().iter().find(|lease| lease.partition == Partition(0)).and_then(Lease::hold);
        let deleted = match &first {
            Some(_held) => transaction("expire", retention::sweep(&pool, after)).await,
            None => Ok(0),
        };
        // The pause must not hold up a handover.
        drop(first);
        match deleted {
            Ok(deleted) if i64::try_from(deleted) == Ok(retention::BATCH) => tokio::task::yield_now().await,
            Ok(_) => tokio::time::sleep(RETENTION_EVERY).await,
            Err(error) => {
                tracing::debug!(%error, "expired events could not be deleted; it is tried again");
                tokio::time::sleep(RETENTION_EVERY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_goes_through_all_and_begins_again_where_the_first_open_event_was() {
        let span = |first, last| Some((EventId(first), EventId(last)));
        let mut round = Round::default();
        round.note(span(500, 1_500), true);
        assert_eq!(round.at, EventId(1_500));
        round.note(span(1_502, 1_700), false);
        assert_eq!(round.at, EventId(499), "from the first on");
        round.note(span(900, 1_000), false);
        assert_eq!(round.at, EventId(899));
        round.note(None, false);
        assert_eq!(round.at, EventId(899), "nothing is open");
    }

    #[test]
    fn now_and_then_a_round_begins_at_the_very_first() {
        let mut round = Round::default();
        let from_the_first = (0..Round::THOROUGH * 2).filter(|_| {
            round.note(Some((EventId(500), EventId(501))), false);
            round.at == EventId(0)
        });
        assert_eq!(from_the_first.count(), 2);
    }
}
