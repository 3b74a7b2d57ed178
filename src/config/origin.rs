//! Where messages say whose order they belong to: what producers and workers have to agree on.

use clap::Args;

use super::ExchangeType;
use crate::domain::contract::{EntityFrom, SequenceFrom};

/// Where messages say whose order they belong to, and which number they have there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct OriginArgs {
    /// Where the entity is: routing-key, or header:NAME, which the exchange then hashes; fixed when it is first declared
    #[arg(long, env = "ONCEWARD_ENTITY_FROM", default_value_t, value_name = "PLACE")]
    pub entity_from: EntityFrom,
    /// The header with the number in the entity's order: header:NAME
    #[arg(long, env = "ONCEWARD_SEQUENCE_FROM", default_value_t, value_name = "PLACE")]
    pub sequence_from: SequenceFrom,
}

impl OriginArgs {
    /// The rules that tie settings together.
    ///
    /// # Errors
    /// One line: what is wrong and what to write instead.
    pub(super) fn validate(&self, exchange_type: ExchangeType) -> Result<(), String> {
        let Some(header) = self.entity_from.header() else { return Ok(()) };
        if self.sequence_from.is(header) {
            return Err(format!(
                "--entity-from and --sequence-from are both header:{header}: the entity and its number are two headers"
            ));
        }
        if exchange_type == ExchangeType::ModulusHash {
            return Err(
                "--exchange-type x-modulus-hash hashes the routing key alone: leave out --entity-from, or use \
                 x-consistent-hash"
                    .into(),
            );
        }
        Ok(())
    }
}
