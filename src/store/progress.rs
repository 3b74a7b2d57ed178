//! Settlements, and what is recorded of attempts that did not succeed. Ends and beginnings are in
//! [`super::opening`]: they are part of almost every transaction.

use std::collections::HashSet;

use sqlx::PgConnection;

use super::sql::progress as sql;
use crate::domain::event::EventId;
use crate::domain::verdict::{Decision, Outcome};
use crate::handoff::Settlement;

/// The longest error text that a history keeps, in bytes.
const LONGEST_ERROR: usize = 1_024;

/// Records of settlements what the opening has not: events that go on waiting, what went wrong, and the outbox of dead
/// letters. Gives the events whose settlement is recorded: those that are final already (`finished`), and those that wait. Any
/// other, the store has otherwise, and nothing is recorded: a letter about an event that is not FAILED would be a lie.
///
/// # Errors
/// sqlx's.
pub async fn settle(
    connection: &mut PgConnection,
    settled: &[&Settlement],
    finished: Vec<EventId>,
) -> Result<HashSet<EventId>, sqlx::Error> {
    let mut recorded: HashSet<EventId> = finished.into_iter().collect();
    let waiting: Vec<&Settlement> = settled.iter().copied().filter(|s| !s.frees_the_line()).collect();
    recorded.extend(keep_waiting(connection, &waiting).await?);
    let has_failed = |settlement: &&Settlement| {
        let attempt_failed = !matches!(settlement.decision, Decision::Deliver | Decision::Withdraw(_));
        attempt_failed && recorded.contains(&settlement.candidate.id)
    };
    let failures: Vec<&Settlement> = settled.iter().copied().filter(has_failed).collect();
    record_failures(connection, &failures).await?;
    Ok(recorded)
}

/// Records `RETRY_WAIT` with its time, and FAILED events that hold their line.
async fn keep_waiting(connection: &mut PgConnection, waiting: &[&Settlement]) -> Result<Vec<EventId>, sqlx::Error> {
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, attempts) = ids_and_attempts(waiting);
    let states: Vec<&str> = waiting.iter().map(|settlement| settlement.state().name()).collect();
    let delays: Vec<Option<i64>> = waiting
        .iter()
        .map(|settlement| match settlement.decision {
            Decision::Retry(delay) | Decision::Withdraw(delay) => {
                Some(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX))
            }
            Decision::Deliver | Decision::Fail(_) | Decision::Hold(_) => None,
        })
        .collect();
    let unknown: Vec<bool> = waiting.iter().map(|settlement| settlement.outcome == Outcome::Unknown).collect();
    let withdrawn: Vec<bool> =
        waiting.iter().map(|settlement| matches!(settlement.decision, Decision::Withdraw(_))).collect();
    let withheld: Vec<Option<String>> = waiting.iter().map(|settlement| withheld(&settlement.outcome)).collect();
    let rows: Vec<(i64,)> = sqlx::query_as(sql::KEEP_WAITING)
        .bind(ids)
        .bind(attempts)
        .bind(states)
        .bind(delays)
        .bind(unknown)
        .bind(withdrawn)
        .bind(withheld)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|(id,)| EventId(id)).collect())
}

/// Keeps each failed attempt for the history.
async fn record_failures(connection: &mut PgConnection, failures: &[&Settlement]) -> Result<(), sqlx::Error> {
    if failures.is_empty() {
        return Ok(());
    }
    let (ids, attempts) = ids_and_attempts(failures);
    let took: Vec<Option<i32>> = failures
        .iter()
        .map(|settlement| settlement.took.map(|took| i32::try_from(took.as_millis()).unwrap_or(i32::MAX)))
        .collect();
    let described: Vec<Described> = failures.iter().map(|settlement| describe(&settlement.outcome)).collect();
    sqlx::query(sql::RECORD_FAILURES)
        .bind(ids)
        .bind(attempts)
        .bind(took)
        .bind(described.iter().map(|described| described.status).collect::<Vec<_>>())
        .bind(described.iter().map(|described| described.answer.as_deref()).collect::<Vec<_>>())
        .bind(described.iter().map(|described| described.error.as_deref()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    enter_outbox(connection, failures).await
}

/// Puts FAILED events into the outbox of the dead-letter exchange.
async fn enter_outbox(connection: &mut PgConnection, failures: &[&Settlement]) -> Result<(), sqlx::Error> {
    let dead: Vec<(i64, i32, &str)> = failures
        .iter()
        .filter_map(|settlement| {
            let (failure, candidate) = (settlement.decision.failure()?, &settlement.candidate);
            Some((candidate.id.0, candidate.event.partition.0, failure.code()))
        })
        .collect();
    if dead.is_empty() {
        return Ok(());
    }
    sqlx::query(sql::ENTER_OUTBOX)
        .bind(dead.iter().map(|(id, _, _)| *id).collect::<Vec<_>>())
        .bind(dead.iter().map(|(_, partition, _)| *partition).collect::<Vec<_>>())
        .bind(dead.iter().map(|(_, _, reason)| *reason).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

/// Numbers of events, and of the attempts that are settled.
#[must_use]
pub fn ids_and_attempts(settled: &[&Settlement]) -> (Vec<i64>, Vec<i16>) {
    settled.iter().map(|s| (s.candidate.id.0, small(s.candidate.attempts))).unzip()
}

/// What a failed attempt leaves in the history.
#[derive(Default)]
struct Described {
    status: Option<i16>,
    answer: Option<String>,
    error: Option<String>,
}

fn describe(outcome: &Outcome) -> Described {
    match outcome {
        Outcome::Response { status, excerpt, .. } => {
            let answer = Some(excerpt).filter(|text| !text.is_empty()).map(|text| printable(text));
            Described { status: Some(small(*status)), answer, error: None }
        }
        Outcome::NoResponse(error) => Described { error: Some(printable(&error.to_string())), ..Described::default() },
        Outcome::Unknown => {
            let error = "outcome unknown: the worker stopped or lost its lease during the attempt";
            Described { error: Some(error.into()), ..Described::default() }
        }
        Outcome::Forbidden(why) => {
            let error = format!("not sent: the destination is forbidden ({}): {why}", why.verdict.code());
            Described { error: Some(printable(&error)), ..Described::default() }
        }
        // It is withdrawn, and leaves nothing in the history.
        Outcome::NotSent(_) => Described::default(),
    }
}

/// Why an attempt was not sent, if a person has to know.
fn withheld(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::NotSent(not_sent) => not_sent.why().map(|why| printable(&why)),
        Outcome::Response { .. } | Outcome::NoResponse(_) | Outcome::Unknown | Outcome::Forbidden(_) => None,
    }
}

/// Postgres takes no NUL in text.
fn printable(text: &str) -> String {
    let mut end = text.len().min(LONGEST_ERROR);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}

/// Attempts are at most 1,000, statuses at most 999.
#[must_use]
pub fn small(number: u16) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}
