//! Chance with a fixed seed: a run can be repeated, whatever the order in which things happen.

/// A number from 0 to 1 that is always the same for the same seed and words.
pub fn chance(seed: u64, words: &[&str]) -> f64 {
    let mut state = seed;
    for byte in words.iter().flat_map(|word| word.bytes().chain([0xff])) {
        state = mix(state ^ u64::from(byte));
    }
    // 32 bits are exact in a double.
    f64::from((mix(state) >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
}

/// A number below `bound` that is always the same for the same seed and word.
pub fn pick(seed: u64, word: &str, bound: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to below `bound`")]
    let picked = (chance(seed, &[word]) * f64::from(bound)) as u32;
    picked
}

/// Fisher and Yates' shuffle.
pub fn shuffle<T>(seed: u64, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let bound = u32::try_from(last + 1).expect("a short list");
        items.swap(last, pick(seed, &last.to_string(), bound) as usize);
    }
}

/// Steele, Lea and Flood's `SplitMix64`.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
