//! The HTTP clients of all attempts: one pool for most receivers, and one more for each way of connecting that settings want.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::descriptors::Descriptors;
use super::names::Names;
use super::own::OwnAddresses;
use super::pool::{ClientSettings, Pool, SetUpError, Shared};
use crate::clock;
use crate::domain::destination::{Destinations, Transport};

/// What keeps an attempt from being sent meets many at once: it is told so often at most.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// And of so many destinations in that time.
const TOLD_AT_MOST: usize = 1_000;

/// The clients.
pub struct Clients {
    settings: ClientSettings,
    shared: Shared,
    /// For receivers without settings of their own about connections.
    usual: Arc<Pool>,
    /// Those of settings. As many as there are entries at most: [`Self::follow`].
    others: Mutex<HashMap<Arc<Transport>, Arc<Pool>>>,
    /// When each thing was told last.
    told: Mutex<HashMap<(&'static str, Arc<str>), Duration>>,
}

impl Clients {
    /// Sets up what all attempts are sent by.
    ///
    /// # Errors
    /// TLS can't be set up.
    pub fn new(settings: ClientSettings) -> Result<Self, SetUpError> {
        let shared = Shared {
            names: Names::new(&settings.name_servers, settings.attempt_timeout, settings.connection_life),
            own: OwnAddresses::new(settings.guard.clone()),
            descriptors: Arc::new(Descriptors::new()),
        };
        let usual = Arc::new(Pool::new(settings.clone(), shared.clone(), &Transport::default())?);
        Ok(Self { settings, shared, usual, others: Mutex::default(), told: Mutex::default() })
    }

    /// The pool for receivers with these settings of connections; set up when it is asked for first.
    ///
    /// # Errors
    /// TLS can't be set up: this machine is short of something, for certificates were looked at when the settings were read.
    pub(super) fn of(&self, transport: &Arc<Transport>) -> Result<Arc<Pool>, SetUpError> {
        if **transport == Transport::default() {
            return Ok(self.usual.clone());
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = others.get(transport) {
            return Ok(pool.clone());
        }
        let guard = Arc::new(self.settings.guard.with(&transport.allow, &transport.deny));
        let settings = ClientSettings { guard, ..self.settings.clone() };
        let pool = Arc::new(Pool::new(settings, self.shared.clone(), transport)?);
        others.insert(transport.clone(), pool.clone());
        Ok(pool)
    }

    /// The settings are others: pools that nobody has any more are given up.
    pub(super) fn follow(&self, destinations: &Destinations) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|transport, _| destinations.all().any(|destination| destination.transport == *transport));
    }

    /// Something keeps attempts from being sent; each is told once in a while, of each destination by itself.
    pub(super) fn tell(&self, what: &'static str, entry: &Arc<str>, why: &impl std::fmt::Display) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        told.retain(|_, at| now < *at + TOLD_EVERY);
        let key = (what, entry.clone());
        if told.len() < TOLD_AT_MOST && !told.contains_key(&key) {
            told.insert(key, now);
            tracing::warn!(destination = &**entry, error = %why, "{what}; attempts are made later");
        }
    }
}
