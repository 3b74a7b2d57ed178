//! Looks at everything that can happen in a model.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What can happen from a state on, and which states must never be.
pub trait Model {
    type State: Copy + Hash + Debug;

    fn start(&self) -> Self::State;

    /// Everything that can happen next.
    fn next(&self, state: &Self::State) -> Vec<Self::State>;

    fn is_wrong(&self, state: &Self::State) -> bool;

    /// States that differ only in what can't have any effect are one.
    fn without_what_does_not_matter(&self, state: Self::State) -> Self::State {
        state
    }
}

/// The first state that is wrong, or the number of states.
pub fn search<M: Model>(model: &M) -> Result<usize, Box<M::State>> {
    let mut seen: HashSet<u64, BuildHasherDefault<Digest>> = HashSet::default();
    let mut open = vec![model.start()];
    while let Some(state) = open.pop() {
        for next in model.next(&state) {
            if model.is_wrong(&next) {
                return Err(Box::new(next));
            }
            let next = model.without_what_does_not_matter(next);
            if seen.insert(digest(&next)) {
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

/// Stands for a state among the millions that were seen.
fn digest(state: &impl Hash) -> u64 {
    let mut digest = Digest::default();
    state.hash(&mut digest);
    // Steele, Lea and Flood's SplitMix64.
    let z = (digest.0 ^ (digest.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Quicker than the usual one, which most of the search's time would go to.
#[derive(Default)]
struct Digest(u64);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number.cast_unsigned() as u64);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
