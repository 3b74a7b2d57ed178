//! Logs. Standard output belongs to what commands print; logs go to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What is logged unless `ONCEWARD_LOG` says otherwise, in the directives of `tracing-subscriber`'s `EnvFilter`.
const DEFAULT_FILTER: &str = "info,lapin=off,sqlx=off";

/// Starts logging.
///
/// # Errors
/// One line that says what is wrong with `ONCEWARD_LOG`.
pub fn init() -> Result<(), String> {
    let directives = crate::config::log_filter().unwrap_or_else(|| DEFAULT_FILTER.into());
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| format!("ONCEWARD_LOG is {directives:?} ({error}): write info, debug or onceward=debug"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}
