//! Mutations: an input becomes another one that is near to it.

use fastrand::Rng;

/// No input is longer. Where length is what matters, the target makes its inputs longer itself.
const LONGEST: usize = 4_096;
/// Numbers at which code goes wrong, as text.
const NUMBERS: [&str; 16] = [
    "0",
    "-1",
    "1",
    "00",
    "127",
    "255",
    "256",
    "32768",
    "65535",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
];
/// The same as bytes, wherever they are a length.
const LENGTHS: [u32; 12] = [0, 1, 4, 16, 127, 128, 255, 256, 65_535, 65_536, 0x7FFF_FFFF, 0xFFFF_FFFF];
/// Bytes that mean something to somebody: ends, separators, beginnings of what is no UTF-8.
const BYTES: &[u8] = b"\0\x01\t\n\r\x1b \"#%&'+,-./0:;=?@AFS[\\]_`{}~\x7f\x80\xbf\xc3\xe9\xf0\xff";

/// Something like one of the inputs.
pub fn mutate(random: &mut Rng, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = pick(random, corpus).clone();
    if random.u8(..8) == 0 {
        let other = pick(random, corpus);
        splice(random, &mut input, other);
    }
    // Mostly few: what differs much is refused at once.
    for _ in 0..=random.u32(..).trailing_zeros() {
        change(random, &mut input, words);
    }
    input.truncate(LONGEST);
    input
}

fn pick<'a, T>(random: &mut Rng, all: &'a [T]) -> &'a T {
    &all[random.usize(..all.len())]
}

/// The beginning of the one, the end of the other.
fn splice(random: &mut Rng, input: &mut Vec<u8>, other: &[u8]) {
    input.truncate(random.usize(..=input.len()));
    input.extend_from_slice(&other[random.usize(..=other.len())..]);
}

fn change(random: &mut Rng, input: &mut Vec<u8>, words: &[&str]) {
    let at = random.usize(..=input.len());
    let length = random.usize(..=input.len() - at).min(1 << random.u8(..8));
    let range = at..at + length;
    match random.u8(..12) {
        0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
        1 if at < input.len() => input[at] = random.u8(..),
        2 if at < input.len() => input[at] = *pick(random, BYTES),
        3 => input.insert(at, *pick(random, BYTES)),
        4 | 5 => drop(input.drain(range)),
        6 => drop(input.splice(at..at, std::iter::repeat_with(|| random.u8(..)).take(length.min(8)))),
        7 if !words.is_empty() => drop(input.splice(at..at, pick(random, words).bytes())),
        8 if !words.is_empty() => drop(input.splice(range, pick(random, words).bytes())),
        9 => drop(input.splice(range, pick(random, &NUMBERS).bytes())),
        10 if at + 4 <= input.len() => {
            let bytes = pick(random, &LENGTHS).to_be_bytes();
            // Also as a length of one byte or two.
            let width = 1 << random.u8(..3);
            input[at..at + width].copy_from_slice(&bytes[4 - width..]);
        }
        _ => {
            let piece = input[range].to_vec();
            let times = if random.u8(..16) == 0 { 64 } else { 1 };
            if input.len() + piece.len() * times <= LONGEST {
                drop(input.splice(at..at, piece.repeat(times)));
            }
        }
    }
}
