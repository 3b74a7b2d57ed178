//! Who works on which partitions, and how many requests each may have open to one host: computed by every member for
//! itself, from what all of them read in the database.
//!
//! Members come in the order of their seniority: who joined first. A younger one never takes anything away from an older
//! one but what is over the older one's share.

/// What a member may have, and what it has to do to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Requests at a time to one host that this member should have.
    pub host_share: u16,
    /// Partitions to give up.
    pub give_up: Vec<i32>,
    /// Free partitions to take.
    pub claim: Vec<i32>,
}

/// A member, as the others see it. One that is leaving is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The cap on a host that it was started with.
    pub host_cap: u16,
    /// It has a share of the cap, so it can deliver.
    pub is_ready: bool,
}

/// How many members work; those that joined later stand by. Each needs a partition, and at least one request at a time
/// to a host.
#[must_use]
pub fn working(members: usize, partitions: usize, host_cap: u16) -> usize {
    members.min(partitions).min(host_cap.into())
}

/// The cap that holds for all: the least that any member was started with.
#[must_use]
pub fn host_cap(peers: &[Peer]) -> u16 {
    peers.iter().map(|peer| peer.host_cap).min().unwrap_or(0)
}

/// What member number `me` does next. `owners` has for each partition the number of the member that owns it; none for
/// one that is free or whose owner is leaving or gone, which then gives it up by itself.
#[must_use]
pub fn plan(me: usize, peers: &[Peer], owners: &[Owner]) -> Plan {
    let cap = host_cap(peers);
    let working = working(peers.len(), owners.len(), cap);
    let host_share = part(cap.into(), working, me);
    let mut plan =
        Plan { host_share: u16::try_from(host_share).unwrap_or(cap), give_up: Vec::new(), claim: Vec::new() };
    let targets = targets(peers, owners, working);
    for (partition, (owner, target)) in (0..).zip(owners.iter().zip(targets)) {
        match (*owner, target) {
            (Owner::Member(owner), target) if owner == me && target != Some(me) => plan.give_up.push(partition),
            (Owner::Nobody, Some(target)) if target == me => plan.claim.push(partition),
            _ => {}
        }
    }
    plan
}

/// Who has a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It can be taken.
    Nobody,
    /// The member of this number.
    Member(usize),
    /// One that is not counted any more: it is leaving, or its lease has yet to end.
    Leaving,
}

/// Who should own each partition. Every owner keeps what it has up to its quota; what is over, and what nobody has, goes
/// to those below theirs. Partitions stay where they are as long as nobody else is ready to take them.
fn targets(peers: &[Peer], owners: &[Owner], working: usize) -> Vec<Option<usize>> {
    let takes_part = |member: usize| member < working && peers[member].is_ready;
    let mut held = vec![0; peers.len()];
    for owner in owners {
        if let Owner::Member(member) = owner {
            held[*member] += 1;
        }
    }
    let mut ranked: Vec<usize> = (0..peers.len()).filter(|&member| takes_part(member)).collect();
    // Those that have most keep the odd ones; the sort is stable, so that seniority decides among equals.
    ranked.sort_by_key(|&member| std::cmp::Reverse(held[member]));
    let mut room = vec![0; peers.len()];
    for (rank, &member) in ranked.iter().enumerate() {
        room[member] = part(owners.len(), ranked.len(), rank);
    }
    if ranked.is_empty() {
        return owners
            .iter()
            .map(|owner| if let Owner::Member(member) = owner { Some(*member) } else { None })
            .collect();
    }
    let mut targets: Vec<Option<usize>> = vec![None; owners.len()];
    for (target, owner) in targets.iter_mut().zip(owners) {
        if let Owner::Member(member) = *owner
            && room[member] > 0
        {
            room[member] -= 1;
            *target = Some(member);
        }
    }
    ranked.sort_unstable();
    let mut takers = ranked.into_iter().flat_map(|member| std::iter::repeat_n(member, room[member]));
    for target in targets.iter_mut().filter(|target| target.is_none()) {
        *target = takers.next();
    }
    targets
}

/// The part of number `rank` when `whole` is divided by `parts` as evenly as can be; the first ones get the odd ones.
fn part(whole: usize, parts: usize, rank: usize) -> usize {
    if rank >= parts {
        return 0;
    }
    whole / parts + usize::from(rank < whole % parts)
}

#[cfg(test)]
mod tests;
