//! `CloudEvents`, from message to request.

use serde_json::json;

use super::*;
use crate::domain::contract::{Message, Terms, read};
use crate::domain::event::{Event, Partition};

fn text(name: &str, text: &str) -> (String, Field) {
    (name.into(), Field::Text(text.into()))
}

/// A good one, with these headers in place of its own.
fn event(changes: &[(&str, Option<Field>)]) -> Message {
    let mut headers = vec![
        text("destination", "http://a/"),
        text("cloudEvents:specversion", "1.0"),
        text("cloudEvents:id", "A 1"),
        text("cloudEvents:source", "/orders|é"),
        text("cloudEvents:type", "order.created"),
        ("cloudEvents:time".into(), Field::Timestamp(1_700_000_000)),
        ("cloudEvents_retries".into(), Field::Integer(3)),
        ("cloudEvents:dry".into(), Field::Boolean(true)),
    ];
    for (name, field) in changes {
        headers.retain(|(other, _)| other != name);
        headers.extend(field.clone().map(|field| ((*name).to_owned(), field)));
    }
    Message { routing_key: "order-7".into(), headers, body: Bytes::from_static(b"{\"n\": 1}"), ..Message::default() }
}

fn read_it(message: Message) -> Result<Event, Poison> {
    read(message, Partition(0), &Terms { body_limit: 1_000, ..Terms::default() })
}

#[test]
fn attributes_become_headers_and_source_and_id_the_key() {
    let event = read_it(event(&[])).unwrap();
    assert_eq!(event.key.as_str(), "/orders%7C%C3%A9|A%201");
    let expected = [
        ("ce-specversion", "1.0"),
        ("ce-id", "A%201"),
        ("ce-source", "/orders|%C3%A9"),
        ("ce-type", "order.created"),
        ("ce-time", "2023-11-14T22:13:20Z"),
        ("ce-retries", "3"),
        ("ce-dry", "true"),
        ("ce-partitionkey", "order-7"),
    ];
    for (name, value) in expected {
        assert_eq!(event.headers[name], value, "{name}");
    }
    assert_eq!(event.headers.len(), expected.len(), "{:?}", event.headers);
}

#[test]
fn what_a_producer_says_itself_stays() {
    let message = event(&[
        ("cloudEvents:partitionkey", Some(Field::Text("p".into()))),
        ("cloudEvents:datacontenttype", Some(Field::Text("text/plain".into()))),
        ("sequence", Some(Field::Integer(5))),
    ]);
    let event = read_it(Message { message_id: Some("mine".into()), ..message }).unwrap();
    assert_eq!((event.key.as_str(), event.content_type.unwrap().to_str().unwrap()), ("mine", "text/plain"));
    assert_eq!((&event.headers["ce-partitionkey"], &event.headers["ce-sequence"]), (&"p".parse().unwrap(), &5.into()));
}

#[test]
fn a_number_may_be_one_of_an_extension() {
    let terms = Terms {
        sequence_from: "header:cloudEvents:sequence".parse().unwrap(),
        entity_from: "header:cloudEvents:partitionkey".parse().unwrap(),
        body_limit: 1_000,
        ..Terms::default()
    };
    let of = |number: Field| {
        let partition = ("cloudEvents:partitionkey", Some(Field::Text("account-9".into())));
        read(event(&[partition, ("cloudEvents:sequence", Some(number))]), Partition(0), &terms)
    };
    for number in [Field::Integer(42), Field::Text("42".into()), Field::Text("0042".into())] {
        let event = of(number).unwrap();
        assert_eq!((event.sequence, event.entity.as_str()), (Some(Sequence(42)), "account-9"));
    }
    for number in ["", "x", "-1", "4.2", "99999999999999999999"] {
        assert_eq!(of(Field::Text(number.into())).unwrap_err().code(), "bad_sequence", "{number}");
    }
}

