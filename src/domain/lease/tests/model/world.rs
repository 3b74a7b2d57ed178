//! What the model is made of: the database's rows, the members, and what is under way between them.

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub now: u64,
    /// How far the database's clock was set forward.
    pub database_ahead: u64,
    pub row: Row,
    pub renewals: [Renewal; 2],
    pub members: [Member; 2],
    /// A write changed something under an epoch that was over.
    pub stale_write: bool,
}

/// The partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Row {
    pub owner: Option<usize>,
    pub epoch: u8,
}

/// A member's own row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Renewal {
    /// Another one with each renewal.
    pub token: u8,
    /// The member was found to be gone, and has not renewed since.
    pub gone: bool,
    /// By the database's clock. Of account only where that one decides.
    pub expires: u64,
}

/// What a member asks over the connection for its leases. The times are its own, from before it asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    Renew(u64),
    /// Looks at the other one's renewals.
    Look(u64),
    /// Takes the partition, whose epoch it has seen. The statement has begun: it knows whether its owner is gone from a view of
    /// the members as they were then, and sees of the partition how it is when it takes it.
    Claim {
        epoch: u8,
        gone: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// The partition's epoch, if it is the member's own.
    Renewed(u64, Option<u8>),
    /// The other one's token.
    Seen(u64, u8),
    Claimed(u8),
    NotClaimed,
}

/// A connection with at most one request under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Line<Q, A> {
    Idle,
    Asked(Q),
    Answered(A),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Attempt {
    None,
    /// Recorded under an epoch, and waits until the lease covers it.
    Recorded(u8),
    /// The lease covers it up to this deadline of the member's clock; nothing is sent yet.
    Covered(u64),
    /// On the wire.
    Sent(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    /// For how long its clock has stood still.
    pub behind: u64,
    pub counts_until: u64,
    /// The epoch under which it believes to own the partition.
    pub held: Option<u8>,
    /// The other one's token as it was last seen, and since when.
    pub sight: Option<(u8, u64)>,
    pub leases: Line<Ask, Answer>,
    /// Given up with its connection, and not carried out yet.
    pub given_up: Option<Ask>,
    /// The start of an attempt: its epoch, and whether it was recorded.
    pub writes: Line<u8, (u8, bool)>,
    pub attempt: Attempt,
}

impl Member {
    pub const NEW: Self = Self {
        behind: 0,
        counts_until: 0,
        held: None,
        sight: None,
        leases: Line::Idle,
        given_up: None,
        writes: Line::Idle,
        attempt: Attempt::None,
    };
}

impl World {
    /// Epochs and tokens are compared for equality alone: those that are still known somewhere are numbered from 1.
    pub fn renumber(&mut self) {
        renumber(|act| self.each_epoch(act));
        for member in 0..2 {
            renumber(|act| self.each_token(member, act));
        }
    }

    fn each_epoch(&mut self, act: &mut dyn FnMut(&mut u8)) {
        act(&mut self.row.epoch);
        for member in &mut self.members {
            member.held.iter_mut().for_each(&mut *act);
            match &mut member.leases {
                Line::Answered(Answer::Claimed(epoch) | Answer::Renewed(_, Some(epoch)))
                | Line::Asked(Ask::Claim { epoch, .. }) => act(epoch),
                _ => {}
            }
            if let Some(Ask::Claim { epoch, .. }) = &mut member.given_up {
                act(epoch);
            }
            if let Line::Asked(epoch) | Line::Answered((epoch, _)) = &mut member.writes {
                act(epoch);
            }
            if let Attempt::Recorded(epoch) = &mut member.attempt {
                act(epoch);
            }
        }
    }

    fn each_token(&mut self, member: usize, act: &mut dyn FnMut(&mut u8)) {
        act(&mut self.renewals[member].token);
        let other = &mut self.members[1 - member];
        if let Some((token, _)) = &mut other.sight {
            act(token);
        }
        if let Line::Answered(Answer::Seen(_, token)) = &mut other.leases {
            act(token);
        }
    }
}

/// Numbers what `each` goes through anew, in the same order.
fn renumber(mut each: impl FnMut(&mut dyn FnMut(&mut u8))) {
    let (mut known, mut count) = ([0; 16], 0);
    each(&mut |number| {
        known[count] = *number;
        count += 1;
    });
    let known = &mut known[..count];
    known.sort_unstable();
    each(&mut |number| {
        let mut smaller = 1;
        for pair in known.windows(2) {
            smaller += u8::from(pair[0] != pair[1] && pair[1] <= *number);
        }
        *number = smaller;
    });
}
