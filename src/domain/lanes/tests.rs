//! Filled elsewhere.
