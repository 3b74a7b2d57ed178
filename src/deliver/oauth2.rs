//! Bearer tokens by client credentials (RFC 6749 §4.4): fetched by one request at a time, and kept until shortly before they
//! end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tokio::sync::watch;
use url::form_urlencoded;

use super::client::{self, Trouble};
use super::pool::Way;
use super::progress::Progress;
use super::{answer, until};
use crate::clock;
use crate::domain::destination::OAuth2;
use crate::domain::verdict::NoResponse;

/// A fetch has this time, however long the attempt has that waits for it.
const TIME: Duration = Duration::from_secs(10);
/// The largest answer of a token server, in bytes.
const LARGEST: usize = 64 * 1024;
/// A token is not used any more when this is left of its life, or a tenth of it if that is less: requests take time.
const MARGIN: Duration = Duration::from_secs(30);
/// The life of a token whose server does not tell it.
const UNTOLD: Duration = Duration::from_mins(5);
/// No token is kept for longer.
const LONGEST: Duration = Duration::from_hours(24);
/// A failure holds for whoever asks within this time: a server that is down is not asked for each event.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// A receiver that refuses each token makes no more than one be fetched in this time.
const RENEWED_FOR: Duration = Duration::from_secs(10);
/// The most tokens that are kept; of more, the one that was not used for longest is fetched again.
const MOST: usize = 1_000;
/// The longest code of an error that is repeated, in bytes; RFC 6749's are shorter.
const LONGEST_CODE: usize = 40;

/// Why there is no token. It shows nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token server gave no answer.
    #[error("the token server: {0}")]
    NoResponse(NoResponse),
    /// This machine is short of something.
    #[error("this machine is short of something that the request for a token needs")]
    Shortage,
    /// The token server refused.
    #[error("the token server answered {status}{}", .code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Status {
        /// Its status.
        status: u16,
        /// RFC 6749 §5.2: `invalid_client`, `invalid_scope`, …
        code: Option<String>,
    },
    /// The answer is longer than any token.
    #[error("the token server's answer is longer than {LARGEST} bytes")]
    TooLarge,
    /// The answer is not what RFC 6749 §5.1 asks for.
    #[error("the token server's answer is not JSON with an access_token")]
    Unreadable,
    /// A token of a kind that can't be sent along.
    #[error("the token server's token is none of type Bearer")]
    OtherType,
    /// The fetch ended without a result, because the worker stops.
    #[error("the request for a token was given up")]
    GivenUp,
}

/// All tokens that are in use.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<Slots>>);

/// By everything that a token depends on: another secret gets another token.
type Slots = HashMap<OAuth2, Slot>;

/// What came of a fetch, when it is over.
type Fetch = watch::Receiver<Option<Result<HeaderValue, TokenError>>>;

struct Slot {
    state: State,
    /// When it was asked for last.
    used: Duration,
    /// When a token was given up last because a receiver refused it.
    renewed: Option<Duration>,
}

/// Moments are of the monotonic clock.
enum State {
    /// A request is under way, or its task was dropped with the runtime.
    Fetching(Fetch),
    /// Good until then.
    Fetched(HeaderValue, Duration),
    /// Not tried again until then.
    Failed(TokenError, Duration),
}

