//! What a producer may send though no polite client would, as far as RabbitMQ takes it.

use crate::support::{FRAME_MAX, Properties, Table, nested, sized};

use super::trial::Kind;

/// Not UTF-8, whatever follows.
const LATIN: &[u8] = b"caf\xe9";
const NOT_UTF8: &[&str] = &["utf-8", "utf8"];
const NESTED: &[&str] = &["nested", "nesting", "deep", "depth"];

/// What holds the next one, in turns.
const SHAPES: [(&str, &[u8]); 4] =
    [("tables", b"F"), ("arrays", b"A"), ("tables-of-arrays", b"FA"), ("arrays-of-tables", b"AF")];

/// A header that holds tables and arrays, one in the other.
fn nests(headers: &Table, header: &str, shape: (&str, &[u8]), depth: usize) -> Kind {
    let (name, pattern) = shape;
    let value = nested(&pattern.iter().copied().cycle().take(depth).collect::<Vec<_>>());
    let headers = headers.clone().with(header.as_bytes(), pattern[0], &value);
    Kind::with_headers(&format!("{depth}-{name}-in-{header}"), &headers)
}

/// A few levels are an event's own business; what is deeper may be refused, and the deepest has to be.
pub fn nesting(headers: &Table) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for depth in [3, 20, 100, 1_000, 3_000, 18_000] {
        for shape in SHAPES {
            // What the broker itself writes there is an array of tables.
            for header in ["box", "x-death"] {
                let kind = nests(headers, header, shape, depth);
                kinds.push(match depth {
                    3 => kind,
                    ..1_000 => kind.either(),
                    _ => kind.dead(NESTED),
                });
            }
        }
    }
    kinds
}

/// Bytes that are not UTF-8, where text belongs.
pub fn not_utf8(headers: &Table) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let properties = [
        ("content_type", Properties::CONTENT_TYPE),
        ("content_encoding", Properties::CONTENT_ENCODING),
        ("correlation_id", Properties::CORRELATION_ID),
        ("reply_to", Properties::REPLY_TO),
        ("message_id", Properties::MESSAGE_ID),
        ("type", Properties::TYPE),
        ("app_id", Properties::APP_ID),
        ("cluster_id", Properties::CLUSTER_ID),
    ];
    for (name, place) in properties {
        let name = format!("latin-{name}");
        let properties = Properties::event(&name, headers).with_short(place, LATIN);
        kinds.push(Kind::new(&name, &properties).dead(NOT_UTF8));
    }
    let mut routing_key = Kind::with_headers("latin-routing-key", headers).dead(NOT_UTF8);
    routing_key.message.routing_key = LATIN.to_vec();
    kinds.push(routing_key);
    let inner = Table::default().with(LATIN, b'V', &[]);
    let in_array = [b"F", &*sized(inner.bytes())].concat();
    let named = [
        ("latin-name", headers.clone().with(LATIN, b'V', &[])),
        ("latin-name-in-a-table", headers.clone().with(b"table", b'F', &sized(inner.bytes()))),
        ("latin-name-in-an-array", headers.clone().with(b"array", b'A', &sized(&in_array))),
    ];
    kinds.extend(named.map(|(name, headers)| Kind::with_headers(name, &headers).dead(NOT_UTF8)));
    kinds.extend(latin_values(headers));
    kinds
}

/// Values of headers are bytes by the protocol: they matter only where the contract wants text.
fn latin_values(headers: &Table) -> [Kind; 4] {
    let destination = Table::default().with_text(b"destination", LATIN);
    [
        Kind::with_headers("latin-value", &headers.clone().with_text(b"other", LATIN)),
        Kind::with_headers("latin-trace", &headers.clone().with_text(b"traceparent", LATIN)),
        Kind::with_headers("latin-http", &headers.clone().with_text(b"http-x-latin", LATIN)).either(),
        Kind::with_headers("latin-destination", &destination).dead(NOT_UTF8),
    ]
}

/// A value of each type that RabbitMQ reads in a header.
pub fn all_types() -> Vec<(u8, Vec<u8>)> {
    let table = Table::default().with(b"inner", b't', &[1]);
    vec![
        (b't', vec![2]),
        (b'b', vec![0x80]),
        (b'B', vec![0xff]),
        (b's', vec![0x80, 0]),
        (b'u', vec![0xff; 2]),
        (b'I', vec![0x80, 0, 0, 0]),
        (b'i', vec![0xff; 4]),
        (b'l', i64::MIN.to_be_bytes().to_vec()),
        (b'L', vec![0xff; 8]),
        (b'f', f32::MIN_POSITIVE.to_be_bytes().to_vec()),
        (b'd', f64::MAX.to_be_bytes().to_vec()),
        (b'D', vec![0xff; 5]),
        (b'S', sized(b"text\0\xff")),
        (b'A', sized(b"VVt\x00")),
        (b'T', vec![0xff; 8]),
        (b'F', sized(table.bytes())),
        (b'x', sized(&[0, 0xff])),
        (b'V', vec![]),
    ]
}

