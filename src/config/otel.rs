//! The variables of OpenTelemetry that are not read by its own library: whether there is a collector at all.
//!
//! Names and meanings are those of the OpenTelemetry specification, "Environment Variable Specification" and "OTLP Exporter".

/// Spans leave after this long, unless `OTEL_BSP_SCHEDULE_DELAY` says otherwise: those of a worker that is killed are lost,
/// and the specification's 5 s would be much of an event's life.
pub const SPANS_LEAVE_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Whether traces are exported: an endpoint is named, or `OTEL_TRACES_EXPORTER` is `otlp`.
#[must_use]
pub fn exports_traces() -> bool {
    exports("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
}

/// Whether metrics are pushed: an endpoint is named, or `OTEL_METRICS_EXPORTER` is `otlp`.
#[must_use]
pub fn exports_metrics() -> bool {
    exports("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
}

fn exports(exporter: &str, endpoint: &str) -> bool {
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return false;
    }
    match variable(exporter).as_deref() {
        Some("none") => false,
        Some("otlp") => true,
        _ => variable(endpoint).or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT")).is_some(),
    }
}

/// Whether the service has a name already.
#[must_use]
pub fn names_the_service() -> bool {
    let among_attributes = variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|list| list.contains("service.name="));
    variable("OTEL_SERVICE_NAME").is_some() || among_attributes
}

/// Whether the host has a name already.
#[must_use]
pub fn names_the_host() -> bool {
    variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|list| list.contains("host.name="))
}

/// Whether the time after which spans leave is set.
#[must_use]
pub fn sets_schedule_delay() -> bool {
    variable("OTEL_BSP_SCHEDULE_DELAY").is_some()
}

/// Whether a producer's decision not to sample holds: so it is with the samplers whose names begin with `parentbased`,
/// which include the default.
#[must_use]
pub fn follows_the_parent() -> bool {
    variable("OTEL_TRACES_SAMPLER").is_none_or(|sampler| sampler.starts_with("parentbased"))
}

#[expect(clippy::disallowed_methods, reason = "this is the room that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
