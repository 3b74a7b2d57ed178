//! Recording arrivals: the facts that the rules need, and what they decide.

use std::collections::HashMap;

use sqlx::{Connection as _, PgConnection};

use super::floor::Floors;
use super::operator;
use super::position::{REDRIVEN, UNNUMBERED};
use super::sql::admit as sql;
use super::stray;
use crate::domain::admission::{self, Admission, FirstSequence, Line, Recorded};
use crate::domain::event::{Digest, Entity, EventId, IdempotencyKey, Partition, Sequence};
use crate::domain::poison::Poison;
use crate::engine::command::{Admitted, Place};
use crate::handoff::Arrival;

/// One of the keys is recorded already: begin again, with a look at them.
#[derive(Debug)]
pub struct Collision;

/// Whether keys are looked up before they are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// They are: what was recorded before is known as a duplicate or a conflict.
    LookUp,
    /// They are thought to be new, as almost all are: the table's own index finds those that are not.
    TakeAsNew,
}

/// Tries each arrival by itself, and marks those that the database refuses for their content. True if there is any.
///
/// # Errors
/// sqlx's, if the database can't be asked.
pub async fn mark_unstorable(
    connection: &mut PgConnection,
    arrivals: impl Iterator<Item = &mut Arrival>,
) -> Result<bool, sqlx::Error> {
    let mut any = false;
    for arrival in arrivals.filter(|arrival| arrival.unstorable.is_none()) {
        let joins = Admission::Join { head: true, others_open: false, home: arrival.event.partition, unseen: false };
        let decided = [Admitted { admission: joins, id: None }];
        let mut trial = connection.begin().await?;
        let tried = insert(&mut trial, &[&*arrival], &decided, &[0]).await;
        trial.rollback().await?;
        match tried {
            Ok(_) => {}
            Err(error) if super::is_transient(&error) => return Err(error),
            Err(error) => {
                arrival.unstorable = Some(super::explain(&error));
                any = true;
            }
        }
    }
    Ok(any)
}

/// Decides on the arrivals, in their order, and records those that join. The transaction's opening has locked their entities.
///
/// # Errors
/// sqlx's.
pub async fn admit(
    connection: &mut PgConnection,
    arrivals: &[&Arrival],
    first: FirstSequence,
    keys: Keys,
    floors: &Floors,
) -> Result<Result<Vec<Admitted>, Collision>, sqlx::Error> {
    let mut recorded = match keys {
        Keys::LookUp => recorded_events(connection, arrivals).await?,
        Keys::TakeAsNew => HashMap::new(),
    };
    redrive_sent_back(connection, arrivals, &recorded, first).await?;
    let mut lines = lines(connection, arrivals, floors).await?;
    let mut decided: Vec<Admitted> = Vec::with_capacity(arrivals.len());
    for arrival in arrivals {
        let event = &arrival.event;
        let line = lines.entry(event.entity.clone()).or_default();
        let known = recorded.get(&event.key).copied();
        let admission = match &arrival.unstorable {
            Some(why) => Admission::Reject(Poison::Unstorable(why.clone())),
            None => admission::admit(line, known.map(|(_, recorded)| recorded), arrival.newcomer(), first),
        };
        if matches!(admission, Admission::Join { .. }) {
            let joined = Recorded { digest: arrival.digest, has_failed: false };
            recorded.insert(event.key.clone(), (None, joined));
        }
        if let (Admission::Redrive, Some((Some(id), _))) = (&admission, known) {
            // Another one in the same transaction finds it open.
            recorded.insert(event.key.clone(), (Some(id), Recorded { digest: arrival.digest, has_failed: false }));
        }
        decided.push(Admitted { admission, id: None });
    }
    let is_by_rule = |(admitted, arrival): (&Admitted, &&Arrival)| {
        matches!(admitted.admission, Admission::Reject(_)) && arrival.unstorable.is_none()
    };
    if keys == Keys::TakeAsNew && decided.iter().zip(arrivals).any(is_by_rule) {
        // A duplicate of something that is over is none of these.
        return Ok(Err(Collision));
    }
    let joining: Vec<usize> =
        (0..decided.len()).filter(|&i| matches!(decided[i].admission, Admission::Join { .. })).collect();
    if joining.is_empty() {
        return Ok(Ok(decided));
    }
    begin_numbering(connection, arrivals, &joining, &lines).await?;
    let ids = insert(connection, arrivals, &decided, &joining).await?;
    if ids.len() != joining.len() {
        return Ok(Err(Collision));
    }
    for (index, id) in joining.into_iter().zip(ids) {
        decided[index].id = Some(id);
    }
    note_strays(connection, arrivals, &decided).await?;
    Ok(Ok(decided))
}

