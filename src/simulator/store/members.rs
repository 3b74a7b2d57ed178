//! Members and their leases, as each statement has them.

use std::time::Duration;

use uuid::Uuid;

use super::{MemberRow, Rule, Store};
use crate::domain::event::Partition;
use crate::domain::shares::{Owner, Peer};
use crate::engine::membership::{Claimed, Released, Renewed, View};

impl MemberRow {
    fn is_gone(&self) -> bool {
        self.gone == Some(self.renewal)
    }
}

impl Store {
    /// Renews a member's lease; joins, if it is not a member. One that was found to be gone gets nothing back. `ends` is when
    /// the lease would end by the store's clock, in microseconds.
    pub fn renew(&mut self, id: Uuid, host_cap: u16, lease: Duration, ends: i64) -> Renewed {
        let gone_is_gone = self.keeps(Rule::GoneIsGone);
        let joined = self.joined + 1;
        let revived;
        let host_share = if let Some(row) = self.members.get_mut(&id) {
            revived = row.is_gone() && gone_is_gone;
            row.host_share = if revived { 0 } else { row.host_share };
            row.renewal = if row.renewal == ends { ends + 1 } else { ends };
            row.lease = lease;
            row.host_share
        } else {
            self.joined = joined;
            revived = true;
            let row = MemberRow { joined, renewal: ends, lease, host_cap, host_share: 0, leaving: false, gone: None };
            self.members.insert(id, row);
            0
        };
        if revived {
            self.give_up_all(id);
        }
        let held = (0..).zip(&self.partitions).filter(|(_, owned)| owned.owner == Some(id));
        Renewed { held: held.map(|(number, owned)| (Partition(number), owned.epoch)).collect(), host_share }
    }

    fn give_up_all(&mut self, id: Uuid) {
        for owned in self.partitions.iter_mut().filter(|owned| owned.owner == Some(id)) {
            (owned.owner, owned.graceful) = (None, false);
        }
    }

    /// Looks at members and partitions.
    #[must_use]
    pub fn view(&self, id: Uuid) -> View<Uuid> {
        let mut present: Vec<(&Uuid, &MemberRow)> = self.members.iter().filter(|(_, row)| !row.is_gone()).collect();
        present.sort_by_key(|(_, row)| row.joined);
        let peers: Vec<_> = present.iter().filter(|(_, row)| !row.leaving).collect();
        let number = |id: &Uuid| peers.iter().position(|(peer, _)| *peer == id);
        let owner = |owner: Option<Uuid>| match owner.filter(|id| present.iter().any(|(member, _)| *member == id)) {
            None => Owner::Nobody,
            Some(id) => number(&id).map_or(Owner::Leaving, Owner::Member),
        };
        View {
            me: number(&id),
            peers: (peers.iter())
                .map(|(_, row)| Peer { host_cap: row.host_cap, is_ready: row.host_share > 0 })
                .collect(),
            owners: self.partitions.iter().map(|owned| owner(owned.owner)).collect(),
            epochs: self.partitions.iter().map(|owned| owned.epoch).collect(),
            renewals: (present.iter())
                .filter(|(member, _)| **member != id)
                .map(|(member, row)| (**member, row.renewal ^ self.server, Some(row.lease)))
                .collect(),
        }
    }

    /// Notes that members are gone whose last renewal is the one that stood still.
    pub fn note_gone(&mut self, gone: &[(Uuid, i64)]) {
        let server = self.server;
        for (id, renewal) in gone {
            if let Some(row) = self.members.get_mut(id).filter(|row| row.renewal ^ server == *renewal) {
                (row.gone, row.host_share) = (Some(row.renewal), 0);
            }
        }
    }

    /// Takes those of the partitions that are still free, and whose epoch is the one that was seen.
    pub fn claim(&mut self, id: Uuid, wanted: &[(Partition, i64)]) -> Vec<Claimed> {
        let mut claimed = Vec::new();
        for (partition, epoch) in wanted {
            let owner = self.owned(*partition).owner;
            let is_present = |id: Uuid| self.members.get(&id).is_some_and(|row| !row.is_gone());
            let is_free = owner.is_none_or(|id| !is_present(id));
            let as_seen = self.keeps(Rule::ClaimWhatWasSeen);
            let Some(owned) = self.owned_mut(*partition) else { continue };
            if as_seen && !(owned.epoch == *epoch && is_free) {
                continue;
            }
            let graceful = owned.owner.is_none() && owned.graceful;
            (owned.owner, owned.epoch, owned.graceful) = (Some(id), owned.epoch + 1, false);
            claimed.push(Claimed { partition: *partition, epoch: owned.epoch, graceful });
        }
        claimed
    }

    /// Gives partitions back. Nothing happens under an older epoch.
    pub fn release(&mut self, id: Uuid, leases: &[Released]) {
        for given in leases {
            let Some(owned) = self.owned_mut(given.partition) else { continue };
            if owned.owner == Some(id) && owned.epoch == given.epoch {
                (owned.owner, owned.graceful) = (None, given.graceful);
            }
        }
    }

    /// Sets a member's share of the cap to less.
    pub fn lower_share(&mut self, id: Uuid, host_share: u16) {
        if let Some(row) = self.members.get_mut(&id) {
            row.host_share = row.host_share.min(host_share);
        }
    }

    /// Raises a member's share, by no more than what the others leave of the cap.
    pub fn raise_share(&mut self, id: Uuid, target: u16, cap: u16) -> u16 {
        let others = self.members.iter().filter(|(member, _)| **member != id).map(|(_, row)| row.host_share);
        let left = if self.keeps(Rule::ShareWhatIsLeft) { cap.saturating_sub(others.sum()) } else { cap };
        match self.members.get_mut(&id).filter(|row| !row.is_gone()) {
            Some(row) => {
                row.host_share = row.host_share.max(target.min(left));
                row.host_share
            }
            None => 0,
        }
    }

    /// A member is stopping.
    pub fn begin_to_leave(&mut self, id: Uuid) {
        if let Some(row) = self.members.get_mut(&id) {
            row.leaving = true;
        }
    }

    /// A member leaves: what is still its own is free.
    pub fn leave(&mut self, id: Uuid) {
        self.give_up_all(id);
        self.members.remove(&id);
    }
}
