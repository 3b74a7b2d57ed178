//! An attempt on the wire: a request and its answer, within the attempt's time.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::client::{self, Trouble};
use super::names::Unresolved;
use super::oauth2::TokenError;
use super::pool::{Pool, Way};
use super::progress::Progress;
use super::request::request;
use super::resolver::Refused;
use super::{Route, Sender, answer, until};
use crate::domain::candidate::Candidate;
use crate::domain::destination::OAuth2;
use crate::domain::verdict::{NoResponse, NotSent, Outcome, Phase};

const UNAUTHORIZED: u16 = 401;

/// An attempt that may be sent.
pub(super) struct Exchange<'a> {
    pub(super) sender: &'a Sender,
    pub(super) route: &'a Route,
    pub(super) candidate: &'a Candidate,
    /// That of the attempt's span, if the event's trace is sampled.
    pub(super) traceparent: Option<HeaderValue>,
    pub(super) deadline: Duration,
}

impl Exchange<'_> {
    /// Sends the attempt, and takes the answer. With a token that the receiver refuses, it is sent once more with another.
    pub(super) async fn run(&self) -> Outcome {
        let pool = match self.sender.clients.of(&self.route.destination.transport) {
            Ok(pool) => pool,
            Err(error) => return self.short_of_something(&error),
        };
        let Some(oauth2) = &self.route.destination.request.oauth2 else { return self.send(&pool, None).await };
        let token = match self.token(&pool, oauth2).await {
            Ok(token) => token,
            Err(outcome) => return outcome,
        };
        let outcome = self.send(&pool, Some(token.clone())).await;
        let is_refused = matches!(outcome, Outcome::Response { status: UNAUTHORIZED, .. });
        if !is_refused || !self.sender.tokens.invalidate(oauth2, &token) {
            return outcome;
        }
        match self.token(&pool, oauth2).await {
            Ok(token) => self.send(&pool, Some(token)).await,
            Err(_) => outcome,
        }
    }

    /// A token, or what it means that there is none: nothing has reached for the receiver.
    async fn token(&self, pool: &Pool, oauth2: &OAuth2) -> Result<HeaderValue, Outcome> {
        let error = match until(self.deadline, self.sender.tokens.bearer(&pool.of_operators(), oauth2)).await {
            Some(Ok(token)) => return Ok(token),
            Some(Err(TokenError::Shortage)) => return Err(self.short_of_something(&TokenError::Shortage)),
            Some(Err(error)) => error,
            None => TokenError::NoResponse(NoResponse::Late(self.route.destination.timeout, Phase::Waiting)),
        };
        self.sender.clients.tell("there is no token for a destination", &self.route.destination.entry, &error);
        Err(Outcome::NotSent(NotSent::NoToken(error.to_string())))
    }

    /// Sends a request until the attempt's deadline, and takes the answer.
    ///
    /// A retry has a connection of its own: those that are kept may have died, all of them. A kept connection that the
    /// receiver has closed meanwhile, and a request that it says it has not looked at, are no failure: it is sent once more,
    /// as the same attempt, over a new connection.
    async fn send(&self, pool: &Pool, token: Option<HeaderValue>) -> Outcome {
        let way = match until(self.deadline, pool.way(&self.route.url)).await {
            Some(Ok(way)) => way,
            Some(Err(refused)) => return self.refused_by(&refused),
            None => return self.late(Phase::Resolving),
        };
        let progress = || Progress::new(&self.route.url);
        let send = |client, progress: Arc<Progress>| {
            let headers = (self.traceparent.clone(), token.clone());
            let request = request(self.route, self.candidate, headers, (self.deadline, progress.clone()));
            let sending = async move |client| client::execute(&client, request, progress).await;
            until(self.deadline, sending(client))
        };
        let first = progress();
        let is_first = self.candidate.attempts <= 1;
        let client = if is_first { pool.kept(way) } else { pool.fresh(way) };
        let Some(mut response) = send(client, first.clone()).await else { return self.late(first.phase()) };
        if let Err(error) = &response {
            let again = match client::trouble(error) {
                Trouble::Closed => !first.has_connected(),
                Trouble::Refused => true,
                Trouble::Shortage | Trouble::Other => false,
            };
            if again {
                let second = progress();
                match send(pool.fresh(way), second.clone()).await {
                    Some(answered) => response = answered,
                    None => return self.late(second.phase()),
                }
            }
        }
        match response {
            Ok(response) => {
                let succeeds = self.route.destination.policy.is_success(response.status().as_u16());
                answer::answer(response, succeeds, self.deadline).await
            }
            Err(error) => self.failed(pool, way, &error),
        }
    }

    fn late(&self, phase: Phase) -> Outcome {
        Outcome::NoResponse(NoResponse::Late(self.route.destination.timeout, phase))
    }

    /// What an error means.
    fn failed(&self, pool: &Pool, way: Way, error: &reqwest::Error) -> Outcome {
        let why = answer::explain(error, way, self.route.destination.timeout);
        if client::trouble(error) == Trouble::Shortage {
            pool.close_idle();
            return self.short_of_something(&why);
        }
        match client::cause(error) {
            Some(Refused::Forbidden(forbidden)) => Outcome::Forbidden(forbidden.clone()),
            _ => Outcome::NoResponse(why),
        }
    }

    /// What it means that a destination was refused before anything was sent.
    fn refused_by(&self, refused: &Refused) -> Outcome {
        match refused {
            Refused::Forbidden(forbidden) => Outcome::Forbidden(forbidden.clone()),
            Refused::Unresolved(Unresolved::Busy) => self.short_of_something(refused),
            Refused::Unresolved(Unresolved::Failed(why)) => Outcome::NoResponse(NoResponse::Dns(format!(": {why}"))),
        }
    }

    fn short_of_something(&self, why: &impl Display) -> Outcome {
        self.sender.clients.tell("this machine is short of something", &self.route.destination.entry, why);
        Outcome::NotSent(NotSent::Shortage(why.to_string()))
    }
}
