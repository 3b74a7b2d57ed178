//! What the library reads is passed on, and nothing else; what is ahead is bounded.

use std::sync::Arc;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame, parse_frame};
use amq_protocol::protocol::basic::{self, AMQPMethod, parse_properties};
use amq_protocol::protocol::{AMQPClass, BasicProperties};
use amq_protocol::types::{AMQPValue, FieldTable};

use super::ahead::{Ahead, Refused};
use super::properties::{look_through, readable_part};
use super::sieve::{Sieve, Stopped};
use crate::domain::poison::{Poison, Unreadable};

const BODY_LIMIT: usize = 1_024;
const CHANNEL: u16 = 3;

fn encoded(frame: &AMQPFrame) -> Vec<u8> {
    cookie_factory::gen_simple(gen_frame(frame), Vec::new()).unwrap()
}

fn deliver(tag: u64, routing_key: &str) -> Vec<u8> {
    let deliver = basic::Deliver {
        consumer_tag: "c".into(),
        delivery_tag: tag,
        redelivered: false,
        exchange: "events".into(),
        routing_key: routing_key.into(),
    };
    encoded(&AMQPFrame::Method(CHANNEL, AMQPClass::Basic(AMQPMethod::Deliver(deliver))))
}

fn header(size: u64, properties: BasicProperties) -> Vec<u8> {
    encoded(&AMQPFrame::Header(CHANNEL, AMQPContentHeader { class_id: 60, body_size: size, properties }))
}

/// A content header whose properties are these bytes.
fn raw_header(size: u64, properties: &[u8]) -> Vec<u8> {
    let payload = [&[0, 60, 0, 0][..], &size.to_be_bytes(), properties].concat();
    raw_frame(2, &payload)
}

fn raw_frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap();
    [&[kind][..], &CHANNEL.to_be_bytes(), &size.to_be_bytes(), payload, &[0xCE]].concat()
}

fn body(bytes: &[u8]) -> Vec<u8> {
    encoded(&AMQPFrame::Body(CHANNEL, bytes.to_vec()))
}

fn properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("destination".into(), AMQPValue::LongString("http://receiver/".into()));
    headers.insert("sequence".into(), AMQPValue::LongLongInt(7));
    BasicProperties::default().with_message_id("key".into()).with_headers(headers)
}

/// A message with a body in two frames.
fn message(tag: u64, bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let header = header(bytes.len() as u64, properties());
    [deliver(tag, "entity"), header, body(first), body(second)].concat()
}

/// All that comes out for what comes in, in pieces of these sizes; and why it is no more.
fn sift(sieve: &mut Sieve, ahead: &Ahead, mut input: &[u8], pieces: (usize, usize)) -> (Vec<u8>, Stopped) {
    let (mut all, mut out) = (Vec::new(), vec![0; pieces.1]);
    loop {
        let (filled, stopped) = sieve.sift(&mut out, ahead).unwrap();
        all.extend(&out[..filled]);
        if stopped == Stopped::Filled {
            continue;
        }
        if stopped == Stopped::Held || input.is_empty() {
            return (all, stopped);
        }
        let room = sieve.room();
        let taken = room.len().min(pieces.0).min(input.len());
        room[..taken].copy_from_slice(&input[..taken]);
        sieve.fill(taken);
        input = &input[taken..];
    }
}

