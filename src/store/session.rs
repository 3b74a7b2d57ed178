//! Whether a session is one. A pooler in front of the database may give each transaction another one; then settings, prepared
//! statements and the lock of the migrations are lost, or somebody else's.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};
use uuid::Uuid;

use super::Database;

/// How long the look may take. Two sessions are the least that a worker needs.
const WITHIN: Duration = Duration::from_secs(10);
/// A pooler that is busy with others may give back the same session by chance, though not so often.
const ROUNDS: usize = 5;

/// Whether this program has its sessions for itself, from connecting to closing.
///
/// # Errors
/// sqlx's, if the server can't be reached, or has no two sessions.
pub async fn is_kept(database: &Database) -> Result<bool, sqlx::Error> {
    let looked = tokio::time::timeout(WITHIN, look(database)).await.map_err(|_| sqlx::Error::PoolTimedOut)?;
    match looked {
        Err(sqlx::Error::Database(error)) if error.message().contains("statement pooling mode") => Ok(false),
        looked => looked,
    }
}

/// Marks one session, and has another one's transaction take what it may have been given of the first. Statements are not
/// prepared here: that would fail first.
async fn look(database: &Database) -> Result<bool, sqlx::Error> {
    let (mut one, mut other) = (database.options.connect().await?, database.options.connect().await?);
    let mark = Uuid::new_v4().to_string();
    one.execute(AssertSqlSafe(format!("set onceward.session = '{mark}'"))).await?;
    for _ in 0..ROUNDS {
        other.execute("begin").await?;
        // In this order: if there is but one session for both, the first would wait for the other's end.
        let is_kept = mark_of(&mut other).await? != mark && mark_of(&mut one).await? == mark;
        other.execute("rollback").await?;
        if !is_kept {
            return Ok(false);
        }
    }
    one.close().await?;
    other.close().await?;
    Ok(true)
}

async fn mark_of(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let asked = sqlx::raw_sql("select coalesce(current_setting('onceward.session', true), '')");
    asked.fetch_one(connection).await?.try_get(0)
}
