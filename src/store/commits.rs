//! The numbers of a writer's commits.

use sqlx::PgConnection;

use super::members::Member;
use super::sql::commits as sql;

/// Whether the commit whose end is unknown took place. If it is still under way, it is waited for.
///
/// # Errors
/// sqlx's.
pub async fn was_committed(connection: &mut PgConnection, member: &Member, number: i64) -> Result<bool, sqlx::Error> {
    sqlx::query(sql::ENTER).bind(member.id).execute(&mut *connection).await?;
    let last: Option<(i64,)> = sqlx::query_as(sql::LAST).bind(member.id).fetch_optional(connection).await?;
    Ok(last.is_some_and(|(last,)| last >= number))
}
