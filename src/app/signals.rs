//! The signals that a worker knows.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// SIGTERM, SIGINT and SIGQUIT end the worker. The others that would kill it by default are told, and do nothing.
pub(super) struct Signals {
    ends: Vec<Signal>,
    others: Vec<(&'static str, Signal)>,
    /// Settings are to be read again.
    pub(super) again: Arc<Notify>,
    /// Whether there are settings that can be.
    reloads: bool,
}

impl Signals {
    /// From now on, none of them ends the process by itself. `reloads`: there are settings that SIGHUP has read again.
    pub(super) fn new(reloads: bool) -> std::io::Result<Self> {
        let ends = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()];
        let others = [
            ("SIGHUP", SignalKind::hangup()),
            ("SIGUSR1", SignalKind::user_defined1()),
            ("SIGUSR2", SignalKind::user_defined2()),
        ];
        Ok(Self {
            ends: ends.into_iter().map(signal).collect::<Result<_, _>>()?,
            others: others.into_iter().map(|(name, kind)| Ok((name, signal(kind)?))).collect::<std::io::Result<_>>()?,
            again: Arc::default(),
            reloads,
        })
    }

    /// Waits for a signal that ends the worker.
    pub(super) async fn next(&mut self) {
        poll_fn(|context| {
            for (name, signal) in &mut self.others {
                while signal.poll_recv(context).is_ready() {
                    if *name == "SIGHUP" && self.reloads {
                        self.again.notify_one();
                        continue;
                    }
                    tracing::info!("{name}: there is nothing that it would change; SIGTERM stops the worker");
                }
            }
            let ended = self.ends.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
