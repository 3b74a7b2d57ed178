//! Figures of a run: how fast, how late, how long.

use std::collections::HashMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Promises;
use super::history::{History, Hostile, Request};
use super::load::Answer;

/// A distribution of times, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    /// How many were measured.
    pub count: u64,
    /// Half of them are below.
    pub p50_ms: f64,
    /// 90 % of them are below.
    pub p90_ms: f64,
    /// 99 % of them are below.
    pub p99_ms: f64,
    /// 99.9 % of them are below.
    pub p999_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

/// The figures of a run. What there was nothing to measure for is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// Seconds from the first publish to the last request's end.
    pub seconds: Option<f64>,
    /// Messages that the broker confirmed, without duplicates and poison.
    pub confirmed: u64,
    /// Events that were answered with 2xx.
    pub delivered: u64,
    /// Requests in all.
    pub requests: u64,
    /// Events in the dead-letter exchange.
    pub dead_lettered: u64,
    /// Events that were sent again after a 2xx, as a trouble explains.
    pub sent_again_after_trouble: u64,
    /// What has become of hostile messages.
    #[serde(default)]
    pub hostile: HostileFigures,
    /// Delivered events per second.
    pub delivered_per_second: Option<f64>,
    /// From the publish to the first request's arrival.
    pub publish_to_receive: Option<Times>,
    /// From the moment at which the policy allows a retry to its arrival. Retries after a trouble are left out.
    pub retry_lateness: Option<Times>,
    /// The longest time without any 2xx, while events were being published.
    pub longest_silence_ms: Option<f64>,
    /// What it cost, by process.
    pub processes: Vec<ProcessFigures>,
}

/// What has become of messages that no polite client sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostileFigures {
    /// Those that the broker has confirmed.
    pub confirmed: u64,
    /// Those that the broker has not taken.
    pub refused: u64,
    /// Those that were delivered, because they keep the contract all the same.
    pub delivered: u64,
    /// Those that came to the dead-letter exchange.
    pub dead_lettered: u64,
}

impl HostileFigures {
    fn of(all: &[Hostile]) -> Self {
        let count = |which: fn(&&Hostile) -> bool| all.iter().filter(which).count() as u64;
        Self {
            confirmed: count(|hostile| hostile.confirmed),
            refused: count(|hostile| hostile.refused),
            delivered: count(|hostile| hostile.delivered > 0),
            dead_lettered: count(|hostile| hostile.letters > 0),
        }
    }
}

/// What one process has used during the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessFigures {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds of CPU, of user and system together.
    pub cpu_seconds: f64,
    /// Microseconds of CPU for each delivered event; none if none was.
    pub cpu_micros_per_event: Option<f64>,
    /// The most memory that it had resident, in MiB.
    pub peak_memory_mib: f64,
}

