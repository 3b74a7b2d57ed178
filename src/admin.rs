//! The admin port: metrics and health over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::AdminListen;
use crate::health::Health;
use crate::telemetry::metrics;

const INDEX: &str = "\
/metrics  what is counted and measured, for Prometheus
/livez    200 as long as the process answers
/readyz   200 if the worker can do its work, else 503 and what is missing
";

/// Opens the port. None if it is off; or if nobody has asked for it and the usual one is taken, as by another worker.
///
/// # Errors
/// One line: why the port that was asked for can't be had.
pub async fn listen(asked: Option<AdminListen>) -> Result<Option<TcpListener>, String> {
    let address = match asked {
        Some(AdminListen::Off) => return Ok(None),
        Some(AdminListen::At(address)) => address,
        None => AdminListen::DEFAULT,
    };
    match TcpListener::bind(address).await {
        Ok(listener) => {
            let address = listener.local_addr().unwrap_or(address);
            tracing::info!("metrics and health are at http://{address}/");
            Ok(Some(listener))
        }
        Err(error) if asked.is_none() => {
            tracing::warn!(%error, "no metrics and health: {address} can't be had (--admin-listen says where else, or off)");
            Ok(None)
        }
        Err(error) => {
            Err(format!("--admin-listen {address} can't be had ({error}): use another port, 0 for any, or off"))
        }
    }
}

/// Serves until `end`. Requests that are still being answered then are cut.
pub async fn run(listener: Option<TcpListener>, health: Arc<Health>, end: CancellationToken) {
    let Some(listener) = listener else { return };
    let routes = Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(health);
    let server = axum::serve(listener, routes);
    if let Some(Err(error)) = end.run_until_cancelled(server.into_future()).await {
        tracing::warn!(%error, "metrics and health are not served any more");
    }
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    let missing = health.missing();
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response()
}

async fn show_metrics() -> Response {
    let (text, content_type) = metrics::text();
    ([(CONTENT_TYPE, content_type)], text).into_response()
}
