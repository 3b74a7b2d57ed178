//! Exchanges, queues and bindings: their names, their arguments, and what to do when the broker's differ.

use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use super::delay;
pub use super::names::{Names, VERSION};
use super::probe::BrokerInfo;
use crate::config::ExchangeType;
use crate::domain::event::Partition;

/// The first version whose due queues and dead-letter queue have a limit of their own.
const LIMITED: i32 = 2;
/// The first version with an exchange between that of the events and the queues.
const WITH_PARTITION_EXCHANGE: i32 = 3;

/// Returns of a message to its queue before the broker itself dead-letters it. Every lost connection returns what was
/// not acknowledged, so the limit is far above the 20 of RabbitMQ 4; it is there for a message that kills its worker.
const DELIVERY_LIMIT: i64 = 1_000;
/// The same where nothing may be dropped: dead letters, which people and shovels put back as often as they like, and what
/// operators have decided. RabbitMQ 4 drops at 20 returns where a queue says nothing; 3.10 knows no "never".
const NEVER: i64 = i32::MAX as i64;

const DURABLE: ExchangeDeclareOptions =
    ExchangeDeclareOptions { passive: false, durable: true, auto_delete: false, internal: false, nowait: false };

/// What is wrong if [`ExchangeType::ModulusHash`] is asked of an earlier broker. There a plugin may have a type of this name,
/// which routes anew whenever it likes.
pub const NO_MODULUS_HASH: &str =
    "--exchange-type x-modulus-hash needs RabbitMQ 4.3 or later: leave it out, for x-consistent-hash";

/// Why the topology is not what the worker needs.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The plugin is missing.
    #[error(
        "the broker does not know the exchange type x-consistent-hash: run \
         `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` on every node, or start with \
         --exchange-type x-modulus-hash, which RabbitMQ 4.3 and later know by themselves"
    )]
    NoConsistentHash,
    /// The broker is too old.
    #[error("{NO_MODULUS_HASH}")]
    NoModulusHash,
    /// The exchange was declared with another type.
    #[error(
        "the {what} is of another type ({reply}): give --exchange-type the type that it has; deploy/docs/servers.md says how to \
         change it"
    )]
    OtherType {
        /// Which one.
        what: String,
        /// The broker's own words.
        reply: String,
    },
    /// The exchange was set up by workers with other settings, of another database.
    #[error(
        "the exchange `{exchange}` was set up with another --partitions or --entity-from ({reply}): start with those, on their \
         database, or choose another --exchange"
    )]
    OtherRouting {
        /// Its name.
        exchange: String,
        /// The broker's own words.
        reply: String,
    },
    /// A queue or exchange exists with other arguments.
    #[error(
        "{what} exists, but is not as the worker needs it ({reply}): delete it when it is empty, or choose another \
         --exchange"
    )]
    Differs {
        /// Which one.
        what: String,
        /// The broker's own words.
        reply: String,
    },
    /// The user may not declare it.
    #[error("the broker's user may not declare {what} ({reply}): grant it configure, write and read on {prefix}.*")]
    Refused {
        /// Which one.
        what: String,
        /// The broker's own words.
        reply: String,
        /// The common beginning of all names.
        prefix: String,
    },
    /// No connection.
    #[error("{}", super::cause(.0))]
    Connection(lapin::Error),
    /// Anything else, such as a lost connection.
    #[error("declaring {what}: {}", super::cause(error))]
    Broker {
        /// Which one.
        what: String,
        /// lapin's error.
        error: lapin::Error,
    },
}

/// Tells whoever has set up an earlier version on a broker that drops what came back 20 times what to do about it.
pub fn advise(names: &Names, broker: &BrokerInfo, vhost: &str) {
    if names.version < LIMITED && broker.release() >= (4, 0) {
        let events = &names.events;
        tracing::warn!(
            "the queues `{events}.dead-letter` and `{events}.due.*` were declared without a delivery limit, and {} {} drops a \
             message that came back 20 times: set one by a policy, `rabbitmqctl set_policy --vhost '{vhost}' onceward \
             '^{events}\\.(dead-letter|due\\.[0-9]+)$' '{{\"delivery-limit\":{NEVER}}}' --apply-to queues`",
            broker.product,
            broker.version
        );
    }
}

impl TopologyError {
    /// Whether trying again can't help: somebody has to change the broker or the settings.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Connection(_) | Self::Broker { .. })
    }
}

/// Declares all of it. What is there already stays as it is.
///
/// # Errors
/// What is missing or differs, in words.
pub async fn declare(connection: &Connection, names: &Names, partitions: u16) -> Result<(), TopologyError> {
    declare_by(connection, names, async |declarer| {
        declarer.dead_letters().await?;
        declarer.ladder().await?;
        declarer.events(partitions).await
    })
    .await
}

