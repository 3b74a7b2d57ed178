//! The contract, rule by rule, and for any message at all.

use proptest::prelude::*;

use super::*;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const BODY_LIMIT: usize = 16;

fn text(value: &str) -> Field {
    Field::Text(value.into())
}

/// The good message with these headers after its own.
fn with(headers: &[(&str, Field)]) -> Message {
    let mut message = good();
    message.headers.retain(|(name, _)| headers.iter().all(|(other, _)| name != other));
    message.headers.extend(headers.iter().map(|(name, field)| ((*name).into(), field.clone())));
    message
}

fn good() -> Message {
    Message {
        routing_key: "user-7".into(),
        message_id: Some("order-1".into()),
        headers: vec![("destination".into(), text("https://example.com/hook?a=1"))],
        body: Bytes::from_static(b"{\"n\": 1}"),
        ..Message::default()
    }
}

fn terms() -> Terms {
    Terms { body_limit: BODY_LIMIT, ..Terms::default() }
}

fn read_it(message: Message) -> Result<Event, Poison> {
    read(message, Partition(3), &terms())
}

#[test]
fn every_part_of_a_good_message_arrives() {
    let message = Message {
        content_type: Some("application/json; charset=utf-8".into()),
        properties: Bytes::from_static(b"as they came"),
        ..with(&[
            ("sequence", Field::Integer(42)),
            ("http-X-Tenant", text("north")),
            ("traceparent", text(TRACEPARENT)),
            ("tracestate", text("vendor=1")),
            ("something-else", Field::Other("a table")),
        ])
    };
    let event = read_it(message).unwrap();
    assert_eq!(event.key.as_str(), "order-1");
    assert_eq!(event.entity.as_str(), "user-7");
    assert_eq!(event.partition, Partition(3));
    assert_eq!(event.sequence, Some(Sequence(42)));
    assert_eq!(event.destination.as_str(), "https://example.com/hook?a=1");
    assert_eq!(event.host.as_str(), "example.com:443");
    assert_eq!(event.content_type.unwrap(), "application/json; charset=utf-8");
    assert_eq!(event.headers.len(), 1);
    assert_eq!(event.headers["x-tenant"], "north");
    assert_eq!(event.traceparent.unwrap(), TRACEPARENT);
    assert_eq!(event.tracestate.unwrap(), "vendor=1");
    assert_eq!(event.properties, "as they came");
    assert_eq!(event.body, "{\"n\": 1}");
}

#[test]
fn only_key_entity_and_destination_are_required() {
    let event = read_it(Message { body: Bytes::new(), ..good() }).unwrap();
    assert_eq!(event.sequence, None);
    assert_eq!(event.content_type, None);
    assert_eq!(event.traceparent, None);
    assert_eq!(event.tracestate, None);
    assert!(event.headers.is_empty() && event.properties.is_empty() && event.body.is_empty());
}

