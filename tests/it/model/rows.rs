//! All rows, as lines of text: those of the store, and those of the model.

use onceward::simulator::store::Store;
use sqlx::postgres::PgConnection;

/// A row: its table, the event's or the partition's number, the rest of it, and of a letter when its event failed.
type Row = (String, i64, String, i64);

const ALL: &str = "
    select 'event', id, concat_ws(' ', idempotency_key, partition, entity), 0::int8
    from event
    union all
    select 'open', event_id, concat_ws(' ', partition, entity, position, host, state, attempts, unknown,
        'parked', parked::text, 'due', (due_at is not null)::text), 0
    from open_event
    union all
    select 'final', event_id, concat_ws(' ', state, attempts), 0
    from final_event
    union all
    select 'failed', event_id, attempt::text, 0
    from failed_attempt
    union all
    select 'letter', event_id, concat_ws(' ', partition, reason, 'published', (published_at is not null)::text),
        (extract(epoch from failed_at) * 1000000)::int8
    from dead_letter
    union all
    select 'sequence', 0, concat_ws(' ', entity, next_sequence), 0
    from entity_sequence
    union all
    select 'stray', event_id, concat_ws(' ', partition, entity), 0
    from stray
    union all
    select 'partition', id, concat_ws(' ', coalesce(owner::text, 'nobody'), epoch, graceful::text), 0
    from partition
    union all
    select 'member', (extract(epoch from expires_at) * 1000000)::int8, concat_ws(' ', id, host_cap, host_share, lease_ms,
        'leaving', leaving::text, 'gone', (gone is not distinct from expires_at)::text), 0
    from member";

/// What the store has. The model learns when an event failed by the store's clock: decisions and letters name that.
pub async fn stored(connection: &mut PgConnection, model: &mut Store) -> Vec<String> {
    let rows: Vec<Row> = sqlx::query_as(ALL).fetch_all(connection).await.expect("the rows");
    let line = |(table, id, rest, failed_us): Row| {
        if let Some(letter) = model.letters.iter_mut().find(|(letter, _)| table == "letter" && letter.0 == id) {
            letter.1.failed_us = failed_us;
        }
        format!("{table} {id} {rest}")
    };
    rows.into_iter().map(line).collect()
}

/// What the model has.
pub fn modelled(model: &Store) -> Vec<String> {
    let mut rows = Vec::new();
    for (id, kept) in &model.events {
        rows.push(format!("event {id} {} {} {}", kept.event.key, kept.partition, kept.event.entity));
    }
    for (id, open) in &model.open {
        let (position, host, state) = (open.position, &open.host, open.state);
        let counts = (open.attempts, open.unknown, open.parked, open.due.is_some());
        let (attempts, unknown, parked, due) = counts;
        let place = format!("{} {} {position} {host} {state}", open.partition, open.entity);
        rows.push(format!("open {id} {place} {attempts} {unknown} parked {parked} due {due}"));
    }
    rows.extend(model.finals.iter().map(|(id, last)| format!("final {id} {} {}", last.state, last.attempts)));
    rows.extend(model.failed.iter().map(|(id, attempt)| format!("failed {id} {attempt}")));
    for (id, letter) in &model.letters {
        rows.push(format!("letter {id} {} {} published {}", letter.partition, letter.reason, letter.published));
    }
    rows.extend(model.sequences.iter().map(|(entity, next)| format!("sequence 0 {entity} {next}")));
    rows.extend(model.strays.iter().map(|(id, (partition, entity))| format!("stray {id} {partition} {entity}")));
    for (number, owned) in model.partitions.iter().enumerate() {
        let owner = owned.owner.map_or("nobody".into(), |owner| owner.to_string());
        rows.push(format!("partition {number} {owner} {} {}", owned.epoch, owned.graceful));
    }
    for (id, row) in &model.members {
        let (cap, share, lease) = (row.host_cap, row.host_share, row.lease.as_millis());
        let is_gone = row.gone == Some(row.renewal);
        let standing = format!("leaving {} gone {is_gone}", row.leaving);
        rows.push(format!("member {} {id} {cap} {share} {lease} {standing}", row.renewal));
    }
    rows
}