/// The partition that an arrival's line is in.
fn home_of(arrival: &Arrival, decided: &Admitted) -> Partition {
    match decided.admission {
        Admission::Join { home, .. } => home,
        Admission::Duplicate | Admission::Redrive | Admission::Reject(_) => arrival.event.partition,
    }
}

async fn note_strays(
    connection: &mut PgConnection,
    arrivals: &[&Arrival],
    decided: &[Admitted],
) -> Result<(), sqlx::Error> {
    let strays = arrivals.iter().zip(decided).filter_map(|(arrival, admitted)| {
        let home = home_of(arrival, admitted);
        (home != arrival.event.partition).then_some((admitted.id?.0, home.0, arrival.event.entity.as_str()))
    });
    stray::note(connection, &strays.collect::<Vec<_>>()).await
}

/// What is recorded under keys, and its number if that was so before this transaction.
type ByKey = HashMap<IdempotencyKey, (Option<EventId>, Recorded)>;

/// Redrives events that have failed and whose dead letters come in. This is done before the lines are looked at: an event that
/// comes in with such a letter joins the line that is opened here, and goes behind what is redriven.
async fn redrive_sent_back(
    connection: &mut PgConnection,
    arrivals: &[&Arrival],
    recorded: &ByKey,
    first: FirstSequence,
) -> Result<(), sqlx::Error> {
    for arrival in arrivals.iter().filter(|arrival| arrival.unstorable.is_none()) {
        let Some((Some(id), known)) = recorded.get(&arrival.event.key).copied() else { continue };
        // Of what is recorded, the line has no say in it.
        let admission = admission::admit(&mut Line::default(), Some(known), arrival.newcomer(), first);
        if admission == Admission::Redrive {
            operator::redrive(connection, id).await?;
        }
    }
    Ok(())
}

/// What is recorded under the arrivals' keys.
async fn recorded_events(connection: &mut PgConnection, arrivals: &[&Arrival]) -> Result<ByKey, sqlx::Error> {
    let keys: Vec<&str> = arrivals.iter().map(|arrival| arrival.event.key.as_str()).collect();
    let rows: Vec<(i64, String, Vec<u8>, bool)> =
        sqlx::query_as(sql::RECORDED_EVENTS).bind(keys).fetch_all(connection).await?;
    let recorded = rows.into_iter().map(|(id, key, digest, has_failed)| {
        let digest = Digest(digest.try_into().unwrap_or_default());
        (key.into(), (Some(EventId(id)), Recorded { digest, has_failed }))
    });
    Ok(recorded.collect())
}

type Lines = HashMap<Entity, Line>;
/// An entity, the number that it waits for, position and partition of the first of its open events, and whether the owner of
/// its line has yet to look at one of them.
type LineRow = (String, Option<i64>, Option<i64>, Option<i32>, bool);

/// What is recorded of the arrivals' entities.
async fn lines(connection: &mut PgConnection, arrivals: &[&Arrival], floors: &Floors) -> Result<Lines, sqlx::Error> {
    let mut lines: Lines = HashMap::new();
    for arrival in arrivals {
        lines.entry(arrival.event.entity.clone()).or_default();
    }
    let entities: Vec<&str> = lines.keys().map(Entity::as_str).collect();
    let (positions, ids) = floors.of(lines.keys());
    let rows: Vec<LineRow> = sqlx::query_as(sql::LINES)
        .bind(&entities)
        .bind(REDRIVEN)
        .bind(positions)
        .bind(ids)
        .fetch_all(&mut *connection)
        .await?;
    for (entity, next, first_position, partition, unseen) in rows {
        let line = lines.entry(entity.into()).or_default();
        line.next = next.map(Sequence);
        line.home = partition.map(Partition);
        line.unseen = unseen;
        line.unnumbered_open = first_position.is_some_and(|position| position <= UNNUMBERED);
    }
    note_taken(connection, arrivals, &mut lines).await?;
    Ok(lines)
}

