//! An operator's decisions on FAILED events.

use sqlx::PgConnection;
use url::Url;

use super::position::{REDRIVEN, UNNUMBERED};
use crate::domain::contract::host_of;
use crate::domain::event::{EventId, Host};
use crate::domain::operator::{Decided, Verb};

/// Carries out a decision. An event that is not FAILED (any more), or has become so once more, is left as it is.
///
/// # Errors
/// sqlx's.
pub async fn carry_out(connection: &mut PgConnection, decided: &Decided) -> Result<(), sqlx::Error> {
    let meant: (bool,) = sqlx::query_as(
        "select $2::int8 is null or exists (select from dead_letter where event_id = $1 \
         and (extract(epoch from failed_at) * 1000000)::int8 = $2)",
    )
    .bind(decided.id.0)
    .bind(decided.failed_us)
    .fetch_one(&mut *connection)
    .await?;
    match decided.verb {
        _ if !meant.0 => Ok(()),
        Verb::Redrive => redrive(connection, decided.id).await,
        Verb::Skip => skip(connection, decided.id).await,
    }
}

/// A held event goes on where it stands. One that its entity has gone past comes before all that is still open; it has
/// no place among the numbers any more.
///
/// # Errors
/// sqlx's.
pub async fn redrive(connection: &mut PgConnection, id: EventId) -> Result<(), sqlx::Error> {
    let held = sqlx::query(
        "with again as (update open_event set state = 'PENDING', attempts = 0, unknown = 0, \
         changed_at = clock_timestamp() where event_id = $1 and state = 'FAILED' \
         returning event_id, partition, entity) \
         insert into stray (event_id, partition, entity) select event_id, partition, entity from again \
         on conflict do nothing",
    )
    .bind(id.0)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    // As for an arrival: its entity's line may be elsewhere by now, or about to be.
    let destination: Option<(String,)> = sqlx::query_as(
        "select destination from event, pg_advisory_xact_lock(hashtextextended(entity, 0)) where id = $1",
    )
    .bind(id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let host = destination.and_then(|(destination,)| Some(host_of(&Url::parse(&destination).ok()?)));
    let passed = match host {
        Some(host) => open_again(connection, id, &host).await?,
        None => 0,
    };
    if held + passed > 0 {
        for statement in
            ["delete from failed_attempt where event_id = $1", "delete from dead_letter where event_id = $1"]
        {
            sqlx::query(statement).bind(id.0).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Opens an event that was final. Nothing if its retention has ended in the meantime: the end of its retention takes the same
/// row away.
async fn open_again(connection: &mut PgConnection, id: EventId, host: &Host) -> Result<u64, sqlx::Error> {
    let opened = sqlx::query(
        "with again as (delete from final_event where event_id = $1 and state = 'FAILED' returning event_id), \
         opened as (insert into open_event (event_id, partition, entity, position, host, body_bytes) \
         select e.id, coalesce((select o.partition from open_event o where o.entity = e.entity limit 1), e.partition), \
         e.entity, $2, $3, octet_length(e.body) from again a join event e on e.id = a.event_id \
         returning event_id, partition, entity) \
         insert into stray (event_id, partition, entity) select event_id, partition, entity from opened \
         on conflict do nothing",
    )
    .bind(id.0)
    .bind(REDRIVEN)
    .bind(host.as_str())
    .execute(connection)
    .await?;
    Ok(opened.rows_affected())
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
