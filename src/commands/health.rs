//! `onceward health`: asks a worker on this machine how it is, for health checks of containers that hold nothing else
//! that could ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::output::{self, OutputError};
use crate::config::{AdminListen, admin_listen, duration};

/// The settings of `onceward health`.
#[derive(Clone, Debug, Args)]
pub struct HealthArgs {
    /// Where the worker serves metrics and health, as it was told itself [default: 127.0.0.1:9464]
    #[arg(long, env = "ONCEWARD_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = admin_listen)]
    pub admin_listen: Option<AdminListen>,
    /// Ask only whether the process answers, not whether it can do its work
    #[arg(long)]
    pub live: bool,
    /// How long the answer may take
    #[arg(long, default_value = "3s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
}

/// Why a worker is not well, as far as one can see.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// There is nobody to ask.
    #[error("{0}")]
    Setting(&'static str),
    /// No answer.
    #[error("no worker answers at {url}: {reason}")]
    Silent {
        /// What was asked.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// It says itself that it is not ready.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The answer could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Asks once, and prints the answer.
///
/// # Errors
/// If the worker is not ready, or does not answer in time.
pub async fn run(args: &HealthArgs) -> Result<(), HealthError> {
    let address = address(args.admin_listen).map_err(HealthError::Setting)?;
    let url = format!("http://{address}/{}", if args.live { "livez" } else { "readyz" });
    let silent = |error: reqwest::Error| {
        let late = error.is_timeout().then(|| format!("not within {}", humantime::format_duration(args.timeout)));
        HealthError::Silent { url: url.clone(), reason: late.unwrap_or_else(|| innermost(&error)) }
    };
    // Not through a proxy: the worker is here.
    let client = reqwest::Client::builder().no_proxy().timeout(args.timeout).build().map_err(silent)?;
    let answer = client.get(&url).send().await.map_err(silent)?;
    let is_well = answer.status().is_success();
    let text = answer.text().await.map_err(silent)?;
    let text = text.trim().replace('\n', "; ");
    if is_well { Ok(output::line(text)?) } else { Err(HealthError::NotReady(text)) }
}

/// Where a port can be reached from here that is open at an address, or at all of them.
fn address(listen: Option<AdminListen>) -> Result<SocketAddr, &'static str> {
    let mut address = match listen {
        None => AdminListen::DEFAULT,
        Some(AdminListen::At(address)) => address,
        Some(AdminListen::Off) => return Err("--admin-listen is off: the worker serves no health"),
    };
    if address.port() == 0 {
        return Err("--admin-listen has port 0, which is any free one: give the one that the worker's log tells");
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(address)
}

/// What lies at the bottom of an error; what is above says only that the request failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_asked_where_it_listens() {
        let table = [
            (None, Ok("127.0.0.1:9464")),
            (Some("0.0.0.0:9464"), Ok("127.0.0.1:9464")),
            (Some("[::]:80"), Ok("[::1]:80")),
            (Some("10.0.0.7:9000"), Ok("10.0.0.7:9000")),
            (Some("off"), Err("--admin-listen is off: the worker serves no health")),
        ];
        for (listen, expected) in table {
            let listen = listen.map(|text| admin_listen(text).unwrap());
            assert_eq!(address(listen), expected.map(|text| text.parse().unwrap()), "{listen:?}");
        }
        assert!(address(Some(admin_listen("0.0.0.0:0").unwrap())).is_err());
    }
}