/// One event with all types, by themselves and in an array, and one with none.
pub fn types(headers: &Table) -> Vec<Kind> {
    let each = |headers: Table, (kind, value): &(u8, Vec<u8>)| headers.with(&[b'x', b'-', *kind], *kind, value);
    let alone = all_types().iter().fold(headers.clone(), each);
    let in_array: Vec<u8> = all_types().iter().flat_map(|(kind, value)| [&[*kind], &**value].concat()).collect();
    let together = headers.clone().with(b"array", b'A', &sized(&in_array));
    vec![Kind::with_headers("all-types", &alone), Kind::with_headers("all-types-in-an-array", &together)]
}

/// Properties at their edges.
pub fn properties(headers: &Table) -> Vec<Kind> {
    let event = |name: &str| Properties::event(name, headers);
    let kind = |name: &str, place, bytes: &[u8]| Kind::new(name, &event(name).with(place, bytes));
    let text = |name: &str, place, bytes: &[u8]| Kind::new(name, &event(name).with_short(place, bytes));
    vec![
        kind("priority-255", Properties::PRIORITY, &[255]),
        kind("last-timestamp", Properties::TIMESTAMP, &[0xff; 8]),
        text("no-content-type", Properties::CONTENT_TYPE, b""),
        text("long-type", Properties::TYPE, &[b't'; 255]),
        text("type-with-nul", Properties::TYPE, b"a\0b"),
        text("content-type-with-lines", Properties::CONTENT_TYPE, b"text/plain\r\nx: y").either(),
        text("content-encoding-with-nul", Properties::CONTENT_ENCODING, b"a\0b").either(),
        text("long-reply-to", Properties::REPLY_TO, &[b'r'; 255]),
        text("endless", Properties::EXPIRATION, b"4294967295"),
        text("expires-00060000", Properties::EXPIRATION, b"00060000"),
        text("key-with-lines", Properties::MESSAGE_ID, b"a\r\nb").dead(&["message_id"]),
        Kind::new("no-properties", &Properties::default()).dead(&["message_id"]),
        Kind::new("more-flags", &event("more-flags").with_flags(1)).either(),
        Kind::new("spare-flag", &event("spare-flag").with_flags(2)).either(),
        Kind::new("both-flags", &event("both-flags").with_flags(3)).either(),
    ]
}

/// The broker sends a message to more queues, and leaves out a header when it does so unseen.
pub fn copies(headers: &Table) -> Vec<Kind> {
    let copied = |name: &str, header: &[u8], keys: &[u8]| {
        Kind::with_headers(name, &headers.clone().with(header, b'A', &sized(keys)))
    };
    vec![
        copied("cc", b"CC", b"S\0\0\0\x01aS\0\0\0\x01bS\0\0\0\x01cS\0\0\0\x01d"),
        copied("bcc", b"BCC", b"S\0\0\0\x01aS\0\0\0\x01bS\0\0\0\x01cS\0\0\0\x01d"),
        copied("latin-cc", b"CC", b"S\0\0\0\x01\xe9"),
        copied("cc-of-numbers", b"CC", b"I\0\0\0\0"),
    ]
}

/// What the broker does not take.
pub fn refused(headers: &Table) -> Vec<Kind> {
    let kind = |name: &str, place, bytes: &[u8]| Kind::new(name, &Properties::event(name, headers).with(place, bytes));
    let text =
        |name: &str, place, text: &[u8]| Kind::new(name, &Properties::event(name, headers).with_short(place, text));
    let mut kinds = vec![
        kind("delivery-mode-0", Properties::DELIVERY_MODE, &[0]),
        kind("delivery-mode-7", Properties::DELIVERY_MODE, &[7]),
        kind("delivery-mode-255", Properties::DELIVERY_MODE, &[255]),
        text("another-user", Properties::USER_ID, b"another"),
        text("no-user", Properties::USER_ID, b""),
        text("latin-user", Properties::USER_ID, LATIN),
        Kind::with_headers("not-a-number", &headers.clone().with(b"a", b'd', &f64::NAN.to_be_bytes())),
        Kind::with_headers("cc-as-text", &headers.clone().with_text(b"CC", b"a")),
    ];
    for (number, time) in [&b"abc"[..], b"-1", b"", b"1\xe9", b"1.5", b" 5", b"5 "].into_iter().enumerate() {
        kinds.push(text(&format!("expires-{number}"), Properties::EXPIRATION, time));
    }
    let known: Vec<_> = all_types().into_iter().map(|(letter, _)| letter).collect();
    // Types of other dialects, such as RabbitMQ does not speak.
    for letter in b"UkZ\x00\xff".iter().filter(|letter| !known.contains(letter)) {
        kinds.push(Kind::with_headers(&format!("type-{letter}"), &headers.clone().with(b"a", *letter, &[0; 8])));
    }
    let mut trailing = Kind::with_headers("trailing", headers);
    trailing.message.properties.extend_from_slice(b"more");
    let mut cut = Kind::with_headers("cut", headers);
    cut.message.properties.truncate(10);
    kinds.extend([trailing, cut]);
    kinds
}