#[test]
fn each_broken_rule_has_its_reason() {
    let bad_key = |id: &str| Message { message_id: Some(id.into()), ..good() };
    let bad_entity = |entity: &str| Message { routing_key: entity.into(), ..good() };
    let table = [
        (Message { message_id: None, ..good() }, "missing_message_id"),
        (bad_key(""), "missing_message_id"),
        (bad_key("a b"), "bad_message_id"),
        (bad_key("a\nb"), "bad_message_id"),
        (bad_key("naïve"), "bad_message_id"),
        (bad_key(&"k".repeat(MAX_KEY_BYTES + 1)), "bad_message_id"),
        (bad_entity(""), "missing_entity"),
        (bad_entity("user\u{0}7"), "bad_entity"),
        (bad_entity("user\n7"), "bad_entity"),
        (bad_entity("user\u{85}7"), "bad_entity"),
        (Message { body: vec![0; BODY_LIMIT + 1].into(), ..good() }, "body_too_large"),
        (Message { content_type: Some("text/\nplain".into()), ..good() }, "bad_header"),
        (Message { headers: Vec::new(), ..good() }, "missing_destination"),
        (with(&[("destination", Field::Integer(1))]), "wrong_header_type"),
        (with(&[("sequence", text("1"))]), "wrong_header_type"),
        (with(&[("sequence", Field::Other("a boolean"))]), "wrong_header_type"),
        (with(&[("sequence", Field::Integer(-1))]), "bad_sequence"),
        (with(&[("sequence", Field::Integer(i64::MAX))]), "bad_sequence"),
        (with(&[("Destination", text("http://elsewhere/"))]), "repeated_header"),
        (with(&[("sequence", Field::Integer(1)), ("Sequence", Field::Integer(1))]), "repeated_header"),
        (Message { content_encoding: Some("g\nzip".into()), ..good() }, "bad_header"),
        (with(&[("http-x-list", Field::Other("an array"))]), "wrong_header_type"),
        (with(&[("http-x-split", text("a\r\nx-other: b"))]), "bad_header"),
        (with(&[("http-", text("a"))]), "bad_header"),
        (with(&[("http-not a name", text("a"))]), "bad_header"),
    ];
    for (message, code) in table {
        let broken = format!("{message:?}");
        let poison = read_it(message).expect_err(&broken);
        assert_eq!(poison.code(), code, "{poison}: {broken}");
    }
}

#[test]
fn a_destination_is_a_url_that_can_be_posted_to() {
    let long = format!("http://example.com/{}", "a".repeat(MAX_DESTINATION_BYTES));
    let table =
        ["", "/hook", "example.com/hook", "ftp://example.com", "file:///etc/passwd", "mailto:a@b.c", "http://", &long];
    for destination in table {
        let poison = read_it(with(&[("destination", text(destination))])).expect_err(destination);
        assert_eq!(poison.code(), "bad_destination", "{destination}");
        assert!(poison.to_string().len() < 200 + MAX_DESTINATION_BYTES, "the reason stays readable");
    }
}

#[test]
fn the_host_is_what_the_cap_counts_by() {
    let table = [
        ("http://example.com/a", "example.com:80"),
        ("https://example.com/a", "example.com:443"),
        ("https://EXAMPLE.com:443/b", "example.com:443"),
        ("http://user:secret@example.com:8080", "example.com:8080"),
        ("http://[::1]:9/", "[::1]:9"),
        ("http://127.0.0.1", "127.0.0.1:80"),
    ];
    for (destination, host) in table {
        let event = read_it(with(&[("destination", text(destination))])).unwrap();
        assert_eq!(event.host.as_str(), host);
    }
}

#[test]
fn the_default_destination_is_for_messages_without_one() {
    let default = Url::parse("http://default.example/in").unwrap();
    let terms = Terms { default_destination: Some(Target::Url(default.clone())), ..terms() };
    let without = read(Message { headers: Vec::new(), ..good() }, Partition(0), &terms).unwrap();
    assert_eq!(without.destination, Target::Url(default));
    assert_eq!(without.host.as_str(), "default.example:80");
    let own = read(good(), Partition(0), &terms).unwrap();
    assert_eq!(own.host.as_str(), "example.com:443");
    let bad = read(with(&[("destination", text("no where"))]), Partition(0), &terms).unwrap_err();
    assert_eq!(bad.code(), "bad_destination", "a wrong destination is not replaced by the default");
}

#[test]
fn a_name_has_to_be_that_of_a_destination_where_these_are_known() {
    let named = || with(&[("destination", text("billing"))]);
    let event = read(named(), Partition(0), &terms()).unwrap();
    assert_eq!((event.destination, event.host.as_str()), (Target::Name("billing".into()), "billing"));
    let mut destinations = Destinations::new(crate::domain::destination::tests::destination("defaults"));
    let known = |destinations: &Destinations| Terms { destinations: Some(Arc::new(destinations.clone())), ..terms() };
    let unknown = read(named(), Partition(0), &known(&destinations)).unwrap_err();
    assert_eq!(unknown.code(), "unknown_destination");
    destinations.add_name("billing", crate::domain::destination::tests::destination("billing"));
    assert!(read(named(), Partition(0), &known(&destinations)).is_ok());
}

