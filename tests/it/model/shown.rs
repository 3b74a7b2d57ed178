//! Commands and answers as lines of text: without durations, and without an order where a statement has none.

use onceward::domain::admission::Admission;
use onceward::domain::candidate::Candidate;
use onceward::domain::event::Partition;
use onceward::domain::verdict::Decision;
use onceward::engine::command::{Admitted, Front, Unpark, Woken};
use onceward::engine::lanes::Then;
use onceward::handoff::{Arrival, Command, Settlement, Written};
use onceward::lease::Held;

/// What two lists have that the other one has not, whatever their order.
pub fn differ(what: &str, mut store: Vec<String>, mut model: Vec<String>) -> Result<(), String> {
    store.sort_unstable();
    model.sort_unstable();
    if store == model {
        return Ok(());
    }
    let only = |these: &[String], those: &[String]| {
        let mut rest = those.to_vec();
        let mut only = String::new();
        for line in these {
            match rest.iter().position(|other| other == line) {
                Some(at) => drop(rest.swap_remove(at)),
                None => only = format!("{only}\n    {line}"),
            }
        }
        only
    };
    let (in_store, in_model) = (only(&store, &model), only(&model, &store));
    Err(format!("{what} differ.\n  Only the store has:{in_store}\n  Only the model has:{in_model}"))
}

pub fn all(written: &[Written]) -> Vec<String> {
    written.iter().map(answer).collect()
}

/// All kinds of answers.
pub const KINDS: &[&str] = &[
    "a front",
    "a front of several",
    "a front that waits",
    "already_failed",
    "audited",
    "begins",
    "delivered",
    "due",
    "duplicate",
    "early",
    "failed",
    "gathered",
    "joins",
    "joins as head",
    "joins elsewhere",
    "key_conflict",
    "missing_sequence",
    "none gathered",
    "none parked",
    "not admitted",
    "not operated",
    "not settled",
    "not started",
    "on hold",
    "operated",
    "parked",
    "ready",
    "redriven",
    "retried",
    "sequence_passed",
    "sequence_taken",
    "several orphans",
    "started",
    "taken over",
    "taken over in flight",
    "unparked",
    "unstorable",
    "withdrawn",
];

/// What kinds of answers these are.
pub fn kinds(written: &Written) -> Vec<&'static str> {
    vec![match written {
        Written::Admitted { admitted, .. } => {
            return admitted.iter().map(|(arrival, admitted)| came(arrival, admitted)).collect();
        }
        Written::NotAdmitted { .. } => "not admitted",
        Written::Started { .. } => "started",
        Written::NotStarted(_) => "not started",
        Written::NotSettled(_) => "not settled",
        Written::Settled { settlement, .. } => match settlement.decision {
            Decision::Deliver => "delivered",
            Decision::Retry(_) => "retried",
            Decision::Withdraw(_) => "withdrawn",
            Decision::Fail(_) => "failed",
            Decision::Hold(_) => "on hold",
        },
        Written::Front(front) if front.events.len() > 1 => "a front of several",
        Written::Front(front) if front.events.is_empty() && front.more => "a front that waits",
        Written::Front(_) => "a front",
        Written::Woken(Woken::Due { .. }) => "due",
        Written::Woken(Woken::Early { .. }) => "early",
        Written::Unparked { events, .. } if events.is_empty() => "none parked",
        Written::Unparked { .. } => "unparked",
        Written::Parked(_) => "parked",
        Written::Operated(_) => "operated",
        Written::NotOperated(_) => "not operated",
        Written::Gathered(gathered) if gathered.entities.is_empty() => "none gathered",
        Written::Gathered(_) => "gathered",
        Written::Audited(confirmed) if confirmed.orphans.len() > 1 => "several orphans",
        Written::Audited(confirmed) if !confirmed.ready.is_empty() => "ready",
        Written::Audited(_) => "audited",
        Written::TakenOver { in_flight, .. } if in_flight.is_empty() => "taken over",
        Written::TakenOver { .. } => "taken over in flight",
    }]
}

fn came(arrival: &Arrival, admitted: &Admitted) -> &'static str {
    match &admitted.admission {
        Admission::Join { .. } if admitted.begins(arrival) => "begins",
        Admission::Join { home, .. } if *home != arrival.event.partition => "joins elsewhere",
        Admission::Join { head: true, .. } => "joins as head",
        Admission::Join { .. } => "joins",
        Admission::Duplicate => "duplicate",
        Admission::Redrive => "redriven",
        Admission::Reject(poison) => poison.code(),
    }
}

