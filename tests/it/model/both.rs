//! The real store, and those who write to it: for each setting of the first number, two members with a writer each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use onceward::config::SecretUrl;
use onceward::domain::admission::FirstSequence;
use onceward::handoff::{Command, Written};
use onceward::standstill::Standstill;
use onceward::store::members::Member;
use onceward::store::{self, Database, cluster};
use onceward::writer::Writer;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::support::World;

/// Partitions of the broker.
pub const PARTITIONS: u16 = 3;
/// The cap on a host that the members were started with.
pub const HOST_CAP: u16 = 4;
/// Tables of before are emptied row by row; what that leaves behind is cleared away after so many sequences.
const CLEAR_AFTER: u64 = 64;
/// No transaction takes so long, unless the store refuses it again and again.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

const TABLES: [&str; 9] = [
    "event",
    "open_event",
    "final_event",
    "failed_attempt",
    "dead_letter",
    "entity_sequence",
    "stray",
    "member",
    "writer_commit",
];

/// A member, and its writer.
pub struct Hand {
    pub member: Member,
    commands: mpsc::Sender<Command>,
    written: mpsc::Receiver<Vec<Written>>,
    recording: Arc<Standstill>,
}

/// The store.
pub struct Both {
    /// For what is asked beside the writers.
    pub connection: PgConnection,
    pub pool: PgPool,
    crews: Vec<(FirstSequence, [Hand; 2])>,
    /// Sequences so far.
    pub sequences: u64,
    /// How many answers of each kind there were.
    pub seen: BTreeMap<&'static str, u64>,
}

impl Both {
    pub async fn new(world: &World) -> Self {
        let url: SecretUrl = world.database_url.parse().expect("a URL");
        let database = Database::new(&url, "model").expect("a URL");
        let mut connection = PgConnection::connect(&world.database_url).await.expect("the database answers");
        store::migrate(&mut connection).await.expect("the migrations");
        let fixed = cluster::Fixed {
            partitions: PARTITIONS,
            exchange: "model",
            topology: 1,
            entity_from: "routing-key",
            sequence_from: "header:sequence",
        };
        cluster::join(&mut connection, fixed).await.expect("a new cluster");
        // Nothing has to outlive a crash here: no commit waits for the disk.
        for table in TABLES.iter().chain(&["partition"]) {
            connection.execute(AssertSqlSafe(format!("alter table {table} set unlogged"))).await.expect("a table");
        }
        let crews = [FirstSequence::One, FirstSequence::Any].map(|first| {
            let hand = |name| Hand::new(&database, name, first);
            (first, [hand("A"), hand("B")])
        });
        Self { connection, pool: database.pool(), crews: crews.into(), sequences: 0, seen: BTreeMap::new() }
    }

    /// Empties the tables.
    pub async fn empty(&mut self) {
        let empty = if self.sequences.is_multiple_of(CLEAR_AFTER) {
            format!("truncate {}", TABLES.join(", "))
        } else {
            TABLES.map(|table| format!("delete from {table}")).join("; ")
        };
        self.sequences += 1;
        let free = "update partition set owner = null, owner_name = null, epoch = 0, graceful = false";
        self.connection.execute(AssertSqlSafe(format!("{empty}; {free}"))).await.expect("the tables are ours");
    }

    /// Which server the database runs on, as what others see of a renewal has it.
    pub async fn server(&mut self) -> i64 {
        let sql = "select (extract(epoch from pg_postmaster_start_time()) * 1000000)::int8";
        sqlx::query_scalar(sql).fetch_one(&mut self.connection).await.expect("everybody may ask")
    }

    pub fn hand(&mut self, first: FirstSequence, who: usize) -> &mut Hand {
        let crew = self.crews.iter_mut().find(|(setting, _)| *setting == first);
        crew.map(|(_, hands)| &mut hands[who]).expect("a crew for each setting")
    }
}

impl Hand {
    fn new(database: &Database, name: &str, first_sequence: FirstSequence) -> Self {
        let member = Member { id: Uuid::new_v4(), name: name.into(), host_cap: HOST_CAP };
        let recording = Arc::new(Standstill::default());
        let writer = Writer {
            database: database.by_index(),
            member: member.clone(),
            first_sequence,
            target: Duration::from_secs(1),
            recording: recording.clone(),
        };
        let (commands, to_write) = mpsc::channel(1_024);
        let (results, written) = mpsc::channel(1);
        tokio::task::spawn_local(writer.run(to_write, results));
        Self { member, commands, written, recording }
    }

    /// Has the writer carry out commands in one transaction.
    pub async fn carry_out(&mut self, commands: &[Command]) -> Result<Vec<Written>, String> {
        for command in commands {
            self.commands.try_send(command.clone()).map_err(|_| "the writer has ended")?;
        }
        match tokio::time::timeout(ANSWER_WITHIN, self.written.recv()).await {
            Ok(Some(written)) => Ok(written),
            Ok(None) => Err("the writer has ended".into()),
            Err(_) => Err(format!("the writer does not come to an end: {:?}", self.recording.cause())),
        }
    }
}
