//! An operator's decisions on FAILED events.

use sqlx::PgConnection;

use super::admit::UNNUMBERED;
use crate::domain::event::EventId;

/// What an operator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Send it again, with all its attempts: FAILED → PENDING.
    Redrive,
    /// Let its entity go on without it.
    Skip,
}

/// Carries out a decision. An event that is not FAILED (any more) is left as it is.
///
/// # Errors
/// sqlx's.
pub async fn carry_out(connection: &mut PgConnection, id: EventId, verb: Verb) -> Result<(), sqlx::Error> {
    match verb {
        Verb::Redrive => redrive(connection, id).await,
        Verb::Skip => skip(connection, id).await,
    }
}

/// A held event goes on where it stands. One that its entity has gone past comes before all that is still open; it has
/// no place among the numbers any more.
async fn redrive(connection: &mut PgConnection, id: EventId) -> Result<(), sqlx::Error> {
    let held = sqlx::query(
        "update open_event set state = 'PENDING', attempts = 0, changed_at = clock_timestamp() \
         where event_id = $1 and state = 'FAILED'",
    )
    .bind(id.0)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    // As for an arrival: its entity's line may be elsewhere by now, or about to be.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended(entity, 0)) from event where id = $1")
        .bind(id.0)
        .execute(&mut *connection)
        .await?;
    let passed = sqlx::query(
        "with again as (delete from final_event where event_id = $1 and state = 'FAILED' returning event_id), \
         opened as (insert into open_event (event_id, partition, entity, position, host, body_bytes) \
         select e.id, coalesce((select o.partition from open_event o where o.entity = e.entity limit 1), e.partition), \
         e.entity, $2, h.host, octet_length(e.body) from again a join event e \
         on e.id = a.event_id, lateral (select coalesce((regexp_match(e.destination, \
         '^[a-z]+://(?:[^/?#@]*@)?([^/?#]*)'))[1], '') as host) h returning event_id, partition, entity) \
         insert into stray (event_id, partition, entity) select event_id, partition, entity from opened",
    )
    .bind(id.0)
    .bind(UNNUMBERED)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if held + passed > 0 {
        for statement in
            ["delete from failed_attempt where event_id = $1", "delete from dead_letter where event_id = $1"]
        {
            sqlx::query(statement).bind(id.0).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

async fn skip(connection: &mut PgConnection, id: EventId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with gone as (delete from open_event where event_id = $1 and state = 'FAILED' \
         returning event_id, attempts, entity, position), \
         advanced as (update entity_sequence s set next_sequence = g.position + 1 from gone g \
         where g.position <> $2 and s.entity = g.entity and s.next_sequence = g.position) \
         insert into final_event (event_id, state, attempts) select event_id, 'FAILED', attempts from gone",
    )
    .bind(id.0)
    .bind(UNNUMBERED)
    .execute(connection)
    .await
    .map(drop)
}