/// Declares again what is missing, and says so; partitions' queues are missed by their consumers. A user without the permission to configure
/// gets there by the permission to read: what is there is only looked at.
pub async fn mend(connection: &Connection, names: &Names, partitions: u16) {
    mend_dead_letters(connection, names).await;
    mend_events(connection, names, partitions).await;
    mend_ladder(connection, names).await;
}

async fn mend_events(connection: &Connection, names: &Names, partitions: u16) {
    let partition_exchange = names.partition_exchange();
    if is_exchange_missing(connection, names.events()).await {
        let name = names.events();
        tracing::warn!(
            name,
            "the exchange of the events was gone from the broker, and is declared again; nobody could publish"
        );
    } else if names.version >= WITH_PARTITION_EXCHANGE && is_exchange_missing(connection, &partition_exchange).await {
        tracing::warn!(
            name = partition_exchange,
            "the exchange of the partitions was gone from the broker, and is declared again; events were returned to their \
             producers, or lost where `mandatory` was not set"
        );
    } else {
        return;
    }
    if let Err(error) = declare_by(connection, names, async |declarer| declarer.events(partitions).await).await {
        tracing::warn!(%error, "nobody can publish events");
    }
}

async fn mend_ladder(connection: &Connection, names: &Names) {
    let levels = (0..delay::LEVELS).map(|level| names.delay(level));
    let mut missing = None;
    for name in levels {
        if is_missing(connection, &name).await {
            missing = Some(name);
        }
    }
    let exchange = names.due_exchange();
    if missing.is_none() && !is_exchange_missing(connection, &exchange).await {
        return;
    }
    let name = missing.unwrap_or(exchange);
    tracing::warn!(
        name,
        "a part of the delay ladder was gone from the broker, and is declared again; retries were late meanwhile"
    );
    if let Err(error) = declare_by(connection, names, async |declarer| declarer.ladder().await).await {
        tracing::warn!(%error, "the delay ladder can't be declared again; retries are late");
    }
}

/// Declares the dead-letter exchange and its queue again if they are missing, and says so.
pub async fn mend_dead_letters(connection: &Connection, names: &Names) {
    let name = names.dead_letter();
    if !is_missing(connection, &name).await && !is_exchange_missing(connection, &name).await {
        return;
    }
    tracing::warn!(name, "the dead-letter exchange or its queue was gone from the broker, and is declared again");
    if let Err(error) = declare_by(connection, names, async |declarer| declarer.dead_letters().await).await {
        tracing::warn!(%error, "dead letters can't be published");
    }
}

async fn declare_by(
    connection: &Connection,
    names: &Names,
    declare: impl AsyncFnOnce(&mut Declarer<'_>) -> Result<(), TopologyError>,
) -> Result<(), TopologyError> {
    let mut declarer = Declarer { connection, channel: open(connection).await?, names, may_configure: true };
    declare(&mut declarer).await?;
    let _ = declarer.channel.close(200, "declared".into()).await;
    Ok(())
}

async fn open(connection: &Connection) -> Result<Channel, TopologyError> {
    let failed = |error| TopologyError::Broker { what: "a channel".into(), error };
    connection.create_channel().await.map_err(failed)
}

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;

fn says(error: &lapin::Error, code: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == code)
}

/// Each look has a channel of its own: the broker closes it if there is no such queue.
async fn is_missing(connection: &Connection, queue: &str) -> bool {
    let Ok(channel) = connection.create_channel().await else { return false };
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let looked = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
    let missing = looked.is_err_and(|error| says(&error, NOT_FOUND));
    let _ = channel.close(200, "looked".into()).await;
    missing
}

async fn is_exchange_missing(connection: &Connection, exchange: &str) -> bool {
    let Ok(channel) = connection.create_channel().await else { return false };
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let looked = channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default()).await;
    let missing = looked.is_err_and(|error| says(&error, NOT_FOUND));
    let _ = channel.close(200, "looked".into()).await;
    missing
}

struct Declarer<'a> {
    connection: &'a Connection,
    channel: Channel,
    names: &'a Names,
    /// Until the broker has refused something: then what is there is used as it is.
    may_configure: bool,
}

