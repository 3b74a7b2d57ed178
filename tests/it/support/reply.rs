//! What a receiver answers, and when.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use tokio::sync::watch;

/// What a behaviour may look at before it answers.
pub struct Request<'a> {
    pub key: &'a str,
    pub sequence: Option<i64>,
    pub number: u32,
    /// `authorization`, or nothing.
    pub token: &'a str,
}

/// An answer.
#[derive(Clone, Default)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) delay: Duration,
    pub(super) gate: Option<Gate>,
    pub(super) hang: bool,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn ok() -> Self {
        Self::status(200)
    }

    /// No answer, ever.
    pub fn hang() -> Self {
        Self { hang: true, ..Self::ok() }
    }

    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// No answer before the test opens the gate.
    pub fn behind(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header's value");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub(super) async fn ready(&self) {
        tokio::time::sleep(self.delay).await;
        if let Some(gate) = &self.gate {
            gate.passed().await;
        }
        if self.hang {
            std::future::pending::<()>().await;
        }
    }
}

/// Holds answers back until the test opens it.
#[derive(Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        let mut open = self.0.subscribe();
        open.wait_for(|open| *open).await.expect("the sender lives in self");
    }
}
