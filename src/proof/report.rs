//! The report of a run: what was asked, what was found. Its JSON has a version; the schema is what
//! `onceward report --schema` prints.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{Check, Findings, Promises, Violation};
use super::figures::Figures;
use super::history::History;
use super::load::LoadPlan;

/// The version of the report's form. It grows when a field changes its meaning or goes away; new fields may come any time.
pub const VERSION: u32 = 1;
/// Violations of one check that are listed; all are counted.
const LISTED: usize = 100;

/// A report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this form.
    pub version: u32,
    /// Tells this run from any other.
    pub run: String,
    /// When it began, as seconds since 1970.
    pub started_at: u64,
    /// What came out.
    pub verdict: Verdict,
    /// Why there was no verdict on the promises; none if there was.
    pub reason: Option<String>,
    /// What was sent.
    pub load: LoadPlan,
    /// The settings that the promises were checked against.
    pub promises: Promises,
    /// Where it ran.
    pub environment: Environment,
    /// Each check.
    pub checks: Vec<CheckReport>,
    /// What was measured.
    pub figures: Figures,
    /// What was done to workers and servers.
    pub troubles: Vec<TroubleReport>,
}

/// What came out of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every promise was kept.
    Passed,
    /// Some promise was broken.
    Failed,
    /// The run was stopped before its end. What was seen so far was checked, but events may still be under way.
    Interrupted,
    /// The run could not be carried out.
    Error,
}

/// Where a run took place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// The version of Onceward.
    pub onceward: String,
    /// The broker's product and version, as far as it says.
    pub broker: Option<String>,
    /// The database's version; none if it was not asked.
    pub database: Option<String>,
    /// The operating system and its machine.
    pub system: String,
    /// Processors that the run could use.
    pub processors: u32,
    /// Workers that the run started itself.
    pub own_workers: u32,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckReport {
    /// Which one.
    pub check: Check,
    /// Nothing was found.
    pub passed: bool,
    /// Violations in all.
    pub violations: u64,
    /// The first hundred of them.
    pub listed: Vec<Violation>,
}

/// Something that was done to a worker or a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TroubleReport {
    /// In words.
    pub what: String,
    /// Milliseconds since the run began.
    pub from_ms: u64,
    /// Milliseconds since the run began.
    pub to_ms: u64,
    /// Milliseconds from its beginning to the next 2xx; none if there was no more.
    pub next_success_ms: Option<u64>,
}

/// The checks of what was found: each of them, with its violations.
#[must_use]
pub fn checks(findings: Findings) -> Vec<CheckReport> {
    let mut by_check: BTreeMap<Check, Vec<Violation>> = BTreeMap::new();
    for violation in findings.violations {
        by_check.entry(violation.check).or_default().push(violation);
    }
    let report = |check: Check| {
        let mut listed = by_check.get(&check).cloned().unwrap_or_default();
        let violations = listed.len() as u64;
        listed.truncate(LISTED);
        CheckReport { check, passed: violations == 0, violations, listed }
    };
    Check::ALL.into_iter().map(report).collect()
}

/// The troubles of a history, with the time that each took the deliveries.
#[must_use]
pub fn troubles(history: &History) -> Vec<TroubleReport> {
    let millis = |moment: std::time::Duration| u64::try_from(moment.as_millis()).unwrap_or(u64::MAX);
    let next = |from| {
        let succeeded = history.requests.iter().filter(|r| r.answer.is_some_and(super::load::Answer::succeeds));
        let next = succeeded.map(|request| request.started).filter(|started| *started > from).min();
        next.map(|next| millis(next.saturating_sub(from)))
    };
    let report = |trouble: &super::history::Trouble| TroubleReport {
        what: trouble.what.clone(),
        from_ms: millis(trouble.from),
        to_ms: millis(trouble.to),
        next_success_ms: next(trouble.from),
    };
    history.troubles.iter().map(report).collect()
}

/// The JSON schema of a [`Report`] (draft 2020-12).
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Report).to_value()
}
