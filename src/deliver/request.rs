//! The request of an attempt.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use reqwest::Request;
use url::Url;

use super::Route;
use super::payload::Payload;
use super::progress::Progress;
use crate::clock;
use crate::domain::candidate::Candidate;
use crate::domain::contract::cloudevents;
use crate::domain::destination::{ContentMode, RequestSettings};
use crate::domain::event::Event;
use crate::domain::trace_context;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const ENTITY: HeaderName = HeaderName::from_static("onceward-entity");
const SEQUENCE: HeaderName = HeaderName::from_static("onceward-sequence");
const ATTEMPT: HeaderName = HeaderName::from_static("onceward-attempt");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// As many headers are added to the producer's, the client's own among them.
const OWN_HEADERS: usize = 15;

/// Bytes of an entity that are percent-encoded (RFC 3986) in its header: all that is not visible ASCII, and `%`.
const NOT_VISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// `traceparent` is that of the attempt's span, if the event's trace is sampled; `token` is the value of `authorization`.
pub(super) fn request(
    route: &Route,
    candidate: &Candidate,
    (traceparent, token): (Option<HeaderValue>, Option<HeaderValue>),
    (deadline, progress): (Duration, Arc<Progress>),
) -> Request {
    let (event, settings) = (&candidate.event, &route.destination.request);
    let content = Content::of(event, settings.cloudevents);
    let payload = Payload::new(content.body.clone(), deadline, progress);
    // Put together by hand: the builder would merge the headers into its own, one by one.
    let mut request = Request::new(settings.method.clone(), route.url.clone());
    *request.headers_mut() = headers((event, content), candidate.attempts, traceparent, settings);
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, token);
    }
    if let Some(credentials) = basic(request.url()) {
        request.headers_mut().entry(AUTHORIZATION).or_insert(credentials);
        // Both fail only for URLs without a host.
        let _ = request.url_mut().set_username("");
        let _ = request.url_mut().set_password(None);
    }
    *request.body_mut() = Some(reqwest::Body::wrap(payload));
    request
}

/// User and password of a URL, as RFC 7617 has them.
fn basic(url: &Url) -> Option<HeaderValue> {
    let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let both = [&decoded(url.username())[..], b":", &decoded(url.password().unwrap_or_default())].concat();
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(both))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a request says: the event as its producer wrote it, or a `CloudEvent` in one piece.
pub struct Content {
    headers: HeaderMap,
    content_type: Option<HeaderValue>,
    body: Bytes,
}

impl Content {
    /// Of an event. An encoded body, such as a compressed one, has no place in a `CloudEvent` in one piece.
    #[must_use]
    pub fn of(event: &Event, mode: ContentMode) -> Self {
        let (mut headers, content_type) = (event.headers.clone(), event.content_type.clone());
        if mode == ContentMode::Structured
            && event.content_encoding.is_none()
            && let Some(body) = cloudevents::structured(&mut headers, content_type.as_ref(), &event.body)
        {
            return Self { headers, content_type: Some(cloudevents::STRUCTURED), body };
        }
        Self { headers, content_type, body: event.body.clone() }
    }
}

/// The request's headers. What the producer set comes first, and can't be what is set here: the contract forbids it.
///
/// Without a `traceparent` of the attempt, the producer's is passed on as it is.
#[must_use]
pub fn headers(
    (event, content): (&Event, Content),
    attempt: u16,
    traceparent: Option<HeaderValue>,
    settings: &RequestSettings,
) -> HeaderMap {
    let Content { mut headers, content_type, body } = content;
    for (name, value) in &settings.headers {
        headers.insert(name, value.clone());
    }
    headers.reserve(OWN_HEADERS);
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    if let Some(content_encoding) = &event.content_encoding {
        headers.insert(CONTENT_ENCODING, content_encoding.clone());
    }
    if body.is_empty() {
        // RFC 9110 §8.6: a POST without content says so. With content, the client sets the length.
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    let key = text(event.key.as_str());
    headers.insert(IDEMPOTENCY_KEY, key.clone());
    headers.insert(WEBHOOK_ID, key);
    let timestamp = clock::unix_seconds();
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
    if let Some(signature) = settings.secrets.sign(&event.key, timestamp, &body) {
        headers.insert(WEBHOOK_SIGNATURE, signature);
    }
    headers.insert(ENTITY, text(&utf8_percent_encode(event.entity.as_str(), NOT_VISIBLE).to_string()));
    if let Some(sequence) = event.sequence {
        headers.insert(SEQUENCE, HeaderValue::from(sequence.0));
    }
    headers.insert(ATTEMPT, HeaderValue::from(attempt));
    let traceparent = traceparent.or_else(|| event.traceparent.clone());
    headers.insert(TRACEPARENT, traceparent.unwrap_or_else(|| trace_context::from_key(&event.key)));
    if let Some(tracestate) = &event.tracestate {
        headers.insert(TRACESTATE, tracestate.clone());
    }
    headers
}

/// A header value of visible ASCII: keys are that by contract, entities by encoding.
fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