/// Names and values of headers at their edges.
pub fn headers(headers: &Table) -> Vec<Kind> {
    let kind = |name: &str, header: &[u8], kind, value: &[u8]| {
        Kind::with_headers(name, &headers.clone().with(header, kind, value))
    };
    let text = |name: &str, header: &[u8], value: &[u8]| kind(name, header, b'S', &sized(value));
    let long = b"http-x-".iter().copied().chain(std::iter::repeat_n(b'n', 248)).collect::<Vec<_>>();
    let twice = headers.clone().with_text(b"other", b"one").with_text(b"other", b"two");
    vec![
        text("no-name", b"", b"value"),
        kind("nul-in-a-name", b"a\0b", b'V', &[]),
        kind("lines-in-a-name", b"a\r\nb", b'V', &[]),
        text("long-name", &[b'n'; 255], b"value"),
        text("long-http-name", &long, b"value"),
        text("http-without-a-name", b"http-", b"value").dead(&["http-"]),
        text("nul-in-an-http-name", b"http-a\0b", b"value").dead(&["http-a"]),
        text("lines-in-an-http-name", b"http-a\r\nb", b"value").dead(&["http-a"]),
        text("lines-in-an-http-value", b"http-x-a", b"a\r\nx-b: c").dead(&["http-x-a"]),
        text("nul-in-an-http-value", b"http-x-a", b"a\0b").dead(&["http-x-a"]),
        Kind::with_headers("a-name-twice", &twice),
        Kind::with_headers("destination-twice", &headers.clone().with_text(b"destination", b"ftp://host/")).either(),
        kind("x-death-as-a-number", b"x-death", b'I', &[0; 4]),
        kind("x-death-of-numbers", b"x-death", b'A', &sized(b"I\0\0\0\0")),
        kind("x-delivery-count-as-text", b"x-delivery-count", b'S', &sized(b"many")),
        kind("x-delivery-count", b"x-delivery-count", b'l', &i64::MAX.to_be_bytes()),
        kind("negative-x-delivery-count", b"x-delivery-count", b'l', &i64::MIN.to_be_bytes()),
        kind("reason-as-a-table", b"onceward-reason", b'F', &sized(&[])).either(),
        kind("attempts-as-void", b"onceward-attempts", b'V', &[]).either(),
        text("history-of-nonsense", b"onceward-history", b"[{").either(),
        kind("sequence-as-a-short", b"sequence", b'u', &[0, 1]),
    ]
}

/// Headers that fill their frame, with one value or with very many.
pub fn full(headers: &Table) -> Vec<Kind> {
    let mut kinds = vec![many_fields("fields", headers), many_values("values", headers)];
    for (name, missing) in [("full", 0), ("nearly-full", 300)] {
        let without = Properties::event(name, &headers.clone().with_text(b"filler", b"")).bytes().len();
        // The frame's own bytes, and before the properties the class, the weight and the body's size.
        let filler = FRAME_MAX - 8 - 12 - without - missing;
        let filled = headers.clone().with_text(b"filler", &vec![b'f'; filler]);
        kinds.push(Kind::with_headers(name, &filled).body(Vec::new()));
    }
    kinds
}

/// Twenty thousand headers that are void.
pub fn many_fields(name: &str, headers: &Table) -> Kind {
    let fields = (0..20_000).fold(headers.clone(), |headers, n| headers.with(format!("{n:04x}").as_bytes(), b'V', &[]));
    Kind::with_headers(name, &fields).either()
}

/// An array of a hundred and twenty thousand values that are void.
pub fn many_values(name: &str, headers: &Table) -> Kind {
    Kind::with_headers(name, &headers.clone().with(b"array", b'A', &sized(&vec![b'V'; 120_000]))).either()
}

/// One of each sort, for queues that are not for events.
pub fn strays(headers: &Table, name: &str) -> Vec<Kind> {
    let named = |kind: &str| format!("{kind}-for-{name}");
    let latin = named("latin");
    let types = all_types().iter().fold(headers.clone(), |headers, (kind, value)| headers.with(&[*kind], *kind, value));
    vec![
        Kind::with_headers(&named("event"), headers),
        Kind::new(&named("nothing"), &Properties::default()),
        Kind::with_headers(&named("tables"), &headers.clone().with(b"nested", b'F', &nested(&[b'F'; 18_000]))),
        Kind::with_headers(&named("arrays"), &headers.clone().with(b"nested", b'A', &nested(&[b'A'; 3_000]))),
        Kind::new(&latin, &Properties::event(&latin, headers).with_short(Properties::APP_ID, LATIN)),
        Kind::new(&named("latin-key"), &Properties::event("", headers).with_short(Properties::MESSAGE_ID, LATIN)),
        Kind::with_headers(&named("latin-name"), &headers.clone().with(LATIN, b'V', &[])),
        Kind::with_headers(&named("types"), &types),
        Kind::new(&named("flags"), &Properties::event(&named("flags"), headers).with_flags(3)),
        many_fields(&named("fields"), headers),
        many_values(&named("values"), headers),
        Kind::with_headers(&named("large"), headers).body(vec![b'x'; 5_000_000]),
    ]
}