impl Tokens {
    /// The value of `authorization`: the token that is kept, or a new one. Whoever asks while one is fetched waits for the
    /// same; the fetch goes on if all have given up waiting.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn bearer(&self, client: &reqwest::Client, oauth2: &OAuth2) -> Result<HeaderValue, TokenError> {
        let mut fetch = match self.look(oauth2, clock::now()) {
            Some(State::Fetched(token, _)) => return Ok(token),
            Some(State::Failed(error, _)) => return Err(error),
            Some(State::Fetching(fetch)) => fetch,
            None => self.fetch(client, oauth2),
        };
        let ended = fetch.wait_for(Option::is_some).await;
        ended.ok().and_then(|ended| ended.clone()).unwrap_or(Err(TokenError::GivenUp))
    }

    /// A receiver has answered 401 to this token. Whether [`Self::bearer`] has another one for it now, so that the request may
    /// be sent once more.
    #[must_use]
    pub fn invalidate(&self, oauth2: &OAuth2, refused: &HeaderValue) -> bool {
        let now = clock::now();
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(oauth2) else { return true };
        match &slot.state {
            State::Fetched(token, _) if token == refused => {
                let is_soon = slot.renewed.is_some_and(|renewed| now < renewed + RENEWED_FOR);
                if !is_soon {
                    slot.renewed = Some(now);
                    slot.state = State::Fetched(token.clone(), Duration::ZERO);
                }
                !is_soon
            }
            State::Fetched(..) | State::Fetching(_) => true,
            State::Failed(..) => false,
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What holds now; none if a token has to be fetched.
    fn look(&self, oauth2: &OAuth2, now: Duration) -> Option<State> {
        let mut slots = self.slots();
        let slot = slots.get_mut(oauth2)?;
        slot.used = now;
        match &slot.state {
            State::Fetched(token, until) if now < *until => Some(State::Fetched(token.clone(), *until)),
            State::Failed(error, until) if now < *until => Some(State::Failed(error.clone(), *until)),
            State::Fetching(fetch) if fetch.has_changed().is_ok() => Some(State::Fetching(fetch.clone())),
            State::Fetched(..) | State::Failed(..) | State::Fetching(_) => None,
        }
    }

    /// Begins to fetch, if nobody has meanwhile.
    fn fetch(&self, client: &reqwest::Client, oauth2: &OAuth2) -> Fetch {
        let now = clock::now();
        let mut slots = self.slots();
        if let Some(Slot { state: State::Fetching(fetch), .. }) = slots.get(oauth2)
            && fetch.has_changed().is_ok()
        {
            return fetch.clone();
        }
        let (sender, fetch) = watch::channel(None);
        let renewed = slots.get(oauth2).and_then(|slot| slot.renewed);
        if slots.len() >= MOST && !slots.contains_key(oauth2) {
            let oldest = slots.iter().min_by_key(|(_, slot)| slot.used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| slots.remove(&oldest));
        }
        slots.insert(oauth2.clone(), Slot { state: State::Fetching(fetch.clone()), used: now, renewed });
        drop(slots);
        let (tokens, client, oauth2) = (self.clone(), client.clone(), oauth2.clone());
        tokio::spawn(async move {
            let progress = Progress::new(&oauth2.token_url);
            let fetched = until(now + TIME, fetch_one(&client, &oauth2, progress.clone())).await;
            let late = || Err(TokenError::NoResponse(NoResponse::Late(TIME, progress.phase())));
            let fetched = fetched.unwrap_or_else(late);
            let (state, result) = match fetched {
                Ok((token, life)) => (State::Fetched(token.clone(), now + life), Ok(token)),
                Err(error) => (State::Failed(error.clone(), clock::now() + FAILED_FOR), Err(error)),
            };
            if let Some(slot) = tokens.slots().get_mut(&oauth2) {
                slot.state = state;
            }
            sender.send_replace(Some(result));
        });
        fetch
    }
}

/// An answer of a token server, good or bad (RFC 6749 §5.1, §5.2).
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
    error: Option<String>,
}

/// One request: a token, and how long it may be used.
async fn fetch_one(
    client: &reqwest::Client,
    oauth2: &OAuth2,
    progress: Arc<Progress>,
) -> Result<(HeaderValue, Duration), TokenError> {
    let response = client::execute(client, request(oauth2), progress).await;
    let mut response = response.map_err(|error| failed(&error))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| failed(&error))? {
        body.extend_from_slice(&piece);
        if body.len() > LARGEST {
            return Err(TokenError::TooLarge);
        }
    }
    read(status, &body)
}

fn failed(error: &reqwest::Error) -> TokenError {
    match client::trouble(error) {
        Trouble::Shortage => TokenError::Shortage,
        Trouble::Closed | Trouble::Refused | Trouble::Other => {
            TokenError::NoResponse(answer::explain(error, Way::Direct, TIME))
        }
    }
}

/// The client authenticates as RFC 6749 §2.3.1 wants all servers to know it: id and secret are encoded as in a form, and go
/// into basic authentication.
fn request(oauth2: &OAuth2) -> reqwest::Request {
    let mut url = oauth2.token_url.clone();
    // Both fail only for URLs without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !oauth2.scopes.is_empty() {
        form.append_pair("scope", &oauth2.scopes.join(" "));
    }
    if let Some(audience) = &oauth2.audience {
        form.append_pair("audience", audience);
    }
    // A space as `%20`, which all servers decode: of `+`, those know nothing that decode it as a part of a URL.
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
    let client = format!("{}:{}", encode(&oauth2.client_id), encode(&oauth2.client_secret.0));
    let mut request = reqwest::Request::new(Method::POST, url);
    // Base64 is visible ASCII.
    if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(client))) {
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    *request.body_mut() = Some(form.finish().into());
    request
}

fn read(status: StatusCode, body: &[u8]) -> Result<(HeaderValue, Duration), TokenError> {
    let answer = serde_json::from_slice::<Answer>(body);
    if status != StatusCode::OK {
        let code = answer.ok().and_then(|answer| answer.error);
        let is_code = |code: &String| code.len() <= LONGEST_CODE && code.bytes().all(|byte| byte.is_ascii_graphic());
        return Err(TokenError::Status { status: status.as_u16(), code: code.filter(is_code) });
    }
    let answer = answer.map_err(|_| TokenError::Unreadable)?;
    let token = answer.access_token.filter(|token| !token.is_empty()).ok_or(TokenError::Unreadable)?;
    if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(TokenError::OtherType);
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| TokenError::Unreadable)?;
    header.set_sensitive(true);
    Ok((header, usable(answer.expires_in.as_ref())))
}

/// How long a token may be used. Some servers write the number of seconds as text.
fn usable(expires_in: Option<&serde_json::Value>) -> Duration {
    let seconds = expires_in.and_then(|value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()));
    let life = match seconds {
        Some(seconds) if seconds >= LONGEST.as_secs_f64() => LONGEST,
        // Negative, or no number at all: for this request alone.
        Some(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or_default(),
        None => UNTOLD,
    };
    life.saturating_sub(MARGIN.min(life / 10))
}

#[cfg(test)]
mod tests;