fn frames(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("the library reads what comes out");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

#[test]
fn what_is_readable_comes_out_as_it_came_in_whatever_the_pieces() {
    let ahead = Arc::<Ahead>::default();
    let watched = ahead.watch(CHANNEL, BODY_LIMIT);
    let heartbeat = encoded(&AMQPFrame::Heartbeat);
    let bytes = [message(1, &[7; 300]), heartbeat, message(2, b""), message(3, &[9; 1_000])].concat();
    for pieces in [(1, 1), (1, 4_096), (4_096, 1), (7, 11), (100_000, 100_000)] {
        let (out, stopped) = sift(&mut Sieve::default(), &ahead, &bytes, pieces);
        assert_eq!((out == bytes, stopped), (true, Stopped::Hungry), "{pieces:?}");
    }
    for tag in 1..=3 {
        assert_eq!(watched.take(tag).1, None);
    }
}

#[test]
fn strings_that_are_not_text_are_mended_and_said() {
    let ahead = Arc::<Ahead>::default();
    let watched = ahead.watch(CHANNEL, BODY_LIMIT);
    let key = deliver(1, "entity-E").into_iter().map(|byte| if byte == b'E' { 0xE9 } else { byte }).collect();
    let app_id = raw_header(5, &[0, 8, 1, 0xE9]);
    let bytes =
        [key, header(3, properties()), body(b"abc"), deliver(2, "entity"), app_id, body(b"hello"), message(3, b"xyz")];
    let (out, _) = sift(&mut Sieve::default(), &ahead, &bytes.concat(), (50, 50));
    let frames = frames(&out);
    assert_eq!(frames.len(), 8, "two without a body, one with two parts: {frames:?}");
    assert!(matches!(&frames[0], AMQPFrame::Method(CHANNEL, AMQPClass::Basic(AMQPMethod::Deliver(deliver)))
        if deliver.routing_key.as_str() == "entity-\u{FFFD}" && deliver.delivery_tag == 1));
    assert!(matches!(&frames[1], AMQPFrame::Header(CHANNEL, header) if header.body_size == 0));
    let refused = |tag| watched.take(tag).1.map(|refused| (refused.poison, refused.apart));
    assert_eq!(refused(1), Some((Poison::Unreadable(Unreadable::NotText("its routing key")), None)));
    assert_eq!(refused(2), Some((Poison::Unreadable(Unreadable::NotText("app_id")), None)));
    assert_eq!(refused(3), None);
}

#[test]
fn what_has_an_x_death_is_not_left_to_its_queue_but_comes_without_properties() {
    let ahead = Arc::<Ahead>::default();
    let watched = ahead.watch(CHANNEL, BODY_LIMIT);
    // app_id is not UTF-8; the header `x-death` holds an array of a void.
    let properties = b"\xa0\x08\x04text\0\0\0\x0e\x07x-deathA\0\0\0\x01V\x01\xe9";
    let bytes = [deliver(1, "entity"), raw_header(3, properties), body(b"abc")].concat();
    let (out, _) = sift(&mut Sieve::default(), &ahead, &bytes, (50, 50));
    let frames = frames(&out);
    assert!(matches!(&frames[1..], [AMQPFrame::Header(_, header), AMQPFrame::Body(_, bytes)]
            if header.properties == BasicProperties::default() && bytes == b"abc"));
    let refused = watched.take(1).1.expect("it is refused");
    assert_eq!(refused.apart.as_deref(), Some(&properties[..]));
    assert_eq!(readable_part(properties), None, "app_id can't be read either");
    let deep = b"\x20\x00\0\0\0\x18\x07x-deathA\0\0\0\x01V\x05otherV\x01aV";
    assert_eq!(readable_part(deep).as_deref(), Some(&b"\x20\x00\0\0\0\x0a\x05otherV\x01aV"[..]));
}

#[test]
fn a_body_over_the_limit_never_comes_in_unless_its_letter_can_hold_it() {
    let ahead = Arc::<Ahead>::default();
    let watched = ahead.watch(CHANNEL, BODY_LIMIT);
    let (explained, cut) = (vec![1; 2 * BODY_LIMIT], vec![2; 9 * 1_024 * 1_024]);
    let bytes = [message(1, &explained), message(2, &cut), message(3, b"abc")].concat();
    let (out, _) = sift(&mut Sieve::default(), &ahead, &bytes, (65_536, 65_536));
    assert!(out.len() < 2 * BODY_LIMIT + 1_000, "{} bytes came out", out.len());
    assert_eq!(watched.take(1).1, None, "the contract refuses it, with its reason");
    let poison = Poison::BodyTooLarge { size: cut.len(), limit: BODY_LIMIT };
    assert_eq!(watched.take(2).1, Some(Refused { poison, apart: None }));
    assert_eq!(watched.take(3).1, None);
}

#[test]
fn what_is_ahead_is_bounded_and_a_message_that_has_begun_is_brought_to_its_end() {
    let ahead = Arc::<Ahead>::default();
    let watched = ahead.watch(CHANNEL, 64 * 1_024 * 1_024);
    let large = vec![1; 20 * 1_024 * 1_024];
    let mut sieve = Sieve::default();
    let two = [message(1, &large), message(2, &large)].concat();
    let (out, _) = sift(&mut sieve, &ahead, &two, (65_536, 65_536));
    assert_eq!(out.len(), two.len(), "the second began while there was room");
    assert!(ahead.is_full());
    let third = message(3, b"abc");
    let (out, stopped) = sift(&mut sieve, &ahead, &third, (65_536, 65_536));
    assert_eq!((out.len(), stopped), (0, Stopped::Held));
    sieve.heartbeat();
    let (out, _) = sift(&mut sieve, &ahead, b"", (1, 3));
    assert_eq!(out, encoded(&AMQPFrame::Heartbeat), "a sign of life");
    drop(watched.take(1));
    let (out, _) = sift(&mut sieve, &ahead, &third[..], (65_536, 65_536));
    assert_eq!(frames(&out).len(), 4);
}

#[test]
fn a_consumer_that_has_left_gives_its_shares_back_and_gets_no_more_bodies() {
    let ahead = Arc::<Ahead>::default();
    let watched = ahead.watch(CHANNEL, 64 * 1_024 * 1_024);
    let (mut sieve, large) = (Sieve::default(), vec![1; 40 * 1_024 * 1_024]);
    sift(&mut sieve, &ahead, &message(1, &large), (65_536, 65_536));
    let (share, _) = watched.take(1);
    sift(&mut sieve, &ahead, &message(2, &large), (65_536, 65_536));
    drop(watched);
    assert!(ahead.is_full(), "the one that was taken is still in memory");
    drop(share);
    assert!(!ahead.is_full());
    sieve.sift(&mut [], &ahead).unwrap();
    let (out, _) = sift(&mut sieve, &ahead, &message(3, &large), (65_536, 65_536));
    assert!(!ahead.is_full() && out.len() < 1_000, "{} bytes came out", out.len());
}

/// Properties as no client makes them, but near to those that one does.
fn odd_properties(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = if random.bool() {
        let mut written = cookie_factory::gen_simple(basic::gen_properties(&properties()), Vec::new()).unwrap();
        if random.u8(..3) == 0 {
            written.truncate(random.usize(..=written.len()));
        }
        written
    } else {
        let mut table = Vec::new();
        odd_fields(random, &mut table, true, 0);
        let length = u32::try_from(table.len()).unwrap().to_be_bytes();
        [&[0x20, 0][..], &length, &table].concat()
    };
    for _ in 0..random.u8(..3) {
        let at = random.usize(..=bytes.len());
        match random.u8(..3) {
            0 => bytes.insert(at, random.u8(..)),
            _ if at == bytes.len() => {}
            1 => bytes[at] = random.u8(..),
            _ => drop(bytes.remove(at)),
        }
    }
    bytes
}

fn odd_fields(random: &mut fastrand::Rng, out: &mut Vec<u8>, named: bool, depth: usize) {
    for _ in 0..random.usize(..5) {
        if named {
            let name: Vec<u8> = (0..random.u8(..4)).map(|_| random.u8(..if depth == 0 { 128 } else { 200 })).collect();
            out.push(u8::try_from(name.len()).unwrap());
            out.extend(name);
        }
        let kind = random.choice(*b"tbBsUuIilLfdDSATFxV?").unwrap();
        out.push(kind);
        match kind {
            b'A' | b'F' if depth < 6 => {
                let mut inner = Vec::new();
                odd_fields(random, &mut inner, kind == b'F', depth + 1);
                out.extend(u32::try_from(inner.len()).unwrap().to_be_bytes());
                out.extend(inner);
            }
            b'A' | b'F' | b'S' | b'x' => out.extend([0, 0, 0, 2, 0xE9, 0]),
            b'V' | b'?' => {}
            b't' | b'b' | b'B' => out.push(random.u8(..)),
            b's' | b'U' | b'u' => out.extend([1, 2]),
            b'I' | b'i' | b'f' => out.extend([1, 2, 3, 4]),
            b'D' => out.extend([1, 2, 3, 4, 5]),
            _ => out.extend([8; 8]),
        }
    }
}

#[test]
fn what_the_library_reads_is_passed_on_and_nothing_else_is() {
    let mut random = fastrand::Rng::with_seed(16);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..50_000 {
        let bytes = odd_properties(&mut random);
        let looked = look_through(&bytes);
        let library = parse_properties(&bytes[..]).is_ok_and(|(rest, _)| rest.is_empty());
        assert_eq!(looked.is_ok(), library, "{bytes:?}: {looked:?}");
        *if library { &mut read } else { &mut refused } += 1;
    }
    assert!(read > 5_000 && refused > 5_000, "{read} read, {refused} refused: the sample says something");
}

#[test]
fn whatever_comes_as_a_message_the_library_can_read_what_comes_out() {
    let mut random = fastrand::Rng::with_seed(17);
    let ahead = Arc::<Ahead>::default();
    let watched = ahead.watch(CHANNEL, BODY_LIMIT);
    let mut sieve = Sieve::default();
    for tag in 1..5_000 {
        let header = raw_header(3, &odd_properties(&mut random));
        let bytes = [deliver(tag, "entity"), header, body(b"abc")].concat();
        let (out, _) = sift(&mut sieve, &ahead, &bytes, (random.usize(1..200), random.usize(1..200)));
        let refused = watched.take(tag).1;
        let has_body = refused.is_none_or(|refused| refused.apart.is_some());
        assert_eq!(frames(&out).len(), if has_body { 3 } else { 2 });
    }
}

#[test]
fn tables_are_read_to_sixteen_deep_and_looked_at_however_deep_they_are() {
    for (kind, deep) in [(b'F', 20), (b'A', 20), (b'F', 18_000), (b'A', 18_000)] {
        let mut table = Vec::new();
        let name: &[u8] = if kind == b'F' { b"\x01n" } else { b"" };
        for level in 0..deep {
            let each = name.len() + 5;
            table.extend(if level == 0 { b"\x01n" } else { name });
            table.push(kind);
            table.extend(u32::try_from(each * (deep - level - 1)).unwrap().to_be_bytes());
        }
        let length = u32::try_from(table.len()).unwrap().to_be_bytes();
        let bytes = [&[0x20, 0][..], &length, &table].concat();
        assert_eq!(look_through(&bytes), Err(Unreadable::TooDeep { deepest: 16 }));
    }
}

#[test]
fn what_is_not_amqp_is_left_to_the_library() {
    let (out, _) = sift(&mut Sieve::default(), &Ahead::default(), b"AMQP\0\0\x09\x01", (3, 3));
    assert_eq!(out, b"AMQP\0\0\x09\x01");
    let close = [&[0, 20, 0, 40, 1, 0x90, 2, 0xE9, 0xE9, 0, 50, 0, 10][..]].concat();
    let (out, _) = sift(&mut Sieve::default(), &Ahead::default(), &raw_frame(1, &close), (9, 9));
    assert!(
        matches!(&frames(&out)[..], [AMQPFrame::Method(CHANNEL, AMQPClass::Channel(_))]),
        "a reason that is not text"
    );
}
