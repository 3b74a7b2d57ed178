//! What shuts the gate of a host.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::duration;
use crate::domain::gate::GatePolicy;
use crate::domain::verdict::Gone;

/// What shuts the gate of a host that is down, and how it is probed.
#[derive(Clone, Debug, Args)]
pub struct GateArgs {
    /// Attempts that fail in a row, for reasons that are the host's, before its gate shuts: its events wait then, and spend no attempts; 0 for never
    #[arg(long, env = "ONCEWARD_GATE_FAILURES", default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub gate_failures: u16,
    /// The pause before a host whose gate is shut is probed by one event; it doubles with each failure
    #[arg(long, env = "ONCEWARD_GATE_PROBE_INITIAL", default_value = "1s", value_parser = duration, value_name = "TIME")]
    pub gate_probe_initial: Duration,
    /// The longest pause between two probes
    #[arg(long, env = "ONCEWARD_GATE_PROBE_MAX", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub gate_probe_max: Duration,
    /// What an answer 410 Gone does
    #[arg(long, env = "ONCEWARD_GONE", default_value = "fail")]
    pub gone: GoneArg,
}

/// How `--gone` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GoneArg {
    /// It is an answer like others: a failed attempt, or FAILED if 410 is among --final-statuses
    Fail,
    /// Its host is paused until `onceward resume`, and the event waits
    Pause,
}

impl From<GoneArg> for Gone {
    fn from(gone: GoneArg) -> Self {
        match gone {
            GoneArg::Fail => Self::Fail,
            GoneArg::Pause => Self::Pause,
        }
    }
}

/// The shortest pause between two probes.
pub(super) const SHORTEST: Duration = Duration::from_millis(100);
/// The longest.
pub(super) const LONGEST: Duration = Duration::from_hours(24);

impl GateArgs {
    /// # Errors
    /// One line: what is wrong and what to write instead.
    pub(super) fn validate(&self) -> Result<(), String> {
        let show = humantime::format_duration;
        let (initial, max) = (self.gate_probe_initial, self.gate_probe_max);
        if initial < SHORTEST {
            return Err(format!("--gate-probe-initial is {}: use 100ms or more", show(initial)));
        }
        if max < initial {
            let (max, initial) = (show(max), show(initial));
            return Err(format!("--gate-probe-max ({max}) is less than --gate-probe-initial ({initial}): raise it"));
        }
        if max > LONGEST {
            return Err(format!("--gate-probe-max is {}: use 1day or less", show(max)));
        }
        Ok(())
    }

    /// The settings of a gate.
    #[must_use]
    pub fn policy(&self) -> GatePolicy {
        GatePolicy {
            failures: self.gate_failures,
            probe_initial: self.gate_probe_initial,
            probe_max: self.gate_probe_max,
        }
    }
}