impl Declarer<'_> {
    async fn dead_letters(&mut self) -> Result<(), TopologyError> {
        let name = self.names.dead_letter();
        self.exchange(&name, ExchangeKind::Topic).await?;
        self.queue(&name, self.limited(table([]))).await?;
        self.bind(&name, &name, "#").await
    }

    /// The exchange that producers publish to has one binding, which comes last: to the exchange of the partitions, when that
    /// has all of its queues. So no event is routed among some of them, whoever publishes however early.
    async fn events(&mut self, partitions: u16) -> Result<(), TopologyError> {
        let all = (0..i32::from(partitions)).map(Partition);
        for partition in all.clone() {
            self.partition(partition).await?;
        }
        let events = self.names.events();
        if self.names.version < WITH_PARTITION_EXCHANGE {
            self.hashing(events).await?;
            return self.bind_all(all, events).await;
        }
        let of_partitions = self.partition_exchange(partitions).await?;
        self.bind_all(all, &of_partitions).await?;
        self.hashing(events).await?;
        self.bind_exchange(&of_partitions, events, "1").await
    }

    /// Nobody can publish to it. How many partitions it has, and what it hashes, would not be compared with what is there: it
    /// has a mark, which is.
    async fn partition_exchange(&mut self, partitions: u16) -> Result<String, TopologyError> {
        let (name, (kind, mut arguments)) = (self.names.partition_exchange(), self.hash());
        let mark = AMQPValue::LongString(self.names.mark(partitions).into());
        arguments.insert("alternate-exchange".into(), mark);
        self.exchange_as(&name, kind, ExchangeDeclareOptions { internal: true, ..DURABLE }, arguments).await?;
        Ok(name)
    }

    /// The exchange that producers publish to, as they may declare it, too.
    async fn hashing(&mut self, name: &str) -> Result<(), TopologyError> {
        let (kind, arguments) = self.hash();
        self.exchange_as(name, kind, DURABLE, arguments).await
    }

    /// The type of an exchange that routes by a hash of the entity, and its arguments.
    fn hash(&self) -> (ExchangeKind, FieldTable) {
        let mut arguments = FieldTable::default();
        if let Some(header) = &self.names.hash_header {
            arguments.insert("hash-header".into(), AMQPValue::LongString(header.as_str().into()));
        }
        (ExchangeKind::Custom(self.names.exchange_type.name().into()), arguments)
    }

    /// One binding of weight 1 for each partition, in order: x-consistent-hash numbers its buckets by the order of binding.
    /// x-modulus-hash looks at the number of bindings alone.
    async fn bind_all(
        &mut self,
        partitions: impl Iterator<Item = Partition>,
        exchange: &str,
    ) -> Result<(), TopologyError> {
        for partition in partitions {
            self.bind(&self.names.partition(partition), exchange, "1").await?;
        }
        Ok(())
    }

    /// From the foot up, so that each level finds the one that it leads to.
    async fn ladder(&mut self) -> Result<(), TopologyError> {
        let due = self.names.due_exchange();
        self.exchange(&due, ExchangeKind::Topic).await?;
        for level in 0..delay::LEVELS {
            let this = self.names.delay(level);
            let next = if level == 0 { due.clone() } else { self.names.delay(level - 1) };
            self.exchange(&this, ExchangeKind::Topic).await?;
            let ttl = i64::try_from(delay::ttl(level).as_millis()).unwrap_or(i64::MAX);
            let arguments = [
                ("x-message-ttl", AMQPValue::LongLongInt(ttl)),
                ("x-dead-letter-exchange", AMQPValue::LongString(next.as_str().into())),
                ("x-dead-letter-strategy", AMQPValue::LongString("at-least-once".into())),
                ("x-overflow", AMQPValue::LongString("reject-publish".into())),
            ];
            self.queue(&this, table(arguments)).await?;
            self.bind(&this, &this, &delay::pattern(level, 1)).await?;
            self.bind_exchange(&next, &this, &delay::pattern(level, 0)).await?;
        }
        Ok(())
    }

    /// The two queues of a partition.
    async fn partition(&mut self, partition: Partition) -> Result<(), TopologyError> {
        let due = self.names.due(partition);
        let arguments = table([("x-single-active-consumer", AMQPValue::Boolean(true))]);
        self.queue(&due, self.limited(arguments)).await?;
        self.bind(&due, &self.names.due_exchange(), &delay::due_pattern(partition)).await?;
        let queue = self.names.partition(partition);
        let arguments = [
            ("x-single-active-consumer", AMQPValue::Boolean(true)),
            ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", AMQPValue::LongString(self.names.dead_letter().as_str().into())),
            ("x-dead-letter-strategy", AMQPValue::LongString("at-least-once".into())),
            ("x-overflow", AMQPValue::LongString("reject-publish".into())),
        ];
        self.queue(&queue, table(arguments)).await
    }

    /// The arguments of a queue that drops nothing, as far as its version says so.
    fn limited(&self, mut arguments: FieldTable) -> FieldTable {
        if self.names.version >= LIMITED {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(NEVER));
        }
        arguments
    }

    async fn exchange(&mut self, name: &str, kind: ExchangeKind) -> Result<(), TopologyError> {
        self.exchange_as(name, kind, DURABLE, FieldTable::default()).await
    }

    async fn exchange_as(
        &mut self,
        name: &str,
        kind: ExchangeKind,
        options: ExchangeDeclareOptions,
        arguments: FieldTable,
    ) -> Result<(), TopologyError> {
        let what = format!("exchange `{name}`");
        if self.may_configure {
            let declared = self.channel.exchange_declare(name.into(), kind.clone(), options, arguments).await;
            if !self.is_to_be_found(&declared).await? {
                return declared.map_err(|error| self.explain(what, error));
            }
        }
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let found = self.channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await;
        found.map_err(|error| self.not_found(what, error))
    }

    async fn queue(&mut self, name: &str, arguments: FieldTable) -> Result<(), TopologyError> {
        let what = format!("queue `{name}`");
        if self.may_configure {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let declared = self.channel.queue_declare(name.into(), options, arguments).await.map(drop);
            if !self.is_to_be_found(&declared).await? {
                return declared.map_err(|error| self.explain(what, error));
            }
        }
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = self.channel.queue_declare(name.into(), options, FieldTable::default()).await;
        found.map(drop).map_err(|error| self.not_found(what, error))
    }

    async fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), TopologyError> {
        let options = QueueBindOptions::default();
        let bound =
            self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await;
        self.bound(format!("the binding of queue `{queue}`"), bound).await
    }

    async fn bind_exchange(&mut self, to: &str, from: &str, key: &str) -> Result<(), TopologyError> {
        let options = ExchangeBindOptions::default();
        let bound =
            self.channel.exchange_bind(to.into(), from.into(), key.into(), options, FieldTable::default()).await;
        self.bound(format!("the binding of exchange `{from}`"), bound).await
    }

    /// Whoever may not configure has a topology that somebody else has bound, too.
    async fn bound(&mut self, what: String, bound: lapin::Result<()>) -> Result<(), TopologyError> {
        if self.is_to_be_found(&bound).await? { Ok(()) } else { bound.map_err(|error| self.explain(what, error)) }
    }

    /// Whether the user may not do this, so that it is only looked for: a worker may run on a topology that an administrator has
    /// declared. The broker has closed the channel then.
    async fn is_to_be_found(&mut self, done: &lapin::Result<()>) -> Result<bool, TopologyError> {
        if !done.as_ref().is_err_and(|error| says(error, ACCESS_REFUSED)) {
            return Ok(false);
        }
        if self.may_configure {
            tracing::info!(
                "the broker's user may not declare exchanges and queues: those that are there are used as they are"
            );
        }
        self.may_configure = false;
        self.channel = open(self.connection).await?;
        Ok(true)
    }

    fn not_found(&self, what: String, error: lapin::Error) -> TopologyError {
        if says(&error, NOT_FOUND) {
            let reply = "it is not there".into();
            return TopologyError::Refused { what, reply, prefix: self.names.events().into() };
        }
        self.explain(what, error)
    }

    /// The broker's refusal in words that say how to mend it.
    fn explain(&self, what: String, error: lapin::Error) -> TopologyError {
        let ErrorKind::ProtocolError(refusal) = error.kind() else {
            return TopologyError::Broker { what, error };
        };
        let reply = refusal.get_message().to_string();
        match refusal.get_id() {
            // COMMAND_INVALID (503), or PRECONDITION_FAILED (406) from newer brokers.
            503 | 406 if reply.contains("unknown exchange type") || reply.contains("invalid exchange type") => {
                match self.names.exchange_type {
                    ExchangeType::ConsistentHash => TopologyError::NoConsistentHash,
                    ExchangeType::ModulusHash => TopologyError::NoModulusHash,
                }
            }
            406 if reply.contains("inequivalent arg 'type'") && what.starts_with("exchange") => {
                TopologyError::OtherType { what, reply }
            }
            406 if reply.contains("inequivalent arg 'alternate-exchange'")
                && what.contains(&self.names.partition_exchange()) =>
            {
                TopologyError::OtherRouting { exchange: self.names.events().into(), reply }
            }
            406 => TopologyError::Differs { what, reply },
            403 => TopologyError::Refused { what, reply, prefix: self.names.events().into() },
            _ => TopologyError::Broker { what, error },
        }
    }
}

/// The arguments of a quorum queue.
fn table<const N: usize>(arguments: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}
