//! Settings that are more than a number or a word: statuses, headers, secrets, tokens, certificates.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::complaint::Complaint;
use super::context::Context;
use super::pem;
use super::value::{Item, shown};
use crate::domain::contract;
use crate::domain::destination::{Hidden, OAuth2};
use crate::domain::poison::MAX_HTTP_HEADERS;
use crate::domain::redact;
use crate::domain::signature::SigningSecrets;

/// The most scopes that are asked for.
const MOST_SCOPES: usize = 100;

/// A URL that a message may name, too.
pub(super) fn url(item: Item<'_>) -> Result<Url, Complaint> {
    contract::read_destination(item.text("an http(s) URL in quotes")?).map_err(|wrong| {
        // It is no header `destination` here.
        let wrong = wrong.to_string();
        let why = wrong.split_once(": ").map_or(wrong.as_str(), |(_, why)| why);
        item.wrong(format!("this is no URL that can be called ({why}): write https://HOST/PATH"))
    })
}

/// A list of numbers and ranges, or one text as with `--final-statuses`.
pub(super) fn statuses(item: Item<'_>, from: u16) -> Result<BTreeSet<u16>, Complaint> {
    let write = "a list such as [404, \"410-422\"]";
    let read = |item: Item<'_>| {
        let text = match item.as_integer() {
            Some(number) => number.to_string(),
            None => item.text(write)?.to_owned(),
        };
        crate::config::statuses(&text, from).map_err(|wrong| item.wrong(wrong))
    };
    match item.as_list() {
        None => read(item),
        Some(items) => {
            let ranges = items.map(read).collect::<Result<Vec<_>, _>>()?;
            Ok(ranges.into_iter().flatten().collect())
        }
    }
}

pub(super) fn headers(item: Item<'_>, context: &mut Context) -> Result<HeaderMap, Complaint> {
    let table = item.table("a table of headers, such as { x-team = \"payments\" }")?;
    if table.len() > MAX_HTTP_HEADERS {
        return Err(item.wrong(format!("{} headers are too many: use {MAX_HTTP_HEADERS} or less", table.len())));
    }
    let mut headers = HeaderMap::new();
    for (key, value) in table {
        let (at, text) = (key.span().start, key.get_ref());
        let wrong = |what: &str| Complaint { at, what: format!("{} {what}", shown(text)) };
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| wrong("is no name of a header"))?;
        if !contract::may_be_set(&name) {
            return Err(wrong(
                "may not be set: it belongs to the connection, to the message or to Onceward: leave it out",
            ));
        }
        let item = Item::new(value);
        let found = context.sources.find(item)?;
        // What a value is wrong by is not shown: it may be secret.
        let mut value = HeaderValue::from_str(&found.text)
            .map_err(|_| item.wrong("this is no value of a header: use visible ASCII in one line"))?;
        value.set_sensitive(found.from.is_some());
        if headers.insert(name, value).is_some() {
            return Err(wrong("is there twice, in different spellings: names have no case: leave one out"));
        }
    }
    Ok(headers)
}

/// Secrets one by one, so that a complaint has its place; a text may hold several, as a secret of a container does.
pub(super) fn secrets(item: Item<'_>, context: &mut Context) -> Result<SigningSecrets, Complaint> {
    let items = match item.as_list() {
        Some(items) => items.collect(),
        None => vec![item],
    };
    let mut texts = Vec::new();
    for item in items {
        let found = context.sources.find(item)?;
        found.text.parse::<SigningSecrets>().map_err(|wrong| item.wrong(secret_is_wrong(&wrong)))?;
        texts.push(found.text);
    }
    if texts.is_empty() {
        return Ok(SigningSecrets::default());
    }
    texts.join(" ").parse().map_err(|wrong| item.wrong(secret_is_wrong(&wrong)))
}

fn secret_is_wrong(wrong: &impl ToString) -> String {
    format!("{}: make one by: echo whsec_$(openssl rand -base64 32)", wrong.to_string())
}

pub(super) fn oauth2(item: Item<'_>, context: &mut Context) -> Result<OAuth2, Complaint> {
    let keys = ["token-url", "client-id", "client-secret", "scopes", "audience"];
    let [url, id, secret, scopes, audience] = item.fields(keys)?;
    let missing = |key: &str| item.wrong(format!("oauth2 has no {key}: add it"));
    let url = url.ok_or_else(|| missing("token-url"))?;
    let token_url = self::url(url)?;
    let id = context.sources.find(id.ok_or_else(|| missing("client-id"))?)?;
    let client_secret = context.sources.find(secret.ok_or_else(|| missing("client-secret"))?)?.text;
    let audience = audience.map(|item| item.text("text in quotes").map(str::to_owned)).transpose()?;
    let scopes = scopes.map_or_else(|| Ok(Vec::new()), read_scopes)?;
    let (client_id, client_id_from) = (id.text, id.from);
    Ok(OAuth2 { token_url, client_id, client_id_from, client_secret: Hidden(client_secret), scopes, audience })
}

/// RFC 6749 §3.3: a list with spaces between; a scope is visible ASCII without quotes and backslashes.
fn read_scopes(item: Item<'_>) -> Result<Vec<String>, Complaint> {
    let write = "a list such as [\"events.write\"]";
    let mut scopes = Vec::new();
    for (item, text) in item.texts(write)? {
        for scope in text.split(' ').filter(|scope| !scope.is_empty()) {
            if !scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte)) {
                return Err(item.wrong(format!("{} is no scope: write {write}", shown(scope))));
            }
            scopes.push(scope.to_owned());
        }
    }
    if scopes.len() > MOST_SCOPES {
        return Err(item.wrong(format!("{} scopes are too many: use {MOST_SCOPES} or less", scopes.len())));
    }
    Ok(scopes)
}

pub(super) fn show_oauth2(of: &OAuth2) -> String {
    let scopes = if of.scopes.is_empty() { String::new() } else { format!(" for {}", of.scopes.join(" ")) };
    let audience = of.audience.as_ref().map(|audience| format!(" at {audience}")).unwrap_or_default();
    let client = of.client_id_from.as_ref().map_or_else(|| of.client_id.clone(), |from| format!("(from {from})"));
    format!("{client} from {}{scopes}{audience}", redact::url(&of.token_url))
}

/// One file with both, or a file each.
pub(super) fn client_certificate(item: Item<'_>, context: &mut Context) -> Result<Arc<[u8]>, Complaint> {
    let ((path, certificate), key) = if item.is_text() {
        let both = context.sources.read(item)?;
        (both.clone(), both.1)
    } else {
        let [certificate, key] = item.fields(["certificate", "key"])?;
        let (Some(certificate), Some(key)) = (certificate, key) else {
            let write = "{ certificate = \"PATH\", key = \"PATH\" }, or the path of one file with both";
            return Err(item.wrong(format!("certificate or key is missing: write {write}")));
        };
        (context.sources.read(certificate)?, context.sources.read(key)?.1)
    };
    pem::identity(&certificate, &key).map_err(|wrong| item.wrong(format!("{path}: {wrong}")))
}