#[test]
fn limits_are_reached_before_they_are_passed() {
    let key = "k".repeat(MAX_KEY_BYTES);
    let message = Message { message_id: Some(key.clone()), body: vec![0; BODY_LIMIT].into(), ..good() };
    let event = read_it(message).unwrap();
    assert_eq!((event.key.as_str(), event.body.len()), (key.as_str(), BODY_LIMIT));

    let longest = format!("{:a<MAX_DESTINATION_BYTES$}", "http://example.com/");
    let event = read_it(with(&[("destination", text(&longest))])).unwrap();
    assert_eq!(event.destination.as_str(), longest);

    let headers: Vec<(String, Field)> =
        (0..=MAX_HTTP_HEADERS).map(|n| (format!("http-x-{n}"), Field::Integer(0))).collect();
    let numbered = |count: usize| {
        let mut message = good();
        message.headers.extend_from_slice(&headers[..count]);
        read_it(message)
    };
    assert_eq!(numbered(MAX_HTTP_HEADERS).unwrap().headers.len(), MAX_HTTP_HEADERS);
    let too_many = numbered(MAX_HTTP_HEADERS + 1).unwrap_err();
    assert_eq!(too_many, Poison::TooManyHeaders(MAX_HTTP_HEADERS + 1));
}

#[test]
fn a_sequence_is_a_whole_number_with_one_after_it() {
    for number in [0, 1, i64::MAX - 1] {
        let event = read_it(with(&[("sequence", Field::Integer(number))])).unwrap();
        assert_eq!(event.sequence, Some(Sequence(number)));
    }
}

#[test]
fn a_trace_that_is_not_valid_is_left_out() {
    let table = [
        (Some(TRACEPARENT), Some("a=1"), (true, true)),
        (Some(TRACEPARENT), None, (true, false)),
        (Some("00-nonsense-01"), Some("a=1"), (false, false)),
        (Some(""), None, (false, false)),
        (Some("naïve"), None, (false, false)),
        (None, Some("a=1"), (false, false)),
    ];
    for (parent, state, expected) in table {
        let headers = [("traceparent", parent), ("tracestate", state)];
        let headers: Vec<_> = headers.into_iter().filter_map(|(name, value)| Some((name, text(value?)))).collect();
        let event = read_it(with(&headers)).unwrap();
        assert_eq!((event.traceparent.is_some(), event.tracestate.is_some()), expected, "{parent:?} {state:?}");
    }
}

#[test]
fn http_headers_are_sent_on_without_their_prefix() {
    let event = read_it(with(&[
        ("http-Authorization", text("Bearer abc")),
        ("http-x-retries", Field::Integer(-3)),
        ("http-x-many", text("a")),
        ("http-X-Many", text("b")),
        ("http-http-x", text("")),
        ("x-not-ours", text("stays behind")),
    ]))
    .unwrap();
    let mut sent: Vec<_> = event.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    sent.sort_unstable();
    let expected =
        [("authorization", "Bearer abc"), ("http-x", ""), ("x-many", "a"), ("x-many", "b"), ("x-retries", "-3")];
    assert_eq!(sent, expected);
}

#[test]
fn a_message_may_not_set_what_belongs_to_the_connection_or_to_us() {
    let ours = ["onceward-attempt", "webhook-id", "Content-Length", "HOST", "onceward-", "Webhook-Signature"];
    for name in FORBIDDEN.into_iter().chain(ours) {
        let poison = read_it(with(&[(&format!("http-{name}"), text("a"))])).unwrap_err();
        assert_eq!(poison, Poison::ForbiddenHeader(name.into()));
    }
}

