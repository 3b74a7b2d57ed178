//! How far a request has come: told by what resolves, connects and sends, and asked when its time is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::domain::verdict::Phase;

tokio::task_local! {
    /// How far the request has come that is being sent.
    static PROGRESS: Arc<Progress>;
}

/// How far a request has come.
pub(super) struct Progress {
    phase: AtomicU8,
    /// A connection was opened for it.
    connected: AtomicBool,
    /// Its host is an address, which no resolver sees.
    is_literal: bool,
}

const PHASES: [Phase; 4] = [Phase::Connecting, Phase::Resolving, Phase::Sending, Phase::Waiting];

impl Progress {
    pub(super) fn new(url: &url::Url) -> Arc<Self> {
        let is_literal = !matches!(url.host(), Some(url::Host::Domain(_)));
        Arc::new(Self { phase: AtomicU8::new(0), connected: AtomicBool::new(false), is_literal })
    }

    /// It has come so far.
    pub(super) fn is_at(&self, phase: Phase) {
        let number = PHASES.iter().position(|other| *other == phase).and_then(|at| u8::try_from(at).ok());
        self.phase.store(number.unwrap_or_default(), Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::Relaxed)) % PHASES.len()]
    }

    pub(super) fn has_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

/// Notes how far the request has come for which something is done; others may wait for it, too.
pub(super) fn note(phase: Phase) {
    let _ = PROGRESS.try_with(|progress| progress.is_at(phase));
}

/// Runs what sends a request.
pub(super) async fn within<T>(progress: Arc<Progress>, sending: impl Future<Output = T>) -> T {
    PROGRESS.scope(progress, sending).await
}

/// A connection is opened for the request. Gives whether its host is an address.
pub(super) fn connects() -> bool {
    let noted = PROGRESS.try_with(|progress| {
        progress.connected.store(true, Ordering::Relaxed);
        progress.is_literal
    });
    noted.unwrap_or(false)
}
