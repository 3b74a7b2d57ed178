//! The end: nothing new begins, and what was recorded is sent and settled.

use super::Engine;
use super::command::Command;
use super::lanes::Then;
use super::leases::Grant;

impl<G: Grant> Engine<G> {
    /// From now on, nothing is written but settlements.
    pub(super) fn stop(&mut self, unsent: Vec<Command<G::Proof>>) {
        self.draining = true;
        self.hosts.close();
        let refused = self.arrivals.forget_all();
        self.effects.refused.extend(refused);
        for command in unsent {
            self.write(command);
        }
    }

    /// Has the store do something.
    pub(super) fn write(&mut self, command: Command<G::Proof>) {
        if !self.draining {
            if let Command::Park { id, .. } = &command {
                *self.parking.entry(*id).or_default() += 1;
            }
            self.effects.commands.push(command);
            return;
        }
        match command {
            Command::Settle { settlement, then } => {
                if let Then::Begin(next) = then {
                    self.free(&next.event.host, false, None);
                }
                self.effects.commands.push(Command::Settle { settlement, then: Then::Nothing });
            }
            Command::Start { candidate, .. } => self.free(&candidate.event.host, false, None),
            Command::Admit { ticket, arrivals } => self.not_admitted(ticket, arrivals),
            Command::Operate { ticket, .. } => self.effects.refused.push(ticket),
            // The next owner finds all of these in the store.
            Command::ReadFront { .. }
            | Command::Wake { .. }
            | Command::Park { .. }
            | Command::Unpark(_)
            | Command::Gather { .. }
            | Command::Audit { .. }
            | Command::TakeOver { .. } => {}
        }
    }
}
