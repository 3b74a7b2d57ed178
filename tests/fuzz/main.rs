//! Whatever reads bytes from outside is given bytes that nobody expects, and has to keep its promises: it is not enough that
//! it does not panic.
//!
//! Each target has a corpus, `corpus/TARGET/`: small files, each with a meaning. A file's name begins with what has to come of
//! it, up to `--`; so the corpus is a table of cases, too. It is run first. Then come mutations of it, as many as there is time
//! for: 2 s a target, or as long as it is told to, from a seed that is another one each time:
//!
//! ```sh
//! cargo test --locked --test fuzz                                          # as CI does
//! ONCEWARD_FUZZ_SECONDS=3600 cargo test --locked --release --test fuzz     # an hour for each target
//! ONCEWARD_FUZZ_SECONDS=3600 cargo test --locked --release --test fuzz letter    # for one of them
//! ONCEWARD_FUZZ_SEED=7 cargo test --locked --test fuzz letter              # the same inputs as before, in the same order
//! ```
//!
//! What is found is made smaller, and written to `target/tmp/fuzz/`; the failure says how to run it again. Once it is mended,
//! the file goes into the corpus, under a name that says what has to come of it.

#![allow(clippy::disallowed_methods, reason = "how long to run stands in the environment")]

mod engine;
mod mutate;
mod targets;
