//! Holds nothing: its `Cargo.toml` is what it is for.
