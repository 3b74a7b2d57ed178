//! A drain on top of everything that was delivered before, against one on an empty database.

use onceward::config::SecretUrl;

use super::super::drain::Spec;
use super::super::results::Results;
use super::super::servers::execute;
use super::super::world::{create_database, drop_database, name, with_path};
use super::super::{Bench, Fallible};
use super::measure;

const FINISHED: u32 = 10_000_000;
/// One statement would write its log faster than checkpoints come, and say nothing for minutes.
const PIECE: u32 = 500_000;

pub async fn run(bench: &Bench, results: &mut Results) -> Fallible<()> {
    let database = name();
    create_database(&bench.servers, &database).await?;
    let url: SecretUrl = with_path(&bench.servers.database, &database).parse()?;
    fill(bench, &url).await?;
    for run in 0..bench.settings.runs {
        let mut rates = Vec::new();
        for (case, database) in [("empty", None), ("10 million finished", Some(database.clone()))] {
            let spec = Spec { database, ..bench.plain() };
            rates.push(measure(bench, results, ("history", case, run), &spec).await?.rate());
        }
        if let [empty, full] = rates[..] {
            results.add("history", "", "speed against an empty database", "ratio", full / empty);
        }
    }
    drop_database(&bench.servers, &database).await
}

/// Events as a worker would have left them, with small bodies: their number is what counts here.
async fn fill(bench: &Bench, url: &SecretUrl) -> Fallible<()> {
    let finished = bench.settings.scaled(FINISHED);
    let mut from = 0;
    while from < finished {
        let to = finished.min(from + PIECE);
        bench.say(&format!("history: {to} of {finished} finished events"));
        execute(url.reveal(), &piece(from + 1, to)).await?;
        from = to;
    }
    // As autovacuum would have, long before.
    for statement in ["vacuum (analyze) event", "vacuum (analyze) final_event", "checkpoint"] {
        execute(url.reveal(), statement).await?;
    }
    Ok(())
}

fn piece(from: u32, to: u32) -> String {
    format!(
        "with filled as (
            insert into event (idempotency_key, digest, partition, entity, destination, properties, body, recorded_at)
            select
                'history-' || n,
                sha256(n::text::bytea),
                n % 32,
                'entity-' || n % 1000,
                'http://127.0.0.1:8080/events',
                sha256(('properties ' || n)::bytea),
                '\\x7b7d',
                now() - interval '1 day'
            from generate_series({from}, {to}) n
            returning id, recorded_at
        )
        insert into final_event (event_id, state, attempts, finished_at)
        select id, 'DELIVERED', 1, recorded_at from filled"
    )
}