/// Notes which of the arrivals' numbers open events hold.
async fn note_taken(
    connection: &mut PgConnection,
    arrivals: &[&Arrival],
    lines: &mut Lines,
) -> Result<(), sqlx::Error> {
    let numbered = arrivals.iter().filter_map(|a| Some((a.event.entity.as_str(), a.event.sequence?.0)));
    let (entities, positions): (Vec<&str>, Vec<i64>) = numbered.unzip();
    if positions.is_empty() {
        return Ok(());
    }
    let rows: Vec<(String, i64)> =
        sqlx::query_as(sql::TAKEN_NUMBERS).bind(entities).bind(positions).fetch_all(connection).await?;
    for (entity, position) in rows {
        lines.entry(entity.into()).or_default().taken.insert(Sequence(position));
    }
    Ok(())
}

/// Records the first number of entities that begin to use them.
async fn begin_numbering(
    connection: &mut PgConnection,
    arrivals: &[&Arrival],
    joining: &[usize],
    lines: &Lines,
) -> Result<(), sqlx::Error> {
    let mut first: HashMap<&Entity, i64> = HashMap::new();
    for &index in joining {
        let event = &arrivals[index].event;
        if let (Some(_), Some(next)) = (event.sequence, lines.get(&event.entity).and_then(|line| line.next)) {
            first.insert(&event.entity, next.0);
        }
    }
    if first.is_empty() {
        return Ok(());
    }
    let (entities, numbers): (Vec<&str>, Vec<i64>) = first.iter().map(|(e, n)| (e.as_str(), *n)).unzip();
    sqlx::query(sql::BEGIN_NUMBERING).bind(entities).bind(numbers).execute(connection).await.map(drop)
}

/// Inserts the joining arrivals in their order. Gives their numbers in that order, without those of keys that are recorded
/// already.
async fn insert(
    connection: &mut PgConnection,
    arrivals: &[&Arrival],
    decided: &[Admitted],
    joining: &[usize],
) -> Result<Vec<EventId>, sqlx::Error> {
    let events = || joining.iter().map(|&index| arrivals[index].event.as_ref());
    let parked = joining.iter().map(|&index| {
        arrivals[index].place == Place::Store && matches!(decided[index].admission, Admission::Join { head: true, .. })
    });
    let mut ids: Vec<i64> = sqlx::query_scalar(sql::INSERT_EVENTS)
        .bind(events().map(|event| event.key.as_str()).collect::<Vec<_>>())
        .bind(joining.iter().map(|&index| arrivals[index].digest.0.as_slice()).collect::<Vec<_>>())
        .bind(joining.iter().map(|&index| home_of(arrivals[index], &decided[index]).0).collect::<Vec<_>>())
        .bind(events().map(|event| event.entity.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.sequence.map_or(UNNUMBERED, |s| s.0)).collect::<Vec<_>>())
        .bind(events().map(|event| event.destination.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.properties.as_ref()).collect::<Vec<_>>())
        .bind(events().map(|event| event.body.as_ref()).collect::<Vec<_>>())
        .bind(events().map(|event| event.trace.as_ref().and_then(|trace| trace.to_str().ok())).collect::<Vec<_>>())
        .bind(events().map(|event| event.host.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| i32::try_from(event.body.len()).unwrap_or(i32::MAX)).collect::<Vec<_>>())
        .bind(parked.collect::<Vec<_>>())
        .bind(joining.iter().map(|&index| decided[index].begins(arrivals[index])).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    ids.sort_unstable();
    Ok(ids.into_iter().map(EventId).collect())
}
