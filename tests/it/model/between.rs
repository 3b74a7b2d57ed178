//! What happens between transactions: members come, go and take partitions, and the sweeps look.

use std::fmt::Debug;
use std::time::Duration;

use onceward::domain::candidate::Token;
use onceward::domain::event::{Entity, EventId, Host, Partition};
use onceward::engine::membership::{Claimed, Released};
use onceward::lease::{Held, Standing};
use onceward::store::{audit, line, members, outbox, retention, stray};
use uuid::Uuid;

use super::both::{HOST_CAP, PARTITIONS};
use super::shown;
use super::trial::Trial;

const LEASES: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(30)];
/// More than a sequence ever has.
const ALL: i64 = 1_000;

impl Trial<'_> {
    /// Both members join, and take most of the partitions.
    pub async fn gather_crew(&mut self) -> Result<(), String> {
        for who in [0, 1] {
            self.renew(who).await?;
        }
        for partition in 0..PARTITIONS {
            let who = self.random.usize(..2);
            self.claim(who, &[Partition(partition.into())]).await?;
        }
        Ok(())
    }

    /// A member that thinks it has a lease. If there is none, one takes what it can get.
    pub async fn somebody(&mut self) -> Result<usize, String> {
        loop {
            let some: Vec<usize> = (0..2).filter(|who| !self.leases[*who].is_empty()).collect();
            if let Some(who) = self.any(some) {
                return Ok(who);
            }
            let (who, other) = if self.random.bool() { (0, 1) } else { (1, 0) };
            self.renew(who).await?;
            self.note_gone(other, 0).await?;
            let all: Vec<Partition> = (0..PARTITIONS).map(|partition| Partition(partition.into())).collect();
            self.claim(who, &all).await?;
        }
    }

    /// Something about members and their partitions.
    pub async fn change_crew(&mut self) -> Result<(), String> {
        let (who, other) = if self.random.bool() { (0, 1) } else { (1, 0) };
        match self.random.u8(..100) {
            0..=19 => self.renew(who).await,
            20..=29 => {
                let late = self.random.i64(0..3) / 2;
                self.note_gone(other, late).await
            }
            30..=59 => {
                let wanted: Vec<Partition> = (0..PARTITIONS)
                    .filter(|_| self.random.bool())
                    .map(|partition| Partition(partition.into()))
                    .collect();
                self.claim(who, &wanted).await
            }
            60..=69 => self.release(who).await,
            70..=84 => self.change_share(who).await,
            85..=89 => {
                self.steps.push(format!("{who} begins to leave"));
                let member = self.member(who);
                members::begin_to_leave(&mut self.both.connection, &member).await.map_err(told)?;
                self.model.begin_to_leave(member.id);
                Ok(())
            }
            90..=93 => {
                self.steps.push(format!("{who} leaves"));
                let member = self.member(who);
                members::leave(&mut self.both.connection, &member).await.map_err(told)?;
                self.model.leave(member.id);
                Ok(())
            }
            _ => Ok(()),
        }?;
        let member = self.member(who);
        let view = members::view(&mut self.both.connection, &member).await.map_err(told)?;
        same("views", &view, &self.model.view(member.id))
    }

    async fn renew(&mut self, who: usize) -> Result<(), String> {
        self.steps.push(format!("{who} renews"));
        let (member, lease) = (self.member(who), self.any(LEASES).unwrap_or_default());
        let renewed = members::renew(&mut self.both.connection, &member, lease).await.map_err(told)?;
        let ends = self.renewal(member.id).await?.unwrap_or_default();
        same("renewals", &renewed, &self.model.renew(member.id, HOST_CAP, lease, ends))
    }

    async fn renewal(&mut self, id: Uuid) -> Result<Option<i64>, String> {
        let sql = "select (extract(epoch from expires_at) * 1000000)::int8 from member where id = $1";
        sqlx::query_scalar(sql).bind(id).fetch_optional(&mut self.both.connection).await.map_err(told)
    }

    /// A member's renewals stood still, or did so until `late` ago.
    async fn note_gone(&mut self, who: usize, late: i64) -> Result<(), String> {
        self.steps.push(format!("{who} is found to be gone{}", if late > 0 { ", though it has renewed" } else { "" }));
        let member = self.member(who);
        let renewal = self.renewal(member.id).await?.unwrap_or_default();
        let gone = [(member.id, (renewal - late) ^ self.model.server)];
        members::note_gone(&mut self.both.connection, &gone).await.map_err(told)?;
        self.model.note_gone(&gone);
        Ok(())
    }

    async fn claim(&mut self, who: usize, wanted: &[Partition]) -> Result<(), String> {
        let epoch = |partition: &Partition| self.model.owned(*partition).epoch;
        let mut wanted: Vec<(Partition, i64)> = wanted.iter().map(|partition| (*partition, epoch(partition))).collect();
        if let Some(first) = wanted.first_mut().filter(|_| self.random.u8(..10) == 0) {
            first.1 -= 1;
        }
        self.steps.push(format!("{who} claims {wanted:?}"));
        let member = self.member(who);
        let claimed = members::claim(&mut self.both.connection, &member, &wanted).await.map_err(told)?;
        same("claims", &claimed, &self.model.claim(member.id, &wanted))?;
        for claimed in claimed {
            let lease = Standing::default().lease(&claimed);
            self.leases[who].insert(claimed.partition, lease.hold().expect("it has just begun"));
        }
        Ok(())
    }

    async fn release(&mut self, who: usize) -> Result<(), String> {
        let Some(partition) = self.any(self.partitions(who)) else { return Ok(()) };
        let epoch = self.held(who, partition).epoch();
        let released = [Released { partition, epoch, graceful: self.random.bool() }];
        self.steps.push(format!("{who} gives back {released:?}"));
        let member = self.member(who);
        members::release(&mut self.both.connection, &member, &released).await.map_err(told)?;
        self.model.release(member.id, &released);
        // What is still under way under it is fenced.
        if self.chance(70) {
            self.leases[who].remove(&partition);
        }
        Ok(())
    }

    async fn change_share(&mut self, who: usize) -> Result<(), String> {
        let (member, share) = (self.member(who), self.random.u16(..=HOST_CAP));
        if self.chance(35) {
            self.steps.push(format!("{who} lowers its share to {share}"));
            members::lower_share(&mut self.both.connection, &member, share).await.map_err(told)?;
            self.model.lower_share(member.id, share);
            return Ok(());
        }
        self.steps.push(format!("{who} raises its share to {share}"));
        let raised = members::raise_share(&mut self.both.connection, &member, share, HOST_CAP).await.map_err(told)?;
        same("shares", &raised, &self.model.raise_share(member.id, share, HOST_CAP))
    }

    /// What the sweeps do, and a hand on the database.
    pub async fn look(&mut self) -> Result<(), String> {
        match self.random.u8(..10) {
            0..=3 => self.sweep().await,
            4..=6 => self.publish().await,
            7 => self.expire().await,
            _ => self.take_event_away().await,
        }
    }

    /// The sweeps' questions.
    async fn sweep(&mut self) -> Result<(), String> {
        let all: Vec<Partition> = (0..PARTITIONS).map(|partition| Partition(partition.into())).collect();
        let some: Vec<Partition> = all.into_iter().filter(|_| self.random.bool()).collect();
        let numbers: Vec<i32> = some.iter().map(|partition| partition.0).collect();
        self.steps.push(format!("sweeps look at {numbers:?}"));
        let connection = &mut self.both.connection;

        let overdue = line::overdue(connection, &numbers, 0, (0, 0), ALL).await.map_err(told)?;
        let overdue = overdue.into_iter().map(|row| {
            let attempts = u16::try_from(row.attempts).unwrap_or_default();
            (Partition(row.partition), Entity::from(row.entity), Token { id: EventId(row.event_id), attempts })
        });
        let modelled = self.model.overdue(&some, Duration::ZERO, Self::now());
        shown::differ("retries that are overdue", each(overdue), each(modelled))?;

        let hosts: Vec<Host> = line::parked_hosts(connection, &numbers, ALL).await.map_err(told)?;
        shown::differ("hosts", each(hosts), each(self.model.parked_hosts(&some, usize::MAX)))?;

        let any = stray::any(connection, &numbers).await.map_err(told)?;
        same("strays", &any, &self.model.has_strays(&some))?;

        let looked = audit::look(connection, &numbers, EventId(0)).await.map_err(told)?;
        shown::differ("suspects", each(looked.suspects), each(self.model.suspects(&some)))?;

        let left = outbox::left_behind(&self.both.pool, &numbers, 0, EventId(0), ALL).await.map_err(told)?;
        let left = left.into_iter().map(|(id, partition)| (id, Partition(partition)));
        let modelled = self.model.left_behind(&some, Duration::ZERO, Self::now());
        shown::differ("letters that were left", each(left), each(modelled))
    }

    /// The broker confirms a letter: perhaps one of before, or under a lease of before.
    async fn publish(&mut self) -> Result<(), String> {
        let letters: Vec<EventId> = self.model.letters.keys().copied().collect();
        let Some(id) = self.any(letters) else { return Ok(()) };
        let letter = outbox::unpublished_one(&self.both.pool, id).await.map_err(told)?;
        let told_of = letter.as_ref().map(|letter| (letter.reason.as_str(), letter.failed_us));
        let modelled = self.model.unpublished(id);
        same("letters", &told_of, &modelled.as_ref().map(|letter| (letter.reason, letter.failed_us)))?;
        let (Some(mut letter), Some(modelled)) = (letter, modelled) else { return Ok(()) };
        let mut epoch = self.model.owned(modelled.partition).epoch;
        if self.chance(15) {
            letter.failed_us -= 1;
        }
        if self.chance(15) {
            epoch -= 1;
        }
        let held = held(modelled.partition, epoch);
        self.steps.push(format!("the letter of {id} is published, as failed at {}, under {epoch}", letter.failed_us));
        outbox::mark_published(&self.both.pool, &letter, &held).await.map_err(told)?;
        self.model.mark_published(id, letter.failed_us, modelled.partition, epoch);
        Ok(())
    }

    async fn expire(&mut self) -> Result<(), String> {
        self.steps.push("what is final expires".into());
        let deleted = retention::sweep(&self.both.pool, Duration::ZERO).await.map_err(told)?;
        let batch = usize::try_from(retention::BATCH).unwrap_or(usize::MAX);
        let modelled = self.model.expire(Duration::ZERO, batch, Self::now());
        same("numbers of expired events", &deleted, &(modelled as u64))
    }

    /// An open event's own row is lost, and perhaps that of the one behind it.
    async fn take_event_away(&mut self) -> Result<(), String> {
        let open: Vec<EventId> = self.model.open.keys().copied().collect();
        let Some(id) = self.any(open) else { return Ok(()) };
        let line = self.model.open.get(&id).and_then(|open| self.model.lines.get(&open.entity));
        let behind = line.into_iter().flatten().map(|(_, id)| *id).skip_while(|other| *other != id);
        let many = 1 + self.random.usize(..2);
        for id in behind.take(many).collect::<Vec<_>>() {
            // What its body had is known to the store alone then: the model would read on with a large one.
            let event = self.model.events.get(&id).map(|kept| kept.event.clone());
            let Some(event) = event.filter(|event| event.body.len() < 100) else { continue };
            self.steps.push(format!("{id} is taken away"));
            let delete = sqlx::query("delete from event where id = $1").bind(id.0);
            delete.execute(&mut self.both.connection).await.map_err(told)?;
            self.model.events.remove(&id);
            self.model.keys.remove(&event.key);
            self.orphans.insert(id, event);
        }
        Ok(())
    }
}

fn held(partition: Partition, epoch: i64) -> Held {
    let lease = Standing::default().lease(&Claimed { partition, epoch, graceful: false });
    lease.hold().expect("it has just begun")
}

fn same<T: PartialEq + Debug>(what: &str, store: &T, model: &T) -> Result<(), String> {
    if store == model {
        return Ok(());
    }
    Err(format!("{what} differ.\n  The store: {store:?}\n  The model: {model:?}"))
}

fn each<T: Debug>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| format!("{item:?}")).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped by")]
fn told(error: sqlx::Error) -> String {
    format!("the store: {error}")
}
