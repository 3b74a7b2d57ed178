//! One connection's worth of consuming: a consumer for each partition that is ours.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::Connection;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Intake;
use super::consumer::Consumer;
use crate::broker::gatekeeper::ahead::Ahead;
use crate::broker::{cut_off, until_lost};
use crate::domain::event::Partition;

/// How long the end of a session waits for acknowledgements of what is recorded; without them, messages come again as
/// duplicates.
const ACK_WITHIN: Duration = Duration::from_secs(5);

/// Consumes from every partition that is ours, as they come and go, until `stop`; with a reason, if the connection breaks.
///
/// # Errors
/// The reason.
pub async fn run(
    connection: &Connection,
    intake: &mut Intake,
    ahead: &Arc<Ahead>,
    stop: &CancellationToken,
) -> Result<(), String> {
    let (nodes, heartbeat) = (intake.nodes.clone(), intake.heartbeat);
    let (names, partitions) = (intake.names.clone(), intake.partitions);
    tokio::select! {
        ended = consume(connection, intake, ahead, stop) => ended,
        () = cut_off::until_found_beside(&nodes, heartbeat, &names, partitions) => Err(cut_off::WHY.into()),
        () = until_lost(connection) => Err("the broker is unreachable (the connection was lost)".into()),
    }
}

async fn consume(
    connection: &Connection,
    intake: &mut Intake,
    ahead: &Arc<Ahead>,
    stop: &CancellationToken,
) -> Result<(), String> {
    let mut consumers = JoinSet::new();
    let mut consumed: HashMap<Partition, i64> = HashMap::new();
    let mut told = false;
    loop {
        let owned = intake.owned.borrow_and_update().clone();
        for lease in owned {
            let Some(held) = lease.hold() else { continue };
            if consumed.get(&lease.partition) == Some(&lease.epoch) {
                continue;
            }
            // Behind messages that wait for their record, the broker's answers may take long.
            let opening = stop.run_until_cancelled(Consumer::open(connection, intake, held, ahead));
            let Some(consumer) = opening.await.transpose()? else { break };
            consumers.spawn(consumer.run());
            consumed.insert(lease.partition, lease.epoch);
        }
        if !consumed.is_empty() && !told {
            tracing::info!(partitions = consumed.len(), "ready: consuming");
            told = true;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Ok(()) = intake.owned.changed() => {}
            // A consumer ends gracefully when its lease is closed.
            Some(ended) = consumers.join_next() => {
                // Its lease has ended without a word: it is consumed again when that is renewed.
                if let Some(partition) = ended.map_err(|error| error.to_string())?? {
                    consumed.remove(&partition);
                }
            }
        }
    }
    // The leases are being closed, and each consumer ends when what it has taken is recorded and acknowledged.
    let ended = async { while consumers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(ACK_WITHIN, ended).await;
    Ok(())
}