/// Computes the figures of a history.
#[must_use]
pub fn figures(history: &History, promises: &Promises, explained: u64) -> Figures {
    let first_publish = history.published.iter().filter_map(|published| published.first).min();
    let last_end = history.requests.iter().filter_map(|request| request.ended).max();
    let seconds = first_publish.zip(last_end).map(|(first, last)| last.saturating_sub(first).as_secs_f64());
    let mut of_event: HashMap<usize, Vec<&Request>> = HashMap::new();
    for request in &history.requests {
        of_event.entry(request.event).or_default().push(request);
    }
    let succeeds = |request: &&&Request| request.answer.is_some_and(Answer::succeeds);
    let delivered = of_event.values().filter(|requests| requests.iter().any(|request| succeeds(&request))).count();
    let waits = of_event.iter().filter_map(|(index, requests)| {
        let first = requests.iter().map(|request| request.started).min()?;
        Some(first.saturating_sub(history.published[*index].first?))
    });
    let publish_to_receive = times(waits);
    let quiet =
        |request: &Request| !history.troubles.iter().any(|trouble| trouble.to + promises.longest() > request.started);
    let late = of_event.values().flat_map(|requests| requests.windows(2)).filter_map(|pair| {
        let (earlier, later) = (pair[0], pair[1]);
        let (answer, ended) = (earlier.answer?, earlier.ended?);
        let least = promises.least_wait(earlier.attempt, answer);
        (!answer.succeeds() && quiet(later)).then(|| later.started.saturating_sub(ended + least))
    });
    let retry_lateness = times(late);
    let dead_lettered = history.dead_letters.iter().filter(|letter| letter.event.is_some()).count();
    Figures {
        seconds,
        confirmed: history.published.iter().filter(|published| published.confirmed).count() as u64,
        delivered: delivered as u64,
        requests: history.requests.len() as u64,
        dead_lettered: dead_lettered as u64,
        sent_again_after_trouble: explained,
        hostile: HostileFigures::of(&history.hostile),
        delivered_per_second: seconds.and_then(|seconds| per(delivered, seconds)),
        publish_to_receive,
        retry_lateness,
        longest_silence_ms: longest_silence(history, first_publish).map(|time| time.as_secs_f64() * 1_000.0),
        processes: Vec::new(),
    }
}

impl Promises {
    /// The largest delay that the policy can give.
    fn longest(&self) -> Duration {
        Duration::from_millis(self.backoff_max_ms)
    }
}

/// The longest time without any 2xx, while something was published; none if nothing was, or all of it at once.
fn longest_silence(history: &History, first_publish: Option<Duration>) -> Option<Duration> {
    let last_publish = history.published.iter().filter_map(|published| published.first).max();
    let (first, last) = first_publish.zip(last_publish).filter(|(first, last)| first < last)?;
    let mut moments: Vec<Duration> = history
        .requests
        .iter()
        .filter(|request| request.answer.is_some_and(Answer::succeeds))
        .filter_map(|request| request.ended)
        .filter(|ended| *ended <= last)
        .collect();
    moments.extend([first, last]);
    moments.sort_unstable();
    moments.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max()
}

#[expect(clippy::cast_precision_loss, reason = "counts of events are far below 2^52")]
fn per(count: usize, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count as f64 / seconds)
}

/// Three significant digits, from 1 µs to an hour. None of none.
fn times(all: impl Iterator<Item = Duration>) -> Option<Times> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).ok()?;
    for time in all {
        histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
    }
    #[expect(clippy::cast_precision_loss, reason = "an hour in microseconds is far below 2^52")]
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    (!histogram.is_empty()).then(|| Times {
        count: histogram.len(),
        p50_ms: at(0.5),
        p90_ms: at(0.9),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        max_ms: at(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::check::tests::PROMISES;
    use crate::proof::history::Published;

    #[test]
    fn quantiles_are_those_of_the_times() {
        let times = times((1..=1_000).map(Duration::from_millis)).expect("a sample");
        let near = |value: f64, expected: f64| (value - expected).abs() <= expected / 500.0;
        assert_eq!(times.count, 1_000);
        assert!(near(times.p50_ms, 500.0) && near(times.p99_ms, 990.0) && near(times.max_ms, 1_000.0), "{times:?}");
    }

    #[test]
    fn without_anything_to_measure_there_is_no_figure() {
        assert_eq!(times(std::iter::empty()), None);
        let figures = figures(&History::default(), &PROMISES, 0);
        assert_eq!(figures, Figures::default());
        assert_eq!((figures.seconds, figures.delivered_per_second, figures.longest_silence_ms), (None, None, None));
    }

    #[test]
    fn a_load_that_is_published_and_never_answered_is_silent_from_beginning_to_end() {
        let published =
            [1, 5].map(|second| Published { first: Some(Duration::from_secs(second)), ..Published::default() });
        let history = History { published: published.into(), ..History::default() };
        assert_eq!(figures(&history, &PROMISES, 0).longest_silence_ms, Some(4_000.0));
    }
}
