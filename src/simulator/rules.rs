//! Rules that can be left out, to see that the simulator would notice.

/// A rule of the system. Where the simulator plays the part of a shell or of the store, it keeps these, but for one that it is
/// told to leave out. Some are missed by the promises, and the others where the model is held against the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A transaction is fenced: owner and epoch of all its partitions have to be the writer's.
    Fence,
    /// A settlement is recorded only for the attempt that is in flight.
    SettleWhatIsInFlight,
    /// An attempt begins only if as many have begun as its worker thinks.
    StartWhatIsKnown,
    /// The next of a line begins only if the one before it became final in the same transaction.
    BeginAfterTheOneBefore,
    /// Of parked events, a token wakes none.
    ParkedSleepOn,
    /// A token that names an earlier attempt is void.
    OldTokensAreVoid,
    /// What is void leaves no failed attempt and no dead letter.
    VoidLeavesNothing,
    /// A key is one execution.
    OneKeyOneEvent,
    /// A line is in one partition, whichever queue its events come by.
    OneLineOneHome,
    /// The owner of a line is told of an event that came in elsewhere.
    NoteStrays,
    /// Whoever joins a line behind an event that came in elsewhere is told that its owner may not have seen that.
    TellOfUnseen,
    /// Only heads of lines are parked when a partition is taken over.
    ParkHeadsOnly,
    /// Whoever takes a partition over looks at what is in flight.
    AdoptWhatIsInFlight,
    /// A retry is sent when it is due, and not before.
    WaitUntilDue,
    /// A redriven event comes before all that is still open.
    RedrivenGoFirst,
    /// A decision that comes twice does not hold for a later failure.
    DecisionsNameTheirFailure,
    /// A letter is marked as published only for the failure that it is about.
    LettersNameTheirFailure,
    /// An event whose letter is not published is kept.
    KeepUnpublished,
    /// A worker that was found to be gone gets nothing back.
    GoneIsGone,
    /// A partition is claimed only at the epoch that was seen.
    ClaimWhatWasSeen,
    /// A worker takes no larger share of the cap than the others leave.
    ShareWhatIsLeft,
    /// A worker is gone only when its renewals stood still for a whole lease.
    WatchAWholeLease,
    /// Where another server takes over, which may have forgotten renewals, that whole lease begins anew.
    WatchAnewAfterFailover,
    /// A lease counts from before it was asked for, and less than its length.
    CountFromBefore,
    /// An attempt starts only if its deadline lies within the lease.
    DeadlineWithinLease,
    /// A process that was paused looks at the clock again before it sends.
    LookBeforeSending,
    /// An attempt that waited while the leases ended is not sent when they are taken again.
    LapsedIsNotSent,
    /// A clock goes on while its machine is suspended.
    ClockGoesOnSuspended,
    /// A share of the cap becomes smaller only when nothing is begun beyond it.
    ShrinkBeforeTelling,
    /// Messages are acknowledged after the commit.
    AcknowledgeAfterCommit,
    /// After a lost answer, the store is asked whether the commit took place.
    AskWhenInDoubt,
    /// Results come in the order of the commits.
    ResultsInOrder,
    /// Overdue retries are looked for.
    SweepOverdue,
    /// Parked events are looked for.
    SweepParked,
    /// Letters that were left behind are looked for.
    SweepLetters,
    /// Open events that nobody has in hand are looked for.
    SweepAdrift,
    /// A letter is marked as published only when the broker has confirmed it.
    ConfirmLetters,
    /// A consumer waits until nobody else consumes, and until the broker has taken everything back.
    WaitUntilAlone,
    /// A consumer ends when its lease does, also if nobody has said so.
    ConsumeUnderLease,
    /// A lease is given back only when nothing is at work under it.
    DrainBeforeRelease,
    /// What is known to be shut or paused gets nothing.
    HeedGates,
    /// A host whose gate is shut is probed.
    ProbeShutHosts,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 42] = [
        Self::Fence,
        Self::SettleWhatIsInFlight,
        Self::StartWhatIsKnown,
        Self::BeginAfterTheOneBefore,
        Self::ParkedSleepOn,
        Self::OldTokensAreVoid,
        Self::VoidLeavesNothing,
        Self::OneKeyOneEvent,
        Self::OneLineOneHome,
        Self::NoteStrays,
        Self::TellOfUnseen,
        Self::ParkHeadsOnly,
        Self::AdoptWhatIsInFlight,
        Self::WaitUntilDue,
        Self::RedrivenGoFirst,
        Self::DecisionsNameTheirFailure,
        Self::LettersNameTheirFailure,
        Self::KeepUnpublished,
        Self::GoneIsGone,
        Self::ClaimWhatWasSeen,
        Self::ShareWhatIsLeft,
        Self::WatchAWholeLease,
        Self::WatchAnewAfterFailover,
        Self::CountFromBefore,
        Self::DeadlineWithinLease,
        Self::LookBeforeSending,
        Self::LapsedIsNotSent,
        Self::ClockGoesOnSuspended,
        Self::ShrinkBeforeTelling,
        Self::AcknowledgeAfterCommit,
        Self::AskWhenInDoubt,
        Self::ResultsInOrder,
        Self::SweepOverdue,
        Self::SweepParked,
        Self::SweepLetters,
        Self::SweepAdrift,
        Self::ConfirmLetters,
        Self::WaitUntilAlone,
        Self::ConsumeUnderLease,
        Self::DrainBeforeRelease,
        Self::HeedGates,
        Self::ProbeShutHosts,
    ];
}
