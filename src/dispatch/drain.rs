//! The end of dispatch: nothing new begins, and what was recorded is sent and settled.

use tokio::sync::mpsc;

use super::Dispatch;
use crate::domain::lanes::Then;
use crate::handoff::{Attempt, Ended};
use crate::store::writer::{Command, Written};

impl Dispatch {
    /// Runs until the last attempt that was recorded is settled.
    pub(super) async fn drain(
        mut self,
        mut written: mpsc::Receiver<Vec<Written>>,
        mut ended: mpsc::Receiver<Ended>,
        commands: mpsc::Sender<Command>,
        attempts: mpsc::Sender<Attempt>,
    ) {
        self.draining = true;
        self.hosts.lock().close();
        self.keep_settlements();
        let (mut attempts, mut ending) = (Some(attempts), true);
        while ending || !self.outbox.is_empty() {
            if let Some(sending) = &attempts {
                self.send_begun(sending).await;
                // Without it, deliver ends with the last attempt, and `ended` with deliver.
                attempts = attempts.filter(|_| self.hosts.lock().unsent() > 0);
            }
            let hosts = self.hosts.clone();
            tokio::select! {
                biased;
                permit = commands.reserve(), if !self.outbox.is_empty() => {
                    let (Ok(permit), Some(command)) = (permit, self.outbox.pop_front()) else { return };
                    permit.send(command);
                }
                results = written.recv() => {
                    let Some(results) = results else { return };
                    for result in results {
                        self.follow(result);
                    }
                    self.keep_settlements();
                }
                end = ended.recv(), if ending => match end {
                    Some(end) => self.settle(end),
                    None => ending = false,
                },
                () = hosts.turn.notified(), if attempts.is_some() => {}
            }
        }
        drop(commands);
        while let Some(results) = written.recv().await {
            for result in results {
                if let Written::Settled { settlement, .. } = result {
                    self.announce(&settlement);
                }
            }
        }
    }

    /// Drops all commands but settlements, and what was to begin with these.
    fn keep_settlements(&mut self) {
        for mut command in std::mem::take(&mut self.outbox) {
            match &mut command {
                Command::Settle { then, .. } => {
                    if let Then::Begin(next) = std::mem::replace(then, Then::Nothing) {
                        self.starting.remove(&next.id);
                    }
                    self.outbox.push_back(command);
                }
                Command::Start { candidate, .. } => drop(self.starting.remove(&candidate.id)),
                _ => {}
            }
        }
    }
}
