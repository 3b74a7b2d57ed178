//! An operator's decisions on FAILED events.

use sqlx::PgConnection;

use super::position::{REDRIVEN, UNNUMBERED};
use super::sql::operator as sql;
use crate::domain::event::{EventId, Host, Target};
use crate::domain::operator::{Decided, Verb};

/// Carries out a decision. An event that is not FAILED (any more), or has become so once more, is left as it is.
///
/// # Errors
/// sqlx's.
pub async fn carry_out(connection: &mut PgConnection, decided: &Decided) -> Result<(), sqlx::Error> {
    let meant: (bool,) =
        sqlx::query_as(sql::IS_MEANT).bind(decided.id.0).bind(decided.failed_us).fetch_one(&mut *connection).await?;
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
    let held = sqlx::query(sql::REDRIVE_HELD).bind(id.0).fetch_optional(&mut *connection).await?.is_some();
    let destination: Option<(String,)> =
        sqlx::query_as(sql::LOCK_LINE).bind(id.0).fetch_optional(&mut *connection).await?;
    let host = destination.and_then(|(destination,)| Some(Target::read_back(&destination)?.host()));
    let passed = match host {
        Some(host) => open_again(connection, id, &host).await?,
        None => false,
    };
    if held || passed {
        for statement in [sql::FORGET_ATTEMPTS, sql::FORGET_DEAD_LETTER] {
            sqlx::query(statement).bind(id.0).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Opens an event that was final. It is not if its retention has ended in the meantime.
async fn open_again(connection: &mut PgConnection, id: EventId, host: &Host) -> Result<bool, sqlx::Error> {
    let opened = sqlx::query(sql::OPEN_AGAIN).bind(id.0).bind(REDRIVEN).bind(host.as_str());
    Ok(opened.fetch_optional(connection).await?.is_some())
}

async fn skip(connection: &mut PgConnection, id: EventId) -> Result<(), sqlx::Error> {
    sqlx::query(sql::SKIP).bind(id.0).bind(UNNUMBERED).execute(connection).await.map(drop)
}
