//! What the worker recorded.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::{World, asking};

/// A connection to a test's database.
pub struct Database(PgPool);

/// An event, as the view for people shows it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Recorded {
    pub idempotency_key: String,
    pub entity: String,
    pub sequence: Option<i64>,
    pub state: String,
    pub attempts: i16,
}

impl Database {
    pub async fn connect(world: &World) -> Self {
        let options = PgPoolOptions::new().max_connections(2);
        Self(options.connect(&world.database_url).await.expect("the database answers"))
    }

    /// All events, in the order of each entity: by number, else as they were recorded.
    pub async fn events(&self) -> Vec<Recorded> {
        let sql = "select idempotency_key, entity, sequence, state, attempts::int2 as attempts from event_state
            order by entity, sequence nulls first, event_id";
        sqlx::query_as(sql).fetch_all(&self.0).await.expect("the view for people")
    }

    /// Each entity's keys in their order.
    pub async fn lines(&self) -> BTreeMap<String, Vec<String>> {
        let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in self.events().await {
            lines.entry(event.entity).or_default().push(event.idempotency_key);
        }
        lines
    }

    /// How many events there are in each state.
    pub async fn states(&self) -> BTreeMap<String, i64> {
        let sql = "select state, count(*) from event_state group by state";
        let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&self.0).await.expect("the view for people");
        rows.into_iter().collect()
    }

    /// State and attempts of one event.
    pub async fn state_of(&self, key: &str) -> (String, i16) {
        let sql = "select state, attempts::int2 from event_state where idempotency_key = $1";
        sqlx::query_as(sql).bind(key).fetch_one(&self.0).await.expect("the event is recorded")
    }

    /// Dead letters that the broker has not confirmed, as far as the worker has recorded it.
    pub async fn unpublished(&self) -> i64 {
        let sql = "select count(*) from dead_letter where published_at is null";
        sqlx::query_scalar(sql).fetch_one(&self.0).await.expect("the outbox")
    }

    /// How many open events have been deleted, as far as the server's statistics know.
    pub async fn open_events_deleted(&self) -> i64 {
        let sql = "select n_tup_del from pg_stat_user_tables where relname = 'open_event'";
        sqlx::query_scalar(sql).fetch_one(&self.0).await.expect("the statistics")
    }

    /// How an event's body is compressed, if it is.
    pub async fn compression_of(&self, key: &str) -> Option<String> {
        let sql = "select pg_column_compression(body) from event where idempotency_key = $1";
        sqlx::query_scalar(sql).bind(key).fetch_one(&self.0).await.expect("the event is recorded")
    }

    /// Waits until so many events are recorded. Nothing outside tells of an event that only waits, so this asks.
    pub async fn wait_for_recorded(&self, time: Duration, count: i64) {
        let sql = "select count(*) >= $1 from event";
        let are_recorded = async || {
            let count = sqlx::query_scalar::<_, bool>(sql).bind(count);
            count.fetch_one(&self.0).await.expect("the events").then_some(())
        };
        asking(time, format_args!("{count} recorded events"), are_recorded).await;
    }

    /// Waits until something was delivered. The schema may not be there yet.
    pub async fn wait_for_some_delivered(&self, time: Duration) {
        let sql = "select exists (select from final_event where state = 'DELIVERED')";
        let is_delivered = async || sqlx::query_scalar(sql).fetch_one(&self.0).await.unwrap_or(false).then_some(());
        asking(time, "a first delivery", is_delivered).await;
    }

    /// Lets the planner know the tables as they are now. They keep their pages, as they do while a worker is busy.
    pub async fn analyse(&self) {
        sqlx::query("vacuum (truncate off, analyze)").execute(&self.0).await.expect("the tables are ours");
    }

    /// Entries of the indexes on open events that look-ups by key and by entity have read so far. A process tells of its
    /// reads when its connection ends.
    pub async fn index_entries_read(&self) -> i64 {
        let sql = "select sum(idx_tup_read)::int8 from pg_stat_user_indexes
            where relname = 'open_event' and indexrelname not in ('open_event_partition', 'open_event_due')";
        sqlx::query_scalar(sql).fetch_one(&self.0).await.expect("the statistics")
    }

    /// How many partitions each owner has, by its name; nobody is the empty name.
    pub async fn owners(&self) -> BTreeMap<String, i64> {
        let sql = "select coalesce(owner_name, ''), count(*) from partition group by 1";
        let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&self.0).await.expect("the partitions");
        rows.into_iter().collect()
    }

    /// Waits until so many owners have all partitions in even shares.
    pub async fn wait_for_even_shares(&self, time: Duration, owners: usize) {
        let are_even = async || {
            let shares = self.owners().await;
            let (least, most) = (shares.values().min().copied(), shares.values().max().copied());
            let even = least.zip(most).is_some_and(|(least, most)| most - least <= 1);
            (shares.len() == owners && even && !shares.contains_key("")).then_some(())
        };
        asking(time, format_args!("even shares of {owners} owners"), are_even).await;
    }

    /// How often partitions have changed their owner.
    pub async fn changes_of_owner(&self) -> i64 {
        let sql = "select sum(epoch)::int8 from partition";
        sqlx::query_scalar(sql).fetch_one(&self.0).await.expect("the partitions")
    }

    /// The partition of each entity's events; those of an entity that moved are left out.
    pub async fn partitions_of_entities(&self) -> BTreeMap<String, i32> {
        let sql = "select entity, min(partition) from event group by entity having min(partition) = max(partition)";
        let rows: Vec<(String, i32)> = sqlx::query_as(sql).fetch_all(&self.0).await.expect("the events");
        rows.into_iter().collect()
    }
}