#[test]
fn a_cloud_event_without_what_it_must_have_says_so_and_other_messages_are_none() {
    let broken: [(&str, Option<Field>, &str); 9] = [
        ("cloudEvents:specversion", Some(Field::Text("0.3".into())), "specversion is `0.3`"),
        ("cloudEvents:specversion", None, "`specversion`"),
        ("cloudEvents:source", None, "message_id"),
        ("cloudEvents:type", None, "`type`"),
        ("cloudEvents:type", Some(Field::Text(String::new())), "`type`"),
        ("cloudEvents:Type", Some(Field::Text("t".into())), "`Type`"),
        ("cloudEvents:data", Some(Field::Text("t".into())), "`data`"),
        ("cloudEvents:x", Some(Field::Other("a table")), "a table"),
        ("cloudEvents_id", Some(Field::Text("twice".into())), "twice"),
    ];
    for (name, field, word) in broken {
        let poison = read_it(event(&[(name, field)])).unwrap_err().to_string();
        assert!(poison.contains(word), "{name}: {poison}");
    }
    let many: Vec<_> = (0..=MAX_HTTP_HEADERS).map(|n| text(&format!("cloudEvents:a{n}"), "a")).collect();
    let mut message = event(&[]);
    message.headers.extend(many);
    assert_eq!(read_it(message).unwrap_err().code(), "bad_cloud_event");
    let headers =
        vec![text("destination", "http://a/"), text("cloudEvents:partitionkey", "p"), text("cloudEvents:A", "")];
    let none = Message { message_id: Some("k".into()), headers, ..event(&[]) };
    let none = read_it(none).unwrap();
    assert!(none.headers.is_empty(), "{:?}", none.headers);
}

#[test]
fn in_one_piece_the_data_is_json_text_or_base64() {
    let of = |content_type: Option<&str>, body: &'static [u8]| {
        let mut headers = read_it(event(&[])).unwrap().headers;
        headers.insert("x-mine", "kept".parse().unwrap());
        let content_type = content_type.map(|text| text.parse().unwrap());
        let json = structured(&mut headers, content_type.as_ref(), &Bytes::from_static(body)).unwrap();
        assert_eq!((headers.len(), &headers["x-mine"]), (1, &"kept".parse().unwrap()));
        (serde_json::from_slice::<Value>(&json).unwrap(), String::from_utf8(json.to_vec()).unwrap())
    };
    let (event, as_written) = of(Some("application/json"), b"{\"n\": 1.0}");
    assert_eq!(
        (&event["id"], &event["source"], &event["data"]["n"]),
        (&json!("A 1"), &json!("/orders|é"), &json!(1.0))
    );
    assert!(as_written.contains("\"data\":{\"n\": 1.0}"), "byte for byte: {as_written}");
    assert_eq!(event["datacontenttype"], "application/json");
    let (event, _) = of(None, b"[1]");
    assert_eq!((&event["data"], event.get("datacontenttype")), (&json!([1]), None));
    assert_eq!(of(Some("application/x+json; a=b"), b"7").0["data"], 7);
    assert_eq!(of(Some("text/plain"), "ü\"".as_bytes()).0["data"], "ü\"");
    assert_eq!(of(Some("text/plain"), b"\xff").0["data_base64"], "/w==");
    assert_eq!(of(Some("application/json"), b"{").0["data_base64"], "ew==");
    assert_eq!(of(Some("image/png"), b"ab").0["data_base64"], "YWI=");
    let (empty, _) = of(Some("application/json"), b"");
    assert!(empty.get("data").is_none() && empty.get("data_base64").is_none());
    assert!(structured(&mut HeaderMap::new(), None, &Bytes::new()).is_none());
}

#[test]
fn what_is_in_one_piece_already_stays_as_it_is() {
    let mut headers = read_it(event(&[])).unwrap().headers;
    for whole in ["application/cloudevents+json", "application/CloudEvents-batch+json; charset=utf-8"] {
        let whole = whole.parse().unwrap();
        assert!(structured(&mut headers, Some(&whole), &Bytes::from_static(b"{}")).is_none(), "{whole:?}");
    }
    assert_eq!(headers["ce-specversion"], "1.0", "the attributes stay where they are");
}