fn answer(written: &Written) -> String {
    match written {
        Written::Admitted { ticket, admitted } => {
            let each = admitted.iter().map(|(arrival, Admitted { admission, id })| {
                let id = id.map_or("-".into(), |id| id.to_string());
                format!("{} {id} {admission:?}", arrival.event.key)
            });
            format!("{ticket:?} admitted: {}", joined(each))
        }
        Written::NotAdmitted { ticket, arrivals } => {
            format!("{ticket:?} not admitted: {}", joined(arrivals.iter().map(arrival)))
        }
        Written::Started { candidate, held } => format!("started {} in {}", short(candidate), held.partition()),
        Written::NotStarted(candidate) => format!("not started {}", short(candidate)),
        Written::NotSettled(candidate) => format!("not settled {}", short(candidate)),
        Written::Settled { settlement, then } => format!("settled {}", settled(settlement, then)),
        Written::Front(Front { entity, events, more }) => {
            format!("front of {entity}: {}{}", joined(events.iter().map(whole)), if *more { ", more" } else { "" })
        }
        Written::Woken(Woken::Due { event, .. }) => format!("due {}", whole(event)),
        Written::Woken(Woken::Early { token, partition, .. }) => format!("early {token:?} in {partition}"),
        Written::Unparked { host, events, more } => {
            format!("unparked at {host}: {}{}", joined(events.iter().map(whole)), if *more { ", more" } else { "" })
        }
        Written::Parked(id) => format!("parked {id}"),
        Written::Operated(ticket) => format!("operated {ticket:?}"),
        Written::NotOperated(ticket) => format!("not operated {ticket:?}"),
        Written::Gathered(gathered) => {
            let (entities, hosts) = (sorted(gathered.entities.iter()), sorted(gathered.hosts.iter()));
            format!("gathered {entities} at {hosts}")
        }
        Written::Audited(confirmed) => {
            let in_flight = sorted(confirmed.in_flight.iter().map(known));
            let ready = sorted(confirmed.ready.iter().map(|ready| format!("{ready:?}")));
            let orphans = sorted(confirmed.orphans.iter().map(|(id, entity)| format!("{id} of {entity}")));
            format!("audited: in flight {in_flight}, ready {ready}, orphans {orphans}")
        }
        Written::TakenOver { held, in_flight, hosts } => {
            let (in_flight, hosts) = (joined(in_flight.iter().map(known)), sorted(hosts.iter()));
            format!("taken over {}: {in_flight}, hosts {hosts}", held.partition())
        }
    }
}

/// What a command says.
pub fn command(command: &Command) -> String {
    match command {
        Command::Admit { ticket, arrivals } => format!("admit {ticket:?}: {}", joined(arrivals.iter().map(arrival))),
        Command::Start { candidate, held } => format!("start {} in {}", short(candidate), held.partition()),
        Command::Settle { settlement, then } => format!("settle {}", settled(settlement, then)),
        Command::ReadFront { entity, held } => format!("read {entity} in {}", held.partition()),
        Command::Wake { token, held } => format!("wake {token:?} in {}", held.partition()),
        Command::Park { id, held } => format!("park {id} in {}", held.partition()),
        Command::Unpark(Unpark { host, which, but, held }) => {
            format!("unpark {which:?} at {host}, but of {but:?}, in {}", sorted(partitions(held)))
        }
        Command::Operate { decided, held, .. } => format!("operate {decided:?} in {}", held.partition()),
        Command::Gather { held } => format!("gather in {}", sorted(partitions(held))),
        Command::Audit { suspects, held } => format!("audit {suspects:?} in {}", sorted(partitions(held))),
        Command::TakeOver { held } => format!("take over {}", held.partition()),
    }
}

/// The leases under which a command is given.
pub fn held_by(command: &Command) -> Vec<Held> {
    match command {
        Command::Admit { arrivals, .. } => arrivals.iter().map(|arrival| arrival.held.clone()).collect(),
        Command::Settle { settlement, .. } => vec![settlement.held.clone()],
        Command::Unpark(Unpark { held, .. }) | Command::Gather { held } | Command::Audit { held, .. } => held.clone(),
        Command::Start { held, .. }
        | Command::ReadFront { held, .. }
        | Command::Wake { held, .. }
        | Command::Park { held, .. }
        | Command::Operate { held, .. }
        | Command::TakeOver { held } => vec![held.clone()],
    }
}

fn partitions(held: &[Held]) -> impl Iterator<Item = Partition> {
    held.iter().map(Held::partition)
}

fn arrival(arrival: &Arrival) -> String {
    let Arrival { event, place, unstorable, .. } = arrival;
    let number = event.sequence.map_or("-".into(), |sequence| sequence.to_string());
    let sent_back = if event.is_sent_back { ", sent back" } else { "" };
    let refused = if unstorable.is_some() { ", unstorable" } else { "" };
    let what = format!("{} of {} by {} number {number} to {}", event.key, event.entity, event.partition, event.host);
    format!("{what}, {} bytes, {place:?}{sent_back}{refused}", event.body.len())
}

fn settled(settlement: &Settlement, then: &Then) -> String {
    let then = match then {
        Then::Begin(next) => format!("begin {}", short(next)),
        Then::Read => "read".into(),
        Then::Nothing => "nothing".into(),
    };
    let Settlement { candidate, held, outcome, decision, .. } = settlement;
    format!("{} in {}: {decision:?} for {outcome:?}, then {then}", short(candidate), held.partition())
}

/// An event by number and attempts.
fn short(candidate: &Candidate) -> String {
    format!("{} after {}", candidate.id, candidate.attempts)
}

/// An event whose body is not read.
fn known(candidate: &Candidate) -> String {
    let event = &candidate.event;
    let number = event.sequence.map_or("-".into(), |sequence| sequence.to_string());
    let place = format!("{} of {} in {} number {number} to {}", event.key, event.entity, event.partition, event.host);
    format!("{}, {} unknown: {place}", short(candidate), candidate.unknown)
}

/// An event with its content.
fn whole(candidate: &Candidate) -> String {
    let [first, second, ..] = candidate.event.digest().0;
    format!("{}, content {first:02x}{second:02x}", known(candidate))
}

fn joined(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join("; "))
}

fn sorted(items: impl Iterator<Item = impl ToString>) -> String {
    let mut items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.sort_unstable();
    joined(items.into_iter())
}
