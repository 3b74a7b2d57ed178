//! What the reading of a value needs.

use super::Limits;
use super::source::Sources;
use crate::domain::backoff::Backoff;

/// What the reading of a value needs.
pub(super) struct Context {
    pub(super) sources: Sources,
    pub(super) limits: Limits,
    /// The growing delays of the flags.
    pub(super) backoff: Backoff,
}
