//! The settings of a worker, for whoever reads its log.

use crate::config::WorkerArgs;

/// Tells what holds.
pub fn tell(args: &WorkerArgs) {
    let show = humantime::format_duration;
    tracing::info!(
        amqp = %args.broker.amqp_url,
        database = %args.database.database_url,
        exchange = args.broker.exchange,
        partitions = args.partitions,
        name = args.name(),
        lease = %show(args.lease),
        host_connections = args.host_connections,
        max_in_flight = args.max_in_flight,
        attempt_timeout = %show(args.attempt_timeout),
        max_attempts = args.max_attempts,
        max_unknown_outcomes = args.max_unknown_outcomes,
        final_statuses = ?args.final_statuses.0,
        signing = ?args.signing.secrets,
        backoff_initial = %show(args.backoff_initial),
        backoff_max = %show(args.backoff_max),
        backoff_factor = args.backoff_factor,
        backoff_jitter = args.backoff_jitter,
        on_exhausted = ?args.on_exhausted,
        first_sequence = ?args.first_sequence,
        body_limit = args.body_limit,
        retention = %show(args.retention),
        drain_time = %show(args.drain_time),
        gate_failures = args.gate.gate_failures,
        gate_probe_initial = %show(args.gate.gate_probe_initial),
        gate_probe_max = %show(args.gate.gate_probe_max),
        gone = ?args.gate.gone,
        allow_net = %args.guard.allow_net,
        allow_host = %args.guard.allow_host,
        deny_host = %args.guard.deny_host,
        connection_life = %show(args.guard.connection_life),
        "onceward {} starts",
        env!("CARGO_PKG_VERSION")
    );
    if let Some(flag) = args.broker.tls_without_use() {
        tracing::warn!(
            "the connection to the broker is not encrypted in spite of {flag}: with amqps:// in --amqp-url it is"
        );
    }
}