/// Values around the rules, and beyond them.
fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        any::<String>().prop_map(Field::Text),
        "https?://[a-z\\[\\]:@%/?#.]{0,12}".prop_map(Field::Text),
        any::<i64>().prop_map(Field::Integer),
        Just(Field::Other("a table")),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("destination".to_owned()),
        Just("sequence".to_owned()),
        Just("traceparent".to_owned()),
        Just("tracestate".to_owned()),
        any::<String>().prop_map(|rest| format!("http-{rest}")),
        any::<String>(),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let key = prop_oneof![Just(Some("key".to_owned())), any::<Option<String>>()];
    let entity = prop_oneof![Just("entity".to_owned()), any::<String>()];
    let headers = prop::collection::vec((name(), field()), 0..6);
    let body = prop::collection::vec(any::<u8>(), 0..=BODY_LIMIT + 1);
    (entity, key, any::<Option<String>>(), headers, body).prop_map(
        |(routing_key, message_id, content_type, headers, body)| Message {
            routing_key,
            message_id,
            content_type,
            content_encoding: None,
            headers,
            properties: Bytes::new(),
            body: body.into(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_message_is_read_or_refused_with_a_reason(message in message()) {
        let body = message.body.clone();
        match read_it(message) {
            Ok(event) => {
                prop_assert_eq!(event.body, body);
                let back = Target::read_back(event.destination.as_str());
                prop_assert_eq!(back.as_ref(), Some(&event.destination), "what is stored is read back");
                prop_assert!(!event.host.as_str().is_empty(), "{}", event.destination);
            }
            Err(poison) => {
                prop_assert!(!poison.code().is_empty());
                prop_assert!(poison.to_string().len() > 20, "a sentence: {}", poison);
            }
        }
    }
}

#[test]
fn names_of_headers_have_no_case() {
    let mut message = good();
    message.headers = [("DESTINATION", "http://a/"), ("Http-Authorization", "Bearer x"), ("TraceParent", TRACEPARENT)]
        .map(|(name, value)| (name.to_owned(), text(value)))
        .into();
    message.headers.push(("Sequence".into(), Field::Integer(7)));
    let event = read_it(message).unwrap();
    assert_eq!((event.destination.as_str(), event.sequence), ("http://a/", Some(Sequence(7))));
    assert_eq!(
        (&event.headers["authorization"], event.traceparent.unwrap()),
        (&"Bearer x".parse().unwrap(), TRACEPARENT.parse().unwrap())
    );
}

#[test]
fn a_trace_that_is_none_is_no_reason_to_refuse_an_event() {
    for field in [Field::Other("a table"), text("a\r\nb"), text("nonsense"), Field::Integer(1)] {
        let event = read_it(with(&[("traceparent", field.clone()), ("tracestate", field)])).unwrap();
        assert_eq!((event.traceparent, event.tracestate), (None, None));
    }
}

#[test]
fn a_refusal_shows_no_secret_of_a_destination() {
    for destination in ["ftp://ada:secret@host/?token=secret", "http://ada:secret@ho st/", "secret@host?secret"] {
        let told = read_it(Message { headers: vec![("destination".into(), text(destination))], ..good() });
        let told = told.unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }
}

#[test]
fn what_was_accepted_before_is_read_back_whatever_the_rules_are_now() {
    let long = format!("http://example.com/{}", "é".repeat(1_000));
    let mut message =
        with(&[("http-host", text("now forbidden")), ("http-x-a", text("kept")), ("SEQUENCE", Field::Integer(3))]);
    message.content_type = Some("bad\ntype".into());
    let kept = Kept {
        key: "order-1".into(),
        partition: Partition(5),
        sequence: None,
        destination: Target::Url(read_destination(&long).unwrap()),
    };
    let event = read_back(message, kept);
    assert_eq!((event.destination.as_str().len(), event.sequence, event.partition), (6_019, None, Partition(5)));
    assert_eq!((event.headers.len(), &event.headers["x-a"], event.content_type), (1, &"kept".parse().unwrap(), None));
    let host = format!("http://{}.example/", "a".repeat(260));
    assert!(read_destination(&host).unwrap_err().to_string().contains("its host has 268 bytes"));
}
